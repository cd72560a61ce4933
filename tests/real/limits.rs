//! An explosion of label sets, and what limits make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind::Internal;

use super::scene::{Scene, record, resource, span, stop, with};
use crate::servers::api::Api;
use crate::servers::daemon::Daemon;
use crate::servers::metrics::RealPrometheus;
use crate::servers::series::{Series, Values};
use crate::servers::wait_until;
use crate::{PATIENCE, must_run, no_counter_went_down, stored};

const TOPIC: &str = "explosion";
const PARTITIONS: i32 = 4;
const SERVICES: [&str; 3] = ["cart", "pay", "web"];
/// Of one service in one round. Every one has a name of its own.
const SPANS: u64 = 600;
/// Distinct values of the other labels: their combinations explode, too.
const CUSTOMERS: u64 = 9;
const REGIONS: u64 = 11;
/// `limits.max_cardinality_per_label`
const VALUES: usize = 6;
/// `limits.max_active_series_per_service`
const SERIES: usize = 400;
/// `limits.max_active_series`, and the topic of that test.
const TENANT: usize = 2_000;
const ALL_IN_ONE: &str = "tenant";
/// Series of a label set: calls, size, 15 buckets, sum and count.
const OF_A_SET: usize = 19;

#[test]
fn an_explosion_in_kafka_leaves_exact_totals_in_few_series_of_prometheus_whoever_writes_them() {
    let prometheus = RealPrometheus::start();
    let api = &prometheus.api;
    let scene = Scene::start(api.write_url());
    scene.create(TOPIC, PARTITIONS);
    let settings = [
        "span_metrics.dimensions=customer,region",
        &format!("limits.max_active_series_per_service={SERIES}"),
        &format!("limits.max_cardinality_per_label={VALUES}"),
        "service_graphs.enabled=false",
        // The shortest that the broker takes: a dead worker's part goes to the other one.
        "kafka.properties.session.timeout.ms=6000",
    ];
    let start = |name| scene.worker(name, TOPIC, &settings);
    let (mut first, mut second) = (start("worker 1"), start("worker 2"));
    wait_until("each has half of either group", PATIENCE, || {
        [&mut first, &mut second].into_iter().for_each(must_run);
        let log = first.tail() + &second.tail();
        // Of each group, the one who came later, or both.
        if log.matches("assigned count=2").count() > 1 { Ok(()) } else { Err(log) }
    });
    let counted = |rounds: u64, worker: &mut Daemon| {
        wait_until("every span is counted", PATIENCE, || {
            must_run(worker);
            let calls = calls_by_service(api)?;
            let expected = SERVICES.map(|service| (service.to_owned(), (rounds * SPANS) as f64));
            if calls == BTreeMap::from(expected) { Ok(()) } else { Err(format!("{calls:?}\n{}", worker.tail())) }
        });
    };
    scene.send(TOPIC, explosion(0));
    counted(1, &mut second);
    let before = stored(api).expect("a query");
    few_and_whole(&before);

    // Dropping it is `kill -9`, while new names are under way.
    scene.send(TOPIC, explosion(1));
    drop(first);
    counted(2, &mut second);
    let mut third = start("worker 3");
    scene.send(TOPIC, explosion(2));
    counted(3, &mut third);
    let after = stored(api).expect("a query");
    assert_eq!(series(&after), series(&before), "all services were full, so all new names went where others had gone");
    no_counter_went_down(api, &after);
    [second, third].into_iter().for_each(stop);
}

