//! OTLP metrics: every sample of remote write is in them, with its value, its time and its start, as other code reads them.
#![allow(clippy::panic, reason = "tests and their helpers fail by panicking")]

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use proptest::prelude::*;
use prost::Message;
use spanmill::core::model::Exemplar;
use spanmill::core::model::labels::{LabelBuilder, cuts};
use spanmill::core::remotewrite::encode::{Point, STALE, SeriesLabels, SeriesWriter, le_label, name_label};
use spanmill::core::remotewrite::metadata::Descriptions;
use spanmill::core::remotewrite::native::NativeValue;
use spanmill::core::remotewrite::{Request, StartTimes, decode, otlp};

use crate::otlp_metrics_as_samples::{of_otlp, of_remote_write};

const AT: i64 = 1_700_000_015_000;
const BOUNDS: [u64; 4] = [2_000_000, 100_000_000, 1_000_000_000, 12_800_000_000];

/// One label set with all its series, as a shard writes them.
#[derive(Debug, Clone)]
struct Set {
    labels: Vec<(String, String)>,
    calls: u32,
    /// By bucket, the last without bound.
    counts: [u32; 5],
    sum: f64,
    native: Vec<(i32, u32)>,
    zero: u32,
    schema: i8,
    begins: bool,
    ends: bool,
    with_classic: bool,
    /// A bound that is gone: its series ends alone.
    gone: bool,
    exemplar: Option<[u8; 16]>,
}

fn set() -> impl Strategy<Value = Set> {
    let label = ("[a-z][a-z_]{0,6}", "[a-z\u{e4}0-9 ]{1,8}");
    let native = proptest::collection::btree_map(-60i32..60, 1u32..1_000, 0..6);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), proptest::option::of(any::<[u8; 16]>()));
    let numbers = (0u32..9_999, any::<[u16; 5]>(), 0.0..1e6, native, 0u32..5, -4i8..=8);
    (proptest::collection::btree_map(label.0, label.1, 0..4), numbers, flags).prop_map(|(labels, numbers, flags)| {
        let (calls, counts, sum, native, zero, schema) = numbers;
        let (begins, ends, with_classic, gone, exemplar) = flags;
        Set {
            labels: labels.into_iter().collect(),
            calls,
            counts: counts.map(u32::from),
            sum,
            native: native.into_iter().collect(),
            zero,
            schema,
            begins,
            ends: ends && !begins,
            with_classic,
            gone,
            exemplar,
        }
    })
}

fn write(writer: &mut SeriesWriter, set: &Set) {
    let mut own = LabelBuilder::default();
    set.labels.iter().for_each(|(name, value)| own.set(name, value));
    let block = own.block();
    let cuts = cuts(&block);
    let exemplar = set.exemplar.map(|trace_id| Exemplar { at: AT - 500, trace_id, value_ns: 1_500_000 });
    let start = set.begins.then_some((AT - 1_000, 0.0));
    let push = |writer: &mut SeriesWriter, name: &str, le: &[u8], value: f64, told: bool| {
        let labels = SeriesLabels { block: &block, cuts, name: &name_label(name), le };
        let start = start.filter(|_| name != "traces_target_info");
        let value = if set.ends { STALE } else { value };
        let point = Point { start: start.filter(|_| !set.ends), at: AT, value };
        writer.push(&labels, point, exemplar.as_ref().filter(|_| told && !set.ends));
    };
    push(writer, "traces_spanmetrics_calls_total", &[], set.calls.into(), false);
    push(writer, "traces_target_info", &[], 1.0, false);
    if set.with_classic {
        let count: u32 = set.counts.iter().sum();
        if set.gone && !set.begins {
            let le = le_label(Some(500_000_000));
            let labels =
                SeriesLabels { block: &block, cuts, name: &name_label("traces_spanmetrics_latency_bucket"), le: &le };
            writer.push(&labels, Point { start: None, at: AT, value: STALE }, None);
        }
        let mut float = |name: &str, le: &[u8], value: f64, told: bool| push(writer, name, le, value, told);
        float("traces_spanmetrics_latency_sum", &[], set.sum, false);
        float("traces_spanmetrics_latency_count", &[], count.into(), false);
        let mut below = 0.0;
        for (n, bound) in set.counts.iter().zip(BOUNDS.iter().map(|b| Some(*b)).chain([None])) {
            below += f64::from(*n);
            float("traces_spanmetrics_latency_bucket", &le_label(bound), below, bound.is_none());
        }
    }
    let buckets: Vec<(i32, u128)> = set.native.iter().map(|(i, n)| (*i, u128::from(*n))).collect();
    let value =
        NativeValue { schema: set.schema, weighted: false, zero: set.zero.into(), sum: set.sum, buckets: &buckets };
    let labels = SeriesLabels { block: &block, cuts, name: &name_label("traces_spanmetrics_latency"), le: &[] };
    let empty = value.emptied();
    let before = set.begins.then_some((AT - 1_000, &empty));
    writer.push_native(&labels, AT, before, (!set.ends).then_some(&value), &[]);
}

fn written(sets: &[Set], max_samples: usize) -> Vec<Request> {
    let mut writer = SeriesWriter::new(max_samples, 1 << 20, "trace_id");
    sets.iter().for_each(|set| write(&mut writer, set));
    writer.finish()
}

fn decoded(request: &Request) -> ExportMetricsServiceRequest {
    let resource = [("service.name".to_owned(), "spanmill".to_owned())];
    let body = otlp::body(request, &resource, &Descriptions::default()).expect("our own request");
    ExportMetricsServiceRequest::decode(body).expect("a message of OTLP")
}

