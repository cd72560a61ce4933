//! The "Monitor" page of Jaeger 2: the queries that its Prometheus reader makes find in a real Prometheus what was sent.
//!
//! The texts of the queries, the defaults of their parameters and the rules of names are those of Jaeger 2
//! (`internal/storage/metricstore/prometheus` and `jaegerquery/internal/default_params.go`, Apache-2.0).

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind::{Client, Consumer, Server};

use super::scene::{Scene, child, failed, record, resource, span, stop};
use crate::servers::api::{Api, now};
use crate::servers::metrics::RealPrometheus;
use crate::servers::wait_until;
use crate::{PATIENCE, must_run};

const TOPIC: &str = "jaeger";
const TRACES: u64 = 5;
/// Jaeger's defaults, in seconds.
const LOOKBACK: i64 = 3_600;
const STEP: i64 = 5;
const RATE: f64 = 600.0;
/// Samples that a series has at the least. `rate()` takes the time after the last one for a part of the whole, one and a
/// tenth of an interval at the most.
const SAMPLES: f64 = 6.0;
const EXTRAPOLATED: f64 = 1.0 + 1.1 / (SAMPLES - 1.0);

/// Jaeger's settings of a metrics storage, and the tenant here whose series they find.
struct Storage {
    tenant: &'static str,
    /// What the tenant has in the overrides.
    overrides: &'static str,
    metric_namespace: &'static str,
    latency_unit: &'static str,
    normalize_calls: bool,
    normalize_duration: bool,
}

const STORAGES: [Storage; 4] = [
    Storage {
        tenant: "collector",
        overrides: "naming: {profile: otel}",
        // Jaeger's defaults, which are the Collector's.
        metric_namespace: "traces_span_metrics",
        latency_unit: "ms",
        normalize_calls: true,
        normalize_duration: true,
    },
    Storage {
        tenant: "seconds",
        overrides: "naming: {profile: otel, namespace: my.spans, unit: s}",
        metric_namespace: "my_spans",
        latency_unit: "s",
        normalize_calls: true,
        normalize_duration: true,
    },
    Storage {
        tenant: "bare",
        overrides: "naming: {profile: otel, namespace: \"\"}",
        metric_namespace: "",
        latency_unit: "ms",
        normalize_calls: true,
        normalize_duration: true,
    },
    // Jaeger's other two defaults: names without unit and type, which nothing has that Prometheus' naming rules made.
    Storage {
        tenant: "short",
        overrides: r#"naming: {profile: otel, namespace: short}
    remote_write:
      write_relabel_configs:
        - {source_labels: [__name__], regex: short_calls_total, target_label: __name__, replacement: short_calls}
        - {source_labels: [__name__], regex: "short_duration_milliseconds_(.+)", target_label: __name__, replacement: "short_duration_$1"}"#,
        metric_namespace: "short",
        latency_unit: "ms",
        normalize_calls: false,
        normalize_duration: false,
    },
];

/// What a page of Jaeger asks for.
struct Asked {
    services: &'static [&'static str],
    kinds: &'static [&'static str],
    by_operation: bool,
}

// === impl Asked ===

impl Asked {
    /// The services as Jaeger's template has them: a Go string of a regular expression.
    fn of_services(&self) -> String {
        format!("service_name =~ {:?}", self.services.join("|"))
    }

    /// Empty without kinds; the comma before it stays.
    fn of_kinds(&self) -> String {
        if self.kinds.is_empty() {
            return String::new();
        }
        let kinds: Vec<String> = self.kinds.iter().map(|kind| format!("SPAN_KIND_{kind}")).collect();
        format!("span_kind =~ {:?}", kinds.join("|"))
    }

    fn by(&self) -> &'static str {
        if self.by_operation { "service_name,span_name" } else { "service_name" }
    }
}

// === impl Storage ===

impl Storage {
    fn name(&self, metric: &str, normalized: bool, suffix: &str) -> String {
        let prefix = if self.metric_namespace.is_empty() { "" } else { "_" };
        let suffix = if normalized { suffix } else { "" };
        format!("{}{prefix}{metric}{suffix}", self.metric_namespace)
    }

    fn calls(&self) -> String {
        self.name("calls", self.normalize_calls, "_total")
    }

