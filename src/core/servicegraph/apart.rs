//! Edges whose halves wait apart: one client may meet many servers, a server may belong to many clients, and the path
//! between them may lead over spans of other kinds.
//!
//! Each server half is an entry of its own, and so is each client; nothing is ever written into the peer. With
//! `fan_out`, a client that has met a server stays until its wait is over, and is never a virtual node. With `links`, a
//! consumer waits once for its parent and once for each span that it links to. With `ancestors`, spans of other kinds
//! are relays: a server half climbs from relay to relay to the topmost place that is known, when it comes and when
//! relays come.

use super::edge::{Connection, Edge, EdgeKey, EdgeKind, End, FAILED, HELD, MET, MOVED, Relay};
use super::live::EdgeOrigin;
use super::pairing::{EdgeBlock, Pairing, Side, Sink, update, valid_id};
use super::rules::Pairs;
use crate::core::model::Counter;
use crate::core::model::hash::digest;
use crate::core::otlp::Span;

/// The maximum number of relays that a server climbs over. It guards against loops: spans that are each other's
/// parents.
const MAX_CLIMB: usize = 100;

/// Where a server half has climbed to.
enum Ancestor {
    /// The slot of a client.
    Client(u32),
    /// A client that was filtered.
    Filtered,
    /// No client is known yet that has this key.
    Waits(EdgeKey),
}

impl Pairing {
    /// A client meets the servers that wait for it.
    pub(super) fn client_apart(&mut self, block: &EdgeBlock<'_>, side: &Side<'_>, sink: &mut Sink<'_>) {
        if block.rules.pairs.any {
            self.remember(block, side.span, sink);
        }
        let mut edge = self.open(block, side, side.key, block.origin(side, 0));
        if edge.is_complete() {
            sink.ledger.add(Counter::EdgesOpened, 1);
            if Self::is_call(block, side) {
                return self.hold(edge, block, side, sink);
            }
            return self.emit(&edge, Counter::EdgesCompleted, sink);
        }
        if let Some(slot) = self.edges.find_client(&side.key, Edge::is_caller) {
            return self.client_again(slot, block, side, sink);
        }
        let fan_out = block.rules.pairs.fan_out;
        if self.is_marked(&side.key, End::Server) {
            sink.ledger.add(Counter::EdgesOpened, 1);
            sink.ledger.add(Counter::EdgesDroppedCounterpart, 1);
            if !fan_out {
                return;
            }
            edge.set(MET);
        }
        if !edge.client.is_empty() {
            let mut slots = std::mem::take(&mut self.slots);
            self.edges.find_all(&side.key, is_named_server, &mut slots);
            for &slot in slots.iter().take(if fan_out { usize::MAX } else { 1 }) {
                self.meet_waiting(slot, &edge, block.rules.pairs, sink);
                edge.set(MET);
            }
            self.slots = slots;
        }
        self.keep_client(&edge, block, side, sink);
    }

    /// A client span with the ID of one that waits: the last one wins.
    fn client_again(&mut self, slot: u32, block: &EdgeBlock<'_>, side: &Side<'_>, sink: &mut Sink<'_>) {
        let Self { names, scratch, edges, .. } = self;
        edges.change(slot, |edge| update(names, scratch, edge, block, side));
        // The first one knew the database, this one the client.
        let completed = edges.get(slot).is_complete() && edges.get(slot).is_pending();
        if Self::is_call(block, side) {
            if completed {
                self.edges.change(slot, |edge| edge.set(HELD));
            }
            return self.called(slot, false, block, side);
        }
        if completed {
            let edge = self.edges.remove(slot);
            self.emit(&edge, Counter::EdgesCompleted, sink);
        }
    }

    fn keep_client(&mut self, edge: &Edge, block: &EdgeBlock<'_>, side: &Side<'_>, sink: &mut Sink<'_>) {
        let fan_out = block.rules.pairs.fan_out;
        if edge.is_pending() {
            sink.ledger.add(Counter::EdgesOpened, 1);
            self.open_and_wait(edge, block, side, sink);
        } else if !fan_out && Self::is_call(block, side) {
            self.answered_at_once(edge, block, side);
        } else if fan_out && self.edges.len() < self.max_items {
            self.met += 1;
            let slot = self.edges.insert(edge);
            if Self::is_call(block, side) {
                self.called(slot, true, block, side);
            }
        } else if fan_out {
            // Servers that come now will not find it.
            sink.ledger.add(Counter::EdgesOpened, 1);
            sink.ledger.add(Counter::EdgesDroppedFull, 1);
        }
    }

