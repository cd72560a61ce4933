//! Filter policies: the rules of a valid one. Keys are those of Tempo, and values have the type that YAML gives them.

use regex::bytes::Regex;
use serde_json::{Value, json};

use super::draft::Choice;
use super::items::{Item, Parts, no_regex};
use super::problem::quoted;
use super::read::{Message, Reading, items, text_of};
use super::schema;
use super::suggest::nearest;
use super::value::{show_list, show_quoted, show_text};
use super::yaml::{Body, Node, Style};
use crate::core::model::span::{KINDS, STATUSES};
use crate::core::settings::{FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue};

/// The most blocks of one list that may look at resources; a filter has one bit for each.
const RESOURCE_BLOCKS: usize = 128;

/// The subject of a key.
enum Subject {
    Kind,
    Status,
    Name,
    Attribute,
}

/// Checks that `word` is one of `words`.
pub(super) fn one_of(word: &str, words: &[&'static str]) -> Result<(), String> {
    if words.contains(&word) {
        return Ok(());
    }
    // `server` for `SPAN_KIND_SERVER`.
    let upper = word.to_ascii_uppercase();
    let short = words.iter().find(|known| known.ends_with(&format!("_{upper}"))).copied();
    Err(match short.or_else(|| nearest(&upper, words.iter().copied())) {
        Some(near) => format!("{} is unknown; did you mean `{near}`?", quoted(word)),
        None => format!("{} is unknown; write one of {}", quoted(word), words.join(", ")),
    })
}

/// The subject of a key, or why it has none.
fn subject(key: &str) -> Result<Subject, String> {
    match key.strip_prefix("span:").unwrap_or(key) {
        "kind" => return Ok(Subject::Kind),
        "status" => return Ok(Subject::Status),
        "name" => return Ok(Subject::Name),
        _ => {}
    }
    if let Some(name) = key.strip_prefix("span.").or_else(|| key.strip_prefix("resource.")) {
        return attribute_name(name).map(|()| Subject::Attribute);
    }
    let forms = "`span.NAME`, `resource.NAME`, `kind`, `name` or `status`";
    Err(match key.strip_prefix('.').unwrap_or(key) {
        "" => format!("is empty; write {forms}"),
        name if !name.contains(':') && !reserved(name) => {
            format!("{} is not a key of a policy; write {forms}, as in `span.{name}`", quoted(key))
        }
        _ => format!("{} is not a key of a policy; write {forms}", quoted(key)),
    })
}

/// The name of an attribute as TraceQL writes it; `"..."` quotes text that would have another meaning.
fn attribute_name(text: &str) -> Result<(), String> {
    let (mut quotes, mut named) = (false, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quotes = !quotes;
                continue;
            }
            '\\' if quotes && !matches!(chars.next(), Some('"' | '\\')) => {
                return Err("has a backslash in quotes before something else than `\"` or `\\`; double it".to_owned());
            }
            c if !quotes && (c.is_whitespace() || "{}()=~!<>&|^,".contains(c)) => {
                return Err(format!("{c:?} must be quoted; put the name of the attribute in double quotes"));
            }
            _ => {}
        }
        named = true;
    }
    match (quotes, named) {
        (true, _) => Err("a quote is not closed; add `\"`".to_owned()),
        (_, false) => Err("names no attribute; write one, as in `span.http.method`".to_owned()),
        _ => Ok(()),
    }
}

/// Names that mean something in other places, where `span.` before them would not help.
fn reserved(name: &str) -> bool {
    matches!(name, "duration" | "parent" | "trace")
        || ["event.", "link.", "instrumentation."].iter().any(|scope| name.starts_with(scope))
}

/// A scalar with the type that it has in YAML.
fn typed(node: &Node) -> Result<PolicyValue, Message> {
    let text = text_of(node)?;
    let plain = matches!(node.body, Body::Scalar(_, Style::Plain));
    if plain { plain_value(text).map_err(Some) } else { Ok(PolicyValue::Text(text.to_owned())) }
}

