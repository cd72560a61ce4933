//! What a shard says of the delta records that it has counted, and how far it is when it has nothing to write.

use super::*;
use crate::core::journal::Basis;

/// What a task has counted after these records.
fn basis_of(records: &[&Vec<u8>]) -> Basis {
    let mut task = SeriesTask::new(settings());
    records.iter().for_each(|record| drop(task.apply(record).expect("a delta record")));
    task.basis()
}

#[test]
fn what_was_counted_is_told_alike_for_any_order_of_sources_and_not_for_other_delta_records() {
    let delta_records = |ns: u64| {
        let mut source = Source::new(0, 3 * W);
        source.see(&span("a", ns));
        source.cut(W, W).remove(0)
    };
    let (mine, other, third) = (delta_records(1), delta_records(2), Source::new(1, 3 * W).cut(W, W).remove(0));
    assert_eq!(basis_of(&[&mine, &third, &mine]), basis_of(&[&third, &mine]));
    let (one, two) = (basis_of(&[&mine]), basis_of(&[&other]));
    assert_eq!(one.chain, two.chain);
    assert_ne!(one.digest, two.digest, "another delta record of the same number");
    // An owner that continues from the last snapshot, or from an earlier one because the last was lost, computes the
    // same.
    let mut task = SeriesTask::new(settings());
    task.apply(&mine).expect("a delta record");
    let mut next = SeriesTask::restore(settings(), &task.snapshot()).expect("our own snapshot");
    assert_eq!(task.basis(), next.basis());
    drop(task.snapshot());
    assert_eq!(task.basis(), basis_of(&[&mine]));
    assert_eq!(next.apply_if(&third, |head| head.partition != 1), Ok(None));
    assert_ne!(next.apply_if(&third, |head| head.partition == 1), Ok(None));
}

#[test]
fn another_delta_record_of_a_number_that_was_counted_is_noticed() {
    let mut task = SeriesTask::new(settings());
    let (mut before, mut anew) = (Source::new(0, 3 * W), Source::new(0, 3 * W));
    before.see(&span("a", 1));
    let counted = before.cut(W, W).remove(0);
    assert!(!task.apply(&counted).expect("a delta record").other);
    assert!(!task.apply(&counted).expect("a delta record").other, "sent again");
    // A journal that has lost its end numbers what follows from the start.
    anew.see(&span("b", 1));
    let applied = task.apply(&anew.cut(W, W).remove(0)).expect("a delta record");
    assert_eq!((applied.verdict, applied.other), (ChainVerdict::Duplicate, true));
}

#[test]
fn a_shard_that_has_nothing_to_write_tells_how_far_all_sources_are() {
    let mut task = SeriesTask::new(settings());
    let mut source = [Source::new(0, 3 * W), Source::new(1, 3 * W)];
    let mut silent = |task: &mut SeriesTask, p: usize, at: Millis| {
        task.apply(&source[p].cut(at, at).remove(0)).expect("a delta record");
    };
    assert_eq!(task.idle_until(&[]), None);
    silent(&mut task, 0, 9 * W + 1);
    assert_eq!(task.idle_until(&sources(2)), None, "one has not spoken");
    silent(&mut task, 1, 7 * W + 1);
    assert_eq!((task.closable(&sources(2)), task.idle_until(&sources(2))), (None, Some(7 * W)));
    let closed = task.close(7 * W);
    assert_eq!((closed.samples, task.idle_until(&sources(2))), (0, None));
    silent(&mut task, 1, 9 * W);
    assert_eq!(task.idle_until(&sources(2)), Some(9 * W));
    // A source sends a delta record, and the closed steps have changed nothing.
    let mut busy = Source::new(2, 3 * W);
    busy.see(&span("a", 1));
    task.apply(&busy.cut(8 * W, 9 * W).remove(0)).expect("a delta record");
    assert_eq!((task.idle_until(&sources(3)), task.closable(&sources(3))), (None, Some(8 * W)));
}
