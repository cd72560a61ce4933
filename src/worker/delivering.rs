//! The steps of a shard that receivers do not have yet: how many there may be, and what happens while a receiver is down.
//!
//! A step is acknowledged when all its batches are settled, those of every tenant; steps are acknowledged in order. Each
//! endpoint has a track of its own, and the slowest sets the pace: a few steps may be under way, then reading pauses, and
//! the deltas topic is the buffer. When all receivers are down, that is all; nothing is left out.
//!
//! When one is down and others are not, it must not hold them back, and its backlog must not grow. So after those few
//! steps its tenants are *left out*: further steps are not written for them, and the mark of the step says so. The batches
//! that wait already are *carried*: the next snapshot holds them, so that their steps can be called acknowledged, and a
//! new owner sends them again. When the receiver is back, the next step tells it all totals.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::export::{EndpointId, Lane};
use crate::model::Millis;
use crate::model::hash::Map;
use crate::remotewrite::StepBatch;

/// Steps that may be under way to a receiver: then reading pauses, or the receiver is left out.
const STEPS_UNDER_WAY: usize = 3;
/// A track without a batch for so long, in event time, is not in use.
const UNUSED_AFTER: Millis = 3_600_000;

/// The closed steps that count and are not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Delivering {
    steps: BTreeMap<Millis, Vec<Waiting>>,
    /// Batches of acknowledged steps, which the latest snapshot holds.
    carried: Vec<Waiting>,
    /// What no track has taken yet.
    outboxes: BTreeMap<EndpointId, VecDeque<StepBatch>>,
    /// Where a tenant's unsettled batches are, and how many: the next ones follow them, whatever the routes say now.
    tenants: Map<Arc<str>, (EndpointId, usize)>,
    /// The tracks in use, each with the newest step that had a batch for it.
    seen: BTreeMap<EndpointId, Millis>,
    /// The tracks whose receiver is down while another is not.
    down: BTreeSet<EndpointId>,
    /// The steps that the slowest receiver lacks, of those that are not left out.
    lacking: usize,
}

/// A batch that is not settled. Its bytes are shared with the lane.
#[derive(Debug)]
struct Waiting {
    batch: StepBatch,
    track: EndpointId,
}

// === impl Delivering ===

impl Delivering {
    /// Takes the batches of a step. `track` tells which way a tenant's samples take.
    pub(super) fn add(&mut self, step: Millis, batches: Vec<StepBatch>, track: impl Fn(&str) -> EndpointId) {
        let waiting: Vec<Waiting> = batches.into_iter().map(|batch| self.wait(batch, &track)).collect();
        self.seen.extend(waiting.iter().map(|waiting| (waiting.track, step)));
        self.seen.retain(|_, seen| step - *seen <= UNUSED_AFTER);
        self.steps.insert(step, waiting);
        self.measure();
    }

    /// Takes the batches that a snapshot holds.
    pub(super) fn carry(&mut self, batches: Vec<StepBatch>, track: impl Fn(&str) -> EndpointId) {
        let waiting: Vec<Waiting> = batches.into_iter().map(|batch| self.wait(batch, &track)).collect();
        self.carried.extend(waiting);
    }

    fn wait(&mut self, batch: StepBatch, track: impl Fn(&str) -> EndpointId) -> Waiting {
        let entry = self.tenants.entry(Arc::clone(&batch.tenant));
        let (track, unsettled) = entry.or_insert_with(|| (track(&batch.tenant), 0));
        *unsettled += 1;
        self.outboxes.entry(*track).or_default().push_back(batch.clone());
        Waiting { batch, track: *track }
    }

    /// Hands batches over, in order, until no track takes more.
    pub(super) fn send(&mut self, lane: &Lane) {
        self.outboxes.retain(|_, outbox| {
            while let Some(batch) = outbox.pop_front() {
                if let Err(refused) = lane.try_send(batch) {
                    outbox.push_front(refused);
                    break;
                }
            }
            !outbox.is_empty()
        });
    }

    /// Looks which receivers are down.
    pub(super) fn look(&mut self, is_down: impl Fn(EndpointId) -> bool) {
        self.down = self.tenants.values().map(|(track, _)| *track).filter(|track| is_down(*track)).collect();
        if self.seen.keys().all(|track| self.down.contains(track)) {
            self.down.clear();
        }
        self.measure();
    }

