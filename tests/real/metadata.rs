//! What metrics are about, sent in remote write 1.0.

use std::sync::mpsc;
use std::time::Duration;

use prost::Message as _;
use spanmill::config::settings::RemoteWrite;
use spanmill::core::model::Exemplar;
use spanmill::core::model::labels::cuts;
use spanmill::core::remotewrite::decode::proto::{Label, Sample, TimeSeries, WriteRequest};
use spanmill::core::remotewrite::encode::{Point, SeriesLabels, SeriesWriter, name_label};
use spanmill::core::remotewrite::{Request, StepBatch};
use spanmill::core::settings::SINGLE_TENANT;
use spanmill::worker::sender::Exporter;
use spanmill::worker::telemetry::Telemetry;

use crate::PATIENCE;
use crate::servers::api::{Api, now};
use crate::servers::metrics::{RealPrometheus, RealVictoria};
use crate::servers::wait_until;

/// One sample of a counter.
fn batch(step: i64) -> StepBatch {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let labels = vec![label("__name__", "traces_spanmetrics_calls_total"), label("service", "a")];
    let samples = vec![Sample { value: 7.0, timestamp: step }];
    let body =
        WriteRequest { timeseries: vec![TimeSeries { labels, samples, ..TimeSeries::default() }] }.encode_to_vec();
    let requests = vec![Request::compress(&body, 1, 1, 0, &mut snap::raw::Encoder::new())];
    StepBatch { tenant: SINGLE_TENANT.into(), endpoint: None, step, resend: false, requests }
}

/// Sends two steps with metadata behind the first, and waits until the receiver has taken all of it.
fn takes(api: &Api) -> Result<(), String> {
    let cfg = RemoteWrite { url: api.write_url(), ..RemoteWrite::default() };
    let telemetry = Telemetry::new();
    let exporter = Exporter::start(&cfg, telemetry.clone()).map_err(|error| error.to_string())?;
    let (sender, done) = mpsc::channel();
    let sender = exporter.open(0, Box::new(move |delivered| drop(sender.send(delivered))));
    let first = (now() * 1e3) as i64 - 60_000;
    for step in [first, first + 15_000] {
        sender.try_send(batch(step)).map_err(|_| "the lane is full")?;
        let delivered = done.recv_timeout(Duration::from_secs(60)).map_err(|error| error.to_string())?;
        assert_eq!((delivered.acknowledged, delivered.rejected), (1, 0));
    }
    wait_until("metadata is taken", PATIENCE, || {
        let text = telemetry.render();
        let name = "spanmill_remote_write_metadata_requests_total";
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with(name)).collect();
        let accepted = format!("{name}{{result=\"accepted\"}} 1");
        let failed = format!("{name}{{result=\"failed\"}} 0");
        if rows.contains(&&*accepted) && rows.contains(&&*failed) { Ok(()) } else { Err(rows.join("\n")) }
    });
    Ok(())
}

#[test]
fn prometheus_and_victoriametrics_take_metadata_in_1_0_behind_samples_that_it_does_not_change() {
    let (prometheus, victoria) = (RealPrometheus::start(), RealVictoria::start());
    for api in [&prometheus.api, &victoria.api] {
        takes(api).expect("both are receivers");
    }
    victoria.flush();
    for api in [&prometheus.api, &victoria.api] {
        let rows = api.instant("traces_spanmetrics_calls_total").expect("a query");
        assert_eq!(rows.iter().map(|row| row.value.to_bits()).collect::<Vec<_>>(), [7f64.to_bits()]);
        let names = api.instant("count({__name__=~\".+\"})").expect("a query");
        assert_eq!(names[0].value.to_bits(), 1f64.to_bits(), "metadata makes no series");
    }
}

/// Exemplars that were not sent, of three steps with one each.
fn withheld(api: &Api) -> String {
    let cfg = RemoteWrite { url: api.write_url(), metadata_interval: 0, ..RemoteWrite::default() };
    let telemetry = Telemetry::new();
    let exporter = Exporter::start(&cfg, telemetry.clone()).expect("starts");
    let (sender, done) = mpsc::channel();
    let sender = exporter.open(0, Box::new(move |delivered| drop(sender.send(delivered))));
    let first = (now() * 1e3) as i64 - 60_000;
    for step in (0..3).map(|i| first + i * 15_000) {
        let mut writer = SeriesWriter::new(10, 1 << 20, "traceID");
        let labels = SeriesLabels { block: &[], cuts: cuts(&[]), name: &name_label("with_exemplars"), le: &[] };
        let exemplar = Exemplar { at: step - 1, trace_id: [7; 16], value_ns: 5 };
        writer.push(&labels, Point { start: None, at: step, value: 7.0 }, Some(&exemplar));
        sender.try_send(StepBatch { requests: writer.finish(), ..batch(step) }).expect("the lane has room");
        let delivered = done.recv_timeout(Duration::from_secs(60)).expect("an answer");
        assert_eq!((delivered.acknowledged, delivered.rejected), (1, 0));
    }
    let text = telemetry.render();
    let value = text.lines().find_map(|line| line.strip_prefix("spanmill_exemplars_withheld_total "));
    value.expect("a metric").to_owned()
}

#[test]
fn victoriametrics_gets_no_exemplars_once_it_has_answered_and_prometheus_gets_all() {
    let (prometheus, victoria) = (RealPrometheus::start(), RealVictoria::start());
    assert_eq!(withheld(&victoria.api), "2");
    assert_eq!(withheld(&prometheus.api), "0");
}
