//! Tempo: the generator, the overrides around it, and the rest of the file.

use crate::tools::import::specials::{flag_on_only, headers, policies, processors, remote_write, stale};
use crate::tools::import::table::How::{
    Bool, By, Duration, Fixed, Invert, Labels, Literal, Names, Nothing, Number, Seconds, Text, Whole,
};
use crate::tools::import::table::ImportResult::{Better, Different, Ignored, Refused, Same};
use crate::tools::import::table::Level::{Both, Static, Tenant};
use crate::tools::import::table::{Row, Table, absent, case, key, none, row};
use crate::tools::import::tempo::interval;

const REGEX: &str = "expressions use Rust's syntax: `\\d`, `\\w` and `\\b` match Unicode, write `[0-9]` for ASCII; \
                     otherwise as RE2, unanchored";
const EXACT_WEIGHT: &str = "the weight keeps its fraction, to 2^-32; Tempo rounds by the R-value, up to 20 % too low, and up to \
    whole spans in native histograms";
const SLACK: &str = "no span is dropped for its age: samples have the time of the records, also in a backlog";

/// `metrics_generator`, in the file and in overrides.
pub(in crate::tools::import) const GENERATOR: Table =
    Table { name: "Tempo: metrics_generator, also in overrides", root: "metrics_generator", rows: ROWS };

