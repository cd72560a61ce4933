//! What is different when history is replayed: every partition has a beginning and an end, time passes in the data
//! alone, and no partition runs too far ahead of the slowest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::core::journal::Event;
use crate::core::model::Millis;

/// The floor of a shard that another worker owns, and of one whose floor is not known yet.
const NOT_OURS: Millis = Millis::MIN;
const UNKNOWN: Millis = NOT_OURS + 1;

/// What to replay.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// The stretch of every partition of the source topics.
    pub ranges: BTreeMap<(String, i32), ReplayRange>,
    /// The present as it was when the replay was planned: no later time of a record is accepted.
    pub present: Millis,
    /// How far a partition may be ahead of the slowest, in milliseconds of event time. Several steps at the least.
    pub lead: Millis,
    /// How many bytes of records to read per second at most, in this process.
    pub bytes_per_second: Option<u64>,
    /// What reads along, if anything does.
    pub watch: Option<DeltaWatch>,
}

/// Gets every delta record that a shard of this process reads, with the number of the shard. Those that a new owner of a
/// source sends again come again.
#[derive(Clone)]
pub struct DeltaWatch(Arc<dyn Fn(i32, &[u8]) + Send + Sync>);

/// What to replay of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayRange {
    /// The first offset.
    pub from: i64,
    /// The offset after the last one.
    pub to: i64,
    /// Whether pending edges that wait at the end get the rest of their wait, because nothing follows in the partition.
    pub settle: bool,
    /// Events of the live group to repeat.
    pub past: Arc<[Event]>,
}

/// A replay at work.
pub(crate) struct Replaying {
    ranges: BTreeMap<(String, i32), ReplayRange>,
    present: Millis,
    lead: Millis,
    /// By shard of this worker: the stream time of the slowest source.
    floors: Vec<AtomicI64>,
    pace: Option<Pace>,
    watch: Option<DeltaWatch>,
}

/// Limits the bytes per second. A single record may exceed the limit; then the next ones wait.
struct Pace {
    per_second: f64,
    balance: Mutex<(Instant, f64)>,
}

// === impl DeltaWatch ===

impl DeltaWatch {
    /// Calls `hear` from the threads of the shards, which wait for it.
    pub fn new(hear: impl Fn(i32, &[u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }
}

impl std::fmt::Debug for DeltaWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeltaWatch")
    }
}

// === impl Replaying ===

impl Replaying {
    pub(crate) fn new(replay: Replay, shards: u32) -> Self {
        Self {
            ranges: replay.ranges,
            present: replay.present,
            lead: replay.lead,
            floors: (0..shards).map(|_| AtomicI64::new(NOT_OURS)).collect(),
            pace: replay.bytes_per_second.map(Pace::new),
            watch: replay.watch,
        }
    }

    /// A shard has read a delta record.
    pub(crate) fn hear(&self, shard: i32, record: &[u8]) {
        if let Some(DeltaWatch(hear)) = &self.watch {
            hear(shard, record);
        }
    }

    /// The present of the plan: a worker's own would give another result on another day.
    pub(crate) fn present(&self) -> Millis {
        self.present
    }

    /// The source topics with the number of their partitions.
    pub(crate) fn sources(&self) -> Vec<(String, i32)> {
        let mut topics: BTreeMap<&str, i32> = BTreeMap::new();
        for (topic, partition) in self.ranges.keys() {
            let partitions = topics.entry(topic).or_default();
            *partitions = (*partitions).max(partition + 1);
        }
        topics.into_iter().map(|(topic, partitions)| (topic.to_owned(), partitions)).collect()
    }

    /// The stretch of a partition; `None` for one that has been added to its topic since the replay was planned.
    pub(crate) fn range(&self, topic: &str, partition: i32) -> Option<&ReplayRange> {
        self.ranges.get(&(topic.to_owned(), partition))
    }

    /// A shard of this worker knows how far the slowest source is, or does not know it yet.
    pub(crate) fn tell_floor(&self, shard: i32, slowest: Option<Millis>) {
        self.set_floor(shard, slowest.unwrap_or(UNKNOWN));
    }

    /// A shard is closed.
    pub(crate) fn forget_floor(&self, shard: i32) {
        self.set_floor(shard, NOT_OURS);
    }

    fn set_floor(&self, shard: i32, at: Millis) {
        if let Some(floor) = usize::try_from(shard).ok().and_then(|shard| self.floors.get(shard)) {
            floor.store(at, Ordering::Relaxed);
        }
    }

    /// Whether a partition that began at `begun` and is at `now` should wait for the others. Until their delta records
    /// have come, it may advance as far from its own beginning. A worker without a shard cannot know, and does not
    /// wait.
    pub(crate) fn is_ahead(&self, begun: Millis, now: Millis) -> bool {
        let from = match self.floors.iter().map(|floor| floor.load(Ordering::Relaxed)).max() {
            None | Some(NOT_OURS) => return false,
            Some(UNKNOWN) => begun,
            Some(floor) => floor,
        };
        now > from.saturating_add(self.lead)
    }

    /// Whether more may be read now.
    pub(crate) fn may_read(&self) -> bool {
        self.pace.as_ref().is_none_or(|pace| pace.allows(Instant::now()))
    }

    /// A record has been read.
    pub(crate) fn has_read(&self, bytes: usize) {
        if let Some(pace) = &self.pace {
            pace.spend(bytes);
        }
    }
}

// === impl Pace ===

impl Pace {
    fn new(per_second: u64) -> Self {
        let per_second = per_second.max(1) as f64;
        Self { per_second, balance: Mutex::new((Instant::now(), 0.0)) }
    }

    fn allows(&self, present: Instant) -> bool {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = present.saturating_duration_since(balance.0).as_secs_f64() * self.per_second;
        // Unused budget older than a tenth of a second expires: a pause is not followed by a burst.
        *balance = (present, (balance.1 + earned).min(self.per_second / 10.0));
        balance.1 >= 0.0
    }

    fn spend(&self, bytes: usize) {
        self.balance.lock().unwrap_or_else(PoisonError::into_inner).1 -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_partition_waits_for_the_slowest_that_any_shard_knows_of() {
        let replaying = Replaying::new(Replay { lead: 100, ..Replay::default() }, 2);
        assert!(!replaying.is_ahead(0, 1_000_000), "without a shard it is unknown");
        replaying.tell_floor(1, None);
        assert!(!replaying.is_ahead(1_000, 1_100) && replaying.is_ahead(1_000, 1_101), "the others have not spoken");
        replaying.tell_floor(0, Some(1_050));
        replaying.tell_floor(1, Some(1_040));
        assert!(!replaying.is_ahead(0, 1_150) && replaying.is_ahead(0, 1_151));
        replaying.forget_floor(0);
        assert!(replaying.is_ahead(0, 1_141));
    }

    #[test]
    fn a_pace_is_kept_whatever_the_size_of_records() {
        let pace = Pace::new(1_000);
        let start = pace.balance.lock().expect("ours").0;
        let (mut read, mut now) = (0, start);
        while now < start + Duration::from_secs(10) {
            if pace.allows(now) {
                pace.spend(700);
                read += 700;
            }
            now += Duration::from_millis(1);
        }
        assert!((9_300..=10_800).contains(&read), "{read}");
    }

    #[test]
    fn the_sources_of_a_replay_are_those_of_its_stretches() {
        let ranges = [("b", 0), ("a", 0), ("a", 1)].map(|(t, p)| ((t.to_owned(), p), ReplayRange::default()));
        let replay = Replay { ranges: ranges.into(), ..Replay::default() };
        assert_eq!(Replaying::new(replay, 1).sources(), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    }
}
