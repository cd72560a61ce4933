//! Where attributes lie, so that a look-up of some need not walk over all.

use std::ops::ControlFlow;

use super::attributes::{AttributeValue, Attributes};
use super::fast::key_value_is_plain;
use super::plain::is_plain;
use super::schema::KEY_VALUE;
use super::wire::{Fields, Payload, short_bytes};

/// One attribute: its key, and behind it its value.
///
/// From the lowest bit on: the key's position (32 bits), from where the attributes begin; its length (8); the bytes
/// between key and value (8); the length of the value (16). One word, because it is written for every attribute.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttributeEntry(u64);

/// The keys of attributes that a processor reads, by number.
///
/// No processor reads most attributes. Most of those are skipped by the length of their key.
#[derive(Debug, Clone)]
pub struct Keys {
    keys: Vec<IndexedKey>,
    /// Per length of a key (63: or longer): one more than the number of the last such key; 0: there is none.
    heads: [u16; 64],
    /// Bit `n` is set when some key is `n` bytes long (bit 63: or longer).
    lengths: u64,
}

#[derive(Debug, Clone)]
struct IndexedKey {
    key: Box<[u8]>,
    last: u8,
    /// Another key of the same length, as in `heads`.
    next: u16,
}

// === impl Keys ===

impl Default for Keys {
    fn default() -> Self {
        Self { keys: Vec::new(), heads: [0; 64], lengths: 0 }
    }
}

