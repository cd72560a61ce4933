//! Sources that end.

use super::*;
use crate::core::model::time::ended_after;

fn closed(steps: &[ClosedStep]) -> Vec<Millis> {
    steps.iter().map(|step| step.step).collect()
}

#[test]
fn a_source_that_has_ended_holds_nothing_back_and_the_last_step_of_all_is_the_last() {
    let (mut task, sources) = (SeriesTask::new(settings()), sources(2));
    let (mut short, mut long) = (Source::new(0, 3 * W), Source::new(1, 3 * W));
    short.see(&span("a", 1));
    let end = short.cut(W, ended_after(W));
    assert!(run(&mut task, 2, &end).is_empty(), "the other source has not spoken");
    assert!(!task.has_ended(&sources));
    long.see(&span("b", 1));
    let first = long.cut(W, 4 * W + 1);
    assert_eq!(closed(&run(&mut task, 2, &first)), [W, 2 * W, 3 * W, 4 * W]);
    long.see(&span("b", 1));

    // A new owner knows it, too.
    let mut task = SeriesTask::restore(settings(), &task.snapshot()).expect("our own snapshot");
    assert!(!task.has_ended(&sources));
    let end = long.cut(5 * W, ended_after(5 * W));
    assert_eq!(closed(&run(&mut task, 2, &end)), [5 * W]);
    assert!(task.has_ended(&sources));
    let task = SeriesTask::restore(settings(), &task.snapshot()).expect("our own snapshot");
    assert!(task.has_ended(&sources) && task.closable(&sources).is_none());
}

#[test]
fn sources_without_records_end_a_task_without_a_step() {
    let mut task = SeriesTask::new(settings());
    for partition in 0..2 {
        assert!(!task.has_ended(&sources(2)));
        let end = Source::new(partition, 3 * W).cut(0, ended_after(0));
        assert!(run(&mut task, 2, &end).is_empty());
    }
    assert!(task.has_ended(&sources(2)));
}
