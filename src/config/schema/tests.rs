use std::fs;
use std::path::PathBuf;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::{overrides_schema, schema};
use crate::config::yaml::{Body, Node, Style, parse};

/// A file below `config`.
fn config(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "config", name].iter().collect()
}

fn validator(schema: &str) -> Validator {
    jsonschema::validator_for(&serde_json::from_str(schema).expect("JSON")).expect("a schema")
}

/// What an editor sees: plain scalars that are numbers or truth values have that type.
fn seen(node: &Node) -> Value {
    match &node.body {
        Body::Scalar(text, Style::Plain) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        Body::Scalar(text, Style::Quoted) => json!(text),
        Body::List(items) => items.iter().map(seen).collect(),
        Body::Map(entries) => entries.iter().map(|entry| (entry.name.clone(), seen(&entry.value))).collect(),
        Body::Null | Body::Refused => Value::Null,
    }
}

fn read(text: &str) -> Value {
    seen(&parse(text).0.expect("a document"))
}

/// What is wrong with a file of `config`.
fn complaints(validator: &Validator, name: &str) -> Vec<String> {
    let text = fs::read_to_string(config(name)).expect(name);
    validator.iter_errors(&read(&text)).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_schema_files_are_written_from_the_table() {
    for (name, written) in [("spanmill.schema.json", schema()), ("overrides.schema.json", overrides_schema())] {
        let file = fs::read_to_string(config(name)).unwrap_or_default();
        assert!(file == written, "write what `spanmill check --schema` prints to config/{name}");
    }
}

#[test]
fn files_that_a_worker_takes_suit_the_schema() {
    let (whole, tenants) = (validator(&schema()), validator(&overrides_schema()));
    for name in ["spanmill.yaml", "good/everything.yaml"] {
        assert_eq!(complaints(&whole, name), Vec::<String>::new(), "{name}");
    }
    assert_eq!(complaints(&tenants, "overrides.yaml"), Vec::<String>::new());
    for text in ["tenants: {}", "tenants: {a: , b: {limits: {max_active_series: 5}}}"] {
        assert!(tenants.is_valid(&read(text)), "{text}");
    }
}

#[test]
fn an_editor_marks_unknown_keys_wrong_types_and_unknown_words() {
    let whole = validator(&schema());
    for name in [
        "dimensions_are_one_text",
        "duration_with_unknown_unit",
        "duration_without_unit",
        "factor_is_no_number",
        "file_is_a_list",
        "grpc_codes",
        "key_at_the_top",
        "key_in_the_wrong_section",
        "key_written_flat",
        "policy_block_incomplete",
        "policy_empty",
        "policy_is_text",
        "policy_unknown_block",
        "profile_unknown",
        "properties_nested",
        "section_is_a_value",
        "size_without_unit",
        "topics_twice",
        "unknown_choice",
        "unknown_key",
        "unknown_key_in_subsection",
        "unknown_section",
        "value_for_a_list",
        "value_for_a_map",
    ] {
        assert_ne!(complaints(&whole, &format!("bad/{name}.yaml")), Vec::<String>::new(), "{name}");
    }
    let tenants = validator(&overrides_schema());
    for text in ["{}", "tenants: {a: {kafka: {group: x}}}", "tenants: {a: {service_graphs: {wait: 1s}}}"] {
        assert!(!tenants.is_valid(&read(text)), "{text}");
    }
}
