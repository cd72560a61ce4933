//! How meters are made from the list of names: registered, and there from the start.

use prometheus::core::Collector;
use prometheus::{HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use super::names::Metric;

pub(super) fn opts(m: Metric) -> Opts {
    Opts::new(m.name, m.help)
}

pub(super) fn histogram(m: Metric, bounds: &[f64]) -> HistogramOpts {
    HistogramOpts::new(m.name, m.help).buckets(bounds.to_vec())
}

pub(super) fn counter(registry: &Registry, m: Metric) -> IntCounter {
    keep(registry, IntCounter::with_opts(opts(m)))
}

/// Counters by the value of one label. The known values exist from the start: `increase()` does not see the first event
/// of a series that begins with it, so an alert would miss it.
pub(super) fn counters(registry: &Registry, m: Metric, known: impl IntoIterator<Item = &'static str>) -> IntCounterVec {
    let counters = keep(registry, IntCounterVec::new(opts(m), m.labels));
    known.into_iter().for_each(|value| drop(counters.with_label_values(&[value])));
    counters
}

pub(super) fn keep<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let made = made.expect("names.rs holds legal metrics");
    registry.register(Box::new(made.clone())).expect("names are distinct");
    made
}
