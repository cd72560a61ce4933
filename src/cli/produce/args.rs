//! The arguments of `produce`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::config::settings::Secret;
use crate::model::time::from_rfc3339;
use crate::model::{Millis, StepWidth};

/// Send a synthetic load whose result is known
#[derive(Debug, Clone, Args)]
pub struct ProduceArgs {
    /// Bootstrap servers, comma separated
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    pub brokers: String,
    /// The topic
    #[arg(long, default_value = "otlp_spans")]
    pub topic: String,
    /// Create the topic with this many partitions if it does not exist
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub create_partitions: Option<u32>,
    /// Spans per second; 0 goes flat out
    #[arg(long, value_name = "SPANS/S", default_value_t = 1_000)]
    pub rate: u64,
    /// How much event time to cover, such as 90s or 2h; flat out it covers it at the virtual rate
    #[arg(long, conflicts_with = "spans", value_parser = duration)]
    pub duration: Option<Duration>,
    /// How many spans to send, rounded up to whole traces
    #[arg(long, value_name = "N")]
    pub spans: Option<u64>,
    /// The most spans in a record
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    pub spans_per_record: usize,
    /// What is put together into one record
    #[arg(long, value_enum, default_value_t = GroupBy::Trace)]
    pub group: GroupBy,
    /// What the load looks like
    #[arg(long, value_enum, default_value_t = Shape::Shop)]
    pub topology: Shape,
    /// Services of the scaled topology
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    pub services: usize,
    /// Span names of the scaled topology
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = at_least_one)]
    pub operations: usize,
    /// How often an operation fails by itself, 0 to 1; failures spread to callers
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = share)]
    pub error_share: f64,
    /// Compression of record batches
    #[arg(long, value_enum, default_value_t = Compression::Lz4)]
    pub compression: Compression,
    /// The same seed gives the same load; several producers need several seeds
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write what a worker with default settings must count to this file
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Write there, too, what each series is at the end of every step of this width in which it changes, by the timestamps of
    /// records: span metrics and completed edges; edges with virtual nodes are left out
    #[arg(long, value_name = "DURATION", requires = "expect", value_parser = step)]
    pub expect_steps: Option<StepWidth>,
    /// Event time of the first trace: an RFC 3339 time or `now`; a load that goes flat out from `now` ends now instead
    #[arg(long, value_name = "TIME", default_value = "now")]
    pub start_time: StartTime,
    /// Spans per second of event time when going flat out
    #[arg(long, value_name = "SPANS/S", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub virtual_rate: u64,
    /// A librdkafka setting for every client, may be repeated
    #[arg(long = "property", value_name = "KEY=VALUE")]
    pub properties: Vec<Property>,
    /// How often to report progress; 0s never does
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub print_every: Duration,
}

/// What is put together into one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// Spans of one trace, as the Collector does it
    Trace,
    /// Traces of one partition until the record is full
    Partition,
}

/// What the load looks like.
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

/// A duration: a whole number and `ms`, `s`, `m` or `h`.
pub(in crate::cli) fn duration(s: &str) -> Result<Duration, String> {
    let digits = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    let (number, unit) = s.split_at(digits);
    let ms = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number: Option<u64> = number.parse().ok();
    let total = ms.zip(number).and_then(|(ms, n)| n.checked_mul(ms));
    total.map(Duration::from_millis).ok_or_else(|| "expected a duration such as 500ms, 30s, 5m or 2h".to_owned())
}
