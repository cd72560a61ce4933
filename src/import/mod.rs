//! Settings of Tempo's metrics-generator and of the Collector's connectors to spanmill's.
//!
//! *In:* the text of their files. *Out:* a configuration, overrides for tenants, and for every key of the input one
//! line that says what became of it. *Owner:* `spanmill import`. *Never:* a key that is passed over in silence, a secret in
//! the output, a configuration that does not load. *Next:* a key that is new over there gets a row in `tables/`; the
//! list and the tables of `config/MIGRATION.md` both come from the rows.

mod collector;
mod document;
mod draft;
mod kafka;
mod settle;
mod specials;
mod table;
mod tables;
mod tempo;
mod tenants;
mod tree;
mod values;
mod walk;

use std::fmt::Write as _;

pub use document::document_tables;

use tree::Tree;
use walk::Importer;

/// A file of the input.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// What it holds.
    pub text: &'a str,
}

/// Whose settings are imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grafana Tempo with its metrics-generator.
    Tempo,
    /// The OpenTelemetry Collector.
    Collector,
}

/// What to import.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The configuration file.
    pub file: Input<'a>,
    /// Tempo's file with settings per tenant.
    pub overrides: Option<Input<'a>>,
    /// Whose it is; `None`: it shows.
    pub kind: Option<Kind>,
    /// Where the overrides will lie, as `overrides.file` names it.
    pub overrides_path: Option<&'a str>,
}

/// What became of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file; empty if the key stands in none and its default matters.
    pub file: String,
    /// The line, from 1; 0 for a default.
    pub line: usize,
    /// The key as it stands there.
    pub key: String,
    /// The key that it becomes; empty for none.
    pub ours: String,
    /// What became of it.
    pub fate: Fate,
    /// Why, and the remedy; may be empty if nothing changes.
    pub why: String,
}

/// What can become of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It means the same.
    Same,
    /// It means what it was meant to mean.
    Better,
    /// It means something else.
    Different,
    /// It cannot be had.
    Refused,
    /// It has nothing to say here.
    Ignored,
    /// Nobody knows it.
    Unknown,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Whose settings they were.
    pub kind: Kind,
    /// The configuration, YAML.
    pub config: String,
    /// The overrides for tenants, YAML, if there are any.
    pub overrides: Option<String>,
    /// Every key, in the order of the files; then the defaults that matter.
    pub list: Vec<Finding>,
}

/// Imports.
///
/// # Errors
/// Why the input cannot be read; one message per line of it.
pub fn import(request: &Request<'_>) -> Result<Imported, Vec<String>> {
    let file = Tree::parse(request.file)?;
    let overrides = request.overrides.map(Tree::parse).transpose()?;
    let Some(kind) = request.kind.or_else(|| recognise(&file)) else {
        let name = request.file.name;
        return Err(vec![format!(
            "{name}: is neither a configuration of Tempo (metrics_generator:) nor of the Collector (connectors:); \
             name the file itself, not a chart's values, or say which with --from"
        )]);
    };
    let mut importer = Importer::new(request.file.name);
    let tenants = match kind {
        Kind::Tempo => tempo::import(&mut importer, &file, overrides.as_ref().zip(request.overrides)),
        Kind::Collector if request.overrides.is_some() => {
            return Err(vec!["--overrides-file is Tempo's; the Collector has no settings per tenant".to_owned()]);
        }
        Kind::Collector => {
            collector::import(&mut importer, &file)?;
            Vec::new()
        }
    };
    Ok(settle::settle(importer, tenants, kind, request))
}

/// Whose file it is.
fn recognise(file: &Tree) -> Option<Kind> {
    if ["connectors", "receivers", "exporters"].iter().any(|name| file.get(name).is_some()) {
        return Some(Kind::Collector);
    }
    ["metrics_generator", "overrides", "ingest"].iter().any(|name| file.get(name).is_some()).then_some(Kind::Tempo)
}

// === impl Imported ===

impl Imported {
    /// The list, one line per key, and a line that adds it up.
    #[must_use]
    pub fn render_list(&self) -> String {
        let mut out = String::new();
        for finding in &self.list {
            writeln!(out, "{finding}").expect("a string takes everything");
        }
        let fates = [Fate::Same, Fate::Better, Fate::Different, Fate::Refused, Fate::Ignored, Fate::Unknown];
        let count = |fate: Fate| self.list.iter().filter(|finding| finding.fate == fate).count();
        let sums: Vec<String> = fates.iter().map(|fate| format!("{} {fate}", count(*fate))).collect();
        writeln!(out, "{} keys: {}", self.list.len(), sums.join(", ")).expect("a string takes everything");
        out
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 {
            write!(f, "{} (not given)", self.key)?;
        } else {
            write!(f, "{}:{}: {}", self.file, self.line, self.key)?;
        }
        if !self.ours.is_empty() {
            write!(f, " -> {}", self.ours)?;
        }
        write!(f, ": {}", self.fate)?;
        if self.why.is_empty() { Ok(()) } else { write!(f, " ({})", self.why) }
    }
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Better => "better",
            Self::Different => "different",
            Self::Refused => "refused",
            Self::Ignored => "ignored",
            Self::Unknown => "unknown",
        })
    }
}

impl std::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The text may hold secrets.
        f.debug_struct("Input").field("name", &self.name).finish_non_exhaustive()
    }
}
