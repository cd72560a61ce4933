//! The rules of a tenant's service graph: how peers are named, what counts as failed, which labels there are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::edge::{Edge, EdgeKind, End};
use super::extras::{ExtraLabel, Operation, Slots, Source};
use crate::core::filter::Filter;
use crate::core::model::labels::cut_bytes;
use crate::core::model::{Family, LabelBuilder, Layout, Naming, Native, Shape, Spec, Spelling};
use crate::core::otlp::{AttributeValue, Attributes, Keys, ValueKind};
use crate::core::sampling::Sampling;
use crate::core::sanitize::NameCache;
use crate::core::settings::labels::{edge_labels, spelling};
use crate::core::settings::{
    Ancestors, Dimension, HistogramMode, InvalidUtf8, Profile, ServiceGraphs, ServiceNamespace, Settings, Tenants,
};
use crate::core::slo::LabelSlos;

/// The address that always has its port, and the one that has it with `database_port`.
const WITH_PORT: (&str, &str) = ("network.peer.address", "network.peer.port");
const WITH_PORT_IF_ASKED: (&str, &str) = ("server.address", "server.port");
const NAMESPACE: &str = "service.namespace";
const HTTP_STATUS: [&str; 2] = ["http.response.status_code", "http.status_code"];
/// The names of the gRPC status in the semantic conventions, the newest last.
const GRPC_STATUS: [&str; 3] = ["rpc.grpc.status_code", "rpc.response.status_code", "rpc.status_code"];
/// The names of gRPC's codes, in order.
const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// The prefixes of attributes that describe the peer of a span's own call.
const OF_TARGETS: [&str; 3] = ["db.", "server.", "messaging."];
/// What a span does with messages, by its newer and its older name.
const MESSAGING_OPERATION: [&str; 2] = ["messaging.operation.type", "messaging.operation"];
/// What a consumer does, whatever the kind of its span.
const CONSUMES: [&[u8]; 2] = [b"receive", b"process"];

/// The attribute keys that matter, and what they mean.
///
/// Most attributes of most spans mean nothing here, so they are looked at once: [`Rules::sieve`] finds which of the
/// keys may be present, and only those are looked up.
#[derive(Debug)]
pub(super) struct Rules {
    keys: Keys,
    peers: Vec<usize>,
    /// Those of the peer attributes that name the caller of a server.
    callers: Vec<usize>,
    databases: Vec<usize>,
    /// What names the node of a database, and the port that is added to it.
    nodes: Vec<(usize, Option<usize>)>,
    failures: Failures,
    /// Attributes of which the first that has a text is a dimension.
    alternatives: Vec<Vec<usize>>,
    pub(super) namespace: Option<usize>,
    pub(super) slots: Slots,
    pub(super) filter: Filter,
    pub(super) sampling: Sampling,
    pub(super) enabled: bool,
    pub(super) exemplars: bool,
    pub(super) shows: Shows,
    pub(super) pairs: Pairs,
    pub(super) layout: Arc<Layout>,
    /// With `topology`: of the sets that show when an edge was seen.
    pub(super) seen: Option<Arc<Layout>>,
    /// Objectives about edges.
    pub(super) slos: Option<LabelSlos>,
    limits: (usize, usize),
    spelling: Spelling,
    /// U+FFFD replaces invalid UTF-8.
    pub(super) repairs: bool,
    /// Which of the caches sanitizes the names of operations.
    names: usize,
    /// The longest plausible duration in nanoseconds; longer ones are observed as 0.
    pub(super) longest: u64,
}

/// Which metrics and labels of an edge are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shows {
    pub(super) requests: bool,
    /// The histograms of the server and of the client.
    pub(super) latency: [bool; 2],
    pub(super) messaging: bool,
    pub(super) connection_info: bool,
    /// The side that a virtual edge lacks took no time.
    pub(super) missing_is_zero: bool,
    /// A label shows which side is virtual.
    pub(super) virtual_node: bool,
    /// As the Collector: a label `failed`, a virtual server `unknown`, databases named by their attribute.
    pub(super) as_otel: bool,
}

/// Which spans meet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pairs {
    pub(super) fan_out: bool,
    pub(super) links: bool,
    pub(super) ancestors: bool,
    /// The nearest span of another service calls a span that no client does.
    pub(super) any: bool,
    /// No two roots of a trace share an edge.
    pub(super) each_root: bool,
    /// The connection type follows from both halves.
    pub(super) type_of_both: bool,
    /// A consumer service has one edge with a message.
    pub(super) receive_once: bool,
    /// A client span inside of a client span of its service is the same call.
    pub(super) nested: bool,
    /// A server whose parent never comes has a virtual client.
    pub(super) orphans: bool,
}

