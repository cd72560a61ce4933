//! Filling a map from a group's internal topics, as they grow.
//!
//! *In:* the deltas topic, snapshots of the series journal. *Out:* a map that is up to date. *Owner:* a thread.
//! *Never:* a member of a group, a write, an offset that is committed: any number of them can follow a group without an
//! effect on it.
//!
//! A sender names a label set that it has mentioned before, so the first records may name sets whose labels were sent
//! long ago. The snapshots of the shards have them.

#![allow(clippy::disallowed_methods, reason = "an edge: it waits for brokers by the clock")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::SharedMap;
use crate::config::Tenants;
use crate::core::journal::{JournalError, SeriesFold};
use crate::core::model::{Millis, Seed};
use crate::core::tasks::series::{SeriesSettings, SeriesTask};
use crate::tools::map::Gap;
use crate::worker::kafka::follow::Followed;
use crate::worker::kafka::scan::Scanner;
use crate::worker::kafka::topics::Topics;
use crate::worker::kafka::{Follower, JournalFold, JournalLog, KafkaError, LogReader, TopicNames};

/// How long the follower waits for records before it checks anything else.
const POLL: Duration = Duration::from_millis(200);
/// How often old points are dropped.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// How often snapshots are read for labels that are missing.
const LEARN_EVERY: Duration = Duration::from_secs(30);
/// The pause after an error.
const PAUSE: Duration = Duration::from_secs(2);

/// How far a follower is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FollowState {
    /// It reads what was there when it began.
    #[default]
    Reading,
    /// It has read all of that, and continues.
    UpToDate,
    /// It retries: this is wrong.
    Failing(String),
}

/// Follows a group until it is dropped.
#[derive(Debug)]
pub struct Follow {
    stop: Arc<AtomicBool>,
    state: Arc<Mutex<FollowState>>,
    thread: Option<JoinHandle<()>>,
}

/// Why a group cannot be followed now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// Kafka does not answer, or refuses.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// No worker has created it yet.
    #[error("topic {0} does not exist; start a worker of this group, or check kafka.group")]
    NoTopic(String),
    /// A journal cannot be read.
    #[error("the journal of shard {0} is damaged: {1}")]
    Journal(i32, JournalError),
}

struct Thread {
    map: SharedMap,
    tenants: Arc<Tenants>,
    names: TopicNames,
    /// How far back the topic is read; 0: as far as it reaches.
    since: Millis,
    stop: Arc<AtomicBool>,
    state: Arc<Mutex<FollowState>>,
    /// The ends of the partitions when it began, until it has passed them.
    ends: BTreeMap<i32, i64>,
    /// The present problem.
    trouble: Option<Gap>,
}

// === impl Follow ===

impl Follow {
    /// Follows the group of the configuration from `since` on, as far as its topics reach back.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(tenants: Arc<Tenants>, map: SharedMap, since: Millis) -> std::io::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let names = TopicNames::new(&tenants.defaults().kafka.group);
        let state = Arc::<Mutex<FollowState>>::default();
        let mut thread = Thread {
            map,
            tenants,
            names,
            since,
            stop: Arc::clone(&stop),
            state: Arc::clone(&state),
            ends: BTreeMap::new(),
            trouble: None,
        };
        let thread = std::thread::Builder::new().name("follow".to_owned()).spawn(move || thread.run())?;
        Ok(Self { stop, state, thread: Some(thread) })
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> FollowState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Its result is the map.
        self.thread.take().map(JoinHandle::join).and_then(Result::ok);
    }
}

// === impl Thread ===

