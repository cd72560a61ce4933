//! Prometheus and VictoriaMetrics as two endpoints of one list: each gets every sample, by its own rules and in the version of
//! remote write that it accepts.

use std::sync::mpsc;

use prost::Message as _;
use spanmill::config::{Sources, Tenants, load};
use spanmill::core::remotewrite::decode::proto::{Label, Sample, TimeSeries, WriteRequest};
use spanmill::core::remotewrite::{Request, StepBatch};
use spanmill::core::settings::SINGLE_TENANT;
use spanmill::worker::sender::{Delivered, Exporter};
use spanmill::worker::telemetry::Telemetry;

use crate::servers::api::now;
use crate::servers::metrics::{RealPrometheus, RealVictoria};
use crate::servers::wait_until;
use crate::{PATIENCE, rows};

fn request(at: i64) -> Request {
    let label = |name: &str, value: String| Label { name: name.to_owned(), value };
    let one = |i: u32| TimeSeries {
        labels: vec![label("__name__", format!("part_{}_total", i % 2)), label("service", format!("s{i}"))],
        samples: vec![Sample { value: f64::from(i), timestamp: at }],
        ..TimeSeries::default()
    };
    let timeseries: Vec<TimeSeries> = (0..20).map(one).collect();
    let n = timeseries.len() as u32;
    let body = WriteRequest { timeseries }.encode_to_vec();
    Request::compress(&body, n, n, 0, &mut snap::raw::Encoder::new())
}

#[test]
fn prometheus_and_victoriametrics_are_written_to_at_once_each_by_its_own_settings() {
    let (prometheus, victoria) = (RealPrometheus::start(), RealVictoria::start());
    let text = format!(
        "remote_write:\n  - {{name: prometheus, url: \"{}\", tenant_header: \"\"}}\n  - name: victoria\n    url: \"{}\"\n    \
         write_relabel_configs: [{{source_labels: [__name__], regex: part_0_total, action: drop}}]\n",
        prometheus.api.write_url(),
        victoria.api.write_url()
    );
    let none = |_: &std::path::Path| Err(std::io::Error::other("no files"));
    let loaded = load(&Sources { file: Some(("two.yaml", &text)), env: &[], set: &[], read_file: &none });
    let config = loaded.expect("a list of endpoints").config;
    let exporter = Exporter::start(&config.remote_write, Telemetry::new()).expect("an exporter");
    exporter.reroute(&Tenants::from(config)).expect("two receivers");
    let (sender, done) = mpsc::channel();
    let shard = exporter.open(0, Box::new(move |d| drop(sender.send(d))));
    let at = (now() * 1e3) as i64;
    let requests = vec![request(at)];
    let batch = StepBatch { tenant: SINGLE_TENANT.into(), endpoint: None, step: at, resend: false, requests };
    for batch in exporter.for_endpoints(batch) {
        shard.try_send(batch).expect("the track is free");
    }
    let results: Vec<Delivered> = (0..2).map(|_| done.recv_timeout(PATIENCE).expect("it is settled")).collect();
    let of = |name: &str| {
        let of = results.iter().find(|d| d.endpoint.as_deref() == Some(name)).expect("its result");
        (of.acknowledged, of.filtered)
    };
    assert_eq!((of("prometheus"), of("victoria")), ((20, 0), (10, 10)), "{results:?}");
    let expected = rows(&prometheus.api, "{__name__!=\"\"}");
    assert_eq!(expected.len(), 20);
    let part = rows(&prometheus.api, "part_1_total");
    wait_until("VictoriaMetrics shows its part", PATIENCE, || {
        victoria.flush();
        let stored = rows(&victoria.api, "{__name__!=\"\"}");
        if stored == part { Ok(()) } else { Err(format!("{} series", stored.len())) }
    });
    exporter.stop(PATIENCE);
}
