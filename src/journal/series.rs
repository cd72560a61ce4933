//! What the journal of a series task says: which steps were closed at which deltas offset, and snapshots.

use super::fold::{Fold, Ruling, Verdict};
use super::frame::Owner;
use super::span::{option, put_option};
use super::{FrameStart, JournalError, decode_at};
use crate::model::Millis;
use crate::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};

/// Stands before undelivered batches in a snapshot that has some. A state begins with its version, which is another byte.
const UNDELIVERED: u8 = 0xff;

/// Why a step was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EmitCause {
    /// Every source partition had passed it.
    Watermark = 0,
    /// The grace time was over; some source partition was left behind.
    Forced = 1,
    /// No step: every source has ended, everything is closed and acknowledged.
    End = 2,
}

/// The body of a series task's commit: one closed step. The commit's `to` is the deltas offset up to which the step's
/// values count the deltas; several steps may close at one offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmitMark {
    /// The end of the step.
    pub step: Millis,
    /// Why it was closed.
    pub cause: EmitCause,
    /// The receivers have acknowledged all samples of all steps up to this one, but those that the latest snapshot holds.
    pub acknowledged: Option<Millis>,
    /// The tenants that the step was not written for, because their receiver is down. Whoever closes it again leaves them
    /// out again.
    pub left_out: Vec<String>,
    /// The sources that the step was closed without, if it was by force. A mark of an earlier version names none.
    pub behind: Vec<Behind>,
}

/// How far a source was when a step was closed without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The source topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The first commit of the source whose share was not counted yet.
    pub k: u64,
    /// How many parts of that share were counted all the same: what sends them was in the middle of it.
    pub part: u32,
}

/// The body of a series task's snapshot. Its writer guarantees that the receivers have acknowledged every step up to
/// `step`, but what stands in `undelivered`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesSnapshot {
    /// The state; opaque.
    pub body: Vec<u8>,
    /// The state counts the deltas below this offset. Not below the last mark's `to`: the task may have read on.
    pub deltas_offset: i64,
    /// The last step that was closed.
    pub step: Millis,
    /// Batches of earlier steps whose receiver is down, to be sent again; opaque.
    pub undelivered: Vec<u8>,
}

/// Where a series task stands: what a new owner starts from. It reads the deltas from the snapshot on, closes the steps
/// of the marks at their offsets, and sends those above `acknowledged` again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeriesState {
    /// The latest claimer.
    pub owner: Option<Owner>,
    /// The latest snapshot.
    pub snapshot: Option<SeriesSnapshot>,
    /// The marks after it, each with its deltas offset, in order.
    pub marks: Vec<(i64, EmitMark)>,
    /// The receivers have acknowledged all samples of all steps up to this one, but those that the snapshot holds.
    pub acknowledged: Option<Millis>,
    /// The deltas offset at which the next mark's commit starts; `None` before the first mark.
    pub next: Option<i64>,
    /// The number of the next commit.
    pub next_k: u64,
    /// The journal offset of the oldest record that a restore still needs: everything below may be deleted.
    pub oldest_needed: Option<i64>,
}

/// Folds the journal of a series task.
#[derive(Debug, Clone)]
pub struct SeriesFold {
    fold: Fold,
    start: FrameStart,
    state: SeriesState,
    /// Marks before the first one here are gone, and no snapshot has made up for them.
    headless: bool,
}

// === impl EmitMark ===

impl EmitMark {
    /// The commit's body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.cause as u8];
        put_i64(&mut out, self.step);
        put_option(&mut out, self.acknowledged);
        if !self.left_out.is_empty() || !self.behind.is_empty() {
            put_u64(&mut out, self.left_out.len() as u64);
            self.left_out.iter().for_each(|tenant| put_bytes(&mut out, tenant.as_bytes()));
        }
        if !self.behind.is_empty() {
            put_u64(&mut out, self.behind.len() as u64);
            self.behind.iter().for_each(|source| source.encode(&mut out));
        }
        out
    }

    /// Reads a commit's body.
    ///
    /// # Errors
    /// When the bytes are not what [`EmitMark::encode`] writes.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body);
        let cause = match r.u8()? {
            0 => EmitCause::Watermark,
            1 => EmitCause::Forced,
            2 => EmitCause::End,
            _ => return Err(Malformed("unknown cause of an emit mark")),
        };
        let (step, acknowledged, mut left_out) = (r.i64()?, option(&mut r)?, Vec::new());
        let tenants = if r.is_empty() { 0 } else { r.u64()? };
        for _ in 0..tenants {
            left_out.push(r.str()?.to_owned());
        }
        let mut behind = Vec::new();
        let sources = if r.is_empty() { 0 } else { r.u64()? };
        for _ in 0..sources {
            behind.push(Behind::decode(&mut r)?);
        }
        let mark = Self { cause, step, acknowledged, left_out, behind };
        if r.is_empty() { Ok(mark) } else { Err(Malformed("bytes after the emit mark")) }
    }
}

