//! `spanmill topics`: how far a group is, asked from outside.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind::Server;
use rdkafka::message::Message as _;
use spanmill::tools::receiver::Receiver;
use spanmill::worker::kafka::KafkaError;
use spanmill::worker::kafka::reader::Stretch;
use spanmill::worker::kafka::scan::Scanner;

use super::place::Place;
use super::scene::{Scene, record, resource, span, stop};
use crate::servers::wait_until;
use crate::{PATIENCE, must_run};

const TOPIC: &str = "lag";
const PARTITIONS: i32 = 2;

#[test]
fn the_lag_of_each_kafka_partition_its_owner_and_its_journal_are_told_with_and_without_a_worker() {
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let scene = Scene::start(receiver.url());
    let (said, code) = scene.asks("topics", TOPIC, &[]);
    assert!(code == Some(1) && said.contains("source topic lag does not exist"), "{said}");
    scene.create(TOPIC, PARTITIONS);
    let some = |n: u64| (0..n).map(move |i| (i as i32 % PARTITIONS, one_span(i + 1)));
    scene.send(TOPIC, some(10));
    let mut worker = scene.worker("worker", TOPIC, &["series.snapshot_every=1s"]);
    wait_until("all is read and owned", PATIENCE, || {
        must_run(&mut worker);
        let report = report(&scene);
        let all = report["partitions"].as_array().map_or(&[][..], Vec::as_slice);
        let read = all.iter().all(|row| row["lag_records"] == 0 || row["kind"] == "shard");
        let owned = all.iter().all(|row| row["owner"].as_str().is_some_and(|owner| owner.starts_with("spanmill at ")));
        if all.len() == PARTITIONS as usize + 4 && read && owned { Ok(()) } else { Err(report.to_string()) }
    });
    // As in every group that is older than a few minutes, the beginning of all journals has been deleted.
    let journals = (0..PARTITIONS).map(|p| ("lag-group-lag-journal", p));
    for (journal, partition) in journals.chain((0..4).map(|shard| ("lag-group-series-journal", shard))) {
        wait_until("the beginning of a journal is deleted", PATIENCE, || {
            let (low, end) = scene.bounds(journal, partition);
            if low > 0 { Ok(()) } else { Err(format!("{journal}[{partition}] has {end} records")) }
        });
    }
    wait_until("all is well", PATIENCE, || match scene.asks("topics", TOPIC, &["--output", "wide"]) {
        (said, Some(0)) if said.contains("lag[0]") && said.contains("lag-group-deltas[3]") => Ok(()),
        (said, _) => Err(said),
    });
    stop(worker);
    scene.send(TOPIC, some(6));
    let (said, code) = scene.asks("topics", TOPIC, &[]);
    assert!(code == Some(1) && said.contains("no member of the group owns it"), "{said}");
    let report = report(&scene);
    let row = report["partitions"].as_array().and_then(|rows| rows.first()).expect("the first partition");
    assert_eq!((&row["position"], &row["end"], &row["lag_records"]), (&5.into(), &8.into(), &3.into()), "{report}");
    assert!(row["journal_records"].as_u64() > Some(0) && row["lag_seconds"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn a_kafka_partition_that_loses_its_beginning_while_it_is_scanned_is_read_from_what_is_left() {
    let place = Place::start("scanned", 1);
    (0..10).for_each(|i| place.send_value(0, &[i]));
    let scanner = Scanner::new(&place.config(&[]).kafka).expect("a scanner");
    let scan = |to| {
        let mut found = Vec::new();
        let all = Stretch { topic: place.topic, partition: 0, from: 0, to };
        let read = scanner.read::<KafkaError>(all, &mut |record| {
            found.push(record.offset());
            Ok(())
        });
        read.map(|()| found).expect("what is left can be read")
    };
    place.delete_below(place.topic, 0, 6);
    assert_eq!(scan(10), [6, 7, 8, 9]);
    assert!(scan(6).is_empty());
}

fn report(scene: &Scene) -> serde_json::Value {
    let (said, _) = scene.asks("topics", TOPIC, &["--output", "json", "--set", "log.level=error"]);
    serde_json::from_str(said.lines().next().unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {said}"))
}

fn one_span(id: u64) -> Vec<u8> {
    record(vec![resource(&[("service.name", "web")], vec![span(id, "page", Server, Duration::from_millis(3))])])
}
