//! The settings of the core's tasks, from the whole configuration.

use std::sync::Arc;

use super::{Config, Tenants};
use crate::config::settings::{RemoteWrite, TenantSource};
use crate::core::model::{Namer, Seed};
use crate::core::series::{SeriesSettings, TenantBook, TenantSeries};
use crate::core::tasks::span::SpanSettings;

impl From<&Config> for SpanSettings {
    fn from(config: &Config) -> Self {
        Self::from(&Tenants::from(config.clone()))
    }
}

impl From<&Tenants> for SpanSettings {
    fn from(tenants: &Tenants) -> Self {
        let config = tenants.defaults();
        let agreed = tenants.agreed();
        Self {
            encoding: config.kafka.encoding,
            step: config.core.time.step,
            lateness: config.core.time.allowed_lateness(),
            max_future: config.core.time.max_future,
            shards: config.kafka.shards,
            max_commit_bytes: config.worker.max_commit_bytes,
            respell_after: config.core.series.stale_after,
            tenant_attribute: match &config.tenant {
                TenantSource::Attribute { key, .. } => Some(key.clone()),
                _ => None,
            },
            tenants: tenants.core().clone(),
            agreed: (agreed.fingerprint(), Arc::clone(agreed.text())),
            namer: Namer::of_group(&config.kafka.group),
            seed: Seed::default(),
        }
    }
}

impl Tenants {
    /// The settings of a span task of a source topic.
    #[must_use]
    pub fn span_settings_of(&self, topic: &str) -> SpanSettings {
        let config = self.defaults();
        let fixed = matches!(config.tenant_of(topic), TenantSource::Static(_));
        let settings = SpanSettings::from(self);
        SpanSettings {
            encoding: config.kafka.encoding_of(topic),
            tenant_attribute: settings.tenant_attribute.filter(|_| !fixed),
            ..settings
        }
    }
}

impl From<&Tenants> for SeriesSettings {
    fn from(tenants: &Tenants) -> Self {
        let config = tenants.defaults();
        let (time, series) = (&config.core.time, &config.core.series);
        Self {
            step: time.step,
            stale_after: series.stale_after,
            forget_after: series.forget_after,
            zero_offset: series.zero_offset.min(time.step.ms() - 1),
            shards: config.kafka.shards,
            tenants: tenants.into(),
            namer: Namer::of_group(&config.kafka.group),
            seed: Seed::default(),
        }
    }
}

impl From<&Tenants> for TenantBook {
    fn from(tenants: &Tenants) -> Self {
        let own = |(name, config): (&str, &Arc<Config>)| (name.to_owned(), Arc::new(TenantSeries::from(&**config)));
        Self::new(TenantSeries::from(&**tenants.defaults()), tenants.overridden().map(own).collect())
    }
}

impl From<&Config> for TenantSeries {
    fn from(config: &Config) -> Self {
        // All endpoints get the same requests.
        let least = |of: fn(&RemoteWrite) -> usize| config.endpoints().map(of).min().unwrap_or_default();
        Self::new(&config.core, least(|remote| remote.max_samples), least(|remote| remote.max_bytes))
    }
}
