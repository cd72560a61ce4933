//! A row of the tables: one key of the other product, its conversion, and why.

use super::Fate;
use super::tree::Tree;
use super::walk::Importer;

/// The conversion of a key, and why.
#[derive(Debug, Clone, Copy)]
pub(super) enum ImportResult {
    Same,
    Better(&'static str),
    Different(&'static str),
    Refused(&'static str),
    Ignored(&'static str),
}

/// Where Tempo reads a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// The configuration file only.
    Static,
    /// Overrides only.
    Tenant,
    /// Both.
    Both,
}

/// How a value is converted.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// Not at all.
    Nothing,
    /// One line of text.
    Text,
    Bool,
    /// `true` becomes `false`.
    Invert,
    Whole,
    Number,
    Duration,
    /// A duration as a number of milliseconds.
    Milliseconds,
    /// A list of numbers of seconds.
    Seconds,
    /// A number of bytes.
    Bytes,
    /// A list of durations, written as seconds.
    Bounds,
    /// A list of texts.
    Names,
    /// A list of texts, written with commas.
    Joined,
    /// A map of texts; every entry is a key of its own.
    Labels,
    /// As it stands.
    Literal,
    /// A secret: the text is replaced by the name of a file to put it into.
    Secret(&'static str),
    /// Always this value.
    Fixed(&'static str),
    /// By a function.
    By(fn(&mut Importer, &At<'_>)),
}

/// One key of the other product, or one case of it.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// The path. A segment that ends in `*` matches names that begin so; a last segment `**` all that lies below. What
    /// is in parentheses is no key but a fact about the other product.
    pub(super) path: &'static str,
    /// Empty, or the value that the row is for, or in parentheses the case that it is for.
    pub(super) when: &'static str,
    pub(super) level: Level,
    pub(super) how: How,
    /// The key that it becomes, or empty.
    pub(super) ours: &'static str,
    pub(super) verdict: ImportResult,
}

/// Rows with a common root.
pub(super) struct Table {
    /// Its name in the document.
    pub(super) name: &'static str,
    /// The prefix of the paths.
    pub(super) root: &'static str,
    pub(super) rows: &'static [Row],
}

/// A key of the input that has a row.
pub(super) struct At<'a> {
    pub(super) table: &'static Table,
    pub(super) row: &'static Row,
    pub(super) tree: &'a Tree,
    /// The key as it stands there.
    pub(super) key: &'a str,
    pub(super) line: usize,
}

/// The case of a key that is there, with nothing below it.
pub(super) const PRESENT: &str = "(empty)";

/// The case of bounds that do not ascend.
pub(super) const DESCENDING: &str = "(not ascending)";

/// The case of a key that is not given.
pub(super) const ABSENT: &str = "(not given)";

pub(super) const fn row(path: &'static str, level: Level, how: How, ours: &'static str, verdict: ImportResult) -> Row {
    Row { path, when: "", level, how, ours, verdict }
}

/// A key of the configuration file.
pub(super) const fn key(path: &'static str, how: How, ours: &'static str, verdict: ImportResult) -> Row {
    row(path, Level::Static, how, ours, verdict)
}

/// A key without an equivalent.
pub(super) const fn none(path: &'static str, verdict: ImportResult) -> Row {
    row(path, Level::Static, How::Nothing, "", verdict)
}

/// A case of a key.
pub(super) const fn case(
    path: &'static str,
    when: &'static str,
    how: How,
    ours: &'static str,
    verdict: ImportResult,
) -> Row {
    Row { path, when, level: Level::Both, how, ours, verdict }
}

/// A default of the other product that matters.
pub(super) const fn absent(path: &'static str, ours: &'static str, value: &'static str, verdict: ImportResult) -> Row {
    Row { path, when: ABSENT, level: Level::Static, how: How::Fixed(value), ours, verdict }
}

// === impl ImportResult ===

impl ImportResult {
    pub(super) fn fate(self) -> Fate {
        match self {
            Self::Same => Fate::Same,
            Self::Better(_) => Fate::Better,
            Self::Different(_) => Fate::Different,
            Self::Refused(_) => Fate::Refused,
            Self::Ignored(_) => Fate::Ignored,
        }
    }

    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Better(why) | Self::Different(why) | Self::Refused(why) | Self::Ignored(why) => why,
        }
    }
}

// === impl Table ===

impl Table {
    /// The row of a key.
    pub(super) fn row(&self, path: &str) -> Option<&'static Row> {
        self.rows.iter().find(|row| row.when.is_empty() && matches(row.path, path))
    }

    /// The row of a case of a key.
    pub(super) fn case(&self, path: &str, when: &str) -> Option<&'static Row> {
        self.rows.iter().find(|row| row.when == when && matches(row.path, path))
    }

    /// Whether keys lie below a path.
    pub(super) fn leads(&self, path: &str) -> bool {
        path.is_empty() || self.rows.iter().any(|row| begins(row.path, path))
    }
}

// === impl Row ===

impl Row {
    /// Whether Tempo reads it at this level.
    pub(super) fn reads(&self, level: Level) -> bool {
        self.level == Level::Both || self.level == level
    }
}

/// Whether a pattern fits a path.
fn matches(pattern: &str, path: &str) -> bool {
    let mut names = path.split('.');
    for part in pattern.split('.') {
        if part == "**" {
            return true;
        }
        match names.next() {
            Some(name) if fits(part, name) => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// Whether a pattern continues below a path.
fn begins(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('.');
    path.split('.').all(|name| parts.next().is_some_and(|part| fits(part, name))) && parts.next().is_some()
}

fn fits(part: &str, name: &str) -> bool {
    part.strip_suffix('*').map_or(part == name, |start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::{begins, matches};

    #[test]
    fn a_pattern_fits_the_keys_that_it_should() {
        assert!(matches("a.b", "a.b") && !matches("a.b", "a") && !matches("a.b", "a.b.c"));
        assert!(matches("a.**", "a") && matches("a.**", "a.b.c") && !matches("a.**", "ab"));
        assert!(matches("max_*", "max_traces") && !matches("max_*", "min"));
        assert!(begins("a.b.c", "a.b") && begins("a.b", "a") && !begins("a.b", "a.b") && !begins("a.b", "b"));
    }
}
