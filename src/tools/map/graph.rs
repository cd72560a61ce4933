//! The graph at a moment, beside that of another moment.

use std::collections::{BTreeMap, BTreeSet};

use super::bins::Outline;
use super::cycles::cycles;
use super::keys::{Connection, Key, NodeName};
use super::model::Map;
use super::nodes::{NodeType, Nodes, is_entry};
use super::sums::{CLIENT, Red, SERVER, Sum, Values};
use super::views::{EdgeView, Graph, GraphQuery, GroupView, NodeView};
use crate::core::model::Millis;

/// The numbers of a moment are counted over so many points before it.
pub(super) const WINDOW_POINTS: i64 = 5;
/// Points of the total.
const TOTAL_POINTS: i64 = 96;
/// From these ratios on, failures of an edge are visible and severe.
const FAILING: [f64; 2] = [0.01, 0.05];

pub(super) type EdgeId = (NodeName, NodeName, Connection);

/// The spans of a node.
#[derive(Debug, Clone, Default)]
pub(super) struct Spans {
    entry: Sum,
    entry_failed: Sum,
    all: Sum,
    all_failed: Sum,
}

/// The counts of a stretch of time.
#[derive(Debug, Default)]
pub(super) struct Moment {
    pub(super) spans: BTreeMap<NodeName, Spans>,
    pub(super) edges: BTreeMap<EdgeId, Sum>,
    pub(super) seconds: f64,
}

/// Two moments, and the tenant and nodes that they are about.
struct Picture<'a> {
    nodes: &'a Nodes,
    seen: BTreeMap<EdgeId, (Millis, Millis)>,
    now: Moment,
    then: Option<Moment>,
}

// === impl Spans ===

impl Spans {
    pub(super) fn add(&mut self, sum: &Sum, entry: bool, failed: bool) {
        self.all.merge(sum);
        if failed {
            self.all_failed.merge(sum);
        }
        if entry {
            self.entry.merge(sum);
        }
        if entry && failed {
            self.entry_failed.merge(sum);
        }
    }
}

// === impl Moment ===

impl Moment {
    /// The numbers of a node: by the spans of its servers, or else by the edges to it, or from it.
    pub(super) fn node(&self, node: &NodeName, kind: NodeType) -> (Red, &'static str) {
        let own = self.spans.get(node);
        let red = own.map(|spans| Red::of_spans(&spans.entry, &spans.entry_failed)).unwrap_or_default();
        if red.calls > 0.0 {
            return (red, "server spans");
        }
        let side = if kind == NodeType::Service { SERVER } else { CLIENT };
        let mut incoming = Red::default();
        for (_, sum) in self.edges.iter().filter(|((_, server, _), _)| server == node) {
            incoming.merge(&Red::of_edge(sum, side).0);
        }
        if incoming.calls > 0.0 {
            return (incoming, "calls");
        }
        if let Some(spans) = own.filter(|spans| spans.all.get().is_some()) {
            return (Red::of_spans(&spans.all, &spans.all_failed), "spans");
        }
        let mut outgoing = Red::default();
        for (_, sum) in self.edges.iter().filter(|((client, ..), _)| client == node) {
            let Red { calls, failed, .. } = Red::of_edge(sum, CLIENT).0;
            outgoing.merge(&Red { calls, failed, ..Red::default() });
        }
        (outgoing, "own calls")
    }

    fn spans(&self) -> f64 {
        self.spans.values().map(|spans| spans.all.counter(0)).sum()
    }

    fn calls(&self) -> f64 {
        self.edges.values().map(|sum| sum.counter(0)).sum()
    }
}

/// The side that gives the latency of an edge: the client, unless it sends no spans.
pub(super) fn side_of(connection: Connection) -> usize {
    if connection == Connection::VirtualClient { SERVER } else { CLIENT }
}

fn shown(red: &Red, seconds: f64) -> Option<Values> {
    (red.calls > 0.0).then(|| red.values(seconds))
}

// === impl Map ===

