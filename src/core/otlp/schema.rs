//! The OTLP trace messages as tables: what each field is.

use super::DecodeError;
use super::wire::{Field, Payload};

/// How many messages may lie in one another inside a request, as in `prost`.
pub(super) const NESTING: u32 = 100;
/// What is left of [`NESTING`] inside a `Span`.
pub(super) const IN_SPAN: u32 = NESTING - 3;

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Type {
    Bool,
    /// `int32` and enums: negative values take ten bytes.
    Int32,
    Uint32,
    Int64,
    Fixed32,
    /// `fixed64` and `double`.
    Fixed64,
    /// `bytes` and `string`.
    Bytes,
    Message(&'static Schema),
}

/// How often a field may be there, and what its absence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    /// Absent means zero, so a zero is not written. Messages have presence and merge. The last scalar wins.
    Singular,
    /// A list.
    Repeated,
    /// One of the message's alternatives: present even when zero. The last wins; the same message twice merges.
    OneOf,
}

/// One field of a message.
#[derive(Debug)]
pub(super) struct FieldType {
    pub(super) number: u32,
    pub(super) ty: Type,
    pub(super) label: Label,
}

/// One message, fields in the order of their numbers.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) name: &'static str,
    pub(super) fields: &'static [FieldType],
}

// === impl Schema ===

impl Schema {
    /// The field with this number, unless it is unknown.
    ///
    /// # Errors
    /// When the wire type does not fit.
    #[inline]
    pub(super) fn field(&self, field: &Field<'_>) -> Result<Option<&'static FieldType>, DecodeError> {
        let Some(known) = self.fields.iter().find(|f| f.number == field.number) else { return Ok(None) };
        let fits = match known.ty {
            Type::Bool | Type::Int32 | Type::Uint32 | Type::Int64 => matches!(field.payload, Payload::Varint(_)),
            Type::Fixed32 => matches!(field.payload, Payload::Fixed32(_)),
            Type::Fixed64 => matches!(field.payload, Payload::Fixed64(_)),
            Type::Bytes | Type::Message(_) => matches!(field.payload, Payload::Bytes(_)),
        };
        if fits { Ok(Some(known)) } else { Err(DecodeError::WireType { message: self.name, field: field.number }) }
    }
}

// === impl Type ===

impl Type {
    /// The varint that stands for `raw` after it went through a variable of this type.
    #[inline]
    pub(super) fn settle(self, raw: u64) -> u64 {
        match self {
            Self::Bool => u64::from(raw != 0),
            Self::Int32 => i64::from(raw as u32 as i32).cast_unsigned(),
            Self::Uint32 => u64::from(raw as u32),
            _ => raw,
        }
    }
}

const fn one(number: u32, ty: Type) -> FieldType {
    FieldType { number, ty, label: Label::Singular }
}

const fn list(number: u32, ty: Type) -> FieldType {
    FieldType { number, ty, label: Label::Repeated }
}

const fn either(number: u32, ty: Type) -> FieldType {
    FieldType { number, ty, label: Label::OneOf }
}

const fn message(name: &'static str, fields: &'static [FieldType]) -> Schema {
    Schema { name, fields }
}

/// `opentelemetry.proto.trace.v1.Span`
pub(super) static SPAN: Schema = Schema {
    name: "Span",
    fields: &[
        one(1, Type::Bytes),
        one(2, Type::Bytes),
        one(3, Type::Bytes),
        one(4, Type::Bytes),
        one(5, Type::Bytes),
        one(6, Type::Int32),
        one(7, Type::Fixed64),
        one(8, Type::Fixed64),
        list(9, Type::Message(&KEY_VALUE)),
        one(10, Type::Uint32),
        list(11, Type::Message(&EVENT)),
        one(12, Type::Uint32),
        list(13, Type::Message(&LINK)),
        one(14, Type::Uint32),
        one(15, Type::Message(&STATUS)),
        one(16, Type::Fixed32),
    ],
};

/// `opentelemetry.proto.trace.v1.Span.Event`
pub(super) static EVENT: Schema = message(
    "Event",
    &[one(1, Type::Fixed64), one(2, Type::Bytes), list(3, Type::Message(&KEY_VALUE)), one(4, Type::Uint32)],
);

/// `opentelemetry.proto.trace.v1.Span.Link`
pub(super) static LINK: Schema = message(
    "Link",
    &[
        one(1, Type::Bytes),
        one(2, Type::Bytes),
        one(3, Type::Bytes),
        list(4, Type::Message(&KEY_VALUE)),
        one(5, Type::Uint32),
        one(6, Type::Fixed32),
    ],
);

/// `opentelemetry.proto.trace.v1.Status`
pub(super) static STATUS: Schema = message("Status", &[one(2, Type::Bytes), one(3, Type::Int32)]);

/// `opentelemetry.proto.common.v1.KeyValue`
pub(super) static KEY_VALUE: Schema =
    message("KeyValue", &[one(1, Type::Bytes), one(2, Type::Message(&ANY_VALUE)), one(3, Type::Int32)]);

/// `opentelemetry.proto.common.v1.AnyValue`
pub(super) static ANY_VALUE: Schema = message(
    "AnyValue",
    &[
        either(1, Type::Bytes),
        either(2, Type::Bool),
        either(3, Type::Int64),
        either(4, Type::Fixed64),
        either(5, Type::Message(&ARRAY_VALUE)),
        either(6, Type::Message(&KEY_VALUE_LIST)),
        either(7, Type::Bytes),
        either(8, Type::Int32),
    ],
);

static ARRAY_VALUE: Schema = message("ArrayValue", &[list(1, Type::Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: Schema = message("KeyValueList", &[list(1, Type::Message(&KEY_VALUE))]);

/// `opentelemetry.proto.common.v1.InstrumentationScope`
pub(super) static SCOPE: Schema = message(
    "InstrumentationScope",
    &[one(1, Type::Bytes), one(2, Type::Bytes), list(3, Type::Message(&KEY_VALUE)), one(4, Type::Uint32)],
);

/// `opentelemetry.proto.resource.v1.Resource`
pub(super) static RESOURCE: Schema = message(
    "Resource",
    &[list(1, Type::Message(&KEY_VALUE)), one(2, Type::Uint32), list(3, Type::Message(&ENTITY_REF))],
);

static ENTITY_REF: Schema =
    message("EntityRef", &[one(1, Type::Bytes), one(2, Type::Bytes), list(3, Type::Bytes), list(4, Type::Bytes)]);
