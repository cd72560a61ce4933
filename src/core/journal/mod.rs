//! The journal: the only authoritative state of a task, as an append-only topic partition that any worker may write to.
//!
//! *In:* records of a journal; acknowledged offsets. *Out:* what counts, the state to start from, the records to
//! append. *Owner:* one [`JournalWriter`] per claim, one fold per acquisition. *Never:* Kafka, a clock, a guess.
//! *Next:* the worker appends and reads, forwards delta records and sends samples, but only what was accepted.
//!
//! To acquire a task: append [`frame::claim_as`] with a fresh [`Owner`], wait for its offset, fold the journal up to it
//! ([`SpanFold`] for a span task, [`SeriesFold`] for a series task), and continue with a [`JournalWriter`].
//! `tests/pure/simulation.rs` checks the whole protocol under crashes, zombies and lost acknowledgements.

pub mod again;
pub mod chain;
pub mod fold;
pub mod frame;
pub mod identity;
pub mod notice;
pub mod past;
#[cfg(feature = "sabotage")]
pub mod sabotage;
pub mod series;
pub mod sharding;
pub mod span;
pub mod witness;
pub mod writer;

pub use again::{Again, Mismatch};
pub use chain::{ChainVerdict, DeltaChain};
pub use fold::{Fold, FrameVerdict, Ignored, Ruling};
pub use frame::{Frame, FrameError, FrameKind, Header, MAX_PART, Owner};
pub use identity::Identity;
pub use notice::{Notice, What};
pub use past::{Event, ForcedCloses, Missed, Past, StepOf};
pub use series::{Basis, Behind, Change, EmitCause, EmitMark, EndpointMark, SeriesFold, SeriesSnapshot, SeriesState};
pub use sharding::Sharding;
pub use span::{Cause, DeltaRecords, Needs, Regained, SpanCommit, SpanFold, SpanState};
pub use witness::Witness;
pub use writer::{AcceptedFrame, AppendProgress, JournalWriter};

use crate::core::model::wire::Malformed;

/// Why a journal cannot be read. None of these errors resolves by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A record is no frame.
    #[error("journal offset {offset}: {source}")]
    Frame {
        /// The record's offset.
        offset: i64,
        /// The problem.
        source: FrameError,
    },
    /// A frame counts, but its body is incomplete or damaged.
    #[error("journal offset {offset}: the frame's body is damaged: {source}")]
    Body {
        /// The offset of the frame's last record.
        offset: i64,
        /// The problem.
        source: Malformed,
    },
    /// Frames that a restore needs are gone. Check [`is_contested`] before reporting it.
    #[error(
        "the journal was cut: {missing}; another program deleted its beginning (retention must be off); restore the \
         topic, or start again with another kafka.group"
    )]
    Cut {
        /// The missing part.
        missing: &'static str,
    },
}

/// Whether another owner has claimed the journal in these records, which follow `owner`'s own claim. A claim of an earlier
/// sharding is none.
///
/// A fold that ends at a claim may find the journal [cut](JournalError::Cut) although nothing is wrong: a later owner
/// has deleted what it no longer needs. Then the rest of the journal holds that owner's claim, and the remedy is to
/// claim again. Only a cut journal without a later claim has lost something.
///
/// # Errors
/// When a record is no frame; the error names its offset.
pub fn is_contested<'a>(
    owner: Owner,
    sharding: u32,
    mut records: impl Iterator<Item = (i64, &'a [u8])>,
) -> Result<bool, JournalError> {
    records.try_fold(false, |found, (offset, record)| {
        let Header { kind, owner: other, sharding: of, .. } = decode_at(offset, record)?.header;
        Ok(found || (kind == FrameKind::Claim && other != owner && of >= sharding))
    })
}

/// Decodes one record and names the offset when it cannot.
fn decode_at(offset: i64, record: &[u8]) -> Result<Frame<'_>, JournalError> {
    Frame::decode(record).map_err(|source| JournalError::Frame { offset, source })
}

/// The first offset of the frame that is being read, kept by the folds that determine what may be deleted.
#[derive(Debug, Clone, Copy, Default)]
struct FrameStart(i64);

impl FrameStart {
    /// Follows one judged record; returns the offset at which its frame starts.
    fn follow(&mut self, offset: i64, header: &Header, counts: bool) -> i64 {
        if counts && header.part == 0 {
            self.0 = offset;
        }
        self.0
    }
}

#[cfg(test)]
mod stored;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_foreign_claim_contests_a_journal() {
        let (mine, other) = (frame::claim(Owner(1), ""), frame::claim(Owner(2), ""));
        let commit = JournalWriter::new(Owner(2), 0, None, 0).commit(0, 1, b"").remove(0);
        let contested = |records: &[&[u8]]| is_contested(Owner(1), 0, (5..).zip(records.iter().copied()));
        assert_eq!(contested(&[&mine, &commit]), Ok(false));
        assert_eq!(contested(&[&commit, &other, &mine]), Ok(true));
        assert!(matches!(contested(&[&mine, b""]), Err(JournalError::Frame { offset: 6, .. })));
    }
}
