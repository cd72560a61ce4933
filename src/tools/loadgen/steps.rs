//! The counts of each step, by the timestamps of records alone.
//!
//! A cell per step and operation or edge, so memory follows the topology and the time, and not the spans.

use std::collections::BTreeMap;

use super::count::{Edge, EdgeCell, SpanCell, cell_of, edge_labels, span_labels};
use super::expect::{Bound, STEPS, Series};
use super::template::{Outcome, Span};
use super::topology::Topology;
use crate::core::model::hash::Map;
use crate::core::model::{Millis, StepWidth};

/// An account by step.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    width: StepWidth,
    /// How many cells a step has: of spans, and of edges.
    cells: (usize, usize),
    /// By the step's end.
    steps: BTreeMap<Millis, Cells>,
    /// Edges whose spans are not all sent, by the IDs of those that are missing.
    open: Map<u64, u64>,
    edges: Map<u64, Open>,
    numbered: u64,
}

/// The counts that one step adds.
#[derive(Debug, Clone)]
struct Cells {
    spans: Vec<SpanCell>,
    edges: Vec<EdgeCell>,
}

/// An edge that is in flight.
#[derive(Debug, Clone, Copy)]
struct Open {
    index: usize,
    edge: Edge,
    missing: usize,
}

/// The values of series by step, as an expectation file holds them.
pub type StepValues = BTreeMap<String, Vec<(Millis, f64)>>;

/// How an expectation file writes the steps of a series: `# steps name{labels} step=value ...`, where a step is its end
/// in milliseconds and the value the one that it ends with.
#[must_use]
pub fn step_line(series: &str, values: &[(Millis, f64)]) -> String {
    let values: String = values.iter().map(|(step, value)| format!(" {step}={value}")).collect();
    format!("{STEPS}{series}{values}\n")
}

/// The steps in an expectation file; `None` if a line does not hold them.
#[must_use]
pub fn parse_steps(text: &str) -> Option<StepValues> {
    let value = |word: &str| {
        let (step, value) = word.split_once('=')?;
        Some((step.parse().ok()?, value.parse().ok()?))
    };
    let line = |line: &str| {
        let (series, values) = line.rsplit_once("} ")?;
        Some((format!("{series}}}"), values.split(' ').map(value).collect::<Option<Vec<_>>>()?))
    };
    text.lines().filter_map(|content| content.strip_prefix(STEPS)).map(line).collect()
}

// === impl Steps ===

impl Steps {
    pub(super) fn new(width: StepWidth, topology: &Topology) -> Self {
        let cells = (topology.ops.len() * Outcome::ALL.len(), topology.edges.len());
        Self { width, cells, steps: BTreeMap::new(), open: Map::default(), edges: Map::default(), numbered: 0 }
    }

    /// An edge will be complete when all `spans` are sent.
    pub(super) fn expect(&mut self, index: usize, edge: Edge, spans: &[u64]) {
        self.numbered += 1;
        self.edges.insert(self.numbered, Open { index, edge, missing: spans.len() });
        self.open.extend(spans.iter().map(|&span| (span, self.numbered)));
    }

    /// A record with this timestamp is sent, the greatest so far.
    pub(super) fn record(&mut self, timestamp: Millis, topology: &Topology, bounds: &[Bound], spans: &[Span]) {
        let Self { cells: (ops, edges), steps, .. } = self;
        let new = || Cells { spans: vec![SpanCell::default(); *ops], edges: vec![EdgeCell::default(); *edges] };
        let step = steps.entry(self.width.end_of(timestamp)).or_insert_with(new);
        for span in spans {
            let op = span.op as usize;
            step.spans[cell_of(op, span)].add(&topology.ops[op], span, span.end.saturating_sub(span.start));
            let Some(number) = self.open.remove(&span.id) else { continue };
            let Some(open) = self.edges.get_mut(&number) else { continue };
            open.missing -= 1;
            if open.missing == 0 {
                step.edges[open.index].add(bounds, &open.edge);
                self.edges.remove(&number);
            }
        }
    }

    /// Passes the values of every series to the caller. Series with the same labels add up, so cells are grouped by the
    /// labels that they share.
    pub(super) fn each_series<E>(
        &self,
        topology: &Topology,
        bounds: &[Bound],
        mut each: impl FnMut(&str, &[(Millis, f64)]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (labels, cells) in grouped(self.cells.0, |cell| span_labels(topology, cell)) {
            let mut total = SpanCell::default();
            let values = self.values(|step, series| {
                cells.iter().for_each(|&cell| total.merge(&step.spans[cell]));
                if !total.is_empty() {
                    total.spell(&labels, series);
                }
            });
            values.iter().try_for_each(|(series, values)| each(series, values))?;
        }
        for (labels, cells) in grouped(self.cells.1, |edge| edge_labels(topology, edge)) {
            let mut total = EdgeCell::default();
            let values = self.values(|step, series| {
                cells.iter().for_each(|&cell| total.merge(&step.edges[cell]));
                if !total.is_empty() {
                    total.spell(bounds, &labels, series);
                }
            });
            values.iter().try_for_each(|(series, values)| each(series, values))?;
        }
        Ok(())
    }

    /// The values of some series at the end of every step that changes them. `spell` gives them step by step.
    fn values(&self, mut spell: impl FnMut(&Cells, &mut Series)) -> StepValues {
        let mut values = StepValues::new();
        for (&at, step) in &self.steps {
            let mut series = Series::default();
            spell(step, &mut series);
            for (name, value) in series.values() {
                let known = values.entry(name).or_default();
                // A bucket is there with its histogram, also while it is empty.
                if known.last().is_none_or(|(_, last)| last.to_bits() != value.to_bits()) {
                    known.push((at, value));
                }
            }
        }
        values
    }
}

/// Numbers below `n` by what they have in common.
fn grouped<K: Ord>(n: usize, key: impl Fn(usize) -> K) -> BTreeMap<K, Vec<usize>> {
    let mut groups: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    (0..n).for_each(|i| groups.entry(key(i)).or_default().push(i));
    groups
}
