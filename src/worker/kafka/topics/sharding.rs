//! The sharding of a group: the last record of a topic of its own. A group that was never divided again has no such topic.

use std::sync::atomic::AtomicBool;

use super::{KafkaError, Topics};
use crate::core::journal::Sharding;
use crate::worker::kafka::LogReader;
use crate::worker::kafka::reader::Stretch;

// === impl Topics ===

impl Topics {
    /// Finds out the present sharding of the group, and names its topics accordingly from now on; `None` for the first one.
    /// A client that may not see the topic takes it for absent: what it would work on is fenced by the journals.
    ///
    /// # Errors
    /// When no broker answers, or the record is damaged or of a later version.
    pub fn enter_sharding(&self) -> Result<Option<Sharding>, KafkaError> {
        let found = self.sharding()?;
        self.names.enter(found.map_or(0, |sharding| sharding.number));
        Ok(found)
    }

    fn sharding(&self) -> Result<Option<Sharding>, KafkaError> {
        let topic = self.names.shardings();
        match self.partitions(&topic) {
            Ok(None) => return Ok(None),
            Err(KafkaError::Topic(why)) => {
                tracing::debug!(topic, why, "the topic of the sharding cannot be looked up, taking it for absent");
                return Ok(None);
            }
            found => drop(found?),
        }
        let reader = LogReader::new(&self.kafka)?;
        let (from, to) = reader.bounds(&topic, 0)?;
        let mut last = None;
        let all = Stretch { topic: &topic, partition: 0, from, to };
        reader.read::<KafkaError>(all, &AtomicBool::new(false), &mut |offset, record| {
            let sharding = Sharding::decode(record).map_err(|why| {
                KafkaError::Topic(format!("{topic}[0], offset {offset}, names no sharding of the group: {why}"))
            })?;
            last = Some(sharding);
            Ok(())
        })?;
        Ok(last)
    }

    /// Whether the group is still in the sharding that was entered; a worker of an earlier one begins nothing new.
    #[must_use]
    pub fn is_in_sharding(&self) -> bool {
        match self.sharding() {
            Ok(found) if found.map_or(0, |sharding| sharding.number) == self.names.sharding() => true,
            Ok(_) => {
                tracing::error!("`spanmill reshard` has changed the number of shards: restart this worker");
                false
            }
            Err(error) => {
                tracing::debug!(%error, "the sharding of the group cannot be looked up, retrying");
                false
            }
        }
    }

    /// Checks that a worker with so many `kafka.shards` may work on the group.
    ///
    /// # Errors
    /// When the group was divided into another number of shards; as [`Topics::enter_sharding`].
    pub fn agrees_with_sharding(&self, shards: u32) -> Result<(), KafkaError> {
        match self.enter_sharding()? {
            Some(sharding) if sharding.shards != shards => Err(KafkaError::Topic(format!(
                "kafka.shards is {shards}, but the series of this group were divided into {} shards by `spanmill \
                 reshard`: set kafka.shards to {} for all workers",
                sharding.shards, sharding.shards
            ))),
            _ => Ok(()),
        }
    }

    /// Creates the topics of a sharding that does not exist yet, and the one that names the present sharding.
    ///
    /// # Errors
    /// When one cannot be created, or has another number of partitions.
    pub fn ensure_sharding(&self, sharding: Sharding) -> Result<(), KafkaError> {
        let names = self.names.in_sharding(sharding.number);
        let shards = i32::try_from(sharding.shards).unwrap_or(i32::MAX);
        let all = [(names.deltas(), shards), (names.series_journal(), shards), (names.shardings(), 1)];
        for (topic, partitions) in &all {
            self.ensure_one(topic, *partitions)?;
        }
        self.check(&all.map(|(topic, _)| topic))
    }
}
