//! A running span task: records in, commits journaled, shares forwarded.
//!
//! A commit is in one of three places: *pending* (appended, not yet known to count), *forwarding* (it counts; its shares
//! are on their way to the shards), or done. Nothing of it leaves before it counts.

mod history;
mod outgoing;
mod unpack;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rdkafka::message::Message;

use self::history::Replayed;
pub(super) use self::outgoing::Sent;
use self::outgoing::{Outgoing, bytes_of};
use self::unpack::Unpacking;
use super::command::{Command, Life, News};
use super::journal::JournalEnd;
use super::memory::{Held, Leave, Part};
use super::takeover::TakenSpan;
use super::thread::{Context, Ended, Turn, fetching};
use super::watch::{Progress, Seen, Verdict};
use super::{evidence, intake, now};
use crate::config::settings::Start;
use crate::journal::{Cause, FrameKind, Shares, SpanCommit, Witness};
use crate::kafka::Fetcher;
use crate::kafka::appender::Fate;
use crate::kafka::fetch::{NoRecord, Queue};
use crate::model::Millis;
use crate::model::time::last_step;
use crate::tasks::span::{SpanSettings, SpanTask, StepCut};
use crate::telemetry::{TaskId, TaskState, TaskStatus};

/// Records taken in one turn, so that the tasks of a thread take turns.
const RECORDS_PER_TURN: usize = 64;
/// Commits that may be on their way to the journal and the shards before reading pauses.
const COMMITS_IN_FLIGHT: usize = 4;
/// How often progress is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// After so many milliseconds without an answer, a partition is asked again whether it is silent.
const ASK_AGAIN: Millis = 30_000;

/// One span task at work.
pub(super) struct SpanRunner {
    id: TaskId,
    life: Life,
    task: SpanTask,
    /// Of the settings that the task has.
    generation: u64,
    /// Reminds of the number of a commit when that begins.
    journal: JournalEnd<u64>,
    queue: Queue,
    /// The offset after the last record that came.
    next: i64,
    /// A record that was read, to tell the topic by; a younger one follows each commit.
    witness: Option<Witness>,
    renew_witness: bool,
    progress: Progress,
    watched: Instant,
    held: Held,
    /// Appended commits that are not yet known to count.
    pending: VecDeque<Pending>,
    /// Where the commits that a restore may still need begin in the journal.
    begins: BTreeMap<u64, i64>,
    /// The shares of accepted commits.
    outgoing: Outgoing,
    /// Every share below this `k` has been acknowledged by all shards.
    forwarded: u64,
    /// Whether the end of the partition has been reached, and since when.
    at_end: Option<Instant>,
    /// When the broker was asked whether the partition still ends there, while there is no answer.
    asked: Option<Millis>,
    /// A batch that fails to be decompressed.
    unpacking: Option<Unpacking>,
    /// What it replays, if it does.
    replayed: Option<Replayed>,
    /// When the release was appended, and whether it counts.
    draining: bool,
    released: Option<bool>,
}

/// A commit that is not yet known to count.
struct Pending {
    k: u64,
    /// What it says about the shares before it.
    forwarded: u64,
    shares: Shares,
    bytes: usize,
}

impl SpanRunner {
    /// Starts fetching, and sends again what the shards may not have.
    pub(super) fn start(context: &Context<'_>, id: TaskId, life: Life, mut taken: TakenSpan) -> Result<Self, Ended> {
        let queue = context.fetcher.open(&id.topic, id.partition, taken.start)?;
        let patience = Duration::from_millis(context.shared.config.kafka.stuck_after.unsigned_abs());
        let mut held = Held::new(&context.shared.memory);
        held.set(Part::Fetch, context.fetcher.memory());
        let stretch = context.shared.replaying.as_ref().and_then(|r| r.stretch(&id.topic, id.partition));
        let mut runner = Self {
            replayed: stretch.map(|stretch| Replayed::new(stretch, &mut taken.task)),
            next: taken.start,
            witness: taken.witness,
            renew_witness: taken.witness.is_none(),
            progress: Progress::new(patience, Instant::now()),
            watched: Instant::now(),
            held,
            journal: JournalEnd::new(taken.writer, context.shared.names.journal(&id.topic), id.clone(), life),
            id,
            life,
            task: taken.task,
            generation: taken.generation,
            queue,
            pending: VecDeque::new(),
            begins: BTreeMap::new(),
            outgoing: Outgoing::default(),
            forwarded: taken.forwarded,
            at_end: None,
            asked: None,
            unpacking: None,
            draining: false,
            released: None,
        };
        for (k, shares) in taken.unforwarded {
            runner.forward(context, k, &shares);
        }
        if runner.journal.writer.next().is_some_and(|next| runner.task.position() > Some(next)) {
            // What retention has deleted is a commit of its own: its offsets are those of the gap.
            runner.commit_open(context);
        }
        let from_latest = context.shared.config.kafka.start == Start::Latest && runner.replayed.is_none();
        if runner.journal.writer.next().is_none() && from_latest {
            // Journal where it begins at once: after a crash, the end of the partition would be another one.
            let begin = runner.task.tick(context.shared.config.time.of_silence(now()));
            begin.into_iter().for_each(|cut| runner.commit(context, cut));
        }
        Ok(runner)
    }

