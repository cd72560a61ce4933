//! A series task: adds up the deltas of its shard, closes steps, and sends what was accepted to the receiver.

use std::collections::{BTreeMap, VecDeque};

use super::mutation::Mutation;
use super::net::{Net, Topic};
use super::rng::Rng;
use super::session::{Event, Session};
use super::share::Share;
use super::source::STEP;
use super::world::Claims;
use spanmill::journal::{
    ChainVerdict, EmitCause, EmitMark, FrameKind, JournalError, SeriesFold, SeriesSnapshot, SeriesState, ShareChain,
};
use spanmill::model::wire::{Malformed, Reader, put_i64, put_u64};

/// A closed step: its end, and every series of the shard.
pub(crate) type Step = (i64, BTreeMap<u64, u64>);

pub(crate) struct SeriesActor {
    pub(crate) id: u64,
    pub(crate) shard: usize,
    session: Session,
    task: Option<Task>,
}

struct Task {
    /// The deltas offset to read next.
    read: i64,
    state: Sums,
    /// Steps whose marks are in flight.
    waiting: VecDeque<Step>,
    /// Steps to send.
    outbox: VecDeque<Step>,
    /// The oldest of them is under way.
    sending: bool,
    acknowledged: Option<i64>,
}

/// A pure function of the deltas and the marks.
#[derive(Default)]
struct Sums {
    chain: ShareChain,
    times: BTreeMap<u64, i64>,
    open: BTreeMap<i64, BTreeMap<u64, u64>>,
    total: BTreeMap<u64, u64>,
    closed: i64,
}

// === impl SeriesActor ===

impl SeriesActor {
    pub(crate) fn new(net: &mut Net, rng: &mut Rng, shard: usize, mutation: Mutation) -> Self {
        let session = Session::claim(net, rng, Topic::SeriesJournal(shard), mutation);
        Self { id: rng.next(), shard, session, task: None }
    }

    /// Does one thing. False when it has lost its task for good.
    pub(crate) fn step(&mut self, net: &mut Net, rng: &mut Rng, claims: &mut Claims<'_>) -> Result<bool, String> {
        match self.session.poll(net)? {
            Event::Nothing => {}
            Event::Restore(claim) => self.restore(net, rng, claims, claim)?,
            Event::Accepted(frames) => {
                for frame in frames {
                    if let (FrameKind::Commit, Some(task)) = (frame.kind, &mut self.task) {
                        claims.accepted.push((Topic::SeriesJournal(self.shard), self.session.owner, frame.k));
                        let step = task.waiting.pop_front().ok_or("accepted, but not in flight")?;
                        if claims.mutation != Mutation::EmitBeforeAcceptance {
                            task.outbox.push_back(step);
                        }
                    }
                }
            }
            Event::Fenced if !claims.healing && rng.chance(60) => return Ok(false),
            Event::Fenced | Event::Unknown => *self = Self::new(net, rng, self.shard, claims.mutation),
        }
        Ok(true)
    }

    fn restore(&mut self, net: &mut Net, rng: &mut Rng, claims: &Claims<'_>, claim: i64) -> Result<(), String> {
        let topic = Topic::SeriesJournal(self.shard);
        let log = net.log(topic);
        let mut fold = if log.start > 0 { SeriesFold::after_cut() } else { SeriesFold::new() };
        for (offset, record) in claims.mutation.restored(log.read(0, claim + 1)) {
            fold.apply(offset, &record).map_err(|e| e.to_string())?;
        }
        let state = match fold.into_state() {
            Err(JournalError::Cut { .. }) if self.session.is_contested(net, claim)? => {
                *self = Self::new(net, rng, self.shard, claims.mutation);
                return Ok(());
            }
            state => state.map_err(|e| e.to_string())?,
        };
        if let (true, Some(needed)) = (rng.chance(30), state.oldest_needed) {
            net.log_mut(topic).cut(needed);
        }
        self.session.run(rng, state.next, state.next_k);
        self.task = Some(Task::new(net, claims, self.shard, state)?);
        Ok(())
    }

