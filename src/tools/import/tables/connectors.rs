//! The Collector's two connectors.

use crate::tools::import::collector::{
    attributes, cardinality, client_server, dimensions, exclude, expiration, exponential, exponential_as_it_is, flush,
    namespace, timestamps, unit,
};
use crate::tools::import::table::How::{Bool, Bounds, By, Duration, Invert, Names, Nothing, Whole};
use crate::tools::import::table::ImportResult::{Better, Different, Ignored, Refused, Same};
use crate::tools::import::table::{ABSENT, DESCENDING, PRESENT, Table, absent, case, key, none};

const STEP: &str = "in event time: a backlog is counted in the steps where it belongs";
const UNSORTED: &str = "the bounds do not ascend, so one of them has a wrong unit or position: they are sorted here, \
                        where the Collector counts into wrong buckets";
const ONE_STEP: &str = "all series have the same step; the first one is used";
const NEGATIVE: &str = "negative, which the Collector rejects too";
const BOTH: &str = "explicit and exponential exclude each other, as in the Collector";
const LONGER: &str = "a series ends with a stale marker, and continues its total when it returns";
const ONE_MODE: &str = "histograms.mode applies to all of them: both forms are sent, each histogram keeps the one it \
                        had";
const NATIVE: &str = "a native histogram, as the exporter makes of it";

