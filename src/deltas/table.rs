//! The deltas of the open steps: label sets found by a raw key, and the cells that they have added since the last cut.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashTable;

use super::key::{Prefix, RawKey};
use super::share::{PartBuilder, SetRef, ShareHead};
use crate::model::labels::service_of;
use crate::model::wire::put_u64;
use crate::model::{Exemplar, Family, LabelBuilder, Layout, Millis, Numbers, SetName, Sketch, Weight, exemplar};

/// Share parts are kept below this many bytes of sets, so that every record stays below Kafka's usual limit of 1 MB.
const MAX_PART: usize = 512 << 10;

/// What one native bucket and one exemplar take in memory.
const NATIVE_BUCKET: usize = 16;
const EXEMPLAR: usize = size_of::<(u32, Exemplar)>();

/// A label set of a [`DeltaTable`], valid until the next cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetId(u32);

/// What a processor says about a label set that the table sees for the first time.
#[derive(Debug, Clone)]
pub struct Define {
    /// The tenant.
    pub tenant: Arc<str>,
    /// What the cells mean.
    pub layout: Arc<Layout>,
}

/// What decides the shard of a label set: the service that its labels name, so that a limit finds all label sets of a
/// service in one place. It is read from the finished labels and from nothing else: a service that is no label, or is cut
/// short, must not part equal labels, or a series would get two writers.
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
    pub shares: Vec<Vec<Vec<u8>>>,
    /// The label sets that had grown.
    pub sets: usize,
    /// The latest step that they belong to.
    pub latest: Option<Millis>,
}

/// The deltas of one span task since its last cut.
///
/// Zero allocations on a hit: a raw key is hashed once, compared byte by byte, and leads to cells in place. Label sets
/// stay interned across cuts while they are in use; after `respell_after` without use they are forgotten here and
/// spelled out again when they return.
///
/// Several steps may be open at once ([`DeltaTable::turn_to`]). A label set is then known once for each distance from the
/// oldest of them. So what a share names without spelling it was in an earlier share, in the same step or an earlier one.
#[derive(Debug)]
pub struct DeltaTable {
    index: HashTable<u32>,
    sets: Vec<Option<Set>>,
    free: Vec<u32>,
    touched: Vec<u32>,
    builder: LabelBuilder,
    /// A raw key under construction.
    key: Vec<u8>,
    layouts: Vec<Arc<Layout>>,
    respell_after: Millis,
    limited: Limited,
    /// By shard, the step before which nothing may count; see [`DeltaTable::not_before`].
    earliest: Vec<Millis>,
    /// How long after the oldest open step the one ends whose label sets are found now.
    ahead: Millis,
    /// Parts the raw keys of steps: a step's own number, zero for the oldest.
    salt: u64,
    /// Whether more than the oldest open step was turned to since the last cut.
    spread: bool,
    estimate: usize,
    /// What the interned sets take.
    known: usize,
}

