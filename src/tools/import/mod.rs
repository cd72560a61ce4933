//! Settings of Tempo's metrics-generator and of the Collector's connectors to spanmill's.
//!
//! *In:* the text of their files. *Out:* a configuration, overrides for tenants, and for every key of the input one
//! line with the result. *Owner:* `spanmill import`. *Never:* a key that is skipped silently, a secret in
//! the output, a configuration that does not load. *Next:* a new key of the other product gets a row in `tables/`; the
//! list and the tables of `config/MIGRATION.md` both come from the rows.

mod collector;
mod derived;
mod document;
mod draft;
mod filters;
mod kafka;
mod otlp;
mod ottl;
mod relabeling;
mod settle;
mod specials;
mod table;
mod tables;
mod tempo;
mod tenants;
mod tree;
mod values;
mod walk;
mod wrapped;

use std::fmt::Write as _;

pub use document::document_tables;

use crate::core::model::text::ShownAs;
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
pub enum Product {
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
    /// The product; `None`: it is detected.
    pub kind: Option<Product>,
    /// Where the overrides will lie, as `overrides.file` names it.
    pub overrides_path: Option<&'a str>,
}

/// The result for one key.
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
    /// The result.
    pub fate: Fate,
    /// Why, and the remedy; may be empty if nothing changes.
    pub why: String,
}

/// The possible results for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It means the same.
    Same,
    /// It works as intended, where the original does not.
    Better,
    /// It has another meaning.
    Different,
    /// It is not supported.
    Refused,
    /// It has no meaning here.
    Ignored,
    /// The product has no such key.
    Unknown,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Whose settings they were.
    pub kind: Product,
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
/// Why the input cannot be read; one message per line.
pub fn import(request: &Request<'_>) -> Result<Imported, Vec<String>> {
    if let Some(line) = request.file.text.lines().position(is_alloy) {
        let (name, line) = (request.file.name, line + 1);
        return Err(vec![format!(
            "{name}:{line}: this is Alloy's own syntax, which is not supported; write the connectors and their \
             exporter as YAML of the Collector, where `otelcol.connector.spanmetrics` is `connectors: \
             {{span_metrics: ...}}`, and import that"
        )]);
    }
    let wrapped::Unwrapped { tree: file, tenants: beside, names, around } =
        wrapped::unwrap(Tree::parse(request.file)?, request.file)?;
    let overrides = request.overrides.map(Tree::parse).transpose()?.or(beside);
    let Some(kind) = request.kind.or_else(|| recognize(&file)) else {
        let name = request.file.name;
        return Err(vec![format!(
            "{name}: is neither a configuration of Tempo (metrics_generator:) nor of the Collector (connectors:); \
             use such a file, or set --from"
        )]);
    };
    let mut importer = Importer::new(request.file.name);
    let known = around.len();
    importer.list = around;
    importer.names.clone_from(&names);
    let tenants = match kind {
        Product::Tempo => {
            tempo::import(&mut importer, &file, overrides.as_ref().zip(request.overrides.or(Some(request.file))))
        }
        Product::Collector if request.overrides.is_some() => {
            return Err(vec![
                "--overrides-file applies only to Tempo; the Collector has no settings per tenant".to_owned(),
            ]);
        }
        Product::Collector => {
            collector::import(&mut importer, &file)?;
            Vec::new()
        }
    };
    // Findings around the configuration have their names already.
    for finding in importer.list.iter_mut().skip(known).filter(|finding| finding.line > 0) {
        if let Some(key) = wrapped::renamed(&names, &finding.key).filter(|_| finding.file == request.file.name) {
            finding.key = key;
        }
    }
    Ok(settle::settle(importer, tenants, kind, request))
}

/// Whether a line begins a block of Alloy's configuration.
fn is_alloy(line: &str) -> bool {
    line.starts_with("otelcol.") && line.trim_end().ends_with('{')
}

/// Whose file it is.
fn recognize(file: &Tree) -> Option<Product> {
    if ["connectors", "receivers", "exporters"].iter().any(|name| file.get(name).is_some()) {
        return Some(Product::Collector);
    }
    ["metrics_generator", "overrides", "ingest"].iter().any(|name| file.get(name).is_some()).then_some(Product::Tempo)
}

// === impl Imported ===

impl Imported {
    /// The list, one line per key, first those that need a decision, and a line with the totals. It may be shown on a
    /// terminal.
    #[must_use]
    pub fn render_list(&self, colors: bool) -> String {
        let mut out = String::new();
        for fate in Fate::BY_WEIGHT {
            for finding in self.list.iter().filter(|finding| finding.fate == fate) {
                let line = ShownAs(finding);
                match fate.color().filter(|_| colors) {
                    Some(code) => writeln!(out, "\x1b[{code}m{line}\x1b[0m"),
                    None => writeln!(out, "{line}"),
                }
                .expect("a string takes everything");
            }
        }
        let count = |fate: Fate| self.list.iter().filter(|finding| finding.fate == fate).count();
        let sums: Vec<String> = Fate::BY_WEIGHT.iter().map(|fate| format!("{} {fate}", count(*fate))).collect();
        writeln!(out, "{} keys: {}", self.list.len(), sums.join(", ")).expect("a string takes everything");
        out
    }
}

// === impl Fate ===

impl Fate {
    /// The greatest changes come first.
    const BY_WEIGHT: [Self; 6] =
        [Self::Refused, Self::Different, Self::Unknown, Self::Better, Self::Ignored, Self::Same];

    /// The code of the color in which a terminal shows it.
    fn color(self) -> Option<u8> {
        match self {
            Self::Refused | Self::Unknown => Some(31),
            Self::Different => Some(33),
            Self::Better => Some(32),
            Self::Ignored => Some(2),
            Self::Same => None,
        }
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
            Self::Better => "improved",
            Self::Different => "changed",
            Self::Refused => "unsupported",
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
