//! The logs, and the channels through which records and acknowledgements crawl.

use std::collections::VecDeque;
use std::rc::Rc;

use super::rng::Rng;

/// A partition of some topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Journal(usize),
    Deltas(usize),
    SeriesJournal(usize),
}

/// An append-only log whose offsets may skip, as brokers' do. Nothing is ever forgotten: `start` only hides it.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) all: Vec<(i64, Rc<[u8]>)>,
    pub(crate) start: i64,
    end: i64,
}

/// One producer's way to one log: in order, and still moving when its owner is dead.
pub(crate) struct Channel {
    topic: Topic,
    queue: VecDeque<Vec<u8>>,
    acks: VecDeque<Option<i64>>,
}

pub(crate) struct Net {
    journals: Vec<Log>,
    deltas: Vec<Log>,
    series_journals: Vec<Log>,
    pub(crate) channels: Vec<Channel>,
    /// Whether records and acknowledgements get lost or doubled.
    pub(crate) lossy: bool,
    pub(crate) troubles: usize,
    /// Claims that were given up while they were under way.
    pub(crate) late_claims: usize,
    /// Records that were stored behind the next one of their channel.
    pub(crate) swapped: usize,
}

// === impl Log ===

impl Log {
    /// The offset after the last record.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// The records that are left with `from <= offset < to`.
    pub(crate) fn read(&self, from: i64, to: i64) -> &[(i64, Rc<[u8]>)] {
        let at = |offset: i64| self.all.partition_point(|&(o, _)| o < offset);
        let from = at(from.max(self.start));
        &self.all[from..at(to).max(from)]
    }

    /// Deletes what lies below `offset`.
    pub(crate) fn cut(&mut self, offset: i64) {
        self.start = self.start.max(offset);
    }

    /// Loses the last `n` records, acknowledged or not. Their offsets are assigned again.
    pub(crate) fn lose_end(&mut self, n: usize) {
        self.all.truncate(self.all.len().saturating_sub(n));
        self.end = self.all.last().map_or(0, |(offset, _)| offset + 1).max(self.start);
    }

    fn append(&mut self, record: &[u8], skip: bool) -> i64 {
        let offset = self.end + i64::from(skip && self.end > 0);
        self.all.push((offset, record.into()));
        self.end = offset + 1;
        offset
    }
}

// === impl Net ===

impl Net {
    pub(crate) fn new(partitions: usize, shards: usize) -> Self {
        let logs = |n| (0..n).map(|_| Log::default()).collect();
        Self {
            journals: logs(partitions),
            deltas: logs(shards),
            series_journals: logs(shards),
            channels: Vec::new(),
            lossy: true,
            troubles: 0,
            late_claims: 0,
            swapped: 0,
        }
    }

    pub(crate) fn log(&self, topic: Topic) -> &Log {
        match topic {
            Topic::Journal(p) => &self.journals[p],
            Topic::Deltas(s) => &self.deltas[s],
            Topic::SeriesJournal(s) => &self.series_journals[s],
        }
    }

    pub(crate) fn log_mut(&mut self, topic: Topic) -> &mut Log {
        match topic {
            Topic::Journal(p) => &mut self.journals[p],
            Topic::Deltas(s) => &mut self.deltas[s],
            Topic::SeriesJournal(s) => &mut self.series_journals[s],
        }
    }

    /// A fresh channel; the earlier one is abandoned.
    pub(crate) fn open(&mut self, topic: Topic) -> usize {
        self.channels.push(Channel { topic, queue: VecDeque::new(), acks: VecDeque::new() });
        self.channels.len() - 1
    }

    pub(crate) fn send(&mut self, channel: usize, records: impl IntoIterator<Item = Vec<u8>>) {
        self.channels[channel].queue.extend(records);
    }

    pub(crate) fn ack(&mut self, channel: usize) -> Option<Option<i64>> {
        self.channels[channel].acks.pop_front()
    }

    /// Whether nothing is under way in any channel.
    pub(crate) fn is_quiet(&self) -> bool {
        self.channels.iter().all(|c| c.queue.is_empty())
    }

    /// Whether something is under way in this channel.
    pub(crate) fn is_under_way(&self, channel: usize) -> bool {
        !self.channels[channel].queue.is_empty()
    }

    /// What is still under way never arrives.
    pub(crate) fn drop_queue(&mut self, channel: usize) {
        self.channels[channel].queue.clear();
    }

    /// Stores the two oldest records of a channel the other way round, as a producer may after its epoch was bumped. They are
    /// acknowledged in their own order.
    fn swap(&mut self, rng: &mut Rng, channel: usize) -> bool {
        let Channel { topic, queue, .. } = &mut self.channels[channel];
        if queue.len() < 2 {
            return false;
        }
        let (topic, records) = (*topic, [queue.pop_front(), queue.pop_front()].map(Option::unwrap_or_default));
        let log = self.log_mut(topic);
        let second = log.append(&records[1], rng.chance(4));
        let first = log.append(&records[0], false);
        self.channels[channel].acks.extend([Some(first), Some(second)]);
        self.swapped += 1;
        true
    }

    /// Moves the oldest record of a channel.
    pub(crate) fn step(&mut self, rng: &mut Rng, channel: usize) {
        if self.lossy && rng.below(100) < 2 && self.swap(rng, channel) {
            return;
        }
        let Channel { topic, queue, .. } = &mut self.channels[channel];
        let (topic, Some(record)) = (*topic, queue.pop_front()) else {
            return;
        };
        let fate = if self.lossy { rng.below(100) } else { 99 };
        let skip = rng.chance(4);
        self.troubles += usize::from(fate < 7);
        let log = self.log_mut(topic);
        let ack = match fate {
            0..2 => None,
            2..5 => {
                log.append(&record, skip);
                None
            }
            5..7 => {
                let first = log.append(&record, skip);
                let second = log.append(&record, false);
                Some(if fate == 5 { first } else { second })
            }
            _ => Some(log.append(&record, skip)),
        };
        self.channels[channel].acks.push_back(ack);
    }
}