impl Thread {
    fn is(&self, state: FollowState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn run(&mut self) {
        let mut follower: Option<Follower> = None;
        while !self.stopped() {
            let ended = match &mut follower {
                Some(follower) => self.follow(follower),
                None => self.begin().map(|new| follower = Some(new)),
            };
            match ended {
                Ok(()) => {}
                Err(FollowError::Kafka(KafkaError::Stopping)) => return,
                Err(error) => self.say(&error),
            }
        }
    }

    /// Reports the problem, once, and waits briefly.
    fn say(&mut self, error: &FollowError) {
        let gap = Gap(error.to_string());
        if self.trouble.as_ref() != Some(&gap) {
            self.clear();
            self.is(FollowState::Failing(error.to_string()));
            tracing::warn!(%error, "the map is not up to date, retrying");
            self.map.lock().lacks(gap.clone());
            self.trouble = Some(gap);
        }
        let until = Instant::now() + PAUSE;
        while !self.stopped() && Instant::now() < until {
            // No event reports that a broker is back.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn clear(&mut self) {
        if let Some(gap) = self.trouble.take() {
            self.map.lock().has(&gap);
            self.is(if self.ends.is_empty() { FollowState::UpToDate } else { FollowState::Reading });
        }
    }

    fn begin(&mut self) -> Result<Follower, FollowError> {
        let tenants = Arc::clone(&self.tenants);
        let kafka = &tenants.defaults().kafka;
        let topics = Topics::new(kafka)?.named(&self.names);
        topics.enter_sharding()?;
        let topic = self.names.deltas();
        let shards = topics.partitions(&topic)?.ok_or_else(|| FollowError::NoTopic(topic.clone()))?;
        self.map.lock().expect((0..shards).map(i32::unsigned_abs));
        let scanner = Scanner::new(kafka)?;
        let mut from = BTreeMap::new();
        self.ends.clear();
        for shard in 0..shards {
            let (low, high) = scanner.bounds(&topic, shard)?;
            let start = match self.since {
                ..=0 => low,
                since => scanner.offset_at(&topic, shard, since)?.unwrap_or(high),
            };
            from.insert(shard, start.clamp(low, high.max(low)));
            self.ends.insert(shard, high);
        }
        self.learn(shards)?;
        let follower = Follower::new(kafka, &topic, from)?;
        self.clear();
        Ok(follower)
    }

    /// Reads the labels of label sets from the snapshots.
    fn learn(&self, shards: i32) -> Result<(), FollowError> {
        let reader = LogReader::new(&self.tenants.defaults().kafka)?;
        let topic = self.names.series_journal();
        for partition in 0..shards {
            let log = JournalLog { reader: &reader, topic: &topic, partition, to: None, stop: &self.stop };
            let fold: SeriesFold = log.fold(|error| FollowError::Journal(partition, error))?;
            let state = fold.state().map_err(|error| FollowError::Journal(partition, error))?;
            let Some(snapshot) = state.snapshot else { continue };
            let settings = SeriesSettings::from(&*self.tenants).seeded(Seed::new(rand::random()));
            let task = match SeriesTask::restore(settings, &snapshot.body) {
                Ok(task) => task,
                Err(error) => {
                    let gap = format!("the snapshot of shard {partition} cannot be read: {error}");
                    self.map.lock().lacks(Gap(gap));
                    continue;
                }
            };
            let mut map = self.map.lock();
            task.each_label_set(&mut |name, tenant, family, block, mentioned| {
                map.learn(name, tenant, family, block, mentioned);
            });
        }
        Ok(())
    }

    fn follow(&mut self, follower: &mut Follower) -> Result<(), FollowError> {
        let (mut tidied, mut learned) = (Instant::now(), Instant::now());
        while !self.stopped() {
            if !self.ends.is_empty() && follower.has_passed(&self.ends) {
                self.ends.clear();
                self.is(FollowState::UpToDate);
            }
            let map = &self.map;
            let news = follower.next(POLL, |shard, record| map.lock().add(shard.unsigned_abs(), record))?;
            match news {
                Followed::Record(Ok(_)) => self.clear(),
                Followed::Record(Err(error)) => {
                    self.map.lock().lacks(Gap(format!("a delta record cannot be read: {error}")));
                }
                Followed::Lost(shard, from, to) => {
                    let gap =
                        format!("{} delta records of shard {shard} were deleted before they were read", to - from);
                    self.map.lock().skip(shard.unsigned_abs(), Gap(gap));
                }
                Followed::Nothing => {}
            }
            if tidied.elapsed() >= TIDY_EVERY {
                tidied = Instant::now();
                self.map.lock().tidy();
            }
            if learned.elapsed() >= LEARN_EVERY {
                learned = Instant::now();
                if self.map.lock().lacks_labels() {
                    let shards = self.tenants.defaults().kafka.shards.cast_signed();
                    self.learn(shards)?;
                }
            }
        }
        Ok(())
    }
}
