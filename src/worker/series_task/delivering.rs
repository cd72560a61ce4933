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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::model::Millis;
use crate::core::remotewrite::StepBatch;

/// Steps that may be in flight to a tenant: then reading pauses, or it is skipped.
const STEPS_UNDER_WAY: usize = 3;
/// A tenant without a batch for so long, in event time, has no samples.
const UNUSED_AFTER: Millis = 3_600_000;

/// The closed steps that count and are not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Delivering {
    /// The batches that are not settled, by step and tenant. Their bytes are shared with the shard sender.
    steps: BTreeMap<Millis, BTreeMap<Arc<str>, StepBatch>>,
    /// The same of acknowledged steps: the latest snapshot holds them.
    carried: BTreeMap<Millis, BTreeMap<Arc<str>, StepBatch>>,
    /// How many batches of a tenant are in `steps`, and in `carried`.
    tenants: BTreeMap<Arc<str>, (usize, usize)>,
    /// The tenants in use, each with the newest step that had a batch for it.
    seen: BTreeMap<Arc<str>, Millis>,
    /// Tenants whose samples are not accepted while those of others are.
    down: BTreeSet<Arc<str>>,
    /// The steps that the slowest tenant lacks, of those that are not skipped.
    lacking: usize,
}

// === impl Delivering ===

impl Delivering {
    /// Takes the batches of a step.
    pub(super) fn add(&mut self, step: Millis, batches: Vec<StepBatch>) {
        let mut waiting = BTreeMap::new();
        for batch in batches {
            self.seen.insert(Arc::clone(&batch.tenant), step);
            self.tenants.entry(Arc::clone(&batch.tenant)).or_default().0 += 1;
            waiting.insert(Arc::clone(&batch.tenant), batch);
        }
        self.seen.retain(|_, seen| step - *seen <= UNUSED_AFTER);
        self.steps.insert(step, waiting);
        self.measure();
    }

    /// Takes the batches that a snapshot holds.
    pub(super) fn carry(&mut self, batches: Vec<StepBatch>) {
        for batch in batches {
            self.tenants.entry(Arc::clone(&batch.tenant)).or_default().1 += 1;
            self.carried.entry(batch.step).or_default().insert(Arc::clone(&batch.tenant), batch);
        }
    }

    /// The bytes of the batches that are not settled: those in flight, and those that wait for a receiver that is down.
    pub(super) fn bytes(&self) -> (usize, usize) {
        self.unsettled().fold((0, 0), |(leaving, staying), batch| {
            let bytes: usize = batch.requests.iter().map(|request| request.body.len()).sum();
            if self.down.contains(&batch.tenant) { (leaving, staying + bytes) } else { (leaving + bytes, staying) }
        })
    }

    /// Checks which tenants' samples are not accepted. `is_down` is about the tenant's own batches, `is_dark` about its
    /// receiver, for any tenant.
    pub(super) fn look(&mut self, is_down: impl Fn(&str) -> bool, is_dark: impl Fn(&str) -> bool) {
        self.down = self.tenants.keys().filter(|tenant| is_down(tenant)).cloned().collect();
        // A tenant without samples at the moment does not show that its receiver answers. But one that has its part of
        // the newest step sends no more requests: only the next step shows whether it would still be answered.
        let newest = self.seen.values().max();
        let has_all = |tenant: &Arc<str>| self.seen.get(tenant) == newest && !self.tenants.contains_key(tenant);
        let answers = |tenant: &Arc<str>| !self.down.contains(tenant) && (!is_dark(tenant) || has_all(tenant));
        if !self.down.is_empty() && !self.seen.keys().any(answers) {
            self.down.clear();
        }
        self.measure();
    }

    fn measure(&mut self) {
        // Carried batches do not count: a new owner must close steps to find out which receivers are up.
        let up = self.tenants.iter().filter(|(tenant, _)| !self.down.contains(*tenant));
        self.lacking = up.map(|(_, (steps, _))| *steps).max().unwrap_or_default();
    }

    /// A batch has been settled.
    pub(super) fn settled(&mut self, step: Millis, tenant: &str) {
        let of = |steps: &mut BTreeMap<Millis, BTreeMap<Arc<str>, StepBatch>>| steps.get_mut(&step)?.remove(tenant);
        let (mine, mut carried) = (of(&mut self.steps), None);
        if mine.is_none() {
            carried = of(&mut self.carried);
            self.carried.retain(|_, batches| !batches.is_empty());
        }
        let Some((of_steps, of_carried)) = self.tenants.get_mut(tenant) else { return };
        *of_steps -= usize::from(mine.is_some());
        *of_carried -= usize::from(carried.is_some());
        let was_slowest = mine.is_some() && *of_steps + 1 == self.lacking;
        if (*of_steps, *of_carried) == (0, 0) {
            self.tenants.remove(tenant);
        }
        if was_slowest {
            self.measure();
        }
    }

    /// Takes the next step that is settled as a whole, if everything before it is.
    pub(super) fn next_acknowledged(&mut self) -> Option<Millis> {
        let entry = self.steps.first_entry().filter(|entry| entry.get().is_empty())?;
        Some(entry.remove_entry().0)
    }

