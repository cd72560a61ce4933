//! Lines of a case to words, and words to values.

use crate::core::model::{Millis, duration};
use crate::tools::totals::Series;

/// One word: `text`, or `key=text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) key: Option<String>,
    pub(super) text: Vec<u8>,
    /// Quoted texts are never parsed as numbers.
    pub(super) quoted: bool,
}

impl Word {
    pub(super) fn str(&self) -> Result<&str, String> {
        std::str::from_utf8(&self.text).map_err(|_| "this word must be UTF-8".to_owned())
    }
}

/// Splits a line.
pub(super) fn words(line: &str) -> Result<Vec<Word>, String> {
    let mut rest = line.trim();
    let mut out = Vec::new();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_whitespace() || c == '=' || c == '"').unwrap_or(rest.len());
        let (head, tail) = rest.split_at(end);
        let (key, value) = match tail.strip_prefix('=') {
            Some(value) => (Some(head.to_owned()), value),
            None if tail.starts_with('"') && head.is_empty() => (None, tail),
            None => (None, rest),
        };
        let (text, tail, quoted) = match value.strip_prefix('"') {
            Some(value) => {
                let (text, tail) = quoted(value)?;
                (text, tail, true)
            }
            None => {
                let end = value.find(char::is_whitespace).unwrap_or(value.len());
                let (text, tail) = value.split_at(end);
                (text.as_bytes().to_vec(), tail, false)
            }
        };
        out.push(Word { key, text, quoted });
        rest = tail.trim_start();
    }
    Ok(out)
}

/// The text up to the closing quote, and what follows it.
fn quoted(text: &str) -> Result<(Vec<u8>, &str), String> {
    let mut out = Vec::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, text.split_at(at + 1).1)),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push(b'\n'),
                Some(c @ ('"' | '\\')) => out.push(c as u8),
                Some('x') => {
                    let digits: String = chars.by_ref().take(2).map(|(_, c)| c).collect();
                    out.push(u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits} is not a byte"))?);
                }
                _ => return Err("after \\, one of n, x, \\ or a quote is expected".to_owned()),
            },
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err("the closing quote is missing".to_owned())
}

/// A series at the beginning of `text`, and what follows it.
pub(super) fn series(text: &str) -> Result<(Series, &str), String> {
    let end = text.find(|c: char| c.is_whitespace() || c == '{').unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let mut series = Series { name: name.to_owned(), labels: Vec::new() };
    let Some(labels) = rest.strip_prefix('{') else { return Ok((series, rest.trim_start())) };
    rest = labels.trim_start();
    while !rest.starts_with('}') {
        let (label, value) = rest.split_once("=\"").ok_or("a label has the form name=\"value\"")?;
        let (value, tail) = quoted(value)?;
        let value = String::from_utf8(value).map_err(|_| "a label value must be UTF-8")?;
        series = series.with(label.trim(), value);
        rest = tail.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        if rest.is_empty() {
            return Err("the closing brace is missing".to_owned());
        }
    }
    Ok((series, rest.split_at(1).1.trim_start()))
}

/// Seconds with at most nine decimals, as nanoseconds.
pub(super) fn nanoseconds(text: &str) -> Result<i64, String> {
    decimal(text, 9).ok_or_else(|| format!("{text} is not a time in seconds"))
}

/// Seconds with at most three decimals, as milliseconds.
pub(super) fn milliseconds(text: &str) -> Result<Millis, String> {
    decimal(text, 3).ok_or_else(|| format!("{text} is not a time in seconds and milliseconds"))
}

/// A number with a unit, as nanoseconds.
pub(super) fn duration(text: &str) -> Result<i64, String> {
    let found = duration::nanoseconds(text).and_then(|ns| i64::try_from(ns).ok());
    found.ok_or_else(|| format!("{text} is not a duration such as 50ms"))
}

/// A decimal number, times ten to the power of `decimals`.
fn decimal(text: &str, decimals: usize) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || fraction.len() > decimals || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let magnitude: i64 = format!("{whole}{fraction:0<decimals$}").parse().ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

/// An ID of `width` bytes.
pub(super) fn id(text: &str, width: usize) -> Result<Vec<u8>, String> {
    let digits = match text.strip_prefix("raw:") {
        Some(raw) => raw.to_owned(),
        None => format!("{text:0>digits$}", digits = width * 2),
    };
    let bytes: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| {
            std::str::from_utf8(pair).ok().filter(|p| p.len() == 2).and_then(|p| u8::from_str_radix(p, 16).ok())
        })
        .collect();
    bytes
        .filter(|b| text.starts_with("raw:") || b.len() == width)
        .ok_or_else(|| format!("{text} is not an ID of {width} bytes"))
}
