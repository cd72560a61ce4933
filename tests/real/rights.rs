//! What a worker does while Kafka's ACLs keep something from it, and once they do not.

use std::time::Duration;

use super::place::{Place, all_run, records, says, spans};
use crate::servers::kafka::RealKafka;
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

/// Every client may do everything with resources that no ACL names.
const AUTHORIZER: &str = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
";
/// `kafka.shards` of the tests.
const SHARDS: usize = 4;

/// ACLs on the topics whose names begin so: everything but these operations.
struct Denied<'a> {
    place: &'a Place,
    prefix: String,
    operations: Vec<&'a str>,
}

// === impl Denied ===

impl<'a> Denied<'a> {
    fn new(place: &'a Place, prefix: &str, operations: &[&'a str]) -> Self {
        let operations = operations.iter().flat_map(|o| ["--operation", *o]).collect();
        let denied = Self { place, prefix: prefix.to_owned(), operations };
        let all = ["--add", "--allow-principal", "User:*", "--operation", "All"];
        denied.acl(&all);
        denied.acl(&[&["--add", "--deny-principal", "User:*"], &denied.operations[..]].concat());
        denied
    }

    fn acl(&self, change: &[&str]) {
        let on = ["--topic", &self.prefix, "--resource-pattern-type", "prefixed"];
        self.place.kafka.tool("AclCommand", &[change, &on].concat());
    }

    fn grant(self) {
        self.acl(&[&["--remove", "--force", "--deny-principal", "User:*"], &self.operations[..]].concat());
    }
}

#[test]
fn a_journal_of_kafka_that_may_not_be_grown_is_said_and_grows_once_that_is_allowed() {
    let place = Place::start_on(RealKafka::start_with(AUTHORIZER), "guarded", 2);
    let settings = ["service_graphs.enabled=false"];
    let sent = records(Duration::from_secs(5));
    let each = spans(&sent);
    place.send(sent.iter().map(|r| (0, r)));
    let mut worker = place.worker("worker", &settings);
    let counted = |worker: &mut crate::servers::daemon::Daemon, times: f64| {
        wait_until("everything is counted", PATIENCE, || {
            crate::must_run(worker);
            let calls = place.calls();
            let all = calls.to_bits() == (times * each).to_bits();
            if all { Ok(()) } else { Err(format!("{calls} of {}\n{}", times * each, worker.tail())) }
        });
    };
    counted(&mut worker, 1.0);

    let journal = format!("{}-{}-journal", place.group(), place.topic);
    let denied = Denied::new(&place, &journal, &["Alter"]);
    place.kafka.tool("TopicCommand", &["--alter", "--topic", place.topic, "--partitions", "3"]);
    place.send((0..3).flat_map(|p| sent.iter().map(move |r| (p, r))));
    let log = says(&mut worker, &format!("topic=\"{journal}\" from=2 to=3"));
    assert!(log.contains("cannot grow a topic") && log.contains("Alter"), "{log}");
    // The partitions that have a journal are read meanwhile, also by one that starts without the right.
    counted(&mut worker, 3.0);
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
    let mut worker = place.worker("another worker", &settings);
    says(&mut worker, &format!("topic=\"{journal}\" from=2 to=3"));
    place.send((0..2).flat_map(|p| sent.iter().map(move |r| (p, r))));
    counted(&mut worker, 5.0);

    denied.grant();
    counted(&mut worker, 6.0);
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

#[test]
fn a_missing_right_to_delete_records_or_to_describe_topics_of_kafka_is_said_once_with_the_remedy_and_tried_again() {
    let place = Place::start_on(RealKafka::start_with(AUTHORIZER), "kept", 1);
    let denied = Denied::new(&place, &format!("{}-", place.group()), &["Delete", "DescribeConfigs"]);
    let mut worker = place.worker("worker", &[]);
    let produce = place.produce(&["--rate", "300", "--seed", "7"]);
    let log = says(&mut worker, "may not delete records");
    assert!(log.contains("may not describe the settings of topics"), "{log}");
    for remedy in ["Grant Delete on topics", "Grant DescribeConfigs on topics", "prefix=kept-group-"] {
        assert!(log.contains(remedy), "{remedy}: {log}");
    }
    // Many rounds later, there is still one line of each.
    let journal = format!("{}-{}-journal", place.group(), place.topic);
    let enough = place.bounds(&journal, 0).1 + 20;
    wait_until("the journal goes on", PATIENCE, || match place.bounds(&journal, 0) {
        (0, high) if high > enough => Ok(()),
        bounds => Err(format!("{bounds:?}")),
    });
    let log = worker.log();
    for line in ["may not delete records", "may not describe the settings of topics"] {
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
    denied.grant();
    for topic in [journal, format!("{}-deltas", place.group()), format!("{}-series-journal", place.group())] {
        wait_until("the topic is trimmed", PATIENCE, || match place.bounds(&topic, 0) {
            (0, high) => Err(format!("{topic}: nothing of {high}")),
            _ => Ok(()),
        });
    }
    says(&mut worker, "deletion of old records succeeds again");
    says(&mut worker, "checked the settings of the internal topics");
    let expected = place.end(produce);
    place.is_exact(&expected, |_| true);
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
}

#[test]
fn a_source_topic_of_kafka_that_may_not_be_looked_at_is_not_called_missing() {
    let place = Place::start_on(RealKafka::start_with(AUTHORIZER), "secret", 1);
    let denied = Denied::new(&place, place.topic, &["Describe", "Read"]);
    let mut worker = place.worker("worker", &[]);
    let log = says(&mut worker, "waiting for the source topics");
    assert!(!log.contains("does not exist") && log.contains("Describe"), "{log}");
    denied.grant();
    let sent = records(Duration::from_secs(5));
    place.send(sent.iter().map(|r| (0, r)));
    place.counts_to(spans(&sent));
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
    let worker = place.insider(&[]);
    all_run(&[&worker], 1 + SHARDS);
    worker.stop();
}
