//! Checks any message against its table, and returns whether it is already as long as its canonical encoding.

use super::DecodeError;
use super::fast;
use super::schema::{KEY_VALUE, Label, Schema, Type};
use super::wire::{Fields, Payload};

/// Whether `message` is plain: a canonical encoding would at most reorder its fields. `nesting` is how many more
/// messages may be nested.
///
/// # Errors
/// When the bytes are not such a message, however deep the flaw lies.
pub(super) fn is_plain(schema: &Schema, message: &[u8], nesting: u32) -> Result<bool, DecodeError> {
    let mut fields = Fields::of(message);
    let (mut plain, mut seen) = (true, 0_u32);
    while let Some(field) = fields.next()? {
        plain &= field.minimal;
        let Some(known) = schema.field(&field)? else {
            nesting.checked_sub(1).ok_or(DecodeError::TooDeep)?;
            plain = false;
            continue;
        };
        // The alternatives of a one-of share the bit that no field number has.
        let bit = if known.label == Label::OneOf { 1 } else { 1 << known.number };
        plain &= known.label == Label::Repeated || seen & bit == 0;
        seen |= bit;
        let keeps_zero = known.label != Label::Singular;
        plain &= match (known.ty, field.payload) {
            (Type::Message(inner), Payload::Bytes(b)) => {
                let nesting = nesting.checked_sub(1).ok_or(DecodeError::TooDeep)?;
                (nesting > 0 && std::ptr::eq(inner, &KEY_VALUE) && fast::key_value_is_plain(b))
                    || is_plain(inner, b, nesting)?
            }
            (_, Payload::Bytes(b)) => keeps_zero || !b.is_empty(),
            (ty, Payload::Varint(v)) => ty.settle(v) == v && (keeps_zero || v != 0),
            (_, Payload::Fixed64(b)) => keeps_zero || b != [0; 8],
            (_, Payload::Fixed32(b)) => keeps_zero || b != [0; 4],
        };
    }
    Ok(plain)
}
