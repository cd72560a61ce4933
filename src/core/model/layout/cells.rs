//! Numbers in the cells of a layout: counting, adding up, and moving to another layout.

use super::native::{NativeTotal, index_of};
use super::{Layout, MAX_HISTOGRAMS, Natives};
use crate::core::model::{Exemplar, Weight};

/// Exemplars of a native histogram alone: one slot for zero and one per power of two.
const SLOTS: u32 = 128;
/// The slot of the power with exponent 0.
const SLOT_OF_ONE: i32 = 64;

/// The numbers of one label set in the cells of one layout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Counters, classic buckets and sums.
    pub cells: Box<[u64]>,
    /// The buckets of the native histograms.
    pub natives: Natives,
}

/// The metric of a cell that may have an exemplar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A counter.
    Counter(usize),
    /// A histogram.
    Histogram(usize),
}

// === impl Layout: where things are ===

impl Layout {
    /// The first cell of counter `c`.
    #[must_use]
    pub fn counter(&self, c: usize) -> usize {
        self.counters[c] as usize
    }

    /// The first cell of histogram `h`.
    #[must_use]
    pub fn histogram(&self, h: usize) -> usize {
        self.places[h].first as usize
    }

    /// The number of classic buckets of histogram `h`, `+Inf` included; none without classic buckets.
    #[must_use]
    pub fn buckets(&self, h: usize) -> usize {
        self.places[h].buckets as usize
    }

    /// The cell of classic bucket `i` of histogram `h`, the lower one of a pair.
    #[must_use]
    pub fn bucket_cell(&self, h: usize, i: usize) -> usize {
        self.histogram(h) + i * self.width()
    }

    /// The cells that hold the sum of histogram `h` (low, high).
    #[must_use]
    pub fn sum(&self, h: usize) -> (usize, usize) {
        let low = self.places[h].sum as usize;
        (low, low + 1)
    }

    /// The cell of the classic bucket into which `value_ns` falls: the first whose bound is not below it.
    #[must_use]
    pub fn bucket(&self, h: usize, value_ns: u64) -> usize {
        self.bucket_cell(h, self.bounds(h).partition_point(|&b| b < value_ns))
    }

    /// One more than the greatest number of a cell with an exemplar.
    #[must_use]
    pub fn example_cells(&self) -> usize {
        self.cells() + MAX_HISTOGRAMS * SLOTS as usize
    }

    /// The cell that an exemplar of histogram `h` belongs to: its classic bucket, or its power of two.
    #[must_use]
    pub fn example_cell(&self, h: usize, value_ns: u64) -> u32 {
        if self.buckets(h) > 0 {
            return self.bucket(h, value_ns) as u32;
        }
        let slot = if value_ns == 0 { 0 } else { index_of(self.unit().of_ns(value_ns), 0) + SLOT_OF_ONE };
        self.cells + h as u32 * SLOTS + slot.unsigned_abs()
    }

    /// The metric whose exemplars have cell `cell`.
    #[must_use]
    pub fn owner(&self, cell: usize) -> Option<Owner> {
        if let Some(slot) = cell.checked_sub(self.cells()) {
            let h = slot / SLOTS as usize;
            return self.native(h).is_some().then_some(Owner::Histogram(h));
        }
        let counters = self.family().counters().len();
        let histogram = |h: &usize| (self.histogram(*h)..self.bucket_cell(*h, self.buckets(*h))).contains(&cell);
        let counter = (0..counters).find(|&c| self.counter(c) == cell).map(Owner::Counter);
        counter.or_else(|| (0..MAX_HISTOGRAMS).find(histogram).map(Owner::Histogram))
    }

    /// The cell of this layout for an exemplar in cell `cell` of layout `from`: it follows its bucket.
    #[must_use]
    pub fn move_example(&self, from: &Layout, cell: u32, example: &Exemplar) -> Option<u32> {
        match from.owner(cell as usize)? {
            Owner::Counter(c) => Some(self.counters[c]),
            Owner::Histogram(h) if self.buckets(h) > 0 && from.buckets(h) > 0 => {
                let i = (cell as usize - from.histogram(h)) / from.width();
                let upper = from.bounds(h).get(i);
                Some(upper.map_or(self.bucket_cell(h, self.bounds(h).len()), |&b| self.bucket(h, b)) as u32)
            }
            Owner::Histogram(h) => self.shape(h).map(|_| self.example_cell(h, example.value_ns)),
        }
    }

    /// Cells of one count.
    fn width(&self) -> usize {
        if self.is_weighted() { 2 } else { 1 }
    }

    /// Whether counter `c` has bits behind the point.
    fn counter_is_scaled(&self, c: usize) -> bool {
        self.is_weighted() && self.family().is_weighed(c)
    }

