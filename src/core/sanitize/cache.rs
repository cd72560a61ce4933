//! The names of spans, sanitized.

use super::Sanitizer;
use crate::core::settings::{SanitizeMode, SpanNames};

/// Names that are remembered with their patterns. A power of two.
const SLOTS: usize = 512;
/// Longer names are not remembered, which bounds the memory.
const MAX_REMEMBERED: usize = 256;

/// Sanitizes names, and remembers some. The pattern of a name never changes, so what is remembered changes no result.
#[derive(Debug)]
pub struct NameCache {
    /// `None`: names stay as they are.
    sanitizer: Option<Sanitizer>,
    /// Whether patterns replace names, or are only counted.
    replace: bool,
    /// Most names repeat. Each has one place, by its hash, and the last one stays. Empty until there
    /// is a name: a tenant may have settings and no spans.
    slots: Vec<CachedName>,
    /// For a name that is not remembered.
    other: CachedName,
}

#[derive(Debug, Default, Clone)]
struct CachedName {
    name: Vec<u8>,
    /// Of use when `changed`.
    pattern: Vec<u8>,
    changed: bool,
    taken: bool,
}

/// The name of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'a> {
    /// The name, cut to its pattern if the settings ask for that.
    pub name: &'a [u8],
    /// Whether the sanitizer changed the name, or would outside of a dry run.
    pub changed: bool,
}

// === impl NameCache ===

impl NameCache {
    /// What sanitizes names under these settings.
    ///
    /// # Panics
    /// When a rule cannot be understood. Reading a configuration refuses such a rule.
    #[must_use]
    pub fn new(settings: &SpanNames) -> Self {
        let is_on = settings.mode != SanitizeMode::Off;
        let sanitizer =
            is_on.then(|| Sanitizer::new(settings).expect("rules are checked when the configuration is read"));
        let replace = settings.mode == SanitizeMode::Enabled;
        Self { sanitizer, replace, slots: Vec::new(), other: CachedName::default() }
    }

    /// The sanitized form of a name.
    #[inline]
    pub fn of<'a>(&'a mut self, name: &'a [u8]) -> Named<'a> {
        if self.sanitizer.is_none() {
            return Named { name, changed: false };
        }
        let replace = self.replace;
        let slot = self.slot(name);
        Named { name: if replace && slot.changed { &slot.pattern } else { name }, changed: slot.changed }
    }

    fn slot(&mut self, name: &[u8]) -> &CachedName {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, CachedName::default());
        }
        let slot = if name.len() > MAX_REMEMBERED {
            self.other.taken = false;
            &mut self.other
        } else {
            &mut self.slots[xxhash_rust::xxh3::xxh3_64(name) as usize % SLOTS]
        };
        if !slot.taken || slot.name != name {
            slot.changed = self.sanitizer.as_ref().is_some_and(|sanitizer| sanitizer.apply(name, &mut slot.pattern));
            slot.name.clear();
            if name.len() <= MAX_REMEMBERED {
                slot.name.extend_from_slice(name);
            }
            slot.taken = true;
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(mode: SanitizeMode) -> SpanNames {
        SpanNames { mode, ..SpanNames::default() }
    }

    #[test]
    fn what_is_remembered_is_what_the_sanitizer_says() {
        let settings = settings(SanitizeMode::Enabled);
        let (mut names, sanitizer) = (NameCache::new(&settings), Sanitizer::new(&settings).expect("no rules"));
        let long = "x".repeat(MAX_REMEMBERED);
        let texts = (0..4 * SLOTS).map(|i| match i % 3 {
            0 => format!("GET /users/{i}"),
            1 => format!("job {}", "abc".repeat(i % 5)),
            _ => format!("{long} {i}"),
        });
        let texts: Vec<_> = texts.collect();
        let mut pattern = Vec::new();
        for text in texts.iter().chain(&texts).chain(texts.iter().flat_map(|text| [text, text])) {
            let changed = sanitizer.apply(text.as_bytes(), &mut pattern);
            let name = if changed { pattern.as_slice() } else { text.as_bytes() };
            assert_eq!(names.of(text.as_bytes()), Named { name, changed }, "{text}");
        }
    }

    #[test]
    fn a_dry_run_keeps_the_name_and_tells_that_it_would_change() {
        let mut names = NameCache::new(&settings(SanitizeMode::DryRun));
        assert_eq!(names.of(b"GET /users/17"), Named { name: b"GET /users/17", changed: true });
        assert_eq!(names.of(b"GET /users"), Named { name: b"GET /users", changed: false });
    }

    #[test]
    fn an_empty_name_is_not_taken_for_an_empty_place() {
        let mut rules = settings(SanitizeMode::Enabled);
        let rule = crate::core::settings::SpanNameRule { pattern: "^$".into(), replace: "nameless".into() };
        rules.rules = vec![rule];
        assert_eq!(NameCache::new(&rules).of(b""), Named { name: b"nameless", changed: true });
    }

    #[test]
    fn without_a_sanitizer_names_stay() {
        assert_eq!(NameCache::new(&settings(SanitizeMode::Off)).of(b"7"), Named { name: b"7", changed: false });
    }
}