/// Which tenants have a limit on all their series. Shares tell the shards how many label sets those have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limited {
    /// Everybody who is not named.
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
    /// How long after the oldest open step its own one ends.
    ahead: Millis,
    numbers: Numbers,
    exemplars: Vec<(u32, Exemplar)>,
    touched: bool,
    /// The stream time of the share that last mentioned the set; none before the first.
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
    /// What grows belongs to the open stretch. The first time only.
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
    /// An empty table. A set that no share mentioned for `respell_after` milliseconds of stream time is spelled again;
    /// it must not exceed the time for which shards remember idle sets.
    #[must_use]
    pub fn new(respell_after: Millis) -> Self {
        Self {
            index: HashTable::new(),
            sets: Vec::new(),
            free: Vec::new(),
            touched: Vec::new(),
            builder: LabelBuilder::default(),
            key: Vec::new(),
            layouts: Vec::new(),
            respell_after,
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
        let hash = xxhash_rust::xxh3::xxh3_64(key) ^ self.salt;
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

    fn insert(&mut self, hash: u64, key: &[u8], definition: Define) -> u32 {
        let layout = self.layouts.iter().position(|l| *l == definition.layout).unwrap_or_else(|| {
            self.layouts.push(Arc::clone(&definition.layout));
            self.layouts.len() - 1
        });
        let block = self.builder.block().into_boxed_slice();
        let set = Set {
            hash,
            key: key.into(),
            name: SetName::of(&definition.tenant, definition.layout.family(), &block),
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

    /// Says that gauge `gauge` (a counter of the layout) is 1 for the set.
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

    /// Says which tenants have a limit.
    pub fn set_limited(&mut self, limited: Limited) {
        self.limited = limited;
    }

    /// Makes every raw key unknown, because keys mean something else from now on. What was counted stays.
    pub fn forget_keys(&mut self) {
        self.index.clear();
    }

    /// The bytes that the label sets of the open stretch hold: what a cut would send is less.
    #[must_use]
    pub fn estimate(&self) -> usize {
        self.estimate
    }

    /// The bytes that interned label sets take, besides what [`DeltaTable::estimate`] says.
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

    /// Ends the open stretch: encodes the share of every shard (`head.part` and `head.parts` are filled in), resets the
    /// cells, and forgets sets that have been idle for too long. `head.step` is the oldest open step.
    pub fn cut(&mut self, mut head: ShareHead, shards: u32) -> Cut {
        let touched = self.by_step();
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
        // Its memory is needed again.
        self.touched = touched;
        self.touched.clear();
        self.estimate = 0;
        let mut layouts = Vec::new();
        put_u64(&mut layouts, self.layouts.len() as u64);
        for layout in &self.layouts {
            layout.encode(&mut layouts);
        }
        let shares = parts.into_iter().map(|part| part.finish(&mut head, &layouts)).collect();
        self.forget_idle(head.stream_time);
        Cut { shares, sets, latest }
    }

    /// From the next cut on, what goes to `shard` counts in no step that ends before `step`. Only in a replay of what live
    /// shards did: see [`crate::journal::past`].
    pub fn not_before(&mut self, shard: u32, step: Millis) {
        let shard = shard as usize;
        if self.earliest.len() <= shard {
            self.earliest.resize(shard + 1, Millis::MIN);
        }
        self.earliest[shard] = self.earliest[shard].max(step);
    }

    /// Whether there is a step that something may not count before.
    #[must_use]
    pub fn has_earliest(&self) -> bool {
        !self.earliest.is_empty()
    }

    /// Takes out what was touched, the oldest step first, and turns to that.
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

    /// Encodes what was touched in one step, and resets it.
    fn fill(&mut self, touched: &[u32], stream_time: Millis, parts: &mut [PartBuilder]) {
        let mut natives = Vec::new();
        let shards = parts.len() as u32;
        for &id in touched {
            let set = self.sets[id as usize].as_mut().expect("touched sets exist");
            let respell = set.mentioned.is_none_or(|at| stream_time - at > self.respell_after);
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
            let idle = |s: &Set| s.mentioned.is_none_or(|at| now - at > self.respell_after);
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
mod tests {
    use super::*;
    use crate::deltas::{CellDelta, Share};
    use crate::model::{Family, Naming, Native, Shape, Spec};

    fn layout() -> Arc<Layout> {
        Arc::new(Layout::new(Family::SpanMetrics, &[100, 200]))
    }

    fn head(k: u64, stream_time: Millis) -> ShareHead {
        ShareHead {
            topic: "spans".into(),
            partition: 3,
            k,
            part: 0,
            parts: 0,
            step: 15_000,
            stream_time,
            tenants: Vec::new(),
        }
    }

    fn find(t: &mut DeltaTable, service: &str) -> SetId {
        let layout = layout();
        t.find(service.as_bytes(), |b| {
            b.set("service", service);
            Ok::<_, ()>(Define { tenant: "t".into(), layout })
        })
        .expect("defines")
    }

    fn sets(cut: &Cut) -> Vec<(SetName, bool, Vec<CellDelta>)> {
        let mut out = Vec::new();
        for record in cut.shares.iter().flatten() {
            let mut share = Share::decode(record).expect("decodes");
            while let Some(s) = share.next_set().expect("decodes") {
                out.push((s.name, s.spelled.is_some(), s.cells));
            }
        }
        out
    }

    #[test]
    fn a_cut_holds_what_was_added_and_the_next_one_starts_at_zero() {
        let mut t = DeltaTable::new(1_000);
        let id = find(&mut t, "a");
        t.add(id, 0, 2);
        t.observe(id, 0, 150, Weight::ONE, Some((14_000, [7; 16])));
        let cut = t.cut(head(0, 15_000), 4);
        assert_eq!(cut.shares.len(), 4);
        let got = sets(&cut);
        assert_eq!(got.len(), 1);
        assert!(got[0].1, "spelled the first time");
        let cells: Vec<_> = got[0].2.iter().map(|c| (c.cell, c.value)).collect();
        assert_eq!(cells, [(0, 2), (3, 1), (5, 150)]);
        assert!(sets(&t.cut(head(1, 15_000), 4)).is_empty());
    }

    #[test]
    fn a_set_in_use_is_named_and_an_idle_one_is_spelled_again() {
        let mut t = DeltaTable::new(1_000);
        for (k, at, spelled) in [(0, 0, true), (1, 900, false), (2, 1_800, false), (3, 2_900, true)] {
            let id = find(&mut t, "a");
            t.add(id, 0, 1);
            assert_eq!(sets(&t.cut(head(k, at), 2))[0].1, spelled, "share {k}");
        }
    }

    #[test]
    fn idle_sets_are_forgotten() {
        let mut t = DeltaTable::new(1_000);
        let id = find(&mut t, "a");
        t.add(id, 0, 1);
        t.cut(head(0, 0), 1);
        assert_eq!(t.len(), 1);
        t.cut(head(1, 1_001), 1);
        assert!(t.is_empty());
        find(&mut t, "a");
        assert_eq!(t.len(), 1);
    }

    #[test]
    fn every_open_step_has_parts_of_its_own_and_every_shard_the_sketches_of_all() {
        let mut t = DeltaTable::new(1_000);
        t.set_limited(Limited { others: true, ..Limited::default() });
        // In no order, and twice the same label set in two steps.
        for (ahead, service) in [(30_000, "a"), (0, "b"), (30_000, "c"), (0, "a"), (15_000, "a"), (30_000, "a")] {
            t.turn_to(ahead);
            let id = find(&mut t, service);
            t.add(id, 0, 1);
        }
        t.turn_to(0);
        assert_eq!(t.len(), 5);
        let cut = t.cut(head(0, 0), 4);
        assert_eq!(cut.sets, 5);
        let mut grown = BTreeMap::new();
        for records in &cut.shares {
            let parts: Vec<_> = records.iter().map(|r| Share::decode(r).expect("decodes")).collect();
            let said: Vec<_> = parts.iter().map(|s| (s.head.step, s.head.part, s.head.parts)).collect();
            assert_eq!(said, [(15_000, 0, 3), (30_000, 1, 3), (45_000, 2, 3)]);
            let known: Vec<_> = parts.iter().map(|s| s.head.tenants[0].1.estimate()).collect();
            assert_eq!(known, [2, 1, 2]);
            for mut share in parts {
                while let Some(set) = share.next_set().expect("decodes") {
                    *grown.entry((share.head.step, set.name)).or_insert(0) += set.cells[0].value;
                    assert!(set.spelled.is_some());
                }
            }
        }
        let of = |step| grown.iter().filter(|((s, _), _)| *s == step).map(|(_, n)| *n).sum::<u64>();
        assert_eq!((grown.len(), [15_000, 30_000, 45_000].map(of)), (5, [2, 1, 3]));
        let again = find(&mut t, "b");
        t.add(again, 0, 1);
        let cut = t.cut(head(1, 1), 4);
        assert!(cut.shares.iter().all(|records| records.len() == 1), "a cut closes what was open");
        assert!(!sets(&cut)[0].1, "the oldest step knows it");
    }

    #[test]
    fn a_step_without_limits_reaches_only_the_shards_that_have_something() {
        let mut t = DeltaTable::new(1_000);
        t.turn_to(60_000);
        let id = find(&mut t, "a");
        t.add(id, 0, 1);
        let cut = t.cut(head(7, 77), 3);
        let mut steps = Vec::new();
        for records in &cut.shares {
            assert_eq!(records.len(), 1);
            let share = Share::decode(&records[0]).expect("decodes");
            assert_eq!((share.head.k, share.head.stream_time), (7, 77));
            steps.push(share.head.step);
        }
        steps.sort_unstable();
        assert_eq!(steps, [15_000, 15_000, 75_000]);
    }

    #[test]
    fn an_empty_share_still_carries_the_stream_time() {
        let mut t = DeltaTable::new(1_000);
        let cut = t.cut(head(5, 77), 3);
        for records in &cut.shares {
            let share = Share::decode(&records[0]).expect("decodes");
            assert_eq!((share.head.k, share.head.stream_time, share.head.parts), (5, 77, 1));
        }
    }

    #[test]
    fn a_large_share_is_cut_into_parts_below_the_limit() {
        let mut t = DeltaTable::new(1_000);
        for i in 0..20_000 {
            let id = find(&mut t, &format!("service-with-a-rather-long-name-{i}"));
            t.observe(id, 0, i, Weight::ONE, Some((0, [1; 16])));
        }
        let cut = t.cut(head(0, 0), 1);
        let records = &cut.shares[0];
        assert!(records.len() > 1);
        for (i, r) in records.iter().enumerate() {
            assert!(r.len() < 900_000);
            let share = Share::decode(r).expect("decodes");
            assert_eq!((share.head.part as usize, share.head.parts as usize), (i, records.len()));
        }
        assert_eq!(sets(&cut).len(), 20_000);
    }

    #[test]
    fn label_sets_of_one_route_share_a_shard_and_shares_count_tenants_with_a_limit() {
        let mut t = DeltaTable::new(1_000);
        t.set_limited(Limited { others: true, named: [("u".to_owned(), false)].into() });
        for (tenant, service, span) in
            [("t", "a", "x"), ("t", "a", "y"), ("t", "b", "x"), ("u", "a", "x"), ("t", "a", "x")]
        {
            // The last one has other raw bytes and equal labels.
            let key = format!("{tenant}{service}{span}{}", t.len());
            let define = |b: &mut LabelBuilder| {
                b.set("service", service);
                b.set("span_name", span);
                Ok::<_, ()>(Define { tenant: tenant.into(), layout: layout() })
            };
            let id = t.find(key.as_bytes(), define).expect("defines");
            t.add(id, 0, 1);
        }
        let cut = t.cut(head(0, 0), 4);
        let shares: Vec<_> = cut.shares.iter().map(|records| Share::decode(&records[0]).expect("decodes")).collect();
        let home = |tenant: &str, service: &str| {
            let mut labels = LabelBuilder::default();
            labels.set("service", service);
            shard_of(tenant, Family::SpanMetrics, &labels.block(), 4) as usize
        };
        // The last set is there twice: two raw keys.
        let mut expected = [0; 4];
        for (tenant, service, sets) in [("t", "a", 3), ("t", "b", 1), ("u", "a", 1)] {
            expected[home(tenant, service)] += sets;
        }
        let counted = |s: &Share<'_>| s.head.tenants.iter().map(|(t, sets)| (t.clone(), sets.estimate())).collect();
        let tenants: Vec<Vec<_>> = shares.iter().map(counted).collect();
        assert_eq!(tenants, vec![vec![("t".to_owned(), 3)]; 4], "all shards know, whatever else is in the commit");
        let count = |mut share: Share<'_>| std::iter::from_fn(|| share.next_set().expect("decodes")).count();
        assert_eq!(shares.into_iter().map(count).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_no_label_does_not_part_equal_labels() {
        let mut t = DeltaTable::new(1_000);
        for service in ["a", "b", "c", "d", "e", "f"] {
            let id = t.find(service.as_bytes(), |b| {
                b.set("span_name", "x");
                Ok::<_, ()>(Define { tenant: "t".into(), layout: layout() })
            });
            t.add(id.expect("defines"), 0, 1);
        }
        let cut = t.cut(head(0, 0), 8);
        let filled = cut
            .shares
            .iter()
            .filter(|records| Share::decode(&records[0]).expect("decodes").next_set().expect("decodes").is_some());
        assert_eq!(filled.count(), 1);
    }

    #[test]
    fn later_parts_do_not_count_the_tenants_again() {
        let mut t = DeltaTable::new(1_000);
        t.set_limited(Limited { others: true, ..Limited::default() });
        for i in 0..20_000 {
            let id = find(&mut t, &format!("service-with-a-rather-long-name-{i}"));
            t.add(id, 0, 1);
        }
        let cut = t.cut(head(0, 0), 1);
        let tenants = cut.shares[0].iter().map(|r| Share::decode(r).expect("decodes").head.tenants).collect::<Vec<_>>();
        assert!(tenants[0][0].1.estimate().abs_diff(20_000) < 2_000);
        assert!(tenants.len() > 1 && tenants[1..].iter().all(Vec::is_empty));
    }

    /// A table with one set, whose layout has weights and a native histogram.
    fn weighing() -> (DeltaTable, SetId, Layout) {
        let native = Native { schema: 3, max_buckets: 2 };
        let histograms = vec![Some(Shape::native(native))];
        let (family, naming) = (Family::SpanMetrics, Naming::Tempo);
        let layout = Layout::of(&Spec { family, naming, weighted: true, histograms });
        let mut t = DeltaTable::new(1_000);
        let define =
            |_: &mut LabelBuilder| Ok::<_, ()>(Define { tenant: "t".into(), layout: Arc::new(layout.clone()) });
        let id = t.find(b"key", define).expect("defines");
        (t, id, layout)
    }

    #[test]
    fn weights_native_buckets_and_examples_of_counters_reach_the_share() {
        let (mut t, id, layout) = weighing();
        let weight = Weight::from_ratio(0.4).expect("a weight");
        for seconds in [1, 2, 4, 8] {
            t.count(id, 0, weight);
            t.observe(id, 0, seconds * 1_000_000_000, weight, None);
        }
        t.exemplify(id, 0, 7, None);
        t.exemplify(id, 0, 7, Some((9, [1; 16])));
        let cut = t.cut(head(0, 0), 1);
        let mut share = Share::decode(&cut.shares[0][0]).expect("decodes");
        let set = share.next_set().expect("decodes").expect("a set");
        let native: Vec<_> = set.natives.get(0).expect("native").buckets().collect();
        let bits = u128::from(weight.bits());
        assert_eq!(native, [(0, bits), (8, bits), (16, bits), (24, bits)], "deltas have the finest resolution");
        let mut cells = vec![0; layout.cells()];
        set.cells.iter().for_each(|c| cells[c.cell as usize] = c.value);
        assert_eq!(layout.counter_value(&cells, 0), Some(10.0));
        assert_eq!(layout.sum_value(&cells, 0).to_bits(), 37.5f64.to_bits());
        let e = Exemplar { at: 9, trace_id: [1; 16], value_ns: 7 };
        assert_eq!(set.exemplars, [(layout.counter(0) as u32, e)]);
    }

    #[test]
    fn the_estimate_counts_all_that_an_open_stretch_holds() {
        let (mut t, id, _) = weighing();
        assert_eq!(t.estimate(), 0, "an interned set that nothing touched costs no cut");
        t.observe(id, 0, 1, Weight::ONE, None);
        let one = t.estimate();
        assert!(one > size_of::<Set>() + b"key".len());
        t.observe(id, 0, 1, Weight::ONE, None);
        assert_eq!(t.estimate(), one);
        for i in 1..=30 {
            t.observe(id, 0, 1 << i, Weight::ONE, Some((0, [1; 16])));
        }
        assert_eq!(t.estimate(), one + 30 * (NATIVE_BUCKET + EXEMPLAR));
        t.cut(head(0, 0), 1);
        assert_eq!(t.estimate(), 0);
    }

    #[test]
    fn damaged_shares_are_errors() {
        let mut t = DeltaTable::new(1_000);
        let id = find(&mut t, "a");
        t.observe(id, 0, 1, Weight::ONE, Some((0, [1; 16])));
        let record = t.cut(head(0, 0), 1).shares.remove(0).remove(0);
        for i in 0..record.len() {
            let mut bad = record.clone();
            bad[i] ^= 0x10;
            assert!(Share::decode(&bad).is_err());
            assert!(Share::decode(&record[..i]).is_err());
        }
    }
}