    /// A server meets its client, or waits for it; a consumer with links does so for each of them.
    pub(super) fn server_apart(&mut self, block: &EdgeBlock<'_>, side: &Side<'_>, sink: &mut Sink<'_>) {
        if block.rules.pairs.any {
            self.remember(block, side.span, sink);
        }
        let mut keys = std::mem::take(&mut self.keys);
        keys_of(block, side, &mut keys);
        for &(part, key) in &keys {
            let mut edge = self.open(block, side, key, block.origin(side, part));
            let place = if edge.server.is_empty() { Ancestor::Waits(key) } else { self.climb(key) };
            if part == 0 && !edge.server.is_empty() {
                self.pass(key, block.rules.pairs);
            }
            match place {
                Ancestor::Client(slot) => self.meet_new(slot, edge, block.rules.pairs, sink),
                Ancestor::Filtered => {
                    sink.ledger.add(Counter::EdgesOpened, 1);
                    sink.ledger.add(Counter::EdgesDroppedCounterpart, 1);
                }
                Ancestor::Waits(top) => {
                    if top != key {
                        edge.set(MOVED);
                        edge.key = top;
                    }
                    sink.ledger.add(Counter::EdgesOpened, 1);
                    let slot = self.wait_for_other(&edge, sink);
                    if let Some(slot) = slot.filter(|_| top != key) {
                        self.edges.set_start(slot, key.span_id);
                    }
                }
            }
        }
        self.keys = keys;
    }

    /// Remembers the link from a span of another kind to its parent, and lets the servers below it climb.
    pub(super) fn relay(&mut self, block: &EdgeBlock<'_>, span: &Span<'_>, sink: &mut Sink<'_>) {
        let pairs = block.rules.pairs;
        if pairs.any && block.keeps(span) {
            self.remember(block, span, sink);
        }
        let Some(relay) = relay_of(block, span) else { return };
        if self.relays.find(&relay.key, |_| true).is_some() {
            return;
        }
        if self.relays.len() >= self.max_items {
            return sink.ledger.add(Counter::RelaysDroppedFull, 1);
        }
        self.relays.insert(relay);
        let mut slots = std::mem::take(&mut self.slots);
        self.edges.find_all(&relay.key, is_named_server, &mut slots);
        let is_passed = pairs.any && slots.iter().any(|&slot| self.edges.get(slot).origin.part == 0);
        if is_passed {
            self.pass(relay.key, pairs);
        }
        for &slot in &slots {
            match self.climb(relay.key) {
                Ancestor::Client(at) => {
                    let client = self.edges.get(at);
                    // Both were pending, and are one edge.
                    sink.ledger.add(Counter::EdgesJoined, u64::from(client.is_pending()));
                    self.take(at, &client, pairs);
                    self.meet_waiting(slot, &client, pairs, sink);
                }
                Ancestor::Filtered => {
                    self.edges.remove(slot);
                    sink.ledger.add(Counter::EdgesDroppedCounterpart, 1);
                }
                Ancestor::Waits(top) => {
                    self.edges.change(slot, |edge| edge.set(MOVED));
                    self.edges.rekey(slot, top.span_id);
                    self.edges.set_start(slot, relay.key.span_id);
                }
            }
        }
        self.slots = slots;
    }

    /// The relays that a server climbs over from here.
    pub(super) fn climbed(&self, mut key: EdgeKey) -> Vec<EdgeKey> {
        let mut passed = Vec::new();
        while passed.len() < MAX_CLIMB && !key.is_root() {
            let is_client = |edge: &Edge| !edge.client.is_empty() && !edge.is(HELD);
            if self.edges.find_client(&key, is_client).is_some() || self.is_marked(&key, End::Client) {
                break;
            }
            let Some(slot) = self.relays.find(&key, |_| true) else { break };
            passed.push(key);
            key.span_id = self.relays.get(slot).parent;
        }
        passed
    }

    /// Climbs from a span to the nearest client, over relays.
    fn climb(&self, from: EdgeKey) -> Ancestor {
        let mut key = from;
        for _ in 0..MAX_CLIMB {
            if key.is_root() {
                break;
            }
            if let Some(slot) = self.edges.find_client(&key, |edge| !edge.client.is_empty() && !edge.is(HELD)) {
                return Ancestor::Client(slot);
            }
            if self.is_marked(&key, End::Client) {
                return Ancestor::Filtered;
            }
            let Some(slot) = self.relays.find(&key, |_| true) else { break };
            key.span_id = self.relays.get(slot).parent;
        }
        Ancestor::Waits(key)
    }

    /// A server that has just come has found a client in this slot.
    fn meet_new(&mut self, slot: u32, mut server: Edge, pairs: Pairs, sink: &mut Sink<'_>) {
        let client = self.edges.get(slot);
        sink.ledger.add(Counter::EdgesOpened, u64::from(!client.is_pending()));
        let received = self.received(&client, &server, pairs);
        if self.is_repeated(&client, &server, received) {
            return sink.ledger.add(Counter::EdgesDroppedRepeated, 1);
        }
        self.take(slot, &client, pairs);
        self.meet(&client, &server, sink);
        if let Some(key) = received.filter(|_| self.edges.len() < self.max_items) {
            server.key = key;
            server.set(MOVED | MET);
            self.edges.insert(&server);
            self.met += 1;
        }
    }

