//! What is different when history is replayed, as the answers to a few questions: a worker lives in the present, or replays.
//!
//! In the present time passes by itself, topics and settings change, and operators reset offsets. In a replay time passes in the
//! data alone, everything is as it was planned, and no step may be skipped.

use std::time::Duration;

use super::clock::Clock;
use super::replay::{Replay, ReplayRange, Replaying};
use crate::core::model::Millis;
use crate::worker::telemetry::{TaskId, TaskKind};

/// How often a replay writes a snapshot at most.
const REPLAY_SNAPSHOT_EVERY: Duration = Duration::from_secs(10);

/// How a worker works.
pub(crate) enum Mode {
    /// On what comes.
    Live,
    /// On stretches of history.
    Replay(Replaying),
}

// === impl Mode ===

impl Mode {
    /// That of a replay, if there is something to replay.
    pub(crate) fn new(replay: Option<Replay>, shards: u32) -> Self {
        replay.map_or(Self::Live, |replay| Self::Replay(Replaying::new(replay, shards)))
    }

    /// The replay, for what only a replay has: ranges, a pace, and a distance to keep.
    pub(crate) fn replaying(&self) -> Option<&Replaying> {
        match self {
            Self::Live => None,
            Self::Replay(replaying) => Some(replaying),
        }
    }

    /// Whether time passes without records: then a silent partition advances, and one that stays behind is not waited for.
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

    /// Whether a task is to be done. A replay leaves partitions alone that have been added since it was planned.
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

    /// Up to when records are believed. In a replay that is the present of the plan: the one of a worker would give another result on
    /// another day.
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
