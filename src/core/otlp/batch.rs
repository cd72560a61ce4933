//! A decoded record: positions of its resources and spans.

use super::attributes::Attributes;
use super::index::AttributeEntry;
use super::normalize::rewrite;
use super::plain::is_plain;
use super::schema::{IN_SPAN, RESOURCE, SCOPE, SPAN};
use super::wire::{Fields, Payload};
use super::{DecodeError, fast};

/// The positions of everything in one record. Made to be reused: after the first few records it allocates nothing.
///
/// It borrows nothing; the record's bytes are passed again for reading. Other bytes than were decoded
/// give wrong results, but no panic.
#[derive(Debug, Default)]
pub struct Batch {
    resources: Vec<ResourceRow>,
    scopes: Vec<ScopeRow>,
    rows: Vec<Row>,
    /// Where the attributes of all these lie.
    index: Vec<AttributeEntry>,
    /// Canonical encodings of what was not plain.
    rewritten: Vec<u8>,
    /// The request, if it was not the record itself.
    own: Option<Vec<u8>>,
    /// Whether its sender has excluded it from metrics.
    excluded: bool,
}

/// The spans of one resource.
#[derive(Debug, Clone, Copy)]
pub struct ResourceSpans<'a> {
    /// The attributes of the resource; empty also if the record names no resource.
    pub resource: Attributes<'a>,
    /// The resource message as bytes. Equal bytes mean equal attributes, so it can key a memo.
    pub raw: &'a [u8],
    first: u32,
    rows: &'a [Row],
    scopes: &'a [ScopeRow],
    index: &'a [AttributeEntry],
    bytes: &'a [u8],
    rewritten: &'a [u8],
}

/// An instrumentation scope. Neither text is checked to be UTF-8.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The library, such as `io.opentelemetry.jdbc`; empty if the record has none.
    pub name: &'a [u8],
    /// Its version; may be empty.
    pub version: &'a [u8],
}

/// One span, borrowed from the record. Texts are not checked to be UTF-8, ids may have any length.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// The index of the span within its record, from 0.
    pub ordinal: u32,
    /// 16 bytes when valid.
    pub trace_id: &'a [u8],
    /// 8 bytes when valid.
    pub span_id: &'a [u8],
    /// 8 bytes, or empty for a root span.
    pub parent_span_id: &'a [u8],
    /// The operation's name.
    pub name: &'a [u8],
    /// OTLP's `SpanKind`, or a number that it does not know.
    pub kind: i32,
    /// Unix time, nanoseconds.
    pub start_ns: u64,
    /// Unix time, nanoseconds; may lie before the start.
    pub end_ns: u64,
    /// OTLP's `StatusCode`, or a number that it does not know.
    pub status_code: i32,
    /// The status' description.
    pub status_message: &'a [u8],
    /// The W3C trace state.
    pub trace_state: &'a [u8],
    /// The span's own attributes.
    pub attributes: Attributes<'a>,
    /// The stretch that holds the events and links, and perhaps other fields.
    pub(super) rest: &'a [u8],
    /// Bytes of the span's canonical encoding: known fields only, no zeros, minimal varints.
    pub size: u32,
}

/// A stretch of the record, or of the rewritten bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct ByteRange {
    pub(super) at: u32,
    pub(super) len: u32,
}

/// One span as positions.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Row {
    pub(super) trace_id: ByteRange,
    pub(super) span_id: ByteRange,
    pub(super) trace_state: ByteRange,
    pub(super) parent_span_id: ByteRange,
    pub(super) name: ByteRange,
    pub(super) status_message: ByteRange,
    pub(super) attributes: ByteRange,
    /// The stretch of the batch's index that holds where each attribute lies; `None`: the reader has to walk over them.
    pub(super) index: Option<ByteRange>,
    /// Where events and links lie, among other fields.
    pub(super) rest: ByteRange,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) kind: i32,
    pub(super) status_code: i32,
    pub(super) size: u32,
    /// Whether the places lie in the rewritten bytes.
    pub(super) rewritten: bool,
}

