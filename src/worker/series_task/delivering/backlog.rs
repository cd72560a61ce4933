//! What waits for one of several endpoints: how far each is, and its bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Delivering, Endpoint, STEPS_UNDER_WAY, Track};
use crate::config::settings::OnBacklog;
use crate::core::journal::EndpointMark;
use crate::core::model::Millis;
use crate::worker::telemetry::EndpointStatus;

/// A batch that is not sent to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Dropped {
    pub(in super::super) track: Track,
    pub(in super::super) step: Millis,
    pub(in super::super) samples: u64,
}

impl Delivering {
    /// The endpoints of tenants with several. One that is configured differently by tenants has the least bound.
    fn endpoints(&self) -> BTreeMap<&Arc<str>, &Endpoint> {
        let mut all: BTreeMap<&Arc<str>, &Endpoint> = BTreeMap::new();
        for endpoint in self.several.values().flat_map(|several| several.iter()) {
            let known = all.entry(&endpoint.name).or_insert(endpoint);
            if endpoint.max_backlog < known.max_backlog {
                *known = endpoint;
            }
        }
        all
    }

    /// The bytes that wait for each endpoint of tenants with several.
    fn backlogs(&self) -> BTreeMap<&Arc<str>, usize> {
        let mut backlogs = BTreeMap::new();
        for ((_, name), unsettled) in &self.tracks {
            if let Some(name) = name {
                *backlogs.entry(name).or_default() += unsettled.bytes;
            }
        }
        backlogs
    }

    /// Notes for which endpoints no more may wait.
    pub(super) fn look_at_bounds(&mut self) {
        if self.several.is_empty() || !self.apart {
            (self.at_bound, self.reported) = (BTreeSet::new(), BTreeSet::new());
            return;
        }
        self.at_bound = self.beyond(|max_backlog| max_backlog);
        // Until there is room again: what is at its bound comes and goes with every step.
        let still = self.beyond(|max_backlog| max_backlog / 2);
        self.reported.retain(|name| still.contains(name));
        self.reported.extend(self.at_bound.iter().cloned());
    }

    /// The endpoints that are behind and for which more waits than a part of their bound.
    fn beyond(&self, part: impl Fn(usize) -> usize) -> BTreeSet<Arc<str>> {
        let backlogs = self.backlogs();
        // A few steps are always under way.
        let is_behind = |name: &Arc<str>| {
            let mut tracks = self.tracks.iter().filter(|(track, _)| track.1.as_ref() == Some(name));
            tracks.any(|(track, unsettled)| unsettled.total() >= STEPS_UNDER_WAY && self.is_behind(track))
        };
        let full = |(name, endpoint): &(&Arc<str>, &Endpoint)| {
            backlogs.get(*name).copied().unwrap_or_default() > part(endpoint.max_backlog) && is_behind(name)
        };
        self.endpoints().into_iter().filter(full).map(|(name, _)| Arc::clone(name)).collect()
    }

    fn on_backlog(&self, name: &Arc<str>) -> OnBacklog {
        self.endpoints().get(name).map_or(OnBacklog::Wait, |endpoint| endpoint.on_backlog)
    }

    /// Whether all endpoints wait for one.
    pub(super) fn must_wait(&self) -> bool {
        self.at_bound.iter().any(|name| self.on_backlog(name) == OnBacklog::Wait)
    }

    /// The endpoints whose bound was reached, until there is room again, and what happens at each.
    pub(in super::super) fn at_bound(&self) -> BTreeMap<Arc<str>, OnBacklog> {
        self.reported.iter().map(|name| (Arc::clone(name), self.on_backlog(name))).collect()
    }

    /// Drops the oldest steps of endpoints that have too much and are to drop it, as far as `withdraw` gets hold of them:
    /// what is being sent already stays.
    pub(in super::super) fn drop_oldest(&mut self, mut withdraw: impl FnMut(&Track, Millis) -> bool) -> Vec<Dropped> {
        let mut dropped = Vec::new();
        for (name, on_backlog) in self.at_bound() {
            if on_backlog != OnBacklog::Drop {
                continue;
            }
            let most = self.endpoints().get(&name).map_or(usize::MAX, |endpoint| endpoint.max_backlog);
            let mut left = self.backlogs().get(&name).copied().unwrap_or_default();
            let mut victims = Vec::new();
            for (track, batch) in self.unsettled().filter(|(track, _)| track.1.as_ref() == Some(&name)) {
                if left <= most {
                    break;
                }
                if self.is_behind(track) && withdraw(track, batch.step) {
                    left -= batch.bytes();
                    victims.push(Dropped { track: track.clone(), step: batch.step, samples: batch.samples() });
                }
            }
            for victim in &victims {
                self.settled(victim.step, &victim.track);
            }
            dropped.append(&mut victims);
        }
        dropped
    }

    /// For the mark of the next step, which is for these tracks: the first step that each endpoint may lack. `first` is the
    /// first step that was not handed to receivers yet. Empty where no tenant has several endpoints.
    pub(in super::super) fn marks(&self, next: &BTreeSet<Option<Arc<str>>>, first: Millis) -> Vec<EndpointMark> {
        let mut lacks: BTreeMap<Option<&Arc<str>>, Millis> = BTreeMap::new();
        let used = self.seen.keys().chain(self.tracks.keys()).map(|(_, name)| name.as_ref());
        for name in used.chain(next.iter().map(Option::as_ref)) {
            lacks.insert(name, first);
        }
        if !lacks.keys().any(Option::is_some) {
            return Vec::new();
        }
        for (track, batch) in self.unsettled() {
            if let Some(least) = lacks.get_mut(&track.1.as_ref()) {
                *least = batch.step.min(*least);
            }
        }
        let mark = |(name, lacks): (Option<&Arc<str>>, Millis)| EndpointMark {
            name: name.map_or_else(String::new, |name| (**name).to_owned()),
            lacks,
        };
        lacks.into_iter().map(mark).collect()
    }

    /// What waits for each of several endpoints, when `closed` is the last closed step.
    pub(in super::super) fn status(&self, closed: Option<Millis>) -> BTreeMap<Arc<str>, EndpointStatus> {
        let mut all: BTreeMap<Arc<str>, EndpointStatus> = BTreeMap::new();
        let Some(closed) = closed.filter(|_| !self.several.is_empty()) else { return all };
        for name in self.endpoints().into_keys() {
            let at_bound = self.reported.contains(name);
            all.insert(Arc::clone(name), EndpointStatus { at_bound, ..EndpointStatus::default() });
        }
        for (track, batch) in self.unsettled() {
            let Some(status) = track.1.as_ref().and_then(|name| all.get_mut(name)) else { continue };
            status.backlog += batch.bytes() as u64;
            status.behind = status.behind.max(closed - batch.step);
        }
        all
    }
}

#[cfg(test)]
mod tests;
