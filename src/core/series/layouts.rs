//! The layouts of a shard, and the combinations of two of them.

use super::metrics::Metrics;
use crate::core::model::hash::Map;
use crate::core::model::{Family, Layout};

/// All layouts that a shard has met. They change only with the configuration, so there are few.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    metrics: Vec<Metrics>,
    unions: Map<(Union, u32, u32), u32>,
}

/// How two layouts are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Union {
    /// [`Layout::join`]
    Join,
    /// [`Layout::widen`]
    Widen,
}

// === impl Layouts ===

impl Layouts {
    /// The number of a layout.
    pub(super) fn id(&mut self, layout: &Layout) -> u32 {
        let known = self.metrics.iter().position(|m| m.layout == *layout);
        known.unwrap_or_else(|| {
            self.metrics.push(Metrics::new(layout.clone()));
            self.metrics.len() - 1
        }) as u32
    }

    /// The metrics of a layout that has a number.
    pub(super) fn of(&self, id: u32) -> &Metrics {
        &self.metrics[id as usize]
    }

    /// The family of a layout that has a number.
    pub(super) fn family(&self, id: u32) -> Family {
        self.of(id).layout.family()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Metrics> {
        self.metrics.get(id as usize)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Metrics> {
        self.metrics.iter()
    }

    /// The combination of `a` and `b`, which have the same family.
    pub(super) fn union(&mut self, union: Union, a: u32, b: u32) -> u32 {
        if a == b {
            return a;
        }
        if let Some(&known) = self.unions.get(&(union, a, b)) {
            return known;
        }
        let [x, y] = [a, b].map(|id| &self.of(id).layout);
        let layout = match union {
            Union::Join => x.join(y),
            Union::Widen => x.widen(y),
        };
        let id = self.id(&layout);
        self.unions.insert((union, a, b), id);
        id
    }
}
