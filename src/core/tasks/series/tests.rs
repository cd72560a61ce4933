//! What the whole shard does: its life cycle, and its properties against a naive model.

mod counted;
mod end;
mod layouts;
mod lifecycle;
mod limits;
mod overflow;
mod property;
mod reshard;
mod seen;
mod settings;
mod since;
mod stored;
mod tenants;
mod unchanged;
mod version_1;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::config::Tenants;
use crate::config::settings::Config;
use crate::core::deltas::{Define, DeltaTable, SetId};
use crate::core::model::{Family, LabelBuilder, Layout, Naming, Native, Shape, Spec, StepWidth, Weight};
use crate::core::remotewrite::decode;

/// Step width in these tests.
const W: Millis = 1_000;

fn settings() -> SeriesSettings {
    with(|_| ())
}

/// The settings with a change of the defaults.
fn with(change: impl FnOnce(&mut Config)) -> SeriesSettings {
    let mut config = Config::default();
    config.core.time.step = StepWidth::new(W).expect("positive");
    config.core.series.stale_after = 3 * W;
    config.core.series.forget_after = 4 * W;
    // Apart from all steps.
    config.core.series.zero_offset = 1;
    change(&mut config);
    SeriesSettings::from(&Tenants::from(config))
}

/// One observation of a span or an edge.
#[derive(Debug, Clone)]
struct Seen {
    tenant: &'static str,
    service: String,
    family: Family,
    /// What each counter gains.
    counts: [u64; 2],
    /// What each histogram observes.
    ns: Vec<u64>,
    /// Counts only with a source that weighs.
    weight: Weight,
    example: Option<(Millis, [u8; 16])>,
}

fn span(service: &str, ns: u64) -> Seen {
    let service = service.to_owned();
    let (family, weight) = (Family::SpanMetrics, Weight::ONE);
    Seen { tenant: "t", service, family, counts: [1, 100], ns: vec![ns], weight, example: None }
}

/// How a source counts, besides its bounds.
#[derive(Debug, Clone, PartialEq)]
struct How {
    naming: Naming,
    classic: bool,
    native: Option<Native>,
    weighted: bool,
    /// Calls and latency come from different raw keys, with layouts of their own; edges are marked and have no messaging
    /// latency.
    apart: bool,
}

const CLASSIC: How = How { naming: Naming::Tempo, classic: true, native: None, weighted: false, apart: false };

impl How {
    fn layout(&self, family: Family, bounds: &[u64], with: &[bool]) -> Arc<Layout> {
        let shape = Shape { bounds_ns: self.classic.then(|| bounds.to_vec()), native: self.native };
        let histograms = with.iter().map(|&with| with.then(|| shape.clone())).collect();
        Arc::new(Layout::of(&Spec { family, naming: self.naming.clone(), weighted: self.weighted, histograms }))
    }

    /// Whether counter `c` counts weights.
    fn weighs(&self, family: Family, c: usize) -> bool {
        self.weighted && (c == 0 || family == Family::ServiceGraph)
    }
}

/// A span task in miniature: deltas, cut into delta records of one shard.
struct Source {
    topic: &'static str,
    partition: i32,
    table: DeltaTable,
    bounds: Vec<u64>,
    how: How,
    commit_number: u64,
}

impl Source {
    fn new(partition: i32, stale_after: Millis) -> Self {
        let table = DeltaTable::new(stale_after);
        Self { topic: "spans", partition, table, bounds: vec![100, 200, 400], how: CLASSIC, commit_number: 0 }
    }

    fn find(&mut self, seen: &Seen, what: &str, with: &[bool]) -> SetId {
        let key = format!("{}/{}/{:?}/{:?}/{:?}/{what}", seen.tenant, seen.service, seen.family, self.bounds, self.how);
        let layout = self.how.layout(seen.family, &self.bounds, with);
        let define = |b: &mut LabelBuilder| {
            b.set("service", &seen.service);
            Ok::<_, ()>(Define { tenant: seen.tenant.into(), layout })
        };
        self.table.find(key.as_bytes(), define).expect("defines")
    }

