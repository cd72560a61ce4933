//! The batches of a shard that wait for their turn: the one place that knows in which order a tenant's batches are
//! sent.
//!
//! A track accepts two batches and returns further ones. A returned batch is the next one that it is offered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::shard_sender::ShardSender;
use crate::core::remotewrite::StepBatch;

/// A shard sender with what it has not taken yet. How much that may be, its producer decides.
#[derive(Debug)]
pub struct Outbox {
    sender: ShardSender,
    /// By tenant, in order.
    waiting: BTreeMap<Arc<str>, VecDeque<StepBatch>>,
}

// === impl Outbox ===

impl Outbox {
    /// Of a shard sender that no other task sends on.
    #[must_use]
    pub fn new(sender: ShardSender) -> Self {
        Self { sender, waiting: BTreeMap::new() }
    }

    /// Takes a batch, which is sent after all earlier ones of its tenant.
    pub fn put(&mut self, batch: StepBatch) {
        self.waiting.entry(Arc::clone(&batch.tenant)).or_default().push_back(batch);
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
    pub fn is_down(&self, tenant: &str, patience: Duration) -> bool {
        self.sender.is_down(tenant, patience)
    }

    /// As [`ShardSender::is_dark`].
    #[must_use]
    pub fn is_dark(&self, tenant: &str, patience: Duration) -> bool {
        self.sender.is_dark(tenant, patience)
    }
}