    /// A client has found a server that waits in this slot.
    fn meet_waiting(&mut self, slot: u32, client: &Edge, pairs: Pairs, sink: &mut Sink<'_>) {
        let server = self.edges.get(slot);
        let received = self.received(client, &server, pairs);
        if self.is_repeated(client, &server, received) {
            self.edges.forget(slot);
            return sink.ledger.add(Counter::EdgesDroppedRepeated, 1);
        }
        self.meet(client, &server, sink);
        if let Some(key) = received {
            self.edges.change(slot, |edge| edge.set(MOVED | MET));
            self.edges.rekey(slot, key.span_id);
            self.met += 1;
        } else {
            self.edges.forget(slot);
        }
    }

    /// The key of a consumer that has met a producer: it keeps further consumers of its service from it, for as long as
    /// it would have waited. `None` where the settings do not ask for that, or where a producer is removed once it has
    /// met a consumer.
    fn received(&self, client: &Edge, server: &Edge, pairs: Pairs) -> Option<EdgeKey> {
        let asked = pairs.receive_once && pairs.fan_out && server.kind == EdgeKind::Consumer;
        let id = || [&client.key.span_id[..], self.names.get(server.server)].concat();
        asked.then(|| EdgeKey {
            span_id: digest(&id()).to_le_bytes().first_chunk().copied().unwrap_or_default(),
            ..client.key
        })
    }

    /// Whether a consumer of the same service, which is kept under this key, has met the producer before.
    fn is_repeated(&self, client: &Edge, server: &Edge, received: Option<EdgeKey>) -> bool {
        let same = |edge: &Edge| !edge.has_client() && !edge.is_pending() && edge.server == server.server;
        !client.is_pending() && received.is_some_and(|key| self.edges.find(&key, same).is_some())
    }

    /// A client, which is pending or has met others, has met a server.
    fn take(&mut self, slot: u32, client: &Edge, pairs: Pairs) {
        let was_met = usize::from(!client.is_pending());
        if pairs.fan_out {
            self.edges.change(slot, |edge| edge.set(MET));
            self.met += 1 - was_met;
            self.outdo_callers(slot, client);
        } else {
            self.answered(slot);
        }
    }

    /// Makes an edge of two halves. The order in which they came does not matter.
    fn meet(&mut self, client: &Edge, server: &Edge, sink: &mut Sink<'_>) {
        let mut edge = *client;
        edge.server = server.server;
        server.half(End::Server).into_iter().for_each(|half| edge.set_half(End::Server, half));
        if server.is(FAILED) {
            edge.set(FAILED);
        }
        let messaging = client.kind == EdgeKind::Producer || server.kind == EdgeKind::Consumer;
        edge.connection = if messaging { Connection::Messaging } else { Connection::Plain };
        let Self { book, names, scratch, .. } = self;
        let rules = book.of(names.get(edge.key.tenant));
        edge.extra = scratch.join(names, &rules.slots, client.extra, server.extra);
        self.emit(&edge, Counter::EdgesCompleted, sink);
    }
}

fn is_named_server(edge: &Edge) -> bool {
    !edge.has_client() && !edge.server.is_empty() && edge.is_pending()
}

/// The edges of a server: with its parent, and with what it links to if it is a consumer. A consumer with links and
/// without a parent has no edge for the missing parent.
pub(super) fn keys_of(block: &EdgeBlock<'_>, side: &Side<'_>, out: &mut Vec<(u16, EdgeKey)>) {
    out.clear();
    out.push((0, side.key));
    if !block.rules.pairs.links || side.kind != EdgeKind::Consumer {
        return;
    }
    for (part, link) in (1..=u16::MAX).zip(side.span.links()) {
        if let (Some(trace_id), Some(span_id)) = (valid_id(link.trace_id), valid_id(link.span_id)) {
            out.push((part, EdgeKey { tenant: side.key.tenant, trace_id, span_id }));
        }
    }
    // Each once, where it is named first. Sorted, because a span may have thousands of links.
    out.sort_unstable_by_key(|(part, key)| (key.trace_id, key.span_id, *part));
    out.dedup_by_key(|(_, key)| *key);
    out.sort_unstable_by_key(|(part, _)| *part);
    if side.key.is_root() && out.len() > 1 {
        out.remove(0);
    }
}

/// A span of another kind, if it can lead anywhere.
pub(super) fn relay_of(block: &EdgeBlock<'_>, span: &Span<'_>) -> Option<Relay> {
    if matches!(span.kind, 2..=5) {
        return None;
    }
    let (trace_id, span_id) = (valid_id(span.trace_id)?, valid_id(span.span_id)?);
    let parent = valid_id(span.parent_span_id)?;
    let origin =
        EdgeOrigin { offset: block.record.offset, created: block.record.stream_time, ordinal: span.ordinal, part: 0 };
    Some(Relay { key: EdgeKey { tenant: block.tenant, trace_id, span_id }, parent, origin })
}
