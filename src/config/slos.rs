//! Service level objectives: the form of a valid one.

use serde_json::{Value, json};

use super::items::{Item, Parts};
use super::policies::LabelPolicy;
use super::problem::quoted;
use super::read::{Message, Reading, items, text_of};
use super::schema;
use super::value::{duration, show_duration, show_list, show_text};
use super::yaml::{Body, Node};
use crate::core::settings::{Dimension, FilterPolicy, Objective, Slo, SloSide, SloSubject};

/// The longest name in bytes.
const LONGEST_NAME: usize = 64;
const KEYS: [&str; 6] = ["name", "match", "good", "of", "labels", "objective"];
/// A threshold is above 0 and at most this long.
const LONGEST_LATENCY: i64 = 24 * 3_600_000;
const NS_PER_MS: u64 = 1_000_000;
const NS_PER_US: u64 = 1_000;

/// What makes an event good.
struct Good {
    latency_ns: Option<u64>,
    side: SloSide,
    failed: Vec<FilterPolicy>,
}

/// A name that is a label value, a part of file names, and needs no quotes anywhere.
fn name(text: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(legal) {
        return Err(format!(
            "{} is not a name; use 1 to {LONGEST_NAME} letters, digits, `_`, `.` and `-`",
            quoted(text)
        ));
    }
    Ok(())
}

/// What the events are.
fn subject(text: &str) -> Result<SloSubject, String> {
    match text {
        "spans" => Ok(SloSubject::Spans),
        "edges" => Ok(SloSubject::Edges(SloSide::default())),
        "traces" => Ok(SloSubject::Traces),
        _ => Err(format!("{} is unknown; write `spans`, `edges` or `traces`", quoted(text))),
    }
}

/// Whose latency an edge has.
fn side(text: &str, of: SloSubject) -> Result<SloSide, String> {
    match (of, text) {
        (SloSubject::Spans | SloSubject::Traces, _) => {
            Err("is about edges, which have two sides; remove it, or write `of: edges`".to_owned())
        }
        (_, "client") => Ok(SloSide::Client),
        (_, "server") => Ok(SloSide::Server),
        _ => Err(format!("{} is unknown; write `client` or `server`", quoted(text))),
    }
}

/// A duration in nanoseconds; microseconds are legal here, too.
fn latency(text: &str) -> Result<u64, String> {
    let ns = match text.strip_suffix("us").map(str::parse::<u64>) {
        Some(Ok(us)) => us.checked_mul(NS_PER_US),
        _ => u64::try_from(duration(text)?).ok().and_then(|ms| ms.checked_mul(NS_PER_MS)),
    };
    let longest = LONGEST_LATENCY.unsigned_abs() * NS_PER_MS;
    ns.filter(|ns| (1..=longest).contains(ns))
        .ok_or_else(|| format!("{} is out of range; write 1us to {}", quoted(text), show_duration(LONGEST_LATENCY)))
}

fn show_latency(ns: u64) -> String {
    if ns.is_multiple_of(NS_PER_MS) {
        show_duration((ns / NS_PER_MS).cast_signed())
    } else {
        format!("{}us", ns / NS_PER_US)
    }
}

/// The items of a list in an entry; `None` if one of them is wrong.
pub(super) fn listed<T: Item>(node: &Node, at: &str, reading: &mut Reading) -> Option<Vec<T>> {
    let before = reading.wrong.len();
    let mut read = Vec::new();
    for (i, node) in items(node, at, T::FORM, reading)?.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let Some(item) = T::read(node, &at, reading) else { continue };
        match item.clash(&read) {
            Some(message) => reading.wrong(at, node.start, Some(message)),
            None => {
                reading.found(at, node.start);
                read.push(item);
            }
        }
    }
    (reading.wrong.len() == before).then_some(read)
}

