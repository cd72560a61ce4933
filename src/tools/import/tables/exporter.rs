//! The Collector's exporter for Prometheus remote write.

use crate::tools::import::collector::{authenticator, exporter_namespace, target_info};
use crate::tools::import::specials::{headers, url};
use crate::tools::import::table::How::{Bool, By, Bytes, Duration, Labels, Nothing, Text};
use crate::tools::import::table::ImportResult::{Better, Different, Ignored, Refused, Same};
use crate::tools::import::table::{Row, Table, absent, case, key, none};

const QUEUE: &str =
    "one request per shard is in flight, in order; Kafka holds the rest, however long the receiver is down";
pub(super) const NAMES: &str = "names are escaped and have their suffixes, as with UnderscoreEscapingWithSuffixes";
pub(super) const PROMOTE: &str =
    "name the attributes in span_metrics.dimensions; with the labels job and instance, target_info joins the rest";
const POOL: &str = "one connection per shard";
const FILE: &str = "write it to a file and set its path";

/// `prometheus_remote_write`. The keys of HTTP stand at the top or below `http`.
pub(in crate::tools::import) const EXPORTER: Table = Table {
    name: "Collector: exporter prometheus_remote_write (prometheusremotewrite)",
    root: "exporters.prometheus_remote_write",
    rows: ROWS,
};

