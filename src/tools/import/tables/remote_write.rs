//! A block of Prometheus' `remote_write`, as Tempo takes it.

use crate::tools::import::relabeling::rules;
use crate::tools::import::specials::{authorization, headers, url};
use crate::tools::import::table::How::{Bool, By, Duration, Nothing, Secret, Text, Whole};
use crate::tools::import::table::ImportResult::{Better, Different, Ignored, Refused, Same};
use crate::tools::import::table::{Table, case, key, none};

const CLASSES: &str =
    "expressions use Rust's syntax: `\\d`, `\\w` and `\\b` match Unicode, write `[0-9]` for ASCII; otherwise as RE2";
const TOKEN: &str = "/etc/spanmill/remote-write-token";
const PASSWORD: &str = "/etc/spanmill/remote-write-password";
const TLS_FILE: &str = "write it to a file and set its path";

/// One receiver.
pub(in crate::tools::import) const REMOTE_WRITE: Table = Table {
    name: "Tempo: metrics_generator.storage.remote_write",
    root: "metrics_generator.storage.remote_write[]",
    rows: &[
        key("url", By(url), "remote_write.url", Same),
        case("url", "(user and password)", Nothing, "remote_write.auth", Same),
        case(
            "url",
            "(a query)",
            Nothing,
            "",
            Refused("the query may hold a secret and is skipped: append it to remote_write.url"),
        ),
        key("remote_timeout", Duration, "remote_write.timeout", Same),
        key("headers", By(headers), "remote_write.headers", Same),
        case("headers", "(X-Scope-OrgID)", Nothing, "remote_write.headers, remote_write.tenant_header: \"\"", Same),
        key("name", Text, "remote_write.name", Same),
        key("write_relabel_configs", By(rules), "remote_write.write_relabel_configs", Same),
        case("write_relabel_configs", "(regex)", Nothing, "remote_write.write_relabel_configs", Different(CLASSES)),
        case(
            "write_relabel_configs",
            "(a variable, or no valid rule)",
            Nothing,
            "",
            Refused("all rules of the receiver are skipped, because each acts on what the one before leaves"),
        ),
        none("send_exemplars", Ignored("Tempo always sends them; series.exemplars.enabled: false disables them")),
        none("send_native_histograms", Ignored("histograms.mode decides, as the overrides do in Tempo")),
        none("protobuf_message", Refused("not a message of remote write")),
        case("protobuf_message", "prometheus.WriteRequest", Nothing, "", Same),
        case(
            "protobuf_message",
            "io.prometheus.write.v2.Request",
            Nothing,
            "",
            Ignored("remote_write.protocol: auto sends 2.0 to a receiver that accepts it"),
        ),
        none("round_robin_dns", Ignored("one connection per shard, by the system's resolver")),
        key("basic_auth.username", Text, "remote_write.auth.username", Same),
        none("basic_auth.username_file", Refused("write the name into remote_write.auth.username")),
        key("basic_auth.password", Secret(PASSWORD), "remote_write.auth.password_file", Same),
        key("basic_auth.password_file", Text, "remote_write.auth.password_file", Same),
        key("authorization.type", By(authorization), "remote_write.auth.type", Same),
        case(
            "authorization.type",
            "(not Bearer)",
            Nothing,
            "",
            Refused("only Bearer has a key of its own: write others as remote_write.headers.Authorization"),
        ),
        key("authorization.credentials", Secret(TOKEN), "remote_write.auth.token_file", Same),
        key("authorization.credentials_file", Text, "remote_write.auth.token_file", Same),
        key("bearer_token", Secret(TOKEN), "remote_write.auth.token_file", Same),
        key("bearer_token_file", Text, "remote_write.auth.token_file", Same),
        none(
            "oauth2.**",
            Refused(
                "unsupported authentication: add the token in a proxy, or use basic, bearer or \
                                   sigv4",
            ),
        ),
        none(
            "azuread.**",
            Refused(
                "unsupported authentication: add the token in a proxy, or use basic, bearer or \
                                    sigv4",
            ),
        ),
        none(
            "google_iam.**",
            Refused("unsupported authentication: add the token in a proxy, or use basic, bearer or sigv4"),
        ),
        key("sigv4.region", Text, "remote_write.auth.region", Same),
        none(
            "sigv4.access_key",
            Refused("credentials come from the AWS default chain: set AWS_ACCESS_KEY_ID, or better a role"),
        ),
        none(
            "sigv4.secret_key",
            Refused("credentials come from the AWS default chain: set AWS_SECRET_ACCESS_KEY, or better a role"),
        ),
        key("sigv4.profile", Text, "remote_write.auth.profile", Same),
        key("sigv4.role_arn", Text, "remote_write.auth.role_arn", Same),
        none("sigv4.external_id", Refused("put it into an AWS profile, and name that in remote_write.auth.profile")),
        none("sigv4.use_fips_sts_endpoint", Refused("set AWS_USE_FIPS_ENDPOINT")),
        case("sigv4.use_fips_sts_endpoint", "false", Nothing, "", Same),
        none("tls_config.ca", Refused(TLS_FILE)),
        key(
            "tls_config.ca_file",
            Text,
            "remote_write.tls.ca_file",
            Different("trusted in addition to the system's authorities, not instead"),
        ),
        none("tls_config.cert", Refused(TLS_FILE)),
        key("tls_config.cert_file", Text, "remote_write.tls.cert_file", Same),
        none("tls_config.key", Refused(TLS_FILE)),
        key("tls_config.key_file", Text, "remote_write.tls.key_file", Same),
        none("tls_config.server_name", Refused("the certificate must be for the host of the url")),
        key("tls_config.insecure_skip_verify", Bool, "remote_write.tls.insecure_skip_verify", Same),
        none("tls_config.min_version", Ignored("TLS 1.2 and 1.3 are supported")),
        none("tls_config.max_version", Ignored("TLS 1.2 and 1.3 are supported")),
        none("proxy_url", Refused("set it in HTTPS_PROXY or HTTP_PROXY of the environment")),
        none("no_proxy", Refused("set it in NO_PROXY of the environment")),
        none("proxy_from_environment", Ignored("the proxy of the environment is always used")),
        none("proxy_connect_header.**", Refused("a proxy gets no further headers")),
        case("follow_redirects", "false", Nothing, "", Same),
        none("follow_redirects", Refused("redirects are not followed: set the receiver itself in remote_write.url")),
        none("enable_http2", Ignored("HTTP/1.1 is used")),
        none("http_headers.**", Refused("write them as remote_write.headers")),
        none("queue_config.capacity", Ignored("one request per shard is in flight, in order; Kafka holds the rest")),
        none("queue_config.max_shards", Ignored("one request per shard is in flight, in order; Kafka holds the rest")),
        none("queue_config.min_shards", Ignored("one request per shard is in flight, in order; Kafka holds the rest")),
        key("queue_config.max_samples_per_send", Whole, "remote_write.max_samples", Same),
        none("queue_config.batch_send_deadline", Ignored("a step is sent when it closes")),
        key("queue_config.min_backoff", Duration, "remote_write.min_backoff", Same),
        key("queue_config.max_backoff", Duration, "remote_write.max_backoff", Same),
        none("queue_config.retry_on_http_429", Better("429 is always retried, after the time of Retry-After")),
        none("queue_config.sample_age_limit", Refused("no sample is dropped for its age")),
        case("queue_config.sample_age_limit", "0s", Nothing, "", Same),
        none("metadata_config.**", Ignored("remote_write.metadata_interval decides; Tempo sends no metadata")),
    ],
};
