use super::super::decode::{self, proto};
use super::*;
use crate::core::model::LabelBuilder;
use crate::core::model::labels::cuts;

/// A random number generator that fits on a line: splitmix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Receivers take 128 characters in an exemplar's labels together, each name once, and refuse an exemplar without a sample.
#[test]
fn an_exemplar_has_one_label_of_legal_length_and_never_comes_without_a_sample() {
    let exemplar = Exemplar { at: 5, trace_id: [0xab; 16], value_ns: 7 };
    let (labels, name) = (block_of(&[("service", "a")]), name_label("x_bucket"));
    let mut writer = SeriesWriter::new(100, 1 << 20, &"l".repeat(96));
    let labels = SeriesLabels { block: &labels, cuts: cuts(&labels), name: &name, le: &[] };
    writer.push(&labels, Point { start: Some((9, 0.0)), at: 10, value: 1.0 }, Some(&exemplar));
    let value = NativeValue { schema: 0, weighted: false, zero: 1, sum: 1.0, buckets: &[] };
    writer.push_native(&labels, 10, Some((9, &value)), Some(&value), &[&exemplar]);
    let whole = writer.finish().remove(0);
    let phases = [whole.before_values().expect("two phases"), whole.values().expect("two phases"), whole];
    let told = phases.map(|request| {
        let body = decode::body(&request.body).expect("our own body");
        let of = |series: &proto::TimeSeries| {
            assert!(series.samples.len() + series.histograms.len() > 0);
            for exemplar in &series.exemplars {
                let characters = |l: &proto::Label| l.name.chars().count() + l.value.chars().count();
                assert_eq!(exemplar.labels.len(), 1);
                assert_eq!(exemplar.labels.iter().map(characters).sum::<usize>(), 128);
            }
            series.exemplars.len()
        };
        body.timeseries.iter().map(of).sum::<usize>()
    });
    assert_eq!(told, [0, 2, 2], "none stands before values");
}

/// One series as a person would describe it.
struct Case {
    labels: Vec<(String, String)>,
    metric: String,
    le: Option<Option<u64>>,
    point: Point,
    exemplar: Option<Exemplar>,
}

fn case(rng: &mut Rng) -> Case {
    let names = ["A", "_", "client", "kind", "l", "le_", "lea", "server", "zone", "Zz"];
    let labels = (0..rng.below(6))
        .map(|_| {
            let value = "\u{fc}".repeat(1 + rng.below(120) as usize);
            (names[rng.below(names.len() as u64) as usize].to_owned(), value)
        })
        .collect();
    let at = 1 + rng.below(1 << 42) as i64;
    Case {
        labels,
        metric: format!("metric_{}", rng.below(3)),
        le: (rng.below(2) == 0).then(|| (rng.below(4) > 0).then(|| rng.below(1 << 34))),
        point: Point {
            start: (at > 1 && rng.below(3) == 0).then(|| (at - 1, [0.0, 7.5][rng.below(2) as usize])),
            at,
            value: rng.below(1000) as f64 / 8.0,
        },
        exemplar: (rng.below(3) == 0).then(|| Exemplar {
            at: 1 + rng.below(1 << 42) as i64,
            trace_id: [rng.below(256) as u8; 16],
            value_ns: rng.below(1 << 40),
        }),
    }
}

fn block(case: &Case) -> Vec<u8> {
    let labels: Vec<_> = case.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    block_of(&labels)
}

fn block_of(labels: &[(&str, &str)]) -> Vec<u8> {
    let mut b = LabelBuilder::default();
    for (name, value) in labels {
        b.set(name, value);
    }
    b.block()
}

fn fast(cases: &[Case], max_samples: usize, max_bytes: usize) -> Vec<Request> {
    let mut writer = SeriesWriter::new(max_samples, max_bytes, "traceID");
    for case in cases {
        let block = block(case);
        let (name, le) = (name_label(&case.metric), case.le.map(le_label).unwrap_or_default());
        let labels = SeriesLabels { block: &block, cuts: cuts(&block), name: &name, le: &le };
        writer.push(&labels, case.point, case.exemplar.as_ref());
    }
    writer.finish()
}

