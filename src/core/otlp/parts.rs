//! The parts of a span that few callers need: its events and links, read only when asked for.

use super::attributes::{Attributes, next_message};
use super::batch::Span;
use super::wire::{Fields, Payload};

/// The key bytes of `Span.events` and `Span.links`.
const EVENT_KEY: u8 = 0x5a;
const LINK_KEY: u8 = 0x6a;
/// The key byte of the attributes of an event.
const EVENT_ATTRIBUTES: u8 = 0x1a;

/// One event of a span.
#[derive(Debug, Clone, Copy)]
pub struct SpanEvent<'a> {
    /// Unix time, nanoseconds.
    pub time_ns: u64,
    /// The event's name, such as `exception`; not checked to be UTF-8.
    pub name: &'a [u8],
    /// The event's attributes.
    pub attributes: Attributes<'a>,
}

/// One link of a span.
#[derive(Debug, Clone, Copy)]
pub struct SpanLink<'a> {
    /// The trace that is linked to: 16 bytes when valid.
    pub trace_id: &'a [u8],
    /// The span that is linked to: 8 bytes when valid.
    pub span_id: &'a [u8],
}

// === impl Span ===

impl<'a> Span<'a> {
    /// The span's events, in order.
    pub fn events(&self) -> impl Iterator<Item = SpanEvent<'a>> + use<'a> {
        let mut bytes = self.rest;
        std::iter::from_fn(move || next_message(&mut bytes, EVENT_KEY).map(SpanEvent::read))
    }

    /// The span's links, in order.
    pub fn links(&self) -> impl Iterator<Item = SpanLink<'a>> + use<'a> {
        let mut bytes = self.rest;
        std::iter::from_fn(move || next_message(&mut bytes, LINK_KEY).map(SpanLink::read))
    }
}

// === impl SpanEvent ===

impl<'a> SpanEvent<'a> {
    fn read(message: &'a [u8]) -> Self {
        let mut event = Self { time_ns: 0, name: &[], attributes: Attributes::of_field(message, EVENT_ATTRIBUTES) };
        let mut fields = Fields::of(message);
        while let Ok(Some(field)) = fields.next() {
            match (field.number, field.payload) {
                (1, Payload::Fixed64(b)) => event.time_ns = u64::from_le_bytes(b),
                (2, Payload::Bytes(b)) => event.name = b,
                _ => {}
            }
        }
        event
    }
}

// === impl SpanLink ===

impl<'a> SpanLink<'a> {
    fn read(message: &'a [u8]) -> Self {
        let mut link = Self { trace_id: &[], span_id: &[] };
        let mut fields = Fields::of(message);
        while let Ok(Some(field)) = fields.next() {
            match (field.number, field.payload) {
                (1, Payload::Bytes(b)) => link.trace_id = b,
                (2, Payload::Bytes(b)) => link.span_id = b,
                _ => {}
            }
        }
        link
    }
}
