//! How the metrics of a tenant's spans are laid out.

use crate::core::model::{Family, Spec};
use crate::core::settings::Settings;

/// What the layout of a family is made from; `bounds_ns` are the classic buckets of each of its histograms, `None` for one
/// that is never observed.
pub(super) fn spec(config: &Settings, family: Family, weighted: bool, bounds_ns: &[Option<&[u64]>]) -> Spec {
    let histograms = bounds_ns.iter().map(|bounds| bounds.map(|bounds| config.histograms.shape(bounds)));
    Spec { family, naming: config.naming.metrics(), weighted, histograms: histograms.collect() }
}
