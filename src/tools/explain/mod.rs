//! What became of the spans of a trace, and why: series, edges, or the setting that decided against them.
//!
//! *In:* the records of any partitions, each partition in order. *Out:* an [`Explanation`]: the tree of the spans. *Owner:*
//! `spanmill explain`. *Never:* a rule of its own about what counts: each span goes as a record of its own through the very
//! task that a worker runs, and what that adds to deltas, ledger and pending edges between two records is what became of the
//! span. *Next:* `text` for people.
//!
//! # Time
//!
//! A pending edge waits in stream time, which all records of a partition move. So every record goes through a task without
//! processors first (the *clock*), which computes the stream time at which a worker takes it. The task that explains gets the
//! spans at these times, stretched: a millisecond is as long as there are spans, and each span has an instant of its own. So no
//! two waits end at once, and what happens when one ends is about one span; and as everything is stretched alike, all meet whom
//! they would meet.

mod reasons;
mod report;
mod series;
mod text;
mod trial;
mod whole;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use self::trial::Trial;
use crate::config::Loaded;
use crate::core::formats;
use crate::core::model::{Millis, Seed};
use crate::core::otlp::{Batch, apart};
use crate::core::series::TenantBook;
use crate::core::settings::{Encoding, Settings, Tenants, Traces};
use crate::core::tasks::span::{Offer, Record, RestoreError, Restored, SpanSettings, SpanTask};

pub use report::{Edge, ExplainedSpan, Explanation, Link, Reason, Setting, Trace, WholeTrace};
pub use series::{SeriesSet, Value};

/// The most spans of all traces together that are explained; more say nothing new.
const MOST_SPANS: usize = 10_000;

/// The ID of a trace.
pub type TraceId = [u8; 16];

/// What was read while the traces were looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Searched {
    /// Records.
    pub records: u64,
    /// Those of them that could not be decoded, so that their spans are unknown.
    pub undecodable: u64,
    /// Those whose sender has excluded them from metrics.
    pub excluded: u64,
}

/// Finds the spans of traces among records, and explains them at the end.
#[derive(Debug)]
pub struct Explainer<'a> {
    loaded: &'a Loaded,
    traces: Vec<TraceId>,
    settings: SpanSettings,
    partitions: BTreeMap<(String, i32), Partition>,
    batch: Batch,
    found: usize,
    omitted: u64,
    searched: Searched,
}

/// A source partition, its clock, and what was found in it.
#[derive(Debug)]
struct Partition {
    clock: SpanTask,
    spans: Vec<FoundSpan>,
    /// Records with spans whose stream time the clock does not know yet: offset, and the first of the spans.
    waiting: VecDeque<(i64, usize)>,
}

/// A span that was found.
#[derive(Debug)]
struct FoundSpan {
    /// Where, for people.
    place: String,
    tenant: Option<String>,
    trace: TraceId,
    /// A request with this span alone.
    request: Vec<u8>,
    /// The stream time at which a worker takes it.
    at: Millis,
}

