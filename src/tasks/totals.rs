//! What shares add up to: all the values that a topic has led to, without a clock, a receiver, or series that end.
//!
//! *In:* the records of the deltas topic. *Out:* sums by step, and values by series. *Owner:* the checks of
//! [`super::cases`], and every test that compares two ways to the same numbers. *Never:* a sample.

use std::collections::BTreeMap;

use crate::deltas::{SetDelta, Share, ShareError};
use crate::model::wire::Malformed;
use crate::model::{Exemplar, Layout, Millis, SetName, exemplar, labels};

/// The sums of all shares that were added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    names: BTreeMap<SetName, Spelled>,
    sums: BTreeMap<(Millis, SetName), Sum>,
}

/// A label set, spelled out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spelled {
    /// The tenant.
    pub tenant: String,
    /// The labels, sorted by name.
    pub labels: Vec<(String, String)>,
    /// What the cells mean.
    pub layout: Layout,
}

/// What one step added to one label set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// The cells of the layout.
    pub cells: Vec<u64>,
    /// The greatest exemplar of each bucket cell, sorted by cell.
    pub exemplars: Vec<(u16, Exemplar)>,
}

/// A series by name and labels. Shown as `name{a="x", b="y"}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// The metric name.
    pub name: String,
    /// The labels, `le` among them, sorted by name.
    pub labels: Vec<(String, String)>,
}

/// A share that does not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TotalsError {
    /// The record is not a share.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// A label set was named before it was spelled out.
    #[error("label set {0:?} is named but was never spelled out")]
    Unspelled(SetName),
}

impl Totals {
    /// Adds one record of the deltas topic.
    ///
    /// # Errors
    /// When it is not a share, or names a label set that no share has spelled out.
    pub fn add(&mut self, record: &[u8]) -> Result<(), TotalsError> {
        let mut share = Share::decode(record)?;
        while let Some(set) = share.next_set()? {
            let layout = share.layouts.get(set.layout).ok_or(ShareError::Malformed(Malformed("unknown layout")))?;
            self.add_set(share.head.step, &set, layout)?;
        }
        Ok(())
    }

    fn add_set(&mut self, step: Millis, set: &SetDelta<'_>, layout: &Layout) -> Result<(), TotalsError> {
        if let Some((tenant, block)) = set.spelled {
            let labels = labels::iter(block).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            self.names.insert(set.name, Spelled { tenant: tenant.to_owned(), labels, layout: layout.clone() });
        } else if !self.names.contains_key(&set.name) {
            return Err(TotalsError::Unspelled(set.name));
        }
        let fresh = || Sum { cells: vec![0; layout.cells()], exemplars: Vec::new() };
        let sum = self.sums.entry((step, set.name)).or_insert_with(fresh);
        let mut delta = vec![0; layout.cells()];
        for cell in &set.cells {
            delta[usize::from(cell.cell)] = cell.value;
        }
        layout.add(&mut sum.cells, &delta);
        for &(cell, candidate) in &set.exemplars {
            exemplar::offer(&mut sum.exemplars, cell, candidate);
        }
        Ok(())
    }

    /// What each step added, ordered by the step's end and the name of the label set.
    pub fn steps(&self) -> impl Iterator<Item = (Millis, &Spelled, &Sum)> {
        self.sums.iter().filter_map(|((step, name), sum)| Some((*step, self.names.get(name)?, sum)))
    }

    /// The values of a tenant's series over all steps. As a receiver would see them, with one exception: what has never
    /// grown (a bucket, a failure) is left out.
    #[must_use]
    pub fn values(&self, tenant: &str) -> BTreeMap<Series, f64> {
        let mut all: BTreeMap<SetName, (&Spelled, Vec<u64>)> = BTreeMap::new();
        for ((_, name), sum) in &self.sums {
            let Some(spelled) = self.names.get(name).filter(|s| s.tenant == tenant) else { continue };
            let (_, total) = all.entry(*name).or_insert_with(|| (spelled, vec![0; sum.cells.len()]));
            spelled.layout.add(total, &sum.cells);
        }
        let mut out = BTreeMap::new();
        all.values().for_each(|(set, cells)| set.values(cells, &mut out));
        out
    }

    /// The exemplars of a tenant by their bucket's series, the greatest over all steps.
    #[must_use]
    pub fn exemplars(&self, tenant: &str) -> BTreeMap<Series, Exemplar> {
        let mut out: BTreeMap<Series, Exemplar> = BTreeMap::new();
        for (_, spelled, sum) in self.steps().filter(|(_, s, _)| s.tenant == tenant) {
            for &(cell, candidate) in &sum.exemplars {
                let Some(series) = spelled.bucket(usize::from(cell)) else { continue };
                let best = out.entry(series).or_insert(candidate);
                *best = candidate.max(*best);
            }
        }
        out
    }
}

// === impl Spelled ===

impl Spelled {
    fn values(&self, cells: &[u64], out: &mut BTreeMap<Series, f64>) {
        let family = self.layout.family();
        let series = |name: String| Series { name, labels: self.labels.clone() };
        for (name, &value) in family.counters().iter().zip(cells).filter(|&(_, &value)| value > 0) {
            out.insert(series((*name).to_owned()), value as f64);
        }
        for (h, name) in family.histograms().iter().enumerate() {
            let first = self.layout.histogram(h);
            let mut count = 0;
            for (i, le) in les(&self.layout, h).enumerate() {
                count += cells[first + i];
                if count > 0 {
                    out.insert(series(format!("{name}_bucket")).with("le", le), count as f64);
                }
            }
            if count > 0 {
                out.insert(series(format!("{name}_count")), count as f64);
                out.insert(series(format!("{name}_sum")), self.layout.sum_of(cells, h) as f64 / 1e9);
            }
        }
    }

    /// The series of a bucket cell.
    fn bucket(&self, cell: usize) -> Option<Series> {
        self.layout.family().histograms().iter().enumerate().find_map(|(h, name)| {
            let le = les(&self.layout, h).nth(cell.checked_sub(self.layout.histogram(h))?)?;
            Some(Series { name: format!("{name}_bucket"), labels: self.labels.clone() }.with("le", le))
        })
    }
}

/// The values of `le` of one histogram, in the order of its cells.
fn les(layout: &Layout, h: usize) -> impl Iterator<Item = String> {
    layout.bounds(h).iter().map(|&ns| (ns as f64 / 1e9).to_string()).chain(["+Inf".to_owned()])
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
