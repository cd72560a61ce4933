//! The items that wait: pending edges (packed, see [`super::edges`]), marks of filtered spans, relays.

use super::live::EdgeOrigin;
use super::store::Hashed;
use crate::core::model::names::NameId;
use crate::core::model::{Millis, Seed};

/// What the two sides of an edge have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EdgeKey {
    pub(super) tenant: NameId,
    pub(super) trace_id: [u8; 16],
    /// The client's span; all zero for the root, which has no client.
    pub(super) span_id: [u8; 8],
}

/// The connection type of an edge, as its label shows it. Of the values of the two halves of an edge, the greatest
/// counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Connection {
    Plain,
    Messaging,
    Database,
    /// A virtual node stands in for the client.
    VirtualClient,
    /// A virtual node stands in for the server.
    VirtualServer,
}

/// One end of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum End {
    Client,
    Server,
}

/// The span kinds that make edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EdgeKind {
    Client,
    Server,
    Producer,
    Consumer,
}

/// When one side's span ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Half {
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
}

/// An edge, or the known part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) key: EdgeKey,
    /// The span that opened the edge.
    pub(super) origin: EdgeOrigin,
    pub(super) client: NameId,
    pub(super) server: NameId,
    pub(super) peer: NameId,
    /// Dimensions, namespaces and weight; see [`super::extras`].
    pub(super) extra: NameId,
    halves: [Half; 2],
    /// The kind of the latest span.
    pub(super) kind: EdgeKind,
    pub(super) connection: Connection,
    flags: u8,
}

/// A span that the filter dropped: its counterpart opens no edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) key: EdgeKey,
    /// The side that was dropped.
    pub(super) end: End,
    pub(super) origin: EdgeOrigin,
}

/// A span of another kind, on the way from a server span to the client span above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Relay {
    /// With the relay's own span.
    pub(super) key: EdgeKey,
    pub(super) parent: [u8; 8],
    pub(super) origin: EdgeOrigin,
}

/// Something in a [`Store`](super::store::Store).
pub(super) trait Item: Hashed {
    fn key(&self) -> &EdgeKey;
    fn key_mut(&mut self) -> &mut EdgeKey;
    fn origin(&self) -> &EdgeOrigin;
}

/// Bits of [`Edge`]. The first two are the present halves.
pub(super) const FAILED: u8 = 4;
/// A client that has met a server already and waits for more of them, or a consumer that has met its producer and keeps others
/// of its service from it. It is no pending edge.
pub(super) const MET: u8 = 8;
/// The key is not the one of the span, but one further up.
pub(super) const MOVED: u8 = 16;
/// Of a client: another call of its service, around or inside of it, counts in its place.
pub(super) const NESTED: u8 = MOVED;
/// A call that meets no server any more, and stays so that calls around and inside of it still see it: a database call,
/// or with [`MET`] one that is counted. It is no pending edge.
pub(super) const HELD: u8 = 32;

// === impl EdgeKey ===

impl EdgeKey {
    pub(super) fn is_root(&self) -> bool {
        self.span_id == [0; 8]
    }

    /// Whether both have the same IDs.
    pub(super) fn has_ids(&self, other: &Self) -> bool {
        self.trace_id == other.trace_id && self.span_id == other.span_id
    }

    #[inline]
    pub(super) fn hash(&self, seed: Seed) -> u64 {
        hash_of(&self.trace_id, &self.span_id, seed)
    }
}

/// The tenant is skipped: its number changes when names are renumbered. IDs are random already, unless a producer makes
/// them by hand; so all bits are multiplied and folded, with a seed.
#[inline]
pub(super) fn hash_of(trace_id: &[u8; 16], span_id: &[u8; 8], seed: Seed) -> u64 {
    let trace_id = u128::from_le_bytes(*trace_id);
    let trace = seed.of_words(trace_id as u64, (trace_id >> 64) as u64);
    seed.of_words(trace, u64::from_le_bytes(*span_id))
}

// === impl End ===

impl End {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

// === impl EdgeKind ===

impl EdgeKind {
    pub(super) fn end(self) -> End {
        match self {
            Self::Client | Self::Producer => End::Client,
            Self::Server | Self::Consumer => End::Server,
        }
    }

