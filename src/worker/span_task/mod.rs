//! A running span task: records in, commits journaled, delta records forwarded.
//!
//! *In:* records of one source partition. *Out:* commits in its journal, delta records in the deltas topic. *Owner:* the worker
//! thread that the partition belongs to. *Never:* a wait for a broker on the way of a record, except to read a gap in the
//! journal. *Next:* `commits`, which has what leaves; this half reads and counts, with [`SpanTask`] as the pure part.

mod commits;
mod history;
mod intake;
mod open;
mod outgoing;
mod unpack;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::message::Message;

use self::commits::{Commits, Journaled};
use self::history::History;
pub(crate) use self::intake::Intake;
use self::open::Open;
use self::unpack::{Next, Unpacking};
use self::watch::{PartitionView, ReadProgress, SETTLE, StallVerdict};
use crate::config::settings::{Start, TenantSource};
use crate::core::model::time::{last_step, rfc3339};
use crate::core::model::{Counter, Ledger, Millis};
use crate::core::tasks::span::{Moved, SpanTask};
use crate::worker::kafka::fetch::{NoRecord, Queue, Undecompressed};
use crate::worker::kafka::{Fetcher, witness};
use crate::worker::task::{
    Ended, Epoch, Held, Leave, Leaving, MAX_OFF, News, Part, TakenSpan, TaskContext, Turn, Unread, fetching,
};
use crate::worker::telemetry::{Condition, Reporter, TaskId, TaskState, TaskStatus};

/// Records taken in one turn, so that the tasks of a thread take turns.
const RECORDS_PER_TURN: usize = 64;
/// How often progress is checked.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often it is logged that records come from the future.
const SAY_MOVED_EVERY: Duration = Duration::from_secs(60);
/// After so many milliseconds without an answer, a partition is asked again whether it is silent.
const ASK_AGAIN: Millis = 30_000;

/// One span task at work.
pub(crate) struct SpanRunner {
    id: TaskId,
    task: SpanTask,
    /// Where the tenants of its records come from.
    tenant: TenantSource,
    intake: Arc<Intake>,
    /// The generation of the task's settings.
    generation: u64,
    queue: Queue,
    commits: Commits,
    /// The offset after the last record that came.
    next: i64,
    progress: ReadProgress,
    watched: Instant,
    held: Held,
    /// Whether the end of the partition has been reached, and since when.
    at_end: Option<Instant>,
    /// When the broker was asked whether the partition still ends there, while there is no answer.
    asked: Option<Millis>,
    /// Records that were not counted at their own time, of which nothing has been logged, and the time of the last log
    /// line.
    moved: Option<Moved>,
    said_moved: Option<Instant>,
    /// Reports that stream time is in the future.
    in_future: Reporter,
    /// An open transaction that blocks reading.
    open: Open,
    /// A batch that cannot be decompressed.
    unpacking: Option<Unpacking>,
    /// Why the partition cannot be read, if it cannot.
    unread: Option<Unread>,
    /// The ledger when the task was acquired.
    begun: Ledger,
    /// What it replays, if it does.
    history: History,
}

impl SpanRunner {
    /// Starts fetching, and resends what the shards may not have.
    pub(crate) fn start(
        context: &TaskContext<'_>,
        intake: &Arc<Intake>,
        (id, epoch): (TaskId, Epoch),
        mut taken: TakenSpan,
    ) -> Result<Self, Ended> {
        let queue = context.fetcher.open(&id.topic, id.partition, taken.start)?;
        let patience = Duration::from_millis(context.clients.config.kafka.stuck_after.unsigned_abs());
        let mut held = Held::new(&context.clients.memory);
        held.set(Part::Fetch, context.fetcher.memory());
        let history = History::new(context.mode.range(&id.topic, id.partition), &mut taken.task);
        let in_future = context.clients.telemetry.conditions().reporter(Condition::Clock, id.to_string());
        let TakenSpan { writer, forwarded, needs, witness, journaled: ledger, .. } = taken;
        let begun = ledger.clone();
        let journaled = Journaled { writer, forwarded, needs, witness, ledger };
        let mut runner = Self {
            history,
            next: taken.start,
            progress: ReadProgress::new(patience, Instant::now()),
            watched: Instant::now(),
            held,
            commits: Commits::new(context, (&id, epoch), journaled),
            tenant: context.clients.config.tenant_of(&id.topic),
            id,
            task: taken.task,
            intake: Arc::clone(intake),
            generation: taken.generation,
            queue,
            at_end: None,
            asked: None,
            moved: None,
            said_moved: None,
            in_future,
            open: Open::default(),
            unpacking: None,
            unread: None,
            begun,
        };
        for (commit_number, delta_records) in taken.regained.into_iter().chain(taken.unforwarded) {
            runner.commits.forward(context, commit_number, &delta_records);
        }
        if runner.commits.next().is_some_and(|next| runner.task.position() > Some(next)) {
            // Records that retention has deleted are a commit of their own: its offsets are those of the gap.
            runner.commit_open(context);
        }
        let from_latest =
            context.clients.config.kafka.start_of_sources() == Start::Latest && context.mode.time_passes();
        if runner.commits.next().is_none() && from_latest {
            // Journals the start position at once: after a crash, the end of the partition would be another one.
            let present = context.clients.config.core.time.of_silence(context.clock.present());
            while let Some(begin) = runner.task.tick(present) {
                runner.commits.commit(context, begin);
            }
        }
        Ok(runner)
    }

