//! The way of one shard to the receivers: a track per endpoint, each strictly in order, with one request in flight, which
//! is retried until it is settled.
//!
//! A tenant's batches never overtake one another: while some of them are on a track, the next ones follow on the same,
//! even when the tenant has got another endpoint meanwhile. That is no dead end, because every attempt after a failure asks
//! anew where the tenant's samples go.

#![allow(clippy::disallowed_methods, reason = "how long a receiver has been down is a matter of the clock")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::model::hash::Map;
use crate::remotewrite::StepBatch;
use crate::telemetry::Telemetry;

use super::Delivered;
use super::delivery::Sending;
use super::endpoints::{Endpoint, EndpointId, Endpoints};
use super::pace::Pace;
use super::spool::Spool;

/// Batches that wait on a track.
const QUEUE: usize = 2;

/// Told what became of a batch.
pub(super) type Done = Arc<dyn Fn(Delivered) + Send + Sync>;

/// The way of one shard. Dropping it stops what it is sending: a fenced task must fall silent.
pub struct Lane {
    shard: u32,
    done: Done,
    shared: Arc<Shared>,
    tracks: Mutex<BTreeMap<EndpointId, Track>>,
    places: Arc<Places>,
}

/// The queue to one endpoint.
struct Track {
    queue: mpsc::Sender<Queued>,
    task: AbortHandle,
    failing: Arc<Failing>,
}

/// Since when one attempt after the other fails.
#[derive(Debug, Default)]
pub(super) struct Failing(Mutex<Option<Instant>>);

/// On which track a tenant's unsettled batches are, and how many.
#[derive(Debug, Default)]
struct Places(Mutex<Map<Arc<str>, (EndpointId, usize)>>);

/// What all lanes share.
pub(super) struct Shared {
    pub(super) destination: Destination,
    pub(super) telemetry: Telemetry,
    pub(super) pace: Pace,
    pending: watch::Sender<usize>,
    handle: Handle,
    /// `None` once stopped.
    tasks: Mutex<Option<JoinSet<()>>>,
}

/// Where everything goes.
pub(super) enum Destination {
    /// To receivers, each tenant's samples to its own.
    Receivers(Endpoints),
    /// To files, whatever the settings of tenants say.
    Spool(Arc<Spool>),
}

/// Where one batch goes.
pub(super) enum To {
    Receiver(Arc<Endpoint>),
    Spool(Arc<Spool>),
}

/// A batch on its way.
pub(super) struct Queued {
    pub(super) batch: StepBatch,
    /// Where its first attempt goes.
    pub(super) to: To,
    pub(super) ticket: Ticket,
}

/// Counts the samples of a batch until each is settled, whatever happens to the batch.
#[derive(Debug)]
pub(super) struct Ticket {
    shared: Arc<Shared>,
    places: Arc<Places>,
    tenant: Arc<str>,
    left: u64,
}

// === impl Lane ===

impl Lane {
    pub(super) fn open(shard: u32, done: Done, shared: Arc<Shared>) -> Self {
        Self { shard, done, shared, tracks: Mutex::default(), places: Arc::default() }
    }

    /// The endpoint whose track the next batch of a tenant takes.
    #[must_use]
    pub fn track(&self, tenant: &str) -> EndpointId {
        self.places.of(tenant).unwrap_or_else(|| self.shared.destination.of(tenant).id())
    }

    /// Hands a batch over. Never blocks.
    ///
    /// # Errors
    /// Gives the batch back when two are waiting on its track already, or when the exporter has stopped.
    pub fn try_send(&self, batch: StepBatch) -> Result<(), StepBatch> {
        let track = self.track(&batch.tenant);
        let mut tracks = lock(&self.tracks);
        if !tracks.contains_key(&track) {
            self.tidy(&mut tracks);
            let Some(opened) = self.lay() else { return Err(batch) };
            tracks.insert(track, opened);
        }
        let Ok(place) = tracks[&track].queue.try_reserve() else { return Err(batch) };
        let (to, ticket) = (self.shared.destination.of(&batch.tenant), Ticket::new(self, track, &batch));
        place.send(Queued { batch, to, ticket });
        Ok(())
    }

    /// Whether nothing but failures has come from the other end of a track for `patience`.
    #[must_use]
    pub fn is_down(&self, track: EndpointId, patience: Duration) -> bool {
        lock(&self.tracks).get(&track).is_some_and(|track| track.failing.longer_than(patience))
    }

