//! The table of keys. Reading, suggestions, environment names, the effective listing and the reference file all come
//! from it; a key that is not here does not exist. Defaults are not repeated here: they are what a fresh draft holds.

use std::ops::RangeInclusive;

use super::draft::{Draft, Slot};
use crate::model::Millis;

/// One key.
pub(super) struct Key {
    /// The path, such as `kafka.brokers`.
    pub(super) path: &'static str,
    /// One line: what it does, and why one would change it.
    pub(super) doc: &'static str,
    /// Where its value goes.
    pub(super) slot: fn(&mut Draft) -> Slot<'_>,
}

/// The environment variable of a key: `SPANMILL_`, then the path in upper case with `_` for `.`.
pub(super) fn env_name(path: &str) -> String {
    format!("SPANMILL_{}", path.to_ascii_uppercase().replace('.', "_"))
}

/// The key with this path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The name of a section, as in `SECTIONS`.
pub(super) fn section(path: &str) -> Option<&'static str> {
    SECTIONS.iter().map(|(name, _)| *name).find(|name| *name == path)
}

/// The names of the keys and sections directly under a section; of the sections of the file if `path` is empty.
pub(super) fn children(path: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for key in KEYS {
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

const YEAR: Millis = 365 * 24 * HOUR;
const DAY: Millis = 24 * HOUR;
const HOUR: Millis = 3_600_000;
/// 1 KiB to 1 GiB.
const SIZES: RangeInclusive<i64> = 1 << 10..=1 << 30;

/// Sections, outer before inner, with one line each.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("kafka", "Where spans come from. Workers with the same group share the work and the internal topics."),
    ("tenant", "Whose spans these are. Every tenant has series of its own."),
    ("time", "Steps and stream time. Time comes from the records, so a backlog lands where it belongs."),
    ("span_metrics", "traces_spanmetrics_*: calls, latency and size per service and operation."),
    ("span_metrics.intrinsic_dimensions", "Which built-in labels a series has. Fewer labels, fewer series."),
    ("service_graphs", "traces_service_graph_*: who calls whom."),
    ("series", "The life of a series."),
    ("series.exemplars", "Exemplars: a trace ID next to a histogram or counter sample."),
    ("remote_write", "Where series go: any receiver of Prometheus remote write."),
    ("remote_write.auth", "How requests prove who they are. Keys of another type must stay empty."),
    ("remote_write.tls", "TLS of an https url. Files are PEM."),
    ("worker", "What one process may use."),
    ("admin", "The HTTP server for health, readiness and spanmill's own metrics."),
    ("log", "Logs go to standard error."),
];

/// All keys, in the order of the reference file.
pub(super) const KEYS: &[Key] = &[
    // kafka
    Key {
        path: "kafka.brokers",
        doc: "Bootstrap servers, comma separated; name several, so that one may be down.",
        slot: |d| Slot::Text(&mut d.config.kafka.brokers),
    },
    Key {
        path: "kafka.topics",
        doc: "Source topics. Records must be partitioned by trace ID, or service graphs stay incomplete.",
        slot: |d| Slot::List(&mut d.config.kafka.topics),
    },
    Key {
        path: "kafka.group",
        doc: "Consumer group (and `<group>-shards`) and prefix of the internal topics; a new name starts from scratch.",
        slot: |d| Slot::Text(&mut d.config.kafka.group),
    },
    Key {
        path: "kafka.encoding",
        doc: "What a record value is: otlp_proto is an ExportTraceServiceRequest, as the Collector writes it.",
        slot: |d| Slot::Choice(&mut d.config.kafka.encoding),
    },
    Key {
        path: "kafka.start",
        doc: "Where a partition begins that spanmill has never seen: earliest or latest.",
        slot: |d| Slot::Choice(&mut d.config.kafka.start),
    },
    Key {
        path: "kafka.shards",
        doc: "Partitions of the deltas topic, the most workers that can own series. Fixed for the life of the group.",
        slot: |d| Slot::Whole(&mut d.config.kafka.shards, 1..=1024),
    },
    Key {
        path: "kafka.replication",
        doc: "Replication factor of the internal topics; -1 takes the broker's default. They are the only state: use 3.",
        slot: |d| Slot::Whole(&mut d.config.kafka.replication, -1..=32_767),
    },
    Key {
        path: "kafka.properties",
        doc: "librdkafka settings for every client, such as TLS and SASL. A secret may be `{file: path}`.",
        slot: |d| Slot::Secrets(&mut d.config.kafka.properties),
    },
    // tenant
    Key {
        path: "tenant.source",
        doc: "static: `name` for all; key: the record key; header: the record header `header`.",
        slot: |d| Slot::Choice(&mut d.tenant.source),
    },
    Key {
        path: "tenant.name",
        doc: "The tenant of source static. single-tenant is sent without a tenant header.",
        slot: |d| Slot::Text(&mut d.tenant.name),
    },
    Key {
        path: "tenant.header",
        doc: "The record header of source header.",
        slot: |d| Slot::Text(&mut d.tenant.header),
    },
    // time
    Key {
        path: "time.step",
        doc: "Collection interval: one sample per series and step. Match the interval that dashboards expect.",
        slot: |d| Slot::Duration(&mut d.step, 100..=HOUR),
    },
    Key {
        path: "time.idle",
        doc: "A partition without records for this long advances by the wall clock, so that others need not wait.",
        slot: |d| Slot::Duration(&mut d.config.time.idle, 1..=HOUR),
    },
    Key {
        path: "time.max_future",
        doc: "Stream time never runs ahead of the wall clock by more than this: one bad producer clock is harmless.",
        slot: |d| Slot::Duration(&mut d.config.time.max_future, 0..=HOUR),
    },
    Key {
        path: "time.stall_grace",
        doc: "A step is closed without a partition that nobody advances for this long. Not below `idle`.",
        slot: |d| Slot::Duration(&mut d.config.time.stall_grace, 1..=DAY),
    },
    // span_metrics
    Key {
        path: "span_metrics.enabled",
        doc: "Off leaves service graphs only.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.enabled),
    },
    Key {
        path: "span_metrics.histogram_buckets",
        doc: "Upper bounds in seconds. Every bound is one more series per label set.",
        slot: |d| Slot::Buckets(&mut d.config.span_metrics.bounds_ns),
    },
    Key {
        path: "span_metrics.intrinsic_dimensions.service",
        doc: "Label `service`.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.intrinsic.service),
    },
    Key {
        path: "span_metrics.intrinsic_dimensions.span_name",
        doc: "Label `span_name`; switch it off if names hold IDs.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.intrinsic.span_name),
    },
    Key {
        path: "span_metrics.intrinsic_dimensions.span_kind",
        doc: "Label `span_kind`.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.intrinsic.span_kind),
    },
    Key {
        path: "span_metrics.intrinsic_dimensions.status_code",
        doc: "Label `status_code`; error rates need it.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.intrinsic.status_code),
    },
    Key {
        path: "span_metrics.intrinsic_dimensions.status_message",
        doc: "Label `status_message`; off because messages tend to be unique.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.intrinsic.status_message),
    },
    // service_graphs
    Key {
        path: "service_graphs.enabled",
        doc: "Off leaves span metrics only.",
        slot: |d| Slot::Bool(&mut d.config.service_graphs.enabled),
    },
    Key {
        path: "service_graphs.histogram_buckets",
        doc: "Upper bounds in seconds. Every bound is one more series per edge and side.",
        slot: |d| Slot::Buckets(&mut d.config.service_graphs.bounds_ns),
    },
    Key {
        path: "service_graphs.wait",
        doc: "How long a half edge waits for its other side, in stream time. Longer completes more and holds more.",
        slot: |d| Slot::Duration(&mut d.config.service_graphs.wait, 1..=HOUR),
    },
    Key {
        path: "service_graphs.max_items",
        doc: "Half edges that may wait per source partition; beyond it they are dropped and counted.",
        slot: |d| Slot::Whole(&mut d.config.service_graphs.max_items, 1..=1_000_000_000),
    },
    Key {
        path: "service_graphs.peer_attributes",
        doc: "Attributes that name the far side of a call that it never confirms; the first one present wins.",
        slot: |d| Slot::List(&mut d.config.service_graphs.peer_attributes),
    },
    Key {
        path: "service_graphs.database_name_attributes",
        doc: "Attributes that name a database; the first one present wins.",
        slot: |d| Slot::List(&mut d.config.service_graphs.database_name_attributes),
    },
    // series
    Key {
        path: "series.stale_after",
        doc: "A series without news for this long ends with a stale marker.",
        slot: |d| Slot::Duration(&mut d.config.series.stale_after, 1..=YEAR),
    },
    Key {
        path: "series.forget_after",
        doc: "How much longer an ended series keeps its value, so that a comeback continues it. Not below stale_after.",
        slot: |d| Slot::Duration(&mut d.config.series.forget_after, 1..=YEAR),
    },
    Key {
        path: "series.snapshot_every",
        doc: "How often a shard's state is journaled, in event time. Rarer costs a longer take-over.",
        slot: |d| Slot::Duration(&mut d.config.series.snapshot_every, 1..=DAY),
    },
    Key {
        path: "series.zero_offset",
        doc: "A new series starts at zero this long before its first value, so that rate() sees it; 0s sends no zero.",
        slot: |d| Slot::Duration(&mut d.config.series.zero_offset, 0..=HOUR),
    },
    Key {
        path: "series.external_labels",
        doc: "Added to every series, such as `{cluster: eu-1}`; they replace a label of the same name.",
        slot: |d| Slot::Labels(&mut d.config.series.external_labels),
    },
    Key {
        path: "series.exemplars.enabled",
        doc: "Off if the receiver does not store exemplars.",
        slot: |d| Slot::Bool(&mut d.config.series.exemplars),
    },
    Key {
        path: "series.exemplars.label",
        doc: "The label that holds the trace ID; Grafana's data source links on it.",
        slot: |d| Slot::Text(&mut d.config.series.exemplar_label),
    },
    // remote_write
    Key {
        path: "remote_write.url",
        doc: "The write endpoint of the receiver.",
        slot: |d| Slot::Text(&mut d.config.remote_write.url),
    },
    Key {
        path: "remote_write.timeout",
        doc: "Of one request; afterwards it is sent again.",
        slot: |d| Slot::Duration(&mut d.config.remote_write.timeout, 1..=HOUR),
    },
    Key {
        path: "remote_write.headers",
        doc: "Sent with every request. A secret may be `{file: path}`.",
        slot: |d| Slot::Secrets(&mut d.config.remote_write.headers),
    },
    Key {
        path: "remote_write.tenant_header",
        doc: "Carries the tenant unless it is single-tenant; \"\" sends none.",
        slot: |d| Slot::Text(&mut d.config.remote_write.tenant_header),
    },
    Key {
        path: "remote_write.auth.type",
        doc: "none, basic, bearer, or sigv4 (Amazon Managed Prometheus).",
        slot: |d| Slot::Choice(&mut d.auth.kind),
    },
    Key { path: "remote_write.auth.username", doc: "basic: the user.", slot: |d| Slot::Text(&mut d.auth.username) },
    Key {
        path: "remote_write.auth.password",
        doc: "basic: the password. Prefer the file.",
        slot: |d| Slot::Secret(&mut d.auth.password),
    },
    Key {
        path: "remote_write.auth.password_file",
        doc: "basic: a file with the password.",
        slot: |d| Slot::Path(&mut d.auth.password_file),
    },
    Key {
        path: "remote_write.auth.token",
        doc: "bearer: the token. Prefer the file.",
        slot: |d| Slot::Secret(&mut d.auth.token),
    },
    Key {
        path: "remote_write.auth.token_file",
        doc: "bearer: a file with the token.",
        slot: |d| Slot::Path(&mut d.auth.token_file),
    },
    Key {
        path: "remote_write.auth.region",
        doc: "sigv4: the region of the workspace. Credentials come from the usual AWS chain.",
        slot: |d| Slot::Text(&mut d.auth.region),
    },
    Key {
        path: "remote_write.auth.service",
        doc: "sigv4: the service that is signed for.",
        slot: |d| Slot::Text(&mut d.auth.service),
    },
    Key {
        path: "remote_write.auth.profile",
        doc: "sigv4: a profile of the AWS files, if not the default one.",
        slot: |d| Slot::Text(&mut d.auth.profile),
    },
    Key {
        path: "remote_write.auth.role_arn",
        doc: "sigv4: a role to assume, as when the workspace belongs to another account.",
        slot: |d| Slot::Text(&mut d.auth.role_arn),
    },
    Key {
        path: "remote_write.tls.ca_file",
        doc: "Trusted in addition to the system's authorities.",
        slot: |d| Slot::Path(&mut d.config.remote_write.tls.ca_file),
    },
    Key {
        path: "remote_write.tls.cert_file",
        doc: "Client certificate; needs key_file.",
        slot: |d| Slot::Path(&mut d.config.remote_write.tls.cert_file),
    },
    Key {
        path: "remote_write.tls.key_file",
        doc: "Its private key.",
        slot: |d| Slot::Path(&mut d.config.remote_write.tls.key_file),
    },
    Key {
        path: "remote_write.tls.insecure_skip_verify",
        doc: "Accepts any certificate. For trying things out only.",
        slot: |d| Slot::Bool(&mut d.config.remote_write.tls.insecure_skip_verify),
    },
    Key {
        path: "remote_write.max_samples",
        doc: "Samples per request; lower it if the receiver answers 413.",
        slot: |d| Slot::Whole(&mut d.config.remote_write.max_samples, 1..=1_000_000),
    },
    Key {
        path: "remote_write.max_bytes",
        doc: "Bytes per request before compression.",
        slot: |d| Slot::Size(&mut d.config.remote_write.max_bytes, SIZES),
    },
    Key {
        path: "remote_write.min_backoff",
        doc: "First pause before a request is sent again; it doubles from there.",
        slot: |d| Slot::Duration(&mut d.config.remote_write.min_backoff, 1..=HOUR),
    },
    Key {
        path: "remote_write.max_backoff",
        doc: "Longest pause, unless the receiver's Retry-After asks for more.",
        slot: |d| Slot::Duration(&mut d.config.remote_write.max_backoff, 1..=HOUR),
    },
    // worker
    Key {
        path: "worker.threads",
        doc: "OS threads that run tasks; 0 is the number of cores.",
        slot: |d| Slot::Whole(&mut d.threads, 0..=1024),
    },
    Key {
        path: "worker.max_commit_bytes",
        doc: "A commit is cut early when its shares reach this size; it bounds memory in an explosion of label sets.",
        slot: |d| Slot::Size(&mut d.config.worker.max_commit_bytes, SIZES),
    },
    Key {
        path: "worker.fetch_buffer_bytes",
        doc: "Records buffered per source partition; more helps catching up over a slow network.",
        slot: |d| Slot::Size(&mut d.config.worker.fetch_buffer_bytes, SIZES),
    },
    Key {
        path: "worker.shutdown_timeout",
        doc: "How long a graceful stop may take; keep it below the orchestrator's grace period.",
        slot: |d| Slot::Duration(&mut d.config.worker.shutdown_timeout, 1..=HOUR),
    },
    // admin
    Key {
        path: "admin.listen",
        doc: "host:port; 0.0.0.0:9464 in a container; \"\" switches the server off.",
        slot: |d| Slot::Text(&mut d.config.admin.listen),
    },
    Key {
        path: "admin.ready_max_lag",
        doc: "Not ready while a partition lags by more than this.",
        slot: |d| Slot::Duration(&mut d.config.admin.ready_max_lag, 1..=YEAR),
    },
    // log
    Key {
        path: "log.level",
        doc: "off, error, warn, info, debug, trace, or a filter such as warn,spanmill::worker=debug.",
        slot: |d| Slot::Text(&mut d.config.log.level),
    },
    Key {
        path: "log.format",
        doc: "text for people, json for machines.",
        slot: |d| Slot::Choice(&mut d.config.log.format),
    },
];
