//! The groups that the worker is a member of, for tasks that query them.

use std::sync::{Arc, OnceLock, Weak};

use crate::worker::kafka::members::Member;
use crate::worker::telemetry::TaskKind;

/// The memberships in the groups of the source partitions and of the shards, while there are any. The member thread owns them.
#[derive(Default)]
pub(crate) struct Groups(OnceLock<[Weak<Member>; 2]>);

// === impl Groups ===

impl Groups {
    /// Before the first task is opened.
    pub(crate) fn set(&self, spans: &Arc<Member>, shards: &Arc<Member>) {
        if self.0.set([spans, shards].map(Arc::downgrade)).is_err() {
            tracing::error!("the consumer groups were joined twice");
        }
    }

    /// The membership in the group that assigns tasks of this kind; `None` when the worker is stopping.
    pub(crate) fn member(&self, kind: TaskKind) -> Option<Arc<Member>> {
        let [spans, shards] = self.0.get()?;
        match kind {
            TaskKind::Span => spans.upgrade(),
            TaskKind::Series => shards.upgrade(),
        }
    }
}
