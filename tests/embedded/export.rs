//! The exporter against a receiver that misbehaves in the ways in which receivers and networks do.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests may fail loudly and look at the clock")]

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use prost::Message;
use spanmill::config::settings::{Auth, OnStatus, Protocol, RemoteWrite, Secret, Tls};
use spanmill::config::{Config, Tenants};
use spanmill::core::remotewrite::decode::proto::{Label, Sample, TimeSeries, WriteRequest};
use spanmill::core::remotewrite::{Request, StepBatch};
use spanmill::core::settings::SINGLE_TENANT;
use spanmill::tools::receiver::{Fault, Receiver, SeenRequest};
use spanmill::worker::sender::{Delivered, Exporter, ShardSender};
use spanmill::worker::telemetry::Telemetry;

mod age;
mod compliance;
mod custom_buckets;
mod exemplars;
mod in_flight;
mod metadata;
mod oauth2;
mod outages;
mod quarantine;
mod relabeling;
mod resent;
mod second;
mod signing;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(60);

struct House {
    receiver: Receiver,
    exporter: Exporter,
    telemetry: Telemetry,
    sender: Option<ShardSender>,
    done: mpsc::Receiver<Delivered>,
}

fn house() -> House {
    house_with(|_| {})
}

fn house_with(change: impl FnOnce(&mut RemoteWrite)) -> House {
    let receiver = Receiver::start("127.0.0.1:0").unwrap();
    let mut cfg = RemoteWrite { url: receiver.url(), ..quick() };
    change(&mut cfg);
    let telemetry = Telemetry::new();
    let exporter = Exporter::start(&cfg, telemetry.clone()).unwrap();
    let (sender, done) = mpsc::channel();
    let sender = exporter.open(3, Box::new(move |d| drop(sender.send(d))));
    House { receiver, exporter, telemetry, sender: Some(sender), done }
}

fn quick() -> RemoteWrite {
    RemoteWrite { min_backoff: 1, max_backoff: 5, protocol: Protocol::V1, ..RemoteWrite::default() }
}

impl House {
    fn send(&self, batch: StepBatch) -> Delivered {
        self.sender.as_ref().unwrap().try_send(batch).unwrap();
        self.done.recv_timeout(LONG).unwrap()
    }

    /// The value of a metric, given its name and labels as they are exposed.
    fn metric(&self, name: &str) -> u64 {
        let text = self.telemetry.render();
        let line = text.lines().find_map(|l| l.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')));
        line.map_or(0, |v| v.parse().unwrap())
    }

    /// Every sample that was built has one end.
    fn assert_balanced(&self) {
        let ends = ["acknowledged", "duplicate", "filtered", "converted", "abandoned"]
            .map(|e| self.metric(&format!("spanmill_samples_{e}_total")));
        let rejected: u64 = [
            "bad_data",
            "too_old",
            "unauthorized",
            "not_found",
            "too_large",
            "redirect",
            "other",
            "illegal_tenant",
            "quarantined",
            "same_labels",
            "max_sample_age",
        ]
        .map(|r| self.metric(&format!("spanmill_samples_rejected_total{{reason=\"{r}\"}}")))
        .iter()
        .sum();
        let pending = self.metric("spanmill_samples_pending");
        assert_eq!(self.metric("spanmill_samples_built_total"), ends.iter().sum::<u64>() + rejected + pending);
    }
}

/// One request with one sample for each of `series`.
fn request(series: std::ops::Range<u32>, step: i64) -> Request {
    let label = |n: &str, v: String| Label { name: n.to_owned(), value: v };
    let entry = |i: u32| TimeSeries {
        labels: vec![label("__name__", "calls_total".to_owned()), label("service", format!("s{i}"))],
        samples: vec![Sample { value: step as f64, timestamp: step }],
        exemplars: Vec::new(),
        histograms: Vec::new(),
    };
    let n = series.len() as u32;
    let message = WriteRequest { timeseries: series.map(entry).collect() };
    Request::compress(&message.encode_to_vec(), n, n, 0, &mut snap::raw::Encoder::new())
}

fn batch(step: i64, requests: Vec<Request>) -> StepBatch {
    StepBatch { tenant: SINGLE_TENANT.into(), endpoint: None, step, resend: false, requests }
}

fn header<'a>(seen: &'a SeenRequest, name: &str) -> Option<&'a str> {
    seen.headers.get(name).map(String::as_str)
}

