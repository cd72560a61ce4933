//! Labels that would be one and the same.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::labels::{collisions, dimension_label, sanitise_label};
use super::layers::Layers;
use super::settings::{Config, Dimension, Profile};
use super::syntax;

/// The labels of the series that spanmill makes; a label of the user's must not replace one.
const OWN_LABELS: [&str; 13] = [
    "service",
    "service_name",
    "span_name",
    "span_kind",
    "status_code",
    "status_message",
    "span_instrumentation_scope_name",
    "span_instrumentation_scope_version",
    "metric_overflow",
    "overflow_shard",
    "grafana_host_id",
    "host_source",
    "connection_type",
];

/// Those of edges among them.
const EDGE_LABELS: [&str; 7] = [
    "client",
    "server",
    "connection_type",
    "failed",
    "virtual_node",
    "client_service_namespace",
    "server_service_namespace",
];

/// Labels that series have only with [`TARGET_INFO`].
const TARGET_LABELS: [&str; 2] = ["job", "instance"];
const TARGET_INFO: &str = "span_metrics.enable_target_info";

/// The labels of an edge that a dimension makes.
fn edge_labels(config: &Config, name: &str) -> Vec<String> {
    let both = config.service_graphs.client_server_prefix || config.naming.profile == Profile::Otel;
    let prefixes: &[&str] = if both { &["client_", "server_"] } else { &[""] };
    prefixes.iter().map(|prefix| sanitise_label(&format!("{prefix}{name}"))).collect()
}

/// Every label that the settings ask for, with the key that does.
fn asked_for(config: &Config) -> Vec<(String, String)> {
    let metrics = &config.span_metrics;
    let mut all = Vec::new();
    let mut add = |key: &str, dimensions: &[Dimension]| {
        let labels = dimensions.iter().enumerate();
        all.extend(labels.map(|(i, d)| (dimension_label(config, &d.name), format!("span_metrics.{key}[{i}]"))));
    };
    add("dimensions", &metrics.dimensions);
    add("calls_dimensions", &metrics.calls_dimensions);
    add("latency_dimensions", &metrics.latency_dimensions);
    add("events.dimensions", &metrics.event_dimensions);
    let mappings = metrics.dimension_mappings.iter().enumerate();
    let mapped = |(i, m): (usize, &super::settings::DimensionMapping)| {
        (dimension_label(config, &m.name), format!("span_metrics.dimension_mappings[{i}]"))
    };
    all.extend(mappings.map(mapped));
    for (i, dimension) in config.service_graphs.dimensions.iter().enumerate() {
        let labels = edge_labels(config, &dimension.name).into_iter();
        all.extend(labels.map(|label| (label, format!("service_graphs.dimensions[{i}]"))));
    }
    all
}

/// Why a label of every series cannot have this name, and the keys that this is about.
fn taken(name: &str, config: &Config, asked: &[(String, String)]) -> Option<(String, Option<String>)> {
    let of_target = config.span_metrics.target_info && TARGET_LABELS.contains(&name);
    let other = "choose another name";
    if name == "le" || name.starts_with("__") {
        Some((format!("is a label that Prometheus gives a meaning; {other}"), None))
    } else if OWN_LABELS.contains(&name) || EDGE_LABELS.contains(&name) {
        // Replacing it would merge series that other shards write.
        Some((format!("is a label that spanmill's own series carry; {other}"), None))
    } else if of_target {
        let message = format!("`{name}` is a label of spanmill's own with `{TARGET_INFO}`; {other}");
        Some((message, Some(TARGET_INFO.to_owned())))
    } else {
        let (_, path) = asked.iter().find(|(label, _)| label == name)?;
        Some((format!("`{name}` is the label of `{path}`, too; {other}"), Some(path.clone())))
    }
}

// === impl Layers ===

impl Layers<'_> {
    /// The rules about labels that must differ.
    pub(super) fn check_labels(&mut self, draft: &Draft) {
        for message in collisions(&draft.config) {
            // The keys that it names, the later one first.
            let paths: Vec<&str> = message.split(' ').filter(|word| word.starts_with("span_metrics.")).collect();
            self.broken(&paths, message.as_str());
        }
        self.check_edge_labels(&draft.config);
        let asked = asked_for(&draft.config);
        self.check_tenant_label(&draft.config, &asked);
        for (name, value) in &draft.config.series.external_labels {
            let path = format!("series.external_labels.{name}");
            if let Some((message, other)) = taken(name, &draft.config, &asked) {
                let paths: Vec<&str> = [Some(path.as_str()), other.as_deref()].into_iter().flatten().collect();
                self.broken(&paths, message);
            } else if value.is_empty() {
                self.broken(&[&path], "is empty, which is no label at all; write a value or remove it");
            } else {
                self.must(&path, syntax::label_name(name));
            }
        }
    }

    fn check_tenant_label(&mut self, config: &Config, asked: &[(String, String)]) {
        const PATH: &str = "series.tenant_label";
        let label = &config.series.tenant_label;
        if label.is_empty() {
            return;
        }
        let external = format!("series.external_labels.{label}");
        if let Some((message, other)) = taken(label, config, asked) {
            let paths: Vec<&str> = [Some(PATH), other.as_deref()].into_iter().flatten().collect();
            self.broken(&paths, message);
        } else if config.series.external_labels.contains_key(label) {
            self.broken(&[PATH, &external], format!("`{external}` has this name, too; choose another one"));
        } else {
            self.must(PATH, syntax::label_name(label));
        }
    }

    fn check_edge_labels(&mut self, config: &Config) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (i, dimension) in config.service_graphs.dimensions.iter().enumerate() {
            let path = format!("service_graphs.dimensions[{i}]");
            for label in edge_labels(config, &dimension.name) {
                if EDGE_LABELS.contains(&label.as_str()) {
                    let message = format!("would become `{label}`, a label that edges have already; remove it");
                    self.broken(&[&path], message);
                } else if let Some(first) = seen.insert(label.clone(), i).filter(|first| *first != i) {
                    let first = format!("service_graphs.dimensions[{first}]");
                    let message = format!("would become the label `{label}`, as `{first}` does; keep one of them");
                    self.broken(&[&path, &first], message);
                }
            }
        }
    }
}
