//! Whether what the brokers have acknowledged survives one of them: on three brokers, with the settings of internal topics.

use spanmill::config::settings::Kafka;
use spanmill::worker::kafka::topics::Topics;

use super::place::{Place, says};
use crate::servers::kafka::RealKafka;
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

#[test]
fn internal_topics_with_three_copies_on_kafka_need_two_of_them_to_take_a_record() {
    let place = Place::start_on(RealKafka::start_three(), "copied", 1);
    for (group, replication) in [("by-number", 3), ("by-default", -1)] {
        let kafka = Kafka { replication, group: group.to_owned(), ..place.config(&[]).kafka };
        let topics = Topics::new(&kafka).expect("a client");
        topics.ensure(&[(place.topic.to_owned(), 1)], 1, &mut || ()).expect("they are made");
        topics.ensure_plan().expect("it is made");
        for topic in ["copied-journal", "deltas", "series-journal", "plan"] {
            let topic = format!("{group}-{topic}");
            let said = place.kafka.tool("TopicCommand", &["--describe", "--topic", &topic]);
            assert!(said.contains("ReplicationFactor: 3") && said.contains("min.insync.replicas=2"), "{said}");
        }
    }
}

#[test]
fn internal_topics_of_kafka_that_could_lose_acknowledged_records_are_warned_of_with_the_remedy() {
    let place = Place::start_on(RealKafka::start_three(), "weak", 1);
    let create = |topic: &str, more: &[&str]| {
        let topic = format!("{}-{topic}", place.group());
        let forever = ["--config", "retention.ms=-1"];
        place.kafka.tool("TopicCommand", &[&["--create", "--topic", &topic], &forever[..], more].concat());
    };
    create("weak-journal", &["--partitions", "1", "--replication-factor", "3"]);
    create(
        "deltas",
        &["--partitions", "4", "--replication-factor", "3", "--config", "unclean.leader.election.enable=true"],
    );
    create("series-journal", &["--partitions", "4", "--replication-factor", "1"]);
    let mut worker = place.worker("worker", &[]);
    for said in [
        "topics=weak-group-deltas, weak-group-weak-journal risk=one replica is enough",
        "--add-config min.insync.replicas=2",
        "topics=weak-group-deltas risk=an election may choose a leader",
        "--add-config unclean.leader.election.enable=false",
        "topics=weak-group-series-journal risk=a single replica",
    ] {
        says(&mut worker, said);
    }
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
    let worker = place.insider(&[]);
    wait_until("the metric counts them", PATIENCE, || {
        let at_risk = |reason: &str| worker.metric(&format!("spanmill_topics_at_risk{{reason=\"{reason}\"}}"));
        match ["min_insync_replicas", "unclean_election", "one_copy", "unknown"].map(at_risk) {
            [2, 1, 1, 0] => Ok(()),
            found => Err(format!("{found:?}")),
        }
    });
    worker.stop();
}
