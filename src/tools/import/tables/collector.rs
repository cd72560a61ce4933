//! The components around the Collector's connectors.

use crate::tools::import::collector::{params, scheme};
use crate::tools::import::table::How::{Bool, By, Names, Nothing, Secret, Text};
use crate::tools::import::table::ImportResult::{Better, Different, Ignored, Refused, Same};
use crate::tools::import::table::{Table, case, key, none};

const TOKEN: &str = "/etc/spanmill/remote-write-token";
const CLIENT_SECRET: &str = "/etc/spanmill/remote-write-client-secret";
const OTHER_TLS: &str =
    "write the files into remote_write.auth.oauth2.tls: the certificate must be for the host of the token_url";
const BESIDES: &str = "trusted in addition to the system's authorities, not instead";
const PASSWORD: &str = "/etc/spanmill/remote-write-password";
const UPSTREAM: &str = "spans are counted as they are in the topic: run it in the Collector that writes the topic";
const TRACES: &str = "spans come from Kafka: configure this Collector to write there with its kafka exporter, partition_traces_by_id: \
     true";

/// The extension for basic authentication.
pub(in crate::tools::import) const BASIC_AUTH: Table = Table {
    name: "Collector: extension basicauth",
    root: "extensions.basicauth",
    rows: &[
        key("client_auth.username", Text, "remote_write.auth.username", Same),
        key("client_auth.password", Secret(PASSWORD), "remote_write.auth.password_file", Same),
        none("client_auth.username_file", Refused("write the name into remote_write.auth.username")),
        key("client_auth.password_file", Text, "remote_write.auth.password_file", Same),
        none("htpasswd.**", Ignored("it is for receivers")),
    ],
};

/// The extension for bearer tokens.
pub(in crate::tools::import) const BEARER_AUTH: Table = Table {
    name: "Collector: extension bearertokenauth",
    root: "extensions.bearertokenauth",
    rows: &[
        key("scheme", By(scheme), "remote_write.auth.type", Same),
        case(
            "scheme",
            "(not Bearer)",
            Nothing,
            "",
            Refused("only Bearer has a key of its own: write others as remote_write.headers.Authorization"),
        ),
        key("token", Secret(TOKEN), "remote_write.auth.token_file", Same),
        key("filename", Text, "remote_write.auth.token_file", Same),
        none("header", Refused("the header is Authorization: write another as remote_write.headers")),
    ],
};

/// The extension for tokens of a token endpoint.
pub(in crate::tools::import) const OAUTH2_AUTH: Table = Table {
    name: "Collector: extension oauth2client",
    root: "extensions.oauth2client",
    rows: &[
        key("client_id", Text, "remote_write.auth.oauth2.client_id", Same),
        none("client_id_file", Refused("write the ID into remote_write.auth.oauth2.client_id")),
        key("client_secret", Secret(CLIENT_SECRET), "remote_write.auth.oauth2.client_secret_file", Same),
        key("client_secret_file", Text, "remote_write.auth.oauth2.client_secret_file", Same),
        key("token_url", Text, "remote_write.auth.oauth2.token_url", Same),
        key("scopes", Names, "remote_write.auth.oauth2.scopes", Same),
        key("endpoint_params", By(params), "remote_write.auth.oauth2.endpoint_params", Same),
        case(
            "endpoint_params",
            "(several values)",
            Nothing,
            "",
            Refused("a parameter has one value: join them, or write them into the query of token_url"),
        ),
        none("timeout", Ignored("a token endpoint has ten seconds to answer")),
        none(
            "expiry_buffer",
            Ignored("a token is renewed when a third of its life is left, or five minutes before its end"),
        ),
        case("grant_type", "client_credentials", Nothing, "", Same),
        none("grant_type", Refused("client_credentials is the only grant")),
        key("tls.ca_file", Text, "remote_write.auth.oauth2.tls.ca_file", Different(BESIDES)),
        key("tls.cert_file", Text, "remote_write.auth.oauth2.tls.cert_file", Same),
        key("tls.key_file", Text, "remote_write.auth.oauth2.tls.key_file", Same),
        key("tls.insecure_skip_verify", Bool, "remote_write.auth.oauth2.tls.insecure_skip_verify", Same),
        none("tls.insecure", Ignored("TLS follows from http or https")),
        none("tls.ca_pem", Refused(OTHER_TLS)),
        none("tls.cert_pem", Refused(OTHER_TLS)),
        none("tls.key_pem", Refused(OTHER_TLS)),
        none("tls.server_name_override", Refused(OTHER_TLS)),
        none("tls.reload_interval", Refused(OTHER_TLS)),
        none("tls.min_version", Refused(OTHER_TLS)),
        none("tls.max_version", Refused(OTHER_TLS)),
        none("tls.include_system_ca_certs_pool", Refused(OTHER_TLS)),
    ],
};

