//! What waits at a commit, as bytes: pending edges, and behind them the traces, if there are any.
//!
//! ```text
//! edges                                                    without traces, as without a trace window
//! 4 | offset gap | length | edges | offset gap | traces    with them
//! 6 | offset gap | length | slots | offset gap | all of the above    with spans that are remembered as duplicates
//! ```
//!
//! Each list begins at its own offset, which is relative to where re-reading starts. The lists of edges begin with an
//! odd byte, a 0 or a 2.

use crate::core::model::wire::{Malformed, Reader, put_bytes, put_u64};
use crate::core::servicegraph::{self, PendingEdge};

/// The first byte where there are traces.
const WITH_TRACES: u8 = 4;

/// The first byte where there are slots of remembered spans.
const WITH_SLOTS: u8 = 6;

/// A list, and the offset where it begins.
type Listed<'a> = (i64, &'a [u8]);

/// The lists, each with the offset where it begins.
pub(super) struct Waiting<'a> {
    pub(super) edges: Listed<'a>,
    pub(super) traces: Listed<'a>,
}

/// Joins the lists; re-reading starts at `from`.
pub(super) fn join(from: i64, edges: (Option<i64>, Vec<u8>), traces: (Option<i64>, &[u8])) -> Vec<u8> {
    if traces.1.is_empty() {
        return edges.1;
    }
    let gap = |begins: Option<i64>| begins.map_or(0, |begins| begins.abs_diff(from));
    let mut out = Vec::with_capacity(edges.1.len() + traces.1.len() + 16);
    out.push(WITH_TRACES);
    put_u64(&mut out, gap(edges.0));
    put_bytes(&mut out, &edges.1);
    put_u64(&mut out, gap(traces.0));
    out.extend_from_slice(traces.1);
    out
}

/// Splits what [`join`] returned.
pub(super) fn split(from: i64, bytes: &[u8]) -> Result<Waiting<'_>, Malformed> {
    let Some(rest) = bytes.strip_prefix(&[WITH_TRACES]) else {
        return Ok(Waiting { edges: (from, bytes), traces: (from, &[]) });
    };
    let mut r = Reader::new(rest);
    let edges = (after(from, r.u64()?)?, r.bytes()?);
    Ok(Waiting { edges, traces: (after(from, r.u64()?)?, r.rest()) })
}

/// Puts the slots of remembered spans before what waits; re-reading starts at `from`.
pub(super) fn with_slots(from: i64, slots: Listed<'_>, waiting: (Option<i64>, &[u8])) -> Vec<u8> {
    let mut out = Vec::with_capacity(slots.1.len() + waiting.1.len() + 16);
    out.push(WITH_SLOTS);
    put_u64(&mut out, slots.0.abs_diff(from));
    put_bytes(&mut out, slots.1);
    put_u64(&mut out, waiting.0.map_or(0, |begins| begins.abs_diff(from)));
    out.extend_from_slice(waiting.1);
    out
}

/// Splits what [`with_slots`] returned: the slots, if there are any, and what waits.
pub(super) fn split_slots(from: i64, bytes: &[u8]) -> Result<(Option<Listed<'_>>, Listed<'_>), Malformed> {
    let Some(rest) = bytes.strip_prefix(&[WITH_SLOTS]) else { return Ok((None, (from, bytes))) };
    let mut r = Reader::new(rest);
    let slots = (after(from, r.u64()?)?, r.bytes()?);
    Ok((Some(slots), (after(from, r.u64()?)?, r.rest())))
}

fn after(from: i64, gap: u64) -> Result<i64, Malformed> {
    from.checked_add_unsigned(gap).ok_or(Malformed("an offset is out of range"))
}

/// The pending edges of a commit that re-reads from `from`, in the order of their origin.
///
/// # Errors
/// When the list is damaged.
pub fn pending_edges(from: i64, live: &[u8]) -> Result<Vec<PendingEdge>, Malformed> {
    let (_, (from, live)) = split_slots(from, live)?;
    let (from, edges) = split(from, live)?.edges;
    servicegraph::pending_edges(from, edges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_traces_nothing_is_added_and_with_them_both_lists_come_back() {
        let edges = vec![1, 0, 0];
        assert_eq!(join(7, (Some(7), edges.clone()), (None, &[])), edges);
        let joined = join(7, (Some(9), edges.clone()), (Some(7), &[5, 6]));
        let Waiting { edges: (from, listed), traces } = split(7, &joined).expect("two lists");
        assert_eq!((from, listed, traces), (9, &edges[..], (7, &[5, 6][..])));
        assert_eq!(joined, [4, 2, 3, 1, 0, 0, 0, 5, 6]);
        assert_eq!(pending_edges(7, &joined).expect("edges").len(), 1);
        // Closed traces alone: nothing is read again.
        let joined = join(0, (None, Vec::new()), (None, &[5]));
        assert_eq!(split(90, &joined).expect("two lists").traces, (90, &[5][..]));
    }

    #[test]
    fn damaged_lists_are_errors() {
        for damaged in [&[4][..], &[4, 0], &[4, 0, 9, 1], &[4, 0, 0], &[4, 0xff]] {
            assert!(split(0, damaged).is_err(), "{damaged:?}");
        }
        assert!(split(i64::MAX, &[4, 1, 0, 0]).is_err());
    }
}
