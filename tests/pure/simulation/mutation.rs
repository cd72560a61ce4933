//! The rules, switched off one by one. The product has no such switch: the simulation lies to it instead, about what
//! the journal holds, or ignores its requests.

use std::rc::Rc;

use spanmill::core::journal::frame::claim;
use spanmill::core::journal::{Fold, Frame, FrameKind, Header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    None,
    ClaimRuleOff,
    ContiguityOff,
    ClaimNotAwaited,
    GapNotRead,
    ForwardBeforeAcceptance,
    EmitBeforeAcceptance,
    ChainOff,
    UnknownTakenAsAccepted,
    UnknownTakenAsLost,
    HalfEdgesNotReread,
    TornFrameAccepted,
    ForwardedTooEarly,
    DeltaRecordsNotResent,
    SnapshotBeforeAcknowledged,
    StepsNotResent,
    OrderOfAcknowledgementsIgnored,
    CommitsTrimmedEarly,
    LackUnheard,
    BasisIgnored,
    EndpointMarkTooFar,
    EndpointMarksIgnored,
    HeldStepsDropped,
}

type Records = Vec<(i64, Rc<[u8]>)>;

impl Mutation {
    /// Whether the deltas topic keeps what it has acknowledged, and no owner learns what shards lack: what else a rule
    /// protects from would be made good.
    pub(crate) fn keeps_ends(self) -> bool {
        matches!(self, Self::ForwardedTooEarly | Self::UnknownTakenAsLost | Self::OrderOfAcknowledgementsIgnored)
    }

    /// The journal as a restore sees it.
    pub(crate) fn restored(self, records: &[(i64, Rc<[u8]>)]) -> Records {
        match self {
            Self::ClaimRuleOff => everybody_owns(records),
            Self::ContiguityOff => holes_closed(records),
            Self::TornFrameAccepted => torn_mended(records),
            _ => records.to_vec(),
        }
    }

    /// The gap as a writer sees it.
    pub(crate) fn gap(self, records: &[(i64, Rc<[u8]>)]) -> Records {
        match self {
            Self::GapNotRead => Vec::new(),
            Self::ClaimRuleOff => records.iter().filter(|(_, r)| header(r).kind != FrameKind::Claim).cloned().collect(),
            _ => records.to_vec(),
        }
    }
}

fn header(record: &[u8]) -> Header {
    Frame::decode(record).expect("the simulation writes only frames").header
}

/// Before each frame, its owner seems to claim.
fn everybody_owns(records: &[(i64, Rc<[u8]>)]) -> Records {
    let mut owner = None;
    let mut out = Records::new();
    for (offset, record) in records {
        let header = header(record);
        if owner.replace(header.owner) != Some(header.owner) {
            out.push((*offset, claim(header.owner, "").into()));
        }
        out.push((*offset, Rc::clone(record)));
    }
    out
}

/// Each commit of the owner seems to start where the last one ended.
fn holes_closed(records: &[(i64, Rc<[u8]>)]) -> Records {
    let mut fold = Fold::new();
    let mut place = (0, None);
    let mut out = Records::new();
    for (offset, record) in records {
        let mut frame = Frame::decode(record).expect("the simulation writes only frames");
        if frame.header.kind == FrameKind::Commit && fold.owner() == Some(frame.header.owner) {
            if frame.header.part == 0 {
                place = (fold.next_commit_number(), fold.next());
            }
            frame.header.commit_number = place.0;
            frame.header.from = place.1.unwrap_or(frame.header.from);
        }
        fold.apply(&frame);
        out.push((*offset, frame.encode().into()));
    }
    out
}

/// A frame that a claim interrupts seems to have been whole before the claim.
fn torn_mended(records: &[(i64, Rc<[u8]>)]) -> Records {
    let mut out: Records = Vec::new();
    for (offset, record) in records {
        let header = header(record);
        let torn = out.iter().rposition(|(_, r)| {
            let before = self::header(r);
            (Header { part: before.part + 1, ..before }) == header
        });
        match torn {
            Some(at) if header.part > 0 => out.insert(at + 1, (*offset, Rc::clone(record))),
            _ => out.push((*offset, Rc::clone(record))),
        }
    }
    out
}
