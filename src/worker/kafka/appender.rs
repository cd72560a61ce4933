//! Appending to journals and to the deltas topic.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as RdError;
use rdkafka::message::{Message, Timestamp};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use super::broker_clock::{BrokerClock, Now, wall_clock};
use super::client::{self, KafkaError};
use super::polled::PolledProducer;
use crate::config::settings::Kafka;
use crate::core::model::Millis;

/// How long the brokers may take to return the metadata of a topic.
const LOOK_UP: Duration = Duration::from_secs(10);

/// The fate of one appended record: its offset if the broker returned it, or the error after which it may or may not be
/// stored. `Ok(None)` is no better than an error: librdkafka returns it for a retry that the broker recognized, but
/// also for everything that it had to send again when a later record was stored meanwhile. That later record proves
/// nothing when the broker does not know this producer: it accepts any sequence number from an unknown producer, and
/// what came before it is lost.
pub type Fate = Result<Option<i64>, RdError>;

/// Called once with the fate of a record, on the producer's own thread: it must only pass it on.
pub type OnFate = Box<dyn FnOnce(Fate) + Send + Sync>;

/// Appends records to single partitions; one per worker, shared by its threads.
pub struct Appender {
    kafka: Kafka,
    producer: RwLock<Arc<PolledProducer<ProducerEvents>>>,
}

/// Receives the fates.
#[derive(Default)]
struct ProducerEvents {
    writes: Mutex<Writes>,
    clock: BrokerClock,
}

/// A topic and a partition of it.
type TopicPartition = (String, i32);

/// The appended records and their fates.
#[derive(Debug, Default)]
struct Writes {
    /// Numbers the records.
    next: u64,
    /// The records without a fate: where they go, and since when.
    waiting: BTreeMap<u64, (TopicPartition, Instant)>,
    /// Why the last append to a partition failed, and when that was. A success at another partition, with another
    /// leader, does not clear it.
    failures: BTreeMap<TopicPartition, (String, Instant)>,
}

/// A failure that does not recur within this time belongs to another task: the task that met it is gone. One that
/// persists recurs twice as often.
const FAILS_AGAIN: Duration = Duration::from_secs(90);

/// A record in flight.
struct Appended {
    number: u64,
    sent: Millis,
    on_fate: OnFate,
}

// === impl Writes ===

impl Writes {
    fn begin(&mut self, topic: &str, partition: i32, present: Instant) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, ((topic.to_owned(), partition), present));
        self.next
    }

    fn end(&mut self, number: u64, failure: Option<String>, present: Instant) {
        let Some((place, _)) = self.waiting.remove(&number) else { return };
        match failure {
            Some(why) => drop(self.failures.insert(place, (why, present))),
            None => drop(self.failures.remove(&place)),
        }
    }

    /// What keeps records from being stored, by topic: an error, or no answer for `patience`.
    fn troubles(&self, patience: Duration, present: Instant) -> BTreeMap<String, String> {
        let fresh = |at: &Instant| present.saturating_duration_since(*at) < FAILS_AGAIN;
        let failures = self.failures.iter().filter(|(_, (_, at))| fresh(at));
        let mut troubles: BTreeMap<String, String> = failures
            .map(|((topic, _), (why, _))| (topic.clone(), format!("{topic} cannot be written: {why}")))
            .collect();
        for ((topic, _), since) in self.waiting.values() {
            let waits = present.saturating_duration_since(*since);
            if waits >= patience {
                let text = || format!("an append to {topic} has not been acknowledged for {} s", waits.as_secs());
                troubles.entry(topic.clone()).or_insert_with(text);
            }
        }
        troubles
    }
}

// === impl ProducerEvents ===

impl ClientContext for ProducerEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::log(level, facility, text);
    }

    fn error(&self, error: RdError, reason: &str) {
        client::report(&error, reason);
    }
}

impl ProducerContext for ProducerEvents {
    type DeliveryOpaque = Box<Appended>;

    fn delivery(&self, result: &DeliveryResult<'_>, appended: Box<Appended>) {
        if let Ok(message) = result
            && let Timestamp::LogAppendTime(stored) = message.timestamp()
        {
            self.clock.learn(message.topic(), message.partition(), appended.sent, stored, Now::read());
        }
        self.tell(
            *appended,
            match result {
                Ok(message) => Ok(Some(message.offset()).filter(|&o| o >= 0)),
                Err((error, _)) => Err(error.clone()),
            },
        );
    }
}

impl ProducerEvents {
    fn tell(&self, Appended { number, on_fate, .. }: Appended, fate: Fate) {
        self.writes().end(number, fate.as_ref().err().map(ToString::to_string), Instant::now());
        on_fate(fate);
    }

    fn writes(&self) -> std::sync::MutexGuard<'_, Writes> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Appender ===

impl Appender {
    /// Connects the producer.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(kafka: &Kafka) -> Result<Self, KafkaError> {
        Ok(Self { kafka: kafka.clone(), producer: RwLock::new(connect(kafka)?) })
    }

