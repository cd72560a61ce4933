//! A running series task: shares in, steps closed and journaled, batches handed to the exporter.
//!
//! A closed step is in one of three places: *pending* (its mark is appended, not yet known to count), *delivering* (it
//! counts; some of its batches are not settled), or acknowledged. When enough steps are under way, reading stops: the
//! deltas topic is the buffer for a receiver that is down, and memory stays bounded. `delivering` says how much is enough.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rdkafka::message::Message;

use super::command::{Command, Life, News};
use super::delivering::Delivering;
use super::journal::JournalEnd;
use super::memory::{Held, Part, Saving};
use super::takeover::{TakenSeries, apply};
use super::thread::{Context, Ended, Turn, fetching};
use crate::export::Lane;
use crate::journal::{Behind, EmitCause, EmitMark, FrameKind, SeriesSnapshot};
use crate::kafka::Fetcher;
use crate::kafka::appender::Fate;
use crate::kafka::fetch::{NoRecord, Queue};
use crate::model::Millis;
use crate::remotewrite::StepBatch;
use crate::tasks::series::{ClosedStep, SeriesTask, TenantBook};
use crate::telemetry::{Cause, LimitsStatus, TaskId, TaskState, TaskStatus};

/// How many labels are named when limits refuse label sets, and how often at most, in milliseconds.
const OFFENDERS: usize = 20;
const LOOK_EVERY: Millis = 60_000;
/// Records taken in one turn.
const RECORDS_PER_TURN: usize = 64;

/// How often a replay writes a snapshot at most.
const REPLAY_SNAPSHOT_EVERY: Duration = Duration::from_secs(10);

/// A receiver from which nothing but failures has come for as long as this many steps is down.
const STEPS_UNTIL_DOWN: u64 = 2;

/// One series task at work.
pub(super) struct SeriesRunner {
    id: TaskId,
    task: SeriesTask,
    /// Of the settings that the task has.
    generation: u64,
    /// Reminds of a snapshot when that begins.
    journal: JournalEnd<SnapshotBegins>,
    queue: Queue,
    held: Held,
    /// The offset after the last share record that was applied.
    position: i64,
    /// Where the last mark ended.
    marked: i64,
    /// Closed steps whose marks are not yet known to count.
    pending: VecDeque<(u64, ClosedStep)>,
    delivering: Delivering,
    lane: Lane,
    acknowledged: Option<Millis>,
    /// The last step whose state a snapshot holds, and one that is being written.
    snapshot: Option<Millis>,
    writing: Option<Writing>,
    /// When the last one was begun here.
    saved: Instant,
    /// The first step that was closed here.
    first: Option<Millis>,
    /// Whether the end of the deltas has been reached.
    at_end: bool,
    silence: Silence,
    ending: Ending,
    draining: bool,
    released: Option<bool>,
}

/// How far the end of a replay has come in this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Something may still come.
    Open,
    /// The mark that says that everything is closed and acknowledged is under way, as this commit.
    Marked(u64),
    /// The mark counts.
    Over,
}

/// Marks the first record of a snapshot.
struct SnapshotBegins;

/// A snapshot that is being written.
struct Writing {
    /// The step whose state it holds.
    step: Millis,
    /// The offset in the deltas topic up to which it counts.
    position: i64,
    /// Where it begins in the journal, once that is known.
    begins: Option<i64>,
    /// Its bytes, which the producer holds until they are stored.
    bytes: usize,
    /// One shard of a worker after the other; none at a hand-over, which waits for nobody.
    _turn: Option<Saving>,
}

/// Since when sources hold a step back without a word. Not since their last share: a healthy source sends one per step,
/// however long that is.
#[derive(Debug, Default)]
struct Silence(BTreeMap<(String, i32), Instant>);

impl Silence {
    /// A share of `source` has come.
    fn heard(&mut self, source: &(String, i32)) {
        self.0.remove(source);
    }

