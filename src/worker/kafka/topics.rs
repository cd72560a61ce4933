//! The internal topics: their names, their creation, their check.
//!
//! For a group `g` and each source topic `t`: `g-t-journal` (one partition per partition of `t`; of a topic called `series` it
//! is `g-series.journal`), and for the group
//! `g-deltas` and `g-series-journal` (one partition per shard). None of them may be compacted or expire by time: spanmill
//! deletes what it no longer needs itself.

mod facts;
mod fit;
mod health;
mod sources;

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError as RdError, KafkaResult};
use rdkafka::metadata::{Metadata, MetadataBroker};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

pub use self::facts::TopicFacts;
use self::fit::Described;
pub use self::fit::Risk;
use self::health::{Failing, Health, Request};
use super::client::{self, KafkaError};
use super::members::Partition;
use crate::config::settings::Kafka;
use crate::config::{SourceTopics, journal_topic};
use crate::worker::telemetry::Telemetry;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Segment size of the internal topics. Deleted records free their space by whole segments only, and the brokers'
/// default is 1 GiB for each partition.
const SEGMENT_BYTES: &str = "67108864";
/// The timeout of a describe request. Brokers that cannot describe topics may not even refuse to, and must not delay
/// the start of a worker for long.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the settings of a topic are not known.
type Untold = (Option<RDKafkaErrorCode>, String);

/// The names of the internal topics of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicNames {
    group: String,
}

