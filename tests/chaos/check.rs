//! What the receiver has, against what it must have.

use std::collections::BTreeMap;

use spanmill::core::model::Counter;
use spanmill::tools::loadgen::Expectation;
use spanmill::tools::receiver::SeriesState;

use crate::fleet::Fleet;

/// How many differences are shown.
const SHOWN: usize = 12;
/// One sample of it is one span.
const CALLS: &str = "traces_spanmetrics_calls_total";

/// How two sets of series differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Series that are below what they must be, or absent.
    pub low: u64,
    /// Series that are above it.
    pub high: u64,
    /// Series that must not be there.
    pub unexpected: u64,
    /// Spans that were not counted, and that were counted once too often.
    pub spans_lost: u64,
    pub spans_double: u64,
    /// The first of them, in words.
    pub words: Vec<String>,
}

// === impl Difference ===

impl Difference {
    /// Compares the last value of every series, bit for bit.
    pub fn of(expected: &Expectation, found: &BTreeMap<String, SeriesState>) -> Self {
        let mut out = Self::default();
        for (series, value) in expected.series() {
            let last = found.get(series).map_or(0.0, |s| s.last_value);
            if found.contains_key(series) && last.to_bits() == value.to_bits() {
                continue;
            }
            let spans = if metric(series) == CALLS { (value - last).abs() as u64 } else { 0 };
            if last > value {
                out.high += 1;
                out.spans_double += spans;
            } else {
                out.low += 1;
                out.spans_lost += spans;
            }
            out.say(format!("{series}: expected {value}, found {last}"));
        }
        for (series, state) in found.iter().filter(|(series, _)| expected.get(series).is_none()) {
            out.unexpected += 1;
            out.say(format!("{series}: not expected, found {}", state.last_value));
        }
        out
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.low + self.high + self.unexpected == 0
    }

    fn say(&mut self, words: String) {
        if self.words.len() < SHOWN {
            self.words.push(words);
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { low, high, unexpected, spans_lost, spans_double, words } = self;
        write!(f, "{low} series too low ({spans_lost} spans lost), {high} too high ({spans_double} spans double), ")?;
        write!(f, "{unexpected} not expected")?;
        words.iter().try_for_each(|w| write!(f, "\n  {w}"))
    }
}

/// The metric of a series, before which its tenant may stand.
fn metric(series: &str) -> &str {
    let name = series.split('{').next().unwrap_or_default();
    name.rsplit('/').next().unwrap_or_default()
}

/// The ledgers of all source partitions, added up, against the one that the load expects; and against themselves.
pub fn ledger(expected: &Expectation, fleet: &Fleet) -> Vec<String> {
    let metrics = fleet.metrics();
    let found = |counter: Counter| -> u64 {
        let metric = counter.metric();
        let (name, label) =
            (format!("{}{{", metric.name), metric.label.map(|(key, value)| format!("{key}=\"{value}\"")));
        let lines = metrics.iter().flat_map(|t| t.lines()).filter(|l| l.starts_with(&name));
        let own =
            lines.filter(|l| label.as_ref().is_none_or(|label| l.contains(label)) && l.contains("state=\"owned\""));
        own.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
    };
    let mut wrong = Vec::new();
    let mut dropped = 0;
    for (counter, n) in expected.ledger().iter() {
        let (name, found) = (counter.name(), found(counter));
        dropped += if name.starts_with("spans_dropped_") { found } else { 0 };
        if found != n {
            wrong.push(format!("{name}: expected {n}, found {found}"));
        }
    }
    let (read, counted) = (found(Counter::SpansRead), found(Counter::SpansCounted));
    if read != counted + dropped {
        wrong.push(format!("spans_read {read} is not spans_counted {counted} + dropped {dropped}"));
    }
    wrong
}
