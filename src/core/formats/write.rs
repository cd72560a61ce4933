//! OTLP in protobuf, field by field, as a canonical encoder writes it: in the order of field numbers, and no zeros.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::core::model::wire::{put_bytes, put_u64};

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, [u8]>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(&'a [u8]),
}

/// Attributes as a map in the order in which their keys came first; of a key that comes twice the last value counts.
#[derive(Debug, Default)]
pub(super) struct Attributes<'a> {
    list: Vec<(&'a [u8], Option<Value<'a>>)>,
    places: BTreeMap<&'a [u8], usize>,
}

/// One span. Events and links are encoded already, as [`event`] and [`link`] do it.
#[derive(Debug, Default)]
pub(super) struct SpanFields<'a> {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) trace_state: &'a [u8],
    /// Zeros if there is none.
    pub(super) parent: [u8; 8],
    pub(super) name: &'a [u8],
    pub(super) kind: u64,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) attributes: Attributes<'a>,
    pub(super) events: Vec<u8>,
    pub(super) links: Vec<u8>,
    pub(super) status_code: u64,
    pub(super) status_message: &'a [u8],
    pub(super) flags: u32,
}

/// The kinds of spans, as OTLP numbers them.
pub(super) const INTERNAL: u64 = 1;
pub(super) const SERVER: u64 = 2;
pub(super) const CLIENT: u64 = 3;
pub(super) const PRODUCER: u64 = 4;
pub(super) const CONSUMER: u64 = 5;

/// The codes of a status.
pub(super) const OK: u64 = 1;
pub(super) const ERROR: u64 = 2;

/// Puts spans together to a request. Spans that follow each other with the same resource and scope share them.
#[derive(Debug)]
pub(super) struct Request<'a> {
    out: &'a mut Vec<u8>,
    resource: Vec<u8>,
    scope: Vec<u8>,
    /// Where the open `ResourceSpans` and the open `ScopeSpans` begin.
    open: Option<(usize, usize)>,
}

// === impl Request ===

impl<'a> Request<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, resource: Vec::new(), scope: Vec::new(), open: None }
    }

    /// Appends a span of an encoded resource and scope.
    pub(super) fn span(&mut self, resource: &[u8], scope: &[u8], span: &SpanFields<'_>) {
        let same_resource = self.open.is_some() && self.resource == resource;
        if !same_resource || self.scope != scope {
            self.begin(resource, scope, same_resource);
        }
        nested(self.out, 2, |out| span.put(out));
    }

    fn begin(&mut self, resource: &[u8], scope: &[u8], same_resource: bool) {
        let spans_of_resource = match self.open {
            Some((outer, inner)) if same_resource => {
                close(self.out, inner);
                outer
            }
            _ => {
                self.end();
                put_u64(self.out, key(1, 2));
                let outer = open(self.out);
                message(self.out, 1, resource);
                self.resource = resource.to_vec();
                outer
            }
        };
        put_u64(self.out, key(2, 2));
        self.open = Some((spans_of_resource, open(self.out)));
        message(self.out, 1, scope);
        self.scope = scope.to_vec();
    }

    /// Closes what is open.
    pub(super) fn end(&mut self) {
        if let Some((outer, inner)) = self.open.take() {
            close(self.out, inner);
            close(self.out, outer);
        }
    }
}

// === impl SpanFields ===

impl SpanFields<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        id(out, 1, &self.trace_id);
        id(out, 2, &self.span_id);
        bytes(out, 3, self.trace_state);
        id(out, 4, &self.parent);
        bytes(out, 5, self.name);
        varint(out, 6, self.kind);
        fixed64(out, 7, self.start_ns);
        fixed64(out, 8, self.end_ns);
        self.attributes.put(9, out);
        out.extend_from_slice(&self.events);
        out.extend_from_slice(&self.links);
        if self.status_code != 0 || !self.status_message.is_empty() {
            nested(out, 15, |out| {
                bytes(out, 2, self.status_message);
                varint(out, 3, self.status_code);
            });
        }
        if self.flags != 0 {
            put_u64(out, key(16, 5));
            out.extend_from_slice(&self.flags.to_le_bytes());
        }
    }
}

/// Appends an event of a span.
pub(super) fn event(out: &mut Vec<u8>, time_ns: u64, name: &[u8], attributes: &Attributes<'_>, dropped: u32) {
    nested(out, 11, |out| {
        fixed64(out, 1, time_ns);
        bytes(out, 2, name);
        attributes.put(3, out);
        varint(out, 4, dropped.into());
    });
}

