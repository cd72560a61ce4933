//! The journal of a span task: source offsets, stream time, pending edges to re-read, and the delta records.

use std::collections::{BTreeMap, VecDeque};

use super::fold::{Fold, FrameVerdict, Ruling};
use super::frame::Owner;
use super::identity::Identity;
use super::notice::{Notice, What};
use super::witness::Witness;
use super::{FrameStart, JournalError, decode_at};
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};
use crate::core::model::{Ledger, Millis};

/// The records for the deltas topic, `[shard][part]`; opaque bytes.
pub type DeltaRecords = Vec<Vec<Vec<u8>>>;

/// Why a span task committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// It has read source records.
    Records = 0,
    /// A silent source: its stream time was advanced by the wall clock.
    Tick = 1,
    /// An operator has moved the group's offset.
    Reset = 2,
    /// Its stretch of the source has ended: nothing follows.
    End = 3,
}

/// The body of a span task's commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanCommit {
    /// Why.
    pub cause: Cause,
    /// The end of the latest step that deltas belong to, of this commit or of one before.
    pub step: Millis,
    /// Stream time after the cut; `None` before the first record or tick.
    pub stream_time: Option<Millis>,
    /// Every shard has acknowledged all delta records of commits below this number.
    pub forwarded: u64,
    /// Where re-reading for pending edges starts; the commit's `to` when none wait.
    pub reread_from: i64,
    /// Which pending edges are alive; opaque.
    pub live: Vec<u8>,
    /// The ledger after this commit, since the beginning of the journal.
    pub ledger: Ledger,
    /// The delta records, one per shard, empty ones too.
    pub delta_records: DeltaRecords,
    /// A record that was read before the cut, if there was any since an operator last moved the position. Journals of
    /// frame version 1 have none.
    pub witness: Option<Witness>,
}

/// The state of a span task that a new owner starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpanState {
    /// The latest claimer.
    pub owner: Option<Owner>,
    /// Whose journal it is; `None` if no frame names its owner.
    pub identity: Option<Identity>,
    /// The ID that the source topic had at the last commit, if the commit holds it.
    pub topic_id: Option<String>,
    /// The source offset to continue from; `None` when nothing was ever committed.
    pub next: Option<i64>,
    /// The number of the next commit.
    pub next_commit_number: u64,
    /// Stream time at `next`.
    pub stream_time: Option<Millis>,
    /// The latest step that any commit has added to.
    pub step: Option<Millis>,
    /// Where re-reading for pending edges starts; `next` when none wait.
    pub reread_from: Option<i64>,
    /// Which pending edges are alive; opaque.
    pub live: Vec<u8>,
    /// The ledger at `next`.
    pub ledger: Ledger,
    /// A source record before `next`, to identify the topic by.
    pub witness: Option<Witness>,
    /// Every shard has acknowledged all delta records of commits below this number.
    pub forwarded: u64,
    /// The sharding of the latest claimer, by number.
    pub sharding: u32,
    /// The delta records from `forwarded` on, to be sent again, in order.
    pub unforwarded: VecDeque<(u64, DeltaRecords)>,
    /// What shards hold, and lack.
    pub needs: Needs,
    /// The journal offset of the oldest record that a restore or a shard may still need: everything below may be deleted.
    pub oldest_needed: Option<i64>,
}

/// Which commits of a journal are still needed by the shards, and where they begin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// How many shards there are, once a commit has named them.
    shards: u32,
    /// By shard: its snapshots hold its delta records of all commits below this number.
    held: BTreeMap<u32, u64>,
    /// By shard: it lacks delta records from this commit on, and there was no new owner since.
    lacked: BTreeMap<u32, u64>,
    /// Those that the present owner found when it claimed the journal: it has sent them all again once it commits.
    answered: BTreeMap<u32, u64>,
    /// Where commits begin.
    begins: BTreeMap<u64, i64>,
    /// Some shard has counted the delta records of all commits below this number.
    counted: u64,
    /// The first commit of the present sharding: the snapshots that it began with hold all earlier ones.
    first: u64,
}

