//! What shards write into the journals of span tasks: which delta records their snapshots hold, and which they lack.
//!
//! The deltas topic may lose records, so a journal is the only place from which a shard can get delta records again.
//! Its owner keeps every commit until the snapshots of all shards hold its delta records, and sends what a shard lacks
//! once more. A notice stands in the journal itself: its order among claims and commits is the same for all readers, it
//! stays for the next owner, and the owner reads it in the gap before its own next record. It has the form of a release
//! by an owner that never claims, which every version skips.

use super::frame::{Frame, FrameKind, Header, Owner};
use crate::core::model::wire::{Malformed, Reader, put_u64};

/// Writes notices, and never claims.
pub(super) const SHARDS: Owner = Owner(u128::from_le_bytes(*b"spanmill: shards"));

/// The content of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An accepted snapshot holds its delta records of all commits below the number.
    Holds,
    /// It lacks its delta record of the commit with the number, and perhaps later ones.
    Lacks,
}

/// A message from a shard to the owner of the journal of a source partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// The shard.
    pub shard: u32,
    /// Its content.
    pub what: What,
    /// The number of a commit of the source partition.
    pub commit_number: u64,
}

// === impl Notice ===

impl Notice {
    /// The record for the journal of the source partition.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![match self.what {
            What::Holds => 0,
            What::Lacks => 1,
        }];
        put_u64(&mut body, self.shard.into());
        let (owner, kind) = (SHARDS, FrameKind::Release);
        let (seq, commit_number, from, to, part, parts, sharding) = (0, self.commit_number, 0, 0, 0, 1, 0);
        let header = Header { owner, kind, seq, commit_number, from, to, part, parts, sharding };
        Frame { header, body: &body, identity: &[] }.encode()
    }

    /// The notice in a record of a journal, if it is one. A notice of a later version is ignored: notices are hints.
    #[must_use]
    pub fn of(frame: &Frame<'_>) -> Option<Self> {
        if frame.header.owner != SHARDS {
            return None;
        }
        let mut r = Reader::new(frame.body);
        let read = |r: &mut Reader<'_>| -> Result<Self, Malformed> {
            let what = match r.u8()? {
                0 => What::Holds,
                1 => What::Lacks,
                _ => return Err(Malformed("unknown notice")),
            };
            Ok(Self { shard: r.uint()?, what, commit_number: frame.header.commit_number })
        };
        read(&mut r).ok().filter(|_| r.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fold::{Fold, FrameVerdict, Ignored};
    use super::super::frame::claim;
    use super::super::writer::{AppendProgress, JournalWriter};
    use super::*;

    fn notice(what: What, commit_number: u64) -> Notice {
        Notice { shard: 3, what, commit_number }
    }

    #[test]
    fn a_notice_survives_the_round_trip_and_nothing_else_is_one() {
        for notice in [notice(What::Holds, 0), notice(What::Lacks, u64::MAX)] {
            let record = notice.encode();
            assert_eq!(Notice::of(&Frame::decode(&record).expect("a frame")), Some(notice));
        }
        let claim = claim(Owner(1), "");
        assert_eq!(Notice::of(&Frame::decode(&claim).expect("a frame")), None);
        let mut later = Frame::decode(&claim).expect("a frame");
        later.header.owner = SHARDS;
        later.body = b"\x07later";
        assert_eq!(Notice::of(&later), None);
    }

    #[test]
    fn a_notice_disturbs_neither_readers_nor_the_owner() {
        let me = Owner(1);
        let mut writer = JournalWriter::new(me, 0, None, 0).with_max_part(2);
        let parts = writer.commit(0, 9, b"body");
        let between = notice(What::Lacks, 0).encode();
        let mut fold = Fold::new();
        for record in [&claim(me, ""), &parts[0]] {
            fold.apply(&Frame::decode(record).expect("a frame"));
        }
        let ignored = FrameVerdict::Ignored(Ignored::NotOwner);
        assert_eq!(fold.apply(&Frame::decode(&between).expect("a frame")), ignored);
        let whole = fold.apply(&Frame::decode(&parts[1]).expect("a frame"));
        assert!(matches!(whole, FrameVerdict::Commit { commit_number: 0, .. }), "{whole:?}");
        assert_eq!(writer.acknowledged(Some(1)), AppendProgress::Pending);
        assert_eq!(writer.acknowledged(Some(3)), AppendProgress::ReadGap { after: 1, before: 3 });
        let progress = writer.gap_read([(2, &between[..])].into_iter()).expect("a frame");
        assert!(matches!(progress, AppendProgress::Accepted(_)), "{progress:?}");
    }
}
