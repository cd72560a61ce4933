//! Telemetry: spanmill's own metrics and logs, and the board on which tasks report.
//!
//! *In:* what task threads and lanes report. *Out:* text exposition, the board. *Owner:* the process; [`Telemetry`] is a
//! handle that is cheap to clone. *Never:* a decision. *Next:* `admin` shows it.

mod board;
mod hazards;
pub mod log;
pub mod names;
mod overrides;

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

pub use board::{Board, LimitsStatus, TaskId, TaskKind, TaskState, TaskStatus};
use hazards::HazardMeters;
use names::Metric;
pub use overrides::Overrides;
use overrides::OverridesMeters;

/// Seconds: from a quick answer on the same host to a receiver that hangs until the timeout.
const REQUEST_BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];
const RESTORE_BOUNDS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

/// What happened in a rebalance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebalance {
    /// Partitions came.
    Assigned,
    /// Partitions went, in order.
    Revoked,
    /// Partitions had gone before the worker knew.
    Lost,
}

/// Why a step was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Every source partition had passed it.
    Watermark,
    /// A silent partition was left out after the grace time.
    Forced,
}

/// Metrics and the board. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

struct Inner {
    registry: Registry,
    board: Board,
    rebalances: IntCounterVec,
    commits: IntCounterVec,
    ticks: IntCounter,
    fenced: IntCounterVec,
    restores: HistogramVec,
    steps: IntCounterVec,
    left_out: IntCounter,
    hazards: HazardMeters,
    export: ExportMeters,
    overrides: OverridesMeters,
}

/// Samples on their way to the receivers, by the sender's own count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Samples {
    /// Made.
    pub built: u64,
    /// Stored by the receiver.
    pub acknowledged: u64,
    /// Refused because a predecessor had delivered them.
    pub already_there: u64,
    /// Refused for good.
    pub rejected: u64,
    /// Given up with the task that they came from; its next owner sends them again.
    pub abandoned: u64,
    /// On their way.
    pub pending: u64,
}

/// The meters of remote write.
pub(crate) struct ExportMeters {
    pub(crate) built: IntCounter,
    pub(crate) acknowledged: IntCounter,
    pub(crate) already_there: IntCounter,
    pub(crate) rejected: IntCounterVec,
    pub(crate) abandoned: IntCounter,
    pub(crate) pending_samples: IntGauge,
    pub(crate) requests: IntCounterVec,
    pub(crate) retries: IntCounter,
    pub(crate) bytes: IntCounter,
    pub(crate) in_flight: IntGauge,
    pub(crate) seconds: Histogram,
    pub(crate) pending_batches: IntGauge,
}

