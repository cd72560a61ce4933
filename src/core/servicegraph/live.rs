//! The list of live items, as bytes: which span created each, and when.
//!
//! ```text
//! list: edges                                            when all of them are plain and nothing else is alive
//!       0 | length | edges | length | marks | relays     otherwise
//!       2 | length | edges | length | marks | length | relays | decided | kin     with spans of any kind
//! item: (ordinal << 1 | 1) | offset gap | created gap    the first of a record
//!       (ordinal gap << 1)                               another one of the same record
//! edge: item                                             in the plain form
//!       item | (part << 2 | moved << 1 | met) | [key]    in the others; `key` (8 bytes) if it has moved
//! kin:  item | passed
//! ```
//!
//! Varints, each relative to the item before; the first offset is relative to where re-reading starts, the first time
//! is written out. Items of one record share its stream time. A plain edge begins with an odd byte, so 0 and 2 distinguish
//! the forms. Of the kin, the first `decided` are decided.

use crate::core::model::Millis;
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};

const RANGE: Malformed = Malformed("a pending edge is out of range");
/// The first byte of a list with spans of any kind.
const WITH_KIN: u8 = 2;
const ORDER: Malformed = Malformed("pending edges are out of order");

/// The origin of a live item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EdgeOrigin {
    pub(super) offset: i64,
    pub(super) created: Millis,
    pub(super) ordinal: u32,
    /// Which of the span's edges: 0 is the one with its parent, `n` the one with its `n`-th link.
    pub(super) part: u16,
}

/// An edge of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) origin: EdgeOrigin,
    /// It has met a server already.
    pub(super) met: bool,
    /// The client span for which it waits, if that is not the one that its own span names.
    pub(super) moved: Option<[u8; 8]>,
}

/// A span of any kind of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListedKin {
    pub(super) origin: EdgeOrigin,
    /// A server below it is called in its place.
    pub(super) passed: bool,
    /// It is known who calls it.
    pub(super) decided: bool,
}

/// All live items, each kind in the order of its origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) edges: Vec<Listed>,
    pub(super) marks: Vec<EdgeOrigin>,
    pub(super) relays: Vec<EdgeOrigin>,
    pub(super) kin: Vec<ListedKin>,
}

/// A pending edge of a commit's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingEdge {
    /// The offset of the record whose span has opened it.
    pub offset: i64,
    /// Whether it has met a server already and waits for more of them, or only keeps others from it.
    pub met: bool,
}

/// The edges of a commit's list, which starts at offset `from`, in the order of their origin.
///
/// # Errors
/// When the list is damaged.
pub fn pending_edges(from: i64, live: &[u8]) -> Result<Vec<PendingEdge>, Malformed> {
    let edges = Live::decode(from, live)?.edges;
    Ok(edges.into_iter().map(|edge| PendingEdge { offset: edge.origin.offset, met: edge.met }).collect())
}

/// Writes items of one kind.
struct Items {
    out: Vec<u8>,
    last: EdgeOrigin,
    first: bool,
}

/// Reads items of one kind.
struct ItemReader<'a> {
    bytes: Reader<'a>,
    last: EdgeOrigin,
    first: bool,
}

// === impl EdgeOrigin ===

impl EdgeOrigin {
    /// The span, and which of its edges.
    pub(super) fn at(&self) -> (i64, u32, u16) {
        (self.offset, self.ordinal, self.part)
    }

    /// Before everything in a list that starts at `offset`.
    fn before(offset: i64) -> Self {
        Self { offset, created: 0, ordinal: 0, part: 0 }
    }
}

// === impl Listed ===

impl Listed {
    fn is_plain(&self) -> bool {
        self.origin.part == 0 && !self.met && self.moved.is_none()
    }
}

// === impl Live ===

