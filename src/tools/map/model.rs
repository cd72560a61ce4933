//! The map: it adds records, keeps their counts within bounds, and tracks their progress.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::bins::Bins;
use super::cardinality::counted;
use super::keys::{Key, Texts};
use crate::core::deltas::{DeltaHead, DeltaRecord, DeltaRecordError, SetDelta};
use crate::core::model::time::last_step;
use crate::core::model::wire::Malformed;
use crate::core::model::{Exemplar, Family, Layout, MAX_TIME, Millis, SetName};

/// The number of exemplars of a key that are kept: the latest ones.
const EXAMPLES: usize = 6;
/// After so many records the sizes are checked.
const CHECK_EVERY: u64 = 256;
/// The memory of a label set.
const NAME_COST: usize = 96;
/// A source that lags the first one by so much plus two steps is reported.
const LATE: Millis = 60_000;

/// What a map keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapSettings {
    /// The step of the workers.
    pub step: Millis,
    /// The least time that one point of a history covers; a multiple of the step.
    pub resolution: Millis,
    /// For how long points are kept; `None`: for ever, and points become coarser instead.
    pub history: Option<Millis>,
    /// The most points.
    pub points: usize,
    /// The most memory in bytes; above it the oldest points are dropped.
    pub memory: usize,
    /// All data are one picture, as those of a file are: without a moment, the whole time is shown.
    pub whole: bool,
}

/// Something that the map lacks, as a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap(pub String);

/// The progress of a map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Every source has passed this moment.
    pub as_of: Option<Millis>,
    /// The missing parts, as messages.
    pub partial: Vec<String>,
    /// Points before this moment were dropped.
    pub dropped_before: Option<Millis>,
    /// The label sets that are known.
    pub label_sets: usize,
    /// The memory taken, by the map's own account.
    pub bytes: usize,
}

/// The key of a label set's name.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// `None`: it is in no map.
    key: Option<u32>,
    mentioned: Millis,
    pub(super) tenant: Arc<str>,
    /// The layout of its latest delta; `None` if only a snapshot has named it.
    pub(super) layout: Option<u16>,
    /// The metrics that deltas have counted: a bit for each, in the order of [`super::cardinality::metrics`].
    pub(super) counted: u8,
}

#[derive(Debug)]
pub(super) struct KeySlot {
    pub(super) key: Key,
    /// Label sets that have it.
    pub(super) names: u32,
    /// The first and the last step that counted it.
    pub(super) first: Millis,
    pub(super) last: Millis,
    pub(super) examples: Vec<Exemplar>,
}

/// The progress of the delta records of one source in one shard.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    next: (u64, u32),
    /// The stream time of the last delta record that is complete.
    at: Option<Millis>,
}

/// The service map of a group, or of a file.
#[derive(Debug)]
pub struct Map {
    pub(super) settings: MapSettings,
    pub(super) bins: Bins,
    pub(super) keys: Vec<Option<KeySlot>>,
    ids: BTreeMap<Key, u32>,
    free: Vec<u32>,
    pub(super) names: BTreeMap<SetName, Known>,
    texts: Texts,
    places: BTreeMap<(u32, Arc<str>, i32), Place>,
    /// The longest time after which a sender sends a label set in full again.
    respell_after: Millis,
    /// Shards that are expected and have sent nothing.
    silent: BTreeSet<u32>,
    gaps: BTreeSet<Gap>,
    /// Deltas of label sets whose labels are unknown.
    unknown: u64,
    /// Label sets did not fit into the memory.
    refused: bool,
    dropped_before: Option<Millis>,
    added: u64,
    pub(super) structure: u64,
}

// === impl Map ===

impl Map {
    /// An empty map.
    #[must_use]
    pub fn new(settings: MapSettings) -> Self {
        Self {
            settings,
            bins: Bins::new(settings.resolution.max(settings.step).max(1)),
            keys: Vec::new(),
            ids: BTreeMap::new(),
            free: Vec::new(),
            names: BTreeMap::new(),
            texts: Texts::default(),
            places: BTreeMap::new(),
            respell_after: 0,
            silent: BTreeSet::new(),
            gaps: BTreeSet::new(),
            unknown: 0,
            refused: false,
            dropped_before: None,
            added: 0,
            structure: 0,
        }
    }

    /// Expects deltas of these shards: one that sends nothing is missing.
    pub fn expect(&mut self, shards: impl IntoIterator<Item = u32>) {
        self.silent.extend(shards);
    }

