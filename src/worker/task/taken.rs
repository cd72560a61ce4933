//! The state that a running task begins with, as it was restored.

use std::collections::BTreeSet;

use crate::core::journal::{DeltaRecords, EndpointMark, JournalWriter, Needs, Witness};
use crate::core::model::{Ledger, Millis};
use crate::core::remotewrite::StepBatch;
use crate::core::tasks::series::{SeriesTask, Terms};
use crate::core::tasks::span::SpanTask;

/// A task that has been acquired and is ready to run.
pub(crate) enum Taken {
    /// A span task.
    Span(Box<TakenSpan>),
    /// A series task.
    Series(Box<TakenSeries>),
}

/// A restored span task.
pub(crate) struct TakenSpan {
    pub(crate) task: SpanTask,
    /// The generation of its settings.
    pub(crate) generation: u64,
    pub(crate) writer: JournalWriter,
    /// Where fetching starts.
    pub(crate) start: i64,
    /// Every delta record with a smaller commit number has been acknowledged by all shards.
    pub(crate) forwarded: u64,
    /// Delta records that the journal accepted and that may not have reached the shards.
    pub(crate) unforwarded: Vec<(u64, DeltaRecords)>,
    /// Delta records that were sent before, for the shards that lack them.
    pub(crate) regained: Vec<(u64, DeltaRecords)>,
    pub(crate) needs: Needs,
    /// A record that was read from this topic.
    pub(crate) witness: Option<Witness>,
    /// The ledger of the last commit.
    pub(crate) journaled: Ledger,
}

/// A restored series task.
pub(crate) struct TakenSeries {
    pub(crate) task: SeriesTask,
    /// The generation of its settings.
    pub(crate) generation: u64,
    pub(crate) writer: JournalWriter,
    /// Where fetching starts; also where the last mark ended.
    pub(crate) start: i64,
    /// The last step that the receiver acknowledged as a whole.
    pub(crate) acknowledged: Option<Millis>,
    /// The step of the last snapshot.
    pub(crate) snapshot: Option<Millis>,
    /// Steps that the journal closed and the receiver may not have: to be sent again.
    pub(crate) resend: Vec<(Millis, Vec<StepBatch>)>,
    /// What the snapshot holds for receivers that were down.
    pub(crate) undelivered: Vec<StepBatch>,
    /// How far each of several endpoints was when the last step was closed.
    pub(crate) endpoints: Vec<EndpointMark>,
    /// The sources that the last steps did not wait for, because they join the shard.
    pub(crate) joining: BTreeSet<(String, i32)>,
    /// How it switches to the settings of this worker.
    pub(crate) terms: Terms,
    /// Whether the journal records that everything is closed and acknowledged, and nothing more will come.
    pub(crate) ended: bool,
}