/// `span_metrics`.
pub(in crate::tools::import) const SPAN_METRICS: Table = Table {
    name: "Collector: connector span_metrics (spanmetrics)",
    root: "connectors.span_metrics",
    rows: &[
        absent("(names and labels)", "naming.profile", "otel", Same),
        key("namespace", By(namespace), "naming.namespace", Same),
        key("dimensions", By(dimensions), "span_metrics.dimensions", Same),
        case(
            "dimensions",
            "(glob)",
            Nothing,
            "",
            Refused("attributes are listed one by one, which limits their number"),
        ),
        key("calls_dimensions", By(dimensions), "span_metrics.calls_dimensions", Same),
        key("histogram.dimensions", By(dimensions), "span_metrics.latency_dimensions", Same),
        key("exclude_dimensions", By(exclude), "span_metrics.intrinsic_dimensions", Same),
        case(
            "exclude_dimensions",
            "collector.instance.id",
            Nothing,
            "",
            Better("no series carries it: one writer per series"),
        ),
        case("exclude_dimensions", "(another)", Nothing, "", Ignored("not a built-in dimension")),
        key("events.enabled", Bool, "span_metrics.events.enabled", Same),
        key(
            "events.dimensions",
            By(dimensions),
            "span_metrics.events.dimensions",
            Better("the event is used first, then its span; in the connector, a span's attribute hides the event's"),
        ),
        key(
            "exemplars.enabled",
            Bool,
            "series.exemplars.enabled",
            Better("exemplars have the time of their span, and service graphs have them too"),
        ),
        absent("exemplars.enabled", "series.exemplars.enabled", "false", Same),
        absent("(exemplars on calls)", "series.exemplars.on_counters", "true", Same),
        absent("(exemplar label)", "series.exemplars.label", "trace_id", Same),
        none(
            "exemplars.max_per_data_point",
            Different("one per bucket and step, in a fixed order; not the first ones to arrive"),
        ),
        key("histogram.disable", Invert, "span_metrics.latency", Same),
        key("histogram.unit", By(unit), "naming.unit", Same),
        case("histogram.unit", "(another)", Nothing, "", Refused("neither ms nor s, which the Collector rejects too")),
        case("histogram.explicit", PRESENT, Nothing, "", Same),
        key("histogram.explicit.buckets", Bounds, "span_metrics.histogram_buckets", Same),
        case("histogram.explicit.buckets", DESCENDING, Nothing, "span_metrics.histogram_buckets", Different(UNSORTED)),
        absent("histogram.explicit.buckets", "span_metrics.histogram_buckets", DEFAULT_BUCKETS, Same),
        case(
            "histogram.exponential",
            PRESENT,
            By(exponential_as_it_is),
            "histograms.mode, histograms.native_max_buckets",
            Better(NATIVE),
        ),
        case("histogram.exponential.max_size", "(beside explicit)", Nothing, "", Refused(BOTH)),
        case(
            "histogram.exponential.max_size",
            "(of one connector only)",
            Nothing,
            "histograms.mode, histograms.native_max_buckets",
            Different(ONE_MODE),
        ),
        key(
            "histogram.exponential.max_size",
            By(exponential),
            "histograms.mode, histograms.native_max_buckets",
            Better(NATIVE),
        ),
        none("aggregation_temporality", Different("not a temporality, the Collector treats it as cumulative")),
        case("aggregation_temporality", "AGGREGATION_TEMPORALITY_CUMULATIVE", Nothing, "", Same),
        case(
            "aggregation_temporality",
            "AGGREGATION_TEMPORALITY_DELTA",
            Nothing,
            "",
            Different("series are cumulative: remote write has no delta, and the exporter drops it"),
        ),
        key("metrics_flush_interval", By(flush), "time.step", Better(STEP)),
        absent("metrics_flush_interval", "time.step", "60s", Better(STEP)),
        case("metrics_flush_interval", "(another step)", Nothing, "", Different(ONE_STEP)),
        case("metrics_flush_interval", "(negative)", Nothing, "", Refused(NEGATIVE)),
        key("metrics_expiration", By(expiration), "series.stale_after", Better(LONGER)),
        case(
            "metrics_expiration",
            "(never)",
            Nothing,
            "",
            Different(
                "an idle series ends after series.stale_after, 15 minutes, and continues its total when it returns",
            ),
        ),
        case(
            "metrics_expiration",
            ABSENT,
            Nothing,
            "",
            Different(
                "an idle series ends after series.stale_after, 15 minutes, and continues its total when it returns",
            ),
        ),
        case("metrics_expiration", "(negative)", Nothing, "", Refused(NEGATIVE)),
        key("series_expiration", By(expiration), "series.stale_after", Better(LONGER)),
        case(
            "series_expiration",
            "(never)",
            Nothing,
            "",
            Different(
                "an idle series ends after series.stale_after, 15 minutes, and continues its total when it returns",
            ),
        ),
        case("series_expiration", "(negative)", Nothing, "", Refused(NEGATIVE)),
        none("resource_metrics_cache_size", Better("there is no cache: no total is forgotten while its series lives")),
        key(
            "resource_metrics_key_attributes",
            By(attributes),
            "span_metrics.enable_instance_label",
            Better(
                "without service.instance.id in it, the label instance is omitted; the Collector shows an arbitrary one",
            ),
        ),
        key(
            "aggregation_cardinality_limit",
            By(cardinality),
            "limits.max_active_series_per_service",
            Different(
                "times the series of a label set, per service, over all workers; the Collector counts per resource and metric",
            ),
        ),
        case("aggregation_cardinality_limit", "0", Nothing, "", Same),
        none("dimensions_cache_size", Ignored("the Collector ignores it too")),
        key("metric_timestamp_cache_size", By(timestamps), "", Ignored("it is for delta")),
        case(
            "metric_timestamp_cache_size",
            "(not above zero)",
            Nothing,
            "",
            Refused("must be above zero with delta, which the Collector rejects too"),
        ),
        key(
            "include_instrumentation_scope",
            Names,
            "span_metrics.scopes",
            Better("the scope distinguishes series; the connector merges two scopes under the one that came first"),
        ),
        none("add_resource_attributes", Ignored("it belongs to a feature gate")),
        none("enable_metrics_sampling_method", Refused("neither true nor false")),
        case(
            "enable_metrics_sampling_method",
            "true",
            Nothing,
            "",
            Refused("there is no label sampling.method: count sampled traffic in a tenant or topic of its own"),
        ),
        case("enable_metrics_sampling_method", "false", Nothing, "", Same),
        none("self_time.**", Refused("there is no such histogram")),
        absent(
            "(weight by tracestate)",
            "span_metrics.enable_tracestate_span_multiplier",
            "true",
            Better("the weight keeps its fraction, to 2^-32; the connector rounds at random"),
        ),
        absent("(no size metric)", "span_metrics.size", "false", Same),
        absent("(labels job and instance)", "span_metrics.enable_target_info", "true", Same),
    ],
};

