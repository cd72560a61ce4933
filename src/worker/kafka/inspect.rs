//! What a worker would meet at its brokers, as far as that can be found without changing anything.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode};
use rdkafka::groups::GroupInfo;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::assignment;
use super::client::{self, Heard, KafkaError};
use super::fed::Fed;
use super::members::{self, GroupOffset, Partition};
use super::reader::Stretch;
use super::scan::Scanner;
use crate::config::settings::Kafka;

/// How long a partition may take to report its end, or that reading is not permitted.
const READS_WITHIN: Duration = Duration::from_secs(10);
/// How long a group may take to return an offset.
const TELLS_WITHIN: Duration = Duration::from_secs(10);

/// A consumer without a place in any group, which sends requests in the name of one.
pub struct Inspector {
    consumer: Fed<BaseConsumer<Heard>>,
    scanner: Scanner,
    kafka: Kafka,
}

/// The latest records of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keys {
    /// Records that were looked at.
    pub records: u64,
    /// Those among them without a key.
    pub without: u64,
}

// === impl Inspector ===

impl Inspector {
    /// Sends requests in the name of `group`.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(kafka: &Kafka, group: &str) -> Result<Self, KafkaError> {
        let mut config = client::member(kafka, group);
        // The end of a partition shows that it can be read.
        config.set("enable.partition.eof", "true");
        let consumer =
            BaseConsumer::from_config_and_context(&config, Heard).map_err(|e| KafkaError::client("consumer", e))?;
        Ok(Self { consumer: Fed::new(consumer, &config), scanner: Scanner::new(kafka)?, kafka: kafka.clone() })
    }

    /// How many brokers there are.
    ///
    /// # Errors
    /// When none answers.
    pub fn brokers(&self) -> Result<usize, KafkaError> {
        let found = self.consumer.fetch_metadata(Some("__consumer_offsets"), TELLS_WITHIN);
        let told = |e| client::unanswered(&self.kafka, "look up the brokers", e);
        found.map(|metadata| metadata.brokers().len()).map_err(told)
    }

    /// The members that own the partitions of a group: client ID and host, by topic and partition.
    ///
    /// # Errors
    /// When the brokers do not report them, as those before Kafka 0.9, or the group may not be described.
    pub fn owners(&self, group: &str) -> Result<BTreeMap<(String, i32), String>, KafkaError> {
        let what = || format!("describe the group {group}");
        let list = self.consumer.fetch_group_list(Some(group), TELLS_WITHIN);
        let list = list.map_err(|e| KafkaError::request(what(), e))?;
        let mut owners = BTreeMap::new();
        for member in list.groups().iter().flat_map(GroupInfo::members) {
            let name = format!("{} at {}", member.client_id(), member.client_host().trim_start_matches('/'));
            let owned = assignment::partitions(member.assignment().unwrap_or_default());
            owners.extend(owned.into_iter().map(|partition| (partition, name.clone())));
        }
        Ok(owners)
    }

    /// The members of a group: client ID and host. Brokers tell nothing of those that use the protocol of KIP-848.
    ///
    /// # Errors
    /// When the brokers do not report them, or the group may not be described.
    pub fn members(&self, group: &str) -> Result<Vec<String>, KafkaError> {
        let list = self.consumer.fetch_group_list(Some(group), TELLS_WITHIN);
        let list = list.map_err(|e| KafkaError::request(format!("describe the group {group}"), e))?;
        let members = list.groups().iter().flat_map(GroupInfo::members);
        let name = |client: &str, host: &str| format!("{client} at {}", host.trim_start_matches('/'));
        Ok(members.map(|member| name(member.client_id(), member.client_host())).collect())
    }

    /// What the group has as the offset of a partition.
    ///
    /// # Errors
    /// When the group may not be asked, or does not answer.
    pub fn offset(&self, partition: &Partition) -> Result<Option<GroupOffset>, KafkaError> {
        members::committed(&self.consumer, partition)
    }

    /// The offsets that the group has committed, by partition; `None` where it has none.
    ///
    /// # Errors
    /// When the group may not be asked, or does not answer.
    pub fn committed(&self, topic: &str, partitions: i32) -> Result<Vec<Option<i64>>, KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let what = "read the group's offsets";
        let found = self.consumer.committed_offsets(list, TELLS_WITHIN).map_err(|e| KafkaError::request(what, e))?;
        let offset = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
        Ok(found.elements().iter().map(|element| offset(element.offset())).collect())
    }

    /// Checks that a partition may be read, with a read at its end.
    ///
    /// # Errors
    /// When it may not be read, or its broker does not answer.
    pub fn reads(&self, topic: &str, partition: i32) -> Result<(), KafkaError> {
        let what = || format!("read {topic}[{partition}]");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::End)
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|e| KafkaError::request(what(), e))?;
        let begin = Instant::now();
        let read = loop {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(_) | Err(RdError::PartitionEOF(_))) => break Ok(()),
                Some(Err(error)) if is_denied(&error) => break Err(KafkaError::request(what(), error)),
                // librdkafka handles other errors itself.
                Some(Err(error)) => tracing::debug!(%error, topic, partition, "inspection failed, retrying"),
                None => {}
            }
            if begin.elapsed() > READS_WITHIN {
                break Err(KafkaError::Timeout { what: what(), seconds: READS_WITHIN.as_secs() });
            }
        };
        self.consumer.unassign().map_err(|e| KafkaError::request(what(), e))?;
        read
    }

    /// Looks at the last `records` records of a partition.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn keys(&self, topic: &str, partition: i32, records: i64) -> Result<Keys, KafkaError> {
        let (low, to) = self.scanner.bounds(topic, partition)?;
        let mut keys = Keys::default();
        let last = Stretch { topic, partition, from: low.max(to - records), to };
        self.scanner.read::<KafkaError>(last, &mut |record| {
            keys.records += 1;
            keys.without += u64::from(record.key().is_none_or(<[u8]>::is_empty));
            Ok(())
        })?;
        Ok(keys)
    }

    /// The time of the first record that a group would read: behind `committed`, or at the beginning.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn first(&self, topic: &str, partition: i32, committed: Option<i64>) -> Result<Option<i64>, KafkaError> {
        let (low, to) = self.scanner.bounds(topic, partition)?;
        let from = committed.unwrap_or(low).max(low);
        if from >= to { Ok(None) } else { self.scanner.timestamp_at(topic, partition, from) }
    }
}

fn is_denied(error: &RdError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed)
    )
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inspector")
    }
}
