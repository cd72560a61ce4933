use proptest::prelude::*;
use prost::Message;

use super::super::decode::proto::{self, Label, TimeSeries, WriteRequest};
use super::super::decode::{self, proto_v2};
use super::*;

fn none() -> Descriptions {
    Descriptions::default()
}

/// The slow and obvious way.
#[derive(Default)]
struct Naive {
    symbols: Vec<String>,
}

impl Naive {
    fn of(&mut self, text: &str) -> u32 {
        let known = self.symbols.iter().position(|symbol| symbol == text);
        known.unwrap_or_else(|| {
            self.symbols.push(text.to_owned());
            self.symbols.len() - 1
        }) as u32
    }

    fn labels(&mut self, labels: &[Label]) -> Vec<u32> {
        labels.iter().flat_map(|label| [self.of(&label.name), self.of(&label.value)]).collect()
    }

    fn series(&mut self, series: &TimeSeries, start: Millis) -> proto_v2::TimeSeries {
        let labels_refs = self.labels(&series.labels);
        let exemplars = series.exemplars.iter().map(|e| proto_v2::Exemplar {
            labels_refs: self.labels(&e.labels),
            value: e.value,
            timestamp: e.timestamp,
        });
        let exemplars = exemplars.collect();
        let name = series.labels.iter().find(|label| label.name == "__name__").map_or("", |label| &label.value);
        let none = none();
        let said = describe(name, !series.histograms.is_empty(), &none);
        let (help_ref, unit_ref) = (self.of(said.help), self.of(said.unit));
        let samples = series.samples.iter().map(|s| proto_v2::Sample {
            value: s.value,
            timestamp: s.timestamp,
            start_timestamp: start,
        });
        let histograms = series.histograms.iter().map(|h| {
            let same = proto_v2::Histogram::decode(&*h.encode_to_vec()).expect("the same fields");
            proto_v2::Histogram { start_timestamp: start, ..same }
        });
        proto_v2::TimeSeries {
            labels_refs,
            samples: samples.collect(),
            histograms: histograms.collect(),
            exemplars,
            metadata: Some(proto_v2::Metadata { r#type: said.kind as i32, help_ref, unit_ref }),
        }
    }
}

fn naive(message: &WriteRequest, starts: &[Millis]) -> Vec<u8> {
    let mut naive = Naive { symbols: vec![String::new()] };
    let starts = starts.iter().copied().chain(std::iter::repeat(0));
    let timeseries = message.timeseries.iter().zip(starts).map(|(series, start)| naive.series(series, start)).collect();
    proto_v2::Request { symbols: naive.symbols, timeseries }.encode_to_vec()
}

fn request(message: &WriteRequest, starts: Option<Vec<Millis>>) -> Request {
    let n = message.timeseries.len() as u32;
    let raw = message.encode_to_vec();
    Request {
        starts: starts.and_then(StartTimes::of),
        ..Request::compress(&raw, n, n, 0, &mut snap::raw::Encoder::new())
    }
}

fn raw(body: &Bytes) -> Vec<u8> {
    snap::raw::Decoder::new().decompress_vec(body).expect("our own body")
}

fn label(name: &str, value: &str) -> Label {
    Label { name: name.to_owned(), value: value.to_owned() }
}

fn labels() -> impl Strategy<Value = Vec<Label>> {
    let names = ["A", "client", "le", "server", "zone"];
    let metric = prop_oneof!["calls_total", "x_latency_bucket", "x_latency", "up", "server"];
    (metric, prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("server"), Just("\u{fc}")], 0..5)).prop_map(
        move |(metric, values)| {
            let mut labels = vec![label("__name__", &metric)];
            labels.extend(names.iter().zip(values).map(|(name, value)| label(name, value)));
            labels
        },
    )
}

