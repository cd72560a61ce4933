//! The way of one shard to the receivers: a track per tenant, or per tenant and endpoint where a tenant has several, each
//! strictly in order: a step begins when the one before is settled. Within a step, several requests are in flight, each of which
//! is retried until it is settled. A series belongs to one shard and one tenant and is in one request of a step, so its samples
//! never overtake one another, and neither tenants nor endpoints wait for another.
//!
//! Where a tenant's samples go is asked before each batch, and again after each failed attempt. So a batch that is stuck
//! goes where its tenant goes now, and the next ones follow it.

#![allow(clippy::disallowed_methods, reason = "how long a receiver has been down is a matter of the clock")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::core::model::hash::Seed;
use crate::core::remotewrite::StepBatch;
use crate::worker::telemetry::Telemetry;

use super::Delivered;
use super::delivery::{Sending, random};
use super::described::Described;
use super::endpoints::{Endpoint, Endpoints};
use super::guard::Guard;
use super::pace::Pace;
use super::store::Stored;

/// Batches that wait on a track.
const QUEUE: usize = 2;
/// A track that was unused for so long is removed, once there are many.
const UNUSED: Duration = Duration::from_secs(600);
const MANY: usize = 64;

/// What a track is for: a tenant, and which of its endpoints, if it has several.
type Track = (Arc<str>, Option<Arc<str>>);

/// Called with the result of a batch.
pub(super) type Done = Arc<dyn Fn(Delivered) + Send + Sync>;

/// The way of one shard. Dropping it stops what it is sending: a fenced task must fall silent.
pub struct ShardSender {
    shard: u32,
    done: Done,
    shared: Arc<SenderState>,
    tenant_queues: Mutex<Tracks>,
}

#[derive(Default)]
struct Tracks {
    by_tenant: BTreeMap<Track, TenantQueue>,
    /// With so many, the unused ones are removed.
    tidy_at: usize,
}

/// The queue of one tenant.
struct TenantQueue {
    queue: mpsc::Sender<Queued>,
    task: AbortHandle,
    failing: Arc<Failing>,
    used: Instant,
    /// Its batches that are not settled.
    unsettled: Arc<AtomicUsize>,
}

/// Since when one attempt after the other fails.
#[derive(Debug, Default)]
pub(super) struct Failing(Mutex<Option<Instant>>);

/// The state that all shard senders share.
pub(super) struct SenderState {
    pub(super) destination: Destination,
    pub(super) described: Described,
    pub(super) telemetry: Telemetry,
    pub(super) pace: Pace,
    pub(super) guard: Guard,
    /// The seed of the string table of a request.
    pub(super) seed: Seed,
    pending: watch::Sender<usize>,
    handle: Handle,
    /// `None` once stopped.
    tasks: Mutex<Option<JoinSet<()>>>,
}

/// The destination of all batches.
pub(super) enum Destination {
    /// To receivers, each tenant's samples to its own.
    Receivers(Endpoints),
    /// To a store, whatever the settings of tenants are.
    Store(Arc<Stored>),
}

/// The destination of one batch.
pub(super) enum To {
    Receiver(Arc<Endpoint>),
    Store(Arc<Stored>),
    /// Nowhere: the tenant does not have the endpoint any more.
    Gone,
}

/// A batch in flight.
pub(super) struct Queued {
    pub(super) batch: StepBatch,
    pub(super) ticket: Ticket,
}

/// Counts the samples of a batch until each is settled, whatever happens to the batch.
#[derive(Debug)]
pub(super) struct Ticket {
    shared: Arc<SenderState>,
    unsettled: Arc<AtomicUsize>,
    left: AtomicU64,
}

// === impl ShardSender ===

impl ShardSender {
    pub(super) fn open(shard: u32, done: Done, shared: Arc<SenderState>) -> Self {
        Self { shard, done, shared, tenant_queues: Mutex::default() }
    }

    /// Enqueues a batch. Never blocks.
    ///
    /// # Errors
    /// Returns the batch when two are waiting on its track already, or when the exporter has stopped.
    pub fn try_send(&self, batch: StepBatch) -> Result<(), StepBatch> {
        let track = self.shared.destination.track(&batch.tenant, batch.endpoint.as_ref());
        let mut tenant_queues = lock(&self.tenant_queues);
        if !tenant_queues.by_tenant.contains_key(&track) {
            tenant_queues.tidy();
            let Some(laid) = self.lay() else { return Err(batch) };
            tenant_queues.by_tenant.insert(track.clone(), laid);
        }
        let Some(tenant_queue) = tenant_queues.by_tenant.get_mut(&track) else { return Err(batch) };
        let Ok(place) = tenant_queue.queue.try_reserve() else { return Err(batch) };
        tenant_queue.used = Instant::now();
        let ticket = Ticket::new(&self.shared, &tenant_queue.unsettled, &batch);
        place.send(Queued { batch, ticket });
        Ok(())
    }

    /// Whether all attempts for a tenant's batches, at this one of its endpoints if it has several, have failed for
    /// `patience`.
    #[must_use]
    pub fn is_down(&self, tenant: &Arc<str>, endpoint: Option<&Arc<str>>, patience: Duration) -> bool {
        let track = self.shared.destination.track(tenant, endpoint);
        lock(&self.tenant_queues)
            .by_tenant
            .get(&track)
            .is_some_and(|tenant_queue| tenant_queue.failing.longer_than(patience))
    }

