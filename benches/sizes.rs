//! Bytes and memory of what a load makes, by shards and with and without exemplars: records of the internal topics, requests,
//! snapshots, known label sets. Nothing here depends on the machine: it counts.
//!
//! `cargo bench --bench sizes --no-default-features` prints one JSON line per case; `benches/results/plot.py` takes the costs
//! of `spanmill plan` from them. Records are compressed by snappy, one by one; workers use lz4, which comes to the same
//! within some percent: what makes up most of a record are hashes and trace IDs, which nothing compresses.
#![allow(clippy::print_stdout, clippy::expect_used, clippy::panic, reason = "a benchmark prints its result")]

#[path = "../tests/support/allocator.rs"]
mod allocator;

use spanmill::config::Tenants;
use spanmill::config::settings::Config;
use spanmill::core::deltas::DeltaRecord;
use spanmill::core::journal::{Cause, JournalWriter, Owner, SpanCommit};
use spanmill::core::tasks::series::{SeriesSettings, SeriesTask};
use spanmill::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask, StepCut};
use spanmill::tools::loadgen::{Generator, Group, Options, Scale, Topology};

/// Steps of a case, of 15 s each.
const STEPS: u64 = 8;
const STEP_SECONDS: u64 = 15;
const START: i64 = 1_700_000_010_000;