impl Live {
    /// The bytes, and the first offset.
    pub(super) fn encode(&self) -> (Option<i64>, Vec<u8>) {
        let edges = self.edges.first().map(|edge| &edge.origin);
        let kin = self.kin.first().map(|kin| &kin.origin);
        let firsts = [edges, self.marks.first(), self.relays.first(), kin];
        let Some(from) = firsts.into_iter().flatten().map(|origin| origin.offset).min() else {
            return (None, Vec::new());
        };
        let others = !(self.marks.is_empty() && self.relays.is_empty() && self.kin.is_empty());
        let plain = !others && self.edges.iter().all(Listed::is_plain);
        let mut edges = Items::new(from);
        for edge in &self.edges {
            edges.put(edge.origin);
            if !plain {
                edges.put_detail(edge);
            }
        }
        if plain {
            return (Some(from), edges.out);
        }
        let mut out = vec![if self.kin.is_empty() { 0 } else { WITH_KIN }];
        put_bytes(&mut out, &edges.out);
        put_bytes(&mut out, &Items::of(from, &self.marks));
        let relays = Items::of(from, &self.relays);
        if self.kin.is_empty() {
            out.extend(relays);
        } else {
            put_bytes(&mut out, &relays);
            self.put_kin(from, &mut out);
        }
        (Some(from), out)
    }

    fn put_kin(&self, from: i64, out: &mut Vec<u8>) {
        put_u64(out, self.kin.iter().filter(|kin| kin.decided).count() as u64);
        let mut items = Items::new(from);
        for kin in &self.kin {
            items.put(kin.origin);
            put_u64(&mut items.out, u64::from(kin.passed));
        }
        out.extend(items.out);
    }

    /// Decodes what [`Live::encode`] wrote; `from` is the first offset.
    pub(super) fn decode(from: i64, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut live = Self::default();
        let Some((form, rest)) = bytes.split_first().filter(|(form, _)| [0, WITH_KIN].contains(*form)) else {
            let edges = origins(from, bytes)?;
            live.edges = edges.into_iter().map(|origin| Listed { origin, met: false, moved: None }).collect();
            return Ok(live);
        };
        let mut sections = Reader::new(rest);
        live.edges = edges(from, sections.bytes()?)?;
        live.marks = origins(from, sections.bytes()?)?;
        if *form == WITH_KIN {
            live.relays = origins(from, sections.bytes()?)?;
            let decided = sections.uint()?;
            live.kin = kin(from, decided, sections.rest())?;
        } else {
            live.relays = origins(from, sections.rest())?;
        }
        Ok(live)
    }
}

// === impl Items ===

impl Items {
    fn new(from: i64) -> Self {
        Self { out: Vec::new(), last: EdgeOrigin::before(from), first: true }
    }

    fn of(from: i64, origins: &[EdgeOrigin]) -> Vec<u8> {
        let mut items = Self::new(from);
        origins.iter().for_each(|&origin| items.put(origin));
        items.out
    }

    fn put(&mut self, o: EdgeOrigin) {
        let last = std::mem::replace(&mut self.last, o);
        if !std::mem::take(&mut self.first) && last.offset == o.offset {
            return put_u64(&mut self.out, u64::from(o.ordinal - last.ordinal) << 1);
        }
        put_u64(&mut self.out, u64::from(o.ordinal) << 1 | 1);
        put_u64(&mut self.out, o.offset.abs_diff(last.offset));
        put_i64(&mut self.out, o.created - last.created);
    }

    fn put_detail(&mut self, edge: &Listed) {
        let bits = u64::from(edge.origin.part) << 2 | u64::from(edge.moved.is_some()) << 1 | u64::from(edge.met);
        put_u64(&mut self.out, bits);
        self.out.extend(edge.moved.iter().flatten());
    }
}

// === impl ItemReader ===

impl<'a> ItemReader<'a> {
    fn new(from: i64, bytes: &'a [u8]) -> Self {
        Self { bytes: Reader::new(bytes), last: EdgeOrigin::before(from), first: true }
    }

