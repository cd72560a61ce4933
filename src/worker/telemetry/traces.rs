//! Spans of spanmill's own work, over OTLP/HTTP: of what is slow and rare, such as the way of a step to its receiver. Off unless
//! `telemetry.traces.endpoint` is set.
//!
//! *In:* spans that ended, from any thread. *Out:* OTLP requests. *Owner:* the process; a thread of its own sends them. *Never:* a
//! span for a record; a wait of the thread that has a span: when the queue is full, the span is dropped and counted.

#![allow(clippy::disallowed_methods, reason = "an edge: spans have the times of the clock")]

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prometheus::{IntCounterVec, Registry};
use prost::Message as _;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder};

use super::meters::counters;
use super::{flood, names};
use crate::config::settings;

/// Spans that wait to be sent, at most.
const QUEUE: usize = 2_048;
/// Spans in a request, at most.
const BATCH: usize = 512;
/// How long a span waits for others to be sent with.
const LINGER: Duration = Duration::from_secs(5);
/// A request that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The name of the service, and of the scope.
const NAME: &str = "spanmill";

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TracesError {
    /// No HTTP client with these headers.
    #[error("telemetry.traces: cannot set up the HTTP client: {0}; check the headers and the system's CA certificates")]
    Client(reqwest::Error),
    /// No thread for it.
    #[error("telemetry.traces: cannot start its thread: {0}")]
    Thread(std::io::Error),
}

/// Where spans go. Cloning gives another handle to the same.
#[derive(Debug, Clone)]
pub struct Traces {
    queue: SyncSender<Event>,
    /// The part of the traces that are recorded.
    sampling: f64,
    outcomes: IntCounterVec,
}

/// What the thread gets.
#[derive(Debug)]
enum Event {
    Ended(Box<Span>),
    /// Everything that came before this is to be sent, and then nothing more.
    Stop,
}

/// Work that is under way. Unless it is ended, dropping it ends it as abandoned.
#[derive(Debug)]
pub struct ActiveSpan {
    traces: Traces,
    /// `None` once it has ended.
    span: Option<Box<Span>>,
}

/// The thread that sends spans.
#[derive(Debug)]
pub struct TracesThread {
    queue: SyncSender<Event>,
    thread: JoinHandle<()>,
}

struct Export {
    request: RequestBuilder,
    resource: Resource,
    outcomes: IntCounterVec,
    runtime: tokio::runtime::Runtime,
    /// Where it goes, without what may be secret in it.
    shown: String,
}

/// The counter of spans by what became of them.
pub(super) fn outcomes(registry: &Registry) -> IntCounterVec {
    counters(registry, names::OWN_SPANS, ["sent", "dropped", "failed"])
}

// === impl Traces ===

impl Traces {
    /// Starts the thread that sends spans of a worker of `group`; `None` without an endpoint.
    ///
    /// # Errors
    /// When there is no HTTP client, or no thread.
    pub(super) fn start(
        settings: &settings::Traces,
        group: &str,
        outcomes: IntCounterVec,
    ) -> Result<Option<(Self, TracesThread)>, TracesError> {
        if settings.endpoint.is_empty() {
            return Ok(None);
        }
        // Between requests the thread waits for spans, so it would not notice that an idle connection was closed.
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(0);
        let client = client.timeout(TIMEOUT).build().map_err(TracesError::Client)?;
        let mut request = client.post(&settings.endpoint).header(CONTENT_TYPE, "application/x-protobuf");
        for (name, value) in &settings.headers {
            request = request.header(name, value.reveal());
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(TracesError::Thread)?;
        let shown = settings.endpoint.split('?').next().unwrap_or_default().to_owned();
        let export = Export { request, resource: resource(group), outcomes: outcomes.clone(), runtime, shown };
        let (queue, ended) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || export.run(&ended))
            .map_err(TracesError::Thread)?;
        let traces = Self { queue: queue.clone(), sampling: settings.sampling, outcomes };
        Ok(Some((traces, TracesThread { queue, thread })))
    }

    /// Begins a trace, if it is in the sample.
    pub(super) fn root(&self, name: &'static str) -> Option<ActiveSpan> {
        let trace_id = rand::random::<[u8; 16]>();
        (rand::random::<f64>() < self.sampling)
            .then(|| self.begin(name, SpanKind::Internal, trace_id.to_vec(), Vec::new()))
    }

    fn begin(&self, name: &'static str, kind: SpanKind, trace_id: Vec<u8>, parent_span_id: Vec<u8>) -> ActiveSpan {
        let span = Span {
            trace_id,
            // Zero is no ID.
            span_id: rand::random_range(1..=u64::MAX).to_be_bytes().to_vec(),
            parent_span_id,
            name: name.to_owned(),
            kind: kind.into(),
            start_time_unix_nano: nanos(SystemTime::now()),
            ..Span::default()
        };
        ActiveSpan { traces: self.clone(), span: Some(Box::new(span)) }
    }
}

// === impl ActiveSpan ===

