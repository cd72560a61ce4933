//! Durations as Go and Prometheus write them.

use super::Millis;

const MS: i128 = 1_000_000;

/// Reads a duration such as `1h30m`, `1.5s` or `-50ms`, in nanoseconds. `None` for anything else.
#[must_use]
pub fn nanoseconds(text: &str) -> Option<i128> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0;
    while !rest.is_empty() {
        let (amount, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        sum += scaled(amount, unit)?;
        rest = after;
    }
    Some(sign * sum)
}

/// The same in whole milliseconds.
#[must_use]
pub fn milliseconds(text: &str) -> Option<Millis> {
    Millis::try_from(nanoseconds(text)? / MS).ok()
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
    // Longer fractions are not written by hand.
    let places = u32::try_from(fraction.len()).ok().filter(|places| *places <= 9)?;
    let digits: u64 = format!("{whole}{fraction}").parse().ok()?;
    Some(i128::from(digits) * unit / 10_i128.pow(places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go_are_read() {
        for (text, ns) in [
            ("1h30m", 5_400_000 * MS),
            ("1.5s", 1_500 * MS),
            ("-50ms", -50 * MS),
            ("0", 0),
            ("2µs", 2_000),
            ("1d", 86_400_000 * MS),
        ] {
            assert_eq!(nanoseconds(text), Some(ns), "{text}");
        }
        for text in ["", "-", "5", "s", "1.0000000001s", "1.2.3s", "1h30", "1 h", "ü", "5µ", "99999999999999999999s"]
        {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
        assert_eq!((milliseconds("1h30m"), milliseconds("15d")), (Some(5_400_000), Some(1_296_000_000)));
    }
}
