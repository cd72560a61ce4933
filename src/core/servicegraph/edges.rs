//! The edges that wait, packed: a million of them must not take more memory than they need.
//!
//! Nearly every edge that waits has one half, one service, and a peer or an extra or neither. Such a one fits into 60
//! bytes, because its record and its tenant are those of its neighbors and are written down once for all of them.
//! Edges that do not fit are stored separately.

use std::collections::VecDeque;

use super::edge::{Connection, Edge, EdgeKey, EdgeKind, End, HELD, Half, MET, hash_of};
use super::live::EdgeOrigin;
use super::nested::Call;
use super::store::{Hashed, Store};
use crate::core::model::hash::Map;
use crate::core::model::names::NameId;
use crate::core::model::{Millis, Seed};

const KINDS: [EdgeKind; 4] = [EdgeKind::Client, EdgeKind::Server, EdgeKind::Producer, EdgeKind::Consumer];
const CONNECTIONS: [Connection; 5] = [
    Connection::Plain,
    Connection::Messaging,
    Connection::Database,
    Connection::VirtualClient,
    Connection::VirtualServer,
];

/// Edges in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Edges {
    store: Store<Packed>,
    places: Places,
    /// The edges that do not fit, by slot.
    wide: Map<u32, Edge>,
    /// Further data of clients, by slot.
    calls: Map<u32, Call>,
    /// The parents of servers that have climbed, by slot.
    starts: Map<u32, [u8; 8]>,
}

/// An edge, or the key of one that does not fit.
#[derive(Debug, Clone, Copy)]
struct Packed {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    /// The times of the one half: low and high words, so that no gap is needed before them.
    times: [u32; 4],
    place: u32,
    ordinal: u32,
    part: u16,
    bits: Bits,
    /// The service of the one half.
    service: NameId,
    /// The peer or the extra.
    tail: NameId,
}

/// From the lowest bit on: flags (8), kind (2), connection (3), whether the tail is the extra, whether the edge is wide.
#[derive(Debug, Clone, Copy)]
struct Bits(u16);

const TAIL_IS_EXTRA: u16 = 1 << 13;
const WIDE: u16 = 1 << 14;

