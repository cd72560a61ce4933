//! The window: which traces are open, which are remembered, and when they close.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use hashbrown::HashTable;

use super::calls::Problem;
use super::emit::{Emission, NANOS_PER_MILLI};
use super::list::{ListedClosed, ListedTrace, TraceList};
use super::rules::RuleBook;
use super::spans::{HeldSpans, NONE};
use super::tree::{TraceSpan, TraceTree};
use crate::core::deltas::DeltaTable;
use crate::core::model::labels::cut_bytes;
use crate::core::model::wire::Malformed;
use crate::core::model::{Counter, Ledger, Millis, NameId, Names, Seed};
use crate::core::otlp::{Attributes, Span};
use crate::core::settings::{Tenants, Traces};

/// All open traces together hold at most this many times `max_traces` spans.
pub const SPANS_PER_TRACE: usize = 20;
/// What a remembered trace takes: 40 bytes in the queue, and its part of the index.
const REMEMBERED: usize = 56;

/// Holds the spans of open traces.
#[derive(Debug)]
pub struct TraceWindow {
    book: RuleBook,
    limits: Traces,
    seed: Seed,
    names: Names,
    spans: HeldSpans,
    /// Open traces by slot.
    open: Vec<Option<OpenTrace>>,
    free: Vec<u32>,
    by_key: HashTable<u32>,
    /// When traces may be due. An entry counts if it is the one that its trace has.
    due: BinaryHeap<Reverse<(Millis, u32)>>,
    /// Closed traces, the oldest first, and when they closed.
    closed: VecDeque<(TraceKey, Millis)>,
    /// Numbers of closed traces since the start: the first of `closed` has `forgotten`.
    by_closed: HashTable<u64>,
    forgotten: u64,
    tree: TraceTree,
    /// A raw key under construction.
    key: Vec<u8>,
    rebuild: Option<Rebuild>,
}

/// Where values and counters go.
#[derive(Debug)]
pub struct TraceSink<'a> {
    /// Deltas of closed traces.
    pub table: &'a mut DeltaTable,
    /// The ledger of spans and traces.
    pub ledger: &'a mut Ledger,
}

/// A trace that closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// The stream time at which its last span came.
    pub last: Millis,
    /// When its last span ended.
    pub ended: Millis,
    /// How long after its last span it closes.
    pub wait: Millis,
}

/// The spans of one resource in a record. Valid until the next record.
#[derive(Debug, Clone, Copy)]
pub struct TraceBlock<'a> {
    tenant: NameId,
    service: NameId,
    resource: Attributes<'a>,
    /// The place of the tenant's rules.
    rules: usize,
    at: (i64, Millis),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TraceKey {
    id: [u8; 16],
    tenant: NameId,
}

#[derive(Debug, Clone, Copy)]
struct OpenTrace {
    key: TraceKey,
    ordinal: u32,
    offset: i64,
    created: Millis,
    last: Millis,
    /// Its entry among those that may be due.
    queued: Millis,
    /// Its spans.
    head: u32,
    spans: u32,
}

/// The open traces of a commit, while they are being rebuilt.
#[derive(Debug)]
struct Rebuild {
    listed: Vec<ListedTrace>,
    at: usize,
    /// Spans that are listed and have not come back.
    missing: u64,
}

#[derive(Debug, Clone, Copy)]
enum Reason {
    Idle,
    Age,
    Full,
}

// === impl TraceWindow ===

impl TraceWindow {
    /// Nothing open; `None` if no tenant has metrics of traces.
    #[must_use]
    pub fn new(tenants: &Tenants, seed: Seed) -> Option<Self> {
        RuleBook::is_enabled(tenants).then(|| Self {
            book: RuleBook::new(tenants),
            limits: limits_of(tenants),
            seed,
            names: Names::new(seed),
            spans: HeldSpans::default(),
            open: Vec::new(),
            free: Vec::new(),
            by_key: HashTable::new(),
            due: BinaryHeap::new(),
            closed: VecDeque::new(),
            by_closed: HashTable::new(),
            forgotten: 0,
            tree: TraceTree::default(),
            key: Vec::new(),
            rebuild: None,
        })
    }

    /// Continues with other settings. Open traces are kept, and close by the new ones.
    pub fn reconfigure(&mut self, tenants: &Tenants) {
        self.book = RuleBook::new(tenants);
        self.limits = limits_of(tenants);
        for slot in 0..self.open.len() as u32 {
            self.queue(slot);
        }
    }

