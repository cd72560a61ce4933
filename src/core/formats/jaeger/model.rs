//! Jaeger's model in protobuf's JSON: one span with its process, IDs in base64, times as texts.

use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::{FormatError, Log, Process, Reference, Span, Tag, TagValue, put, span_id, trace_id};
use crate::core::formats::json::{base64, from_slice, int};
use crate::core::formats::write::Request;

/// In duration texts, with their nanoseconds.
const UNITS: [(&str, i128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct JsonSpan {
    #[serde(alias = "trace_id")]
    trace_id: Option<String>,
    #[serde(alias = "span_id")]
    span_id: Option<String>,
    #[serde(alias = "operation_name")]
    operation_name: Option<String>,
    references: Option<Vec<JsonReference>>,
    #[serde(deserialize_with = "int")]
    flags: i64,
    #[serde(alias = "start_time", deserialize_with = "time")]
    start_time: i128,
    #[serde(deserialize_with = "duration")]
    duration: i128,
    tags: Option<Vec<KeyValue>>,
    logs: Option<Vec<JsonLog>>,
    process: Option<JsonProcess>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct JsonReference {
    #[serde(alias = "trace_id")]
    trace_id: Option<String>,
    #[serde(alias = "span_id")]
    span_id: Option<String>,
    #[serde(alias = "ref_type")]
    ref_type: Option<Choice>,
}

/// An enum by its name or its number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Choice {
    Name(String),
    Number(i32),
}

/// The key is required, so that a list of nothing takes no memory.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyValue {
    key: String,
    #[serde(alias = "v_type")]
    v_type: Option<Choice>,
    #[serde(alias = "v_str")]
    v_str: Option<String>,
    #[serde(alias = "v_bool")]
    v_bool: Option<bool>,
    #[serde(alias = "v_int64", default, deserialize_with = "int")]
    v_int64: i64,
    #[serde(alias = "v_float64")]
    v_float64: Option<serde_json::Value>,
    #[serde(alias = "v_binary")]
    v_binary: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct JsonLog {
    #[serde(deserialize_with = "time")]
    timestamp: i128,
    fields: Option<Vec<KeyValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct JsonProcess {
    #[serde(alias = "service_name")]
    service_name: Option<String>,
    tags: Option<Vec<KeyValue>>,
}

/// Appends a span in protobuf's JSON.
pub(in crate::core::formats) fn model_json(text: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
    let span = from_slice::<JsonSpan>("a Jaeger span", text)?.read()?;
    let mut request = Request::new(out);
    put(&span, span.process.as_ref(), &mut request);
    request.end();
    Ok(())
}

// === impl JsonSpan ===

impl JsonSpan {
    fn read(self) -> Result<Span, FormatError> {
        let process = self.process.map(|process| Process {
            service: process.service_name.unwrap_or_default().into_bytes(),
            tags: tags(process.tags),
        });
        let log = |log: JsonLog| Log { time_ns: log.timestamp, fields: tags(log.fields) };
        Ok(Span {
            trace_id: trace_id(&id(self.trace_id.as_deref())?)?,
            span_id: span_id(&id(self.span_id.as_deref())?)?,
            name: self.operation_name.unwrap_or_default().into_bytes(),
            references: self
                .references
                .unwrap_or_default()
                .iter()
                .map(JsonReference::read)
                .collect::<Result<_, _>>()?,
            flags: u32::try_from(self.flags).unwrap_or_default(),
            start_ns: self.start_time,
            duration_ns: self.duration,
            tags: tags(self.tags),
            logs: self.logs.unwrap_or_default().into_iter().map(log).collect(),
            process,
        })
    }
}

// === impl JsonReference ===

impl JsonReference {
    fn read(&self) -> Result<Reference, FormatError> {
        let is_child_of = match &self.ref_type {
            None | Some(Choice::Number(0)) => true,
            Some(Choice::Name(name)) => name == "CHILD_OF",
            Some(Choice::Number(_)) => false,
        };
        let (trace, span) = (id(self.trace_id.as_deref())?, id(self.span_id.as_deref())?);
        Ok(Reference { trace_id: trace_id(&trace)?, span_id: span_id(&span)?, is_child_of })
    }
}

fn id(text: Option<&str>) -> Result<Vec<u8>, FormatError> {
    base64(text.unwrap_or_default()).ok_or(FormatError::Id("an ID that is not base64"))
}

fn tags(tags: Option<Vec<KeyValue>>) -> Vec<Tag> {
    tags.unwrap_or_default().into_iter().map(tag).collect()
}

fn tag(tag: KeyValue) -> Tag {
    let number = match &tag.v_type {
        None => 0,
        Some(Choice::Number(number)) => *number,
        Some(Choice::Name(name)) => {
            let names = ["STRING", "BOOL", "INT64", "FLOAT64", "BINARY"];
            names.iter().position(|known| known == name).map_or(-1, |at| at as i32)
        }
    };
    let value = match number {
        0 => TagValue::Text(tag.v_str.unwrap_or_default().into_bytes()),
        1 => TagValue::Bool(tag.v_bool.unwrap_or_default()),
        2 => TagValue::Int(tag.v_int64),
        3 => TagValue::Double(tag.v_float64.as_ref().map_or(0.0, double)),
        4 => TagValue::Bytes(tag.v_binary.and_then(|text| base64(&text)).unwrap_or_default()),
        other => TagValue::Unknown(other),
    };
    Tag { key: tag.key.into_bytes(), value }
}

/// A number, also as text; `"NaN"`, `"Infinity"` and `"-Infinity"` are numbers.
fn double(value: &serde_json::Value) -> f64 {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(f64::NAN)
}

/// An RFC 3339 time.
fn time<'de, D: Deserializer<'de>>(d: D) -> Result<i128, D::Error> {
    let Some(text) = Option::<String>::deserialize(d)? else { return Ok(0) };
    jiff::Timestamp::from_str(&text).map(jiff::Timestamp::as_nanosecond).map_err(|_| D::Error::custom("no time"))
}

/// A duration such as `1.5s` or `1m30s`.
fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<i128, D::Error> {
    let Some(text) = Option::<String>::deserialize(d)? else { return Ok(0) };
    parse_duration(&text).ok_or_else(|| D::Error::custom("no duration"))
}

/// Parts of a number and a unit each.
fn parse_duration(text: &str) -> Option<i128> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut all = 0_i128;
    if rest == "0" {
        return Some(0);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(end);
        let end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let (_, per) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { i128::from(whole.parse::<u64>().ok()?) };
        all += whole * per + part(fraction, *per)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(sign * all)
}

/// What decimals of a unit are, without rounding.
fn part(decimals: &str, per: i128) -> Option<i128> {
    let digits = decimals.get(..decimals.len().min(15))?;
    if digits.is_empty() {
        return Some(0);
    }
    Some(i128::from(digits.parse::<u64>().ok()?) * per / 10_i128.pow(digits.len() as u32))
}

#[cfg(test)]
mod tests {
    use super::parse_duration;

    #[test]
    fn durations_are_read_to_the_nanosecond() {
        for (text, ns) in [
            ("0s", 0),
            ("0", 0),
            ("1.5s", 1_500_000_000),
            ("0.000000001s", 1),
            ("1m2.000000003s", 62_000_000_003),
            ("250\u{b5}s", 250_000),
            ("-3ms", -3_000_000),
            ("1h", 3_600_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Some(ns), "{text}");
        }
        for text in ["", "s", "1", "1.5", "1x", "1s2", "\u{e9}", "99999999999999999999s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
