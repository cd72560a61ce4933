//! Attributes and their values, read in place.

use std::borrow::Cow;
use std::io::Write as _;
use std::ops::ControlFlow;

use super::index::{Entry, bit};
use super::wire::{Fields, Payload, short_bytes};

/// No value of a decoded record nests deeper; the limit is for bytes that were not decoded.
const NESTING: u32 = super::schema::NESTING;

/// A list of attributes, in the record's order. Keys may repeat.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Fields with the key below, and others between them if the encoder mixed them.
    bytes: &'a [u8],
    field_key: u8,
    /// Where each of them lies, if that is known.
    index: Option<&'a [Entry]>,
}

/// An attribute's value: an `AnyValue`, or nothing at all.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a>(&'a [u8]);

/// What a [`Value`] is. Texts and keys are not checked to be UTF-8.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
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

    /// The same, where each attribute lies as `index` says.
    pub(super) fn indexed(self, index: Option<&'a [Entry]>) -> Self {
        Self { index, ..self }
    }

    /// All keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        let Self { mut bytes, field_key, index } = *self;
        let all = bytes;
        let mut index = index.map(<[Entry]>::iter);
        std::iter::from_fn(move || match &mut index {
            Some(index) => index.next().map(|entry| (entry.key(all), Value(entry.value(all)))),
            None => next_message(&mut bytes, field_key).map(key_value),
        })
    }

    /// Calls `found` for keys and values where the bit of the key's length is set in `lengths`, until it says so.
    #[inline]
    pub(super) fn of_lengths(
        &self,
        lengths: u64,
        mut found: impl FnMut(&'a [u8], Value<'a>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Self { bytes, index, .. } = *self;
        let Some(index) = index else {
            let mut wanted = self.iter().filter(|(key, _)| bit(key.len()) & lengths != 0);
            return wanted.try_for_each(|(key, value)| found(key, value));
        };
        for entry in index {
            if entry.key_bit() & lengths != 0 {
                found(entry.key(bytes), Value(entry.value(bytes)))?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The value of the first attribute with this key.
    #[inline]
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Value<'a>> {
        match self.index {
            Some(index) => {
                let entry = index.iter().find(|entry| entry.has_key(key, self.bytes))?;
                Some(Value(entry.value(self.bytes)))
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
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut bytes = self.0;
        std::iter::from_fn(move || next_message(&mut bytes, 0x0a).map(Value))
    }
}

// === impl Value ===

impl<'a> Value<'a> {
    #[cfg(test)]
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What the value is.
    #[must_use]
    pub fn kind(&self) -> Kind<'a> {
        let Ok(Some(field)) = Fields::of(self.0).next() else { return Kind::Unset };
        match (field.number, field.payload) {
            (1, Payload::Bytes(b)) => Kind::Text(b),
            (2, Payload::Varint(v)) => Kind::Bool(v != 0),
            (3, Payload::Varint(v)) => Kind::Int(v.cast_signed()),
            (4, Payload::Fixed64(b)) => Kind::Double(f64::from_le_bytes(b)),
            (5, Payload::Bytes(b)) => Kind::Array(Values(b)),
            (6, Payload::Bytes(b)) => Kind::Map(Attributes::of_resource(b)),
            (7, Payload::Bytes(b)) => Kind::Bytes(b),
            _ => Kind::Unset,
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
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as bytes that are UTF-8 if the texts inside it are: a string as it is, without copying, everything
    /// else as [`Value::stringify`] writes it.
    #[must_use]
    pub fn text(&self) -> Cow<'a, [u8]> {
        if let Some(text) = self.as_str() {
            return Cow::Borrowed(text);
        }
        match self.kind() {
            Kind::Unset | Kind::Bytes(_) => Cow::Borrowed(&[]),
            _ => {
                let mut out = Vec::new();
                self.put_text(&mut out);
                Cow::Owned(out)
            }
        }
    }

    /// Appends [`Value::text`]. Allocates nothing but what `out` needs to grow.
    #[inline]
    pub fn put_text(&self, out: &mut Vec<u8>) {
        match self.as_str() {
            Some(text) => out.extend_from_slice(text),
            None => self.write(out, NESTING),
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
            Kind::Text(text) => out.extend_from_slice(text),
            Kind::Array(values) => {
                out.push(b'[');
                values.iter().for_each(|value| value.write(out, nesting));
                out.push(b']');
            }
            Kind::Map(attributes) => {
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
fn put_scalar(kind: Kind<'_>, out: &mut Vec<u8>) {
    let written = match kind {
        Kind::Bool(v) => write!(out, "{v}"),
        Kind::Int(v) => write!(out, "{v}"),
        Kind::Double(v) if v.is_infinite() => write!(out, "{}", if v > 0.0 { "+Inf" } else { "-Inf" }),
        Kind::Double(v) => write!(out, "{v}"),
        _ => Ok(()),
    };
    written.expect("writing to a Vec cannot fail");
}

/// The next sub-message of a field whose key is one byte; other fields are passed over.
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
fn key_value(message: &[u8]) -> (&[u8], Value<'_>) {
    if let [0x0a, tail @ ..] = message
        && let Some((key, [0x12, tail @ ..])) = short_bytes(tail)
        && let Some((value, [])) = short_bytes(tail)
    {
        return (key, Value(value));
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
    (key, Value(value))
}
