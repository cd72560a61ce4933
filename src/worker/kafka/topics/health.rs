//! Which requests to the brokers fail, and which topics are at risk: each is logged once, and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fit::Risk;
use crate::worker::telemetry::{Telemetry, hazards};

/// How soon topics are looked at again whose settings no broker has reported. It doubles each time.
const AGAIN: Duration = Duration::from_secs(15);
const AGAIN_AT_MOST: Duration = Duration::from_secs(600);
/// After so many failures in a row, a failure is more than a leader that moves.
const LONG: u32 = 3;

/// A request that the worker repeats, whether it fails or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Request {
    CreatePartitions,
    DeleteRecords,
    DescribeConfigs,
}

/// How long a request has been failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failing {
    /// For the first time since it worked.
    Anew,
    /// A further time.
    Again,
    /// For so long that it must be logged.
    ForLong,
}

/// Behind a lock only because several threads may share the client.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How often in a row requests have failed.
    failures: BTreeMap<Request, u32>,
    /// The requests that lack a right, which has been logged.
    denied: BTreeSet<Request>,
    /// Topics whose settings no broker has reported.
    untold: BTreeSet<String>,
    /// When these are checked again, and the interval.
    again: Option<(Instant, Duration)>,
    risks: BTreeMap<Risk, BTreeSet<String>>,
    /// The risks that have been logged.
    said: BTreeSet<(Risk, String)>,
}

// === impl Request ===

impl Request {
    fn name(self) -> &'static str {
        match self {
            Self::CreatePartitions => hazards::CREATE_PARTITIONS,
            Self::DeleteRecords => hazards::DELETE_RECORDS,
            Self::DescribeConfigs => hazards::DESCRIBE_CONFIGS,
        }
    }
}

// === impl Health ===

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has failed.
    pub(super) fn fails(&self, request: Request, telemetry: &Option<Telemetry>) -> Failing {
        if let Some(telemetry) = telemetry {
            telemetry.admin_request_failed(request.name());
        }
        let mut state = self.state();
        let failures = state.failures.entry(request).or_default();
        *failures = failures.saturating_add(1);
        match *failures {
            1 => Failing::Anew,
            LONG => Failing::ForLong,
            _ => Failing::Again,
        }
    }

    /// A request has failed for lack of a right; returns whether that is news, whatever its earlier failures.
    pub(super) fn denied(&self, request: Request) -> bool {
        self.state().denied.insert(request)
    }

    /// A request works; returns whether it has failed before.
    pub(super) fn works(&self, request: Request) -> bool {
        let mut state = self.state();
        state.denied.remove(&request);
        state.failures.remove(&request).is_some()
    }

    /// The settings of these topics are to be looked at now.
    pub(super) fn to_check(&self, topics: &[String]) {
        let mut state = self.state();
        state.untold.extend(topics.iter().cloned());
        state.again = None;
    }

    /// The topics to look at, if it is time.
    pub(super) fn due(&self, present: Instant) -> Vec<String> {
        let mut state = self.state();
        if state.again.is_some_and(|(at, _)| present < at) {
            return Vec::new();
        }
        let wait = state.again.map_or(AGAIN, |(_, wait)| (2 * wait).min(AGAIN_AT_MOST));
        state.again = Some((present + wait, wait));
        state.untold.iter().cloned().collect()
    }

    /// No broker answered: the next check waits for the longest interval.
    pub(super) fn look_later(&self, present: Instant) {
        self.state().again = Some((present + AGAIN_AT_MOST, AGAIN_AT_MOST));
    }

    /// The settings of a topic are known.
    pub(super) fn found(&self, topic: &str, risks: Vec<Risk>) {
        let mut state = self.state();
        state.untold.remove(topic);
        for topics in state.risks.values_mut() {
            topics.remove(topic);
        }
        for risk in risks {
            state.risks.entry(risk).or_default().insert(topic.to_owned());
        }
    }

    /// The names of the topics whose settings are not known.
    pub(super) fn untold(&self) -> String {
        self.state().untold.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// The risks that have not been logged yet, each with its topics.
    pub(super) fn risks_to_say(&self) -> Vec<(Risk, String)> {
        let mut state = self.state();
        let State { risks, said, .. } = &mut *state;
        let mut to_say = Vec::new();
        for (risk, topics) in risks {
            let new: Vec<&str> =
                topics.iter().filter(|topic| said.insert((*risk, (*topic).clone()))).map(String::as_str).collect();
            if !new.is_empty() {
                to_say.push((*risk, new.join(", ")));
            }
        }
        to_say
    }

    /// Exports how many topics are at risk.
    pub(super) fn show(&self, telemetry: Option<&Telemetry>) {
        let Some(telemetry) = telemetry else { return };
        let state = self.state();
        for risk in Risk::ALL {
            let topics = match risk {
                Risk::Unknown => state.untold.len(),
                _ => state.risks.get(&risk).map_or(0, BTreeSet::len),
            };
            telemetry.topics_at_risk(risk.name(), topics);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_said_once_and_once_more_when_it_lasts_and_its_end_once() {
        let health = Health::default();
        let fails = || health.fails(Request::DeleteRecords, &None);
        let all: Vec<Failing> = (0..5).map(|_| fails()).collect();
        assert_eq!(all, [Failing::Anew, Failing::Again, Failing::ForLong, Failing::Again, Failing::Again]);
        assert!(!health.works(Request::DescribeConfigs), "another one");
        assert!(health.works(Request::DeleteRecords) && !health.works(Request::DeleteRecords));
        assert_eq!(fails(), Failing::Anew);
    }

    #[test]
    fn a_missing_right_is_news_once_also_when_something_else_failed_first() {
        let health = Health::default();
        assert_eq!(health.fails(Request::DescribeConfigs, &None), Failing::Anew);
        assert_eq!(health.fails(Request::DescribeConfigs, &None), Failing::Again);
        assert!(health.denied(Request::DescribeConfigs) && !health.denied(Request::DescribeConfigs));
        assert!(health.denied(Request::DeleteRecords), "another one");
        assert!(health.works(Request::DescribeConfigs));
        assert!(health.denied(Request::DescribeConfigs), "it worked meanwhile");
    }

    #[test]
    fn topics_are_looked_at_again_until_a_broker_tells_and_each_risk_is_said_once() {
        let (health, start) = (Health::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        health.to_check(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(health.due(start), ["a", "b"]);
        health.found("a", vec![Risk::OneSuffices]);
        assert_eq!(health.risks_to_say(), [(Risk::OneSuffices, "a".to_owned())]);
        assert!(health.due(after(14)).is_empty());
        assert_eq!((health.due(after(15)), health.untold()), (vec!["b".to_owned()], "b".to_owned()));
        assert!(health.due(after(44)).is_empty(), "twice as long");
        assert_eq!(health.due(after(45)), ["b"]);
        health.found("a", vec![Risk::OneSuffices]);
        health.found("b", vec![Risk::OneSuffices, Risk::UncleanElection]);
        let b = || "b".to_owned();
        assert_eq!(health.risks_to_say(), [(Risk::OneSuffices, b()), (Risk::UncleanElection, b())]);
        health.to_check(&["c".to_owned()]);
        health.look_later(start);
        assert!(health.due(after(599)).is_empty());
        assert_eq!(health.due(after(600)), ["c"]);
        health.found("c", Vec::new());
        assert!(health.due(after(9_999)).is_empty() && health.risks_to_say().is_empty());
    }
}
