//! The Collector's connectors that count spans, or add up what they carry: they become attribute metrics. The one for
//! exceptions becomes the counter of span events.

use super::Fate;
use super::draft::YamlValue;
use super::ottl;
use super::table::{At, Table};
use super::tables::{COUNT, EXCEPTIONS, SIGNAL_TO_METRICS};
use super::tree::{Tree, TreeEntry};
use super::values::flow;
use super::walk::Importer;
use crate::config::show_text;

const METRICS: &str = "attribute_metrics";
const DIMENSIONS: &str = "span_metrics.events.dimensions";
/// The case of a connector that names no metric: it counts all spans.
pub(super) const NO_METRICS: &str = "(no metrics)";
const BY_HAND: &str = "write it manually, see docs/attribute-metrics.md";
/// What the exporter puts behind the name of a metric with a unit.
const UNITS: [(&str, &str); 8] = [
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("min", "minutes"),
    ("h", "hours"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
];

/// One metric while it is read.
struct MetricDraft {
    name: String,
    parts: Vec<String>,
    conditions: Vec<String>,
    labels: Vec<String>,
}

/// The table of a connector of this type.
pub(super) fn table_of(kind: &str) -> Option<&'static Table> {
    match kind {
        "count" => Some(&COUNT),
        "signal_to_metrics" | "signaltometrics" => Some(&SIGNAL_TO_METRICS),
        "exceptions" => Some(&EXCEPTIONS),
        _ => None,
    }
}

/// Reads a connector.
pub(super) fn read(importer: &mut Importer, table: &'static Table, entry: &TreeEntry, spans: bool) {
    let key = format!("connectors.{}", entry.name);
    if entry.tree.is_empty() && table.name == COUNT.name {
        importer.case(table, "spans", NO_METRICS, &key, entry.line);
        let metric = MetricDraft::new("trace.span.count");
        metric.add(importer, "counter", (&key, entry.line));
    } else if entry.tree.is_empty() {
        importer.find(&key, entry.line, "", Fate::Same, "");
    } else {
        importer.children(table, "", &key, &entry.tree);
    }
    importer.defaults(table);
    if table.name == EXCEPTIONS.name {
        exceptions(importer, spans);
    }
}

/// Events are those of span metrics, which count nothing else if there is no connector for them.
fn exceptions(importer: &mut Importer, spans: bool) {
    let finding = importer.last();
    let mut items: Vec<String> = match importer.draft.get(DIMENSIONS) {
        Some(YamlValue::Items(items) | YamlValue::List(items)) => items.clone(),
        _ => Vec::new(),
    };
    for name in ["event.name", "exception.type", "exception.message"] {
        if !items.iter().any(|item| item == name) {
            items.push(name.to_owned());
        }
    }
    importer.draft.put(DIMENSIONS, YamlValue::Items(items), "the labels of exceptions", finding);
    if !spans {
        importer.draft.remove("span_metrics.enabled");
        for part in ["calls", "latency", "size"] {
            let path = format!("span_metrics.{part}");
            importer.draft.put(&path, YamlValue::Flow("false".to_owned()), "no connector counts it", finding);
        }
    }
}

/// `dimensions` of exceptions.
pub(super) fn dimensions(importer: &mut Importer, at: &At<'_>) {
    if at.tree.list().is_none() {
        return;
    }
    importer.said(at);
    let mut items: Vec<String> = match importer.draft.get(DIMENSIONS) {
        Some(YamlValue::Items(items)) => items.clone(),
        _ => Vec::new(),
    };
    for (i, item) in at.tree.items().iter().enumerate() {
        let found = label(importer, (&format!("{}[{i}]", at.key), item), ("name", "default"));
        items.extend(found.filter(|label| !items.contains(label)));
    }
    importer.set(DIMENSIONS, YamlValue::Items(items), at);
}

