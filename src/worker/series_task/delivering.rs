//! The steps of a shard that receivers do not have yet: how many there may be, and what happens while a receiver is
//! down.
//!
//! A step is acknowledged when all its batches are settled, those of every tenant; steps are acknowledged in order.
//! Each tenant has a track of its own, and the slowest sets the pace: a few steps may be in flight, then reading
//! pauses, and the deltas topic is the buffer. When all receivers are down, that is all; no step is skipped.
//!
//! When one is down and others are not, or a receiver refuses one tenant and takes the others, that tenant must not
//! hold them back, and its backlog must not grow. So after those few steps it is *skipped*: further steps are not
//! written for it, and the mark of the step records that. Whether its receiver answers others is known from their
//! batches: those that have everything get one step more, so that there is a request; if no request is answered, the
//! others have lost that step's samples, and their next steps carry all totals. The batches that wait already are
//! *carried*: the next snapshot holds them, so that their steps can be called acknowledged, and a new owner sends them
//! again. When the receiver is back, the next step carries all totals.
//!
//! A tenant with several endpoints has a *track* to each, with batches of its own. A track that is down, or lacks a few
//! steps, is *behind*, if another one of the tenant is not: then it does not set the pace, and snapshots do not wait
//! for it but carry its batches. So it gets every step, later. What waits for an endpoint is bounded: beyond, it holds
//! the others back after all, or its oldest steps are dropped; see [`backlog`].

mod backlog;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) use self::backlog::Dropped;
use crate::core::model::Millis;
use crate::core::remotewrite::StepBatch;
use crate::worker::sender::EndpointRoute as Endpoint;

/// Steps that may be in flight to a tenant: then reading pauses, or it is skipped.
const STEPS_UNDER_WAY: usize = 3;
/// A tenant without a batch for so long, in event time, has no samples.
const UNUSED_AFTER: Millis = 3_600_000;

/// A tenant, and which of its endpoints, if it has several.
pub(super) type Track = (Arc<str>, Option<Arc<str>>);

type Steps = BTreeMap<Millis, BTreeMap<Track, StepBatch>>;

/// The closed steps that count and are not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Delivering {
    /// The batches that are not settled, by step and track. Their bytes are shared with the shard sender.
    steps: Steps,
    /// The same of acknowledged steps: the latest snapshot holds them.
    carried: Steps,
    /// How much of a track is in `steps`, and in `carried`.
    tracks: BTreeMap<Track, Unsettled>,
    /// The tracks in use, each with the newest step that had a batch for it.
    seen: BTreeMap<Track, Millis>,
    /// Tracks whose samples are not accepted while those of others are.
    down: BTreeSet<Track>,
    /// The endpoints of the tenants that have several.
    several: BTreeMap<Arc<str>, Arc<[Endpoint]>>,
    /// Whether tracks may be behind others of the same tenant.
    apart: bool,
    /// The steps that the slowest tenant lacks, of those that are not skipped.
    lacking: usize,
    /// Endpoints for which no more may wait.
    at_bound: BTreeSet<Arc<str>>,
    /// The same, until there is room again.
    reported: BTreeSet<Arc<str>>,
}

/// How many batches of a track are not settled, and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Unsettled {
    steps: usize,
    carried: usize,
    bytes: usize,
}

// === impl Unsettled ===

impl Unsettled {
    fn total(self) -> usize {
        self.steps + self.carried
    }
}

/// The track of a batch.
fn track_of(batch: &StepBatch) -> Track {
    (Arc::clone(&batch.tenant), batch.endpoint.clone())
}

// === impl Delivering ===

impl Delivering {
    /// The batches of a step, each for every endpoint of its tenant in `endpoints`.
    pub(super) fn for_endpoints(
        &mut self,
        batches: Vec<StepBatch>,
        endpoints: impl Fn(&str) -> Arc<[Endpoint]>,
    ) -> Vec<StepBatch> {
        let mut all = Vec::new();
        for batch in batches {
            let tracks = self.tracks(&batch.tenant, &endpoints(&batch.tenant));
            all.extend(tracks.into_iter().map(|endpoint| StepBatch { endpoint, ..batch.clone() }));
        }
        all
    }

