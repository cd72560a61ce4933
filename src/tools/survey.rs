//! A survey: the result of a configuration for records, before it is deployed.
//!
//! *In:* records of any partitions, each partition in order. *Out:* a [`Report`]: how many label sets and series, and
//! what causes them. *Owner:* `spanmill check --against`. *Never:* a sample, a journal.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Tenants;
use crate::core::deltas::{DeltaRecord, DeltaRecordError};
use crate::core::model::{Layout, Ledger, Millis, Seed, SetName, labels};
use crate::core::series::{Cardinality, TopLabel};
use crate::core::tasks::span::{Offer, Record, RestoreError, Restored, SpanSettings, SpanTask, StepCut};
use crate::tools::slos::{SloResult, SloTotals};

/// Reads records as span tasks would, and remembers the label sets.
#[derive(Debug)]
pub struct Survey {
    settings: Tenants,
    seed: Seed,
    tasks: BTreeMap<(String, i32), SpanTask>,
    seen: BTreeSet<SetName>,
    cardinality: Cardinality,
    span_names: BTreeMap<String, u64>,
    tenants: BTreeMap<String, Cost>,
    times: Option<(Millis, Millis)>,
    touched: PerCommit,
    refused: BTreeMap<&'static str, Refused>,
    /// Traces of the sample, and the partition of each; none if it is in several.
    traces: BTreeMap<[u8; 16], Option<(String, i32)>>,
    /// `None` without objectives.
    slos: Option<SloTotals>,
}

/// The label sets that partitions touch, step by step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerCommit {
    /// Commits that touch anything: about one for each partition and step.
    pub commits: u64,
    /// Label sets in them, each counted in every commit that touches it.
    pub label_sets: u64,
}

/// A sample of traces, one in 1,024: whether the spans of each are in one partition, as service graphs need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SampledTraces {
    /// How many.
    pub all: u64,
    /// How many of them have spans in several partitions.
    pub split: u64,
}

/// Records that are refused for one kind of reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub records: u64,
    /// The first one: its topic, partition and offset.
    pub place: (String, i32, i64),
    /// Why, and its apparent format.
    pub reason: String,
}

/// The cost of a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Label sets.
    pub label_sets: u64,
    /// Prometheus series.
    pub series: u64,
}

/// The result for the records.
#[derive(Debug, Clone)]
pub struct Report {
    /// The ledger of all spans.
    pub ledger: Ledger,
    /// The first and the last record timestamp.
    pub times: Option<(Millis, Millis)>,
    /// The cost by tenant.
    pub tenants: BTreeMap<String, Cost>,
    /// The content of commits.
    pub touched: PerCommit,
    /// The labels with the most values.
    pub top_labels: Vec<TopLabel>,
    /// The records that are refused, by the kind of reason.
    pub refused: BTreeMap<&'static str, Refused>,
    /// All span names, with the label sets of each.
    pub span_names: BTreeMap<String, u64>,
    /// Whether traces are in one partition each.
    pub traces: SampledTraces,
    /// What service level objectives come to.
    pub slos: Vec<SloResult>,
}

/// A survey that cannot continue. Neither is expected; both would be bugs of spanmill.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SurveyError {
    /// A task did not start.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A delta record of this survey does not decode.
    #[error(transparent)]
    DeltaRecord(#[from] DeltaRecordError),
}

// === impl PerCommit ===

impl PerCommit {
    /// The label sets of a commit, on average.
    #[must_use]
    pub fn each(&self) -> f64 {
        self.label_sets as f64 / self.commits.max(1) as f64
    }
}

// === impl Survey ===

impl Survey {
    /// A survey under these settings. A random `seed` hides where keys lie in memory.
    #[must_use]
    pub fn new(tenants: &Tenants, seed: Seed) -> Self {
        Self {
            settings: tenants.clone(),
            seed,
            tasks: BTreeMap::new(),
            seen: BTreeSet::new(),
            cardinality: Cardinality::default(),
            span_names: BTreeMap::new(),
            tenants: BTreeMap::new(),
            times: None,
            touched: PerCommit::default(),
            refused: BTreeMap::new(),
            traces: BTreeMap::new(),
            slos: SloTotals::new(tenants),
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
            let settings = self.settings.span_settings_of(topic).seeded(self.seed);
            let settings = SpanSettings { shards: 1, ..settings };
            let mut task = SpanTask::new(&settings, key.0.clone(), partition, Restored::default())?;
            // As a worker does.
            task.doubt_first();
            self.tasks.insert(key.clone(), task);
        }
        let mut cuts = Vec::new();
        if let Some(task) = self.tasks.get_mut(&key) {
            // No record comes from the future: a survey is not about time.
            while let Offer::CutFirst { cut } = task.offer(record, Millis::MAX / 2) {
                cuts.push(cut);
            }
            if let Some(refusal) = task.refusal() {
                let new = || Refused {
                    records: 0,
                    place: (topic.to_owned(), partition, record.offset),
                    reason: refusal.describe(record.value),
                };
                self.refused.entry(refusal.name()).or_insert_with(new).records += 1;
            }
            for trace in task.take_traces() {
                let place = self.traces.entry(trace).or_insert_with(|| Some(key.clone()));
                *place = place.take().filter(|place| *place == key);
            }
        }
        cuts.iter().try_for_each(|cut| self.take(cut))
    }

    /// Ends the survey: pending edges get their wait, then the report is made. It names at most `top_labels` labels.
    ///
    /// # Errors
    /// None that is expected.
    pub fn finish(mut self, top_labels: usize) -> Result<Report, SurveyError> {
        let mut ledger = Ledger::default();
        for (_, mut task) in std::mem::take(&mut self.tasks) {
            for cut in task.finish(true) {
                self.take(&cut)?;
            }
            ledger.merge(task.ledger());
        }
        let Self { tenants, cardinality, span_names, times, touched, refused, traces, slos, .. } = self;
        let slos = slos.map(|slos| slos.results()).unwrap_or_default();
        let split = traces.values().filter(|place| place.is_none()).count();
        let traces = SampledTraces { all: traces.len() as u64, split: split as u64 };
        let top_labels = cardinality.top_labels(top_labels);
        Ok(Report { ledger, times, tenants, touched, top_labels, refused, span_names, traces, slos })
    }

    fn take(&mut self, cut: &StepCut) -> Result<(), SurveyError> {
        let before = self.touched.label_sets;
        for record in cut.delta_records.iter().flatten() {
            self.slos.iter_mut().try_for_each(|slos| slos.add(record))?;
            let mut delta_record = DeltaRecord::decode(record)?;
            while let Some(set) = delta_record.next_set()? {
                self.touched.label_sets += 1;
                if let Some((tenant, block)) = set.spelled.filter(|_| self.seen.insert(set.name)) {
                    self.set(tenant, block, &delta_record.layouts[set.layout]);
                }
            }
        }
        self.touched.commits += u64::from(self.touched.label_sets > before);
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
