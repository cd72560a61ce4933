//! The label sets of a shard, and the folding of open steps into them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{SeriesSettings, TenantBook};
use super::emit::{ClosedStep, Emitter};
use super::metrics::Metrics;
use super::open::OpenStep;
use crate::deltas::SetDelta;
use crate::model::hash::{Map, Set as HashSet};
use crate::model::labels::{self, Cuts};
use crate::model::{Exemplar, Layout, Millis, SetName, exemplar};
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
    pub(super) exemplars: Vec<(u16, Exemplar)>,
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
        }
    }

    /// From the next step on, tenants are written as `tenants` says.
    pub fn reconfigure(&mut self, tenants: TenantBook) {
        self.settings.tenants = tenants;
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
        let (delta, created) = self.open.entry(step).or_default().delta(id, layout_id, layout.cells());
        known.pending += u32::from(created);
        delta.spelled |= set.spelled.is_some();
        delta.grow(layout, &set.cells, &mut self.scratch);
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

    fn define(&mut self, name: SetName, tenant: &str, block: &[u8], layout: u32) -> Result<u32, AddError> {
        let metrics = &self.metrics[layout as usize];
        let numbers = metrics.numbers();
        if SetName::of(tenant, metrics.layout.family(), block) != name {
            return Err(AddError::Misnamed(name));
        }
        let set = LabelSet {
            name,
            tenant: self.tenant(tenant),
            block: block.into(),
            cuts: labels::cuts(block),
            numbers: vec![0; numbers].into_boxed_slice(),
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
            self.adopt_layouts(&open, &mut news);
            for delta in open.deltas() {
                let set = self.sets[delta.set as usize].as_mut().expect("sets with deltas are not freed");
                set.pending -= 1;
                set.touch(step, self.settings.memory());
                let new = &self.metrics[set.layout as usize].layout;
                let old = &self.metrics[delta.layout as usize].layout;
                if set.layout == delta.layout {
                    new.add(&mut set.numbers, &delta.cells);
                } else {
                    new.add(&mut set.numbers, &new.rebucket(old, &delta.cells));
                }
                if !delta.exemplars.is_empty() {
                    let list = &mut news.entry(delta.set).or_default().exemplars;
                    offer_all(list, new, old, &delta.exemplars);
                }
            }
        }
        news
    }

    /// Gives every set that the step spells out the layout of that definition.
    fn adopt_layouts(&mut self, open: &OpenStep, news: &mut Map<u32, News>) {
        if self.metrics.len() < 2 {
            return;
        }
        let metrics = &self.metrics;
        let mut wanted: Map<u32, u32> = Map::default();
        for delta in open.deltas().iter().filter(|d| d.spelled) {
            let best = wanted.entry(delta.set).or_insert(delta.layout);
            if metrics[delta.layout as usize].rank().gt(metrics[*best as usize].rank()) {
                *best = delta.layout;
            }
        }
        for delta in open.deltas().iter().filter(|d| wanted.get(&d.set) == Some(&d.layout)) {
            let set = self.sets[delta.set as usize].as_mut().expect("sets with deltas are not freed");
            if set.layout == delta.layout {
                continue;
            }
            let (old, new) = (&metrics[set.layout as usize], &metrics[delta.layout as usize]);
            let times = set.numbers[old.layout.cells()..].to_vec();
            let mut numbers = new.layout.rebucket(&old.layout, &set.numbers);
            numbers.extend(times);
            set.numbers = numbers.into_boxed_slice();
            if set.live {
                // Of several replacements in one forced close, the receiver has seen the first layout only. Candidates
                // for exemplars that were gathered before are in cells of the layout that goes now.
                let news = news.entry(delta.set).or_default();
                news.replaced.get_or_insert(set.layout);
            }
            if let Some(news) = news.get_mut(&delta.set) {
                let gathered = std::mem::take(&mut news.exemplars);
                offer_all(&mut news.exemplars, &new.layout, &old.layout, &gathered);
            }
            set.layout = delta.layout;
        }
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
            self.free.push(id);
            false
        });
        if self.order.len() < before {
            self.tenants.retain(|tenant| Arc::strong_count(tenant) > 1);
        }
    }
}

/// Offers exemplars in bucket cells of `old` to a list in bucket cells of `new`.
fn offer_all(list: &mut Vec<(u16, Exemplar)>, new: &Layout, old: &Layout, candidates: &[(u16, Exemplar)]) {
    for &(cell, e) in candidates {
        let cell = usize::from(cell);
        if let Some(h) = old.histogram_of(cell) {
            exemplar::offer(list, new.rebucket_cell(old, h, cell) as u16, e);
        }
    }
}

// === impl LabelSet ===

impl LabelSet {
    /// A step adds to the set: it is live from now on. After a long absence it begins at zero.
    fn touch(&mut self, step: Millis, memory: Millis) {
        if !self.live && step.saturating_sub(self.touched) > memory {
            self.numbers.fill(0);
            self.emitted = 0;
        }
        self.touched = step;
        self.live = true;
    }

    /// Whether the set is cold and would begin at zero if a later step touched it.
    fn is_beyond(&self, step: Millis, memory: Millis) -> bool {
        !self.live && self.pending == 0 && step.saturating_sub(self.touched) > memory
    }
}

#[cfg(test)]
mod tests;
