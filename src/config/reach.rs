//! The reach of a setting when the workers of a group do not agree on it. During a rolling update they never agree.
//!
//! A key that is not here fails `tests/pure/features/disagree.rs`, which lets two workers with different values of each
//! key count together.

use super::{endpoints, keys};

/// What happens when workers of one group have different values of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// It affects the worker alone: no sample differs.
    Worker,
    /// A worker with another value does not start, or belongs to another group.
    Group,
    /// It decides when stream time advances and steps close. The decisions are in the journals, as commits and marks.
    Time,
    /// It decides what a record adds to, from the first commit of a worker that has it. The deltas, and their layout,
    /// are in the commit.
    Commit,
    /// It decides the samples of a shard, from the step after which a worker that has it acquires the shard. The mark
    /// records it.
    Step,
}

/// Every key.
const REACHES: [(Reach, &[&str]); 5] = [
    (
        Reach::Worker,
        &[
            "kafka.brokers",
            "kafka.group_protocol",
            "kafka.replication",
            "kafka.dead_letter_topic",
            "kafka.stuck_after",
            "kafka.journal_retention",
            "kafka.repartition_partitions",
            "kafka.repartition_retention",
            "kafka.properties",
            "overrides.file",
            "overrides.reload_every",
            "series.snapshot_every",
            "remote_write.url",
            "remote_write.timeout",
            "remote_write.headers",
            "remote_write.tenant_header",
            "remote_write.auth.type",
            "remote_write.auth.username",
            "remote_write.auth.password",
            "remote_write.auth.password_file",
            "remote_write.auth.token",
            "remote_write.auth.token_file",
            "remote_write.auth.region",
            "remote_write.auth.service",
            "remote_write.auth.profile",
            "remote_write.auth.role_arn",
            "remote_write.auth.oauth2.client_id",
            "remote_write.auth.oauth2.client_secret",
            "remote_write.auth.oauth2.client_secret_file",
            "remote_write.auth.oauth2.token_url",
            "remote_write.auth.oauth2.scopes",
            "remote_write.auth.oauth2.endpoint_params",
            "remote_write.auth.oauth2.tls.ca_file",
            "remote_write.auth.oauth2.tls.cert_file",
            "remote_write.auth.oauth2.tls.key_file",
            "remote_write.auth.oauth2.tls.insecure_skip_verify",
            "remote_write.tls.ca_file",
            "remote_write.tls.cert_file",
            "remote_write.tls.key_file",
            "remote_write.tls.insecure_skip_verify",
            "remote_write.enable_http2",
            "remote_write.max_samples",
            "remote_write.min_in_flight",
            "remote_write.max_in_flight",
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
            "remote_write.otlp.resource_attributes",
            "remote_write.kafka.topic",
            "remote_write.kafka.bootstrap_servers",
            "remote_write.file.path",
            "remote_write.file.format",
            "remote_write.file.max_size",
            "remote_write.file.rotation_interval",
            "remote_write.max_bytes",
            "remote_write.min_backoff",
            "remote_write.max_backoff",
            "worker.stage",
            "worker.threads",
            "worker.max_commit_bytes",
            "worker.fetch_buffer_bytes",
            "worker.memory_limit",
            "worker.shutdown_timeout",
            "admin.listen",
            "admin.ready_max_lag",
            "admin.token",
            "admin.token_file",
            "admin.metrics_without_token",
            "admin.tls.cert_file",
            "admin.tls.key_file",
            "telemetry.traces.endpoint",
            "telemetry.traces.sampling",
            "telemetry.traces.headers",
            "log.level",
            "log.format",
        ],
    ),
    (Reach::Group, &["kafka.group", "kafka.shards", "kafka.repartition"]),
    (Reach::Time, &["kafka.topics", "kafka.start", "time.idle", "time.max_future", "time.stall_grace"]),
    (
        Reach::Commit,
        &[
            "kafka.topic_settings",
            "kafka.encoding",
            "tenant.source",
            "tenant.name",
            "tenant.header",
            "tenant.attribute",
            "time.source",
            "time.lateness",
            "naming.profile",
            "naming.namespace",
            "naming.unit",
            "naming.invalid_utf8",
            "span_metrics.enabled",
            "span_metrics.calls",
            "span_metrics.latency",
            "span_metrics.size",
            "span_metrics.histogram_buckets",
            "span_metrics.bucket_sets",
            "span_metrics.intrinsic_dimensions.service",
            "span_metrics.intrinsic_dimensions.span_name",
            "span_metrics.intrinsic_dimensions.span_kind",
            "span_metrics.intrinsic_dimensions.status_code",
            "span_metrics.intrinsic_dimensions.status_message",
            "span_metrics.dimensions",
            "span_metrics.calls_dimensions",
            "span_metrics.latency_dimensions",
            "span_metrics.dimension_mappings",
            "span_metrics.scopes",
            "span_metrics.events.enabled",
            "span_metrics.events.dimensions",
            "span_metrics.enable_target_info",
            "span_metrics.target_info_excluded_dimensions",
            "span_metrics.enable_instance_label",
            "span_metrics.filter_policies",
            "span_metrics.span_multiplier_key",
            "span_metrics.span_multiplier_of_text",
            "span_metrics.enable_tracestate_span_multiplier",
            "service_graphs.enabled",
            "service_graphs.histogram_buckets",
            "service_graphs.wait",
            "service_graphs.max_items",
            "service_graphs.peer_attributes",
            "service_graphs.database_name_attributes",
            "service_graphs.database_node_attributes",
            "service_graphs.database_port",
            "service_graphs.requests",
            "service_graphs.latency",
            "service_graphs.latency_sides",
            "service_graphs.connection_info",
            "service_graphs.operations",
            "service_graphs.topology",
            "service_graphs.dimensions",
            "service_graphs.enable_client_server_prefix",
            "service_graphs.enable_virtual_node_label",
            "service_graphs.enable_messaging_system_latency_histogram",
            "service_graphs.filter_policies",
            "service_graphs.span_multiplier_key",
            "service_graphs.span_multiplier_of_text",
            "service_graphs.enable_tracestate_span_multiplier",
            "service_graphs.service_namespace",
            "service_graphs.fan_out",
            "service_graphs.links",
            "service_graphs.ancestors",
            "service_graphs.missing_side_is_zero",
            "service_graphs.failed_http_status",
            "service_graphs.failed_grpc_codes",
            "service_graphs.preset",
            "service_graphs.each_root",
            "service_graphs.strict_callers",
            "service_graphs.type_of_both",
            "service_graphs.receive_once",
            "service_graphs.nested_once",
            "service_graphs.orphans",
            "host_info.enabled",
            "host_info.host_identifiers",
            "host_info.metric_name",
            "slos",
            "attribute_metrics",
            "attribute_metrics_presets",
            "traces.duration",
            "traces.critical_path",
            "traces.errors",
            "traces.calls",
            "traces.repeated_calls",
            "traces.quality",
            "traces.span_metrics",
            "traces.branch_labels",
            "traces.histogram_buckets",
            "traces.idle",
            "traces.max_age",
            "traces.late",
            "traces.max_spans",
            "traces.max_traces",
            "duplicates.window",
            "duplicates.max_spans",
            "histograms.mode",
            "histograms.native_bucket_factor",
            "histograms.native_max_buckets",
            "histograms.max_duration",
            "span_names.mode",
            "span_names.builtin",
            "span_names.query_strings",
            "span_names.short_ids",
            "span_names.rules",
            "limits.max_label_name_length",
            "limits.max_label_value_length",
        ],
    ),
    (
        Reach::Step,
        &[
            "time.step",
            "limits.max_tenants",
            "limits.max_active_series",
            "limits.max_active_series_per_service",
            "limits.max_cardinality_per_label",
            "series.stale_after",
            "series.forget_after",
            "series.zero_offset",
            "series.interval",
            "series.resend_unchanged",
            "series.write",
            "series.tenant_label",
            "series.external_labels",
            "series.exemplars.enabled",
            "series.exemplars.label",
            "series.exemplars.on_counters",
        ],
    ),
];

