//! The settings of a shard as bytes, for its journal.
//!
//! ```text
//! version | step | stale after | forget after | zero offset | shards | defaults | tenants: n, then n x (name, own)
//! own: resend unchanged (from version 2 on) | the other settings of a tenant
//! ```

use std::collections::BTreeMap;

use super::{SeriesSettings, TenantBook};
use crate::core::model::StepWidth;
use crate::core::model::wire::{Malformed, Reader, put_i64, put_u64};

/// The latest version. Settings without what it adds are written in version 1, which earlier workers read.
const VERSION: u8 = 2;

/// Settings in a journal that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The bytes are damaged.
    #[error("the settings in the journal are damaged: {0}")]
    Malformed(#[from] Malformed),
    /// A newer spanmill wrote them.
    #[error(
        "the settings in the journal have format version {0}, but this version reads up to {VERSION}; upgrade this \
         worker"
    )]
    Newer(u8),
}

// === impl SeriesSettings ===

impl SeriesSettings {
    /// The bytes of the settings.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // A new field must be encoded, or a step that is closed again may differ.
        let Self { step, stale_after, forget_after, zero_offset, shards, tenants, namer: _, seed: _ } = self;
        let version = tenants.version();
        let mut out = vec![version];
        for ms in [step.ms(), *stale_after, *forget_after, *zero_offset] {
            put_i64(&mut out, ms);
        }
        put_u64(&mut out, u64::from(*shards));
        tenants.encode(version, &mut out);
        out
    }

    /// Reads settings. The names of label sets are those of the group, and the seed decides nothing: both are as in `own`.
    ///
    /// # Errors
    /// When the bytes are not what [`SeriesSettings::encode`] writes, or of a newer version.
    pub fn decode(bytes: &[u8], own: &Self) -> Result<Self, SettingsError> {
        let mut r = Reader::new(bytes);
        let version = r.u8()?;
        if !(1..=VERSION).contains(&version) {
            return Err(SettingsError::Newer(version));
        }
        let settings = Self {
            step: StepWidth::new(r.i64()?).ok_or(Malformed("no width of a step"))?,
            stale_after: r.i64()?,
            forget_after: r.i64()?,
            zero_offset: r.i64()?,
            shards: r.uint()?,
            tenants: TenantBook::decode(version, &mut r)?,
            namer: own.namer.clone(),
            seed: own.seed,
        };
        if r.is_empty() { Ok(settings) } else { Err(Malformed("bytes after the settings").into()) }
    }

    /// The differences between these settings and `new`, one key each, as `key: before -> after`.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let (before, after) = (self.lines(), new.lines());
        // Both have all keys.
        let pairs = before.iter().zip(after.values()).filter(|((_, before), after)| before != after);
        let mut changes: Vec<String> =
            pairs.map(|((key, before), after)| format!("{key}: {before} -> {after}")).collect();
        let tenants = self.tenants.own_that_differ(&new.tenants);
        if tenants > 0 {
            changes.push(format!("overrides of {tenants} tenants"));
        }
        changes
    }

    fn lines(&self) -> BTreeMap<&'static str, String> {
        let ms = |ms: i64| format!("{ms}ms");
        let mut lines = self.tenants.lines();
        lines.extend([
            ("time.step", ms(self.step.ms())),
            ("series.stale_after", ms(self.stale_after)),
            ("series.forget_after", ms(self.forget_after)),
            ("series.zero_offset", ms(self.zero_offset)),
            ("kafka.shards", self.shards.to_string()),
        ]);
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Tenants;
    use crate::config::settings::Config;

    fn tenants() -> Tenants {
        let mut own = Config::default();
        own.core.series.external_labels = [("cluster".to_owned(), "\u{e9}".to_owned())].into();
        own.core.series.exemplar_label = "id".to_owned();
        own.core.limits.max_active_series = u64::MAX;
        own.core.series.write = false;
        Tenants::new(Arc::new(Config::default()), [("a".to_owned(), Arc::new(own))].into())
    }

    #[test]
    fn settings_survive_the_journal_and_damage_is_an_error() {
        let own = SeriesSettings::from(&tenants());
        let settings = own.clone();
        let bytes = settings.encode();
        assert_eq!(SeriesSettings::decode(&bytes, &own), Ok(settings));
        for cut in 0..bytes.len() {
            assert!(SeriesSettings::decode(&bytes[..cut], &own).is_err());
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0xff;
            if let Ok(settings) = SeriesSettings::decode(&bad, &own) {
                assert_eq!(SeriesSettings::decode(&settings.encode(), &own), Ok(settings));
            }
        }
        assert_eq!(SeriesSettings::decode(&[9], &own), Err(SettingsError::Newer(9)));
    }

    #[test]
    fn settings_that_resend_unchanged_series_have_a_version_of_their_own_and_others_stay_as_they_were() {
        let own = SeriesSettings::from(&tenants());
        assert_eq!(own.encode()[0], 1);
        let mut config = Config::default();
        config.core.series.resend_unchanged = 60_000;
        let settings = SeriesSettings::from(&Tenants::from(config));
        let bytes = settings.encode();
        assert_eq!((bytes[0], SeriesSettings::decode(&bytes, &settings)), (2, Ok(settings.clone())));
        assert!(own.changes(&settings).contains(&"series.resend_unchanged: 0ms -> 60000ms".to_owned()));
    }

    #[test]
    fn a_change_names_its_keys_and_values() {
        let before = SeriesSettings::from(&tenants());
        let mut config = Config::default();
        config.core.series.stale_after = 60_000;
        config.core.limits.max_active_series = 7;
        let after = SeriesSettings::from(&Tenants::from(config));
        let expected =
            ["limits.max_active_series: 0 -> 7", "series.stale_after: 900000ms -> 60000ms", "overrides of 1 tenants"];
        assert_eq!(before.changes(&after), expected);
        assert!(before.changes(&before).is_empty());
    }
}
