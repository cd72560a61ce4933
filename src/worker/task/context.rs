//! What a running task uses in its turn, and the result of a turn.

use std::sync::atomic::AtomicBool;

use super::clients::Clients;
use super::clock::Clock;
use super::command::Inbox;
use super::mode::Mode;
use super::offsets::Offsets;
use super::sources::Sources;
use super::tenants::TenantSettings;
use crate::worker::kafka::{Fetcher, LogReader};

/// What a task did in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It worked and has more to do.
    Busy,
    /// It waits for records, acknowledgements or the receiver.
    Idle,
}

/// What a task may use in its turn.
pub(crate) struct TaskContext<'a> {
    pub(crate) clients: &'a Clients,
    pub(crate) tenants: &'a TenantSettings,
    pub(crate) sources: &'a Sources,
    pub(crate) offsets: &'a Offsets,
    pub(crate) clock: &'a Clock,
    pub(crate) mode: &'a Mode,
    /// Set when the worker is to end.
    pub(crate) stop: &'a AtomicBool,
    /// The consumer of the thread that runs the task.
    pub(crate) fetcher: &'a Fetcher,
    /// The reader of logs of this thread.
    pub(crate) reader: &'a LogReader,
    /// Where news for the task goes.
    pub(crate) inbox: &'a Inbox,
}
