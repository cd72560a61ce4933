//! Series names as text, the expectation file of `spanmill produce`, and the difference of two sets of series.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A metric name and its labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Series {
    /// The metric.
    pub name: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
}

/// Series with their values.
pub type Values = BTreeMap<Series, f64>;

// === impl Series ===

impl Series {
    /// Reads `name{a="b",...}`, where `\`, `"` and line feeds in values are escaped. A label without a value is no label.
    ///
    /// # Panics
    /// On anything else.
    pub fn parse(text: &str) -> Self {
        let Some((name, rest)) = text.split_once('{') else {
            return Self { name: text.to_owned(), labels: BTreeMap::new() };
        };
        let mut chars = rest.strip_suffix('}').unwrap_or_else(|| panic!("no closing brace: {text}")).chars();
        let mut labels = BTreeMap::new();
        loop {
            let key: String = chars.by_ref().take_while(|&c| c != '=').collect();
            if key.is_empty() {
                return Self { name: name.to_owned(), labels };
            }
            assert_eq!(chars.next(), Some('"'), "no quote after {key}= in {text}");
            let mut value = String::new();
            loop {
                match chars.next().unwrap_or_else(|| panic!("no closing quote: {text}")) {
                    '"' => break,
                    '\\' => match chars.next() {
                        Some('n') => value.push('\n'),
                        Some(c) => value.push(c),
                        None => panic!("ends in an escape: {text}"),
                    },
                    c => value.push(c),
                }
            }
            if !value.is_empty() {
                assert!(labels.insert(key, value).is_none(), "a label comes twice: {text}");
            }
            assert!(matches!(chars.next(), None | Some(',')), "no comma between labels: {text}");
        }
    }

    /// The value of a label; empty without one.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Only the named labels.
    pub fn only(&self, names: &[&str]) -> BTreeMap<String, String> {
        let kept = self.labels.iter().filter(|(k, v)| names.contains(&k.as_str()) && !v.is_empty());
        kept.map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}

impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let labels: Vec<String> = self.labels.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
        write!(f, "{}{{{}}}", self.name, labels.join(","))
    }
}

/// Reads an expectation file: `series value` lines; lines that start with `#` are left out.
pub fn expectation(text: &str) -> Values {
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            (Series::parse(series), value.parse().unwrap_or_else(|_| panic!("not a number: {line}")))
        })
        .collect()
}

/// The first differences, at most `limit`; `Ok` when there is none. Values are compared bit for bit.
pub fn compare(expected: &Values, found: &Values, limit: usize) -> Result<(), String> {
    let mut lines = Vec::new();
    for (series, value) in expected {
        match found.get(series) {
            Some(other) if other.to_bits() == value.to_bits() => {}
            Some(other) => lines.push(format!("{series}: expected {value}, found {other}")),
            None => lines.push(format!("{series}: expected {value}, found nothing")),
        }
    }
    for (series, value) in found.iter().filter(|(series, _)| !expected.contains_key(series)) {
        lines.push(format!("{series}: not expected, found {value}"));
    }
    if lines.is_empty() {
        return Ok(());
    }
    let mut text = format!("{} differences in {} expected series:", lines.len(), expected.len());
    for line in lines.iter().take(limit) {
        write!(text, "\n  {line}").expect("a string takes everything");
    }
    Err(text)
}
