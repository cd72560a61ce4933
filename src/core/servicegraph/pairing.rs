//! The pairing of spans into edges: the path of every span, and edges of two halves as in Tempo.

use std::sync::Arc;

pub(super) use super::edge::Half;
use super::edge::{Connection, Edge, EdgeKey, EdgeKind, End, FAILED, HELD, Item, MET, Mark, Relay};
use super::edges::Edges;
use super::extras::{Fresh, Scratch};
use super::kin::Kinship;
use super::live::EdgeOrigin;
use super::rebuild::Rebuild;
use super::rules::{RuleBook, Rules, Sieved, consumes};
use super::store::Store;
use crate::core::deltas::DeltaTable;
use crate::core::filter::ResourceVerdict;
use crate::core::model::names::{NameId, Names};
use crate::core::model::{Counter, Ledger, Millis, Seed};
use crate::core::otlp::{Attributes, ResourceSpans, Span};
use crate::core::settings::Tenants;

/// More edges than this do not fit the cache of a core.
const SCATTERED: usize = 250_000;

/// Pairs spans into edges in stream time; see the [room](super).
#[derive(Debug)]
pub struct Pairing {
    pub(super) book: RuleBook,
    pub(super) wait: Millis,
    pub(super) max_items: usize,
    pub(super) names: Names,
    pub(super) edges: Edges,
    /// Clients among the edges that have met a server already.
    pub(super) met: usize,
    pub(super) marks: Store<Mark>,
    pub(super) relays: Store<Relay>,
    pub(super) kinship: Kinship,
    pub(super) scratch: Scratch,
    /// A raw key under construction.
    pub(super) key: Vec<u8>,
    /// Slots under consideration.
    pub(super) slots: Vec<u32>,
    /// The keys of one span.
    pub(super) keys: Vec<(u16, EdgeKey)>,
    pub(super) rebuild: Option<Rebuild>,
}

/// Where edges and counters go.
#[derive(Debug)]
pub struct Sink<'a> {
    /// Deltas of emitted edges.
    pub table: &'a mut DeltaTable,
    /// The ledger of spans and edges.
    pub ledger: &'a mut Ledger,
}

/// A pending edge whose wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// The stream time at which it was opened.
    pub begun: Millis,
    /// When its span ended.
    pub ended: Millis,
    /// For how long pending edges wait.
    pub wait: Millis,
}

/// A record whose spans are being paired. Valid until the next record.
#[derive(Debug, Clone, Copy)]
pub struct RecordAt {
    pub(super) offset: i64,
    pub(super) stream_time: Millis,
}

/// The spans of one resource in a record.
#[derive(Debug, Clone)]
pub struct EdgeBlock<'a> {
    pub(super) record: RecordAt,
    pub(super) rules: Arc<Rules>,
    pub(super) tenant: NameId,
    pub(super) resource: Sieved<'a>,
    verdict: ResourceVerdict,
    pub(super) service: Option<NameId>,
}

/// Why a span is not part of an edge.
pub(super) enum NoEdge {
    OtherKind,
    WithoutService,
    InvalidId,
}

/// A span as one side of an edge.
pub(super) struct Side<'a> {
    pub(super) key: EdgeKey,
    pub(super) kind: EdgeKind,
    service: NameId,
    half: Half,
    pub(super) span: &'a Span<'a>,
}

impl Pairing {
    /// Nothing pending, for tests: as [`Pairing::seeded`], with a fixed seed.
    #[must_use]
    pub fn new(tenants: &Tenants) -> Self {
        Self::seeded(tenants, Seed::default())
    }

    /// Nothing pending.
    #[must_use]
    pub fn seeded(tenants: &Tenants, seed: Seed) -> Self {
        let settings = &tenants.defaults().service_graphs;
        let (book, operations) = RuleBook::new(tenants);
        Self {
            book,
            // Never at the instant of its creation: spans of one instant may come in several records.
            wait: settings.wait.max(1),
            max_items: settings.max_items,
            names: Names::new(seed),
            edges: Edges::new(seed),
            met: 0,
            marks: Store::new(seed),
            relays: Store::new(seed),
            kinship: Kinship::new(seed),
            scratch: Scratch::of(operations),
            key: Vec::new(),
            slots: Vec::new(),
            keys: Vec::new(),
            rebuild: None,
        }
    }

