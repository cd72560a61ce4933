//! Topics that do not exist yet, or have too few partitions.

use std::time::Duration;

use futures_executor::block_on;
use rdkafka::admin::{AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::metadata::MetadataBroker;
use rdkafka::types::RDKafkaErrorCode;

use super::health::{Failing, Request};
use super::{DESCRIBE_TIMEOUT, KafkaError, Topics, fit, options};

/// Segment size of the internal topics. Deleted records free their space by whole segments only, and the brokers'
/// default is 1 GiB for each partition.
const SEGMENT_BYTES: &str = "67108864";

// === impl Topics ===

impl Topics {
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

    pub(super) fn ensure_one(&self, topic: &str, wanted: i32) -> Result<(), KafkaError> {
        match self.partitions(topic)? {
            None => self.create(topic, wanted),
            Some(found) if found != wanted => Err(KafkaError::Topic(format!(
                "topic {topic} has {found} partitions, but kafka.shards is {wanted}; set kafka.shards to \
                 {found}, or change the number of shards with `spanmill reshard`"
            ))),
            Some(_) => Ok(()),
        }
    }

    pub(super) fn create(&self, topic: &str, partitions: i32) -> Result<(), KafkaError> {
        // The broker stamps every frame with its own time: workers compare their clocks with that.
        self.create_keeping(topic, partitions, &[], &[(fit::TIMESTAMPS, fit::OF_BROKER)])
    }

    /// Creates the topic to which a source topic is repartitioned: its records keep their time, whatever that is.
    pub(super) fn create_by_trace(&self, topic: &str, partitions: i32) -> Result<(), KafkaError> {
        let needed = [(fit::TIMESTAMPS, fit::OF_PRODUCER), ("max.message.bytes", fit::LARGEST)];
        // Brokers before 3.6 do not know it, and refuse no time.
        self.create_keeping(topic, partitions, &needed, &[("message.timestamp.after.max.ms", "9223372036854775807")])
    }

    /// Creates a topic of which nothing expires, with settings that it needs, and others that brokers may refuse.
    fn create_keeping(
        &self,
        topic: &str,
        partitions: i32,
        needed: &[(&str, &str)],
        wanted: &[(&str, &str)],
    ) -> Result<(), KafkaError> {
        let keeps = [
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("segment.bytes", SEGMENT_BYTES),
        ];
        let settings: Vec<_> = keeps.iter().chain(needed).copied().collect();
        let insync = fit::needs_two(self.known_copies()).then_some((fit::MIN_INSYNC, "2"));
        let all: Vec<_> = settings.iter().chain(wanted).copied().chain(insync).collect();
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
    pub(super) fn known_copies(&self) -> i32 {
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
    pub(super) fn grow(&self, topic: &str, found: i32, wanted: i32) -> Result<bool, KafkaError> {
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
            tracing::error!(
                topic,
                from = found,
                to = wanted,
                error = %refused,
                prefix = %format_args!("{}-", self.names.group),
                "cannot grow a topic. The new partitions of its source are not read until that succeeds; retrying. Grant \
                 Alter on topics with this prefix, or grow it manually with `kafka-topics --alter --topic TOPIC \
                 --partitions TO`"
            );
        }
        Ok(false)
    }
}

fn not_created(topic: &str, partitions: i32, code: RDKafkaErrorCode) -> KafkaError {
    KafkaError::Topic(format!(
        "cannot create topic {topic} with {partitions} partitions: {code}; grant the right to create topics, or \
         create it manually with cleanup.policy=delete, retention.ms=-1, retention.bytes=-1"
    ))
}