/// Where edges come from, in order. Those of one record and tenant share a place.
#[derive(Debug, Default)]
struct Places {
    places: VecDeque<RecordOrigin>,
    /// The number of the first; numbers start again after the last.
    first: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RecordOrigin {
    offset: i64,
    created: Millis,
    tenant: NameId,
}

// === impl Edges ===

impl Edges {
    pub(super) fn new(seed: Seed) -> Self {
        Self { store: Store::new(seed), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.store.len()
    }

    /// The slot of the edge with this key that fits. There must not be two.
    #[inline]
    pub(super) fn find(&self, key: &EdgeKey, fits: impl Fn(&Edge) -> bool) -> Option<u32> {
        self.all(key).find(|&slot| self.is(key, slot, &fits))
    }

    /// The same for a client. There may be many servers with the key: they are behind the clients.
    #[inline]
    pub(super) fn find_client(&self, key: &EdgeKey, fits: impl Fn(&Edge) -> bool) -> Option<u32> {
        self.all(key).take_while(|&slot| self.store.get(slot).leads()).find(|&slot| self.is(key, slot, &fits))
    }

    /// The slots of all edges with these IDs, clients first.
    #[inline]
    fn all(&self, key: &EdgeKey) -> impl Iterator<Item = u32> {
        let (trace_id, span_id) = (key.trace_id, key.span_id);
        self.store.all(self.store.hash(key), move |packed| packed.trace_id == trace_id && packed.span_id == span_id)
    }

    /// Prefetches what a search for this key reads, see [`Store::touch`].
    #[inline]
    pub(super) fn touch(&self, key: &EdgeKey) -> u32 {
        self.store.touch(self.store.hash(key))
    }

    /// The slot of the pending edge with this key. There must not be two.
    #[inline]
    pub(super) fn find_pending(&self, key: &EdgeKey) -> Option<u32> {
        let is = |packed: &Packed| packed.trace_id == key.trace_id && packed.span_id == key.span_id;
        self.store.find_hashed(self.store.hash(key), is, |packed| {
            !packed.bits.has((MET | HELD).into()) && self.places.get(packed.place).tenant == key.tenant
        })
    }

    /// The slots of all edges with this key that fit, in the order of creation.
    pub(super) fn find_all(&self, key: &EdgeKey, fits: impl Fn(&Edge) -> bool, out: &mut Vec<u32>) {
        out.clear();
        out.extend(self.all(key).filter(|&slot| self.is(key, slot, &fits)));
        // The order of the index depends on its history, which a new owner does not share.
        out.sort_unstable_by_key(|&slot| self.get(slot).origin.at());
    }

    #[inline]
    fn is(&self, key: &EdgeKey, slot: u32, fits: &impl Fn(&Edge) -> bool) -> bool {
        let edge = self.get(slot);
        edge.key.tenant == key.tenant && fits(&edge)
    }

    pub(super) fn get(&self, slot: u32) -> Edge {
        self.unpack(slot, self.store.get(slot))
    }

    /// Replaces an edge. Key and origin stay.
    pub(super) fn put(&mut self, slot: u32, edge: &Edge) {
        let place = self.store.get(slot).place;
        let packed = Packed::of(edge, place);
        self.keep_beside(slot, &packed, edge);
        let known = std::mem::replace(self.store.get_mut(slot), packed);
        if packed.leads() && !known.leads() {
            self.store.reorder(slot);
        }
    }

    /// Changes an edge. Key and origin stay.
    pub(super) fn change(&mut self, slot: u32, change: impl FnOnce(&mut Edge)) {
        let mut edge = self.get(slot);
        change(&mut edge);
        self.put(slot, &edge);
    }

    /// Further data of a client.
    pub(super) fn call(&self, slot: u32) -> Option<Call> {
        if self.calls.is_empty() { None } else { self.calls.get(&slot).copied() }
    }

    /// Stores further data of a client.
    pub(super) fn set_call(&mut self, slot: u32, call: Call) {
        self.calls.insert(slot, call);
    }

    /// The parent of a server that has climbed from there.
    pub(super) fn start(&self, slot: u32) -> Option<[u8; 8]> {
        if self.starts.is_empty() { None } else { self.starts.get(&slot).copied() }
    }

    /// Stores where a server began to climb. The first place counts.
    pub(super) fn set_start(&mut self, slot: u32, span_id: [u8; 8]) {
        self.starts.entry(slot).or_insert(span_id);
    }

    /// Appends an edge; returns its slot.
    pub(super) fn insert(&mut self, edge: &Edge) -> u32 {
        let oldest = self.store.oldest().map(|slot| self.store.get(slot).place);
        let place = self.places.number(RecordOrigin::of(edge), oldest);
        let packed = Packed::of(edge, place);
        let slot = self.store.insert(packed);
        self.keep_beside(slot, &packed, edge);
        slot
    }

    fn keep_beside(&mut self, slot: u32, packed: &Packed, edge: &Edge) {
        if packed.bits.has(WIDE) {
            self.wide.insert(slot, *edge);
        } else if !self.wide.is_empty() {
            self.wide.remove(&slot);
        }
    }

    pub(super) fn remove(&mut self, slot: u32) -> Edge {
        let edge = self.get(slot);
        self.forget(slot);
        edge
    }

    /// Removes an edge that no later span needs to see.
    pub(super) fn forget(&mut self, slot: u32) {
        self.store.remove(slot);
        if !self.wide.is_empty() {
            self.wide.remove(&slot);
        }
        if !self.calls.is_empty() {
            self.calls.remove(&slot);
        }
        if !self.starts.is_empty() {
            self.starts.remove(&slot);
        }
    }

    /// Gives an edge another span to wait for. Its place in the order stays.
    pub(super) fn rekey(&mut self, slot: u32, span_id: [u8; 8]) {
        self.store.rekey_hashed(slot, |packed| packed.span_id = span_id);
        if let Some(edge) = self.wide.get_mut(&slot) {
            edge.key.span_id = span_id;
        }
    }

    /// The slot of the edge that was created first.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.store.oldest()
    }

