//! What the journal of a span task says: source offsets, stream time, half edges to re-read, and the shares.

use std::collections::VecDeque;

use super::fold::{Fold, Ruling, Verdict};
use super::frame::Owner;
use super::witness::Witness;
use super::{FrameStart, JournalError, decode_at};
use crate::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};
use crate::model::{Ledger, Millis};

/// The records for the deltas topic, `[shard][part]`; opaque bytes.
pub type Shares = Vec<Vec<Vec<u8>>>;

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
    /// Every shard has acknowledged all shares of commits below this number.
    pub forwarded: u64,
    /// Where re-reading for half edges starts; the commit's `to` when none wait.
    pub reread_from: i64,
    /// Which half edges are alive; opaque.
    pub live: Vec<u8>,
    /// The ledger after this commit, since the beginning of the journal.
    pub ledger: Ledger,
    /// The shares, one per shard, empty ones too.
    pub shares: Shares,
    /// A record that was read before the cut, if there was any since the position was last moved by hand. Journals of
    /// frame version 1 have none.
    pub witness: Option<Witness>,
}

/// Where a span task stands: what a new owner starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpanState {
    /// The latest claimer.
    pub owner: Option<Owner>,
    /// The source offset to go on from; `None` when nothing was ever committed.
    pub next: Option<i64>,
    /// The number of the next commit.
    pub next_k: u64,
    /// Stream time at `next`.
    pub stream_time: Option<Millis>,
    /// The latest step that any commit has added to.
    pub step: Option<Millis>,
    /// Where re-reading for half edges starts; `next` when none wait.
    pub reread_from: Option<i64>,
    /// Which half edges are alive; opaque.
    pub live: Vec<u8>,
    /// The ledger at `next`.
    pub ledger: Ledger,
    /// A source record before `next`, to tell the topic by.
    pub witness: Option<Witness>,
    /// Every shard has acknowledged all shares of commits below this number.
    pub forwarded: u64,
    /// The shares from `forwarded` on, to be sent again, in order.
    pub unforwarded: VecDeque<(u64, Shares)>,
    /// The journal offset of the oldest record that a restore still needs: everything below may be deleted.
    pub oldest_needed: Option<i64>,
}

/// Folds the journal of a span task.
#[derive(Debug, Clone)]
pub struct SpanFold {
    fold: Fold,
    start: FrameStart,
    state: SpanState,
    /// Where the commits of `state.unforwarded` start.
    starts: VecDeque<i64>,
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
        let bytes = self.shares.iter().flatten().map(|part| part.len() + 4).sum::<usize>();
        let mut out = Vec::with_capacity(bytes + self.live.len() + 256);
        out.push(self.cause as u8);
        put_i64(&mut out, self.step);
        put_option(&mut out, self.stream_time);
        put_u64(&mut out, self.forwarded);
        put_i64(&mut out, self.reread_from);
        put_bytes(&mut out, &self.live);
        self.ledger.encode(&mut out);
        put_u64(&mut out, self.shares.len() as u64);
        for parts in &self.shares {
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
            shares: shares(&mut r)?,
            witness: if r.is_empty() { None } else { Some(Witness::decode(&mut r)?) },
        };
        if r.is_empty() { Ok(commit) } else { Err(Malformed("bytes after the commit")) }
    }
}

fn shares(r: &mut Reader<'_>) -> Result<Shares, Malformed> {
    // The lengths may lie, so nothing is allocated by them.
    let mut shares = Vec::new();
    for _ in 0..r.u64()? {
        let mut parts = Vec::new();
        for _ in 0..r.u64()? {
            parts.push(r.bytes()?.to_vec());
        }
        shares.push(parts);
    }
    Ok(shares)
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
        Self { fold, start: FrameStart::default(), state: SpanState::default(), starts: VecDeque::new() }
    }

    /// The next record of the journal.
    ///
    /// # Errors
    /// When the record is no frame, or a commit counts whose body cannot be read. Both name the offset.
    pub fn apply(&mut self, offset: i64, record: &[u8]) -> Result<Ruling, JournalError> {
        let frame = decode_at(offset, record)?;
        let verdict = self.fold.apply(&frame);
        let counts = matches!(verdict, Verdict::Part | Verdict::Commit { .. });
        let start = self.start.follow(offset, &frame.header, counts);
        Ok(match verdict {
            Verdict::Claimed => Ruling::Claimed,
            Verdict::Part => Ruling::Part,
            Verdict::Released => Ruling::Released,
            Verdict::Ignored(why) => Ruling::Ignored(why),
            Verdict::Commit { k, body, .. } => {
                SpanCommit::decode(&body)
                    .and_then(|commit| self.count(k, commit, start))
                    .map_err(|source| JournalError::Body { offset, source })?;
                Ruling::Commit
            }
            Verdict::Snapshot { .. } => {
                return Err(JournalError::Body { offset, source: Malformed("a span task takes no snapshots") });
            }
        })
    }

    fn count(&mut self, k: u64, commit: SpanCommit, start: i64) -> Result<(), Malformed> {
        if commit.forwarded > k {
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
        state.unforwarded.push_back((k, commit.shares));
        self.starts.push_back(start);
        while state.unforwarded.front().is_some_and(|&(k, _)| k < commit.forwarded) {
            state.unforwarded.pop_front();
            self.starts.pop_front();
        }
        Ok(())
    }

    /// The state at the end of what was applied.
    ///
    /// # Errors
    /// [`JournalError::Cut`] when shares that were not forwarded yet are gone, or all commits; see
    /// [`super::is_contested`].
    pub fn into_state(mut self) -> Result<SpanState, JournalError> {
        if self.fold.is_hollow() {
            return Err(JournalError::Cut { missing: "all its commits are gone" });
        }
        // A journal that was never committed to has none, and its forwarded mark is 0.
        if self.state.unforwarded.front().is_some_and(|&(k, _)| k != self.state.forwarded) {
            return Err(JournalError::Cut { missing: "shares that were not forwarded yet are gone" });
        }
        self.state.owner = self.fold.owner();
        self.state.next = self.fold.next();
        self.state.next_k = self.fold.next_k();
        self.state.oldest_needed = self.starts.front().copied();
        Ok(self.state)
    }
}

#[cfg(test)]
mod tests;
