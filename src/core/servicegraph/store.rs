//! The store of waiting items: a slab, an index by key, and a list in the order of creation.
//!
//! Of items with one key, the index has the first; the others are linked to it. So it makes no difference to a key how
//! many items others have: ten thousand servers below one client cost what ten thousand below as many clients do.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::edge::{EdgeKey, Item};
use crate::core::model::hash::Map;
use crate::core::model::names::NameId;
use crate::core::model::{Millis, Seed};

/// No slot.
const NONE: u32 = u32::MAX;

/// Something with a key, which decides the hash.
pub(super) trait Hashed: Copy {
    fn hash(&self, seed: Seed) -> u64;

    /// Whether both have the same IDs. The tenants may differ.
    fn is_twin(&self, other: &Self) -> bool;

    /// Whether it goes before those of the same IDs that do not.
    fn leads(&self) -> bool;
}

/// Items in the order in which they came.
#[derive(Debug)]
pub(super) struct Store<T> {
    index: HashTable<u32>,
    /// Keys come from outside.
    seed: Seed,
    slots: Vec<Slot<T>>,
    /// Free slots, linked by `next`.
    free: u32,
    oldest: u32,
    newest: u32,
    len: usize,
    /// By slot, where there are several items with the same IDs.
    twins: Map<u32, Twins>,
}

/// The slots of those with the same IDs before and behind an item.
#[derive(Debug, Clone, Copy)]
struct Twins {
    before: u32,
    behind: u32,
}

#[derive(Debug)]
struct Slot<T> {
    older: u32,
    next: u32,
    item: T,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self::new(Seed::default())
    }
}

impl<T> Store<T> {
    pub(super) fn new(seed: Seed) -> Self {
        let (index, slots, twins) = (HashTable::new(), Vec::new(), Map::default());
        Self { index, seed, slots, free: NONE, oldest: NONE, newest: NONE, len: 0, twins }
    }

    /// The hash of a key.
    #[inline]
    pub(super) fn hash(&self, key: &EdgeKey) -> u64 {
        key.hash(self.seed)
    }
}

impl<T: Hashed> Store<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The slots of all items with these IDs, those that lead first.
    #[inline]
    pub(super) fn all(&self, hash: u64, is: impl Fn(&T) -> bool) -> impl Iterator<Item = u32> {
        let first = self.index.find(hash, |&at| is(self.get(at))).copied();
        std::iter::successors(first, |&at| if self.twins.is_empty() { None } else { self.behind(at) })
    }

    /// The first of these that fits.
    #[inline]
    pub(super) fn find_hashed(&self, hash: u64, is: impl Fn(&T) -> bool, fits: impl Fn(&T) -> bool) -> Option<u32> {
        let mut at = *self.index.find(hash, |&at| is(self.get(at)))?;
        while !fits(self.get(at)) {
            at = if self.twins.is_empty() { None } else { self.behind(at) }?;
        }
        Some(at)
    }

    fn behind(&self, at: u32) -> Option<u32> {
        self.twins.get(&at).map(|twins| twins.behind).filter(|&behind| behind != NONE)
    }

    /// Prefetches what finding and removing an item with this hash reads: its slot and those of its neighbors. The
    /// returned value only keeps the reads from being optimized away.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u32 {
        let mut read = 0;
        self.index.find(hash, |&at| {
            let Slot { older, next, .. } = self.slots[at as usize];
            let neighbors = [older, next].into_iter().filter_map(|at| self.slots.get(at as usize));
            read ^= neighbors.fold(0, |read, slot| read ^ slot.older);
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
        self.len += 1;
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
        self.len -= 1;
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
        let (slots, seed) = (&self.slots, self.seed);
        let (item, hash) = (&slots[at as usize].item, |&i: &u32| slots[i as usize].item.hash(seed));
        let leads = item.leads();
        let first = match self.index.entry(hash(&at), |&i| slots[i as usize].item.is_twin(item), hash) {
            Entry::Vacant(entry) => {
                entry.insert(at);
                return;
            }
            Entry::Occupied(mut entry) if leads => std::mem::replace(entry.get_mut(), at),
            Entry::Occupied(entry) => *entry.get(),
        };
        if leads {
            self.link(at, first);
        } else {
            // Behind all that lead, which are few: each of another tenant, or sent twice.
            let leads = |&next: &u32| self.slots[next as usize].item.leads();
            let last = std::iter::successors(Some(first), |&at| self.behind(at).filter(leads)).last().unwrap_or(first);
            let behind = self.behind(last);
            self.link(last, at);
            behind.into_iter().for_each(|behind| self.link(at, behind));
        }
    }

    /// Puts one item right behind another.
    fn link(&mut self, before: u32, behind: u32) {
        let alone = Twins { before: NONE, behind: NONE };
        self.twins.entry(before).or_insert(alone).behind = behind;
        self.twins.entry(behind).or_insert(alone).before = before;
    }

    fn leave(&mut self, at: u32) {
        let twins = if self.twins.is_empty() { None } else { self.twins.remove(&at) };
        if let Some(Twins { before, behind }) = twins.filter(|twins| twins.before != NONE) {
            return self.part(before, behind);
        }
        let Ok(mut entry) = self.index.find_entry(self.get(at).hash(self.seed), |&i| i == at) else { return };
        match twins {
            Some(Twins { behind, .. }) => {
                *entry.get_mut() = behind;
                self.part(NONE, behind);
            }
            None => drop(entry.remove()),
        }
    }

    /// The item between two others is gone. An item without another of the same IDs is alone.
    fn part(&mut self, before: u32, behind: u32) {
        let sides = [(before, behind, true), (behind, before, false)];
        for (at, other, is_behind) in sides.into_iter().filter(|(at, ..)| *at != NONE) {
            let Some(twins) = self.twins.get_mut(&at) else { continue };
            *(if is_behind { &mut twins.behind } else { &mut twins.before }) = other;
            if twins.before == NONE && twins.behind == NONE {
                self.twins.remove(&at);
            }
        }
    }

    /// Puts an item in its place among those with the same IDs, when it leads now and did not.
    pub(super) fn reorder(&mut self, at: u32) {
        if self.twins.contains_key(&at) {
            self.leave(at);
            self.enter(at);
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

    /// Changes all items; their hashes stay.
    pub(super) fn each(&mut self, mut change: impl FnMut(&mut T)) {
        let mut next = self.oldest();
        while let Some(at) = next {
            change(self.get_mut(at));
            next = self.next(at);
        }
    }

    /// How many items have another one with the same IDs.
    #[cfg(test)]
    pub(super) fn twins(&self) -> usize {
        self.twins.len()
    }

    /// The memory in use.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot<T>>() + self.index.allocation_size()
    }
}

impl<T: Item> Store<T> {
    /// The slot of the item with this key that fits. There must not be two.
    pub(super) fn find(&self, key: &EdgeKey, fits: impl Fn(&T) -> bool) -> Option<u32> {
        let is = |item: &T| item.key().has_ids(key);
        self.find_hashed(self.hash(key), is, |item| item.key() == key && fits(item))
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
