//! Tests against real servers. Start them with `tests/run`, which installs the servers first.
//!
//! A test names the servers that it needs in its own name (`kafka`, `prometheus`, `victoriametrics`):
//! `tests/run --without NAME` leaves it out by that.
#![allow(clippy::panic, clippy::print_stdout, reason = "tests and their helpers fail by panicking")]
#![allow(unreachable_pub, reason = "a test has no outside")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock and the real environment")]

mod brokers;
mod dashboards;
mod doctor;
mod durable;
mod endpoints;
mod ends;
mod histograms;
mod honor;
mod hostile;
mod increases;
mod internal;
mod jaeger;
mod journals;
mod lag;
mod least;
mod limits;
mod members;
mod memory;
mod metadata;
mod namesakes;
mod odd;
mod old;
mod operator;
mod page;
mod pending;
mod place;
mod ready;
mod relabeling;
mod repartition;
mod replay;
mod resent;
mod reshard;
mod rights;
mod rolling;
mod rotated;
mod scene;
mod sinks;
mod sources;
mod stages;
mod strangers;
mod stuck;
mod survey;
mod tenants;
mod tokens;
mod topics;

#[path = "../support/servers/mod.rs"]
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use prost::Message as _;
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tempfile::TempDir;

use servers::api::{Api, now};
use servers::daemon::Daemon;
use servers::kafka::RealKafka;
use servers::metrics::{RealPrometheus, RealVictoria};
use servers::series::{Series, Values, compare, expectation};
use servers::spanmill::{PATIENT, spanmill, worker_config};
use servers::wait_until;

/// How long a worker may take for anything: the machine may be slow and busy.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a worker may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(45);
/// How many differences are shown.
const SHOWN: usize = 20;

// === the servers themselves ===

#[test]
fn kafka_gives_back_the_record_it_was_given() {
    let kafka = RealKafka::start();
    kafka.tool("TopicCommand", &["--create", "--topic", "greetings", "--partitions", "3"]);
    wait_until("the topic is there", PATIENCE, || match kafka.partitions("greetings") {
        3 => Ok(()),
        n => Err(format!("{n} partitions")),
    });

    let config = |pairs: &[(&str, &str)]| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &kafka.brokers);
        for (key, value) in pairs {
            config.set(*key, *value);
        }
        config
    };
    let producer: BaseProducer = config(&[("acks", "all")]).create().expect("a producer");
    producer.send(BaseRecord::to("greetings").key("k").payload("hello")).map_err(|(e, _)| e).expect("it is queued");
    producer.flush(PATIENCE).expect("it is acknowledged");

    let consumer: BaseConsumer =
        config(&[("group.id", "readers"), ("auto.offset.reset", "earliest")]).create().expect("a consumer");
    consumer.subscribe(&["greetings"]).expect("a subscription");
    let value = wait_until("the record comes back", PATIENCE, || match consumer.poll(Duration::from_secs(1)) {
        Some(Ok(record)) => Ok(record.payload().map(<[u8]>::to_vec)),
        Some(Err(e)) => Err(e.to_string()),
        None => Err("no record yet".to_owned()),
    });
    assert_eq!(value.as_deref(), Some(&b"hello"[..]));
}

#[test]
fn prometheus_gives_back_the_sample_and_the_exemplar_it_was_given() {
    let prometheus = RealPrometheus::start();
    assert_eq!(prometheus.api.remote_write(&one_sample("smoke_total", 1.5)), 204);
    let rows = prometheus.api.instant("smoke_total").expect("a query");
    assert_eq!(values(rows), expectation("smoke_total{client=\"a\"} 1.5"));
    let exemplars = prometheus.api.exemplars("smoke_total").expect("a query");
    assert_eq!(exemplars, [BTreeMap::from([("traceID".to_owned(), "00ff".to_owned())])]);
}

#[test]
fn victoriametrics_gives_back_the_sample_it_was_given() {
    let victoria = RealVictoria::start();
    assert_eq!(victoria.api.remote_write(&one_sample("smoke_total", 1.5)), 204);
    wait_until("the sample is there", PATIENCE, || {
        victoria.flush();
        let rows = victoria.api.instant("smoke_total")?;
        compare(&expectation("smoke_total{client=\"a\"} 1.5"), &values(rows), SHOWN)
    });
}

// === the whole program ===