/// One value that `read` accepts.
pub(super) fn scalar<T>(
    node: Option<&Node>,
    at: &str,
    reading: &mut Reading,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<Option<T>> {
    let Some(node) = node else { return Some(None) };
    let value = text_of(node).and_then(|text| read(text).map_err(Some));
    value.map(Some).map_err(|message: Message| reading.wrong(at.to_owned(), node.start, message)).ok()
}

/// The policies on events, whose keys depend on what these are.
fn policies(node: &Node, of: SloSubject, at: &str, reading: &mut Reading) -> Option<Vec<FilterPolicy>> {
    if of == SloSubject::Spans {
        return listed(node, at, reading);
    }
    let of_labels: Vec<LabelPolicy> = listed(node, at, reading)?;
    Some(of_labels.into_iter().map(|LabelPolicy(policy)| policy).collect())
}

/// What has failed. Edges and traces have a rule of their own, which can only be switched off.
fn failed(node: &Node, of: SloSubject, at: &str, reading: &mut Reading) -> Option<Vec<FilterPolicy>> {
    let rule = match of {
        SloSubject::Spans => return listed(node, at, reading),
        SloSubject::Edges(_) => "an edge fails as in `traces_service_graph_request_failed_total`",
        SloSubject::Traces => "a trace fails if its root has the status error",
    };
    let is_empty = matches!(&node.body, Body::List(nodes) if nodes.is_empty());
    if !is_empty {
        let message = format!("takes no policies here: {rule}; remove it, or write `[]` if failures do not matter");
        reading.wrong(at.to_owned(), node.start, Some(message));
    }
    is_empty.then(Vec::new)
}

fn good(node: &Node, of: SloSubject, at: &str, reading: &mut Reading) -> Option<Good> {
    let parts = Parts::of(node, &["latency", "failed", "side"], at, reading)?;
    let latency_ns = scalar(parts.get("latency"), &parts.path("latency"), reading, latency);
    let side = scalar(parts.get("side"), &parts.path("side"), reading, |text| side(text, of));
    let failed = match parts.get("failed") {
        Some(node) => failed(node, of, &parts.path("failed"), reading),
        None => Some(Slo::failed_by_status()),
    };
    let (latency_ns, failed, side) = (latency_ns?, failed?, side?);
    if latency_ns.is_none() && failed.is_empty() {
        let message = "makes every event good; name a `latency`, or what has `failed`".to_owned();
        reading.wrong(at.to_owned(), node.start, Some(message));
        return None;
    }
    if latency_ns.is_none() && side.is_some() {
        let message = "has no effect without `latency`; name one, or remove it".to_owned();
        reading.wrong(parts.path("side"), node.start, Some(message));
        return None;
    }
    Some(Good { latency_ns, side: side.unwrap_or_default(), failed })
}

/// The labels. Of spans, only `service` names something else than an attribute. Which labels edges have follows from other
/// settings.
fn labels(node: &Node, of: SloSubject, at: &str, reading: &mut Reading) -> Option<Vec<Dimension>> {
    const INTRINSICS: [&str; 4] = ["span_name", "span_kind", "status_code", "status_message"];
    let of_spans = of == SloSubject::Spans;
    let read: Vec<Dimension> = listed(node, at, reading)?;
    let Body::List(nodes) = &node.body else { return None };
    for (i, (label, node)) in read.iter().zip(nodes).enumerate() {
        let plain = label.or.is_empty() && label.default.is_none();
        let message = if !of_spans && plain {
            continue;
        } else if !of_spans {
            "names a label, which has no other attributes and no default; write its name alone".to_owned()
        } else if INTRINSICS.contains(&label.name.as_str()) {
            "is no label here: labels are `service` and attributes; an objective per operation matches its name"
                .to_owned()
        } else if label.name == Slo::SERVICE && !plain {
            "is the service of the span; write `service` alone".to_owned()
        } else {
            continue;
        };
        reading.wrong(format!("{at}[{i}]"), node.start, Some(message));
        return None;
    }
    Some(read)
}

// === impl Item ===

impl Item for Slo {
    const FORM: &'static str = "a list such as `[{name: checkout, good: {latency: 300ms}, objective: 99.9}]`";

    fn read(node: &Node, at: &str, reading: &mut Reading) -> Option<Self> {
        let parts = Parts::of(node, &KEYS, at, reading)?;
        let name = parts.text("name", reading, name);
        // What all else means depends on it.
        let of = scalar(parts.get("of"), &parts.path("of"), reading, subject)?.unwrap_or_default();
        let matching =
            parts.get("match").map_or(Some(Vec::new()), |node| policies(node, of, &parts.path("match"), reading));
        let good = match parts.get("good") {
            Some(node) => good(node, of, &parts.path("good"), reading),
            None => Some(Good { latency_ns: None, side: SloSide::default(), failed: Slo::failed_by_status() }),
        };
        let labels = match parts.get("labels") {
            Some(node) => labels(node, of, &parts.path("labels"), reading),
            None => Some(Self::default_labels(of)),
        };
        let objective = scalar(parts.get("objective"), &parts.path("objective"), reading, |text| {
            let wrong =
                || format!("{} is not a percentage above 0 and below 100; write one such as `99.9`", quoted(text));
            Objective::of_percent(text).ok_or_else(wrong)
        });
        let Good { latency_ns, side, failed } = good?;
        let of = if of == SloSubject::Edges(SloSide::default()) { SloSubject::Edges(side) } else { of };
        Some(Self { name: name?, of, matching: matching?, latency_ns, failed, labels: labels?, objective: objective? })
    }

    fn schema() -> Value {
        let list = |of: Value| json!({ "type": "array", "items": of });
        let latency = json!({ "type": "string", "pattern": "^[0-9]+(us|ms|s|m|h)$" });
        let good = schema::parts(
            &json!({
                "latency": latency,
                "failed": list(FilterPolicy::schema()),
                "side": { "enum": ["client", "server"] },
            }),
            &[],
        );
        let name = json!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$" });
        let objective = json!({ "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 100 });
        let all = json!({
            "name": name,
            "match": list(FilterPolicy::schema()),
            "good": good,
            "of": { "enum": ["spans", "edges", "traces"] },
            "labels": list(Dimension::schema()),
            "objective": objective,
        });
        schema::parts(&all, &["name"])
    }

    fn show(&self) -> String {
        let policies = |policies: &[FilterPolicy]| show_list(policies.iter().map(Item::show));
        let latency = self.latency_ns.map_or_else(String::new, |ns| format!("latency: {}, ", show_latency(ns)));
        let objective = self.objective.map_or_else(String::new, |o| format!(", objective: {}", o.percent()));
        let (of, side) = match self.of {
            SloSubject::Spans => ("", ""),
            SloSubject::Edges(SloSide::Client) => (", of: edges", ""),
            SloSubject::Edges(SloSide::Server) => (", of: edges", "side: server, "),
            SloSubject::Traces => (", of: traces", ""),
        };
        // The rule of edges and traces cannot be written down.
        let failed = match self.of {
            SloSubject::Spans => format!("failed: {}", policies(&self.failed)),
            _ if self.failed.is_empty() => "failed: []".to_owned(),
            _ => String::new(),
        };
        let good = format!("{latency}{side}{failed}");
        format!(
            "{{name: {}{of}, match: {}, good: {{{}}}, labels: {}{objective}}}",
            show_text(&self.name),
            policies(&self.matching),
            good.trim_end_matches(", "),
            show_list(self.labels.iter().map(Item::show)),
        )
    }

    fn clash(&self, before: &[Self]) -> Option<String> {
        let twice = before.iter().any(|other| other.name == self.name);
        twice.then(|| format!("has the name {} of another one; choose another name", quoted(&self.name)))
    }
}
