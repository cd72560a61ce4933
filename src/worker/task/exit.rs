//! How a task ends: why, and a panic on the way.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::worker::kafka::KafkaError;

/// Why a running task has to end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// Another worker has claimed the journal. The group has given, or will give, the partition away.
    #[error("another worker has claimed its journal")]
    Fenced,
    /// It is not known what the journal accepted: the task must be restarted.
    #[error("the outcome of an append is unknown ({0})")]
    Unknown(String),
    /// Kafka prevents the task from continuing.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The data prevents the task from continuing.
    #[error("{0}")]
    Data(String),
    /// The partition has unread records and delivers none.
    #[error("no records from offset {0} on, even after restarting the fetch")]
    Stuck(i64),
    /// A shard lacks delta records that the journal has: the next owner of the task sends them again.
    #[error("shard {0} lacks delta records from commit {1} on, which are sent again")]
    Lacked(u32, u64),
    /// The code has panicked.
    #[error("a bug in spanmill: {0}; please report it")]
    Panicked(String),
}

// === impl Ended ===

impl Ended {
    /// Whether the brokers are the cause, so that all tasks may end at once.
    pub(crate) fn is_of_brokers(&self) -> bool {
        matches!(self, Self::Kafka(_) | Self::Unknown(_))
    }
}

/// Runs a piece of a task's work; a panic ends the task and not its thread.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, Ended>) -> Result<T, Ended> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Ended::Panicked(text_of(&*panic))))
}

/// The message of a panic.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