/// What fails an edge besides the status.
#[derive(Debug)]
struct Failures {
    /// The keys of the HTTP status, and the first status that is a failure.
    http: Option<([usize; 2], i64)>,
    /// The keys of the gRPC status, and the codes that are failures.
    grpc: Option<([usize; 3], Vec<i64>)>,
}

/// The rules of every tenant.
#[derive(Debug)]
pub(super) struct RuleBook {
    defaults: Arc<Rules>,
    overridden: BTreeMap<Box<[u8]>, Arc<Rules>>,
}

/// Attributes together with what [`Rules::sieve`] found among them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sieved<'a> {
    attributes: Attributes<'a>,
    present: u64,
}

// === impl RuleBook ===

impl RuleBook {
    /// The rules, and what sanitizes the names of their operations, where these are labels.
    pub(super) fn new(tenants: &Tenants) -> (Self, Vec<NameCache>) {
        let mut caches = Vec::new();
        let mut rules = |config: &Settings| {
            let rules = Arc::new(Rules::new(config, caches.len()));
            if config.service_graphs.operations {
                caches.push(NameCache::new(&config.span_names));
            }
            rules
        };
        let defaults = rules(tenants.defaults());
        let overridden = tenants.overridden().map(|(name, config)| (name.as_bytes().into(), rules(config))).collect();
        (Self { defaults, overridden }, caches)
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.defaults.enabled || self.overridden.values().any(|rules| rules.enabled)
    }

    /// The rules of a tenant.
    pub(super) fn of(&self, tenant: &[u8]) -> &Arc<Rules> {
        if self.overridden.is_empty() {
            return &self.defaults;
        }
        self.overridden.get(tenant).unwrap_or(&self.defaults)
    }
}

// === impl Sieved ===

impl<'a> Sieved<'a> {
    /// All of them.
    pub(super) fn attributes(&self) -> Attributes<'a> {
        self.attributes
    }
}

// === impl Pairs ===

impl Pairs {
    /// Whether the halves of an edge wait apart, because more than two of them may meet.
    pub(super) fn apart(self) -> bool {
        self.fan_out || self.links || self.ancestors
    }
}

// === impl Rules ===

impl Rules {
    fn new(config: &Settings, names: usize) -> Self {
        let settings = &config.service_graphs;
        let mut keys = Keys::default();
        let mut index = |key: &str| keys.number(key);
        let peers: Vec<usize> = settings.peer_attributes.iter().map(|key| index(key)).collect();
        let of_target = |key: &str| settings.strict_callers && OF_TARGETS.iter().any(|start| key.starts_with(start));
        let callers = settings.peer_attributes.iter().filter(|key| !of_target(key)).map(|key| index(key)).collect();
        let databases = settings.database_name_attributes.iter().map(|key| index(key)).collect();
        let nodes = nodes(config, &mut index);
        let failures = Failures::new(settings, &mut index);
        let namespace = (settings.service_namespace == ServiceNamespace::Name).then(|| index(NAMESPACE));
        let as_otel = config.naming.profile == Profile::Otel;
        let (slots, alternatives) = slots(config, &mut index);
        let sampling = Sampling::new(&settings.multiplier_key, settings.tracestate_multiplier)
            .of_text(settings.multiplier_of_text);
        let weighted = !sampling.is_off();
        Self {
            keys,
            peers,
            callers,
            databases,
            nodes,
            failures,
            alternatives,
            namespace,
            slots: Slots::new(slots, weighted),
            filter: Filter::new(&settings.filter_policies)
                .expect("policies are checked when the configuration is read"),
            sampling,
            enabled: settings.enabled,
            exemplars: config.series.exemplars,
            shows: Shows::new(settings, as_otel),
            pairs: Pairs {
                // Spans of any kind may call several others, so clients may, too.
                fan_out: settings.fan_out || settings.ancestors == Ancestors::Any,
                links: settings.links,
                ancestors: settings.ancestors != Ancestors::Off,
                any: settings.ancestors == Ancestors::Any,
                each_root: settings.each_root,
                type_of_both: settings.type_of_both,
                receive_once: settings.receive_once,
                nested: settings.nested_once,
                orphans: settings.orphans,
            },
            layout: Arc::new(layout(config, weighted)),
            seen: settings.topology.then(|| {
                let (family, naming) = (Family::EdgeSeen, Naming::Tempo);
                Arc::new(Layout::of(&Spec { family, naming, weighted: false, histograms: Vec::new() }))
            }),
            slos: LabelSlos::of_edges(config, weighted),
            limits: (config.limits.max_label_name_length, config.limits.max_label_value_length),
            spelling: spelling(config.naming.profile),
            repairs: config.naming.invalid_utf8 == InvalidUtf8::Replace,
            names,
            longest: config.histograms.longest_ns(),
        }
    }