/// `spans` of `count`: metrics by their names.
pub(super) fn counts(importer: &mut Importer, at: &At<'_>) {
    for entry in at.tree.entries() {
        let key = format!("{}.{}", at.key, entry.name);
        let at = At { table: at.table, row: at.row, tree: &entry.tree, key: &key, line: entry.line };
        let mut metric = MetricDraft::new(&entry.name);
        let mut good = true;
        for part in entry.tree.entries() {
            good &= common(importer, &mut metric, &key, part);
        }
        if good {
            metric.finish(importer, &at, "counter");
        }
    }
}

/// `spans` of `signal_to_metrics`: a list of metrics.
pub(super) fn derived(importer: &mut Importer, at: &At<'_>) {
    for (i, item) in at.tree.items().iter().enumerate() {
        let key = format!("{}[{i}]", at.key);
        let at = At { table: at.table, row: at.row, tree: item, key: &key, line: item.line };
        let Some(name) = item.get("name").and_then(Tree::text) else {
            importer.find(&key, item.line, "", Fate::Refused, "has no name");
            continue;
        };
        one(importer, &at, name);
    }
}

fn one(importer: &mut Importer, at: &At<'_>, name: &str) {
    let (mut metric, mut kind) = (MetricDraft::new(name), None);
    let mut good = true;
    for part in at.tree.entries() {
        good &= match part.name.as_str() {
            "name" => true,
            "sum" => sum(importer, &mut metric, at.key, part).map(|found| kind = Some(found)).is_some(),
            "histogram" => histogram(importer, &mut metric, at.key, part).map(|found| kind = Some(found)).is_some(),
            "exponential_histogram" | "gauge" => {
                let why = if part.name == "gauge" {
                    "a gauge is the last value, which depends on the order of spans: use a sum or a histogram"
                } else {
                    "write it as a histogram with buckets; histograms.mode makes it native"
                };
                importer.find(&format!("{}.{}", at.key, part.name), part.line, "", Fate::Refused, why);
                false
            }
            _ => common(importer, &mut metric, at.key, part),
        };
    }
    match kind {
        Some(kind) if good => metric.finish(importer, at, kind),
        None if good => importer.find(at.key, at.line, "", Fate::Refused, "has neither sum nor histogram"),
        _ => {}
    }
}

/// What both connectors have; false if the metric cannot be imported without it.
fn common(importer: &mut Importer, metric: &mut MetricDraft, at: &str, part: &TreeEntry) -> bool {
    let key = format!("{at}.{}", part.name);
    match part.name.as_str() {
        "description" | "unit" => {
            if let Some(text) = part.tree.text().filter(|text| !text.is_empty() && !text.contains(char::is_control)) {
                metric.parts.push(format!("{}: {}", part.name, show_text(text)));
                if part.name == "unit" {
                    metric.unit(text);
                }
            }
            true
        }
        "conditions" => {
            for item in part.tree.items() {
                metric.conditions.extend(item.text().map(ToOwned::to_owned));
            }
            let why = match ottl::keeping(&metric.conditions) {
                Ok(_) if part.tree.items().iter().all(|item| item.text().is_some()) => return true,
                Ok(_) => "is not a list of conditions".to_owned(),
                Err(why) => why,
            };
            let why = format!("{why}: no filter policy can express it; {BY_HAND}");
            importer.find(&key, part.line, "", Fate::Refused, &why);
            false
        }
        "attributes" | "include_resource_attributes" => {
            let mut good = true;
            for (i, item) in part.tree.items().iter().enumerate() {
                let found = label(importer, (&format!("{key}[{i}]"), item), ("key", "default_value"));
                good &= found.is_some();
                metric.labels.extend(found.filter(|label| !metric.labels.contains(label)));
            }
            good
        }
        _ => {
            importer.find(&key, part.line, "", Fate::Unknown, "unknown key; check its spelling");
            true
        }
    }
}

