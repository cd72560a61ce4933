//! Readiness and metrics against the truth: everything that a worker needs is taken away, one by one, while it runs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use spanmill::tools::receiver::Fault;
use spanmill::worker::admin::Admin;

use super::place::{Insider, Place, all_run, records};
use crate::PATIENCE;
use crate::servers::kafka::RealKafka;
use crate::servers::wait_until;

const PARTITIONS: u32 = 2;
/// Both partitions and the four shards.
const TASKS: usize = 6;
/// Within this time a worker must say what it lacks. Three heartbeats, and the time of a busy machine.
const NOTICES_WITHIN: Duration = Duration::from_secs(25);
const GROUP: &str = "Read of the group";
const INTERNAL: &str = "Read of the internal topics";
const USER: &str = "mill";
const SERVED: [&str; 3] =
    ["admin.listen=127.0.0.1:0", "kafka.properties.heartbeat.interval.ms=1000", "admin.ready_max_lag=300s"];

/// A worker and what it answers.
struct House {
    insider: Insider,
    admin: Admin,
    /// The label of the rows of its source.
    source: String,
}

impl House {
    fn start(place: &Place, settings: &[&str]) -> Self {
        let (insider, admin) = place.served(&[&SERVED, settings].concat());
        let house = Self { insider, admin, source: format!("topic=\"{}\"", place.topic) };
        all_run(&[&house.insider], TASKS);
        house.gets_ready("it starts");
        house
    }

    fn ask(&self, path: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.admin.addr()).expect("it listens");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("an answer");
        (text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), text)
    }

    /// Waits until it is not ready because of one of these conditions; what it says, and how long that took.
    fn is_unready(&self, what: &str, conditions: &[&str]) -> (String, Duration) {
        let began = Instant::now();
        let text = wait_until(what, NOTICES_WITHIN, || match self.ask("/readyz") {
            (503, text) if conditions.iter().any(|c| text.contains(&format!("\n{c}: "))) => Ok(text),
            (status, text) => Err(format!("{status}: {text}")),
        });
        assert_eq!(self.ask("/healthz").0, 200, "{what}: that is no reason to end the process");
        let said = text.split("\r\n\r\n").nth(1).unwrap_or_default();
        println!("{what}: not ready after {:.1} s: {said}", began.elapsed().as_secs_f64());
        (text, began.elapsed())
    }

    fn gets_ready(&self, what: &str) {
        wait_until(what, PATIENCE, || match self.ask("/readyz") {
            (200, _) => Ok(()),
            (status, text) => Err(format!("{status}: {text}")),
        });
    }

    /// The rows of a metric.
    fn rows(&self, metric: &str) -> Vec<String> {
        self.ask("/metrics").1.lines().filter(|line| line.starts_with(metric)).map(str::to_owned).collect()
    }

    /// Lag and ledger have one row for every partition, which says what it is worth.
    fn keeps_its_rows(&self, what: &str) {
        for (metric, label) in [("spanmill_lag_seconds{", ""), ("spanmill_spans_read_total{", "")] {
            let all = self.rows(metric);
            for partition in 0..PARTITIONS {
                let of_it = [label, &self.source, &format!("partition=\"{partition}\"")];
                let rows: Vec<_> = all.iter().filter(|row| of_it.iter().all(|label| row.contains(label))).collect();
                let [row] = rows[..] else { panic!("{what}: {metric} of partition {partition}: {rows:?} of {all:?}") };
                let worth = ["owned", "unconfirmed", "restoring", "lost"];
                assert!(worth.iter().any(|state| row.contains(&format!("state=\"{state}\""))), "{what}: {row}");
            }
        }
    }

    /// Waits until no row of a partition of the source is called owned.
    fn owns_nothing(&self, what: &str) {
        wait_until(what, NOTICES_WITHIN, || {
            let rows = [self.rows("spanmill_lag_seconds{"), self.rows("spanmill_spans_read_total{")].concat();
            match rows.into_iter().find(|row| row.contains(&self.source) && row.contains("state=\"owned\"")) {
                None => Ok(()),
                Some(row) => Err(row),
            }
        });
    }

    fn end(self) {
        self.insider.stop();
        self.admin.stop();
    }
}

fn load(place: &Place) {
    let records = records(Duration::from_secs(3));
    place.send(records.iter().zip((0..PARTITIONS as i32).cycle()).map(|(record, partition)| (partition, record)));
}

fn counts_something(place: &Place) {
    wait_until(
        "something is counted",
        PATIENCE,
        || if place.calls() > 0.0 { Ok(()) } else { Err("nothing".to_owned()) },
    );
}

#[test]
fn a_worker_on_a_frozen_kafka_is_not_ready_and_keeps_its_rows() {
    let place = Place::start("frozen", PARTITIONS);
    let house = House::start(&place, &[]);
    load(&place);
    counts_something(&place);
    place.kafka.signal("STOP");
    house.is_unready("the broker is frozen", &["group", "fetch"]);
    house.keeps_its_rows("the broker is frozen");
    // Longer than its session: the groups would have evicted it.
    let text = wait_until("its session is over", PATIENCE, || match house.ask("/readyz").1 {
        text if text.contains("not known to be a member") => Ok(text),
        text => Err(text),
    });
    assert!(text.contains("kafka.brokers"), "{text}");
    house.keeps_its_rows("its session is over");
    house.owns_nothing("they are not confirmed");
    place.kafka.signal("CONT");
    house.gets_ready("the broker is back");
    assert!(house.rows("spanmill_spans_read_total{").iter().all(|row| row.contains("state=\"owned\"")));
    house.end();
}

