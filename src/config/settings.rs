//! The configuration as typed values. Every key is documented in `config/spanmill.yaml`.
//!
//! Settings that affect samples are in [`crate::core::settings`]; the rest is here. Durations are milliseconds.

use super::tokens::TokenEndpoint;
use crate::core::model::Millis;
use crate::core::remotewrite::relabel::RelabelRule;
use crate::core::settings::{Encoding, SINGLE_TENANT, Settings};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The maximum of `kafka.shards`.
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
    /// All settings that affect samples: `time:`, `naming:`, `span_metrics:`, `service_graphs:`, `host_info:`, `slos:`,
    /// `histograms:`, `span_names:`, `limits:`, `series:`.
    pub core: Settings,
    /// `remote_write:`
    pub remote_write: RemoteWrite,
    /// The further entries of `remote_write:`, if it is a list of several.
    pub more_endpoints: Vec<RemoteWrite>,
    /// `worker:`
    pub worker: Worker,
    /// `admin:`
    pub admin: Admin,
    /// `telemetry.traces:`
    pub traces: Traces,
    /// `log:`
    pub log: Log,
}

/// `kafka:` the source topics, the group, and the internal topics.
#[derive(Debug, Clone, PartialEq)]
pub struct Kafka {
    /// `brokers`: bootstrap servers, comma separated. Default `localhost:9092`.
    pub brokers: String,
    /// `topics`: source topics; an entry that begins with `^` is a regular expression. Default `[otlp_spans]`.
    pub topics: Vec<String>,
    /// `topic_settings`: what is different about some source topics; the first entry that fits counts. Default none.
    pub topic_settings: Vec<TopicSettings>,
    /// `group`: the consumer group, and the prefix of the internal topics. Default `spanmill`.
    pub group: String,
    /// `group_protocol`: who shares partitions out. Default `classic`.
    pub group_protocol: GroupProtocol,
    /// `encoding`: the format of record values. Default `auto`.
    pub encoding: Encoding,
    /// `start`: where a partition without a journal begins. Default `earliest`.
    pub start: Start,
    /// `shards`: partitions of the deltas topic; `spanmill reshard` changes it. Default 16.
    pub shards: u32,
    /// `replication`: replication factor of the internal topics; -1 asks for the broker's default. Default -1.
    pub replication: i32,
    /// `dead_letter_topic`: gets a copy of every record that cannot be read. Default none, written as empty text.
    pub dead_letter_topic: String,
    /// `stuck_after`: if a partition has unread records and delivers none for this long, its fetch is restarted.
    /// Default 60 s.
    pub stuck_after: Millis,
    /// `journal_retention`: how long records of journals stay after no task needs them to continue. A replay that
    /// repeats the ticks and forced closes of live workers reads them. Default 0 s.
    pub journal_retention: Millis,
    /// `repartition`: whether a stage of its own repartitions the source topics by trace ID, into internal topics that the
    /// span tasks read instead. Default false.
    pub repartition: bool,
    /// `repartition_partitions`: the partitions of these topics when they are created; 0: as many as the source topic has.
    /// Default 0.
    pub repartition_partitions: u32,
    /// `repartition_retention`: how long records of these topics stay after they have been read. Default 1 d.
    pub repartition_retention: Millis,
    /// `properties`: librdkafka settings for every client (TLS, SASL, ...), unchanged except those about
    /// [tokens](Self::tokens). Values may be secret.
    pub properties: BTreeMap<String, Secret>,
}

/// An entry of `kafka.topic_settings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// `topic`: the name, or a regular expression that begins with `^`.
    pub topic: String,
    /// `encoding`: stands for that of all topics.
    pub encoding: Option<Encoding>,
    /// `tenant`: stands for what `tenant.source` would find.
    pub tenant: Option<String>,
}

/// Where a partition without a journal begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// `earliest`
    Earliest,
    /// `latest`
    Latest,
}

/// Who shares out the partitions of a consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProtocol {
    /// `classic`: one of the members. All brokers support it.
    Classic,
    /// `consumer`: the brokers, which must be of Kafka 4.0 or later (KIP-848).
    Consumer,
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

