//! A Kafka, workers whose settings a test chooses, and spans that it writes itself.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use futures_executor::block_on;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind};
use prost::Message as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tempfile::TempDir;

use crate::servers::api::now;
use crate::servers::daemon::Daemon;
use crate::servers::kafka::RealKafka;
use crate::servers::spanmill::{spanmill, worker_config};
use crate::{PATIENCE, STOPS_WITHIN};

/// A Kafka and a directory for configurations.
pub struct Scene {
    kafka: RealKafka,
    dir: TempDir,
    write_url: String,
}

// === impl Scene ===

impl Scene {
    /// Workers send to `write_url` unless their tenants do otherwise.
    pub fn start(write_url: String) -> Self {
        let dir = TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
        Self { kafka: RealKafka::start(), dir, write_url }
    }

    /// Where [`Scene::says`] writes to.
    pub fn overrides(&self) -> PathBuf {
        self.dir.path().join("overrides.yaml")
    }

    /// Replaces the overrides, in one go.
    pub fn says(&self, overrides: &str) {
        let new = self.dir.path().join("new.yaml");
        std::fs::write(&new, overrides).expect("a file can be written");
        std::fs::rename(new, self.overrides()).expect("a file can be replaced");
    }

    /// Makes a topic.
    pub fn create(&self, topic: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        for made in block_on(admin.create_topics(&[new], &options)).expect("the broker answers") {
            made.expect("the topic is new");
        }
    }

    /// Starts a worker of the group `TOPIC-group`; `settings` are `PATH=VALUE`.
    pub fn worker(&self, name: &str, topic: &str, settings: &[&str]) -> Daemon {
        let dir = self.dir.path().join(topic);
        std::fs::create_dir_all(&dir).expect("a directory can be made");
        let config = worker_config(&dir, &self.kafka.brokers, topic, &self.write_url, "5s");
        let mut args = vec!["run", "--config", config.to_str().expect("a temporary path is UTF-8")];
        settings.iter().for_each(|set| args.extend(["--set", set]));
        spanmill(name, &args)
    }

    /// What a command of spanmill prints, with the settings of [`Scene::worker`], and its exit code.
    pub fn asks(&self, command: &str, topic: &str, args: &[&str]) -> (String, Option<i32>) {
        let config = worker_config(self.dir.path(), &self.kafka.brokers, topic, &self.write_url, "5s");
        let mut spanmill = Command::new(env!("CARGO_BIN_EXE_spanmill"));
        let output = spanmill.arg(command).arg("--config").arg(config).args(args).output().expect("spanmill runs");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (said, output.status.code())
    }

    /// Where a partition begins and ends.
    pub fn bounds(&self, topic: &str, partition: i32) -> (i64, i64) {
        self.kafka.bounds(topic, partition)
    }

    /// Sends each record to its partition; the broker's clients give them the time of this moment.
    pub fn send(&self, topic: &str, records: impl IntoIterator<Item = (i32, Vec<u8>)>) {
        let producer: BaseProducer = self.client().create().expect("a producer");
        for (partition, value) in records {
            let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition).payload(&value);
            producer.send(record).map_err(|(e, _)| e).expect("the queue has room");
        }
        producer.flush(PATIENCE).expect("everything is delivered");
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka.brokers);
        config
    }
}

/// SIGTERM: it ends well and in time, and had nothing to complain about.
pub fn stop(mut worker: Daemon) {
    let status = worker.terminate(STOPS_WITHIN);
    assert_eq!(status.code(), Some(0), "{}", worker.tail());
    assert!(!worker.tail().contains("ERROR"), "{}", worker.tail());
}

/// A span that has just ended. `id` is unique; the root of a trace of its own until [`child`] says otherwise.
pub fn span(id: u64, name: &str, kind: SpanKind, took: Duration) -> Span {
    let end = (now() * 1e9) as u64;
    Span {
        trace_id: u128::from(id).to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        name: name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: end - took.as_nanos() as u64,
        end_time_unix_nano: end,
        ..Span::default()
    }
}

/// `span` below `parent`, in its trace.
pub fn child(parent: &Span, span: Span) -> Span {
    Span { trace_id: parent.trace_id.clone(), parent_span_id: parent.span_id.clone(), ..span }
}

/// `span` with an attribute more.
pub fn with(mut span: Span, key: &str, value: Value) -> Span {
    span.attributes.push(attribute(key, value));
    span
}

/// `span`, failed.
pub fn failed(span: Span) -> Span {
    Span { status: Some(Status { code: 2, message: String::new() }), ..span }
}

/// Spans of one resource with these attributes.
pub fn resource(attributes: &[(&str, &str)], spans: Vec<Span>) -> ResourceSpans {
    let attributes = attributes.iter().map(|(k, v)| attribute(k, Value::StringValue((*v).to_owned()))).collect();
    let resource = Some(Resource { attributes, ..Resource::default() });
    ResourceSpans { resource, scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }], ..Default::default() }
}

/// The value of a record.
pub fn record(resource_spans: Vec<ResourceSpans>) -> Vec<u8> {
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
