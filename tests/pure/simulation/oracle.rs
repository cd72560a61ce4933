//! What must come out, worked out in the plainest way: a second, naive reading of the journals, and one pass over the
//! source that never crashes.

use std::collections::BTreeMap;

use super::delta_record::DeltaRecord;
use super::net::Log;
use super::source::{Deltas, Pairing, Record};
use spanmill::core::journal::{
    Cause, EmitCause, EmitMark, EndpointMark, Fold, Frame, FrameKind, FrameVerdict, JournalError, Owner, SeriesFold,
    SpanCommit, SpanFold,
};
use spanmill::core::model::Counter;

/// A commit that counts.
pub(crate) struct Counted {
    pub(crate) owner: Owner,
    pub(crate) commit_number: u64,
    from: i64,
    to: i64,
    body: Vec<u8>,
}

/// Reads a whole journal by the letter of the rules.
pub(crate) fn counted(log: &Log) -> Vec<Counted> {
    counted_up_to(log, i64::MAX)
}

/// How far endpoints are by the last mark that counts up to an offset.
pub(crate) fn endpoint_marks(log: &Log, last: i64) -> Vec<EndpointMark> {
    let mark = counted_up_to(log, last).pop().and_then(|counted| EmitMark::decode(&counted.body).ok());
    mark.map(|mark| mark.change.endpoints).unwrap_or_default()
}

fn counted_up_to(log: &Log, last: i64) -> Vec<Counted> {
    let mut owner = None;
    let mut parts: Vec<Frame<'_>> = Vec::new();
    let mut out: Vec<Counted> = Vec::new();
    for (_, record) in log.all.iter().filter(|(offset, _)| *offset <= last) {
        let frame = Frame::decode(record).expect("the simulation writes only frames");
        let h = frame.header;
        match h.kind {
            FrameKind::Claim => {
                owner = Some(h.owner);
                parts.clear();
            }
            FrameKind::Release if owner == Some(h.owner) => owner = None,
            _ if owner != Some(h.owner) => {}
            _ => {
                let next = out.last().map_or((0, h.from), |last| (last.commit_number + 1, last.to));
                let goes_on = parts.last().is_some_and(|p| (p.header.seq, p.header.part + 1) == (h.seq, h.part));
                if if h.part == 0 { (h.commit_number, h.from) != next } else { !goes_on } {
                    // A retry has stored it twice, or behind what comes after it: it disturbs nothing.
                    continue;
                }
                if h.part == 0 {
                    parts.clear();
                }
                parts.push(frame);
                if h.kind == FrameKind::Commit && parts.len() == h.parts as usize {
                    let body = parts.iter().flat_map(|p| p.body).copied().collect();
                    out.push(Counted { owner: h.owner, commit_number: h.commit_number, from: h.from, to: h.to, body });
                }
            }
        }
    }
    out
}

/// Up to where the commits of a journal go, as its readers say.
pub(crate) fn next(log: &Log, of_source: bool) -> Result<Option<i64>, String> {
    let cut = log.start > 0;
    if of_source {
        let mut fold = if cut { SpanFold::after_cut() } else { SpanFold::new() };
        read(log, |offset, record| fold.apply(offset, record).map(drop))?;
        fold.into_state().map(|state| state.next).map_err(|e| e.to_string())
    } else {
        let mut fold = if cut { SeriesFold::after_cut() } else { SeriesFold::new() };
        read(log, |offset, record| fold.apply(offset, record).map(drop))?;
        fold.into_state().map(|state| state.next).map_err(|e| e.to_string())
    }
}

fn read(log: &Log, mut each: impl FnMut(i64, &[u8]) -> Result<(), JournalError>) -> Result<(), String> {
    let records = log.read(0, log.end());
    records.iter().try_for_each(|(offset, record)| each(*offset, record)).map_err(|e| e.to_string())
}

/// The steps of the forced closes that count, if it is the journal of a shard.
pub(crate) fn forced(log: &Log) -> Result<Vec<i64>, String> {
    let mut fold = if log.start > 0 { Fold::after_cut() } else { Fold::new() };
    let mut forced = Vec::new();
    for (_, record) in log.read(0, log.end()) {
        if let FrameVerdict::Commit { body, .. } = fold.apply(&Frame::decode(record).map_err(|e| e.to_string())?)
            && let Ok(EmitMark { step, cause: EmitCause::Forced, .. }) = EmitMark::decode(&body)
        {
            forced.push(step);
        }
    }
    Ok(forced)
}

/// Whether the product's fold comes to the same.
pub(crate) fn agrees(log: &Log, counted: &[Counted]) -> bool {
    let mut fold = Fold::new();
    let mut counted = counted.iter();
    let same = log.all.iter().all(|(_, record)| {
        match fold.apply(&Frame::decode(record).expect("the simulation writes only frames")) {
            FrameVerdict::Commit { commit_number, from, to, body } => counted.next().is_some_and(|c| {
                (Some(c.owner), c.commit_number, c.from, c.to, &c.body)
                    == (fold.owner(), commit_number, from, to, &body)
            }),
            _ => true,
        }
    });
    same && counted.next().is_none()
}

/// Checks a span journal against an undisturbed pass over its source, and adds what the pass counts to `totals`.
/// Returns how often an operator has moved the task.
pub(crate) fn check_span_journal(log: &Log, source: &[Record], totals: &mut Deltas) -> Result<usize, String> {
    let mut ideal = Pairing::default();
    let (mut at, mut read, mut resets) = (0, 0, 0);
    for commit in counted(log) {
        let body = SpanCommit::decode(&commit.body).map_err(|e| e.to_string())?;
        let mut deltas = Deltas::new();
        if commit.from != at {
            return Err(format!("commit {} starts at {} instead of {at}", commit.commit_number, commit.from));
        }
        if body.cause == Cause::Reset {
            ideal.give_up(&mut deltas);
            resets += 1;
        }
        for offset in if body.cause == Cause::Records { commit.from..commit.to } else { 0..0 } {
            read += 1;
            ideal.read(offset, &source[usize::try_from(offset).expect("not negative")], &mut deltas);
        }
        if body.cause == Cause::Tick {
            ideal.advance(body.stream_time.unwrap_or(0), &mut deltas);
        }
        at = commit.to;
        let mut delta_records = Deltas::new();
        for part in body.delta_records.iter().flatten() {
            delta_records.extend(DeltaRecord::decode(part).map_err(|e| e.to_string())?.deltas);
        }
        if delta_records != deltas || body.stream_time != ideal.stream_time {
            return Err(format!(
                "commit {} says {delta_records:?}, undisturbed it is {deltas:?}",
                commit.commit_number
            ));
        }
        if body.ledger.get(Counter::SpansRead) != read {
            return Err(format!("commit {}: the ledger is wrong", commit.commit_number));
        }
        for (series, amount) in deltas {
            *totals.entry(series).or_default() += amount;
        }
    }
    if usize::try_from(at) == Ok(source.len()) {
        Ok(resets)
    } else {
        Err(format!("only {at} of {} records", source.len()))
    }
}

/// What the plain series must come to, straight from the sources.
pub(crate) fn plain_totals(sources: &[Vec<Record>]) -> BTreeMap<u64, u64> {
    let mut totals = BTreeMap::new();
    for record in sources.iter().flatten() {
        *totals.entry(record.series).or_default() += record.amount;
    }
    totals
}
