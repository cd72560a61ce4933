//! Telemetry: spanmill's own metrics and logs, and the task registry on which tasks report.
//!
//! *In:* what task threads and shard senders report. *Out:* text exposition, the task registry. *Owner:* the process;
//! [`Telemetry`] is a handle that is cheap to clone. *Never:* a decision. *Next:* `admin` shows it.

mod conditions;
mod endpoints;
pub mod flood;
pub(crate) mod hazards;
pub mod log;
mod meters;
pub mod names;
mod overrides;
mod receivers;
mod repartition;
mod samples;
mod settings;
mod task_registry;
pub mod traces;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{GaugeVec, HistogramVec, IntCounter, IntCounterVec, Registry, TextEncoder};

pub use conditions::{Condition, Conditions, Report, Reporter};
use endpoints::{EndpointCollector, EndpointMeters};
pub use endpoints::{EndpointDrop, EndpointStatus};
pub(crate) use endpoints::{Flying, InFlight};
use hazards::HazardMeters;
use meters::{counter, counters, histogram, keep, opts};
pub use overrides::Overrides;
use overrides::OverridesMeters;
pub(crate) use receivers::ReceiverId;
pub use receivers::{QuarantinedSeries, ReceiverStatus, Receivers, WAITS_AT_LEAST, Waiting};
pub use repartition::RepartitionMeters;
pub use samples::Samples;
pub(crate) use samples::{ExportMeters, ILLEGAL_TENANT, MAX_SAMPLE_AGE, QUARANTINED, SAME_LABELS, class_of};
pub use settings::Settings;
use settings::SettingsMeters;
pub use task_registry::{LimitsStatus, SettingsStatus, TaskId, TaskKind, TaskRegistry, TaskState, TaskStatus};
pub use traces::ActiveSpan;
use traces::{Traces, TracesError, TracesThread};

use crate::core::series::IllegalSeries;

const RESTORE_BOUNDS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

/// What happened in a rebalance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebalance {
    /// Partitions were assigned.
    Assigned,
    /// Partitions were revoked, in order.
    Revoked,
    /// Partitions were lost before the worker knew.
    Lost,
}

/// Why a step was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Every source partition had passed it.
    Watermark,
    /// A silent partition was skipped after the grace time.
    Forced,
}

/// Metrics and the task registry. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

struct Inner {
    registry: Registry,
    statuses: TaskRegistry,
    receivers: Receivers,
    conditions: Conditions,
    rebalances: IntCounterVec,
    commits: IntCounterVec,
    spans_read: IntCounter,
    sampled: IntCounter,
    split: IntCounter,
    ticks: IntCounter,
    fenced: IntCounterVec,
    restores: HistogramVec,
    steps: IntCounterVec,
    left_out: IntCounter,
    illegal: IntCounter,
    hazards: HazardMeters,
    export: ExportMeters,
    endpoints: EndpointMeters,
    overrides: OverridesMeters,
    settings: SettingsMeters,
    own_spans: IntCounterVec,
    /// Set once they are wanted.
    traces: OnceLock<Traces>,
    repartition: RepartitionMeters,
}

// === impl Rebalance ===

impl Rebalance {
    /// As in labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Revoked => "revoked",
            Self::Lost => "lost",
        }
    }
}

