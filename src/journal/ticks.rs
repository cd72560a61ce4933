//! The ticks that a journal tells of: where the wall clock has moved the stream time of a silent partition.

use super::fold::{Fold, Verdict};
use super::span::{Cause, SpanCommit};
use super::{JournalError, decode_at};
use crate::model::Millis;

/// Collects the ticks of the journal of a span task.
#[derive(Debug, Clone)]
pub struct Ticks {
    fold: Fold,
    found: Vec<(i64, Millis)>,
    /// Where the first commit begins that the journal still has.
    begins: Option<i64>,
}

// === impl Ticks ===

impl Ticks {
    /// For a journal that is there from its first record on, or for one that is `cut`.
    #[must_use]
    pub fn new(cut: bool) -> Self {
        Self { fold: if cut { Fold::after_cut() } else { Fold::new() }, found: Vec::new(), begins: None }
    }

    /// The next record of the journal.
    ///
    /// # Errors
    /// When the record is no frame, or a commit cannot be read.
    pub fn apply(&mut self, offset: i64, record: &[u8]) -> Result<(), JournalError> {
        let frame = decode_at(offset, record)?;
        let Verdict::Commit { from, to, body, .. } = self.fold.apply(&frame) else { return Ok(()) };
        self.begins.get_or_insert(from);
        let commit = SpanCommit::decode(&body).map_err(|source| JournalError::Body { offset, source })?;
        if let (Cause::Tick, Some(at)) = (commit.cause, commit.stream_time) {
            self.found.push((to, at));
        }
        Ok(())
    }

    /// The source offset from which on every tick is known; `None` when the journal has no commit.
    #[must_use]
    pub fn begins(&self) -> Option<i64> {
        self.begins
    }

    /// The ticks: before the record at the offset, stream time advanced to the time.
    #[must_use]
    pub fn found(self) -> Vec<(i64, Millis)> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::frame::claim;
    use crate::journal::{Owner, Writer};
    use crate::model::Ledger;

    fn commit(cause: Cause, stream_time: Millis) -> Vec<u8> {
        let commit = SpanCommit {
            cause,
            step: 15_000,
            stream_time: Some(stream_time),
            forwarded: 0,
            reread_from: 0,
            live: Vec::new(),
            ledger: Ledger::default(),
            shares: Vec::new(),
        };
        commit.encode()
    }

    #[test]
    fn the_ticks_that_count_are_found_with_their_places() {
        let (mut ticks, zombie, owner) = (Ticks::new(false), Owner(1), Owner(2));
        let mut log = vec![claim(zombie, "")];
        let mut old = Writer::new(zombie, 0, None, 0);
        log.extend(old.commit(10, 20, &commit(Cause::Records, 1_000)));
        log.push(claim(owner, ""));
        // Too late: somebody else owns the journal.
        log.extend(old.commit(20, 20, &commit(Cause::Tick, 99_000)));
        let mut new = Writer::new(owner, 2, Some(20), 1);
        log.extend(new.commit(20, 20, &commit(Cause::Tick, 30_000)));
        log.extend(new.commit(20, 25, &commit(Cause::Records, 31_000)));
        log.extend(new.commit(25, 26, &commit(Cause::Tick, 60_000)));
        for (offset, record) in (0..).zip(&log) {
            ticks.apply(offset, record).expect("frames");
        }
        assert_eq!(ticks.begins(), Some(10));
        assert_eq!(ticks.found(), [(20, 30_000), (26, 60_000)]);
    }
}
