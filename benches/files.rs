//! Nanoseconds per span of what a replay of files does: JSON to records, beside the protocol's own types; and records to
//! the samples of all shards.
//!
//! `cargo bench --bench files --no-default-features` prints one JSON line per case: the best of many rounds, cases taking
//! turns so that a noisy neighbor meets all of them.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints its result")]

use std::hint::black_box;
use std::time::Instant;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use spanmill::config::{Config, Tenants};
use spanmill::core::formats::to_proto;
use spanmill::core::otlp::Batch;
use spanmill::core::tasks::span::Record;
use spanmill::tools::files::{Times, times};
use spanmill::tools::loadgen::{Generator, Options, Scale, Topology};
use spanmill::tools::local::Local;

const SPANS: u64 = 40_000;
const ROUNDS: usize = 10;

fn main() {
    let options = Options { start: 1_700_000_000_000, rate: 1_000, spans: Some(SPANS), ..Options::default() };
    let values: Vec<Vec<u8>> =
        Generator::new(Topology::scaled(&Scale::default(), 7), 7, options).map(|r| r.value).collect();
    let requests =
        || values.iter().map(|value| ExportTraceServiceRequest::decode(value.as_slice()).expect("a request"));
    let lines: Vec<Vec<u8>> = requests().map(|request| serde_json::to_vec(&request).expect("JSON")).collect();
    let spans: usize =
        requests().flat_map(|r| r.resource_spans).flat_map(|r| r.scope_spans).map(|s| s.spans.len()).sum();
    let mut best = [f64::INFINITY; 4];
    for _ in 0..ROUNDS {
        best[0] = best[0].min(time(spans, || lines.iter().map(|line| to_proto(line).expect("JSON").len()).sum()));
        best[1] = best[1].min(time(spans, || lines.iter().map(|line| theirs(line).len()).sum()));
        best[2] = best[2].min(time(spans, || all_times(&values).len()));
        best[3] = best[3].min(time(spans, || samples(&values)));
    }
    let bytes = lines.iter().map(Vec::len).sum::<usize>() as f64 / spans as f64;
    println!(r#"{{"bench":"files","spans":{spans},"json_bytes_per_span":{bytes:.0}}}"#);
    let cases = ["json to a record", "json through the protocol's types", "times of records", "records to samples"];
    for (case, ns) in cases.iter().zip(best) {
        println!(r#"{{"bench":"files","case":"{case}","ns_per_span":{ns:.0}}}"#);
    }
}

fn time(spans: usize, work: impl FnOnce() -> usize) -> f64 {
    let start = Instant::now();
    black_box(work());
    start.elapsed().as_secs_f64() * 1e9 / spans as f64
}

fn theirs(line: &[u8]) -> Vec<u8> {
    serde_json::from_slice::<ExportTraceServiceRequest>(line).expect("JSON").encode_to_vec()
}

fn all_times(values: &[Vec<u8>]) -> Vec<Times> {
    let mut batch = Batch::new();
    let mut time = |value: &Vec<u8>| {
        batch.decode(value).expect("a record");
        times(&batch, value, i64::MAX).expect("times of today").0
    };
    values.iter().map(&mut time).collect()
}

/// Everything between the records and the requests; returns the samples.
fn samples(values: &[Vec<u8>]) -> usize {
    let mut local = Local::new(&Tenants::from(Config::default()), "files", 1, spanmill::core::model::Seed::default())
        .expect("nothing to restore");
    let mut samples = 0;
    let mut take = |local: &mut Local| {
        while let Some((_, step)) = local.next_closed() {
            samples += step.samples as usize;
        }
    };
    for ((offset, value), time) in (0..).zip(values).zip(all_times(values)) {
        let record = Record { offset, timestamp: time.at.unwrap_or(0), tenant: Some("t"), value };
        local.offer(0, &record, i64::MAX / 2).expect("a record");
        take(&mut local);
    }
    local.finish().expect("the end");
    take(&mut local);
    samples
}