#[test]
fn two_workers_on_real_kafka_give_prometheus_exactly_what_was_produced() {
    let prometheus = RealPrometheus::start();
    let mut run = Run::start("spans_to_prometheus", &prometheus.api.write_url());
    wait_until("every series is exact", PATIENCE, || {
        run.still_works();
        compare(&run.expected, &stored(&prometheus.api)?, SHOWN)
    });

    no_counter_went_down(&prometheus.api, &run.expected);
    grafana_draws_the_expected_graph(&prometheus.api, &run.expected);
    grafana_fills_the_expected_tables(&prometheus.api, &run.expected);
    for metric in ["traces_spanmetrics_latency_bucket", "traces_service_graph_request_server_seconds_bucket"] {
        let exemplars = prometheus.api.exemplars(metric).expect("a query");
        assert!(!exemplars.is_empty(), "{metric} has no exemplar");
        for labels in exemplars {
            let id = labels.get("traceID").unwrap_or_else(|| panic!("{metric}: no traceID in {labels:?}"));
            let hex = id.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
            assert!(id.len() == 32 && hex, "{metric}: {id} is not 32 hex digits");
        }
    }
    run.stop();
}

#[test]
fn workers_that_are_killed_on_real_kafka_leave_exact_series_in_prometheus() {
    let prometheus = RealPrometheus::start();
    let kafka = RealKafka::start();
    let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
    let topic = "spans_and_kills";
    let config = worker_config(dir.path(), &kafka.brokers, topic, &prometheus.api.write_url(), PATIENT);
    let work = |name: &str| spanmill(name, &["run", "--config", config.to_str().expect("a path of ours is UTF-8")]);
    let expect = dir.path().join("expected.txt");
    let mut produce = produce(&kafka, topic, &expect);
    wait_until("something is stored", PATIENCE, {
        let mut first = None;
        let (api, work) = (&prometheus.api, &work);
        move || {
            // Dropping the daemon at the end of the wait is `kill -9` in the middle of the load.
            must_run(first.get_or_insert_with(|| work("worker 1")));
            if stored(api)?.is_empty() { Err("nothing yet".to_owned()) } else { Ok(()) }
        }
    });
    let half = stored(&prometheus.api).expect("a query").len();
    let mut second = work("worker 2");
    wait_until("the second worker goes on", PATIENCE, || {
        must_run(&mut second);
        let now = stored(&prometheus.api)?.len();
        if now > half { Ok(()) } else { Err(format!("{now} series\n{}", second.tail())) }
    });
    drop(second);
    let mut third = work("worker 3");
    assert!(produce.finish(PATIENCE).success(), "produce failed:\n{}", produce.tail());
    let expected = expectation(&std::fs::read_to_string(&expect).expect("produce writes the expectation"));
    wait_until("every series is exact", PATIENCE, || {
        must_run(&mut third);
        compare(&expected, &stored(&prometheus.api)?, SHOWN)
    });
    no_counter_went_down(&prometheus.api, &expected);
    check_finds_what_is_expected(&config, &expect, prometheus.api.write_url().trim_end_matches("/api/v1/write"));
    let status = third.terminate(STOPS_WITHIN);
    assert_eq!(status.code(), Some(0), "{}", third.tail());
}

/// What the README recommends to a user without spans.
fn check_finds_what_is_expected(config: &Path, expect: &Path, url: &str) {
    let check = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spanmill"));
        command.arg("check").arg("--config").arg(config).arg("--expected").arg(expect).args(["--diff", url]).args(more);
        let output = command.output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = check(&[]);
    assert!(code == Some(0) && said.contains("and equal"), "{code:?}: {said}");
    let mut text = std::fs::read_to_string(expect).expect("it is there");
    text.push_str("traces_spanmetrics_calls_total{service=\"nobody\"} 7\n");
    std::fs::write(expect, text).expect("a file can be written");
    let (code, said) = check(&["--within", "0s"]);
    assert!(code == Some(1) && said.contains("service=\"nobody\"} is missing; expected 7"), "{code:?}: {said}");
}