    /// Sets the tenant's limits in the builder, and how it handles invalid text.
    pub(super) fn limit(&self, labels: &mut LabelBuilder) {
        labels.limit(self.limits.0, self.limits.1);
        labels.repair(self.repairs);
    }

    /// The name of a span, as a label would have it.
    pub(super) fn operation<'a>(&self, name: &'a [u8]) -> Operation<'a> {
        Operation { name, cache: self.names, most: self.limits.1 }
    }

    /// As much of a name as labels have of it: pending edges keep names, and one may be a megabyte.
    #[inline]
    pub(super) fn cut<'a>(&self, name: &'a [u8]) -> &'a [u8] {
        cut_bytes(name, self.limits.1)
    }

    /// The same for a value that may have been made.
    pub(super) fn cut_value<'a>(&self, value: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
        match value {
            Cow::Borrowed(bytes) => Cow::Borrowed(self.cut(bytes)),
            Cow::Owned(bytes) if self.cut(&bytes).len() == bytes.len() => Cow::Owned(bytes),
            Cow::Owned(bytes) => Cow::Owned(self.cut(&bytes).to_vec()),
        }
    }

    /// Goes through the attributes once.
    pub(super) fn sieve<'a>(&self, attributes: Attributes<'a>) -> Sieved<'a> {
        let mut present = 0;
        self.keys.visit(attributes, |key, _| {
            present |= bit(key);
            ControlFlow::Continue(())
        });
        Sieved { attributes, present }
    }

    pub(super) fn get<'a>(&self, key: usize, from: Sieved<'a>) -> Option<AttributeValue<'a>> {
        if from.present & bit(key) == 0 { None } else { from.attributes.get(self.keys.key(key)) }
    }

    /// Whether a client without a peer gets a virtual server all the same, as in the Collector, where an empty list of
    /// peer attributes switches virtual nodes off.
    pub(super) fn has_virtual_nodes(&self) -> bool {
        !(self.shows.as_otel && self.peers.is_empty())
    }

    /// Whether a server that has waited gets a virtual caller. A consumer may have met producers over its links.
    pub(super) fn is_orphan(&self, edge: &Edge) -> bool {
        let linked = self.pairs.links && edge.kind == EdgeKind::Consumer;
        self.pairs.orphans && !edge.has_client() && !edge.server.is_empty() && !linked
    }

    /// The value of the first peer attribute that the span on this end has, be it empty. The resource does not count.
    pub(super) fn peer<'a>(&self, end: End, span: Sieved<'a>) -> Option<Cow<'a, [u8]>> {
        if span.present == 0 {
            return None;
        }
        let peers = if end == End::Client { &self.peers } else { &self.callers };
        peers.iter().find_map(|&key| self.get(key, span)).map(|value| value.text_as(self.spelling))
    }

    /// The value of a slot, for a span.
    pub(super) fn value<'a>(&self, source: Source, resource: Sieved<'a>, span: Sieved<'a>) -> Option<Cow<'a, [u8]>> {
        let found = match source {
            Source::Resource(key) => self.get(key, resource),
            Source::Either(key) => self.get(key, resource).or_else(|| self.get(key, span)),
            // Not an attribute.
            Source::Operation => None,
            Source::First(at) => return self.first_text(self.alternatives.get(at)?, resource, span),
        };
        found.map(|value| value.text_as(self.spelling))
    }

    fn first_text<'a>(&self, keys: &[usize], resource: Sieved<'a>, span: Sieved<'a>) -> Option<Cow<'a, [u8]>> {
        let found = keys.iter().filter_map(|&key| self.value(Source::Either(key), resource, span));
        found.into_iter().find(|text| !text.is_empty())
    }

    /// Whether an attribute of the span marks it as failed.
    pub(super) fn failed(&self, span: Sieved<'_>) -> bool {
        let number = |key: usize| self.get(key, span).and_then(number);
        let http = |(keys, least): &([usize; 2], i64)| keys.iter().any(|&key| number(key).is_some_and(|n| n >= *least));
        let code = |key: usize| self.get(key, span).and_then(grpc_code);
        let grpc = |(keys, codes): &([usize; 3], Vec<i64>)| {
            keys.iter().any(|&key| code(key).is_some_and(|n| codes.contains(&n)))
        };
        self.failures.http.as_ref().is_some_and(http) || self.failures.grpc.as_ref().is_some_and(grpc)
    }

    /// When the span calls a database: the name of its node, or `None` inside if nothing names it.
    ///
    /// The resource comes before the span, key by key. Presence decides, not contents: an empty `server.address` makes
    /// an empty name.
    pub(super) fn database<'a>(&self, resource: Sieved<'a>, span: Sieved<'a>) -> Option<Option<Cow<'a, [u8]>>> {
        if resource.present | span.present == 0 {
            return None;
        }
        let text = |value: AttributeValue<'a>| value.text_as(self.spelling);
        let look_up = |key: usize| self.get(key, resource).or_else(|| self.get(key, span)).map(text);
        let fallback = self.databases.iter().find_map(|&key| look_up(key))?;
        let node = self.nodes.iter().find_map(|&(key, port)| Some((look_up(key)?, port)));
        Some(match node {
            Some((address, port)) => Some(match port.and_then(look_up) {
                Some(port) => Cow::Owned([&*address, b":", &*port].concat()),
                None => address,
            }),
            None => Some(fallback).filter(|name| !name.is_empty()),
        })
    }
}