#[test]
fn the_series_of_a_tenant_in_prometheus_stay_within_their_limit_whatever_comes_through_kafka() {
    let prometheus = RealPrometheus::start();
    let api = &prometheus.api;
    let scene = Scene::start(api.write_url());
    scene.create(ALL_IN_ONE, PARTITIONS);
    let limit = format!("limits.max_active_series={TENANT}");
    let settings = [limit.as_str(), "service_graphs.enabled=false"];
    let mut worker = scene.worker("worker", ALL_IN_ONE, &settings);
    for round in 0..2 {
        scene.send(ALL_IN_ONE, explosion(round));
        let expected = SERVICES.map(|service| (service.to_owned(), ((round + 1) * SPANS) as f64));
        wait_until("every span is counted, by its service", PATIENCE, || {
            must_run(&mut worker);
            let calls = calls_by_service(api)?;
            if calls == BTreeMap::from(expected.clone()) {
                Ok(())
            } else {
                Err(format!("{calls:?}\n{}", worker.tail()))
            }
        });
        let stored = stored(api).expect("a query");
        let (instead, own): (Vec<_>, Vec<_>) = stored.keys().partition(|s| s.label("metric_overflow") == "true");
        println!("{} series of {TENANT}, and {} instead of the rest", own.len(), instead.len());
        // Shared out between the shards by an estimate.
        assert!(own.len() > TENANT / 2 && own.len() <= TENANT + TENANT / 20, "{} series", own.len());
        assert!(!instead.is_empty() && instead.len() <= SERVICES.len() * OF_A_SET, "{} series", instead.len());
        no_counter_went_down(api, &stored);
    }
    assert!(worker.tail().contains("label sets exceed a limit"), "{}", worker.tail());
    stop(worker);
}

/// Names that no round before had, over all partitions.
fn explosion(round: u64) -> Vec<(i32, Vec<u8>)> {
    let records = (0..SPANS / 10).map(|n| {
        let spans = |service: u64| {
            let ids = (0..10).map(move |i| (round * 3 + service) * SPANS + n * 10 + i);
            let made = ids.map(|id| {
                let span = span(id + 1, &format!("GET /users/{id}"), Internal, Duration::from_millis(id % 50));
                let span = with(span, "customer", Value::IntValue((id % CUSTOMERS) as i64));
                with(span, "region", Value::IntValue((id % REGIONS) as i64))
            });
            made.collect()
        };
        let of = |(number, service): (u64, &&str)| resource(&[("service.name", *service)], spans(number));
        (n as i32 % PARTITIONS, record((0..).zip(&SERVICES).map(of).collect()))
    });
    records.collect()
}

fn calls_by_service(api: &Api) -> Result<BTreeMap<String, f64>, String> {
    let rows = api.instant("sum by (service) (traces_spanmetrics_calls_total)")?;
    Ok(rows.into_iter().map(|row| (row.series.label("service").to_owned(), row.value)).collect())
}

/// The limits hold, and every label set has all its series once.
fn few_and_whole(stored: &Values) {
    let overflow = ["__cardinality_overflow__", ""];
    for service in SERVICES {
        let of_service = |s: &&Series| s.label("service") == service;
        let all: Vec<&Series> = stored.keys().filter(of_service).collect();
        let (instead, own): (Vec<_>, Vec<_>) = all.iter().copied().partition(|s| s.label("metric_overflow") == "true");
        assert!(own.len() <= SERIES && own.len() + OF_A_SET > SERIES, "{service} has {} series", own.len());
        assert_eq!(instead.len(), OF_A_SET, "{service}: one set takes the rest");
        for label in ["span_name", "customer", "region"] {
            let values: BTreeSet<&str> = all.iter().map(|s| s.label(label)).filter(|v| !overflow.contains(v)).collect();
            assert!(values.len() <= VALUES, "{service} has {} values of {label}", values.len());
        }
        assert!(all.iter().any(|s| s.label("span_name") == overflow[0]), "{service}: no name is left out");
        let sets = |metric: &str| -> BTreeSet<BTreeMap<String, String>> {
            all.iter().filter(|s| s.name == metric).map(|s| s.labels.clone()).collect()
        };
        assert_eq!(sets("traces_spanmetrics_calls_total"), sets("traces_spanmetrics_latency_count"));
        assert_eq!(all.len(), sets("traces_spanmetrics_calls_total").len() * OF_A_SET, "{service}");
    }
}

fn series(values: &Values) -> BTreeSet<&Series> {
    values.keys().collect()
}
