//! Counts by time. A bin is open as long as deltas of its time may come, and packed afterwards; a later delta
//! opens it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::model::wire::{Malformed, Reader, put_u64};
use crate::core::model::{Layout, Millis, Natives, Numbers};

/// A key, and the layout that its numbers have.
type Row = (u32, u16);

/// The counts of one stretch of time.
#[derive(Debug, Default)]
pub(super) struct Bin {
    open: BTreeMap<Row, Numbers>,
    packed: Vec<u8>,
    /// Rows of the packed ones, in order, with where their numbers begin.
    index: Vec<(u32, u16, u32)>,
    /// The result of [`Bins::outline`]; `None` if something was added since.
    outline: Option<Outline>,
}

/// Of every tenant, in short: see [`super::history`].
pub(super) type Outline = BTreeMap<Arc<str>, (f64, [u32; 2])>;

/// All bins. A bin is named by its end.
#[derive(Debug)]
pub(super) struct Bins {
    width: Millis,
    bins: BTreeMap<Millis, Bin>,
    layouts: Vec<Arc<Layout>>,
}

// === impl Bin ===

impl Bin {
    fn each(&self, layouts: &[Arc<Layout>], mut tell: impl FnMut(u32, &Arc<Layout>, &Numbers)) {
        for &(key, layout, at) in &self.index {
            let Some(layout) = layouts.get(layout as usize) else { continue };
            if let Ok(numbers) = unpack(layout, self.packed.get(at as usize..).unwrap_or_default()) {
                tell(key, layout, &numbers);
            }
        }
        for ((key, layout), numbers) in &self.open {
            if let Some(layout) = layouts.get(*layout as usize) {
                tell(*key, layout, numbers);
            }
        }
    }

    /// The same for some keys.
    fn each_of(
        &self,
        keys: &BTreeSet<u32>,
        layouts: &[Arc<Layout>],
        mut tell: impl FnMut(u32, &Arc<Layout>, &Numbers),
    ) {
        for &key in keys {
            let from = self.index.partition_point(|(other, ..)| *other < key);
            let rows = self.index.get(from..).unwrap_or_default().iter().take_while(|(other, ..)| *other == key);
            for &(_, id, at) in rows {
                let Some(layout) = layouts.get(id as usize) else { continue };
                if let Ok(numbers) = unpack(layout, self.packed.get(at as usize..).unwrap_or_default()) {
                    tell(key, layout, &numbers);
                }
            }
            for ((_, id), numbers) in self.open.range((key, 0)..=(key, u16::MAX)) {
                if let Some(layout) = layouts.get(*id as usize) {
                    tell(key, layout, numbers);
                }
            }
        }
    }

    fn open(&mut self, layouts: &[Arc<Layout>]) {
        let mut open = std::mem::take(&mut self.open);
        for (key, id, at) in std::mem::take(&mut self.index) {
            let Some(layout) = layouts.get(id as usize) else { continue };
            if let Ok(numbers) = unpack(layout, self.packed.get(at as usize..).unwrap_or_default()) {
                let total = open.entry((key, id)).or_insert_with(|| layout.zeros());
                layout.add(&mut total.cells, &mut total.natives, (&numbers.cells, &numbers.natives));
            }
        }
        self.packed = Vec::new();
        self.open = open;
    }

    fn pack(&mut self, layouts: &[Arc<Layout>]) {
        if self.open.is_empty() {
            return;
        }
        self.open(layouts);
        for ((key, id), numbers) in std::mem::take(&mut self.open) {
            let Some(layout) = layouts.get(id as usize) else { continue };
            self.index.push((key, id, self.packed.len() as u32));
            pack(layout, &numbers, &mut self.packed);
        }
        self.packed.shrink_to_fit();
        self.index.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        let open: usize = self.open.values().map(|n| 96 + n.cells.len() * 8 + n.natives.heap()).sum();
        96 + open + self.packed.capacity() + self.index.capacity() * size_of::<(u32, u16, u32)>()
    }
}

/// Cells that are not zero, each behind the number of zeros before it; then the native buckets.
fn pack(layout: &Layout, numbers: &Numbers, out: &mut Vec<u8>) {
    put_u64(out, numbers.cells.iter().filter(|&&cell| cell != 0).count() as u64);
    let mut next = 0;
    for (at, &cell) in numbers.cells.iter().enumerate().filter(|(_, cell)| **cell != 0) {
        put_u64(out, (at - next) as u64);
        put_u64(out, cell);
        next = at + 1;
    }
    numbers.natives.encode_totals(layout, out);
}

fn unpack(layout: &Layout, bytes: &[u8]) -> Result<Numbers, Malformed> {
    let mut r = Reader::new(bytes);
    let mut numbers = layout.zeros();
    let mut at = 0;
    for _ in 0..r.u64()? {
        at += r.uint::<usize>()?;
        *numbers.cells.get_mut(at).ok_or(Malformed("cell out of range"))? = r.u64()?;
        at += 1;
    }
    numbers.natives = Natives::decode_totals(layout, &mut r)?;
    Ok(numbers)
}

// === impl Bins ===

