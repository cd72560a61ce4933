//! Zipkin's `ListOfSpans`. Texts are bytes here: nothing checks that they are UTF-8.

use ::core::net::IpAddr;
use prost::Message;

use super::{Endpoint, Span, put_all};
use crate::core::formats::protobuf::{bounded, fields};
use crate::core::formats::write::{CLIENT, CONSUMER, PRODUCER, SERVER};
use crate::core::formats::{FormatError, padded};

const LIST: &str = "a list of Zipkin spans";
/// The field of the list that holds its spans.
const SPANS: u64 = 1;

#[derive(Clone, PartialEq, Message)]
struct ProtoSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    parent_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    id: Vec<u8>,
    #[prost(int32, tag = "4")]
    kind: i32,
    #[prost(bytes = "vec", tag = "5")]
    name: Vec<u8>,
    #[prost(fixed64, tag = "6")]
    timestamp: u64,
    #[prost(uint64, tag = "7")]
    duration: u64,
    #[prost(message, optional, tag = "8")]
    local_endpoint: Option<ProtoEndpoint>,
    #[prost(message, optional, tag = "9")]
    remote_endpoint: Option<ProtoEndpoint>,
    #[prost(message, repeated, tag = "10")]
    annotations: Vec<Annotation>,
    #[prost(message, repeated, tag = "11")]
    tags: Vec<Tag>,
    #[prost(bool, tag = "13")]
    shared: bool,
}

#[derive(Clone, PartialEq, Message)]
struct ProtoEndpoint {
    #[prost(bytes = "vec", tag = "1")]
    service_name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    ipv4: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    ipv6: Vec<u8>,
    #[prost(int32, tag = "4")]
    port: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Annotation {
    #[prost(fixed64, tag = "1")]
    timestamp: u64,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// An entry of the map of tags.
#[derive(Clone, PartialEq, Message)]
struct Tag {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Appends a list of spans in protobuf.
pub(in crate::core::formats) fn proto(value: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
    // One after the other: what is no span ends it before it takes memory.
    let (mut spans, mut wrong) = (Vec::new(), None);
    let walked = fields(value, |number, wire_type, payload, _| {
        if (number, wire_type) == (SPANS, 2) && wrong.is_none() {
            match span(payload) {
                Ok(span) => spans.push(span),
                Err(error) => wrong = Some(error),
            }
        }
    });
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    walked.ok_or(FormatError::Proto(LIST))?;
    put_all(&spans, out);
    Ok(())
}

fn span(bytes: &[u8]) -> Result<Span, FormatError> {
    bounded(bytes, &[], LIST)?;
    ProtoSpan::decode(bytes).map_err(|_| FormatError::Proto(LIST))?.read()
}

// === impl ProtoSpan ===

impl ProtoSpan {
    fn read(self) -> Result<Span, FormatError> {
        let id = |bytes: &[u8]| bytes.try_into().map_err(|_| FormatError::Id("a span ID that has not 8 bytes"));
        Ok(Span {
            trace_id: padded(&self.trace_id).ok_or(FormatError::Id("a trace ID that has neither 16 nor 8 bytes"))?,
            id: id(&self.id)?,
            parent: if self.parent_id.is_empty() { [0; 8] } else { id(&self.parent_id)? },
            name: self.name,
            kind: match self.kind {
                1 => CLIENT,
                2 => SERVER,
                3 => PRODUCER,
                4 => CONSUMER,
                _ => 0,
            },
            timestamp: Some(self.timestamp),
            duration: self.duration,
            local: self.local_endpoint.map(ProtoEndpoint::read).unwrap_or_default(),
            remote: self.remote_endpoint.map(ProtoEndpoint::read).unwrap_or_default(),
            annotations: self.annotations.into_iter().map(|note| (note.timestamp, note.value)).collect(),
            tags: self.tags.into_iter().map(|tag| (tag.key, tag.value)).collect(),
            shared: self.shared,
        })
    }
}

// === impl ProtoEndpoint ===

impl ProtoEndpoint {
    fn read(self) -> Endpoint {
        let v4 = <[u8; 4]>::try_from(self.ipv4.as_slice()).ok().map(IpAddr::from);
        let v6 = <[u8; 16]>::try_from(self.ipv6.as_slice()).ok().map(IpAddr::from);
        Endpoint { service: self.service_name, ip: v6.or(v4), port: self.port as u16 }
    }
}
