//! Membership in the consumer group: which partitions this worker is to work on.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata, RebalanceProtocol,
};
use rdkafka::error::KafkaError as RdError;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::client::{self, KafkaError};
use super::fed::Fed;
use super::pulse::{self, Pulse};
use crate::config::settings::Kafka;
use crate::core::model::Millis;

/// Marks a committed offset as written by spanmill. The journal decides where a task starts; the group's offsets are
/// for lag dashboards, for an operator's instructions, and as evidence of how far the journal once reached.
const COMMIT_MARK: &str = "spanmill";
/// How long the group may take to return an offset.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many events of a group are served at once; those that are left wait for the next time.
const EVENTS: usize = 8;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// What the group has as the offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupOffset {
    /// This program wrote it, after the journal had accepted that much.
    Ours(i64),
    /// Another program wrote it: an instruction.
    Foreign(i64),
}

/// The offset of a partition that the group of a consumer has.
pub(super) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    p: &Partition,
) -> Result<Option<GroupOffset>, KafkaError> {
    let mut list = TopicPartitionList::new();
    list.add_partition(&p.topic, p.partition);
    let what = || format!("read the group's offset of {}[{}]", p.topic, p.partition);
    let found = consumer.committed_offsets(list, TIMEOUT).map_err(|e| KafkaError::request(what(), e))?;
    Ok(found.elements().iter().find_map(|e| match e.offset() {
        Offset::Offset(offset) if e.metadata() == COMMIT_MARK => Some(GroupOffset::Ours(offset)),
        Offset::Offset(offset) => Some(GroupOffset::Foreign(offset)),
        _ => None,
    }))
}

/// Receives the decisions of the group, on the thread that polls. A revocation must return only after the partitions
/// are closed.
pub trait OnChange: Send + Sync {
    /// This member now owns these partitions.
    fn assigned(&self, partitions: Vec<Partition>);
    /// These partitions are to be handed over; `lost` when another worker already owns them.
    fn revoked(&self, partitions: Vec<Partition>, lost: bool);
}

/// One member of the group. It owns partitions and fetches nothing.
pub struct Member {
    consumer: Fed<BaseConsumer<MemberEvents>>,
    group: String,
    /// What it joins for; topics may come and go.
    topics: Mutex<Vec<String>>,
    /// Whether it never joins, and only asks.
    observes: bool,
}

struct MemberEvents {
    on_change: Box<dyn OnChange>,
    /// Covers what is owned now, so that leaving can revoke all of it.
    owned: Mutex<Vec<Partition>>,
    pulse: Mutex<Pulse>,
}

// === impl MemberEvents ===

impl ClientContext for MemberEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::log(level, facility, text);
    }

    fn error(&self, error: RdError, reason: &str) {
        client::report(&error, reason);
        let why = client::told(&error, reason);
        self.pulse(|pulse| pulse.failed(&error, why));
    }

    fn stats(&self, statistics: Statistics) {
        self.pulse(|pulse| pulse.learn(&statistics, Instant::now()));
    }
}

impl ConsumerContext for MemberEvents {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoke(consumer, list),
            _ => Ok(()),
        };
        if let Err(error) = done {
            tracing::error!(%error, "rebalance failed; the group will retry it");
        }
    }

    fn commit_callback(&self, result: Result<(), RdError>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "cannot commit offsets to the group (they are for lag dashboards only)");
        }
    }
}

