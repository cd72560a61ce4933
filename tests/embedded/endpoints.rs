//! Several endpoints of remote write at once: each gets every step, whatever becomes of the others and of the workers.
#![allow(clippy::panic, reason = "tests and their helpers fail by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use spanmill::config::settings::{OnBacklog, RemoteWrite, TenantSource};
use spanmill::core::model::StepWidth;
use spanmill::core::remotewrite::decode;
use spanmill::tools::receiver::{Fault, Receiver};
use spanmill::worker::Worker;
use spanmill::worker::telemetry::Telemetry;
use tempfile::TempDir;

use crate::failures::scene::{Scene, Times};
use crate::mill::{PATIENCE, TOPIC, config, create_topics, records, wait_until};

/// The width of a step of the workers in this process.
const STEP: i64 = 250;

/// By tenant and series, by time, the values that were stored, in order.
type Stored = BTreeMap<String, BTreeMap<i64, Vec<u64>>>;

/// Everything that a receiver stores.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Stored>>);

// === impl Log ===

impl Log {
    fn of(receiver: &Receiver) -> Self {
        let log = Self::default();
        let own = log.clone();
        receiver.watch(move |tenant, entry| {
            let mut all = own.0.lock().expect("no panic");
            let series = all.entry(format!("{tenant}/{}", decode::text(&entry.labels))).or_default();
            for sample in &entry.samples {
                series.entry(sample.timestamp).or_default().push(sample.value.to_bits());
            }
        });
        log
    }

    /// Every sample once, of these times.
    fn samples(&self, of: RangeInclusive<i64>) -> BTreeMap<String, BTreeMap<i64, u64>> {
        let all = self.0.lock().expect("no panic");
        let once = |times: &BTreeMap<i64, Vec<u64>>| {
            times.range(of.clone()).map(|(at, values)| (*at, values[0])).collect::<BTreeMap<_, _>>()
        };
        let some = all.iter().map(|(series, times)| (series.clone(), once(times)));
        some.filter(|(_, times)| !times.is_empty()).collect()
    }

    /// The times at which any sample was stored.
    fn times(&self) -> BTreeSet<i64> {
        self.0.lock().expect("no panic").values().flat_map(|times| times.keys().copied()).collect()
    }

    fn newest(&self) -> i64 {
        self.times().last().copied().unwrap_or_default()
    }

    /// The times of samples that were stored more than once.
    fn repeated(&self) -> BTreeSet<i64> {
        let all = self.0.lock().expect("no panic");
        let twice = all.values().flatten().filter(|(_, values)| values.len() > 1);
        twice.map(|(at, _)| *at).collect()
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    since.as_millis() as i64
}

/// Fails with what differs since `from`. Both are written to: what only one of them can have yet does not count.
fn same(first: &Log, second: &Log, from: i64) -> Result<(), String> {
    let to = first.newest().min(second.newest()) - 1;
    if to < from {
        return Err(format!("nothing between {from} and {to}"));
    }
    let (a, b) = (first.samples(from..=to), second.samples(from..=to));
    let missing = |of: &BTreeMap<String, BTreeMap<i64, u64>>, from: &BTreeMap<String, BTreeMap<i64, u64>>| {
        let lacks = of.iter().flat_map(|(series, times)| times.iter().map(move |(at, value)| (series, at, value)));
        let lacks = lacks.filter(|(series, at, value)| from.get(*series).and_then(|t| t.get(at)) != Some(value));
        lacks.map(|(series, at, _)| format!("{series} at {at}")).collect::<Vec<_>>()
    };
    let (second_lacks, first_lacks) = (missing(&a, &b), missing(&b, &a));
    match (second_lacks.first(), first_lacks.first()) {
        (None, None) if a.len() > 100 => Ok(()),
        lacks => Err(format!("{} and {} samples differ, {lacks:?}", second_lacks.len(), first_lacks.len())),
    }
}

#[test]
fn an_endpoint_that_is_down_while_workers_die_and_move_gets_every_step_and_holds_no_other_back() {
    let second = Receiver::start("127.0.0.1:0").expect("a receiver");
    let mut scene = Scene::with(1, 31, &Times::default());
    scene.writes_to_two(&second.url());
    let logs = [Log::of(&scene.receiver), Log::of(&second)];
    let mut worker = scene.worker();
    let load = scene.load();
    worker.works_alone();
    scene.goes_on();
    wait_until("both have samples", || second.totals().samples > 0);
    second.fault(&Fault::Status(503), 1_000_000);
    let behind = logs[1].newest();
    // Far more than may be in flight to the only receiver, and longer than snapshots take.
    wait_until("the first is far ahead", || logs[0].newest() >= behind + 8_000);
    let before = logs[0].repeated();
    assert_eq!(before, BTreeSet::new(), "nothing is sent twice without a reason");
    let killed = logs[0].newest();
    worker.kill();
    let mut next = scene.worker();
    next.works_alone();
    scene.goes_on();
    let repeated: Vec<i64> = logs[0].repeated().into_iter().collect();
    assert!(repeated.iter().all(|at| *at > killed - 6_000), "what was in flight, and no more: {repeated:?}, {killed}");
    let metric = |worker: &crate::failures::worker::Worker, name: &str| worker.metric(name).unwrap_or_default();
    assert!(metric(&next, "spanmill_remote_write_endpoint_backlog_bytes{endpoint=\"second\"}") > 0);
    assert_eq!(logs[1].newest(), behind, "it is still down");
    // A hand-over: the second worker takes some shards, then the first goes.
    let mut third = scene.worker();
    third.works();
    scene.goes_on();
    next.stop(crate::failures::scene::STOPS_WITHIN);
    third.works_alone();
    second.mend();
    let expected = load.end();
    let end = logs[0].newest();
    wait_until("the second has what the first has", || logs[1].newest() > end && same(&logs[0], &logs[1], 0).is_ok());
    scene.ends_exactly(&expected, &mut [&mut third]);
    assert_eq!(same(&logs[0], &logs[1], 0), Ok(()));
    assert_eq!(second.violations(), Vec::<String>::new());
}

/// A broker with one partition of everything, and workers in this process.
pub(crate) struct Mill {
    pub(crate) cluster: MockCluster<'static, DefaultProducerContext>,
    telemetry: Telemetry,
    pub(crate) dir: TempDir,
}

// === impl Mill ===

impl Mill {
    pub(crate) fn new() -> Self {
        let cluster = MockCluster::new(1).expect("an embedded broker");
        create_topics(&cluster, &config("", "", TenantSource::Key));
        let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
        Self { cluster, telemetry: Telemetry::new(), dir }
    }

