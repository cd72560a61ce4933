//! A running series task: delta records in, steps closed and journaled, batches handed to the exporter.
//!
//! A closed step is in one of three places: *pending* (its mark is appended, not yet known to count), *delivering* (it
//! counts; some of its batches are not settled), or acknowledged. When enough steps are in flight, reading stops: the
//! deltas topic is the buffer for a receiver that is down, and memory stays bounded. `delivering` defines how many are
//! enough.
//!
//! *In:* delta records from one partition of the deltas topic. *Out:* step-close records and snapshots in the journal
//! of the shard, batches for receivers. *Owner:* the worker thread that the shard belongs to. *Never:* a sample before
//! the journal has accepted its step. *Next:* [`Outbox`], with [`SeriesTask`] as the pure part.

mod agreement;
mod closing;
mod delivering;
mod delta_records;
mod endpoints;
mod gaps;
mod joining;
mod silence;
mod snapshots;
mod status;
mod traces;
mod turns;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::message::Message;

use self::agreement::Agreement;
use self::delivering::{Delivering, Track};
use self::delta_records::apply;
pub(crate) use self::delta_records::{UnknownDeltaRecord, told};
pub(crate) use self::endpoints::meant;
use self::gaps::{Gaps, LASTS};
use self::joining::Joining;
use self::silence::Silence;
use self::snapshots::{SnapshotBegins, Writing};
use self::traces::StepTraces;
use self::turns::Turns;
use crate::config::settings::OnBacklog;
use crate::core::journal::{ChainVerdict, FrameKind, What};
use crate::core::model::Millis;
use crate::core::remotewrite::StepBatch;
use crate::core::tasks::series::{Applied, ClosedStep, SeriesTask, Terms};
use crate::worker::kafka::Fetcher;
use crate::worker::kafka::appender::Fate;
use crate::worker::kafka::fetch::{NoRecord, Queue};
use crate::worker::sender::Outbox;
use crate::worker::task::{
    Command, Ended, Epoch, Held, JournalEnd, Leaving, News, Part, TakenSeries, TaskContext, Turn, Unread, fetching,
};
use crate::worker::telemetry::{Condition, Reporter, TaskId};

/// Records taken in one turn.
const RECORDS_PER_TURN: usize = 64;

/// A receiver is down if all attempts have failed for as long as this many steps.
const STEPS_UNTIL_DOWN: u64 = 2;

/// What the shards of a worker share.
#[derive(Debug, Default)]
pub(crate) struct Shards {
    /// The order in which they write snapshots.
    snapshots: Arc<Turns>,
    /// What is known of the settings of other workers.
    agreement: Agreement,
}

/// One series task at work.
pub(crate) struct SeriesRunner {
    id: TaskId,
    shards: Arc<Shards>,
    task: SeriesTask,
    /// The generation of the worker's settings.
    generation: u64,
    terms: Terms,
    /// How many given-up deltas have been reported.
    given_up: u64,
    /// Reminds of a snapshot when that begins.
    journal: JournalEnd<SnapshotBegins>,
    queue: Queue,
    held: Held,
    /// The offset after the last delta record that was applied.
    position: i64,
    /// Where the last mark ended. A topic that has lost its end may be read again from an earlier offset; marks are
    /// not.
    marked: i64,
    /// Closed steps whose marks are not yet known to count.
    pending: VecDeque<(u64, ClosedStep)>,
    delivering: Delivering,
    traces: StepTraces,
    /// Keeps the order of each tenant's batches.
    outbox: Outbox,
    acknowledged: Option<Millis>,
    /// The last step whose state a snapshot holds, and one that is being written.
    snapshot: Option<Millis>,
    writing: Option<Writing>,
    /// When this owner began the last one.
    saved: Instant,
    /// The first step that this owner closed.
    first: Option<Millis>,
    /// Whether the end of the deltas has been reached.
    at_end: bool,
    /// Why the deltas cannot be read, if they cannot.
    unread: Option<Unread>,
    silence: Silence,
    /// The sources that came when steps had been closed.
    joining: Joining,
    gaps: Gaps,
    /// Reports that delta records are missing for too long.
    ends: Reporter,
    /// Reports that a source contradicts itself, which needs an operator.
    contradicted: Reporter,
    /// Reports that an endpoint is too far behind others.
    behind: Reporter,
    told_behind: BTreeMap<Arc<str>, OnBacklog>,
    ending: Ending,
    leaving: Leaving,
}

