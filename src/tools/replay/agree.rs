//! How the workers of a run agree on one plan: the first record of a topic of their own is the plan, whichever worker
//! wrote it.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::honor::honor;
use super::plan::{Planned, ReplayPlan, settings_of};
use super::range::{At, Bound, Bounds};
use crate::config::{Loaded, SourceTopics};
use crate::core::model::Millis;
use crate::core::model::time::rfc3339;
use crate::worker::kafka::reader::Stretch;
use crate::worker::kafka::scan::Scanner;
use crate::worker::kafka::topics::{TopicNames, Topics};
use crate::worker::kafka::{Appender, KafkaError, LogReader};

const APPEND_TIMEOUT: Duration = Duration::from_secs(30);

/// A run: its group and its plan.
#[derive(Debug, Clone)]
pub struct Run {
    /// The group of its workers; the names of its topics begin with it.
    pub group: String,
    /// What is agreed upon.
    pub plan: ReplayPlan,
    /// Whether this worker has made the plan.
    pub new: bool,
}

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A request to Kafka failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A source topic is not there.
    #[error("topic {0} does not exist, or this worker may not describe it; check kafka.topics")]
    NoTopic(String),
    /// No topic is a source.
    #[error("no topic matches {0}, or this worker may not describe it; check kafka.topics")]
    NoMatch(String),
    /// A bound is for a topic that is not read.
    #[error("--from or --to names topic {0}, which is not among kafka.topics")]
    ForeignTopic(String),
    /// It would end before it begins.
    #[error("--from is after --to in {topic}[{partition}]: {from} and {to}; there is nothing to read")]
    Reversed {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where it would begin.
        from: String,
        /// Where it would end.
        to: String,
    },
    /// The plan cannot be read.
    #[error("the plan in topic {topic} cannot be read: {why}; use another --id, or the program that started the run")]
    Plan {
        /// The topic.
        topic: String,
        /// The problem.
        why: String,
    },
    /// The run was begun for another range.
    #[error(
        "this run was started with {option} {was}; omit {option} to continue it, or start another with another --id"
    )]
    OtherRange {
        /// The option.
        option: &'static str,
        /// The value in the plan.
        was: String,
    },
    /// There is nothing to repeat.
    #[error("group {0} has no journals in this Kafka; check --honor-journal")]
    NoGroup(String),
    /// Late delta records after a forced close belong to certain shards.
    #[error(
        "group {group} has {live} shards and has closed steps on stall timeout, which {shards} shards cannot \
         reproduce: replay with --set kafka.shards={live}, or omit --honor-journal"
    )]
    OtherShards {
        /// The live group.
        group: String,
        /// Its shards.
        live: u32,
        /// Those of the replay.
        shards: u32,
    },
    /// The run was begun with other settings.
    #[error(
        "this run was started with other settings; continue with those, or start another run with another \
             --id:\n  {0}"
    )]
    OtherSettings(String),
}

/// What a user has set for a run. Its plan, once there is one, holds the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Where it begins; empty for everything that the topics hold.
    pub from: &'a [Bound],
    /// Where it ends; empty for their end.
    pub to: &'a [Bound],
    /// The live group whose ticks and forced closes it repeats.
    pub honor: Option<&'a str>,
}

/// Finds the plan of the run whose group is `loaded`'s, or makes it.
///
/// # Errors
/// When Kafka does not answer, or the run was begun with other arguments.
pub fn agree(loaded: &Loaded, wanted: &Wanted<'_>, now: Millis) -> Result<Run, RunError> {
    let kafka = &loaded.config.kafka;
    let topics = Topics::new(kafka)?;
    let topic = TopicNames::new(&kafka.group).plan();
    topics.ensure_plan()?;
    let reader = LogReader::new(kafka)?;
    let (mut found, mut new) = (read(&reader, &topic)?, false);
    if found.is_none() {
        let plan = propose(loaded, wanted, now)?;
        let offset = Appender::new(kafka)?.append_and_wait(&topic, 0, &plan.encode(), APPEND_TIMEOUT)?;
        // Another worker of the run may have written it first.
        (found, new) = (read(&reader, &topic)?, offset == Some(0));
    }
    let plan = found.ok_or_else(|| RunError::Plan { topic, why: "it is empty".to_owned() })?;
    let settings = plan.differences(&settings_of(loaded));
    if !settings.is_empty() {
        return Err(RunError::OtherSettings(settings.join("\n  ")));
    }
    for (option, given, was) in [("--from", wanted.from, &plan.from), ("--to", wanted.to, &plan.to)] {
        let given = Bounds::new(given, At::Now).texts();
        if !given.is_empty() && given != *was {
            let was = if was.is_empty() { "the default".to_owned() } else { was.join(" ") };
            return Err(RunError::OtherRange { option, was });
        }
    }
    Ok(Run { group: kafka.group.clone(), plan, new })
}