    /// The number of pending edges.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.edges.len() - self.met
    }

    /// Whether any tenant has a service graph.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.book.is_enabled()
    }

    /// How long pending edges wait, in milliseconds.
    #[must_use]
    pub fn wait(&self) -> Millis {
        self.wait
    }

    /// Continues with other settings. Pending edges are kept.
    pub fn reconfigure(&mut self, tenants: &Tenants) {
        let settings = &tenants.defaults().service_graphs;
        let (book, operations) = RuleBook::new(tenants);
        (self.book, self.scratch) = (book, Scratch::of(operations));
        (self.wait, self.max_items) = (settings.wait.max(1), settings.max_items);
    }

    /// Starts with a record. Expire first: a record's spans never meet an edge whose wait is over.
    pub fn record(&mut self, offset: i64, stream_time: Millis) -> RecordAt {
        if self.names.is_bloated() {
            let Self { names, edges, marks, relays, kinship, .. } = self;
            names.keep(|rename| {
                edges.rename(rename);
                marks.rename(&mut *rename);
                relays.rename(&mut *rename);
                kinship.rename(rename);
            });
        }
        RecordAt { offset, stream_time }
    }

    /// Starts with the spans of one resource; `service` is its `service.name`, `None` if it has none.
    pub fn block<'a>(
        &mut self,
        record: RecordAt,
        tenant: &str,
        service: Option<&[u8]>,
        resource: Attributes<'a>,
    ) -> EdgeBlock<'a> {
        let rules = Arc::clone(self.book.of(tenant.as_bytes()));
        let verdict = rules.filter.resource(&resource);
        let resource = rules.sieve(resource);
        let service = service.map(|name| self.service(&rules, name, resource));
        let tenant = self.names.intern(tenant.as_bytes());
        EdgeBlock { record, tenant, resource, rules, verdict, service }
    }

    /// The name of the node that a service is.
    fn service(&mut self, rules: &Rules, name: &[u8], resource: Sieved<'_>) -> NameId {
        let namespace = rules.namespace.filter(|_| !name.is_empty()).and_then(|key| rules.get(key, resource));
        let namespace = namespace.map(|value| value.text()).filter(|namespace| !namespace.is_empty());
        let Some(namespace) = namespace else { return self.names.intern(rules.cut(name)) };
        self.key.clear();
        [&*namespace, b"/", name].into_iter().for_each(|part| self.key.extend_from_slice(part));
        self.names.intern(rules.cut(&self.key))
    }

    /// Brings what the spans of a resource are going to meet into the cache, if so many edges wait that it is not there.
    pub fn fetch(&self, block: &EdgeBlock<'_>, spans: &ResourceSpans<'_>) {
        if self.edges.len() <= SCATTERED {
            return;
        }
        let sides = |span| side_of(block, &span).ok().map(|side| side.key);
        let keys = spans.spans().filter_map(sides);
        std::hint::black_box(keys.fold(0, |read, key| read ^ self.edges.touch(&key)));
    }

    /// Pairs one span.
    pub fn span(&mut self, block: &mut EdgeBlock<'_>, span: &Span<'_>, sink: &mut Sink<'_>) {
        if !block.rules.enabled {
            return;
        }
        let side = match side_of(block, span) {
            Ok(side) => side,
            Err(NoEdge::OtherKind) if block.rules.pairs.ancestors => return self.relay(block, span, sink),
            Err(reason) => return refuse(&reason, sink.ledger),
        };
        sink.ledger.add(Counter::EdgeSpans, 1);
        match (block.keeps(span), block.rules.pairs.apart(), side.kind.end()) {
            (false, ..) => self.filtered(block, &side, sink),
            (true, false, _) => self.together(block, &side, sink),
            (true, true, End::Client) => self.client_apart(block, &side, sink),
            (true, true, End::Server) => self.server_apart(block, &side, sink),
        }
    }

    /// The two halves of an edge are one entry, into which every span with its key is written.
    fn together(&mut self, block: &EdgeBlock<'_>, side: &Side<'_>, sink: &mut Sink<'_>) {
        if let Some(slot) = self.pending_with(block, side) {
            let mut edge = self.edges.get(slot);
            if edge.has_named(side.kind.end()) {
                sink.ledger.add(Counter::EdgeSpansReplaced, 1);
            }
            update(&mut self.names, &mut self.scratch, &mut edge, block, side);
            if block.rules.pairs.nested {
                return self.together_among_calls(slot, &mut edge, block, side, sink);
            }
            if !edge.is_complete() {
                return self.edges.put(slot, &edge);
            }
            self.edges.forget(slot);
            return self.emit(&edge, Counter::EdgesCompleted, sink);
        }
        sink.ledger.add(Counter::EdgesOpened, 1);
        if self.is_marked(&side.key, side.kind.end().other()) {
            return sink.ledger.add(Counter::EdgesDroppedCounterpart, 1);
        }
        let edge = self.open(block, side, side.key, block.origin(side, 0));
        if !edge.is_complete() {
            self.open_and_wait(&edge, block, side, sink);
        } else if Self::is_call(block, side) {
            self.hold(edge, block, side, sink);
        } else {
            self.emit(&edge, Counter::EdgesCompleted, sink);
        }
    }

    /// Handles a pending edge of two halves that a span has updated, where calls inside of calls count once.
    fn together_among_calls(
        &mut self,
        slot: u32,
        edge: &mut Edge,
        block: &EdgeBlock<'_>,
        side: &Side<'_>,
        sink: &mut Sink<'_>,
    ) {
        let is_call = Self::is_call(block, side);
        if is_call && edge.is_complete() && edge.connection == Connection::Database {
            edge.set(HELD);
        }
        if !edge.is_complete() || edge.is(HELD) {
            self.edges.put(slot, edge);
            if is_call {
                self.called(slot, false, block, side);
            }
            return;
        }
        if is_call {
            self.edges.forget(slot);
            self.answered_at_once(edge, block, side);
        } else {
            self.answered(slot);
        }
        self.emit(edge, Counter::EdgesCompleted, sink);
    }

    /// The pending edge of two halves that a span belongs to.
    #[inline]
    pub(super) fn pending_with(&self, block: &EdgeBlock<'_>, side: &Side<'_>) -> Option<u32> {
        if block.rules.pairs.each_root && side.key.is_root() {
            return None;
        }
        self.edges.find_pending(&side.key)
    }

    /// A new edge of one span.
    pub(super) fn open(&mut self, block: &EdgeBlock<'_>, side: &Side<'_>, key: EdgeKey, origin: EdgeOrigin) -> Edge {
        let mut edge = Edge::new(key, side.kind, origin);
        update(&mut self.names, &mut self.scratch, &mut edge, block, side);
        edge
    }

    /// Puts an opened edge among those that wait, if there is room; returns its slot.
    pub(super) fn wait_for_other(&mut self, edge: &Edge, sink: &mut Sink<'_>) -> Option<u32> {
        if self.edges.len() >= self.max_items {
            sink.ledger.add(Counter::EdgesDroppedFull, 1);
            return None;
        }
        Some(self.edges.insert(edge))
    }

    /// The same for an edge that a span has opened.
    pub(super) fn open_and_wait(&mut self, edge: &Edge, block: &EdgeBlock<'_>, side: &Side<'_>, sink: &mut Sink<'_>) {
        let slot = self.wait_for_other(edge, sink);
        if let Some(slot) = slot.filter(|_| Self::is_call(block, side)) {
            self.called(slot, true, block, side);
        }
    }

    /// When the wait of the next pending edge ends.
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        let of_kin = self.kinship.next_due(self.wait);
        if self.pending() == 0 {
            // Clients that have met a server stand among them, and there may be many.
            return of_kin;
        }
        let mut next = self.edges.oldest();
        while let Some(slot) = next.filter(|&slot| self.edges.has_met(slot)) {
            next = self.edges.next(slot);
        }
        let of_edges = next.map(|slot| self.edges.created(slot).saturating_add(self.wait));
        of_edges.into_iter().chain(of_kin).min()
    }

    /// Whether anything waits that may still count.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.pending() > 0 || self.kinship.next_due(0).is_some()
    }

    /// The number of spans that are remembered because they may call others.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.kinship.len()
    }

    /// Settles every edge that has waited long enough at `stream_time`, in the order of creation, and forgets all else
    /// that has. `ahead` returns how long after the oldest open step the one ends that an edge belongs to.
    pub fn expire(&mut self, stream_time: Millis, ahead: impl Fn(Waited) -> Millis, sink: &mut Sink<'_>) {
        while let Some(slot) = self.edges.overdue(stream_time, self.wait) {
            let edge = self.edges.get(slot);
            if edge.is(MET) {
                self.outdo_callers(slot, &edge);
                self.met -= 1;
                self.edges.forget(slot);
                continue;
            }
            let counts = self.counts(slot, &edge, sink);
            let from = self.edges.start(slot).unwrap_or(edge.key.span_id);
            self.edges.forget(slot);
            if !counts {
                continue;
            }
            let ended = [End::Client, End::Server].into_iter().filter_map(|end| edge.half(end)).map(Half::end).max();
            let begun = edge.origin.created;
            sink.table.turn_to(ahead(Waited { begun, ended: ended.unwrap_or(begun), wait: self.wait }));
            if edge.is(HELD) {
                self.emit(&edge, Counter::EdgesCompleted, sink);
            } else {
                self.settle(edge, from, sink);
            }
        }
        sink.table.turn_to(0);
        if self.kinship.len() > 0 {
            self.decide(stream_time, &ahead, sink);
        }
        forget(&mut self.marks, stream_time, self.wait);
        forget(&mut self.relays, stream_time, self.wait);
    }
}

