//! Nanoseconds of CPU per label set of a series task: adding the delta records of one source, and closing a step; beside the
//! obvious way.
//!
//! `cargo bench --bench fold --no-default-features` prints one JSON line per case: the median of five steps, cases taking
//! turns. Four sources count the same 20,000 label sets (`-- --sets N` for others), as when traces are spread over
//! partitions. The obvious way keeps labels and buckets in hash maps and builds messages.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints its result")]
#![allow(clippy::disallowed_types, clippy::iter_over_hash_type, reason = "the obvious way uses the obvious map")]

mod shard;

use std::collections::HashMap;

use prost::Message as _;
use shard::{FIRST, STEP, Source, layout, median, settings, timed};
use spanmill::core::deltas::DeltaRecord;
use spanmill::core::model::{Exemplar, Layout, Millis, labels};
use spanmill::core::remotewrite::decode::proto::{self, Label, Sample, TimeSeries, WriteRequest};
use spanmill::core::tasks::series::SeriesTask;

const SOURCES: i32 = 4;
const STEPS: i64 = 5;
/// Samples of a request, as by default.
const MAX_SAMPLES: usize = 2_000;

fn main() {
    let count = sets();
    let mut sources: Vec<Source> = (0..SOURCES).map(|p| Source::new(p, 0, count)).collect();
    let mut task = SeriesTask::new(settings());
    let mut plain = Plain::new(&layout());
    let mut times = [vec![], vec![], vec![], vec![]];
    // The first step spells everything out, and is not measured.
    for n in 0..=STEPS {
        let step = FIRST + n * STEP;
        let records: Vec<Vec<u8>> = sources.iter_mut().flat_map(|source| source.step(step)).collect();
        let took = [
            timed(|| records.iter().for_each(|r| assert_eq!(task.apply(r).expect("a delta record").lost, 0))).1,
            timed(|| task.close(step)).1,
            timed(|| records.iter().for_each(|r| plain.apply(r))).1,
            timed(|| plain.close(step)).1,
        ];
        if n > 0 {
            times.iter_mut().zip(took).for_each(|(of, took)| of.push(took));
        }
    }
    let [apply, close, plain_apply, plain_close] = times.map(|of| median(of) * 1e9);
    let deltas = (count * SOURCES.unsigned_abs() as u64) as f64;
    let rows = [
        ("add delta records", apply, plain_apply, deltas),
        ("close a step", close, plain_close, count as f64),
        ("both", apply + close, plain_apply + plain_close, count as f64),
    ];
    for (case, ours, theirs, sets) in rows {
        let (ns, plain, ratio) = (ours / sets, theirs / sets, theirs / ours);
        println!(
            r#"{{"bench":"fold","case":"{case}","sets":{count},"ns_per_set":{ns:.0},"plain_ns_per_set":{plain:.0},"times_plain":{ratio:.1}}}"#
        );
    }
}

/// `--sets N`: how many label sets.
fn sets() -> u64 {
    let mut words = std::env::args().skip_while(|word| word != "--sets").skip(1);
    words.next().map_or(20_000, |word| word.parse().expect("a number"))
}

/// A shard as one would write it first.
struct Plain {
    names: Vec<(String, Option<String>)>,
    sets: HashMap<u128, Vec<Label>>,
    totals: HashMap<u128, Vec<u64>>,
    open: HashMap<u128, (Vec<u64>, HashMap<u32, Exemplar>)>,
    cells: usize,
    /// Memory of the requests: else it is the allocator that is measured.
    raw: Vec<u8>,
    body: Vec<u8>,
}

impl Plain {
    fn new(layout: &Layout) -> Self {
        let mut names: Vec<_> = (0..2).map(|c| (layout.counter_name(c), None)).collect();
        let base = layout.histogram_name(0);
        names.extend(layout.les(0).map(|le| (format!("{base}_bucket"), Some(le))));
        names.extend(["sum", "count"].map(|what| (format!("{base}_{what}"), None)));
        let (sets, totals, open) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { names, sets, totals, open, cells: layout.cells(), raw: Vec::new(), body: Vec::new() }
    }

