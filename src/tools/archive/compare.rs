//! Compares a spool with a server: which series differ, where first, and by how much.
//!
//! *In:* the samples of both, window by window, in any order of windows. *Out:* a [`Report`]. Memory holds a line per
//! series, not its samples.

use std::collections::BTreeMap;

use serde::Serialize;

use super::query::Sampled;
use crate::core::model::Millis;

/// The maximum number of listed series; further ones are counted.
const TOLD: usize = 100;

/// How to compare.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// Labels that do not count, such as one that distinguishes a replay from the live series.
    pub ignore: Vec<String>,
    /// Values that differ by no more than this part of the greater one are equal.
    pub tolerance: f64,
    /// Whether only increases of a series count: values may differ by a constant, because a run that begins in the
    /// middle of the history does not know the earlier total.
    pub increases: bool,
}

/// Compares.
#[derive(Debug, Default)]
pub struct Comparison {
    rules: Rules,
    counters: BTreeMap<(String, String), Counter>,
    ambiguous: BTreeMap<String, u64>,
}

/// The state of one series.
#[derive(Debug, Clone, Default)]
struct Counter {
    samples: ComparedSamples,
    first: Option<Difference>,
    max_absolute: f64,
    max_relative: f64,
    /// The offset to add to a value of the server, if only increases count.
    offset: Option<f64>,
}

/// The comparison, in numbers of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ComparedSamples {
    /// The same on both sides.
    pub equal: u64,
    /// On both sides, with different values.
    pub different: u64,
    /// In the spool alone.
    pub only_here: u64,
    /// On the server alone.
    pub only_there: u64,
}

/// The oldest instant at which a series differs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// When, in milliseconds.
    pub at: Millis,
    /// The value in the spool.
    pub here: Option<f64>,
    /// The value on the server.
    pub there: Option<f64>,
}

/// One series that is not the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Different {
    /// Whose it is.
    pub tenant: String,
    /// The series in text form.
    pub series: String,
    /// Its samples.
    pub samples: ComparedSamples,
    /// Where it differs first.
    pub first: Difference,
    /// The greatest difference of two values.
    pub max_absolute: f64,
    /// The same as a part of the greater of both.
    pub max_relative: f64,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Report {
    /// Series, of both sides together.
    pub series: u64,
    /// Those that are the same.
    pub equal: u64,
    /// Those that only the spool has.
    pub only_here: u64,
    /// Those that only the server has.
    pub only_there: u64,
    /// Those that both have, with other values or samples.
    pub different: u64,
    /// All samples.
    pub samples: ComparedSamples,
    /// The greatest difference of two values.
    pub max_absolute: f64,
    /// The greatest difference as a part of the greater value.
    pub max_relative: f64,
    /// Series that cannot be distinguished without the labels that do not count; they are compared as one.
    pub ambiguous: Vec<String>,
    /// The series that are not the same: the first hundred by tenant and labels.
    pub differences: Vec<Different>,
}

// === impl Comparison ===

impl Comparison {
    /// Nothing compared yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Compares all samples that both sides have in one window. Every sample may be passed once.
    pub fn add(&mut self, tenant: &str, here: &[Sampled], there: &[Sampled]) {
        let mut both: BTreeMap<String, [Vec<(Millis, f64)>; 2]> = BTreeMap::new();
        for (side, all) in [here, there].into_iter().enumerate() {
            for one in all {
                let text = self.text(&one.labels);
                let place = &mut both.entry(text.clone()).or_default()[side];
                if !place.is_empty() && self.ambiguous.len() < TOLD {
                    *self.ambiguous.entry(text).or_default() += 1;
                }
                place.extend_from_slice(&one.values);
            }
        }
        for (text, [mut here, mut there]) in both {
            here.sort_by_key(|(at, _)| *at);
            there.sort_by_key(|(at, _)| *at);
            let counter = self.counters.entry((tenant.to_owned(), text)).or_default();
            counter.compare(&self.rules, &here, &there);
        }
    }

