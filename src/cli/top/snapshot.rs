//! What the view shows at a moment: pure values, and JSON for scripts.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::state::Tab;
use crate::cli::topics::report::Report;
use crate::core::model::Millis;
use crate::tools::map::{EdgeView, GraphQuery, Map, MetricView, NodeView, SubjectView};

/// Operations and edges with most label sets: so many.
const SUBJECTS: usize = 500;

/// A moment.
#[derive(Debug, Default, Serialize)]
pub(super) struct Snapshot {
    /// The group that is followed.
    pub(super) group: String,
    /// When it was made, in milliseconds since the epoch.
    pub(super) at: Millis,
    /// The tenant of the services and edges.
    pub(super) tenant: String,
    pub(super) tenants: Vec<String>,
    /// All source partitions have passed this moment.
    pub(super) as_of: Option<Millis>,
    /// Milliseconds that rates and quantiles are counted over; 0 without data.
    pub(super) window: Millis,
    /// What is missing, as messages.
    pub(super) partial: Vec<String>,
    pub(super) services: Vec<NodeView>,
    pub(super) edges: Vec<EdgeView>,
    #[serde(serialize_with = "shared")]
    pub(super) partitions: Option<Arc<Report>>,
    /// By tenant and metric, of all tenants.
    pub(super) series: Vec<MetricView>,
    pub(super) label_sets: Vec<SubjectView>,
    /// The same look at the partitions, for the shards in it.
    #[serde(serialize_with = "shards")]
    pub(super) samples: Option<Arc<Report>>,
    /// Label sets of snapshots without a delta.
    pub(super) quiet: u64,
}

fn shared<S: Serializer>(report: &Option<Arc<Report>>, to: S) -> Result<S::Ok, S::Error> {
    report.as_deref().serialize(to)
}

fn shards<S: Serializer>(report: &Option<Arc<Report>>, to: S) -> Result<S::Ok, S::Error> {
    report.as_ref().map(|report| report.shards().collect::<Vec<_>>()).serialize(to)
}

// === impl Snapshot ===

impl Snapshot {
    /// What a map has for these tabs, for a tenant or else the first one.
    pub(super) fn of(map: &mut Map, tenant: Option<&str>, tabs: &[Tab]) -> Self {
        let (tenants, status) = (map.tenants(), map.status());
        let tenant = tenant.map(str::to_owned).or_else(|| tenants.first().cloned()).unwrap_or_default();
        let mut new = Self { tenant, tenants, as_of: status.as_of, partial: status.partial, ..Self::default() };
        if tabs.contains(&Tab::Services) || tabs.contains(&Tab::Edges) {
            let graph = map.graph(&GraphQuery { tenant: &new.tenant, ..GraphQuery::default() });
            (new.window, new.partial) = (graph.window, graph.partial);
            new.services = if tabs.contains(&Tab::Services) { graph.nodes } else { Vec::new() };
            new.edges = if tabs.contains(&Tab::Edges) { graph.edges } else { Vec::new() };
        }
        if tabs.contains(&Tab::Series) || tabs.contains(&Tab::LabelSets) {
            let all = map.cardinality(SUBJECTS);
            (new.series, new.label_sets, new.quiet) = (all.metrics, all.subjects, all.quiet);
        }
        new
    }

    /// As JSON, with what these tabs show.
    pub(super) fn json(&self, tabs: &[Tab]) -> serde_json::Value {
        let mut json = serde_json::json!(self);
        for tab in Tab::ALL.into_iter().filter(|tab| !tabs.contains(tab)) {
            if let Some(fields) = json.as_object_mut() {
                fields.remove(tab.field());
            }
        }
        json
    }
}