/// Sums over the commits, steps and sets of a case, by name.
#[derive(Debug, Default)]
struct Sums(Vec<(&'static str, u64)>);

/// One source partition and all shards.
struct Scene {
    shards: Vec<SeriesTask>,
    writer: JournalWriter,
    encoder: snap::raw::Encoder,
    sums: Sums,
}

fn main() {
    allocator::count_from_now_on(true);
    for operations in [300, 2_000, 10_000] {
        for rate in [20, 200, 1_000] {
            let scale = Scale { services: (operations / 10).clamp(1, 200), operations };
            let records = records(&scale, rate);
            for shards in [1, 4, 16, 64] {
                for exemplars in [true, false] {
                    let sums = Scene::measure(&records, shards, exemplars);
                    let numbers: Vec<String> = sums.0.iter().map(|(name, n)| format!("\"{name}\":{n}")).collect();
                    println!(
                        "{{\"operations\":{operations},\"rate\":{rate},\"shards\":{shards},\"exemplars\":{exemplars},{}}}",
                        numbers.join(",")
                    );
                }
            }
        }
    }
}

/// A partition at `rate` spans per second of event time.
fn records(scale: &Scale, rate: u64) -> Vec<(i64, Vec<u8>)> {
    let options = Options {
        start: START,
        rate,
        spans: Some(rate * STEP_SECONDS * STEPS),
        spans_per_record: 100,
        group: Group::Partition(1),
        ..Options::default()
    };
    Generator::new(Topology::scaled(scale, 7), 7, options).map(|record| (record.timestamp, record.value)).collect()
}

// === impl Sums ===

impl Sums {
    fn add(&mut self, name: &'static str, n: usize) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += n as u64,
            None => self.0.push((name, n as u64)),
        }
    }
}

// === impl Scene ===

impl Scene {
    fn measure(records: &[(i64, Vec<u8>)], shards: u32, exemplars: bool) -> Sums {
        let mut config = Config::default();
        (config.core.series.exemplars, config.kafka.shards) = (exemplars, shards);
        let tenants = Tenants::from(config);
        let (settings, series) = (SpanSettings::from(&tenants), SeriesSettings::from(&tenants));
        let mut scene = Self {
            shards: (0..shards).map(|_| SeriesTask::new(series.clone())).collect(),
            writer: JournalWriter::new(Owner(7), 0, Some(0), 0),
            encoder: snap::raw::Encoder::new(),
            sums: Sums::default(),
        };
        // What the task holds at the end, without what it is given.
        let (mut task, mut held) = allocator::held(|| {
            let restored = Restored { next: Some(0), ..Restored::default() };
            SpanTask::new(&settings, "spans".to_owned(), 0, restored).expect("an empty journal")
        });
        for (offset, (timestamp, value)) in (0..).zip(records) {
            let record = Record { offset, timestamp: *timestamp, tenant: Some("single-tenant"), value };
            loop {
                let (offer, bytes) = allocator::held(|| task.offer(&record, i64::MAX / 2));
                held += bytes;
                let Offer::CutFirst { cut } = offer else { break };
                scene.sums.add("waiting", task.pending_edges());
                held -= scene.take(*cut);
            }
        }
        let (cut, bytes) = allocator::held(|| task.cut());
        held += bytes;
        scene.sums.add("waiting", task.pending_edges());
        held -= cut.map_or(0, |cut| scene.take(cut));
        let holding = task.holding();
        scene.sums.add("known_sets", task.label_sets());
        scene.sums.add("known_account", holding.known);
        scene.sums.add("task_held", usize::try_from(held).expect("it holds something"));
        scene.sums.add("half_edges", task.pending_edges());
        scene.sums.add("edges_account", holding.edges);
        scene.rest();
        scene.sums
    }

    /// What becomes of a commit. Returns what of it lay in memory.
    fn take(&mut self, cut: StepCut) -> i64 {
        let (copy, held) = allocator::held(|| cut.clone());
        drop(copy);
        self.sums.add("commits", 1);
        self.sums.add("live_bytes", cut.live.len());
        let (from, to) = (cut.from, cut.to);
        for (task, records) in self.shards.iter_mut().zip(&cut.delta_records) {
            for record in records {
                self.sums.add("delta_records", 1);
                self.sums.add("delta_record_bytes", record.len());
                self.sums.add("delta_record_packed", packed(&mut self.encoder, record));
                count_sets(&mut self.sums, record);
                assert_eq!(task.apply(record).expect("a delta record").lost, 0);
            }
        }
        let commit = SpanCommit {
            cause: Cause::Records,
            step: cut.step,
            stream_time: Some(cut.stream_time),
            forwarded: cut.commit_number,
            reread_from: cut.reread_from,
            live: cut.live,
            ledger: cut.ledger,
            delta_records: cut.delta_records,
            witness: None,
        };
        for record in self.writer.commit(from, to, &commit.encode()) {
            self.sums.add("journal_bytes", record.len());
            self.sums.add("journal_packed", packed(&mut self.encoder, &record));
        }
        self.close();
        held
    }

    /// Closes what can be closed.
    fn close(&mut self) {
        let sources = [("spans".to_owned(), 0)];
        for task in &mut self.shards {
            while let Some(step) = task.closable(&sources) {
                let closed = task.close(step);
                self.sums.add("steps", 1);
                self.sums.add("samples", closed.samples as usize);
                self.sums.add("sent_exemplars", closed.exemplars as usize);
                let requests = closed.batches.iter().flat_map(|batch| &batch.requests);
                self.sums.add("sent_bytes", requests.map(|request| request.body.len()).sum());
            }
        }
    }

    /// What shards hold in the end.
    fn rest(&mut self) {
        for task in &self.shards {
            let snapshot = task.snapshot();
            self.sums.add("shard_sets", task.label_sets());
            self.sums.add("shard_account", task.bytes());
            self.sums.add("snapshot_bytes", snapshot.len());
            self.sums.add("snapshot_packed", packed(&mut self.encoder, &snapshot));
        }
    }
}

fn packed(encoder: &mut snap::raw::Encoder, record: &[u8]) -> usize {
    encoder.compress_vec(record).expect("a record of some kilobytes").len()
}

fn count_sets(sums: &mut Sums, record: &[u8]) {
    let mut delta_record = DeltaRecord::decode(record).expect("a delta record of ours");
    while let Some(set) = delta_record.next_set().expect("a delta record of ours") {
        sums.add("touched", 1);
        sums.add("spelled", usize::from(set.spelled.is_some()));
        sums.add("exemplars", set.exemplars.len());
        sums.add("cells", set.cells.len());
    }
}
