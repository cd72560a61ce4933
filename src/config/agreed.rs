//! What the workers of a group should agree on: the settings that decide a number, as text, and a fingerprint of them.
//!
//! The text holds only what differs from the defaults, so that a version with more keys agrees with one that does not
//! know them. It goes to other workers and to logs: no key that decides a number holds a secret.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::draft::{Draft, DraftField};
use super::keys;
use super::reach::{Reach, reach};
use super::settings::Config;
use super::value::{show, show_text};

/// Stands for the settings of tenants, of which the text holds only the fingerprint.
const OVERRIDES: &str = "overrides";

/// The settings that decide a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    fingerprint: u64,
    text: Arc<str>,
}

// === impl Agreed ===

impl Agreed {
    pub(super) fn of<'a>(defaults: &Config, overridden: impl Iterator<Item = (&'a str, &'a Arc<Config>)>) -> Self {
        let mut text = String::new();
        for (key, value) in said(defaults, &Draft::default()) {
            writeln!(text, "{key} = {value}").expect("a string takes everything");
        }
        let (mut tenants, mut own) = (0, String::new());
        for (name, config) in overridden {
            tenants += 1;
            let said = said(config, &Draft::of(defaults));
            writeln!(own, "{} {said:?}", show_text(name)).expect("a string takes everything");
        }
        if tenants > 0 {
            writeln!(text, "{OVERRIDES} = {:016x} of {tenants} tenants", xxh3_64(own.as_bytes()))
                .expect("a string takes everything");
        }
        Self { fingerprint: xxh3_64(text.as_bytes()), text: text.into() }
    }

    /// The fingerprint; equal settings have equal ones.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Whether settings with this fingerprint are all the defaults.
    #[must_use]
    pub fn is_of_defaults(fingerprint: u64) -> bool {
        fingerprint == xxh3_64(b"")
    }

    /// The settings that are not the defaults, one `key = value` per line.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// What is different in the settings of `other`, in the form of [`Agreed::text`]: one key each, with both
    /// values.
    #[must_use]
    pub fn differences(&self, other: &str) -> Vec<String> {
        let (here, there) = (lines(&self.text), lines(other));
        let mut keys: Vec<&str> = here.keys().chain(there.keys()).copied().collect();
        keys.sort_unstable();
        keys.dedup();
        let value =
            |lines: &BTreeMap<&str, &str>, key| lines.get(key).map_or_else(|| default(key), |v| (*v).to_owned());
        let values = keys.into_iter().map(|key| (key, value(&here, key), value(&there, key)));
        let differ = values.filter(|(_, here, there)| here != there);
        differ.map(|(key, here, there)| format!("{key} = {here} here, {there} there")).collect()
    }

    /// Whether these differences are in the settings of tenants alone: they change while workers run, and not at once.
    #[must_use]
    pub fn are_overrides(differences: &[String]) -> bool {
        differences.iter().all(|line| line.strip_prefix(OVERRIDES).is_some_and(|rest| rest.starts_with(" = ")))
    }
}

fn lines(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(" = ")).collect()
}

/// The default of a key.
fn default(path: &str) -> String {
    match keys::find(path) {
        Some(key) => shown(&(key.slot)(&mut Draft::default())),
        None => "none".to_owned(),
    }
}

/// The keys that decide a number and are not as in `base`, with their values.
fn said(config: &Config, base: &Draft) -> Vec<(&'static str, String)> {
    let (mut draft, mut base) = (Draft::of(config), base.clone());
    let counts = keys::all().filter(|key| reach(key.path).is_none_or(Reach::counts));
    let mut value = |key: &keys::ConfigKey| (shown(&(key.slot)(&mut draft)), shown(&(key.slot)(&mut base)));
    counts
        .map(|key| (key.path, value(key)))
        .filter(|(_, (own, base))| own != base)
        .map(|(path, v)| (path, v.0))
        .collect()
}

/// The value of a slot on one line. No key that decides a number is a secret.
fn shown(slot: &DraftField<'_>) -> String {
    match slot {
        DraftField::Labels(labels) => {
            let pairs = labels.iter().map(|(name, value)| format!("{}: {}", show_text(name), show_text(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        slot => show(slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Tenants;

    fn agreed(change: impl FnOnce(&mut Config)) -> Agreed {
        let mut config = Config::default();
        change(&mut config);
        Tenants::from(config).agreed().clone()
    }

    #[test]
    fn defaults_say_nothing_and_a_difference_names_its_key_and_both_values() {
        let (here, there) = (agreed(|_| ()), agreed(|c| c.core.series.stale_after = 60_000));
        assert_eq!(&**here.text(), "");
        assert!(Agreed::is_of_defaults(here.fingerprint()) && !Agreed::is_of_defaults(there.fingerprint()));
        assert_eq!(&**there.text(), "series.stale_after = 1m\n");
        assert_ne!(here.fingerprint(), there.fingerprint());
        assert_eq!(here.differences(there.text()), ["series.stale_after = 15m here, 1m there"]);
        assert_eq!(there.differences(here.text()), ["series.stale_after = 1m here, 15m there"]);
        assert!(there.differences(there.text()).is_empty());
        let labels = agreed(|c| c.core.series.external_labels = [("a".to_owned(), "x\ny = z".to_owned())].into());
        assert_eq!(labels.text().lines().count(), 1, "a value forges no line: {}", labels.text());
        assert_eq!(here.differences(labels.text()).len(), 1);
    }

    #[test]
    fn what_is_each_workers_own_and_what_is_secret_is_not_said() {
        let own = agreed(|c| {
            c.kafka.brokers = "elsewhere:9092".to_owned();
            c.remote_write.url = "http://user:secret@h/".to_owned();
            c.worker.threads = 77;
        });
        assert_eq!(own, agreed(|_| ()));
    }

    #[test]
    fn tenants_count_and_are_told_from_the_rest() {
        let mut other = Config::default();
        other.core.limits.max_active_series = 5;
        let with = |other: Config| {
            let own = [("a".to_owned(), Arc::new(other))].into();
            Tenants::new(Arc::new(Config::default()), own).agreed().clone()
        };
        let (here, there) = (with(Config::default()), with(other));
        let differences = here.differences(there.text());
        assert!(differences.len() == 1 && Agreed::are_overrides(&differences), "{differences:?}");
        let mixed = here.differences(agreed(|c| c.core.time.idle = 9).text());
        assert!(mixed.len() == 2 && !Agreed::are_overrides(&mixed), "{mixed:?}");
    }

    #[test]
    fn a_key_of_a_newer_version_is_a_difference_without_a_default() {
        assert_eq!(agreed(|_| ()).differences("time.new = 5\n"), ["time.new = none here, 5 there"]);
    }
}
