//! The Collector's exporters for OTLP, where they export the connectors' metrics.

use crate::tools::import::collector::authenticator;
use crate::tools::import::otlp::{grpc_endpoint, http_endpoint, insecure};
use crate::tools::import::specials::{headers, url};
use crate::tools::import::table::How::{Bool, By, Duration, Nothing, Text};
use crate::tools::import::table::ImportResult::{Better, Different, Ignored, Refused, Same};
use crate::tools::import::table::{Row, Table, case, key, none};

const SENDING: &str = "requests of a shard are sent in order; Kafka holds the rest, however long the receiver is down";
const FORM: &str = "metrics have the names of naming.profile, as in remote write, and all labels are attributes of their points: \
                    the Collector sends names with dots, and the resource has attributes. Compare what the receiver makes of \
                    both before you switch";
const FILE: &str = "write it to a file and set its path";
const POOL: &str = "connections are kept open and shared";
const VERSIONS: &str = "TLS 1.2 and 1.3 are supported";
const OTHER_SIGNAL: &str = "metrics have an address of their own";
const GZIP: &str = "requests are compressed with gzip";
const PORTED: &str = "a message in JSON is sent as protobuf, which OTLP receivers accept at the same address";
const DEADLINE: Row = none(
    "retry_on_failure.max_elapsed_time",
    Better("no sample is dropped: the steps arrive, in order, when the receiver is back"),
);
const BESIDES: &str = "trusted in addition to the system's authorities, not instead";
const NAME: &str = "the certificate must be for the host of the url";
const QUERY: &str = "the query may hold a secret and is skipped: append it to remote_write.url";
const UNSUPPORTED: &str = "unsupported authentication: use basic, bearer, oauth2 or sigv4";

/// `otlp_http`, the former `otlphttp`.
pub(in crate::tools::import) const OTLP_HTTP: Table = Table {
    name: "Collector: exporter otlp_http (otlphttp) of the connectors' metrics",
    root: "exporters.otlp_http",
    rows: &[
        key("endpoint", By(http_endpoint), "remote_write.url", Same),
        case("endpoint", "(user and password)", Nothing, "remote_write.auth", Same),
        case("endpoint", "(a query)", Nothing, "", Refused(QUERY)),
        case("endpoint", "(with metrics_endpoint)", Nothing, "", Ignored(OTHER_SIGNAL)),
        case("endpoint", "(form)", Nothing, "remote_write.type", Different(FORM)),
        key("metrics_endpoint", By(url), "remote_write.url", Same),
        case("metrics_endpoint", "(user and password)", Nothing, "remote_write.auth", Same),
        case("metrics_endpoint", "(a query)", Nothing, "", Refused(QUERY)),
        none("traces_endpoint", Ignored(OTHER_SIGNAL)),
        none("logs_endpoint", Ignored(OTHER_SIGNAL)),
        none("profiles_endpoint", Ignored(OTHER_SIGNAL)),
        none("encoding", Different(PORTED)),
        case("encoding", "proto", Nothing, "", Same),
        key("timeout", Duration, "remote_write.timeout", Same),
        key("headers", By(headers), "remote_write.headers", Same),
        case("headers", "(X-Scope-OrgID)", Nothing, "remote_write.headers, remote_write.tenant_header: \"\"", Same),
        key("auth.authenticator", By(authenticator), "remote_write.auth", Same),
        case("auth.authenticator", "(another)", Nothing, "", Refused(UNSUPPORTED)),
        none("tls.insecure", Ignored("the URL determines http or https")),
        key("tls.insecure_skip_verify", Bool, "remote_write.tls.insecure_skip_verify", Same),
        key("tls.ca_file", Text, "remote_write.tls.ca_file", Different(BESIDES)),
        key("tls.cert_file", Text, "remote_write.tls.cert_file", Same),
        key("tls.key_file", Text, "remote_write.tls.key_file", Same),
        none("tls.ca_pem", Refused(FILE)),
        none("tls.cert_pem", Refused(FILE)),
        none("tls.key_pem", Refused(FILE)),
        none("tls.server_name_override", Refused(NAME)),
        none("tls.include_system_ca_certs_pool", Ignored("the system's authorities are always trusted")),
        none("tls.reload_interval", Ignored("files are read at the start")),
        none("tls.min_version", Ignored(VERSIONS)),
        none("tls.max_version", Ignored(VERSIONS)),
        none("tls.cipher_suites", Ignored("only safe cipher suites are offered")),
        none("tls.curve_preferences", Ignored("only safe cipher suites are offered")),
        none("compression", Different(GZIP)),
        case("compression", "gzip", Nothing, "", Same),
        none("compression_params.**", Ignored(GZIP)),
        none("proxy_url", Refused("set it in HTTPS_PROXY or HTTP_PROXY of the environment")),
        none("read_buffer_size", Ignored(POOL)),
        none("write_buffer_size", Ignored(POOL)),
        none("max_idle_conns", Ignored(POOL)),
        none("max_idle_conns_per_host", Ignored(POOL)),
        none("max_conns_per_host", Ignored(POOL)),
        none("idle_conn_timeout", Ignored(POOL)),
        none("disable_keep_alives", Ignored(POOL)),
        none("force_attempt_http2", Ignored("remote_write.enable_http2 decides")),
        none("http2_read_idle_timeout", Ignored(POOL)),
        none("http2_ping_timeout", Ignored(POOL)),
        none("cookies.**", Ignored("cookies are not stored")),
        none("retry_on_failure.enabled", Better("a request is retried until it is settled")),
        key("retry_on_failure.initial_interval", Duration, "remote_write.min_backoff", Same),
        none("retry_on_failure.randomization_factor", Ignored("the backoff doubles")),
        none("retry_on_failure.multiplier", Ignored("the backoff doubles")),
        key("retry_on_failure.max_interval", Duration, "remote_write.max_backoff", Same),
        DEADLINE,
        none("sending_queue.**", Better(SENDING)),
    ],
};

