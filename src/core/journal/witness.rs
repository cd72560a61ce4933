//! A record of the source that a span task has read: an owner that finds another record at its offset is reading
//! another topic.

use super::span::{option, put_option};
use crate::core::model::Millis;
use crate::core::model::wire::{Malformed, Reader, put_i64};

/// What identifies a record: its place, its time and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    /// Its offset.
    pub offset: i64,
    /// Its Kafka timestamp, if it has one.
    timestamp: Option<Millis>,
    /// xxh3-64 of its value.
    hash: u64,
}

// === impl Witness ===

impl Witness {
    /// The record at `offset`.
    #[must_use]
    pub fn of(offset: i64, timestamp: Option<Millis>, value: &[u8]) -> Self {
        Self { offset, timestamp, hash: xxhash_rust::xxh3::xxh3_64(value) }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_i64(out, self.offset);
        put_option(out, self.timestamp);
        out.extend_from_slice(&self.hash.to_le_bytes());
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { offset: r.i64()?, timestamp: option(r)?, hash: u64::from_le_bytes(r.array()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_another_one_in_another_place_at_another_time_or_with_other_bytes() {
        let witness = Witness::of(7, Some(1_000), b"spans");
        assert_eq!(witness, Witness::of(7, Some(1_000), b"spans"));
        for other in [
            Witness::of(8, Some(1_000), b"spans"),
            Witness::of(7, Some(1_001), b"spans"),
            Witness::of(7, None, b"spans"),
            Witness::of(7, Some(1_000), b"span"),
        ] {
            assert_ne!(witness, other);
        }
    }
}
