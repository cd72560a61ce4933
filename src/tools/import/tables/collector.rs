//! The components around the Collector's connectors.

use crate::tools::import::collector::scheme;
use crate::tools::import::table::How::{By, Nothing, Secret, Text};
use crate::tools::import::table::ImportResult::{Better, Different, Ignored, Refused, Same};
use crate::tools::import::table::{Table, case, key, none};

const TOKEN: &str = "/etc/spanmill/remote-write-token";
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
        none("exporters.*.**", Ignored("series go to remote write, spans are not forwarded")),
        case(
            "exporters.*.**",
            "(of the connectors' metrics)",
            Nothing,
            "",
            Refused(
                "series are sent by remote write only, with the names of naming.profile: set that endpoint of the \
                 receiver in remote_write.url. With OTLP, the receiver created names and labels, for example with \
                 otlp.translation_strategy and promote_resource_attributes of Prometheus: compare before you switch",
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
