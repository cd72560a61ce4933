//! The metrics of failures, and of what limits their damage.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::meters::{counter, counters, keep, opts};
use super::{TaskKind, names};

/// The requests for internal topics that may fail for long.
pub(crate) const CREATE_PARTITIONS: &str = "create_partitions";
pub(crate) const DELETE_RECORDS: &str = "delete_records";
pub(crate) const DESCRIBE_CONFIGS: &str = "describe_configs";
const ADMIN_REQUESTS: [&str; 3] = [CREATE_PARTITIONS, DELETE_RECORDS, DESCRIBE_CONFIGS];

/// Dead letters, bugs, stuck partitions, storms, group backoffs, internal topics, memory.
pub(super) struct HazardMeters {
    pub(super) dead_letters: IntCounterVec,
    pub(super) panics: IntCounterVec,
    pub(super) stuck: IntCounter,
    pub(super) sent_again: IntCounter,
    pub(super) storms: IntCounter,
    pub(super) rests: IntCounter,
    pub(super) admin_failures: IntCounterVec,
    pub(super) at_risk: IntGaugeVec,
    pub(super) topics_skipped: IntGauge,
    pub(super) memory: IntGaugeVec,
    pub(super) reserved: IntGaugeVec,
    pub(super) throttled: IntGauge,
    pub(super) deltas_lost: IntCounter,
    pub(super) clock_ahead: Gauge,
    pub(super) desired_workers: Gauge,
}

impl HazardMeters {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            dead_letters: counters(registry, names::DEAD_LETTERS, ["stored", "failed"]),
            panics: counters(registry, names::PANICS, TaskKind::NAMES),
            stuck: counter(registry, names::STUCK),
            sent_again: counter(registry, names::SENT_AGAIN),
            storms: counter(registry, names::STORMS),
            rests: counter(registry, names::RESTS),
            admin_failures: counters(registry, names::ADMIN_FAILURES, ADMIN_REQUESTS),
            at_risk: keep(registry, IntGaugeVec::new(opts(names::TOPICS_AT_RISK), names::TOPICS_AT_RISK.labels)),
            topics_skipped: keep(registry, IntGauge::with_opts(opts(names::TOPICS_SKIPPED))),
            memory: keep(registry, IntGaugeVec::new(opts(names::MEMORY), names::MEMORY.labels)),
            deltas_lost: counter(registry, names::DELTAS_LOST),
            reserved: keep(registry, IntGaugeVec::new(opts(names::MEMORY_RESERVED), names::MEMORY_RESERVED.labels)),
            clock_ahead: keep(registry, Gauge::with_opts(opts(names::CLOCK_AHEAD))),
            desired_workers: keep(registry, Gauge::with_opts(opts(names::DESIRED_WORKERS))),
            throttled: keep(registry, IntGauge::with_opts(opts(names::THROTTLED))),
        }
    }
}
