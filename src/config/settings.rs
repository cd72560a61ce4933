//! What the configuration says, as typed values. Every key is documented in `config/spanmill.yaml`.
//!
//! Durations are milliseconds unless the name says otherwise; histogram bounds are nanoseconds, strictly ascending.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::{Millis, StepWidth};

/// The most that `kafka.shards` may say.
pub const MAX_SHARDS: u32 = 1024;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `kafka:`
    pub kafka: Kafka,
    /// `tenant:`
    pub tenant: TenantSource,
    /// `overrides:`
    pub overrides: Overrides,
    /// `time:`
    pub time: Time,
    /// `naming:`
    pub naming: Naming,
    /// `span_metrics:`
    pub span_metrics: SpanMetrics,
    /// `service_graphs:`
    pub service_graphs: ServiceGraphs,
    /// `host_info:`
    pub host_info: HostInfo,
    /// `histograms:`
    pub histograms: Histograms,
    /// `span_names:`
    pub span_names: SpanNames,
    /// `limits:`
    pub limits: Limits,
    /// `series:`
    pub series: Series,
    /// `remote_write:`
    pub remote_write: RemoteWrite,
    /// `worker:`
    pub worker: Worker,
    /// `admin:`
    pub admin: Admin,
    /// `log:`
    pub log: Log,
}

/// `kafka:` the source topics, the group, and the internal topics.
#[derive(Debug, Clone, PartialEq)]
pub struct Kafka {
    /// `brokers`: bootstrap servers, comma separated. Default `localhost:9092`.
    pub brokers: String,
    /// `topics`: source topics. Default `[otlp_spans]`.
    pub topics: Vec<String>,
    /// `group`: the consumer group, and the prefix of the internal topics. Default `spanmill`.
    pub group: String,
    /// `encoding`: the format of record values. Default `otlp_proto`.
    pub encoding: Encoding,
    /// `start`: where a partition without a journal begins. Default `earliest`.
    pub start: Start,
    /// `shards`: partitions of the deltas topic, fixed for the life of the group. Default 16.
    pub shards: u32,
    /// `replication`: replication factor of the internal topics; -1 asks for the broker's default. Default -1.
    pub replication: i32,
    /// `dead_letter_topic`: gets a copy of every record that cannot be read. Default none, written as empty text.
    pub dead_letter_topic: String,
    /// `stuck_after`: a partition that has records and yields none for this long is fetched anew. Default 60 s.
    pub stuck_after: Millis,
    /// `journal_retention`: how long records of journals stay after nobody needs them to go on. A replay that repeats the
    /// ticks and forced closes of live workers reads them. Default 0 s.
    pub journal_retention: Millis,
    /// `properties`: librdkafka settings handed to every client unchanged (TLS, SASL, ...). Values may be secret.
    pub properties: BTreeMap<String, Secret>,
}

/// How record values are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `otlp_proto`: an `ExportTraceServiceRequest`.
    OtlpProto,
}

/// Where a partition without a journal begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// `earliest`
    Earliest,
    /// `latest`
    Latest,
}

/// `tenant:` where a tenant comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantSource {
    /// `source: static` with `name`. Default `single-tenant`.
    Static(String),
    /// `source: key`: the record key.
    Key,
    /// `source: header` with `header`.
    Header(String),
    /// `source: topic`: the name of the source topic.
    Topic,
    /// `source: attribute` with `attribute`: each resource's attribute; `name` is the tenant of resources without it.
    Attribute {
        /// The resource attribute.
        key: String,
        /// The tenant of resources without it.
        fallback: String,
    },
}

/// `overrides:` settings per tenant, in a file of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overrides {
    /// `file`: `tenants: {NAME: {any key that can differ}}`. Default none.
    pub file: Option<PathBuf>,
    /// `reload_every`: how often a change of the file is looked for. Default 10 s.
    pub reload_every: Millis,
}

/// `naming:` what metrics and labels are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// `profile`. Default `tempo`.
    pub profile: Profile,
    /// `namespace`: of span metrics in the profile `otel`, as it stands in the Collector. Default `traces.span.metrics`.
    pub namespace: String,
    /// `unit` of latencies of span metrics in the profile `otel`. Default `ms`.
    pub unit: LatencyUnit,
}

/// `naming.profile:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// `tempo`: `traces_spanmetrics_calls_total{service=...}`, seconds.
    Tempo,
    /// `otel`: `traces_span_metrics_calls_total{service_name=...}`, milliseconds; `failed` on edges.
    Otel,
}

