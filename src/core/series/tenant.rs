//! What differs between the tenants of a shard when a step is written.
//!
//! Settings decide only what is sent, never what is counted: values, lives and zeros of all tenants continue alike. So
//! a snapshot holds no settings, and a tenant that is written again continues from its present state.
//!
//! - At a step that is no multiple of the tenant's `series.interval`, no value is written and none counts as written:
//!   the zero of a series that began in between comes with its first value, and so does the kept value of one that came
//!   back. Markers come with the step that ends a series, because the next multiple may lie beyond its return.
//!   Exemplars of such a step are skipped.
//! - A step that a tenant is skipped in, because its receiver is down, is like one between two multiples, and markers
//!   are skipped, too: receivers have forgotten the series by then. So no total is lost, only the points in between;
//!   and the last counts of a series that ends before its receiver is back and never returns.
//! - With `series.resend_unchanged`, a set that a step does not change is written at one step in so many, which its name
//!   determines. When it changes after steps at which it was not written, the value that it had comes with the new one, at
//!   the time of the step before: so the increase is where it was, and between two points of a series that are further apart
//!   than a step nothing has changed. Whether the receiver has the value of the last step is part of the state.
//! - While `series.write` is off, every value counts as written. When it is on again, series continue without a start:
//!   what was not sent is no sudden increase.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::emit::merge;
use crate::core::model::labels::written_block;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};
use crate::core::model::{Family, Millis, SetName, StepWidth};
use crate::core::settings::{Limits, Settings};

/// The series settings that a tenant may have of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantSeries {
    /// `series.interval`; 0 for every step.
    pub interval: Millis,
    /// `series.resend_unchanged`; 0 for every step.
    pub resend_unchanged: Millis,
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

impl TenantSeries {
    /// The settings of a tenant, for requests of at most so many samples and bytes.
    #[must_use]
    pub fn new(settings: &Settings, max_samples: usize, max_bytes: usize) -> Self {
        let series = &settings.series;
        let mut external_labels = series.external_labels.clone();
        external_labels.retain(|name, _| name != "__name__" && name != "le");
        Self {
            interval: series.interval,
            resend_unchanged: series.resend_unchanged,
            write: series.write,
            tenant_label: series.tenant_label.clone(),
            external_labels,
            exemplars: series.exemplars,
            exemplar_label: series.exemplar_label.clone(),
            exemplars_on_counters: series.exemplars_on_counters,
            limits: settings.limits.clone(),
            max_samples,
            max_bytes,
            left_out: false,
        }
    }

    /// Appends the bytes of the settings, in a format version that has them all: [`TenantBook::version`].
    fn encode(&self, version: u8, out: &mut Vec<u8>) {
        if version > 1 {
            put_i64(out, self.resend_unchanged);
        }
        put_i64(out, self.interval);
        out.extend([self.write, self.exemplars, self.exemplars_on_counters].map(u8::from));
        put_bytes(out, self.tenant_label.as_bytes());
        put_bytes(out, self.exemplar_label.as_bytes());
        put_u64(out, self.external_labels.len() as u64);
        for text in self.external_labels.iter().flat_map(|(name, value)| [name, value]) {
            put_bytes(out, text.as_bytes());
        }
        let l = &self.limits;
        for limit in [l.max_tenants, l.max_active_series, l.max_active_series_per_service, l.max_cardinality_per_label]
        {
            put_u64(out, limit);
        }
        for size in [l.max_label_name_length, l.max_label_value_length, self.max_samples, self.max_bytes] {
            put_u64(out, size as u64);
        }
    }

    /// Reads what [`TenantSeries::encode`] writes: every field, or this does not compile.
    fn decode(version: u8, r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let resend_unchanged = if version > 1 { r.i64()? } else { 0 };
        let interval = r.i64()?;
        let [write, exemplars, exemplars_on_counters] = r.array()?.map(|flag: u8| flag != 0);
        let (tenant_label, exemplar_label) = (r.str()?.to_owned(), r.str()?.to_owned());
        let mut external_labels = BTreeMap::new();
        for _ in 0..r.u64()? {
            external_labels.insert(r.str()?.to_owned(), r.str()?.to_owned());
        }
        let limits = Limits {
            max_tenants: r.u64()?,
            max_active_series: r.u64()?,
            max_active_series_per_service: r.u64()?,
            max_cardinality_per_label: r.u64()?,
            max_label_name_length: r.uint()?,
            max_label_value_length: r.uint()?,
        };
        let (max_samples, max_bytes) = (r.uint()?, r.uint()?);
        Ok(Self {
            interval,
            resend_unchanged,
            write,
            tenant_label,
            external_labels,
            exemplars,
            exemplar_label,
            exemplars_on_counters,
            limits,
            max_samples,
            max_bytes,
            // For one step only, whose mark holds it.
            left_out: false,
        })
    }

