//! Another number of shards for a whole group: all series tasks become others that have the same series.
//!
//! The tasks must stand at the same place: they have counted the same delta records, each its own part of them, and have
//! closed the same steps. Then nothing of what they have counted is needed again, and the new tasks begin behind it.

use std::collections::BTreeMap;

use super::sources::Sources;
use super::{SeriesSettings, SeriesTask};
use crate::core::journal::DeltaChain;
use crate::core::model::Millis;
use crate::core::series::{DivideError, divide};

/// Why series tasks cannot be divided again. Nothing has happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReshardError {
    /// There is none.
    #[error("there are no shards")]
    Nothing,
    /// The tasks have not counted the same delta records.
    #[error("the shards have not counted the same delta records; please report this bug")]
    Chains,
    /// The label sets cannot be divided.
    #[error(transparent)]
    Divide(#[from] DivideError),
}

// === impl SeriesTask ===

impl SeriesTask {
    /// The tasks of all shards become as many as the `settings` say.
    ///
    /// # Errors
    /// When the tasks do not stand at the same place, or the shard of a label set is not known yet.
    pub fn reshard(all: Vec<Self>, settings: &SeriesSettings) -> Result<Vec<Self>, ReshardError> {
        let chain = all.first().ok_or(ReshardError::Nothing)?.chain.clone();
        if all.iter().any(|task| task.chain != chain) {
            return Err(ReshardError::Chains);
        }
        let (mut sources, mut registries) = (Sources::default(), Vec::new());
        for task in all {
            sources.merge(task.sources);
            registries.push(task.registry);
        }
        let new = divide(settings, registries)?.into_iter().map(|registry| Self {
            chain: chain.clone(),
            digest: 0,
            recent: BTreeMap::new(),
            sources: sources.clone(),
            registry,
        });
        Ok(new.collect())
    }

    /// Whether every delta record of the commits below those of `chain` was counted, and no other.
    #[must_use]
    pub fn stands_at(&self, chain: &DeltaChain) -> bool {
        self.chain == *chain
    }

    /// The next step that is open or still has series, if it is not behind `last`: what must be closed so that `last` is.
    #[must_use]
    pub fn next_until(&self, last: Millis) -> Option<Millis> {
        match self.registry.next_step().filter(|step| *step <= last) {
            Some(step) => Some(step),
            None => Some(last).filter(|last| self.closed().is_none_or(|closed| closed < *last)),
        }
    }
}