impl Keys {
    /// The number of a key. Equal keys have the same one.
    ///
    /// # Panics
    /// With more than 65,534 keys.
    pub fn number(&mut self, key: &str) -> usize {
        let key = key.as_bytes();
        self.find(key).unwrap_or_else(|| {
            self.lengths |= bit(key.len());
            let next = self.heads[key.len().min(63)];
            self.keys.push(IndexedKey { key: key.into(), last: last(key), next });
            self.heads[key.len().min(63)] = u16::try_from(self.keys.len()).expect("there are far fewer attributes");
            self.keys.len() - 1
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key with a number.
    #[must_use]
    pub fn key(&self, number: usize) -> &[u8] {
        self.keys.get(number).map_or(&[], |key| &key.key)
    }

    #[inline]
    fn find(&self, key: &[u8]) -> Option<usize> {
        let mut at = self.heads[key.len().min(63)];
        while let Some(candidate) = self.keys.get(usize::from(at).wrapping_sub(1)) {
            if candidate.last == last(key) && *candidate.key == *key {
                return Some(usize::from(at) - 1);
            }
            at = candidate.next;
        }
        None
    }

    /// Calls `found` for the attributes with one of these keys, in order, with the number of the key, until it returns
    /// that it has enough.
    #[inline]
    pub fn visit<'a>(
        &self,
        attributes: Attributes<'a>,
        mut found: impl FnMut(usize, AttributeValue<'a>) -> ControlFlow<()>,
    ) {
        let _enough = attributes.of_lengths(self.lengths, |key, value| match self.find(key) {
            Some(number) => found(number, value),
            None => ControlFlow::Continue(()),
        });
    }
}

/// The bit of a length.
#[inline(always)]
pub(super) fn bit(len: usize) -> u64 {
    1 << len.min(63)
}

#[inline(always)]
fn last(key: &[u8]) -> u8 {
    key.last().copied().unwrap_or_default()
}

// === impl AttributeEntry ===

impl AttributeEntry {
    #[inline(always)]
    fn new(at: u32, key_len: u8, gap: u8, value_len: u16) -> Self {
        Self(u64::from(at) | u64::from(key_len) << 32 | u64::from(gap) << 40 | u64::from(value_len) << 48)
    }

    #[inline(always)]
    fn key_len(self) -> usize {
        (self.0 >> 32) as usize & 0xff
    }

    #[inline(always)]
    pub(super) fn key_bit(self) -> u64 {
        bit(self.key_len())
    }

    /// The key; `attributes` is what was walked over.
    #[inline(always)]
    pub(super) fn key(self, attributes: &[u8]) -> &[u8] {
        part(attributes, self.0 as u32 as usize, self.key_len())
    }

    #[inline(always)]
    pub(super) fn value(self, attributes: &[u8]) -> &[u8] {
        let gap = (self.0 >> 40) as usize & 0xff;
        part(attributes, self.0 as u32 as usize + self.key_len() + gap, (self.0 >> 48) as usize)
    }

    #[inline(always)]
    pub(super) fn has_key(self, key: &[u8], attributes: &[u8]) -> bool {
        self.key_len() == key.len() && self.key(attributes) == key
    }
}

#[inline(always)]
fn part(bytes: &[u8], at: usize, len: usize) -> &[u8] {
    bytes.get(at..).and_then(|b| b.get(..len)).unwrap_or_default()
}

/// Walks over attributes, fields with the key byte `field_key`, and records where each of them lies. Returns what
/// follows them. `None`: not all of them are plain, or that needs a closer look.
///
/// Nearly every attribute is shorter than 128 bytes and has a key and a text. Its fixed bytes are then looked at two
/// times four at once. Never inlined, because this loop needs all registers.
#[inline(never)]
pub(super) fn walk<'a>(
    bytes: &'a [u8],
    field_key: u8,
    nesting: u32,
    index: &mut Vec<AttributeEntry>,
) -> Option<&'a [u8]> {
    const FIXED: u32 = 0x80ff_80ff;
    let head_of_short = 0x000a_0000 | u32::from(field_key);
    let mut rest = bytes;
    loop {
        let at = bytes.len() - rest.len();
        if let Some(head) = rest.first_chunk::<4>()
            && let head = u32::from_le_bytes(*head)
            && head & FIXED == head_of_short
            && let (len, key_len) = (head >> 8 & 0xff, head >> 24)
            && let Some((message, after)) = rest.split_at_checked(len as usize + 2)
            && let Some(value) = message.get(key_len as usize + 4..)
            && key_len > 0
            && is_short_value(value)
        {
            index.push(AttributeEntry::new(at as u32 + 4, key_len as u8, 2, (len - key_len - 4) as u16));
            rest = after;
        } else if rest.first() == Some(&field_key) {
            let (entry, after) = long(&rest[1..], at as u32 + 1, nesting)?;
            index.push(entry);
            rest = after;
        } else {
            return Some(rest);
        }
    }
}

/// Whether this is the field of a plain value of less than 128 bytes.
#[inline(always)]
fn is_short_value(field: &[u8]) -> bool {
    // That of a text: its two lengths follow from that of the field.
    const TEXT: u32 = 0x000a_0012;
    if let Some(head) = field.first_chunk::<4>() {
        let lengths = (field.len() as u32).wrapping_mul(0x0100_0100).wrapping_sub(0x0400_0200);
        if u32::from_le_bytes(*head) == TEXT | lengths {
            return true;
        }
    }
    matches!(field, [0x12, len, value @ ..] if value.len() == usize::from(*len) && is_plain_scalar(value))
}

/// Nothing, a bool, an int or a double, if it is certain to be plain.
#[inline(always)]
pub(super) fn is_plain_scalar(value: &[u8]) -> bool {
    match value {
        [] | [0x10, 0 | 1] | [0x18, 0..0x80] | [0x21, _, _, _, _, _, _, _, _] => true,
        // An int of 2 to 9 bytes.
        [0x18, head @ .., 1..0x80] => head.len() < 9 && head.iter().all(|&b| b >= 0x80),
        _ => false,
    }
}

/// Any other attribute.
#[inline(never)]
fn long(bytes: &[u8], at: u32, nesting: u32) -> Option<(AttributeEntry, &[u8])> {
    let (message, after) = short_bytes(bytes)?;
    if !key_value_is_plain(message) && !is_plain(&KEY_VALUE, message, nesting).ok()? {
        return None;
    }
    let start = at + (bytes.len() - after.len() - message.len()) as u32;
    let (mut key, mut value) = ((start, 0), (start, 0));
    let mut fields = Fields::of(message);
    while let Ok(Some(field)) = fields.next() {
        let end = start + (message.len() - fields.rest().len()) as u32;
        match (field.number, field.payload) {
            (1, Payload::Bytes(b)) => key = (end - b.len() as u32, b.len()),
            (2, Payload::Bytes(b)) => value = (end - b.len() as u32, b.len()),
            _ => {}
        }
    }
    let key_len = u8::try_from(key.1).ok()?;
    let gap = if value.1 == 0 { 0 } else { value.0.checked_sub(key.0 + u32::from(key_len))? };
    let value_len = u16::try_from(value.1).ok()?;
    Some((AttributeEntry::new(key.0, key_len, u8::try_from(gap).ok()?, value_len), after))
}