const DEFAULT_BUCKETS: &str = "[0.002, 0.004, 0.006, 0.008, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1, 1.4, 2, 5, 10, 15]";

/// `service_graph`.
pub(in crate::tools::import) const SERVICE_GRAPH: Table = Table {
    name: "Collector: connector service_graph (servicegraph)",
    root: "connectors.service_graph",
    rows: &[
        absent("(names and labels)", "naming.profile", "otel", Same),
        key("latency_histogram_buckets", Bounds, "service_graphs.histogram_buckets", Same),
        case("latency_histogram_buckets", DESCENDING, Nothing, "service_graphs.histogram_buckets", Different(UNSORTED)),
        absent("latency_histogram_buckets", "service_graphs.histogram_buckets", DEFAULT_BUCKETS, Same),
        key(
            "exponential_histogram_max_size",
            By(exponential),
            "histograms.mode, histograms.native_max_buckets",
            Better(NATIVE),
        ),
        case("exponential_histogram_max_size", "0", Nothing, "", Same),
        case("exponential_histogram_max_size", "(negative)", Nothing, "", Refused(NEGATIVE)),
        case("exponential_histogram_max_size", "(beside explicit)", Nothing, "", Refused(BOTH)),
        case(
            "exponential_histogram_max_size",
            "(of one connector only)",
            Nothing,
            "histograms.mode, histograms.native_max_buckets",
            Different(ONE_MODE),
        ),
        key(
            "dimensions",
            By(client_server),
            "service_graphs.dimensions, service_graphs.enable_client_server_prefix",
            Same,
        ),
        key(
            "store.ttl",
            Duration,
            "service_graphs.wait",
            Better("in stream time: pairing does not depend on the speed of the consumer"),
        ),
        absent("store.ttl", "", "", Better("service_graphs.wait, 10 s of stream time: more calls are paired")),
        key(
            "store.max_items",
            Whole,
            "service_graphs.max_items",
            Different("counts per source partition, not per process"),
        ),
        absent(
            "store.max_items",
            "",
            "",
            Better("1,000,000 per source partition: a limit against explosions, not for normal days"),
        ),
        none("cache_loop", Ignored("series end on time, in event time")),
        none("store_expiration_loop", Ignored("unpaired spans expire in stream time")),
        key("metrics_flush_interval", By(flush), "time.step", Better(STEP)),
        absent("metrics_flush_interval", "time.step", "60s", Better(STEP)),
        case("metrics_flush_interval", "(another step)", Nothing, "", Different(ONE_STEP)),
        case(
            "metrics_flush_interval",
            "(negative)",
            Nothing,
            "",
            Different("after every batch in the Collector; here, a step has a length, time.step"),
        ),
        none("metrics_timestamp_offset", Different("samples have event time, there is no offset to apply")),
        case("metrics_timestamp_offset", "0", Nothing, "", Same),
        case("metrics_timestamp_offset", "0s", Nothing, "", Same),
        key("virtual_node_peer_attributes", Names, "service_graphs.peer_attributes", Same),
        absent(
            "virtual_node_peer_attributes",
            "service_graphs.peer_attributes",
            "[peer.service, db.name, db.system]",
            Same,
        ),
        key("virtual_node_extra_label", Bool, "service_graphs.enable_virtual_node_label", Same),
        key("database_name_attributes", Names, "service_graphs.database_name_attributes", Same),
        absent("database_name_attributes", "service_graphs.database_name_attributes", "[db.name]", Same),
        none("metrics_exporter", Ignored("the Collector ignores it too")),
        absent("(series end after 15 minutes)", "", "", Better("series.stale_after, with a stale marker")),
    ],
};
