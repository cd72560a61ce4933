//! The settings by which this worker counts, for the admin server and for metrics.

use std::sync::{Mutex, PoisonError};

use prometheus::{GaugeVec, IntCounter, Registry};

use super::meters::{counter, keep, opts};
use super::names;

/// The settings of this worker that others should have, too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Equal settings have equal ones.
    pub fingerprint: u64,
    /// Those that are not the defaults, as `key = value`.
    pub lines: Vec<String>,
}

/// The meters of the settings.
pub(super) struct SettingsMeters {
    shown: Mutex<Settings>,
    info: GaugeVec,
    pub(super) changes: IntCounter,
}

// === impl SettingsMeters ===

impl SettingsMeters {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            shown: Mutex::default(),
            info: keep(registry, GaugeVec::new(opts(names::SETTINGS), names::SETTINGS.labels)),
            changes: counter(registry, names::SETTINGS_CHANGES),
        }
    }

    pub(super) fn in_force(&self, fingerprint: u64, text: &str) {
        self.info.reset();
        self.info.with_label_values(&[&format!("{fingerprint:016x}")]).set(1.0);
        let lines = text.lines().map(str::to_owned).collect();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Settings { fingerprint, lines };
    }

    pub(super) fn shown(&self) -> Settings {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
