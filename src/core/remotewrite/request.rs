//! A request: the unit that is sent, retried, halved and settled.
//!
//! *In:* encoded `timeseries` fields with their counts. *Out:* compressed bodies. *Owner:* the sender.
//! *Never:* re-encoding: a half is a copy of bytes. *Next:* `export`.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::model::Millis;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};

use super::decode;
use super::start_times::StartTimes;

/// Tag of `WriteRequest.timeseries`.
pub(super) const SERIES_TAG: u64 = 0x0a;
/// Tags of `TimeSeries.samples`, `TimeSeries.exemplars` and `TimeSeries.histograms`.
pub(super) const SAMPLE_TAG: u64 = 0x12;
pub(super) const EXEMPLAR_TAG: u64 = 0x1a;
pub(super) const HISTOGRAM_TAG: u64 = 0x22;
/// Added to the number of requests of a stored batch whose requests have start times.
const WITH_STARTS: u64 = 1 << 32;
/// A description is cut to this many characters.
const MAX_DESCRIPTION: usize = 512;

/// One remote-write request: compressed, ready to be sent any number of times. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// A snappy block that holds a `WriteRequest`.
    pub body: Bytes,
    /// Entries in it.
    pub series: u32,
    /// Samples in it; a histogram at one instant is one.
    pub samples: u32,
    /// Exemplars in it.
    pub exemplars: u32,
    /// When each of its series began to count. `None` if that is known for none. Only remote write 2.0 can carry it.
    pub starts: Option<StartTimes>,
}

/// All samples of one shard for one step and one tenant. Fresh and resent samples never share a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepBatch {
    /// The tenant of the series.
    pub tenant: Arc<str>,
    /// Which of the tenant's endpoints it is for; `None` if it has one only, or for all.
    pub endpoint: Option<Arc<str>>,
    /// The step, named by its end.
    pub step: Millis,
    /// Whether the step may have been delivered before, by this task or by its predecessor.
    pub resend: bool,
    /// The requests, sent in this order.
    pub requests: Vec<Request>,
}

/// Compresses one request after the other and keeps its memory: allocating and zeroing a new vector would be a large
/// part of the cost.
#[derive(Debug)]
pub(super) struct Compressor {
    snappy: snap::raw::Encoder,
    out: Vec<u8>,
}

// === impl Compressor ===

impl Compressor {
    pub(super) fn new() -> Self {
        Self { snappy: snap::raw::Encoder::new(), out: Vec::new() }
    }

    /// As [`Request::compress`].
    pub(super) fn compress(&mut self, raw: &[u8], series: u32, samples: u32, exemplars: u32) -> Request {
        // Never shrunk: growing it again would zero all of it.
        self.out.resize(snap::raw::max_compress_len(raw.len()).max(self.out.len()), 0);
        let len = self.snappy.compress(raw, &mut self.out).expect("max_bytes keeps requests far below 4 GiB");
        Request { body: Bytes::copy_from_slice(&self.out[..len]), series, samples, exemplars, starts: None }
    }

    /// Gives the memory back.
    pub(super) fn rest(&mut self) {
        self.out = Vec::new();
    }

    /// The memory that it keeps.
    pub(super) fn bytes(&self) -> usize {
        self.out.capacity()
    }
}

// === impl Request ===

impl Request {
    /// Compresses concatenated `timeseries` fields (each with its tag and length). `encoder` is scratch memory.
    ///
    /// # Panics
    /// Never for requests below 4 GiB, the limit of the snappy format.
    #[must_use]
    pub fn compress(raw: &[u8], series: u32, samples: u32, exemplars: u32, encoder: &mut snap::raw::Encoder) -> Self {
        let body = encoder.compress_vec(raw).expect("max_bytes keeps requests far below 4 GiB");
        Self { body: body.into(), series, samples, exemplars, starts: None }
    }

