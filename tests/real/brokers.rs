//! Brokers of older releases.

use super::place::{Place, all_run, says};
use crate::STOPS_WITHIN;
use crate::servers::kafka::RealKafka;
use crate::servers::kafka::old::Release;

const PARTITIONS: u32 = 3;
/// One span task per partition, and the series tasks of `kafka.shards`.
const TASKS: usize = PARTITIONS as usize + 4;

/// A load while one worker is killed and another one takes over, and a third one that begins from what both left.
fn counts_are_exact(release: Release, topic: &'static str) {
    let place = Place::start_on(RealKafka::start_release(release), topic, PARTITIONS);
    let file = place.file();
    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_spanmill"))
        .args(["check", "--connect", "--config"])
        .arg(&file)
        .output()
        .expect("it runs");
    let found = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{found}{}", String::from_utf8_lossy(&checked.stderr));

    // Many commits, so that one of them is cut off by the kill.
    let settings = ["worker.max_commit_bytes=4KiB", "kafka.properties.session.timeout.ms=6000"];
    let mut first = place.worker("first", &settings);
    let produce = place.produce(&["--rate", "900", "--spans", "9000", "--seed", "28"]);
    says(&mut first, "first samples stored");
    let second = place.insider(&settings);
    first.kill();
    all_run(&[&second], TASKS);
    let expected = place.wait_for(produce);
    place.is_exact(&expected, |_| true);
    second.stop();
    let mut third = place.worker("third", &settings);
    // It has written what a clean shutdown needs, and restored what both left.
    says(&mut third, "condition met again condition=\"group\"");
    place.is_exact(&expected, |_| true);
    assert_eq!(third.terminate(STOPS_WITHIN).code(), Some(0), "{}", third.tail());
    let log = third.log();
    let alarming: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    assert_eq!(alarming, Vec::<&str>::new());

    let mut refused = place.worker("refused", &["kafka.group_protocol=consumer", "kafka.group=new"]);
    says(&mut refused, "brokers before Kafka 4.0 need kafka.group_protocol: classic");
}

#[test]
fn counts_are_exact_through_a_kill_on_kafka_2_8_with_zookeeper() {
    counts_are_exact(Release::V2_8, "on-2-8");
}

#[test]
fn counts_are_exact_through_a_kill_on_kafka_3_9() {
    counts_are_exact(Release::V3_9, "on-3-9");
}