    /// Reads some deltas, and closes the steps that every partition has passed.
    pub(crate) fn read(&mut self, net: &mut Net, rng: &mut Rng, claims: &Claims<'_>) -> Result<(), String> {
        for _ in 0..=rng.below(5) {
            let Some(task) = &mut self.task else { return Ok(()) };
            let log = net.log(Topic::Deltas(self.shard));
            let Some((offset, record)) = log.read(task.read, log.end()).first() else { return Ok(()) };
            task.state.add(record, claims.mutation)?;
            task.read = offset + 1;
            while self.task.as_ref().is_some_and(|task| task.state.may_close(claims.partitions)) {
                self.close(net, claims, EmitCause::Watermark);
            }
        }
        Ok(())
    }

    /// Closes a step that some partition has not passed, as after the grace time.
    pub(crate) fn force(&mut self, net: &mut Net, claims: &Claims<'_>) -> bool {
        let may = self.task.as_ref().is_some_and(|task| task.state.may_close(1));
        if may {
            self.close(net, claims, EmitCause::Forced);
        }
        may
    }

    fn close(&mut self, net: &mut Net, claims: &Claims<'_>, cause: EmitCause) {
        let (Some(task), Some(writer)) = (&mut self.task, self.session.writer()) else {
            return;
        };
        let step = task.state.close();
        let mark =
            EmitMark { step: step.0, cause, acknowledged: task.acknowledged, left_out: Vec::new(), behind: Vec::new() };
        let records = writer.commit(writer.next().unwrap_or(0), task.read, &mark.encode());
        if claims.mutation == Mutation::EmitBeforeAcceptance {
            task.outbox.push_back(step.clone());
        }
        task.waiting.push_back(step);
        self.session.send(net, records);
    }

    /// Takes a snapshot, if every closed step is acknowledged.
    pub(crate) fn snapshot(&mut self, net: &mut Net, claims: &Claims<'_>) -> bool {
        let (Some(task), Some(writer)) = (&self.task, self.session.writer()) else {
            return false;
        };
        let unsent = !task.waiting.is_empty() || !task.outbox.is_empty();
        if unsent && claims.mutation != Mutation::SnapshotBeforeAcknowledged {
            return false;
        }
        let (deltas_offset, step) = (task.read, task.state.closed);
        let (body, undelivered) = (task.state.encode(), Vec::new());
        let records = writer.snapshot(&SeriesSnapshot { body, deltas_offset, step, undelivered }.encode());
        let taken = !records.is_empty();
        self.session.send(net, records);
        taken
    }

    /// All ways out of this process.
    pub(crate) fn channels(&self) -> Vec<usize> {
        vec![self.session.channel]
    }

    /// Lets the task go, if nothing is in flight.
    pub(crate) fn release(&mut self, net: &mut Net) -> bool {
        let Some(writer) = self.session.writer().filter(|writer| writer.in_flight() == 0) else {
            return false;
        };
        let records = writer.release();
        self.session.send(net, records);
        true
    }

    /// The oldest unsent step; it is under way from now on.
    pub(crate) fn request(&mut self) -> Option<Step> {
        let task = self.task.as_mut().filter(|task| !task.sending)?;
        task.sending = !task.outbox.is_empty();
        task.outbox.front().cloned()
    }

    /// The receiver's answer, or that none came.
    pub(crate) fn answered(&mut self, step: i64, taken: bool) {
        // An answer to what was sent before the task was restored says nothing about it now.
        let Some(task) = self.task.as_mut().filter(|task| task.sending) else { return };
        if task.outbox.front().is_some_and(|front| front.0 == step) {
            task.sending = false;
            if taken {
                task.outbox.pop_front();
                task.acknowledged = Some(step);
            }
        }
    }

    /// Whether all is read, closed up to `end`, and sent.
    pub(crate) fn is_done(&mut self, net: &Net, end: i64) -> bool {
        let idle = self.session.writer().is_some_and(|writer| writer.in_flight() == 0);
        let log_end = net.log(Topic::Deltas(self.shard)).end();
        idle && self.task.as_ref().is_some_and(|task| {
            task.read >= log_end && task.state.closed >= end && task.waiting.is_empty() && task.outbox.is_empty()
        })
    }
}

