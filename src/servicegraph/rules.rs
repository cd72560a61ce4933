//! What a tenant's service graph looks for and shows: who is at the other end, what fails, which labels there are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::edge::End;
use super::extras::{Slot, Slots, Source};
use crate::config::Tenants;
use crate::config::settings::{Config, Dimension, HistogramMode, Profile, ServiceGraphs, ServiceNamespace};
use crate::filter::Filter;
use crate::model::labels::sanitize_name;
use crate::model::{Family, LabelBuilder, Layout, Naming, Native, Shape, Spec};
use crate::otlp::{Attributes, Keys, Kind, Value};
use crate::sampling::Sampling;

/// Attributes that name a database's node, in the order of preference.
const DATABASE_NODE: [&str; 3] = ["peer.service", "server.address", "network.peer.address"];
/// The index of `network.peer.address` in [`DATABASE_NODE`], the only one that a port is added to.
const WITH_PORT: usize = 2;
const PORT: &str = "network.peer.port";
const NAMESPACE: &str = "service.namespace";
const HTTP_STATUS: [&str; 2] = ["http.response.status_code", "http.status_code"];
const GRPC_STATUS: &str = "rpc.grpc.status_code";

/// The attribute keys that matter, and what they mean.
///
/// Most attributes of most spans mean nothing here, so they are looked at once: [`Rules::sieve`] tells which of the keys
/// may be present, and only those are looked up.
#[derive(Debug)]
pub(super) struct Rules {
    keys: Keys,
    peers: Vec<usize>,
    databases: Vec<usize>,
    nodes: [usize; 3],
    port: usize,
    failures: Failures,
    pub(super) namespace: Option<usize>,
    pub(super) slots: Slots,
    pub(super) filter: Filter,
    pub(super) sampling: Sampling,
    pub(super) enabled: bool,
    pub(super) exemplars: bool,
    pub(super) shows: Shows,
    pub(super) pairs: Pairs,
    pub(super) layout: Arc<Layout>,
    limits: (usize, usize),
}

/// What is shown of an edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shows {
    pub(super) requests: bool,
    pub(super) latency: bool,
    pub(super) messaging: bool,
    pub(super) connection_info: bool,
    /// The side that a virtual edge lacks took no time.
    pub(super) missing_is_zero: bool,
    /// A label says which side is virtual.
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
}

/// What fails an edge besides the status.
#[derive(Debug)]
struct Failures {
    /// The keys of the HTTP status, and the first status that is a failure.
    http: Option<([usize; 2], i64)>,
    grpc: Option<(usize, Vec<i64>)>,
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
    pub(super) fn new(tenants: &Tenants) -> Self {
        let rules = |(name, config): (&str, &Arc<Config>)| (name.as_bytes().into(), Arc::new(Rules::new(config)));
        Self {
            defaults: Arc::new(Rules::new(tenants.defaults())),
            overridden: tenants.overridden().map(rules).collect(),
        }
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
    fn new(config: &Config) -> Self {
        let settings = &config.service_graphs;
        let mut keys = Keys::default();
        let mut index = |key: &str| keys.number(key);
        let peers = settings.peer_attributes.iter().map(|key| index(key)).collect();
        let databases = settings.database_name_attributes.iter().map(|key| index(key)).collect();
        let (nodes, port) = (DATABASE_NODE.map(&mut index), index(PORT));
        let failures = Failures::new(settings, &mut index);
        let namespace = (settings.service_namespace == ServiceNamespace::Name).then(|| index(NAMESPACE));
        let as_otel = config.naming.profile == Profile::Otel;
        let slots = slots(settings, &mut index);
        let sampling = Sampling::new(&settings.multiplier_key, settings.tracestate_multiplier);
        let weighted = !sampling.is_off();
        Self {
            keys,
            peers,
            databases,
            nodes,
            port,
            failures,
            namespace,
            slots: Slots::new(slots, weighted),
            filter: Filter::new(&settings.filter_policies)
                .expect("policies are checked when the configuration is read"),
            sampling,
            enabled: settings.enabled,
            exemplars: config.series.exemplars,
            shows: Shows::new(settings, as_otel),
            pairs: Pairs { fan_out: settings.fan_out, links: settings.links, ancestors: settings.ancestors },
            layout: Arc::new(layout(config, weighted)),
            limits: (config.limits.max_label_name_length, config.limits.max_label_value_length),
        }
    }

    /// Makes the builder keep the tenant's limits.
    pub(super) fn limit(&self, labels: &mut LabelBuilder) {
        labels.limit(self.limits.0, self.limits.1);
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

    pub(super) fn get<'a>(&self, key: usize, from: Sieved<'a>) -> Option<Value<'a>> {
        if from.present & bit(key) == 0 { None } else { from.attributes.get(self.keys.key(key)) }
    }

