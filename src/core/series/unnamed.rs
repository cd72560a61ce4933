//! Deltas of label sets whose labels this shard does not know: they wait until a delta record sends the labels in full.
//!
//! By the argument in [`super`] there are none. But a shard may have been owned by an earlier version, which freed what
//! the sources still named, and a source that was forgotten may come back with delta records that are as old. A label
//! set is sent in full when it returns after a silence and by every new owner of a source. A set that is not sent in
//! full for as long as the shard remembers sets is lost.

use std::collections::BTreeMap;

use super::layouts::Layouts;
use super::metrics::Metrics;
use super::set;
use crate::core::deltas::{CellDelta, SetDelta};
use crate::core::model::wire::{Malformed, Reader, put_i64, put_u64};
use crate::core::model::{MAX_TIME, Millis, Natives, SetName};

/// What waits, by name and layout.
#[derive(Debug, Default)]
pub(super) struct Unnamed(BTreeMap<(SetName, u32), Waiting>);

/// What waits for one name, in the cells of one layout.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) cells: Vec<u64>,
    pub(super) natives: Natives,
    /// The greatest stream time of a delta record that named it.
    mentioned: Millis,
}

// === impl Waiting ===

impl Waiting {
    /// The cells that are not zero.
    pub(super) fn grown(&self) -> Vec<CellDelta> {
        let grown = (0..).zip(&self.cells).filter(|(_, value)| **value != 0);
        grown.map(|(cell, &value)| CellDelta { cell, value }).collect()
    }
}

// === impl Unnamed ===

impl Unnamed {
    /// Keeps what a delta record adds to a set whose labels are not known. Exemplars are not kept: they would be old.
    pub(super) fn keep(&mut self, set: &SetDelta<'_>, layout: u32, metrics: &Metrics, stream_time: Millis) {
        let new = || Waiting {
            cells: vec![0; metrics.layout.cells()],
            natives: Natives::of(&metrics.layout),
            mentioned: stream_time,
        };
        let waiting = self.0.entry((set.name, layout)).or_insert_with(new);
        waiting.mentioned = waiting.mentioned.max(stream_time);
        waiting.natives.add(&set.natives);
        set.cells.iter().for_each(|c| metrics.add_cell(&mut waiting.cells, c.cell as usize, c.value));
    }

    /// Takes out what waits for a name, with the layouts.
    pub(super) fn take(&mut self, name: SetName) -> Vec<(u32, Waiting)> {
        let mut found = Vec::new();
        while let Some((&key, _)) = self.0.range((name, 0)..=(name, u32::MAX)).next() {
            found.extend(self.0.remove(&key).map(|waiting| (key.1, waiting)));
        }
        found
    }

    /// Gives up deltas of sets that no source has named since `memory` before the `watermark`; returns how many that
    /// are.
    pub(super) fn give_up(&mut self, watermark: Millis, memory: Millis) -> u64 {
        let before = self.0.len();
        self.0.retain(|_, waiting| watermark.saturating_sub(waiting.mentioned) <= memory);
        (before - self.0.len()) as u64
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let one = |waiting: &Waiting| {
            size_of::<((SetName, u32), Waiting)>() + super::heap(size_of_val(&*waiting.cells)) + waiting.natives.heap()
        };
        self.0.values().map(one).sum()
    }

    pub(super) fn encode(&self, layouts: &Layouts, out: &mut Vec<u8>) {
        put_u64(out, self.0.len() as u64);
        for ((name, layout), waiting) in &self.0 {
            out.extend_from_slice(&name.0.to_le_bytes());
            put_u64(out, (*layout).into());
            put_i64(out, waiting.mentioned);
            set::pack(out, &waiting.cells);
            waiting.natives.encode(&layouts.of(*layout).layout, out);
        }
    }

    pub(super) fn decode(layouts: &Layouts, r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut all = BTreeMap::new();
        for _ in 0..r.u64()? {
            let name = SetName(u128::from_le_bytes(r.array()?));
            let id = r.uint()?;
            let layout = &layouts.get(id).ok_or(Malformed("unknown layout"))?.layout;
            let mentioned = r.i64()?;
            if mentioned.unsigned_abs() > MAX_TIME.unsigned_abs() {
                return Err(Malformed("time out of range"));
            }
            let cells = (0..layout.cells()).map(|_| r.u64()).collect::<Result<_, _>>()?;
            all.insert((name, id), Waiting { cells, natives: Natives::decode(layout, r)?, mentioned });
        }
        Ok(Self(all))
    }
}