    fn measure(&mut self) {
        // What is carried does not count: a new owner must close steps to learn which receivers there are.
        let mut steps: BTreeMap<EndpointId, BTreeSet<Millis>> = BTreeMap::new();
        for waiting in self.steps.values().flatten().filter(|waiting| !self.down.contains(&waiting.track)) {
            steps.entry(waiting.track).or_default().insert(waiting.batch.step);
        }
        self.lacking = steps.values().map(BTreeSet::len).max().unwrap_or_default();
    }

    /// The bytes of the batches that are not settled.
    pub(super) fn bytes(&self) -> usize {
        self.unsettled().flat_map(|waiting| &waiting.batch.requests).map(|request| request.body.len()).sum()
    }

    /// A batch has been settled.
    pub(super) fn settled(&mut self, step: Millis, tenant: &str) {
        let is_it = |waiting: &Waiting| waiting.batch.step == step && &*waiting.batch.tenant == tenant;
        let waiting = match self.steps.get_mut(&step) {
            Some(waiting) => waiting,
            None => &mut self.carried,
        };
        let Some(at) = waiting.iter().position(is_it) else { return };
        waiting.remove(at);
        if let Some((_, unsettled)) = self.tenants.get_mut(tenant) {
            *unsettled -= 1;
            if *unsettled == 0 {
                self.tenants.remove(tenant);
            }
        }
        self.measure();
    }

    /// Takes the next step that is settled as a whole, if everything before it is.
    pub(super) fn next_acknowledged(&mut self) -> Option<Millis> {
        let entry = self.steps.first_entry().filter(|entry| entry.get().is_empty())?;
        Some(entry.remove_entry().0)
    }

    /// Whether something waits for a receiver that is not left out.
    pub(super) fn is_waiting(&self) -> bool {
        self.steps.values().flatten().any(|waiting| !self.down.contains(&waiting.track))
    }

    /// Whether so much is under way, `pending` steps not yet delivered included, that no further step should be closed.
    pub(super) fn full(&self, pending: usize) -> bool {
        self.lacking + pending >= STEPS_UNDER_WAY
    }

    /// The tenants that the next step is not for, in order.
    pub(super) fn left_out(&self) -> Vec<String> {
        let enough = |track: &&EndpointId| behind(**track, self.unsettled()) >= STEPS_UNDER_WAY;
        let tracks: BTreeSet<&EndpointId> = self.down.iter().filter(enough).collect();
        let tenants = self.tenants.iter().filter(|(_, (track, _))| tracks.contains(track));
        let mut tenants: Vec<String> = tenants.map(|(tenant, _)| (**tenant).to_owned()).collect();
        tenants.sort_unstable();
        tenants
    }

    fn unsettled(&self) -> impl Iterator<Item = &Waiting> {
        self.carried.iter().chain(self.steps.values().flatten())
    }

    /// Everything that is not settled, for a snapshot.
    pub(super) fn undelivered(&self) -> Vec<u8> {
        StepBatch::encode_all(self.unsettled().map(|waiting| &waiting.batch))
    }

    /// A snapshot holds what was not settled up to `step`: these steps count as acknowledged.
    pub(super) fn held(&mut self, step: Millis) {
        let later = self.steps.split_off(&(step + 1));
        let earlier = std::mem::replace(&mut self.steps, later);
        self.carried.extend(earlier.into_values().flatten());
        self.measure();
    }
}

