//! The settings of the core, as plain values: every key of `config/spanmill.yaml` that decides a number.
//!
//! Durations are milliseconds unless the name has another unit; histogram bounds are nanoseconds, strictly ascending.

mod attribute_metrics;
mod duplicates;
pub mod labels;
mod naming;
mod policies;
mod service_graphs;
mod slos;
mod span_metrics;
mod traces;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::model::{Millis, StepWidth};

pub use attribute_metrics::{AttributeMetric, AttributeMetricKind, AttributeMetricsPreset, MetricValue, ValueScope};
pub use duplicates::Duplicates;
pub use naming::{HistogramMode, Histograms, InvalidUtf8, LatencyUnit, Naming, Profile};
pub use policies::{FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue};
pub use service_graphs::{Ancestors, LatencySides, ServiceGraphs, ServiceNamespace};
pub use slos::{Objective, Slo, SloSide, SloSubject};
pub use span_metrics::{
    BucketSet, Dimension, DimensionMapping, HostInfo, Intrinsic, SanitizeMode, SpanMetrics, SpanNameRule, SpanNames,
};
pub use traces::{BranchLabel, BranchSource, Traces};

/// The settings of one tenant.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// `time:`
    pub time: Time,
    /// `naming:`
    pub naming: Naming,
    /// `span_metrics:`
    pub span_metrics: SpanMetrics,
    /// `service_graphs:`
    pub service_graphs: ServiceGraphs,
    /// `host_info:`
    pub host_info: HostInfo,
    /// `slos:` service level objectives. Default none.
    pub slos: Vec<Slo>,
    /// `attribute_metrics:` Default none.
    pub attribute_metrics: Vec<AttributeMetric>,
    /// `attribute_metrics_presets:` entries behind those. Default none.
    pub attribute_metrics_presets: Vec<AttributeMetricsPreset>,
    /// `traces:`
    pub traces: Traces,
    /// `duplicates:`
    pub duplicates: Duplicates,
    /// `histograms:`
    pub histograms: Histograms,
    /// `span_names:`
    pub span_names: SpanNames,
    /// `limits:`
    pub limits: Limits,
    /// `series:`
    pub series: Series,
}

/// The settings of every tenant. A tenant without settings of its own has the defaults. Cloning shares them.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenants {
    defaults: Arc<Settings>,
    overridden: Arc<BTreeMap<String, Arc<Settings>>>,
}

/// How record values are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `auto`: whichever of the others a record is, by its first bytes.
    Auto,
    /// `otlp_proto`: an `ExportTraceServiceRequest`.
    OtlpProto,
    /// `otlp_json`: the same in JSON.
    OtlpJson,
    /// `tempo_push_bytes`: what Tempo's distributor writes, unless its codec is `otlp`.
    TempoPushBytes,
    /// `jaeger_proto`: a span of Jaeger's model.
    JaegerProto,
    /// `jaeger_json`: the same in protobuf's JSON, or in that of Jaeger's API.
    JaegerJson,
    /// `zipkin_proto`: a list of Zipkin spans of version 2.
    ZipkinProto,
    /// `zipkin_json`: the same in JSON.
    ZipkinJson,
}

/// `time:` steps and stream time.
#[derive(Debug, Clone, PartialEq)]
pub struct Time {
    /// `step`: the collection interval. Default 15 s.
    pub step: StepWidth,
    /// `source`: which time decides the step of a span. Default `record`.
    pub source: TimeSource,
    /// `lateness`: how far stream time stays behind the ends of spans, with `source: span_end`. Default 30 s.
    pub lateness: Millis,
    /// `idle`: a partition without records for this long advances by the wall clock. Default 5 s.
    pub idle: Millis,
    /// `max_future`: a record that is further ahead of its partition must be confirmed by later ones, and none that is
    /// further ahead of the present is accepted. Default 10 s.
    pub max_future: Millis,
    /// `stall_grace`: a step is closed without a partition that has been silent for this long. Default 30 s.
    pub stall_grace: Millis,
}

/// `time.source`: which time decides the step of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSource {
    /// `record`: the timestamp of its record.
    Record,
    /// `span_end`: its own end.
    SpanEnd,
}

/// `limits:` the limits of a tenant. 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// `max_tenants`, over all workers; further ones share a tenant. Not per tenant. Default 0.
    pub max_tenants: u64,
    /// `max_active_series` of the tenant, over all workers. Default 0.
    pub max_active_series: u64,
    /// `max_active_series_per_service`. Default 0.
    pub max_active_series_per_service: u64,
    /// `max_cardinality_per_label`: distinct values of one label of one service. Default 0.
    pub max_cardinality_per_label: u64,
    /// `max_label_name_length` in bytes; longer names are cut. Default 1,024.
    pub max_label_name_length: usize,
    /// `max_label_value_length` in bytes; longer values are cut. Default 2,048.
    pub max_label_value_length: usize,
}