    /// Whether each of the sources `behind` has held the others back for `grace`, without a word.
    fn is_over(&mut self, behind: &[(String, i32)], present: Instant, grace: Duration) -> bool {
        let mut over = true;
        for source in behind {
            // Those that hold back several steps in a row are waited for once.
            let since = *self.0.entry(source.clone()).or_insert(present);
            over &= present.saturating_duration_since(since) >= grace;
        }
        over
    }
}

impl SeriesRunner {
    /// Starts fetching, and sends again what the receiver may not have.
    pub(super) fn start(context: &Context<'_>, id: TaskId, life: Life, taken: TakenSeries) -> Result<Self, Ended> {
        let queue = context.fetcher.open(&id.topic, id.partition, taken.start)?;
        let lane = {
            let (task, inbox) = (id.clone(), context.inbox.clone());
            let done = move |d: crate::export::Delivered| {
                inbox.send(Command::News(task.clone(), life, News::Delivered(d.step, d.tenant)));
            };
            context.shared.exporter.open(id.partition.unsigned_abs(), Box::new(done))
        };
        // A snapshot may have read on after the last mark.
        let marked = taken.writer.next().unwrap_or(taken.start);
        let journal = JournalEnd::new(taken.writer, context.shared.names.series_journal(), id.clone(), life);
        let mut held = Held::new(&context.shared.memory);
        held.set(Part::Fetch, context.fetcher.memory());
        let mut runner = Self {
            held,
            journal,
            id,
            task: taken.task,
            generation: taken.generation,
            marked,
            queue,
            position: taken.start,
            pending: VecDeque::new(),
            delivering: Delivering::default(),
            lane,
            acknowledged: taken.acknowledged,
            snapshot: taken.snapshot,
            first: None,
            writing: None,
            saved: Instant::now(),
            at_end: false,
            silence: Silence::default(),
            ending: if taken.ended { Ending::Over } else { Ending::Open },
            draining: false,
            released: None,
        };
        runner.delivering.carry(taken.undelivered, |tenant| runner.lane.track(tenant));
        for (step, batches) in taken.resend {
            runner.deliver(step, batches);
        }
        Ok(runner)
    }

