//! The delta records of all partitions, through the series task of a shard.

use spanmill::core::series::{ClosedStep, SeriesSettings};
use spanmill::core::tasks::series::SeriesTask;
use spanmill::core::tasks::span::StepCut;

use crate::scramble::Dice;

pub(crate) type Source = (String, i32);

pub(crate) fn sources(cuts: &[Vec<StepCut>]) -> Vec<Source> {
    (0..).zip(cuts).map(|(p, _)| ("t".to_owned(), p)).collect()
}

fn apply(task: &mut SeriesTask, record: &[u8]) {
    let applied = task.apply(record).expect("a delta record");
    assert_eq!((applied.lost, applied.late), (0, false), "{:?}", applied.first_lost);
}

fn close(task: &mut SeriesTask, sources: &[Source], closed: &mut Vec<ClosedStep>) {
    while let Some(step) = task.closable(sources) {
        closed.push(task.close(step));
    }
}

/// One partition after the other; every step is closed at the end.
pub(crate) fn closed_in_order(settings: &SeriesSettings, cuts: &[Vec<StepCut>], shard: usize) -> Vec<ClosedStep> {
    let mut task = SeriesTask::new(settings.clone());
    for record in cuts.iter().flatten().flat_map(|cut| &cut.delta_records[shard]) {
        apply(&mut task, record);
    }
    let mut closed = Vec::new();
    close(&mut task, &sources(cuts), &mut closed);
    closed
}

/// Partitions in random bursts, steps as soon as they can be, and now and then a new owner that starts from a snapshot.
pub(crate) fn closed_at_random(
    dice: &mut Dice,
    settings: &SeriesSettings,
    cuts: &[Vec<StepCut>],
    shard: usize,
) -> Vec<ClosedStep> {
    let sources = sources(cuts);
    let mut queues: Vec<_> =
        cuts.iter().map(|cuts| cuts.iter().flat_map(|cut| &cut.delta_records[shard]).peekable()).collect();
    let mut task = SeriesTask::new(settings.clone());
    let mut closed = Vec::new();
    while queues.iter_mut().any(|queue| queue.peek().is_some()) {
        let queue = &mut queues[dice.below(cuts.len() as u64) as usize];
        for record in queue.take(1 + dice.below(8) as usize) {
            apply(&mut task, record);
            close(&mut task, &sources, &mut closed);
        }
        if dice.below(6) == 0 {
            task = SeriesTask::restore(settings.clone(), &task.snapshot()).expect("our own snapshot");
        }
    }
    closed
}
