//! What a series task reports of itself: its row of the task registry, other settings, what limits refuse.

use std::time::{Duration, Instant};

use super::{Ending, SeriesRunner, agreement};
use crate::core::model::Millis;
use crate::worker::task::TaskContext;
use crate::worker::telemetry::{LimitsStatus, TaskState, TaskStatus};

/// How many labels are named when limits refuse label sets, and how often at most, in milliseconds.
const TOP_LABELS: usize = 20;
const LOOK_EVERY: Millis = 60_000;

impl SeriesRunner {
    /// Shows its state on the task registry.
    pub(crate) fn show(&self, status: &mut TaskStatus, context: &TaskContext<'_>, present: Millis) {
        status.state = if self.leaving.is_under_way() { TaskState::Closing } else { TaskState::Running };
        status.restored = true;
        status.stream_time = self.task.source_times().map(|(_, _, at)| at).min();
        status.position = self.position;
        if self.at_end {
            status.end_offset = status.end_offset.max(self.position);
        }
        status.closed_step = self.task.closed();
        status.lags(self.position, status.closed_step, present);
        status.fetch_trouble = self.unread.as_ref().map(|unread| unread.why.clone());
        status.shown = true;
        status.active_series = self.task.active_series();
        status.unnamed = self.task.unnamed();
        status.done = self.ending == Ending::Over;
        status.trouble = None;
        status.gaps = self.gaps.lasting();
        status.endpoints = self.delivering.status(status.closed_step);
        self.show_limits(status, present);
        self.show_settings(status, context);
    }

    /// Reports which sources are counted by other settings than this worker's.
    fn show_settings(&self, status: &mut TaskStatus, context: &TaskContext<'_>) {
        let in_force = context.tenants.in_force();
        let own = in_force.tenants.agreed();
        status.settings = agreement::look(&self.task, own);
        let reload_every = Duration::from_millis(context.clients.config.overrides.reload_every.unsigned_abs());
        self.shards.agreement.tell(&status.settings, own, reload_every, Instant::now());
    }

    /// Reports what limits refuse, and which labels make the series. That needs a look at all label sets, so it is not
    /// done often.
    fn show_limits(&self, status: &mut TaskStatus, present: Millis) {
        let refused = self.task.refused();
        let limits = &mut status.limits;
        if refused == limits.refused || (refused > 0 && present - limits.looked_at < LOOK_EVERY) {
            return;
        }
        let top_labels = self.task.top_labels(TOP_LABELS);
        if let Some(worst) = top_labels.first().filter(|_| refused > 0) {
            tracing::warn!(
                shard = self.id.partition,
                refused,
                tenant = worst.tenant,
                service = worst.service,
                label = worst.label,
                values = worst.values,
                samples = ?worst.samples,
                "label sets exceed a limit, their counts go to overflow series; this label has the most values: fix \
                 its source, sanitize span names, or raise the limit (/cardinality lists more)"
            );
        }
        let as_json = |top_label| serde_json::to_value(top_label).unwrap_or_default();
        *limits = LimitsStatus { refused, looked_at: present, top_labels: top_labels.iter().map(as_json).collect() };
    }
}
