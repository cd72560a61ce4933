//! The fold: which frames of a journal count. Every reader of a journal comes to the same answer.
//!
//! A commit counts only if its owner is the latest claimer in log order, its `from` is where the last commit that
//! counts ended, and its number is the next one. A claim of an earlier sharding than the latest one is none. A frame of
//! several parts counts only whole: its parts in order, with no claim in between. Records that do not count are ignored and
//! have no effect: a zombie's records between the parts of the owner's frame do not invalidate it.

use super::frame::{Frame, FrameKind, Header, Owner};
use super::identity::Identity;
use super::notice::SHARDS;

/// Why a record does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// Its owner is not the latest claimer, or has released the journal.
    NotOwner,
    /// The shards of the group have been changed since its writer began.
    OldSharding,
    /// It does not start where the last commit that counts ended, or it has another number than the next one.
    NotContiguous,
    /// A later part without the parts before it.
    Torn,
}

/// What a record does, without bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// There is a new owner.
    Claimed,
    /// It counts once the rest of its parts has come.
    Part,
    /// It completes a commit that counts.
    Commit,
    /// It completes a snapshot that counts.
    Snapshot,
    /// The owner has released it.
    Released,
    /// It does not count.
    Ignored(Ignored),
}

/// What a record does, with the whole body of the frame that it completes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameVerdict {
    /// There is a new owner.
    Claimed,
    /// It counts once the rest of its parts has come.
    Part,
    /// A commit that counts.
    Commit {
        /// Its number.
        commit_number: u64,
        /// First input offset.
        from: i64,
        /// Offset after the last one.
        to: i64,
        /// Its body.
        body: Vec<u8>,
    },
    /// A snapshot that counts.
    Snapshot {
        /// Its body.
        body: Vec<u8>,
    },
    /// The owner has released it.
    Released,
    /// It does not count.
    Ignored(Ignored),
}

/// The rules themselves, over headers. The fold and the writer share this judge, so they cannot disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judge {
    owner: Option<Owner>,
    next: Option<i64>,
    next_commit_number: u64,
    /// The latest part of a frame that is not whole yet.
    open: Option<Header>,
    /// The beginning of the journal was deleted, and nothing has counted yet.
    cut: bool,
    /// The latest sharding that a frame has named.
    sharding: u32,
}

/// Reads a journal record by record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    judge: Judge,
    body: Vec<u8>,
    /// The owner of the journal: the first that a claim or a frame that counts has named.
    identity: Option<Identity>,
    /// The owner that the last commit or snapshot that counts has named.
    named: Option<Identity>,
    /// The same of the frame that is not whole yet.
    open: Option<Identity>,
}

// === impl Judge ===

impl Judge {
    pub(super) fn new(owner: Option<Owner>, next: Option<i64>, next_commit_number: u64) -> Self {
        Self { owner, next, next_commit_number, open: None, cut: false, sharding: 0 }
    }

    /// The same for a writer of this sharding.
    pub(super) fn of(self, sharding: u32) -> Self {
        Self { sharding, ..self }
    }

    pub(super) fn sharding(&self) -> u32 {
        self.sharding
    }

    #[cfg(feature = "sabotage")]
    pub(super) fn place(&self) -> (Option<Owner>, Option<i64>, u64) {
        (self.owner, self.next, self.next_commit_number)
    }

    pub(super) fn rule(&mut self, header: &Header) -> Ruling {
        if header.owner == SHARDS {
            return Ruling::Ignored(Ignored::NotOwner);
        }
        if header.sharding < self.sharding {
            return Ruling::Ignored(Ignored::OldSharding);
        }
        if self.cut && self.owner.is_none() && header.part == 0 {
            // A journal is only ever cut at a frame that counts, so its owner was the latest claimer.
            (self.owner, self.sharding) = (Some(header.owner), header.sharding);
            if matches!(header.kind, FrameKind::Commit | FrameKind::Snapshot) {
                // Its parts need not be adjacent: a later frame of the owner may lie in between, and does not count
                // there.
                (self.next, self.next_commit_number) = (Some(header.from), header.commit_number);
            }
        }
        if header.kind == FrameKind::Claim {
            (self.owner, self.sharding) = (Some(header.owner), header.sharding);
            self.open = None;
            return Ruling::Claimed;
        }
        if self.owner != Some(header.owner) {
            return Ruling::Ignored(Ignored::NotOwner);
        }
        if header.kind == FrameKind::Release {
            self.owner = None;
            self.open = None;
            return Ruling::Released;
        }
        if header.part == 0 {
            if !self.is_contiguous(header) {
                return Ruling::Ignored(Ignored::NotContiguous);
            }
        } else if !self.open.is_some_and(|open| Header { part: open.part + 1, ..open } == *header) {
            return Ruling::Ignored(Ignored::Torn);
        }
        if header.part + 1 < header.parts {
            self.open = Some(*header);
            return Ruling::Part;
        }
        self.count(header)
    }

