//! The names of metrics and labels, and how histograms count.

use crate::core::model::labels::sanitize_name;
use crate::core::model::{self, Millis, Native, Shape, Unit};

/// `naming:` the names of metrics and labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// `profile`. Default `tempo`.
    pub profile: Profile,
    /// `namespace`: of span metrics in the profile `otel`, as it stands in the Collector. Default `traces.span.metrics`.
    pub namespace: String,
    /// `unit` of latencies of span metrics in the profile `otel`. Default `ms`.
    pub unit: LatencyUnit,
    /// `invalid_utf8`: how a label that is not UTF-8 is handled. Default `drop`, as in Tempo.
    pub invalid_utf8: InvalidUtf8,
}

/// `naming.invalid_utf8:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidUtf8 {
    /// `drop`: the span, edge or info is not counted.
    Drop,
    /// `replace`: invalid bytes become U+FFFD.
    Replace,
}

/// `naming.profile:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// `tempo`: `traces_spanmetrics_calls_total{service=...}`, seconds.
    Tempo,
    /// `otel`: `traces_span_metrics_calls_total{service_name=...}`, milliseconds; `failed` on edges.
    Otel,
}

/// `naming.unit:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatencyUnit {
    /// `ms`
    Milliseconds,
    /// `s`
    Seconds,
}

/// `histograms:` how all histograms count.
#[derive(Debug, Clone, PartialEq)]
pub struct Histograms {
    /// `mode`. Default `classic`.
    pub mode: HistogramMode,
    /// `native_bucket_factor`: bounds of native buckets grow by at most this. Default 1.1.
    pub native_bucket_factor: f64,
    /// `native_max_buckets`: with more, the resolution of that histogram is halved. Default 100.
    pub native_max_buckets: u16,
    /// `max_duration`: a longer duration is observed as 0 s; 0: no limit. Default 0, as in Tempo.
    pub max_duration: Millis,
}

/// `histograms.mode:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistogramMode {
    /// `classic`: `_bucket`, `_sum`, `_count`.
    Classic,
    /// `native`: one exponential histogram.
    Native,
    /// `both`
    Both,
}

// === impl Naming ===

impl Naming {
    /// How the metrics of spans and edges are named.
    #[must_use]
    pub fn metrics(&self) -> model::Naming {
        let unit = match self.unit {
            LatencyUnit::Milliseconds => Unit::Milliseconds,
            LatencyUnit::Seconds => Unit::Seconds,
        };
        match self.profile {
            Profile::Tempo => model::Naming::Tempo,
            Profile::Otel => model::Naming::Otel { namespace: sanitize_name(&self.namespace), unit },
        }
    }
}

// === impl Histograms ===

impl Histograms {
    /// How a histogram with these classic bounds counts.
    #[must_use]
    pub fn shape(&self, bounds_ns: &[u64]) -> Shape {
        let native = Native::of_factor(self.native_bucket_factor, self.native_max_buckets);
        Shape {
            bounds_ns: (self.mode != HistogramMode::Native).then(|| bounds_ns.to_vec()),
            native: (self.mode != HistogramMode::Classic).then_some(native),
        }
    }

    /// The longest plausible duration in nanoseconds.
    #[must_use]
    pub fn longest_ns(&self) -> u64 {
        match u64::try_from(self.max_duration) {
            Ok(0) | Err(_) => u64::MAX,
            Ok(ms) => ms.saturating_mul(1_000_000),
        }
    }
}

// === impl Default ===

impl Default for Naming {
    fn default() -> Self {
        Self {
            profile: Profile::Tempo,
            namespace: "traces.span.metrics".to_owned(),
            unit: LatencyUnit::Milliseconds,
            invalid_utf8: InvalidUtf8::Drop,
        }
    }
}

impl Default for Histograms {
    fn default() -> Self {
        Self { mode: HistogramMode::Classic, native_bucket_factor: 1.1, native_max_buckets: 100, max_duration: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_factor_becomes_the_coarsest_schema_that_keeps_it() {
        let schemas = [1.1, 2.0, 1.5, 1.0001, 4.0, 1e9, 1.0].map(|factor| Native::of_factor(factor, 100).schema);
        assert_eq!(schemas, [3, 0, 1, 8, -1, -4, 8]);
    }

    #[test]
    fn a_mode_has_classic_buckets_or_native_ones_or_both() {
        let mut histograms = Histograms::default();
        let mut kinds = |mode| {
            histograms.mode = mode;
            let shape = histograms.shape(&[7]);
            (shape.bounds_ns, shape.native.map(|native| native.schema))
        };
        assert_eq!(kinds(HistogramMode::Classic), (Some(vec![7]), None));
        assert_eq!(kinds(HistogramMode::Native), (None, Some(3)));
        assert_eq!(kinds(HistogramMode::Both), (Some(vec![7]), Some(3)));
    }

    #[test]
    fn the_collectors_namespace_is_written_with_underscores() {
        let mut naming = Naming::default();
        assert_eq!(naming.metrics(), model::Naming::Tempo);
        naming.profile = Profile::Otel;
        let namespace = "traces_span_metrics".to_owned();
        assert_eq!(naming.metrics(), model::Naming::Otel { namespace, unit: Unit::Milliseconds });
    }
}
