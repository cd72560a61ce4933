//! The system under load: services, their operations, and the edges between them.

use super::scaled::Scale;
use super::template::{Attr, Attrs, ResourceTemplate, SpanTemplate};
use crate::core::model::hash::Map;

/// A seeded system of services: every span that a load can contain, and every edge that it can draw.
#[derive(Debug, Clone)]
pub struct Topology {
    pub(super) services: Vec<Service>,
    pub(super) ops: Vec<Op>,
    /// The label sets of all edges that can be counted.
    pub(super) edges: Vec<EdgeLabels>,
    /// Where traces begin.
    pub(super) entries: Vec<EntryPoint>,
}

/// A service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) template: ResourceTemplate,
}

/// An OTLP span kind, with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum LoadSpanKind {
    Unspecified = 0,
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

/// An operation: one kind of span of one service, and what happens while it runs.
#[derive(Debug, Clone)]
pub(super) struct Op {
    /// Index of the service.
    pub(super) service: usize,
    pub(super) name: String,
    pub(super) kind: LoadSpanKind,
    pub(super) template: SpanTemplate,
    /// The usual time spent in the operation itself, nanoseconds.
    pub(super) work: u64,
    /// How much likelier than others it fails, in percent.
    pub(super) fragile: u32,
    /// Whether its SDK sets status OK.
    pub(super) says_ok: bool,
    /// Its steps, one after the other.
    pub(super) steps: Vec<Step>,
}

/// One thing that an operation may do: a child span, and what is behind it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// Index of the child's operation.
    pub(super) op: usize,
    /// How often it happens, per million.
    pub(super) chance: u32,
    pub(super) far: Far,
}

/// What is behind a child span. `edge` is an index into [`Topology::edges`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Far {
    /// Nothing: the child has no edge kind.
    Inside,
    /// The child is a client span, `op` the server operation that it calls.
    Server { op: usize, edge: usize },
    /// The child is a producer span, `op` the consumer operation that gets the message.
    Consumer { op: usize, edge: usize },
    /// The child is a client span of a database: an edge of its own.
    Database { edge: usize },
    /// The child names a peer that sends no spans: a virtual node.
    Peer { edge: usize },
    /// The peer span never comes, and the child does not name the peer.
    Lost,
}

/// Where a trace begins.
#[derive(Debug, Clone)]
pub(super) struct EntryPoint {
    /// Index of the operation of the first span.
    pub(super) op: usize,
    /// How often, relative to the other entries.
    pub(super) weight: u64,
    pub(super) origin: Caller,
}

/// The caller of the first span of a trace.
#[derive(Debug, Clone, Copy)]
pub(super) enum Caller {
    /// No service: the span is a root of an edge kind, its client a virtual node.
    Outside { edge: usize },
    /// No service: the span is a root of no edge kind.
    Nobody,
    /// A span that never arrives.
    Lost,
}

/// The labels of an edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EdgeLabels {
    pub(super) client: String,
    pub(super) server: String,
    /// `connection_type`; empty for a plain call.
    pub(super) connection: &'static str,
}

/// Collects a topology.
#[derive(Debug, Default)]
pub(super) struct Builder {
    services: Vec<Service>,
    ops: Vec<Op>,
    edges: Vec<EdgeLabels>,
    edge_index: Map<EdgeLabels, usize>,
    entries: Vec<EntryPoint>,
}

// === impl Topology ===

impl Topology {
    /// A web shop: fifteen services, three databases, a queue, a payment provider that sends no spans, browsers and a
    /// mobile app in front, and a few things that are broken. `seed` decides about versions, hosts and speeds.
    #[must_use]
    pub fn shop(seed: u64) -> Self {
        super::shop::build(seed)
    }

    /// A synthetic system of any size with the shape of the reference load.
    #[must_use]
    pub fn scaled(scale: &Scale, seed: u64) -> Self {
        super::scaled::build(scale, seed)
    }

    /// The names of all services, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(|s| s.name.as_str())
    }
}

// === impl LoadSpanKind ===

impl LoadSpanKind {
    /// The value of the `span_kind` label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Unspecified => "SPAN_KIND_UNSPECIFIED",
            Self::Internal => "SPAN_KIND_INTERNAL",
            Self::Server => "SPAN_KIND_SERVER",
            Self::Client => "SPAN_KIND_CLIENT",
            Self::Producer => "SPAN_KIND_PRODUCER",
            Self::Consumer => "SPAN_KIND_CONSUMER",
        }
    }

    /// Whether spans of this kind are a half of an edge.
    pub(super) fn has_edge(self) -> bool {
        !matches!(self, Self::Unspecified | Self::Internal)
    }
}

// === impl Builder ===

impl Builder {
    /// Adds a service.
    pub(super) fn service(&mut self, name: &str, scope: &str, resource: Attrs) -> usize {
        let mut attrs = vec![("service.name", text(name))];
        attrs.extend(resource);
        self.services.push(Service { name: name.to_owned(), template: ResourceTemplate::new(&attrs, scope) });
        self.services.len() - 1
    }

