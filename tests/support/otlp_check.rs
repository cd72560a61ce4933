//! What spanmill's decoder and `prost` must agree on, for any bytes whatever. Shared by the property tests and the fuzz
//! target.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Theirs};
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message as _;
use spanmill::core::otlp::{AttributeValue, Attributes, Batch, DecodeError, ResourceSpans, Scope, Span, ValueKind};

/// Decodes `bytes` both ways and compares everything that can be read. Returns whether both accepted.
///
/// The only differences allowed are the ones that `spanmill::core::otlp` documents: groups and records above 4 GiB are
/// refused, text is not checked to be UTF-8.
pub(crate) fn check(bytes: &[u8]) -> bool {
    let mut batch = Batch::new();
    let ours = batch.decode(bytes);
    let theirs = ExportTraceServiceRequest::decode(bytes);
    match (&ours, &theirs) {
        (Ok(()), Ok(request)) => compare(&batch, bytes, request),
        (Ok(()), Err(error)) => {
            assert!(error.to_string().contains("UTF-8"), "accepted, but prost says: {error}");
            read_everything(&batch, bytes);
        }
        (Err(DecodeError::Group(_)), _) => {}
        (Err(error), _) => assert!(theirs.is_err(), "prost accepts, but we say: {error}"),
    }
    if ours.is_err() {
        assert!(batch.is_empty() && batch.resources(bytes).next().is_none(), "a refused record leaves nothing behind");
    }
    ours.is_ok() && theirs.is_ok()
}

/// Reads a batch with bytes that it was not decoded from: nonsense is fine, a panic is not.
pub(crate) fn read_everything(batch: &Batch, bytes: &[u8]) {
    for resource in batch.resources(bytes) {
        read_attributes(&resource.resource);
        for span in resource.spans() {
            read_attributes(&span.attributes);
            let _scope = resource.scope(span.ordinal);
        }
    }
}

fn read_attributes(attributes: &Attributes<'_>) {
    for (key, value) in attributes.iter() {
        let _found = attributes.get(key);
        let mut out = String::new();
        let valid = value.stringify(&mut out).is_ok();
        assert_eq!(valid, std::str::from_utf8(&value.text()).is_ok());
    }
}

fn compare(batch: &Batch, bytes: &[u8], request: &ExportTraceServiceRequest) {
    let ours: Vec<ResourceSpans<'_>> = batch.resources(bytes).collect();
    assert_eq!(ours.len(), request.resource_spans.len());
    let mut ordinal = 0;
    for (ours, theirs) in ours.iter().zip(&request.resource_spans) {
        let theirs_resource = theirs.resource.as_ref().map(|r| r.attributes.as_slice()).unwrap_or_default();
        compare_attributes(&ours.resource, theirs_resource);
        let spans: Vec<Span<'_>> = ours.spans().collect();
        assert_eq!(spans.len(), theirs.scope_spans.iter().map(|s| s.spans.len()).sum::<usize>());
        let with_scope = |s: &proto::ScopeSpans| {
            let (scope, spans) = (s.scope.clone().unwrap_or_default(), s.spans.clone());
            spans.into_iter().map(move |span| (scope.clone(), span))
        };
        for (span, (scope, theirs)) in spans.iter().zip(theirs.scope_spans.iter().flat_map(with_scope)) {
            assert_eq!(span.ordinal, ordinal);
            ordinal += 1;
            compare_span(span, &theirs);
            let expected = Scope { name: scope.name.as_bytes(), version: scope.version.as_bytes() };
            assert_eq!(ours.scope(span.ordinal), expected);
        }
    }
    assert_eq!(batch.len(), ordinal as usize);
}

fn compare_span(ours: &Span<'_>, theirs: &proto::Span) {
    assert_eq!(ours.trace_id, theirs.trace_id);
    assert_eq!(ours.span_id, theirs.span_id);
    assert_eq!(ours.parent_span_id, theirs.parent_span_id);
    assert_eq!(ours.trace_state, theirs.trace_state.as_bytes());
    assert_eq!(ours.name, theirs.name.as_bytes());
    assert_eq!(ours.kind, theirs.kind);
    assert_eq!(ours.start_ns, theirs.start_time_unix_nano);
    assert_eq!(ours.end_ns, theirs.end_time_unix_nano);
    let status = theirs.status.clone().unwrap_or_default();
    assert_eq!(ours.status_code, status.code);
    assert_eq!(ours.status_message, status.message.as_bytes());
    compare_attributes(&ours.attributes, &theirs.attributes);
    assert_eq!(ours.size as usize, theirs.encoded_len(), "size of {theirs:?}");
}