    pub(super) fn connection(self) -> Connection {
        match self {
            Self::Client | Self::Server => Connection::Plain,
            Self::Producer | Self::Consumer => Connection::Messaging,
        }
    }
}

// === impl Half ===

impl Half {
    pub(super) fn duration_ns(self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// The end of the span.
    pub(super) fn end(self) -> Millis {
        (self.end_ns / 1_000_000) as Millis
    }
}

// === impl Edge ===

impl Edge {
    /// An edge of which nothing but the key is known.
    pub(super) fn new(key: EdgeKey, kind: EdgeKind, origin: EdgeOrigin) -> Self {
        let [client, server, peer, extra] = [NameId::EMPTY; 4];
        let (connection, halves, flags) = (kind.connection(), [Half::default(); 2], 0);
        Self { key, origin, client, server, peer, extra, halves, kind, connection, flags }
    }

    pub(super) fn half(&self, end: End) -> Option<Half> {
        self.is(1 << end as u8).then_some(self.halves[end as usize])
    }

    pub(super) fn set_half(&mut self, end: End, half: Half) {
        self.set(1 << end as u8);
        self.halves[end as usize] = half;
    }

    pub(super) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn flags(&self) -> u8 {
        self.flags
    }

    pub(super) fn set(&mut self, flag: u8) {
        self.flags |= flag;
    }

    pub(super) fn is_complete(&self) -> bool {
        !self.client.is_empty() && !self.server.is_empty()
    }

    /// Whether it is a pending edge, and not a client that waits for one more server or is only kept for other calls to
    /// see.
    pub(super) fn is_pending(&self) -> bool {
        !self.is(MET | HELD)
    }

    /// Whether it is a client that a server can meet.
    pub(super) fn is_caller(&self) -> bool {
        self.has_client() && !self.is(HELD)
    }

    /// A client that has met its server, reduced to what other calls need to see.
    pub(super) fn seen(&self) -> Self {
        let mut seen = Self { client: self.client, ..Self::new(self.key, self.kind, self.origin) };
        self.half(End::Client).into_iter().for_each(|half| seen.set_half(End::Client, half));
        seen.set(MET | HELD);
        seen
    }

    /// Whether a span on this side has named itself.
    #[inline]
    pub(super) fn has_named(&self, end: End) -> bool {
        let name = if end == End::Client { self.client } else { self.server };
        !name.is_empty()
    }

    pub(super) fn has_client(&self) -> bool {
        self.is(1 << End::Client as u8)
    }
}

// === impl Item ===

impl<T: Item> Hashed for T {
    fn hash(&self, seed: Seed) -> u64 {
        self.key().hash(seed)
    }

    fn is_twin(&self, other: &Self) -> bool {
        self.key().has_ids(other.key())
    }

    fn leads(&self) -> bool {
        false
    }
}

impl Item for Mark {
    fn key(&self) -> &EdgeKey {
        &self.key
    }

    fn key_mut(&mut self) -> &mut EdgeKey {
        &mut self.key
    }

    fn origin(&self) -> &EdgeOrigin {
        &self.origin
    }
}

impl Item for Relay {
    fn key(&self) -> &EdgeKey {
        &self.key
    }

    fn key_mut(&mut self) -> &mut EdgeKey {
        &mut self.key
    }

    fn origin(&self) -> &EdgeOrigin {
        &self.origin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_count_up_have_hashes_that_differ() {
        let hash = |trace_id: &[u8; 16], span_id: &[u8; 8]| hash_of(trace_id, span_id, Seed::default());
        let mut hashes: Vec<u64> = Vec::new();
        for n in 0..4_096_u64 {
            let trace_id = u128::from(n).to_be_bytes();
            hashes.extend([hash(&[7; 16], &n.to_be_bytes()), hash(&[7; 16], &(n << 32).to_le_bytes())]);
            hashes.extend([hash(&trace_id, &[3; 8]), hash(&trace_id, &n.to_be_bytes())]);
        }
        // Of the first, two are the same IDs.
        let distinct = |bits: &dyn Fn(u64) -> u64| {
            let mut seen: Vec<u64> = hashes.iter().map(|&hash| bits(hash)).collect();
            seen.sort_unstable();
            seen.dedup();
            seen.len()
        };
        assert_eq!(distinct(&|hash| hash), hashes.len() - 1);
        // With 2^16 places for n keys, about n - n^2 / 2^17 are taken.
        let expected = hashes.len() - hashes.len() * hashes.len() / (1 << 17);
        assert!(distinct(&|hash| hash & 0xffff) > expected * 97 / 100);
        assert_eq!(distinct(&|hash| hash >> 57), 128);
    }
}
