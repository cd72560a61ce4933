//! Frames: the records of a journal.
//!
//! A frame is one or more records ("parts"); every part repeats the header. Layout: magic, version, kind, owner, then
//! varints, the body of this part, in the first part the owner of the journal, and a checksum over all of it.

use std::fmt;

use super::identity::Identity;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_checksum, put_i64, put_u64, verify_checksum};

const MAGIC: [u8; 3] = *b"smj";
/// Version 2: a commit of a span task may name a [`super::Witness`]. Version 3: a frame may name the owner of its journal, and
/// a step-close record its [`super::Basis`]. Versions 1 and 2 are read.
/// Version 4: the sharding. It is written where that is not the first one, so that earlier versions stop there.
const VERSION: u8 = 4;
const FIRST_SHARDING_VERSION: u8 = 3;
/// The version of a [`super::Notice`], whose format has not changed.
const NOTICE_VERSION: u8 = 2;

/// Body bytes per record. Larger bodies are split; a broker accepts 1 MB per record by default.
pub const MAX_PART: usize = 900_000;

/// One incarnation of a task on one worker: random, and never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u128);

/// What a frame does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// From here on, only this owner's frames count.
    Claim = 1,
    /// Moves the task from one input offset to another. A tick is a commit whose body marks it as one.
    Commit = 2,
    /// The whole state of the task at this point of the journal.
    Snapshot = 3,
    /// The owner has finished: none of its frames count after this.
    Release = 4,
}

/// A frame without its body: all that decides whether it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Who wrote it.
    pub owner: Owner,
    /// What it does.
    pub kind: FrameKind,
    /// Number of the frame within its owner, the claim being 0. It keeps parts of two frames apart.
    pub seq: u64,
    /// Number of the commit within its journal; of any other frame, the number that the next commit will have.
    pub commit_number: u64,
    /// First input offset of a commit; of a snapshot, the first offset that is not committed yet.
    pub from: i64,
    /// Offset after the last one of a commit. Below `from` if an operator has moved the task back.
    pub to: i64,
    /// Which part this record is, from 0.
    pub part: u32,
    /// How many parts the frame has, at least 1.
    pub parts: u32,
    /// The [`super::Sharding`] of its writer, by number. Frames of an earlier one do not count behind a claim of a later one.
    pub sharding: u32,
}

/// One record of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The header, which decides whether the frame counts.
    pub header: Header,
    /// This part's stretch of the body; opaque here.
    pub body: &'a [u8],
    /// The owner of the journal, as [`Identity::encode`] writes it; empty in later parts and in frames of earlier
    /// versions.
    pub identity: &'a [u8],
}

/// Why a record is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes do not begin like a frame.
    #[error("not a journal frame; check whether another program writes to this topic")]
    NotAFrame,
    /// A later version of spanmill wrote it.
    #[error("frame version {found}, but this spanmill reads up to {VERSION}; upgrade this worker")]
    Newer {
        /// The version that was found.
        found: u8,
    },
    /// The bytes are damaged.
    #[error("damaged journal frame: {0}")]
    Damaged(#[from] Malformed),
}

/// The record that claims a journal. `note` is for operators: who claims and why; no code reads it.
#[must_use]
pub fn claim(owner: Owner, note: &str) -> Vec<u8> {
    claim_bytes(owner, note, &[], 0)
}

/// The same of a journal that belongs to `identity`, for work in a sharding.
#[must_use]
pub fn claim_as(owner: Owner, note: &str, identity: &Identity, sharding: u32) -> Vec<u8> {
    claim_bytes(owner, note, &identity.encode(), sharding)
}

fn claim_bytes(owner: Owner, note: &str, identity: &[u8], sharding: u32) -> Vec<u8> {
    let kind = FrameKind::Claim;
    let header = Header { owner, kind, seq: 0, commit_number: 0, from: 0, to: 0, part: 0, parts: 1, sharding };
    Frame { header, body: note.as_bytes(), identity }.encode()
}

// === impl Owner ===

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// === impl FrameKind ===

impl TryFrom<u8> for FrameKind {
    type Error = Malformed;

    fn try_from(byte: u8) -> Result<Self, Malformed> {
        [Self::Claim, Self::Commit, Self::Snapshot, Self::Release]
            .into_iter()
            .find(|&kind| kind as u8 == byte)
            .ok_or(Malformed("unknown frame kind"))
    }
}

// === impl Frame ===

