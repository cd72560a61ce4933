//! The deltas of the open steps: label sets found by a raw key, and the cells that have grown since the last cut.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashTable;

use super::delta_record::{DeltaHead, PartBuilder, Sender, SetRef};
use super::key::{Prefix, RawKey};
use crate::core::model::labels::service_of;
use crate::core::model::wire::put_u64;
use crate::core::model::{
    Exemplar, Family, LabelBuilder, Layout, Millis, Namer, Numbers, Seed, SetName, Sketch, Weight, exemplar,
};

/// Parts of delta records are kept below this many bytes of sets, so that every record stays below Kafka's usual limit of 1 MB.
const MAX_PART: usize = 512 << 10;

/// More label sets than this do not fit into the cache of a core, and [`DeltaTable::announce`] pays off.
const SCATTERED: usize = 10_000;

/// What one native bucket and one exemplar take in memory.
const NATIVE_BUCKET: usize = 16;
const EXEMPLAR: usize = size_of::<(u32, Exemplar)>();

/// A label set of a [`DeltaTable`], valid until the next cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetId(u32);

/// How a processor defines a label set that the table sees for the first time.
#[derive(Debug, Clone)]
pub struct Define {
    /// The tenant.
    pub tenant: Arc<str>,
    /// What the cells mean.
    pub layout: Arc<Layout>,
}

/// What decides the shard of a label set: the service that its labels name, so that a limit finds all label sets of a
/// service in one place. It is read from the finished labels and from nothing else: a service that is no label, or is
/// cut short, must not separate equal labels, or a series would get two writers. The hash is a public one and must
/// stay: workers of all versions agree on it. A sender that constructs services in one shard gains no more than with
/// one large service.
fn route(tenant: &str, family: Family, block: &[u8]) -> u64 {
    let service = service_of(family, block);
    xxhash_rust::xxh3::xxh3_64_with_seed(service.as_bytes(), xxhash_rust::xxh3::xxh3_64(tenant.as_bytes()))
}

/// The shard, out of `shards`, that owns the label sets of a route.
fn shard(route: u64, shards: u32) -> u32 {
    (route % u64::from(shards)) as u32
}

/// The shard, out of `shards`, that owns the label set with this label block.
#[must_use]
pub fn shard_of(tenant: &str, family: Family, block: &[u8], shards: u32) -> u32 {
    shard(route(tenant, family, block), shards)
}

/// What a cut produced.
#[derive(Debug)]
pub struct Cut {
    /// Per shard, the records to append to its partition of the deltas topic, in order; at least one each.
    pub delta_records: Vec<Vec<Vec<u8>>>,
    /// The label sets that had grown.
    pub sets: usize,
    /// The latest step that they belong to.
    pub latest: Option<Millis>,
}

/// The deltas of one span task since its last cut.
///
/// Zero allocations on a hit: a raw key is hashed once, compared byte by byte, and leads to cells in place. Label sets
/// stay interned across cuts while they are in use; after `respell_after` without use they are forgotten here and
/// sent in full again when they return.
///
/// Several steps may be open at once ([`DeltaTable::turn_to`]). A label set is then known once for each distance from the
/// oldest of them. So what a delta record names without spelling it was in an earlier delta record, in the same step or an
/// earlier one.
#[derive(Debug)]
pub struct DeltaTable {
    index: HashTable<u32>,
    /// Keys come from outside.
    seed: Seed,
    namer: Namer,
    sets: Vec<Option<Set>>,
    free: Vec<u32>,
    touched: Vec<u32>,
    builder: LabelBuilder,
    /// A raw key under construction.
    key: Vec<u8>,
    /// The hashes of keys that will be looked up, and the sets that they may lead to.
    announced: Vec<u64>,
    fetched: Vec<u32>,
    layouts: Vec<Arc<Layout>>,
    /// What delta records hold about their sender; `told` once.
    sender: Sender,
    limited: Limited,
    /// By shard, the step before which nothing may count; see [`DeltaTable::not_before`].
    earliest: Vec<Millis>,
    /// How long after the oldest open step the step of the present label sets ends.
    ahead: Millis,
    /// Separates the raw keys of steps: a step's own number, zero for the oldest.
    salt: u64,
    /// Whether more than the oldest open step was turned to since the last cut.
    spread: bool,
    estimate: usize,
    /// What the interned sets take.
    known: usize,
}

/// Which tenants have a limit on all their series. Delta records carry how many label sets those have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limited {
    /// All tenants that are not named.
    pub others: bool,
    /// Some tenants.
    pub named: BTreeMap<String, bool>,
}

