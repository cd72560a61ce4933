//! All label sets of a shard, by place and by name.

use hashbrown::HashTable;

use super::chunks::Chunks;
use super::set::LabelSet;
use crate::core::model::{Seed, SetName};

/// The label sets of a shard. A place stays a set's own until it is removed.
#[derive(Debug, Default)]
pub(super) struct Sets {
    places: Chunks<Option<LabelSet>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    seed: Seed,
    /// What the sets take behind their places; see [`Sets::set_heap`].
    heap: usize,
}

// === impl Sets ===

impl Sets {
    pub(super) fn new(seed: Seed) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(super) fn get(&self, id: u32) -> Option<&LabelSet> {
        self.places.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut LabelSet> {
        self.places.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn find(&self, name: SetName) -> Option<u32> {
        let is_it = |&id: &u32| self.get(id).is_some_and(|set| set.name == name);
        self.index.find(hash(name, self.seed), is_it).copied()
    }

    /// Adds a set whose name is not there yet.
    pub(super) fn insert(&mut self, set: LabelSet) -> u32 {
        self.heap += set.heap();
        let name = set.name;
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.places.get_mut(id as usize) {
                    *place = Some(set);
                }
                id
            }
            None => {
                self.places.push(Some(set));
                (self.places.len() - 1) as u32
            }
        };
        let (places, seed) = (&self.places, self.seed);
        let name_of = |id: u32| places.get(id as usize).and_then(Option::as_ref).map_or(SetName(0), |set| set.name);
        self.index.insert_unique(hash(name, seed), id, |&id| hash(name_of(id), seed));
        id
    }

    /// Removes the set in a place if `such` holds.
    pub(super) fn take_if(&mut self, id: u32, such: impl FnOnce(&mut LabelSet) -> bool) -> Option<LabelSet> {
        let set = self.places.get_mut(id as usize)?.take_if(such)?;
        if let Ok(entry) = self.index.find_entry(hash(set.name, self.seed), |&other| other == id) {
            entry.remove();
        }
        self.heap = self.heap.saturating_sub(set.heap());
        self.free.push(id);
        Some(set)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &LabelSet> {
        self.places.iter().flatten()
    }

    /// One more than the greatest place.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// Sets the heap bytes of the sets: callers change sets.
    pub(super) fn set_heap(&mut self, bytes: usize) {
        self.heap = bytes;
    }

    /// The memory of all of it.
    pub(super) fn bytes(&self) -> usize {
        self.places.bytes()
            + self.heap
            + self.free.capacity() * size_of::<u32>()
            + super::heap(self.index.allocation_size())
    }
}

/// A name is a good hash, but parts of it can be chosen by trying.
fn hash(name: SetName, seed: Seed) -> u64 {
    seed.of_words(name.0 as u64, (name.0 >> 64) as u64)
}
