//! `spanmill check --connect`: what a worker would meet at its brokers and receivers, before it starts. Changes nothing.

use std::io::{self, Write};

use rdkafka::error::RDKafkaErrorCode;

use super::produce::wall_clock;
use crate::config::settings::{OutputType, RemoteWrite, Start, TenantSource};
use crate::config::{Config, Loaded, SourceTopics};
use crate::core::model::Millis;
use crate::core::remotewrite::acceptance::Finding;
use crate::core::remotewrite::verdict;
use crate::core::settings::{HistogramMode, SINGLE_TENANT};
use crate::worker::kafka::KafkaError;
use crate::worker::kafka::inspect::{Inspector, Keys};
use crate::worker::kafka::topics::Topics;
use crate::worker::sender::examine;
use crate::worker::sender::preflight::{Plan, foresee, knock};

/// The number of partitions of a topic that are examined, and of the latest records in each.
const PARTITIONS: i32 = 16;
const RECORDS: i64 = 20;

/// The findings about one server.
pub(super) struct Found {
    pub(super) place: String,
    pub(super) findings: Vec<Finding>,
}

/// Queries brokers and receivers, and writes the findings. Returns whether a worker could run.
///
/// # Errors
/// Only those of writing to `out`.
pub(super) fn connect(loaded: &Loaded, out: &mut dyn Write) -> io::Result<bool> {
    let all = inspect(loaded);
    for found in &all {
        writeln!(out, "{}", found.place)?;
        found.findings.iter().try_for_each(|finding| writeln!(out, "  {finding}"))?;
    }
    Ok(!all.iter().any(|found| found.findings.iter().any(Finding::is_refusal)))
}

/// Asks brokers and receivers.
pub(super) fn inspect(loaded: &Loaded) -> Vec<Found> {
    let config = &loaded.config;
    let mut brokers = Found::new(format!("brokers {}", config.kafka.brokers));
    let oldest = match look(config, &mut brokers) {
        Ok(oldest) => oldest,
        Err(error) => {
            brokers.findings.push(Finding::Waits(error.to_string()));
            None
        }
    };
    let mut all = vec![brokers];
    all.extend(receivers(loaded, oldest));
    all
}

/// Looks at brokers, topics and groups; returns the time of the oldest record that a worker would read.
fn look(config: &Config, found: &mut Found) -> Result<Option<Millis>, KafkaError> {
    let kafka = &config.kafka;
    let topics = Topics::new(kafka)?;
    found.told(topics.enter_sharding());
    let names = topics.names();
    let repartition = names.repartition_group();
    let inspector = Inspector::new(kafka, if kafka.repartition { &repartition } else { &kafka.group })?;
    found.good(format!("{} brokers respond", inspector.brokers()?));
    let mut oldest = None::<Millis>;
    for (topic, partitions) in &sources(config, &topics, found) {
        let Some(partitions) = *partitions else {
            found.findings.push(Finding::Waits(format!(
                "topic {topic} does not exist, or this worker may not describe it; create it, grant Describe, or \
                 check kafka.topics"
            )));
            continue;
        };
        found.good(format!("topic {topic} has {partitions} partitions"));
        if found.read(topic, inspector.reads(topic, 0)) {
            if !kafka.repartition {
                keys(&inspector, config, (topic, partitions), found);
            }
            let first = first(&inspector, kafka.start, (topic, partitions), found);
            oldest = oldest.into_iter().chain(first).min();
        }
        let read = if kafka.repartition { &names.by_trace(topic) } else { topic };
        if kafka.repartition {
            found.internal(&topics, read, partitions, config);
        }
        found.internal(&topics, &names.journal(read), partitions, config);
    }
    let shards = i32::try_from(kafka.shards).unwrap_or(i32::MAX);
    for topic in [names.deltas(), names.series_journal()] {
        found.internal(&topics, &topic, shards, config);
    }
    let prefix = format!("{}-", kafka.group);
    found.findings.push(Finding::Warning(format!(
        "the rights to write to topics with the prefix {prefix}, to delete their records and to add partitions \
         cannot be checked without using them"
    )));
    Ok(oldest)
}