/// Sets of different labels: a sample is there once.
fn different(mut sets: Vec<Set>) -> Vec<Set> {
    for (at, set) in sets.iter_mut().enumerate() {
        set.labels.retain(|(name, _)| name != "number");
        set.labels.push(("number".to_owned(), at.to_string()));
    }
    sets
}

proptest! {
    #[test]
    fn every_sample_of_remote_write_is_in_otlp_once(
        sets in proptest::collection::vec(set(), 1..6),
        max in 1usize..40,
        starts in any::<bool>(),
    ) {
        let sets = different(sets);
        let requests = written(&sets, max);
        let regrouped = otlp::regroup(&requests);
        prop_assert_eq!(
            regrouped.iter().map(|r| r.samples).sum::<u32>(), requests.iter().map(|r| r.samples).sum::<u32>()
        );
        prop_assert_eq!(otlp::regroup(&regrouped), regrouped.clone(), "once is enough");
        let all = |requests: &[Request]| -> Vec<_> {
            let bodies = requests.iter().map(|r| decode::body(&r.body).expect("a request"));
            // Bytes, because a stale marker is a number that is not equal to itself.
            bodies.flat_map(|b| b.timeseries).map(|series| series.encode_to_vec()).collect()
        };
        prop_assert_eq!(all(&requests), all(&regrouped));
        for request in regrouped {
            let known = if starts { (0..request.series).map(|_| AT - 60_000).collect() } else { Vec::new() };
            let request = Request { starts: StartTimes::of(known.iter().copied()), ..request };
            let body = decode::body(&request.body).expect("a request");
            let expected = of_remote_write(&body, &known, |name| name == "traces_target_info");
            let mut got = of_otlp(&decoded(&request));
            // The point that ends a classic histogram is one, whatever buckets it had.
            let ended = |key: &(String, i64)| key.0.contains("_bucket{");
            let (mut flat, exemplars) = expected;
            flat.retain(|key, (value, _)| !(value == "stale" && ended(key)));
            got.0.retain(|key, (value, _)| !(value == "stale" && ended(key)));
            prop_assert_eq!(&got.0, &flat);
            prop_assert_eq!(&got.1, &exemplars);
            // Halves are the whole, and cut no histogram.
            if let Some((a, b)) = otlp::split(&request) {
                let (mut both, other) = (of_otlp(&decoded(&a)).0, of_otlp(&decoded(&b)).0);
                both.extend(other);
                both.retain(|key, (value, _)| !(value == "stale" && ended(key)));
                prop_assert_eq!(both, flat);
                prop_assert_eq!(a.samples + b.samples, request.samples);
            }
        }
    }

    #[test]
    fn any_bytes_are_an_error_and_not_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let request = Request::compress(&bytes, 1, 1, 0, &mut snap::raw::Encoder::new());
        drop(otlp::body(&request, &[], &Descriptions::default()));
        drop(otlp::split(&request));
        prop_assert_eq!(otlp::regroup(std::slice::from_ref(&request)), vec![request]);
    }
}

/// One label set with one histogram, as `write` pushes it.
fn only(write: impl FnOnce(&mut SeriesWriter, &[u8])) -> ExportMetricsServiceRequest {
    let block = LabelBuilder::default().block();
    let mut writer = SeriesWriter::new(100, 1 << 20, "trace_id");
    write(&mut writer, &block);
    decoded(&writer.finish()[0])
}

fn data(request: &ExportMetricsServiceRequest) -> &Data {
    request.resource_metrics[0].scope_metrics[0].metrics[0].data.as_ref().expect("data")
}

#[test]
fn weights_are_rounded_down_bucket_by_bucket_and_the_count_is_their_sum() {
    let request = only(|writer, block| {
        let mut push = |name: &str, le: &[u8], value: f64| {
            let labels = SeriesLabels { block, cuts: cuts(block), name: &name_label(name), le };
            writer.push(&labels, Point { start: None, at: AT, value }, None);
        };
        push("latency_sum", &[], 12.25);
        push("latency_count", &[], 8.1);
        push("latency_bucket", &le_label(Some(1_000_000_000)), 2.5);
        push("latency_bucket", &le_label(Some(2_000_000_000)), 5.4);
        push("latency_bucket", &le_label(None), 8.1);
    });
    let Data::Histogram(histogram) = data(&request) else { panic!("a histogram") };
    let point = &histogram.data_points[0];
    assert_eq!((&point.bucket_counts[..], &point.explicit_bounds[..]), (&[2, 2, 2][..], &[1.0, 2.0][..]));
    assert_eq!((point.count, point.sum), (6, Some(12.25)));
}

#[test]
fn a_native_histogram_of_extreme_values_has_a_bounded_number_of_buckets_and_every_observation() {
    let request = only(|writer, block| {
        let labels = SeriesLabels { block, cuts: cuts(block), name: &name_label("cost"), le: &[] };
        let buckets = [(-40_000, 3), (-39_999, 1), (40_000, 5)];
        let value = NativeValue { schema: 8, weighted: false, zero: 2, sum: 1.0, buckets: &buckets };
        writer.push_native(&labels, AT, None, Some(&value), &[]);
    });
    let Data::ExponentialHistogram(histogram) = data(&request) else { panic!("a histogram") };
    let point = &histogram.data_points[0];
    let positive = point.positive.as_ref().expect("buckets");
    assert!(positive.bucket_counts.len() <= 16_384);
    assert_eq!((point.scale, point.count, point.zero_count), (5, 11, 2));
    // `-40_000 / 8` and `40_000 / 8`, each one less in OTLP.
    assert_eq!((positive.offset, positive.bucket_counts[0]), (-5_001, 3));
    assert_eq!((positive.bucket_counts[1], positive.bucket_counts.last()), (1, Some(&5)));
}
