//! Readiness, as a pure function of the board.

use crate::model::Millis;
use crate::telemetry::{TaskId, TaskState, TaskStatus};

/// An answer names at most this many tasks.
const MAX_NAMED: usize = 20;

/// Why a worker is not ready, one line per reason; empty when it is. A member of the group that owns nothing is ready.
pub(super) fn reasons(joined: bool, tasks: &[(TaskId, TaskStatus)], max_lag: Millis) -> Vec<String> {
    let mut out = Vec::new();
    if !joined {
        out.push("not a member of the consumer group".to_owned());
    }
    let mut unnamed = 0;
    for reason in tasks.iter().filter_map(|(id, s)| reason(id, s, max_lag)) {
        if out.len() < MAX_NAMED {
            out.push(reason);
        } else {
            unnamed += 1;
        }
    }
    if unnamed > 0 {
        out.push(format!("and {unnamed} more"));
    }
    out
}

fn reason(id: &TaskId, s: &TaskStatus, max_lag: Millis) -> Option<String> {
    if s.state != TaskState::Running {
        Some(format!("{id} is {}", s.state.name()))
    } else if !s.restored {
        Some(format!("{id} is not restored"))
    } else if s.lag_millis > max_lag {
        let seconds = |ms: Millis| ms as f64 / 1000.0;
        let (lag, max) = (seconds(s.lag_millis), seconds(max_lag));
        Some(format!("{id} lags {lag} s ({} records), more than admin.ready_max_lag of {max} s", s.lag_records))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::TaskKind;

    fn task(partition: i32, change: impl FnOnce(&mut TaskStatus)) -> (TaskId, TaskStatus) {
        let mut s = TaskStatus { state: TaskState::Running, restored: true, ..TaskStatus::default() };
        change(&mut s);
        (TaskId { kind: TaskKind::Span, topic: "spans".to_owned(), partition }, s)
    }

    #[test]
    fn a_member_without_tasks_is_ready_and_a_stranger_is_not() {
        assert!(reasons(true, &[], 1_000).is_empty());
        assert_eq!(reasons(false, &[], 1_000), ["not a member of the consumer group"]);
    }

    #[test]
    fn every_reason_names_its_task() {
        let tasks = [
            task(0, |_| {}),
            task(1, |s| s.state = TaskState::Restoring),
            task(2, |s| s.restored = false),
            task(3, |s| (s.lag_millis, s.lag_records) = (1_001, 12)),
            task(4, |s| s.lag_millis = 1_000),
        ];
        let expected = [
            "span task spans/1 is restoring",
            "span task spans/2 is not restored",
            "span task spans/3 lags 1.001 s (12 records), more than admin.ready_max_lag of 1 s",
        ];
        assert_eq!(reasons(true, &tasks, 1_000), expected);
    }

    #[test]
    fn the_list_is_bounded() {
        let tasks: Vec<_> = (0..100).map(|p| task(p, |s| s.state = TaskState::Claiming)).collect();
        let lines = reasons(true, &tasks, 1_000);
        assert_eq!(lines.len(), MAX_NAMED + 1);
        assert_eq!(lines.last().map(String::as_str), Some("and 80 more"));
    }
}
