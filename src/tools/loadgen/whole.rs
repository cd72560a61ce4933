//! What whole traces must come to: duration and shape, critical path, self times, errors, and span metrics by root.
//!
//! From the planned spans, by the words of `docs/traces.md`, and by no line of the code that it checks: a child asks its parent, and
//! the path is walked call by call.

use std::collections::BTreeMap;

use super::count::Histogram;
use super::expect::{Bound, SPAN_BOUNDS, Series};
use super::template::{Outcome, Span};
use super::topology::Topology;
use crate::core::model::{Counter, Ledger};

/// The default buckets of durations.
const DURATIONS: [Bound; 17] = [
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
    (20_000_000_000, "20"),
    (30_000_000_000, "30"),
    (60_000_000_000, "60"),
    (120_000_000_000, "120"),
    (180_000_000_000, "180"),
    (300_000_000_000, "300"),
];
/// The buckets of numbers, which are observed as so many seconds.
const NUMBERS: [Bound; 14] = [
    (SECOND, "1"),
    (2 * SECOND, "2"),
    (3 * SECOND, "3"),
    (5 * SECOND, "5"),
    (10 * SECOND, "10"),
    (20 * SECOND, "20"),
    (50 * SECOND, "50"),
    (100 * SECOND, "100"),
    (200 * SECOND, "200"),
    (500 * SECOND, "500"),
    (1_000 * SECOND, "1000"),
    (2_000 * SECOND, "2000"),
    (5_000 * SECOND, "5000"),
    (10_000 * SECOND, "10000"),
];
const SECOND: u64 = 1_000_000_000;
/// The type of the exception that failed spans have.
const EXCEPTION: &str = "java.net.SocketTimeoutException";

/// Values by metric and labels.
#[derive(Debug, Clone, Default)]
pub(super) struct WholeTraces {
    counts: BTreeMap<Set, u64>,
    nanos: BTreeMap<Set, u128>,
    histograms: BTreeMap<Set, Histogram<{ DURATIONS.len() + 1 }>>,
}

type Labels = Vec<(&'static str, String)>;
type Set = (&'static str, Labels);

/// The spans of a trace.
struct Planned<'a> {
    topology: &'a Topology,
    spans: &'a [Span],
    children: BTreeMap<u64, Vec<&'a Span>>,
    top: &'a Span,
}

// === impl Planned ===

impl<'a> Planned<'a> {
    fn new(topology: &'a Topology, spans: &'a [Span]) -> Option<Self> {
        let by_id: BTreeMap<u64, &Span> = spans.iter().map(|span| (span.id, span)).collect();
        let mut children: BTreeMap<u64, Vec<&Span>> = BTreeMap::new();
        for span in spans.iter().filter(|span| by_id.contains_key(&span.parent)) {
            children.entry(span.parent).or_default().push(span);
        }
        // A planned trace has one span without parent in it.
        let top = spans.iter().find(|span| !by_id.contains_key(&span.parent))?;
        Some(Self { topology, spans, children, top })
    }

    fn children(&self, span: &Span) -> &[&'a Span] {
        self.children.get(&span.id).map_or(&[], Vec::as_slice)
    }

    fn service(&self, span: &Span) -> &str {
        &self.topology.services[self.topology.ops[span.op as usize].service].name
    }

    fn operation(&self, span: &Span) -> &str {
        &self.topology.ops[span.op as usize].name
    }

    fn depth(&self, span: &Span) -> u64 {
        1 + self.children(span).iter().map(|child| self.depth(child)).max().unwrap_or(0)
    }

    /// The moments in which none of a span's children runs.
    fn self_time(&self, span: &Span) -> u64 {
        let mut runs: Vec<(u64, u64)> =
            self.children(span).iter().map(|child| (child.start.max(span.start), end(child).min(end(span)))).collect();
        runs.sort_unstable();
        let (mut alone, mut reached) = (0, span.start);
        for (from, to) in runs {
            alone += from.min(end(span)).saturating_sub(reached);
            reached = reached.max(to);
        }
        alone + end(span).saturating_sub(reached)
    }

    /// Gives the time from `from` to `to` of a span to it, and to those of its children that it waited for.
    fn walk(&self, span: &'a Span, (from, to): (u64, u64), found: &mut Vec<(&'a Span, u64)>) {
        let (mut point, mut own) = (to, 0);
        let mut left: Vec<&Span> = self.children(span).to_vec();
        loop {
            let clipped = |child: &Span| (end(child).min(to), child.start.max(from));
            left.retain(|child| {
                let (ends, starts) = clipped(child);
                starts < ends && ends <= point
            });
            // The one that ends last; of several the one that began first, then by what decides an order.
            let last = left.iter().min_by_key(|child| {
                let (ends, starts) = clipped(child);
                (u64::MAX - ends, starts, child.start, u64::MAX - end(child), child.id)
            });
            let Some(&child) = last else { break };
            let (ends, starts) = clipped(child);
            own += point - ends;
            self.walk(child, (starts, ends), found);
            point = starts;
        }
        found.push((span, own + point - from));
    }
}

// === impl WholeTraces ===

