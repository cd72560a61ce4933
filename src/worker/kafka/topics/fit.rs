//! Whether an internal topic can hold the only copy of the state: which of its settings would lose records, or risk it.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::admin::ConfigResource;

use super::super::client::KafkaError;

/// How many brokers must have a record before it counts, where a topic has three copies or more.
pub(super) const MIN_INSYNC: &str = "min.insync.replicas";
/// Which timestamp a record has: it must be the broker's.
pub(super) const TIMESTAMPS: &str = "message.timestamp.type";
pub(super) const OF_BROKER: &str = "LogAppendTime";
pub(super) const OF_PRODUCER: &str = "CreateTime";
/// The largest record of a topic that source topics are repartitioned to: one that was decompressed and cannot be split.
pub(super) const LARGEST: &str = "68157440";
const UNCLEAN: &str = "unclean.leader.election.enable";
/// With at least so many copies, a topic can lose one and still accept records.
const COPIES: usize = 3;

/// A setting that may lose acknowledged records, or keeps workers from checking their clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// A single broker may acknowledge a record, and then be lost.
    OneSuffices,
    /// A broker that lacks records may become the leader.
    UncleanElection,
    /// There is only one copy, though there are brokers for more.
    OneCopy,
    /// Records do not hold the brokers' time.
    NoBrokerTime,
    /// The brokers do not report the settings.
    Unknown,
}

/// A topic as the brokers describe it.
pub(super) struct Described<'a> {
    pub(super) topic: &'a str,
    /// The copies of each partition.
    pub(super) copies: usize,
    /// The brokers of the cluster.
    pub(super) brokers: usize,
    /// The values of its settings.
    pub(super) settings: BTreeMap<&'a str, &'a str>,
}

// === impl Risk ===

impl Risk {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::OneSuffices, Self::UncleanElection, Self::OneCopy, Self::NoBrokerTime, Self::Unknown];

    /// Its name as a label of a metric.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OneSuffices => "min_insync_replicas",
            Self::UncleanElection => "unclean_election",
            Self::OneCopy => "one_copy",
            Self::NoBrokerTime => "no_broker_time",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneSuffices => {
                "one replica is enough to acknowledge a record, and losing its broker loses the record; for each, \
                 `kafka-configs --alter --entity-type topics --entity-name TOPIC --add-config min.insync.replicas=2`"
            }
            Self::UncleanElection => {
                "an election may choose a leader that lacks acknowledged records; for each, `kafka-configs --alter \
                 --entity-type topics --entity-name TOPIC --add-config unclean.leader.election.enable=false`"
            }
            Self::OneCopy => {
                "a single replica, although there are three brokers: losing its broker loses the state; give them \
                 three with `kafka-reassign-partitions`, and set kafka.replication to 3 for new topics"
            }
            Self::NoBrokerTime => {
                "records lack the brokers' timestamps, so workers cannot compare their clocks; for each, \
                 `kafka-configs --alter --entity-type topics --entity-name TOPIC --add-config \
                 message.timestamp.type=LogAppendTime`"
            }
            Self::Unknown => "the brokers do not report the topic's settings, so they are not checked",
        })
    }
}

// === impl Described ===

impl<'a> Described<'a> {
    pub(super) fn new(topic: &'a str, (copies, brokers): (usize, usize), resource: &'a ConfigResource) -> Self {
        let settings = resource.entries.iter().filter_map(|e| Some((e.name.as_str(), e.value.as_deref()?)));
        Self { topic, copies, brokers, settings: settings.collect() }
    }

    fn value(&self, key: &str) -> &'a str {
        self.settings.get(key).copied().unwrap_or_default()
    }

    /// Checks that the topic keeps what is still needed.
    pub(super) fn keeps(&self) -> Result<(), KafkaError> {
        let topic = self.topic;
        if self.value("cleanup.policy").contains("compact") {
            return Err(KafkaError::Topic(format!(
                "topic {topic} is compacted, which destroys it; set cleanup.policy=delete"
            )));
        }
        for key in ["retention.ms", "retention.bytes"] {
            let limit = self.value(key);
            if !limit.is_empty() && limit != "-1" {
                return Err(KafkaError::Topic(format!(
                    "topic {topic} has {key}={limit}, so the broker would delete records that are still needed; set \
                     {key}=-1 (spanmill deletes old records itself)"
                )));
            }
        }
        Ok(())
    }

    /// The risks of a topic that is accepted nevertheless.
    pub(super) fn risks(&self) -> Vec<Risk> {
        let needed = self.value(MIN_INSYNC).parse::<usize>().ok();
        let risks = [
            (Risk::OneSuffices, self.copies >= COPIES && needed.is_some_and(|needed| needed < 2)),
            (Risk::UncleanElection, self.copies > 1 && self.value(UNCLEAN) == "true"),
            (Risk::OneCopy, self.copies == 1 && self.brokers >= COPIES),
            (Risk::NoBrokerTime, self.value(TIMESTAMPS) == "CreateTime"),
        ];
        risks.into_iter().filter(|(_, is)| *is).map(|(risk, _)| risk).collect()
    }
}

/// Whether topics of so many copies are made to need two of them.
pub(super) fn needs_two(copies: i32) -> bool {
    usize::try_from(copies).is_ok_and(|copies| copies >= COPIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(copies: usize, brokers: usize, settings: &[(&'static str, &'static str)]) -> Described<'static> {
        Described { topic: "g-deltas", copies, brokers, settings: settings.iter().copied().collect() }
    }

    #[test]
    fn a_topic_with_three_copies_needs_two_of_them_and_no_unclean_election() {
        let (one, two) = ((MIN_INSYNC, "1"), (MIN_INSYNC, "2"));
        let risks = |copies, settings: &[_]| described(copies, 3, settings).risks();
        assert_eq!(risks(3, &[one]), [Risk::OneSuffices]);
        assert_eq!(risks(3, &[two]), []);
        assert_eq!(risks(3, &[two, (UNCLEAN, "true")]), [Risk::UncleanElection]);
        assert_eq!(risks(3, &[one, (UNCLEAN, "true")]), [Risk::OneSuffices, Risk::UncleanElection]);
        // With two copies, a broker that is down would stop everything.
        assert_eq!(risks(2, &[one, (UNCLEAN, "false")]), []);
        assert_eq!(risks(1, &[one]), [Risk::OneCopy]);
        assert_eq!(described(1, 1, &[one, (UNCLEAN, "true")]).risks(), [], "there is no other broker");
        assert_eq!(risks(2, &[(TIMESTAMPS, "CreateTime")]), [Risk::NoBrokerTime]);
        assert_eq!(risks(2, &[(TIMESTAMPS, OF_BROKER)]), []);
        assert!(!needs_two(-1) && !needs_two(2) && needs_two(3));
    }

    #[test]
    fn a_topic_that_expires_or_is_compacted_is_refused() {
        for settings in [("cleanup.policy", "compact,delete"), ("retention.ms", "60000"), ("retention.bytes", "1")] {
            assert!(described(3, 3, &[settings]).keeps().is_err(), "{settings:?}");
        }
        assert!(described(3, 3, &[("cleanup.policy", "delete"), ("retention.ms", "-1")]).keeps().is_ok());
    }
}
