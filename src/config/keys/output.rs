//! Keys of what is sent, and of the process.

use super::{DAY, HOUR, Key, SIZES, YEAR};
use crate::config::draft::Slot;

/// Keys, in the order of the reference file.
pub(super) const KEYS: &[Key] = &[
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
        path: "series.interval",
        doc: "How often series are sent, a multiple of time.step; 0s: every step. Longer saves samples.",
        slot: |d| Slot::Duration(&mut d.config.series.interval, 0..=HOUR),
    },
    Key {
        path: "series.write",
        doc: "Off computes series and sends none.",
        slot: |d| Slot::Bool(&mut d.config.series.write),
    },
    Key {
        path: "series.tenant_label",
        doc: "A label with the tenant on every series; \"\" for none.",
        slot: |d| Slot::Text(&mut d.config.series.tenant_label),
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
    Key {
        path: "series.exemplars.on_counters",
        doc: "Also next to calls, as the Collector does.",
        slot: |d| Slot::Bool(&mut d.config.series.exemplars_on_counters),
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
        doc: "Records buffered per partition, at most; all together take at most 256MiB, or a quarter of memory_limit.",
        slot: |d| Slot::Size(&mut d.config.worker.fetch_buffer_bytes, SIZES),
    },
    Key {
        path: "worker.memory_limit",
        doc: "Spans wait in Kafka while the worker holds more than this, by its own account; 0B for none, else from 64MiB.",
        slot: |d| Slot::Size(&mut d.config.worker.memory_limit, 0..=1 << 40),
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
