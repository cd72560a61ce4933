//! The input and output of a span task.

use std::sync::Arc;

use crate::core::formats::FormatError;
use crate::core::model::wire::Malformed;
use crate::core::model::{Ledger, Millis, Namer, Seed, StepWidth};
use crate::core::otlp::{self, DecodeError};
use crate::core::settings::{Encoding, Tenants};

/// One record of the source.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp; one before the epoch counts as the epoch.
    pub timestamp: Millis,
    /// The tenant; `None` when the record lacks the key or header that names it. Its spans are then not read.
    pub tenant: Option<&'a str>,
    /// The value, in the format of the task's encoding.
    pub value: &'a [u8],
}

/// What a span task needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct SpanSettings {
    /// The format of record values.
    pub encoding: Encoding,
    /// The collection interval.
    pub step: StepWidth,
    /// How far stream time stays behind the ends of spans; `None`: it is that of the records.
    pub lateness: Option<Millis>,
    /// How far a record may be ahead of stream time before later records must confirm it, and of the present.
    pub max_future: Millis,
    /// Partitions of the deltas topic.
    pub shards: u32,
    /// A cut is due before the next record when the open deltas reach about this size.
    pub max_commit_bytes: usize,
    /// A label set that was idle for longer is sent in full again.
    pub respell_after: Millis,
    /// The resource attribute that names the tenant, if one does. Resources without it belong to the record's tenant.
    pub tenant_attribute: Option<String>,
    /// What to compute for each tenant.
    pub tenants: Tenants,
    /// The settings that the workers of a group should agree on: a fingerprint, and the text.
    pub agreed: (u64, Arc<str>),
    /// Names label sets, by the group.
    pub namer: Namer,
    /// The seed that hides where keys lie in memory. Production sets a random one.
    pub seed: Seed,
}

/// The state of the partition in the journal. The default is that of an empty journal.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// The first offset that no commit covers; `None` when there is no commit.
    pub next: Option<i64>,
    /// The number of the next commit.
    pub next_commit_number: u64,
    /// Stream time after the last commit.
    pub stream_time: Option<Millis>,
    /// The latest step that any commit has added to.
    pub step: Option<Millis>,
    /// Where to start reading so that the pending edges come back.
    pub reread_from: i64,
    /// The pending edges that were waiting.
    pub live: Vec<u8>,
    /// The ledger up to `next`.
    pub ledger: Ledger,
}

/// Why a task cannot start from the state in the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The list of pending edges does not decode.
    #[error(
        "the last commit of {topic}[{partition}] has a damaged list of pending edges ({source}); restore its \
             journal"
    )]
    Live {
        /// The source topic.
        topic: String,
        /// The source partition.
        partition: i32,
        /// The problem.
        source: Malformed,
    },
}

/// Why a record was taken and not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Its value is no OTLP protobuf.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// Its value does not match another encoding.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// It names no tenant.
    #[error(
        "the record names no tenant: the key or header that tenant.source asks for is missing, too long, not UTF-8 or has \
         control characters"
    )]
    NoTenant,
}

impl Refusal {
    /// Its kind.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Undecodable(_) | Self::Format(_) => "undecodable",
            Self::NoTenant => "no tenant",
        }
    }

    /// The full reason: with the apparent format of the record, and its beginning.
    #[must_use]
    pub fn describe(self, value: &[u8]) -> String {
        let guess = match self {
            Self::Undecodable(_) => otlp::looks_like(value).map_or(String::new(), |guess| format!("; it {guess}")),
            Self::Format(_) | Self::NoTenant => String::new(),
        };
        format!("{self}{guess}; it begins with \"{}\"", otlp::sample(value))
    }
}

/// What a task holds, in bytes; cheap estimates.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// The open stretch: given back by the next cut.
    pub open: usize,
    /// Label sets that are known, until they are forgotten.
    pub known: usize,
    /// Pending edges, open traces, and spans that are remembered because they may come again.
    pub edges: usize,
    /// Records whose time is not clear: released by further reading.
    pub doubted: usize,
}

/// What a pending edge takes in memory: 68 bytes in its slot, up to 10 in the index, up to 24 for its place in the topic, and
/// its part of the names.
pub(super) const EDGE: usize = 128;
/// The same for a span that is remembered because it may call others, or be called: 112 bytes in its slot, 48 in that by
/// its parent, and up to 10 in the index of each.
pub(super) const KIN: usize = 192;

/// Records that were not counted at their own time, because they were taken to come from the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The offset of the first.
    pub offset: i64,
    /// The time that it held.
    pub told: Millis,
    /// Stream time as it was counted.
    pub counted_at: Millis,
    /// How many there were.
    pub records: u64,
}

/// The result of offering a record.
#[derive(Debug)]
#[must_use]
pub enum Offer {
    /// It was taken. It may be kept until later records confirm its time.
    Taken,
    /// It was not taken: journal the cut, then offer the same record again.
    CutFirst {
        /// The open stretch, which ends before the record.
        cut: Box<StepCut>,
    },
}

/// One stretch of the source, as a commit needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepCut {
    /// Whether a tick made it.
    pub tick: bool,
    /// The first offset of the stretch.
    pub from: i64,
    /// The offset after the stretch.
    pub to: i64,
    /// The number of the commit.
    pub commit_number: u64,
    /// The end of the latest step that deltas belong to, of this cut or of one before.
    pub step: Millis,
    /// Stream time after the cut.
    pub stream_time: Millis,
    /// Where a new owner starts reading; `to` when no pending edge waits.
    pub reread_from: i64,
    /// The pending edges.
    pub live: Vec<u8>,
    /// The ledger since the beginning of the journal.
    pub ledger: Ledger,
    /// Per shard, the records for its partition of the deltas topic; at least one each.
    pub delta_records: Vec<Vec<Vec<u8>>>,
}

// === impl SpanSettings ===

impl SpanSettings {
    /// The same with a seed that no sender knows.
    #[must_use]
    pub fn seeded(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }
}
