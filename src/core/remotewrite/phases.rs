//! The two phases of a step: the samples before first values, and the values.
//!
//! A series that begins has a sample just before its first value, most often a zero. A step is sent in two phases: all
//! samples that stand before values, and then the values. So the samples that are refused when a step is sent again
//! show how far its sender had got. A sample from before a value is refused as out of order only if a value is there;
//! then the second phase had begun, and the first was settled. A value is refused as out of order only if a later step
//! is there; then this one was settled. In one request with both, one would fail the other: a receiver that has the
//! values refuses such a request as a whole, and its answer does not say whether all of it is stored.

use prost::Message;

use crate::core::model::Millis;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_u64};

use super::decode::proto;
use super::request::{EXEMPLAR_TAG, HISTOGRAM_TAG, SAMPLE_TAG, SERIES_TAG};
use super::{Request, StartTimes};

/// Which samples of each series.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// All but the last.
    Before,
    /// The last, and the exemplars.
    Values,
}

// === impl Request ===

impl Request {
    /// Whether some series have a sample before their value.
    #[must_use]
    pub fn has_two_phases(&self) -> bool {
        self.samples > self.series
    }

    /// The samples before values; `None` if there are none.
    #[must_use]
    pub fn before_values(&self) -> Option<Self> {
        self.phase(Phase::Before).filter(|request| request.series > 0)
    }

    /// The value of each series, and the exemplars; `None` when nothing else is in it, so that it can stay as it is.
    #[must_use]
    pub fn values(&self) -> Option<Self> {
        self.phase(Phase::Values)
    }

    fn phase(&self, phase: Phase) -> Option<Self> {
        if !self.has_two_phases() {
            return None;
        }
        let raw = snap::raw::Decoder::new().decompress_vec(&self.body).ok()?;
        let (mut r, mut out) = (Reader::new(&raw), Vec::with_capacity(raw.len()));
        let mut known = self.starts.iter().flat_map(StartTimes::iter);
        let (mut series, mut samples, mut exemplars, mut starts) = (0, 0, 0, Vec::new());
        while !r.is_empty() {
            if r.u64().ok()? != SERIES_TAG {
                return None;
            }
            let taken = take(r.bytes().ok()?, phase, known.next().unwrap_or(0)).ok()?;
            if taken.samples > 0 {
                put_u64(&mut out, SERIES_TAG);
                put_bytes(&mut out, &taken.bytes);
                (series, samples, exemplars) = (series + 1, samples + taken.samples, exemplars + taken.exemplars);
                starts.push(taken.start);
            }
        }
        let starts = StartTimes::of(starts);
        Some(Self { starts, ..Self::compress(&out, series, samples, exemplars, &mut snap::raw::Encoder::new()) })
    }
}

/// A series with the samples of a phase.
#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    samples: u32,
    exemplars: u32,
    /// When counting began; 0 if that is not known, or not before the samples.
    start: Millis,
}

/// The samples of a series in a phase. `start` is when it began to count, if that is known; where it is not, the time of the
/// zero before the value is.
fn take(series: &[u8], phase: Phase, start: Millis) -> Result<Taken, Malformed> {
    let mut fields = Vec::new();
    let mut r = Reader::new(series);
    while !r.is_empty() {
        fields.push((r.u64()?, r.bytes()?));
    }
    let is_sample = |tag: u64| tag == SAMPLE_TAG || tag == HISTOGRAM_TAG;
    let last = fields.iter().rposition(|(tag, _)| is_sample(*tag));
    let mut taken = Taken { start, ..Taken::default() };
    for (at, (tag, bytes)) in fields.into_iter().enumerate() {
        let wanted = match tag {
            EXEMPLAR_TAG => phase == Phase::Values,
            tag if is_sample(tag) => (Some(at) == last) == (phase == Phase::Values),
            _ => true,
        };
        if wanted {
            taken.samples += u32::from(is_sample(tag));
            taken.exemplars += u32::from(tag == EXEMPLAR_TAG);
            put_u64(&mut taken.bytes, tag);
            put_bytes(&mut taken.bytes, bytes);
        } else if let Some(at) = zero_at(tag, bytes).filter(|_| phase == Phase::Values && start == 0) {
            taken.start = at;
        }
        if wanted && phase == Phase::Before && time_of(tag, bytes).is_some_and(|at| at <= taken.start) {
            // It is the zero at which counting begins.
            taken.start = 0;
        }
    }
    Ok(taken)
}

