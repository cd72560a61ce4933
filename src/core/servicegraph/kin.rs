//! Spans as ancestors and descendants of each other, by their own IDs and by those of their parents.
//!
//! With `ancestors: any`, every span is remembered here for two waits: in its first it may turn out to be called by
//! another one, and until the end of its second it may turn out to call one. See [`related`](super::related).

use super::edge::{EdgeKey, EdgeKind, Half, Item};
use super::live::{EdgeOrigin, ListedKin};
use super::store::{Hashed, Store};
use crate::core::model::names::NameId;
use crate::core::model::{Millis, Seed};

/// A span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kin {
    /// With the span itself.
    pub(super) key: EdgeKey,
    /// All zero for a root.
    pub(super) parent: [u8; 8],
    pub(super) origin: EdgeOrigin,
    pub(super) service: NameId,
    /// `None` for kinds that make no edges otherwise.
    pub(super) kind: Option<EdgeKind>,
    pub(super) half: Half,
    pub(super) failed: bool,
    /// It calls a database, which is an edge of its own: it calls nothing else.
    pub(super) database: bool,
    /// A server below it is called in its place.
    pub(super) passed: bool,
    /// What it contributes to an edge as its client, and as its server; see [`super::extras`].
    pub(super) extras: [NameId; 2],
    /// Its place among those with its parent.
    child: u32,
}

/// A span, by its parent.
#[derive(Debug, Clone, Copy)]
struct Child {
    /// With the parent.
    key: EdgeKey,
    /// The slot of the span.
    kin: u32,
}

/// All spans of the last two waits.
#[derive(Debug)]
pub(super) struct Kinship {
    kin: Store<Kin>,
    children: Store<Child>,
    /// The oldest span of which it is open who calls it.
    undecided: Option<u32>,
}

// === impl Kin ===

impl Kin {
    pub(super) fn new(key: EdgeKey, parent: [u8; 8], origin: EdgeOrigin, service: NameId) -> Self {
        let (kind, half, extras) = (None, Half::default(), [NameId::EMPTY; 2]);
        let (failed, database, passed, child) = (false, false, false, 0);
        Self { key, parent, origin, service, kind, half, failed, database, passed, extras, child }
    }

    /// The same, and whether a server below it is called in its place.
    pub(super) fn passed(self, passed: bool) -> Self {
        Self { passed, ..self }
    }

    /// The key of its parent.
    pub(super) fn above(&self) -> EdgeKey {
        EdgeKey { span_id: self.parent, ..self.key }
    }

    /// Whether it came less than `wait` before `created`.
    pub(super) fn is_within(&self, created: Millis, wait: Millis) -> bool {
        created.saturating_sub(self.origin.created) < wait
    }
}

// === impl Kinship ===

impl Kinship {
    pub(super) fn new(seed: Seed) -> Self {
        Self { kin: Store::new(seed), children: Store::new(seed), undecided: None }
    }

    pub(super) fn len(&self) -> usize {
        self.kin.len()
    }

    /// Adds a span, unless another one with its ID is there.
    pub(super) fn insert(&mut self, mut kin: Kin, decided: bool) {
        if self.find(&kin.key).is_some() {
            return;
        }
        kin.child = self.children.insert(Child { key: kin.above(), kin: 0 });
        let slot = self.kin.insert(kin);
        self.children.get_mut(kin.child).kin = slot;
        if !decided && self.undecided.is_none() {
            self.undecided = Some(slot);
        }
    }

    /// The span with this key.
    pub(super) fn find(&self, key: &EdgeKey) -> Option<&Kin> {
        self.kin.find(key, |_| true).map(|slot| self.kin.get(slot))
    }

    /// The spans below the one with this key.
    pub(super) fn below(&self, key: EdgeKey) -> impl Iterator<Item = &Kin> {
        let children = self.children.all(self.children.hash(&key), move |child| child.key.has_ids(&key));
        let kin = children.map(|slot| self.kin.get(self.children.get(slot).kin));
        kin.filter(move |kin| kin.key.tenant == key.tenant)
    }

    /// A server below this span is called in its place.
    pub(super) fn pass(&mut self, key: &EdgeKey) {
        if let Some(slot) = self.kin.find(key, |_| true) {
            self.kin.get_mut(slot).passed = true;
        }
    }

    /// The next span that has waited for `wait` at `now`, once.
    pub(super) fn decide(&mut self, now: Millis, wait: Millis) -> Option<Kin> {
        let slot = self.undecided?;
        let kin = *self.kin.get(slot);
        if kin.is_within(now, wait) {
            return None;
        }
        self.undecided = self.kin.next(slot);
        Some(kin)
    }

