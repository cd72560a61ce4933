//! The settings of the tenants that apply now. Tasks take new ones over at their next turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::Tenants;
use crate::core::model::Seed;
use crate::core::tasks::series::SeriesSettings;
use crate::core::tasks::span::SpanSettings;

/// The settings that apply now.
#[derive(Debug)]
pub(crate) struct InForce {
    /// Grows with every change, so that tasks see it at a glance.
    pub(crate) generation: u64,
    /// The settings of every tenant.
    pub(crate) tenants: Tenants,
}

/// Where tasks look for the settings of tenants. Written by the thread that follows the overrides.
pub(crate) struct TenantSettings {
    in_force: RwLock<Arc<InForce>>,
    /// Their generation once more, to be looked at without a lock.
    generation: AtomicU64,
    /// Hides where keys lie in memory from those who choose them.
    seed: Seed,
}

// === impl TenantSettings ===

impl TenantSettings {
    /// The first ones.
    pub(crate) fn new(tenants: Tenants) -> Self {
        let in_force = InForce { generation: 0, tenants };
        Self {
            generation: AtomicU64::new(in_force.generation),
            in_force: RwLock::new(Arc::new(in_force)),
            seed: Seed::new(rand::random()),
        }
    }

    /// The settings of the tenants.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The settings of the tenants, if they are others than those of `generation`.
    pub(crate) fn newer_than(&self, generation: u64) -> Option<Arc<InForce>> {
        (self.generation.load(Ordering::Acquire) != generation).then(|| self.in_force())
    }

    /// What the span tasks of this worker work by that read `topic`.
    pub(crate) fn span_settings(&self, tenants: &Tenants, topic: &str) -> SpanSettings {
        tenants.span_settings_of(topic).seeded(self.seed)
    }

    /// What the series tasks of this worker work by.
    pub(crate) fn series_settings(&self, tenants: &Tenants) -> SeriesSettings {
        SeriesSettings::from(tenants).seeded(self.seed)
    }

    /// Gives the tenants other settings. Tasks take them over at their next turn.
    pub(crate) fn put_in_force(&self, tenants: Tenants) {
        let mut slot = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        let generation = slot.generation + 1;
        *slot = Arc::new(InForce { generation, tenants });
        self.generation.store(generation, Ordering::Release);
    }
}
