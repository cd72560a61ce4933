//! The arithmetic.

use super::coefficients::{
    BASE_MEMORY, COMMIT, COMMIT_BYTES, Coefficients, DELTA_BYTES, DELTA_RECORD_BYTES, EXEMPLAR_BYTES, EXEMPLARS,
    HALF_EDGE_BYTES, HALF_EDGE_MEMORY, KNOWN_EXEMPLARS_MEMORY, KNOWN_MEMORY, PARTITION_MEMORY, RECORD, SAMPLE,
    SAMPLE_BYTES, SENT_EXEMPLAR_BYTES, SET_MEMORY, SHARD_MEMORY, SNAPSHOT_BYTES, SPAN, TOUCHED,
};
use super::{CapacityPlan, Fleet, Load, PlanLine};

const MB: f64 = 1e6;
/// Shards in the runs that the CPU time of a commit comes from.
const MEASURED_SHARDS: f64 = 16.0;
/// The maximum prefetch memory of all partitions of a worker together, unless `worker.memory_limit` is lower.
const FETCH_TOGETHER: f64 = 268_435_456.0;

/// The rates of the load, per second.
struct Rates {
    records: f64,
    /// Label sets that partitions touch, each counted once per partition and step: at most, which is what the CPU time was
    /// fitted with, and as far as it is known.
    at_most: f64,
    touched: f64,
    /// Exemplars that partitions send to shards, and those that go with samples.
    exemplars: f64,
    sent_exemplars: f64,
    commits: f64,
    samples: f64,
}

struct Reckoning<'a> {
    load: &'a Load,
    fleet: &'a Fleet,
    measured: &'a Coefficients,
    rates: Rates,
    lines: Vec<PlanLine>,
}

pub(super) fn plan(load: &Load, fleet: &Fleet, measured: &Coefficients) -> CapacityPlan {
    let mut reckoning = Reckoning { load, fleet, measured, rates: rates(load, measured), lines: Vec::new() };
    let cores = reckoning.cores();
    let workers = reckoning.workers(cores);
    reckoning.memory(workers);
    reckoning.kafka();
    reckoning.remote_write();
    let mut lines = reckoning.lines;
    // The answer comes first, then its parts.
    let rank = |line: &PlanLine| {
        let first = ["workers", "cores", "memory_per_worker", "kafka_in", "samples_per_second"];
        first.iter().position(|name| *name == line.name).unwrap_or(first.len())
    };
    lines.sort_by_key(rank);
    CapacityPlan { warnings: warnings(load, workers, cores), lines }
}

/// A partition that reads `n` spans of `l` label sets touches `l · (1 - e^(-n/l))` of them, if all are equally likely.
/// They never are, and then it touches fewer: the plan is conservative. The same holds for exemplars: a set that sees
/// `n` has one in each of the buckets that they fall into.
fn touched(n: f64, l: f64) -> f64 {
    if l > 0.0 { l * -(-n / l).exp_m1() } else { 0.0 }
}

/// The rates of a second.
fn rates(load: &Load, measured: &Coefficients) -> Rates {
    let steps = load.partitions / load.step;
    let (all, spans) = (load.spans_per_second * load.step, load.spans_per_second * load.step / load.partitions);
    let sets = load.label_sets + load.edges;
    let most = if load.exemplars { measured.value(EXEMPLARS) } else { 0.0 };
    let exemplars = |n: f64, sets: f64| if sets > 0.0 { sets * touched(n / sets, most) } else { 0.0 };
    let at_most = touched(spans, sets);
    let each = load.touched.map_or(at_most, |known| known.min(at_most));
    // Partitions that touch the same sets send the same exemplars; those that touch others add up.
    let together = touched(all, sets).min(each * load.partitions);
    let series = load.label_sets * load.series_per_label_set + load.edges * load.series_per_edge;
    Rates {
        records: load.spans_per_second / load.spans_per_record,
        at_most: at_most * steps,
        touched: each * steps,
        exemplars: exemplars(spans, each) * steps,
        sent_exemplars: exemplars(all, together) / load.step,
        commits: steps,
        samples: series / load.step,
    }
}

