//! Shards that close steps by force, what their journals tell of it, and a replay that reads them.

use std::sync::Arc;

use spanmill::core::deltas::DeltaRecord;
use spanmill::core::journal::{
    Cause, Change, EmitCause, EmitMark, Event, ForcedCloses, JournalWriter, Missed, Owner, Past, SpanCommit, StepOf,
    frame::claim,
};
use spanmill::core::model::StepWidth;
use spanmill::core::series::{ClosedStep, SeriesSettings};
use spanmill::core::tasks::series::SeriesTask;
use spanmill::core::tasks::span::{SpanSettings, StepCut};

use super::{Story, show_difference};
use crate::features::owner::{Disorder, run, run_again};
use crate::features::settings::SHARDS;
use crate::features::shards::{closed_at_random, closed_in_order, sources};
use crate::scramble::Dice;

const ME: Owner = Owner(7);
/// No record is so far ahead that those after it are asked: a replay asks other ones than a live worker at the end of a log.
const UNDOUBTED: i64 = 3_600_000;

/// What a live group did, and its journals.
struct Live {
    width: StepWidth,
    closed: Vec<Vec<ClosedStep>>,
    forced: ForcedCloses,
    cuts: Vec<Vec<StepCut>>,
}

/// What goes wrong in a live group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Shards lose patience with sources.
    Stalls,
    /// A source joins shards at work.
    Joins,
}

/// Lets a group live, and repeats what it did. Returns whether the trouble made a difference.
pub(crate) fn assert_repeats(seed: u64, trouble: Trouble) -> bool {
    let mut story = Story::new(seed);
    let live = Live::new(&mut story, trouble);
    let repeated = |story: &mut Story, with: bool| {
        let cuts: Vec<_> = (0..story.partitions.len()).map(|p| again(story, p, &live.past(p, with))).collect();
        let settings = SeriesSettings::from(&story.tenants);
        let shards = (0..SHARDS as usize).map(|shard| match story.dice.below(2) {
            0 => closed_in_order(&settings, &cuts, shard),
            _ => closed_at_random(&mut story.dice, &settings, &cuts, shard),
        });
        shards.collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let got = repeated(&mut story, true);
        live.closed.iter().flatten().zip(got.iter().flatten()).for_each(|(a, b)| {
            if a != b {
                show_difference(a, b);
            }
        });
        assert!(live.closed == got, "the steps of seed {seed} differ");
    }
    live.closed != repeated(&mut story, false)
}

/// Reads a partition again, with commits that are cut elsewhere.
fn again(story: &mut Story, partition: usize, past: &Arc<[Event]>) -> Vec<StepCut> {
    let mut settings = SpanSettings { max_future: UNDOUBTED, ..SpanSettings::from(&story.tenants) };
    settings.max_commit_bytes = [1, 500, 5_000, 1 << 20][story.dice.below(4) as usize];
    let calm = 1 + story.dice.below(20);
    let disorder = Disorder { dice: &mut story.dice, calm };
    run_again(&settings, partition as i32, &story.partitions[partition], past, Some(disorder))
}

// === impl Live ===

impl Live {
    fn new(story: &mut Story, trouble: Trouble) -> Self {
        let mut settings = SpanSettings { max_future: UNDOUBTED, ..SpanSettings::from(&story.tenants) };
        let mut cuts = Vec::new();
        for (p, events) in (0..).zip(&story.partitions) {
            settings.max_commit_bytes = [1, 5_000, 1 << 20][story.dice.below(3) as usize];
            let calm = 1 + story.dice.below(20);
            cuts.push(run(&settings, p, events, Some(Disorder { dice: &mut story.dice, calm })));
        }
        let (mut closed, mut forced) = (Vec::new(), ForcedCloses::default());
        for shard in 0..SHARDS {
            let (steps, journal) =
                live_shard(&mut story.dice, &SeriesSettings::from(&story.tenants), (&cuts, shard), trouble);
            closed.push(steps);
            forced.turn_to(shard, false);
            (0..).zip(&journal).for_each(|(offset, record)| forced.apply(offset, record).expect("a frame"));
        }
        Self { width: settings.step, closed, forced, cuts }
    }

