use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::{ALERTS, Dashboard, RECORDS, dashboards, files, runbooks};
use crate::worker::telemetry::names::{ALL, Kind, LEDGER, Metric};

/// Metrics that no panel and no alert asks for: they are for those who look for the cause of something.
const NOT_DRAWN: [&str; 39] = [
    "spanmill_attribute_values_counted_total",
    "spanmill_attribute_values_dropped_total",
    "spanmill_attribute_values_repaired_utf8_total",
    "spanmill_build_info",
    "spanmill_edge_spans_read_total",
    "spanmill_edge_spans_replaced_total",
    "spanmill_edges_repaired_utf8_total",
    "spanmill_edges_too_long_total",
    "spanmill_idle_ticks_total",
    "spanmill_info_dropped_total",
    "spanmill_info_repaired_utf8_total",
    "spanmill_memory_reserved_bytes",
    "spanmill_messaging_edges_not_observed_total",
    "spanmill_open_transaction",
    "spanmill_overrides_info",
    "spanmill_overrides_reloads_total",
    "spanmill_overrides_tenants",
    "spanmill_process_spans_read_total",
    "spanmill_records_reread_total",
    "spanmill_samples_converted_total",
    "spanmill_settings_changes_total",
    "spanmill_settings_info",
    "spanmill_slo_events_counted_total",
    "spanmill_slo_events_dropped_total",
    "spanmill_slo_events_repaired_utf8_total",
    "spanmill_span_events_repaired_utf8_total",
    "spanmill_trace_cycles_total",
    "spanmill_trace_spans_duplicate_total",
    "spanmill_trace_spans_early_total",
    "spanmill_trace_spans_open",
    "spanmill_trace_spans_orphaned_total",
    "spanmill_trace_spans_outliving_total",
    "spanmill_trace_spans_settled_total",
    "spanmill_trace_spans_total",
    "spanmill_trace_values_dropped_total",
    "spanmill_traces_closed_total",
    "spanmill_traces_forgotten_total",
    "spanmill_traces_too_long_total",
    "spanmill_watermark_timestamp_seconds",
];

fn below(path: &[&str]) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR")].iter().chain(path).collect()
}

fn queries() -> Vec<String> {
    let panels = dashboards();
    let of_panels = panels.iter().flat_map(Dashboard::panels).flat_map(|panel| &panel.queries);
    let of_rules = ALERTS.iter().map(|alert| alert.expr).chain(RECORDS.iter().map(|record| record.expr));
    of_panels.map(|query| query.expr.clone()).chain(of_rules.map(str::to_owned)).collect()
}

fn own() -> impl Iterator<Item = &'static Metric> {
    ALL.iter().chain(LEDGER)
}

#[test]
fn the_files_of_the_repository_are_those_that_the_command_writes() {
    for file in files() {
        let path = below(&["config", "grafana", file.name]);
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == file.text, "{} differs; run `spanmill dashboards config/grafana`", path.display());
    }
}

#[test]
fn the_page_of_runbooks_is_written_from_the_alerts() {
    let page = fs::read_to_string(below(&["docs", "runbooks.md"])).unwrap_or_default();
    if page != runbooks() {
        let right = Path::new(&std::env::temp_dir()).join("spanmill-runbooks.md");
        fs::write(&right, runbooks()).expect("a folder for temporary files");
        panic!("docs/runbooks.md is not what the alerts say; take {} in its place", right.display());
    }
}

#[test]
fn each_alert_has_a_case_in_which_prometheus_must_raise_it() {
    let cases = fs::read_to_string(below(&["tests", "real", "rules.yaml"])).expect("the cases");
    for alert in ALERTS {
        let raised = format!("alertname: {}\n        exp_alerts:", alert.name);
        assert!(cases.contains(&raised), "tests/real/rules.yaml does not raise {}", alert.name);
    }
}

#[test]
fn queries_ask_for_metrics_that_exist_with_labels_that_they_have() {
    let name = Regex::new(r"spanmill_[a-z0-9_]+").expect("a pattern");
    let matchers = Regex::new(r"(spanmill_[a-z0-9_]+)\{([^}]*)\}").expect("a pattern");
    for query in queries() {
        for found in name.find_iter(&query) {
            let metric = metric(found.as_str());
            assert!(metric.is_some(), "there is no {} ({query})", found.as_str());
        }
        for found in matchers.captures_iter(&query) {
            let labels = metric(&found[1]).expect("looked up above").labels;
            for matcher in found[2].split(',') {
                let label = matcher.split(['=', '!']).next().unwrap_or_default();
                assert!(labels.contains(&label), "{} has no label {label} ({query})", &found[1]);
            }
        }
    }
}

/// The metric of a name, which may be that of a part of a histogram.
fn metric(name: &str) -> Option<&'static Metric> {
    own().find(|metric| {
        let part = name.strip_prefix(metric.name).unwrap_or("?");
        part.is_empty() || metric.kind == Kind::Histogram && ["_bucket", "_sum", "_count"].contains(&part)
    })
}

#[test]
fn every_metric_of_its_own_is_drawn_or_alerted_on_or_named_here() {
    let text = queries().join("\n");
    let asked = |name: &str| Regex::new(&format!("{name}(_bucket)?\\b")).expect("a pattern").is_match(&text);
    let missing: BTreeSet<&str> = own().map(|metric| metric.name).filter(|name| !asked(name)).collect();
    assert_eq!(missing, BTreeSet::from(NOT_DRAWN));
}

#[test]
fn panels_fit_the_width_and_have_a_text_for_those_who_do_not_know_them() {
    for dashboard in dashboards() {
        let value: serde_json::Value = serde_json::from_str(&dashboard.json()).expect("JSON");
        let panels = value["panels"].as_array().expect("panels").clone();
        let mut ids = BTreeSet::new();
        for panel in &panels {
            let place = &panel["gridPos"];
            assert!(place["x"].as_u64().unwrap_or(99) + place["w"].as_u64().unwrap_or(99) <= 24, "{panel}");
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        }
        assert!(dashboard.panels().all(|panel| panel.description.ends_with('.')), "{}", dashboard.title);
    }
}
