//! Taking a task over: claim its journal, fold it, restore its state. Runs on a small pool, because it waits for brokers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Unknown;

use super::WorkerError;
use super::command::{Command, Inbox, Life};
use super::evidence;
use super::intake::text_of;
use super::memory::{Held, Part};
use super::reset;
use super::shared::Shared;
use crate::config::settings::Start;
use crate::deltas::ShareError;
use crate::journal::frame::claim;
use crate::journal::{
    EmitCause, EmitMark, JournalError, Owner, SeriesFold, SeriesState, Shares, SpanFold, SpanState, Witness, Writer,
};
use crate::kafka::reader::{READ_AHEAD, Stretch};
use crate::kafka::{KafkaError, LogReader};
use crate::model::Millis;
use crate::remotewrite::StepBatch;
use crate::tasks::series::{ApplyError, SeriesSettings, SeriesTask, SnapshotError};
use crate::tasks::span::{RestoreError, Restored, SpanSettings, SpanTask};
use crate::telemetry::{TaskId, TaskKind, TaskState};

/// How long a claim may take to be acknowledged.
pub(super) const CLAIM_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a claim is made again when its offset is unknown.
const CLAIM_TRIES: u32 = 5;

/// Threads that take tasks over.
const THREADS: usize = 4;

/// A task that has been taken over and is ready to run.
pub(super) enum Taken {
    /// A span task.
    Span(Box<TakenSpan>),
    /// A series task.
    Series(Box<TakenSeries>),
}

/// A restored span task.
pub(super) struct TakenSpan {
    pub(super) task: SpanTask,
    /// Of the settings that it has.
    pub(super) generation: u64,
    pub(super) writer: Writer,
    /// Where fetching starts.
    pub(super) start: i64,
    /// Every share with a smaller `k` has been acknowledged by all shards.
    pub(super) forwarded: u64,
    /// Shares that the journal accepted and that may not have reached the shards.
    pub(super) unforwarded: Vec<(u64, Shares)>,
    /// A record that was read from this topic.
    pub(super) witness: Option<Witness>,
}

/// A restored series task.
pub(super) struct TakenSeries {
    pub(super) task: SeriesTask,
    /// Of the settings that it has.
    pub(super) generation: u64,
    pub(super) writer: Writer,
    /// Where fetching starts; also where the last mark ended.
    pub(super) start: i64,
    /// The last step that the receiver acknowledged as a whole.
    pub(super) acknowledged: Option<Millis>,
    /// The step of the last snapshot.
    pub(super) snapshot: Option<Millis>,
    /// Steps that the journal closed and the receiver may not have: to be sent again.
    pub(super) resend: Vec<(Millis, Vec<StepBatch>)>,
    /// What the snapshot holds for receivers that were down.
    pub(super) undelivered: Vec<StepBatch>,
    /// Whether the journal says that everything is closed and acknowledged, and nothing more will come.
    pub(super) ended: bool,
}

/// Why a task could not be taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum TakeoverError {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("{topic}[{partition}]: {source}")]
    Journal { topic: String, partition: i32, source: JournalError },
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("series journal of shard {shard}: {source}")]
    Snapshot { shard: i32, source: SnapshotError },
    #[error("deltas topic, shard {shard}, offset {offset}: {source}")]
    Share { shard: i32, offset: i64, source: ApplyError },
    #[error(
        "{topic}[{partition}] begins at offset {low}, but {needed} is still needed: its records were deleted from \
             outside; restore the topic, or start over with another kafka.group"
    )]
    Cut { topic: String, partition: i32, low: i64, needed: i64 },
    #[error(
        "{topic}[{partition}] ends at offset {high}, but its journal goes on at {next}: the topic was created anew, or has \
             lost its end. {remedy}"
    )]
    Shrunk { topic: String, partition: i32, high: i64, next: i64, remedy: Remedy },
    #[error(
        "{topic}[{partition}] holds another record at offset {offset} than the one that was read there: the topic was created \
             anew. {remedy}"
    )]
    Replaced { topic: String, partition: i32, offset: i64, remedy: Remedy },
    #[error(
        "{journal}[{partition}] {}, but the group's offset says that it once went up to {known}: it was deleted, or has lost \
             its end. {remedy}",
        next.map_or("says nothing".to_owned(), |next| format!("goes up to offset {next} of its input"))
    )]
    LostEnd { journal: String, partition: i32, known: i64, next: Option<i64>, remedy: Remedy },
    #[error("a bug in spanmill: {0}; please report it")]
    Panicked(String),
    #[error("somebody else claimed {topic}[{partition}] in the meantime")]
    Overtaken { topic: String, partition: i32 },
}

