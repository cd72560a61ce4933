//! Attribute metrics: the form of a valid entry.

use serde_json::{Value, json};

use super::items::{Item, Parts};
use super::problem::quoted;
use super::read::{Reading, list, text_of};
use super::schema;
use super::slos::{listed, scalar};
use super::value::{decimal, show_billionths, show_list, show_text, show_texts};
use super::yaml::{Body, Node};
use crate::core::model::layout::MAX_BUCKETS;
use crate::core::settings::{
    AttributeMetric, AttributeMetricKind, AttributeMetricsPreset, Dimension, FilterPolicy, MetricValue, ValueScope,
};

/// The longest name in bytes.
const LONGEST_NAME: usize = 128;
const KEYS: [&str; 8] = ["name", "description", "unit", "type", "match", "value", "buckets", "labels"];
const TYPES: [(&str, AttributeMetricKind); 3] = [
    ("counter", AttributeMetricKind::Counter),
    ("sum", AttributeMetricKind::Sum),
    ("histogram", AttributeMetricKind::Histogram),
];
const SCOPES: [(&str, ValueScope); 3] =
    [("any", ValueScope::Any), ("span", ValueScope::Span), ("resource", ValueScope::Resource)];
const DURATION: &str = "duration";
/// What the parts of a histogram and other types end with.
const ENDS: [&str; 5] = ["_total", "_bucket", "_sum", "_count", "_info"];

/// A metric name that every receiver takes. Colons are for what rules record.
fn name(text: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let first = text.chars().next().is_some_and(|c| !c.is_ascii_digit());
    if !first || text.len() > LONGEST_NAME || !text.chars().all(legal) {
        return Err(format!(
            "{} is not a name; use 1 to {LONGEST_NAME} letters, digits and `_`, not a digit first",
            quoted(text)
        ));
    }
    Ok(())
}

/// Receivers tell types by how names end.
fn fits(name: &str, kind: AttributeMetricKind) -> Result<(), String> {
    let end = ENDS.iter().find(|end| name.ends_with(*end));
    match (kind, end) {
        (AttributeMetricKind::Histogram, Some(end)) => {
            Err(format!("{} ends with `{end}`, which the name of a histogram cannot; remove it", quoted(name)))
        }
        (AttributeMetricKind::Histogram, None) => Ok(()),
        _ if name.ends_with("_total") => Ok(()),
        _ => Err(format!("{} is the name of a counter or sum, which must end with `_total`; add it", quoted(name))),
    }
}

/// One of a few words.
fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
    let all = || words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| format!("{} is unknown; write one of {}", quoted(text), all()))
}

