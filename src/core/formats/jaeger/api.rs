//! Jaeger's own JSON: what its API answers and its UI downloads, a trace of that, or one span with its process. IDs are
//! hexadecimal, times are microseconds.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{FormatError, Log, Process, Reference, Span, Tag, TagValue, put};
use crate::core::formats::hex;
use crate::core::formats::json::{base64, from_slice, int, unsigned};
use crate::core::formats::write::Request;

/// An answer, a trace or a span: each has other keys.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    data: Option<Vec<Trace>>,
    spans: Option<Vec<ApiSpan>>,
    processes: Option<BTreeMap<String, ApiProcess>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Trace {
    spans: Option<Vec<ApiSpan>>,
    processes: Option<BTreeMap<String, ApiProcess>>,
}

/// What every span has is required, so that a list of nothing takes no memory.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiSpan {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    #[serde(rename = "parentSpanID")]
    parent_span_id: Option<String>,
    operation_name: Option<String>,
    references: Option<Vec<ApiReference>>,
    #[serde(default, deserialize_with = "int")]
    flags: i64,
    #[serde(default, deserialize_with = "unsigned")]
    start_time: u64,
    #[serde(default, deserialize_with = "unsigned")]
    duration: u64,
    tags: Option<Vec<KeyValue>>,
    logs: Option<Vec<ApiLog>>,
    #[serde(rename = "processID")]
    process_id: Option<String>,
    process: Option<ApiProcess>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiReference {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    ref_type: Option<String>,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    r#type: Option<String>,
    #[serde(default)]
    value: serde_json::Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ApiLog {
    #[serde(deserialize_with = "unsigned")]
    timestamp: u64,
    fields: Option<Vec<KeyValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ApiProcess {
    service_name: Option<String>,
    tags: Option<Vec<KeyValue>>,
}

/// Appends the spans of Jaeger's own JSON.
pub(in crate::core::formats) fn api_json(text: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
    let answer: Answer = from_slice("an answer of Jaeger's API", text)?;
    let mut request = Request::new(out);
    if answer.data.is_none() && answer.spans.is_none() {
        let span: ApiSpan = from_slice("a Jaeger span", text)?;
        trace(Trace { spans: Some(vec![span]), processes: None }, &mut request)?;
    }
    trace(Trace { spans: answer.spans, processes: answer.processes }, &mut request)?;
    answer.data.unwrap_or_default().into_iter().try_for_each(|data| trace(data, &mut request))?;
    request.end();
    Ok(())
}

fn trace(trace: Trace, request: &mut Request<'_>) -> Result<(), FormatError> {
    let processes = trace.processes.unwrap_or_default();
    let processes: BTreeMap<String, Process> =
        processes.into_iter().map(|(id, process)| (id, process.read())).collect();
    for span in trace.spans.unwrap_or_default() {
        let process = processes.get(span.process_id.as_deref().unwrap_or_default());
        let span = span.read()?;
        put(&span, span.process.as_ref().or(process), request);
    }
    Ok(())
}

// === impl ApiSpan ===

impl ApiSpan {
    fn read(self) -> Result<Span, FormatError> {
        let own = (trace_id(&self.trace_id)?, span_id(&self.span_id)?);
        let mut references: Vec<Reference> =
            self.references.unwrap_or_default().iter().map(ApiReference::read).collect::<Result<_, _>>()?;
        // Old versions name the parent like this.
        if let Some(parent) = self.parent_span_id.filter(|parent| !parent.is_empty() && references.is_empty()) {
            references.push(Reference { trace_id: own.0, span_id: span_id(&parent)?, is_child_of: true });
        }
        Ok(Span {
            trace_id: own.0,
            span_id: own.1,
            name: self.operation_name.unwrap_or_default().into_bytes(),
            references,
            flags: u32::try_from(self.flags).unwrap_or_default(),
            start_ns: micros(self.start_time),
            duration_ns: micros(self.duration),
            tags: tags(self.tags),
            logs: self.logs.unwrap_or_default().into_iter().map(ApiLog::read).collect(),
            process: self.process.map(ApiProcess::read),
        })
    }
}

// === impl ApiReference ===

impl ApiReference {
    fn read(&self) -> Result<Reference, FormatError> {
        let (trace_id, span_id) = (trace_id(&self.trace_id)?, span_id(&self.span_id)?);
        Ok(Reference { trace_id, span_id, is_child_of: self.ref_type.as_deref() != Some("FOLLOWS_FROM") })
    }
}

// === impl ApiLog ===

impl ApiLog {
    fn read(self) -> Log {
        Log { time_ns: micros(self.timestamp), fields: tags(self.fields) }
    }
}

// === impl ApiProcess ===

impl ApiProcess {
    fn read(self) -> Process {
        Process { service: self.service_name.unwrap_or_default().into_bytes(), tags: tags(self.tags) }
    }
}

fn micros(us: u64) -> i128 {
    i128::from(us) * 1_000
}

/// Leading zeros may be missing.
fn trace_id(text: &str) -> Result<[u8; 16], FormatError> {
    hex(text.as_bytes()).ok_or(FormatError::Id("a trace ID that is not hexadecimal"))
}

fn span_id(text: &str) -> Result<[u8; 8], FormatError> {
    hex(text.as_bytes()).ok_or(FormatError::Id("a span ID that is not hexadecimal"))
}

fn tags(tags: Option<Vec<KeyValue>>) -> Vec<Tag> {
    let tag = |tag: KeyValue| Tag { key: tag.key.into_bytes(), value: value(tag.r#type, &tag.value) };
    tags.unwrap_or_default().into_iter().map(tag).collect()
}

/// A value by its type, or by its JSON type if that is missing. Integers that JavaScript cannot hold are texts.
fn value(named: Option<String>, value: &serde_json::Value) -> TagValue {
    let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let integer = || value.as_i64().or_else(|| value.as_str()?.parse().ok());
    let double = || value.as_f64().or_else(|| value.as_str()?.parse().ok());
    let boolean = || value.as_bool().or_else(|| value.as_str()?.parse().ok());
    let known = match named.unwrap_or_default().to_ascii_lowercase().as_str() {
        "bool" => boolean().map(TagValue::Bool),
        "int64" => integer().map(TagValue::Int),
        "float64" => double().map(TagValue::Double),
        "binary" => value.as_str().and_then(base64).map(TagValue::Bytes),
        "string" => None,
        _ if value.is_boolean() => boolean().map(TagValue::Bool),
        _ if value.is_i64() => integer().map(TagValue::Int),
        _ if value.is_number() => double().map(TagValue::Double),
        _ => None,
    };
    known.unwrap_or_else(|| TagValue::Text(text().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{TagValue, value};

    #[test]
    fn a_tag_has_the_type_that_it_names_or_that_its_value_shows() {
        let read = |named: &str, json: &str| {
            let named = (!named.is_empty()).then(|| named.to_owned());
            format!("{:?}", value(named, &serde_json::from_str(json).expect("JSON")))
        };
        let shown = |value: TagValue| format!("{value:?}");
        assert_eq!(read("int64", "\"9007199254740993\""), shown(TagValue::Int(9_007_199_254_740_993)));
        assert_eq!(read("int64", "5"), shown(TagValue::Int(5)));
        assert_eq!(read("bool", "\"true\""), shown(TagValue::Bool(true)));
        assert_eq!(read("float64", "5"), shown(TagValue::Double(5.0)));
        assert_eq!(read("binary", "\"aGk=\""), shown(TagValue::Bytes(b"hi".to_vec())));
        assert_eq!(read("string", "5"), shown(TagValue::Text(b"5".to_vec())));
        assert_eq!(read("", "false"), shown(TagValue::Bool(false)));
        assert_eq!(read("", "1.5"), shown(TagValue::Double(1.5)));
        assert_eq!(read("int64", "\"x\""), shown(TagValue::Text(b"x".to_vec())));
    }
}
