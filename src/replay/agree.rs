//! How the workers of a run come to one plan: the first record of a topic of their own is the plan, whoever wrote it.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::honour::honour;
use super::plan::{Plan, Planned, settings_of};
use super::range::{At, Bound, Bounds};
use crate::config::Loaded;
use crate::kafka::reader::Stretch;
use crate::kafka::scan::Scanner;
use crate::kafka::topics::{TopicNames, Topics};
use crate::kafka::{Appender, KafkaError, LogReader};
use crate::model::Millis;
use crate::model::time::rfc3339;

const APPEND_TIMEOUT: Duration = Duration::from_secs(30);

/// A run: its group and its plan.
#[derive(Debug, Clone)]
pub struct Run {
    /// The group of its workers; the names of its topics begin with it.
    pub group: String,
    /// What is agreed upon.
    pub plan: Plan,
    /// Whether this worker has made the plan.
    pub new: bool,
}

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Kafka did not do what was asked.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A source topic is not there.
    #[error("topic {0} does not exist; check kafka.topics")]
    NoTopic(String),
    /// A bound is for a topic that is not read.
    #[error("--from or --to names topic {0}, which is not among kafka.topics")]
    ForeignTopic(String),
    /// The plan cannot be read.
    #[error("the plan in topic {topic} cannot be read: {why}; take another --id, or the program that began the run")]
    Plan {
        /// The topic.
        topic: String,
        /// What is wrong.
        why: String,
    },
    /// The run was begun for another range.
    #[error(
        "this run was begun with {option} {was}; leave {option} out to go on with it, or begin another with another --id"
    )]
    OtherRange {
        /// The option.
        option: &'static str,
        /// What the plan says.
        was: String,
    },
    /// There is nothing to repeat.
    #[error("group {0} has left no journals in this Kafka; check --honour-journal")]
    NoGroup(String),
    /// What came too late for a forced close came to certain shards.
    #[error(
        "group {group} has {live} shards and has closed steps by force, which {shards} shards cannot repeat: replay with \
         --set kafka.shards={live}, or leave --honour-journal out"
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
    #[error("this run was begun with other settings; go on with those, or begin another run with another --id:\n  {0}")]
    OtherSettings(String),
}

/// What a user has said about a run. Its plan, once there is one, says the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Where it begins; empty for everything that the topics hold.
    pub from: &'a [Bound],
    /// Where it ends; empty for their end.
    pub to: &'a [Bound],
    /// The live group whose ticks and forced closes it repeats.
    pub honour: Option<&'a str>,
}

/// Finds the plan of the run whose group is `loaded`'s, or makes it.
///
/// # Errors
/// When Kafka does not answer, or the run was begun otherwise.
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
        // Another worker of the run may have been faster.
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
            let was = if was.is_empty() { "left out".to_owned() } else { was.join(" ") };
            return Err(RunError::OtherRange { option, was });
        }
    }
    Ok(Run { group: kafka.group.clone(), plan, new })
}

/// The plan that a run would have, if it began now.
///
/// # Errors
/// When Kafka does not answer, or there is no such topic.
pub fn propose(loaded: &Loaded, wanted: &Wanted<'_>, now: Millis) -> Result<Plan, RunError> {
    let (from, to) = (Bounds::new(wanted.from, At::Earliest), Bounds::new(wanted.to, At::Now));
    let mut partitions = plan(loaded, &Topics::new(&loaded.config.kafka)?, &from, &to)?;
    if let Some(group) = wanted.honour {
        honour(loaded, group, &mut partitions)?;
    }
    Ok(Plan::new(now, from.texts(), to.texts(), partitions, settings_of(loaded)))
}

/// Deletes the topics of a run, and its groups: another run of the same name must not find how far this one was.
///
/// # Errors
/// When Kafka does not answer, or refuses; when workers of the run are alive.
pub fn remove(loaded: &Loaded) -> Result<Vec<String>, RunError> {
    let kafka = &loaded.config.kafka;
    let names = TopicNames::new(&kafka.group);
    let journals = kafka.topics.iter().map(|source| names.journal(source));
    let all: Vec<String> = journals.chain([names.deltas(), names.series_journal(), names.plan()]).collect();
    let topics = Topics::new(kafka)?;
    topics.delete_groups(&[kafka.group.clone(), names.shards_group()])?;
    Ok(topics.delete(&all)?)
}

/// The plan, if there is one.
fn read(reader: &LogReader, topic: &str) -> Result<Option<Plan>, RunError> {
    let (low, high) = reader.bounds(topic, 0)?;
    if low >= high {
        return Ok(None);
    }
    let mut plan = None;
    let first = Stretch { topic, partition: 0, from: low, to: low + 1 };
    reader.read::<RunError>(first, &AtomicBool::new(false), &mut |_, record| {
        let decoded = Plan::decode(record);
        plan = Some(decoded.map_err(|why| RunError::Plan { topic: topic.to_owned(), why })?);
        Ok(())
    })?;
    Ok(plan)
}

fn plan(loaded: &Loaded, topics: &Topics, from: &Bounds, to: &Bounds) -> Result<Vec<Planned>, RunError> {
    let kafka = &loaded.config.kafka;
    if let Some(foreign) = from.topics().chain(to.topics()).find(|name| !kafka.topics.iter().any(|t| t == name)) {
        return Err(RunError::ForeignTopic(foreign.to_owned()));
    }
    let scanner = Scanner::new(kafka)?;
    let mut all = Vec::new();
    for topic in &kafka.topics {
        let partitions = topics.partitions(topic)?.ok_or_else(|| RunError::NoTopic(topic.clone()))?;
        for partition in 0..partitions {
            all.push(stretch(&scanner, topic, partition, (from.of(topic, partition), to.of(topic, partition)))?);
        }
    }
    Ok(all)
}

fn stretch(scanner: &Scanner, topic: &str, partition: i32, (from, to): (At, At)) -> Result<Planned, RunError> {
    let (low, high) = scanner.bounds(topic, partition)?;
    let offset = |at: At| match at {
        At::Earliest => Ok(low),
        At::Now => Ok(high),
        At::Offset(offset) => Ok(offset.min(high)),
        At::Time(at) => scanner.offset_at(topic, partition, at).map(|found| found.unwrap_or(high)),
    };
    let (begin, end) = (offset(from)?, offset(to)?);
    let end = end.max(begin);
    let begins = if begin.max(low) < end { scanner.timestamp_at(topic, partition, begin.max(low))? } else { None };
    let cut = match from {
        At::Offset(wanted) => wanted < low,
        // Nobody can say when a deleted record was.
        At::Time(wanted) => low > 0 && begin == low && begins.is_some_and(|begins| begins > wanted),
        At::Earliest | At::Now => false,
    };
    if cut {
        let begins = begins.map(rfc3339);
        tracing::warn!(topic, partition, low, begins, "the range begins before what the topic still holds");
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