/// The time of a sample.
fn time_of(tag: u64, bytes: &[u8]) -> Option<Millis> {
    match tag {
        SAMPLE_TAG => proto::Sample::decode(bytes).ok().map(|sample| sample.timestamp),
        HISTOGRAM_TAG => proto::Histogram::decode(bytes).ok().map(|histogram| histogram.timestamp),
        _ => None,
    }
}

/// The time of a sample, if it is a zero: then the series began. Anything else is a value that the series had before.
fn zero_at(tag: u64, bytes: &[u8]) -> Option<Millis> {
    use proto::histogram::Count;
    if tag == HISTOGRAM_TAG {
        let histogram = proto::Histogram::decode(bytes).ok()?;
        let is_zero = matches!(histogram.count, Some(Count::CountInt(0)))
            || matches!(histogram.count, Some(Count::CountFloat(count)) if count == 0.0);
        return is_zero.then_some(histogram.timestamp);
    }
    let sample = proto::Sample::decode(bytes).ok()?;
    (sample.value == 0.0).then_some(sample.timestamp)
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::super::decode::proto::{Exemplar, Histogram, Label, Sample, TimeSeries, WriteRequest};
    use super::*;

    fn series(name: &str, samples: &[i64], histograms: &[i64], exemplars: u32) -> TimeSeries {
        let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
        let exemplar = Exemplar { labels: vec![label("traceID", "ab")], value: 1.0, timestamp: 5 };
        TimeSeries {
            labels: vec![label("__name__", name)],
            samples: samples.iter().map(|&timestamp| Sample { value: timestamp as f64, timestamp }).collect(),
            exemplars: (0..exemplars).map(|_| exemplar.clone()).collect(),
            histograms: histograms.iter().map(|&timestamp| histogram(timestamp)).collect(),
        }
    }

    fn histogram(timestamp: i64) -> Histogram {
        Histogram { count: Some(proto::histogram::Count::CountInt(0)), timestamp, ..Histogram::default() }
    }

    fn request(timeseries: Vec<TimeSeries>) -> Request {
        let samples = timeseries.iter().map(|t| (t.samples.len() + t.histograms.len()) as u32).sum();
        let exemplars = timeseries.iter().map(|t| t.exemplars.len() as u32).sum();
        let n = timeseries.len() as u32;
        let bytes = WriteRequest { timeseries }.encode_to_vec();
        Request::compress(&bytes, n, samples, exemplars, &mut snap::raw::Encoder::new())
    }

    #[test]
    fn what_stands_before_values_and_the_values_are_the_whole() {
        let whole = request(vec![
            series("old", &[10], &[], 1),
            series("new", &[9, 10], &[], 1),
            series("native", &[], &[9, 10], 2),
            series("old_native", &[], &[10], 0),
        ]);
        let before = request(vec![series("new", &[9], &[], 0), series("native", &[], &[9], 0)]);
        let values = request(vec![
            series("old", &[10], &[], 1),
            series("new", &[10], &[], 1),
            series("native", &[], &[10], 2),
            series("old_native", &[], &[10], 0),
        ]);
        let shown = |request: &Request| decode::body(&request.body).expect("our own body");
        let (got_before, got_values) = (whole.before_values().expect("two"), whole.values().expect("two"));
        assert_eq!((shown(&got_before), shown(&got_values)), (shown(&before), shown(&values)));
        let values = Request { starts: got_values.starts.clone(), ..values };
        assert_eq!((got_before, got_values), (before, values));
    }

    #[test]
    fn a_zero_before_a_value_is_when_counting_began_and_a_value_that_is_continued_is_not() {
        let mut continued = series("continued", &[9, 10], &[], 0);
        continued.samples[0].value = 5.0;
        let mut new = series("new", &[9, 10], &[], 0);
        new.samples[0].value = 0.0;
        let whole = vec![series("old", &[10], &[], 1), continued, new, series("native", &[], &[8, 10], 0)];
        let mut whole = request(whole);
        assert_eq!(whole.starts, None);
        let values = whole.values().expect("two phases");
        assert_eq!(values.starts, StartTimes::of([0, 0, 9, 8]));
        assert_eq!(whole.before_values().expect("two phases").starts, None);
        whole = request(vec![series("continued", &[9, 10], &[], 0)]);
        assert_eq!(whole.values().expect("two phases").starts, None, "none began");
    }

    #[test]
    fn a_request_of_values_stays_as_it_is() {
        let values = request(vec![series("old", &[10], &[], 1), series("older", &[10], &[], 0)]);
        assert_eq!((values.before_values(), values.values()), (None, None));
        let odd = Request { samples: 3, body: bytes::Bytes::from_static(b"\x03abc"), ..values };
        assert_eq!((odd.before_values(), odd.values()), (None, None));
    }
}
