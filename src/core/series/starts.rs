//! The sample before the first value of a series, so that the value is an increase.
//!
//! A receiver's `increase()` and `rate()` see the difference of two samples. So a series that begins has a zero before
//! its first value. One that comes back after its marker continues at the value that it had, and one that takes the
//! place of another when a layout changes begins with what the other had counted: both have that kept value there
//! instead.
//!
//! Kept numbers are those of a set before the step that brings it back. They live as long as the step is written, or
//! until the next one that is, when the tenant has an interval or its receiver is down: a snapshot holds them, too.

use super::heap;
use super::metrics::{Metrics, SampleValue, SeriesRef};
use super::set;
use crate::core::model::Natives;
use crate::core::model::hash::Map;
use crate::core::remotewrite::native::NativeValue;

/// The numbers of a set before the steps whose values the receiver gets next. They have the set's layout.
#[derive(Debug, Clone)]
pub(super) struct Before {
    pub(super) numbers: Vec<u64>,
    pub(super) natives: Natives,
    /// The layout whose series the receiver has: only others need a start. None: all of them do.
    pub(super) seen: Option<u32>,
}

/// The same, packed, by place. It holds few sets: those that came back and have not been written since.
#[derive(Debug, Default)]
pub(super) struct Kept(Map<u32, Packed>);

#[derive(Debug)]
struct Packed {
    numbers: Box<[u8]>,
    natives: Natives,
    seen: Option<u32>,
}

/// The values of a set's series in the order of [`Metrics::each`], each with its metric.
pub(super) struct Starts {
    list: std::vec::IntoIter<(usize, Start)>,
}

/// The value before a first value.
#[derive(Debug)]
pub(super) enum Start {
    Float(f64),
    Native(OwnNative),
}

/// A [`NativeValue`] with its buckets.
#[derive(Debug)]
pub(super) struct OwnNative {
    schema: i8,
    weighted: bool,
    zero: u128,
    sum: f64,
    buckets: Vec<(i32, u128)>,
}

// === impl Before ===

impl Before {
    /// Moves the numbers from layout `old` to `new`.
    pub(super) fn relay(&mut self, old: &Metrics, new: &Metrics) {
        (self.numbers, self.natives) = relaid(old, new, &self.numbers, &self.natives);
    }

    /// Whether the receiver has the series of `line` already.
    pub(super) fn has_seen<'m>(&self, line: &SeriesRef<'_>, metrics: impl Fn(u32) -> &'m Metrics) -> bool {
        self.seen.is_some_and(|seen| metrics(seen).has(line))
    }
}

/// Numbers and native histograms of layout `old` in layout `new`. The times behind the cells stay.
pub(super) fn relaid(old: &Metrics, new: &Metrics, numbers: &[u64], natives: &Natives) -> (Vec<u64>, Natives) {
    let mut moved = vec![0; new.numbers()];
    let mut moved_natives = Natives::of(&new.layout);
    new.layout.add_from(&mut moved, &mut moved_natives, &old.layout, (numbers, natives));
    new.layout.bound(&mut moved_natives);
    moved[new.layout.cells()..].copy_from_slice(&numbers[old.layout.cells()..]);
    (moved, moved_natives)
}

// === impl Kept ===

impl Kept {
    /// Takes the numbers of a set out.
    pub(super) fn take(&mut self, id: u32) -> Option<Before> {
        if self.0.is_empty() {
            return None;
        }
        let Packed { numbers: packed, natives, seen } = self.0.remove(&id)?;
        let mut numbers = Vec::new();
        set::unpack(&packed, &mut numbers);
        Some(Before { numbers, natives, seen })
    }

    /// Keeps the numbers of a set for later.
    pub(super) fn put(&mut self, id: u32, before: Before) {
        let mut packed = Vec::new();
        set::pack(&mut packed, &before.numbers);
        self.insert(id, &packed, before.natives, before.seen);
    }

    /// The same, packed already.
    pub(super) fn insert(&mut self, id: u32, packed: &[u8], natives: Natives, seen: Option<u32>) {
        self.0.insert(id, Packed { numbers: packed.into(), natives, seen });
    }

    /// The packed numbers of a set.
    pub(super) fn get(&self, id: u32) -> Option<(&[u8], &Natives, Option<u32>)> {
        self.0.get(&id).map(|kept| (&*kept.numbers, &kept.natives, kept.seen))
    }

    /// Drops the numbers of a set.
    pub(super) fn remove(&mut self, id: u32) {
        if !self.0.is_empty() {
            self.0.remove(&id);
        }
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let each = |kept: &Packed| heap(kept.numbers.len()) + kept.natives.heap();
        heap(self.0.allocation_size()) + self.0.values().map(each).sum::<usize>()
    }
}

// === impl Starts ===

impl Starts {
    /// The values that the series of a set had.
    pub(super) fn of(before: &Before, metrics: &Metrics) -> Self {
        let mut list = Vec::new();
        metrics.each(&before.numbers, &before.natives, |line| {
            let start = match line.value {
                SampleValue::Float(value) => Start::Float(value),
                SampleValue::Native(value) => Start::Native(OwnNative::from(value)),
            };
            list.push((line.metric, start));
        });
        Self { list: list.into_iter() }
    }

    /// The earlier value of the series of `line`, if it existed. Lines come in the order of [`Metrics::each`], all of
    /// them.
    pub(super) fn next(&mut self, line: &SeriesRef<'_>) -> Option<Start> {
        // A metric has all its series or none, so those that there are stand in the same order.
        let (metric, _) = self.list.as_slice().first()?;
        if *metric == line.metric { self.list.next().map(|(_, start)| start) } else { None }
    }
}

impl Start {
    /// The value of a series of floats.
    pub(super) fn float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Native(_) => None,
        }
    }

    /// The value of a series of native histograms.
    pub(super) fn native(&self) -> Option<NativeValue<'_>> {
        match self {
            Self::Float(_) => None,
            Self::Native(native) => Some(native.value()),
        }
    }

    /// The value before a very first value.
    pub(super) fn zero(value: &SampleValue<'_>) -> Self {
        match value {
            SampleValue::Float(_) => Self::Float(0.0),
            SampleValue::Native(value) => Self::Native(OwnNative::from(value.emptied())),
        }
    }
}

// === impl OwnNative ===

impl From<NativeValue<'_>> for OwnNative {
    fn from(value: NativeValue<'_>) -> Self {
        let NativeValue { schema, weighted, zero, sum, buckets } = value;
        Self { schema, weighted, zero, sum, buckets: buckets.to_vec() }
    }
}

impl OwnNative {
    fn value(&self) -> NativeValue<'_> {
        let Self { schema, weighted, zero, sum, ref buckets } = *self;
        NativeValue { schema, weighted, zero, sum, buckets }
    }
}
