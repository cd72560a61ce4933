//! `spanmill plan`: the resources that a load needs, from measured costs.

use std::io::{self, Write};

use clap::{Args, ValueEnum};

use super::produce::duration;
use crate::tools::plan::{CapacityPlan, Codec, Coefficients, CoefficientsError, Fleet, Load};
use crate::worker::kafka::client::memory_of;

/// What to plan for.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "All estimates use costs measured on two shared cores of an AMD EPYC (Zen 4) with a busy \
                             neighbor; --costs lists them with their sources. benches/README.md has the commands and \
                             the curves. Measure your own load before you order machines: `spanmill check --against \
                             TOPIC` counts the label sets and series of a topic.\n\nExample:\n  spanmill plan \
                             --spans-per-second 500000 --label-sets 20000 --partitions 48")]
pub struct PlanArgs {
    /// Spans per second at the daily peak
    #[arg(long, value_name = "N", value_parser = positive)]
    spans_per_second: f64,
    /// Label sets of span metrics over all services; `spanmill check --against TOPIC` counts them
    #[arg(long, value_name = "N", value_parser = positive)]
    label_sets: f64,
    /// Partitions of all source topics together
    #[arg(long, value_name = "N", value_parser = positive)]
    partitions: f64,
    /// Pairs of services that call each other, including connection types and dimensions [default: a tenth of the
    /// label sets]
    #[arg(long, value_name = "N", value_parser = not_negative)]
    edges: Option<f64>,
    /// Spans per record
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = positive)]
    spans_per_record: f64,
    /// Bytes of a span before compression
    #[arg(long, value_name = "BYTES", default_value_t = 620.0, value_parser = positive)]
    bytes_per_span: f64,
    /// Compression of the source topics
    #[arg(long, value_enum, default_value_t = Compression::Lz4)]
    compression: Compression,
    /// time.step: the collection interval
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    step: std::time::Duration,
    /// kafka.shards
    #[arg(long, value_name = "N", default_value_t = 16.0, value_parser = positive)]
    shards: f64,
    /// Prometheus series per label set: buckets with +Inf, sum, count, calls and size; 19 with the default buckets
    #[arg(long, value_name = "N", default_value_t = 19.0, value_parser = positive)]
    series_per_label_set: f64,
    /// Prometheus series per edge; 24 with the default buckets, 13 with one of service_graphs.latency_sides
    #[arg(long, value_name = "N", default_value_t = 24.0, value_parser = positive)]
    series_per_edge: f64,
    /// Fraction of all spans that are client or server spans whose peer span never arrives; they wait for the whole of
    /// --wait
    #[arg(long, value_name = "FRACTION", default_value_t = 0.05, value_parser = share)]
    unpaired: f64,
    /// service_graphs.wait
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    wait: std::time::Duration,
    /// Label sets that a partition touches in a step; `spanmill check --against TOPIC` counts them [default: the
    /// maximum for the spans of a step, if all label sets are equally likely]
    #[arg(long, value_name = "N", value_parser = positive)]
    touched: Option<f64>,
    /// Plan without exemplars (series.exemplars.enabled: false)
    #[arg(long)]
    no_exemplars: bool,
    /// series.stale_after: how long a partition keeps its label sets
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    stale_after: std::time::Duration,
    /// series.snapshot_every
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    snapshot_every: std::time::Duration,
    /// Cores per worker
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = positive)]
    cores_per_worker: f64,
    /// Maximum CPU utilization at the daily peak; the rest is headroom for catching up
    #[arg(long, value_name = "FRACTION", default_value_t = 0.5, value_parser = part)]
    busy: f64,
    /// Minimum number of workers; with two, one may fail
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = positive)]
    least_workers: f64,
    /// worker.fetch_buffer_bytes
    #[arg(long, value_name = "BYTES", default_value_t = crate::config::settings::Worker::default().fetch_buffer_bytes)]
    fetch_buffer: usize,
    /// Also print the measured costs
    #[arg(long)]
    costs: bool,
    /// Print the load, the fleet, the plan and all costs as JSON
    #[arg(long)]
    json: bool,
}

/// Compression of record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compression {
    None,
    Lz4,
    Snappy,
    Zstd,
    Gzip,
}

