//! The walk over an input tree along a table.

use std::collections::BTreeSet;

use super::draft::{Draft, YamlValue as Ours};
use super::table::{ABSENT, At, DESCENDING, How, Level, PRESENT, Row, Table};
use super::tree::{Tree, TreeValue as Theirs};
use super::values::{convert, descent};
use super::wrapped::renamed;
use super::{Fate, Finding};
use crate::config::show_text;

/// The state while an input is read.
pub(super) struct Importer {
    /// The configuration file.
    main: String,
    /// The file that is read.
    pub(super) file: String,
    /// Where in Tempo's settings.
    pub(super) level: Level,
    /// The keys so far.
    pub(super) draft: Draft,
    pub(super) list: Vec<Finding>,
    /// Keys that were met: the name of the table and the path.
    pub(super) seen: BTreeSet<(&'static str, String)>,
    /// Facts about the whole file that single keys need.
    pub(super) facts: BTreeSet<Fact>,
    /// Which receiver of a list is read.
    pub(super) receiver: usize,
    /// The names of keys in the file, where these differ.
    pub(super) names: Vec<(String, String)>,
}

/// Something that a key alone does not determine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fact {
    /// The span metrics of the Collector are delta.
    Delta,
    /// The histogram of spans is asked to be explicit and exponential.
    TwoFormsOfSpans,
    /// Those of edges are.
    TwoFormsOfEdges,
    /// The two connectors have histograms of different forms.
    MixedForms,
    /// The filter that is read stands before span metrics.
    FilteredSpans,
    /// The filter that is read stands before service graphs.
    FilteredEdges,
}

// === impl Importer ===

impl Importer {
    pub(super) fn new(file: &str) -> Self {
        Self {
            main: file.to_owned(),
            file: file.to_owned(),
            level: Level::Static,
            draft: Draft::default(),
            list: Vec::new(),
            seen: BTreeSet::new(),
            facts: BTreeSet::new(),
            receiver: 0,
            names: Vec::new(),
        }
    }

    /// Reads what lies at `path` of a table; `key` is its name in the file.
    pub(super) fn walk(&mut self, table: &'static Table, path: &str, key: &str, line: usize, tree: &Tree) {
        if let Some(row) = table.row(path) {
            self.seen.insert((table.name, path.to_owned()));
            let at = At { table, row, tree, key, line };
            self.apply(&at, path);
        } else if !table.leads(path) {
            self.find(key, line, "", Fate::Unknown, "unknown key; check its spelling");
        } else if let Some(row) = table.case(path, PRESENT).filter(|_| tree.is_empty()) {
            // The presence of some keys has a meaning.
            self.seen.insert((table.name, path.to_owned()));
            self.carry(&At { table, row, tree, key, line });
        } else if tree.entries().is_empty() {
            self.hollow(key, line, tree);
        } else {
            self.children(table, path, key, tree);
        }
    }

    /// Records a key that should have others below it.
    pub(super) fn hollow(&mut self, key: &str, line: usize, tree: &Tree) {
        let fate = if tree.is_empty() { Fate::Ignored } else { Fate::Unknown };
        self.find(key, line, "", fate, if tree.is_empty() { "it is empty" } else { "keys belong below it" });
    }

    /// Reads what lies below `path` of a table.
    pub(super) fn children(&mut self, table: &'static Table, path: &str, key: &str, tree: &Tree) {
        if tree.entries().is_empty() {
            self.hollow(key, tree.line, tree);
        }
        for entry in tree.entries() {
            let join = |at: &str| if at.is_empty() { entry.name.clone() } else { format!("{at}.{}", entry.name) };
            self.walk(table, &join(path), &join(key), entry.line, &entry.tree);
        }
    }

    fn apply(&mut self, at: &At<'_>, path: &str) {
        let case = at.tree.text().and_then(|text| at.table.case(path, text));
        let row = case.unwrap_or(at.row);
        if !at.row.reads(self.level) {
            self.find(at.key, at.line, "", Fate::Ignored, "Tempo ignores it here");
            return;
        }
        if self.keeps(at, row) {
            self.find(at.key, at.line, row.ours, Fate::Ignored, "empty, which keeps what is there");
            return;
        }
        let known = self.without_variables(at, row);
        let at =
            &At { table: at.table, row: at.row, tree: known.as_ref().unwrap_or(at.tree), key: at.key, line: at.line };
        // Values with parts are read part by part.
        let parts = in_parts(row) || matches!(row.how, How::By(_)) && at.tree.list().is_none();
        let whole = at.tree.text().is_some() || !parts;
        let note = at.tree.variable().filter(|_| whole && !matches!(row.how, How::Nothing));
        if let Some(variable) = note.map(ToOwned::to_owned) {
            self.variable(at, row, &variable);
        } else {
            self.carry(&At { table: at.table, row, tree: at.tree, key: at.key, line: at.line });
        }
    }

