//! What waits: half edges, marks of filtered spans, relays.

use super::live::Origin;
use super::names::NameId;
use crate::model::Millis;

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

/// An edge, or as much of it as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) key: Key,
    /// The span that opened the edge.
    pub(super) origin: Origin,
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
    pub(super) key: Key,
    /// The side that was dropped.
    pub(super) end: End,
    pub(super) origin: Origin,
}

/// A span of another kind, on the way from a server span to the client span above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Relay {
    /// With the relay's own span.
    pub(super) key: Key,
    pub(super) parent: [u8; 8],
    pub(super) origin: Origin,
}

/// Something in a [`Store`](super::store::Store).
pub(super) trait Item: Copy {
    fn key(&self) -> &Key;
    fn key_mut(&mut self) -> &mut Key;
    fn origin(&self) -> &Origin;
    /// The names besides the key's tenant.
    fn names(&mut self) -> impl Iterator<Item = &mut NameId>;
}

/// Bits of [`Edge`]. The first two say which halves are there.
pub(super) const FAILED: u8 = 4;
/// A client that has met a server already and waits for more of them. It is no pending edge.
pub(super) const MET: u8 = 8;
/// The key is not what the span says, but lies further up.
pub(super) const MOVED: u8 = 16;

// === impl Key ===

impl Key {
    pub(super) fn is_root(&self) -> bool {
        self.span_id == [0; 8]
    }

    /// The tenant is left out: its number changes when names are renumbered.
    pub(super) fn hash(&self) -> u64 {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..].copy_from_slice(&self.span_id);
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }
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
    pub(super) fn new(key: Key, kind: EdgeKind, origin: Origin) -> Self {
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

    pub(super) fn set(&mut self, flag: u8) {
        self.flags |= flag;
    }

    pub(super) fn is_complete(&self) -> bool {
        !self.client.is_empty() && !self.server.is_empty()
    }

    /// Whether it is a pending edge, and not a client that waits for one more server.
    pub(super) fn is_pending(&self) -> bool {
        !self.is(MET)
    }

    pub(super) fn has_client(&self) -> bool {
        self.is(1 << End::Client as u8)
    }
}

// === impl Item ===

impl Item for Edge {
    fn key(&self) -> &Key {
        &self.key
    }

    fn key_mut(&mut self) -> &mut Key {
        &mut self.key
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn names(&mut self) -> impl Iterator<Item = &mut NameId> {
        [&mut self.client, &mut self.server, &mut self.peer, &mut self.extra].into_iter()
    }
}

impl Item for Mark {
    fn key(&self) -> &Key {
        &self.key
    }

    fn key_mut(&mut self) -> &mut Key {
        &mut self.key
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn names(&mut self) -> impl Iterator<Item = &mut NameId> {
        std::iter::empty()
    }
}

impl Item for Relay {
    fn key(&self) -> &Key {
        &self.key
    }

    fn key_mut(&mut self) -> &mut Key {
        &mut self.key
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn names(&mut self) -> impl Iterator<Item = &mut NameId> {
        std::iter::empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_edge_stays_small() {
        assert!(size_of::<Edge>() <= 104, "{}", size_of::<Edge>());
    }
}