#[test]
fn a_worker_that_is_killed_on_real_kafka_is_replaced_from_trimmed_topics_and_prometheus_is_exact() {
    let prometheus = RealPrometheus::start();
    let kafka = RealKafka::start();
    let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
    let topic = "spans_and_trims";
    let config = worker_config(dir.path(), &kafka.brokers, topic, &prometheus.api.write_url(), PATIENT);
    let work = |name: &str| spanmill(name, &["run", "--config", config.to_str().expect("a path of ours is UTF-8")]);
    let expect = dir.path().join("expected.txt");
    let mut produce = produce(&kafka, topic, &expect);
    let mut first = work("worker 1");
    for internal in ["spans_and_trims-journal", "deltas", "series-journal"] {
        let trimmed = format!("{topic}-group-{internal}");
        wait_until("every partition has lost its beginning", PATIENCE, || {
            must_run(&mut first);
            if kafka.partitions(&trimmed) == 0 {
                return Err(first.tail());
            }
            let bounds = kafka.tool("GetOffsetShell", &["--topic", &trimmed, "--time", "earliest"]);
            if bounds.lines().all(|l| !l.ends_with(":0")) { Ok(()) } else { Err(bounds) }
        });
    }
    // Dropping it is `kill -9`.
    drop(first);
    let mut second = work("worker 2");
    assert!(produce.finish(PATIENCE).success(), "produce failed:\n{}", produce.tail());
    let expected = expectation(&std::fs::read_to_string(&expect).expect("produce writes the expectation"));
    wait_until("every series is exact", PATIENCE, || {
        must_run(&mut second);
        compare(&expected, &stored(&prometheus.api)?, SHOWN)
    });
    no_counter_went_down(&prometheus.api, &expected);
    assert_eq!(second.terminate(STOPS_WITHIN).code(), Some(0), "{}", second.tail());
}

#[test]
fn a_worker_on_real_kafka_waits_for_its_topic_and_does_not_create_it() {
    let kafka = RealKafka::start();
    let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
    let config = worker_config(dir.path(), &kafka.brokers, "late", "http://127.0.0.1:9/", PATIENT);
    let mut worker = spanmill("worker", &["run", "--config", config.to_str().expect("a path of ours is UTF-8")]);
    wait_until("the worker says what it waits for", PATIENCE, || {
        must_run(&mut worker);
        let log = worker.tail();
        if log.contains("topic late does not exist") { Ok(()) } else { Err(log) }
    });
    let topics = kafka.tool("TopicCommand", &["--list"]);
    assert!(!topics.contains("late"), "{topics}");
    let status = worker.terminate(STOPS_WITHIN);
    assert_eq!(status.code(), Some(0), "{}", worker.tail());
}

#[test]
fn internal_topics_on_real_kafka_that_would_lose_data_are_refused_with_the_remedy() {
    let kafka = RealKafka::start();
    let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
    for (topic, settings, said) in [
        ("compacted", &["--partitions", "4", "--config", "cleanup.policy=compact"][..], "set cleanup.policy=delete"),
        ("expiring", &["--partitions", "4", "--config", "retention.ms=60000"][..], "set retention.ms=-1"),
        ("narrow", &["--partitions", "3", "--config", "retention.ms=-1"][..], "set kafka.shards to 3"),
    ] {
        kafka.tool("TopicCommand", &["--create", "--topic", topic, "--partitions", "2"]);
        let deltas = format!("{topic}-group-deltas");
        kafka.tool("TopicCommand", &[&["--create", "--topic", &deltas][..], settings].concat());
        let config = worker_config(dir.path(), &kafka.brokers, topic, "http://127.0.0.1:9/", PATIENT);
        let mut worker = spanmill("worker", &["run", "--config", config.to_str().expect("a path of ours is UTF-8")]);
        let status = worker.finish(PATIENCE);
        assert_eq!(status.code(), Some(1), "{}", worker.tail());
        assert!(worker.tail().contains(said), "{topic}: {said:?} is not said:\n{}", worker.tail());
    }
}

#[test]
fn two_workers_on_real_kafka_give_victoriametrics_the_same_counts() {
    let victoria = RealVictoria::start();
    let mut run = Run::start("spans_to_victoriametrics", &victoria.api.write_url());
    // Its decimal storage keeps about 15 digits of a sum of seconds, so only whole numbers are compared.
    let counts = |values: Values| -> Values { values.into_iter().filter(|(s, _)| !s.name.ends_with("_sum")).collect() };
    let expected = counts(run.expected.clone());
    wait_until("every count is exact", PATIENCE, || {
        run.still_works();
        victoria.flush();
        compare(&expected, &counts(stored(&victoria.api)?), SHOWN)
    });
    grafana_draws_the_expected_graph(&victoria.api, &run.expected);
    grafana_fills_the_expected_tables(&victoria.api, &run.expected);
    run.stop();
}

