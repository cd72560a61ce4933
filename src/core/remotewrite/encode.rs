//! Series to request bodies, by copying.
//!
//! *In:* label blocks with their cuts, one value per series, sometimes a sample before it or an exemplar. *Out:*
//! [`Request`]s below the limits. *Owner:* one series task. *Never:* an allocation per series, a series that is split
//! over two requests, labels out of order. *Next:* `export`.
//!
//! The labels of a series lie ready in wire form; `__name__` and `le` are inserted at the cuts. So writing a series is
//! a handful of copies, about ten times faster than building messages.

use crate::core::model::labels::{Cuts, put_label};
use crate::core::model::wire::{put_u64, varint_len};
use crate::core::model::{Exemplar, Millis};

use super::native::{self, NativeValue};
use super::request::{Compressor, Request};
use super::start_times::StartTimesBuilder;

/// The value that ends a series: a NaN with these bits.
pub const STALE: f64 = f64::from_bits(super::decode::STALE_MARKER);

/// Tags of `WriteRequest.timeseries`, `TimeSeries.samples`, `TimeSeries.exemplars`, `TimeSeries.histograms`.
const SERIES_TAG: u8 = 0x0a;
const SAMPLE_TAG: u8 = 0x12;
const EXEMPLAR_TAG: u8 = 0x1a;
const HISTOGRAM_TAG: u8 = 0x22;
/// Tags of `Sample.value`, `Sample.timestamp`, `Exemplar.value`, `Exemplar.timestamp`.
const SAMPLE_VALUE: u8 = 0x09;
const SAMPLE_TIME: u8 = 0x10;
const EXEMPLAR_VALUE: u8 = 0x11;
const EXEMPLAR_TIME: u8 = 0x18;
/// Characters of a trace ID in hex.
const HEX_LEN: usize = 32;

/// The labels of one series, in the pieces that they are stored in.
#[derive(Debug, Clone, Copy)]
pub struct SeriesLabels<'a> {
    /// The label block.
    pub block: &'a [u8],
    /// Where `__name__` and `le` belong in it.
    pub cuts: Cuts,
    /// The `__name__` label in wire form, see [`name_label`].
    pub name: &'a [u8],
    /// The `le` label in wire form, see [`le_label`]; empty when the series has none.
    pub le: &'a [u8],
}

/// The samples of one series in one step.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// The timestamp and the value of the sample before it, so that the value is an increase.
    pub start: Option<(Millis, f64)>,
    /// The timestamp of the value; positive.
    pub at: Millis,
    /// The value.
    pub value: f64,
}

/// Writes series one after the other and cuts them into requests.
#[derive(Debug)]
pub struct SeriesWriter {
    max_samples: u32,
    max_bytes: usize,
    /// The label of an exemplar in wire form, without the trace ID at its end.
    exemplar_head: Vec<u8>,
    /// The histograms of one series while they are being written.
    native: native::Scratch,
    raw: Vec<u8>,
    series: u32,
    samples: u32,
    exemplars: u32,
    starts: StartTimesBuilder,
    /// When the next series began to count.
    since: Millis,
    compressor: Compressor,
    done: Vec<Request>,
}

// === impl SeriesWriter ===

impl SeriesWriter {
    /// A writer of requests with at most `max_samples` samples and `max_bytes` bytes before compression; a series that
    /// is larger than a limit is sent alone. Exemplars carry their trace ID under `exemplar_label`.
    #[must_use]
    pub fn new(max_samples: usize, max_bytes: usize, exemplar_label: &str) -> Self {
        let mut writer = Self {
            max_samples: 0,
            max_bytes: 0,
            exemplar_head: Vec::new(),
            native: native::Scratch::default(),
            raw: Vec::new(),
            series: 0,
            samples: 0,
            exemplars: 0,
            starts: StartTimesBuilder::default(),
            since: 0,
            compressor: Compressor::new(),
            done: Vec::new(),
        };
        writer.set_limits(max_samples, max_bytes, exemplar_label);
        writer
    }

    /// Applies other limits and another label to what is pushed from now on.
    pub fn set_limits(&mut self, max_samples: usize, max_bytes: usize, exemplar_label: &str) {
        self.max_samples = u32::try_from(max_samples).unwrap_or(u32::MAX);
        self.max_bytes = max_bytes;
        self.exemplar_head.clear();
        put_label(&mut self.exemplar_head, exemplar_label, &"0".repeat(HEX_LEN));
        self.exemplar_head.truncate(self.exemplar_head.len() - HEX_LEN);
    }

    /// The series that is pushed next has counted since then; 0: that is not known.
    pub fn since(&mut self, start: Millis) -> &mut Self {
        self.since = start;
        self
    }

    /// Appends one series.
    pub fn push(&mut self, labels: &SeriesLabels<'_>, point: Point, exemplar: Option<&Exemplar>) {
        let samples = 1 + u32::from(point.start.is_some());
        let values = sample_len(point.at) + point.start.map_or(0, |(at, _)| sample_len(at));
        self.begin(labels, samples, values, exemplar.as_slice());
        let out = &mut self.raw;
        if let Some((at, value)) = point.start {
            put_sample(out, value, at);
        }
        put_sample(out, point.value, point.at);
        if let Some(e) = exemplar {
            put_exemplar(out, &self.exemplar_head, e);
        }
    }

