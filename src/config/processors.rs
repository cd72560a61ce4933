//! Rules about the metrics computed from spans, for the defaults or one tenant.

use std::collections::BTreeMap;

use super::collide::labels_of_edges;
use super::draft::Draft;
use super::layers::Layers;
use super::rules::at_least;
use super::syntax;
use super::value::show_duration;
use crate::core::settings::labels::{SLO_LABEL, slo_label};
use crate::core::settings::{FilterPolicy, Settings, Slo, SloSubject};

/// The labels of a trace as a whole.
const TRACE_LABELS: [&str; 4] = ["root_service", "root_operation", "roots", "status_code"];

// === impl Layers ===

impl Layers<'_> {
    /// The rules about the metrics computed from spans.
    pub(super) fn check_processors(&mut self, draft: &Draft) {
        self.check_naming(draft);
        self.check_span_metrics(draft);
        self.check_service_graphs(draft);
        self.check_host_info(draft);
        self.check_slos(draft);
        self.check_attribute_metrics(draft);
        self.check_branch_labels(draft);
    }

    /// Checks that at least one processor is enabled. Overrides may disable a tenant, or enable single tenants only.
    pub(super) fn check_work(&mut self, draft: &Draft) {
        let config = &draft.config;
        let enabled =
            [config.core.span_metrics.enabled, config.core.service_graphs.enabled, config.core.host_info.enabled];
        let others = !config.core.slos.is_empty() || config.core.has_attribute_metrics();
        let working = enabled.contains(&true) || others || config.core.traces.is_enabled();
        if !working && config.overrides.file.is_none() {
            let paths = ["span_metrics.enabled", "service_graphs.enabled", "host_info.enabled"];
            self.broken(&paths, "no processor is enabled; enable span_metrics or service_graphs");
        }
    }

    fn check_naming(&mut self, draft: &Draft) {
        let namespace = &draft.config.core.naming.namespace;
        if !namespace.is_empty() {
            let legal = syntax::metric_name(&namespace.replace('.', "_"));
            self.must("naming.namespace", legal.map_err(|_| syntax::NAMESPACE.to_owned()));
        }
    }

    fn check_span_metrics(&mut self, draft: &Draft) {
        let metrics = &draft.config.core.span_metrics;
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
            self.broken(&paths, "no metric of span metrics is enabled; write `span_metrics.enabled: false` instead");
        }
    }

    fn check_service_graphs(&mut self, draft: &Draft) {
        let graphs = &draft.config.core.service_graphs;
        if graphs.enabled && !(graphs.requests || graphs.latency || graphs.connection_info || graphs.topology) {
            let paths = ["service_graphs.requests", "service_graphs.latency", "service_graphs.enabled"];
            self.broken(
                &paths,
                "no metric of service graphs is enabled; write `service_graphs.enabled: false` \
                                 instead",
            );
        }
        if (1..100).contains(&graphs.failed_http_status) {
            let message = "is not an HTTP status; write one such as `500`, or 0 for none";
            self.broken(&["service_graphs.failed_http_status"], message);
        }
    }

    fn check_host_info(&mut self, draft: &Draft) {
        let host_info = &draft.config.core.host_info;
        self.must("host_info.metric_name", syntax::metric_name(&host_info.metric_name));
        if host_info.enabled && host_info.host_identifiers.is_empty() {
            let paths = ["host_info.host_identifiers", "host_info.enabled"];
            self.broken(
                &paths,
                "is empty; name a resource attribute such as `host.id`, or disable `host_info.enabled`",
            );
        }
    }

    fn check_branch_labels(&mut self, draft: &Draft) {
        let (traces, most) = (&draft.config.core.traces, draft.config.core.limits.max_label_name_length);
        if !traces.branch_labels.is_empty() && !traces.span_metrics {
            let message = "needs `traces.span_metrics: true`, whose series have these labels";
            self.broken(&["traces.branch_labels", "traces.span_metrics"], message);
        }
        for (i, label) in traces.branch_labels.iter().enumerate() {
            if most > 0 && label.name.len() > most {
                let (path, length) = (format!("traces.branch_labels[{i}]"), label.name.len());
                let message = format!(
                    "has a name of {length} bytes, more than `limits.max_label_name_length` ({most}); shorten it, or raise the limit"
                );
                self.broken(&[&path, "limits.max_label_name_length"], message);
            }
        }
    }

    /// A name that is cut would be that of another objective, and two attributes that become one label hide one another.
    fn check_slos(&mut self, draft: &Draft) {
        let config = &draft.config.core;
        let most = config.limits.max_label_value_length;
        for (i, slo) in config.slos.iter().enumerate() {
            if most > 0 && slo.name.len() > most {
                let message = format!(
                    "has a name of {} bytes, more than `limits.max_label_value_length` ({most}); shorten it, or raise the \
                     limit",
                    slo.name.len()
                );
                self.broken(&[&format!("slos[{i}]"), "limits.max_label_value_length"], message);
            }
            if slo.of != SloSubject::Spans {
                self.check_slo_of_labels(i, slo, config);
                continue;
            }
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for (j, label) in slo.labels.iter().enumerate().filter(|(_, label)| label.name != Slo::SERVICE) {
                let (path, name) = (format!("slos[{i}].labels[{j}]"), slo_label(config, &label.name));
                if name.is_empty() {
                    self.broken(&[&path], "does not become a label; name an attribute with a letter, or remove it");
                } else if let Some(first) = seen.insert(name.clone(), j) {
                    let first = format!("slos[{i}].labels[{first}]");
                    let message = format!("would become the label `{name}`, as `{first}` does; keep one of them");
                    self.broken(&[&path, &first], message);
                }
            }
        }
    }

    /// What an objective about edges or traces needs, and which labels these have.
    fn check_slo_of_labels(&mut self, i: usize, slo: &Slo, config: &Settings) {
        let (of, mut known) = match slo.of {
            SloSubject::Spans => return,
            SloSubject::Edges(_) => ("edges", labels_of_edges(config)),
            SloSubject::Traces => ("traces", TRACE_LABELS.map(str::to_owned).to_vec()),
        };
        known.retain(|label| label != SLO_LABEL);
        let missing = match slo.of {
            SloSubject::Edges(_) if !config.service_graphs.enabled => Some((
                "service_graphs.enabled",
                "`of: edges` needs `service_graphs.enabled: true`; enable it, or write `of: spans`",
            )),
            SloSubject::Traces if !config.traces.is_enabled() => Some((
                "traces.duration",
                "`of: traces` needs a metric of traces, without which no trace closes; write `traces.duration: true`",
            )),
            _ => None,
        };
        if let Some((key, message)) = missing {
            return self.broken(&[&format!("slos[{i}]"), key], message);
        }
        let wrong = |name: &str| {
            let is_known = known.iter().any(|label| label == name);
            (!is_known).then(|| format!("`{name}` is no label of {of} here; write one of {}", known.join(", ")))
        };
        let labels = slo.labels.iter().enumerate().map(|(j, label)| (format!("slos[{i}].labels[{j}]"), &label.name));
        let policies = slo.matching.iter().enumerate().flat_map(|(p, policy)| {
            let FilterPolicy { include, include_any, exclude } = policy;
            let blocks = [include, include_any, exclude].into_iter().flatten();
            blocks.flat_map(|block| &block.attributes).map(move |a| (format!("slos[{i}].match[{p}]"), &a.key))
        });
        for (path, name) in labels.chain(policies) {
            if let Some(message) = wrong(name) {
                self.broken(&[&path], message);
            }
        }
    }

    /// The rules about series that a tenant can have of its own.
    pub(super) fn check_series_of(&mut self, draft: &Draft) {
        let series = &draft.config.core.series;
        if draft.step > 0 && series.interval % draft.step != 0 {
            let (interval, step) = (show_duration(series.interval), show_duration(draft.step));
            let message = format!("series.interval ({interval}) must be a multiple of time.step ({step})");
            self.broken(&["series.interval", "time.step"], message);
        }
        let resend = series.resend_unchanged;
        if draft.step > 0 && resend % draft.step != 0 {
            let (resend, step) = (show_duration(resend), show_duration(draft.step));
            let message = format!("series.resend_unchanged ({resend}) must be a multiple of time.step ({step})");
            self.broken(&["series.resend_unchanged", "time.step"], message);
        }
        if resend > 0 && series.interval > 0 {
            let message = "does not go together with `series.interval`, which sends all series less often; keep one";
            self.broken(&["series.resend_unchanged", "series.interval"], message);
        }
        if series.stale_after < series.interval {
            self.broken(
                &["series.interval", "series.stale_after"],
                at_least("series.stale_after", series.stale_after, "series.interval", series.interval),
            );
        }
        self.must("series.exemplars.label", syntax::exemplar_label(&series.exemplar_label));
        self.check_labels(draft);
    }
}
