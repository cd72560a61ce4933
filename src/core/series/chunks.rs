//! A list that grows without moving its items, and never allocates twice what it needs.

use std::iter::Flatten;
use std::vec::IntoIter;

/// Items of a chunk.
const CHUNK: usize = 1 << 10;

/// A list in chunks of the same size.
#[derive(Debug)]
pub(super) struct Chunks<T>(Vec<Vec<T>>);

// === impl Chunks ===

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Chunks<T> {
    pub(super) fn push(&mut self, item: T) {
        match self.0.last_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => chunk.push(item),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(item);
                self.0.push(chunk);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * CHUNK + last.len())
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.0.get(at / CHUNK)?.get(at % CHUNK)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.0.get_mut(at / CHUNK)?.get_mut(at % CHUNK)
    }

    pub(super) fn iter(&self) -> Flatten<std::slice::Iter<'_, Vec<T>>> {
        self.0.iter().flatten()
    }

    /// The bytes of all chunks, used or not.
    pub(super) fn bytes(&self) -> usize {
        self.0.len() * super::heap(CHUNK * size_of::<T>())
    }
}

impl<T> IntoIterator for Chunks<T> {
    type Item = T;
    type IntoIter = Flatten<IntoIter<Vec<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_found_in_its_place() {
        let mut chunks = Chunks::default();
        assert_eq!((chunks.len(), chunks.bytes()), (0, 0));
        (0..3_000).for_each(|i| chunks.push(i));
        *chunks.get_mut(2_048).expect("it is there") = 7;
        assert_eq!((chunks.len(), chunks.get(1_023), chunks.get(2_048)), (3_000, Some(&1_023), Some(&7)));
        assert_eq!((chunks.get(2_999), chunks.get(3_000), chunks.get(9_999)), (Some(&2_999), None, None));
        assert_eq!(chunks.iter().count(), 3_000);
        assert!(chunks.into_iter().take(2_048).eq(0..2_048));
    }
}
