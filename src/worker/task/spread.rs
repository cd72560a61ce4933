//! Whether the spans of a trace lie in one partition. Service graphs need that, and nothing else shows when it is not
//! so: edges would just be fewer, and some of them wrong.
//!
//! Span tasks name a sample of their traces ([`SpanTask::take_traces`]), the same one in every partition. A worker that
//! owns several partitions finds a trace in more than one of them; on a topic that is not partitioned by trace ID, that
//! is soon.
//!
//! [`SpanTask::take_traces`]: crate::core::tasks::span::SpanTask::take_traces
#![allow(clippy::disallowed_methods, reason = "how long something is remembered is a matter of the clock")]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::worker::telemetry::{Condition, Reporter, TaskId, Telemetry};

/// The maximum number of traces of a period: a few hundred kilobytes.
const MOST: usize = 4_096;
/// A trace is compared with those of this and of the last period. Its spans come within seconds.
const PERIOD: Duration = Duration::from_secs(300);
/// The minimum number of traces for a verdict.
const ENOUGH: usize = 20;
/// A topic whose partitions were added, or that two kinds of producers write to, has some such traces for a while.
const TOLERATED: f64 = 0.05;

/// Where the traces of the sample were seen.
#[derive(Debug)]
pub(crate) struct Spread {
    state: Mutex<Periods>,
    telemetry: Telemetry,
    reporter: Reporter,
}

#[derive(Debug)]
struct Periods {
    begun: Instant,
    now: BTreeMap<[u8; 16], Place>,
    before: BTreeMap<[u8; 16], Place>,
}

/// Where a trace was seen first, and whether it was seen elsewhere.
#[derive(Debug, Clone)]
struct Place {
    first: TaskId,
    several: bool,
}

// === impl Spread ===

impl Spread {
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        let reporter = telemetry.conditions().reporter(Condition::Keys, "source topics");
        let periods = Periods { begun: Instant::now(), now: BTreeMap::new(), before: BTreeMap::new() };
        Self { state: Mutex::new(periods), telemetry: telemetry.clone(), reporter }
    }

    /// A partition holds spans of these traces.
    pub(crate) fn saw(&self, id: &TaskId, traces: Vec<[u8; 16]>) {
        if traces.is_empty() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.turn(Instant::now());
        for trace in traces {
            let (new, split) = state.see(trace, id);
            self.telemetry.sampled_trace(new, split);
        }
        match state.verdict() {
            Some((split, all)) => self.reporter.unmet(format!(
                "{split} of {all} sampled traces have spans in several partitions, so the service graph lacks edges (span \
                 metrics are exact); partition the source topics by trace ID, in the Collector's Kafka exporter with \
                 partition_traces_by_id: true, or let spanmill do it, with kafka.repartition: true and another kafka.group"
            )),
            None => self.reporter.met(),
        }
    }
}

// === impl Periods ===

impl Periods {
    fn turn(&mut self, now: Instant) {
        if now.duration_since(self.begun) >= PERIOD {
            self.before = std::mem::take(&mut self.now);
            self.begun = now;
        }
    }

    /// Records where a trace was seen. Returns whether it is new, and whether this is the second partition that has it.
    fn see(&mut self, trace: [u8; 16], id: &TaskId) -> (bool, bool) {
        if let Some(place) = self.now.get_mut(&trace) {
            let split = !place.several && place.first != *id;
            place.several |= split;
            return (false, split);
        }
        if self.now.len() >= MOST {
            return (false, false);
        }
        let old = self.before.get(&trace);
        let was = old.is_some_and(|place| place.several);
        let first = old.map_or_else(|| id.clone(), |place| place.first.clone());
        let several = was || first != *id;
        let new = old.is_none();
        self.now.insert(trace, Place { first, several });
        (new, several && !was)
    }

    /// The number of traces in several partitions, and of all, if that is too many.
    fn verdict(&self) -> Option<(usize, usize)> {
        let sample = if self.now.len() >= ENOUGH { &self.now } else { &self.before };
        let split = sample.values().filter(|place| place.several).count();
        let too_many = sample.len() >= ENOUGH && split as f64 > TOLERATED * sample.len() as f64;
        too_many.then_some((split, sample.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::telemetry::TaskKind;

    fn partition(partition: i32) -> TaskId {
        TaskId { kind: TaskKind::Span, topic: "spans".to_owned(), partition }
    }

    fn trace(n: u128) -> Vec<[u8; 16]> {
        vec![n.to_be_bytes()]
    }

    #[test]
    fn traces_in_several_partitions_are_named_until_a_period_without_them() {
        let telemetry = Telemetry::new();
        let spread = Spread::new(&telemetry);
        let unmet = || -> Vec<String> {
            let reports = telemetry.conditions().reports().into_iter();
            reports.filter(|report| report.condition == Condition::Keys).flat_map(|report| report.troubles).collect()
        };
        for n in 0..20 {
            spread.saw(&partition(0), trace(n));
            spread.saw(&partition(0), trace(n));
        }
        assert_eq!(unmet(), Vec::<String>::new(), "each has its partition");
        spread.saw(&partition(1), trace(0));
        assert_eq!(unmet(), Vec::<String>::new(), "one of twenty is tolerated");
        spread.saw(&partition(1), trace(1));
        spread.saw(&partition(2), trace(1));
        assert!(unmet()[0].starts_with("2 of 20 sampled traces have spans in several partitions"), "{:?}", unmet());
        let text = telemetry.render();
        assert!(text.contains("spanmill_sampled_traces_total 20\n"), "{text}");
        assert!(text.contains("spanmill_sampled_traces_split_total 2\n"), "{text}");
        let later =
            |state: &mut Periods| state.begun = state.begun.checked_sub(PERIOD).expect("the machine runs for long");
        later(&mut spread.state.lock().expect("no panic"));
        spread.saw(&partition(1), trace(2));
        assert!(!unmet().is_empty(), "the period before decides until there are enough");
        (100..120).for_each(|n| spread.saw(&partition(0), trace(n)));
        assert_eq!(unmet(), Vec::<String>::new());
    }

    #[test]
    fn a_worker_remembers_a_bounded_number_of_traces() {
        let spread = Spread::new(&Telemetry::new());
        (0..10_000).for_each(|n| spread.saw(&partition(0), trace(n)));
        assert_eq!(spread.state.lock().expect("no panic").now.len(), MOST);
    }
}
