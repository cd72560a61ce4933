//! Counts the planned spans and edges, densely: a cell per operation and outcome, a cell per edge.

use super::expect::{Bound, EDGE_BOUNDS, Expectation, SPAN_BOUNDS, Series};
use super::plan::expired;
use super::steps::Steps;
use super::template::{Outcome, Span};
use super::topology::{LoadSpanKind, Op, Topology};
use super::whole::WholeTraces;
use crate::core::model::{Counter, Ledger};

/// What a generator has planned so far.
#[derive(Debug, Clone)]
pub(super) struct Count {
    spans: Vec<SpanCell>,
    edges: Vec<EdgeCell>,
    pub(super) edge_bounds: &'static [Bound],
    pub(super) ledger: Ledger,
    /// The counts by step, if requested.
    pub(super) steps: Option<Steps>,
    /// Whole traces, if requested.
    pub(super) whole: Option<WholeTraces>,
}

/// One edge that was planned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    /// Whether either side failed.
    pub(super) failed: bool,
    /// The latency of the client side, nanoseconds; 0 where it is missing.
    pub(super) client: u64,
    /// The latency of the server side, nanoseconds; 0 where it is missing.
    pub(super) server: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SpanCell {
    size: u64,
    latency: Histogram<15>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct EdgeCell {
    total: u64,
    failed: u64,
    server: Histogram<MAX_EDGE_BUCKETS>,
    client: Histogram<MAX_EDGE_BUCKETS>,
}

/// Room for the buckets of an edge's histograms, the one without a bound included.
pub(super) const MAX_EDGE_BUCKETS: usize = 16;

/// At most `N` buckets, the last one without a bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Histogram<const N: usize> {
    counts: [u64; N],
    sum_ns: u128,
}

// === impl Count ===

impl Count {
    pub(super) fn new(topology: &Topology) -> Self {
        Self {
            spans: vec![SpanCell::default(); topology.ops.len() * Outcome::ALL.len()],
            edges: vec![EdgeCell::default(); topology.edges.len()],
            edge_bounds: &EDGE_BOUNDS,
            ledger: Ledger::default(),
            steps: None,
            whole: None,
        }
    }

    /// Counts a span of operation number `index`.
    pub(super) fn span(&mut self, index: usize, op: &Op, span: &Span, ns: u64) {
        self.spans[cell_of(index, span)].add(op, span, ns);
        self.ledger.add(Counter::SpansRead, 1);
        self.ledger.add(Counter::SpansCounted, 1);
        self.ledger.add(Counter::EdgeSpans, u64::from(op.kind.has_edge()));
    }

    /// Counts an edge that ends in a series, with the IDs of the spans that make it.
    pub(super) fn completed<const N: usize>(&mut self, index: usize, edge: Edge, spans: [u64; N]) {
        if let Some(steps) = &mut self.steps {
            steps.expect(index, edge, &spans);
        }
        self.edge(Counter::EdgesCompleted, index, edge);
    }

    /// Counts an edge with a side that sends no spans. It ends in a series when its wait is over.
    pub(super) fn virtual_node(&mut self, index: usize, edge: Edge) {
        self.edge(Counter::EdgesVirtual, index, edge);
    }

    fn edge(&mut self, how: Counter, index: usize, edge: Edge) {
        self.edges[index].add(self.edge_bounds, &edge);
        self.ledger.add(Counter::EdgesOpened, 1);
        self.ledger.add(how, 1);
    }

    /// Counts a pending edge of `kind` whose other half never comes.
    pub(super) fn expired(&mut self, kind: LoadSpanKind) {
        if let Some(counter) = expired(kind) {
            self.ledger.add(Counter::EdgesOpened, 1);
            self.ledger.add(counter, 1);
        }
    }

