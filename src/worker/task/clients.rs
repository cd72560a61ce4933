//! The clients that every part of a worker uses: Kafka, the receivers, and the telemetry.

use std::sync::Arc;

use super::memory::Memory;
use super::spread::Spread;
use crate::config::{Config, SourceTopics};
use crate::core::journal::{Identity, Notice, What};
use crate::worker::kafka::appender::Fate;
use crate::worker::kafka::{Appender, KafkaError, TopicNames};
use crate::worker::sender::Exporter;
use crate::worker::telemetry::Telemetry;

/// The clients of a worker, and what they were made from. Shared by all of its threads.
pub(crate) struct Clients {
    /// The settings of the worker, and of every tenant without overrides.
    pub(crate) config: Arc<Config>,
    pub(crate) names: TopicNames,
    /// Which topics are sources.
    pub(crate) topics: SourceTopics,
    pub(crate) telemetry: Telemetry,
    pub(crate) appender: Appender,
    pub(crate) exporter: Exporter,
    /// The memory that the worker holds.
    pub(crate) memory: Arc<Memory>,
    /// Whether each trace lies in one partition.
    pub(crate) spread: Spread,
}

// === impl Clients ===

impl Clients {
    pub(crate) fn new(config: Arc<Config>, telemetry: Telemetry, exporter: Exporter) -> Result<Self, KafkaError> {
        Ok(Self {
            names: TopicNames::new(&config.kafka.group),
            topics: SourceTopics::new(&config.kafka),
            appender: Appender::new(&config.kafka)?,
            spread: Spread::new(&telemetry),
            memory: Memory::new(config.worker.memory_limit, telemetry.clone()),
            config,
            telemetry,
            exporter,
        })
    }

    /// The owner of the journals of series tasks; with a topic, of those of span tasks.
    pub(crate) fn identity(&self) -> Identity {
        Identity { group: self.config.kafka.group.clone(), topic: None, topic_id: None }
    }

    /// Writes a notice of a shard into the journal of a source partition, if the topic is still a source. Nothing waits for it.
    pub(crate) fn notify_journal(
        &self,
        topic: &str,
        partition: i32,
        shard: i32,
        what: What,
        commit_number: u64,
    ) -> bool {
        if !self.topics.contains(topic) {
            // A topic that was removed from the configuration may have no journal any more.
            return false;
        }
        let record = Notice { shard: shard.unsigned_abs(), what, commit_number }.encode();
        let journal = self.names.journal(topic);
        let told = Box::new(move |fate: Fate| {
            if let Err(error) = fate {
                tracing::debug!(partition, shard, ?what, %error, "a notice was not stored; another one will follow");
            }
        });
        self.appender.append(&journal, partition, &record, told);
        true
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").field("group", &self.config.kafka.group).finish_non_exhaustive()
    }
}
