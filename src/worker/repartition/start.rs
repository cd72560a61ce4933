//! Where the stage begins: the offsets of its group, which are the only truth about what has been passed on.

use std::sync::atomic::AtomicBool;

use super::session::Upstream;
use crate::config::settings::{Kafka, Start};
use crate::worker::kafka::members::Partition;
use crate::worker::kafka::positions::Positions;
use crate::worker::kafka::reader::{READ_AHEAD, Stretch};
use crate::worker::kafka::{KafkaError, LogReader};

/// How often offsets are looked up again that another worker has committed meanwhile.
const TRIES: usize = 3;

/// All partitions of a topic.
pub(super) fn partitions(topic: &str, count: i32) -> Vec<Partition> {
    (0..count).map(|partition| Partition { topic: topic.to_owned(), partition }).collect()
}

/// Prepares topics that are new to this session. One of which the group has no offset at all is new to the group: with
/// `kafka.start: latest`, its ends are committed before any worker reads it, so that partitions that it gets later differ
/// from those that it had.
///
/// # Errors
/// When the group has lost its offsets: to begin again would pass everything on twice.
pub(super) fn prepare(
    (kafka, positions): (&Kafka, &Positions),
    new: &[Upstream],
    stop: &AtomicBool,
) -> Result<(), KafkaError> {
    for upstream in new {
        let all = partitions(&upstream.topic, upstream.partitions);
        let mut tries = 0;
        while is_unknown(positions, &all)? {
            if has_records(kafka, upstream, stop)? && is_unknown(positions, &all)? {
                return Err(lost(kafka, upstream));
            }
            if kafka.start == Start::Earliest {
                break;
            }
            let ends = all.iter().map(|p| Ok((p.clone(), positions.bounds(p)?.1)));
            let ends = ends.collect::<Result<Vec<_>, KafkaError>>()?;
            match positions.commit(&ends) {
                Ok(()) => break,
                // The group has members: one of them has done it, or is about to.
                Err(error) if tries >= TRIES => return Err(error),
                Err(_) => tries += 1,
            }
        }
    }
    Ok(())
}

fn is_unknown(positions: &Positions, all: &[Partition]) -> Result<bool, KafkaError> {
    Ok(positions.committed(all)?.iter().all(|(_, offset)| offset.is_none()))
}

/// Whether the stage has ever committed records of a topic. Aborted transactions leave offsets without records.
fn has_records(kafka: &Kafka, upstream: &Upstream, stop: &AtomicBool) -> Result<bool, KafkaError> {
    let reader = LogReader::with_buffer(kafka, READ_AHEAD / 16)?;
    let topic = &upstream.target.topic;
    for partition in 0..i32::try_from(upstream.target.partitions).unwrap_or(i32::MAX) {
        let (low, high) = reader.bounds(topic, partition)?;
        let stretch = Stretch { topic, partition, from: low, to: high };
        if low > 0 || low < high && reader.first(stretch, stop, |_| ())?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn lost(kafka: &Kafka, upstream: &Upstream) -> KafkaError {
    let (group, topic) = (format!("{}-repartition", kafka.group), &upstream.topic);
    KafkaError::Topic(format!(
        "group {group} has no offsets of topic {topic}, although {} holds its records: they have expired \
         (offsets.retention.minutes) or were deleted. Starting at the beginning would count records twice: set the offsets \
         with kafka-consumer-groups --group {group} --reset-offsets, for instance --to-datetime, or use another \
         kafka.group",
        upstream.target.topic
    ))
}
