//! The frames of a segment, one per request: length, tenant, step, samples, body, checksum.
//!
//! A segment begins with eight bytes that name the format. An incomplete frame at the end of a segment was never
//! acknowledged: it is *torn*, and cut off. Damage before the end is an error.

use std::io::{self, Read};

use crate::core::model::Millis;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_checksum, put_i64, put_u64, verify_checksum};

/// How a segment begins: the format, and its version.
pub const MAGIC: [u8; 8] = *b"smspool\x01";
/// A length and its complement: a damaged length must not look like an incomplete frame.
const LENGTH: usize = 8;
/// Over all that is before it.
const CHECKSUM: usize = 8;

/// One request in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Whose samples these are.
    pub tenant: &'a str,
    /// Their step, named by its end. A zero that begins a series lies before it.
    pub step: Millis,
    /// How many there are.
    pub samples: u32,
    /// A snappy block that holds a `WriteRequest`.
    pub body: &'a [u8],
}

/// Why a segment cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The source of the bytes fails.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Not a segment.
    #[error("not a segment of a spool of this version; use a directory that spanmill wrote")]
    Foreign,
    /// Damage before the end of the segment.
    #[error("damaged at byte {at}: {why}; restore the file, or replay into a new directory")]
    Damaged {
        /// Where the frame begins.
        at: u64,
        /// The problem.
        why: &'static str,
    },
}

/// Reads a segment from its beginning, frame by frame.
#[derive(Debug)]
pub struct Scanner<R> {
    source: R,
    /// Where the next frame begins: everything before it is whole.
    good: u64,
    /// The bytes that the source holds.
    size: u64,
    buffer: Vec<u8>,
}

// === impl Frame ===

impl<'a> Frame<'a> {
    /// Appends the frame to `out`.
    ///
    /// # Panics
    /// Never for requests below 4 GiB, the limit of the snappy format.
    pub fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH]);
        put_bytes(out, self.tenant.as_bytes());
        put_i64(out, self.step);
        put_u64(out, self.samples.into());
        out.extend_from_slice(self.body);
        let length = u32::try_from(out.len() - start - LENGTH).expect("max_bytes keeps requests far below 4 GiB");
        let pair = u64::from(length) | u64::from(!length) << 32;
        out[start..start + LENGTH].copy_from_slice(&pair.to_le_bytes());
        put_checksum(out, start);
    }

    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        Ok(Self { tenant: r.str()?, step: r.i64()?, samples: r.uint()?, body: r.rest() })
    }
}

// === impl Scanner ===

impl<R: Read> Scanner<R> {
    /// Reads a whole segment of `size` bytes from its beginning. One that is shorter than [`MAGIC`] holds nothing.
    ///
    /// # Errors
    /// When it cannot be read or is no segment.
    pub fn new(mut source: R, size: u64) -> Result<Self, FrameError> {
        let mut magic = Vec::new();
        source.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        if !MAGIC.starts_with(&magic) {
            return Err(FrameError::Foreign);
        }
        let good = if magic.len() == MAGIC.len() { magic.len() as u64 } else { 0 };
        Ok(Self { source, good, size, buffer: Vec::new() })
    }

    /// Reads a stretch of a segment that begins with a frame at `from`, where the source stands, and ends with one.
    pub fn resume(source: R, from: u64, to: u64) -> Self {
        Self { source, good: from, size: to, buffer: Vec::new() }
    }

    /// Where the last complete frame ends; 0 if not even the beginning is complete.
    pub fn good(&self) -> u64 {
        self.good
    }

