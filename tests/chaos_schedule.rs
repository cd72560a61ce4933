//! What the schedule of `tests/chaos` promises, over many seeds: the harness itself has no test of its own, because it is one.
#![allow(unreachable_pub, reason = "a test has no outside")]

#[allow(dead_code, reason = "the harness uses all of it")]
#[path = "chaos/schedule.rs"]
mod schedule;

use std::collections::BTreeSet;
use std::time::Duration;

use schedule::{BROKERS, Event, Fault, PROMISED_FROM, Promise, SESSION, broken, chaos, plan, promised};

/// Seeds per number of workers.
const SEEDS: u64 = 500;

/// The plans of so many seeds, for one to four workers.
fn plans(seeds: u64, phase: Duration) -> impl Iterator<Item = (u64, usize, Vec<Event>)> {
    (0..seeds).flat_map(move |seed| (1..=4).map(move |workers| (seed, workers, plan(seed, phase, workers))))
}

/// Whether a trouble is there at a time.
fn lasts(event: &Event, at: Duration) -> bool {
    event.at <= at && at < event.at + event.lasts
}

/// What of the promises a plan does not keep.
fn missing(events: &[Event], workers: usize, phase: Duration) -> Vec<Promise> {
    broken(&promised(phase, workers), events.iter().map(|event| &event.fault))
}

#[test]
fn everything_promised_is_planned_on_every_seed() {
    for (seed, workers, events) in plans(SEEDS, PROMISED_FROM) {
        let missing = missing(&events, workers, PROMISED_FROM);
        assert!(missing.is_empty(), "seed {seed}, {workers} workers: {missing:?} are not in {events:#?}");
    }
}

#[test]
fn a_promise_is_broken_when_nothing_of_its_kind_came() {
    for (_, workers, events) in plans(10, PROMISED_FROM) {
        for promise in promised(PROMISED_FROM, workers) {
            let others: Vec<Event> = events.iter().filter(|event| !promise.is_kept_by(&event.fault)).cloned().collect();
            assert_eq!(missing(&others, workers, PROMISED_FROM), [promise]);
        }
    }
}

#[test]
fn all_that_can_be_promised_is_and_a_shorter_chaos_promises_nothing() {
    assert_eq!(promised(PROMISED_FROM, 3), Promise::ALL);
    let of_one = promised(PROMISED_FROM, 1);
    assert!(of_one.len() == Promise::ALL.len() - 1 && !of_one.contains(&Promise::ScaleDown), "{of_one:?}");
    assert_eq!(promised(PROMISED_FROM - Duration::from_millis(1), 3), []);
}

#[test]
fn the_run_of_all_tests_is_long_enough_for_the_promise() {
    let stage = include_str!("run").split_once("stage_chaos() {").expect("there is a stage").1;
    let (_, rest) = stage.split_once("--seconds ").expect("it says for how long");
    let seconds: u64 = rest.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(chaos(Duration::from_secs(seconds)) >= PROMISED_FROM, "{seconds} s of load are too short");
}

#[test]
fn a_long_run_has_everything_again_and_again() {
    let phase = 4 * PROMISED_FROM;
    for (seed, workers, events) in plans(25, phase) {
        for promise in promised(phase, workers) {
            let times = events.iter().filter(|event| promise.is_kept_by(&event.fault)).count();
            assert!(times > 1, "seed {seed}, {workers} workers: {promise:?} comes {times} times");
        }
    }
}

#[test]
fn the_bounds_of_trouble_are_kept() {
    for (seed, workers, events) in plans(100, 2 * PROMISED_FROM) {
        for begin in &events {
            let there: Vec<&Event> = events.iter().filter(|event| lasts(event, begin.at)).collect();
            let what = || format!("seed {seed}, {workers} workers, at {:?}: {there:#?}", begin.at);
            let hit = |slot| there.iter().filter(|event| event.fault.hits(slot)).count();
            let all_at_once = there.iter().any(|event| event.fault == Fault::KillAll);
            let down = there.iter().any(|event| matches!(event.fault, Fault::ScaleDown { .. }));
            assert!((0..workers).all(|slot| hit(slot) <= 1), "a worker has two troubles: {}", what());
            let alone = (0..workers).filter(|slot| hit(*slot) == 0).count();
            assert!(alone > 0 || workers == 1 || all_at_once || down, "no worker is left alone: {}", what());
            let more = there.iter().filter(|e| matches!(e.fault, Fault::ScaleUp | Fault::SplitBrain)).count();
            assert!(more <= 1 - usize::from(down), "too many workers: {}", what());
            let brokers: BTreeSet<usize> = there.iter().filter_map(|event| away(&event.fault)).collect();
            assert!(brokers.len() <= 1 && BROKERS == 3, "two brokers are away: {}", what());
        }
    }
}

#[test]
fn a_worker_that_is_to_be_a_zombie_or_alone_is_so_for_longer_than_a_session() {
    for (seed, workers, events) in plans(200, PROMISED_FROM) {
        let long = events.iter().filter(|e| matches!(e.fault, Fault::Zombie { .. } | Fault::ScaleDown { .. }));
        for event in long {
            assert!(event.lasts > SESSION, "seed {seed}, {workers} workers: {event}");
        }
    }
}

fn away(fault: &Fault) -> Option<usize> {
    match *fault {
        Fault::KillBroker { broker } | Fault::StopBroker { broker } | Fault::FreezeBroker { broker } => Some(broker),
        _ => None,
    }
}
