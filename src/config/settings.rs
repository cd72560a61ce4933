//! What the configuration says, as typed values. Every key is documented in `config/spanmill.yaml`.
//!
//! Durations are milliseconds unless the name says otherwise; histogram bounds are nanoseconds, strictly ascending.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::{Millis, StepWidth};

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `kafka:`
    pub kafka: Kafka,
    /// `tenant:`
    pub tenant: TenantSource,
    /// `time:`
    pub time: Time,
    /// `span_metrics:`
    pub span_metrics: SpanMetrics,
    /// `service_graphs:`
    pub service_graphs: ServiceGraphs,
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

/// `tenant:` where a record's tenant comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantSource {
    /// `source: static` with `name`. Default `single-tenant`.
    Static(String),
    /// `source: key`: the record key.
    Key,
    /// `source: header` with `header`.
    Header(String),
}

/// `time:` steps and stream time.
#[derive(Debug, Clone, PartialEq)]
pub struct Time {
    /// `step`: the collection interval. Default 15 s.
    pub step: StepWidth,
    /// `idle`: a partition without records for this long advances by the wall clock. Default 5 s.
    pub idle: Millis,
    /// `max_future`: stream time never runs ahead of the wall clock by more than this. Default 10 s.
    pub max_future: Millis,
    /// `stall_grace`: a step is closed without a partition that has been silent for this long. Default 30 s.
    pub stall_grace: Millis,
}

/// `span_metrics:` as Tempo's `span-metrics` processor.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanMetrics {
    /// `enabled`. Default true.
    pub enabled: bool,
    /// `histogram_buckets` (seconds in the file). Default Tempo's 14 from 0.002 to 16.384.
    pub bounds_ns: Vec<u64>,
    /// `intrinsic_dimensions`
    pub intrinsic: Intrinsic,
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
    /// `external_labels`: added to every series; they replace a label of the same name. Default none.
    pub external_labels: BTreeMap<String, String>,
    /// `exemplars.enabled`. Default true.
    pub exemplars: bool,
    /// `exemplars.label`. Default `traceID`.
    pub exemplar_label: String,
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
    /// `fetch_buffer_bytes`: records buffered per source partition. Default 8 MiB.
    pub fetch_buffer_bytes: usize,
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

// === impl Default ===

impl Default for Config {
    fn default() -> Self {
        Self {
            kafka: Kafka::default(),
            tenant: TenantSource::Static(SINGLE_TENANT.to_owned()),
            time: Time::default(),
            span_metrics: SpanMetrics::default(),
            service_graphs: ServiceGraphs::default(),
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
            properties: BTreeMap::new(),
        }
    }
}

impl Default for Time {
    fn default() -> Self {
        Self {
            step: StepWidth::new(15_000).expect("15 s is positive"),
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
        }
    }
}

impl Default for ServiceGraphs {
    fn default() -> Self {
        let strings = |keys: &[&str]| keys.iter().map(|&k| k.to_owned()).collect();
        Self {
            enabled: true,
            bounds_ns: ns(&[0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8]),
            wait: 10_000,
            max_items: 1_000_000,
            peer_attributes: strings(&["peer.service", "db.name", "db.system", "db.system.name"]),
            database_name_attributes: strings(&["db.namespace", "db.name", "db.system", "db.system.name"]),
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
            external_labels: BTreeMap::new(),
            exemplars: true,
            exemplar_label: "traceID".to_owned(),
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
            shutdown_timeout: 25_000,
        }
    }
}