/// A label from `{key, default_value}`.
fn label(importer: &mut Importer, (key, item): (&str, &Tree), (name, default): (&str, &str)) -> Option<String> {
    let Some(text) = item.get(name).and_then(Tree::text).filter(|text| !text.is_empty()) else {
        importer.find(key, item.line, "", Fate::Refused, "has no name");
        return None;
    };
    for entry in item.entries().iter().filter(|entry| ![name, default, "optional"].contains(&entry.name.as_str())) {
        let key = format!("{key}.{}", entry.name);
        importer.find(&key, entry.line, "", Fate::Refused, &format!("has no equivalent; {BY_HAND}"));
    }
    // The service is a label by itself.
    Some(match (text, item.get(default).filter(|tree| tree.text().is_some())) {
        ("service.name", _) => "service".to_owned(),
        (_, Some(value)) => format!("{{name: {}, default: {}}}", show_text(text), flow(value)),
        (_, None) => show_text(text),
    })
}

/// `sum.value`, which may also count.
fn sum(importer: &mut Importer, metric: &mut MetricDraft, at: &str, part: &TreeEntry) -> Option<&'static str> {
    let mut kind = None;
    for entry in part.tree.entries() {
        let key = format!("{at}.sum.{}", entry.name);
        match (entry.name.as_str(), entry.tree.text().map(value_of)) {
            ("value", Some(Ok(None))) => kind = Some("counter"),
            ("value", Some(Ok(Some(value)))) => {
                metric.parts.push(format!("value: {value}"));
                kind = Some("sum");
            }
            ("value", Some(Err(why))) => {
                importer.find(&key, entry.line, "", Fate::Refused, &format!("{why}; {BY_HAND}"));
                return None;
            }
            _ => importer.find(&key, entry.line, "", Fate::Unknown, "unknown key; check its spelling"),
        }
    }
    if kind.is_none() {
        importer.find(&format!("{at}.sum"), part.line, "", Fate::Refused, "has no value");
    }
    kind
}

fn histogram(importer: &mut Importer, metric: &mut MetricDraft, at: &str, part: &TreeEntry) -> Option<&'static str> {
    let (mut has_value, mut has_buckets) = (false, false);
    for entry in part.tree.entries() {
        let key = format!("{at}.histogram.{}", entry.name);
        let text = entry.tree.text();
        let refused = match (entry.name.as_str(), text.map(value_of)) {
            ("value", Some(Ok(Some(value)))) => {
                metric.parts.push(format!("value: {value}"));
                has_value = true;
                continue;
            }
            ("value", Some(Err(why))) => why,
            ("value", _) => "is no value of a span".to_owned(),
            ("count", Some(Ok(None))) => continue,
            ("count", _) => "counts something else than spans".to_owned(),
            ("buckets", _) => {
                let bounds: Option<Vec<&str>> = entry.tree.items().iter().map(Tree::text).collect();
                has_buckets = bounds.as_ref().is_some_and(|bounds| !bounds.is_empty());
                metric.parts.push(format!("buckets: [{}]", bounds.unwrap_or_default().join(", ")));
                continue;
            }
            _ => {
                importer.find(&key, entry.line, "", Fate::Unknown, "unknown key; check its spelling");
                continue;
            }
        };
        importer.find(&key, entry.line, "", Fate::Refused, &format!("{refused}; {BY_HAND}"));
        return None;
    }
    let missing = match (has_value, has_buckets) {
        (true, true) => return Some("histogram"),
        (false, _) => "has no value",
        (true, false) => "has no buckets; write bounds that fit its values",
    };
    importer.find(&format!("{at}.histogram"), part.line, "", Fate::Refused, missing);
    None
}