#[derive(Debug)]
struct Set {
    hash: u64,
    key: Box<[u8]>,
    name: SetName,
    tenant: Arc<str>,
    block: Box<[u8]>,
    layout: usize,
    route: u64,
    /// How long after the oldest open step its own step ends.
    ahead: Millis,
    numbers: Numbers,
    exemplars: Vec<(u32, Exemplar)>,
    touched: bool,
    /// The stream time of the delta record that last mentioned the set; none before the first.
    mentioned: Option<Millis>,
}

/// A label set of a [`DeltaTable`] that something is added to.
#[derive(Debug)]
pub struct Growing<'a> {
    id: SetId,
    set: &'a mut Set,
    layout: &'a Layout,
    touched: &'a mut Vec<u32>,
    estimate: &'a mut usize,
}

// === impl Set ===

impl Set {
    /// What the set takes in memory, apart from what grows while a stretch is open.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.key.len() + self.block.len() + self.numbers.cells.len() * size_of::<u64>()
    }

    /// Offers an exemplar; returns the bytes that it takes.
    fn offer(&mut self, cell: u32, value_ns: u64, (at, trace_id): (Millis, [u8; 16])) -> usize {
        let first = exemplar::offer(&mut self.exemplars, cell, Exemplar { at, trace_id, value_ns });
        if first { EXEMPLAR } else { 0 }
    }
}

// === impl Growing ===

impl Growing<'_> {
    /// Adds the set to the open stretch, the first time it grows.
    #[inline]
    fn touch(&mut self) {
        if !self.set.touched {
            self.set.touched = true;
            self.touched.push(self.id.0);
            *self.estimate += self.set.bytes();
        }
    }

    /// Adds `n` to counter `counter`.
    #[inline]
    pub fn add(&mut self, counter: usize, n: u64) {
        self.touch();
        self.layout.add_to(&mut self.set.numbers, counter, n);
    }

    /// Adds `weight` to counter `counter`. A layout without weights takes whole ones only.
    #[inline]
    pub fn count(&mut self, counter: usize, weight: Weight) {
        self.touch();
        self.layout.count(&mut self.set.numbers, counter, weight);
    }

    /// Counts one observation of `value_ns` in histogram `histogram`, `weight` times; `example` is its span end and
    /// trace ID. A histogram that the layout does not have observes nothing.
    #[inline]
    pub fn observe(&mut self, histogram: usize, value_ns: u64, weight: Weight, example: Option<(Millis, [u8; 16])>) {
        self.touch();
        let Self { set, layout, estimate, .. } = self;
        let Some((cell, new)) = layout.observe(&mut set.numbers, histogram, value_ns, weight) else { return };
        **estimate += if new { NATIVE_BUCKET } else { 0 };
        if let Some(example) = example {
            **estimate += set.offer(cell, value_ns, example);
        }
    }

    /// Adds `weight` times `value` billionths to the sum `counter`; `example` is as in [`Growing::observe`].
    pub fn add_value(&mut self, counter: usize, value: u128, weight: Weight, example: Option<(Millis, [u8; 16])>) {
        self.touch();
        self.layout.add_value(&mut self.set.numbers, counter, value, weight);
        if let Ok(value) = u64::try_from(value) {
            self.exemplify(counter, value, example);
        }
    }

    /// As [`Growing::observe`], for a value in billionths that may be greater than any bound. Such a one has no exemplar.
    pub fn observe_value(
        &mut self,
        histogram: usize,
        value: u128,
        weight: Weight,
        example: Option<(Millis, [u8; 16])>,
    ) {
        if let Ok(value) = u64::try_from(value) {
            return self.observe(histogram, value, weight, example);
        }
        self.touch();
        let Self { set, layout, estimate, .. } = self;
        let new = layout.observe_value(&mut set.numbers, histogram, value, weight);
        **estimate += if new { NATIVE_BUCKET } else { 0 };
    }

    /// Offers an exemplar to counter `counter`: the duration, span end and trace ID of what it counted.
    #[inline]
    pub fn exemplify(&mut self, counter: usize, value_ns: u64, example: Option<(Millis, [u8; 16])>) {
        if let Some(example) = example {
            self.touch();
            *self.estimate += self.set.offer(self.layout.counter(counter) as u32, value_ns, example);
        }
    }
}

// === impl Limited ===

impl Limited {
    fn is(&self, tenant: &str) -> bool {
        self.named.get(tenant).copied().unwrap_or(self.others)
    }
}

// === impl DeltaTable ===