/// A Kafka, a topic that was filled while two workers read it, and what they must have made of it.
struct Run {
    workers: [Daemon; 2],
    expected: Values,
    _kafka: RealKafka,
    _dir: TempDir,
}

// === impl Run ===

impl Run {
    /// Produces and reads at the same time; the second worker joins a group that is at work.
    fn start(topic: &str, write_url: &str) -> Self {
        let kafka = RealKafka::start();
        let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
        let config = worker_config(dir.path(), &kafka.brokers, topic, write_url, PATIENT);
        let config = config.to_str().expect("a temporary path is UTF-8");
        let expect = dir.path().join("expected.txt");
        let mut produce = produce(&kafka, topic, &expect);
        let mut first = spanmill("worker 1", &["run", "--config", config]);
        let group = format!("{topic}-group");
        wait_until("the first worker reads", PATIENCE, || {
            must_run(&mut first);
            let groups = kafka.tool("consumer.group.ConsumerGroupCommand", &["--list"]);
            if groups.lines().any(|l| l == group) { Ok(()) } else { Err(format!("{}\n{groups}", first.tail())) }
        });
        let second = spanmill("worker 2", &["run", "--config", config]);
        assert!(produce.finish(PATIENCE).success(), "produce failed:\n{}", produce.tail());

        let text = std::fs::read_to_string(&expect).expect("produce writes the expectation");
        let expected = expectation(&text);
        assert!(!expected.is_empty(), "the expectation is empty");
        Self { workers: [first, second], expected, _kafka: kafka, _dir: dir }
    }

    /// Fails at once when a worker has ended, rather than at the deadline.
    fn still_works(&mut self) {
        self.workers.iter_mut().for_each(must_run);
    }

    /// SIGTERM: both end well and in time.
    fn stop(&mut self) {
        for worker in &mut self.workers {
            let status = worker.terminate(STOPS_WITHIN);
            assert_eq!(status.code(), Some(0), "{}", worker.tail());
        }
    }
}

/// Starts a load into a new topic of four partitions; ends with what it must count to in `expect`.
fn produce(kafka: &RealKafka, topic: &str, expect: &Path) -> Daemon {
    let mut produce = spanmill(
        "produce",
        &[
            &["produce", "--brokers", &kafka.brokers, "--topic", topic, "--create-partitions", "4"][..],
            &["--rate", "2000", "--spans", "20000", "--spans-per-record", "20", "--seed", "7"],
            &["--expect", expect.to_str().expect("a temporary path is UTF-8")],
        ]
        .concat(),
    );
    wait_until("the topic is there", PATIENCE, || match (kafka.partitions(topic), produce.exited()) {
        (4, _) => Ok(()),
        (_, Some(status)) => panic!("produce ended with {status}:\n{}", produce.tail()),
        (n, None) => Err(format!("{n} partitions\n{}", produce.tail())),
    });
    produce
}

fn must_run(worker: &mut Daemon) {
    if let Some(status) = worker.exited() {
        panic!("a worker ended with {status}:\n{}", worker.tail());
    }
}

// === what Grafana asks ===

/// The service graph: rates and connection types by client and server, as the node graph of the Tempo data source.
fn grafana_draws_the_expected_graph(api: &Api, expected: &Values) {
    for metric in [
        "traces_service_graph_request_server_seconds_sum",
        "traces_service_graph_request_total",
        "traces_service_graph_request_failed_total",
    ] {
        let edges = ["client", "server"];
        let rates = rows(api, &format!("sum by (client, server) (rate({metric}[1h]))"));
        assert_eq!(label_sets(&rates, &edges), expected_sets(expected, metric, &edges), "rates of {metric}");
        let rising = expected_sets_where(expected, metric, &edges, |value| value > 0.0);
        let positive: Values = rates.into_iter().filter(|(_, rate)| *rate > 0.0).collect();
        assert_eq!(label_sets(&positive, &edges), rising, "positive rates of {metric}");

        let typed = ["client", "connection_type", "server"];
        let groups = rows(api, &format!("group by (client, connection_type, server) ({metric})"));
        assert_eq!(label_sets(&groups, &typed), expected_sets(expected, metric, &typed), "groups of {metric}");
    }
    let total = "traces_service_graph_request_total";
    assert!(!expected_sets(expected, total, &["client", "server"]).is_empty(), "the expectation has no edges");
}

