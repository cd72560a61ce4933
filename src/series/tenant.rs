//! What differs between the tenants of a shard when a step is written.
//!
//! Settings decide only what is said, never what is counted: values, lives and zeros of all tenants go on alike. So a
//! snapshot holds no settings, and a tenant that is written again goes on where it stands.
//!
//! - At a step that is no multiple of the tenant's `series.interval`, no value is written and none counts as written: the
//!   zero of a series that began in between comes with its first value. Markers come with the step that ends a series,
//!   because the next multiple may lie beyond its return. Exemplars of such a step are left out.
//! - A step that a tenant is left out of, because its receiver is down, is like one between two multiples, and markers are
//!   left out, too: receivers have forgotten the series by then. So no total is lost, only the points in between; and the
//!   last counts of a series that ends before its receiver is back and never returns.
//! - While `series.write` is off, every value counts as written. When it is on again, series go on without a zero, as after
//!   a return from the cold: what was not said is no sudden increase.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Tenants;
use crate::config::settings::{Config, Limits};
use crate::model::Millis;

/// The series settings that a tenant may have of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantSeries {
    /// `series.interval`; 0 for every step.
    pub interval: Millis,
    /// `series.write`
    pub write: bool,
    /// `series.tenant_label`; empty for none.
    pub tenant_label: String,
    /// `series.external_labels`, without `__name__` and `le`, which belong to the metrics.
    pub external_labels: BTreeMap<String, String>,
    /// `series.exemplars.enabled`
    pub exemplars: bool,
    /// `series.exemplars.label`
    pub exemplar_label: String,
    /// `series.exemplars.on_counters`
    pub exemplars_on_counters: bool,
    /// `limits:`
    pub limits: Limits,
    /// `remote_write.max_samples`
    pub max_samples: usize,
    /// `remote_write.max_bytes`
    pub max_bytes: usize,
    /// Whether the tenant's receiver is down, so that this step is not for it.
    left_out: bool,
}

/// The series settings of every tenant. Cloning shares them.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantBook {
    defaults: Arc<TenantSeries>,
    overridden: Arc<BTreeMap<String, Arc<TenantSeries>>>,
}

// === impl TenantSeries ===

impl From<&Config> for TenantSeries {
    fn from(config: &Config) -> Self {
        let (series, remote) = (&config.series, &config.remote_write);
        let mut external_labels = series.external_labels.clone();
        external_labels.retain(|name, _| name != "__name__" && name != "le");
        Self {
            interval: series.interval,
            write: series.write,
            tenant_label: series.tenant_label.clone(),
            external_labels,
            exemplars: series.exemplars,
            exemplar_label: series.exemplar_label.clone(),
            exemplars_on_counters: series.exemplars_on_counters,
            limits: config.limits.clone(),
            max_samples: remote.max_samples,
            max_bytes: remote.max_bytes,
            left_out: false,
        }
    }
}

impl TenantSeries {
    /// Whether values are written at `step`.
    pub(super) fn is_due(&self, step: Millis) -> bool {
        !self.left_out && (self.interval <= 0 || step % self.interval == 0)
    }

    /// Whether markers are written.
    pub(super) fn is_told_ends(&self) -> bool {
        self.write && !self.left_out
    }

    /// The labels that every series of the tenant gets.
    pub(super) fn labels(&self, tenant: &str) -> Cow<'_, BTreeMap<String, String>> {
        if self.tenant_label.is_empty() {
            return Cow::Borrowed(&self.external_labels);
        }
        let mut labels = self.external_labels.clone();
        labels.insert(self.tenant_label.clone(), tenant.to_owned());
        Cow::Owned(labels)
    }
}

// === impl TenantBook ===

impl From<&Tenants> for TenantBook {
    fn from(tenants: &Tenants) -> Self {
        let own = |config: &Config| Arc::new(TenantSeries::from(config));
        let overridden = tenants.overridden().map(|(name, config)| (name.to_owned(), own(config)));
        Self { defaults: own(tenants.defaults()), overridden: Arc::new(overridden.collect()) }
    }
}

impl TenantBook {
    /// The settings of one tenant.
    #[must_use]
    pub fn of(&self, tenant: &str) -> &Arc<TenantSeries> {
        self.overridden.get(tenant).unwrap_or(&self.defaults)
    }

    /// The same for one step that is not written for some tenants.
    pub(super) fn without(&self, left_out: &[String]) -> Self {
        let mut overridden = (*self.overridden).clone();
        for tenant in left_out {
            let own = TenantSeries { left_out: true, ..(**self.of(tenant)).clone() };
            overridden.insert(tenant.clone(), Arc::new(own));
        }
        Self { defaults: Arc::clone(&self.defaults), overridden: Arc::new(overridden) }
    }

    /// Whether anybody wants exemplars.
    pub(super) fn exemplars(&self) -> bool {
        self.any(|own| own.exemplars)
    }

    /// Whether anybody's settings are such.
    pub(super) fn any(&self, such: impl Fn(&TenantSeries) -> bool) -> bool {
        such(&self.defaults) || self.overridden.values().any(|own| such(own))
    }
}
