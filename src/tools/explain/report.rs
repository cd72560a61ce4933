//! The explanation as plain values: traces, their spans as trees, and what became of each.

use std::collections::BTreeMap;

use super::series::SeriesSet;
use super::{Searched, TraceId};

/// What became of the spans of some traces.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Explanation {
    /// The traces that were found, in the order in which they were asked for.
    pub traces: Vec<Trace>,
    /// The IDs of those that were not.
    pub missing: Vec<String>,
    /// What was read.
    pub searched: Searched,
    /// Spans that were found and are not explained, because there are too many.
    pub omitted: u64,
}

/// A trace.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Trace {
    /// The ID in hexadecimal.
    pub trace_id: String,
    /// The partitions that its spans are in. Spans in different ones never meet.
    pub sources: Vec<String>,
    /// The spans, each before those below it.
    pub spans: Vec<ExplainedSpan>,
    /// What they come to together, partition by partition, if there are metrics of whole traces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub whole: Vec<WholeTrace>,
}

/// What the spans of a trace in one partition come to.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct WholeTrace {
    /// How often the trace has closed: more than once if spans came after it was forgotten.
    pub closed: u64,
    /// Spans that wait for the trace to close.
    pub open_spans: u64,
    /// Spans that came after it had closed.
    pub late_spans: u64,
    /// The label sets that it has grown.
    pub series: Vec<SeriesSet>,
}

/// A span, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct ExplainedSpan {
    /// How many spans of the trace are above it.
    pub depth: usize,
    #[serde(skip)]
    pub(super) trace: Vec<u8>,
    /// The IDs of the spans that it links to.
    #[serde(skip)]
    pub(super) links: Vec<String>,
    /// The ID in hexadecimal, as it is in the span.
    pub span_id: String,
    /// That of its parent; empty if it has none.
    pub parent_span_id: String,
    /// The name.
    pub name: String,
    /// The kind, as in labels.
    pub kind: String,
    /// The status, as in labels.
    pub status: String,
    /// The `service.name` of its resource, if it has one.
    pub service: Option<String>,
    /// The tenant, if it has one.
    pub tenant: Option<String>,
    /// When it began, in Unix time and nanoseconds.
    pub start_ns: u64,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
    /// The partition that it was read from.
    pub source: String,
    /// The place of its record.
    pub place: String,
    /// Whether span metrics count it.
    pub counted: bool,
    /// The label sets of span metrics, events and resources that it is in.
    pub series: Vec<SeriesSet>,
    /// Why span metrics do not count it, or count it otherwise than it is.
    pub reasons: Vec<Reason>,
    /// The edges that it is a part of.
    pub edges: Vec<Edge>,
    /// Why it is in no edge, or what happened on the way to one.
    pub edge_reasons: Vec<Reason>,
}

/// An edge of the service graph.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Edge {
    /// `completed`, or `virtual` if a virtual node stands in for a span.
    pub outcome: &'static str,
    /// The calling service.
    pub client: String,
    /// The called service.
    pub server: String,
    /// The connection type: empty for a plain call.
    pub connection_type: String,
    /// The other spans of the edge.
    pub with: Vec<Link>,
    /// The span still waits for its peer; what comes may change this.
    pub waits: bool,
    /// The label set of the edge. If several edges of the span have one label set, it counts them all.
    pub series: SeriesSet,
    /// What decided.
    pub reasons: Vec<Reason>,
}

/// Another span.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Link {
    /// Its ID.
    pub span_id: String,
    /// Its service.
    pub service: Option<String>,
}

/// Why something is as it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reason {
    /// The reason, in a word of the ledger or of this tool.
    pub code: &'static str,
    /// A sentence.
    pub text: String,
    /// The setting that decided, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<Setting>,
}

/// A setting as it is active.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// The path of the key.
    pub key: String,
    /// The value; a secret is `***`.
    pub value: String,
    /// Where it comes from, such as `spanmill.yaml:12` or `default`.
    pub origin: String,
}

// === impl Explanation ===

impl Explanation {
    pub(super) fn new(
        wanted: &[TraceId],
        (spans, mut whole): (Vec<ExplainedSpan>, BTreeMap<TraceId, Vec<WholeTrace>>),
        searched: Searched,
        omitted: u64,
    ) -> Self {
        let mut of: BTreeMap<Vec<u8>, Vec<ExplainedSpan>> = BTreeMap::new();
        for span in spans {
            of.entry(span.trace.clone()).or_default().push(span);
        }
        let (mut traces, mut missing) = (Vec::new(), Vec::new());
        for id in wanted {
            match of.remove(&id[..]) {
                Some(spans) => traces.push(Trace::new(id, spans, whole.remove(id).unwrap_or_default())),
                None => missing.push(hex(id)),
            }
        }
        Self { traces, missing, searched, omitted }
    }
}

// === impl Trace ===

impl Trace {
    fn new(id: &TraceId, spans: Vec<ExplainedSpan>, whole: Vec<WholeTrace>) -> Self {
        let mut sources: Vec<String> = spans.iter().map(|span| span.source.clone()).collect();
        sources.sort_unstable();
        sources.dedup();
        Self { trace_id: hex(id), sources, spans: tree(spans), whole }
    }
}

/// Puts every span before those below it, children in the order of their start. Spans that are each other's parents follow at
/// the end.
fn tree(mut spans: Vec<ExplainedSpan>) -> Vec<ExplainedSpan> {
    spans.sort_by_key(|span| span.start_ns);
    let mut by_id: BTreeMap<String, usize> = BTreeMap::new();
    for (at, span) in spans.iter().enumerate() {
        by_id.entry(span.span_id.clone()).or_insert(at);
    }
    let mut children: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut open = Vec::new();
    for (at, span) in spans.iter().enumerate() {
        match by_id.get(&span.parent_span_id).filter(|&&parent| parent != at) {
            Some(parent) => children.entry(*parent).or_default().push(at),
            None => open.push((at, 0)),
        }
    }
    let count = spans.len();
    let mut left: Vec<Option<ExplainedSpan>> = spans.into_iter().map(Some).collect();
    let mut out = Vec::with_capacity(count);
    open.reverse();
    let mut next = 0;
    while out.len() < count {
        let Some((at, depth)) = open.pop() else {
            // A loop has no root: it begins with the span that came first.
            match left.iter().skip(next).position(Option::is_some) {
                Some(ahead) => {
                    next += ahead;
                    open.push((next, 0));
                }
                None => break,
            }
            continue;
        };
        let Some(span) = left[at].take() else { continue };
        out.push(ExplainedSpan { depth, ..span });
        open.extend(children.get(&at).into_iter().flatten().rev().map(|&child| (child, depth + 1)));
    }
    out
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: &str) -> ExplainedSpan {
        ExplainedSpan { span_id: id.to_owned(), parent_span_id: parent.to_owned(), ..ExplainedSpan::default() }
    }

    #[test]
    fn spans_stand_before_those_below_them_and_none_is_lost() {
        let spans = [("c", "b"), ("a", ""), ("b", "a"), ("d", "a"), ("x", "y"), ("y", "x"), ("a", ""), ("z", "z")];
        let tree = tree(spans.map(|(id, parent)| span(id, parent)).into());
        let seen: Vec<_> = tree.iter().map(|span| (span.span_id.as_str(), span.depth)).collect();
        let expected = [("a", 0), ("b", 1), ("c", 2), ("d", 1), ("a", 0), ("z", 0), ("x", 0), ("y", 1)];
        assert_eq!(seen, expected);
    }
}
