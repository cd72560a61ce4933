//! Workers that come, go and come back: what that costs the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use spanmill::core::journal::{Frame, FrameKind, Owner};

use super::place::{Insider, Place, all_run};
use crate::servers::kafka::RealKafka;
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

const PARTITIONS: i32 = 4;
/// `kafka.shards` of the tests.
const SHARDS: usize = 4;
const TASKS: usize = PARTITIONS as usize + SHARDS;
/// How long nothing moves, at the least, while a worker rests for 30 s or more.
const QUIET: Duration = Duration::from_secs(15);
/// Times that a worker must be evicted before it backs off.
const LOSSES: usize = 5;

/// A frame of the journal of a partition.
#[derive(Debug, Clone, Copy)]
struct Written {
    partition: i32,
    /// When it was appended, in milliseconds since the epoch.
    at: i64,
    owner: Owner,
    kind: FrameKind,
}

/// Reads the journals while they are written: what is not needed any more is deleted.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Written>>,
}

/// A partition that went from one owner to another.
#[derive(Debug)]
struct Move {
    /// The last commit of the one, the first of the other.
    from: i64,
    to: i64,
}

#[test]
fn a_static_member_of_a_kafka_group_that_comes_back_in_time_moves_nothing_and_a_second_one_of_its_name_shuts_it_out() {
    let place = Place::start("static", PARTITIONS.unsigned_abs());
    let session = "kafka.properties.session.timeout.ms=40000";
    let heartbeat = "kafka.properties.heartbeat.interval.ms=500";
    let stays = place.insider(&[session, heartbeat, "kafka.properties.group.instance.id=stays"]);
    // On its way to all tasks it has half of them, too.
    all_run(&[&stays], TASKS);
    let other = [session, heartbeat, "kafka.properties.group.instance.id=other"];
    let mut second = place.worker("second", &other);
    halves(&stays);
    let produce = place.produce(&["--rate", "300", "--seed", "7"]);
    caught_up(&place);
    let (rebalances, mine) = (stays.metric("spanmill_rebalances_total"), stays.running());

    assert_eq!(second.terminate(STOPS_WITHIN).code(), Some(0), "{}", second.tail());
    for how in ["SIGTERM", "kill -9"] {
        let began = Instant::now();
        // Dropping the one before is `kill -9`.
        second = place.worker("second again", &other);
        caught_up(&place);
        println!("everything is fresh again {:.1} s after {how}", began.elapsed().as_secs_f64());
        assert_eq!(
            (stays.metric("spanmill_rebalances_total"), stays.running()),
            (rebalances, mine.clone()),
            "after {how}"
        );
    }

    let third = place.worker("third", &other);
    assert_eq!(second.finish(PATIENCE).code(), Some(1), "{}", second.tail());
    assert!(second.tail().contains("group.instance.id"), "{}", second.tail());
    caught_up(&place);
    let expected = place.end(produce);
    place.is_exact(&expected, |_| true);
    drop(third);
    stays.stop();
}

#[test]
fn a_kafka_group_whose_brokers_share_partitions_out_moves_them_and_counts_stay_exact_through_a_kill() {
    let kafka = RealKafka::start_with(
        "group.consumer.min.session.timeout.ms=6000\ngroup.consumer.session.timeout.ms=6000\n\
         group.consumer.min.heartbeat.interval.ms=1000\ngroup.consumer.heartbeat.interval.ms=1000\n",
    );
    let place = Place::start_on(kafka, "brokered", PARTITIONS.unsigned_abs());
    let settings = ["kafka.group_protocol=consumer"];
    // Workers of a group are changed one after the other.
    let old = place.insider(&[]);
    all_run(&[&old], TASKS);
    let stays = place.insider(&settings);
    halves(&stays);
    old.stop();
    all_run(&[&stays], TASKS);
    let mut second = place.worker("second", &settings);
    halves(&stays);
    let produce = place.produce(&["--rate", "600", "--spans", "6000", "--seed", "7"]);
    caught_up(&place);
    second.kill();
    all_run(&[&stays], TASKS);
    let expected = place.wait_for(produce);
    place.is_exact(&expected, |_| true);
    stays.stop();
}