    /// The tracks of a tenant whose endpoints are these from now on. While batches are under way to its only endpoint, or
    /// to one of several, that stays so: otherwise a step could overtake them.
    pub(super) fn tracks(&mut self, tenant: &Arc<str>, endpoints: &Arc<[Endpoint]>) -> Vec<Option<Arc<str>>> {
        let (was, is) = (self.several.get(tenant), endpoints.len() > 1);
        let unsettled = || self.tracks_of(tenant).any(|(track, _)| track.1.is_some() != is);
        if was.is_some() == is || !unsettled() {
            match is {
                true => drop(self.several.insert(Arc::clone(tenant), Arc::clone(endpoints))),
                false => drop(self.several.remove(tenant)),
            }
        }
        match self.several.get(tenant) {
            Some(endpoints) => endpoints.iter().map(|endpoint| Some(Arc::clone(&endpoint.name))).collect(),
            None => vec![None],
        }
    }

    /// Whether a track may be behind others of its tenant. In a replay, all are waited for.
    pub(super) fn may_be_behind(&mut self) {
        self.apart = true;
    }

    /// Takes the batches of a step.
    pub(super) fn add(&mut self, step: Millis, batches: Vec<StepBatch>) {
        let mut waiting = BTreeMap::new();
        for batch in batches {
            let track = track_of(&batch);
            self.seen.insert(track.clone(), step);
            let unsettled = self.tracks.entry(track.clone()).or_default();
            (unsettled.steps, unsettled.bytes) = (unsettled.steps + 1, unsettled.bytes + batch.bytes());
            waiting.insert(track, batch);
        }
        self.seen.retain(|_, seen| step - *seen <= UNUSED_AFTER);
        self.steps.insert(step, waiting);
        self.measure();
    }

    /// Takes the batches that a snapshot holds.
    pub(super) fn carry(&mut self, batches: Vec<StepBatch>) {
        for batch in batches {
            let track = track_of(&batch);
            let unsettled = self.tracks.entry(track.clone()).or_default();
            (unsettled.carried, unsettled.bytes) = (unsettled.carried + 1, unsettled.bytes + batch.bytes());
            self.carried.entry(batch.step).or_default().insert(track, batch);
        }
        self.measure();
    }

    /// The bytes of the batches that are not settled: those in flight, and those that wait for a receiver that is down or
    /// behind.
    pub(super) fn bytes(&self) -> (usize, usize) {
        self.tracks.iter().fold((0, 0), |(leaving, staying), (track, unsettled)| {
            match self.down.contains(track) || self.is_behind(track) {
                true => (leaving, staying + unsettled.bytes),
                false => (leaving + unsettled.bytes, staying),
            }
        })
    }

    /// Checks which tracks' samples are not accepted. `is_down` is about the track's own batches, `is_dark` about its
    /// receiver, for any tenant.
    pub(super) fn look(&mut self, is_down: impl Fn(&Track) -> bool, is_dark: impl Fn(&Track) -> bool) {
        self.down = self.tracks.keys().filter(|track| is_down(track)).cloned().collect();
        // A tenant without samples at the moment does not show that its receiver answers. But one that has its part of
        // the newest step sends no more requests: only the next step shows whether it would still be answered.
        let newest = self.seen.values().max();
        let has_all = |track: &Track| self.seen.get(track) == newest && !self.tracks.contains_key(track);
        let answers = |track: &Track| !self.down.contains(track) && (!is_dark(track) || has_all(track));
        if !self.down.is_empty() && !self.seen.keys().any(answers) {
            self.down.clear();
        }
        self.measure();
    }

    fn tracks_of(&self, tenant: &Arc<str>) -> impl Iterator<Item = (&Track, &Unsettled)> {
        self.tracks.range((Arc::clone(tenant), None)..).take_while({
            let tenant = Arc::clone(tenant);
            move |((of, _), _)| *of == tenant
        })
    }