    /// The outcome.
    #[must_use]
    pub fn finish(self) -> Report {
        let mut report = Report { ambiguous: self.ambiguous.into_keys().collect(), ..Report::default() };
        for ((tenant, series), counter) in self.counters {
            let s = counter.samples;
            report.series += 1;
            report.samples += s;
            report.max_absolute = report.max_absolute.max(counter.max_absolute);
            report.max_relative = report.max_relative.max(counter.max_relative);
            *match (s.equal + s.different, s.only_here, s.only_there) {
                (0, _, 0) => &mut report.only_here,
                (0, 0, _) => &mut report.only_there,
                (_, 0, 0) if s.different == 0 => &mut report.equal,
                _ => &mut report.different,
            } += 1;
            if let Some(first) = counter.first.filter(|_| report.differences.len() < TOLD) {
                let (max_absolute, max_relative) = (counter.max_absolute, counter.max_relative);
                report.differences.push(Different { tenant, series, samples: s, first, max_absolute, max_relative });
            }
        }
        report
    }

    fn text(&self, labels: &[(String, String)]) -> String {
        let name = labels.iter().find(|(name, _)| name == "__name__").map_or("", |(_, value)| value.as_str());
        let counts = |name: &String| name != "__name__" && !self.rules.ignore.contains(name);
        let rest = labels.iter().filter(|(name, _)| counts(name));
        let rest: Vec<String> = rest.map(|(name, value)| format!("{name}={value:?}")).collect();
        if rest.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", rest.join(",")) }
    }
}

// === impl Counter ===

impl Counter {
    fn compare(&mut self, rules: &Rules, here: &[(Millis, f64)], there: &[(Millis, f64)]) {
        let (mut here, mut there) = (here.iter().peekable(), there.iter().peekable());
        loop {
            let (h, t) = (here.peek().map(|(at, _)| *at), there.peek().map(|(at, _)| *at));
            let Some(at) = h.into_iter().chain(t).min() else { return };
            let (h, t) = (here.next_if(|(h, _)| *h == at), there.next_if(|(t, _)| *t == at));
            self.pair(rules, Difference { at, here: h.map(|(_, v)| *v), there: t.map(|(_, v)| *v) });
        }
    }

    fn pair(&mut self, rules: &Rules, pair: Difference) {
        match (pair.here, pair.there) {
            (Some(here), Some(there)) => {
                let offset = if rules.increases { *self.offset.get_or_insert(here - there) } else { 0.0 };
                let absolute = ((here - there) - offset).abs();
                let greater = here.abs().max(there.abs());
                let same = here.to_bits() == there.to_bits() || (here.is_nan() && there.is_nan());
                if (same && offset == 0.0) || absolute <= rules.tolerance * greater {
                    self.samples.equal += 1;
                    return;
                }
                self.samples.different += 1;
                self.max_absolute = self.max_absolute.max(absolute);
                self.max_relative = self.max_relative.max(absolute / greater);
            }
            (Some(_), None) => self.samples.only_here += 1,
            _ => self.samples.only_there += 1,
        }
        if self.first.is_none_or(|first| pair.at < first.at) {
            self.first = Some(pair);
        }
    }
}

// === impl ComparedSamples ===

impl std::ops::AddAssign for ComparedSamples {
    fn add_assign(&mut self, other: Self) {
        self.equal += other.equal;
        self.different += other.different;
        self.only_here += other.only_here;
        self.only_there += other.only_there;
    }
}

// === impl Report ===

