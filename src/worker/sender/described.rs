//! What the metrics of users are about, tenant by tenant: the settings know it, and series do not.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::Tenants;
use crate::config::settings::Config;
use crate::core::remotewrite::metadata::Descriptions;

/// The active descriptions.
#[derive(Debug, Default)]
pub(super) struct Described(RwLock<ByTenant>);

#[derive(Debug, Default)]
struct ByTenant {
    others: Arc<Descriptions>,
    overridden: BTreeMap<String, Arc<Descriptions>>,
}

fn of(config: &Config) -> Arc<Descriptions> {
    let all = config.core.all_attribute_metrics().into_iter();
    Arc::new(all.map(|metric| (metric.name.clone(), (metric.help(), metric.shown_unit().to_owned()))).collect())
}

// === impl Described ===

impl Described {
    /// Replaces them.
    pub(super) fn set(&self, tenants: &Tenants) {
        let overridden = tenants.overridden().map(|(name, config)| (name.to_owned(), of(config))).collect();
        let all = ByTenant { others: of(tenants.defaults()), overridden };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Those of a tenant.
    pub(super) fn of(&self, tenant: &str) -> Arc<Descriptions> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.overridden.get(tenant).unwrap_or(&all.others))
    }
}
