//! The memory of a receiver, and the contradictions that it finds.

use std::collections::BTreeMap;

use crate::core::model::Millis;
use crate::core::remotewrite::decode::proto::{Exemplar, Histogram, Label, TimeSeries};
use crate::core::remotewrite::decode::{self, Native};

use super::Totals;

/// The maximum number of contradictions kept as text; further ones are counted.
const MAX_VIOLATIONS: usize = 100;
/// The limit of exemplar labels in OpenMetrics, in characters.
const MAX_EXEMPLAR_CHARS: usize = 128;

/// Remembers every sample of every series and checks each new one against them:
///
/// * the same series and timestamp have the same value, bit for bit,
/// * timestamps ascend, unless the sample is a resent one,
/// * counters (`_total`, `_bucket`, `_count`, `_sum`) never fall, unless a stale marker ended the series and it begins
///   again at zero,
/// * native histograms follow the rules of receivers, and neither their count nor their sum nor a bucket falls,
/// * a series has either floats or native histograms,
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
    /// The newest value that is not a stale marker, of a native histogram its count; NaN when there is none.
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
    /// Whether a sample was a float.
    floats: bool,
    state: SeriesState,
    /// The bits of the value by timestamp, of a native histogram a checksum.
    values: BTreeMap<Millis, u64>,
    /// The newest native histogram.
    native: Option<Native>,
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
        for sample in &entry.histograms {
            self.samples += 1;
            self.resent += u64::from(series.add_native(sample, &mut found));
        }
        if !entry.histograms.is_empty() && series.floats {
            found.push("floats and native histograms in one series".to_owned());
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
        let mut times = entry.samples.iter().map(|s| s.timestamp).chain(entry.histograms.iter().map(|h| h.timestamp));
        newest.is_some_and(|newest| times.any(|at| at < newest))
    }

    /// The last state of every series, by its text.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, SeriesState> {
        self.series.iter().map(|(name, s)| (name.clone(), s.state)).collect()
    }

    /// The newest native histogram of every series that has any, by its text.
    #[must_use]
    pub fn natives(&self) -> BTreeMap<String, Native> {
        let natives = self.series.iter().filter_map(|(name, s)| Some((name.clone(), s.native.clone()?)));
        natives.collect()
    }

    /// The first contradictions, in words.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// The totals, except for the requests, which are counted elsewhere.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            requests: 0,
            refused: 0,
            probes: 0,
            metadata: 0,
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
        Self { counter, state, values: BTreeMap::new(), floats: false, native: None }
    }

    /// Adds a sample; true when it was there already.
    fn add(&mut self, at: Millis, value: f64, found: &mut Vec<String>) -> bool {
        self.floats = true;
        if let Some(new) = self.place(at, value.to_bits(), &value, found) {
            return !new;
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

    /// Adds a native histogram; true when it was there already.
    fn add_native(&mut self, sample: &Histogram, found: &mut Vec<String>) -> bool {
        let at = sample.timestamp;
        let value = match Native::read(sample) {
            Ok(value) => value,
            Err(why) => {
                found.push(format!("the native histogram at {at} is illegal: {why}"));
                return false;
            }
        };
        if let Some(new) = self.place(at, checksum(&value), &value, found) {
            return !new;
        }
        let restarts = self.state.stale && value.count == 0.0;
        self.state.last_ts = at;
        self.state.stale = decode::is_stale(value.sum);
        if !self.state.stale {
            if !restarts && let Some(why) = self.native.as_ref().and_then(|before| value.falls_from(before)) {
                found.push(format!("{why} at {at}"));
            }
            self.state.last_value = value.count;
            self.native = Some(value);
        }
        false
    }

    /// Remembers a value by its bits. `None`: it is the newest one; otherwise whether it is new at all.
    fn place(&mut self, at: Millis, bits: u64, shown: &dyn std::fmt::Display, found: &mut Vec<String>) -> Option<bool> {
        if let Some(&known) = self.values.get(&at) {
            if known != bits {
                let was = if self.native.is_some() { "another".to_owned() } else { f64::from_bits(known).to_string() };
                found.push(format!("at {at} it was {was} and is now {shown}"));
            }
            return Some(false);
        }
        self.values.insert(at, bits);
        self.state.samples += 1;
        if at <= self.state.last_ts {
            found.push(format!("a new sample at {at} comes after one at {}", self.state.last_ts));
            return Some(true);
        }
        None
    }
}

fn checksum(value: &Native) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{value} {:x}", value.sum.to_bits()).as_bytes())
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
    use crate::core::remotewrite::decode::STALE_MARKER;
    use crate::core::remotewrite::decode::proto::Sample;

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

    fn histogram(at: Millis, schema: i32, counts: &[i64], sum: f64) -> TimeSeries {
        use crate::core::remotewrite::decode::proto::histogram::{Count, ZeroCount};
        use crate::core::remotewrite::decode::proto::{BucketSpan, Histogram};
        let total: i64 = counts.iter().sum();
        let mut last = 0;
        let histogram = Histogram {
            count: Some(Count::CountInt(total.unsigned_abs())),
            zero_count: Some(ZeroCount::ZeroCountInt(0)),
            sum,
            schema,
            positive_spans: vec![BucketSpan { offset: 1, length: counts.len() as u32 }],
            positive_deltas: counts.iter().map(|n| n - std::mem::replace(&mut last, *n)).collect(),
            timestamp: at,
            ..Histogram::default()
        };
        TimeSeries { histograms: vec![histogram], ..entry("latency", &[]) }
    }

    fn native_violations(entries: &[TimeSeries]) -> Vec<String> {
        let mut m = Memory::default();
        entries.iter().for_each(|e| m.store("", e));
        m.violations().to_vec()
    }

    #[test]
    fn a_native_histogram_may_grow_and_become_coarser_and_may_not_fall() {
        let (old, grown) = (histogram(1, 1, &[1, 2, 4], 1.0), histogram(2, 1, &[1, 2, 5], 2.0));
        assert!(native_violations(&[old.clone(), old.clone(), grown, histogram(3, 0, &[3, 5], 2.0)]).is_empty());
        let fallen = histogram(2, 1, &[1, 1, 6], 2.0);
        assert_eq!(native_violations(&[old.clone(), fallen]), ["latency: bucket 2 falls from 2 to Some(1.0) at 2"]);
        let other = histogram(1, 1, &[1, 2, 3], 1.0);
        assert_eq!(native_violations(&[old.clone(), other]).len(), 1);
        let mut odd = histogram(2, 1, &[1, 2, 5], 2.0);
        odd.histograms[0].positive_deltas.pop();
        assert!(native_violations(&[old, odd])[0].contains("3 buckets have 2 counts"));
    }

    #[test]
    fn a_native_histogram_begins_again_at_zero_only_after_a_marker() {
        let (full, empty) = (histogram(1, 1, &[1], 1.0), |at| histogram(at, 1, &[], 0.0));
        let marker = histogram(2, 0, &[], f64::from_bits(STALE_MARKER));
        assert_eq!(native_violations(&[full.clone(), empty(2)]).len(), 1);
        assert!(native_violations(&[full.clone(), marker.clone(), empty(3)]).is_empty());
        assert!(native_violations(&[full.clone(), marker, histogram(3, 1, &[2], 2.0)]).is_empty());
        assert_eq!(native_violations(&[full, entry("latency", &[(2, 1.0)]), empty(3)]).len(), 2);
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
