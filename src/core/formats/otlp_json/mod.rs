//! OTLP in JSON to OTLP in protobuf, in one walk and without a tree.
//!
//! The keys are those of the protocol: lowerCamelCase, or as in the `.proto` files. IDs are hexadecimal; 64-bit numbers are
//! numbers or texts; enums are numbers or names; `null` is absent; unknown fields are ignored. What Tempo and Jaeger answer
//! when they are asked for a trace is read, too, with its IDs in base64. Bytes come out as `prost`
//! would write the same message when the keys come in the order of field numbers, as they do from the Collector.

mod reader;
mod tables;

pub(super) use reader::{Reader, base64};
use tables::{Field, FieldContent, Label, REQUEST, Table};

pub use reader::JsonError;

use super::write::{close, open};
use crate::core::model::wire::{put_bytes, put_u64};

/// Why a message gives no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It is not JSON, or violates the protocol.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// It is OTLP of another signal.
    #[error("it holds {0}, not traces")]
    OtherSignal(&'static str),
    /// It is something else.
    #[error("it has no resourceSpans; {}", .0.unwrap_or("is it OTLP?"))]
    NotTraces(Option<&'static str>),
}

/// An `ExportTraceServiceRequest` in JSON as protobuf.
///
/// # Errors
/// When it is not that.
pub fn to_proto(text: &[u8]) -> Result<Vec<u8>, MessageError> {
    let mut out = Vec::with_capacity(text.len() / 2);
    put_proto(text, &mut out)?;
    Ok(out)
}

/// Appends the same.
pub(super) fn put_proto(text: &[u8], out: &mut Vec<u8>) -> Result<(), MessageError> {
    let mut r = Reader::new(text);
    let mut seen = FieldsSeen::default();
    request(&mut r, true, &mut seen, out)?;
    r.end()?;
    match seen.signal {
        _ if seen.traces => Ok(()),
        Some(signal) => Err(MessageError::OtherSignal(signal)),
        None if seen.any => Err(MessageError::NotTraces(seen.looks)),
        None => Ok(()),
    }
}

/// What the keys of a message show.
#[derive(Debug, Default)]
struct FieldsSeen {
    any: bool,
    traces: bool,
    signal: Option<&'static str>,
    looks: Option<&'static str>,
}

/// Reads a request, or what Tempo and Jaeger answer when they are asked for a trace: `batches` in place of `resourceSpans`, or
/// a request in a `trace` or a `result`.
fn request(r: &mut Reader<'_>, outer: bool, seen: &mut FieldsSeen, out: &mut Vec<u8>) -> Result<(), JsonError> {
    r.object(&mut |r, key| {
        seen.any = true;
        let known = if key == b"batches" { b"resourceSpans" } else { key };
        if let Some(field) = REQUEST.field(known) {
            seen.traces = true;
            return put(r, field, out);
        }
        if outer && matches!(key, b"trace" | b"result") && r.is_object() {
            return request(r, false, seen, out);
        }
        seen.signal = seen.signal.or(signal(key));
        seen.looks = seen.looks.or(known_by(key));
        r.skip()
    })
}

fn signal(key: &[u8]) -> Option<&'static str> {
    match key {
        b"resourceMetrics" => Some("metrics"),
        b"resourceLogs" => Some("logs"),
        b"resourceProfiles" => Some("profiles"),
        _ => None,
    }
}

/// Reads a message and appends its fields.
fn message(r: &mut Reader<'_>, table: &Table, out: &mut Vec<u8>) -> Result<(), JsonError> {
    r.object(&mut |r, key| match table.field(key) {
        Some(field) => put(r, field, out),
        None => r.skip(),
    })
}

/// Reads the value of a field and appends it, unless it is absent.
fn put(r: &mut Reader<'_>, field: &Field, out: &mut Vec<u8>) -> Result<(), JsonError> {
    if r.null()? {
        return Ok(());
    }
    match field.label {
        Label::List => r.array(&mut |r| put_one(r, field, out)),
        Label::One | Label::Either => put_one(r, field, out),
    }
}

fn put_one(r: &mut Reader<'_>, field: &Field, out: &mut Vec<u8>) -> Result<(), JsonError> {
    // Elements of lists and alternatives are there even when they are zero.
    let keeps_zero = field.label != Label::One;
    match field.kind {
        FieldContent::Message(table) => {
            key(out, field, 2);
            let start = open(out);
            message(r, table, out)?;
            close(out, start);
        }
        FieldContent::Text => bytes(out, field, &r.text()?),
        FieldContent::Hex => bytes(out, field, &r.hex()?),
        FieldContent::Base64 => bytes(out, field, &r.base64()?),
        FieldContent::Uint32 => varint(out, field, r.integer::<u32>()?.into()),
        FieldContent::Int64 => varint(out, field, r.integer::<i64>()?.cast_unsigned()),
        FieldContent::Enum(names) => varint(out, field, i64::from(r.choice(names)?).cast_unsigned()),
        FieldContent::Bool => varint(out, field, r.boolean()?.into()),
        FieldContent::Fixed32 => {
            let value: u32 = r.integer()?;
            if keeps_zero || value != 0 {
                key(out, field, 5);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        FieldContent::Fixed64 => fixed64(out, field, r.integer()?),
        FieldContent::Double => fixed64(out, field, r.double()?.to_bits()),
    }
    Ok(())
}

fn key(out: &mut Vec<u8>, field: &Field, wire_type: u64) {
    put_u64(out, u64::from(field.number) << 3 | wire_type);
}

fn varint(out: &mut Vec<u8>, field: &Field, value: u64) {
    if field.label != Label::One || value != 0 {
        key(out, field, 0);
        put_u64(out, value);
    }
}

fn fixed64(out: &mut Vec<u8>, field: &Field, value: u64) {
    if field.label != Label::One || value != 0 {
        key(out, field, 1);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn bytes(out: &mut Vec<u8>, field: &Field, value: &[u8]) {
    if field.label != Label::One || !value.is_empty() {
        key(out, field, 2);
        put_bytes(out, value);
    }
}

/// What an object of JSON without resourceSpans looks like, by one of its keys.
fn known_by(key: &[u8]) -> Option<&'static str> {
    match key {
        b"data" | b"traceID" | b"operationName" => Some("it looks like Jaeger: set the encoding to jaeger_json"),
        b"id" | b"localEndpoint" => Some("it looks like a Zipkin span: set the encoding to zipkin_json"),
        b"traceId" => Some("it looks like a single span without its resource"),
        _ => None,
    }
}