    /// Takes some records.
    pub(super) fn turn(&mut self, context: &Context<'_>) -> Result<Turn, Ended> {
        if self.draining {
            self.finish(context);
            return Ok(Turn::Idle);
        }
        if let Some(in_force) = context.shared.newer_than(self.generation) {
            self.task.reconfigure(&SpanSettings::from(&in_force.tenants));
            self.generation = in_force.generation;
        }
        if self.rests(context) {
            return Ok(Turn::Idle);
        }
        self.watch(context)?;
        let turn = match self.held.leave(&self.id) {
            Leave::Read => self.read(context, RECORDS_PER_TURN)?,
            // What a rebuild brings back was held before, and nothing can be committed meanwhile.
            Leave::Step | Leave::Wait | Leave::Stand if self.task.rebuilding() => self.read(context, 1)?,
            Leave::Step => {
                let turn = self.read(context, 1)?;
                self.commit_open(context);
                turn
            }
            Leave::Wait | Leave::Stand => {
                // No tick: whether the partition is silent is learnt by reading.
                if !self.full() {
                    self.commit_open(context);
                }
                Turn::Idle
            }
        };
        self.account();
        Ok(turn)
    }

    fn read(&mut self, context: &Context<'_>, most: usize) -> Result<Turn, Ended> {
        for i in 0..most {
            if self.full() || (i > 0 && self.too_much()) {
                return Ok(Turn::Idle);
            }
            // The message borrows the queue; it is done with before the queue is touched again.
            let Some(polled) = self.queue.poll() else {
                self.ask(context)?;
                return Ok(Turn::Idle);
            };
            match polled {
                Ok(message) if self.probes() => {
                    drop(message);
                    self.probed(context, None)?;
                }
                Ok(message) => {
                    (self.at_end, self.asked, self.unpacking) = (None, None, None);
                    let offset = message.offset();
                    if self.is_behind_stretch(offset) {
                        drop(message);
                        self.finish_stretch(context);
                        return Ok(Turn::Busy);
                    }
                    let before = self.replayed.as_mut().map(|replayed| replayed.repeat(&mut self.task, offset));
                    let mut cuts = before.unwrap_or_default();
                    cuts.extend(intake::take(context, &self.id, &mut self.task, &message)?);
                    self.next = offset + 1;
                    let witness = std::mem::take(&mut self.renew_witness).then(|| evidence::witness(&message));
                    drop(message);
                    cuts.into_iter().for_each(|cut| self.commit(context, cut));
                    // The cuts were made before this record.
                    self.witness = witness.or(self.witness);
                }
                Err(NoRecord::End) if self.probes() => self.probed(context, None)?,
                Err(NoRecord::End) => self.reach_end(context)?,
                Err(NoRecord::Undecompressed(failure)) => self.cannot_unpack(context, failure)?,
                // What was read before is gone.
                Err(failed) => fetching(&self.id, failed).inspect_err(|_| self.commit_open(context))?,
            }
        }
        Ok(Turn::Busy)
    }

    /// Whether enough commits are on their way.
    fn full(&self) -> bool {
        self.pending.len() + self.outgoing.len() >= COMMITS_IN_FLIGHT
    }

    /// Whether the records of this turn have made it too much.
    fn too_much(&mut self) -> bool {
        if !self.held.limited() {
            return false;
        }
        self.account();
        self.held.leave(&self.id) != Leave::Read
    }

