//! Attribute metrics beside everything else: names of metrics that would meet, labels that would hide one another.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::layers::Layers;
use super::problem::quoted;
use crate::core::model::{Family, Layout, Naming, Shape, Spec};
use crate::core::settings::labels::attribute_metric_label;
use crate::core::settings::{AttributeMetric, AttributeMetricKind, Settings};

/// What names of spanmill's own begin with, in whatever configuration.
const OWN: [&str; 4] = ["traces_spanmetrics_", "traces_service_graph_", "traces_slo_", "spanmill_"];
/// What series of a histogram end with; of a native one with nothing.
const PARTS: [&str; 4] = ["", "_bucket", "_sum", "_count"];

/// The names of all series that spanmill makes without attribute metrics.
fn own_names(config: &Settings) -> Vec<String> {
    let named = Naming::Named(config.host_info.metric_name.clone());
    let families = [
        (Family::SpanMetrics, config.naming.metrics()),
        (Family::ServiceGraph, Naming::Tempo),
        (Family::SpanEvents, config.naming.metrics()),
        (Family::TargetInfo, config.naming.metrics()),
        (Family::HostInfo, named),
        (Family::Slo, Naming::Tempo),
    ];
    let of = |(family, naming): (Family, Naming)| {
        let histograms = family.histograms().iter().map(|_| Some(Shape::classic(&[1]))).collect();
        let layout = Layout::of(&Spec { family, naming, weighted: false, histograms });
        let counters = (0..family.counters().len()).map(|c| layout.counter_name(c));
        let bases = (0..family.histograms().len()).map(|h| layout.histogram_name(h));
        let parts = bases.flat_map(|base| PARTS.map(|part| format!("{base}{part}")));
        counters.chain(parts).collect::<Vec<_>>()
    };
    families.into_iter().flat_map(of).collect()
}

/// The names of the series of an attribute metric.
fn names_of(metric: &AttributeMetric) -> Vec<String> {
    match metric.kind {
        AttributeMetricKind::Histogram => PARTS.map(|part| format!("{}{part}", metric.name)).to_vec(),
        AttributeMetricKind::Counter | AttributeMetricKind::Sum => vec![metric.name.clone()],
    }
}

// === impl Layers ===

impl Layers<'_> {
    /// The rules about attribute metrics that look at more than one entry.
    pub(super) fn check_attribute_metrics(&mut self, draft: &Draft) {
        let config = &draft.config.core;
        if !config.has_attribute_metrics() {
            return;
        }
        let own = own_names(config);
        for (i, metric) in config.attribute_metrics.iter().enumerate() {
            let path = format!("attribute_metrics[{i}]");
            let preset = config
                .attribute_metrics_presets
                .iter()
                .find(|preset| preset.entries().iter().any(|entry| entry.name == metric.name));
            let begins = OWN.iter().any(|own| metric.name.starts_with(own));
            if begins || names_of(metric).iter().any(|name| own.contains(name)) {
                let message =
                    format!("has the name {} of a metric of spanmill's own; choose another one", quoted(&metric.name));
                self.broken(&[&path], message);
            } else if let Some(preset) = preset {
                let message = format!(
                    "has the name {} of a metric of the preset `{}`; choose another one, or remove the preset",
                    quoted(&metric.name),
                    preset.name()
                );
                self.broken(&[&path, "attribute_metrics_presets"], message);
            }
            self.check_labels_of(config, metric, &path);
        }
    }

    fn check_labels_of(&mut self, config: &Settings, metric: &AttributeMetric, path: &str) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (j, label) in metric.labels.iter().enumerate() {
            if AttributeMetric::INTRINSICS.contains(&label.name.as_str()) {
                continue;
            }
            let (path, name) = (format!("{path}.labels[{j}]"), attribute_metric_label(config, &label.name));
            if name.is_empty() {
                self.broken(&[&path], "does not become a label; name an attribute with a letter, or remove it");
            } else if let Some(first) = seen.insert(name.clone(), j) {
                let first = path.replace(&format!(".labels[{j}]"), &format!(".labels[{first}]"));
                let message = format!("would become the label `{name}`, as `{first}` does; keep one of them");
                self.broken(&[&path, &first], message);
            }
        }
    }
}