/// Collects what shards lack of the commits in a journal, in a second reading.
#[derive(Debug, Clone)]
pub struct Regained {
    fold: Fold,
    lacked: BTreeMap<u32, u64>,
    /// The first commit that is not collected.
    until: u64,
    /// The commits, with empty places for the shards that lack nothing.
    pub delta_records: Vec<(u64, DeltaRecords)>,
}

/// Folds the journal of a span task.
#[derive(Debug, Clone)]
pub struct SpanFold {
    fold: Fold,
    start: FrameStart,
    state: SpanState,
}

// === impl Cause ===

impl TryFrom<u8> for Cause {
    type Error = Malformed;

    fn try_from(byte: u8) -> Result<Self, Malformed> {
        [Self::Records, Self::Tick, Self::Reset, Self::End]
            .into_iter()
            .find(|&cause| cause as u8 == byte)
            .ok_or(Malformed("unknown cause of a commit"))
    }
}

// === impl SpanCommit ===

impl SpanCommit {
    /// The commit's body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let bytes = self.delta_records.iter().flatten().map(|part| part.len() + 4).sum::<usize>();
        let mut out = Vec::with_capacity(bytes + self.live.len() + 256);
        out.push(self.cause as u8);
        put_i64(&mut out, self.step);
        put_option(&mut out, self.stream_time);
        put_u64(&mut out, self.forwarded);
        put_i64(&mut out, self.reread_from);
        put_bytes(&mut out, &self.live);
        self.ledger.encode(&mut out);
        put_u64(&mut out, self.delta_records.len() as u64);
        for parts in &self.delta_records {
            put_u64(&mut out, parts.len() as u64);
            for part in parts {
                put_bytes(&mut out, part);
            }
        }
        if let Some(witness) = &self.witness {
            witness.encode(&mut out);
        }
        out
    }

    /// Reads a commit's body.
    ///
    /// # Errors
    /// When the bytes are not what [`SpanCommit::encode`] writes.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body);
        let commit = Self {
            cause: r.u8()?.try_into()?,
            step: r.i64()?,
            stream_time: option(&mut r)?,
            forwarded: r.u64()?,
            reread_from: r.i64()?,
            live: r.bytes()?.to_vec(),
            ledger: Ledger::decode(&mut r)?,
            delta_records: delta_records(&mut r)?,
            witness: if r.is_empty() { None } else { Some(Witness::decode(&mut r)?) },
        };
        if r.is_empty() { Ok(commit) } else { Err(Malformed("bytes after the commit")) }
    }
}

fn delta_records(r: &mut Reader<'_>) -> Result<DeltaRecords, Malformed> {
    // The lengths may be forged, so they do not size an allocation.
    let mut delta_records = Vec::new();
    for _ in 0..r.u64()? {
        let mut parts = Vec::new();
        for _ in 0..r.u64()? {
            parts.push(r.bytes()?.to_vec());
        }
        delta_records.push(parts);
    }
    Ok(delta_records)
}

/// Appends an optional signed number.
pub(super) fn put_option(out: &mut Vec<u8>, v: Option<i64>) {
    out.push(u8::from(v.is_some()));
    if let Some(v) = v {
        put_i64(out, v);
    }
}

/// Reads what [`put_option`] wrote.
pub(super) fn option(r: &mut Reader<'_>) -> Result<Option<i64>, Malformed> {
    match r.u8()? {
        0 => Ok(None),
        1 => r.i64().map(Some),
        _ => Err(Malformed("neither absent nor present")),
    }
}

// === impl SpanFold ===

impl Default for SpanFold {
    fn default() -> Self {
        Self::new()
    }
}

