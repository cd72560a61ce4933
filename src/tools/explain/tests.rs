use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::config::{Sources, load};
use crate::core::otlp::Batch;
use crate::tools::loadgen::{self, Expectation, Generator, Group, Options, Topology};
use crate::tools::totals::Totals;

const START: Millis = 1 << 40;
/// No record comes from the future.
const NOW: Millis = 1 << 50;
const PARTITIONS: u32 = 2;

fn loaded(set: &[&str]) -> Loaded {
    let set: Vec<String> = set.iter().map(|set| (*set).to_owned()).collect();
    load(&Sources { file: None, env: &[], set: &set, read_file: &|_| Ok(String::new()) }).expect("legal")
}

fn records(spans: u64) -> (Vec<loadgen::Record>, Expectation) {
    let options = Options {
        start: START,
        rate: 50,
        spans: Some(spans),
        spans_per_record: 10,
        group: Group::Partition(PARTITIONS),
        ..Options::default()
    };
    let mut generator = Generator::new(Topology::shop(3), 3, options);
    let records = generator.by_ref().collect();
    (records, generator.expectation())
}

/// All traces of the records.
fn traces(records: &[loadgen::Record]) -> Vec<TraceId> {
    let (mut batch, mut traces) = (Batch::new(), BTreeSet::new());
    for record in records {
        batch.decode(&record.value).expect("a request");
        let spans = batch.resources(&record.value).flat_map(|resource| resource.spans());
        traces.extend(spans.map(|span| TraceId::try_from(span.trace_id).expect("16 bytes")));
    }
    traces.into_iter().collect()
}

fn explain(loaded: &Loaded, traces: Vec<TraceId>, records: &[loadgen::Record], ended: bool) -> Explanation {
    let mut explainer = Explainer::new(loaded, traces, Seed::new(7));
    for (offset, record) in (0..).zip(records) {
        let partition = record.partition.unwrap_or(0).cast_signed();
        let read = Record { offset, timestamp: record.timestamp, tenant: Some("t"), value: &record.value };
        explainer.record(("spans", partition), &read, NOW, || offset.to_string()).expect("nothing is damaged");
    }
    explainer.finish(ended).expect("nothing is damaged")
}

/// Adds a part of what a label set has gained.
fn add(sums: &mut BTreeMap<String, f64>, set: &SeriesSet, part: f64) {
    let labels: Vec<_> = set.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let mut add = |name: &str, value: f64| {
        *sums.entry(format!("{name}{{{}}}", labels.join(","))).or_default() += value * part;
    };
    for metric in &set.metrics {
        match metric {
            Value::Counter { name, value } => add(name, *value),
            Value::Gauge { name } => add(name, 1.0),
            Value::Histogram { name, count, sum, .. } => {
                add(&format!("{name}_count"), *count);
                add(&format!("{name}_sum"), *sum);
            }
        }
    }
}

#[test]
fn the_parts_of_all_spans_add_up_to_what_a_worker_must_count() {
    let (records, expected) = records(1_500);
    let explanation = explain(&loaded(&[]), traces(&records), &records, true);
    assert_eq!((explanation.missing.len(), explanation.omitted), (0, 0));
    let mut sums = BTreeMap::new();
    for span in explanation.traces.iter().flat_map(|trace| &trace.spans) {
        assert!(span.counted, "{span}");
        assert_ne!(span.edges.is_empty(), span.edge_reasons.is_empty(), "one of them:\n{span}");
        span.series.iter().for_each(|set| add(&mut sums, set, 1.0));
        // Each of its spans has the edge.
        span.edges.iter().for_each(|edge| add(&mut sums, &edge.series, 1.0 / (edge.with.len() + 1) as f64));
    }
    let wanted: Vec<(&str, f64)> = expected.series().filter(|(name, _)| !name.contains("_bucket{")).collect();
    assert_eq!(wanted.iter().map(|(name, _)| *name).collect::<Vec<_>>(), sums.keys().collect::<Vec<_>>());
    for (name, value) in wanted {
        assert!((sums[name] - value).abs() <= 1e-6 * value, "{name} is {}, not {value}", sums[name]);
    }
}

