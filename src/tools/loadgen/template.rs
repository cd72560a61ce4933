//! Pre-encoded pieces of OTLP: the parts that are the same in every span of an operation are encoded once, by prost.
//!
//! A span is then a few copies and patches. The bytes are exactly what prost would write for the same message (a test
//! compares them), so the length of a span is also the size that a worker must count.

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use crate::core::model::wire::put_u64;

/// Stands for sixteen hex digits in a template's string values; every span gets its own digits there.
pub(super) const ID: &str = "################";

/// An attribute value.
#[derive(Debug, Clone)]
pub(super) enum Attr {
    /// A string; [`ID`] inside is replaced in every span.
    Text(String),
    /// An integer.
    Int(i64),
}

/// An attribute list.
pub(super) type Attrs = Vec<(&'static str, Attr)>;

/// The encoded, constant part of the spans of one operation.
#[derive(Debug, Clone)]
pub(super) struct SpanTemplate {
    /// Fields 5 and 6: name and kind.
    head: Vec<u8>,
    /// Field 9: the attributes.
    attrs: Vec<u8>,
    /// Where in `attrs` sixteen hex digits belong.
    ids: Vec<usize>,
    /// Field 11 of a failed span: an exception event; its time is patched.
    event: Vec<u8>,
    /// Where in `event` the eight bytes of its time begin.
    event_time: usize,
}

/// The encoded, constant part of a service's `ResourceSpans`.
#[derive(Debug, Clone)]
pub(super) struct ResourceTemplate {
    /// Field 1 of `ResourceSpans`: the resource.
    resource: Vec<u8>,
    /// Field 1 of `ScopeSpans`: the scope.
    scope: Vec<u8>,
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// Status code UNSET, as most SDKs leave it.
    Unset = 0,
    /// Status code OK.
    Ok = 1,
    /// Status code ERROR, with a message.
    Error = 2,
}

impl Outcome {
    /// All outcomes, in the order of their numbers.
    pub(super) const ALL: [Self; 3] = [Self::Unset, Self::Ok, Self::Error];

    /// The value of the `status_code` label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Unset => "STATUS_CODE_UNSET",
            Self::Ok => "STATUS_CODE_OK",
            Self::Error => "STATUS_CODE_ERROR",
        }
    }

    /// Field 15: the status. SDKs send it even when it is empty.
    fn encoded(self) -> &'static [u8] {
        match self {
            Self::Unset => &[0x7a, 0],
            Self::Ok => &[0x7a, 2, 0x18, 1],
            Self::Error => b"\x7a\x15\x12\x11deadline exceeded\x18\x02",
        }
    }
}

/// The variable part of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The trace ID.
    pub(super) trace: [u8; 16],
    /// The span ID.
    pub(super) id: u64,
    /// The parent's span ID; 0 for a root.
    pub(super) parent: u64,
    /// Start and end, nanoseconds since the epoch.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Index of the operation.
    pub(super) op: u32,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// Whether it carries the exception event.
    pub(super) exception: bool,
}

// === impl SpanTemplate ===

/// Trace ID, span ID, start, end: tags, lengths and contents.
const FIXED: usize = 18 + 10 + 9 + 9;
/// The parent's span ID.
const PARENT: usize = 10;
/// Field 16, flags: sampled, and that the parent is known to be local.
const FLAGS: [u8; 6] = [0x85, 0x01, 0x01, 0x01, 0x00, 0x00];

impl SpanTemplate {
    /// Encodes the constant parts of an operation's spans. `kind` is the number of the OTLP span kind.
    pub(super) fn new(name: &str, kind: u8, attrs: &Attrs) -> Self {
        let mut head = vec![0x2a];
        put_u64(&mut head, name.len() as u64);
        head.extend_from_slice(name.as_bytes());
        if kind != 0 {
            head.extend_from_slice(&[0x30, kind]);
        }
        let attrs = encode_attrs(0x4a, attrs);
        let ids = find_ids(&attrs);
        let (event, event_time) = exception();
        Self { head, attrs, ids, event, event_time }
    }

    /// The length of a span's message.
    pub(super) fn len(&self, span: &Span) -> usize {
        FIXED
            + if span.parent == 0 { 0 } else { PARENT }
            + self.head.len()
            + self.attrs.len()
            + if span.exception { self.event.len() } else { 0 }
            + span.outcome.encoded().len()
            + FLAGS.len()
    }

