//! Why a group was not divided into other shards, and what to do.

use super::Stage;
use crate::core::tasks::series::ReshardError as Division;
use crate::worker::kafka::KafkaError;
use crate::worker::task::WorkerError;

/// Why the number of shards was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReshardError {
    /// A client, or the overrides.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// A request to Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A group has members.
    #[error("the group {group} has members: {}; stop all of its workers first", members.join(", "))]
    Members {
        /// The group.
        group: String,
        /// Its members.
        members: Vec<String>,
    },
    /// There is nothing to divide.
    #[error("topic {0} does not exist: no worker of the group has run yet, so set kafka.shards as you like")]
    NotRun(String),
    /// The number is the present one.
    #[error("the group has {0} shards already, and no change of them was interrupted")]
    Same(u32),
    /// The group is that of a replay.
    #[error("the group is that of a replay that has ended; nothing follows that other shards could count")]
    Ended,
    /// A journal cannot be acquired or read.
    #[error("{0}")]
    Journal(String),
    /// The commits that shards have counted are not those of a journal.
    #[error(
        "shard {shard} has not counted what the journal of {topic}[{partition}] holds: it stands at commit {counted} of \
         {commits}. If {topic} is still a source topic, start the workers as they were, let them catch up, and run this \
         again; otherwise restore its journal"
    )]
    Lacks {
        /// The shard.
        shard: i32,
        /// The source topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The first commit that was not counted.
        counted: u64,
        /// The commits of the journal.
        commits: u64,
    },
    /// A shard contradicts itself.
    #[error(
        "shard {0} has received a delta record that differs from the counted one with the same number: a journal has lost \
         its end. Restore it, or start again with another kafka.group"
    )]
    Contradicted(i32),
    /// A receiver does not take what it lacks.
    #[error(
        "these tenants still lack samples of closed steps: {}. The shards can be divided once all receivers have them: \
         check the receivers, and run this again, with a longer --timeout if they are slow",
        waiting.join(", ")
    )]
    Unsent {
        /// Tenants and endpoints.
        waiting: Vec<String>,
    },
    /// The series cannot be divided.
    #[error(transparent)]
    Division(#[from] Division),
    /// Something else has written to a journal.
    #[error("{journal}[{partition}] was written to meanwhile: stop all workers of the group, and run this again")]
    Meanwhile {
        /// The journal.
        journal: String,
        /// Its partition.
        partition: i32,
    },
    /// The caller wanted no more, or a signal came.
    #[error("stopped before it was to {0}")]
    Stopped(Stage),
}

/// An attempt that did not change the number of shards.
#[derive(Debug, thiserror::Error)]
#[error("{why}. {}", if *reserved { RESERVED } else { UNCHANGED })]
pub struct Unfinished {
    /// Why not.
    pub why: Box<ReshardError>,
    /// Whether workers cannot start before another attempt is complete.
    pub reserved: bool,
}

const RESERVED: &str =
    "Workers cannot start before it is complete: run this command again, with the present number to keep it";
const UNCHANGED: &str = "Nothing has changed: workers can start as before";
