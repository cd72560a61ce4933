//! The active settings of the tenants. Tasks apply new ones at their next turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::Tenants;
use crate::core::model::Seed;
use crate::core::tasks::series::SeriesSettings;
use crate::core::tasks::span::SpanSettings;

/// The active settings.
#[derive(Debug)]
pub(crate) struct InForce {
    /// Increases with every change, so that tasks detect it cheaply.
    pub(crate) generation: u64,
    /// The settings of every tenant.
    pub(crate) tenants: Tenants,
}

/// Where tasks read the settings of tenants. The thread that follows the overrides writes it.
pub(crate) struct TenantSettings {
    in_force: RwLock<Arc<InForce>>,
    /// A copy of their generation, readable without a lock.
    generation: AtomicU64,
    /// Keeps senders that choose keys from knowing where these lie in memory.
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

    /// The settings of the tenants, if they are newer than `generation`.
    pub(crate) fn newer_than(&self, generation: u64) -> Option<Arc<InForce>> {
        (self.generation.load(Ordering::Acquire) != generation).then(|| self.in_force())
    }

    /// The settings of this worker's span tasks that read `topic`.
    pub(crate) fn span_settings(&self, tenants: &Tenants, topic: &str) -> SpanSettings {
        tenants.span_settings_of(topic).seeded(self.seed)
    }

    /// The settings of this worker's series tasks.
    pub(crate) fn series_settings(&self, tenants: &Tenants) -> SeriesSettings {
        SeriesSettings::from(tenants).seeded(self.seed)
    }

    /// Replaces the settings of the tenants. Tasks apply them at their next turn.
    pub(crate) fn put_in_force(&self, tenants: Tenants) {
        let mut slot = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        let generation = slot.generation + 1;
        *slot = Arc::new(InForce { generation, tenants });
        self.generation.store(generation, Ordering::Release);
    }
}
