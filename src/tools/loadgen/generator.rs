//! Traces in event time → records in the order in which they are sent.
//!
//! The clock is the number of spans: a load of `rate` spans per second is one second older after `rate` spans. Most
//! traces are sent at once. Some are sent in two or three parts, up to [`SPREAD`] later, so that the halves of an edge
//! meet across records. In groups by partition a record waits for more spans, at most [`LINGER`]. Two halves are thus
//! never more than 4 s of stream time apart, less than half of what a service graph waits by default.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::count::{Count, MAX_EDGE_BUCKETS};
use super::dice::Dice;
use super::expect::{Bound, Expectation};
use super::hash::partition_of;
use super::pack::Packer;
use super::plan::{Planner, settle};
use super::steps::Steps;
use super::template::{Span, hex};
use super::topology::Topology;
use super::whole::WholeTraces;
use crate::core::model::{Counter, Millis, StepWidth};

/// One Kafka record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The trace ID in lower-case hex, as the Collector's `partition_traces_by_id` has it. In groups by partition it is
    /// the trace of the first span.
    pub key: [u8; 32],
    /// An encoded `ExportTraceServiceRequest`.
    pub value: Vec<u8>,
    /// The record's timestamp. Never smaller than that of the record before.
    pub timestamp: Millis,
    /// The number of spans.
    pub spans: u32,
    /// The partition that it must go to; `None` leaves that to the key.
    pub partition: Option<u32>,
}

/// How spans are grouped into a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Spans of one trace, as the Collector's Kafka exporter does.
    Trace,
    /// Traces of one partition, out of so many, until the record is full: the shape of high throughput. The partition
    /// is the one that Kafka's default partitioner gives to the trace ID in hex.
    Partition(u32),
}

/// How to generate a load from a topology.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// The event time of the first trace.
    pub start: Millis,
    /// Spans per second of event time. At least 1.
    pub rate: u64,
    /// No trace begins once there are this many spans; `None` continues for ever.
    pub spans: Option<u64>,
    /// How often an operation fails by itself, 0 to 1. Failures spread to callers.
    pub error_share: f64,
    /// The most spans in a record. At least 1.
    pub spans_per_record: usize,
    /// How spans are grouped into a record.
    pub group: Group,
}

/// Generates records, and their expected counts. It is an endless iterator unless [`Options::spans`] is set or
/// [`Generator::stop`] is called; then it ends after the last part of the last trace.
#[derive(Debug, Clone)]
pub struct Generator {
    topology: Topology,
    options: Options,
    errors: u32,
    dice: Dice,
    count: Count,
    packer: Packer,
    /// The sum of all weights of entries.
    weights: u64,
    stopped: bool,
    /// Event time of the records that are being sent.
    now: Millis,
    late: BinaryHeap<Reverse<Part>>,
    parts: u64,
    /// Records under construction, by partition.
    open: Vec<Open>,
    /// When records under construction must go, in order: (time, partition, the record's number there).
    due: VecDeque<(Millis, usize, u64)>,
    ready: VecDeque<Record>,
}

/// A part of a trace that is sent later.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    at: Millis,
    number: u64,
    spans: Vec<Span>,
}

/// A record under construction.
#[derive(Debug, Clone, Default)]
struct Open {
    number: u64,
    /// Traces for this record begin here, so that it holds the spans of few services.
    entry: usize,
    spans: Vec<Span>,
}

/// How often, per million, a trace is sent in parts.
const IN_PARTS: u32 = 100_000;
/// The last part of a trace is sent at most this much later than the first.
const SPREAD: Millis = 2_000;
/// A record under construction waits at most this long.
const LINGER: Millis = 2_000;

// === impl Options ===

impl Default for Options {
    /// An endless load of 10,000 spans per second from the epoch on, 1 % errors, up to 100 spans of one trace a record.
    fn default() -> Self {
        Self { start: 0, rate: 10_000, spans: None, error_share: 0.01, spans_per_record: 100, group: Group::Trace }
    }
}

// === impl Part ===

impl Ord for Part {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

// === impl Generator ===

impl Generator {
    /// A generator at its first trace.
    #[must_use]
    pub fn new(topology: Topology, seed: u64, options: Options) -> Self {
        let partitions = match options.group {
            Group::Trace => 0,
            Group::Partition(n) => n.max(1) as usize,
        };
        Self {
            errors: (options.error_share.clamp(0.0, 1.0) * 1e6).round() as u32,
            dice: Dice::new(seed),
            count: Count::new(&topology),
            packer: Packer::default(),
            weights: topology.entries.iter().map(|e| e.weight).sum(),
            stopped: false,
            now: options.start,
            late: BinaryHeap::new(),
            parts: 0,
            open: vec![Open::default(); partitions],
            due: VecDeque::new(),
            ready: VecDeque::new(),
            topology,
            options,
        }
    }

