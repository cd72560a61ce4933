//! The label sets of a shard, and the folding of open steps into them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::emit::{ClosedStep, Emitter};
use super::metrics::Metrics;
use super::open::OpenStep;
use super::{SeriesSettings, TenantBook};
use crate::deltas::SetDelta;
use crate::model::hash::{Map, Set as HashSet};
use crate::model::labels::{self, Cuts};
use crate::model::{Exemplar, Layout, Millis, Natives, SetName, Sketch, exemplar};
use crate::remotewrite::encode::SeriesWriter;

/// The last touch of a set that no closed step has touched yet.
pub(super) const NEVER: Millis = Millis::MIN;

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
    index: Map<SetName, u32>,
    pub(super) sets: Vec<Option<LabelSet>>,
    free: Vec<u32>,
    /// All sets, by tenant, family and label block once sorted.
    pub(super) order: Vec<u32>,
    sorted: bool,
    pub(super) metrics: Vec<Metrics>,
    tenants: HashSet<Arc<str>>,
    pub(super) open: BTreeMap<Millis, OpenStep>,
    pub(super) live: usize,
    pub(super) active_series: u64,
    writer: SeriesWriter,
    scratch: Vec<u64>,
    /// Sets that a limit refuses, and the labels of those that count for them.
    pub(super) instead: Map<u32, Box<[u8]>>,
    /// The layouts that two layouts make together.
    unions: Map<(Union, u32, u32), u32>,
}

/// How two layouts make a third.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Union {
    /// [`Layout::join`]
    Join,
    /// [`Layout::widen`]
    Widen,
}

/// One label set. A shard holds many: its size is watched by a test.
#[derive(Debug)]
pub(super) struct LabelSet {
    pub(super) name: SetName,
    pub(super) tenant: Arc<str>,
    pub(super) block: Box<[u8]>,
    pub(super) cuts: Cuts,
    /// See [`Metrics::numbers`].
    pub(super) numbers: Box<[u64]>,
    pub(super) natives: Natives,
    /// The last closed step that touched it.
    pub(super) touched: Millis,
    /// The greatest stream time of a share that mentioned it.
    pub(super) mentioned: Millis,
    pub(super) layout: u32,
    /// Deltas in open steps.
    pub(super) pending: u32,
    /// One bit per metric that has been emitted.
    pub(super) emitted: u8,
    /// Whether it is emitted at every step.
    pub(super) live: bool,
}

/// What a folded step knows about a set besides its values.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) exemplars: Vec<(u32, Exemplar)>,
    /// The layout that the receiver has seen, when it was replaced.
    pub(super) replaced: Option<u32>,
}

// === impl Registry ===

impl Registry {
    /// A registry without series.
    #[must_use]
    pub fn new(settings: SeriesSettings) -> Self {
        Self {
            settings,
            closed: None,
            index: Map::default(),
            sets: Vec::new(),
            free: Vec::new(),
            order: Vec::new(),
            sorted: true,
            metrics: Vec::new(),
            tenants: HashSet::default(),
            open: BTreeMap::new(),
            live: 0,
            active_series: 0,
            // The limits are those of the tenant that is written.
            writer: SeriesWriter::new(0, 0, ""),
            scratch: Vec::new(),
            instead: Map::default(),
            unions: Map::default(),
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

    /// Adds what a share with stream time `stream_time` says about one set in `step`; a step that is closed already is
    /// replaced by the oldest open one. `layout` is the one that `set.layout` stands for.
    ///
    /// # Errors
    /// When the set is unknown or misnamed; its delta is lost then.
    pub fn add(
        &mut self,
        step: Millis,
        stream_time: Millis,
        layout: &Layout,
        set: &SetDelta<'_>,
    ) -> Result<(), AddError> {
        let step = self.open_step(step);
        let layout_id = self.layout_id(layout);
        let id = match (self.index.get(&set.name), set.spelled) {
            (Some(&id), _) => id,
            (None, Some((tenant, block))) => self.define(set.name, tenant, block, layout_id)?,
            (None, None) => return Err(AddError::Unknown(set.name)),
        };
        let known = self.sets[id as usize].as_mut().expect("the index holds existing sets only");
        if self.metrics[known.layout as usize].layout.family() != layout.family() {
            return Err(AddError::Misnamed(set.name));
        }
        known.mentioned = known.mentioned.max(stream_time);
        let (delta, created) = self.open.entry(step).or_default().delta(id, layout_id, layout);
        known.pending += u32::from(created);
        delta.spelled |= set.spelled.is_some();
        delta.grow(layout, set, &mut self.scratch);
        if self.settings.tenants.exemplars() {
            delta.offer(&set.exemplars);
        }
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
        let news = self.fold(step);
        let closed = self.emit(step, &news);
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

    pub(super) fn layout_id(&mut self, layout: &Layout) -> u32 {
        // Layouts change with the configuration: there are one or two.
        let known = self.metrics.iter().position(|m| m.layout == *layout);
        known.unwrap_or_else(|| {
            self.metrics.push(Metrics::new(layout.clone()));
            self.metrics.len() - 1
        }) as u32
    }

    pub(super) fn define(&mut self, name: SetName, tenant: &str, block: &[u8], layout: u32) -> Result<u32, AddError> {
        let metrics = &self.metrics[layout as usize];
        let numbers = metrics.numbers();
        let natives = Natives::of(&metrics.layout);
        if SetName::of(tenant, metrics.layout.family(), block) != name {
            return Err(AddError::Misnamed(name));
        }
        let set = LabelSet {
            name,
            tenant: self.tenant(tenant),
            block: block.into(),
            cuts: labels::cuts(block),
            numbers: vec![0; numbers].into_boxed_slice(),
            natives,
            touched: NEVER,
            mentioned: NEVER,
            layout,
            pending: 0,
            emitted: 0,
            live: false,
        };
        Ok(self.insert(set))
    }

    pub(super) fn tenant(&mut self, tenant: &str) -> Arc<str> {
        let known = self.tenants.get(tenant).cloned();
        known.unwrap_or_else(|| {
            let tenant: Arc<str> = tenant.into();
            self.tenants.insert(Arc::clone(&tenant));
            tenant
        })
    }

    pub(super) fn insert(&mut self, set: LabelSet) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            self.sets.push(None);
            (self.sets.len() - 1) as u32
        });
        self.index.insert(set.name, id);
        self.sets[id as usize] = Some(set);
        self.order.push(id);
        self.sorted = false;
        id
    }

