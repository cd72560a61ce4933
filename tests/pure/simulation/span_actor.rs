//! A span task: reads its source, commits, and forwards the delta records of what was accepted.

use std::collections::VecDeque;

use super::delta_record::{self, DeltaRecord};
use super::mutation::Mutation;
use super::net::{Net, Topic};
use super::rng::Rng;
use super::session::{Event, Session};
use super::source::{Deltas, Pairing, Record, STEP, step_of};
use super::world::{Claims, refusal};
use spanmill::core::journal::{
    Cause, DeltaRecords, FrameKind, JournalError, Notice, Regained, SpanCommit, SpanFold, SpanState, What,
};
use spanmill::core::model::{Counter, Ledger};

pub(crate) struct SpanActor {
    pub(crate) partition: usize,
    session: Session,
    task: Option<Task>,
}

/// The state between restore and the end.
struct Task {
    /// The source offset to read next.
    read: i64,
    pairing: Pairing,
    ledger: Ledger,
    /// The number of the next commit.
    next_commit_number: u64,
    /// Commits in flight.
    waiting: VecDeque<(u64, DeltaRecords)>,
    /// All delta records below this commit were acknowledged by all shards, in this life or before.
    forwarded: u64,
    forwards: Vec<Forward>,
}

/// The way to one shard.
struct Forward {
    channel: usize,
    /// All delta records below this commit were acknowledged.
    acknowledged: u64,
    /// The delta records from there on.
    queue: VecDeque<(u64, Vec<Vec<u8>>)>,
    /// Per record under way, whether it is the last of its delta record.
    in_flight: VecDeque<bool>,
    /// The offset of the last record that was acknowledged.
    last: Option<i64>,
}

// === impl SpanActor ===

impl SpanActor {
    pub(crate) fn new(net: &mut Net, rng: &mut Rng, partition: usize, mutation: Mutation) -> Self {
        Self { partition, session: Session::claim(net, rng, Topic::Journal(partition), mutation), task: None }
    }

    /// Does one thing. False when it has lost its task for good.
    pub(crate) fn step(&mut self, net: &mut Net, rng: &mut Rng, claims: &mut Claims<'_>) -> Result<bool, String> {
        match self.session.poll(net, rng)? {
            Event::Nothing => {}
            Event::Restore(claim) => self.restore(net, rng, claims, claim)?,
            Event::Accepted(frames) => {
                for frame in frames {
                    if let (FrameKind::Commit, Some(task)) = (frame.kind, &mut self.task) {
                        claims.accepted.push((Topic::Journal(self.partition), self.session.owner, frame.commit_number));
                        let delta_records = task.waiting.pop_front().ok_or("accepted, but not in flight")?;
                        if claims.mutation != Mutation::ForwardBeforeAcceptance {
                            task.forward(net, delta_records);
                        }
                    }
                }
            }
            Event::Fenced if !claims.healing && rng.chance(60) => return Ok(false),
            Event::Fenced | Event::Unknown => *self = Self::new(net, rng, self.partition, claims.mutation),
        }
        if let Some(task) = &mut self.task {
            for (shard, forward) in task.forwards.iter_mut().enumerate() {
                forward.poll(net, shard, claims.mutation);
            }
            if rng.chance(10) {
                self.session.look(net);
            }
            let lacks = |notice: &Notice| notice.what == What::Lacks && notice.commit_number < task.forwarded();
            if std::mem::take(&mut self.session.notices).iter().any(lacks)
                && claims.mutation != Mutation::LackUnheard
                && !claims.mutation.keeps_ends()
            {
                // The new owner finds in the journal which shards lack which delta records.
                *self = Self::new(net, rng, self.partition, claims.mutation);
                claims.regained += 1;
            }
        }
        Ok(true)
    }

