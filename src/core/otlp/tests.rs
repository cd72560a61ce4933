use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Proto};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message as _;

use super::schema::NESTING;
use super::{AttributeValue, Attributes, Batch, DecodeError, InvalidUtf8, Scope, Span};

/// One field: key and payload as given, with a length in front if it is bytes.
fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    crate::core::model::wire::put_bytes(&mut out, payload);
    out
}

fn record(resource_spans: &[u8]) -> Vec<u8> {
    field(1, resource_spans)
}

fn record_of_span(span: &[u8]) -> Vec<u8> {
    record(&field(2, &field(2, span)))
}

fn record_of_resources(resources: &[&[u8]]) -> Vec<u8> {
    record(&resources.iter().flat_map(|r| field(1, r)).collect::<Vec<_>>())
}

fn key_value(key: &str, value: &[u8]) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, value)].concat()
}

fn string_value(text: &str) -> Vec<u8> {
    field(1, text.as_bytes())
}

fn an_ordinary_span() -> proto::Span {
    let text = |key: &str, text: &str| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Proto::StringValue(text.into())) }),
        ..KeyValue::default()
    };
    proto::Span {
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        parent_span_id: vec![9; 8],
        name: "GET /cart".into(),
        kind: 2,
        start_time_unix_nano: 1_000,
        end_time_unix_nano: 3_000,
        attributes: vec![text("http.route", "/cart"), text("note", &"long ".repeat(50))],
        events: vec![proto::span::Event { time_unix_nano: 5, name: "exception".into(), ..Default::default() }],
        status: Some(proto::Status::default()),
        flags: 0x101,
        ..proto::Span::default()
    }
}

