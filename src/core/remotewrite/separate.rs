//! One request without some of its series.
//!
//! *In:* a [`Request`], and what becomes of each of its series. *Out:* the rest, what is omitted, and what travels alone.
//! *Owner:* the sender. *Never:* another order among those that stay. *Next:* the sender, which keeps series in quarantine by
//! their encoded labels.

use crate::core::model::Millis;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_u64};

use super::decode;
use super::request::{EXEMPLAR_TAG, HISTOGRAM_TAG, SAMPLE_TAG, SERIES_TAG};
use super::start_times::StartTimesBuilder;
use super::{Request, StartTimes};

/// Tag of `TimeSeries.labels`.
const LABEL_TAG: u64 = 0x0a;

/// What becomes of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeriesFate {
    /// It stays in the request.
    Stay,
    /// It is not sent.
    LeaveOut,
    /// It travels in a request of its own.
    Alone,
}

/// A request after [`Request::separate`].
#[derive(Debug, PartialEq, Eq)]
pub struct Separated {
    /// The series that stay; `None` when none does.
    pub rest: Option<Request>,
    /// One request for each series that travels alone, in order.
    pub alone: Vec<Request>,
    /// Samples of the series that are omitted.
    pub left_out: u64,
}

/// Entries of a request that is being built.
#[derive(Debug, Default)]
pub(super) struct Entries {
    raw: Vec<u8>,
    series: u32,
    samples: u32,
    exemplars: u32,
    starts: StartTimesBuilder,
}

/// One entry with what it holds.
pub(super) struct Entry<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) samples: u32,
    pub(super) exemplars: u32,
    pub(super) start: Millis,
}

// === impl Request ===

impl Request {
    /// Takes series out of the request, by their encoded labels. `None` when all of them stay, or the request is not one of
    /// ours.
    #[must_use]
    pub fn separate(&self, mut fate: impl FnMut(&[u8]) -> SeriesFate) -> Option<Separated> {
        let raw = snap::raw::Decoder::new().decompress_vec(&self.body).ok()?;
        let entries = entries(&raw, self.starts.as_ref()).ok()?;
        let fates: Vec<SeriesFate> = entries.iter().map(|entry| fate(labels_of(entry.bytes))).collect();
        if fates.iter().all(|fate| *fate == SeriesFate::Stay) {
            return None;
        }
        let (mut rest, mut alone, mut left_out) = (Entries::default(), Vec::new(), 0);
        for (entry, fate) in entries.iter().zip(fates) {
            match fate {
                SeriesFate::Stay => rest.push(entry),
                SeriesFate::LeaveOut => left_out += u64::from(entry.samples),
                SeriesFate::Alone => {
                    let mut own = Entries::default();
                    own.push(entry);
                    alone.extend(own.finish());
                }
            }
        }
        Some(Separated { rest: rest.finish(), alone, left_out })
    }

    /// The encoded labels of the only series; `None` when there are several.
    #[must_use]
    pub fn labels_of_one(&self) -> Option<Box<[u8]>> {
        if self.series != 1 {
            return None;
        }
        let raw = snap::raw::Decoder::new().decompress_vec(&self.body).ok()?;
        let entries = entries(&raw, None).ok()?;
        entries.first().map(|entry| labels_of(entry.bytes).into())
    }
}

/// Encoded labels as people write them; empty when they are none.
#[must_use]
pub fn text_of(labels: &[u8]) -> String {
    // The labels of a series are the beginning of one.
    decode::series(labels).map(|series| decode::text(&series.labels)).unwrap_or_default()
}

/// The labels of an encoded series, which stand first in it.
pub(super) fn labels_of(series: &[u8]) -> &[u8] {
    let mut r = Reader::new(series);
    let mut end = 0;
    while r.u64() == Ok(LABEL_TAG) && r.bytes().is_ok() {
        end = series.len() - r.rest().len();
    }
    series.get(..end).unwrap_or_default()
}

pub(super) fn entries<'a>(raw: &'a [u8], starts: Option<&StartTimes>) -> Result<Vec<Entry<'a>>, Malformed> {
    let (mut r, mut starts, mut out) = (Reader::new(raw), starts.into_iter().flat_map(StartTimes::iter), Vec::new());
    while !r.is_empty() {
        if r.u64()? != SERIES_TAG {
            return Err(Malformed("a request holds nothing but series"));
        }
        let bytes = r.bytes()?;
        let start = starts.next().unwrap_or(0);
        let mut entry = Entry { bytes, samples: 0, exemplars: 0, start };
        let mut inner = Reader::new(bytes);
        while !inner.is_empty() {
            match inner.u64()? {
                SAMPLE_TAG | HISTOGRAM_TAG => entry.samples += 1,
                EXEMPLAR_TAG => entry.exemplars += 1,
                LABEL_TAG => {}
                _ => return Err(Malformed("unknown part of a series")),
            }
            inner.bytes()?;
        }
        out.push(entry);
    }
    Ok(out)
}

