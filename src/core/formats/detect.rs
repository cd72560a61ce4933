//! The format of a record, by its first bytes.
//!
//! OTLP protobuf is never taken for anything else. A request consists of `ResourceSpans` in field 1, which consist of
//! the fields 1 to 3. Other formats begin with a byte that is no key of a field, with other fields than field 1, or
//! with a first message that has a field above 3 behind fields as long as IDs.

use super::otlp_json::{JsonError, Reader};
use super::unwrap::is_wrapped;
use crate::core::settings::Encoding;

const BOM: &[u8] = &[0xef, 0xbb, 0xbf];

/// What kind of JSON a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JsonKind {
    /// OTLP of any signal, or nothing that is known.
    Otlp,
    /// A span of Jaeger's model, as its producers write it.
    JaegerModel,
    /// A span, a trace or an answer of Jaeger's API.
    JaegerApi,
    /// A span of Zipkin, or a list of them.
    Zipkin,
    /// A list of something else.
    List,
}

/// What encodes a record. `Auto` if it is wrapped, so that the content must be examined.
#[inline]
pub(super) fn detect(value: &[u8]) -> Encoding {
    match value.first() {
        Some(0x0a) => proto(value),
        Some(0 | 0x1f | 0x28) if is_wrapped(value) => Encoding::Auto,
        // The fields of Tempo's request: traces, IDs, whether it is for metrics.
        Some(0x12 | 0x1a | 0x28) => Encoding::TempoPushBytes,
        Some(_) if begins_json(value) => json_encoding(value),
        _ => Encoding::OtlpProto,
    }
}

/// Messages that begin with field 1, as all that hold spans do.
#[inline]
fn proto(value: &[u8]) -> Encoding {
    // Trace ID, and a field 2 of 8 bytes behind it.
    if value.get(1) == Some(&16) && value.get(18..20) == Some(&[0x12, 8]) {
        return Encoding::JaegerProto;
    }
    let length = value.iter().skip(1).take(5).position(|byte| *byte < 0x80);
    let first = length.map_or(2, |more| 2 + more);
    match value.get(first..first + 2) {
        Some([0x0a, 8 | 16]) if begins_zipkin(value, first) => Encoding::ZipkinProto,
        _ => Encoding::OtlpProto,
    }
}

/// Whether the message at `at` begins with IDs: trace, perhaps parent, own; and has a field above 3 then.
#[cold]
fn begins_zipkin(value: &[u8], at: usize) -> bool {
    let message = value.get(at..).unwrap_or_default();
    let behind = |bytes: &[u8]| -> Option<u8> {
        let rest = bytes.get(2 + usize::from(*bytes.get(1)?)..)?;
        let rest = if rest.starts_with(&[0x12, 8]) { rest.get(10..)? } else { rest };
        if rest.starts_with(&[0x1a, 8]) { rest.get(10).copied() } else { None }
    };
    // Kind, name, timestamp, duration, endpoints, annotations, tags, debug, shared.
    matches!(behind(message), Some(0x20 | 0x2a | 0x31 | 0x38 | 0x42 | 0x4a | 0x52 | 0x5a | 0x60 | 0x68))
}

/// Whether a record begins like JSON. One that begins with a line feed does not: that is a field's key in protobuf.
fn begins_json(value: &[u8]) -> bool {
    match value.first() {
        Some(b'{' | b'[' | 0xef) => matches!(without_bom(value).trim_ascii_start().first(), Some(b'{' | b'[')),
        Some(b' ' | b'\t' | b'\r') => matches!(value.trim_ascii_start().first(), Some(b'{' | b'[')),
        _ => false,
    }
}

/// What encodes a text that is JSON, or should be; OTLP if that is unclear.
#[must_use]
pub fn json_encoding(value: &[u8]) -> Encoding {
    match json_kind(value) {
        JsonKind::Otlp => Encoding::OtlpJson,
        JsonKind::JaegerModel | JsonKind::JaegerApi => Encoding::JaegerJson,
        JsonKind::Zipkin | JsonKind::List => Encoding::ZipkinJson,
    }
}

/// A text without the mark that some editors put before UTF-8.
pub(super) fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(BOM).unwrap_or(text)
}

/// What kind of JSON a text is, by the first of its keys that identifies it. What lies behind that key is not looked
/// at.
pub(super) fn json_kind(text: &[u8]) -> JsonKind {
    let mut found = None;
    let mut r = Reader::new(without_bom(text));
    let is_list = r.is_array();
    // An error stops the search: where the kind is known, or where the text is broken.
    let _end = if is_list { r.array(&mut |r| object(r, &mut found)) } else { object(&mut r, &mut found) };
    found.unwrap_or(if is_list { JsonKind::List } else { JsonKind::Otlp })
}

fn object(r: &mut Reader<'_>, found: &mut Option<JsonKind>) -> Result<(), JsonError> {
    r.object(&mut |r, key| {
        *found = kind_by(key);
        if found.is_some() { r.stop() } else { r.skip() }
    })
}

/// What an object is that has this key.
fn kind_by(key: &[u8]) -> Option<JsonKind> {
    Some(match key {
        b"resourceSpans" | b"resource_spans" | b"batches" | b"trace" | b"result" => JsonKind::Otlp,
        b"resourceMetrics" | b"resourceLogs" | b"resourceProfiles" | b"startTimeUnixNano" => JsonKind::Otlp,
        b"data" | b"processes" | b"traceID" | b"spanID" | b"processID" => JsonKind::JaegerApi,
        b"operationName" | b"operation_name" | b"references" | b"startTime" | b"start_time" | b"process" | b"logs" => {
            JsonKind::JaegerModel
        }
        b"id" | b"parentId" | b"localEndpoint" | b"remoteEndpoint" | b"annotations" | b"timestamp" => JsonKind::Zipkin,
        _ => return None,
    })
}
