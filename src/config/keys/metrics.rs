//! Keys of what is computed from spans.

use super::{HOUR, Key};
use crate::config::draft::Slot;

/// Series, or values.
const COUNTS: std::ops::RangeInclusive<i64> = 0..=1_000_000_000_000;

/// Keys, in the order of the reference file.
pub(super) const KEYS: &[Key] = &[
    // naming
    Key {
        path: "naming.profile",
        doc: "tempo: traces_spanmetrics_calls_total{service}; otel: traces_span_metrics_calls_total{service_name}.",
        slot: |d| Slot::Choice(&mut d.config.naming.profile),
    },
    Key {
        path: "naming.namespace",
        doc: "otel: what span metrics begin with, as `namespace` of the Collector.",
        slot: |d| Slot::Text(&mut d.config.naming.namespace),
    },
    Key {
        path: "naming.unit",
        doc: "otel: the unit of latencies of span metrics, ms or s.",
        slot: |d| Slot::Choice(&mut d.config.naming.unit),
    },
    // span_metrics
    Key {
        path: "span_metrics.enabled",
        doc: "Off leaves service graphs only.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.enabled),
    },
    Key {
        path: "span_metrics.calls",
        doc: "The counter of spans.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.calls),
    },
    Key {
        path: "span_metrics.latency",
        doc: "The histogram of durations.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.latency),
    },
    Key {
        path: "span_metrics.size",
        doc: "The counter of bytes.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.size),
    },
    Key {
        path: "span_metrics.histogram_buckets",
        doc: "Upper bounds in seconds. Every bound is one more series per label set.",
        slot: |d| Slot::Buckets(&mut d.config.span_metrics.bounds_ns),
    },
    Key {
        path: "span_metrics.bucket_sets",
        doc: "Other bounds for some services or kinds; the first set that fits is taken.",
        slot: |d| Slot::Items(&mut d.config.span_metrics.bucket_sets),
    },
    Key {
        path: "span_metrics.intrinsic_dimensions.service",
        doc: "Label `service`.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.intrinsic.service),
    },
    Key {
        path: "span_metrics.intrinsic_dimensions.span_name",
        doc: "Label `span_name`; switch it off if names hold IDs.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.intrinsic.span_name),
    },
    Key {
        path: "span_metrics.intrinsic_dimensions.span_kind",
        doc: "Label `span_kind`.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.intrinsic.span_kind),
    },
    Key {
        path: "span_metrics.intrinsic_dimensions.status_code",
        doc: "Label `status_code`; error rates need it.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.intrinsic.status_code),
    },
    Key {
        path: "span_metrics.intrinsic_dimensions.status_message",
        doc: "Label `status_message`; off because messages tend to be unique.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.intrinsic.status_message),
    },
    Key {
        path: "span_metrics.dimensions",
        doc: "Attributes as labels, of the resource or else of the span; `default` stands for a missing one.",
        slot: |d| Slot::Items(&mut d.config.span_metrics.dimensions),
    },
    Key {
        path: "span_metrics.calls_dimensions",
        doc: "More of them on calls and size only.",
        slot: |d| Slot::Items(&mut d.config.span_metrics.calls_dimensions),
    },
    Key {
        path: "span_metrics.latency_dimensions",
        doc: "More of them on latency only.",
        slot: |d| Slot::Items(&mut d.config.span_metrics.latency_dimensions),
    },
    Key {
        path: "span_metrics.dimension_mappings",
        doc: "Several attributes joined into one label.",
        slot: |d| Slot::Items(&mut d.config.span_metrics.dimension_mappings),
    },
    Key {
        path: "span_metrics.scopes",
        doc: "Instrumentation scopes that become labels span_instrumentation_scope_name and _version.",
        slot: |d| Slot::List(&mut d.config.span_metrics.scopes),
    },
    Key {
        path: "span_metrics.events.enabled",
        doc: "A counter of span events.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.events),
    },
    Key {
        path: "span_metrics.events.dimensions",
        doc: "Attributes as its labels, of the event or else of its span; at least one.",
        slot: |d| Slot::Items(&mut d.config.span_metrics.event_dimensions),
    },
    Key {
        path: "span_metrics.enable_target_info",
        doc: "traces_target_info with the resource's attributes, and the labels job and instance.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.target_info),
    },
    Key {
        path: "span_metrics.target_info_excluded_dimensions",
        doc: "Resource attributes that traces_target_info leaves out.",
        slot: |d| Slot::List(&mut d.config.span_metrics.target_info_excluded),
    },
    Key {
        path: "span_metrics.enable_instance_label",
        doc: "Off leaves out the label instance; with many short-lived instances it multiplies series.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.instance_label),
    },
    Key {
        path: "span_metrics.filter_policies",
        doc: "Which spans count; none means all.",
        slot: |d| Slot::Items(&mut d.config.span_metrics.filter_policies),
    },
    Key {
        path: "span_metrics.span_multiplier_key",
        doc: "An attribute with the share of spans that sampling kept, such as 0.1; the span then counts for ten.",
        slot: |d| Slot::Text(&mut d.config.span_metrics.multiplier_key),
    },
    Key {
        path: "span_metrics.enable_tracestate_span_multiplier",
        doc: "The threshold `th` in tracestate says what share sampling kept.",
        slot: |d| Slot::Bool(&mut d.config.span_metrics.tracestate_multiplier),
    },
    // service_graphs
    Key {
        path: "service_graphs.enabled",
        doc: "Off leaves span metrics only.",
        slot: |d| Slot::Bool(&mut d.config.service_graphs.enabled),
    },
    Key {
        path: "service_graphs.histogram_buckets",
        doc: "Upper bounds in seconds. Every bound is one more series per edge and side.",
        slot: |d| Slot::Buckets(&mut d.config.service_graphs.bounds_ns),
    },
    Key {
        path: "service_graphs.wait",
        doc: "How long a half edge waits for its other side, in stream time. Longer completes more and holds more.",
        slot: |d| Slot::Duration(&mut d.config.service_graphs.wait, 1..=HOUR),
    },
    Key {
        path: "service_graphs.max_items",
        doc: "Half edges that may wait per source partition; beyond it they are dropped and counted.",
        slot: |d| Slot::Whole(&mut d.config.service_graphs.max_items, 1..=1_000_000_000),
    },
    Key {
        path: "service_graphs.peer_attributes",
        doc: "Attributes that name the far side of a call that it never confirms; the first one present wins.",
        slot: |d| Slot::List(&mut d.config.service_graphs.peer_attributes),
    },
    Key {
        path: "service_graphs.database_name_attributes",
        doc: "Attributes that name a database; the first one present wins.",
        slot: |d| Slot::List(&mut d.config.service_graphs.database_name_attributes),
    },
    Key {
        path: "service_graphs.requests",
        doc: "The counters of requests and failed requests.",
        slot: |d| Slot::Bool(&mut d.config.service_graphs.requests),
    },
    Key {
        path: "service_graphs.latency",
        doc: "The histograms of both sides.",
        slot: |d| Slot::Bool(&mut d.config.service_graphs.latency),
    },
    Key {
        path: "service_graphs.connection_info",
        doc: "A gauge per edge that is 1: who is connected, without numbers.",
        slot: |d| Slot::Bool(&mut d.config.service_graphs.connection_info),
    },
    Key {
        path: "service_graphs.dimensions",
        doc: "Attributes of either side as labels; `default` stands for a missing one.",
        slot: |d| Slot::Items(&mut d.config.service_graphs.dimensions),
    },
    Key {
        path: "service_graphs.enable_client_server_prefix",
        doc: "client_ and server_ before dimensions, so that both sides show.",
        slot: |d| Slot::Bool(&mut d.config.service_graphs.client_server_prefix),
    },
    Key {
        path: "service_graphs.enable_virtual_node_label",
        doc: "A label virtual_node says which side of an edge is only known by name.",
        slot: |d| Slot::Bool(&mut d.config.service_graphs.virtual_node_label),
    },
    Key {
        path: "service_graphs.enable_messaging_system_latency_histogram",
        doc: "A histogram from the end of the producer to the start of the consumer.",
        slot: |d| Slot::Bool(&mut d.config.service_graphs.messaging_latency),
    },
    Key {
        path: "service_graphs.filter_policies",
        doc: "Which spans make edges; none means all.",
        slot: |d| Slot::Items(&mut d.config.service_graphs.filter_policies),
    },
    Key {
        path: "service_graphs.span_multiplier_key",
        doc: "An attribute with the share of spans that sampling kept, such as 0.1; the edge then counts for ten.",
        slot: |d| Slot::Text(&mut d.config.service_graphs.multiplier_key),
    },
    Key {
        path: "service_graphs.enable_tracestate_span_multiplier",
        doc: "The threshold `th` in tracestate says what share sampling kept.",
        slot: |d| Slot::Bool(&mut d.config.service_graphs.tracestate_multiplier),
    },
    Key {
        path: "service_graphs.service_namespace",
        doc: "off; labels: client_service_namespace and server_service_namespace; name: nodes are namespace/name.",
        slot: |d| Slot::Choice(&mut d.config.service_graphs.service_namespace),
    },
    Key {
        path: "service_graphs.fan_out",
        doc: "One client span with several server spans makes several edges. Tempo pairs the first only.",
        slot: |d| Slot::Bool(&mut d.config.service_graphs.fan_out),
    },
    Key {
        path: "service_graphs.links",
        doc: "A consumer span belongs to the producers that it links to. Tempo looks at parents only.",
        slot: |d| Slot::Bool(&mut d.config.service_graphs.links),
    },
    Key {
        path: "service_graphs.ancestors",
        doc: "A server span belongs to the nearest client above it, across spans of other kinds. Tempo: the parent only.",
        slot: |d| Slot::Bool(&mut d.config.service_graphs.ancestors),
    },
    Key {
        path: "service_graphs.missing_side_is_zero",
        doc: "The side that an edge lacks is observed as 0 s, as in Tempo; off leaves it out.",
        slot: |d| Slot::Bool(&mut d.config.service_graphs.missing_side_is_zero),
    },
    Key {
        path: "service_graphs.failed_http_status",
        doc: "This HTTP status and greater ones fail a request, such as 500; 0: the status of the span alone does.",
        slot: |d| Slot::Whole(&mut d.config.service_graphs.failed_http_status, 0..=599),
    },
    Key {
        path: "service_graphs.failed_grpc_codes",
        doc: "These gRPC status codes fail a request.",
        slot: |d| Slot::Items(&mut d.config.service_graphs.failed_grpc_codes),
    },
    // host_info
    Key {
        path: "host_info.enabled",
        doc: "A gauge per host that spans come from.",
        slot: |d| Slot::Bool(&mut d.config.host_info.enabled),
    },
    Key {
        path: "host_info.host_identifiers",
        doc: "Resource attributes that name a host; the first one present wins.",
        slot: |d| Slot::List(&mut d.config.host_info.host_identifiers),
    },
    Key {
        path: "host_info.metric_name",
        doc: "What it is called.",
        slot: |d| Slot::Text(&mut d.config.host_info.metric_name),
    },
    // histograms
    Key {
        path: "histograms.mode",
        doc: "classic: one series per bound; native: one exponential histogram per label set; both.",
        slot: |d| Slot::Choice(&mut d.config.histograms.mode),
    },
    Key {
        path: "histograms.native_bucket_factor",
        doc: "Bounds of native buckets grow by at most this factor; finer costs more buckets.",
        slot: |d| Slot::Fraction(&mut d.config.histograms.native_bucket_factor, 1.0, 65_536.0),
    },
    Key {
        path: "histograms.native_max_buckets",
        doc: "A native histogram with more buckets is halved in resolution.",
        slot: |d| Slot::Whole(&mut d.config.histograms.native_max_buckets, 2..=10_000),
    },
    // span_names
    Key {
        path: "span_names.mode",
        doc: "off; dry_run: names stay and what would change is counted; enabled.",
        slot: |d| Slot::Choice(&mut d.config.span_names.mode),
    },
    Key {
        path: "span_names.builtin",
        doc: "Replaces IDs, numbers, dates, addresses and SQL literals.",
        slot: |d| Slot::Bool(&mut d.config.span_names.builtin),
    },
    Key {
        path: "span_names.rules",
        doc: "Regular expressions, tried before that in this order; the first that matches wins. $1 is a group.",
        slot: |d| Slot::Items(&mut d.config.span_names.rules),
    },
    // limits
    Key {
        path: "limits.max_active_series",
        doc: "Series that a tenant may have, over all workers; 0: no limit. Beyond it, spans go to one overflow series.",
        slot: |d| Slot::Whole(&mut d.config.limits.max_active_series, COUNTS),
    },
    Key {
        path: "limits.max_active_series_per_service",
        doc: "The same per service, so that one cannot take all; 0: no limit.",
        slot: |d| Slot::Whole(&mut d.config.limits.max_active_series_per_service, COUNTS),
    },
    Key {
        path: "limits.max_cardinality_per_label",
        doc: "Distinct values of one label of one service; 0: no limit.",
        slot: |d| Slot::Whole(&mut d.config.limits.max_cardinality_per_label, COUNTS),
    },
    Key {
        path: "limits.max_label_name_length",
        doc: "Bytes; longer names are cut; 0: never.",
        slot: |d| Slot::Whole(&mut d.config.limits.max_label_name_length, 0..=1 << 20),
    },
    Key {
        path: "limits.max_label_value_length",
        doc: "Bytes; longer values are cut; 0: never.",
        slot: |d| Slot::Whole(&mut d.config.limits.max_label_value_length, 0..=1 << 20),
    },
];
