//! The OTLP trace messages as tables: the name, number and kind of each field.

use crate::core::model::span::{KINDS, STATUSES};

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum FieldContent {
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
    pub(super) kind: FieldContent,
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

const fn one(number: u32, name: &'static str, kind: FieldContent) -> Field {
    Field { number, name, kind, label: Label::One }
}

const fn list(number: u32, name: &'static str, kind: FieldContent) -> Field {
    Field { number, name, kind, label: Label::List }
}

const fn either(number: u32, name: &'static str, kind: FieldContent) -> Field {
    Field { number, name, kind, label: Label::Either }
}

/// `ExportTraceServiceRequest`, and `TracesData`, which is the same.
pub(super) static REQUEST: Table = Table(&[list(1, "resource_spans", FieldContent::Message(&RESOURCE_SPANS))]);

static RESOURCE_SPANS: Table = Table(&[
    one(1, "resource", FieldContent::Message(&RESOURCE)),
    list(2, "scope_spans", FieldContent::Message(&SCOPE_SPANS)),
    // What scopes were called up to version 0.14 of the protocol; the messages are the same.
    list(2, "instrumentation_library_spans", FieldContent::Message(&SCOPE_SPANS)),
    one(3, "schema_url", FieldContent::Text),
]);

static RESOURCE: Table = Table(&[
    list(1, "attributes", FieldContent::Message(&KEY_VALUE)),
    one(2, "dropped_attributes_count", FieldContent::Uint32),
    list(3, "entity_refs", FieldContent::Message(&ENTITY_REF)),
]);

static ENTITY_REF: Table = Table(&[
    one(1, "schema_url", FieldContent::Text),
    one(2, "type", FieldContent::Text),
    list(3, "id_keys", FieldContent::Text),
    list(4, "description_keys", FieldContent::Text),
]);

static SCOPE_SPANS: Table = Table(&[
    one(1, "scope", FieldContent::Message(&SCOPE)),
    one(1, "instrumentation_library", FieldContent::Message(&SCOPE)),
    list(2, "spans", FieldContent::Message(&SPAN)),
    one(3, "schema_url", FieldContent::Text),
]);

static SCOPE: Table = Table(&[
    one(1, "name", FieldContent::Text),
    one(2, "version", FieldContent::Text),
    list(3, "attributes", FieldContent::Message(&KEY_VALUE)),
    one(4, "dropped_attributes_count", FieldContent::Uint32),
]);

static SPAN: Table = Table(&[
    one(1, "trace_id", FieldContent::Hex),
    one(2, "span_id", FieldContent::Hex),
    one(3, "trace_state", FieldContent::Text),
    one(4, "parent_span_id", FieldContent::Hex),
    one(5, "name", FieldContent::Text),
    one(6, "kind", FieldContent::Enum(&KINDS)),
    one(7, "start_time_unix_nano", FieldContent::Fixed64),
    one(8, "end_time_unix_nano", FieldContent::Fixed64),
    list(9, "attributes", FieldContent::Message(&KEY_VALUE)),
    one(10, "dropped_attributes_count", FieldContent::Uint32),
    list(11, "events", FieldContent::Message(&EVENT)),
    one(12, "dropped_events_count", FieldContent::Uint32),
    list(13, "links", FieldContent::Message(&LINK)),
    one(14, "dropped_links_count", FieldContent::Uint32),
    one(15, "status", FieldContent::Message(&STATUS)),
    one(16, "flags", FieldContent::Fixed32),
]);

static EVENT: Table = Table(&[
    one(1, "time_unix_nano", FieldContent::Fixed64),
    one(2, "name", FieldContent::Text),
    list(3, "attributes", FieldContent::Message(&KEY_VALUE)),
    one(4, "dropped_attributes_count", FieldContent::Uint32),
]);

static LINK: Table = Table(&[
    one(1, "trace_id", FieldContent::Hex),
    one(2, "span_id", FieldContent::Hex),
    one(3, "trace_state", FieldContent::Text),
    list(4, "attributes", FieldContent::Message(&KEY_VALUE)),
    one(5, "dropped_attributes_count", FieldContent::Uint32),
    one(6, "flags", FieldContent::Fixed32),
]);

static STATUS: Table = Table(&[one(2, "message", FieldContent::Text), one(3, "code", FieldContent::Enum(&STATUSES))]);

static KEY_VALUE: Table =
    Table(&[one(1, "key", FieldContent::Text), one(2, "value", FieldContent::Message(&ANY_VALUE))]);

static ANY_VALUE: Table = Table(&[
    either(1, "string_value", FieldContent::Text),
    either(2, "bool_value", FieldContent::Bool),
    either(3, "int_value", FieldContent::Int64),
    either(4, "double_value", FieldContent::Double),
    either(5, "array_value", FieldContent::Message(&ARRAY_VALUE)),
    either(6, "kvlist_value", FieldContent::Message(&KEY_VALUE_LIST)),
    either(7, "bytes_value", FieldContent::Base64),
]);

static ARRAY_VALUE: Table = Table(&[list(1, "values", FieldContent::Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: Table = Table(&[list(1, "values", FieldContent::Message(&KEY_VALUE))]);