    /// The counts as text series.
    pub(super) fn expectation(&self, topology: &Topology) -> Expectation {
        let mut series = Series::default();
        for (i, cell) in self.spans.iter().enumerate().filter(|(_, c)| c.latency.count() > 0) {
            cell.spell(&span_labels(topology, i), &mut series);
        }
        for (i, cell) in self.edges.iter().enumerate().filter(|(_, c)| c.total > 0) {
            cell.spell(self.edge_bounds, &edge_labels(topology, i), &mut series);
        }
        if let Some(whole) = &self.whole {
            whole.spell(&mut series);
        }
        Expectation::new(series, self.ledger.clone())
    }
}

/// The cell of a span of operation number `index`.
pub(super) fn cell_of(index: usize, span: &Span) -> usize {
    index * Outcome::ALL.len() + span.outcome as usize
}

/// The labels of a cell of spans, sorted by name.
pub(super) fn span_labels(topology: &Topology, cell: usize) -> [(&str, &str); 4] {
    let op = &topology.ops[cell / Outcome::ALL.len()];
    [
        ("service", &*topology.services[op.service].name),
        ("span_kind", op.kind.label()),
        ("span_name", &*op.name),
        ("status_code", Outcome::ALL[cell % Outcome::ALL.len()].label()),
    ]
}

/// The labels of an edge, sorted by name.
pub(super) fn edge_labels(topology: &Topology, edge: usize) -> [(&str, &str); 3] {
    let labels = &topology.edges[edge];
    [("client", &*labels.client), ("connection_type", labels.connection), ("server", &*labels.server)]
}

// === impl SpanCell ===

impl SpanCell {
    pub(super) fn add(&mut self, op: &Op, span: &Span, ns: u64) {
        self.size += op.template.len(span) as u64;
        self.latency.observe(&SPAN_BOUNDS, ns);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.size += other.size;
        self.latency.merge(&other.latency);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.latency.count() == 0
    }

    pub(super) fn spell(&self, labels: &[(&str, &str)], series: &mut Series) {
        series.count("traces_spanmetrics_calls_total", labels, self.latency.count());
        series.count("traces_spanmetrics_size_total", labels, self.size);
        self.latency.spell("traces_spanmetrics_latency", &SPAN_BOUNDS, labels, series);
    }
}

// === impl EdgeCell ===

impl EdgeCell {
    pub(super) fn add(&mut self, bounds: &[Bound], edge: &Edge) {
        self.total += 1;
        self.failed += u64::from(edge.failed);
        self.server.observe(bounds, edge.server);
        self.client.observe(bounds, edge.client);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.total += other.total;
        self.failed += other.failed;
        self.server.merge(&other.server);
        self.client.merge(&other.client);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.total == 0
    }

    pub(super) fn spell(&self, bounds: &[Bound], labels: &[(&str, &str)], series: &mut Series) {
        series.count("traces_service_graph_request_total", labels, self.total);
        if self.failed > 0 {
            series.count("traces_service_graph_request_failed_total", labels, self.failed);
        }
        self.server.spell("traces_service_graph_request_server_seconds", bounds, labels, series);
        self.client.spell("traces_service_graph_request_client_seconds", bounds, labels, series);
    }
}

// === impl Histogram ===

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { counts: [0; N], sum_ns: 0 }
    }
}

impl<const N: usize> Histogram<N> {
    pub(super) fn observe(&mut self, bounds: &[Bound], ns: u64) {
        let bucket = bounds.iter().take_while(|&&(bound, _)| ns > bound).count();
        self.counts[bucket] += 1;
        self.sum_ns += u128::from(ns);
    }

    fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum_ns += other.sum_ns;
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn spell(&self, name: &str, bounds: &[Bound], labels: &[(&str, &str)], series: &mut Series) {
        let mut so_far = 0;
        for (count, le) in self.counts.iter().zip(bounds.iter().map(|&(_, le)| le).chain(["+Inf"])) {
            so_far += count;
            series.bucket(name, labels, le, so_far);
        }
        series.count(&format!("{name}_count"), labels, so_far);
        series.sum(&format!("{name}_sum"), labels, self.sum_ns);
    }
}