const ROWS: &[Row] = &[
    // Processors.
    row("processors", Tenant, By(processors), "span_metrics, service_graphs, host_info: enabled and parts", Same),
    case("processors", "(an unknown name)", Nothing, "", Ignored("Tempo ignores it, with a warning")),
    case(
        "processors",
        "(a part beside its whole)",
        Nothing,
        "",
        Ignored("the whole is listed too, and decides, as in Tempo"),
    ),
    case(
        "processors",
        "(only parts of span-metrics)",
        Nothing,
        "span_metrics.calls, latency, size",
        Better("histogram_buckets apply; Tempo loses them and takes its defaults"),
    ),
    absent(
        "processors",
        "",
        "",
        Different("Tempo produces no metrics without processors; spanmill produces span metrics and service graphs"),
    ),
    // Service graphs.
    row(
        "processor.service_graphs.wait",
        Static,
        Duration,
        "service_graphs.wait",
        Better("in stream time: a backlog is paired like live traffic"),
    ),
    row(
        "processor.service_graphs.max_items",
        Static,
        Whole,
        "service_graphs.max_items",
        Different("counts per source partition, where Tempo counts per tenant and process"),
    ),
    absent(
        "processor.service_graphs.max_items",
        "",
        "",
        Better("1,000,000 per source partition: a limit against explosions, not for normal days"),
    ),
    none(
        "processor.service_graphs.workers",
        Ignored("unpaired spans of a partition have one owner and expire in stream time"),
    ),
    row("processor.service_graphs.histogram_buckets", Both, Seconds, "service_graphs.histogram_buckets", Same),
    row(
        "processor.service_graphs.dimensions",
        Both,
        Names,
        "service_graphs.dimensions",
        Better("a reserved name, such as client, is an error; Tempo destroys the label"),
    ),
    row(
        "processor.service_graphs.enable_client_server_prefix",
        Both,
        By(flag_on_only),
        "service_graphs.enable_client_server_prefix",
        Same,
    ),
    case(
        "processor.service_graphs.enable_client_server_prefix",
        "(off over on)",
        Nothing,
        "",
        Ignored("Tempo does not disable it in an override either"),
    ),
    row(
        "processor.service_graphs.enable_messaging_system_latency_histogram",
        Both,
        Bool,
        "service_graphs.enable_messaging_system_latency_histogram",
        Same,
    ),
    row("processor.service_graphs.peer_attributes", Both, Names, "service_graphs.peer_attributes", Same),
    row(
        "processor.service_graphs.database_name_attributes",
        Static,
        Names,
        "service_graphs.database_name_attributes",
        Same,
    ),
    row(
        "processor.service_graphs.span_multiplier_key",
        Both,
        Text,
        "service_graphs.span_multiplier_key",
        Better("fractions count in native histograms too, where Tempo rounds up"),
    ),
    row(
        "processor.service_graphs.enable_tracestate_span_multiplier",
        Both,
        Bool,
        "service_graphs.enable_tracestate_span_multiplier",
        Better(EXACT_WEIGHT),
    ),
    row(
        "processor.service_graphs.enable_virtual_node_label",
        Both,
        Bool,
        "service_graphs.enable_virtual_node_label",
        Better("in Tempo it restarts the processor every 10 s, and virtual nodes are almost never counted"),
    ),
    row("processor.service_graphs.filter_policies", Both, By(policies), "service_graphs.filter_policies", Same),
    case(
        "processor.service_graphs.filter_policies",
        "(regex)",
        Nothing,
        "service_graphs.filter_policies",
        Different(REGEX),
    ),
    // Span metrics.
    row("processor.span_metrics.histogram_buckets", Both, Seconds, "span_metrics.histogram_buckets", Same),
    row(
        "processor.span_metrics.intrinsic_dimensions.service",
        Both,
        Bool,
        "span_metrics.intrinsic_dimensions.service",
        Same,
    ),
    row(
        "processor.span_metrics.intrinsic_dimensions.span_name",
        Both,
        Bool,
        "span_metrics.intrinsic_dimensions.span_name",
        Same,
    ),
    row(
        "processor.span_metrics.intrinsic_dimensions.span_kind",
        Both,
        Bool,
        "span_metrics.intrinsic_dimensions.span_kind",
        Same,
    ),
    row(
        "processor.span_metrics.intrinsic_dimensions.status_code",
        Both,
        Bool,
        "span_metrics.intrinsic_dimensions.status_code",
        Same,
    ),
    row(
        "processor.span_metrics.intrinsic_dimensions.status_message",
        Both,
        Bool,
        "span_metrics.intrinsic_dimensions.status_message",
        Same,
    ),
    row(
        "processor.span_metrics.dimensions",
        Both,
        Names,
        "span_metrics.dimensions",
        Better("two names that become one label are an error; Tempo loses the label of spans without the last of them"),
    ),
    row("processor.span_metrics.dimension_mappings", Both, Literal, "span_metrics.dimension_mappings", Same),
    row(
        "processor.span_metrics.enable_target_info",
        Both,
        Bool,
        "span_metrics.enable_target_info",
        Better("it stays while spans arrive; Tempo's disappears every 15 to 20 minutes"),
    ),
    row(
        "processor.span_metrics.target_info_excluded_dimensions",
        Both,
        Names,
        "span_metrics.target_info_excluded_dimensions",
        Same,
    ),
    row("processor.span_metrics.enable_instance_label", Both, Bool, "span_metrics.enable_instance_label", Same),
    row(
        "processor.span_metrics.span_multiplier_key",
        Both,
        Text,
        "span_metrics.span_multiplier_key",
        Better("fractions count in native histograms too, where Tempo rounds up"),
    ),
    row(
        "processor.span_metrics.enable_tracestate_span_multiplier",
        Both,
        Bool,
        "span_metrics.enable_tracestate_span_multiplier",
        Better(EXACT_WEIGHT),
    ),
    row("processor.span_metrics.filter_policies", Both, By(policies), "span_metrics.filter_policies", Same),
    case(
        "processor.span_metrics.filter_policies",
        "(regex)",
        Nothing,
        "span_metrics.filter_policies",
        Different(REGEX),
    ),
    // Host info and what is gone.
    row("processor.host_info.host_identifiers", Both, Names, "host_info.host_identifiers", Same),
    row("processor.host_info.metric_name", Both, Text, "host_info.metric_name", Same),
    row(
        "processor.local_blocks.**",
        Both,
        Nothing,
        "",
        Ignored("it serves queries on traces, and Tempo 3 does not have it any more"),
    ),
    // Registry.
    key(
        "registry.collection_interval",
        By(interval),
        "time.step",
        Better("in event time: a backlog is counted in the steps where it belongs"),
    ),
    key(
        "registry.stale_duration",
        By(stale),
        "series.stale_after",
        Better("a series ends on time and with a stale marker, and continues its total when it returns"),
    ),
    key("registry.external_labels", Labels, "series.external_labels", Same),
    key("registry.inject_tenant_id_as", Text, "series.tenant_label", Same),
    key("registry.max_label_name_length", Whole, "limits.max_label_name_length", Same),
    key(
        "registry.max_label_value_length",
        Whole,
        "limits.max_label_value_length",
        Better("values are cut between characters; Tempo may cut inside a character and drop the span"),
    ),
    absent(
        "(label __metrics_gen_instance)",
        "",
        "",
        Better("no series carries it: one writer per series, however many workers there are"),
    ),
    // Storage.
    none("storage.path", Ignored("no data is kept on disk; Kafka is the log")),
    none("storage.wal.**", Ignored("no data is kept on disk; Kafka is the log")),
    none("storage.remote_write_flush_deadline", Ignored("samples not acknowledged at a stop are sent after it")),
    none("storage.remote_write_add_org_id_header", Refused("neither true nor false")),
    case("storage.remote_write_add_org_id_header", "true", Nothing, "remote_write.tenant_header", Same),
    case("storage.remote_write_add_org_id_header", "false", Fixed(""), "remote_write.tenant_header", Same),
    key("storage.remote_write", By(remote_write), "remote_write", Same),
    case(
        "storage.remote_write",
        "(several receivers)",
        Nothing,
        "remote_write",
        Better("a list as well; a receiver that is down holds no other back, and gets every step"),
    ),
    absent("storage.remote_write", "", "", Different("Tempo computes and drops; spanmill sends to remote_write.url")),
    // The process.
    none("ring.**", Ignored("workers share the work by Kafka's consumer groups")),
    none("traces_storage.**", Ignored("it belonged to local-blocks")),
    none("metrics_ingestion_time_range_slack", Better(SLACK)),
    none("override_ring_key", Ignored("there is no ring")),
    none("ring_mode", Ignored("there is no ring")),
    none("codec", Refused("no such format; codec is push-bytes or otlp")),
    case("codec", "otlp", Fixed("otlp_proto"), "kafka.encoding", Same),
    case("codec", "push-bytes", Fixed("tempo_push_bytes"), "kafka.encoding", Same),
    absent(
        "codec",
        "kafka.encoding",
        "auto",
        Better("push-bytes, which is Tempo's default, and OTLP are detected per record"),
    ),
    none("limiter_type", Refused("unknown; Tempo has series and entity")),
    case("limiter_type", "series", Nothing, "", Same),
    case(
        "limiter_type",
        "entity",
        Nothing,
        "",
        Refused("spanmill counts series: set limits.max_active_series to the entities times the series of each"),
    ),
    none("ingest_concurrency", Ignored("records of a partition are worked on in order; worker.threads are the cores")),
    none("instance_id", Ignored("no label and no state depends on the name of a worker")),
    none("leave_consumer_group_on_shutdown", Better("a graceful stop always hands over at once")),
    none("skip_stale_backlog_on_startup", Refused("neither true nor false")),
    case(
        "skip_stale_backlog_on_startup",
        "true",
        Nothing,
        "",
        Refused(
            "a backlog is counted at its own time; to skip it, reset the offsets of the group, which spanmill honors",
        ),
    ),
    case("skip_stale_backlog_on_startup", "false", Nothing, "", Same),
    none("disable_grpc", Ignored("Tempo ignores it too")),
    // Overrides only.
    row("ring_size", Tenant, Nothing, "", Ignored("there is no ring")),
    row(
        "max_active_series",
        Tenant,
        Whole,
        "limits.max_active_series",
        Better("over all workers, and the same however many there are; Tempo counts per process"),
    ),
    row(
        "max_active_entities",
        Tenant,
        Nothing,
        "",
        Refused("spanmill counts series: set limits.max_active_series to the entities times the series of each"),
    ),
    case("max_active_entities", "0", Nothing, "", Same),
    row(
        "collection_interval",
        Tenant,
        By(interval),
        "time.step; of a tenant series.interval",
        Better("in event time: a backlog is counted in the steps where it belongs"),
    ),
    case(
        "collection_interval",
        "(no multiple)",
        Nothing,
        "",
        Refused("series.interval is a multiple of time.step: set time.step to a common divisor of the intervals"),
    ),
    row("disable_collection", Tenant, Invert, "series.write", Same),
    row(
        "generate_native_histograms",
        Tenant,
        Text,
        "histograms.mode",
        Better("fractions of a weight count, and no series is lost at a zero out of order"),
    ),
    row("native_histogram_bucket_factor", Tenant, Number, "histograms.native_bucket_factor", Same),
    row(
        "native_histogram_max_bucket_number",
        Tenant,
        Whole,
        "histograms.native_max_buckets",
        Better("above it, the resolution is halved; Tempo also resets the histogram"),
    ),
    row("native_histogram_min_reset_duration", Tenant, Nothing, "", Better("a histogram is never reset")),
    row("trace_id_label_name", Tenant, Text, "series.exemplars.label", Better("trace IDs keep their leading zeros")),
    row("remote_write_headers", Tenant, By(headers), "remote_write.headers", Same),
    case(
        "remote_write_headers",
        "(X-Scope-OrgID)",
        Nothing,
        "remote_write.headers, remote_write.tenant_header: \"\"",
        Same,
    ),
    row("forwarder.queue_size", Tenant, Nothing, "", Ignored("Kafka is the queue")),
    row("forwarder.workers", Tenant, Nothing, "", Ignored("Kafka is the queue")),
    row("ingestion_time_range_slack", Tenant, Nothing, "", Better(SLACK)),
    row(
        "span_name_sanitization",
        Tenant,
        Text,
        "span_names.mode",
        Different(
            "a pure function of the name (span_names.builtin, span_names.rules); Tempo's learned templates depend on the order of arrival and on the process",
        ),
    ),
    row(
        "max_cardinality_per_label",
        Tenant,
        Whole,
        "limits.max_cardinality_per_label",
        Different("counts the values of a label per service; Tempo estimates them per tenant and process"),
    ),
];

