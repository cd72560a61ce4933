//! Records in other formats than OTLP protobuf to OTLP protobuf.
//!
//! *In:* the value of a record, and its [`Encoding`]. *Out:* the bytes of an `ExportTraceServiceRequest`, as a
//! canonical encoder writes it; or why there is none. *Owner:* the span task, which decodes the bytes as if the record
//! had held them. *Never:* a clock or a random number, as a record is read again after a crash and in a replay, and
//! must give the same bytes; a panic; more memory than [`MAX_UNWRAPPED`] and its decoded form. *Next:*
//! [`crate::core::otlp`].
//!
//! # Translation
//!
//! Jaeger's and Zipkin's spans become what the Collector's translators make of them (its version 0.165): the same
//! kinds, statuses, attributes, events and links. It differs where those lose something:
//!
//! - every Zipkin span keeps its own resource attributes; there, those of the first span of a service are all that is
//!   left;
//! - Zipkin's trace IDs may have 8 bytes also in protobuf;
//! - an annotation or tag of Zipkin that only looks like an event or a link of OTLP is kept as text, and does not fail
//!   the record;
//! - a remote endpoint's name is `peer.service` and `service.peer.name`, so that it is found by its older and by its
//!   newer name;
//! - texts are not checked to be UTF-8 in protobuf, as in OTLP.
//!
//! **Shared span IDs.** Client and server of a Zipkin call may share one ID. Then the server's span gets an ID of its
//! own, made of the shared one, and the shared one as its parent; so the two are an edge, as in OTLP. Its children name
//! the shared ID as their parent: those in the same record and of the same service get the new one. Elsewhere nothing
//! distinguishes them from children of the client, and they stay below it.

mod detect;
mod error;
mod jaeger;
mod json;
mod otlp_json;
mod protobuf;
mod tempo;
mod unwrap;
mod write;
mod zipkin;

#[cfg(test)]
mod tests;

pub use detect::json_encoding;
pub use error::FormatError;
pub use otlp_json::{JsonError, MessageError, to_proto};
pub use unwrap::{is_gzip, is_zstd};

use self::detect::{JsonKind, json_kind, without_bom};
use super::settings::Encoding;

/// The most bytes that a record may decompress to.
pub const MAX_UNWRAPPED: usize = 64 << 20;

/// Whether a record holds OTLP protobuf as it is, so that it can be decoded in its place.
#[inline]
#[must_use]
pub fn is_otlp_proto(encoding: Encoding, value: &[u8]) -> bool {
    match encoding {
        Encoding::OtlpProto => !unwrap::is_wrapped(value),
        Encoding::Auto => detect::detect(value) == Encoding::OtlpProto,
        _ => false,
    }
}

/// Appends the content of a record as OTLP protobuf. False if its sender has excluded it from metrics; then nothing is
/// appended.
///
/// # Errors
/// When it does not match the encoding.
pub fn to_otlp(encoding: Encoding, value: &[u8], out: &mut Vec<u8>) -> Result<bool, FormatError> {
    let value = unwrap::unwrap(value)?;
    let encoding = if encoding == Encoding::Auto { detect::detect(&value) } else { encoding };
    match encoding {
        Encoding::OtlpProto | Encoding::Auto => out.extend_from_slice(&value),
        Encoding::OtlpJson => otlp_json::put_proto(without_bom(&value), out)?,
        Encoding::TempoPushBytes => return tempo::push_bytes(&value, out),
        Encoding::JaegerProto => jaeger::proto(&value, out)?,
        Encoding::JaegerJson => match json_kind(&value) {
            JsonKind::JaegerApi => jaeger::api_json(without_bom(&value), out)?,
            _ => jaeger::model_json(without_bom(&value), out)?,
        },
        Encoding::ZipkinProto => zipkin::proto(&value, out)?,
        Encoding::ZipkinJson => zipkin::json(without_bom(&value), out)?,
    }
    Ok(true)
}

/// The name of the format of a record, by its first bytes, as `kafka.encoding` has it; `compressed` if one has to look inside.
#[must_use]
pub fn format_of(value: &[u8]) -> &'static str {
    match detect::detect(value) {
        Encoding::Auto => "compressed",
        Encoding::OtlpProto => "otlp_proto",
        Encoding::OtlpJson => "otlp_json",
        Encoding::TempoPushBytes => "tempo_push_bytes",
        Encoding::JaegerProto => "jaeger_proto",
        Encoding::JaegerJson => "jaeger_json",
        Encoding::ZipkinProto => "zipkin_proto",
        Encoding::ZipkinJson => "zipkin_json",
    }
}

/// An ID of the full length, or with zeros before it if it has only half of it.
fn padded(bytes: &[u8]) -> Option<[u8; 16]> {
    let mut id = [0; 16];
    match bytes.len() {
        16 => id.copy_from_slice(bytes),
        8 => id[8..].copy_from_slice(bytes),
        _ => return None,
    }
    Some(id)
}

/// An ID in hexadecimal; leading zeros may be missing.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut id = [0; N];
    if text.is_empty() || text.len() > 2 * N {
        return None;
    }
    for (place, digit) in text.iter().rev().enumerate() {
        let digit = char::from(*digit).to_digit(16)? as u8;
        id[N - 1 - place / 2] |= digit << (4 * (place % 2));
    }
    Some(id)
}
