//! Random topics that make trouble: few trace and span IDs, so that everything meets everything.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Link};
use prost::Message as _;

use super::scramble::Dice;

/// Becomes bytes that are not UTF-8 on the way into a record.
pub(crate) const BAD: &str = "BADUTF8!";

/// What happens to a source partition.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Record(Rec),
    Tick(i64),
}

#[derive(Debug, Clone)]
pub(crate) struct Rec {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) tenant: Option<&'static str>,
    /// `None`: garbage.
    pub(crate) request: Option<ExportTraceServiceRequest>,
    pub(crate) value: Vec<u8>,
}

pub(crate) fn stream(dice: &mut Dice, records: usize) -> Vec<Event> {
    let (mut events, mut offset, mut time): (Vec<Event>, i64, i64) = (Vec::new(), dice.below(5) as i64, 1_000_000);
    let mut seen: Vec<ExportTraceServiceRequest> = Vec::new();
    for _ in 0..records {
        time += dice.below(2_000) as i64;
        if dice.below(12) == 0 {
            time += dice.below(25_000) as i64;
            events.push(Event::Tick(time));
            continue;
        }
        let request = match dice.below(40) {
            0 => None,
            1..=6 if !seen.is_empty() => Some(seen[dice.below(seen.len() as u64) as usize].clone()),
            _ => Some(request(dice, time)),
        };
        seen.extend(request.clone());
        let value = request.as_ref().map_or_else(|| vec![0xff; 9], encode);
        let tenant = match dice.below(30) {
            0 => None,
            1..=5 => Some("other"),
            _ => Some("one"),
        };
        let late = if dice.below(5) == 0 { dice.below(8_000) as i64 } else { 0 };
        events.push(Event::Record(Rec { offset, timestamp: time - late, tenant, request, value }));
        offset += 1 + if dice.below(8) == 0 { dice.below(4) as i64 } else { 0 };
    }
    events
}

/// The bytes of a record, with the bad texts made bad.
pub(crate) fn encode(request: &ExportTraceServiceRequest) -> Vec<u8> {
    let mut bytes = request.encode_to_vec();
    while let Some(at) = bytes.windows(BAD.len()).position(|w| w == BAD.as_bytes()) {
        bytes[at..at + BAD.len()].fill(0xff);
    }
    bytes
}

fn pick<T: Copy>(dice: &mut Dice, of: &[T]) -> T {
    of[dice.below(of.len() as u64) as usize]
}

fn request(dice: &mut Dice, time: i64) -> ExportTraceServiceRequest {
    let resource_spans = (0..dice.below(4)).map(|_| resource_spans(dice, time)).collect();
    ExportTraceServiceRequest { resource_spans }
}

fn resource_spans(dice: &mut Dice, time: i64) -> ResourceSpans {
    let mut attributes = Vec::new();
    if dice.below(12) > 0 {
        attributes.push(attribute("service.name", text(pick(dice, &["shop", "cart", "db", "pay", "", "shop", BAD]))));
    }
    if dice.below(15) == 0 {
        attributes.push(attribute(pick(dice, &["db.system", "server.address", "service.name"]), text("resource-wide")));
    }
    if dice.below(4) == 0 {
        attributes.push(attribute("service.namespace", text(pick(dice, &["eu", "us", "", BAD]))));
    }
    let resource = Some(Resource { attributes, ..Resource::default() }).filter(|_| dice.below(30) > 0);
    let spans = (0..1 + dice.below(5)).map(|_| span(dice, time)).collect();
    ResourceSpans { resource, scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }], ..Default::default() }
}

fn span(dice: &mut Dice, time: i64) -> Span {
    let start = (time as u64) * 1_000_000 + dice.below(1 << 30);
    let end = match dice.below(12) {
        0 => start - dice.below(1 << 30),
        1 => start + 100_000_000,
        _ => start + (1 << dice.below(35)),
    };
    Span {
        trace_id: match dice.below(40) {
            0 => vec![0; 16],
            1 => vec![1; 7],
            2 => Vec::new(),
            n => vec![n as u8 % 4 + 1; 16],
        },
        span_id: id(dice),
        parent_span_id: if dice.below(3) == 0 { Vec::new() } else { id(dice) },
        name: pick(dice, &["get", "put", "get", "call", BAD]).into(),
        kind: pick(dice, &[0, 1, 2, 2, 2, 3, 3, 3, 4, 5, 9, -1]),
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        attributes: span_attributes(dice),
        links: (0..dice.below(8).saturating_sub(5)).map(|_| link(dice)).collect(),
        trace_state: pick(dice, &["", "", "ot=th:8", "ot=th:c", "x=y", "ot=th:4"]).into(),
        status: (dice.below(3) > 0).then(|| Status { code: pick(dice, &[0, 1, 2, 7]), message: "m".into() }),
        ..Span::default()
    }
}

fn link(dice: &mut Dice) -> Link {
    Link { trace_id: vec![dice.below(5) as u8; 16], span_id: id(dice), ..Link::default() }
}

fn id(dice: &mut Dice) -> Vec<u8> {
    match dice.below(30) {
        0 => vec![0; 8],
        1 => vec![5; 4],
        n => vec![n as u8 % 4 + 1; 8],
    }
}

fn span_attributes(dice: &mut Dice) -> Vec<KeyValue> {
    let mut attributes: Vec<KeyValue> = (0..dice.below(3)).map(|_| span_attribute(dice)).collect();
    if dice.below(6) == 0 {
        attributes.push(attribute("drop", text("yes")));
    }
    attributes
}

fn span_attribute(dice: &mut Dice) -> KeyValue {
    let keys = [
        "drop",
        "http.status_code",
        "rpc.grpc.status_code",
        "http.route",
        "peer.service",
        "peer.service",
        "db.name",
        "db.system",
        "server.address",
        "network.peer.address",
        "network.peer.port",
        "net.peer.name",
        "http.method",
        "user.id",
        "messaging.operation",
        "rpc.response.status_code",
    ];
    match dice.below(14) {
        0 => return attribute("messaging.operation.type", text(pick(dice, &["receive", "process", "send"]))),
        1 => return attribute("rpc.status_code", text(pick(dice, &["UNKNOWN", "Unavailable", "OK"]))),
        _ => {}
    }
    let value = match dice.below(16) {
        0 => Some(Value::IntValue(-5_432)),
        1 => Some(Value::BoolValue(true)),
        2 => None,
        3 => text(""),
        4 => text(BAD),
        5 => text("yes"),
        6 => Some(Value::IntValue(503)),
        7 => text("13"),
        _ => text(pick(dice, &["orders", "ledger", "queue"])),
    };
    attribute(pick(dice, &keys), value)
}

#[allow(clippy::unnecessary_wraps, reason = "an attribute may lack a value")]
fn text(text: &str) -> Option<Value> {
    Some(Value::StringValue(text.into()))
}

fn attribute(key: &str, value: Option<Value>) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value }), ..KeyValue::default() }
}