/// `overrides`, around `metrics_generator`.
pub(in crate::tools::import) const OVERRIDES: Table = Table {
    name: "Tempo: overrides",
    root: "overrides",
    rows: &[
        none(
            "per_tenant_override_config",
            Ignored("the file is imported with --overrides-file, and overrides.file names the converted one"),
        ),
        key("per_tenant_override_period", Duration, "overrides.reload_every", Same),
        none(
            "user_configurable_overrides.**",
            Refused("settings per tenant come from a file: export the content of the object store"),
        ),
        none("enable_legacy_overrides", Ignored("both spellings are read")),
        none("(an entry for *)", Same),
        case(
            "(an entry for *)",
            "(defaults beside it)",
            Nothing,
            "",
            Ignored("the entry for * replaces the defaults, for every tenant without one of its own"),
        ),
        none("defaults.cost_attribution.**", Ignored(NOT_OURS)),
        none("defaults.ingestion.**", Ignored(NOT_OURS)),
        none("defaults.read.**", Ignored(NOT_OURS)),
        none("defaults.compaction.**", Ignored(NOT_OURS)),
        none("defaults.forwarders.**", Ignored(NOT_OURS)),
        none("defaults.global.**", Ignored(NOT_OURS)),
        none("defaults.storage.**", Ignored(NOT_OURS)),
        none("ingestion_*.**", Ignored(NOT_OURS)),
        none("max_*.**", Ignored(NOT_OURS)),
        none("block_retention.**", Ignored(NOT_OURS)),
        none("compaction_*.**", Ignored(NOT_OURS)),
        none("forwarders.**", Ignored(NOT_OURS)),
        none("cost_attribution.**", Ignored(NOT_OURS)),
        none("unsafe_query_hints.**", Ignored(NOT_OURS)),
        none("parquet_dedicated_columns.**", Ignored(NOT_OURS)),
    ],
};