    fn restore(&mut self, net: &mut Net, rng: &mut Rng, claims: &Claims<'_>, claim: i64) -> Result<(), String> {
        let topic = Topic::Journal(self.partition);
        let log = net.log(topic);
        let mut fold = if log.start > 0 { SpanFold::after_cut() } else { SpanFold::new() };
        let records = claims.mutation.restored(log.read(0, claim + 1));
        for (offset, record) in &records {
            fold.apply(*offset, record).map_err(|e| e.to_string())?;
        }
        let cut = log.start > 0;
        let state = match fold.into_state() {
            Err(JournalError::Cut { .. }) if self.session.is_contested(net, claim)? => {
                *self = Self::new(net, rng, self.partition, claims.mutation);
                return Ok(());
            }
            state => state.map_err(|e| format!("{}{e}", refusal(topic)))?,
        };
        let mut state = state;
        if claims.mutation == Mutation::None && !self.session.is_contested(net, claim)? {
            claims.has_its_end(topic, state.next)?;
            // Delta records leave only when their commit counts.
            let known = last_delta_record(net, self.partition, claims.shards)?.max(state.needs.counted());
            if known > state.next_commit_number {
                return Err(format!(
                    "{}shards know commits up to {known}, it has {}",
                    refusal(topic),
                    state.next_commit_number
                ));
            }
        }
        let mut regained = Regained::new(state.needs.to_send_again(state.forwarded), state.forwarded, cut);
        for (offset, record) in &records {
            regained.apply(*offset, record).map_err(|e| e.to_string())?;
        }
        if claims.mutation == Mutation::CommitsTrimmedEarly {
            let all =
                (0..).take(claims.shards).map(|shard| Notice { shard, what: What::Holds, commit_number: u64::MAX });
            all.for_each(|notice| state.needs.hear(notice));
            state.oldest_needed = state.needs.oldest(state.forwarded);
        }
        if let (true, Some(needed)) = (rng.chance(30), state.oldest_needed) {
            net.log_mut(topic).cut(needed);
        }
        self.session.run(rng, state.next, state.next_commit_number);
        self.task = Some(Task::new(net, claims, state, regained.delta_records)?);
        Ok(())
    }

    /// Reads some records and commits them.
    pub(crate) fn read(&mut self, net: &mut Net, rng: &mut Rng, claims: &Claims<'_>, source: &[Record]) {
        let (Some(task), Some(writer)) = (&mut self.task, self.session.writer()) else {
            return;
        };
        if writer.in_flight() > 8 {
            return;
        }
        let (from, mut deltas, mut step) = (task.read, Deltas::new(), None);
        let unread = source.iter().skip(usize::try_from(from).expect("offsets start at 0"));
        for record in unread.take(1 + rng.below(6)) {
            // A commit belongs to one step.
            let here = step_of(task.pairing.time_with(record));
            if *step.get_or_insert(here) != here {
                break;
            }
            task.pairing.read(task.read, record, &mut deltas);
            task.ledger.add(Counter::SpansRead, 1);
            task.read += 1;
        }
        if task.read > from {
            self.commit(net, claims, from, Cause::Records, &deltas);
        }
    }

    /// Advances stream time to `now`, if the source has nothing more to read.
    pub(crate) fn tick(&mut self, net: &mut Net, claims: &Claims<'_>, now: i64, source: &[Record]) {
        let (Some(task), Some(writer)) = (&mut self.task, self.session.writer()) else {
            return;
        };
        // The last expiries need a step after them that closes.
        let early = now - 2 * STEP;
        let now = if claims.healing && task.pairing.stream_time < Some(early) { early } else { now };
        let behind = usize::try_from(task.read).is_ok_and(|read| read < source.len());
        if behind || writer.in_flight() > 8 || task.pairing.stream_time >= Some(now) {
            return;
        }
        let mut deltas = Deltas::new();
        task.pairing.advance(now, &mut deltas);
        let from = task.read;
        self.commit(net, claims, from, Cause::Tick, &deltas);
    }

    /// An operator has moved the task to `to`.
    pub(crate) fn reset(&mut self, net: &mut Net, claims: &Claims<'_>, to: i64) -> bool {
        let Some(task) = self.task.as_mut().filter(|task| task.pairing.stream_time.is_some()) else {
            return false;
        };
        let mut deltas = Deltas::new();
        task.pairing.give_up(&mut deltas);
        let from = std::mem::replace(&mut task.read, to);
        self.commit(net, claims, from, Cause::Reset, &deltas);
        true
    }

    fn commit(&mut self, net: &mut Net, claims: &Claims<'_>, from: i64, cause: Cause, deltas: &Deltas) {
        let (Some(task), Some(writer)) = (&mut self.task, self.session.writer()) else {
            return;
        };
        let stream_time = task.pairing.stream_time.expect("there was a record or a tick");
        let step = step_of(stream_time);
        let commit_number = task.next_commit_number;
        task.next_commit_number += 1;
        let delta_records = delta_record::cut(self.partition, commit_number, step, stream_time, deltas, claims.shards);
        let early = claims.mutation == Mutation::ForwardedTooEarly;
        let body = SpanCommit {
            cause,
            step,
            stream_time: Some(stream_time),
            forwarded: if early { commit_number } else { task.forwarded() },
            reread_from: task.pairing.reread_from(task.read),
            live: task.pairing.live(),
            ledger: task.ledger.clone(),
            delta_records: delta_records.clone(),
            witness: None,
        };
        let records = writer.commit(from, task.read, &body.encode());
        task.waiting.push_back((commit_number, delta_records.clone()));
        if claims.mutation == Mutation::ForwardBeforeAcceptance {
            task.forward(net, (commit_number, delta_records));
        }
        self.session.send(net, records);
    }

