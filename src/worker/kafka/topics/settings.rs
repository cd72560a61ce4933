//! The settings of the internal topics, which must keep what is still needed.

use std::time::Instant;

use futures_executor::block_on;
use rdkafka::admin::{AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::error::KafkaError as RdError;
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaErrorCode;

use super::fit::{Described, Risk};
use super::health::{Failing, Request};
use super::{DESCRIBE_TIMEOUT, KafkaError, Topics, cannot, is_denied};

/// Why the settings of a topic are not known.
type Untold = (Option<RDKafkaErrorCode>, String);

// === impl Topics ===

impl Topics {
    /// Refuses topics that would lose what spanmill still needs, and warns of those that might. Brokers that do not
    /// report the settings are asked again later, by [`Topics::check_again`].
    pub(super) fn check(&self, topics: &[String]) -> Result<(), KafkaError> {
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
    pub(super) fn check_due(&self) -> Result<Vec<(String, KafkaError)>, KafkaError> {
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
        if !self.is_by_trace(topic) {
            self.health.found(topic, described.risks());
            return Ok(());
        }
        described.keeps_times()?;
        let risks = described.risks().into_iter().filter(|risk| *risk != Risk::NoBrokerTime);
        self.health.found(topic, risks.collect());
        Ok(())
    }

    /// Logs the result of a check of the settings.
    fn say_checked(&self, untold: Option<Untold>) {
        match untold {
            None if self.health.works(Request::DescribeConfigs) => {
                tracing::info!("checked the settings of the internal topics");
            }
            None => {}
            Some((Some(code), _)) if cannot(code) => self.say_unsupported(),
            Some((code, why)) => self.say_untold(code.is_some_and(is_denied), &why),
        }
        for (risk, topics) in self.health.risks_to_say() {
            tracing::warn!(%topics, %risk, "internal topics are at risk");
        }
        self.health.show(self.telemetry.as_ref());
    }

    fn say_unsupported(&self) {
        if self.health.denied(Request::DescribeConfigs) {
            tracing::warn!(
                prefix = %format_args!("{}-", self.names.group),
                "these brokers do not report the settings of topics. Check yourself that topics with this prefix do not \
                 expire and are not compacted"
            );
        }
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
        let topics = self.health.untold();
        if denied {
            tracing::warn!(
                error = why,
                %topics,
                prefix = %format_args!("{}-", self.names.group),
                "this worker may not describe the settings of topics. Whether they expire, are compacted or may lose \
                 acknowledged records is unknown. Grant DescribeConfigs on topics with this prefix. Retrying"
            );
        } else {
            tracing::warn!(
                error = why,
                %topics,
                "the brokers do not report the settings of topics. Whether they expire, are compacted or may lose \
                 acknowledged records is unknown. Retrying"
            );
        }
    }
}

fn untold(error: &RdError) -> Untold {
    (error.rdkafka_error_code(), error.to_string())
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    use super::*;
    use crate::config::settings::Kafka;

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
}
