//! Names of services, peers and tenants as small numbers, so that what waits is small and of fixed size.

use hashbrown::HashTable;

use super::Seed;

/// Names may take this many bytes before a check of which of them are still in use.
const SMALL: usize = 1 << 20;
/// What a name costs besides its bytes, roughly.
const OVERHEAD: usize = 48;

/// A name of a [`Names`], valid until the next [`Names::keep`]. Their order means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(u32);

/// Interned names. Bytes, not text: whether a name is UTF-8 matters only where it becomes a label.
#[derive(Debug)]
pub struct Names {
    index: HashTable<u32>,
    /// Names come from outside.
    seed: Seed,
    names: Vec<Box<[u8]>>,
    cost: usize,
    limit: usize,
}

// === impl NameId ===

impl NameId {
    /// The empty name.
    pub const EMPTY: Self = Self(0);

    /// The number itself.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// Whether it is the empty one.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::EMPTY
    }
}

// === impl Names ===

impl Default for Names {
    fn default() -> Self {
        Self::new(Seed::default())
    }
}

impl Names {
    /// The empty name alone.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self { index: HashTable::new(), seed, names: vec![Box::default()], cost: 0, limit: SMALL }
    }

    /// The number of a name.
    pub fn intern(&mut self, name: &[u8]) -> NameId {
        if name.is_empty() {
            return NameId::EMPTY;
        }
        let names = &self.names;
        let seed = self.seed;
        let hash = seed.of_bytes(name);
        if let Some(&id) = self.index.find(hash, |&id| *names[id as usize] == *name) {
            return NameId(id);
        }
        let id = self.names.len() as u32;
        self.names.push(name.into());
        self.cost += name.len() + OVERHEAD;
        let names = &self.names;
        self.index.insert_unique(hash, id, |&id| seed.of_bytes(&names[id as usize]));
        NameId(id)
    }

    /// The name behind a number.
    #[must_use]
    pub fn get(&self, id: NameId) -> &[u8] {
        &self.names[id.0 as usize]
    }

    /// What the names take in memory, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.cost
    }

    /// Whether the names have grown far beyond what was in use at the last [`Names::keep`]. Peer values come from
    /// outside: without a limit, a producer that puts a counter into an attribute would exhaust the memory.
    #[must_use]
    pub fn is_bloated(&self) -> bool {
        self.cost > self.limit
    }

    /// Forgets all names but those in use, and renumbers these: `in_use` calls what it is given for each of them.
    pub fn keep(&mut self, in_use: impl FnOnce(&mut dyn FnMut(&mut NameId))) {
        let old = std::mem::replace(self, Self::new(self.seed));
        in_use(&mut |id| *id = self.intern(old.get(*id)));
        self.limit = SMALL.max(self.cost * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_and_the_empty_one_is_known() {
        let mut names = Names::default();
        let a = names.intern(b"cart");
        assert_eq!(names.intern(b"cart"), a);
        assert_ne!(names.intern(b"shop"), a);
        assert_eq!(names.get(a), b"cart");
        assert!(names.intern(b"").is_empty());
    }

    #[test]
    fn names_out_of_use_are_forgotten_before_they_fill_the_memory() {
        let mut names = Names::default();
        let mut used = [NameId::EMPTY; 2];
        let mut kept = 0;
        for i in 0..200_000 {
            let id = names.intern(format!("peer-{i}").as_bytes());
            if i % 70_000 == 0 {
                used[1] = id;
            }
            if names.is_bloated() {
                names.keep(|rename| used.iter_mut().for_each(rename));
                kept += 1;
                assert_eq!(names.names.len(), 2);
                assert!(names.get(used[1]).starts_with(b"peer-"));
            }
        }
        assert!(kept > 5);
        assert!(names.cost <= SMALL + 100);
    }
}
