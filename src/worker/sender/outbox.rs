//! The batches of a shard that wait for their turn: the one place that knows in which order a tenant's batches are sent.
//!
//! A track accepts two batches and returns further ones. A returned batch is the next one that it is offered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::lane::Lane;
use crate::core::remotewrite::StepBatch;

/// A lane with what it has not taken yet. How much that may be, its producer decides.
#[derive(Debug)]
pub struct Outbox {
    lane: Lane,
    /// By tenant, in order.
    waiting: BTreeMap<Arc<str>, VecDeque<StepBatch>>,
}

// === impl Outbox ===

impl Outbox {
    /// Of a lane that no other task sends on.
    #[must_use]
    pub fn new(lane: Lane) -> Self {
        Self { lane, waiting: BTreeMap::new() }
    }

    /// Takes a batch, which is sent after all earlier ones of its tenant.
    pub fn put(&mut self, batch: StepBatch) {
        self.waiting.entry(Arc::clone(&batch.tenant)).or_default().push_back(batch);
    }

    /// Enqueues batches, in order, until no track accepts more. Never blocks.
    pub fn send(&mut self) {
        let lane = &self.lane;
        self.waiting.retain(|_, waiting| {
            while let Some(batch) = waiting.pop_front() {
                if let Err(refused) = lane.try_send(batch) {
                    waiting.push_front(refused);
                    break;
                }
            }
            !waiting.is_empty()
        });
    }

    /// As [`Lane::is_down`].
    #[must_use]
    pub fn is_down(&self, tenant: &str, patience: Duration) -> bool {
        self.lane.is_down(tenant, patience)
    }

    /// As [`Lane::is_dark`].
    #[must_use]
    pub fn is_dark(&self, tenant: &str, patience: Duration) -> bool {
        self.lane.is_dark(tenant, patience)
    }
}
