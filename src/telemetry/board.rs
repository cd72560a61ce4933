//! The status board: what every owned task is doing. Task threads write it, the admin server reads it.
//!
//! Metrics per partition are made from the board when they are asked for, so a task that leaves takes its series along.

use std::sync::Arc;

use dashmap::DashMap;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, Opts};

use crate::model::{Ledger, Millis};

use super::names::{self, Kind, Metric};

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
    /// Records left to read.
    pub lag_records: u64,
    /// How far it lies behind, in milliseconds.
    pub lag_millis: Millis,
    /// The ledger of a span task; empty for a series task.
    pub ledger: Ledger,
    /// The last step that a series task closed.
    pub closed_step: Option<Millis>,
    /// Active series of a series task.
    pub active_series: u64,
    /// What the limits of a series task do.
    pub limits: LimitsStatus,
    /// Whether it has caught up with what its predecessor had done.
    pub restored: bool,
    /// In a replay: whether its stretch is read, or everything is closed, and all of it is journaled and acknowledged.
    pub done: bool,
    /// Why it does not go on, if it does not.
    pub trouble: Option<String>,
}

/// What limits do in a shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LimitsStatus {
    /// Label sets that are refused.
    pub refused: u64,
    /// When the offenders were looked for, in milliseconds since the epoch.
    pub looked_at: Millis,
    /// The labels with the most values, as JSON objects.
    pub offenders: Vec<serde_json::Value>,
}

/// All owned tasks. Cloning shares the board.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<DashMap<TaskId, TaskStatus>>);

/// Makes metrics from the board.
pub(super) struct BoardCollector {
    board: Board,
    descs: Vec<Desc>,
}

/// The metrics that are made from the board.
const METRICS: [Metric; 8] = [
    names::LEDGER,
    names::EDGES_PENDING,
    names::LAG_RECORDS,
    names::LAG_SECONDS,
    names::STREAM_TIME,
    names::CLOSED_STEP,
    names::ACTIVE_SERIES,
    names::REFUSED,
];

// === impl TaskKind ===

impl TaskKind {
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
        write!(f, "{} task {}/{}", self.kind.name(), self.topic, self.partition)
    }
}

// === impl TaskState ===

impl TaskState {
    /// All states, in the order of a life.
    pub const ALL: [Self; 4] = [Self::Claiming, Self::Restoring, Self::Running, Self::Closing];

    /// Its name in telemetry.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Claiming => "claiming",
            Self::Restoring => "restoring",
            Self::Running => "running",
            Self::Closing => "closing",
        }
    }
}

// === impl Board ===

impl Board {
    /// Changes what is known of a task; a task that is new to the board starts from the default.
    pub fn update(&self, id: &TaskId, change: impl FnOnce(&mut TaskStatus)) {
        if let Some(mut known) = self.0.get_mut(id) {
            change(&mut known);
        } else {
            change(&mut self.0.entry(id.clone()).or_default());
        }
    }

    /// Forgets a task, and with it the metrics of its partition.
    pub fn remove(&self, id: &TaskId) {
        self.0.remove(id);
    }

    /// One task.
    #[must_use]
    pub fn get(&self, id: &TaskId) -> Option<TaskStatus> {
        self.0.get(id).map(|s| s.clone())
    }

    /// All tasks, sorted.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(TaskId, TaskStatus)> {
        let mut all: Vec<_> = self.0.iter().map(|e| (e.key().clone(), e.value().clone())).collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

// === impl BoardCollector ===

impl BoardCollector {
    pub(super) fn new(board: Board) -> Self {
        let descs = METRICS
            .iter()
            .chain([&names::TASKS])
            .flat_map(|m| gauges(*m).desc().into_iter().cloned().collect::<Vec<_>>());
        Self { board, descs: descs.collect() }
    }
}

impl Collector for BoardCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let tasks = self.board.snapshot();
        let mut out = Vec::new();
        for metric in METRICS {
            match metric.kind {
                Kind::Counter => {
                    let vec = counters(metric);
                    each(metric, &tasks, |labels, v| vec.with_label_values(labels).inc_by(v));
                    out.extend(vec.collect());
                }
                _ => {
                    let vec = gauges(metric);
                    each(metric, &tasks, |labels, v| vec.with_label_values(labels).set(v));
                    out.extend(vec.collect());
                }
            }
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

/// Calls `set` with the labels and the value of every series that `metric` has for these tasks.
fn each(metric: Metric, tasks: &[(TaskId, TaskStatus)], set: impl Fn(&[&str], f64)) {
    let seconds = |ms: Millis| ms as f64 / 1000.0;
    for (id, s) in tasks {
        let partition = id.partition.to_string();
        let place = [id.topic.as_str(), partition.as_str()];
        let value = match (metric, id.kind) {
            (names::LEDGER, TaskKind::Span) => {
                for (tally, n) in s.ledger.iter() {
                    set(&[tally.name(), place[0], place[1]], n as f64);
                }
                None
            }
            (names::STREAM_TIME, kind) => {
                if let Some(at) = s.stream_time {
                    set(&[kind.name(), place[0], place[1]], seconds(at));
                }
                None
            }
            (names::EDGES_PENDING, TaskKind::Span) => Some(s.ledger.pending_edges() as f64),
            (names::LAG_RECORDS, _) => Some(s.lag_records as f64),
            (names::LAG_SECONDS, _) => Some(seconds(s.lag_millis)),
            (names::CLOSED_STEP, TaskKind::Series) => s.closed_step.map(seconds),
            (names::ACTIVE_SERIES, TaskKind::Series) => Some(s.active_series as f64),
            (names::REFUSED, TaskKind::Series) => Some(s.limits.refused as f64),
            _ => None,
        };
        if let Some(v) = value {
            set(&place, v);
        }
    }
}

fn gauges(metric: Metric) -> GaugeVec {
    GaugeVec::new(Opts::new(metric.name, metric.help), metric.labels).expect("names.rs holds legal metrics")
}

fn counters(metric: Metric) -> CounterVec {
    CounterVec::new(Opts::new(metric.name, metric.help), metric.labels).expect("names.rs holds legal metrics")
}