/// How far the end of a replay has come in this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Something may still come.
    Open,
    /// The mark that everything is closed and acknowledged is in flight, as this commit.
    Marked(u64),
    /// The mark counts.
    Over,
}

impl SeriesRunner {
    /// Starts fetching, and resends what the receiver may not have.
    pub(crate) fn start(
        context: &TaskContext<'_>,
        shards: &Arc<Shards>,
        (id, epoch): (TaskId, Epoch),
        taken: TakenSeries,
    ) -> Result<Self, Ended> {
        let queue = context.fetcher.open(&id.topic, id.partition, taken.start)?;
        let outbox = {
            let (task, inbox) = (id.clone(), context.inbox.clone());
            let done = move |d: crate::worker::sender::Delivered| {
                inbox.send(Command::News(task.clone(), epoch, News::Delivered(d.step, (d.tenant, d.endpoint))));
            };
            Outbox::new(context.clients.exporter.open(id.partition.unsigned_abs(), Box::new(done)))
        };
        // A snapshot may have read beyond the last mark.
        let marked = taken.writer.next().unwrap_or(taken.start);
        let journal = JournalEnd::new(taken.writer, context.clients.names.series_journal(), id.clone(), epoch);
        let conditions = context.clients.telemetry.conditions();
        let [ends, contradicted] =
            ["", ", sources"].map(|what| conditions.reporter(Condition::Ends, format!("shard {}{what}", id.partition)));
        let behind = conditions.reporter(Condition::EndpointBehind, format!("shard {}", id.partition));
        let mut held = Held::new(&context.clients.memory);
        held.set(Part::Fetch, context.fetcher.memory());
        let mut runner = Self {
            held,
            journal,
            id,
            shards: Arc::clone(shards),
            terms: taken.terms,
            given_up: taken.task.given_up(),
            task: taken.task,
            generation: taken.generation,
            marked,
            queue,
            position: taken.start,
            pending: VecDeque::new(),
            delivering: Delivering::default(),
            traces: StepTraces::default(),
            outbox,
            acknowledged: taken.acknowledged,
            snapshot: taken.snapshot,
            first: None,
            writing: None,
            saved: Instant::now(),
            at_end: false,
            unread: None,
            silence: Silence::default(),
            joining: Joining::carry(taken.joining),
            gaps: Gaps::default(),
            ends,
            contradicted,
            behind,
            told_behind: BTreeMap::new(),
            ending: if taken.ended { Ending::Over } else { Ending::Open },
            leaving: Leaving::No,
        };
        runner.terms.want(&mut runner.task, context.tenants.series_settings(&context.tenants.in_force().tenants));
        if context.mode.leaves_out() {
            runner.delivering.may_be_behind();
        }
        runner.send_again(context, (taken.undelivered, taken.resend), &taken.endpoints);
        Ok(runner)
    }

