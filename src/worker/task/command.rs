//! What reaches a worker thread from outside: one bounded inbox, and a nudge.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::Thread;

use super::taken::Taken;
use crate::core::model::Millis;
use crate::worker::kafka::appender::Fate;
use crate::worker::telemetry::TaskId;

/// One life of a task on this worker, from claim to end. News for an earlier life is ignored.
pub(crate) type Life = u64;

/// News for a worker thread.
pub(crate) enum Command {
    /// Take these tasks over.
    Open(Vec<TaskId>),
    /// Close these tasks, then notify `done`.
    Close(Close),
    /// A take-over is complete.
    Ready(TaskId, Life, Box<Taken>),
    /// A take-over failed; try again later.
    Failed(TaskId, Life, Failure),
    /// News for a running task.
    News(TaskId, Life, News),
    /// End the thread; all tasks have been closed before.
    End,
}

/// A request to let tasks go.
pub(crate) struct Close {
    /// The tasks; those that are not here are skipped.
    pub(crate) tasks: Vec<TaskId>,
    /// Whether to drain first: the last commit, the release. Otherwise they are dropped as they are.
    pub(crate) drain: bool,
    /// Notified when all are gone.
    pub(crate) done: SyncSender<()>,
}

/// News for a running task.
pub(crate) enum News {
    /// The fate of a journal record, with its number in this life, in the order of appending.
    Journal(u64, Fate),
    /// The fate of one share record.
    Share(Sent, Fate),
    /// The batch of this step and tenant has been settled by its receiver.
    Delivered(Millis, Arc<str>),
}

/// A share record in flight, returned with its fate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) k: u64,
    pub(crate) shard: i32,
    /// How many records have gone to this shard before it.
    pub(crate) number: u64,
}

/// Why a take-over failed.
pub(crate) struct Failure {
    pub(crate) why: String,
    /// Whether all tasks may fail so at once, because of the brokers.
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

    /// Hands a command over and wakes the thread. Blocks while the inbox is full; news for an ended thread is dropped.
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