    /// Expects a worker whose service graphs have these buckets, ascending, instead of the default ones; at most 15.
    #[must_use]
    pub fn with_edge_bounds(mut self, bounds: &'static [Bound]) -> Self {
        self.count.edge_bounds = &bounds[..bounds.len().min(MAX_EDGE_BUCKETS - 1)];
        self
    }

    /// Keeps account of steps of this width as well; see [`Generator::each_step`].
    #[must_use]
    pub fn with_steps(mut self, width: StepWidth) -> Self {
        self.count.steps = Some(Steps::new(width, &self.topology));
        self
    }

    /// Expects a worker that has `traces.duration`, `critical_path`, `errors` and `span_metrics` on as well.
    #[must_use]
    pub fn with_whole_traces(mut self) -> Self {
        self.count.whole = Some(WholeTraces::default());
        self
    }

    /// Passes to `each` every series that span metrics and completed edges make, sorted by their labels, with its value
    /// at the end of every step in which it changes: exact once the iterator has ended. What belongs to which step
    /// follows from the timestamps of records, which ascend: a span is in the step of its record, an edge in that of
    /// the record that completes it. Edges with a virtual node are skipped: they belong to the step in which their wait
    /// is over, which the other records of their partition decide. Nothing without [`Generator::with_steps`].
    ///
    /// # Errors
    /// Whatever `each` returns; it ends the iteration.
    pub fn each_step<E>(&self, each: impl FnMut(&str, &[(Millis, f64)]) -> Result<(), E>) -> Result<(), E> {
        match &self.count.steps {
            Some(steps) => steps.each_series(&self.topology, self.count.edge_bounds, each),
            None => Ok(()),
        }
    }

    /// Begins no further trace. Traces that have begun are still sent.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// The expected counts of the spans planned so far: exact once the iterator has ended.
    #[must_use]
    pub fn expectation(&self) -> Expectation {
        self.count.expectation(&self.topology)
    }

    /// Spans planned so far.
    fn spans(&self) -> u64 {
        self.count.ledger.get(Counter::SpansRead)
    }

    /// The event time of the next trace.
    fn clock(&self) -> Millis {
        let ms = u128::from(self.spans()) * 1_000 / u128::from(self.options.rate.max(1));
        self.options.start.saturating_add(Millis::try_from(ms).unwrap_or(Millis::MAX))
    }

    /// Plans the next trace and sends the parts that are not sent later.
    fn begin_trace(&mut self) {
        self.advance(self.clock());
        let trace = self.dice.trace_id();
        let entry = self.entry(trace);
        let mut spans = Vec::with_capacity(32);
        let (topology, dice, count) = (&self.topology, &mut self.dice, &mut self.count);
        Planner { topology, dice, count, spans: &mut spans, trace, errors: self.errors }.trace(entry);
        if let Some(whole) = &mut self.count.whole {
            whole.trace(&self.topology, &spans, &mut self.count.ledger);
        }
        settle(&mut spans, u64::try_from(self.now).unwrap_or(0).saturating_mul(1_000_000));
        if self.dice.bits() & 1 == 0 {
            spans.reverse();
        }
        if self.dice.hits(IN_PARTS) {
            self.send_in_parts(&spans);
        } else {
            self.send(spans);
        }
    }

    /// Where a trace begins: anywhere, or where the open record of its partition has begun.
    fn entry(&mut self, trace: [u8; 16]) -> usize {
        if let Group::Partition(partitions) = self.options.group {
            let open = &self.open[partition_of(&key(trace), partitions) as usize];
            if !open.spans.is_empty() {
                return open.entry;
            }
        }
        let mut at = self.dice.below(self.weights.max(1));
        let passes = |e: &super::topology::EntryPoint| {
            let here = at < e.weight;
            at = at.saturating_sub(e.weight);
            here
        };
        let entry = self.topology.entries.iter().position(passes).unwrap_or(0);
        if let Group::Partition(partitions) = self.options.group {
            self.open[partition_of(&key(trace), partitions) as usize].entry = entry;
        }
        entry
    }

