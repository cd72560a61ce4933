//! Into how many shards a group divides its series. `spanmill reshard` changes that: a *sharding* is one such division, the
//! first one having the number 0. Each has a deltas topic and a series journal of its own; the journals of span tasks stay.
//!
//! The last record of a topic of its own names the present sharding, so one append switches all of it. Without such a
//! record, it is the first one.

use crate::core::model::wire::{Malformed, Reader, put_checksum, put_u64, verify_checksum};

const MAGIC: [u8; 3] = *b"smh";
const VERSION: u8 = 1;

/// A division into shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharding {
    /// Its number. Numbers may be skipped: one is used up by an attempt that did not finish.
    pub number: u32,
    /// How many shards there are.
    pub shards: u32,
}

/// A record that names no sharding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardingError {
    /// The bytes are damaged, or another program has written them.
    #[error("it is damaged: {0}")]
    Damaged(#[from] Malformed),
    /// A later version of spanmill wrote it.
    #[error("it has version {0}, but this spanmill reads up to {VERSION}; upgrade this worker")]
    Newer(u8),
}

// === impl Sharding ===

impl Sharding {
    /// The record that switches to it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        put_u64(&mut out, self.number.into());
        put_u64(&mut out, self.shards.into());
        put_checksum(&mut out, 0);
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(record: &[u8]) -> Result<Self, ShardingError> {
        match record {
            [a, b, c, VERSION, ..] if [*a, *b, *c] == MAGIC => {}
            [a, b, c, version, ..] if [*a, *b, *c] == MAGIC && *version > VERSION => {
                return Err(ShardingError::Newer(*version));
            }
            _ => return Err(Malformed("it does not begin like one").into()),
        }
        let mut r = Reader::new(verify_checksum(record)?);
        r.take(MAGIC.len() + 1)?;
        let sharding = Self { number: r.uint()?, shards: r.uint()? };
        let whole = r.is_empty() && sharding.number > 0 && sharding.shards > 0;
        if whole { Ok(sharding) } else { Err(Malformed("a number is out of range").into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sharding_survives_the_round_trip_and_nothing_else_is_one() {
        let sharding = Sharding { number: 300, shards: 6 };
        let record = sharding.encode();
        assert_eq!(Sharding::decode(&record), Ok(sharding));
        assert!((0..record.len()).all(|n| matches!(Sharding::decode(&record[..n]), Err(ShardingError::Damaged(_)))));
        let mut newer = record.clone();
        newer[3] = VERSION + 1;
        assert_eq!(Sharding::decode(&newer), Err(ShardingError::Newer(VERSION + 1)));
        let mut longer = record;
        longer.push(0);
        assert!(matches!(Sharding::decode(&longer), Err(ShardingError::Damaged(_))));
        let none = Sharding { number: 1, shards: 0 };
        assert!(matches!(Sharding::decode(&none.encode()), Err(ShardingError::Damaged(_))));
    }
}