fn warnings(load: &Load, workers: f64, cores: f64) -> Vec<String> {
    let mut warnings = Vec::new();
    if workers > load.partitions {
        warnings.push(format!(
            "{workers:.0} workers share {:.0} partitions, so some have none; use at least {workers:.0} partitions",
            load.partitions
        ));
    }
    if workers > load.shards {
        warnings.push(format!(
            "{workers:.0} workers share {:.0} shards, so some own no series; use more kafka.shards for a new group",
            load.shards
        ));
    }
    if load.shards > MEASURED_SHARDS {
        warnings.push(format!(
            "the CPU time of a commit was measured with {MEASURED_SHARDS:.0} shards; with {:.0} it is higher than \
             estimated here: measure it, or use fewer kafka.shards",
            load.shards
        ));
    }
    if cores > load.partitions {
        warnings.push("one partition uses one thread: cores beyond the number of partitions stay idle".to_owned());
    }
    if load.spans_per_record < 10.0 {
        warnings.push(
            "small records cost more than their spans; configure the exporter to batch about 100 spans per record"
                .to_owned(),
        );
    }
    warnings
}

// === impl Reckoning ===

impl Reckoning<'_> {
    fn of(&self, name: &str) -> f64 {
        self.measured.value(name)
    }

    fn line(&mut self, name: &'static str, value: f64, unit: &'static str, how: String, from: &[&'static str]) -> f64 {
        self.lines.push(PlanLine { name, value, unit, how, from: from.to_vec() });
        value
    }

    /// CPU seconds of all workers in a second.
    fn cores(&mut self) -> f64 {
        let (load, rates) = (*self.load, &self.rates);
        let codec = load.codec.cpu();
        let (records, touched, commits, samples) = (rates.records, rates.at_most, rates.commits, rates.samples);
        let per_span = self.of(SPAN) + self.of(codec) * load.bytes_per_span;
        let parts = [
            ("cores_spans", load.spans_per_second * per_span / 1e9, vec![SPAN, codec]),
            ("cores_records", records * self.of(RECORD) / 1e9, vec![RECORD]),
            ("cores_deltas", touched * self.of(TOUCHED) / 1e9, vec![TOUCHED]),
            ("cores_commits", commits * self.of(COMMIT) / 1e6, vec![COMMIT]),
            ("cores_samples", samples * self.of(SAMPLE) / 1e9, vec![SAMPLE]),
        ];
        let hows = [
            format!("{:.0} spans/s at {per_span:.0} ns, bytes included", load.spans_per_second),
            format!("{records:.0} records/s at {:.0} ns", self.of(RECORD)),
            format!("at most {touched:.0} touched label sets/s at {:.0} ns", self.of(TOUCHED)),
            format!("{commits:.1} commits/s at {:.0} µs", self.of(COMMIT)),
            format!("{samples:.0} samples/s at {:.0} ns", self.of(SAMPLE)),
        ];
        let total = parts.iter().map(|(_, value, _)| value).sum();
        self.line("cores", total, "cores", "busy, all workers together: the sum of the parts below".to_owned(), &[]);
        for ((name, value, from), how) in parts.into_iter().zip(hows) {
            self.line(name, value, "cores", how, &from);
        }
        total
    }

    fn workers(&mut self, cores: f64) -> f64 {
        let fleet = *self.fleet;
        let needed = cores / fleet.busy;
        let workers = (needed / fleet.cores_per_worker).ceil().max(fleet.least_workers);
        let how = format!(
            "{cores:.2} cores at {:.0} % busy, {:.0} cores each, at least {:.0}",
            fleet.busy * 100.0,
            fleet.cores_per_worker,
            fleet.least_workers
        );
        self.line("workers", workers, "workers", how, &[]);
        let spare = workers * fleet.cores_per_worker / cores.max(f64::MIN_POSITIVE);
        let how = "a backlog is read at this multiple of the load, if brokers and receiver keep up".to_owned();
        self.line("catch_up", spare, "x", how, &[]);
        workers
    }

    /// Memory of a worker when one is missing, so that the others hold its part, too.
    fn memory(&mut self, workers: f64) {
        let (load, fleet) = (*self.load, *self.fleet);
        let left = (workers - 1.0).max(1.0);
        let [partitions, shards] = [load.partitions, load.shards].map(|n| (n / left).ceil());
        let sets = load.label_sets + load.edges;
        let known = touched(load.spans_per_second * load.stale_after / load.partitions, sets);
        let mut known_from = vec![KNOWN_MEMORY];
        known_from.extend(load.exemplars.then_some(KNOWN_EXEMPLARS_MEMORY));
        let known_each = known_from.iter().map(|name| self.of(name)).sum::<f64>();
        let buffer = fleet.fetch_memory.min(FETCH_TOGETHER / (partitions + shards));
        let buffers = (partitions + shards) * buffer;
        let parts = [
            ("memory_base", self.of(BASE_MEMORY) * MB, vec![BASE_MEMORY], "an idle worker".to_owned()),
            (
                "memory_fetch",
                buffers + partitions * self.of(PARTITION_MEMORY) * 1e3,
                vec![PARTITION_MEMORY],
                format!(
                    "{partitions:.0} partitions and {shards:.0} shards, which in a backlog may use {:.2} MB each for \
                     fetch buffers",
                    buffer / MB
                ),
            ),
            (
                "memory_known",
                known * partitions * known_each,
                known_from,
                format!(
                    "{known:.0} label sets known to each of {partitions:.0} partitions, {known_each:.0} bytes each"
                ),
            ),
            (
                "memory_shards",
                shards * self.of(SHARD_MEMORY) * 1e3,
                vec![SHARD_MEMORY],
                format!("{shards:.0} shards, whatever they own"),
            ),
            (
                "memory_series",
                sets / left * self.of(SET_MEMORY),
                vec![SET_MEMORY],
                format!("{:.0} label sets owned", sets / left),
            ),
            (
                "memory_half_edges",
                load.half_edges / left * self.of(HALF_EDGE_MEMORY),
                vec![HALF_EDGE_MEMORY],
                format!("{:.0} pending edges", load.half_edges / left),
            ),
        ];
        let total: f64 = parts.iter().map(|(_, value, ..)| value).sum();
        let how = format!("with one of {workers:.0} workers missing: the sum of the parts below");
        self.line("memory_per_worker", total / MB, "MB", how, &[]);
        for (name, value, from, how) in parts {
            self.line(name, value / MB, "MB", how, &from);
        }
    }

    fn kafka(&mut self) {
        let load = *self.load;
        let wire = load.codec.wire();
        let source = load.spans_per_second * load.bytes_per_span * self.of(wire);
        let how = format!(
            "{:.0} spans/s of {:.0} bytes, {:.0} % of them on the wire",
            load.spans_per_second,
            load.bytes_per_span,
            self.of(wire) * 100.0
        );
        self.line("kafka_in", source / MB, "MB/s", how, &[wire]);
        self.internal_topics();
        let appends = self.rates.commits * (1.0 + load.shards) + load.shards / load.step;
        let how = "a journal record per commit, a delta record per commit and shard, a step-close record per step \
                   and shard"
            .to_owned();
        self.line("kafka_appends", appends, "records/s", how, &[]);
    }

    /// Journals and deltas: each is written once there and once here.
    fn internal_topics(&mut self) {
        let (load, rates) = (*self.load, &self.rates);
        let (sets, delta_records) = (load.label_sets + load.edges, rates.commits * load.shards);
        let parts = [
            ("kafka_out_sets", rates.touched, DELTA_BYTES, "touched label sets/s"),
            ("kafka_out_exemplars", rates.exemplars, EXEMPLAR_BYTES, "exemplars/s"),
            ("kafka_out_delta_records", delta_records, DELTA_RECORD_BYTES, "delta records/s, empty ones too"),
            ("kafka_out_commits", rates.commits, COMMIT_BYTES, "commits/s"),
            ("kafka_out_half_edges", load.half_edges / load.step, HALF_EDGE_BYTES, "pending edges/s listed in commits"),
            ("kafka_out_snapshots", sets / load.snapshot_every, SNAPSHOT_BYTES, "label sets/s in snapshots"),
        ];
        let total: f64 = parts.iter().map(|(_, n, cost, _)| n * self.of(cost)).sum();
        let how = "journals and deltas, compressed, before replication; the deltas are read once".to_owned();
        self.line("kafka_out", total / MB, "MB/s", how, &[]);
        for (name, n, cost, what) in parts {
            let each = self.of(cost);
            self.line(name, n * each / MB, "MB/s", format!("{n:.1} {what} at {each:.1} bytes"), &[cost]);
        }
    }

    fn remote_write(&mut self) {
        let (samples, exemplars) = (self.rates.samples, self.rates.sent_exemplars);
        let series = samples * self.load.step;
        let how = format!("{series:.0} series, each sent once per step of {:.0} s", self.load.step);
        self.line("samples_per_second", samples, "samples/s", how, &[]);
        let (each, with) = (self.of(SAMPLE_BYTES), self.of(SENT_EXEMPLAR_BYTES));
        let how = format!("{each:.1} bytes per sample, {exemplars:.0} exemplars/s of {with:.1} bytes; compressed");
        let bytes = samples * each + exemplars * with;
        self.line("remote_write", bytes / MB, "MB/s", how, &[SAMPLE_BYTES, SENT_EXEMPLAR_BYTES]);
    }
}