/// `naming.unit:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatencyUnit {
    /// `ms`
    Milliseconds,
    /// `s`
    Seconds,
}

/// `histograms:` how all histograms count.
#[derive(Debug, Clone, PartialEq)]
pub struct Histograms {
    /// `mode`. Default `classic`.
    pub mode: HistogramMode,
    /// `native_bucket_factor`: bounds of native buckets grow by at most this. Default 1.1.
    pub native_bucket_factor: f64,
    /// `native_max_buckets`: with more, the resolution of that histogram is halved. Default 100.
    pub native_max_buckets: u16,
}

/// `histograms.mode:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistogramMode {
    /// `classic`: `_bucket`, `_sum`, `_count`.
    Classic,
    /// `native`: one exponential histogram.
    Native,
    /// `both`
    Both,
}

/// `host_info:` as Tempo's `host-info` processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInfo {
    /// `enabled`. Default false.
    pub enabled: bool,
    /// `host_identifiers`: resource attributes; the first that is there names the host. Default `k8s.node.name, host.id`.
    pub host_identifiers: Vec<String>,
    /// `metric_name`. Default `traces_host_info`.
    pub metric_name: String,
}

/// `span_names:` the sanitiser, a pure function of a span's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanNames {
    /// `mode`. Default `off`.
    pub mode: SanitiseMode,
    /// `builtin`: replace IDs, numbers, dates, addresses and SQL literals. Default true.
    pub builtin: bool,
    /// `rules`: `{match: REGEX, replace: TEMPLATE}`, applied first; the first that matches wins. Default none.
    pub rules: Vec<SpanNameRule>,
}

/// `span_names.mode:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanitiseMode {
    /// `off`
    Off,
    /// `dry_run`: names stay; what would change is counted in the ledger.
    DryRun,
    /// `enabled`
    Enabled,
}

/// One entry of `span_names.rules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanNameRule {
    /// `match`: a regular expression, unanchored.
    pub pattern: String,
    /// `replace`: what replaces each match; `$1` and `${name}` are groups.
    pub replace: String,
}

/// `limits:` what a tenant may cost. 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// `max_active_series` of the tenant, over all workers. Default 0.
    pub max_active_series: u64,
    /// `max_active_series_per_service`. Default 0.
    pub max_active_series_per_service: u64,
    /// `max_cardinality_per_label`: distinct values of one label of one service. Default 0.
    pub max_cardinality_per_label: u64,
    /// `max_label_name_length` in bytes; longer names are cut. Default 1,024.
    pub max_label_name_length: usize,
    /// `max_label_value_length` in bytes; longer values are cut. Default 2,048.
    pub max_label_value_length: usize,
}

/// A dimension: an attribute that becomes a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dimension {
    /// The attribute. Entries are `NAME` or `{name: NAME, default: TEXT}`.
    pub name: String,
    /// The value for spans without it; `None`: no label then.
    pub default: Option<String>,
}

/// One entry of `dimension_mappings`: several attributes joined into one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DimensionMapping {
    /// `name` of the label.
    pub name: String,
    /// `source_labels`: attributes, in order.
    pub source_labels: Vec<String>,
    /// `join`: stands between the values that are there.
    pub join: String,
}

/// One entry of `filter_policies`. At least one of the three is there.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterPolicy {
    /// `include`: all include blocks of all policies must match.
    pub include: Option<PolicyMatch>,
    /// `include_any`: one match keeps the span.
    pub include_any: Option<PolicyMatch>,
    /// `exclude`: one match drops the span.
    pub exclude: Option<PolicyMatch>,
}

/// One block of a filter policy: everything in it must match.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyMatch {
    /// `match_type`
    pub match_type: MatchType,
    /// `attributes`: `{key, value}`.
    pub attributes: Vec<PolicyAttribute>,
}

/// `match_type:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchType {
    /// `strict`: equal, type included.
    Strict,
    /// `regex`: an unanchored regular expression on text.
    Regex,
}

/// One `{key, value}` of a policy block.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyAttribute {
    /// `key`: `span.NAME`, `resource.NAME`, or one of `kind`, `name`, `status` (also with `span:` before it).
    pub key: String,
    /// `value`
    pub value: PolicyValue,
}

/// A value in a filter policy, with the type that it has in YAML.
#[derive(Debug, Clone, PartialEq)]
pub enum PolicyValue {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
}

