//! Hashing of keys that come from outside: a [`Seed`] that no sender can know, and a [`Mixer`] that loses nothing.
//!
//! A sender that knows how keys are hashed can send keys that all have one hash, and a table of them is a list. So
//! tables whose keys come from outside are seeded: the seed is drawn once per process by the code that starts the
//! tasks, and is an argument here. It only decides where a key lies in memory: the order of a table never affects a
//! result.
//!
//! [`Map`] and [`Set`] are for keys that no sender can choose, such as places in a list of the program.

/// A deterministic hasher.
pub type State = foldhash::quality::FixedState;

/// A map that never depends on a random seed, for keys that no sender chooses. Iterate over it only where the order
/// cannot reach a result.
pub type Map<K, V> = hashbrown::HashMap<K, V, State>;

/// A set that never depends on a random seed, for keys that no sender chooses.
pub type Set<K> = hashbrown::HashSet<K, State>;

/// A secret of the process. The default is for tests and benchmarks, which need repeatable runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed([u64; 2]);

/// Hashes input that comes in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mixer(u64);

/// A collision-resistant hash that stands for the bytes. It takes ten times as long as the other hashes.
#[must_use]
pub fn digest(bytes: &[u8]) -> u128 {
    first_128(blake3::Hasher::new().update(bytes))
}

/// The first 128 bits of a digest.
pub(super) fn first_128(hasher: &blake3::Hasher) -> u128 {
    let mut bits = [0; 16];
    hasher.finalize_xof().fill(&mut bits);
    u128::from_le_bytes(bits)
}

// === impl Seed ===

impl Default for Seed {
    fn default() -> Self {
        Self([0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03])
    }
}

impl Seed {
    /// A seed of 128 random bits.
    #[must_use]
    pub fn new(random: u128) -> Self {
        Self([random as u64, (random >> 64) as u64])
    }

    /// A mixer without input.
    #[must_use]
    pub fn mixer(self) -> Mixer {
        Mixer(self.0[0] ^ self.0[1].rotate_left(32))
    }

    /// The hash of some bytes.
    #[must_use]
    pub fn of_bytes(self, bytes: &[u8]) -> u64 {
        let mut mixer = self.mixer();
        mixer.bytes(bytes, bytes.len() as u64);
        mixer.finish()
    }

    /// The hash of two words.
    #[inline(always)]
    #[must_use]
    pub fn of_words(self, a: u64, b: u64) -> u64 {
        fold(a ^ self.0[0], b ^ self.0[1])
    }
}

// === impl Mixer ===

impl Mixer {
    /// The common state of mixers whose keys begin alike.
    #[must_use]
    pub fn state(self) -> u64 {
        self.0
    }

    /// Continues from [`Mixer::state`].
    #[inline(always)]
    #[must_use]
    pub fn from_state(state: u64) -> Self {
        Self(state)
    }

    /// Takes two words: every bit of both reaches every bit of the state.
    #[inline(always)]
    pub fn words(&mut self, a: u64, b: u64) {
        const ODD: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
        self.0 = fold(a ^ self.0 ^ ODD[0], b ^ self.0.rotate_left(32) ^ ODD[1]);
    }

    /// Takes bytes, of which there are as many as `len` stands for.
    #[inline(always)]
    pub fn bytes(&mut self, bytes: &[u8], len: u64) {
        let mut rest = bytes;
        while let Some((pair, after)) = rest.split_first_chunk::<16>()
            && !after.is_empty()
        {
            let pair = u128::from_le_bytes(*pair);
            self.words(pair as u64, (pair >> 64) as u64);
            rest = after;
        }
        let (a, b) = end(rest);
        self.words(a ^ len.rotate_left(40), b);
    }

    /// The hash. A table takes seven bits from the top, the rest from below.
    #[inline(always)]
    #[must_use]
    pub fn finish(self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// Multiplies and folds. A product with a factor of zero reveals nothing about the other one, so both are mixed in
/// again: without them, a sender that makes one word zero could choose the other freely.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    a ^ b ^ product as u64 ^ (product >> 64) as u64
}

/// Up to 16 bytes as two words, which overlap where there are fewer.
#[inline(always)]
fn end(rest: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (rest.first_chunk::<8>(), rest.last_chunk::<8>()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into())
    } else {
        (rest.iter().fold(0, |word, &b| word << 8 | u64::from(b)), 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// How many of the places of a small table keys take, and how many different hashes they have.
    fn spread(hashes: &[u64]) -> (usize, usize) {
        let count = |bits: &dyn Fn(u64) -> u64| hashes.iter().map(|&hash| bits(hash)).collect::<BTreeSet<_>>().len();
        (count(&|hash| hash & 0xfff), count(&|hash| hash))
    }

    #[test]
    fn a_factor_of_zero_absorbs_nothing_even_of_somebody_who_knows_the_state() {
        let state = 0x0123_4567_89ab_cdef_u64;
        let zero_a = state ^ 0x9e37_79b9_7f4a_7c15;
        let zero_b = state.rotate_left(32) ^ 0xd1b5_4a32_d192_ed03;
        let hash = |a, b| {
            let mut mixer = Mixer::from_state(state);
            mixer.words(a, b);
            // What comes after is the same.
            mixer.words(7, 8);
            mixer.finish()
        };
        for hashes in
            [(0..4_096).map(|b| hash(zero_a, b)).collect::<Vec<_>>(), (0..4_096).map(|a| hash(a, zero_b)).collect()]
        {
            let (places, distinct) = spread(&hashes);
            assert_eq!(distinct, hashes.len());
            // As at random: 63 % of the places.
            assert!(places > 2_400, "{places}");
        }
        let Seed([a, _]) = Seed::default();
        let words: Vec<_> = (0..4_096).map(|n| Seed::default().of_words(a, n)).collect();
        assert_eq!(spread(&words).1, words.len());
    }

    #[test]
    fn keys_that_meet_under_one_seed_do_not_under_another() {
        let texts = (0..400_000).map(|n| format!("GET /{n}"));
        let low = |seed: Seed, text: &str| seed.of_bytes(text.as_bytes()) & 0xfff;
        let met: Vec<String> = texts.filter(|text| low(Seed::default(), text) == 0).collect();
        assert!(met.len() > 60, "{}", met.len());
        let elsewhere: BTreeSet<u64> = met.iter().map(|text| low(Seed::new(5), text)).collect();
        assert!(elsewhere.len() > met.len() * 9 / 10);
        let words: BTreeSet<u64> = (0..64).map(|n| Seed::new(n).of_words(1, 2)).collect();
        assert_eq!(words.len(), 64);
    }

    #[test]
    fn bytes_of_every_length_differ() {
        let text = b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        let hashes: BTreeSet<u64> = (0..text.len()).map(|len| Seed::default().of_bytes(&text[..len])).collect();
        assert_eq!(hashes.len(), text.len());
    }
}