// === impl Telemetry ===

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").field("board", &self.0.board).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// A registry of its own, with everything at zero.
    ///
    /// # Panics
    /// Never: `names.rs` holds legal metrics with distinct names, which its tests check.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let board = Board::default();
        registry.register(Box::new(board::BoardCollector::new(board.clone()))).expect("names are distinct");
        let info: GaugeVec = keep(&registry, GaugeVec::new(opts(names::BUILD_INFO), names::BUILD_INFO.labels));
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        Self(Arc::new(Inner {
            board,
            rebalances: counters(&registry, names::REBALANCES),
            commits: counters(&registry, names::COMMITS),
            ticks: counter(&registry, names::TICKS),
            fenced: counters(&registry, names::FENCED),
            restores: keep(
                &registry,
                HistogramVec::new(histogram(names::RESTORES, &RESTORE_BOUNDS), names::RESTORES.labels),
            ),
            steps: counters(&registry, names::STEPS_CLOSED),
            left_out: counter(&registry, names::STEPS_LEFT_OUT),
            hazards: HazardMeters::new(&registry),
            export: ExportMeters::new(&registry),
            overrides: OverridesMeters::new(&registry),
            registry,
        }))
    }

    /// The board on which tasks report.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.0.board
    }

    /// Counts a rebalance.
    pub fn rebalance(&self, event: Rebalance) {
        let event = match event {
            Rebalance::Assigned => "assigned",
            Rebalance::Revoked => "revoked",
            Rebalance::Lost => "lost",
        };
        self.0.rebalances.with_label_values(&[event]).inc();
    }

    /// Counts an accepted commit or emit mark.
    pub fn commit(&self, kind: TaskKind) {
        self.0.commits.with_label_values(&[kind.name()]).inc();
    }

    /// Counts a tick.
    pub fn tick(&self) {
        self.0.ticks.inc();
    }

    /// Counts a task that was fenced.
    pub fn fenced(&self, kind: TaskKind) {
        self.0.fenced.with_label_values(&[kind.name()]).inc();
    }

    /// Counts a restore and its time from claim to running.
    pub fn restored(&self, kind: TaskKind, took: Duration) {
        self.0.restores.with_label_values(&[kind.name()]).observe(took.as_secs_f64());
    }

    /// Counts a closed step.
    pub fn step_closed(&self, cause: Cause) {
        let cause = match cause {
            Cause::Watermark => "watermark",
            Cause::Forced => "forced",
        };
        self.0.steps.with_label_values(&[cause]).inc();
    }

    /// Counts the tenants that a step was not written for.
    pub fn left_out(&self, tenants: usize) {
        self.0.left_out.inc_by(tenants as u64);
    }

    /// Counts a dead letter and whether it was stored.
    pub fn dead_letter(&self, stored: bool) {
        let outcome = if stored { "stored" } else { "failed" };
        self.0.hazards.dead_letters.with_label_values(&[outcome]).inc();
    }

    /// Counts a bug that a task met.
    pub fn panicked(&self, kind: TaskKind) {
        self.0.hazards.panics.with_label_values(&[kind.name()]).inc();
    }

    /// Counts a partition that was stuck.
    pub fn stuck(&self) {
        self.0.hazards.stuck.inc();
    }

    /// Counts a storm of rebalances.
    pub fn rebalance_storm(&self) {
        self.0.hazards.storms.inc();
    }

    /// Counts a rest of this worker.
    pub fn rests(&self) {
        self.0.hazards.rests.inc();
    }

    /// Shows what the worker holds of one kind.
    pub fn memory_held(&self, part: &str, bytes: usize) {
        self.0.hazards.memory.with_label_values(&[part]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Shows whether spans wait because too much is held.
    pub fn memory_throttled(&self, throttled: bool) {
        self.0.hazards.throttled.set(i64::from(throttled));
    }

    /// Settings of tenants have come into force.
    pub fn overrides_loaded(&self, version: String, tenants: Vec<String>) {
        self.0.overrides.loaded(version, tenants);
    }

    /// The overrides file has changed and cannot be used.
    pub fn overrides_refused(&self) {
        self.0.overrides.refused();
    }

    /// Which settings of tenants are in force.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        self.0.overrides.shown()
    }

    /// All metrics in the text format.
    #[must_use]
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.0.registry.gather()).unwrap_or_else(|e| format!("# {e}\n"))
    }

    /// What became of all samples so far.
    #[must_use]
    pub fn samples(&self) -> Samples {
        let meters = self.export();
        let rejected = meters.rejected.collect();
        let rejected = rejected.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        Samples {
            built: meters.built.get(),
            acknowledged: meters.acknowledged.get(),
            already_there: meters.already_there.get(),
            rejected: rejected.map(|m| m.get_counter().get_value()).sum::<f64>() as u64,
            abandoned: meters.abandoned.get(),
            pending: meters.pending_samples.get().unsigned_abs(),
        }
    }

    pub(crate) fn export(&self) -> &ExportMeters {
        &self.0.export
    }
}

// === impl ExportMeters ===

impl ExportMeters {
    fn new(registry: &Registry) -> Self {
        let gauge = |m: Metric| keep(registry, IntGauge::with_opts(opts(m)));
        Self {
            built: counter(registry, names::SAMPLES_BUILT),
            acknowledged: counter(registry, names::SAMPLES_ACKNOWLEDGED),
            already_there: counter(registry, names::SAMPLES_ALREADY_THERE),
            rejected: counters(registry, names::SAMPLES_REJECTED),
            abandoned: counter(registry, names::SAMPLES_ABANDONED),
            pending_samples: gauge(names::SAMPLES_PENDING),
            requests: counters(registry, names::REQUESTS),
            retries: counter(registry, names::RETRIES),
            bytes: counter(registry, names::BYTES),
            in_flight: gauge(names::IN_FLIGHT),
            seconds: keep(registry, Histogram::with_opts(histogram(names::REQUEST_SECONDS, &REQUEST_BOUNDS))),
            pending_batches: gauge(names::PENDING_BATCHES),
        }
    }
}