#[test]
fn what_traces_come_to_as_a_whole_adds_up_to_what_a_task_counts() {
    let settings = ["traces.duration=true", "traces.critical_path=true", "traces.errors=true", "traces.calls=true"];
    let (loaded, (records, _)) = (loaded(&settings), records(1_500));
    let explanation = explain(&loaded, traces(&records), &records, true);
    let mut sums = BTreeMap::new();
    for whole in explanation.traces.iter().flat_map(|trace| &trace.whole) {
        assert_eq!((whole.closed, whole.open_spans, whole.late_spans), (1, 0, 0));
        whole.series.iter().for_each(|set| add(&mut sums, set, 1.0));
    }
    let mut totals = Totals::default();
    for partition in 0..PARTITIONS {
        let settings = SpanSettings::from(&loaded.tenants);
        let mut task = SpanTask::new(&settings, "spans".to_owned(), 0, Restored::default()).expect("a task");
        let mine = records.iter().filter(|record| record.partition == Some(partition));
        let mut cuts = Vec::new();
        for (offset, record) in (0..).zip(mine) {
            let read = Record { offset, timestamp: record.timestamp, tenant: Some("t"), value: &record.value };
            while let Offer::CutFirst { cut } = task.offer(&read, NOW) {
                cuts.push(*cut);
            }
        }
        cuts.extend(task.finish(true));
        let deltas = cuts.iter().flat_map(|cut| cut.delta_records.iter().flatten());
        deltas.for_each(|record| totals.add(record).expect("a delta record"));
    }
    let mut expected = BTreeMap::new();
    for (series, value) in totals.values(&explanation.traces[0].whole[0].series[0].tenant) {
        let of_spans =
            ["traces_spanmetrics_", "traces_service_graph_"].iter().any(|start| series.name.starts_with(start));
        if !of_spans && !series.name.ends_with("_bucket") {
            let labels: Vec<_> = series.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            expected.insert(format!("{}{{{}}}", series.name, labels.join(",")), value);
        }
    }
    assert!(expected.len() > 50, "{}", expected.len());
    assert_eq!(sums.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, value) in expected {
        assert!((sums[&name] - value).abs() <= 1e-9 * value, "{name} is {}, not {value}", sums[&name]);
    }
}

#[test]
fn a_trace_that_may_go_on_is_not_closed_and_with_nothing_of_traces_there_is_nothing() {
    let (records, _) = records(300);
    let open = explain(
        &loaded(&["traces.duration=true", "traces.idle=1h", "traces.max_age=1h"]),
        traces(&records),
        &records,
        false,
    );
    for trace in &open.traces {
        let [whole] = &trace.whole[..] else { panic!("one partition") };
        assert_eq!((whole.closed, whole.open_spans, whole.series.len()), (0, trace.spans.len() as u64, 0));
        assert!(trace.to_string().contains("as a whole: not closed"), "{trace}");
    }
    let without = explain(&loaded(&[]), traces(&records), &records, true);
    assert!(without.traces.iter().all(|trace| trace.whole.is_empty() && !trace.to_string().contains("as a whole")));
}

#[test]
fn a_call_between_spans_of_any_kind_is_an_edge_of_the_one_that_is_called() {
    let settings = ["service_graphs.ancestors=any", "service_graphs.operations=true"];
    let (records, _) = records(300);
    let explanation = explain(&loaded(&settings), traces(&records), &records, true);
    let spans: Vec<_> = explanation.traces.iter().flat_map(|trace| &trace.spans).collect();
    // All calls of the shop are those of clients and servers, and no inner span is told that its kind makes no edge.
    assert!(spans.iter().any(|span| !span.edges.is_empty()));
    for span in spans {
        assert!(span.edge_reasons.iter().all(|reason| reason.code != "other_kind"), "{span}");
        let late = span.edges.iter().flat_map(|edge| &edge.reasons).filter(|reason| reason.code == "ancestor");
        assert_eq!(late.count(), 0, "{span}");
    }
}

#[test]
fn a_trace_alone_becomes_what_it_becomes_among_others() {
    let (records, _) = records(300);
    let (loaded, traces) = (loaded(&[]), traces(&records));
    let all = explain(&loaded, traces.clone(), &records, true);
    for (id, among_others) in traces.iter().zip(&all.traces) {
        let alone = explain(&loaded, vec![*id], &records, true);
        assert_eq!(alone.traces, std::slice::from_ref(among_others));
    }
}

#[test]
fn at_the_end_of_what_was_read_it_is_said_who_still_waits() {
    let (records, _) = records(1_000);
    let (loaded, traces) = (loaded(&["service_graphs.wait=1h"]), traces(&records));
    let waits = |explanation: &Explanation| {
        let spans = explanation.traces.iter().flat_map(|trace| &trace.spans);
        let waits = |span: &&ExplainedSpan| {
            span.edges.iter().any(|edge| edge.waits) || span.edge_reasons.iter().any(|reason| reason.code == "waits")
        };
        spans.filter(waits).count()
    };
    assert_eq!(waits(&explain(&loaded, traces.clone(), &records, true)), 0);
    assert!(waits(&explain(&loaded, traces, &records, false)) > 10);
}

#[test]
fn a_trace_that_is_nowhere_is_missing() {
    let (records, _) = records(100);
    let explanation = explain(&loaded(&[]), vec![[7; 16]], &records, true);
    assert_eq!((explanation.traces.len(), explanation.missing), (0, vec!["07".repeat(16)]));
    assert_eq!(explanation.searched.records, records.len() as u64);
}
