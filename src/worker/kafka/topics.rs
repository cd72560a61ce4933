//! The internal topics: their names, their creation, their check.
//!
//! For a group `g` and each source topic `t`: `g-t-journal` (one partition per partition of `t`; of a topic called `series` it
//! is `g-series.journal`), and for the group `g-deltas` and `g-series-journal` (one partition per shard), with the number of
//! the sharding after `spanmill reshard`. None of them may be compacted or expire by time: spanmill deletes what it no longer
//! needs itself.

mod by_trace;
mod create;
mod facts;
mod fit;
mod health;
mod names;
mod settings;
mod sharding;
mod sources;
mod trim;

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaResult;
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaErrorCode;

pub use self::facts::TopicFacts;
pub use self::fit::Risk;
use self::health::{Health, Request};
pub use self::names::TopicNames;
use super::client::{self, KafkaError};
use super::fed::Fed;
use crate::config::SourceTopics;
use crate::config::settings::Kafka;
use crate::worker::telemetry::Telemetry;

const TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of a describe request. Brokers that cannot describe topics may not even refuse to, and must not delay
/// the start of a worker for long.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Creates and checks topics.
pub struct Topics {
    admin: Fed<AdminClient<client::Heard>>,
    kafka: Kafka,
    names: TopicNames,
    replication: i32,
    telemetry: Option<Telemetry>,
    health: Health,
    /// How many copies the brokers give a new topic, once that is known.
    default_copies: OnceLock<i32>,
    /// The matched source topics that cannot be processed, and why not.
    left_out: Mutex<BTreeMap<String, String>>,
}

// === impl Topics ===

