//! What dashboards ask that were made for the Collector and for Tempo, and what spanmill's own dashboards and rules ask.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind::{Client, Consumer, Producer, Server};

use spanmill::tools::dashboards::{Dashboard, Query, dashboards, slo_dashboard};

use super::scene::{Scene, child, failed, record, resource, span, stop};
use crate::servers::api::Api;
use crate::servers::daemon::{free_ports, setting};
use crate::servers::metrics::RealPrometheus;
use crate::servers::wait_until;
use crate::{PATIENCE, must_run, rows};

const TOPIC: &str = "dashboards";
const OWN: &str = "own-dashboards";
/// Traces of each tenant.
const TRACES: u64 = 5;

/// Query, labels of the result, and what it must show: a value for each list of label values.
type Panel = (&'static str, &'static [&'static str], &'static [(&'static [&'static str], f64)]);

/// Whatever the Collector's connectors feed: tables of calls, and the monitoring of a tracing interface.
const COLLECTOR: [Panel; 8] = [
    (
        "sum by (service_name, span_name) (traces_span_metrics_calls_total{span_kind=\"SPAN_KIND_SERVER\"})",
        &["service_name", "span_name"],
        &[(&["cart", "answer"], 5.0), (&["web", "page"], 5.0)],
    ),
    (
        "sum by (service_name) (increase(traces_span_metrics_calls_total{status_code=\"STATUS_CODE_ERROR\"}[1h])) > 0",
        &["service_name"],
        &[(&["cart"], ABOVE_ZERO)],
    ),
    (
        "sum by (service_name) (rate(traces_span_metrics_calls_total{status_code=\"STATUS_CODE_ERROR\"}[1h])) \
         / sum by (service_name) (rate(traces_span_metrics_calls_total[1h]))",
        &["service_name"],
        &[(&["cart"], 1.0)],
    ),
    (
        "histogram_quantile(0.95, sum by (service_name, le) (rate(traces_span_metrics_duration_milliseconds_bucket{\
         span_kind=\"SPAN_KIND_SERVER\"}[1h])))",
        &["service_name"],
        &[(&["cart"], ABOVE_ZERO), (&["web"], ABOVE_ZERO)],
    ),
    (
        "sum by (span_name) (traces_span_metrics_duration_milliseconds_bucket{le=\"256\",service_name=\"web\"})",
        &["span_name"],
        &[(&["call"], 5.0), (&["page"], 0.0), (&["send"], 5.0)],
    ),
    (
        "sum(traces_span_metrics_duration_milliseconds_sum{span_name=\"page\"}) \
         / sum(traces_span_metrics_duration_milliseconds_count{span_name=\"page\"})",
        &[],
        &[(&[], 300.0)],
    ),
    (
        "sum by (client, server, failed) (traces_service_graph_request_total{org=\"collector\",connection_type!=\"virtual_node\"})",
        &["client", "server", "failed"],
        &[(&["web", "cart", "true"], 5.0), (&["web", "mail", "false"], 5.0)],
    ),
    (
        "histogram_quantile(0.9, sum by (le, client, server) (rate(traces_service_graph_request_server_seconds_bucket{\
         org=\"collector\",connection_type!=\"virtual_node\"}[1h])))",
        &["client", "server"],
        &[(&["web", "cart"], ABOVE_ZERO), (&["web", "mail"], ABOVE_ZERO)],
    ),
];

/// What Tempo's processors have besides: infos to join with, and messages under way.
const TEMPO: [Panel; 6] = [
    (
        "sum by (k8s_cluster_name, instance) (traces_spanmetrics_calls_total{span_kind=\"SPAN_KIND_SERVER\"} \
         * on (job, instance) group_left (k8s_cluster_name) traces_target_info)",
        &["k8s_cluster_name", "instance"],
        &[(&["blue", "web-1"], 5.0)],
    ),
    ("traces_target_info", &["job", "instance", "host_id"], &[(&["shop/web", "web-1", "h-7"], 1.0)]),
    ("traces_host_info", &["grafana_host_id", "host_source"], &[(&["h-7", "host.id"], 1.0)]),
    (
        "group by (client, server, connection_type) (traces_service_graph_connection_info)",
        &["client", "server", "connection_type"],
        &[
            (&["user", "web", "virtual_node"], 1.0),
            (&["web", "cart", ""], 1.0),
            (&["web", "mail", "messaging_system"], 1.0),
        ],
    ),
    (
        "sum by (client, server) (traces_service_graph_request_messaging_system_seconds_bucket{le=\"3.2\"})",
        &["client", "server"],
        &[(&["web", "mail"], 5.0)],
    ),
    (
        "histogram_quantile(0.5, sum by (le, client, server) (rate(\
         traces_service_graph_request_messaging_system_seconds_bucket[1h])))",
        &["client", "server"],
        &[(&["web", "mail"], ABOVE_ZERO)],
    ),
];