    /// Whether counter `c` is a pair of cells.
    fn counter_is_wide(&self, c: usize) -> bool {
        self.counter_is_scaled(c) || self.family().is_sum() || self.family().is_duration()
    }
}

// === impl Layout: counting ===

impl Layout {
    /// Zeros.
    #[must_use]
    pub fn zeros(&self) -> Numbers {
        Numbers { cells: vec![0; self.cells()].into_boxed_slice(), natives: Natives::of(self) }
    }

    /// Adds `n` to counter `c`; nanoseconds, if it is a duration.
    #[inline]
    pub fn add_to(&self, numbers: &mut Numbers, c: usize, n: u64) {
        let at = self.counter(c);
        if self.counter_is_wide(c) {
            add_pair(&mut numbers.cells, at, scale(n.into(), false, self.counter_is_scaled(c)));
        } else {
            numbers.cells[at] = numbers.cells[at].wrapping_add(n);
        }
    }

    /// Adds `weight` to counter `c`. A counter without weights takes whole ones only.
    #[inline]
    pub fn count(&self, numbers: &mut Numbers, c: usize, weight: Weight) {
        if self.counter_is_scaled(c) {
            add_pair(&mut numbers.cells, self.counter(c), weight.bits().into());
        } else {
            self.add_to(numbers, c, weight.bits() >> Weight::FRACTION_BITS);
        }
    }

    /// Adds `weight` times `value` billionths to the sum `c`.
    pub fn add_value(&self, numbers: &mut Numbers, c: usize, value: u128, weight: Weight) {
        add_pair(&mut numbers.cells, self.counter(c), value.wrapping_mul(self.times(weight)));
    }

    /// As [`Layout::observe`], for a value that may be greater than any bound; such a one has no exemplar. Returns whether a
    /// native bucket is new.
    pub fn observe_value(&self, numbers: &mut Numbers, h: usize, value: u128, weight: Weight) -> bool {
        if let Ok(value) = u64::try_from(value) {
            return self.observe(numbers, h, value, weight).is_some_and(|(_, new)| new);
        }
        let Some(shape) = self.shape(h) else { return false };
        let count = self.times(weight);
        if self.places[h].buckets > 0 {
            let bucket = self.bucket_cell(h, self.bounds(h).len());
            self.add_count(&mut numbers.cells, bucket, self.is_weighted(), count);
        }
        add_pair(&mut numbers.cells, self.sum(h).0, value.wrapping_mul(count));
        match numbers.natives.get_mut(h).filter(|_| shape.native.is_some()) {
            Some(total) => total.observe(value as f64 / self.unit().ns(), count),
            None => false,
        }
    }

    /// A weight as this layout counts it.
    fn times(&self, weight: Weight) -> u128 {
        let bits = if self.is_weighted() { weight.bits() } else { weight.bits() >> Weight::FRACTION_BITS };
        bits.into()
    }

    /// Counts one observation of histogram `h`, `weight` times. Returns the cell of its exemplar, and whether a native
    /// bucket is new; `None` if the layout has no such histogram.
    pub fn observe(&self, numbers: &mut Numbers, h: usize, value_ns: u64, weight: Weight) -> Option<(u32, bool)> {
        let shape = self.shape(h)?;
        let count = if self.is_weighted() { weight.bits() } else { weight.bits() >> Weight::FRACTION_BITS };
        let mut cell = None;
        if self.places[h].buckets > 0 {
            let bucket = self.bucket(h, value_ns);
            if self.is_weighted() {
                add_pair(&mut numbers.cells, bucket, count.into());
            } else {
                numbers.cells[bucket] = numbers.cells[bucket].wrapping_add(count);
            }
            cell = Some(bucket as u32);
        }
        add_pair(&mut numbers.cells, self.sum(h).0, u128::from(value_ns).wrapping_mul(count.into()));
        let mut new = false;
        if shape.native.is_some()
            && let Some(total) = numbers.natives.get_mut(h)
        {
            new = total.observe(self.unit().of_ns(value_ns), count.into());
        }
        Some((cell.unwrap_or_else(|| self.example_cell(h, value_ns)), new))
    }
}

// === impl Layout: values ===

impl Layout {
    /// Counter `c`; times 2^32 if it is a weight, or weighted.
    /// Counter `c`; times 2^32 if it is a weight, in nanoseconds if it is a duration.
    #[must_use]
    pub fn counter_of(&self, cells: &[u64], c: usize) -> u128 {
        if self.counter_is_wide(c) { pair(cells, self.counter(c)) } else { cells[self.counter(c)].into() }
    }

