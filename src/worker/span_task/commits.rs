//! The commits of a span task in flight: into the journal, and from there to the shards.
//!
//! A commit is in one of three places: *pending* (appended, not yet known to count), *forwarding* (it counts; its delta
//! records are in flight to the shards), or done. Nothing of it leaves before it counts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::outgoing::{Outgoing, bytes_of};
use crate::core::journal::{Cause, DeltaRecords, FrameKind, JournalWriter, Needs, Notice, SpanCommit, What, Witness};
use crate::core::model::Ledger;
use crate::core::model::time::last_step;
use crate::core::tasks::span::StepCut;
use crate::worker::kafka::appender::Fate;
use crate::worker::task::{Command, Ended, Epoch, JournalEnd, Leaving, News, Sent, TaskContext};
use crate::worker::telemetry::TaskId;

/// Commits that may be in flight to the journal and the shards before reading pauses.
const COMMITS_IN_FLIGHT: usize = 4;
/// How often the journal is checked when the task writes nothing more.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The writing half of a span task.
pub(super) struct Commits {
    id: TaskId,
    epoch: Epoch,
    /// Keeps the number of a commit until the commit has an offset.
    journal: JournalEnd<u64>,
    /// A record that was read, to identify the topic by; a younger one follows each commit.
    witness: Option<Witness>,
    renew_witness: bool,
    /// Appended commits that are not yet known to count.
    pending: VecDeque<Pending>,
    /// Which commits shards, or a restore, may still need.
    needs: Needs,
    /// The forwarded mark of the last commit that counts.
    settled: u64,
    /// When the journal of a task that writes nothing more was last checked.
    looked: Instant,
    /// The delta records of accepted commits.
    outgoing: Outgoing,
    /// Every delta record below this commit number has been acknowledged by all shards.
    forwarded: u64,
    /// The ledger of the last commit that counts.
    journaled: Ledger,
    /// Where a new owner starts reading, by commit that does not count yet; nothing for a topic that is not the group's own.
    reread: VecDeque<(u64, i64)>,
    leaving: Leaving,
}

/// A commit that is not yet known to count.
struct Pending {
    commit_number: u64,
    /// The forwarded mark that it holds.
    forwarded: u64,
    delta_records: DeltaRecords,
    bytes: usize,
    ledger: Ledger,
}

/// What was found in the journal when the task was acquired.
pub(super) struct Journaled {
    pub(super) writer: JournalWriter,
    /// Every delta record with a smaller commit number has been acknowledged by all shards.
    pub(super) forwarded: u64,
    pub(super) needs: Needs,
    pub(super) witness: Option<Witness>,
    /// The ledger of the last commit.
    pub(super) ledger: Ledger,
}

// === impl Commits ===

impl Commits {
    /// Continues from the state of the journal.
    pub(super) fn new(context: &TaskContext<'_>, (id, epoch): (&TaskId, Epoch), taken: Journaled) -> Self {
        let journal = context.clients.names.journal(&id.topic);
        Self {
            journal: JournalEnd::new(taken.writer, journal, id.clone(), epoch),
            id: id.clone(),
            epoch,
            witness: taken.witness,
            renew_witness: taken.witness.is_none(),
            pending: VecDeque::new(),
            needs: taken.needs,
            settled: taken.forwarded,
            looked: Instant::now(),
            outgoing: Outgoing::default(),
            forwarded: taken.forwarded,
            journaled: taken.ledger,
            reread: VecDeque::new(),
            leaving: Leaving::No,
        }
    }

    /// The offset after the last record that the journal has, if it has any.
    pub(super) fn next(&self) -> Option<i64> {
        self.journal.writer.next()
    }

    /// Whether enough commits are in flight.
    pub(super) fn full(&self) -> bool {
        self.pending.len() + self.outgoing.len() >= COMMITS_IN_FLIGHT
    }

    /// Whether no commit is in flight.
    pub(super) fn are_settled(&self) -> bool {
        self.pending.is_empty() && self.outgoing.is_empty()
    }

    /// Whether every shard has the delta records of all commits that count.
    pub(super) fn are_forwarded(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// The bytes of the commits in flight.
    pub(super) fn bytes(&self) -> usize {
        self.pending.iter().map(|commit| commit.bytes).sum::<usize>() + self.outgoing.bytes()
    }

    /// The ledger of the last commit that counts.
    pub(super) fn journaled(&self) -> &Ledger {
        &self.journaled
    }

    /// Whether a record is wanted to identify the topic by: one for each commit.
    pub(super) fn wants_witness(&mut self) -> bool {
        std::mem::take(&mut self.renew_witness)
    }

    /// A younger record to identify the topic by. For commits of records up to it.
    pub(super) fn set_witness(&mut self, witness: Option<Witness>) {
        self.witness = witness.or(self.witness);
    }

    /// Appends a commit to the journal.
    pub(super) fn commit(&mut self, context: &TaskContext<'_>, cut: StepCut) {
        if context.clients.config.kafka.repartitioned(&self.id.topic).is_some() && context.mode.time_passes() {
            self.reread.push_back((cut.commit_number, cut.reread_from.min(cut.to)));
        }
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
            ledger: cut.ledger.clone(),
            delta_records: cut.delta_records,
            witness: self.witness,
        };
        self.renew_witness = true;
        let records = self.journal.writer.commit(cut.from, cut.to, &commit.encode());
        // Once in the producer's queue, and once here.
        let bytes = records.iter().map(Vec::len).sum::<usize>() + bytes_of(&commit.delta_records);
        let (commit_number, forwarded, delta_records, ledger) =
            (cut.commit_number, commit.forwarded, commit.delta_records, cut.ledger);
        self.pending.push_back(Pending { commit_number, forwarded, delta_records, bytes, ledger });
        self.journal.append(context, records, Some(cut.commit_number));
    }