impl Map {
    /// The graph of a moment.
    pub fn graph(&mut self, query: &GraphQuery<'_>) -> Graph {
        let nodes = Nodes::of(self, query.tenant);
        let (kept, status) = (self.kept(), self.status());
        let Some((first, newest)) = kept else {
            return Graph { tenant: query.tenant.to_owned(), partial: status.partial, ..Graph::default() };
        };
        let span = self.span_of(query.at, newest);
        let now = self.moment(query.tenant, &nodes, span);
        let wanted = query.compare.map(|at| (at, self.span_of(Some(at), newest)));
        let old = |at: Millis| format!("nothing is kept of {}", crate::core::model::time::rfc3339(at));
        let compare_missing = wanted.filter(|(_, (_, to))| *to <= first).map(|(at, _)| old(at));
        let then_span = wanted.filter(|_| compare_missing.is_none()).map(|(_, span)| span);
        let then = then_span.map(|span| self.moment(query.tenant, &nodes, span));
        let horizon = query.range.map_or(Millis::MIN, |range| newest.saturating_sub(range));
        let picture = Picture { nodes: &nodes, seen: self.seen(query.tenant, &nodes, horizon), now, then };
        let mut partial = status.partial;
        partial.extend(status.dropped_before.map(|_| "older points were dropped: the memory is full".to_owned()));
        let (groups, group_edges) = picture.groups(query.namespace);
        let edges = picture.edges();
        Graph {
            tenant: query.tenant.to_owned(),
            at: span.1,
            as_of: status.as_of.map(|at| at.min(newest)),
            kept,
            window: span.1 - span.0.max(first),
            step: self.bins.width(),
            compare: then_span.map(|(_, to)| to),
            compare_missing,
            partial,
            spans: picture.now.spans() / picture.now.seconds.max(1e-3),
            rate: (rate(&picture.now), picture.then.as_ref().map(rate)),
            total: self.total(query.tenant),
            nodes: picture.nodes(),
            cycles: cycles(&edges),
            edges,
            groups,
            group_edges,
        }
    }

    /// The beginning and the end of what is kept.
    pub(super) fn kept(&self) -> Option<(Millis, Millis)> {
        let (first, last) = self.bins.ends()?;
        let began = self.keys.iter().flatten().map(|slot| slot.first).min().unwrap_or(first);
        Some(((first - self.bins.width()).max(began - self.settings.step), last))
    }

    /// The stretch that is counted for a moment: a few points up to the last complete one, or everything.
    pub(super) fn span_of(&self, at: Option<Millis>, newest: Millis) -> (Millis, Millis) {
        if at.is_none() && self.settings.whole {
            return (Millis::MIN, newest);
        }
        let width = self.bins.width();
        let complete = self.as_of().unwrap_or(newest).div_euclid(width) * width;
        let oldest = self.bins.ends().map_or(newest, |(first, _)| first);
        let to = match at {
            Some(at) => at.div_euclid(width) * width,
            None => complete.clamp(oldest, newest),
        };
        (to - WINDOW_POINTS * width, to)
    }

    pub(super) fn moment(&self, tenant: &str, nodes: &Nodes, (from, to): (Millis, Millis)) -> Moment {
        let mut sums: BTreeMap<u32, Sum> = BTreeMap::new();
        self.bins.each((from, to), |_, key, layout, numbers| {
            let slot = self.keys.get(key as usize).and_then(Option::as_ref);
            if slot.is_some_and(|slot| **slot.key.tenant() == *tenant) {
                sums.entry(key).or_default().add(layout, numbers);
            }
        });
        let mut moment = Moment { seconds: self.seconds((from, to)), ..Moment::default() };
        for (key, sum) in &sums {
            self.put(&mut moment, nodes, *key, sum);
        }
        moment
    }

    /// Adds the counts of one key.
    pub(super) fn put(&self, moment: &mut Moment, nodes: &Nodes, key: u32, sum: &Sum) {
        match self.keys.get(key as usize).and_then(Option::as_ref).map(|slot| &slot.key) {
            Some(Key::Operation(o)) => {
                moment.spans.entry(o.node.clone()).or_default().add(sum, is_entry(o), o.failed);
            }
            Some(Key::Edge(e)) => {
                let id = (nodes.resolve(&e.client), nodes.resolve(&e.server), e.connection);
                moment.edges.entry(id).or_default().merge(sum);
            }
            None => {}
        }
    }

