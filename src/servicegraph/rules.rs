//! Who is at the other end, by the attributes of a span: peers and databases.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Tenants;
use crate::config::settings::Config;
use crate::model::{Family, Layout};
use crate::otlp::{Attributes, Value};

/// Attributes that name a database's node, in the order of preference.
const DATABASE_NODE: [&str; 3] = ["peer.service", "server.address", "network.peer.address"];
/// The index of `network.peer.address` in [`DATABASE_NODE`], the only one that a port is added to.
const WITH_PORT: usize = 2;
const PORT: &str = "network.peer.port";

/// The attribute keys that matter, and what they mean.
///
/// Most attributes of most spans mean nothing here, so they are looked at once: [`Rules::sieve`] tells which of the keys
/// may be present, and only those are looked up.
#[derive(Debug)]
pub(super) struct Rules {
    keys: Vec<Box<[u8]>>,
    /// Bit `n` is set when some key is `n` bytes long (bit 63: or longer).
    lengths: u64,
    peers: Vec<usize>,
    databases: Vec<usize>,
    nodes: [usize; 3],
    port: usize,
    pub(super) enabled: bool,
    pub(super) exemplars: bool,
    pub(super) layout: Arc<Layout>,
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

// === impl Rules ===

impl Rules {
    fn new(config: &Config) -> Self {
        let settings = &config.service_graphs;
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        let mut index = |key: &str| {
            keys.iter().position(|k| **k == *key.as_bytes()).unwrap_or_else(|| {
                keys.push(key.as_bytes().into());
                keys.len() - 1
            })
        };
        let peers = settings.peer_attributes.iter().map(|key| index(key)).collect();
        let databases = settings.database_name_attributes.iter().map(|key| index(key)).collect();
        let (nodes, port) = (DATABASE_NODE.map(&mut index), index(PORT));
        let lengths = keys.iter().fold(0, |bits, key| bits | (1 << key.len().min(63)));
        Self {
            keys,
            lengths,
            peers,
            databases,
            nodes,
            port,
            enabled: settings.enabled,
            exemplars: config.series.exemplars,
            layout: Arc::new(Layout::new(Family::ServiceGraph, &settings.bounds_ns)),
        }
    }

    /// Goes through the attributes once.
    pub(super) fn sieve<'a>(&self, attributes: Attributes<'a>) -> Sieved<'a> {
        let mut present = 0;
        for (key, _) in attributes.iter() {
            if self.lengths & (1 << key.len().min(63)) != 0
                && let Some(i) = self.keys.iter().position(|k| **k == *key)
            {
                present |= bit(i);
            }
        }
        Sieved { attributes, present }
    }

    fn get<'a>(&self, key: usize, from: Sieved<'a>) -> Option<Value<'a>> {
        if from.present & bit(key) == 0 { None } else { from.attributes.get(&self.keys[key]) }
    }

    /// The value of the first peer attribute that the span has, be it empty. The resource does not count.
    pub(super) fn peer<'a>(&self, span: Sieved<'a>) -> Option<Cow<'a, [u8]>> {
        if span.present == 0 {
            return None;
        }
        self.peers.iter().find_map(|&key| self.get(key, span)).map(|value| value.text())
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
        let node = self.nodes.iter().enumerate().find_map(|(i, &key)| Some((i, look_up(key)?)));
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

/// Keys beyond the 63rd share the last bit; it only says *maybe*.
fn bit(key: usize) -> u64 {
    1 << key.min(63)
}