    /// Adds a record of a shard. Returns whether it was new: a sender repeats records without an acknowledgement, with
    /// the same content.
    ///
    /// # Errors
    /// When it is no delta record; then nothing of it counts.
    pub fn add(&mut self, shard: u32, record: &[u8]) -> Result<bool, DeltaRecordError> {
        let mut delta_record = DeltaRecord::decode(record)?;
        let DeltaHead { step, stream_time, .. } = delta_record.head;
        // The least number has no positive counterpart.
        let is_far = |at: Millis| at.unsigned_abs() > MAX_TIME.unsigned_abs();
        if is_far(step) || (is_far(stream_time) && last_step(stream_time).is_none()) {
            return Err(DeltaRecordError::Malformed(Malformed("step or stream time out of range")));
        }
        let mut sets: Vec<SetDelta<'_>> = Vec::new();
        while let Some(set) = delta_record.next_set()? {
            sets.push(set);
        }
        if !self.is_next(shard, &delta_record) {
            return Ok(false);
        }
        self.silent.remove(&shard);
        let layouts: Vec<_> = delta_record.layouts.iter().map(|layout| self.bins.layout(layout)).collect();
        for set in &sets {
            let layout = delta_record.layouts.get(set.layout).zip(layouts.get(set.layout).copied().flatten());
            if let Some((layout, id)) = layout {
                self.add_set(step, set, layout, id);
            }
        }
        self.added += 1;
        if self.added.is_multiple_of(CHECK_EVERY) {
            self.tidy();
        }
        Ok(true)
    }

    /// Adds the labels of a label set from another source than a delta record.
    pub fn learn(&mut self, name: SetName, tenant: &str, family: Family, block: &[u8], mentioned: Millis) {
        if !self.names.contains_key(&name) {
            self.know(name, tenant, family, block, mentioned);
        }
    }

    /// A shard continues at another offset than the last one read: the records between are missing.
    pub fn skip(&mut self, shard: u32, gap: Gap) {
        self.places.retain(|(of, ..), _| *of != shard);
        self.gaps.insert(gap);
    }

    /// Something is missing that deltas do not show.
    pub fn lacks(&mut self, gap: Gap) {
        self.gaps.insert(gap);
    }

    /// It is no longer missing.
    pub fn has(&mut self, gap: &Gap) {
        self.gaps.remove(gap);
    }

    /// Whether deltas of unknown label sets have come since the last call.
    pub fn lacks_labels(&mut self) -> bool {
        std::mem::take(&mut self.unknown) > 0
    }

    /// Packs complete bins and drops those that are too old or too many.
    pub fn tidy(&mut self) {
        while self.settings.history.is_none() && self.bins.len() > self.settings.points {
            self.bins.coarsen();
        }
        let as_of = self.as_of().unwrap_or(Millis::MIN);
        self.bins.pack(as_of);
        if let (Some(history), Some((_, newest))) = (self.settings.history, self.bins.ends()) {
            let points = i64::try_from(self.settings.points).unwrap_or(i64::MAX);
            let kept = history.min(points.saturating_mul(self.bins.width()));
            let oldest = newest.saturating_sub(kept);
            if self.bins.drop_before(oldest) > 0 {
                self.forget(oldest);
            }
        }
        while self.bytes() > self.settings.memory && self.bins.len() > 1 {
            let Some((oldest, _)) = self.bins.ends() else { break };
            self.bins.drop_before(oldest.saturating_add(1));
            self.dropped_before = Some(oldest);
            self.forget(oldest);
        }
    }

    /// The time that all sources have passed.
    #[must_use]
    pub fn as_of(&self) -> Option<Millis> {
        let live = self.places.values().filter_map(|place| place.at).filter(|at| *at <= MAX_TIME).min();
        live.or_else(|| self.places.values().filter_map(|place| last_step(place.at?)).max())
    }

    /// The progress, and what is missing.
    #[must_use]
    pub fn status(&self) -> Status {
        let late = self.late();
        let mut partial: Vec<String> = self.gaps.iter().map(|gap| gap.0.clone()).collect();
        partial.extend(self.silent.iter().map(|shard| format!("shard {shard} has sent nothing yet")));
        partial.extend(late.into_iter().map(|(topic, partition)| format!("{topic}[{partition}] is behind")));
        if self.refused {
            partial.push("some label sets do not fit into the memory of this page".to_owned());
        }
        let (dropped_before, label_sets) = (self.dropped_before, self.names.len());
        Status { as_of: self.as_of(), partial, dropped_before, label_sets, bytes: self.bytes() }
    }

    /// The tenants that have counted anything.
    #[must_use]
    pub fn tenants(&self) -> Vec<String> {
        let all: BTreeSet<&Arc<str>> = self.keys.iter().flatten().map(|slot| slot.key.tenant()).collect();
        all.into_iter().map(ToString::to_string).collect()
    }

