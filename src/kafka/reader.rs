//! Reading a stretch of one partition: journals at a take-over, gaps, deltas at a restore.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::client::{self, KafkaError};
use crate::config::settings::Kafka;

/// What is fetched ahead, if memory allows.
pub const READ_AHEAD: usize = 16 << 20;
/// How often a long read says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Says that no record can be had there.
const GONE: [RDKafkaErrorCode; 2] = [RDKafkaErrorCode::AutoOffsetReset, RDKafkaErrorCode::BadCompression];
/// How long a poll may take.
const POLL: Duration = Duration::from_millis(100);
/// How long a read may make no progress before it fails.
const STALL: Duration = Duration::from_secs(30);

/// A consumer that reads stretches, one at a time.
pub struct LogReader {
    consumer: BaseConsumer<Context>,
    memory: usize,
}

struct Context;

/// A stretch of a partition: `[from, to)`.
#[derive(Debug, Clone, Copy)]
pub struct Stretch<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// The offset after the last one.
    pub to: i64,
}

// === impl Context ===

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::log(level, facility, text);
    }

    fn error(&self, error: RdError, reason: &str) {
        client::report(&error, reason);
    }
}

impl ConsumerContext for Context {}

// === impl LogReader ===

impl LogReader {
    /// A reader with a buffer of its own.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(kafka: &Kafka) -> Result<Self, KafkaError> {
        Self::with_buffer(kafka, READ_AHEAD)
    }

    /// The same with a buffer of so many bytes.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn with_buffer(kafka: &Kafka, buffer_bytes: usize) -> Result<Self, KafkaError> {
        let consumer = BaseConsumer::from_config_and_context(&client::reader(kafka, buffer_bytes), Context)
            .map_err(|e| KafkaError::client("log reader", e))?;
        Ok(Self { consumer, memory: client::memory_of(buffer_bytes) })
    }

    /// How many bytes of memory may be taken for what is fetched ahead while a stretch is read.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// The lowest offset that a partition still has, and the one after its last record.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn bounds(&self, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
        client::bounds(&self.consumer, topic, partition)
    }

    /// Hands every record of the stretch, in order, to `each`: all of them. The logs of spanmill have no holes, so a
    /// missing record means that the stretch has been deleted meanwhile, or that the broker has lost it.
    ///
    /// # Errors
    /// When a record is missing, the broker makes no progress, `stop` is raised, or `each` fails.
    pub fn read<E: From<KafkaError>>(
        &self,
        stretch: Stretch<'_>,
        stop: &AtomicBool,
        each: &mut dyn FnMut(i64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if stretch.from >= stretch.to {
            return Ok(());
        }
        let done = self.assign(stretch).map_err(E::from).and_then(|()| self.drain(stretch, stop, each));
        self.leave()?;
        done
    }

    /// Hands the first record of the stretch to `tell`. There may be none: a topic that is not spanmill's own may have
    /// holes and batches that cannot be decompressed, and records expire.
    ///
    /// # Errors
    /// When the broker makes no progress, or `stop` is raised.
    pub fn first<T>(
        &self,
        stretch: Stretch<'_>,
        stop: &AtomicBool,
        tell: impl FnOnce(&BorrowedMessage<'_>) -> T,
    ) -> Result<Option<T>, KafkaError> {
        let found = self.assign(stretch).and_then(|()| self.await_first(stretch, stop));
        let told = found.map(|m| m.filter(|m| m.offset() < stretch.to).map(|m| tell(&m)));
        self.leave()?;
        told
    }

    /// Ends a read: nothing of this stretch may be fetched on behind the back of the next one.
    fn leave(&self) -> Result<(), KafkaError> {
        self.consumer.unassign().map_err(|e| KafkaError::request("end a read", e))?;
        // librdkafka frees what was fetched ahead when it is asked for the next record, which there is none of.
        drop(self.consumer.poll(Duration::from_millis(1)));
        Ok(())
    }

    fn await_first(&self, stretch: Stretch<'_>, stop: &AtomicBool) -> Result<Option<BorrowedMessage<'_>>, KafkaError> {
        let Stretch { topic, partition, from, .. } = stretch;
        let began = Instant::now();
        while began.elapsed() < STALL {
            if stop.load(Ordering::Relaxed) {
                return Err(KafkaError::Stopping);
            }
            match self.consumer.poll(POLL) {
                Some(Ok(m)) if m.topic() == topic && m.partition() == partition => return Ok(Some(m)),
                Some(Err(RdError::PartitionEOF(_))) => return Ok(None),
                Some(Err(e)) if e.rdkafka_error_code().is_some_and(|code| GONE.contains(&code)) => return Ok(None),
                Some(Err(error)) => tracing::debug!(%error, topic, "log read: retrying"),
                Some(Ok(_)) | None => {}
            }
        }
        Err(KafkaError::Timeout {
            what: format!("read {topic}[{partition}] at offset {from}"),
            seconds: STALL.as_secs(),
        })
    }

    fn assign(&self, stretch: Stretch<'_>) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(stretch.topic, stretch.partition, Offset::Offset(stretch.from))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|e| KafkaError::request(format!("start reading {}[{}]", stretch.topic, stretch.partition), e))
    }

    fn drain<E: From<KafkaError>>(
        &self,
        stretch: Stretch<'_>,
        stop: &AtomicBool,
        each: &mut dyn FnMut(i64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let what = || format!("read {}[{}] up to offset {}", stretch.topic, stretch.partition, stretch.to);
        let (mut progress, mut told, mut next) = (Instant::now(), Instant::now(), stretch.from);
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(KafkaError::Stopping.into());
            }
            match self.consumer.poll(POLL) {
                Some(Ok(m)) if m.topic() == stretch.topic && m.partition() == stretch.partition => {
                    if m.offset() != next {
                        return Err(KafkaError::Hole { what: what(), wanted: next, found: m.offset() }.into());
                    }
                    each(m.offset(), m.payload().unwrap_or_default())?;
                    next += 1;
                    if next >= stretch.to {
                        return Ok(());
                    }
                    progress = Instant::now();
                }
                // The stretch is known to be there: whoever answers is a little behind.
                Some(Err(RdError::PartitionEOF(_)) | Ok(_)) | None => {}
                Some(Err(e)) if e.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    return Err(KafkaError::request(what(), e).into());
                }
                Some(Err(e)) => tracing::debug!(error = %e, topic = stretch.topic, "log read: retrying"),
            }
            if told.elapsed() > TELL_EVERY {
                let Stretch { topic, partition, from, to } = stretch;
                tracing::info!(topic, partition, from, at = next, to, "reading a log");
                told = Instant::now();
            }
            if progress.elapsed() > STALL {
                return Err(KafkaError::Timeout { what: what(), seconds: STALL.as_secs() }.into());
            }
        }
    }
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogReader")
    }
}
