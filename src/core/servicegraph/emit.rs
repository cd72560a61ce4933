//! The output of edges: virtual nodes, deltas, labels.

use std::sync::Arc;

use super::edge::{Connection, Edge, EdgeKind, End, FAILED, Half};
use super::pairing::{Pairing, Sink};
use super::rules::Rules;
use crate::core::deltas::{Define, Growing};
use crate::core::model::names::NameId;
use crate::core::model::wire::put_bytes;
use crate::core::model::{Counter, LabelBuilder, Layout, Weight};
use crate::core::slo::LabeledEvent;

/// The first byte of this room's raw keys in the delta table.
const KEY_SPACE: u8 = b'g';
/// That of the sets that show when an edge was seen, and the gauge that stands for both.
const SEEN_KEY_SPACE: u8 = b'e';
const FIRST_SEEN: usize = 0;
/// The client of a root server span.
const USER: &[u8] = b"user";
/// The server of a client span that names no peer, in the Collector.
const UNKNOWN: &[u8] = b"unknown";
/// Counters and histograms of [`Family::ServiceGraph`](crate::core::model::Family::ServiceGraph), in cell order.
const REQUESTS: usize = 0;
const FAILED_REQUESTS: usize = 1;
const CONNECTION_INFO: usize = 2;
const SERVER: usize = 0;
const CLIENT: usize = 1;
const MESSAGING: usize = 2;

impl Pairing {
    /// A virtual node stands in for the missing side, if an attribute names it.
    ///
    /// `from` is the parent of a server.
    pub(super) fn settle(&mut self, mut edge: Edge, from: [u8; 8], sink: &mut Sink<'_>) {
        let rules = Arc::clone(self.book.of(self.names.get(edge.key.tenant)));
        if rules.pairs.any {
            if let Some(edge) = self.related(&edge, from) {
                return self.emit(&edge, Counter::EdgesCompleted, sink);
            }
            if !edge.client.is_empty() && edge.server.is_empty() && self.has_called(&edge, rules.pairs) {
                return sink.ledger.add(Counter::EdgesJoined, 1);
            }
        }
        let server = self.virtual_server(&rules, edge.peer);
        let uncalled = edge.key.is_root() || rules.is_orphan(&edge);
        if edge.client.is_empty() && uncalled && rules.has_virtual_nodes() {
            edge.connection = Connection::VirtualClient;
            let named = !edge.peer.is_empty() && !rules.shows.as_otel;
            edge.client = if named { edge.peer } else { self.names.intern(USER) };
        } else if !edge.client.is_empty() && edge.server.is_empty() && !server.is_empty() {
            edge.connection = Connection::VirtualServer;
            edge.server = server;
        } else {
            let counter = match edge.kind {
                EdgeKind::Client => Counter::EdgesExpiredClient,
                EdgeKind::Server => Counter::EdgesExpiredServer,
                EdgeKind::Producer => Counter::EdgesExpiredProducer,
                EdgeKind::Consumer => Counter::EdgesExpiredConsumer,
            };
            return sink.ledger.add(counter, 1);
        }
        self.emit(&edge, Counter::EdgesVirtual, sink);
    }

    fn virtual_server(&mut self, rules: &Rules, peer: NameId) -> NameId {
        let unknown = rules.shows.as_otel && rules.has_virtual_nodes() && peer.is_empty();
        if unknown { self.names.intern(UNKNOWN) } else { peer }
    }

    /// Adds the edge to the deltas.
    pub(super) fn emit(&mut self, edge: &Edge, outcome: Counter, sink: &mut Sink<'_>) {
        let parts = [edge.key.tenant, edge.client, edge.server].map(|id| self.names.get(id));
        let rules = self.book.of(parts[0]);
        let (weight, values) = rules.slots.open(self.names.get(edge.extra));
        let shown_failure = rules.shows.as_otel && edge.is(FAILED);
        self.key.clear();
        self.key.extend([KEY_SPACE, edge.connection as u8, u8::from(shown_failure)]);
        parts.iter().for_each(|part| put_bytes(&mut self.key, part));
        self.key.extend_from_slice(values);
        let Ok(set) = sink.table.find(&self.key, |labels| define(labels, parts, edge, rules, values)) else {
            return sink.ledger.add(Counter::EdgesDroppedInvalidUtf8, 1);
        };
        sink.ledger.add(outcome, 1);
        if rules.repairs && !(is_text(parts[1]) && is_text(parts[2]) && rules.slots.are_text(values)) {
            sink.ledger.add(Counter::EdgesRepairedUtf8, 1);
        }
        let too_long = |half: Option<Half>| half.is_some_and(|half| half.duration_ns() > rules.longest);
        if too_long(edge.half(End::Client)) || too_long(edge.half(End::Server)) {
            sink.ledger.add(Counter::EdgesTooLong, 1);
        }
        let (shows, mut set) = (rules.shows, sink.table.at(set));
        if shows.requests {
            set.count(REQUESTS, weight);
            if edge.is(FAILED) {
                set.count(FAILED_REQUESTS, weight);
            }
        }
        if shows.latency != [false; 2] {
            observe(edge, rules, &mut set, weight);
        }
        if shows.connection_info {
            set.add(CONNECTION_INFO, 1);
        }
        if shows.messaging && edge.connection == Connection::Messaging {
            let observed = observe_messaging(edge, rules, &mut set, weight);
            sink.ledger.add(Counter::MessagingNotObserved, u64::from(!observed));
        }
        if let Some(seen) = &rules.seen {
            self.key.clear();
            self.key.extend([SEEN_KEY_SPACE, edge.connection as u8]);
            parts.iter().for_each(|part| put_bytes(&mut self.key, part));
            let set = sink.table.find(&self.key, |labels| define_seen(labels, parts, edge, rules, seen));
            if let Ok(set) = set {
                sink.table.mark(set, FIRST_SEEN);
            }
        }
        if let Some(slos) = &rules.slos {
            let mut labels = LabelBuilder::default();
            if let Ok(Define { tenant, .. }) = define(&mut labels, parts, edge, rules, values) {
                let event = LabeledEvent {
                    tenant: &tenant,
                    block: &labels.block(),
                    took: [End::Client, End::Server].map(|end| took(edge, end)),
                    failed: edge.is(FAILED),
                    weight,
                };
                slos.count(&event, &mut self.key, sink.table, sink.ledger);
            }
        }
    }
}

