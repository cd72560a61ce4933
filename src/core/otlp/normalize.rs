//! Writes a message again the canonical way: fields in order, each singular one once, no zeros, nothing unknown.

use super::schema::{FieldType, Label, Schema, Type};
use super::wire::{Fields, Payload};
use crate::core::model::wire::{put_bytes, put_u64, varint_len};

/// Appends the canonical encoding of a message that passed `is_plain` without an error (whatever it answered).
pub(super) fn rewrite(schema: &Schema, message: &[u8], out: &mut Vec<u8>) {
    for field in schema.fields {
        let message = if field.label == Label::OneOf {
            let (chosen, run) = last_alternative(schema, message);
            if chosen != field.number {
                continue;
            }
            run
        } else {
            message
        };
        match field.label {
            Label::Repeated => payloads(message, field.number).for_each(|p| put(field, p, out)),
            Label::Singular | Label::OneOf => put_merged(field, message, out),
        }
    }
}

/// The number of the alternative that is active, and the bytes from its last uninterrupted run on.
fn last_alternative<'a>(schema: &Schema, message: &'a [u8]) -> (u32, &'a [u8]) {
    let mut found = (0, message);
    let mut fields = Fields::of(message);
    let mut before = message;
    while let Ok(Some(field)) = fields.next() {
        if matches!(schema.field(&field), Ok(Some(_))) && field.number != found.0 {
            found = (field.number, before);
        }
        before = fields.rest();
    }
    found
}

fn payloads(message: &[u8], number: u32) -> impl Iterator<Item = Payload<'_>> {
    let mut fields = Fields::of(message);
    std::iter::from_fn(move || fields.next().ok().flatten())
        .filter(move |field| field.number == number)
        .map(|field| field.payload)
}

/// The occurrences of a singular field as one: the last scalar wins, messages merge, which is what laying their bytes
/// end to end means.
fn put_merged(field: &FieldType, message: &[u8], out: &mut Vec<u8>) {
    let mut occurrences = payloads(message, field.number);
    let Some(mut last) = occurrences.next() else { return };
    let mut merged = Vec::new();
    for next in occurrences {
        if let (Type::Message(_), Payload::Bytes(before), Payload::Bytes(after)) = (field.ty, last, next) {
            if merged.is_empty() {
                merged.extend_from_slice(before);
            }
            merged.extend_from_slice(after);
        }
        last = next;
    }
    put(field, if merged.is_empty() { last } else { Payload::Bytes(&merged) }, out);
}

fn put(field: &FieldType, payload: Payload<'_>, out: &mut Vec<u8>) {
    let keeps_zero = field.label != Label::Singular;
    let key = |wire_type: u64| u64::from(field.number) << 3 | wire_type;
    match (field.ty, payload) {
        (Type::Message(inner), Payload::Bytes(b)) => {
            put_u64(out, key(2));
            let start = out.len();
            rewrite(inner, b, out);
            put_len_at(out, start);
        }
        (_, Payload::Bytes(b)) if keeps_zero || !b.is_empty() => {
            put_u64(out, key(2));
            put_bytes(out, b);
        }
        (ty, Payload::Varint(v)) if keeps_zero || ty.settle(v) != 0 => {
            put_u64(out, key(0));
            put_u64(out, ty.settle(v));
        }
        (_, Payload::Fixed64(b)) if keeps_zero || b != [0; 8] => {
            put_u64(out, key(1));
            out.extend_from_slice(&b);
        }
        (_, Payload::Fixed32(b)) if keeps_zero || b != [0; 4] => {
            put_u64(out, key(5));
            out.extend_from_slice(&b);
        }
        _ => {}
    }
}

/// Puts the length of everything from `start` on in front of it.
fn put_len_at(out: &mut Vec<u8>, start: usize) {
    let end = out.len();
    let len = (end - start) as u64;
    put_u64(out, len);
    debug_assert_eq!(out.len() - end, varint_len(len));
    out[start..].rotate_right(varint_len(len));
}
