//! The requests of a step, several at a time.
//!
//! A series is in one request of a phase only, so those of one phase may arrive in any order. A phase begins when all of the one
//! before is settled, and a step when all of the step before is: no series gets out of order, however many are in flight. The
//! first request of a phase goes ahead: which version the receiver takes, whether it refuses everything, and whether it has the
//! step already is known to the others then.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use super::{Delivery, Sending};
use crate::core::remotewrite::custom_buckets::CustomBuckets;
use crate::core::remotewrite::relabel::Relabeler;
use crate::core::remotewrite::{Request, StepBatch};
use crate::worker::sender::Delivered;
use crate::worker::sender::endpoints::Endpoint;
use crate::worker::sender::quarantine::Suspect;
use crate::worker::sender::shard_sender::Ticket;
use crate::worker::sender::way::Way;

/// The most requests of one step that are prepared at a time; how many of them are in flight, the receiver decides.
const MOST: usize = 16;

/// The destinations of the requests of a track that are in flight, of which the first is always there.
pub(super) type Ways = Vec<Option<Way>>;

/// What all deliveries of a batch share.
pub(super) struct Progress {
    pub(super) ticket: Ticket,
    /// The receiver has later steps, so it also has this one.
    overtaken: AtomicBool,
    /// The receiver has taken something of this batch: so it does not refuse everything.
    taken: AtomicBool,
    /// The tenant does not have the endpoint any more: the rest is not sent.
    gone: AtomicBool,
    /// Whether classic histograms of this batch have become native ones with custom buckets.
    pub(super) custom: bool,
}

/// The requests of a phase that no delivery has taken yet.
struct Waiting<'a> {
    batch: VecDeque<&'a Request>,
    values: bool,
    custom: Option<CustomBuckets>,
}

// === impl Progress ===

impl Progress {
    pub(super) fn new(ticket: Ticket, custom: bool) -> Self {
        let no = || AtomicBool::new(false);
        Self { ticket, overtaken: no(), taken: no(), gone: no(), custom }
    }

    pub(super) fn is_overtaken(&self) -> bool {
        self.overtaken.load(Ordering::Relaxed)
    }

    pub(super) fn overtaken(&self) {
        self.overtaken.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    pub(super) fn set_taken(&self, taken: bool) {
        self.taken.store(taken, Ordering::Relaxed);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(super) fn set_gone(&self, gone: bool) {
        self.gone.store(gone, Ordering::Relaxed);
    }
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    fn new(batch: &'a StepBatch, values: bool, custom: bool) -> Self {
        let custom = custom.then(CustomBuckets::default);
        Self { batch: batch.requests.iter().collect(), values, custom }
    }

    /// The next one, and how many samples have become a part of it without being sent for themselves. They are made one by
    /// one: at a start they are large.
    fn next(&mut self) -> Option<(Option<Request>, u64)> {
        let Some(request) = self.batch.pop_front() else {
            let mut custom = self.custom.take()?;
            return Some((custom.finish(), custom.converted()));
        };
        let phase = match self.values {
            false => request.before_values(),
            true => Some(request.values().unwrap_or_else(|| request.clone())),
        };
        let (Some(custom), Some(phase)) = (&mut self.custom, &phase) else { return Some((phase, 0)) };
        // A body that cannot be read did not come from the encoder, and is sent as it is.
        let converted = custom.convert(phase).unwrap_or_else(|_| Some(phase.clone()));
        Some((converted, custom.converted()))
    }
}

// === impl Sending ===

impl Sending {
    /// Settles the first request of a phase; returns its series that may belong into quarantine.
    async fn settle_first(
        &self,
        (batch, values): (&StepBatch, bool),
        (ways, endpoint): (&mut Ways, &Arc<Endpoint>),
        progress: &Progress,
        (waiting, out): (&Mutex<Waiting<'_>>, &mut Delivered),
    ) -> Vec<Suspect> {
        let Some(way) = ways.first_mut() else { return Vec::new() };
        let way = Way::to(way, Arc::clone(endpoint), (self, 0), &batch.tenant);
        let (counts, suspects) = (out.clone(), Vec::new());
        let mut delivery = Delivery { sending: self, batch, way, progress, out: counts, rerouted: false, suspects };
        while !delivery.settle_next(waiting, values).await.unwrap_or(true) {}
        *out = delivery.out;
        delivery.suspects
    }

    /// Settles one phase of a batch. `out` gets the counts.
    pub(super) async fn phase(
        &self,
        (batch, values): (&StepBatch, bool),
        (ways, endpoint): (&mut Ways, &Arc<Endpoint>),
        progress: &Progress,
        out: &mut Delivered,
    ) {
        let waiting = Mutex::new(Waiting::new(batch, values, progress.custom));
        // Where series may become one, the first of them is sent: so there is an order.
        let one = endpoint.relabeler.as_ref().is_some_and(Relabeler::may_merge);
        let most = if one { 1 } else { batch.requests.len().clamp(1, MOST) };
        if ways.len() < most {
            ways.resize_with(most, || None);
        }
        let mut first = self.settle_first((batch, values), (ways, endpoint), progress, (&waiting, out)).await;
        let counts = Delivered { acknowledged: 0, already_there: 0, rejected: 0, filtered: 0, ..out.clone() };
        let mut running: Vec<Pin<Box<dyn Future<Output = Delivered> + Send + '_>>> = Vec::with_capacity(most);
        for (place, way) in ways.iter_mut().take(most).enumerate() {
            let way = Way::to(way, Arc::clone(endpoint), (self, place), &batch.tenant);
            let (out, suspects) = (counts.clone(), std::mem::take(&mut first));
            let delivery = Delivery { sending: self, batch, way, progress, out, rerouted: false, suspects };
            running.push(Box::pin(delivery.work(&waiting, values)));
        }
        for one in all(running).await {
            out.acknowledged += one.acknowledged;
            out.already_there += one.already_there;
            out.rejected += one.rejected;
            out.filtered += one.filtered;
        }
    }
}

// === impl Delivery ===

impl Delivery<'_> {
    /// Settles one request after the other until there is none left.
    async fn work(mut self, waiting: &Mutex<Waiting<'_>>, values: bool) -> Delivered {
        while self.settle_next(waiting, values).await.is_some() {}
        // Another delivery may have shown only then that the receiver takes some.
        self.quarantine();
        self.out
    }

    /// Settles the next request that waits, if there is one; returns whether anything was left of it.
    async fn settle_next(&mut self, waiting: &Mutex<Waiting<'_>>, values: bool) -> Option<bool> {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let (request, converted) = next?;
        if !self.progress.is_gone() {
            self.convert(converted);
        }
        let any = request.is_some();
        if let Some(request) = request {
            self.settle(request, values).await;
        }
        Some(any)
    }
}

/// Waits for all of them.
async fn all<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> Vec<T> {
    let mut results = Vec::new();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Ready(result) => {
                results.push(result);
                false
            }
            Poll::Pending => true,
        });
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results
}
