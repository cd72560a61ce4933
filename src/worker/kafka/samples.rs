//! The producer of an endpoint that is a topic: records of OTLP metrics, each acknowledged by all replicas in sync.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext};
use tokio::sync::oneshot;

use super::client::{self, KafkaError};
use super::polled::PolledProducer;
use crate::config::settings::{Kafka, KafkaOutput};

/// A topic that samples go to.
pub struct SampleTopic {
    kafka: Kafka,
    topic: String,
    timeout: Duration,
    /// Connected with the first record.
    producer: Mutex<Option<PolledProducer<Events>>>,
}

/// Why a record is not stored.
#[derive(Debug)]
pub struct Refused {
    /// Whether the brokers take no record of this size.
    pub too_large: bool,
    /// The reason in full.
    pub why: String,
    /// What the operator can do.
    pub remedy: &'static str,
}

struct Events;

// === impl Events ===

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::log(level, facility, text);
    }

    fn error(&self, error: RdError, reason: &str) {
        client::report(&error, reason);
    }
}

impl ProducerContext for Events {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), RdError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, fate: Self::DeliveryOpaque) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        // A sender that waits no longer sends again.
        drop(fate.send(result));
    }
}

// === impl SampleTopic ===

impl SampleTopic {
    /// A topic and its brokers; a record that is not acknowledged within `timeout` is refused. Nothing is connected yet.
    ///
    /// # Errors
    /// When a setting of the client is wrong.
    pub fn new(output: &KafkaOutput, timeout: Duration) -> Result<Self, KafkaError> {
        let (brokers, properties) = (output.bootstrap_servers.clone(), output.properties.clone());
        let kafka = Kafka { brokers, properties, ..Kafka::default() };
        Ok(Self { kafka, topic: output.topic.clone(), timeout, producer: Mutex::default() })
    }

    /// Appends one record, whose key is the tenant.
    ///
    /// # Errors
    /// When it is not known to be stored.
    pub async fn send(&self, tenant: &str, value: &[u8]) -> Result<(), Refused> {
        let fate = self.enqueue(tenant, value).map_err(|error| self.refused(&error))?;
        match fate.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.refused(&KafkaError::client("producer of samples", error))),
            Err(_) => Err(Refused { too_large: false, why: "the producer has ended".to_owned(), remedy: "" }),
        }
    }

    fn enqueue(&self, tenant: &str, value: &[u8]) -> Result<oneshot::Receiver<Result<(), RdError>>, KafkaError> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let connected = match producer.take() {
            Some(connected) => connected,
            None => {
                let config = client::samples(&self.kafka, self.timeout);
                PolledProducer::connect(&config, Events, "producer of samples")?
            }
        };
        let (told, fate) = oneshot::channel();
        let record = BaseRecord::with_opaque_to(&self.topic, Box::new(told)).key(tenant).payload(value);
        let sent = connected.send(record).map_err(|(error, _)| KafkaError::client("producer of samples", error));
        *producer = Some(connected);
        sent.map(|()| fate)
    }

    fn refused(&self, error: &KafkaError) -> Refused {
        let code = error.code();
        let remedy = match code {
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                "create the topic of remote_write.kafka.topic"
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => "grant Write on the topic of remote_write.kafka.topic",
            _ => "check the brokers of remote_write.kafka.bootstrap_servers, or of kafka.brokers",
        };
        let too_large = code == Some(RDKafkaErrorCode::MessageSizeTooLarge);
        Refused { too_large, why: format!("topic {}: {error}", self.topic), remedy }
    }
}

impl std::fmt::Debug for SampleTopic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SampleTopic").field("topic", &self.topic).finish_non_exhaustive()
    }
}
