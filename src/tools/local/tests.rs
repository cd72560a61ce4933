use std::collections::BTreeMap;

use super::*;
use crate::config::Config;
use crate::core::model::{Counter, Seed};
use crate::core::remotewrite::decode;
use crate::tools::loadgen::{Expectation, Generator, Group, Options, Topology};

const START: Millis = 1 << 40;
/// No record comes from the future.
const NOW: Millis = 1 << 50;

fn tenants(shards: u32) -> Tenants {
    let mut config = Config::default();
    config.kafka.shards = shards;
    Tenants::from(config)
}

fn load(partitions: u32, spans: u64) -> (Vec<crate::tools::loadgen::Record>, Expectation) {
    let options = Options {
        start: START,
        rate: 50,
        spans: Some(spans),
        spans_per_record: 10,
        group: Group::Partition(partitions),
        ..Options::default()
    };
    let mut generator = Generator::new(Topology::shop(3), 3, options);
    let records = generator.by_ref().collect();
    (records, generator.expectation())
}

/// Runs it to the end. Every closed step with its shard, and the ledger.
fn run(
    tenants: &Tenants,
    partitions: u32,
    records: &[crate::tools::loadgen::Record],
) -> (Vec<(u32, ClosedStep)>, Ledger) {
    let mut local = Local::new(tenants, "files", partitions, Seed::new(7)).expect("nothing to restore");
    let mut closed = Vec::new();
    for (offset, record) in (0..).zip(records) {
        let partition = record.partition.unwrap_or(0) as usize;
        let record = Record { offset, timestamp: record.timestamp, tenant: Some("t"), value: &record.value };
        assert_eq!(local.offer(partition, &record, NOW).expect("our own delta records"), None);
        closed.extend(std::iter::from_fn(|| local.next_closed()));
    }
    local.finish().expect("our own delta records");
    closed.extend(std::iter::from_fn(|| local.next_closed()));
    (closed, local.ledger())
}

/// The last value of every series, by its text without the tenant.
fn last_values(closed: &[(u32, ClosedStep)]) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    for request in closed.iter().flat_map(|(_, step)| &step.batches).flat_map(|batch| &batch.requests) {
        for series in decode::body(&request.body).expect("our own body").timeseries {
            if let Some(last) = series.samples.last() {
                values.insert(decode::text(&series.labels), last.value);
            }
        }
    }
    values
}

#[test]
fn a_load_comes_to_what_it_must_with_any_number_of_partitions_and_shards() {
    for (partitions, shards) in [(1, 1), (3, 16)] {
        let (records, expected) = load(partitions, 4_000);
        let (closed, ledger) = run(&tenants(shards), partitions, &records);
        let values = last_values(&closed);
        assert_eq!(values.len(), expected.series().len());
        for (series, value) in expected.series() {
            let found = values.get(series).copied().unwrap_or(f64::NAN);
            assert!((found - value).abs() <= 1e-9 * value.abs(), "{series} is {found}, not {value}");
        }
        assert_eq!((ledger.pending_edges(), ledger.unaccounted_spans()), (0, 0));
        assert_eq!(ledger.get(Counter::SpansRead), expected.ledger().get(Counter::SpansRead));
        assert_eq!(ledger.get(Counter::EdgesCompleted), expected.ledger().get(Counter::EdgesCompleted));
    }
}

#[test]
fn whole_traces_come_to_what_their_load_must() {
    let mut config = Config::default();
    let traces = &mut config.core.traces;
    (traces.duration, traces.critical_path, traces.errors, traces.span_metrics) = (true, true, true, true);
    for seed in 1..6 {
        let options = Options {
            start: START,
            rate: 50,
            spans: Some(3_000),
            spans_per_record: 10,
            group: Group::Partition(2),
            error_share: 0.03,
        };
        let mut generator = Generator::new(Topology::shop(seed), seed, options).with_whole_traces();
        let records: Vec<_> = generator.by_ref().collect();
        let expected = generator.expectation();
        let (closed, ledger) = run(&Tenants::from(config.clone()), 2, &records);
        let values = last_values(&closed);
        assert!(expected.series().len() > 1_000);
        let strange: Vec<_> = values.keys().filter(|series| expected.get(series).is_none()).take(3).collect();
        assert_eq!((strange, values.len()), (Vec::new(), expected.series().len()), "seed {seed}");
        for (series, value) in expected.series() {
            let found = values.get(series).copied().unwrap_or(f64::NAN);
            assert_eq!(found.to_bits(), value.to_bits(), "seed {seed}: {series} is {found}, not {value}");
        }
        let of_traces = Counter::ALL.iter().filter(|counter| counter.name().starts_with("trace"));
        for counter in of_traces {
            assert_eq!(ledger.get(*counter), expected.ledger().get(*counter), "seed {seed}: {}", counter.name());
        }
        assert_eq!(Expectation::parse(&expected.to_string()).as_ref(), Ok(&expected));
    }
}

#[test]
fn steps_come_in_order_without_a_gap_and_end_with_the_last_that_has_data() {
    let (records, _) = load(2, 3_000);
    let (closed, _) = run(&tenants(4), 2, &records);
    let order: Vec<(Millis, u32)> = closed.iter().map(|(shard, step)| (step.step, *shard)).collect();
    assert!(order.is_sorted(), "by step, then by shard: {order:?}");
    let width = Config::default().core.time.step;
    let end = records.last().expect("records").timestamp + Config::default().core.service_graphs.wait;
    assert!(order.last().expect("steps").0 <= width.end_of(end), "nothing is closed after the last wait is over");
    for shard in 0..4 {
        let steps: Vec<Millis> = order.iter().filter(|(_, s)| *s == shard).map(|(step, _)| *step).collect();
        assert!(steps.windows(2).all(|pair| pair[1] == pair[0] + width.ms()), "shard {shard}: {steps:?}");
    }
}

#[test]
fn the_same_records_give_the_same_bytes_and_a_run_without_records_gives_none() {
    let (records, _) = load(2, 1_000);
    assert_eq!(run(&tenants(4), 2, &records), run(&tenants(4), 2, &records));
    assert_eq!(run(&tenants(4), 2, &[]), (Vec::new(), Ledger::default()));
}

#[test]
fn a_record_that_is_no_request_is_refused_and_counted() {
    let mut local = Local::new(&tenants(1), "files", 1, Seed::new(7)).expect("nothing to restore");
    let record = Record { offset: 0, timestamp: START, tenant: Some("t"), value: b"\x0a\xffgarbage" };
    assert!(matches!(local.offer(0, &record, NOW), Ok(Some(Refusal::Undecodable(_)))));
    local.finish().expect("our own delta records");
    assert_eq!(local.ledger().get(Counter::RecordsUndecodable), 1);
}
