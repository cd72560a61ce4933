//! A survey: what a configuration would make of records, before anything is deployed.
//!
//! *In:* records of any partitions, each partition in order. *Out:* a [`Report`]: how many label sets and series, and who
//! makes them. *Owner:* `spanmill check --against`. *Never:* a sample, a journal.

use std::collections::BTreeMap;

use super::span::{Offer, Record, RestoreError, Restored, SpanSettings, SpanTask, StepCut};
use crate::config::Tenants;
use crate::deltas::{Share, ShareError};
use crate::model::hash::Set;
use crate::model::{Layout, Ledger, Millis, SetName, labels};
use crate::series::{Cardinality, Offender};

/// Reads records as span tasks would, and remembers the label sets.
#[derive(Debug)]
pub struct Survey {
    settings: SpanSettings,
    tasks: BTreeMap<(String, i32), SpanTask>,
    seen: Set<SetName>,
    cardinality: Cardinality,
    span_names: BTreeMap<String, u64>,
    tenants: BTreeMap<String, Cost>,
    times: Option<(Millis, Millis)>,
}

/// What a tenant would cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Label sets.
    pub label_sets: u64,
    /// Prometheus series.
    pub series: u64,
}

/// What became of the records.
#[derive(Debug, Clone)]
pub struct Report {
    /// What became of every span.
    pub ledger: Ledger,
    /// The first and the last record timestamp.
    pub times: Option<(Millis, Millis)>,
    /// The cost by tenant.
    pub tenants: BTreeMap<String, Cost>,
    /// The labels with the most values.
    pub offenders: Vec<Offender>,
    /// All span names, with the label sets of each.
    pub span_names: BTreeMap<String, u64>,
}

/// A survey that cannot go on. Neither is expected; both would be mistakes of spanmill.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SurveyError {
    /// A task did not start.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A share of our own does not decode.
    #[error(transparent)]
    Share(#[from] ShareError),
}

impl Survey {
    /// A survey under these settings.
    #[must_use]
    pub fn new(tenants: &Tenants) -> Self {
        Self {
            settings: SpanSettings { shards: 1, ..SpanSettings::from(tenants) },
            tasks: BTreeMap::new(),
            seen: Set::default(),
            cardinality: Cardinality::default(),
            span_names: BTreeMap::new(),
            tenants: BTreeMap::new(),
            times: None,
        }
    }

    /// Reads one record.
    ///
    /// # Errors
    /// None that is expected.
    pub fn record(&mut self, topic: &str, partition: i32, record: &Record<'_>) -> Result<(), SurveyError> {
        let (first, last) = self.times.unwrap_or((record.timestamp, record.timestamp));
        self.times = Some((first.min(record.timestamp), last.max(record.timestamp)));
        let key = (topic.to_owned(), partition);
        if !self.tasks.contains_key(&key) {
            let task = SpanTask::new(&self.settings, key.0.clone(), partition, Restored::default())?;
            self.tasks.insert(key.clone(), task);
        }
        let mut cuts = Vec::new();
        if let Some(task) = self.tasks.get_mut(&key) {
            // No record comes from the future: this is about what it would be, not about when.
            while let Offer::CutFirst { cut } = task.offer(record, Millis::MAX / 2) {
                cuts.push(cut);
            }
        }
        cuts.iter().try_for_each(|cut| self.take(cut))
    }

    /// Ends the survey: what still waits gets its wait, then the report is made. It names at most `offenders` labels.
    ///
    /// # Errors
    /// None that is expected.
    pub fn finish(mut self, offenders: usize) -> Result<Report, SurveyError> {
        let wait = self.settings.tenants.defaults().service_graphs.wait;
        let mut ledger = Ledger::default();
        for (_, mut task) in std::mem::take(&mut self.tasks) {
            let over = task.stream_time().unwrap_or_default() + wait + 2 * self.settings.step.ms();
            for cut in [task.tick(over), task.cut()].into_iter().flatten() {
                self.take(&cut)?;
            }
            ledger.merge(task.ledger());
        }
        let Self { tenants, cardinality, span_names, times, .. } = self;
        Ok(Report { ledger, times, tenants, offenders: cardinality.offenders(offenders), span_names })
    }

    fn take(&mut self, cut: &StepCut) -> Result<(), SurveyError> {
        for record in cut.shares.iter().flatten() {
            let mut share = Share::decode(record)?;
            while let Some(set) = share.next_set()? {
                if let Some((tenant, block)) = set.spelled.filter(|_| self.seen.insert(set.name)) {
                    self.set(tenant, block, &share.layouts[set.layout]);
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, tenant: &str, block: &[u8], layout: &Layout) {
        self.cardinality.add(tenant, layout.family(), block);
        let cost = self.tenants.entry(tenant.to_owned()).or_default();
        cost.label_sets += 1;
        cost.series += layout.series() as u64;
        if let Some((_, name)) = labels::iter(block).find(|(label, _)| *label == "span_name") {
            *self.span_names.entry(name.to_owned()).or_default() += 1;
        }
    }
}
