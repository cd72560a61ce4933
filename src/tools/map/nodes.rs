//! Which services there are, what kind they are, and where they belong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::keys::{Connection, Edge, Key, NodeName, Operation};
use super::model::Map;

/// The type of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeType {
    /// It sends spans, or is a service by its edges.
    Service,
    /// A database that clients name.
    Database,
    /// A destination of messages that sends no spans.
    Queue,
    /// A system outside, without spans.
    External,
    /// A caller of services from outside, without spans.
    User,
}

/// The names of a tenant's nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// Those that send spans, with the namespaces in which the name is used.
    spans: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// The others, with their edges.
    edges: BTreeMap<NodeName, BTreeSet<(Connection, bool)>>,
}

/// Whether spans of this kind are calls from outside of their service.
pub(super) fn is_entry(operation: &Operation) -> bool {
    matches!(&*operation.kind, "server" | "consumer")
}

// === impl NodeType ===

impl NodeType {
    /// Its name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Database => "database",
            Self::Queue => "queue",
            Self::External => "external",
            Self::User => "user",
        }
    }
}

// === impl Nodes ===

impl Nodes {
    pub(super) fn of(map: &Map, tenant: &str) -> Self {
        let mut nodes = Self::default();
        let keys = || map.keys.iter().flatten().map(|slot| &slot.key).filter(|key| **key.tenant() == *tenant);
        for key in keys() {
            if let Key::Operation(Operation { node, .. }) = key {
                nodes.spans.entry(Arc::clone(&node.name)).or_default().insert(Arc::clone(&node.namespace));
            }
        }
        for key in keys() {
            if let Key::Edge(Edge { client, server, connection, .. }) = key {
                for (end, is_server) in [(client, false), (server, true)] {
                    let end = nodes.resolve(end);
                    nodes.edges.entry(end).or_default().insert((*connection, is_server));
                }
            }
        }
        nodes
    }

    /// The node that an edge means: edges may omit the namespace, or put it before the name.
    pub(super) fn resolve(&self, end: &NodeName) -> NodeName {
        if !end.namespace.is_empty() {
            return end.clone();
        }
        if let Some(namespaces) = self.spans.get(&end.name) {
            return match namespaces.iter().next() {
                Some(only) if namespaces.len() == 1 => NodeName { namespace: Arc::clone(only), name: end.name.clone() },
                _ => end.clone(),
            };
        }
        if let Some((namespace, name)) = end.name.split_once('/')
            && let Some((known, namespaces)) = self.spans.get_key_value(name)
            && let Some(namespace) = namespaces.iter().find(|ns| ***ns == *namespace || ns.is_empty())
        {
            let namespace = if namespace.is_empty() { prefix(&end.name) } else { Arc::clone(namespace) };
            return NodeName { namespace, name: Arc::clone(known) };
        }
        end.clone()
    }

    pub(super) fn kind(&self, node: &NodeName) -> NodeType {
        if self.spans.get(&node.name).is_some_and(|namespaces| namespaces.contains(&node.namespace)) {
            return NodeType::Service;
        }
        let Some(roles) = self.edges.get(node) else { return NodeType::Service };
        let has = |connection, server| roles.contains(&(connection, server));
        let calls = roles.iter().any(|(connection, server)| !server && *connection != Connection::VirtualClient);
        match () {
            () if has(Connection::Database, true) && !calls => NodeType::Database,
            () if has(Connection::VirtualClient, false) && *node.name == *"user" => NodeType::User,
            () if has(Connection::VirtualClient, false) => NodeType::External,
            () if calls => NodeType::Service,
            () if has(Connection::Messaging, true) && !self.spans.is_empty() => NodeType::Queue,
            () if has(Connection::VirtualServer, true) => NodeType::External,
            () => NodeType::Service,
        }
    }

    /// The group that a node is shown in when there are many: its namespace, or its type.
    pub(super) fn group(&self, node: &NodeName) -> String {
        if !node.namespace.is_empty() {
            return node.namespace.to_string();
        }
        let group = match self.kind(node) {
            NodeType::Service => "",
            NodeType::Database => "databases",
            NodeType::Queue => "queues",
            NodeType::External => "external",
            NodeType::User => "user",
        };
        group.to_owned()
    }

    /// The edges' other half: every node that there is.
    pub(super) fn all(&self) -> BTreeSet<NodeName> {
        let spans = self.spans.iter().flat_map(|(name, namespaces)| {
            namespaces.iter().map(|namespace| NodeName { namespace: namespace.clone(), name: name.clone() })
        });
        self.edges.keys().cloned().chain(spans).collect()
    }

    /// The node with this identifier.
    pub(super) fn find(&self, id: &str) -> Option<NodeName> {
        self.all().into_iter().find(|node| node.id() == id)
    }
}

fn prefix(name: &str) -> Arc<str> {
    Arc::from(name.split_once('/').map_or("", |(namespace, _)| namespace))
}
