//! What a run has shown, as text and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cluster::Size;
use crate::driver::{Refused, Struck};
use crate::leaders::Moved;
use crate::samples::Samples;
use crate::schedule::{self, Class, Fault, Promise};

/// The report of one run. Times are milliseconds.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub seed: u64,
    pub seconds: u64,
    pub workers: usize,
    /// The load average of the machine over the last five minutes, at the end.
    pub load: f64,
    pub spans: u64,
    pub series: usize,
    pub kills: usize,
    pub zombies: usize,
    pub split_brains: usize,
    pub graceful: usize,
    pub wrong_clocks: usize,
    pub scalings: usize,
    pub broker_faults: usize,
    pub lost_ends: usize,
    pub leader_moves: usize,
    pub network_faults: usize,
    pub receiver_faults: usize,
    pub refused_tenants: usize,
    pub silences: usize,
    pub skipped: usize,
    pub by_fault: BTreeMap<String, usize>,
    /// Partitions that were seen to have the leader that they were to have, by topic.
    pub leaders_moved: BTreeMap<String, usize>,
    /// Records of the deltas topic that were cut off its ends.
    pub records_lost: i64,
    pub samples_checked: u64,
    pub samples_resent: u64,
    pub exemplars: u64,
    pub conflicts: u64,
    pub spans_lost: u64,
    pub spans_double: u64,
    pub series_low: u64,
    pub series_high: u64,
    pub series_unexpected: u64,
    pub fenced: u64,
    pub forced_closes: u64,
    pub worker_exits: usize,
    pub log_errors: u64,
    pub longest_graceful_stop: u64,
    pub longest_recovery: i64,
    pub longest_recovery_after: String,
    pub median_recovery: i64,
    pub freshness_calm: Freshness,
    pub freshness_chaos: Freshness,
    /// Of the other tenants, while one was refused.
    pub freshness_beside: Freshness,
    pub settled_after: u64,
    /// At the end.
    pub internal_topics: BTreeMap<String, Size>,
    /// What must not have happened.
    pub violations: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// How long after its step a sample was stored.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Freshness {
    pub samples: usize,
    pub p50: i64,
    pub p99: i64,
    pub max: i64,
}

// === impl Freshness ===

impl Freshness {
    /// Of lags in ascending order.
    pub fn of(lags: &[i64]) -> Self {
        let at = |share: usize| lags.get((lags.len().saturating_sub(1)) * share / 100).copied().unwrap_or_default();
        Self { samples: lags.len(), p50: at(50), p99: at(99), max: at(100) }
    }
}

impl std::fmt::Display for Freshness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { samples, p50, p99, max } = self;
        write!(f, "p50 {p50} ms, p99 {p99} ms, most {max} ms ({samples} samples)")
    }
}

// === impl Report ===

impl Report {
    /// Counts leaders that have moved. A topic whose leaders never did has not been tested.
    pub fn leaders(&mut self, by_topic: &BTreeMap<String, Moved>) {
        for (topic, Moved { asked, moved }) in by_topic {
            self.leaders_moved.insert(topic.clone(), *moved);
            if *moved == 0 {
                self.violations.push(format!("no leader of {topic} has moved, of {asked} that were to"));
            }
        }
    }

