//! How many requests a tenant has in flight at an endpoint, over all shards: found by additive increase and multiplicative
//! decrease.
//!
//! It begins at the least number and doubles with each round of answers, until the receiver is overloaded for the first time or
//! answers slowly; from then on it grows by one a round. It is halved when the receiver is overloaded (429, 5xx, no answer in
//! time), once for all requests that were in flight then. It grows only while all of it is used and answers take at most twice as
//! long as usual.
//!
//! It is per tenant, because receivers limit tenants: one over its limit must not slow the others down. `max_in_flight` of the
//! endpoint bounds all of them together.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::client::{Answer, Failure};
use super::dialect::is_unread;
use crate::worker::telemetry::InFlight;

/// Answers that take longer than usual by this factor are a sign of load.
const SLOW: u32 = 2;
/// The part of a longer time by which the usual one grows: shorter ones count at once.
const DRIFT: u32 = 64;

/// The requests of one tenant at one endpoint.
#[derive(Debug)]
pub(super) struct Concurrency {
    slots: Semaphore,
    state: Mutex<State>,
    least: usize,
    most: usize,
    /// Where the limit is shown.
    shown: Option<InFlight>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// Slots that are in use and are not given back, because the limit has fallen meanwhile.
    owed: usize,
    /// Good answers since the limit has changed; with enough of them, it grows.
    good: usize,
    /// It was never overloaded, so the limit doubles.
    doubles: bool,
    /// The number of times that the limit was halved.
    halved: u64,
    /// What an answer takes without load.
    usual: Option<Duration>,
}

/// The permit for one request of the tenant.
pub(super) struct Slot<'a> {
    of: &'a Concurrency,
    permit: Option<SemaphorePermit<'a>>,
    /// See [`State::halved`].
    halved: u64,
}

/// What an answer shows about the load of the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    Fine,
    Overloaded,
    /// The request has not arrived.
    Unknown,
}

// === impl Concurrency ===

impl Concurrency {
    /// Between `least`, where it begins, and `most`.
    pub(super) fn new(least: usize, most: usize) -> Self {
        let (least, most) = (least.clamp(1, most.max(1)), most.max(1));
        let state = State { limit: least, owed: 0, good: 0, doubles: true, halved: 0, usual: None };
        Self { slots: Semaphore::new(least), state: Mutex::new(state), least, most, shown: None }
    }

    /// The same, whose limit a gauge shows.
    pub(super) fn shown_by(mut self, gauges: InFlight) -> Self {
        gauges.limit_changes(self.least as i64);
        self.shown = Some(gauges);
        self
    }

    fn show(&self, by: i64) {
        if let Some(gauges) = &self.shown {
            gauges.limit_changes(by);
        }
    }

    /// Waits for a slot, in order.
    pub(super) async fn slot(&self) -> Slot<'_> {
        // It is never closed.
        let permit = self.slots.acquire().await.ok();
        let halved = self.state().halved;
        Slot { of: self, permit, halved }
    }

    /// How many requests there may be now.
    #[cfg(test)]
    fn limit(&self) -> usize {
        self.state().limit
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Slot ===

impl Slot<'_> {
    /// The request was answered, or not, after so long.
    pub(super) fn answered(&self, load: Load, took: Duration) {
        let all_used = self.of.slots.available_permits() == 0;
        let mut state = self.of.state();
        match load {
            Load::Unknown => {}
            Load::Overloaded if self.halved == state.halved => {
                let limit = (state.limit / 2).max(self.of.least);
                // What is not free is taken back later.
                let gone = state.limit - limit;
                state.owed += gone - self.of.slots.forget_permits(gone);
                (state.limit, state.good, state.doubles) = (limit, 0, false);
                state.halved += 1;
                self.of.show(-(gone as i64));
            }
            // It was in flight when the limit was halved.
            Load::Overloaded => {}
            Load::Fine => {
                let slow = state.is_slow(took);
                state.doubles &= !slow;
                if slow || !all_used || state.limit >= self.of.most {
                    return;
                }
                state.good += 1;
                if state.doubles || state.good >= state.limit {
                    (state.limit, state.good) = (state.limit + 1, 0);
                    self.of.show(1);
                    match state.owed.checked_sub(1) {
                        Some(less) => state.owed = less,
                        None => self.of.slots.add_permits(1),
                    }
                }
            }
        }
    }
}

