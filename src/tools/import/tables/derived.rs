//! The Collector's connectors that derive metrics from spans one by one.

use crate::tools::import::derived::{NO_METRICS, counts, derived, dimensions};
use crate::tools::import::table::How::{By, Nothing};
use crate::tools::import::table::ImportResult::{Different, Ignored, Refused, Same};
use crate::tools::import::table::{Table, absent, case, key, none};

const METRICS: &str = "attribute_metrics";
const COUNTED: &str = "cumulative and exact, with sampling weights; a span without one of the attributes is counted without that \
                       label, and of the resource's attributes only the service is a label by itself";
const SPANS: &str = "only spans are read";
const EVENTS: &str = "write span_metrics.events, which counts events by their attributes";
const EXCEPTION: &str = "the counter of span events counts every event: select event_name=\"exception\"";

/// `count`.
pub(in crate::tools::import) const COUNT: Table = Table {
    name: "Collector: connector count",
    root: "connectors.count",
    rows: &[
        absent("(names and labels)", "naming.profile", "otel", Same),
        key("spans", By(counts), METRICS, Different(COUNTED)),
        case("spans", NO_METRICS, Nothing, METRICS, Different(COUNTED)),
        none("spanevents.**", Refused(EVENTS)),
        none("metrics.**", Ignored(SPANS)),
        none("datapoints.**", Ignored(SPANS)),
        none("logs.**", Ignored(SPANS)),
        none("profiles.**", Ignored(SPANS)),
    ],
};

/// `signal_to_metrics`.
pub(in crate::tools::import) const SIGNAL_TO_METRICS: Table = Table {
    name: "Collector: connector signal_to_metrics (signaltometrics)",
    root: "connectors.signal_to_metrics",
    rows: &[
        absent("(names and labels)", "naming.profile", "otel", Same),
        key("spans", By(derived), METRICS, Different(COUNTED)),
        none("error_mode", Ignored("a value that cannot be counted is in the ledger")),
        none("datapoints.**", Ignored(SPANS)),
        none("logs.**", Ignored(SPANS)),
        none("profiles.**", Ignored(SPANS)),
    ],
};

/// `exceptions`.
pub(in crate::tools::import) const EXCEPTIONS: Table = Table {
    name: "Collector: connector exceptions",
    root: "connectors.exceptions",
    rows: &[
        absent("(names and labels)", "naming.profile", "otel", Same),
        key("dimensions", By(dimensions), "span_metrics.events.dimensions", Different(EXCEPTION)),
        absent("(exceptions)", "span_metrics.events.enabled", "true", Different(EXCEPTION)),
        none("exemplars.enabled", Different("write series.exemplars.on_counters")),
    ],
};