    pub(super) fn knows(&self, name: SetName) -> bool {
        self.index.contains_key(&name)
    }

    pub(super) fn find(&self, name: SetName) -> Option<u32> {
        self.index.get(&name).copied()
    }

    /// Notes which label sets of a tenant with a limit a commit has touched in all shards.
    pub fn mention(&mut self, step: Millis, tenant: &str, sets: &Sketch) {
        let step = self.open_step(step);
        self.open.entry(step).or_default().mention(tenant, sets);
    }

    /// Puts all sets in the order of tenant, family and label block. The sort is adaptive: a few new sets behind many
    /// sorted ones cost one pass.
    fn sort(&mut self) {
        if !std::mem::replace(&mut self.sorted, true) {
            self.order = self.sorted_order();
        }
    }

    pub(super) fn sorted_order(&self) -> Vec<u32> {
        let key = |id: u32| {
            let set = self.sets[id as usize].as_ref();
            set.map(|s| (&*s.tenant, self.metrics[s.layout as usize].layout.family(), &*s.block))
        };
        let mut order = self.order.clone();
        order.sort_by(|&a, &b| key(a).cmp(&key(b)));
        order
    }

    fn fold(&mut self, step: Millis) -> Map<u32, News> {
        let mut news: Map<u32, News> = Map::default();
        while let Some(entry) = self.open.first_entry().filter(|e| *e.key() <= step) {
            let open = entry.remove();
            self.adopt_layouts(step, &open, &mut news);
            for delta in open.deltas() {
                let set = self.sets[delta.set as usize].as_mut().expect("sets with deltas are not freed");
                set.pending -= 1;
                let new = &self.metrics[set.layout as usize].layout;
                let old = &self.metrics[delta.layout as usize].layout;
                set.touch(step, self.settings.memory(), new);
                let gained = (&*delta.numbers.cells, &delta.numbers.natives);
                if set.layout == delta.layout {
                    new.add(&mut set.numbers, &mut set.natives, gained);
                } else {
                    new.add_from(&mut set.numbers, &mut set.natives, old, gained);
                }
                new.bound(&mut set.natives);
                if !delta.exemplars.is_empty() {
                    let list = &mut news.entry(delta.set).or_default().exemplars;
                    offer_all(list, new, old, &delta.exemplars);
                }
            }
        }
        news
    }

