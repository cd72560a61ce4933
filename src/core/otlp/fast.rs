//! The straight-line walk that nearly every span takes.
//!
//! Fields are expected in the order in which encoders write them, lengths in one or two bytes; anything else makes
//! the walk give up, never fail: the general path decides.

use super::batch::{ByteRange, Row};
use super::index::{self, AttributeEntry};
use super::plain::is_plain;
use super::schema::{EVENT, IN_SPAN, LINK, STATUS};
use super::wire::short_bytes;

/// What has not been walked of a span.
struct Walk<'a> {
    rest: &'a [u8],
    /// The position of the span's end in its source.
    end: u32,
    /// Bytes that a canonical encoding would not have.
    waste: u32,
}

/// Reads a plain span that starts at `at` of its source into an empty row, and records its attributes in `index`.
/// `None`: it may be anything.
///
/// Fields are wanted by number, and flags (16) also between 4 and 5, where the Collector writes them. It also writes an
/// empty parent id, so explicitly empty strings are no reason to give up; they only do not count in the size.
#[inline]
pub(super) fn span(bytes: &[u8], at: u32, row: &mut Row, index: &mut Vec<AttributeEntry>) -> Option<()> {
    let len = u32::try_from(bytes.len()).ok()?;
    let mut walk = Walk { rest: bytes, end: at.checked_add(len)?, waste: 0 };
    if let Some(ids) = walk.rest.first_chunk::<28>()
        && ids[..2] == [0x0a, 16]
        && ids[18..20] == [0x12, 8]
    {
        row.trace_id = ByteRange { at: at + 2, len: 16 };
        row.span_id = ByteRange { at: at + 20, len: 8 };
        walk.rest = &walk.rest[28..];
    } else {
        row.trace_id = walk.bytes(0x0a)?;
        row.span_id = walk.bytes(0x12)?;
    }
    row.trace_state = walk.bytes(0x1a)?;
    row.parent_span_id = walk.bytes(0x22)?;
    let early_flags = walk.flags()?;
    row.name = walk.bytes(0x2a)?;
    if let [0x30, kind @ 1..0x80, rest @ ..] = walk.rest {
        row.kind = i32::from(*kind);
        walk.rest = rest;
    }
    (row.start_ns, row.end_ns) = walk.times()?;
    let first = index.len();
    row.attributes = walk.attributes(index)?;
    row.index = Some(ByteRange { at: first as u32, len: (index.len() - first) as u32 });
    row.rest = ByteRange { at: walk.at(), len: walk.rest.len() as u32 };
    walk.count(0x50)?;
    walk.messages(0x5a, |event| is_plain(&EVENT, event, IN_SPAN - 1).is_ok_and(|plain| plain))?;
    walk.count(0x60)?;
    walk.messages(0x6a, |link| is_plain(&LINK, link, IN_SPAN - 1).is_ok_and(|plain| plain))?;
    walk.count(0x70)?;
    walk.status(row)?;
    if !early_flags {
        walk.flags()?;
    }
    row.size = len - walk.waste;
    walk.rest.is_empty().then_some(())
}

/// Whether a resource is plain and has nothing but attributes, which are noted in `index`. `false`: it may be anything.
pub(super) fn is_plain_resource(bytes: &[u8], index: &mut Vec<AttributeEntry>) -> bool {
    index::walk(bytes, 0x0a, IN_SPAN, index).is_some_and(<[u8]>::is_empty)
}

// === impl Walk ===

impl Walk<'_> {
    fn at(&self) -> u32 {
        self.end - self.rest.len() as u32
    }

    #[inline(always)]
    fn bytes(&mut self, key: u8) -> Option<ByteRange> {
        match self.rest {
            [k, tail @ ..] if *k == key => {
                let (value, rest) = short_bytes(tail)?;
                self.rest = rest;
                if value.is_empty() {
                    self.waste += 2;
                }
                let len = value.len() as u32;
                Some(ByteRange { at: self.at() - len, len })
            }
            _ => Some(ByteRange::default()),
        }
    }

    #[inline(always)]
    fn flags(&mut self) -> Option<bool> {
        match self.rest {
            [0x85, 0x01, a, b, c, d, rest @ ..] => {
                self.rest = rest;
                (a | b | c | d != 0).then_some(true)
            }
            _ => Some(false),
        }
    }

    /// Start and end, both there and not zero.
    #[inline(always)]
    fn times(&mut self) -> Option<(u64, u64)> {
        let (both, rest) = self.rest.split_first_chunk::<18>()?;
        self.rest = rest;
        let start = u64::from_le_bytes(*both[1..].first_chunk()?);
        let end = u64::from_le_bytes(*both[10..].first_chunk()?);
        (both[0] == 0x39 && both[9] == 0x41 && start != 0 && end != 0).then_some((start, end))
    }

    #[inline(always)]
    fn attributes(&mut self, index: &mut Vec<AttributeEntry>) -> Option<ByteRange> {
        let at = self.at();
        self.rest = index::walk(self.rest, 0x4a, IN_SPAN - 1, index)?;
        Some(ByteRange { at, len: self.at() - at })
    }

    #[inline(always)]
    fn messages(&mut self, key: u8, is_plain: impl Fn(&[u8]) -> bool) -> Option<()> {
        while let [k, tail @ ..] = self.rest
            && *k == key
        {
            let (message, rest) = short_bytes(tail)?;
            if !is_plain(message) {
                return None;
            }
            self.rest = rest;
        }
        Some(())
    }

    /// One of the dropped-counts, small and not zero if it is there.
    #[inline(always)]
    fn count(&mut self, key: u8) -> Option<()> {
        match self.rest {
            [k, 1..0x80, rest @ ..] if *k == key => self.rest = rest,
            [k, ..] if *k == key => return None,
            _ => {}
        }
        Some(())
    }

    #[inline(always)]
    fn status(&mut self, row: &mut Row) -> Option<()> {
        let [0x7a, tail @ ..] = self.rest else { return Some(()) };
        let (status, rest) = short_bytes(tail)?;
        match status {
            [] => {}
            [0x18, code @ 1..0x80] => row.status_code = i32::from(*code),
            _ => {
                if !is_plain(&STATUS, status, IN_SPAN - 1).ok()? {
                    return None;
                }
                row.read_status(status, self.end - rest.len() as u32 - status.len() as u32);
            }
        }
        self.rest = rest;
        Some(())
    }
}

/// Whether this is a plain `KeyValue` of a key and a text, bool, int, double or nothing. `false` only means that it
/// does not look like one.
#[inline(always)]
pub(super) fn key_value_is_plain(message: &[u8]) -> bool {
    let [0x0a, tail @ ..] = message else { return false };
    let Some((key, [0x12, tail @ ..])) = short_bytes(tail) else { return false };
    let Some((value, [])) = short_bytes(tail) else { return false };
    !key.is_empty()
        && match value {
            [0x0a, tail @ ..] => matches!(short_bytes(tail), Some((_, []))),
            value => index::is_plain_scalar(value),
        }
}
