//! Zipkin's spans of version 2, as protobuf and as JSON, to OTLP.

mod json;
mod proto;
mod tags;

use std::collections::{BTreeMap, BTreeSet};

use ::core::net::IpAddr;
use xxhash_rust::xxh3::xxh3_64;

use super::write::{self, Attributes, Request, SpanFields, Value, event, link};
use tags::{Annotated, Linked, Tags};

pub(super) use json::json;
pub(super) use proto::proto;

/// One span of Zipkin, wherever it comes from.
#[derive(Debug, Default)]
struct Span {
    trace_id: [u8; 16],
    id: [u8; 8],
    /// Zeros if there is none.
    parent: [u8; 8],
    name: Vec<u8>,
    /// As OTLP numbers them.
    kind: u64,
    /// Microseconds; `None` if the JSON has none.
    timestamp: Option<u64>,
    duration: u64,
    local: Endpoint,
    remote: Endpoint,
    annotations: Vec<(u64, Vec<u8>)>,
    tags: BTreeMap<Vec<u8>, Vec<u8>>,
    shared: bool,
}

#[derive(Debug, Default)]
struct Endpoint {
    service: Vec<u8>,
    ip: Option<IpAddr>,
    port: u16,
}

/// The spans whose ID is that of their client, too: trace, ID, service.
type Shared<'a> = BTreeSet<([u8; 16], [u8; 8], &'a [u8])>;

/// Appends spans.
fn put_all(spans: &[Span], out: &mut Vec<u8>) {
    let shared: Shared<'_> = spans
        .iter()
        .filter(|span| span.is_shared())
        .map(|span| (span.trace_id, span.id, &*span.local.service))
        .collect();
    let mut request = Request::new(out);
    for span in spans {
        put(span, &shared, &mut request);
    }
    request.end();
}

fn put(span: &Span, shared: &Shared<'_>, request: &mut Request<'_>) {
    let mut tags = Tags::new(&span.tags);
    let scope = tags.take_scope();
    let resource = resource(span, &mut tags);
    let (own, parent) = span.ids(shared);
    let trace_state = tags.take(b"w3c.tracestate").unwrap_or_default();
    let kind = if span.kind == 0 && tags.take(b"span.kind") == Some(b"internal") { write::INTERNAL } else { span.kind };
    let (status_code, status_message) = tags.take_status();
    let mut links = Vec::new();
    for Linked { trace_id, span_id, trace_state, attributes, dropped } in tags.take_links() {
        link(&mut links, (&trace_id, &span_id), trace_state, &attributes.borrow(), dropped);
    }
    let mut events = Vec::new();
    for (at, text) in &span.annotations {
        let Annotated { name, attributes, dropped } = Annotated::read(text);
        event(&mut events, at.saturating_mul(1_000), name, &attributes.borrow(), dropped);
    }
    let mut attributes = tags.attributes();
    endpoints(span, &mut attributes);
    let start_ns = span.timestamp.unwrap_or_default().saturating_mul(1_000);
    if span.timestamp.is_none() {
        attributes.set(b"otel.zipkin.absentField.startTime", Value::Bool(true));
    }
    let fields = SpanFields {
        trace_id: span.trace_id,
        span_id: own,
        trace_state,
        parent,
        name: &span.name,
        kind,
        start_ns,
        end_ns: start_ns.saturating_add(span.duration.saturating_mul(1_000)),
        attributes,
        events,
        links,
        status_code,
        status_message,
        flags: 0,
    };
    request.span(&resource, &scope, &fields);
}

/// The resource of a span, whose tags it takes. A span of no service has none, and those tags are of no use then.
fn resource(span: &Span, tags: &mut Tags<'_>) -> Vec<u8> {
    let of_resource = tags.take_resource();
    if span.local.service.is_empty() || span.local.service == tags::NO_SERVICE {
        return Vec::new();
    }
    let source = of_resource.iter().find(|(key, value)| *key == tags::NAME_SOURCE && !value.is_empty());
    let mut attributes = Attributes::default();
    attributes.text(source.map_or(b"service.name", |(_, key)| key), &span.local.service);
    for (key, value) in of_resource.iter().filter(|(key, _)| *key != tags::NAME_SOURCE) {
        attributes.text(key, *value);
    }
    write::resource(&attributes)
}

/// Appends the attributes of the endpoints.
fn endpoints<'a>(span: &'a Span, attributes: &mut Attributes<'a>) {
    let address = |ip: IpAddr| ip.to_canonical().to_string().into_bytes();
    if let Some(ip) = span.local.ip {
        attributes.text(b"network.local.address", address(ip));
    }
    if span.local.port > 0 {
        attributes.set(b"net.host.port", Value::Int(span.local.port.into()));
    }
    if !span.remote.service.is_empty() {
        attributes.text(b"peer.service", &span.remote.service);
        attributes.text(b"service.peer.name", &span.remote.service);
    }
    if let Some(ip) = span.remote.ip {
        attributes.text(b"network.peer.address", address(ip));
    }
    if span.remote.port > 0 {
        attributes.set(b"net.peer.port", Value::Int(span.remote.port.into()));
    }
}

// === impl Span ===

impl Span {
    /// Whether its ID is that of its client.
    fn is_shared(&self) -> bool {
        self.shared && self.kind == write::SERVER
    }

    /// Its own ID and that of its parent, in a trace where each span has one of its own.
    fn ids(&self, shared: &Shared<'_>) -> ([u8; 8], [u8; 8]) {
        if self.is_shared() {
            return (apart(&self.trace_id, &self.id), self.id);
        }
        let parent = if self.parent == self.id { [0; 8] } else { self.parent };
        if shared.contains(&(self.trace_id, parent, &*self.local.service)) {
            return (self.id, apart(&self.trace_id, &parent));
        }
        (self.id, parent)
    }
}

/// The ID of a server whose client has this one: the same wherever it is asked.
fn apart(trace_id: &[u8; 16], id: &[u8; 8]) -> [u8; 8] {
    let made = xxh3_64(&[trace_id.as_slice(), id, b"server"].concat()).to_be_bytes();
    if made == [0; 8] || made == *id { (u64::from_be_bytes(made) ^ 1 | 2).to_be_bytes() } else { made }
}

fn kind_of(text: &[u8]) -> u64 {
    match text {
        b"CLIENT" => write::CLIENT,
        b"SERVER" => write::SERVER,
        b"PRODUCER" => write::PRODUCER,
        b"CONSUMER" => write::CONSUMER,
        _ => 0,
    }
}