/// The tables next to it: busiest span names, their errors, their 90th percentile.
fn grafana_fills_the_expected_tables(api: &Api, expected: &Values) {
    let calls = "traces_spanmetrics_calls_total";
    let server = |s: &Series| s.name == calls && s.label("span_kind") == "SPAN_KIND_SERVER";
    let failed = |s: &Series| server(s) && s.label("status_code") == "STATUS_CODE_ERROR";
    let names = |keep: &dyn Fn(&Series) -> bool| -> BTreeSet<String> {
        expected.keys().filter(|s| keep(s)).map(|s| s.label("span_name").to_owned()).collect()
    };
    let span_names =
        |values: &Values| -> BTreeSet<String> { values.keys().map(|s| s.label("span_name").to_owned()).collect() };

    let known = names(&server);
    assert!(!known.is_empty(), "the expectation has no server spans");
    let busiest = format!("topk(5, sum(rate({calls}{{span_kind=\"SPAN_KIND_SERVER\"}}[1h])) by (span_name))");
    let top = span_names(&rows(api, &busiest));
    assert_eq!(top.len(), known.len().min(5), "busiest: {top:?} of {known:?}");
    assert!(top.is_subset(&known), "busiest: {top:?} of {known:?}");

    let errors = rows(
        api,
        &format!(
            "sum(rate({calls}{{span_kind=\"SPAN_KIND_SERVER\",status_code=\"STATUS_CODE_ERROR\"}}[1h])) by (span_name)"
        ),
    );
    assert_eq!(span_names(&errors), names(&failed), "errors by span name");

    for name in top {
        let matcher = format!("span_name={name:?}");
        let p90 = rows(
            api,
            &format!("histogram_quantile(.9, sum(rate(traces_spanmetrics_latency_bucket{{{matcher}}}[1h])) by (le))"),
        );
        let values: Vec<f64> = p90.into_values().collect();
        assert!(matches!(values[..], [v] if v.is_finite() && v > 0.0), "90th percentile of {name}: {values:?}");
    }
}

/// No sample of a counter is less than the one before it.
fn no_counter_went_down(api: &Api, expected: &Values) {
    let names: BTreeSet<&str> = expected.keys().map(|s| s.name.as_str()).collect();
    for name in names {
        let fallen = rows(api, &format!("resets({name}[2h]) > 0"));
        assert!(fallen.is_empty(), "{name} went down: {fallen:?}");
    }
}

// === small change ===

/// Everything that spanmill has written.
fn stored(api: &Api) -> Result<Values, String> {
    api.instant("{__name__=~\"traces_.+\"}").map(values)
}

fn rows(api: &Api, query: &str) -> Values {
    values(api.instant(query).unwrap_or_else(|e| panic!("{query}: {e}")))
}

fn values(rows: Vec<servers::api::Row>) -> Values {
    rows.into_iter().map(|row| (row.series, row.value)).collect()
}

fn label_sets(values: &Values, names: &[&str]) -> BTreeSet<BTreeMap<String, String>> {
    values.keys().map(|s| s.only(names)).collect()
}

fn expected_sets(expected: &Values, metric: &str, names: &[&str]) -> BTreeSet<BTreeMap<String, String>> {
    expected_sets_where(expected, metric, names, |_| true)
}

fn expected_sets_where(
    expected: &Values,
    metric: &str,
    names: &[&str],
    keep: impl Fn(f64) -> bool,
) -> BTreeSet<BTreeMap<String, String>> {
    expected.iter().filter(|(s, v)| s.name == metric && keep(**v)).map(|(s, _)| s.only(names)).collect()
}

/// A remote-write request, written by hand, with one sample of `name{client="a"}` at this moment.
fn one_sample(name: &str, value: f64) -> Vec<u8> {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let timestamp = (now() * 1e3) as i64;
    let exemplar = Exemplar { labels: vec![label("traceID", "00ff")], value, timestamp };
    let series = TimeSeries {
        labels: vec![label("__name__", name), label("client", "a")],
        samples: vec![Sample { value, timestamp }],
        exemplars: vec![exemplar],
    };
    WriteRequest { timeseries: vec![series] }.encode_to_vec()
}

#[derive(prost::Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(prost::Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Exemplar>,
}

#[derive(prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(prost::Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(prost::Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}
