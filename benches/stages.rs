//! Nanoseconds per span of the stages after decoding, each on its own beside the obvious way to do the same.
//!
//! `cargo bench --bench stages --no-default-features` prints one JSON line per case.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints its result")]
#![allow(clippy::disallowed_types, reason = "the obvious way uses the obvious map")]

mod common;
mod naive;

use std::collections::HashMap;
use std::sync::Arc;

use common::{Case, Load, measure};
use spanmill::core::deltas::{Define, DeltaHead, DeltaTable};
use spanmill::core::model::{Family, LabelBuilder, Layout, Ledger, Weight};
use spanmill::core::otlp::Batch;
use spanmill::core::servicegraph::{Pairing, Sink};
use spanmill::core::settings::{Settings, Tenants};
use spanmill::core::spanmetrics::{SpanBlock, SpanMetrics};

const SPANS: u64 = 40_000;
/// Long enough that nothing is spelled out again.
const RESPELL_AFTER: i64 = 3_600_000;

fn main() {
    let load = Load::reference(SPANS);
    let batches: Vec<Batch> = load.records.iter().map(|(_, value)| decode(value)).collect();
    let requests: Vec<_> = load.records.iter().map(|(_, value)| naive::decode(value)).collect();
    measure(
        "span_metrics",
        load.spans,
        vec![
            Case::new("span metrics", || count(&load, &batches)),
            Case::new("naive, span metrics", || naive::count_decoded(&requests)),
        ],
    );
    measure(
        "pairing",
        load.spans,
        vec![
            Case::new("service graph", || pair(&load, &batches)),
            Case::new("naive, service graph", || naive::pair_decoded(&requests)),
        ],
    );
    let keys = keys();
    measure(
        "deltas",
        keys.len() as u64,
        vec![Case::new("deltas", || deltas(&keys)), Case::new("naive, deltas", || naive_deltas(&keys))],
    );
}

fn decode(value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.decode(value).expect("a record");
    batch
}

fn count(load: &Load, batches: &[Batch]) -> usize {
    let mut metrics = SpanMetrics::new(&Arc::new(Settings::default()));
    let (mut table, mut ledger) = (DeltaTable::new(RESPELL_AFTER), Ledger::default());
    for ((_, value), batch) in load.records.iter().zip(batches) {
        for spans in batch.resources(value) {
            let service = spans.resource.get(b"service.name").and_then(|name| name.as_str()).unwrap_or_default();
            let block = SpanBlock { tenant: "t", service, spans };
            metrics.block(&block, &table);
            spans.spans().for_each(|span| metrics.span(&block, &span, &mut table, &mut ledger));
        }
    }
    table.len()
}

fn pair(load: &Load, batches: &[Batch]) -> usize {
    let mut pairing = Pairing::new(&Tenants::from(Settings::default()));
    let (mut table, mut ledger) = (DeltaTable::new(RESPELL_AFTER), Ledger::default());
    for (offset, ((timestamp, value), batch)) in (0..).zip(load.records.iter().zip(batches)) {
        pairing.expire(*timestamp, |_| 0, &mut Sink { table: &mut table, ledger: &mut ledger });
        let at = pairing.record(offset, *timestamp);
        for spans in batch.resources(value) {
            let service = spans.resource.get(b"service.name").and_then(|name| name.as_str());
            let mut block = pairing.block(at, "t", service, spans.resource);
            for span in spans.spans() {
                pairing.span(&mut block, &span, &mut Sink { table: &mut table, ledger: &mut ledger });
            }
        }
    }
    table.len() + pairing.pending()
}

/// A raw key per span: 500 different ones, as in the reference load.
fn keys() -> Vec<Vec<u8>> {
    let key = |n: u64| {
        let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 500;
        format!("s-t-service-{:03}-GET /api/v1/service/resource-{n:03}", n % 50).into_bytes()
    };
    (0..SPANS).map(key).collect()
}

/// Finds, counts and cuts.
fn deltas(keys: &[Vec<u8>]) -> usize {
    let layout = Arc::new(Layout::new(Family::SpanMetrics, &[1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28, 1 << 30]));
    let mut table = DeltaTable::new(RESPELL_AFTER);
    for (n, key) in (0..).zip(keys) {
        let define = |labels: &mut LabelBuilder| {
            labels.set("span_name", std::str::from_utf8(key)?);
            Ok::<_, std::str::Utf8Error>(Define { tenant: "t".into(), layout: Arc::clone(&layout) })
        };
        let id = table.find(key, define).expect("a text");
        let mut set = table.at(id);
        set.count(0, Weight::ONE);
        set.add(1, 570);
        set.observe(0, n << 12, Weight::ONE, None);
    }
    let head = DeltaHead {
        topic: "spans".to_owned(),
        partition: 0,
        commit_number: 0,
        part: 0,
        parts: 0,
        step: 15_000,
        stream_time: 1,
        sender: None,
        tenants: Vec::new(),
    };
    table.cut(head, 4).delta_records.iter().flatten().map(Vec::len).sum()
}

fn naive_deltas(keys: &[Vec<u8>]) -> usize {
    let mut sets: HashMap<String, (u64, u64, [u64; 7], u64)> = HashMap::new();
    for (n, key) in (0_u64..).zip(keys) {
        let set = sets.entry(String::from_utf8(key.clone()).expect("a text")).or_default();
        set.0 += 1;
        set.1 += 570;
        set.2[(n >> 8).min(6) as usize] += 1;
        set.3 += n << 12;
    }
    sets.iter().map(|(key, set)| format!("{key} {} {} {:?} {}", set.0, set.1, set.2, set.3).len()).sum()
}
