//! The state of a group in Kafka: source partitions and shards with their journals, and who owns them.

use std::collections::BTreeMap;

use rdkafka::message::Message as _;

use super::report::{Kind, Report, Row};
use super::sending::Sending;
use crate::config::Config;
use crate::core::journal::{SeriesFold, SpanFold};
use crate::core::model::Millis;
use crate::worker::kafka::inspect::Inspector;
use crate::worker::kafka::reader::Stretch;
use crate::worker::kafka::scan::Scanner;
use crate::worker::kafka::topics::Topics;
use crate::worker::kafka::{JournalFold, KafkaError, TopicNames};

/// Queries Kafka, as often as the flags ask.
pub(in crate::cli) struct Looker {
    topics: Topics,
    scanner: Scanner,
    spans: Inspector,
    shards: Inspector,
    names: TopicNames,
    group: String,
    shard_count: i32,
    max_lag: Millis,
}

/// What a journal holds.
struct Held<T> {
    state: Result<T, String>,
    records: u64,
    bytes: u64,
    /// When its last record was written.
    written: Option<Millis>,
}

/// Who owns which partition; `None` if the brokers do not report it.
type Owners = Option<BTreeMap<(String, i32), String>>;

// === impl Looker ===

impl Looker {
    pub(in crate::cli) fn new(config: &Config) -> Result<Self, KafkaError> {
        let kafka = &config.kafka;
        let topics = Topics::new(kafka)?;
        let names = topics.names().clone();
        Ok(Self {
            topics,
            scanner: Scanner::new(kafka)?,
            spans: Inspector::new(kafka, &kafka.group)?,
            shards: Inspector::new(kafka, &names.shards_group())?,
            group: kafka.group.clone(),
            shard_count: i32::try_from(kafka.shards).unwrap_or(i32::MAX),
            max_lag: config.admin.ready_max_lag,
            names,
        })
    }

    /// Examines all partitions; the present time is `now`.
    pub(in crate::cli) fn look(&mut self, now: Millis) -> Result<Report, KafkaError> {
        let owners = [self.spans.owners(&self.group), self.shards.owners(&self.names.shards_group())];
        let [spans, shards] = owners.map(|owners| {
            owners.inspect_err(|error| tracing::debug!(%error, "the brokers do not tell the owners of partitions")).ok()
        });
        self.topics.enter_sharding()?;
        let mut report = Report::new(self.group.clone(), now, self.max_lag);
        let sources = self.topics.sources()?;
        if sources.is_empty() {
            report.problem("no topic matches kafka.topics, or this client may not describe it".to_owned());
        }
        for (source, partitions) in &sources {
            self.source((source, *partitions), &spans, &mut report)?;
        }
        self.all_shards(&shards, &mut report)?;
        Ok(report)
    }

    fn source(
        &self,
        (topic, partitions): (&str, Option<i32>),
        owners: &Owners,
        report: &mut Report,
    ) -> Result<(), KafkaError> {
        let Some(partitions) = partitions else {
            report.problem(format!("source topic {topic} does not exist, or may not be described"));
            return Ok(());
        };
        let journal = self.names.journal(topic);
        let journals = self.topics.partitions(&journal)?.unwrap_or(0);
        for partition in 0..partitions {
            let (low, end) = self.scanner.bounds(topic, partition)?;
            let mut row = Row::new(Kind::Source, topic, partition, (low, end));
            row.owned_by(owners);
            if partition < journals {
                let held = self.journal::<SpanFold>(&journal, partition)?;
                row.held(&held.state.as_ref().map(|state| (state.next, state.stream_time)), &held.sizes());
            }
            report.add(row);
        }
        Ok(())
    }

    fn all_shards(&self, owners: &Owners, report: &mut Report) -> Result<(), KafkaError> {
        let (deltas, journal) = (self.names.deltas(), self.names.series_journal());
        let Some(partitions) = self.topics.partitions(&deltas)? else {
            report.problem(format!("topic {deltas} does not exist: no worker of the group has run yet"));
            return Ok(());
        };
        if partitions != self.shard_count {
            report.problem(format!("kafka.shards is {}, but {deltas} has {partitions} partitions", self.shard_count));
        }
        let journals = self.topics.partitions(&journal)?.unwrap_or(0);
        for partition in 0..partitions {
            let bounds = self.scanner.bounds(&deltas, partition)?;
            let mut row = Row::new(Kind::Shard, &deltas, partition, bounds);
            row.owned_by(owners);
            if partition < journals {
                let held = self.journal::<SeriesFold>(&journal, partition)?;
                let closed = held.state.as_ref().map(|state| {
                    let snapshot = state.snapshot.as_ref().map(|snapshot| (snapshot.step, snapshot.deltas_offset));
                    let mark = state.marks.last().map(|(_, mark)| mark.step);
                    (state.next.or(snapshot.map(|(_, offset)| offset)), mark.or(snapshot.map(|(step, _)| step)))
                });
                row.held(&closed, &held.sizes());
                row.sending = held.state.as_ref().ok().map(Sending::of);
            }
            report.add(row);
        }
        Ok(())
    }

    /// Reads what a journal holds. One that has been in use for a while has lost its beginning, and may lose more of it while
    /// it is read: then what is left is the journal.
    fn journal<F: JournalFold>(&self, topic: &str, partition: i32) -> Result<Held<F::State>, KafkaError> {
        let (from, to) = self.scanner.bounds(topic, partition)?;
        let mut fold = if from > 0 { F::after_cut() } else { F::default() };
        let (mut damaged, mut records, mut bytes, mut written, mut next) = (None, 0, 0, None, from);
        self.scanner.read::<KafkaError>(Stretch { topic, partition, from, to }, &mut |record| {
            if record.offset() != next {
                (fold, damaged, records, bytes) = (F::after_cut(), None, 0, 0);
            }
            next = record.offset() + 1;
            let value = record.payload().unwrap_or_default();
            records += 1;
            bytes += value.len() as u64;
            written = record.timestamp().to_millis().or(written);
            if damaged.is_none() {
                damaged = fold.add(record.offset(), value).err();
            }
            Ok(())
        })?;
        let state = damaged.map_or_else(|| fold.state(), Err).map_err(|error| error.to_string());
        Ok(Held { state, records, bytes, written })
    }
}

// === impl Held ===

impl<T> Held<T> {
    fn sizes(&self) -> (u64, u64, Option<Millis>) {
        (self.records, self.bytes, self.written)
    }
}