/// The source topics with their partitions, as far as brokers tell them.
fn sources(config: &Config, topics: &Topics, found: &mut Found) -> Vec<(String, Option<i32>)> {
    let wanted = SourceTopics::upstream(&config.kafka);
    let named = wanted.named().iter();
    let mut all: Vec<_> = named.map(|topic| (topic.clone(), found.told(topics.partitions(topic)).flatten())).collect();
    let matched = found.told(topics.matched()).unwrap_or_default();
    if matched.is_empty() && !wanted.expressions().is_empty() {
        found.findings.push(Finding::Waits(format!(
            "no topic matches {}; create one, or grant Describe on those that should match",
            wanted.expressions().join(" or ")
        )));
    }
    all.extend(matched.into_iter().map(|(topic, partitions)| (topic, Some(partitions))));
    all
}

/// Whether records can be partitioned by trace ID.
fn keys(inspector: &Inspector, config: &Config, (topic, partitions): (&str, i32), found: &mut Found) {
    let mut sum = Keys::default();
    for partition in 0..partitions.min(PARTITIONS) {
        let Some(keys) = found.told(inspector.keys(topic, partition, RECORDS)) else { return };
        sum = Keys { records: sum.records + keys.records, without: sum.without + keys.without };
    }
    let Keys { records, without } = sum;
    found.findings.push(match (records, &config.tenant_of(topic)) {
        (0, _) => Finding::Warning(format!("topic {topic} has no records yet, so its keys cannot be checked")),
        (_, TenantSource::Key) if without > 0 => {
            Finding::Waits(format!("{without} of the last {records} records have no key, and tenant.source is key"))
        }
        (_, TenantSource::Key) => Finding::Good(format!(
            "the last {records} records have keys, which name their \
                                                         tenants"
        )),
        _ if without > 0 => Finding::Warning(format!(
            "{without} of the last {records} records have no key; check that they are partitioned by trace ID. In \
             the Collector's Kafka exporter, set partition_traces_by_id: true; edges whose spans are in two \
             partitions are lost"
        )),
        _ => Finding::Good(format!("the last {records} records have keys, as expected with partitioning by trace ID")),
    });
}

/// The time of the oldest record of a topic that the group would read.
fn first(inspector: &Inspector, start: Start, (topic, partitions): (&str, i32), found: &mut Found) -> Option<Millis> {
    let committed = match inspector.committed(topic, partitions) {
        Ok(committed) => committed,
        Err(error) if error.code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
            found
                .findings
                .push(Finding::Waits(format!("{error}; grant Read on groups with the prefix of kafka.group")));
            return None;
        }
        Err(error) => {
            found.findings.push(Finding::Waits(error.to_string()));
            return None;
        }
    };
    let begins = |offset: &Option<i64>| offset.is_some() || start == Start::Earliest;
    let read = (0..).zip(committed).take(PARTITIONS.unsigned_abs() as usize).filter(|(_, offset)| begins(offset));
    let times: Vec<_> = read.map(|(partition, offset)| inspector.first(topic, partition, offset)).collect();
    times.into_iter().filter_map(|time| found.told(time).flatten()).min()
}

/// Queries every receiver that settings name, once for each address.
fn receivers(loaded: &Loaded, oldest: Option<Millis>) -> Vec<Found> {
    let all = addresses(loaded).into_iter();
    all.map(|(tenant, config)| receiver(&config, tenant, oldest)).collect()
}

/// Where a receiver of a tenant is, for people.
pub(super) fn place_of(config: &Config, tenant: &str) -> String {
    let cfg = &config.remote_write;
    let address = cfg.address();
    let url = address.split('?').next().unwrap_or_default();
    let name = if config.more_endpoints.is_empty() { String::new() } else { cfg.id() + " at " };
    match cfg.kind {
        OutputType::Kafka => format!("output {name}topic {} of {}", cfg.kafka.topic, cfg.kafka.bootstrap_servers),
        OutputType::File => format!("output {name}{url}"),
        _ => format!("receiver {name}{url} for tenant {tenant}"),
    }
}

