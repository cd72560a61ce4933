//! What waits: a slab, an index by key, and a list in the order of creation.

use hashbrown::HashTable;

use super::edge::{Item, Key};
use super::names::NameId;
use crate::model::Millis;

/// No slot.
const NONE: u32 = u32::MAX;

/// Something with a key, which decides the hash.
pub(super) trait Hashed: Copy {
    fn hash(&self) -> u64;
}

/// Items in the order in which they came.
#[derive(Debug)]
pub(super) struct Store<T> {
    index: HashTable<u32>,
    slots: Vec<Slot<T>>,
    /// Free slots, linked by `next`.
    free: u32,
    oldest: u32,
    newest: u32,
}

#[derive(Debug)]
struct Slot<T> {
    older: u32,
    next: u32,
    item: T,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { index: HashTable::new(), slots: Vec::new(), free: NONE, oldest: NONE, newest: NONE }
    }
}

impl<T: Hashed> Store<T> {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The slot of the item with this hash that fits. There must not be two.
    #[inline]
    pub(super) fn find_hashed(&self, hash: u64, fits: impl Fn(u32, &T) -> bool) -> Option<u32> {
        self.index.find(hash, |&at| fits(at, self.get(at))).copied()
    }

    /// The slots of all items with this hash that fit, in any order.
    pub(super) fn find_all_hashed(&self, hash: u64, fits: impl Fn(u32, &T) -> bool, out: &mut Vec<u32>) {
        out.clear();
        out.extend(self.index.iter_hash(hash).filter(|&&at| fits(at, self.get(at))));
    }

    /// Reads what finding and removing an item with this hash reads: its slot and those of its neighbours. What is returned
    /// only keeps the reading.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u32 {
        let mut read = 0;
        self.index.find(hash, |&at| {
            let Slot { older, next, .. } = self.slots[at as usize];
            let neighbours = [older, next].into_iter().filter_map(|at| self.slots.get(at as usize));
            read ^= neighbours.fold(0, |read, slot| read ^ slot.older);
            false
        });
        read
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &T {
        &self.slots[slot as usize].item
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut T {
        &mut self.slots[slot as usize].item
    }

    /// Appends an item.
    pub(super) fn insert(&mut self, item: T) -> u32 {
        let slot = Slot { older: self.newest, next: NONE, item };
        let at = if self.free == NONE {
            self.slots.push(slot);
            (self.slots.len() - 1) as u32
        } else {
            let at = self.free;
            self.free = self.slots[at as usize].next;
            self.slots[at as usize] = slot;
            at
        };
        match self.newest {
            NONE => self.oldest = at,
            newest => self.slots[newest as usize].next = at,
        }
        self.newest = at;
        self.enter(at);
        at
    }

    pub(super) fn remove(&mut self, at: u32) -> T {
        let Slot { older, next, item } = self.slots[at as usize];
        match older {
            NONE => self.oldest = next,
            older => self.slots[older as usize].next = next,
        }
        match next {
            NONE => self.newest = older,
            next => self.slots[next as usize].older = older,
        }
        self.leave(at);
        self.slots[at as usize].next = self.free;
        self.free = at;
        item
    }

    /// Gives an item another key. Its place in the order stays.
    pub(super) fn rekey_hashed(&mut self, at: u32, rekey: impl FnOnce(&mut T)) {
        self.leave(at);
        rekey(self.get_mut(at));
        self.enter(at);
    }

    fn enter(&mut self, at: u32) {
        let slots = &self.slots;
        let hash = |&i: &u32| slots[i as usize].item.hash();
        self.index.insert_unique(hash(&at), at, hash);
    }

    fn leave(&mut self, at: u32) {
        if let Ok(entry) = self.index.find_entry(self.get(at).hash(), |&i| i == at) {
            entry.remove();
        }
    }

    /// The slot of the item that was created first.
    #[inline]
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The slot of the item that was created next after the one in `slot`.
    pub(super) fn next(&self, slot: u32) -> Option<u32> {
        Some(self.slots[slot as usize].next).filter(|&next| next != NONE)
    }

    /// The memory in use.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot<T>>() + self.index.allocation_size()
    }
}

impl<T: Item> Store<T> {
    /// The slot of the item with this key that fits. There must not be two.
    pub(super) fn find(&self, key: &Key, fits: impl Fn(&T) -> bool) -> Option<u32> {
        self.find_hashed(key.hash(), |_, item| item.key() == key && fits(item))
    }

    /// The slot of the oldest item, if it has waited for `wait` at `now`.
    pub(super) fn overdue(&self, now: Millis, wait: Millis) -> Option<u32> {
        self.oldest().filter(|&at| now.saturating_sub(self.get(at).origin().created) >= wait)
    }

    /// All items in the order of creation.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::successors(self.oldest(), |&at| self.next(at)).map(|at| self.get(at))
    }

    /// Renumbers every name that an item uses: there is none but the tenant.
    pub(super) fn rename(&mut self, mut rename: impl FnMut(&mut NameId)) {
        let mut next = self.oldest();
        while let Some(at) = next {
            rename(&mut self.get_mut(at).key_mut().tenant);
            next = self.next(at);
        }
    }
}