/// Decodes a record of one span and shows it, and how many bytes had to be written again for it.
fn with_span<T>(record: &[u8], look: impl FnOnce(Span<'_>, usize) -> T) -> T {
    let mut batch = Batch::new();
    batch.decode(record).expect("a valid record");
    let resource = batch.resources(record).next().expect("one resource");
    look(resource.spans().next().expect("one span"), batch.rewritten_len())
}

fn decode(record: &[u8]) -> Result<(), DecodeError> {
    Batch::new().decode(record)
}

fn text_of(value: &[u8]) -> String {
    let mut out = String::new();
    AttributeValue::of(value).stringify(&mut out).expect("UTF-8");
    out
}

#[test]
fn an_ordinary_span_is_read_in_place() {
    let theirs = an_ordinary_span();
    with_span(&record_of_span(&theirs.encode_to_vec()), |span, rewritten| {
        assert_eq!((span.trace_id, span.span_id, span.parent_span_id), (&[7; 16][..], &[8; 8][..], &[9; 8][..]));
        assert_eq!((span.name, span.kind, span.start_ns, span.end_ns), (&b"GET /cart"[..], 2, 1_000, 3_000));
        assert_eq!(span.attributes.get(b"http.route").and_then(|v| v.as_str()), Some(&b"/cart"[..]));
        assert_eq!(span.size as usize, theirs.encoded_len());
        assert_eq!(rewritten, 0);
    });
}

#[test]
fn the_collectors_field_order_and_empty_parent_cost_no_copy_and_no_size() {
    let mut theirs = an_ordinary_span();
    theirs.parent_span_id.clear();
    let canonical = theirs.encode_to_vec();
    let flags = [0x85, 0x01, 0x01, 0x01, 0, 0];
    let body = canonical.strip_suffix(&flags[..]).expect("flags come last");
    let (ids, rest) = body.split_at(28);
    let collectors = [ids, &[0x22, 0], &flags, rest].concat();
    with_span(&record_of_span(&collectors), |span, rewritten| {
        assert_eq!(span.parent_span_id, b"");
        assert_eq!(span.name, b"GET /cart");
        assert_eq!(span.size as usize, canonical.len());
        assert_eq!(rewritten, 0);
    });
}

#[test]
fn fields_in_another_order_cost_no_copy() {
    let span = [field(5, b"name"), vec![0x41, 9, 0, 0, 0, 0, 0, 0, 0], field(1, &[1; 16])].concat();
    with_span(&record_of_span(&span), |read, rewritten| {
        assert_eq!((read.name, read.end_ns, read.trace_id), (&b"name"[..], 9, &[1; 16][..]));
        assert_eq!(read.size as usize, span.len());
        assert_eq!(rewritten, 0);
    });
}

#[test]
fn unknown_fields_zeros_and_padding_do_not_count_in_the_size() {
    let name = field(5, b"name");
    let odd = [name.clone(), vec![0x30, 0], vec![0xa0, 0x06, 1], vec![0x50, 0x81, 0x00]].concat();
    with_span(&record_of_span(&odd), |span, _| {
        assert_eq!(span.name, b"name");
        assert_eq!(span.size as usize, name.len() + 2);
    });
}

#[test]
fn an_explicit_zero_in_any_one_field_does_not_count_in_the_size() {
    let written = |number: u8, zero: bool| {
        let byte = u8::from(!zero);
        match number {
            6 | 10 | 12 | 14 => vec![number << 3, byte],
            7 | 8 => [&[number << 3 | 1][..], &[byte; 8]].concat(),
            9 if zero => field(9, &[field(1, b""), field(2, &string_value("v"))].concat()),
            9 => field(9, &key_value("k", &string_value("v"))),
            16 => [&[0x85, 0x01][..], &[byte; 4]].concat(),
            _ if zero => field(number, b""),
            11 => field(11, &field(2, b"event")),
            13 => field(13, &field(3, b"link")),
            15 => field(15, &[0x18, 2]),
            _ => field(number, b"text"),
        }
    };
    for order in [
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
        [1, 2, 3, 4, 16, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    ] {
        for zero in 1..=16 {
            let bytes: Vec<u8> = order.iter().flat_map(|&number| written(number, number == zero)).collect();
            let theirs = proto::Span::decode(&bytes[..]).expect("valid");
            with_span(&record_of_span(&bytes), |span, _| {
                assert_eq!(span.size as usize, theirs.encoded_len(), "field {zero}");
                assert_eq!((span.kind, span.end_ns), (theirs.kind, theirs.end_time_unix_nano));
            });
        }
    }
}

#[test]
fn two_statuses_merge() {
    let span = [field(15, &[0x18, 1]), field(15, &field(2, b"broken")), field(15, &[0x18, 2])].concat();
    with_span(&record_of_span(&span), |span, _| {
        assert_eq!((span.status_code, span.status_message), (2, &b"broken"[..]));
        assert_eq!(span.size, 2 + 8 + 2);
    });
}

#[test]
fn attributes_between_other_fields_are_all_found() {
    let a = field(9, &key_value("a", &string_value("1")));
    let b = field(9, &key_value("b", &string_value("2")));
    with_span(&record_of_span(&[&a[..], &field(5, b"name"), &b].concat()), |span, _| {
        let keys: Vec<_> = span.attributes.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [b"a", b"b"]);
    });
}

#[test]
fn the_first_of_two_equal_keys_wins() {
    let record = record_of_resources(&[&[
        field(1, &key_value("k", &string_value("first"))),
        field(1, &key_value("k", &string_value("second"))),
    ]
    .concat()]);
    let mut batch = Batch::new();
    batch.decode(&record).expect("valid");
    let resource = batch.resources(&record).next().expect("one").resource;
    assert_eq!(resource.get(b"k").and_then(|v| v.as_str()), Some(&b"first"[..]));
}

#[test]
fn an_attribute_without_a_value_is_there_and_empty() {
    with_span(&record_of_span(&field(9, &field(1, b"k"))), |span, _| {
        let value = span.attributes.get(b"k").expect("present");
        assert_eq!(value.as_str(), None);
        assert_eq!(value.text(), Cow::Borrowed(b""));
    });
}

#[test]
fn a_resource_in_two_parts_is_one_resource() {
    let parts = [field(1, &key_value("a", &string_value("1"))), field(1, &key_value("b", &string_value("2")))];
    let record = record_of_resources(&[&parts[0], &parts[1]]);
    let mut batch = Batch::new();
    batch.decode(&record).expect("valid");
    let resource = batch.resources(&record).next().expect("one");
    assert_eq!(resource.raw, parts.concat());
    assert_eq!(resource.resource.iter().count(), 2);
}

#[test]
fn a_resource_without_spans_and_spans_without_a_resource_are_both_there() {
    let request = ExportTraceServiceRequest {
        resource_spans: vec![
            proto::ResourceSpans { resource: Some(Resource::default()), ..Default::default() },
            proto::ResourceSpans {
                scope_spans: vec![proto::ScopeSpans { spans: vec![an_ordinary_span(); 3], ..Default::default() }],
                ..Default::default()
            },
        ],
    };
    let bytes = request.encode_to_vec();
    let mut batch = Batch::new();
    batch.decode(&bytes).expect("valid");
    let spans: Vec<usize> = batch.resources(&bytes).map(|r| r.spans().count()).collect();
    assert_eq!(spans, [0, 3]);
    assert!(batch.resources(&bytes).all(|r| r.resource.is_empty() && r.raw.is_empty()));
}

#[test]
fn ordinals_count_through_the_record() {
    let span = proto::ScopeSpans { spans: vec![an_ordinary_span(); 2], ..Default::default() };
    let resource_spans = proto::ResourceSpans { scope_spans: vec![span.clone(), span], ..Default::default() };
    let bytes = ExportTraceServiceRequest { resource_spans: vec![resource_spans; 2] }.encode_to_vec();
    let mut batch = Batch::new();
    batch.decode(&bytes).expect("valid");
    let ordinals: Vec<u32> = batch.resources(&bytes).flat_map(|r| r.spans().map(|s| s.ordinal)).collect();
    assert_eq!(ordinals, [0, 1, 2, 3, 4, 5, 6, 7]);
}

/// The scopes of the spans of a record, in the spans' order.
fn scopes_of(record: &[u8]) -> Vec<(String, String)> {
    let mut batch = Batch::new();
    batch.decode(record).expect("decodes");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let scope = |Scope { name, version }: Scope<'_>| (text(name), text(version));
    let of_resource =
        |r: super::ResourceSpans<'_>| r.spans().map(|span| scope(r.scope(span.ordinal))).collect::<Vec<_>>();
    batch.resources(record).flat_map(of_resource).collect()
}

#[test]
fn a_span_knows_its_instrumentation_scope() {
    let span = field(2, &an_ordinary_span().encode_to_vec());
    let scope = |name: &str, version: &str| {
        let texts = [(1, name), (2, version)].into_iter().filter(|(_, text)| !text.is_empty());
        field(1, &texts.flat_map(|(n, text)| field(n, text.as_bytes())).collect::<Vec<_>>())
    };
    let blocks = [
        [scope("jdbc", "1"), span.clone(), span.clone()].concat(),
        // A scope without spans, one behind its span, and spans without a scope.
        scope("idle", "2"),
        [span.clone(), scope("http", "")].concat(),
        span.clone(),
    ];
    let resource = |blocks: &[Vec<u8>]| record(&blocks.iter().flat_map(|b| field(2, b)).collect::<Vec<_>>());
    let bytes = [resource(&blocks), resource(&blocks[3..]), resource(&blocks[..1])].concat();
    let expected = [("jdbc", "1"), ("jdbc", "1"), ("http", ""), ("", ""), ("", ""), ("jdbc", "1"), ("jdbc", "1")];
    assert_eq!(scopes_of(&bytes), expected.map(|(name, version)| (name.to_owned(), version.to_owned())));
}

#[test]
fn a_scope_in_two_parts_is_one_scope() {
    let span = field(2, &an_ordinary_span().encode_to_vec());
    let parts = [field(1, &field(1, b"old")), span, field(1, &[field(1, b"new"), field(2, b"3")].concat())].concat();
    assert_eq!(scopes_of(&record(&field(2, &parts))), [("new".to_owned(), "3".to_owned())]);
}

#[test]
fn a_broken_record_leaves_the_batch_empty() {
    let mut bytes = record_of_span(&an_ordinary_span().encode_to_vec());
    let mut batch = Batch::new();
    batch.decode(&bytes).expect("valid");
    assert_eq!(batch.len(), 1);
    bytes.extend_from_slice(&[0x0a, 5]);
    assert_eq!(batch.decode(&bytes), Err(DecodeError::CutOff));
    assert!(batch.is_empty());
    assert_eq!(batch.resources(&bytes).count(), 0);
}

#[test]
fn each_kind_of_broken_bytes_has_its_name() {
    assert_eq!(decode(&record_of_span(&[0x0b, 0x0c])), Err(DecodeError::Group(1)));
    assert_eq!(decode(&[0x08, 1]), Err(DecodeError::WireType { message: "ExportTraceServiceRequest", field: 1 }));
    assert_eq!(decode(&record_of_span(&[0x08, 1])), Err(DecodeError::WireType { message: "Span", field: 1 }));
    assert_eq!(decode(&[0xff; 11]), Err(DecodeError::Varint));
    assert_eq!(decode(&[0x00, 0x01]), Err(DecodeError::Key));
    assert_eq!(decode(&[0x0f, 0x01]), Err(DecodeError::Key));
    assert_eq!(decode(&[0x0a, 0x02, 0x12]), Err(DecodeError::CutOff));
}

#[test]
fn groups_in_unknown_fields_are_refused_though_prost_skips_them() {
    let bytes = [0xa3, 0x06, 0xa4, 0x06];
    assert!(ExportTraceServiceRequest::decode(&bytes[..]).is_ok());
    assert_eq!(decode(&bytes), Err(DecodeError::Group(100)));
}

#[test]
fn text_that_is_not_utf8_is_passed_on_though_prost_refuses_it() {
    let bytes = record_of_span(&[field(5, b"\xff"), field(9, &key_value("k", &field(1, b"\xfe")))].concat());
    assert!(ExportTraceServiceRequest::decode(&bytes[..]).is_err());
    with_span(&bytes, |span, _| {
        assert_eq!(span.name, b"\xff");
        let mut out = String::from("kept");
        let value = span.attributes.get(b"k").expect("present");
        assert_eq!(value.stringify(&mut out), Err(InvalidUtf8));
        assert_eq!(out, "kept");
        assert_eq!(value.text().as_ref(), b"\xfe");
    });
}

#[test]
fn the_inside_of_an_unknown_field_is_not_looked_at() {
    let bytes = record_of_span(&[vec![0xa2, 0x06, 3, 0xff, 0xff, 0xff], field(5, b"name")].concat());
    assert!(ExportTraceServiceRequest::decode(&bytes[..]).is_ok());
    with_span(&bytes, |span, _| assert_eq!((span.name, span.size), (&b"name"[..], 6)));
}

#[test]
fn nesting_ends_exactly_where_it_ends_for_prost() {
    type Wrap = fn(&[u8]) -> Vec<u8>;
    let shapes: [(Wrap, Vec<u8>); 5] = [
        (|value| field(5, &field(1, value)), string_value("deep")),
        (|value| field(6, &field(1, &key_value("k", value))), string_value("deep")),
        (|value| field(6, &field(1, &key_value("k", value))), field(6, &field(1, &key_value("k", b"")))),
        (|value| field(6, &field(1, &key_value("k", value))), field(6, &field(1, &field(1, b"k")))),
        (|value| field(5, &field(1, value)), field(5, &field(9, b"unknown"))),
    ];
    for (wrap, innermost) in shapes {
        let mut value = innermost;
        let mut verdicts = Vec::new();
        for _ in 0..NESTING {
            let record = record_of_span(&field(9, &key_value("k", &value)));
            verdicts.push(decode(&record));
            assert_eq!(verdicts.last() == Some(&Ok(())), ExportTraceServiceRequest::decode(&record[..]).is_ok());
            value = wrap(&value);
        }
        assert_eq!(verdicts.last(), Some(&Err(DecodeError::TooDeep)));
    }
}

#[test]
fn a_nesting_bomb_is_an_error_and_not_a_stack_overflow() {
    let mut value = string_value("deep");
    for _ in 0..20_000 {
        value = field(5, &field(1, &value));
    }
    assert_eq!(decode(&record_of_span(&field(9, &key_value("k", &value)))), Err(DecodeError::TooDeep));
    assert_eq!(AttributeValue::of(&value).text().len(), 2 * NESTING as usize, "bytes that were never decoded");
}

#[test]
fn flags_on_both_sides_count_once() {
    let flags = [0x85, 0x01, 1, 0, 0, 0];
    let times = [&[0x39][..], &[1; 8], &[0x41], &[2; 8]].concat();
    let record = record_of_span(&[&flags[..], &times, &flags].concat());
    with_span(&record, |span, _| assert_eq!(span.size as usize, flags.len() + times.len()));
}

#[test]
fn a_varint_of_more_than_64_bits_is_refused() {
    let nine = [0xff_u8; 9];
    let with_last = |last: u8| record_of_span(&[&[0x50][..], &nine, &[last]].concat());
    assert_eq!(decode(&with_last(1)), Ok(()));
    assert_eq!(decode(&with_last(2)), Err(DecodeError::Varint));
}

#[test]
fn values_are_written_as_tempo_writes_them() {
    assert_eq!(text_of(&string_value("text")), "text");
    assert_eq!(text_of(&[0x10, 1]), "true");
    assert_eq!(text_of(&[0x10, 0]), "false");
    assert_eq!(text_of(&[0x18, 0xc8, 0x01]), "200");
    assert_eq!(text_of(&[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), "-1");
    assert_eq!(text_of(&field(7, b"bytes")), "");
    assert_eq!(text_of(&[]), "");
    let array = [field(1, &string_value("a")), field(1, &[0x18, 1]), field(1, &[])].concat();
    assert_eq!(text_of(&field(5, &array)), "[a1]");
    let map = [field(1, &key_value("k", &string_value("v"))), field(1, &key_value("n", &field(5, &array)))].concat();
    assert_eq!(text_of(&field(6, &map)), "{k:vn:[a1]}");
}

#[test]
fn doubles_are_written_as_go_writes_them() {
    let text = |v: f64| text_of(&[&[0x21][..], &v.to_le_bytes()].concat());
    let cases = [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (-2.5, "-2.5"),
        (1e21, "1000000000000000000000"),
        (1e-7, "0.0000001"),
        (123_456_789.125, "123456789.125"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
    ];
    for (v, expected) in cases {
        assert_eq!(text(v), expected);
    }
}

#[test]
fn strings_become_text_without_a_copy() {
    let long = "x".repeat(40_000);
    for text in ["", "short", &long] {
        let value = string_value(text);
        assert!(matches!(AttributeValue::of(&value).text(), Cow::Borrowed(b) if b == text.as_bytes()));
    }
}

#[test]
fn reading_with_foreign_bytes_is_nonsense_but_no_panic() {
    let record = record_of_span(&an_ordinary_span().encode_to_vec());
    let mut batch = Batch::new();
    batch.decode(&record).expect("valid");
    let span = batch.resources(&[]).next().and_then(|r| r.spans().next()).expect("still one row");
    assert_eq!(span.name, b"");
    assert_eq!(Attributes::of_span(&[0x4a, 200, 1]).iter().count(), 0);
}

#[test]
fn a_used_batch_allocates_nothing_more() {
    let record = record_of_span(&an_ordinary_span().encode_to_vec());
    let mut batch = Batch::new();
    batch.decode(&record).expect("valid");
    let before = batch.capacities();
    for _ in 0..10 {
        batch.decode(&record).expect("valid");
    }
    assert_eq!(batch.capacities(), before);
}
