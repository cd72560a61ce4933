//! Which metrics of whole traces there are, and when a trace is over.

use super::ns;
use crate::core::model::Millis;

/// `traces:` metrics of whole traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// `duration`: duration and shape of traces. Default false.
    pub duration: bool,
    /// `critical_path`: self time of spans, and time on the critical path. Default false.
    pub critical_path: bool,
    /// `errors`: where errors begin, and where they are swallowed. Default false.
    pub errors: bool,
    /// `calls`: how often services call each other in a request, repeated and retried calls, fan-out. Default false.
    pub calls: bool,
    /// `repeated_calls`: so many calls of a span to one callee are repeated. Default 5.
    pub repeated_calls: usize,
    /// `quality`: spans whose place in their trace is wrong. Default false.
    pub quality: bool,
    /// `span_metrics`: span metrics with the labels of whole traces. Default false.
    pub span_metrics: bool,
    /// `branch_labels` of these. Default none.
    pub branch_labels: Vec<BranchLabel>,
    /// `histogram_buckets` of the duration (seconds in the file). Default 17 from 0.005 to 300.
    pub bounds_ns: Vec<u64>,
    /// `idle`: a trace closes when no span has come for this long, in stream time. Default 10 s.
    pub idle: Millis,
    /// `max_age`: it closes this long after its first span at the latest. Default 2 m.
    pub max_age: Millis,
    /// `late`: for how long a closed trace is remembered, so that its spans are late. Default 5 m.
    pub late: Millis,
    /// `max_spans`: it closes with so many spans. Default 10,000.
    pub max_spans: usize,
    /// `max_traces`: open ones per source partition, and remembered ones. Default 100,000.
    pub max_traces: usize,
}

/// A label that a span takes from another span of its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchLabel {
    /// The name of the label.
    pub name: String,
    /// The span that it comes from.
    pub from: BranchSource,
    /// The attribute of that span's resource, or else of the span.
    pub key: String,
}

/// Which span a label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchSource {
    /// `root`: the span without parent at the top.
    Root,
    /// `entry`: the nearest server or consumer on the way up, the span included: where the request entered the service.
    Entry,
    /// `ancestor`: the nearest one on the way up that has the attribute, the span included.
    Ancestor,
    /// `descendant`: the first one in time that has the attribute, of the span and all below it.
    Descendant,
}

// === impl Traces ===

impl Traces {
    /// Whether any metric of traces is on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.duration || self.critical_path || self.errors || self.calls || self.quality || self.span_metrics
    }
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            duration: false,
            critical_path: false,
            errors: false,
            calls: false,
            repeated_calls: 5,
            quality: false,
            span_metrics: false,
            branch_labels: Vec::new(),
            bounds_ns: ns(&[
                0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0,
            ]),
            idle: 10_000,
            max_age: 120_000,
            late: 300_000,
            max_spans: 10_000,
            max_traces: 100_000,
        }
    }
}