/// The extension for Amazon's signatures.
pub(in crate::tools::import) const SIGV4_AUTH: Table = Table {
    name: "Collector: extension sigv4auth",
    root: "extensions.sigv4auth",
    rows: &[
        key("region", Text, "remote_write.auth.region", Same),
        key("service", Text, "remote_write.auth.service", Same),
        key("assume_role.arn", Text, "remote_write.auth.role_arn", Same),
        none("assume_role.session_name", Ignored("the name has no effect")),
        none("assume_role.sts_region", Ignored("the region of the workspace is used")),
    ],
};

/// Feature gates. They stand on the Collector's command line, so an import does not see them.
pub(in crate::tools::import) const GATES: Table = Table {
    name: "Collector: feature gates (on its command line, which the import does not see)",
    root: "--feature-gates",
    rows: &[
        none("connector.spanmetrics.legacyMetricNames", Different("write naming.namespace: \"\"")),
        none(
            "connector.spanmetrics.includeCollectorInstanceID",
            Better("no series carries collector.instance.id: one writer per series"),
        ),
        none("connector.spanmetrics.excludeResourceMetrics", Different("write span_metrics.enable_target_info: false")),
        none("connector.spanmetrics.useSecondAsDefaultMetricsUnit", Different("write naming.unit: s")),
        none(
            "connector.spanmetrics.statusCodeConvention.useOtelPrefix",
            Refused("the label is status_code, with STATUS_CODE_ERROR"),
        ),
        none("connector.servicegraph.virtualNode", Same),
        none("connector.servicegraph.legacyLatencyMetricNames", Refused("edges have the names that Grafana reads")),
        none("connector.servicegraph.legacyLatencyUnitMs", Refused("latencies of edges are in seconds")),
        none("EnableMultipleWorkers", Better("samples of a series are always sent in order")),
    ],
};

/// Everything else in the Collector's file; a name after a slash is skipped here.
pub(in crate::tools::import) const COMPONENTS: Table = Table {
    name: "Collector: the rest of the file",
    root: "",
    rows: &[
        none("receivers.*.**", Different(TRACES)),
        none("processors.batch.**", Ignored("records are processed as they arrive")),
        none("processors.memory_limiter.**", Ignored("memory is limited by commits and limits")),
        none("processors.groupbytrace.**", Ignored("spans are paired across records")),
        none("processors.deltatocumulative.**", Ignored("series are cumulative")),
        none("processors.*.**", Refused(UPSTREAM)),
        none("connectors.*.**", Ignored("not one of the two connectors")),
        none("exporters.*.**", Ignored("no connector's metrics go there, and spans are not forwarded")),
        case(
            "exporters.*.**",
            "(of the connectors' metrics)",
            Nothing,
            "",
            Refused(
                "there is no endpoint of this kind: use one of remote write, OTLP over HTTP or gRPC, a Kafka topic of OTLP \
                 metrics or a file, see remote_write.type",
            ),
        ),
        none("extensions.*.**", Ignored("not used by what is imported")),
        none("service.extensions", Ignored("not used by what is imported")),
        none("service.telemetry.**", Ignored("spanmill's own metrics are at admin.listen, its logs under log")),
        none("service.pipelines.**", Ignored("spanmill has one: Kafka, both processors, remote write")),
        case("connectors.*", "(no span_metrics)", Nothing, "span_metrics.enabled", Same),
        case("connectors.*", "(no service_graph)", Nothing, "service_graphs.enabled", Same),
        case(
            "connectors.*",
            "(a second one)",
            Nothing,
            "",
            Refused(
                "spanmill has one set of span metrics and of service graphs; run a second worker group for the \
                     other",
            ),
        ),
    ],
};