    /// Sends a trace in two or three parts, each with the spans of other services.
    fn send_in_parts(&mut self, spans: &[Span]) {
        let (bits, parts) = (self.dice.bits(), 2 + self.dice.below(2));
        let part_of = |s: &Span| {
            let service = self.topology.ops[s.op as usize].service as u64 + 1;
            (service.wrapping_mul(bits | 1) >> 32) % parts
        };
        let split: Vec<Vec<Span>> =
            (0..parts).map(|p| spans.iter().filter(|s| part_of(s) == p).copied().collect()).collect();
        for spans in split.into_iter().filter(|s| !s.is_empty()) {
            let at = self.now + self.dice.below(SPREAD as u64 + 1) as Millis;
            self.parts += 1;
            self.late.push(Reverse(Part { at, number: self.parts, spans }));
        }
    }

    /// Advances event time to `to`, and sends everything that is due until then, in order.
    fn advance(&mut self, to: Millis) {
        loop {
            let part = self.late.peek().map_or(Millis::MAX, |Reverse(p)| p.at);
            let record = self.due.front().map_or(Millis::MAX, |d| d.0);
            if part.min(record) > to || part.min(record) == Millis::MAX {
                break;
            }
            if record <= part {
                self.linger_over();
            } else if let Some(Reverse(part)) = self.late.pop() {
                self.now = self.now.max(part.at);
                self.send(part.spans);
            }
        }
        self.now = self.now.max(to);
    }

    /// Sends the rest, each part at its time.
    fn advance_to_the_end(&mut self) {
        loop {
            let part = self.late.peek().map(|Reverse(p)| p.at);
            let record = self.due.front().map(|d| d.0);
            let Some(next) = part.into_iter().chain(record).min() else { break };
            self.advance(next);
        }
    }

    /// Closes the record that has waited longest, if it is still under construction.
    fn linger_over(&mut self) {
        if let Some((at, partition, number)) = self.due.pop_front()
            && self.open[partition].number == number
        {
            self.now = self.now.max(at);
            self.close(partition);
        }
    }

    /// Sends spans of one trace now: as a record, or into the open record of their partition.
    fn send(&mut self, spans: Vec<Span>) {
        let most = self.options.spans_per_record.max(1);
        let (Group::Partition(partitions), Some(first)) = (self.options.group, spans.first()) else {
            spans.chunks(most).for_each(|chunk| self.emit(chunk, None));
            return;
        };
        let partition = partition_of(&key(first.trace), partitions) as usize;
        for span in spans {
            let open = &mut self.open[partition];
            if open.spans.is_empty() {
                self.due.push_back((self.now + LINGER, partition, open.number));
            }
            open.spans.push(span);
            if open.spans.len() >= most {
                self.close(partition);
            }
        }
    }

    /// Finishes the record under construction of a partition.
    fn close(&mut self, partition: usize) {
        let open = &mut self.open[partition];
        open.number += 1;
        let mut spans = std::mem::take(&mut open.spans);
        self.emit(&spans, Some(partition as u32));
        spans.clear();
        self.open[partition].spans = spans;
    }

    fn emit(&mut self, spans: &[Span], partition: Option<u32>) {
        let Some(first) = spans.first() else { return };
        let value = self.packer.pack(&self.topology, spans);
        if let Some(steps) = &mut self.count.steps {
            steps.record(self.now, &self.topology, self.count.edge_bounds, spans);
        }
        self.count.ledger.add(Counter::RecordsRead, 1);
        self.count.ledger.add(Counter::BytesRead, value.len() as u64);
        let (key, timestamp, spans) = (key(first.trace), self.now, spans.len() as u32);
        self.ready.push_back(Record { key, value, timestamp, spans, partition });
    }
}

impl Iterator for Generator {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        while self.ready.is_empty() {
            if self.stopped || self.options.spans.is_some_and(|most| self.spans() >= most) {
                self.advance_to_the_end();
                return self.ready.pop_front();
            }
            self.begin_trace();
        }
        self.ready.pop_front()
    }
}

/// A trace ID as a record key.
fn key(trace: [u8; 16]) -> [u8; 32] {
    let mut key = [0; 32];
    let (high, low) = key.split_at_mut(16);
    let bits = u128::from_be_bytes(trace);
    high.copy_from_slice(&hex((bits >> 64) as u64));
    low.copy_from_slice(&hex(bits as u64));
    key
}
