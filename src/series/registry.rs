//! The label sets of a shard, and the folding of open steps into them.

use std::collections::BTreeMap;

use super::emit::{ClosedStep, Emitter};
use super::fold::{Folding, Turn};
use super::instead::Instead;
use super::layouts::Layouts;
use super::open::{Gain, OpenStep, Scratch};
use super::set::{self, LabelSet};
use super::sets::Sets;
use super::tenants::Names;
use super::{SeriesSettings, TenantBook, heap};
use crate::deltas::SetDelta;
use crate::model::{Family, Layout, Millis, Natives, SetName, Sketch};
use crate::remotewrite::encode::SeriesWriter;

/// Label sets that are looked up in a row.
const BATCH: usize = 128;

/// A delta that cannot be added. Nothing else is affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// A share names a label set that was never spelled out, or was forgotten too early.
    #[error(
        "a share names label set {:032x}, which this shard does not know; its delta is lost. This must be impossible: \
         the deltas topic has lost records, or two groups write to it; check its retention", .0.0
    )]
    Unknown(SetName),
    /// A share spells out labels that do not have the name that it gives, or cells of another family.
    #[error("a share gives label set {:032x} labels or cells that are not its own; its delta is lost", .0.0)]
    Misnamed(SetName),
}

/// All label sets of one shard with their cumulative values, and the deltas of the open steps.
#[derive(Debug)]
pub struct Registry {
    pub(super) settings: SeriesSettings,
    pub(super) closed: Option<Millis>,
    pub(super) sets: Sets,
    /// All sets, by tenant, family and label block once sorted.
    pub(super) order: Vec<u32>,
    sorted: bool,
    pub(super) layouts: Layouts,
    pub(super) tenants: Names,
    pub(super) open: BTreeMap<Millis, OpenStep>,
    pub(super) live: usize,
    pub(super) active_series: u64,
    writer: SeriesWriter,
    pub(super) scratch: Scratch,
    /// Sets that a limit refuses, and the labels of those that count for them.
    pub(super) instead: Instead,
}

/// A layout in a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayoutId(pub(super) u32);

// === impl Registry ===

impl Registry {
    /// A registry without series.
    #[must_use]
    pub fn new(settings: SeriesSettings) -> Self {
        Self {
            settings,
            closed: None,
            sets: Sets::default(),
            order: Vec::new(),
            sorted: true,
            layouts: Layouts::default(),
            tenants: Names::default(),
            open: BTreeMap::new(),
            live: 0,
            active_series: 0,
            // The limits are those of the tenant that is written.
            writer: SeriesWriter::new(0, 0, ""),
            scratch: Scratch::default(),
            instead: Instead::default(),
        }
    }

    /// From the next step on, tenants are written and limited as `tenants` says.
    pub fn reconfigure(&mut self, tenants: TenantBook) {
        self.settings.tenants = tenants;
        self.pardon();
    }

    /// The last closed step.
    #[must_use]
    pub fn closed(&self) -> Option<Millis> {
        self.closed
    }

    /// The Prometheus series that the last closed step emitted.
    #[must_use]
    pub fn active_series(&self) -> u64 {
        self.active_series
    }

    /// The label sets in memory, live and cold.
    #[must_use]
    pub fn label_sets(&self) -> usize {
        self.order.len()
    }

    /// The step that closes next: while a set is live, every step, so that series stay flat instead of vanishing; after
    /// that the next one with data. `None` when there is nothing to close.
    #[must_use]
    pub fn next_step(&self) -> Option<Millis> {
        match self.closed {
            Some(closed) if self.live > 0 => Some(self.settings.step.end_of(closed)),
            _ => self.open.keys().next().copied(),
        }
    }

