//! The deltas of one open step.

use crate::deltas::SetDelta;
use crate::model::hash::Map;
use crate::model::{Exemplar, Layout, Numbers, exemplar};

/// What the shares of one step have added so far, per label set and layout.
#[derive(Debug, Default)]
pub(super) struct OpenStep {
    index: Map<(u32, u32), u32>,
    deltas: Vec<Delta>,
}

/// What one label set gains in one step, in the cells of one layout.
#[derive(Debug)]
pub(super) struct Delta {
    /// The set's place in the registry.
    pub(super) set: u32,
    /// The layout of the cells.
    pub(super) layout: u32,
    /// Whether a share spelled the set out with this layout.
    pub(super) spelled: bool,
    pub(super) numbers: Numbers,
    pub(super) exemplars: Vec<(u32, Exemplar)>,
}

// === impl OpenStep ===

impl OpenStep {
    /// The delta of a set, and whether it was created now.
    pub(super) fn delta(&mut self, set: u32, id: u32, layout: &Layout) -> (&mut Delta, bool) {
        let next = self.deltas.len() as u32;
        let at = *self.index.entry((set, id)).or_insert(next);
        if at == next {
            let numbers = layout.zeros();
            self.deltas.push(Delta { set, layout: id, spelled: false, numbers, exemplars: Vec::new() });
        }
        (&mut self.deltas[at as usize], at == next)
    }

    /// The deltas in order of arrival, which means nothing.
    pub(super) fn deltas(&self) -> &[Delta] {
        &self.deltas
    }
}

// === impl Delta ===

impl Delta {
    /// Adds what a share says. `scratch` is memory.
    pub(super) fn grow(&mut self, layout: &Layout, set: &SetDelta<'_>, scratch: &mut Vec<u64>) {
        scratch.clear();
        scratch.resize(layout.cells(), 0);
        for c in &set.cells {
            scratch[c.cell as usize] = c.value;
        }
        layout.add(&mut self.numbers.cells, &mut self.numbers.natives, (scratch, &set.natives));
    }

    /// Offers exemplars.
    pub(super) fn offer(&mut self, candidates: &[(u32, Exemplar)]) {
        for &(cell, e) in candidates {
            exemplar::offer(&mut self.exemplars, cell, e);
        }
    }
}
