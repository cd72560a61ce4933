//! A producer of transactions that also move the offsets of a consumer group.
//!
//! The group fences: a transaction is committed with the membership under which it began, and the coordinator refuses one
//! of an earlier generation. So the ID of a producer need not be known to others, and is drawn at random. A transaction
//! that a dead process leaves open is aborted by the brokers after `TRANSACTION_MS`; until then it blocks the readers of
//! what lies behind it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::client::{self, KafkaError, TRANSACTION_MS};
use super::members::Partition;
use super::polled::PolledProducer;
use super::positions::Committed;
use crate::config::settings::Kafka;
use crate::core::model::Millis;

/// How long one request of a transaction may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a request that timed out is repeated: its outcome is open until it is answered.
const TRIES: u32 = 3;

/// A record to be produced.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Where it goes.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: &'a [u8],
    /// Its headers, if it has any.
    pub headers: Option<&'a OwnedHeaders>,
    /// Its time, in milliseconds since the epoch.
    pub timestamp: Millis,
}

/// Why a transaction was not committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotCommitted {
    /// It has been aborted, or must be; nothing of it counts, and the producer can be used further.
    #[error("{0}")]
    Abort(String),
    /// The outcome is unknown or the producer is of no use any more: it must be replaced, and positions must be read again.
    #[error(transparent)]
    Lost(#[from] KafkaError),
}

/// Produces transactions, one after the other.
pub struct Transactions {
    producer: PolledProducer<Deliveries>,
    deliveries: Arc<Counts>,
}

/// How the records of the present transaction fare.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    done: AtomicU64,
    /// Why a record was not stored.
    failed: Mutex<Option<String>>,
}

struct Deliveries(Arc<Counts>);

// === impl Deliveries ===

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::log(level, facility, text);
    }

    fn error(&self, error: RdError, reason: &str) {
        client::report(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, record)) = result {
            let why = format!("{}[{}]: {error}", rdkafka::Message::topic(record), rdkafka::Message::partition(record));
            self.0.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        }
        self.0.done.fetch_add(1, Ordering::Release);
    }
}

// === impl Transactions ===

impl Transactions {
    /// Connects a producer with an ID of its own.
    ///
    /// # Errors
    /// When a setting is wrong, no broker answers, or one refuses: the right to write with the ID may be missing.
    pub fn connect(kafka: &Kafka, id: u128) -> Result<Self, KafkaError> {
        let id = format!("{}-repartition-{id:032x}", kafka.group);
        let deliveries = Arc::new(Counts::default());
        let config = client::transactions(kafka, &id);
        let producer =
            PolledProducer::connect(&config, Deliveries(Arc::clone(&deliveries)), "producer of transactions")?;
        let what = || {
            format!(
                "begin transactions with the ID {id} (needs Write on transactional IDs with the prefix {}-)",
                kafka.group
            )
        };
        producer.init_transactions(TIMEOUT).map_err(|e| client::unanswered(kafka, what(), e))?;
        Ok(Self { producer, deliveries })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When the producer is of no use any more.
    pub fn begin(&self) -> Result<(), KafkaError> {
        self.deliveries.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.producer.begin_transaction().map_err(|e| KafkaError::request("begin a transaction", e))
    }

    /// Produces a record. While the queue is full, it waits.
    ///
    /// # Errors
    /// When it cannot be produced; then the transaction must be aborted.
    pub fn send(&self, record: Outgoing<'_>) -> Result<(), NotCommitted> {
        let mut out = BaseRecord::<[u8], [u8]>::to(record.topic).partition(record.partition).payload(record.value);
        // A time of zero would be that of this moment.
        (out.key, out.timestamp) = (record.key, Some(record.timestamp.max(1)));
        out.headers = record.headers.cloned();
        let began = Instant::now();
        loop {
            out = match self.producer.send(out) {
                Ok(()) => {
                    self.deliveries.sent.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Err((RdError::MessageProduction(RDKafkaErrorCode::QueueFull), out)) if began.elapsed() < TIMEOUT => out,
                Err((error, out)) => {
                    return Err(NotCommitted::Abort(format!("{}[{}]: {error}", out.topic, record.partition)));
                }
            };
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Commits the transaction, and with it the offsets of the group up to which it has read, with a note each.
    ///
    /// # Errors
    /// When it is not committed, or that is not known.
    pub fn commit(
        &self,
        offsets: &[(Partition, Committed)],
        member: &ConsumerGroupMetadata,
    ) -> Result<(), NotCommitted> {
        self.settle()?;
        let mut list = TopicPartitionList::new();
        for (p, Committed { offset, note }) in offsets {
            let mut element = list.add_partition(&p.topic, p.partition);
            element.set_metadata(note);
            let set = element.set_offset(Offset::Offset(*offset));
            set.map_err(|e| KafkaError::request("send offsets to a transaction", e))?;
        }
        self.tries("send offsets to a transaction", || {
            self.producer.send_offsets_to_transaction(&list, member, TIMEOUT)
        })?;
        self.tries("commit a transaction", || self.producer.commit_transaction(TIMEOUT))
    }

    /// Aborts the transaction.
    ///
    /// # Errors
    /// When the producer is of no use any more.
    pub fn abort(&self) -> Result<(), KafkaError> {
        match self.tries("abort a transaction", || self.producer.abort_transaction(TIMEOUT)) {
            Ok(()) => {}
            Err(NotCommitted::Lost(error)) => return Err(error),
            Err(NotCommitted::Abort(why)) => {
                return Err(KafkaError::Topic(format!("cannot abort a transaction: {why}")));
            }
        }
        self.wait().map(drop)
    }

    /// Waits until every record is stored.
    fn settle(&self) -> Result<(), NotCommitted> {
        self.wait()?;
        match self.deliveries.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(why) => Err(NotCommitted::Abort(why)),
            None => Ok(()),
        }
    }

    /// Waits until every record has a fate. `flush` of librdkafka waits a tenth of a second at a time.
    fn wait(&self) -> Result<(), KafkaError> {
        let began = Instant::now();
        while self.deliveries.done.load(Ordering::Acquire) < self.deliveries.sent.load(Ordering::Relaxed) {
            if began.elapsed() > TIMEOUT {
                let what = "produce the records of a transaction".to_owned();
                return Err(KafkaError::Timeout { what, seconds: TIMEOUT.as_secs() });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Repeats a request of a transaction until its outcome is known.
    fn tries(&self, what: &str, request: impl Fn() -> Result<(), RdError>) -> Result<(), NotCommitted> {
        let mut tried = 0;
        loop {
            tried += 1;
            match request() {
                Ok(()) => return Ok(()),
                Err(RdError::Transaction(error)) if error.txn_requires_abort() => {
                    return Err(NotCommitted::Abort(format!("{what}: {error}")));
                }
                Err(RdError::Transaction(error)) if error.is_retriable() && tried < TRIES => {}
                Err(error) => return Err(KafkaError::request(what, error).into()),
            }
        }
    }
}

impl std::fmt::Debug for Transactions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transactions").field("timeout", &TRANSACTION_MS).finish_non_exhaustive()
    }
}