    /// Whether a track lacks a few steps, or is down.
    fn lacks_some(&self, track: &Track) -> bool {
        let total = self.tracks.get(track).map_or(0, |unsettled| unsettled.total());
        total >= STEPS_UNDER_WAY || self.down.contains(track)
    }

    /// Whether another track of the same tenant is further than this one, which lacks some steps or is down.
    fn is_behind(&self, track: &Track) -> bool {
        self.apart && track.1.is_some() && self.lacks_some(track) && self.has_ahead(&track.0)
    }

    /// Whether a track of a tenant with several lacks no more than is under way.
    fn has_ahead(&self, tenant: &Arc<str>) -> bool {
        let ahead = |endpoint: &Endpoint| !self.lacks_some(&(Arc::clone(tenant), Some(Arc::clone(&endpoint.name))));
        self.several.get(tenant).is_some_and(|endpoints| endpoints.iter().any(ahead))
    }

    fn measure(&mut self) {
        self.look_at_bounds();
        let mut lacking = 0;
        // Where all tracks of a tenant lack some steps, the one that lacks least sets the pace.
        let mut least: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for (track, unsettled) in self.tracks.iter().filter(|(track, _)| !self.down.contains(*track)) {
            // Carried batches do not count: a new owner must close steps to find out which receivers are up.
            if self.is_behind(track) {
                continue;
            }
            match self.apart && self.several.contains_key(&track.0) && !self.has_ahead(&track.0) {
                true => {
                    let least = least.entry(&track.0).or_insert(unsettled.steps);
                    *least = unsettled.steps.min(*least);
                }
                false => lacking = lacking.max(unsettled.steps),
            }
        }
        lacking = least.into_values().fold(lacking, usize::max);
        self.lacking = if self.must_wait() { lacking.max(STEPS_UNDER_WAY) } else { lacking };
    }

    /// A batch has been settled.
    pub(super) fn settled(&mut self, step: Millis, track: &Track) {
        let of = |steps: &mut Steps| steps.get_mut(&step)?.remove(track);
        let (mine, mut carried) = (of(&mut self.steps), None);
        if mine.is_none() {
            carried = of(&mut self.carried);
            self.carried.retain(|_, batches| !batches.is_empty());
        }
        let Some(unsettled) = self.tracks.get_mut(track) else { return };
        unsettled.steps -= usize::from(mine.is_some());
        unsettled.carried -= usize::from(carried.is_some());
        unsettled.bytes -= mine.iter().chain(&carried).map(StepBatch::bytes).sum::<usize>();
        let was_slowest = mine.is_some() && unsettled.steps + 1 == self.lacking;
        if unsettled.total() == 0 {
            self.tracks.remove(track);
        }
        if was_slowest || track.1.is_some() {
            self.measure();
        }
    }

    /// Takes the next step that is settled as a whole, if everything before it is.
    pub(super) fn next_acknowledged(&mut self) -> Option<Millis> {
        let entry = self.steps.first_entry().filter(|entry| entry.get().is_empty())?;
        Some(entry.remove_entry().0)
    }

    /// Whether something waits for a receiver that is neither skipped nor behind.
    pub(super) fn is_waiting(&self) -> bool {
        let waits = |track: &Track| !self.down.contains(track) && !self.is_behind(track);
        self.tracks.iter().any(|(track, unsettled)| unsettled.steps > 0 && waits(track))
    }

    /// Whether so many steps are in flight, `pending` steps not yet delivered included, that no further step should be
    /// closed.
    pub(super) fn full(&self, pending: usize) -> bool {
        self.lacking + pending >= STEPS_UNDER_WAY
    }