/// One entry of `bucket_sets`: other bounds for some spans. The first that fits is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSet {
    /// `services`; empty: all.
    pub services: Vec<String>,
    /// `kinds`: `SPAN_KIND_SERVER` and so on; empty: all.
    pub kinds: Vec<String>,
    /// `buckets` (seconds in the file).
    pub bounds_ns: Vec<u64>,
}

/// `time:` steps and stream time.
#[derive(Debug, Clone, PartialEq)]
pub struct Time {
    /// `step`: the collection interval. Default 15 s.
    pub step: StepWidth,
    /// `source`: which time decides the step of a span. Default `record`.
    pub source: TimeSource,
    /// `lateness`: how far stream time stays behind the ends of spans, with `source: span_end`. Default 30 s.
    pub lateness: Millis,
    /// `idle`: a partition without records for this long advances by the wall clock. Default 5 s.
    pub idle: Millis,
    /// `max_future`: stream time never runs ahead of the wall clock by more than this. Default 10 s.
    pub max_future: Millis,
    /// `stall_grace`: a step is closed without a partition that has been silent for this long. Default 30 s.
    pub stall_grace: Millis,
}

/// `time.source`: which time decides the step of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSource {
    /// `record`: the timestamp of its record.
    Record,
    /// `span_end`: its own end.
    SpanEnd,
}

/// `span_metrics:` as Tempo's `span-metrics` processor.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanMetrics {
    /// `enabled`. Default true.
    pub enabled: bool,
    /// `calls`: the counter of spans. Default true.
    pub calls: bool,
    /// `latency`: the histogram of durations. Default true.
    pub latency: bool,
    /// `size`: the counter of bytes. Default true.
    pub size: bool,
    /// `histogram_buckets` (seconds in the file). Default Tempo's 14 from 0.002 to 16.384.
    pub bounds_ns: Vec<u64>,
    /// `bucket_sets`: other buckets for some services or kinds. Default none.
    pub bucket_sets: Vec<BucketSet>,
    /// `intrinsic_dimensions`
    pub intrinsic: Intrinsic,
    /// `dimensions`: span or resource attributes as labels, the resource first. Default none.
    pub dimensions: Vec<Dimension>,
    /// `calls_dimensions`: more of them on calls and size only. Default none.
    pub calls_dimensions: Vec<Dimension>,
    /// `latency_dimensions`: more of them on latency only. Default none.
    pub latency_dimensions: Vec<Dimension>,
    /// `dimension_mappings`. Default none.
    pub dimension_mappings: Vec<DimensionMapping>,
    /// `scopes`: names of instrumentation scopes that become the labels `span_instrumentation_scope_name` and `_version`.
    /// Default none.
    pub scopes: Vec<String>,
    /// `events.enabled`: a counter of span events. Default false.
    pub events: bool,
    /// `events.dimensions`: attributes of the event, or else of its span. Default none.
    pub event_dimensions: Vec<Dimension>,
    /// `enable_target_info`: `traces_target_info`, and the labels `job` and `instance`. Default false.
    pub target_info: bool,
    /// `target_info_excluded_dimensions`: resource attributes that it does not show. Default none.
    pub target_info_excluded: Vec<String>,
    /// `enable_instance_label`: whether there is a label `instance`. Default true.
    pub instance_label: bool,
    /// `filter_policies`: which spans count. Default none: all.
    pub filter_policies: Vec<FilterPolicy>,
    /// `span_multiplier_key`: an attribute with the ratio that sampling kept. Default none.
    pub multiplier_key: String,
    /// `enable_tracestate_span_multiplier`: the threshold in `tracestate` says what sampling kept. Default false.
    pub tracestate_multiplier: bool,
}

/// `span_metrics.intrinsic_dimensions:` which built-in labels a series has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intrinsic {
    /// `service`. Default true.
    pub service: bool,
    /// `span_name`. Default true.
    pub span_name: bool,
    /// `span_kind`. Default true.
    pub span_kind: bool,
    /// `status_code`. Default true.
    pub status_code: bool,
    /// `status_message`. Default false.
    pub status_message: bool,
}

