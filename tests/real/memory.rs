//! What a worker takes from the machine, as the kernel counts it (`VmHWM`), when what it holds could grow without end. Each
//! test prints a line of the table in `docs/internals/measurements.md`; `TEST_OUTAGE_SECONDS` makes the outages longer.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind::Internal;
use spanmill::tools::loadgen::Record;
use spanmill::tools::receiver::Fault;

use super::place::{Place, says, sum_of};
use super::scene::{record, resource, span};
use crate::servers::api::{Api, now};
use crate::servers::daemon::Daemon;
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN, must_run};

const PARTITIONS: i32 = 4;
/// `worker.memory_limit`, in MiB; the least that there is.
const LIMIT: u64 = 64;
/// What a worker may take on top of what it takes at rest, in times of the limit: in an explosion without limits, label sets
/// may take one and a half times the limit by the account, and a snapshot of a shard is there twice while it is written.
const EXPLODING: u64 = 4;
/// The same where limits hold, or an outage lasts.
const HOLDING: u64 = 1;
/// Spans of a record, and records that are sent together.
const SPANS: u64 = 100;
const BATCH: u64 = 50;
/// Label sets of an explosion. Half of them are too many for the limit.
const SETS: u64 = 120_000;
/// `limits.max_active_series_per_service`
const SERIES: usize = 1_000;
/// Spans in 128 partitions, 660 MB.
const BACKLOG: u64 = 2_000_000;
/// What all partitions of a worker together may take for what they fetch ahead, in MiB: 256 by the account, and half as much
/// again for what the allocator does not give back.
const FETCH_AHEAD: u64 = 384;
/// How long a receiver is down, unless the environment says otherwise.
const OUTAGE: u64 = 20;

/// A worker that is looked at from outside.
pub(super) struct Watched {
    pub(super) worker: Daemon,
    api: Api,
    /// What it took at rest, in MiB.
    pub(super) rest: u64,
    begin: Instant,
    /// The most of the account, in MiB.
    account: u64,
    /// The most records that any task was behind, over all tasks.
    lag: u64,
}

// === impl Watched ===

impl Watched {
    pub(super) fn start(place: &Place, settings: &[&str]) -> Self {
        let mut worker =
            place.worker("worker", &[&["admin.listen=127.0.0.1:0", "worker.threads=2"], settings].concat());
        let log = says(&mut worker, "admin server listening addr=");
        let address = log.split_once("listening addr=").and_then(|(_, rest)| rest.split_whitespace().next());
        let api = Api::new(address.expect("it says where"));
        wait_until("the worker is ready", PATIENCE, || match api.status("/readyz") {
            Ok(200) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        let mut watched = Self { worker, api, rest: 0, begin: Instant::now(), account: 0, lag: 0 };
        watched.rest = watched.most();
        watched
    }

    /// The most memory that it has ever taken, in MiB.
    pub(super) fn most(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that it takes now, in MiB.
    pub(super) fn takes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, what: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.worker.pid())).expect("the worker lives");
        let line = text.lines().find_map(|line| line.strip_prefix(what)).expect("Linux tells");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
    }

    /// Looks at its metrics; how far it is behind.
    pub(super) fn look(&mut self) -> u64 {
        must_run(&mut self.worker);
        let lag = self.metric("spanmill_lag_records{", "");
        self.lag = self.lag.max(lag);
        self.account = self.account.max(self.metric("spanmill_memory_bytes{", "") >> 20);
        lag
    }

    /// The sum over all series of this name that have this label, written `name="value"`; the empty one is in all.
    pub(super) fn metric(&self, name: &str, label: &str) -> u64 {
        sum_of(&self.api.text("/metrics").unwrap_or_default(), name, label)
    }

