//! Bodies back into messages: for the receiver of `spanmill demo`, for logs and for tests.
//!
//! *In:* a compressed body, or one encoded series. *Out:* [`proto`] messages. *Never:* trust in the sender: a body that
//! claims to be huge is refused before memory is taken.

mod native;
pub mod v2;

use prost::Message;

pub use native::Native;

use self::proto::{Label, MetadataRequest, TimeSeries, WriteRequest};

/// The messages of `proto/prometheus_write.proto`.
#[allow(missing_docs, clippy::doc_markdown, reason = "generated")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/spanmill.write.v1.rs"));
}

/// The messages of `proto/prometheus_write_v2.proto`.
#[allow(missing_docs, clippy::doc_markdown, reason = "generated")]
pub mod proto_v2 {
    include!(concat!(env!("OUT_DIR"), "/spanmill.write.v2.rs"));
}

/// Bodies that would decompress to more than this are refused; Prometheus has the same limit.
pub const MAX_DECODED_BYTES: usize = 32 << 20;

/// The bits of the NaN that ends a series.
pub const STALE_MARKER: u64 = 0x7ff0_0000_0000_0002;

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not a snappy block.
    #[error("the body is not a snappy block: {0}")]
    Snappy(#[from] snap::Error),
    /// Larger than [`MAX_DECODED_BYTES`].
    #[error("the body decompresses to {0} bytes, more than {MAX_DECODED_BYTES}; send smaller requests")]
    TooLarge(usize),
    /// Not a message of the protocol.
    #[error("the body is not a remote write message: {0}")]
    Message(#[from] prost::DecodeError),
}

/// Decompresses and decodes one body.
///
/// # Errors
/// When it is not a snappy block of a `WriteRequest`, or too large.
pub fn body(bytes: &[u8]) -> Result<WriteRequest, DecodeError> {
    Ok(WriteRequest::decode(raw(bytes)?.as_slice())?)
}

/// Decompresses and decodes what one body in 1.0 holds about metrics.
///
/// # Errors
/// When it is not a snappy block of a `WriteRequest`, or too large.
pub fn metadata(bytes: &[u8]) -> Result<MetadataRequest, DecodeError> {
    Ok(MetadataRequest::decode(raw(bytes)?.as_slice())?)
}

fn raw(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let size = snap::raw::decompress_len(bytes)?;
    if size > MAX_DECODED_BYTES {
        return Err(DecodeError::TooLarge(size));
    }
    Ok(snap::raw::Decoder::new().decompress_vec(bytes)?)
}

/// Decodes one series, as it stands inside a request.
///
/// # Errors
/// When the bytes are not a `TimeSeries`.
pub fn series(bytes: &[u8]) -> Result<TimeSeries, DecodeError> {
    Ok(TimeSeries::decode(bytes)?)
}

/// A label set as text: `name{a="b",c="d"}`, values escaped as in PromQL.
#[must_use]
pub fn text(labels: &[Label]) -> String {
    let name = labels.iter().find(|l| l.name == "__name__").map_or("", |l| l.value.as_str());
    let rest: Vec<String> =
        labels.iter().filter(|l| l.name != "__name__").map(|l| format!("{}={:?}", l.name, l.value)).collect();
    if rest.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", rest.join(",")) }
}

/// Whether a value is the stale marker.
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_MARKER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_claims_to_be_huge_is_refused_before_memory_is_taken() {
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
        assert!(matches!(body(&claim), Err(DecodeError::TooLarge(_) | DecodeError::Snappy(_))));
        let mut honest_claim = Vec::new();
        crate::core::model::wire::put_u64(&mut honest_claim, 64 << 20);
        honest_claim.push(0);
        assert!(matches!(body(&honest_claim), Err(DecodeError::TooLarge(67_108_864))));
    }

    #[test]
    fn garbage_is_an_error_and_not_a_panic() {
        assert!(matches!(body(b"\x05garbage"), Err(DecodeError::Snappy(_))));
        let noise = snap::raw::Encoder::new().compress_vec(&[0x0a, 0x7f, 1]).expect("small");
        assert!(matches!(body(&noise), Err(DecodeError::Message(_))));
    }

    #[test]
    fn labels_are_written_as_people_write_them() {
        let label = |n: &str, v: &str| Label { name: n.to_owned(), value: v.to_owned() };
        assert_eq!(text(&[label("__name__", "up")]), "up");
        assert_eq!(text(&[label("__name__", "up"), label("a", "x\"y"), label("b", "1")]), r#"up{a="x\"y",b="1"}"#);
    }
}