impl DeltaTable {
    /// An empty table, for tests: as [`DeltaTable::seeded`], of the default group, with a fixed seed.
    #[must_use]
    pub fn new(respell_after: Millis) -> Self {
        Self::seeded(respell_after, Seed::default(), Namer::default())
    }

    /// An empty table. A set that no delta record mentioned for `respell_after` milliseconds of stream time is sent in
    /// full again. The delta records carry that time, and shards remember sets for at least as long.
    #[must_use]
    pub fn seeded(respell_after: Millis, seed: Seed, namer: Namer) -> Self {
        Self {
            index: HashTable::new(),
            seed,
            namer,
            sets: Vec::new(),
            free: Vec::new(),
            touched: Vec::new(),
            builder: LabelBuilder::default(),
            key: Vec::new(),
            announced: Vec::new(),
            fetched: Vec::new(),
            layouts: Vec::new(),
            sender: Sender { respell_after, ..Sender::default() },
            limited: Limited::default(),
            earliest: Vec::new(),
            ahead: 0,
            salt: 0,
            spread: false,
            estimate: 0,
            known: 0,
        }
    }

    /// From now on, label sets are those of the step that ends `ahead` milliseconds after the oldest open one, which the
    /// next cut names. Without a call it is the oldest one.
    pub fn turn_to(&mut self, ahead: Millis) {
        // An odd factor: two steps never have the same salt, so equal keys of two steps never have the same hash.
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.ahead = ahead;
        self.salt = ahead.cast_unsigned().wrapping_mul(ODD);
        self.spread |= ahead != 0;
    }

    /// Sets the prefix of raw keys of this table.
    pub fn begin(&self, prefix: &mut Prefix, bytes: &[u8]) {
        prefix.set(bytes, self.seed);
    }

    /// Finds the set behind a raw key; an unknown key is defined by `define`, which sets its labels. Different keys may
    /// define equal labels: their deltas meet in the shard.
    ///
    /// # Errors
    /// Whatever `define` returns; the key stays unknown then.
    pub fn find<E>(
        &mut self,
        key: &[u8],
        define: impl FnOnce(&mut LabelBuilder) -> Result<Define, E>,
    ) -> Result<SetId, E> {
        let hash = self.seed.of_bytes(key) ^ self.salt;
        let sets = &self.sets;
        let found =
            self.index.find(hash, |&id| sets[id as usize].as_ref().is_some_and(|s| s.hash == hash && *s.key == *key));
        let id = match found {
            Some(&id) => id,
            None => {
                self.builder.clear();
                let definition = define(&mut self.builder)?;
                self.insert(hash, key, definition)
            }
        };
        Ok(SetId(id))
    }

    /// As [`DeltaTable::find`], for a key in pieces.
    ///
    /// # Errors
    /// Whatever `define` returns; the key stays unknown then.
    #[inline]
    pub fn find_pieces<E>(
        &mut self,
        prefix: &Prefix,
        key: &impl RawKey,
        define: impl FnOnce(&mut LabelBuilder) -> Result<Define, E>,
    ) -> Result<SetId, E> {
        let hash = prefix.hash_of(key) ^ self.salt;
        let sets = &self.sets;
        let is = |&id: &u32| sets[id as usize].as_ref().is_some_and(|s| s.hash == hash && prefix.is(key, &s.key));
        if let Some(&id) = self.index.find(hash, is) {
            return Ok(SetId(id));
        }
        self.builder.clear();
        let definition = define(&mut self.builder)?;
        let mut written = std::mem::take(&mut self.key);
        written.clear();
        written.extend_from_slice(prefix.bytes());
        key.visit(&mut written);
        let id = self.insert(hash, &written, definition);
        self.key = written;
        Ok(SetId(id))
    }

    /// Whether there are so many label sets that keys should be announced.
    #[must_use]
    pub fn is_scattered(&self) -> bool {
        self.index.len() > SCATTERED
    }

    /// Announces a key that [`DeltaTable::find_pieces`] will look up.
    #[inline]
    pub fn announce(&mut self, prefix: &Prefix, key: &impl RawKey) {
        self.announced.push(prefix.hash_of(key) ^ self.salt);
    }

    /// Prefetches what the announced keys lead to into the cache, all at once. One span after the other would wait
    /// for memory five times: for the index, the set, its key, its cells and its exemplars.
    pub fn fetch(&mut self) {
        let Self { index, sets, announced, fetched, .. } = self;
        let set = |id: u32| sets[id as usize].as_ref();
        fetched.clear();
        for hash in announced.drain(..) {
            fetched.extend(index.find(hash, |&id| set(id).is_some_and(|set| set.hash == hash)));
        }
        let mut read = 0;
        for set in fetched.iter().filter_map(|&id| set(id)) {
            read ^= u64::from(set.key.last().copied().unwrap_or_default());
            // Eight cells are a line of the cache.
            read ^= set.numbers.cells.iter().step_by(8).fold(0, |all, cell| all ^ cell);
            read ^= set.exemplars.iter().step_by(2).fold(0, |all, (cell, _)| all ^ u64::from(*cell));
        }
        std::hint::black_box(read);
    }

