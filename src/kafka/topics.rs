//! The internal topics: their names, their creation, their check.
//!
//! For a group `g` and each source topic `t`: `g-t-journal` (one partition per partition of `t`), and for the group
//! `g-deltas` and `g-series-journal` (one partition per shard). None of them may be compacted or expire by time: spanmill
//! deletes what it no longer needs itself.

use std::time::Duration;

use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, KafkaError};
use super::members::Partition;
use crate::config::settings::Kafka;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Of the internal topics. Deleted records give their space back by whole segments only, and the brokers' default is 1 GiB
/// for each partition.
const SEGMENT_BYTES: &str = "67108864";
/// Brokers that cannot describe topics may not even refuse to: a worker's start should not wait long for them.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The names of the internal topics of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicNames {
    group: String,
}

/// Creates and checks topics.
pub struct Topics {
    admin: AdminClient<DefaultClientContext>,
    names: TopicNames,
    replication: i32,
}

// === impl TopicNames ===

impl TopicNames {
    /// The names of a group.
    #[must_use]
    pub fn new(group: &str) -> Self {
        Self { group: group.to_owned() }
    }

    /// The journal of the span tasks of a source topic.
    #[must_use]
    pub fn journal(&self, source: &str) -> String {
        format!("{}-{source}-journal", self.group)
    }

    /// The deltas topic.
    #[must_use]
    pub fn deltas(&self) -> String {
        format!("{}-deltas", self.group)
    }

    /// The group that shares out the shards. The assignor balances the partitions of a group by their number alone: in one
    /// group a worker could be given all the light shards and another all the heavy source partitions.
    #[must_use]
    pub fn shards_group(&self) -> String {
        format!("{}-shards", self.group)
    }

    /// The plan of a replay.
    #[must_use]
    pub fn plan(&self) -> String {
        format!("{}-plan", self.group)
    }

    /// The journal of the series tasks.
    #[must_use]
    pub fn series_journal(&self) -> String {
        format!("{}-series-journal", self.group)
    }
}

// === impl Topics ===