/// What an unquoted scalar is.
fn plain_value(text: &str) -> Result<PolicyValue, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let leading = digits.strip_prefix('.').unwrap_or(digits);
    let number = leading.starts_with(|c: char| c.is_ascii_digit());
    let zeros = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    match text {
        "true" => return Ok(PolicyValue::Bool(true)),
        "false" => return Ok(PolicyValue::Bool(false)),
        _ if ["yes", "no", "on", "off", "y", "n", "true", "false"].contains(&text.to_ascii_lowercase().as_str()) => {
            let message = format!(
                "{} is text or a boolean, depending on the parser; write `true` or `false`, or quote it",
                quoted(text)
            );
            return Err(message);
        }
        _ if zeros || digits.starts_with("0x") || digits.starts_with("0o") => {
            return Err(format!(
                "{} is read as different numbers by different parsers; write it in decimal, or quote it",
                quoted(text)
            ));
        }
        _ => {}
    }
    if let (true, Ok(value)) = (number, text.parse()) {
        return Ok(PolicyValue::Int(value));
    }
    match text.parse::<f64>() {
        Ok(value) if number && value.is_finite() => Ok(PolicyValue::Float(value)),
        _ => Ok(PolicyValue::Text(text.to_owned())),
    }
}

/// What the keys of a policy name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PolicyKeys {
    /// Spans and resources.
    OfSpans,
    /// Labels. Which there are follows from other settings.
    Labels,
}

/// A policy on labels.
#[derive(Debug)]
pub(super) struct LabelPolicy(pub(super) FilterPolicy);

// === impl PolicyKeys ===

impl PolicyKeys {
    fn check(self, key: &str) -> Result<(), String> {
        match self {
            Self::OfSpans => subject(key).map(|_| ()),
            Self::Labels if key.is_empty() => Err("is empty; name a label".to_owned()),
            Self::Labels => Ok(()),
        }
    }

    fn suits(self, key: &str, match_type: MatchType, value: &PolicyValue) -> Result<(), String> {
        match (self, value, match_type) {
            (Self::OfSpans, ..) => suits(key, match_type, value),
            (Self::Labels, PolicyValue::Text(text), MatchType::Regex) => {
                Regex::new(text).map(|_| ()).map_err(|error| no_regex(text, &error))
            }
            (Self::Labels, PolicyValue::Text(_), MatchType::Strict) => Ok(()),
            (Self::Labels, ..) => Err("must be text, the value of a label; quote it".to_owned()),
        }
    }
}

/// Checks that a value suits its key.
fn suits(key: &str, match_type: MatchType, value: &PolicyValue) -> Result<(), String> {
    let Ok(subject) = subject(key) else { return Ok(()) };
    let PolicyValue::Text(text) = value else {
        return match (match_type, subject) {
            (MatchType::Regex, _) => Err("must be text, a regular expression; quote it".to_owned()),
            (_, Subject::Attribute) => Ok(()),
            (_, Subject::Kind) => Err("must be the name of a kind, such as `SPAN_KIND_SERVER`".to_owned()),
            (_, Subject::Status) => Err("must be the name of a status, such as `STATUS_CODE_ERROR`".to_owned()),
            (_, Subject::Name) => Err("must be text, the name of a span; quote it".to_owned()),
        };
    };
    match (match_type, subject) {
        (MatchType::Regex, _) => Regex::new(text).map(|_| ()).map_err(|error| no_regex(text, &error)),
        (_, Subject::Kind) => one_of(text, &KINDS),
        (_, Subject::Status) => one_of(text, &STATUSES),
        (_, Subject::Name | Subject::Attribute) => Ok(()),
    }
}

// === impl Item ===

impl Item for FilterPolicy {
    const FORM: &'static str =
        "a list such as `[{include: {match_type: strict, attributes: [{key: kind, value: SPAN_KIND_SERVER}]}}]`";

    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self> {
        policy(node, PolicyKeys::OfSpans, at, reading)
    }

    fn clash(&self, before: &[Self]) -> Option<String> {
        let looking: usize = before.iter().chain([self]).map(Self::resource_blocks).sum();
        let message = format!("makes more than {RESOURCE_BLOCKS} blocks that match resources");
        (looking > RESOURCE_BLOCKS).then(|| format!("{message}; join some with a regular expression such as `^(a|b)$`"))
    }

    fn schema() -> Value {
        let attribute = schema::parts(&json!({ "key": schema::text(), "value": schema::text() }), &["key", "value"]);
        let attributes = json!({ "type": "array", "items": attribute });
        let words = MatchType::Strict.words();
        let block = json!({ "match_type": { "enum": words }, "attributes": attributes });
        let block = schema::parts(&block, &["match_type", "attributes"]);
        let blocks = json!({ "include": block, "include_any": block, "exclude": block });
        json!({ "type": "object", "minProperties": 1, "additionalProperties": false, "properties": blocks })
    }

