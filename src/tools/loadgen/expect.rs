//! The expected counts of a correct worker with default settings, as text and as numbers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;

use crate::core::model::{Counter, Ledger};

/// Every series, and the ledger, that a topic must result in once everything in it has been read and has expired.
///
/// As text: a line `name{label="value",...} number` per series, sorted, labels sorted by name; then a line
/// `# ledger name number` per counter. Durations are kept as integer nanoseconds and written in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expectation {
    series: BTreeMap<String, ExpectedValue>,
    ledger: Ledger,
}

/// The text is not an expectation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A line is neither a series nor a ledger line.
    #[error("line {line}: expected `name{{labels}} number` or `# ledger name number`")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A ledger line names a counter that does not exist.
    #[error("line {line}: unknown tally `{name}`; check whether another version wrote the file")]
    Counter {
        /// Counted from 1.
        line: usize,
        /// The unknown name.
        name: String,
    },
    /// A series occurs twice.
    #[error("line {line}: the series occurs twice; use the file of one run")]
    Twice {
        /// Counted from 1.
        line: usize,
    },
}

/// A value that adds up without rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpectedValue {
    Count(u64),
    /// The sum of a histogram of seconds, or a counter of seconds, in nanoseconds.
    Nanos(u128),
}

/// Collects series under their canonical text; series with the same text add up.
#[derive(Debug, Default)]
pub(super) struct Series(BTreeMap<String, ExpectedValue>);

/// Begins a line with the steps of a series.
pub(super) const STEPS: &str = "# steps ";

/// The upper bound of a bucket: nanoseconds, and `le`.
pub type Bound = (u64, &'static str);

/// The default buckets of span metrics.
pub(super) const SPAN_BOUNDS: [Bound; 14] = [
    (2_000_000, "0.002"),
    (4_000_000, "0.004"),
    (8_000_000, "0.008"),
    (16_000_000, "0.016"),
    (32_000_000, "0.032"),
    (64_000_000, "0.064"),
    (128_000_000, "0.128"),
    (256_000_000, "0.256"),
    (512_000_000, "0.512"),
    (1_024_000_000, "1.024"),
    (2_048_000_000, "2.048"),
    (4_096_000_000, "4.096"),
    (8_192_000_000, "8.192"),
    (16_384_000_000, "16.384"),
];

/// The default buckets of service graphs.
pub(super) const EDGE_BOUNDS: [Bound; 8] = [
    (100_000_000, "0.1"),
    (200_000_000, "0.2"),
    (400_000_000, "0.4"),
    (800_000_000, "0.8"),
    (1_600_000_000, "1.6"),
    (3_200_000_000, "3.2"),
    (6_400_000_000, "6.4"),
    (12_800_000_000, "12.8"),
];

// === impl Expectation ===

impl Expectation {
    pub(super) fn new(series: Series, ledger: Ledger) -> Self {
        Self { series: series.0, ledger }
    }

    /// Adds what another producer to the same topic has sent. Exact.
    pub fn merge(&mut self, other: &Self) {
        for (name, value) in &other.series {
            add(&mut self.series, name.clone(), *value);
        }
        self.ledger.merge(&other.ledger);
    }

    /// The value of a series by its canonical text.
    #[must_use]
    pub fn get(&self, series: &str) -> Option<f64> {
        self.series.get(series).map(|v| v.as_f64())
    }

    /// All series, sorted by their canonical text.
    pub fn series(&self) -> impl ExactSizeIterator<Item = (&str, f64)> {
        self.series.iter().map(|(name, v)| (name.as_str(), v.as_f64()))
    }

    /// The canonical text of a series. `labels` are sorted by name; empty values are skipped.
    #[must_use]
    pub fn text_of(name: &str, labels: &[(&str, &str)]) -> String {
        canonical(name, labels)
    }

    /// The counters. Counters that the source does not determine (lost records, a cap on pending edges) are 0.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Reads what [`std::fmt::Display`] wrote. Sums are exact while they are below 2^53 ns (104 days) per series.
    ///
    /// # Errors
    /// Names the first line that does not fit.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut parsed = Self::default();
        for (line, content) in (1..).zip(text.lines()) {
            match content.strip_prefix("# ledger ") {
                Some(counter) => parsed.parse_counter(line, counter)?,
                None if content.starts_with(STEPS) => {}
                None => parsed.parse_series(line, content)?,
            }
        }
        Ok(parsed)
    }

    fn parse_counter(&mut self, line: usize, content: &str) -> Result<(), ParseError> {
        let (name, number) = content.split_once(' ').ok_or(ParseError::Line { line })?;
        let unknown = || ParseError::Counter { line, name: name.to_owned() };
        let counter = Counter::ALL.iter().find(|t| t.name() == name).ok_or_else(unknown)?;
        self.ledger.add(*counter, number.parse().map_err(|_| ParseError::Line { line })?);
        Ok(())
    }

    fn parse_series(&mut self, line: usize, content: &str) -> Result<(), ParseError> {
        let (name, number) = content.rsplit_once(' ').ok_or(ParseError::Line { line })?;
        let (metric, _) = name.split_once('{').filter(|_| name.ends_with('}')).ok_or(ParseError::Line { line })?;
        let value = if metric.ends_with("_sum") || metric.ends_with("_seconds_total") {
            let seconds: f64 = number.parse().map_err(|_| ParseError::Line { line })?;
            ExpectedValue::Nanos((seconds * 1e9).round() as u128)
        } else {
            ExpectedValue::Count(number.parse().map_err(|_| ParseError::Line { line })?)
        };
        match self.series.insert(name.to_owned(), value) {
            Some(_) => Err(ParseError::Twice { line }),
            None => Ok(()),
        }
    }
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in self.series() {
            writeln!(f, "{name} {value}")?;
        }
        self.ledger.iter().try_for_each(|(counter, n)| writeln!(f, "# ledger {} {n}", counter.name()))
    }
}