    /// Two halves, cut between two series; `None` when only one is left.
    #[must_use]
    pub fn split(&self) -> Option<(Self, Self)> {
        if self.series < 2 {
            return None;
        }
        let raw = snap::raw::Decoder::new().decompress_vec(&self.body).ok()?;
        let entries = entries(&raw).ok()?;
        let middle = entries.len() / 2;
        let cut = entries.get(middle)?.start;
        let mut starts = self.starts.iter().flat_map(StartTimes::iter);
        let mut half = |bytes: &[u8], entries: &[SeriesEntry]| {
            let sum = |f: fn(&SeriesEntry) -> u32| entries.iter().map(f).sum();
            let encoder = &mut snap::raw::Encoder::new();
            let half = Self::compress(bytes, entries.len() as u32, sum(|e| e.samples), sum(|e| e.exemplars), encoder);
            Self { starts: StartTimes::of(starts.by_ref().take(entries.len())), ..half }
        };
        let (first, second) = raw.split_at(cut);
        (cut > 0).then(|| (half(first, &entries[..middle]), half(second, &entries[middle..])))
    }

    /// The labels of the first series, for a log line: bounded in length.
    #[must_use]
    pub fn describe(&self) -> String {
        let first = snap::raw::Decoder::new().decompress_vec(&self.body).ok().and_then(|raw| {
            let mut r = Reader::new(&raw);
            (r.u64() == Ok(SERIES_TAG)).then_some(())?;
            decode::series(r.bytes().ok()?).ok()
        });
        let Some(first) = first else { return "an undecodable series".to_owned() };
        let text = decode::text(&first.labels);
        match text.char_indices().nth(MAX_DESCRIPTION).and_then(|(i, _)| text.get(..i)) {
            Some(head) => format!("{head}..."),
            None => text,
        }
    }
}

// === impl StepBatch ===

impl StepBatch {
    /// Batches as bytes, to be kept until their receiver is back.
    #[must_use]
    pub fn encode_all<'a>(batches: impl Iterator<Item = &'a Self>) -> Vec<u8> {
        let mut out = Vec::new();
        batches.for_each(|batch| batch.encode(&mut out));
        out
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.tenant.as_bytes());
        put_i64(out, self.step);
        let has_starts = self.requests.iter().any(|request| request.starts.is_some());
        put_u64(out, self.requests.len() as u64 | if has_starts { WITH_STARTS } else { 0 });
        for request in &self.requests {
            put_bytes(out, &request.body);
            for count in [request.series, request.samples, request.exemplars] {
                put_u64(out, count.into());
            }
            match &request.starts {
                Some(starts) => starts.encode(out),
                // No run.
                None if has_starts => put_u64(out, 0),
                None => {}
            }
        }
    }

    /// As [`StepBatch::encode_all`], with the endpoint of each batch. Batches of the same step and tenant that follow each
    /// other have the same requests, which are stored once.
    #[must_use]
    pub fn encode_apart<'a>(batches: impl Iterator<Item = &'a Self>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut batches = batches.peekable();
        while let Some(first) = batches.next() {
            let mut names: Vec<&str> = first.endpoint.iter().map(|name| &**name).collect();
            let same = |other: &&Self| (other.step, &other.tenant) == (first.step, &first.tenant);
            while let Some(other) = batches.next_if(same) {
                names.extend(other.endpoint.as_deref());
            }
            put_u64(&mut out, names.len() as u64);
            names.iter().for_each(|name| put_bytes(&mut out, name.as_bytes()));
            first.encode(&mut out);
        }
        out
    }

    /// Reads what [`StepBatch::encode_apart`] wrote.
    ///
    /// # Errors
    /// When the bytes are not that.
    pub fn decode_apart(bytes: &[u8]) -> Result<Vec<Self>, Malformed> {
        let (mut r, mut batches) = (Reader::new(bytes), Vec::new());
        while !r.is_empty() {
            let mut names: Vec<Arc<str>> = Vec::new();
            for _ in 0..r.u64()? {
                names.push(r.str()?.into());
            }
            let batch = Self::decode(&mut r)?;
            batches.extend(names.into_iter().map(|name| Self { endpoint: Some(name), ..batch.clone() }));
        }
        Ok(batches)
    }

    /// Reads what [`StepBatch::encode_all`] wrote. Whether the batches were delivered is not known any more.
    ///
    /// # Errors
    /// When the bytes are not that.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, Malformed> {
        let (mut r, mut batches) = (Reader::new(bytes), Vec::new());
        while !r.is_empty() {
            batches.push(Self::decode(&mut r)?);
        }
        Ok(batches)
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (tenant, step, mut requests) = (r.str()?.into(), r.i64()?, Vec::new());
        let count = r.u64()?;
        for _ in 0..count & !WITH_STARTS {
            let body = Bytes::copy_from_slice(r.bytes()?);
            let [series, samples, exemplars] = [r.uint()?, r.uint()?, r.uint()?];
            let starts = if count & WITH_STARTS == 0 { None } else { StartTimes::of(StartTimes::decode(r)?.iter()) };
            requests.push(Request { body, series, samples, exemplars, starts });
        }
        Ok(Self { tenant, endpoint: None, step, resend: true, requests })
    }

    /// The bytes of all requests.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.requests.iter().map(|request| request.body.len()).sum()
    }

    /// Samples in all requests.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.requests.iter().map(|r| u64::from(r.samples)).sum()
    }
}

