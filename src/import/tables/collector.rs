//! What stands around the Collector's connectors.

use crate::import::collector::scheme;
use crate::import::table::How::{By, Nothing, Secret, Text};
use crate::import::table::Verdict::{Better, Different, Ignored, Refused, Same};
use crate::import::table::{Table, case, key, none};

const TOKEN: &str = "/etc/spanmill/remote-write-token";
const PASSWORD: &str = "/etc/spanmill/remote-write-password";
const UPSTREAM: &str = "spans are counted as they stand on the topic: run it in the Collector that writes there";
const TRACES: &str =
    "spans come from Kafka: let this Collector write there with its kafka exporter, partition_traces_by_id: true";

/// The extension for basic authentication.
pub(in crate::import) const BASIC_AUTH: Table = Table {
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
pub(in crate::import) const BEARER_AUTH: Table = Table {
    name: "Collector: extension bearertokenauth",
    root: "extensions.bearertokenauth",
    rows: &[
        key("scheme", By(scheme), "remote_write.auth.type", Same),
        case(
            "scheme",
            "(not Bearer)",
            Nothing,
            "",
            Refused("only Bearer is known by name: write another as remote_write.headers.Authorization"),
        ),
        key("token", Secret(TOKEN), "remote_write.auth.token_file", Same),
        key("filename", Text, "remote_write.auth.token_file", Same),
        none("header", Refused("the header is Authorization: write another as remote_write.headers")),
    ],
};

/// The extension for Amazon's signatures.
pub(in crate::import) const SIGV4_AUTH: Table = Table {
    name: "Collector: extension sigv4auth",
    root: "extensions.sigv4auth",
    rows: &[
        key("region", Text, "remote_write.auth.region", Same),
        key("service", Text, "remote_write.auth.service", Same),
        key("assume_role.arn", Text, "remote_write.auth.role_arn", Same),
        none("assume_role.session_name", Ignored("the name has no say")),
        none("assume_role.sts_region", Ignored("the region of the workspace is asked")),
    ],
};

/// Feature gates. They stand on the Collector's command line, so an import does not see them.
pub(in crate::import) const GATES: Table = Table {
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
        none("EnableMultipleWorkers", Better("samples of a series are never overtaken by later ones")),
    ],
};

/// Everything else in the Collector's file; a name after a slash is left out here.
pub(in crate::import) const COMPONENTS: Table = Table {
    name: "Collector: the rest of the file",
    root: "",
    rows: &[
        none("receivers.*.**", Different(TRACES)),
        none("processors.batch.**", Ignored("a record is worked on as it comes")),
        none("processors.memory_limiter.**", Ignored("memory is bounded by commits and limits")),
        none("processors.groupbytrace.**", Ignored("half edges pair over records")),
        none("processors.deltatocumulative.**", Ignored("series are cumulative")),
        none("processors.*.**", Refused(UPSTREAM)),
        none("connectors.*.**", Ignored("not one of the two connectors")),
        none("exporters.*.**", Ignored("series go to remote write, spans nowhere")),
        none("extensions.*.**", Ignored("not used by what is imported")),
        none("service.extensions", Ignored("not used by what is imported")),
        none("service.telemetry.**", Ignored("spanmill's own metrics are at admin.listen, its logs under log")),
        none("service.pipelines.**", Ignored("there is one: Kafka, both processors, remote write")),
        case("connectors.*", "(no span_metrics)", Nothing, "span_metrics.enabled", Same),
        case("connectors.*", "(no service_graph)", Nothing, "service_graphs.enabled", Same),
        case(
            "connectors.*",
            "(a second one)",
            Nothing,
            "",
            Refused("there is one set of span metrics and of service graphs; run a second worker group for the other"),
        ),
    ],
};