    /// The next whole frame; `None` at the end, or where the rest is torn.
    ///
    /// # Errors
    /// When a frame is damaged that is not the last one, or the source fails.
    #[allow(clippy::should_implement_trait, reason = "a frame borrows from the scanner")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let left = self.size.saturating_sub(self.good);
        if self.good < MAGIC.len() as u64 || left < LENGTH as u64 || !self.fill(0, LENGTH)? {
            return Ok(None);
        }
        let pair = self.buffer.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let (length, complement) = (pair as u32, (pair >> 32) as u32);
        if length != !complement {
            let torn = pair == 0 && self.only_zeros()?;
            return if torn { Ok(None) } else { Err(self.damaged("a frame has no length")) };
        }
        let whole = LENGTH + length as usize + CHECKSUM;
        if whole as u64 > left || !self.fill(LENGTH, whole)? {
            return Ok(None);
        }
        if verify_checksum(&self.buffer[..whole]).is_err() {
            return if self.only_zeros()? { Ok(None) } else { Err(self.damaged("the checksum does not match")) };
        }
        let at = self.good;
        self.good += whole as u64;
        Frame::read(&self.buffer[LENGTH..whole - CHECKSUM]).map(Some).map_err(|e| FrameError::Damaged { at, why: e.0 })
    }

    /// Reads the bytes `from..to` of a frame; false when there are fewer.
    fn fill(&mut self, from: usize, to: usize) -> Result<bool, FrameError> {
        self.buffer.truncate(from);
        let read = self.source.by_ref().take((to - from) as u64).read_to_end(&mut self.buffer)?;
        Ok(read == to - from)
    }

    /// Whether nothing follows but zeros: a file that was made longer before its bytes were written.
    fn only_zeros(&mut self) -> Result<bool, FrameError> {
        let mut chunk = [0; 4096];
        loop {
            let read = self.source.read(&mut chunk)?;
            if read == 0 {
                return Ok(true);
            }
            if chunk[..read].iter().any(|&b| b != 0) {
                return Ok(false);
            }
        }
    }

    fn damaged(&self, why: &'static str) -> FrameError {
        FrameError::Damaged { at: self.good, why }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tenant, step, samples, body.
    type Plain = (String, i64, u32, Vec<u8>);

    fn segment(frames: &[Plain]) -> (Vec<u8>, Vec<usize>) {
        let (mut out, mut ends) = (MAGIC.to_vec(), vec![MAGIC.len()]);
        for (tenant, step, samples, body) in frames {
            Frame { tenant, step: *step, samples: *samples, body }.put(&mut out);
            ends.push(out.len());
        }
        (out, ends)
    }

    /// The frames that are read, and where the whole ones end.
    fn scan(bytes: &[u8]) -> Result<(Vec<Plain>, u64), FrameError> {
        let mut scanner = Scanner::new(bytes, bytes.len() as u64)?;
        let mut out = Vec::new();
        while let Some(f) = scanner.next()? {
            out.push((f.tenant.to_owned(), f.step, f.samples, f.body.to_vec()));
        }
        Ok((out, scanner.good()))
    }

    fn frames() -> impl Strategy<Value = Vec<Plain>> {
        prop::collection::vec((".{0,5}", any::<i64>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..40)), 0..6)
    }

    proptest! {
        #[test]
        fn whatever_is_left_of_a_segment_gives_its_whole_frames(frames in frames(), cut: prop::sample::Index) {
            let (bytes, ends) = segment(&frames);
            let cut = cut.index(bytes.len() + 1);
            let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
            let (read, good) = scan(&bytes[..cut]).expect("a torn end is no damage");
            prop_assert_eq!(&read[..], &frames[..whole]);
            prop_assert_eq!(good as usize, if cut < MAGIC.len() { 0 } else { ends[whole] });
        }

        #[test]
        fn no_byte_can_change_unnoticed(frames in frames(), at: prop::sample::Index, flip in 1u8..) {
            let (mut bytes, ends) = segment(&frames);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            // It is an error, or in the body of the last frame, which is taken as torn.
            if let Ok((read, good)) = scan(&bytes) {
                prop_assert_eq!(&read[..], &frames[..frames.len() - 1]);
                prop_assert_eq!(good as usize, ends[frames.len() - 1]);
            }
        }

        #[test]
        fn garbage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(scan(&bytes));
            drop(scan(&[&MAGIC[..], &bytes].concat()));
        }
    }

    #[test]
    fn damage_before_the_end_is_said_and_damage_at_the_end_is_torn() {
        let frame = |n: u8| ("t".to_owned(), 5, 1, vec![n; 9]);
        let (bytes, ends) = segment(&[frame(1), frame(2)]);
        let mut first = bytes.clone();
        first[ends[0] + 8] ^= 1;
        assert!(matches!(scan(&first), Err(FrameError::Damaged { at: 8, .. })));
        let mut last = bytes.clone();
        last[ends[1] + 8] ^= 1;
        assert_eq!(scan(&last).expect("torn"), (vec![frame(1)], ends[1] as u64));
        let mut zeros = bytes;
        zeros.extend([0; 5000]);
        assert_eq!(scan(&zeros).expect("torn"), (vec![frame(1), frame(2)], ends[2] as u64));
        zeros.push(1);
        assert!(scan(&zeros).is_err());
    }

    #[test]
    fn another_file_is_no_segment() {
        assert!(matches!(scan(b"smspool\x02"), Err(FrameError::Foreign)));
        assert!(matches!(scan(b"# TYPE"), Err(FrameError::Foreign)));
    }
}