// === impl ExpectedValue ===

impl ExpectedValue {
    fn as_f64(self) -> f64 {
        match self {
            Self::Count(n) => n as f64,
            Self::Nanos(ns) => ns as f64 / 1e9,
        }
    }

    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Count(a), Self::Count(b)) => Self::Count(a + b),
            (Self::Nanos(a), Self::Nanos(b)) => Self::Nanos(a + b),
            // A metric's name decides which of the two its value is, so mixed pairs have different names.
            (kept, _) => kept,
        }
    }
}

// === impl Series ===

impl Series {
    /// All of them, sorted by their canonical text.
    pub(super) fn values(self) -> impl Iterator<Item = (String, f64)> {
        self.0.into_iter().map(|(name, value)| (name, value.as_f64()))
    }

    /// Adds a counter or a histogram's `_count`. `labels` are sorted by name; empty values are skipped.
    pub(super) fn count(&mut self, name: &str, labels: &[(&str, &str)], n: u64) {
        add(&mut self.0, canonical(name, labels), ExpectedValue::Count(n));
    }

    /// Adds a histogram's `_sum`, or a counter of seconds.
    pub(super) fn sum(&mut self, name: &str, labels: &[(&str, &str)], ns: u128) {
        add(&mut self.0, canonical(name, labels), ExpectedValue::Nanos(ns));
    }

    /// Adds a cumulative bucket of the histogram `name`.
    pub(super) fn bucket(&mut self, name: &str, labels: &[(&str, &str)], le: &str, n: u64) {
        let mut with_le = labels.to_vec();
        with_le.insert(labels.partition_point(|&(label, _)| label < "le"), ("le", le));
        add(&mut self.0, canonical(&format!("{name}_bucket"), &with_le), ExpectedValue::Count(n));
    }
}

fn add(series: &mut BTreeMap<String, ExpectedValue>, name: String, value: ExpectedValue) {
    match series.entry(name) {
        Entry::Vacant(e) => drop(e.insert(value)),
        Entry::Occupied(mut e) => {
            let sum = e.get().plus(value);
            e.insert(sum);
        }
    }
}

/// `name{label="value",...}` with the escapes of the Prometheus text format.
fn canonical(name: &str, labels: &[(&str, &str)]) -> String {
    let mut out = format!("{name}{{");
    for (label, value) in labels.iter().filter(|(_, v)| !v.is_empty()) {
        if !out.ends_with('{') {
            out.push(',');
        }
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write!(out, "{label}=\"{escaped}\"").expect("a String takes everything");
    }
    out.push('}');
    out
}
