//! A source partition that the stage reads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Message as _;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, OwnedHeaders};

use super::merge::Lane;
use crate::core::model::Millis;
use crate::core::settings::Encoding;
use crate::worker::kafka::fetch::{NoRecord, Queue};
use crate::worker::kafka::members::Partition;
use crate::worker::kafka::{Fetcher, KafkaError};
use crate::worker::telemetry::Reporter;

/// The topic to which a source topic is repartitioned.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) topic: String,
    pub(super) partitions: u32,
    /// The format of the records of the source topic.
    pub(super) encoding: Encoding,
}

/// A source partition.
pub(super) struct Input {
    pub(super) partition: Partition,
    pub(super) target: Arc<Target>,
    queue: Queue,
    /// The next record, if it is there.
    pub(super) head: Option<Head>,
    /// The offset up to which the group has it.
    pub(super) committed: i64,
    /// The offset after the last record that was passed on.
    pub(super) next: i64,
    /// The time of that.
    pub(super) last: Option<Millis>,
    /// Since when there is no record.
    since: Instant,
    at_end: bool,
    /// Whether it must not be read.
    stands: bool,
    trouble: Reporter,
}

/// A record.
pub(super) struct Head {
    pub(super) offset: i64,
    pub(super) timestamp: Millis,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
    pub(super) headers: Option<OwnedHeaders>,
}

/// What reading a partition came to.
pub(super) enum Read {
    /// A record, or none now.
    Fine,
    /// The records before the next one are gone.
    Gone,
}

// === impl Input ===

impl Input {
    /// Starts reading at an offset.
    pub(super) fn open(
        fetcher: &Fetcher,
        (partition, offset, last): (Partition, i64, Option<Millis>),
        target: Arc<Target>,
        trouble: Reporter,
    ) -> Result<Self, KafkaError> {
        let queue = fetcher.open(&partition.topic, partition.partition, offset)?;
        Ok(Self {
            partition,
            target,
            queue,
            head: None,
            committed: offset,
            next: offset,
            last,
            since: Instant::now(),
            at_end: false,
            stands: false,
            trouble,
        })
    }

    /// Takes the next record, if none is there.
    pub(super) fn read(&mut self) -> Read {
        if self.head.is_some() || self.stands {
            return Read::Fine;
        }
        let Partition { topic, partition } = &self.partition;
        match self.queue.poll() {
            None => {}
            Some(Ok(message)) => {
                self.head = Some(Head::of(&message));
                self.at_end = false;
                self.trouble.met();
            }
            Some(Err(NoRecord::End)) => {
                self.at_end = true;
                self.trouble.met();
            }
            Some(Err(NoRecord::Undecompressed(failure))) => self.trouble.unmet(format!(
                "{topic}[{partition}]: the batch at offset {} cannot be decompressed ({}), so nothing behind it is \
                 repartitioned; stop the workers and move the offset of the repartition group past it with \
                 kafka-consumer-groups --reset-offsets",
                failure.begin, failure.reason
            )),
            Some(Err(NoRecord::MadeAgain)) => self.trouble.unmet(format!(
                "{topic} was deleted and re-created; stop the workers, set the offsets of the repartition group to the \
                 beginning with kafka-consumer-groups --reset-offsets --to-earliest, and start them"
            )),
            Some(Err(NoRecord::Failed(error))) => {
                if error.rdkafka_error_code() == Some(rdkafka::error::RDKafkaErrorCode::AutoOffsetReset) {
                    return Read::Gone;
                }
                self.trouble.unmet(format!("{topic}[{partition}] cannot be read: {error}"));
            }
        }
        Read::Fine
    }

    /// What is known of its next record at this moment, if none after `ceiling` may be passed on.
    pub(super) fn lane(&self, ceiling: Millis, (present, now): (Instant, Millis)) -> Lane {
        match &self.head {
            Some(head) if head.timestamp.min(now) > ceiling => Lane::Held,
            Some(head) => Lane::Has(head.timestamp),
            None if self.at_end || self.stands => Lane::AtEnd,
            None => Lane::Waits(present.saturating_duration_since(self.since), self.last),
        }
    }

    /// The time up to which it has been passed on, if that is known; the present is `now`. The time of the next record counts before it
    /// is passed on: behind a silent hour, it waits for partitions that would wait for this one.
    pub(super) fn until(&self, now: Millis) -> Option<Millis> {
        match &self.head {
            Some(head) => Some(head.timestamp.min(now)),
            None if self.at_end => Some(now - ON_ITS_WAY),
            None => self.last.map(|last| last.min(now)),
        }
    }

    /// The latest time that other partitions of the topic may pass on because of it, if it has delivered nothing for less
    /// than `patience`.
    pub(super) fn ceiling(&self, (lead, patience): (Millis, Duration), present: Instant) -> Option<Millis> {
        let waits = self.head.is_none() && !self.at_end && !self.stands;
        let waits = waits && present.saturating_duration_since(self.since) < patience;
        self.last.filter(|_| waits).map(|last| last.saturating_add(lead))
    }

    /// Whether its offset and time are to be committed.
    pub(super) fn is_read(&self) -> bool {
        !self.stands
    }

    /// Takes the next record, to pass it on.
    pub(super) fn take(&mut self) -> Option<Head> {
        let head = self.head.take()?;
        (self.next, self.last, self.since) = (head.offset + 1, Some(head.timestamp), Instant::now());
        Some(head)
    }

    /// Whether something was passed on that the group does not have yet.
    pub(super) fn is_ahead(&self) -> bool {
        self.next > self.committed
    }

    /// What was passed on is committed.
    pub(super) fn commits(&mut self) {
        self.committed = self.next;
    }

    /// Reads again from `offset`.
    pub(super) fn rewind(&mut self, fetcher: &Fetcher, offset: i64) -> Result<(), KafkaError> {
        (self.head, self.at_end, self.since) = (None, false, Instant::now());
        (self.next, self.committed) = (offset, offset);
        fetcher.restart(&self.partition.topic, self.partition.partition, offset)
    }

    /// How many records it has that are not passed on, if it ends at `end`; the last offsets may hold none.
    pub(super) fn unread(&self, end: i64) -> u64 {
        if self.at_end && self.head.is_none() { 0 } else { (end - self.next).max(0).unsigned_abs() }
    }

    /// It ends before the offset up to which the group has read it: an operator has to decide where reading continues.
    pub(super) fn stand(&mut self, end: i64) {
        let Partition { topic, partition } = &self.partition;
        self.stands = true;
        self.trouble.unmet(format!(
            "{topic}[{partition}] ends at {end}, but the repartition group has read it up to {}: it has lost its end, or was \
             re-created; stop the workers and set the offsets with kafka-consumer-groups --reset-offsets",
            self.next
        ));
    }

    /// Stops reading.
    pub(super) fn close(self, fetcher: &Fetcher) {
        fetcher.close(&self.partition.topic, self.partition.partition, self.queue);
    }
}

// === impl Head ===

impl Head {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        Self {
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or_default(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: message.headers().map(BorrowedHeaders::detach),
        }
    }
}

/// How long a record may be on its way to a partition that has been read up to its end, in milliseconds.
const ON_ITS_WAY: Millis = 1_000;
/// How often a partition is asked again whether it can be opened.
pub(super) const AGAIN: Duration = Duration::from_secs(1);
