//! OTLP metrics: the body of an export request, made of the same samples in remote write 1.0.
//!
//! *In:* [`Request`]s. *Out:* an `ExportMetricsServiceRequest` as protobuf. *Owner:* the sender, for an endpoint that takes
//! OTLP. *Never:* another value, or another point: what waits is encoded again for each attempt, to the same bytes. *Next:*
//! the sender.
//!
//! Temporality is cumulative. A counter is a monotonic sum, a gauge a gauge, and the series of a classic histogram, which
//! stand next to one another, are one data point with explicit bounds. A native histogram is an exponential one: bucket
//! `i` of ours ends where bucket `i - 1` of OTLP does. A zero before a first value is when counting began, so it is the
//! start time of the point and no point of its own. A stale marker is a point without a recorded value. Labels are
//! attributes of points; names stay as they are, and a unit is given only where the name ends with it already, so that a
//! receiver that appends units to names appends nothing.
//!
//! OTLP counts observations in whole numbers. Where sampling gives them weights, each bucket is rounded down, and the count
//! is the sum of the buckets; the sum of the observations stays what it is.

mod histogram;
mod point;
mod regroup;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::core::model::labels;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_u64};

use super::Request;
use super::decode;
use super::metadata::{Description, Descriptions, MetricKind, describe};
use super::request::{EXEMPLAR_TAG, HISTOGRAM_TAG, SAMPLE_TAG, SERIES_TAG};
use super::separate::labels_of;
use super::start_times::StartTimes;

use histogram::{Classic, Part};
use point::{Sample, put_native, put_number};

pub use regroup::{regroup, split};

/// The `Content-Type` of a request over HTTP.
pub const CONTENT_TYPE: &str = "application/x-protobuf";
/// The path of the service in gRPC.
pub const GRPC_PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// The name of the instrumentation scope.
pub const SCOPE: &str = "spanmill";

/// Tags of messages on the way to a metric.
const RESOURCE_METRICS: u8 = 0x0a;
const RESOURCE: u8 = 0x0a;
const SCOPE_METRICS: u8 = 0x12;
const SCOPE_FIELD: u8 = 0x0a;
const SCOPE_NAME: u8 = 0x0a;
const METRIC: u8 = 0x12;
/// Tags of a metric, and of the data in it.
const NAME: u8 = 0x0a;
const DESCRIPTION: u8 = 0x12;
const UNIT: u8 = 0x1a;
const GAUGE: u8 = 0x2a;
const SUM: u8 = 0x3a;
const HISTOGRAM: u8 = 0x4a;
const EXPONENTIAL: u8 = 0x52;
const TEMPORALITY: [u8; 2] = [0x10, 2];
const MONOTONIC: [u8; 2] = [0x18, 1];
/// The tag of data points in each kind of data.
const POINT: u8 = 0x0a;
/// The tags of attributes in a resource, and of a key and a value in them.
const RESOURCE_ATTRIBUTE: u8 = 0x0a;
const KEY: u8 = 0x0a;
const VALUE: u8 = 0x12;
const TEXT: u8 = 0x0a;

/// The kind of a metric's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Data {
    Gauge,
    Sum,
    Classic,
    Native,
}

/// The points of one metric so far.
struct Metric<'a> {
    name: &'a str,
    data: Data,
    points: Vec<u8>,
}

/// The metrics of a request, in the order of their first series.
#[derive(Default)]
struct Metrics<'a> {
    all: Vec<Metric<'a>>,
    places: HashMap<(&'a str, Data), usize, foldhash::fast::FixedState>,
}

/// One series as it stands in a request.
struct Series<'a> {
    name: &'a str,
    /// The labels but the name, ascending.
    labels: Vec<(&'a str, &'a str)>,
    samples: Vec<Sample>,
    histograms: Vec<&'a [u8]>,
    exemplars: Vec<&'a [u8]>,
    /// When counting began; 0 when that is not known.
    start: i64,
}

