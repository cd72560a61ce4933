//! Files of traces to the bytes of records: OTLP as the Collector's file exporter writes it, what the APIs and pages of
//! Tempo, Jaeger and Zipkin download, and everything else that [`crate::core::formats`] reads.
//!
//! *In:* the bytes of a file, decompressed. *Out:* one `ExportTraceServiceRequest` in protobuf after the other, as a
//! Kafka record would hold it; or what is wrong, and where. *Owner:* `spanmill replay --files`. *Never:* a file, a
//! clock, a panic, more memory than [`MAX_MESSAGE`] and its decoded form. *Next:* [`crate::tools::local`].
//!
//! # Layout of the files
//!
//! | exporter's settings | file |
//! |---|---|
//! | `format: json` | a request per line |
//! | `format: proto` | a request after the other, each with its length before it: 4 bytes, the highest first |
//! | `compression: zstd`, either format | the same with a length, also for JSON; each request is a zstd frame of its own |
//! | `compression: zstd` with the gate `exporter.file.nativeCompression` | as without compression, the whole file compressed |
//!
//! In place of a request there may be a message of any other format. JSON may also be spread over lines, as
//! pretty-printers write it, and an array stands for its elements. A whole file may have been compressed afterwards.
//! All forms are recognized by their first bytes ([`framing`], [`is_zstd`], [`is_gzip`]); only a file with a damaged
//! beginning needs its name or a flag.
//!
//! Rotated files are put in order by their names ([`rotation`]).

mod framing;
mod looks;
mod names;
mod times;

pub use crate::core::formats::{is_gzip, is_zstd};
pub use framing::{FilePosition, Flaw, Frames, Framing, MAX_MESSAGE, framing, is_utf16};
pub use looks::looks_like;
pub use names::{Rotation, hint, rotation};
pub use times::{TimeError, Times, times};

use std::borrow::Cow;

use crate::core::formats::{self, FormatError};
use crate::core::settings::Encoding;

/// The OTLP protobuf that a message stands for. One that is OTLP protobuf already is not looked at.
///
/// # Errors
/// When it does not match the encoding.
pub fn value(message: &[u8], encoding: Encoding) -> Result<Cow<'_, [u8]>, FormatError> {
    if formats::is_otlp_proto(encoding, message) {
        return Ok(Cow::Borrowed(message));
    }
    let mut out = Vec::with_capacity(message.len() / 2);
    formats::to_otlp(encoding, message, &mut out)?;
    Ok(Cow::Owned(out))
}

/// How messages of an encoding follow each other unless the first bytes of a file show another framing.
#[must_use]
pub fn framing_of(encoding: Encoding) -> Framing {
    if is_json(encoding) { Framing::Lines } else { Framing::Sized }
}

/// Whether messages of an encoding are JSON.
#[must_use]
pub fn is_json(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::OtlpJson | Encoding::JaegerJson | Encoding::ZipkinJson)
}

#[cfg(test)]
mod tests;
