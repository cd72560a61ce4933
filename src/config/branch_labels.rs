//! Labels that spans take from other spans of their trace: the form of a valid entry.

use serde_json::{Value, json};

use super::items::{Item, Parts};
use super::problem::quoted;
use super::read::Reading;
use super::schema;
use super::syntax;
use super::value::show_text;
use super::yaml::Node;
use crate::core::settings::{BranchLabel, BranchSource};

const SOURCES: [(&str, BranchSource); 4] = [
    ("root", BranchSource::Root),
    ("entry", BranchSource::Entry),
    ("ancestor", BranchSource::Ancestor),
    ("descendant", BranchSource::Descendant),
];
/// The labels that these series have anyway.
const OWN: [&str; 6] = ["service", "span_name", "span_kind", "status_code", "is_root", "le"];

fn name(text: &str) -> Result<(), String> {
    if OWN.contains(&text) || text.starts_with("__") {
        return Err(format!("{} is a label of spanmill's own; choose another name", quoted(text)));
    }
    syntax::label_name(text)
}

fn source(text: &str) -> Result<BranchSource, String> {
    let found = SOURCES.iter().find(|(word, _)| *word == text).map(|(_, source)| *source);
    found.ok_or_else(|| format!("{} is unknown; write one of `root`, `entry`, `ancestor`, `descendant`", quoted(text)))
}

fn key(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("is empty; write the name of an attribute".to_owned()) } else { Ok(()) }
}

// === impl Item ===

impl Item for BranchLabel {
    const FORM: &'static str = "a list such as `[{name: route, from: root, key: http.route}]`";

    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self> {
        let parts = Parts::of(node, &["name", "from", "key"], at, reading)?;
        let (name, key) = (parts.text("name", reading, name), parts.text("key", reading, key));
        let from = parts.text("from", reading, |text| source(text).map(|_| ()));
        Some(Self { name: name?, from: source(&from?).ok()?, key: key? })
    }

    fn schema() -> Value {
        let sources = SOURCES.map(|(word, _)| word);
        let text = json!({ "type": "string", "minLength": 1 });
        schema::parts(&json!({ "name": text, "from": { "enum": sources }, "key": text }), &["name", "from", "key"])
    }

    fn show(&self) -> String {
        let from = SOURCES.iter().find(|(_, source)| *source == self.from).map_or("", |(word, _)| word);
        format!("{{name: {}, from: {from}, key: {}}}", show_text(&self.name), show_text(&self.key))
    }

    fn clash(&self, before: &[Self]) -> Option<String> {
        let twice = before.iter().any(|other| other.name == self.name);
        twice.then(|| format!("{} appears twice; keep one", quoted(&self.name)))
    }
}