const ROWS: &[Row] = &[
    key("endpoint", By(url), "remote_write.url", Same),
    case("endpoint", "(user and password)", Nothing, "remote_write.auth", Same),
    case(
        "endpoint",
        "(a query)",
        Nothing,
        "",
        Refused("the query may hold a secret and is skipped: append it to remote_write.url"),
    ),
    key("timeout", Duration, "remote_write.timeout", Same),
    key("headers", By(headers), "remote_write.headers", Same),
    case("headers", "(X-Scope-OrgID)", Nothing, "remote_write.headers, remote_write.tenant_header: \"\"", Same),
    key("auth.authenticator", By(authenticator), "remote_write.auth", Same),
    case(
        "auth.authenticator",
        "(another)",
        Nothing,
        "",
        Refused(
            "unsupported authentication: use basic, bearer, oauth2 or \
                                                                  sigv4",
        ),
    ),
    none("tls.insecure", Ignored("the URL determines http or https")),
    key("tls.insecure_skip_verify", Bool, "remote_write.tls.insecure_skip_verify", Same),
    key(
        "tls.ca_file",
        Text,
        "remote_write.tls.ca_file",
        Different("trusted in addition to the system's authorities, not instead"),
    ),
    key("tls.cert_file", Text, "remote_write.tls.cert_file", Same),
    key("tls.key_file", Text, "remote_write.tls.key_file", Same),
    none("tls.ca_pem", Refused(FILE)),
    none("tls.cert_pem", Refused(FILE)),
    none("tls.key_pem", Refused(FILE)),
    none("tls.server_name_override", Refused("the certificate must be for the host of the url")),
    none("tls.include_system_ca_certs_pool", Ignored("the system's authorities are always trusted")),
    none("tls.reload_interval", Ignored("files are read at the start")),
    none("tls.min_version", Ignored("TLS 1.2 and 1.3 are supported")),
    none("tls.max_version", Ignored("TLS 1.2 and 1.3 are supported")),
    none("tls.cipher_suites", Ignored("only safe cipher suites are offered")),
    none("tls.curve_preferences", Ignored("only safe cipher suites are offered")),
    none("compression", Refused("remote write is compressed with snappy")),
    case("compression", "snappy", Nothing, "", Same),
    none("proxy_url", Refused("set it in HTTPS_PROXY or HTTP_PROXY of the environment")),
    none("read_buffer_size", Ignored(POOL)),
    none("write_buffer_size", Ignored(POOL)),
    none("max_idle_conns", Ignored(POOL)),
    none("max_idle_conns_per_host", Ignored(POOL)),
    none("max_conns_per_host", Ignored(POOL)),
    none("idle_conn_timeout", Ignored(POOL)),
    none("disable_keep_alives", Ignored(POOL)),
    none("http2_read_idle_timeout", Ignored("HTTP/1.1 is used")),
    none("http2_ping_timeout", Ignored("HTTP/1.1 is used")),
    none("cookies.**", Ignored("cookies are not stored")),
    none("retry_on_failure.enabled", Better("a request is retried until it is settled")),
    key("retry_on_failure.initial_interval", Duration, "remote_write.min_backoff", Same),
    none("retry_on_failure.randomization_factor", Ignored("the backoff doubles")),
    none("retry_on_failure.multiplier", Ignored("the backoff doubles")),
    key("retry_on_failure.max_interval", Duration, "remote_write.max_backoff", Same),
    none(
        "retry_on_failure.max_elapsed_time",
        Better("no sample is dropped: the steps arrive, in order, when the receiver is back"),
    ),
    none("remote_write_queue.**", Better(QUEUE)),
    none("sending_queue.**", Better(QUEUE)),
    key("max_batch_size_bytes", Bytes, "remote_write.max_bytes", Same),
    none("max_batch_request_parallelism", Better("samples of a series are always sent in order")),
    key("external_labels", Labels, "series.external_labels", Same),
    key(
        "namespace",
        By(exporter_namespace),
        "naming.namespace",
        Different("prefixes span metrics only: edges keep the names that Grafana reads, and target_info its own"),
    ),
    none("add_metric_suffixes", Refused(NAMES)),
    case("add_metric_suffixes", "true", Nothing, "", Same),
    none("translation_strategy", Refused(NAMES)),
    case("translation_strategy", "UnderscoreEscapingWithSuffixes", Nothing, "", Same),
    none("send_metadata", Ignored("remote write 2.0 carries it; 1.0 gets it every remote_write.metadata_interval")),
    case("send_metadata", "false", Nothing, "", Ignored("remote_write.metadata_interval: 0s sends none with 1.0")),
    none("protobuf_message", Refused("not a message of remote write")),
    case("protobuf_message", "prometheus.WriteRequest", Nothing, "", Same),
    case(
        "protobuf_message",
        "io.prometheus.write.v2.Request",
        Nothing,
        "",
        Ignored("remote_write.protocol: auto sends 2.0 to a receiver that accepts it"),
    ),
    key("target_info.enabled", By(target_info), "span_metrics.enable_target_info", Same),
    case(
        "target_info.enabled",
        "(off)",
        Nothing,
        "",
        Different(
            "the labels job and instance come with target_info; span_metrics.enable_target_info: false disables all \
             three",
        ),
    ),
    none("disable_scope_info", Same),
    case("disable_scope_info", "true", Nothing, "", Same),
    case("disable_scope_info", "false", Nothing, "", Different(SCOPE)),
    absent("disable_scope_info", "", "", Different(SCOPE)),
    none("resource_to_telemetry_conversion.enabled", Refused(PROMOTE)),
    case("resource_to_telemetry_conversion.enabled", "false", Nothing, "", Same),
    none("resource_to_telemetry_conversion.exclude_service_attributes", Ignored("it belongs to the conversion")),
    none("resource_constant_labels.**", Refused(PROMOTE)),
    none(
        "convert_explicit_histograms_to_nhcb",
        Refused("explicit bounds are classic buckets; histograms.mode: native counts exponentially"),
    ),
    case("convert_explicit_histograms_to_nhcb", "false", Nothing, "", Same),
    none("keep_classic_histograms", Ignored("it belongs to the conversion")),
    none(
        "include_metadata_keys",
        Refused("read the tenant from a record header: tenant.source: header, remote_write.tenant_header"),
    ),
    none("wal.**", Better("no data is kept on disk; Kafka is the log")),
    none("export_created_metric.**", Ignored("series start with a zero")),
    case(
        "(no exporter)",
        "(none)",
        Nothing,
        "",
        Refused("series go to a receiver of Prometheus remote write: set it in remote_write.url"),
    ),
    case(
        "(several receivers)",
        "(another)",
        Nothing,
        "",
        Refused("only the first exporter is read: add the other one to remote_write, which may be a list of endpoints"),
    ),
];

pub(super) const SCOPE: &str = "no label otel_scope_name or otel_scope_version";
