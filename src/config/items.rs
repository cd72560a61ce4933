//! Lists of items with fields: dimensions, mappings, bucket sets, span-name rules. Every field is read, checked and
//! named on its own, as in `span_metrics.dimension_mappings[1].join`.

use regex::Regex;
use serde_json::{Value, json};

use super::policies::one_of;
use super::problem::quoted;
use super::read::{Message, Reading, buckets, items, line, list, text_of};
use super::schema;
use super::suggest::nearest;
use super::value::{show_bounds, show_list, show_text, show_texts, whole};
use super::yaml::{Body, MapEntry, Node, Pos};
use crate::core::model::span::KINDS;
use crate::core::settings::{BucketSet, Dimension, DimensionMapping, SpanNameRule};

/// gRPC status codes that can mean a failure.
const GRPC_CODES: std::ops::RangeInclusive<i64> = 1..=16;

/// The value of a key that is a list of items with fields.
pub(super) trait Items {
    /// Takes the value of `node`, unless it is invalid.
    fn read(&mut self, node: &Node, reading: &mut Reading) -> bool;
    /// The value as it would stand in the file, on one line.
    fn show(&self) -> String;
    /// Its form, for messages.
    fn form(&self) -> &'static str;
    /// Whether it can also be written `a,b`.
    fn plain(&self) -> bool;
    /// The JSON Schema of one of them.
    fn schema(&self) -> Value;
}

/// One of them.
pub(super) trait Item: Sized {
    /// The form of a list of them, for messages.
    const FORM: &'static str;
    /// Whether one can be a plain word.
    const PLAIN: bool = false;
    /// Reads one; problems are recorded under `at`.
    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self>;
    /// One as it would stand in the file.
    fn show(&self) -> String;
    /// The JSON Schema of one.
    fn schema() -> Value;
    /// Why this one cannot follow those before it.
    fn clash(&self, _before: &[Self]) -> Option<String> {
        None
    }
}

/// The entries of a map with known names.
pub(super) struct Parts<'n, 'r> {
    node: &'n Node,
    entries: &'n [MapEntry],
    at: &'r str,
}

// === impl Items ===

impl<T: Item> Items for Vec<T> {
    fn read(&mut self, node: &Node, reading: &mut Reading) -> bool {
        let Some(nodes) = items(node, "", T::FORM, reading) else { return false };
        let mut read = Self::new();
        for (i, node) in nodes.iter().enumerate() {
            let at = format!("[{i}]");
            let Some(item) = T::read(node, &at, reading) else { continue };
            if let Some(message) = item.clash(&read) {
                reading.wrong(at, node.start, Some(message));
                continue;
            }
            reading.found(at, node.start);
            read.push(item);
        }
        let good = reading.wrong.is_empty();
        if good {
            *self = read;
        }
        good
    }

    fn show(&self) -> String {
        show_list(self.iter().map(Item::show))
    }

    fn form(&self) -> &'static str {
        T::FORM
    }

    fn plain(&self) -> bool {
        T::PLAIN
    }

    fn schema(&self) -> Value {
        T::schema()
    }
}

// === impl Parts ===

impl<'n, 'r> Parts<'n, 'r> {
    /// The parts of `node`, if it is a map that holds nothing but `names`, each once.
    pub(super) fn of(node: &'n Node, names: &[&str], at: &'r str, reading: &mut Reading) -> Option<Self> {
        let entries = match &node.body {
            Body::Map(entries) => entries,
            Body::Refused => {
                reading.wrong(at.to_owned(), node.start, None);
                return None;
            }
            _ => {
                let message = format!("must be a map of {}", names.join(", "));
                reading.wrong(at.to_owned(), node.start, Some(message));
                return None;
            }
        };
        let before = reading.wrong.len();
        for (i, entry) in entries.iter().enumerate() {
            let twice = entries.iter().take(i).any(|other| other.name == entry.name);
            let message = if twice {
                "appears twice; keep one".to_owned()
            } else if names.contains(&entry.name.as_str()) {
                continue;
            } else if let Some(near) = nearest(&entry.name, names.iter().copied()) {
                format!("unknown key; did you mean `{near}`?")
            } else {
                format!("unknown key; the keys here are {}", names.join(", "))
            };
            reading.wrong(format!("{at}.{}", entry.name), entry.start, Some(message));
        }
        (reading.wrong.len() == before).then_some(Self { node, entries, at })
    }