/// `otlp_grpc`, the former `otlp`.
pub(in crate::tools::import) const OTLP_GRPC: Table = Table {
    name: "Collector: exporter otlp_grpc (otlp) of the connectors' metrics",
    root: "exporters.otlp_grpc",
    rows: &[
        key("endpoint", By(grpc_endpoint), "remote_write.url", Same),
        case("endpoint", "(form)", Nothing, "remote_write.type", Different(FORM)),
        key("timeout", Duration, "remote_write.timeout", Same),
        key("headers", By(headers), "remote_write.headers", Same),
        case("headers", "(X-Scope-OrgID)", Nothing, "remote_write.headers, remote_write.tenant_header: \"\"", Same),
        key("auth.authenticator", By(authenticator), "remote_write.auth", Same),
        case("auth.authenticator", "(another)", Nothing, "", Refused(UNSUPPORTED)),
        key("tls.insecure", By(insecure), "remote_write.url", Same),
        key("tls.insecure_skip_verify", Bool, "remote_write.tls.insecure_skip_verify", Same),
        key("tls.ca_file", Text, "remote_write.tls.ca_file", Different(BESIDES)),
        key("tls.cert_file", Text, "remote_write.tls.cert_file", Same),
        key("tls.key_file", Text, "remote_write.tls.key_file", Same),
        none("tls.ca_pem", Refused(FILE)),
        none("tls.cert_pem", Refused(FILE)),
        none("tls.key_pem", Refused(FILE)),
        none("tls.server_name_override", Refused(NAME)),
        none("tls.include_system_ca_certs_pool", Ignored("the system's authorities are always trusted")),
        none("tls.reload_interval", Ignored("files are read at the start")),
        none("tls.min_version", Ignored(VERSIONS)),
        none("tls.max_version", Ignored(VERSIONS)),
        none("tls.cipher_suites", Ignored("only safe cipher suites are offered")),
        none("tls.curve_preferences", Ignored("only safe cipher suites are offered")),
        none("compression", Different(GZIP)),
        case("compression", "gzip", Nothing, "", Same),
        none("read_buffer_size", Ignored(POOL)),
        none("write_buffer_size", Ignored(POOL)),
        none("keepalive.**", Ignored(POOL)),
        none("balancer_name", Ignored("one host is used, as the system's resolver names it")),
        none("authority", Refused("requests name the host of the url")),
        none("wait_for_ready", Ignored("a request is retried until it is settled")),
        none("user_agent", Ignored("requests name spanmill")),
        none("retry_on_failure.enabled", Better("a request is retried until it is settled")),
        key("retry_on_failure.initial_interval", Duration, "remote_write.min_backoff", Same),
        none("retry_on_failure.randomization_factor", Ignored("the backoff doubles")),
        none("retry_on_failure.multiplier", Ignored("the backoff doubles")),
        key("retry_on_failure.max_interval", Duration, "remote_write.max_backoff", Same),
        DEADLINE,
        none("sending_queue.**", Better(SENDING)),
        none("batcher.**", Ignored("remote_write.max_samples and remote_write.max_bytes decide")),
    ],
};