impl Topics {
    /// Connects the admin client.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(kafka: &Kafka) -> Result<Self, KafkaError> {
        let admin = client::base(kafka, &[]).create().map_err(|e| KafkaError::client("admin client", e))?;
        Ok(Self { admin, names: TopicNames::new(&kafka.group), replication: kafka.replication })
    }

    /// The number of partitions of a topic; `None` when it does not exist.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn partitions(&self, topic: &str) -> Result<Option<i32>, KafkaError> {
        let metadata = self
            .admin
            .inner()
            .fetch_metadata(Some(topic), TIMEOUT)
            .map_err(|e| KafkaError::request(format!("look up topic {topic}"), e))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
        Ok(found.map(|t| t.partitions().len() as i32).filter(|&n| n > 0))
    }

    /// The offset after the last record of a partition.
    ///
    /// # Errors
    /// When no broker answers within a second.
    pub fn end(&self, topic: &str, partition: i32) -> Result<i64, KafkaError> {
        let bounds = self.admin.inner().fetch_watermarks(topic, partition, Duration::from_secs(1));
        bounds
            .map(|(_, end)| end)
            .map_err(|e| KafkaError::request(format!("look up the end of {topic}[{partition}]"), e))
    }

    /// Makes sure that the internal topics exist and are fit for use. `sources` are the source topics with their
    /// partition counts.
    ///
    /// # Errors
    /// When a topic cannot be created, or exists with properties under which data would be lost.
    pub fn ensure(&self, sources: &[(String, i32)], shards: u32) -> Result<(), KafkaError> {
        for (source, partitions) in sources {
            self.ensure_one(&self.names.journal(source), *partitions, true)?;
        }
        self.ensure_one(&self.names.deltas(), shards as i32, false)?;
        self.ensure_one(&self.names.series_journal(), shards as i32, false)?;
        let journals = sources.iter().map(|(source, _)| self.names.journal(source));
        self.check(&journals.chain([self.names.deltas(), self.names.series_journal()]).collect::<Vec<_>>())
    }

    /// Makes sure that the topic of a replay's plan exists.
    ///
    /// # Errors
    /// As [`Topics::ensure`].
    pub fn ensure_plan(&self) -> Result<(), KafkaError> {
        let plan = self.names.plan();
        self.ensure_one(&plan, 1, false)?;
        self.check(&[plan])
    }

    /// Deletes those of the topics that exist; returns their names.
    ///
    /// # Errors
    /// When no broker answers, or one refuses.
    pub fn delete(&self, topics: &[String]) -> Result<Vec<String>, KafkaError> {
        let mut deleted = Vec::new();
        for topic in topics {
            if self.partitions(topic)?.is_none() {
                continue;
            }
            let results = block_on(self.admin.delete_topics(&[topic], &options()))
                .map_err(|e| KafkaError::request(format!("delete topic {topic}"), e))?;
            if let Some((_, code)) = results.into_iter().find_map(Result::err) {
                return Err(KafkaError::Topic(format!(
                    "cannot delete topic {topic}: {code}; grant the right to, or delete it by hand"
                )));
            }
            deleted.push(topic.clone());
        }
        Ok(deleted)
    }

    /// Deletes those of the consumer groups that exist, with the offsets that they have committed.
    ///
    /// # Errors
    /// When no broker answers, or one refuses: a group that has members cannot be deleted.
    pub fn delete_groups(&self, groups: &[String]) -> Result<(), KafkaError> {
        let names: Vec<&str> = groups.iter().map(String::as_str).collect();
        let results = block_on(self.admin.delete_groups(&names, &options()))
            .map_err(|e| KafkaError::request(format!("delete the groups {}", names.join(", ")), e))?;
        let refused =
            results.into_iter().filter_map(Result::err).find(|(_, code)| *code != RDKafkaErrorCode::GroupIdNotFound);
        match refused {
            None => Ok(()),
            Some((group, RDKafkaErrorCode::NonEmptyGroup)) => {
                Err(KafkaError::Topic(format!("group {group} has members: stop its workers first")))
            }
            Some((group, code)) => Err(KafkaError::Topic(format!(
                "cannot delete group {group}: {code}; grant the right to, or delete it by hand"
            ))),
        }
    }

    /// Makes sure that the topic of dead letters exists. It is nobody's truth: how long it keeps them is the broker's
    /// default, or whatever it was created with.
    ///
    /// # Errors
    /// When it does not exist and cannot be created.
    pub fn ensure_dead_letters(&self, topic: &str) -> Result<(), KafkaError> {
        if self.partitions(topic)?.is_some() {
            return Ok(());
        }
        let new = NewTopic::new(topic, 1, TopicReplication::Fixed(self.replication));
        let results = block_on(self.admin.create_topics([&new], &options()))
            .map_err(|e| KafkaError::request(format!("create topic {topic}"), e))?;
        match results.into_iter().find_map(Result::err) {
            Some((_, code)) if code != RDKafkaErrorCode::TopicAlreadyExists => {
                Err(KafkaError::Topic(format!("cannot create topic {topic}: {code}; create it by hand")))
            }
            _ => Ok(()),
        }
    }

    fn ensure_one(&self, topic: &str, wanted: i32, may_grow: bool) -> Result<(), KafkaError> {
        let Some(found) = self.partitions(topic)? else {
            return self.create(topic, wanted);
        };
        if found < wanted && may_grow {
            tracing::info!(topic, from = found, to = wanted, "the source grew: growing its journal");
            return self.grow(topic, wanted);
        }
        if found != wanted && !(may_grow && found > wanted) {
            return Err(KafkaError::Topic(format!(
                "topic {topic} has {found} partitions, kafka.shards says {wanted}; the number of shards is fixed for the \
                 life of a group: set kafka.shards to {found}, or use another kafka.group"
            )));
        }
        Ok(())
    }

    fn create(&self, topic: &str, partitions: i32) -> Result<(), KafkaError> {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(self.replication))
            .set("cleanup.policy", "delete")
            .set("retention.ms", "-1")
            .set("retention.bytes", "-1")
            .set("segment.bytes", SEGMENT_BYTES);
        let results = block_on(self.admin.create_topics([&new], &options()))
            .map_err(|e| KafkaError::request(format!("create topic {topic}"), e))?;
        for result in results {
            match result {
                Ok(_) => tracing::info!(topic, partitions, "created an internal topic"),
                // Another worker was faster.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => {
                    return Err(KafkaError::Topic(format!(
                        "cannot create topic {topic} with {partitions} partitions: {code}; grant the right to create \
                         topics, or create it by hand with cleanup.policy=delete, retention.ms=-1, retention.bytes=-1"
                    )));
                }
            }
        }
        self.wait_until_visible(topic)
    }

    /// A created topic takes a moment until every broker knows it.
    fn wait_until_visible(&self, topic: &str) -> Result<(), KafkaError> {
        // With hundreds of partitions a busy broker has taken more than ten seconds.
        for _ in 0..600 {
            if self.partitions(topic)?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(KafkaError::Timeout { what: format!("wait for topic {topic} to appear"), seconds: 60 })
    }

    fn grow(&self, topic: &str, partitions: i32) -> Result<(), KafkaError> {
        let grown = NewPartitions::new(topic, partitions as usize);
        block_on(self.admin.create_partitions([&grown], &options()))
            .map_err(|e| KafkaError::request(format!("grow topic {topic}"), e))?;
        Ok(())
    }

    /// Refuses topics that would lose what spanmill still needs. Brokers that cannot describe topics are trusted.
    fn check(&self, topics: &[String]) -> Result<(), KafkaError> {
        let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(DESCRIBE_TIMEOUT));
        let described = block_on(self.admin.describe_configs(&resources, &options)).unwrap_or_else(|error| {
            tracing::debug!(%error, "the broker does not describe topics; their retention is not checked");
            Vec::new()
        });
        topics.iter().zip(described).try_for_each(|(topic, found)| match found {
            Ok(resource) => check_one(topic, &resource),
            Err(error) => {
                tracing::debug!(topic, %error, "not described; its retention is not checked");
                Ok(())
            }
        })
    }

    /// Deletes the records below these offsets, in one request. Best effort: brokers that cannot are left alone.
    pub fn trim(&self, below: &[(Partition, i64)]) {
        let mut list = TopicPartitionList::new();
        for (p, offset) in below {
            if let Err(error) = list.add_partition_offset(&p.topic, p.partition, Offset::Offset(*offset)) {
                tracing::debug!(?p, offset, %error, "not trimmed");
            }
        }
        if list.count() == 0 {
            return;
        }
        match block_on(self.admin.delete_records(&list, &options())) {
            Ok(done) => match done.elements().iter().find_map(|e| e.error().err()) {
                None => tracing::debug!(partitions = done.count(), "trimmed"),
                Some(error) => tracing::debug!(%error, "not all trimmed"),
            },
            Err(error) => tracing::debug!(%error, "not trimmed"),
        }
    }
}

fn check_one(topic: &str, resource: &ConfigResource) -> Result<(), KafkaError> {
    let value = |key| resource.get(key).and_then(|e| e.value.as_deref()).unwrap_or_default();
    if value("cleanup.policy").contains("compact") {
        return Err(KafkaError::Topic(format!(
            "topic {topic} is compacted, which destroys it; set cleanup.policy=delete"
        )));
    }
    for key in ["retention.ms", "retention.bytes"] {
        let limit = value(key);
        if !limit.is_empty() && limit != "-1" {
            return Err(KafkaError::Topic(format!(
                "topic {topic} has {key}={limit}, so the broker would delete what is still needed; set {key}=-1 \
                 (spanmill deletes old records itself)"
            )));
        }
    }
    Ok(())
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("names", &self.names).finish_non_exhaustive()
    }
}