/// What an operator can do about a topic that is not what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Remedy {
    #[error(
        "Stop all workers of the group and say where to go on, with `kafka-consumer-groups --reset-offsets` and --to-earliest \
             for a new topic or --to-latest for one that lost its end"
    )]
    Reset,
    #[error("Restore it, or start over with another kafka.group")]
    StartOver,
    #[error("Begin another run with another --id")]
    AnotherRun,
}

/// The claim of a journal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) journal: &'a str,
    pub(super) partition: i32,
    pub(super) owner: Owner,
    /// Where it lies in the journal.
    pub(super) offset: i64,
}

/// The threads that take tasks over.
pub(super) struct Pool {
    jobs: Sender<Job>,
    threads: Vec<JoinHandle<()>>,
}

struct Job {
    task: TaskId,
    life: Life,
    inbox: Inbox,
    /// Gone when nobody waits for the task any more.
    wanted: Weak<()>,
}

// === impl Pool ===

impl Pool {
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Arc<Self>, WorkerError> {
        // As many jobs as tasks: bounded by what the group assigns.
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = Vec::new();
        for i in 0..THREADS {
            let (shared, queue) = (Arc::clone(shared), Arc::clone(&queue));
            let reader = log_reader(&shared)?;
            let thread = std::thread::Builder::new()
                .name(format!("takeover-{i}"))
                .spawn(move || work(&shared, &reader, &queue))
                .map_err(WorkerError::Thread)?;
            threads.push(thread);
        }
        Ok(Arc::new(Self { jobs, threads }))
    }

    /// Takes `task` over; the outcome goes to `inbox`. Drop what is returned to call it off, if it has not begun: a claim
    /// for a task that has moved on would only fence its new owner.
    pub(super) fn submit(&self, task: TaskId, life: Life, inbox: Inbox) -> Arc<()> {
        let wanted = Arc::new(());
        if self.jobs.send(Job { task, life, inbox, wanted: Arc::downgrade(&wanted) }).is_err() {
            tracing::error!("the take-over threads are gone");
        }
        wanted
    }

    /// Ends the threads. Take-overs under way are given up.
    pub(super) fn end(self: Arc<Self>) {
        let Some(pool) = Arc::into_inner(self) else { return };
        drop(pool.jobs);
        for thread in pool.threads {
            if thread.join().is_err() {
                tracing::error!("a take-over thread died");
            }
        }
    }
}

/// A reader of journals and deltas. All of them together stay within the part of the limit for fetching ahead.
pub(super) fn log_reader(shared: &Shared) -> Result<LogReader, KafkaError> {
    LogReader::with_buffer(&shared.config.kafka, shared.memory.fetch_ahead(READ_AHEAD, THREADS))
}

fn work(shared: &Shared, reader: &LogReader, queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok(Job { task, life, inbox, wanted }) = job else { return };
        if wanted.strong_count() == 0 {
            continue;
        }
        let started = Instant::now();
        let mut held = Held::new(&shared.memory);
        held.set(Part::Readers, reader.memory());
        shared.telemetry.board().update(&task, |s| s.state = TaskState::Claiming);
        // A bug ends the attempt and not the thread, which others need.
        let outcome = catch_unwind(AssertUnwindSafe(|| match task.kind {
            TaskKind::Span => take_span(shared, reader, &task).map(|t| Taken::Span(Box::new(t))),
            TaskKind::Series => take_series(shared, reader, &task, &mut held).map(|t| Taken::Series(Box::new(t))),
        }));
        let outcome = outcome.unwrap_or_else(|panic| {
            shared.telemetry.panicked(task.kind);
            Err(TakeoverError::Panicked(text_of(&*panic)))
        });
        match outcome {
            Ok(taken) => {
                shared.telemetry.restored(task.kind, started.elapsed());
                inbox.send(Command::Ready(task, life, Box::new(taken)));
            }
            Err(error) => inbox.send(Command::Failed(task, life, error)),
        }
    }
}