    /// The value that is written for counter or gauge `c`; `None` while it does not exist.
    #[must_use]
    pub fn counter_value(&self, cells: &[u64], c: usize) -> Option<f64> {
        let count = self.counter_of(cells, c);
        let value = match (self.family().is_gauge(c), self.counter_is_scaled(c)) {
            (true, _) if self.family().is_seen() => count as f64 / 1e3,
            (true, _) => 1.0,
            (_, is_scaled) if self.family().is_sum() => in_units(count, is_scaled),
            _ if self.family().is_duration() => count as f64 / self.unit().ns(),
            (_, is_scaled) => scaled(count, is_scaled),
        };
        let exists = count > 0 || self.family().is_sum() || {
            let companion = self.family().companion(c);
            companion != c && self.counter_of(cells, companion) > 0
        };
        exists.then_some(value)
    }

    /// What classic bucket `i` of histogram `h` counted, not cumulative; times 2^32 in a weighted layout.
    #[must_use]
    pub fn bucket_of(&self, cells: &[u64], h: usize, i: usize) -> u128 {
        let at = self.bucket_cell(h, i);
        if self.is_weighted() { pair(cells, at) } else { cells[at].into() }
    }

    /// All observations of histogram `h`; times 2^32 in a weighted layout.
    #[must_use]
    pub fn count_of(&self, cells: &[u64], natives: &Natives, h: usize) -> u128 {
        match self.buckets(h) {
            0 => natives.get(h).map_or(0, NativeTotal::count),
            n => (0..n).fold(0, |sum: u128, i| sum.wrapping_add(self.bucket_of(cells, h, i))),
        }
    }

    /// A count of observations as it is written.
    #[must_use]
    pub fn count_value(&self, count: u128) -> f64 {
        scaled(count, self.is_weighted())
    }

    /// The sum of histogram `h` in nanoseconds; times 2^32 in a weighted layout.
    #[must_use]
    pub fn sum_of(&self, cells: &[u64], h: usize) -> u128 {
        pair(cells, self.sum(h).0)
    }

    /// The sum of histogram `h` as it is written, in its unit.
    #[must_use]
    pub fn sum_value(&self, cells: &[u64], h: usize) -> f64 {
        let sum = self.sum_of(cells, h);
        if self.family().is_named_by_label() {
            return in_units(sum, self.is_weighted());
        }
        scaled(sum, self.is_weighted()) / self.unit().ns()
    }
}

// === impl Layout: adding up ===

impl Layout {
    /// Adds numbers of this layout.
    pub fn add(&self, cells: &mut [u64], natives: &mut Natives, other: (&[u64], &Natives)) {
        self.add_cells(cells, other.0);
        natives.add(other.1);
    }

    /// Of every cell, whether it is the lower one of a pair: what overflows there goes to the next one.
    #[must_use]
    pub fn carries(&self) -> Vec<bool> {
        let mut carries = vec![false; self.cells()];
        for c in (0..self.family().counters().len()).filter(|&c| self.counter_is_wide(c)) {
            carries[self.counter(c)] = true;
        }
        for h in (0..MAX_HISTOGRAMS).filter(|&h| self.shape(h).is_some()) {
            carries[self.sum(h).0] = true;
            (0..self.buckets(h)).for_each(|i| carries[self.bucket_cell(h, i)] |= self.is_weighted());
        }
        carries
    }

    fn add_cells(&self, cells: &mut [u64], other: &[u64]) {
        for c in 0..self.family().counters().len() {
            self.add_one(cells, other, self.counter(c), self.counter_is_wide(c));
        }
        for h in (0..MAX_HISTOGRAMS).filter(|&h| self.shape(h).is_some()) {
            (0..self.buckets(h)).for_each(|i| self.add_one(cells, other, self.bucket_cell(h, i), self.is_weighted()));
            add_pair(cells, self.sum(h).0, self.sum_of(other, h));
        }
    }

    fn add_one(&self, cells: &mut [u64], other: &[u64], at: usize, wide: bool) {
        if wide {
            add_pair(cells, at, pair(other, at));
        } else {
            cells[at] = cells[at].wrapping_add(other[at]);
        }
    }

    /// Halves the resolution of native histograms that have more populated buckets than they may have.
    pub fn bound(&self, natives: &mut Natives) {
        for h in 0..MAX_HISTOGRAMS {
            if let (Some(native), Some(total)) = (self.native(h), natives.get_mut(h)) {
                total.bound(native.max_buckets);
            }
        }
    }

