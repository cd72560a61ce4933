//! A partition and its journal, with owners that crash.

use spanmill::core::model::Ledger;
use spanmill::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask, StepCut};
use spanmill::tools::totals::Totals;

use super::scramble::Dice;
use super::streams::{Event, Rec};

const NOW: i64 = i64::MAX / 2;

fn borrow(r: &Rec) -> Record<'_> {
    Record { offset: r.offset, timestamp: r.timestamp, tenant: r.tenant, value: &r.value }
}

/// A partition with its journal. Everything that a crash forgets is in `task`.
pub(crate) struct World {
    pub(crate) settings: SpanSettings,
    pub(crate) task: SpanTask,
    /// The last commit, and the event to continue with after it.
    last: Option<(StepCut, usize)>,
    totals: Totals,
    pub(crate) rebuilt: u64,
}

impl World {
    pub(crate) fn new(settings: &SpanSettings) -> Self {
        let task = SpanTask::new(settings, "t".into(), 3, Restored::default()).expect("an empty journal");
        let mut world = Self { settings: settings.clone(), task, last: None, totals: Totals::default(), rebuilt: 0 };
        world.task.set_start(0);
        world
    }

    /// Journals a cut. A new owner continues with event `resume`, or with what was doubted before it.
    pub(crate) fn commit(&mut self, cut: Option<StepCut>, events: &[Event], resume: usize) {
        let Some(cut) = cut else { return };
        let open = |event: &Event| matches!(event, Event::Record(r) if r.offset >= cut.to);
        let resume = events.iter().position(open).map_or(resume, |at| at.min(resume));
        let (next, commit_number) = self.last.as_ref().map_or((0, 0), |(c, _)| (c.to, c.commit_number + 1));
        assert_eq!(
            (cut.from, cut.commit_number),
            (next, commit_number),
            "commits follow each other without gap or overlap"
        );
        assert!(cut.reread_from <= cut.to);
        assert_eq!(cut.delta_records.len(), self.settings.shards as usize);
        assert_eq!(cut.ledger.unaccounted_spans(), 0);
        for delta_record in cut.delta_records.iter().flatten() {
            self.totals.add(delta_record).expect("every name was spelled");
        }
        self.last = Some((cut, resume));
    }

    pub(crate) fn event(&mut self, events: &[Event], i: usize) {
        match &events[i] {
            Event::Tick(to) => {
                // A crash between its cuts repeats the rest of it.
                while let Some(cut) = self.task.tick(*to) {
                    let (tick, done) = (cut.tick, cut.stream_time >= *to);
                    assert!(!tick || cut.stream_time <= *to);
                    self.commit(Some(cut), events, if done { i + 1 } else { i });
                    assert!(!tick || done != self.task.would_tick(*to));
                }
            }
            Event::Record(r) => {
                while let Offer::CutFirst { cut } = self.task.offer(&borrow(r), NOW) {
                    assert!(cut.to <= r.offset && !cut.tick);
                    self.commit(Some(*cut), events, i);
                }
            }
        }
        let by_ledger = self.task.ledger().pending_edges();
        assert_eq!(by_ledger, self.task.pending_edges() as i128, "every edge is accounted for");
    }

    /// A new owner acquires the task; returns the event to continue with.
    pub(crate) fn crash(&mut self, events: &[Event], dice: &mut Dice) -> usize {
        let (restored, resume) = match &self.last {
            None => (Restored::default(), 0),
            Some((c, resume)) => {
                let (live, ledger) = (c.live.clone(), c.ledger.clone());
                let (next, stream_time, step) = (Some(c.to), Some(c.stream_time), Some(c.step));
                let (next_commit_number, reread_from) = (c.commit_number + 1, c.reread_from);
                (Restored { next, next_commit_number, stream_time, step, reread_from, live, ledger }, *resume)
            }
        };
        self.task = SpanTask::new(&self.settings, "t".into(), 3, restored).expect("a sound journal");
        self.task.set_start(0);
        let start = self.task.start_offset().expect("known");
        for event in &events[..resume] {
            let Event::Record(r) = event else { continue };
            if r.offset >= start {
                assert!(matches!(self.task.offer(&borrow(r), NOW), Offer::Taken));
                self.rebuilt += 1;
            }
        }
        if matches!(events.get(resume), Some(Event::Tick(_)) | None) || dice.below(2) == 0 {
            let next = self.last.as_ref().map_or(0, |(c, _)| c.to);
            self.task.reached(next);
            assert!(!self.task.rebuilding());
        }
        resume
    }

    /// Where the step ends that is still open.
    pub(crate) fn end_of_step(&self) -> i64 {
        self.settings.step.end_of(self.task.stream_time().unwrap_or(0))
    }

    pub(crate) fn finish(&mut self, events: &[Event]) -> (Totals, Ledger, Vec<u8>) {
        let end = events.len();
        for cut in self.task.settle() {
            self.commit(Some(cut), events, end);
        }
        let cut = self.task.cut();
        self.commit(cut, events, end);
        // What expires in the step that is still open belongs to it; a final tick brings it out.
        let cut = self.task.tick(self.end_of_step());
        self.commit(cut, events, end);
        let (last, _) = self.last.clone().expect("the tick at least");
        (self.totals.clone(), last.ledger, last.live)
    }
}

pub(crate) fn uninterrupted(settings: &SpanSettings, events: &[Event]) -> (Totals, Ledger, Vec<u8>) {
    let mut world = World::new(settings);
    (0..events.len()).for_each(|i| world.event(events, i));
    world.finish(events)
}
