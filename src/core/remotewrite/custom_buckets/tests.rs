use proptest::prelude::*;
use prost::Message as _;

use super::super::decode::proto::{self, Exemplar, Label, Sample, TimeSeries, WriteRequest};
use super::super::decode::{self, Native};
use super::super::encode::STALE;
use super::super::start_times::StartTimes;
use super::*;
use crate::core::model::{Family, Layout, Naming, Spec, Unit};

fn series(name: &str, le: Option<&str>, value: f64, at: Millis) -> TimeSeries {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let mut labels = vec![label("A", "b"), label("__name__", name), label("service", "s")];
    labels.extend(le.map(|le| label("le", le)));
    labels.sort_by(|a, b| a.name.cmp(&b.name));
    TimeSeries { labels, samples: vec![Sample { value, timestamp: at }], ..TimeSeries::default() }
}

/// The series of a classic histogram, with the counts that are not above each bound and the count of all.
fn histogram(base: &str, bounds: &[(&str, f64)], count: f64, sum: f64, at: Millis) -> Vec<TimeSeries> {
    let buckets = bounds.iter().copied().chain([("+Inf", count)]);
    let named = |ending: &str| format!("{base}_{ending}");
    let mut all = vec![series(&named("sum"), None, sum, at), series(&named("count"), None, count, at)];
    all.extend(buckets.map(|(le, n)| series(&named("bucket"), Some(le), n, at)));
    all
}

fn request(timeseries: &[TimeSeries], start: Millis) -> Request {
    let n = timeseries.len() as u32;
    let samples = timeseries.iter().map(|t| (t.samples.len() + t.histograms.len()) as u32).sum();
    let exemplars = timeseries.iter().map(|t| t.exemplars.len() as u32).sum();
    let raw = WriteRequest { timeseries: timeseries.to_vec() }.encode_to_vec();
    let starts = StartTimes::of(timeseries.iter().map(|_| start));
    Request { starts, ..Request::compress(&raw, n, samples, exemplars, &mut snap::raw::Encoder::new()) }
}

fn read(request: &Request) -> Vec<TimeSeries> {
    let all = decode::body(&request.body).expect("our own body").timeseries;
    let samples: usize = all.iter().map(|t| t.samples.len() + t.histograms.len()).sum();
    let exemplars: usize = all.iter().map(|t| t.exemplars.len()).sum();
    assert_eq!((all.len(), samples, exemplars), {
        let Request { series, samples, exemplars, .. } = request;
        (*series as usize, *samples as usize, *exemplars as usize)
    });
    all
}

/// All that becomes of requests, and how many samples were merged.
fn converted(requests: &[Request]) -> (Vec<TimeSeries>, u64) {
    let mut custom = CustomBuckets::default();
    let mut out = Vec::new();
    for request in requests {
        out.extend(custom.convert(request).expect("our own request"));
    }
    out.extend(custom.finish());
    (out.iter().flat_map(read).collect(), custom.converted())
}

fn native(series: &TimeSeries) -> String {
    Native::read(&series.histograms[0]).expect("legal").to_string()
}

