//! An edge or a service over time; a service's operations and exemplars.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::graph::{Moment, side_of};
use super::keys::{Key, NodeName};
use super::model::Map;
use super::nodes::{NodeType, Nodes};
use super::sums::{Red, Sum, Values};
use crate::core::model::{Exemplar, Millis};

/// Points of a history.
const POINTS: i64 = 72;
/// The maximum number of exemplars shown.
const EXAMPLES: usize = 10;

/// One point of a history.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Its end.
    pub t: Millis,
    /// Its numbers; `None`: no calls.
    pub values: Option<Values>,
}

/// An edge over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EdgeHistory {
    /// The caller.
    pub client: String,
    /// What is called.
    pub server: String,
    /// Milliseconds of a point.
    pub step: Millis,
    /// Oldest first.
    pub points: Vec<Point>,
}

/// One operation of a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperationView {
    /// The span name.
    pub name: String,
    /// The span kind, such as `server`.
    pub kind: String,
    /// Its numbers.
    pub now: Values,
}

/// An example trace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExampleView {
    /// The trace ID in hexadecimal.
    pub trace_id: String,
    /// The duration in milliseconds.
    pub value: f64,
    /// The end of its span.
    pub ts: Millis,
    /// The operation, or the caller.
    pub what: String,
    /// Whether the span failed.
    pub error: bool,
}

/// A service with its numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceView {
    /// See [`NodeName::id`].
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: NodeType,
    /// What its numbers count: `server spans`, `calls`, `own calls` or `spans`.
    pub of: &'static str,
    /// Milliseconds of a point.
    pub step: Millis,
    /// Oldest first.
    pub points: Vec<Point>,
    /// Most called first.
    pub operations: Vec<OperationView>,
    /// Newest first.
    pub exemplars: Vec<ExampleView>,
}

// === impl Map ===

impl Map {
    /// An edge over time, by the identifiers of its ends; `None` if there is none.
    #[must_use]
    pub fn edge(&self, tenant: &str, client: &str, server: &str, range: Option<Millis>) -> Option<EdgeHistory> {
        let nodes = Nodes::of(self, tenant);
        let (client, server) = (nodes.find(client)?, nodes.find(server)?);
        let keys = self.keys_where(tenant, |key| match key {
            Key::Edge(e) => nodes.resolve(&e.client) == client && nodes.resolve(&e.server) == server,
            Key::Operation(_) => false,
        });
        if keys.is_empty() {
            return None;
        }
        let (step, moments) = self.moments(&nodes, &keys, range);
        let value = |moment: &Moment| {
            let mut red = Red::default();
            moment.edges.iter().for_each(|(id, sum)| red.merge(&Red::of_edge(sum, side_of(id.2)).0));
            red
        };
        let points = points(&moments, value);
        Some(EdgeHistory { client: client.id(), server: server.id(), step, points })
    }

    /// A service at a moment and over time, by its identifier; `None` if there is none.
    #[must_use]
    pub fn service(&self, tenant: &str, id: &str, at: Option<Millis>, range: Option<Millis>) -> Option<ServiceView> {
        let nodes = Nodes::of(self, tenant);
        let node = nodes.find(id)?;
        let kind = nodes.kind(&node);
        let keys = self.keys_where(tenant, |key| match key {
            Key::Edge(e) => nodes.resolve(&e.client) == node || nodes.resolve(&e.server) == node,
            Key::Operation(o) => o.node == node,
        });
        let (step, moments) = self.moments(&nodes, &keys, range);
        let mut of = "server spans";
        for moment in moments.values() {
            let (red, basis) = moment.node(&node, kind);
            of = if red.calls > 0.0 { basis } else { of };
        }
        let points = points(&moments, |moment| moment.node(&node, kind).0);
        Some(ServiceView {
            id: node.id(),
            name: node.name.to_string(),
            namespace: node.namespace.to_string(),
            kind,
            of,
            step,
            points,
            operations: self.operations(&keys, at),
            exemplars: self.examples(&nodes, &node, &keys),
        })
    }

    fn keys_where(&self, tenant: &str, wanted: impl Fn(&Key) -> bool) -> BTreeSet<u32> {
        let slots = (0..).zip(&self.keys).filter_map(|(id, slot)| Some((id, slot.as_ref()?)));
        slots.filter(|(_, slot)| **slot.key.tenant() == *tenant && wanted(&slot.key)).map(|(id, _)| id).collect()
    }