    /// Takes some share records and closes what can be closed.
    pub(super) fn turn(&mut self, context: &Context<'_>) -> Result<Turn, Ended> {
        let closed = self.pending.iter().flat_map(|(_, step)| &step.batches).flat_map(|batch| &batch.requests);
        let closed: usize = closed.map(|request| request.body.len()).sum();
        let (leaving, staying) = self.delivering.bytes();
        self.held.set(Part::Batches, closed + leaving);
        self.held.set(Part::Commits, self.writing.as_ref().map_or(0, |writing| writing.bytes));
        self.held.set(Part::Series, self.task.bytes() + staying);
        self.delivering.send(&self.lane);
        let patience = Duration::from_millis(context.shared.config.time.step.ms().unsigned_abs() * STEPS_UNTIL_DOWN);
        // A replay waits for every receiver: no step of history may be left out.
        let is_down = |track| context.shared.replaying.is_none() && self.lane.is_down(track, patience);
        self.delivering.look(is_down);
        if self.draining {
            self.finish(context);
            return Ok(Turn::Idle);
        }
        if let Some(in_force) = context.shared.newer_than(self.generation) {
            self.task.reconfigure(TenantBook::from(&in_force.tenants));
            self.generation = in_force.generation;
        }
        self.write_snapshot(context);
        self.close_ready(context);
        self.end_replay(context);
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
                    self.at_end = false;
                    let (offset, record) = (message.offset(), message.payload().unwrap_or_default());
                    let source = apply(&mut self.task, self.id.partition, offset, record)
                        .map_err(|e| Ended::Data(e.to_string()))?;
                    self.position = offset + 1;
                    drop(message);
                    if let Some(source) = source {
                        self.silence.heard(&source);
                    }
                    self.close_ready(context);
                }
                Err(NoRecord::End) => self.at_end = true,
                Err(failed) => fetching(&self.id, failed)?,
            }
        }
        Ok(Turn::Busy)
    }

    /// Whether enough steps are under way. Also when a snapshot is long overdue: in a backlog the receiver never has
    /// everything unless closing pauses for a moment.
    fn full(&self, context: &Context<'_>) -> bool {
        let overdue = self.is_unsaved_for(2, context);
        self.delivering.full(self.pending.len())
            || (overdue && (!self.pending.is_empty() || self.delivering.is_waiting()))
    }

    /// How much event time lies between the last snapshot, or the start of the task, and the last closed step.
    fn closed_since_snapshot(&self) -> Millis {
        let closed = self.task.closed().unwrap_or_default();
        closed.saturating_sub(self.snapshot.or(self.first).unwrap_or(closed))
    }

    /// Whether the last snapshot is so many times as far back as snapshots should be apart. A replay runs through event time
    /// at great speed and would do little but write them, so there the clock counts as well.
    fn is_unsaved_for(&self, times: i64, context: &Context<'_>) -> bool {
        let rests = context.shared.replaying.is_some() && self.saved.elapsed() < REPLAY_SNAPSHOT_EVERY;
        !rests && self.closed_since_snapshot() >= context.shared.config.series.snapshot_every.saturating_mul(times)
    }

    fn close_ready(&mut self, context: &Context<'_>) {
        let sources = context.shared.sources();
        while !self.full(context)
            && let Some(step) = self.task.closable(&sources)
        {
            self.close(context, step, Cause::Watermark, Vec::new());
        }
    }

    /// In a replay: tells the span tasks how far the slowest of them is; and when all sources have ended and everything is
    /// closed and acknowledged, says so in the journal.
    fn end_replay(&mut self, context: &Context<'_>) {
        let Some(replaying) = &context.shared.replaying else { return };
        let sources = context.shared.sources();
        let times = sources.iter().map(|source| self.task.time_of(source));
        let slowest = times.collect::<Option<Vec<_>>>().and_then(|times| times.into_iter().min());
        replaying.tell_floor(self.id.partition, slowest);
        let settled = self.pending.is_empty() && !self.delivering.is_waiting() && self.writing.is_none();
        if self.ending != Ending::Open || !settled || !self.task.has_ended(&sources) {
            return;
        }
        let closed = self.task.closed();
        if self.snapshot != closed {
            // The mark comes last: nothing needs to be read again after it.
            return closed.into_iter().for_each(|closed| self.snapshot_now(context, closed));
        }
        let step = closed.unwrap_or_default();
        let (acknowledged, left_out) = (self.acknowledged, Vec::new());
        let mark = EmitMark { step, cause: EmitCause::End, acknowledged, left_out, behind: Vec::new() };
        self.ending = Ending::Marked(self.journal.writer.next_k());
        let records = self.journal.writer.commit(self.marked, self.position, &mark.encode());
        self.marked = self.position;
        self.journal.append(context, records, None);
    }

    /// Closes a step without sources that have been silent for longer than the grace time.
    fn force(&mut self, context: &Context<'_>) {
        if context.shared.replaying.is_some() {
            return;
        }
        let grace = Duration::from_millis(context.shared.config.time.stall_grace.unsigned_abs());
        if !self.at_end || self.full(context) {
            return;
        }
        let (Some(step), behind) = self.task.held_back_by(&context.shared.sources()) else { return };
        if self.silence.is_over(&behind, Instant::now(), grace) {
            tracing::warn!(shard = self.id.partition, step, without = ?behind,
                "closing a step without partitions that have been silent; is a worker missing?");
            let behind = self.task.places(behind);
            self.close(context, step, Cause::Forced, behind);
        }
    }

    fn close(&mut self, context: &Context<'_>, step: Millis, cause: Cause, behind: Vec<Behind>) {
        self.first.get_or_insert(step);
        let left_out = self.delivering.left_out();
        let closed = self.task.close_without(step, &left_out);
        context.shared.telemetry.left_out(left_out.len());
        context.shared.telemetry.step_closed(cause);
        let cause = match cause {
            Cause::Watermark => EmitCause::Watermark,
            Cause::Forced => EmitCause::Forced,
        };
        let mark = EmitMark { step, cause, acknowledged: self.acknowledged, left_out, behind };
        let k = self.journal.writer.next_k();
        let records = self.journal.writer.commit(self.marked, self.position, &mark.encode());
        self.marked = self.position;
        #[cfg(feature = "sabotage")]
        if crate::journal::sabotage::is_off(crate::journal::sabotage::Rule::Emit) {
            self.deliver(closed.step, closed.batches);
            self.journal.append(context, records, None);
            return;
        }
        self.pending.push_back((k, closed));
        self.journal.append(context, records, None);
    }

    /// Writes the state to the journal, at a moment when the receivers have everything that the state contains. What a
    /// receiver that is down does not have goes with it.
    fn write_snapshot(&mut self, context: &Context<'_>) {
        let Some(closed) = self.task.closed().filter(|_| self.ending == Ending::Open) else { return };
        let due = self.snapshot.is_none() || self.is_unsaved_for(1, context);
        if due || self.draining {
            self.snapshot_now(context, closed);
        }
    }

    fn snapshot_now(&mut self, context: &Context<'_>, closed: Millis) {
        let settled = self.pending.is_empty() && !self.delivering.is_waiting();
        if !settled || self.writing.is_some() || self.snapshot == Some(closed) {
            return;
        }
        let turn = context.shared.memory.save();
        if turn.is_none() && !self.draining {
            return;
        }
        let snapshot = SeriesSnapshot {
            body: self.task.snapshot(),
            deltas_offset: self.position,
            step: closed,
            undelivered: self.delivering.undelivered(),
        };
        let records = self.journal.writer.snapshot(&snapshot.into_bytes());
        self.saved = Instant::now();
        let bytes = records.iter().map(Vec::len).sum();
        self.writing = Some(Writing { step: closed, position: self.position, begins: None, bytes, _turn: turn });
        self.journal.append(context, records, Some(SnapshotBegins));
    }

    /// Learns the fate of a mark, or that a batch is settled.
    pub(super) fn tell(&mut self, context: &Context<'_>, news: News) -> Result<(), Ended> {
        match news {
            News::Journal(fate) => self.journaled(context, fate),
            News::Delivered(step, tenant) => {
                self.delivering.settled(step, &tenant);
                self.advance();
                self.delivering.send(&self.lane);
                Ok(())
            }
            News::Share(..) => Ok(()),
        }
    }

    fn journaled(&mut self, context: &Context<'_>, fate: Fate) -> Result<(), Ended> {
        let told = self.journal.learn(context, fate)?;
        if let (Some((SnapshotBegins, offset)), Some(writing)) = (told.begins, &mut self.writing) {
            writing.begins = Some(offset);
        }
        for frame in told.accepted {
            match frame.kind {
                FrameKind::Commit => self.accepted(context, frame.k, frame.to),
                FrameKind::Snapshot => self.snapshotted(context),
                FrameKind::Release => self.released = Some(true),
                FrameKind::Claim => {}
            }
        }
        Ok(())
    }

    fn accepted(&mut self, context: &Context<'_>, k: u64, to: i64) {
        context.shared.telemetry.commit(self.id.kind);
        context.shared.note_position(&self.id.topic, self.id.partition, to);
        if let Ending::Marked(end) = self.ending
            && end <= k
        {
            self.ending = Ending::Over;
        }
        while let Some((_, closed)) = self.pending.pop_front_if(|(pending, _)| *pending <= k) {
            self.deliver(closed.step, closed.batches);
        }
        self.delivering.send(&self.lane);
    }

    fn snapshotted(&mut self, context: &Context<'_>) {
        let Some(Writing { step, position, begins, .. }) = self.writing.take() else { return };
        self.snapshot = Some(step);
        self.acknowledged = self.acknowledged.max(Some(step));
        self.delivering.held(step);
        self.advance();
        context.shared.note_trim(&self.id.topic, self.id.partition, position);
        if let Some(offset) = begins {
            context.shared.note_trim(self.journal.topic(), self.id.partition, offset);
        }
    }

    fn deliver(&mut self, step: Millis, batches: Vec<StepBatch>) {
        self.delivering.add(step, batches, |tenant| self.lane.track(tenant));
        self.advance();
    }

    /// Moves the acknowledged mark over every step that is settled, in order.
    fn advance(&mut self) {
        while let Some(step) = self.delivering.next_acknowledged() {
            self.acknowledged = self.acknowledged.max(Some(step));
        }
    }

    /// Stops reading; what was closed is delivered if the receiver takes it in time.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    fn finish(&mut self, context: &Context<'_>) {
        if self.released.is_some() || !self.pending.is_empty() || self.delivering.is_waiting() {
            return;
        }
        self.write_snapshot(context);
        let records = self.journal.writer.release();
        self.released = Some(false);
        self.journal.append(context, records, None);
    }

    /// Whether the task is on its way out.
    pub(super) fn draining(&self) -> bool {
        self.draining
    }

    /// Whether all that was closed has been delivered, and the journal released.
    pub(super) fn drained(&self) -> bool {
        self.released == Some(true)
    }

    /// Shows its state on the board.
    pub(super) fn show(&self, status: &mut TaskStatus, present: Millis) {
        status.state = if self.draining { TaskState::Closing } else { TaskState::Running };
        status.restored = true;
        status.stream_time = self.task.source_times().map(|(_, _, at)| at).min();
        status.position = self.position;
        if self.at_end {
            status.end_offset = status.end_offset.max(self.position);
        }
        status.lag_records = (status.end_offset - self.position).max(0).unsigned_abs();
        status.closed_step = self.task.closed();
        status.lag_millis = match status.closed_step {
            Some(closed) if status.lag_records > 0 => (present - closed).max(0),
            _ => 0,
        };
        status.active_series = self.task.active_series();
        status.done = self.ending == Ending::Over;
        status.trouble = None;
        self.show_limits(status, present);
    }

    /// Says what limits refuse, and who makes the series. That takes a look at all label sets, so it is not said often.
    fn show_limits(&self, status: &mut TaskStatus, present: Millis) {
        let refused = self.task.refused();
        let limits = &mut status.limits;
        if refused == limits.refused || (refused > 0 && present - limits.looked_at < LOOK_EVERY) {
            return;
        }
        let offenders = self.task.offenders(OFFENDERS);
        if let Some(worst) = offenders.first().filter(|_| refused > 0) {
            tracing::warn!(
                shard = self.id.partition,
                refused,
                tenant = worst.tenant,
                service = worst.service,
                label = worst.label,
                values = worst.values,
                samples = ?worst.samples,
                "limits refuse label sets; their counts go to overflow series. This label has the most values: fix its \
                 source, sanitise span names, or raise the limit; /offenders has more"
            );
        }
        let as_json = |offender| serde_json::to_value(offender).unwrap_or_default();
        *limits = LimitsStatus { refused, looked_at: present, offenders: offenders.iter().map(as_json).collect() };
    }

    /// Stops fetching and sending.
    pub(super) fn end(self, fetcher: &Fetcher) {
        fetcher.close(&self.id.topic, self.id.partition, self.queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_silent_since_it_holds_a_step_back_and_not_since_its_last_share() {
        let (start, grace) = (Instant::now(), Duration::from_secs(30));
        let at = |seconds| start + Duration::from_secs(seconds);
        let (slow, gone) = (("spans".to_owned(), 0), ("spans".to_owned(), 1));
        let mut silence = Silence::default();
        silence.heard(&slow);
        // Steps of a minute: the others pass one, and the slow source a little later.
        assert!(!silence.is_over(std::slice::from_ref(&slow), at(60), grace));
        silence.heard(&slow);
        assert!(!silence.is_over(std::slice::from_ref(&slow), at(120), grace));
        // One that nobody advances is waited for once, and not once per step.
        assert!(!silence.is_over(std::slice::from_ref(&gone), at(180), grace));
        assert!(silence.is_over(std::slice::from_ref(&gone), at(210), grace));
        assert!(silence.is_over(std::slice::from_ref(&gone), at(240), grace));
        silence.heard(&slow);
        assert!(!silence.is_over(&[slow, gone], at(270), grace), "one of them may still speak");
    }
}
