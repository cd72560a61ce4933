//! Keys of the output, and of the process.

use super::{ConfigKey, DAY, HOUR, SIZES, YEAR};
use crate::config::draft::DraftField;
use crate::core::model::Millis;

/// A series of which no point is younger than five minutes is gone for an instant query. So it is sent again before, with
/// room for a step and for a receiver that is slow.
const LOOK_BACK: Millis = 270_000;

/// Keys, in the order of the reference file.
pub(super) const KEYS: &[ConfigKey] = &[
    // series
    ConfigKey {
        path: "series.stale_after",
        doc: "A series without updates for this long gets a stale marker.",
        slot: |d| DraftField::Duration(&mut d.config.core.series.stale_after, 1..=YEAR),
    },
    ConfigKey {
        path: "series.forget_after",
        doc: "How long a stale series keeps its total after the marker, so that it can continue. At least stale_after.",
        slot: |d| DraftField::Duration(&mut d.config.core.series.forget_after, 1..=YEAR),
    },
    ConfigKey {
        path: "series.snapshot_every",
        doc: "How often the state of a shard is journaled, in event time. Less often means longer recovery.",
        slot: |d| DraftField::Duration(&mut d.config.core.series.snapshot_every, 1..=DAY),
    },
    ConfigKey {
        path: "series.zero_offset",
        doc: "How far before its first value a series gets a zero, or its previous value when it continues; 0s: none.",
        slot: |d| DraftField::Duration(&mut d.config.core.series.zero_offset, 0..=HOUR),
    },
    ConfigKey {
        path: "series.interval",
        doc: "How often series are sent, a multiple of time.step; 0s: every step. Less often saves samples.",
        slot: |d| DraftField::Duration(&mut d.config.core.series.interval, 0..=HOUR),
    },
    ConfigKey {
        path: "series.resend_unchanged",
        doc: "How often series are sent that do not change, a multiple of time.step; 0s: every step. At most 4m30s.",
        slot: |d| DraftField::Duration(&mut d.config.core.series.resend_unchanged, 0..=LOOK_BACK),
    },
    ConfigKey {
        path: "series.write",
        doc: "Off computes series but does not send them.",
        slot: |d| DraftField::Bool(&mut d.config.core.series.write),
    },
    ConfigKey {
        path: "series.tenant_label",
        doc: "Label with the tenant on every series; \"\" for none.",
        slot: |d| DraftField::Text(&mut d.config.core.series.tenant_label),
    },
    ConfigKey {
        path: "series.external_labels",
        doc: "Labels added to every series, such as `{cluster: eu-1}`. They replace a label of the same name.",
        slot: |d| DraftField::Labels(&mut d.config.core.series.external_labels),
    },
    ConfigKey {
        path: "series.exemplars.enabled",
        doc: "Disable it if the receiver does not store exemplars.",
        slot: |d| DraftField::Bool(&mut d.config.core.series.exemplars),
    },
    ConfigKey {
        path: "series.exemplars.label",
        doc: "Label that holds the trace ID. Grafana's data source uses it for links.",
        slot: |d| DraftField::Text(&mut d.config.core.series.exemplar_label),
    },
    ConfigKey {
        path: "series.exemplars.on_counters",
        doc: "Also on calls, as in the Collector.",
        slot: |d| DraftField::Bool(&mut d.config.core.series.exemplars_on_counters),
    },
    // remote_write
    ConfigKey {
        path: "remote_write.url",
        doc: "The write endpoint of the receiver.",
        slot: |d| DraftField::Text(&mut d.config.remote_write.url),
    },
    ConfigKey {
        path: "remote_write.timeout",
        doc: "Request timeout; a timed-out request is retried.",
        slot: |d| DraftField::Duration(&mut d.config.remote_write.timeout, 1..=HOUR),
    },
    ConfigKey {
        path: "remote_write.headers",
        doc: "Headers of every request. A secret may be `{file: path}`.",
        slot: |d| DraftField::Secrets(&mut d.config.remote_write.headers),
    },
    ConfigKey {
        path: "remote_write.tenant_header",
        doc: "Header that carries the tenant, unless the tenant is single-tenant; \"\" for none.",
        slot: |d| DraftField::Text(&mut d.config.remote_write.tenant_header),
    },
    ConfigKey {
        path: "remote_write.auth.type",
        doc: "none, basic, bearer, oauth2, or sigv4 (Amazon Managed Prometheus).",
        slot: |d| DraftField::Choice(&mut d.auth.kind),
    },
    ConfigKey {
        path: "remote_write.auth.username",
        doc: "basic: user name.",
        slot: |d| DraftField::Text(&mut d.auth.username),
    },
    ConfigKey {
        path: "remote_write.auth.password",
        doc: "basic: password. Prefer the file.",
        slot: |d| DraftField::Secret(&mut d.auth.password),
    },
    ConfigKey {
        path: "remote_write.auth.password_file",
        doc: "basic: file with the password.",
        slot: |d| DraftField::Path(&mut d.auth.password_file),
    },
    ConfigKey {
        path: "remote_write.auth.token",
        doc: "bearer: token. Prefer the file.",
        slot: |d| DraftField::Secret(&mut d.auth.token),
    },
    ConfigKey {
        path: "remote_write.auth.token_file",
        doc: "bearer: file with the token.",
        slot: |d| DraftField::Path(&mut d.auth.token_file),
    },
    ConfigKey {
        path: "remote_write.auth.region",
        doc: "sigv4: region of the workspace. Credentials come from the AWS default chain.",
        slot: |d| DraftField::Text(&mut d.auth.region),
    },
    ConfigKey {
        path: "remote_write.auth.service",
        doc: "sigv4: service name in the signature.",
        slot: |d| DraftField::Text(&mut d.auth.service),
    },
    ConfigKey {
        path: "remote_write.auth.profile",
        doc: "sigv4: AWS profile, if not the default one.",
        slot: |d| DraftField::Text(&mut d.auth.profile),
    },
    ConfigKey {
        path: "remote_write.auth.role_arn",
        doc: "sigv4: role to assume, such as for a workspace of another account.",
        slot: |d| DraftField::Text(&mut d.auth.role_arn),
    },
    ConfigKey {
        path: "remote_write.auth.oauth2.client_id",
        doc: "ID of the client.",
        slot: |d| DraftField::Text(&mut d.auth.oauth2.client_id),
    },
    ConfigKey {
        path: "remote_write.auth.oauth2.client_secret",
        doc: "Secret of the client. Prefer the file.",
        slot: |d| DraftField::Secret(&mut d.auth.oauth2.client_secret),
    },
    ConfigKey {
        path: "remote_write.auth.oauth2.client_secret_file",
        doc: "File with the secret, which is read again for every token.",
        slot: |d| DraftField::Path(&mut d.auth.oauth2.client_secret_file),
    },
    ConfigKey {
        path: "remote_write.auth.oauth2.token_url",
        doc: "Token endpoint.",
        slot: |d| DraftField::Text(&mut d.auth.oauth2.token_url),
    },
    ConfigKey {
        path: "remote_write.auth.oauth2.scopes",
        doc: "Scopes to ask for.",
        slot: |d| DraftField::List(&mut d.auth.oauth2.scopes),
    },
    ConfigKey {
        path: "remote_write.auth.oauth2.endpoint_params",
        doc: "Further parameters of the token request, such as `{audience: metrics}`.",
        slot: |d| DraftField::Labels(&mut d.auth.oauth2.endpoint_params),
    },
    ConfigKey {
        path: "remote_write.auth.oauth2.tls.ca_file",
        doc: "CA certificates, trusted in addition to those of the system.",
        slot: |d| DraftField::Path(&mut d.auth.oauth2.tls.ca_file),
    },
    ConfigKey {
        path: "remote_write.auth.oauth2.tls.cert_file",
        doc: "Client certificate; needs key_file.",
        slot: |d| DraftField::Path(&mut d.auth.oauth2.tls.cert_file),
    },
    ConfigKey {
        path: "remote_write.auth.oauth2.tls.key_file",
        doc: "Private key of the client certificate.",
        slot: |d| DraftField::Path(&mut d.auth.oauth2.tls.key_file),
    },
    ConfigKey {
        path: "remote_write.auth.oauth2.tls.insecure_skip_verify",
        doc: "Accept any certificate. For tests only.",
        slot: |d| DraftField::Bool(&mut d.auth.oauth2.tls.insecure_skip_verify),
    },
    ConfigKey {
        path: "remote_write.tls.ca_file",
        doc: "CA certificates, trusted in addition to those of the system.",
        slot: |d| DraftField::Path(&mut d.config.remote_write.tls.ca_file),
    },
    ConfigKey {
        path: "remote_write.tls.cert_file",
        doc: "Client certificate; needs key_file.",
        slot: |d| DraftField::Path(&mut d.config.remote_write.tls.cert_file),
    },
    ConfigKey {
        path: "remote_write.tls.key_file",
        doc: "Private key of the client certificate.",
        slot: |d| DraftField::Path(&mut d.config.remote_write.tls.key_file),
    },
    ConfigKey {
        path: "remote_write.tls.insecure_skip_verify",
        doc: "Accept any certificate. For tests only.",
        slot: |d| DraftField::Bool(&mut d.config.remote_write.tls.insecure_skip_verify),
    },
    ConfigKey {
        path: "remote_write.enable_http2",
        doc: "HTTP/2 over TLS where the receiver offers it: all requests share a connection. Off: HTTP/1.1.",
        slot: |d| DraftField::Bool(&mut d.config.remote_write.enable_http2),
    },
    ConfigKey {
        path: "remote_write.max_samples",
        doc: "Samples per request; lower it if the receiver answers 413.",
        slot: |d| DraftField::Whole(&mut d.config.remote_write.max_samples, 1..=1_000_000),
    },
    ConfigKey {
        path: "remote_write.max_bytes",
        doc: "Bytes per request before compression.",
        slot: |d| DraftField::Size(&mut d.config.remote_write.max_bytes, SIZES),
    },
    ConfigKey {
        path: "remote_write.min_backoff",
        doc: "First backoff before a retry; it doubles from there.",
        slot: |d| DraftField::Duration(&mut d.config.remote_write.min_backoff, 1..=HOUR),
    },
    ConfigKey {
        path: "remote_write.max_backoff",
        doc: "Maximum backoff, unless the receiver's Retry-After asks for more.",
        slot: |d| DraftField::Duration(&mut d.config.remote_write.max_backoff, 1..=HOUR),
    },
    ConfigKey {
        path: "remote_write.min_in_flight",
        doc: "Concurrent requests of a tenant at first: more while answers are quick, half of them when it is overloaded.",
        slot: |d| DraftField::Whole(&mut d.config.remote_write.min_in_flight, 1..=1024),
    },
    ConfigKey {
        path: "remote_write.max_in_flight",
        doc: "Maximum concurrent requests to one receiver, over all shards and tenants; a quarter of them to failing \
              ones.",
        slot: |d| DraftField::Whole(&mut d.config.remote_write.max_in_flight, 4..=1024),
    },
    ConfigKey {
        path: "remote_write.on_status",
        doc: "Exceptions per status, as in `{404: reject, 400: wait}`. By default 400, 409, 413 and 422 reject, \
              others wait.",
        slot: |d| DraftField::Labels(&mut d.on_status),
    },
    ConfigKey {
        path: "remote_write.protocol",
        doc: "Version of remote write: 1.0, 2.0, or auto, which asks the receiver for 2.0 and falls back to 1.0.",
        slot: |d| DraftField::Choice(&mut d.config.remote_write.protocol),
    },
    ConfigKey {
        path: "remote_write.exemplars",
        doc: "on, off, or auto, which sends none to VictoriaMetrics: it would discard them.",
        slot: |d| DraftField::Choice(&mut d.config.remote_write.exemplars),
    },
    ConfigKey {
        path: "remote_write.convert_classic_histograms_to_nhcb",
        doc: "Send classic histograms as native ones with custom buckets (NHCB), if the receiver takes 2.0.",
        slot: |d| DraftField::Bool(&mut d.config.remote_write.convert_classic_histograms_to_nhcb),
    },
    ConfigKey {
        path: "remote_write.max_sample_age",
        doc: "Samples that are older when they are to be sent are dropped and counted, as after an outage; 0s: none.",
        slot: |d| DraftField::Duration(&mut d.config.remote_write.max_sample_age, 0..=YEAR),
    },
    ConfigKey {
        path: "remote_write.metadata_interval",
        doc: "How often remote write 1.0 gets type, help and unit of each metric; 0s: never. 2.0 carries them.",
        slot: |d| DraftField::Duration(&mut d.config.remote_write.metadata_interval, 0..=DAY),
    },
    ConfigKey {
        path: "remote_write.quarantine",
        doc: "A series that the receiver rejects by itself is not sent for this long, then retried alone. 0s: always sent.",
        slot: |d| DraftField::Duration(&mut d.config.remote_write.quarantine, 0..=DAY),
    },
    ConfigKey {
        path: "remote_write.preflight",
        doc: "Keep samples over an hour old while the receiver reports that it would drop them. Off: they are lost.",
        slot: |d| DraftField::Bool(&mut d.config.remote_write.preflight),
    },
    ConfigKey {
        path: "remote_write.write_relabel_configs",
        doc: "Which series are sent, and under which labels, as in Prometheus. Series that become one are not added up.",
        slot: |d| DraftField::Items(&mut d.config.remote_write.write_relabel_configs),
    },
    ConfigKey {
        path: "remote_write.name",
        doc: "Identity of one of several endpoints, in journals and metrics; \"\": a hash of the url.",
        slot: |d| DraftField::Text(&mut d.config.remote_write.name),
    },
    ConfigKey {
        path: "remote_write.max_backlog",
        doc: "Of several endpoints: compressed bytes per shard that may wait for this one while another is ahead.",
        slot: |d| DraftField::Size(&mut d.config.remote_write.max_backlog, 0..=1 << 30),
    },
    ConfigKey {
        path: "remote_write.on_backlog",
        doc: "Beyond that: wait holds the other endpoints back, drop does not send the oldest steps to this one.",
        slot: |d| DraftField::Choice(&mut d.config.remote_write.on_backlog),
    },
    ConfigKey {
        path: "remote_write.type",
        doc: "remote_write, otlp_http, otlp_grpc, kafka (OTLP in a topic), or file (OTLP in files).",
        slot: |d| DraftField::Choice(&mut d.config.remote_write.kind),
    },
    ConfigKey {
        path: "remote_write.otlp.resource_attributes",
        doc: "OTLP: attributes of the resource, such as `{service.name: spanmill}`.",
        slot: |d| DraftField::Labels(&mut d.config.remote_write.otlp.resource_attributes),
    },
    ConfigKey {
        path: "remote_write.kafka.topic",
        doc: "kafka: topic that requests go to, keyed by tenant. It must exist.",
        slot: |d| DraftField::Text(&mut d.config.remote_write.kafka.topic),
    },
    ConfigKey {
        path: "remote_write.kafka.bootstrap_servers",
        doc: "kafka: bootstrap servers; \"\": those of kafka.brokers. kafka.properties apply to both.",
        slot: |d| DraftField::Text(&mut d.config.remote_write.kafka.bootstrap_servers),
    },
    ConfigKey {
        path: "remote_write.file.path",
        doc: "file: file that requests are appended to. Each worker needs one of its own.",
        slot: |d| DraftField::Path(&mut d.config.remote_write.file.path),
    },
    ConfigKey {
        path: "remote_write.file.format",
        doc: "file: json (a request a line) or proto (each behind its length), as the Collector's file exporter writes them.",
        slot: |d| DraftField::Choice(&mut d.config.remote_write.file.format),
    },
    ConfigKey {
        path: "remote_write.file.max_size",
        doc: "file: a file that would grow beyond this is renamed, and another one begun.",
        slot: |d| DraftField::Size(&mut d.config.remote_write.file.max_size, 1024..=1 << 40),
    },
    ConfigKey {
        path: "remote_write.file.rotation_interval",
        doc: "file: the same for a file that was begun so long ago; 0s: never.",
        slot: |d| DraftField::Duration(&mut d.config.remote_write.file.rotation_interval, 0..=YEAR),
    },
    // worker
    ConfigKey {
        path: "worker.stage",
        doc: "Tasks of this worker: both; spans: source partitions only; series: shards only. A group needs both kinds.",
        slot: |d| DraftField::Choice(&mut d.config.worker.stage),
    },
    ConfigKey {
        path: "worker.threads",
        doc: "OS threads that run tasks; 0: the number of cores.",
        slot: |d| DraftField::Whole(&mut d.threads, 0..=1024),
    },
    ConfigKey {
        path: "worker.max_commit_bytes",
        doc: "A commit is cut early when its delta records reach this size; limits memory when label sets explode.",
        slot: |d| DraftField::Size(&mut d.config.worker.max_commit_bytes, SIZES),
    },
    ConfigKey {
        path: "worker.fetch_buffer_bytes",
        doc: "Maximum records buffered per partition; all together use at most 256MiB, or a quarter of memory_limit.",
        slot: |d| DraftField::Size(&mut d.config.worker.fetch_buffer_bytes, SIZES),
    },
    ConfigKey {
        path: "worker.memory_limit",
        doc: "Reading is throttled while accounted memory exceeds this. 0B: no limit; minimum 64MiB.",
        slot: |d| DraftField::Size(&mut d.config.worker.memory_limit, 0..=1 << 40),
    },
    ConfigKey {
        path: "worker.shutdown_timeout",
        doc: "Maximum duration of a graceful shutdown. Keep it below the orchestrator's grace period.",
        slot: |d| DraftField::Duration(&mut d.config.worker.shutdown_timeout, 1..=HOUR),
    },
    // admin
    ConfigKey {
        path: "admin.listen",
        doc: "host:port; 0.0.0.0:9464 in a container; \"\" disables the server.",
        slot: |d| DraftField::Text(&mut d.config.admin.listen),
    },
    ConfigKey {
        path: "admin.ready_max_lag",
        doc: "Not ready while a partition lags by more than this.",
        slot: |d| DraftField::Duration(&mut d.config.admin.ready_max_lag, 1..=YEAR),
    },
    ConfigKey {
        path: "admin.token",
        doc: "Bearer token of requests, except /healthz and /readyz; empty: none is needed. Prefer the file.",
        slot: |d| DraftField::Secret(&mut d.admin_token),
    },
    ConfigKey {
        path: "admin.token_file",
        doc: "File with the token; it is read again when it changes.",
        slot: |d| DraftField::Path(&mut d.admin_token_file),
    },
    ConfigKey {
        path: "admin.metrics_without_token",
        doc: "Whether /metrics is answered without the token.",
        slot: |d| DraftField::Bool(&mut d.config.admin.metrics_without_token),
    },
    ConfigKey {
        path: "admin.tls.cert_file",
        doc: "Certificate chain of the server; with it, the server speaks https only.",
        slot: |d| DraftField::Path(&mut d.config.admin.tls.cert_file),
    },
    ConfigKey {
        path: "admin.tls.key_file",
        doc: "Private key of the certificate. Both are read again when they change.",
        slot: |d| DraftField::Path(&mut d.config.admin.tls.key_file),
    },
    // telemetry
    ConfigKey {
        path: "telemetry.traces.endpoint",
        doc: "OTLP over HTTP, as in http://collector:4318/v1/traces; \"\" sends none.",
        slot: |d| DraftField::Text(&mut d.config.traces.endpoint),
    },
    ConfigKey {
        path: "telemetry.traces.sampling",
        doc: "The part of the traces that are sent, above 0 and up to 1.",
        slot: |d| DraftField::Fraction(&mut d.config.traces.sampling, 0.0, 1.0),
    },
    ConfigKey {
        path: "telemetry.traces.headers",
        doc: "Headers of every request. A secret may be `{file: path}`.",
        slot: |d| DraftField::Secrets(&mut d.config.traces.headers),
    },
    // log
    ConfigKey {
        path: "log.level",
        doc: "off, error, warn, info, debug, trace, or a filter such as warn,spanmill::worker=debug.",
        slot: |d| DraftField::Text(&mut d.config.log.level),
    },
    ConfigKey {
        path: "log.format",
        doc: "text for people, json for machines.",
        slot: |d| DraftField::Choice(&mut d.config.log.format),
    },
];