impl Drop for Concurrency {
    fn drop(&mut self) {
        self.show(-(self.state().limit as i64));
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.of.state();
        if state.owed > 0
            && let Some(permit) = self.permit.take()
        {
            state.owed -= 1;
            permit.forget();
        }
    }
}

// === impl State ===

impl State {
    /// Takes the time of an answer; returns whether it is long.
    fn is_slow(&mut self, took: Duration) -> bool {
        let usual = self.usual.map_or(took, |usual| if took < usual { took } else { usual + (took - usual) / DRIFT });
        let slow = self.usual.is_some_and(|before| took > before * SLOW);
        self.usual = Some(usual);
        slow
    }
}

// === impl Load ===

impl Load {
    /// What the result of an attempt shows.
    pub(super) fn of(tried: &Result<Answer, Failure>) -> Self {
        match tried {
            Ok(answer) if matches!(answer.status, 408 | 429 | 500..=599) => Self::Overloaded,
            // It reads nothing.
            Ok(answer) if is_unread(answer) => Self::Unknown,
            Ok(_) => Self::Fine,
            Err(Failure::NoAnswer(_)) => Self::Overloaded,
            Err(_) => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(10);

    /// A round: as many requests as there may be, which all get the same answer. Returns how many they were.
    async fn round(concurrency: &Concurrency, load: Load, took: Duration) -> usize {
        let mut slots = Vec::new();
        while slots.len() < concurrency.limit() {
            slots.push(concurrency.slot().await);
        }
        assert_eq!(concurrency.slots.available_permits(), 0, "not one more");
        slots.iter().for_each(|slot| slot.answered(load, took));
        slots.len()
    }

    #[tokio::test]
    async fn it_doubles_until_the_first_overload_and_then_grows_by_one_a_round() {
        let concurrency = Concurrency::new(2, 64);
        let mut rounds = Vec::new();
        for _ in 0..4 {
            rounds.push(round(&concurrency, Load::Fine, QUICK).await);
        }
        // Slots that were added in a round are free, so only a part of it counts.
        assert_eq!((rounds[0], rounds.is_sorted_by(|a, b| a < b)), (2, true), "{rounds:?}");
        let before = concurrency.limit();
        assert_eq!(round(&concurrency, Load::Overloaded, QUICK).await, before);
        assert_eq!(concurrency.limit(), before / 2, "halved once, not once for each of them");
        let halved = concurrency.limit();
        for more in 1..=3 {
            round(&concurrency, Load::Fine, QUICK).await;
            assert_eq!(concurrency.limit(), halved + more);
        }
    }

    #[tokio::test]
    async fn it_stays_within_its_bounds_and_no_slot_is_lost_or_gained() {
        let concurrency = Concurrency::new(3, 9);
        for i in 0..200u32 {
            let load = if i.is_multiple_of(17) { Load::Overloaded } else { Load::Fine };
            round(&concurrency, load, QUICK).await;
            assert!((3..=9).contains(&concurrency.limit()), "{}", concurrency.limit());
            assert_eq!(concurrency.slots.available_permits(), concurrency.limit());
        }
    }

    #[tokio::test]
    async fn slow_answers_and_unused_slots_do_not_let_it_grow() {
        let concurrency = Concurrency::new(4, 64);
        round(&concurrency, Load::Fine, QUICK).await;
        let limit = concurrency.limit();
        for _ in 0..5 {
            round(&concurrency, Load::Fine, QUICK * 5).await;
            round(&concurrency, Load::Unknown, QUICK).await;
            concurrency.slot().await.answered(Load::Fine, QUICK);
        }
        assert_eq!(concurrency.limit(), limit);
    }

    #[test]
    fn overload_is_what_more_requests_make_worse() {
        let answered = |status| Load::of(&Ok(Answer { status, ..Answer::default() }));
        for (load, all) in [
            (Load::Overloaded, &[408, 429, 500, 502, 503, 504, 529][..]),
            (Load::Fine, &[200, 204, 400, 401, 404, 409, 413, 415][..]),
        ] {
            all.iter().for_each(|status| assert_eq!(answered(*status), load, "{status}"));
        }
        assert_eq!(Load::of(&Err(Failure::NoAnswer(String::new()))), Load::Overloaded);
        assert_eq!(Load::of(&Err(Failure::NotSent(String::new()))), Load::Unknown);
    }
}