// === impl Task ===

impl Task {
    fn new(net: &Net, claims: &Claims<'_>, shard: usize, restored: SeriesState) -> Result<Self, String> {
        let mut read = 0;
        let mut state = Sums::default();
        if let Some(snapshot) = restored.snapshot {
            read = snapshot.deltas_offset;
            state = Sums::decode(&snapshot.body, snapshot.step).map_err(|e| e.to_string())?;
        }
        let mut outbox = VecDeque::new();
        let deltas = net.log(Topic::Deltas(shard));
        for (to, mark) in restored.marks {
            for (_, record) in deltas.read(read, to) {
                state.add(record, claims.mutation)?;
            }
            if to < read || mark.step != state.closed + STEP {
                return Err(format!("mark of step {} at {to}, after step {} at {read}", mark.step, state.closed));
            }
            read = to;
            let step = state.close();
            if restored.acknowledged < Some(step.0) && claims.mutation != Mutation::StepsNotResent {
                outbox.push_back(step);
            }
        }
        let acknowledged = restored.acknowledged;
        Ok(Self { read, state, waiting: VecDeque::new(), outbox, sending: false, acknowledged })
    }
}

// === impl Sums ===

impl Sums {
    fn add(&mut self, record: &[u8], mutation: Mutation) -> Result<(), String> {
        let share = Share::decode(record).map_err(|e| e.to_string())?;
        let partition = i32::try_from(share.partition).expect("few partitions");
        let mut verdict = self.chain.accept("spans", partition, share.k, share.part, share.parts);
        if mutation == Mutation::ChainOff {
            verdict = ChainVerdict::Accepted { complete: share.part + 1 == share.parts };
        }
        let ChainVerdict::Accepted { complete } = verdict else {
            return Ok(());
        };
        // What comes for a closed step is added to the oldest open one.
        let open = self.open.entry(share.step.max(self.closed + STEP)).or_default();
        for (series, amount) in share.deltas {
            *open.entry(series).or_default() += amount;
        }
        if complete {
            let time = self.times.entry(share.partition as u64).or_insert(share.stream_time);
            *time = share.stream_time.max(*time);
        }
        Ok(())
    }

    /// Whether at least `partitions` source partitions have passed the next step.
    fn may_close(&self, partitions: usize) -> bool {
        self.times.values().filter(|&&t| t >= self.closed + STEP).count() >= partitions
    }

    fn close(&mut self) -> Step {
        self.closed += STEP;
        let later = self.open.split_off(&(self.closed + 1));
        for (series, amount) in std::mem::replace(&mut self.open, later).into_values().flatten() {
            *self.total.entry(series).or_default() += amount;
        }
        (self.closed, self.total.clone())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.chain.encode(&mut out);
        put_u64(&mut out, self.times.len() as u64);
        for (&partition, &time) in &self.times {
            put_u64(&mut out, partition);
            put_i64(&mut out, time);
        }
        let closed = std::iter::once((&self.closed, &self.total));
        for (&step, sums) in closed.chain(&self.open) {
            put_i64(&mut out, step);
            put_u64(&mut out, sums.len() as u64);
            for (&series, &amount) in sums {
                put_u64(&mut out, series);
                put_u64(&mut out, amount);
            }
        }
        out
    }

    fn decode(bytes: &[u8], closed: i64) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let mut state = Self { chain: ShareChain::decode(&mut r)?, closed, ..Self::default() };
        for _ in 0..r.u64()? {
            state.times.insert(r.u64()?, r.i64()?);
        }
        while !r.is_empty() {
            let step = r.i64()?;
            let sums = if step == closed { &mut state.total } else { state.open.entry(step).or_default() };
            for _ in 0..r.u64()? {
                sums.insert(r.u64()?, r.u64()?);
            }
        }
        Ok(state)
    }
}