// === impl Rules, of calls ===

impl Rules {
    /// How good the name is that a client span has for the peer: 0 is the best. A database has one before others do, and
    /// each the better one the earlier the attribute stands that names it.
    pub(super) fn rank(&self, resource: Sieved<'_>, span: Sieved<'_>) -> u16 {
        const PEERS: usize = 1 << 8;
        const UNKNOWN: usize = 1 << 9;
        let of_span = |key: usize| self.get(key, span).map(|value| !value.text().is_empty());
        let look_up = |key: usize| {
            let found = self.get(key, resource).or_else(|| self.get(key, span));
            found.map(|value| !value.text().is_empty())
        };
        let first = |keys: &mut dyn Iterator<Item = usize>, look_up: &dyn Fn(usize) -> Option<bool>| {
            keys.map(look_up).enumerate().find_map(|(at, named)| Some((at, named?)))
        };
        let database = first(&mut self.databases.iter().copied(), &look_up);
        let node = first(&mut self.nodes.iter().map(|(key, _)| *key), &look_up);
        let after_nodes = database.map(|(at, named)| (self.nodes.len() + at, named));
        let of_database = database.and(node.or(after_nodes)).filter(|(_, named)| *named);
        let peer = first(&mut self.peers.iter().copied(), &of_span).filter(|(_, named)| *named);
        let unknown = (self.shows.as_otel && self.has_virtual_nodes()).then_some(UNKNOWN);
        let rank = of_database.map(|(at, _)| at.min(PEERS - 1));
        let rank = rank.or(peer.map(|(at, _)| PEERS + at.min(PEERS - 1))).or(unknown);
        rank.and_then(|rank| u16::try_from(rank).ok()).unwrap_or(u16::MAX)
    }
}

// === impl Shows ===

impl Shows {
    fn new(settings: &ServiceGraphs, as_otel: bool) -> Self {
        Self {
            requests: settings.requests,
            latency: observed(settings),
            messaging: settings.latency && settings.messaging_latency,
            connection_info: settings.connection_info,
            missing_is_zero: settings.missing_side_is_zero,
            virtual_node: settings.virtual_node_label,
            as_otel,
        }
    }
}

// === impl Failures ===

impl Failures {
    fn new(settings: &ServiceGraphs, index: &mut impl FnMut(&str) -> usize) -> Self {
        let codes: Vec<i64> = settings.failed_grpc_codes.iter().map(|&code| code.into()).collect();
        let least = i64::from(settings.failed_http_status);
        Self {
            http: (least > 0).then(|| (HTTP_STATUS.map(&mut *index), least)),
            grpc: (!codes.is_empty()).then(|| (GRPC_STATUS.map(&mut *index), codes)),
        }
    }
}

