//! Edges of halves that wait apart: one client may meet many servers, a server may belong to many clients, and the way
//! between them may lead over spans of other kinds.
//!
//! Each server half is an entry of its own, and so is each client; nothing is ever written into the other side. With
//! `fan_out`, a client that has met a server stays until its time is up, and is never a virtual node. With `links`, a
//! consumer waits once for its parent and once for each span that it links to. With `ancestors`, spans of other kinds are
//! relays: a server half climbs from relay to relay to the topmost place that is known, when it comes and when relays
//! come.

use super::edge::{Connection, Edge, EdgeKind, End, FAILED, Key, MET, MOVED, Relay};
use super::live::Origin;
use super::pairing::{Block, Pairing, Side, Sink, update, valid_id};
use super::rules::Pairs;
use crate::model::Tally;
use crate::otlp::Span;

/// No server climbs higher. It is for loops: spans that are each other's parents.
const MAX_CLIMB: usize = 100;

/// Where a server half has climbed to.
enum Place {
    /// The slot of a client.
    Client(u32),
    /// A client that was filtered.
    Filtered,
    /// No client is known yet that has this key.
    Waits(Key),
}

impl Pairing {
    /// A client meets the servers that wait for it.
    pub(super) fn client_apart(&mut self, block: &Block<'_>, side: &Side<'_>, sink: &mut Sink<'_>) {
        let mut edge = self.open(block, side, side.key, block.origin(side, 0));
        if edge.is_complete() {
            sink.ledger.add(Tally::EdgesOpened, 1);
            return self.emit(&edge, Tally::EdgesCompleted, sink);
        }
        if let Some(slot) = self.edges.find(&side.key, Edge::has_client) {
            return self.client_again(slot, block, side, sink);
        }
        let fan_out = block.rules.pairs.fan_out;
        if self.is_marked(&side.key, End::Server) {
            sink.ledger.add(Tally::EdgesOpened, 1);
            sink.ledger.add(Tally::EdgesDroppedCounterpart, 1);
            if !fan_out {
                return;
            }
            edge.set(MET);
        }
        if !edge.client.is_empty() {
            let mut slots = std::mem::take(&mut self.slots);
            self.edges.find_all(&side.key, is_named_server, &mut slots);
            for &slot in slots.iter().take(if fan_out { usize::MAX } else { 1 }) {
                let server = self.edges.remove(slot);
                self.meet(&edge, &server, sink);
                edge.set(MET);
            }
            self.slots = slots;
        }
        self.keep_client(edge, fan_out, sink);
    }

    /// A client span with the ID of one that waits: the last one wins.
    fn client_again(&mut self, slot: u32, block: &Block<'_>, side: &Side<'_>, sink: &mut Sink<'_>) {
        let Self { names, scratch, edges, .. } = self;
        edges.change(slot, |edge| update(names, scratch, edge, block, side));
        if edges.get(slot).is_complete() && edges.get(slot).is_pending() {
            // The first one knew the database, this one the client.
            let edge = self.edges.remove(slot);
            self.emit(&edge, Tally::EdgesCompleted, sink);
        }
    }

    fn keep_client(&mut self, edge: Edge, fan_out: bool, sink: &mut Sink<'_>) {
        if edge.is_pending() {
            sink.ledger.add(Tally::EdgesOpened, 1);
            self.wait_for_other(&edge, sink);
        } else if fan_out && self.edges.len() < self.max_items {
            self.met += 1;
            self.edges.insert(&edge);
        } else if fan_out {
            // Whatever server comes now will not find it.
            sink.ledger.add(Tally::EdgesOpened, 1);
            sink.ledger.add(Tally::EdgesDroppedFull, 1);
        }
    }

    /// A server meets its client, or waits for it; a consumer with links does so for each of them.
    pub(super) fn server_apart(&mut self, block: &Block<'_>, side: &Side<'_>, sink: &mut Sink<'_>) {
        let mut keys = std::mem::take(&mut self.keys);
        keys_of(block, side, &mut keys);
        for &(part, key) in &keys {
            let mut edge = self.open(block, side, key, block.origin(side, part));
            let place = if edge.server.is_empty() { Place::Waits(key) } else { self.climb(key) };
            match place {
                Place::Client(slot) => {
                    let was_pending = self.edges.get(slot).is_pending();
                    sink.ledger.add(Tally::EdgesOpened, u64::from(!was_pending));
                    self.meet_at(slot, &edge, block.rules.pairs, sink);
                }
                Place::Filtered => {
                    sink.ledger.add(Tally::EdgesOpened, 1);
                    sink.ledger.add(Tally::EdgesDroppedCounterpart, 1);
                }
                Place::Waits(top) => {
                    if top != key {
                        edge.set(MOVED);
                        edge.key = top;
                    }
                    sink.ledger.add(Tally::EdgesOpened, 1);
                    self.wait_for_other(&edge, sink);
                }
            }
        }
        self.keys = keys;
    }