    pub(crate) fn start(&self, endpoints: &[RemoteWrite], overrides: Option<&str>) -> Worker {
        let mut config = config(&self.cluster.bootstrap_servers(), "", TenantSource::Key);
        let (first, more) = endpoints.split_first().expect("an endpoint");
        (config.remote_write, config.more_endpoints) = (first.clone(), more.to_vec());
        config.core.time.step = StepWidth::new(STEP).expect("positive");
        config.core.time.idle = STEP;
        config.core.series.zero_offset = STEP - 1;
        config.core.series.snapshot_every = 3 * STEP;
        if let Some(overrides) = overrides {
            let file = self.dir.path().join("overrides.yaml");
            std::fs::write(&file, overrides).expect("a file can be written");
            config.overrides.file = Some(file);
        }
        Worker::start(config, self.telemetry.clone()).expect("a worker")
    }

    pub(crate) fn send(&self, tenants: &[&str]) {
        let mut client = ClientConfig::new();
        let producer: BaseProducer =
            client.set("bootstrap.servers", self.cluster.bootstrap_servers()).create().expect("a producer");
        for record in records() {
            for tenant in tenants {
                let message = BaseRecord::<str, [u8]>::to(TOPIC).key(tenant).payload(&record.value);
                let sent = producer.send(message.timestamp(record.timestamp));
                sent.map_err(|(e, _)| e).expect("the queue has room");
            }
        }
        producer.flush(PATIENCE).expect("everything is delivered");
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.telemetry.render();
        text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).unwrap_or_default()
    }
}

pub(crate) fn endpoint(name: &str, receiver: &Receiver) -> RemoteWrite {
    let (name, url) = (name.to_owned(), receiver.url());
    RemoteWrite { name, url, min_backoff: 10, max_backoff: 100, ..RemoteWrite::default() }
}

fn receivers() -> ([Receiver; 2], [Log; 2]) {
    let both = [(); 2].map(|()| Receiver::start("127.0.0.1:0").expect("a receiver"));
    let logs = [Log::of(&both[0]), Log::of(&both[1])];
    (both, logs)
}

