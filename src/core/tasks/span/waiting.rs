//! What waits at a commit, as bytes: pending edges, and behind them the traces, if there are any.
//!
//! ```text
//! edges                                                    without traces, as without a trace window
//! 4 | offset gap | length | edges | offset gap | traces    with them
//! ```
//!
//! Each list begins at its own offset, which is relative to where re-reading starts. The lists of edges never begin with
//! a 4.

use crate::core::model::wire::{Malformed, Reader, put_bytes, put_u64};
use crate::core::servicegraph::{self, PendingEdge};

/// The first byte where there are traces.
const WITH_TRACES: u8 = 4;

/// The lists, each with the offset where it begins.
pub(super) struct Waiting<'a> {
    pub(super) edges: (i64, &'a [u8]),
    pub(super) traces: (i64, &'a [u8]),
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
    let begins = |gap| from.checked_add_unsigned(gap).ok_or(Malformed("an offset is out of range"));
    let mut r = Reader::new(rest);
    let edges = (begins(r.u64()?)?, r.bytes()?);
    Ok(Waiting { edges, traces: (begins(r.u64()?)?, r.rest()) })
}

/// The pending edges of a commit that re-reads from `from`, in the order of their origin.
///
/// # Errors
/// When the list is damaged.
pub fn pending_edges(from: i64, live: &[u8]) -> Result<Vec<PendingEdge>, Malformed> {
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
