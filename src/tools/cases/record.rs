//! Writes records: OTLP requests in protobuf, byte by byte, so that a case can also hold what no SDK would send.

use super::words::Word;
use crate::core::model::wire::{put_bytes, put_u64};

/// A record under construction.
#[derive(Debug, Default)]
pub(super) struct RecordBuilder {
    /// Finished `ResourceSpans` fields.
    done: Vec<u8>,
    /// The `Resource` of the spans that follow.
    resource: Vec<u8>,
    /// Finished `ScopeSpans` fields.
    scopes: Vec<u8>,
    /// The `InstrumentationScope` of the spans that follow.
    scope: Vec<u8>,
    /// Spans of that scope.
    spans: Vec<SpanSpec>,
}

/// A span as a case states it.
#[derive(Debug, Default)]
pub(super) struct SpanSpec {
    pub(super) trace_id: Vec<u8>,
    pub(super) span_id: Vec<u8>,
    pub(super) parent: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) kind: i32,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// Code and message.
    pub(super) status: Option<(i32, Vec<u8>)>,
    pub(super) trace_state: Vec<u8>,
    /// Traces and spans.
    pub(super) links: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) attributes: Vec<(String, Word)>,
    pub(super) events: Vec<EventSpec>,
}

/// An event of a span: its name and its attributes.
pub(super) type EventSpec = (Vec<u8>, Vec<(String, Word)>);

impl RecordBuilder {
    /// The spans that follow come from this service.
    pub(super) fn from(&mut self, service: Option<&Word>, attributes: &[(String, Word)]) {
        self.end_resource();
        if let Some(service) = service {
            let service = Word { quoted: true, ..service.clone() };
            put_attribute(&mut self.resource, 1, "service.name", &service);
        }
        for (key, value) in attributes {
            put_attribute(&mut self.resource, 1, key, value);
        }
    }

    /// The spans that follow come from this instrumentation scope.
    pub(super) fn scope(&mut self, name: &[u8], version: &[u8]) {
        self.end_scope();
        for (number, text) in [(1, name), (2, version)] {
            if !text.is_empty() {
                put_field(&mut self.scope, number, text);
            }
        }
    }

    pub(super) fn span(&mut self, span: SpanSpec) {
        self.spans.push(span);
    }

    /// The span before, if there is one.
    pub(super) fn last_span(&mut self) -> Option<&mut SpanSpec> {
        self.spans.last_mut()
    }

    fn end_scope(&mut self) {
        let (scope, spans) = (std::mem::take(&mut self.scope), std::mem::take(&mut self.spans));
        if spans.is_empty() {
            return;
        }
        let mut scope_spans = Vec::new();
        if !scope.is_empty() {
            put_field(&mut scope_spans, 1, &scope);
        }
        for span in spans {
            put_field(&mut scope_spans, 2, &span.encode());
        }
        put_field(&mut self.scopes, 2, &scope_spans);
    }

    fn end_resource(&mut self) {
        self.end_scope();
        let (resource, scopes) = (std::mem::take(&mut self.resource), std::mem::take(&mut self.scopes));
        if scopes.is_empty() {
            return;
        }
        let mut resource_spans = Vec::new();
        put_field(&mut resource_spans, 1, &resource);
        resource_spans.extend_from_slice(&scopes);
        put_field(&mut self.done, 1, &resource_spans);
    }

    /// The value of the record.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.end_resource();
        self.done
    }
}

impl SpanSpec {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let texts =
            [(1, &self.trace_id), (2, &self.span_id), (3, &self.trace_state), (4, &self.parent), (5, &self.name)];
        for (number, bytes) in texts {
            if !bytes.is_empty() {
                put_field(&mut out, number, bytes);
            }
        }
        put_enum(&mut out, 6, self.kind);
        for (number, ns) in [(7, self.start_ns), (8, self.end_ns)] {
            if ns != 0 {
                put_u64(&mut out, number << 3 | 1);
                out.extend_from_slice(&ns.to_le_bytes());
            }
        }
        for (key, value) in &self.attributes {
            put_attribute(&mut out, 9, key, value);
        }
        for (name, attributes) in &self.events {
            let mut event = Vec::new();
            put_field(&mut event, 2, name);
            for (key, value) in attributes {
                put_attribute(&mut event, 3, key, value);
            }
            put_field(&mut out, 11, &event);
        }
        for (trace_id, span_id) in &self.links {
            let mut link = Vec::new();
            put_field(&mut link, 1, trace_id);
            put_field(&mut link, 2, span_id);
            put_field(&mut out, 13, &link);
        }
        if let Some((code, message)) = &self.status {
            let mut status = Vec::new();
            if !message.is_empty() {
                put_field(&mut status, 2, message);
            }
            put_enum(&mut status, 3, *code);
            put_field(&mut out, 15, &status);
        }
        out
    }
}

fn put_field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_u64(out, number << 3 | 2);
    put_bytes(out, bytes);
}

fn put_enum(out: &mut Vec<u8>, number: u64, value: i32) {
    if value != 0 {
        put_u64(out, number << 3);
        put_u64(out, i64::from(value).cast_unsigned());
    }
}

fn put_attribute(out: &mut Vec<u8>, number: u64, key: &str, value: &Word) {
    let mut attribute = Vec::new();
    put_field(&mut attribute, 1, key.as_bytes());
    put_field(&mut attribute, 2, &any_value(value));
    put_field(out, number, &attribute);
}

fn any_value(word: &Word) -> Vec<u8> {
    let mut out = Vec::new();
    let bare = std::str::from_utf8(&word.text).ok().filter(|_| !word.quoted);
    match bare {
        Some("") => {}
        Some(flag @ ("true" | "false")) => out.extend([2 << 3, u8::from(flag == "true")]),
        Some(text) if text.parse::<i64>().is_ok() => {
            out.push(3 << 3);
            put_u64(&mut out, text.parse().unwrap_or(0_i64).cast_unsigned());
        }
        Some(text) if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') && text.parse::<f64>().is_ok() => {
            out.push(4 << 3 | 1);
            out.extend_from_slice(&text.parse().unwrap_or(0.0_f64).to_le_bytes());
        }
        _ => put_field(&mut out, 1, &word.text),
    }
    out
}
