//! One walk over a name that replaces data.

use super::PLACEHOLDER;
use super::classes::{
    date_end, ipv6_end, is_encoded_or_mail, is_identifier, is_pod_suffix, is_short_id, is_word, mac_end, number_end,
    token_end, uuid_end, version_end,
};
use super::sql::{looks_like_sql, quoted_end};

/// Classes that count as data only where the settings ask for them.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnRequest {
    pub(super) query_strings: bool,
    pub(super) short_ids: bool,
}

/// A walk.
struct Scan<'a> {
    text: &'a [u8],
    sql: bool,
    on_request: OnRequest,
    /// Whether there is a `/` in the present word, as it will be written; and whether there was at the last placeholder.
    path: bool,
    path_before: bool,
    /// Up to here, segments hold neither percent-encoded text nor e-mail addresses.
    checked: usize,
    /// Where the last data ended in the text.
    data_end: Option<usize>,
    /// Whether that was a query string: what follows its blank is no part of it, and would be one behind its placeholder.
    query: bool,
    out: &'a mut Vec<u8>,
    /// Where the last placeholder ended in `out`.
    placeholder_end: Option<usize>,
}

/// Writes the name with data replaced; false if there can be none, and `out` is then untouched.
pub(super) fn apply(name: &[u8], on_request: OnRequest, out: &mut Vec<u8>) -> bool {
    let tells = |b: &u8| b.is_ascii_digit() || matches!(b, b'%' | b'@' | b'\'' | b'<');
    if !name.iter().any(|b| tells(b) || (*b == b'?' && on_request.query_strings)) {
        return false;
    }
    out.clear();
    let sql = looks_like_sql(name);
    let (path, path_before, checked) = (false, false, 0);
    let (data_end, query, placeholder_end) = (None, false, None);
    Scan { text: name, sql, on_request, path, path_before, checked, data_end, query, out, placeholder_end }.walk();
    true
}

// === impl Scan ===

impl Scan<'_> {
    fn walk(mut self) {
        let mut at = 0;
        while at < self.text.len() {
            let query_end = self.query_end(at);
            at = match query_end.or_else(|| self.data(at)) {
                Some(end) => {
                    self.replace();
                    self.data_end = Some(end);
                    self.query = query_end.is_some();
                    end
                }
                None => {
                    let token = token_end(self.text, at);
                    let end = version_end(self.text, at, token).max(at + 1);
                    self.keep(at, end);
                    end
                }
            };
        }
    }

    /// Writes what is no data.
    fn keep(&mut self, at: usize, end: usize) {
        let kept = &self.text[at..end];
        self.out.extend_from_slice(kept);
        if self.on_request.query_strings {
            let tells = kept.iter().rev().find(|b| **b == b'/' || b.is_ascii_whitespace());
            self.path = tells.map_or(self.path, |b| *b == b'/');
        }
    }

    /// Where the query string ends that starts at `at`, if one does.
    fn query_end(&self, at: usize) -> Option<usize> {
        if !self.path || self.before(at) != Some(b'?') {
            return None;
        }
        let rest = &self.text[at..];
        let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        (length > 0).then_some(at + length)
    }

    /// Where the data ends that starts at `at`, if some does. `at` is never within a token.
    fn data(&mut self, at: usize) -> Option<usize> {
        let text = self.text;
        if text[at..].starts_with(PLACEHOLDER.as_bytes()) {
            return Some(at + PLACEHOLDER.len());
        }
        if at >= self.checked {
            let end = segment_end(text, at);
            if is_encoded_or_mail(&text[at..end]) {
                return Some(end);
            }
            self.checked = end.max(at + 1);
        }
        let before = self.before(at);
        match text[at] {
            b'\'' if self.sql => Some(quoted_end(text, at)),
            b'+' | b'-' if before.is_none_or(opens_number) && text.get(at + 1).is_some_and(u8::is_ascii_digit) => {
                number_end(text, at + 1)
            }
            b':' => ipv6_end(text, at, before),
            b if is_word(b) => self.in_token(at, before),
            _ => None,
        }
    }

    /// As [`Scan::data`], where a token starts.
    fn in_token(&self, at: usize, before: Option<u8>) -> Option<usize> {
        let text = self.text;
        let long = uuid_end(text, at).or_else(|| mac_end(text, at)).or_else(|| date_end(text, at));
        let long = long.or_else(|| ipv6_end(text, at, before));
        let number = || if before == Some(b'$') { None } else { number_end(text, at) };
        long.or_else(number).or_else(|| {
            let end = token_end(text, at);
            let token = &text[at..end];
            let short = self.on_request.short_ids && is_short_id(token);
            (short || is_identifier(token) || (self.follows_data(at) && is_pod_suffix(token))).then_some(end)
        })
    }

    /// Whether data and a hyphen stand before `at`.
    fn follows_data(&self, at: usize) -> bool {
        self.data_end.is_some_and(|end| end + 1 == at && self.text[end] == b'-')
    }

    /// What stands before `at`: in the result, should that be a placeholder.
    fn before(&self, at: usize) -> Option<u8> {
        if self.data_end == Some(at) { Some(b'>') } else { self.text.get(at.checked_sub(1)?).copied() }
    }

    /// Writes a placeholder, unless the last one also stands for what follows.
    fn replace(&mut self) {
        match self.placeholder_end {
            Some(end) if !self.query && joins(&self.out[end..], self.sql) => {
                self.out.truncate(end);
                self.path = self.path_before;
            }
            _ => self.out.extend_from_slice(PLACEHOLDER.as_bytes()),
        }
        self.path_before = self.path;
        self.placeholder_end = Some(self.out.len());
    }
}

/// Where the stretch of letters, digits and the signs of paths and addresses that starts at `at` ends.
fn segment_end(text: &[u8], at: usize) -> usize {
    let belongs = |b: &u8| is_word(*b) || matches!(b, b'-' | b'_' | b'.' | b'@' | b'%' | b'+' | b'~');
    at + text[at..].iter().position(|b| !belongs(b)).unwrap_or(text.len() - at)
}

/// Whether a sign after this byte belongs to a number: `a-1` is no `a` and `-1`.
fn opens_number(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'/' | b'=' | b'(' | b',' | b'[' | b':')
}

/// Whether what stands between two placeholders makes them one.
fn joins(between: &[u8], sql: bool) -> bool {
    match between {
        [] | [b'-' | b'_' | b'.' | b':'] => true,
        _ => match between.trim_ascii() {
            [b','] => true,
            [b')', inner @ .., b'('] => sql && inner.trim_ascii() == b",",
            _ => false,
        },
    }
}
