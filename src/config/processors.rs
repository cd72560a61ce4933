//! Rules about what is computed from spans, for everybody or for one tenant.

use super::draft::Draft;
use super::layers::Layers;
use super::rules::at_least;
use super::syntax;
use super::value::show_duration;

/// The labels of the series that spanmill makes; a label of the user's must not replace one.
const OWN_LABELS: [&str; 17] = [
    "service",
    "service_name",
    "span_name",
    "span_kind",
    "status_code",
    "status_message",
    "span_instrumentation_scope_name",
    "span_instrumentation_scope_version",
    "client",
    "server",
    "connection_type",
    "failed",
    "virtual_node",
    "client_service_namespace",
    "server_service_namespace",
    "metric_overflow",
    "grafana_host_id",
];

/// The key that brings [`TARGET_LABELS`].
const TARGET_INFO: &str = "span_metrics.enable_target_info";

/// Labels that series have only with it.
const TARGET_LABELS: [&str; 2] = ["job", "instance"];

// === impl Layers ===

impl Layers<'_> {
    /// The rules about what is computed from spans.
    pub(super) fn check_processors(&mut self, draft: &Draft) {
        self.check_naming(draft);
        self.check_span_metrics(draft);
        self.check_service_graphs(draft);
        self.check_host_info(draft);
        let config = &draft.config;
        if !config.span_metrics.enabled && !config.service_graphs.enabled && !config.host_info.enabled {
            let paths = ["span_metrics.enabled", "service_graphs.enabled", "host_info.enabled"];
            self.broken(&paths, "nothing is left to do; enable span_metrics or service_graphs");
        }
    }

    fn check_naming(&mut self, draft: &Draft) {
        let namespace = &draft.config.naming.namespace;
        if !namespace.is_empty() {
            let legal = syntax::metric_name(&namespace.replace('.', "_"));
            self.must("naming.namespace", legal.map_err(|_| syntax::NAMESPACE.to_owned()));
        }
    }

    fn check_span_metrics(&mut self, draft: &Draft) {
        let metrics = &draft.config.span_metrics;
        if metrics.events && metrics.event_dimensions.is_empty() {
            let paths = ["span_metrics.events.enabled", "span_metrics.events.dimensions"];
            let message = "needs `span_metrics.events.dimensions`, at least one attribute, such as `[exception.type]`";
            self.broken(&paths, message);
        }
        if metrics.enabled
            && !(metrics.calls || metrics.latency || metrics.size || metrics.events || metrics.target_info)
        {
            let parts = ["calls", "latency", "size"].map(|part| format!("span_metrics.{part}"));
            let mut paths: Vec<&str> = parts.iter().map(String::as_str).collect();
            paths.push("span_metrics.enabled");
            self.broken(&paths, "nothing is left of span metrics; write `span_metrics.enabled: false` instead");
        }
    }

    fn check_service_graphs(&mut self, draft: &Draft) {
        let graphs = &draft.config.service_graphs;
        if graphs.enabled && !(graphs.requests || graphs.latency || graphs.connection_info || graphs.messaging_latency)
        {
            let paths = ["service_graphs.requests", "service_graphs.latency", "service_graphs.enabled"];
            self.broken(&paths, "nothing is left of service graphs; write `service_graphs.enabled: false` instead");
        }
        if (1..100).contains(&graphs.failed_http_status) {
            let message = "is no HTTP status; write one such as `500`, or 0 for none";
            self.broken(&["service_graphs.failed_http_status"], message);
        }
    }

    fn check_host_info(&mut self, draft: &Draft) {
        let host_info = &draft.config.host_info;
        self.must("host_info.metric_name", syntax::metric_name(&host_info.metric_name));
        if host_info.enabled && host_info.host_identifiers.is_empty() {
            let paths = ["host_info.host_identifiers", "host_info.enabled"];
            self.broken(
                &paths,
                "is empty; name a resource attribute such as `host.id`, or switch `host_info.enabled` off",
            );
        }
    }

    /// The rules about series that a tenant can have of its own.
    pub(super) fn check_series_of(&mut self, draft: &Draft) {
        let series = &draft.config.series;
        if draft.step > 0 && series.interval % draft.step != 0 {
            let (interval, step) = (show_duration(series.interval), show_duration(draft.step));
            let message = format!("series.interval ({interval}) must be a multiple of time.step ({step})");
            self.broken(&["series.interval", "time.step"], message);
        }
        if series.stale_after < series.interval {
            self.broken(
                &["series.interval", "series.stale_after"],
                at_least("series.stale_after", series.stale_after, "series.interval", series.interval),
            );
        }
        self.must("series.exemplars.label", syntax::label_name(&series.exemplar_label));
        if !series.tenant_label.is_empty() {
            let path = "series.tenant_label";
            if let Some(reason) = taken(&series.tenant_label, draft) {
                self.broken(&[path, TARGET_INFO], reason);
            } else if series.external_labels.contains_key(&series.tenant_label) {
                let external = format!("series.external_labels.{}", series.tenant_label);
                self.broken(&[path, &external], format!("`{external}` has this name, too; choose another one"));
            } else {
                self.must(path, syntax::label_name(&series.tenant_label));
            }
        }
        for (name, value) in &series.external_labels {
            let path = format!("series.external_labels.{name}");
            if let Some(reason) = taken(name, draft) {
                self.broken(&[&path, TARGET_INFO], reason);
            } else if value.is_empty() {
                self.broken(&[&path], "is empty, which is no label at all; write a value or remove it");
            } else {
                self.must(&path, syntax::label_name(name));
            }
        }
    }
}

/// Why a label of every series cannot have this name.
fn taken(name: &str, draft: &Draft) -> Option<String> {
    let reason = if name == "le" || name.starts_with("__") {
        "is a label that Prometheus gives a meaning"
    } else if OWN_LABELS.contains(&name) {
        // Replacing it would merge series that other shards write.
        "is a label that spanmill's own series carry"
    } else if draft.config.span_metrics.target_info && TARGET_LABELS.contains(&name) {
        return Some(format!("`{name}` is a label of spanmill's own with `{TARGET_INFO}`; choose another name"));
    } else {
        return None;
    };
    Some(format!("{reason}; choose another name"))
}
