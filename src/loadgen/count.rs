//! Counts what was planned, densely: a cell per operation and outcome, a cell per edge.

use super::expect::{Bound, EDGE_BOUNDS, Expectation, SPAN_BOUNDS, Series};
use super::plan::expired;
use super::template::{Outcome, Span};
use super::topology::{Kind, Op, Topology};
use crate::model::{Ledger, Tally};

/// What a generator has planned so far.
#[derive(Debug, Clone)]
pub(super) struct Count {
    spans: Vec<SpanCell>,
    edges: Vec<EdgeCell>,
    pub(super) edge_bounds: &'static [Bound],
    pub(super) ledger: Ledger,
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
struct SpanCell {
    size: u64,
    latency: Histogram<15>,
}

#[derive(Debug, Clone, Copy, Default)]
struct EdgeCell {
    total: u64,
    failed: u64,
    server: Histogram<MAX_EDGE_BUCKETS>,
    client: Histogram<MAX_EDGE_BUCKETS>,
}

/// Room for the buckets of an edge's histograms, the one without a bound included.
pub(super) const MAX_EDGE_BUCKETS: usize = 16;

/// At most `N` buckets, the last one without a bound.
#[derive(Debug, Clone, Copy)]
struct Histogram<const N: usize> {
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
        }
    }

    /// Counts a span of operation number `index`.
    pub(super) fn span(&mut self, index: usize, op: &Op, span: &Span, ns: u64) {
        let cell = &mut self.spans[index * Outcome::ALL.len() + span.outcome as usize];
        cell.size += op.template.len(span) as u64;
        cell.latency.observe(&SPAN_BOUNDS, ns);
        self.ledger.add(Tally::SpansRead, 1);
        self.ledger.add(Tally::SpansCounted, 1);
        self.ledger.add(Tally::EdgeSpans, u64::from(op.kind.has_edge()));
    }

    /// Counts an edge that ends in a series; `how` is `EdgesCompleted` or `EdgesVirtual`.
    pub(super) fn edge(&mut self, how: Tally, index: usize, edge: Edge) {
        let cell = &mut self.edges[index];
        cell.total += 1;
        cell.failed += u64::from(edge.failed);
        cell.server.observe(self.edge_bounds, edge.server);
        cell.client.observe(self.edge_bounds, edge.client);
        self.ledger.add(Tally::EdgesOpened, 1);
        self.ledger.add(how, 1);
    }

    /// Counts a half edge of `kind` whose other half never comes.
    pub(super) fn expired(&mut self, kind: Kind) {
        if let Some(tally) = expired(kind) {
            self.ledger.add(Tally::EdgesOpened, 1);
            self.ledger.add(tally, 1);
        }
    }

    /// Spells everything out.
    pub(super) fn expectation(&self, topology: &Topology) -> Expectation {
        let mut series = Series::default();
        for (i, cell) in self.spans.iter().enumerate().filter(|(_, c)| c.latency.count() > 0) {
            cell.spell(
                &topology.ops[i / Outcome::ALL.len()],
                Outcome::ALL[i % Outcome::ALL.len()],
                topology,
                &mut series,
            );
        }
        for (labels, cell) in topology.edges.iter().zip(&self.edges).filter(|(_, c)| c.total > 0) {
            let labels =
                [("client", &*labels.client), ("connection_type", labels.connection), ("server", &*labels.server)];
            cell.spell(self.edge_bounds, &labels, &mut series);
        }
        Expectation::new(series, self.ledger.clone())
    }
}

// === impl SpanCell ===

impl SpanCell {
    fn spell(&self, op: &Op, outcome: Outcome, topology: &Topology, series: &mut Series) {
        let labels = [
            ("service", &*topology.services[op.service].name),
            ("span_kind", op.kind.label()),
            ("span_name", &*op.name),
            ("status_code", outcome.label()),
        ];
        series.count("traces_spanmetrics_calls_total", &labels, self.latency.count());
        series.count("traces_spanmetrics_size_total", &labels, self.size);
        self.latency.spell("traces_spanmetrics_latency", &SPAN_BOUNDS, &labels, series);
    }
}

// === impl EdgeCell ===

impl EdgeCell {
    fn spell(&self, bounds: &[Bound], labels: &[(&str, &str)], series: &mut Series) {
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
    fn observe(&mut self, bounds: &[Bound], ns: u64) {
        let bucket = bounds.iter().take_while(|&&(bound, _)| ns > bound).count();
        self.counts[bucket] += 1;
        self.sum_ns += u128::from(ns);
    }

    fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn spell(&self, name: &str, bounds: &[Bound], labels: &[(&str, &str)], series: &mut Series) {
        let mut so_far = 0;
        for (count, le) in self.counts.iter().zip(bounds.iter().map(|&(_, le)| le).chain(["+Inf"])) {
            so_far += count;
            series.bucket(name, labels, le, so_far);
        }
        series.count(&format!("{name}_count"), labels, so_far);
        series.sum(&format!("{name}_sum"), labels, self.sum_ns);
    }
}