    fn lay(&self) -> Option<Track> {
        let (queue, batches) = mpsc::channel(QUEUE);
        let failing = Arc::<Failing>::default();
        let sending = Sending {
            shard: self.shard,
            shared: Arc::clone(&self.shared),
            done: Arc::clone(&self.done),
            failing: Arc::clone(&failing),
        };
        let task = self.shared.spawn(sending.run(batches))?;
        Some(Track { queue, task, failing })
    }

    /// Takes away the tracks that nobody uses any more.
    fn tidy(&self, tracks: &mut BTreeMap<EndpointId, Track>) {
        let Destination::Receivers(endpoints) = &self.shared.destination else { return };
        let routes = endpoints.routes();
        let used = self.places.tracks();
        tracks.retain(|id, _| routes.leads_to(*id) || used.contains(id));
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Failing ===

impl Failing {
    pub(super) fn failed(&self) {
        lock(&self.0).get_or_insert_with(Instant::now);
    }

    pub(super) fn answered(&self) {
        *lock(&self.0) = None;
    }

    fn longer_than(&self, patience: Duration) -> bool {
        lock(&self.0).is_some_and(|since| since.elapsed() >= patience)
    }
}

// === impl Places ===

impl Places {
    fn of(&self, tenant: &str) -> Option<EndpointId> {
        lock(&self.0).get(tenant).map(|(track, _)| *track)
    }

    fn tracks(&self) -> Vec<EndpointId> {
        lock(&self.0).values().map(|(track, _)| *track).collect()
    }

    fn take(&self, tenant: &Arc<str>, track: EndpointId) {
        lock(&self.0).entry(Arc::clone(tenant)).or_insert((track, 0)).1 += 1;
    }

    fn leave(&self, tenant: &str) {
        let mut places = lock(&self.0);
        if let Some((_, batches)) = places.get_mut(tenant) {
            *batches -= 1;
            if *batches == 0 {
                places.remove(tenant);
            }
        }
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(destination: Destination, telemetry: Telemetry, handle: Handle) -> Self {
        let tasks = Mutex::new(Some(JoinSet::new()));
        Self { destination, telemetry, pace: Pace::default(), pending: watch::Sender::new(0), handle, tasks }
    }

    /// The runtime in which everything is sent.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a track; `None` when the exporter has stopped.
    fn spawn(&self, track: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        let mut tasks = lock(&self.tasks);
        let tasks = tasks.as_mut()?;
        while tasks.try_join_next().is_some() {}
        Some(tasks.spawn_on(track, &self.handle))
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

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("pending", &self.pending()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Destination ===

impl Destination {
    /// Where a tenant's samples go now.
    pub(super) fn of(&self, tenant: &str) -> To {
        match self {
            Self::Receivers(endpoints) => To::Receiver(endpoints.of(tenant)),
            Self::Spool(spool) => To::Spool(Arc::clone(spool)),
        }
    }
}

// === impl To ===

impl To {
    fn id(&self) -> EndpointId {
        match self {
            Self::Receiver(endpoint) => endpoint.id,
            // There is nothing else in this process.
            Self::Spool(_) => 0,
        }
    }
}

// === impl Ticket ===

impl Ticket {
    fn new(lane: &Lane, track: EndpointId, batch: &StepBatch) -> Self {
        let (shared, samples) = (Arc::clone(&lane.shared), batch.samples());
        let meters = shared.telemetry.export();
        meters.built.inc_by(samples);
        meters.pending_samples.add(samples.cast_signed());
        meters.pending_batches.inc();
        shared.pending.send_modify(|n| *n += 1);
        lane.places.take(&batch.tenant, track);
        Self { shared, places: Arc::clone(&lane.places), tenant: Arc::clone(&batch.tenant), left: samples }
    }

    pub(super) fn settle(&mut self, samples: u64) {
        self.left = self.left.saturating_sub(samples);
        self.shared.telemetry.export().pending_samples.sub(samples.cast_signed());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.places.leave(&self.tenant);
        let meters = self.shared.telemetry.export();
        meters.abandoned.inc_by(self.left);
        meters.pending_samples.sub(self.left.cast_signed());
        meters.pending_batches.dec();
        self.shared.pending.send_modify(|n| *n -= 1);
    }
}
