//! The label sets of a shard, and the folding of open steps into them.

use std::collections::BTreeMap;

use super::aliases::Aliases;
use super::emit::{ClosedStep, Emitter};
use super::fold::{Folding, Turn};
use super::instead::Instead;
use super::layouts::Layouts;
use super::open::{Gain, OpenStep, Scratch, Touched};
use super::set::{self, LabelSet};
use super::sets::Sets;
use super::starts::Kept;
use super::tenancy::Tenancy;
use super::tenants::TenantNames;
use super::unnamed::Unnamed;
use super::{SeriesSettings, heap};
use crate::core::deltas::SetDelta;
use crate::core::model::{Family, Layout, Millis, Natives, SetName};
use crate::core::remotewrite::encode::SeriesWriter;

/// The number of label sets that are looked up together.
const BATCH: usize = 128;

/// A delta that cannot be added. Nothing else is affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// A delta record names a label set that was never sent in full, or was forgotten too early.
    #[error(
        "a delta record refers to label set {:032x}, whose labels this shard does not know; its delta is held back \
         until the labels are sent, which the next owner of the source does: restart that worker. Without an upgrade \
         from an earlier version, the deltas topic has lost records, or two groups write to it; check its retention", .0.0
    )]
    Unknown(SetName),
    /// The same in a delta record of an earlier version. Its deltas are not kept: the labels come under another name.
    #[error(
        "a delta record of an earlier version refers to label set {:032x}, whose labels this shard does not know; \
         its delta is lost", .0.0
    )]
    UnknownOld(SetName),
    /// A delta record sends labels in full that do not have the name that it gives, or cells of another family.
    #[error("a delta record has labels or cells that do not belong to label set {:032x}; its delta is lost", .0.0)]
    Misnamed(SetName),
    /// Different label sets have one name, and a delta record does not determine which of them it means.
    #[error(
        "different label sets have the ID {:032x}; a delta that may belong to any of them is lost. IDs in delta \
         records of version 2 can be made to collide by senders of spans: replace all workers by this version, whose \
         IDs cannot", .0.0
    )]
    Collides(SetName),
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
    pub(super) tenants: TenantNames,
    pub(super) open: BTreeMap<Millis, OpenStep>,
    pub(super) live: usize,
    pub(super) active_series: u64,
    writer: SeriesWriter,
    pub(super) scratch: Scratch,
    /// Sets that a limit refuses, and the labels of those that count for them.
    pub(super) instead: Instead,
    /// The names of the sets in delta records of the earlier version.
    pub(super) aliases: Aliases,
    /// Deltas that wait for the labels of their set, and the number of those that were given up.
    pub(super) unnamed: Unnamed,
    given_up: u64,
    pub(super) tenancy: Tenancy,
    /// The numbers of sets before they came back, until these have been written.
    pub(super) kept: Kept,
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
            closed: None,
            sets: Sets::new(settings.seed),
            settings,
            order: Vec::new(),
            sorted: true,
            layouts: Layouts::default(),
            tenants: TenantNames::default(),
            open: BTreeMap::new(),
            live: 0,
            active_series: 0,
            // The limits are those of the tenant that is written.
            writer: SeriesWriter::new(0, 0, ""),
            scratch: Scratch::default(),
            instead: Instead::default(),
            aliases: Aliases::default(),
            unnamed: Unnamed::default(),
            given_up: 0,
            tenancy: Tenancy::default(),
            kept: Kept::default(),
        }
    }

    /// From the next step on, other settings are active.
    pub fn adopt(&mut self, settings: SeriesSettings) {
        let before = std::mem::replace(&mut self.settings, settings);
        if !before.tenants.limits_as(&self.settings.tenants) {
            self.pardon();
        }
        if before.step != self.settings.step {
            self.change_width();
        }
    }

    /// Moves the open deltas into steps of the present width.
    fn change_width(&mut self) {
        let mut scratch = Scratch::default();
        for (step, mut opened) in std::mem::take(&mut self.open) {
            let to = self.open_step(step);
            for (tenant, sets) in std::mem::take(&mut opened.everywhere) {
                self.mention(to, &tenant, &sets);
            }
            for delta in opened.take() {
                scratch.unpack(step, &delta);
                let (spelled, natives) = (delta.spelled(), &delta.natives);
                let gain = Gain { spelled, cells: &scratch.gained, natives, exemplars: &scratch.exemplars };
                let (place, metrics) = ((delta.set, delta.layout()), self.layouts.of(delta.layout()));
                let open = self.open.entry(to).or_default();
                let first = open.put(place, to, metrics, &gain, &mut self.scratch);
                if let Some(set) = self.sets.get_mut(delta.set).filter(|_| !first) {
                    set.pending = set.pending.saturating_sub(1);
                }
            }
        }
    }

    /// The active settings.
    #[must_use]
    pub fn settings(&self) -> &SeriesSettings {
        &self.settings
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

    /// Passes every label set to `tell`: its name, tenant, family and label block, and when a delta mentioned it last.
    pub fn each_label_set(&self, tell: &mut dyn FnMut(SetName, &str, Family, &[u8], Millis)) {
        for set in self.sets.iter() {
            tell(set.name, self.tenants.of(set.tenant), self.layouts.family(set.layout), set.block(), set.mentioned);
        }
    }

    /// The label sets in memory, live and cold.
    #[must_use]
    pub fn label_sets(&self) -> usize {
        self.order.len()
    }

    /// The deltas that wait for the labels of their set.
    #[must_use]
    pub fn unnamed(&self) -> usize {
        self.unnamed.len()
    }

    /// How many of them were given up.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
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

    /// Whether nothing is live and no step is open.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.live == 0 && self.open.is_empty()
    }

    /// The end of the last step that is over at `at`.
    #[must_use]
    pub fn last_passed(&self, at: Millis) -> Millis {
        self.settings.step.passed(at)
    }

    /// What the registry takes in memory, by its own account.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let open: usize = self.open.values().map(OpenStep::bytes).sum();
        let order = heap(self.order.capacity() * size_of::<u32>());
        let beside = self.instead.bytes() + self.kept.bytes() + self.aliases.bytes() + self.unnamed.bytes();
        self.sets.bytes() + order + open + beside + self.writer.bytes()
    }

    /// The number of a layout, for [`Registry::add`].
    pub fn layout(&mut self, layout: &Layout) -> LayoutId {
        LayoutId(self.layouts.id(layout))
    }

    /// Adds the deltas of a delta record with stream time `stream_time` for `step`; a step that is closed already is
    /// replaced by the oldest open one. `layouts` are those that `set.layout` stands for. Deltas that cannot be added
    /// are passed to `lost`.
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
            // Label sets lie anywhere in memory. Looked up in a row, their cache misses overlap.
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
        // The delta record may have sent it in full just before.
        let id = match (id.or_else(|| self.sets.find(set.name)), set.spelled) {
            (Some(id), _) => id,
            (None, Some((tenant, block))) => {
                let id = self.define(set.name, tenant, block, layout.0)?;
                self.add_unnamed(id, set.name, step);
                id
            }
            (None, None) => {
                self.unnamed.keep(set, layout.0, self.layouts.of(layout.0), stream_time);
                return Err(AddError::Unknown(set.name));
            }
        };
        let known = self.sets.get_mut(id).expect("the index holds existing sets only");
        let metrics = self.layouts.of(layout.0);
        let of = &**self.tenants.of(known.tenant);
        let is_its_own = |(tenant, block): (&str, &[u8])| block == known.block() && tenant == of;
        if !set.spelled.is_none_or(is_its_own) {
            return Err(AddError::Collides(set.name));
        }
        if self.layouts.family(known.layout) != metrics.layout.family() {
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

    /// The labels of a set have been sent in full: what waited for them counts in the open step that sent them.
    fn add_unnamed(&mut self, id: u32, name: SetName, step: Millis) {
        if self.unnamed.len() == 0 {
            return;
        }
        let Some(family) = self.sets.get(id).map(|set| self.layouts.family(set.layout)) else { return };
        for (layout, waiting) in self.unnamed.take(name) {
            if self.layouts.family(layout) != family {
                // The delta record that named it meant another set.
                self.given_up += 1;
                continue;
            }
            let cells = waiting.grown();
            let gain = Gain { spelled: false, cells: &cells, natives: &waiting.natives, exemplars: &[] };
            let (open, metrics) = (self.open.entry(step).or_default(), self.layouts.of(layout));
            let first = open.put((id, layout), step, metrics, &gain, &mut self.scratch);
            if let Some(set) = self.sets.get_mut(id) {
                set.pending += u32::from(first);
            }
        }
    }

    /// Closes `step` and everything before it. `watermark` is the least stream time over all known sources, if
    /// it is known; it decides what may be freed. A step that is closed already gives nothing.
    pub fn close(&mut self, step: Millis, watermark: Option<Millis>) -> ClosedStep {
        if self.closed.is_some_and(|closed| step <= closed) {
            return ClosedStep::empty(step);
        }
        let last = self.closed.replace(step);
        self.admit(step);
        self.sort();
        let closed = self.write(step, last);
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
    /// step after the epoch takes older deltas.
    pub(super) fn open_step(&self, step: Millis) -> Millis {
        let width = self.settings.step;
        let aligned = width.end_of((step - 1).max(0));
        self.closed.map_or(aligned, |closed| aligned.max(width.end_of(closed)))
    }

    pub(super) fn define(&mut self, name: SetName, tenant: &str, block: &[u8], layout: u32) -> Result<u32, AddError> {
        let metrics = self.layouts.of(layout);
        if self.settings.namer.name(tenant, metrics.layout.family(), block) != name {
            return Err(AddError::Misnamed(name));
        }
        let mut packed = Vec::new();
        set::pack(&mut packed, &vec![0; metrics.numbers()]);
        let natives = Natives::of(&metrics.layout);
        let tenant = self.tenants.take(tenant);
        Ok(self.insert(LabelSet::new(name, tenant, block, layout, &packed, natives)))
    }

    pub(super) fn insert(&mut self, set: LabelSet) -> u32 {
        if !self.aliases.is_empty() {
            self.aliases.insert(self.old_name(&set), set.name);
        }
        let id = self.sets.insert(set);
        // Restored sets come in order.
        self.sorted &= self.order.last().is_none_or(|&last| self.key(last) <= self.key(id));
        self.order.push(id);
        id
    }

    /// The name of a set in delta records of version 2.
    pub(super) fn old_name(&self, set: &LabelSet) -> SetName {
        SetName::old(self.tenants.of(set.tenant), self.layouts.family(set.layout), set.block())
    }

    /// Records which label sets of a tenant with a limit a commit has touched in all shards.
    pub fn mention(&mut self, step: Millis, tenant: &str, sets: &Touched) {
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
        Some((self.tenants.of(set.tenant), self.layouts.family(set.layout), set.block()))
    }

    /// Folds all open steps up to `step` and writes it, set by set in their final order. `last` is the step that was closed
    /// before.
    fn write(&mut self, step: Millis, last: Option<Millis>) -> ClosedStep {
        let later = self.open.split_off(&(step + 1));
        let open = std::mem::replace(&mut self.open, later).into_iter().collect();
        let mut folding = Folding::new(step, &self.settings, open, &mut self.layouts);
        let mut emitter = Emitter::new(&self.settings, &self.tenants, &mut self.writer, (step, last));
        let (mut turn, mut scratch, mut heap) = (Turn::default(), Vec::new(), 0);
        for &id in &self.order {
            let Some(set) = self.sets.get_mut(id) else { continue };
            if set.live || set.pending > 0 {
                turn.before = self.kept.take(id);
                folding.fold(id, set, &mut turn);
                if set.live {
                    emitter.emit(set, folding.layouts, &mut turn);
                }
                if let Some(before) = turn.before.take() {
                    self.kept.put(id, before);
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

    /// Frees cold sets that would begin again at zero, as soon as no delta record can still name them.
    fn forget(&mut self, step: Millis, watermark: Option<Millis>) {
        let Some(watermark) = watermark else { return };
        let memory = self.settings.memory();
        self.aliases.forget(watermark, memory);
        self.given_up += self.unnamed.give_up(watermark, memory);
        let mut order = std::mem::take(&mut self.order);
        order.retain(|&id| {
            let family = self.sets.get(id).map(|set| self.layouts.family(set.layout));
            let memory = family.map_or(memory, |family| self.settings.memory_of(family));
            let gone = |s: &mut LabelSet| s.is_beyond(step, memory) && watermark.saturating_sub(s.mentioned) > memory;
            let Some(set) = self.sets.take_if(id, gone) else { return true };
            self.instead.remove(id);
            self.kept.remove(id);
            if !self.aliases.is_empty() {
                self.aliases.remove(self.old_name(&set), set.name);
            }
            self.tenants.release(set.tenant);
            false
        });
        self.order = order;
    }
}

#[cfg(test)]
mod tests;