    /// When the next span is decided that came at its time.
    pub(super) fn next_due(&self, wait: Millis) -> Option<Millis> {
        self.undecided.map(|slot| self.kin.get(slot).origin.created.saturating_add(wait))
    }

    /// Forgets what has waited twice as long as `wait` at `now`. All of that is decided.
    pub(super) fn forget(&mut self, now: Millis, wait: Millis) {
        while let Some(slot) = self.kin.overdue(now, wait.saturating_mul(2)) {
            let kin = self.kin.remove(slot);
            self.children.remove(kin.child);
        }
    }

    /// All spans in the order in which they came.
    pub(super) fn listed(&self) -> Vec<ListedKin> {
        let open = std::iter::successors(self.undecided, |&slot| self.kin.next(slot)).count();
        let decided = self.kin.len() - open;
        let listed =
            |(i, kin): (usize, &Kin)| ListedKin { origin: kin.origin, passed: kin.passed, decided: i < decided };
        self.kin.iter().enumerate().map(listed).collect()
    }

    /// Renumbers every name.
    pub(super) fn rename(&mut self, rename: &mut dyn FnMut(&mut NameId)) {
        self.kin.each(|kin| {
            let [client, server] = &mut kin.extras;
            [&mut kin.key.tenant, &mut kin.service, client, server].into_iter().for_each(&mut *rename);
        });
        self.children.each(|child| rename(&mut child.key.tenant));
    }
}

// === impl Item ===

impl Item for Kin {
    fn key(&self) -> &EdgeKey {
        &self.key
    }

    fn key_mut(&mut self) -> &mut EdgeKey {
        &mut self.key
    }

    fn origin(&self) -> &EdgeOrigin {
        &self.origin
    }
}

impl Hashed for Child {
    fn hash(&self, seed: Seed) -> u64 {
        self.key.hash(seed)
    }

    fn is_twin(&self, other: &Self) -> bool {
        self.key.has_ids(&other.key)
    }

    fn leads(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kin(n: u64) -> Kin {
        let trace_id = u128::from((n / 4 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
        let key = EdgeKey { tenant: NameId::EMPTY, trace_id, span_id: (n + 1).to_be_bytes() };
        let origin = EdgeOrigin { offset: n as i64, created: n as Millis, ordinal: 0, part: 0 };
        Kin::new(key, (n / 4 * 4 + 1).to_be_bytes(), origin, NameId::EMPTY)
    }

    #[test]
    fn a_span_is_found_by_its_id_and_by_its_parent_and_decided_once() {
        let mut kinship = Kinship::new(Seed::default());
        (0..8).for_each(|n| kinship.insert(kin(n), n < 2));
        kinship.insert(kin(3), false);
        assert_eq!(kinship.len(), 8, "the first one with an ID stays");
        assert_eq!(kinship.find(&kin(5).key).map(|kin| kin.origin.offset), Some(5));
        let mut below: Vec<i64> = kinship.below(kin(4).key).map(|kin| kin.origin.offset).collect();
        below.sort_unstable();
        assert_eq!(below, [4, 5, 6, 7], "one of them names itself");
        assert_eq!(kinship.next_due(10), Some(12));
        let decided = std::iter::from_fn(|| kinship.decide(15, 10)).map(|kin| kin.origin.offset);
        assert_eq!(decided.collect::<Vec<_>>(), [2, 3, 4, 5]);
        kinship.pass(&kin(6).key);
        let listed: Vec<_> = kinship.listed().iter().map(|kin| (kin.origin.offset, kin.passed, kin.decided)).collect();
        assert_eq!(listed[5..], [(5, false, true), (6, true, false), (7, false, false)]);
        kinship.forget(25, 10);
        assert_eq!((kinship.len(), kinship.below(kin(4).key).count()), (2, 2));
        assert_eq!(kinship.find(&kin(5).key), None);
    }

    #[test]
    fn a_remembered_span_takes_at_most_200_bytes() {
        let mut kinship = Kinship::new(Seed::default());
        // Just above a size where the indexes double, where they are emptiest.
        let count = (1 << 17) * 7 / 8 + 1;
        (0..count).for_each(|n| kinship.insert(kin(n), false));
        let twins = kinship.children.twins() * 16;
        let each = (kinship.kin.bytes() + kinship.children.bytes() + twins) as f64 / count as f64;
        assert!(each <= 200.0, "{each}");
    }
}