    /// Takes some records.
    pub(crate) fn turn(&mut self, context: &TaskContext<'_>) -> Result<Turn, Ended> {
        if self.commits.leaving().is_under_way() {
            self.finish(context);
            return Ok(Turn::Idle);
        }
        if let Some(in_force) = context.tenants.newer_than(self.generation) {
            self.task.reconfigure(&context.tenants.span_settings(&in_force.tenants, &self.id.topic));
            self.generation = in_force.generation;
        }
        if self.rests(context)? {
            if self.task.has_ended() {
                self.commits.look(context)?;
            }
            return Ok(Turn::Idle);
        }
        self.watch(context)?;
        let before = self.task.ledger().get(Counter::SpansRead);
        let turn = match self.held.leave(&self.id) {
            Leave::Read => self.read(context, RECORDS_PER_TURN)?,
            // A rebuild only brings back what was held before, and nothing can be committed meanwhile.
            Leave::Step | Leave::Wait | Leave::Stand if self.task.rebuilding() => self.read(context, 1)?,
            Leave::Step => {
                let turn = self.read(context, 1)?;
                self.commit_open(context);
                turn
            }
            Leave::Wait | Leave::Stand => {
                // No tick: only reading shows whether the partition is silent.
                if !self.commits.full() {
                    self.commit_open(context);
                }
                Turn::Idle
            }
        };
        context.clients.telemetry.spans_read(self.task.ledger().get(Counter::SpansRead).saturating_sub(before));
        self.account(context);
        self.name_moved();
        self.name_traces(context);
        Ok(turn)
    }

