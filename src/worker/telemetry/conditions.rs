//! What must hold for the worker to be ready: named conditions, and the present problems of each.
//!
//! Code that finds that something does not hold reports it here, in one sentence that names the place and the remedy,
//! and reports again when it is over. `/readyz`, a metric per condition and a log line at each beginning and end follow
//! by themselves:
//!
//! ```
//! # use spanmill::worker::telemetry::{Condition, Telemetry};
//! let telemetry = Telemetry::new();
//! // Keep a reporter where the trouble is found: one for each place. Dropping it withdraws its report.
//! let reporter = telemetry.conditions().reporter(Condition::Ends, "shard 3");
//! reporter.unmet("shard 3 lacks delta record 514 of spans[0]; restore the deltas topic, or ...");
//! assert!(!telemetry.conditions().ready());
//! reporter.met();
//! assert!(telemetry.conditions().ready());
//! ```
//!
//! A condition is about being *ready*, never about being *alive*: no orchestrator may restart a worker because its
//! broker or its receiver is down.
#![allow(clippy::disallowed_methods, reason = "since when something does not hold is a matter of the clock")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use prometheus::{IntGauge, IntGaugeVec, Registry};

use super::meters::{keep, opts};
use super::names;
use crate::core::model::Millis;
use crate::core::model::text::Shown;

/// The maximum number of places of one condition in an answer and in a log line.
const MAX_NAMED: usize = 20;

macro_rules! conditions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $holds:literal,)*) => {
        /// Something that must hold for the worker to be ready. To add one, add a line to the list.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Condition { $($(#[$doc])* $variant,)* }

        impl Condition {
            /// All conditions.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in telemetry.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The statement that holds when it is met.
            #[must_use]
            pub fn holds(self) -> &'static str {
                match self { $(Self::$variant => $holds,)* }
            }
        }
    };
}

conditions! {
    /// Membership in both groups.
    Group = "group": "the worker is a member of both consumer groups, confirmed by heartbeats",
    /// The tasks that the groups have given to this worker.
    Tasks = "tasks": "all tasks assigned to this worker are restored and running",
    /// Tokens for the brokers.
    Credentials = "credentials": "there is a valid token for the brokers, where they need one",
    /// Reading of owned partitions.
    Fetch = "fetch": "all owned partitions can be read",
    /// Appending to internal topics.
    Write = "write": "appends to the internal topics are acknowledged",
    /// Delivery to receivers.
    Export = "export": "the receivers accept samples",
    /// Delivery to each of several endpoints.
    EndpointBehind = "endpoint_behind": "no endpoint of remote write is behind by more than its max_backlog",
    /// Distance from the present.
    Lag = "lag": "no task lags by more than admin.ready_max_lag",
    /// What the records are.
    Records = "records": "most records can be decoded and name their tenant",
    /// Which partitions the spans of a trace are in.
    Keys = "keys": "the spans of a trace are in one partition",
    /// The clock of this machine.
    Clock = "clock": "the clock of this machine agrees with that of the brokers",
    /// Internal topics that have lost something.
    Ends = "ends": "the internal topics have not lost records that are still needed",
    /// The label sets that delta records name.
    Labels = "labels": "owned shards know the labels of all their label sets",
}

/// The conditions of a worker. Cloning gives another handle to the same.
#[derive(Debug, Clone)]
pub struct Conditions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    states: Mutex<BTreeMap<Condition, State>>,
    /// 1 for each condition that is met.
    met: IntGaugeVec,
    ready: IntGauge,
}

/// The state of a condition.
#[derive(Debug)]
struct State {
    since: Instant,
    since_millis: Millis,
    /// Whether it has been met in this process.
    was_met: bool,
    /// Its problems, by place.
    troubles: BTreeMap<String, String>,
}

/// Reports about one place of one condition. Dropping it withdraws the last report.
#[derive(Debug)]
pub struct Reporter {
    conditions: Conditions,
    condition: Condition,
    place: String,
}

