//! Classic histograms that are sent as native ones with custom buckets, and receivers that do not take them.

use spanmill::core::remotewrite::decode;

use super::*;

const BOUNDS: [&str; 3] = ["0.1", "1", "+Inf"];

/// Some histograms with a counter before each, of which every request but the last ends in the middle of one.
fn histograms(step: i64, of: u32) -> Vec<Request> {
    let label = |n: &str, v: &str| Label { name: n.to_owned(), value: v.to_owned() };
    let entry = |name: &str, le: Option<&str>, service: u32, value: f64| {
        let mut labels = vec![label("__name__", name)];
        labels.extend(le.map(|le| label("le", le)));
        labels.push(label("service", &format!("s{service}")));
        let samples = vec![Sample { value, timestamp: step }];
        TimeSeries { labels, samples, ..TimeSeries::default() }
    };
    let n = (step / 15_000) as f64;
    let set = |service: u32| {
        let mut all = vec![entry("calls_total", None, service, n), entry("latency_sum", None, service, n / 3.0)];
        all.push(entry("latency_count", None, service, 4.0 * n));
        let buckets = BOUNDS.iter().zip([n, 3.0 * n, 4.0 * n]);
        all.extend(buckets.map(|(le, below)| entry("latency_bucket", Some(le), service, below)));
        all
    };
    let all: Vec<TimeSeries> = (0..of).flat_map(set).collect();
    let request = |part: &[TimeSeries]| {
        let n = part.len() as u32;
        let bytes = WriteRequest { timeseries: part.to_vec() }.encode_to_vec();
        Request::compress(&bytes, n, n, 0, &mut snap::raw::Encoder::new())
    };
    all.chunks(4).map(request).collect()
}

fn converting(protocol: Protocol) -> House {
    house_with(|c| (c.protocol, c.convert_classic_histograms_to_nhcb) = (protocol, true))
}

/// The names of all series that the receiver has.
fn names(h: &House) -> Vec<String> {
    h.receiver.snapshot().into_keys().collect()
}

#[test]
fn a_receiver_of_2_0_gets_one_series_for_each_histogram_with_exact_counts() {
    let h = converting(Protocol::Auto);
    for step in [15_000, 30_000] {
        let d = h.send(batch(step, histograms(step, 4)));
        assert_eq!((d.acknowledged, d.filtered, d.rejected), (8, 16, 0));
    }
    let expected = ["calls_total", "latency"].map(|name| (0..4).map(move |i| format!(r#"{name}{{service="s{i}"}}"#)));
    assert_eq!(names(&h), expected.into_iter().flatten().collect::<Vec<_>>());
    let native = &h.receiver.natives()[r#"latency{service="s3"}"#];
    assert_eq!(
        native.to_string(),
        format!("schema -53 count 8 sum {} zero 0 [0] 2 [1] 4 [2] 2 bounds [0.1, 1.0]", 2.0 / 3.0)
    );
    assert_eq!(h.metric("spanmill_samples_converted_total"), 32);
    assert_eq!(h.receiver.violations(), Vec::<String>::new());
    h.assert_balanced();
}

#[test]
fn a_receiver_of_1_0_gets_classic_histograms() {
    for protocol in [Protocol::V1, Protocol::Auto] {
        let h = converting(protocol);
        h.receiver.speak(spanmill::tools::receiver::Speech::FirstDeaf);
        for step in [15_000, 30_000] {
            h.send(batch(step, histograms(step, 4)));
        }
        assert_eq!(names(&h).len(), 4 * 6, "{protocol:?}");
        let bucket = h.receiver.snapshot()[r#"latency_bucket{le="1",service="s3"}"#].last_value;
        assert_eq!(bucket.to_bits(), 6.0f64.to_bits());
        assert_eq!((h.receiver.totals().refused, h.receiver.violations()), (0, Vec::new()));
        h.assert_balanced();
    }
}

#[test]
fn a_receiver_of_2_0_that_refuses_them_gets_classic_ones_and_no_sample_is_lost() {
    let h = converting(Protocol::V2);
    h.receiver.refuse_custom_buckets();
    let d = h.send(batch(15_000, histograms(15_000, 4)));
    assert_eq!((d.rejected, h.metric("spanmill_series_quarantined")), (0, 0));
    let refused = h.receiver.totals().refused;
    assert!((1..=8).contains(&refused), "{refused}");
    for step in [30_000, 45_000] {
        h.send(batch(step, histograms(step, 4)));
    }
    assert_eq!(h.receiver.totals().refused, refused, "it is not tried again at every step");
    assert_eq!(names(&h).len(), 4 * 6);
    let count = h.receiver.snapshot()[r#"latency_count{service="s3"}"#].last_value;
    assert_eq!(count.to_bits(), 12.0f64.to_bits());
    assert_eq!(h.metric("spanmill_remote_write_written_mismatches_total"), 0);
    assert_eq!(h.receiver.violations(), Vec::<String>::new());
    h.assert_balanced();
}

#[test]
fn a_histogram_that_the_receiver_takes_in_no_form_is_the_only_one_that_is_lost() {
    let h = converting(Protocol::V2);
    h.receiver.poison(|series| series.starts_with("latency") && series.contains("s2"));
    let d = h.send(batch(15_000, histograms(15_000, 4)));
    assert_eq!((d.acknowledged, d.rejected), (7, 1));
    let converted = decode::body(&histograms(15_000, 1)[0].body).unwrap().timeseries.len();
    assert_eq!((converted, h.receiver.natives().len()), (4, 3));
    h.assert_balanced();
}