    /// The seconds of a stretch of time of which anything can have been counted.
    pub(super) fn seconds(&self, (from, to): (Millis, Millis)) -> f64 {
        let (first, last) = self.kept().unwrap_or((from, to));
        let last_step = self.keys.iter().flatten().map(|slot| slot.last).max().unwrap_or(last);
        let to = if to >= last { last_step.min(to) } else { to };
        (to - from.max(first)).max(self.settings.step) as f64 / 1e3
    }

    /// When every edge was seen first and last.
    fn seen(&self, tenant: &str, nodes: &Nodes, horizon: Millis) -> BTreeMap<EdgeId, (Millis, Millis)> {
        let mut seen: BTreeMap<EdgeId, (Millis, Millis)> = BTreeMap::new();
        let slots = self.keys.iter().flatten().filter(|slot| **slot.key.tenant() == *tenant && slot.last > horizon);
        for slot in slots {
            let Key::Edge(e) = &slot.key else { continue };
            let id = (nodes.resolve(&e.client), nodes.resolve(&e.server), e.connection);
            let times = seen.entry(id).or_insert((slot.first, slot.last));
            *times = (times.0.min(slot.first), times.1.max(slot.last));
        }
        seen
    }

    /// All calls and how many edges fail, over everything that is kept.
    fn total(&mut self, tenant: &str) -> Vec<(Millis, f64, u32, u32)> {
        let Some((first, last)) = self.bins.ends() else { return Vec::new() };
        let width = self.bins.width();
        let wide = ((last - first) / width / TOTAL_POINTS + 1) * width;
        let keys = &self.keys;
        let outlines = self.bins.outline(|each| {
            let mut outline = Outline::new();
            each(&mut |key, layout, numbers| {
                let Some(Some(slot)) = keys.get(key as usize) else { return };
                let Key::Edge(edge) = &slot.key else { return };
                let [calls, failed] = [0, 1].map(|c| layout.counter_value(&numbers.cells, c).unwrap_or(0.0));
                let entry = outline.entry(edge.tenant.clone()).or_default();
                entry.0 += calls;
                for (count, share) in entry.1.iter_mut().zip(FAILING) {
                    *count += u32::from(calls > 0.0 && failed >= share * calls);
                }
            });
            outline
        });
        let mut total: BTreeMap<Millis, (f64, [u32; 2])> = BTreeMap::new();
        for (end, outline) in outlines {
            let point = total.entry((end - 1).div_euclid(wide) * wide + wide).or_default();
            if let Some((calls, failing)) = outline.get(tenant) {
                point.0 += calls;
                point.1 = [point.1[0].max(failing[0]), point.1[1].max(failing[1])];
            }
        }
        let seconds: Vec<f64> = total.keys().map(|end| self.seconds((end - wide, *end))).collect();
        let points = total.into_iter().zip(seconds);
        points.map(|((end, (calls, [some, many])), seconds)| (end, calls / seconds, some, many)).collect()
    }
}

fn rate(moment: &Moment) -> f64 {
    if moment.seconds > 0.0 { moment.calls() / moment.seconds } else { 0.0 }
}

// === impl Picture ===