    /// Starts with the spans of one resource; `None` if its tenant has no metrics of traces.
    pub fn block<'a>(
        &mut self,
        (offset, stream_time): (i64, Millis),
        tenant: &str,
        (service, resource): (Option<&[u8]>, Attributes<'a>),
    ) -> Option<TraceBlock<'a>> {
        if self.names.is_bloated() {
            self.forget_names();
        }
        let place = self.book.place(tenant.as_bytes());
        let rules = self.book.at(place);
        if !rules.is_enabled() {
            return None;
        }
        let service = self.names.intern(cut_bytes(service.unwrap_or_default(), rules.most));
        let tenant = self.names.intern(tenant.as_bytes());
        Some(TraceBlock { tenant, service, resource, rules: place, at: (offset, stream_time) })
    }

    /// Takes one span. Close what is due first. `ahead` is as for [`TraceWindow::close_due`].
    pub fn span(
        &mut self,
        block: &TraceBlock<'_>,
        span: &Span<'_>,
        ahead: impl Fn(Closing) -> Millis,
        sink: &mut TraceSink<'_>,
    ) {
        sink.ledger.add(Counter::TraceSpans, 1);
        let Some(key) = key_of(block, span) else { return sink.ledger.add(Counter::TraceSpansWithoutId, 1) };
        let (offset, stream_time) = block.at;
        let slot = match self.find(&key) {
            Some(slot) => slot,
            None if self.is_remembered(&key) => return self.late(block, &key, span, sink),
            None if self.by_key.len() >= self.limits.max_traces => {
                return sink.ledger.add(Counter::TraceSpansDroppedFull, 1);
            }
            None => self.open_trace(key, (offset, span.ordinal), (stream_time, stream_time)),
        };
        self.add(slot, block, span);
        let Some(trace) = self.open[slot as usize].as_mut() else { return };
        trace.last = stream_time;
        let full = trace.spans as usize >= self.limits.max_spans;
        if full || self.spans.held() >= self.limits.max_traces.saturating_mul(SPANS_PER_TRACE) {
            self.close(slot, (stream_time, Reason::Full), &ahead, sink);
            sink.table.turn_to(0);
        }
    }

    /// Counts a span whose trace has closed, in the oldest open step.
    fn late(&mut self, block: &TraceBlock<'_>, key: &TraceKey, span: &Span<'_>, sink: &mut TraceSink<'_>) {
        sink.ledger.add(Counter::TraceSpansLate, 1);
        let Self { tree, names, book, key: raw, .. } = self;
        let rules = book.at(block.rules);
        let Some(quality) = rules.quality.clone() else { return };
        let end = span.end_ns.max(span.start_ns);
        let example = rules.exemplars_on_counters.then_some(((end / NANOS_PER_MILLI) as Millis, key.id));
        sink.table.turn_to(0);
        let tenant = names.get(block.tenant);
        let mut emission = Emission { tree, names, rules, tenant, trace_id: key.id, key: raw };
        emission.problem(&quality, (block.service, end - span.start_ns, Problem::Late), example, sink);
    }

    /// Closes every trace that is due at `stream_time`, in the order in which they are, and forgets closed ones. `ahead`
    /// returns how long after the oldest open step the one ends that a trace belongs to.
    pub fn close_due(&mut self, stream_time: Millis, ahead: impl Fn(Closing) -> Millis, sink: &mut TraceSink<'_>) {
        let mut due = Vec::new();
        while let Some((at, slot)) = self.next_entry().filter(|(at, _)| *at <= stream_time) {
            self.due.pop();
            let Some(trace) = self.open[slot as usize].as_mut() else { continue };
            // No entry is its own until it closes.
            trace.queued = Millis::MIN;
            due.push((at, trace.offset, trace.ordinal, slot));
        }
        due.sort_unstable();
        for (at, _, _, slot) in due {
            let Some(trace) = &self.open[slot as usize] else { continue };
            let reason = if self.is_idle(trace) { Reason::Idle } else { Reason::Age };
            self.close(slot, (at, reason), &ahead, sink);
        }
        sink.table.turn_to(0);
        while self.closed.front().is_some_and(|(_, at)| at.saturating_add(self.limits.late) <= stream_time) {
            self.forget();
        }
    }

    /// When the next trace closes.
    #[must_use]
    pub fn next_due(&mut self) -> Option<Millis> {
        self.next_entry().map(|(at, _)| at)
    }

    /// When the last trace closes, if no span comes any more.
    #[must_use]
    pub fn last_due(&self) -> Option<Millis> {
        self.open.iter().flatten().map(|trace| self.due_at(trace)).max()
    }

    /// The number of spans in open traces.
    #[must_use]
    pub fn held(&self) -> usize {
        self.spans.held()
    }

    /// What the window takes in memory; a cheap estimate.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let open = self.open.len() * (size_of::<Option<OpenTrace>>() + size_of::<(Millis, u32)>() + 8);
        self.spans.bytes() + open + self.closed.len() * REMEMBERED + self.names.bytes()
    }

    /// The first entry that counts. A trace whose last span came after it was queued is queued again.
    fn next_entry(&mut self) -> Option<(Millis, u32)> {
        loop {
            let &Reverse((at, slot)) = self.due.peek()?;
            match self.open[slot as usize].as_ref().filter(|trace| trace.queued == at) {
                Some(trace) if self.due_at(trace) > at => {
                    self.due.pop();
                    self.queue(slot);
                }
                Some(_) => return Some((at, slot)),
                None => {
                    self.due.pop();
                }
            }
        }
    }

    fn queue(&mut self, slot: u32) {
        let Some(trace) = &self.open[slot as usize] else { return };
        let at = self.due_at(trace);
        if let Some(trace) = self.open[slot as usize].as_mut().filter(|trace| trace.queued != at) {
            trace.queued = at;
            self.due.push(Reverse((at, slot)));
        }
    }

    fn due_at(&self, trace: &OpenTrace) -> Millis {
        trace.last.saturating_add(self.limits.idle).min(trace.created.saturating_add(self.limits.max_age))
    }

    fn is_idle(&self, trace: &OpenTrace) -> bool {
        trace.last.saturating_add(self.limits.idle) <= trace.created.saturating_add(self.limits.max_age)
    }

    fn open_trace(&mut self, key: TraceKey, (offset, ordinal): (i64, u32), (created, last): (Millis, Millis)) -> u32 {
        let trace = OpenTrace { key, ordinal, offset, created, last, queued: Millis::MIN, head: NONE, spans: 0 };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.open.push(None);
            (self.open.len() - 1) as u32
        });
        self.open[slot as usize] = Some(trace);
        self.enter_open(slot, &key);
        self.queue(slot);
        slot
    }

    fn add(&mut self, slot: u32, block: &TraceBlock<'_>, span: &Span<'_>) {
        let rules = self.book.at(block.rules);
        let operation = self.names.intern(cut_bytes(rules.names.of(span.name).name, rules.most));
        let code = |code: i32| u8::try_from(code).unwrap_or(u8::MAX);
        let mut held = TraceSpan {
            id: id_of(span.span_id),
            parent: id_of(span.parent_span_id),
            start_ns: span.start_ns,
            end_ns: span.end_ns,
            service: block.service,
            operation,
            error: NameId::EMPTY,
            values: NameId::EMPTY,
            kind: code(span.kind),
            status: code(span.status_code),
        };
        if held.failed() {
            held.error = error_of(span, rules.most, &mut self.names);
        }
        if let Some(branch) = &mut rules.branch {
            self.key.clear();
            branch.read(block.resource, span.attributes, &mut self.key);
            held.values = self.names.intern(&self.key);
        }
        if let Some(trace) = self.open[slot as usize].as_mut() {
            trace.head = self.spans.push(trace.head, held);
            trace.spans += 1;
        }
    }

    fn find(&self, key: &TraceKey) -> Option<u32> {
        let is = |&slot: &u32| self.open[slot as usize].as_ref().is_some_and(|trace| trace.key == *key);
        self.by_key.find(key.hash(self.seed), is).copied()
    }

    fn is_remembered(&self, key: &TraceKey) -> bool {
        self.by_closed.find(key.hash(self.seed), |&number| self.closed_at(number).0 == *key).is_some()
    }

    fn closed_at(&self, number: u64) -> &(TraceKey, Millis) {
        &self.closed[(number - self.forgotten) as usize]
    }

    /// Takes a trace from the open ones.
    fn take(&mut self, slot: u32) -> Option<OpenTrace> {
        let trace = self.open[slot as usize].take()?;
        self.free.push(slot);
        if let Ok(entry) = self.by_key.find_entry(trace.key.hash(self.seed), |&other| other == slot) {
            entry.remove();
        }
        Some(trace)
    }

    fn close(
        &mut self,
        slot: u32,
        (at, reason): (Millis, Reason),
        ahead: impl Fn(Closing) -> Millis,
        sink: &mut TraceSink<'_>,
    ) {
        let Some(trace) = self.take(slot) else { return };
        self.tree.read(self.spans.of(trace.head), &self.names);
        self.spans.free(trace.head);
        sink.ledger.add(Counter::TraceSpansClosed, trace.spans.into());
        let counter = match reason {
            Reason::Idle => Counter::TracesClosedIdle,
            Reason::Age => Counter::TracesClosedAge,
            Reason::Full => Counter::TracesClosedFull,
        };
        sink.ledger.add(counter, 1);
        let ended = (self.tree.end_ns() / NANOS_PER_MILLI) as Millis;
        sink.table.turn_to(ahead(Closing { last: trace.last, ended, wait: (at - trace.last).max(0) }));
        let Self { tree, names, book, key, .. } = self;
        let tenant = names.get(trace.key.tenant);
        let rules = book.at(book.place(tenant));
        Emission { tree, names, rules, tenant, trace_id: trace.key.id, key }.emit(sink);
        if self.limits.late > 0 {
            self.remember(trace.key, at);
        }
        while self.closed.len() > self.limits.max_traces {
            self.forget();
            sink.ledger.add(Counter::TracesForgotten, 1);
        }
    }

    fn remember(&mut self, key: TraceKey, at: Millis) {
        // Other settings may make a trace due before one that has closed.
        let at = self.closed.back().map_or(at, |(_, last)| at.max(*last));
        self.closed.push_back((key, at));
        self.enter_closed(self.forgotten + self.closed.len() as u64 - 1);
    }

    fn forget(&mut self) {
        let Some(&(key, _)) = self.closed.front() else { return };
        let number = self.forgotten;
        if let Ok(entry) = self.by_closed.find_entry(key.hash(self.seed), |&other| other == number) {
            entry.remove();
        }
        self.closed.pop_front();
        self.forgotten += 1;
    }

    fn forget_names(&mut self) {
        let Self { names, spans, open, closed, .. } = self;
        names.keep(|rename| {
            for trace in open.iter_mut().flatten() {
                rename(&mut trace.key.tenant);
                spans.rename(trace.head, rename);
            }
            closed.iter_mut().for_each(|(key, _)| rename(&mut key.tenant));
        });
        // The hash of a key has the number of its tenant.
        self.by_key.clear();
        self.by_closed.clear();
        let keys = (0..).zip(&self.open).filter_map(|(slot, trace)| trace.map(|trace| (slot, trace.key)));
        for (slot, key) in keys.collect::<Vec<_>>() {
            self.enter_open(slot, &key);
        }
        for number in self.forgotten..self.forgotten + self.closed.len() as u64 {
            self.enter_closed(number);
        }
    }

    fn enter_open(&mut self, slot: u32, key: &TraceKey) {
        let (open, seed) = (&self.open, self.seed);
        let hash = |&slot: &u32| open[slot as usize].as_ref().map_or(0, |trace| trace.key.hash(seed));
        self.by_key.insert_unique(key.hash(seed), slot, hash);
    }

    fn enter_closed(&mut self, number: u64) {
        let (closed, forgotten, seed) = (&self.closed, self.forgotten, self.seed);
        let hash = |&number: &u64| closed[(number - forgotten) as usize].0.hash(seed);
        self.by_closed.insert_unique(hash(&number), number, hash);
    }
}