    /// Whether all attempts at a tenant's receiver have failed for `patience`, for any tenant's samples.
    #[must_use]
    pub fn is_dark(&self, tenant: &Arc<str>, endpoint: Option<&Arc<str>>, patience: Duration) -> bool {
        match self.shared.destination.of(tenant, endpoint.map(|name| &**name)) {
            To::Receiver(endpoint) => endpoint.outage.dark_since().is_some_and(|since| since.elapsed() >= patience),
            To::Store(_) => self.is_down(tenant, endpoint, patience),
            To::Gone => false,
        }
    }

    fn lay(&self) -> Option<TenantQueue> {
        let (queue, batches) = mpsc::channel(QUEUE);
        let failing = Arc::<Failing>::default();
        let sending = Sending {
            shard: self.shard,
            shared: Arc::clone(&self.shared),
            done: Arc::clone(&self.done),
            failing: Arc::clone(&failing),
        };
        let task = self.shared.spawn(sending.run(batches))?;
        Some(TenantQueue { queue, task, failing, used: Instant::now(), unsettled: Arc::default() })
    }
}

impl std::fmt::Debug for ShardSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardSender").field("shard", &self.shard).finish_non_exhaustive()
    }
}

// === impl Tracks ===

impl Tracks {
    /// Removes unused tracks, from time to time.
    fn tidy(&mut self) {
        if self.by_tenant.len() >= self.tidy_at.max(MANY) {
            let is_used = |tenant_queue: &TenantQueue| {
                tenant_queue.unsettled.load(Ordering::Relaxed) > 0 || tenant_queue.used.elapsed() < UNUSED
            };
            self.by_tenant.retain(|_, tenant_queue| is_used(tenant_queue));
            self.tidy_at = 2 * self.by_tenant.len();
        }
    }
}

impl Drop for TenantQueue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Failing ===

impl Failing {
    /// An attempt has failed, or is not even made, because all attempts since `since` have failed.
    pub(super) fn failed(&self, since: Option<Instant>) {
        lock(&self.0).get_or_insert_with(|| since.unwrap_or_else(Instant::now));
    }

    pub(super) fn answered(&self) {
        *lock(&self.0) = None;
    }

    fn longer_than(&self, patience: Duration) -> bool {
        lock(&self.0).is_some_and(|since| since.elapsed() >= patience)
    }
}

// === impl SenderState ===

impl SenderState {
    pub(super) fn new(destination: Destination, telemetry: Telemetry, handle: Handle) -> Self {
        let tasks = Mutex::new(Some(JoinSet::new()));
        let (pace, guard, pending) = (Pace::default(), Guard::default(), watch::Sender::new(0));
        let seed = Seed::new(u128::from(random()) << 64 | u128::from(random()));
        Self { destination, described: Described::default(), telemetry, pace, guard, seed, pending, handle, tasks }
    }

    /// The runtime in which everything is sent.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a track; `None` when the exporter has stopped.
    fn spawn(&self, tenant_queue: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        let mut tasks = lock(&self.tasks);
        let tasks = tasks.as_mut()?;
        while tasks.try_join_next().is_some() {}
        Some(tasks.spawn_on(tenant_queue, &self.handle))
    }

    /// The tracks that run; from now on there are no new ones.
    pub(super) fn close(&self) -> Option<JoinSet<()>> {
        lock(&self.tasks).take()
    }

    /// Batches that are not settled.
    pub(super) fn pending(&self) -> usize {
        *self.pending.borrow()
    }

    /// Waits until no batch is pending.
    pub(super) async fn idle(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        drop(self.pending.subscribe().wait_for(|&n| n == 0).await);
    }
}

impl std::fmt::Debug for SenderState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SenderState").field("pending", &self.pending()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Destination ===

impl Destination {
    /// Where a tenant's samples go now, or those for one of its endpoints.
    pub(super) fn of(&self, tenant: &str, endpoint: Option<&str>) -> To {
        match self {
            Self::Receivers(endpoints) => endpoints.of(tenant, endpoint).map_or(To::Gone, To::Receiver),
            Self::Store(store) => To::Store(Arc::clone(store)),
        }
    }

    /// Which track batches take: one of their own, but a store has one writer per shard.
    fn track(&self, tenant: &Arc<str>, endpoint: Option<&Arc<str>>) -> Track {
        match self {
            Self::Receivers(_) => (Arc::clone(tenant), endpoint.cloned()),
            Self::Store(_) => (Arc::from(""), None),
        }
    }
}

// === impl Ticket ===

impl Ticket {
    fn new(shared: &Arc<SenderState>, unsettled: &Arc<AtomicUsize>, batch: &StepBatch) -> Self {
        let samples = batch.samples();
        let meters = shared.telemetry.export();
        meters.built.inc_by(samples);
        meters.pending_samples.add(samples.cast_signed());
        meters.pending_batches.inc();
        shared.pending.send_modify(|n| *n += 1);
        unsettled.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(shared), unsettled: Arc::clone(unsettled), left: AtomicU64::new(samples) }
    }

    /// The samples that are not settled.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    pub(super) fn settle(&self, samples: u64) {
        self.left.store(self.left().saturating_sub(samples), Ordering::Relaxed);
        self.shared.telemetry.export().pending_samples.sub(samples.cast_signed());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.unsettled.fetch_sub(1, Ordering::Relaxed);
        let meters = self.shared.telemetry.export();
        meters.abandoned.inc_by(self.left());
        meters.pending_samples.sub(self.left().cast_signed());
        meters.pending_batches.dec();
        self.shared.pending.send_modify(|n| *n -= 1);
    }
}
