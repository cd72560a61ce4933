//! The steps of a shard that receivers do not have yet, and when there are enough of them.
//!
//! A step is acknowledged when all its batches are settled, those of every tenant; only then may a mark call it so, and
//! steps are acknowledged in order. Sending is freer: each endpoint has a track of its own. While one of them does not
//! answer, the others go on receiving new steps, and its batches wait here, up to a limit. What is beyond waits in the
//! deltas topic, for everybody: nothing is ever left out. So a dead receiver of one tenant holds the others back only after
//! [`STEPS_BEHIND`] steps, or [`BYTES_BEHIND`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::export::{EndpointId, Lane};
use crate::model::Millis;
use crate::model::hash::Map;
use crate::remotewrite::StepBatch;

/// Steps that may be under way to every receiver before reading pauses.
const STEPS_UNDER_WAY: usize = 3;
/// Steps that a receiver may be behind before it holds the others back.
const STEPS_BEHIND: usize = 20;
/// Bytes that may wait for receivers that are further behind than the others.
const BYTES_BEHIND: usize = 8 << 20;

/// The closed steps that count and are not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Delivering {
    steps: BTreeMap<Millis, Vec<Waiting>>,
    /// What no track has taken yet.
    outboxes: BTreeMap<EndpointId, VecDeque<StepBatch>>,
    /// Where a tenant's unsettled batches are, and how many: the next ones follow them, whatever the routes say now.
    tenants: Map<Arc<str>, (EndpointId, usize)>,
    bytes: usize,
    /// The tracks of the newest step with batches.
    current: BTreeSet<EndpointId>,
}

/// A batch that is not settled.
#[derive(Debug)]
struct Waiting {
    tenant: Arc<str>,
    track: EndpointId,
    bytes: usize,
}

// === impl Delivering ===

impl Delivering {
    /// Takes the batches of a step. `track` tells which way a tenant's samples take.
    pub(super) fn add(&mut self, step: Millis, batches: Vec<StepBatch>, track: impl Fn(&str) -> EndpointId) {
        let mut waiting = Vec::with_capacity(batches.len());
        for batch in batches {
            let tenant = Arc::clone(&batch.tenant);
            let (track, unsettled) = self.tenants.entry(tenant).or_insert_with(|| (track(&batch.tenant), 0));
            *unsettled += 1;
            let bytes = batch.requests.iter().map(|request| request.body.len()).sum();
            self.bytes += bytes;
            waiting.push(Waiting { tenant: Arc::clone(&batch.tenant), track: *track, bytes });
            self.outboxes.entry(*track).or_default().push_back(batch);
        }
        if !waiting.is_empty() {
            self.current = waiting.iter().map(|batch| batch.track).collect();
        }
        self.steps.insert(step, waiting);
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

    /// A batch has been settled.
    pub(super) fn settled(&mut self, step: Millis, tenant: &str) {
        let Some(waiting) = self.steps.get_mut(&step) else { return };
        let Some(at) = waiting.iter().position(|batch| &*batch.tenant == tenant) else { return };
        self.bytes -= waiting.swap_remove(at).bytes;
        if let Some((_, unsettled)) = self.tenants.get_mut(tenant) {
            *unsettled -= 1;
            if *unsettled == 0 {
                self.tenants.remove(tenant);
            }
        }
    }

    /// Takes the next step that is settled as a whole, if everything before it is.
    pub(super) fn next_acknowledged(&mut self) -> Option<Millis> {
        let entry = self.steps.first_entry().filter(|entry| entry.get().is_empty())?;
        Some(entry.remove_entry().0)
    }

    /// Whether everything is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether so much is under way, `pending` steps not yet delivered included, that no further step should be closed.
    pub(super) fn full(&self, pending: usize) -> bool {
        let behind = self.steps.len() + pending;
        // The track that is least behind sets the pace.
        let least = self.current.iter().map(|track| self.behind(*track)).min().unwrap_or_default();
        least + pending >= STEPS_UNDER_WAY
            || behind >= STEPS_BEHIND
            || (behind >= STEPS_UNDER_WAY && self.bytes >= BYTES_BEHIND)
    }

    /// The steps that are not settled on a track.
    fn behind(&self, track: EndpointId) -> usize {
        self.steps.values().filter(|waiting| waiting.iter().any(|batch| batch.track == track)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remotewrite::Request;

    fn batch(tenant: &str, step: Millis, bytes: usize) -> StepBatch {
        let request = Request { body: vec![0; bytes].into(), series: 1, samples: 1, exemplars: 0 };
        StepBatch { tenant: tenant.into(), step, resend: false, requests: vec![request] }
    }

    /// Tenants whose names begin alike share an endpoint.
    fn endpoint(tenant: &str) -> EndpointId {
        tenant.bytes().next().unwrap_or_default().into()
    }

    fn deliver(d: &mut Delivering, step: Millis, tenants: &[&str]) {
        d.add(step, tenants.iter().map(|tenant| batch(tenant, step, 10)).collect(), endpoint);
    }

    #[test]
    fn one_receiver_that_is_down_stops_closing_after_three_steps() {
        let mut d = Delivering::default();
        for step in 1..=3 {
            assert!(!d.full(0));
            deliver(&mut d, step, &["a1", "a2"]);
        }
        assert!(d.full(0));
        d.settled(1, "a1");
        assert!(d.full(0), "the endpoint has the first step only in part");
        d.settled(1, "a2");
        assert!(!d.full(0) && d.full(1));
    }

    #[test]
    fn a_dead_receiver_holds_the_others_back_only_after_many_steps() {
        let mut d = Delivering::default();
        let mut closed = 0;
        while !d.full(0) {
            closed += 1;
            deliver(&mut d, closed, &["dead", "well"]);
            d.settled(closed, "well");
        }
        assert_eq!(closed, STEPS_BEHIND as Millis);
        assert_eq!(d.next_acknowledged(), None, "no step is settled as a whole");
        for step in 1..=closed {
            d.settled(step, "dead");
            assert_eq!(d.next_acknowledged(), Some(step));
        }
        assert!(d.is_empty() && d.bytes == 0);
    }

    #[test]
    fn what_waits_for_a_dead_receiver_is_bounded_in_bytes() {
        let mut d = Delivering::default();
        for step in 1..=4 {
            assert!(!d.full(0), "{step}");
            d.add(step, vec![batch("dead", step, BYTES_BEHIND / 4), batch("well", step, 1)], endpoint);
            d.settled(step, "well");
        }
        assert!(d.full(0));
    }

    #[test]
    fn a_tenants_batches_wait_in_one_row_even_when_its_way_changes() {
        let mut d = Delivering::default();
        d.add(1, vec![batch("t", 1, 1)], |_| 7);
        d.add(2, vec![batch("t", 2, 1)], |_| 8);
        assert_eq!(d.outboxes.keys().collect::<Vec<_>>(), [&7]);
        d.settled(1, "t");
        d.settled(2, "t");
        d.add(3, vec![batch("t", 3, 1)], |_| 8);
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