    /// Appends one series of a native histogram: the sample before it, at `at` the value, or the marker that ends the
    /// series. Exemplars come by ascending time.
    pub fn push_native(
        &mut self,
        labels: &SeriesLabels<'_>,
        at: Millis,
        start: Option<(Millis, &NativeValue<'_>)>,
        value: Option<&NativeValue<'_>>,
        exemplars: &[&Exemplar],
    ) {
        let mut histograms = std::mem::take(&mut self.native);
        histograms.clear();
        if let Some((at, value)) = start {
            histograms.put(HISTOGRAM_TAG, at, Some(value));
        }
        histograms.put(HISTOGRAM_TAG, at, value);
        self.begin(labels, histograms.count(), histograms.bytes().len(), exemplars);
        for e in exemplars {
            put_exemplar(&mut self.raw, &self.exemplar_head, e);
        }
        self.raw.extend_from_slice(histograms.bytes());
        self.native = histograms;
    }

    /// Counts a series, cuts before it if need be, and writes its labels. `values` bytes for its samples follow, and its
    /// exemplars.
    fn begin(&mut self, labels: &SeriesLabels<'_>, samples: u32, values: usize, exemplars: &[&Exemplar]) {
        let body = labels.block.len()
            + labels.name.len()
            + labels.le.len()
            + values
            + exemplars.iter().map(|e| self.exemplar_len(e)).sum::<usize>();
        let entry = 1 + varint_len(body as u64) + body;
        if self.samples.saturating_add(samples) > self.max_samples || self.raw.len() + entry > self.max_bytes {
            self.flush();
        }
        let out = &mut self.raw;
        out.push(SERIES_TAG);
        put_u64(out, body as u64);
        let (name, le) = (labels.cuts.name as usize, labels.cuts.le as usize);
        out.extend_from_slice(&labels.block[..name]);
        out.extend_from_slice(labels.name);
        out.extend_from_slice(&labels.block[name..le]);
        out.extend_from_slice(labels.le);
        out.extend_from_slice(&labels.block[le..]);
        self.series += 1;
        self.samples += samples;
        self.exemplars += exemplars.len() as u32;
        self.starts.push(std::mem::take(&mut self.since));
    }

    /// What the writer keeps in memory between two steps.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.raw.capacity() + self.compressor.bytes()
    }

    /// Gives memory back until the next step: a step's worth of text is much for an idle shard.
    pub fn rest(&mut self) {
        self.raw = Vec::new();
        self.compressor.rest();
    }

    /// Takes the requests that hold everything pushed so far, in order.
    pub fn finish(&mut self) -> Vec<Request> {
        self.flush();
        std::mem::take(&mut self.done)
    }

    fn flush(&mut self) {
        if self.series > 0 {
            let counts = (self.series, self.samples, self.exemplars);
            let starts = self.starts.finish();
            let request = self.compressor.compress(&self.raw, counts.0, counts.1, counts.2);
            self.done.push(Request { starts, ..request });
        }
        self.raw.clear();
        (self.series, self.samples, self.exemplars) = (0, 0, 0);
    }

    fn exemplar_len(&self, e: &Exemplar) -> usize {
        let body = exemplar_body(&self.exemplar_head, e);
        1 + varint_len(body as u64) + body
    }
}

/// The `__name__` label of a metric in wire form.
#[must_use]
pub fn name_label(metric: &str) -> Box<[u8]> {
    let mut out = Vec::new();
    put_label(&mut out, "__name__", metric);
    out.into_boxed_slice()
}

/// The `le` label of a bucket in wire form; `None` is the bucket without an upper bound.
#[must_use]
pub fn le_label(bound_ns: Option<u64>) -> Box<[u8]> {
    let mut out = Vec::new();
    put_label(&mut out, "le", &bound_ns.map_or_else(|| "+Inf".to_owned(), le_text));
    out.into_boxed_slice()
}

/// A bound in seconds as Tempo writes it: the shortest decimal, without an exponent (`0.002`, `1`, `12.8`). Made from
/// the integer, so that different bounds never share a text.
#[must_use]
pub fn le_text(bound_ns: u64) -> String {
    let (seconds, ns) = (bound_ns / 1_000_000_000, bound_ns % 1_000_000_000);
    if ns == 0 {
        return seconds.to_string();
    }
    format!("{seconds}.{ns:09}").trim_end_matches('0').to_owned()
}

fn put_sample(out: &mut Vec<u8>, value: f64, at: Millis) {
    out.push(SAMPLE_TAG);
    // A sample has 11 bytes at most besides its value: the length fits one byte.
    out.push(sample_body(at) as u8);
    out.push(SAMPLE_VALUE);
    out.extend_from_slice(&value.to_le_bytes());
    out.push(SAMPLE_TIME);
    put_u64(out, at.cast_unsigned());
}

fn put_exemplar(out: &mut Vec<u8>, head: &[u8], e: &Exemplar) {
    out.push(EXEMPLAR_TAG);
    put_u64(out, exemplar_body(head, e) as u64);
    out.extend_from_slice(head);
    for byte in e.trace_id {
        out.push(hex(byte >> 4));
        out.push(hex(byte & 0xf));
    }
    out.push(EXEMPLAR_VALUE);
    out.extend_from_slice(&(e.value_ns as f64 / 1e9).to_le_bytes());
    out.push(EXEMPLAR_TIME);
    put_u64(out, e.at.cast_unsigned());
}

fn hex(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

fn sample_body(at: Millis) -> usize {
    10 + varint_len(at.cast_unsigned())
}

fn sample_len(at: Millis) -> usize {
    2 + sample_body(at)
}

fn exemplar_body(head: &[u8], e: &Exemplar) -> usize {
    head.len() + HEX_LEN + 10 + varint_len(e.at.cast_unsigned())
}

#[cfg(test)]
mod tests;
