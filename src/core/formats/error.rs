//! Why a record in another format than OTLP protobuf cannot be read.

use super::MAX_UNWRAPPED;
use super::otlp_json::MessageError;

/// The record as a whole is refused; no part of it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// OTLP in JSON that violates the protocol.
    #[error(transparent)]
    OtlpJson(#[from] MessageError),
    /// JSON of another kind than expected.
    #[error("the record is not JSON of {of}: {why}, line {line}, column {column}")]
    Json {
        /// The expected kind.
        of: &'static str,
        /// The problem.
        why: &'static str,
        /// Where, from 1.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// Protobuf of another kind than expected.
    #[error("the record is not protobuf of {0}; check that kafka.encoding is what its producer writes")]
    Proto(&'static str),
    /// An invalid trace or span ID.
    #[error("the record has {0}; check its producer")]
    Id(&'static str),
    /// Text that is not JSON at all.
    #[error("the record is not JSON; check that kafka.encoding is what its producer writes")]
    NoJson,
    /// The frame of a schema registry, and nothing that can be inside.
    #[error("the record begins like the framing of a schema registry, but its message index is damaged")]
    Framing,
    /// Damaged gzip or zstd.
    #[error("the record is {0}, but cannot be decompressed: it is damaged or cut off")]
    Compression(&'static str),
    /// More than the limit.
    #[error("the record decompresses to more than {MAX_UNWRAPPED} bytes; configure its producer to send smaller ones")]
    TooLarge,
    /// A span with too many fields.
    #[error("a span of the record has more than {0} tags and other fields")]
    TooManyFields(usize),
    /// Too many layers of compression or framing.
    #[error("the record is compressed or framed more than {0} times")]
    Layers(usize),
}

impl FormatError {
    pub(super) fn json(of: &'static str, error: &serde_json::Error) -> Self {
        let why = match error.classify() {
            serde_json::error::Category::Data => "a field has another type, or is missing or there twice",
            serde_json::error::Category::Eof => "it ends too early",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is not valid JSON",
        };
        Self::Json { of, why, line: error.line(), column: error.column() }
    }
}