    /// Whether something waits for a receiver that is not skipped.
    pub(super) fn is_waiting(&self) -> bool {
        let is_up = |tenant: &Arc<str>| !self.down.contains(tenant);
        self.tenants.iter().any(|(tenant, (steps, _))| *steps > 0 && is_up(tenant))
    }

    /// Whether so many steps are in flight, `pending` steps not yet delivered included, that no further step should be
    /// closed.
    pub(super) fn full(&self, pending: usize) -> bool {
        self.lacking + pending >= STEPS_UNDER_WAY
    }

    /// The tenants that the next step is not for, in order.
    pub(super) fn left_out(&self) -> Vec<String> {
        let behind = |tenant: &str| self.tenants.get(tenant).map_or(0, |(steps, carried)| steps + carried);
        let enough = self.down.iter().filter(|tenant| behind(tenant) >= STEPS_UNDER_WAY);
        enough.map(|tenant| (**tenant).to_owned()).collect()
    }

    fn unsettled(&self) -> impl Iterator<Item = &StepBatch> {
        self.carried.values().chain(self.steps.values()).flat_map(BTreeMap::values)
    }

    /// Everything that is not settled, for a snapshot: by step and tenant.
    pub(super) fn undelivered(&self) -> Vec<u8> {
        let mut all: Vec<&StepBatch> = self.unsettled().collect();
        all.sort_unstable_by(|a, b| (a.step, &a.tenant).cmp(&(b.step, &b.tenant)));
        StepBatch::encode_all(all.into_iter())
    }

    /// A snapshot holds what was not settled up to `step`: these steps count as acknowledged.
    pub(super) fn held(&mut self, step: Millis) {
        let later = self.steps.split_off(&(step + 1));
        for (step, batches) in std::mem::replace(&mut self.steps, later) {
            for tenant in batches.keys() {
                if let Some((of_steps, of_carried)) = self.tenants.get_mut(tenant) {
                    (*of_steps, *of_carried) = (*of_steps - 1, *of_carried + 1);
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

    fn batch(tenant: &str, step: Millis) -> StepBatch {
        let request = Request { body: vec![0; 9].into(), series: 1, samples: 1, exemplars: 0, starts: None };
        StepBatch { tenant: tenant.into(), step, resend: false, requests: vec![request] }
    }

    fn deliver(d: &mut Delivering, step: Millis, tenants: &[&str]) {
        d.add(step, tenants.iter().map(|tenant| batch(tenant, step)).collect());
    }

    /// Tenants whose names begin so are not taken, while their receiver answers others.
    fn look(d: &mut Delivering, dead: &str) {
        d.look(|tenant| tenant.starts_with(dead), |_| false);
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
            d.settled(step, "well");
            look(&mut d, "dead");
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
            d.settled(1, "dead1");
            d.settled(1, "dead2");
            assert!(d.left_out().is_empty() && !d.undelivered().is_empty());
        }
    }

    #[test]
    fn one_tenant_that_is_refused_is_left_out_alone_also_behind_a_url_that_others_share() {
        let mut d = Delivering::default();
        for step in 1..=3 {
            deliver(&mut d, step, &["a", "b"]);
            d.settled(step, "b");
            look(&mut d, "a");
        }
        assert_eq!((d.left_out(), d.full(2), d.full(3)), (vec!["a".to_owned()], false, true));
    }

    #[test]
    fn a_tenant_with_nothing_to_say_is_no_sign_that_a_receiver_answers() {
        let mut d = Delivering::default();
        deliver(&mut d, 1, &["busy", "idle"]);
        d.settled(1, "idle");
        for step in 2..=3 {
            deliver(&mut d, step, &["busy"]);
            d.look(|tenant| tenant == "busy", |_| true);
        }
        assert!(d.full(0) && d.left_out().is_empty(), "the receiver of both is dark");
        d.look(|tenant| tenant == "busy", |_| false);
        assert_eq!((d.full(0), d.left_out()), (false, vec!["busy".to_owned()]));
    }

    #[test]
    fn one_tenant_that_is_refused_is_left_out_when_the_others_have_all_steps_and_do_not_ask_any_more() {
        let mut d = Delivering::default();
        // A backlog: these steps are closed at once, so no answer comes later than the first failure.
        for step in 1..=3 {
            deliver(&mut d, step, &["a", "b"]);
            d.settled(step, "b");
        }
        d.look(|tenant| tenant == "a", |_| true);
        assert_eq!((d.left_out(), d.full(2)), (vec!["a".to_owned()], false));
        deliver(&mut d, 4, &["b"]);
        d.look(|tenant| tenant == "a", |_| true);
        assert!(d.full(0) && d.left_out().is_empty(), "one step asks whether the receiver answers at all");
        d.settled(4, "b");
        d.look(|tenant| tenant == "a", |_| false);
        assert_eq!((d.left_out(), d.full(2)), (vec!["a".to_owned()], false));
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
