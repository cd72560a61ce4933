//! What the brokers report of one topic, for those who judge it.

use std::collections::BTreeMap;

use futures_executor::block_on;
use rdkafka::admin::{AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::metadata::MetadataTopic;

use super::fit::{Described, Risk};
use super::{DESCRIBE_TIMEOUT, KafkaError, Topics};

/// A topic as the brokers report it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: usize,
    /// The replicas of the partition that has the fewest.
    pub copies: usize,
    /// The brokers of the cluster.
    pub brokers: usize,
    /// Partitions without a leader.
    pub offline: usize,
    /// Partitions of which not all replicas are in sync.
    pub lagging: usize,
    /// The values of its settings; `None`: the brokers do not report them.
    pub settings: Option<BTreeMap<String, String>>,
}

// === impl Topics ===

impl Topics {
    /// What the brokers report of a topic that exists.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn facts(&self, topic: &str) -> Result<TopicFacts, KafkaError> {
        let metadata = self.look_up(topic)?;
        let partitions =
            metadata.topics().iter().find(|t| t.name() == topic).map(MetadataTopic::partitions).unwrap_or_default();
        let options = AdminOptions::new().request_timeout(Some(DESCRIBE_TIMEOUT));
        let described = block_on(self.admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options));
        let resource = described.ok().and_then(|all| all.into_iter().next()?.ok());
        // The client library hides that a right is missing: there are no settings in the answer.
        let resource = resource.filter(|resource| !resource.entries.is_empty());
        Ok(TopicFacts {
            topic: topic.to_owned(),
            partitions: partitions.len(),
            copies: partitions.iter().map(|p| p.replicas().len()).min().unwrap_or_default(),
            brokers: metadata.brokers().len(),
            offline: partitions.iter().filter(|p| p.leader() < 0).count(),
            lagging: partitions.iter().filter(|p| p.isr().len() < p.replicas().len()).count(),
            settings: resource.map(values),
        })
    }
}

fn values(resource: ConfigResource) -> BTreeMap<String, String> {
    resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

// === impl TopicFacts ===

impl TopicFacts {
    /// The value of a setting; empty if it is not known.
    #[must_use]
    pub fn value(&self, key: &str) -> &str {
        self.settings.as_ref().and_then(|settings| settings.get(key)).map_or("", String::as_str)
    }

    /// Whether it keeps what is still needed, as an internal topic must.
    ///
    /// # Errors
    /// When it does not.
    pub fn keeps(&self) -> Result<(), KafkaError> {
        self.described().keeps()
    }

    /// What speaks against it as an internal topic.
    #[must_use]
    pub fn risks(&self) -> Vec<Risk> {
        self.described().risks()
    }

    fn described(&self) -> Described<'_> {
        let settings = self.settings.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        Described { topic: &self.topic, copies: self.copies, brokers: self.brokers, settings }
    }
}
