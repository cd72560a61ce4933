//! `spanmill doctor`: what is wrong, or could become wrong, with brokers, topics, records and receivers, and what to do.
//! Changes nothing.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use super::check::missing;
use super::connect::{Found, addresses, inspect, place_of};
use super::produce::{duration, wall_clock};
use super::{ConfigArgs, USAGE, console};
use crate::config::settings::{OutputType, Protocol, TenantSource};
use crate::config::{Config, Loaded, SourceTopics};
use crate::core::model::text::Shown;
use crate::core::model::{Millis, Seed};
use crate::core::tasks::span::Record;
use crate::tools::doctor::{Diagnoses, Diagnosis, GroupFacts, Role, Sample, Severity, judge_group, judge_topic};
use crate::tools::survey::SurveyError;
use crate::worker::kafka::inspect::Inspector;
use crate::worker::kafka::reader::Stretch;
use crate::worker::kafka::scan::Scanner;
use crate::worker::kafka::topics::Topics;
use crate::worker::kafka::{KafkaError, tenant};
use crate::worker::sender::query::takes_second;

/// What to examine, and how closely.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Number of the latest records of each source topic to read
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    records: u64,
    /// The longest pause of all workers that must lose no span, which retention is compared with
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    pause: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What could not be looked at.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    Survey(#[from] SurveyError),
}

/// The findings, as JSON has them.
#[derive(serde::Serialize)]
struct Answer<'a> {
    errors: usize,
    warnings: usize,
    findings: &'a [Diagnosis],
}