    fn show(&self) -> String {
        let blocks = [("include", &self.include), ("include_any", &self.include_any), ("exclude", &self.exclude)];
        let shown =
            blocks.iter().filter_map(|(name, block)| block.as_ref().map(|b| format!("{name}: {}", show_block(b))));
        format!("{{{}}}", shown.collect::<Vec<_>>().join(", "))
    }
}

impl Item for LabelPolicy {
    const FORM: &'static str =
        "a list such as `[{include: {match_type: strict, attributes: [{key: server, value: shop}]}}]`";

    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self> {
        policy(node, PolicyKeys::Labels, at, reading).map(Self)
    }

    fn schema() -> Value {
        FilterPolicy::schema()
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

fn policy(node: &Node, keys: PolicyKeys, at: &str, reading: &mut Reading) -> Option<FilterPolicy> {
    const BLOCKS: [&str; 3] = ["include", "include_any", "exclude"];
    let parts = Parts::of(node, &BLOCKS, at, reading)?;
    if BLOCKS.iter().all(|name| parts.get(name).is_none()) {
        let message = "has no effect; it needs `include`, `include_any` or `exclude`".to_owned();
        reading.wrong(at.to_owned(), node.start, Some(message));
        return None;
    }
    let mut block = |name: &str| match parts.get(name) {
        Some(node) => block(node, keys, &parts.path(name), reading).map(Some),
        None => Some(None),
    };
    let (include, include_any, exclude) = (block("include"), block("include_any"), block("exclude"));
    Some(FilterPolicy { include: include?, include_any: include_any?, exclude: exclude? })
}

impl FilterPolicy {
    /// How many of its blocks look at resources.
    fn resource_blocks(&self) -> usize {
        let looks = |block: &&PolicyMatch| block.attributes.iter().any(|a| a.key.starts_with("resource."));
        [&self.include, &self.include_any, &self.exclude].into_iter().flatten().filter(looks).count()
    }
}

fn block(node: &Node, keys: PolicyKeys, at: &str, reading: &mut Reading) -> Option<PolicyMatch> {
    let parts = Parts::of(node, &["match_type", "attributes"], at, reading)?;
    let mut match_type = MatchType::Strict;
    let word = parts.text("match_type", reading, |word| {
        let mut choice = MatchType::Strict;
        if choice.choose(word) {
            Ok(())
        } else {
            Err(format!("{} is unknown; write `strict` or `regex`", quoted(word)))
        }
    });
    let known = word.is_some_and(|word| match_type.choose(&word));
    let path = parts.path("attributes");
    let nodes = parts
        .need("attributes", reading)
        .and_then(|node| items(node, &path, "a list such as `[{key: span.http.method, value: GET}]`", reading));
    let mut attributes = Vec::new();
    for (i, node) in nodes?.iter().enumerate() {
        // Without a readable type, the type of a value is unknown.
        let attribute = attribute(node, (keys, known.then_some(match_type)), &format!("{path}[{i}]"), reading);
        attributes.extend(attribute);
    }
    known.then_some(PolicyMatch { match_type, attributes })
}

fn attribute(
    node: &Node,
    (keys, match_type): (PolicyKeys, Option<MatchType>),
    at: &str,
    reading: &mut Reading,
) -> Option<PolicyAttribute> {
    let parts = Parts::of(node, &["key", "value"], at, reading)?;
    let key = parts.text("key", reading, |key| keys.check(key));
    let value = parts.need("value", reading).and_then(|node| {
        let fits = |value: PolicyValue| match (match_type, &key) {
            (Some(match_type), Some(key)) => keys.suits(key, match_type, &value).map(|()| value).map_err(Some),
            _ => Ok(value),
        };
        typed(node).and_then(fits).map_err(|message| reading.wrong(parts.path("value"), node.start, message)).ok()
    });
    Some(PolicyAttribute { key: key?, value: value? })
}

/// One block of a policy as it would stand in the file.
#[must_use]
pub fn show_block(block: &PolicyMatch) -> String {
    let attributes = block.attributes.iter().map(|PolicyAttribute { key, value }| {
        let value = match value {
            PolicyValue::Text(text) if plain_value(text) == Ok(value.clone()) => show_text(text),
            PolicyValue::Text(text) => show_quoted(text),
            PolicyValue::Int(number) => number.to_string(),
            // With a fraction, so that it stays what it is.
            PolicyValue::Float(number) => format!("{number:?}"),
            PolicyValue::Bool(value) => value.to_string(),
        };
        format!("{{key: {}, value: {value}}}", show_text(key))
    });
    format!("{{match_type: {}, attributes: {}}}", block.match_type.word(), show_list(attributes))
}