    /// The tenants that the next step is not for, in order: all their receivers are down.
    pub(super) fn left_out(&self) -> Vec<String> {
        let enough = |track: &Track| {
            let behind = self.tracks.get(track).map_or(0, |unsettled| unsettled.total());
            self.down.contains(track) && behind >= STEPS_UNDER_WAY
        };
        let all = |tenant: &Arc<str>| match self.several.get(tenant) {
            Some(several) => several.iter().all(|one| enough(&(Arc::clone(tenant), Some(Arc::clone(&one.name))))),
            None => enough(&(Arc::clone(tenant), None)),
        };
        let tenants: BTreeSet<&Arc<str>> = self.down.iter().map(|(tenant, _)| tenant).collect();
        tenants.into_iter().filter(|tenant| all(tenant)).map(|tenant| (**tenant).to_owned()).collect()
    }

    fn unsettled(&self) -> impl Iterator<Item = (&Track, &StepBatch)> {
        self.carried.values().chain(self.steps.values()).flatten()
    }

    /// Everything that is not settled, for a snapshot, by step and tenant: that of tenants with one endpoint, and that of
    /// the others.
    pub(super) fn undelivered(&self) -> (Vec<u8>, Vec<u8>) {
        let mut all: Vec<&StepBatch> = self.unsettled().map(|(_, batch)| batch).collect();
        all.sort_unstable_by(|a, b| (a.step, &a.tenant, &a.endpoint).cmp(&(b.step, &b.tenant, &b.endpoint)));
        let (apart, single): (Vec<&StepBatch>, Vec<_>) = all.into_iter().partition(|batch| batch.endpoint.is_some());
        (StepBatch::encode_all(single.into_iter()), StepBatch::encode_apart(apart.into_iter()))
    }