/// Creates and checks topics.
pub struct Topics {
    admin: AdminClient<client::Heard>,
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
        journal_topic(&self.group, source)
    }

    /// The source topic of a journal of span tasks; `None` for every other topic.
    #[must_use]
    pub fn source<'a>(&self, journal: &'a str) -> Option<&'a str> {
        let rest = journal.strip_prefix(&self.group)?.strip_prefix('-')?;
        let source = rest.strip_suffix("-journal").or_else(|| rest.strip_suffix(".journal"));
        source.filter(|source| self.journal(source) == journal)
    }

    /// Whether an internal topic of the group is a journal: of span tasks, or of series tasks.
    #[must_use]
    pub fn is_journal(&self, topic: &str) -> bool {
        topic != self.deltas() && topic != self.plan()
    }

    /// The deltas topic.
    #[must_use]
    pub fn deltas(&self) -> String {
        format!("{}-deltas", self.group)
    }

    /// The group that assigns the shards. The assignor balances the partitions of a group by their number alone: in a
    /// single group, one worker could get all the light shards and another all the heavy source partitions.
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
        let admin = AdminClient::from_config_and_context(&client::base(kafka, &[]), client::Heard)
            .map_err(|e| KafkaError::client("admin client", e))?;
        let (names, replication) = (TopicNames::new(&kafka.group), kafka.replication);
        let (kafka, health, left_out) = (kafka.clone(), Health::default(), Mutex::default());
        Ok(Self {
            admin,
            kafka,
            names,
            replication,
            telemetry: None,
            health,
            default_copies: OnceLock::new(),
            left_out,
        })
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
        self.health.to_check(&[self.names.deltas(), self.names.series_journal()]);
        for (journal, error) in self.check_due()? {
            let source = sources.iter().find(|(source, _)| self.names.journal(source) == journal);
            let Some((source, _)) = source else { return Err(error) };
            self.leave_out(source, error)?;
            short.insert(source.clone(), 0);
        }
        self.take_in(|source| sources.iter().any(|(s, _)| s == source) && short.get(source) != Some(&0));
        Ok(short)
    }

    /// Ensures that a source topic has a journal; returns how many partitions that has.
    fn ensure_journal(&self, source: &str, partitions: i32) -> Result<i32, KafkaError> {
        let journal = self.names.journal(source);
        match self.partitions(&journal)? {
            Some(found) if found >= partitions || self.grow(&journal, found, partitions)? => Ok(partitions),
            Some(found) => Ok(found),
            None => self.create(&journal, partitions).map(|()| partitions),
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
        Ok(())
    }

    /// Why a source topic is skipped, if it is.
    pub fn why_left_out(&self, source: &str) -> Option<String> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    /// These source topics can be processed.
    fn take_in(&self, is_in: impl Fn(&str) -> bool) {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).retain(|source, _| {
            if is_in(source) {
                tracing::info!(topic = source, "the topic can be processed now");
            }
            !is_in(source)
        });
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

    /// Ensures that the topic of dead letters exists. No task depends on it: how long it keeps them is the broker's
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
                Err(KafkaError::Topic(format!("cannot create topic {topic}: {code}; create it manually")))
            }
            _ => Ok(()),
        }
    }

    fn ensure_one(&self, topic: &str, wanted: i32) -> Result<(), KafkaError> {
        match self.partitions(topic)? {
            None => self.create(topic, wanted),
            Some(found) if found != wanted => Err(KafkaError::Topic(format!(
                "topic {topic} has {found} partitions, but kafka.shards is {wanted}; the number of shards is fixed \
                 for the life of a group: set kafka.shards to {found}, or use another kafka.group"
            ))),
            Some(_) => Ok(()),
        }
    }

    fn create(&self, topic: &str, partitions: i32) -> Result<(), KafkaError> {
        let settings = [
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("segment.bytes", SEGMENT_BYTES),
        ];
        let insync = fit::needs_two(self.known_copies()).then_some((fit::MIN_INSYNC, "2"));
        // The broker stamps every frame with its own time: workers compare their clocks with that.
        let stamped = (fit::TIMESTAMPS, fit::OF_BROKER);
        let all: Vec<_> = settings.into_iter().chain([stamped]).chain(insync).collect();
        match self.create_with(topic, partitions, &all)? {
            None => {}
            // Some clouds do not let clients choose these settings. The check reports what they are.
            Some(RDKafkaErrorCode::InvalidConfig | RDKafkaErrorCode::PolicyViolation) => {
                if let Some(code) = self.create_with(topic, partitions, &settings)? {
                    return Err(not_created(topic, partitions, code));
                }
            }
            Some(code) => return Err(not_created(topic, partitions, code)),
        }
        self.wait_until_visible(topic)
    }

    /// Creates a topic with these settings; returns why that was refused. A topic that another worker has created
    /// meanwhile counts as created.
    fn create_with(
        &self,
        topic: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<Option<RDKafkaErrorCode>, KafkaError> {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(self.replication));
        let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
        let results = block_on(self.admin.create_topics([&new], &options()))
            .map_err(|e| KafkaError::request(format!("create topic {topic}"), e))?;
        let refused = results.into_iter().find_map(Result::err).map(|(_, code)| code);
        if refused.is_none() {
            tracing::info!(topic, partitions, ?settings, "created an internal topic");
        }
        Ok(refused.filter(|code| *code != RDKafkaErrorCode::TopicAlreadyExists))
    }

    /// Asks the brokers whether a topic could be created; it is not created.
    ///
    /// # Errors
    /// When it could not.
    pub fn could_create(&self, topic: &str, partitions: i32) -> Result<(), KafkaError> {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(self.replication));
        let results = block_on(self.admin.create_topics([&new], &options().validate_only(true)))
            .map_err(|e| KafkaError::request(format!("check whether topic {topic} can be created"), e))?;
        match results.into_iter().find_map(Result::err) {
            Some((_, code)) if code != RDKafkaErrorCode::TopicAlreadyExists => {
                Err(KafkaError::Topic(format!("topic {topic} does not exist and cannot be created: {code}")))
            }
            _ => Ok(()),
        }
    }

    /// As [`Topics::copies`], asked once.
    fn known_copies(&self) -> i32 {
        if let Some(known) = self.default_copies.get() {
            return *known;
        }
        let copies = self.copies();
        if copies > 0 {
            self.default_copies.get_or_init(|| copies);
        }
        copies
    }

    /// How many copies a new topic has; 0 if the brokers decide and do not report it.
    fn copies(&self) -> i32 {
        if self.replication > 0 {
            return self.replication;
        }
        let asked = self.admin.inner().fetch_metadata(None, DESCRIBE_TIMEOUT).ok();
        let Some(broker) = asked.and_then(|m| m.brokers().first().map(MetadataBroker::id)) else { return 0 };
        let options = AdminOptions::new().request_timeout(Some(DESCRIBE_TIMEOUT));
        let described = block_on(self.admin.describe_configs(&[ResourceSpecifier::Broker(broker)], &options));
        let resource = described.ok().and_then(|all| all.into_iter().next()?.ok());
        let value = resource.and_then(|r| r.get("default.replication.factor")?.value.as_deref()?.parse().ok());
        value.unwrap_or_default()
    }

    /// A created topic takes a while until every broker knows it.
    fn wait_until_visible(&self, topic: &str) -> Result<(), KafkaError> {
        // With hundreds of partitions, a busy broker took more than ten seconds.
        for _ in 0..600 {
            if self.partitions(topic)?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(KafkaError::Timeout { what: format!("wait for topic {topic} to appear"), seconds: 60 })
    }

    /// Gives a journal the partitions of its source; false if that is refused, which is logged.
    fn grow(&self, topic: &str, found: i32, wanted: i32) -> Result<bool, KafkaError> {
        tracing::debug!(topic, from = found, to = wanted, "source topic has new partitions");
        let grown = NewPartitions::new(topic, wanted as usize);
        let refused = match block_on(self.admin.create_partitions([&grown], &options())) {
            Ok(results) => results.into_iter().find_map(Result::err).map(|(_, code)| code.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let Some(refused) = refused else {
            tracing::info!(topic, from = found, to = wanted, "grew the journal with its source topic");
            return Ok(true);
        };
        // Another worker may have created them first.
        if self.partitions(topic)?.is_some_and(|n| n >= wanted) {
            return Ok(true);
        }
        if self.health.fails(Request::CreatePartitions, &self.telemetry) == Failing::Anew {
            let group = &self.names.group;
            tracing::error!(
                "cannot grow topic {topic} from {found} to {wanted} partitions: {refused}. The new partitions of its \
                 source are not read until that succeeds; retrying. Grant Alter on topics with the prefix {group}-, \
                 or grow it manually with `kafka-topics --alter --topic {topic} --partitions {wanted}`"
            );
        }
        Ok(false)
    }

    /// Refuses topics that would lose what spanmill still needs, and warns of those that might. Brokers that do not
    /// report the settings are asked again later, by [`Topics::check_again`].
    fn check(&self, topics: &[String]) -> Result<(), KafkaError> {
        self.health.to_check(topics);
        self.check_again()
    }

    /// Looks at the settings of topics that no broker has reported yet.
    ///
    /// # Errors
    /// When one of them would lose what spanmill still needs.
    pub fn check_again(&self) -> Result<(), KafkaError> {
        for (journal, error) in self.check_due()? {
            match self.names.source(&journal) {
                Some(source) => self.leave_out(source, error)?,
                None => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks at the settings of topics that no broker has reported yet; returns those that would lose what spanmill needs.
    fn check_due(&self) -> Result<Vec<(String, KafkaError)>, KafkaError> {
        let topics = self.health.due(Instant::now());
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(DESCRIBE_TIMEOUT));
        let mut unfit = Vec::new();
        let untold = match block_on(self.admin.describe_configs(&resources, &options)) {
            Ok(described) => self.check_all(&topics, described, &mut unfit),
            Err(error) => Some(untold(&error)),
        };
        self.say_checked(untold);
        Ok(unfit)
    }

    fn check_all(
        &self,
        topics: &[String],
        described: Vec<Result<ConfigResource, RDKafkaErrorCode>>,
        unfit: &mut Vec<(String, KafkaError)>,
    ) -> Option<Untold> {
        let mut last = None;
        for (topic, found) in topics.iter().zip(described) {
            match found {
                // The client library hides a missing right: the answer has no settings.
                Ok(resource) if resource.entries.is_empty() => {
                    let code = RDKafkaErrorCode::TopicAuthorizationFailed;
                    last = Some((Some(code), code.to_string()));
                }
                Ok(resource) => match self.metadata(topic, DESCRIBE_TIMEOUT) {
                    Ok(metadata) => {
                        if let Err(error) = self.checked(topic, &resource, &metadata) {
                            self.health.found(topic, Vec::new());
                            unfit.push((topic.clone(), error));
                        }
                    }
                    // The brokers do not answer any more, so requests for the other topics would only time out: they
                    // are retried as well.
                    Err(error) => return Some(untold(&error)),
                },
                Err(code) => last = Some((Some(code), code.to_string())),
            }
        }
        last
    }

    fn checked(&self, topic: &str, resource: &ConfigResource, metadata: &Metadata) -> Result<(), KafkaError> {
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        let copies = found.and_then(|t| t.partitions().iter().map(|p| p.replicas().len()).min()).unwrap_or_default();
        let described = Described::new(topic, (copies, metadata.brokers().len()), resource);
        described.keeps()?;
        self.health.found(topic, described.risks());
        Ok(())
    }

    /// Logs the result of a check of the settings.
    fn say_checked(&self, untold: Option<Untold>) {
        match untold {
            None if self.health.works(Request::DescribeConfigs) => {
                tracing::info!("checked the settings of the internal topics");
            }
            None => {}
            Some((Some(code), _)) if cannot(code) => {
                tracing::debug!("the brokers do not support describing topics; topic settings are not checked");
            }
            Some((code, why)) => self.say_untold(code.is_some_and(is_denied), &why),
        }
        for (risk, topics) in self.health.risks_to_say() {
            tracing::warn!("{topics}: {risk}");
        }
        self.health.show(self.telemetry.as_ref());
    }

    fn say_untold(&self, denied: bool, why: &str) {
        if !denied {
            // A request that times out is not repeated often.
            self.health.look_later(Instant::now());
        }
        let lasts = self.health.fails(Request::DescribeConfigs, &self.telemetry) == Failing::ForLong;
        let news = if denied { self.health.denied(Request::DescribeConfigs) } else { lasts };
        if !news {
            return;
        }
        let (group, topics) = (&self.names.group, self.health.untold());
        let (what, remedy) = if denied {
            let remedy = format!(". Grant DescribeConfigs on topics with the prefix {group}-");
            ("this worker may not describe", remedy)
        } else {
            ("the brokers do not report", String::new())
        };
        tracing::warn!(
            "{what} the settings of topics: {why}. Whether {topics} expire, are compacted or may lose acknowledged \
             records is unknown{remedy}. Retrying"
        );
    }

    /// Deletes the records below these offsets, in one request. What could not be deleted is returned, to be retried.
    #[must_use]
    pub fn trim(&self, below: Vec<(Partition, i64)>) -> Vec<(Partition, i64)> {
        let mut list = TopicPartitionList::new();
        for (p, offset) in &below {
            if let Err(error) = list.add_partition_offset(&p.topic, p.partition, Offset::Offset(*offset)) {
                tracing::debug!(?p, offset, %error, "cannot delete old records");
            }
        }
        if list.count() == 0 {
            return Vec::new();
        }
        let done = match block_on(self.admin.delete_records(&list, &options())) {
            Ok(done) => done,
            Err(error) => {
                let left = self.not_trimmed(error.rdkafka_error_code(), &error.to_string());
                return if left { below } else { Vec::new() };
            }
        };
        let failed = |e: &TopicPartitionListElem<'_>| {
            let error = e.error().err().filter(|error| !error.rdkafka_error_code().is_some_and(is_gone))?;
            Some((e.topic().to_owned(), e.partition(), error))
        };
        let failed: Vec<_> = done.elements().iter().filter_map(failed).collect();
        let Some((topic, partition, error)) = failed.first() else {
            tracing::debug!(partitions = done.count(), "deleted old records");
            if self.health.works(Request::DeleteRecords) {
                tracing::info!("deletion of old records succeeds again");
            }
            return Vec::new();
        };
        let why = format!("{topic}[{partition}]: {error}");
        if !self.not_trimmed(error.rdkafka_error_code(), &why) {
            return Vec::new();
        }
        let left = |(p, _): &(Partition, i64)| failed.iter().any(|(t, n, _)| (t, *n) == (&p.topic, p.partition));
        below.into_iter().filter(left).collect()
    }

    /// Logs that records could not be deleted, if that is for long or permanently; returns whether to retry.
    fn not_trimmed(&self, code: Option<RDKafkaErrorCode>, why: &str) -> bool {
        if code.is_some_and(|code| cannot(code) || is_gone(code)) {
            tracing::debug!(error = why, "no records to delete, or the brokers do not support deletion");
            return false;
        }
        let failing = self.health.fails(Request::DeleteRecords, &self.telemetry);
        let denied_anew = code.is_some_and(is_denied) && self.health.denied(Request::DeleteRecords);
        let group = &self.names.group;
        match failing {
            _ if denied_anew => tracing::warn!(
                "this worker may not delete records of internal topics, which grow without limit: {why}. Grant \
                 Delete on topics with the prefix {group}-. Retrying"
            ),
            // A leader that moves is normal.
            Failing::ForLong => tracing::warn!(
                "old records of internal topics cannot be deleted: {why}. The topics grow meanwhile; retrying"
            ),
            _ => tracing::debug!(error = why, "old records not deleted"),
        }
        true
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

/// Whether there is nothing to delete: a topic that was re-created does not reach so far, or does not exist yet. An
/// offset of the old topic would replace those of the new one, and delete records that are needed once the topic has
/// grown that far.
fn is_gone(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{OffsetOutOfRange, UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    // The client library has codes of its own for errors that it detects itself.
    matches!(code, OffsetOutOfRange | UnknownTopicOrPartition | UnknownTopic | UnknownPartition)
}

fn untold(error: &RdError) -> Untold {
    (error.rdkafka_error_code(), error.to_string())
}

fn not_created(topic: &str, partitions: i32, code: RDKafkaErrorCode) -> KafkaError {
    KafkaError::Topic(format!(
        "cannot create topic {topic} with {partitions} partitions: {code}; grant the right to create topics, or \
         create it manually with cleanup.policy=delete, retention.ms=-1, retention.bytes=-1"
    ))
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    use super::*;

    fn described(topic: &str) -> ConfigResource {
        let policy = ConfigEntry {
            name: "cleanup.policy".to_owned(),
            value: Some("delete".to_owned()),
            source: ConfigSource::Default,
            is_read_only: false,
            is_default: true,
            is_sensitive: false,
        };
        ConfigResource { specifier: OwnedResourceSpecifier::Topic(topic.to_owned()), entries: vec![policy] }
    }

    #[test]
    fn brokers_that_fall_silent_during_a_check_are_asked_again_and_end_nothing() {
        let kafka = Kafka { brokers: "127.0.0.1:1".to_owned(), ..Kafka::default() };
        let topics = Topics::new(&kafka).expect("a client");
        let names = ["a".to_owned(), "b".to_owned()];
        topics.health.to_check(&names);
        let mut unfit = Vec::new();
        let untold = topics.check_all(&names, names.iter().map(|topic| Ok(described(topic))).collect(), &mut unfit);
        assert!(untold.is_some() && unfit.is_empty());
        assert_eq!(topics.health.untold(), "a, b");
    }

    #[test]
    fn what_cannot_be_deleted_because_it_is_not_there_is_not_tried_again_and_is_no_failure() {
        let topics = Topics::new(&Kafka::default()).expect("a client");
        for code in [RDKafkaErrorCode::OffsetOutOfRange, RDKafkaErrorCode::UnknownTopicOrPartition] {
            assert!(!topics.not_trimmed(Some(code), "g-deltas[0]"), "{code}");
        }
        assert!(!topics.health.works(Request::DeleteRecords), "it has not failed");
        assert!(topics.not_trimmed(Some(RDKafkaErrorCode::NotLeaderForPartition), "g-deltas[0]"));
    }
}