    /// A part that may be missing.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| &entry.value)
    }

    /// A part that must be there.
    pub(super) fn need(&self, name: &str, reading: &mut Reading) -> Option<&'n Node> {
        let found = self.get(name);
        if found.is_none() {
            let message = format!("needs `{name}`");
            reading.wrong(self.at.to_owned(), self.node.start, Some(message));
        }
        found
    }

    /// Where a part begins, or the map if there is no such part.
    pub(super) fn start(&self, name: &str) -> Pos {
        self.get(name).map_or(self.node.start, |node| node.start)
    }

    /// Where a part stands.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.at)
    }

    /// A text that must be there and that `check` accepts.
    pub(super) fn text(
        &self,
        name: &str,
        reading: &mut Reading,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<String> {
        let node = self.need(name, reading)?;
        checked(node, &self.path(name), reading, check)
    }

    /// A text that may be missing.
    fn text_if_any(&self, name: &str, reading: &mut Reading) -> Option<Option<String>> {
        self.text_if(name, reading, |_| Ok(()))
    }

    /// A text that may be missing and that `check` accepts.
    pub(super) fn text_if(
        &self,
        name: &str,
        reading: &mut Reading,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<Option<String>> {
        match self.get(name) {
            Some(node) => checked(node, &self.path(name), reading, check).map(Some),
            None => Some(None),
        }
    }

    /// A list of texts that may be missing.
    pub(super) fn list(&self, name: &str, reading: &mut Reading) -> Option<Vec<String>> {
        self.get(name).map_or(Some(Vec::new()), |node| list(node, &self.path(name), reading))
    }
}

/// One line of text that `check` accepts.
fn checked(node: &Node, at: &str, reading: &mut Reading, check: impl Fn(&str) -> Result<(), String>) -> Option<String> {
    match line(node).and_then(|text| check(&text).map(|()| text).map_err(Some)) {
        Ok(text) => Some(text),
        Err(message) => {
            reading.wrong(at.to_owned(), node.start, message);
            None
        }
    }
}

fn not_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("is empty; write the name of an attribute".to_owned()) } else { Ok(()) }
}

/// A regular expression.
fn regex(pattern: &str) -> Result<(), String> {
    Regex::new(pattern).map(|_| ()).map_err(|error| no_regex(pattern, &error))
}

/// Why a pattern is not a regular expression.
pub(super) fn no_regex(pattern: &str, error: &regex::Error) -> String {
    // The last line holds the problem; those before it show the pattern.
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default();
    format!("{} is not a valid regular expression: {}", quoted(pattern), reason.trim_start_matches("error: "))
}

/// What is wrong with the groups that a template names.
fn template(pattern: &str, replace: &str) -> Result<(), String> {
    let Ok(regex) = Regex::new(pattern) else { return Ok(()) };
    let names: Vec<&str> = regex.capture_names().flatten().collect();
    let mut rest = replace;
    while let Some((_, after)) = rest.split_once('$') {
        if let Some(tail) = after.strip_prefix('$') {
            rest = tail;
            continue;
        }
        let (name, tail) = match after.strip_prefix('{') {
            Some(braced) => {
                braced.split_once('}').ok_or("`${` is not closed; add `}`, or write `$$` for a dollar sign")?
            }
            None => {
                let other = |c: char| !c.is_ascii_alphanumeric() && c != '_';
                after.split_at(after.find(other).unwrap_or(after.len()))
            }
        };
        let known = name.parse::<usize>().map_or_else(|_| names.contains(&name), |n| n < regex.captures_len());
        if !known {
            return Err(format!("{} {}", quoted(&format!("${name}")), no_group(name)));
        }
        rest = tail;
    }
    Ok(())
}

