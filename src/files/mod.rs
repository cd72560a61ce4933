//! Files of OTLP traces, as the Collector's file exporter writes them, to the bytes of records.
//!
//! *In:* the bytes of a file, decompressed. *Out:* one `ExportTraceServiceRequest` in protobuf after the other, as a Kafka
//! record would hold it; or what is wrong, and where. *Owner:* `spanmill replay --files`. *Never:* a file, a clock, a panic,
//! more memory than [`MAX_MESSAGE`] and what becomes of it. *Next:* [`crate::tasks::local`].
//!
//! # What such files look like
//!
//! | exporter's settings | file |
//! |---|---|
//! | `format: json` | a request per line |
//! | `format: proto` | a request after the other, each with its length before it: 4 bytes, the highest first |
//! | `compression: zstd`, either format | the same with a length, also for JSON; each request is a zstd frame of its own |
//! | `compression: zstd` with the gate `exporter.file.nativeCompression` | as without compression, the whole file compressed |
//!
//! JSON may also be spread over lines, as tools write it for people. Someone may have compressed a whole file afterwards. All of it is told apart by its first bytes ([`framing`],
//! [`is_zstd`], [`is_gzip`]); only a file that begins with damage needs its name or a word of the user.
//!
//! Rotated files are put in order by their names ([`rotation`]).

mod framing;
mod json;
mod names;

pub use framing::{Flaw, Format, Frames, Framing, MAX_MESSAGE, Place, framing, is_gzip, is_zstd};
pub use json::{JsonError, MessageError, to_proto};
pub use names::{Rotation, hint, rotation};

use std::borrow::Cow;

use crate::model::Millis;
use crate::otlp::Batch;

/// The record's value that a message stands for, whether it is JSON or protobuf. A protobuf message is not looked at.
///
/// # Errors
/// When it is JSON, but no traces.
pub fn value(message: &[u8]) -> Result<Cow<'_, [u8]>, MessageError> {
    // No request in protobuf begins like this: it would be a group.
    if message.trim_ascii_start().first() != Some(&b'{') {
        return Ok(Cow::Borrowed(message));
    }
    to_proto(message).map(Cow::Owned)
}

/// The time at which a record that was decoded from `value` may have been written: when the first of its spans ended.
/// Spans without an end, and those that end after `latest`, say nothing.
#[must_use]
pub fn time_of(batch: &Batch, value: &[u8], latest: Millis) -> Option<Millis> {
    let ends = batch.resources(value).flat_map(|resource| resource.spans()).map(|span| span.end_ns / 1_000_000);
    ends.filter(|&end| end > 0).min().and_then(|end| Millis::try_from(end).ok()).filter(|&end| end <= latest)
}

#[cfg(test)]
mod tests;
