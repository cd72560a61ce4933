//! The writer: what an owner may append, and which of its frames count.
//!
//! A frame was accepted when the acknowledged offsets of its records follow each other from the last known one;
//! otherwise the writer asks for the gap and judges it as every reader will. If the outcome is uncertain, it answers
//! with [`AppendProgress::Unknown`], and the task claims again.

use std::collections::VecDeque;

use super::fold::{Judge, Ruling};
use super::frame::{Frame, FrameKind, Header, MAX_PART, Owner};
use super::identity::Identity;
use super::{JournalError, decode_at};

/// The writer of one claim on one journal. Records go out in the order in which they are returned.
#[derive(Debug, Clone)]
pub struct JournalWriter {
    owner: Owner,
    /// The owner of the journal; stands in the first part of every frame, because claims are trimmed away.
    identity: Vec<u8>,
    max_part: usize,
    sharding: u32,
    /// The journal up to `last`, as every reader sees it.
    judge: Judge,
    /// The last offset whose record and all before it have been judged.
    last: i64,
    /// The state after the last appended frame, if all frames before it are accepted.
    tail: Tail,
    /// Records without an acknowledgement, oldest first.
    pending: VecDeque<Header>,
    /// Acknowledgements that wait for a gap to be read.
    acks: VecDeque<Option<i64>>,
    /// The acknowledged offset above the gap that is being read.
    gap: Option<i64>,
    /// Frames known to be accepted and not reported yet.
    accepted: Vec<AcceptedFrame>,
    /// Frames up to this number were accepted.
    accepted_seq: u64,
    stopped: Option<Stop>,
}

#[derive(Debug, Clone, Copy)]
struct Tail {
    seq: u64,
    commit_number: u64,
    next: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Fenced,
    Unknown,
}

/// A frame that every reader will count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedFrame {
    /// What it is.
    pub kind: FrameKind,
    /// The number of the commit.
    pub commit_number: u64,
    /// First input offset.
    pub from: i64,
    /// Offset after the last one.
    pub to: i64,
}

/// What the writer knows after an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum AppendProgress {
    /// Nothing new.
    Pending,
    /// These frames count, in journal order. Their output may now leave the process.
    Accepted(Vec<AcceptedFrame>),
    /// Other writers appended in between: read the journal's records with `after < offset < before` and call
    /// [`JournalWriter::gap_read`]. Should the journal begin above `after + 1` by now, claim again instead.
    ReadGap {
        /// The last offset that is known.
        after: i64,
        /// The offset that was acknowledged.
        before: i64,
    },
    /// Another worker has claimed the journal: drop the task's state. Final.
    Fenced,
    /// The outcome cannot be known: drop the task's state and claim again. Final.
    Unknown,
}

// === impl JournalWriter ===

impl JournalWriter {
    /// A writer whose claim got the offset `claim_offset`. `next` and `next_commit_number` are the fold's, after it has read
    /// the journal up to and including that offset.
    #[must_use]
    pub fn new(owner: Owner, claim_offset: i64, next: Option<i64>, next_commit_number: u64) -> Self {
        Self {
            owner,
            identity: Vec::new(),
            max_part: MAX_PART,
            sharding: 0,
            judge: Judge::new(Some(owner), next, next_commit_number),
            last: claim_offset,
            tail: Tail { seq: 1, commit_number: next_commit_number, next },
            pending: VecDeque::new(),
            acks: VecDeque::new(),
            gap: None,
            accepted: Vec::new(),
            accepted_seq: 0,
            stopped: None,
        }
    }

    /// The same writer with the owner of the journal in its frames.
    #[must_use]
    pub fn named(self, identity: &Identity) -> Self {
        Self { identity: identity.encode(), ..self }
    }

    /// The same writer at work in a sharding, as its claim.
    #[must_use]
    pub fn in_sharding(self, sharding: u32) -> Self {
        Self { sharding, judge: self.judge.of(sharding), ..self }
    }

    /// The same writer with at most `bytes` of body per record, for brokers that accept less than [`MAX_PART`].
    #[must_use]
    pub fn with_max_part(self, bytes: usize) -> Self {
        Self { max_part: bytes.max(1), ..self }
    }

    /// The records of the commit that moves the task from `from` to `to`. Unless it is the journal's first, `from` must be
    /// [`JournalWriter::next`]. More commits may follow before this one is acknowledged.
    pub fn commit(&mut self, from: i64, to: i64, body: &[u8]) -> Vec<Vec<u8>> {
        debug_assert!(self.tail.next.is_none_or(|next| next == from), "a commit must start where the last one ended");
        let records = self.frame(FrameKind::Commit, from, to, body);
        self.tail.commit_number += 1;
        self.tail.next = Some(to);
        records
    }

    /// The records of a snapshot of the state after everything that was committed so far. None before the first commit:
    /// there is no state for a snapshot.
    pub fn snapshot(&mut self, body: &[u8]) -> Vec<Vec<u8>> {
        self.tail.next.map_or_else(Vec::new, |next| self.frame(FrameKind::Snapshot, next, next, body))
    }

    /// The record that releases the journal. Nothing may be written after it.
    pub fn release(&mut self) -> Vec<Vec<u8>> {
        let next = self.tail.next.unwrap_or(0);
        self.frame(FrameKind::Release, next, next, &[])
    }