    fn durations(&self) -> String {
        let unit = if self.latency_unit == "s" { "_seconds" } else { "_milliseconds" };
        self.name("duration", self.normalize_duration, unit)
    }

    fn latencies(&self, quantile: f64, asked: &Asked) -> String {
        format!(
            "histogram_quantile({quantile:.2}, sum(rate({}_bucket{{{}, {}}}[10m])) by ({},le))",
            self.durations(),
            asked.of_services(),
            asked.of_kinds(),
            asked.by(),
        )
    }

    fn call_rates(&self, asked: &Asked) -> String {
        let (services, kinds) = (asked.of_services(), asked.of_kinds());
        format!("sum(rate({}{{{services}, {kinds}}}[10m])) by ({})", self.calls(), asked.by())
    }

    fn error_rates(&self, asked: &Asked) -> String {
        let (services, kinds, by) = (asked.of_services(), asked.of_kinds(), asked.by());
        let errors = "status_code = \"STATUS_CODE_ERROR\"";
        format!(
            "sum(rate({0}{{{services}, {errors}, {kinds}}}[10m])) by ({by}) / sum(rate({0}{{{services}, {kinds}}}[10m])) by ({by})",
            self.calls(),
        )
    }

    /// What Jaeger reads from the result of a query: the last point of each line by service and operation.
    fn ask(&self, api: &Api, query: &str) -> BTreeMap<String, f64> {
        let end = now() as i64;
        let lines =
            api.ranges(query, end - LOOKBACK, end, STEP).unwrap_or_else(|e| panic!("{}: {query}: {e}", self.tenant));
        let last = |line: crate::servers::api::Line| {
            let at = |label| line.labels.get(label).cloned().unwrap_or_default();
            let (_, value) = *line.points.last().expect("a line has points");
            (format!("{} {}", at("service_name"), at("span_name")).trim().to_owned(), value)
        };
        lines.into_iter().map(last).collect()
    }

    /// Latencies, exactly: all spans of an operation fall into one bucket, and `rate()` of all buckets has the same factor.
    fn shows_latencies(&self, api: &Api, quantile: f64, asked: &Asked, wanted: &[(&str, f64)]) {
        let query = self.latencies(quantile, asked);
        let unit = if self.latency_unit == "s" { 1e-3 } else { 1.0 };
        same(&query, &self.ask(api, &query), &wanted.iter().map(|(key, ms)| (*key, ms * unit)).collect::<Vec<_>>());
    }

    /// Calls a second: between what was counted and what `rate()` may make of it, in the proportions of the counts.
    fn shows_calls(&self, api: &Api, asked: &Asked, wanted: &[(&str, f64)]) {
        let query = self.call_rates(asked);
        let found = self.ask(api, &query);
        let (key, calls) = wanted[0];
        let factor = found.get(key).unwrap_or_else(|| panic!("{query}: {found:?}")) * RATE / calls;
        assert!((0.99..EXTRAPOLATED).contains(&factor), "{query}: {factor} times the calls: {found:?}");
        same(&query, &found, &wanted.iter().map(|(key, calls)| (*key, calls * factor / RATE)).collect::<Vec<_>>());
    }

    /// The share of failed calls.
    fn shows_errors(&self, api: &Api, asked: &Asked, wanted: &[(&str, f64)]) {
        let query = self.error_rates(asked);
        same(&query, &self.ask(api, &query), wanted);
    }
}

fn same(query: &str, found: &BTreeMap<String, f64>, wanted: &[(&str, f64)]) {
    let keys: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(keys, wanted.iter().map(|(key, _)| *key).collect::<Vec<_>>(), "{query}: {found:?}");
    for (key, value) in wanted {
        assert!((found[*key] - value).abs() <= value.abs() * 1e-6, "{query}: {key} is {} and not {value}", found[*key]);
    }
}

