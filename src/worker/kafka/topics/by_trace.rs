//! The topics to which source topics are repartitioned by trace ID. Span tasks read them in place of the source topics.
//!
//! A group either repartitions its source topics or does not: what it has counted of a source topic is in another journal,
//! and would be counted twice. So a worker refuses to start where the group has worked in the other way.

use super::{KafkaError, Topics, fit};

// === impl Topics ===

impl Topics {
    /// Ensures that the topic to which a source topic of so many partitions is repartitioned exists; returns it with its
    /// partitions, of which it keeps as many as it was created with: a trace stays in its partition.
    pub(super) fn ensure_by_trace(&self, source: &str, partitions: i32) -> Result<(String, i32), KafkaError> {
        let topic = self.names.by_trace(source);
        if let Some(found) = self.partitions(&topic)? {
            return Ok((topic, found));
        }
        let journal = self.names.journal(source);
        if self.partitions(&journal)?.is_some() {
            return Err(KafkaError::Topic(format!(
                "group {} has read topic {source} without kafka.repartition ({journal} exists), and would count its \
                 records twice; use another kafka.group, or set kafka.repartition to false",
                self.names.group
            )));
        }
        let wanted = i32::try_from(self.kafka.repartition_partitions).unwrap_or(i32::MAX);
        let wanted = if wanted == 0 { partitions } else { wanted };
        self.create_by_trace(&topic, wanted)?;
        // Another worker may have created it with another number.
        Ok((topic.clone(), self.partitions(&topic)?.unwrap_or(wanted)))
    }

    /// Ensures that the group does not repartition a source topic that is to be read as it is.
    pub(super) fn is_not_repartitioned(&self, source: &str) -> Result<(), KafkaError> {
        let topic = self.names.by_trace(source);
        if self.kafka.repartition || self.partitions(&topic)?.is_none() {
            return Ok(());
        }
        Err(KafkaError::Topic(format!(
            "group {} has read topic {source} with kafka.repartition ({topic} exists), and would count its records twice; \
             set kafka.repartition to true, or use another kafka.group",
            self.names.group
        )))
    }

    /// Whether a topic is one of these.
    pub(super) fn is_by_trace(&self, topic: &str) -> bool {
        self.kafka.repartitioned(topic).is_some()
    }
}

impl fit::Described<'_> {
    /// Checks that records keep their times.
    pub(super) fn keeps_times(&self) -> Result<(), KafkaError> {
        if self.settings.get(fit::TIMESTAMPS) != Some(&fit::OF_BROKER) {
            return Ok(());
        }
        Err(KafkaError::Topic(format!(
            "topic {} has {}={}, which replaces the times of records; set it to {}",
            self.topic,
            fit::TIMESTAMPS,
            fit::OF_BROKER,
            fit::OF_PRODUCER
        )))
    }
}
