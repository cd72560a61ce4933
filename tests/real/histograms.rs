//! Native histograms, as receivers take them.

use std::collections::BTreeSet;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind::{Client, Internal, Server};

use super::scene::{Scene, child, record, resource, span, stop, with};
use crate::servers::api::Api;
use crate::servers::daemon::Daemon;
use crate::servers::metrics::{RealPrometheus, RealVictoria};
use crate::servers::series::{Values, compare};
use crate::servers::wait_until;
use crate::{PATIENCE, SHOWN, must_run, rows, values};

const TOPIC: &str = "histograms";
/// All tenants get the same spans. Prometheus has the first three; the third has native histograms only.
const TENANTS: [&str; 4] = ["exact", "weighted", "only", "vm"];
/// What a span of the tenant `weighted` counts for.
const WEIGHT: f64 = 4.0;
/// Milliseconds, none closer to a classic bound than a native bucket is wide.
const TOOK: [u64; 9] = [0, 0, 3, 3, 5, 50, 100, 400, 20_000];
const LATENCY: &str = "traces_spanmetrics_latency";
const HISTOGRAMS: [&str; 3] =
    [LATENCY, "traces_service_graph_request_server_seconds", "traces_service_graph_request_client_seconds"];

#[test]
fn native_histograms_from_kafka_agree_with_classic_ones_in_prometheus_and_victoriametrics_has_the_classic_ones() {
    let (without, victoria) = (RealPrometheus::start_with(None, "exemplar-storage"), RealVictoria::start());
    let scene = Scene::start(without.api.write_url());
    scene.create(TOPIC, 1);
    scene.says(&overrides(&victoria));
    let file = format!("overrides.file={}", scene.overrides().display());
    let settings = ["histograms.mode=both", "tenant.source=attribute", "tenant.attribute=tenant", &file];
    let settings = [&settings[..], &["series.tenant_label=tenant", "remote_write.max_backoff=1s"]].concat();
    let mut worker = scene.worker("worker", TOPIC, &settings);
    scene.send(TOPIC, (1..).zip(TENANTS).map(|(number, tenant)| (0, traffic(number, tenant))));
    let prometheus = with_the_feature(without, &mut worker);
    let api = &prometheus.api;
    everything_is_counted(api, &mut worker);
    HISTOGRAMS.iter().for_each(|metric| counts_and_sums_agree(api, metric));
    HISTOGRAMS.iter().for_each(|metric| buckets_agree(api, metric));
    quantiles_are_near(api);
    assert!(rows(api, &format!("{LATENCY}_count{{tenant=\"only\"}}")).is_empty());
    victoriametrics_has_the_same(&victoria, api);

    exemplars_are_there(api, &format!("{LATENCY}_bucket{{tenant=\"exact\"}}")).expect("classic buckets have exemplars");
    // Prometheus 2.42 looks for the series of an exemplar before it makes that of a native histogram, so the exemplars of
    // its first step are lost there.
    scene.send(TOPIC, [(0, traffic(9, "only"))]);
    wait_until("native histograms have exemplars", PATIENCE, || {
        exemplars_are_there(api, &format!("{LATENCY}{{tenant=\"only\"}}"))
    });
    stop(worker);

    // Whatever is idle when the next worker comes ends at once.
    let mut worker = scene.worker("second worker", TOPIC, &[&settings[..], &["series.stale_after=1s"]].concat());
    wait_until("every series has ended", PATIENCE, || {
        must_run(&mut worker);
        let rest = api.instant("count({__name__=~\"traces_.+\"})")?;
        if rest.is_empty() { Ok(()) } else { Err(format!("{rest:?}\n{}", worker.tail())) }
    });
    stop(worker);
}

fn overrides(victoria: &RealVictoria) -> String {
    let url = victoria.api.write_url();
    format!(
        "tenants:
  weighted: {{span_metrics: {{span_multiplier_key: kept}}, service_graphs: {{span_multiplier_key: kept}}}}
  only: {{histograms: {{mode: native}}}}
  vm: {{remote_write: {{url: {url:?}}}}}
"
    )
}

/// Without the feature, Prometheus refuses whole requests, as if it would take them later. So it gets them later.
fn with_the_feature(without: RealPrometheus, worker: &mut Daemon) -> RealPrometheus {
    wait_until("it is said why nothing arrives", PATIENCE, || {
        must_run(worker);
        let log = worker.tail();
        if log.contains("native histograms are disabled") { Ok(()) } else { Err(log) }
    });
    let port = without.port;
    drop(without);
    RealPrometheus::start_with(Some(port), "exemplar-storage,native-histograms")
}