    fn read(&mut self, context: &TaskContext<'_>, most: usize) -> Result<Turn, Ended> {
        for i in 0..most {
            if self.commits.full() || (i > 0 && self.too_much(context)) {
                return Ok(Turn::Idle);
            }
            // The message borrows the queue; the borrow ends before the queue is used again.
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
                    (self.at_end, self.asked, self.unpacking, self.unread) = (None, None, None, None);
                    let offset = message.offset();
                    if self.history.is_past(offset) {
                        drop(message);
                        self.finish_range(context)?;
                        return Ok(Turn::Busy);
                    }
                    let mut cuts = match self.history.before(offset) {
                        Some(repeat) => self.intake.counting(&self.id, &mut self.task, repeat)?,
                        None => Vec::new(),
                    };
                    cuts.extend(self.intake.take(context, &self.id, &mut self.task, (&message, &self.tenant))?);
                    self.next = offset + 1;
                    // A record whose time is doubtful does not count as read yet: no commit covers it.
                    let counted = self.task.position() == Some(self.next);
                    let witness = (counted && self.commits.wants_witness()).then(|| witness::of(&message));
                    drop(message);
                    cuts.into_iter().for_each(|cut| self.commits.commit(context, cut));
                    // The cuts were made before this record.
                    self.commits.set_witness(witness);
                }
                Err(NoRecord::End) if self.probes() => self.probed(context, None)?,
                Err(NoRecord::End) => self.reach_end(context)?,
                Err(NoRecord::Undecompressed(failure)) => self.cannot_unpack(context, failure)?,
                // Earlier records are gone.
                Err(failed) => {
                    if let Err(ended) = fetching(&self.id, failed, &mut self.unread) {
                        self.commit_all(context)?;
                        return Err(ended);
                    }
                }
            }
        }
        Ok(Turn::Busy)
    }

    /// Whether a replay has nothing to read now.
    fn rests(&mut self, context: &TaskContext<'_>) -> Result<bool, Ended> {
        if self.history.is_over(context.mode, &self.task) {
            self.finish_range(context)?;
        }
        Ok(self.history.rests(context.mode, &self.task))
    }

    /// The partition holds nothing more of the range that is replayed.
    fn finish_range(&mut self, context: &TaskContext<'_>) -> Result<(), Ended> {
        let Some((to, rest)) = self.history.finish() else { return Ok(()) };
        self.task.reached(to);
        let cuts = self.intake.counting(&self.id, &mut self.task, rest)?;
        cuts.into_iter().for_each(|cut| self.commits.commit(context, cut));
        Ok(())
    }

    /// Whether what comes is the answer to a probe.
    fn probes(&self) -> bool {
        self.unpacking.as_ref().is_some_and(Unpacking::probes)
    }

    /// A batch could not be decompressed.
    fn cannot_unpack(&mut self, context: &TaskContext<'_>, failure: Undecompressed) -> Result<(), Ended> {
        if self.probes() {
            return self.probed(context, Some(failure.begin));
        }
        let mut unpacking = Unpacking::failed(self.unpacking.take(), &self.id, failure);
        if unpacking.is_given_up() {
            // What follows is no answer to a question about silence.
            (self.at_end, self.asked) = (None, None);
            let (_, end) = context.reader.bounds(&self.id.topic, self.id.partition)?;
            unpacking.search(self.next, self.history.within(end));
        }
        self.unpacking = Some(unpacking);
        self.probe(context)
    }

    /// Handles the result of the last probe.
    fn probed(&mut self, context: &TaskContext<'_>, failed_at: Option<i64>) -> Result<(), Ended> {
        self.unpacking.iter_mut().for_each(|unpacking| unpacking.probed(failed_at));
        self.probe(context)
    }

    /// Asks for the next offset, or skips the batch if its end is known.
    fn probe(&mut self, context: &TaskContext<'_>) -> Result<(), Ended> {
        let Some(unpacking) = &self.unpacking else { return Ok(()) };
        let (from, to) = match unpacking.next() {
            None => return Ok(()),
            Some(Next::Probe(probe)) => {
                return Ok(context.fetcher.restart(&self.id.topic, self.id.partition, probe)?);
            }
            Some(Next::PassOver { from, to }) => (from, to),
        };
        unpacking.say(&self.id, (from, to));
        self.unpacking = None;
        // Its offsets are a commit of their own, like those of a gap.
        self.commit_all(context)?;
        let cuts = self.task.unreadable(from, to);
        cuts.into_iter().for_each(|cut| self.commits.commit(context, cut));
        self.commit_open(context);
        self.next = to;
        Ok(context.fetcher.restart(&self.id.topic, self.id.partition, to)?)
    }

    /// Whether the records of this turn have exceeded the memory limit.
    fn too_much(&mut self, context: &TaskContext<'_>) -> bool {
        if !self.held.limited() {
            return false;
        }
        self.account(context);
        self.held.leave(&self.id) != Leave::Read
    }

    /// Reports the memory that the task holds.
    fn account(&mut self, context: &TaskContext<'_>) {
        let holding = self.task.holding();
        self.held.set(Part::Fetch, context.fetcher.memory() + holding.doubted);
        self.held.set(Part::Open, holding.open);
        self.held.set(Part::Known, holding.known);
        self.held.set(Part::Edges, holding.edges);
        self.held.set(Part::Commits, self.commits.bytes());
    }

    /// Ensures that a partition with unread records delivers them.
    fn watch(&mut self, context: &TaskContext<'_>) -> Result<(), Ended> {
        if self.watched.elapsed() < WATCH_EVERY {
            return Ok(());
        }
        self.watched = Instant::now();
        self.compare_with_present(context);
        let status = context.clients.telemetry.tasks().get(&self.id).unwrap_or_default();
        self.watch_open(&status);
        // Records past an open transaction need not come.
        let end = status.open_from.unwrap_or(status.end_offset);
        let held_back = self.held.waits() || self.commits.full() || self.history.waits() || self.probes();
        let seen = PartitionView { position: self.next, end, at_end: self.at_end, held_back };
        let verdict = self.progress.judge(seen, self.watched);
        if verdict == StallVerdict::Fine {
            if !self.probes() && self.unread.as_mut().is_some_and(Unread::is_due) {
                context.fetcher.restart(&self.id.topic, self.id.partition, self.next)?;
            }
            return Ok(());
        }
        let (topic, partition, next) = (&self.id.topic, self.id.partition, self.next);
        let why = format!(
            "{topic}[{partition}] ends at {end}, but offset {next} is not delivered; check whether the \
                     broker applies a quota"
        );
        self.unread.get_or_insert_with(|| Unread::new(why));
        context.clients.telemetry.stuck();
        if verdict == StallVerdict::TakeOver {
            self.commit_all(context)?;
            return Err(Ended::Stuck(self.next));
        }
        tracing::warn!(task = %self.id, offset = self.next, end, "no records received although the partition has \
                                                                  unread records, restarting the fetch");
        context.fetcher.restart(&self.id.topic, self.id.partition, self.next)?;
        Ok(())
    }

    /// Looks for an open transaction that the task has read up to.
    fn watch_open(&mut self, status: &TaskStatus) {
        let from = status.open_from.filter(|from| self.next >= *from || self.at_end.is_some());
        if self.open.see(from, self.progress.patience(), self.watched)
            && let Some(trouble) = self.open.trouble(&self.id)
        {
            tracing::warn!(end = status.end_offset, error = trouble, "an open transaction blocks a partition");
        }
    }

    /// Reports a journal that is in the future: what a worker with a wrong clock has written stays.
    fn compare_with_present(&self, context: &TaskContext<'_>) {
        let limit = context.clock.present() + context.clients.config.core.time.max_future + MAX_OFF;
        let is_ahead = |at: &Millis| context.mode.time_passes() && last_step(*at).is_none() && *at > limit;
        let ahead = self.task.stream_time().filter(is_ahead);
        match ahead {
            None => self.in_future.met(),
            Some(at) => self.in_future.unmet(format!(
                "{}: its journal has reached {}, which is in the future: a worker with a wrong clock wrote that. All \
                 spans of the partition are counted in that step, and no earlier step is emitted. Wait until then, \
                 or start again with another kafka.group and replay the records that it did not count in time",
                self.id,
                rfc3339(at)
            )),
        }
    }

    /// Commits all that has been read, also records that wait for later ones, before the task is restarted because no
    /// records come: they could not be read again. The claim follows the commit through the same producer, so the new
    /// owner finds it.
    fn commit_all(&mut self, context: &TaskContext<'_>) -> Result<(), Ended> {
        let cuts = self.intake.counting(&self.id, &mut self.task, SpanTask::settle)?;
        cuts.into_iter().for_each(|cut| self.commits.commit(context, cut));
        self.commit_open(context);
        Ok(())
    }

    /// Commits what has been read and counted.
    fn commit_open(&mut self, context: &TaskContext<'_>) {
        if let Some(cut) = self.task.cut() {
            self.commits.commit(context, cut);
        }
    }

    fn reach_end(&mut self, context: &TaskContext<'_>) -> Result<(), Ended> {
        self.unread = None;
        self.at_end.get_or_insert_with(Instant::now);
        if self.task.rebuilding() || !context.mode.time_passes() {
            // The last offsets may hold no record; the end of the log shows that none follows.
            let (_, end) = context.reader.bounds(&self.id.topic, self.id.partition)?;
            self.task.reached(end);
            if self.history.is_past(end) {
                self.finish_range(context)?;
            } else {
                self.history.ends_early(&self.id, end);
            }
        }
        // Records past an open transaction exist, and may still contradict a doubtful record.
        if context.mode.time_passes() && !self.open.is_there() {
            let cuts = self.intake.counting(&self.id, &mut self.task, SpanTask::at_end)?;
            cuts.into_iter().for_each(|cut| self.commits.commit(context, cut));
        }
        self.tick(context)
    }

    /// Reports which traces this partition holds spans of; only service graphs need each in one partition.
    fn name_traces(&mut self, context: &TaskContext<'_>) {
        let traces = self.task.take_traces();
        if self.task.pairs() {
            context.clients.spread.saw(&self.id, traces);
        }
    }

    /// Logs which records were counted at another time than their own.
    fn name_moved(&mut self) {
        let Some(moved) = self.task.take_moved() else { return };
        self.moved = Some(self.moved.map_or(moved, |said| Moved { records: said.records + moved.records, ..said }));
        if self.said_moved.is_some_and(|said| said.elapsed() < SAY_MOVED_EVERY) {
            return;
        }
        let Some(Moved { offset, told, counted_at, records }) = self.moved.take() else { return };
        self.said_moved = Some(Instant::now());
        tracing::warn!(task = %self.id, offset, records, time = rfc3339(told), counted_at = rfc3339(counted_at),
            "records have timestamps in the future, counting them at the stream time of their partition and in \
             records_from_future; check the clock of their producer");
    }

    /// Asks the broker whether a partition that has been silent for long enough still ends here. To a worker that was
    /// frozen or is cut off, every partition is silent: if it trusted that, pending edges would expire whose peers are
    /// in the log unread.
    fn ask(&mut self, context: &TaskContext<'_>) -> Result<(), Ended> {
        let time = &context.clients.config.core.time;
        let idle = Duration::from_millis(time.idle.unsigned_abs());
        let silent = self.at_end.is_some_and(|since| since.elapsed() >= idle);
        let present = context.clock.present();
        if !context.mode.time_passes() || context.clock.is_off().is_some() {
            // Time passes in the data alone; or how much has passed is unknown.
            self.asked = None;
            return Ok(());
        }
        let waits = self.asked.is_some_and(|asked| present.saturating_sub(asked) < ASK_AGAIN);
        if silent && !waits && self.task.would_tick(time.of_silence(present)) {
            context.fetcher.restart(&self.id.topic, self.id.partition, self.next)?;
            self.asked = Some(present);
        }
        Ok(())
    }

    /// Advances a partition that was still at its end when the broker was asked: to the time of the question, as
    /// records may have come until the answer is read.
    fn tick(&mut self, context: &TaskContext<'_>) -> Result<(), Ended> {
        let Some(asked) = self.asked.take().filter(|_| !self.open.is_there()) else { return Ok(()) };
        let to = context.clients.config.core.time.of_silence(asked);
        let tick = |task: &mut SpanTask| task.tick(to);
        while let Some(cut) = self.intake.counting(&self.id, &mut self.task, tick)? {
            context.clients.telemetry.tick();
            self.commits.commit(context, cut);
        }
        Ok(())
    }

    /// Handles the fate of a record that it appended.
    pub(crate) fn tell(&mut self, context: &TaskContext<'_>, news: News) -> Result<(), Ended> {
        self.commits.tell(context, news)
    }

    /// Stops reading; what was read is committed and the journal released.
    pub(crate) fn drain(&mut self) {
        self.commits.drain();
    }

    fn finish(&mut self, context: &TaskContext<'_>) {
        if !self.commits.leaving().is_released() {
            self.commit_open(context);
            self.commits.release(context);
        }
    }

    /// Whether the task is closing.
    pub(crate) fn draining(&self) -> bool {
        self.commits.leaving().is_under_way()
    }

    /// Whether all that was read is journaled and forwarded.
    pub(crate) fn drained(&self) -> bool {
        self.commits.leaving() == Leaving::Released && self.commits.are_forwarded()
    }

    /// Shows its state on the task registry.
    pub(crate) fn show(&self, status: &mut TaskStatus, present: Millis) {
        status.state = if self.draining() { TaskState::Closing } else { TaskState::Running };
        status.restored = !self.task.rebuilding();
        status.stream_time = self.task.stream_time();
        status.position = self.task.position().unwrap_or_default();
        status.open_for_long = self.open.is_told();
        let read = if self.at_end.is_some_and(|since| since.elapsed() < SETTLE) {
            status.end_offset = status.end_offset.max(status.position);
            status.end_offset
        } else {
            // Records that came since the end was reached, and were not delivered to this task.
            status.position.max(self.progress.read_up_to())
        };
        status.lags(read, self.task.stream_time(), present);
        status.ledger = self.task.ledger().clone();
        (status.begun, status.journaled) = (Some(self.begun.clone()), Some(self.commits.journaled().clone()));
        status.fetch_trouble =
            self.unread.as_ref().map(|unread| unread.why.clone()).or_else(|| self.open.trouble(&self.id));
        status.shown = true;
        status.trouble = self.history.trouble(&self.id);
        status.done = self.task.has_ended() && self.commits.are_settled();
    }

    /// Stops fetching. What was not accepted is forgotten; the next owner reads it again.
    pub(crate) fn end(self, fetcher: &Fetcher) {
        fetcher.close(&self.id.topic, self.id.partition, self.queue);
    }
}
