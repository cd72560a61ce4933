//! The arguments of `produce`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::config;
use crate::config::settings::Secret;
use crate::core::model::time::from_rfc3339;
use crate::core::model::{Millis, StepWidth};

/// Produce a synthetic load with a known expected result
#[derive(Debug, Clone, Args)]
pub struct ProduceArgs {
    /// Bootstrap servers, comma separated
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    pub brokers: String,
    /// Topic to produce to
    #[arg(long, default_value = "otlp_spans")]
    pub topic: String,
    /// Create the topic with this many partitions if it does not exist
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub create_partitions: Option<u32>,
    /// Spans per second; 0: unthrottled
    #[arg(long, value_name = "SPANS/S", default_value_t = 1_000)]
    pub rate: u64,
    /// Event time to cover, such as 90s or 2h; an unthrottled load covers it at the virtual rate
    #[arg(long, conflicts_with = "spans", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Number of spans to send, rounded up to whole traces
    #[arg(long, value_name = "N")]
    pub spans: Option<u64>,
    /// Maximum number of spans per record
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    pub spans_per_record: usize,
    /// How spans are grouped into records
    #[arg(long, value_enum, default_value_t = GroupBy::Trace)]
    pub group: GroupBy,
    /// Kind of load
    #[arg(long, value_enum, default_value_t = Shape::Shop)]
    pub topology: Shape,
    /// Services of the scaled topology
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    pub services: usize,
    /// Span names of the scaled topology
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = at_least_one)]
    pub operations: usize,
    /// Probability that an operation fails by itself, 0 to 1; failures propagate to callers
    #[arg(long, value_name = "FRACTION", default_value_t = 0.01, value_parser = share)]
    pub error_share: f64,
    /// Compression of record batches
    #[arg(long, value_enum, default_value_t = Compression::Lz4)]
    pub compression: Compression,
    /// Seed of the load; the same seed produces the same load. Use different seeds for several producers
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the expected result of a worker with default settings to this file
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Also write the expected value of each series at the end of every step of this width in which it changes, by
    /// record timestamps: span metrics and completed edges, without edges that have virtual nodes
    #[arg(long, value_name = "DURATION", requires = "expect", value_parser = step)]
    pub expect_steps: Option<StepWidth>,
    /// Also expect metrics of whole traces: traces.duration, critical_path, errors and span_metrics, with their default buckets
    #[arg(long, requires = "expect")]
    pub expect_traces: bool,
    /// Event time of the first trace: an RFC 3339 time or `now`; an unthrottled load from `now` ends now instead
    #[arg(long, value_name = "TIME", default_value = "now")]
    pub start_time: StartTime,
    /// Spans per second of event time for an unthrottled load
    #[arg(long, value_name = "SPANS/S", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub virtual_rate: u64,
    /// librdkafka setting for every client; repeatable
    #[arg(long = "property", value_name = "KEY=VALUE")]
    pub properties: Vec<Property>,
    /// Header of every record, such as the one that names the tenant; repeatable
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub headers: Vec<Header>,
    /// Interval of progress reports; 0s: none
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub print_every: Duration,
}

/// How spans are grouped into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// Spans of one trace, as in the Collector
    Trace,
    /// Traces of one partition until the record is full
    Partition,
}

/// Kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// A web shop
    Shop,
    /// A synthetic system of any size
    Scaled,
}

/// Compression of record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it, and would be repeated in the help")]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// When event time begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTime {
    /// By the wall clock.
    Now,
    /// At this time.
    At(Millis),
}

/// A librdkafka setting. Its value may be secret and is never printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// The name of the setting.
    pub key: String,
    /// Its value.
    pub value: Secret,
}

/// A header of every record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

// === impl Compression ===

impl Compression {
    /// librdkafka's name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

// === impl StartTime ===

impl FromStr for StartTime {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if s == "now" {
            return Ok(Self::Now);
        }
        from_rfc3339(s).map(Self::At).ok_or_else(|| "expected `now` or a time such as 2026-01-31T12:00:00Z".to_owned())
    }
}

// === impl Property ===

impl FromStr for Property {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (key, value) = s.split_once('=').filter(|(k, _)| !k.is_empty()).ok_or("expected KEY=VALUE")?;
        Ok(Self { key: key.to_owned(), value: Secret::new(value) })
    }
}

// === impl Header ===

impl FromStr for Header {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (name, value) = s.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("expected NAME=VALUE")?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

fn at_least_one(s: &str) -> Result<usize, String> {
    s.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a number of at least 1".to_owned())
}

fn step(s: &str) -> Result<StepWidth, String> {
    let ms = Millis::try_from(duration(s)?.as_millis()).unwrap_or_default();
    StepWidth::new(ms).ok_or_else(|| "expected a duration of at least 1ms".to_owned())
}

fn share(s: &str) -> Result<f64, String> {
    s.parse().ok().filter(|v| (0.0..=1.0).contains(v)).ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// A duration: a whole number and `ms`, `s`, `m` or `h`, as in the configuration.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    let ms = config::duration(text)?;
    Ok(Duration::from_millis(ms.unsigned_abs()))
}