#[test]
fn partitions_of_a_kafka_group_that_stay_with_their_worker_are_read_on_while_others_move() {
    let place = Place::start("moving", PARTITIONS.unsigned_abs());
    // A commit with every record: the journals then tell when what was read.
    let settings = [
        "worker.max_commit_bytes=1KiB",
        "kafka.journal_retention=1h",
        "kafka.properties.heartbeat.interval.ms=500",
        "kafka.properties.session.timeout.ms=60000",
    ];
    let stays = place.insider(&settings);
    all_run(&[&stays], TASKS);
    let watch = Watch::start(&place);
    let produce = place.produce(&["--rate", "1200", "--seed", "7"]);
    caught_up(&place);
    let joined = now();
    let mut second = place.worker("second", &settings);
    halves(&stays);
    caught_up(&place);
    let left = now();
    assert_eq!(second.terminate(STOPS_WITHIN).code(), Some(0), "{}", second.tail());
    all_run(&[&stays], TASKS);
    caught_up(&place);
    let expected = place.end(produce);
    place.is_exact(&expected, |_| true);
    stays.stop();

    let written = watch.end();
    for (what, from, to) in [("joins", joined, left), ("leaves", left, i64::MAX)] {
        let parts: Vec<(i32, Option<Move>)> = (0..PARTITIONS).map(|p| (p, moved(&written, p, from, to))).collect();
        let moves: Vec<&Move> = parts.iter().filter_map(|(_, m)| m.as_ref()).collect();
        assert!((1..PARTITIONS as usize).contains(&moves.len()), "a worker {what}: {parts:?}");
        let (begin, end) =
            (moves.iter().map(|m| m.from).min().unwrap_or(from), moves.iter().map(|m| m.to).max().unwrap_or(to));
        let away: Vec<i64> = moves.iter().map(|m| m.to - m.from).collect();
        for (p, _) in parts.iter().filter(|(_, m)| m.is_none()) {
            let commits = |from, to| commits(&written, *p, from, to);
            assert!(!commits(begin, end).is_empty(), "a worker {what}: nothing of {p} was read meanwhile");
            println!(
                "a worker {what}: {away:?} ms without a commit where it moves partitions; at most {} ms in partition {p}, which \
                 stays, and {} ms in a calm of the same length",
                longest_gap(&commits(begin - 1_000, end + 1_000)),
                longest_gap(&commits(begin - (end - begin) - 3_000, begin - 1_000)),
            );
        }
    }
}

#[test]
fn a_kafka_group_that_never_settles_is_a_storm_in_the_metrics_and_the_counts_stay_exact() {
    let place = Place::start("stormy", PARTITIONS.unsigned_abs());
    let steady = place.insider(&["kafka.properties.heartbeat.interval.ms=300"]);
    all_run(&[&steady], TASKS);
    let produce = place.produce(&["--rate", "300", "--seed", "7"]);
    caught_up(&place);
    assert_eq!(steady.metric("spanmill_rebalance_storms_total"), 0);
    // A member that joins and leaves and never works.
    let guest = |group: &str, topic: &str| -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &place.kafka.brokers).set("group.id", group).set("auto.offset.reset", "latest");
        config.set("partition.assignment.strategy", "cooperative-sticky").set("heartbeat.interval.ms", "300");
        // What it commits would be taken for an instruction.
        config.set("enable.auto.commit", "false");
        let guest: BaseConsumer = config.create().expect("a consumer");
        guest.subscribe(&[topic]).expect("a subscription");
        guest
    };
    let (group, topic) = (place.group(), place.topic);
    let mut visits = 0;
    while steady.metric("spanmill_rebalance_storms_total") == 0 {
        let guests = [guest(&group, topic), guest(&format!("{group}-shards"), &format!("{group}-deltas"))];
        wait_until("the guests have their part", PATIENCE, || {
            let parts = guests.each_ref().map(|guest| {
                drop(guest.poll(Duration::from_millis(50)));
                guest.assignment().map_or(0, |list| list.count())
            });
            if parts.iter().all(|n| *n > 0) { Ok(()) } else { Err(format!("{parts:?}")) }
        });
        drop(guests);
        all_run(&[&steady], TASKS);
        visits += 1;
        assert!(visits < 30, "no storm after {visits} visits, {} moves", steady.metric("spanmill_rebalances_total"));
    }
    println!("a storm after {visits} visits");
    let expected = place.end(produce);
    place.is_exact(&expected, |_| true);
    assert!(steady.metric("spanmill_rebalance_storms_total") > 0);
    steady.stop();
}

