//! Span names without the parts that differ in every request.
//!
//! *In:* the name of a span. *Out:* the pattern it belongs to, such as `GET /users/<_>`. *Owner:* the code that builds
//! labels; a [`Sanitizer`] never changes. *Never:* learning: a name becomes the same pattern on every worker, in any
//! order, after any restart. *Next:* [`crate::core::spanmetrics`].
//!
//! # Rules
//!
//! The configured rules are tried first. The first that matches somewhere replaces all its matches; the others are not
//! tried. Names that are no UTF-8 stay as they are.
//!
//! # Built-in classes
//!
//! Then, unless switched off, these become `<_>`. A *token* is the longest run of letters and digits.
//!
//! | class | what it is |
//! |---|---|
//! | numbers | tokens of digits, with sign, fraction and exponent or unit (`1.25s`), or `0x` and more; not after `$` |
//! | dates and times | `2024-01-31`, `10:00:00`, `2024-01-31T10:00:00.123Z`, with any offset |
//! | UUIDs | 8-4-4-4-12 hexadecimal digits |
//! | long hexadecimals | tokens of 8 and more hexadecimal digits, one of them 0 to 9 |
//! | ULIDs | tokens of 26 characters as Crockford's base32 has them |
//! | random tokens | 16 and more letters and digits that alternate as no word does ([`classes`] has the exact rule) |
//! | pods | 5 characters as Kubernetes appends them, behind data and a hyphen |
//! | addresses | IPv4 and IPv6, with port; hardware addresses |
//! | e-mail addresses, percent-encoded text | with all that stands around them up to the next `/`, blank, or other sign |
//! | SQL literals | texts in single quotes, in names that look like SQL |
//! | query strings (on request) | what follows a `?` in a word with a `/`, up to the next blank |
//! | short IDs (on request) | 5 to 15 letters and digits that alternate as no word does, such as `k3x9Qa` ([`classes`]) |
//!
//! What these leave side by side, joined by one `-`, `_`, `.` or `:` or by a comma, is one `<_>`: `IN (1, 2, 3)`
//! becomes `IN (<_>)`, and `10.0.0.1:80` becomes `<_>`. In SQL, rows `(<_>), (<_>)` are one row.
//!
//! Letters and digits in one token are a word: `v1`, `http2`, `s3`, `oauth2` and `utf8` stay, and so does `v2.0`, with
//! up to two digits behind each dot.
//!
//! # Why sanitizing is idempotent
//!
//! What is a token by itself is judged by its characters alone. What spans several tokens is judged from its first
//! character on, and ends where no letter or digit follows, or between signs that `<_>` does not contain. So nothing
//! that was kept can match later because its neighbor became `<_>`. This holds for the classes; rules may be written
//! otherwise.

mod cache;
pub mod classes;
mod rules;
mod scan;
mod sql;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use cache::{NameCache, Named};
pub use rules::SanitizeError;

use self::rules::Rules;
use self::scan::OnRequest;
use crate::core::settings::SpanNames;

/// The placeholder for everything that was removed from a name.
pub const PLACEHOLDER: &str = "<_>";

/// Turns span names into patterns.
#[derive(Debug)]
pub struct Sanitizer {
    rules: Rules,
    builtin: bool,
    on_request: OnRequest,
}

/// Names that become one pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The pattern.
    pub pattern: String,
    /// The names in alphabetical order, with their counts.
    pub names: Vec<(String, u64)>,
    /// The sum of the counts.
    pub count: u64,
}

// === impl Sanitizer ===

impl Sanitizer {
    /// Compiles the rules. The mode does not matter here: the caller applies it.
    ///
    /// # Errors
    /// For the first rule that cannot be understood.
    pub fn new(settings: &SpanNames) -> Result<Self, SanitizeError> {
        let on_request = OnRequest { query_strings: settings.query_strings, short_ids: settings.short_ids };
        Ok(Self { rules: Rules::new(&settings.rules)?, builtin: settings.builtin, on_request })
    }

    /// Writes the pattern of a name to `out` and returns true; or returns false if the name stays as it is, and `out` is
    /// then of no use. The memory of `out` is reused, and nothing else is allocated.
    ///
    /// The time is linear in the length of the name, as long as that of the rules is.
    pub fn apply(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        let Ok(text) = std::str::from_utf8(name) else { return false };
        let seen = Rules::seen(text);
        if let Some(rule) = self.rules.first_match(seen) {
            self.rules.replace(rule, seen, |replaced| {
                if !(self.builtin && scan::apply(replaced, self.on_request, out)) {
                    out.clear();
                    out.extend_from_slice(replaced);
                }
            });
            return out != name;
        }
        self.builtin && scan::apply(name, self.on_request, out) && out != name
    }

    /// What sanitizing would do to these names: every pattern that at least one of them would change to, those with the
    /// most names first.
    pub fn merges<'a>(&self, names: impl IntoIterator<Item = (&'a [u8], u64)>) -> Vec<Merge> {
        let mut groups: BTreeMap<Vec<u8>, BTreeMap<&[u8], u64>> = BTreeMap::new();
        let mut out = Vec::new();
        for (name, count) in names {
            let pattern = if self.apply(name, &mut out) { out.clone() } else { name.to_vec() };
            *groups.entry(pattern).or_default().entry(name).or_default() += count;
        }
        let changed = groups.into_iter().filter(|(pattern, names)| names.keys().any(|name| name != pattern));
        let mut merges: Vec<Merge> = changed.map(|(pattern, names)| Merge::of(&pattern, &names)).collect();
        merges.sort_by(|a, b| b.names.len().cmp(&a.names.len()).then_with(|| a.pattern.cmp(&b.pattern)));
        merges
    }
}

// === impl Merge ===

impl Merge {
    fn of(pattern: &[u8], names: &BTreeMap<&[u8], u64>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            pattern: text(pattern),
            names: names.iter().map(|(name, count)| (text(name), *count)).collect(),
            count: names.values().sum(),
        }
    }
}
