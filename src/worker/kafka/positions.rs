//! The offsets of a consumer group that are the only truth about how far it has read.

use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::client::{self, KafkaError};
use super::fed::Fed;
use super::members::Partition;
use crate::config::settings::Kafka;

/// How long the group may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a group has of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The offset.
    pub offset: i64,
    /// The text that was committed with it.
    pub note: String,
}

/// Looks up offsets, as a client that is no member of the group. An offset of a transaction that is still open is waited for.
pub struct Positions {
    consumer: Fed<BaseConsumer<client::Heard>>,
    group: String,
}

// === impl Positions ===

impl Positions {
    /// Of this group.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(kafka: &Kafka, group: &str) -> Result<Self, KafkaError> {
        Self::connect(&client::member(kafka, group), group)
    }

    /// The same, without waiting for open transactions: what is returned may be about to change.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn hasty(kafka: &Kafka, group: &str) -> Result<Self, KafkaError> {
        let mut config = client::member(kafka, group);
        config.set("isolation.level", "read_uncommitted");
        Self::connect(&config, group)
    }

    fn connect(config: &ClientConfig, group: &str) -> Result<Self, KafkaError> {
        let consumer = BaseConsumer::from_config_and_context(config, client::Heard)
            .map_err(|e| KafkaError::client("client of a group", e))?;
        Ok(Self { consumer: Fed::new(consumer, config), group: group.to_owned() })
    }

    /// The committed offset of each of these partitions, if it has one.
    ///
    /// # Errors
    /// When the group does not answer for one of them.
    pub fn committed(&self, partitions: &[Partition]) -> Result<Vec<(Partition, Option<Committed>)>, KafkaError> {
        let failed = |e| KafkaError::request(format!("read the offsets of group {}", self.group), e);
        let mut list = TopicPartitionList::new();
        for p in partitions {
            list.add_partition(&p.topic, p.partition);
        }
        let found = self.consumer.committed_offsets(list, TIMEOUT).map_err(failed)?;
        let mut out = Vec::new();
        for e in found.elements() {
            e.error().map_err(failed)?;
            let committed = match e.offset() {
                Offset::Offset(offset) if offset >= 0 => Some(Committed { offset, note: e.metadata().to_owned() }),
                _ => None,
            };
            out.push((Partition { topic: e.topic().to_owned(), partition: e.partition() }, committed));
        }
        Ok(out)
    }

    /// Commits offsets, which the group accepts as long as it has no member.
    ///
    /// # Errors
    /// When it has one, or does not answer.
    pub fn commit(&self, offsets: &[(Partition, i64)]) -> Result<(), KafkaError> {
        let failed = |e| KafkaError::request(format!("commit the offsets at which group {} starts", self.group), e);
        let mut list = TopicPartitionList::new();
        for (p, offset) in offsets {
            list.add_partition_offset(&p.topic, p.partition, Offset::Offset(*offset)).map_err(failed)?;
        }
        self.consumer.commit(&list, CommitMode::Sync).map_err(failed)
    }

    /// The lowest offset that a partition still has, and the one after its last record.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn bounds(&self, p: &Partition) -> Result<(i64, i64), KafkaError> {
        client::bounds(&self.consumer, &p.topic, p.partition)
    }
}

impl std::fmt::Debug for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Positions").field("group", &self.group).finish_non_exhaustive()
    }
}