/// The word for a meaning.
fn word_for<T: Copy + PartialEq>(meaning: T, words: &[(&'static str, T)]) -> &'static str {
    words.iter().find(|(_, other)| *other == meaning).map_or("", |(word, _)| word)
}

/// An attribute, or several of which the first counts.
fn names(node: &Node, at: &str, reading: &mut Reading) -> Option<Vec<String>> {
    let read = match &node.body {
        Body::List(_) => list(node, at, reading)?,
        _ => scalar(Some(node), at, reading, |text| {
            let wrong = || "is empty; write the name of an attribute".to_owned();
            (!text.is_empty()).then(|| text.to_owned()).ok_or_else(wrong)
        })?
        .into_iter()
        .collect(),
    };
    if read.is_empty() {
        reading.wrong(at.to_owned(), node.start, Some("is empty; name an attribute".to_owned()));
    }
    (!read.is_empty()).then_some(read)
}

fn value(node: &Node, at: &str, reading: &mut Reading) -> Option<MetricValue> {
    if !matches!(node.body, Body::Map(_)) {
        return names(node, at, reading).map(|names| MetricValue::Attribute(names, ValueScope::Any));
    }
    let parts = Parts::of(node, &["attribute", "scope", "intrinsic"], at, reading)?;
    let scope = scalar(parts.get("scope"), &parts.path("scope"), reading, |text| word(text, &SCOPES))?;
    let intrinsic = scalar(parts.get("intrinsic"), &parts.path("intrinsic"), reading, |text| {
        if text == DURATION { Ok(()) } else { Err(format!("{} is unknown; write `{DURATION}`", quoted(text))) }
    })?;
    match (parts.get("attribute"), intrinsic) {
        (Some(node), None) => {
            let names = names(node, &parts.path("attribute"), reading)?;
            Some(MetricValue::Attribute(names, scope.unwrap_or(ValueScope::Any)))
        }
        (None, Some(())) if scope.is_none() => Some(MetricValue::Duration),
        _ => {
            let message = "needs either `attribute`, with a `scope` or without, or `intrinsic: duration` alone";
            reading.wrong(at.to_owned(), node.start, Some(message.to_owned()));
            None
        }
    }
}

/// Upper bounds in the unit of the value.
fn buckets(node: &Node, at: &str, reading: &mut Reading) -> Option<Vec<u64>> {
    let nodes = super::read::items(node, at, "a list such as `[1024, 65536]`", reading)?;
    let (mut bounds, before) = (Vec::<u64>::new(), reading.wrong.len());
    for (i, node) in nodes.iter().enumerate() {
        let read = text_of(node).and_then(|text| decimal(text).map_err(Some)).and_then(|bound| {
            let ascends = bounds.last().is_none_or(|last| *last < bound);
            let message = || Some("is not above the previous bound; write bounds in ascending order".to_owned());
            if ascends { Ok(bound) } else { Err(message()) }
        });
        match read {
            Ok(bound) => bounds.push(bound),
            Err(message) => reading.wrong(format!("{at}[{i}]"), node.start, message),
        }
    }
    if bounds.is_empty() && reading.wrong.len() == before {
        reading.wrong(at.to_owned(), node.start, Some("is empty; write at least one bound".to_owned()));
    } else if bounds.len() >= MAX_BUCKETS {
        let message = format!("has {} bounds; write fewer than {MAX_BUCKETS}", bounds.len());
        reading.wrong(at.to_owned(), node.start, Some(message));
    }
    (reading.wrong.len() == before).then_some(bounds)
}

/// The labels. What is no attribute has no other names and no default.
fn labels(node: &Node, at: &str, reading: &mut Reading) -> Option<Vec<Dimension>> {
    let read: Vec<Dimension> = listed(node, at, reading)?;
    let Body::List(nodes) = &node.body else { return None };
    for (i, (label, node)) in read.iter().zip(nodes).enumerate() {
        let intrinsic = AttributeMetric::INTRINSICS.contains(&label.name.as_str());
        if intrinsic && (!label.or.is_empty() || label.default.is_some()) {
            let message = format!("is no attribute here; write `{}` alone", label.name);
            reading.wrong(format!("{at}[{i}]"), node.start, Some(message));
            return None;
        }
    }
    Some(read)
}

/// What fits together, and what does not.
fn checked(metric: AttributeMetric, parts: &Parts<'_, '_>, at: &str, reading: &mut Reading) -> Option<AttributeMetric> {
    let mut wrong = |part: &str, message: String| {
        let place = parts.get(part).map_or_else(|| at.to_owned(), |_| parts.path(part));
        reading.wrong(place, parts.start(part), Some(message));
        None
    };
    if let Err(message) = fits(&metric.name, metric.kind) {
        return wrong("name", message);
    }
    let kind = word_for(metric.kind, &TYPES);
    match (metric.kind, &metric.value, metric.bounds.is_empty()) {
        (AttributeMetricKind::Sum | AttributeMetricKind::Histogram, None, _) => wrong(
            "type",
            format!("is `{kind}`, which needs a `value`; name an attribute, or `{{intrinsic: duration}}`"),
        ),
        (AttributeMetricKind::Counter, Some(MetricValue::Duration), _) => wrong(
            "value",
            "is the duration, which every span has; remove it to count spans, or write `type: sum`".to_owned(),
        ),
        (AttributeMetricKind::Histogram, _, true) => {
            wrong("type", "is `histogram`, which needs `buckets`, such as `[1024, 65536]`".to_owned())
        }
        (AttributeMetricKind::Counter | AttributeMetricKind::Sum, _, false) => {
            wrong("buckets", format!("is for `type: histogram` and not for `{kind}`; remove it, or change the type"))
        }
        _ => Some(metric),
    }
}

// === impl Item ===

impl Item for AttributeMetric {
    const FORM: &'static str = "a list such as `[{name: tokens_total, value: gen_ai.usage.input_tokens}]`";

    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self> {
        let parts = Parts::of(node, &KEYS, at, reading)?;
        let name = parts.text("name", reading, name);
        let description = parts.text_if("description", reading, |_| Ok(()));
        let unit = parts.text_if("unit", reading, |_| Ok(()));
        let kind = scalar(parts.get("type"), &parts.path("type"), reading, |text| word(text, &TYPES));
        let matching = parts.get("match").map_or(Some(Vec::new()), |node| listed(node, &parts.path("match"), reading));
        let value = match parts.get("value") {
            Some(node) => value(node, &parts.path("value"), reading).map(Some),
            None => Some(None),
        };
        let bounds = match parts.get("buckets") {
            Some(node) => buckets(node, &parts.path("buckets"), reading),
            None => Some(Vec::new()),
        };
        let labels = match parts.get("labels") {
            Some(node) => labels(node, &parts.path("labels"), reading),
            None => Some(Self::default_labels()),
        };
        let value = value?;
        let usual = if value.is_some() { AttributeMetricKind::Sum } else { AttributeMetricKind::Counter };
        let metric = Self {
            name: name?,
            description: description?.unwrap_or_default(),
            unit: unit?.unwrap_or_default(),
            kind: kind?.unwrap_or(usual),
            matching: matching?,
            value,
            bounds: bounds?,
            labels: labels?,
        };
        checked(metric, &parts, at, reading)
    }

    fn schema() -> Value {
        let items = |of: Value| json!({ "type": "array", "items": of });
        let words = |words: Vec<&str>| json!({ "enum": words });
        let texts = json!({ "type": "array", "minItems": 1, "items": schema::text(), "uniqueItems": true });
        let names = json!({ "anyOf": [schema::text(), texts] });
        let scopes = words(SCOPES.iter().map(|(word, _)| *word).collect());
        let of_attribute = schema::parts(&json!({ "attribute": names, "scope": scopes }), &["attribute"]);
        let of_span = schema::parts(&json!({ "intrinsic": words(vec![DURATION]) }), &["intrinsic"]);
        let bounds = json!({ "type": "array", "minItems": 1, "items": { "type": "number", "exclusiveMinimum": 0 } });
        let all = json!({
            "name": json!({ "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,127}$" }),
            "description": schema::text(),
            "unit": schema::text(),
            "type": words(TYPES.iter().map(|(word, _)| *word).collect()),
            "match": items(FilterPolicy::schema()),
            "value": { "anyOf": [schema::text(), texts, of_attribute, of_span] },
            "buckets": bounds,
            "labels": items(Dimension::schema()),
        });
        schema::parts(&all, &["name"])
    }

    fn show(&self) -> String {
        let text = |key: &str, text: &str| match text {
            "" => String::new(),
            text => format!("{key}: {}, ", show_text(text)),
        };
        let value = match &self.value {
            None => String::new(),
            Some(MetricValue::Duration) => format!("value: {{intrinsic: {DURATION}}}, "),
            Some(MetricValue::Attribute(names, scope)) => {
                format!("value: {{attribute: {}, scope: {}}}, ", show_texts(names), word_for(*scope, &SCOPES))
            }
        };
        let bounds = match self.bounds.as_slice() {
            [] => String::new(),
            bounds => format!("buckets: {}, ", show_list(bounds.iter().map(|bound| show_billionths(*bound)))),
        };
        format!(
            "{{name: {}, {}{}type: {}, match: {}, {value}{bounds}labels: {}}}",
            show_text(&self.name),
            text("description", &self.description),
            text("unit", &self.unit),
            word_for(self.kind, &TYPES),
            show_list(self.matching.iter().map(Item::show)),
            show_list(self.labels.iter().map(Item::show)),
        )
    }

    fn clash(&self, before: &[Self]) -> Option<String> {
        let twice = before.iter().any(|other| other.name == self.name);
        twice.then(|| format!("has the name {} of another one; choose another name", quoted(&self.name)))
    }
}

impl Item for AttributeMetricsPreset {
    const FORM: &'static str = "a list such as `[genai, http]`";
    const PLAIN: bool = true;

    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self> {
        let words = Self::ALL.map(|preset| (preset.name(), preset));
        scalar(Some(node), at, reading, |text| word(text, &words))?
    }

    fn schema() -> Value {
        json!({ "enum": Self::ALL.map(Self::name) })
    }

    fn show(&self) -> String {
        self.name().to_owned()
    }

    fn clash(&self, before: &[Self]) -> Option<String> {
        before.contains(self).then(|| "appears twice; keep one".to_owned())
    }
}
