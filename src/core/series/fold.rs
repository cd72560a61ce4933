//! Open steps into label sets, one set after the other.
//!
//! A set is unpacked once per step: folded, written, packed again. What a step adds to a set depends on no other set, and
//! of several steps that close together the earlier one is folded first.

use super::SeriesSettings;
use super::layouts::{Layouts, Union};
use super::open::{Delta, OpenStep};
use super::set::LabelSet;
use super::starts::{self, Before};
use crate::core::model::{Exemplar, Family, Layout, Millis, Natives, exemplar};

/// The steps to close.
pub(super) struct Folding<'a> {
    /// The step that is written, and how long after their last touch sets count as new.
    step: Millis,
    settings: &'a SeriesSettings,
    /// Whether zeros or kept values are written before first values.
    starts: bool,
    open: Vec<(Millis, OpenStep)>,
    pub(super) layouts: &'a mut Layouts,
    cells: Vec<u64>,
    candidates: Vec<(u32, Exemplar)>,
}

/// The state of the set that is being folded.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Its numbers; see [`super::metrics::Metrics::numbers`].
    pub(super) numbers: Vec<u64>,
    /// Its exemplars in the steps.
    pub(super) exemplars: Vec<(u32, Exemplar)>,
    /// The layout that the receiver has seen, when it was replaced.
    pub(super) replaced: Option<u32>,
    /// Whether the steps touch it: then its numbers must be packed again.
    pub(super) touched: bool,
    /// Whether they change any of its values, or bring it back. Which deltas name a set without a gain depends on commits.
    pub(super) changed: bool,
    /// Its numbers before the first step that the receiver does not know of, when some of its series need them.
    pub(super) before: Option<Before>,
}

// === impl Folding ===

impl<'a> Folding<'a> {
    /// The steps `open` are folded for `step`.
    pub(super) fn new(
        step: Millis,
        settings: &'a SeriesSettings,
        open: Vec<(Millis, OpenStep)>,
        layouts: &'a mut Layouts,
    ) -> Self {
        let starts = settings.zero_offset > 0;
        Self { step, settings, starts, open, layouts, cells: Vec::new(), candidates: Vec::new() }
    }

    /// Unpacks a set's numbers, and adds its deltas of the steps. `turn.before` holds the kept numbers of the set.
    pub(super) fn fold(&mut self, id: u32, set: &mut LabelSet, turn: &mut Turn) {
        set.unpack(&mut turn.numbers);
        turn.exemplars.clear();
        (turn.replaced, turn.touched, turn.changed) = (None, false, false);
        if set.pending == 0 {
            return;
        }
        let open = std::mem::take(&mut self.open);
        if set.live && (open.len() > 1 || set.skipped) {
            // The layout may change after the first of them has been added. And when the receiver does not have the values of
            // the last step, it gets them together with the new ones.
            self.keep(set, turn, Some(set.layout));
        }
        for (at, step) in &open {
            self.adopt(step.of(id), set, turn);
            for delta in step.of(id) {
                self.add(*at, delta, set, turn);
            }
        }
        self.open = open;
    }