    fn apply(&mut self, record: &[u8]) {
        let mut delta_record = DeltaRecord::decode(record).expect("a delta record");
        while let Some(set) = delta_record.next_set().expect("a set") {
            if let Some((_, block)) = set.spelled {
                let label = |(name, value): (&str, &str)| Label { name: name.to_owned(), value: value.to_owned() };
                self.sets.insert(set.name.0, labels::iter(block).map(label).collect());
            }
            let (cells, exemplars) =
                self.open.entry(set.name.0).or_insert_with(|| (vec![0; self.cells], HashMap::new()));
            set.cells.iter().for_each(|c| cells[c.cell as usize] += c.value);
            for (cell, e) in set.exemplars {
                let best = exemplars.entry(cell).or_insert(e);
                *best = (*best).max(e);
            }
        }
    }

    /// Bytes of the requests.
    fn close(&mut self, step: Millis) -> usize {
        let mut exemplars: HashMap<u128, HashMap<u32, Exemplar>> = HashMap::new();
        for (set, (cells, examples)) in std::mem::take(&mut self.open) {
            let totals = self.totals.entry(set).or_insert_with(|| vec![0; cells.len()]);
            totals.iter_mut().zip(cells).for_each(|(total, gained)| *total += gained);
            exemplars.insert(set, examples);
        }
        let mut sets: Vec<(&u128, &Vec<Label>)> = self.sets.iter().collect();
        sets.sort_by(|a, b| a.1.iter().map(|l| &l.value).cmp(b.1.iter().map(|l| &l.value)));
        let (mut bytes, mut request) = (0, WriteRequest::default());
        for (set, labels) in sets {
            let mut below = 0;
            for (at, (name, le)) in self.names.iter().enumerate() {
                let cells = &self.totals[set];
                let buckets = 2..self.names.len() - 2;
                below += if buckets.contains(&at) { cells[at] } else { 0 };
                let value = match at {
                    at if buckets.contains(&at) => below as f64,
                    at if at == buckets.end => cells[at] as f64 / 1e9,
                    at if at > buckets.end => below as f64,
                    at => cells[at] as f64,
                };
                let example = exemplars.get(set).and_then(|of| of.get(&(at as u32)));
                request.timeseries.push(series(name, le.as_deref(), labels, (value, step), example));
                if request.timeseries.len() == MAX_SAMPLES {
                    bytes += send(&request, &mut self.raw, &mut self.body);
                    request.timeseries.clear();
                }
            }
        }
        bytes + send(&request, &mut self.raw, &mut self.body)
    }
}

fn series(
    name: &str,
    le: Option<&str>,
    labels: &[Label],
    (value, timestamp): (f64, Millis),
    example: Option<&Exemplar>,
) -> TimeSeries {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let mut all = vec![label("__name__", name)];
    all.extend(le.map(|le| label("le", le)));
    all.extend_from_slice(labels);
    all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let exemplars = example.map(|e| proto::Exemplar {
        labels: vec![label("traceID", &format!("{:032x}", u128::from_be_bytes(e.trace_id)))],
        value: e.value_ns as f64 / 1e9,
        timestamp: e.at,
    });
    TimeSeries {
        labels: all,
        samples: vec![Sample { value, timestamp }],
        exemplars: exemplars.into_iter().collect(),
        histograms: Vec::new(),
    }
}

fn send(request: &WriteRequest, raw: &mut Vec<u8>, body: &mut Vec<u8>) -> usize {
    raw.clear();
    request.encode(raw).expect("a vector has room");
    body.resize(snap::raw::max_compress_len(raw.len()).max(body.len()), 0);
    snap::raw::Encoder::new().compress(raw, body).expect("small")
}
