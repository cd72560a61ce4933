//! The pending edges: a slab, an index by key, and a list in the order of creation.

use hashbrown::HashTable;

use super::names::NameId;
use crate::model::Millis;

/// No slot.
const NONE: u32 = u32::MAX;

/// What the two sides of an edge have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) tenant: NameId,
    pub(super) trace_id: [u8; 16],
    /// The client's span; all zero for the root, which has no client.
    pub(super) span_id: [u8; 8],
}

/// What a label says about how the two sides are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Connection {
    Plain,
    Messaging,
    Database,
    Virtual,
}

/// The span kinds that make edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EdgeKind {
    Client,
    Server,
    Producer,
    Consumer,
}

/// What one side's span measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Half {
    pub(super) duration_ns: u64,
    /// The end of the span.
    pub(super) end: Millis,
}

/// An edge, or as much of it as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) key: Key,
    /// The record and the span that opened the edge, and the stream time then.
    pub(super) offset: i64,
    pub(super) ordinal: u32,
    pub(super) created: Millis,
    /// The kind of the latest span.
    pub(super) kind: EdgeKind,
    pub(super) connection: Connection,
    pub(super) failed: bool,
    pub(super) client: NameId,
    pub(super) server: NameId,
    pub(super) peer: NameId,
    pub(super) client_half: Option<Half>,
    pub(super) server_half: Option<Half>,
}

/// The pending edges.
#[derive(Debug)]
pub(super) struct Store {
    index: HashTable<u32>,
    slots: Vec<Slot>,
    /// Free slots, linked by `next`.
    free: u32,
    oldest: u32,
    newest: u32,
}

#[derive(Debug)]
struct Slot {
    older: u32,
    next: u32,
    edge: Edge,
}

// === impl Key ===

impl Key {
    pub(super) fn is_root(&self) -> bool {
        self.span_id == [0; 8]
    }

    /// The tenant is left out: its number changes when names are renumbered.
    fn hash(&self) -> u64 {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..].copy_from_slice(&self.span_id);
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }
}

// === impl Edge ===

impl Edge {
    pub(super) fn is_complete(&self) -> bool {
        !self.client.is_empty() && !self.server.is_empty()
    }

    /// Everything in the edge that a renumbering of names changes.
    pub(super) fn names(&mut self) -> [&mut NameId; 4] {
        [&mut self.key.tenant, &mut self.client, &mut self.server, &mut self.peer]
    }
}

// === impl Store ===

impl Default for Store {
    fn default() -> Self {
        Self { index: HashTable::new(), slots: Vec::new(), free: NONE, oldest: NONE, newest: NONE }
    }
}

impl Store {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The slot of the edge with this key.
    pub(super) fn find(&self, key: &Key) -> Option<u32> {
        self.index.find(key.hash(), |&at| self.slots[at as usize].edge.key == *key).copied()
    }

    pub(super) fn edge(&self, slot: u32) -> &Edge {
        &self.slots[slot as usize].edge
    }

    pub(super) fn edge_mut(&mut self, slot: u32) -> &mut Edge {
        &mut self.slots[slot as usize].edge
    }

    /// Appends an edge whose key is not in the store.
    pub(super) fn insert(&mut self, edge: Edge) {
        let slot = Slot { older: self.newest, next: NONE, edge };
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
        let slots = &self.slots;
        self.index.insert_unique(edge.key.hash(), at, |&i| slots[i as usize].edge.key.hash());
    }

    pub(super) fn remove(&mut self, at: u32) -> Edge {
        let Slot { older, next, edge } = self.slots[at as usize];
        match older {
            NONE => self.oldest = next,
            older => self.slots[older as usize].next = next,
        }
        match next {
            NONE => self.newest = older,
            next => self.slots[next as usize].older = older,
        }
        if let Ok(entry) = self.index.find_entry(edge.key.hash(), |&i| i == at) {
            entry.remove();
        }
        self.slots[at as usize].next = self.free;
        self.free = at;
        edge
    }

    /// The slot of the edge that was created first.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The slot of the edge that was created next after the one in `slot`.
    pub(super) fn next(&self, slot: u32) -> Option<u32> {
        Some(self.slots[slot as usize].next).filter(|&next| next != NONE)
    }

    /// All edges in the order of creation.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Edge> {
        std::iter::successors(self.oldest(), |&at| self.next(at)).map(|at| self.edge(at))
    }

    /// Every name that an edge uses.
    pub(super) fn names(&mut self) -> impl Iterator<Item = &mut NameId> {
        // A leftover must not keep its names alive, nor name what no longer exists.
        let mut at = self.free;
        while at != NONE {
            let slot = &mut self.slots[at as usize];
            slot.edge.names().into_iter().for_each(|id| *id = NameId::EMPTY);
            at = slot.next;
        }
        self.slots.iter_mut().flat_map(|slot| slot.edge.names())
    }
}
