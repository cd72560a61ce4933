//! Zipkin's JSON of version 2: a list of spans, a list of traces, or one span.

use std::collections::BTreeMap;
use std::str::FromStr;

use ::core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use serde::Deserialize;

use super::{Endpoint, Span, kind_of, put_all};
use crate::core::formats::json::{from_slice, unsigned};
use crate::core::formats::{FormatError, hex};

/// What a record may hold.
enum Spans {
    One(Box<JsonSpan>),
    Trace(Vec<JsonSpan>),
    Traces(Vec<Vec<JsonSpan>>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonSpan {
    trace_id: String,
    id: String,
    parent_id: Option<String>,
    name: Option<String>,
    kind: Option<String>,
    #[serde(default, deserialize_with = "unsigned")]
    timestamp: u64,
    #[serde(default, deserialize_with = "unsigned")]
    duration: u64,
    local_endpoint: Option<JsonEndpoint>,
    remote_endpoint: Option<JsonEndpoint>,
    annotations: Option<Vec<Annotation>>,
    tags: Option<BTreeMap<String, String>>,
    shared: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonEndpoint {
    service_name: Option<String>,
    ipv4: Option<String>,
    ipv6: Option<String>,
    #[serde(default, deserialize_with = "unsigned")]
    port: u64,
}

#[derive(Deserialize)]
struct Annotation {
    #[serde(default, deserialize_with = "unsigned")]
    timestamp: u64,
    value: String,
}

/// Appends spans in JSON.
pub(in crate::core::formats) fn json(text: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
    let spans = match read(text)? {
        Spans::One(span) => vec![*span],
        Spans::Trace(spans) => spans,
        Spans::Traces(traces) => traces.into_iter().flatten().collect(),
    };
    let spans: Vec<Span> = spans.into_iter().map(JsonSpan::read).collect::<Result<_, _>>()?;
    put_all(&spans, out);
    Ok(())
}

/// By its first bytes, so that an error names its place.
fn read(text: &[u8]) -> Result<Spans, FormatError> {
    let start = text.trim_ascii_start();
    let inside = start.strip_prefix(b"[").map(<[u8]>::trim_ascii_start);
    match inside {
        None => from_slice("a Zipkin span", text).map(Spans::One),
        Some(inside) if inside.starts_with(b"[") => from_slice("Zipkin traces", text).map(Spans::Traces),
        Some(_) => from_slice("Zipkin spans", text).map(Spans::Trace),
    }
}

// === impl JsonSpan ===

impl JsonSpan {
    fn read(self) -> Result<Span, FormatError> {
        let span_id = |text: &str| hex(text.as_bytes()).ok_or(FormatError::Id("a span ID that is not hexadecimal"));
        let parent = self.parent_id.filter(|parent| !parent.is_empty());
        let tags = self.tags.unwrap_or_default().into_iter();
        Ok(Span {
            trace_id: hex(self.trace_id.as_bytes()).ok_or(FormatError::Id("a trace ID that is not hexadecimal"))?,
            id: span_id(&self.id)?,
            parent: parent.as_deref().map_or(Ok([0; 8]), span_id)?,
            name: self.name.unwrap_or_default().into_bytes(),
            kind: self.kind.map_or(0, |kind| kind_of(kind.as_bytes())),
            timestamp: Some(self.timestamp).filter(|at| *at > 0),
            duration: self.duration,
            local: self.local_endpoint.map(JsonEndpoint::read).unwrap_or_default(),
            remote: self.remote_endpoint.map(JsonEndpoint::read).unwrap_or_default(),
            annotations: annotations(self.annotations),
            tags: tags.map(|(key, value)| (key.into_bytes(), value.into_bytes())).collect(),
            shared: self.shared.unwrap_or_default(),
        })
    }
}

fn annotations(notes: Option<Vec<Annotation>>) -> Vec<(u64, Vec<u8>)> {
    notes.unwrap_or_default().into_iter().map(|note| (note.timestamp, note.value.into_bytes())).collect()
}

// === impl JsonEndpoint ===

impl JsonEndpoint {
    fn read(self) -> Endpoint {
        let v4 = self.ipv4.and_then(|ip| Ipv4Addr::from_str(&ip).ok()).map(IpAddr::V4);
        let v6 = self.ipv6.and_then(|ip| Ipv6Addr::from_str(&ip).ok()).map(IpAddr::V6);
        Endpoint {
            service: self.service_name.unwrap_or_default().into_bytes(),
            ip: v6.or(v4),
            port: u16::try_from(self.port).unwrap_or_default(),
        }
    }
}