    /// The slot of the oldest edge, if it has waited for `wait` at `now`.
    pub(super) fn overdue(&self, now: Millis, wait: Millis) -> Option<u32> {
        self.oldest().filter(|&slot| now.saturating_sub(self.created(slot)) >= wait)
    }

    /// The stream time at which an edge was created.
    pub(super) fn created(&self, slot: u32) -> Millis {
        self.places.get(self.store.get(slot).place).created
    }

    /// Whether an edge is a client that has met a server.
    pub(super) fn has_met(&self, slot: u32) -> bool {
        self.store.get(slot).bits.has(MET.into())
    }

    /// The slot of the edge that was created next after the one in `slot`.
    pub(super) fn next(&self, slot: u32) -> Option<u32> {
        self.store.next(slot)
    }

    /// All edges in the order of creation.
    pub(super) fn iter(&self) -> impl Iterator<Item = Edge> {
        std::iter::successors(self.oldest(), |&slot| self.next(slot)).map(|slot| self.get(slot))
    }

    /// Renumbers every name that an edge uses.
    pub(super) fn rename(&mut self, rename: &mut dyn FnMut(&mut NameId)) {
        let mut next = self.oldest();
        while let Some(slot) = next {
            next = self.next(slot);
            if let Some(edge) = self.wide.get_mut(&slot) {
                let names = [&mut edge.key.tenant, &mut edge.client, &mut edge.server, &mut edge.peer, &mut edge.extra];
                names.into_iter().for_each(&mut *rename);
                continue;
            }
            let packed = self.store.get_mut(slot);
            [&mut packed.service, &mut packed.tail].into_iter().for_each(&mut *rename);
        }
        self.places.places.iter_mut().for_each(|place| rename(&mut place.tenant));
    }

    #[inline]
    fn unpack(&self, slot: u32, packed: &Packed) -> Edge {
        if packed.bits.has(WIDE)
            && let Some(edge) = self.wide.get(&slot)
        {
            return *edge;
        }
        packed.edge(self.places.get(packed.place))
    }
}

// === impl Packed ===

impl Packed {
    #[inline]
    fn of(edge: &Edge, place: u32) -> Self {
        let EdgeKey { trace_id, span_id, .. } = edge.key;
        let end = if edge.has_client() { End::Client } else { End::Server };
        let (service, other) = match end {
            End::Client => (edge.client, edge.server),
            End::Server => (edge.server, edge.client),
        };
        let fits =
            edge.half(end.other()).is_none() && other.is_empty() && (edge.peer.is_empty() || edge.extra.is_empty());
        let Half { start_ns, end_ns } = edge.half(end).unwrap_or_default();
        let times = [start_ns as u32, (start_ns >> 32) as u32, end_ns as u32, (end_ns >> 32) as u32];
        let tail = if edge.extra.is_empty() { edge.peer } else { edge.extra };
        let EdgeOrigin { ordinal, part, .. } = edge.origin;
        let bits = Bits::of(edge, fits);
        Self { trace_id, span_id, times, place, ordinal, part, bits, service, tail }
    }