    /// The counts of some keys, point by point, including empty points.
    fn moments(
        &self,
        nodes: &Nodes,
        keys: &BTreeSet<u32>,
        range: Option<Millis>,
    ) -> (Millis, BTreeMap<Millis, Moment>) {
        let Some((_, last)) = self.bins.ends() else { return (self.bins.width(), BTreeMap::new()) };
        let first = self.kept().map_or(last, |(first, _)| first);
        let from = range.map_or(first, |range| last.saturating_sub(range).max(first));
        let width = self.bins.width();
        let wide = ((last - from) / width / POINTS + 1) * width;
        let end_of = |at: Millis| (at - 1).div_euclid(wide) * wide + wide;
        let mut sums: BTreeMap<(Millis, u32), Sum> = BTreeMap::new();
        self.bins.each_of((from, last), keys, |end, key, layout, numbers| {
            sums.entry((end_of(end), key)).or_default().add(layout, numbers);
        });
        let ends = std::iter::successors(Some(end_of(from + 1)), |end| Some(end + wide))
            .take_while(|end| *end <= end_of(last));
        let mut moments: BTreeMap<Millis, Moment> =
            ends.map(|end| (end, Moment { seconds: self.seconds((end - wide, end)), ..Moment::default() })).collect();
        for ((end, key), sum) in &sums {
            if let Some(moment) = moments.get_mut(end) {
                self.put(moment, nodes, *key, sum);
            }
        }
        (wide, moments)
    }

    fn operations(&self, keys: &BTreeSet<u32>, at: Option<Millis>) -> Vec<OperationView> {
        let Some((_, newest)) = self.bins.ends() else { return Vec::new() };
        let span = self.span_of(at, newest);
        let mut sums: BTreeMap<(&str, &str), (Sum, Sum)> = BTreeMap::new();
        self.bins.each_of(span, keys, |_, key, layout, numbers| {
            let Some(Some(slot)) = self.keys.get(key as usize) else { return };
            let Key::Operation(o) = &slot.key else { return };
            let (all, failed) = sums.entry((&o.name, &o.kind)).or_default();
            all.add(layout, numbers);
            if o.failed {
                failed.add(layout, numbers);
            }
        });
        let seconds = self.seconds(span);
        let view = |((name, kind), (all, failed)): ((&str, &str), (Sum, Sum))| OperationView {
            name: name.to_owned(),
            kind: kind.to_owned(),
            now: Red::of_spans(&all, &failed).values(seconds),
        };
        let mut operations: Vec<OperationView> = sums.into_iter().map(view).collect();
        operations.sort_by(|a, b| b.now.rate.total_cmp(&a.now.rate));
        operations
    }

    fn examples(&self, nodes: &Nodes, node: &NodeName, keys: &BTreeSet<u32>) -> Vec<ExampleView> {
        let mut found: Vec<(&Exemplar, String, bool)> = Vec::new();
        for slot in keys.iter().filter_map(|key| self.keys.get(*key as usize)?.as_ref()) {
            let (what, error) = match &slot.key {
                Key::Operation(o) => (o.name.to_string(), o.failed),
                Key::Edge(e) if nodes.resolve(&e.server) == *node => {
                    (format!("{} →", nodes.resolve(&e.client).name), false)
                }
                Key::Edge(_) => continue,
            };
            found.extend(slot.examples.iter().map(|example| (example, what.clone(), error)));
        }
        found.sort_by(|a, b| b.0.cmp(a.0));
        // A span is an example of its operation and of its edge: the operation is more precise.
        found.dedup_by(|later, first| later.0.trace_id == first.0.trace_id);
        let view = |(example, what, error): (&Exemplar, String, bool)| ExampleView {
            trace_id: format!("{:032x}", u128::from_be_bytes(example.trace_id)),
            value: example.value_ns as f64 / 1e6,
            ts: example.at,
            what,
            error,
        };
        found.into_iter().take(EXAMPLES).map(view).collect()
    }
}

fn points(moments: &BTreeMap<Millis, Moment>, of: impl Fn(&Moment) -> Red) -> Vec<Point> {
    let point = |(&t, moment): (&Millis, &Moment)| {
        let red = of(moment);
        Point { t, values: (red.calls > 0.0).then(|| red.values(moment.seconds)) }
    };
    moments.iter().map(point).collect()
}