impl Bins {
    pub(super) fn new(width: Millis) -> Self {
        Self { width, bins: BTreeMap::new(), layouts: Vec::new() }
    }

    pub(super) fn width(&self) -> Millis {
        self.width
    }

    /// The number of a layout; `None` when there are too many to number.
    pub(super) fn layout(&mut self, layout: &Layout) -> Option<u16> {
        let known = self.layouts.iter().position(|known| **known == *layout);
        let at = known.unwrap_or_else(|| {
            self.layouts.push(Arc::new(layout.clone()));
            self.layouts.len() - 1
        });
        u16::try_from(at).ok()
    }

    /// The layout of a number.
    pub(super) fn layout_of(&self, id: u16) -> Option<&Arc<Layout>> {
        self.layouts.get(id as usize)
    }

    /// The end of the bin of a step, which is named by its end as well.
    pub(super) fn bin_of(&self, step: Millis) -> Millis {
        step.saturating_sub(1).div_euclid(self.width).saturating_add(1).saturating_mul(self.width)
    }

    pub(super) fn add(&mut self, step: Millis, row: Row, cells: &[(usize, u64)], natives: &Natives) {
        let Some(layout) = self.layouts.get(row.1 as usize).cloned() else { return };
        let bin = self.bins.entry(self.bin_of(step)).or_default();
        bin.outline = None;
        let total = bin.open.entry(row).or_insert_with(|| layout.zeros());
        let mut gained = vec![0; layout.cells()];
        for &(cell, value) in cells {
            if let Some(place) = gained.get_mut(cell) {
                *place = value;
            }
        }
        layout.add(&mut total.cells, &mut total.natives, (&gained, natives));
        layout.bound(&mut total.natives);
    }

    /// Packs the bins that end at `passed` or before: no more deltas of them are to be expected.
    pub(super) fn pack(&mut self, passed: Millis) {
        let layouts = &self.layouts;
        self.bins.range_mut(..=passed).for_each(|(_, bin)| bin.pack(layouts));
    }

    /// Merges each two bins into one. Bins are aligned to the epoch, so nothing moves over an edge.
    pub(super) fn coarsen(&mut self) {
        self.width *= 2;
        let layouts = &self.layouts;
        for (end, mut bin) in std::mem::take(&mut self.bins) {
            let wide = end.saturating_sub(1).div_euclid(self.width).saturating_add(1) * self.width;
            bin.open(layouts);
            let both = self.bins.entry(wide).or_default();
            for (row, numbers) in bin.open {
                let Some(layout) = layouts.get(row.1 as usize) else { continue };
                let total = both.open.entry(row).or_insert_with(|| layout.zeros());
                layout.add(&mut total.cells, &mut total.natives, (&numbers.cells, &numbers.natives));
                layout.bound(&mut total.natives);
            }
        }
    }

    /// Drops the bins that end before `oldest`. Returns how many there were.
    pub(super) fn drop_before(&mut self, oldest: Millis) -> usize {
        let kept = self.bins.split_off(&oldest);
        std::mem::replace(&mut self.bins, kept).len()
    }

    /// Every row of the bins that end in `(from, to]`, with the end of its bin.
    pub(super) fn each(&self, (from, to): (Millis, Millis), mut tell: impl FnMut(Millis, u32, &Arc<Layout>, &Numbers)) {
        if from >= to {
            return;
        }
        for (&end, bin) in self.bins.range(from.saturating_add(1)..=to) {
            bin.each(&self.layouts, |key, layout, numbers| tell(end, key, layout, numbers));
        }
    }

    /// The same for some keys.
    pub(super) fn each_of(
        &self,
        (from, to): (Millis, Millis),
        keys: &BTreeSet<u32>,
        mut tell: impl FnMut(Millis, u32, &Arc<Layout>, &Numbers),
    ) {
        if from >= to {
            return;
        }
        for (&end, bin) in self.bins.range(from.saturating_add(1)..=to) {
            bin.each_of(keys, &self.layouts, |key, layout, numbers| tell(end, key, layout, numbers));
        }
    }

    /// The result of `make` for each bin, computed once until something is added to the bin.
    pub(super) fn outline(
        &mut self,
        make: impl Fn(&mut dyn FnMut(&mut dyn FnMut(u32, &Arc<Layout>, &Numbers))) -> Outline,
    ) -> impl Iterator<Item = (Millis, &Outline)> {
        let layouts = &self.layouts;
        for bin in self.bins.values_mut().filter(|bin| bin.outline.is_none()) {
            bin.outline = Some(make(&mut |tell| bin.each(layouts, |key, layout, numbers| tell(key, layout, numbers))));
        }
        self.bins.iter().filter_map(|(end, bin)| Some((*end, bin.outline.as_ref()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.bins.len()
    }

    /// The ends of the first and of the last bin.
    pub(super) fn ends(&self) -> Option<(Millis, Millis)> {
        Some((*self.bins.first_key_value()?.0, *self.bins.last_key_value()?.0))
    }

    pub(super) fn bytes(&self) -> usize {
        self.bins.values().map(Bin::bytes).sum()
    }
}