fn series() -> impl Strategy<Value = TimeSeries> {
    let times = || prop::collection::vec(1i64..1 << 44, 0..3);
    let exemplar = (0u32..3, -5.0..5.0f64, 1i64..1 << 44).prop_map(|(n, value, timestamp)| proto::Exemplar {
        labels: (0..n).map(|i| label(&format!("id{i}"), "server")).collect(),
        value,
        timestamp,
    });
    (labels(), times(), any::<bool>(), prop::collection::vec(exemplar, 0..3)).prop_map(
        |(labels, times, native, exemplars)| {
            let (floats, natives) = if native { (Vec::new(), times) } else { (times, Vec::new()) };
            let histogram = |timestamp: i64| proto::Histogram {
                count: Some(proto::histogram::Count::CountInt(timestamp.unsigned_abs())),
                positive_spans: vec![proto::BucketSpan { offset: 1, length: 2 }],
                positive_deltas: vec![1, -1],
                timestamp,
                ..proto::Histogram::default()
            };
            TimeSeries {
                labels,
                samples: floats.iter().map(|&t| proto::Sample { value: t as f64, timestamp: t }).collect(),
                exemplars,
                histograms: natives.into_iter().map(histogram).collect(),
            }
        },
    )
}

proptest! {
    #[test]
    fn the_bytes_are_those_of_a_generated_encoder(
        timeseries in prop::collection::vec(series(), 0..40),
        starts in prop::option::of(prop::collection::vec(prop_oneof![Just(0), 1i64..1 << 44], 40)),
    ) {
        let message = WriteRequest { timeseries };
        let made = body(&request(&message, starts.clone()), Seed::default(), &none()).expect("our own request");
        prop_assert_eq!(raw(&made), naive(&message, &starts.unwrap_or_default()));
    }

    #[test]
    fn what_is_read_back_is_the_request_in_1_0(timeseries in prop::collection::vec(series(), 0..40)) {
        let message = WriteRequest { timeseries };
        let made = body(&request(&message, None), Seed::default(), &none()).expect("our own request");
        let read = decode::v2::request(&made).expect("legal");
        prop_assert_eq!(decode::v2::resolve(&read), Ok(message));
    }
}

#[test]
fn a_probe_is_a_request_without_series() {
    let read = decode::v2::request(&probe()).expect("legal");
    assert_eq!(read, proto_v2::Request { symbols: vec![String::new()], timeseries: Vec::new() });
    let first = decode::body(&probe()).expect("legal in 1.0, too");
    assert_eq!(first, WriteRequest::default(), "and stores nothing there");
}

#[test]
fn what_users_say_about_a_metric_goes_with_its_series() {
    let series = TimeSeries {
        labels: vec![label("__name__", "size_sum")],
        samples: vec![proto::Sample { value: 1.0, timestamp: 5 }],
        ..TimeSeries::default()
    };
    let own = [("size".to_owned(), ("Sizes.".to_owned(), "bytes".to_owned()))].into_iter().collect();
    let request = request(&WriteRequest { timeseries: vec![series] }, None);
    let made = decode::v2::request(&body(&request, Seed::default(), &own).expect("ours")).expect("legal");
    let said = made.timeseries[0].metadata.expect("metadata");
    let text = |at: u32| made.symbols[at as usize].as_str();
    assert_eq!((said.r#type, text(said.help_ref), text(said.unit_ref)), (3, "Sizes.", "bytes"));
}

#[test]
fn a_receiver_of_1_0_finds_nothing_in_a_request_in_2_0() {
    let series = TimeSeries {
        labels: vec![label("__name__", "up")],
        samples: vec![proto::Sample { value: 1.0, timestamp: 5 }],
        ..TimeSeries::default()
    };
    let made =
        body(&request(&WriteRequest { timeseries: vec![series] }, None), Seed::default(), &none()).expect("ours");
    assert_eq!(decode::body(&made).expect("unknown fields are skipped"), WriteRequest::default());
}

#[test]
fn what_is_not_ours_is_an_error_and_not_a_panic() {
    let odd = |raw: &[u8]| {
        let request = Request::compress(raw, 1, 1, 0, &mut snap::raw::Encoder::new());
        body(&request, Seed::default(), &none())
    };
    assert!(odd(&[0x12, 0]).is_err(), "no series");
    assert!(odd(&[0x0a, 2, 0x3a, 0]).is_err(), "an unknown field");
    assert!(odd(&[0x0a, 4, 0x0a, 2, 0x1a, 0]).is_err(), "a label with a third part");
    assert!(odd(&[0x0a, 9, 0x0a]).is_err(), "cut off");
    let garbage = Request { body: Bytes::from_static(b"\x03abc"), ..request(&WriteRequest::default(), None) };
    assert!(body(&garbage, Seed::default(), &none()).is_err());
}
