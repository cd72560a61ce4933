//! The samples of one window of time, series by series.
//!
//! A step that was sent again is there twice; equal samples count once, different ones are an error. Windows are
//! collected from the newest to the oldest: the zero that begins a series may lie before the window of its step, and is
//! *carried* to the window that it belongs to, which comes later. So every sample is in the window of its time,
//! whatever the offset.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;

use crate::core::model::Millis;
use crate::core::model::wire::{Malformed, Reader};
use crate::core::remotewrite::decode::proto::{Exemplar, Histogram, Label};
use crate::core::remotewrite::decode::{self, DecodeError};

/// Tags of `WriteRequest.timeseries` and of the fields of `TimeSeries`.
const SERIES_TAG: u64 = 0x0a;
const LABEL_TAG: u64 = 0x0a;
const SAMPLE_TAG: u64 = 0x12;
const EXEMPLAR_TAG: u64 = 0x1a;
const HISTOGRAM_TAG: u64 = 0x22;
/// Tags of the fields of `Sample`.
const VALUE_TAG: u64 = 0x09;
const TIME_TAG: u64 = 0x10;

/// Why samples cannot be collected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// Not a request of spanmill.
    #[error("a request cannot be decoded: {0}")]
    Body(#[from] DecodeError),
    /// Not a request of spanmill.
    #[error("a request cannot be decoded: {0}")]
    Malformed(#[from] Malformed),
    /// Not a request of spanmill.
    #[error("a request cannot be decoded: {0}")]
    Message(#[from] prost::DecodeError),
    /// Two values for one instant.
    #[error(
        "{series} of tenant {tenant:?} has two values at {at}: {first} and {second}; the directory holds two \
         different runs: use one directory per run"
    )]
    Contradiction {
        /// Whose series.
        tenant: String,
        /// The series in text form.
        series: String,
        /// The instant, in milliseconds.
        at: Millis,
        /// One of the values.
        first: String,
        /// The other.
        second: String,
    },
}

/// One series in one window: samples by ascending time, each once.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Its labels by name, `__name__` among them.
    pub labels: Vec<Label>,
    /// Its floats; the marker that ends a series is one of them.
    pub floats: Vec<(Millis, f64)>,
    /// Its native histograms.
    pub histograms: Vec<(Millis, Histogram)>,
    /// Its exemplars.
    pub exemplars: Vec<Exemplar>,
}

/// Collects windows.
#[derive(Debug, Default)]
pub struct Window {
    series: Vec<Series>,
    /// Where a series is in `series`, by tenant and labels in wire form.
    places: BTreeMap<Box<[u8]>, usize>,
    key: Vec<u8>,
    raw: Vec<u8>,
}

/// What a window holds.
#[derive(Debug, Default, PartialEq)]
pub struct Collected {
    /// Its series by tenant, name and labels.
    pub series: Vec<Series>,
    /// Samples that were there more than once.
    pub repeated: u64,
}

// === impl Series ===

impl Series {
    /// The name of the metric.
    #[must_use]
    pub fn name(&self) -> &str {
        self.label("__name__").unwrap_or_default()
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|label| label.name == name).map(|label| label.value.as_str())
    }

    /// The labels without the name of the metric.
    pub fn rest(&self) -> impl Iterator<Item = &Label> {
        self.labels.iter().filter(|label| label.name != "__name__")
    }

    /// Samples in it.
    #[must_use]
    pub fn samples(&self) -> u64 {
        (self.floats.len() + self.histograms.len()) as u64
    }

    fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty() && self.exemplars.is_empty()
    }

    fn new(tenant: &Arc<str>, labels: Vec<Label>) -> Self {
        let tenant = Arc::clone(tenant);
        Self { tenant, labels, floats: Vec::new(), histograms: Vec::new(), exemplars: Vec::new() }
    }

    /// Sorts, and removes duplicates; returns their number.
    fn settle(&mut self) -> Result<u64, WindowError> {
        let before = self.samples();
        self.floats.sort_by_key(|(at, _)| *at);
        self.histograms.sort_by_key(|(at, _)| *at);
        let two = self.floats.windows(2).find(|w| w[0].0 == w[1].0 && w[0].1.to_bits() != w[1].1.to_bits());
        if let Some([(at, a), (_, b)]) = two.and_then(<[_]>::first_chunk) {
            return Err(self.contradiction(*at, a, b));
        }
        let two = self.histograms.windows(2).find(|w| w[0].0 == w[1].0 && !same(&w[0].1, &w[1].1));
        if let Some([(at, a), (_, b)]) = two.and_then(<[_]>::first_chunk) {
            let shown = |h: &Histogram| format!("{:?} sum {}", h.count, h.sum);
            return Err(self.contradiction(*at, &shown(a), &shown(b)));
        }
        self.floats.dedup_by_key(|(at, _)| *at);
        self.histograms.dedup_by_key(|(at, _)| *at);
        self.exemplars.sort_by(|a, b| a.timestamp.cmp(&b.timestamp).then_with(|| a.value.total_cmp(&b.value)));
        self.exemplars.dedup();
        Ok(before - self.samples())
    }

    fn contradiction(&self, at: Millis, a: &dyn std::fmt::Display, b: &dyn std::fmt::Display) -> WindowError {
        let series = decode::text(&self.labels);
        let tenant = self.tenant.to_string();
        WindowError::Contradiction { tenant, series, at, first: a.to_string(), second: b.to_string() }
    }

    /// Splits off what lies before `from`.
    fn split_before(&mut self, from: Millis) -> Self {
        let mut early = Self::new(&self.tenant, Vec::new());
        early.floats = self.floats.extract_if(.., |(at, _)| *at < from).collect();
        early.histograms = self.histograms.extract_if(.., |(at, _)| *at < from).collect();
        early
    }
}