/// Any positive number.
const ABOVE_ZERO: f64 = f64::INFINITY;

#[test]
fn dashboards_of_the_collector_and_of_tempo_find_in_prometheus_what_they_ask_for_from_kafka() {
    let prometheus = RealPrometheus::start();
    let api = &prometheus.api;
    let scene = Scene::start(api.write_url());
    scene.create(TOPIC, 1);
    scene.says(
        "tenants:
  collector: {naming: {profile: otel}}
  tempo:
    span_metrics: {enable_target_info: true, target_info_excluded_dimensions: [org]}
    service_graphs: {connection_info: true, enable_messaging_system_latency_histogram: true}
    host_info: {enabled: true}
",
    );
    let file = format!("overrides.file={}", scene.overrides().display());
    let settings = [&file, "tenant.source=attribute", "tenant.attribute=org", "series.tenant_label=org"];
    let mut worker = scene.worker("worker", TOPIC, &settings);
    let tenants = (1..).zip(["collector", "tempo"]);
    scene.send(TOPIC, tenants.flat_map(|(n, org)| (0..TRACES).map(move |i| (0, trace(n * 1000 + i * 10, org)))));
    // A root without a caller is the last to be known, after the wait.
    wait_until("the edges are there", PATIENCE, || {
        must_run(&mut worker);
        let edges = api.instant("sum by (org) (traces_service_graph_request_total)")?;
        let all = (3.0 * TRACES as f64).to_bits();
        let done = edges.len() == 2 && edges.iter().all(|row| row.value.to_bits() == all);
        if done { Ok(()) } else { Err(format!("{edges:?}\n{}", worker.tail())) }
    });
    COLLECTOR.iter().for_each(|panel| shows(api, panel, "collector"));
    TEMPO.iter().for_each(|panel| shows(api, panel, "tempo"));
    stop(worker);
}

/// A page that calls another service without success and sends a message.
fn trace(id: u64, org: &str) -> Vec<u8> {
    let ms = Duration::from_millis;
    let page = span(id, "page", Server, ms(300));
    let call = child(&page, span(id + 1, "call", Client, ms(200)));
    let answer = failed(child(&call, span(id + 2, "answer", Server, ms(100))));
    // It has ended two seconds before it is received.
    let mut send = child(&page, span(id + 3, "send", Producer, ms(5)));
    send.start_time_unix_nano -= 2_000_000_000;
    send.end_time_unix_nano -= 2_000_000_000;
    let receive = child(&send, span(id + 4, "receive", Consumer, ms(50)));
    let web = [
        ("service.name", "web"),
        ("org", org),
        ("service.namespace", "shop"),
        ("service.instance.id", "web-1"),
        ("k8s.cluster.name", "blue"),
        ("host.id", "h-7"),
    ];
    record(vec![
        resource(&web, vec![page, call, send]),
        resource(&[("service.name", "cart"), ("org", org)], vec![answer]),
        resource(&[("service.name", "mail"), ("org", org)], vec![receive]),
    ])
}

fn shows(api: &Api, (query, labels, expected): &Panel, org: &str) {
    let found: BTreeMap<Vec<String>, f64> = rows(api, query)
        .into_iter()
        .map(|(series, value)| (labels.iter().map(|label| series.label(label).to_owned()).collect(), value))
        .collect();
    let keys: BTreeMap<Vec<String>, f64> =
        expected.iter().map(|(key, value)| (key.iter().map(|&k| k.to_owned()).collect(), *value)).collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), keys.keys().collect::<Vec<_>>(), "{org}: {query}: {found:?}");
    for (key, value) in keys {
        let is = found[&key];
        let fits = if value == ABOVE_ZERO { is > 0.0 && is.is_finite() } else { (is - value).abs() < 1e-9 };
        assert!(fits, "{org}: {query}: {key:?} is {is} and not {value}");
    }
}

/// Queries of spanmill's dashboards that have no answer while nothing is wrong, by a part of them.
const EMPTY_WHILE_ALL_IS_WELL: [&str; 3] =
    ["spanmill_receivers_waiting", "traces_repeated_calls_total", "traces_retried_calls_total"];

