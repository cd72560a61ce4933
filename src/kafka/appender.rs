//! Appending to journals and to the deltas topic.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError as RdError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use super::client::{self, KafkaError};
use crate::config::settings::Kafka;

/// How long the brokers may take to tell what they know of a topic.
const LOOK_UP: Duration = Duration::from_secs(10);

/// The fate of one appended record: its offset when the broker told it, or the error after which it may or may not be stored.
/// `Ok(None)` is no better than an error: librdkafka says so of a retry that the broker recognised, but also of whatever it
/// had to send again when a later record was stored meanwhile. That later record proves nothing when the broker has not heard
/// of this producer before: it takes any sequence number from a stranger, and what came before it is lost.
pub type Fate = Result<Option<i64>, RdError>;

/// Called once with the fate of a record, on the producer's own thread: it must only hand the news on.
pub type OnFate = Box<dyn FnOnce(Fate) + Send + Sync>;

/// Appends records to single partitions; one per worker, shared by its threads.
pub struct Appender {
    producer: ThreadedProducer<Context>,
}

struct Context;

// === impl Context ===

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::log(level, facility, text);
    }

    fn error(&self, error: RdError, reason: &str) {
        client::report(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<OnFate>;

    fn delivery(&self, result: &DeliveryResult<'_>, on_fate: Box<OnFate>) {
        on_fate(match result {
            Ok(message) => Ok(Some(message.offset()).filter(|&o| o >= 0)),
            Err((error, _)) => Err(error.clone()),
        });
    }
}

// === impl Appender ===

impl Appender {
    /// Connects the producer.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(kafka: &Kafka) -> Result<Self, KafkaError> {
        let producer = ThreadedProducer::from_config_and_context(&client::producer(kafka), Context)
            .map_err(|e| KafkaError::client("producer", e))?;
        Ok(Self { producer })
    }

    /// Appends one record; `on_fate` is called later, also when the local queue refuses the record for good.
    /// A full local queue is waited for: it empties at the broker's pace.
    pub fn append(&self, topic: &str, partition: i32, value: &[u8], on_fate: OnFate) {
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(on_fate)).partition(partition).payload(value);
        loop {
            let record_again = match self.producer.send::<(), [u8]>(record) {
                Ok(()) => return,
                Err((error, refused)) => {
                    if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                        (refused.delivery_opaque)(Err(error));
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

    /// Looks a topic up again: it may have got partitions that this producer does not know, and would not for minutes.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn look_up(&self, topic: &str) -> Result<(), KafkaError> {
        let found = self.producer.client().fetch_metadata(Some(topic), LOOK_UP);
        found.map(drop).map_err(|e| KafkaError::request(format!("look up topic {topic}"), e))
    }

    /// An error after which this producer can append nothing any more.
    #[must_use]
    pub fn fatal(&self) -> Option<String> {
        self.producer.client().fatal_error().map(|(_, text)| text)
    }
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Appender")
    }
}
