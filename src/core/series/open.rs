//! The deltas of one open step, packed.

use std::collections::BTreeMap;

use hashbrown::HashTable;

use super::chunks::Chunks;
use super::heap;
use super::metrics::Metrics;
use super::snapshot::VERSION_3;
use crate::core::deltas::{CellDelta, encode_cells, encode_exemplars};
use crate::core::model::wire::{Malformed, Reader};
use crate::core::model::{Exemplar, Millis, Natives, Sketch, exemplar};

/// What the delta records of one step have added so far, per label set and layout.
#[derive(Debug, Default)]
pub(super) struct OpenStep {
    /// By label set.
    index: HashTable<u32>,
    deltas: Chunks<Delta>,
    /// The heap bytes of the deltas.
    heap: usize,
    /// By tenant with a limit: the label sets that the step has touched in all shards.
    pub(super) everywhere: BTreeMap<String, Touched>,
}

/// Which label sets of a tenant were touched in all shards, by their names; separately, by the names of the earlier
/// version. The same set may be in both while workers are being replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    names: Sketch,
    old: Option<Sketch>,
}

/// What one label set gains in one step, in the cells of one layout.
#[derive(Debug)]
pub(super) struct Delta {
    /// The set's place in the registry.
    pub(super) set: u32,
    /// Twice the layout of the cells, and one if a delta record sent the set in full with it: a step may hold millions.
    layout: u32,
    pub(super) natives: Natives,
    /// `cells: n, then n x (gap, value) | exemplars, each (cell, time - step, trace ID, value)`
    gained: Box<[u8]>,
}

/// What is added to a delta.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gain<'a> {
    pub(super) spelled: bool,
    pub(super) cells: &'a [CellDelta],
    pub(super) natives: &'a Natives,
    pub(super) exemplars: &'a [(u32, Exemplar)],
}

/// Memory for unpacking.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    cells: Vec<u64>,
    pub(super) exemplars: Vec<(u32, Exemplar)>,
    pub(super) gained: Vec<CellDelta>,
    bytes: Vec<u8>,
}

// === impl Touched ===

impl Touched {
    /// The sets in a delta record.
    #[must_use]
    pub fn new(names: &Sketch, are_old: bool) -> Self {
        match are_old {
            true => Self { names: Sketch::default(), old: Some(names.clone()) },
            false => Self { names: names.clone(), old: None },
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.names.merge(&other.names);
        if let Some(old) = &other.old {
            self.old.get_or_insert_default().merge(old);
        }
    }

    /// About how many. The sources have nearly the same sets, because a trace may be in any of them: so it is the greater
    /// number, and not the sum.
    pub(super) fn estimate(&self) -> u64 {
        self.names.estimate().max(self.old.as_ref().map_or(0, Sketch::estimate))
    }

    /// The memory that it takes besides its own size.
    fn heap(&self) -> usize {
        self.names.heap() + self.old.as_ref().map_or(0, Sketch::heap)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.names.encode(out);
        self.old.clone().unwrap_or_default().encode(out);
    }

    pub(super) fn decode(version: u8, r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if version < VERSION_3 {
            return Ok(Self::new(&Sketch::decode(r)?, true));
        }
        let (names, old) = (Sketch::decode(r)?, Sketch::decode(r)?);
        Ok(Self { names, old: (old != Sketch::default()).then_some(old) })
    }
}

// === impl OpenStep ===

impl OpenStep {
    /// The place of the delta of `set` in layout `layout`.
    pub(super) fn find(&self, set: u32, layout: u32) -> Option<u32> {
        let is_it = |d: &Delta| d.set == set && d.layout() == layout;
        self.index.find(hash(set), |&at| self.deltas.get(at as usize).is_some_and(is_it)).copied()
    }

    /// Creates a place for the delta of `set` in layout `layout`, which is that of `metrics`.
    pub(super) fn create(&mut self, set: u32, layout: u32, metrics: &Metrics) -> u32 {
        let delta = Delta { set, layout: layout << 1, natives: Natives::of(&metrics.layout), gained: Box::default() };
        self.heap += delta.heap();
        let at = self.deltas.len() as u32;
        self.deltas.push(delta);
        let deltas = &self.deltas;
        self.index.insert_unique(hash(set), at, |&at| deltas.get(at as usize).map_or(0, |d| hash(d.set)));
        at
    }

    /// Adds to the delta in a place. `step` is the end of this step.
    pub(super) fn grow(&mut self, at: u32, step: Millis, metrics: &Metrics, gain: &Gain<'_>, scratch: &mut Scratch) {
        if let Some(delta) = self.deltas.get_mut(at as usize) {
            self.heap -= delta.heap();
            delta.grow(step, metrics, gain, scratch);
            self.heap += delta.heap();
        }
    }

    /// Adds to the delta of `set` in layout `layout`; returns whether it is the first.
    pub(super) fn put(
        &mut self,
        (set, layout): (u32, u32),
        step: Millis,
        metrics: &Metrics,
        gain: &Gain<'_>,
        scratch: &mut Scratch,
    ) -> bool {
        let known = self.find(set, layout);
        let at = known.unwrap_or_else(|| self.create(set, layout, metrics));
        self.grow(at, step, metrics, gain, scratch);
        known.is_none()
    }