/// How far a key reaches, or the key of which `path` is an entry; `None` if there is no such key.
#[must_use]
pub fn reach(path: &str) -> Option<Reach> {
    let plain = endpoints::without_index(path);
    let path = plain.as_deref().unwrap_or(path);
    let is = |key: &&str| path.strip_prefix(*key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    REACHES.iter().find(|(_, keys)| keys.iter().any(is)).map(|(reach, _)| *reach)
}

/// All keys, in the order of the reference file, with their reach; `None` for a key without a declared reach.
pub fn reaches() -> impl Iterator<Item = (&'static str, Option<Reach>)> {
    keys::all().map(|key| (key.path, reach(key.path)))
}

// === impl Reach ===

impl Reach {
    /// Whether it affects any sample or its time: then the workers of a group should agree.
    #[must_use]
    pub fn counts(self) -> bool {
        self != Self::Worker
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_key_has_one_reach_and_nothing_else_has_one() {
        let mut said: BTreeMap<&str, usize> = BTreeMap::new();
        REACHES.iter().flat_map(|(_, keys)| *keys).for_each(|key| *said.entry(key).or_default() += 1);
        let known: BTreeMap<&str, usize> = keys::all().map(|key| (key.path, 1)).collect();
        assert_eq!(said, known, "reach.rs (left) and the table of keys (right) differ");
        assert_eq!(reach("series.external_labels.cluster"), Some(Reach::Step));
        assert_eq!(reach("remote_write.headers.X-A"), Some(Reach::Worker));
        assert_eq!(reach("series.stale_after_all"), None);
        assert_eq!(reach("remote_write[1].headers.X-A"), Some(Reach::Worker), "one of several endpoints");
        assert_eq!([reach("remote_write[x].url"), reach("kafka[1].group")], [None, None]);
    }
}
