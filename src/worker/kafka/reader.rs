//! Reading a stretch of one partition: journals when a task is acquired, gaps, deltas at a restore.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::client::{self, KafkaError};
use super::fed::Fed;
use super::topic_ids::{self, TopicIds};
use crate::config::settings::Kafka;
use crate::worker::telemetry::flood;

/// What is fetched ahead, if memory allows.
pub const READ_AHEAD: usize = 16 << 20;
/// How often a long read logs its progress.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Errors that mean that the records are gone.
const GONE: [RDKafkaErrorCode; 2] = [RDKafkaErrorCode::AutoOffsetReset, RDKafkaErrorCode::BadCompression];
/// How long a poll may take.
const POLL: Duration = Duration::from_millis(100);
/// How long a read may make no progress before it fails.
const STALL: Duration = Duration::from_secs(30);

/// A consumer that reads stretches, one at a time.
pub struct LogReader {
    consumer: Fed<BaseConsumer<ReaderEvents>>,
    memory: usize,
}

/// Receives librdkafka's reports about topics.
#[derive(Default)]
struct ReaderEvents {
    ids: TopicIds,
}

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

/// The result of one poll.
enum Polled<'a> {
    Record(BorrowedMessage<'a>),
    /// The log ends here, for now.
    End,
    Failed(RdError),
    Nothing,
}

fn retrying(error: &RdError, topic: &str) {
    if error.rdkafka_error_code() != Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
        tracing::debug!(%error, topic, "log read failed, retrying");
    } else if let Some(held_back) = flood::may_say(&format!("read {topic}: {error}")) {
        tracing::warn!(%error, held_back, topic, "this worker may not read the topic: grant Read on it. Retrying");
    }
}

// === impl ReaderEvents ===

impl ClientContext for ReaderEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // The consumer that fetches reports if a topic has been re-created.
        self.ids.hear(text);
        client::log(level, facility, text);
    }

    fn error(&self, error: RdError, reason: &str) {
        client::report(&error, reason);
    }
}

impl ConsumerContext for ReaderEvents {}

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
        let config = topic_ids::told(client::reader(kafka, buffer_bytes));
        let consumer = BaseConsumer::from_config_and_context(&config, ReaderEvents::default())
            .map_err(|e| KafkaError::client("log reader", e))?;
        Ok(Self { consumer: Fed::new(consumer, &config), memory: client::memory_of(buffer_bytes) })
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

    /// The ID of the topic that has this name now, in librdkafka's form; `None` when the broker gives none.
    ///
    /// # Errors
    /// When the broker makes no progress, or `stop` is raised.
    pub fn topic_id(&self, topic: &str, partition: i32, stop: &AtomicBool) -> Result<Option<String>, KafkaError> {
        let (_, end) = self.bounds(topic, partition)?;
        // librdkafka reports the ID before it returns what it has fetched by it. The read is at the end, where there is
        // no record: the last record would come with its whole batch, which may be large after decompression, or
        // delayed by a quota.
        self.first(Stretch { topic, partition, from: end, to: end }, stop, |_| ())?;
        Ok(self.consumer.context().ids.id(topic))
    }

    /// Passes every record of the stretch, in order, to `each`: all of them. The logs of spanmill have no holes, so a
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

    /// Passes the first record of the stretch to `tell`. There may be none: a topic that is not spanmill's own may have
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

    /// Ends a read: the consumer must not continue to fetch this stretch during the next read.
    fn leave(&self) -> Result<(), KafkaError> {
        self.consumer.unassign().map_err(|e| KafkaError::request("end a read", e))?;
        // librdkafka frees what it fetched ahead when it is polled, which here returns no record.
        drop(self.consumer.poll(Duration::from_millis(1)));
        Ok(())
    }

    fn await_first(&self, stretch: Stretch<'_>, stop: &AtomicBool) -> Result<Option<BorrowedMessage<'_>>, KafkaError> {
        let Stretch { topic, partition, from, .. } = stretch;
        let began = Instant::now();
        while began.elapsed() < STALL {
            match self.poll(stretch, stop)? {
                Polled::Record(m) => return Ok(Some(m)),
                Polled::End => return Ok(None),
                Polled::Failed(e) if e.rdkafka_error_code().is_some_and(|code| GONE.contains(&code)) => {
                    return Ok(None);
                }
                Polled::Failed(error) => retrying(&error, topic),
                Polled::Nothing => {}
            }
        }
        Err(KafkaError::Timeout {
            what: format!("read {topic}[{partition}] at offset {from}"),
            seconds: STALL.as_secs(),
        })
    }

    /// Waits briefly for the next record of the stretch.
    fn poll(&self, stretch: Stretch<'_>, stop: &AtomicBool) -> Result<Polled<'_>, KafkaError> {
        if stop.load(Ordering::Relaxed) {
            return Err(KafkaError::Stopping);
        }
        Ok(match self.consumer.poll(POLL) {
            Some(Ok(m)) if m.topic() == stretch.topic && m.partition() == stretch.partition => Polled::Record(m),
            Some(Err(RdError::PartitionEOF(_))) => Polled::End,
            Some(Err(error)) => Polled::Failed(error),
            // A leftover of another read, or nothing.
            Some(Ok(_)) | None => Polled::Nothing,
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
            match self.poll(stretch, stop)? {
                Polled::Record(m) => {
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
                // The stretch is known to exist: the broker that answers lags a little.
                Polled::End | Polled::Nothing => {}
                Polled::Failed(e) if e.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    return Err(KafkaError::request(what(), e).into());
                }
                Polled::Failed(error) => retrying(&error, stretch.topic),
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
