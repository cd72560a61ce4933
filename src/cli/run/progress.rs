//! What a worker logs about its normal work: that the first samples have been stored, and a line every minute.

use std::time::{Duration, Instant};

use crate::core::model::Millis;
use crate::worker::telemetry::{Samples, TaskKind, TaskState, Telemetry};

/// The interval between two lines.
const EVERY: Duration = Duration::from_secs(60);
/// The interval between two checks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What has been reported so far.
#[derive(Debug)]
pub(super) struct RunProgress {
    looked: Instant,
    told: Instant,
    /// Whether the first samples have been stored.
    stored: bool,
    spans: u64,
    samples: Samples,
}

/// A minute of work.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Minute {
    pub(super) spans_per_second: f64,
    /// Records left to read, and how far the last of the owned partitions lies behind.
    pub(super) lag_records: u64,
    pub(super) lag_seconds: f64,
    pub(super) series: u64,
    /// Samples of this minute.
    pub(super) stored: u64,
    pub(super) rejected: u64,
    /// Samples that wait.
    pub(super) pending: u64,
    /// How old the newest step is that every owned shard has closed.
    pub(super) fresh_seconds: Option<f64>,
}

impl RunProgress {
    pub(super) fn new(present: Instant) -> Self {
        Self { looked: present, told: present, stored: false, spans: 0, samples: Samples::default() }
    }

    /// Logs what is due.
    pub(super) fn say(&mut self, telemetry: &Telemetry, present: Instant, now: Millis) {
        if present.saturating_duration_since(self.looked) < LOOK_EVERY {
            return;
        }
        self.looked = present;
        if self.first(telemetry.samples()) {
            let samples = telemetry.samples().acknowledged;
            tracing::info!(samples, "first samples stored");
        }
        if let Some(minute) = self.minute(telemetry, present, now) {
            let Minute { spans_per_second, lag_records, lag_seconds, series, stored, rejected, pending, fresh_seconds } =
                minute;
            tracing::info!(
                spans_per_second,
                lag_records,
                lag_seconds,
                series,
                stored,
                rejected,
                pending,
                fresh_seconds,
                "running"
            );
        }
    }

    /// Whether the first samples have been stored since the last check.
    fn first(&mut self, samples: Samples) -> bool {
        let first = !self.stored && samples.acknowledged > 0;
        self.stored |= first;
        first
    }

    /// The last minute, once it is over.
    fn minute(&mut self, telemetry: &Telemetry, present: Instant, now: Millis) -> Option<Minute> {
        let took = present.saturating_duration_since(self.told);
        if took < EVERY {
            return None;
        }
        let (spans, samples) = (telemetry.spans(), telemetry.samples());
        let statuses = telemetry.tasks().snapshot();
        let running = |kind| statuses.iter().filter(move |(id, s)| id.kind == kind && s.state == TaskState::Running);
        let seconds = |millis: Millis| (millis as f64 / 100.0).round() / 10.0;
        let minute = Minute {
            spans_per_second: ((spans - self.spans) as f64 / took.as_secs_f64()).round(),
            lag_records: running(TaskKind::Span).map(|(_, s)| s.lag_records).sum(),
            lag_seconds: seconds(running(TaskKind::Span).map(|(_, s)| s.lag_millis).max().unwrap_or_default()),
            series: running(TaskKind::Series).map(|(_, s)| s.active_series).sum(),
            stored: samples.acknowledged - self.samples.acknowledged,
            rejected: samples.rejected - self.samples.rejected,
            pending: samples.pending,
            fresh_seconds: running(TaskKind::Series)
                .map(|(_, s)| s.closed_step)
                .min()
                .flatten()
                .map(|step| seconds(now - step)),
        };
        (self.told, self.spans, self.samples) = (present, spans, samples);
        Some(minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::telemetry::{TaskId, TaskStatus};

    fn put(telemetry: &Telemetry, kind: TaskKind, partition: i32, change: impl FnOnce(&mut TaskStatus)) {
        let id = TaskId { kind, topic: "spans".into(), partition };
        telemetry.tasks().update(&id, |status| {
            status.state = TaskState::Running;
            change(status);
        });
    }

    #[test]
    fn a_minute_of_work_is_told_by_what_the_tasks_say_and_the_next_one_begins() {
        let (telemetry, start) = (Telemetry::new(), Instant::now());
        let mut progress = RunProgress::new(start);
        telemetry.spans_read(6_000);
        put(&telemetry, TaskKind::Span, 0, |s| (s.lag_records, s.lag_millis) = (7, 1_500));
        put(&telemetry, TaskKind::Span, 1, |s| (s.lag_records, s.lag_millis) = (3, 2_500));
        put(&telemetry, TaskKind::Series, 0, |s| (s.active_series, s.closed_step) = (40, Some(85_000)));
        put(&telemetry, TaskKind::Series, 1, |s| (s.active_series, s.closed_step) = (2, Some(70_000)));
        assert_eq!(progress.minute(&telemetry, start + Duration::from_secs(59), 100_000), None);
        let minute = progress.minute(&telemetry, start + EVERY, 100_000).expect("a minute is over");
        let expected = Minute {
            spans_per_second: 100.0,
            lag_records: 10,
            lag_seconds: 2.5,
            series: 42,
            stored: 0,
            rejected: 0,
            pending: 0,
            fresh_seconds: Some(30.0),
        };
        assert_eq!(minute, expected);
        let next = progress.minute(&telemetry, start + 2 * EVERY, 160_000).expect("another one");
        assert_eq!((next.spans_per_second, next.fresh_seconds), (0.0, Some(90.0)));
    }

    #[test]
    fn the_first_samples_are_told_once() {
        let mut progress = RunProgress::new(Instant::now());
        let with = |acknowledged| Samples { acknowledged, ..Samples::default() };
        assert_eq!([0, 5, 9].map(|n| progress.first(with(n))), [false, true, false]);
    }
}
