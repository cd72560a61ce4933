//! The resources that a load needs: cores, workers, memory, traffic.
//!
//! *In:* a [`Load`], a [`Fleet`], measured [`Coefficients`]. *Out:* a [`CapacityPlan`]: every number with its
//! derivation. *Owner:* `spanmill plan`. *Never:* a number that was not measured; `benches/README.md` describes the
//! measurements.
//!
//! The work of a second has five parts, and each grows with another quantity:
//!
//! | part | grows with |
//! |---|---|
//! | spans | spans: decoding, finding their label sets, pairing, and what librdkafka needs for their bytes |
//! | records | records: what librdkafka and the worker do once for each |
//! | deltas | label sets that a partition touches in a step: each is written by its partition and added up by its shard |
//! | commits | partitions and steps: a journal record, and a delta record per shard, whose bytes count separately |
//! | samples | series and steps: every live series is sent once a step |

mod coefficients;
mod reckon;

pub use coefficients::{Coefficient, Coefficients, CoefficientsError};

use serde::{Deserialize, Serialize};

/// How record batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Codec {
    None,
    Lz4,
    Snappy,
    Zstd,
    Gzip,
}

/// The load to be processed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Load {
    /// Spans per second.
    pub spans_per_second: f64,
    /// Spans in a record.
    pub spans_per_record: f64,
    /// Bytes of a span before compression.
    pub bytes_per_span: f64,
    /// How they are compressed.
    pub codec: Codec,
    /// Partitions of all source topics.
    pub partitions: f64,
    /// `kafka.shards`.
    pub shards: f64,
    /// Label sets of span metrics.
    pub label_sets: f64,
    /// Label sets of the service graph.
    pub edges: f64,
    /// Prometheus series of a label set of span metrics.
    pub series_per_label_set: f64,
    /// Prometheus series of an edge.
    pub series_per_edge: f64,
    /// Seconds of a step.
    pub step: f64,
    /// Label sets that a partition touches in a step, if that is known.
    pub touched: Option<f64>,
    /// Pending edges, on average.
    pub half_edges: f64,
    /// `series.exemplars.enabled`
    pub exemplars: bool,
    /// `series.stale_after` in seconds: so long a partition knows a label set.
    pub stale_after: f64,
    /// `series.snapshot_every` in seconds.
    pub snapshot_every: f64,
}

/// The available workers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fleet {
    /// Cores of one worker.
    pub cores_per_worker: f64,
    /// The target utilization of a core on a normal day, 0 to 1. The rest is for peaks and for catching up.
    pub busy: f64,
    /// The fewest workers, so that one may be missing.
    pub least_workers: f64,
    /// What a partition may take for records fetched ahead, with `worker.fetch_buffer_bytes` as it is; bytes.
    pub fetch_memory: f64,
}

/// One number of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanLine {
    /// Its name, in snake case.
    pub name: &'static str,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// How it was computed, in words and numbers.
    pub how: String,
    /// The names of the coefficients in it.
    pub from: Vec<&'static str>,
}

/// The resources that the load needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CapacityPlan {
    /// The numbers, the most important first.
    pub lines: Vec<PlanLine>,
    /// The parts that do not fit, with the remedy.
    pub warnings: Vec<String>,
}

impl CapacityPlan {
    /// The resources that `load` needs on `fleet`.
    #[must_use]
    pub fn new(load: &Load, fleet: &Fleet, measured: &Coefficients) -> Self {
        reckon::plan(load, fleet, measured)
    }

    /// A number by its name; 0 if there is none.
    #[must_use]
    pub fn value(&self, name: &str) -> f64 {
        self.lines.iter().find(|line| line.name == name).map_or(0.0, |line| line.value)
    }
}

#[cfg(test)]
mod tests;
