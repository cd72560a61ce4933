//! Events of the log: their messages are constants, so that a search or an alert on one finds all of its kind. What differs
//! from one time to the next is in the fields.

use std::path::{Path, PathBuf};

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            sources(&entry, out);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            out.push(entry);
        }
    }
}

/// The arguments of each event in a source, without its own tests.
fn events(source: &str) -> Vec<&str> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let starts = ["error", "warn", "info", "debug", "trace"].map(|level| format!("tracing::{level}!("));
    let starts = starts.iter().flat_map(|start| source.split(start.as_str()).skip(1));
    starts.map(arguments).collect()
}

/// What stands before the parenthesis that closes an argument list.
fn arguments(text: &str) -> &str {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return text.get(..at).unwrap_or(text);
        }
    }
    text
}

/// Whether the message has a placeholder. It is the last literal that is no value of a field.
fn is_put_together(arguments: &str) -> bool {
    let mut parts = arguments.split('"');
    let mut message = "";
    while let (Some(before), Some(literal)) = (parts.next(), parts.next()) {
        if before.trim_end().ends_with(',') || before.trim().is_empty() {
            message = literal;
        }
    }
    message.replace("{{", "").contains('{')
}

#[test]
fn the_message_of_every_event_in_the_log_is_a_constant() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut seen = 0;
    for file in files {
        let source = std::fs::read_to_string(&file).expect("a source");
        for event in events(&source) {
            seen += 1;
            assert!(!is_put_together(event), "{}: put what differs into fields: {event}", file.display());
        }
    }
    assert!(seen > 150, "only {seen} events were found");
}

#[test]
fn a_message_with_a_placeholder_is_found_and_a_field_with_one_is_not() {
    for (event, put_together) in [
        (r#""{topics}: {risk}""#, true),
        (r#"error = %why, "cannot read {topic}, retrying""#, true),
        (r#"prefix = %format_args!("{group}-"), "grant Write on topics with this prefix""#, false),
        (r#"held_back, "braces {{}} are no placeholder""#, false),
    ] {
        assert_eq!(is_put_together(event), put_together, "{event}");
    }
}
