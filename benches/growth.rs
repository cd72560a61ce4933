//! How the cost of a half edge grows with the half edges that wait, and that of a span with the label sets.
//!
//! `cargo bench --bench growth --no-default-features -- --most 10000000` prints one JSON line per size: CPU nanoseconds of
//! one half edge (or span) while so many are there, and the resident bytes that each of them takes. Decoding is not in it.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints its result")]

mod common;

use std::sync::Arc;

use common::{Clock, median, resident};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use spanmill::core::deltas::DeltaTable;
use spanmill::core::model::Ledger;
use spanmill::core::otlp::Batch;
use spanmill::core::servicegraph::{Pairing, Sink};
use spanmill::core::settings::{Settings, Tenants};
use spanmill::core::spanmetrics::{SpanBlock, SpanMetrics};

const PER_RECORD: u64 = 100;
/// Records that are measured at each size, in so many rounds.
const MEASURED: u64 = 200;
const ROUNDS: usize = 5;
const DAY: i64 = 86_400_000;

fn main() {
    let most = most();
    for waiting in sizes(10_000, most) {
        pending(waiting);
    }
    for sets in sizes(1_000, most.min(1_000_000)) {
        label_sets(sets);
    }
}

/// `--most N`: how far to go.
fn most() -> u64 {
    let mut words = std::env::args().skip_while(|word| word != "--most").skip(1);
    words.next().map_or(1_000_000, |word| word.parse().expect("a number"))
}

fn sizes(first: u64, most: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(first), |n| Some(n * 10)).take_while(move |n| *n <= most)
}

/// Decoded records, so that only what follows is measured.
struct Decoded(Vec<(Vec<u8>, Batch)>);

impl Decoded {
    fn of(records: impl Iterator<Item = Vec<Span>>) -> Self {
        let decode = |spans| {
            let service = Value::StringValue("service".to_owned());
            let service = AnyValue { value: Some(service) };
            let attributes = vec![KeyValue { key: "service.name".into(), value: Some(service), ..KeyValue::default() }];
            let block = ResourceSpans {
                resource: Some(Resource { attributes, ..Resource::default() }),
                scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            };
            let value = ExportTraceServiceRequest { resource_spans: vec![block] }.encode_to_vec();
            let mut batch = Batch::new();
            batch.decode(&value).expect("a record");
            (value, batch)
        };
        Self(records.map(decode).collect())
    }
}

fn mixed(n: u64) -> u64 {
    (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A client half that is new, or the server half that one of them waits for.
fn half(n: u64, is_server: bool) -> Span {
    let id = mixed(n).to_be_bytes().to_vec();
    Span {
        trace_id: [mixed(n ^ 0x5555).to_be_bytes(), mixed(n).to_be_bytes()].concat(),
        span_id: if is_server { mixed(n ^ 0xffff).to_be_bytes().to_vec() } else { id.clone() },
        parent_span_id: if is_server { id } else { Vec::new() },
        name: "call".into(),
        kind: if is_server { 2 } else { 3 },
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_001_000_000 + n,
        ..Span::default()
    }
}

struct Graph {
    pairing: Pairing,
    table: DeltaTable,
    ledger: Ledger,
    offset: i64,
}

impl Graph {
    fn new() -> Self {
        let mut config = Settings::default();
        config.service_graphs.wait = DAY;
        config.service_graphs.max_items = usize::MAX;
        let pairing = Pairing::new(&Tenants::from(config));
        Self { pairing, table: DeltaTable::new(DAY), ledger: Ledger::default(), offset: 0 }
    }

    fn read(&mut self, records: &Decoded) {
        let Self { pairing, table, ledger, offset } = self;
        for (value, batch) in &records.0 {
            let at = pairing.record(*offset, 0);
            *offset += 1;
            for spans in batch.resources(value) {
                let mut block = pairing.block(at, "t", Some(b"service"), spans.resource);
                pairing.fetch(&block, &spans);
                for span in spans.spans() {
                    pairing.span(&mut block, &span, &mut Sink { table, ledger });
                }
            }
        }
    }
}

/// Measures with `waiting` half edges: as many are opened as are met, spread over all that wait.
fn pending(waiting: u64) {
    let mut graph = Graph::new();
    let before = resident();
    let mut opened = 0;
    while opened < waiting {
        let records = 100.min((waiting - opened).div_ceil(PER_RECORD));
        graph.read(&Decoded::of((0..records).map(|r| clients(opened + r * PER_RECORD))));
        opened += records * PER_RECORD;
    }
    let bytes = resident().saturating_sub(before) as f64 / waiting as f64;
    let mut met = 0;
    let stride = (waiting / (MEASURED * PER_RECORD * ROUNDS as u64)).max(1);
    let mut round = || {
        let records = Decoded::of((0..MEASURED).map(|r| {
            let spans = (0..PER_RECORD / 2).flat_map(|s| {
                let n = r * PER_RECORD / 2 + s;
                [half(opened + n, false), half((met + n) * stride, true)]
            });
            spans.collect()
        }));
        opened += MEASURED * PER_RECORD / 2;
        met += MEASURED * PER_RECORD / 2;
        let clock = Clock::now();
        graph.read(&records);
        clock.elapsed_ns() / (MEASURED * PER_RECORD) as f64
    };
    let ns = median((0..ROUNDS).map(|_| round()));
    println!(
        r#"{{"bench":"growth","axis":"pending half edges","n":{waiting},"ns_each":{ns:.1},"resident_bytes_each":{bytes:.1}}}"#
    );
}

fn clients(first: u64) -> Vec<Span> {
    (first..first + PER_RECORD).map(|n| half(n, false)).collect()
}

/// Measures with `sets` label sets: spans of any of them, in no order.
fn label_sets(sets: u64) {
    let mut metrics = SpanMetrics::new(&Arc::new(Settings::default()));
    let (mut table, mut ledger) = (DeltaTable::new(DAY), Ledger::default());
    let span = |n: u64| Span { kind: 1, name: format!("GET /api/v1/resource-{n:07}"), ..half(n, false) };
    let mut read = |records: &Decoded| {
        for (value, batch) in &records.0 {
            for spans in batch.resources(value) {
                let block = SpanBlock { tenant: "t", service: b"service", spans };
                metrics.block(&block, &table);
                metrics.fetch(&block, &mut table);
                spans.spans().for_each(|span| metrics.span(&block, &span, &mut table, &mut ledger));
            }
        }
    };
    let before = resident();
    for first in (0..sets).step_by(PER_RECORD as usize) {
        read(&Decoded::of(std::iter::once((first..first + PER_RECORD).map(span).collect())));
    }
    let bytes = resident().saturating_sub(before) as f64 / sets as f64;
    let mut next = 0;
    let mut round = || {
        let records = Decoded::of((0..MEASURED).map(|_| {
            next += PER_RECORD;
            (next..next + PER_RECORD).map(|n| span(mixed(n) % sets)).collect()
        }));
        let clock = Clock::now();
        read(&records);
        clock.elapsed_ns() / (MEASURED * PER_RECORD) as f64
    };
    let ns = median((0..ROUNDS).map(|_| round()));
    println!(
        r#"{{"bench":"growth","axis":"label sets","n":{sets},"ns_each":{ns:.1},"resident_bytes_each":{bytes:.1}}}"#
    );
}