#[test]
fn an_endpoint_that_is_added_begins_with_the_next_step_and_one_that_is_removed_ends_whatever_their_order_is() {
    let mill = Mill::new();
    let ([a, b], [of_a, of_b]) = receivers();
    let (only, second) = (endpoint("", &a), endpoint("second", &b));
    let moves_on = |log: &Log| {
        let known = log.newest();
        wait_until("a few further steps", || log.newest() >= known + 5 * STEP);
    };
    let worker = mill.start(std::slice::from_ref(&only), None);
    mill.send(&["acme"]);
    moves_on(&of_a);
    worker.stop().expect("a graceful stop");
    let end = of_a.newest();

    // What was the only endpoint is one of two, and not the first.
    b.fault(&Fault::Status(503), 1_000_000);
    let worker = mill.start(&[second.clone(), only.clone()], None);
    mill.send(&["acme"]);
    moves_on(&of_a);
    moves_on(&of_a);
    assert_eq!(b.totals().samples, 0);
    worker.stop().expect("a graceful stop");

    // In another order, and the one that was down is back.
    b.mend();
    let worker = mill.start(&[only.clone(), second], None);
    let then = of_a.newest();
    wait_until("it has all steps since it was added", || of_b.newest() > then && same(&of_a, &of_b, end + 1).is_ok());
    assert!(of_b.times().first().is_some_and(|first| *first > end), "it does not get what was closed before");
    b.fault(&Fault::Status(503), 1_000_000);
    let last = of_b.newest();
    moves_on(&of_a);
    worker.stop().expect("a graceful stop");

    // Its end: what waited for it is dropped, and counted.
    b.mend();
    let worker = mill.start(std::slice::from_ref(&only), None);
    let dropped = "spanmill_remote_write_endpoint_dropped_samples_total{endpoint=\"second\",reason=\"removed\"}";
    wait_until("what waited is given up", || mill.metric(dropped) > 0.0);
    moves_on(&of_a);
    worker.stop().expect("a graceful stop");
    assert!(of_b.newest() <= last + STEP, "nothing is sent to it any more");
    let repeated: Vec<i64> = of_a.repeated().into_iter().chain(of_b.repeated()).collect();
    assert!(repeated.is_empty(), "after a graceful stop, nothing is sent again: {repeated:?}");
    for receiver in [&a, &b] {
        assert_eq!(receiver.violations(), Vec::<String>::new());
    }
}

#[test]
fn a_tenant_may_have_a_list_of_its_own_and_an_endpoint_of_the_same_name_keeps_its_settings() {
    let mill = Mill::new();
    let ([a, b], [of_a, of_b]) = receivers();
    let own = Receiver::start("127.0.0.1:0").expect("a receiver");
    let of_own = Log::of(&own);
    let overrides = format!(
        "tenants:\n  acme:\n    remote_write:\n      - {{name: own, url: \"{}\"}}\n      - {{name: b, headers: {{X-Team: a}}}}\n",
        own.url()
    );
    b.expect_header("X-Team", "a");
    let worker = mill.start(&[endpoint("a", &a), endpoint("b", &b)], Some(&overrides));
    mill.send(&["acme", "globex"]);
    let tenant =
        |log: &Log, tenant: &str| log.samples(0..=i64::MAX).into_keys().filter(|s| s.starts_with(tenant)).count();
    wait_until("acme is at its two endpoints", || tenant(&of_own, "acme/") > 100 && tenant(&of_b, "acme/") > 100);
    wait_until("globex is at the first of all tenants", || tenant(&of_a, "globex/") > 100);
    assert_eq!(tenant(&of_a, "acme/") + tenant(&of_own, "globex/"), 0);
    assert_eq!(tenant(&of_b, "globex/"), 0, "it lacks the header");
    let stored = "spanmill_remote_write_endpoint_samples_total{endpoint=\"own\",result=\"acknowledged\"}";
    wait_until("a batch of its is counted", || mill.metric(stored) > 0.0);
    worker.stop().expect("a graceful stop");
}

#[test]
fn an_endpoint_whose_backlog_is_full_drops_its_oldest_steps_or_holds_the_others_back_as_its_settings_ask() {
    for on_backlog in [OnBacklog::Drop, OnBacklog::Wait] {
        let mill = Mill::new();
        let ([a, b], [of_a, of_b]) = receivers();
        b.fault(&Fault::Status(503), 1_000_000);
        let full = RemoteWrite { max_backlog: 1, on_backlog, ..endpoint("b", &b) };
        let worker = mill.start(&[endpoint("a", &a), full], None);
        mill.send(&["acme"]);
        let met = |value: &str| format!("spanmill_ready_condition{{condition=\"endpoint_behind\"}} {value}\n");
        let is_unready = || mill.telemetry.render().contains(&met("0"));
        wait_until("it is not ready", is_unready);
        let dropped = "spanmill_remote_write_endpoint_dropped_samples_total{endpoint=\"b\",reason=\"backlog\"}";
        if on_backlog == OnBacklog::Drop {
            wait_until("steps are dropped", || mill.metric(dropped) > 0.0);
            let known = of_a.newest();
            wait_until("the other goes on", || of_a.newest() >= known + 1_500);
        } else {
            let full = "spanmill_remote_write_endpoint_backlog_full{endpoint=\"b\"}";
            wait_until("the other one waits", || mill.metric(full) > 0.0 && of_a.newest() + 2_500 < now());
        }
        b.mend();
        let known = of_b.newest();
        wait_until("it gets steps again", || of_b.newest() > known.max(of_a.newest() - 1_500));
        wait_until("it is ready again", || mill.telemetry.render().contains(&met("1")));
        if on_backlog == OnBacklog::Wait {
            let then = of_a.newest();
            wait_until("nothing is lost", || of_b.newest() > then && same(&of_a, &of_b, 0).is_ok());
            assert!(mill.metric(dropped) <= 0.0, "it is not to drop any");
        }
        worker.stop().expect("a graceful stop");
        assert_eq!((a.violations(), b.violations()), (Vec::new(), Vec::new()));
    }
}
