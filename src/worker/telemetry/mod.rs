//! Telemetry: spanmill's own metrics and logs, and the task registry on which tasks report.
//!
//! *In:* what task threads and shard senders report. *Out:* text exposition, the task registry. *Owner:* the process;
//! [`Telemetry`] is a handle that is cheap to clone. *Never:* a decision. *Next:* `admin` shows it.

mod conditions;
mod endpoints;
pub mod flood;
pub(crate) mod hazards;
pub mod log;
pub mod names;
mod overrides;
mod receivers;
mod repartition;
mod settings;
mod task_registry;
pub mod traces;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

pub use conditions::{Condition, Conditions, Report, Reporter};
use endpoints::{EndpointCollector, EndpointMeters};
pub use endpoints::{EndpointDrop, EndpointStatus};
use hazards::HazardMeters;
use names::Metric;
pub use overrides::Overrides;
use overrides::OverridesMeters;
pub(crate) use receivers::ReceiverId;
pub use receivers::{QuarantinedSeries, ReceiverStatus, Receivers, WAITS_AT_LEAST, Waiting};
pub use repartition::RepartitionMeters;
pub use settings::Settings;
use settings::SettingsMeters;
pub use task_registry::{LimitsStatus, SettingsStatus, TaskId, TaskKind, TaskRegistry, TaskState, TaskStatus};
pub use traces::ActiveSpan;
use traces::{Traces, TracesError, TracesThread};

use crate::core::remotewrite::verdict::REASONS;
use crate::core::series::IllegalSeries;

/// The reason under which samples are rejected whose tenant is not legal in a header.
pub(crate) const ILLEGAL_TENANT: &str = "illegal_tenant";
/// The same of samples that are not sent, because the receiver refuses their series.
pub(crate) const QUARANTINED: &str = "quarantined";
/// Why samples are not sent whose series got the labels of another one.
pub(crate) const SAME_LABELS: &str = "same_labels";
/// Why samples are not sent that are older than the settings allow.
pub(crate) const MAX_SAMPLE_AGE: &str = "max_sample_age";

/// All values that [`class_of`] returns.
const CLASSES: [&str; 6] = ["2xx", "3xx", "429", "4xx", "5xx", "error"];

/// The class that an answer is counted under; 0 is no answer.
pub(crate) fn class_of(status: u16) -> &'static str {
    match status {
        200..=299 => "2xx",
        429 => "429",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "error",
    }
}

/// Seconds: from a quick answer on the same host to a receiver that hangs until the timeout.
const REQUEST_BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];
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

/// Samples in flight to the receivers, by the sender's own count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Samples {
    /// Made.
    pub built: u64,
    /// Stored by the receiver.
    pub acknowledged: u64,
    /// Refused because a predecessor had delivered them.
    pub already_there: u64,
    /// Rejected.
    pub rejected: u64,
    /// Not sent, by `write_relabel_configs`.
    pub filtered: u64,
    /// Dropped with the task that they came from; its next owner sends them again.
    pub abandoned: u64,
    /// In flight.
    pub pending: u64,
}

