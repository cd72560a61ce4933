//! Records of a topic that is not partitioned by trace ID to records of one that is.
//!
//! *In:* the value of a record, its [`Encoding`], the number of partitions. *Out:* OTLP requests, each for one partition:
//! all spans of a trace go to the same one. *Owner:* the worker's repartition stage; one [`Repartition`] that is reused.
//! *Never:* a clock or a random number, as a record is read again after a crash and must give the same pieces; a span that
//! is lost, is in two pieces, or has other bytes. *Next:* the span task, which reads the pieces as it reads any record.
//!
//! # What a piece is
//!
//! The spans of a record that belong to one partition, in their order, with the fields of their resource and their scope
//! as they were, also those that are not known here. A record whose spans belong to one partition is passed on as it is.
//! So is a record that cannot be decoded: the span task refuses it, as it would have done without this stage. A resource
//! without a span stays whole, in one piece; fields of the request that are not known go into each piece.
//!
//! A trace ID that is none, of another length or of zeros only, pairs no spans. Such spans go where the whole record
//! would go, by its bytes.

#[cfg(test)]
mod tests;

use xxhash_rust::xxh3::xxh3_64;

use crate::core::formats;
use crate::core::model::wire::{Reader, put_u64, varint_len};
use crate::core::otlp::Batch;
use crate::core::settings::Encoding;

/// A piece that is longer is ended, so that a record that was compressed does not become one that no broker accepts.
const LONGEST: usize = 512 << 10;
/// Memory above this is given back after a record.
const KEPT: usize = 1 << 20;
/// `ExportTraceServiceRequest.resource_spans`.
const RESOURCE_SPANS: u64 = 1;
/// `ResourceSpans.scope_spans` and `ScopeSpans.spans`.
const CHILDREN: u64 = 2;

/// Splits records. Made to be reused: it keeps its memory.
#[derive(Debug, Default)]
pub struct Repartition {
    batch: Batch,
    /// The request, if the record is in another format.
    rewritten: Vec<u8>,
    /// The partition of each span, in their order.
    targets: Vec<u32>,
    pieces: Pieces,
}

/// The pieces of a record while they grow.
#[derive(Debug, Default)]
struct Pieces {
    /// By partition.
    open: Vec<Piece>,
    /// Those that have got something, in the order in which they did.
    touched: Vec<u32>,
    /// The fields of the present resource and scope that are not their children.
    resource: Vec<u8>,
    scope: Vec<u8>,
    /// Fields of the request that are not known.
    rest: Vec<u8>,
}

/// What one partition gets of a record.
#[derive(Debug, Default)]
struct Piece {
    /// Spans of the present scope.
    spans: Vec<u8>,
    /// Scopes of the present resource.
    scopes: Vec<u8>,
    /// Resources.
    resources: Vec<u8>,
}

/// The partition of a trace: the 64 bits of XXH3 of its 16 bytes, modulo the number of partitions. `None` for what is no
/// trace ID.
#[must_use]
pub fn partition_of(trace_id: &[u8], partitions: u32) -> Option<u32> {
    let id: &[u8; 16] = trace_id.try_into().ok()?;
    (*id != [0; 16]).then(|| place(id, partitions))
}

fn place(bytes: &[u8], partitions: u32) -> u32 {
    (xxh3_64(bytes) % u64::from(partitions.max(1))) as u32
}

// === impl Repartition ===

impl Repartition {
    /// Passes each piece of a record with its partition to `each`; returns how many spans there are.
    pub fn split(
        &mut self,
        encoding: Encoding,
        value: &[u8],
        partitions: u32,
        each: &mut dyn FnMut(u32, &[u8]),
    ) -> usize {
        let home = place(value, partitions);
        let Some(is_rewritten) = self.decode(encoding, value) else {
            each(home, value);
            return 0;
        };
        let request = if is_rewritten { self.rewritten.as_slice() } else { value };
        self.targets.clear();
        for resource in self.batch.resources(request) {
            self.targets.extend(resource.spans().map(|s| partition_of(s.trace_id, partitions).unwrap_or(home)));
        }
        let first = self.targets.first().copied().unwrap_or(home);
        if self.targets.iter().all(|target| *target == first) && request.len() <= LONGEST {
            each(first, request);
        } else {
            self.pieces.fill(request, &self.targets, (home, partitions), each);
        }
        if self.rewritten.capacity() > KEPT {
            self.rewritten = Vec::new();
        }
        self.targets.len()
    }

    /// Decodes a record; returns whether it had to be rewritten, or nothing if it holds no spans that could be read.
    fn decode(&mut self, encoding: Encoding, value: &[u8]) -> Option<bool> {
        if formats::is_otlp_proto(encoding, value) {
            return self.batch.decode(value).is_ok().then_some(false);
        }
        self.rewritten.clear();
        let wanted = formats::to_otlp(encoding, value, &mut self.rewritten).unwrap_or(false);
        (wanted && self.batch.decode(&self.rewritten).is_ok()).then_some(true)
    }
}

// === impl Pieces ===

