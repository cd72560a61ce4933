//! Raw keys that are looked up piece by piece, without being serialized first.

use crate::core::model::hash::{Mixer, Seed};
use crate::core::model::wire::put_u64;

/// What a raw key is made of, in order. Equal keys have equal pieces.
pub trait RawKey {
    /// Passes all pieces to `pieces`.
    fn visit(&self, pieces: &mut impl Pieces);
}

/// Takes the pieces of a raw key.
pub trait Pieces {
    /// A number.
    fn word(&mut self, word: u64);
    /// A text that may be missing, which is not the same as empty.
    fn text(&mut self, text: Option<&[u8]>);
}

/// What many keys begin with: bytes, and the state of a hash that has seen them. It is valid for the table that created
/// it.
#[derive(Debug, Default, Clone)]
pub struct Prefix {
    bytes: Vec<u8>,
    state: u64,
}

/// Serializes keys.
impl Pieces for Vec<u8> {
    fn word(&mut self, word: u64) {
        self.extend_from_slice(&word.to_le_bytes());
    }

    fn text(&mut self, text: Option<&[u8]>) {
        put_u64(self, text.map_or(0, |text| text.len() as u64 + 1));
        self.extend_from_slice(text.unwrap_or_default());
    }
}

/// Hashes keys.
#[derive(Debug)]
pub(super) struct Hasher(Mixer);

/// Compares a key to a serialized one.
#[derive(Debug)]
pub(super) struct Comparer<'a> {
    rest: &'a [u8],
    equal: bool,
}

// === impl Prefix ===

impl Prefix {
    /// Replaces the prefix.
    pub(super) fn set(&mut self, bytes: &[u8], seed: Seed) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        let mut mixer = seed.mixer();
        mixer.bytes(bytes, bytes.len() as u64);
        self.state = mixer.state();
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The hash of a key with this prefix.
    #[inline]
    pub(super) fn hash_of(&self, key: &impl RawKey) -> u64 {
        let mut hasher = Hasher(Mixer::from_state(self.state));
        key.visit(&mut hasher);
        hasher.0.finish()
    }

    /// Whether a key with this prefix was written as `written`.
    #[inline]
    pub(super) fn is(&self, key: &impl RawKey, written: &[u8]) -> bool {
        let Some(rest) = written.strip_prefix(self.bytes.as_slice()) else { return false };
        let mut comparer = Comparer { rest, equal: true };
        key.visit(&mut comparer);
        comparer.equal && comparer.rest.is_empty()
    }
}

// === impl Hasher ===

impl Pieces for Hasher {
    #[inline(always)]
    fn word(&mut self, word: u64) {
        self.0.words(word, !0);
    }

    #[inline(always)]
    fn text(&mut self, text: Option<&[u8]>) {
        self.0.bytes(text.unwrap_or_default(), text.map_or(0, |text| text.len() as u64 + 1));
    }
}

// === impl Comparer ===

impl Comparer<'_> {
    #[inline(always)]
    fn expect(&mut self, piece: &[u8]) {
        match self.rest.split_at_checked(piece.len()) {
            Some((head, rest)) if head == piece => self.rest = rest,
            _ => self.equal = false,
        }
    }
}

impl Pieces for Comparer<'_> {
    #[inline(always)]
    fn word(&mut self, word: u64) {
        match self.rest.split_first_chunk::<8>() {
            Some((head, rest)) if u64::from_le_bytes(*head) == word => self.rest = rest,
            _ => self.equal = false,
        }
    }

    #[inline(always)]
    fn text(&mut self, text: Option<&[u8]>) {
        let len = text.map_or(0, |text| text.len() + 1);
        match self.rest {
            [written, rest @ ..] if len < 0x80 && usize::from(*written) == len => self.rest = rest,
            _ if len < 0x80 => self.equal = false,
            _ => self.long(len as u64),
        }
        self.expect(text.unwrap_or_default());
    }
}

impl Comparer<'_> {
    #[inline(never)]
    fn long(&mut self, mut len: u64) {
        while len >= 0x80 {
            self.expect(&[len as u8 | 0x80]);
            len >>= 7;
        }
        self.expect(&[len as u8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Key(Vec<Option<Vec<u8>>>, u64);

    impl RawKey for Key {
        fn visit(&self, pieces: &mut impl Pieces) {
            let mut texts = self.0.iter();
            texts.next().into_iter().for_each(|text| pieces.text(text.as_deref()));
            pieces.word(self.1);
            texts.for_each(|text| pieces.text(text.as_deref()));
        }
    }

    fn keys() -> Vec<Key> {
        let lengths = [0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 126, 127, 128, 300, 16_383, 16_384];
        let mut texts: Vec<Option<Vec<u8>>> = vec![None];
        for len in lengths {
            texts.push(Some(vec![b'a'; len]));
            for at in [0, len / 2, len.saturating_sub(1)] {
                let mut text = vec![b'a'; len];
                text.get_mut(at).into_iter().for_each(|b| *b = b'b');
                texts.push(Some(text));
            }
        }
        texts.sort();
        texts.dedup();
        let mut keys: Vec<Key> = Vec::new();
        for (n, text) in (0..).zip(&texts) {
            keys.push(Key(vec![text.clone()], 7));
            keys.push(Key(vec![text.clone(), None], n));
            keys.push(Key(vec![text.clone(), Some(b"a".to_vec())], n << 32));
        }
        keys
    }

    #[test]
    fn a_key_is_what_was_written_for_it_and_nothing_else() {
        let mut prefix = Prefix::default();
        prefix.set(b"prefix", Seed::default());
        let written = |key: &Key| {
            let mut out = prefix.bytes().to_vec();
            key.visit(&mut out);
            out
        };
        let keys = keys();
        let all: Vec<_> = keys.iter().map(written).collect();
        for (i, key) in keys.iter().enumerate() {
            for (j, other) in all.iter().enumerate() {
                assert_eq!(prefix.is(key, other), i == j, "{i} {j}");
            }
            let cut = &all[i][..all[i].len() - 1];
            assert!(!prefix.is(key, cut) && !prefix.is(key, &[&all[i][..], &[0]].concat()));
            assert!(!prefix.is(key, &all[i][1..]));
        }
    }

    #[test]
    fn hashes_differ_in_the_bits_that_a_map_looks_at() {
        let mut prefix = Prefix::default();
        prefix.set(b"p", Seed::default());
        let mut all: Vec<_> = keys().iter().map(|key| prefix.hash_of(key)).collect();
        all.extend((0..4_096).map(|n| prefix.hash_of(&Key(vec![Some(format!("GET /{n}").into_bytes())], 1))));
        let distinct = |bits: &dyn Fn(u64) -> u64| {
            let mut seen: Vec<_> = all.iter().map(|&hash| bits(hash)).collect();
            seen.sort_unstable();
            seen.dedup();
            seen.len()
        };
        assert_eq!(distinct(&|hash| hash), all.len());
        // With 2^16 places for n keys, about n - n^2 / 2^17 are taken.
        let expected = all.len() - all.len() * all.len() / (1 << 17);
        for shift in [0, 16, 32, 48] {
            assert!(distinct(&|hash| hash >> shift & 0xffff) > expected * 99 / 100, "{shift}");
        }
        assert_eq!(distinct(&|hash| hash >> 57), 128);
    }
}
