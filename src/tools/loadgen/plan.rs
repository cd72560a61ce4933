//! One trace: its spans, their durations, their failures, and the expected counts.

use super::count::{Count, Edge};
use super::dice::Dice;
use super::expect::{EDGE_BOUNDS, SPAN_BOUNDS};
use super::template::{Outcome, Span};
use super::topology::{Caller, Far, LoadSpanKind, Step, Topology};
use crate::core::model::Counter;

/// Plans traces. Times are relative to the start of the trace, in nanoseconds.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    pub(super) topology: &'a Topology,
    pub(super) dice: &'a mut Dice,
    pub(super) count: &'a mut Count,
    /// The spans of the trace, parents before children.
    pub(super) spans: &'a mut Vec<Span>,
    pub(super) trace: [u8; 16],
    /// How often an operation fails by itself, per million.
    pub(super) errors: u32,
}

/// The result of a finished span for its caller.
#[derive(Debug, Clone, Copy)]
struct Over {
    id: u64,
    end: u64,
    ns: u64,
    failed: bool,
}

/// A span that is being planned.
#[derive(Debug, Clone, Copy)]
struct Running {
    index: usize,
    id: u64,
    failed: bool,
}

/// A millisecond in nanoseconds.
const MS: u64 = 1_000_000;

// === impl Planner ===

impl Planner<'_> {
    /// Plans a trace that begins at entry `entry` of the topology.
    pub(super) fn trace(&mut self, entry: usize) {
        let (op, origin) = (self.topology.entries[entry].op, self.topology.entries[entry].origin);
        let parent = if matches!(origin, Caller::Lost) { self.dice.span_id() } else { 0 };
        let over = self.run(op, parent, 0);
        match origin {
            Caller::Nobody => {}
            Caller::Outside { edge } => {
                self.count.virtual_node(edge, Edge { failed: over.failed, client: 0, server: over.ns });
            }
            Caller::Lost => self.count.expired(self.topology.ops[op].kind),
        }
    }

    /// Plans a span of `op` and all that it causes.
    fn run(&mut self, op: usize, parent: u64, start: u64) -> Over {
        let topology = self.topology;
        let mut span = self.begin(op, parent, start);
        let work = self.work(op);
        let mut now = start + work / 2;
        for step in &topology.ops[op].steps {
            if self.dice.hits(step.chance) {
                let (end, failed) = self.step(step, span.id, now);
                span.failed |= failed && self.dice.hits(500_000);
                now = end;
            }
        }
        self.finish(op, span, now + (work - work / 2))
    }

    /// Plans one step; returns when the caller continues, and whether the step failed.
    fn step(&mut self, step: &Step, parent: u64, start: u64) -> (u64, bool) {
        match step.far {
            Far::Inside => {
                let over = self.run(step.op, parent, start);
                (over.end, over.failed)
            }
            Far::Server { op, edge } => self.call(step.op, op, edge, parent, start),
            Far::Consumer { op, edge } => {
                let sent = self.run(step.op, parent, start);
                let lag = MS + self.dice.below(60 * MS);
                let taken = self.run(op, sent.id, sent.end + lag);
                let failed = sent.failed || taken.failed;
                let both = Edge { failed, client: sent.ns, server: taken.ns };
                self.count.completed(edge, both, [sent.id, taken.id]);
                (sent.end, sent.failed)
            }
            Far::Database { edge } => {
                let over = self.run(step.op, parent, start);
                let labels = Edge { failed: over.failed, client: over.ns, server: over.ns };
                self.count.completed(edge, labels, [over.id]);
                (over.end, over.failed)
            }
            Far::Peer { edge } => {
                let over = self.run(step.op, parent, start);
                self.count.virtual_node(edge, Edge { failed: over.failed, client: over.ns, server: 0 });
                (over.end, over.failed)
            }
            Far::Lost => {
                let over = self.run(step.op, parent, start);
                self.count.expired(self.topology.ops[step.op].kind);
                (over.end, over.failed)
            }
        }
    }

    /// A client span around a server span.
    fn call(&mut self, client: usize, server: usize, edge: usize, parent: u64, start: u64) -> (u64, bool) {
        let mut span = self.begin(client, parent, start);
        let there = start + self.work(client) / 2;
        let served = self.run(server, span.id, there);
        span.failed |= served.failed && self.dice.hits(800_000);
        let back = self.work(client) / 2;
        let over = self.finish(client, span, served.end + back);
        let failed = over.failed || served.failed;
        let both = Edge { failed, client: over.ns, server: served.ns };
        self.count.completed(edge, both, [over.id, served.id]);
        (over.end, over.failed)
    }

    fn begin(&mut self, op: usize, parent: u64, start: u64) -> Running {
        let id = self.dice.span_id();
        let fragile = self.topology.ops[op].fragile;
        let errors = (u64::from(self.errors) * u64::from(fragile) / 100).min(1_000_000) as u32;
        let (outcome, exception) = (Outcome::Unset, false);
        let index = self.spans.len();
        self.spans.push(Span { trace: self.trace, id, parent, start, end: start, op: op as u32, outcome, exception });
        Running { index, id, failed: self.dice.hits(errors) }
    }

    /// Closes a span and counts it. A leaf that crosses nothing sometimes has a clock that ran backwards, or takes
    /// exactly as long as a bucket is wide.
    fn finish(&mut self, op: usize, span: Running, end: u64) -> Over {
        let (exception, odd) = (span.failed && self.dice.hits(900_000), self.dice.below(8_192));
        let operation = &self.topology.ops[op];
        let leaf = span.index + 1 == self.spans.len();
        let slot = &mut self.spans[span.index];
        slot.end = match odd {
            0 if leaf => slot.start.saturating_sub(MS),
            1..64 if leaf => slot.start + bound_above(end - slot.start),
            _ => end,
        };
        slot.exception = exception;
        slot.outcome = match (span.failed, operation.says_ok) {
            (true, _) => Outcome::Error,
            (false, true) => Outcome::Ok,
            (false, false) => Outcome::Unset,
        };
        let ns = slot.end.saturating_sub(slot.start);
        self.count.span(op, operation, slot, ns);
        Over { id: span.id, end: slot.end.max(slot.start), ns, failed: span.failed }
    }

    /// How long an operation takes by itself this time: around its usual time, with a tail.
    fn work(&mut self, op: usize) -> u64 {
        let usual = self.topology.ops[op].work;
        let bits = self.dice.bits();
        let around = usual / 2 + (((u128::from(bits >> 16) * u128::from(usual)) >> 48) as u64);
        if bits & 63 == 0 { around * (2 + (bits >> 6 & 7)) } else { around }
    }
}