    /// All ways out of this process.
    pub(crate) fn channels(&self) -> Vec<usize> {
        let forwards = self.task.iter().flat_map(|task| task.forwards.iter().map(|f| f.channel));
        forwards.chain([self.session.channel]).collect()
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

    /// Whether all is read, ticked to `end`, accepted and forwarded.
    pub(crate) fn is_done(&mut self, end: i64, source: &[Record]) -> bool {
        let idle = self.session.writer().is_some_and(|writer| writer.in_flight() == 0);
        idle && self.task.as_ref().is_some_and(|task| {
            task.pairing.stream_time >= Some(end)
                && usize::try_from(task.read).is_ok_and(|read| read == source.len())
                && task.forwards.iter().all(|f| f.queue.is_empty())
        })
    }
}

/// The number after that of the last commit whose delta record lies in the deltas topic; 0 when there is none.
fn last_delta_record(net: &Net, partition: usize, shards: usize) -> Result<u64, String> {
    let log = net.log(Topic::Deltas(partition % shards));
    let mut known = 0;
    for (_, record) in log.read(0, log.end()) {
        let delta_record = DeltaRecord::decode(record).map_err(|e| e.to_string())?;
        if delta_record.partition == partition {
            known = known.max(delta_record.commit_number + 1);
        }
    }
    Ok(known)
}

// === impl Task ===

impl Task {
    fn new(
        net: &mut Net,
        claims: &Claims<'_>,
        state: SpanState,
        regained: Vec<(u64, DeltaRecords)>,
    ) -> Result<Self, String> {
        let read = state.next.unwrap_or(0);
        let mut from = state.reread_from.unwrap_or(read);
        if claims.mutation == Mutation::HalfEdgesNotReread {
            from = read;
        }
        let reread: Vec<_> =
            (from..read).map(|o| (o, claims.source[usize::try_from(o).expect("not negative")])).collect();
        let pairing = Pairing::rebuild(state.stream_time, &state.live, &reread).map_err(|e| e.to_string())?;
        let forward = |shard| Forward {
            channel: net.open(Topic::Deltas(shard)),
            acknowledged: state.forwarded,
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            last: None,
        };
        let forwards = (0..claims.shards).map(forward).collect();
        let SpanState { ledger, next_commit_number, forwarded, .. } = state;
        let mut task =
            Self { read, pairing, ledger, next_commit_number, waiting: VecDeque::new(), forwarded, forwards };
        regained.into_iter().for_each(|delta_records| task.forward(net, delta_records));
        for (commit_number, delta_records) in state.unforwarded {
            if claims.mutation == Mutation::DeltaRecordsNotResent {
                task.forwards.iter_mut().for_each(|f| f.acknowledged = commit_number + 1);
            } else {
                task.forward(net, (commit_number, delta_records));
            }
        }
        Ok(task)
    }

    fn forward(&mut self, net: &mut Net, (commit_number, delta_records): (u64, DeltaRecords)) {
        for (forward, parts) in self.forwards.iter_mut().zip(delta_records).filter(|(_, parts)| !parts.is_empty()) {
            forward.send(net, &parts);
            forward.queue.push_back((commit_number, parts));
        }
    }

    fn forwarded(&self) -> u64 {
        let acknowledged = self.forwards.iter().map(|f| f.acknowledged).min().unwrap_or(0);
        // What is sent again goes back behind it.
        acknowledged.max(self.forwarded)
    }
}

// === impl Forward ===

impl Forward {
    fn send(&mut self, net: &mut Net, parts: &[Vec<u8>]) {
        self.in_flight.extend((1..=parts.len()).map(|n| n == parts.len()));
        net.send(self.channel, parts.iter().cloned());
    }

    fn poll(&mut self, net: &mut Net, shard: usize, mutation: Mutation) {
        let Some(ack) = net.ack(self.channel) else { return };
        // A record that is stored behind a later one came too late for the shard, which had skipped the later one.
        let in_order = |offset: &i64| self.last.is_none_or(|last| *offset > last);
        match ack.filter(|offset| in_order(offset) || mutation == Mutation::OrderOfAcknowledgementsIgnored) {
            Some(offset) => {
                self.last = Some(offset);
                if self.in_flight.pop_front() == Some(true) {
                    self.acknowledged = self
                        .queue
                        .pop_front()
                        .map_or(self.acknowledged, |(commit_number, _)| self.acknowledged.max(commit_number + 1));
                }
            }
            None => {
                // Perhaps lost, and then all after it is ahead of the chain: send everything again.
                self.channel = net.open(Topic::Deltas(shard));
                (self.last, self.in_flight) = (None, VecDeque::new());
                for (commit_number, parts) in std::mem::take(&mut self.queue) {
                    self.send(net, &parts);
                    self.queue.push_back((commit_number, parts));
                }
            }
        }
    }
}