impl Picture<'_> {
    /// The nodes that have an edge, or spans.
    fn names(&self) -> BTreeSet<NodeName> {
        let ends = self.seen.keys().flat_map(|(client, server, _)| [client.clone(), server.clone()]);
        let spans = self.now.spans.keys().chain(self.then.iter().flat_map(|then| then.spans.keys())).cloned();
        ends.chain(spans).collect()
    }

    fn nodes(&self) -> Vec<NodeView> {
        let names = self.names();
        names.iter().map(|name| self.node(name)).collect()
    }

    fn node(&self, name: &NodeName) -> NodeView {
        let kind = self.nodes.kind(name);
        let (now, of) = self.now.node(name, kind);
        let then = self.then.as_ref().and_then(|then| shown(&then.node(name, kind).0, then.seconds));
        NodeView {
            id: name.id(),
            name: name.name.to_string(),
            namespace: name.namespace.to_string(),
            group: self.nodes.group(name),
            kind,
            of,
            now: shown(&now, self.now.seconds),
            then,
        }
    }

    fn edges(&self) -> Vec<EdgeView> {
        self.merged(|id| Some((id.0.id(), id.1.id())))
    }

    /// Edges with their ends mapped by `ends`; `None`: not shown.
    fn merged(&self, ends: impl Fn(&EdgeId) -> Option<(String, String)>) -> Vec<EdgeView> {
        let mut all: BTreeMap<(String, String), (EdgeView, Red, Red)> = BTreeMap::new();
        for (id, &(first_seen, last_seen)) in &self.seen {
            let Some((client, server)) = ends(id) else { continue };
            let of = |moment: &Moment| moment.edges.get(id).map(|sum| Red::of_edge(sum, side_of(id.2)));
            let now = of(&self.now);
            let side = now.as_ref().map_or("client", |(_, side)| side);
            let (kind, new) = (id.2.name(), (client.clone(), server.clone()));
            let edge = EdgeView { client, server, kind, side, now: None, then: None, first_seen, last_seen };
            let (edge, sum, sum_then) = all.entry(new).or_insert((edge, Red::default(), Red::default()));
            edge.first_seen = edge.first_seen.min(first_seen);
            edge.last_seen = edge.last_seen.max(last_seen);
            sum.merge(&now.map(|(red, _)| red).unwrap_or_default());
            sum_then.merge(&self.then.as_ref().and_then(of).map(|(red, _)| red).unwrap_or_default());
        }
        let seconds = (self.now.seconds, self.then.as_ref().map_or(0.0, |then| then.seconds));
        let edges = all.into_values().map(|(edge, now, then)| EdgeView {
            now: shown(&now, seconds.0),
            then: shown(&then, seconds.1),
            ..edge
        });
        edges.collect()
    }

    /// External callers are not grouped.
    fn place(&self, name: &NodeName, open: Option<&str>) -> String {
        let group = self.nodes.group(name);
        let alone = self.nodes.kind(name) == NodeType::User || open == Some(&*group);
        if alone { name.id() } else { format!("ns:{group}") }
    }

    fn groups(&self, open: Option<&str>) -> (Vec<GroupView>, Vec<EdgeView>) {
        let edges = self.merged(|(client, server, _)| {
            let (client, server) = (self.place(client, open), self.place(server, open));
            (client != server).then_some((client, server))
        });
        let mut members: BTreeMap<String, Vec<NodeName>> = BTreeMap::new();
        for name in self.names() {
            if self.nodes.kind(&name) != NodeType::User {
                members.entry(self.nodes.group(&name)).or_default().push(name);
            }
        }
        let groups = members.iter().map(|(name, members)| self.group(name, members)).collect();
        (groups, edges)
    }

    fn group(&self, name: &str, members: &[NodeName]) -> GroupView {
        let kinds: BTreeSet<NodeType> = members.iter().map(|member| self.nodes.kind(member)).collect();
        let kind = if kinds.len() == 1 { kinds.first().copied() } else { None }.unwrap_or(NodeType::Service);
        let value = |moment: &Moment| shown(&self.entering(moment, name, members), moment.seconds);
        GroupView {
            id: format!("ns:{name}"),
            name: name.to_owned(),
            nodes: members.len(),
            kind,
            now: value(&self.now),
            then: self.then.as_ref().and_then(value),
        }
    }

    /// The calls that enter a group; if nothing does, those of its members.
    fn entering(&self, moment: &Moment, group: &str, members: &[NodeName]) -> Red {
        let mut red = Red::default();
        for (id, sum) in &moment.edges {
            if self.nodes.group(&id.1) == group && self.nodes.group(&id.0) != group {
                red.merge(&Red::of_edge(sum, side_of(id.2)).0);
            }
        }
        if red.calls <= 0.0 {
            members.iter().for_each(|member| red.merge(&moment.node(member, self.nodes.kind(member)).0));
        }
        red
    }
}
