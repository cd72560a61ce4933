//! How the metrics of a tenant are named, and how its histograms count.

use crate::config::settings::{Config, HistogramMode, LatencyUnit, Profile};
use crate::model::labels::sanitize_name;
use crate::model::{Family, Naming, Native, Shape, Spec, Unit};

/// What the layout of a family is made from; `bounds_ns` are the classic buckets of each of its histograms, `None` for one
/// that is never observed.
pub(super) fn spec(config: &Config, family: Family, weighted: bool, bounds_ns: &[Option<&[u64]>]) -> Spec {
    let histograms = bounds_ns.iter().map(|bounds| bounds.map(|bounds| shape(config, bounds)));
    Spec { family, naming: naming(config), weighted, histograms: histograms.collect() }
}

/// The Collector's namespace is written as its Prometheus exporter writes it.
fn naming(config: &Config) -> Naming {
    let unit = match config.naming.unit {
        LatencyUnit::Milliseconds => Unit::Milliseconds,
        LatencyUnit::Seconds => Unit::Seconds,
    };
    match config.naming.profile {
        Profile::Tempo => Naming::Tempo,
        Profile::Otel => Naming::Otel { namespace: sanitize_name(&config.naming.namespace), unit },
    }
}

fn shape(config: &Config, bounds_ns: &[u64]) -> Shape {
    let settings = &config.histograms;
    let native = Native::of_factor(settings.native_bucket_factor, settings.native_max_buckets);
    Shape {
        bounds_ns: (settings.mode != HistogramMode::Native).then(|| bounds_ns.to_vec()),
        native: (settings.mode != HistogramMode::Classic).then_some(native),
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
        let mut config = Config::default();
        let mut kinds = |mode| {
            config.histograms.mode = mode;
            let shape = shape(&config, &[7]);
            (shape.bounds_ns, shape.native.map(|native| native.schema))
        };
        assert_eq!(kinds(HistogramMode::Classic), (Some(vec![7]), None));
        assert_eq!(kinds(HistogramMode::Native), (None, Some(3)));
        assert_eq!(kinds(HistogramMode::Both), (Some(vec![7]), Some(3)));
    }

    #[test]
    fn the_collectors_namespace_is_written_with_underscores() {
        let mut config = Config::default();
        assert_eq!(naming(&config), Naming::Tempo);
        config.naming.profile = Profile::Otel;
        let namespace = "traces_span_metrics".to_owned();
        assert_eq!(naming(&config), Naming::Otel { namespace: namespace.clone(), unit: Unit::Milliseconds });
        config.naming.unit = LatencyUnit::Seconds;
        assert_eq!(naming(&config), Naming::Otel { namespace, unit: Unit::Seconds });
    }
}
