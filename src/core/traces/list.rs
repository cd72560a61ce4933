//! The list of open and remembered traces, as bytes of a commit.
//!
//! ```text
//! list:       tenants: n, then n x name | open: n, then n x trace | remembered: n, then n x closed
//! trace:      offset gap | ordinal | created gap | last - created | spans
//! closed:     tenant | ID (16 bytes) | closed gap
//! ```
//!
//! Varints, each gap relative to the item before; the first offset is relative to where re-reading starts.

use crate::core::model::Millis;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};

const RANGE: Malformed = Malformed("an open trace is out of range");
const ORDER: Malformed = Malformed("open traces are out of order");

/// An open trace of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListedTrace {
    pub(super) offset: i64,
    pub(super) ordinal: u32,
    pub(super) created: Millis,
    pub(super) last: Millis,
    pub(super) spans: u32,
}

/// A remembered trace of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListedClosed {
    /// The place of its tenant among the list's.
    pub(super) tenant: u32,
    pub(super) id: [u8; 16],
    pub(super) closed: Millis,
}

/// What a commit lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TraceList {
    /// The tenants of remembered traces.
    pub(super) tenants: Vec<Vec<u8>>,
    /// In the order of their origin.
    pub(super) open: Vec<ListedTrace>,
    /// In the order in which they closed.
    pub(super) closed: Vec<ListedClosed>,
}

// === impl ListedTrace ===

impl ListedTrace {
    pub(super) fn at(&self) -> (i64, u32) {
        (self.offset, self.ordinal)
    }
}

// === impl TraceList ===

impl TraceList {
    /// The bytes, none for nothing. `from` is not behind the first origin.
    pub(super) fn encode(&self, from: i64) -> Vec<u8> {
        let mut out = Vec::new();
        if self.open.is_empty() && self.closed.is_empty() {
            return out;
        }
        out.reserve(self.open.len() * 8 + self.closed.len() * 20);
        put_u64(&mut out, self.tenants.len() as u64);
        self.tenants.iter().for_each(|tenant| put_bytes(&mut out, tenant));
        put_u64(&mut out, self.open.len() as u64);
        let (mut offset, mut time) = (from, 0);
        for trace in &self.open {
            put_u64(&mut out, trace.offset.abs_diff(offset));
            put_u64(&mut out, trace.ordinal.into());
            put_i64(&mut out, trace.created - time);
            put_i64(&mut out, trace.last - trace.created);
            put_u64(&mut out, trace.spans.into());
            (offset, time) = (trace.offset, trace.created);
        }
        put_u64(&mut out, self.closed.len() as u64);
        time = 0;
        for trace in &self.closed {
            put_u64(&mut out, trace.tenant.into());
            out.extend_from_slice(&trace.id);
            put_i64(&mut out, trace.closed - time);
            time = trace.closed;
        }
        out
    }

    /// Decodes what [`TraceList::encode`] wrote.
    pub(super) fn decode(from: i64, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut list = Self::default();
        if bytes.is_empty() {
            return Ok(list);
        }
        let mut r = Reader::new(bytes);
        for _ in 0..r.u64()? {
            list.tenants.push(r.bytes()?.to_vec());
        }
        let (mut offset, mut time) = (from, 0i64);
        for _ in 0..r.u64()? {
            offset = offset.checked_add_unsigned(r.u64()?).ok_or(RANGE)?;
            let ordinal = r.uint()?;
            let created = time.checked_add(r.i64()?).ok_or(RANGE)?;
            let last = created.checked_add(r.i64()?).ok_or(RANGE)?;
            let trace = ListedTrace { offset, ordinal, created, last, spans: r.uint()? };
            if list.open.last().is_some_and(|before| before.at() >= trace.at()) {
                return Err(ORDER);
            }
            list.open.push(trace);
            time = created;
        }
        time = 0;
        for _ in 0..r.u64()? {
            let tenant = r.uint()?;
            if tenant as usize >= list.tenants.len() {
                return Err(Malformed("a remembered trace has no tenant"));
            }
            let id = r.array()?;
            time = time.checked_add(r.i64()?).ok_or(RANGE)?;
            list.closed.push(ListedClosed { tenant, id, closed: time });
        }
        if r.is_empty() { Ok(list) } else { Err(Malformed("bytes after the traces")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> TraceList {
        let trace = |offset, ordinal, created, last, spans| ListedTrace { offset, ordinal, created, last, spans };
        let closed = |tenant, id, closed| ListedClosed { tenant, id: [id; 16], closed };
        TraceList {
            tenants: vec![b"a".to_vec(), b"b".to_vec()],
            open: vec![trace(7, 3, 1_000, 1_000, 1), trace(7, 5, 1_000, 2_000, 9), trace(900, 0, 1_500, 70_000, 3)],
            closed: vec![closed(0, 1, 500), closed(1, 1, 500), closed(1, 2, 90_000)],
        }
    }

    #[test]
    fn the_list_survives_the_round_trip() {
        assert_eq!(TraceList::decode(7, &list().encode(7)), Ok(list()));
        assert_eq!(TraceList::decode(5, &list().encode(5)), Ok(list()));
        assert_eq!(TraceList::default().encode(7), Vec::<u8>::new());
        assert_eq!(TraceList::decode(7, &[]), Ok(TraceList::default()));
    }

    #[test]
    fn the_bytes_of_this_version_stay() {
        let mut one = list();
        one.tenants.truncate(1);
        one.open.truncate(1);
        one.closed.truncate(1);
        let bytes = [&[1, 1, b'a', 1, 0, 3, 0xd0, 0x0f, 0, 1, 1, 0][..], &[1; 16], &[0xe8, 0x07]].concat();
        assert_eq!(one.encode(7), bytes);
    }

    #[test]
    fn damaged_lists_are_errors() {
        let bytes = list().encode(7);
        for end in 1..bytes.len() {
            assert!(TraceList::decode(7, &bytes[..end]).is_err(), "{end}");
        }
        assert!(TraceList::decode(i64::MAX, &bytes).is_err());
        assert!(TraceList::decode(7, &[&bytes[..], &[0]].concat()).is_err());
        assert!(TraceList::decode(7, &[0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]).is_err(), "the same span twice");
        assert!(TraceList::decode(7, &[0, 0, 1, 0]).is_err(), "no tenant");
    }
}
