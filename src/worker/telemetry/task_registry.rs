//! The task registry: what every owned task is doing. Task threads write it, the admin server reads it.
//!
//! Metrics per partition are made from the task registry on each scrape, so the rows of a task disappear with it. The
//! label `state` of a row shows how current it is: `owned` is the truth, `restoring`, `unconfirmed` and `lost` are the
//! last that was known.
#![allow(clippy::disallowed_methods, reason = "since when a task is in its state is a matter of the clock")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, Opts};

use crate::core::model::{Ledger, Millis};

use super::endpoints::{EndpointStatus, endpoints_of};
use super::names::{self, Metric};

/// Which stage a task belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskKind {
    /// Owns a source partition.
    Span,
    /// Owns a shard.
    Series,
}

/// Names a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The stage.
    pub kind: TaskKind,
    /// The topic: a source topic or the deltas topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TaskState {
    /// Waits for its claim to be accepted.
    #[default]
    Claiming,
    /// Folds its journal and reads back what it needs.
    Restoring,
    /// Works.
    Running,
    /// Commits a last time.
    Closing,
    /// The group has given it away without asking: the heartbeats of this worker did not arrive in time. Another worker
    /// may have it.
    Lost,
}

/// What a task reports about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskStatus {
    /// Where it is in its life.
    pub state: TaskState,
    /// Stream time of a span task, watermark of a series task; `None` before it is known.
    pub stream_time: Option<Millis>,
    /// The offset that is read next.
    pub position: i64,
    /// The high watermark of the partition.
    pub end_offset: i64,
    /// Where an open transaction begins that keeps what follows from being read.
    pub open_from: Option<i64>,
    /// Whether that has lasted for too long.
    pub open_for_long: bool,
    /// Records left to read.
    pub lag_records: u64,
    /// How far it lies behind, in milliseconds.
    pub lag_millis: Millis,
    /// The ledger of a span task, with what is not journaled yet; empty for a series task.
    pub ledger: Ledger,
    /// The ledger when this worker acquired the partition.
    pub begun: Option<Ledger>,
    /// The ledger as the journal has it, once that is known. It never goes down, also when the owner changes.
    pub journaled: Option<Ledger>,
    /// The last step that a series task closed.
    pub closed_step: Option<Millis>,
    /// Active series of a series task.
    pub active_series: u64,
    /// Source partitions whose next delta record a series task has missed for too long.
    pub gaps: u64,
    /// What the limits of a series task do.
    pub limits: LimitsStatus,
    /// What waits in a series task for each of several endpoints, by name; empty with one.
    pub endpoints: BTreeMap<Arc<str>, EndpointStatus>,
    /// Deltas of a series task that wait for the labels of their set.
    pub unnamed: usize,
    /// Which sources of a series task are counted by other settings than this worker's.
    pub settings: SettingsStatus,
    /// Whether it has caught up with its predecessor.
    pub restored: bool,
    /// In a replay: whether its stretch is read, or everything is closed, and all of it is journaled and acknowledged.
    pub done: bool,
    /// Why it does not continue, if it does not.
    pub trouble: Option<String>,
    /// Why its partition cannot be read, if it cannot.
    pub fetch_trouble: Option<String>,
    /// When the broker of its partition last answered, or unread records were in the buffer.
    pub heard: Option<Instant>,
    /// The bytes that are fetched and not taken yet.
    pub fetched: u64,
    /// Since when there are records to read while none shows how old they are, in milliseconds since the epoch.
    pub waiting_since: Option<Millis>,
    /// Since when it is in its state.
    pub since: Option<Instant>,
    /// Whether the numbers are known: a task that is acquired for the first time has none.
    pub shown: bool,
}

/// What limits do in a shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LimitsStatus {
    /// Label sets that are refused.
    pub refused: u64,
    /// When the top-cardinality labels were computed, in milliseconds since the epoch.
    pub looked_at: Millis,
    /// The labels with the most values, as JSON objects.
    pub top_labels: Vec<serde_json::Value>,
}

/// Sources that are counted by other settings than those of the worker that owns a shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettingsStatus {
    /// How many source partitions.
    pub sources: usize,
    /// By the fingerprint of their settings: what is different, key by key; empty until a source has reported it.
    pub others: BTreeMap<u64, Vec<String>>,
}

/// All owned tasks. Cloning shares the task registry.
#[derive(Debug, Clone, Default)]
pub struct TaskRegistry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tasks: DashMap<TaskId, TaskStatus>,
    begun: Instant,
    /// Until when the tasks of each kind are known to be this worker's, in milliseconds since the beginning.
    confirmed: [AtomicU64; 2],
}

/// How long a membership counts as confirmed. A worker that was frozen must not claim to own anything when it wakes up.
const CONFIRMED_FOR: Duration = Duration::from_secs(3);

/// Makes metrics from the task registry.
pub(super) struct TaskCollector {
    statuses: TaskRegistry,
    descs: Vec<Desc>,
}

