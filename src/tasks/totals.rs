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

    /// The values of a tenant's series over all steps, by their spelling ([`series_key`]). As a receiver would see them,
    /// with one exception: what has never grown (a bucket, a failure) is left out.
    #[must_use]
    pub fn values(&self, tenant: &str) -> BTreeMap<String, f64> {
        let mut all: BTreeMap<SetName, Vec<u64>> = BTreeMap::new();
        for ((_, name), sum) in &self.sums {
            let Some(spelled) = self.names.get(name).filter(|s| s.tenant == tenant) else { continue };
            let total = all.entry(*name).or_insert_with(|| vec![0; sum.cells.len()]);
            spelled.layout.add(total, &sum.cells);
        }
        let mut out = BTreeMap::new();
        for (name, cells) in all {
            values_of(&self.names[&name], &cells, &mut out);
        }
        out
    }

    /// The exemplars of a tenant, by the spelling of their bucket's series; the greatest over all steps.
    #[must_use]
    pub fn exemplars(&self, tenant: &str) -> BTreeMap<String, Exemplar> {
        let mut out: BTreeMap<String, Exemplar> = BTreeMap::new();
        for (_, spelled, sum) in self.steps().filter(|(_, s, _)| s.tenant == tenant) {
            for &(cell, candidate) in &sum.exemplars {
                let Some(key) = bucket_key(spelled, usize::from(cell)) else { continue };
                let best = out.entry(key).or_insert(candidate);
                *best = candidate.max(*best);
            }
        }
        out
    }
}

/// How a series is spelled: `name{a="x", b="y"}`, with the labels sorted by name.
#[must_use]
pub fn series_key(name: &str, labels: &[(String, String)]) -> String {
    let mut labels: Vec<_> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
    labels.sort();
    format!("{name}{{{}}}", labels.join(", "))
}

fn with_le(labels: &[(String, String)], le: &str) -> Vec<(String, String)> {
    labels.iter().cloned().chain([("le".to_owned(), le.to_owned())]).collect()
}

fn values_of(set: &Spelled, cells: &[u64], out: &mut BTreeMap<String, f64>) {
    let family = set.layout.family();
    for (name, &value) in family.counters().iter().zip(cells).filter(|&(_, &value)| value > 0) {
        out.insert(series_key(name, &set.labels), value as f64);
    }
    for (h, name) in family.histograms().iter().enumerate() {
        let first = set.layout.histogram(h);
        let mut count = 0;
        for (i, le) in les(&set.layout, h).enumerate() {
            count += cells[first + i];
            if count > 0 {
                out.insert(series_key(&format!("{name}_bucket"), &with_le(&set.labels, &le)), count as f64);
            }
        }
        if count > 0 {
            out.insert(series_key(&format!("{name}_count"), &set.labels), count as f64);
            let seconds = set.layout.sum_of(cells, h) as f64 / 1e9;
            out.insert(series_key(&format!("{name}_sum"), &set.labels), seconds);
        }
    }
}

fn bucket_key(set: &Spelled, cell: usize) -> Option<String> {
    set.layout.family().histograms().iter().enumerate().find_map(|(h, name)| {
        let le = les(&set.layout, h).nth(cell.checked_sub(set.layout.histogram(h))?)?;
        Some(series_key(&format!("{name}_bucket"), &with_le(&set.labels, &le)))
    })
}

/// The values of `le` of one histogram, in the order of its cells.
fn les(layout: &Layout, h: usize) -> impl Iterator<Item = String> {
    layout.bounds(h).iter().map(|&ns| (ns as f64 / 1e9).to_string()).chain(["+Inf".to_owned()])
}
