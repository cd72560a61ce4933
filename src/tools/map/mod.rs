//! The service map: services and the calls between them over time, from delta records.
//!
//! * *In:* records of the deltas topic, from any source; labels of snapshots. *Out:* graphs at a moment, histories,
//!   operations, exemplars, as plain values and as text. *Owner:* the page's server. *Never:* a clock, a file, a
//!   socket. A quantile that does not come from merged buckets. *Next:* `ui` answers with it.
//!
//! | module | what it does |
//! |---|---|
//! | `keys` | label sets → their subjects: an operation of a service, or an edge |
//! | `bins` | counts by time, packed; and what is dropped when memory is full |
//! | `sums` | counts merged over layouts → rate, errors, quantiles with their bounds |
//! | `model` | the map itself: it adds records and tracks their progress |
//! | `nodes` | which services there are, what kind they are, and to which namespace they belong |
//! | `graph`, `history`, `views` | requests and answers |
//! | `cycles` | services that call each other in a circle |
//! | `cardinality` | label sets and series by tenant and metric, and what has most of them |
//! | `draw` | a graph as DOT and as Mermaid |
//!
//! A map counts what span tasks have counted, before a shard applies a tenant's limits: a label set that a limit
//! refuses has no series of its own and is in the map all the same.

mod bins;
mod cardinality;
mod cycles;
mod draw;
mod graph;
mod history;
mod keys;
mod model;
mod nodes;
mod sums;
#[cfg(test)]
mod tests;
mod views;

pub use cardinality::{Cardinality, MetricView, SubjectView};
pub use draw::{dot, mermaid};
pub use history::{EdgeHistory, ExampleView, OperationView, Point, ServiceView};
pub use keys::{Connection, NodeName};
pub use model::{Gap, Map, MapSettings, Status};
pub use nodes::NodeType;
pub use sums::Values;
pub use views::{EdgeView, Graph, GraphQuery, GroupView, NodeView};