/// The remedy for a name that is not a group.
fn no_group(name: &str) -> String {
    let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
    if digits.is_empty() || digits.len() == name.len() {
        return "is not a group of the pattern; name one, or write `$$` for a dollar sign".to_owned();
    }
    format!("is not a group of the pattern; write `${{{digits}}}` where letters, digits or `_` follow a number")
}

// === impl Item ===

impl Item for Dimension {
    const FORM: &'static str = "a list such as `[name, [new, old], {name: other, default: text}]`";
    const PLAIN: bool = true;

    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self> {
        match node.body {
            Body::List(_) => {
                let mut names = list(node, at, reading)?.into_iter();
                let Some(name) = names.next() else {
                    reading.wrong(at.to_owned(), node.start, Some("is empty; name an attribute".to_owned()));
                    return None;
                };
                return Some(Self { name, or: names.collect(), default: None });
            }
            Body::Map(_) => {}
            _ => {
                let name = checked(node, at, reading, not_empty)?;
                return Some(Self { name, or: Vec::new(), default: None });
            }
        }
        let parts = Parts::of(node, &["name", "or", "default"], at, reading)?;
        let (name, default) = (parts.text("name", reading, not_empty), parts.text_if_any("default", reading));
        let or = parts.list("or", reading);
        Some(Self { name: name?, or: or?, default: default? })
    }

    fn schema() -> Value {
        let map = json!({ "name": schema::text(), "or": schema::texts(), "default": schema::text() });
        let list = json!({ "type": "array", "minItems": 1, "items": schema::text(), "uniqueItems": true });
        json!({ "anyOf": [schema::text(), list, schema::parts(&map, &["name"])] })
    }

    fn show(&self) -> String {
        let (name, or) = (show_text(&self.name), show_texts(&self.or));
        match &self.default {
            None if self.or.is_empty() => name,
            None => show_list([name].into_iter().chain(self.or.iter().map(|other| show_text(other)))),
            Some(text) if self.or.is_empty() => format!("{{name: {name}, default: {}}}", show_text(text)),
            Some(text) => format!("{{name: {name}, or: {or}, default: {}}}", show_text(text)),
        }
    }

    fn clash(&self, before: &[Self]) -> Option<String> {
        let twice = before.iter().any(|other| other.name == self.name);
        twice.then(|| format!("{} appears twice; keep one", quoted(&self.name)))
    }
}

impl Item for DimensionMapping {
    const FORM: &'static str = "a list such as `[{name: label, source_labels: [a, b], join: /}]`";

    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self> {
        let parts = Parts::of(node, &["name", "source_labels", "join"], at, reading)?;
        let name = parts.text("name", reading, |text| {
            if text.is_empty() { Err("is empty; write the name of a label".to_owned()) } else { Ok(()) }
        });
        let sources = parts.need("source_labels", reading).and_then(|node| {
            let path = parts.path("source_labels");
            let sources = list(node, &path, reading)?;
            if sources.is_empty() {
                reading.wrong(path, node.start, Some("is empty; name at least one attribute".to_owned()));
            }
            Some(sources)
        });
        let join = parts.text_if_any("join", reading);
        Some(Self { name: name?, source_labels: sources?, join: join?.unwrap_or_default() })
    }

    fn schema() -> Value {
        let sources = json!({ "type": "array", "minItems": 1, "items": schema::text(), "uniqueItems": true });
        let map = json!({ "name": schema::text(), "source_labels": sources, "join": schema::text() });
        schema::parts(&map, &["name", "source_labels"])
    }

    fn show(&self) -> String {
        let (name, sources) = (show_text(&self.name), show_texts(&self.source_labels));
        format!("{{name: {name}, source_labels: {sources}, join: {}}}", show_text(&self.join))
    }