/// One `timeseries` field inside a raw request.
struct SeriesEntry {
    start: usize,
    samples: u32,
    exemplars: u32,
}

fn entries(raw: &[u8]) -> Result<Vec<SeriesEntry>, Malformed> {
    let mut r = Reader::new(raw);
    let mut out = Vec::new();
    while !r.is_empty() {
        let start = raw.len() - r.rest().len();
        if r.u64()? != SERIES_TAG {
            return Err(Malformed("a request holds nothing but series"));
        }
        let mut inner = Reader::new(r.bytes()?);
        let mut entry = SeriesEntry { start, samples: 0, exemplars: 0 };
        while !inner.is_empty() {
            match inner.u64()? {
                SAMPLE_TAG | HISTOGRAM_TAG => entry.samples += 1,
                EXEMPLAR_TAG => entry.exemplars += 1,
                tag if tag & 7 == 2 => {}
                _ => return Err(Malformed("a series holds nothing but messages")),
            }
            inner.bytes()?;
        }
        out.push(entry);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::decode::proto::{Exemplar, Histogram, Label, Sample, TimeSeries, WriteRequest};
    use super::*;

    fn series(i: u32) -> TimeSeries {
        let label = |n: &str, v: String| Label { name: n.to_owned(), value: v };
        TimeSeries {
            labels: vec![label("__name__", "calls_total".to_owned()), label("service", format!("s{i}"))],
            samples: (0..=i % 2).map(|k| Sample { value: f64::from(i), timestamp: i64::from(1 + k) }).collect(),
            exemplars: (0..i % 3)
                .map(|_| Exemplar { labels: vec![label("traceID", "ab".to_owned())], value: 1.0, timestamp: 5 })
                .collect(),
            histograms: (0..i % 4 / 3).map(|_| Histogram { timestamp: 7, sum: 0.5, ..Histogram::default() }).collect(),
        }
    }

    fn request(n: u32) -> (WriteRequest, Request) {
        let message = WriteRequest { timeseries: (0..n).map(series).collect() };
        let samples = message.timeseries.iter().map(|t| (t.samples.len() + t.histograms.len()) as u32).sum();
        let exemplars = message.timeseries.iter().map(|t| t.exemplars.len() as u32).sum();
        let encoder = &mut snap::raw::Encoder::new();
        let request = Request::compress(&message.encode_to_vec(), n, samples, exemplars, encoder);
        (message, request)
    }

    #[test]
    fn what_is_compressed_can_be_decoded() {
        let (message, request) = request(5);
        assert_eq!(decode::body(&request.body).expect("our own body"), message);
    }

    #[test]
    fn batches_survive_the_round_trip_and_are_resent_afterwards() {
        let batch = |tenant: &str, n| StepBatch {
            tenant: tenant.into(),
            endpoint: None,
            step: 15_000,
            resend: true,
            requests: (1..=n).map(|n| request(n).1).collect(),
        };
        let mut batches = vec![batch("a", 2), batch("b", 0)];
        batches[0].requests[1].starts = StartTimes::of([0, 7]);
        let bytes = StepBatch::encode_all(batches.iter());
        assert_eq!(StepBatch::decode_all(&bytes), Ok(batches.clone()));
        assert!(StepBatch::decode_all(&bytes[..bytes.len() - 1]).is_err());
        let at = |name: &str, batch: &StepBatch| StepBatch { endpoint: Some(name.into()), ..batch.clone() };
        let [a, b] = &batches[..] else { panic!("two") };
        let apart = vec![at("x", a), at("y", a), at("y", b)];
        let both = StepBatch::encode_apart(apart.iter());
        assert_eq!(StepBatch::decode_apart(&both), Ok(apart));
        let names = "x".len() + 1 + 2 * ("y".len() + 1) + 2;
        assert_eq!(both.len(), bytes.len() + names, "the requests of two endpoints are stored once");
        assert!(StepBatch::decode_apart(&both[..both.len() - 1]).is_err());
    }

    #[test]
    fn the_halves_are_the_whole_in_order() {
        for n in 2..9 {
            let (message, whole) = request(n);
            let (a, b) = whole.split().expect("two series or more");
            let (da, db) = (decode::body(&a.body).expect("half"), decode::body(&b.body).expect("half"));
            assert_eq!((da.timeseries.len() as u32, db.timeseries.len() as u32), (a.series, b.series));
            assert_eq!([da.timeseries, db.timeseries].concat(), message.timeseries);
            assert_eq!(a.samples + b.samples, whole.samples);
            assert_eq!(a.exemplars + b.exemplars, whole.exemplars);
        }
    }

    #[test]
    fn a_half_knows_when_its_series_began() {
        let whole = Request { starts: StartTimes::of([0, 7, 0, 9, 11]), ..request(5).1 };
        let (a, b) = whole.split().expect("two series or more");
        assert_eq!((a.starts, b.starts), (StartTimes::of([0, 7]), StartTimes::of([0, 9, 11])));
        let (a, b) = request(5).1.split().expect("two series or more");
        assert_eq!((a.starts, b.starts), (None, None));
    }

    #[test]
    fn one_series_cannot_be_halved_and_names_itself() {
        let (_, one) = request(1);
        assert!(one.split().is_none());
        assert_eq!(one.describe(), r#"calls_total{service="s0"}"#);
    }

    #[test]
    fn a_description_is_bounded() {
        let label = Label { name: "__name__".to_owned(), value: "\u{e4}".repeat(10_000) };
        let one = WriteRequest { timeseries: vec![TimeSeries { labels: vec![label], ..TimeSeries::default() }] };
        let encoder = &mut snap::raw::Encoder::new();
        let request = Request::compress(&one.encode_to_vec(), 1, 0, 0, encoder);
        assert_eq!(request.describe().chars().count(), MAX_DESCRIPTION + 3);
    }

    #[test]
    fn a_body_that_is_not_ours_is_neither_halved_nor_described() {
        let odd = Request { body: Bytes::from_static(b"\x03abc"), series: 2, samples: 2, exemplars: 0, starts: None };
        assert!(odd.split().is_none());
        assert_eq!(odd.describe(), "an undecodable series");
    }
}
