//! Client spans inside of client spans: a driver's call below that of an ORM, an HTTP request below that of an SDK.
//! With `nested_once`, spans of one service of which one is the parent of the other are one call, and it counts once.
//!
//! Whichever meets a real server counts. Otherwise the one counts whose name is better: that of a database before that
//! of another peer, and each by how early the attribute stands among those that may name it; of equals, the outer one.
//! So no call can be judged when it comes: calls of databases wait, too, and a client that has met its server stays to
//! be seen by those around and inside of it, as long as a pending edge waits. An edge that lost is still there for its
//! own server.
//!
//! A new owner finds the same. Waiting calls are on the list like any pending edge; whether one has lost is one bit of
//! it, because the call that won may be gone; everything else follows from the span, which is read again.

use super::edge::{Edge, EdgeKey, EdgeKind, HELD, MET, NESTED};
use super::pairing::{EdgeBlock, Pairing, Side, Sink, valid_id};
use crate::core::model::Counter;

/// The search stops after so many parents. The limit guards against loops: spans that are each other's parents.
const MAX_CLIMB: usize = 16;

/// The data of a client span besides its edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    /// The span that it lies in; zeros if there is none.
    parent: [u8; 8],
    /// How good its name for the peer is; see [`Rules::rank`](super::rules::Rules::rank).
    rank: u16,
    /// Whether the span opened its edge.
    opened: bool,
}

impl Pairing {
    /// Whether a span takes part.
    #[inline]
    pub(super) fn is_call(block: &EdgeBlock<'_>, side: &Side<'_>) -> bool {
        block.rules.pairs.nested && side.kind == EdgeKind::Client
    }

    /// A call of a database waits like others, if there is room.
    pub(super) fn hold(&mut self, mut edge: Edge, block: &EdgeBlock<'_>, side: &Side<'_>, sink: &mut Sink<'_>) {
        if self.edges.len() >= self.max_items {
            return self.emit(&edge, Counter::EdgesCompleted, sink);
        }
        edge.set(HELD);
        let slot = self.edges.insert(&edge);
        self.called(slot, true, block, side);
    }

    /// Records a call in this slot, and compares it to the one around it.
    pub(super) fn called(&mut self, slot: u32, opened: bool, block: &EdgeBlock<'_>, side: &Side<'_>) {
        self.note(slot, opened, block, side);
        let edge = self.edges.get(slot);
        if edge.is(MET) {
            return self.outdo_callers(slot, &edge);
        }
        if self.loses(slot, &edge) {
            self.edges.change(slot, |edge| edge.set(NESTED));
        }
    }

    /// Records a call in this slot.
    pub(super) fn note(&mut self, slot: u32, opened: bool, block: &EdgeBlock<'_>, side: &Side<'_>) {
        let opened = self.edges.call(slot).map_or(opened, |known| known.opened);
        let call =
            Call { parent: valid_id(side.span.parent_span_id).unwrap_or_default(), rank: block.rank(side), opened };
        self.edges.set_call(slot, call);
    }

    /// A call in this slot, if one is there, has met its server and is counted. It stays to be seen.
    pub(super) fn answered(&mut self, slot: u32) {
        let edge = self.edges.get(slot);
        if self.edges.call(slot).is_none_or(|call| !call.opened) {
            self.met -= usize::from(edge.is(MET));
            return self.edges.forget(slot);
        }
        self.edges.put(slot, &edge.seen());
        self.met += usize::from(!edge.is(MET));
        self.outdo_callers(slot, &edge);
    }

    /// The same for one that comes when its server was there already.
    pub(super) fn answered_at_once(&mut self, edge: &Edge, block: &EdgeBlock<'_>, side: &Side<'_>) {
        if self.edges.len() < self.max_items {
            let mut seen = edge.seen();
            seen.origin = block.origin(side, 0);
            let slot = self.edges.insert(&seen);
            self.met += 1;
            self.called(slot, true, block, side);
        }
    }

    /// Whether an edge whose wait is over counts, or is counted by another one. Its slot is still taken.
    pub(super) fn counts(&mut self, slot: u32, edge: &Edge, sink: &mut Sink<'_>) -> bool {
        if self.edges.call(slot).is_none() {
            return true;
        }
        let counts = !edge.is(NESTED) && !self.loses(slot, edge);
        sink.ledger.add(Counter::EdgesDroppedNested, u64::from(!counts));
        counts
    }

    /// Whether the call around this one is the better one; if it is the worse one, it has lost.
    fn loses(&mut self, slot: u32, edge: &Edge) -> bool {
        let (Some(call), Some(around)) = (self.edges.call(slot), self.standing(slot, edge)) else { return false };
        if self.beats(around, call.rank) {
            return true;
        }
        self.outdo_callers(slot, edge);
        self.outdo(around);
        false
    }

    /// The call around this one that no call further out beats.
    fn standing(&self, slot: u32, edge: &Edge) -> Option<u32> {
        let mut at = *self.callers(slot, edge).first()?;
        for _ in 0..MAX_CLIMB {
            let rank = self.edges.call(at).map_or(u16::MAX, |call| call.rank);
            match self.callers(at, &self.edges.get(at)).first() {
                Some(&further) if further != slot && self.beats(further, rank) => at = further,
                _ => break,
            }
        }
        Some(at)
    }

    /// Whether the call in this slot is no worse than a name inside of it.
    fn beats(&self, slot: u32, rank: u16) -> bool {
        self.edges.has_met(slot) || self.edges.call(slot).is_some_and(|call| call.rank <= rank)
    }

    /// Those around this one have lost.
    pub(super) fn outdo_callers(&mut self, slot: u32, edge: &Edge) {
        self.callers(slot, edge).into_iter().for_each(|caller| self.outdo(caller));
    }

    fn outdo(&mut self, slot: u32) {
        if !self.edges.has_met(slot) {
            self.edges.change(slot, |edge| edge.set(NESTED));
        }
    }

    /// The slots of the calls that this one lies in. There is one, unless spans were delivered twice.
    fn callers(&self, slot: u32, edge: &Edge) -> Vec<u32> {
        let mut found = Vec::new();
        let parent = self.edges.call(slot).map(|call| call.parent).unwrap_or_default();
        if parent != [0; 8] && parent != edge.key.span_id {
            let key = EdgeKey { span_id: parent, ..edge.key };
            self.edges.find_all(&key, |other| other.has_client() && other.client == edge.client, &mut found);
            found.retain(|&slot| self.edges.call(slot).is_some());
        }
        found
    }
}
