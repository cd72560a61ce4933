//! How values are written: text to value, and value to text.

use super::draft::DraftField;
use super::problem::quoted;
use crate::core::model::{Millis, Unit};

/// `15s`, `250ms`, `15m`, `1h` to milliseconds.
///
/// # Errors
/// Names the problem, and how a duration is written.
pub fn duration(text: &str) -> Result<Millis, String> {
    let (digits, unit) = number_and_unit(text);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if !digits.is_empty() => {
            return Err(format!("{} has no unit; write `{digits}s` or `{digits}ms`", quoted(text)));
        }
        _ => {
            return Err(format!("{} is not a duration; write an integer and ms, s, m or h, as in `15s`", quoted(text)));
        }
    };
    scaled(digits, factor).ok_or_else(|| format!("{} is too long; write one such as `15s`", quoted(text)))
}

/// `64MiB`, `900KB`, `512B` to bytes.
pub(super) fn size(text: &str) -> Result<i64, String> {
    let (digits, unit) = number_and_unit(text);
    let factor = match unit {
        "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" if !digits.is_empty() => {
            return Err(format!("{} has no unit; write `{digits}B`, or one such as `4MiB`", quoted(text)));
        }
        _ => {
            let units = "B, KB, MB, GB, KiB, MiB or GiB";
            return Err(format!("{} is not a size; write an integer and {units}, as in `4MiB`", quoted(text)));
        }
    };
    scaled(digits, factor).ok_or_else(|| format!("{} is too large; write one such as `4MiB`", quoted(text)))
}

/// Seconds to whole nanoseconds; a bound of a histogram.
pub(super) fn bound(text: &str) -> Result<u64, String> {
    let seconds: f64 = match text.parse() {
        Ok(seconds) if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => seconds,
        _ => return Err(format!("{} is not a number of seconds; write one such as `0.005`", quoted(text))),
    };
    let ns = (seconds * 1e9).round();
    if !(1.0..=1e12).contains(&ns) {
        return Err(format!("{} must be above 0 and at most 1000 seconds", quoted(text)));
    }
    Ok(ns as u64)
}

/// A bound of an attribute's histogram, in billionths of the attribute's unit. Read as decimal, so that every one with up to 9
/// digits behind the point is exact.
pub(super) fn decimal(text: &str) -> Result<u64, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let number = (digits(whole, 11) && digits(fraction, 9)).then(|| format!("{whole}{fraction:0<9}"));
    let number = number.and_then(|digits| digits.parse::<u64>().ok());
    number.filter(|billionths| (1..=MOST_BOUND).contains(billionths)).ok_or_else(|| {
        format!(
            "{} is not a bound; write a decimal above 0, at most {}, with at most 9 digits behind the point",
            quoted(text),
            show_billionths(MOST_BOUND)
        )
    })
}

/// The greatest bound of an attribute's histogram: 10 billion.
const MOST_BOUND: u64 = 10_000_000_000_000_000_000;

/// Billionths in decimal.
pub(super) fn show_billionths(billionths: u64) -> String {
    Unit::Seconds.text(billionths)
}

/// A whole number.
pub(super) fn whole(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("{} is not an integer", quoted(text)))
}

/// A number above `above` and at most `most`.
pub(super) fn fraction(text: &str, above: f64, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > above && number <= most => Ok(number),
        Ok(_) => Err(format!("{} is out of range; write a number above {above}, at most {most}", quoted(text))),
        Err(_) => Err(format!("{} is not a number; write one such as `1.1`", quoted(text))),
    }
}

/// `true` or `false`; YAML 1.1's other spellings are too likely to be meant as text.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{} is neither `true` nor `false`", quoted(text))),
    }
}

fn number_and_unit(text: &str) -> (&str, &str) {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(at)
}

fn scaled(digits: &str, factor: i64) -> Option<i64> {
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

/// Milliseconds in the notation of the configuration.
pub(super) fn show_duration(ms: Millis) -> String {
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    units
        .iter()
        .find(|(_, factor)| ms % factor == 0 && (ms != 0 || *factor == 1_000))
        .map_or_else(|| format!("{ms}ms"), |(unit, factor)| format!("{}{unit}", ms / factor))
}

/// Bytes in the notation of the configuration.
pub(super) fn show_size(bytes: i64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    let units =
        [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000)];
    units
        .iter()
        .find(|(_, factor)| bytes % factor == 0)
        .map_or_else(|| format!("{bytes}B"), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

/// Text as it would stand in the file: quoted where YAML could misread it, also inside `[a, b]`.
pub(crate) fn show_text(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "._-/:=+$^@%".contains(c);
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || "/.^$".contains(c));
    let word = matches!(text.to_ascii_lowercase().as_str(), "null" | "true" | "false" | "yes" | "no" | "on" | "off");
    if starts_well && !word && !text.ends_with(':') && text.chars().all(safe) {
        return text.to_owned();
    }
    show_quoted(text)
}

/// Text in quotes.
pub(super) fn show_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a slot as it would stand in the file, a secret as `***`. Maps are shown entry by entry, not here.
pub(super) fn show(slot: &DraftField<'_>) -> String {
    match slot {
        DraftField::Text(text) => show_text(text),
        DraftField::Path(path) => show_text(&path.as_ref().map(|path| path.to_string_lossy()).unwrap_or_default()),
        DraftField::Secret(secret) => if secret.reveal().is_empty() { "\"\"" } else { "***" }.to_owned(),
        DraftField::Bool(value) => value.to_string(),
        DraftField::Choice(choice) => choice.word().to_owned(),
        DraftField::Whole(number, _) => number.get().to_string(),
        DraftField::Fraction(number, ..) => number.to_string(),
        DraftField::Size(bytes, _) => show_size(i64::try_from(**bytes).unwrap_or(i64::MAX)),
        DraftField::Duration(ms, _) => show_duration(**ms),
        DraftField::Buckets(bounds) => show_bounds(bounds),
        DraftField::List(items) => show_texts(items),
        DraftField::Items(items) => items.show(),
        DraftField::Labels(_) | DraftField::Secrets(_) => "{}".to_owned(),
    }
}

/// Histogram bounds as they would stand in the file.
pub(super) fn show_bounds(bounds_ns: &[u64]) -> String {
    show_list(bounds_ns.iter().map(|ns| (*ns as f64 / 1e9).to_string()))
}

/// Texts as a list.
pub(super) fn show_texts(texts: &[String]) -> String {
    show_list(texts.iter().map(|text| show_text(text)))
}

pub(super) fn show_list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}