/// One condition at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The condition.
    pub condition: Condition,
    /// Since when it is met, or not, in milliseconds since the epoch.
    pub since: Millis,
    /// For how many seconds.
    pub seconds: u64,
    /// The problems, a sentence with the remedy each; the condition is met if there is none.
    pub troubles: Vec<String>,
}

// === impl Conditions ===

impl Conditions {
    pub(super) fn new(registry: &Registry) -> Self {
        let met = keep(registry, IntGaugeVec::new(opts(names::READY_CONDITION), names::READY_CONDITION.labels));
        let ready = keep(registry, IntGauge::with_opts(opts(names::READY)));
        Condition::ALL.iter().for_each(|condition| met.with_label_values(&[condition.name()]).set(1));
        ready.set(1);
        let states = Condition::ALL.iter().map(|condition| (*condition, State::met())).collect();
        Self(Arc::new(Inner { states: Mutex::new(states), met, ready }))
    }

    /// A reporter for one place of a condition: a task, a shard, an endpoint.
    #[must_use]
    pub fn reporter(&self, condition: Condition, place: impl Into<String>) -> Reporter {
        Reporter { conditions: self.clone(), condition, place: place.into() }
    }

    /// Reports a problem of a condition at one place, or that there is none. Control characters are escaped: a part of
    /// the sentence may come from outside.
    pub fn report(&self, condition: Condition, place: &str, trouble: Option<String>) {
        let trouble = trouble.map(|text| Shown(&text).to_string());
        let mut states = self.states();
        let Some(state) = states.get_mut(&condition) else { return };
        let before = state.troubles.len();
        match &trouble {
            Some(text) => drop(state.troubles.insert(place.to_owned(), text.clone())),
            None => drop(state.troubles.remove(place)),
        }
        let began = before == 0 && !state.troubles.is_empty();
        let over = before > 0 && state.troubles.is_empty();
        if !began && !over {
            return;
        }
        let (lasted, was_met) = (state.since.elapsed().as_secs(), state.was_met);
        (state.since, state.since_millis, state.was_met) = (Instant::now(), now(), was_met || over);
        self.0.met.with_label_values(&[condition.name()]).set(i64::from(over));
        self.0.ready.set(i64::from(states.values().all(|state| state.troubles.is_empty())));
        drop(states);
        let condition = condition.name();
        match trouble {
            Some(text) if was_met => tracing::warn!(condition, reason = text, "not ready"),
            Some(text) => tracing::info!(condition, reason = text, "not ready yet"),
            None => tracing::info!(condition, lasted, "condition met again"),
        }
    }

    /// Replaces all reports about a condition at once: its problems, by place.
    pub fn report_all(&self, condition: Condition, troubles: BTreeMap<String, String>) {
        let said: Vec<String> =
            self.states().get(&condition).map(|state| state.troubles.keys().cloned().collect()).unwrap_or_default();
        let over: Vec<String> = said.into_iter().filter(|place| !troubles.contains_key(place)).collect();
        // What continues comes first, so that the condition is not met in between.
        troubles.into_iter().for_each(|(place, text)| self.report(condition, &place, Some(text)));
        over.iter().for_each(|place| self.report(condition, place, None));
    }

    /// Marks a condition as never met so far: that it is not met is no news, until it was once.
    pub fn expect_first(&self, condition: Condition) {
        if let Some(state) = self.states().get_mut(&condition) {
            state.was_met = false;
        }
    }

    /// The same with the trouble that every worker starts or stops with.
    pub fn expect(&self, condition: Condition, place: &str, trouble: &str) {
        self.expect_first(condition);
        self.report(condition, place, Some(trouble.to_owned()));
    }

    /// Whether all conditions are met.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.states().values().all(|state| state.troubles.is_empty())
    }

    /// All conditions.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.states().iter().map(|(condition, state)| state.report(*condition)).collect()
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<Condition, State>> {
        self.0.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn met() -> Self {
        Self { since: Instant::now(), since_millis: now(), was_met: true, troubles: BTreeMap::new() }
    }

    fn report(&self, condition: Condition) -> Report {
        let mut troubles: Vec<String> = self.troubles.values().take(MAX_NAMED).cloned().collect();
        if let Some(more) = self.troubles.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
            troubles.push(format!("and {more} more"));
        }
        Report { condition, since: self.since_millis, seconds: self.since.elapsed().as_secs(), troubles }
    }
}

