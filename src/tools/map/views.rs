//! Requests for a graph, and answers.

use serde::Serialize;

use super::nodes::NodeType;
use super::sums::Values;
use crate::core::model::Millis;

/// A request for a graph.
#[derive(Debug, Clone, Copy, Default)]
pub struct GraphQuery<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The moment; `None`: the newest one that is complete.
    pub at: Option<Millis>,
    /// The moment to compare with.
    pub compare: Option<Millis>,
    /// How long edges without calls stay in the graph; `None`: as long as their data are kept.
    pub range: Option<Millis>,
    /// Show the nodes of this group, and all others as groups.
    pub namespace: Option<&'a str>,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Graph {
    /// The tenant.
    pub tenant: String,
    /// The end of the counted stretch; 0 without data.
    pub at: Millis,
    /// The whole picture is complete up to here.
    pub as_of: Option<Millis>,
    /// The beginning and the end of the kept data.
    pub kept: Option<(Millis, Millis)>,
    /// Milliseconds that the numbers are counted over.
    pub window: Millis,
    /// Milliseconds of one point of a history.
    pub step: Millis,
    /// The moment that it is compared with.
    pub compare: Option<Millis>,
    /// Why it cannot be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare_missing: Option<String>,
    /// The missing parts, as messages: the numbers are lower bounds.
    pub partial: Vec<String>,
    /// Spans that were counted, per second.
    pub spans: f64,
    /// All calls, per second, at present and at the compared moment.
    pub rate: (f64, Option<f64>),
    /// Per point: its end, calls per second, edges with at least 1 % and with at least 5 % of failures.
    pub total: Vec<(Millis, f64, u32, u32)>,
    /// All nodes.
    pub nodes: Vec<NodeView>,
    /// All edges.
    pub edges: Vec<EdgeView>,
    /// Nodes that reach each other through edges with calls, by identifier: two and more in each group.
    pub cycles: Vec<Vec<String>>,
    /// The groups that nodes are shown as.
    pub groups: Vec<GroupView>,
    /// Edges between groups, or between the nodes of a group and other groups.
    pub group_edges: Vec<EdgeView>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeView {
    /// See [`super::NodeName::id`].
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its namespace, or an empty text.
    pub namespace: String,
    /// The group that it is shown in.
    pub group: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: NodeType,
    /// What its numbers count: `server spans`, `calls`, `own calls` or `spans`.
    pub of: &'static str,
    /// Its present numbers; `None`: no calls.
    pub now: Option<Values>,
    /// Its numbers at the compared moment.
    pub then: Option<Values>,
}

/// An edge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EdgeView {
    /// The caller's identifier; of a group, `ns:` and its name.
    pub client: String,
    /// The identifier of the callee.
    pub server: String,
    /// `request`, `messaging`, `database` or `virtual`; of several edges that of the first.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The side that measured the latency: `client` or `server`.
    pub side: &'static str,
    /// Its present numbers.
    pub now: Option<Values>,
    /// Its numbers at the compared moment.
    pub then: Option<Values>,
    /// The first step of which anything is known.
    pub first_seen: Millis,
    /// The last step.
    pub last_seen: Millis,
}

/// A group of nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupView {
    /// `ns:` and its name.
    pub id: String,
    /// Its name, which may be empty: nodes without a namespace.
    pub name: String,
    /// The number of its nodes.
    pub nodes: usize,
    /// Their type, if all have the same; otherwise services.
    #[serde(rename = "type")]
    pub kind: NodeType,
    /// The present calls into it.
    pub now: Option<Values>,
    /// The calls into it at the compared moment.
    pub then: Option<Values>,
}
