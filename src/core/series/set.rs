//! One label set, packed: a shard holds millions, and each is looked at once per step.
//!
//! The label block and the numbers lie behind each other in one piece of memory. Numbers are varints, as in a snapshot:
//! most buckets of most sets are small, so 21 numbers take about 70 bytes, and any of them may grow to 64 bits.

use crate::core::model::labels::{self, Cuts};
use crate::core::model::wire::{Reader, put_bytes, put_u64};
use crate::core::model::{Millis, Natives, SetName};

use super::heap;

/// The last touch of a set that no closed step has touched yet.
pub(super) const NEVER: Millis = Millis::MIN;

/// One label set. A shard holds many: its size is watched by a test.
#[derive(Debug)]
pub(super) struct LabelSet {
    pub(super) name: SetName,
    /// The length of the label block, the block, the numbers.
    data: Box<[u8]>,
    pub(super) natives: Natives,
    /// The last closed step that touched it.
    pub(super) touched: Millis,
    /// The greatest stream time of a delta record that mentioned it.
    pub(super) mentioned: Millis,
    pub(super) cuts: Cuts,
    /// See [`super::tenants::Names`].
    pub(super) tenant: u32,
    pub(super) layout: u32,
    /// Deltas in open steps.
    pub(super) pending: u32,
    /// One bit per metric that has been emitted.
    pub(super) emitted: u8,
    /// Whether it is emitted at every step.
    pub(super) live: bool,
    /// Whether receivers take the names of its labels.
    pub(super) legal: bool,
    /// Whether its values of the last closed step were not written, because they had not changed.
    pub(super) skipped: bool,
}

// === impl LabelSet ===

impl LabelSet {
    /// A set that nothing has touched. `packed` is its numbers, as [`pack`] writes them.
    pub(super) fn new(name: SetName, tenant: u32, block: &[u8], layout: u32, packed: &[u8], natives: Natives) -> Self {
        let (cuts, legal) = labels::cuts_if_legal(block);
        Self {
            name,
            data: data(block, packed),
            natives,
            touched: NEVER,
            mentioned: NEVER,
            cuts,
            tenant,
            layout,
            pending: 0,
            emitted: 0,
            live: false,
            legal,
            skipped: false,
        }
    }

    /// The label block, and the numbers as varints.
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        let mut r = Reader::new(&self.data);
        let block = r.bytes().unwrap_or_default();
        (block, r.rest())
    }

    /// The label block.
    pub(super) fn block(&self) -> &[u8] {
        self.parts().0
    }

    /// Takes the numbers out: see [`super::metrics::Metrics::numbers`].
    pub(super) fn unpack(&self, numbers: &mut Vec<u64>) {
        unpack(self.parts().1, numbers);
    }

    /// Puts numbers back; `scratch` is memory.
    pub(super) fn pack(&mut self, numbers: &[u64], scratch: &mut Vec<u8>) {
        scratch.clear();
        pack(scratch, numbers);
        let (block, packed) = self.parts();
        if packed.len() == scratch.len() {
            let start = self.data.len() - scratch.len();
            self.data[start..].copy_from_slice(scratch);
        } else {
            self.data = data(block, scratch);
        }
    }

    /// Forgets the numbers: a set that is refused keeps its labels only.
    pub(super) fn drop_numbers(&mut self) {
        self.data = data(self.block(), &[]);
        self.natives = Natives::default();
    }

    /// The memory that it takes besides its place.
    pub(super) fn heap(&self) -> usize {
        heap(self.data.len()) + self.natives.heap()
    }

    /// Whether a touch by `step` begins at zero.
    pub(super) fn begins_anew(&self, step: Millis, memory: Millis) -> bool {
        !self.live && step.saturating_sub(self.touched) > memory
    }

    /// Whether the set is cold and would begin at zero if a later step touched it.
    pub(super) fn is_beyond(&self, step: Millis, memory: Millis) -> bool {
        self.pending == 0 && self.begins_anew(step, memory)
    }
}

fn data(block: &[u8], packed: &[u8]) -> Box<[u8]> {
    // One byte of length, for nearly all.
    let mut data = Vec::with_capacity(block.len() + packed.len() + if block.len() < 128 { 1 } else { 2 });
    put_bytes(&mut data, block);
    data.extend_from_slice(packed);
    data.into_boxed_slice()
}

/// Appends numbers as varints.
pub(super) fn pack(out: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|&n| put_u64(out, n));
}

/// Takes numbers out of what [`pack`] wrote.
pub(super) fn unpack(packed: &[u8], numbers: &mut Vec<u64>) {
    numbers.clear();
    let mut r = Reader::new(packed);
    while let Ok(n) = r.u64() {
        numbers.push(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Family;

    #[test]
    fn numbers_of_any_size_come_back_and_leave_the_labels_alone() {
        let mut block = Vec::new();
        labels::put_label(&mut block, "service", &"x".repeat(300));
        let mut packed = Vec::new();
        pack(&mut packed, &[0; 5]);
        let name = SetName::old("t", Family::SpanMetrics, &block);
        let mut set = LabelSet::new(name, 0, &block, 0, &packed, Natives::default());
        let mut got = Vec::new();
        for numbers in [[0; 5], [1, 127, 128, u64::MAX, 0], [u64::MAX; 5], [0, 0, 3, 0, 0]] {
            set.pack(&numbers, &mut Vec::new());
            set.unpack(&mut got);
            assert_eq!((&*got, set.block()), (&numbers[..], &*block));
        }
        set.drop_numbers();
        set.unpack(&mut got);
        assert_eq!((got.len(), set.block()), (0, &*block));
    }
}