/// Appends a claim of a fresh owner and waits for its offset. An unknown outcome means: claim again.
fn stake_claim<'a>(shared: &Shared, topic: &'a str, partition: i32) -> Result<Claim<'a>, KafkaError> {
    let note = format!("{} pid {}", env!("CARGO_PKG_VERSION"), std::process::id());
    let mut last = None;
    for _ in 0..CLAIM_TRIES {
        if shared.stop.load(Ordering::Relaxed) {
            return Err(KafkaError::Stopping);
        }
        let owner = Owner(rand::random());
        match shared.appender.append_and_wait(topic, partition, &claim(owner, &note), CLAIM_TIMEOUT) {
            Ok(Some(offset)) => return Ok(Claim { journal: topic, partition, owner, offset }),
            Ok(None) => tracing::debug!(topic, partition, "a claim without an offset; claiming again"),
            Err(error) => {
                if matches!(error.code(), Some(Unknown::UnknownPartition | Unknown::UnknownTopicOrPartition)) {
                    shared.appender.look_up(topic)?;
                }
                tracing::info!(topic, partition, %error, "a claim is not acknowledged; claiming again");
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or(KafkaError::Timeout { what: format!("claim {topic}[{partition}]"), seconds: 30 }))
}

/// Hands the journal up to and including the claim to `each`; tells whether its beginning had been cut off.
fn read_journal(
    shared: &Shared,
    reader: &LogReader,
    claim: &Claim<'_>,
    each: &mut dyn FnMut(bool, i64, &[u8]) -> Result<(), JournalError>,
) -> Result<(), TakeoverError> {
    let (topic, partition) = (claim.journal, claim.partition);
    let (low, _) = reader.bounds(topic, partition)?;
    let stretch = Stretch { topic, partition, from: low, to: claim.offset + 1 };
    reader
        .read(stretch, &shared.stop, &mut |offset, record| each(low > 0, offset, record).map_err(|e| claim.damaged(e)))
}

fn take_span(shared: &Shared, reader: &LogReader, id: &TaskId) -> Result<TakenSpan, TakeoverError> {
    let journal = shared.names.journal(&id.topic);
    let claim = stake_claim(shared, &journal, id.partition)?;
    shared.telemetry.board().update(id, |s| s.state = TaskState::Restoring);

    let mut fold = None;
    read_journal(shared, reader, &claim, &mut |cut, offset, record| {
        let fold = fold.get_or_insert_with(|| if cut { SpanFold::after_cut() } else { SpanFold::new() });
        fold.apply(offset, record).map(drop)
    })?;
    let state = claim.state(shared, reader, fold.unwrap_or_default().into_state())?;
    if state.owner != Some(claim.owner) {
        return Err(claim.overtaken());
    }
    let needed = state.oldest_needed;
    let taken = restore_span(shared, reader, id, &claim, state)?;
    // Not before: what is damaged stays as it is.
    needed.into_iter().for_each(|offset| shared.note_trim(&journal, id.partition, offset));
    Ok(taken)
}

fn restore_span(
    shared: &Shared,
    reader: &LogReader,
    id: &TaskId,
    claim: &Claim<'_>,
    state: SpanState,
) -> Result<TakenSpan, TakeoverError> {
    let said = evidence::group_offset(shared, id)?;
    evidence::has_its_end(shared, reader, claim, state.next, said)?;
    let (low, high) = reader.bounds(&id.topic, id.partition)?;
    let same = evidence::is_same_topic(shared, reader, id, state.witness, (low, high))?;
    let replayed = shared.replaying.as_ref().and_then(|replaying| replaying.stretch(&id.topic, id.partition));
    let instruction = said.filter(|_| replayed.is_none()).and_then(|said| reset::instruction(said, id, (low, high)));
    let mut restored = restored(&state);
    let writer = Writer::new(claim.owner, claim.offset, state.next, state.next_k);
    if let Some(instruction) = instruction {
        if state.next != Some(instruction.to()) || !same {
            instruction.prepare(&mut restored);
            return follow(shared, id, writer, state, restored, &instruction);
        }
        // It is there already, or the journal has followed it and nothing has happened since.
        instruction.confirm(shared)?;
    }
    let remedy = if replayed.is_some() { Remedy::AnotherRun } else { Remedy::Reset };
    let (topic, partition) = (id.topic.clone(), id.partition);
    if let Some(Witness { offset, .. }) = state.witness.filter(|_| !same) {
        return Err(TakeoverError::Replaced { topic, partition, offset, remedy });
    }
    let in_force = shared.in_force();
    let mut task = SpanTask::new(&SpanSettings::from(&in_force.tenants), id.topic.clone(), id.partition, restored)?;
    if state.next.is_none() {
        task.set_start(match (replayed, shared.config.kafka.start) {
            (Some(stretch), _) => stretch.from,
            (None, Start::Latest) if !shared.has_grown(&id.topic, id.partition) => high,
            (None, Start::Earliest | Start::Latest) => low,
        });
    }
    match task.position() {
        Some(next) if next < low && !task.has_ended() => lost_below(id, &mut task, next, low),
        Some(next) if next > high && !task.has_ended() => {
            return Err(TakeoverError::Shrunk { topic, partition, high, next, remedy });
        }
        _ => {}
    }
    let start = task.start_offset().unwrap_or(low).clamp(low, high.max(low));
    // Nothing before `low` can be read again.
    task.reached(start);
    let (generation, forwarded, unforwarded) = (in_force.generation, state.forwarded, state.unforwarded.into());
    Ok(TakenSpan { task, generation, writer, start, forwarded, unforwarded, witness: state.witness })
}

/// What a task starts from, as its journal says.
fn restored(state: &SpanState) -> Restored {
    Restored {
        next: state.next,
        next_k: state.next_k,
        stream_time: state.stream_time,
        step: state.step,
        reread_from: state.reread_from.or(state.next).unwrap_or(0),
        live: state.live.clone(),
        ledger: state.ledger.clone(),
    }
}

/// Retention was faster.
fn lost_below(id: &TaskId, task: &mut SpanTask, next: i64, low: i64) {
    tracing::error!(
        topic = id.topic,
        partition = id.partition,
        from = next,
        to = low,
        "retention has deleted records that were never read; give the topic a longer retention"
    );
    task.lost_below(low);
}

/// Restores a task whose partition an operator has moved.
fn follow(
    shared: &Shared,
    id: &TaskId,
    mut writer: Writer,
    state: SpanState,
    restored: Restored,
    instruction: &reset::Instruction,
) -> Result<TakenSpan, TakeoverError> {
    let mut unforwarded: Vec<_> = state.unforwarded.into();
    let in_force = shared.in_force();
    let mut task = SpanTask::new(&SpanSettings::from(&in_force.tenants), id.topic.clone(), id.partition, restored)?;
    unforwarded.push(instruction.journal(shared, &mut task, &mut writer, state.forwarded)?);
    instruction.confirm(shared)?;
    let start = task.position().unwrap_or_default();
    let generation = in_force.generation;
    // Whatever was read before, it need not be in this topic.
    Ok(TakenSpan { task, generation, writer, start, forwarded: state.forwarded, unforwarded, witness: None })
}

fn take_series(
    shared: &Shared,
    reader: &LogReader,
    id: &TaskId,
    held: &mut Held,
) -> Result<TakenSeries, TakeoverError> {
    let journal = shared.names.series_journal();
    let claim = stake_claim(shared, &journal, id.partition)?;
    shared.telemetry.board().update(id, |s| s.state = TaskState::Restoring);

    let mut fold = None;
    read_journal(shared, reader, &claim, &mut |cut, offset, record| {
        let fold = fold.get_or_insert_with(|| if cut { SeriesFold::after_cut() } else { SeriesFold::new() });
        fold.apply(offset, record).map(drop)
    })?;
    let state = claim.state(shared, reader, fold.unwrap_or_default().into_state())?;
    if state.owner != Some(claim.owner) {
        return Err(claim.overtaken());
    }
    evidence::has_its_end(shared, reader, &claim, state.next, evidence::group_offset(shared, id)?)?;
    let snapshot = state.snapshot.as_ref().map_or(0, |s| s.body.len() + s.undelivered.len());
    held.set(Part::Readers, reader.memory() + snapshot);
    let writer = Writer::new(claim.owner, claim.offset, state.next, state.next_k);
    let in_force = shared.in_force();
    let (task, start, resend) = refold(shared, reader, id, &state, SeriesSettings::from(&in_force.tenants))?;
    if let Some(offset) = state.oldest_needed {
        shared.note_trim(&journal, id.partition, offset);
    }
    let undelivered = state.snapshot.as_ref().map_or(Ok(Vec::new()), |s| StepBatch::decode_all(&s.undelivered));
    let undelivered = undelivered
        .map_err(|e| TakeoverError::Snapshot { shard: id.partition, source: SnapshotError::Malformed(e) })?;
    let snapshot = state.snapshot.map(|s| s.step);
    let (generation, acknowledged) = (in_force.generation, state.acknowledged);
    let ended = state.marks.last().is_some_and(|(_, mark)| mark.cause == EmitCause::End);
    Ok(TakenSeries { task, generation, writer, start, acknowledged, snapshot, resend, undelivered, ended })
}

/// A restored task, where its fetching starts, and the steps to send again.
type Refolded = (SeriesTask, i64, Vec<(Millis, Vec<StepBatch>)>);

/// Brings a shard to where its last mark stands: the snapshot, then the deltas, with every mark closing its step again at
/// the offset where it was closed first.
fn refold(
    shared: &Shared,
    reader: &LogReader,
    id: &TaskId,
    state: &SeriesState,
    settings: SeriesSettings,
) -> Result<Refolded, TakeoverError> {
    let (low, _) = reader.bounds(&id.topic, id.partition)?;
    let (mut task, from) = match &state.snapshot {
        Some(s) => {
            let task = SeriesTask::restore(settings, &s.body);
            (task.map_err(|source| TakeoverError::Snapshot { shard: id.partition, source })?, s.deltas_offset)
        }
        None => (SeriesTask::new(settings), 0),
    };
    if low > from {
        return Err(TakeoverError::Cut { topic: id.topic.clone(), partition: id.partition, low, needed: from });
    }
    let to = state.marks.last().map_or(from, |(to, _)| *to).max(from);
    let mut marks = state.marks.iter().peekable();
    let mut resend = Vec::new();
    let close = |task: &mut SeriesTask, mark: &EmitMark, resend: &mut Vec<(Millis, Vec<StepBatch>)>| {
        let closed = task.close_without(mark.step, &mark.left_out);
        if state.acknowledged.is_none_or(|a| mark.step > a) {
            let again = closed.batches.into_iter().map(|b| StepBatch { resend: true, ..b });
            resend.push((mark.step, again.collect()));
        }
    };
    let stretch = Stretch { topic: &id.topic, partition: id.partition, from, to };
    reader.read::<TakeoverError>(stretch, &shared.stop, &mut |offset, record| {
        while let Some((_, mark)) = marks.next_if(|(to, _)| *to <= offset) {
            close(&mut task, mark, &mut resend);
        }
        apply(&mut task, id.partition, offset, record).map(drop)
    })?;
    for (_, mark) in marks {
        close(&mut task, mark, &mut resend);
    }
    Ok((task, to, resend))
}

/// Adds one share record and tells its source; what cannot be added is said loudly. A record that is no share is passed
/// over by everybody alike: it would block its shard for good. Should it have been one, its source does not get past it.
pub(super) fn apply(
    task: &mut SeriesTask,
    shard: i32,
    offset: i64,
    record: &[u8],
) -> Result<Option<(String, i32)>, TakeoverError> {
    let applied = match task.apply(record) {
        Ok(applied) => applied,
        Err(source @ ApplyError::Share(ShareError::Newer(_))) => {
            return Err(TakeoverError::Share { shard, offset, source });
        }
        Err(error) => {
            tracing::error!(shard, offset, %error, "a record in the deltas topic is no share; who wrote it?");
            return Ok(None);
        }
    };
    if let Some(first) = &applied.first_lost {
        tracing::error!(shard, offset, lost = applied.lost, %first,
            "deltas without a known label set are lost; this must not happen, please report it");
    }
    Ok(Some(applied.source))
}
