//! The meters of what should not happen, and of what keeps it from doing harm.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{counter, counters, keep, names, opts};

/// Dead letters, bugs, stuck partitions, storms, rests, memory.
pub(super) struct HazardMeters {
    pub(super) dead_letters: IntCounterVec,
    pub(super) panics: IntCounterVec,
    pub(super) stuck: IntCounter,
    pub(super) storms: IntCounter,
    pub(super) rests: IntCounter,
    pub(super) memory: IntGaugeVec,
    pub(super) throttled: IntGauge,
}

impl HazardMeters {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            dead_letters: counters(registry, names::DEAD_LETTERS),
            panics: counters(registry, names::PANICS),
            stuck: counter(registry, names::STUCK),
            storms: counter(registry, names::STORMS),
            rests: counter(registry, names::RESTS),
            memory: keep(registry, IntGaugeVec::new(opts(names::MEMORY), names::MEMORY.labels)),
            throttled: keep(registry, IntGauge::with_opts(opts(names::THROTTLED))),
        }
    }
}