impl WholeTraces {
    /// Counts a trace, all of whose spans are planned.
    pub(super) fn trace(&mut self, topology: &Topology, spans: &[Span], ledger: &mut Ledger) {
        let Some(planned) = Planned::new(topology, spans) else { return };
        count_order(&planned, ledger);
        let top = planned.top;
        let (service, operation) = (planned.service(top).to_owned(), planned.operation(top).to_owned());
        let root = |label: &'static str, value: &String| (label, value.clone());
        let roots = if top.parent == 0 { "" } else { "none" };
        let shape =
            vec![root("root_operation", &operation), root("root_service", &service), ("roots", roots.to_owned())];
        let whole: Labels = shape.iter().cloned().chain([("status_code", top.outcome.label().to_owned())]).collect();
        let first = spans.iter().map(|span| span.start).min().unwrap_or_default();
        let last = spans.iter().map(end).max().unwrap_or_default();
        self.observe("traces_trace_duration_seconds", whole, &DURATIONS, last - first);
        let mut services: Vec<&str> = spans.iter().map(|span| planned.service(span)).collect();
        services.sort_unstable();
        services.dedup();
        for (name, number) in [
            ("traces_trace_spans", spans.len() as u64),
            ("traces_trace_services", services.len() as u64),
            ("traces_trace_depth", planned.depth(top)),
        ] {
            self.observe(name, shape.clone(), &NUMBERS, number * SECOND);
        }
        if top.parent == 0 {
            let mut path = Vec::new();
            planned.walk(top, (top.start, end(top)), &mut path);
            for (span, ns) in path {
                let labels = vec![
                    ("operation", planned.operation(span).to_owned()),
                    root("root_operation", &operation),
                    root("root_service", &service),
                    ("service", planned.service(span).to_owned()),
                ];
                self.last("traces_critical_path_seconds_total", labels, ns);
            }
        }
        spans.iter().for_each(|span| self.span(&planned, span));
    }

    fn span(&mut self, planned: &Planned<'_>, span: &Span) {
        let (service, operation) = (planned.service(span).to_owned(), planned.operation(span).to_owned());
        let kind = planned.topology.ops[span.op as usize].kind.label().to_owned();
        let labels = vec![("kind", kind.clone()), ("operation", operation.clone()), ("service", service.clone())];
        self.last("traces_self_time_seconds_total", labels, planned.self_time(span));
        let failed = span.outcome == Outcome::Error;
        let below = planned.children(span).iter().any(|child| child.outcome == Outcome::Error);
        let name = match (failed, below) {
            (true, false) => Some("traces_error_origin_total"),
            (false, true) => Some("traces_error_swallowed_total"),
            _ => None,
        };
        if let Some(name) = name {
            let error = if failed && span.exception { EXCEPTION } else { "" };
            let labels = vec![
                ("error_type", error.to_owned()),
                ("operation", operation.clone()),
                ("root_service", planned.service(planned.top).to_owned()),
                ("service", service.clone()),
            ];
            *self.counts.entry((name, labels)).or_default() += 1;
        }
        let labels = vec![
            ("is_root", (span.parent == 0).to_string()),
            ("service", service),
            ("span_kind", kind),
            ("span_name", operation),
            ("status_code", span.outcome.label().to_owned()),
        ];
        *self.counts.entry(("traces_spanmetrics_by_root_calls_total", labels.clone())).or_default() += 1;
        self.observe("traces_spanmetrics_by_root_latency", labels, &SPAN_BOUNDS, end(span) - span.start);
    }

    fn last(&mut self, name: &'static str, labels: Labels, ns: u64) {
        if ns > 0 {
            *self.nanos.entry((name, labels)).or_default() += u128::from(ns);
        }
    }

    fn observe(&mut self, name: &'static str, labels: Labels, bounds: &[Bound], ns: u64) {
        self.histograms.entry((name, labels)).or_default().observe(bounds, ns);
    }

    /// Adds everything as text series.
    pub(super) fn spell(&self, series: &mut Series) {
        for ((name, labels), n) in &self.counts {
            series.count(name, &borrowed(labels), *n);
        }
        for ((name, labels), ns) in &self.nanos {
            series.sum(name, &borrowed(labels), *ns);
        }
        for ((name, labels), histogram) in &self.histograms {
            let bounds: &[Bound] = match *name {
                "traces_trace_duration_seconds" => &DURATIONS,
                "traces_spanmetrics_by_root_latency" => &SPAN_BOUNDS,
                _ => &NUMBERS,
            };
            histogram.spell(name, bounds, &borrowed(labels), series);
        }
    }
}

/// What the ledger has of the trace.
fn count_order(planned: &Planned<'_>, ledger: &mut Ledger) {
    let spans = planned.spans.len() as u64;
    ledger.add(Counter::TraceSpans, spans);
    ledger.add(Counter::TraceSpansClosed, spans);
    ledger.add(Counter::TracesClosedIdle, 1);
    ledger.add(Counter::TraceSpansOrphaned, u64::from(planned.top.parent != 0));
    for span in planned.spans {
        for child in planned.children(span) {
            ledger.add(Counter::TraceSpansEarly, u64::from(child.start < span.start));
            ledger.add(Counter::TraceSpansOutliving, u64::from(end(child) > end(span)));
        }
    }
}

fn end(span: &Span) -> u64 {
    span.end.max(span.start)
}

fn borrowed(labels: &Labels) -> Vec<(&str, &str)> {
    labels.iter().map(|(name, value)| (*name, value.as_str())).collect()
}