#[test]
fn the_monitor_page_of_jaeger_finds_in_prometheus_what_was_read_from_kafka() {
    let prometheus = RealPrometheus::start();
    let api = &prometheus.api;
    let scene = Scene::start(api.write_url());
    scene.create(TOPIC, 1);
    let overrides: Vec<String> = STORAGES.iter().map(|s| format!("  {}:\n    {}\n", s.tenant, s.overrides)).collect();
    scene.says(&format!("tenants:\n{}", overrides.concat()));
    let file = format!("overrides.file={}", scene.overrides().display());
    let settings = [&file, "tenant.source=attribute", "tenant.attribute=org", "service_graphs.enabled=false"];
    let mut worker = scene.worker("worker", TOPIC, &settings);
    scene.send(TOPIC, (1..).zip(&STORAGES).map(|(n, storage)| (0, traces(n * 1000, storage.tenant))));
    for storage in &STORAGES {
        wait_until("its series have some samples", PATIENCE, || {
            must_run(&mut worker);
            let counted = api.instant(&format!("count_over_time({}{{span_name=\"page\"}}[1h])", storage.calls()))?;
            match counted.first() {
                Some(row) if row.value >= SAMPLES => Ok(()),
                _ => Err(format!("{}: {counted:?}\n{}", storage.tenant, worker.tail())),
            }
        });
        finds_everything(storage, api);
    }
    stop(worker);
}

/// Each query that the page makes, with and without operations, for one kind of spans, for several, and for all.
fn finds_everything(storage: &Storage, api: &Api) {
    let page = Asked { services: &["web"], kinds: &["SERVER"], by_operation: false };
    let operations = Asked { by_operation: true, ..page };
    // Halves of the spans in the buckets up to 128 ms and up to 512 ms.
    for (quantile, ms) in [(0.5, 128.0), (0.75, 384.0), (0.95, 486.4)] {
        storage.shows_latencies(api, quantile, &page, &[("web", ms)]);
    }
    storage.shows_latencies(api, 0.95, &operations, &[("web page", 499.2), ("web search", 124.8)]);
    storage.shows_calls(api, &page, &[("web", 10.0)]);
    storage.shows_calls(api, &operations, &[("web page", 5.0), ("web search", 5.0)]);
    storage.shows_errors(api, &page, &[("web", 0.5)]);
    // An operation without errors has no line; Jaeger then draws zero if it has calls.
    storage.shows_errors(api, &operations, &[("web search", 1.0)]);
    let well = Asked { services: &["mail"], kinds: &["CONSUMER"], by_operation: false };
    storage.shows_errors(api, &well, &[]);
    storage.shows_calls(api, &well, &[("mail", 5.0)]);
    // A service that has no spans of the kind.
    let none = Asked { services: &["mail"], ..page };
    storage.shows_errors(api, &none, &[]);
    assert!(storage.ask(api, &storage.call_rates(&none)).is_empty());

    let several = Asked { services: &["cart", "web"], kinds: &["SERVER", "CLIENT"], by_operation: false };
    storage.shows_calls(api, &several, &[("cart", 5.0), ("web", 15.0)]);
    storage.shows_errors(api, &several, &[("cart", 1.0), ("web", 1.0 / 3.0)]);
    storage.shows_latencies(api, 0.95, &several, &[("cart", 124.8), ("web", 473.6)]);
    let all = Asked { services: &["mail", "web"], kinds: &[], by_operation: true };
    storage.shows_calls(api, &all, &[("mail receive", 5.0), ("web call", 5.0), ("web page", 5.0), ("web search", 5.0)]);
    storage.shows_latencies(
        api,
        0.5,
        &all,
        &[("mail receive", 48.0), ("web call", 192.0), ("web page", 384.0), ("web search", 96.0)],
    );
}

/// Some traces in one record, so that all of them are counted in the same step: two requests to `web`, of which one fails in
/// `cart`, and a message for `mail`.
fn traces(id: u64, org: &str) -> Vec<u8> {
    let ms = Duration::from_millis;
    let (mut web, mut cart, mut mail) = (Vec::new(), Vec::new(), Vec::new());
    for id in (0..TRACES).map(|i| id + i * 10) {
        let page = span(id, "page", Server, ms(300));
        let call = child(&page, span(id + 1, "call", Client, ms(200)));
        cart.push(failed(child(&call, span(id + 2, "answer", Server, ms(100)))));
        mail.push(child(&page, span(id + 3, "receive", Consumer, ms(50))));
        web.extend([page, call, failed(span(id + 4, "search", Server, ms(100)))]);
    }
    let of = |service, spans| resource(&[("service.name", service), ("org", org)], spans);
    record(vec![of("web", web), of("cart", cart), of("mail", mail)])
}