/// Examines what the configuration names. Returns the exit code: 0 if there is no error, 1 if there is one, 64 if the
/// configuration is wrong.
///
/// # Errors
/// Only those of writing to `out`.
pub fn run(args: &DoctorArgs, out: &mut dyn Write) -> io::Result<u8> {
    let loaded = match args.config.prepare() {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    if let Some(missing) = missing(&loaded) {
        console::say(&missing);
        return Ok(USAGE);
    }
    let found = examine(args, &loaded);
    let count = |severity| found.iter().filter(|one| one.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if args.json {
        let answer = Answer { errors, warnings, findings: &found };
        writeln!(out, "{}", serde_json::json!(answer))?;
    } else {
        write_all(&found, out)?;
        writeln!(out, "{errors} errors, {warnings} warnings, {} notes", count(Severity::Note))?;
    }
    Ok(u8::from(errors > 0))
}

fn write_all(found: &[Diagnosis], out: &mut dyn Write) -> io::Result<()> {
    let mut place = None;
    for one in found {
        if place.replace(&one.place) != Some(&one.place) {
            writeln!(out, "{}", Shown(&one.place))?;
        }
        for line in one.to_string().lines() {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

/// Everything that is found: first what `check --connect` finds, then what only a closer look does.
fn examine(args: &DoctorArgs, loaded: &Loaded) -> Vec<Diagnosis> {
    let asked = inspect(loaded);
    let answered = asked.first().is_some_and(|brokers| brokers.findings.iter().any(|one| !one.is_refusal()));
    let of = |Found { place, findings }| findings.into_iter().map(move |one| Diagnosis::of(&place, one));
    let mut all: Vec<Diagnosis> = asked.into_iter().flat_map(of).collect();
    let takes_remote_write = |(_, config): &(&str, Config)| config.remote_write.kind == OutputType::RemoteWrite;
    for (tenant, config) in addresses(loaded).into_iter().filter(takes_remote_write) {
        all.extend(protocol(&config, tenant).into_all());
    }
    if answered {
        all.extend(closer(args, loaded));
    }
    // Of one place in one piece, in the order in which places were met.
    let mut places: Vec<String> = Vec::new();
    all.iter().for_each(|one| {
        if !places.contains(&one.place) {
            places.push(one.place.clone());
        }
    });
    all.sort_by_key(|one| places.iter().position(|place| *place == one.place));
    all
}

/// Which version of remote write a receiver takes.
fn protocol(config: &Config, tenant: &str) -> Diagnoses {
    let mut out = Diagnoses::of(place_of(config, tenant));
    let wanted = config.remote_write.protocol;
    match takes_second(&config.remote_write, tenant) {
        Ok(Some(true)) => out.ok("accepts remote write 2.0"),
        Ok(Some(false)) if wanted == Protocol::V2 => out.bad(
            Severity::Error,
            "does not accept remote write 2.0, which remote_write.protocol asks for",
            "set remote_write.protocol: auto",
        ),
        Ok(Some(false)) => out.note("does not accept remote write 2.0, so workers send 1.0"),
        // Why it does not answer is a finding already.
        Ok(None) | Err(_) => {}
    }
    out
}

/// What the topics, the group and a sample of the records show.
fn closer(args: &DoctorArgs, loaded: &Loaded) -> Vec<Diagnosis> {
    let config = &loaded.config;
    let pause = Millis::try_from(args.pause.as_millis()).unwrap_or(Millis::MAX);
    let mut all = Vec::new();
    let looked = Topics::new(&config.kafka).and_then(|topics| {
        topics.enter_sharding()?;
        let names = topics.names();
        let mut partitions = BTreeSet::new();
        let sources = SourceTopics::new(&config.kafka);
        for topic in sources.named() {
            let count = topics.partitions(topic)?.unwrap_or_default();
            partitions.extend((0..count).map(|partition| (topic.clone(), partition)));
        }
        for topic in &config.kafka.topics {
            let Some(count) = topics.partitions(topic)? else { continue };
            all.extend(topic_facts(&topics, topic, Role::Source { pause })?);
            all.extend(sample(args, loaded, topic, count));
        }
        let journals = sources.named().iter().map(|topic| names.journal(topic));
        for topic in journals.chain([names.deltas(), names.series_journal()]) {
            if topics.partitions(&topic)?.is_some() {
                all.extend(topic_facts(&topics, &topic, Role::Internal)?);
            }
        }
        for topic in sources.named().iter().filter(|_| sources.are_by_trace()) {
            if topics.partitions(topic)?.is_some() {
                all.extend(topic_facts(&topics, topic, Role::ByTrace)?);
            }
        }
        all.extend(group(config, &partitions)?);
        Ok(())
    });
    if let Err(error) = looked {
        let mut out = Diagnoses::of(format!("brokers {}", config.kafka.brokers));
        out.bad(Severity::Error, error.to_string(), "the rest was not examined; run it again once this is solved");
        all.extend(out.into_all());
    }
    all
}

fn topic_facts(topics: &Topics, topic: &str, role: Role) -> Result<Vec<Diagnosis>, KafkaError> {
    let mut out = Diagnoses::of(format!("topic {topic}"));
    judge_topic(&topics.facts(topic)?, role, &mut out);
    Ok(out.into_all())
}

fn group(config: &Config, partitions: &BTreeSet<(String, i32)>) -> Result<Vec<Diagnosis>, KafkaError> {
    let group = &config.kafka.group;
    let owners = Inspector::new(&config.kafka, group)?.owners(group).ok();
    let owned = |owners: &std::collections::BTreeMap<(String, i32), String>| {
        partitions.iter().filter(|partition| !owners.contains_key(*partition)).count()
    };
    let facts = GroupFacts {
        partitions: partitions.len(),
        shards: config.kafka.shards as usize,
        unowned: owners.as_ref().map_or(0, owned),
        workers: owners.map(|owners| owners.into_values().collect::<BTreeSet<_>>().into_iter().collect()),
    };
    let mut out = Diagnoses::of(format!("group {group}"));
    judge_group(&facts, &mut out);
    Ok(out.into_all())
}

/// Reads the last records of a topic, spread evenly over its partitions.
fn sample(args: &DoctorArgs, loaded: &Loaded, topic: &str, partitions: i32) -> Vec<Diagnosis> {
    let mut out = Diagnoses::of(format!("topic {topic}"));
    if let Err(error) = read_sample(args, loaded, (topic, partitions), &mut out) {
        out.bad(Severity::Error, error.to_string(), "its records were not examined; run it again once this is solved");
    }
    out.into_all()
}

fn read_sample(
    args: &DoctorArgs,
    loaded: &Loaded,
    (topic, partitions): (&str, i32),
    out: &mut Diagnoses,
) -> Result<(), LookError> {
    let source: &TenantSource = &loaded.config.tenant;
    let scanner = Scanner::new(&loaded.config.kafka)?;
    let each = args.records / u64::from(partitions.unsigned_abs()).max(1);
    let each = i64::try_from(each).unwrap_or(i64::MAX).max(1);
    let mut sample = Sample::new(&loaded.tenants, Seed::new(rand::random()));
    for partition in 0..partitions {
        let (low, to) = scanner.bounds(topic, partition)?;
        let stretch = Stretch { topic, partition, from: low.max(to.saturating_sub(each)), to };
        scanner.read(stretch, &mut |m| {
            use rdkafka::message::Message as _;
            let record = Record {
                offset: m.offset(),
                timestamp: m.timestamp().to_millis().unwrap_or_default(),
                tenant: tenant::of(m, source),
                value: m.payload().unwrap_or_default(),
            };
            sample.record(topic, partition, &record).map_err(LookError::from)
        })?;
    }
    Ok(sample.finish(wall_clock(), out)?)
}
