//! The batches of a shard that wait for their turn: the one place that knows in which order a tenant's batches are
//! sent, to each of its endpoints.
//!
//! A track accepts two batches and returns further ones. A returned batch is the next one that it is offered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::shard_sender::ShardSender;
use crate::core::model::Millis;
use crate::core::remotewrite::StepBatch;

/// A shard sender with what it has not taken yet. How much that may be, its producer decides.
#[derive(Debug)]
pub struct Outbox {
    sender: ShardSender,
    /// By tenant and endpoint, in order.
    waiting: BTreeMap<(Arc<str>, Option<Arc<str>>), VecDeque<StepBatch>>,
}

// === impl Outbox ===

impl Outbox {
    /// Of a shard sender that no other task sends on.
    #[must_use]
    pub fn new(sender: ShardSender) -> Self {
        Self { sender, waiting: BTreeMap::new() }
    }

    /// Takes a batch, which is sent after all earlier ones of its tenant to the same endpoint.
    pub fn put(&mut self, batch: StepBatch) {
        let track = (Arc::clone(&batch.tenant), batch.endpoint.clone());
        self.waiting.entry(track).or_default().push_back(batch);
    }

    /// Takes a batch back that no track has accepted yet; returns whether there was such a one.
    pub fn withdraw(&mut self, tenant: &Arc<str>, endpoint: &Arc<str>, step: Millis) -> bool {
        let track = (Arc::clone(tenant), Some(Arc::clone(endpoint)));
        let Some(waiting) = self.waiting.get_mut(&track) else { return false };
        let before = waiting.len();
        waiting.retain(|batch| batch.step != step);
        waiting.len() < before
    }

    /// Enqueues batches, in order, until no track accepts more. Never blocks.
    pub fn send(&mut self) {
        let sender = &self.sender;
        self.waiting.retain(|_, waiting| {
            while let Some(batch) = waiting.pop_front() {
                if let Err(refused) = sender.try_send(batch) {
                    waiting.push_front(refused);
                    break;
                }
            }
            !waiting.is_empty()
        });
    }

    /// As [`ShardSender::is_down`].
    #[must_use]
    pub fn is_down(&self, tenant: &Arc<str>, endpoint: Option<&Arc<str>>, patience: Duration) -> bool {
        self.sender.is_down(tenant, endpoint, patience)
    }

    /// As [`ShardSender::is_dark`].
    #[must_use]
    pub fn is_dark(&self, tenant: &Arc<str>, endpoint: Option<&Arc<str>>, patience: Duration) -> bool {
        self.sender.is_dark(tenant, endpoint, patience)
    }
}