    /// Adds numbers of layout `from` (same family; every histogram that it has is here, too). Counters, counts and sums
    /// stay exact. The observations of a bucket move to the bucket that holds its upper bound: to the first classic one
    /// whose bound is not below it, or to its native one; those without an upper bound to `+Inf`, or to the native bucket
    /// above the last bound's. Every `le` that both layouts have keeps its cumulative count, so no counter falls.
    pub fn add_from(&self, cells: &mut [u64], natives: &mut Natives, from: &Layout, other: (&[u64], &Natives)) {
        let (theirs, their_natives) = other;
        for c in 0..self.family().counters().len() {
            let count = from.counter_of(theirs, c);
            let scaled = scale(count, from.counter_is_scaled(c), self.counter_is_scaled(c));
            self.add_count(cells, self.counter(c), self.counter_is_wide(c), scaled);
        }
        for h in (0..MAX_HISTOGRAMS).filter(|&h| self.shape(h).is_some() && from.shape(h).is_some()) {
            add_pair(cells, self.sum(h).0, self.scaled_from(from, from.sum_of(theirs, h)));
            if self.buckets(h) > 0 {
                self.add_classic_from(cells, h, from, theirs, their_natives);
            }
            if let (Some(native), Some(total)) = (self.native(h), natives.get_mut(h)) {
                self.add_native_from(total, native.schema, h, from, other);
            }
        }
    }

    fn add_classic_from(&self, cells: &mut [u64], h: usize, from: &Layout, theirs: &[u64], natives: &Natives) {
        let inf = self.bucket_cell(h, self.bounds(h).len());
        for i in 0..from.buckets(h) {
            let at = from.bounds(h).get(i).map_or(inf, |&upper| self.bucket(h, upper));
            self.add_count(cells, at, self.is_weighted(), self.scaled_from(from, from.bucket_of(theirs, h, i)));
        }
        if let (0, Some(total)) = (from.buckets(h), natives.get(h)) {
            for (upper, count) in total.uppers() {
                let i = self.bounds(h).partition_point(|&bound| from.unit().of_ns(bound) < upper);
                self.add_count(cells, self.bucket_cell(h, i), self.is_weighted(), self.scaled_from(from, count));
            }
        }
    }

    fn add_native_from(
        &self,
        total: &mut NativeTotal,
        finest: i8,
        h: usize,
        from: &Layout,
        (theirs, natives): (&[u64], &Natives),
    ) {
        let unit = self.unit();
        match (from.native(h), natives.get(h)) {
            (Some(_), Some(other)) if from.unit() == unit => total.add(other, self.shift_from(from)),
            (Some(_), Some(other)) => {
                let ratio = from.unit().ns() / unit.ns();
                for (upper, count) in other.uppers() {
                    total.observe(upper * ratio, self.scaled_from(from, count));
                }
            }
            _ => {
                let bounds = from.bounds(h);
                for i in 0..from.buckets(h) {
                    let count = self.scaled_from(from, from.bucket_of(theirs, h, i));
                    match bounds.get(i) {
                        Some(&upper) => {
                            total.observe(unit.of_ns(upper), count);
                        }
                        None => total.observe_beyond(unit.of_ns(bounds.last().copied().unwrap_or(0)), finest, count),
                    }
                }
            }
        }
    }

    fn add_count(&self, cells: &mut [u64], at: usize, wide: bool, count: u128) {
        if wide {
            add_pair(cells, at, count);
        } else {
            cells[at] = cells[at].wrapping_add(count as u64);
        }
    }

    /// A count or a sum of a histogram of `from`, as this layout holds it.
    fn scaled_from(&self, from: &Layout, count: u128) -> u128 {
        scale(count, from.is_weighted(), self.is_weighted())
    }

    fn shift_from(&self, from: &Layout) -> u32 {
        if self.is_weighted() && !from.is_weighted() { Weight::FRACTION_BITS } else { 0 }
    }
}

fn pair(cells: &[u64], low: usize) -> u128 {
    u128::from(cells[low]) | (u128::from(cells[low + 1]) << 64)
}

fn add_pair(cells: &mut [u64], low: usize, n: u128) {
    let total = pair(cells, low).wrapping_add(n);
    cells[low] = total as u64;
    cells[low + 1] = (total >> 64) as u64;
}

/// A number with or without a fraction, as one with or without a fraction.
fn scale(n: u128, from: bool, to: bool) -> u128 {
    match (from, to) {
        (false, true) => n << Weight::FRACTION_BITS,
        (true, false) => n >> Weight::FRACTION_BITS,
        _ => n,
    }
}

/// Billionths in their unit. Whole numbers below 2^53 come out exactly: numbers of users are counts and bytes more often than
/// durations.
fn in_units(n: u128, weighted: bool) -> f64 {
    let one = 1_000_000_000u128 << if weighted { Weight::FRACTION_BITS } else { 0 };
    (n / one) as f64 + (n % one) as f64 / one as f64
}

fn scaled(n: u128, weighted: bool) -> f64 {
    // Dividing by a power of two is exact.
    if weighted { n as f64 / (1u64 << Weight::FRACTION_BITS) as f64 } else { n as f64 }
}