#[test]
fn the_series_of_a_histogram_become_one_and_others_stay() {
    let mut all = vec![series("calls_total", None, 7.0, 15)];
    all.extend(histogram("latency", &[("0.1", 2.0), ("0.25", 2.0), ("1", 6.0)], 7.0, 3.5, 15));
    all.push(series("bytes_sum", None, 9.0, 15));
    all.push(series("up", None, 1.0, 15));
    let (out, merged) = converted(&[request(&all, 14)]);
    let names: Vec<String> = out.iter().map(|series| decode::text(&series.labels)).collect();
    assert_eq!(names[..2], [r#"calls_total{A="b",service="s"}"#, r#"latency{A="b",service="s"}"#]);
    assert_eq!(names[2..], [r#"bytes_sum{A="b",service="s"}"#, r#"up{A="b",service="s"}"#]);
    assert_eq!(native(&out[1]), "schema -53 count 7 sum 3.5 zero 0 [0] 2 [2] 4 [3] 1 bounds [0.1, 0.25, 1.0]");
    assert_eq!((out[1].histograms[0].timestamp, merged), (15, 5));
    assert!(matches!(out[1].histograms[0].count, Some(proto::histogram::Count::CountInt(7))));
}

#[test]
fn a_histogram_that_is_cut_by_the_size_of_requests_is_whole_and_starts_go_with_it() {
    let mut all = histogram("latency", &[("0.1", 1.0), ("1", 2.0)], 3.0, 1.0, 15);
    all.push(series("up", None, 1.0, 15));
    for cut in 0..all.len() {
        let (first, second) = all.split_at(cut);
        let mut custom = CustomBuckets::default();
        let mut out = Vec::new();
        for part in [request(first, 7), request(second, 7)] {
            out.extend(custom.convert(&part).expect("ours"));
        }
        out.extend(custom.finish());
        let starts: Vec<Millis> = out.iter().filter_map(|r| r.starts.as_ref()).flat_map(StartTimes::iter).collect();
        assert_eq!((starts, custom.converted()), (vec![7, 7], 4), "cut at {cut}");
        assert_eq!(native(&read(&out[0])[0]), "schema -53 count 3 sum 1 zero 0 [0] 1 [1] 1 [2] 1 bounds [0.1, 1.0]");
    }
}

#[test]
fn markers_end_the_native_histogram_and_single_buckets_are_dropped() {
    let ended = histogram("latency", &[("0.1", STALE)], STALE, STALE, 15);
    let (out, merged) = converted(&[request(&ended, 0)]);
    assert!(decode::is_stale(out[0].histograms[0].sum) && out[0].histograms[0].custom_values == [0.1]);
    assert_eq!((out.len(), merged), (1, 3));
    // A bound that is gone, one that is new, and the histogram behind them.
    let mut changed = vec![series("latency_bucket", Some("0.1"), STALE, 15)];
    changed.extend(histogram("latency", &[("0.2", 1.0)], 1.0, 1.0, 15));
    let (out, merged) = converted(&[request(&changed, 0)]);
    assert_eq!((out.len(), merged), (1, 4));
    assert_eq!(native(&out[0]), "schema -53 count 1 sum 1 zero 0 [0] 1 bounds [0.2]");
    assert_eq!(converted(&[request(&[series("latency_bucket", Some("0.2"), 0.0, 14)], 0)]), (Vec::new(), 1));
}

#[test]
fn what_only_looks_like_a_histogram_stays_as_it_is() {
    let whole = histogram("latency", &[("0.1", 1.0)], 3.0, 1.0, 15);
    let mut other_labels = whole.clone();
    other_labels[1].labels.retain(|label| label.name != "service");
    let mut falls = whole.clone();
    falls[2].samples[0].value = 4.0;
    let mut later = whole.clone();
    later[1].samples[0].timestamp = 16;
    let mut two = whole.clone();
    two[0].samples.push(Sample { value: 1.0, timestamp: 16 });
    for odd in [other_labels, falls, later, two] {
        let (out, _) = converted(&[request(&odd[..2], 0)]);
        assert_eq!(out, odd[..2]);
    }
    let not_shortest = histogram("latency", &[("0.10", 1.0)], 3.0, 1.0, 15);
    assert_eq!(converted(&[request(&not_shortest[..2], 0)]).0, not_shortest[..2]);
}

#[test]
fn counts_with_a_fraction_are_floats() {
    let all = histogram("latency", &[("0.1", 0.5), ("1", 2.0)], 2.25, 1.0, 15);
    let (out, _) = converted(&[request(&all, 0)]);
    assert_eq!(native(&out[0]), "schema -53 count 2.25 sum 1 zero 0 [0] 0.5 [1] 1.5 [2] 0.25 bounds [0.1, 1.0]");
    assert_eq!(out[0].histograms[0].positive_counts, [0.5, 1.5, 0.25]);
}

#[test]
fn every_bound_that_is_written_is_one_whose_text_comes_back() {
    let mut bounds: Vec<u64> =
        (0..19).map(|i| 10u64.pow(i)).chain((0..200).map(|i| 2_000_000 * (i + 1) * (i + 7))).collect();
    bounds.extend((1..60).map(|i| (1u64 << i) + 1));
    bounds.sort_unstable();
    bounds.dedup();
    for unit in [None, Some(Unit::Seconds), Some(Unit::Milliseconds)] {
        let naming = unit.map_or(Naming::Tempo, |unit| Naming::Otel { namespace: "x".to_owned(), unit });
        let layout = Layout::of(&Spec { naming, ..Spec::classic(Family::SpanMetrics, &bounds) });
        for le in layout.les(0).filter(|le| le != "+Inf") {
            // Texts of more than 17 digits are no shortest ones: such a histogram stays classic.
            if le.len() < 17 {
                assert_eq!(le.parse::<f64>().expect("a number").to_string(), le);
            }
        }
    }
}

proptest! {
    #[test]
    fn the_way_back_gives_the_classic_series_bit_for_bit(
        counts in prop::collection::vec(0u32..9, 1..20),
        (sum, stale, with_zero) in (0.0..1e9f64, any::<bool>(), any::<bool>()),
        exemplars in prop::collection::btree_map(1i64..1_000, 0.0..30.0f64, 0..5),
    ) {
        let les: Vec<String> = (0..counts.len() - 1).map(|i| (i as f64 + 0.5).to_string()).collect();
        let value = |at: Millis, counts: &[u32], sum: f64| {
            let mut below = 0.0;
            let buckets: Vec<(&str, f64)> = les.iter().zip(counts).map(|(le, n)| {
                below += f64::from(*n);
                (le.as_str(), below)
            }).collect();
            let count = counts.iter().map(|n| f64::from(*n)).sum();
            histogram("latency", &buckets, count, sum, at)
        };
        let mut all = if stale {
            let buckets: Vec<(&str, f64)> = les.iter().map(|le| (le.as_str(), STALE)).collect();
            histogram("latency", &buckets, STALE, STALE, 15)
        } else {
            value(15, &counts, sum)
        };
        // One exemplar in each bucket that has any.
        for (at, example) in &exemplars {
            let bucket = 2 + les.partition_point(|le| le.parse::<f64>().expect("a number") < *example);
            let labels = vec![Label { name: "traceID".to_owned(), value: "ab".to_owned() }];
            all[bucket].exemplars = vec![Exemplar { labels, value: *example, timestamp: *at }];
        }
        if with_zero {
            all.extend(value(15, &vec![0; counts.len()], 0.0).into_iter().map(|mut series| {
                series.labels.retain(|label| label.name != "service");
                series
            }));
        }
        all.push(series("up", None, 1.0, 15));
        let whole = request(&all, 7);
        let mut custom = CustomBuckets::default();
        let there = custom.convert(&whole).expect("ours").expect("not empty");
        let back = super::classic(&there).expect("ours").expect("has histograms");
        let bytes = |all: &[TimeSeries]| all.iter().map(prost::Message::encode_to_vec).collect::<Vec<_>>();
        prop_assert_eq!(bytes(&read(&back)), bytes(&all));
        prop_assert_eq!(u64::from(whole.samples), u64::from(there.samples) + custom.converted());
        prop_assert_eq!(back.starts.expect("known").iter().collect::<Vec<_>>(), vec![7; back.series as usize]);
        prop_assert_eq!(super::classic(&whole), Ok(None), "nothing to do");
    }
}
