//! The sums of delta records: all the values that a topic has led to, without a clock, a receiver, or series that end.
//!
//! *In:* the records of the deltas topic. *Out:* sums by step, and values by series. *Owner:* the checks of
//! [`super::cases`], and every test that compares two computations of the same numbers. *Never:* a sample.

use std::collections::BTreeMap;

use crate::core::deltas::{DeltaRecord, DeltaRecordError, SetDelta};
use crate::core::model::wire::Malformed;
use crate::core::model::{Exemplar, Family, Layout, Millis, Natives, Numbers, Owner, SetName, exemplar, labels};

/// The sums of all delta records that were added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    names: BTreeMap<SetName, Spelled>,
    sums: BTreeMap<(Millis, SetName), Sum>,
}

/// A label set, sent in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spelled {
    /// The tenant.
    pub tenant: String,
    /// The labels, sorted by name.
    pub labels: Vec<(String, String)>,
    /// What the cells mean: the join of all layouts that delta records have given for the set.
    pub layout: Layout,
}

/// What one step added to one label set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// In the cells of the layout.
    pub numbers: Numbers,
    /// The greatest exemplar of each cell, sorted by cell.
    pub exemplars: Vec<(u32, Exemplar)>,
}

/// A series by name and labels. Shown as `name{a="x", b="y"}`.
///
/// A bucket of a native histogram is shown as if it were a series: with the resolution as label `native` and its index,
/// or `zero`, as label `bucket`; its value is not cumulative. Count and sum are shown as those of a classic histogram.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// The metric name.
    pub name: String,
    /// The labels, `le` among them, sorted by name.
    pub labels: Vec<(String, String)>,
}

/// A delta record that does not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TotalsError {
    /// The record is not a delta record.
    #[error(transparent)]
    DeltaRecord(#[from] DeltaRecordError),
    /// A label set was named before it was sent in full.
    #[error("label set {0:?} is used but its labels were never sent")]
    Unspelled(SetName),
    /// A name was given to two label sets.
    #[error("label set {0:?} was sent with two different sets of labels")]
    Collides(SetName),
}

impl Totals {
    /// Adds one record of the deltas topic.
    ///
    /// # Errors
    /// When it is not a delta record, or names a label set that no delta record has sent in full.
    pub fn add(&mut self, record: &[u8]) -> Result<(), TotalsError> {
        let mut delta_record = DeltaRecord::decode(record)?;
        while let Some(set) = delta_record.next_set()? {
            let layout =
                delta_record.layouts.get(set.layout).ok_or(DeltaRecordError::Malformed(Malformed("unknown layout")))?;
            self.add_set(delta_record.head.step, &set, layout)?;
        }
        Ok(())
    }

    fn add_set(&mut self, step: Millis, set: &SetDelta<'_>, layout: &Layout) -> Result<(), TotalsError> {
        if let Some((tenant, block)) = set.spelled {
            let labels = labels::written(layout.family(), block).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            let spelled = Spelled { tenant: tenant.to_owned(), labels, layout: layout.clone() };
            let known = self.names.entry(set.name).or_insert_with(|| spelled.clone());
            if (&known.tenant, &known.labels) != (&spelled.tenant, &spelled.labels) {
                return Err(TotalsError::Collides(set.name));
            }
        }
        let spelled = self.names.get_mut(&set.name).ok_or(TotalsError::Unspelled(set.name))?;
        if spelled.layout != *layout {
            let joined = spelled.layout.join(layout);
            let old = std::mem::replace(&mut spelled.layout, joined.clone());
            for (_, sum) in self.sums.iter_mut().filter(|((_, name), _)| *name == set.name && old != joined) {
                let mut moved = Sum { numbers: joined.zeros(), exemplars: Vec::new() };
                moved.add(&joined, &old, (&sum.numbers.cells, &sum.numbers.natives), &sum.exemplars);
                *sum = moved;
            }
        }
        let total = &spelled.layout;
        let fresh = || Sum { numbers: total.zeros(), exemplars: Vec::new() };
        let sum = self.sums.entry((step, set.name)).or_insert_with(fresh);
        let mut delta = vec![0; layout.cells()];
        for cell in &set.cells {
            delta[cell.cell as usize] = cell.value;
        }
        sum.add(total, layout, (&delta, &set.natives), &set.exemplars);
        Ok(())
    }

    /// What each step added, ordered by the step's end and the name of the label set.
    pub fn steps(&self) -> impl Iterator<Item = (Millis, &Spelled, &Sum)> {
        self.sums.iter().filter_map(|((step, name), sum)| Some((*step, self.names.get(name)?, sum)))
    }

    /// The values of a tenant's series over all steps. As a receiver would see them, with one exception: a series that
    /// has never grown (a bucket, a failure) is skipped, but for the good events of an objective.
    #[must_use]
    pub fn values(&self, tenant: &str) -> BTreeMap<Series, f64> {
        self.values_in(tenant, |_| true)
    }