    /// The next item; its part is still that of the item before if both are of the same span, and 0 otherwise.
    fn next(&mut self) -> Result<EdgeOrigin, Malformed> {
        let head = self.bytes.u64()?;
        let number = u32::try_from(head >> 1).map_err(|_| RANGE)?;
        let (last, first) = (self.last, std::mem::take(&mut self.first));
        if head & 1 == 0 {
            if first {
                return Err(ORDER);
            }
            let part = if number == 0 { last.part } else { 0 };
            return Ok(EdgeOrigin { ordinal: last.ordinal.checked_add(number).ok_or(RANGE)?, part, ..last });
        }
        let gap = self.bytes.u64()?;
        if !first && gap == 0 {
            return Err(ORDER);
        }
        let offset = last.offset.checked_add_unsigned(gap).ok_or(RANGE)?;
        let created = last.created.checked_add(self.bytes.i64()?).ok_or(RANGE)?;
        Ok(EdgeOrigin { offset, created, ordinal: number, part: 0 })
    }

    /// Accepts `origin`, which must come after the one before.
    fn accept(&mut self, origin: EdgeOrigin, first: bool) -> Result<EdgeOrigin, Malformed> {
        if !first && origin.at() <= self.last.at() {
            return Err(ORDER);
        }
        self.last = origin;
        Ok(origin)
    }
}

fn origins(from: i64, bytes: &[u8]) -> Result<Vec<EdgeOrigin>, Malformed> {
    let (mut reader, mut out) = (ItemReader::new(from, bytes), Vec::new());
    while !reader.bytes.is_empty() {
        let origin = reader.next()?;
        out.push(reader.accept(origin, out.is_empty())?);
    }
    Ok(out)
}

fn kin(from: i64, decided: usize, bytes: &[u8]) -> Result<Vec<ListedKin>, Malformed> {
    let (mut reader, mut out) = (ItemReader::new(from, bytes), Vec::new());
    while !reader.bytes.is_empty() {
        let origin = reader.next()?;
        let passed = reader.bytes.u64()?;
        if passed > 1 {
            return Err(RANGE);
        }
        let origin = reader.accept(origin, out.is_empty())?;
        out.push(ListedKin { origin, passed: passed == 1, decided: out.len() < decided });
    }
    Ok(out)
}

