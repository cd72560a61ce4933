//! Reading a stretch of a source partition, including compacted, transactional and empty ones.

use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, KafkaError};
use super::fed::Fed;
use super::reader::Stretch;
use crate::config::settings::Kafka;

/// How long the broker may be silent.
const STALL: Duration = Duration::from_secs(30);

/// A consumer without a group that reads source partitions.
pub struct Scanner {
    consumer: Fed<BaseConsumer<client::Heard>>,
}

// === impl Scanner ===

impl Scanner {
    /// A scanner with a buffer of its own.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(kafka: &Kafka) -> Result<Self, KafkaError> {
        let config = client::reader(kafka, 16 << 20);
        let consumer = BaseConsumer::from_config_and_context(&config, client::Heard)
            .map_err(|e| KafkaError::client("scanner", e))?;
        Ok(Self { consumer: Fed::new(consumer, &config) })
    }

    /// The lowest offset that a partition still has, and the one after its last record.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn bounds(&self, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
        client::bounds(&self.consumer, topic, partition)
    }

    /// The offset of the first record with this timestamp (milliseconds since the epoch) or a later one; `None` when there is
    /// none.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn offset_at(&self, topic: &str, partition: i32, at: i64) -> Result<Option<i64>, KafkaError> {
        let what = || format!("look up a time in {topic}[{partition}]");
        let mut list = TopicPartitionList::new();
        let found = list
            .add_partition_offset(topic, partition, Offset::Offset(at))
            .and_then(|()| self.consumer.offsets_for_times(list, Duration::from_secs(10)))
            .map_err(|e| KafkaError::request(what(), e))?;
        let element = found.elements_for_topic(topic).into_iter().next();
        Ok(element.and_then(|element| match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }))
    }

    /// The timestamp of the record at `offset`, if there is one and its batch can be decompressed.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn timestamp_at(&self, topic: &str, partition: i32, offset: i64) -> Result<Option<i64>, KafkaError> {
        let mut timestamp = None;
        let first = Stretch { topic, partition, from: offset, to: offset + 1 };
        let read = self.read::<KafkaError>(first, &mut |record| {
            timestamp = record.timestamp().to_millis();
            Ok(())
        });
        match read {
            Err(error) if error.code() == Some(RDKafkaErrorCode::BadCompression) => Ok(None),
            read => read.map(|()| timestamp),
        }
    }

    /// Passes every record that the stretch still holds to `each`, in order. Offsets without a record are skipped.
    ///
    /// # Errors
    /// When the broker is silent for half a minute, a batch cannot be decompressed, or `each` fails.
    pub fn read<E: From<KafkaError>>(
        &self,
        stretch: Stretch<'_>,
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if stretch.from >= stretch.to {
            return Ok(());
        }
        self.assign(stretch)?;
        let read = self.drain(stretch, each);
        self.consumer.unassign().map_err(|e| KafkaError::request("end a read", e))?;
        read
    }

    fn assign(&self, Stretch { topic, partition, from, .. }: Stretch<'_>) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(from))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|e| KafkaError::request(format!("start reading {topic}[{partition}]"), e))
    }

    /// The lowest offset that is left, if those from `next` on were deleted while they were read.
    fn cut(&self, stretch: Stretch<'_>, next: i64) -> Result<Option<i64>, KafkaError> {
        let (low, _) = self.bounds(stretch.topic, stretch.partition)?;
        Ok(Some(low).filter(|low| *low > next))
    }

    fn drain<E: From<KafkaError>>(
        &self,
        stretch: Stretch<'_>,
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut next = stretch.from;
        let what = |next| format!("read {}[{}] at offset {next}", stretch.topic, stretch.partition);
        let mut progress = Instant::now();
        loop {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(m)) if m.topic() != stretch.topic || m.partition() != stretch.partition => {}
                Some(Ok(m)) => {
                    (progress, next) = (Instant::now(), m.offset() + 1);
                    if m.offset() < stretch.to {
                        each(&m)?;
                    }
                    if next >= stretch.to {
                        return Ok(());
                    }
                }
                // The last offsets may hold no record, as behind a transaction.
                Some(Err(RdError::PartitionEOF(_))) => return Ok(()),
                // librdkafka would fetch the batch again for ever.
                Some(Err(e)) if e.rdkafka_error_code() == Some(RDKafkaErrorCode::BadCompression) => {
                    return Err(KafkaError::request(what(next), e).into());
                }
                // A topic may lose its beginning at any moment, to retention or because its owner deletes what nothing needs.
                Some(Err(e)) if e.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    let Some(low) = self.cut(stretch, next)? else { continue };
                    if low >= stretch.to {
                        return Ok(());
                    }
                    (progress, next) = (Instant::now(), low);
                    self.assign(Stretch { from: low, ..stretch })?;
                }
                Some(Err(e)) => tracing::debug!(error = %e, topic = stretch.topic, "scan failed, retrying"),
                None => {}
            }
            if progress.elapsed() > STALL {
                return Err(KafkaError::Timeout { what: what(next), seconds: STALL.as_secs() }.into());
            }
        }
    }
}

impl std::fmt::Debug for Scanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scanner")
    }
}
