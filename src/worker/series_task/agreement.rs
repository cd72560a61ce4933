//! Whether the workers of the group count by the same settings. Delta records hold the settings that they are counted
//! by; the owner of a shard receives delta records of all sources, and so of all workers that read any.
//!
//! While workers are replaced one after the other they differ, and nothing is lost by that: see
//! [`crate::config::Reach`]. So a difference is logged, and the worker stays ready.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Agreed;
use crate::core::tasks::series::SeriesTask;
use crate::worker::telemetry::SettingsStatus;

/// How often the same difference is logged.
const SAY_EVERY: Duration = Duration::from_secs(600);
/// How long the settings of tenants may differ, beyond two reload intervals of their file.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// What this worker knows of others, by the fingerprint of their settings. Shared by all shards of the worker.
#[derive(Debug, Default)]
pub(super) struct Agreement(Mutex<BTreeMap<u64, Heard>>);

/// Settings that are not those of this worker.
#[derive(Debug)]
struct Heard {
    since: Instant,
    last: Instant,
    said: Option<Instant>,
}

/// Compares the settings of a shard's sources with those of this worker.
pub(super) fn look(task: &SeriesTask, own: &Agreed) -> SettingsStatus {
    let mut status = SettingsStatus::default();
    for (_, _, fingerprint, told) in task.senders().filter(|(_, _, fingerprint, _)| *fingerprint != own.fingerprint()) {
        status.sources += 1;
        let told = told.or_else(|| Agreed::is_of_defaults(fingerprint).then_some(""));
        let differences = || told.map_or_else(Vec::new, |told| own.differences(told));
        status.others.entry(fingerprint).or_insert_with(differences);
    }
    status
}

// === impl Agreement ===

impl Agreement {
    /// Logs the differences, at intervals. `reload_every` is how often this worker reloads the settings of tenants.
    pub(super) fn tell(&self, status: &SettingsStatus, own: &Agreed, reload_every: Duration, present: Instant) {
        for (fingerprint, differences) in &status.others {
            if !self.is_due(*fingerprint, differences, reload_every, present) {
                continue;
            }
            let (own, other) = (format!("{:016x}", own.fingerprint()), format!("{fingerprint:016x}"));
            tracing::warn!(
                own,
                other,
                ?differences,
                "workers of this group have different counting settings; no spans are lost, but the totals mix both \
                 settings. Unless a rollout is under way, give all workers the same configuration; /settings lists \
                 the sources"
            );
        }
    }

    /// Whether a difference is to be logged now.
    fn is_due(&self, fingerprint: u64, differences: &[String], reload_every: Duration, present: Instant) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A difference that was absent for a while is news when it comes back.
        heard.retain(|_, heard| present.saturating_duration_since(heard.last) <= SAY_EVERY);
        let new = Heard { since: present, last: present, said: None };
        let heard = heard.entry(fingerprint).or_insert(new);
        heard.last = present;
        let patience = match Agreed::are_overrides(differences) {
            // Also while no source has reported them yet.
            true => SETTLED_AFTER + 2 * reload_every,
            false => Duration::ZERO,
        };
        let settled = present.saturating_duration_since(heard.since) >= patience;
        let due = settled && heard.said.is_none_or(|said| present.saturating_duration_since(said) >= SAY_EVERY);
        if due {
            heard.said = Some(present);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_said_at_once_and_then_now_and_again() {
        let (agreement, start) = (Agreement::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let keys = ["series.stale_after = 15m here, 1m there".to_owned()];
        let due = |seconds| agreement.is_due(1, &keys, Duration::from_secs(10), at(seconds));
        assert!(due(0));
        assert!((1..600).all(|second| !due(second)));
        assert!(due(600) && !due(601));
        assert!(agreement.is_due(2, &keys, Duration::ZERO, at(601)), "those of another worker");
        assert!(due(1_300), "it had gone and is back");
    }

    #[test]
    fn settings_that_nobody_has_any_more_are_forgotten() {
        let (agreement, start) = (Agreement::default(), Instant::now());
        let keys = ["series.stale_after = 15m here, 1m there".to_owned()];
        // A change of settings every five minutes, for a week.
        for n in 0..2_016 {
            assert!(agreement.is_due(n, &keys, Duration::ZERO, start + Duration::from_secs(300 * n)));
        }
        assert_eq!(agreement.0.lock().map(|heard| heard.len()).ok(), Some(3), "those of the last ten minutes");
    }

    #[test]
    fn settings_of_tenants_have_time_to_reach_all_workers() {
        let (agreement, start) = (Agreement::default(), Instant::now());
        let tenants = ["overrides = 1 of 1 tenants here, none there".to_owned()];
        let due =
            |seconds| agreement.is_due(1, &tenants, Duration::from_secs(10), start + Duration::from_secs(seconds));
        assert!((0..80).all(|second| !due(second)));
        assert!(due(80));
    }
}
