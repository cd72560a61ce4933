//! Copies of records that could not be read, for operators to inspect and to send again.
//!
//! Copying is best effort: the ledger counts every record that could not be read. So nothing waits for a copy, and a
//! topic that accepts none blocks nothing: the copies go through a producer of their own, and copies that do not fit
//! into its queue are counted.

use std::sync::atomic::{AtomicU64, Ordering};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as RdError;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::client::{self, KafkaError};
use super::polled::PolledProducer;
use crate::config::settings::Kafka;
use crate::worker::telemetry::Telemetry;

/// Appends copies to the dead-letter topic; one per worker, shared by its threads.
pub struct DeadLetters {
    producer: PolledProducer<DeadLetterEvents>,
    topic: String,
    group: String,
}

struct DeadLetterEvents {
    telemetry: Telemetry,
    failures: AtomicU64,
}

// === impl DeadLetterEvents ===

impl ClientContext for DeadLetterEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::log(level, facility, text);
    }

    fn error(&self, error: RdError, reason: &str) {
        client::report(&error, reason);
    }
}

impl ProducerContext for DeadLetterEvents {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => self.telemetry.dead_letter(true),
            Err((error, _)) => self.failed(error),
        }
    }
}

impl DeadLetterEvents {
    /// Counts every failure, and logs ever fewer of them: there can be as many as there are records.
    fn failed(&self, error: &RdError) {
        self.telemetry.dead_letter(false);
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures.is_power_of_two() {
            tracing::warn!(%error, attempt = failures, "dead letter not stored; check kafka.dead_letter_topic");
        }
    }
}

// === impl DeadLetters ===

impl DeadLetters {
    /// Connects the producer; `None` when the configuration asks for no dead letters.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(kafka: &Kafka, telemetry: Telemetry) -> Result<Option<Self>, KafkaError> {
        if kafka.dead_letter_topic.is_empty() {
            return Ok(None);
        }
        let context = DeadLetterEvents { telemetry, failures: AtomicU64::new(0) };
        let producer = PolledProducer::connect(&client::dead_letters(kafka), context, "producer of dead letters")?;
        Ok(Some(Self { producer, topic: kafka.dead_letter_topic.clone(), group: kafka.group.clone() }))
    }

    /// Copies a record with its key, value, headers and timestamp, and adds headers with the reason and the origin.
    pub fn copy(&self, message: &BorrowedMessage<'_>, reason: &str) {
        let place = [message.partition().to_string(), message.offset().to_string()];
        let ours = [
            ("spanmill-reason", reason),
            ("spanmill-topic", message.topic()),
            ("spanmill-partition", &place[0]),
            ("spanmill-offset", &place[1]),
            ("spanmill-group", &self.group),
        ];
        let mut headers = message.headers().map_or_else(OwnedHeaders::new, BorrowedHeaders::detach);
        for (key, value) in ours {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut copy = BaseRecord::<[u8], [u8]>::to(&self.topic).headers(headers);
        (copy.key, copy.payload, copy.timestamp) = (message.key(), message.payload(), message.timestamp().to_millis());
        if let Err((error, _)) = self.producer.send(copy) {
            self.producer.context().failed(&error);
        }
    }
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters").field("topic", &self.topic).finish_non_exhaustive()
    }
}