    fn see(&mut self, seen: &Seen) {
        let weight = if self.how.weighted { seen.weight } else { Weight::ONE };
        let (calls, latency) = match (self.how.apart, seen.family) {
            (true, Family::SpanMetrics) => (self.find(seen, "calls", &[false]), self.find(seen, "latency", &[true])),
            (true, _) => {
                let id = self.find(seen, "", &[true, true, false]);
                self.table.mark(id, 2);
                (id, id)
            }
            _ => {
                let id = self.find(seen, "", &vec![true; seen.family.histograms().len()]);
                (id, id)
            }
        };
        for (counter, &n) in seen.counts.iter().enumerate() {
            if self.how.weighs(seen.family, counter) {
                (0..n).for_each(|_| self.table.count(calls, counter, weight));
            } else {
                self.table.add(calls, counter, n);
            }
        }
        for (h, &ns) in seen.ns.iter().enumerate() {
            self.table.observe(latency, h, ns, weight, seen.example);
        }
    }

    fn cut(&mut self, step: Millis, stream_time: Millis) -> Vec<Vec<u8>> {
        self.cut_for(1, step, stream_time).remove(0)
    }

    /// The delta records of a commit, for each of so many shards.
    fn cut_for(&mut self, shards: u32, step: Millis, stream_time: Millis) -> Vec<Vec<Vec<u8>>> {
        let topic = self.topic.to_owned();
        let (partition, commit_number, tenants) = (self.partition, self.commit_number, Vec::new());
        let head =
            DeltaHead { topic, partition, commit_number, part: 0, parts: 0, step, stream_time, sender: None, tenants };
        self.commit_number += 1;
        self.table.cut(head, shards).delta_records
    }
}

fn sources(n: i32) -> Vec<(String, i32)> {
    (0..n).map(|p| ("spans".to_owned(), p)).collect()
}

/// Applies everything and closes what the watermark allows after each record.
fn run(task: &mut SeriesTask, n: i32, records: &[Vec<u8>]) -> Vec<ClosedStep> {
    let mut closed = Vec::new();
    for record in records {
        let applied = task.apply(record).expect("a delta record");
        assert_eq!(applied.lost, 0, "{:?}", applied.first_lost);
        while let Some(step) = task.closable(&sources(n)) {
            closed.push(task.close(step));
        }
    }
    closed
}

/// What one series says: `(timestamp, bits)` of its samples, then `(timestamp, value)` of its exemplars. A native histogram
/// is `(timestamp, sum)`, `(schema, zeros)`, and `(index, count)` of each bucket.
type Said = (Vec<(Millis, u64)>, Vec<(Millis, u64)>);

fn flat(histograms: &[decode::proto::Histogram]) -> Vec<(Millis, u64)> {
    let mut out = Vec::new();
    for h in histograms {
        out.push((h.timestamp, h.sum.to_bits()));
        if !decode::is_stale(h.sum) {
            let native = decode::Native::read(h).expect("what receivers take");
            out.push((native.schema.into(), native.zero.to_bits()));
            out.extend(native.buckets.iter().map(|(&index, n)| (index.into(), n.to_bits())));
        }
    }
    out
}

/// A closed step by tenant and series, after checking that it is well-formed.
fn said(step: &ClosedStep) -> BTreeMap<String, Said> {
    let mut out = BTreeMap::new();
    let (mut samples, mut exemplars) = (0, 0);
    for batch in &step.batches {
        assert!(batch.step == step.step && !batch.resend);
        for request in &batch.requests {
            for series in decode::body(&request.body).expect("our own body").timeseries {
                assert!(series.labels.is_sorted_by(|a, b| a.name < b.name), "{:?}", series.labels);
                assert!(series.labels.iter().all(|l| !l.value.is_empty() && !l.name.is_empty()));
                samples += (series.samples.len() + series.histograms.len()) as u64;
                exemplars += series.exemplars.len() as u64;
                let line = (
                    series
                        .samples
                        .iter()
                        .map(|s| (s.timestamp, s.value.to_bits()))
                        .chain(flat(&series.histograms))
                        .collect(),
                    series.exemplars.iter().map(|e| (e.timestamp, e.value.to_bits())).collect(),
                );
                let key = format!("{} {}", batch.tenant, decode::text(&series.labels));
                assert!(out.insert(key.clone(), line).is_none(), "{key} comes twice in one step");
            }
        }
    }
    assert_eq!((samples, exemplars), (step.samples, step.exemplars));
    out
}
