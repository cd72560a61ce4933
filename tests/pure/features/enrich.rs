//! The random topics, with everything in them that a feature looks at.

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span, span};

use crate::scramble::{Dice, scramble};
use crate::streams::{BAD, Event, encode, stream};

/// A random topic partition. Traces belong to one partition.
pub(crate) fn enriched(dice: &mut Dice, partition: u8, events: usize) -> Vec<Event> {
    let mut events = stream(dice, events);
    for event in &mut events {
        let Event::Record(record) = event else { continue };
        let Some(request) = &mut record.request else { continue };
        // Seeded by the contents, so that a record that is delivered twice stays the same.
        let own = &mut Dice(record.value.iter().fold(17, |h, b| h * 31 % 0xffff_fffb + u64::from(*b)));
        request.resource_spans.iter_mut().for_each(|spans| resource_spans(own, spans, partition));
        record.value = encode(request);
        if own.below(8) == 0 {
            // Another encoding, perhaps one that does not decode, perhaps one that means something else.
            record.value = scramble(&record.value, 0, 60, own);
        }
    }
    events
}

fn resource_spans(dice: &mut Dice, block: &mut ResourceSpans, partition: u8) {
    if let Some(resource) = &mut block.resource {
        let texts = [
            ("service.namespace", ["eu", "us", "", "eu"]),
            ("service.instance.id", ["a", "b", "a", "a"]),
            ("k8s.node.name", ["node-1", "node-2", "", "node-1"]),
            ("host.id", ["h1", "h1", "h2", BAD]),
            ("region", ["north", "south", "", "north"]),
            ("cluster-id", ["c1", "c1", "c2", BAD]),
            ("tenant.id", ["one", "third", "other", ""]),
        ];
        for (key, values) in texts {
            if dice.below(3) == 0 {
                resource.attributes.push(attribute(key, text(pick(dice, &values))));
            }
        }
        if dice.below(6) == 0 {
            resource.attributes.push(attribute("sampling.ratio", Value::DoubleValue(0.125)));
        }
    }
    for scope_spans in &mut block.scope_spans {
        if dice.below(3) > 0 {
            let (name, version) = (pick(dice, &["lib-a", "lib-b", ""]).into(), pick(dice, &["1", "2", ""]).into());
            scope_spans.scope = Some(InstrumentationScope { name, version, ..InstrumentationScope::default() });
        }
        scope_spans.spans.iter_mut().for_each(|span| enrich(dice, span, partition));
    }
}

fn enrich(dice: &mut Dice, span: &mut Span, partition: u8) {
    if span.trace_id.len() == 16 && span.trace_id[0] != 0 {
        span.trace_id[0] += partition * 16;
    }
    if dice.below(3) == 0 {
        let names =
            ["GET /users/17", "GET /users/18", "GET /o/a1b2c3d4", "orders publish", "SELECT a FROM t WHERE b = 'x'"];
        span.name = pick(dice, &names).into();
    }
    if dice.below(3) == 0 {
        let states = ["ot=th:8", "ot=th:4", "v=1, ot=th:c;rv:00112233445566", "ot=th:", "ot=th:fd70a4"];
        span.trace_state = pick(dice, &states).into();
    }
    for _ in 0..dice.below(3) {
        span.attributes.push(span_attribute(dice));
    }
    for _ in 0..dice.below(6).saturating_sub(3) {
        let attributes = (0..dice.below(3)).map(|_| span_attribute(dice)).collect();
        let name = pick(dice, &["exception", "retry", "exception", BAD]).into();
        let time_unix_nano = span.start_time_unix_nano + dice.below(1 << 30);
        span.events.push(span::Event { time_unix_nano, name, attributes, ..span::Event::default() });
    }
    for _ in 0..dice.below(6).saturating_sub(3) {
        let (first, span_id) = (1 + dice.below(4) as u8, vec![1 + dice.below(4) as u8; 8]);
        // As the trace IDs above: only the first byte determines the partition.
        let trace_id = [vec![first + partition * 16], vec![first; 15]].concat();
        span.links.push(span::Link { trace_id, span_id, ..span::Link::default() });
    }
}

fn span_attribute(dice: &mut Dice) -> KeyValue {
    match dice.below(11) {
        0 => attribute("sampling.ratio", Value::DoubleValue([0.5, 0.25, 0.3, 2.0, -1.0][dice.below(5) as usize])),
        1 => attribute("http.response.status_code", Value::IntValue([200, 404, 500, 503][dice.below(4) as usize])),
        2 => attribute("http.status_code", Value::IntValue([200, 500][dice.below(2) as usize])),
        3 => attribute("rpc.grpc.status_code", Value::IntValue([0, 2, 14][dice.below(3) as usize])),
        4 => attribute("messaging.system", text("kafka")),
        5 => attribute("region", text(pick(dice, &["north", "east", "", BAD]))),
        6 => attribute("cached", Value::BoolValue(dice.below(2) == 0)),
        7 => attribute("exception.type", text(pick(dice, &["Timeout", "Refused"]))),
        8 => attribute("messaging.operation.type", text(pick(dice, &["receive", "process", "publish"]))),
        9 => attribute("rpc.response.status_code", text(pick(dice, &["UNKNOWN", "UNAVAILABLE", "OK"]))),
        _ => attribute("user.id", text(pick(dice, &["u1", "u2", "u3", "u4", "u5", "u6"]))),
    }
}

fn pick<T: Copy>(dice: &mut Dice, of: &[T]) -> T {
    of[dice.below(of.len() as u64) as usize]
}

fn text(text: &str) -> Value {
    Value::StringValue(text.into())
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
