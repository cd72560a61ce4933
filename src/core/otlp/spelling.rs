//! Values as the Collector writes them.

use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;

use super::attributes::{AttributeValue, Attributes, ValueKind};
use super::schema::NESTING;

/// JSON has no such number.
struct NotJson;

// === impl Value ===

impl AttributeValue<'_> {
    /// Appends a value that is no string as the Collector writes it.
    pub(super) fn write_as_collector(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match self.kind() {
            ValueKind::Text(text) => out.extend_from_slice(text),
            ValueKind::Unset => {}
            ValueKind::Bool(value) => put(out, format_args!("{value}")),
            ValueKind::Int(value) => put(out, format_args!("{value}")),
            ValueKind::Double(value) => {
                if put_double(value, out).is_err() {
                    let shown = if value.is_nan() { "NaN" } else { ["-Inf", "+Inf"][usize::from(value > 0.0)] };
                    put(out, format_args!("json: unsupported value: {shown}"));
                }
            }
            ValueKind::Bytes(bytes) => put_base64(bytes, out),
            ValueKind::Array(_) | ValueKind::Map(_) => {
                if put_json(*self, out, NESTING).is_err() {
                    out.truncate(start);
                }
            }
        }
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a Vec cannot fail");
}

/// The shortest decimal that reads back as the same, with an exponent if it is very small or very large.
fn put_double(value: f64, out: &mut Vec<u8>) -> Result<(), NotJson> {
    if !value.is_finite() {
        return Err(NotJson);
    }
    if value != 0.0 && !(1e-6..1e21).contains(&value.abs()) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let sign = if exponent.starts_with('-') { "" } else { "+" };
        put(out, format_args!("{digits}e{sign}{exponent}"));
    } else {
        put(out, format_args!("{value}"));
    }
    Ok(())
}

fn put_json(value: AttributeValue<'_>, out: &mut Vec<u8>, nesting: u32) -> Result<(), NotJson> {
    let Some(nesting) = nesting.checked_sub(1) else { return Ok(()) };
    match value.kind() {
        ValueKind::Unset => out.extend_from_slice(b"null"),
        ValueKind::Text(text) => put_json_text(text, out),
        ValueKind::Double(number) => put_double(number, out)?,
        ValueKind::Bytes(bytes) => {
            out.push(b'"');
            put_base64(bytes, out);
            out.push(b'"');
        }
        ValueKind::Array(values) => {
            out.push(b'[');
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                put_json(value, out, nesting)?;
            }
            out.push(b']');
        }
        ValueKind::Map(attributes) => put_json_map(attributes, out, nesting)?,
        ValueKind::Bool(_) | ValueKind::Int(_) => value.write_as_collector(out),
    }
    Ok(())
}

/// Of equal keys the last counts.
fn put_json_map(attributes: Attributes<'_>, out: &mut Vec<u8>, nesting: u32) -> Result<(), NotJson> {
    let entries: BTreeMap<_, _> = attributes.iter().collect();
    out.push(b'{');
    for (i, (key, value)) in entries.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        put_json_text(key, out);
        out.push(b':');
        put_json(value, out, nesting)?;
    }
    out.push(b'}');
    Ok(())
}

/// As Go writes JSON: it also escapes what HTML gives a meaning.
fn put_json_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => put(out, format_args!("\\{c}")),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\u{8}' => out.extend_from_slice(b"\\b"),
                '\u{c}' => out.extend_from_slice(b"\\f"),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                    put(out, format_args!("\\u{:04x}", u32::from(c)));
                }
                c => put(out, format_args!("{c}")),
            }
        }
        chunk.invalid().iter().for_each(|_| out.extend_from_slice(b"\\ufffd"));
    }
    out.push(b'"');
}

fn put_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{
        AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Proto,
    };
    use prost::Message as _;

    use super::AttributeValue;
    use crate::core::model::Spelling;

    fn any(value: Proto) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    fn text(value: &str) -> AnyValue {
        any(Proto::StringValue(value.into()))
    }

    fn array(values: Vec<AnyValue>) -> AnyValue {
        any(Proto::ArrayValue(ArrayValue { values }))
    }

    fn map(entries: &[(&str, AnyValue)]) -> AnyValue {
        let values = entries.iter().map(|(key, value)| KeyValue {
            key: (*key).into(),
            value: Some(value.clone()),
            ..KeyValue::default()
        });
        any(Proto::KvlistValue(KeyValueList { values: values.collect() }))
    }

    fn spelled(value: &AnyValue) -> String {
        let bytes = value.encode_to_vec();
        String::from_utf8(AttributeValue::of(&bytes).text_as(Spelling::Collector).into_owned()).expect("UTF-8")
    }

    /// The right-hand sides are what `Value.AsString` of the Collector gives.
    #[test]
    fn values_are_spelled_as_the_collector_spells_them() {
        let number = |n| any(Proto::DoubleValue(n));
        let bytes = |b: &[u8]| any(Proto::BytesValue(b.into()));
        for (value, expected) in [
            (text("as <it> is"), "as <it> is"),
            (any(Proto::BoolValue(true)), "true"),
            (any(Proto::IntValue(i64::MIN)), "-9223372036854775808"),
            (number(1e21), "1e+21"),
            (number(-1.5e300), "-1.5e+300"),
            (number(1e20), "100000000000000000000"),
            (number(0.000_000_15), "1.5e-7"),
            (number(0.000_001), "0.000001"),
            (number(1e-10), "1e-10"),
            (number(3.0), "3"),
            (number(0.1), "0.1"),
            (number(f64::NAN), "json: unsupported value: NaN"),
            (number(f64::INFINITY), "json: unsupported value: +Inf"),
            (number(f64::NEG_INFINITY), "json: unsupported value: -Inf"),
            (bytes(&[1, 2, 3]), "AQID"),
            (bytes(&[1, 2]), "AQI="),
            (bytes(&[255]), "/w=="),
            (bytes(&[]), ""),
            (AnyValue::default(), ""),
            (array(vec![text("a"), text("b")]), r#"["a","b"]"#),
            (array(Vec::new()), "[]"),
            (
                array(vec![AnyValue::default(), number(1e21), bytes(&[1]), array(Vec::new())]),
                r#"[null,1e+21,"AQ==",[]]"#,
            ),
            (array(vec![text("a"), number(f64::NAN)]), ""),
            (map(&[("n", any(Proto::IntValue(1))), ("k", text("x"))]), r#"{"k":"x","n":1}"#),
            (map(&[("k", text("first")), ("k", text("last"))]), r#"{"k":"last"}"#),
            (map(&[]), "{}"),
            (
                map(&[("<&>\"\\\n\u{1}\u{2028}ä", any(Proto::BoolValue(false)))]),
                "{\"\\u003c\\u0026\\u003e\\\"\\\\\\n\\u0001\\u2028ä\":false}",
            ),
        ] {
            assert_eq!(spelled(&value), expected, "{value:?}");
        }
    }

    #[test]
    fn what_is_no_text_in_json_is_replaced_byte_by_byte() {
        // An array of one string of the bytes 61 FF FE.
        let bytes = [0x2a, 0x07, 0x0a, 0x05, 0x0a, 0x03, 0x61, 0xff, 0xfe];
        assert_eq!(&*AttributeValue::of(&bytes).text_as(Spelling::Collector), br#"["a\ufffd\ufffd"]"#);
    }
}