    /// Records which label sets of a tenant with a limit were touched in all shards.
    pub(super) fn mention(&mut self, tenant: &str, sets: &Touched) {
        match self.everywhere.get_mut(tenant) {
            Some(known) => known.merge(sets),
            None => drop(self.everywhere.insert(tenant.to_owned(), sets.clone())),
        }
    }

    /// Takes the deltas out.
    pub(super) fn take(&mut self) -> Chunks<Delta> {
        self.index.clear();
        self.heap = 0;
        std::mem::take(&mut self.deltas)
    }

    /// The deltas of a label set, one per layout, in no particular order.
    pub(super) fn of(&self, set: u32) -> impl Iterator<Item = &Delta> {
        self.index.iter_hash(hash(set)).filter_map(move |&at| self.deltas.get(at as usize).filter(|d| d.set == set))
    }

    /// The deltas in order of arrival, which has no meaning.
    pub(super) fn deltas(&self) -> impl Iterator<Item = &Delta> {
        self.deltas.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.deltas.len()
    }

    /// The memory of all of it.
    pub(super) fn bytes(&self) -> usize {
        let touched =
            |(tenant, touched): (&String, &Touched)| size_of::<(String, Touched)>() + tenant.len() + touched.heap();
        let sketches: usize = self.everywhere.iter().map(touched).sum();
        self.deltas.bytes() + heap(self.index.allocation_size()) + self.heap + sketches
    }
}

/// Spreads neighbors apart, in the bits that a table uses.
fn hash(set: u32) -> u64 {
    let mixed = u64::from(set).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

// === impl Scratch ===

impl Scratch {
    /// Takes the cells and the exemplars of a delta out.
    pub(super) fn unpack(&mut self, step: Millis, delta: &Delta) {
        self.gained.clear();
        delta.each_cell(&mut Reader::new(&delta.gained), |cell, value| {
            self.gained.push(CellDelta { cell: cell as u32, value });
        });
        delta.exemplars(step, &mut self.exemplars);
    }
}

// === impl Delta ===

impl Delta {
    pub(super) fn layout(&self) -> u32 {
        self.layout >> 1
    }

    /// Whether a delta record sent the set in full with this layout.
    pub(super) fn spelled(&self) -> bool {
        self.layout & 1 != 0
    }

    fn grow(&mut self, step: Millis, metrics: &Metrics, gain: &Gain<'_>, scratch: &mut Scratch) {
        self.layout |= u32::from(gain.spelled);
        self.natives.add(gain.natives);
        scratch.cells.clear();
        scratch.cells.resize(metrics.layout.cells(), 0);
        self.add_to(&mut scratch.cells, metrics);
        gain.cells.iter().for_each(|c| metrics.add_cell(&mut scratch.cells, c.cell as usize, c.value));
        self.exemplars(step, &mut scratch.exemplars);
        for &(cell, e) in gain.exemplars {
            exemplar::offer(&mut scratch.exemplars, cell, e);
        }
        scratch.bytes.clear();
        encode_cells(&mut scratch.bytes, &scratch.cells);
        encode_exemplars(&mut scratch.bytes, step, &scratch.exemplars);
        if self.gained.len() == scratch.bytes.len() {
            self.gained.copy_from_slice(&scratch.bytes);
        } else {
            self.gained = scratch.bytes.as_slice().into();
        }
    }

    /// Adds the cells that grew to cells of the same layout.
    pub(super) fn add_to(&self, cells: &mut [u64], metrics: &Metrics) {
        self.each_cell(&mut Reader::new(&self.gained), |cell, value| metrics.add_cell(cells, cell, value));
    }

    /// The exemplars by cell. `step` is the step that holds the delta.
    pub(super) fn exemplars(&self, step: Millis, out: &mut Vec<(u32, Exemplar)>) {
        out.clear();
        let mut r = Reader::new(&self.gained);
        self.each_cell(&mut r, |_, _| ());
        while let (Ok(cell), Ok(at), Ok(trace_id), Ok(value_ns)) = (r.uint(), r.i64(), r.array(), r.u64()) {
            out.push((cell, Exemplar { at: step.wrapping_add(at), trace_id, value_ns }));
        }
    }

    /// Whether it changes any value of a set with its layout.
    pub(super) fn grows(&self, metrics: &Metrics) -> bool {
        let mut grows = metrics.any_native(&self.natives);
        self.each_cell(&mut Reader::new(&self.gained), |cell, value| {
            grows |= value != 0 && !metrics.is_gauge_cell(cell);
        });
        grows
    }

    fn each_cell(&self, r: &mut Reader<'_>, mut each: impl FnMut(usize, u64)) {
        let mut at = 0;
        for _ in 0..r.u64().unwrap_or_default() {
            let (Ok(gap), Ok(value)) = (r.uint::<usize>(), r.u64()) else { return };
            each(at + gap, value);
            at += gap + 1;
        }
    }

    fn heap(&self) -> usize {
        heap(self.gained.len()) + self.natives.heap()
    }
}
