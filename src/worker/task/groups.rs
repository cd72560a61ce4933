//! The groups that the worker is a member of, for tasks that query them. A command that works on stopped groups is a member
//! of none, and asks in their names.

use std::sync::{Arc, OnceLock, Weak};

use crate::worker::kafka::KafkaError;
use crate::worker::kafka::inspect::Inspector;
use crate::worker::kafka::members::{GroupOffset, Member, Partition};
use crate::worker::telemetry::TaskKind;

/// The memberships in the groups of the source partitions and of the shards, while there are any. The member thread owns them.
#[derive(Default)]
pub(crate) struct Groups {
    members: OnceLock<[Weak<Member>; 2]>,
    /// In the name of the group of the shards.
    of_shards: OnceLock<Inspector>,
}

// === impl Groups ===

impl Groups {
    /// Before the first task is opened.
    pub(crate) fn set(&self, spans: &Arc<Member>, shards: &Arc<Member>) {
        if self.members.set([spans, shards].map(Arc::downgrade)).is_err() {
            tracing::error!("the consumer groups were joined twice");
        }
    }

    /// Nothing is a member: questions about shards are asked by `inspector`.
    pub(crate) fn ask_by(&self, inspector: Inspector) {
        drop(self.of_shards.set(inspector));
    }

    /// The offset that the group has for the input of a task of this kind.
    ///
    /// # Errors
    /// When the worker is stopping, or the group does not answer.
    pub(crate) fn committed(&self, kind: TaskKind, input: &Partition) -> Result<Option<GroupOffset>, KafkaError> {
        match (self.member(kind), self.of_shards.get()) {
            (Some(member), _) => member.committed(input),
            (None, Some(inspector)) if kind == TaskKind::Series => inspector.offset(input),
            // Without a member there is no group that could be asked.
            (None, _) => Err(KafkaError::Stopping),
        }
    }

    /// The membership in the group that assigns tasks of this kind; `None` when the worker is stopping.
    pub(crate) fn member(&self, kind: TaskKind) -> Option<Arc<Member>> {
        let [spans, shards] = self.members.get()?;
        match kind {
            TaskKind::Span => spans.upgrade(),
            TaskKind::Series => shards.upgrade(),
        }
    }
}
