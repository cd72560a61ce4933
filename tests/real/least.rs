//! The rights of the table in docs/kafka-setup.md: they suffice, and a worker that lacks one names it.

use std::time::Duration;

use super::place::{Place, records, spans};
use crate::servers::daemon::Daemon;
use crate::servers::kafka::RealKafka;
use crate::servers::spanmill::spanmill;
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

const TOPIC: &str = "least";
/// All groups of the test begin so, and so do their topics.
const PREFIX: &str = "mill-";
/// The user who has all rights.
const ALL: &str = "all";

/// More than a worker logs in such a test, whatever it lacks.
const MANY_LINES: usize = 60;

/// A right of the table, and what a worker without it logs.
struct Right {
    /// The user who has all others.
    user: &'static str,
    on: Resource,
    operation: &'static str,
    /// Parts of one line.
    logged: [&'static str; 2],
}

#[derive(Clone, Copy)]
enum Resource {
    Source,
    Internal,
    Group,
}

const fn right(user: &'static str, on: Resource, operation: &'static str, logged: [&'static str; 2]) -> Right {
    Right { user, on, operation, logged }
}

/// Describe is not among them: each of Read, Write, Delete and Alter includes it.
const RIGHTS: [Right; 8] = [
    right("source", Resource::Source, "Read", ["cannot look up topic least", "TopicAuthorizationFailed"]),
    right(
        "configs",
        Resource::Internal,
        "DescribeConfigs",
        ["Grant DescribeConfigs on topics", "prefix=mill-configs-"],
    ),
    right("create", Resource::Internal, "Create", ["grant the right to create topics", ""]),
    right("read", Resource::Internal, "Read", ["this worker may not read the topic", "topic=\"mill-read-"]),
    right("write", Resource::Internal, "Write", ["grant Write on topics", "prefix=mill-write-"]),
    right("delete", Resource::Internal, "Delete", ["Grant Delete on topics", "prefix=mill-delete-"]),
    // It is needed once the source topic grows: tests/real/rights.rs.
    right("alter", Resource::Internal, "Alter", ["first samples stored", ""]),
    right("group", Resource::Group, "Read", ["this worker may not join the group", "group=\"mill-group\""]),
];

/// Gives a right to all users but the one that lacks it.
fn grant(place: &Place, right: &Right) {
    let mut args = vec!["--add".to_owned(), "--operation".to_owned(), right.operation.to_owned()];
    for user in RIGHTS.iter().map(|r| r.user).filter(|user| *user != right.user).chain([ALL]) {
        args.extend(["--allow-principal".to_owned(), format!("User:{user}")]);
    }
    let on: &[&str] = match right.on {
        Resource::Source => &["--topic", TOPIC],
        Resource::Internal => &["--topic", PREFIX, "--resource-pattern-type", "prefixed"],
        Resource::Group => &["--group", PREFIX, "--resource-pattern-type", "prefixed"],
    };
    let args: Vec<&str> = args.iter().map(String::as_str).chain(on.iter().copied()).collect();
    place.kafka.tool("AclCommand", &args);
}

/// A worker that logs in as a user, in a group of its own; its series have the user as a label.
fn worker(config: &str, address: &str, user: &str) -> Daemon {
    let own = [
        format!("kafka.brokers={address}"),
        format!("kafka.group={PREFIX}{user}"),
        "kafka.properties.security.protocol=SASL_PLAINTEXT".to_owned(),
        "kafka.properties.sasl.mechanisms=PLAIN".to_owned(),
        format!("kafka.properties.sasl.username={user}"),
        format!("kafka.properties.sasl.password={user}"),
        format!("series.external_labels={{user: {user}}}"),
        "service_graphs.enabled=false".to_owned(),
    ];
    let mut args = vec!["run", "--config", config];
    own.iter().for_each(|set| args.extend(["--set", set]));
    spanmill(user, &args)
}

#[test]
fn the_rights_of_the_table_suffice_on_kafka_and_a_worker_without_one_of_them_names_it() {
    let users: Vec<&str> = RIGHTS.iter().map(|r| r.user).chain([ALL]).collect();
    let (kafka, address) = RealKafka::start_with_users(&users);
    let place = Place::start_on(kafka, TOPIC, 1);
    RIGHTS.iter().for_each(|right| grant(&place, right));
    let sent = records(Duration::from_secs(5));
    place.send(sent.iter().map(|record| (0, record)));
    let file = place.file();
    let config = file.to_str().expect("a temporary path is UTF-8");
    let workers: Vec<(&Right, Daemon)> =
        RIGHTS.iter().map(|right| (right, worker(config, &address, right.user))).collect();
    let mut all = worker(config, &address, ALL);
    let counted = |user: &str| -> f64 {
        let label = format!("user=\"{user}\"");
        let of_user = |(name, _): &(String, _)| name.contains("calls_total") && name.contains(&label);
        place.receiver.snapshot().into_iter().filter(of_user).map(|(_, s)| s.last_value).sum()
    };
    wait_until("everything is counted with all rights", PATIENCE, || {
        crate::must_run(&mut all);
        let calls = counted(ALL);
        if calls.to_bits() == spans(&sent).to_bits() { Ok(()) } else { Err(format!("{calls}\n{}", all.tail())) }
    });
    assert_eq!(all.terminate(STOPS_WITHIN).code(), Some(0), "{}", all.tail());
    for (right, worker) in &workers {
        wait_until("the right is named", PATIENCE, || {
            let log = worker.log();
            assert!(log.lines().count() < MANY_LINES, "{log}");
            let names_it = |line: &str| right.logged.iter().all(|part| line.contains(part));
            if log.lines().any(names_it) { Ok(()) } else { Err(format!("{:?}: {}", right.logged, worker.tail())) }
        });
    }
}
