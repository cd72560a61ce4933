//! The Collector's filter processor before the connectors.

use crate::tools::import::filters::conditions;
use crate::tools::import::table::How::{By, Nothing};
use crate::tools::import::table::ImportResult::{Better, Different, Ignored, Refused};
use crate::tools::import::table::{Table, case, key, none};

const BOTH: &str = "span_metrics.filter_policies, service_graphs.filter_policies";
const SAME_SPANS: &str = "the same spans are skipped; the peer of a skipped span gets no virtual node";
const EXPRESSIONS: &str = "expressions use Rust's syntax: `\\d`, `\\w` and `\\b` match Unicode, write `[0-9]` for \
                           ASCII; and they match text only, where the Collector also matches numbers as text";
const EVENTS: &str = "events are counted as they are: filter them before Kafka";

/// `filter`.
pub(in crate::tools::import) const FILTER: Table = Table {
    name: "Collector: processor filter, before the connectors",
    root: "processors.filter",
    rows: &[
        key("traces.span", By(conditions), BOTH, Better(SAME_SPANS)),
        case("traces.span", "(a regular expression)", Nothing, BOTH, Different(EXPRESSIONS)),
        case(
            "traces.span",
            "(in some pipelines only)",
            Nothing,
            "",
            Refused("spans reach the connector through other pipelines, too: filter them before Kafka"),
        ),
        key("trace_conditions", By(conditions), BOTH, Better(SAME_SPANS)),
        none("traces.spanevent.**", Refused(EVENTS)),
        none(
            "traces.resource.**",
            Refused("write them as conditions on spans, with resource.attributes[...], in traces.span"),
        ),
        none("spans.**", Refused("write the older form as conditions in traces.span, and import that")),
        none("error_mode", Ignored("a condition that cannot be evaluated does not match")),
        none("metrics.**", Ignored("only spans are read")),
        none("metric_conditions.**", Ignored("only spans are read")),
        none("logs.**", Ignored("only spans are read")),
        none("log_conditions.**", Ignored("only spans are read")),
        none("profiles.**", Ignored("only spans are read")),
        none("profile_conditions.**", Ignored("only spans are read")),
    ],
};