// === impl TraceWindow: take-over ===

impl TraceWindow {
    /// The offset of the first record that is needed to get the open traces back, if any are open.
    #[must_use]
    pub fn reread_from(&self) -> Option<i64> {
        self.open.iter().flatten().map(|trace| trace.offset).min()
    }

    /// The open and the remembered traces, as bytes for a commit whose re-reading starts at `from`; none for nothing.
    #[must_use]
    pub fn list(&self, from: i64) -> Vec<u8> {
        let listed = |trace: &OpenTrace| ListedTrace {
            offset: trace.offset,
            ordinal: trace.ordinal,
            created: trace.created,
            last: trace.last,
            spans: trace.spans,
        };
        let mut list = TraceList { open: self.open.iter().flatten().map(listed).collect(), ..TraceList::default() };
        list.open.sort_unstable_by_key(ListedTrace::at);
        let mut places: BTreeMap<NameId, u32> = BTreeMap::new();
        for (key, closed) in &self.closed {
            let tenant = *places.entry(key.tenant).or_insert_with(|| {
                list.tenants.push(self.names.get(key.tenant).to_vec());
                list.tenants.len() as u32 - 1
            });
            list.closed.push(ListedClosed { tenant, id: key.id, closed: *closed });
        }
        list.encode(from)
    }

