//! Whether a member is in its group, by its own heartbeats.
//!
//! librdkafka's statistics report the state of the member and when its coordinator last answered. A group that gives
//! the partitions away cannot notify a member that it does not reach: so the member has to judge by itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;

use crate::config::settings::{GroupProtocol, Kafka};

/// How often librdkafka reports statistics.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(1);
/// If librdkafka reports nothing for longer than this, the state is unknown: the thread that polls may be busy closing
/// tasks.
const HEARD_WITHIN: Duration = Duration::from_secs(30);

/// The state of a membership as far as the member knows it.
#[derive(Debug, Clone)]
pub struct Pulse {
    heartbeat: Duration,
    session: Duration,
    /// Whether the brokers have to support the consumer protocol.
    brokered: bool,
    /// When librdkafka last reported.
    told: Instant,
    /// When the coordinator last answered, while there is a connection to it.
    heard: Option<Instant>,
    /// When the membership was last known to be valid: settled, and the coordinator answered.
    well: Option<Instant>,
    /// The state, in librdkafka's terms.
    state: String,
    /// What failed since, and when librdkafka had last reported by then.
    failure: Option<(String, Instant)>,
    /// Whether the member has left for a while.
    left: bool,
}

// === impl Pulse ===

impl Pulse {
    pub(super) fn new(kafka: &Kafka, present: Instant) -> Self {
        let (heartbeat, session) = super::client::heartbeat_and_session(kafka);
        Self {
            heartbeat: Duration::from_millis(heartbeat),
            session: Duration::from_millis(session),
            brokered: kafka.group_protocol == GroupProtocol::Consumer,
            told: present,
            heard: None,
            well: None,
            state: "init".to_owned(),
            failure: None,
            left: false,
        }
    }

    /// Takes in a report of librdkafka.
    pub(super) fn learn(&mut self, told: &Statistics, present: Instant) {
        self.told = present;
        let Some(group) = &told.cgrp else { return };
        self.state.clone_from(&group.join_state);
        // The connection to the coordinator has a name of its own.
        let brokers: BTreeMap<_, _> =
            told.brokers.iter().filter(|(_, b)| b.nodeid < 0 && b.source == "logical").collect();
        let idle = brokers.values().filter(|b| b.state == "UP").filter_map(|b| u64::try_from(b.rxidle).ok()).min();
        self.heard = idle.and_then(|idle| present.checked_sub(Duration::from_micros(idle)));
        if group.join_state == "steady"
            && let Some(heard) = self.heard
            && present.saturating_duration_since(heard) <= self.silence()
        {
            self.well = Some(present);
            self.failure = None;
        }
    }

    /// Something has failed: the error of a broker or of the group. That all brokers are down follows from the errors
    /// of each of them, and is less precise.
    pub(super) fn failed(&mut self, error: &RdError, why: String) {
        let follows = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        // librdkafka repeats the error of a broker as long as it holds.
        let holds = |(_, said): &(String, Instant)| self.told.saturating_duration_since(*said) <= HEARD_WITHIN;
        if !(follows && self.failure.as_ref().is_some_and(holds)) {
            self.failure = Some((why, self.told));
        }
    }

    pub(super) fn leaves(&mut self, left: bool) {
        self.left = left;
    }

    /// The coordinator may be silent for two heartbeats.
    fn silence(&self) -> Duration {
        self.heartbeat * 2 + TELL_EVERY
    }