/// The metrics that are made from the task registry.
const METRICS: [Metric; 13] = [
    names::EDGES_PENDING,
    names::TRACE_SPANS_OPEN,
    names::LAG_RECORDS,
    names::LAG_SECONDS,
    names::OPEN_TRANSACTION,
    names::STREAM_TIME,
    names::WATERMARK,
    names::CLOSED_STEP,
    names::ACTIVE_SERIES,
    names::REFUSED,
    names::SETTINGS_DIFFER,
    names::UNNAMED,
    names::GAPS,
];

// === impl TaskKind ===

impl TaskKind {
    /// The names of all.
    pub(super) const NAMES: [&str; 2] = ["span", "series"];

    /// Its name in telemetry.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Series => "series",
        }
    }
}

// === impl TaskId ===

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} task {}[{}]", self.kind.name(), self.topic, self.partition)
    }
}

// === impl TaskState ===

impl TaskState {
    /// All states, in the order of a life.
    pub const ALL: [Self; 5] = [Self::Claiming, Self::Restoring, Self::Running, Self::Closing, Self::Lost];

    /// Its name in telemetry.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Claiming => "claiming",
            Self::Restoring => "restoring",
            Self::Running => "running",
            Self::Closing => "closing",
            Self::Lost => "lost",
        }
    }
}

// === impl Inner ===

impl Default for Inner {
    fn default() -> Self {
        Self { tasks: DashMap::new(), begun: Instant::now(), confirmed: [const { AtomicU64::new(0) }; 2] }
    }
}

impl Inner {
    fn age(&self) -> Duration {
        self.begun.elapsed()
    }
}

// === impl TaskStatus ===

impl TaskStatus {
    /// How far the task lies behind: it has read up to the offset `read`, and what it has done is of the time `done`. While
    /// that is not known, it is for how long there have been records, at least.
    pub fn lags(&mut self, read: i64, done: Option<Millis>, present: Millis) {
        self.lag_records = (self.end_offset - read).max(0).unsigned_abs();
        if self.lag_records == 0 {
            (self.lag_millis, self.waiting_since) = (0, None);
            return;
        }
        let since = *self.waiting_since.get_or_insert(present);
        self.lag_millis = (present - done.unwrap_or(since)).max(0);
    }
}

// === impl TaskRegistry ===

impl TaskRegistry {
    /// Changes what is known of a task; a task that is new to the task registry starts from the default.
    pub fn update(&self, id: &TaskId, change: impl FnOnce(&mut TaskStatus)) {
        let noting = |known: &mut TaskStatus| {
            let before = known.state;
            change(known);
            if known.state != before {
                known.since = Some(Instant::now());
            }
        };
        if let Some(mut known) = self.0.tasks.get_mut(id) {
            noting(&mut known);
        } else {
            let new = || TaskStatus { since: Some(Instant::now()), ..TaskStatus::default() };
            noting(&mut self.0.tasks.entry(id.clone()).or_insert_with(new));
        }
    }

    /// Changes what is known of a task that is on the task registry; one that has gone does not come back.
    pub fn update_known(&self, id: &TaskId, change: impl FnOnce(&mut TaskStatus)) {
        if let Some(mut known) = self.0.tasks.get_mut(id) {
            change(&mut known);
        }
    }

    /// Forgets a task, and with it the metrics of its partition.
    pub fn remove(&self, id: &TaskId) {
        self.0.tasks.remove(id);
    }

    /// The group has given a task away without asking. Its rows stay as they are until it is known who has it.
    pub fn lost(&self, id: &TaskId) {
        self.update(id, |known| known.state = TaskState::Lost);
    }

    /// The group has this worker again: another worker owns what was lost at least so long ago and has not come back.
    pub fn forget_lost(&self, kind: TaskKind, ago: Duration) {
        let old = |status: &TaskStatus| status.since.is_none_or(|since| since.elapsed() >= ago);
        self.0.tasks.retain(|id, status| id.kind != kind || status.state != TaskState::Lost || !old(status));
    }

    /// Sets whether this worker's membership in the group of this kind of task is confirmed by its heartbeats. The
    /// caller renews it repeatedly.
    pub fn confirm(&self, kind: TaskKind, confirmed: bool) {
        let until = if confirmed { (self.0.age() + CONFIRMED_FOR).as_millis() } else { 0 };
        self.0.confirmed[kind as usize].store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// One task.
    #[must_use]
    pub fn get(&self, id: &TaskId) -> Option<TaskStatus> {
        self.0.tasks.get(id).map(|s| s.clone())
    }

    /// All tasks, sorted.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(TaskId, TaskStatus)> {
        let mut all: Vec<_> = self.0.tasks.iter().map(|e| (e.key().clone(), e.value().clone())).collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// What waits for each of several endpoints, in all shards together.
    #[must_use]
    pub fn endpoints(&self) -> BTreeMap<Arc<str>, EndpointStatus> {
        let tasks = self.snapshot();
        endpoints_of(tasks.iter().map(|(_, status)| status))
    }

    /// The value of the label `state` of a task.
    fn worth(&self, id: &TaskId, status: &TaskStatus) -> &'static str {
        match status.state {
            TaskState::Lost => "lost",
            TaskState::Claiming | TaskState::Restoring => "restoring",
            TaskState::Running | TaskState::Closing => {
                let until = self.0.confirmed[id.kind as usize].load(Ordering::Relaxed);
                if self.0.age() < Duration::from_millis(until) { "owned" } else { "unconfirmed" }
            }
        }
    }
}