    /// Gives every set that the step touches the layout of its latest definition. A set that begins anew forgets the one
    /// that it had. Any other keeps a place for every histogram that it has ever had, and takes one for every histogram
    /// that a delta has: the calls and the latency of one set may come from different raw keys, with different layouts,
    /// and both go on for good.
    fn adopt_layouts(&mut self, step: Millis, open: &OpenStep, news: &mut Map<u32, News>) {
        if self.metrics.len() < 2 {
            return;
        }
        let mut wanted: Map<u32, (Option<u32>, u32)> = Map::default();
        for delta in open.deltas() {
            let new = delta.spelled.then_some(delta.layout);
            let (defined, all) = wanted.get(&delta.set).copied().unwrap_or((new, delta.layout));
            let defined = match (defined, new) {
                (Some(a), Some(b)) => Some(self.union(Union::Join, a, b)),
                (one, None) | (None, one) => one,
            };
            let all = self.union(Union::Join, all, delta.layout);
            wanted.insert(delta.set, (defined, all));
        }
        for delta in open.deltas() {
            let Some((defined, all)) = wanted.remove(&delta.set) else { continue };
            let set = self.sets[delta.set as usize].as_ref().expect("sets with deltas are not freed");
            let (had, anew) = (set.layout, set.begins_anew(step, self.settings.memory()));
            let base = match defined {
                Some(defined) if anew => defined,
                Some(defined) => self.union(Union::Widen, defined, had),
                // It counts for others, and begins with what they have.
                None if anew => all,
                None => had,
            };
            let layout = self.union(Union::Widen, base, all);
            if layout != had {
                self.relay(delta.set, layout, news);
            }
        }
    }

    /// Moves a set to another layout.
    fn relay(&mut self, id: u32, layout: u32, news: &mut Map<u32, News>) {
        let set = self.sets[id as usize].as_mut().expect("sets with deltas are not freed");
        let (old, new) = (&self.metrics[set.layout as usize], &self.metrics[layout as usize]);
        let mut numbers = vec![0; new.numbers()];
        let mut natives = Natives::of(&new.layout);
        new.layout.add_from(&mut numbers, &mut natives, &old.layout, (&set.numbers, &set.natives));
        new.layout.bound(&mut natives);
        numbers[new.layout.cells()..].copy_from_slice(&set.numbers[old.layout.cells()..]);
        (set.numbers, set.natives) = (numbers.into_boxed_slice(), natives);
        if set.live {
            // Of several replacements in one forced close, the receiver has seen the first layout only. Candidates for
            // exemplars that were gathered before are in cells of the layout that goes now.
            news.entry(id).or_default().replaced.get_or_insert(set.layout);
        }
        if let Some(news) = news.get_mut(&id) {
            let gathered = std::mem::take(&mut news.exemplars);
            offer_all(&mut news.exemplars, &new.layout, &old.layout, &gathered);
        }
        set.layout = layout;
    }

    /// The layout that `a` and `b` make together. It has the family of both.
    fn union(&mut self, union: Union, a: u32, b: u32) -> u32 {
        if a == b {
            return a;
        }
        if let Some(&known) = self.unions.get(&(union, a, b)) {
            return known;
        }
        let [x, y] = [a, b].map(|id| &self.metrics[id as usize].layout);
        let layout = match union {
            Union::Join => x.join(y),
            Union::Widen => x.widen(y),
        };
        let id = self.layout_id(&layout);
        self.unions.insert((union, a, b), id);
        id
    }

    fn emit(&mut self, step: Millis, news: &Map<u32, News>) -> ClosedStep {
        let mut emitter = Emitter::new(&self.settings, &mut self.writer, step);
        for &id in &self.order {
            if let Some(set) = self.sets[id as usize].as_mut().filter(|s| s.live) {
                emitter.emit(set, &self.metrics, news.get(&id));
            }
        }
        let (closed, live, active_series) = emitter.finish();
        (self.live, self.active_series) = (live, active_series);
        closed
    }

    /// Frees cold sets that would begin anew anyway, as soon as no share can still name them.
    fn forget(&mut self, step: Millis, watermark: Option<Millis>) {
        let Some(watermark) = watermark else { return };
        let memory = self.settings.memory();
        let before = self.order.len();
        self.order.retain(|&id| {
            let gone = |s: &mut LabelSet| s.is_beyond(step, memory) && watermark.saturating_sub(s.mentioned) > memory;
            let Some(set) = self.sets[id as usize].take_if(gone) else { return true };
            self.index.remove(&set.name);
            self.instead.remove(&id);
            self.free.push(id);
            false
        });
        if self.order.len() < before {
            self.tenants.retain(|tenant| Arc::strong_count(tenant) > 1);
        }
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

// === impl LabelSet ===

impl LabelSet {
    /// A step adds to the set: it is live from now on. After a long absence it begins at zero.
    fn touch(&mut self, step: Millis, memory: Millis, layout: &Layout) {
        if self.begins_anew(step, memory) {
            self.numbers.fill(0);
            self.natives = Natives::of(layout);
            self.emitted = 0;
        }
        self.touched = step;
        self.live = true;
    }

    /// Whether a touch by `step` begins at zero.
    pub(super) fn begins_anew(&self, step: Millis, memory: Millis) -> bool {
        !self.live && step.saturating_sub(self.touched) > memory
    }

    /// Whether the set is cold and would begin at zero if a later step touched it.
    fn is_beyond(&self, step: Millis, memory: Millis) -> bool {
        self.pending == 0 && self.begins_anew(step, memory)
    }
}

#[cfg(test)]
mod tests;