/// `series:` the life of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// `stale_after`: an idle series ends with a stale marker. Default 15 min.
    pub stale_after: Millis,
    /// `forget_after`: how much longer the cumulative value of an ended series is kept. Default 1 h.
    pub forget_after: Millis,
    /// `snapshot_every`: how often a shard's state is written to its journal, in event time. Default 5 min.
    pub snapshot_every: Millis,
    /// `zero_offset`: how long before the first value of a series its zero, or kept value, lies; 0 switches that off. Default
    /// `time.step` less 1 ms: just after the step before.
    pub zero_offset: Millis,
    /// `interval`: how often series are sent, a multiple of `time.step`; 0: every step. Default 0.
    pub interval: Millis,
    /// `resend_unchanged`: how often a label set is sent that does not change, a multiple of `time.step`; 0: at every step.
    /// Default 0.
    pub resend_unchanged: Millis,
    /// `write`: whether series are sent at all; they are computed either way. Default true.
    pub write: bool,
    /// `tenant_label`: a label with the tenant on every series; empty: none. Default none.
    pub tenant_label: String,
    /// `external_labels`: added to every series; they replace a label of the same name. Default none.
    pub external_labels: BTreeMap<String, String>,
    /// `exemplars.enabled`. Default true.
    pub exemplars: bool,
    /// `exemplars.label`. Default `traceID`.
    pub exemplar_label: String,
    /// `exemplars.on_counters`: also next to `calls`, as the Collector does. Default false.
    pub exemplars_on_counters: bool,
}

/// The tenant of a single-tenant installation: it gets no tenant header.
pub const SINGLE_TENANT: &str = "single-tenant";

/// Seconds as they stand in a config file to nanoseconds.
fn ns(seconds: &[f64]) -> Vec<u64> {
    seconds.iter().map(|s| (s * 1e9).round() as u64).collect()
}

fn strings(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|&k| k.to_owned()).collect()
}

// === impl Settings ===

impl Settings {
    /// Whether there is any attribute metric.
    #[must_use]
    pub fn has_attribute_metrics(&self) -> bool {
        !(self.attribute_metrics.is_empty() && self.attribute_metrics_presets.is_empty())
    }

    /// All attribute metrics: the entries, and behind them those of the presets.
    #[must_use]
    pub fn all_attribute_metrics(&self) -> Vec<AttributeMetric> {
        let of_presets = self.attribute_metrics_presets.iter().flat_map(|preset| preset.entries());
        self.attribute_metrics.iter().cloned().chain(of_presets).collect()
    }
}

// === impl Tenants ===

impl Tenants {
    /// The defaults for every tenant but those in `overridden`, whose settings are there in full.
    #[must_use]
    pub fn new(defaults: Arc<Settings>, overridden: BTreeMap<String, Arc<Settings>>) -> Self {
        Self { defaults, overridden: Arc::new(overridden) }
    }

    /// The settings of a tenant.
    #[must_use]
    pub fn of(&self, tenant: &str) -> &Arc<Settings> {
        self.overridden.get(tenant).unwrap_or(&self.defaults)
    }

    /// The settings of every tenant without overrides.
    #[must_use]
    pub fn defaults(&self) -> &Arc<Settings> {
        &self.defaults
    }

    /// The tenants with overrides, in order.
    pub fn overridden(&self) -> impl Iterator<Item = (&str, &Arc<Settings>)> {
        self.overridden.iter().map(|(name, settings)| (name.as_str(), settings))
    }
}

impl From<Settings> for Tenants {
    fn from(defaults: Settings) -> Self {
        Self::new(Arc::new(defaults), BTreeMap::new())
    }
}

// === impl Time ===

impl Time {
    /// How far stream time stays behind the ends of spans; `None`: it is that of the records.
    #[must_use]
    pub fn allowed_lateness(&self) -> Option<Millis> {
        (self.source == TimeSource::SpanEnd).then_some(self.lateness)
    }

    /// The stream time of a partition that has been silent for `idle` at `present`: as if a span had ended
    /// just now.
    #[must_use]
    pub fn of_silence(&self, present: Millis) -> Millis {
        present - self.idle - self.allowed_lateness().unwrap_or(0)
    }
}

impl Default for Time {
    fn default() -> Self {
        Self {
            step: StepWidth::new(15_000).expect("15 s is positive"),
            source: TimeSource::Record,
            lateness: 30_000,
            idle: 5_000,
            max_future: 10_000,
            stall_grace: 30_000,
        }
    }
}

impl Default for Series {
    fn default() -> Self {
        Self {
            stale_after: 900_000,
            forget_after: 3_600_000,
            snapshot_every: 300_000,
            zero_offset: 14_999,
            interval: 0,
            resend_unchanged: 0,
            write: true,
            tenant_label: String::new(),
            external_labels: BTreeMap::new(),
            exemplars: true,
            exemplar_label: "traceID".to_owned(),
            exemplars_on_counters: false,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_tenants: 0,
            max_active_series: 0,
            max_active_series_per_service: 0,
            max_cardinality_per_label: 0,
            max_label_name_length: 1_024,
            max_label_value_length: 2_048,
        }
    }
}
