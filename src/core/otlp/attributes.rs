//! Attributes and their values, read in place.

use std::borrow::Cow;
use std::io::Write as _;
use std::ops::ControlFlow;

use super::index::{AttributeEntry, bit};
use super::wire::{Fields, Payload, short_bytes};
use crate::core::model::Spelling;

/// No value of a decoded record nests deeper; the limit is for bytes that were not decoded.
const NESTING: u32 = super::schema::NESTING;

/// A list of attributes, in the record's order. Keys may repeat.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Fields with the key below, and others between them if the encoder mixed them.
    bytes: &'a [u8],
    field_key: u8,
    /// Where each of them lies, if that is known.
    index: Option<&'a [AttributeEntry]>,
}

/// An attribute's value: an `AnyValue`, or none.
#[derive(Debug, Clone, Copy)]
pub struct AttributeValue<'a>(&'a [u8]);

/// What a [`AttributeValue`] is. Texts and keys are not checked to be UTF-8.
#[derive(Debug, Clone, Copy)]
pub enum ValueKind<'a> {
    /// No value, an `AnyValue` without contents, or one that refers to a table that OTLP traces do not have.
    Unset,
    /// A string.
    Text(&'a [u8]),
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// A list of values.
    Array(Values<'a>),
    /// A list of keys and values.
    Map(Attributes<'a>),
    /// Raw bytes.
    Bytes(&'a [u8]),
}

/// The values of an array, in order.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a>(&'a [u8]);

/// A text that should become a label is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an attribute value is not UTF-8; fix the instrumentation that sets it")]
pub struct InvalidUtf8;

// === impl Attributes ===

impl<'a> Attributes<'a> {
    /// Those of a `Resource`, or of a `KeyValueList`.
    pub(super) fn of_resource(bytes: &'a [u8]) -> Self {
        Self { bytes, field_key: 0x0a, index: None }
    }

    /// Those of a `Span`: its fields number 9.
    pub(super) fn of_span(bytes: &'a [u8]) -> Self {
        Self { bytes, field_key: 0x4a, index: None }
    }

    /// Those of another message, whose field has the key byte `field_key`.
    pub(super) fn of_field(bytes: &'a [u8], field_key: u8) -> Self {
        Self { bytes, field_key, index: None }
    }

    /// The same, with the positions of attributes in `index`.
    pub(super) fn indexed(self, index: Option<&'a [AttributeEntry]>) -> Self {
        Self { index, ..self }
    }

    /// All keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], AttributeValue<'a>)> + use<'a> {
        let Self { mut bytes, field_key, index } = *self;
        let all = bytes;
        let mut index = index.map(<[AttributeEntry]>::iter);
        std::iter::from_fn(move || match &mut index {
            Some(index) => index.next().map(|entry| (entry.key(all), AttributeValue(entry.value(all)))),
            None => next_message(&mut bytes, field_key).map(key_value),
        })
    }

    /// Calls `found` for keys and values where the bit of the key's length is set in `lengths`, until it returns true.
    #[inline]
    pub(super) fn of_lengths(
        &self,
        lengths: u64,
        mut found: impl FnMut(&'a [u8], AttributeValue<'a>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Self { bytes, index, .. } = *self;
        let Some(index) = index else {
            let mut wanted = self.iter().filter(|(key, _)| bit(key.len()) & lengths != 0);
            return wanted.try_for_each(|(key, value)| found(key, value));
        };
        for entry in index {
            if entry.key_bit() & lengths != 0 {
                found(entry.key(bytes), AttributeValue(entry.value(bytes)))?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The value of the first attribute with this key.
    #[inline]
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<AttributeValue<'a>> {
        match self.index {
            Some(index) => {
                let entry = index.iter().find(|entry| entry.has_key(key, self.bytes))?;
                Some(AttributeValue(entry.value(self.bytes)))
            }
            None => self.iter().find(|(k, _)| *k == key).map(|(_, value)| value),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

// === impl Values ===

impl<'a> Values<'a> {
    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = AttributeValue<'a>> + use<'a> {
        let mut bytes = self.0;
        std::iter::from_fn(move || next_message(&mut bytes, 0x0a).map(AttributeValue))
    }
}

// === impl AttributeValue ===

impl<'a> AttributeValue<'a> {
    #[cfg(test)]
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What the value is.
    #[must_use]
    pub fn kind(&self) -> ValueKind<'a> {
        let Ok(Some(field)) = Fields::of(self.0).next() else { return ValueKind::Unset };
        match (field.number, field.payload) {
            (1, Payload::Bytes(b)) => ValueKind::Text(b),
            (2, Payload::Varint(v)) => ValueKind::Bool(v != 0),
            (3, Payload::Varint(v)) => ValueKind::Int(v.cast_signed()),
            (4, Payload::Fixed64(b)) => ValueKind::Double(f64::from_le_bytes(b)),
            (5, Payload::Bytes(b)) => ValueKind::Array(Values(b)),
            (6, Payload::Bytes(b)) => ValueKind::Map(Attributes::of_resource(b)),
            (7, Payload::Bytes(b)) => ValueKind::Bytes(b),
            _ => ValueKind::Unset,
        }
    }

    /// The text, if the value is a string.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> Option<&'a [u8]> {
        if let [0x0a, tail @ ..] = self.0
            && let Some((text, [])) = short_bytes(tail)
        {
            return Some(text);
        }
        match self.kind() {
            ValueKind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as bytes that are UTF-8 if the texts inside it are: a string as it is, without copying, everything
    /// else as [`AttributeValue::stringify`] writes it.
    #[must_use]
    pub fn text(&self) -> Cow<'a, [u8]> {
        if let Some(text) = self.as_str() {
            return Cow::Borrowed(text);
        }
        match self.kind() {
            ValueKind::Unset | ValueKind::Bytes(_) => Cow::Borrowed(&[]),
            _ => {
                let mut out = Vec::new();
                self.put_text(&mut out);
                Cow::Owned(out)
            }
        }
    }

    /// Appends [`AttributeValue::text`]. Allocates nothing but what `out` needs to grow.
    #[inline]
    pub fn put_text(&self, out: &mut Vec<u8>) {
        match self.as_str() {
            Some(text) => out.extend_from_slice(text),
            None => self.write(out, NESTING),
        }
    }

    /// The same as [`AttributeValue::text`] in another spelling.
    #[must_use]
    pub fn text_as(&self, spelling: Spelling) -> Cow<'a, [u8]> {
        match (self.as_str(), spelling) {
            (Some(text), _) => Cow::Borrowed(text),
            (None, Spelling::Tempo) => self.text(),
            (None, Spelling::Collector) => {
                let mut out = Vec::new();
                self.write_as_collector(&mut out);
                Cow::Owned(out)
            }
        }
    }

    /// Appends [`AttributeValue::text_as`].
    #[inline]
    pub fn put_text_as(&self, spelling: Spelling, out: &mut Vec<u8>) {
        match (self.as_str(), spelling) {
            (Some(text), _) => out.extend_from_slice(text),
            (None, Spelling::Tempo) => self.write(out, NESTING),
            (None, Spelling::Collector) => self.write_as_collector(out),
        }
    }

    /// Appends the value as a label would show it, the way Tempo does: strings as they are, `true`, integers and
    /// doubles in decimal without exponent, arrays as `[ab]`, maps as `{k:vk:v}`, bytes and unset values as nothing.
    ///
    /// # Errors
    /// When a text in it is not UTF-8; `out` is then as it was.
    pub fn stringify(&self, out: &mut String) -> Result<(), InvalidUtf8> {
        out.push_str(std::str::from_utf8(&self.text()).map_err(|_| InvalidUtf8)?);
        Ok(())
    }

    fn write(&self, out: &mut Vec<u8>, nesting: u32) {
        let Some(nesting) = nesting.checked_sub(1) else { return };
        match self.kind() {
            ValueKind::Text(text) => out.extend_from_slice(text),
            ValueKind::Array(values) => {
                out.push(b'[');
                values.iter().for_each(|value| value.write(out, nesting));
                out.push(b']');
            }
            ValueKind::Map(attributes) => {
                out.push(b'{');
                for (key, value) in attributes.iter() {
                    out.extend_from_slice(key);
                    out.push(b':');
                    value.write(out, nesting);
                }
                out.push(b'}');
            }
            scalar => put_scalar(scalar, out),
        }
    }
}

/// Appends a bool or a number. A double becomes the shortest decimal without exponent that reads back as the same, as
/// Go's `strconv.FormatFloat(v, 'f', -1, 64)` writes it.
fn put_scalar(kind: ValueKind<'_>, out: &mut Vec<u8>) {
    let written = match kind {
        ValueKind::Bool(v) => write!(out, "{v}"),
        ValueKind::Int(v) => write!(out, "{v}"),
        ValueKind::Double(v) if v.is_infinite() => write!(out, "{}", if v > 0.0 { "+Inf" } else { "-Inf" }),
        ValueKind::Double(v) => write!(out, "{v}"),
        _ => Ok(()),
    };
    written.expect("writing to a Vec cannot fail");
}

/// The next sub-message of a field whose key is one byte; other fields are skipped.
#[inline(always)]
pub(super) fn next_message<'a>(bytes: &mut &'a [u8], field_key: u8) -> Option<&'a [u8]> {
    if let [key, tail @ ..] = *bytes
        && *key == field_key
        && let Some((message, rest)) = short_bytes(tail)
    {
        *bytes = rest;
        return Some(message);
    }
    next_message_among_others(bytes, field_key)
}

#[inline(never)]
fn next_message_among_others<'a>(bytes: &mut &'a [u8], field_key: u8) -> Option<&'a [u8]> {
    let mut fields = Fields::of(bytes);
    while let Ok(Some(field)) = fields.next() {
        if field.number == u32::from(field_key >> 3)
            && let Payload::Bytes(message) = field.payload
        {
            *bytes = fields.rest();
            return Some(message);
        }
    }
    *bytes = &[];
    None
}

/// Key and value of a plain `KeyValue`.
#[inline(always)]
fn key_value(message: &[u8]) -> (&[u8], AttributeValue<'_>) {
    if let [0x0a, tail @ ..] = message
        && let Some((key, [0x12, tail @ ..])) = short_bytes(tail)
        && let Some((value, [])) = short_bytes(tail)
    {
        return (key, AttributeValue(value));
    }
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut fields = Fields::of(message);
    while let Ok(Some(field)) = fields.next() {
        match (field.number, field.payload) {
            (1, Payload::Bytes(b)) => key = b,
            (2, Payload::Bytes(b)) => value = b,
            _ => {}
        }
    }
    (key, AttributeValue(value))
}