    /// Remembers the way from a span of another kind to its parent, and lets the servers below it climb.
    pub(super) fn relay(&mut self, block: &Block<'_>, span: &Span<'_>, sink: &mut Sink<'_>) {
        let Some(relay) = relay_of(block, span) else { return };
        if self.relays.find(&relay.key, |_| true).is_some() {
            return;
        }
        if self.relays.len() >= self.max_items {
            return sink.ledger.add(Tally::RelaysDroppedFull, 1);
        }
        self.relays.insert(relay);
        let mut slots = std::mem::take(&mut self.slots);
        self.edges.find_all(&relay.key, is_named_server, &mut slots);
        for &slot in &slots {
            match self.climb(relay.key) {
                Place::Client(client) => {
                    let server = self.edges.remove(slot);
                    // Both were pending, and are one edge.
                    let both = self.edges.get(client).is_pending();
                    sink.ledger.add(Tally::EdgesJoined, u64::from(both));
                    self.meet_at(client, &server, block.rules.pairs, sink);
                }
                Place::Filtered => {
                    self.edges.remove(slot);
                    sink.ledger.add(Tally::EdgesDroppedCounterpart, 1);
                }
                Place::Waits(top) => {
                    self.edges.change(slot, |edge| edge.set(MOVED));
                    self.edges.rekey(slot, top.span_id);
                }
            }
        }
        self.slots = slots;
    }

    /// Climbs from a span to the nearest client, over relays.
    fn climb(&self, from: Key) -> Place {
        let mut key = from;
        for _ in 0..MAX_CLIMB {
            if key.is_root() {
                break;
            }
            if let Some(slot) = self.edges.find(&key, |edge| edge.has_client() && !edge.client.is_empty()) {
                return Place::Client(slot);
            }
            if self.is_marked(&key, End::Client) {
                return Place::Filtered;
            }
            let Some(slot) = self.relays.find(&key, |_| true) else { break };
            key.span_id = self.relays.get(slot).parent;
        }
        Place::Waits(key)
    }

    /// A server has found its client, which is pending or has met others.
    fn meet_at(&mut self, slot: u32, server: &Edge, pairs: Pairs, sink: &mut Sink<'_>) {
        let client = self.edges.get(slot);
        let was_met = usize::from(!client.is_pending());
        if pairs.fan_out {
            self.edges.change(slot, |edge| edge.set(MET));
            self.met += 1 - was_met;
        } else {
            self.edges.remove(slot);
            self.met -= was_met;
        }
        self.meet(&client, server, sink);
    }

    /// Makes an edge of two halves. Which of them came first means nothing.
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
        self.emit(&edge, Tally::EdgesCompleted, sink);
    }
}

fn is_named_server(edge: &Edge) -> bool {
    !edge.has_client() && !edge.server.is_empty()
}

/// The edges of a server: with its parent, and with what it links to if it is a consumer. A consumer with links whose
/// parent is nobody has no edge with nobody.
pub(super) fn keys_of(block: &Block<'_>, side: &Side<'_>, out: &mut Vec<(u16, Key)>) {
    out.clear();
    out.push((0, side.key));
    if !block.rules.pairs.links || side.kind != EdgeKind::Consumer {
        return;
    }
    for (part, link) in (1..=u16::MAX).zip(side.span.links()) {
        if let (Some(trace_id), Some(span_id)) = (valid_id(link.trace_id), valid_id(link.span_id)) {
            let key = Key { tenant: side.key.tenant, trace_id, span_id };
            if !out.iter().any(|(_, known)| *known == key) {
                out.push((part, key));
            }
        }
    }
    if side.key.is_root() && out.len() > 1 {
        out.remove(0);
    }
}

/// A span of another kind, if it can lead anywhere.
pub(super) fn relay_of(block: &Block<'_>, span: &Span<'_>) -> Option<Relay> {
    if matches!(span.kind, 2..=5) {
        return None;
    }
    let (trace_id, span_id) = (valid_id(span.trace_id)?, valid_id(span.span_id)?);
    let parent = valid_id(span.parent_span_id)?;
    let origin =
        Origin { offset: block.record.offset, created: block.record.stream_time, ordinal: span.ordinal, part: 0 };
    Some(Relay { key: Key { tenant: block.tenant, trace_id, span_id }, parent, origin })
}
