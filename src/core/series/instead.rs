//! Label sets that a limit refuses, and the labels of the sets that count for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::heap;
use crate::core::model::hash::Map;

/// By place: the label block of the set that counts for it. Few blocks stand for many sets, so each is kept once.
#[derive(Debug, Default)]
pub(super) struct Instead {
    of: Map<u32, Arc<[u8]>>,
    blocks: BTreeSet<Arc<[u8]>>,
}

// === impl Instead ===

impl Instead {
    pub(super) fn get(&self, id: u32) -> Option<&Arc<[u8]>> {
        self.of.get(&id)
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.of.contains_key(&id)
    }

    pub(super) fn insert(&mut self, id: u32, block: &[u8]) {
        let known = self.blocks.get(block).cloned();
        let block = known.unwrap_or_else(|| {
            let block: Arc<[u8]> = block.into();
            self.blocks.insert(Arc::clone(&block));
            block
        });
        self.of.insert(id, block);
    }

    /// Removes a set; returns whether it was refused.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        let Some(block) = self.of.remove(&id) else { return false };
        // The list of blocks holds the other reference.
        if Arc::strong_count(&block) == 2 {
            self.blocks.remove(&block);
        }
        true
    }

    /// Takes all places out.
    pub(super) fn take(&mut self) -> Vec<u32> {
        self.blocks.clear();
        std::mem::take(&mut self.of).into_keys().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        // The length of the few blocks does not matter.
        heap(self.of.allocation_size()) + self.blocks.len() * size_of::<Arc<[u8]>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_kept_once_and_as_long_as_a_set_needs_it() {
        let mut instead = Instead::default();
        instead.insert(1, b"a");
        instead.insert(2, b"a");
        instead.insert(3, b"b");
        assert_eq!((instead.len(), instead.blocks.len(), instead.get(2).map(|b| &**b)), (3, 2, Some(&b"a"[..])));
        assert!(instead.remove(1) && !instead.remove(1) && instead.contains(2));
        assert_eq!(instead.blocks.len(), 2);
        assert!(instead.remove(2));
        assert_eq!((instead.blocks.len(), instead.take()), (1, vec![3]));
        assert!(instead.is_empty() && instead.blocks.is_empty());
    }
}
