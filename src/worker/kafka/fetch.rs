//! Fetching for one worker thread: one consumer, one queue per partition.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError as RdError;
use rdkafka::message::BorrowedMessage;
use rdkafka::statistics::Statistics;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::client::{self, KafkaError};
use super::fed::Fed;
use super::topic_ids::{self, Incarnation, TopicIds};
use crate::config::settings::Kafka;

/// Called from time to time with the state of a partition: topic, partition, and what is seen of it.
pub type OnSeen = Box<dyn Fn(&str, i32, FetchView) + Send + Sync>;

/// How often librdkafka reports how far partitions reach, and the state of its brokers.
pub const TELL_EVERY: Duration = Duration::from_secs(2);

/// The state of a partition as librdkafka reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchView {
    /// The offset after its last record, if that is known.
    pub end: Option<i64>,
    /// The offset at which the first open transaction begins, if there is one: nothing from there on can be read.
    pub open: Option<i64>,
    /// How long ago its broker last answered; `None` without a connection to one.
    pub heard: Option<Duration>,
    /// The bytes that are fetched and wait to be taken.
    pub fetched: u64,
}

/// The records of one partition.
pub struct Queue {
    records: PartitionQueue<FetchEvents>,
    consumer: Arc<BaseConsumer<FetchEvents>>,
    /// The topic that was opened.
    topic: Incarnation,
}

/// What a queue returns instead of a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoRecord {
    /// The end of the partition.
    #[error("the end of the partition")]
    End,
    /// A batch that cannot be decompressed. librdkafka will fetch it again.
    #[error("{}", .0.reason)]
    Undecompressed(Undecompressed),
    /// The topic is not the one that was opened. No record of the new one has been returned.
    #[error("the topic was deleted and re-created")]
    MadeAgain,
    /// A fetch failed.
    #[error(transparent)]
    Failed(RdError),
}

/// The consumer of one worker thread. Only that thread opens and closes partitions.
pub struct Fetcher {
    consumer: Fed<Arc<BaseConsumer<FetchEvents>>>,
    thread: Thread,
    memory: usize,
}

/// Receives librdkafka's statistics, and its reports about failures and topics.
struct FetchEvents {
    on_seen: OnSeen,
    ids: TopicIds,
    /// Whether librdkafka has reported something that the worker has not handled yet.
    news: AtomicBool,
    /// How often reports were handled.
    heard: AtomicU64,
    /// The details of the last failure, if it was a batch that could not be decompressed.
    undecompressed: Mutex<Option<Undecompressed>>,
}

/// A batch that librdkafka could not decompress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecompressed {
    /// The offset at which the batch begins.
    pub begin: i64,
    /// Its compressed bytes.
    pub bytes: u64,
    /// librdkafka's message.
    pub reason: String,
}

impl Undecompressed {
    /// Parses librdkafka's message, the only source of the place:
    /// `Decompression (codec 0x4) of message at 17 of 11393 bytes failed: Local: Invalid compressed data`.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("Decompression (codec ")?;
        let (begin, rest) = rest.split_once(" of message at ")?.1.split_once(" of ")?;
        let (bytes, _) = rest.split_once(" bytes failed")?;
        Some(Self { begin: begin.parse().ok()?, bytes: bytes.parse().ok()?, reason: text.to_owned() })
    }
}

// === impl FetchEvents ===

impl FetchEvents {
    fn hear(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// What the last failure of a queue means.
    fn judge(&self, error: RdError) -> NoRecord {
        if let RdError::PartitionEOF(_) = error {
            return NoRecord::End;
        }
        let undecompressed = self.undecompressed.lock().unwrap_or_else(PoisonError::into_inner).take();
        undecompressed.map_or(NoRecord::Failed(error), NoRecord::Undecompressed)
    }
}

impl ClientContext for FetchEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.hear();
        if let Some(topic) = self.ids.hear(text) {
            tracing::warn!(topic, "topic ID changed: the topic was deleted and re-created");
        }
        client::log(level, facility, text);
    }

    fn error(&self, error: RdError, reason: &str) {
        self.hear();
        let undecompressed = Undecompressed::parse(reason);
        if undecompressed.is_none() {
            client::report(&error, reason);
        }
        *self.undecompressed.lock().unwrap_or_else(PoisonError::into_inner) = undecompressed;
    }

    #[expect(clippy::iter_over_hash_type, reason = "each partition is reported on its own; the order does not matter")]
    fn stats(&self, statistics: Statistics) {
        self.hear();
        // Each broker has something to fetch at any time, and is asked ten times a second.
        let connected = statistics.brokers.values().filter(|broker| broker.state == "UP");
        let idle = connected.filter_map(|broker| Some((broker.nodeid, u64::try_from(broker.rxidle).ok()?)));
        let heard: BTreeMap<i32, Duration> = idle.map(|(id, idle)| (id, Duration::from_micros(idle))).collect();
        for topic in statistics.topics.into_values() {
            for (partition, p) in &topic.partitions {
                if *partition >= 0 && p.desired {
                    let end = Some(p.hi_offset).filter(|end| *end >= 0);
                    let open = Some(p.ls_offset).filter(|stable| (0..p.hi_offset).contains(stable));
                    let seen = FetchView { end, open, heard: heard.get(&p.broker).copied(), fetched: p.fetchq_size };
                    (self.on_seen)(&topic.topic, *partition, seen);
                }
            }
        }
    }
}