/// `service_graphs:` as Tempo's `service-graphs` processor.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceGraphs {
    /// `enabled`. Default true.
    pub enabled: bool,
    /// `histogram_buckets` (seconds in the file). Default Tempo's 8 from 0.1 to 12.8.
    pub bounds_ns: Vec<u64>,
    /// `wait`: how long a half edge waits for its other side, in stream time. Default 10 s.
    pub wait: Millis,
    /// `max_items`: pending edges per source partition. Default 1,000,000.
    pub max_items: usize,
    /// `peer_attributes`. Default `peer.service, db.name, db.system, db.system.name`.
    pub peer_attributes: Vec<String>,
    /// `database_name_attributes`. Default `db.namespace, db.name, db.system, db.system.name`.
    pub database_name_attributes: Vec<String>,
    /// `requests`: `request_total` and `request_failed_total`. Default true.
    pub requests: bool,
    /// `latency`: the histograms. Default true.
    pub latency: bool,
    /// `connection_info`: a gauge per edge. Default false.
    pub connection_info: bool,
    /// `dimensions`: attributes of either side as labels, the resource first. Default none.
    pub dimensions: Vec<Dimension>,
    /// `enable_client_server_prefix`: `client_` and `server_` before dimensions. Default false.
    pub client_server_prefix: bool,
    /// `enable_virtual_node_label`: which side of a virtual edge is virtual. Default false.
    pub virtual_node_label: bool,
    /// `enable_messaging_system_latency_histogram`: from the producer's end to the consumer's start. Default false.
    pub messaging_latency: bool,
    /// `filter_policies`: which spans make edges. Default none: all.
    pub filter_policies: Vec<FilterPolicy>,
    /// `span_multiplier_key`: an attribute with the ratio that sampling kept. Default none.
    pub multiplier_key: String,
    /// `enable_tracestate_span_multiplier`: the threshold in `tracestate` says what sampling kept. Default false.
    pub tracestate_multiplier: bool,
    /// `service_namespace`: what `service.namespace` does. Default `off`.
    pub service_namespace: ServiceNamespace,
    /// `fan_out`: one client span with several server spans makes several edges. Default false, as in Tempo.
    pub fan_out: bool,
    /// `links`: a consumer span belongs to the producers that it links to. Default false, as in Tempo.
    pub links: bool,
    /// `ancestors`: a server span belongs to the nearest client above it, over spans of other kinds. Default false.
    pub ancestors: bool,
    /// `missing_side_is_zero`: the side that a virtual edge lacks is observed as 0 s. Default true, as in Tempo.
    pub missing_side_is_zero: bool,
    /// `failed_http_status`: this HTTP status and greater ones fail an edge; 0: none does. Default 0, as in Tempo.
    pub failed_http_status: u16,
    /// `failed_grpc_codes`: these gRPC status codes fail an edge. Default none, as in Tempo.
    pub failed_grpc_codes: Vec<u16>,
}

/// `service_graphs.service_namespace:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceNamespace {
    /// `off`: it means nothing.
    Off,
    /// `labels`: `client_service_namespace` and `server_service_namespace`, as Grafana reads them.
    Labels,
    /// `name`: a node is called `namespace/name`.
    Name,
}

/// `series:` the life of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// `stale_after`: an idle series ends with a stale marker. Default 15 min.
    pub stale_after: Millis,
    /// `forget_after`: how much longer the cumulative value of an ended series is kept. Default 1 h.
    pub forget_after: Millis,
    /// `snapshot_every`: how often a shard's state is written to its journal, in event time. Default 5 min.
    pub snapshot_every: Millis,
    /// `zero_offset`: how long before the first value of a new series its zero lies; 0 switches zeros off. Default 1 ms.
    pub zero_offset: Millis,
    /// `interval`: how often series are sent, a multiple of `time.step`; 0: every step. Default 0.
    pub interval: Millis,
    /// `write`: whether series are sent at all; they are computed either way. Default true.
    pub write: bool,
    /// `tenant_label`: a label with the tenant on every series; empty: none. Default none.
    pub tenant_label: String,
    /// `external_labels`: added to every series; they replace a label of the same name. Default none.
    pub external_labels: BTreeMap<String, String>,
    /// `exemplars.enabled`. Default true.
    pub exemplars: bool,
    /// `exemplars.label`. Default `traceID`.
    pub exemplar_label: String,
    /// `exemplars.on_counters`: also next to `calls`, as the Collector does. Default false.
    pub exemplars_on_counters: bool,
}

