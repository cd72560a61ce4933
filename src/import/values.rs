//! Values: theirs as text, ours as YAML.

use super::draft::Value;
use super::table::How;
use super::tree::{Tree, Value as Theirs};
use crate::config::show_text;

/// A value in our spelling, or why it is none.
pub(super) fn convert(how: How, tree: &Tree) -> Result<Value, String> {
    let text = || tree.text().ok_or_else(|| "is not one value".to_owned());
    Ok(Value::Flow(match how {
        How::Text => show_text(text()?),
        How::Bool => boolean(text()?)?.to_string(),
        How::Invert => (!boolean(text()?)?).to_string(),
        How::Whole => whole(text()?)?.to_string(),
        How::Number => number(text()?)?.to_string(),
        How::Bytes => format!("{}B", whole(text()?)?),
        How::Duration => show_duration(duration(text()?)?),
        How::Milliseconds => (duration(text()?)? / MS).to_string(),
        How::Seconds => bounds(tree, |text| Ok((number(text)? * 1e9).round() as u64))?,
        How::Bounds => bounds(tree, |text| u64::try_from(duration(text)?).map_err(|_| "is negative".to_owned()))?,
        How::Names => format!("[{}]", names(tree)?.iter().map(|name| show_text(name)).collect::<Vec<_>>().join(", ")),
        How::Joined => show_text(&names(tree)?.join(",")),
        How::Literal => match &tree.value {
            Theirs::List(items) if !items.is_empty() => return Ok(Value::Items(items.iter().map(flow).collect())),
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
    text.parse().map_err(|_| "is not a whole number from 0".to_owned())
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| "is not a number".to_owned())
}

/// A duration as Go and Prometheus write them, such as `1h30m` or `1.5s`, in nanoseconds.
pub(super) fn duration(text: &str) -> Result<i128, String> {
    let wrong = || "is not a duration".to_owned();
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    if rest == "0" {
        return Ok(0);
    }
    let mut sum = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (amount, after) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters).ok_or_else(wrong)?;
        sum += scaled(amount, unit).ok_or_else(wrong)?;
        rest = after;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(sign * sum) }
}

fn scaled(amount: &str, unit: &str) -> Option<i128> {
    let unit: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => MS,
        "s" => 1_000 * MS,
        "m" => 60_000 * MS,
        "h" => 3_600_000 * MS,
        "d" => 86_400_000 * MS,
        "w" => 604_800_000 * MS,
        "y" => 31_536_000_000 * MS,
        _ => return None,
    };
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    let digits = format!("{whole}{fraction}");
    // Longer ones are no durations that somebody wrote.
    let places = u32::try_from(fraction.len()).ok().filter(|places| *places <= 9)?;
    digits.parse::<u64>().ok().map(|digits| i128::from(digits) * unit / 10_i128.pow(places))
}

/// Nanoseconds as our files have them; below a millisecond they are rounded up.
pub(super) fn show_duration(ns: i128) -> String {
    let ms = (ns + MS - 1).div_euclid(MS);
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let fits = units.iter().find(|(_, factor)| ms % factor == 0 && (ms != 0 || *factor == 1_000));
    fits.map_or_else(|| format!("{ms}ms"), |(unit, factor)| format!("{}{unit}", ms / factor))
}

/// Bounds in ascending order, as Tempo sorts them, in seconds.
fn bounds(tree: &Tree, read: impl Fn(&str) -> Result<u64, String>) -> Result<String, String> {
    let mut read: Vec<u64> = names(tree)?.iter().map(|text| read(text)).collect::<Result<_, _>>()?;
    read.sort_unstable();
    let seconds: Vec<String> = read.iter().map(|ns| (*ns as f64 / 1e9).to_string()).collect();
    Ok(format!("[{}]", seconds.join(", ")))
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
