//! Why a task could not be acquired, and what an operator can do about it.

use crate::core::journal::{Identity, JournalError, Mismatch};
use crate::core::tasks::series::{SettingsError, SnapshotError};
use crate::core::tasks::span::RestoreError;
use crate::worker::kafka::KafkaError;
use crate::worker::series_task::UnknownDeltaRecord;
use crate::worker::task::Mode;

/// Why a task could not be acquired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TakeoverError {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("{topic}[{partition}]: {source}")]
    Journal { topic: String, partition: i32, source: JournalError },
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("series journal of shard {shard}: {source}")]
    Snapshot { shard: i32, source: SnapshotError },
    #[error("series journal of shard {shard}: {source}")]
    Settings { shard: i32, source: SettingsError },
    #[error(transparent)]
    DeltaRecord(#[from] UnknownDeltaRecord),
    #[error(
        "{topic}[{partition}] begins at offset {low}, but {needed} is still needed: records were deleted by another \
         process; restore the topic, or start again with another kafka.group"
    )]
    Cut { topic: String, partition: i32, low: i64, needed: i64 },
    #[error(
        "{topic}[{partition}] ends at offset {high}, but its journal continues at {next}: the topic was re-created, \
         or has lost its end. {remedy}"
    )]
    Shrunk { topic: String, partition: i32, high: i64, next: i64, remedy: Remedy },
    #[error(
        "{topic}[{partition}] holds another record at offset {offset} than the one that was read there: the topic \
         was re-created. {remedy}"
    )]
    Replaced { topic: String, partition: i32, offset: i64, remedy: Remedy },
    #[error(
        "{topic}[{partition}] has the ID {found}, but its journal continues from the ID {known}: the topic was \
         re-created. {remedy}"
    )]
    Renewed { topic: String, partition: i32, found: String, known: String, remedy: Remedy },
    #[error(
        "{journal}[{partition}] belongs to {owner}, whose topic names collide with those of this group; use another \
         kafka.group. The journal was not changed"
    )]
    Foreign { journal: String, partition: i32, owner: Identity },
    #[error(
        "{journal}[{partition}] {}, but the group's offset shows that it once reached {known}: it was deleted, or \
         has lost its end. {remedy}",
        next.map_or("is empty".to_owned(), |next| format!("ends at offset {next} of its input"))
    )]
    LostEnd { journal: String, partition: i32, known: i64, next: Option<i64>, remedy: Remedy },
    #[error(
        "{journal}[{partition}] ends at commit {next}, but shards have received commits up to {known}: it was \
         deleted, or has lost its end. {remedy}"
    )]
    LostCommits { journal: String, partition: i32, known: u64, next: u64, remedy: Remedy },
    #[error("series journal of shard {shard}: {source}")]
    Mismatch { shard: i32, source: Mismatch },
    #[error(
        "the deltas topic has lost delta records of shard {shard} that closed steps include: {lacks}. The journals \
         of the source partitions were asked to send them again where possible"
    )]
    Lacks { shard: i32, lacks: String },
    #[error("a bug in spanmill: {0}; please report it")]
    Panicked(String),
    #[error(
        "{topic}[{partition}] is reserved for sharding {found}: `spanmill reshard` has changed the number of shards, or \
         was interrupted. Run it again if it did not finish; then restart this worker, with Describe and Read granted \
         on {shardings}"
    )]
    Resharded { topic: String, partition: i32, shardings: String, found: u32 },
    #[error("{topic}[{partition}] was claimed by another worker")]
    Overtaken { topic: String, partition: i32 },
}

/// What an operator can do about a topic that was re-created or has lost records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Remedy {
    #[error(
        "Stop all workers of the group and set the offset to continue from, with `kafka-consumer-groups \
         --reset-offsets` and --to-earliest for a new topic or --to-latest for one that lost its end"
    )]
    Reset,
    #[error("Restore it, or start again with another kafka.group")]
    StartOver,
    #[error("Start another run with another --id")]
    AnotherRun,
}

// === impl Remedy ===

impl Remedy {
    /// The remedy of a live worker, or another run.
    pub(super) fn or_another_run(self, mode: &Mode) -> Self {
        if mode.replaying().is_some() { Self::AnotherRun } else { self }
    }
}