    /// Says what the task holds.
    fn account(&mut self) {
        let holding = self.task.holding();
        let pending: usize = self.pending.iter().map(|commit| commit.bytes).sum();
        self.held.set(Part::Open, holding.open);
        self.held.set(Part::Known, holding.known);
        self.held.set(Part::Edges, holding.edges);
        self.held.set(Part::Commits, pending + self.outgoing.bytes());
    }

    /// Sees to it that a partition that has records yields them.
    fn watch(&mut self, context: &Context<'_>) -> Result<(), Ended> {
        if self.watched.elapsed() < WATCH_EVERY {
            return Ok(());
        }
        self.watched = Instant::now();
        let end = context.shared.telemetry.board().get(&self.id).map_or(-1, |status| status.end_offset);
        let held_back = self.held.waits() || self.full() || self.waits_for_others() || self.probes();
        let seen = Seen { position: self.next, end, at_end: self.at_end, held_back };
        let verdict = self.progress.judge(seen, self.watched);
        if verdict == Verdict::Fine {
            return Ok(());
        }
        context.shared.telemetry.stuck();
        if verdict == Verdict::TakeOver {
            self.commit_open(context);
            return Err(Ended::Stuck(self.next));
        }
        tracing::warn!(task = %self.id, offset = self.next, end, "records are there and do not come; fetching them anew");
        context.fetcher.restart(&self.id.topic, self.id.partition, self.next)?;
        Ok(())
    }

    /// Commits what has been read, before the task is taken over for want of records: they could not be read again. The
    /// claim follows the commit through the same producer, so the new owner finds it.
    fn commit_open(&mut self, context: &Context<'_>) {
        if let Some(cut) = self.task.cut() {
            self.commit(context, cut);
        }
    }

    fn reach_end(&mut self, context: &Context<'_>) -> Result<(), Ended> {
        self.at_end.get_or_insert_with(Instant::now);
        if self.task.rebuilding() || self.replayed.is_some() {
            // The last offsets may hold no record; the end of the log tells that none follows.
            let (_, end) = context.reader.bounds(&self.id.topic, self.id.partition)?;
            self.task.reached(end);
            if self.is_behind_stretch(end) {
                self.finish_stretch(context);
            } else {
                self.ends_early(end);
            }
        }
        self.tick(context);
        Ok(())
    }

    /// Asks whether a partition that has been silent for long enough is. To a worker that was frozen or is cut off, every
    /// partition is silent: were it believed, half edges would expire whose other sides lie in the log unread.
    fn ask(&mut self, context: &Context<'_>) -> Result<(), Ended> {
        let time = &context.shared.config.time;
        let idle = Duration::from_millis(time.idle.unsigned_abs());
        let silent = self.at_end.is_some_and(|since| since.elapsed() >= idle);
        let present = now();
        if self.replayed.is_some() {
            // Time passes in the data alone.
            return Ok(());
        }
        let waits = self.asked.is_some_and(|asked| present.saturating_sub(asked) < ASK_AGAIN);
        if silent && !waits && self.task.would_tick(time.of_silence(present)) {
            let position = self.task.position().unwrap_or_default();
            context.fetcher.restart(&self.id.topic, self.id.partition, position)?;
            self.asked = Some(present);
        }
        Ok(())
    }

    /// Advances a partition that was still at its end when that was asked: to the time of the question, as much may have come
    /// until the answer is read.
    fn tick(&mut self, context: &Context<'_>) {
        let time = &context.shared.config.time;
        if let Some(asked) = self.asked.take()
            && let Some(cut) = self.task.tick(time.of_silence(asked))
        {
            context.shared.telemetry.tick();
            self.commit(context, cut);
        }
    }

    /// Appends a commit to the journal.
    fn commit(&mut self, context: &Context<'_>, cut: StepCut) {
        let commit = SpanCommit {
            cause: match last_step(cut.stream_time) {
                Some(_) => Cause::End,
                None if cut.tick => Cause::Tick,
                None => Cause::Records,
            },
            step: cut.step,
            stream_time: Some(cut.stream_time),
            forwarded: self.forwarded,
            reread_from: cut.reread_from,
            live: cut.live,
            ledger: cut.ledger,
            shares: cut.shares,
            witness: self.witness,
        };
        self.renew_witness = true;
        let records = self.journal.writer.commit(cut.from, cut.to, &commit.encode());
        // Once in the producer's queue, and once here.
        let bytes = records.iter().map(Vec::len).sum::<usize>() + bytes_of(&commit.shares);
        self.pending.push_back(Pending { k: cut.k, forwarded: commit.forwarded, shares: commit.shares, bytes });
        self.journal.append(context, records, Some(cut.k));
    }