    /// The list without those of its entries that hold variables, if there are such and others.
    fn without_variables(&mut self, at: &At<'_>, row: &Row) -> Option<Tree> {
        let items = at.tree.list().filter(|_| !in_parts(row) && !matches!(row.how, How::Nothing))?;
        let unknown = items.iter().filter(|item| item.variable().is_some()).count();
        if unknown == 0 || unknown == items.len() {
            return None;
        }
        let why = "a variable of the environment: add its value to the list";
        for (i, item) in items.iter().enumerate().filter(|(_, item)| item.variable().is_some()) {
            self.find(&format!("{}[{i}]", at.key), item.line, row.ours, Fate::Refused, why);
        }
        let known = items.iter().filter(|item| item.variable().is_none()).cloned().collect();
        Some(Tree { line: at.tree.line, value: Theirs::List(known) })
    }

    /// Whether a value has no effect: an empty one, and in an override of Tempo's also `""` and 0. An empty list means
    /// that there are none.
    fn keeps(&self, at: &At<'_>, row: &Row) -> bool {
        if matches!(row.how, How::Nothing) {
            return false;
        }
        match &at.tree.value {
            Theirs::Empty => true,
            Theirs::Text(text, _) if self.level == Level::Tenant && !row.ours.starts_with("limits.") => {
                matches!(text.as_str(), "" | "0" | "0s")
            }
            _ => false,
        }
    }

    fn carry(&mut self, at: &At<'_>) {
        match at.row.how {
            How::By(by) => {
                let before = self.list.len();
                by(self, at);
                if self.list.len() == before {
                    self.find(at.key, at.line, at.row.ours, Fate::Refused, "cannot be read; write it manually");
                }
            }
            How::Nothing => self.said(at),
            How::Fixed(value) => {
                self.said(at);
                self.set(at.row.ours, Ours::Flow(fixed(value)), at);
            }
            How::Secret(file) => {
                self.said(at);
                self.secret(at.row.ours, file, at);
            }
            How::Labels if at.tree.entries().is_empty() => {
                self.find(at.key, at.line, at.row.ours, Fate::Ignored, "no names and values below it");
            }
            How::Labels => {
                self.said(at);
                for entry in at.tree.entries() {
                    let path = format!("{}.{}", at.row.ours, entry.name);
                    let text = entry.tree.text().unwrap_or_default();
                    self.set(&path, Ours::Flow(show_text(text)), at);
                }
            }
            how => match convert(how, at.tree) {
                Ok(value) => {
                    self.said(at);
                    self.set(at.row.ours, value, at);
                    let descent = descent(at.tree).filter(|_| matches!(how, How::Bounds));
                    if let (Some(_), Some((i, text))) = (at.table.case(at.row.path, DESCENDING), descent) {
                        self.case(at.table, at.row.path, DESCENDING, &format!("{}[{i}] {text}", at.key), at.line);
                    }
                }
                Err(why) => {
                    self.find(at.key, at.line, at.row.ours, Fate::Refused, &format!("{why}; write it manually"));
                }
            },
        }
    }