impl ActiveSpan {
    /// Begins a part of this work; a client calls another service.
    #[must_use]
    pub fn child(&self, name: &'static str, is_client: bool) -> Self {
        let kind = if is_client { SpanKind::Client } else { SpanKind::Internal };
        let (trace_id, parent) =
            self.span.as_ref().map(|s| (s.trace_id.clone(), s.span_id.clone())).unwrap_or_default();
        self.traces.begin(name, kind, trace_id, parent)
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Attribute>) -> Self {
        if let Some(span) = &mut self.span {
            span.attributes.push(attribute(key, value));
        }
        self
    }

    /// Ends it.
    pub fn end(mut self) {
        self.send();
    }

    /// Ends it as failed.
    pub fn fail(mut self, why: &str) {
        self.set_failed(why);
        self.send();
    }

    fn set_failed(&mut self, why: &str) {
        if let Some(span) = &mut self.span {
            span.status = Some(Status { code: StatusCode::Error.into(), message: why.to_owned() });
        }
    }

    fn send(&mut self) {
        let Some(mut span) = self.span.take() else { return };
        // A clock that was set back makes no negative duration.
        span.end_time_unix_nano = nanos(SystemTime::now()).max(span.start_time_unix_nano);
        if self.traces.queue.try_send(Event::Ended(span)).is_err() {
            self.traces.outcomes.with_label_values(&["dropped"]).inc();
        }
    }
}

impl Drop for ActiveSpan {
    fn drop(&mut self) {
        self.set_failed("abandoned, because its task was closed");
        self.send();
    }
}

// === impl TracesThread ===

impl TracesThread {
    /// Sends what has ended, within this time, and nothing after that.
    pub fn stop(self, within: Duration) {
        let until = Instant::now() + within;
        // With a full queue it is busy; what it holds then is lost with the process.
        if self.queue.try_send(Event::Stop).is_err() {
            return;
        }
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

// === impl Export ===

impl Export {
    fn run(&self, ended: &Receiver<Event>) {
        let mut batch: Vec<Span> = Vec::new();
        let mut due = Instant::now();
        loop {
            let left = if batch.is_empty() { LINGER } else { due.saturating_duration_since(Instant::now()) };
            let over = match ended.recv_timeout(left) {
                Ok(Event::Ended(span)) => {
                    if batch.is_empty() {
                        due = Instant::now() + LINGER;
                    }
                    batch.push(*span);
                    false
                }
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => true,
                Err(RecvTimeoutError::Timeout) => false,
            };
            if over || batch.len() >= BATCH || (!batch.is_empty() && Instant::now() >= due) {
                self.send(std::mem::take(&mut batch));
            }
            if over {
                return;
            }
        }
    }

    fn send(&self, spans: Vec<Span>) {
        let all = spans.len() as u64;
        if all == 0 {
            return;
        }
        let failed = self.runtime.block_on(self.post(spans)).map_or_else(
            |why| {
                self.say(&why);
                all
            },
            |rejected| rejected.min(all),
        );
        self.outcomes.with_label_values(&["failed"]).inc_by(failed);
        self.outcomes.with_label_values(&["sent"]).inc_by(all - failed);
    }

    /// Sends spans; how many were rejected by an answer that accepts the others.
    async fn post(&self, spans: Vec<Span>) -> Result<u64, String> {
        let scope = InstrumentationScope {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        let request = self.request.try_clone().ok_or("the request cannot be repeated")?;
        let request = request.body(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
        // The URL may hold a secret.
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        if !answer.status().is_success() {
            return Err(format!("it answers {}", answer.status()));
        }
        let body = answer.bytes().await.map_err(|error| error.without_url().to_string())?;
        let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|answer| answer.partial_success);
        let rejected = partial.map_or(0, |partial| partial.rejected_spans.max(0).unsigned_abs());
        if rejected > 0 {
            self.say("it rejects some of the spans");
        }
        Ok(rejected)
    }

    fn say(&self, why: &str) {
        if let Some(held_back) = flood::may_say("telemetry.traces") {
            let endpoint = self.shown.as_str();
            tracing::warn!(
                endpoint,
                why,
                held_back,
                "spans of this worker's own work are lost; check telemetry.traces"
            );
        }
    }
}

/// A value of an attribute.
#[derive(Debug, Clone)]
pub struct Attribute(Value);

// === impl Attribute ===

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self(Value::StringValue(text.to_owned()))
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Self(Value::IntValue(number))
    }
}

fn attribute(key: &str, value: impl Into<Attribute>) -> KeyValue {
    let value = Some(AnyValue { value: Some(value.into().0) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// The sender: workers of a group differ by the instance.
fn resource(group: &str) -> Resource {
    let instance = format!("{:016x}", rand::random::<u64>());
    let attributes = vec![
        attribute("service.name", NAME),
        attribute("service.version", env!("CARGO_PKG_VERSION")),
        attribute("service.instance.id", instance.as_str()),
        attribute("messaging.consumer.group.name", group),
    ];
    Resource { attributes, ..Resource::default() }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
