//! The model check of the whole protocol: span tasks, series tasks, their journals, the deltas topic and the receiver,
//! under random schedules of crashes, zombies, take-overs, delayed, doubled and lost records, acknowledgements without an
//! offset, cut journals and receiver outages. The decisions are the product's own; the rest is made of vectors.
//!
//! `TEST_SCHEDULES=20000` checks more schedules, `TEST_SEED=17` only this one.

mod simulation {
    pub(crate) mod mutation;
    pub(crate) mod net;
    pub(crate) mod oracle;
    pub(crate) mod rng;
    pub(crate) mod series_actor;
    pub(crate) mod session;
    pub(crate) mod share;
    pub(crate) mod sink;
    pub(crate) mod source;
    pub(crate) mod span_actor;
    pub(crate) mod world;
}

use std::panic::catch_unwind;

use simulation::mutation::Mutation;
use simulation::world::{Tally, World};

#[expect(clippy::disallowed_methods, reason = "how many schedules is the caller's choice")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().expect("TEST_SEED and TEST_SCHEDULES are numbers"))
}

#[test]
fn every_schedule_ends_with_exact_totals_and_no_contradicted_sample() {
    let seeds = match number("TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TEST_SCHEDULES").unwrap_or(3_000),
    };
    let whole = number("TEST_SEED").is_none();
    let mut tally = Tally::default();
    for seed in seeds {
        let run = catch_unwind(|| World::new(seed, Mutation::None).run());
        match run.unwrap_or_else(|_| Err("panicked, see above".to_owned())) {
            Ok(run) => tally.add(&run),
            Err(what) => {
                panic!("schedule {seed}: {what}\nreplay: TEST_SEED={seed} cargo test --test simulation every")
            }
        }
    }
    println!("{tally:#?}");
    // A schedule in which nothing goes wrong proves nothing.
    assert!(!whole || tally.has_seen_everything(), "some kind of trouble never happened: {tally:#?}");
}

/// Runs schedules with one rule switched off. The seeds and the words of those that noticed.
fn caught(mutation: Mutation) -> Vec<(u64, String)> {
    (0..MUTATED).filter_map(|seed| World::new(seed, mutation).run().err().map(|what| (seed, what))).collect()
}

/// How many schedules get the chance to notice that a rule is switched off.
const MUTATED: u64 = 300;

macro_rules! rules {
    ($($test:ident => $mutation:ident,)*) => { $(
        #[test]
        fn $test() {
            let caught = caught(Mutation::$mutation);
            assert!(!caught.is_empty(), "{}: none of {MUTATED} schedules noticed", stringify!($mutation));
            println!("{}: {} of {MUTATED} notice, first {:?}", stringify!($mutation), caught.len(), caught[0]);
        }
    )* };
}

rules! {
    frames_of_others_than_the_latest_claimer_must_not_count => ClaimRuleOff,
    commits_that_leave_a_hole_must_not_count => ContiguityOff,
    a_claim_must_be_acknowledged_before_the_journal_is_folded => ClaimNotAwaited,
    a_gap_between_acknowledged_offsets_must_be_read => GapNotRead,
    shares_must_not_leave_before_their_commit_is_accepted => ForwardBeforeAcceptance,
    samples_must_not_leave_before_their_mark_is_accepted => EmitBeforeAcceptance,
    shares_must_be_chained => ChainOff,
    an_unknown_outcome_must_not_be_taken_for_accepted => UnknownTakenAsAccepted,
    an_unknown_outcome_must_not_be_taken_for_lost => UnknownTakenAsLost,
    half_edges_must_be_read_again => HalfEdgesNotReread,
    a_frame_that_a_claim_interrupts_must_not_count => TornFrameAccepted,
    the_forwarded_mark_must_wait_for_acknowledgements => ForwardedTooEarly,
    unforwarded_shares_must_be_sent_again => SharesNotResent,
    a_snapshot_must_wait_until_its_steps_are_acknowledged => SnapshotBeforeAcknowledged,
    unacknowledged_steps_must_be_sent_again => StepsNotResent,
}