impl Topics {
    /// Connects the admin client.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(kafka: &Kafka) -> Result<Self, KafkaError> {
        let config = client::base(kafka, &[]);
        let admin = AdminClient::from_config_and_context(&config, client::Heard)
            .map_err(|e| KafkaError::client("admin client", e))?;
        let (names, replication) = (TopicNames::new(&kafka.group), kafka.replication);
        let (kafka, health, left_out) = (kafka.clone(), Health::default(), Mutex::default());
        Ok(Self {
            admin: Fed::new(admin, &config),
            kafka,
            names,
            replication,
            telemetry: None,
            health,
            default_copies: OnceLock::new(),
            left_out,
        })
    }

    /// The names of the group's topics.
    #[must_use]
    pub fn names(&self) -> &TopicNames {
        &self.names
    }

    /// The same with names that others share.
    #[must_use]
    pub fn named(self, names: &TopicNames) -> Self {
        Self { names: names.clone(), ..self }
    }

    /// Counts failures and risks in `telemetry`.
    #[must_use]
    pub fn watched(self, telemetry: &Telemetry) -> Self {
        Self { telemetry: Some(telemetry.clone()), ..self }
    }

    /// The number of partitions of a topic; `None` when it does not exist.
    ///
    /// # Errors
    /// When no broker answers, or one refuses the request.
    pub fn partitions(&self, topic: &str) -> Result<Option<i32>, KafkaError> {
        let metadata = self.look_up(topic)?;
        let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(found.partitions().len() as i32).filter(|&n| n > 0)),
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::LeaderNotAvailable,
            ) => Ok(None),
            Some(code @ RDKafkaErrorCode::TopicAuthorizationFailed) => {
                Err(KafkaError::Topic(format!("cannot look up topic {topic}: {code}; grant Describe and Read on it")))
            }
            Some(code) => Err(KafkaError::Topic(format!("cannot look up topic {topic}: {code}"))),
        }
    }

    fn look_up(&self, topic: &str) -> Result<Metadata, KafkaError> {
        self.metadata(topic, TIMEOUT).map_err(|e| client::unanswered(&self.kafka, format!("look up topic {topic}"), e))
    }

    fn metadata(&self, topic: &str, timeout: Duration) -> KafkaResult<Metadata> {
        self.admin.inner().fetch_metadata(Some(topic), timeout)
    }

    /// Ensures that the internal topics exist and are fit for use. `sources` are the source topics with their
    /// partition counts; `between` is called after each, since there may be hundreds. Returns those whose journals could
    /// not be made or extended, with the partitions that these have: the rest cannot be worked on until that has been
    /// retried.
    ///
    /// # Errors
    /// When a topic cannot be created, or exists with properties under which data would be lost. The journal of a source
    /// topic that only a regular expression matches is no error: who creates topics must not decide whether workers run.
    pub fn ensure(
        &self,
        sources: &[(String, i32)],
        shards: u32,
        between: &mut dyn FnMut(),
    ) -> Result<BTreeMap<String, i32>, KafkaError> {
        let mut short = BTreeMap::new();
        for (source, partitions) in sources {
            match self.ensure_journal(source, *partitions) {
                Ok(found) if found >= *partitions => {}
                Ok(found) => drop(short.insert(source.clone(), found)),
                Err(error) => {
                    self.leave_out(source, error)?;
                    short.insert(source.clone(), 0);
                }
            }
            between();
        }
        if short.is_empty() && self.health.works(Request::CreatePartitions) {
            tracing::info!("the journals have as many partitions as their source topics again");
        }
        self.ensure_one(&self.names.deltas(), shards as i32)?;
        self.ensure_one(&self.names.series_journal(), shards as i32)?;
        let there = sources.iter().filter(|(source, _)| short.get(source) != Some(&0));
        let journals: Vec<_> = there.map(|(source, _)| self.names.journal(source)).collect();
        self.health.to_check(&journals);
        let by_trace: Vec<_> = sources.iter().map(|(t, _)| t.clone()).filter(|t| self.is_by_trace(t)).collect();
        self.health.to_check(&by_trace);
        self.health.to_check(&[self.names.deltas(), self.names.series_journal()]);
        for (journal, error) in self.check_due()? {
            let source = sources.iter().find(|(source, _)| self.names.journal(source) == journal);
            let Some((source, _)) = source else { return Err(error) };
            self.leave_out(source, error)?;
            short.insert(source.clone(), 0);
        }
        self.take_in(sources, &short);
        Ok(short)
    }

    /// Ensures that a source topic has a journal; returns how many partitions that has.
    fn ensure_journal(&self, source: &str, partitions: i32) -> Result<i32, KafkaError> {
        let journal = self.names.journal(source);
        match self.partitions(&journal)? {
            Some(found) if found >= partitions || self.grow(&journal, found, partitions)? => Ok(partitions),
            Some(found) => Ok(found),
            None => {
                self.is_not_repartitioned(source)?;
                self.create(&journal, partitions).map(|()| partitions)
            }
        }
    }

    /// Skips a source topic that cannot be processed, unless it is one that the configuration names.
    fn leave_out(&self, source: &str, error: KafkaError) -> Result<(), KafkaError> {
        let is_named = SourceTopics::new(&self.kafka).named().iter().any(|named| named == source);
        // Without an answer of the brokers, nothing is known of any topic.
        if is_named || !matches!(error, KafkaError::Topic(_)) {
            return Err(error);
        }
        let text = error.to_string();
        let mut left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        if left_out.insert(source.to_owned(), text.clone()).as_ref() != Some(&text) {
            tracing::error!(
                topic = source,
                error = text,
                "a topic that matches kafka.topics cannot be processed, skipping it; retrying. Exclude it by the \
                 expression if that is right"
            );
        }
        self.show_left_out(&left_out);
        Ok(())
    }

    /// Why a source topic is skipped, if it is.
    pub fn why_left_out(&self, source: &str) -> Option<String> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    /// Of these `sources`, all but those of which `short` has no partition can be processed. The others are gone.
    fn take_in(&self, sources: &[(String, i32)], short: &BTreeMap<String, i32>) {
        let mut left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        left_out.retain(|source, _| {
            let exists = sources.iter().any(|(s, _)| s == source);
            let stays = exists && short.get(source) == Some(&0);
            if exists && !stays {
                tracing::info!(topic = source, "the topic can be processed now");
            }
            stays
        });
        self.show_left_out(&left_out);
    }

    fn show_left_out(&self, left_out: &BTreeMap<String, String>) {
        self.telemetry.iter().for_each(|telemetry| telemetry.topics_skipped(left_out.len()));
    }

    /// Ensures that the topic of a replay's plan exists.
    ///
    /// # Errors
    /// As [`Topics::ensure`].
    pub fn ensure_plan(&self) -> Result<(), KafkaError> {
        let plan = self.names.plan();
        self.ensure_one(&plan, 1)?;
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
                    "cannot delete topic {topic}: {code}; grant the right to, or delete it manually"
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
                "cannot delete group {group}: {code}; grant the right to, or delete it manually"
            ))),
        }
    }
}

/// Whether a right is missing.
fn is_denied(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed)
}

/// Whether the brokers do not support the request: the embedded brokers support few.
fn cannot(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnsupportedVersion | RDKafkaErrorCode::UnsupportedFeature)
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("names", &self.names).finish_non_exhaustive()
    }
}