fn everything_is_counted(api: &Api, worker: &mut Daemon) {
    for tenant in &TENANTS[..3] {
        let (spans, edges) = (TOOK.len() + 2, 1);
        let weight = if *tenant == "weighted" { WEIGHT } else { 1.0 };
        for (metric, observed) in HISTOGRAMS.into_iter().zip([spans, edges, edges]) {
            wait_until("everything is counted", PATIENCE, || {
                must_run(worker);
                let found = api.instant(&format!("sum(histogram_count({metric}{{tenant={tenant:?}}}))"))?;
                let found = found.first().map(|row| row.value);
                let done = found == Some(observed as f64 * weight);
                if done { Ok(()) } else { Err(format!("{tenant}, {metric}: {found:?}\n{}", worker.tail())) }
            });
        }
    }
}

/// All that is classic. This version leaves native histograms out without a word.
fn victoriametrics_has_the_same(victoria: &RealVictoria, prometheus: &Api) {
    let classic = |api: &Api, tenant: &str| -> Result<Values, String> {
        let all = api.instant(&format!("{{__name__=~\"traces_.+_(total|count|bucket)\", tenant={tenant:?}}}"));
        Ok(without_tenant(values(all?)))
    };
    let expected = classic(prometheus, "exact").expect("a query");
    wait_until("VictoriaMetrics has what Prometheus has", PATIENCE, || {
        victoria.flush();
        compare(&expected, &classic(&victoria.api, "vm")?, SHOWN)
    });
    assert!(rows(&victoria.api, LATENCY).is_empty());
}

/// Spans of three operations, and one edge between two services.
fn traffic(number: u64, tenant: &str) -> Vec<u8> {
    let first = number * 100;
    let kept = |span| with(span, "kept", Value::DoubleValue(1.0 / WEIGHT));
    let spans = (first..).zip(TOOK).map(|(id, ms)| {
        let name = if ms < 4 { "quick" } else { "work" };
        kept(span(id, name, Internal, Duration::from_millis(ms)))
    });
    let call = kept(span(first + 90, "call", Client, Duration::from_millis(300)));
    let answer = kept(child(&call, span(first + 91, "answer", Server, Duration::from_millis(150))));
    let of = |service| [("service.name", service), ("tenant", tenant)];
    let web = spans.chain([call]).collect();
    record(vec![resource(&of("web"), web), resource(&of("cart"), vec![answer])])
}

fn counts_and_sums_agree(api: &Api, metric: &str) {
    for (function, suffix) in [("histogram_count", "_count"), ("histogram_sum", "_sum")] {
        let native = rows(api, &format!("{function}({metric}{{tenant!=\"only\"}})"));
        let classic = nameless(rows(api, &format!("{metric}{suffix}")), &[]);
        assert!(!classic.is_empty(), "{metric} has no {suffix}");
        compare(&classic, &native, SHOWN).unwrap_or_else(|e| panic!("{metric}{suffix}: {e}"));
    }
}

/// What lies below a classic bound is the same in both.
fn buckets_agree(api: &Api, metric: &str) {
    let classic = rows(api, &format!("{metric}_bucket{{le!=\"+Inf\"}}"));
    let bounds: BTreeSet<String> = classic.keys().map(|s| s.label("le").to_owned()).collect();
    assert!(bounds.len() > 7, "{bounds:?}");
    for le in bounds {
        let classic = nameless(rows(api, &format!("{metric}_bucket{{le={le:?}}}")), &["le"]);
        let native = format!("{metric}{{tenant!=\"only\"}}");
        let native = rows(api, &format!("histogram_fraction(-1, {le}, {native}) * histogram_count({native})"));
        // A fraction is a quotient.
        let native = native.into_iter().map(|(s, v)| (s, (v * 1e6).round() / 1e6)).collect();
        compare(&classic, &native, SHOWN).unwrap_or_else(|e| panic!("{metric} up to {le}: {e}"));
    }
}

/// A native bucket is a tenth wide at most.
fn quantiles_are_near(api: &Api) {
    for (quantile, seconds) in [(0.1, 0.005), (0.5, 0.1), (0.9, 20.0)] {
        let found = rows(api, &format!("histogram_quantile({quantile}, {LATENCY}{{span_name=\"work\"}})"));
        assert_eq!(found.len(), 3, "{found:?}");
        for (series, value) in found {
            assert!((seconds / 1.1..=seconds * 1.1).contains(&value), "{quantile} of {series}: {value}");
        }
    }
}

fn exemplars_are_there(api: &Api, metric: &str) -> Result<(), String> {
    let exemplars = api.exemplars(metric)?;
    let good = exemplars.iter().filter(|labels| labels.get("traceID").is_some_and(|id| id.len() == 32)).count();
    if good > 0 && good == exemplars.len() { Ok(()) } else { Err(format!("{metric}: {exemplars:?}")) }
}

fn without_tenant(values: Values) -> Values {
    values.into_iter().map(|(mut s, v)| (drop(s.labels.remove("tenant")), (s, v)).1).collect()
}

/// The series as functions return them.
fn nameless(values: Values, without: &[&str]) -> Values {
    let strip = |(mut series, value): (crate::servers::series::Series, f64)| {
        series.name.clear();
        series.labels.retain(|name, _| !without.contains(&name.as_str()));
        (series, value)
    };
    values.into_iter().map(strip).collect()
}
