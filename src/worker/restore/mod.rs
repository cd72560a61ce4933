//! Acquiring tasks: claim the journal, compare its state with the group's offsets and the topics, restore it.
//!
//! *In:* tasks that a thread has opened. *Out:* [`Taken`](super::task::Taken) state, or the reason why not. *Owner:*
//! the threads of a small [`Pool`], because taking over waits for brokers. *Never:* a running task. *Next:* `takeover`,
//! one function for each kind of task.

mod claim;
mod error;
mod evidence;
mod means;
mod offline;
mod pool;
mod refold;
mod reset;
mod takeover;

pub(crate) use self::error::TakeoverError;
pub(crate) use self::means::{Means, log_reader};
pub(crate) use self::offline::{Offline, SpanJournal};
pub(crate) use self::pool::Pool;
