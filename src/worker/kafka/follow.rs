//! Following all partitions of an internal topic, as it grows, without a place in any group.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, KafkaError};
use super::fed::Fed;
use crate::config::settings::Kafka;

/// What is fetched ahead, if memory allows.
const READ_AHEAD: usize = 8 << 20;

/// A consumer of all partitions of a topic.
pub struct Follower {
    consumer: Fed<BaseConsumer<client::Heard>>,
    topic: String,
    /// The offset that comes next, by partition.
    next: BTreeMap<i32, i64>,
}

/// An event of a topic.
#[derive(Debug)]
pub enum Followed<T> {
    /// A record, and what was made of it.
    Record(T),
    /// Records were deleted before they could be read: those of this partition between the two offsets.
    Lost(i32, i64, i64),
    /// Nothing within the time.
    Nothing,
}

// === impl Follower ===

impl Follower {
    /// Follows `topic` from these offsets on, by partition.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(kafka: &Kafka, topic: &str, from: BTreeMap<i32, i64>) -> Result<Self, KafkaError> {
        let config = client::reader(kafka, READ_AHEAD);
        let consumer = BaseConsumer::from_config_and_context(&config, client::Heard)
            .map_err(|e| KafkaError::client("follower", e))?;
        let follower = Self { consumer: Fed::new(consumer, &config), topic: topic.to_owned(), next: from };
        follower.assign()?;
        Ok(follower)
    }

    /// Waits for the next event, at most for `timeout`. Passes the partition and the bytes of a record to `tell`.
    ///
    /// # Errors
    /// When brokers do not answer, or refuse.
    pub fn next<T>(
        &mut self,
        timeout: Duration,
        tell: impl FnOnce(i32, &[u8]) -> T,
    ) -> Result<Followed<T>, KafkaError> {
        match self.consumer.poll(timeout) {
            Some(Ok(m)) => {
                let (partition, offset) = (m.partition(), m.offset());
                let next = self.next.entry(partition).or_insert(offset);
                if offset > *next {
                    let lost = Followed::Lost(partition, *next, offset);
                    *next = offset;
                    drop(m);
                    self.assign()?;
                    return Ok(lost);
                }
                if offset < *next {
                    // What was fetched before an assignment.
                    return Ok(Followed::Nothing);
                }
                *next = offset + 1;
                Ok(Followed::Record(tell(partition, m.payload().unwrap_or_default())))
            }
            Some(Err(RdError::PartitionEOF(_))) | None => Ok(Followed::Nothing),
            Some(Err(e)) if e.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => self.find_again(),
            Some(Err(e)) => Err(KafkaError::request(format!("follow {}", self.topic), e)),
        }
    }

    /// Whether everything before these offsets was read, by partition.
    #[must_use]
    pub fn has_passed(&self, ends: &BTreeMap<i32, i64>) -> bool {
        ends.iter().all(|(partition, end)| self.next.get(partition).is_some_and(|next| next >= end))
    }

    /// Finds the partition whose offset is gone, and continues where there are records.
    fn find_again<T>(&mut self) -> Result<Followed<T>, KafkaError> {
        let mut lost = Followed::Nothing;
        for (&partition, next) in &mut self.next {
            let (low, high) = client::bounds(&self.consumer, &self.topic, partition)?;
            let there = (*next).clamp(low, high);
            if there != *next {
                lost = Followed::Lost(partition, *next, there);
                *next = there;
                break;
            }
        }
        self.assign()?;
        Ok(lost)
    }

    fn assign(&self) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for (&partition, &next) in &self.next {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(next))
                .map_err(|e| KafkaError::request(format!("follow {}", self.topic), e))?;
        }
        self.consumer.assign(&list).map_err(|e| KafkaError::request(format!("follow {}", self.topic), e))
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("topic", &self.topic).field("next", &self.next).finish_non_exhaustive()
    }
}