    /// What the registry takes in memory, by its own account.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let open: usize = self.open.values().map(OpenStep::bytes).sum();
        let order = heap(self.order.capacity() * size_of::<u32>());
        self.sets.bytes() + order + open + self.instead.bytes() + self.writer.bytes()
    }

    /// The number of a layout, for [`Registry::add`].
    pub fn layout(&mut self, layout: &Layout) -> LayoutId {
        LayoutId(self.layouts.id(layout))
    }

    /// Adds what a share with stream time `stream_time` says about sets in `step`; a step that is closed already is replaced
    /// by the oldest open one. `layouts` are those that `set.layout` stands for. What cannot be added is handed to `lost`.
    pub fn add(
        &mut self,
        step: Millis,
        stream_time: Millis,
        layouts: &[LayoutId],
        sets: &[SetDelta<'_>],
        mut lost: impl FnMut(AddError),
    ) {
        let step = self.open_step(step);
        let mut found = Vec::with_capacity(BATCH);
        for sets in sets.chunks(BATCH) {
            // Label sets lie anywhere in memory. Looked up in a row, they are waited for together and not one by one.
            found.clear();
            found.extend(sets.iter().map(|set| (self.sets.find(set.name), None)));
            if let Some(open) = self.open.get(&step) {
                let known = found.iter_mut().zip(sets);
                known.for_each(|((id, at), set)| *at = id.and_then(|id| open.find(id, layouts[set.layout].0)));
            }
            for (set, (id, at)) in sets.iter().zip(&found) {
                if let Err(error) = self.add_one(step, stream_time, layouts[set.layout], set, (*id, *at)) {
                    lost(error);
                }
            }
        }
    }

    /// `id` and `at` are the places of the set and of its delta, if they are known.
    fn add_one(
        &mut self,
        step: Millis,
        stream_time: Millis,
        layout: LayoutId,
        set: &SetDelta<'_>,
        (id, at): (Option<u32>, Option<u32>),
    ) -> Result<(), AddError> {
        // The share may have spelled it out a moment ago.
        let id = match (id.or_else(|| self.sets.find(set.name)), set.spelled) {
            (Some(id), _) => id,
            (None, Some((tenant, block))) => self.define(set.name, tenant, block, layout.0)?,
            (None, None) => return Err(AddError::Unknown(set.name)),
        };
        let known = self.sets.get_mut(id).expect("the index holds existing sets only");
        let metrics = self.layouts.of(layout.0);
        if self.layouts.of(known.layout).layout.family() != metrics.layout.family() {
            return Err(AddError::Misnamed(set.name));
        }
        known.mentioned = known.mentioned.max(stream_time);
        let exemplars = if self.settings.tenants.exemplars() { &*set.exemplars } else { &[] };
        let spelled = set.spelled.is_some();
        let gain = Gain { spelled, cells: &set.cells, natives: &set.natives, exemplars };
        let open = self.open.entry(step).or_default();
        let at = at.or_else(|| open.find(id, layout.0));
        known.pending += u32::from(at.is_none());
        let at = at.unwrap_or_else(|| open.create(id, layout.0, metrics));
        open.grow(at, step, metrics, &gain, &mut self.scratch);
        Ok(())
    }

    /// Closes `step` and everything before it. `watermark` is the least stream time over all sources ever heard of, if
    /// it is known; it decides what may be freed. A step that is closed already gives nothing.
    pub fn close(&mut self, step: Millis, watermark: Option<Millis>) -> ClosedStep {
        if self.closed.is_some_and(|closed| step <= closed) {
            return ClosedStep::empty(step);
        }
        self.closed = Some(step);
        self.admit(step);
        self.sort();
        let closed = self.write(step);
        self.forget(step, watermark);
        closed
    }

    /// The same, but nothing is written for the tenants `left_out`.
    pub fn close_without(&mut self, step: Millis, watermark: Option<Millis>, left_out: &[String]) -> ClosedStep {
        let everybody = self.settings.tenants.clone();
        self.settings.tenants = everybody.without(left_out);
        let closed = self.close(step, watermark);
        self.settings.tenants = everybody;
        closed
    }

    /// The open step that takes deltas of `step`. After a change of the step width, steps of the old width are still
    /// under way; they go to the step that holds them. Receivers refuse timestamps that are not positive, so the first
    /// step after the epoch takes what is older.
    pub(super) fn open_step(&self, step: Millis) -> Millis {
        let width = self.settings.step;
        let aligned = width.end_of((step - 1).max(0));
        self.closed.map_or(aligned, |closed| aligned.max(width.end_of(closed)))
    }

    pub(super) fn define(&mut self, name: SetName, tenant: &str, block: &[u8], layout: u32) -> Result<u32, AddError> {
        let metrics = self.layouts.of(layout);
        if SetName::of(tenant, metrics.layout.family(), block) != name {
            return Err(AddError::Misnamed(name));
        }
        let mut packed = Vec::new();
        set::pack(&mut packed, &vec![0; metrics.numbers()]);
        let natives = Natives::of(&metrics.layout);
        let tenant = self.tenants.take(tenant);
        Ok(self.insert(LabelSet::new(name, tenant, block, layout, &packed, natives)))
    }

    pub(super) fn insert(&mut self, set: LabelSet) -> u32 {
        let id = self.sets.insert(set);
        // What is restored comes in order.
        self.sorted &= self.order.last().is_none_or(|&last| self.key(last) <= self.key(id));
        self.order.push(id);
        id
    }

    /// Notes which label sets of a tenant with a limit a commit has touched in all shards.
    pub fn mention(&mut self, step: Millis, tenant: &str, sets: &Sketch) {
        let step = self.open_step(step);
        self.open.entry(step).or_default().mention(tenant, sets);
    }

    /// Puts all sets in the order of tenant, family and label block. The sort is adaptive: a few new sets behind many
    /// sorted ones cost one pass.
    fn sort(&mut self) {
        if !self.sorted {
            self.order = self.sorted_order();
            self.sorted = true;
        }
    }

    pub(super) fn sorted_order(&self) -> Vec<u32> {
        let mut order = self.order.clone();
        if !self.sorted {
            order.sort_by(|&a, &b| self.key(a).cmp(&self.key(b)));
        }
        order
    }

    fn key(&self, id: u32) -> Option<(&str, Family, &[u8])> {
        let set = self.sets.get(id)?;
        Some((self.tenants.of(set.tenant), self.layouts.of(set.layout).layout.family(), set.block()))
    }

    /// Folds all open steps up to `step` and writes it, set by set in their final order.
    fn write(&mut self, step: Millis) -> ClosedStep {
        let later = self.open.split_off(&(step + 1));
        let open = std::mem::replace(&mut self.open, later).into_iter().collect();
        let mut folding = Folding::new(step, self.settings.memory(), open, &mut self.layouts);
        let mut emitter = Emitter::new(&self.settings, &self.tenants, &mut self.writer, step);
        let (mut turn, mut scratch, mut heap) = (Turn::default(), Vec::new(), 0);
        for &id in &self.order {
            let Some(set) = self.sets.get_mut(id) else { continue };
            if set.live || set.pending > 0 {
                folding.fold(id, set, &mut turn);
                if set.live {
                    emitter.emit(set, folding.layouts, &mut turn);
                }
                if turn.touched {
                    set.pack(&turn.numbers, &mut scratch);
                }
            }
            heap += set.heap();
        }
        let (closed, live, active_series) = emitter.finish();
        (self.live, self.active_series) = (live, active_series);
        self.sets.set_heap(heap);
        self.writer.rest();
        closed
    }

    /// Frees cold sets that would begin anew anyway, as soon as no share can still name them.
    fn forget(&mut self, step: Millis, watermark: Option<Millis>) {
        let Some(watermark) = watermark else { return };
        let memory = self.settings.memory();
        self.order.retain(|&id| {
            let gone = |s: &mut LabelSet| s.is_beyond(step, memory) && watermark.saturating_sub(s.mentioned) > memory;
            let Some(set) = self.sets.take_if(id, gone) else { return true };
            self.instead.remove(id);
            self.tenants.release(set.tenant);
            false
        });
    }
}

#[cfg(test)]
mod tests;
