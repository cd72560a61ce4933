//! The latency buckets of a span.

use std::sync::Arc;

use super::spec::spec;
use crate::core::model::span::KINDS;
use crate::core::model::wire::put_u64;
use crate::core::model::{Family, Layout};
use crate::core::settings::Settings;

/// The layouts of a tenant's spans: one, and one more for each entry of `bucket_sets`.
#[derive(Debug)]
pub(super) struct Buckets {
    default: Arc<Layout>,
    sets: Vec<Set>,
    /// For the service of the block that was started last: the set for each kind, kinds without a name last. `None`: the
    /// default.
    chosen: [Option<usize>; KINDS.len() + 1],
}

#[derive(Debug)]
struct Set {
    services: Vec<Box<[u8]>>,
    /// One per kind; empty: all.
    kinds: Vec<usize>,
    layout: Arc<Layout>,
}

// === impl Buckets ===

impl Buckets {
    pub(super) fn new(config: &Settings, weighted: bool) -> Self {
        let settings = &config.span_metrics;
        let layout = |bounds: &[u64]| {
            let latency = settings.latency.then_some(bounds);
            Arc::new(Layout::of(&spec(config, Family::SpanMetrics, weighted, &[latency])))
        };
        let sets = settings.bucket_sets.iter().map(|set| Set {
            services: set.services.iter().map(|name| name.as_bytes().into()).collect(),
            // A name that is no kind fits nothing.
            kinds: set.kinds.iter().map(|name| KINDS.iter().position(|k| k == name).unwrap_or(usize::MAX)).collect(),
            layout: layout(&set.bounds_ns),
        });
        Self { sets: sets.collect(), default: layout(&settings.bounds_ns), chosen: Default::default() }
    }

    /// Starts with the spans of a service.
    pub(super) fn block(&mut self, service: &[u8]) {
        if self.sets.is_empty() {
            return;
        }
        for (kind, chosen) in self.chosen.iter_mut().enumerate() {
            let fits = |set: &Set| {
                (set.services.is_empty() || set.services.iter().any(|name| **name == *service))
                    && (set.kinds.is_empty() || set.kinds.contains(&kind))
            };
            *chosen = self.sets.iter().position(fits);
        }
    }

    /// Appends what was chosen to a raw key, where there is a choice.
    pub(super) fn put_choice(&self, key: &mut Vec<u8>) {
        if !self.sets.is_empty() {
            self.chosen.iter().for_each(|chosen| put_u64(key, chosen.map_or(0, |set| set as u64 + 1)));
        }
    }

    /// The layout of a span of this kind.
    pub(super) fn of(&self, kind: i32) -> &Arc<Layout> {
        let kind = usize::try_from(kind).unwrap_or(KINDS.len()).min(KINDS.len());
        match self.chosen[kind] {
            Some(set) => &self.sets[set].layout,
            None => &self.default,
        }
    }
}
