//! What is in force for which tenants, for the admin server and for metrics. It holds names and no settings, so no secret.

use std::sync::{Mutex, PoisonError};

use prometheus::{GaugeVec, IntCounterVec, IntGauge, Registry};

use super::names;
use super::{counters, keep, opts};

/// The settings of tenants, as seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// A checksum of the file in force; empty when there is none.
    pub version: String,
    /// The tenants with settings of their own, in order.
    pub tenants: Vec<String>,
    /// Whether the file has changed since and cannot be used.
    pub refused: bool,
}

/// The meters of the overrides.
pub(super) struct OverridesMeters {
    shown: Mutex<Overrides>,
    info: GaugeVec,
    tenants: IntGauge,
    refused: IntGauge,
    reloads: IntCounterVec,
}

// === impl OverridesMeters ===

impl OverridesMeters {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            shown: Mutex::default(),
            info: keep(registry, GaugeVec::new(opts(names::OVERRIDES), names::OVERRIDES.labels)),
            tenants: keep(registry, IntGauge::with_opts(opts(names::OVERRIDES_TENANTS))),
            refused: keep(registry, IntGauge::with_opts(opts(names::OVERRIDES_REFUSED))),
            reloads: counters(registry, names::OVERRIDES_RELOADS),
        }
    }

    pub(super) fn loaded(&self, version: String, tenants: Vec<String>) {
        self.info.reset();
        self.info.with_label_values(&[version.as_str()]).set(1.0);
        self.tenants.set(tenants.len() as i64);
        self.refused.set(0);
        self.reloads.with_label_values(&["loaded"]).inc();
        self.show(|shown| *shown = Overrides { version, tenants, refused: false });
    }

    pub(super) fn refused(&self) {
        self.refused.set(1);
        self.reloads.with_label_values(&["refused"]).inc();
        self.show(|shown| shown.refused = true);
    }

    pub(super) fn shown(&self) -> Overrides {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, change: impl FnOnce(&mut Overrides)) {
        change(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
