//! The series of a classic histogram as one data point.

use super::point::{NO_RECORDED_VALUE, Sample, put_exemplar, put_f64, put_fixed, put_number, put_times, whole};
use super::{Data, Metrics, POINT, Series, is_stale, put_attributes, put_field};
use crate::core::model::Millis;
use crate::core::model::wire::Malformed;

/// Tags of `HistogramDataPoint`.
const COUNT: u8 = 0x21;
const SUM: u8 = 0x29;
const COUNTS: u8 = 0x32;
const BOUNDS: u8 = 0x3a;
const EXEMPLAR: u8 = 0x42;
const ATTRIBUTE: u8 = 0x4a;
const FLAGS: u8 = 0x50;

/// Which part of a classic histogram a series is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part<'a> {
    /// The name of the histogram.
    pub(super) family: &'a str,
    of: Of,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Of {
    /// The bucket up to a bound, in ascending order of which they stand.
    Bucket(f64),
    Sum,
    Count,
}

/// The series of one bucket.
struct Bucket<'a> {
    name: &'a str,
    bound: f64,
    /// The bound as it is written.
    le: &'a str,
    samples: Vec<Sample>,
}

/// A histogram while its series come.
pub(super) struct Classic<'a> {
    family: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    buckets: Vec<Bucket<'a>>,
    sum: Option<(&'a str, Vec<Sample>)>,
    count: Option<(&'a str, Vec<Sample>)>,
    exemplars: Vec<&'a [u8]>,
    start: Millis,
    /// Whether its series end: buckets whose bounds are gone end alone, beside a histogram that continues.
    ends: bool,
}

// === impl Part ===

impl<'a> Part<'a> {
    pub(super) fn of(name: &'a str, labels: &[(&str, &str)]) -> Option<Self> {
        if let Some(family) = name.strip_suffix("_bucket") {
            let le = labels.iter().find(|(label, _)| *label == "le")?.1;
            let bound: f64 = if le == "+Inf" { f64::INFINITY } else { le.parse().ok()? };
            return Some(Self { family, of: Of::Bucket(bound) });
        }
        let sum = name.strip_suffix("_sum").map(|family| Self { family, of: Of::Sum });
        sum.or_else(|| Some(Self { family: name.strip_suffix("_count")?, of: Of::Count }))
    }

    /// Whether the series of two labels, apart from the bound of a bucket, are those of one histogram.
    pub(super) fn same(self, labels: &[(&str, &str)], other: Self, others: &[(&str, &str)]) -> bool {
        self.family == other.family && self.rest(labels).eq(other.rest(others))
    }

    fn rest<'l>(self, labels: &'l [(&'l str, &'l str)]) -> impl Iterator<Item = &'l (&'l str, &'l str)> {
        let bucket = matches!(self.of, Of::Bucket(_));
        labels.iter().filter(move |(label, _)| !(bucket && *label == "le"))
    }
}

// === impl Classic ===

impl<'a> Classic<'a> {
    pub(super) fn new(part: &Part<'a>, series: &Series<'a>) -> Self {
        let (labels, ends) = (&series.labels, ends(series));
        let bucket = matches!(part.of, Of::Bucket(_));
        let labels = labels.iter().filter(|(label, _)| !(bucket && *label == "le")).copied().collect();
        let (buckets, exemplars) = (Vec::new(), Vec::new());
        Self { family: part.family, labels, buckets, sum: None, count: None, exemplars, start: 0, ends }
    }

    /// Whether a series belongs to it.
    pub(super) fn takes(&self, part: &Part<'_>, series: &Series<'_>) -> bool {
        let room = match part.of {
            Of::Bucket(bound) => self.buckets.last().is_none_or(|last| last.bound < bound),
            Of::Sum => self.sum.is_none(),
            Of::Count => self.count.is_none(),
        };
        let same = self.family == part.family && part.rest(&series.labels).eq(self.labels.iter());
        same && self.ends == ends(series) && (room || self.ends)
    }

