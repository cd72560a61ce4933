//! Jaeger's `model.proto`: one span with its process. Texts are bytes here: nothing checks that they are UTF-8.

use prost::Message;

use super::{FormatError, Log, Process, Reference, Span, Tag, TagValue, put, span_id, trace_id};
use crate::core::formats::protobuf::bounded;
use crate::core::formats::write::Request;

/// Fields of a span that hold lists.
const LOGS: u64 = 9;
const PROCESS: u64 = 10;

#[derive(Clone, PartialEq, Message)]
struct ProtoSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    operation_name: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    references: Vec<ProtoReference>,
    #[prost(uint32, tag = "5")]
    flags: u32,
    #[prost(message, optional, tag = "6")]
    start_time: Option<Time>,
    #[prost(message, optional, tag = "7")]
    duration: Option<Time>,
    #[prost(message, repeated, tag = "8")]
    tags: Vec<KeyValue>,
    #[prost(message, repeated, tag = "9")]
    logs: Vec<ProtoLog>,
    #[prost(message, optional, tag = "10")]
    process: Option<ProtoProcess>,
}

/// A `Timestamp`, and a `Duration`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoReference {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(int32, tag = "3")]
    ref_type: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(int32, tag = "2")]
    v_type: i32,
    #[prost(bytes = "vec", tag = "3")]
    v_str: Vec<u8>,
    #[prost(bool, tag = "4")]
    v_bool: bool,
    #[prost(int64, tag = "5")]
    v_int64: i64,
    #[prost(double, tag = "6")]
    v_float64: f64,
    #[prost(bytes = "vec", tag = "7")]
    v_binary: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoLog {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Time>,
    #[prost(message, repeated, tag = "2")]
    fields: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoProcess {
    #[prost(bytes = "vec", tag = "1")]
    service_name: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    tags: Vec<KeyValue>,
}

/// Appends a span in protobuf.
pub(in crate::core::formats) fn proto(value: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
    bounded(value, &[LOGS, PROCESS], "a Jaeger span")?;
    let span = ProtoSpan::decode(value).map_err(|_| FormatError::Proto("a Jaeger span"))?.read()?;
    let mut request = Request::new(out);
    put(&span, span.process.as_ref(), &mut request);
    request.end();
    Ok(())
}

// === impl ProtoSpan ===

impl ProtoSpan {
    fn read(self) -> Result<Span, FormatError> {
        Ok(Span {
            trace_id: trace_id(&self.trace_id)?,
            span_id: span_id(&self.span_id)?,
            name: self.operation_name,
            references: self.references.iter().map(ProtoReference::read).collect::<Result<_, _>>()?,
            flags: self.flags,
            start_ns: self.start_time.map_or(0, Time::nanos),
            duration_ns: self.duration.map_or(0, Time::nanos),
            tags: tags(self.tags),
            logs: self.logs.into_iter().map(ProtoLog::read).collect(),
            process: self.process.map(|process| Process { service: process.service_name, tags: tags(process.tags) }),
        })
    }
}

// === impl Time ===

impl Time {
    fn nanos(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }
}

// === impl ProtoReference ===

impl ProtoReference {
    fn read(&self) -> Result<Reference, FormatError> {
        let (trace_id, span_id) = (trace_id(&self.trace_id)?, span_id(&self.span_id)?);
        Ok(Reference { trace_id, span_id, is_child_of: self.ref_type == 0 })
    }
}

// === impl ProtoLog ===

impl ProtoLog {
    fn read(self) -> Log {
        Log { time_ns: self.timestamp.map_or(0, Time::nanos), fields: tags(self.fields) }
    }
}

fn tags(tags: Vec<KeyValue>) -> Vec<Tag> {
    let tag = |tag: KeyValue| {
        let value = match tag.v_type {
            0 => TagValue::Text(tag.v_str),
            1 => TagValue::Bool(tag.v_bool),
            2 => TagValue::Int(tag.v_int64),
            3 => TagValue::Double(tag.v_float64),
            4 => TagValue::Bytes(tag.v_binary),
            other => TagValue::Unknown(other),
        };
        Tag { key: tag.key, value }
    };
    tags.into_iter().map(tag).collect()
}