/// `remote_write:` the receiver.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteWrite {
    /// `type`: what the endpoint is. Default remote write.
    pub kind: OutputType,
    /// `name`: the identity of an endpoint among several, in journals and metrics. Default empty: see [`Self::id`].
    pub name: String,
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
    /// `enable_http2`: over TLS, with a server that offers it. Default false.
    pub enable_http2: bool,
    /// `max_samples`: samples per request. Default 2,000.
    pub max_samples: usize,
    /// `max_bytes`: bytes per request before compression. Default 1 MiB.
    pub max_bytes: usize,
    /// `min_backoff`. Default 100 ms.
    pub min_backoff: Millis,
    /// `max_backoff`. Default 10 s.
    pub max_backoff: Millis,
    /// `min_in_flight`: requests of one tenant to one receiver at a time, over all shards, that are allowed in any case. Default 4.
    pub min_in_flight: usize,
    /// `max_in_flight`: requests to one receiver at a time, over all shards and tenants. Default 64.
    pub max_in_flight: usize,
    /// `on_status`: what to do at an answer with one of these statuses, if not the usual. Default none.
    pub on_status: BTreeMap<u16, OnStatus>,
    /// `protocol`: the version of remote write. Default auto.
    pub protocol: Protocol,
    /// `convert_classic_histograms_to_nhcb`: whether classic histograms are sent as native ones with custom buckets. Default false.
    pub convert_classic_histograms_to_nhcb: bool,
    /// `exemplars`: whether they are sent. Default auto.
    pub exemplars: SendExemplars,
    /// `max_sample_age`: samples that are older when they are to be sent are dropped, and counted; 0: none. Default 0 s.
    pub max_sample_age: Millis,
    /// `metadata_interval`: how often type, help and unit of each metric are sent to a receiver of 1.0; 0: never. Default 1
    /// min.
    pub metadata_interval: Millis,
    /// `quarantine`: how long a series that the receiver refuses by itself is not sent before it is retried; 0: it is sent at
    /// every step. Default 5 min.
    pub quarantine: Millis,
    /// `preflight`: whether a receiver is asked, before samples go to it that are more than an hour old, whether it
    /// would keep them; what it would reject waits. Default true.
    pub preflight: bool,
    /// `write_relabel_configs`: which series are sent, and under which labels. Default none: all, as they are counted.
    pub write_relabel_configs: Vec<RelabelRule>,
    /// `max_backlog`: the compressed bytes per shard that may wait for this endpoint while another one is further. Default 64
    /// MiB.
    pub max_backlog: usize,
    /// `on_backlog`: what happens beyond that. Default wait.
    pub on_backlog: OnBacklog,
    /// `otlp`: how samples become OTLP, for the types that take it.
    pub otlp: OtlpOutput,
    /// `kafka`: of the type `kafka`.
    pub kafka: KafkaOutput,
    /// `file`: of the type `file`.
    pub file: FileOutput,
}

/// `remote_write.type`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputType {
    /// `remote_write`: Prometheus remote write.
    #[default]
    RemoteWrite,
    /// `otlp_http`: OTLP metrics over HTTP.
    OtlpHttp,
    /// `otlp_grpc`: OTLP metrics over gRPC.
    OtlpGrpc,
    /// `kafka`: OTLP metrics in a Kafka topic.
    Kafka,
    /// `file`: OTLP metrics in files.
    File,
}

/// `remote_write.otlp`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OtlpOutput {
    /// `resource_attributes` of all metrics. Default none: series are what they are with remote write.
    pub resource_attributes: BTreeMap<String, String>,
}

/// `remote_write.kafka`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KafkaOutput {
    /// `topic`
    pub topic: String,
    /// `bootstrap_servers`. Default those of `kafka.brokers`.
    pub bootstrap_servers: String,
    /// The properties of the client: those of `kafka.properties`.
    pub properties: BTreeMap<String, Secret>,
}

/// `remote_write.file`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOutput {
    /// `path`
    pub path: Option<PathBuf>,
    /// `format`. Default json.
    pub format: FileFormat,
    /// `max_size`: a file that is larger is renamed, and another one begun. Default 100 MiB.
    pub max_size: usize,
    /// `rotation_interval`: the same for one that is older; 0: never. Default 0 s.
    pub rotation_interval: Millis,
}

/// `remote_write.file.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileFormat {
    /// `json`: OTLP JSON, a request a line.
    #[default]
    Json,
    /// `proto`: protobuf, each request behind its length in four bytes, most significant first.
    Proto,
}

/// `remote_write.on_backlog`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBacklog {
    /// `wait`: the other endpoints wait for this one.
    Wait,
    /// `drop`: the oldest steps are not sent to this endpoint.
    Drop,
}

/// `remote_write.protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `auto`: 2.0 if the receiver supports it, which a probe shows.
    Auto,
    /// `1.0`
    V1,
    /// `2.0`
    V2,
}

/// `remote_write.exemplars`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendExemplars {
    /// `auto`: unless the receiver is known to store none.
    Auto,
    /// `on`
    On,
    /// `off`
    Off,
}

/// A value of `remote_write.on_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStatus {
    /// `wait`: for a better answer, as during an outage.
    Wait,
    /// `reject`: gives the samples up, and counts them.
    Reject,
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
    /// `type: oauth2` with the keys of `oauth2`: a token of a token endpoint.
    OAuth2(Box<TokenEndpoint>),
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
    /// `stage`: which tasks the worker shares in. Default both.
    pub stage: WorkerStage,
    /// `threads`: OS threads that run tasks. Default: the number of cores.
    pub threads: usize,
    /// `max_commit_bytes`: a commit is cut early when its delta records reach this size. Default 4 MiB.
    pub max_commit_bytes: usize,
    /// `fetch_buffer_bytes`: records buffered per partition, at most. Default 8 MiB.
    pub fetch_buffer_bytes: usize,
    /// `memory_limit`: above this many bytes, by the worker's own account, source partitions are not read on. 0 is no
    /// limit. Default 0.
    pub memory_limit: usize,
    /// `shutdown_timeout`: how long a graceful stop may take. Default 25 s.
    pub shutdown_timeout: Millis,
}

