//! OTLP in JSON to OTLP in protobuf, in one walk and without a tree.
//!
//! The keys are those of the protocol: lowerCamelCase, or as in the `.proto` files. IDs are hexadecimal; 64-bit numbers are
//! numbers or texts; enums are numbers or names; `null` is absent; unknown fields are ignored. Bytes come out as `prost`
//! would write the same message when the keys come in the order of field numbers, as they do from the Collector.

mod reader;
mod tables;

use reader::Reader;
use tables::{Field, Kind, Label, REQUEST, Table};

pub use reader::JsonError;

use crate::model::wire::{put_bytes, put_u64};

/// Why a message gives no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It is not JSON, or not what the protocol says.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// It is OTLP of another signal.
    #[error("it holds {0}, not traces")]
    OtherSignal(&'static str),
    /// It is something else.
    #[error("it has no resourceSpans; is it OTLP?")]
    NotTraces,
}

/// An `ExportTraceServiceRequest` in JSON as protobuf.
///
/// # Errors
/// When it is not that.
pub fn to_proto(text: &[u8]) -> Result<Vec<u8>, MessageError> {
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut r = Reader::new(text);
    let (mut traces, mut other, mut any) = (false, None, false);
    r.object(&mut |r, key| {
        any = true;
        let Some(field) = REQUEST.field(key) else {
            other = other.or(signal(key));
            return r.skip();
        };
        traces = true;
        put(r, field, &mut out)
    })?;
    r.end()?;
    match other {
        Some(signal) if !traces => Err(MessageError::OtherSignal(signal)),
        None if any && !traces => Err(MessageError::NotTraces),
        _ => Ok(out),
    }
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
        Kind::Message(table) => {
            key(out, field, 2);
            let start = open(out);
            message(r, table, out)?;
            close(out, start);
        }
        Kind::Text => bytes(out, field, &r.text()?),
        Kind::Hex => bytes(out, field, &r.hex()?),
        Kind::Base64 => bytes(out, field, &r.base64()?),
        Kind::Uint32 => varint(out, field, r.integer::<u32>()?.into()),
        Kind::Int64 => varint(out, field, r.integer::<i64>()?.cast_unsigned()),
        Kind::Enum(names) => varint(out, field, i64::from(r.choice(names)?).cast_unsigned()),
        Kind::Bool => varint(out, field, r.boolean()?.into()),
        Kind::Fixed32 => {
            let value: u32 = r.integer()?;
            if keeps_zero || value != 0 {
                key(out, field, 5);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        Kind::Fixed64 => fixed64(out, field, r.integer()?),
        Kind::Double => fixed64(out, field, r.double()?.to_bits()),
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

/// Leaves room for the length of a short message, which most are.
fn open(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len()
}

/// Puts the length of everything from `start` on before it.
fn close(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    if length < 0x80 {
        out[start - 1] = length as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(5);
    put_u64(&mut prefix, length as u64);
    out.splice(start - 1..start, prefix);
}
