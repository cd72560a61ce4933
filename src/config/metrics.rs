//! What settings mean for layouts: the names of metrics, and how histograms count.

use super::settings::{HistogramMode, Histograms, LatencyUnit, Naming, Profile};
use crate::model::labels::sanitize_name;
use crate::model::{self, Native, Shape, Unit};

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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_bucket_factor_becomes_the_coarsest_schema_that_keeps_it() {
        let schemas = [1.1, 2.0, 1.5, 1.0001, 4.0, 1e9, 1.0].map(|factor| Native::of_factor(factor, 100).schema);
        assert_eq!(schemas, [3, 0, 1, 8, -1, -4, 8]);
    }

    #[test]
    fn a_mode_has_classic_buckets_or_native_ones_or_both() {
        let mut histograms = Config::default().histograms;
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
        let mut naming = Config::default().naming;
        assert_eq!(naming.metrics(), model::Naming::Tempo);
        naming.profile = Profile::Otel;
        let namespace = "traces_span_metrics".to_owned();
        assert_eq!(naming.metrics(), model::Naming::Otel { namespace, unit: Unit::Milliseconds });
    }
}