// === impl EdgeBlock ===

impl EdgeBlock<'_> {
    /// Whether the filter policies keep a span.
    pub(super) fn keeps(&self, span: &Span<'_>) -> bool {
        self.rules.filter.is_empty() || self.rules.filter.keeps(&self.verdict, span)
    }

    /// How good the name is that a span has for the peer.
    pub(super) fn rank(&self, side: &Side<'_>) -> u16 {
        self.rules.rank(self.resource, self.rules.sieve(side.span.attributes))
    }

    /// The origin of an item that a span creates.
    pub(super) fn origin(&self, side: &Side<'_>, part: u16) -> EdgeOrigin {
        self.origin_of(side.span, part)
    }

    /// The same for a span of any kind.
    pub(super) fn origin_of(&self, span: &Span<'_>, part: u16) -> EdgeOrigin {
        let RecordAt { offset, stream_time } = self.record;
        EdgeOrigin { offset, created: stream_time, ordinal: span.ordinal, part }
    }
}

fn forget<T: Item>(store: &mut Store<T>, stream_time: Millis, wait: Millis) {
    while let Some(slot) = store.overdue(stream_time, wait) {
        store.remove(slot);
    }
}

fn refuse(reason: &NoEdge, ledger: &mut Ledger) {
    let counter = match reason {
        NoEdge::OtherKind => return,
        NoEdge::WithoutService => Counter::EdgeSpansWithoutService,
        NoEdge::InvalidId => Counter::EdgeSpansInvalidId,
    };
    ledger.add(Counter::EdgeSpans, 1);
    ledger.add(counter, 1);
}