impl Pieces {
    /// Splits a request that has been decoded.
    fn fill(
        &mut self,
        request: &[u8],
        targets: &[u32],
        (home, partitions): (u32, u32),
        each: &mut dyn FnMut(u32, &[u8]),
    ) {
        self.open.resize_with(partitions.max(1) as usize, Piece::default);
        self.touched.clear();
        self.rest.clear();
        fields(request, |field| {
            if field.payload_of(RESOURCE_SPANS).is_none() {
                self.rest.extend_from_slice(field.raw);
            }
        });
        let mut targets = targets.iter().copied();
        fields(request, |field| {
            let Some(resource) = field.payload_of(RESOURCE_SPANS) else { return };
            if has_spans(resource) {
                self.split_resource(resource, &mut targets, each);
            } else {
                self.touch(home);
                self.open[home as usize].resources.extend_from_slice(field.raw);
            }
        });
        for target in std::mem::take(&mut self.touched) {
            self.end(target, each);
        }
    }

    fn split_resource(
        &mut self,
        resource: &[u8],
        targets: &mut impl Iterator<Item = u32>,
        each: &mut dyn FnMut(u32, &[u8]),
    ) {
        self.resource.clear();
        fields(resource, |field| {
            if field.scope().is_none() {
                self.resource.extend_from_slice(field.raw);
            }
        });
        fields(resource, |field| {
            let Some(scope) = field.scope() else { return };
            self.scope.clear();
            fields(scope, |field| {
                if field.payload_of(CHILDREN).is_none() {
                    self.scope.extend_from_slice(field.raw);
                }
            });
            fields(scope, |field| {
                if let Some(target) = field.payload_of(CHILDREN).and_then(|_| targets.next()) {
                    self.touch(target);
                    let piece = &mut self.open[target as usize];
                    piece.spans.extend_from_slice(field.raw);
                    if piece.len() > LONGEST {
                        self.end(target, each);
                    }
                }
            });
            self.touched.iter().for_each(|target| self.open[*target as usize].end_scope(&self.scope));
        });
        self.touched.iter().for_each(|target| self.open[*target as usize].end_resource(&self.resource));
    }

    fn touch(&mut self, target: u32) {
        if self.open[target as usize].len() == 0 && !self.touched.contains(&target) {
            self.touched.push(target);
        }
    }

    /// Emits what a partition has got.
    fn end(&mut self, target: u32, each: &mut dyn FnMut(u32, &[u8])) {
        let piece = &mut self.open[target as usize];
        piece.end_scope(&self.scope);
        piece.end_resource(&self.resource);
        if !piece.resources.is_empty() {
            piece.resources.extend_from_slice(&self.rest);
            each(target, &piece.resources);
        }
        piece.resources.clear();
        for memory in [&mut piece.spans, &mut piece.scopes, &mut piece.resources] {
            if memory.capacity() > KEPT {
                *memory = Vec::new();
            }
        }
    }
}

// === impl Piece ===

impl Piece {
    fn len(&self) -> usize {
        self.spans.len() + self.scopes.len() + self.resources.len()
    }

    fn end_scope(&mut self, own: &[u8]) {
        wrap(&mut self.scopes, CHILDREN, own, &mut self.spans);
    }

    fn end_resource(&mut self, own: &[u8]) {
        wrap(&mut self.resources, RESOURCE_SPANS, own, &mut self.scopes);
    }
}

/// Appends a message of its `own` fields and its `children`, if there are any; takes these.
fn wrap(out: &mut Vec<u8>, number: u64, own: &[u8], children: &mut Vec<u8>) {
    if children.is_empty() {
        return;
    }
    let len = own.len() + children.len();
    out.reserve(1 + varint_len(len as u64) + len);
    put_u64(out, number << 3 | 2);
    put_u64(out, len as u64);
    out.extend_from_slice(own);
    out.append(children);
}

/// A field of a message.
struct Field<'a> {
    number: u64,
    /// What it holds, if it is bytes or a message.
    payload: Option<&'a [u8]>,
    /// All of its bytes.
    raw: &'a [u8],
}

impl<'a> Field<'a> {
    fn payload_of(&self, number: u64) -> Option<&'a [u8]> {
        self.payload.filter(|_| self.number == number)
    }

    /// A scope with spans, in a resource.
    fn scope(&self) -> Option<&'a [u8]> {
        self.payload_of(CHILDREN).filter(|scope| count(scope) > 0)
    }
}

/// Walks over the fields of a message that has been decoded, so that nothing in it is malformed.
fn fields<'a>(message: &'a [u8], mut each: impl FnMut(Field<'a>)) {
    let mut r = Reader::new(message);
    while !r.is_empty() {
        let before = r.rest();
        let Ok(key) = r.u64() else { return };
        let read = match key & 7 {
            0 => r.u64().map(|_| None),
            1 => r.take(8).map(|_| None),
            2 => r.bytes().map(Some),
            _ => r.take(4).map(|_| None),
        };
        let Ok(payload) = read else { return };
        each(Field { number: key >> 3, payload, raw: &before[..before.len() - r.rest().len()] });
    }
}

/// How many spans a scope has.
fn count(scope: &[u8]) -> usize {
    let mut spans = 0;
    fields(scope, |field| spans += usize::from(field.payload_of(CHILDREN).is_some()));
    spans
}

fn has_spans(resource: &[u8]) -> bool {
    let mut has = false;
    fields(resource, |field| has |= field.payload_of(CHILDREN).is_some_and(|scope| count(scope) > 0));
    has
}

/// A message as a field, for tests.
#[cfg(test)]
fn field(number: u64, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_u64(&mut out, number << 3 | 2);
    crate::core::model::wire::put_bytes(&mut out, message);
    out
}