/// Every receiver that settings name, once for each address, with the first tenant that has it, and its settings with this
/// one as the first endpoint.
pub(super) fn addresses(loaded: &Loaded) -> Vec<(&str, Config)> {
    let tenant = match &loaded.config.tenant {
        TenantSource::Static(name) => name.as_str(),
        _ => SINGLE_TENANT,
    };
    let all = std::iter::once((tenant, &loaded.config));
    let overridden = loaded.tenants.overridden().map(|(tenant, config)| (tenant, &**config));
    let mut asked: Vec<&RemoteWrite> = Vec::new();
    let mut out = Vec::new();
    for (tenant, config) in all.chain(overridden) {
        for cfg in config.endpoints() {
            let same = |other: &&RemoteWrite| {
                let of = |cfg: &RemoteWrite| (cfg.kind, cfg.address(), cfg.kafka.bootstrap_servers.clone());
                of(other) == of(cfg) && (&other.auth, &other.headers) == (&cfg.auth, &cfg.headers)
            };
            if !asked.iter().any(same) {
                asked.push(cfg);
                out.push((tenant, Config { remote_write: cfg.clone(), ..config.clone() }));
            }
        }
    }
    out
}

fn receiver(config: &Config, tenant: &str, oldest: Option<Millis>) -> Found {
    let cfg = &config.remote_write;
    let mut found = Found::new(place_of(config, tenant));
    if cfg.kind != OutputType::RemoteWrite {
        found.findings = examine(cfg, tenant);
        return found;
    }
    found.findings.push(match knock(cfg, tenant) {
        Ok((200..=299, _)) => Finding::Good("accepts a request without samples".to_owned()),
        Ok((400, text)) => Finding::Warning(format!("answers 400 to a request without samples: {text}")),
        Ok((status, text)) => Finding::Waits(format!("answers {status}: {text}; {}", verdict::remedy(status, &text))),
        Err(why) => Finding::Waits(why),
    });
    let present = wall_clock();
    let from = oldest.unwrap_or(present).min(present);
    let mode = config.core.histograms.mode;
    let (native, both) = (mode != HistogramMode::Classic, mode == HistogramMode::Both);
    let (range, step) = ((from, from), config.core.time.step.ms());
    let plan = Plan { cfg, query_url: None, tenant, range, step, native, both };
    match foresee(&plan) {
        Ok(outcome) => {
            let exemplars = config.core.series.exemplars && outcome.target == "VictoriaMetrics";
            found.findings.extend(outcome.findings);
            found.findings.extend(exemplars.then(|| {
                Finding::Warning("stores no exemplars: series.exemplars.enabled: false saves their bytes".to_owned())
            }));
        }
        Err(error) => found.findings.push(Finding::Waits(error.to_string())),
    }
    found
}

// === impl Found ===

impl Found {
    fn new(place: String) -> Self {
        Self { place, findings: Vec::new() }
    }

    fn good(&mut self, text: String) {
        self.findings.push(Finding::Good(text));
    }

    /// The answer; a failure is a finding.
    fn told<T>(&mut self, answer: Result<T, KafkaError>) -> Option<T> {
        answer.map_err(|error| self.findings.push(Finding::Waits(error.to_string()))).ok()
    }

    /// Whether a topic can be read.
    fn read(&mut self, topic: &str, read: Result<(), KafkaError>) -> bool {
        match read {
            Ok(()) => {
                self.good(format!("topic {topic} is readable"));
                true
            }
            Err(error) => {
                self.findings.push(Finding::Waits(format!("{error}; grant Read on topic {topic}")));
                false
            }
        }
    }

    /// Checks an internal topic: it has the required number of partitions, or can be created.
    fn internal(&mut self, topics: &Topics, topic: &str, wanted: i32, config: &Config) {
        let group = &config.kafka.group;
        let Some(there) = self.told(topics.partitions(topic)) else { return };
        let journal = topic.ends_with("-journal") && topic != topics.names().series_journal();
        let keeps_its_own = journal || config.kafka.repartitioned(topic).is_some();
        let finding = match there {
            None => match topics.could_create(topic, wanted) {
                Ok(()) => Finding::Good(format!("topic {topic} does not exist yet, and can be created")),
                Err(error) => Finding::Waits(format!(
                    "{error}; grant Create on topics with the prefix {group}-, or create it with {wanted} partitions"
                )),
            },
            Some(n) if n == wanted || keeps_its_own => Finding::Good(format!("topic {topic} has {n} partitions")),
            Some(n) => Finding::Waits(format!(
                "topic {topic} has {n} partitions, but kafka.shards is {wanted}: set kafka.shards to {n}, or \
                 change the number of shards with `spanmill reshard`"
            )),
        };
        self.findings.push(finding);
    }
}