    /// Gives the set the layout of its latest definition. A set that begins again forgets its earlier layout. Any other
    /// keeps a place for every histogram that it has ever had, and takes one for every histogram that a delta has: the
    /// calls and the latency of one set may come from different raw keys, with different layouts, and both continue
    /// permanently.
    fn adopt<'d>(&mut self, deltas: impl Iterator<Item = &'d Delta>, set: &mut LabelSet, turn: &mut Turn) {
        let (had, mut wanted) = (set.layout, None);
        let mut differs = false;
        for delta in deltas {
            let (layout, new) = (delta.layout(), delta.spelled().then_some(delta.layout()));
            let (defined, all) = wanted.unwrap_or((new, layout));
            let defined = match (defined, new) {
                (Some(a), Some(b)) => Some(self.layouts.union(Union::Join, a, b)),
                (one, None) | (None, one) => one,
            };
            wanted = Some((defined, self.layouts.union(Union::Join, all, layout)));
            differs |= layout != had;
        }
        let Some((defined, all)) = wanted.filter(|_| differs) else { return };
        let anew = self.begins_anew(set);
        let base = match defined {
            Some(defined) if anew => defined,
            Some(defined) => self.layouts.union(Union::Widen, defined, had),
            // It counts for others, and begins with their layouts.
            None if anew => all,
            None => had,
        };
        let layout = self.layouts.union(Union::Widen, base, all);
        if layout != had {
            self.relay(layout, set, turn);
        }
    }

    /// Moves a set to another layout.
    fn relay(&mut self, layout: u32, set: &mut LabelSet, turn: &mut Turn) {
        if set.live {
            self.keep(set, turn, Some(set.layout));
        }
        let (old, new) = (self.layouts.of(set.layout), self.layouts.of(layout));
        if let Some(before) = &mut turn.before {
            before.relay(old, new);
        }
        (turn.numbers, set.natives) = starts::relaid(old, new, &turn.numbers, &set.natives);
        if set.live {
            // Of several replacements in one forced close, the receiver has seen the first layout only. Candidates for
            // exemplars that were gathered before are in cells of the layout that goes now.
            turn.replaced.get_or_insert(set.layout);
        }
        let gathered = std::mem::take(&mut turn.exemplars);
        offer_all(&mut turn.exemplars, &new.layout, &old.layout, &gathered);
        set.layout = layout;
    }

    /// Whether the steps begin the set at zero.
    fn begins_anew(&self, set: &LabelSet) -> bool {
        set.begins_anew(self.step, self.settings.memory_of(self.layouts.family(set.layout)))
    }

    /// A cold set is touched: it continues where it stopped, or begins at zero.
    fn awake(&self, set: &mut LabelSet, turn: &mut Turn) {
        if self.begins_anew(set) {
            turn.numbers.fill(0);
            set.natives = Natives::of(&self.layouts.of(set.layout).layout);
            set.emitted = 0;
            turn.before = None;
        } else if set.emitted != 0 {
            self.keep(set, turn, None);
        }
    }

    /// Keeps the numbers as they are, unless older ones are kept already. `seen` is the layout of the series that the
    /// receiver has; none: they have ended.
    fn keep(&self, set: &LabelSet, turn: &mut Turn, seen: Option<u32>) {
        match &mut turn.before {
            Some(before) if seen.is_none() => before.seen = None,
            Some(_) => {}
            None if self.starts || set.skipped => {
                let (numbers, natives) = (turn.numbers.clone(), set.natives.clone());
                turn.before = Some(Before { numbers, natives, seen });
            }
            None => {}
        }
    }

    fn add(&mut self, at: Millis, delta: &Delta, set: &mut LabelSet, turn: &mut Turn) {
        if !set.live {
            self.awake(set, turn);
            turn.changed = true;
        }
        let (new, old) = (self.layouts.of(set.layout), self.layouts.of(delta.layout()));
        turn.touched = true;
        turn.changed |= delta.grows(old);
        set.pending -= 1;
        set.touched = self.step;
        set.live = true;
        if new.layout.family().is_seen() {
            // Not a sum: when it was touched.
            turn.changed = true;
            Family::see(&mut turn.numbers, at.unsigned_abs());
        } else if set.layout == delta.layout() {
            delta.add_to(&mut turn.numbers, new);
            set.natives.add(&delta.natives);
        } else {
            self.cells.clear();
            self.cells.resize(old.layout.cells(), 0);
            delta.add_to(&mut self.cells, old);
            let gained = (&*self.cells, &delta.natives);
            new.layout.add_from(&mut turn.numbers, &mut set.natives, &old.layout, gained);
        }
        new.layout.bound(&mut set.natives);
        delta.exemplars(at, &mut self.candidates);
        offer_all(&mut turn.exemplars, &new.layout, &old.layout, &self.candidates);
    }
}

/// Offers exemplars in cells of `old` to a list in cells of `new`.
fn offer_all(list: &mut Vec<(u32, Exemplar)>, new: &Layout, old: &Layout, candidates: &[(u32, Exemplar)]) {
    for &(cell, e) in candidates {
        if let Some(cell) = new.move_example(old, cell, &e) {
            exemplar::offer(list, cell, e);
        }
    }
}
