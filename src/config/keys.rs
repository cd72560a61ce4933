//! The table of keys. Reading, suggestions, environment names, the effective listing and the reference file all come
//! from it; a key that is not here does not exist. Defaults are not repeated here: a fresh draft holds them.

mod input;
mod metrics;
mod output;

use std::ops::RangeInclusive;

use super::draft::{Draft, DraftField};
use crate::core::model::Millis;

/// One key.
pub(super) struct ConfigKey {
    /// The path, such as `kafka.brokers`.
    pub(super) path: &'static str,
    /// One line: what it does, and why a user would change it.
    pub(super) doc: &'static str,
    /// Where its value goes.
    pub(super) slot: fn(&mut Draft) -> DraftField<'_>,
}

/// All keys, in the order of the reference file.
pub(super) fn all() -> impl Iterator<Item = &'static ConfigKey> {
    [input::KEYS, metrics::KEYS, output::KEYS].into_iter().flatten()
}

/// The environment variable of a key: `SPANMILL_`, then the path in upper case with `_` for `.`.
pub(super) fn env_name(path: &str) -> String {
    format!("SPANMILL_{}", path.to_ascii_uppercase().replace('.', "_"))
}

/// The key with this path.
pub(super) fn find(path: &str) -> Option<&'static ConfigKey> {
    all().find(|key| key.path == path)
}

/// The name of a section, as in `SECTIONS`.
pub(super) fn section(path: &str) -> Option<&'static str> {
    SECTIONS.iter().map(|(name, _)| *name).find(|name| *name == path)
}

/// Whether a tenant can have its own value of this key.
pub(super) fn per_tenant(path: &str) -> bool {
    !ALIKE.contains(&path) && PER_TENANT.iter().any(|start| path.starts_with(start))
}

/// The names of the keys and sections directly under a section; of the sections of the file if `path` is empty.
pub(super) fn children(path: &str, among: fn(&str) -> bool) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for key in all().filter(|key| among(key.path)) {
        let rest = if path.is_empty() {
            Some(key.path)
        } else {
            key.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('.'))
        };
        let name = rest.map(|rest| rest.split_once('.').map_or(rest, |(name, _)| name));
        names.extend(name.filter(|name| !names.contains(name)));
    }
    names
}

/// The prefixes of the keys that can differ from tenant to tenant.
pub(super) const PER_TENANT: [&str; 39] = [
    "naming.",
    "span_metrics.",
    "service_graphs.",
    "host_info.",
    "slos",
    "attribute_metrics",
    "traces.",
    "histograms.",
    "span_names.",
    "limits.",
    "series.interval",
    "series.resend_unchanged",
    "series.write",
    "series.tenant_label",
    "series.external_labels",
    "series.exemplars.",
    "remote_write.url",
    "remote_write.timeout",
    "remote_write.headers",
    "remote_write.tenant_header",
    "remote_write.auth.",
    "remote_write.tls.",
    "remote_write.enable_http2",
    "remote_write.on_status",
    "remote_write.protocol",
    "remote_write.convert_classic_histograms_to_nhcb",
    "remote_write.exemplars",
    "remote_write.max_sample_age",
    "remote_write.metadata_interval",
    "remote_write.quarantine",
    "remote_write.preflight",
    "remote_write.write_relabel_configs",
    "remote_write.name",
    "remote_write.max_backlog",
    "remote_write.on_backlog",
    "remote_write.type",
    "remote_write.otlp.",
    "remote_write.kafka.",
    "remote_write.file.",
];

/// The keys among them that cannot: pending edges of all tenants share a store, and so do open traces, and the count of
/// tenants.
const ALIKE: [&str; 8] = [
    "service_graphs.wait",
    "service_graphs.max_items",
    "traces.idle",
    "traces.max_age",
    "traces.late",
    "traces.max_spans",
    "traces.max_traces",
    "limits.max_tenants",
];

const YEAR: Millis = 365 * 24 * HOUR;
const DAY: Millis = 24 * HOUR;
const HOUR: Millis = 3_600_000;
/// 1 KiB to 1 GiB.
const SIZES: RangeInclusive<i64> = 1 << 10..=1 << 30;

/// Sections, outer before inner, with one line each.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("kafka", "Where spans come from. Workers with the same group share the work and the internal topics."),
    ("tenant", "How the tenant of a span is determined. Every tenant has its own series."),
    ("overrides", "Settings per tenant."),
    (
        "time",
        "Steps and stream time. Time comes from the records, so a backlog is counted in the steps where it \
              belongs.",
    ),
    ("naming", "Names of metrics and labels: as in Tempo, or as in the Collector."),
    ("span_metrics", "traces_spanmetrics_*: calls, latency and size per service and operation."),
    ("span_metrics.intrinsic_dimensions", "Built-in labels of the series. Fewer labels, fewer series."),
    ("span_metrics.events", "Events inside of spans, such as exceptions."),
    ("service_graphs", "traces_service_graph_*: which services call which."),
    ("host_info", "traces_host_info: the hosts that send spans, one series each."),
    ("traces", "Metrics of whole traces, which close in stream time. All spans of a trace must be in one partition."),
    ("duplicates", "Spans that come again, as from a producer that retries. Off, they count every time."),
    ("histograms", "Type and resolution of histograms."),
    ("span_names", "Sanitizer: replaces IDs in span names. Works on each name alone, so all workers agree."),
    ("limits", "Limits per tenant."),
    ("series", "Lifetime of a series."),
    ("series.exemplars", "Exemplars: a trace ID next to a histogram or counter sample."),
    (
        "remote_write",
        "The receiver of the series: any implementation of Prometheus remote write. A list is several endpoints.",
    ),
    ("remote_write.auth", "Authentication of requests. Keys of another type must stay empty."),
    ("remote_write.auth.oauth2", "A token of an OAuth2 token endpoint, with the grant client_credentials."),
    ("remote_write.auth.oauth2.tls", "TLS of an https token_url. Files are PEM."),
    ("remote_write.tls", "TLS of an https url. Files are PEM."),
    ("remote_write.otlp", "OTLP metrics, for all types but remote_write. Their temporality is cumulative."),
    ("remote_write.kafka", "Of the type kafka: a topic of OTLP metrics."),
    ("remote_write.file", "Of the type file: files as the Collector's file exporter writes them."),
    ("worker", "Resources of one process."),
    ("admin", "The HTTP server for health, readiness and spanmill's own metrics."),
    ("admin.tls", "TLS of the admin server. Files are PEM."),
    ("telemetry", "What spanmill reports about itself, besides metrics and logs."),
    (
        "telemetry.traces",
        "Spans of its own work: steps on their way to the receiver, tasks that are acquired, rebalances.",
    ),
    ("log", "Logs go to standard error."),
];
