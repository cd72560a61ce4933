//! Label sets → keys of the map.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::model::{Family, labels};

/// A service, database, queue or outside system by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName {
    /// The service's namespace; empty if nothing names one.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

/// The kind of an edge, by its label `connection_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Connection {
    /// A call between two services.
    Request,
    /// A producer and a consumer.
    Messaging,
    /// A call of a database.
    Database,
    /// The client sends no spans.
    VirtualClient,
    /// The server sends no spans.
    VirtualServer,
}

/// The subject of a label set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Operation(Operation),
    Edge(Edge),
}

/// Spans of one name, kind and result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Operation {
    pub(super) tenant: Arc<str>,
    pub(super) node: NodeName,
    pub(super) name: Arc<str>,
    pub(super) kind: Arc<str>,
    pub(super) failed: bool,
}

/// Calls of a server by a client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) tenant: Arc<str>,
    pub(super) client: NodeName,
    pub(super) server: NodeName,
    pub(super) connection: Connection,
}

/// Texts, each once.
#[derive(Debug, Default)]
pub(super) struct Texts(BTreeMap<Arc<str>, ()>);

// === impl NodeName ===

impl NodeName {
    /// The identifier: namespace, `/`, name. Without a namespace, the name alone, unless another node has that
    /// identifier.
    #[must_use]
    pub fn id(&self) -> String {
        match (&*self.namespace, self.name.contains('/')) {
            ("", false) => self.name.to_string(),
            ("", true) => format!("/{}", self.name),
            (namespace, _) => format!("{}/{}", namespace.replace('%', "%25").replace('/', "%2F"), self.name),
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Its name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Messaging => "messaging",
            Self::Database => "database",
            Self::VirtualClient | Self::VirtualServer => "virtual",
        }
    }

    /// The label `virtual_node` is there only if it is switched on: without it, a client called `user` is the virtual one.
    fn of(connection: &str, side: &str, client: &str) -> Self {
        match (connection, side) {
            ("messaging_system", _) => Self::Messaging,
            ("database", _) => Self::Database,
            ("virtual_node", "client") => Self::VirtualClient,
            ("virtual_node", "") if client == "user" => Self::VirtualClient,
            ("virtual_node", _) => Self::VirtualServer,
            _ => Self::Request,
        }
    }
}

// === impl Key ===

impl Key {
    pub(super) fn tenant(&self) -> &Arc<str> {
        match self {
            Self::Operation(o) => &o.tenant,
            Self::Edge(e) => &e.tenant,
        }
    }

    /// The key that the labels of a family name; `None` for families that are not in a map.
    pub(super) fn of(texts: &mut Texts, tenant: &str, family: Family, block: &[u8]) -> Option<Self> {
        match family {
            Family::SpanMetrics => Some(Self::Operation(Operation::of(texts, tenant, block))),
            Family::ServiceGraph => Some(Self::Edge(Edge::of(texts, tenant, block))),
            Family::SpanEvents
            | Family::TargetInfo
            | Family::HostInfo
            | Family::Slo
            | Family::EdgeSeen
            | Family::AttributeCounter
            | Family::AttributeSum
            | Family::AttributeHistogram
            | Family::TraceDuration
            | Family::TraceShape
            | Family::CriticalPath
            | Family::SelfTime
            | Family::TraceErrors
            | Family::TraceCalls
            | Family::TraceCallGroups
            | Family::TraceFanOut
            | Family::TraceQuality
            | Family::SpansByRoot => None,
        }
    }

    /// The memory that it takes besides its texts.
    pub(super) const COST: usize = 192;
}

impl Operation {
    fn of(texts: &mut Texts, tenant: &str, block: &[u8]) -> Self {
        let [mut service, mut namespace, mut name, mut kind] = [""; 4];
        let mut failed = false;
        for (label, value) in labels::iter(block) {
            match label {
                "service" | "service_name" => service = value,
                "service_namespace" => namespace = value,
                "span_name" => name = value,
                "span_kind" => kind = value,
                "status_code" => failed = value == "STATUS_CODE_ERROR",
                _ => {}
            }
        }
        let kind = kind.strip_prefix("SPAN_KIND_").unwrap_or(kind).to_ascii_lowercase();
        Self {
            tenant: texts.take(tenant),
            node: NodeName { namespace: texts.take(namespace), name: texts.take(service) },
            name: texts.take(name),
            kind: texts.take(&kind),
            failed,
        }
    }
}

impl Edge {
    fn of(texts: &mut Texts, tenant: &str, block: &[u8]) -> Self {
        let [mut client, mut client_namespace, mut server, mut server_namespace] = [""; 4];
        let [mut connection, mut side] = [""; 2];
        for (label, value) in labels::iter(block) {
            match label {
                "client" => client = value,
                "server" => server = value,
                "client_service_namespace" => client_namespace = value,
                "server_service_namespace" => server_namespace = value,
                "connection_type" => connection = value,
                "virtual_node" => side = value,
                _ => {}
            }
        }
        Self {
            tenant: texts.take(tenant),
            client: NodeName { namespace: texts.take(client_namespace), name: texts.take(client) },
            server: NodeName { namespace: texts.take(server_namespace), name: texts.take(server) },
            connection: Connection::of(connection, side, client),
        }
    }
}

// === impl Texts ===

impl Texts {
    pub(super) fn take(&mut self, text: &str) -> Arc<str> {
        if let Some((known, ())) = self.0.get_key_value(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = Arc::from(text);
        self.0.insert(Arc::clone(&text), ());
        text
    }

    /// Drops texts without another reference.
    pub(super) fn prune(&mut self) {
        self.0.retain(|text, ()| Arc::strong_count(text) > 1);
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.keys().map(|text| text.len() + 64).sum()
    }
}
