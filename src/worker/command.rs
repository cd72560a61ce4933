//! What reaches a worker thread from outside: one bounded inbox, and a nudge.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::Thread;

use super::span::Sent;
use super::takeover::{Taken, TakeoverError};
use crate::kafka::appender::Fate;
use crate::model::Millis;
use crate::telemetry::TaskId;

/// One life of a task on this worker, from claim to end. News for an earlier life is ignored.
pub(super) type Life = u64;

/// News for a worker thread.
pub(super) enum Command {
    /// Take these tasks over.
    Open(Vec<TaskId>),
    /// Let these tasks go, then tell `done`.
    Close(Close),
    /// A take-over is complete.
    Ready(TaskId, Life, Box<Taken>),
    /// A take-over failed; try again later.
    Failed(TaskId, Life, TakeoverError),
    /// News for a running task.
    News(TaskId, Life, News),
    /// End the thread; all tasks have been closed before.
    End,
}

/// A request to let tasks go.
pub(super) struct Close {
    /// The tasks; those that are not here are skipped.
    pub(super) tasks: Vec<TaskId>,
    /// Whether to drain first: the last commit, the release. Otherwise they are dropped as they are.
    pub(super) drain: bool,
    /// Told when all are gone.
    pub(super) done: SyncSender<()>,
}

/// News for a running task.
pub(super) enum News {
    /// The fate of its next journal record, in the order of appending.
    Journal(Fate),
    /// The fate of one share record.
    Share(Sent, Fate),
    /// The batch of this step and tenant has been settled by its receiver.
    Delivered(Millis, Arc<str>),
}

/// The sending side of a thread's inbox.
#[derive(Clone)]
pub(super) struct Inbox {
    sender: SyncSender<Command>,
    thread: Thread,
}

impl Inbox {
    pub(super) fn new(sender: SyncSender<Command>, thread: Thread) -> Self {
        Self { sender, thread }
    }

    /// Hands a command over and wakes the thread. Blocks while the inbox is full; news for an ended thread is dropped.
    pub(super) fn send(&self, command: Command) {
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