fn compare_attributes(ours: &Attributes<'_>, theirs: &[KeyValue]) {
    let list: Vec<_> = ours.iter().collect();
    assert_eq!(list.len(), theirs.len());
    assert_eq!(ours.is_empty(), theirs.is_empty());
    for ((key, value), theirs_kv) in list.iter().zip(theirs) {
        assert_eq!(*key, theirs_kv.key.as_bytes());
        compare_value(value, theirs_kv.value.as_ref());
        let mut expected = String::new();
        stringify(theirs_kv.value.as_ref(), &mut expected);
        let mut text = String::from("before ");
        assert_eq!(value.stringify(&mut text), Ok(()));
        assert_eq!(text, format!("before {expected}"));
        assert_eq!(value.text().as_ref(), expected.as_bytes());
        let first = theirs.iter().find(|other| other.key == theirs_kv.key);
        assert!(ours.get(key).is_some());
        if let Some(found) = ours.get(key) {
            compare_value(&found, first.and_then(|kv| kv.value.as_ref()));
        }
    }
    assert!(ours.get(b"no such key \xff").is_none());
}

fn compare_value(ours: &AttributeValue<'_>, theirs: Option<&AnyValue>) {
    let theirs = theirs.and_then(|v| v.value.as_ref());
    assert_eq!(ours.as_str().is_some(), matches!(theirs, Some(Theirs::StringValue(_))));
    match (ours.kind(), theirs) {
        (ValueKind::Unset, None | Some(Theirs::StringValueStrindex(_))) => {}
        (ValueKind::Text(a), Some(Theirs::StringValue(b))) => {
            assert_eq!(a, b.as_bytes());
            assert_eq!(ours.as_str(), Some(b.as_bytes()));
        }
        (ValueKind::Bool(a), Some(Theirs::BoolValue(b))) => assert_eq!(a, *b),
        (ValueKind::Int(a), Some(Theirs::IntValue(b))) => assert_eq!(a, *b),
        (ValueKind::Double(a), Some(Theirs::DoubleValue(b))) => assert_eq!(a.to_bits(), b.to_bits()),
        (ValueKind::Bytes(a), Some(Theirs::BytesValue(b))) => assert_eq!(a, b),
        (ValueKind::Array(a), Some(Theirs::ArrayValue(b))) => {
            assert_eq!(a.iter().count(), b.values.len());
            a.iter().zip(&b.values).for_each(|(a, b)| compare_value(&a, Some(b)));
        }
        (ValueKind::Map(a), Some(Theirs::KvlistValue(b))) => {
            assert_eq!(a.iter().count(), b.values.len());
            for ((key, value), kv) in a.iter().zip(&b.values) {
                assert_eq!(key, kv.key.as_bytes());
                compare_value(&value, kv.value.as_ref());
            }
        }
        (a, b) => assert!(false, "{a:?} against {b:?}"),
    }
}

/// The rules for turning a value into text, implemented a second time.
fn stringify(value: Option<&AnyValue>, out: &mut String) {
    match value.and_then(|v| v.value.as_ref()) {
        Some(Theirs::StringValue(v)) => out.push_str(v),
        Some(Theirs::BoolValue(v)) => out.push_str(if *v { "true" } else { "false" }),
        Some(Theirs::IntValue(v)) => out.push_str(&v.to_string()),
        Some(Theirs::DoubleValue(v)) if *v == f64::INFINITY => out.push_str("+Inf"),
        Some(Theirs::DoubleValue(v)) if *v == f64::NEG_INFINITY => out.push_str("-Inf"),
        Some(Theirs::DoubleValue(v)) => out.push_str(&format!("{v}")),
        Some(Theirs::ArrayValue(array)) => {
            out.push('[');
            array.values.iter().for_each(|v| stringify(Some(v), out));
            out.push(']');
        }
        Some(Theirs::KvlistValue(list)) => {
            out.push('{');
            for kv in &list.values {
                out.push_str(&kv.key);
                out.push(':');
                stringify(kv.value.as_ref(), out);
            }
            out.push('}');
        }
        Some(Theirs::BytesValue(_) | Theirs::StringValueStrindex(_)) | None => {}
    }
}
