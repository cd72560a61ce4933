//! What metrics are about, for receivers of remote write 1.0.

use spanmill::config::Tenants;
use spanmill::config::settings::Config;
use spanmill::core::remotewrite::decode::proto::Histogram;
use spanmill::core::settings::AttributeMetricsPreset;

use super::*;

const TENANT: &str = "";

fn described(h: &House) -> Vec<(String, i32, String)> {
    let said = h.receiver.descriptions().into_iter();
    said.filter(|((tenant, _), _)| tenant == TENANT).map(|((_, name), said)| (name, said.r#type, said.unit)).collect()
}

/// A counter, the parts of a classic histogram, and a native one.
fn metrics(step: i64) -> Request {
    let label = |n: &str, v: &str| Label { name: n.to_owned(), value: v.to_owned() };
    let classic = |name: &str| TimeSeries {
        labels: vec![label("__name__", name), label("service", "a")],
        samples: vec![Sample { value: 1.0, timestamp: step }],
        ..TimeSeries::default()
    };
    let native = TimeSeries {
        labels: vec![label("__name__", "traces_spanmetrics_size"), label("service", "a")],
        histograms: vec![Histogram { timestamp: step, ..Histogram::default() }],
        ..TimeSeries::default()
    };
    let names =
        ["traces_spanmetrics_calls_total", "traces_spanmetrics_latency_bucket", "traces_spanmetrics_latency_sum"];
    let timeseries: Vec<_> = names.into_iter().map(classic).chain([native]).collect();
    Request::compress(&WriteRequest { timeseries }.encode_to_vec(), 4, 4, 0, &mut snap::raw::Encoder::new())
}

#[test]
fn a_receiver_of_1_0_is_told_what_metrics_are_about_by_their_own_names() {
    let h = house();
    assert_eq!(h.send(batch(15_000, vec![metrics(15_000)])).acknowledged, 4);
    assert!(h.receiver.wait(LONG, |t| t.metadata == 1));
    let expected = [
        ("traces_spanmetrics_calls_total", 1, ""),
        ("traces_spanmetrics_latency", 3, "seconds"),
        ("traces_spanmetrics_size", 3, ""),
    ];
    assert_eq!(described(&h), expected.map(|(name, kind, unit)| (name.to_owned(), kind, unit.to_owned())));
    // Not before the next minute, and another shard does not repeat it.
    let (sender, done) = mpsc::channel();
    let other = h.exporter.open(4, Box::new(move |d| drop(sender.send(d))));
    for step in [30_000, 45_000] {
        assert_eq!(h.send(batch(step, vec![metrics(step)])).acknowledged, 4);
        other.try_send(batch(step, vec![metrics(step + 1)])).unwrap();
        assert_eq!(done.recv_timeout(LONG).unwrap().acknowledged, 4);
    }
    h.exporter.stop(LONG);
    assert_eq!(h.receiver.totals().metadata, 1);
    assert_eq!(h.metric(r#"spanmill_remote_write_metadata_requests_total{result="accepted"}"#), 1);
}

#[test]
fn what_settings_say_about_their_own_metrics_is_told_too() {
    let h = house();
    let mut config = Config::default();
    config.core.attribute_metrics_presets = vec![AttributeMetricsPreset::Http];
    h.exporter.describe(&Tenants::from(config));
    let name = "traces_http_request_body_bytes_total";
    let label = |n: &str, v: &str| Label { name: n.to_owned(), value: v.to_owned() };
    let series = TimeSeries {
        labels: vec![label("__name__", name), label("service", "a")],
        samples: vec![Sample { value: 1.0, timestamp: 15_000 }],
        ..TimeSeries::default()
    };
    let raw = WriteRequest { timeseries: vec![series] }.encode_to_vec();
    let request = Request::compress(&raw, 1, 1, 0, &mut snap::raw::Encoder::new());
    assert_eq!(h.send(batch(15_000, vec![request])).acknowledged, 1);
    assert!(h.receiver.wait(LONG, |t| t.metadata == 1));
    assert_eq!(described(&h), [(name.to_owned(), 1, "bytes".to_owned())]);
}

#[test]
fn it_is_said_again_after_the_interval_and_never_with_an_interval_of_zero_or_in_2_0() {
    let h = house_with(|c| c.metadata_interval = 1);
    let mut step = 0;
    while h.receiver.totals().metadata < 3 {
        step += 15_000;
        assert_eq!(h.send(batch(step, vec![metrics(step)])).acknowledged, 4);
    }
    let off: [fn(&mut RemoteWrite); 2] = [|c| c.metadata_interval = 0, |c| c.protocol = Protocol::Auto];
    for off in off {
        let h = house_with(off);
        for step in [15_000, 30_000] {
            assert_eq!(h.send(batch(step, vec![metrics(step)])).acknowledged, 4);
        }
        h.exporter.stop(LONG);
        assert_eq!(h.receiver.totals().metadata, 0);
    }
}

#[test]
fn a_receiver_that_refuses_metadata_gets_its_samples_all_the_same() {
    let h = house_with(|c| c.metadata_interval = 1);
    h.receiver.refuse_metadata();
    for step in (1..=3).map(|i| i * 15_000) {
        assert_eq!(h.send(batch(step, vec![metrics(step)])).acknowledged, 4);
    }
    assert!(h.receiver.wait(LONG, |t| t.metadata >= 1));
    while h.metric(r#"spanmill_remote_write_metadata_requests_total{result="failed"}"#) == 0 {
        std::thread::yield_now();
    }
    assert_eq!((h.receiver.descriptions().len(), h.receiver.totals().samples), (0, 12));
    h.assert_balanced();
}
