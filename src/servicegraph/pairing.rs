//! The pairing of spans into edges, and what becomes of the edges.

use std::sync::Arc;

use super::live::{self, Origin};
use super::names::{NameId, Names};
use super::rules::{RuleBook, Rules, Sieved};
use super::store::{Connection, Edge, EdgeKind, Half, Key, Store};
use crate::config::Tenants;
use crate::deltas::{Define, DeltaTable, route};
use crate::model::wire::{Malformed, put_bytes};
use crate::model::{LabelBuilder, Layout, Ledger, Millis, Tally, Weight};
use crate::otlp::{Attributes, Span};

/// The first byte of this room's raw keys in the delta table.
const KEY_SPACE: u8 = b'g';
/// The client of a root server span.
const USER: &[u8] = b"user";
/// Counters and histograms of [`Family::ServiceGraph`], in cell order.
const REQUESTS: usize = 0;
const FAILED: usize = 1;
const SERVER: usize = 0;
const CLIENT: usize = 1;

/// Pairs spans into edges in stream time; see the [room](super).
#[derive(Debug)]
pub struct Pairing {
    book: RuleBook,
    wait: Millis,
    max_items: usize,
    names: Names,
    store: Store,
    /// A raw key under construction.
    key: Vec<u8>,
    rebuild: Option<Rebuild>,
}

/// Where edges and tallies go.
#[derive(Debug)]
pub struct Sink<'a> {
    /// Deltas of emitted edges.
    pub table: &'a mut DeltaTable,
    /// What became of spans and edges.
    pub ledger: &'a mut Ledger,
}

/// A record whose spans are being paired. Valid until the next record.
#[derive(Debug, Clone, Copy)]
pub struct RecordAt {
    offset: i64,
    stream_time: Millis,
}

/// The spans of one resource in a record.
#[derive(Debug, Clone)]
pub struct Block<'a> {
    record: RecordAt,
    rules: Arc<Rules>,
    tenant: NameId,
    resource: Sieved<'a>,
    service: Option<NameId>,
}

/// The list of a commit, while its half edges are being rebuilt.
#[derive(Debug)]
struct Rebuild {
    listed: Vec<Origin>,
    at: usize,
    opened: usize,
}

/// Why a span is not part of an edge.
enum NoEdge {
    OtherKind,
    WithoutService,
    InvalidId,
}

/// A span as one side of an edge.
struct Side<'a> {
    key: Key,
    kind: EdgeKind,
    service: NameId,
    half: Half,
    span: &'a Span<'a>,
}

impl Pairing {
    /// Nothing pending.
    #[must_use]
    pub fn new(tenants: &Tenants) -> Self {
        let settings = &tenants.defaults().service_graphs;
        Self {
            book: RuleBook::new(tenants),
            // Never at the instant of its creation: spans of one instant may come in several records.
            wait: settings.wait.max(1),
            max_items: settings.max_items,
            names: Names::default(),
            store: Store::default(),
            key: Vec::new(),
            rebuild: None,
        }
    }