    /// A snapshot holds what was not settled up to `step`: these steps count as acknowledged.
    pub(super) fn held(&mut self, step: Millis) {
        let later = self.steps.split_off(&(step + 1));
        for (step, batches) in std::mem::replace(&mut self.steps, later) {
            for track in batches.keys() {
                if let Some(unsettled) = self.tracks.get_mut(track) {
                    (unsettled.steps, unsettled.carried) = (unsettled.steps - 1, unsettled.carried + 1);
                }
            }
            if !batches.is_empty() {
                self.carried.entry(step).or_default().extend(batches);
            }
        }
        self.measure();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::remotewrite::Request;

    fn alone(tenant: &str) -> Track {
        (tenant.into(), None)
    }

    fn batch(tenant: &str, step: Millis) -> StepBatch {
        let request = Request { body: vec![0; 9].into(), series: 1, samples: 1, exemplars: 0, starts: None };
        StepBatch { tenant: tenant.into(), endpoint: None, step, resend: false, requests: vec![request] }
    }

    fn deliver(d: &mut Delivering, step: Millis, tenants: &[&str]) {
        d.add(step, tenants.iter().map(|tenant| batch(tenant, step)).collect());
    }

    /// Tenants whose names begin so are not taken, while their receiver answers others.
    fn look(d: &mut Delivering, dead: &str) {
        d.look(|(tenant, _)| tenant.starts_with(dead), |_| false);
    }

    #[test]
    fn a_receiver_that_is_down_stops_closing_after_three_steps_when_there_is_no_other() {
        let mut d = Delivering::default();
        for step in 1..=3 {
            assert!(!d.full(0));
            deliver(&mut d, step, &["dead1", "dead2"]);
            look(&mut d, "dead");
        }
        assert!(d.full(0) && d.left_out().is_empty());
        d.settled(1, &alone("dead1"));
        assert!(d.full(0), "the receiver has the first step only in part");
        d.settled(1, &alone("dead2"));
        assert!(!d.full(0) && d.full(1));
    }

    #[test]
    fn the_slowest_receiver_that_answers_sets_the_pace() {
        let mut d = Delivering::default();
        for step in 1..=3 {
            deliver(&mut d, step, &["slow", "well"]);
            d.settled(step, &alone("well"));
            d.look(|_| false, |_| false);
        }
        assert!(d.full(0) && d.left_out().is_empty());
    }

    #[test]
    fn a_receiver_that_is_down_is_left_out_when_another_answers() {
        let mut d = Delivering::default();
        for step in 1..=3 {
            assert!(d.left_out().is_empty());
            deliver(&mut d, step, &["dead1", "dead2", "well"]);
            d.settled(step, &alone("well"));
            look(&mut d, "dead");
        }
        assert!(!d.full(2) && !d.is_waiting());
        assert_eq!(d.left_out(), ["dead1", "dead2"]);
        assert_eq!(d.next_acknowledged(), None, "no step is settled as a whole");
        // From here on a snapshot holds what the dead one lacks.
        let held = StepBatch::decode_all(&d.undelivered().0).expect("our own bytes");
        assert_eq!(
            held.iter().map(|b| (b.step, &*b.tenant)).collect::<Vec<_>>(),
            [(1, "dead1"), (1, "dead2"), (2, "dead1"), (2, "dead2"), (3, "dead1"), (3, "dead2"),]
        );
        d.held(3);
        deliver(&mut d, 4, &["well"]);
        d.settled(4, &alone("well"));
        assert_eq!(d.next_acknowledged(), Some(4));
        look(&mut d, "dead");
        assert_eq!(d.left_out(), ["dead1", "dead2"], "what is carried still waits");
        // A new owner stands where this one stood.
        let mut next = Delivering::default();
        next.carry(held);
        deliver(&mut next, 5, &["well"]);
        look(&mut next, "dead");
        assert_eq!(next.left_out(), ["dead1", "dead2"]);
        for d in [&mut d, &mut next] {
            d.look(|_| false, |_| false);
            d.settled(1, &alone("dead1"));
            d.settled(1, &alone("dead2"));
            assert!(d.left_out().is_empty() && !d.undelivered().0.is_empty());
        }
    }

    #[test]
    fn one_tenant_that_is_refused_is_left_out_alone_also_behind_a_url_that_others_share() {
        let mut d = Delivering::default();
        for step in 1..=3 {
            deliver(&mut d, step, &["a", "b"]);
            d.settled(step, &alone("b"));
            look(&mut d, "a");
        }
        assert_eq!((d.left_out(), d.full(2), d.full(3)), (vec!["a".to_owned()], false, true));
    }

    #[test]
    fn a_tenant_with_nothing_to_say_is_no_sign_that_a_receiver_answers() {
        let mut d = Delivering::default();
        deliver(&mut d, 1, &["busy", "idle"]);
        d.settled(1, &alone("idle"));
        for step in 2..=3 {
            deliver(&mut d, step, &["busy"]);
            d.look(|track| *track == alone("busy"), |_| true);
        }
        assert!(d.full(0) && d.left_out().is_empty(), "the receiver of both is dark");
        d.look(|track| *track == alone("busy"), |_| false);
        assert_eq!((d.full(0), d.left_out()), (false, vec!["busy".to_owned()]));
    }

    #[test]
    fn one_tenant_that_is_refused_is_left_out_when_the_others_have_all_steps_and_do_not_ask_any_more() {
        let mut d = Delivering::default();
        // A backlog: these steps are closed at once, so no answer comes later than the first failure.
        for step in 1..=3 {
            deliver(&mut d, step, &["a", "b"]);
            d.settled(step, &alone("b"));
        }
        d.look(|track| *track == alone("a"), |_| true);
        assert_eq!((d.left_out(), d.full(2)), (vec!["a".to_owned()], false));
        deliver(&mut d, 4, &["b"]);
        d.look(|track| *track == alone("a"), |_| true);
        assert!(d.full(0) && d.left_out().is_empty(), "one step asks whether the receiver answers at all");
        d.settled(4, &alone("b"));
        d.look(|track| *track == alone("a"), |_| false);
        assert_eq!((d.left_out(), d.full(2)), (vec!["a".to_owned()], false));
    }

    #[test]
    fn an_empty_step_is_acknowledged_after_those_before_it() {
        let mut d = Delivering::default();
        deliver(&mut d, 1, &["a"]);
        deliver(&mut d, 2, &[]);
        assert_eq!(d.next_acknowledged(), None);
        d.settled(1, &alone("a"));
        assert_eq!([d.next_acknowledged(), d.next_acknowledged(), d.next_acknowledged()], [Some(1), Some(2), None]);
    }
}
