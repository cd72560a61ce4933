//! The measured costs. `benches/results/plot.py` writes the file from the lines that the benchmarks print.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Codec;

/// The measured numbers of this version.
const MEASURED: &str = include_str!("../../../benches/results/coefficients.json");

/// A measured number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coefficient {
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// How it was measured, and in how many runs.
    pub source: String,
}

/// All measured numbers, by name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coefficients(BTreeMap<String, Coefficient>);

/// The measured numbers cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoefficientsError {
    /// They are malformed.
    #[error("the measured numbers cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// One is missing, or is not a cost.
    #[error("the measured numbers lack `{0}`")]
    Missing(&'static str),
}

/// The names of all numbers that a plan needs.
const NAMES: [&str; 31] = [
    SPAN,
    BYTE_NONE,
    BYTE_LZ4,
    BYTE_SNAPPY,
    BYTE_ZSTD,
    BYTE_GZIP,
    RECORD,
    TOUCHED,
    COMMIT,
    SAMPLE,
    WIRE_NONE,
    WIRE_LZ4,
    WIRE_SNAPPY,
    WIRE_ZSTD,
    WIRE_GZIP,
    DELTA_BYTES,
    EXEMPLAR_BYTES,
    DELTA_RECORD_BYTES,
    COMMIT_BYTES,
    HALF_EDGE_BYTES,
    SNAPSHOT_BYTES,
    EXEMPLARS,
    SAMPLE_BYTES,
    SENT_EXEMPLAR_BYTES,
    BASE_MEMORY,
    PARTITION_MEMORY,
    SHARD_MEMORY,
    SET_MEMORY,
    KNOWN_MEMORY,
    KNOWN_EXEMPLARS_MEMORY,
    HALF_EDGE_MEMORY,
];

pub(super) const SPAN: &str = "cpu_ns_per_span";
const BYTE_NONE: &str = "cpu_ns_per_byte_none";
const BYTE_LZ4: &str = "cpu_ns_per_byte_lz4";
const BYTE_SNAPPY: &str = "cpu_ns_per_byte_snappy";
const BYTE_ZSTD: &str = "cpu_ns_per_byte_zstd";
const BYTE_GZIP: &str = "cpu_ns_per_byte_gzip";
pub(super) const RECORD: &str = "cpu_ns_per_record";
pub(super) const TOUCHED: &str = "cpu_ns_per_touched_set";
pub(super) const COMMIT: &str = "cpu_us_per_commit";
pub(super) const SAMPLE: &str = "cpu_ns_per_sample";
const WIRE_NONE: &str = "wire_share_none";
const WIRE_LZ4: &str = "wire_share_lz4";
const WIRE_SNAPPY: &str = "wire_share_snappy";
const WIRE_ZSTD: &str = "wire_share_zstd";
const WIRE_GZIP: &str = "wire_share_gzip";
pub(super) const DELTA_BYTES: &str = "bytes_per_touched_set";
pub(super) const EXEMPLAR_BYTES: &str = "bytes_per_exemplar";
pub(super) const DELTA_RECORD_BYTES: &str = "bytes_per_delta_record";
pub(super) const COMMIT_BYTES: &str = "bytes_per_commit";
pub(super) const HALF_EDGE_BYTES: &str = "bytes_per_half_edge";
pub(super) const SNAPSHOT_BYTES: &str = "bytes_per_snapshot_set";
pub(super) const EXEMPLARS: &str = "exemplars_per_touched_set";
pub(super) const SAMPLE_BYTES: &str = "bytes_per_sample";
pub(super) const SENT_EXEMPLAR_BYTES: &str = "bytes_per_sent_exemplar";
pub(super) const BASE_MEMORY: &str = "memory_mb_base";
pub(super) const PARTITION_MEMORY: &str = "memory_kb_per_partition";
pub(super) const SHARD_MEMORY: &str = "memory_kb_per_shard";
pub(super) const SET_MEMORY: &str = "memory_bytes_per_label_set";
pub(super) const KNOWN_MEMORY: &str = "memory_bytes_per_known_set";
pub(super) const KNOWN_EXEMPLARS_MEMORY: &str = "memory_bytes_per_known_set_exemplars";
pub(super) const HALF_EDGE_MEMORY: &str = "memory_bytes_per_half_edge";

// === impl Coefficients ===

impl Coefficients {
    /// Those that were measured for this version.
    ///
    /// # Errors
    /// None in a release: a test reads them.
    pub fn measured() -> Result<Self, CoefficientsError> {
        Self::read(MEASURED)
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// When it lacks a number.
    pub fn read(json: &str) -> Result<Self, CoefficientsError> {
        let all: BTreeMap<String, Coefficient> = serde_json::from_str(json)?;
        let sane = |name: &str| all.get(name).is_some_and(|c| c.value.is_finite() && c.value >= 0.0);
        match NAMES.into_iter().find(|name| !sane(name)) {
            Some(name) => Err(CoefficientsError::Missing(name)),
            None => Ok(Self(all)),
        }
    }

    /// A number by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Coefficient> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Coefficient)> {
        self.0.iter().map(|(name, coefficient)| (name.as_str(), coefficient))
    }

    pub(super) fn value(&self, name: &str) -> f64 {
        self.0.get(name).map_or(0.0, |coefficient| coefficient.value)
    }
}

impl Codec {
    /// The cost of a byte before decoding: receiving and decompressing it.
    pub(super) fn cpu(self) -> &'static str {
        match self {
            Self::None => BYTE_NONE,
            Self::Lz4 => BYTE_LZ4,
            Self::Snappy => BYTE_SNAPPY,
            Self::Zstd => BYTE_ZSTD,
            Self::Gzip => BYTE_GZIP,
        }
    }

    /// The fraction of the bytes that is on the wire.
    pub(super) fn wire(self) -> &'static str {
        match self {
            Self::None => WIRE_NONE,
            Self::Lz4 => WIRE_LZ4,
            Self::Snappy => WIRE_SNAPPY,
            Self::Zstd => WIRE_ZSTD,
            Self::Gzip => WIRE_GZIP,
        }
    }
}
