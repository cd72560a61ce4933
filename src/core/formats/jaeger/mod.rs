//! Jaeger's spans, as protobuf and as JSON, to OTLP.

mod api;
mod model;
mod proto;

use super::FormatError;
use super::write::{self, Attributes, Request, SpanFields, Value, event, link};

pub(super) use api::api_json;
pub(super) use model::model_json;
pub(super) use proto::proto;

/// What stands for a missing service name in what the Collector writes.
const NO_SERVICE: &[u8] = b"OTLPResourceNoServiceName";
const HTTP_STATUS: [&[u8]; 2] = [b"http.status_code", b"http.response.status_code"];
const SAMPLED: u32 = 1;

/// One span of Jaeger, wherever it comes from.
#[derive(Debug, Default)]
struct Span {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    name: Vec<u8>,
    references: Vec<Reference>,
    flags: u32,
    start_ns: i128,
    duration_ns: i128,
    tags: Vec<Tag>,
    logs: Vec<Log>,
    process: Option<Process>,
}

#[derive(Debug, Clone)]
struct Reference {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    /// Else it is one that this one follows from.
    is_child_of: bool,
}

#[derive(Debug, Clone)]
struct Tag {
    key: Vec<u8>,
    value: TagValue,
}

#[derive(Debug, Clone)]
enum TagValue {
    Text(Vec<u8>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
    /// A type that Jaeger does not have.
    Unknown(i32),
}

#[derive(Debug)]
struct Log {
    time_ns: i128,
    fields: Vec<Tag>,
}

#[derive(Debug, Clone, Default)]
struct Process {
    service: Vec<u8>,
    tags: Vec<Tag>,
}

/// An ID of 16 or 8 bytes, or one of 8 bytes that is none.
fn trace_id(bytes: &[u8]) -> Result<[u8; 16], FormatError> {
    super::padded(bytes).ok_or(FormatError::Id("a trace ID that has neither 16 nor 8 bytes"))
}

fn span_id(bytes: &[u8]) -> Result<[u8; 8], FormatError> {
    bytes.try_into().map_err(|_| FormatError::Id("a span ID that has not 8 bytes"))
}

/// A time that fits OTLP.
fn nanos(ns: i128) -> u64 {
    u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
}

/// Appends a span of a process to a request.
fn put(span: &Span, process: Option<&Process>, request: &mut Request<'_>) {
    let (scope, tags) = scope_and_tags(&span.tags);
    let parent = parent(span);
    let mut fields = SpanFields {
        trace_id: span.trace_id,
        span_id: span.span_id,
        parent: parent.unwrap_or_default(),
        name: &span.name,
        start_ns: nanos(span.start_ns),
        end_ns: nanos(span.start_ns.saturating_add(span.duration_ns)),
        attributes: attributes(tags),
        flags: span.flags & SAMPLED,
        ..SpanFields::default()
    };
    let kind = fields.attributes.take(b"span.kind").map(|kind| kind_of(&kind.into_text()));
    fields.kind = kind.unwrap_or_default();
    let status = Status::take(&mut fields.attributes, fields.kind);
    let (message, state);
    (fields.status_code, message) = (status.code, status.message);
    fields.status_message = &message;
    state = fields.attributes.take(b"w3c.tracestate").map(Value::into_text).unwrap_or_default();
    fields.trace_state = &state;
    for log in &span.logs {
        let mut attributes = attributes(log.fields.iter());
        let name = attributes.take(b"event").map(Value::into_text).unwrap_or_default();
        event(&mut fields.events, nanos(log.time_ns), &name, &attributes, 0);
    }
    for reference in span.references.iter().filter(|r| !(r.is_child_of && Some(r.span_id) == parent)) {
        let mut attributes = Attributes::default();
        let kind: &[u8] = if reference.is_child_of { b"child_of" } else { b"follows_from" };
        attributes.text(b"opentracing.ref_type", kind);
        link(&mut fields.links, (&reference.trace_id, &reference.span_id), b"", &attributes, 0);
    }
    request.span(&resource(process), &scope, &fields);
}

/// The parent: the first span of the same trace that this one is a child of, else the first that it follows from.
fn parent(span: &Span) -> Option<[u8; 8]> {
    let mut own = span.references.iter().filter(|reference| reference.trace_id == span.trace_id);
    let first = own.clone().next();
    own.find(|reference| reference.is_child_of).or(first).map(|reference| reference.span_id)
}

/// The instrumentation scope, and the tags that do not name it.
fn scope_and_tags(tags: &[Tag]) -> (Vec<u8>, impl Iterator<Item = &Tag>) {
    let place = |key: &[u8]| tags.iter().position(|tag| tag.key == key);
    let name = place(b"otel.scope.name");
    let version = name.and_then(|_| place(b"otel.scope.version"));
    let text = |at: Option<usize>| match at.and_then(|at| tags.get(at)).map(|tag| &tag.value) {
        Some(TagValue::Text(text)) => text.as_slice(),
        _ => &[],
    };
    let scope = write::scope(text(name), text(version));
    let others = tags.iter().enumerate().filter(move |(at, _)| Some(*at) != name && Some(*at) != version);
    (scope, others.map(|(_, tag)| tag))
}

fn attributes<'a>(tags: impl Iterator<Item = &'a Tag>) -> Attributes<'a> {
    let mut attributes = Attributes::default();
    for tag in tags {
        // The older name of the convention stands for the newer one.
        let key = if HTTP_STATUS.contains(&tag.key.as_slice()) { HTTP_STATUS[1] } else { tag.key.as_slice() };
        attributes.set(key, value(&tag.value));
    }
    attributes
}

