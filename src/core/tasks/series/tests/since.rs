//! When series began to count, which goes with every sample in remote write 2.0.

use super::lifecycle::One;
use super::*;
use crate::core::model::hash::Seed;
use crate::core::remotewrite::v2;

const CALLS: &str = r#"traces_spanmetrics_calls_total{service="a"}"#;

/// The samples of every series of a step as a receiver of 2.0 gets them: `(time, start)`.
fn told(step: &ClosedStep) -> BTreeMap<String, Vec<(Millis, Millis)>> {
    let mut out = BTreeMap::new();
    for request in step.batches.iter().flat_map(|batch| &batch.requests) {
        let phases = [request.before_values(), Some(request.values().unwrap_or_else(|| request.clone()))];
        for part in phases.iter().flatten() {
            let body = v2::body(part, Seed::default(), &Default::default()).expect("our own request");
            let read = decode::v2::request(&body).expect("legal");
            let plain = decode::v2::resolve(&read).expect("legal");
            for (series, named) in read.timeseries.iter().zip(plain.timeseries) {
                let samples = series.samples.iter().map(|s| (s.timestamp, s.start_timestamp));
                let histograms = series.histograms.iter().map(|h| (h.timestamp, h.start_timestamp));
                let all: &mut Vec<_> = out.entry(decode::text(&named.labels)).or_default();
                all.extend(samples.chain(histograms));
            }
        }
    }
    out
}

/// As [`One::step`], with start times.
fn step(one: &mut One, step: Millis, seen: &[Seen]) -> Vec<BTreeMap<String, Vec<(Millis, Millis)>>> {
    seen.iter().for_each(|x| one.source.see(x));
    let records = one.source.cut(step, step);
    run(&mut one.task, 1, &records).iter().map(told).collect()
}

#[test]
fn every_value_has_the_time_of_the_zero_before_its_first_one_and_the_zero_has_none() {
    let mut one = One::new(settings());
    let first = &step(&mut one, 10 * W, &[span("a", 150)])[0];
    assert_eq!(first.len(), 8);
    assert!(first.values().all(|all| *all == [(10 * W - 1, 0), (10 * W, 10 * W - 1)]), "{first:?}");
    // One that is not touched again and one that is.
    for (at, seen) in [(11, None), (12, Some(span("a", 90)))] {
        let next = &step(&mut one, at * W, seen.as_slice())[0];
        assert!(next.values().all(|all| *all == [(at * W, 10 * W - 1)]), "{next:?}");
    }
}

#[test]
fn a_metric_that_begins_later_than_its_set_has_its_own_start_and_a_gauge_has_none() {
    let edge = |failed| Seen { family: Family::ServiceGraph, counts: [1, failed], ns: vec![1, 2], ..span("a", 0) };
    let mut one = One::new(settings());
    one.source.how = How { apart: true, ..CLASSIC };
    step(&mut one, 10 * W, &[edge(0)]);
    step(&mut one, 11 * W, &[edge(2)]);
    let said = &step(&mut one, 12 * W, &[edge(0)])[0];
    let of = |name: &str| said[&format!(r#"{name}{{service="a"}}"#)].clone();
    assert_eq!(of("traces_service_graph_request_total"), [(12 * W, 10 * W - 1)]);
    assert_eq!(of("traces_service_graph_request_failed_total"), [(12 * W, 11 * W - 1)]);
    assert_eq!(of("traces_service_graph_request_server_seconds_count"), [(12 * W, 10 * W - 1)]);
    assert_eq!(of("traces_service_graph_connection_info"), [(12 * W, 0)]);
}

#[test]
fn a_native_histogram_has_a_start_a_marker_has_none_and_who_returns_in_time_keeps_it() {
    let mut one = One::new(settings());
    one.source.how = How { native: Some(Native { schema: 3, max_buckets: 100 }), classic: false, ..CLASSIC };
    step(&mut one, 10 * W, &[span("a", 150)]);
    let ended = step(&mut one, 60 * W, &[span("b", 1)]);
    let latency = r#"traces_spanmetrics_latency{service="a"}"#;
    assert_eq!([&ended[1][latency], &ended[2][latency]], [&[(12 * W, 10 * W - 1)], &[(13 * W, 0)]]);
    let mut one = One::new(settings());
    step(&mut one, 10 * W, &[span("a", 150)]);
    let returned = step(&mut one, 17 * W, &[span("a", 50)]);
    let returned = returned.last().expect("closes");
    // What it had stands before its value, and has counted as long.
    assert_eq!(returned[CALLS], [(17 * W - 1, 10 * W - 1), (17 * W, 10 * W - 1)]);
    let anew = step(&mut one, 40 * W, &[span("a", 50)]);
    assert_eq!(anew.last().expect("closes")[CALLS], [(40 * W - 1, 0), (40 * W, 40 * W - 1)], "it was forgotten");
}

#[test]
fn starts_outlive_a_restart_and_without_zeros_they_are_when_the_step_began() {
    for (offset, start) in [(1, 10 * W - 1), (0, 9 * W)] {
        let mut one = One::new(SeriesSettings { zero_offset: offset, ..settings() });
        step(&mut one, 10 * W, &[span("a", 150)]);
        let settings = SeriesSettings { zero_offset: offset, ..settings() };
        one.task = SeriesTask::restore(settings, &one.task.snapshot()).expect("our own bytes");
        assert_eq!(step(&mut one, 11 * W, &[])[0][CALLS], [(11 * W, start)]);
    }
}

#[test]
fn a_layout_that_changes_leaves_starts_as_they_were() {
    let mut one = One::new(settings());
    step(&mut one, 10 * W, &[span("a", 150)]);
    one.source.bounds = vec![100, 300];
    let said = &step(&mut one, 11 * W, &[span("a", 150)])[0];
    assert_eq!(said[CALLS], [(11 * W, 10 * W - 1)]);
    let bucket = |le: &str| said[&format!(r#"traces_spanmetrics_latency_bucket{{le="{le}",service="a"}}"#)].clone();
    assert_eq!(bucket("0.0000001"), [(11 * W, 10 * W - 1)]);
    // The kept value of what is new, and the marker of what is gone.
    assert_eq!(bucket("0.0000003"), [(11 * W - 1, 10 * W - 1), (11 * W, 10 * W - 1)]);
    assert_eq!(bucket("0.0000002"), [(11 * W, 0)]);
}
