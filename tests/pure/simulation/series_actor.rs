//! A series task: adds up the deltas of its shard, closes steps, and sends what was accepted to the receiver.

use std::collections::{BTreeMap, VecDeque};

use super::delta_record::DeltaRecord;
use super::endpoints::{Queues, lacks};
use super::mutation::Mutation;
use super::net::{Net, Topic};
use super::oracle;
use super::rng::Rng;
use super::session::{Event, Session};
use super::source::STEP;
use super::world::{Claims, refusal};
use spanmill::core::journal::{
    Again, Basis, ChainVerdict, Change, DeltaChain, EmitCause, EmitMark, FrameKind, JournalError, Notice, SeriesFold,
    SeriesSnapshot, SeriesState, What,
};
use spanmill::core::model::wire::{Malformed, Reader, put_i64, put_u64};

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
    /// What snapshots in flight hold, where their deltas end, and their steps.
    saving: VecDeque<(DeltaChain, i64, i64)>,
    /// A delta record has come whose predecessor has not.
    gap: bool,
    state: Sums,
    /// Steps whose marks are in flight.
    waiting: VecDeque<Step>,
    /// Steps to send.
    outbox: Queues,
    acknowledged: Option<i64>,
}

/// A pure function of the deltas and the marks.
#[derive(Default)]
struct Sums {
    chain: DeltaChain,
    digest: u64,
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
        match self.session.poll(net, rng)? {
            Event::Nothing => {}
            Event::Restore(claim) => self.restore(net, rng, claims, claim)?,
            Event::Accepted(frames) => {
                for frame in frames {
                    if frame.kind == FrameKind::Snapshot {
                        self.saved(net, rng);
                    }
                    if let (FrameKind::Commit, Some(task)) = (frame.kind, &mut self.task) {
                        claims.accepted.push((
                            Topic::SeriesJournal(self.shard),
                            self.session.owner,
                            frame.commit_number,
                        ));
                        let step = task.waiting.pop_front().ok_or("accepted, but not in flight")?;
                        if claims.mutation != Mutation::EmitBeforeAcceptance {
                            task.outbox.add(&step);
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
        self.task = None;
        let mut fold = if log.start > 0 { SeriesFold::after_cut() } else { SeriesFold::new() };
        for (offset, record) in claims.mutation.restored(log.read(0, claim + 1)) {
            fold.apply(offset, &record).map_err(|e| e.to_string())?;
        }
        let mut state = match fold.into_state() {
            Err(JournalError::Cut { .. }) if self.session.is_contested(net, claim)? => {
                *self = Self::new(net, rng, self.shard, claims.mutation);
                return Ok(());
            }
            state => state.map_err(|e| format!("{}{e}", refusal(topic)))?,
        };
        if claims.mutation == Mutation::None && !self.session.is_contested(net, claim)? {
            claims.has_its_end(topic, state.next)?;
        }
        if let (true, Some(needed)) = (rng.chance(30), state.oldest_needed) {
            net.log_mut(topic).cut(needed);
        }
        if claims.mutation == Mutation::BasisIgnored {
            state.marks.iter_mut().for_each(|(_, mark)| mark.basis = None);
        }
        let (next, next_commit_number) = (state.next, state.next_commit_number);
        match Task::new(net, claims, self.shard, state)? {
            Ok(task) => {
                if let Some(wrong) = repeats(net, topic, claim, &task.outbox) {
                    return Err(wrong);
                }
                self.session.run(rng, next, next_commit_number);
                self.task = Some(task);
            }
            Err(lacking) if rng.chance(10) => self.ask(net, lacking),
            Err(_) => {}
        }
        Ok(())
    }

    /// Asks for delta records from these commits on.
    fn ask(&self, net: &mut Net, lacking: Vec<(String, i32, u64)>) {
        for (_, partition, commit_number) in lacking {
            self.tell(net, partition, What::Lacks, commit_number);
        }
    }

    fn tell(&self, net: &mut Net, partition: i32, what: What, commit_number: u64) {
        let channel = net.open(Topic::Journal(usize::try_from(partition).expect("not negative")));
        let shard = u32::try_from(self.shard).expect("few shards");
        net.send(channel, [Notice { shard, what, commit_number }.encode()]);
    }

    /// A snapshot counts: the deltas before it are not needed, and journals may drop what it holds.
    fn saved(&mut self, net: &mut Net, rng: &mut Rng) {
        let Some(task) = self.task.as_mut() else { return };
        let Some((chain, to, step)) = task.saving.pop_front() else { return };
        task.outbox.held(step);
        if rng.chance(50) {
            net.log_mut(Topic::Deltas(self.shard)).cut(to);
        }
        for (_, partition, (commit_number, _)) in chain.sources() {
            self.tell(net, partition, What::Holds, commit_number);
        }
    }

    /// Reads some deltas, and closes the steps that every partition has passed.
    pub(crate) fn read(&mut self, net: &mut Net, rng: &mut Rng, claims: &Claims<'_>) -> Result<(), String> {
        for _ in 0..=rng.below(5) {
            // Without a writer, as a task that takes a lost acknowledgement for nothing may be, no step can be closed.
            if self.session.writer().is_none() {
                return Ok(());
            }
            let Some(task) = &mut self.task else { return Ok(()) };
            let log = net.log(Topic::Deltas(self.shard));
            if task.read > log.end() {
                // The broker refuses to fetch there.
                *self = Self::new(net, rng, self.shard, claims.mutation);
                return Ok(());
            }
            let Some((offset, record)) = log.read(task.read, log.end()).first() else {
                let silent = claims.healing && rng.chance(5);
                if silent || (task.gap && rng.chance(30)) {
                    task.gap = false;
                    let next = |p: i32| ("spans".to_owned(), p, task.state.chain.next("spans", p).0);
                    let lacking = (0..).take(claims.partitions).map(next).collect();
                    self.ask(net, lacking);
                }
                return Ok(());
            };
            task.gap |= task.state.add(record, claims.mutation)? == ChainVerdict::Ahead;
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
        let basis = Some(Basis { chain: task.state.chain.clone(), digest: task.state.digest });
        let (left_out, behind) = (Vec::new(), Vec::new());
        // What is not accepted yet was given to no endpoint.
        let first = task.waiting.front().map_or(step.0, |waits| waits.0);
        let endpoints = task.outbox.marks(first, claims.mutation);
        let change = Change { endpoints, ..Change::default() };
        task.acknowledged = task.acknowledged.max(task.outbox.acknowledged());
        let mark = EmitMark { step: step.0, cause, acknowledged: task.acknowledged, left_out, behind, basis, change };
        let next = writer.next().unwrap_or(0);
        let records = writer.commit(next, task.read.max(next), &mark.encode());
        if claims.mutation == Mutation::EmitBeforeAcceptance {
            task.outbox.add(&step);
        }
        task.waiting.push_back(step);
        self.session.send(net, records);
    }

    /// Takes a snapshot, if every closed step is acknowledged: by one of several endpoints, and what the others lack is part of
    /// it. Returns whether it was taken, and whether it is part of it.
    pub(crate) fn snapshot(&mut self, net: &mut Net, claims: &Claims<'_>) -> [bool; 2] {
        let (Some(task), Some(writer)) = (&mut self.task, self.session.writer()) else {
            return [false; 2];
        };
        let unsent = !task.waiting.is_empty() || !task.outbox.may_be_carried();
        if unsent && claims.mutation != Mutation::SnapshotBeforeAcknowledged {
            return [false; 2];
        }
        let carries = claims.endpoints > 1 && claims.mutation != Mutation::HeldStepsDropped;
        let apart = if carries { task.outbox.encode() } else { Vec::new() };
        let held = !apart.is_empty();
        let (deltas_offset, step) = (task.read, task.state.closed);
        let (body, undelivered, settings) = (task.state.encode(), Vec::new(), Vec::new());
        let records = writer.snapshot(
            &SeriesSnapshot { body, deltas_offset, step, undelivered, settings, apart, ..SeriesSnapshot::default() }
                .encode(),
        );
        let taken = !records.is_empty();
        if taken {
            task.saving.push_back((task.state.chain.clone(), task.read, step));
        }
        self.session.send(net, records);
        [taken, taken && held]
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

    /// The oldest step that an endpoint lacks; it is under way from now on.
    pub(crate) fn request(&mut self, endpoint: usize) -> Option<Step> {
        self.task.as_mut()?.outbox.request(endpoint)
    }

    /// The answer of an endpoint, or that none came.
    pub(crate) fn answered(&mut self, endpoint: usize, step: i64, taken: bool) {
        if let Some(task) = &mut self.task {
            task.outbox.answered(endpoint, step, taken);
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

/// Whether an endpoint would get a step again that it has, by the letter of the last mark in the journal.
fn repeats(net: &Net, topic: Topic, claim: i64, outbox: &Queues) -> Option<String> {
    let marks = oracle::endpoint_marks(net.log(topic), claim);
    let again = |(endpoint, step): &(usize, i64)| lacks(&marks, *endpoint).is_some_and(|first| *step < first);
    let (endpoint, step) = outbox.steps().find(again)?;
    Some(format!("endpoint {endpoint} has step {step} by the mark, and gets it again"))
}

// === impl Task ===

impl Task {
    /// The task where its journal says that it stands; or what it lacks for that.
    fn new(
        net: &Net,
        claims: &Claims<'_>,
        shard: usize,
        restored: SeriesState,
    ) -> Result<Result<Self, Vec<(String, i32, u64)>>, String> {
        let deltas = net.log(Topic::Deltas(shard));
        let (mut from, mut state) = (deltas.start, Sums::default());
        let marks = restored.endpoints().to_vec();
        let (mut apart, mut held) = (Vec::new(), None);
        if let Some(snapshot) = restored.snapshot {
            (apart, held) = (snapshot.apart, Some(snapshot.step));
            from = if snapshot.deltas_offset <= deltas.end() { snapshot.deltas_offset } else { from };
            state = Sums::decode(&snapshot.body, snapshot.step).map_err(|e| e.to_string())?;
        }
        let (mut again, mut outbox) = (Again::new(restored.marks, from), VecDeque::new());
        loop {
            let left = outbox.len() + usize::from(again.is_done());
            let close = |state: &mut Sums, mark: EmitMark, outbox: &mut VecDeque<Step>| {
                if mark.step != state.closed + STEP {
                    return Err(format!("mark of step {}, after step {}", mark.step, state.closed));
                }
                outbox.push_back(state.close());
                Ok(())
            };
            let told = |e: spanmill::core::journal::Mismatch| e.to_string();
            for (offset, record) in deltas.read(from, deltas.end()) {
                while let Some(mark) = again.due(*offset, &state.chain, state.digest).map_err(told)? {
                    close(&mut state, mark, &mut outbox)?;
                }
                let delta_record = DeltaRecord::decode(record).map_err(|e| e.to_string())?;
                let partition = i32::try_from(delta_record.partition).expect("few partitions");
                if again.takes(*offset, "spans", partition, (delta_record.commit_number, delta_record.part)) {
                    state.add(record, claims.mutation)?;
                }
            }
            while let Some(mark) = again.due(deltas.end(), &state.chain, state.digest).map_err(told)? {
                close(&mut state, mark, &mut outbox)?;
            }
            let next = again.go_on();
            if again.is_done() {
                from = next;
                break;
            }
            if outbox.len() + usize::from(again.is_done()) > left {
                from = next;
            } else if from > deltas.start {
                from = deltas.start;
            } else {
                return Ok(Err(again.lacks(&state.chain)));
            }
        }
        if claims.mutation == Mutation::StepsNotResent {
            outbox.clear();
        }
        outbox.retain(|step: &Step| restored.acknowledged < Some(step.0));
        let outbox = Queues::restored(claims.endpoints, (&apart, held), &outbox, (&marks, claims.mutation));
        let outbox = outbox.map_err(|e| e.to_string())?;
        let (acknowledged, waiting, saving) = (restored.acknowledged, VecDeque::new(), VecDeque::new());
        Ok(Ok(Self { read: from, saving, gap: false, state, waiting, outbox, acknowledged }))
    }
}

// === impl Sums ===

impl Sums {
    fn add(&mut self, record: &[u8], mutation: Mutation) -> Result<ChainVerdict, String> {
        let delta_record = DeltaRecord::decode(record).map_err(|e| e.to_string())?;
        let partition = i32::try_from(delta_record.partition).expect("few partitions");
        let mut verdict =
            self.chain.accept("spans", partition, delta_record.commit_number, delta_record.part, delta_record.parts);
        if mutation == Mutation::ChainOff {
            verdict = ChainVerdict::Accepted { complete: delta_record.part + 1 == delta_record.parts };
        }
        let ChainVerdict::Accepted { complete } = verdict else {
            return Ok(verdict);
        };
        self.digest = Basis::add(self.digest, record.iter().fold(7, |sum, b| sum.wrapping_mul(31) + u64::from(*b)));
        // What comes for a closed step is added to the oldest open one.
        let open = self.open.entry(delta_record.step.max(self.closed + STEP)).or_default();
        for (series, amount) in delta_record.deltas {
            *open.entry(series).or_default() += amount;
        }
        if complete {
            let time = self.times.entry(delta_record.partition as u64).or_insert(delta_record.stream_time);
            *time = delta_record.stream_time.max(*time);
        }
        Ok(verdict)
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
        put_u64(&mut out, self.digest);
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
        let (chain, digest) = (DeltaChain::decode(&mut r)?, r.u64()?);
        let mut state = Self { chain, digest, closed, ..Self::default() };
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
