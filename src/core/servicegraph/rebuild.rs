//! Lists live items, and rebuilds them from the list.

use super::apart::{keys_of, relay_of};
use super::edge::{Edge, End, HELD, MET, MOVED, Mark, Relay};
use super::live::{EdgeOrigin, Listed, ListedKin, Live};
use super::pairing::{EdgeBlock, Pairing, Side, Sink, side_of, update};
use crate::core::model::Counter;
use crate::core::model::wire::Malformed;
use crate::core::otlp::Span;

/// The list of a commit, while what it lists is being rebuilt.
#[derive(Debug)]
pub(super) struct Rebuild {
    listed: Live,
    /// How far the edges, marks, relays and kin of the list have been passed.
    at: [usize; 4],
    /// Pending edges on the list that have not come back.
    missing: u64,
}

impl Pairing {
    /// The live items, as bytes for a commit, and the offset of the first record that is needed to get them back.
    #[must_use]
    pub fn live(&self) -> (Option<i64>, Vec<u8>) {
        let listed = |e: Edge| Listed { origin: e.origin, met: e.is(MET), moved: e.is(MOVED).then_some(e.key.span_id) };
        let live = Live {
            edges: self.edges.iter().map(listed).collect(),
            marks: self.marks.iter().map(|m| m.origin).collect(),
            relays: self.relays.iter().map(|r| r.origin).collect(),
            kin: self.kinship.listed(),
        };
        live.encode()
    }

    /// Begins to rebuild what was alive at a commit: what [`Pairing::live`] returned. From now on records from `from` up
    /// to the commit go through [`Pairing::rebuild_span`], and then [`Pairing::finish_rebuild`] ends it.
    ///
    /// # Errors
    /// When the list does not decode.
    pub fn begin_rebuild(&mut self, from: i64, live: &[u8]) -> Result<(), Malformed> {
        let listed = Live::decode(from, live)?;
        let missing = listed.edges.iter().filter(|edge| !edge.met).count() as u64;
        self.rebuild = Some(Rebuild { listed, at: [0; 4], missing });
        Ok(())
    }

    /// Pairs one span of a record that is read again.
    pub fn rebuild_span(&mut self, block: &mut EdgeBlock<'_>, span: &Span<'_>) {
        if !block.rules.enabled {
            return;
        }
        let Some(mut rebuild) = self.rebuild.take() else { return };
        let here = (block.record.offset, span.ordinal);
        if block.rules.pairs.any
            && let Some(listed) = rebuild.kin(here)
            && let Some(kin) = self.kin_of(block, span, listed.origin)
        {
            self.kinship.insert(kin.passed(listed.passed), listed.decided);
        }
        if let Ok(side) = side_of(block, span) {
            if let Some(origin) = rebuild.mark(here) {
                self.marks.insert(Mark { key: side.key, end: side.kind.end(), origin });
            }
            if block.keeps(span) {
                self.rebuild_edges(&mut rebuild, block, &side);
            }
        } else if block.rules.pairs.ancestors
            && let Some(relay) = relay_of(block, span)
            && let Some(origin) = rebuild.relay(here)
        {
            self.relays.insert(Relay { origin, ..relay });
        }
        self.rebuild = Some(rebuild);
    }

