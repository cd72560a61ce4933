//! The list of pending edges as bytes: which span opened each of them, and when.
//!
//! ```text
//! edge: (ordinal << 1 | 1) | offset gap | created gap      the first edge of a record
//!       (ordinal gap << 1)                                 another edge of the same record
//! ```
//!
//! Varints, each relative to the edge before; the first offset is relative to where re-reading starts, the first time is
//! written out. Edges of one record share its stream time.

use crate::model::Millis;
use crate::model::wire::{Malformed, Reader, put_i64, put_u64};

/// Where a pending edge comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) offset: i64,
    pub(super) ordinal: u32,
    pub(super) created: Millis,
}

/// Encodes origins in the order of creation; returns the first offset, too.
pub(super) fn encode(origins: impl Iterator<Item = Origin>) -> (Option<i64>, Vec<u8>) {
    let mut out = Vec::new();
    let mut first = None;
    let mut last: Option<Origin> = None;
    for o in origins {
        let from = *first.get_or_insert(o.offset);
        match last {
            Some(l) if l.offset == o.offset => put_u64(&mut out, u64::from(o.ordinal - l.ordinal) << 1),
            _ => {
                let (offset, created) = last.map_or((from, 0), |l| (l.offset, l.created));
                put_u64(&mut out, u64::from(o.ordinal) << 1 | 1);
                put_u64(&mut out, o.offset.abs_diff(offset));
                put_i64(&mut out, o.created - created);
            }
        }
        last = Some(o);
    }
    (first, out)
}

/// Decodes what [`encode`] wrote; `from` is the first offset.
pub(super) fn decode(from: i64, bytes: &[u8]) -> Result<Vec<Origin>, Malformed> {
    const RANGE: Malformed = Malformed("a pending edge is out of range");
    let mut r = Reader::new(bytes);
    let mut out: Vec<Origin> = Vec::new();
    while !r.is_empty() {
        let head = r.u64()?;
        let number = u32::try_from(head >> 1).map_err(|_| RANGE)?;
        let last = out.last().copied();
        let origin = match (head & 1, last) {
            (1, _) => {
                let (offset, created) = last.map_or((from, 0), |l| (l.offset, l.created));
                let gap = r.u64()?;
                if last.is_some() && gap == 0 {
                    return Err(Malformed("pending edges are out of order"));
                }
                Origin {
                    offset: offset.checked_add_unsigned(gap).ok_or(RANGE)?,
                    ordinal: number,
                    created: created.checked_add(r.i64()?).ok_or(RANGE)?,
                }
            }
            (_, Some(l)) if number > 0 => Origin { ordinal: l.ordinal.checked_add(number).ok_or(RANGE)?, ..l },
            _ => return Err(Malformed("pending edges are out of order")),
        };
        out.push(origin);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(offset: i64, ordinal: u32, created: Millis) -> Origin {
        Origin { offset, ordinal, created }
    }

    #[test]
    fn the_list_survives_the_round_trip() {
        let all = [
            origin(7, 3, 1_000),
            origin(7, 4, 1_000),
            origin(7, 900, 1_000),
            origin(9, 0, 1_000),
            origin(700, 1, 2_500),
        ];
        let (from, bytes) = encode(all.into_iter());
        assert_eq!(from, Some(7));
        assert_eq!(decode(7, &bytes), Ok(all.to_vec()));
        assert_eq!(encode([].into_iter()), (None, Vec::new()));
        assert_eq!(decode(0, &[]), Ok(Vec::new()));
    }

    #[test]
    fn another_edge_of_the_same_record_takes_one_byte() {
        let (_, two) = encode([origin(7, 3, 1_000), origin(7, 4, 1_000)].into_iter());
        let (_, one) = encode([origin(7, 3, 1_000)].into_iter());
        assert_eq!(two.len(), one.len() + 1);
    }

    #[test]
    fn damaged_lists_are_errors() {
        let (_, bytes) = encode([origin(7, 3, 1_000), origin(8, 4, 1_000)].into_iter());
        assert!(decode(7, &bytes[..bytes.len() - 1]).is_err());
        assert!(decode(i64::MAX, &bytes).is_err());
        assert!(decode(7, &[2]).is_err(), "no record to belong to");
        assert!(decode(7, &[1, 0, 0, 0]).is_err(), "the same span twice");
        assert!(decode(7, &[1, 0, 0, 1, 0, 0]).is_err(), "the same record twice");
        assert!(decode(7, &[0xff; 12]).is_err());
    }
}
