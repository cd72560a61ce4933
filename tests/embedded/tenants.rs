//! Tenants with settings of their own, through the library on the embedded broker: receivers, labels, dimensions, and a file
//! that changes while the worker runs.
#![allow(clippy::panic, reason = "tests and their helpers fail by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::mill::{PATIENCE, TOPIC, config, create_topics, records, wait_until};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use spanmill::config::settings::TenantSource;
use spanmill::tools::receiver::{Fault, Receiver};
use spanmill::worker::telemetry::Telemetry;
use spanmill::worker::{Worker, WorkerError};
use tempfile::TempDir;

/// A worker for the tenants `acme` and `globex`. The default receiver is for all tenants, `own` may be acme's.
struct Scene {
    cluster: MockCluster<'static, DefaultProducerContext>,
    default: Receiver,
    own: Receiver,
    telemetry: Telemetry,
    dir: TempDir,
}

// === impl Scene ===

impl Scene {
    fn new() -> Self {
        let cluster = MockCluster::new(1).expect("an embedded broker");
        let receiver = || Receiver::start("127.0.0.1:0").expect("a receiver");
        let (default, own, telemetry) = (receiver(), receiver(), Telemetry::new());
        create_topics(&cluster, &config("", "", TenantSource::Key));
        let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
        Self { cluster, default, own, telemetry, dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("overrides.yaml")
    }

    /// Writes the overrides; `OWN` stands for the URL of acme's receiver.
    fn says(&self, overrides: &str) {
        let new = self.dir.path().join("new.yaml");
        std::fs::write(&new, overrides.replace("OWN", &self.own.url())).expect("a file can be written");
        std::fs::rename(new, self.file()).expect("a file can be replaced");
    }

    fn start(&self) -> Result<Worker, WorkerError> {
        let mut config = config(&self.cluster.bootstrap_servers(), &self.default.url(), TenantSource::Key);
        config.overrides.file = Some(self.file());
        config.overrides.reload_every = 100;
        config.core.series.snapshot_every = 3_000;
        config.remote_write.min_backoff = 10;
        config.remote_write.max_backoff = 100;
        // What a stop takes that waits for a receiver is far from what one takes that does not.
        config.worker.shutdown_timeout = 120_000;
        Worker::start(config, self.telemetry.clone())
    }

    /// Sends the same spans to both tenants.
    fn send(&self) {
        let mut client = ClientConfig::new();
        let producer: BaseProducer =
            client.set("bootstrap.servers", self.cluster.bootstrap_servers()).create().expect("a producer");
        for record in records() {
            for tenant in ["acme", "globex"] {
                let message = BaseRecord::<str, [u8]>::to(TOPIC).key(tenant).payload(&record.value);
                let sent = producer.send(message.timestamp(record.timestamp));
                sent.map_err(|(e, _)| e).expect("the queue has room");
            }
        }
        producer.flush(PATIENCE).expect("everything is delivered");
    }

    fn metric(&self, name: &str) -> String {
        let text = self.telemetry.render();
        text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("none").to_owned()
    }
}

/// What a receiver has of a tenant, by series, without `label`.
fn of(receiver: &Receiver, tenant: &str, label: &str) -> BTreeMap<String, f64> {
    let mine = receiver
        .snapshot()
        .into_iter()
        .filter_map(|(name, s)| Some((name.strip_prefix(tenant)?.strip_prefix('/')?.replace(label, ""), s.last_value)));
    mine.collect()
}

fn newest(receiver: &Receiver, tenant: &str) -> i64 {
    let states = receiver.snapshot().into_iter().filter(|(name, _)| name.starts_with(tenant));
    states.map(|(_, s)| s.last_ts).max().unwrap_or_default()
}

fn labeled(receiver: &Receiver, tenant: &str, label: &str) -> usize {
    receiver.snapshot().keys().filter(|name| name.starts_with(tenant) && name.contains(label)).count()
}

const OWN_RECEIVER: &str = "tenants: {acme: {remote_write: {url: OWN}, series: {external_labels: {team: a}}}}";

#[test]
fn settings_of_tenants_change_while_the_worker_runs_and_a_bad_file_stays_out() {
    let s = Scene::new();
    s.says(OWN_RECEIVER);
    let worker = s.start().expect("a worker");
    s.send();
    wait_until("acme has a receiver and a label of its own", || {
        let acme = of(&s.own, "acme", ",team=\"a\"");
        acme.len() > 100 && acme == of(&s.default, "globex", "")
    });
    assert!(of(&s.own, "acme", "").keys().all(|series| series.contains("team=\"a\"")));
    assert!(of(&s.default, "acme", "").is_empty() && of(&s.own, "globex", "").is_empty());

    let version = s.telemetry.overrides().version;
    s.says("tenants: {acme: {series: {interwal: 1m}}, globex: {series: {write: false}}}");
    wait_until("the bad file is refused", || s.metric("spanmill_overrides_last_reload_successful") == "0");
    assert_eq!(s.telemetry.overrides().version, version);
    let (acme, globex) = (newest(&s.own, "acme"), newest(&s.default, "globex"));
    wait_until("both go on as before", || newest(&s.own, "acme") > acme && newest(&s.default, "globex") > globex);

    s.says(&OWN_RECEIVER.replace("series:", "span_metrics: {dimensions: [service.version]}, series:"));
    wait_until("the mended file is in force", || s.metric("spanmill_overrides_last_reload_successful") == "1");
    assert_eq!(s.telemetry.overrides().tenants, ["acme"]);
    s.send();
    wait_until("acme has a new label", || labeled(&s.own, "acme", "service_version=") > 0);
    assert_eq!(labeled(&s.default, "globex", "service_version="), 0);

    s.says("tenants: {}");
    // A step that was closed before may still come with the label of before.
    let last = |label: bool| {
        let acme = s.default.snapshot().into_iter().filter(|(name, _)| name.starts_with("acme"));
        acme.filter(|(name, _)| name.contains("team=") == label)
            .map(|(_, state)| state.last_ts)
            .max()
            .unwrap_or_default()
    };
    wait_until("acme has what everybody has", || last(false) > last(true) + 3_000);
    for receiver in [&s.default, &s.own] {
        assert_eq!(receiver.violations(), Vec::<String>::new());
    }
    worker.stop().expect("a graceful stop");
}

#[test]
fn a_tenants_receiver_that_is_down_holds_nobody_else_back_and_has_everything_afterwards_also_over_a_restart() {
    let s = Scene::new();
    s.says(OWN_RECEIVER);
    s.own.fault(&Fault::Status(503), 10_000);
    for round in 0..2 {
        let worker = s.start().expect("a worker");
        s.send();
        let known = newest(&s.default, "globex");
        wait_until("globex gets its next step", || newest(&s.default, "globex") > known);
        let first = newest(&s.default, "globex");
        // Far more steps than may be in flight to a receiver.
        wait_until("globex gets many steps", || newest(&s.default, "globex") >= first + 10_000);
        assert_eq!(s.own.totals().samples, 0, "acme's receiver is still down");
        assert_ne!(s.metric("spanmill_tenant_steps_skipped_total"), "0");
        if round == 1 {
            s.own.mend();
            wait_until("acme has everything", || {
                let acme = of(&s.own, "acme", ",team=\"a\"");
                acme.len() > 100 && acme == of(&s.default, "globex", "")
            });
        }
        let asked = std::time::Instant::now();
        worker.stop().expect("a graceful stop");
        assert!(asked.elapsed().as_secs() < 40, "it does not wait for a receiver that is down");
    }
    for receiver in [&s.default, &s.own] {
        assert_eq!(receiver.violations(), Vec::<String>::new());
    }
    assert_eq!(s.own.totals().resent, 0, "what was carried has been told once");
}

/// How old a tenant's newest step is.
fn age(s: &Scene, tenant: &str) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
    Duration::from_millis(u64::try_from(now).expect("a time").saturating_sub(newest(&s.default, tenant).unsigned_abs()))
}

