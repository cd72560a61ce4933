//! Groups and topics whose names make the same name of an internal topic.

use std::time::Duration;

use super::place::{Place, all_run, records, says, spans};
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

/// `kafka.shards` of the tests.
const SHARDS: usize = 4;

#[test]
fn a_journal_of_kafka_that_belongs_to_another_group_of_that_name_is_refused_with_its_owner() {
    // Both would have the journal x-y-z-journal.
    let place = Place::start("y-z", 1);
    let owner = ["kafka.group=x", "service_graphs.enabled=false"];
    let sent = records(Duration::from_secs(5));
    place.send(sent.iter().map(|r| (0, r)));
    let worker = place.insider(&owner);
    place.counts_to(spans(&sent));
    let fenced = || worker.metric("spanmill_tasks_fenced_total");
    let before = fenced();

    place.kafka.tool("TopicCommand", &["--create", "--topic", "z", "--partitions", "1"]);
    let stranger = ["kafka.group=x-y", "kafka.topics=z", "service_graphs.enabled=false"];
    let mut other = place.worker("worker of another group", &stranger);
    let log = says(&mut other, "x-y-z-journal[0] belongs to topic y-z of group x");
    assert!(log.contains("another kafka.group"), "{log}");
    let again = records(Duration::from_secs(1));
    place.send(again.iter().map(|r| (0, r)));
    place.counts_to(spans(&sent) + spans(&again));
    assert_eq!(fenced(), before, "the owner has not been disturbed");
    assert_eq!(other.terminate(STOPS_WITHIN).code(), Some(0), "{}", other.tail());
    worker.stop();

    // Also while its owner is away, and when nothing is left of its claims.
    let mut other = place.worker("worker of another group", &stranger);
    says(&mut other, "x-y-z-journal[0] belongs to topic y-z of group x");
    assert_eq!(other.terminate(STOPS_WITHIN).code(), Some(0), "{}", other.tail());
    let worker = place.insider(&owner);
    place.send(sent.iter().map(|r| (0, r)));
    place.counts_to(2.0 * spans(&sent) + spans(&again));
    worker.stop();
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

#[test]
fn a_source_topic_of_kafka_that_is_called_series_has_a_journal_of_its_own() {
    let place = Place::start("series", 4);
    let sent = records(Duration::from_secs(5));
    place.send((0..4).flat_map(|p| sent.iter().map(move |r| (p, r))));
    let worker = place.insider(&["service_graphs.enabled=false"]);
    all_run(&[&worker], 4 + SHARDS);
    wait_until("everything is counted", PATIENCE, || match place.calls() {
        calls if calls.to_bits() == (4.0 * spans(&sent)).to_bits() => Ok(()),
        calls => Err(format!("{calls} of {}", 4.0 * spans(&sent))),
    });
    worker.stop();
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}