/// The kind of a span, if that kind makes edges.
#[inline]
pub(super) fn kind_of(block: &EdgeBlock<'_>, span: &Span<'_>) -> Option<EdgeKind> {
    Some(match span.kind {
        2 => EdgeKind::Server,
        3 if block.rules.pairs.receive_once && consumes(span.attributes) => EdgeKind::Consumer,
        3 => EdgeKind::Client,
        4 => EdgeKind::Producer,
        5 => EdgeKind::Consumer,
        _ => return None,
    })
}

pub(super) fn side_of<'a>(block: &EdgeBlock<'_>, span: &'a Span<'a>) -> Result<Side<'a>, NoEdge> {
    let kind = kind_of(block, span).ok_or(NoEdge::OtherKind)?;
    let service = block.service.ok_or(NoEdge::WithoutService)?;
    let trace_id = valid_id(span.trace_id).ok_or(NoEdge::InvalidId)?;
    let span_id = match kind.end() {
        End::Client => valid_id(span.span_id).ok_or(NoEdge::InvalidId)?,
        End::Server if span.parent_span_id.is_empty() => [0; 8],
        End::Server => span.parent_span_id.try_into().map_err(|_| NoEdge::InvalidId)?,
    };
    let key = EdgeKey { tenant: block.tenant, trace_id, span_id };
    Ok(Side { key, kind, service, half: Half { start_ns: span.start_ns, end_ns: span.end_ns }, span })
}

/// An ID of the right length that is not all zero.
pub(super) fn valid_id<const N: usize>(id: &[u8]) -> Option<[u8; N]> {
    <[u8; N]>::try_from(id).ok().filter(|id| *id != [0; N])
}

/// Writes a span into its edge. The last writer wins, except that a failure stays, and so does the greatest weight.
pub(super) fn update(
    names: &mut Names,
    scratch: &mut Scratch,
    edge: &mut Edge,
    block: &EdgeBlock<'_>,
    side: &Side<'_>,
) {
    const ERROR: i32 = 2;
    let (rules, end) = (&block.rules, side.kind.end());
    let attributes = rules.sieve(side.span.attributes);
    edge.kind = side.kind;
    let own = side.kind.connection();
    edge.connection = if rules.pairs.type_of_both { own.max(edge.connection) } else { own };
    if side.span.status_code == ERROR || rules.failed(attributes) {
        edge.set(FAILED);
    }
    // The Collector uses the client only.
    if let Some(peer) = rules.peer(end, attributes).filter(|_| end == End::Client || !rules.shows.as_otel) {
        edge.peer = names.intern(rules.cut(&peer));
    }
    if !rules.slots.is_empty() {
        let weight = rules.sampling.weight(side.span, block.resource.attributes());
        let look_up = |source| rules.value(source, block.resource, attributes);
        let look_up = |source| look_up(source).map(|value| rules.cut_value(value));
        let fresh = Fresh { end, weight, operation: rules.operation(side.span.name) };
        edge.extra = scratch.update(names, &rules.slots, (edge.extra, fresh), look_up);
    }
    edge.set_half(end, side.half);
    if end == End::Server {
        edge.server = side.service;
        return;
    }
    edge.client = side.service;
    if let Some(name) = rules.database(block.resource, attributes) {
        edge.connection = Connection::Database;
        edge.set_half(End::Server, side.half);
        if let Some(name) = name {
            edge.server = names.intern(rules.cut(&name));
        }
    }
}