    /// The number of half edges that wait for their other side.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.store.len()
    }

    /// Whether any tenant has a service graph.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.book.is_enabled()
    }

    /// Goes on with other settings. What waits is kept.
    pub fn reconfigure(&mut self, tenants: &Tenants) {
        let settings = &tenants.defaults().service_graphs;
        self.book = RuleBook::new(tenants);
        (self.wait, self.max_items) = (settings.wait.max(1), settings.max_items);
    }

    /// Starts with a record. Expire first: a record's spans never meet an edge whose time is up.
    pub fn record(&mut self, offset: i64, stream_time: Millis) -> RecordAt {
        if self.names.is_bloated() {
            self.names.keep(self.store.names());
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
    ) -> Block<'a> {
        let rules = Arc::clone(self.book.of(tenant.as_bytes()));
        let service = service.map(|name| self.names.intern(name));
        let tenant = self.names.intern(tenant.as_bytes());
        Block { record, tenant, resource: rules.sieve(resource), rules, service }
    }

    /// Pairs one span.
    pub fn span(&mut self, block: &mut Block<'_>, span: &Span<'_>, sink: &mut Sink<'_>) {
        if !block.rules.enabled {
            return;
        }
        let side = match side_of(block, span) {
            Ok(side) => side,
            Err(reason) => return refuse(&reason, sink.ledger),
        };
        sink.ledger.add(Tally::EdgeSpans, 1);
        if let Some(slot) = self.store.find(&side.key) {
            update(&mut self.names, self.store.edge_mut(slot), block, &side);
            if self.store.edge(slot).is_complete() {
                let edge = self.store.remove(slot);
                self.emit(&edge, Tally::EdgesCompleted, sink);
            }
            return;
        }
        let mut edge = new_edge(&side, block.record.offset, block.record.stream_time);
        update(&mut self.names, &mut edge, block, &side);
        sink.ledger.add(Tally::EdgesOpened, 1);
        if edge.is_complete() {
            self.emit(&edge, Tally::EdgesCompleted, sink);
        } else if self.store.len() >= self.max_items {
            sink.ledger.add(Tally::EdgesDroppedFull, 1);
        } else {
            self.store.insert(edge);
        }
    }

    /// Settles every edge that has waited long enough at `stream_time`, in the order of creation.
    pub fn expire(&mut self, stream_time: Millis, sink: &mut Sink<'_>) {
        while let Some(slot) = self.store.oldest() {
            if stream_time.saturating_sub(self.store.edge(slot).created) < self.wait {
                break;
            }
            let edge = self.store.remove(slot);
            self.settle(edge, sink);
        }
    }

    /// A virtual node stands in for the missing side, if anything says what it is.
    fn settle(&mut self, mut edge: Edge, sink: &mut Sink<'_>) {
        edge.connection = Connection::Virtual;
        if edge.client.is_empty() && edge.key.is_root() {
            edge.client = if edge.peer.is_empty() { self.names.intern(USER) } else { edge.peer };
        } else if !edge.client.is_empty() && edge.server.is_empty() && !edge.peer.is_empty() {
            edge.server = edge.peer;
        } else {
            let tally = match edge.kind {
                EdgeKind::Client => Tally::EdgesExpiredClient,
                EdgeKind::Server => Tally::EdgesExpiredServer,
                EdgeKind::Producer => Tally::EdgesExpiredProducer,
                EdgeKind::Consumer => Tally::EdgesExpiredConsumer,
            };
            return sink.ledger.add(tally, 1);
        }
        self.emit(&edge, Tally::EdgesVirtual, sink);
    }

    /// Adds the edge to the deltas.
    fn emit(&mut self, edge: &Edge, outcome: Tally, sink: &mut Sink<'_>) {
        let parts = [edge.key.tenant, edge.client, edge.server].map(|id| self.names.get(id));
        self.key.clear();
        self.key.extend([KEY_SPACE, edge.connection as u8]);
        parts.iter().for_each(|part| put_bytes(&mut self.key, part));
        let rules = self.book.of(parts[0]);
        let found = sink.table.find(&self.key, |labels| define(labels, parts, edge.connection, &rules.layout));
        let Ok(set) = found else {
            return sink.ledger.add(Tally::EdgesDroppedInvalidUtf8, 1);
        };
        sink.ledger.add(outcome, 1);
        sink.table.add(set, REQUESTS, 1);
        if edge.failed {
            sink.table.add(set, FAILED, 1);
        }
        for (histogram, half, other) in
            [(SERVER, edge.server_half, edge.client_half), (CLIENT, edge.client_half, edge.server_half)]
        {
            let example = half.or(other).filter(|_| rules.exemplars).map(|h| (h.end, edge.key.trace_id));
            sink.table.observe(set, histogram, half.map_or(0, |h| h.duration_ns), Weight::ONE, example);
        }
    }

    /// The half edges that wait, as bytes for a commit, and the offset of the record that opened the first of them.
    #[must_use]
    pub fn live(&self) -> (Option<i64>, Vec<u8>) {
        live::encode(self.store.iter().map(|e| Origin { offset: e.offset, ordinal: e.ordinal, created: e.created }))
    }

    /// Begins to rebuild the half edges of a commit: what [`Pairing::live`] returned. From now on records from `from` up
    /// to the commit go through [`Pairing::rebuild_span`], and then [`Pairing::finish_rebuild`] ends it.
    ///
    /// # Errors
    /// When the list does not decode.
    pub fn begin_rebuild(&mut self, from: i64, live: &[u8]) -> Result<(), Malformed> {
        self.rebuild = Some(Rebuild { listed: live::decode(from, live)?, at: 0, opened: 0 });
        Ok(())
    }

    /// Pairs one span of a record that is read again.
    pub fn rebuild_span(&mut self, block: &mut Block<'_>, span: &Span<'_>) {
        if !block.rules.enabled {
            return;
        }
        let Ok(side) = side_of(block, span) else { return };
        if let Some(slot) = self.store.find(&side.key) {
            update(&mut self.names, self.store.edge_mut(slot), block, &side);
            return;
        }
        let Some(rebuild) = &mut self.rebuild else { return };
        let here = (block.record.offset, span.ordinal);
        while rebuild.listed.get(rebuild.at).is_some_and(|o| (o.offset, o.ordinal) < here) {
            rebuild.at += 1;
        }
        if let Some(origin) = rebuild.listed.get(rebuild.at).filter(|o| (o.offset, o.ordinal) == here) {
            let mut edge = new_edge(&side, origin.offset, origin.created);
            update(&mut self.names, &mut edge, block, &side);
            self.store.insert(edge);
            rebuild.opened += 1;
        }
    }

    /// Ends rebuilding. What should have come back and did not, because its record is gone, is counted as lost. No
    /// rebuilt edge is complete, or it would not have been on the list; unless the settings have changed since then, in
    /// which case it is emitted now.
    pub fn finish_rebuild(&mut self, sink: &mut Sink<'_>) {
        let Some(rebuild) = self.rebuild.take() else { return };
        sink.ledger.add(Tally::EdgesLost, (rebuild.listed.len() - rebuild.opened) as u64);
        let mut next = self.store.oldest();
        while let Some(slot) = next {
            next = self.store.next(slot);
            if self.store.edge(slot).is_complete() {
                let edge = self.store.remove(slot);
                self.emit(&edge, Tally::EdgesCompleted, sink);
            }
        }
    }
}

