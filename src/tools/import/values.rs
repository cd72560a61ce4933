//! Values: the other product's as text, spanmill's as YAML.

use super::draft::YamlValue;
use super::table::How;
use super::tree::{Tree, TreeValue as Theirs};
use crate::config::show_text;
use crate::core::model::duration::nanoseconds;

/// A value in spanmill's notation, or why it is invalid.
pub(super) fn convert(how: How, tree: &Tree) -> Result<YamlValue, String> {
    let text = || tree.text().ok_or_else(|| "is not one value".to_owned());
    Ok(YamlValue::Flow(match how {
        How::Text => show_text(text()?),
        How::Bool => boolean(text()?)?.to_string(),
        How::Invert => (!boolean(text()?)?).to_string(),
        How::Whole => whole(text()?)?.to_string(),
        How::Number => number(text()?)?.to_string(),
        How::Bytes => format!("{}B", whole(text()?)?),
        How::Duration => show_duration(duration(text()?)?),
        How::Milliseconds => (duration(text()?)? / MS).to_string(),
        How::Seconds => return bounds(tree, |text| Ok((number(text)? * 1e9).round() as u64)),
        How::Bounds => {
            return bounds(tree, |text| u64::try_from(duration(text)?).map_err(|_| "is negative".to_owned()));
        }
        How::Names => return Ok(list(&names(tree)?)),
        How::Joined => show_text(&names(tree)?.join(",")),
        How::Literal => match &tree.value {
            Theirs::List(items) if !items.is_empty() => return Ok(YamlValue::Items(items.iter().map(flow).collect())),
            _ => flow(tree),
        },
        How::Nothing | How::Labels | How::Secret(_) | How::Fixed(_) | How::By(_) => String::new(),
    }))
}

const MS: i128 = 1_000_000;

/// `true` and `false` in all spellings that YAML 1.1 has for them.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

pub(super) fn whole(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "is not an integer from 0".to_owned())
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| "is not a number".to_owned())
}

/// A duration as Go and Prometheus write them, in nanoseconds.
pub(super) fn duration(text: &str) -> Result<i128, String> {
    nanoseconds(text).ok_or_else(|| "is not a duration".to_owned())
}

/// Nanoseconds in spanmill's notation; below a millisecond they are rounded up.
pub(super) fn show_duration(ns: i128) -> String {
    let ms = (ns + MS - 1).div_euclid(MS);
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let fits = units.iter().find(|(_, factor)| ms % factor == 0 && (ms != 0 || *factor == 1_000));
    fits.map_or_else(|| format!("{ms}ms"), |(unit, factor)| format!("{}{unit}", ms / factor))
}

/// Bounds in ascending order, as Tempo sorts them, in seconds.
fn bounds(tree: &Tree, read: impl Fn(&str) -> Result<u64, String>) -> Result<YamlValue, String> {
    let mut read: Vec<u64> = names(tree)?.iter().map(|text| read(text)).collect::<Result<_, _>>()?;
    read.sort_unstable();
    Ok(YamlValue::List(read.iter().map(|ns| (*ns as f64 / 1e9).to_string()).collect()))
}

/// A list of texts in spanmill's notation.
pub(super) fn list(names: &[String]) -> YamlValue {
    YamlValue::List(names.iter().map(|name| show_text(name)).collect())
}

/// The first duration of a list that is not above the one before it, and where it stands.
pub(super) fn descent(tree: &Tree) -> Option<(usize, String)> {
    let named = names(tree).ok()?;
    let read: Vec<i128> = named.iter().map(|text| duration(text)).collect::<Result<_, _>>().ok()?;
    let at = read.windows(2).position(|pair| pair[0] >= pair[1])?;
    Some((at + 1, format!("{} after {}", named[at + 1], named[at])))
}

/// A list of texts; a single text counts as one, as both read it.
pub(super) fn names(tree: &Tree) -> Result<Vec<String>, String> {
    match &tree.value {
        Theirs::Empty => Ok(Vec::new()),
        Theirs::Text(text, _) => Ok(text.split(',').map(|part| part.trim().to_owned()).collect()),
        Theirs::List(items) => items
            .iter()
            .map(|item| item.text().map(ToOwned::to_owned).ok_or_else(|| "is not a list of texts".to_owned()))
            .collect(),
        Theirs::Map(_) => Err("is not a list".to_owned()),
    }
}

/// A value as it stands, on one line.
pub(super) fn flow(tree: &Tree) -> String {
    match &tree.value {
        Theirs::Empty => "\"\"".to_owned(),
        Theirs::Text(text, quoted) => {
            let number = text.parse::<f64>().is_ok();
            match (quoted, number || matches!(text.as_str(), "true" | "false")) {
                // `"11"` is text, `11` is a number.
                (true, true) => format!("\"{text}\""),
                (false, true) => text.clone(),
                _ => show_text(text),
            }
        }
        Theirs::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Theirs::Map(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|entry| format!("{}: {}", show_text(&entry.name), flow(&entry.tree))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{duration, show_duration};

    #[test]
    fn durations_of_go_and_prometheus_become_ours() {
        for (theirs, ours) in [
            ("15s", "15s"),
            ("1m30s", "90s"),
            ("1.5s", "1500ms"),
            ("2h45m", "165m"),
            ("1d", "24h"),
            ("250ms", "250ms"),
            ("10us", "1ms"),
            ("0", "0s"),
            ("90m", "90m"),
        ] {
            assert_eq!(duration(theirs).map(show_duration), Ok(ours.to_owned()), "{theirs}");
        }
        assert_eq!(duration("-20s"), Ok(-20_000_000_000));
        for text in ["", "15", "s", "1x", "1s5", "1.0000000001s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