/// The smallest bucket bound of either histogram that is not below `ns`, or `ns` itself above all of them.
fn bound_above(ns: u64) -> u64 {
    let bounds = SPAN_BOUNDS.iter().chain(&EDGE_BOUNDS).map(|&(bound, _)| bound);
    bounds.filter(|&b| b >= ns).min().unwrap_or(ns)
}

/// Moves a planned trace so that its last span ends at `at` (nanoseconds since the epoch).
pub(super) fn settle(spans: &mut [Span], at: u64) {
    let length = spans.iter().map(|s| s.end.max(s.start)).max().unwrap_or(0);
    let base = at.saturating_sub(length);
    for span in spans {
        span.start += base;
        span.end += base;
    }
}

/// The counter of a pending edge of `kind` that expired; `None` for kinds that have no edge.
pub(super) fn expired(kind: LoadSpanKind) -> Option<Counter> {
    match kind {
        LoadSpanKind::Client => Some(Counter::EdgesExpiredClient),
        LoadSpanKind::Server => Some(Counter::EdgesExpiredServer),
        LoadSpanKind::Producer => Some(Counter::EdgesExpiredProducer),
        LoadSpanKind::Consumer => Some(Counter::EdgesExpiredConsumer),
        LoadSpanKind::Unspecified | LoadSpanKind::Internal => None,
    }
}