    #[inline]
    fn edge(&self, place: RecordOrigin) -> Edge {
        let Self { trace_id, span_id, ordinal, part, bits, .. } = *self;
        let key = EdgeKey { tenant: place.tenant, trace_id, span_id };
        let origin = EdgeOrigin { offset: place.offset, created: place.created, ordinal, part };
        let mut edge = Edge::new(key, bits.kind(), origin);
        let word = |at: usize| u64::from(self.times[at]) | u64::from(self.times[at + 1]) << 32;
        let half = Half { start_ns: word(0), end_ns: word(2) };
        edge.set(bits.flags());
        if edge.has_client() {
            edge.client = self.service;
            edge.set_half(End::Client, half);
        } else {
            edge.server = self.service;
            edge.set_half(End::Server, half);
        }
        edge.connection = bits.connection();
        if bits.has(TAIL_IS_EXTRA) {
            edge.extra = self.tail;
        } else {
            edge.peer = self.tail;
        }
        edge
    }
}

impl Hashed for Packed {
    #[inline]
    fn hash(&self, seed: Seed) -> u64 {
        hash_of(&self.trace_id, &self.span_id, seed)
    }

    fn is_twin(&self, other: &Self) -> bool {
        self.trace_id == other.trace_id && self.span_id == other.span_id
    }

    /// Clients: there is one for each of them, and there may be many servers.
    fn leads(&self) -> bool {
        self.bits.has(1 << End::Client as u16)
    }
}

// === impl Bits ===

impl Bits {
    #[inline]
    fn of(edge: &Edge, fits: bool) -> Self {
        let mut bits = u16::from(edge.flags()) | (edge.kind as u16) << 8 | (edge.connection as u16) << 10;
        if !edge.extra.is_empty() {
            bits |= TAIL_IS_EXTRA;
        }
        if !fits {
            bits |= WIDE;
        }
        Self(bits)
    }

    #[inline]
    fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    #[inline]
    fn flags(self) -> u8 {
        self.0 as u8
    }

    #[inline]
    fn kind(self) -> EdgeKind {
        KINDS[usize::from(self.0 >> 8 & 3)]
    }

    #[inline]
    fn connection(self) -> Connection {
        CONNECTIONS.get(usize::from(self.0 >> 10 & 7)).copied().unwrap_or(Connection::Plain)
    }
}

// === impl Places ===

impl Places {
    /// The number of a place, which is that of the newest edge or a new one. `oldest` is the place of the oldest edge:
    /// no edge needs what lies before it.
    #[inline]
    fn number(&mut self, place: RecordOrigin, oldest: Option<u32>) -> u32 {
        if self.places.back() != Some(&place) {
            let keep = oldest.map_or(0, |oldest| self.places.len() - oldest.wrapping_sub(self.first) as usize);
            while self.places.len() > keep {
                self.places.pop_front();
                self.first = self.first.wrapping_add(1);
            }
            self.places.push_back(place);
        }
        self.first.wrapping_add(self.places.len() as u32 - 1)
    }

