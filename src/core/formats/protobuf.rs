//! Checks of protobuf before it is decoded to messages that take memory.

use super::FormatError;
use crate::core::model::wire::Reader;

/// A span has no more fields than this, those of the messages inside it included. Each takes a hundred bytes of memory, and two
/// of the record.
const MAX_FIELDS: usize = 100_000;

/// Reads the fields of a message: number, wire type, and what it holds. `None` when it is damaged.
pub(super) fn fields<'a>(message: &'a [u8], mut field: impl FnMut(u64, u64, &'a [u8], u64)) -> Option<()> {
    let mut r = Reader::new(message);
    while !r.is_empty() {
        let key = r.u64().ok()?;
        let (number, wire_type) = (key >> 3, key & 7);
        match wire_type {
            0 => field(number, 0, &[], r.u64().ok()?),
            1 => field(number, 1, r.take(8).ok()?, 0),
            2 => field(number, 2, r.bytes().ok()?, 0),
            5 => field(number, 5, r.take(4).ok()?, 0),
            _ => return None,
        }
        if number == 0 {
            return None;
        }
    }
    Some(())
}

/// Checks that a span does not have too many fields. Those of `inside` are messages with lists.
pub(super) fn bounded(span: &[u8], inside: &[u64], of: &'static str) -> Result<(), FormatError> {
    let mut count = 0_usize;
    let mut damaged = false;
    let walked = fields(span, |number, wire_type, payload, _| {
        count += 1;
        if wire_type == 2 && inside.contains(&number) {
            damaged |= fields(payload, |_, _, _, _| count += 1).is_none();
        }
    });
    if walked.is_none() || damaged {
        return Err(FormatError::Proto(of));
    }
    if count > MAX_FIELDS { Err(FormatError::TooManyFields(MAX_FIELDS)) } else { Ok(()) }
}