    fn lines(&self) -> BTreeMap<&'static str, String> {
        let Limits { max_active_series, max_active_series_per_service, max_cardinality_per_label, .. } = &self.limits;
        [
            ("series.interval", format!("{}ms", self.interval)),
            ("series.resend_unchanged", format!("{}ms", self.resend_unchanged)),
            ("series.write", self.write.to_string()),
            ("series.tenant_label", format!("{:?}", self.tenant_label)),
            ("series.external_labels", format!("{:?}", self.external_labels)),
            ("series.exemplars.enabled", self.exemplars.to_string()),
            ("series.exemplars.label", format!("{:?}", self.exemplar_label)),
            ("series.exemplars.on_counters", self.exemplars_on_counters.to_string()),
            ("limits.max_tenants", self.limits.max_tenants.to_string()),
            ("limits.max_active_series", max_active_series.to_string()),
            ("limits.max_active_series_per_service", max_active_series_per_service.to_string()),
            ("limits.max_cardinality_per_label", max_cardinality_per_label.to_string()),
            ("limits.max_label_name_length", self.limits.max_label_name_length.to_string()),
            ("limits.max_label_value_length", self.limits.max_label_value_length.to_string()),
            ("remote_write.max_samples", self.max_samples.to_string()),
            ("remote_write.max_bytes", self.max_bytes.to_string()),
        ]
        .into()
    }

    /// Whether values are written at `step`.
    pub(super) fn is_due(&self, step: Millis) -> bool {
        !self.left_out && (self.interval <= 0 || step % self.interval == 0)
    }

    /// Whether some of its label sets are not sent while they do not change.
    pub(super) fn skips_unchanged(&self) -> bool {
        self.resend_unchanged > 0
    }

    /// Whether a set is sent at `step`, though it does not change. Its name decides which of the steps it is, so that about
    /// the same number is sent at each.
    pub(super) fn is_resent(&self, name: SetName, step: Millis, width: StepWidth) -> bool {
        let every = self.resend_unchanged / width.ms();
        let place = |every: i64| (name.0 % every.unsigned_abs() as u128) as i64;
        every <= 1 || (step / width.ms() + place(every)) % every == 0
    }

    /// Whether markers are written.
    pub(super) fn is_told_ends(&self) -> bool {
        self.write && !self.left_out
    }

    /// The label block of a label set as it is written for the tenant: with the labels that every series gets.
    #[must_use]
    pub fn written(&self, tenant: &str, family: Family, block: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        merge(&mut out, &written_block(family, block), &self.labels(tenant));
        out
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

impl TenantBook {
    /// The settings of every tenant without its own, and those of the others.
    #[must_use]
    pub fn new(defaults: TenantSeries, overridden: BTreeMap<String, Arc<TenantSeries>>) -> Self {
        Self { defaults: Arc::new(defaults), overridden: Arc::new(overridden) }
    }

    /// The settings of one tenant.
    #[must_use]
    pub fn of(&self, tenant: &str) -> &Arc<TenantSeries> {
        self.overridden.get(tenant).unwrap_or(&self.defaults)
    }

    /// How many tenants may have series of their own; 0 for all.
    pub(super) fn max_tenants(&self) -> u64 {
        self.defaults.limits.max_tenants
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

    /// The format version of the settings: the first one that has all that differs from its default.
    pub(super) fn version(&self) -> u8 {
        if self.any(TenantSeries::skips_unchanged) { 2 } else { 1 }
    }

    /// Appends the bytes of the settings, for [`super::SeriesSettings::encode`].
    pub(super) fn encode(&self, version: u8, out: &mut Vec<u8>) {
        self.defaults.encode(version, out);
        put_u64(out, self.overridden.len() as u64);
        for (name, own) in self.overridden.iter() {
            put_bytes(out, name.as_bytes());
            own.encode(version, out);
        }
    }

    /// Reads what [`TenantBook::encode`] writes.
    pub(super) fn decode(version: u8, r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let defaults = Arc::new(TenantSeries::decode(version, r)?);
        let mut overridden = BTreeMap::new();
        for _ in 0..r.u64()? {
            overridden.insert(r.str()?.to_owned(), Arc::new(TenantSeries::decode(version, r)?));
        }
        Ok(Self { defaults, overridden: Arc::new(overridden) })
    }

    /// The settings of all tenants without overrides, by key.
    pub(super) fn lines(&self) -> BTreeMap<&'static str, String> {
        self.defaults.lines()
    }

    /// How many tenants have, or had, own settings that are others now.
    pub(super) fn own_that_differ(&self, new: &Self) -> usize {
        let names: BTreeSet<&String> = self.overridden.keys().chain(new.overridden.keys()).collect();
        names.into_iter().filter(|name| self.overridden.get(*name) != new.overridden.get(*name)).count()
    }

    /// Whether all tenants have the same limits as in `other`.
    pub(super) fn limits_as(&self, other: &Self) -> bool {
        let names = self.overridden.keys().chain(other.overridden.keys());
        let mut pairs = names.map(|name| (self.of(name), other.of(name)));
        self.defaults.limits == other.defaults.limits && pairs.all(|(a, b)| a.limits == b.limits)
    }

    /// Whether the settings of any tenant ask for exemplars.
    pub(super) fn exemplars(&self) -> bool {
        self.any(|own| own.exemplars)
    }

    /// Whether the defaults or the settings of any tenant match.
    pub(super) fn any(&self, such: impl Fn(&TenantSeries) -> bool) -> bool {
        such(&self.defaults) || self.overridden.values().any(|own| such(own))
    }
}
