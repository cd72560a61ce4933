//! The current destination of a track: the endpoint and the tenant there, and the permit to send.
#![allow(clippy::disallowed_methods, reason = "pauses are a matter of the clock")]

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::concurrency::{Load, Slot};
use super::delivery::Sending;
use super::endpoints::Endpoint;
use super::halving::Refusals;
use super::outage::OutageSite;
use super::recipient::{Recipient, Site, Trouble};
use super::shard_sender::Failing;
use crate::worker::telemetry::{Flying, InFlight};

/// How often a waiting track looks up its destination.
const LOOK_UP: Duration = Duration::from_secs(1);

/// The way of a track.
pub(super) struct Way {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) recipient: Arc<Recipient>,
    tenant: Arc<str>,
    site: Site,
    in_flight: InFlight,
    /// When this shard has looked what its metrics are about.
    pub(super) described: Option<Instant>,
}

/// The permit for one request in flight.
pub(super) struct Leave<'a> {
    /// That of the tenant; a trial at a recipient that fails has none.
    slot: Option<Slot<'a>>,
    #[allow(dead_code, reason = "they are given back when they are dropped")]
    permits: Vec<SemaphorePermit<'a>>,
    #[allow(dead_code, reason = "it counts until it is dropped")]
    flying: Flying,
}

// === impl Way ===

impl Way {
    /// The destination at an endpoint: the previous one if it is the same.
    pub(super) fn to<'a>(
        way: &'a mut Option<Self>,
        endpoint: Arc<Endpoint>,
        of: (&Sending, usize),
        tenant: &Arc<str>,
    ) -> &'a mut Self {
        if way.as_ref().is_some_and(|way| way.endpoint.id != endpoint.id) {
            *way = None;
        }
        way.get_or_insert_with(|| Self::new(endpoint, of, tenant))
    }

    fn new(endpoint: Arc<Endpoint>, (sending, place): (&Sending, usize), tenant: &Arc<str>) -> Self {
        let recipient = endpoint.recipient(&sending.shared.telemetry, tenant);
        let in_flight = sending.shared.telemetry.in_flight(&endpoint.settings.id());
        let site = Site { shard: sending.shard, place };
        Self { endpoint, recipient, tenant: Arc::clone(tenant), site, in_flight, described: None }
    }

    /// Switches to another endpoint, if it has changed.
    pub(super) fn turn(&mut self, endpoint: Arc<Endpoint>, sending: &Sending) -> bool {
        let other = endpoint.id != self.endpoint.id;
        if other {
            *self = Self::new(endpoint, (sending, self.site.place), &Arc::clone(&self.tenant));
        }
        other
    }

    /// Waits until a request may be sent: until the receiver has room, and the pause of the recipient is over. Returns
    /// `None` from time to time in a long wait: the tenant's receiver may have changed.
    pub(super) async fn leave(&self, failing: &Failing) -> Option<Leave<'_>> {
        loop {
            if self.recipient.pause().is_none() {
                let slot = self.recipient.concurrency.slot().await;
                let permit = self.endpoint.slots.acquire().await;
                // It may have begun to fail meanwhile.
                if self.recipient.pause().is_none() {
                    let flying = self.in_flight.begins();
                    return Some(Leave { slot: Some(slot), permits: permit.into_iter().collect(), flying });
                }
                continue;
            }
            failing.failed(self.recipient.failing_since());
            let probe = self.recipient.probe.acquire().await;
            let Some(pause) = self.recipient.pause() else { continue };
            let look_up = Instant::now() + LOOK_UP;
            tokio::time::sleep_until(pause.min(look_up)).await;
            if pause > look_up {
                return None;
            }
            let slot = self.endpoint.probes.acquire().await;
            let flying = self.in_flight.begins();
            return Some(Leave { slot: None, permits: probe.into_iter().chain(slot).collect(), flying });
        }
    }

    pub(super) fn failed(&self, sending: &Sending, step: i64, trouble: &Trouble) {
        sending.failing.failed(None);
        let first = self.recipient.failed(self.site, trouble, self.endpoint.backoff);
        let url = self.endpoint.client.shown();
        let place = OutageSite { url: &url, shard: self.site.shard, tenant: &self.tenant, step };
        self.endpoint.outage.failed(first, place, trouble);
    }

    pub(super) fn answered(&self, sending: &Sending, stored: bool) {
        sending.failing.answered();
        self.endpoint.outage.answered();
        if self.recipient.answered(self.site, stored) {
            self.endpoint.outage.over(&self.endpoint.client.shown());
        }
    }

    pub(super) fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.recipient.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Leave ===

impl Leave<'_> {
    /// The request was answered after so long.
    pub(super) fn learn(&self, load: Load, took: Duration) {
        if let Some(slot) = &self.slot {
            slot.answered(load, took);
        }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        if self.recipient.leave(self.site) {
            self.endpoint.outage.over(&self.endpoint.client.shown());
        }
    }
}