    /// Adds an operation without steps.
    pub(super) fn op(&mut self, service: usize, kind: LoadSpanKind, name: &str, work: u64, attrs: &Attrs) -> usize {
        self.ops.push(Op {
            service,
            name: name.to_owned(),
            kind,
            template: SpanTemplate::new(name, kind as u8, attrs),
            work,
            fragile: 100,
            says_ok: self.ops.len() % 7 == 3,
            steps: Vec::new(),
        });
        self.ops.len() - 1
    }

    /// Makes an operation fail `percent` / 100 times as often as others.
    pub(super) fn fragile(&mut self, op: usize, percent: u32) {
        self.ops[op].fragile = percent;
    }

    /// The service of an operation.
    pub(super) fn service_of(&self, op: usize) -> usize {
        self.ops[op].service
    }

    /// The name of a service.
    pub(super) fn name_of(&self, service: usize) -> &str {
        &self.services[service].name
    }

    /// While `parent` runs, `child` runs in the same service. `chance` is in percent, here and below.
    pub(super) fn inside(&mut self, parent: usize, child: usize, chance: u32) {
        self.step(parent, child, chance, Far::Inside);
    }

    /// `parent` calls the server operation `server` through the client operation `client`.
    pub(super) fn call(&mut self, parent: usize, client: usize, server: usize, chance: u32) {
        let edge = self.edge_between(client, server, "");
        self.step(parent, client, chance, Far::Server { op: server, edge });
    }

    /// `parent` sends a message through `producer` that `consumer` takes.
    pub(super) fn publish(&mut self, parent: usize, producer: usize, consumer: usize, chance: u32) {
        let edge = self.edge_between(producer, consumer, "messaging_system");
        self.step(parent, producer, chance, Far::Consumer { op: consumer, edge });
    }

    /// `parent` calls the database with the node name `node`.
    pub(super) fn database(&mut self, parent: usize, client: usize, node: &str, chance: u32) {
        let edge = self.edge_to(client, node, "database");
        self.step(parent, client, chance, Far::Database { edge });
    }

    /// `parent` calls `peer`, which sends no spans.
    pub(super) fn peer(&mut self, parent: usize, client: usize, peer: &str, chance: u32) {
        let edge = self.edge_to(client, peer, "virtual_node");
        self.step(parent, client, chance, Far::Peer { edge });
    }

    /// `parent` makes a client or producer span whose other half never comes.
    pub(super) fn lost(&mut self, parent: usize, child: usize, chance: u32) {
        self.step(parent, child, chance, Far::Lost);
    }

    /// Traces begin at `op`, called by `client`, which sends no spans (`user` where nothing names it).
    pub(super) fn entry(&mut self, op: usize, client: &str, weight: u64) {
        let server = self.services[self.ops[op].service].name.clone();
        let edge = self.edge(EdgeLabels { client: client.to_owned(), server, connection: "virtual_node" });
        self.entries.push(EntryPoint { op, weight, origin: Caller::Outside { edge } });
    }

    /// Traces begin at `op`, an operation of no edge kind.
    pub(super) fn timer(&mut self, op: usize, weight: u64) {
        self.entries.push(EntryPoint { op, weight, origin: Caller::Nobody });
    }

    /// Traces begin at `op`, whose parent never arrives.
    pub(super) fn orphan(&mut self, op: usize, weight: u64) {
        self.entries.push(EntryPoint { op, weight, origin: Caller::Lost });
    }

    /// The finished topology.
    pub(super) fn build(self) -> Topology {
        Topology { services: self.services, ops: self.ops, edges: self.edges, entries: self.entries }
    }

    fn step(&mut self, parent: usize, op: usize, chance: u32, far: Far) {
        self.ops[parent].steps.push(Step { op, chance: chance * 10_000, far });
    }

    fn edge_between(&mut self, client: usize, server: usize, connection: &'static str) -> usize {
        let node = self.services[self.ops[server].service].name.clone();
        self.edge_to(client, &node, connection)
    }

    fn edge_to(&mut self, client: usize, server: &str, connection: &'static str) -> usize {
        let client = self.services[self.ops[client].service].name.clone();
        self.edge(EdgeLabels { client, server: server.to_owned(), connection })
    }

    fn edge(&mut self, labels: EdgeLabels) -> usize {
        let edges = &mut self.edges;
        *self.edge_index.entry(labels).or_insert_with_key(|labels| {
            edges.push(labels.clone());
            edges.len() - 1
        })
    }
}

/// A string attribute.
pub(super) fn text(s: impl Into<String>) -> Attr {
    Attr::Text(s.into())
}

/// An integer attribute.
pub(super) fn int(i: i64) -> Attr {
    Attr::Int(i)
}
