//! OTLP metrics as the samples that they were in remote write, by way of the messages of `opentelemetry-proto`.
#![allow(clippy::panic, reason = "tests and their helpers fail by panicking")]
#![allow(dead_code, reason = "not every binary of tests needs all of it")]

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, NumberDataPoint,
};
use spanmill::core::remotewrite::decode::proto::{Label, TimeSeries, WriteRequest};
use spanmill::core::remotewrite::decode::{self, Native};

/// By series and time: the value, and when counting began.
pub(crate) type Flat = BTreeMap<(String, i64), (String, i64)>;
/// Value, time and trace ID of exemplars.
pub(crate) type Exemplars = BTreeSet<(u64, i64, String)>;

const CUMULATIVE: i32 = 2;
const STALE: &str = "stale";

/// The samples of a request in remote write, without zeros that only say when counting began. `is_gauge` knows names.
pub(crate) fn of_remote_write(
    request: &WriteRequest,
    starts: &[i64],
    is_gauge: impl Fn(&str) -> bool,
) -> (Flat, Exemplars) {
    let (mut flat, mut exemplars) = (Flat::new(), Exemplars::new());
    for (at, series) in request.timeseries.iter().enumerate() {
        let gauge = is_gauge(&series.labels.iter().find(|l| l.name == "__name__").expect("a name").value);
        let known = starts.get(at).copied().unwrap_or(0);
        let all = values(series);
        let (rest, start) = match &all[..] {
            [(at, zero), rest @ ..] if !rest.is_empty() && !gauge && is_zero(zero) => (rest.to_vec(), *at),
            _ if gauge => (all, 0),
            _ => (all, known),
        };
        for (at, value) in rest {
            flat.insert((decode::text(&series.labels), at), (value, start));
        }
        for exemplar in &series.exemplars {
            exemplars.insert((exemplar.value.to_bits(), exemplar.timestamp, exemplar.labels[0].value.clone()));
        }
    }
    (flat, exemplars)
}

fn values(series: &TimeSeries) -> Vec<(i64, String)> {
    let floats = series.samples.iter().map(|sample| (sample.timestamp, text(sample.value)));
    let natives = series.histograms.iter().map(|histogram| {
        let stale = decode::is_stale(histogram.sum);
        let read = || Native::read(histogram).expect("a legal histogram").to_string();
        (histogram.timestamp, if stale { STALE.to_owned() } else { read() })
    });
    floats.chain(natives).collect()
}

fn is_zero(text: &str) -> bool {
    text == "0" || text.contains(" count 0 ")
}

fn text(value: f64) -> String {
    if decode::is_stale(value) { STALE.to_owned() } else { value.to_string() }
}

/// The same of a request in OTLP.
pub(crate) fn of_otlp(request: &ExportMetricsServiceRequest) -> (Flat, Exemplars) {
    let (mut flat, mut exemplars) = (Flat::new(), Exemplars::new());
    for metric in request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics) {
        let mut out = Out { flat: &mut flat, exemplars: &mut exemplars, name: &metric.name };
        match metric.data.as_ref().expect("data") {
            Data::Gauge(gauge) => gauge.data_points.iter().for_each(|point| out.number(point)),
            Data::Sum(sum) => {
                assert!(sum.is_monotonic && sum.aggregation_temporality == CUMULATIVE, "{}", metric.name);
                sum.data_points.iter().for_each(|point| out.number(point));
            }
            Data::Histogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality, CUMULATIVE, "{}", metric.name);
                histogram.data_points.iter().for_each(|point| out.classic(point));
            }
            Data::ExponentialHistogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality, CUMULATIVE, "{}", metric.name);
                histogram.data_points.iter().for_each(|point| out.native(point));
            }
            Data::Summary(_) => panic!("a summary: {}", metric.name),
        }
    }
    (flat, exemplars)
}

struct Out<'a> {
    flat: &'a mut Flat,
    exemplars: &'a mut Exemplars,
    name: &'a str,
}

impl Out<'_> {
    fn put(&mut self, end: &str, attributes: &[KeyValue], le: Option<String>, times: (u64, u64), value: String) {
        let mut labels: Vec<Label> = attributes.iter().map(label).collect();
        labels.push(Label { name: "__name__".to_owned(), value: format!("{}{end}", self.name) });
        labels.extend(le.map(|value| Label { name: "le".to_owned(), value }));
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        let (start, at) = ((times.0 / 1_000_000) as i64, (times.1 / 1_000_000) as i64);
        let before = self.flat.insert((decode::text(&labels), at), (value, start));
        assert_eq!(before, None, "twice: {}", decode::text(&labels));
    }

    fn exemplars(&mut self, all: &[Exemplar]) {
        use opentelemetry_proto::tonic::metrics::v1::exemplar::Value;
        for e in all {
            let Some(Value::AsDouble(value)) = e.value else { panic!("no value") };
            let trace: String = e.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
            self.exemplars.insert((value.to_bits(), (e.time_unix_nano / 1_000_000) as i64, trace));
        }
    }

    fn number(&mut self, point: &NumberDataPoint) {
        let value = match point.value {
            Some(number_data_point::Value::AsDouble(value)) => value.to_string(),
            None => {
                assert_eq!(point.flags, 1);
                STALE.to_owned()
            }
            other @ Some(_) => panic!("{other:?}"),
        };
        self.put("", &point.attributes, None, (point.start_time_unix_nano, point.time_unix_nano), value);
        self.exemplars(&point.exemplars);
    }

    fn classic(&mut self, point: &HistogramDataPoint) {
        let (times, stale) = ((point.start_time_unix_nano, point.time_unix_nano), point.flags == 1);
        let shown = |value: f64| if stale { STALE.to_owned() } else { value.to_string() };
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
        assert!(stale || point.bucket_counts.len() == point.explicit_bounds.len() + 1);
        let mut below = 0;
        for (n, bound) in point.bucket_counts.iter().zip(point.explicit_bounds.iter().copied().chain([f64::INFINITY])) {
            below += n;
            let le = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            self.put("_bucket", &point.attributes, Some(le), times, shown(below as f64));
        }
        self.put("_count", &point.attributes, None, times, shown(point.count as f64));
        self.put("_sum", &point.attributes, None, times, shown(point.sum.unwrap_or_default()));
        self.exemplars(&point.exemplars);
    }

    fn native(&mut self, point: &ExponentialHistogramDataPoint) {
        let value = if point.flags == 1 {
            STALE.to_owned()
        } else {
            let buckets = point.positive.iter().flat_map(|all| {
                let indices = (all.offset + 1)..;
                indices.zip(all.bucket_counts.iter().map(|n| *n as f64)).filter(|(_, n)| *n > 0.0)
            });
            let (schema, count, zero) = (point.scale, point.count as f64, point.zero_count as f64);
            Native {
                schema,
                count,
                sum: point.sum.unwrap_or_default(),
                zero,
                buckets: buckets.collect(),
                bounds: Vec::new(),
            }
            .to_string()
        };
        self.put("", &point.attributes, None, (point.start_time_unix_nano, point.time_unix_nano), value);
        self.exemplars(&point.exemplars);
    }
}

fn label(attribute: &KeyValue) -> Label {
    let Some(AnyValue { value: Some(Value::StringValue(value)) }) = &attribute.value else { panic!("{attribute:?}") };
    Label { name: attribute.key.clone(), value: value.clone() }
}
