//! What is different when history is replayed, as a few predicates: a worker is live, or replays.
//!
//! A live worker sees time pass by itself, topics and settings change, and operators reset offsets. In a replay, time
//! passes in the data alone, everything is as it was planned, and no step may be skipped.

use std::time::Duration;

use super::clock::Clock;
use super::replay::{Replay, ReplayRange, Replaying};
use crate::core::model::Millis;
use crate::worker::telemetry::{TaskId, TaskKind};

/// How often a replay writes a snapshot at most.
const REPLAY_SNAPSHOT_EVERY: Duration = Duration::from_secs(10);

/// How a worker works.
pub(crate) enum Mode {
    /// Processes new records.
    Live,
    /// Processes stretches of history.
    Replay(Replaying),
}

// === impl Mode ===

impl Mode {
    /// The mode of a replay, if there is something to replay.
    pub(crate) fn new(replay: Option<Replay>, shards: u32) -> Self {
        replay.map_or(Self::Live, |replay| Self::Replay(Replaying::new(replay, shards)))
    }

    /// The replay, for what only a replay has: ranges, a rate limit, and a maximum lead.
    pub(crate) fn replaying(&self) -> Option<&Replaying> {
        match self {
            Self::Live => None,
            Self::Replay(replaying) => Some(replaying),
        }
    }

    /// A shard has read a delta record.
    pub(crate) fn hear(&self, shard: i32, record: &[u8]) {
        if let Self::Replay(replaying) = self {
            replaying.hear(shard, record);
        }
    }

    /// Whether time passes without records: then a silent partition advances, and a step does not wait for a stalled
    /// one for ever.
    pub(crate) fn time_passes(&self) -> bool {
        matches!(self, Self::Live)
    }

    /// Whether source topics and settings of tenants are followed when they change.
    pub(crate) fn follows_changes(&self) -> bool {
        matches!(self, Self::Live)
    }

    /// Whether an operator may move the offsets of the group.
    pub(crate) fn obeys_resets(&self) -> bool {
        matches!(self, Self::Live)
    }

    /// Whether steps are written without a tenant whose receiver is down.
    pub(crate) fn leaves_out(&self) -> bool {
        matches!(self, Self::Live)
    }

    /// The minimum time between two snapshots of a shard, by the clock. Replays run through event time at great speed
    /// and would do little but write them.
    pub(crate) fn rest_between_snapshots(&self) -> Duration {
        match self {
            Self::Live => Duration::ZERO,
            Self::Replay(_) => REPLAY_SNAPSHOT_EVERY,
        }
    }

    /// The source topics with the number of their partitions, if that is planned.
    pub(crate) fn planned_sources(&self) -> Option<Vec<(String, i32)>> {
        self.replaying().map(Replaying::sources)
    }

    /// Whether a task is part of the work. A replay ignores partitions that were added since it was planned.
    pub(crate) fn includes(&self, task: &TaskId) -> bool {
        match self {
            Self::Live => true,
            Self::Replay(_) => task.kind == TaskKind::Series || self.range(&task.topic, task.partition).is_some(),
        }
    }

    /// What to replay of a partition.
    pub(crate) fn range(&self, topic: &str, partition: i32) -> Option<&ReplayRange> {
        self.replaying()?.range(topic, partition)
    }

    /// The latest plausible time of a record. In a replay that is the present of the plan: a worker's own would give
    /// another result on another day.
    pub(crate) fn present(&self, clock: &Clock) -> Millis {
        match self {
            Self::Live => clock.present(),
            Self::Replay(replaying) => replaying.present(),
        }
    }

    /// A record has been read.
    pub(crate) fn has_read(&self, bytes: usize) {
        if let Self::Replay(replaying) = self {
            replaying.has_read(bytes);
        }
    }

    /// A task is closed.
    pub(crate) fn has_closed(&self, task: &TaskId) {
        if let (Self::Replay(replaying), TaskKind::Series) = (self, task.kind) {
            replaying.forget_floor(task.partition);
        }
    }
}