const NOT_OURS: &str = "not of the metrics-generator";

/// The rest of Tempo's file.
pub(in crate::tools::import) const TOP: Table = Table {
    name: "Tempo: the rest of the file",
    root: "",
    rows: &[
        none("multitenancy_enabled", Ignored("the tenant is the record key either way")),
        none("server.**", Ignored(NOT_OURS)),
        none("internal_server.**", Ignored(NOT_OURS)),
        none("distributor.**", Ignored(NOT_OURS)),
        none("ingester*.**", Ignored(NOT_OURS)),
        none("metrics_generator_client.**", Ignored(NOT_OURS)),
        none("live_store*.**", Ignored(NOT_OURS)),
        none("block_builder.**", Ignored(NOT_OURS)),
        none("backend_*.**", Ignored(NOT_OURS)),
        none("querier.**", Ignored(NOT_OURS)),
        none("query_frontend.**", Ignored(NOT_OURS)),
        none("compactor.**", Ignored(NOT_OURS)),
        none("storage.**", Ignored(NOT_OURS)),
        none("memberlist.**", Ignored("there is no ring")),
        none("cache.**", Ignored(NOT_OURS)),
        none("usage_report.**", Ignored(NOT_OURS)),
        none("target", Ignored(NOT_OURS)),
        none("auth_enabled", Ignored(NOT_OURS)),
        none("http_api_prefix", Ignored(NOT_OURS)),
        none("stream_over_http_enabled", Ignored(NOT_OURS)),
        none("enable_go_runtime_metrics", Ignored(NOT_OURS)),
        none("autocomplete_filtering_enabled", Ignored(NOT_OURS)),
    ],
};