/// A plan that was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The costs are missing.
    #[error(transparent)]
    Coefficients(#[from] CoefficientsError),
    /// The plan could not be written.
    #[error("cannot write the plan: {0}")]
    Write(#[from] io::Error),
    /// The plan could not be written as JSON.
    #[error("cannot write the plan as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Prints the resources that the load needs.
///
/// # Errors
/// Those of writing.
pub fn run(args: &PlanArgs, out: &mut dyn Write) -> Result<(), PlanError> {
    let measured = Coefficients::measured()?;
    let (load, fleet) = (args.load(), args.fleet());
    let plan = CapacityPlan::new(&load, &fleet, &measured);
    if args.json {
        let all = serde_json::json!({ "load": load, "fleet": fleet, "plan": plan, "costs": measured });
        serde_json::to_writer_pretty(&mut *out, &all)?;
        return Ok(writeln!(out)?);
    }
    for line in &plan.lines {
        let from = if line.from.is_empty() { String::new() } else { format!(" [{}]", line.from.join(", ")) };
        writeln!(out, "{:>20} {:>10} {:<10} {}{from}", line.name, amount(line.value), line.unit, line.how)?;
    }
    for warning in &plan.warnings {
        writeln!(out, "\nwarning: {warning}")?;
    }
    write_costs(&plan, &measured, args.costs, out)?;
    Ok(())
}

/// The costs that the plan uses, or all of them.
fn write_costs(plan: &CapacityPlan, measured: &Coefficients, all: bool, out: &mut dyn Write) -> io::Result<()> {
    let used = |name: &str| plan.lines.iter().any(|line| line.from.contains(&name));
    writeln!(out, "\nmeasured costs:")?;
    for (name, cost) in measured.iter().filter(|(name, _)| all || used(name)) {
        writeln!(out, "  {name} = {} {}: {}", amount(cost.value), cost.unit, cost.source)?;
    }
    Ok(())
}

/// Three digits, or the whole number.
fn amount(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v.fract() < f64::EPSILON => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

// === impl PlanArgs ===

impl PlanArgs {
    fn load(&self) -> Load {
        Load {
            spans_per_second: self.spans_per_second,
            spans_per_record: self.spans_per_record,
            bytes_per_span: self.bytes_per_span,
            codec: match self.compression {
                Compression::None => Codec::None,
                Compression::Lz4 => Codec::Lz4,
                Compression::Snappy => Codec::Snappy,
                Compression::Zstd => Codec::Zstd,
                Compression::Gzip => Codec::Gzip,
            },
            partitions: self.partitions,
            shards: self.shards,
            label_sets: self.label_sets,
            edges: self.edges.unwrap_or(self.label_sets / 10.0),
            series_per_label_set: self.series_per_label_set,
            series_per_edge: self.series_per_edge,
            step: self.step.as_secs_f64().max(1e-3),
            half_edges: self.spans_per_second * self.unpaired * self.wait.as_secs_f64(),
            touched: self.touched,
            exemplars: !self.no_exemplars,
            stale_after: self.stale_after.as_secs_f64(),
            snapshot_every: self.snapshot_every.as_secs_f64().max(1e-3),
        }
    }

    fn fleet(&self) -> Fleet {
        Fleet {
            cores_per_worker: self.cores_per_worker,
            busy: self.busy,
            least_workers: self.least_workers,
            fetch_memory: memory_of(self.fetch_buffer) as f64,
        }
    }
}

fn positive(s: &str) -> Result<f64, String> {
    number(s, |v| v > 0.0).ok_or_else(|| "expected a number above 0".to_owned())
}

fn not_negative(s: &str) -> Result<f64, String> {
    number(s, |v| v >= 0.0).ok_or_else(|| "expected a number of at least 0".to_owned())
}

fn share(s: &str) -> Result<f64, String> {
    number(s, |v| (0.0..=1.0).contains(&v)).ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn part(s: &str) -> Result<f64, String> {
    number(s, |v| v > 0.0 && v <= 1.0).ok_or_else(|| "expected a number above 0, at most 1".to_owned())
}

fn number(s: &str, good: impl Fn(f64) -> bool) -> Option<f64> {
    s.parse().ok().filter(|v: &f64| v.is_finite() && good(*v))
}
