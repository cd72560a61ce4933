//! Sampling weights: how many spans one kept span stands for.

/// A weight in fixed point: 32 bits before the point and 32 behind it.
///
/// Fixed point, because sums of it are associative: any order of adding gives the same bits. A weight is off by at most
/// 2^-33, once, where it is made from a ratio or a threshold; powers of two are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u64);

/// Thresholds of `tracestate` have this many bits.
const THRESHOLD_BITS: u32 = 56;

impl Weight {
    /// Bits behind the point.
    pub const FRACTION_BITS: u32 = 32;
    /// One span, one count.
    pub const ONE: Self = Self(1 << Self::FRACTION_BITS);

    /// The weight behind a ratio: of what was there, `ratio` was kept, so a kept one stands for `1 / ratio`. `None` for
    /// what is no ratio above zero, or so small that the weight would not fit.
    #[must_use]
    pub fn from_ratio(ratio: f64) -> Option<Self> {
        // A ratio above one makes a weight below one, as in Tempo.
        let bits = (1.0 / ratio * (1u64 << Self::FRACTION_BITS) as f64).round();
        (ratio > 0.0 && bits >= 1.0 && bits < u64::MAX as f64).then_some(Self(bits as u64))
    }

    /// The weight behind a rejection threshold of 56 bits, as W3C's `tracestate` carries it: `2^56 / (2^56 - threshold)`.
    /// `None` if nothing at all would have been kept, or if the weight would not fit.
    #[must_use]
    pub fn from_threshold(threshold: u64) -> Option<Self> {
        let all = 1u128 << THRESHOLD_BITS;
        let kept = all.checked_sub(u128::from(threshold)).filter(|&kept| kept > 0)?;
        let bits = ((all << Self::FRACTION_BITS) + kept / 2) / kept;
        u64::try_from(bits).ok().map(Self)
    }

    /// The weight with these bits.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits: the weight times 2^32.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_that_are_powers_of_two_are_exact() {
        assert_eq!(Weight::from_threshold(0), Some(Weight::ONE));
        assert_eq!(Weight::from_threshold(1 << 55).map(Weight::bits), Some(2 << 32));
        assert_eq!(Weight::from_threshold(0xc << 52).map(Weight::bits), Some(4 << 32));
        assert_eq!(Weight::from_threshold(1 << 56), None);
    }

    #[test]
    fn any_other_threshold_is_the_nearest_number() {
        let third = Weight::from_threshold(0x4 << 52).expect("3/4 is kept");
        assert_eq!(third.bits(), (4u64 << 32) / 3);
        assert_eq!(Weight::from_threshold((1 << 56) - 1), None, "2^56 needs more than 32 bits before the point");
    }

    #[test]
    fn a_ratio_is_turned_over() {
        assert_eq!(Weight::from_ratio(0.25).map(Weight::bits), Some(4 << 32));
        assert_eq!(Weight::from_ratio(2.0).map(Weight::bits), Some(1 << 31));
        for nonsense in [0.0, -1.0, f64::NAN, 1e-30, f64::INFINITY] {
            assert_eq!(Weight::from_ratio(nonsense), None, "{nonsense}");
        }
    }
}
