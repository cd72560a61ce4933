//! What the formats in JSON share: reading types, and numbers and bytes that are written as texts.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error};

use super::FormatError;

/// Reads a whole text.
pub(super) fn from_slice<T: DeserializeOwned>(of: &'static str, text: &[u8]) -> Result<T, FormatError> {
    if !matches!(text.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return Err(FormatError::NoJson);
    }
    serde_json::from_slice(text).map_err(|error| FormatError::json(of, &error))
}

/// A number, also one in quotes, or that a script has made of an integer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Signed(i64),
    Unsigned(u64),
    Double(f64),
    Text(String),
}

/// An integer; absent is zero.
pub(super) fn int<'de, D: Deserializer<'de>>(d: D) -> Result<i64, D::Error> {
    let Some(number) = Option::<Number>::deserialize(d)? else { return Ok(0) };
    let read = match number {
        Number::Signed(value) => Some(value),
        Number::Unsigned(_) => None,
        Number::Double(value) => (value.fract() == 0.0 && value.abs() < 9e18).then_some(value as i64),
        Number::Text(text) => text.parse().ok(),
    };
    read.ok_or_else(|| D::Error::custom("no integer"))
}

/// An integer above or equal to zero; absent is zero.
pub(super) fn unsigned<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    let Some(number) = Option::<Number>::deserialize(d)? else { return Ok(0) };
    let read = match number {
        Number::Signed(value) => u64::try_from(value).ok(),
        Number::Unsigned(value) => Some(value),
        Number::Double(value) => (value.fract() == 0.0 && (0.0..1.8e19).contains(&value)).then_some(value as u64),
        Number::Text(text) => text.parse().ok(),
    };
    read.ok_or_else(|| D::Error::custom("no unsigned integer"))
}

/// The bytes of a text in base64.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    super::otlp_json::base64(text.as_bytes())
}