    /// Applies some delta records and closes the steps that can be closed.
    pub(crate) fn turn(&mut self, context: &TaskContext<'_>) -> Result<Turn, Ended> {
        let closed = self.pending.iter().flat_map(|(_, step)| &step.batches).flat_map(|batch| &batch.requests);
        let closed: usize = closed.map(|request| request.body.len()).sum();
        self.account(closed);
        self.outbox.send();
        let patience =
            Duration::from_millis(context.clients.config.core.time.step.ms().unsigned_abs() * STEPS_UNTIL_DOWN);
        // A replay waits for every receiver: no step of history may be skipped.
        if context.mode.leaves_out() {
            let (is_down, is_dark) = (
                |(tenant, endpoint): &Track| self.outbox.is_down(tenant, endpoint.as_ref(), patience),
                |(tenant, endpoint): &Track| self.outbox.is_dark(tenant, endpoint.as_ref(), patience),
            );
            self.delivering.look(is_down, is_dark);
        }
        self.tell_behind(context);
        if self.leaving.is_under_way() {
            self.finish(context);
            return Ok(Turn::Idle);
        }
        if let Some(in_force) = context.tenants.newer_than(self.generation) {
            self.terms.want(&mut self.task, context.tenants.series_settings(&in_force.tenants));
            self.generation = in_force.generation;
        }
        if self.unread.as_mut().is_some_and(Unread::is_due) {
            context.fetcher.restart(&self.id.topic, self.id.partition, self.position)?;
        }
        self.write_snapshot(context);
        self.close_ready(context);
        self.close_idle(context);
        self.end_replay(context);
        self.look_for_gaps(context);
        for _ in 0..RECORDS_PER_TURN {
            if self.full(context) {
                return Ok(Turn::Idle);
            }
            let Some(polled) = self.queue.poll() else {
                self.force(context);
                return Ok(Turn::Idle);
            };
            match polled {
                Ok(message) => {
                    (self.at_end, self.unread) = (false, None);
                    let (shard, offset, record) =
                        (self.id.partition, message.offset(), message.payload().unwrap_or_default());
                    let applied = apply(&mut self.task, shard, offset, record);
                    let applied = applied.map_err(|e| Ended::Data(e.to_string()))?;
                    self.position = offset + 1;
                    context.mode.hear(shard, record);
                    drop(message);
                    if let Some(applied) = applied {
                        context.clients.telemetry.deltas_lost(applied.gone);
                        self.heard(&applied);
                    }
                    self.close_ready(context);
                }
                Err(NoRecord::End) => (self.at_end, self.unread) = (true, None),
                Err(failed) => fetching(&self.id, failed, &mut self.unread)?,
            }
        }
        Ok(Turn::Busy)
    }

    /// Reports what the task takes in memory; `closed` are the bytes of steps that wait for their record.
    fn account(&mut self, closed: usize) {
        let (leaving, staying) = self.delivering.bytes();
        self.held.set(Part::Batches, closed + leaving);
        self.held.set(Part::Commits, self.writing.as_ref().map_or(0, |writing| writing.bytes));
        self.held.set(Part::Series, self.task.bytes() + staying);
    }

    /// A delta record of `source` has come.
    fn heard(&mut self, Applied { source, verdict, other, .. }: &Applied) {
        if *other {
            let (shard, (topic, partition)) = (self.id.partition, source);
            let trouble = format!(
                "shard {shard} received a delta record of {topic}[{partition}] that differs from the counted one \
                 with the same number: the journal of {topic}[{partition}] has lost its end. Counts of this source \
                 are not exact any more; restore the journal, or start again with another kafka.group"
            );
            tracing::error!(error = trouble, "a delta record differs from the counted one with the same number");
            self.contradicted.unmet(trouble);
        }
        match verdict {
            ChainVerdict::Accepted { .. } => {
                self.silence.heard(source);
                if self.gaps.moved(source) && self.gaps.lasting() == 0 {
                    self.ends.met();
                }
            }
            ChainVerdict::Duplicate => self.silence.heard(source),
            // The delta record cannot be used: the missing one may never come.
            ChainVerdict::Ahead => self.gaps.ahead(source, Instant::now()),
        }
    }

    /// Asks for delta records that do not come, and logs a gap that lasts.
    fn look_for_gaps(&mut self, context: &TaskContext<'_>) {
        let present = Instant::now();
        if !self.gaps.is_due(present) {
            return;
        }
        if self.at_end {
            let sources = self.awaited(context);
            let behind = match context.mode.time_passes() {
                true => self.task.held_back_by(&sources).1,
                false => self.task.not_ended(&sources),
            };
            self.gaps.silent(&behind, present);
        }
        let shard = self.id.partition;
        for (topic, partition) in self.gaps.due_to_ask(present) {
            let (commit_number, _) = self.task.counted().0.next(&topic, partition);
            tracing::debug!(shard, topic, partition, commit_number, "requesting missing delta records");
            context.clients.notify_journal(&topic, partition, shard, What::Lacks, commit_number);
        }
        for (topic, partition) in self.gaps.due_to_say(present) {
            let (commit_number, _) = self.task.counted().0.next(&topic, partition);
            let trouble = format!(
                "shard {shard} has missed the delta record of commit {commit_number} of {topic}[{partition}] for {} s although \
                 later ones arrived: the deltas topic has lost it. Its counts are held back until the worker that \
                 owns {topic}[{partition}] sends it again; check that worker, and the internal topics for lost \
                 records",
                LASTS.as_secs()
            );
            tracing::error!(error = trouble, "a delta record is missing for too long");
            self.ends.unmet(trouble);
        }
    }