/// The steps with a batch that waits on a track.
fn behind<'a>(track: EndpointId, waiting: impl Iterator<Item = &'a Waiting>) -> usize {
    let steps: BTreeSet<Millis> = waiting.filter(|w| w.track == track).map(|w| w.batch.step).collect();
    steps.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remotewrite::Request;

    fn batch(tenant: &str, step: Millis) -> StepBatch {
        let request = Request { body: vec![0; 9].into(), series: 1, samples: 1, exemplars: 0 };
        StepBatch { tenant: tenant.into(), step, resend: false, requests: vec![request] }
    }

    /// Tenants whose names begin alike share an endpoint.
    fn endpoint(tenant: &str) -> EndpointId {
        tenant.bytes().next().unwrap_or_default().into()
    }

    fn deliver(d: &mut Delivering, step: Millis, tenants: &[&str]) {
        d.add(step, tenants.iter().map(|tenant| batch(tenant, step)).collect(), endpoint);
    }

    fn only_dead(track: EndpointId) -> bool {
        track == endpoint("dead")
    }

    #[test]
    fn a_receiver_that_is_down_stops_closing_after_three_steps_when_there_is_no_other() {
        let mut d = Delivering::default();
        for step in 1..=3 {
            assert!(!d.full(0));
            deliver(&mut d, step, &["dead1", "dead2"]);
            d.look(only_dead);
        }
        assert!(d.full(0) && d.left_out().is_empty());
        d.settled(1, "dead1");
        assert!(d.full(0), "the receiver has the first step only in part");
        d.settled(1, "dead2");
        assert!(!d.full(0) && d.full(1));
    }

    #[test]
    fn the_slowest_receiver_that_answers_sets_the_pace() {
        let mut d = Delivering::default();
        for step in 1..=3 {
            deliver(&mut d, step, &["slow", "well"]);
            d.settled(step, "well");
            d.look(|_| false);
        }
        assert!(d.full(0) && d.left_out().is_empty());
    }

    #[test]
    fn a_receiver_that_is_down_is_left_out_when_another_answers() {
        let mut d = Delivering::default();
        for step in 1..=3 {
            assert!(d.left_out().is_empty());
            deliver(&mut d, step, &["dead1", "dead2", "well"]);
            d.settled(step, "well");
            d.look(only_dead);
        }
        assert!(!d.full(2) && !d.is_waiting());
        assert_eq!(d.left_out(), ["dead1", "dead2"]);
        assert_eq!(d.next_acknowledged(), None, "no step is settled as a whole");
        // From here on a snapshot holds what the dead one lacks.
        let held = StepBatch::decode_all(&d.undelivered()).expect("our own bytes");
        assert_eq!(
            held.iter().map(|b| (b.step, &*b.tenant)).collect::<Vec<_>>(),
            [(1, "dead1"), (1, "dead2"), (2, "dead1"), (2, "dead2"), (3, "dead1"), (3, "dead2"),]
        );
        d.held(3);
        deliver(&mut d, 4, &["well"]);
        d.settled(4, "well");
        assert_eq!(d.next_acknowledged(), Some(4));
        d.look(only_dead);
        assert_eq!(d.left_out(), ["dead1", "dead2"], "what is carried still waits");
        // A new owner stands where this one stood.
        let mut next = Delivering::default();
        next.carry(held, endpoint);
        deliver(&mut next, 5, &["well"]);
        next.look(only_dead);
        assert_eq!(next.left_out(), ["dead1", "dead2"]);
        for d in [&mut d, &mut next] {
            d.look(|_| false);
            d.settled(1, "dead1");
            d.settled(1, "dead2");
            assert!(d.left_out().is_empty() && !d.undelivered().is_empty());
        }
    }

    #[test]
    fn a_tenants_batches_wait_in_one_row_even_when_its_way_changes() {
        let mut d = Delivering::default();
        d.add(1, vec![batch("t", 1)], |_| 7);
        d.add(2, vec![batch("t", 2)], |_| 8);
        assert_eq!(d.outboxes.keys().collect::<Vec<_>>(), [&7]);
        d.settled(1, "t");
        d.settled(2, "t");
        d.add(3, vec![batch("t", 3)], |_| 8);
        assert_eq!(d.outboxes.keys().collect::<Vec<_>>(), [&7, &8]);
    }

    #[test]
    fn an_empty_step_is_acknowledged_after_those_before_it() {
        let mut d = Delivering::default();
        deliver(&mut d, 1, &["a"]);
        deliver(&mut d, 2, &[]);
        assert_eq!(d.next_acknowledged(), None);
        d.settled(1, "a");
        assert_eq!([d.next_acknowledged(), d.next_acknowledged(), d.next_acknowledged()], [Some(1), Some(2), None]);
    }
}
