//! The configured rules.

use std::sync::{Mutex, PoisonError};

use regex::{CaptureLocations, Regex};

use crate::core::settings::SpanNameRule;

/// A regular expression finds a match in time that is proportional to the text, but all matches of some expressions
/// take quadratic time: each search reads all the rest. So the number of replaced matches is limited, and so is the
/// text: a name of a megabyte takes time in proportion to its length. No label is longer than that.
const MAX_MATCHES: usize = 1_000;
const MAX_TEXT: usize = 64 << 10;

/// An invalid rule for span names: its number, the problem and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}: {problem}")]
pub struct SanitizeError {
    /// The number of the rule, from 1.
    pub rule: usize,
    /// The problem, and the remedy.
    pub problem: String,
}

/// Compiled rules.
#[derive(Debug)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    /// Locked only while a rule replaces; it has one owner, so no thread waits.
    scratch: Mutex<Scratch>,
}

#[derive(Debug)]
struct Rule {
    pattern: Regex,
    template: Vec<Piece>,
}

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

/// Reused memory.
#[derive(Debug)]
struct Scratch {
    /// For each rule.
    locations: Vec<CaptureLocations>,
    replaced: Vec<u8>,
}

// === impl Rules ===

impl Rules {
    pub(super) fn new(rules: &[SpanNameRule]) -> Result<Self, SanitizeError> {
        let compile = |(at, rule)| Rule::new(rule).map_err(|problem| SanitizeError { rule: at + 1, problem });
        let rules = rules.iter().enumerate().map(compile).collect::<Result<Vec<_>, _>>()?;
        let locations = rules.iter().map(|rule| rule.pattern.capture_locations()).collect();
        Ok(Self { rules, scratch: Mutex::new(Scratch { locations, replaced: Vec::new() }) })
    }

    /// As much of a name as rules look at.
    pub(super) fn seen(text: &str) -> &str {
        text.split_at_checked(text.floor_char_boundary(MAX_TEXT)).map_or(text, |(head, _)| head)
    }

    /// The first rule that matches.
    pub(super) fn first_match(&self, text: &str) -> Option<usize> {
        self.rules.iter().position(|rule| rule.pattern.is_match(text))
    }

    /// Passes the text after rule `at` to `then`.
    pub(super) fn replace(&self, at: usize, text: &str, then: impl FnOnce(&[u8])) {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let Scratch { locations, replaced } = &mut *scratch;
        replaced.clear();
        self.rules[at].replace(text, &mut locations[at], replaced);
        then(replaced);
    }
}

// === impl Rule ===

impl Rule {
    fn new(rule: &SpanNameRule) -> Result<Self, String> {
        let SpanNameRule { pattern, replace } = rule;
        let pattern = Regex::new(pattern)
            .map_err(|e| format!("the match `{pattern}` is not a valid regular expression; correct it: {e}"))?;
        let template = template(replace, &pattern)?;
        Ok(Self { pattern, template })
    }

    fn replace(&self, text: &str, locations: &mut CaptureLocations, out: &mut Vec<u8>) {
        let (mut copied, mut at, mut last, mut matches) = (0, 0, None, 0);
        while at <= text.len()
            && matches < MAX_MATCHES
            && let Some(found) = self.pattern.captures_read_at(locations, text, at)
        {
            matches += 1;
            let (start, end) = (found.start(), found.end());
            at = if start == end { next_char(text, end) } else { end };
            if start == end && last == Some(end) {
                // An empty match right behind another is none.
                continue;
            }
            out.extend_from_slice(&text.as_bytes()[copied..start]);
            self.expand(text, locations, out);
            (copied, last) = (end, Some(end));
        }
        out.extend_from_slice(&text.as_bytes()[copied..]);
    }

    fn expand(&self, text: &str, locations: &CaptureLocations, out: &mut Vec<u8>) {
        for piece in &self.template {
            match piece {
                Piece::Text(piece) => out.extend_from_slice(piece.as_bytes()),
                Piece::Group(group) => {
                    let (start, end) = locations.get(*group).unwrap_or_default();
                    out.extend_from_slice(&text.as_bytes()[start..end]);
                }
            }
        }
    }
}

/// Where the character at `at` ends.
fn next_char(text: &str, at: usize) -> usize {
    at + text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
}

/// Reads a template: `$1`, `$name`, `${name}`, and `$$` for a dollar.
fn template(text: &str, pattern: &Regex) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        pieces.push(Piece::Text(before.to_owned()));
        if let Some(after) = after.strip_prefix('$') {
            pieces.push(Piece::Text("$".to_owned()));
            rest = after;
            continue;
        }
        let (name, after) = match after.strip_prefix('{') {
            Some(inside) => inside.split_once('}').ok_or("a `${` is not closed; add `}`")?,
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(end)
            }
        };
        pieces.push(Piece::Group(group(name, pattern)?));
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces.retain(|piece| *piece != Piece::Text(String::new()));
    Ok(pieces)
}

/// The number of a group by its number or name.
fn group(name: &str, pattern: &Regex) -> Result<usize, String> {
    if name.is_empty() {
        return Err("`$` is followed by no group; write `$$` for a dollar".to_owned());
    }
    let by_number = name.parse().ok().filter(|n| *n < pattern.captures_len());
    by_number.or_else(|| pattern.capture_names().position(|n| n == Some(name))).ok_or_else(|| {
        format!("the match has no group `{name}`; name it there, or write `${{1}}` where letters or digits follow `$1`")
    })
}
