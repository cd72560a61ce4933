//! The baseline: a process that reads a topic with librdkafka and adds up all bytes of all values. It does the least that any
//! consumer of the topic has to do: fetch, decompress, and look at the bytes once.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, Statistics, TopicPartitionList};

use crate::servers::wait_until;
use crate::system;

/// The settings of librdkafka; the fastest that were found, see `benches/README.md`.
const SETTINGS: [(&str, &str); 8] = [
    ("group.id", "readers"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("fetch.message.max.bytes", "131072"),
    ("queued.max.messages.kbytes", "8192"),
    ("fetch.queue.backoff.ms", "10"),
    ("statistics.interval.ms", "1000"),
];

struct Context;

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        RECEIVED.store(statistics.rx_bytes.unsigned_abs(), Ordering::Relaxed);
        REPORTS.fetch_add(1, Ordering::Relaxed);
    }
}

impl ConsumerContext for Context {}

/// Bytes that came over the wire, by the latest of so many reports.
static RECEIVED: AtomicU64 = AtomicU64::new(0);
static REPORTS: AtomicU64 = AtomicU64::new(0);

/// The command that makes a process a reader.
pub fn command(brokers: &str, topic: &str, records: u64, properties: &[String]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a program has a path"));
    command.arg("--read").arg(format!("{brokers}/{topic}/{records}"));
    for property in properties {
        command.args(["--property", property]);
    }
    command
}

/// Reads, and prints what that took as one line of JSON.
pub fn run(job: &str, properties: &[String]) {
    let mut parts = job.split('/');
    let mut part = || parts.next().expect("BROKERS/TOPIC/RECORDS");
    let (brokers, topic, records) = (part(), part(), part().parse().expect("a number of records"));
    let consumer = consumer(brokers, properties);
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(30)).expect("the broker answers");
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("an offset");
    }
    let begin = Instant::now();
    consumer.assign(&list).expect("an assignment");
    let (mut sum, mut read) = (0, 0_u64);
    while read < records {
        if let Some(message) = consumer.poll(Duration::from_secs(30)) {
            sum = add_up(sum, message.expect("a record").payload().unwrap_or_default());
            read += 1;
        }
    }
    let (wall, used) = (begin.elapsed().as_secs_f64(), system::usage(std::process::id()));
    let (peak, _) = system::memory(std::process::id());
    let threads = serde_json::to_string(&system::threads(std::process::id())).expect("JSON");
    // The first report to come may be older than the last record.
    let reports = REPORTS.load(Ordering::Relaxed) + 2;
    wait_until("a report", Duration::from_secs(30), || {
        drop(consumer.poll(Duration::ZERO));
        if REPORTS.load(Ordering::Relaxed) >= reports { Ok(()) } else { Err("none yet".to_owned()) }
    });
    let received = RECEIVED.load(Ordering::Relaxed);
    println!(
        r#"{{"user":{},"system":{},"faults":{},"peak":{peak},"wall":{wall},"received":{received},"sum":{sum},"threads":{threads}}}"#,
        used.user, used.system, used.faults
    );
}

fn consumer(brokers: &str, properties: &[String]) -> BaseConsumer<Context> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    for (key, value) in SETTINGS.into_iter().chain(properties.iter().map(|p| p.split_once('=').expect("KEY=VALUE"))) {
        config.set(key, value);
    }
    config.create_with_context(Context).expect("a consumer can be created")
}

/// Reads every byte once, eight at a time.
fn add_up(sum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().fold(sum, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(words, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}