    /// Handles the fate of a mark, or the settlement of a batch.
    pub(crate) fn tell(&mut self, context: &TaskContext<'_>, news: News) -> Result<(), Ended> {
        match news {
            News::Journal(number, fate) => self.journaled(context, number, fate),
            News::Delivered(step, track) => {
                self.delivering.settled(step, &track);
                self.traces.settled(step, &track);
                self.advance();
                self.outbox.send();
                Ok(())
            }
            News::DeltaRecord(..) => Ok(()),
        }
    }

    fn journaled(&mut self, context: &TaskContext<'_>, number: u64, fate: Fate) -> Result<(), Ended> {
        let told = self.journal.learn(context, number, fate)?;
        if let (Some((SnapshotBegins, offset)), Some(writing)) = (told.begins, &mut self.writing) {
            writing.begins = Some(offset);
        }
        for frame in told.accepted {
            match frame.kind {
                FrameKind::Commit => self.accepted(context, frame.commit_number, frame.to),
                FrameKind::Snapshot => self.snapshotted(context),
                FrameKind::Release => self.leaving = Leaving::Released,
                FrameKind::Claim => {}
            }
        }
        Ok(())
    }

    fn accepted(&mut self, context: &TaskContext<'_>, commit_number: u64, to: i64) {
        context.clients.telemetry.commit(self.id.kind);
        context.offsets.note_position(&self.id.topic, self.id.partition, to);
        if let Ending::Marked(end) = self.ending
            && end <= commit_number
        {
            self.ending = Ending::Over;
        }
        while let Some((_, closed)) = self.pending.pop_front_if(|(pending, _)| *pending <= commit_number) {
            self.deliver(context, closed.step, closed.batches);
        }
        self.outbox.send();
    }

    fn deliver(&mut self, context: &TaskContext<'_>, step: Millis, batches: Vec<StepBatch>) {
        let batches = self.delivering.for_endpoints(batches, |tenant| context.clients.exporter.routes(tenant));
        self.hand_over(step, batches);
    }

    fn hand_over(&mut self, step: Millis, batches: Vec<StepBatch>) {
        self.traces.accepted(step, &batches);
        batches.iter().cloned().for_each(|batch| self.outbox.put(batch));
        self.delivering.add(step, batches);
        self.advance();
    }

    /// Moves the acknowledged mark over every step that is settled, in order.
    fn advance(&mut self) {
        while let Some(step) = self.delivering.next_acknowledged() {
            self.acknowledged = self.acknowledged.max(Some(step));
        }
        self.traces.acknowledged(self.acknowledged);
    }

    /// Stops reading; closed steps are delivered if the receiver accepts them in time.
    pub(crate) fn drain(&mut self) {
        self.leaving.drain();
    }

    fn finish(&mut self, context: &TaskContext<'_>) {
        if self.leaving.is_released() || !self.pending.is_empty() || self.delivering.is_waiting() {
            return;
        }
        self.write_snapshot(context);
        let records = self.journal.writer.release();
        self.leaving = Leaving::Releasing;
        self.journal.append(context, records, None);
    }

    /// Whether the task is closing.
    pub(crate) fn draining(&self) -> bool {
        self.leaving.is_under_way()
    }

    /// Whether all that was closed has been delivered, and the journal released.
    pub(crate) fn drained(&self) -> bool {
        self.leaving == Leaving::Released
    }

    /// Stops fetching and sending.
    pub(crate) fn end(self, fetcher: &Fetcher) {
        fetcher.close(&self.id.topic, self.id.partition, self.queue);
    }
}
