//! Spans of a worker's own work, at an OTLP receiver on loopback.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use spanmill::config::settings::{Secret, TenantSource, Traces};
use spanmill::tools::receiver::Receiver;
use spanmill::worker::telemetry::Telemetry;

use crate::child::{Guarded, signal};
use crate::mill::{PATIENCE, TOPIC, config, create_topics, records, wait_until};

/// What it received: attributes of the resource, with headers and path, and spans.
#[derive(Default)]
struct Received {
    about: BTreeMap<String, String>,
    spans: Vec<Span>,
}

/// An OTLP receiver. It answers with a status, and with as many rejected spans.
struct Collector {
    url: String,
    received: Arc<Mutex<Received>>,
    _runtime: tokio::runtime::Runtime,
}

// === impl Collector ===

impl Collector {
    fn start(status: StatusCode, rejected_spans: i64) -> Self {
        let received = Arc::<Mutex<Received>>::default();
        let noting = Arc::clone(&received);
        let handler = move |uri: Uri, headers: HeaderMap, body: Bytes| async move {
            let request = ExportTraceServiceRequest::decode(body).expect("a request of OTLP");
            let mut noted = lock(&noting);
            noted.about.insert("path".to_owned(), uri.path().to_owned());
            for name in ["api-key", "content-type"] {
                let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
                noted.about.insert(name.to_owned(), value.to_owned());
            }
            for resource in request.resource_spans {
                noted.about.extend(texts(&resource.resource.unwrap_or_default().attributes));
                noted.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
            let partial = ExportTracePartialSuccess { rejected_spans, error_message: String::new() };
            (status, ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec())
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let url = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
        let app = axum::Router::new().fallback(handler);
        runtime.spawn(async move { drop(axum::serve(listener, app).await) });
        Self { url, received, _runtime: runtime }
    }

    fn received(&self) -> MutexGuard<'_, Received> {
        lock(&self.received)
    }

    fn named(&self, name: &str) -> Vec<Span> {
        self.received().spans.iter().filter(|span| span.name == name).cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.clone().and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn settings(endpoint: &str) -> Traces {
    let headers = BTreeMap::from([("api-key".to_owned(), Secret::new("hunter2"))]);
    Traces { endpoint: endpoint.to_owned(), sampling: 1.0, headers }
}

/// How many spans had this result.
fn spans(telemetry: &Telemetry, result: &str) -> u64 {
    let series = format!("spanmill_own_spans_total{{result=\"{result}\"}} ");
    let text = telemetry.render();
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.and_then(|value| value.parse().ok()).expect("it is counted from the start")
}

/// A worker as a process, which sends its spans to `endpoint`.
fn worker(brokers: &str, url: &str, endpoint: &str) -> Guarded {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanmill"));
    command.arg("run").stderr(Stdio::piped()).stdout(Stdio::null());
    for set in [
        format!("kafka.brokers={brokers}"),
        format!("kafka.topics={TOPIC}"),
        format!("remote_write.url={url}"),
        format!("telemetry.traces.endpoint={endpoint}"),
    ] {
        command.args(["--set", &set]);
    }
    let headers = "telemetry.traces.headers={api-key: hunter2}";
    for set in ["kafka.shards=1", "time.step=1s", "time.idle=500ms", "admin.listen=", headers] {
        command.args(["--set", set]);
    }
    Guarded::start(&mut command)
}

#[test]
fn a_step_that_goes_from_its_close_to_the_receiver_is_a_trace_and_so_is_a_task_that_is_acquired() {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let brokers = cluster.bootstrap_servers();
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let collector = Collector::start(StatusCode::OK, 0);
    create_topics(&cluster, &config(&brokers, &receiver.url(), TenantSource::Key));
    let worker = worker(&brokers, &receiver.url(), &collector.url);
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a producer");
    for record in records() {
        producer.send(BaseRecord::<[u8], [u8]>::to(TOPIC).payload(&record.value)).map_err(|(e, _)| e).expect("sent");
    }
    producer.flush(PATIENCE).expect("sent");
    wait_until("a step has come to its end", || !collector.named("close step").is_empty());
    assert!(signal(worker.id(), "TERM"));
    let ended = worker.output();
    let log = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{log}");
    assert!(!log.contains("hunter2"), "{log}");

    let received = collector.received().about.clone();
    let about = |key: &str| received.get(key).map(String::as_str).unwrap_or_default();
    assert_eq!((about("path"), about("api-key")), ("/v1/traces", "hunter2"));
    assert_eq!((about("service.name"), about("messaging.consumer.group.name")), ("spanmill", "spanmill"));
    assert_eq!(about("content-type"), "application/x-protobuf");
    // What ended with the worker has come, too.
    let events: Vec<String> = collector
        .named("rebalance")
        .iter()
        .filter_map(|span| texts(&span.attributes).remove("spanmill.event"))
        .collect();
    assert!(events.iter().any(|event| event == "assigned"), "{events:?}");
    let kinds: Vec<String> = collector
        .named("acquire task")
        .iter()
        .filter_map(|span| texts(&span.attributes).remove("spanmill.task.kind"))
        .collect();
    assert!(["span", "series"].iter().all(|kind| kinds.iter().any(|k| k == kind)), "{kinds:?}");

    every_step_has_its_parts(&collector, &receiver);
    assert_eq!(receiver.violations(), Vec::<String>::new());
}

/// Every step that came to its end has its step-close record and its samples below it.
fn every_step_has_its_parts(collector: &Collector, receiver: &Receiver) {
    let sent = collector.named("send samples");
    let newest = receiver.snapshot().values().map(|series| series.last_ts).max();
    let steps = collector.named("close step");
    assert!(steps.iter().any(|step| step.status.is_none()), "none came to its end: {steps:?}");
    for step in steps.iter().filter(|step| step.status.is_none()) {
        let attributes = texts(&step.attributes);
        assert_eq!(
            (&*attributes["spanmill.shard"], &*attributes["spanmill.cause"]),
            ("0", "watermark"),
            "{attributes:?}"
        );
        assert!(attributes["spanmill.step"].parse::<i64>().ok() <= newest, "{attributes:?}: {newest:?}");
        assert!(step.parent_span_id.is_empty() && step.trace_id.len() == 16 && step.span_id.len() == 8);
        let below = |span: &&Span| span.trace_id == step.trace_id && span.parent_span_id == step.span_id;
        let journal = collector.named("append to journal");
        let [journal] = &journal.iter().filter(below).collect::<Vec<_>>()[..] else { panic!("{journal:?}") };
        for part in sent.iter().filter(below).chain([*journal]) {
            assert!(part.start_time_unix_nano >= step.start_time_unix_nano, "{part:?}");
            assert!(part.end_time_unix_nano <= step.end_time_unix_nano, "{part:?}");
        }
    }
    let samples: u64 =
        sent.iter().filter_map(|span| texts(&span.attributes)["spanmill.samples"].parse::<u64>().ok()).sum();
    assert!(samples > 0, "{sent:?}");
}

#[test]
fn spans_that_are_refused_in_part_or_as_a_whole_are_counted_as_failed() {
    for (status, rejected, failed) in [(StatusCode::OK, 2, 2), (StatusCode::SERVICE_UNAVAILABLE, 0, 3)] {
        let (collector, telemetry) = (Collector::start(status, rejected), Telemetry::new());
        let thread = telemetry.start_traces(&settings(&collector.url), "g").expect("it starts").expect("it is wanted");
        for name in ["a", "b"] {
            telemetry.trace(name).expect("all are in the sample").end();
        }
        telemetry.trace("c").expect("all are in the sample").fail("it is broken");
        thread.stop(PATIENCE);
        assert_eq!((spans(&telemetry, "failed"), spans(&telemetry, "sent")), (failed, 3 - failed));
        let failed = collector.named("c").remove(0).status.expect("it failed");
        assert_eq!((failed.code, &*failed.message), (2, "it is broken"));
    }
}

#[test]
fn a_receiver_that_does_not_answer_holds_no_thread_up_and_what_does_not_fit_is_counted_as_dropped() {
    // The system accepts connections, and no program ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let telemetry = Telemetry::new();
    let url = format!("http://{}/v1/traces", silent.local_addr().expect("bound"));
    let thread = telemetry.start_traces(&settings(&url), "g").expect("it starts").expect("it is wanted");
    let began = Instant::now();
    for _ in 0..10_000 {
        telemetry.trace("work").expect("all are in the sample").end();
    }
    // A request waits for ten seconds.
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    assert!((5_000..10_000).contains(&spans(&telemetry, "dropped")), "{}", spans(&telemetry, "dropped"));
    thread.stop(Duration::from_millis(10));
}

#[test]
fn without_an_endpoint_there_are_no_spans_and_the_sample_is_as_large_as_the_settings_have_it() {
    let telemetry = Telemetry::new();
    assert!(telemetry.start_traces(&settings(""), "g").expect("nothing can fail").is_none());
    assert!(telemetry.trace("work").is_none());
    let thread = telemetry.start_traces(&Traces { sampling: 0.25, ..settings("http://127.0.0.1:9/v1/traces") }, "g");
    let sampled = (0..4_000).filter(|_| telemetry.trace("work").is_some()).count();
    // Twelve times the standard deviation on either side.
    assert!((670..=1_330).contains(&sampled), "{sampled}");
    thread.expect("it starts").expect("it is wanted").stop(Duration::from_millis(10));
}