impl MemberEvents {
    fn pulse(&self, change: impl FnOnce(&mut Pulse)) {
        change(&mut self.pulse.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<(), RdError> {
        // Position at the end and pause: this consumer must not fetch.
        let mut idle = TopicPartitionList::new();
        for e in list.elements() {
            idle.add_partition_offset(e.topic(), e.partition(), Offset::End)?;
        }
        if matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative) {
            consumer.incremental_assign(&idle)?;
        } else {
            consumer.assign(&idle)?;
        }
        consumer.pause(&idle)?;
        let partitions = partitions(list);
        if let Ok(mut owned) = self.owned.lock() {
            owned.extend(partitions.iter().cloned());
        }
        self.on_change.assigned(partitions);
        Ok(())
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<(), RdError> {
        let partitions = partitions(list);
        if let Ok(mut owned) = self.owned.lock() {
            owned.retain(|p| !partitions.contains(p));
        }
        self.on_change.revoked(partitions, consumer.assignment_lost());
        if matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative) {
            consumer.incremental_unassign(list)
        } else {
            consumer.unassign()
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|e| Partition { topic: e.topic().to_owned(), partition: e.partition() }).collect()
}

// === impl Member ===

impl Member {
    /// Joins `group` for `topics`. The calling thread is the one that has to serve the member: what happens in the group
    /// unparks it.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn join(
        kafka: &Kafka,
        group: &str,
        topics: Vec<String>,
        on_change: Box<dyn OnChange>,
    ) -> Result<Self, KafkaError> {
        let member = Self::new(kafka, group, (topics, false), on_change)?;
        member.rejoin()?;
        Ok(member)
    }

    /// Joins no group, and answers what can be asked about `group`. The calling thread has to serve it as a member.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn observe(kafka: &Kafka, group: &str, on_change: Box<dyn OnChange>) -> Result<Self, KafkaError> {
        Self::new(kafka, group, (Vec::new(), true), on_change)
    }

    fn new(
        kafka: &Kafka,
        group: &str,
        (topics, observes): (Vec<String>, bool),
        on_change: Box<dyn OnChange>,
    ) -> Result<Self, KafkaError> {
        let pulse = Mutex::new(Pulse::new(kafka, Instant::now()));
        let context = MemberEvents { on_change, owned: Mutex::new(Vec::new()), pulse };
        let mut config = client::member(kafka, group);
        config.set("statistics.interval.ms", pulse::TELL_EVERY.as_millis().to_string());
        let mut consumer: BaseConsumer<MemberEvents> = BaseConsumer::from_config_and_context(&config, context)
            .map_err(|e| KafkaError::client("group member", e))?;
        let thread = std::thread::current();
        consumer.set_nonempty_callback(move || thread.unpark());
        let consumer = Fed::new(consumer, &config);
        Ok(Self { consumer, group: group.to_owned(), topics: Mutex::new(topics), observes })
    }

    /// Whether it never joins the group.
    #[must_use]
    pub fn observes(&self) -> bool {
        self.observes
    }

    /// Leaves the group until [`Self::rejoin`]; owned partitions are revoked while the group is served. A static member
    /// does not send a leave request: its session has to expire.
    pub fn leave(&self) {
        self.consumer.context().pulse(|pulse| pulse.leaves(true));
        self.consumer.unsubscribe();
    }

