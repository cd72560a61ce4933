//! Applies limits: before a step is folded, deltas of refused label sets are moved to the sets that count for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::admission::{Admission, Candidate, Ruling, Usage, is_limited, is_overflow, quota};
use super::cardinality::{Cardinality, TopLabel};
use super::open::{Delta, Gain, Scratch, Touched};
use super::registry::Registry;
use super::set::NEVER;
use super::tenancy::{OVERFLOW_TENANT, is_of_tenants};
use crate::core::deltas::shard_of;
use crate::core::model::hash::Set;
use crate::core::model::{Family, Millis, SetName};
use crate::core::settings::Limits;

/// The label sets of a tenant with limits in a step.
struct Tenant {
    limits: Limits,
    /// New sets, to be ruled on.
    new: BTreeSet<(Family, Box<[u8]>, u32)>,
    /// All sets that the steps which close now have touched here.
    here: Set<u32>,
    /// The same over all shards.
    everywhere: Touched,
}

// === impl Registry ===

impl Registry {
    /// Rules on the sets that are new in the steps up to `step`, and moves the deltas of those that are refused, now or
    /// earlier.
    pub(super) fn admit(&mut self, step: Millis) {
        let turned_away = self.admit_tenants(step);
        let mut tenants = self.newcomers(step);
        if tenants.is_empty() && !turned_away {
            return;
        }
        tenants.retain(|_, tenant| !tenant.new.is_empty());
        let mut usages = self.usages(&tenants);
        for (name, tenant) in &tenants {
            self.rule(name, tenant, usages.entry(Arc::clone(name)).or_default());
        }
        if self.instead.is_empty() {
            return;
        }
        let steps: Vec<Millis> = self.open.range(..=step).map(|(step, _)| *step).collect();
        for at in steps {
            self.redirect(at, step);
        }
    }