impl ConsumerContext for FetchEvents {}

// === impl Fetcher ===

impl Fetcher {
    /// A consumer for the calling thread, which is woken when a queue gets its first record.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(kafka: &Kafka, buffer_bytes: usize, on_seen: OnSeen) -> Result<Self, KafkaError> {
        let mut config = topic_ids::told(client::reader(kafka, buffer_bytes));
        // Statistics report how far partitions reach.
        config.set("statistics.interval.ms", TELL_EVERY.as_millis().to_string());
        let context = FetchEvents {
            on_seen,
            ids: TopicIds::default(),
            news: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            undecompressed: Mutex::default(),
        };
        let mut consumer: BaseConsumer<FetchEvents> =
            BaseConsumer::from_config_and_context(&config, context).map_err(|e| KafkaError::client("consumer", e))?;
        let context = Arc::clone(consumer.context());
        // librdkafka calls this before it acts on its own reports.
        consumer.set_nonempty_callback(move || context.news.store(true, Ordering::Release));
        let memory = client::memory_of(buffer_bytes);
        Ok(Self { consumer: Fed::new(Arc::new(consumer), &config), thread: std::thread::current(), memory })
    }

    /// Starts fetching a partition at `offset`.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn open(&self, topic: &str, partition: i32, offset: i64) -> Result<Queue, KafkaError> {
        let what = || format!("start fetching {topic}[{partition}] at {offset}");
        let incarnation = self.consumer.context().ids.incarnation(topic);
        // The queue is split off before the partition is assigned: afterwards records could still reach the main queue.
        let mut records = self
            .consumer
            .split_partition_queue(topic, partition)
            .ok_or_else(|| KafkaError::Topic(format!("{}: no such partition", what())))?;
        let thread = self.thread.clone();
        records.set_nonempty_callback(move || thread.unpark());
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .and_then(|()| self.consumer.incremental_assign(&list))
            .map_err(|e| KafkaError::request(what(), e))?;
        Ok(Queue { records, consumer: Arc::clone(&self.consumer), topic: incarnation })
    }

    /// How many bytes of memory an open partition may take for what is fetched ahead.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Fetches an open partition again from `offset`. Its end is then reported again, by an answer that the broker gives
    /// after this; what had been fetched before is dropped.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn restart(&self, topic: &str, partition: i32, offset: i64) -> Result<(), KafkaError> {
        let what = || format!("restart fetching {topic}[{partition}] at {offset}");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .and_then(|()| self.consumer.incremental_unassign(&list))
            // The queue stays: it is split off permanently.
            .and_then(|()| self.consumer.incremental_assign(&list))
            .map_err(|e| KafkaError::request(what(), e))
    }

    /// Stops fetching a partition.
    pub fn close(&self, topic: &str, partition: i32, queue: Queue) {
        drop(queue);
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::debug!(%error, topic, partition, "cannot stop fetching");
        }
    }

    /// Serves librdkafka's events. Call it regularly.
    pub fn serve(&self) {
        listen(&self.consumer);
    }
}

// === impl Queue ===

impl Queue {
    /// The next record, or what there is instead; `None` when nothing has come yet.
    #[must_use]
    pub fn poll(&self) -> Option<Result<BorrowedMessage<'_>, NoRecord>> {
        let context = self.consumer.context();
        let polled = self.records.poll(Duration::ZERO).map(|polled| polled.map_err(|error| context.judge(error)));
        // The next record may belong to another topic; librdkafka has reported that before.
        if context.news.load(Ordering::Acquire) {
            listen(&self.consumer);
        }
        if self.topic.is_over() {
            return Some(Err(NoRecord::MadeAgain));
        }
        polled
    }
}

/// Handles all pending reports of librdkafka.
fn listen(consumer: &BaseConsumer<FetchEvents>) {
    let context = consumer.context();
    context.news.store(false, Ordering::Release);
    loop {
        let before = context.heard.load(Ordering::Relaxed);
        match consumer.poll(Duration::ZERO) {
            Some(Err(error)) => tracing::debug!(%error, "consumer error"),
            Some(Ok(_)) | None if context.heard.load(Ordering::Relaxed) != before => {}
            Some(Ok(_)) | None => return,
        }
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fetcher")
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_batch_that_cannot_be_decompressed_is_read_from_librdkafkas_words() {
        let reason = "Decompression (codec 0x4) of message at 17 of 11393 bytes failed: Local: Invalid compressed data";
        let found = Undecompressed { begin: 17, bytes: 11_393, reason: reason.to_owned() };
        assert_eq!(Undecompressed::parse(reason), Some(found));
        for other in
            ["", "Fetch from broker 1 failed", "Decompression (codec 0x4) of message at", "Decompression (codec 0"]
        {
            assert_eq!(Undecompressed::parse(other), None, "{other}");
        }
    }
}