/// A value expression: an attribute, the duration in seconds, or how many spans a span stands for, which is `None`.
fn value_of(expression: &str) -> Result<Option<String>, String> {
    let text = expression.trim();
    let inside = |function: &str| Some(text.strip_prefix(function)?.strip_prefix('(')?.strip_suffix(')')?.trim());
    let bare = inside("Int").or_else(|| inside("Double")).unwrap_or(text);
    match bare {
        "1" | "1.0" | "AdjustedCount()" => return Ok(None),
        _ => {}
    }
    if inside("Seconds").is_some_and(|span| matches!(span, "end_time - start_time" | "span.end_time - span.start_time"))
    {
        return Ok(Some("{intrinsic: duration}".to_owned()));
    }
    let (scope, name) = ottl::attribute_of(bare).ok_or_else(|| {
        format!("the value {} is neither an attribute, nor the duration in seconds, nor 1", show_text(expression))
    })?;
    Ok(Some(format!("{{attribute: {}, scope: {scope}}}", show_text(&name))))
}

// === impl MetricDraft ===

impl MetricDraft {
    fn new(name: &str) -> Self {
        let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = name.chars().map(legal).collect();
        let name = if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name };
        Self { name, parts: Vec::new(), conditions: Vec::new(), labels: vec!["service".to_owned()] }
    }

    /// The exporter names the unit.
    fn unit(&mut self, unit: &str) {
        let suffix = UNITS.iter().find(|(short, _)| *short == unit).map(|(_, suffix)| *suffix);
        if let Some(suffix) = suffix.filter(|suffix| !self.name.trim_end_matches("_total").ends_with(suffix)) {
            self.name = format!("{}_{suffix}", self.name.trim_end_matches("_total"));
        }
    }

    /// Adds it to those that there are, and records the result of its row.
    fn finish(self, importer: &mut Importer, at: &At<'_>, kind: &str) {
        importer.said(at);
        self.add(importer, kind, (at.key, at.line));
    }

    fn add(self, importer: &mut Importer, kind: &str, (key, line): (&str, usize)) {
        let Self { mut name, parts, conditions, labels } = self;
        if kind != "histogram" && !name.ends_with("_total") {
            name.push_str("_total");
        }
        let mut items = match importer.draft.get(METRICS) {
            Some(YamlValue::Items(items)) => items.clone(),
            _ => Vec::new(),
        };
        let begins = format!("{{name: {name},");
        if items.iter().any(|item| item.starts_with(&begins)) {
            return importer.find(key, line, METRICS, Fate::Refused, "another metric has its name; rename one");
        }
        // Conditions were looked at when they were read.
        let policies = ottl::keeping(&conditions).unwrap_or_default();
        let mut fields = vec![format!("name: {name}"), format!("type: {kind}")];
        fields.extend(parts);
        if !policies.is_empty() {
            fields.push(format!("match: [{}]", policies.join(", ")));
        }
        fields.push(format!("labels: [{}]", labels.join(", ")));
        items.push(format!("{{{}}}", fields.join(", ")));
        let finding = importer.last();
        importer.draft.put(METRICS, YamlValue::Items(items), &format!("{key} (line {line})"), finding);
    }
}

#[cfg(test)]
mod tests {
    use super::value_of;

    #[test]
    fn a_value_is_an_attribute_the_duration_or_a_count() {
        for (expression, value) in [
            ("1", None),
            ("Int(AdjustedCount())", None),
            ("attributes[\"a.b\"]", Some("{attribute: a.b, scope: span}")),
            ("Double(span.attributes[\"a\"])", Some("{attribute: a, scope: span}")),
            ("resource.attributes[\"r\"]", Some("{attribute: r, scope: resource}")),
            ("Seconds(end_time - start_time)", Some("{intrinsic: duration}")),
        ] {
            assert_eq!(value_of(expression), Ok(value.map(str::to_owned)), "{expression}");
        }
        for expression in ["2", "Milliseconds(end_time - start_time)", "Len(attributes[\"a\"])", "attributes", ""] {
            assert!(value_of(expression).is_err(), "{expression}");
        }
    }
}