    /// Joins the group again.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn rejoin(&self) -> Result<(), KafkaError> {
        self.consumer.context().pulse(|pulse| pulse.leaves(false));
        self.subscribe()
    }

    /// From now on, this member works for `topics`. What it keeps of them stays with it; while it has `left`, it joins for
    /// them later.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn follow(&self, topics: Vec<String>, left: bool) -> Result<(), KafkaError> {
        let mut known = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == topics {
            return Ok(());
        }
        *known = topics;
        drop(known);
        if left { Ok(()) } else { self.subscribe() }
    }

    /// By name, also where topics are matched: a regular expression of librdkafka would take internal topics as well, and
    /// would be given partitions before they have journals.
    fn subscribe(&self) -> Result<(), KafkaError> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(|e| KafkaError::request("subscribe", e))
    }

    /// How many members the group has.
    ///
    /// # Errors
    /// When the group does not answer.
    pub fn size(&self) -> Result<usize, KafkaError> {
        let what = || format!("look at the members of {}", self.group);
        let list = self.consumer.fetch_group_list(Some(&self.group), TIMEOUT);
        let list = list.map_err(|e| KafkaError::request(what(), e))?;
        let group = list.groups().iter().find(|group| group.name() == self.group);
        Ok(group.map_or(0, |group| group.members().len()))
    }

    /// Serves what has happened in the group, such as rebalances; returns the last error. Never waits: a poll with a timeout
    /// spins during its last millisecond. To be called repeatedly by the thread that joined.
    pub fn serve(&self) -> Option<RdError> {
        let mut last = None;
        // A poll serves one event, and does not return whether there was one.
        for _ in 0..EVENTS {
            let Some(Err(error)) = self.consumer.poll(Duration::ZERO) else { continue };
            let why = client::told(&error, &error.to_string());
            self.consumer.context().pulse(|pulse| pulse.failed(&error, why));
            last = Some(error);
        }
        last
    }

    /// The state of the membership as far as it is known.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.consumer.context().pulse.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Commits the positions of the journals to the group, for lag dashboards.
    pub fn commit(&self, positions: &[(Partition, i64)]) {
        let mut list = TopicPartitionList::new();
        for (p, offset) in positions {
            let mut element = list.add_partition(&p.topic, p.partition);
            element.set_metadata(COMMIT_MARK);
            if let Err(error) = element.set_offset(Offset::Offset(*offset)) {
                tracing::debug!(%error, "offset not committed");
                return;
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "cannot commit offsets to the group (they are for lag dashboards only)");
        }
    }

    /// The committed offset of a partition, if there is one.
    ///
    /// # Errors
    /// When the group does not answer.
    pub fn committed(&self, p: &Partition) -> Result<Option<GroupOffset>, KafkaError> {
        committed(&self.consumer, p)
    }

    /// Where partitions end, in one request to each of their leaders. One whose leader does not answer is skipped.
    ///
    /// # Errors
    /// When no broker answers within a second.
    pub fn ends(&self, partitions: &[Partition]) -> Result<Vec<(Partition, i64)>, KafkaError> {
        self.offsets_of(partitions, Offset::End)
    }

    /// The first offset of each partition whose record has this time or a later one; its end if there is none.
    ///
    /// # Errors
    /// When no broker answers within a second.
    pub fn offsets_at(&self, partitions: &[Partition], time: Millis) -> Result<Vec<(Partition, i64)>, KafkaError> {
        let found = self.offsets_of(partitions, Offset::Offset(time))?;
        let without: Vec<_> = partitions.iter().filter(|p| !found.iter().any(|(q, _)| q == *p)).cloned().collect();
        let ends = if without.is_empty() { Vec::new() } else { self.ends(&without)? };
        Ok(found.into_iter().chain(ends).collect())
    }

    fn offsets_of(&self, partitions: &[Partition], wanted: Offset) -> Result<Vec<(Partition, i64)>, KafkaError> {
        let failed = |e| KafkaError::request("look up offsets of partitions", e);
        let mut list = TopicPartitionList::new();
        for p in partitions {
            list.add_partition_offset(&p.topic, p.partition, wanted).map_err(failed)?;
        }
        let found = self.consumer.offsets_for_times(list, Duration::from_secs(1)).map_err(failed)?;
        let end = |e: &TopicPartitionListElem<'_>| match (e.error(), e.offset()) {
            (Ok(()), Offset::Offset(end)) => {
                Some((Partition { topic: e.topic().to_owned(), partition: e.partition() }, end))
            }
            _ => None,
        };
        Ok(found.elements().iter().filter_map(end).collect())
    }

    /// Commits an offset with this program's mark, and waits for it.
    ///
    /// # Errors
    /// When the group refuses it, for instance because another member has the partition.
    pub fn mark(&self, p: &Partition, offset: i64) -> Result<(), KafkaError> {
        let what = || format!("commit the group's offset of {}[{}]", p.topic, p.partition);
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&p.topic, p.partition);
        element.set_metadata(COMMIT_MARK);
        element.set_offset(Offset::Offset(offset)).map_err(|e| KafkaError::request(what(), e))?;
        self.consumer.commit(&list, CommitMode::Sync).map_err(|e| KafkaError::request(what(), e))
    }

    /// The present membership, for transactions; `None` if there is none. The coordinator refuses what is committed with it
    /// once it is another.
    #[must_use]
    pub fn metadata(&self) -> Option<ConsumerGroupMetadata> {
        let metadata = self.consumer.group_metadata()?;
        // After an eviction, librdkafka has forgotten its ID: a broker checks nothing of a commit that has none. It marks the
        // assignment as lost in the same step, so asking for that afterwards shows it.
        (self.joined() && !self.consumer.assignment_lost()).then_some(metadata)
    }

    /// What this member owns now.
    #[must_use]
    pub fn owned(&self) -> Vec<Partition> {
        self.consumer.context().owned.lock().map(|o| o.clone()).unwrap_or_default()
    }

    /// An error after which this member is out of the group permanently.
    #[must_use]
    pub fn fatal(&self) -> Option<String> {
        self.consumer.client().fatal_error().map(|(_, text)| text)
    }

    /// Whether the member has joined the group: it has an assignment, possibly an empty one.
    #[must_use]
    pub fn joined(&self) -> bool {
        !matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::None)
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Member")
    }
}