#[test]
fn every_panel_of_our_own_dashboards_has_data_while_a_worker_runs() {
    let [port] = free_ports();
    let scrape = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n  - job_name: spanmill\n    \
         static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    );
    let prometheus = RealPrometheus::start_over(None, "exemplar-storage", &scrape, |_| {});
    let api = &prometheus.api;
    let scene = Scene::start(api.write_url());
    scene.create(OWN, 1);
    // Panels about endpoints are about several.
    scene.says(&format!(
        "tenants:
  single-tenant:
    remote_write:
      - {{name: first, url: \"{url}\"}}
      - {{name: second, url: \"{url}\", write_relabel_configs: [{{target_label: copy, replacement: second}}]}}
",
        url = api.write_url()
    ));
    let file = format!("overrides.file={}", scene.overrides().display());
    let listen = format!("admin.listen=127.0.0.1:{port}");
    let traces = ["duration", "critical_path", "errors", "calls", "quality"].map(|one| format!("traces.{one}=true"));
    let settings: Vec<&str> = [&file, &listen].into_iter().chain(&traces).map(String::as_str).collect();
    let mut worker = scene.worker("own", OWN, &settings);
    let garbage = (0, b"this is no span".to_vec());
    let sent = (1..).flat_map(|n: u64| [(0, trace(n * 10, "own"))]).take(20).chain([garbage]);
    scene.send(OWN, sent);
    let queries: Vec<(&str, String)> = dashboards()
        .iter()
        .flat_map(Dashboard::panels)
        .flat_map(|panel| panel.queries.iter().map(|query| (panel.title, filled_in(&query.expr))))
        .collect();
    wait_until("each panel has data", PATIENCE, || {
        must_run(&mut worker);
        let mut empty = Vec::new();
        for (title, query) in &queries {
            if api.instant(query)?.is_empty() && !EMPTY_WHILE_ALL_IS_WELL.iter().any(|part| query.contains(part)) {
                empty.push(format!("{title}: {query}"));
            }
        }
        if empty.is_empty() { Ok(()) } else { Err(empty.join("\n")) }
    });
    stop(worker);
}

/// What Grafana puts in place of its variables.
fn filled_in(query: &str) -> String {
    let ranges = query.replace("$__rate_interval", "1h").replace("$__range", "1h");
    ["$service", "$client", "$server", "$topic"].iter().fold(ranges, |query, name| query.replace(name, ".*"))
}

#[test]
fn prometheus_reads_the_rules_and_each_alert_fires_when_it_should() {
    let promtool = PathBuf::from(setting("TEST_PROMETHEUS")).with_file_name("promtool");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (arguments, file) in
        [(["check", "rules"], "config/grafana/spanmill-rules.yaml"), (["test", "rules"], "tests/real/rules.yaml")]
    {
        let output = Command::new(&promtool).args(arguments).arg(root.join(file)).output().expect("promtool starts");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "{file}: {said}");
    }
}

/// A rule per query: promtool reads it as Prometheus would.
fn as_rules(dashboard: &Dashboard) -> String {
    let queries = dashboard.panels().flat_map(|panel| &panel.queries);
    let rule = |(i, query): (usize, &Query)| {
        let expr = serde_json::Value::from(filled_in(&query.expr.replace("$slo", ".*")));
        format!("      - {{record: \"q{i}\", expr: {expr}}}\n")
    };
    format!("groups:\n  - name: queries\n    rules:\n{}", queries.enumerate().map(rule).collect::<String>())
}

#[test]
fn prometheus_reads_the_rules_of_objectives_and_each_burn_rate_raises_its_alert() {
    let promtool = PathBuf::from(setting("TEST_PROMETHEUS")).with_file_name("promtool");
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &[u8]| std::fs::write(directory.path().join(name), text).expect("a file");
    write("config.yaml", b"slos: [{name: checkout, objective: 99.9}]\n");
    let rules = Command::new(env!("CARGO_BIN_EXE_spanmill"))
        .args(["rules", "--config", "config.yaml"])
        .current_dir(directory.path())
        .output()
        .expect("spanmill starts");
    assert!(rules.status.success(), "{}", String::from_utf8_lossy(&rules.stderr));
    write("slo.yaml", &rules.stdout);
    write("test.yaml", include_bytes!("slo-rules.yaml"));
    write("queries.yaml", as_rules(&slo_dashboard()).as_bytes());
    for (kind, file) in [("check", "slo.yaml"), ("test", "test.yaml"), ("check", "queries.yaml")] {
        let mut command = Command::new(&promtool);
        let output =
            command.args([kind, "rules", file]).current_dir(directory.path()).output().expect("promtool starts");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "{file}: {said}");
    }
}
