//! What a live group did that its topic does not hold: ticks, and steps that it closed on stall timeout.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use super::agree::RunError;
use super::plan::Planned;
use crate::config::Loaded;
use crate::core::deltas::DeltaRecord;
use crate::core::journal::{Event, ForcedCloses, Identity, JournalError, Missed, Past, StepOf};
use crate::core::model::Millis;
use crate::core::model::time::rfc3339;
use crate::worker::kafka::reader::Stretch;
use crate::worker::kafka::topics::{TopicNames, Topics};
use crate::worker::kafka::{KafkaError, LogReader};

/// The maximum number of losses of a kind that are named.
const NAMED: usize = 5;

/// A journal of the group.
struct Log<'a> {
    reader: &'a LogReader,
    stretch: Stretch<'a>,
    /// Whether its beginning has been deleted.
    cut: bool,
}

/// Adds to a plan what `group` did. What its journals do not hold any more is a warning.
///
/// # Errors
/// When Kafka does not answer, there is no such group, or the replay has another number of shards and needs the same.
pub(super) fn honor(loaded: &Loaded, group: &str, partitions: &mut [Planned]) -> Result<(), RunError> {
    let kafka = &loaded.config.kafka;
    let (names, reader) = (TopicNames::new(group), LogReader::new(kafka)?);
    let topics = Topics::new(kafka)?.named(&names);
    topics.enter_sharding()?;
    let live = topics.partitions(&names.series_journal())?;
    let live = live.ok_or_else(|| RunError::NoGroup(group.to_owned()))?.unsigned_abs();
    // Nothing before the step of the first record can be missed.
    let width = loaded.config.core.time.step;
    let begins = partitions.iter().filter_map(|p| p.begins).min().map(|at| width.end_of(at));
    // First these: a commit that they name is in its journal already.
    let mut missed = forced_closes(&reader, (group, &names.series_journal()), live, begins)?;
    for planned in partitions.iter_mut() {
        let missed = missed.remove(&(planned.topic.clone(), planned.partition)).unwrap_or_default();
        let step_of: StepOf = |record| DeltaRecord::decode(record).ok().map(|record| record.head.step);
        let past = |cut| Past::new(width, cut, missed, step_of);
        let journal = names.journal(&planned.topic);
        // What the group has not read yet has no past.
        if topics.partitions(&journal)?.is_some_and(|there| planned.partition < there) {
            add_past(&reader, (group, &journal), planned, past)?;
        }
    }
    let by_force = |p: &Planned| p.past.iter().any(|event| matches!(event, Event::Missed { .. }));
    if live != kafka.shards && partitions.iter().any(by_force) {
        return Err(RunError::OtherShards { group: group.to_owned(), live, shards: kafka.shards });
    }
    Ok(())
}

/// By source, the steps that it came too late for.
fn forced_closes(
    reader: &LogReader,
    (group, journal): (&str, &str),
    shards: u32,
    begins: Option<Millis>,
) -> Result<BTreeMap<(String, i32), Missed>, RunError> {
    let mut closes = ForcedCloses::default();
    for shard in 0..shards {
        let log = Log::of(reader, journal, shard.cast_signed())?;
        closes.turn_to(shard, log.cut);
        log.read(&mut |offset, record| closes.apply(offset, record))?;
        log.belongs_to(group, None, closes.identity())?;
        let known = closes.begins().unwrap_or(Millis::MAX);
        if log.cut && begins.is_some_and(|begins| known > begins) {
            let known_from = closes.begins().map(rfc3339);
            tracing::warn!(
                journal,
                shard,
                known_from,
                from = begins.map(rfc3339),
                "the journal does not reach back to the beginning of the range: earlier stall-timeout closes are not \
                 reproduced; kafka.journal_retention keeps them"
            );
        }
    }
    for torn in closes.torn().iter().take(NAMED) {
        let (shard, step, source) = (torn.shard, rfc3339(torn.step), &torn.source);
        tracing::warn!(
            shard,
            step,
            ?source,
            torn = closes.torn().len(),
            "a step was closed on stall timeout in the middle of a partition's records for it: in that step and the \
             following ones, some series differ from the live ones"
        );
    }
    for (shard, step) in closes.unsaid().iter().take(NAMED) {
        tracing::warn!(
            shard,
            step = rfc3339(*step),
            unsaid = closes.unsaid().len(),
            "an earlier version closed a step on stall timeout without recording the stalled partitions: it is not \
             reproduced"
        );
    }
    Ok(closes.missed().clone())
}

/// Finds the events in the stretch of a partition.
fn add_past(
    reader: &LogReader,
    (group, journal): (&str, &str),
    planned: &mut Planned,
    past: impl FnOnce(bool) -> Past,
) -> Result<(), RunError> {
    let log = Log::of(reader, journal, planned.partition)?;
    let mut past = past(log.cut);
    log.read(&mut |offset, record| past.apply(offset, record))?;
    log.belongs_to(group, Some(&planned.topic), past.identity())?;
    let known = past.begins().unwrap_or(i64::MAX);
    if log.cut && known > planned.from {
        tracing::warn!(
            journal,
            partition = planned.partition,
            known_from = known,
            from = planned.from,
            "the journal does not reach back to the beginning of the range: earlier ticks are not reproduced, and \
             records too late for a stall-timeout close are not distinguished; kafka.journal_retention keeps them"
        );
    }
    // An event at the end itself advances time after the last record.
    let events = past.found().into_iter().filter(|event| event.offset() <= planned.to);
    let (before, within): (Vec<_>, Vec<_>) = events.partition(|event| event.offset() < planned.from);
    // The first record sets the time again, but missed steps stay missed.
    let mut missed: BTreeMap<u32, (Millis, Event)> = BTreeMap::new();
    for event in before {
        if let Event::Missed { shard, step, .. } = event {
            let last = missed.entry(shard).or_insert((step, event));
            *last = if step > last.0 { (step, event) } else { *last };
        }
    }
    planned.past = missed.into_values().map(|(_, event)| event.not_before(planned.from)).chain(within).collect();
    Ok(())
}

// === impl Log ===

impl<'a> Log<'a> {
    fn of(reader: &'a LogReader, journal: &'a str, partition: i32) -> Result<Self, RunError> {
        let (from, to) = reader.bounds(journal, partition)?;
        Ok(Self { reader, stretch: Stretch { topic: journal, partition, from, to }, cut: from > 0 })
    }

    /// Checks that it is the journal of this group, and not of another one with the same journal name.
    fn belongs_to(&self, group: &str, topic: Option<&str>, owner: Option<&Identity>) -> Result<(), RunError> {
        let Stretch { topic: journal, partition, .. } = self.stretch;
        let ours = Identity { group: group.to_owned(), topic: topic.map(str::to_owned), topic_id: None };
        match owner {
            Some(owner) if !owner.owns_the_same(&ours) => {
                let what = format!("{journal}[{partition}] belongs to {owner}, not to {ours}; use another group");
                Err(KafkaError::Topic(what).into())
            }
            _ => Ok(()),
        }
    }

    fn read(&self, each: &mut dyn FnMut(i64, &[u8]) -> Result<(), JournalError>) -> Result<(), RunError> {
        let Stretch { topic, partition, .. } = self.stretch;
        let damaged = |error| KafkaError::Topic(format!("{topic}[{partition}]: {error}"));
        let mut each = |offset: i64, record: &[u8]| Ok(each(offset, record).map_err(damaged)?);
        self.reader.read::<RunError>(self.stretch, &AtomicBool::new(false), &mut each)
    }
}