    fn insert(&mut self, hash: u64, key: &[u8], definition: Define) -> u32 {
        let layout = self.layouts.iter().position(|l| *l == definition.layout).unwrap_or_else(|| {
            self.layouts.push(Arc::clone(&definition.layout));
            self.layouts.len() - 1
        });
        let block = self.builder.block().into_boxed_slice();
        let set = Set {
            hash,
            key: key.into(),
            name: self.namer.name(&definition.tenant, definition.layout.family(), &block),
            route: route(&definition.tenant, definition.layout.family(), &block),
            tenant: definition.tenant,
            block,
            layout,
            ahead: self.ahead,
            numbers: definition.layout.zeros(),
            exemplars: Vec::new(),
            touched: false,
            mentioned: None,
        };
        self.known += set.bytes();
        let id = self.free.pop().unwrap_or_else(|| {
            self.sets.push(None);
            (self.sets.len() - 1) as u32
        });
        self.sets[id as usize] = Some(set);
        let sets = &self.sets;
        self.index.insert_unique(hash, id, |&i| sets[i as usize].as_ref().map_or(0, |s| s.hash));
        id
    }

    /// The cells of a set, to add to.
    ///
    /// # Panics
    /// When the ID is older than the last cut.
    #[inline]
    pub fn at(&mut self, id: SetId) -> Growing<'_> {
        let set = self.sets[id.0 as usize].as_mut().expect("a set ID is used only until the next cut");
        let layout = &self.layouts[set.layout];
        Growing { id, set, layout, touched: &mut self.touched, estimate: &mut self.estimate }
    }

    /// As [`Growing::add`].
    pub fn add(&mut self, id: SetId, counter: usize, n: u64) {
        self.at(id).add(counter, n);
    }

    /// As [`Growing::count`].
    pub fn count(&mut self, id: SetId, counter: usize, weight: Weight) {
        self.at(id).count(counter, weight);
    }

    /// Sets gauge `gauge` (a counter of the layout) to 1 for the set.
    pub fn mark(&mut self, id: SetId, gauge: usize) {
        self.at(id).add(gauge, 1);
    }

    /// As [`Growing::observe`].
    pub fn observe(
        &mut self,
        id: SetId,
        histogram: usize,
        value_ns: u64,
        weight: Weight,
        example: Option<(Millis, [u8; 16])>,
    ) {
        self.at(id).observe(histogram, value_ns, weight, example);
    }

    /// As [`Growing::exemplify`].
    pub fn exemplify(&mut self, id: SetId, counter: usize, value_ns: u64, example: Option<(Millis, [u8; 16])>) {
        self.at(id).exemplify(counter, value_ns, example);
    }

    /// Sets which tenants have a limit.
    pub fn set_limited(&mut self, limited: Limited) {
        self.limited = limited;
    }

    /// Sets the settings that decide what is counted here: their fingerprint and text.
    pub fn set_settings(&mut self, fingerprint: u64, told: Arc<str>) {
        if self.sender.settings != fingerprint {
            (self.sender.settings, self.sender.told) = (fingerprint, Some(told));
        }
    }

    /// Makes every raw key unknown, because the meaning of keys has changed. Counts stay.
    pub fn forget_keys(&mut self) {
        self.index.clear();
    }

    /// The bytes that the label sets of the open stretch hold: a cut would send less.
    #[must_use]
    pub fn estimate(&self) -> usize {
        self.estimate
    }

    /// The bytes that interned label sets take, besides [`DeltaTable::estimate`].
    #[must_use]
    pub fn known_bytes(&self) -> usize {
        self.known
    }

    /// The number of interned label sets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sets.len() - self.free.len()
    }

    /// Whether no label set is interned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the open stretch: encodes the delta record of every shard (`head.part` and `head.parts` are filled in), resets the
    /// cells, and forgets sets that have been idle for too long. `head.step` is the oldest open step.
    pub fn cut(&mut self, mut head: DeltaHead, shards: u32) -> Cut {
        let touched = self.by_step();
        let sender = self.sender.clone();
        self.sender.told = None;
        head.sender = Some(sender);
        let mut parts: Vec<PartBuilder> = (0..shards).map(|_| PartBuilder::default()).collect();
        let mut rest = touched.as_slice();
        while let Some(&first) = rest.first() {
            let ahead = self.ahead_of(first);
            let (of_step, later) = rest.split_at(rest.partition_point(|&id| self.ahead_of(id) == ahead));
            let tenants = self.tenants(of_step);
            for (shard, part) in parts.iter_mut().enumerate() {
                let earliest = self.earliest.get(shard).copied().unwrap_or(Millis::MIN);
                part.begin(earliest.max(head.step + ahead), &tenants);
            }
            self.fill(of_step, head.stream_time, &mut parts);
            rest = later;
        }
        let (sets, latest) = (touched.len(), parts.iter().filter_map(PartBuilder::latest).max());
        // Keeps its memory for the next stretch.
        self.touched = touched;
        self.touched.clear();
        self.estimate = 0;
        let mut layouts = Vec::new();
        put_u64(&mut layouts, self.layouts.len() as u64);
        for layout in &self.layouts {
            layout.encode(&mut layouts);
        }
        let delta_records = parts.into_iter().map(|part| part.finish(&mut head, &layouts)).collect();
        self.forget_idle(head.stream_time);
        Cut { delta_records, sets, latest }
    }

    /// From the next cut on, deltas for `shard` count in no step that ends before `step`. Only in a replay of what live
    /// shards did: see [`crate::core::journal::past`].
    pub fn not_before(&mut self, shard: u32, step: Millis) {
        let shard = shard as usize;
        if self.earliest.len() <= shard {
            self.earliest.resize(shard + 1, Millis::MIN);
        }
        self.earliest[shard] = self.earliest[shard].max(step);
    }

    /// Whether deltas of some shard must not count before a step.
    #[must_use]
    pub fn has_earliest(&self) -> bool {
        !self.earliest.is_empty()
    }

    /// Takes out the touched sets, the oldest step first, and switches to that step.
    fn by_step(&mut self) -> Vec<u32> {
        self.turn_to(0);
        let mut touched = std::mem::take(&mut self.touched);
        if std::mem::take(&mut self.spread) {
            touched.sort_by_key(|&id| self.ahead_of(id));
        }
        touched
    }

    fn ahead_of(&self, id: u32) -> Millis {
        self.sets[id as usize].as_ref().map_or(0, |set| set.ahead)
    }

    /// Encodes the sets that were touched in one step, and resets them.
    fn fill(&mut self, touched: &[u32], stream_time: Millis, parts: &mut [PartBuilder]) {
        let mut natives = Vec::new();
        let shards = parts.len() as u32;
        for &id in touched {
            let set = self.sets[id as usize].as_mut().expect("touched sets exist");
            let respell = set.mentioned.is_none_or(|at| stream_time - at > self.sender.respell_after);
            natives.clear();
            set.numbers.natives.encode(&self.layouts[set.layout], &mut natives);
            let part = SetRef {
                name: set.name,
                layout: set.layout,
                spelled: respell.then_some((&*set.tenant, &*set.block)),
                cells: &set.numbers.cells,
                natives: &natives,
                exemplars: &set.exemplars,
            };
            parts[shard(set.route, shards) as usize].push(MAX_PART, &part);
            set.numbers.cells.fill(0);
            set.numbers.natives.clear();
            set.exemplars.clear();
            set.touched = false;
            set.mentioned = Some(stream_time);
        }
    }

    /// The tenants that have a limit, with a sketch of the label sets that a step has touched. Every shard gets all of them,
    /// its own sets or not: which sets share a commit is an accident, and must not decide what a shard knows.
    fn tenants(&self, touched: &[u32]) -> Vec<(String, Sketch)> {
        let mut seen: BTreeMap<&str, Sketch> = BTreeMap::new();
        let sets = touched.iter().filter_map(|&id| self.sets[id as usize].as_ref());
        for set in sets.filter(|set| self.limited.is(&set.tenant)) {
            seen.entry(&set.tenant).or_default().add(set.name);
        }
        seen.into_iter().map(|(tenant, sketch)| (tenant.to_owned(), sketch)).collect()
    }

    fn forget_idle(&mut self, now: Millis) {
        for id in 0..self.sets.len() {
            let idle = |s: &Set| s.mentioned.is_none_or(|at| now - at > self.sender.respell_after);
            let Some(set) = self.sets[id].take_if(|s| idle(s)) else { continue };
            if let Ok(entry) = self.index.find_entry(set.hash, |&i| i as usize == id) {
                entry.remove();
            }
            self.known -= set.bytes();
            self.free.push(id as u32);
        }
    }
}

#[cfg(test)]
mod tests;
