//! A receiver that believes nothing.

use std::collections::BTreeMap;

use super::source::STEP;

/// Between the values of a sample that is contradicted.
pub(crate) const CONTRADICTED: &str = " and also ";

#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) series: BTreeMap<u64, BTreeMap<i64, u64>>,
    /// Samples that were there already.
    pub(crate) resent: usize,
}

impl Sink {
    /// Takes one sample, unless it contradicts what was taken before.
    pub(crate) fn take(&mut self, series: u64, ts: i64, value: u64) -> Result<(), String> {
        let samples = self.series.entry(series).or_default();
        if let Some(&old) = samples.get(&ts) {
            self.resent += 1;
            return if old == value {
                Ok(())
            } else {
                Err(format!("series {series} at {ts}: {old}{CONTRADICTED}{value}"))
            };
        }
        if let Some((&last, &old)) = samples.last_key_value() {
            if ts != last + STEP {
                return Err(format!("series {series}: sample at {ts} after {last}"));
            }
            if value < old {
                return Err(format!("series {series} at {ts}: falls from {old} to {value}"));
            }
        }
        samples.insert(ts, value);
        Ok(())
    }

    /// The first sample that another one has not got.
    pub(crate) fn beyond(&self, other: &Self) -> Option<(u64, i64)> {
        let all = self.series.iter().flat_map(|(&series, samples)| samples.keys().map(move |&ts| (series, ts)));
        all.into_iter().find(|(series, ts)| other.series.get(series).is_none_or(|samples| !samples.contains_key(ts)))
    }

    pub(crate) fn last(&self, series: u64) -> Option<(i64, u64)> {
        self.series.get(&series)?.last_key_value().map(|(&ts, &value)| (ts, value))
    }
}