// === impl Behind ===

impl Behind {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.topic.as_bytes());
        put_u64(out, u64::from(self.partition.unsigned_abs()));
        put_u64(out, self.k);
        put_u64(out, self.part.into());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { topic: r.str()?.to_owned(), partition: r.uint()?, k: r.u64()?, part: r.uint()? })
    }
}

// === impl SeriesSnapshot ===

impl SeriesSnapshot {
    /// The snapshot's body in the journal.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.head();
        out.extend_from_slice(&self.body);
        out
    }

    /// The same bytes, without a second copy of the body, which may be large.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let head = self.head();
        let mut out = self.body;
        out.splice(0..0, head);
        out
    }

    fn head(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_i64(&mut out, self.deltas_offset);
        put_i64(&mut out, self.step);
        if !self.undelivered.is_empty() || self.body.first() == Some(&UNDELIVERED) {
            out.push(UNDELIVERED);
            put_bytes(&mut out, &self.undelivered);
        }
        out
    }

    /// Reads a snapshot's body.
    ///
    /// # Errors
    /// When the bytes end too early.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body);
        let (deltas_offset, step) = (r.i64()?, r.i64()?);
        let mut undelivered = Vec::new();
        if r.rest().first() == Some(&UNDELIVERED) {
            r.u8()?;
            undelivered = r.bytes()?.to_vec();
        }
        Ok(Self { body: r.rest().to_vec(), deltas_offset, step, undelivered })
    }
}

// === impl SeriesFold ===

impl Default for SeriesFold {
    fn default() -> Self {
        Self::new()
    }
}

impl SeriesFold {
    /// For a journal that is there from its first record on.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Fold::new())
    }

    /// For a journal whose beginning was deleted up to an earlier [`SeriesState::oldest_needed`].
    #[must_use]
    pub fn after_cut() -> Self {
        Self::with(Fold::after_cut())
    }

    fn with(fold: Fold) -> Self {
        Self { fold, start: FrameStart::default(), state: SeriesState::default(), headless: false }
    }

    /// The next record of the journal.
    ///
    /// # Errors
    /// When the record is no frame, or a frame counts whose body cannot be read. Both name the offset.
    pub fn apply(&mut self, offset: i64, record: &[u8]) -> Result<Ruling, JournalError> {
        let frame = decode_at(offset, record)?;
        let verdict = self.fold.apply(&frame);
        let counts = matches!(verdict, Verdict::Part | Verdict::Commit { .. } | Verdict::Snapshot { .. });
        let start = self.start.follow(offset, &frame.header, counts);
        let damaged = |source| JournalError::Body { offset, source };
        Ok(match verdict {
            Verdict::Claimed => Ruling::Claimed,
            Verdict::Part => Ruling::Part,
            Verdict::Released => Ruling::Released,
            Verdict::Ignored(why) => Ruling::Ignored(why),
            Verdict::Commit { k, to, body, .. } => {
                let mark = EmitMark::decode(&body).map_err(damaged)?;
                self.headless |= self.state.oldest_needed.is_none() && k > 0;
                self.state.acknowledged = self.state.acknowledged.max(mark.acknowledged);
                self.state.marks.push((to, mark));
                self.state.oldest_needed.get_or_insert(start);
                Ruling::Commit
            }
            Verdict::Snapshot { at, body } => {
                let snapshot = SeriesSnapshot::decode(&body).map_err(damaged)?;
                if snapshot.deltas_offset < at {
                    return Err(damaged(Malformed("the snapshot counts less than the marks before it")));
                }
                self.headless = false;
                self.state.acknowledged = self.state.acknowledged.max(Some(snapshot.step));
                self.state.marks.clear();
                self.state.snapshot = Some(snapshot);
                self.state.oldest_needed = Some(start);
                Ruling::Snapshot
            }
        })
    }

    /// The state at the end of what was applied.
    ///
    /// # Errors
    /// [`JournalError::Cut`] when the first marks are gone, or all, and no snapshot makes up for them; see
    /// [`super::is_contested`].
    pub fn into_state(mut self) -> Result<SeriesState, JournalError> {
        if self.headless || self.fold.is_hollow() {
            return Err(JournalError::Cut { missing: "its first emit marks are gone and no snapshot follows" });
        }
        self.state.owner = self.fold.owner();
        self.state.next = self.fold.next();
        self.state.next_k = self.fold.next_k();
        Ok(self.state)
    }
}

#[cfg(test)]
mod tests;
