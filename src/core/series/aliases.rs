//! Names of the earlier version: the name of a label set in a delta record, and its name here.
//!
//! Workers are replaced one after the other, so for a while some delta records have the old names. A set is in a shard
//! once, under its new name; an old one leads to it. Old names are a function of the labels: they are computed when a
//! delta record with old names comes, and forgotten when none has come for as long as a set is remembered. Snapshots do
//! not hold them.
//!
//! A sender can construct label sets of one old name. While they are sent in full their labels distinguish them; a
//! delta record that only gives the name may mean any of them, and is refused.

use std::collections::BTreeSet;

use super::registry::{AddError, LayoutId, Registry};
use crate::core::deltas::SetDelta;
use crate::core::model::{Millis, SetName};

/// The old names of the sets of a shard, while there are delta records with old names.
#[derive(Debug, Default)]
pub(super) struct Aliases(Option<Known>);

#[derive(Debug)]
struct Known {
    /// Old and new.
    pairs: BTreeSet<(SetName, SetName)>,
    /// The greatest stream time of a delta record with old names.
    last: Millis,
}

// === impl Aliases ===

impl Aliases {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn insert(&mut self, old: SetName, new: SetName) {
        if let Some(known) = &mut self.0 {
            known.pairs.insert((old, new));
        }
    }

    pub(super) fn remove(&mut self, old: SetName, new: SetName) {
        if let Some(known) = &mut self.0 {
            known.pairs.remove(&(old, new));
        }
    }

    /// Forgets all of them when no delta record can name a set by an old name any more without sending it in full again.
    pub(super) fn forget(&mut self, watermark: Millis, memory: Millis) {
        self.0.take_if(|known| watermark.saturating_sub(known.last) > memory);
    }

    /// The set that an old name stands for.
    fn find(&self, old: SetName) -> Result<SetName, AddError> {
        let mut found = self.0.iter().flat_map(|k| k.pairs.range((old, SetName(0))..=(old, SetName(u128::MAX))));
        match (found.next(), found.next()) {
            (Some((_, new)), None) => Ok(*new),
            (Some(_), Some(_)) => Err(AddError::Collides(old)),
            (None, _) => Err(AddError::UnknownOld(old)),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |known| known.pairs.len() * size_of::<(SetName, SetName)>() * 3 / 2)
    }
}

// === impl Registry ===

impl Registry {
    /// Replaces the names of sets in a delta record of the earlier version by their names here. Sets without one are
    /// removed and passed to `lost`.
    pub fn rename(
        &mut self,
        stream_time: Millis,
        layouts: &[LayoutId],
        sets: &mut Vec<SetDelta<'_>>,
        mut lost: impl FnMut(AddError),
    ) {
        self.begin_aliases(stream_time);
        sets.retain_mut(|set| match self.name_of_old(set, layouts[set.layout]) {
            Ok(name) => {
                set.name = name;
                true
            }
            Err(error) => {
                lost(error);
                false
            }
        });
    }

    fn begin_aliases(&mut self, stream_time: Millis) {
        if self.aliases.is_empty() {
            let pairs = self.sets.iter().map(|set| (self.old_name(set), set.name)).collect();
            self.aliases = Aliases(Some(Known { pairs, last: stream_time }));
        }
        self.aliases.0.iter_mut().for_each(|known| known.last = known.last.max(stream_time));
    }

    fn name_of_old(&mut self, set: &SetDelta<'_>, layout: LayoutId) -> Result<SetName, AddError> {
        let Some((tenant, block)) = set.spelled else { return self.aliases.find(set.name) };
        let family = self.layouts.family(layout.0);
        if SetName::old(tenant, family, block) != set.name {
            return Err(AddError::Misnamed(set.name));
        }
        let name = self.settings.namer.name(tenant, family, block);
        self.aliases.insert(set.name, name);
        Ok(name)
    }
}