    /// Whether a client without a peer gets a virtual server all the same, as in the Collector, where an empty list of
    /// peer attributes switches virtual nodes off.
    pub(super) fn has_virtual_nodes(&self) -> bool {
        !(self.shows.as_otel && self.peers.is_empty())
    }

    /// The value of the first peer attribute that the span has, be it empty. The resource does not count.
    pub(super) fn peer<'a>(&self, span: Sieved<'a>) -> Option<Cow<'a, [u8]>> {
        if span.present == 0 {
            return None;
        }
        self.peers.iter().find_map(|&key| self.get(key, span)).map(|value| value.text())
    }

    /// The value of a slot, for a span.
    pub(super) fn value<'a>(&self, source: Source, resource: Sieved<'a>, span: Sieved<'a>) -> Option<Cow<'a, [u8]>> {
        let found = match source {
            Source::Resource(key) => self.get(key, resource),
            Source::Either(key) => self.get(key, resource).or_else(|| self.get(key, span)),
        };
        found.map(|value| value.text())
    }

    /// Whether an attribute of the span says that it failed.
    pub(super) fn failed(&self, span: Sieved<'_>) -> bool {
        let number = |key: usize| self.get(key, span).and_then(number);
        let http = |(keys, least): &([usize; 2], i64)| keys.iter().any(|&key| number(key).is_some_and(|n| n >= *least));
        let grpc = |(key, codes): &(usize, Vec<i64>)| number(*key).is_some_and(|n| codes.contains(&n));
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
        let look_up = |key: usize| self.get(key, resource).or_else(|| self.get(key, span)).map(|value| value.text());
        let fallback = self.databases.iter().find_map(|&key| look_up(key))?;
        let nodes = if self.shows.as_otel { &[][..] } else { &self.nodes };
        let node = nodes.iter().enumerate().find_map(|(i, &key)| Some((i, look_up(key)?)));
        Some(match node {
            Some((WITH_PORT, address)) => Some(match look_up(self.port) {
                Some(port) => Cow::Owned([&*address, b":", &*port].concat()),
                None => address,
            }),
            Some((_, name)) => Some(name),
            None => Some(fallback).filter(|name| !name.is_empty()),
        })
    }
}

// === impl Shows ===

impl Shows {
    fn new(settings: &ServiceGraphs, as_otel: bool) -> Self {
        Self {
            requests: settings.requests,
            latency: settings.latency,
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
            grpc: (!codes.is_empty()).then(|| (index(GRPC_STATUS), codes)),
        }
    }
}

/// A whole number, be it written as text.
fn number(value: Value<'_>) -> Option<i64> {
    match value.kind() {
        Kind::Int(n) => Some(n),
        Kind::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// Namespaces and dimensions.
fn slots(settings: &ServiceGraphs, index: &mut impl FnMut(&str) -> usize) -> Vec<Slot> {
    let ends = [(End::Client, "client_"), (End::Server, "server_")];
    let mut slots = Vec::new();
    if settings.service_namespace == ServiceNamespace::Labels {
        let source = Source::Resource(index(NAMESPACE));
        for (end, prefix) in ends {
            let label = format!("{prefix}service_namespace").into();
            slots.push(Slot { end: Some(end), source, label, default: None });
        }
    }
    for Dimension { name, default } in &settings.dimensions {
        let source = Source::Either(index(name));
        let mut slot = |end, prefix: &str| {
            let label = sanitize_name(&format!("{prefix}{name}")).into();
            slots.push(Slot { end, source, label, default: default.as_deref().map(Into::into) });
        };
        if settings.client_server_prefix {
            ends.into_iter().for_each(|(end, prefix)| slot(Some(end), prefix));
        } else {
            slot(None, "");
        }
    }
    slots
}

fn layout(config: &Config, weighted: bool) -> Layout {
    let settings = &config.service_graphs;
    let messaging = settings.latency && settings.messaging_latency;
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
        histograms: [settings.latency, settings.latency, messaging]
            .map(|is_observed| is_observed.then(|| shape.clone()))
            .to_vec(),
    })
}

/// Keys beyond the 63rd share the last bit; it only says *maybe*.
fn bit(key: usize) -> u64 {
    1 << key.min(63)
}
