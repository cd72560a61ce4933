//! Edges between spans of any kinds: a call goes from a span to the nearest span below it that is of another service.
//!
//! With `ancestors: any`, whatever a strict pair of a client and a server explains is left to it: those meet as
//! [`apart`](super::apart) has them, and a client may meet several servers. What is open when the wait of a span ends is
//! decided here:
//!
//! - A server or consumer that has met no client is called by the nearest span of another service above it, over spans
//!   of other kinds of its own service. A server, or another span that makes edges, of its own service stops the search:
//!   what lies inside of it is no call from elsewhere.
//! - Any other span is called by its parent, if that is of another service. A span of another kind is not, when a server
//!   has been found below it over such spans: the server is called in its place.
//! - A client that a database answers calls nothing else. One that has met no server, and below which another service
//!   was called over spans of its own, has no virtual node: the call is counted.
//!
//! Each span is decided once, when its wait ends, so it is called at most once. Only what came less than a wait before
//! it counts, as for strict pairs, and what comes later than that is not there yet. So the order within that time does
//! not matter. Spans have to be remembered for two waits: one that came just before the other is needed when that one is decided.
//!
//! The half of the client is that of a client or producer. Other spans do not measure the call: how long they took is
//! not observed, and that they failed is no failure of the call.

use std::sync::Arc;

use super::edge::{Connection, Edge, EdgeKey, EdgeKind, End, FAILED};
use super::extras::Fresh;
use super::kin::Kin;
use super::live::EdgeOrigin;
use super::pairing::{EdgeBlock, Half, Pairing, Sink, Waited, kind_of, valid_id};
use super::rules::Pairs;
use crate::core::model::names::NameId;
use crate::core::model::{Counter, Millis};
use crate::core::otlp::Span;

/// The limit of spans above, and below, that a search goes over. It guards against loops.
const MAX_CLIMB: usize = 100;

impl Pairing {
    /// Remembers a span that the filter keeps.
    pub(super) fn remember(&mut self, block: &EdgeBlock<'_>, span: &Span<'_>, sink: &mut Sink<'_>) {
        let Some(kin) = self.kin_of(block, span, block.origin_of(span, 0)) else { return };
        if self.kinship.len() >= self.max_items {
            return sink.ledger.add(Counter::RelaysDroppedFull, 1);
        }
        self.kinship.insert(kin, false);
    }

    /// What is remembered of a span: nothing without IDs and a service.
    pub(super) fn kin_of(&mut self, block: &EdgeBlock<'_>, span: &Span<'_>, origin: EdgeOrigin) -> Option<Kin> {
        const ERROR: i32 = 2;
        let service = block.service.filter(|service| !service.is_empty())?;
        let (trace_id, span_id) = (valid_id(span.trace_id)?, valid_id(span.span_id)?);
        let parent = valid_id(span.parent_span_id).unwrap_or_default();
        let key = EdgeKey { tenant: block.tenant, trace_id, span_id };
        let (rules, attributes) = (&block.rules, block.rules.sieve(span.attributes));
        let kind = kind_of(block, span);
        let mut kin = Kin::new(key, parent, origin, service);
        kin.kind = kind;
        kin.half = Half { start_ns: span.start_ns, end_ns: span.end_ns };
        kin.failed = span.status_code == ERROR || rules.failed(attributes);
        let database =
            kind.is_some_and(|kind| kind.end() == End::Client).then(|| rules.database(block.resource, attributes));
        kin.database = database.flatten().flatten().is_some_and(|name| !name.is_empty());
        if !rules.slots.is_empty() {
            let weight = rules.sampling.weight(span, block.resource.attributes());
            let look_up = |source| rules.value(source, block.resource, attributes);
            let Self { names, scratch, .. } = self;
            kin.extras = [End::Client, End::Server].map(|end| {
                let fresh = Fresh { end, weight, operation: rules.operation(span.name) };
                let look_up = |source| look_up(source).map(|value| rules.cut_value(value));
                scratch.update(names, &rules.slots, (NameId::EMPTY, fresh), look_up)
            });
        }
        Some(kin)
    }

    /// A server that has come to `from` has climbed over the spans from there on: it is called in their place.
    pub(super) fn pass(&mut self, from: EdgeKey, pairs: Pairs) {
        if !pairs.any {
            return;
        }
        for key in self.climbed(from) {
            self.kinship.pass(&key);
        }
    }