// === impl Reporter ===

impl Reporter {
    /// The condition is not met here; `trouble` is a sentence that names the remedy. It may be reported repeatedly.
    pub fn unmet(&self, trouble: impl Into<String>) {
        self.conditions.report(self.condition, &self.place, Some(trouble.into()));
    }

    /// The condition is met here.
    pub fn met(&self) {
        self.conditions.report(self.condition, &self.place, None);
    }

    /// Reports a problem, or that there is none.
    pub fn says(&self, trouble: Option<String>) {
        self.conditions.report(self.condition, &self.place, trouble);
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.met();
    }
}

fn now() -> Millis {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as Millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::telemetry::Telemetry;

    #[test]
    fn a_condition_is_met_when_nothing_speaks_against_it_any_more_at_any_place() {
        let telemetry = Telemetry::new();
        let conditions = telemetry.conditions();
        let line = |met: i64| format!("spanmill_ready_condition{{condition=\"ends\"}} {met}\n");
        assert!(conditions.ready() && telemetry.render().contains(&line(1)));
        let [one, other] = ["shard 1", "shard 2"].map(|place| conditions.reporter(Condition::Ends, place));
        one.unmet("shard 1 has a gap; restore it");
        other.unmet("shard 2 has a gap; restore it");
        one.unmet("shard 1 still has a gap; restore it");
        assert!(!conditions.ready() && telemetry.render().contains(&line(0)));
        assert!(telemetry.render().contains("spanmill_ready 0\n"));
        let ends = conditions.reports().into_iter().find(|report| report.condition == Condition::Ends).expect("listed");
        assert_eq!(ends.troubles, ["shard 1 still has a gap; restore it", "shard 2 has a gap; restore it"]);
        drop(one);
        assert!(!conditions.ready());
        other.met();
        assert!(conditions.ready() && telemetry.render().contains(&line(1)));
        assert!(telemetry.render().contains("spanmill_ready 1\n"));
    }

    #[test]
    fn what_is_said_at_once_replaces_what_was_said_before() {
        let telemetry = Telemetry::new();
        let conditions = telemetry.conditions();
        let at = |places: &[&str]| places.iter().map(|place| ((*place).to_owned(), format!("{place}!"))).collect();
        let lag = || {
            let all = conditions.reports();
            all.into_iter().find(|report| report.condition == Condition::Lag).expect("listed").troubles
        };
        conditions.report_all(Condition::Lag, at(&["a", "b"]));
        assert_eq!(lag(), ["a!", "b!"]);
        conditions.report_all(Condition::Lag, at(&["b", "c"]));
        assert_eq!(lag(), ["b!", "c!"]);
        conditions.report_all(Condition::Lag, at(&[]));
        assert!(conditions.ready());
    }

    #[test]
    fn a_list_of_places_is_bounded_and_foreign_text_stays_on_its_line() {
        let telemetry = Telemetry::new();
        let conditions = telemetry.conditions();
        for shard in 0..100 {
            conditions.report(Condition::Ends, &format!("{shard:3}"), Some(format!("shard {shard}\n\u{1b}[31mERROR")));
        }
        let ends = conditions.reports().into_iter().find(|report| report.condition == Condition::Ends).expect("listed");
        assert_eq!(ends.troubles.len(), MAX_NAMED + 1);
        assert_eq!(ends.troubles[0], "shard 0\\n\\u001b[31mERROR");
        assert_eq!(ends.troubles[MAX_NAMED], "and 80 more");
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Condition::ALL.iter().map(|condition| condition.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Condition::ALL.len());
        assert!(Condition::ALL.iter().all(|condition| !condition.holds().is_empty()));
    }
}
