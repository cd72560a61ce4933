//! Which tenants have series of their own, when their number is limited.
//!
//! Record keys, headers and attributes make tenants, so any producer of spans can. Beyond `limits.max_tenants`, further
//! ones are counted together, as the tenant [`OVERFLOW_TENANT`]: one label set per family and shard.
//!
//! Every shard decides alike, without asking another. The delta records of a step inform all shards which tenants the
//! step has touched anywhere, and a step closes when all its delta records are there. Then its new tenants are admitted
//! in the order of their names, while there is room; and a tenant that was not touched anywhere for as long as series
//! are remembered loses its place. Tenants that have series already, as when the limit is new, keep them. So neither
//! the order of arrival nor cuts nor restarts affect the result. Only a step that is closed on stall timeout, without
//! some sources, may let shards differ: then a tenant has series of its own in some shards and not in others, and no
//! count is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::admission::{OVERFLOW_LABEL, subject_of};
use super::registry::Registry;
use super::set::NEVER;
use crate::core::deltas::shard_of;
use crate::core::model::Millis;
use crate::core::model::hash::Map;
use crate::core::model::labels::{self, put_label};
use crate::core::model::wire::{Malformed, Reader, put_bytes, put_i64, put_u64};

/// Stands for all tenants beyond the limit.
pub const OVERFLOW_TENANT: &str = "__overflow__";
/// The value of [`OVERFLOW_LABEL`] for them.
const OF_TENANTS: &str = "tenants";
/// Each shard has a set of its own: it has one writer.
const SHARD_LABEL: &str = "overflow_shard";

/// The admitted tenants, each with the last step in which it was touched anywhere.
#[derive(Debug, Default)]
pub(super) struct Tenancy(BTreeMap<Arc<str>, Millis>);

/// Whether a label block is that of the set which counts for tenants beyond the limit.
pub(super) fn is_of_tenants(block: &[u8]) -> bool {
    labels::iter(block).any(|label| label == (OVERFLOW_LABEL, OF_TENANTS))
}

/// `subject` is the label that a set keeps.
fn block_of(shard: u32, subject: Option<(&str, &str)>) -> Vec<u8> {
    let (shard, mut out) = (shard.to_string(), Vec::new());
    let mut pairs = [Some((OVERFLOW_LABEL, OF_TENANTS)), Some((SHARD_LABEL, &shard)), subject];
    pairs.sort_unstable();
    for (name, value) in pairs.into_iter().flatten() {
        put_label(&mut out, name, value);
    }
    out
}

// === impl Tenancy ===

impl Tenancy {
    /// Takes the tenants that the step `at` has touched anywhere. `memory` is how long one keeps its place.
    fn pass<'a>(&mut self, at: Millis, touched: impl Iterator<Item = &'a String>, most: u64, memory: Millis) {
        let mut new = BTreeSet::new();
        for name in touched.filter(|name| *name != OVERFLOW_TENANT) {
            match self.0.get_mut(name.as_str()) {
                Some(last) => *last = at,
                None => drop(new.insert(name)),
            }
        }
        self.0.retain(|_, last| at.saturating_sub(*last) <= memory);
        for name in new {
            if self.0.len() as u64 >= most {
                return;
            }
            self.0.insert(name.as_str().into(), at);
        }
    }

    /// Adds what another shard knows. They differ only after steps that were closed on stall timeout.
    pub(super) fn merge(&mut self, other: &Self) {
        for (name, last) in &other.0 {
            let known = self.0.entry(Arc::clone(name)).or_insert(*last);
            *known = (*known).max(*last);
        }
    }

    fn has(&self, tenant: &str) -> bool {
        tenant == OVERFLOW_TENANT || self.0.contains_key(tenant)
    }

    /// Appends its bytes.
    fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.0.len() as u64);
        for (tenant, last) in &self.0 {
            put_bytes(out, tenant.as_bytes());
            put_i64(out, *last);
        }
    }

    /// Reads what [`Tenancy::encode`] wrote.
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut tenants = BTreeMap::new();
        for _ in 0..r.u64()? {
            tenants.insert(r.str()?.into(), r.i64()?);
        }
        Ok(Self(tenants))
    }
}

// === impl Registry ===

impl Registry {
    /// Decides which tenants have series of their own in the steps up to `step`, and rejects the sets of the others.
    /// Returns whether there are such.
    pub(super) fn admit_tenants(&mut self, step: Millis) -> bool {
        let most = self.settings.tenants.max_tenants();
        if most == 0 {
            self.tenancy = Tenancy::default();
            if self.instead.is_empty() {
                return false;
            }
        } else {
            let memory = self.settings.memory();
            for (&at, open) in self.open.range(..=step) {
                self.tenancy.pass(at, open.everywhere.keys(), most, memory);
            }
        }
        let mut let_in: Map<u32, bool> = Map::default();
        let mut verdicts = Vec::new();
        for (_, open) in self.open.range(..=step) {
            for delta in open.deltas() {
                let Some(set) = self.sets.get(delta.set) else { continue };
                let name = self.tenants.of(set.tenant);
                let good = *let_in.entry(set.tenant).or_insert_with(|| most == 0 || self.tenancy.has(name));
                let was_good = !self.is_turned_away(delta.set);
                if good != was_good
                    && (good || set.begins_anew(step, self.settings.memory_of(self.layouts.family(set.layout))))
                {
                    verdicts.push((delta.set, good));
                }
            }
        }
        for (id, good) in verdicts {
            if good { self.welcome(id) } else { self.turn_away(id) }
        }
        let_in.values().any(|good| !good)
    }

    /// Whether the set belongs to a tenant beyond the limit.
    pub(super) fn is_turned_away(&self, id: u32) -> bool {
        self.instead.get(id).is_some_and(|block| is_of_tenants(block))
    }

    /// Its tenant has got a place: it begins again.
    fn welcome(&mut self, id: u32) {
        if self.is_turned_away(id) {
            self.readmit(id);
            if let Some(set) = self.sets.get_mut(id) {
                set.touched = NEVER;
            }
        }
    }

    fn turn_away(&mut self, id: u32) {
        if self.is_turned_away(id) {
            return;
        }
        let Some(set) = self.sets.get(id) else { return };
        let (tenant, family) = (self.tenants.of(set.tenant), self.layouts.family(set.layout));
        // The shard of this task: the labels determine the shard.
        let shard = shard_of(tenant, family, set.block(), self.settings.shards);
        let block = block_of(shard, subject_of(family, set.block()));
        self.readmit(id);
        self.refuse(id, &block);
    }

    /// Appends the tenants that have a place.
    pub fn encode_tenancy(&self, out: &mut Vec<u8>) {
        self.tenancy.encode(out);
    }

    /// Reads what [`Registry::encode_tenancy`] wrote.
    ///
    /// # Errors
    /// When the bytes are not that.
    pub fn decode_tenancy(&mut self, r: &mut Reader<'_>) -> Result<(), Malformed> {
        self.tenancy = Tenancy::decode(r)?;
        Ok(())
    }
}
