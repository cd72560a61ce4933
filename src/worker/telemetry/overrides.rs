//! Which tenants have settings of their own, for the admin server and for metrics. It holds names only, and so no
//! secret.

use std::sync::{Mutex, PoisonError};

use prometheus::{GaugeVec, IntCounterVec, IntGauge, Registry};

use super::meters::{counters, keep, opts};
use super::names;

/// The settings of tenants, as seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// A checksum of the active file; empty when there is none.
    pub version: String,
    /// The tenants with settings of their own, in order.
    pub tenants: Vec<String>,
    /// Whether the last reload of the file failed.
    pub refused: bool,
}

/// The meters of the overrides.
pub(super) struct OverridesMeters {
    shown: Mutex<Overrides>,
    info: GaugeVec,
    tenants: IntGauge,
    successful: IntGauge,
    reloads: IntCounterVec,
}

// === impl OverridesMeters ===

impl OverridesMeters {
    pub(super) fn new(registry: &Registry) -> Self {
        let made = Self {
            shown: Mutex::default(),
            info: keep(registry, GaugeVec::new(opts(names::OVERRIDES), names::OVERRIDES.labels)),
            tenants: keep(registry, IntGauge::with_opts(opts(names::OVERRIDES_TENANTS))),
            successful: keep(registry, IntGauge::with_opts(opts(names::OVERRIDES_LOADED))),
            reloads: counters(registry, names::OVERRIDES_RELOADS, ["loaded", "failed"]),
        };
        made.successful.set(1);
        made
    }

    pub(super) fn loaded(&self, version: String, tenants: Vec<String>) {
        self.info.reset();
        self.info.with_label_values(&[version.as_str()]).set(1.0);
        self.tenants.set(tenants.len() as i64);
        self.successful.set(1);
        self.reloads.with_label_values(&["loaded"]).inc();
        self.show(|shown| *shown = Overrides { version, tenants, refused: false });
    }

    pub(super) fn refused(&self) {
        self.successful.set(0);
        self.reloads.with_label_values(&["failed"]).inc();
        self.show(|shown| shown.refused = true);
    }

    pub(super) fn shown(&self) -> Overrides {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, change: impl FnOnce(&mut Overrides)) {
        change(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