/// The plan that a run would have, if it began now.
///
/// # Errors
/// When Kafka does not answer, or there is no such topic.
pub fn propose(loaded: &Loaded, wanted: &Wanted<'_>, now: Millis) -> Result<ReplayPlan, RunError> {
    let (from, to) = (Bounds::new(wanted.from, At::Earliest), Bounds::new(wanted.to, At::Now));
    let mut partitions = plan(loaded, &Topics::new(&loaded.config.kafka)?, &from, &to)?;
    if let Some(group) = wanted.honor {
        honor(loaded, group, &mut partitions)?;
    }
    Ok(ReplayPlan::new(now, from.texts(), to.texts(), partitions, settings_of(loaded)))
}

/// Deletes the topics of a run, and its groups: another run of the same name must not continue from its progress.
///
/// # Errors
/// When Kafka does not answer, or refuses; when workers of the run are alive.
pub fn remove(loaded: &Loaded) -> Result<Vec<String>, RunError> {
    let kafka = &loaded.config.kafka;
    let names = TopicNames::new(&kafka.group);
    let topics = Topics::new(kafka)?;
    let planned = planned_topics(loaded, &topics).into_iter();
    let sources: BTreeSet<String> = planned.chain(SourceTopics::new(kafka).named().iter().cloned()).collect();
    let journals = sources.iter().map(|source| names.journal(source));
    let all: Vec<String> = journals.chain([names.deltas(), names.series_journal(), names.plan()]).collect();
    topics.delete_groups(&[kafka.group.clone(), names.shards_group()])?;
    Ok(topics.delete(&all)?)
}

/// The topics of a run, if it has a plan: what a regular expression matches may have changed since.
fn planned_topics(loaded: &Loaded, topics: &Topics) -> Vec<String> {
    let (kafka, plan) = (&loaded.config.kafka, TopicNames::new(&loaded.config.kafka.group).plan());
    let planned = topics.partitions(&plan).map_err(RunError::from).and_then(|there| match there {
        Some(_) => read(&LogReader::new(kafka)?, &plan),
        None => Ok(None),
    });
    match planned {
        Ok(plan) => plan.into_iter().flat_map(|plan| plan.partitions).map(|planned| planned.topic).collect(),
        Err(error) => {
            tracing::warn!(%error, "the plan of the run cannot be read; only journals of topics that are named are deleted");
            Vec::new()
        }
    }
}

/// The plan, if there is one.
fn read(reader: &LogReader, topic: &str) -> Result<Option<ReplayPlan>, RunError> {
    let (low, high) = reader.bounds(topic, 0)?;
    if low >= high {
        return Ok(None);
    }
    let mut plan = None;
    let first = Stretch { topic, partition: 0, from: low, to: low + 1 };
    reader.read::<RunError>(first, &AtomicBool::new(false), &mut |_, record| {
        let decoded = ReplayPlan::decode(record);
        plan = Some(decoded.map_err(|why| RunError::Plan { topic: topic.to_owned(), why })?);
        Ok(())
    })?;
    Ok(plan)
}

fn plan(loaded: &Loaded, topics: &Topics, from: &Bounds, to: &Bounds) -> Result<Vec<Planned>, RunError> {
    let kafka = &loaded.config.kafka;
    let sources = SourceTopics::new(kafka);
    if let Some(foreign) = from.topics().chain(to.topics()).find(|name| !sources.contains(name)) {
        return Err(RunError::ForeignTopic(foreign.to_owned()));
    }
    let scanner = Scanner::new(kafka)?;
    let mut all = Vec::new();
    for (topic, partitions) in topics.sources()? {
        for partition in 0..partitions.ok_or_else(|| RunError::NoTopic(topic.clone()))? {
            let range = (from.of(&topic, partition), to.of(&topic, partition));
            all.push(stretch(&scanner, &topic, partition, range)?);
        }
    }
    if all.is_empty() {
        return Err(RunError::NoMatch(sources.expressions().join(" or ")));
    }
    Ok(all)
}