impl<'a> Frame<'a> {
    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Header { owner, kind, seq, commit_number, from, to, part, parts, sharding } = self.header;
        let mut out = Vec::with_capacity(self.body.len() + self.identity.len() + 80);
        out.extend_from_slice(&MAGIC);
        // Notices also reach journals whose owner has the previous version, which must continue.
        out.push(match (owner, sharding) {
            (super::notice::SHARDS, _) => NOTICE_VERSION,
            (_, 0) => FIRST_SHARDING_VERSION,
            _ => VERSION,
        });
        out.push(kind as u8);
        out.extend_from_slice(&owner.0.to_le_bytes());
        put_u64(&mut out, seq);
        put_u64(&mut out, commit_number);
        put_i64(&mut out, from);
        put_i64(&mut out, to);
        put_u64(&mut out, u64::from(part));
        put_u64(&mut out, u64::from(parts));
        if sharding > 0 {
            put_u64(&mut out, sharding.into());
        }
        put_bytes(&mut out, self.body);
        if !self.identity.is_empty() {
            put_bytes(&mut out, self.identity);
        }
        put_checksum(&mut out, 0);
        out
    }

    /// Reads a record's bytes.
    ///
    /// # Errors
    /// [`FrameError::Newer`] asks for an upgrade; the others mean that the journal is damaged.
    pub fn decode(record: &'a [u8]) -> Result<Self, FrameError> {
        let version = match record {
            [a, b, c, version, ..] if [*a, *b, *c] == MAGIC => *version,
            _ => return Err(FrameError::NotAFrame),
        };
        // Before the checksum, which a later version may compute differently.
        if version > VERSION {
            return Err(FrameError::Newer { found: version });
        }
        let mut r = Reader::new(verify_checksum(record)?);
        r.take(MAGIC.len() + 1)?;
        let kind = FrameKind::try_from(r.u8()?)?;
        let owner = Owner(u128::from_le_bytes(r.array()?));
        let (seq, commit_number, from, to) = (r.u64()?, r.u64()?, r.i64()?, r.i64()?);
        let (part, parts) = (r.uint()?, r.uint()?);
        let sharding = if version > FIRST_SHARDING_VERSION { r.uint()? } else { 0 };
        let body = r.bytes()?;
        let identity = if r.is_empty() { &[] } else { r.bytes()? };
        Identity::decode(identity)?;
        if version == 0 || part >= parts || !r.is_empty() {
            return Err(Malformed("frame header out of range").into());
        }
        if parts > 1 && matches!(kind, FrameKind::Claim | FrameKind::Release) {
            return Err(Malformed("claim or release in parts").into());
        }
        Ok(Self { header: Header { owner, kind, seq, commit_number, from, to, part, parts, sharding }, body, identity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, any, prop, proptest};

    fn frame(body: &[u8]) -> Frame<'_> {
        let header = Header {
            owner: Owner(7),
            kind: FrameKind::Commit,
            seq: 3,
            commit_number: 300,
            from: -1,
            to: i64::MAX,
            part: 1,
            parts: 2,
            sharding: 0,
        };
        Frame { header, body, identity: &[] }
    }

    #[test]
    fn a_frame_survives_the_round_trip() {
        assert_eq!(Frame::decode(&frame(b"body").encode()), Ok(frame(b"body")));
        let record = claim(Owner(u128::MAX), "worker-1 takes over");
        let claim = Frame::decode(&record).expect("just encoded");
        assert_eq!((claim.header.kind, claim.header.owner), (FrameKind::Claim, Owner(u128::MAX)));
    }

    #[test]
    fn a_claim_names_the_owner_of_its_journal_and_one_of_an_earlier_version_names_none() {
        let identity = Identity { group: "x".to_owned(), topic: Some("y-z".to_owned()), topic_id: None };
        let record = claim_as(Owner(7), "takes over", &identity, 0);
        let named = Frame::decode(&record).expect("just encoded");
        assert_eq!(Identity::decode(named.identity), Ok(Some(identity.clone())));
        assert_eq!(named.body, b"takes over");
        for version in [1, 2] {
            let mut old = claim(Owner(7), "takes over");
            old[3] = version;
            old.truncate(old.len() - 8);
            put_checksum(&mut old, 0);
            let old = Frame::decode(&old).expect("it is read");
            assert_eq!((old.header, old.body, old.identity), (named.header, named.body, &[][..]));
        }
        let mut damaged = Frame { identity: &identity.encode()[1..], ..named }.encode();
        assert!(matches!(Frame::decode(&damaged), Err(FrameError::Damaged(_))));
        damaged.pop();
        assert!(matches!(Frame::decode(&damaged), Err(FrameError::Damaged(_))));
    }

    #[test]
    fn only_a_frame_of_a_later_sharding_has_the_version_that_earlier_programs_refuse() {
        let sharded = |sharding| {
            let mut frame = frame(b"body");
            frame.header.sharding = sharding;
            frame.encode()
        };
        assert_eq!([sharded(0)[3], sharded(1)[3]], [FIRST_SHARDING_VERSION, VERSION]);
        let record = sharded(300);
        let again = Frame::decode(&record).expect("just encoded");
        assert_eq!((again.header.sharding, again.body), (300, &b"body"[..]));
        assert_eq!(Frame::decode(&sharded(0)), Ok(frame(b"body")));
    }

    #[test]
    fn a_newer_version_asks_for_an_upgrade_whatever_follows() {
        let mut record = frame(b"body").encode();
        record[3] = VERSION + 1;
        record.pop();
        assert_eq!(Frame::decode(&record), Err(FrameError::Newer { found: VERSION + 1 }));
    }

    #[test]
    fn damage_is_told_from_foreign_bytes() {
        let mut record = frame(b"body").encode();
        let middle = record.len() / 2;
        record[middle] ^= 1;
        assert!(matches!(Frame::decode(&record), Err(FrameError::Damaged(_))));
        assert_eq!(Frame::decode(b"{\"a\":1}"), Err(FrameError::NotAFrame));
        assert_eq!(Frame::decode(b""), Err(FrameError::NotAFrame));
    }

    #[test]
    fn a_part_beyond_its_parts_is_damage() {
        let mut bad = frame(b"");
        bad.header.part = 2;
        assert!(matches!(Frame::decode(&bad.encode()), Err(FrameError::Damaged(_))));
        bad.header = Header { kind: FrameKind::Release, part: 0, ..bad.header };
        assert!(matches!(Frame::decode(&bad.encode()), Err(FrameError::Damaged(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_decoding_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), seal in any::<bool>()) {
            if seal {
                // Get past the magic and the checksum, to the fields.
                let mut sealed = b"smj\x03\x02".to_vec();
                sealed.append(&mut bytes);
                put_checksum(&mut sealed, 0);
                bytes = sealed;
            }
            if let Ok(frame) = Frame::decode(&bytes) {
                assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
            }
        }
    }
}