    /// Where the next commit starts, if all before it are accepted; `None` if it may start anywhere.
    #[must_use]
    pub fn next(&self) -> Option<i64> {
        self.tail.next
    }

    /// The number that the next commit will have.
    #[must_use]
    pub fn next_commit_number(&self) -> u64 {
        self.tail.commit_number
    }

    /// The offset of the last record that has been judged: of the claim, to begin with.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.last
    }

    /// Records whose fate is not known yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// The outcome of the oldest record that is in flight: its offset, or `None` when the broker's answer names none or
    /// never came. Exactly one call per record, in the order of append: a skipped one would shift all after it, and with
    /// them the knowledge of what was accepted.
    pub fn acknowledged(&mut self, offset: Option<i64>) -> AppendProgress {
        if let Some(stop) = self.stopped {
            return stop.into();
        }
        self.acks.push_back(offset);
        if self.gap.is_some() { AppendProgress::Pending } else { self.settle() }
    }

    /// The journal's records between the offsets of [`AppendProgress::ReadGap`], in order. Records outside are skipped.
    ///
    /// # Errors
    /// A record that is no frame. The writer stops: from then on every answer is [`AppendProgress::Unknown`].
    pub fn gap_read<'a>(
        &mut self,
        records: impl Iterator<Item = (i64, &'a [u8])>,
    ) -> Result<AppendProgress, JournalError> {
        let Some(before) = self.gap.take() else {
            return Ok(self.stopped.map_or(AppendProgress::Pending, Into::into));
        };
        for (offset, record) in records {
            if offset <= self.last || offset >= before {
                continue;
            }
            let frame = decode_at(offset, record).inspect_err(|_| self.stopped = Some(Stop::Unknown))?;
            #[cfg(feature = "sabotage")]
            if super::sabotage::is_off(super::sabotage::Rule::Claim) && frame.header.kind == FrameKind::Claim {
                continue;
            }
            if frame.header.kind == FrameKind::Claim
                && frame.header.owner != self.owner
                && frame.header.sharding >= self.sharding
            {
                return Ok(self.stop(Stop::Fenced));
            }
            // This writer's own record may be here as well, when a retry stored it twice.
            self.judged(&frame.header);
        }
        Ok(if self.landed(before) { self.settle() } else { self.stop(Stop::Unknown) })
    }

    fn frame(&mut self, kind: FrameKind, from: i64, to: i64, body: &[u8]) -> Vec<Vec<u8>> {
        let chunks: Vec<&[u8]> = if body.is_empty() { vec![body] } else { body.chunks(self.max_part).collect() };
        let parts = u32::try_from(chunks.len()).expect("a body in memory has fewer than 2^32 parts");
        let Tail { seq, commit_number, .. } = self.tail;
        self.tail.seq += 1;
        let header = |part| Header {
            owner: self.owner,
            kind,
            seq,
            commit_number,
            from,
            to,
            part,
            parts,
            sharding: self.sharding,
        };
        self.pending.extend((0..parts).map(header));
        let frame = |(part, body)| {
            let identity = if part == 0 { self.identity.as_slice() } else { &[] };
            Frame { header: header(part), body, identity }.encode()
        };
        (0..parts).zip(chunks).map(frame).collect()
    }

    /// Processes the acknowledgements up to the next gap.
    fn settle(&mut self) -> AppendProgress {
        while let Some(ack) = self.acks.pop_front() {
            match ack {
                Some(offset) if offset == self.last + 1 => {
                    if !self.landed(offset) {
                        return self.stop(Stop::Unknown);
                    }
                }
                Some(before) if before > self.last && !self.pending.is_empty() => {
                    self.gap = Some(before);
                    return AppendProgress::ReadGap { after: self.last, before };
                }
                // No offset, or an invalid one: the log was truncated, or the offset is not that of this writer's
                // record.
                _ => return self.stop(Stop::Unknown),
            }
        }
        if self.accepted.is_empty() {
            AppendProgress::Pending
        } else {
            AppendProgress::Accepted(std::mem::take(&mut self.accepted))
        }
    }

    /// The oldest record in flight lies at `offset`, and all before it are judged. Returns whether it counts, or has
    /// counted.
    fn landed(&mut self, offset: i64) -> bool {
        let Some(header) = self.pending.pop_front() else {
            return false;
        };
        self.last = offset;
        !matches!(self.judged(&header), Ruling::Ignored(_)) || header.seq <= self.accepted_seq
    }

    fn judged(&mut self, header: &Header) -> Ruling {
        let ruling = self.judge.rule(header);
        let whole = matches!(ruling, Ruling::Commit | Ruling::Snapshot | Ruling::Released);
        if whole && header.seq > self.accepted_seq {
            let Header { kind, commit_number, from, to, .. } = *header;
            self.accepted.push(AcceptedFrame { kind, commit_number, from, to });
            self.accepted_seq = header.seq;
        }
        ruling
    }

    fn stop(&mut self, why: Stop) -> AppendProgress {
        self.stopped = Some(why);
        self.pending.clear();
        self.acks.clear();
        self.accepted.clear();
        why.into()
    }
}

// === impl AppendProgress ===

impl From<Stop> for AppendProgress {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fenced => Self::Fenced,
            Stop::Unknown => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