    #[inline]
    fn get(&self, number: u32) -> RecordOrigin {
        self.places[number.wrapping_sub(self.first) as usize]
    }
}

impl RecordOrigin {
    fn of(edge: &Edge) -> Self {
        Self { offset: edge.origin.offset, created: edge.origin.created, tenant: edge.key.tenant }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Names;
    use crate::core::servicegraph::edge::{FAILED, MOVED};

    fn edge(n: u64, names: [NameId; 5]) -> Edge {
        let kind = KINDS[n as usize % 4];
        let trace_id = u128::from((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
        let key = EdgeKey { tenant: names[4], trace_id, span_id: n.to_be_bytes() };
        let origin = EdgeOrigin { offset: (n / 100) as i64, created: 5, ordinal: n as u32 % 100, part: n as u16 };
        let mut edge = Edge::new(key, kind, origin);
        edge.set_half(kind.end(), Half { start_ns: n << 33 | 1, end_ns: n << 34 | 7 });
        match kind.end() {
            End::Client => edge.client = names[0],
            End::Server => edge.server = names[1],
        }
        edge
    }

    fn names() -> (Names, [NameId; 5]) {
        let mut names = Names::default();
        let ids = ["web", "cart", "mail", "extra", "tenant"].map(|name| names.intern(name.as_bytes()));
        (names, ids)
    }

    /// Edges of every form, whether they fit or not.
    fn all_forms(names: [NameId; 5]) -> Vec<Edge> {
        let mut all = Vec::new();
        for n in 0..4 * 64 {
            let (mut edge, form) = (edge(n, names), n / 4);
            for (bit, flag) in [(0, FAILED), (1, MET), (2, MOVED)] {
                if form >> bit & 1 == 1 {
                    edge.set(flag);
                }
            }
            if form & 8 != 0 {
                edge.peer = names[2];
            }
            if form & 16 != 0 {
                edge.extra = names[3];
            }
            if form & 32 != 0 {
                edge.connection = CONNECTIONS[n as usize % 5];
                edge.set_half(edge.kind.end().other(), Half { start_ns: 3, end_ns: 2 });
                edge.server = names[1];
            }
            all.push(edge);
        }
        all
    }

    #[test]
    fn every_edge_comes_back_as_it_was() {
        let (_, names) = names();
        let all = all_forms(names);
        let mut edges = Edges::default();
        for edge in &all {
            edges.insert(edge);
        }
        assert_eq!(edges.iter().collect::<Vec<_>>(), all);
        assert!(!edges.wide.is_empty() && edges.wide.len() < all.len());
        for edge in &all {
            let slot = edges.find(&edge.key, |_| true).expect("it waits");
            edges.change(slot, |edge| edge.peer = names[3]);
            assert_eq!(edges.get(slot).peer, names[3]);
            edges.put(slot, edge);
            let moved = [0xff; 8].map(|b: u8| b ^ edge.key.span_id[7]);
            edges.rekey(slot, moved);
            assert_eq!(edges.find(&EdgeKey { span_id: moved, ..edge.key }, |_| true), Some(slot));
            assert_eq!(edges.find(&edge.key, |_| true), None);
            edges.rekey(slot, edge.key.span_id);
            assert_eq!(edges.remove(slot), *edge);
        }
        assert_eq!((edges.len(), edges.wide.len(), edges.oldest()), (0, 0, None));
    }

    #[test]
    fn names_can_be_renumbered() {
        let (mut old, ids) = names();
        let all = all_forms(ids);
        let mut edges = Edges::default();
        for edge in &all {
            edges.insert(edge);
        }
        let texts = |edges: &Edges, names: &Names| -> Vec<Vec<Vec<u8>>> {
            let of = |e: Edge| [e.client, e.server, e.peer, e.extra, e.key.tenant].map(|id| names.get(id).to_vec());
            edges.iter().map(|edge| of(edge).to_vec()).collect()
        };
        let before = texts(&edges, &old);
        old.keep(|rename| edges.rename(rename));
        assert_eq!(texts(&edges, &old), before);
    }

    #[test]
    fn places_are_forgotten_with_the_edges_that_come_from_them() {
        let (_, names) = names();
        let mut edges = Edges::default();
        edges.places.first = u32::MAX - 3;
        for n in 0..10_000 {
            edges.insert(&edge(n, names));
            if n >= 500 {
                let oldest = edges.oldest().expect("there is one");
                assert_eq!(edges.remove(oldest), edge(n - 500, names));
            }
        }
        assert!(edges.places.places.len() <= 7, "{}", edges.places.places.len());
        assert_eq!(edges.overdue(14, 10), None);
        assert_eq!(edges.overdue(15, 10), edges.oldest());
    }

    #[test]
    fn a_pending_edge_takes_at_most_80_bytes() {
        let (_, names) = names();
        let mut edges = Edges::default();
        // Just above a size where the index doubles, where it is emptiest.
        let count = (1 << 17) * 7 / 8 + 1;
        for n in 0..count {
            edges.insert(&edge(n, names));
        }
        let bytes = edges.store.bytes() + edges.places.places.len() * size_of::<RecordOrigin>();
        assert!(edges.wide.is_empty());
        assert!(bytes as f64 / count as f64 <= 80.0, "{}", bytes as f64 / count as f64);
    }
}