    /// What the journals say about a partition, with its forced closes or without.
    fn past(&self, partition: usize, with: bool) -> Arc<[Event]> {
        let missed = self.forced.missed().get(&("t".to_owned(), partition as i32)).filter(|_| with);
        let step_of: StepOf = |record| DeltaRecord::decode(record).ok().map(|record| record.head.step);
        let mut past = Past::new(self.width, false, missed.cloned().unwrap_or_else(Missed::new), step_of);
        let mut writer = JournalWriter::new(ME, 0, None, 0);
        let mut log = vec![claim(ME, "")];
        for cut in &self.cuts[partition] {
            let commit = SpanCommit {
                cause: if cut.tick { Cause::Tick } else { Cause::Records },
                step: cut.step,
                stream_time: Some(cut.stream_time),
                forwarded: 0,
                reread_from: cut.reread_from,
                live: cut.live.clone(),
                ledger: cut.ledger.clone(),
                delta_records: cut.delta_records.clone(),
                witness: None,
            };
            log.extend(writer.commit(cut.from, cut.to, &commit.encode()));
        }
        (0..).zip(&log).for_each(|(offset, record)| past.apply(offset, record).expect("a frame"));
        past.found().into()
    }
}

/// A shard that loses patience with the slow at random moments, or that the last source may join when it has closed steps; with
/// its journal.
fn live_shard(
    dice: &mut Dice,
    settings: &SeriesSettings,
    (cuts, shard): (&[Vec<StepCut>], u32),
    trouble: Trouble,
) -> (Vec<ClosedStep>, Vec<Vec<u8>>) {
    let sources = sources(cuts);
    let mut queues: Vec<_> =
        cuts.iter().map(|cuts| cuts.iter().map(|cut| &cut.delta_records[shard as usize]).peekable()).collect();
    let (mut task, mut closed) = (SeriesTask::new(settings.clone()), Vec::new());
    let (mut writer, mut journal) = (JournalWriter::new(ME, 0, None, 0), vec![claim(ME, "")]);
    let patience = 2 + dice.below(30);
    let (last, first) = sources.split_last().expect("a source");
    let joins = trouble == Trouble::Joins && !first.is_empty();
    let begins_after = if joins { dice.below(8) as usize } else { 0 };
    let mut joined = begins_after == 0;
    while queues.iter_mut().any(|queue| queue.peek().is_some()) {
        let others = queues[..first.len()].iter_mut().any(|queue| queue.peek().is_some());
        let is_known = closed.len() >= begins_after || !others;
        let queues = if is_known { &mut queues[..] } else { &mut queues[..first.len()] };
        let queue = &mut queues[dice.below(queues.len() as u64) as usize];
        for record in queue.take(1 + dice.below(8) as usize).flatten() {
            assert_eq!(task.apply(record).expect("a delta record").lost, 0);
        }
        joined |= is_known && task.time_of(last).is_some_and(|at| task.closed().is_none_or(|closed| at >= closed));
        while let (Some(step), mut behind) = task.held_back_by(if joined { &sources } else { first }) {
            let cause = if behind.is_empty() { EmitCause::Watermark } else { EmitCause::Forced };
            if cause == EmitCause::Forced && (joins || dice.below(patience) > 0) {
                break;
            }
            if is_known && !joined {
                behind.push(last.clone());
            }
            let behind = task.places(behind);
            let (acknowledged, left_out, change) = (None, Vec::new(), Change::default());
            let basis = Some(task.basis());
            let mark = EmitMark { step, cause, acknowledged, left_out, behind, basis, change };
            journal.extend(writer.commit(0, 0, &mark.encode()));
            closed.push(task.close(step));
        }
        if dice.below(6) == 0 {
            task = SeriesTask::restore(settings.clone(), &task.snapshot()).expect("our own snapshot");
        }
    }
    (closed, journal)
}