    /// Replaces a producer that has met a [fatal](Self::fatal) error: the broker misses the sequence numbers of records
    /// that it has lost, and accepts no more from that producer. Appends in flight fail.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn renew(&self) -> Result<(), KafkaError> {
        let fresh = connect(&self.kafka)?;
        let old = std::mem::replace(&mut *self.producer.write().unwrap_or_else(PoisonError::into_inner), fresh);
        // Outside of the lock: what is in flight learns its fate.
        drop(old);
        Ok(())
    }

    fn producer(&self) -> Arc<PolledProducer<ProducerEvents>> {
        Arc::clone(&self.producer.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How far this machine's clock is ahead of the brokers', by the timestamps of acknowledgements.
    #[must_use]
    pub fn clock_ahead(&self, present: Now) -> Option<Millis> {
        self.producer().client().context().clock.ahead(present)
    }

    /// Appends one record; `on_fate` is called later, also when the local queue refuses the record permanently. Waits
    /// while the local queue is full: it empties at the broker's pace.
    pub fn append(&self, topic: &str, partition: i32, value: &[u8], on_fate: OnFate) {
        let producer = self.producer();
        let context = producer.client().context();
        let number = context.writes().begin(topic, partition, Instant::now());
        let appended = Appended { number, sent: wall_clock(), on_fate };
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(appended)).partition(partition).payload(value);
        loop {
            let record_again = match producer.send::<(), [u8]>(record) {
                Ok(()) => return,
                Err((error, refused)) => {
                    if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                        context.tell(*refused.delivery_opaque, Err(error));
                        return;
                    }
                    refused
                }
            };
            std::thread::sleep(Duration::from_millis(5));
            record = record_again;
        }
    }

    /// Appends one record and waits for its fate.
    ///
    /// # Errors
    /// When the fate is an error or unknown within `timeout`.
    pub fn append_and_wait(
        &self,
        topic: &str,
        partition: i32,
        value: &[u8],
        timeout: Duration,
    ) -> Result<Option<i64>, KafkaError> {
        let what = || format!("append to {topic}[{partition}]");
        let (tell, fate) = sync_channel(1);
        self.append(topic, partition, value, Box::new(move |f| drop(tell.try_send(f))));
        match fate.recv_timeout(timeout) {
            Ok(Ok(offset)) => Ok(offset),
            Ok(Err(source)) => Err(KafkaError::request(what(), source)),
            Err(_) => Err(KafkaError::Timeout { what: what(), seconds: timeout.as_secs() }),
        }
    }

    /// Refreshes the metadata of a topic: it may have partitions that this producer would learn of only minutes later.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn look_up(&self, topic: &str) -> Result<(), KafkaError> {
        let found = self.producer().client().fetch_metadata(Some(topic), LOOK_UP);
        found.map(drop).map_err(|e| KafkaError::request(format!("look up topic {topic}"), e))
    }

    /// What keeps records from being stored, by topic: the last one failed, or one has been waiting for `patience`.
    #[must_use]
    pub fn troubles(&self, patience: Duration) -> BTreeMap<String, String> {
        self.producer().client().context().writes().troubles(patience, Instant::now())
    }

    /// An error after which this producer cannot append any more.
    #[must_use]
    pub fn fatal(&self) -> Option<String> {
        self.producer().client().fatal_error().map(|(_, text)| text)
    }
}

fn connect(kafka: &Kafka) -> Result<Arc<PolledProducer<ProducerEvents>>, KafkaError> {
    PolledProducer::connect(&client::producer(kafka), ProducerEvents::default(), "producer").map(Arc::new)
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Appender")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_in_trouble_from_a_failure_or_a_long_wait_until_something_is_stored_in_it() {
        let (start, patience) = (Instant::now(), Duration::from_secs(5));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut writes = Writes::default();
        let [journal, deltas] = ["journal", "deltas"].map(|topic| writes.begin(topic, 0, start));
        assert!(writes.troubles(patience, at(4)).is_empty());
        let troubles = writes.troubles(patience, at(7));
        assert_eq!(troubles["journal"], "an append to journal has not been acknowledged for 7 s");
        assert_eq!(troubles.len(), 2);
        writes.end(journal, None, at(7));
        writes.end(deltas, Some("Topic authorization failed".to_owned()), at(7));
        let troubles = writes.troubles(patience, at(8));
        assert_eq!(troubles.values().collect::<Vec<_>>(), ["deltas cannot be written: Topic authorization failed"]);
        let again = writes.begin("deltas", 0, at(8));
        assert_eq!(writes.troubles(patience, at(9)).len(), 1);
        writes.end(again, None, at(9));
        assert!(writes.troubles(patience, at(9)).is_empty());
        // Another worker owns the task that met a failure by now.
        let last = writes.begin("deltas", 0, at(10));
        writes.end(last, Some("timed out".to_owned()), at(10));
        assert_eq!(writes.troubles(patience, at(99)).len(), 1);
        assert!(writes.troubles(patience, at(100)).is_empty());
    }

    #[test]
    fn what_one_partition_takes_does_not_hide_that_another_takes_nothing() {
        let (start, patience) = (Instant::now(), Duration::from_secs(5));
        let mut writes = Writes::default();
        let [bad, good] = [0, 1].map(|partition| writes.begin("deltas", partition, start));
        writes.end(bad, Some("timed out".to_owned()), start);
        writes.end(good, None, start);
        let troubles = writes.troubles(patience, start);
        assert_eq!(troubles.values().collect::<Vec<_>>(), ["deltas cannot be written: timed out"]);
    }
}