    /// Says what it took, and ends it. It may have taken `more` MiB than at rest.
    fn end(mut self, what: &str, more: u64) {
        let (rest, most, bound) = (self.rest, self.most(), self.rest + more);
        let Self { account, lag, .. } = self;
        let took = self.begin.elapsed().as_secs();
        println!(
            "memory | {what} | {took} s | at rest {rest} MiB | at most {most} MiB | bound {bound} MiB | \
             account {account} MiB | lag {lag} records"
        );
        assert_eq!(self.worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", self.worker.tail());
        assert!(most <= bound, "{most} MiB");
    }
}

/// A record of spans with new names.
fn strangers(first: u64) -> Record {
    let name = |i: u64| format!("GET /customers/{i:0200}");
    let spans = (first..first + SPANS).map(|i| span(i + 1, &name(i), Internal, Duration::from_millis(3))).collect();
    let value = record(vec![resource(&[("service.name", "shop")], spans)]);
    Record { key: [b'0'; 32], value, timestamp: (now() * 1e3) as i64, spans: SPANS as u32, partition: None }
}

/// Sends some of the label sets of an explosion while the worker is at work.
fn explode(place: &Place, worker: &mut Watched, sets: std::ops::Range<u64>) {
    for first in sets.step_by((SPANS * BATCH) as usize) {
        let records: Vec<Record> = (0..BATCH).map(|i| strangers(first + i * SPANS)).collect();
        place.send((0..).map(|i| i % PARTITIONS).zip(&records));
        worker.look();
    }
}

/// Calls alone: one series for each label set, or the receiver would need far more memory than the worker.
fn exploding() -> Vec<String> {
    let settings =
        ["time.step=2s", "span_metrics.latency=false", "span_metrics.size=false", "service_graphs.enabled=false"];
    settings.map(str::to_owned).to_vec()
}

fn all_is_counted(place: &Place, worker: &mut Watched) {
    wait_until("every span is counted", PATIENCE, || {
        worker.look();
        match place.calls() {
            calls if calls.to_bits() == (SETS as f64).to_bits() => Ok(()),
            calls => Err(format!("{calls} of {SETS}")),
        }
    });
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}

/// Label sets explode until the worker stops reading. A worker with more memory continues, and nothing is lost.
fn endless(topic: &'static str, what: &str, more: &[String]) {
    let place = Place::start(topic, PARTITIONS.unsigned_abs());
    let start = |mib: u64| {
        let mut settings = [&exploding(), more].concat();
        settings.push(format!("worker.memory_limit={mib}MiB"));
        Watched::start(&place, &settings.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut small = start(LIMIT);
    let most = SETS * 3 / 4;
    explode(&place, &mut small, 0..most);
    says(&mut small.worker, "label sets alone take more than 1.5 times worker.memory_limit");
    let before = small.look();
    explode(&place, &mut small, most..SETS);
    wait_until("spans wait in Kafka", PATIENCE, || match small.look() {
        lag if lag > before => Ok(()),
        lag => Err(format!("{lag} records")),
    });
    assert!(place.calls() < SETS as f64, "they are not counted");
    small.end(what, EXPLODING * LIMIT);
    let mut large = start(8 * LIMIT);
    all_is_counted(&place, &mut large);
    large.end("the same, with eight times the limit", EXPLODING * LIMIT);
}

#[test]
fn an_explosion_in_kafka_without_limits_stops_at_the_memory_limit_and_is_exact_with_more_memory() {
    endless("endless", "explosion without limits", &[]);
}

#[test]
fn an_explosion_in_kafka_with_limits_stops_at_the_memory_limit_and_is_exact_with_more_memory() {
    // What is refused is remembered, too, until it is forgotten: limits keep the receiver's memory and not the worker's.
    let limit = format!("limits.max_active_series_per_service={SERIES}");
    endless("limited", "explosion with limits", &[limit]);
}

/// The load continues while the receiver is down. Shards wait, and Kafka keeps what they have not read.
fn outage(topic: &'static str, fault: &Fault) {
    let place = Place::start(topic, PARTITIONS.unsigned_abs());
    let limit = format!("worker.memory_limit={LIMIT}MiB");
    let mut worker = Watched::start(&place, &["remote_write.timeout=2s", &limit]);
    let produce = place.produce(&["--rate", "4000", "--seed", "7"]);
    wait_until("something is stored", PATIENCE, || match place.receiver.totals().samples {
        0 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    place.receiver.fault(fault, usize::from(u16::MAX));
    let seconds = std::env::var("TEST_OUTAGE_SECONDS").map_or(OUTAGE, |text| text.parse().expect("seconds"));
    let long = Duration::from_secs(seconds);
    let begin = Instant::now();
    wait_until("the outage has lasted", long + PATIENCE, || {
        worker.look();
        if begin.elapsed() >= long { Ok(()) } else { Err(format!("{:?}", begin.elapsed())) }
    });
    assert!(worker.look() > 0, "shards wait");
    let stored = place.receiver.totals().samples;
    place.receiver.mend();
    let expected = place.end(produce);
    place.is_exact_within(long + PATIENCE, &expected, |_| true);
    assert!(place.receiver.totals().samples > stored, "the rest came afterwards");
    worker.end(&format!("receiver is down for {seconds} s: {fault:?}"), HOLDING * LIMIT);
}

#[test]
fn a_receiver_that_answers_503_costs_no_memory_and_kafka_is_the_buffer() {
    outage("refused", &Fault::Status(503));
}

#[test]
fn a_receiver_that_never_answers_costs_no_memory_and_kafka_is_the_buffer() {
    outage("unanswered", &Fault::Hang);
}

#[test]
fn one_worker_reads_a_backlog_of_128_kafka_partitions_within_what_it_may_fetch_ahead() {
    let place = Place::start("many", 128);
    // A load that pauses for longer than `time.idle` would split edges.
    let settings = ["time.step=15s", "service_graphs.enabled=false"];
    let idle = Watched::start(&place, &settings);
    let rest = idle.rest;
    idle.end("128 partitions without a record", FETCH_AHEAD);
    let expected = place.wait_for(place.produce(&["--rate", "0", "--spans", &BACKLOG.to_string(), "--seed", "7"]));
    let mut worker = Watched { rest, ..Watched::start(&place, &settings) };
    wait_until("the backlog is read", PATIENCE, || match (worker.look(), place.calls()) {
        (0, calls) if calls > 0.0 => Ok(()),
        (lag, calls) => Err(format!("{lag} records behind, {calls} calls")),
    });
    place.is_exact(&expected, |series| series.starts_with("traces_spanmetrics_"));
    worker.end(&format!("backlog of {BACKLOG} spans in 128 partitions"), FETCH_AHEAD);
}
