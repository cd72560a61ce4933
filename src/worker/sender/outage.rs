//! Logs what is wrong with an endpoint once a minute, however many shards and tenants meet it, and however often. Its
//! end is logged only if its beginning was: an endpoint that comes and goes does not fill the log.
#![allow(clippy::disallowed_methods, reason = "how often a line is logged is a matter of the clock")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::recipient::Trouble;

/// The interval between two log lines.
const EVERY: Duration = Duration::from_secs(60);

/// The failures of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Since when all attempts at the endpoint have failed.
    dark_since: Option<Instant>,
    /// Tenants that wait.
    waiting: usize,
    /// Since when some have waited.
    since: Option<Instant>,
    /// Attempts that failed since the last line.
    failed: u64,
    said: Option<Instant>,
}

/// The tenant and shard of a failed attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutageSite<'a> {
    pub(super) url: &'a str,
    pub(super) shard: u32,
    pub(super) tenant: &'a str,
    pub(super) step: i64,
}

// === impl Outage ===

impl Outage {
    /// Since when all attempts at the endpoint have failed.
    pub(super) fn dark_since(&self) -> Option<Instant> {
        self.state().dark_since
    }

    /// An attempt has failed; `first` of its tenant.
    pub(super) fn failed(&self, first: bool, place: OutageSite<'_>, trouble: &Trouble) {
        let now = Instant::now();
        let mut state = self.state();
        state.dark_since.get_or_insert(now);
        state.since.get_or_insert(now);
        state.waiting += usize::from(first);
        state.failed += 1;
        let OutageSite { url, shard, tenant, step } = place;
        let Trouble { reason, why, remedy, .. } = trouble;
        if state.said.is_some_and(|said| now - said < EVERY) {
            tracing::debug!(url, shard, ?tenant, step, reason, error = why, "remote write failed, retrying");
            return;
        }
        let (failed, waiting) = (std::mem::take(&mut state.failed), state.waiting);
        state.said = Some(now);
        let seconds = state.since.map_or(0, |since| (now - since).as_secs());
        drop(state);
        tracing::warn!(
            url,
            failed,
            waiting_tenants = waiting,
            seconds,
            reason,
            error = why,
            remedy,
            ?tenant,
            shard,
            step,
            "remote write is failing, retrying; no data is lost as long as Kafka keeps the spans"
        );
    }

    /// An attempt has got an answer that is no failure.
    pub(super) fn answered(&self) {
        self.state().dark_since = None;
    }

    /// A tenant does not wait any more. Logs the end if it was the last one.
    pub(super) fn over(&self, url: &str) {
        let mut state = self.state();
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting > 0 {
            return;
        }
        let Some(since) = state.since.take() else { return };
        let told = state.said.is_some_and(|said| said >= since);
        if told {
            state.failed = 0;
        }
        drop(state);
        let seconds = since.elapsed().as_secs();
        if told {
            tracing::info!(url, seconds, "remote write recovered: no batches are being retried");
        } else {
            tracing::debug!(url, seconds, "remote write recovered: no batches are being retried");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_comes_and_goes_is_said_once_a_minute() {
        let outage = Outage::default();
        let place = OutageSite { url: "http://r/", shard: 0, tenant: "a", step: 0 };
        let trouble = Trouble { reason: "server_error", why: String::new(), remedy: "", after: None };
        outage.failed(true, place, &trouble);
        let said = outage.state().said;
        assert!(said.is_some());
        for unsaid in 1..=3 {
            outage.over(place.url);
            outage.failed(true, place, &trouble);
            let state = outage.state();
            assert_eq!((state.said, state.failed), (said, unsaid));
        }
        outage.state().said = said.and_then(|said| said.checked_sub(EVERY));
        outage.failed(false, place, &trouble);
        let state = outage.state();
        assert!(state.said > said && state.failed == 0, "the minute is over");
    }
}
