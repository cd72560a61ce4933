//! A producer with a thread that serves its events.
//!
//! `ThreadedProducer` of rdkafka does the same, but polls ten times a second, and each of its polls spins during the last
//! millisecond, because a shorter timeout rounds to zero: half a percent of a core for a producer that does nothing.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext, PurgeConfig};

use super::client::KafkaError;
use super::fed::Fed;

/// How long one poll may take. Events end the wait at once; a producer that was dropped is gone after this at the latest.
const POLL: Duration = Duration::from_secs(1);

/// A producer whose events a thread of its own serves until it is dropped. What is in flight then has failed.
pub(crate) struct PolledProducer<C: ProducerContext + 'static> {
    producer: Fed<Arc<BaseProducer<C>>>,
    dropped: Arc<AtomicBool>,
}

impl<C: ProducerContext + 'static> PolledProducer<C> {
    /// Connects the producer; `role` names it in errors.
    ///
    /// # Errors
    /// When a setting is wrong, or no thread can be started.
    pub(crate) fn connect(config: &ClientConfig, context: C, role: &'static str) -> Result<Self, KafkaError> {
        let producer =
            BaseProducer::from_config_and_context(config, context).map_err(|e| KafkaError::client(role, e))?;
        let (producer, dropped) = (Arc::new(producer), Arc::new(AtomicBool::new(false)));
        let (polled, over) = (Arc::clone(&producer), Arc::clone(&dropped));
        let thread = std::thread::Builder::new().name("producer".to_owned());
        let serve = move || {
            while !over.load(Ordering::Relaxed) {
                polled.poll(POLL);
            }
        };
        thread.spawn(serve).map_err(|source| KafkaError::Thread { role, source })?;
        Ok(Self { producer: Fed::new(producer, config), dropped })
    }
}

impl<C: ProducerContext + 'static> Deref for PolledProducer<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &BaseProducer<C> {
        &self.producer
    }
}

impl<C: ProducerContext + 'static> Drop for PolledProducer<C> {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
        // The thread learns of these fates at once, and drops the producer after its poll: nothing waits for that here.
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }
}
