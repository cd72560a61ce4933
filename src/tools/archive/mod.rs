//! Samples in files instead of a receiver: the frames of a spool, and the formats for other programs.
//!
//! A *spool* is a directory with an append-only segment per shard. Its frames hold the bodies that remote write would
//! have sent, so after any end of a run, its spool can be converted to any format, compared or sent later.
//!
//! *In:* bytes of segments. *Out:* frames, series by window of time, text and tables of them. *Owner:* the reader of a
//! spool; `export` writes one. *Never:* a file, a clock; a sample that appears twice or contradicts another unnoticed.
//! *Next:* `export`, `cli`.

pub mod compare;
pub mod frame;
pub mod openmetrics;
pub mod query;
pub mod victoria;
pub mod window;

#[cfg(feature = "replay")]
pub mod table;

use std::io;

use crate::core::remotewrite::decode;
use crate::core::remotewrite::decode::proto::Histogram;
use crate::core::remotewrite::decode::proto::histogram::Count;

pub use frame::{Frame, FrameError, Scanner};
pub use window::{Collected, Series, Window, WindowError};

/// Why samples cannot be written in a format.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The destination fails.
    #[error("cannot be written: {0}")]
    Write(#[from] io::Error),
    /// The format has no native histograms.
    #[error(
        "{0} is a native histogram, which this format does not support; use parquet or remote write, or replay with \
         classic histograms"
    )]
    Native(String),
    /// A histogram that breaks the rules.
    #[error("{series}: {why}")]
    Histogram {
        /// The series in text form.
        series: String,
        /// Which rule.
        why: String,
    },
    /// The table cannot be written.
    #[cfg(feature = "replay")]
    #[error("the table cannot be written: {0}")]
    Table(#[from] ::parquet::errors::ParquetError),
}

/// What has been written, and what a format could not carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Written {
    /// Series, each once per window.
    pub series: u64,
    /// Samples.
    pub samples: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Markers of ended series that the format cannot carry.
    pub markers_left: u64,
    /// Exemplars that the format cannot carry.
    pub exemplars_left: u64,
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        self.series += other.series;
        self.samples += other.samples;
        self.exemplars += other.exemplars;
        self.markers_left += other.markers_left;
        self.exemplars_left += other.exemplars_left;
    }
}

/// The floats of a series for a format that has neither native histograms nor markers.
fn floats(series: &Series) -> Result<impl Iterator<Item = (crate::core::model::Millis, f64)>, FormatError> {
    if !series.histograms.is_empty() {
        return Err(FormatError::Native(decode::text(&series.labels)));
    }
    Ok(series.floats.iter().copied().filter(|(_, value)| !decode::is_stale(*value)))
}

/// The observations of a native histogram.
fn count(histogram: &Histogram) -> f64 {
    match histogram.count {
        Some(Count::CountInt(n)) => n as f64,
        Some(Count::CountFloat(n)) => n,
        None => 0.0,
    }
}