fn refuse(reason: &NoEdge, ledger: &mut Ledger) {
    let tally = match reason {
        NoEdge::OtherKind => return,
        NoEdge::WithoutService => Tally::EdgeSpansWithoutService,
        NoEdge::InvalidId => Tally::EdgeSpansInvalidId,
    };
    ledger.add(Tally::EdgeSpans, 1);
    ledger.add(tally, 1);
}

fn side_of<'a>(block: &Block<'_>, span: &'a Span<'a>) -> Result<Side<'a>, NoEdge> {
    let kind = match span.kind {
        2 => EdgeKind::Server,
        3 => EdgeKind::Client,
        4 => EdgeKind::Producer,
        5 => EdgeKind::Consumer,
        _ => return Err(NoEdge::OtherKind),
    };
    let service = block.service.ok_or(NoEdge::WithoutService)?;
    let trace_id = valid_id(span.trace_id).ok_or(NoEdge::InvalidId)?;
    let span_id = match kind {
        EdgeKind::Client | EdgeKind::Producer => valid_id(span.span_id).ok_or(NoEdge::InvalidId)?,
        EdgeKind::Server | EdgeKind::Consumer if span.parent_span_id.is_empty() => [0; 8],
        EdgeKind::Server | EdgeKind::Consumer => span.parent_span_id.try_into().map_err(|_| NoEdge::InvalidId)?,
    };
    let key = Key { tenant: block.tenant, trace_id, span_id };
    let half =
        Half { duration_ns: span.end_ns.saturating_sub(span.start_ns), end: (span.end_ns / 1_000_000) as Millis };
    Ok(Side { key, kind, service, half, span })
}

/// An ID of the right length that is not all zero.
fn valid_id<const N: usize>(id: &[u8]) -> Option<[u8; N]> {
    <[u8; N]>::try_from(id).ok().filter(|id| *id != [0; N])
}

fn new_edge(side: &Side<'_>, offset: i64, created: Millis) -> Edge {
    Edge {
        key: side.key,
        offset,
        ordinal: side.span.ordinal,
        created,
        kind: side.kind,
        connection: Connection::Plain,
        failed: false,
        client: NameId::EMPTY,
        server: NameId::EMPTY,
        peer: NameId::EMPTY,
        client_half: None,
        server_half: None,
    }
}

/// Writes a span into its edge. The last writer wins, except that a failure stays.
fn update(names: &mut Names, edge: &mut Edge, block: &Block<'_>, side: &Side<'_>) {
    const ERROR: i32 = 2;
    edge.kind = side.kind;
    edge.connection = match side.kind {
        EdgeKind::Client | EdgeKind::Server => Connection::Plain,
        EdgeKind::Producer | EdgeKind::Consumer => Connection::Messaging,
    };
    edge.failed |= side.span.status_code == ERROR;
    let rules = &block.rules;
    let attributes = rules.sieve(side.span.attributes);
    if let Some(peer) = rules.peer(attributes) {
        edge.peer = names.intern(&peer);
    }
    match side.kind {
        EdgeKind::Server | EdgeKind::Consumer => {
            edge.server = side.service;
            edge.server_half = Some(side.half);
        }
        EdgeKind::Client | EdgeKind::Producer => {
            edge.client = side.service;
            edge.client_half = Some(side.half);
            if let Some(name) = rules.database(block.resource, attributes) {
                edge.connection = Connection::Database;
                edge.server_half = Some(side.half);
                if let Some(name) = name {
                    edge.server = names.intern(&name);
                }
            }
        }
    }
}

fn define(
    labels: &mut LabelBuilder,
    [tenant, client, server]: [&[u8]; 3],
    connection: Connection,
    layout: &Arc<Layout>,
) -> Result<Define, std::str::Utf8Error> {
    labels.set("client", std::str::from_utf8(client)?);
    labels.set("server", std::str::from_utf8(server)?);
    let connection = match connection {
        Connection::Plain => "",
        Connection::Messaging => "messaging_system",
        Connection::Database => "database",
        Connection::Virtual => "virtual_node",
    };
    labels.set("connection_type", connection);
    let tenant = std::str::from_utf8(tenant)?;
    Ok(Define { tenant: tenant.into(), layout: Arc::clone(layout), route: route(tenant, client) })
}