fn opts(m: Metric) -> Opts {
    Opts::new(m.name, m.help)
}

fn histogram(m: Metric, bounds: &[f64]) -> HistogramOpts {
    HistogramOpts::new(m.name, m.help).buckets(bounds.to_vec())
}

fn counter(registry: &Registry, m: Metric) -> IntCounter {
    keep(registry, IntCounter::with_opts(opts(m)))
}

fn counters(registry: &Registry, m: Metric) -> IntCounterVec {
    keep(registry, IntCounterVec::new(opts(m), m.labels))
}

fn keep<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let made = made.expect("names.rs holds legal metrics");
    registry.register(Box::new(made.clone())).expect("names are distinct");
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ledger, Tally};

    fn span_task(partition: i32) -> TaskId {
        TaskId { kind: TaskKind::Span, topic: "otlp_spans".to_owned(), partition }
    }

    #[test]
    fn a_task_that_leaves_takes_its_series_along() {
        let t = Telemetry::new();
        let mut ledger = Ledger::default();
        ledger.add(Tally::SpansRead, 7);
        t.board().update(&span_task(3), |s| {
            s.state = TaskState::Running;
            s.ledger = ledger;
            s.lag_millis = 1_500;
        });
        let text = t.render();
        let spans_read = r#"spanmill_ledger_total{partition="3",tally="spans_read",topic="otlp_spans"} 7"#;
        assert!(text.contains(spans_read), "{text}");
        assert!(text.contains(r#"spanmill_lag_seconds{partition="3",topic="otlp_spans"} 1.5"#), "{text}");
        assert!(text.contains(r#"spanmill_tasks{kind="span",state="running"} 1"#), "{text}");
        t.board().remove(&span_task(3));
        let text = t.render();
        assert!(!text.contains(r#"partition="3""#), "{text}");
        assert!(text.contains(r#"spanmill_tasks{kind="span",state="running"} 0"#), "{text}");
    }

    #[test]
    fn every_name_in_the_list_is_exposed() {
        let t = Telemetry::new();
        t.rebalance(Rebalance::Assigned);
        t.commit(TaskKind::Span);
        t.tick();
        t.fenced(TaskKind::Series);
        t.restored(TaskKind::Span, Duration::from_millis(20));
        t.step_closed(Cause::Forced);
        t.dead_letter(true);
        t.panicked(TaskKind::Span);
        t.memory_held("series", 1);
        t.overrides_loaded("v1".to_owned(), Vec::new());
        t.export().rejected.with_label_values(&["bad_data"]).inc();
        t.export().requests.with_label_values(&["2xx"]).inc();
        let shard = TaskId { kind: TaskKind::Series, topic: "spanmill-deltas".to_owned(), partition: 0 };
        for id in [&span_task(0), &shard] {
            t.board().update(id, |s| {
                s.stream_time = Some(15_000);
                s.closed_step = Some(15_000);
            });
        }
        let text = t.render();
        for m in names::ALL {
            assert!(text.contains(&format!("# HELP {} ", m.name)), "{} is not exposed", m.name);
        }
    }

    #[test]
    fn an_update_changes_only_what_it_names() {
        let board = Board::default();
        board.update(&span_task(1), |s| s.position = 5);
        board.update(&span_task(1), |s| s.restored = true);
        board.update(&span_task(0), |s| s.position = 9);
        let all = board.snapshot();
        assert_eq!(all.iter().map(|(id, s)| (id.partition, s.position)).collect::<Vec<_>>(), [(0, 9), (1, 5)]);
        assert!(board.get(&span_task(1)).expect("known").restored);
    }
}