/// Appends a link of a span.
pub(super) fn link(
    out: &mut Vec<u8>,
    (trace_id, span_id): (&[u8; 16], &[u8; 8]),
    trace_state: &[u8],
    attributes: &Attributes<'_>,
    dropped: u32,
) {
    nested(out, 13, |out| {
        id(out, 1, trace_id);
        id(out, 2, span_id);
        bytes(out, 3, trace_state);
        attributes.put(4, out);
        varint(out, 5, dropped.into());
    });
}

/// A resource with these attributes.
pub(super) fn resource(attributes: &Attributes<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    attributes.put(1, &mut out);
    out
}

/// An instrumentation scope.
pub(super) fn scope(name: &[u8], version: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 1, name);
    bytes(&mut out, 2, version);
    out
}

// === impl Attributes ===

impl<'a> Attributes<'a> {
    /// Sets an attribute.
    pub(super) fn set(&mut self, key: &'a [u8], value: Value<'a>) {
        match self.places.get(key) {
            Some(&at) => self.list[at].1 = Some(value),
            None => {
                self.places.insert(key, self.list.len());
                self.list.push((key, Some(value)));
            }
        }
    }

    pub(super) fn text(&mut self, key: &'a [u8], value: impl Into<Cow<'a, [u8]>>) {
        self.set(key, Value::Text(value.into()));
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Value<'a>> {
        self.places.get(key).and_then(|&at| self.list[at].1.as_ref())
    }

    /// Takes an attribute away.
    pub(super) fn take(&mut self, key: &[u8]) -> Option<Value<'a>> {
        let at = self.places.remove(key)?;
        self.list[at].1.take()
    }

    fn put(&self, number: u64, out: &mut Vec<u8>) {
        for (name, value) in &self.list {
            let Some(value) = value else { continue };
            nested(out, number, |out| {
                bytes(out, 1, name);
                nested(out, 2, |out| value.put(out));
            });
        }
    }
}

// === impl Value ===

impl<'a> Value<'a> {
    /// The text; empty if it is none.
    pub(super) fn into_text(self) -> Cow<'a, [u8]> {
        if let Self::Text(text) = self { text } else { Cow::Borrowed(&[]) }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                put_u64(out, key(1, 2));
                put_bytes(out, text);
            }
            Self::Bool(value) => {
                put_u64(out, key(2, 0));
                put_u64(out, u64::from(*value));
            }
            Self::Int(value) => {
                put_u64(out, key(3, 0));
                put_u64(out, value.cast_unsigned());
            }
            Self::Double(value) => {
                put_u64(out, key(4, 1));
                out.extend_from_slice(&value.to_bits().to_le_bytes());
            }
            Self::Bytes(value) => {
                put_u64(out, key(7, 2));
                put_bytes(out, value);
            }
        }
    }
}

const fn key(number: u64, wire_type: u64) -> u64 {
    number << 3 | wire_type
}

/// An ID; zeros are none.
fn id<const N: usize>(out: &mut Vec<u8>, number: u64, id: &[u8; N]) {
    if *id != [0; N] {
        bytes(out, number, id);
    }
}

fn bytes(out: &mut Vec<u8>, number: u64, value: &[u8]) {
    if !value.is_empty() {
        put_u64(out, key(number, 2));
        put_bytes(out, value);
    }
}

/// A message that is encoded already; it is there even if it is empty.
fn message(out: &mut Vec<u8>, number: u64, value: &[u8]) {
    put_u64(out, key(number, 2));
    put_bytes(out, value);
}

fn varint(out: &mut Vec<u8>, number: u64, value: u64) {
    if value != 0 {
        put_u64(out, key(number, 0));
        put_u64(out, value);
    }
}

fn fixed64(out: &mut Vec<u8>, number: u64, value: u64) {
    if value != 0 {
        put_u64(out, key(number, 1));
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn nested(out: &mut Vec<u8>, number: u64, write: impl FnOnce(&mut Vec<u8>)) {
    put_u64(out, key(number, 2));
    let start = open(out);
    write(out);
    close(out, start);
}

/// Leaves room for the length of a short message, which most are.
pub(super) fn open(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len()
}

/// Puts the length of everything from `start` on before it.
pub(super) fn close(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    if length < 0x80 {
        out[start - 1] = length as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(5);
    put_u64(&mut prefix, length as u64);
    out.splice(start - 1..start, prefix);
}
