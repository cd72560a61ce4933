//! The arithmetic.

use super::coefficients::{
    BASE_MEMORY, COMMIT, COMMIT_BYTES, Coefficients, DELTA_BYTES, HALF_EDGE_MEMORY, KNOWN_MEMORY, PARTITION_MEMORY,
    RECORD, SAMPLE, SAMPLE_BYTES, SET_MEMORY, SPAN, TOUCHED,
};
use super::{Fleet, Line, Load, Plan};

const MB: f64 = 1e6;
/// What all partitions of a worker together take for what they fetch ahead at most, unless `worker.memory_limit` says less.
const FETCH_TOGETHER: f64 = 268_435_456.0;

/// What a second of the load consists of.
struct Rates {
    records: f64,
    /// Label sets that partitions touch, each counted once per partition and step.
    touched: f64,
    commits: f64,
    samples: f64,
}

struct Reckoning<'a> {
    load: &'a Load,
    fleet: &'a Fleet,
    measured: &'a Coefficients,
    rates: Rates,
    lines: Vec<Line>,
}

pub(super) fn plan(load: &Load, fleet: &Fleet, measured: &Coefficients) -> Plan {
    let mut reckoning = Reckoning { load, fleet, measured, rates: rates(load), lines: Vec::new() };
    let cores = reckoning.cores();
    let workers = reckoning.workers(cores);
    reckoning.memory(workers);
    reckoning.kafka();
    reckoning.remote_write();
    let mut lines = reckoning.lines;
    // The answer comes first, and what it is made of after it.
    let rank = |line: &Line| {
        let first = ["workers", "cores", "memory_per_worker", "kafka_in", "samples_per_second"];
        first.iter().position(|name| *name == line.name).unwrap_or(first.len())
    };
    lines.sort_by_key(rank);
    Plan { warnings: warnings(load, workers, cores), lines }
}

/// A partition that sees `n` spans of `l` label sets in a step touches `l · (1 - e^(-n/l))` of them, if all are equally
/// likely. They never are, and then it is fewer: the plan is on the safe side.
fn rates(load: &Load) -> Rates {
    let steps = load.partitions / load.step;
    let spans = load.spans_per_second * load.step / load.partitions;
    let sets = load.label_sets + load.edges;
    let touched = if sets > 0.0 { sets * -(-spans / sets).exp_m1() } else { 0.0 };
    let series = load.label_sets * load.series_per_label_set + load.edges * load.series_per_edge;
    Rates {
        records: load.spans_per_second / load.spans_per_record,
        touched: touched * steps,
        commits: steps,
        samples: series / load.step,
    }
}

fn warnings(load: &Load, workers: f64, cores: f64) -> Vec<String> {
    let mut warnings = Vec::new();
    if workers > load.partitions {
        warnings.push(format!(
            "{workers:.0} workers share {:.0} partitions: some would have none; use at least {workers:.0} partitions",
            load.partitions
        ));
    }
    if workers > load.shards {
        warnings.push(format!(
            "{workers:.0} workers share {:.0} shards: some would own no series; a new group may have more kafka.shards",
            load.shards
        ));
    }
    if cores > load.partitions {
        warnings.push("a partition is one thread's work: more cores than partitions cannot be used".to_owned());
    }
    if load.spans_per_record < 10.0 {
        warnings.push(
            "records of so few spans cost more than their spans; let the exporter batch some 100 spans to a record"
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
        self.lines.push(Line { name, value, unit, how, from: from.to_vec() });
        value
    }

    /// CPU seconds of all workers in a second.
    fn cores(&mut self) -> f64 {
        let (load, rates) = (*self.load, &self.rates);
        let codec = load.codec.cpu();
        let (records, touched, commits, samples) = (rates.records, rates.touched, rates.commits, rates.samples);
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
            format!("{touched:.0} touched label sets/s at {:.0} ns", self.of(TOUCHED)),
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
        let how = "a backlog is read at so many times the rate of the load, if brokers and receiver keep up".to_owned();
        self.line("catch_up", spare, "x", how, &[]);
        workers
    }

    /// Memory of a worker when one is missing, so that the others hold its part, too.
    fn memory(&mut self, workers: f64) {
        let (load, fleet) = (*self.load, *self.fleet);
        let left = (workers - 1.0).max(1.0);
        let partitions = (load.partitions / left).ceil();
        let sets = load.label_sets + load.edges;
        let buffer = fleet.fetch_memory.min(FETCH_TOGETHER / (load.partitions + load.shards));
        let buffers = (partitions + load.shards) * buffer;
        let parts = [
            ("memory_base", self.of(BASE_MEMORY) * MB, vec![BASE_MEMORY], "an idle worker".to_owned()),
            (
                "memory_fetch",
                buffers + partitions * self.of(PARTITION_MEMORY) * 1e3,
                vec![PARTITION_MEMORY],
                format!(
                    "{partitions:.0} partitions, which in a backlog may take {:.2} MB for records fetched ahead each, shards as well",
                    buffer / MB
                ),
            ),
            (
                "memory_known",
                sets * partitions * self.of(KNOWN_MEMORY),
                vec![KNOWN_MEMORY],
                format!("{sets:.0} label sets known to each of {partitions:.0} partitions"),
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
                format!("{:.0} half edges that wait", load.half_edges / left),
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
        let internal = self.rates.touched * self.of(DELTA_BYTES) + self.rates.commits * self.of(COMMIT_BYTES);
        let how = "journals and deltas, compressed, before replication; the deltas are read once".to_owned();
        self.line("kafka_out", internal / MB, "MB/s", how, &[DELTA_BYTES, COMMIT_BYTES]);
        let appends = self.rates.commits * (1.0 + load.shards) + load.shards / load.step;
        let how = "a journal record per commit, a share per commit and shard, a mark per step and shard".to_owned();
        self.line("kafka_appends", appends, "records/s", how, &[]);
    }

    fn remote_write(&mut self) {
        let samples = self.rates.samples;
        let series = samples * self.load.step;
        let how = format!("{series:.0} series, each sent once per step of {:.0} s", self.load.step);
        self.line("samples_per_second", samples, "samples/s", how, &[]);
        let how = format!("{:.1} bytes per sample, compressed", self.of(SAMPLE_BYTES));
        self.line("remote_write", samples * self.of(SAMPLE_BYTES) / MB, "MB/s", how, &[SAMPLE_BYTES]);
    }
}