/// How long an edge took on one side, in nanoseconds; on the other one, where a virtual node has none.
fn took(edge: &Edge, end: End) -> u64 {
    edge.half(end).or_else(|| edge.half(end.other())).map_or(0, Half::duration_ns)
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

/// How long both sides took.
fn observe(edge: &Edge, rules: &Rules, set: &mut Growing<'_>, weight: Weight) {
    let (server, client) = (edge.half(End::Server), edge.half(End::Client));
    for (histogram, half, other) in [(SERVER, server, client), (CLIENT, client, server)] {
        if !rules.shows.latency[histogram] || half.is_none() && !rules.shows.missing_is_zero {
            continue;
        }
        let example = half.or(other).filter(|_| rules.exemplars).map(|h| (h.end(), edge.key.trace_id));
        let took = half.map_or(0, Half::duration_ns);
        set.observe(histogram, if took > rules.longest { 0 } else { took }, weight, example);
    }
}

/// Counts how long a message was in flight. Returns false if it ended before it began, or took longer than the
/// plausible maximum; a message without one of its sides has no time.
fn observe_messaging(edge: &Edge, rules: &Rules, set: &mut Growing<'_>, weight: Weight) -> bool {
    let (Some(server), Some(client)) = (edge.half(End::Server), edge.half(End::Client)) else { return true };
    let took = server.start_ns.checked_sub(client.end_ns).filter(|ns| *ns > 0 && *ns <= rules.longest);
    if let Some(ns) = took {
        let example = rules.exemplars.then(|| (server.end(), edge.key.trace_id));
        set.observe(MESSAGING, ns, weight, example);
    }
    took.is_some()
}

fn define(
    labels: &mut LabelBuilder,
    [tenant, client, server]: [&[u8]; 3],
    edge: &Edge,
    rules: &Rules,
    values: &[u8],
) -> Result<Define, std::str::Utf8Error> {
    let virtual_node = match edge.connection {
        Connection::Plain | Connection::Messaging | Connection::Database => "",
        Connection::VirtualClient => "client",
        Connection::VirtualServer => "server",
    };
    label_ends(labels, [client, server], edge, rules)?;
    rules.slots.label(values, labels)?;
    if rules.shows.virtual_node {
        labels.set("virtual_node", virtual_node);
    }
    if rules.shows.as_otel {
        labels.set("failed", if edge.is(FAILED) { "true" } else { "false" });
    }
    let tenant = std::str::from_utf8(tenant)?;
    Ok(Define { tenant: tenant.into(), layout: Arc::clone(&rules.layout) })
}

/// The labels that every edge has.
fn label_ends(
    labels: &mut LabelBuilder,
    [client, server]: [&[u8]; 2],
    edge: &Edge,
    rules: &Rules,
) -> Result<(), std::str::Utf8Error> {
    rules.limit(labels);
    labels.set_bytes("client", client)?;
    labels.set_bytes("server", server)?;
    let connection = match edge.connection {
        Connection::Plain => "",
        Connection::Messaging => "messaging_system",
        Connection::Database => "database",
        Connection::VirtualClient | Connection::VirtualServer => "virtual_node",
    };
    labels.set("connection_type", connection);
    Ok(())
}

fn define_seen(
    labels: &mut LabelBuilder,
    [tenant, client, server]: [&[u8]; 3],
    edge: &Edge,
    rules: &Rules,
    layout: &Arc<Layout>,
) -> Result<Define, std::str::Utf8Error> {
    label_ends(labels, [client, server], edge, rules)?;
    let tenant = std::str::from_utf8(tenant)?;
    Ok(Define { tenant: tenant.into(), layout: Arc::clone(layout) })
}