    /// Begins to rebuild what was open at a commit: what [`TraceWindow::list`] returned. From now on records from `from` up
    /// to the commit go through [`TraceWindow::rebuild_span`], and then [`TraceWindow::finish_rebuild`] ends it.
    ///
    /// # Errors
    /// When the list does not decode.
    pub fn begin_rebuild(&mut self, from: i64, list: &[u8]) -> Result<(), Malformed> {
        let TraceList { tenants, open, closed } = TraceList::decode(from, list)?;
        let tenants: Vec<NameId> = tenants.iter().map(|tenant| self.names.intern(tenant)).collect();
        for ListedClosed { tenant, id, closed } in closed {
            self.remember(TraceKey { id, tenant: tenants[tenant as usize] }, closed);
        }
        let missing = open.iter().map(|trace| u64::from(trace.spans)).sum();
        self.rebuild = Some(Rebuild { listed: open, at: 0, missing });
        Ok(())
    }

    /// The spans of the open traces of a list.
    ///
    /// # Errors
    /// When the list does not decode.
    pub fn listed_spans(from: i64, list: &[u8]) -> Result<u64, Malformed> {
        Ok(TraceList::decode(from, list)?.open.iter().map(|trace| u64::from(trace.spans)).sum())
    }

    /// Takes one span of a record that is read again.
    pub fn rebuild_span(&mut self, block: &TraceBlock<'_>, span: &Span<'_>) {
        let Some(key) = key_of(block, span) else { return };
        let Some(rebuild) = &mut self.rebuild else { return };
        let here = (block.at.0, span.ordinal);
        while rebuild.listed.get(rebuild.at).is_some_and(|listed| listed.at() < here) {
            rebuild.at += 1;
        }
        let listed = rebuild.listed.get(rebuild.at).copied().filter(|listed| listed.at() == here);
        let slot = match (self.find(&key), listed) {
            (Some(slot), _) => slot,
            (None, Some(listed)) => self.open_trace(key, here, (listed.created, listed.last)),
            (None, None) => return,
        };
        self.add(slot, block, span);
        if let Some(rebuild) = &mut self.rebuild {
            rebuild.missing = rebuild.missing.saturating_sub(1);
        }
    }