impl SpanFold {
    /// For a journal that is there from its first record on.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Fold::new())
    }

    /// For a journal whose beginning was deleted up to an earlier [`SpanState::oldest_needed`].
    #[must_use]
    pub fn after_cut() -> Self {
        Self::with(Fold::after_cut())
    }

    fn with(fold: Fold) -> Self {
        Self { fold, start: FrameStart::default(), state: SpanState::default() }
    }

    /// The next record of the journal.
    ///
    /// # Errors
    /// When the record is no frame, or a commit counts whose body cannot be read. Both name the offset.
    pub fn apply(&mut self, offset: i64, record: &[u8]) -> Result<Ruling, JournalError> {
        let frame = decode_at(offset, record)?;
        let before = self.fold.sharding();
        let verdict = self.fold.apply(&frame);
        if verdict == FrameVerdict::Claimed && self.fold.sharding() > before {
            self.resharded();
        }
        let counts = matches!(verdict, FrameVerdict::Part | FrameVerdict::Commit { .. });
        let start = self.start.follow(offset, &frame.header, counts);
        if let Some(notice) = Notice::of(&frame) {
            self.state.needs.hear(notice);
        }
        Ok(match verdict {
            FrameVerdict::Claimed => {
                self.state.needs.claimed();
                Ruling::Claimed
            }
            FrameVerdict::Part => Ruling::Part,
            FrameVerdict::Released => Ruling::Released,
            FrameVerdict::Ignored(why) => Ruling::Ignored(why),
            FrameVerdict::Commit { commit_number, body, .. } => {
                SpanCommit::decode(&body)
                    .and_then(|commit| self.count(commit_number, commit, start))
                    .map_err(|source| JournalError::Body { offset, source })?;
                Ruling::Commit
            }
            FrameVerdict::Snapshot { .. } => {
                return Err(JournalError::Body { offset, source: Malformed("a span task takes no snapshots") });
            }
        })
    }

    /// The latest claimer works in a later sharding. That begins with the delta records of all commits so far, and what
    /// shards of the one before have asked for concerns it no more.
    fn resharded(&mut self) {
        let first = self.fold.next_commit_number();
        self.state.forwarded = first;
        self.state.unforwarded.clear();
        self.state.needs.resharded(first);
    }

    fn count(&mut self, commit_number: u64, commit: SpanCommit, start: i64) -> Result<(), Malformed> {
        if commit.forwarded > commit_number {
            return Err(Malformed("the forwarded mark is ahead of its own commit"));
        }
        let state = &mut self.state;
        state.stream_time = commit.stream_time;
        state.step = Some(commit.step);
        state.reread_from = Some(commit.reread_from);
        state.live = commit.live;
        state.ledger = commit.ledger;
        state.witness = commit.witness;
        state.forwarded = commit.forwarded;
        state.needs.committed(commit_number, commit.delta_records.len(), start);
        state.unforwarded.push_back((commit_number, commit.delta_records));
        while state.unforwarded.front().is_some_and(|&(commit_number, _)| commit_number < commit.forwarded) {
            state.unforwarded.pop_front();
        }
        Ok(())
    }

    /// The state at the end of what was applied.
    ///
    /// # Errors
    /// [`JournalError::Cut`] when delta records that were not forwarded yet are gone, or all commits; see
    /// [`super::is_contested`].
    pub fn into_state(mut self) -> Result<SpanState, JournalError> {
        if self.fold.is_hollow() {
            return Err(JournalError::Cut { missing: "all its commits are missing" });
        }
        // A journal that was never committed to has none, and its forwarded mark is 0.
        if self.state.unforwarded.front().is_some_and(|&(commit_number, _)| commit_number != self.state.forwarded) {
            return Err(JournalError::Cut { missing: "delta records that were not forwarded yet are missing" });
        }
        self.state.owner = self.fold.owner();
        self.state.identity = self.fold.identity().cloned();
        self.state.topic_id = self.fold.topic_id().map(str::to_owned);
        self.state.next = self.fold.next();
        self.state.next_commit_number = self.fold.next_commit_number();
        self.state.sharding = self.fold.sharding();
        self.state.oldest_needed = self.state.needs.oldest(self.state.forwarded);
        Ok(self.state)
    }
}

// === impl Needs ===

impl Needs {
    /// A commit counts that begins at this offset of the journal.
    pub fn committed(&mut self, commit_number: u64, shards: usize, begins: i64) {
        self.shards = u32::try_from(shards).unwrap_or(u32::MAX);
        self.begins.insert(commit_number, begins);
        self.answered.clear();
    }