// === impl Window ===

impl Window {
    /// Adds the samples of one request.
    ///
    /// # Errors
    /// When the body is not a request as spanmill writes it.
    pub fn add(&mut self, tenant: &str, body: &[u8]) -> Result<(), WindowError> {
        let size = snap::raw::decompress_len(body).map_err(DecodeError::from)?;
        if size > decode::MAX_DECODED_BYTES {
            return Err(DecodeError::TooLarge(size).into());
        }
        let mut raw = std::mem::take(&mut self.raw);
        raw.resize(size, 0);
        snap::raw::Decoder::new().decompress(body, &mut raw).map_err(DecodeError::from)?;
        let added = self.add_raw(tenant, &raw);
        self.raw = raw;
        added
    }

    /// Adds the samples of a request that is not compressed.
    ///
    /// # Errors
    /// When it is not a request as spanmill writes it.
    pub fn add_raw(&mut self, tenant: &str, raw: &[u8]) -> Result<(), WindowError> {
        let tenant: Arc<str> = tenant.into();
        let mut r = Reader::new(raw);
        while !r.is_empty() {
            if r.u64()? != SERIES_TAG {
                return Err(Malformed("a request holds nothing but series").into());
            }
            self.entry(&tenant, r.bytes()?)?;
        }
        Ok(())
    }

    fn entry(&mut self, tenant: &Arc<str>, bytes: &[u8]) -> Result<(), WindowError> {
        let mut r = Reader::new(bytes);
        // Labels come first and are sorted, so that their bytes name the series.
        while r.rest().first().is_some_and(|tag| u64::from(*tag) == LABEL_TAG) {
            r.u64()?;
            r.bytes()?;
        }
        let place = self.place(tenant, &bytes[..bytes.len() - r.rest().len()])?;
        let series = &mut self.series[place];
        while !r.is_empty() {
            let tag = r.u64()?;
            let field = r.bytes()?;
            match tag {
                SAMPLE_TAG => series.floats.push(sample(field)?),
                HISTOGRAM_TAG => {
                    let histogram = Histogram::decode(field)?;
                    series.histograms.push((histogram.timestamp, histogram));
                }
                EXEMPLAR_TAG => series.exemplars.push(Exemplar::decode(field)?),
                _ => return Err(Malformed("a series with a field that spanmill does not write").into()),
            }
        }
        Ok(())
    }

    fn place(&mut self, tenant: &Arc<str>, labels: &[u8]) -> Result<usize, WindowError> {
        self.key.clear();
        self.key.extend_from_slice(tenant.as_bytes());
        // No byte of UTF-8 is this one.
        self.key.push(0xff);
        self.key.extend_from_slice(labels);
        if let Some(place) = self.places.get(self.key.as_slice()) {
            return Ok(*place);
        }
        let decoded = decode::series(labels)?.labels;
        self.places.insert(self.key.as_slice().into(), self.series.len());
        self.series.push(Series::new(tenant, decoded));
        Ok(self.series.len() - 1)
    }

    /// The newest sample that has not been taken.
    #[must_use]
    pub fn newest(&self) -> Option<Millis> {
        let times = |s: &Series| {
            let floats = s.floats.iter().map(|(at, _)| *at);
            floats.chain(s.histograms.iter().map(|(at, _)| *at)).max()
        };
        self.series.iter().filter_map(times).max()
    }

    /// Takes the samples at `from` or after it. The rest is carried: it stays for the next windows, which are older.
    ///
    /// # Errors
    /// When a series has two values for one instant.
    pub fn take(&mut self, from: Millis) -> Result<Collected, WindowError> {
        let mut taken = Collected::default();
        let mut carried = Self::default();
        let mut places: Vec<(Box<[u8]>, usize)> = std::mem::take(&mut self.places).into_iter().collect();
        places.sort_unstable_by_key(|(_, place)| *place);
        for ((key, _), mut series) in places.into_iter().zip(self.series.drain(..)) {
            let mut early = series.split_before(from);
            if !early.is_empty() {
                early.labels.clone_from(&series.labels);
                carried.places.insert(key, carried.series.len());
                carried.series.push(early);
            }
            taken.repeated += series.settle()?;
            if !series.is_empty() {
                taken.series.push(series);
            }
        }
        taken.series.sort_by(|a, b| {
            let names = (&*a.tenant, a.name()).cmp(&(&*b.tenant, b.name()));
            names.then_with(|| a.rest().map(pair).cmp(b.rest().map(pair)))
        });
        *self = carried;
        Ok(taken)
    }
}