#[test]
fn a_worker_whose_receiver_refuses_everything_or_is_gone_is_not_ready_and_lives_on() {
    let place = Place::start("refused_kafka", PARTITIONS);
    let house = House::start(&place, &[]);
    load(&place);
    counts_something(&place);
    for status in [400, 503] {
        place.receiver.fault(&Fault::Status(status), 300_000);
        let what = format!("the receiver answers {status}");
        let began = Instant::now();
        let text = wait_until(&what, PATIENCE, || {
            // Something must be sent for a refusal to show.
            load(&place);
            match house.ask("/readyz") {
                (503, text) if text.contains("\nexport: ") => Ok(text),
                (status, text) => Err(format!("{status}: {text} {:?}", house.rows("spanmill_samples"))),
            }
        });
        println!("{what}: not ready after {:.1} s: {text}", began.elapsed().as_secs_f64());
        assert_eq!(house.ask("/healthz").0, 200);
        place.receiver.mend();
        wait_until("the receiver is back", PATIENCE, || {
            load(&place);
            match house.ask("/readyz") {
                (200, _) => Ok(()),
                (status, text) => Err(format!("{status}: {text}")),
            }
        });
    }
    house.end();
}

/// What the worker may do, by the arguments of Kafka's own tool.
fn rights(topic: &str) -> Vec<(String, Vec<String>)> {
    let group = format!("{topic}-group");
    let one = |name: &str, args: &[&str]| (name.to_owned(), args.iter().map(|arg| (*arg).to_owned()).collect());
    vec![
        one(GROUP, &["--operation", "Read", "--group", &group]),
        one("Read of the group of shards", &["--operation", "Read", "--group", &format!("{group}-shards")]),
        one("Read of the source", &["--operation", "Read", "--topic", topic]),
        one("Write of the deltas", &["--operation", "Write", "--topic", &format!("{group}-deltas")]),
        one("Write of the journal", &["--operation", "Write", "--topic", &format!("{group}-{topic}-journal")]),
        one("Write of the series journal", &["--operation", "Write", "--topic", &format!("{group}-series-journal")]),
        one(INTERNAL, &["--operation", "Read", "--topic", &group, "--resource-pattern-type", "prefixed"]),
    ]
}

fn acl(place: &Place, what: &str, args: &[String]) {
    let user = format!("User:{USER}");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    place.kafka.tool("AclCommand", &[&[what, "--force", "--allow-principal", &user], &args[..]].concat());
}

fn password(place: &Place, password: &str) {
    let config = format!("SCRAM-SHA-256=[iterations=4096,password={password}]");
    let args = ["--alter", "--add-config", &config, "--entity-type", "users", "--entity-name", USER];
    place.kafka.admin("ConfigCommand", &args);
}

/// A guarded Kafka, a worker with all rights that it needs.
fn guarded(topic: &'static str) -> (Place, House) {
    let (kafka, address) = RealKafka::start_guarded();
    let place = Place::start_on(kafka, topic, PARTITIONS);
    password(&place, "old");
    let all = |args: &[&str]| acl(&place, "--add", &args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
    all(&["--operation", "Describe", "--operation", "Create", "--operation", "DescribeConfigs", "--topic", "*"]);
    rights(topic).iter().for_each(|(_, args)| acl(&place, "--add", args));
    let brokers = format!("kafka.brokers={address}");
    let settings = [
        brokers.as_str(),
        "kafka.properties.security.protocol=SASL_PLAINTEXT",
        "kafka.properties.sasl.mechanisms=SCRAM-SHA-256",
        "kafka.properties.sasl.username=mill",
        "kafka.properties.sasl.password=old",
    ];
    let house = House::start(&place, &settings);
    load(&place);
    counts_something(&place);
    (place, house)
}

#[test]
fn a_worker_on_kafka_says_which_right_it_lacks_and_is_ready_again_when_it_has_it() {
    let (place, house) = guarded("rights");
    let conditions: [&[&str]; 7] = [&["group"], &["group"], &["fetch"], &["write"], &["write"], &["write"], &["fetch"]];
    for ((what, args), conditions) in rights(place.topic).iter().zip(conditions) {
        acl(&place, "--remove", args);
        load(&place);
        house.is_unready(&format!("without {what}"), conditions);
        house.keeps_its_rows(what);
        if what == GROUP {
            house.owns_nothing("a group that may not be read has no members");
        }
        acl(&place, "--add", args);
        house.gets_ready(&format!("{what} is back"));
    }
    house.end();
}

#[test]
fn a_worker_whose_password_for_kafka_was_changed_is_not_ready_and_keeps_its_rows() {
    let (place, house) = guarded("password");
    password(&place, "new");
    let (text, _) = house.is_unready("the password was changed", &["group", "fetch"]);
    assert!(text.contains("the broker rejects the user or the password"), "{text}");
    house.keeps_its_rows("the password was changed");
    password(&place, "old");
    house.gets_ready("the password is back");
    house.end();
}
