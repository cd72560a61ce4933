//! Detects a stalled partition, which has unread records and delivers none.

use std::time::{Duration, Instant};

/// How often in a row the fetch of a partition is restarted before its task is.
const REFETCHES: u32 = 3;
/// How long after the end of a partition was reached the known end may still be older than that.
pub(super) const SETTLE: Duration = Duration::from_secs(5);

/// Watches the progress of one partition.
#[derive(Debug)]
pub(super) struct ReadProgress {
    patience: Duration,
    position: i64,
    /// Since when the position has not moved, or did not have to.
    since: Instant,
    refetches: u32,
    /// The end of the partition when the task had read it all: the offsets up to there hold no further record.
    read_up_to: i64,
}

/// What is to be done about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StallVerdict {
    /// Nothing.
    Fine,
    /// Fetch it again.
    Refetch,
    /// Restart its task.
    TakeOver,
}

/// The state of a partition at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartitionView {
    /// The offset that is read next.
    pub(super) position: i64,
    /// The end of the partition, as far as it is known.
    pub(super) end: i64,
    /// Since when the task has read all there was.
    pub(super) at_end: Option<Instant>,
    /// Whether the task does not want to read.
    pub(super) held_back: bool,
}

// === impl ReadProgress ===

impl ReadProgress {
    pub(super) fn new(patience: Duration, present: Instant) -> Self {
        Self { patience, position: -1, since: present, refetches: 0, read_up_to: -1 }
    }

    /// How long the position may not move.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// The end of the partition when it had been read completely: what lies before it holds no further record.
    pub(super) fn read_up_to(&self) -> i64 {
        self.read_up_to
    }

    /// Judges the present state.
    pub(super) fn judge(&mut self, seen: PartitionView, present: Instant) -> StallVerdict {
        if seen.at_end.is_some_and(|since| present.saturating_duration_since(since) < SETTLE) {
            self.read_up_to = self.read_up_to.max(seen.end);
        }
        let moved = seen.position != self.position;
        self.position = seen.position;
        if moved {
            self.refetches = 0;
        }
        let nothing_left = seen.end <= seen.position.max(self.read_up_to);
        if moved || nothing_left || seen.held_back {
            self.since = present;
            return StallVerdict::Fine;
        }
        if present.saturating_duration_since(self.since) < self.patience {
            return StallVerdict::Fine;
        }
        self.since = present;
        self.refetches += 1;
        if self.refetches > REFETCHES { StallVerdict::TakeOver } else { StallVerdict::Refetch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_partition_that_has_records_and_yields_none_is_fetched_anew_and_at_last_taken_over() {
        let start = Instant::now();
        let mut progress = ReadProgress::new(PATIENCE, start);
        let mut judge = |seconds, position, end| {
            progress.judge(PartitionView { position, end, at_end: None, held_back: false }, after(start, seconds))
        };
        assert_eq!(judge(0, 5, 9), StallVerdict::Fine);
        assert_eq!(judge(59, 5, 9), StallVerdict::Fine);
        assert_eq!(judge(60, 5, 9), StallVerdict::Refetch);
        assert_eq!(judge(61, 5, 9), StallVerdict::Fine);
        assert_eq!([judge(120, 5, 9), judge(180, 5, 9)], [StallVerdict::Refetch; 2]);
        assert_eq!(judge(240, 5, 9), StallVerdict::TakeOver);
        // One record, and the count begins again.
        assert_eq!([judge(250, 6, 9), judge(309, 6, 9)], [StallVerdict::Fine; 2]);
        assert_eq!(judge(310, 6, 9), StallVerdict::Refetch);
    }

    #[test]
    fn a_task_that_does_not_want_to_read_is_not_stuck() {
        let start = Instant::now();
        let mut progress = ReadProgress::new(PATIENCE, start);
        let mut judge = |seconds, held_back| {
            progress.judge(PartitionView { position: 5, end: 9, at_end: None, held_back }, after(start, seconds))
        };
        assert_eq!([judge(0, false), judge(100, true), judge(159, false)], [StallVerdict::Fine; 3]);
        assert_eq!(judge(160, false), StallVerdict::Refetch);
    }

    #[test]
    fn offsets_without_records_at_the_end_are_not_waited_for() {
        let start = Instant::now();
        let mut progress = ReadProgress::new(PATIENCE, start);
        let mut judge = |seconds, end| {
            let seen = PartitionView { position: 5, end, at_end: Some(start), held_back: false };
            progress.judge(seen, after(start, seconds))
        };
        // What is known of the end comes a little after the end itself.
        assert_eq!([judge(0, 4), judge(2, 7), judge(70, 7), judge(100, 8)], [StallVerdict::Fine; 4]);
        assert_eq!(judge(131, 8), StallVerdict::Refetch, "something came that was not given to us");
    }
}