/// The body that holds all samples of a request. `resource` are the attributes of the resource, `own` what the metrics of
/// users are about.
///
/// # Errors
/// When the request was not written by this program.
pub fn body(request: &Request, resource: &[(String, String)], own: &Descriptions) -> Result<Bytes, Malformed> {
    let raw = snap::raw::Decoder::new().decompress_vec(&request.body).map_err(|_| Malformed("not a snappy block"))?;
    let mut starts = request.starts.iter().flat_map(StartTimes::iter);
    let (mut metrics, mut open, mut r) = (Metrics::default(), None::<Classic<'_>>, Reader::new(&raw));
    while !r.is_empty() {
        if r.u64()? != SERIES_TAG {
            return Err(Malformed("a request holds nothing but series"));
        }
        let series = Series::read(r.bytes()?, starts.next().unwrap_or(0))?;
        if series.histograms.is_empty()
            && let Some(part) = Part::of(series.name, &series.labels)
        {
            if open.as_ref().is_some_and(|open| !open.takes(&part, &series)) {
                open.take().map_or(Ok(()), |done| done.put(&mut metrics))?;
            }
            open.get_or_insert_with(|| Classic::new(&part, &series)).add(&part, series);
            continue;
        }
        open.take().map_or(Ok(()), |done| done.put(&mut metrics))?;
        metrics.series(&series, own)?;
    }
    open.map_or(Ok(()), |done| done.put(&mut metrics))?;
    Ok(metrics.finish(resource, own).into())
}

// === impl Series ===

impl<'a> Series<'a> {
    fn read(entry: &'a [u8], start: i64) -> Result<Self, Malformed> {
        let own = labels_of(entry);
        let (mut name, mut labels) = ("", Vec::new());
        for (label, value) in labels::iter(own) {
            if label == "__name__" { name = value } else { labels.push((label, value)) }
        }
        let (mut samples, mut histograms, mut exemplars) = (Vec::new(), Vec::new(), Vec::new());
        let mut r = Reader::new(entry.get(own.len()..).unwrap_or_default());
        while !r.is_empty() {
            match (r.u64()?, r.bytes()?) {
                (SAMPLE_TAG, sample) => samples.push(Sample::read(sample)?),
                (HISTOGRAM_TAG, histogram) => histograms.push(histogram),
                (EXEMPLAR_TAG, exemplar) => exemplars.push(exemplar),
                _ => return Err(Malformed("unknown part of a series")),
            }
        }
        Ok(Self { name, labels, samples, histograms, exemplars, start })
    }
}

// === impl Metrics ===

impl<'a> Metrics<'a> {
    /// Where the points of a metric go.
    fn points(&mut self, name: &'a str, data: Data) -> &mut Vec<u8> {
        let next = self.all.len();
        let at = *self.places.entry((name, data)).or_insert(next);
        if at == next {
            self.all.push(Metric { name, data, points: Vec::new() });
        }
        &mut self.all[at].points
    }

    /// Appends the points of a series that is a metric of its own.
    fn series(&mut self, series: &Series<'a>, own: &Descriptions) -> Result<(), Malformed> {
        let attributes = &series.labels;
        if !series.histograms.is_empty() {
            let points = self.points(series.name, Data::Native);
            return put_native(points, attributes, &series.histograms, &series.exemplars, series.start);
        }
        let data = match describe(series.name, false, own).kind {
            MetricKind::Gauge => Data::Gauge,
            MetricKind::Counter | MetricKind::Histogram => Data::Sum,
        };
        let points = self.points(series.name, data);
        put_number(points, attributes, &series.samples, &series.exemplars, (data == Data::Sum).then_some(series.start))
    }

    fn finish(&self, resource: &[(String, String)], own: &Descriptions) -> Vec<u8> {
        let (mut in_scope, mut metric) = (Vec::new(), Vec::new());
        let mut scope = vec![SCOPE_NAME];
        put_bytes(&mut scope, SCOPE.as_bytes());
        put_field(&mut in_scope, SCOPE_FIELD, &scope);
        for one in &self.all {
            one.write(&mut metric, own);
            put_field(&mut in_scope, METRIC, &metric);
        }
        let mut in_resource = Vec::with_capacity(in_scope.len() + 128);
        if !resource.is_empty() {
            let mut attributes = Vec::new();
            resource.iter().for_each(|(key, value)| put_attribute(&mut attributes, RESOURCE_ATTRIBUTE, key, value));
            put_field(&mut in_resource, RESOURCE, &attributes);
        }
        put_field(&mut in_resource, SCOPE_METRICS, &in_scope);
        let mut out = Vec::with_capacity(in_resource.len() + 8);
        put_field(&mut out, RESOURCE_METRICS, &in_resource);
        out
    }
}

// === impl Metric ===

impl Metric<'_> {
    fn write(&self, out: &mut Vec<u8>, own: &Descriptions) {
        out.clear();
        let Description { help, unit, .. } = describe(self.name, self.data == Data::Native, own);
        // Of a classic histogram, the name is that of the family, which its parts describe.
        let part;
        let (help, unit) = if self.data == Data::Classic {
            part = format!("{}_sum", self.name);
            let Description { help, unit, .. } = describe(&part, false, own);
            (help, unit)
        } else {
            (help, unit)
        };
        for (tag, text) in [(NAME, self.name), (DESCRIPTION, help), (UNIT, ucum(self.name, unit))] {
            if !text.is_empty() {
                put_field(out, tag, text.as_bytes());
            }
        }
        let (tag, rest): (u8, &[&[u8]]) = match self.data {
            Data::Gauge => (GAUGE, &[]),
            Data::Sum => (SUM, &[&TEMPORALITY, &MONOTONIC]),
            Data::Classic => (HISTOGRAM, &[&TEMPORALITY]),
            Data::Native => (EXPONENTIAL, &[&TEMPORALITY]),
        };
        out.push(tag);
        put_u64(out, (self.points.len() + rest.iter().map(|field| field.len()).sum::<usize>()) as u64);
        out.extend_from_slice(&self.points);
        rest.iter().for_each(|field| out.extend_from_slice(field));
    }
}

/// The unit in UCUM, if the name ends with it already.
fn ucum(name: &str, unit: &str) -> &'static str {
    let stem = name.strip_suffix("_total").unwrap_or(name);
    [("seconds", "s"), ("milliseconds", "ms"), ("bytes", "By")]
        .into_iter()
        .find(|(word, _)| *word == unit && stem.strip_suffix(word).is_some_and(|head| head.ends_with('_')))
        .map_or("", |(_, code)| code)
}

fn put_field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_bytes(out, bytes);
}

/// Appends a `KeyValue` with a text as a field.
fn put_attribute(out: &mut Vec<u8>, tag: u8, key: &str, value: &str) {
    use crate::core::model::wire::varint_len;
    let field = |len: usize| 1 + varint_len(len as u64) + len;
    let text = field(value.len());
    out.push(tag);
    put_u64(out, (field(key.len()) + field(text)) as u64);
    put_field(out, KEY, key.as_bytes());
    out.push(VALUE);
    put_u64(out, text as u64);
    put_field(out, TEXT, value.as_bytes());
}

fn put_attributes(out: &mut Vec<u8>, tag: u8, labels: &[(&str, &str)]) {
    labels.iter().for_each(|(key, value)| put_attribute(out, tag, key, value));
}

fn is_stale(value: f64) -> bool {
    decode::is_stale(value)
}
