//! Labels that would collide.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::labels::collisions;
use super::layers::Layers;
use super::syntax;
use crate::core::settings::labels::{SLO_LABEL, attribute_metric_label, dimension_label, edge_labels, slo_label};
use crate::core::settings::{
    AttributeMetric, Dimension, DimensionMapping, Profile, ServiceNamespace, Settings, Slo, SloSubject,
};

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

/// Those of edges, if every setting that makes one is on.
const EDGE_LABELS: [&str; 7] = [
    "client",
    "server",
    "connection_type",
    "failed",
    "virtual_node",
    "client_service_namespace",
    "server_service_namespace",
];

/// Labels that edges have only with [`OPERATIONS`].
const OPERATION_LABELS: [&str; 2] = ["client_operation", "server_operation"];
const OPERATIONS: &str = "service_graphs.operations";

/// Labels that series have only with [`TARGET_INFO`].
const TARGET_LABELS: [&str; 2] = ["job", "instance"];
const TARGET_INFO: &str = "span_metrics.enable_target_info";

/// Labels that series have only with a metric of traces.
const TRACE_LABELS: [&str; 10] = [
    "root_service",
    "root_operation",
    "roots",
    "operation",
    "kind",
    "error_type",
    "callee",
    "callee_operation",
    "problem",
    "is_root",
];
const TRACES: [&str; 6] = [
    "traces.duration",
    "traces.critical_path",
    "traces.errors",
    "traces.calls",
    "traces.quality",
    "traces.span_metrics",
];

/// The labels that edges have as the settings stand.
fn own_edge_labels(config: &Settings) -> impl Iterator<Item = &'static str> {
    let graphs = &config.service_graphs;
    let namespaces = graphs.service_namespace == ServiceNamespace::Labels;
    let (failed, virtual_node) = (config.naming.profile == Profile::Otel, graphs.virtual_node_label);
    let edges = EDGE_LABELS.into_iter().filter(move |label| match *label {
        "failed" => failed,
        "virtual_node" => virtual_node,
        "client_service_namespace" | "server_service_namespace" => namespaces,
        _ => true,
    });
    edges.chain(OPERATION_LABELS.into_iter().filter(|_| graphs.operations))
}

/// All labels that edges have as the settings stand.
pub(super) fn labels_of_edges(config: &Settings) -> Vec<String> {
    let dimensions = config.service_graphs.dimensions.iter().flat_map(|dimension| edge_labels(config, &dimension.name));
    own_edge_labels(config).map(str::to_owned).chain(dimensions).filter(|label| !label.is_empty()).collect()
}

/// Every label that the settings ask for, with the key that does.
fn asked_for(config: &Settings) -> Vec<(String, String)> {
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
    let mapped = |(i, m): (usize, &DimensionMapping)| {
        (dimension_label(config, &m.name), format!("span_metrics.dimension_mappings[{i}]"))
    };
    all.extend(mappings.map(mapped));
    for (i, dimension) in config.service_graphs.dimensions.iter().enumerate() {
        let labels = edge_labels(config, &dimension.name).into_iter();
        all.extend(labels.map(|label| (label, format!("service_graphs.dimensions[{i}]"))));
    }
    for (i, slo) in config.slos.iter().enumerate() {
        all.push((SLO_LABEL.to_owned(), "slos".to_owned()));
        // Those of edges and traces are labels that these have anyway.
        let of_spans = slo.of == SloSubject::Spans;
        let labels = slo.labels.iter().enumerate().filter(|(_, d)| of_spans && d.name != Slo::SERVICE);
        all.extend(labels.map(|(j, d)| (slo_label(config, &d.name), format!("slos[{i}].labels[{j}]"))));
    }
    for (i, metric) in config.attribute_metrics.iter().enumerate() {
        let labels = metric.labels.iter().enumerate();
        let labels = labels.filter(|(_, d)| !AttributeMetric::INTRINSICS.contains(&d.name.as_str()));
        let path = |j| format!("attribute_metrics[{i}].labels[{j}]");
        all.extend(labels.map(|(j, d)| (attribute_metric_label(config, &d.name), path(j))));
    }
    let branches = config.traces.branch_labels.iter().enumerate();
    all.extend(branches.map(|(i, label)| (label.name.clone(), format!("traces.branch_labels[{i}]"))));
    for preset in &config.attribute_metrics_presets {
        let labels = preset.entries().into_iter().flat_map(|entry| entry.labels);
        let path = "attribute_metrics_presets".to_owned();
        all.extend(labels.map(|d| (attribute_metric_label(config, &d.name), path.clone())));
    }
    all
}

