//! Spans that the filter policies drop. Their peers make no edges, neither now nor later.
//!
//! As in Tempo: a dropped span takes a pending edge of its peer with it, and is remembered by a mark, for as long as
//! a pending edge waits, so that its peer opens none. A mark is renewed by every further span that is dropped on the
//! same side of the same edge. A dropped span affects its direct counterpart only, not those that it reaches over
//! `links` and `ancestors`.

use super::edge::{Edge, EdgeKey, End, MET, Mark};
use super::live::EdgeOrigin;
use super::pairing::{EdgeBlock, Pairing, Side, Sink};
use crate::core::model::Counter;

impl Pairing {
    /// Handles a span that was dropped.
    pub(super) fn filtered(&mut self, block: &EdgeBlock<'_>, side: &Side<'_>, sink: &mut Sink<'_>) {
        sink.ledger.add(Counter::EdgeSpansFiltered, 1);
        let end = side.kind.end();
        if end == End::Server && side.key.is_root() {
            return;
        }
        self.mark(side.key, end, block.origin(side, 0), sink);
        let pairs = block.rules.pairs;
        if !pairs.apart() {
            let other = |edge: &Edge| edge.is_pending() && edge_end(edge) != end;
            if let Some(slot) = self.edges.find(&side.key, other) {
                self.drop_counterpart(slot, sink);
            }
            return;
        }
        let mut slots = std::mem::take(&mut self.slots);
        self.edges.find_all(
            &side.key,
            |edge| edge.is_pending() && edge.has_client() != (end == End::Client),
            &mut slots,
        );
        for &slot in &slots {
            if end == End::Server && pairs.fan_out {
                // Other servers may still meet it.
                self.edges.change(slot, |edge| edge.set(MET));
                self.met += 1;
                sink.ledger.add(Counter::EdgesDroppedCounterpart, 1);
            } else {
                self.drop_counterpart(slot, sink);
            }
        }
        self.slots = slots;
    }

    fn drop_counterpart(&mut self, slot: u32, sink: &mut Sink<'_>) {
        self.edges.remove(slot);
        sink.ledger.add(Counter::EdgesDroppedCounterpart, 1);
    }

    fn mark(&mut self, key: EdgeKey, end: End, origin: EdgeOrigin, sink: &mut Sink<'_>) {
        match self.marks.find(&key, |mark| mark.end == end) {
            Some(slot) => drop(self.marks.remove(slot)),
            None if self.marks.len() >= self.max_items => return sink.ledger.add(Counter::MarksDroppedFull, 1),
            None => {}
        }
        self.marks.insert(Mark { key, end, origin });
    }

    /// Whether a span on this side of the edge was dropped.
    pub(super) fn is_marked(&self, key: &EdgeKey, end: End) -> bool {
        self.marks.len() > 0 && self.marks.find(key, |mark| mark.end == end).is_some()
    }
}

/// The side that has a name, as Tempo determines it.
fn edge_end(edge: &Edge) -> End {
    if edge.server.is_empty() { End::Client } else { End::Server }
}