/// `remote_write:` the receiver.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteWrite {
    /// `url`. Default `http://localhost:9090/api/v1/write`.
    pub url: String,
    /// `timeout` of one request. Default 30 s.
    pub timeout: Millis,
    /// `headers` sent with every request. Default none.
    pub headers: BTreeMap<String, Secret>,
    /// `tenant_header`: carries the tenant, unless it is `single-tenant`; empty switches it off. Default `X-Scope-OrgID`.
    pub tenant_header: String,
    /// `auth`. Default none.
    pub auth: Auth,
    /// `tls`
    pub tls: Tls,
    /// `max_samples`: samples per request. Default 2,000.
    pub max_samples: usize,
    /// `max_bytes`: bytes per request before compression. Default 1 MiB.
    pub max_bytes: usize,
    /// `min_backoff`. Default 100 ms.
    pub min_backoff: Millis,
    /// `max_backoff`. Default 10 s.
    pub max_backoff: Millis,
}

/// `remote_write.auth:` how requests are authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `type: none`
    None,
    /// `type: basic` with `username` and `password` or `password_file`.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// `type: bearer` with `token` or `token_file`.
    Bearer(Secret),
    /// `type: sigv4` with `region`, and optionally `profile` and `role_arn`; credentials come from the usual AWS chain.
    SigV4 {
        /// The region of the workspace.
        region: String,
        /// The service that is signed for. Default `aps`.
        service: String,
        /// A profile of the AWS configuration files.
        profile: Option<String>,
        /// A role to assume.
        role_arn: Option<String>,
    },
}

/// `remote_write.tls:`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// `ca_file`: a PEM bundle that is trusted in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// `cert_file`: a client certificate chain, PEM.
    pub cert_file: Option<PathBuf>,
    /// `key_file`: its private key, PEM.
    pub key_file: Option<PathBuf>,
    /// `insecure_skip_verify`. Default false.
    pub insecure_skip_verify: bool,
}

/// `worker:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// `threads`: OS threads that run tasks. Default: the number of cores.
    pub threads: usize,
    /// `max_commit_bytes`: a commit is cut early when its shares reach this size. Default 4 MiB.
    pub max_commit_bytes: usize,
    /// `fetch_buffer_bytes`: records buffered per partition, at most. Default 8 MiB.
    pub fetch_buffer_bytes: usize,
    /// `memory_limit`: above this many bytes, by the worker's own account, source partitions are not read on. 0 is no
    /// limit. Default 0.
    pub memory_limit: usize,
    /// `shutdown_timeout`: how long a graceful stop may take. Default 25 s.
    pub shutdown_timeout: Millis,
}

/// `admin:` the HTTP server for health, readiness and telemetry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// `listen`: `host:port`; empty switches it off. Default `127.0.0.1:9464`.
    pub listen: String,
    /// `ready_max_lag`: not ready while a partition lags by more than this. Default 5 min.
    pub ready_max_lag: Millis,
}

/// `log:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `level`: a tracing filter, such as `info` or `warn,spanmill::worker=debug`. Default `info`.
    pub level: String,
    /// `format`. Default `text`.
    pub format: LogFormat,
}

/// `log.format:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `text`
    Text,
    /// `json`
    Json,
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that must send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The tenant of a single-tenant installation: it gets no tenant header.
pub const SINGLE_TENANT: &str = "single-tenant";

/// Seconds as they stand in a config file to nanoseconds.
fn ns(seconds: &[f64]) -> Vec<u64> {
    seconds.iter().map(|s| (s * 1e9).round() as u64).collect()
}

fn strings(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|&k| k.to_owned()).collect()
}

// === impl Time ===

impl Time {
    /// How far stream time stays behind the ends of spans; `None`: it is that of the records.
    #[must_use]
    pub fn allowed_lateness(&self) -> Option<Millis> {
        (self.source == TimeSource::SpanEnd).then_some(self.lateness)
    }

    /// Where the stream time of a partition stands that has been silent for `idle` at `present`: as if a span had ended
    /// there just now.
    #[must_use]
    pub fn of_silence(&self, present: Millis) -> Millis {
        present - self.idle - self.allowed_lateness().unwrap_or(0)
    }
}

// === impl Default ===

