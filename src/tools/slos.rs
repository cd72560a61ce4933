//! What service level objectives come to over a range: whether they would have been met.
//!
//! *In:* delta records, each shard's in order. *Out:* events and good events per tenant and objective, with the error
//! budget that is left. *Owner:* a replay, or a survey. *Never:* a sample, a float that is added up. *Next:* the
//! summary of the command.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::config::Tenants;
use crate::core::deltas::{DeltaRecord, DeltaRecordError};
use crate::core::journal::{ChainVerdict, DeltaChain};
use crate::core::model::text::Shown;
use crate::core::model::wire::Malformed;
use crate::core::model::{Family, SetName, Weight, labels};
use crate::core::settings::labels::SLO_LABEL;
use crate::core::settings::{Objective, Slo};

/// The counters of the family, in cell order.
const EVENTS: usize = 0;
const GOOD: usize = 1;

/// The sums of all objectives.
#[derive(Debug, Clone)]
pub struct SloTotals {
    tenants: Tenants,
    /// The tenant and the objective of each label set.
    sets: BTreeMap<SetName, (String, String)>,
    sums: BTreeMap<(String, String), Sums>,
}

/// Events times 2^32: weights have a fraction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    events: u128,
    good: u128,
}

/// The sums of a run of workers, from what the shards of one of them read.
#[derive(Debug, Clone)]
pub struct SloRun {
    totals: SloTotals,
    /// By shard: which delta records are added up.
    chains: BTreeMap<i32, DeltaChain>,
    failed: bool,
}

/// The result of an objective.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SloResult {
    /// The tenant; empty if no tenant has events.
    pub tenant: String,
    /// The name of the objective.
    pub slo: String,
    /// Events.
    pub events: f64,
    /// Those of them that are good.
    pub good: f64,
    /// The share of good events; none without events.
    pub ratio: Option<f64>,
    /// The objective in percent, if it has one.
    pub objective: Option<f64>,
    /// The share of the error budget that is left: 1 if all events are good, below 0 if it is overspent.
    pub budget_left: Option<f64>,
    /// Whether the objective was met; none without one, or without events.
    pub met: Option<bool>,
}

// === impl SloTotals ===

impl SloTotals {
    /// No events yet. `None` if no tenant has an objective.
    #[must_use]
    pub fn new(tenants: &Tenants) -> Option<Self> {
        let all = std::iter::once(tenants.defaults()).chain(tenants.overridden().map(|(_, config)| config));
        let any = all.into_iter().any(|config| !config.core.slos.is_empty());
        any.then(|| Self { tenants: tenants.clone(), sets: BTreeMap::new(), sums: BTreeMap::new() })
    }

    /// Adds one record of the deltas topic.
    ///
    /// # Errors
    /// When it is not a delta record, or names a label set of an objective that none has sent in full.
    pub fn add(&mut self, record: &[u8]) -> Result<(), DeltaRecordError> {
        let mut delta_record = DeltaRecord::decode(record)?;
        while let Some(set) = delta_record.next_set()? {
            let layout = delta_record.layouts.get(set.layout).ok_or(Malformed("unknown layout"))?;
            if layout.family() != Family::Slo {
                continue;
            }
            if let Some((tenant, block)) = set.spelled {
                let slo = labels::iter(block).find(|(name, _)| *name == SLO_LABEL).map_or("", |(_, value)| value);
                self.sets.insert(set.name, (tenant.to_owned(), slo.to_owned()));
            }
            let key = self.sets.get(&set.name).ok_or(Malformed("a label set that was never sent in full"))?;
            let mut cells = vec![0; layout.cells()];
            set.cells.iter().for_each(|cell| cells[cell.cell as usize] = cell.value);
            let scale = if layout.is_weighted() { 0 } else { Weight::FRACTION_BITS };
            let sums = self.sums.entry(key.clone()).or_default();
            sums.events += layout.counter_of(&cells, EVENTS) << scale;
            sums.good += layout.counter_of(&cells, GOOD) << scale;
        }
        Ok(())
    }

    /// A row per tenant and objective, those without events included.
    #[must_use]
    pub fn results(&self) -> Vec<SloResult> {
        let mut tenants: Vec<&str> = self.sums.keys().map(|(tenant, _)| tenant.as_str()).collect();
        tenants.dedup();
        if tenants.is_empty() {
            tenants.push("");
        }
        let of_tenant = |tenant: &&str| {
            let slos = self.tenants.of(tenant).core.slos.clone();
            let tenant = (*tenant).to_owned();
            slos.into_iter().map(move |slo| self.result(&tenant, &slo)).collect::<Vec<_>>()
        };
        tenants.iter().flat_map(of_tenant).collect()
    }

    fn result(&self, tenant: &str, slo: &Slo) -> SloResult {
        let sums = self.sums.get(&(tenant.to_owned(), slo.name.clone())).copied().unwrap_or_default();
        let (events, bad) = (sums.events, sums.events.saturating_sub(sums.good));
        let any = events > 0;
        SloResult {
            tenant: tenant.to_owned(),
            slo: slo.name.clone(),
            events: float(events),
            good: float(sums.good),
            ratio: any.then(|| sums.good as f64 / events as f64),
            objective: slo.objective.map(Objective::as_percent),
            budget_left: slo.objective.filter(|_| any).map(|o| 1.0 - bad as f64 / (events as f64 * o.budget_share())),
            met: slo.objective.filter(|_| any).map(|o| o.allows(bad, events)),
        }
    }
}