/// Checks that a range does not end before it begins, whatever a partition holds.
fn forward(topic: &str, partition: i32, (from, to): (At, At)) -> Result<(), RunError> {
    let reversed = match (from, to) {
        (At::Time(from), At::Time(to)) => from > to,
        (At::Offset(from), At::Offset(to)) => from > to,
        (At::Now, At::Earliest) => true,
        _ => false,
    };
    if reversed { Err(lies_behind(topic, partition, (from, to))) } else { Ok(()) }
}

/// The same for points of two kinds, once their offsets in a partition that begins at `low` are known.
fn forward_in(
    topic: &str,
    partition: i32,
    (from, to): (At, At),
    (low, begin, end): (i64, i64, i64),
) -> Result<(), RunError> {
    // Records that retention has deleted are not a mistake of the user.
    let deleted = from == At::Earliest || end < low;
    if begin > end && !deleted { Err(lies_behind(topic, partition, (from, to))) } else { Ok(()) }
}

fn lies_behind(topic: &str, partition: i32, (from, to): (At, At)) -> RunError {
    let [from, to] = [from, to].map(|at| Bound { topic: None, partition: None, at }.to_string());
    RunError::Reversed { topic: topic.to_owned(), partition, from, to }
}

fn stretch(scanner: &Scanner, topic: &str, partition: i32, (from, to): (At, At)) -> Result<Planned, RunError> {
    forward(topic, partition, (from, to))?;
    let (low, high) = scanner.bounds(topic, partition)?;
    let offset = |at: At| match at {
        At::Earliest => Ok(low),
        At::Now => Ok(high),
        At::Offset(offset) => Ok(offset.min(high)),
        At::Time(at) => scanner.offset_at(topic, partition, at).map(|found| found.unwrap_or(high)),
    };
    let (begin, end) = (offset(from)?, offset(to)?);
    forward_in(topic, partition, (from, to), (low, begin, end))?;
    let end = end.max(begin);
    let begins = if begin.max(low) < end { scanner.timestamp_at(topic, partition, begin.max(low))? } else { None };
    let cut = match from {
        At::Offset(wanted) => wanted < low,
        // The time of a deleted record is unknown.
        At::Time(wanted) => low > 0 && begin == low && begins.is_some_and(|begins| begins > wanted),
        At::Earliest | At::Now => false,
    };
    if cut {
        let begins = begins.map(rfc3339);
        tracing::warn!(topic, partition, low, begins, "the range begins before the first record of the topic");
    }
    Ok(Planned {
        topic: topic.to_owned(),
        partition,
        from: begin,
        to: end,
        to_end: end == high,
        cut,
        begins,
        past: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_ends_before_it_begins_is_named() {
        for (from, to) in
            [(At::Time(60_000), At::Time(59_000)), (At::Offset(5), At::Offset(4)), (At::Now, At::Earliest)]
        {
            let error = forward("spans", 3, (from, to)).expect_err("reversed").to_string();
            assert!(error.contains("--from is after --to in spans[3]"), "{error}");
        }
        for (from, to) in [(At::Time(1), At::Time(1)), (At::Offset(4), At::Offset(5)), (At::Earliest, At::Now)] {
            assert!(forward("spans", 3, (from, to)).is_ok());
        }
    }

    #[test]
    fn a_range_of_two_kinds_that_ends_before_it_begins_is_named_unless_retention_has_done_that() {
        let range = |from, to, bounds| forward_in("spans", 3, (from, to), bounds).map_err(|e| e.to_string());
        let error = range(At::Time(60_000), At::Offset(4), (0, 9, 4)).expect_err("reversed");
        assert!(error.contains("--from is after --to in spans[3]: 1970-01-01T00:01:00Z and 4"), "{error}");
        assert!(range(At::Offset(7), At::Time(1), (0, 7, 2)).is_err());
        assert!(range(At::Now, At::Offset(3), (0, 9, 3)).is_err());
        for (from, bounds) in [(At::Earliest, (5, 5, 4)), (At::Time(1), (5, 5, 4)), (At::Time(1), (0, 4, 4))] {
            assert_eq!(range(from, At::Offset(4), bounds), Ok(()), "{from:?}");
        }
    }
}