    /// Appends a span's message (without tag and length).
    pub(super) fn encode(&self, span: &Span, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0x0a, 16]);
        out.extend_from_slice(&span.trace);
        out.extend_from_slice(&[0x12, 8]);
        out.extend_from_slice(&span.id.to_be_bytes());
        if span.parent != 0 {
            out.extend_from_slice(&[0x22, 8]);
            out.extend_from_slice(&span.parent.to_be_bytes());
        }
        out.extend_from_slice(&self.head);
        out.push(0x39);
        out.extend_from_slice(&span.start.to_le_bytes());
        out.push(0x41);
        out.extend_from_slice(&span.end.to_le_bytes());
        let at = out.len();
        out.extend_from_slice(&self.attrs);
        for (&offset, salt) in self.ids.iter().zip(0..) {
            out[at + offset..at + offset + ID.len()].copy_from_slice(&hex(span.id.rotate_left(salt * 17 + 5)));
        }
        if span.exception {
            let at = out.len() + self.event_time;
            out.extend_from_slice(&self.event);
            out[at..at + 8].copy_from_slice(&span.end.to_le_bytes());
        }
        out.extend_from_slice(span.outcome.encoded());
        out.extend_from_slice(&FLAGS);
    }
}

// === impl ResourceTemplate ===

impl ResourceTemplate {
    /// Encodes a service's resource and scope.
    pub(super) fn new(attrs: &Attrs, scope: &str) -> Self {
        let resource = Resource { attributes: key_values(attrs), ..Resource::default() };
        let scope = InstrumentationScope {
            name: scope.to_owned(),
            version: "1.42.1".to_owned(),
            ..InstrumentationScope::default()
        };
        Self { resource: field(0x0a, &resource.encode_to_vec()), scope: field(0x0a, &scope.encode_to_vec()) }
    }

    /// Appends one `ResourceSpans` as a field of the request, up to the place where the spans follow: `spans` bytes of
    /// complete `ScopeSpans.spans` fields.
    pub(super) fn open(&self, spans: usize, out: &mut Vec<u8>) {
        let scope_spans = self.scope.len() + spans;
        let resource_spans = self.resource.len() + field_len(scope_spans);
        out.push(0x0a);
        put_u64(out, resource_spans as u64);
        out.extend_from_slice(&self.resource);
        out.push(0x12);
        put_u64(out, scope_spans as u64);
        out.extend_from_slice(&self.scope);
    }

    /// About how long everything around the spans is.
    pub(super) fn overhead(&self) -> usize {
        self.resource.len() + self.scope.len() + 12
    }
}

/// Tag byte of `ScopeSpans.spans`.
pub(super) const SPAN_TAG: u8 = 0x12;

/// The length of a field with a one-byte tag and `len` bytes of content.
pub(super) fn field_len(len: usize) -> usize {
    1 + (usize::BITS - (len | 1).leading_zeros()).div_ceil(7) as usize + len
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    put_u64(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out
}

fn key_values(attrs: &Attrs) -> Vec<KeyValue> {
    let value = |a: &Attr| match a {
        Attr::Text(s) => Value::StringValue(s.clone()),
        Attr::Int(i) => Value::IntValue(*i),
    };
    attrs
        .iter()
        .map(|(key, a)| KeyValue {
            key: (*key).to_owned(),
            value: Some(AnyValue { value: Some(value(a)) }),
            ..KeyValue::default()
        })
        .collect()
}

fn encode_attrs(tag: u8, attrs: &Attrs) -> Vec<u8> {
    key_values(attrs).iter().flat_map(|kv| field(tag, &kv.encode_to_vec())).collect()
}

fn find_ids(bytes: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + ID.len() <= bytes.len() {
        if bytes[at..].starts_with(ID.as_bytes()) {
            found.push(at);
            at += ID.len();
        } else {
            at += 1;
        }
    }
    found
}

/// An exception event as a field of the span, and where its time begins.
fn exception() -> (Vec<u8>, usize) {
    const STACK: &str = "java.net.SocketTimeoutException: timed out\n\tat shop.net.Channel.read(Channel.java:217)\n\t\
        at shop.net.Client.call(Client.java:88)\n\tat shop.api.Handler.handle(Handler.java:41)";
    let attrs = vec![
        ("exception.type", Attr::Text("java.net.SocketTimeoutException".to_owned())),
        ("exception.message", Attr::Text("timed out".to_owned())),
        ("exception.stacktrace", Attr::Text(STACK.to_owned())),
    ];
    let mut body = vec![0x09];
    body.extend_from_slice(&[0; 8]);
    body.extend_from_slice(&field(0x12, b"exception"));
    body.extend_from_slice(&encode_attrs(0x1a, &attrs));
    let event = field(0x5a, &body);
    let time = event.len() - body.len() + 1;
    (event, time)
}

/// Sixteen lower-case hex digits.
pub(super) fn hex(v: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 16];
    for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(v.to_be_bytes()) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    out
}