/// The tasks that a worker shares in. A group needs workers for both kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerStage {
    /// `both`
    Both,
    /// `spans`: source partitions, and no shard.
    Spans,
    /// `series`: shards, and no source partition.
    Series,
}

/// `admin:` the HTTP server for health, readiness and telemetry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// `listen`: `host:port`; empty switches it off. Default `127.0.0.1:9464`.
    pub listen: String,
    /// `ready_max_lag`: not ready while a partition lags by more than this. Default 5 min.
    pub ready_max_lag: Millis,
    /// `token` or `token_file`: what requests must bring, but those of probes; empty: nothing.
    pub token: Secret,
    /// `metrics_without_token`: `/metrics` is answered without it. Default false.
    pub metrics_without_token: bool,
    /// `tls`
    pub tls: ServerTls,
}

/// `admin.tls:`, and the options of a page: what a server shows to its clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerTls {
    /// `cert_file`: a certificate chain, PEM. With neither file there is no TLS.
    pub cert_file: Option<PathBuf>,
    /// `key_file`: its private key, PEM.
    pub key_file: Option<PathBuf>,
}

/// `telemetry.traces:` spans of spanmill's own work.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// `endpoint`: of OTLP over HTTP. Default none, written as empty text.
    pub endpoint: String,
    /// `sampling`: the part of the traces that are sent. Default 1.
    pub sampling: f64,
    /// `headers` sent with every request. Default none.
    pub headers: BTreeMap<String, Secret>,
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

/// A value that is never printed, and the file that it came from, which may hold another by now.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret {
    value: String,
    file: Option<PathBuf>,
}

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), file: None }
    }

    /// Wraps the content of a file.
    #[must_use]
    pub fn of_file(value: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self { value: value.into(), file: Some(file.into()) }
    }

    /// The file that it came from, if any.
    #[must_use]
    pub fn file(&self) -> Option<&std::path::Path> {
        self.file.as_deref()
    }

    /// The secret in a file: its content without the line break at the end.
    #[must_use]
    pub fn in_text(text: &str) -> &str {
        text.trim_end_matches(['\n', '\r'])
    }

    /// The value itself, for the one place that must send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.value
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

// === impl Default ===

impl Default for Config {
    fn default() -> Self {
        Self {
            kafka: Kafka::default(),
            tenant: TenantSource::Static(SINGLE_TENANT.to_owned()),
            overrides: Overrides { file: None, reload_every: 10_000 },
            core: Settings::default(),
            remote_write: RemoteWrite::default(),
            more_endpoints: Vec::new(),
            worker: Worker::default(),
            admin: Admin::default(),
            traces: Traces { endpoint: String::new(), sampling: 1.0, headers: BTreeMap::new() },
            log: Log { level: "info".to_owned(), format: LogFormat::Text },
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9464".to_owned(),
            ready_max_lag: 300_000,
            token: Secret::default(),
            metrics_without_token: false,
            tls: ServerTls::default(),
        }
    }
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".to_owned(),
            topics: vec!["otlp_spans".to_owned()],
            topic_settings: Vec::new(),
            group: "spanmill".to_owned(),
            group_protocol: GroupProtocol::Classic,
            encoding: Encoding::Auto,
            start: Start::Earliest,
            shards: 16,
            replication: -1,
            dead_letter_topic: String::new(),
            stuck_after: 60_000,
            journal_retention: 0,
            repartition: false,
            repartition_partitions: 0,
            repartition_retention: 86_400_000,
            properties: BTreeMap::new(),
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
            enable_http2: false,
            max_samples: 2_000,
            max_bytes: 1 << 20,
            min_backoff: 100,
            max_backoff: 10_000,
            min_in_flight: 4,
            max_in_flight: 64,
            on_status: BTreeMap::new(),
            protocol: Protocol::Auto,
            convert_classic_histograms_to_nhcb: false,
            exemplars: SendExemplars::Auto,
            max_sample_age: 0,
            metadata_interval: 60_000,
            quarantine: 300_000,
            preflight: true,
            write_relabel_configs: Vec::new(),
            name: String::new(),
            max_backlog: 64 << 20,
            on_backlog: OnBacklog::Wait,
            kind: OutputType::RemoteWrite,
            otlp: OtlpOutput::default(),
            kafka: KafkaOutput::default(),
            file: FileOutput::default(),
        }
    }
}

impl Default for FileOutput {
    fn default() -> Self {
        Self { path: None, format: FileFormat::Json, max_size: 100 << 20, rotation_interval: 0 }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            stage: WorkerStage::Both,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            max_commit_bytes: 4 << 20,
            fetch_buffer_bytes: 8 << 20,
            memory_limit: 0,
            shutdown_timeout: 25_000,
        }
    }
}