#[derive(Debug, Clone, Copy)]
struct ResourceRow {
    resource: ByteRange,
    /// As in a [`Row`].
    index: Option<ByteRange>,
    rewritten: bool,
    first: usize,
    end: usize,
    /// The first of its scopes, and the one after its last.
    scopes: (usize, usize),
}

/// A scope: the spans from `first` on, up to the next scope, are its own. So a span need not know its scope, and a
/// caller that does not read scopes has no cost.
#[derive(Debug)]
struct ScopeRow {
    first: u32,
    name: ByteRange,
    version: ByteRange,
}

// === impl Batch ===

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the contents by those of a record, an `ExportTraceServiceRequest`.
    ///
    /// # Errors
    /// When the bytes are no such message; the batch is then empty.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.clear();
        let decoded = self.request(bytes);
        if decoded.is_err() {
            self.clear();
        }
        decoded
    }

    /// Replaces the contents by those of a request that `write` appends to an empty buffer, made of a record in another
    /// format. The request is kept here: the bytes that are passed for reading do not matter. If `write` answers false,
    /// the record's sender has excluded it from metrics.
    ///
    /// # Errors
    /// Those of `write`, and when what it wrote is no request; the batch is then empty.
    pub fn decode_from<E: From<DecodeError>>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<(), E> {
        self.clear();
        let mut own = Vec::new();
        let decoded = write(&mut own).and_then(|wanted| {
            self.excluded = !wanted;
            Ok(self.request(&own)?)
        });
        if decoded.is_err() {
            self.clear();
            return decoded;
        }
        self.own = Some(own);
        Ok(())
    }

    /// Whether the record's sender has excluded it from metrics. It has no spans then.
    #[must_use]
    pub fn is_excluded(&self) -> bool {
        self.excluded
    }

    /// The number of spans.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no span. There may be resources without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The resources with their spans, in the record's order. `bytes` is what was decoded.
    pub fn resources<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = ResourceSpans<'a>> {
        let bytes = self.own.as_deref().unwrap_or(bytes);
        self.resources.iter().map(move |row| {
            let raw = row.resource.of(if row.rewritten { &self.rewritten } else { bytes });
            ResourceSpans {
                resource: Attributes::of_resource(raw).indexed(row.index.and_then(|place| place.among(&self.index))),
                raw,
                first: row.first as u32,
                rows: &self.rows[row.first..row.end],
                scopes: &self.scopes[row.scopes.0..row.scopes.1],
                index: &self.index,
                bytes,
                rewritten: &self.rewritten,
            }
        })
    }

    /// Removes the spans with these ordinals, which ascend. The others keep theirs; a resource may come several times then,
    /// and one without spans not at all.
    pub fn remove(&mut self, ordinals: &[u32]) {
        let (mut kept, mut left) = (Vec::with_capacity(self.resources.len()), ordinals);
        for row in std::mem::take(&mut self.resources) {
            if row.first == row.end {
                kept.push(row);
            }
            let mut first = row.first;
            while let Some((&ordinal, rest)) = left.split_first().filter(|(ordinal, _)| (**ordinal as usize) < row.end)
            {
                kept.extend((first < ordinal as usize).then_some(ResourceRow { first, end: ordinal as usize, ..row }));
                (first, left) = (ordinal as usize + 1, rest);
            }
            kept.extend((first < row.end).then_some(ResourceRow { first, ..row }));
        }
        self.resources = kept;
    }

    /// When each span ended, in the record's order: Unix time, nanoseconds.
    pub fn ends(&self) -> impl Iterator<Item = u64> {
        self.rows.iter().map(|row| row.end_ns)
    }

    /// The memory that it takes besides its place.
    #[must_use]
    pub fn heap(&self) -> usize {
        self.resources.capacity() * size_of::<ResourceRow>()
            + self.scopes.capacity() * size_of::<ScopeRow>()
            + self.rows.capacity() * size_of::<Row>()
            + self.index.capacity() * size_of::<AttributeEntry>()
            + self.rewritten.capacity()
            + self.own.as_ref().map_or(0, Vec::capacity)
    }

    /// Gives back the memory that its contents do not need.
    pub fn shrink(&mut self) {
        self.resources.shrink_to_fit();
        self.scopes.shrink_to_fit();
        self.rows.shrink_to_fit();
        self.index.shrink_to_fit();
        self.rewritten.shrink_to_fit();
        if let Some(own) = &mut self.own {
            own.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(super) fn rewritten_len(&self) -> usize {
        self.rewritten.len()
    }

    #[cfg(test)]
    pub(super) fn capacities(&self) -> [usize; 5] {
        let positions = [self.resources.capacity(), self.scopes.capacity(), self.rows.capacity()];
        [positions[0], positions[1], positions[2], self.index.capacity(), self.rewritten.capacity()]
    }

    fn clear(&mut self) {
        self.resources.clear();
        self.scopes.clear();
        self.rows.clear();
        self.index.clear();
        self.rewritten.clear();
        self.own = None;
        self.excluded = false;
    }

    fn request(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let end = position(bytes.len())?;
        let mut fields = Fields::of(bytes);
        while let Some(field) = fields.next()? {
            match (field.number, field.payload) {
                (1, Payload::Bytes(b)) => {
                    touch(b);
                    self.resource_spans(b, end - position(fields.rest().len())?)?;
                }
                (1, _) => return Err(DecodeError::WireType { message: "ExportTraceServiceRequest", field: 1 }),
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads a `ResourceSpans` that ends at `end` of the record.
    fn resource_spans(&mut self, bytes: &[u8], end: u32) -> Result<(), DecodeError> {
        let (first, first_scope) = (self.rows.len(), self.scopes.len());
        let mut fields = Fields::of(bytes);
        let (mut resource, mut index) = (ByteRange::default(), None);
        let (mut plain, mut resources) = (true, 0_u32);
        while let Some(field) = fields.next()? {
            let field_end = end - fields.rest().len() as u32;
            match (field.number, field.payload) {
                (1, Payload::Bytes(b)) => {
                    index = self.index_resource(b);
                    plain &= index.is_some() || is_plain(&RESOURCE, b, IN_SPAN + 1)?;
                    resources += 1;
                    resource = ByteRange::ending(field_end, b);
                }
                (2, Payload::Bytes(b)) => self.scope_spans(b, field_end)?,
                (3, Payload::Bytes(_)) => {}
                (1..=3, _) => return Err(DecodeError::WireType { message: "ResourceSpans", field: field.number }),
                _ => {}
            }
        }
        let rewritten = !plain || resources > 1;
        if rewritten {
            (resource, index) = (self.rewrite_resource(bytes)?, None);
        }
        let scopes = (first_scope, self.scopes.len());
        self.resources.push(ResourceRow { resource, index, rewritten, first, end: self.rows.len(), scopes });
        Ok(())
    }

    /// Records where the attributes of a resource lie, if it is plain.
    fn index_resource(&mut self, resource: &[u8]) -> Option<ByteRange> {
        let first = self.index.len();
        if !fast::is_plain_resource(resource, &mut self.index) {
            self.index.truncate(first);
            return None;
        }
        Some(ByteRange { at: first as u32, len: (self.index.len() - first) as u32 })
    }

    /// Merges the resources of a `ResourceSpans` into one canonical message.
    fn rewrite_resource(&mut self, bytes: &[u8]) -> Result<ByteRange, DecodeError> {
        let mut merged = Vec::new();
        let mut fields = Fields::of(bytes);
        while let Some(field) = fields.next()? {
            if let (1, Payload::Bytes(b)) = (field.number, field.payload) {
                merged.extend_from_slice(b);
            }
        }
        let start = self.rewritten.len();
        rewrite(&RESOURCE, &merged, &mut self.rewritten);
        Ok(ByteRange::ending(position(self.rewritten.len())?, &self.rewritten[start..]))
    }

    fn scope_spans(&mut self, bytes: &[u8], end: u32) -> Result<(), DecodeError> {
        let mut scope =
            ScopeRow { first: self.rows.len() as u32, name: ByteRange::default(), version: ByteRange::default() };
        let mut fields = Fields::of(bytes);
        loop {
            // Nearly all are spans.
            while let Some(span) = fields.short(0x12) {
                self.span(span, end - (fields.rest().len() + span.len()) as u32)?;
            }
            let Some(field) = fields.next()? else { break };
            let field_end = end - fields.rest().len() as u32;
            match (field.number, field.payload) {
                (2, Payload::Bytes(b)) => self.span(b, field_end - b.len() as u32)?,
                (1, Payload::Bytes(b)) => {
                    is_plain(&SCOPE, b, IN_SPAN)?;
                    scope.read(b, field_end);
                }
                (3, Payload::Bytes(_)) => {}
                (1..=3, _) => return Err(DecodeError::WireType { message: "ScopeSpans", field: field.number }),
                _ => {}
            }
        }
        self.scopes.push(scope);
        Ok(())
    }

    #[inline]
    fn span(&mut self, bytes: &[u8], at: u32) -> Result<(), DecodeError> {
        let first = self.index.len();
        // Filled in place: rows are large.
        self.rows.push(Row::default());
        let Some(row) = self.rows.last_mut() else { return Ok(()) };
        if fast::span(bytes, at, row, &mut self.index).is_none() {
            self.index.truncate(first);
            self.rows.pop();
            let row = self.unusual_span(bytes, at)?;
            self.rows.push(row);
        }
        Ok(())
    }

    #[inline(never)]
    fn unusual_span(&mut self, bytes: &[u8], at: u32) -> Result<Row, DecodeError> {
        if is_plain(&SPAN, bytes, IN_SPAN)? {
            return Ok(Row::read(bytes, at));
        }
        let start = self.rewritten.len();
        rewrite(&SPAN, bytes, &mut self.rewritten);
        position(self.rewritten.len())?;
        Ok(Row { rewritten: true, ..Row::read(&self.rewritten[start..], start as u32) })
    }
}

// === impl ResourceSpans ===

impl<'a> ResourceSpans<'a> {
    /// The spans of the resource, over all its scopes, in the record's order.
    pub fn spans(&self) -> impl Iterator<Item = Span<'a>> + use<'a> {
        let Self { first, rows, index, bytes, rewritten, .. } = *self;
        rows.iter()
            .zip(first..)
            .map(move |(row, ordinal)| row.span(ordinal, if row.rewritten { rewritten } else { bytes }, index))
    }

    /// The scope of one of the resource's spans, by the span's ordinal.
    #[must_use]
    pub fn scope(&self, ordinal: u32) -> Scope<'a> {
        let after = self.scopes.partition_point(|scope| scope.first <= ordinal);
        let Some(scope) = after.checked_sub(1).and_then(|at| self.scopes.get(at)) else { return Scope::default() };
        Scope { name: scope.name.of(self.bytes), version: scope.version.of(self.bytes) }
    }
}

// === impl ScopeRow ===

impl ScopeRow {
    /// Reads a scope that ends at `end` of the record. It need not be plain: of a text that comes twice the last counts.
    fn read(&mut self, bytes: &[u8], end: u32) {
        let mut fields = Fields::of(bytes);
        while let Ok(Some(field)) = fields.next() {
            let at = end - fields.rest().len() as u32;
            match (field.number, field.payload) {
                (1, Payload::Bytes(b)) => self.name = ByteRange::ending(at, b),
                (2, Payload::Bytes(b)) => self.version = ByteRange::ending(at, b),
                _ => {}
            }
        }
    }
}

// === impl Row ===

impl Row {
    /// Reads a plain span, fields in any order, that starts at `at` of its source.
    fn read(bytes: &[u8], at: u32) -> Self {
        let size = bytes.len() as u32;
        let mut row = Self { size, rest: ByteRange { at, len: size }, ..Self::default() };
        let mut fields = Fields::of(bytes);
        let mut before = bytes.len();
        while let Ok(Some(field)) = fields.next() {
            let end = at + (bytes.len() - fields.rest().len()) as u32;
            match (field.number, field.payload) {
                (1, Payload::Bytes(b)) => row.trace_id = ByteRange::ending(end, b),
                (2, Payload::Bytes(b)) => row.span_id = ByteRange::ending(end, b),
                (3, Payload::Bytes(b)) => row.trace_state = ByteRange::ending(end, b),
                (4, Payload::Bytes(b)) => row.parent_span_id = ByteRange::ending(end, b),
                (5, Payload::Bytes(b)) => row.name = ByteRange::ending(end, b),
                (6, Payload::Varint(v)) => row.kind = v as i32,
                (7, Payload::Fixed64(b)) => row.start_ns = u64::from_le_bytes(b),
                (8, Payload::Fixed64(b)) => row.end_ns = u64::from_le_bytes(b),
                (9, Payload::Bytes(_)) => {
                    if row.attributes.len == 0 {
                        row.attributes.at = at + (bytes.len() - before) as u32;
                    }
                    row.attributes.len = end - row.attributes.at;
                }
                (15, Payload::Bytes(b)) => row.read_status(b, end - b.len() as u32),
                _ => {}
            }
            before = fields.rest().len();
        }
        row
    }

    /// Reads a plain status that starts at `at` of its source.
    pub(super) fn read_status(&mut self, status: &[u8], at: u32) {
        let mut fields = Fields::of(status);
        while let Ok(Some(field)) = fields.next() {
            match (field.number, field.payload) {
                (2, Payload::Bytes(b)) => {
                    self.status_message = ByteRange::ending(at + (status.len() - fields.rest().len()) as u32, b);
                }
                (3, Payload::Varint(v)) => self.status_code = v as i32,
                _ => {}
            }
        }
    }

    #[inline]
    fn span<'a>(&self, ordinal: u32, source: &'a [u8], index: &'a [AttributeEntry]) -> Span<'a> {
        Span {
            ordinal,
            trace_id: self.trace_id.of(source),
            span_id: self.span_id.of(source),
            parent_span_id: self.parent_span_id.of(source),
            name: self.name.of(source),
            kind: self.kind,
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            status_code: self.status_code,
            status_message: self.status_message.of(source),
            trace_state: self.trace_state.of(source),
            attributes: Attributes::of_span(self.attributes.of(source))
                .indexed(self.index.and_then(|place| place.among(index))),
            rest: self.rest.of(source),
            size: self.size,
        }
    }
}

// === impl ByteRange ===

impl ByteRange {
    fn ending(end: u32, bytes: &[u8]) -> Self {
        let len = bytes.len() as u32;
        Self { at: end - len, len }
    }

    #[inline(always)]
    fn of(self, source: &[u8]) -> &[u8] {
        // Most spans lack some of their fields.
        if self.len == 0 {
            return &[];
        }
        source.get(self.at as usize..).and_then(|b| b.get(..self.len as usize)).unwrap_or_default()
    }

    #[inline(always)]
    fn among(self, index: &[AttributeEntry]) -> Option<&[AttributeEntry]> {
        index.get(self.at as usize..)?.get(..self.len as usize)
    }
}

/// Reads a byte of every cache line, so that the lines come into the cache as many at a time as the processor can wait
/// for. The walk has to know one length before it finds the next, and would wait for each line alone.
fn touch(bytes: &[u8]) {
    const LINE: usize = 64;
    /// Lines that are touched and not walked over yet should not evict lines in use.
    const AHEAD: usize = 256 << 10;
    let ahead = &bytes[..bytes.len().min(AHEAD)];
    std::hint::black_box(ahead.iter().step_by(LINE).fold(0, |all, byte| all ^ byte));
}

fn position(n: usize) -> Result<u32, DecodeError> {
    u32::try_from(n).map_err(|_| DecodeError::TooLarge)
}