#[test]
fn a_worker_that_its_kafka_group_keeps_throwing_out_rests_while_the_other_has_its_partitions_and_comes_back() {
    let kafka = RealKafka::start_with("group.min.session.timeout.ms=1000\n");
    let place = Place::start_on(kafka, "unsteady", PARTITIONS.unsigned_abs());
    let heartbeat = "kafka.properties.heartbeat.interval.ms=300";
    let steady = place.insider(&[heartbeat, "kafka.properties.session.timeout.ms=60000"]);
    all_run(&[&steady], TASKS);
    let mut unsteady = place.worker("unsteady", &[heartbeat, "kafka.properties.session.timeout.ms=3000"]);
    let produce = place.produce(&["--rate", "300", "--seed", "7"]);
    let rests = "worker repeatedly evicted from the consumer group";
    let mut known = 0;
    for freeze in 0.. {
        let revoked = wait_until("it has noticed, and has its half of each group again or rests", PATIENCE, || {
            let log = unsteady.log();
            let [assigned, revoked] = [" assigned count=", " revoked count="].map(|what| log.matches(what).count());
            let again = revoked >= known && assigned >= revoked + 2;
            if again || log.contains(rests) { Ok(revoked) } else { Err(unsteady.tail()) }
        });
        if unsteady.log().contains(rests) {
            break;
        }
        assert!(freeze < 2 * LOSSES, "{}", unsteady.log());
        known = revoked + 2;
        unsteady.signal("STOP");
        all_run(&[&steady], TASKS);
        unsteady.signal("CONT");
    }
    let log = unsteady.log();
    let (before, _) = log.split_once(rests).expect("it has said so");
    assert!(before.matches("lost=true").count() >= LOSSES, "{before}");
    let (began, mut last, mut still) = (Instant::now(), None, Instant::now());
    wait_until("it comes back", PATIENCE, || {
        // In this order: what is seen before it says so was so before it came back.
        let seen = (steady.running().len(), steady.metric("spanmill_rebalances_total"));
        let log = unsteady.tail();
        if log.contains("rejoining the consumer group after the backoff") {
            return Ok(());
        }
        if last.replace(seen) != Some(seen) {
            still = Instant::now();
        }
        Err(format!("{last:?}\n{log}"))
    });
    println!("it rested for {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(last.map(|(tasks, _)| tasks), Some(TASKS), "the other has everything");
    assert!(still.elapsed() > QUIET, "the last move was {:?} before its return", still.elapsed());
    halves(&steady);
    let expected = place.end(produce);
    place.is_exact(&expected, |_| true);
    assert_eq!(unsteady.terminate(STOPS_WITHIN).code(), Some(0), "{}", unsteady.tail());
    assert_eq!(steady.metric("spanmill_group_backoffs_total"), 0);
    steady.stop();
}

/// Waits until a worker has half of the tasks, and another one the rest.
fn halves(worker: &Insider) {
    wait_until("the other half is with another worker", PATIENCE, || match worker.running().len() {
        n if n == TASKS / 2 => Ok(()),
        n => Err(format!("{n} tasks")),
    });
}

/// Waits until every series has a sample of a step that ends after now.
fn caught_up(place: &Place) {
    let begin = now();
    wait_until("all series go on", PATIENCE, || match place.slowest() {
        at if at >= begin => Ok(()),
        at => Err(format!("the slowest is {} ms behind", begin - at)),
    });
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// When the commits of a partition within `from..to` were appended.
fn commits(written: &[Written], partition: i32, from: i64, to: i64) -> Vec<i64> {
    let own = written.iter().filter(|w| w.partition == partition && w.kind == FrameKind::Commit);
    own.map(|w| w.at).filter(|at| (from..to).contains(at)).collect()
}

/// Whether a partition changed hands within `from..to`.
fn moved(written: &[Written], partition: i32, from: i64, to: i64) -> Option<Move> {
    let own: Vec<&Written> = written.iter().filter(|w| w.partition == partition).collect();
    let claim = own.iter().rposition(|w| w.kind == FrameKind::Claim && (from..to).contains(&w.at))?;
    let commit = |w: &&&Written| w.kind == FrameKind::Commit;
    let (before, after) = (own[..claim].iter().rev().find(commit)?, own[claim..].iter().find(commit)?);
    assert_ne!(before.owner, after.owner);
    Some(Move { from: before.at, to: after.at })
}

fn longest_gap(at: &[i64]) -> i64 {
    at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

// === impl Watch ===

impl Watch {
    fn start(place: &Place) -> Self {
        let journal = format!("{}-{}-journal", place.group(), place.topic);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &place.kafka.brokers).set("group.id", "watch");
        let reader: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for p in 0..PARTITIONS {
            list.add_partition_offset(&journal, p, Offset::Beginning).expect("an offset");
        }
        reader.assign(&list).expect("an assignment");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut written = Vec::new();
            loop {
                match reader.poll(Duration::from_millis(500)) {
                    Some(record) => {
                        let record = record.expect("a record");
                        let header = Frame::decode(record.payload().expect("a frame")).expect("a frame").header;
                        let at = record.timestamp().to_millis().expect("a time");
                        let (partition, owner, kind) = (record.partition(), header.owner, header.kind);
                        written.push(Written { partition, at, owner, kind });
                    }
                    None if stopped.load(Ordering::Relaxed) => return written,
                    None => {}
                }
            }
        });
        Self { stop, thread }
    }

    /// Everything that was written.
    fn end(self) -> Vec<Written> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the journals are read")
    }
}
