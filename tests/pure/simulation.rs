//! The model check of the whole protocol: span tasks, series tasks, their journals, the deltas topic and the receiver,
//! under random schedules of crashes, zombies, take-overs, delayed, doubled, swapped and lost records, claims that land
//! late, acknowledgements without an offset, cut journals, lost ends of the deltas topic and receiver outages. The
//! decisions are the product's own; the rest is made of vectors.
//!
//! A quarter of the schedules ends with all machines losing power: nothing arrives that was under way, and journals of
//! either kind lose any number of their last records. The group has learned how far they went, as it does every few
//! seconds. Then a refusal that names such a journal ends the schedule; without one, everything must be exact. Only a
//! step that was closed on stall timeout may be contradicted if its mark is lost: nothing else records it.
//!
//! Every second schedule has two or three endpoints, each with an outage and a pace of its own: none may lose a step, and
//! none may get one again that it has by the last mark.
//!
//! `TEST_SCHEDULES=20000` checks more schedules, `TEST_SEED=17` only this one.

pub(crate) mod delta_record;
pub(crate) mod endpoints;
pub(crate) mod mutation;
pub(crate) mod net;
pub(crate) mod oracle;
pub(crate) mod rng;
pub(crate) mod series_actor;
pub(crate) mod session;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod span_actor;
pub(crate) mod world;

use std::panic::catch_unwind;

use mutation::Mutation;
use world::{Counter, World};

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
    let mut counter = Counter::default();
    for seed in seeds {
        let run = catch_unwind(|| World::new(seed, Mutation::None).run());
        match run.unwrap_or_else(|_| Err("panicked, see above".to_owned())) {
            Ok(run) => counter.add(&run),
            Err(what) => {
                panic!("schedule {seed}: {what}\nreplay: TEST_SEED={seed} cargo test --test pure simulation every")
            }
        }
    }
    println!("{counter:#?}");
    // A schedule in which nothing goes wrong proves nothing.
    assert!(!whole || counter.has_seen_everything(), "some kind of trouble never happened: {counter:#?}");
    assert!(!whole || counter.few_are_forgiven(), "the known limit is met too often: {counter:#?}");
}

/// Runs schedules with one rule switched off. The seed and the words of the first that notices.
fn caught(mutation: Mutation) -> Option<(u64, String)> {
    (0..MUTATED).find_map(|seed| World::new(seed, mutation).run().err().map(|what| (seed, what)))
}

/// How many schedules get the chance to notice that a rule is switched off. The rarest are noticed by 1 of 300.
const MUTATED: u64 = 3_000;

macro_rules! rules {
    ($($test:ident => $mutation:ident,)*) => { $(
        #[test]
        fn $test() {
            let caught = caught(Mutation::$mutation);
            assert!(caught.is_some(), "{}: none of {MUTATED} schedules noticed", stringify!($mutation));
            println!("{}: noticed by {caught:?}", stringify!($mutation));
        }
    )* };
}

rules! {
    frames_of_others_than_the_latest_claimer_must_not_count => ClaimRuleOff,
    commits_that_leave_a_hole_must_not_count => ContiguityOff,
    a_claim_must_be_acknowledged_before_the_journal_is_folded => ClaimNotAwaited,
    a_gap_between_acknowledged_offsets_must_be_read => GapNotRead,
    delta_records_must_not_leave_before_their_commit_is_accepted => ForwardBeforeAcceptance,
    samples_must_not_leave_before_their_mark_is_accepted => EmitBeforeAcceptance,
    delta_records_must_be_chained => ChainOff,
    an_unknown_outcome_must_not_be_taken_for_accepted => UnknownTakenAsAccepted,
    an_unknown_outcome_must_not_be_taken_for_lost => UnknownTakenAsLost,
    half_edges_must_be_read_again => HalfEdgesNotReread,
    a_frame_that_a_claim_interrupts_must_not_count => TornFrameAccepted,
    the_forwarded_mark_must_wait_for_acknowledgements => ForwardedTooEarly,
    unforwarded_delta_records_must_be_sent_again => DeltaRecordsNotResent,
    a_snapshot_must_wait_until_its_steps_are_acknowledged => SnapshotBeforeAcknowledged,
    unacknowledged_steps_must_be_sent_again => StepsNotResent,
    a_commit_must_stay_until_the_snapshots_of_all_shards_hold_it => CommitsTrimmedEarly,
    what_a_shard_lacks_must_be_sent_again => LackUnheard,
    a_step_must_be_closed_again_of_the_same_delta_records => BasisIgnored,
    an_endpoint_must_not_be_marked_as_far_as_a_faster_one => EndpointMarkTooFar,
    an_endpoint_must_not_get_again_what_it_has_by_its_mark => EndpointMarksIgnored,
    a_snapshot_must_hold_what_slow_endpoints_lack => HeldStepsDropped,
    a_delta_record_that_is_stored_behind_a_later_one_must_be_sent_again => OrderOfAcknowledgementsIgnored,
}