/// A whole number, be it written as text.
fn number(value: AttributeValue<'_>) -> Option<i64> {
    match value.kind() {
        ValueKind::Int(n) => Some(n),
        ValueKind::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// A gRPC code, be it written as text or by its name: `UNAVAILABLE`, `Unavailable` or `unavailable`.
fn grpc_code(value: AttributeValue<'_>) -> Option<i64> {
    let named = |text: &[u8]| {
        let text = if text.eq_ignore_ascii_case(b"canceled") { b"CANCELLED" } else { text };
        let code = GRPC_CODES.iter().position(|name| letters(name.as_bytes()).eq(letters(text)));
        code.and_then(|code| i64::try_from(code).ok())
    };
    number(value).or_else(|| match value.kind() {
        // No name is longer.
        ValueKind::Text(text) if text.len() <= 32 => named(text),
        _ => None,
    })
}

/// What is left of a name when it does not matter how its words are set apart.
fn letters(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().filter(|c| **c != b'_').map(u8::to_ascii_uppercase)
}

/// Whether a span receives or processes messages, whatever its kind is.
pub(super) fn consumes(attributes: Attributes<'_>) -> bool {
    let operation = MESSAGING_OPERATION.iter().find_map(|key| attributes.get(key.as_bytes()));
    operation.is_some_and(|value| matches!(value.kind(), ValueKind::Text(text) if CONSUMES.contains(&text)))
}

/// What names the node of a database. In the Collector nothing does.
fn nodes(config: &Settings, index: &mut impl FnMut(&str) -> usize) -> Vec<(usize, Option<usize>)> {
    let settings = &config.service_graphs;
    if config.naming.profile == Profile::Otel {
        return Vec::new();
    }
    let port = |address: &str| {
        let asked = settings.database_port.then_some(WITH_PORT_IF_ASKED);
        [Some(WITH_PORT), asked].into_iter().flatten().find(|(of, _)| *of == address).map(|(_, port)| port)
    };
    let names = settings.database_node_attributes.iter();
    names.map(|name| (index(name), port(name).map(&mut *index))).collect()
}

/// Namespaces, operations and dimensions.
fn slots(config: &Settings, index: &mut impl FnMut(&str) -> usize) -> (Vec<ExtraLabel>, Vec<Vec<usize>>) {
    let settings = &config.service_graphs;
    let ends = [(End::Client, "client_"), (End::Server, "server_")];
    let (mut slots, mut alternatives) = (Vec::new(), Vec::new());
    if settings.service_namespace == ServiceNamespace::Labels {
        let source = Source::Resource(index(NAMESPACE));
        for (end, prefix) in ends {
            let label = format!("{prefix}service_namespace").into();
            slots.push(ExtraLabel { end: Some(end), source, label, default: None });
        }
    }
    if settings.operations {
        for (end, prefix) in ends {
            let label = format!("{prefix}operation").into();
            slots.push(ExtraLabel { end: Some(end), source: Source::Operation, label, default: None });
        }
    }
    for Dimension { name, or, default } in &settings.dimensions {
        let source = if or.is_empty() {
            Source::Either(index(name))
        } else {
            alternatives.push([name].into_iter().chain(or).map(|key| index(key)).collect());
            Source::First(alternatives.len() - 1)
        };
        // One label for each end, or one for both; in the Collector they are always apart.
        let apart = settings.client_server_prefix || config.naming.profile == Profile::Otel;
        let apart = if apart { &[Some(End::Client), Some(End::Server)][..] } else { &[None] };
        for (&end, label) in apart.iter().zip(edge_labels(config, name)) {
            slots.push(ExtraLabel { end, source, label: label.into(), default: default.as_deref().map(Into::into) });
        }
    }
    (slots, alternatives)
}

/// Whether the latency of the server is observed, and that of the client.
fn observed(settings: &ServiceGraphs) -> [bool; 2] {
    let sides = settings.latency_sides;
    [sides.has_server(), sides.has_client()].map(|side| side && settings.latency)
}

fn layout(config: &Settings, weighted: bool) -> Layout {
    let settings = &config.service_graphs;
    let ([server, client], messaging) = (observed(settings), settings.latency && settings.messaging_latency);
    let histograms = &config.histograms;
    let native = Native::of_factor(histograms.native_bucket_factor, histograms.native_max_buckets);
    let shape = Shape {
        bounds_ns: (histograms.mode != HistogramMode::Native).then(|| settings.bounds_ns.clone()),
        native: (histograms.mode != HistogramMode::Classic).then_some(native),
    };
    Layout::of(&Spec {
        family: Family::ServiceGraph,
        // The Collector's names are the same.
        naming: Naming::Tempo,
        weighted,
        histograms: [server, client, messaging].map(|is_observed| is_observed.then(|| shape.clone())).to_vec(),
    })
}

/// Keys beyond the 63rd share the last bit; it only means *maybe*.
fn bit(key: usize) -> u64 {
    1 << key.min(63)
}
