//! Record bytes to spans: borrowed, without copying.
//!
//! *In:* the value of a record, an OTLP `ExportTraceServiceRequest` in protobuf. *Out:* a [`Batch`] of positions, read
//! as [`ResourceSpans`] and [`Span`]s that borrow from the bytes. *Owner:* the span task; one reused `Batch` each.
//! *Never:* an allocation per span, a UTF-8 check (that is for code that turns bytes into a label), a panic.
//! *Next:* `spanmetrics` and `servicegraph`.
//!
//! # Method
//!
//! A span is *plain* when it is as long as a canonical encoder would have written it: no unknown field, no explicit
//! zero, no padded varint, no singular field twice. Nearly every span is, and a
//! straight-line walk in field order (`fast`) finds that out while it records the positions. A span that is not
//! plain is written again canonically into the batch's own buffer and read from there, so that its size and its fields
//! need no second meaning. Fields in an unusual order alone cost no copy.
//!
//! # What is accepted
//!
//! The same inputs as `prost` accepts for the generated OTLP types, with the same values and the same size, and the
//! same nesting limit, except:
//! - text is not checked to be UTF-8;
//! - group wire types (a relic of protobuf 2) are refused everywhere, `prost` skips them in unknown fields;
//! - a record above `u32::MAX` bytes is refused.
//!
//! The content of an unknown field is never read.

mod apart;
mod attributes;
mod batch;
mod error;
mod fast;
mod guess;
mod index;
mod normalize;
mod parts;
mod plain;
mod schema;
mod spelling;
mod wire;

#[cfg(test)]
mod tests;

pub use apart::apart;
pub use attributes::{AttributeValue, Attributes, InvalidUtf8, ValueKind, Values};
pub use batch::{Batch, ResourceSpans, Scope, Span};
pub use error::DecodeError;
pub use guess::{looks_like, sample};
pub use index::Keys;
pub use parts::{SpanEvent, SpanLink};