fn edges(from: i64, bytes: &[u8]) -> Result<Vec<Listed>, Malformed> {
    let (mut reader, mut out) = (ItemReader::new(from, bytes), Vec::new());
    while !reader.bytes.is_empty() {
        let mut origin = reader.next()?;
        let bits = reader.bytes.u64()?;
        origin.part = u16::try_from(bits >> 2).map_err(|_| RANGE)?;
        let origin = reader.accept(origin, out.is_empty())?;
        let moved = if bits & 2 == 0 { None } else { Some(reader.bytes.array()?) };
        out.push(Listed { origin, met: bits & 1 != 0, moved });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(offset: i64, ordinal: u32, created: Millis) -> EdgeOrigin {
        EdgeOrigin { offset, created, ordinal, part: 0 }
    }

    fn plain(origins: &[EdgeOrigin]) -> Live {
        let edges = origins.iter().map(|&origin| Listed { origin, met: false, moved: None }).collect();
        Live { edges, ..Live::default() }
    }

    fn everything() -> Live {
        let part = |part, origin| EdgeOrigin { part, ..origin };
        let edge = |origin, met, moved| Listed { origin, met, moved };
        Live {
            edges: vec![
                edge(origin(8, 3, 1_000), true, None),
                edge(part(2, origin(8, 4, 1_000)), false, None),
                edge(part(9, origin(8, 4, 1_000)), false, Some([7; 8])),
                edge(origin(9, 4, 1_000), false, None),
            ],
            marks: vec![origin(7, 0, 900), origin(7, 2, 900), origin(12, 2, 5_000)],
            relays: vec![origin(9, 1, 1_000)],
            kin: Vec::new(),
        }
    }

    fn with_kin() -> Live {
        let kin = |origin, passed, decided| ListedKin { origin, passed, decided };
        let kin = [
            kin(origin(6, 1, 500), false, true),
            kin(origin(6, 9, 500), true, true),
            kin(origin(9, 1, 1_000), false, false),
        ];
        Live { kin: kin.to_vec(), ..everything() }
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
        let (from, bytes) = plain(&all).encode();
        assert_eq!(from, Some(7));
        assert_eq!(Live::decode(7, &bytes), Ok(plain(&all)));
        assert_eq!(Live::default().encode(), (None, Vec::new()));
        assert_eq!(Live::decode(0, &[]), Ok(Live::default()));
        let (from, bytes) = everything().encode();
        assert_eq!(from, Some(7), "a mark is first");
        assert_eq!(Live::decode(7, &bytes), Ok(everything()));
        let (from, bytes) = with_kin().encode();
        assert_eq!(from, Some(6), "a span of another kind is first");
        assert_eq!(Live::decode(6, &bytes), Ok(with_kin()));
        let alone = Live { kin: with_kin().kin, ..Live::default() };
        assert_eq!(Live::decode(6, &alone.encode().1), Ok(alone));
    }

    #[test]
    fn the_pending_edges_of_a_list_are_known_by_their_records() {
        let (from, bytes) = everything().encode();
        let edges = pending_edges(from.expect("an offset"), &bytes).expect("a list");
        let seen: Vec<_> = edges.iter().map(|edge| (edge.offset, edge.met)).collect();
        assert_eq!(seen, [(8, true), (8, false), (8, false), (9, false)]);
        assert_eq!(pending_edges(5, &[]), Ok(Vec::new()));
    }

    #[test]
    fn the_bytes_of_earlier_versions_are_read() {
        let edges = [7, 1, 0xd0, 0x0f, 1, 2, 8, 0, 38, 7, 7, 7, 7, 7, 7, 7, 7, 9, 1, 0, 0];
        let marks = [1, 0, 0x88, 0x0e, 4, 5, 5, 0x88, 0x40];
        let parts = [&[0, 21][..], &edges, &[9], &marks, &[3, 2, 0xd0, 0x0f]];
        assert_eq!(Live::decode(7, &parts.concat()), Ok(everything()));
        assert_eq!(everything().encode(), (Some(7), parts.concat()));
    }

    #[test]
    fn another_edge_of_the_same_record_takes_one_byte() {
        let (_, two) = plain(&[origin(7, 3, 1_000), origin(7, 4, 1_000)]).encode();
        let (_, one) = plain(&[origin(7, 3, 1_000)]).encode();
        assert_eq!(two.len(), one.len() + 1);
    }

    #[test]
    fn damaged_lists_are_errors() {
        let (_, bytes) = plain(&[origin(7, 3, 1_000), origin(8, 4, 1_000)]).encode();
        assert!(Live::decode(7, &bytes[..bytes.len() - 1]).is_err());
        assert!(Live::decode(i64::MAX, &bytes).is_err());
        assert!(Live::decode(7, &[2]).is_err(), "no record to belong to");
        assert!(Live::decode(7, &[1, 0, 0, 0]).is_err(), "the same span twice");
        assert!(Live::decode(7, &[1, 0, 0, 1, 0, 0]).is_err(), "the same record twice");
        assert!(Live::decode(7, &[0xff; 12]).is_err());
        let (_, bytes) = everything().encode();
        for end in 1..bytes.len() {
            assert_ne!(Live::decode(7, &bytes[..end]), Ok(everything()));
        }
        let (_, bytes) = with_kin().encode();
        for end in 1..bytes.len() {
            assert_ne!(Live::decode(6, &bytes[..end]), Ok(with_kin()));
        }
        assert!(Live::decode(7, &[2, 0, 0, 0, 0, 1, 0, 0, 2]).is_err(), "no such bit");
        assert!(Live::decode(7, &[0, 6, 1, 0, 0, 4, 0, 4, 0]).is_err(), "the same part twice");
    }
}
