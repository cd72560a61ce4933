//! Which edges there are, and what becomes one.

use super::{Dimension, FilterPolicy, ns, strings};
use crate::core::model::Millis;

/// `service_graphs:` as Tempo's `service-graphs` processor.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceGraphs {
    /// `enabled`. Default true.
    pub enabled: bool,
    /// `histogram_buckets` (seconds in the file). Default Tempo's 8 from 0.1 to 12.8.
    pub bounds_ns: Vec<u64>,
    /// `wait`: how long a pending edge waits for its peer, in stream time. Default 10 s.
    pub wait: Millis,
    /// `max_items`: pending edges per source partition. Default 1,000,000.
    pub max_items: usize,
    /// `peer_attributes`. Default `peer.service, db.name, db.system, db.system.name`.
    pub peer_attributes: Vec<String>,
    /// `database_name_attributes`. Default `db.namespace, db.name, db.system, db.system.name`.
    pub database_name_attributes: Vec<String>,
    /// `database_node_attributes`: what names the node of a database before those do, in the profile `tempo`. Default
    /// `peer.service, server.address, network.peer.address`.
    pub database_node_attributes: Vec<String>,
    /// `database_port`: `server.address` gets its port, as `network.peer.address` always does. Default false, as in Tempo.
    pub database_port: bool,
    /// `requests`: `request_total` and `request_failed_total`. Default true.
    pub requests: bool,
    /// `latency`: the histograms. Default true.
    pub latency: bool,
    /// `latency_sides`: of which sides. Default both.
    pub latency_sides: LatencySides,
    /// `connection_info`: a gauge per edge. Default false.
    pub connection_info: bool,
    /// `operations`: the span names of both sides as the labels `client_operation` and `server_operation`. Default false.
    pub operations: bool,
    /// `topology`: when each edge was seen first and last, and a counter that grows when it is new. Default false.
    pub topology: bool,
    /// `dimensions`: attributes of either side as labels, the resource first. Default none.
    pub dimensions: Vec<Dimension>,
    /// `enable_client_server_prefix`: `client_` and `server_` before dimensions. Default false.
    pub client_server_prefix: bool,
    /// `enable_virtual_node_label`: which side of a virtual edge is virtual. Default false.
    pub virtual_node_label: bool,
    /// `enable_messaging_system_latency_histogram`: from the producer's end to the consumer's start. Default false.
    pub messaging_latency: bool,
    /// `filter_policies`: which spans make edges. Default none: all.
    pub filter_policies: Vec<FilterPolicy>,
    /// `span_multiplier_key`: an attribute with the ratio that sampling kept. Default none.
    pub multiplier_key: String,
    /// `span_multiplier_of_text`: it may also be text or a whole number. Default false, as in Tempo.
    pub multiplier_of_text: bool,
    /// `enable_tracestate_span_multiplier`: the threshold in `tracestate` gives the sampling ratio. Default false.
    pub tracestate_multiplier: bool,
    /// `service_namespace`: the effect of `service.namespace`. Default `off`.
    pub service_namespace: ServiceNamespace,
    /// `fan_out`: one client span with several server spans makes several edges. Default false, as in Tempo.
    pub fan_out: bool,
    /// `links`: a consumer span belongs to the producers that it links to. Default false, as in Tempo.
    pub links: bool,
    /// `ancestors`: which spans above a span may call it. Default off: its parent alone.
    pub ancestors: Ancestors,
    /// `missing_side_is_zero`: the side that a virtual edge lacks is observed as 0 s. Default true, as in Tempo.
    pub missing_side_is_zero: bool,
    /// `failed_http_status`: this HTTP status and greater ones fail an edge; 0: none does. Default 0, as in Tempo.
    pub failed_http_status: u16,
    /// `failed_grpc_codes`: these gRPC status codes fail an edge. Default none, as in Tempo.
    pub failed_grpc_codes: Vec<u16>,
    /// `each_root`: each parentless server span of a trace has an edge of its own. Default false: they share one, as in Tempo.
    pub each_root: bool,
    /// `strict_callers`: the attributes of a server span about a peer that it calls do not name its caller. Default
    /// false, as in Tempo.
    pub strict_callers: bool,
    /// `type_of_both`: the connection type follows from both halves. Default false: from the later one, as in Tempo.
    pub type_of_both: bool,
    /// `receive_once`: a message that a service receives and processes is one edge. Default false, as in Tempo.
    pub receive_once: bool,
    /// `nested_once`: a client span inside of a client span of its service is the same call. Default false, as in Tempo.
    pub nested_once: bool,
    /// `orphans`: a server span whose parent never comes has a virtual client. Default false: it has no edge, as in Tempo.
    pub orphans: bool,
}

/// `service_graphs.latency_sides:` the sides of an edge whose latency is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatencySides {
    /// `both`: client and server.
    Both,
    /// `client`: the client alone.
    Client,
    /// `server`: the server alone.
    Server,
}

/// `service_graphs.ancestors:` which spans above a span may call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ancestors {
    /// `off`, `false`: the client that is the parent of a server, as in Tempo.
    Off,
    /// `client`, `true`: the nearest client above a server, over spans of other kinds.
    Client,
    /// `any`: that client, and otherwise the nearest span of another service, whatever the kinds are.
    Any,
}

/// `service_graphs.service_namespace:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceNamespace {
    /// `off`: none.
    Off,
    /// `labels`: `client_service_namespace` and `server_service_namespace`, as Grafana reads them.
    Labels,
    /// `name`: a node is called `namespace/name`.
    Name,
}

// === impl LatencySides ===

impl LatencySides {
    /// Whether the latency of the client is observed.
    #[must_use]
    pub fn has_client(self) -> bool {
        self != Self::Server
    }

    /// Whether the latency of the server is observed.
    #[must_use]
    pub fn has_server(self) -> bool {
        self != Self::Client
    }
}

// === impl Default ===

impl Default for ServiceGraphs {
    fn default() -> Self {
        Self {
            enabled: true,
            bounds_ns: ns(&[0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8]),
            wait: 10_000,
            max_items: 1_000_000,
            peer_attributes: strings(&["peer.service", "db.name", "db.system", "db.system.name"]),
            database_name_attributes: strings(&["db.namespace", "db.name", "db.system", "db.system.name"]),
            database_node_attributes: strings(&["peer.service", "server.address", "network.peer.address"]),
            database_port: false,
            requests: true,
            latency: true,
            latency_sides: LatencySides::Both,
            connection_info: false,
            operations: false,
            topology: false,
            dimensions: Vec::new(),
            client_server_prefix: false,
            virtual_node_label: false,
            messaging_latency: false,
            filter_policies: Vec::new(),
            multiplier_key: String::new(),
            multiplier_of_text: false,
            tracestate_multiplier: false,
            service_namespace: ServiceNamespace::Off,
            fan_out: false,
            links: false,
            ancestors: Ancestors::Off,
            missing_side_is_zero: true,
            failed_http_status: 0,
            failed_grpc_codes: Vec::new(),
            each_root: false,
            strict_callers: false,
            type_of_both: false,
            receive_once: false,
            nested_once: false,
            orphans: false,
        }
    }
}