impl Default for Config {
    fn default() -> Self {
        Self {
            kafka: Kafka::default(),
            tenant: TenantSource::Static(SINGLE_TENANT.to_owned()),
            overrides: Overrides { file: None, reload_every: 10_000 },
            time: Time::default(),
            naming: Naming {
                profile: Profile::Tempo,
                namespace: "traces.span.metrics".to_owned(),
                unit: LatencyUnit::Milliseconds,
            },
            span_metrics: SpanMetrics::default(),
            service_graphs: ServiceGraphs::default(),
            host_info: HostInfo {
                enabled: false,
                host_identifiers: strings(&["k8s.node.name", "host.id"]),
                metric_name: "traces_host_info".to_owned(),
            },
            histograms: Histograms { mode: HistogramMode::Classic, native_bucket_factor: 1.1, native_max_buckets: 100 },
            span_names: SpanNames { mode: SanitiseMode::Off, builtin: true, rules: Vec::new() },
            limits: Limits {
                max_active_series: 0,
                max_active_series_per_service: 0,
                max_cardinality_per_label: 0,
                max_label_name_length: 1_024,
                max_label_value_length: 2_048,
            },
            series: Series::default(),
            remote_write: RemoteWrite::default(),
            worker: Worker::default(),
            admin: Admin { listen: "127.0.0.1:9464".to_owned(), ready_max_lag: 300_000 },
            log: Log { level: "info".to_owned(), format: LogFormat::Text },
        }
    }
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".to_owned(),
            topics: vec!["otlp_spans".to_owned()],
            group: "spanmill".to_owned(),
            encoding: Encoding::OtlpProto,
            start: Start::Earliest,
            shards: 16,
            replication: -1,
            dead_letter_topic: String::new(),
            stuck_after: 60_000,
            journal_retention: 0,
            properties: BTreeMap::new(),
        }
    }
}

impl Default for Time {
    fn default() -> Self {
        Self {
            step: StepWidth::new(15_000).expect("15 s is positive"),
            source: TimeSource::Record,
            lateness: 30_000,
            idle: 5_000,
            max_future: 10_000,
            stall_grace: 30_000,
        }
    }
}

impl Default for SpanMetrics {
    fn default() -> Self {
        Self {
            enabled: true,
            calls: true,
            latency: true,
            size: true,
            bounds_ns: ns(&[
                0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
            ]),
            intrinsic: Intrinsic {
                service: true,
                span_name: true,
                span_kind: true,
                status_code: true,
                status_message: false,
            },
            bucket_sets: Vec::new(),
            dimensions: Vec::new(),
            calls_dimensions: Vec::new(),
            latency_dimensions: Vec::new(),
            dimension_mappings: Vec::new(),
            scopes: Vec::new(),
            events: false,
            event_dimensions: Vec::new(),
            target_info: false,
            target_info_excluded: Vec::new(),
            instance_label: true,
            filter_policies: Vec::new(),
            multiplier_key: String::new(),
            tracestate_multiplier: false,
        }
    }
}

impl Default for ServiceGraphs {
    fn default() -> Self {
        Self {
            enabled: true,
            bounds_ns: ns(&[0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8]),
            wait: 10_000,
            max_items: 1_000_000,
            peer_attributes: strings(&["peer.service", "db.name", "db.system", "db.system.name"]),
            database_name_attributes: strings(&["db.namespace", "db.name", "db.system", "db.system.name"]),
            requests: true,
            latency: true,
            connection_info: false,
            dimensions: Vec::new(),
            client_server_prefix: false,
            virtual_node_label: false,
            messaging_latency: false,
            filter_policies: Vec::new(),
            multiplier_key: String::new(),
            tracestate_multiplier: false,
            service_namespace: ServiceNamespace::Off,
            fan_out: false,
            links: false,
            ancestors: false,
            missing_side_is_zero: true,
            failed_http_status: 0,
            failed_grpc_codes: Vec::new(),
        }
    }
}

impl Default for Series {
    fn default() -> Self {
        Self {
            stale_after: 900_000,
            forget_after: 3_600_000,
            snapshot_every: 300_000,
            zero_offset: 1,
            interval: 0,
            write: true,
            tenant_label: String::new(),
            external_labels: BTreeMap::new(),
            exemplars: true,
            exemplar_label: "traceID".to_owned(),
            exemplars_on_counters: false,
        }
    }
}

impl Default for RemoteWrite {
    fn default() -> Self {
        Self {
            url: "http://localhost:9090/api/v1/write".to_owned(),
            timeout: 30_000,
            headers: BTreeMap::new(),
            tenant_header: "X-Scope-OrgID".to_owned(),
            auth: Auth::None,
            tls: Tls::default(),
            max_samples: 2_000,
            max_bytes: 1 << 20,
            min_backoff: 100,
            max_backoff: 10_000,
        }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            max_commit_bytes: 4 << 20,
            fetch_buffer_bytes: 8 << 20,
            memory_limit: 0,
            shutdown_timeout: 25_000,
        }
    }
}
