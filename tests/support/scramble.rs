//! Writes a valid OTLP request in ways that no sane encoder would, meaning the same or not.

/// A small random stream (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

/// A message: the wire types of its fields from number 1 on, and those that are messages, number and which.
type Shape = (&'static [u64], &'static [(u64, usize)]);

/// Index 0 is `ExportTraceServiceRequest`.
const MESSAGES: [Shape; 12] = [
    (&[2], &[(1, 1)]),               // ExportTraceServiceRequest
    (&[2, 2, 2], &[(1, 2), (2, 3)]), // ResourceSpans
    (&[2, 0, 2], &[(1, 8)]),         // Resource
    (&[2, 2, 2], &[(1, 4), (2, 5)]), // ScopeSpans
    (&[2, 2, 2, 0], &[(3, 8)]),      // InstrumentationScope
    (&[2, 2, 2, 2, 2, 0, 1, 1, 2, 0, 2, 0, 2, 0, 2, 5], &[(9, 8), (11, 6), (13, 7), (15, 11)]), // Span
    (&[1, 2, 2, 0], &[(3, 8)]),      // Event
    (&[2, 2, 2, 2, 0, 5], &[(4, 8)]), // Link
    (&[2, 2, 0], &[(2, 9)]),         // KeyValue
    (&[2, 0, 0, 1, 2, 2, 2, 0], &[(5, 10), (6, 2)]), // AnyValue; a KeyValueList has the shape of a Resource
    (&[2], &[(1, 9)]),               // ArrayValue
    (&[2, 2, 0], &[]),               // Status
];

struct Field {
    number: u64,
    wire_type: u64,
    varint: u64,
    bytes: Vec<u8>,
}

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// `message` again with its fields mixed up at every level. Something odd happens to about one field in `calm`.
pub(crate) fn scramble(message: &[u8], which: usize, calm: u64, dice: &mut Dice) -> Vec<u8> {
    let mut fields = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let mut field = take_field(&mut rest);
        let inner = MESSAGES[which].1.iter().find(|(number, _)| field.wire_type == 2 && *number == field.number);
        if let Some((_, inner)) = inner {
            field.bytes = scramble(&field.bytes, *inner, calm, dice);
            if dice.below(calm) == 0 {
                fields.push(split_off_one_field(&mut field));
            }
        }
        fields.push(field);
    }
    if dice.below(calm) == 0 {
        for i in (1..fields.len()).rev() {
            fields.swap(i, dice.below(i as u64 + 1) as usize);
        }
    }
    if !fields.is_empty() && dice.below(calm) == 0 {
        let i = dice.below(fields.len() as u64) as usize;
        let Field { number, wire_type, varint, ref bytes } = fields[i];
        fields.insert(i, Field { number, wire_type, varint, bytes: bytes.clone() });
    }
    if dice.below(calm) == 0 {
        let at = dice.below(fields.len() as u64 + 1) as usize;
        fields.insert(at, strange_field(dice));
    }
    if dice.below(calm) == 0 {
        let field = fitting_field(MESSAGES[which].0, dice);
        let at = fields.iter().position(|f| f.number >= field.number).unwrap_or(fields.len());
        fields.insert(at, field);
    }
    if which == 5 && dice.below(3) == 0 {
        // The Collector's order: flags before the name.
        fields.sort_by_key(|f| if f.number == 16 { 9 } else { f.number * 2 });
    }
    let mut out = Vec::new();
    fields.iter().for_each(|field| put_field(field, calm, dice, &mut out));
    out
}

/// Moves the first field of a submessage into a submessage of its own.
fn split_off_one_field(field: &mut Field) -> Field {
    let mut rest = field.bytes.as_slice();
    if !rest.is_empty() {
        take_field(&mut rest);
    }
    let keep = rest.to_vec();
    let mut bytes = std::mem::replace(&mut field.bytes, keep);
    bytes.truncate(bytes.len() - field.bytes.len());
    Field { bytes, ..*field }
}

/// A field that the message knows, often a zero that should not have been written.
fn fitting_field(wire_types: &[u64], dice: &mut Dice) -> Field {
    let number = 1 + dice.below(wire_types.len() as u64);
    let wire_type = wire_types[number as usize - 1];
    let varint = [0, 0, 0, 1, 127, 128, u64::MAX, 1 << 32, (1 << 32) + 1][dice.below(9) as usize];
    let bytes = vec![dice.below(2) as u8; [0, 8, 0, 0, 0, 4][wire_type as usize]];
    Field { number, wire_type, varint, bytes }
}

/// An unknown field, or a known one with a zero, a huge number or a wrong type.
fn strange_field(dice: &mut Dice) -> Field {
    let number = if dice.below(2) == 0 { 1 + dice.below(16) } else { 17 + dice.below(1 << 20) };
    let varint = [0, 1, u64::MAX, 0xffff_ffff, 0x1_0000_0001][dice.below(5) as usize];
    let wire_type = [0, 0, 1, 2, 2, 5][dice.below(6) as usize];
    let bytes = vec![dice.below(3) as u8; [0, 8, 0, 0, 0, 4][wire_type as usize]];
    Field { number, wire_type, varint, bytes }
}

fn take_field(rest: &mut &[u8]) -> Field {
    let key = take_varint(rest);
    let mut field = Field { number: key >> 3, wire_type: key & 7, varint: 0, bytes: Vec::new() };
    let len = match field.wire_type {
        0 => {
            field.varint = take_varint(rest);
            0
        }
        1 => 8,
        2 => take_varint(rest) as usize,
        _ => 4,
    };
    let (bytes, tail) = rest.split_at(len);
    field.bytes = bytes.to_vec();
    *rest = tail;
    field
}

fn take_varint(rest: &mut &[u8]) -> u64 {
    let (mut v, mut shift) = (0, 0);
    loop {
        let b = rest[0];
        *rest = &rest[1..];
        v |= u64::from(b & 0x7f) << shift;
        shift += 7;
        if b < 0x80 {
            return v;
        }
    }
}

fn put_field(field: &Field, calm: u64, dice: &mut Dice, out: &mut Vec<u8>) {
    put_varint(field.number << 3 | field.wire_type, calm, dice, out);
    match field.wire_type {
        0 => put_varint(field.varint, calm, dice, out),
        2 => put_varint(field.bytes.len() as u64, calm, dice, out),
        _ => {}
    }
    out.extend_from_slice(&field.bytes);
}

/// A varint, now and then padded.
fn put_varint(mut v: u64, calm: u64, dice: &mut Dice, out: &mut Vec<u8>) {
    let start = out.len();
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
    if dice.below(calm * 4) == 0 && out.len() - start < 9 {
        *out.last_mut().expect("just pushed") |= 0x80;
        out.push(0);
    }
}