// === impl TaskCollector ===

impl TaskCollector {
    pub(super) fn new(statuses: TaskRegistry) -> Self {
        let descs = METRICS
            .iter()
            .chain([&names::TASKS])
            .chain(names::LEDGER)
            .flat_map(|m| gauges(*m).desc().into_iter().cloned().collect::<Vec<_>>());
        Self { statuses, descs: descs.collect() }
    }
}

impl Collector for TaskCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let tasks = self.statuses.snapshot();
        let mut out = Vec::new();
        for metric in METRICS {
            let vec = gauges(metric);
            self.each(metric, &tasks, |labels, v| vec.with_label_values(labels).set(v));
            out.extend(vec.collect());
        }
        for metric in names::LEDGER {
            out.extend(self.ledgers(*metric, &tasks));
        }
        let states = gauges(names::TASKS);
        for kind in [TaskKind::Span, TaskKind::Series] {
            for state in TaskState::ALL {
                let n = tasks.iter().filter(|(id, s)| id.kind == kind && s.state == state).count();
                states.with_label_values(&[kind.name(), state.name()]).set(n as f64);
            }
        }
        out.extend(states.collect());
        out
    }
}

impl TaskCollector {
    /// The rows of one metric of the ledger, as far as the ledgers of these tasks are journaled.
    fn ledgers(&self, metric: Metric, tasks: &[(TaskId, TaskStatus)]) -> Vec<MetricFamily> {
        let vec = counters(metric);
        for (id, s) in tasks.iter().filter(|(id, s)| s.shown && id.kind == TaskKind::Span) {
            let (partition, state) = (id.partition.to_string(), self.statuses.worth(id, s));
            for (counter, n) in s.journaled.iter().flat_map(Ledger::iter) {
                let shown = counter.metric();
                if shown.name == metric.name {
                    let label = shown.label.map(|(_, value)| value);
                    let labels: Vec<&str> = label.into_iter().chain([id.topic.as_str(), &partition, state]).collect();
                    vec.with_label_values(&labels).inc_by(n as f64);
                }
            }
        }
        vec.collect()
    }

    /// Calls `set` with the labels and the value of every row that `metric` has for these tasks, as far as they are known.
    fn each(&self, metric: Metric, tasks: &[(TaskId, TaskStatus)], set: impl Fn(&[&str], f64)) {
        let seconds = |ms: Millis| ms as f64 / 1000.0;
        for (id, s) in tasks.iter().filter(|(_, s)| s.shown) {
            let (partition, state) = (id.partition.to_string(), self.statuses.worth(id, s));
            let place = [id.topic.as_str(), partition.as_str(), state];
            let value = match (metric, id.kind) {
                (names::STREAM_TIME, TaskKind::Span) | (names::WATERMARK, TaskKind::Series) => {
                    s.stream_time.map(seconds)
                }
                (names::EDGES_PENDING, TaskKind::Span) => Some(s.ledger.pending_edges() as f64),
                (names::TRACE_SPANS_OPEN, TaskKind::Span) => Some(s.ledger.open_trace_spans() as f64),
                (names::LAG_RECORDS, _) => Some(s.lag_records as f64),
                (names::OPEN_TRANSACTION, TaskKind::Span) => Some(f64::from(u8::from(s.open_for_long))),
                (names::LAG_SECONDS, _) => Some(seconds(s.lag_millis)),
                (names::CLOSED_STEP, TaskKind::Series) => s.closed_step.map(seconds),
                (names::ACTIVE_SERIES, TaskKind::Series) => Some(s.active_series as f64),
                (names::UNNAMED, TaskKind::Series) => Some(s.unnamed as f64),
                (names::SETTINGS_DIFFER, TaskKind::Series) => Some(s.settings.sources as f64),
                (names::GAPS, TaskKind::Series) => Some(s.gaps as f64),
                (names::REFUSED, TaskKind::Series) => Some(s.limits.refused as f64),
                _ => None,
            };
            if let Some(v) = value {
                set(&place, v);
            }
        }
    }
}

pub(super) fn gauges(metric: Metric) -> GaugeVec {
    GaugeVec::new(Opts::new(metric.name, metric.help), metric.labels).expect("names.rs holds legal metrics")
}

fn counters(metric: Metric) -> CounterVec {
    CounterVec::new(Opts::new(metric.name, metric.help), metric.labels).expect("names.rs holds legal metrics")
}