impl Collected {
    /// Samples in all series.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.series.iter().map(Series::samples).sum()
    }
}

fn pair(label: &Label) -> (&str, &str) {
    (&label.name, &label.value)
}

fn sample(bytes: &[u8]) -> Result<(Millis, f64), WindowError> {
    let (mut r, mut value, mut at) = (Reader::new(bytes), 0.0, 0);
    while !r.is_empty() {
        match r.u64()? {
            VALUE_TAG => value = f64::from_le_bytes(r.array()?),
            TIME_TAG => at = r.u64()?.cast_signed(),
            _ => return Err(Malformed("a sample with a field that spanmill does not write").into()),
        }
    }
    Ok((at, value))
}

/// Compares bytes, so that equal NaNs are equal.
fn same(a: &Histogram, b: &Histogram) -> bool {
    a.encode_to_vec() == b.encode_to_vec()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::remotewrite::decode::proto::{Sample, TimeSeries, WriteRequest};

    pub(crate) fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
        pairs.iter().map(|(n, v)| Label { name: (*n).to_owned(), value: (*v).to_owned() }).collect()
    }

    pub(crate) fn body(timeseries: Vec<TimeSeries>) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(&WriteRequest { timeseries }.encode_to_vec()).expect("small")
    }

    pub(crate) fn entry(pairs: &[(&str, &str)], samples: &[(Millis, f64)]) -> TimeSeries {
        let samples = samples.iter().map(|&(timestamp, value)| Sample { value, timestamp }).collect();
        TimeSeries { labels: labels(pairs), samples, ..TimeSeries::default() }
    }

    #[test]
    fn a_step_that_was_sent_again_counts_once() {
        let mut window = Window::default();
        let step = body(vec![entry(&[("__name__", "x")], &[(14, 0.0), (15, f64::from_bits(decode::STALE_MARKER))])]);
        window.add("t", &step).expect("legal");
        window.add("t", &step).expect("legal");
        window.add("u", &step).expect("legal");
        let taken = window.take(0).expect("no contradiction");
        assert_eq!((taken.samples(), taken.repeated), (4, 2));
        assert_eq!(taken.series.iter().map(|s| &*s.tenant).collect::<Vec<_>>(), ["t", "u"]);
    }

    #[test]
    fn two_values_for_one_instant_are_an_error_that_names_them() {
        let mut window = Window::default();
        for value in [1.0, 2.0] {
            window.add("t", &body(vec![entry(&[("__name__", "x"), ("a", "b")], &[(15, value)])])).expect("legal");
        }
        let error = window.take(0).expect_err("a contradiction").to_string();
        assert!(error.starts_with(r#"x{a="b"} of tenant "t" has two values at 15: 1 and 2;"#), "{error}");
    }

    #[test]
    fn a_native_histogram_is_counted_once_and_contradicted_like_a_float() {
        let with = |sum| {
            let histogram = Histogram { timestamp: 5, sum, ..Histogram::default() };
            body(vec![TimeSeries { histograms: vec![histogram], ..entry(&[("__name__", "x")], &[]) }])
        };
        let mut window = Window::default();
        window.add("t", &with(f64::NAN)).expect("legal");
        window.add("t", &with(f64::NAN)).expect("legal");
        assert_eq!(window.take(0).expect("the same").repeated, 1);
        window.add("t", &with(1.0)).expect("legal");
        window.add("t", &with(2.0)).expect("legal");
        assert!(matches!(window.take(0), Err(WindowError::Contradiction { at: 5, .. })));
    }

    proptest! {
        #[test]
        fn every_sample_is_in_the_window_of_its_time(
            samples in prop::collection::btree_map((0usize..3, 1i64..100), any::<u32>(), 0..60),
            early in 0i64..40,
        ) {
            const NAMES: [&str; 3] = ["a", "b", "c"];
            let mut window = Window::default();
            let mut out = std::collections::BTreeMap::new();
            for from in [80, 60, 40, 20, 0, -20, -40] {
                // A window's requests hold samples of its time, and some that are older.
                for (&(name, at), &value) in &samples {
                    let step = at + if value % 5 == 0 { early } else { 0 };
                    if (from..from + 20).contains(&step) || (from == 80 && step >= 100) {
                        let entry = entry(&[("__name__", NAMES[name])], &[(at, value.into())]);
                        window.add("t", &body(vec![entry])).expect("legal");
                    }
                }
                for series in window.take(from).expect("no contradiction").series {
                    let name = NAMES.iter().position(|n| *n == series.name()).expect("one of them");
                    for (at, value) in series.floats {
                        prop_assert!(at >= from && (at < from + 20 || from == 80));
                        prop_assert_eq!(out.insert((name, at), value as u32), None);
                    }
                }
            }
            prop_assert_eq!(out, samples);
        }

        #[test]
        fn garbage_is_no_panic(raw in prop::collection::vec(any::<u8>(), 0..100)) {
            let body = snap::raw::Encoder::new().compress_vec(&raw).expect("small");
            drop(Window::default().add("t", &body));
            drop(Window::default().add("t", &raw));
        }
    }
}