    pub(super) fn add(&mut self, part: &Part<'a>, series: Series<'a>) {
        self.start = self.start.max(series.start);
        self.exemplars.extend(&series.exemplars);
        match part.of {
            Of::Bucket(bound) => {
                let le = series.labels.iter().find(|(label, _)| *label == "le").map_or("", |(_, le)| le);
                self.buckets.push(Bucket { name: series.name, bound, le, samples: series.samples });
            }
            Of::Sum => self.sum = Some((series.name, series.samples)),
            Of::Count => self.count = Some((series.name, series.samples)),
        }
    }

    /// Appends it to the metrics.
    pub(super) fn put(self, metrics: &mut Metrics<'a>) -> Result<(), Malformed> {
        let total = match (&self.count, self.buckets.last()) {
            (Some((_, samples)), _) => samples,
            (None, Some(last)) if last.bound.is_infinite() => &last.samples,
            _ => return self.put_parts(metrics),
        };
        let (total, start) = match &total[..] {
            [zero, rest @ ..] if !rest.is_empty() && zero.value.to_bits() == 0 => (rest, zero.at),
            all => (all, self.start),
        };
        let mut point = Vec::new();
        for (at, count) in total.iter().enumerate() {
            // A bucket that is new has no value before its first one, and the others may have one.
            if at + 1 < total.len() && self.buckets.iter().any(|bucket| value_at(&bucket.samples, count.at).is_none()) {
                continue;
            }
            point.clear();
            put_times(&mut point, start, count.at);
            self.put_value(&mut point, *count);
            if at + 1 == total.len() {
                self.exemplars.iter().try_for_each(|e| put_exemplar(&mut point, EXEMPLAR, e))?;
            }
            put_attributes(&mut point, ATTRIBUTE, &self.labels);
            put_field(metrics.points(self.family, Data::Classic), POINT, &point);
        }
        Ok(())
    }

    fn put_value(&self, point: &mut Vec<u8>, count: Sample) {
        if is_stale(count.value) {
            return point.extend_from_slice(&[FLAGS, NO_RECORDED_VALUE]);
        }
        let (mut bounds, mut counts, mut below, mut all) = (Vec::new(), Vec::new(), 0.0, 0u64);
        let mut put = |upto: f64| {
            let n = whole(upto - below);
            (below, all) = (upto, all.wrapping_add(n));
            counts.extend_from_slice(&n.to_le_bytes());
        };
        for bucket in self.buckets.iter().filter(|bucket| bucket.bound.is_finite()) {
            bounds.extend_from_slice(&bucket.bound.to_le_bytes());
            put(value_at(&bucket.samples, count.at).unwrap_or(0.0));
        }
        put(count.value);
        put_fixed(point, COUNT, all);
        if let Some(sum) = self.sum.as_ref().and_then(|(_, samples)| value_at(samples, count.at)) {
            put_f64(point, SUM, sum);
        }
        // One without buckets has a count and a sum only.
        if !self.buckets.is_empty() {
            put_field(point, COUNTS, &counts);
            if !bounds.is_empty() {
                put_field(point, BOUNDS, &bounds);
            }
        }
    }

    /// Parts that are no histogram, as rules of relabeling may leave: each a sum under its own name.
    fn put_parts(&self, metrics: &mut Metrics<'a>) -> Result<(), Malformed> {
        // The points of the histogram say which bounds there are.
        if self.ends && self.sum.is_none() {
            return Ok(());
        }
        let start = Some(self.start);
        if let Some((name, samples)) = &self.sum {
            put_number(metrics.points(name, Data::Sum), &self.labels, samples, &[], start)?;
        }
        for bucket in &self.buckets {
            let mut labels = self.labels.clone();
            let place = labels.partition_point(|(label, _)| *label < "le");
            labels.insert(place, ("le", bucket.le));
            put_number(metrics.points(bucket.name, Data::Sum), &labels, &bucket.samples, &[], start)?;
        }
        Ok(())
    }
}

/// The value of a series at an instant.
fn value_at(samples: &[Sample], at: Millis) -> Option<f64> {
    samples.iter().find(|sample| sample.at == at).map(|sample| sample.value)
}

fn ends(series: &Series<'_>) -> bool {
    series.samples.last().is_some_and(|sample| is_stale(sample.value))
}
