//! What a receiver remembers, and what it holds against the sender.

use std::collections::BTreeMap;

use crate::model::Millis;
use crate::remotewrite::decode;
use crate::remotewrite::decode::proto::{Exemplar, Label, TimeSeries};

use super::Totals;

/// So many contradictions are kept in words; the rest is counted.
const MAX_VIOLATIONS: usize = 100;
/// The limit of exemplar labels in OpenMetrics, in characters.
const MAX_EXEMPLAR_CHARS: usize = 128;

/// Remembers every sample of every series and checks each new one against them:
///
/// * the same series and timestamp have the same value, bit for bit,
/// * timestamps ascend, unless the sample is a resent one,
/// * counters (`_total`, `_bucket`, `_count`, `_sum`) never fall, unless a stale marker ended the series and it begins
///   again at zero,
/// * labels are sorted, unique, not empty and hold a name; exemplars have labels, and not too many.
#[derive(Debug, Default)]
pub struct Memory {
    series: BTreeMap<String, Remembered>,
    samples: u64,
    resent: u64,
    exemplars: u64,
    violations: Vec<String>,
    violated: u64,
}

/// The last state of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeriesState {
    /// The timestamp of the newest sample.
    pub last_ts: Millis,
    /// The newest value that is not a stale marker; NaN when there is none.
    pub last_value: f64,
    /// Whether the newest sample is a stale marker.
    pub stale: bool,
    /// Distinct samples.
    pub samples: u64,
    /// Exemplars, resent ones included.
    pub exemplars: u64,
}

#[derive(Debug)]
struct Remembered {
    counter: bool,
    state: SeriesState,
    /// The bits of the value by timestamp.
    values: BTreeMap<Millis, u64>,
}

// === impl Memory ===

impl Memory {
    /// Remembers one entry of a request. `tenant` is empty for a sender without tenants.
    pub fn store(&mut self, tenant: &str, entry: &TimeSeries) {
        let key = key(tenant, &decode::text(&entry.labels));
        let mut found = Vec::new();
        check_labels(&entry.labels, &mut found);
        entry.exemplars.iter().for_each(|e| check_exemplar(e, &mut found));
        let series = self.series.entry(key.clone()).or_insert_with(|| Remembered::new(&entry.labels));
        for sample in &entry.samples {
            self.samples += 1;
            self.resent += u64::from(series.add(sample.timestamp, sample.value, &mut found));
        }
        series.state.exemplars += entry.exemplars.len() as u64;
        self.exemplars += entry.exemplars.len() as u64;
        self.violated += found.len() as u64;
        let room = MAX_VIOLATIONS - self.violations.len();
        self.violations.extend(found.into_iter().take(room).map(|what| format!("{key}: {what}")));
    }

    /// Whether an entry holds a sample older than the newest one of its series, given the series' text.
    #[must_use]
    pub fn is_old(&self, tenant: &str, text: &str, entry: &TimeSeries) -> bool {
        let newest = self.series.get(&key(tenant, text)).map(|s| s.state.last_ts);
        newest.is_some_and(|newest| entry.samples.iter().any(|s| s.timestamp < newest))
    }

    /// The last state of every series, by its text.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, SeriesState> {
        self.series.iter().map(|(name, s)| (name.clone(), s.state)).collect()
    }

    /// The first contradictions, in words.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Everything but the requests, which are not known here.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            requests: 0,
            refused: 0,
            samples: self.samples,
            resent: self.resent,
            exemplars: self.exemplars,
            series: self.series.len() as u64,
            violations: self.violated,
        }
    }
}

// === impl Remembered ===

impl Remembered {
    fn new(labels: &[Label]) -> Self {
        let name = labels.iter().find(|l| l.name == "__name__").map_or("", |l| l.value.as_str());
        let counter = ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end));
        let state = SeriesState { last_ts: Millis::MIN, last_value: f64::NAN, stale: false, samples: 0, exemplars: 0 };
        Self { counter, state, values: BTreeMap::new() }
    }

    /// Adds a sample; true when it was there already.
    fn add(&mut self, at: Millis, value: f64, found: &mut Vec<String>) -> bool {
        if let Some(&known) = self.values.get(&at) {
            if known != value.to_bits() {
                found.push(format!("at {at} it was {} and is now {value}", f64::from_bits(known)));
            }
            return true;
        }
        self.values.insert(at, value.to_bits());
        self.state.samples += 1;
        if at <= self.state.last_ts {
            found.push(format!("a new sample at {at} comes after one at {}", self.state.last_ts));
            return false;
        }
        let (last, restarts) = (self.state.last_value, self.state.stale && value == 0.0);
        self.state.last_ts = at;
        self.state.stale = decode::is_stale(value);
        if !self.state.stale {
            if self.counter && value < last && !restarts {
                found.push(format!("the counter falls from {last} to {value} at {at}"));
            }
            self.state.last_value = value;
        }
        false
    }
}

