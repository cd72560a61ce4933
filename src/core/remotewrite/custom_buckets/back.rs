//! The way back: the classic series of a native histogram with custom buckets, for a receiver that turns out not to take it.

use prost::Message as _;

use super::SCHEMA;
use crate::core::model::wire::Malformed;
use crate::core::remotewrite::decode::proto::{Exemplar, Histogram, Label, Sample, TimeSeries};
use crate::core::remotewrite::decode::{self, Native};

/// The classic series of an encoded one; `None` when it is no histogram with custom buckets.
pub(super) fn series_of(series: &[u8]) -> Result<Option<Vec<TimeSeries>>, Malformed> {
    let series = TimeSeries::decode(series).map_err(|_| Malformed("not a series"))?;
    let Some(last) = series.histograms.last().filter(|last| last.schema == SCHEMA) else { return Ok(None) };
    let bounds = &last.custom_values;
    let mut all = vec![Vec::new(); bounds.len() + 3];
    for histogram in &series.histograms {
        let values = values(histogram, bounds.len())?;
        let timestamp = histogram.timestamp;
        all.iter_mut().zip(values).for_each(|(samples, value)| samples.push(Sample { value, timestamp }));
    }
    let named = |ending: &str, le: Option<String>| {
        let mut labels = series.labels.clone();
        labels.iter_mut().filter(|label| label.name == "__name__").for_each(|label| label.value.push_str(ending));
        labels.extend(le.map(|value| Label { name: "le".to_owned(), value }));
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        labels
    };
    let les = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
    let names =
        [named("_sum", None), named("_count", None)].into_iter().chain(les.map(|le| named("_bucket", Some(le))));
    let with = |(at, (labels, samples)): (usize, (Vec<Label>, Vec<Sample>))| TimeSeries {
        labels,
        samples,
        exemplars: if at < 2 { Vec::new() } else { exemplars_of(&series.exemplars, bounds, at - 2) },
        histograms: Vec::new(),
    };
    Ok(Some(names.zip(all).enumerate().map(with).collect()))
}

/// The sum, the count, and the buckets, the infinite one last.
fn values(histogram: &Histogram, bounds: usize) -> Result<Vec<f64>, Malformed> {
    if decode::is_stale(histogram.sum) {
        return Ok(vec![histogram.sum; bounds + 3]);
    }
    let native = Native::read(histogram).map_err(|_| Malformed("a histogram of this program is legal"))?;
    let mut below = 0.0;
    let cumulative = (0..=bounds).map(|index| {
        below += native.buckets.get(&(index as i32)).copied().unwrap_or(0.0);
        if index == bounds { native.count } else { below }
    });
    Ok([native.sum, native.count].into_iter().chain(cumulative).collect())
}

/// The exemplars of a bucket: those above the bound before it and not above its own.
fn exemplars_of(all: &[Exemplar], bounds: &[f64], bucket: usize) -> Vec<Exemplar> {
    let of = |exemplar: &&Exemplar| bounds.partition_point(|bound| *bound < exemplar.value) == bucket;
    // A classic bucket has one exemplar at a step.
    all.iter().rev().find(of).cloned().into_iter().collect()
}
