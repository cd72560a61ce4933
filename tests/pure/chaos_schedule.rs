//! What the schedule of `tests/chaos` promises, over many seeds: the harness itself has no test of its own, because it is one.
#![allow(unreachable_pub, reason = "a test has no outside")]

#[allow(dead_code, reason = "the harness uses all of it")]
#[path = "../chaos/schedule.rs"]
mod schedule;

use std::collections::BTreeSet;
use std::time::Duration;

use schedule::{BROKERS, Cast, Class, Event, Fault, PROMISED_FROM, Promise, SESSION, broken, chaos, plan, promised};

/// Seeds per cast.
const SEEDS: u64 = 200;

/// One to four workers, whose clocks can be set wrong or not.
fn casts() -> impl Iterator<Item = Cast> {
    (1..=4).flat_map(|workers| [true, false].map(|clocks| Cast { workers, clocks }))
}

/// The plans of so many seeds, for every cast.
fn plans(seeds: u64, phase: Duration) -> impl Iterator<Item = (u64, Cast, Vec<Event>)> {
    (0..seeds).flat_map(move |seed| casts().map(move |cast| (seed, cast, plan(seed, phase, cast))))
}

/// Whether a trouble is there at a time.
fn lasts(event: &Event, at: Duration) -> bool {
    event.at <= at && at < event.at + event.lasts
}

/// What of the promises a plan does not keep.
fn missing(events: &[Event], cast: Cast, phase: Duration) -> Vec<Promise> {
    broken(&promised(phase, cast), events.iter().map(|event| &event.fault))
}

#[test]
fn everything_promised_is_planned_on_every_seed() {
    for (seed, cast, events) in plans(SEEDS, PROMISED_FROM) {
        let missing = missing(&events, cast, PROMISED_FROM);
        assert!(missing.is_empty(), "seed {seed}, {cast:?}: {missing:?} are not in {events:#?}");
    }
}

#[test]
fn a_promise_is_broken_when_nothing_of_its_kind_came() {
    for (_, cast, events) in plans(10, PROMISED_FROM) {
        for promise in promised(PROMISED_FROM, cast) {
            let others: Vec<Event> = events.iter().filter(|event| !promise.is_kept_by(&event.fault)).cloned().collect();
            assert_eq!(missing(&others, cast, PROMISED_FROM), [promise]);
        }
    }
}

#[test]
fn all_that_can_be_promised_is_and_a_shorter_chaos_promises_nothing() {
    let all = Cast { workers: 3, clocks: true };
    assert_eq!(promised(PROMISED_FROM, all), Promise::ALL);
    for (less, what) in
        [(Cast { workers: 1, ..all }, Promise::ScaleDown), (Cast { clocks: false, ..all }, Promise::WrongClock)]
    {
        let promised = promised(PROMISED_FROM, less);
        assert!(promised.len() == Promise::ALL.len() - 1 && !promised.contains(&what), "{promised:?}");
    }
    assert_eq!(promised(PROMISED_FROM - Duration::from_millis(1), all), []);
}

#[test]
fn no_clock_is_set_wrong_where_that_cannot_be_done() {
    for (seed, cast, events) in plans(50, 2 * PROMISED_FROM).filter(|(_, cast, _)| !cast.clocks) {
        let wrong = events.iter().find(|event| matches!(event.fault, Fault::WrongClock { .. }));
        assert!(wrong.is_none(), "seed {seed}, {cast:?}: {wrong:?}");
    }
}

#[test]
fn the_run_of_all_tests_is_long_enough_for_the_promise() {
    let stage = include_str!("../run").split_once("stage_chaos() {").expect("there is a stage").1;
    let (_, rest) = stage.split_once("--seconds ").expect("it says for how long");
    let seconds: u64 = rest.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(chaos(Duration::from_secs(seconds)) >= PROMISED_FROM, "{seconds} s of load are too short");
}

