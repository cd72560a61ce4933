//! Seeded randomness. The stream is ChaCha8, so it is the same on every platform and for every release.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A seeded source of decisions.
#[derive(Debug, Clone)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// A source that depends on `seed` alone.
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `n` (which is at least 1). The bias of the multiplication is far below what a load can show.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// Whether an event of probability `per_million` / 1,000,000 happens.
    pub(super) fn hits(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(1_000_000) < u64::from(per_million)
    }

    /// A non-zero span ID.
    pub(super) fn span_id(&mut self) -> u64 {
        self.bits() | 1
    }

    /// A non-zero trace ID.
    pub(super) fn trace_id(&mut self) -> [u8; 16] {
        let bits = (u128::from(self.bits()) << 64) | u128::from(self.bits()) | 1;
        bits.to_be_bytes()
    }
}
