//! The JSON Schema of the configuration file and of the file of overrides, for editors. Both come from the table of
//! keys, so they know each key, its values and its text. What only `spanmill check` can find (whether keys fit each
//! other, whether a file exists) is not in them.

use serde_json::{Map, Value, json};

use super::draft::{Draft, DraftField};
use super::endpoints::{MOST, SECTION};
use super::keys::{self, SECTIONS, per_tenant};
use super::value::show;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The schema of the configuration file, `config/spanmill.schema.json`.
#[must_use]
pub fn schema() -> String {
    let mut root = tree(|_| true);
    let endpoint = endpoints(&mut root);
    root.insert("$defs".to_owned(), json!({ "endpoint": endpoint }));
    describe(&mut root, "spanmill", "The configuration of spanmill. A file needs only the values that differ.");
    written(root)
}

/// The schema of a file of overrides, `config/overrides.schema.json`.
#[must_use]
pub fn overrides_schema() -> String {
    let mut tenant = tree(per_tenant);
    let endpoint = endpoints(&mut tenant);
    let mut root = section_of(&Map::from_iter([(
        "tenants".to_owned(),
        json!({
            "type": "object",
            "description": "A section for each tenant with the values that differ for it.",
            "additionalProperties": { "anyOf": [{ "type": "null" }, Value::Object(tenant)] },
        }),
    )]));
    root.insert("required".to_owned(), json!(["tenants"]));
    root.insert("$defs".to_owned(), json!({ "endpoint": endpoint }));
    describe(&mut root, "spanmill overrides", "Settings of single tenants.");
    written(root)
}

/// `remote_write` is a section, or a list of such. Returns the section.
fn endpoints(root: &mut Map<String, Value>) -> Value {
    let section = object(root.entry("properties").or_insert(Value::Null)).get_mut(SECTION);
    let Some(section) = section else { return Value::Null };
    let one = json!({ "$ref": "#/$defs/endpoint" });
    let list = json!({ "type": "array", "minItems": 1, "maxItems": MOST, "items": one.clone() });
    let both = json!({ "description": section.get("description"), "anyOf": [one, list] });
    std::mem::replace(section, both)
}

fn describe(root: &mut Map<String, Value>, title: &str, description: &str) {
    root.insert("$schema".to_owned(), DIALECT.into());
    root.insert("title".to_owned(), title.into());
    root.insert("description".to_owned(), description.into());
}

fn written(root: Map<String, Value>) -> String {
    let mut text = serde_json::to_string_pretty(&Value::Object(root)).expect("a tree of texts and numbers");
    text.push('\n');
    text
}

/// The keys among these, each below its sections.
fn tree(among: fn(&str) -> bool) -> Map<String, Value> {
    let mut draft = Draft::default();
    let mut root = section_of(&Map::new());
    for key in keys::all().filter(|key| among(key.path)) {
        let slot = (key.slot)(&mut draft);
        let default = show(&slot);
        let mut schema = of_field(&slot);
        schema.insert("description".to_owned(), format!("{} Default: {default}", key.doc).into());
        let (sections, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        properties(&mut root, sections).insert(name.to_owned(), schema.into());
    }
    root
}

/// A section that holds these keys and no others.
fn section_of(properties: &Map<String, Value>) -> Map<String, Value> {
    let section = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if let Value::Object(section) = section { section } else { Map::new() }
}

/// The keys of the section at `path`, which is created if it is missing.
fn properties<'a>(root: &'a mut Map<String, Value>, path: &str) -> &'a mut Map<String, Value> {
    let mut at = object(root.entry("properties").or_insert(Value::Null));
    let mut walked = String::new();
    for name in path.split('.').filter(|name| !name.is_empty()) {
        walked = if walked.is_empty() { name.to_owned() } else { format!("{walked}.{name}") };
        let section = at.entry(name).or_insert_with(|| {
            let mut section = section_of(&Map::new());
            let doc = SECTIONS.iter().find(|(section, _)| *section == walked).map_or("", |(_, doc)| doc);
            section.insert("description".to_owned(), doc.into());
            section.into()
        });
        at = object(object(section).entry("properties").or_insert(Value::Null));
    }
    at
}

/// The map that a value is, or becomes.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("made an object")
}

/// The schema of a key of this kind.
fn of_field(field: &DraftField<'_>) -> Map<String, Value> {
    let schema = match field {
        DraftField::Text(_) | DraftField::Path(_) | DraftField::Secret(_) => text(),
        DraftField::Bool(_) => json!({ "type": "boolean" }),
        DraftField::Choice(choice) => {
            // YAML reads a word such as 2.0 as a number, and one such as true as a switch.
            let numbers = choice.words().iter().filter_map(|word| word.parse::<f64>().ok()).map(Value::from);
            let word = |word: &&str| word.parse::<bool>().map_or_else(|_| Value::from(*word), Value::from);
            let words = choice.words().iter().map(word);
            json!({ "enum": words.chain(numbers).collect::<Vec<_>>() })
        }
        DraftField::Whole(_, range) => {
            json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() })
        }
        DraftField::Fraction(_, above, most) => {
            json!({ "type": "number", "exclusiveMinimum": above, "maximum": most })
        }
        DraftField::Size(..) => json!({ "type": "string", "pattern": "^[0-9]+(B|KB|MB|GB|KiB|MiB|GiB)$" }),
        DraftField::Duration(..) => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" }),
        DraftField::Buckets(_) => buckets(),
        DraftField::List(_) => texts(),
        DraftField::Items(items) => json!({ "type": "array", "items": items.schema() }),
        DraftField::Labels(_) => json!({ "type": "object", "additionalProperties": text() }),
        DraftField::Secrets(_) => {
            let file = json!({
                "type": "object",
                "additionalProperties": false,
                "properties": { "file": text() },
                "required": ["file"],
            });
            json!({ "type": "object", "additionalProperties": { "anyOf": [text(), file] } })
        }
    };
    if let Value::Object(schema) = schema { schema } else { Map::new() }
}

/// Text; YAML reads some of it as a number or a truth value, and spanmill reads it as it stands.
pub(super) fn text() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

/// A list of different texts.
pub(super) fn texts() -> Value {
    json!({ "type": "array", "items": text(), "uniqueItems": true })
}

/// Bounds of a histogram in seconds.
pub(super) fn buckets() -> Value {
    json!({ "type": "array", "minItems": 1, "items": { "type": "number", "exclusiveMinimum": 0, "maximum": 1000 } })
}

/// A map with these fields, some of which are required.
pub(super) fn parts(parts: &Value, required: &[&str]) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": parts, "required": required })
}

#[cfg(test)]
mod tests;
