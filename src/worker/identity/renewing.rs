//! Credentials that are renewed in the background before they expire: a request never waits while the current ones are
//! valid. Failures are retried, and logged.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;

/// Credentials are renewed this long before they expire, or when a third of their life is left, and looked up again this
/// often when they never expire.
const RENEW: Duration = Duration::from_secs(300);
/// A renewal that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Where credentials come from.
pub(crate) trait Renewable: Send + Sync + 'static {
    /// The credentials.
    type Item: Clone + Send + 'static;
    /// Their name in logs.
    const WHAT: &'static str;
    /// How soon they may be asked for again.
    const PAUSES: Pauses;
    /// What must be reachable.
    const REACHABLE: &'static str;
    /// Why there are none, though no renewal failed.
    const GONE: &'static str;

    /// Credentials as they are now.
    fn get(&self) -> impl Future<Output = Result<Self::Item, String>> + Send;

    /// When they expire; `None`: never.
    fn expiry(item: &Self::Item) -> Option<SystemTime>;
}

/// How long there is no renewal after another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    /// After one that succeeded.
    pub(crate) renewed: Duration,
    /// After the first of several that failed, and at most; it doubles from failure to failure.
    pub(crate) failed: (Duration, Duration),
}

/// Credentials that are renewed.
pub(crate) struct Renewing<S: Renewable> {
    inner: Arc<Inner<S>>,
    /// The renewal in progress; it ends with this.
    task: Mutex<JoinSet<()>>,
}

struct Inner<S: Renewable> {
    source: S,
    timeout: Duration,
    state: Mutex<State<S>>,
    /// Counts renewals.
    renewals: watch::Sender<u64>,
}

struct State<S: Renewable> {
    cached: Option<Cached<S::Item>>,
    renewing: bool,
    /// The earliest time of the next renewal.
    not_before: Option<SystemTime>,
    /// Failures in a row.
    failures: u32,
    /// Why the latest one failed.
    failed: Option<String>,
}

#[derive(Clone)]
struct Cached<T> {
    item: T,
    renew_at: SystemTime,
}

// === impl Renewing ===

impl<S: Renewable> Renewing<S> {
    pub(crate) fn new(source: S) -> Self {
        Self::with_timeout(source, TIMEOUT)
    }

    pub(crate) fn with_timeout(source: S, timeout: Duration) -> Self {
        let (state, renewals) = (Mutex::default(), watch::Sender::new(0));
        Self { inner: Arc::new(Inner { source, timeout, state, renewals }), task: Mutex::default() }
    }

    /// Credentials that are good at `now`. Waits for a renewal only if there are none.
    pub(crate) async fn at(&self, now: SystemTime) -> Result<S::Item, String> {
        let mut renewals = self.inner.renewals.subscribe();
        if let Some(good) = self.renew_in_time(now) {
            return Ok(good);
        }
        if self.inner.state().renewing {
            // The sender lives in `self`, so this cannot fail.
            drop(renewals.changed().await);
        }
        let state = self.inner.state();
        let failed = || state.failed.clone().unwrap_or_else(|| S::GONE.to_owned());
        state.good(now).ok_or_else(failed)
    }

    /// The credentials at hand, if they are good. Begins a renewal if it is time.
    fn renew_in_time(&self, now: SystemTime) -> Option<S::Item> {
        let mut state = self.inner.state();
        let is_time = state.cached.as_ref().is_none_or(|cached| now >= cached.renew_at);
        if is_time && !state.renewing && state.not_before.is_none_or(|at| now >= at) {
            state.renewing = true;
            let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            while task.try_join_next().is_some() {}
            task.spawn(Arc::clone(&self.inner).renew(now));
        }
        state.good(now)
    }

    /// A receiver has rejected the credentials: newer ones may exist.
    pub(crate) fn distrust(&self, now: SystemTime) {
        let mut state = self.inner.state();
        if let Some(cached) = &mut state.cached {
            cached.renew_at = now;
        }
    }

    /// A receiver has rejected the credentials that `are` they: they are not used any more, and the next request waits for
    /// others. Those that were renewed meanwhile stay.
    pub(crate) fn discard(&self, are: impl FnOnce(&S::Item) -> bool) {
        let mut state = self.inner.state();
        state.cached = state.cached.take().filter(|cached| !are(&cached.item));
    }
}

// === impl Inner ===

impl<S: Renewable> Inner<S> {
    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renew(self: Arc<Self>, now: SystemTime) {
        let _end = End(&*self);
        let asked = tokio::time::timeout(self.timeout, self.source.get()).await;
        let late = |_| Err(format!("no answer within {:?}; check that {} is reachable", self.timeout, S::REACHABLE));
        self.state().settle(asked.unwrap_or_else(late), now);
    }
}

/// Ends a renewal, however it ends, and wakes the tasks that wait for it.
struct End<'a, S: Renewable>(&'a Inner<S>);

impl<S: Renewable> Drop for End<'_, S> {
    fn drop(&mut self) {
        self.0.state().renewing = false;
        self.0.renewals.send_modify(|n| *n += 1);
    }
}

// === impl State ===

impl<S: Renewable> Default for State<S> {
    fn default() -> Self {
        Self { cached: None, renewing: false, not_before: None, failures: 0, failed: None }
    }
}

impl<S: Renewable> State<S> {
    fn good(&self, now: SystemTime) -> Option<S::Item> {
        let cached = self.cached.as_ref()?;
        S::expiry(&cached.item).is_none_or(|end| now < end).then(|| cached.item.clone())
    }

    fn settle(&mut self, renewed: Result<S::Item, String>, now: SystemTime) {
        match renewed {
            Ok(item) => {
                if self.failed.take().is_some() {
                    tracing::info!(what = S::WHAT, "credentials renewed again");
                }
                self.failures = 0;
                self.not_before = now.checked_add(S::PAUSES.renewed);
                self.cached = Some(Cached { renew_at: renew_at(S::expiry(&item), now), item });
            }
            Err(why) => {
                let (first, most) = S::PAUSES.failed;
                let pause = first.saturating_mul(1 << self.failures.min(16)).min(most);
                self.failures = self.failures.saturating_add(1);
                self.not_before = now.checked_add(pause);
                let meanwhile =
                    if self.good(now).is_some() { "using the cached credentials" } else { "sending is blocked" };
                tracing::warn!(what = S::WHAT, meanwhile, error = why, retry_in = ?pause, "cannot renew credentials, retrying");
                self.failed = Some(why);
            }
        }
    }
}

fn renew_at(expiry: Option<SystemTime>, now: SystemTime) -> SystemTime {
    let Some(end) = expiry else { return now + RENEW };
    let life = end.duration_since(now).unwrap_or_default();
    end.checked_sub(RENEW.min(life / 3)).unwrap_or(now)
}