    /// The same over the steps that `counts` accepts.
    #[must_use]
    pub fn values_in(&self, tenant: &str, counts: impl Fn(Millis) -> bool) -> BTreeMap<Series, f64> {
        let mut all: BTreeMap<SetName, (&Spelled, Numbers)> = BTreeMap::new();
        for ((step, name), sum) in self.sums.iter().filter(|((step, _), _)| counts(*step)) {
            let Some(spelled) = self.names.get(name).filter(|s| s.tenant == tenant) else { continue };
            let (_, total) = all.entry(*name).or_insert_with(|| (spelled, spelled.layout.zeros()));
            if spelled.layout.family().is_seen() {
                Family::see(&mut total.cells, step.unsigned_abs());
                continue;
            }
            let gained = (&*sum.numbers.cells, &sum.numbers.natives);
            spelled.layout.add(&mut total.cells, &mut total.natives, gained);
            spelled.layout.bound(&mut total.natives);
        }
        let mut out = BTreeMap::new();
        all.values().for_each(|(set, numbers)| set.values(numbers, &mut out));
        out
    }

    /// The exemplars of a tenant by the series of their bucket or counter, the greatest over all steps. Those of a native
    /// histogram alone go by its name, one in all.
    #[must_use]
    pub fn exemplars(&self, tenant: &str) -> BTreeMap<Series, Exemplar> {
        let mut out: BTreeMap<Series, Exemplar> = BTreeMap::new();
        for (_, spelled, sum) in self.steps().filter(|(_, s, _)| s.tenant == tenant) {
            for &(cell, candidate) in &sum.exemplars {
                let Some(series) = spelled.series_of(cell as usize) else { continue };
                let best = out.entry(series).or_insert(candidate);
                *best = candidate.max(*best);
            }
        }
        out
    }
}

// === impl Sum ===

impl Sum {
    /// Adds numbers of layout `from` to this one, which has layout `to`.
    fn add(&mut self, to: &Layout, from: &Layout, gained: (&[u64], &Natives), exemplars: &[(u32, Exemplar)]) {
        to.add_from(&mut self.numbers.cells, &mut self.numbers.natives, from, gained);
        for &(cell, candidate) in exemplars {
            if let Some(cell) = to.move_example(from, cell, &candidate) {
                exemplar::offer(&mut self.exemplars, cell, candidate);
            }
        }
    }
}

// === impl Spelled ===

impl Spelled {
    fn series(&self, name: String) -> Series {
        Series { name, labels: self.labels.clone() }
    }

    fn values(&self, numbers: &Numbers, out: &mut BTreeMap<Series, f64>) {
        let (layout, cells) = (&self.layout, &numbers.cells);
        for c in 0..layout.family().counters().len() {
            if let Some(value) = layout.counter_value(cells, c) {
                out.insert(self.series(layout.counter_name(c)), value);
            }
        }
        for h in (0..layout.family().histograms().len()).filter(|&h| layout.shape(h).is_some()) {
            let name = layout.histogram_name(h);
            let count = layout.count_of(cells, &numbers.natives, h);
            if count == 0 {
                continue;
            }
            out.insert(self.series(format!("{name}_count")), layout.count_value(count));
            out.insert(self.series(format!("{name}_sum")), layout.sum_value(cells, h));
            let mut below = 0u128;
            for (i, le) in layout.les(h).enumerate() {
                below = below.wrapping_add(layout.bucket_of(cells, h, i));
                if below > 0 {
                    out.insert(self.series(format!("{name}_bucket")).with("le", le), layout.count_value(below));
                }
            }
            let Some(total) = numbers.natives.get(h).filter(|_| layout.native(h).is_some()) else { continue };
            let zero = (total.zero() > 0).then(|| ("zero".to_owned(), total.zero()));
            for (bucket, count) in zero.into_iter().chain(total.buckets().map(|(i, n)| (i.to_string(), n))) {
                let native = self.series(name.clone()).with("native", total.schema().to_string());
                out.insert(native.with("bucket", bucket), layout.count_value(count));
            }
        }
    }

    /// The series of a cell with an exemplar.
    fn series_of(&self, cell: usize) -> Option<Series> {
        let layout = &self.layout;
        match layout.owner(cell)? {
            Owner::Counter(c) => Some(self.series(layout.counter_name(c))),
            Owner::Histogram(h) if layout.buckets(h) == 0 => Some(self.series(layout.histogram_name(h))),
            Owner::Histogram(h) => {
                let i = (0..layout.buckets(h)).find(|&i| layout.bucket_cell(h, i) == cell)?;
                let le = layout.les(h).nth(i)?;
                Some(self.series(format!("{}_bucket", layout.histogram_name(h))).with("le", le))
            }
        }
    }
}

// === impl Series ===

impl Series {
    /// Adds a label.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        let at = self.labels.partition_point(|(n, _)| n.as_str() < name);
        self.labels.insert(at, (name.to_owned(), value.into()));
        self
    }
}

impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{{", self.name)?;
        for (i, (name, value)) in self.labels.iter().enumerate() {
            write!(f, "{}{name}={value:?}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("}")
    }
}
