//! The producer: idempotent, never drops, remembers failures.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{self, DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::{Compression, Header, ProduceError, Property, now};
use crate::config::settings::Kafka;
use crate::tools::loadgen::Record;
use crate::worker::kafka::client::{Heard, identify};
use crate::worker::kafka::fed::Fed;

/// Where records go, and how.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Target<'a> {
    pub(in crate::cli) brokers: &'a str,
    pub(in crate::cli) topic: &'a str,
    pub(in crate::cli) compression: Compression,
    pub(in crate::cli) properties: &'a [Property],
    /// Of every record.
    pub(in crate::cli) headers: &'a [Header],
}

/// A topic that accepts records.
pub(in crate::cli) struct Sink {
    config: ClientConfig,
    producer: Fed<ThreadedProducer<Reports>>,
    topic: String,
    /// Of every record.
    headers: Option<OwnedHeaders>,
}

/// The delivery reports of the records.
#[derive(Debug, Default)]
struct Reports {
    failed: AtomicU64,
    first: Mutex<Option<String>>,
}

/// How long a stopped command waits for the broker to accept the remaining records.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one request to the broker may take.
const QUESTION: Duration = Duration::from_secs(10);

// === impl Sink ===

impl Sink {
    /// A producer for a topic. Nothing is sent yet.
    pub(in crate::cli) fn new(target: Target<'_>) -> Result<Self, ProduceError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", target.brokers)
            .set("client.id", "spanmill-produce")
            // At this level librdkafka logs why a broker closes a connection.
            .set_log_level(RDKafkaLogLevel::Info)
            // Looking the topic up must not create it with the broker's default number of partitions.
            .set("allow.auto.create.topics", "false");
        let mut producer = config.clone();
        producer
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // With two requests in flight, the first can be refused by a broker that is about to lead, and the second
            // be accepted: then librdkafka reports both as delivered, and the first is lost. Or the second reaches a
            // new leader first: then it begins a new epoch, and may store records again that were stored and not yet
            // acknowledged.
            .set("max.in.flight.requests.per.connection", "1")
            .set("partitioner", "murmur2_random")
            .set("compression.type", target.compression.as_str())
            .set("linger.ms", "10")
            // The broker decides which record is too large, and the generator is faster than any broker.
            .set("message.max.bytes", "100000000")
            .set("queue.buffering.max.messages", "1000000")
            .set("queue.buffering.max.kbytes", "131072");
        let client = client(target)?;
        identify(&mut config, &client);
        identify(&mut producer, &client);
        let created = producer.create_with_context(Reports::default()).map_err(kafka("create a producer"))?;
        let producer = Fed::new(created, &producer);
        let headers = (!target.headers.is_empty()).then(|| owned(target.headers));
        Ok(Self { config, producer, topic: target.topic.to_owned(), headers })
    }

    /// Creates the topic if that is requested and it is absent. Returns its number of partitions.
    pub(super) fn prepare(&self, create: Option<u32>) -> Result<u32, ProduceError> {
        if let Some(partitions) = create {
            self.create(partitions)?;
        }
        let deadline = now() + QUESTION;
        loop {
            let metadata = self.producer.client().fetch_metadata(Some(&self.topic), QUESTION);
            let metadata = metadata.map_err(kafka("read the topic's metadata"))?;
            match metadata.topics().first().map_or(0, |t| t.partitions().len()) {
                // A topic that was just created needs a moment until every broker knows it.
                0 if create.is_some() && now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                0 => return Err(ProduceError::NoTopic(self.topic.clone())),
                partitions => return Ok(partitions as u32),
            }
        }
    }

    fn create(&self, partitions: u32) -> Result<(), ProduceError> {
        let doing = format!("create topic `{}`", self.topic);
        let admin = AdminClient::from_config_and_context(&self.config, Heard).map_err(kafka(&doing))?;
        let admin = Fed::new(admin, &self.config);
        let count = i32::try_from(partitions).unwrap_or(i32::MAX);
        let topic = NewTopic::new(&self.topic, count, TopicReplication::Fixed(-1));
        let options = AdminOptions::new().operation_timeout(Some(QUESTION)).request_timeout(Some(QUESTION));
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(ProduceError::Runtime)?;
        let results = runtime.block_on(admin.create_topics([&topic], &options)).map_err(kafka(&doing))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(kafka(&doing)(KafkaError::AdminOp(code))),
            }
        }
        Ok(())
    }

    /// Passes a record to the client; waits while its queue is full.
    pub(in crate::cli) fn send(&self, record: &Record, stop: &AtomicBool) -> Result<(), ProduceError> {
        let mut base =
            BaseRecord::to(&self.topic).key(&record.key[..]).payload(&record.value[..]).timestamp(record.timestamp);
        if let Some(partition) = record.partition {
            base = base.partition(partition.cast_signed());
        }
        if let Some(headers) = &self.headers {
            base = base.headers(headers.clone());
        }
        let mut patience = None;
        loop {
            let Err((error, back)) = self.producer.send(base) else { return Ok(()) };
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(kafka("send a record")(error));
            }
            if stop.load(Ordering::Relaxed) && *patience.get_or_insert_with(|| now() + PATIENCE) < now() {
                return Err(ProduceError::NotFlushed(self.in_flight()));
            }
            base = back;
            self.producer.poll(Duration::from_millis(10));
        }
    }

    /// Whether everything that was answered so far has been delivered, of `sent` records.
    pub(in crate::cli) fn check(&self, sent: u64) -> Result<(), ProduceError> {
        let reports = self.producer.context();
        match reports.failed.load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => Err(ProduceError::NotDelivered { failed, sent, first: reports.first() }),
        }
    }

    /// Waits until all `sent` records are acknowledged.
    pub(in crate::cli) fn drain(&self, stop: &AtomicBool, sent: u64) -> Result<(), ProduceError> {
        let mut patience = None;
        while let Err(error) = self.producer.flush(Duration::from_millis(500)) {
            if error != KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut) {
                return Err(kafka("flush")(error));
            }
            self.check(sent)?;
            if stop.load(Ordering::Relaxed) && *patience.get_or_insert_with(|| now() + PATIENCE) < now() {
                return Err(ProduceError::NotFlushed(self.in_flight()));
            }
        }
        self.check(sent)
    }

    fn in_flight(&self) -> u64 {
        u64::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }
}

/// What these properties are for a worker: where tokens come from is written in the same way.
fn client(target: Target<'_>) -> Result<Kafka, ProduceError> {
    let properties = target.properties.iter().map(|property| (property.key.clone(), property.value.clone())).collect();
    let kafka = Kafka { brokers: target.brokers.to_owned(), properties, ..Kafka::default() };
    match crate::config::tokens::problems(&kafka).into_iter().next() {
        Some((name, why)) => Err(ProduceError::Property(name, why)),
        None => Ok(kafka),
    }
}

fn owned(headers: &[Header]) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |all, Header { name, value }| {
        all.insert(message::Header { key: name, value: Some(value) })
    })
}

fn kafka(doing: &str) -> impl FnOnce(KafkaError) -> ProduceError {
    move |source| ProduceError::Kafka { doing: doing.to_owned(), source }
}

// === impl Reports ===

impl Reports {
    /// The first failure.
    fn first(&self) -> String {
        let first = self.first.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        first.clone().unwrap_or_default()
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        Heard.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Heard.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut first = self.first.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            first.get_or_insert_with(|| error.to_string());
            drop(first);
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
