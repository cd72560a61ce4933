//! Rules of relabeling: what spanmill sends under them to Prometheus and to VictoriaMetrics is what Prometheus itself sends
//! under them.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use prost::Message as _;
use spanmill::config::settings::RemoteWrite;
use spanmill::config::{Config, Sources, Tenants, load};
use spanmill::core::remotewrite::decode::proto::{Label, Sample, TimeSeries, WriteRequest};
use spanmill::core::remotewrite::{Request, StepBatch};
use spanmill::worker::sender::Exporter;
use spanmill::worker::telemetry::Telemetry;

use crate::servers::api::now;
use crate::servers::metrics::{RealPrometheus, RealVictoria};
use crate::servers::wait_until;
use crate::{PATIENCE, rows};

/// Read by spanmill and by Prometheus: all actions, defaults, groups, templates, and what does not match.
const RULES: &str = r#"
    - {source_labels: [__name__], regex: "dropped_.*|also", action: drop}
    - {source_labels: [__name__, zone], separator: "/", regex: "[a-z_]+/(eu|us|)-?[0-9]*", action: keep}
    - {source_labels: [service], regex: "(.*)-([0-9]+)", target_label: team, replacement: "${1}/$2"}
    - {source_labels: [service], regex: "(?P<kind>[a-z]+).*", target_label: "${kind}_of", replacement: "$kind"}
    - {source_labels: [service], regex: "(.+)", target_label: no_group, replacement: "$1x"}
    - {source_labels: [text], target_label: copy_of_text}
    - {source_labels: [missing], target_label: team_of_none}
    - {source_labels: [service, zone], regex: "shop;", target_label: service, replacement: ""}
    - {target_label: cluster, replacement: here}
    - {regex: "in_(.+)", replacement: "out_$1", action: labelmap}
    - {regex: "in_.+", action: labeldrop}
    - {source_labels: [service, zone], target_label: part, modulus: 97, action: hashmod}
    - {source_labels: [zone], target_label: upper, action: uppercase}
    - {source_labels: [upper, text], separator: "_", target_label: lower, action: lowercase}
    - {source_labels: [out_a], target_label: out_b, action: dropequal}
    - {source_labels: [text], regex: "a.b", target_label: text, replacement: "a word"}
    - {regex: "__name__|service|zone|team|.*_of|no_group|cluster|copy_of_text|out_.*|upper|lower|text|part", action: labelkeep}
    - {source_labels: [cluster], target_label: cluster, action: keepequal}
"#;

fn settings() -> RemoteWrite {
    let text = format!("remote_write:\n  tenant_header: \"\"\n  write_relabel_configs:{RULES}");
    let none = |_: &std::path::Path| Err(std::io::Error::other("no files"));
    let sources = Sources { file: Some(("rules.yaml", &text)), env: &[], set: &[], read_file: &none };
    load(&sources).expect("rules that spanmill reads").config.remote_write
}

fn request(at: i64) -> Request {
    let mut timeseries = Vec::new();
    for name in ["calls_total", "dropped_total", "also", "also_kept", "UPPER"] {
        for service in ["shop", "shop-1", "cart-22", "Ünïcödé", "shop.x"] {
            for (i, zone) in ["eu-1", "us", "", "ap"].into_iter().enumerate() {
                let labels = [
                    ("__name__", name),
                    ("in_a", if i == 1 { "same" } else { "other" }),
                    ("in_b", "same"),
                    ("service", service),
                    // A dot matches a line break in Prometheus 3 and here, but not in Prometheus 2.
                    ("text", if i == 0 { "a b" } else { "Straße" }),
                    ("zone", zone),
                ];
                let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
                let label = |(name, value): (&str, &str)| Label { name: name.to_owned(), value: value.to_owned() };
                let samples = vec![Sample { value: timeseries.len() as f64, timestamp: at }];
                let labels = labels.map(label).collect();
                timeseries.push(TimeSeries { labels, samples, ..TimeSeries::default() });
            }
        }
    }
    let n = timeseries.len() as u32;
    let body = WriteRequest { timeseries }.encode_to_vec();
    Request::compress(&body, n, n, 0, &mut snap::raw::Encoder::new())
}

#[test]
fn prometheus_and_victoriametrics_get_the_series_that_prometheus_would_send_under_the_same_rules() {
    let (judge, prometheus, victoria) = (RealPrometheus::start(), RealPrometheus::start(), RealVictoria::start());
    let forwards = format!(
        "remote_write:\n- url: {}\n  queue_config: {{batch_send_deadline: 100ms}}\n  write_relabel_configs:{RULES}",
        judge.api.write_url()
    );
    let forwarder = RealPrometheus::start_over(None, "exemplar-storage", &forwards, |_| {});

    let to = |url, rules: bool| {
        let rules = if rules { settings() } else { RemoteWrite::default() };
        let remote_write = RemoteWrite { url, tenant_header: String::new(), ..rules };
        Arc::new(Config { remote_write, ..Config::default() })
    };
    let defaults = to(forwarder.api.write_url(), false);
    let exporter = Exporter::start(&defaults.remote_write, Telemetry::new()).expect("an exporter");
    let overridden = [("p", &prometheus.api, true), ("v", &victoria.api, true)];
    let overridden: BTreeMap<_, _> =
        overridden.into_iter().map(|(tenant, api, rules)| (tenant.to_owned(), to(api.write_url(), rules))).collect();
    exporter.reroute(&Tenants::new(defaults, overridden)).expect("three receivers");
    let (sender, done) = mpsc::channel();
    let shard = exporter.open(0, Box::new(move |d| drop(sender.send(d))));

    // Prometheus forwards what is younger than its start.
    std::thread::sleep(Duration::from_millis(1));
    let at = (now() * 1e3) as i64;
    for tenant in ["f", "p", "v"] {
        let batch =
            StepBatch { tenant: tenant.into(), endpoint: None, step: at, resend: false, requests: vec![request(at)] };
        shard.try_send(batch).expect("the track is free");
    }
    let results: Vec<_> = (0..3).map(|_| done.recv_timeout(PATIENCE).expect("it is settled")).collect();
    let sent = |tenant: &str| results.iter().find(|d| &*d.tenant == tenant).expect("its result");
    let (p, v) = (sent("p"), sent("v"));
    assert_eq!((p.acknowledged, p.filtered, p.rejected), (v.acknowledged, v.filtered, v.rejected));
    assert!(p.acknowledged > 0 && p.filtered > 0 && p.rejected == 0, "{p:?}");
    assert_eq!(p.acknowledged + p.filtered, sent("f").acknowledged);

    let all = "{__name__!=\"\"}";
    let expected = wait_until("Prometheus has forwarded", PATIENCE, || {
        let expected = rows(&judge.api, all);
        if expected.len() as u64 >= p.acknowledged { Ok(expected) } else { Err(format!("{} series", expected.len())) }
    });
    assert_eq!(rows(&prometheus.api, all), expected);
    let stored = wait_until("VictoriaMetrics shows it", PATIENCE, || {
        victoria.flush();
        let stored = rows(&victoria.api, all);
        if stored.len() >= expected.len() { Ok(stored) } else { Err(format!("{} series", stored.len())) }
    });
    assert_eq!(stored, expected);
    exporter.stop(PATIENCE);
}