    /// Whether the group has settled, as far as librdkafka has reported: no rebalance is in progress.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.state == "steady"
    }

    /// Whether the known state is current: a worker that was frozen has an old state until it polls again.
    #[must_use]
    pub fn is_of_now(&self, present: Instant) -> bool {
        present.saturating_duration_since(self.told) <= self.silence()
    }

    /// Why the member is not in `group`, or not known to be.
    #[must_use]
    pub fn trouble(&self, group: &str, present: Instant) -> Option<String> {
        let since = |at: Instant| present.saturating_duration_since(at);
        // Measured at the last report: the thread that polls does other things as well, and a delay of it is no loss of
        // the coordinator.
        let by_then = |at: Instant| self.told.saturating_duration_since(at);
        let remedy = "check that the brokers in kafka.brokers are reachable and accept the credentials in \
                      kafka.properties, and that this worker may read the group";
        // librdkafka does not report brokers that lack the protocol.
        let older = if self.brokered { "; brokers before Kafka 4.0 need kafka.group_protocol: classic" } else { "" };
        let failure = self.failure.as_ref().map_or(String::new(), |(why, _)| format!(" (last error: {why})"));
        if self.left {
            return Some(format!(
                "not a member of group {group}: this worker backs off after repeated evictions; see \
                                 the log"
            ));
        }
        let Some(well) = self.well else {
            return Some(format!("not a member of group {group} yet{failure}; {remedy}{older}"));
        };
        // A rebalance is normal; one that does not end is not.
        let refused = self.failure.is_some() && self.state != "steady" && by_then(well) > self.silence();
        if since(self.told) > HEARD_WITHIN || refused || by_then(well) > self.session.max(self.silence()) {
            let (seconds, state) = (since(well).as_secs(), &self.state);
            return Some(format!(
                "not known to be a member of group {group} for {seconds} s, state {state}{failure}; {remedy}"
            ));
        }
        let silent = by_then(self.heard.unwrap_or(well));
        (self.state == "steady" && silent > self.silence()).then(|| {
            format!("the coordinator of group {group} has not answered for {} s{failure}; {remedy}", silent.as_secs())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::statistics::{Broker, ConsumerGroup};

    fn told(state: &str, broker: &str, idle: Duration) -> Statistics {
        let cgrp = ConsumerGroup { state: "up".to_owned(), join_state: state.to_owned(), ..ConsumerGroup::default() };
        let mut told = Statistics { cgrp: Some(cgrp), ..Statistics::default() };
        let broker = Broker {
            nodeid: -1,
            source: "logical".to_owned(),
            state: broker.to_owned(),
            rxidle: if broker == "UP" { idle.as_micros() as i64 } else { -1 },
            ..Broker::default()
        };
        told.brokers.insert("GroupCoordinator".to_owned(), broker);
        told
    }

    fn pulse(start: Instant) -> Pulse {
        Pulse::new(&Kafka::default(), start)
    }

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn is_well(pulse: &Pulse, present: Instant) -> bool {
        pulse.trouble("mill", present).is_none()
    }

    #[test]
    fn a_thread_that_keeps_house_for_ten_seconds_is_no_silence_of_the_coordinator() {
        let start = Instant::now();
        let mut pulse = pulse(start);
        pulse.session = seconds(12);
        pulse.learn(&told("steady", "UP", seconds(2)), start);
        assert!(is_well(&pulse, start + seconds(10)) && is_well(&pulse, start + seconds(29)));
        // Nor does it confirm anything.
        assert!(pulse.is_of_now(start + seconds(1)) && !pulse.is_of_now(start + seconds(10)));
        assert!(!is_well(&pulse, start + seconds(31)), "too long to know");
        // Later reports count again.
        pulse.learn(&told("steady", "UP", seconds(31)), start + seconds(31));
        assert!(!is_well(&pulse, start + seconds(31)));
    }

    #[test]
    fn a_member_is_in_its_group_once_it_is_settled_and_its_coordinator_answers() {
        let start = Instant::now();
        let mut pulse = pulse(start);
        assert!(pulse.trouble("mill", start).is_some_and(|text| text.contains("not a member of group mill yet")));
        pulse.learn(&told("wait-join", "UP", seconds(0)), start);
        assert!(!is_well(&pulse, start));
        pulse.learn(&told("steady", "UP", seconds(1)), start + seconds(1));
        assert!(is_well(&pulse, start + seconds(1)));
    }

    #[test]
    fn a_coordinator_that_misses_two_heartbeats_is_told_before_the_session_is_over() {
        let start = Instant::now();
        let mut pulse = pulse(start);
        for at in 0..=9 {
            pulse.learn(&told("steady", "UP", seconds(at)), start + seconds(at));
            assert_eq!(is_well(&pulse, start + seconds(at)), at <= 7, "{at}");
        }
        pulse.learn(&told("steady", "UP", seconds(0)), start + seconds(10));
        assert!(is_well(&pulse, start + seconds(10)));
        for at in 11..=20 {
            pulse.learn(&told("steady", "DOWN", seconds(0)), start + seconds(at));
            assert_eq!(is_well(&pulse, start + seconds(at)), at <= 17, "{at}");
        }
    }

    #[test]
    fn a_rebalance_is_a_part_of_life_and_one_that_does_not_end_is_not() {
        let start = Instant::now();
        let mut pulse = pulse(start);
        pulse.learn(&told("steady", "UP", seconds(0)), start);
        for at in 1..=14 {
            pulse.learn(&told("wait-join", "UP", seconds(at)), start + seconds(at));
            assert_eq!(is_well(&pulse, start + seconds(at)), at <= 10, "{at}");
        }
        // A refusal is reported earlier, and with its reason.
        pulse.learn(&told("steady", "UP", seconds(0)), start + seconds(20));
        let refused = RdError::Global(RDKafkaErrorCode::GroupAuthorizationFailed);
        pulse.failed(&refused, "Group authorization failed".to_owned());
        pulse.learn(&told("init", "UP", seconds(0)), start + seconds(28));
        let text = pulse.trouble("mill", start + seconds(28)).expect("it is not in the group");
        assert!(text.contains("Group authorization failed") && text.contains("that this worker may read"), "{text}");
    }

    #[test]
    fn that_all_brokers_are_down_does_not_hide_why() {
        let start = Instant::now();
        let mut pulse = pulse(start);
        let says = |pulse: &Pulse, what| pulse.trouble("mill", start).is_some_and(|text| text.contains(what));
        let down = RdError::Global(RDKafkaErrorCode::AllBrokersDown);
        pulse.failed(&down, "1/1 brokers are down".to_owned());
        assert!(says(&pulse, "1/1 brokers"), "better than nothing");
        pulse.failed(&RdError::Global(RDKafkaErrorCode::Authentication), "Authentication failed".to_owned());
        pulse.failed(&down, "1/1 brokers are down".to_owned());
        assert!(says(&pulse, "Authentication failed") && !says(&pulse, "1/1 brokers"));
        // The password is right now; then the brokers go.
        pulse.learn(&told("init", "DOWN", seconds(0)), start + seconds(40));
        pulse.failed(&down, "1/1 brokers are down".to_owned());
        assert!(says(&pulse, "1/1 brokers") && !says(&pulse, "Authentication failed"));
    }

    #[test]
    fn what_has_not_been_looked_at_for_long_is_not_known() {
        let start = Instant::now();
        let mut pulse = pulse(start);
        pulse.session = seconds(300);
        pulse.learn(&told("steady", "UP", seconds(0)), start);
        assert!(is_well(&pulse, start + seconds(7)));
        assert!(!is_well(&pulse, start + seconds(31)));
        pulse.learn(&told("steady", "UP", seconds(0)), start + seconds(32));
        pulse.leaves(true);
        assert!(pulse.trouble("mill", start + seconds(32)).is_some_and(|text| text.contains("backs off")));
    }
}