/// The meters of remote write.
pub(crate) struct ExportMeters {
    pub(crate) built: IntCounter,
    pub(crate) acknowledged: IntCounter,
    pub(crate) already_there: IntCounter,
    pub(crate) rejected: IntCounterVec,
    pub(crate) filtered: IntCounter,
    pub(crate) abandoned: IntCounter,
    pub(crate) exemplars_rejected: IntCounter,
    pub(crate) exemplars_withheld: IntCounter,
    pub(crate) written_differs: IntCounter,
    pub(crate) pending_samples: IntGauge,
    pub(crate) requests: IntCounterVec,
    pub(crate) retries: IntCounter,
    pub(crate) metadata: IntCounterVec,
    pub(crate) bytes: IntCounter,
    pub(crate) in_flight: IntGauge,
    pub(crate) seconds: Histogram,
    pub(crate) pending_batches: IntGauge,
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
        let meters = self.export();
        let rejected = meters.rejected.collect();
        let rejected = rejected.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        Samples {
            built: meters.built.get(),
            acknowledged: meters.acknowledged.get(),
            already_there: meters.already_there.get(),
            rejected: rejected.map(|m| m.get_counter().get_value()).sum::<f64>() as u64,
            filtered: meters.filtered.get(),
            abandoned: meters.abandoned.get(),
            pending: meters.pending_samples.get().unsigned_abs(),
        }
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

// === impl ExportMeters ===

impl ExportMeters {
    fn new(registry: &Registry) -> Self {
        let gauge = |m: Metric| keep(registry, IntGauge::with_opts(opts(m)));
        Self {
            built: counter(registry, names::SAMPLES_BUILT),
            acknowledged: counter(registry, names::SAMPLES_ACKNOWLEDGED),
            already_there: counter(registry, names::SAMPLES_ALREADY_THERE),
            rejected: counters(
                registry,
                names::SAMPLES_REJECTED,
                REASONS.into_iter().chain([ILLEGAL_TENANT, QUARANTINED, SAME_LABELS, MAX_SAMPLE_AGE]),
            ),
            filtered: counter(registry, names::SAMPLES_FILTERED),
            abandoned: counter(registry, names::SAMPLES_ABANDONED),
            exemplars_rejected: counter(registry, names::EXEMPLARS_REJECTED),
            exemplars_withheld: counter(registry, names::EXEMPLARS_WITHHELD),
            written_differs: counter(registry, names::WRITTEN_DIFFERS),
            pending_samples: gauge(names::SAMPLES_PENDING),
            requests: counters(registry, names::REQUESTS, CLASSES),
            retries: counter(registry, names::RETRIES),
            metadata: counters(registry, names::METADATA, ["accepted", "failed"]),
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

/// Counters by the value of one label. The known values exist from the start: `increase()` does not see the first event
/// of a series that begins with it, so an alert would miss it.
fn counters(registry: &Registry, m: Metric, known: impl IntoIterator<Item = &'static str>) -> IntCounterVec {
    let counters = keep(registry, IntCounterVec::new(opts(m), m.labels));
    known.into_iter().for_each(|value| drop(counters.with_label_values(&[value])));
    counters
}

fn keep<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let made = made.expect("names.rs holds legal metrics");
    registry.register(Box::new(made.clone())).expect("names are distinct");
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{Counter, Ledger};
    use crate::core::remotewrite::verdict::reason;

    fn span_task(partition: i32) -> TaskId {
        TaskId { kind: TaskKind::Span, topic: "otlp_spans".to_owned(), partition }
    }

    #[test]
    fn a_task_that_leaves_takes_its_series_along() {
        let t = Telemetry::new();
        let mut ledger = Ledger::default();
        ledger.add(Counter::SpansRead, 7);
        t.tasks().confirm(TaskKind::Span, true);
        t.tasks().update(&span_task(3), |s| {
            s.state = TaskState::Running;
            (s.journaled, s.shown) = (Some(ledger), true);
            s.lag_millis = 1_500;
        });
        let text = t.render();
        let spans_read = r#"spanmill_spans_read_total{partition="3",state="owned",topic="otlp_spans"} 7"#;
        assert!(text.contains(spans_read), "{text}");
        assert!(text.contains(r#"spanmill_lag_seconds{partition="3",state="owned",topic="otlp_spans"} 1.5"#), "{text}");
        assert!(text.contains(r#"spanmill_tasks{kind="span",state="running"} 1"#), "{text}");
        t.tasks().remove(&span_task(3));
        let text = t.render();
        assert!(!text.contains(r#"partition="3""#), "{text}");
        assert!(text.contains(r#"spanmill_tasks{kind="span",state="running"} 0"#), "{text}");
    }

    #[test]
    fn rows_stay_with_their_last_value_and_say_what_it_is_worth() {
        let t = Telemetry::new();
        let id = span_task(3);
        let row = |state: &str| {
            format!("spanmill_lag_records{{partition=\"3\",state=\"{state}\",topic=\"otlp_spans\"}} 12\n")
        };
        t.tasks().update(&id, |s| s.lag_records = 5);
        assert!(!t.render().contains("spanmill_lag_records{"), "nothing is known yet");
        t.tasks().update(&id, |s| {
            (s.state, s.shown, s.lag_records) = (TaskState::Running, true, 12);
            s.journaled = Some(Ledger::default());
        });
        assert!(t.render().contains(&row("unconfirmed")), "it is not confirmed");
        t.tasks().confirm(TaskKind::Span, true);
        assert!(t.render().contains(&row("owned")));
        t.tasks().confirm(TaskKind::Span, false);
        assert!(t.render().contains(&row("unconfirmed")));
        t.tasks().update(&id, |s| s.state = TaskState::Claiming);
        assert!(t.render().contains(&row("restoring")));
        t.tasks().lost(&id);
        assert!(t.render().contains(&row("lost")));
        assert!(!t.render().contains("state=\"owned\""), "{}", t.render());
        t.tasks().forget_lost(TaskKind::Series, Duration::ZERO);
        t.tasks().forget_lost(TaskKind::Span, Duration::from_secs(3_600));
        assert!(t.render().contains(&row("lost")), "who has it is not known yet");
        t.tasks().forget_lost(TaskKind::Span, Duration::ZERO);
        assert!(!t.render().contains("partition=\"3\""));
    }

    #[test]
    fn what_alerts_count_is_there_before_it_happens_and_no_other_label_appears_when_it_does() {
        let t = Telemetry::new();
        let rows = |t: &Telemetry| -> Vec<String> {
            let text = t.render();
            text.lines().filter_map(|line| line.split_once("} ").map(|(series, _)| series.to_owned())).collect()
        };
        let before = rows(&t);
        for kind in [TaskKind::Span, TaskKind::Series] {
            t.panicked(kind);
            t.fenced(kind);
            t.commit(kind);
        }
        [Rebalance::Assigned, Rebalance::Revoked, Rebalance::Lost].into_iter().for_each(|event| t.rebalance(event));
        [Cause::Watermark, Cause::Forced].into_iter().for_each(|cause| t.step_closed(cause));
        [true, false].into_iter().for_each(|stored| t.dead_letter(stored));
        let refused = [300, 400, 401, 404, 413, 418, 429, 500].map(|status| reason(status, ""));
        for reason in refused.into_iter().chain(["too_old", ILLEGAL_TENANT, QUARANTINED, SAME_LABELS, MAX_SAMPLE_AGE]) {
            t.export().rejected.with_label_values(&[reason]).inc();
        }
        for status in [0, 204, 302, 400, 429, 503] {
            t.export().requests.with_label_values(&[class_of(status)]).inc();
        }
        assert_eq!(rows(&t), before);
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
        t.admin_request_failed("delete_records");
        t.topics_at_risk("one_copy", 1);
        t.memory_reserved("fetch", 1);
        t.overrides_loaded("v1".to_owned(), Vec::new());
        t.settings_in_force(1, "");
        t.export().rejected.with_label_values(&["bad_data"]).inc();
        let receiver = t.receivers().add("http://r/".to_owned(), &"a".into());
        t.receivers().waits(receiver, "unauthorized", "check the token");
        t.export().requests.with_label_values(&["2xx"]).inc();
        t.endpoint_settled("mimir", ["acknowledged", "duplicate", "rejected", "filtered"].map(|result| (result, 1)));
        t.endpoint_dropped("mimir", EndpointDrop::Backlog, 1);
        let shard = TaskId { kind: TaskKind::Series, topic: "spanmill-deltas".to_owned(), partition: 0 };
        for id in [&span_task(0), &shard] {
            t.tasks().update(id, |s| {
                s.stream_time = Some(15_000);
                s.closed_step = Some(15_000);
                s.endpoints = [("mimir".into(), EndpointStatus::default())].into();
                (s.journaled, s.shown) = (Some(Ledger::default()), true);
            });
        }
        let text = t.render();
        for m in names::ALL.iter().chain(names::LEDGER) {
            assert!(text.contains(&format!("# HELP {} ", m.name)), "{} is not exposed", m.name);
        }
    }

    #[test]
    fn an_update_changes_only_what_it_names() {
        let statuses = TaskRegistry::default();
        statuses.update(&span_task(1), |s| s.position = 5);
        statuses.update(&span_task(1), |s| s.restored = true);
        statuses.update(&span_task(0), |s| s.position = 9);
        let all = statuses.snapshot();
        assert_eq!(all.iter().map(|(id, s)| (id.partition, s.position)).collect::<Vec<_>>(), [(0, 9), (1, 5)]);
        assert!(statuses.get(&span_task(1)).expect("known").restored);
    }
}