// === impl Entries ===

impl Entries {
    pub(super) fn push(&mut self, entry: &Entry<'_>) {
        put_u64(&mut self.raw, SERIES_TAG);
        put_bytes(&mut self.raw, entry.bytes);
        self.series += 1;
        self.samples += entry.samples;
        self.exemplars += entry.exemplars;
        self.starts.push(entry.start);
    }

    /// Appends those of another one.
    pub(super) fn append(&mut self, other: Self) {
        self.raw.extend_from_slice(&other.raw);
        self.series += other.series;
        self.samples += other.samples;
        self.exemplars += other.exemplars;
        self.starts.append(other.starts);
    }

    pub(super) fn samples(&self) -> u32 {
        self.samples
    }

    pub(super) fn finish(self) -> Option<Request> {
        let Self { raw, series, samples, exemplars, mut starts } = self;
        let starts = starts.finish();
        let request = Request::compress(&raw, series, samples, exemplars, &mut snap::raw::Encoder::new());
        (series > 0).then_some(Request { starts, ..request })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::decode::proto::{Exemplar, Label, Sample, TimeSeries, WriteRequest};
    use super::*;

    fn series(i: u32) -> TimeSeries {
        let label = |n: &str, v: String| Label { name: n.to_owned(), value: v };
        TimeSeries {
            labels: vec![label("__name__", "calls_total".to_owned()), label("service", format!("s{i}"))],
            samples: (0..=i % 2).map(|k| Sample { value: f64::from(i), timestamp: i64::from(1 + k) }).collect(),
            exemplars: vec![Exemplar { labels: vec![label("traceID", "ab".to_owned())], value: 1.0, timestamp: 5 }],
            histograms: Vec::new(),
        }
    }

    fn request(of: &[u32]) -> Request {
        let message = WriteRequest { timeseries: of.iter().map(|&i| series(i)).collect() };
        let samples = of.iter().map(|i| 1 + i % 2).sum();
        let n = of.len() as u32;
        Request::compress(&message.encode_to_vec(), n, samples, n, &mut snap::raw::Encoder::new())
    }

    #[test]
    fn series_are_taken_out_by_their_labels_and_the_others_stay_in_order() {
        let whole = Request { starts: StartTimes::of([0, 7, 0, 9]), ..request(&[0, 1, 2, 3]) };
        let separated = whole.separate(|labels| match text_of(labels).as_str() {
            r#"calls_total{service="s1"}"# => SeriesFate::LeaveOut,
            r#"calls_total{service="s3"}"# => SeriesFate::Alone,
            _ => SeriesFate::Stay,
        });
        let alone = vec![Request { starts: StartTimes::of([9]), ..request(&[3]) }];
        assert_eq!(separated, Some(Separated { rest: Some(request(&[0, 2])), alone, left_out: 2 }));
        let none = whole.separate(|_| SeriesFate::LeaveOut);
        assert_eq!(none, Some(Separated { rest: None, alone: Vec::new(), left_out: 6 }));
    }

    #[test]
    fn a_request_whose_series_all_stay_is_not_built_again() {
        assert_eq!(request(&[0, 1]).separate(|_| SeriesFate::Stay), None);
        let odd = Request { body: bytes::Bytes::from_static(b"\x03abc"), ..request(&[0]) };
        assert_eq!((odd.separate(|_| SeriesFate::LeaveOut), odd.labels_of_one()), (None, None));
    }

    #[test]
    fn only_a_series_that_is_alone_has_labels_of_its_own() {
        assert_eq!(request(&[0, 1]).labels_of_one(), None);
        let labels = request(&[1]).labels_of_one().expect("one");
        assert_eq!(text_of(&labels), r#"calls_total{service="s1"}"#);
        let mut seen = Vec::new();
        assert_eq!(
            request(&[1, 2]).separate(|labels| {
                seen.push(Box::from(labels));
                SeriesFate::Stay
            }),
            None
        );
        assert_eq!(seen.first(), Some(&labels), "the same bytes in every request");
    }
}