/// A task that cannot start or gave what it does not read. None of it is expected; all would be mistakes of spanmill.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// A task did not start.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A delta record does not decode.
    #[error(transparent)]
    Deltas(#[from] crate::core::deltas::DeltaRecordError),
    /// A list of pending edges does not decode.
    #[error("cannot read the pending edges of a commit: {0}; please report this bug")]
    Pending(#[from] crate::core::model::wire::Malformed),
}

// === impl Explainer ===

impl<'a> Explainer<'a> {
    /// Looks for these traces under these settings. A random `seed` hides where keys lie in memory.
    #[must_use]
    pub fn new(loaded: &'a Loaded, traces: Vec<TraceId>, seed: Seed) -> Self {
        Self {
            settings: SpanSettings::from(&loaded.tenants).seeded(seed),
            loaded,
            traces,
            partitions: BTreeMap::new(),
            batch: Batch::new(),
            found: 0,
            omitted: 0,
            searched: Searched::default(),
        }
    }

    /// Reads the next record of a partition; `now` is the present, and `place` names the record for people.
    ///
    /// # Errors
    /// None that is expected.
    pub fn record(
        &mut self,
        source: (&str, i32),
        record: &Record<'_>,
        now: Millis,
        place: impl FnOnce() -> String,
    ) -> Result<(), ExplainError> {
        self.searched.records += 1;
        let found = self.find(record.value);
        let partition = partition(&mut self.partitions, &self.settings, source)?;
        if !found.is_empty() {
            partition.waiting.push_back((record.offset, partition.spans.len()));
            let (place, tenant) = (place(), record.tenant.map(str::to_owned));
            let span =
                |(trace, request)| FoundSpan { place: place.clone(), tenant: tenant.clone(), trace, request, at: 0 };
            partition.spans.extend(found.into_iter().map(span));
        }
        partition.advance(record, now);
        Ok(())
    }

    /// The spans of the traces in a record, each as a request of its own.
    fn find(&mut self, value: &[u8]) -> Vec<(TraceId, Vec<u8>)> {
        let mut request = Vec::new();
        let encoding = self.settings.encoding;
        let request = if formats::is_otlp_proto(encoding, value) {
            value
        } else {
            match formats::to_otlp(encoding, value, &mut request) {
                Ok(true) => &request,
                Ok(false) => {
                    self.searched.excluded += 1;
                    return Vec::new();
                }
                Err(_) => {
                    self.searched.undecodable += 1;
                    return Vec::new();
                }
            }
        };
        if self.batch.decode(request).is_err() {
            self.searched.undecodable += 1;
            return Vec::new();
        }
        let spans = self.batch.resources(request).flat_map(|resource_spans| resource_spans.spans());
        let of_traces = spans.filter_map(|span| {
            let trace = self.traces.iter().find(|id| id[..] == *span.trace_id)?;
            Some((span.ordinal, *trace))
        });
        let mut wanted: BTreeMap<u32, TraceId> = of_traces.collect();
        while self.found + wanted.len() > MOST_SPANS {
            wanted.pop_last();
            self.omitted += 1;
        }
        self.found += wanted.len();
        if wanted.is_empty() {
            return Vec::new();
        }
        let requests = apart(request, |ordinal| wanted.contains_key(&ordinal)).unwrap_or_default();
        wanted.into_values().zip(requests).collect()
    }

    /// What was read so far.
    #[must_use]
    pub fn searched(&self) -> Searched {
        self.searched
    }

    /// Explains what was found. If the records have `ended`, every wait ends, too; otherwise it depends on records to come what
    /// becomes of the edges that still wait, and they are marked.
    ///
    /// # Errors
    /// None that is expected.
    pub fn finish(self, ended: bool) -> Result<Explanation, ExplainError> {
        let (mut spans, mut whole) = (Vec::new(), BTreeMap::<TraceId, Vec<WholeTrace>>::new());
        let book = TenantBook::from(&self.loaded.tenants);
        for ((topic, partition), mut found) in self.partitions {
            found.settle();
            if found.spans.is_empty() {
                continue;
            }
            let until = if ended { None } else { found.clock.stream_time() };
            let source = format!("{topic}[{partition}]");
            let trial = Trial::new(&self.settings, &found.spans)?;
            spans.extend(trial.run(self.loaded, &found.spans, &source, until)?);
            if !whole::is_enabled(&self.settings) {
                continue;
            }
            for id in &self.traces {
                let mine: Vec<&FoundSpan> = found.spans.iter().filter(|span| span.trace == *id).collect();
                if !mine.is_empty() {
                    let of_trace = whole::of_trace(&self.settings, &book, mine.into_iter(), until)?;
                    whole.entry(*id).or_default().push(of_trace);
                }
            }
        }
        Ok(Explanation::new(&self.traces, (spans, whole), self.searched, self.omitted))
    }
}

/// The partition with this name.
fn partition<'p>(
    partitions: &'p mut BTreeMap<(String, i32), Partition>,
    settings: &SpanSettings,
    (topic, partition): (&str, i32),
) -> Result<&'p mut Partition, RestoreError> {
    match partitions.entry((topic.to_owned(), partition)) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(new) => {
            let clock = SpanTask::new(&without_processors(settings), topic.to_owned(), partition, Restored::default())?;
            Ok(new.insert(Partition { clock, spans: Vec::new(), waiting: VecDeque::new() }))
        }
    }
}

/// The same settings for a task that counts nothing, and only computes the time.
fn without_processors(settings: &SpanSettings) -> SpanSettings {
    let mut nothing = Settings::default();
    nothing.span_metrics.enabled = false;
    nothing.service_graphs.enabled = false;
    nothing.host_info.enabled = false;
    nothing.slos.clear();
    nothing.attribute_metrics.clear();
    nothing.attribute_metrics_presets.clear();
    SpanSettings { tenants: Tenants::new(Arc::new(nothing), BTreeMap::new()), shards: 1, ..settings.clone() }
}

/// The settings of the task that explains: times are stretched by `factor`. What a whole trace comes to is not about one of its
/// spans.
fn stretched(settings: &SpanSettings, factor: Millis) -> SpanSettings {
    let mut defaults = (**settings.tenants.defaults()).clone();
    let wait = &mut defaults.service_graphs.wait;
    *wait = (*wait).max(1).saturating_mul(factor);
    defaults.traces = Traces::default();
    let without_traces = |own: &Arc<Settings>| Arc::new(Settings { traces: Traces::default(), ..(**own).clone() });
    let overridden = settings.tenants.overridden().map(|(name, own)| (name.to_owned(), without_traces(own))).collect();
    undivided(settings, Tenants::new(Arc::new(defaults), overridden))
}

/// The settings of a task that gets single spans: a label set is always sent in full, nothing is cut for its size, and no time
/// is doubted.
fn undivided(settings: &SpanSettings, tenants: Tenants) -> SpanSettings {
    SpanSettings {
        encoding: Encoding::OtlpProto,
        lateness: None,
        max_future: crate::core::model::MAX_TIME,
        shards: 1,
        max_commit_bytes: usize::MAX,
        respell_after: -1,
        tenants,
        ..settings.clone()
    }
}

// === impl Partition ===

impl Partition {
    /// Moves the clock by a record.
    fn advance(&mut self, record: &Record<'_>, now: Millis) {
        while let Offer::CutFirst { .. } = self.clock.offer(record, now) {}
        self.tell_time();
        if !self.waiting.is_empty() {
            // A record that nothing speaks against yet is believed: those behind it would say no more about its own spans.
            drop(self.clock.at_end());
            self.tell_time();
        }
    }

    /// All records have been read.
    fn settle(&mut self) {
        drop(self.clock.settle());
        self.tell_time();
    }

    /// Gives the spans of records that the clock has taken their time.
    fn tell_time(&mut self) {
        let Some((position, time)) = self.clock.position().zip(self.clock.stream_time()) else { return };
        while let Some((_, first)) = self.waiting.pop_front_if(|(offset, _)| *offset < position) {
            let end = self.waiting.front().map_or(self.spans.len(), |(_, next)| *next);
            self.spans[first..end].iter_mut().for_each(|span| span.at = time);
        }
    }
}

#[cfg(test)]
mod tests;
