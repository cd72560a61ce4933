//! The OTLP trace messages as tables: the name, number and kind of each field.

use crate::model::span::{KINDS, STATUSES};

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// Bytes in hexadecimal, as IDs are.
    Hex,
    /// Other bytes.
    Base64,
    Bool,
    Uint32,
    Int64,
    Fixed32,
    Fixed64,
    Double,
    /// The names of the values from 0 on.
    Enum(&'static [&'static str]),
    Message(&'static Table),
}

/// How often a field may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    /// Once; a zero is not written.
    One,
    /// Any number of times.
    List,
    /// Once among alternatives; a zero is written.
    Either,
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// As in the `.proto` file.
    name: &'static str,
    pub(super) kind: Kind,
    pub(super) label: Label,
}

/// One message.
#[derive(Debug)]
pub(super) struct Table(&'static [Field]);

// === impl Table ===

impl Table {
    /// The field that a key names.
    pub(super) fn field(&self, key: &[u8]) -> Option<&'static Field> {
        self.0.iter().find(|field| field.is(key))
    }
}

// === impl Field ===

impl Field {
    /// Whether a key is the name, or the name in lowerCamelCase.
    fn is(&self, key: &[u8]) -> bool {
        let mut camel = key.iter();
        let mut upper = false;
        let matches = self.name.bytes().all(|byte| match byte {
            b'_' => {
                upper = true;
                true
            }
            byte if std::mem::take(&mut upper) => camel.next() == Some(&byte.to_ascii_uppercase()),
            byte => camel.next() == Some(&byte),
        });
        matches && camel.next().is_none() || self.name.as_bytes() == key
    }
}

const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, label: Label::One }
}

const fn list(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, label: Label::List }
}

const fn either(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, label: Label::Either }
}

/// `ExportTraceServiceRequest`, and `TracesData`, which is the same.
pub(super) static REQUEST: Table = Table(&[list(1, "resource_spans", Kind::Message(&RESOURCE_SPANS))]);

static RESOURCE_SPANS: Table = Table(&[
    one(1, "resource", Kind::Message(&RESOURCE)),
    list(2, "scope_spans", Kind::Message(&SCOPE_SPANS)),
    one(3, "schema_url", Kind::Text),
]);

static RESOURCE: Table = Table(&[
    list(1, "attributes", Kind::Message(&KEY_VALUE)),
    one(2, "dropped_attributes_count", Kind::Uint32),
    list(3, "entity_refs", Kind::Message(&ENTITY_REF)),
]);

static ENTITY_REF: Table = Table(&[
    one(1, "schema_url", Kind::Text),
    one(2, "type", Kind::Text),
    list(3, "id_keys", Kind::Text),
    list(4, "description_keys", Kind::Text),
]);

static SCOPE_SPANS: Table = Table(&[
    one(1, "scope", Kind::Message(&SCOPE)),
    list(2, "spans", Kind::Message(&SPAN)),
    one(3, "schema_url", Kind::Text),
]);

static SCOPE: Table = Table(&[
    one(1, "name", Kind::Text),
    one(2, "version", Kind::Text),
    list(3, "attributes", Kind::Message(&KEY_VALUE)),
    one(4, "dropped_attributes_count", Kind::Uint32),
]);

static SPAN: Table = Table(&[
    one(1, "trace_id", Kind::Hex),
    one(2, "span_id", Kind::Hex),
    one(3, "trace_state", Kind::Text),
    one(4, "parent_span_id", Kind::Hex),
    one(5, "name", Kind::Text),
    one(6, "kind", Kind::Enum(&KINDS)),
    one(7, "start_time_unix_nano", Kind::Fixed64),
    one(8, "end_time_unix_nano", Kind::Fixed64),
    list(9, "attributes", Kind::Message(&KEY_VALUE)),
    one(10, "dropped_attributes_count", Kind::Uint32),
    list(11, "events", Kind::Message(&EVENT)),
    one(12, "dropped_events_count", Kind::Uint32),
    list(13, "links", Kind::Message(&LINK)),
    one(14, "dropped_links_count", Kind::Uint32),
    one(15, "status", Kind::Message(&STATUS)),
    one(16, "flags", Kind::Fixed32),
]);

static EVENT: Table = Table(&[
    one(1, "time_unix_nano", Kind::Fixed64),
    one(2, "name", Kind::Text),
    list(3, "attributes", Kind::Message(&KEY_VALUE)),
    one(4, "dropped_attributes_count", Kind::Uint32),
]);

static LINK: Table = Table(&[
    one(1, "trace_id", Kind::Hex),
    one(2, "span_id", Kind::Hex),
    one(3, "trace_state", Kind::Text),
    list(4, "attributes", Kind::Message(&KEY_VALUE)),
    one(5, "dropped_attributes_count", Kind::Uint32),
    one(6, "flags", Kind::Fixed32),
]);

static STATUS: Table = Table(&[one(2, "message", Kind::Text), one(3, "code", Kind::Enum(&STATUSES))]);

static KEY_VALUE: Table = Table(&[one(1, "key", Kind::Text), one(2, "value", Kind::Message(&ANY_VALUE))]);

static ANY_VALUE: Table = Table(&[
    either(1, "string_value", Kind::Text),
    either(2, "bool_value", Kind::Bool),
    either(3, "int_value", Kind::Int64),
    either(4, "double_value", Kind::Double),
    either(5, "array_value", Kind::Message(&ARRAY_VALUE)),
    either(6, "kvlist_value", Kind::Message(&KEY_VALUE_LIST)),
    either(7, "bytes_value", Kind::Base64),
]);

static ARRAY_VALUE: Table = Table(&[list(1, "values", Kind::Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: Table = Table(&[list(1, "values", Kind::Message(&KEY_VALUE))]);