fn value(value: &TagValue) -> Value<'_> {
    match value {
        TagValue::Text(text) => Value::Text(text.into()),
        TagValue::Bool(value) => Value::Bool(*value),
        TagValue::Int(value) => Value::Int(*value),
        TagValue::Double(value) => Value::Double(*value),
        TagValue::Bytes(bytes) => Value::Bytes(bytes),
        TagValue::Unknown(number) => Value::Text(format!("<Unknown Jaeger TagType \"{number}\">").into_bytes().into()),
    }
}

fn kind_of(text: &[u8]) -> u64 {
    match text {
        b"internal" => write::INTERNAL,
        b"server" => write::SERVER,
        b"client" => write::CLIENT,
        b"producer" => write::PRODUCER,
        b"consumer" => write::CONSUMER,
        _ => 0,
    }
}

fn resource(process: Option<&Process>) -> Vec<u8> {
    let Some(process) = process.filter(|process| process.service != NO_SERVICE) else { return Vec::new() };
    let mut all = Attributes::default();
    if !process.service.is_empty() {
        all.text(b"service.name", &process.service);
    }
    for tag in &process.tags {
        let key = if HTTP_STATUS.contains(&tag.key.as_slice()) { HTTP_STATUS[1] } else { tag.key.as_slice() };
        all.set(key, value(&tag.value));
    }
    if all.get(b"host.name").is_none()
        && let Some(name) = all.take(b"hostname")
    {
        all.set(b"host.name", name);
    }
    if all.get(b"opencensus.exporterversion").is_none()
        && let Some(version) = all.take(b"jaeger.version")
    {
        let version = [b"Jaeger-".as_slice(), &version.into_text()].concat();
        all.text(b"opencensus.exporterversion", version);
    }
    write::resource(&all)
}

/// The status that the tags hold.
struct Status<'a> {
    code: u64,
    message: std::borrow::Cow<'a, [u8]>,
}

// === impl Status ===

impl<'a> Status<'a> {
    /// Takes the tags that are nothing but the status. `error: true` comes first, then what OpenTelemetry's exporters write,
    /// then the status of HTTP.
    fn take(attributes: &mut Attributes<'a>, kind: u64) -> Self {
        let error = attributes.get(b"error") == Some(&Value::Bool(true));
        if error {
            attributes.take(b"error");
            let told = attributes.take(b"otel.status_description").map(Value::into_text);
            let message = told.unwrap_or_else(|| http_message(attributes));
            attributes.take(b"otel.status_code");
            return Self { code: write::ERROR, message };
        }
        if let Some(told) = attributes.take(b"otel.status_code") {
            let code = match told.into_text().to_ascii_uppercase().as_slice() {
                b"OK" => write::OK,
                b"ERROR" => write::ERROR,
                _ => 0,
            };
            let message = attributes.take(b"otel.status_description").map(Value::into_text).unwrap_or_default();
            return Self { code, message };
        }
        let code = attributes.get(HTTP_STATUS[1]).and_then(http_status);
        if code.is_some_and(|code| is_http_error(code, kind)) {
            return Self { code: write::ERROR, message: http_message(attributes) };
        }
        Self { code: 0, message: std::borrow::Cow::Borrowed(&[]) }
    }
}

fn http_message<'a>(attributes: &Attributes<'a>) -> std::borrow::Cow<'a, [u8]> {
    attributes.get(b"http.status_message").cloned().map(Value::into_text).unwrap_or_default()
}

fn http_status(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Int(code) => Some(*code),
        Value::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// Whether a status of HTTP is an error for this kind of span: what a client did wrong is none of the server's.
fn is_http_error(code: i64, kind: u64) -> bool {
    if (400..500).contains(&code) && kind == write::SERVER {
        return false;
    }
    !(100..399).contains(&code)
}