    /// The edge of a server that no client has met, if another span calls it. `from` is its parent.
    pub(super) fn related(&mut self, server: &Edge, from: [u8; 8]) -> Option<Edge> {
        let is_open = !server.has_client() && !server.server.is_empty() && server.origin.part == 0;
        let caller = is_open.then(|| self.caller(server, from)).flatten()?;
        let mut edge = self.called_by(&caller, server.extra);
        (edge.server, edge.kind) = (server.server, server.kind);
        server.half(End::Server).into_iter().for_each(|half| edge.set_half(End::Server, half));
        if server.is(FAILED) {
            edge.set(FAILED);
        }
        if server.kind == EdgeKind::Consumer {
            edge.connection = Connection::Messaging;
        }
        Some(edge)
    }

    fn caller(&self, server: &Edge, from: [u8; 8]) -> Option<Kin> {
        let mut key = EdgeKey { span_id: from, ..server.key };
        for _ in 0..MAX_CLIMB {
            let above = self.kinship.find(&key)?;
            if !above.is_within(server.origin.created, self.wait) || above.database {
                return None;
            }
            if above.service != server.server {
                return Some(*above);
            }
            if above.kind.is_some() {
                return None;
            }
            key.span_id = above.parent;
        }
        None
    }

    /// Decides who calls the spans whose wait is over.
    pub(super) fn decide(&mut self, stream_time: Millis, ahead: &impl Fn(Waited) -> Millis, sink: &mut Sink<'_>) {
        while let Some(kin) = self.kinship.decide(stream_time, self.wait) {
            let is_server = kin.kind.is_some_and(|kind| kind.end() == End::Server);
            let rules = Arc::clone(self.book.of(self.names.get(kin.key.tenant)));
            if is_server || kin.passed || !rules.pairs.any {
                continue;
            }
            let within = |above: &&Kin| above.is_within(kin.origin.created, self.wait);
            let above = self.kinship.find(&kin.above()).filter(within).copied();
            let Some(caller) = above.filter(|above| above.service != kin.service && !above.database) else { continue };
            let mut edge = self.called_by(&caller, kin.extras[End::Server as usize]);
            edge.server = kin.service;
            edge.set_half(End::Server, kin.half);
            if kin.failed {
                edge.set(FAILED);
            }
            let (begun, ended) = (kin.origin.created, kin.half.end());
            sink.table.turn_to(ahead(Waited { begun, ended, wait: self.wait }));
            sink.ledger.add(Counter::EdgesOpened, 1);
            self.emit(&edge, Counter::EdgesCompleted, sink);
        }
        sink.table.turn_to(0);
        self.kinship.forget(stream_time, self.wait);
    }

    /// The caller's part of an edge.
    fn called_by(&mut self, caller: &Kin, extra: NameId) -> Edge {
        let mut edge = Edge::new(caller.key, caller.kind.unwrap_or(EdgeKind::Client), caller.origin);
        edge.client = caller.service;
        if let Some(kind) = caller.kind.filter(|kind| kind.end() == End::Client) {
            edge.set_half(End::Client, caller.half);
            if caller.failed {
                edge.set(FAILED);
            }
            edge.connection = kind.connection();
        } else {
            edge.connection = Connection::Plain;
        }
        let Self { book, names, scratch, .. } = self;
        let rules = book.of(names.get(caller.key.tenant));
        edge.extra = scratch.join(names, &rules.slots, caller.extras[End::Client as usize], extra);
        edge
    }

    /// Whether another service was called below a client that has met no server.
    pub(super) fn has_called(&self, client: &Edge, pairs: Pairs) -> bool {
        let mut open = vec![(client.key, 0)];
        while let Some((key, depth)) = open.pop() {
            for below in self.kinship.below(key) {
                if !below.is_within(client.origin.created, self.wait) {
                    continue;
                }
                if below.service != client.client {
                    return true;
                }
                let is_call = pairs.nested && below.kind == Some(EdgeKind::Client) && !below.database;
                if (is_call || below.kind.is_none()) && depth < MAX_CLIMB && below.key.span_id != client.key.span_id {
                    open.push((below.key, depth + 1));
                }
            }
        }
        false
    }
}
