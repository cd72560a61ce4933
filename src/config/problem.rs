//! What is wrong with the settings, worded so that a user can fix it without the manual.
//!
//! *Out:* one line per problem: where, which key, what, and the remedy; then the line of the file with everything
//! masked that is not known to be harmless, because a mistyped `pasword:` is followed by a password.

use std::fmt;

use super::yaml::{Body, Node, Pos};

/// Where a value, or a problem, comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// The file, at a position.
    File(Pos),
    /// The file as a whole.
    WholeFile,
    /// An environment variable.
    Env(String),
    /// A `--set` flag.
    Flag,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    place: Location,
    /// The name of the file; empty without one.
    file: String,
    /// The key; empty if the problem is about the text as a whole.
    path: String,
    message: String,
    excerpt: Option<String>,
}

/// All problems, in the order of the file, then of the environment, then of the flags. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

/// Stretches of the file that may be shown: keys, and values of keys that are not secret.
#[derive(Debug, Default)]
pub(super) struct Shown(Vec<(Pos, Pos)>);

/// A user's text inside a message: one line, not too long, in backticks.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    format!("`{}`", short.replace("\\\"", "\"").replace("\\'", "'"))
}

// === impl Problem ===

impl Problem {
    /// Whether it is about a key whose path begins so.
    pub(super) fn is_below(&self, path: &str) -> bool {
        self.path.starts_with(path)
    }

    pub(super) fn new(place: Location, file: &str, path: &str, message: impl Into<String>) -> Self {
        // A key that was mistyped may hold anything, even a line break.
        let path = path.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self { place, file: file.to_owned(), path, message: message.into(), excerpt: None }
    }

    /// Adds the affected line of the file, as far as it may be shown.
    pub(super) fn with_excerpt(mut self, text: &str, shown: &Shown) -> Self {
        if let Location::File(at) = self.place {
            self.excerpt = shown.excerpt(text, at);
        }
        self
    }

    /// Whether the problem is about a value that the configuration sets, and not about a default.
    pub(super) fn is_given(&self) -> bool {
        self.place != Location::WholeFile
    }

    /// The affected key, such as `kafka.brokers`; empty if the problem is about the text as a whole.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The problem, and the remedy.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The line and column in the file, both from 1; `None` for the environment and flags.
    #[must_use]
    pub fn position(&self) -> Option<(usize, usize)> {
        if let Location::File(at) = self.place { Some((at.line, at.column)) } else { None }
    }
}

/// One line, without the excerpt.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Location::File(at) => write!(f, "{}:{}:{}: ", self.file, at.line, at.column)?,
            Location::WholeFile => write!(f, "{}: ", self.file)?,
            Location::Env(name) => write!(f, "environment {name}: ")?,
            Location::Flag => f.write_str("--set: ")?,
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

// === impl Problems ===

impl Problems {
    /// `None` if there are none.
    pub(super) fn from_list(mut list: Vec<Problem>) -> Option<Self> {
        list.sort_by_key(|problem| match &problem.place {
            Location::WholeFile => (0, Pos { line: 0, column: 0 }),
            Location::File(at) => (0, *at),
            Location::Env(_) => (1, Pos { line: 0, column: 0 }),
            Location::Flag => (2, Pos { line: 0, column: 0 }),
        });
        if list.is_empty() { None } else { Some(Self(list)) }
    }

    /// The problems, in order.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.0
    }
}

/// One line per problem, each followed by its excerpt if it has one.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
            if let Some(excerpt) = &problem.excerpt {
                write!(f, "\n{excerpt}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

// === impl Shown ===

impl Shown {
    pub(super) fn add(&mut self, start: Pos, end: Pos) {
        self.0.push((start, end));
    }

    /// Everything in `node`.
    pub(super) fn add_all(&mut self, node: &Node) {
        match &node.body {
            Body::Scalar(..) => self.add(node.start, node.end),
            Body::List(items) => items.iter().for_each(|item| self.add_all(item)),
            Body::Map(entries) => {
                for entry in entries {
                    self.add(entry.start, entry.end);
                    self.add_all(&entry.value);
                }
            }
            Body::Null | Body::Refused => {}
        }
    }

    /// The line at `at` with a caret below, everything that is not shown blanked; `None` if nothing would be left.
    fn excerpt(&self, text: &str, at: Pos) -> Option<String> {
        let line: Vec<char> = text.lines().nth(at.line - 1)?.chars().collect();
        let mut spans: Vec<(usize, usize)> =
            self.0.iter().filter_map(|&(start, end)| columns(start, end, at.line, line.len())).collect();
        spans.sort_unstable();
        let mut out = String::new();
        let (mut done, mut caret) = (0, None);
        for (start, end) in spans {
            if start < done {
                continue;
            }
            gap(line.get(done..start)?, true, &mut out);
            if (start..end).contains(&(at.column - 1)) {
                caret = Some(out.chars().count() + at.column - 1 - start);
            }
            out.extend(line.get(start..end)?.iter().map(|c| if c.is_control() { ' ' } else { *c }));
            done = end;
        }
        if out.is_empty() {
            return None;
        }
        // A blanked value is marked where its blank begins.
        let caret = caret.unwrap_or_else(|| out.trim_end().chars().count() + 2);
        gap(line.get(done..)?, false, &mut out);
        Some(format!("    {}\n    {}^", out.trim_end(), " ".repeat(caret)))
    }
}

/// The columns, from 0, that `start..end` covers of a line with `length` characters.
fn columns(start: Pos, end: Pos, line: usize, length: usize) -> Option<(usize, usize)> {
    if start.line > line || end.line < line {
        return None;
    }
    let from = if start.line == line { start.column - 1 } else { 0 };
    let to = if end.line == line { end.column - 1 } else { length };
    (from < to && to <= length).then_some((from, to))
}

/// What stands between two shown stretches: punctuation stays, a comment goes, anything else is blanked.
fn gap(chars: &[char], more: bool, out: &mut String) {
    let punctuation = |c: &char| c.is_whitespace() || ":,[]{}-?".contains(*c);
    let kept = chars.iter().take_while(|c| punctuation(c) && **c != '-').count();
    let (lead, rest) = chars.split_at(kept);
    out.extend(lead.iter().map(|c| if c.is_whitespace() { ' ' } else { *c }));
    match rest.first() {
        None | Some('#') => {}
        Some(_) if rest.iter().all(punctuation) => out.extend(rest),
        Some(_) => out.push_str(if more { "***, " } else { "***" }),
    }
}
