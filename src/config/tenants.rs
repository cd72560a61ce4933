//! The settings of every tenant: the overrides over the defaults.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::agreed::Agreed;
use super::settings::Config;
use crate::core::settings;

/// Settings by tenant. A tenant without overrides has the defaults.
#[derive(Debug, Clone)]
pub struct Tenants {
    defaults: Arc<Config>,
    overridden: BTreeMap<String, Arc<Config>>,
    /// Computed on demand: that reads every key of every tenant.
    agreed: Arc<OnceLock<Agreed>>,
    /// Made once, however many tasks ask for it: there may be thousands of tenants.
    core: Arc<OnceLock<settings::Tenants>>,
}

impl PartialEq for Tenants {
    fn eq(&self, other: &Self) -> bool {
        self.defaults == other.defaults && self.overridden == other.overridden
    }
}

impl Tenants {
    /// The defaults for all tenants but those in `overridden`, whose settings stand there in full.
    #[must_use]
    pub fn new(defaults: Arc<Config>, overridden: BTreeMap<String, Arc<Config>>) -> Self {
        Self { defaults, overridden, agreed: Arc::default(), core: Arc::default() }
    }

    /// The settings of a tenant.
    #[must_use]
    pub fn of(&self, tenant: &str) -> &Arc<Config> {
        self.overridden.get(tenant).unwrap_or(&self.defaults)
    }

    /// The settings of all tenants without overrides.
    #[must_use]
    pub fn defaults(&self) -> &Arc<Config> {
        &self.defaults
    }

    /// What the workers of a group should agree on.
    #[must_use]
    pub fn agreed(&self) -> &Agreed {
        self.agreed.get_or_init(|| Agreed::of(&self.defaults, self.overridden()))
    }

    /// The settings of the core. All callers share one value.
    #[must_use]
    pub fn core(&self) -> &settings::Tenants {
        self.core.get_or_init(|| {
            let own = |(name, config): (&str, &Arc<Config>)| (name.to_owned(), Arc::new(config.core.clone()));
            settings::Tenants::new(Arc::new(self.defaults.core.clone()), self.overridden().map(own).collect())
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tasks::span::SpanSettings;

    #[test]
    fn tasks_share_the_settings_of_tenants() {
        let own = [("a".to_owned(), Arc::new(Config::default()))].into();
        let tenants = Tenants::new(Arc::new(Config::default()), own);
        let [one, other] = [SpanSettings::from(&tenants), SpanSettings::from(&tenants.clone())];
        for tenant in ["a", "b"] {
            assert!(Arc::ptr_eq(one.tenants.of(tenant), other.tenants.of(tenant)), "{tenant}");
        }
    }
}
