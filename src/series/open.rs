//! The deltas of one open step.

use std::collections::BTreeMap;

use crate::deltas::SetDelta;
use crate::model::hash::Map;
use crate::model::{Exemplar, Layout, Numbers, Sketch, exemplar};

/// What the shares of one step have added so far, per label set and layout.
#[derive(Debug, Default)]
pub(super) struct OpenStep {
    index: Map<(u32, u32), u32>,
    deltas: Vec<Delta>,
    /// By tenant with a limit: the label sets that the step has touched in all shards.
    pub(super) everywhere: BTreeMap<String, Sketch>,
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

    /// Notes which label sets of a tenant with a limit were touched in all shards.
    pub(super) fn mention(&mut self, tenant: &str, sets: &Sketch) {
        match self.everywhere.get_mut(tenant) {
            Some(known) => known.merge(sets),
            None => drop(self.everywhere.insert(tenant.to_owned(), sets.clone())),
        }
    }

    /// Takes the deltas out; [`OpenStep::put`] puts them back.
    pub(super) fn take(&mut self) -> Vec<Delta> {
        self.index.clear();
        std::mem::take(&mut self.deltas)
    }

    /// Adds a delta to `set`; says whether the step has no other with its layout.
    pub(super) fn put(&mut self, set: u32, layout: &Layout, delta: Delta) -> bool {
        let next = self.deltas.len() as u32;
        let at = *self.index.entry((set, delta.layout)).or_insert(next);
        if at == next {
            self.deltas.push(Delta { set, ..delta });
            return true;
        }
        let known = &mut self.deltas[at as usize];
        known.spelled |= delta.spelled;
        layout.add(
            &mut known.numbers.cells,
            &mut known.numbers.natives,
            (&delta.numbers.cells, &delta.numbers.natives),
        );
        known.offer(&delta.exemplars);
        false
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
