//! The settings of every tenant: the overrides over the defaults.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::settings::Config;

/// Settings by tenant. A tenant without overrides has the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenants {
    defaults: Arc<Config>,
    overridden: BTreeMap<String, Arc<Config>>,
}

impl Tenants {
    /// The defaults for everybody but those in `overridden`, whose settings stand there in full.
    #[must_use]
    pub fn new(defaults: Arc<Config>, overridden: BTreeMap<String, Arc<Config>>) -> Self {
        Self { defaults, overridden }
    }

    /// The settings of a tenant.
    #[must_use]
    pub fn of(&self, tenant: &str) -> &Arc<Config> {
        self.overridden.get(tenant).unwrap_or(&self.defaults)
    }

    /// The settings of everybody without overrides.
    #[must_use]
    pub fn defaults(&self) -> &Arc<Config> {
        &self.defaults
    }

    /// The tenants with overrides, in order.
    pub fn overridden(&self) -> impl Iterator<Item = (&str, &Arc<Config>)> {
        self.overridden.iter().map(|(name, config)| (name.as_str(), config))
    }
}

impl From<Config> for Tenants {
    fn from(defaults: Config) -> Self {
        Self::new(Arc::new(defaults), BTreeMap::new())
    }
}
