//! Meters of the repartition stage.

use prometheus::{IntCounter, IntGauge, Registry};

use super::meters::{counter, keep, opts};
use super::names;
use crate::core::model::Millis;

/// What the repartition stage of this worker has done.
#[derive(Debug)]
pub struct RepartitionMeters {
    records: IntCounter,
    pieces: IntCounter,
    spans: IntCounter,
    transactions: IntCounter,
    aborted: IntCounter,
    lost: IntCounter,
    unread: IntGauge,
    behind: IntGauge,
}

// === impl RepartitionMeters ===

impl RepartitionMeters {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            records: counter(registry, names::REPARTITION_READ),
            pieces: counter(registry, names::REPARTITION_WRITTEN),
            spans: counter(registry, names::REPARTITION_SPANS),
            transactions: counter(registry, names::REPARTITION_TRANSACTIONS),
            aborted: counter(registry, names::REPARTITION_ABORTED),
            lost: counter(registry, names::REPARTITION_LOST),
            unread: keep(registry, IntGauge::with_opts(opts(names::REPARTITION_LAG_RECORDS))),
            behind: keep(registry, IntGauge::with_opts(opts(names::REPARTITION_LAG_SECONDS))),
        }
    }

    /// Counts a record that was passed on, with its pieces and spans.
    pub fn passed_on(&self, pieces: u64, spans: u64) {
        self.records.inc();
        self.pieces.inc_by(pieces);
        self.spans.inc_by(spans);
    }

    /// Counts a transaction that was committed.
    pub fn committed(&self) {
        self.transactions.inc();
    }

    /// Counts one that was aborted.
    pub fn aborted(&self) {
        self.aborted.inc();
    }

    /// Counts records that expired before they were read.
    pub fn lost(&self, records: u64) {
        self.lost.inc_by(records);
    }

    /// Shows how many records of its partitions are unread, and how old the next of them is.
    pub fn lags(&self, records: u64, behind: Millis) {
        self.unread.set(i64::try_from(records).unwrap_or(i64::MAX));
        self.behind.set(behind / 1_000);
    }
}
