//! What a part of the spans has added: label sets as they are written, with the values of their metrics.

use crate::core::deltas::{DeltaRecord, DeltaRecordError, SetDelta};
use crate::core::model::{Family, Layout, labels};
use crate::core::series::TenantBook;
use crate::core::tasks::span::StepCut;

/// A label set, and what was added to the metrics that have it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SeriesSet {
    /// The tenant that it belongs to.
    pub tenant: String,
    /// The labels as they are written, sorted by name.
    pub labels: Vec<(String, String)>,
    /// The metrics that have grown.
    pub metrics: Vec<Value>,
}

/// By how much a metric has grown.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Value {
    /// A counter.
    Counter {
        /// The name.
        name: String,
        /// By so much.
        value: f64,
    },
    /// A gauge, which is 1.
    Gauge {
        /// The name.
        name: String,
    },
    /// A histogram: classic with `_bucket`, `_sum` and `_count` after its name, native by its name.
    Histogram {
        /// The name.
        name: String,
        /// How many observations, which sampling may have multiplied.
        count: f64,
        /// Their sum.
        sum: f64,
        /// The `le` of the classic bucket that they are in.
        #[serde(skip_serializing_if = "Option::is_none")]
        le: Option<String>,
    },
}

/// A label set that has grown.
#[derive(Debug, Clone)]
pub(super) struct Grown {
    pub(super) family: Family,
    pub(super) set: SeriesSet,
}

/// The label sets that have grown between two cuts.
pub(super) fn grown(cuts: &[StepCut], book: &TenantBook) -> Result<Vec<Grown>, DeltaRecordError> {
    let mut out = Vec::new();
    for record in cuts.iter().flat_map(|cut| cut.delta_records.iter().flatten()) {
        let mut delta_record = DeltaRecord::decode(record)?;
        while let Some(set) = delta_record.next_set()? {
            let Some((layout, (tenant, block))) = delta_record.layouts.get(set.layout).zip(set.spelled) else {
                continue;
            };
            let written = book.of(tenant).written(tenant, layout.family(), block);
            let labels = labels::iter(&written).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let metrics = values(&set, layout);
            let set = SeriesSet { tenant: tenant.to_owned(), labels, metrics };
            out.push(Grown { family: layout.family(), set });
        }
    }
    Ok(out)
}

fn values(set: &SetDelta<'_>, layout: &Layout) -> Vec<Value> {
    let mut cells = vec![0; layout.cells()];
    for delta in &set.cells {
        cells[delta.cell as usize] = delta.value;
    }
    let counters = (0..layout.family().counters().len()).filter_map(|c| {
        let (value, name) = (layout.counter_value(&cells, c)?, layout.counter_name(c));
        Some(if layout.family().is_gauge(c) { Value::Gauge { name } } else { Value::Counter { name, value } })
    });
    let shaped = (0..layout.family().histograms().len()).filter(|&h| layout.shape(h).is_some());
    let histograms = shaped.filter_map(|h| {
        let count = layout.count_of(&cells, &set.natives, h);
        let full = (0..layout.buckets(h)).find(|&i| layout.bucket_of(&cells, h, i) > 0);
        (count > 0).then(|| Value::Histogram {
            name: layout.histogram_name(h),
            count: layout.count_value(count),
            sum: layout.sum_value(&cells, h),
            le: full.and_then(|i| layout.les(h).nth(i)),
        })
    });
    counters.chain(histograms).collect()
}

// === impl Value ===

impl Value {
    /// The name of the metric.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Counter { name, .. } | Self::Gauge { name } | Self::Histogram { name, .. } => name,
        }
    }

    /// Adds what the same metric has grown by besides. Of several observations no bucket holds all.
    pub(super) fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Counter { value, .. }, Self::Counter { value: more, .. }) => *value += more,
            (
                Self::Histogram { count, sum, le, .. },
                Self::Histogram { count: more_count, sum: more_sum, le: other_le, .. },
            ) => {
                *count += more_count;
                *sum += more_sum;
                if le != other_le {
                    *le = None;
                }
            }
            _ => {}
        }
    }
}

// === impl SeriesSet ===

impl SeriesSet {
    /// The value of a label; empty if there is none.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}
