//! Deletion of records that no restore needs any more.

use futures_executor::block_on;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::health::{Failing, Request};
use super::{Topics, cannot, is_denied, options};
use crate::worker::kafka::members::Partition;

// === impl Topics ===

impl Topics {
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
        if code.is_some_and(is_gone) {
            tracing::debug!(error = why, "no records to delete");
            return false;
        }
        let failing = self.health.fails(Request::DeleteRecords, &self.telemetry);
        let prefix = format_args!("{}-", self.names.group);
        if code.is_some_and(cannot) {
            if self.health.denied(Request::DeleteRecords) {
                tracing::warn!(
                    error = why,
                    %prefix,
                    "these brokers do not support the deletion of records, so the internal topics with this prefix grow \
                     without limit. Watch their size; a new kafka.group starts with empty ones"
                );
            }
            return false;
        }
        let denied_anew = code.is_some_and(is_denied) && self.health.denied(Request::DeleteRecords);
        match failing {
            _ if denied_anew => tracing::warn!(
                error = why,
                %prefix,
                "this worker may not delete records of internal topics, which grow without limit. Grant Delete on topics \
                 with this prefix. Retrying"
            ),
            // A leader that moves is normal.
            Failing::ForLong => tracing::warn!(
                error = why,
                "old records of internal topics cannot be deleted. The topics grow meanwhile; retrying"
            ),
            _ => tracing::debug!(error = why, "old records not deleted"),
        }
        true
    }
}

/// Whether there is nothing to delete: a topic that was re-created does not reach so far, or does not exist yet. An
/// offset of the old topic would replace those of the new one, and delete records that are needed once the topic has
/// grown that far.
fn is_gone(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{OffsetOutOfRange, UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    // The client library has codes of its own for errors that it detects itself.
    matches!(code, OffsetOutOfRange | UnknownTopicOrPartition | UnknownTopic | UnknownPartition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Kafka;

    #[test]
    fn what_cannot_be_deleted_because_it_is_not_there_is_not_tried_again_and_is_no_failure() {
        let topics = Topics::new(&Kafka::default()).expect("a client");
        for code in [RDKafkaErrorCode::OffsetOutOfRange, RDKafkaErrorCode::UnknownTopicOrPartition] {
            assert!(!topics.not_trimmed(Some(code), "g-deltas[0]"), "{code}");
        }
        assert!(!topics.health.works(Request::DeleteRecords), "it has not failed");
        assert!(topics.not_trimmed(Some(RDKafkaErrorCode::NotLeaderForPartition), "g-deltas[0]"));
    }

    #[test]
    fn brokers_that_cannot_delete_records_are_a_failure_that_is_not_tried_again() {
        let topics = Topics::new(&Kafka::default()).expect("a client");
        assert!(!topics.not_trimmed(Some(RDKafkaErrorCode::UnsupportedVersion), "g-deltas[0]"));
        assert!(!topics.health.denied(Request::DeleteRecords), "it has been logged");
        assert!(topics.health.works(Request::DeleteRecords), "it has failed");
    }
}
