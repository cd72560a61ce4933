//! Which source topics there are: those that are named, and those that a regular expression matches now.

use rdkafka::metadata::MetadataTopic;

use super::{TIMEOUT, Topics};
use crate::config::SourceTopics;
use crate::worker::kafka::client::{self, KafkaError};

impl Topics {
    /// The source topics with their partitions: those that are named, in their order, `None` for one that does not exist or
    /// may not be described; then those that a regular expression matches, sorted.
    ///
    /// # Errors
    /// When no broker answers, or one refuses to tell.
    pub fn sources(&self) -> Result<Vec<(String, Option<i32>)>, KafkaError> {
        self.found(&SourceTopics::new(&self.kafka))
    }

    fn found(&self, wanted: &SourceTopics) -> Result<Vec<(String, Option<i32>)>, KafkaError> {
        let mut found = Vec::new();
        for topic in wanted.named() {
            found.push((topic.clone(), self.partitions(topic)?));
        }
        found.extend(self.matched_by(wanted)?.into_iter().map(|(topic, partitions)| (topic, Some(partitions))));
        Ok(found)
    }

    /// The topics that span tasks read, with their partitions, sorted. Where source topics are repartitioned, the topics to
    /// which they are; these are created.
    ///
    /// # Errors
    /// When no broker answers, one that is named does not exist, or there is none at all; when one to which a source topic
    /// is repartitioned cannot be created, or is unfit.
    pub fn all_sources(&self) -> Result<Vec<(String, i32)>, KafkaError> {
        let upstream = self.all_upstream()?;
        if !self.kafka.repartition {
            return Ok(upstream);
        }
        let mut all = upstream
            .iter()
            .map(|(topic, partitions)| self.ensure_by_trace(topic, *partitions))
            .collect::<Result<Vec<_>, _>>()?;
        all.sort();
        Ok(all)
    }

    /// The source topics with their partitions, sorted, also where they are repartitioned first.
    ///
    /// # Errors
    /// When no broker answers, one that is named does not exist, or there is none at all.
    pub fn all_upstream(&self) -> Result<Vec<(String, i32)>, KafkaError> {
        let there = |(topic, partitions): (String, Option<i32>)| match partitions {
            Some(partitions) => Ok((topic, partitions)),
            None => Err(KafkaError::Topic(format!(
                "topic {topic} does not exist, or this worker may not describe it; create it, grant Describe, or \
                 check kafka.topics"
            ))),
        };
        let upstream = self.found(&SourceTopics::upstream(&self.kafka))?;
        let mut all = upstream.into_iter().map(there).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() {
            return Err(KafkaError::Topic(format!(
                "no topic matches {} of kafka.topics; create one, grant Describe on those that should, or correct \
                 the expression",
                SourceTopics::new(&self.kafka).expressions().join(" or ")
            )));
        }
        all.sort();
        Ok(all)
    }

    /// The topics that a regular expression matches and that are not named, with their partitions, sorted.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn matched(&self) -> Result<Vec<(String, i32)>, KafkaError> {
        self.matched_by(&SourceTopics::upstream(&self.kafka))
    }

    fn matched_by(&self, wanted: &SourceTopics) -> Result<Vec<(String, i32)>, KafkaError> {
        if wanted.expressions().is_empty() {
            return Ok(Vec::new());
        }
        let all = self.admin.inner().fetch_metadata(None, TIMEOUT);
        let all = all.map_err(|e| client::unanswered(&self.kafka, "list the topics", e))?;
        let named = |topic: &str| wanted.named().iter().any(|named| named == topic);
        let is_source = |t: &&MetadataTopic| t.error().is_none() && !named(t.name()) && wanted.matches(t.name());
        let found = all.topics().iter().filter(is_source);
        // A topic that is being created may have no partition yet.
        let sized = found.map(|t| (t.name().to_owned(), i32::try_from(t.partitions().len()).unwrap_or(i32::MAX)));
        let mut sized: Vec<_> = sized.filter(|(_, partitions)| *partitions > 0).collect();
        sized.sort();
        Ok(sized)
    }
}