    /// A value that is known only in the environment of the other product.
    fn variable(&mut self, at: &At<'_>, row: &Row, variable: &str) {
        if let How::Secret(file) = row.how {
            let place = self.file_of_secret(file);
            self.find(at.key, at.line, row.ours, Fate::Refused, &format!("a variable: put its value into {place}"));
            self.secret(row.ours, file, at);
            return;
        }
        let why = "a variable of the environment: write its value, or give it to spanmill as SPANMILL_ and the path";
        self.find(at.key, at.line, row.ours, Fate::Refused, why);
        let path = row.ours.split([',', ';', ':']).next().unwrap_or_default();
        // A secret may stand around the variable, or in it as a default.
        let name = variable.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).unwrap_or(".");
        let name = name.strip_prefix("env:").unwrap_or(name);
        let only = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if path.contains('.') && matches!(row.how, How::Text | How::Joined | How::Whole | How::Duration | How::By(_)) {
            let shown = if only { variable } else { "a variable" };
            let finding = self.last();
            let from = self.from(at.key, at.line);
            self.draft.put(path, Ours::Note(shown.to_owned()), &from, finding);
        }
    }

    /// Names a file for a secret to be put into.
    pub(super) fn secret(&mut self, ours: &str, file: &str, at: &At<'_>) {
        let from = format!("put the value of {} into this file", self.from(at.key, at.line));
        let file = self.file_of_secret(file);
        let value = if super::draft::entry_of(ours).is_some() { format!("{{file: {file}}}") } else { file };
        let finding = self.last();
        self.draft.put(ours, Ours::Flow(value), &from, finding);
    }

    /// Receivers of a list have files of their own.
    fn file_of_secret(&self, file: &str) -> String {
        match self.receiver {
            0 => file.to_owned(),
            index => format!("{file}-{}", index + 1),
        }
    }

    /// Sets a key of spanmill from the present key.
    pub(super) fn set(&mut self, ours: &str, value: Ours, at: &At<'_>) {
        let from = self.from(at.key, at.line);
        let finding = self.last();
        self.draft.put(ours, value, &from, finding);
    }

    /// Sets a key of spanmill that is not set yet.
    pub(super) fn set_if_free(&mut self, ours: &str, value: &str, at: &At<'_>) {
        if self.draft.get(ours).is_none() {
            self.set(ours, Ours::Flow(value.to_owned()), at);
        }
    }

    /// Records the result of the row.
    pub(super) fn said(&mut self, at: &At<'_>) {
        self.find(at.key, at.line, at.row.ours, at.row.verdict.fate(), at.row.verdict.why());
    }

    /// Records the result of the row of a case.
    pub(super) fn said_case(&mut self, at: &At<'_>, when: &str) {
        self.case(at.table, at.row.path, when, at.key, at.line);
    }

    /// Records the result of the row of a case for a key.
    pub(super) fn case(&mut self, table: &'static Table, path: &str, when: &str, key: &str, line: usize) {
        let row = table.rows.iter().find(|row| row.path == path && row.when == when).expect("the case has a row");
        self.find(key, line, row.ours, row.verdict.fate(), row.verdict.why());
    }

    /// Records the result for a key.
    pub(super) fn find(&mut self, key: &str, line: usize, ours: &str, fate: Fate, why: &str) {
        let (key, ours, why) = (key.to_owned(), ours.to_owned(), why.to_owned());
        self.list.push(Finding { file: self.file.clone(), line, key, ours, fate, why });
    }

    /// Applies the defaults of a table that matter, where no key is set.
    pub(super) fn defaults(&mut self, table: &'static Table) {
        for row in table.rows.iter().filter(|row| row.when == ABSENT) {
            let given = self.seen.iter().any(|(name, path)| *name == table.name && path == row.path);
            let How::Fixed(value) = row.how else {
                if !given {
                    self.absent(table, row, "");
                }
                continue;
            };
            if !given && (row.ours.is_empty() || self.draft.get(row.ours).is_none()) {
                self.absent(table, row, value);
            }
        }
    }

    fn absent(&mut self, table: &'static Table, row: &'static Row, value: &str) {
        let fact = row.path.strip_prefix('(').and_then(|path| path.strip_suffix(')'));
        let key = fact.map_or_else(|| format!("{}.{}", table.root, row.path), |fact| format!("{}: {fact}", table.root));
        self.find(&key, 0, row.ours, row.verdict.fate(), row.verdict.why());
        if !row.ours.is_empty() {
            let finding = self.last();
            self.draft.put(row.ours, Ours::Flow(fixed(value)), &format!("{key}: their default"), finding);
        }
    }

    /// The finding that was recorded last.
    pub(super) fn last(&self) -> Option<usize> {
        self.list.len().checked_sub(1)
    }

    fn from(&self, key: &str, line: usize) -> String {
        let place = if self.file == self.main { "line ".to_owned() } else { format!("{}:", self.file) };
        let key = renamed(&self.names, key).unwrap_or_else(|| key.to_owned());
        format!("{key} ({place}{line})").replace(char::is_control, " ")
    }
}

/// Whether the entries of a list look for variables themselves.
fn in_parts(row: &Row) -> bool {
    ["storage.remote_write", "write_relabel_configs"].contains(&row.path)
}

fn fixed(value: &str) -> String {
    if value.is_empty() { "\"\"".to_owned() } else { value.to_owned() }
}