    fn is_contiguous(&self, header: &Header) -> bool {
        let number = header.commit_number == self.next_commit_number || (self.cut && self.next.is_none());
        match (self.next, header.kind) {
            (Some(next), _) => number && header.from == next,
            // The first commit may start anywhere; before it there is no state for a snapshot.
            (None, FrameKind::Commit) => number,
            (None, _) => self.cut,
        }
    }

    fn count(&mut self, header: &Header) -> Ruling {
        self.open = None;
        self.cut = false;
        self.next = Some(header.to);
        if header.kind == FrameKind::Snapshot {
            self.next_commit_number = header.commit_number;
            return Ruling::Snapshot;
        }
        self.next_commit_number = header.commit_number + 1;
        Ruling::Commit
    }
}

// === impl Fold ===

impl Default for Fold {
    fn default() -> Self {
        Self::new()
    }
}

impl Fold {
    /// For a journal that is there from its first record on.
    #[must_use]
    pub fn new() -> Self {
        Self { judge: Judge::new(None, None, 0), body: Vec::new(), identity: None, named: None, open: None }
    }

    /// For a journal whose beginning was deleted. The first record that is left must be the first of a frame that counts:
    /// only the offsets that [`super::SpanState::oldest_needed`] and [`super::SeriesState::oldest_needed`] name are such.
    #[must_use]
    pub fn after_cut() -> Self {
        let mut fold = Self::new();
        fold.judge.cut = true;
        fold
    }

    /// The next record of the journal.
    pub fn apply(&mut self, frame: &Frame<'_>) -> FrameVerdict {
        let header = frame.header;
        #[cfg(feature = "sabotage")]
        let header = super::sabotage::read(&mut self.judge, header);
        let Header { kind: _, commit_number, from, to, part, .. } = header;
        let ruling = self.judge.rule(&header);
        if matches!(ruling, Ruling::Part | Ruling::Commit | Ruling::Snapshot) {
            if part == 0 {
                self.body.clear();
            }
            self.body.extend_from_slice(frame.body);
        }
        self.note_identity(frame, ruling);
        match ruling {
            Ruling::Claimed => FrameVerdict::Claimed,
            Ruling::Part => FrameVerdict::Part,
            Ruling::Commit => FrameVerdict::Commit { commit_number, from, to, body: std::mem::take(&mut self.body) },
            Ruling::Snapshot => FrameVerdict::Snapshot { body: std::mem::take(&mut self.body) },
            Ruling::Released => FrameVerdict::Released,
            Ruling::Ignored(why) => FrameVerdict::Ignored(why),
        }
    }

    fn note_identity(&mut self, frame: &Frame<'_>, ruling: Ruling) {
        // A record that decodes as a frame has an identity that decodes.
        let named = || Identity::decode(frame.identity).unwrap_or_default();
        match ruling {
            Ruling::Claimed => self.identity = self.identity.take().or_else(named),
            Ruling::Part | Ruling::Commit | Ruling::Snapshot => {
                if frame.header.part == 0 {
                    self.open = named();
                }
                if ruling != Ruling::Part {
                    self.named = self.open.take();
                    self.identity = self.identity.take().or_else(|| self.named.clone());
                }
            }
            Ruling::Released | Ruling::Ignored(_) => {}
        }
    }

    /// The owner of the journal, by the first frame that names one; all claims name it, too.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The ID of the source topic in the last frame that counts: the source of the state.
    #[must_use]
    pub fn topic_id(&self) -> Option<&str> {
        self.named.as_ref()?.topic_id.as_deref()
    }

    /// Whether the beginning was deleted and no remaining record counts: needed records were deleted with it.
    #[must_use]
    pub fn is_hollow(&self) -> bool {
        self.judge.cut
    }

    /// The latest claimer, unless it has released the journal.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.judge.owner
    }

    /// The sharding of the latest claimer, by number.
    #[must_use]
    pub fn sharding(&self) -> u32 {
        self.judge.sharding()
    }

    /// The input offset at which the next commit starts; `None` before the first one, which may start anywhere.
    #[must_use]
    pub fn next(&self) -> Option<i64> {
        self.judge.next
    }

    /// The number of the next commit.
    #[must_use]
    pub fn next_commit_number(&self) -> u64 {
        self.judge.next_commit_number
    }
}

#[cfg(test)]
mod tests;
