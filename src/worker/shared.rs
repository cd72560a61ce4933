//! What all threads of a worker share: clients, names, and a few boards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use super::intake::Isolation;
use super::memory::Memory;
use super::overrides::InForce;
use super::replay::Replaying;
use super::{WorkerError, now};
use crate::config::{Config, Tenants};
use crate::export::Exporter;
use crate::kafka::members::{Member, Partition};
use crate::kafka::{Appender, DeadLetters, TopicNames};
use crate::telemetry::{TaskKind, Telemetry};

/// Every partition of every source topic, sorted.
pub(super) type Sources = Arc<Vec<(String, i32)>>;

/// Shared by all threads of a worker. Locks are held for a few instructions and never two at a time.
pub(super) struct Shared {
    /// The settings of the worker, and of every tenant without overrides.
    pub(super) config: Arc<Config>,
    pub(super) names: TopicNames,
    pub(super) telemetry: Telemetry,
    pub(super) appender: Appender,
    pub(super) exporter: Exporter,
    /// Where copies of records go that cannot be read, if anywhere.
    pub(super) dead_letters: Option<DeadLetters>,
    /// What the worker holds.
    pub(super) memory: Arc<Memory>,
    /// The stretches of history to replay; `None` for a worker that lives in the present.
    pub(super) replaying: Option<Replaying>,
    /// The records that made the code panic.
    pub(super) isolation: Isolation,
    /// The memberships in the groups of the source partitions and of the shards, while there are any.
    members: OnceLock<[Weak<Member>; 2]>,
    /// Raised once: end gracefully.
    pub(super) stop: AtomicBool,
    /// Whether the group has let this worker in.
    pub(super) joined: AtomicBool,
    /// When the member thread last turned, in milliseconds since the epoch.
    beat: AtomicI64,
    /// Numbers the lives of tasks.
    lives: AtomicU64,
    sources: RwLock<Sources>,
    /// By source topic, the first partition that came after the group.
    grown: OnceLock<BTreeMap<String, i32>>,
    /// The settings of the tenants, and their generation once more, to be looked at without a lock.
    in_force: RwLock<Arc<InForce>>,
    generation: AtomicU64,
    /// How far the journal of a partition has accepted, for the group's lag dashboards.
    positions: Mutex<BTreeMap<Partition, i64>>,
    /// Below which offset a partition of an internal topic is not needed any more.
    trims: Mutex<BTreeMap<Partition, i64>>,
}

impl Shared {
    pub(super) fn new(
        in_force: InForce,
        telemetry: Telemetry,
        exporter: Exporter,
        replaying: Option<Replaying>,
    ) -> Result<Self, WorkerError> {
        let config = Arc::clone(in_force.tenants.defaults());
        Ok(Self {
            names: TopicNames::new(&config.kafka.group),
            appender: Appender::new(&config.kafka)?,
            dead_letters: DeadLetters::new(&config.kafka, telemetry.clone())?,
            memory: Memory::new(config.worker.memory_limit, telemetry.clone()),
            isolation: Isolation::default(),
            replaying,
            config,
            telemetry,
            exporter,
            members: OnceLock::new(),
            stop: AtomicBool::new(false),
            joined: AtomicBool::new(false),
            beat: AtomicI64::new(now()),
            lives: AtomicU64::new(0),
            sources: RwLock::new(Arc::new(Vec::new())),
            grown: OnceLock::new(),
            generation: AtomicU64::new(in_force.generation),
            in_force: RwLock::new(Arc::new(in_force)),
            positions: Mutex::new(BTreeMap::new()),
            trims: Mutex::new(BTreeMap::new()),
        })
    }

    /// Before the first task is opened.
    pub(super) fn set_members(&self, spans: &Arc<Member>, shards: &Arc<Member>) {
        if self.members.set([spans, shards].map(Arc::downgrade)).is_err() {
            tracing::error!("the groups were joined twice");
        }
    }

    /// The membership in the group that shares out tasks of this kind; `None` when the worker is stopping.
    pub(super) fn member(&self, kind: TaskKind) -> Option<Arc<Member>> {
        let [spans, shards] = self.members.get()?;
        match kind {
            TaskKind::Span => spans.upgrade(),
            TaskKind::Series => shards.upgrade(),
        }
    }

    pub(super) fn new_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn beat(&self) {
        self.beat.store(now(), Ordering::Relaxed);
    }

    pub(super) fn beat_age(&self) -> Duration {
        Duration::from_millis((now() - self.beat.load(Ordering::Relaxed)).unsigned_abs())
    }

    /// The settings of the tenants.
    pub(super) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The settings of the tenants, if they are others than those of `generation`.
    pub(super) fn newer_than(&self, generation: u64) -> Option<Arc<InForce>> {
        (self.generation.load(Ordering::Acquire) != generation).then(|| self.in_force())
    }

    /// Gives the tenants other settings. Tasks take them over at their next turn.
    pub(super) fn put_in_force(&self, tenants: Tenants) {
        let mut slot = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        let generation = slot.generation + 1;
        *slot = Arc::new(InForce { generation, tenants });
        self.generation.store(generation, Ordering::Release);
    }

    pub(super) fn sources(&self) -> Sources {
        self.sources.read().map(|s| Arc::clone(&s)).unwrap_or_default()
    }

    /// Whether a source partition has been seen.
    pub(super) fn knows(&self, p: &Partition) -> bool {
        let wanted = (p.topic.as_str(), p.partition);
        self.sources().binary_search_by(|(topic, partition)| (topic.as_str(), *partition).cmp(&wanted)).is_ok()
    }

    pub(super) fn set_sources(&self, sources: Vec<(String, i32)>) {
        if let Ok(mut slot) = self.sources.write() {
            *slot = Arc::new(sources);
        }
    }

    /// Before the first task is opened.
    pub(super) fn set_grown(&self, grown: BTreeMap<String, i32>) {
        if self.grown.set(grown).is_err() {
            tracing::error!("the source topics were looked at twice");
        }
    }

    /// Whether a partition came when the group was at work. It is read from its beginning, wherever the others were begun.
    pub(super) fn has_grown(&self, topic: &str, partition: i32) -> bool {
        self.grown.get().and_then(|grown| grown.get(topic)).is_some_and(|&first| partition >= first)
    }

    pub(super) fn note_position(&self, topic: &str, partition: i32, offset: i64) {
        note(&self.positions, topic, partition, offset);
    }

    pub(super) fn note_trim(&self, topic: &str, partition: i32, offset: i64) {
        note(&self.trims, topic, partition, offset);
    }

    pub(super) fn take_positions(&self) -> Vec<(Partition, i64)> {
        take(&self.positions)
    }

    /// Whether a topic is a journal: that of span tasks, or that of series tasks.
    pub(super) fn is_journal(&self, topic: &str) -> bool {
        let mut sources = self.config.kafka.topics.iter();
        self.names.series_journal() == topic || sources.any(|source| self.names.journal(source) == topic)
    }

    pub(super) fn take_trims(&self) -> Vec<(Partition, i64)> {
        take(&self.trims)
    }
}

fn note(board: &Mutex<BTreeMap<Partition, i64>>, topic: &str, partition: i32, offset: i64) {
    if let Ok(mut board) = board.lock() {
        board.insert(Partition { topic: topic.to_owned(), partition }, offset);
    }
}

fn take(board: &Mutex<BTreeMap<Partition, i64>>) -> Vec<(Partition, i64)> {
    board.lock().map(|mut b| std::mem::take(&mut *b).into_iter().collect()).unwrap_or_default()
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("group", &self.config.kafka.group).finish_non_exhaustive()
    }
}