/// Why a label of every series cannot have this name, and the keys that this is about.
fn taken(name: &str, config: &Settings, asked: &[(String, String)]) -> Option<(String, Option<String>)> {
    let of_target = config.span_metrics.target_info && TARGET_LABELS.contains(&name);
    let of_operation = config.service_graphs.operations && OPERATION_LABELS.contains(&name);
    let own = &config.traces;
    let traces = [own.duration, own.critical_path, own.errors, own.calls, own.quality, own.span_metrics];
    let of_traces = TRACES.into_iter().zip(traces).find(|(_, on)| *on && TRACE_LABELS.contains(&name));
    let other = "choose another name";
    if name == "le" || name.starts_with("__") {
        Some((format!("is a label with a special meaning in Prometheus; {other}"), None))
    } else if OWN_LABELS.contains(&name) || EDGE_LABELS.contains(&name) {
        // Replacing it would merge series that other shards write.
        Some((format!("is a label of spanmill's own series; {other}"), None))
    } else if of_target || of_operation {
        let key = if of_target { TARGET_INFO } else { OPERATIONS };
        let message = format!("`{name}` is a label of spanmill's own with `{key}`; {other}");
        Some((message, Some(key.to_owned())))
    } else if let Some((key, _)) = of_traces {
        Some((format!("`{name}` is a label of spanmill's own with `{key}`; {other}"), Some(key.to_owned())))
    } else {
        let (_, path) = asked.iter().find(|(label, _)| label == name)?;
        Some((format!("`{name}` is also the label of `{path}`; {other}"), Some(path.clone())))
    }
}

// === impl Layers ===

impl Layers<'_> {
    /// The rules about labels that must differ.
    pub(super) fn check_labels(&mut self, draft: &Draft) {
        for message in collisions(&draft.config.core) {
            // The keys that it names, the later one first.
            let paths: Vec<&str> = message.split(' ').filter(|word| word.starts_with("span_metrics.")).collect();
            self.broken(&paths, message.as_str());
        }
        self.check_edge_labels(&draft.config.core);
        let asked = asked_for(&draft.config.core);
        self.check_tenant_label(&draft.config.core, &asked);
        for (name, value) in &draft.config.core.series.external_labels {
            let path = format!("series.external_labels.{name}");
            if let Some((message, other)) = taken(name, &draft.config.core, &asked) {
                let paths: Vec<&str> = [Some(path.as_str()), other.as_deref()].into_iter().flatten().collect();
                self.broken(&paths, message);
            } else if value.is_empty() {
                self.broken(&[&path], "is empty, so there would be no label; write a value or remove it");
            } else {
                self.must(&path, syntax::label_name(name));
                self.check_length(&path, (name, value), &draft.config.core);
            }
        }
    }

    /// What spans say is cut to the limits, and this is not: a receiver would refuse every series.
    fn check_length(&mut self, path: &str, (name, value): (&str, &str), config: &Settings) {
        let limits = &config.limits;
        for (what, text, key, most) in [
            ("name", name, "limits.max_label_name_length", limits.max_label_name_length),
            ("value", value, "limits.max_label_value_length", limits.max_label_value_length),
        ] {
            if most > 0 && text.len() > most {
                let length = text.len();
                self.broken(
                    &[path, key],
                    format!(
                        "has a {what} of {length} bytes, more than `{key}` ({most}); shorten it, or raise the limit"
                    ),
                );
            }
        }
    }

    fn check_tenant_label(&mut self, config: &Settings, asked: &[(String, String)]) {
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
            self.broken(&[PATH, &external], format!("`{external}` has the same name; choose another one"));
        } else {
            self.must(PATH, syntax::label_name(label));
        }
    }

    fn check_edge_labels(&mut self, config: &Settings) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (i, dimension) in config.service_graphs.dimensions.iter().enumerate() {
            let path = format!("service_graphs.dimensions[{i}]");
            for label in edge_labels(config, &dimension.name) {
                if own_edge_labels(config).any(|own| own == label) {
                    let message = format!("would become `{label}`, a label that edges have already; remove it");
                    self.broken(&[&path], message);
                } else if label.is_empty() {
                    self.broken(&[&path], "does not become a label; name an attribute with a letter, or remove it");
                } else if let Some(first) = seen.insert(label.clone(), i).filter(|first| *first != i) {
                    let first = format!("service_graphs.dimensions[{first}]");
                    let message = format!("would become the label `{label}`, as `{first}` does; keep one of them");
                    self.broken(&[&path, &first], message);
                }
            }
        }
    }
}