    /// Commits from this one on are for other shards. Until the first of them counts, nothing may be deleted.
    fn resharded(&mut self, first: u64) {
        let begins = std::mem::take(&mut self.begins);
        *self = Self { begins, counted: self.counted, first, ..Self::default() };
    }

    /// A shard has written a notice into the journal.
    pub fn hear(&mut self, Notice { shard, what, commit_number }: Notice) {
        self.counted = self.counted.max(commit_number);
        if commit_number < self.first {
            // A shard of an earlier sharding wrote it.
            return;
        }
        match what {
            What::Holds => {
                let held = self.held.entry(shard).or_insert(commit_number);
                *held = commit_number.max(*held);
                // The delta records that it lacked before have arrived, or were in flight.
                for lacked in [&mut self.lacked, &mut self.answered] {
                    lacked.retain(|other, lacked| *other != shard || *lacked >= commit_number);
                }
            }
            What::Lacks => {
                let lacked = self.lacked.entry(shard).or_insert(commit_number);
                *lacked = commit_number.min(*lacked);
            }
        }
    }

    /// There is a new owner, which resends the delta records that were missing until now.
    fn claimed(&mut self) {
        for (shard, commit_number) in std::mem::take(&mut self.lacked) {
            let answered = self.answered.entry(shard).or_insert(commit_number);
            *answered = commit_number.min(*answered);
        }
    }

    /// By shard, the first commit below `forwarded` whose delta record it lacks: it was sent, and must be sent again.
    #[must_use]
    pub fn to_send_again(&self, forwarded: u64) -> BTreeMap<u32, u64> {
        let mut all = self.answered.clone();
        for (shard, commit_number) in &self.lacked {
            let first = all.entry(*shard).or_insert(*commit_number);
            *first = (*first).min(*commit_number);
        }
        all.retain(|shard, commit_number| *commit_number < forwarded && *shard < self.shards);
        all
    }

    /// Where the oldest record begins that is still needed, all delta records below `forwarded` having been sent. `None` when
    /// nothing may be deleted.
    #[must_use]
    pub fn oldest(&self, forwarded: u64) -> Option<i64> {
        let held = (0..self.shards).map(|shard| self.held.get(&shard).copied().unwrap_or_default()).min()?;
        // The last commit holds the state of the task.
        let last = self.begins.keys().next_back()?;
        self.begins.get(&held.min(forwarded).min(*last)).copied()
    }

    /// Some shard has counted the delta records of all commits below this number. They were in the journal, then.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// Forgets where commits begin that are not needed any more.
    pub fn forget(&mut self, offset: i64) {
        self.begins.retain(|_, begins| *begins >= offset);
    }

    /// The first commit whose place is known.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.begins.keys().next().copied()
    }
}

// === impl Regained ===

impl Regained {
    /// What the shards lack, by shard and from which commit on, of the commits below `until`. `cut` is whether the
    /// beginning of the journal was deleted.
    #[must_use]
    pub fn new(lacked: BTreeMap<u32, u64>, until: u64, cut: bool) -> Self {
        let fold = if cut { Fold::after_cut() } else { Fold::new() };
        Self { fold, lacked, until, delta_records: Vec::new() }
    }

    /// The next record of the journal.
    ///
    /// # Errors
    /// As [`SpanFold::apply`].
    pub fn apply(&mut self, offset: i64, record: &[u8]) -> Result<(), JournalError> {
        let FrameVerdict::Commit { commit_number, body, .. } = self.fold.apply(&decode_at(offset, record)?) else {
            return Ok(());
        };
        if commit_number >= self.until || self.lacked.values().all(|first| commit_number < *first) {
            return Ok(());
        }
        let commit = SpanCommit::decode(&body).map_err(|source| JournalError::Body { offset, source })?;
        let mut delta_records = commit.delta_records;
        for (shard, parts) in (0..).zip(&mut delta_records) {
            if self.lacked.get(&shard).is_none_or(|first| commit_number < *first) {
                parts.clear();
            }
        }
        self.delta_records.push((commit_number, delta_records));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