/// The slow and obvious way: owned labels, sorted, in messages.
fn naive(case: &Case) -> proto::TimeSeries {
    let mut map: std::collections::BTreeMap<String, String> = case.labels.iter().cloned().collect();
    map.insert("__name__".to_owned(), case.metric.clone());
    if let Some(bound) = case.le {
        map.insert("le".to_owned(), bound.map_or("+Inf".to_owned(), le_text));
    }
    let start = case.point.start.map(|(timestamp, value)| proto::Sample { value, timestamp });
    let value = proto::Sample { value: case.point.value, timestamp: case.point.at };
    let exemplar = case.exemplar.map(|e| proto::Exemplar {
        labels: vec![proto::Label {
            name: "traceID".to_owned(),
            value: e.trace_id.map(|b| format!("{b:02x}")).concat(),
        }],
        value: e.value_ns as f64 / 1e9,
        timestamp: e.at,
    });
    proto::TimeSeries {
        labels: map.into_iter().map(|(name, value)| proto::Label { name, value }).collect(),
        samples: start.into_iter().chain([value]).collect(),
        exemplars: exemplar.into_iter().collect(),
        histograms: Vec::new(),
    }
}

#[test]
fn copying_gives_the_same_messages_as_building_them() {
    for seed in 0..50 {
        let mut rng = Rng(seed);
        let cases: Vec<Case> = (0..40).map(|_| case(&mut rng)).collect();
        let requests = fast(&cases, 1 + seed as usize * 3, 200 + seed as usize * 97);
        let got: Vec<_> = requests.iter().flat_map(|r| decode::body(&r.body).expect("decodes").timeseries).collect();
        assert_eq!(got, cases.iter().map(naive).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn requests_respect_both_limits_and_count_what_they_hold() {
    for seed in 0..50 {
        let mut rng = Rng(seed);
        let cases: Vec<Case> = (0..40).map(|_| case(&mut rng)).collect();
        let (max_samples, max_bytes) = (2 + seed as usize, 500 + seed as usize * 50);
        for request in fast(&cases, max_samples, max_bytes) {
            let series = decode::body(&request.body).expect("decodes").timeseries;
            let samples: usize = series.iter().map(|s| s.samples.len()).sum();
            let exemplars: usize = series.iter().map(|s| s.exemplars.len()).sum();
            assert_eq!(
                (series.len(), samples, exemplars),
                (request.series as usize, request.samples as usize, request.exemplars as usize)
            );
            let bytes = snap::raw::decompress_len(&request.body).expect("snappy");
            assert!(series.len() == 1 || (samples <= max_samples && bytes <= max_bytes));
        }
    }
}

#[test]
fn a_series_larger_than_the_limits_travels_alone() {
    let mut rng = Rng(1);
    let cases: Vec<Case> = (0..5).map(|_| case(&mut rng)).collect();
    let requests = fast(&cases, 1, 1);
    assert_eq!(requests.iter().map(|r| r.series).collect::<Vec<_>>(), [1; 5]);
}

#[test]
fn nothing_pushed_makes_no_request() {
    assert!(SeriesWriter::new(10, 10, "traceID").finish().is_empty());
}

#[test]
fn bounds_are_the_shortest_decimals_without_exponent() {
    for (ns, text) in [
        (2_000_000, "0.002"),
        (1_000_000_000, "1"),
        (12_800_000_000, "12.8"),
        (16_384_000_000, "16.384"),
        (1, "0.000000001"),
        (0, "0"),
        (1_000_000_000_000_000_000, "1000000000"),
    ] {
        assert_eq!(le_text(ns), text);
        assert_eq!(text.parse::<f64>().map(|s| (s * 1e9).round() as u64), Ok(ns));
    }
}

#[test]
fn the_stale_marker_has_its_exact_bits() {
    let mut writer = SeriesWriter::new(10, 1_000, "traceID");
    let labels = SeriesLabels { block: &[], cuts: cuts(&[]), name: &name_label("up"), le: &[] };
    writer.push(&labels, Point { start: None, at: 5, value: STALE }, None);
    let body = decode::body(&writer.finish()[0].body).expect("decodes");
    assert!(decode::is_stale(body.timeseries[0].samples[0].value));
}
