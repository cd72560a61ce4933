//! What reaches a worker thread from outside: one bounded inbox, and a wake-up.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::Thread;

use super::taken::Taken;
use crate::core::model::Millis;
use crate::worker::kafka::appender::Fate;
use crate::worker::telemetry::TaskId;

/// One life of a task on this worker, from claim to end. News for an earlier life is ignored.
pub(crate) type Epoch = u64;

/// News for a worker thread.
pub(crate) enum Command {
    /// Acquire these tasks.
    Open(Vec<TaskId>),
    /// Close these tasks, then notify `done`.
    Close(Close),
    /// A task has been acquired.
    Ready(TaskId, Epoch, Box<Taken>),
    /// A task could not be acquired; retry later.
    Failed(TaskId, Epoch, Failure),
    /// News for a running task.
    News(TaskId, Epoch, News),
    /// End the thread; all tasks have been closed before.
    End,
}

/// A request to close tasks.
pub(crate) struct Close {
    /// The tasks; those that this thread does not have are skipped.
    pub(crate) tasks: Vec<TaskId>,
    /// Whether to drain first: the last commit, the release. Otherwise they are dropped as they are.
    pub(crate) drain: bool,
    /// Notified when all are closed.
    pub(crate) done: SyncSender<()>,
}

/// News for a running task.
pub(crate) enum News {
    /// The fate of a journal record, with its number in this life, in the order of appending.
    Journal(u64, Fate),
    /// The fate of one delta record.
    DeltaRecord(Sent, Fate),
    /// The batch of this step and tenant has been settled by its receiver, or by this one of several.
    Delivered(Millis, (Arc<str>, Option<Arc<str>>)),
}

/// A delta record in flight, returned with its fate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) commit_number: u64,
    pub(crate) shard: i32,
    /// How many records have gone to this shard before it.
    pub(crate) number: u64,
}

/// Why a task could not be acquired.
pub(crate) struct Failure {
    pub(crate) why: String,
    /// Whether the brokers are the cause, so that all tasks may fail at once.
    pub(crate) of_brokers: bool,
}

/// The sending side of a thread's inbox.
#[derive(Clone)]
pub(crate) struct Inbox {
    sender: SyncSender<Command>,
    thread: Thread,
}

impl Inbox {
    pub(crate) fn new(sender: SyncSender<Command>, thread: Thread) -> Self {
        Self { sender, thread }
    }

    /// Enqueues a command and wakes the thread. Blocks while the inbox is full; commands for an ended thread are
    /// dropped.
    pub(crate) fn send(&self, command: Command) {
        let full = match self.sender.try_send(command) {
            Err(TrySendError::Full(command)) => command,
            Ok(()) | Err(TrySendError::Disconnected(_)) => return self.thread.unpark(),
        };
        self.thread.unpark();
        if self.sender.send(full).is_ok() {
            self.thread.unpark();
        }
    }
}