    fn show_troubles(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "troubles: {} kills, {} zombies and pauses, {} split brains, {} graceful stops, {} wrong clocks, {} scalings, \
             {} brokers, {} lost ends ({} records), {} moves of leaders, {} network, {} receiver, {} refused tenants, \
             {} silences; {} not done",
            self.kills,
            self.zombies,
            self.split_brains,
            self.graceful,
            self.wrong_clocks,
            self.scalings,
            self.broker_faults,
            self.lost_ends,
            self.records_lost,
            self.leader_moves,
            self.network_faults,
            self.receiver_faults,
            self.refused_tenants,
            self.silences,
            self.skipped
        )
    }

    /// How fresh the other tenants were while one was refused.
    pub fn refusals(&mut self, refusals: &[Refused], samples: &Samples, step: i64) {
        let lags = refusals.iter().flat_map(|r| samples.lags_beside(r.tenant, step, r.from, r.to));
        let mut lags: Vec<i64> = lags.collect();
        lags.sort_unstable();
        self.freshness_beside = Freshness::of(&lags);
    }

    /// Sees to it that what was promised has come: a run without it would prove less than it says.
    pub fn promises(&mut self, promised: &[Promise], struck: &[Struck]) {
        let came = struck.iter().filter(|trouble| trouble.skipped.is_none()).map(|trouble| &trouble.event.fault);
        for promise in schedule::broken(promised, came) {
            let why = struck.iter().filter(|t| promise.is_kept_by(&t.event.fault)).find_map(|t| t.skipped.as_deref());
            let why = why.unwrap_or("it was not planned");
            self.violations.push(format!("{promise:?} was promised and did not come: {why}"));
        }
    }

    /// Counts the troubles, and how long each was felt: from its beginning until every series had its sample of the first
    /// step that ends after it.
    pub fn troubles(&mut self, struck: &[Struck], samples: &Samples, step: i64) {
        let complete = samples.complete(step);
        let mut recoveries = Vec::new();
        for trouble in struck {
            if trouble.skipped.is_some() {
                self.skipped += 1;
                continue;
            }
            *match trouble.class() {
                Class::Kill => &mut self.kills,
                Class::Zombie => &mut self.zombies,
                Class::SplitBrain => &mut self.split_brains,
                Class::Graceful => &mut self.graceful,
                Class::Clock => &mut self.wrong_clocks,
                Class::Scaling => &mut self.scalings,
                Class::Broker => &mut self.broker_faults,
                Class::LostEnd => &mut self.lost_ends,
                Class::Leaders => &mut self.leader_moves,
                Class::Network => &mut self.network_faults,
                Class::Receiver => &mut self.receiver_faults,
                Class::Tenant => &mut self.refused_tenants,
                Class::Load => &mut self.silences,
            } += match &trouble.event.fault {
                Fault::KillAll => self.workers,
                _ => 1,
            };
            let words = format!("{:?}", trouble.event.fault);
            let name = words.split([' ', '{']).next().unwrap_or_default().to_owned();
            *self.by_fault.entry(name).or_default() += 1;
            if let Some((_, done)) = complete.range(trouble.at..).next() {
                recoveries.push((done - trouble.at, trouble));
            }
        }
        recoveries.sort_by_key(|(took, _)| *took);
        self.median_recovery = recoveries.get(recoveries.len() / 2).map_or(0, |(took, _)| *took);
        if let Some((took, trouble)) = recoveries.last() {
            self.longest_recovery = *took;
            self.longest_recovery_after = trouble.event.to_string().trim().to_owned();
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secs = |ms: i64| format!("{:.1} s", ms as f64 / 1e3);
        writeln!(
            f,
            "seed {}, {} s, {} workers, {} spans, {} series, load of the machine {:.1}",
            self.seed, self.seconds, self.workers, self.spans, self.series, self.load
        )?;
        self.show_troubles(f)?;
        let each: Vec<String> = self.by_fault.iter().map(|(name, n)| format!("{name} {n}")).collect();
        writeln!(f, "  {}", each.join(", "))?;
        let each: Vec<String> = self.leaders_moved.iter().map(|(topic, n)| format!("{topic} {n}")).collect();
        writeln!(f, "leaders: {} moved; {}", self.leaders_moved.values().sum::<usize>(), each.join(", "))?;
        writeln!(
            f,
            "samples: {} checked, {} of them resent, {} exemplars; {} conflicts",
            self.samples_checked, self.samples_resent, self.exemplars, self.conflicts
        )?;
        writeln!(
            f,
            "totals: {} spans lost, {} double; {} series too low, {} too high, {} not expected",
            self.spans_lost, self.spans_double, self.series_low, self.series_high, self.series_unexpected
        )?;
        writeln!(
            f,
            "workers: {} fenced tasks, {} forced closes, {} ended by themselves, {} errors in logs, longest stop {}",
            self.fenced,
            self.forced_closes,
            self.worker_exits,
            self.log_errors,
            secs(self.longest_graceful_stop as i64)
        )?;
        writeln!(
            f,
            "recovery: median {}, longest {} after `{}`; settled {} after the last trouble",
            secs(self.median_recovery),
            secs(self.longest_recovery),
            self.longest_recovery_after,
            secs(self.settled_after as i64)
        )?;
        writeln!(f, "freshness in the calm:  {}", self.freshness_calm)?;
        writeln!(f, "freshness in the chaos: {}", self.freshness_chaos)?;
        writeln!(f, "freshness beside a refused tenant: {}", self.freshness_beside)?;
        for (topic, Size { ever, left, bytes }) in &self.internal_topics {
            writeln!(f, "{topic}: {left} of {ever} records left, {:.1} MB of logs", *bytes as f64 / 1e6)?;
        }
        self.notes.iter().try_for_each(|n| writeln!(f, "note: {n}"))?;
        verdict(f, &self.violations, "exact", "NOT EXACT")
    }
}

/// The last lines of a report.
pub fn verdict(f: &mut std::fmt::Formatter<'_>, violations: &[String], good: &str, bad: &str) -> std::fmt::Result {
    violations.iter().try_for_each(|v| writeln!(f, "VIOLATION: {v}"))?;
    f.write_str(if violations.is_empty() { good } else { bad })
}
