//! Keys of the metrics computed from spans.

use super::{ConfigKey, HOUR, YEAR};
use crate::config::draft::DraftField;

/// Series, or values.
const COUNTS: std::ops::RangeInclusive<i64> = 0..=1_000_000_000_000;

/// Keys, in the order of the reference file.
pub(super) const KEYS: &[ConfigKey] = &[
    // naming
    ConfigKey {
        path: "naming.profile",
        doc: "tempo: traces_spanmetrics_calls_total{service}; otel: traces_span_metrics_calls_total{service_name}.",
        slot: |d| DraftField::Choice(&mut d.config.core.naming.profile),
    },
    ConfigKey {
        path: "naming.namespace",
        doc: "otel: prefix of span metrics, as `namespace` of the Collector.",
        slot: |d| DraftField::Text(&mut d.config.core.naming.namespace),
    },
    ConfigKey {
        path: "naming.unit",
        doc: "otel: unit of span metrics' latencies, ms or s.",
        slot: |d| DraftField::Choice(&mut d.config.core.naming.unit),
    },
    ConfigKey {
        path: "naming.invalid_utf8",
        doc: "Labels that are not UTF-8. drop: the span is dropped, as in Tempo; replace: U+FFFD replaces invalid bytes.",
        slot: |d| DraftField::Choice(&mut d.config.core.naming.invalid_utf8),
    },
    // span_metrics
    ConfigKey {
        path: "span_metrics.enabled",
        doc: "Off leaves service graphs only.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.enabled),
    },
    ConfigKey {
        path: "span_metrics.calls",
        doc: "Counter of spans.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.calls),
    },
    ConfigKey {
        path: "span_metrics.latency",
        doc: "Histogram of durations.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.latency),
    },
    ConfigKey {
        path: "span_metrics.size",
        doc: "Counter of bytes.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.size),
    },
    ConfigKey {
        path: "span_metrics.histogram_buckets",
        doc: "Upper bounds in seconds. Every bound is one more series per label set.",
        slot: |d| DraftField::Buckets(&mut d.config.core.span_metrics.bounds_ns),
    },
    ConfigKey {
        path: "span_metrics.bucket_sets",
        doc: "Other bounds for some services or kinds. The first set that matches applies.",
        slot: |d| DraftField::Items(&mut d.config.core.span_metrics.bucket_sets),
    },
    ConfigKey {
        path: "span_metrics.intrinsic_dimensions.service",
        doc: "Label `service`.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.intrinsic.service),
    },
    ConfigKey {
        path: "span_metrics.intrinsic_dimensions.span_name",
        doc: "Label `span_name`. Disable it if names contain IDs.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.intrinsic.span_name),
    },
    ConfigKey {
        path: "span_metrics.intrinsic_dimensions.span_kind",
        doc: "Label `span_kind`.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.intrinsic.span_kind),
    },
    ConfigKey {
        path: "span_metrics.intrinsic_dimensions.status_code",
        doc: "Label `status_code`. Error rates need it.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.intrinsic.status_code),
    },
    ConfigKey {
        path: "span_metrics.intrinsic_dimensions.status_message",
        doc: "Label `status_message`. Off, because messages tend to be unique.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.intrinsic.status_message),
    },
    ConfigKey {
        path: "span_metrics.dimensions",
        doc: "Attributes as labels, from the resource, else the span. `default`: if missing; [a, b]: the first one \
              present.",
        slot: |d| DraftField::Items(&mut d.config.core.span_metrics.dimensions),
    },
    ConfigKey {
        path: "span_metrics.calls_dimensions",
        doc: "Additional dimensions of calls and size only.",
        slot: |d| DraftField::Items(&mut d.config.core.span_metrics.calls_dimensions),
    },
    ConfigKey {
        path: "span_metrics.latency_dimensions",
        doc: "Additional dimensions of latency only.",
        slot: |d| DraftField::Items(&mut d.config.core.span_metrics.latency_dimensions),
    },
    ConfigKey {
        path: "span_metrics.dimension_mappings",
        doc: "Several attributes joined into one label.",
        slot: |d| DraftField::Items(&mut d.config.core.span_metrics.dimension_mappings),
    },
    ConfigKey {
        path: "span_metrics.scopes",
        doc: "Instrumentation scopes that become labels span_instrumentation_scope_name and _version.",
        slot: |d| DraftField::List(&mut d.config.core.span_metrics.scopes),
    },
    ConfigKey {
        path: "span_metrics.events.enabled",
        doc: "Counter of span events.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.events),
    },
    ConfigKey {
        path: "span_metrics.events.dimensions",
        doc: "Attributes as labels, from the event, else its span. At least one.",
        slot: |d| DraftField::Items(&mut d.config.core.span_metrics.event_dimensions),
    },
    ConfigKey {
        path: "span_metrics.enable_target_info",
        doc: "traces_target_info (otel: target_info) with the resource's attributes, and the labels job and instance.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.target_info),
    },
    ConfigKey {
        path: "span_metrics.target_info_excluded_dimensions",
        doc: "Resource attributes that traces_target_info does not show.",
        slot: |d| DraftField::List(&mut d.config.core.span_metrics.target_info_excluded),
    },
    ConfigKey {
        path: "span_metrics.enable_instance_label",
        doc: "Label instance. With many short-lived instances it multiplies series.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.instance_label),
    },
    ConfigKey {
        path: "span_metrics.filter_policies",
        doc: "Which spans are counted; none: all.",
        slot: |d| DraftField::Items(&mut d.config.core.span_metrics.filter_policies),
    },
    ConfigKey {
        path: "span_metrics.span_multiplier_key",
        doc: "Attribute that holds the sampling ratio. A span with ratio 0.1 counts as 10 spans.",
        slot: |d| DraftField::Text(&mut d.config.core.span_metrics.multiplier_key),
    },
    ConfigKey {
        path: "span_metrics.span_multiplier_of_text",
        doc: "The ratio may also be text or an integer. Tempo ignores such values and counts the span once.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.multiplier_of_text),
    },
    ConfigKey {
        path: "span_metrics.enable_tracestate_span_multiplier",
        doc: "Use the sampling threshold `th` of tracestate as the sampling ratio.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_metrics.tracestate_multiplier),
    },
    // service_graphs
    ConfigKey {
        path: "service_graphs.enabled",
        doc: "Off leaves span metrics only.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.enabled),
    },
    ConfigKey {
        path: "service_graphs.histogram_buckets",
        doc: "Upper bounds in seconds. Every bound is one more series per edge and side.",
        slot: |d| DraftField::Buckets(&mut d.config.core.service_graphs.bounds_ns),
    },
    ConfigKey {
        path: "service_graphs.wait",
        doc: "How long an unpaired span waits for its peer, in stream time. Longer pairs more and uses more memory.",
        slot: |d| DraftField::Duration(&mut d.config.core.service_graphs.wait, 1..=HOUR),
    },
    ConfigKey {
        path: "service_graphs.max_items",
        doc: "Maximum number of unpaired spans per source partition. Further ones are dropped and counted.",
        slot: |d| DraftField::Whole(&mut d.config.core.service_graphs.max_items, 1..=1_000_000_000),
    },
    ConfigKey {
        path: "service_graphs.peer_attributes",
        doc: "Attributes that name the peer of a call without a matching span. The first one present applies.",
        slot: |d| DraftField::List(&mut d.config.core.service_graphs.peer_attributes),
    },
    ConfigKey {
        path: "service_graphs.database_name_attributes",
        doc: "Attributes that name a database. The first one present applies.",
        slot: |d| DraftField::List(&mut d.config.core.service_graphs.database_name_attributes),
    },
    ConfigKey {
        path: "service_graphs.database_node_attributes",
        doc: "Attributes that name the node of a database instead. The first one present applies. Not in the profile \
              otel.",
        slot: |d| DraftField::List(&mut d.config.core.service_graphs.database_node_attributes),
    },
    ConfigKey {
        path: "service_graphs.database_port",
        doc: "Append server.port to server.address: two databases on one host are two nodes. In Tempo they are one.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.database_port),
    },
    ConfigKey {
        path: "service_graphs.requests",
        doc: "Counters of requests and failed requests.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.requests),
    },
    ConfigKey {
        path: "service_graphs.latency",
        doc: "Histograms of the client and the server.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.latency),
    },
    ConfigKey {
        path: "service_graphs.latency_sides",
        doc: "Whose histogram: both, client or server. One side halves the series of an edge.",
        slot: |d| DraftField::Choice(&mut d.config.core.service_graphs.latency_sides),
    },
    ConfigKey {
        path: "service_graphs.connection_info",
        doc: "A gauge per edge with the value 1: which services are connected.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.connection_info),
    },
    ConfigKey {
        path: "service_graphs.operations",
        doc: "Labels client_operation and server_operation: the span names of both sides, as span metrics have them.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.operations),
    },
    ConfigKey {
        path: "service_graphs.topology",
        doc: "Per edge: when it was seen first and last, and a counter of when it was new: after eight days without a call.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.topology),
    },
    ConfigKey {
        path: "service_graphs.dimensions",
        doc: "Attributes of either side as labels. `default`: if missing; [a, b]: the first one present.",
        slot: |d| DraftField::Items(&mut d.config.core.service_graphs.dimensions),
    },
    ConfigKey {
        path: "service_graphs.enable_client_server_prefix",
        doc: "Prefix dimensions with client_ and server_, so that both sides are shown.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.client_server_prefix),
    },
    ConfigKey {
        path: "service_graphs.enable_virtual_node_label",
        doc: "Label virtual_node: the side of an edge that sent no span.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.virtual_node_label),
    },
    ConfigKey {
        path: "service_graphs.enable_messaging_system_latency_histogram",
        doc: "Histogram of the time from the end of the producer to the start of the consumer.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.messaging_latency),
    },
    ConfigKey {
        path: "service_graphs.filter_policies",
        doc: "Which spans form edges; none: all.",
        slot: |d| DraftField::Items(&mut d.config.core.service_graphs.filter_policies),
    },
    ConfigKey {
        path: "service_graphs.span_multiplier_key",
        doc: "Attribute that holds the sampling ratio. An edge with ratio 0.1 counts as 10 edges.",
        slot: |d| DraftField::Text(&mut d.config.core.service_graphs.multiplier_key),
    },
    ConfigKey {
        path: "service_graphs.span_multiplier_of_text",
        doc: "The ratio may also be text or an integer. Tempo ignores such values and counts the edge once.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.multiplier_of_text),
    },
    ConfigKey {
        path: "service_graphs.enable_tracestate_span_multiplier",
        doc: "Use the sampling threshold `th` of tracestate as the sampling ratio.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.tracestate_multiplier),
    },
    ConfigKey {
        path: "service_graphs.service_namespace",
        doc: "off; labels: client_service_namespace and server_service_namespace; name: nodes are namespace/name.",
        slot: |d| DraftField::Choice(&mut d.config.core.service_graphs.service_namespace),
    },
    ConfigKey {
        path: "service_graphs.fan_out",
        doc: "One client span with several server spans forms several edges. Tempo pairs only the first.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.fan_out),
    },
    ConfigKey {
        path: "service_graphs.links",
        doc: "A consumer span is paired with the producers that it links to. Tempo uses only the parent.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.links),
    },
    ConfigKey {
        path: "service_graphs.ancestors",
        doc: "client (true): the nearest client above a server calls it, across other kinds; any: else another service.",
        slot: |d| DraftField::Choice(&mut d.config.core.service_graphs.ancestors),
    },
    ConfigKey {
        path: "service_graphs.missing_side_is_zero",
        doc: "The missing side of an edge is observed as 0 s, as in Tempo. Off: it is not observed.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.missing_side_is_zero),
    },
    ConfigKey {
        path: "service_graphs.failed_http_status",
        doc: "HTTP statuses from this value on fail a request, such as 500. 0: only the span status counts.",
        slot: |d| DraftField::Whole(&mut d.config.core.service_graphs.failed_http_status, 0..=599),
    },
    ConfigKey {
        path: "service_graphs.failed_grpc_codes",
        doc: "gRPC status codes that fail a request.",
        slot: |d| DraftField::Items(&mut d.config.core.service_graphs.failed_grpc_codes),
    },
    ConfigKey {
        path: "service_graphs.preset",
        doc: "tempo, or recommended: corrects Tempo's known edge errors. Sets the defaults of the five keys below.",
        slot: |d| DraftField::Choice(&mut d.preset),
    },
    ConfigKey {
        path: "service_graphs.each_root",
        doc: "Each server span without a parent forms an edge of its own. Tempo: one edge for all of them in a trace.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.each_root),
    },
    ConfigKey {
        path: "service_graphs.strict_callers",
        doc: "db., server. and messaging. attributes of a server span never name its caller. In Tempo they do.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.strict_callers),
    },
    ConfigKey {
        path: "service_graphs.type_of_both",
        doc: "The connection type follows from both sides of an edge. In Tempo, from the side that came last.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.type_of_both),
    },
    ConfigKey {
        path: "service_graphs.receive_once",
        doc: "A message forms one edge per consumer service, even if that service has receive and process spans.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.receive_once),
    },
    ConfigKey {
        path: "service_graphs.nested_once",
        doc: "A client span directly inside another one of the same service is the same call. The better name \
              applies.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.nested_once),
    },
    ConfigKey {
        path: "service_graphs.orphans",
        doc: "A server span whose parent never arrives gets a virtual client, `user`. Tempo: it forms no edge.",
        slot: |d| DraftField::Bool(&mut d.config.core.service_graphs.orphans),
    },
    // host_info
    ConfigKey {
        path: "host_info.enabled",
        doc: "A gauge per host that sends spans.",
        slot: |d| DraftField::Bool(&mut d.config.core.host_info.enabled),
    },
    ConfigKey {
        path: "host_info.host_identifiers",
        doc: "Resource attributes that name a host. The first one present applies.",
        slot: |d| DraftField::List(&mut d.config.core.host_info.host_identifiers),
    },
    ConfigKey {
        path: "host_info.metric_name",
        doc: "Name of the metric.",
        slot: |d| DraftField::Text(&mut d.config.core.host_info.metric_name),
    },
    // slos
    ConfigKey {
        path: "slos",
        doc: "Service level objectives: traces_slo_events_total and traces_slo_good_total each. See docs/slos.md.",
        slot: |d| DraftField::Items(&mut d.config.core.slos),
    },
    // attribute_metrics
    ConfigKey {
        path: "attribute_metrics",
        doc: "Counters, sums and histograms of numbers that spans carry. See docs/attribute-metrics.md.",
        slot: |d| DraftField::Items(&mut d.config.core.attribute_metrics),
    },
    ConfigKey {
        path: "attribute_metrics_presets",
        doc: "Ready-made ones: genai, http, messaging.",
        slot: |d| DraftField::Items(&mut d.config.core.attribute_metrics_presets),
    },
    // traces
    ConfigKey {
        path: "traces.duration",
        doc: "traces_trace_duration_seconds, traces_trace_spans, traces_trace_services and traces_trace_depth.",
        slot: |d| DraftField::Bool(&mut d.config.core.traces.duration),
    },
    ConfigKey {
        path: "traces.critical_path",
        doc: "traces_critical_path_seconds_total and traces_self_time_seconds_total.",
        slot: |d| DraftField::Bool(&mut d.config.core.traces.critical_path),
    },
    ConfigKey {
        path: "traces.errors",
        doc: "traces_error_origin_total and traces_error_swallowed_total.",
        slot: |d| DraftField::Bool(&mut d.config.core.traces.errors),
    },
    ConfigKey {
        path: "traces.calls",
        doc: "traces_calls_per_request, traces_repeated_calls_total, traces_retried_calls_total and traces_fan_out_*.",
        slot: |d| DraftField::Bool(&mut d.config.core.traces.calls),
    },
    ConfigKey {
        path: "traces.repeated_calls",
        doc: "So many calls of one span to the same operation count as repeated (N+1).",
        slot: |d| DraftField::Whole(&mut d.config.core.traces.repeated_calls, 2..=1_000_000),
    },
    ConfigKey {
        path: "traces.quality",
        doc: "traces_quality_problems_total: spans without their parent, before it, or too late; traces without root.",
        slot: |d| DraftField::Bool(&mut d.config.core.traces.quality),
    },
    ConfigKey {
        path: "traces.span_metrics",
        doc: "traces_spanmetrics_by_root_*: calls and latency of spans of closed traces, with is_root and branch_labels.",
        slot: |d| DraftField::Bool(&mut d.config.core.traces.span_metrics),
    },
    ConfigKey {
        path: "traces.branch_labels",
        doc: "Labels that a span takes from another one of its trace; from: root, entry, ancestor or descendant.",
        slot: |d| DraftField::Items(&mut d.config.core.traces.branch_labels),
    },
    ConfigKey {
        path: "traces.histogram_buckets",
        doc: "Upper bounds of the duration in seconds.",
        slot: |d| DraftField::Buckets(&mut d.config.core.traces.bounds_ns),
    },
    ConfigKey {
        path: "traces.idle",
        doc: "A trace closes when no span of it has come for this long, in stream time.",
        slot: |d| DraftField::Duration(&mut d.config.core.traces.idle, 1..=HOUR),
    },
    ConfigKey {
        path: "traces.max_age",
        doc: "A trace closes this long after its first span at the latest. A new owner reads as far back.",
        slot: |d| DraftField::Duration(&mut d.config.core.traces.max_age, 1..=HOUR),
    },
    ConfigKey {
        path: "traces.late",
        doc: "How long a closed trace is remembered. Its spans are late meanwhile, and open another trace afterwards.",
        slot: |d| DraftField::Duration(&mut d.config.core.traces.late, 0..=HOUR),
    },
    ConfigKey {
        path: "traces.max_spans",
        doc: "A trace closes with so many spans.",
        slot: |d| DraftField::Whole(&mut d.config.core.traces.max_spans, 1..=1_000_000),
    },
    ConfigKey {
        path: "traces.max_traces",
        doc: "Maximum number of open traces per source partition, and of remembered ones. A span takes 64 bytes.",
        slot: |d| DraftField::Whole(&mut d.config.core.traces.max_traces, 1..=10_000_000),
    },
    // duplicates
    ConfigKey {
        path: "duplicates.window",
        doc: "How long a span is remembered, in stream time, so that it counts once when it comes again. 0: not at all.",
        slot: |d| DraftField::Duration(&mut d.config.core.duplicates.window, 0..=HOUR),
    },
    ConfigKey {
        path: "duplicates.max_spans",
        doc: "Maximum number of remembered spans per source partition, of 38 to 76 bytes. Beyond, duplicates may count.",
        slot: |d| DraftField::Whole(&mut d.config.core.duplicates.max_spans, 1..=100_000_000),
    },
    // histograms
    ConfigKey {
        path: "histograms.mode",
        doc: "classic: one series per bound; native: one exponential histogram per label set; both.",
        slot: |d| DraftField::Choice(&mut d.config.core.histograms.mode),
    },
    ConfigKey {
        path: "histograms.native_bucket_factor",
        doc: "Maximum growth factor between bounds of native buckets. Finer needs more buckets.",
        slot: |d| DraftField::Fraction(&mut d.config.core.histograms.native_bucket_factor, 1.0, 65_536.0),
    },
    ConfigKey {
        path: "histograms.native_max_buckets",
        doc: "A native histogram with more buckets gets half the resolution.",
        slot: |d| DraftField::Whole(&mut d.config.core.histograms.native_max_buckets, 2..=10_000),
    },
    ConfigKey {
        path: "histograms.max_duration",
        doc: "Longer durations are observed as 0 s and counted in the ledger. 0s: no limit, as in Tempo.",
        slot: |d| DraftField::Duration(&mut d.config.core.histograms.max_duration, 0..=YEAR),
    },
    // span_names
    ConfigKey {
        path: "span_names.mode",
        doc: "off; dry_run: names stay, changes are only counted; enabled.",
        slot: |d| DraftField::Choice(&mut d.config.core.span_names.mode),
    },
    ConfigKey {
        path: "span_names.builtin",
        doc: "Replaces IDs, numbers, dates, addresses and SQL literals.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_names.builtin),
    },
    ConfigKey {
        path: "span_names.query_strings",
        doc: "With builtin: replaces the part after a ? in a path with one <_>.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_names.query_strings),
    },
    ConfigKey {
        path: "span_names.short_ids",
        doc: "With builtin: also replaces random IDs of 5 to 15 letters and digits, such as k3x9Qa.",
        slot: |d| DraftField::Bool(&mut d.config.core.span_names.short_ids),
    },
    ConfigKey {
        path: "span_names.rules",
        doc: "Regular expressions, applied before builtin in this order. The first match wins. $1 is a group.",
        slot: |d| DraftField::Items(&mut d.config.core.span_names.rules),
    },
    // limits
    ConfigKey {
        path: "limits.max_tenants",
        doc: "Maximum number of tenants; further ones are counted together as tenant __overflow__. 0: no limit.",
        slot: |d| DraftField::Whole(&mut d.config.core.limits.max_tenants, 0..=1_000_000),
    },
    ConfigKey {
        path: "limits.max_active_series",
        doc: "Maximum active series of a tenant, over all workers; 0: no limit. Further spans go to one overflow \
              series.",
        slot: |d| DraftField::Whole(&mut d.config.core.limits.max_active_series, COUNTS),
    },
    ConfigKey {
        path: "limits.max_active_series_per_service",
        doc: "Maximum active series of one service; 0: no limit.",
        slot: |d| DraftField::Whole(&mut d.config.core.limits.max_active_series_per_service, COUNTS),
    },
    ConfigKey {
        path: "limits.max_cardinality_per_label",
        doc: "Distinct values of one label of one service; 0: no limit.",
        slot: |d| DraftField::Whole(&mut d.config.core.limits.max_cardinality_per_label, COUNTS),
    },
    ConfigKey {
        path: "limits.max_label_name_length",
        doc: "Maximum length in bytes; longer names are cut. 0: no limit.",
        slot: |d| DraftField::Whole(&mut d.config.core.limits.max_label_name_length, 0..=1 << 20),
    },
    ConfigKey {
        path: "limits.max_label_value_length",
        doc: "Maximum length in bytes; longer values are cut. 0: no limit.",
        slot: |d| DraftField::Whole(&mut d.config.core.limits.max_label_value_length, 0..=1 << 20),
    },
];