// === impl Telemetry ===

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").field("tasks", &self.0.statuses).finish_non_exhaustive()
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
        let statuses = TaskRegistry::default();
        registry.register(Box::new(task_registry::TaskCollector::new(statuses.clone()))).expect("names are distinct");
        let endpoints = EndpointCollector::new(statuses.clone());
        registry.register(Box::new(endpoints)).expect("names are distinct");
        let receivers = Receivers::default();
        let collector = receivers::ReceiversCollector::new(receivers.clone());
        registry.register(Box::new(collector)).expect("names are distinct");
        let info: GaugeVec = keep(&registry, GaugeVec::new(opts(names::BUILD_INFO), names::BUILD_INFO.labels));
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        Self(Arc::new(Inner {
            statuses,
            receivers,
            conditions: Conditions::new(&registry),
            rebalances: counters(&registry, names::REBALANCES, ["assigned", "revoked", "lost"]),
            commits: counters(&registry, names::COMMITS, TaskKind::NAMES),
            spans_read: counter(&registry, names::SPANS_READ),
            sampled: counter(&registry, names::SAMPLED_TRACES),
            split: counter(&registry, names::SPLIT_TRACES),
            ticks: counter(&registry, names::TICKS),
            fenced: counters(&registry, names::FENCED, TaskKind::NAMES),
            restores: keep(
                &registry,
                HistogramVec::new(histogram(names::RESTORES, &RESTORE_BOUNDS), names::RESTORES.labels),
            ),
            steps: counters(&registry, names::STEPS_CLOSED, ["watermark", "stall_timeout"]),
            left_out: counter(&registry, names::STEPS_LEFT_OUT),
            illegal: counter(&registry, names::ILLEGAL_SERIES),
            hazards: HazardMeters::new(&registry),
            export: ExportMeters::new(&registry),
            endpoints: EndpointMeters::new(&registry),
            overrides: OverridesMeters::new(&registry),
            settings: SettingsMeters::new(&registry),
            own_spans: traces::outcomes(&registry),
            traces: OnceLock::new(),
            repartition: RepartitionMeters::new(&registry),
            registry,
        }))
    }

    /// From now on sends spans of this worker's own work, if the settings have an endpoint for them. The thread that does is the
    /// caller's to stop.
    ///
    /// # Errors
    /// When there is no HTTP client or no thread for it.
    pub fn start_traces(
        &self,
        settings: &crate::config::settings::Traces,
        group: &str,
    ) -> Result<Option<TracesThread>, TracesError> {
        let started = Traces::start(settings, group, self.0.own_spans.clone())?;
        Ok(started.map(|(traces, thread)| {
            self.0.traces.get_or_init(|| traces);
            thread
        }))
    }

    /// Begins a trace; `None` while traces are off, and for one that is not in the sample.
    #[must_use]
    pub fn trace(&self, name: &'static str) -> Option<ActiveSpan> {
        self.0.traces.get()?.root(name)
    }

    /// The task registry on which tasks report.
    #[must_use]
    pub fn tasks(&self) -> &TaskRegistry {
        &self.0.statuses
    }

    /// The receivers, and their state.
    #[must_use]
    pub fn receivers(&self) -> &Receivers {
        &self.0.receivers
    }

    /// What must hold for the worker to be ready.
    #[must_use]
    pub fn conditions(&self) -> &Conditions {
        &self.0.conditions
    }

    /// Counts a rebalance.
    pub fn rebalance(&self, event: Rebalance) {
        self.0.rebalances.with_label_values(&[event.name()]).inc();
    }

    /// Whether partitions have gone to another worker.
    #[must_use]
    pub fn has_let_go(&self) -> bool {
        ["revoked", "lost"].into_iter().any(|event| self.0.rebalances.with_label_values(&[event]).get() > 0)
    }

    /// Counts an accepted commit or step-close record.
    pub fn commit(&self, kind: TaskKind) {
        self.0.commits.with_label_values(&[kind.name()]).inc();
    }

    /// Counts spans that were read.
    pub fn spans_read(&self, spans: u64) {
        self.0.spans_read.inc_by(spans);
    }

    /// The spans that were read.
    #[must_use]
    pub fn spans(&self) -> u64 {
        self.0.spans_read.get()
    }

    /// Counts a trace of the sample: a new one, and one that was found in a second partition.
    pub(crate) fn sampled_trace(&self, new: bool, split: bool) {
        self.0.sampled.inc_by(u64::from(new));
        self.0.split.inc_by(u64::from(split));
    }

    /// The meters of the repartition stage.
    #[must_use]
    pub fn repartition(&self) -> &RepartitionMeters {
        &self.0.repartition
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
            Cause::Forced => "stall_timeout",
        };
        self.0.steps.with_label_values(&[cause]).inc();
    }

    /// Counts the series that were not written at a step because receivers would refuse their names, and logs it.
    pub fn illegal_series(&self, illegal: Option<&IllegalSeries>) {
        if let Some(illegal) = illegal {
            self.0.illegal.inc_by(illegal.series);
            say_illegal(illegal);
        }
    }

    /// Counts the tenants that a step was not written for.
    pub fn left_out(&self, tenants: usize) {
        self.0.left_out.inc_by(tenants as u64);
    }

    /// Counts the results of a batch for one of several endpoints.
    pub(crate) fn endpoint_settled(&self, endpoint: &str, results: [(&'static str, u64); 4]) {
        self.0.endpoints.settled(endpoint, results);
    }

    /// The gauges of the requests to an endpoint.
    pub(crate) fn in_flight(&self, endpoint: &str) -> InFlight {
        self.0.endpoints.in_flight(endpoint)
    }

    /// Counts samples that one of several endpoints does not get.
    pub(crate) fn endpoint_dropped(&self, endpoint: &str, why: EndpointDrop, samples: u64) {
        self.0.endpoints.dropped(endpoint, why, samples);
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

    /// Counts deltas that no label set could take.
    pub fn deltas_lost(&self, deltas: u64) {
        self.0.hazards.deltas_lost.inc_by(deltas);
    }

    /// Counts commits whose delta records were sent again because a shard lacked them.
    pub fn sent_again(&self, commits: u64) {
        self.0.hazards.sent_again.inc_by(commits);
    }

    /// Counts a partition that was stuck.
    pub fn stuck(&self) {
        self.0.hazards.stuck.inc();
    }

    /// Counts a storm of rebalances.
    pub fn rebalance_storm(&self) {
        self.0.hazards.storms.inc();
    }

    /// Counts a backoff of this worker from the groups.
    pub fn rests(&self) {
        self.0.hazards.rests.inc();
    }

    /// Counts a failed request for internal topics.
    pub fn admin_request_failed(&self, request: &str) {
        self.0.hazards.admin_failures.with_label_values(&[request]).inc();
    }

    /// Shows how many internal topics are at risk for one reason.
    pub fn topics_at_risk(&self, reason: &str, topics: usize) {
        self.0.hazards.at_risk.with_label_values(&[reason]).set(i64::try_from(topics).unwrap_or(i64::MAX));
    }

    /// Shows how many topics that match are not read.
    pub fn topics_skipped(&self, topics: usize) {
        self.0.hazards.topics_skipped.set(i64::try_from(topics).unwrap_or(i64::MAX));
    }

    /// Shows what the worker holds of one kind.
    pub fn memory_held(&self, part: &str, bytes: usize) {
        self.0.hazards.memory.with_label_values(&[part]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Shows what may be held of one kind.
    pub fn memory_reserved(&self, part: &str, bytes: usize) {
        self.0.hazards.reserved.with_label_values(&[part]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Shows whether reading is throttled by the memory limit.
    pub fn memory_throttled(&self, throttled: bool) {
        self.0.hazards.throttled.set(i64::from(throttled));
    }

    /// Shows by how many milliseconds the clock of this machine is ahead.
    pub fn clock_ahead(&self, millis: crate::core::model::Millis) {
        self.0.hazards.clock_ahead.set(millis as f64 / 1000.0);
    }

    /// Shows how many workers the group needs; 0 while that is not known.
    pub fn desired_workers(&self, workers: f64) {
        self.0.hazards.desired_workers.set(workers);
    }

    /// Settings of tenants were applied.
    pub fn overrides_loaded(&self, version: String, tenants: Vec<String>) {
        self.0.overrides.loaded(version, tenants);
    }

    /// The overrides file has changed and cannot be used.
    pub fn overrides_refused(&self) {
        self.0.overrides.refused();
    }

    /// Which settings of tenants are active.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        self.0.overrides.shown()
    }

    /// Sets the settings by which this worker counts from now on.
    pub fn settings_in_force(&self, fingerprint: u64, text: &str) {
        self.0.settings.in_force(fingerprint, text);
    }

    /// By which settings this worker counts.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.0.settings.shown()
    }

    /// A shard has switched to other settings.
    pub fn settings_changed(&self) {
        self.0.settings.changes.inc();
    }

    /// All metrics in the text format.
    #[must_use]
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.0.registry.gather()).unwrap_or_else(|e| format!("# {e}\n"))
    }

    /// The results of all samples so far.
    #[must_use]
    pub fn samples(&self) -> Samples {
        self.0.export.samples()
    }

    pub(crate) fn export(&self) -> &ExportMeters {
        &self.0.export
    }
}

/// Logs that series are not written because receivers would refuse their names.
pub fn say_illegal(illegal: &IllegalSeries) {
    let (tenant, labels) = &illegal.first;
    let Some(held_back) = flood::may_say(&format!("illegal names {tenant:?}")) else { return };
    tracing::warn!(
        series = illegal.series,
        held_back,
        ?tenant,
        first = ?labels,
        "series are not written, a name of a label or of the metric is not legal; their spans were counted by another version: they \
         end after series.forget_after"
    );
}

#[cfg(test)]
mod tests;
