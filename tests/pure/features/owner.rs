//! The owners of a source partition, one after the other, and the journal between them.

use std::sync::Arc;

use spanmill::core::journal;
use spanmill::core::tasks::span::{Offer, Record, Repeat, Restored, SpanSettings, SpanTask, StepCut};

use crate::scramble::Dice;
use crate::streams::{Event, Rec};

/// The present time is so late that nothing comes from the future.
const NOW: i64 = i64::MAX / 2;
/// Later than everything in a stream; the last ticks bring out what waits and let series end.
const END: i64 = 4_000_000;
const TICKS: [i64; 3] = [END, END + 120_000, END + 400_000];

/// How much goes wrong: something happens to about one event in `calm`.
pub(crate) struct Disorder<'a> {
    pub(crate) dice: &'a mut Dice,
    pub(crate) calm: u64,
}

/// A partition with its journal. Everything that a crash forgets is in `task`.
struct Partition<'a> {
    /// Of the workers that own it, one after the other.
    settings: &'a [SpanSettings],
    owners: usize,
    number: i32,
    events: Vec<Event>,
    /// What is to happen again.
    past: Arc<[journal::Event]>,
    repeat: Repeat,
    task: SpanTask,
    /// The journal: commits, and the event to continue with after each.
    journal: Vec<(StepCut, usize)>,
}

/// All commits of a partition.
pub(crate) fn run(
    settings: &SpanSettings,
    number: i32,
    events: &[Event],
    disorder: Option<Disorder<'_>>,
) -> Vec<StepCut> {
    run_by_turns(std::slice::from_ref(settings), number, events, disorder)
}

/// The same with a worker for each of some settings, which own the partition by turns.
pub(crate) fn run_by_turns(
    settings: &[SpanSettings],
    number: i32,
    events: &[Event],
    disorder: Option<Disorder<'_>>,
) -> Vec<StepCut> {
    let events = events.iter().cloned().chain(TICKS.map(Event::Tick)).collect();
    live((settings, number), events, None, disorder)
}

/// All commits of a partition that is replayed: its records, and what the journals of its first life tell.
pub(crate) fn run_again(
    settings: &SpanSettings,
    number: i32,
    events: &[Event],
    past: &Arc<[journal::Event]>,
    disorder: Option<Disorder<'_>>,
) -> Vec<StepCut> {
    let records = events.iter().filter(|event| matches!(event, Event::Record(_))).cloned().collect();
    live((std::slice::from_ref(settings), number), records, Some(past), disorder)
}

fn live(
    (settings, number): (&[SpanSettings], i32),
    events: Vec<Event>,
    past: Option<&Arc<[journal::Event]>>,
    mut disorder: Option<Disorder<'_>>,
) -> Vec<StepCut> {
    let mut task = SpanTask::new(&settings[0], "t".into(), number, Restored::default()).expect("an empty journal");
    task.set_start(0);
    let past = past.cloned().unwrap_or_default();
    let repeat = Repeat::new(Arc::clone(&past), &mut task);
    let mut partition = Partition { settings, owners: 0, number, events, past, repeat, task, journal: Vec::new() };
    let (mut at, mut crashes) = (0, 0);
    // After the last event comes the end.
    while at <= partition.events.len() {
        partition.event(at);
        at += 1;
        let Some(Disorder { dice, calm }) = &mut disorder else { continue };
        if dice.below(*calm) == 0 {
            let cut = partition.task.cut();
            partition.commit(cut, at);
        }
        if crashes < 40 && dice.below(*calm) == 0 {
            crashes += 1;
            at = partition.crash(dice);
        }
    }
    partition.journal.into_iter().map(|(cut, _)| cut).collect()
}

fn borrow(r: &Rec) -> Record<'_> {
    Record { offset: r.offset, timestamp: r.timestamp, tenant: r.tenant, value: &r.value }
}

// === impl Partition ===

impl Partition<'_> {
    fn commit(&mut self, cut: Option<StepCut>, resume: usize) {
        let Some(cut) = cut else { return };
        assert_eq!(cut.ledger.unaccounted_spans(), 0);
        // What was doubted before is in no commit.
        let open = |event: &Event| matches!(event, Event::Record(r) if r.offset >= cut.to);
        let resume = self.events.iter().position(open).map_or(resume, |at| at.min(resume));
        self.journal.push((cut, resume));
    }

    fn event(&mut self, at: usize) {
        let event = self.events.get(at).cloned();
        let before = match &event {
            Some(Event::Tick(_)) => i64::MIN,
            Some(Event::Record(record)) => record.offset,
            None => i64::MAX,
        };
        for cut in self.repeat.before(&mut self.task, before) {
            self.commit(Some(cut), at);
        }
        match event {
            None => {
                for cut in self.task.settle() {
                    self.commit(Some(cut), at);
                }
            }
            Some(Event::Tick(to)) => {
                while let Some(cut) = self.task.tick(to) {
                    let done = cut.stream_time >= to;
                    self.commit(Some(cut), if done { at + 1 } else { at });
                }
            }
            Some(Event::Record(record)) => {
                while let Offer::CutFirst { cut } = self.task.offer(&borrow(&record), NOW) {
                    self.commit(Some(*cut), at);
                }
            }
        }
        let by_ledger = self.task.ledger().pending_edges();
        assert_eq!(by_ledger, self.task.pending_edges() as i128, "every edge is accounted for");
        let by_ledger = self.task.ledger().open_trace_spans();
        assert_eq!(by_ledger, self.task.open_trace_spans() as i128, "every span of a trace is accounted for");
    }

    /// A new owner acquires the task; returns the event to continue with.
    fn crash(&mut self, dice: &mut Dice) -> usize {
        let last = self.journal.last();
        let (restored, resume) = last.map_or_else(Default::default, |(c, resume)| {
            let (live, ledger) = (c.live.clone(), c.ledger.clone());
            let (next, stream_time, step) = (Some(c.to), Some(c.stream_time), Some(c.step));
            (
                Restored {
                    next,
                    next_commit_number: c.commit_number + 1,
                    stream_time,
                    step,
                    reread_from: c.reread_from,
                    live,
                    ledger,
                },
                *resume,
            )
        });
        let next = restored.next.unwrap_or(0);
        self.owners += 1;
        let settings = &self.settings[self.owners % self.settings.len()];
        self.task = SpanTask::new(settings, "t".into(), self.number, restored).expect("a sound journal");
        self.task.set_start(0);
        self.repeat = Repeat::new(Arc::clone(&self.past), &mut self.task);
        let start = self.task.start_offset().expect("known");
        for event in &self.events[..resume] {
            let Event::Record(r) = event else { continue };
            if r.offset >= start {
                assert!(matches!(self.task.offer(&borrow(r), NOW), Offer::Taken));
            }
        }
        if matches!(self.events.get(resume), Some(Event::Tick(_)) | None) || dice.below(2) == 0 {
            self.task.reached(next);
        }
        resume
    }
}