/// The same when the next one comes, at the most, over ten steps.
fn age_over_ten_steps(s: &Scene, tenant: &str) -> Duration {
    let next = || {
        let known = newest(&s.default, tenant);
        wait_until("the next step", || newest(&s.default, tenant) > known);
        age(s, tenant)
    };
    (0..10).map(|_| next()).max().unwrap_or_default()
}

#[test]
fn one_tenants_429_behind_the_url_of_all_leaves_the_others_as_fresh_as_before_and_it_has_everything_afterwards() {
    let s = Scene::new();
    s.says("tenants: {}");
    let worker = s.start().expect("a worker");
    s.send();
    wait_until("both have series", || newest(&s.default, "acme") > 0 && newest(&s.default, "globex") > 0);
    wait_until("what has waited for the worker is done", || age(&s, "globex") < Duration::from_secs(3));
    let calm = age_over_ten_steps(&s, "globex");
    s.default.fault_tenant("acme", Fault::RetryAfter(429, "1".to_owned()));
    s.send();
    let (acme, beside) = (newest(&s.default, "acme"), age_over_ten_steps(&s, "globex"));
    println!("freshness | {calm:?} in calm, {beside:?} while another tenant is refused");
    assert!(beside < 2 * calm + Duration::from_secs(5), "{beside:?} after {calm:?} in calm");
    assert!(newest(&s.default, "acme") <= acme + 1_000, "one request may have been under way");
    assert!(
        s.telemetry
            .receivers()
            .snapshot()
            .iter()
            .any(|r| r.waiting.as_ref().is_some_and(|w| w.reason == "rate_limited"))
    );
    s.default.mend();
    wait_until("acme has everything", || {
        let acme = of(&s.default, "acme", "");
        acme.len() > 100 && acme == of(&s.default, "globex", "")
    });
    assert_eq!(s.default.violations(), Vec::<String>::new());
    worker.stop().expect("a graceful stop");
}

#[test]
fn a_worker_does_not_start_with_overrides_that_cannot_be_used() {
    let s = Scene::new();
    let refused = |what: &str| match s.start() {
        Ok(_) => panic!("{what}: it runs"),
        Err(error) => error.to_string(),
    };
    assert!(refused("no file").contains("cannot be read"));
    s.says("tenants: {acme: {series: {interwal: 1m}}}");
    let text = refused("a typo");
    assert!(text.contains("overrides.yaml") && text.contains("interval"), "{text}");
    let ca_file = s.dir.path().join("ca.pem");
    std::fs::write(&ca_file, "no certificate").expect("a file can be written");
    s.says(&format!("tenants: {{acme: {{remote_write: {{tls: {{ca_file: {}}}}}}}}}", ca_file.display()));
    let text = refused("no certificate");
    assert!(text.contains("\"acme\"") && text.contains("remote_write.tls.ca_file"), "{text}");
}