impl Report {
    /// Whether both sides have the same samples with the same values.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.equal == self.series && self.ambiguous.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn series(name: &str, replay: Option<&str>, values: &[(Millis, f64)]) -> Sampled {
        let mut labels = vec![("__name__".to_owned(), name.to_owned()), ("a".to_owned(), "b".to_owned())];
        labels.extend(replay.map(|run| ("replay".to_owned(), run.to_owned())));
        Sampled { labels, values: values.to_vec() }
    }

    fn report(rules: Rules, windows: &[(&[Sampled], &[Sampled])]) -> Report {
        let mut comparison = Comparison::new(rules);
        windows.iter().for_each(|(here, there)| comparison.add("t", here, there));
        comparison.finish()
    }

    #[test]
    fn every_kind_of_difference_is_told_with_its_oldest_instant() {
        let here = [series("x", None, &[(1, 1.0), (2, 2.0), (3, 4.0)]), series("y", None, &[(1, 1.0)])];
        let there = [series("x", None, &[(1, 1.0), (2, 3.0), (4, 4.0)]), series("z", None, &[(1, 1.0)])];
        // The newest window comes first.
        let newer: (&[Sampled], &[Sampled]) = (&[series("x", None, &[(9, 1.0)])], &[series("x", None, &[(9, 9.0)])]);
        let r = report(Rules::default(), &[newer, (&here, &there)]);
        assert_eq!((r.series, r.equal, r.only_here, r.only_there, r.different), (3, 0, 1, 1, 1));
        assert_eq!(r.samples, ComparedSamples { equal: 1, different: 2, only_here: 2, only_there: 2 });
        let x = &r.differences[0];
        assert_eq!(x.series, r#"x{a="b"}"#);
        assert_eq!(x.first, Difference { at: 2, here: Some(2.0), there: Some(3.0) });
        assert_eq!((x.max_absolute, x.max_relative), (8.0, 8.0 / 9.0));
        assert!(!r.is_equal());
    }

    #[test]
    fn a_label_that_does_not_count_is_ignored_on_both_sides_and_what_it_hides_is_said() {
        let rules = Rules { ignore: vec!["replay".to_owned()], ..Rules::default() };
        let (here, there) = ([series("x", Some("r"), &[(1, 1.0)])], [series("x", None, &[(1, 1.0)])]);
        assert!(report(rules.clone(), &[(&here, &there)]).is_equal());
        assert!(!report(Rules::default(), &[(&here, &there)]).is_equal());
        let two = [series("x", Some("r"), &[(1, 1.0)]), series("x", Some("q"), &[(1, 1.0)])];
        let r = report(rules, &[(&two, &there)]);
        assert_eq!((r.is_equal(), r.ambiguous), (false, vec![r#"x{a="b"}"#.to_owned()]));
    }

    #[test]
    fn a_tolerance_is_relative_and_zero_means_bit_for_bit() {
        let (here, there) = ([series("x", None, &[(1, 100.0)])], [series("x", None, &[(1, 100.1)])]);
        assert!(!report(Rules::default(), &[(&here, &there)]).is_equal());
        assert!(!report(Rules { tolerance: 0.0005, ..Rules::default() }, &[(&here, &there)]).is_equal());
        assert!(report(Rules { tolerance: 0.001, ..Rules::default() }, &[(&here, &there)]).is_equal());
    }

    #[test]
    fn increases_are_equal_where_values_differ_by_a_constant() {
        let rules = Rules { increases: true, ..Rules::default() };
        let here = [series("x", None, &[(1, 1.0), (2, 5.0)])];
        let there = [series("x", None, &[(1, 101.0), (2, 105.0)])];
        assert!(report(rules.clone(), &[(&here, &there)]).is_equal());
        assert!(!report(Rules::default(), &[(&here, &there)]).is_equal());
        let other = [series("x", None, &[(1, 101.0), (2, 106.0)])];
        let r = report(rules, &[(&here, &other)]);
        assert_eq!((r.samples.different, r.max_absolute), (1, 1.0));
    }

    proptest! {
        #[test]
        fn everything_is_equal_to_itself_and_each_change_is_found(
            values in prop::collection::btree_map(0i64..50, any::<u32>(), 1..20),
            at: prop::sample::Index,
            change in 0..3,
        ) {
            let all: Vec<(i64, f64)> = values.into_iter().map(|(at, v)| (at, v.into())).collect();
            let one = [series("x", None, &all)];
            prop_assert!(report(Rules::default(), &[(&one, &one)]).is_equal());
            let mut other = all.clone();
            let at = at.index(all.len());
            match change {
                0 => other[at].1 += 1.0,
                1 => drop(other.remove(at)),
                _ => other[at].0 += 100,
            }
            let r = report(Rules::default(), &[(&one, &[series("x", None, &other)])]);
            prop_assert!(!r.is_equal());
            prop_assert_eq!(r.differences[0].first.at, all[at].0);
        }
    }
}