    /// How many label sets are refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.instead.len() as u64
    }

    /// The labels with the most values among the tenants that have refused sets.
    #[must_use]
    pub fn top_labels(&self, most: usize) -> Vec<TopLabel> {
        let sets = || self.order.iter().filter_map(|&id| Some((id, self.sets.get(id)?)));
        let tenants: BTreeSet<u32> =
            sets().filter(|(id, _)| self.instead.contains(*id)).map(|(_, set)| set.tenant).collect();
        let mut cardinality = Cardinality::default();
        for (_, set) in sets().filter(|(_, set)| tenants.contains(&set.tenant)) {
            let family = self.layouts.family(set.layout);
            cardinality.add(self.tenants.of(set.tenant), family, set.block());
        }
        cardinality.top_labels(most)
    }

    /// Forgets which sets were refused, so that they are ruled on again: limits have changed.
    pub(super) fn pardon(&mut self) {
        for id in self.instead.take() {
            self.reset_numbers(id);
            if let Some(set) = self.sets.get_mut(id) {
                set.touched = NEVER;
            }
        }
    }

    /// Restarts the numbers of a set that was refused at zero.
    fn reset_numbers(&mut self, id: u32) {
        if let Some(set) = self.sets.get_mut(id) {
            set.pack(&vec![0; self.layouts.of(set.layout).numbers()], &mut Vec::new());
        }
    }

    /// The tenants with limits that have deltas in the steps up to `step`.
    fn newcomers(&self, step: Millis) -> BTreeMap<Arc<str>, Tenant> {
        let mut tenants: BTreeMap<Arc<str>, Tenant> = BTreeMap::new();
        if !self.settings.tenants.any(|settings| is_limited(&settings.limits)) && self.instead.is_empty() {
            return tenants;
        }
        for (_, open) in self.open.range(..=step) {
            for delta in open.deltas() {
                let Some(set) = self.sets.get(delta.set) else { continue };
                let name = self.tenants.of(set.tenant);
                let limits = &self.settings.tenants.of(name).limits;
                let is_free = !is_limited(limits) && !self.instead.contains(delta.set);
                if is_free || self.is_turned_away(delta.set) {
                    continue;
                }
                let fresh = || Tenant {
                    limits: limits.clone(),
                    new: BTreeSet::new(),
                    here: Set::default(),
                    everywhere: Touched::default(),
                };
                let tenant = tenants.entry(Arc::clone(name)).or_insert_with(fresh);
                let family = self.layouts.family(set.layout);
                if tenant.here.insert(delta.set) && set.begins_anew(step, self.settings.memory_of(family)) {
                    tenant.new.insert((family, set.block().into(), delta.set));
                }
            }
            for (name, sets) in &open.everywhere {
                if let Some(tenant) = tenants.get_mut(name.as_str()) {
                    tenant.everywhere.merge(sets);
                }
            }
        }
        tenants
    }

    /// Rules on the new sets of one tenant, in the order of their labels.
    fn rule(&mut self, name: &Arc<str>, tenant: &Tenant, usage: &mut Usage) {
        let here = tenant.here.len() as u64;
        let quota = quota(tenant.limits.max_active_series, here, tenant.everywhere.estimate());
        let mut admitted: BTreeSet<SetName> = BTreeSet::new();
        for (family, block, id) in &tenant.new {
            self.readmit(*id);
            let series = self.most_series(*id);
            // The shard of this task: the labels determine the shard.
            let shard = shard_of(name, *family, block, self.settings.shards);
            let admission = Admission { limits: &tenant.limits, quota, shard };
            let is_admitted = |block: &[u8]| {
                let set = self.settings.namer.name(name, *family, block);
                admitted.contains(&set) || self.sets.find(set).is_some_and(|id| self.is_live(id))
            };
            let ruling = admission.rule(usage, &Candidate { family: *family, block, series }, &is_admitted);
            match ruling {
                Ruling::Admitted => drop(admitted.insert(self.settings.namer.name(name, *family, block))),
                Ruling::Counted(instead) => {
                    admitted.insert(self.settings.namer.name(name, *family, &instead));
                    self.refuse(*id, &instead);
                }
            }
        }
    }

    /// What the live sets of these tenants use already.
    fn usages(&self, tenants: &BTreeMap<Arc<str>, Tenant>) -> BTreeMap<Arc<str>, Usage> {
        let mut usages: BTreeMap<Arc<str>, Usage> = BTreeMap::new();
        if tenants.is_empty() {
            return usages;
        }
        let live = self.sets.iter().filter(|set| set.live && !is_overflow(set.block()));
        for set in live {
            let name = self.tenants.of(set.tenant);
            let Some(tenant) = tenants.get(name) else { continue };
            let layout = &self.layouts.of(set.layout).layout;
            let series = layout.series() as u64;
            let usage = usages.entry(Arc::clone(name)).or_default();
            usage.add(&Candidate { family: layout.family(), block: set.block(), series }, &tenant.limits);
        }
        usages
    }

    fn is_live(&self, id: u32) -> bool {
        self.sets.get(id).is_some_and(|set| set.live)
    }

    fn most_series(&self, id: u32) -> u64 {
        self.sets.get(id).map_or(0, |set| self.layouts.of(set.layout).layout.series() as u64)
    }

    /// A set that was refused long ago is new again.
    pub(super) fn readmit(&mut self, id: u32) {
        if self.instead.remove(id) {
            self.reset_numbers(id);
        }
    }

    /// From now on, `instead` counts for the set. It keeps its labels, and nothing else.
    pub(super) fn refuse(&mut self, id: u32, instead: &[u8]) {
        if let Some(set) = self.sets.get_mut(id) {
            set.drop_numbers();
        }
        self.kept.remove(id);
        self.instead.insert(id, instead);
    }

    /// Moves the deltas of refused sets in the open step `at` to those that count for them. `closing` is the step that is
    /// being closed.
    fn redirect(&mut self, at: Millis, closing: Millis) {
        let Some(deltas) = self.open.get_mut(&at).map(super::open::OpenStep::take) else { return };
        let mut scratch = Scratch::default();
        for delta in deltas {
            let (from, set) = (delta.set, self.target(delta.set, closing, &delta));
            let alone = self.put(at, set, &delta, &mut scratch);
            if set != from {
                self.settle_pending(from, set, alone);
            } else if !alone {
                self.drop_pending(from);
            }
        }
    }

    /// Adds a delta of the open step `at` to `set`, its own set or the one that counts for it; returns whether the step
    /// has no other with its layout.
    fn put(&mut self, at: Millis, set: u32, delta: &Delta, scratch: &mut Scratch) -> bool {
        let metrics = self.layouts.of(delta.layout());
        scratch.unpack(at, delta);
        // The label sets that were sent in full last define nothing for others: a new owner of a source sends
        // everything in full again.
        let (spelled, natives) = (delta.spelled() && set == delta.set, &delta.natives);
        let gain = Gain { spelled, cells: &scratch.gained, natives, exemplars: &scratch.exemplars };
        self.open.entry(at).or_default().put((set, delta.layout()), at, metrics, &gain, &mut self.scratch)
    }

    /// The set that counts for `id`.
    fn target(&mut self, id: u32, closing: Millis, delta: &Delta) -> u32 {
        let Some(block) = self.instead.get(id).cloned() else { return id };
        let Some(set) = self.sets.get_mut(id) else { return id };
        // As long as it is touched, it stays refused.
        set.touched = closing;
        let mentioned = set.mentioned;
        let of_tenants = is_of_tenants(&block);
        let tenant = if of_tenants { OVERFLOW_TENANT.into() } else { Arc::clone(self.tenants.of(set.tenant)) };
        let name = self.settings.namer.name(&tenant, self.layouts.family(delta.layout()), &block);
        let known = match self.sets.find(name) {
            Some(known) => known,
            None => self.define(name, &tenant, &block, delta.layout()).unwrap_or(id),
        };
        if let Some(target) = self.sets.get_mut(known) {
            target.mentioned = target.mentioned.max(mentioned);
        }
        known
    }

    fn settle_pending(&mut self, from: u32, to: u32, created: bool) {
        self.drop_pending(from);
        if created && let Some(target) = self.sets.get_mut(to) {
            target.pending += 1;
        }
    }

    fn drop_pending(&mut self, id: u32) {
        if let Some(set) = self.sets.get_mut(id) {
            set.pending = set.pending.saturating_sub(1);
        }
    }
}