fn key(tenant: &str, text: &str) -> String {
    if tenant.is_empty() { text.to_owned() } else { format!("{tenant}/{text}") }
}

fn check_labels(labels: &[Label], found: &mut Vec<String>) {
    if !labels.is_sorted_by(|a, b| a.name < b.name) {
        found.push("labels are not sorted or not unique".to_owned());
    }
    if labels.iter().any(|l| l.name.is_empty() || l.value.is_empty()) {
        found.push("a label is empty".to_owned());
    }
    if !labels.iter().any(|l| l.name == "__name__") {
        found.push("there is no __name__".to_owned());
    }
}

fn check_exemplar(e: &Exemplar, found: &mut Vec<String>) {
    let chars: usize = e.labels.iter().map(|l| l.name.chars().count() + l.value.chars().count()).sum();
    if chars == 0 || chars > MAX_EXEMPLAR_CHARS {
        found.push(format!("an exemplar has labels of {chars} characters"));
    }
    if e.timestamp <= 0 {
        found.push(format!("an exemplar is from {}", e.timestamp));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remotewrite::decode::STALE_MARKER;
    use crate::remotewrite::decode::proto::Sample;

    fn entry(name: &str, samples: &[(Millis, f64)]) -> TimeSeries {
        TimeSeries {
            labels: vec![Label { name: "__name__".to_owned(), value: name.to_owned() }],
            samples: samples.iter().map(|&(timestamp, value)| Sample { value, timestamp }).collect(),
            exemplars: Vec::new(),
            histograms: Vec::new(),
        }
    }

    fn violations(name: &str, samples: &[(Millis, f64)]) -> Vec<String> {
        let mut m = Memory::default();
        m.store("", &entry(name, samples));
        m.violations().to_vec()
    }

    #[test]
    fn a_resent_sample_is_fine_and_a_contradicted_one_is_not() {
        let mut m = Memory::default();
        m.store("", &entry("a_total", &[(1, 1.0), (2, 2.0)]));
        m.store("", &entry("a_total", &[(1, 1.0)]));
        assert_eq!((m.totals().samples, m.totals().resent, m.totals().violations), (3, 1, 0));
        m.store("", &entry("a_total", &[(1, 1.5)]));
        assert_eq!(m.violations(), ["a_total: at 1 it was 1 and is now 1.5"]);
        assert_eq!(m.snapshot()["a_total"].last_ts, 2);
    }

    #[test]
    fn a_counter_may_not_fall_and_a_gauge_may() {
        for name in ["x_total", "x_bucket", "x_count", "x_sum"] {
            assert_eq!(violations(name, &[(1, 2.0), (2, 1.0)]).len(), 1, "{name}");
        }
        assert!(violations("x", &[(1, 2.0), (2, 1.0)]).is_empty());
    }

    #[test]
    fn after_a_stale_marker_a_counter_goes_on_or_begins_at_zero() {
        let stale = f64::from_bits(STALE_MARKER);
        assert!(violations("x_total", &[(1, 2.0), (2, stale), (3, 2.0)]).is_empty());
        assert!(violations("x_total", &[(1, 2.0), (2, stale), (3, 0.0), (4, 1.0)]).is_empty());
        assert_eq!(violations("x_total", &[(1, 2.0), (2, stale), (3, 1.0)]).len(), 1);
        assert_eq!(violations("x_total", &[(1, 2.0), (2, 0.0)]).len(), 1);
    }

    #[test]
    fn a_new_sample_in_the_past_is_a_contradiction() {
        assert_eq!(violations("x", &[(5, 1.0), (4, 1.0)]), ["x: a new sample at 4 comes after one at 5"]);
    }

    #[test]
    fn tenants_do_not_mix() {
        let mut m = Memory::default();
        m.store("a", &entry("x_total", &[(1, 5.0)]));
        m.store("b", &entry("x_total", &[(1, 1.0)]));
        assert_eq!(m.totals().violations, 0);
        assert_eq!(m.snapshot().keys().collect::<Vec<_>>(), ["a/x_total", "b/x_total"]);
    }

    #[test]
    fn labels_and_exemplars_are_checked() {
        let label = |n: &str, v: &str| Label { name: n.to_owned(), value: v.to_owned() };
        let mut odd = entry("x", &[(1, 1.0)]);
        odd.labels = vec![label("b", ""), label("a", "1")];
        odd.exemplars = vec![Exemplar { labels: vec![label("traceID", &"f".repeat(200))], value: 1.0, timestamp: 0 }];
        let mut m = Memory::default();
        m.store("", &odd);
        assert_eq!(m.totals().violations, 5);
    }

    #[test]
    fn words_are_bounded_and_the_count_is_not() {
        let mut m = Memory::default();
        for i in 0..500 {
            m.store("", &entry("x", &[(1, f64::from(i))]));
        }
        assert_eq!((m.violations().len(), m.totals().violations), (MAX_VIOLATIONS, 499));
    }
}