    /// Ends rebuilding. Spans that did not come back, because their records are gone, are counted as lost.
    pub fn finish_rebuild(&mut self, ledger: &mut Ledger) {
        let Some(rebuild) = self.rebuild.take() else { return };
        ledger.add(Counter::TraceSpansLost, rebuild.missing);
    }
}

// === impl TraceKey ===

impl TraceKey {
    fn hash(&self, seed: Seed) -> u64 {
        let (high, low) = self.id.split_at(8);
        let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let mut mixer = seed.mixer();
        mixer.words(word(high), word(low));
        mixer.words(self.tenant.number().into(), 0);
        mixer.finish()
    }
}

fn limits_of(tenants: &Tenants) -> Traces {
    let traces = &tenants.defaults().traces;
    // Never at the instant of its last span: spans of one instant may come in several records.
    Traces { idle: traces.idle.max(1), max_age: traces.max_age.max(1), ..traces.clone() }
}

fn key_of(block: &TraceBlock<'_>, span: &Span<'_>) -> Option<TraceKey> {
    let id = <[u8; 16]>::try_from(span.trace_id).ok().filter(|id| *id != [0; 16])?;
    Some(TraceKey { id, tenant: block.tenant })
}

/// An ID of a span; what is none becomes zero.
fn id_of(id: &[u8]) -> [u8; 8] {
    id.try_into().unwrap_or_default()
}

/// The kind of a failed span's error: its attribute `error.type`, or the type of the last exception that it records.
fn error_of(span: &Span<'_>, most: usize, names: &mut Names) -> NameId {
    if let Some(kind) = span.attributes.get(b"error.type") {
        return names.intern(cut_bytes(&kind.text(), most));
    }
    let exceptions = span.events().filter_map(|event| event.attributes.get(b"exception.type"));
    exceptions.last().map_or(NameId::EMPTY, |kind| names.intern(cut_bytes(&kind.text(), most)))
}
