//! Which span metrics there are.

use super::{FilterPolicy, ns, strings};

/// `span_metrics:` as Tempo's `span-metrics` processor.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanMetrics {
    /// `enabled`. Default true.
    pub enabled: bool,
    /// `calls`: the counter of spans. Default true.
    pub calls: bool,
    /// `latency`: the histogram of durations. Default true.
    pub latency: bool,
    /// `size`: the counter of bytes. Default true.
    pub size: bool,
    /// `histogram_buckets` (seconds in the file). Default Tempo's 14 from 0.002 to 16.384.
    pub bounds_ns: Vec<u64>,
    /// `bucket_sets`: other buckets for some services or kinds. Default none.
    pub bucket_sets: Vec<BucketSet>,
    /// `intrinsic_dimensions`
    pub intrinsic: Intrinsic,
    /// `dimensions`: span or resource attributes as labels, the resource first. Default none.
    pub dimensions: Vec<Dimension>,
    /// `calls_dimensions`: more of them on calls and size only. Default none.
    pub calls_dimensions: Vec<Dimension>,
    /// `latency_dimensions`: more of them on latency only. Default none.
    pub latency_dimensions: Vec<Dimension>,
    /// `dimension_mappings`. Default none.
    pub dimension_mappings: Vec<DimensionMapping>,
    /// `scopes`: names of instrumentation scopes that become the labels `span_instrumentation_scope_name` and `_version`.
    /// Default none.
    pub scopes: Vec<String>,
    /// `events.enabled`: a counter of span events. Default false.
    pub events: bool,
    /// `events.dimensions`: attributes of the event, or else of its span. Default none.
    pub event_dimensions: Vec<Dimension>,
    /// `enable_target_info`: `traces_target_info`, and the labels `job` and `instance`. Default false.
    pub target_info: bool,
    /// `target_info_excluded_dimensions`: resource attributes that it does not show. Default none.
    pub target_info_excluded: Vec<String>,
    /// `enable_instance_label`: whether there is a label `instance`. Default true.
    pub instance_label: bool,
    /// `filter_policies`: which spans count. Default none: all.
    pub filter_policies: Vec<FilterPolicy>,
    /// `span_multiplier_key`: an attribute with the ratio that sampling kept. Default none.
    pub multiplier_key: String,
    /// `span_multiplier_of_text`: it may also be text or a whole number. Default false, as in Tempo.
    pub multiplier_of_text: bool,
    /// `enable_tracestate_span_multiplier`: the threshold in `tracestate` gives the sampling ratio. Default false.
    pub tracestate_multiplier: bool,
}

/// `span_metrics.intrinsic_dimensions:` which built-in labels a series has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intrinsic {
    /// `service`. Default true.
    pub service: bool,
    /// `span_name`. Default true.
    pub span_name: bool,
    /// `span_kind`. Default true.
    pub span_kind: bool,
    /// `status_code`. Default true.
    pub status_code: bool,
    /// `status_message`. Default false.
    pub status_message: bool,
}

/// A dimension: an attribute that becomes a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dimension {
    /// The attribute. Entries are `NAME`, `[NAME, OTHER]` or `{name: NAME, or: [OTHER], default: TEXT}`.
    pub name: String,
    /// Attributes that stand in for it, in order: the label has the first text that is not empty.
    pub or: Vec<String>,
    /// The value for spans without any of them; `None`: no label then.
    pub default: Option<String>,
}

/// One entry of `dimension_mappings`: several attributes joined into one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DimensionMapping {
    /// `name` of the label.
    pub name: String,
    /// `source_labels`: attributes, in order.
    pub source_labels: Vec<String>,
    /// `join`: the separator of the present values.
    pub join: String,
}

/// One entry of `bucket_sets`: other bounds for some spans. The first that fits is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSet {
    /// `services`; empty: all.
    pub services: Vec<String>,
    /// `kinds`: `SPAN_KIND_SERVER` and so on; empty: all.
    pub kinds: Vec<String>,
    /// `buckets` (seconds in the file).
    pub bounds_ns: Vec<u64>,
}

/// `host_info:` as Tempo's `host-info` processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInfo {
    /// `enabled`. Default false.
    pub enabled: bool,
    /// `host_identifiers`: resource attributes; the first that is there names the host. Default `k8s.node.name, host.id`.
    pub host_identifiers: Vec<String>,
    /// `metric_name`. Default `traces_host_info`.
    pub metric_name: String,
}

/// `span_names:` the sanitizer, a pure function of a span's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanNames {
    /// `mode`. Default `off`.
    pub mode: SanitizeMode,
    /// `builtin`: replace IDs, numbers, dates, addresses and SQL literals. Default true.
    pub builtin: bool,
    /// `query_strings`: what follows a `?` in a path is replaced as well. Default false.
    pub query_strings: bool,
    /// `short_ids`: so are random IDs of 5 to 15 characters. Default false.
    pub short_ids: bool,
    /// `rules`: `{match: REGEX, replace: TEMPLATE}`, applied first; the first that matches wins. Default none.
    pub rules: Vec<SpanNameRule>,
}

/// `span_names.mode:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanitizeMode {
    /// `off`
    Off,
    /// `dry_run`: names stay; what would change is counted in the ledger.
    DryRun,
    /// `enabled`
    Enabled,
}

/// One entry of `span_names.rules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanNameRule {
    /// `match`: a regular expression, unanchored.
    pub pattern: String,
    /// `replace`: what replaces each match; `$1` and `${name}` are groups.
    pub replace: String,
}

// === impl Default ===

impl Default for SpanNames {
    fn default() -> Self {
        Self { mode: SanitizeMode::Off, builtin: true, query_strings: false, short_ids: false, rules: Vec::new() }
    }
}

impl Default for SpanMetrics {
    fn default() -> Self {
        Self {
            enabled: true,
            calls: true,
            latency: true,
            size: true,
            bounds_ns: ns(&[
                0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
            ]),
            intrinsic: Intrinsic {
                service: true,
                span_name: true,
                span_kind: true,
                status_code: true,
                status_message: false,
            },
            bucket_sets: Vec::new(),
            dimensions: Vec::new(),
            calls_dimensions: Vec::new(),
            latency_dimensions: Vec::new(),
            dimension_mappings: Vec::new(),
            scopes: Vec::new(),
            events: false,
            event_dimensions: Vec::new(),
            target_info: false,
            target_info_excluded: Vec::new(),
            instance_label: true,
            filter_policies: Vec::new(),
            multiplier_key: String::new(),
            multiplier_of_text: false,
            tracestate_multiplier: false,
        }
    }
}

impl Default for HostInfo {
    fn default() -> Self {
        Self {
            enabled: false,
            host_identifiers: strings(&["k8s.node.name", "host.id"]),
            metric_name: "traces_host_info".to_owned(),
        }
    }
}