#[test]
fn the_run_of_all_tests_can_set_clocks_wrong() {
    let build = "chaos() { cargo test --locked \"${FEATURES[@]}\" --features sabotage --test chaos -- \"$@\"; }";
    let stage = include_str!("../run").split_once("\nstage_chaos() {").expect("there is a stage").1;
    let stage = stage.split_once("\n}").expect("it ends").0;
    assert!(include_str!("../run").contains(build) && !stage.contains("cargo"), "{stage}");
}

#[test]
fn a_long_run_has_everything_again_and_again() {
    let phase = 4 * PROMISED_FROM;
    for (seed, cast, events) in plans(10, phase) {
        for promise in promised(phase, cast) {
            let times = events.iter().filter(|event| promise.is_kept_by(&event.fault)).count();
            assert!(times > 1, "seed {seed}, {cast:?}: {promise:?} comes {times} times");
        }
    }
}

#[test]
fn the_bounds_of_trouble_are_kept() {
    for (seed, cast, events) in plans(50, 2 * PROMISED_FROM) {
        for begin in &events {
            let there: Vec<&Event> = events.iter().filter(|event| lasts(event, begin.at)).collect();
            let what = || format!("seed {seed}, {cast:?}, at {:?}: {there:#?}", begin.at);
            let hit = |slot| there.iter().filter(|event| event.fault.hits(slot)).count();
            let all_at_once = there.iter().any(|event| event.fault.hits_all());
            let down = there.iter().any(|event| matches!(event.fault, Fault::ScaleDown { .. }));
            assert!((0..cast.workers).all(|slot| hit(slot) <= 1), "a worker has two troubles: {}", what());
            let alone = (0..cast.workers).filter(|slot| hit(*slot) == 0).count();
            assert!(alone > 0 || cast.workers == 1 || all_at_once, "no worker is left alone: {}", what());
            let more = there.iter().filter(|e| matches!(e.fault, Fault::ScaleUp | Fault::SplitBrain)).count();
            assert!(more <= 1 - usize::from(down), "too many workers: {}", what());
            let brokers: BTreeSet<usize> = there.iter().filter_map(|event| away(&event.fault)).collect();
            assert!(brokers.len() <= 1 && BROKERS == 3, "two brokers are away: {}", what());
            let lost = there.iter().any(|event| matches!(event.fault, Fault::LoseEnds { .. }));
            let of_brokers = there.iter().filter(|event| matches!(event.fault.class(), Class::Broker | Class::Network));
            assert!(!lost || of_brokers.count() == 0, "brokers that are all away have more trouble: {}", what());
        }
    }
}

#[test]
fn ends_are_lost_in_part_and_as_a_whole_under_workers_at_work_and_with_all_of_them() {
    let faults: Vec<Fault> =
        plans(25, PROMISED_FROM).flat_map(|(.., events)| events).map(|event| event.fault).collect();
    let lost = faults.iter().filter_map(|fault| match fault {
        Fault::LoseEnds { kept, kill, .. } => Some((*kept == 0, *kill)),
        _ => None,
    });
    assert_eq!(lost.collect::<BTreeSet<_>>().len(), 4);
    assert!(faults.iter().all(|fault| !matches!(fault, Fault::LoseEnds { kept: 100.., .. })));
}

#[test]
fn a_worker_that_is_to_be_a_zombie_or_alone_is_so_for_longer_than_a_session() {
    for (seed, cast, events) in plans(100, PROMISED_FROM) {
        let long = events.iter().filter(|e| matches!(e.fault, Fault::Zombie { .. } | Fault::ScaleDown { .. }));
        for event in long {
            assert!(event.lasts > SESSION, "seed {seed}, {cast:?}: {event}");
        }
    }
}

fn away(fault: &Fault) -> Option<usize> {
    match *fault {
        Fault::KillBroker { broker } | Fault::StopBroker { broker } | Fault::FreezeBroker { broker } => Some(broker),
        _ => None,
    }
}
