//! The wrapping of a record: the framing of a schema registry, gzip, zstd.

use std::borrow::Cow;
use std::io::Read;

use super::{FormatError, MAX_UNWRAPPED};

/// Records are wrapped in so many layers at most.
const MAX_LAYERS: usize = 3;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Zero, and the ID of a schema.
const FRAME: usize = 5;
/// A frame of zstd may ask for so much memory, as a power of two: that of [`MAX_UNWRAPPED`].
const WINDOW_LOG: u32 = MAX_UNWRAPPED.ilog2();
/// A message lies in no more messages than this in any schema that holds spans.
const MAX_INDEXES: i64 = 16;

/// Whether bytes begin a gzip member.
#[must_use]
pub fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(GZIP)
}

/// Whether bytes begin a zstd frame.
#[must_use]
pub fn is_zstd(head: &[u8]) -> bool {
    head.starts_with(ZSTD)
}

/// Whether a record is wrapped in anything. No message of any encoding begins like that: a zero is no field's key, 0x1f has a
/// wire type that does not exist, and no producer writes the number that 0x28 would begin.
#[inline]
pub(super) fn is_wrapped(value: &[u8]) -> bool {
    match value.first() {
        Some(0) => value.len() > FRAME,
        Some(0x1f) => is_gzip(value),
        Some(0x28) => is_zstd(value),
        _ => false,
    }
}

/// What is inside.
pub(super) fn unwrap(value: &[u8]) -> Result<Cow<'_, [u8]>, FormatError> {
    let mut inside = Cow::Borrowed(value);
    for _ in 0..MAX_LAYERS {
        inside = match inside.first() {
            Some(0) if is_wrapped(&inside) => {
                let prefix = frame(&inside)?;
                without(inside, prefix)
            }
            _ if is_gzip(&inside) => {
                Cow::Owned(all(flate2::bufread::MultiGzDecoder::new(&*inside), "compressed by gzip")?)
            }
            _ if is_zstd(&inside) => {
                let damaged = |_| FormatError::Compression("compressed by zstd");
                let mut decoder = zstd::stream::read::Decoder::with_buffer(&*inside).map_err(damaged)?;
                decoder.window_log_max(WINDOW_LOG).map_err(damaged)?;
                Cow::Owned(all(decoder, "compressed by zstd")?)
            }
            _ => return Ok(inside),
        };
    }
    if is_wrapped(&inside) { Err(FormatError::Layers(MAX_LAYERS)) } else { Ok(inside) }
}

fn without(bytes: Cow<'_, [u8]>, prefix: usize) -> Cow<'_, [u8]> {
    match bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(bytes.get(prefix..).unwrap_or_default()),
        Cow::Owned(mut bytes) => {
            bytes.drain(..prefix.min(bytes.len()));
            Cow::Owned(bytes)
        }
    }
}

/// The length of the framing: zero, four bytes of schema ID, and for protobuf the path to the message in its schema, zigzag
/// varints with their number before them; a single zero stands for the first message. A schema of JSON has no path.
fn frame(value: &[u8]) -> Result<usize, FormatError> {
    let message = value.get(FRAME..).unwrap_or_default();
    if matches!(message.first(), Some(b'{' | b'[')) {
        return Ok(FRAME);
    }
    let mut rest = crate::core::model::wire::Reader::new(message);
    let indexes = rest.i64().map_err(|_| FormatError::Framing)?;
    if !(0..=MAX_INDEXES).contains(&indexes) {
        return Err(FormatError::Framing);
    }
    for _ in 0..indexes {
        rest.i64().map_err(|_| FormatError::Framing)?;
    }
    Ok(value.len() - rest.rest().len())
}

fn all(decoder: impl Read, kind: &'static str) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::new();
    let read = decoder.take(MAX_UNWRAPPED as u64 + 1).read_to_end(&mut out);
    if out.len() > MAX_UNWRAPPED {
        return Err(FormatError::TooLarge);
    }
    read.map(|_| out).map_err(|_| FormatError::Compression(kind))
}
