//! Whether samples arrive, by the counts of all samples together.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::worker::telemetry::Samples;

/// The window of the judgment.
const WINDOW: Duration = Duration::from_secs(60);
/// How long nothing may be settled while something waits.
const STALLED: Duration = Duration::from_secs(10);
/// From so many samples of ten on, nearly all are refused.
const NEARLY_ALL: u64 = 9;

/// The counts of the recent past.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// When the counts changed, and what they were before.
    changes: VecDeque<(Instant, Samples)>,
    last: Samples,
    /// Since when nothing has been settled while something waits.
    waits: Option<Instant>,
    /// The reason if nearly all of the last settled samples were refused.
    refused: Option<String>,
}

impl Delivery {
    /// This worker has nothing to send: other workers own its shards.
    pub(super) fn forget(&mut self) {
        (self.waits, self.refused) = (None, None);
    }

    /// Takes the counts; returns the problem, if there is one.
    pub(super) fn judge(&mut self, now: Samples, present: Instant) -> Option<String> {
        let settled = |s: &Samples| s.acknowledged + s.already_there + s.rejected + s.filtered;
        let moved = settled(&now) != settled(&self.last);
        if moved {
            self.changes.push_back((present, self.last));
            while self.changes.pop_front_if(|(at, _)| present.saturating_duration_since(*at) > WINDOW).is_some() {}
            let before = self.changes.front().map_or(self.last, |(_, before)| *before);
            // Resent samples that are stored already do not count: the receiver refuses them as duplicates.
            let rejected = now.rejected - before.rejected;
            let all = rejected + now.acknowledged - before.acknowledged;
            let nearly_all = rejected.saturating_mul(10) >= all.saturating_mul(NEARLY_ALL);
            self.refused = (rejected > 0 && nearly_all).then(|| {
                format!(
                    "the receiver rejected {rejected} of the last {all} samples; see the log lines \"receiver \
                     rejected samples\" for the reason"
                )
            });
        }
        self.last = now;
        if moved || now.pending == 0 {
            self.waits = None;
        }
        let waits = (now.pending > 0).then(|| present.saturating_duration_since(*self.waits.get_or_insert(present)));
        let stalled = waits.filter(|waits| *waits >= STALLED).map(|waits| {
            format!(
                "no receiver has accepted samples for {} s, and {} samples are pending; check that the receivers in \
                 remote_write are up and reachable. No data is lost meanwhile: the spans stay in Kafka",
                waits.as_secs(),
                now.pending
            )
        });
        stalled.or_else(|| self.refused.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_receiver_that_refuses_nearly_everything_is_told_until_it_takes_something_again() {
        let (start, mut delivery) = (Instant::now(), Delivery::default());
        let mut s = Samples::default();
        assert_eq!(delivery.judge(s, start), None);
        s.acknowledged = 100;
        assert_eq!(delivery.judge(s, at(start, 1)), None);
        s.rejected = 100;
        assert_eq!(delivery.judge(s, at(start, 2)), None, "half of them");
        s.rejected = 1_100;
        assert!(delivery.judge(s, at(start, 3)).is_some_and(|text| text.contains("1100 of the last 1200")));
        // Nothing is sent for long: the last that is known stays.
        assert!(delivery.judge(s, at(start, 500)).is_some());
        let mut moved = Delivery { refused: delivery.refused.clone(), last: s, ..Delivery::default() };
        moved.forget();
        assert_eq!(moved.judge(s, at(start, 500)), None, "another worker has the shards");
        s.acknowledged += 50;
        assert_eq!(delivery.judge(s, at(start, 501)), None);
        s.already_there += 1_000_000;
        s.rejected += 2_000;
        assert!(delivery.judge(s, at(start, 501)).is_some(), "what was there already does not make up for it");
        s.acknowledged += 50_000;
        assert_eq!(delivery.judge(s, at(start, 501)), None);
        // One rejected series is no reason.
        for second in 502..600 {
            (s.acknowledged, s.rejected) = (s.acknowledged + 50, s.rejected + 1);
            assert_eq!(delivery.judge(s, at(start, second)), None);
        }
    }

    #[test]
    fn samples_that_wait_while_nothing_is_settled_are_told() {
        let (start, mut delivery) = (Instant::now(), Delivery::default());
        let mut s = Samples { pending: 10, ..Samples::default() };
        assert_eq!(delivery.judge(s, start), None);
        assert_eq!(delivery.judge(s, at(start, 9)), None);
        assert!(delivery.judge(s, at(start, 10)).is_some_and(|text| text.contains("10 samples are pending")));
        s.acknowledged = 1;
        assert_eq!(delivery.judge(s, at(start, 11)), None);
        s.pending = 0;
        assert_eq!(delivery.judge(s, at(start, 40)), None);
        s.pending = 5;
        assert_eq!(delivery.judge(s, at(start, 41)), None);
        assert!(delivery.judge(s, at(start, 52)).is_some());
    }
}
