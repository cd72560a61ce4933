//! Watches for what must not last: a partition that has records and yields none, a group that never settles, and a worker that
//! its group keeps throwing out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::telemetry::TaskKind;

/// Times in a row that a partition is fetched anew before its task is taken over again.
const REFETCHES: u32 = 3;
/// How long after the end of a partition was reached what is known of its end may still be older than that.
const SETTLE: Duration = Duration::from_secs(5);

/// Rebalances that move partitions of this worker within [`MINUTE`] before that is called a storm. A rolling restart of
/// a few workers has fewer.
const STORM: usize = 12;
const MINUTE: Duration = Duration::from_secs(60);

/// Times that a worker is thrown out within [`LOSSES_WITHIN`] before it is called unsteady. Who is thrown out joins again, and
/// each time the whole group shares its partitions out twice.
const LOSSES: usize = 5;
const LOSSES_WITHIN: Duration = Duration::from_secs(300);

/// Watches the progress of one partition.
#[derive(Debug)]
pub(super) struct Progress {
    patience: Duration,
    position: i64,
    /// Since when nothing has moved, or nothing had to.
    since: Instant,
    refetches: u32,
    /// The end of the partition when the task had read it all: what is left up to there holds no record.
    read_up_to: i64,
}

/// What is to be done about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// Fetch it anew.
    Refetch,
    /// Take its task over again.
    TakeOver,
}

/// What is known of a partition at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The offset that is read next.
    pub(super) position: i64,
    /// The end of the partition, as far as it is known.
    pub(super) end: i64,
    /// Since when the task has read all there was.
    pub(super) at_end: Option<Instant>,
    /// Whether the task does not want to read.
    pub(super) held_back: bool,
}

/// Counts the rebalances of the last minute.
#[derive(Debug, Default)]
pub(super) struct Storm {
    moves: VecDeque<Instant>,
    told: Option<Instant>,
}

// === impl Progress ===

impl Progress {
    pub(super) fn new(patience: Duration, present: Instant) -> Self {
        Self { patience, position: -1, since: present, refetches: 0, read_up_to: -1 }
    }

    /// Judges what is seen now.
    pub(super) fn judge(&mut self, seen: Seen, present: Instant) -> Verdict {
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
            return Verdict::Fine;
        }
        if present.saturating_duration_since(self.since) < self.patience {
            return Verdict::Fine;
        }
        self.since = present;
        self.refetches += 1;
        if self.refetches > REFETCHES { Verdict::TakeOver } else { Verdict::Refetch }
    }
}

/// Remembers when the groups of span and of series tasks gave this worker's partitions away without asking, because they
/// had not heard of it.
#[derive(Debug, Default)]
pub(super) struct Losses {
    spans: VecDeque<Instant>,
    series: VecDeque<Instant>,
    unsteady: bool,
}

// === impl Losses ===

impl Losses {
    /// It happened again. When it was too often, the worker is unsteady, and the count begins anew.
    pub(super) fn lost(&mut self, kind: TaskKind, present: Instant) {
        let times = match kind {
            TaskKind::Span => &mut self.spans,
            TaskKind::Series => &mut self.series,
        };
        while times.pop_front_if(|at| present.saturating_duration_since(*at) >= LOSSES_WITHIN).is_some() {}
        times.push_back(present);
        if times.len() >= LOSSES {
            *self = Self { unsteady: true, ..Self::default() };
        }
    }

    /// A group has the worker back; tells once that it is unsteady. Not earlier: who is out cannot see who else is in.
    pub(super) fn is_back(&mut self) -> bool {
        std::mem::take(&mut self.unsteady)
    }
}

// === impl Storm ===

impl Storm {
    /// The group has moved partitions; tells how often within the last minute if that is a storm, once a minute.
    pub(super) fn moved(&mut self, present: Instant) -> Option<usize> {
        let recent = |at: &Instant| present.saturating_duration_since(*at) < MINUTE;
        while self.moves.pop_front_if(|at| !recent(at)).is_some() {}
        self.moves.push_back(present);
        if self.moves.len() < STORM || self.told.as_ref().is_some_and(recent) {
            return None;
        }
        self.told = Some(present);
        Some(self.moves.len())
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
        let mut progress = Progress::new(PATIENCE, start);
        let mut judge = |seconds, position, end| {
            progress.judge(Seen { position, end, at_end: None, held_back: false }, after(start, seconds))
        };
        assert_eq!(judge(0, 5, 9), Verdict::Fine);
        assert_eq!(judge(59, 5, 9), Verdict::Fine);
        assert_eq!(judge(60, 5, 9), Verdict::Refetch);
        assert_eq!(judge(61, 5, 9), Verdict::Fine);
        assert_eq!([judge(120, 5, 9), judge(180, 5, 9)], [Verdict::Refetch; 2]);
        assert_eq!(judge(240, 5, 9), Verdict::TakeOver);
        // One record, and the count begins again.
        assert_eq!([judge(250, 6, 9), judge(309, 6, 9)], [Verdict::Fine; 2]);
        assert_eq!(judge(310, 6, 9), Verdict::Refetch);
    }

    #[test]
    fn a_task_that_does_not_want_to_read_is_not_stuck() {
        let start = Instant::now();
        let mut progress = Progress::new(PATIENCE, start);
        let mut judge = |seconds, held_back| {
            progress.judge(Seen { position: 5, end: 9, at_end: None, held_back }, after(start, seconds))
        };
        assert_eq!([judge(0, false), judge(100, true), judge(159, false)], [Verdict::Fine; 3]);
        assert_eq!(judge(160, false), Verdict::Refetch);
    }

    #[test]
    fn offsets_without_records_at_the_end_are_not_waited_for() {
        let start = Instant::now();
        let mut progress = Progress::new(PATIENCE, start);
        let mut judge = |seconds, end| {
            let seen = Seen { position: 5, end, at_end: Some(start), held_back: false };
            progress.judge(seen, after(start, seconds))
        };
        // What is known of the end comes a little after the end itself.
        assert_eq!([judge(0, 4), judge(2, 7), judge(70, 7), judge(100, 8)], [Verdict::Fine; 4]);
        assert_eq!(judge(131, 8), Verdict::Refetch, "something came that was not given to us");
    }

    #[test]
    fn a_storm_is_told_once_a_minute() {
        let start = Instant::now();
        let mut storm = Storm::default();
        let told: Vec<u64> = (0..60).filter(|&i| storm.moved(after(start, i * 3)).is_some()).collect();
        assert_eq!(told, [11, 31, 51]);
        let mut calm = Storm::default();
        assert!((0..60).all(|i| calm.moved(after(start, i * 10)).is_none()));
    }

    #[test]
    fn a_worker_is_unsteady_when_one_of_its_groups_threw_it_out_five_times_in_five_minutes() {
        let start = Instant::now();
        for kinds in [&[TaskKind::Span, TaskKind::Series][..], &[TaskKind::Series]] {
            let mut losses = Losses::default();
            let times = (0..15).flat_map(|i| kinds.iter().map(move |kind| (*kind, i * 20)));
            let unsteady = times.filter(|(kind, at)| {
                losses.lost(*kind, after(start, *at));
                losses.is_back()
            });
            let unsteady: Vec<u64> = unsteady.map(|(_, at)| at).collect();
            // What the other group does at the same moment is the first of its next count.
            assert_eq!(unsteady, if kinds.len() == 2 { vec![80, 160, 260] } else { vec![80, 180, 280] });
        }
        let mut rare = Losses::default();
        (0..60).for_each(|i| rare.lost(TaskKind::Span, after(start, i * 80)));
        assert!(!rare.is_back());
    }
}
