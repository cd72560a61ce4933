//! Label sets and series: how many there are of each tenant and metric, and what has most of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::keys::Key;
use super::model::Map;
use crate::core::deltas::SetDelta;
use crate::core::model::{Layout, Owner};

/// Label sets and series, as far as deltas and snapshots have named them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cardinality {
    /// By tenant and metric, most series first.
    pub metrics: Vec<MetricView>,
    /// What has most label sets, first.
    pub subjects: Vec<SubjectView>,
    /// Label sets that only snapshots name: no delta of them was read, so their series are not known.
    pub quiet: u64,
}

/// The series of a metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MetricView {
    /// The tenant.
    pub tenant: String,
    /// The name of the counter or histogram.
    pub metric: String,
    /// The label sets that count it.
    pub label_sets: u64,
    /// Their series: buckets, sum and count of a classic histogram are series each.
    pub series: u64,
}

/// The label sets of one operation or edge: they differ in their other labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubjectView {
    /// The tenant.
    pub tenant: String,
    /// `operation` or `edge`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The identifier of the service, or of the client of an edge: see [`super::NodeName::id`].
    pub service: String,
    /// The span name, or the identifier of the server of an edge.
    pub name: String,
    /// The span kind, or the kind of the edge.
    pub of: String,
    /// Whether its spans failed; edges count both.
    pub failed: bool,
    /// How many label sets it has.
    pub label_sets: u64,
}

/// The metrics of a layout with the series that each label set has of them: counters, then histograms.
pub(super) fn metrics(layout: &Layout) -> Vec<(String, u64)> {
    let family = layout.family();
    let counters = (0..family.counters().len()).map(|c| (layout.counter_name(c), 1));
    let histograms = (0..family.histograms().len()).map(|h| {
        let classic = layout.buckets(h);
        // Beside its buckets a classic histogram has a sum and a count; a native one is a single series.
        let series = classic + if classic > 0 { 2 } else { 0 } + usize::from(layout.native(h).is_some());
        (layout.histogram_name(h), series as u64)
    });
    counters.chain(histograms).collect()
}

/// The metrics that a delta counts, a bit for each: a metric without a count makes no series.
pub(super) fn counted(layout: &Layout, set: &SetDelta<'_>) -> u8 {
    let counters = layout.family().counters().len();
    let cells = set.cells.iter().filter(|cell| cell.value > 0);
    let owners = cells.filter_map(|cell| layout.owner(cell.cell as usize)).map(|owner| match owner {
        Owner::Counter(c) => c,
        Owner::Histogram(h) => counters + h,
    });
    let natives = (0..layout.family().histograms().len())
        .filter(|h| set.natives.get(*h).is_some_and(|total| total.count() > 0))
        .map(|h| counters + h);
    owners.chain(natives).fold(0, |bits, metric| bits | 1 << metric)
}

// === impl Map ===

impl Map {
    /// Label sets and series; of operations and edges at most `most`.
    #[must_use]
    pub fn cardinality(&self, most: usize) -> Cardinality {
        let mut sets: BTreeMap<(&Arc<str>, u16, u8), u64> = BTreeMap::new();
        let mut quiet = 0;
        for known in self.names.values() {
            match known.layout {
                Some(layout) => *sets.entry((&known.tenant, layout, known.counted)).or_default() += 1,
                None => quiet += 1,
            }
        }
        let mut by_name: BTreeMap<(&str, String), (u64, u64)> = BTreeMap::new();
        for ((tenant, id, counted), n) in sets {
            let Some(layout) = self.bins.layout_of(id) else { continue };
            let counts = |(_, of): &(usize, (String, u64))| of.1 > 0;
            let has = |(metric, _): &(usize, (String, u64))| counted >> metric & 1 == 1;
            for (_, (name, series)) in metrics(layout).into_iter().enumerate().filter(has).filter(counts) {
                let total = by_name.entry((tenant, name)).or_default();
                *total = (total.0 + n, total.1 + n * series);
            }
        }
        let view = |((tenant, metric), (label_sets, series)): ((&str, String), (u64, u64))| MetricView {
            tenant: tenant.to_owned(),
            metric,
            label_sets,
            series,
        };
        let mut metrics: Vec<MetricView> = by_name.into_iter().map(view).collect();
        metrics.sort_by_key(|metric| std::cmp::Reverse(metric.series));
        Cardinality { metrics, subjects: self.subjects(most), quiet }
    }

    fn subjects(&self, most: usize) -> Vec<SubjectView> {
        let mut slots: Vec<_> = self.keys.iter().flatten().filter(|slot| slot.names > 0).collect();
        slots.sort_by(|a, b| b.names.cmp(&a.names).then_with(|| a.key.cmp(&b.key)));
        slots.truncate(most);
        slots.into_iter().map(|slot| SubjectView::of(&slot.key, slot.names)).collect()
    }
}

// === impl SubjectView ===

impl SubjectView {
    fn of(key: &Key, label_sets: u32) -> Self {
        let (kind, service, name, of, failed) = match key {
            Key::Operation(o) => ("operation", o.node.id(), o.name.to_string(), o.kind.to_string(), o.failed),
            Key::Edge(e) => ("edge", e.client.id(), e.server.id(), e.connection.name().to_owned(), false),
        };
        let (tenant, label_sets) = (key.tenant().to_string(), label_sets.into());
        Self { tenant, kind, service, name, of, failed, label_sets }
    }
}