    /// The memory that it takes, by its own account.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let examples: usize = self.keys.iter().flatten().map(|slot| slot.examples.len() * size_of::<Exemplar>()).sum();
        self.bins.bytes()
            + self.names.len() * NAME_COST
            + self.ids.len() * 2 * Key::COST
            + self.texts.bytes()
            + examples
    }

    fn is_next(&mut self, shard: u32, delta_record: &DeltaRecord<'_>) -> bool {
        let head = &delta_record.head;
        self.respell_after = self.respell_after.max(head.sender.as_ref().map_or(0, |sender| sender.respell_after));
        let source = (shard, self.texts.take(&head.topic), head.partition);
        let place = match self.places.get_mut(&source) {
            Some(place) => place,
            // A map may begin anywhere, but not in the middle of a delta record.
            None if head.part > 0 => return false,
            None => {
                let begin = Place { next: (head.commit_number, 0), at: None };
                self.places.entry(source).or_insert(begin)
            }
        };
        if (head.commit_number, head.part) != place.next {
            return false;
        }
        let complete = head.part + 1 == head.parts;
        place.next = if complete { (head.commit_number + 1, 0) } else { (head.commit_number, head.part + 1) };
        if complete {
            place.at = Some(head.stream_time);
        }
        true
    }

    fn add_set(&mut self, step: Millis, set: &SetDelta<'_>, layout: &Layout, layout_id: u16) {
        if let Some((tenant, block)) = set.spelled
            && !self.names.contains_key(&set.name)
        {
            self.know(set.name, tenant, layout.family(), block, step);
        }
        let Some(known) = self.names.get_mut(&set.name) else {
            self.unknown += 1;
            return;
        };
        known.mentioned = known.mentioned.max(step);
        if known.layout != Some(layout_id) {
            // Names of metrics are those of the layout.
            (known.layout, known.counted) = (Some(layout_id), 0);
        }
        known.counted |= counted(layout, set);
        let Some((key, slot)) = known.key.and_then(|key| Some((key, self.keys.get_mut(key as usize)?.as_mut()?)))
        else {
            return;
        };
        (slot.first, slot.last) = (slot.first.min(step), slot.last.max(step));
        slot.examples.extend(set.exemplars.iter().map(|(_, example)| *example));
        slot.examples.sort_by_key(|example| std::cmp::Reverse(*example));
        slot.examples.dedup();
        slot.examples.truncate(EXAMPLES);
        let cells: Vec<(usize, u64)> = set.cells.iter().map(|cell| (cell.cell as usize, cell.value)).collect();
        self.bins.add(step, (key, layout_id), &cells, &set.natives);
    }

    fn know(&mut self, name: SetName, tenant: &str, family: Family, block: &[u8], mentioned: Millis) {
        if self.names.len() * (NAME_COST + Key::COST) > self.settings.memory / 2 {
            self.refused = true;
            return;
        }
        let key = Key::of(&mut self.texts, tenant, family, block).map(|key| self.id_of(key));
        let tenant = self.texts.take(tenant);
        self.names.insert(name, Known { key, mentioned, tenant, layout: None, counted: 0 });
    }

    fn id_of(&mut self, key: Key) -> u32 {
        if let Some(&id) = self.ids.get(&key) {
            if let Some(Some(slot)) = self.keys.get_mut(id as usize) {
                slot.names += 1;
            }
            return id;
        }
        self.structure += 1;
        let slot = KeySlot { key: key.clone(), names: 1, first: Millis::MAX, last: Millis::MIN, examples: Vec::new() };
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.keys.push(None);
                (self.keys.len() - 1) as u32
            }
        };
        if let Some(place) = self.keys.get_mut(id as usize) {
            *place = Some(slot);
        }
        self.ids.insert(key, id);
        id
    }

    /// Forgets label sets that no sender can name any more without sending them in full, and keys without data.
    fn forget(&mut self, oldest: Millis) {
        let unnamed = oldest.saturating_sub(self.respell_after).saturating_sub(2 * self.settings.step);
        let keys = &mut self.keys;
        self.names.retain(|_, known| {
            let keep = known.mentioned > unnamed;
            if let (false, Some(Some(slot))) = (keep, known.key.and_then(|key| keys.get_mut(key as usize))) {
                slot.names -= 1;
            }
            keep
        });
        for (id, place) in (0..).zip(&mut self.keys) {
            if let Some(slot) = place.take_if(|slot| slot.names == 0 && slot.last < oldest) {
                self.ids.remove(&slot.key);
                self.free.push(id);
                self.structure += 1;
            }
        }
        self.texts.prune();
    }

    /// The sources that are far behind the first one.
    fn late(&self) -> BTreeSet<(&str, i32)> {
        let times =
            self.places.iter().filter_map(|((_, topic, partition), place)| Some((&**topic, *partition, place.at?)));
        let live = times.filter(|(.., at)| *at <= MAX_TIME);
        let newest = live.clone().map(|(.., at)| at).max().unwrap_or(Millis::MIN);
        let line = newest.saturating_sub(LATE + 2 * self.settings.step);
        live.filter(|(.., at)| *at < line).map(|(topic, partition, _)| (topic, partition)).collect()
    }
}