    fn rebuild_edges(&mut self, rebuild: &mut Rebuild, block: &EdgeBlock<'_>, side: &Side<'_>) {
        let (apart, end) = (block.rules.pairs.apart(), side.kind.end());
        // An edge of two halves takes every span; of those that wait apart, only a client takes another client.
        let known = match (apart, end) {
            (false, _) => self.pending_with(block, side),
            (true, End::Client) => self.edges.find_client(&side.key, Edge::is_caller),
            (true, End::Server) => None,
        };
        // A client of a database has an edge of its own.
        let own = apart && known.is_some() && self.open(block, side, side.key, block.origin(side, 0)).is_complete();
        if let Some(slot) = known.filter(|_| !own) {
            let Self { names, scratch, edges, .. } = self;
            edges.change(slot, |edge| update(names, scratch, edge, block, side));
            if Self::is_call(block, side) {
                self.edges.change(slot, hold_database);
                self.note(slot, false, block, side);
            }
            return;
        }
        let mut keys = std::mem::take(&mut self.keys);
        if apart && end == End::Server {
            keys_of(block, side, &mut keys);
        } else {
            keys.clear();
            keys.push((0, side.key));
        }
        for &(part, mut key) in &keys {
            let Some(listed) = rebuild.edge((block.record.offset, side.span.ordinal, part)) else { continue };
            let start = key.span_id;
            key.span_id = listed.moved.unwrap_or(key.span_id);
            let mut edge = self.open(block, side, key, listed.origin);
            if listed.moved.is_some() {
                edge.set(MOVED);
            }
            if listed.met {
                edge.set(MET);
                self.met += 1;
            }
            let is_call = Self::is_call(block, side);
            if is_call {
                hold_database(&mut edge);
                if listed.met && !(apart && block.rules.pairs.fan_out) {
                    edge.set(HELD);
                }
            }
            let slot = self.edges.insert(&edge);
            if listed.moved.is_some() && apart && end == End::Server {
                self.edges.set_start(slot, start);
            }
            if is_call {
                self.note(slot, true, block, side);
            }
        }
        self.keys = keys;
    }

    /// Ends rebuilding. Edges that did not come back, because their records are gone, are counted as lost. No
    /// rebuilt edge is complete, or it would not have been on the list; unless the settings have changed since then, in
    /// which case it is emitted now.
    pub fn finish_rebuild(&mut self, sink: &mut Sink<'_>) {
        let Some(rebuild) = self.rebuild.take() else { return };
        sink.ledger.add(Counter::EdgesLost, rebuild.missing);
        let mut next = self.edges.oldest();
        while let Some(slot) = next {
            next = self.edges.next(slot);
            let edge = self.edges.get(slot);
            if edge.is_complete() && edge.is_pending() {
                self.edges.remove(slot);
                self.emit(&edge, Counter::EdgesCompleted, sink);
            }
        }
    }
}

/// A call of a database that is complete waits.
fn hold_database(edge: &mut Edge) {
    if edge.is_complete() && edge.is_pending() {
        edge.set(HELD);
    }
}

// === impl Rebuild ===

impl Rebuild {
    fn edge(&mut self, here: (i64, u32, u16)) -> Option<Listed> {
        let found = *seek(&self.listed.edges, &mut self.at[0], |edge| edge.origin.at() < here)?;
        let found = Some(found).filter(|edge| edge.origin.at() == here)?;
        self.at[0] += 1;
        self.missing -= u64::from(!found.met);
        Some(found)
    }

    fn mark(&mut self, (offset, ordinal): (i64, u32)) -> Option<EdgeOrigin> {
        let here = (offset, ordinal, 0);
        seek(&self.listed.marks, &mut self.at[1], |origin| origin.at() < here).copied().filter(|o| o.at() == here)
    }

    fn kin(&mut self, (offset, ordinal): (i64, u32)) -> Option<ListedKin> {
        let here = (offset, ordinal, 0);
        seek(&self.listed.kin, &mut self.at[3], |kin| kin.origin.at() < here).copied().filter(|k| k.origin.at() == here)
    }

    fn relay(&mut self, (offset, ordinal): (i64, u32)) -> Option<EdgeOrigin> {
        let here = (offset, ordinal, 0);
        seek(&self.listed.relays, &mut self.at[2], |origin| origin.at() < here).copied().filter(|o| o.at() == here)
    }
}

/// The first item that `before` does not hold for, from `at` on.
fn seek<'l, T>(list: &'l [T], at: &mut usize, before: impl Fn(&T) -> bool) -> Option<&'l T> {
    while list.get(*at).is_some_and(&before) {
        *at += 1;
    }
    list.get(*at)
}