    /// Sends the delta records of an accepted commit to their shards.
    pub(super) fn forward(&mut self, context: &TaskContext<'_>, commit_number: u64, delta_records: &DeltaRecords) {
        let deltas = context.clients.names.deltas();
        let (id, epoch, inbox) = (&self.id, self.epoch, context.inbox);
        self.outgoing.send(commit_number, delta_records, |shard, record, sent| {
            let (id, inbox) = (id.clone(), inbox.clone());
            let on_fate = Box::new(move |fate| inbox.send(Command::News(id, epoch, News::DeltaRecord(sent, fate))));
            context.clients.appender.append(&deltas, shard, record, on_fate);
        });
    }

    /// Handles the fate of a record that it appended.
    pub(super) fn tell(&mut self, context: &TaskContext<'_>, news: News) -> Result<(), Ended> {
        match news {
            News::Journal(number, fate) => self.learn(context, number, fate),
            News::DeltaRecord(sent, fate) => self.delta_record_settled(sent, fate),
            News::Delivered(..) => Ok(()),
        }
    }

    fn learn(&mut self, context: &TaskContext<'_>, number: u64, fate: Fate) -> Result<(), Ended> {
        let told = self.journal.learn(context, number, fate)?;
        let shards = context.clients.config.kafka.shards as usize;
        told.begins.into_iter().for_each(|(commit_number, offset)| self.needs.committed(commit_number, shards, offset));
        for frame in told.accepted {
            match frame.kind {
                FrameKind::Commit => self.accepted(context, frame.commit_number, frame.to),
                FrameKind::Release => self.leaving = Leaving::Released,
                FrameKind::Claim | FrameKind::Snapshot => {}
            }
        }
        self.hear(context, &told.notices)
    }

    /// Handles the notices of shards: what they hold, and what they lack.
    fn hear(&mut self, context: &TaskContext<'_>, notices: &[Notice]) -> Result<(), Ended> {
        // Delta records in flight are not missing; if they are not enough, the shard asks again.
        let sends_again = self.outgoing.first().is_some_and(|first| first < self.forwarded);
        for notice in notices {
            if notice.what == What::Lacks
                && notice.commit_number < self.forwarded
                && !sends_again
                && !self.leaving.is_under_way()
            {
                return Err(Ended::Lacked(notice.shard, notice.commit_number));
            }
            self.needs.hear(*notice);
        }
        if !notices.is_empty() {
            self.trim(context);
        }
        Ok(())
    }

    /// Checks the journal of a task that writes nothing more and would not meet the notices that shards write there.
    pub(super) fn look(&mut self, context: &TaskContext<'_>) -> Result<(), Ended> {
        if !self.pending.is_empty() || self.looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        let notices = self.journal.look(context)?;
        self.hear(context, &notices)
    }

    /// Allows the deletion of journal records that no task needs any more.
    fn trim(&mut self, context: &TaskContext<'_>) {
        if let Some(offset) = self.needs.oldest(self.settled) {
            context.offsets.note_trim(self.journal.topic(), self.id.partition, offset);
            self.needs.forget(offset);
        }
    }

    fn accepted(&mut self, context: &TaskContext<'_>, commit_number: u64, to: i64) {
        context.clients.telemetry.commit(self.id.kind);
        context.offsets.note_position(&self.id.topic, self.id.partition, to);
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.commit_number <= commit_number) {
            self.forward(context, pending.commit_number, &pending.delta_records);
            self.settled = pending.forwarded;
            self.journaled = pending.ledger;
        }
        while let Some((_, offset)) = self.reread.pop_front_if(|(number, _)| *number <= commit_number) {
            context.offsets.note_trim(&self.id.topic, self.id.partition, offset);
        }
        self.trim(context);
    }

    fn delta_record_settled(&mut self, sent: Sent, fate: Fate) -> Result<(), Ended> {
        // A missing delta record would block its shard permanently: restart the task and send it again.
        self.outgoing.learn(sent, fate).map_err(|unsure| Ended::Unknown(unsure.to_string()))?;
        let next =
            self.pending.front().map_or(self.journal.writer.next_commit_number(), |pending| pending.commit_number);
        // Resent delta records have lower numbers.
        self.forwarded = self.outgoing.first().unwrap_or(next).max(self.forwarded);
        Ok(())
    }

    /// No more records will be read.
    pub(super) fn drain(&mut self) {
        self.leaving.drain();
    }

    /// Releases the journal, once, behind all commits.
    pub(super) fn release(&mut self, context: &TaskContext<'_>) {
        let records = self.journal.writer.release();
        self.leaving = Leaving::Releasing;
        self.journal.append(context, records, None);
    }

    /// How far the task has closed.
    pub(super) fn leaving(&self) -> Leaving {
        self.leaving
    }
}
