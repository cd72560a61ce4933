//! What the journal of a shard knows of its samples: pure.
//!
//! *In:* the state of the journal. *Out:* how far the steps are that were closed, and how far those that receivers have stored.

use std::collections::BTreeMap;

use serde::Serialize;

use super::report::seconds;
use crate::core::journal::{EmitCause, SeriesState};
use crate::core::model::Millis;
use crate::core::model::text::Shown;
use crate::core::model::time::last_step;

/// The steps of a shard, as of its latest step-close record. What has been stored since then is in the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Sending {
    /// The end of the last step that was closed.
    pub(in crate::cli) closed: Option<Millis>,
    /// The end of the last step whose samples, and those of all steps before it, receivers have settled.
    pub(in crate::cli) acknowledged: Option<Millis>,
    /// Steps that are closed and not acknowledged.
    pub(in crate::cli) unacknowledged: u64,
    /// Steps since the latest snapshot that were closed on stall timeout, without some source partition.
    pub(in crate::cli) stall_timeouts: u64,
    /// Bytes of samples in the latest snapshot that wait for a receiver that is down.
    pub(in crate::cli) undelivered_bytes: u64,
    /// Steps since the latest snapshot that were not written for a tenant because its receiver is down, by tenant.
    pub(in crate::cli) skipped: BTreeMap<String, u64>,
}

// === impl Sending ===

impl Sending {
    /// What a journal knows.
    pub(in crate::cli) fn of(state: &SeriesState) -> Self {
        let snapshot = state.snapshot.as_ref();
        let marks = || state.marks.iter().map(|(_, mark)| mark);
        let mut skipped = BTreeMap::new();
        for tenant in marks().flat_map(|mark| &mark.left_out) {
            *skipped.entry(tenant.clone()).or_default() += 1;
        }
        Self {
            closed: marks().next_back().map(|mark| mark.step).or(snapshot.map(|snapshot| snapshot.step)),
            acknowledged: state.acknowledged,
            // `None` is less than every step. The end of all sources is no step.
            unacknowledged: marks().filter(|m| m.cause != EmitCause::End && Some(m.step) > state.acknowledged).count()
                as u64,
            stall_timeouts: marks().filter(|mark| mark.cause == EmitCause::Forced).count() as u64,
            undelivered_bytes: snapshot.map_or(0, |snapshot| snapshot.undelivered.len() as u64),
            skipped,
        }
    }

    /// Whether samples wait for a receiver that is down, or were not written because of it.
    pub(in crate::cli) fn waits(&self) -> bool {
        self.undelivered_bytes > 0 || !self.skipped.is_empty()
    }

    /// Its cells, as text: age of the acknowledged step, steps that are not acknowledged, samples that wait, tenants whose steps
    /// were not written, and steps that were closed on stall timeout.
    pub(in crate::cli) fn cells(&self, now: Millis) -> [String; 5] {
        let age = match self.acknowledged {
            Some(step) if last_step(step).is_some() => "ended".to_owned(),
            Some(step) => seconds((now - step).max(0) as f64 / 1e3),
            None => "-".to_owned(),
        };
        let skipped: Vec<String> = self.skipped.iter().map(|(tenant, n)| format!("{} ({n})", Shown(tenant))).collect();
        let waiting = self.undelivered_bytes as f64 / 1024.0;
        [
            age,
            self.unacknowledged.to_string(),
            if self.undelivered_bytes == 0 { "-".to_owned() } else { format!("{waiting:.1} KiB") },
            if skipped.is_empty() { "-".to_owned() } else { skipped.join(", ") },
            self.stall_timeouts.to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::journal::{Change, EmitMark, SeriesSnapshot};

    fn mark(step: Millis, cause: EmitCause, left_out: &[&str]) -> (i64, EmitMark) {
        let left_out = left_out.iter().map(|&tenant| tenant.to_owned()).collect();
        let (behind, change) = (Vec::new(), Change::default());
        (0, EmitMark { step, cause, acknowledged: None, left_out, behind, basis: None, change })
    }

    #[test]
    fn steps_that_no_receiver_has_acknowledged_and_what_waits_are_counted() {
        let snapshot = SeriesSnapshot { step: 15_000, undelivered: vec![0; 2_048], ..SeriesSnapshot::default() };
        let marks = vec![
            mark(30_000, EmitCause::Watermark, &[]),
            mark(45_000, EmitCause::Forced, &["a\u{1b}", "b"]),
            mark(60_000, EmitCause::Watermark, &["b"]),
        ];
        let state =
            SeriesState { snapshot: Some(snapshot), marks, acknowledged: Some(30_000), ..SeriesState::default() };
        let sending = Sending::of(&state);
        assert_eq!((sending.closed, sending.unacknowledged, sending.stall_timeouts), (Some(60_000), 2, 1));
        assert!(sending.waits());
        assert_eq!(sending.cells(63_000), ["33 s", "2", "2.0 KiB", "a\\u001b (1), b (2)", "1"]);
    }

    #[test]
    fn a_shard_that_begins_and_one_that_has_ended_have_no_steps_that_wait() {
        let new = Sending::of(&SeriesState::default());
        assert_eq!((new.cells(1), new.waits()), (["-", "0", "-", "-", "0"].map(str::to_owned), false));
        let marks = vec![mark(15_000, EmitCause::Watermark, &[]), mark(15_000, EmitCause::End, &[])];
        let ended = Sending::of(&SeriesState { marks, acknowledged: Some(15_000), ..SeriesState::default() });
        assert_eq!((ended.unacknowledged, ended.acknowledged), (0, Some(15_000)));
    }
}
