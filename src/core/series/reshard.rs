//! Dividing the label sets of all shards of a group again, among another number of shards.
//!
//! Every set moves with all that is known of it: its numbers, since when it has been silent, what receivers have seen, what a
//! limit counts for it, and its deltas in open steps. So what it emits from then on is what it would have emitted. Only
//! what is about a shard and not about a set changes hands: a set that counts for refused ones, and is named by its shard,
//! goes to the shard of that number, which continues it; one of a shard that is no more ends as any series that nothing
//! touches.

use std::sync::Arc;

use super::SeriesSettings;
use super::admission::{in_shard, overflow_shard};
use super::open::{Gain, Scratch};
use super::registry::Registry;
use super::set::LabelSet;
use crate::core::deltas::shard_of;
use crate::core::model::Family;

/// Why label sets cannot be divided again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DivideError {
    /// The shards of these sets cannot be known yet.
    #[error(
        "{0} deltas wait for the labels of their set, which decide the shard; they are counted or given up \
         series.stale_after and series.forget_after later at most: let the workers run for as long, or restart one"
    )]
    Unnamed(usize),
    /// Two shards have the same set.
    #[error("two shards have the same label set; please report this bug")]
    Twice,
    /// The last step is not the same for all.
    #[error("the shards have not closed the same steps; please report this bug")]
    Steps,
}

/// The new registries, one per shard of `settings`, that have what `old` ones have together. All have closed the same steps.
///
/// # Errors
/// When a shard cannot be divided; nothing has happened then.
pub fn divide(settings: &SeriesSettings, old: Vec<Registry>) -> Result<Vec<Registry>, DivideError> {
    let unnamed: usize = old.iter().map(Registry::unnamed).sum();
    if unnamed > 0 {
        return Err(DivideError::Unnamed(unnamed));
    }
    let closed = old.iter().map(Registry::closed).max().flatten();
    if old.iter().any(|registry| registry.closed() != closed) {
        return Err(DivideError::Steps);
    }
    let new = |_| {
        let mut registry = Registry::new(settings.clone());
        registry.closed = closed;
        registry
    };
    let mut all: Vec<Registry> = (0..settings.shards.max(1)).map(new).collect();
    for mut registry in old {
        registry.adopt(settings.clone());
        all.iter_mut().for_each(|new| new.share(&registry));
        registry.move_to(&mut all)?;
    }
    Ok(all)
}

/// The shard to which a set goes.
fn new_shard(tenant: &str, family: Family, block: &[u8], shards: u32) -> u32 {
    overflow_shard(family, block).map_or_else(|| shard_of(tenant, family, block, shards), |shard| shard % shards)
}

impl Registry {
    /// Takes what every shard knows.
    fn share(&mut self, other: &Self) {
        self.tenancy.merge(&other.tenancy);
        for (&step, open) in &other.open {
            for (tenant, sets) in &open.everywhere {
                self.mention(step, tenant, sets);
            }
        }
    }

    /// Gives every set to the registry of its shard.
    fn move_to(mut self, all: &mut [Self]) -> Result<(), DivideError> {
        let shards = all.len() as u32;
        // By place: the shard, and the place there.
        let mut moved = vec![(0, 0); self.sets.places()];
        for id in self.sorted_order() {
            let Some(set) = self.sets.take_if(id, |_| true) else { continue };
            let tenant = Arc::clone(self.tenants.of(set.tenant));
            let shard = new_shard(&tenant, self.layouts.family(set.layout), set.block(), shards);
            let to = &mut all[shard as usize];
            if to.sets.find(set.name).is_some() {
                return Err(DivideError::Twice);
            }
            moved[id as usize] = (shard, self.hand_over(id, set, &tenant, (shard, to)));
        }
        let mut scratch = Scratch::default();
        for (step, mut opened) in std::mem::take(&mut self.open) {
            for delta in opened.take() {
                let (shard, id) = moved[delta.set as usize];
                let to = &mut all[shard as usize];
                scratch.unpack(step, &delta);
                let layout = to.layouts.id(&self.layouts.of(delta.layout()).layout);
                let (spelled, natives) = (delta.spelled(), &delta.natives);
                let gain = Gain { spelled, cells: &scratch.gained, natives, exemplars: &scratch.exemplars };
                let (open, metrics) = (to.open.entry(step).or_default(), to.layouts.of(layout));
                let first = open.put((id, layout), step, metrics, &gain, &mut to.scratch);
                if let Some(set) = to.sets.get_mut(id) {
                    set.pending += u32::from(first);
                }
            }
        }
        Ok(())
    }

    /// Puts a set into the registry of a shard; returns its place there.
    fn hand_over(&self, id: u32, mut set: LabelSet, tenant: &str, (shard, to): (u32, &mut Self)) -> u32 {
        let metrics = self.layouts.of(set.layout);
        if set.live {
            let mut numbers = Vec::new();
            set.unpack(&mut numbers);
            to.live += 1;
            metrics.each(&numbers, &set.natives, |_| to.active_series += 1);
        }
        let layout = to.layouts.id(&metrics.layout);
        let kept = self.kept.get(id).map(|(numbers, natives, seen)| {
            let seen = seen.map(|seen| to.layouts.id(&self.layouts.of(seen).layout));
            (numbers.to_vec(), natives.clone(), seen)
        });
        (set.tenant, set.layout, set.pending) = (to.tenants.take(tenant), layout, 0);
        let place = to.insert(set);
        if let Some((numbers, natives, seen)) = kept {
            to.kept.insert(place, &numbers, natives, seen);
        }
        if let Some(block) = self.instead.get(id) {
            // The set that counts for it is that of the shard in which it is now.
            match overflow_shard(metrics.layout.family(), block) {
                Some(_) => to.instead.insert(place, &in_shard(block, shard)),
                None => to.instead.insert(place, block),
            }
        }
        place
    }
}