#[test]
fn a_request_says_what_the_protocol_wants_to_hear() {
    let h = house_with(|c| drop(c.headers.insert("X-Extra".to_owned(), Secret::new("yes"))));
    let d = h.send(batch(15_000, vec![request(0..3, 15_000)]));
    assert_eq!((d.step, d.acknowledged, d.already_there, d.rejected), (15_000, 3, 0, 0));
    let seen = h.receiver.seen().remove(0);
    for (name, value) in [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "0.1.0"),
        ("user-agent", concat!("spanmill/", env!("CARGO_PKG_VERSION"))),
        ("x-extra", "yes"),
    ] {
        assert_eq!(header(&seen, name), Some(value));
    }
    for absent in ["retry-attempt", "x-scope-orgid", "authorization"] {
        assert_eq!(header(&seen, absent), None);
    }
    assert_eq!(h.receiver.snapshot()[r#"calls_total{service="s2"}"#].last_ts, 15_000);
    h.assert_balanced();
}

#[test]
fn every_temporary_fault_is_outlasted_and_nothing_is_lost() {
    let h = house();
    for fault in [500, 502, 503, 504, 529, 429] {
        h.receiver.fault(&Fault::Status(fault), 1);
    }
    h.receiver.fault(&Fault::RetryAfter(503, "0".to_owned()), 1);
    h.receiver.fault(&Fault::Reset, 2);
    h.receiver.fault(&Fault::StoreAndReset, 1);
    let d = h.send(batch(15_000, vec![request(0..5, 15_000)]));
    assert_eq!((d.acknowledged, d.rejected), (5, 0));
    let seen = h.receiver.seen();
    assert_eq!(seen.len(), 11);
    let attempts: Vec<_> = seen.iter().map(|s| header(s, "retry-attempt").map_or(0, |a| a.parse().unwrap())).collect();
    assert_eq!(attempts, (0..11).collect::<Vec<_>>());
    assert!(seen.iter().all(|s| s.body == seen[0].body), "a retry sends the same bytes");
    assert_eq!(h.receiver.violations(), Vec::<String>::new());
    assert_eq!(h.receiver.totals().resent, 5, "the answer to the stored request was lost");
    assert_eq!(h.metric("spanmill_remote_write_retries_total"), 10);
    assert_eq!(h.metric(r#"spanmill_remote_write_requests_total{class="error"}"#), 3);
    h.assert_balanced();
}

#[test]
fn a_receiver_that_never_answers_runs_into_the_timeout() {
    // Long enough for the request behind it on a machine that is busy elsewhere.
    let h = house_with(|c| c.timeout = 5_000);
    h.receiver.fault(&Fault::Hang, 1);
    assert_eq!(h.send(batch(15_000, vec![request(0..1, 15_000)])).acknowledged, 1);
    assert_eq!(h.receiver.totals().requests, 2);
}

#[test]
fn a_receiver_that_is_not_there_yet_is_waited_for() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let h = house_with(|c| c.url = format!("http://{addr}/api/v1/write"));
    h.sender.as_ref().unwrap().try_send(batch(15_000, vec![request(0..1, 15_000)])).unwrap();
    while h.metric("spanmill_remote_write_retries_total") < 3 {
        std::thread::yield_now();
    }
    let late = Receiver::start(&addr.to_string()).unwrap();
    assert_eq!(h.done.recv_timeout(LONG).unwrap().acknowledged, 1);
    assert_eq!(late.totals().samples, 1);
}

#[test]
fn retry_after_is_honored() {
    let h = house();
    h.receiver.fault(&Fault::RetryAfter(429, "1".to_owned()), 1);
    let started = std::time::Instant::now();
    assert_eq!(h.send(batch(15_000, vec![request(0..1, 15_000)])).acknowledged, 1);
    assert!(started.elapsed() >= Duration::from_secs(1), "the back-off alone would be 5 ms at most");
}

#[test]
fn batches_and_their_requests_arrive_in_order_whatever_happens() {
    let h = house();
    let mut sent = 0;
    for step in (1..=20).map(|i| i * 15_000) {
        h.receiver.fault(&Fault::Status(503), 1);
        h.receiver.fault(&Fault::Reset, 1);
        let mut next = batch(step, vec![request(0..2, step), request(2..4, step)]);
        while let Err(refused) = h.sender.as_ref().unwrap().try_send(next) {
            assert_eq!(h.done.recv_timeout(LONG).unwrap().step, (sent + 1) * 15_000);
            sent += 1;
            next = refused;
        }
    }
    while sent < 20 {
        sent += 1;
        assert_eq!(h.done.recv_timeout(LONG).unwrap().step, sent * 15_000);
    }
    assert_eq!(h.receiver.violations(), Vec::<String>::new());
    assert_eq!(h.receiver.totals().samples, 80);
    h.assert_balanced();
}

#[test]
fn what_the_user_does_not_want_to_wait_for_is_rejected_at_once_and_has_a_reason() {
    for (status, reason) in
        [(401, "unauthorized"), (403, "unauthorized"), (404, "not_found"), (308, "redirect"), (415, "other")]
    {
        let h = house_with(|c| c.on_status = [(status, OnStatus::Reject)].into());
        h.receiver.fault(&Fault::Status(status), 1);
        let d = h.send(batch(15_000, vec![request(0..4, 15_000)]));
        assert_eq!((d.acknowledged, d.rejected), (0, 4), "{status}");
        assert_eq!(h.receiver.totals().requests, 1, "{status}");
        assert_eq!(h.metric(&format!("spanmill_samples_rejected_total{{reason=\"{reason}\"}}")), 4, "{status}");
        h.assert_balanced();
    }
}

#[test]
fn poisoned_series_are_found_by_bisection_and_the_rest_is_stored() {
    let h = house();
    h.receiver.poison(|series| series.contains("\"s137\"") || series.contains("\"s901\""));
    let d = h.send(batch(15_000, vec![request(0..1_000, 15_000)]));
    assert_eq!((d.acknowledged, d.rejected), (998, 2));
    let t = h.receiver.totals();
    assert_eq!((t.series, t.samples), (998, 998));
    assert!(t.requests <= 45, "{} requests", t.requests);
    assert_eq!(h.metric(r#"spanmill_samples_rejected_total{reason="bad_data"}"#), 2);
    h.assert_balanced();
}

#[test]
fn a_receiver_that_refuses_everything_is_not_flooded() {
    let h = house();
    h.receiver.poison(|_| true);
    let d = h.send(batch(15_000, vec![request(0..2_000, 15_000)]));
    assert_eq!((d.acknowledged, d.rejected), (0, 2_000));
    assert_eq!(h.receiver.totals().requests, 33, "16 halvings, no more");
    h.assert_balanced();
}

#[test]
fn a_request_that_is_too_large_is_sent_in_parts() {
    let h = house();
    h.receiver.fault(&Fault::Status(413), 3);
    let d = h.send(batch(15_000, vec![request(0..8, 15_000)]));
    assert_eq!((d.acknowledged, d.rejected), (8, 0));
    assert_eq!(h.receiver.totals().series, 8);
}

#[test]
fn a_resent_step_that_is_there_already_is_told_apart_from_a_rejected_one() {
    let h = house();
    h.receiver.refuse_old();
    for step in [15_000, 30_000] {
        assert_eq!(h.send(batch(step, vec![request(0..64, step)])).acknowledged, 64);
    }
    let again = |step| StepBatch { resend: true, ..batch(step, vec![request(0..64, step)]) };
    let d = h.send(again(15_000));
    assert_eq!((d.acknowledged, d.already_there, d.rejected), (0, 64, 0));
    let d = h.send(again(30_000));
    assert_eq!((d.acknowledged, d.already_there, d.rejected), (64, 0, 0), "the newest step is acknowledged again");
    assert_eq!(h.receiver.violations(), Vec::<String>::new());
    h.assert_balanced();
}

#[test]
fn a_resent_step_with_a_poisoned_series_still_delivers_what_is_new() {
    let h = house();
    h.receiver.poison(|series| series.contains("\"s40\""));
    let d = h.send(StepBatch { resend: true, ..batch(15_000, vec![request(0..2_000, 15_000)]) });
    assert_eq!((d.acknowledged, d.already_there, d.rejected), (1_999, 1, 0));
}

#[test]
fn a_dropped_shard_sender_falls_silent_and_its_samples_are_abandoned() {
    let mut h = house();
    h.receiver.fault(&Fault::Status(503), 1_000_000);
    let sender = h.sender.take().unwrap();
    for step in [15_000, 30_000] {
        sender.try_send(batch(step, vec![request(0..3, step)])).unwrap();
    }
    assert!(h.receiver.wait(LONG, |t| t.requests >= 3));
    drop(sender);
    assert!(matches!(h.done.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected)), "no batch was done");
    assert_eq!(h.metric("spanmill_samples_abandoned_total"), 6);
    assert_eq!(h.metric("spanmill_remote_write_batches_pending"), 0);
    assert_eq!(h.metric("spanmill_remote_write_requests_in_flight"), 0);
    h.assert_balanced();
}

#[test]
fn a_full_queue_gives_the_batch_back() {
    let h = house();
    h.receiver.fault(&Fault::Hang, 1);
    let sender = h.sender.as_ref().unwrap();
    sender.try_send(batch(15_000, vec![request(0..1, 15_000)])).unwrap();
    assert!(h.receiver.wait(LONG, |t| t.requests == 1));
    for step in [30_000, 45_000] {
        sender.try_send(batch(step, vec![request(0..1, step)])).unwrap();
    }
    let refused = batch(60_000, vec![request(0..1, 60_000)]);
    assert_eq!(sender.try_send(refused.clone()), Err(refused));
    assert_eq!(h.metric("spanmill_remote_write_batches_pending"), 3);
}

#[test]
fn shard_senders_do_not_wait_for_one_another() {
    let h = house();
    h.receiver.fault(&Fault::Hang, 1);
    h.sender.as_ref().unwrap().try_send(batch(15_000, vec![request(0..1, 15_000)])).unwrap();
    assert!(h.receiver.wait(LONG, |t| t.requests == 1));
    let (sender, done) = mpsc::channel();
    let other = h.exporter.open(4, Box::new(move |d| drop(sender.send(d))));
    other.try_send(batch(15_000, vec![request(5..6, 15_000)])).unwrap();
    assert_eq!(done.recv_timeout(LONG).unwrap().acknowledged, 1);
}

#[test]
fn a_stop_waits_for_what_was_handed_over_but_not_for_ever() {
    let h = house();
    h.receiver.fault(&Fault::Status(503), 5);
    h.sender.as_ref().unwrap().try_send(batch(15_000, vec![request(0..1, 15_000)])).unwrap();
    h.exporter.stop(LONG);
    assert_eq!(h.receiver.totals().samples, 1);
    let late = batch(30_000, vec![request(0..1, 30_000)]);
    assert_eq!(h.sender.as_ref().unwrap().try_send(late.clone()), Err(late), "a stopped exporter takes nothing");

    let h = house();
    h.receiver.fault(&Fault::Status(503), 1_000_000);
    h.sender.as_ref().unwrap().try_send(batch(15_000, vec![request(0..1, 15_000)])).unwrap();
    h.exporter.stop(Duration::from_millis(20));
    let asked = std::time::Instant::now();
    while h.metric("spanmill_samples_abandoned_total") == 0 && asked.elapsed() < LONG {
        std::thread::yield_now();
    }
    assert_eq!(h.metric("spanmill_samples_abandoned_total"), 1);
}

#[test]
fn an_empty_batch_is_done_at_once() {
    let h = house();
    assert_eq!(h.send(batch(15_000, Vec::new())).acknowledged, 0);
    assert_eq!(h.receiver.totals().requests, 0);
}

#[test]
fn a_tenant_travels_in_its_header_unless_the_user_set_that_header() {
    let tenant = |h: &House, name: &str| {
        let d = h.send(StepBatch { tenant: Arc::from(name), ..batch(15_000, vec![request(0..1, 15_000)]) });
        (d.rejected, h.receiver.seen().pop().and_then(|s| header(&s, "x-scope-orgid").map(str::to_owned)))
    };
    let h = house();
    assert_eq!(tenant(&h, "team-a"), (0, Some("team-a".to_owned())));
    assert_eq!(tenant(&h, "b\u{f6}rse"), (0, Some("b\u{f6}rse".to_owned())), "any UTF-8 will do");
    assert_eq!(tenant(&h, "a\nb").0, 1, "a tenant that no header can carry is rejected");
    assert_eq!(h.metric(r#"spanmill_samples_rejected_total{reason="illegal_tenant"}"#), 1);
    h.assert_balanced();
    let h = house_with(|c| drop(c.headers.insert("X-Scope-OrgID".to_owned(), Secret::new("fixed"))));
    assert_eq!(tenant(&h, "team-a").1.as_deref(), Some("fixed"));
    let h = house_with(|c| c.tenant_header = String::new());
    assert_eq!(tenant(&h, "team-a").1, None);
}

#[test]
fn authorization_is_sent_with_every_attempt() {
    let basic = Auth::Basic { username: "Aladdin".to_owned(), password: Secret::new("open sesame") };
    let bearer = Auth::Bearer(Secret::new("token"));
    for (auth, expected) in [(basic, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), (bearer, "Bearer token")] {
        let h = house_with(|c| c.auth = auth);
        h.receiver.fault(&Fault::Status(503), 1);
        h.send(batch(15_000, vec![request(0..1, 15_000)]));
        let seen = h.receiver.seen();
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|s| header(s, "authorization") == Some(expected)));
    }
}

/// Runs a test of this module again in a process of its own, because the environment belongs to the whole process. It must
/// pass.
fn run_again(test: &str, environment: &[(&str, &str)]) {
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", &format!("export::{test}"), "--nocapture"]).envs(environment.iter().copied());
    let out = again.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}

const NO_CA_CERTIFICATES: [(&str, &str); 2] = [("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nonexistent")];

#[test]
fn plain_http_needs_no_ca_certificates() {
    run_again("a_request_says_what_the_protocol_wants_to_hear", &NO_CA_CERTIFICATES);
}

#[test]
#[cfg(target_os = "linux")]
fn signing_without_ca_certificates_is_an_error_with_a_remedy() {
    if std::env::var_os("SSL_CERT_FILE").is_none_or(|file| file != "/dev/null") {
        run_again("signing_without_ca_certificates_is_an_error_with_a_remedy", &NO_CA_CERTIFICATES);
    } else {
        let error = Exporter::start(&sigv4(), Telemetry::new()).unwrap_err().to_string();
        assert!(error.contains("CA certificates"), "{error}");
    }
}

#[cfg(target_os = "linux")]
fn sigv4() -> RemoteWrite {
    let role_arn = Some("arn:aws:iam::123456789012:role/metrics".to_owned());
    let auth = Auth::SigV4 { region: "eu-central-1".to_owned(), service: "aps".to_owned(), profile: None, role_arn };
    RemoteWrite { auth, ..RemoteWrite::default() }
}

/// The settings of the house, with receivers of their own for some tenants.
fn tenants(default: &Receiver, own: &[(&str, &Receiver)]) -> Tenants {
    let to = |receiver: &Receiver| {
        let remote_write = RemoteWrite { url: receiver.url(), ..quick() };
        Arc::new(Config { remote_write, ..Config::default() })
    };
    Tenants::new(to(default), own.iter().map(|(tenant, receiver)| ((*tenant).to_owned(), to(receiver))).collect())
}

fn of(tenant: &str, step: i64) -> StepBatch {
    StepBatch { tenant: tenant.into(), ..batch(step, vec![request(0..2, step)]) }
}

#[test]
fn a_tenants_samples_go_to_its_own_receiver_and_a_dead_one_holds_nobody_else_back() {
    let (h, own) = (house(), Receiver::start("127.0.0.1:0").unwrap());
    h.exporter.reroute(&tenants(&h.receiver, &[("a", &own), ("b", &h.receiver)])).unwrap();
    own.fault(&Fault::Status(503), 1_000_000);
    let sender = h.sender.as_ref().unwrap();
    sender.try_send(of("a", 15_000)).unwrap();
    assert!(own.wait(LONG, |t| t.requests >= 2));
    for step in (1..=10).map(|i| i * 15_000) {
        for tenant in ["b", "c"] {
            assert_eq!(h.send(of(tenant, step)).acknowledged, 2);
        }
    }
    assert_eq!(own.totals().samples, 0);
    assert_eq!(h.receiver.totals().series, 4);
}

#[test]
fn a_batch_that_is_stuck_goes_where_its_tenant_goes_now_and_is_not_overtaken() {
    let (h, dead, new) = (house(), Receiver::start("127.0.0.1:0").unwrap(), Receiver::start("127.0.0.1:0").unwrap());
    h.exporter.reroute(&tenants(&h.receiver, &[("a", &dead)])).unwrap();
    dead.fault(&Fault::Status(503), 1_000_000);
    let sender = h.sender.as_ref().unwrap();
    sender.try_send(of("a", 15_000)).unwrap();
    sender.try_send(of("a", 30_000)).unwrap();
    assert!(dead.wait(LONG, |t| t.requests >= 2));
    h.exporter.reroute(&tenants(&h.receiver, &[("a", &new)])).unwrap();
    while sender.try_send(of("a", 45_000)).is_err() {
        std::thread::yield_now();
    }
    for step in [15_000, 30_000, 45_000] {
        let d = h.done.recv_timeout(LONG).unwrap();
        assert_eq!((d.step, d.acknowledged), (step, 2));
    }
    assert_eq!((dead.totals().samples, new.totals().samples), (0, 6));
    assert_eq!(new.violations(), Vec::<String>::new());
    h.assert_balanced();
}

#[test]
fn settings_that_cannot_be_used_name_the_tenant_and_change_nothing() {
    let h = house();
    let mut bad = Config::default();
    bad.remote_write.tls.ca_file = Some("/nonexistent/ca.pem".into());
    let with_bad = Tenants::new(Arc::new(Config::default()), [("a".to_owned(), Arc::new(bad))].into());
    let error = h.exporter.reroute(&with_bad).unwrap_err().to_string();
    assert!(error.contains("tenant \"a\"") && error.contains("remote_write.tls.ca_file"), "{error}");
    assert_eq!(h.send(of("a", 15_000)).acknowledged, 2, "still the receiver of the house");
}