    fn clash(&self, before: &[Self]) -> Option<String> {
        let twice = before.iter().any(|other| other.name == self.name);
        twice.then(|| format!("{} appears twice; keep one", quoted(&self.name)))
    }
}

impl Item for BucketSet {
    const FORM: &'static str = "a list such as `[{services: [a], kinds: [SPAN_KIND_SERVER], buckets: [0.1, 1]}]`";

    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self> {
        let parts = Parts::of(node, &["services", "kinds", "buckets"], at, reading)?;
        let services = parts.list("services", reading);
        let kinds = parts.list("kinds", reading);
        for (i, kind) in kinds.iter().flatten().enumerate() {
            if let (Err(message), Some(node)) = (one_of(kind, &KINDS), parts.get("kinds")) {
                let start = if let Body::List(items) = &node.body { items.get(i) } else { None };
                reading.wrong(format!("{at}.kinds[{i}]"), start.unwrap_or(node).start, Some(message));
            }
        }
        let bounds = parts.need("buckets", reading).and_then(|node| buckets(node, &parts.path("buckets"), reading));
        Some(Self { services: services?, kinds: kinds?, bounds_ns: bounds? })
    }

    fn schema() -> Value {
        let kinds = json!({ "type": "array", "items": { "enum": KINDS }, "uniqueItems": true });
        let map = json!({ "services": schema::texts(), "kinds": kinds, "buckets": schema::buckets() });
        schema::parts(&map, &["buckets"])
    }

    fn show(&self) -> String {
        let bounds = show_bounds(&self.bounds_ns);
        format!("{{services: {}, kinds: {}, buckets: {bounds}}}", show_texts(&self.services), show_texts(&self.kinds))
    }

    fn clash(&self, before: &[Self]) -> Option<String> {
        let covers = |set: &&Self| set.services.is_empty() && set.kinds.is_empty();
        before.iter().find(covers)?;
        Some("is never reached, because a set before it matches every span; put that one last".to_owned())
    }
}

impl Item for SpanNameRule {
    const FORM: &'static str = "a list such as `[{match: 'order-[0-9]+', replace: 'order-*'}]`";

    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self> {
        let parts = Parts::of(node, &["match", "replace"], at, reading)?;
        let pattern = parts.text("match", reading, |text| {
            if text.is_empty() {
                Err("is empty, which matches everywhere; write a pattern".to_owned())
            } else {
                regex(text)
            }
        });
        let known = pattern.as_deref().unwrap_or_default();
        let replace =
            parts.text("replace", reading, |text| if pattern.is_some() { template(known, text) } else { Ok(()) });
        Some(Self { pattern: pattern.clone()?, replace: replace? })
    }

    fn schema() -> Value {
        let pattern = json!({ "type": "string", "minLength": 1 });
        schema::parts(&json!({ "match": pattern, "replace": schema::text() }), &["match", "replace"])
    }

    fn show(&self) -> String {
        format!("{{match: {}, replace: {}}}", show_text(&self.pattern), show_text(&self.replace))
    }
}

/// A gRPC status code.
impl Item for u16 {
    const FORM: &'static str = "a list such as `[13, 14]`";
    const PLAIN: bool = true;

    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self> {
        let code = text_of(node).and_then(|text| whole(text).map_err(Some)).and_then(|code| -> Result<Self, Message> {
            let fits = Self::try_from(code).ok().filter(|_| GRPC_CODES.contains(&code));
            fits.ok_or_else(|| Some(format!("{code} is out of range; 0 is success, failures are 1 to 16")))
        });
        code.map_err(|message| reading.wrong(at.to_owned(), node.start, message)).ok()
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": GRPC_CODES.start(), "maximum": GRPC_CODES.end() })
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn clash(&self, before: &[Self]) -> Option<String> {
        before.contains(self).then(|| "appears twice; keep one".to_owned())
    }
}