    /// Sends the shares of an accepted commit to their shards.
    fn forward(&mut self, context: &Context<'_>, k: u64, shares: &Shares) {
        let deltas = context.shared.names.deltas();
        let (id, life, inbox) = (&self.id, self.life, context.inbox);
        self.outgoing.send(k, shares, |shard, record, sent| {
            let (id, inbox) = (id.clone(), inbox.clone());
            let on_fate = Box::new(move |fate| inbox.send(Command::News(id, life, News::Share(sent, fate))));
            context.shared.appender.append(&deltas, shard, record, on_fate);
        });
    }

    /// Learns the fate of something that it appended.
    pub(super) fn tell(&mut self, context: &Context<'_>, news: News) -> Result<(), Ended> {
        match news {
            News::Journal(fate) => self.journaled(context, fate),
            News::Share(sent, fate) => self.shared(sent, fate),
            News::Delivered(..) => Ok(()),
        }
    }

    fn journaled(&mut self, context: &Context<'_>, fate: Fate) -> Result<(), Ended> {
        let told = self.journal.learn(context, fate)?;
        self.begins.extend(told.begins);
        for frame in told.accepted {
            match frame.kind {
                FrameKind::Commit => self.accepted(context, frame.k, frame.to),
                FrameKind::Release => self.released = Some(true),
                FrameKind::Claim | FrameKind::Snapshot => {}
            }
        }
        Ok(())
    }

    fn accepted(&mut self, context: &Context<'_>, k: u64, to: i64) {
        context.shared.telemetry.commit(self.id.kind);
        context.shared.note_position(&self.id.topic, self.id.partition, to);
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.k <= k) {
            self.forward(context, pending.k, &pending.shares);
            // A restore needs this commit and those whose shares it does not call forwarded; the rest may go.
            self.begins = self.begins.split_off(&pending.forwarded);
            if let Some(offset) = self.begins.get(&pending.forwarded) {
                context.shared.note_trim(self.journal.topic(), self.id.partition, *offset);
            }
        }
    }

    fn shared(&mut self, sent: Sent, fate: Fate) -> Result<(), Ended> {
        // A share that is missing would hold its shard back for good: take over again and send it again.
        self.outgoing.learn(sent, fate).map_err(|unsure| Ended::Unknown(unsure.to_string()))?;
        let next = self.pending.front().map_or(self.journal.writer.next_k(), |pending| pending.k);
        self.forwarded = self.outgoing.first().unwrap_or(next);
        Ok(())
    }

    /// Stops reading; what was read is committed and the journal released.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    fn finish(&mut self, context: &Context<'_>) {
        if self.released.is_some() {
            return;
        }
        self.commit_open(context);
        let records = self.journal.writer.release();
        self.released = Some(false);
        self.journal.append(context, records, None);
    }

    /// Whether the task is on its way out.
    pub(super) fn draining(&self) -> bool {
        self.draining
    }

    /// Whether all that was read is journaled and forwarded.
    pub(super) fn drained(&self) -> bool {
        self.released == Some(true) && self.outgoing.is_empty()
    }

    /// Shows its state on the board.
    pub(super) fn show(&self, status: &mut TaskStatus, present: Millis) {
        status.state = if self.draining { TaskState::Closing } else { TaskState::Running };
        status.restored = !self.task.rebuilding();
        status.stream_time = self.task.stream_time();
        status.position = self.task.position().unwrap_or_default();
        if self.at_end.is_some() {
            status.end_offset = status.end_offset.max(status.position);
            status.lag_records = 0;
        } else {
            status.lag_records = (status.end_offset - status.position).max(0).unsigned_abs();
        }
        status.lag_millis = match self.task.stream_time() {
            Some(at) if status.lag_records > 0 => (present - at).max(0),
            _ => 0,
        };
        status.ledger = self.task.ledger().clone();
        status.trouble = self.replayed.as_ref().and_then(|replayed| replayed.trouble(&self.id));
        status.done = self.task.has_ended() && self.pending.is_empty() && self.outgoing.is_empty();
    }

    /// Stops fetching. What was not accepted is forgotten; the next owner reads it again.
    pub(super) fn end(self, fetcher: &Fetcher) {
        fetcher.close(&self.id.topic, self.id.partition, self.queue);
    }
}