// === impl SloRun ===

impl SloRun {
    /// No events yet. `None` if no tenant has an objective.
    #[must_use]
    pub fn new(tenants: &Tenants) -> Option<Self> {
        Some(Self { totals: SloTotals::new(tenants)?, chains: BTreeMap::new(), failed: false })
    }

    /// A shard has read a delta record. It counts as it counts for the shard: once, and in order.
    pub fn hear(&mut self, shard: i32, record: &[u8]) {
        // The shard itself reports what cannot be read.
        let Ok(DeltaRecord { head, .. }) = DeltaRecord::decode(record) else { return };
        let chain = self.chains.entry(shard).or_default();
        let verdict = chain.accept(&head.topic, head.partition, head.commit_number, head.part, head.parts);
        if let ChainVerdict::Accepted { .. } = verdict {
            self.failed |= self.totals.add(record).is_err();
        }
    }

    /// The results, if all `shards` have been heard up to the last of the commits of every source; `None` if others have
    /// read a part.
    pub fn results<'a>(
        &self,
        shards: i32,
        mut commits: impl Iterator<Item = (&'a str, i32, u64)>,
    ) -> Option<Vec<SloResult>> {
        let none = DeltaChain::new();
        let is_whole = commits.all(|(topic, partition, commits)| {
            let chain = |shard| self.chains.get(&shard).unwrap_or(&none);
            (0..shards).all(|shard| chain(shard).next(topic, partition) == (commits, 0))
        });
        (is_whole && !self.failed).then(|| self.totals.results())
    }
}

fn float(weights: u128) -> f64 {
    weights as f64 / f64::from(Weight::FRACTION_BITS).exp2()
}

/// The results as a table; nothing without objectives.
#[must_use]
pub fn table(results: &[SloResult]) -> String {
    let mut out = String::new();
    if results.is_empty() {
        return out;
    }
    let widest = results.iter().map(|r| r.slo.len()).max().unwrap_or(0).max("objective".len());
    let mut line = |cells: [&str; 8]| {
        let [name, events, good, ratio, target, budget, met, tenant] = cells;
        let text =
            format!("{name:widest$} {events:>14} {good:>14} {ratio:>11} {target:>10} {budget:>12}  {met:7} {tenant}");
        writeln!(out, "{}", text.trim_end()).expect("a string takes everything");
    };
    line(["objective", "events", "good", "good share", "objective", "budget left", "", "tenant"]);
    for r in results {
        let percent = |share: f64| format!("{:.3} %", share * 100.0);
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let met = match r.met {
            Some(true) => "met",
            Some(false) => "missed",
            None if r.objective.is_none() => "",
            None => "no data",
        };
        line([
            &r.slo,
            &count(r.events),
            &count(r.good),
            &or_none(r.ratio.map(percent)),
            &or_none(r.objective.map(|o| format!("{o} %"))),
            &or_none(r.budget_left.map(|left| format!("{:.1} %", left * 100.0))),
            met,
            &Shown(&r.tenant).to_string(),
        ]);
    }
    out
}

/// A number of events; weights may give it a fraction.
fn count(events: f64) -> String {
    if events.fract() == 0.0 { format!("{events}") } else { format!("{events:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::core::settings::SloSubject;

    fn tenants(objective: Option<&str>) -> Tenants {
        let mut config = Config::default();
        config.core.slos = vec![Slo {
            name: "pay".to_owned(),
            of: SloSubject::Spans,
            matching: Vec::new(),
            latency_ns: None,
            failed: Slo::failed_by_status(),
            labels: Slo::default_labels(SloSubject::Spans),
            objective: objective.and_then(Objective::of_percent),
        }];
        Tenants::from(config)
    }

    fn results(objective: Option<&str>, events: u64, good: u64) -> Vec<SloResult> {
        let mut totals = SloTotals::new(&tenants(objective)).expect("there is an objective");
        if events > 0 {
            let sums = Sums { events: u128::from(events) << 32, good: u128::from(good) << 32 };
            totals.sums.insert(("acme".to_owned(), "pay".to_owned()), sums);
        }
        totals.results()
    }

    #[test]
    fn an_objective_that_is_met_exactly_has_no_budget_left_and_is_met() {
        let of = |good| results(Some("99.9"), 10_000, good).remove(0);
        let (exact, missed, half) = (of(9_990), of(9_989), of(9_995));
        assert_eq!((exact.met, missed.met, half.met), (Some(true), Some(false), Some(true)));
        let left = |result: &SloResult| format!("{:.3}", result.budget_left.expect("an objective with events"));
        assert_eq!([left(&half), left(&missed)], ["0.500", "-0.100"]);
        assert!(exact.budget_left.is_some_and(|left| left.abs() < 1e-9));
    }

    #[test]
    fn the_table_has_a_row_for_what_has_no_objective_and_for_what_has_no_events() {
        let text = [results(None, 3, 2), results(Some("99"), 0, 0)].map(|results| table(&results)).concat();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["pay", "3", "2", "66.667", "%", "-", "-", "acme"]);
        assert_eq!(rows[3], ["pay", "0", "0", "-", "99", "%", "-", "no", "data"]);
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn without_objectives_there_is_nothing_to_add_up() {
        assert!(SloTotals::new(&Tenants::from(Config::default())).is_none());
    }
}
