//! One tenant at one endpoint: since when it fails, and when it may be retried.
//!
//! All shards share this state. While a recipient fails, it gets one request at a time, with growing pauses; the first
//! answer that is no failure lets all tracks continue. So a tenant over its limit, or whose receiver is down, costs one
//! request per pause and does not block other tenants.
#![allow(clippy::disallowed_methods, reason = "how long a receiver has been failing is a matter of the clock")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::core::remotewrite::Backoff;
use crate::worker::telemetry::{ReceiverId, Receivers};

use super::client::WOULD_BE_LOST;
use super::concurrency::Concurrency;
use super::delivery::random;
use super::guard::Asked;
use super::halving::Refusals;
use super::metadata::SentMetadata;
use super::quarantine::Quarantine;

/// One tenant at one endpoint.
pub(super) struct Recipient {
    state: Mutex<State>,
    /// Admits one request while it fails.
    pub(super) probe: Semaphore,
    pub(super) concurrency: Concurrency,
    pub(super) refusals: Mutex<Refusals>,
    /// The series that it refuses.
    pub(super) quarantine: Quarantine,
    /// What it knows about metrics.
    pub(super) told: SentMetadata,
    /// What it has answered about old samples.
    pub(super) asked: Asked,
    receivers: Receivers,
    id: ReceiverId,
}

#[derive(Debug, Default)]
struct State {
    /// Failures in a row, one for each pause: requests that fail meanwhile were in flight before, and do not count.
    failures: u32,
    /// The first of them.
    since: Option<Instant>,
    not_before: Option<Instant>,
    /// Whose samples wait.
    waiting: BTreeSet<Site>,
}

/// Where requests come from: a shard, and which of those that it has in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    pub(super) shard: u32,
    pub(super) place: usize,
}

/// Why an attempt failed.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    /// In one word, for metrics.
    pub(super) reason: &'static str,
    /// In full; it may hold text of the receiver.
    pub(super) why: String,
    pub(super) remedy: &'static str,
    /// The pause that the receiver asks for.
    pub(super) after: Option<Duration>,
}

// === impl Recipient ===

impl Recipient {
    /// `quarantine` is the first pause until a series is retried that was refused.
    pub(super) fn new(
        receivers: &Receivers,
        url: String,
        tenant: &Arc<str>,
        quarantine: Duration,
        concurrency: Concurrency,
    ) -> Self {
        let id = receivers.add(url, tenant);
        let (state, refusals) = (Mutex::default(), Mutex::default());
        let (probe, quarantine) = (Semaphore::new(1), Quarantine::new(quarantine));
        let (told, asked) = (SentMetadata::default(), Asked::default());
        Self { state, probe, concurrency, refusals, quarantine, told, asked, receivers: receivers.clone(), id }
    }

    /// The end of the pause, if it fails.
    pub(super) fn pause(&self) -> Option<Instant> {
        self.state().not_before
    }

    /// Since when it fails.
    pub(super) fn failing_since(&self) -> Option<Instant> {
        self.state().since
    }

    /// An attempt for a shard has failed. Returns whether it is the first one to fail, of all that wait.
    pub(super) fn failed(&self, site: Site, trouble: &Trouble, backoff: Backoff) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let first = state.waiting.is_empty();
        state.waiting.insert(site);
        if state.not_before.is_none_or(|at| now >= at) {
            state.failures = state.failures.saturating_add(1);
        }
        state.since.get_or_insert(now);
        let pause = match trouble.after {
            // A little jitter, so that not all shards retry at once.
            Some(after) => after + backoff.delay(1, random()),
            None => backoff.delay(state.failures, random()),
        };
        // Never sooner than another failure has asked for.
        state.not_before = state.not_before.max(now.checked_add(pause));
        match trouble.reason {
            // The reason names the setting to raise, and the value.
            WOULD_BE_LOST => {
                self.receivers.waits(self.id, trouble.reason, &format!("{}; {}", trouble.why, trouble.remedy));
            }
            reason => self.receivers.waits(self.id, reason, trouble.remedy),
        }
        first
    }

    /// An attempt for a shard has got an answer that is no failure. Returns whether it was the last one that waited.
    pub(super) fn answered(&self, site: Site, stored: bool) -> bool {
        let mut state = self.state();
        (state.failures, state.since, state.not_before) = (0, None, None);
        let waited = state.waiting.remove(&site);
        let over = state.waiting.is_empty();
        // Under the lock, so that it does not come after a later report of another shard.
        self.receivers.answers(self.id, stored, over);
        waited && over
    }

    /// A shard has stopped sending. Returns whether it was the last one that waited.
    pub(super) fn leave(&self, site: Site) -> bool {
        let mut state = self.state();
        let left = state.waiting.remove(&site) && state.waiting.is_empty();
        if left {
            self.receivers.rests(self.id);
        }
        left
    }

    /// A request is settled: all of it was refused, or a part was accepted.
    pub(super) fn refused(&self, refused: bool) {
        self.receivers.refuses(self.id, refused);
    }

    /// Reports which series are in quarantine, if that has changed.
    pub(super) fn report_quarantine(&self) {
        if let Some((number, listed)) = self.quarantine.news(Instant::now()) {
            self.receivers.quarantines(self.id, number, listed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Recipient {
    fn drop(&mut self) {
        self.receivers.remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };

    fn trouble(after: Option<Duration>) -> Trouble {
        Trouble { reason: "server_error", why: String::new(), remedy: "", after }
    }

    #[test]
    fn what_fails_in_a_pause_neither_counts_nor_shortens_it() {
        let (receivers, concurrency) = (Receivers::default(), Concurrency::new(1, 1));
        let recipient = Recipient::new(&receivers, "http://r/".to_owned(), &"a".into(), Duration::ZERO, concurrency);
        let site = |shard| Site { shard, place: 0 };
        let asked = Duration::from_secs(60);
        let start = Instant::now();
        recipient.failed(site(0), &trouble(Some(asked)), BACKOFF);
        for shard in 1..64 {
            recipient.failed(site(shard), &trouble(None), BACKOFF);
        }
        assert_eq!(recipient.state().failures, 1);
        assert!(recipient.pause().is_some_and(|until| until >= start + asked));
        recipient.state().not_before = Some(Instant::now());
        recipient.failed(site(0), &trouble(None), BACKOFF);
        assert_eq!(recipient.state().failures, 2, "the pause was over");
    }
}
