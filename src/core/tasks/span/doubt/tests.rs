use std::collections::BTreeMap;

use super::super::tests::{calls, clients, field};
use super::super::{Offer, Record, Repeat, Restored, SpanSettings, SpanTask, StepCut};
use crate::config::Config;
use crate::core::journal::Event;
use crate::core::model::{Counter, Millis};
use crate::core::settings::TimeSource;

const START: Millis = 1_700_000_100_000;
const HOUR: Millis = 3_600_000;

/// How many spans belong to each step.
type Steps = BTreeMap<Millis, u64>;

fn settings() -> SpanSettings {
    SpanSettings { shards: 1, ..SpanSettings::from(&Config::default()) }
}

fn new_task(settings: &SpanSettings) -> SpanTask {
    let mut task = SpanTask::new(settings, "spans".into(), 4, Restored::default()).expect("an empty journal");
    task.set_start(0);
    task.doubt_first();
    task
}

fn offer(task: &mut SpanTask, offset: i64, timestamp: Millis, present: Millis) -> Vec<StepCut> {
    let value = clients(&[offset as u8]);
    let mut cuts = Vec::new();
    while let Offer::CutFirst { cut } =
        task.offer(&Record { offset, timestamp, tenant: Some("one"), value: &value }, present)
    {
        cuts.push(*cut);
    }
    cuts
}

fn add(steps: &mut Steps, cuts: impl IntoIterator<Item = StepCut>) {
    cuts.into_iter().flat_map(|cut| calls(&cut)).for_each(|(step, n)| *steps.entry(step).or_default() += n);
}

/// What a replay counts whose plan was made long after the records, and how many were moved.
fn replay(settings: &SpanSettings, times: &[Millis], past: &[Event]) -> (Steps, u64) {
    let (mut task, mut steps) = (new_task(settings), Steps::new());
    let mut repeat = Repeat::new(past.into(), &mut task);
    for (offset, &time) in (0..).zip(times) {
        add(&mut steps, repeat.before(&mut task, offset));
        add(&mut steps, offer(&mut task, offset, time, START + 100 * 24 * HOUR));
    }
    add(&mut steps, repeat.before(&mut task, i64::MAX));
    add(&mut steps, task.finish(false));
    assert_eq!(task.ledger().get(Counter::RecordsRead), times.len() as u64);
    (steps, task.ledger().get(Counter::RecordsFromFuture))
}

/// An hour of a record per second.
fn hour() -> Vec<Millis> {
    (0..3_600).map(|second| START + second * 1_000).collect()
}

#[test]
fn a_record_from_the_future_moves_nothing_but_itself_and_each_step_keeps_its_spans() {
    let calm = replay(&settings(), &hour(), &[]);
    assert_eq!((calm.0.len(), calm.1), (240, 0));
    for at in [0, 1, 59, 1_807, 3_598, 3_599] {
        for ahead in [15_000, 60_000, HOUR / 2, 10 * HOUR, 1_000 * 24 * HOUR] {
            let mut times = hour();
            times[at] += ahead;
            // No record follows that could decide it.
            let told = at < 3_599 || ahead > 100 * 24 * HOUR;
            let (mut steps, moved) = replay(&settings(), &times, &[]);
            if told {
                assert_eq!((moved, &steps), (1, &calm.0), "record {at}, {ahead} ms ahead");
            } else {
                steps.pop_last();
                assert_eq!(steps.values().sum::<u64>(), 3_599);
            }
        }
    }
}

#[test]
fn without_doubt_one_record_takes_half_an_hour_of_others_along() {
    let mut times = hour();
    times[59] += HOUR / 2;
    let (steps, _) = replay(&SpanSettings { max_future: HOUR, ..settings() }, &times, &[]);
    assert!(steps.values().any(|&n| n > 1_700), "{steps:?}");
}

#[test]
fn some_records_from_the_future_at_once_and_one_in_five_throughout_move_only_themselves() {
    let calm = replay(&settings(), &hour(), &[]).0;
    let mut burst = hour();
    burst[1_000..1_031].iter_mut().for_each(|time| *time += HOUR);
    let (steps, moved) = replay(&settings(), &burst, &[]);
    assert_eq!(moved, 31);
    assert_eq!(steps.range(..START + 990_000).collect::<Vec<_>>(), calm.range(..START + 990_000).collect::<Vec<_>>());
    assert_eq!(steps.range(START + 1_050_000..).count(), calm.range(START + 1_050_000..).count());
    let mut fifth = hour();
    fifth.iter_mut().skip(7).step_by(5).for_each(|time| *time += HOUR / 2);
    let (steps, moved) = replay(&settings(), &fifth, &[]);
    assert_eq!(moved, 719);
    assert!(steps.len() == calm.len() && steps.values().all(|&n| n <= 16), "{steps:?}");
}

#[test]
fn a_silent_hour_is_passed_also_with_clocks_that_are_slow_and_with_a_record_an_hour() {
    let mut times = hour();
    times.truncate(600);
    let after = times.iter().map(|time| time + 2 * HOUR);
    let mut times: Vec<_> = times.iter().copied().chain(after).collect();
    let (steps, moved) = replay(&settings(), &times, &[]);
    assert_eq!((moved, steps.len()), (0, 80));
    times.iter_mut().skip(3).step_by(10).for_each(|time| *time -= HOUR / 2);
    let (steps, moved) = replay(&settings(), &times, &[]);
    assert_eq!((moved, steps.len()), (0, 80), "{steps:?}");
    let hourly: Vec<_> = (0..48).map(|n| START + n * HOUR).collect();
    let (steps, moved) = replay(&settings(), &hourly, &[]);
    assert_eq!((moved, steps.len()), (0, 48));
}

/// Pseudo-random numbers below `n`.
fn below(state: &mut u64, n: u64) -> i64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) % n) as i64
}

/// When records come, and what times they hold: some clocks are wrong, some records are late, and at times nothing
/// comes.
fn arrivals(seed: u64) -> Vec<(Millis, Millis)> {
    let (mut state, mut now) = (seed, START);
    let (mut all, mut sound) = (Vec::new(), 0);
    for _ in 0..400 {
        // Silence that is longer than a record is ahead would make that a record of the silence.
        let pause = if sound > 40 && below(&mut state, 40) == 0 { below(&mut state, 4_000_000) } else { 0 };
        now += below(&mut state, 2_000) + pause;
        sound += 1;
        let wrong = match below(&mut state, 60) {
            0 | 1 => {
                sound = 0;
                15_000 + below(&mut state, 200_000_000)
            }
            2 => -HOUR,
            _ => -below(&mut state, 3_000),
        };
        all.push((now, now + wrong));
    }
    // A reader that comes later than the writer knows more about it.
    all.extend((1..100).map(|i| (now + i * 200, now + i * 200)));
    all
}

/// What a live worker counts that is never behind, and the ticks of its journal. Between silence and a tick, `idle` passes.
fn live(arrivals: &[(Millis, Millis)], idle: Option<Millis>) -> (Steps, u64, Vec<Event>) {
    let (mut task, mut steps, mut ticks) = (new_task(&settings()), Steps::new(), Vec::new());
    let mut before = START;
    for (offset, &(now, time)) in (0..).zip(arrivals) {
        let silent =
            idle.into_iter().flat_map(|idle| ((before + idle)..now).step_by(idle as usize).map(move |at| at - idle));
        for to in silent {
            while let Some(cut) = task.tick(to) {
                if cut.tick {
                    ticks.push(Event::Tick(cut.to, cut.stream_time));
                }
                add(&mut steps, [cut]);
            }
        }
        add(&mut steps, offer(&mut task, offset, time, now));
        add(&mut steps, task.at_end());
        before = now;
    }
    add(&mut steps, task.finish(false));
    (steps, task.ledger().get(Counter::RecordsFromFuture), ticks)
}

#[test]
fn a_live_worker_at_the_end_of_the_log_and_a_replay_move_the_same_records() {
    let mut moved_ever = 0;
    for seed in 0..200 {
        let arrivals = arrivals(seed);
        let times: Vec<_> = arrivals.iter().map(|(_, time)| *time).collect();
        let (steps, moved, _) = live(&arrivals, None);
        assert_eq!((&steps, moved), (&replay(&settings(), &times, &[]).0, moved), "seed {seed}");
        assert_eq!(moved, replay(&settings(), &times, &[]).1, "seed {seed}");
        let (steps, moved, ticks) = live(&arrivals, Some(15_000));
        assert_eq!((steps, moved), replay(&settings(), &times, &ticks), "seed {seed} with ticks");
        moved_ever += moved;
    }
    assert!(moved_ever > 1_000, "{moved_ever}");
}

#[test]
fn what_is_doubted_is_in_no_commit_and_nobodys_verdict_depends_on_where_reading_began() {
    for seed in 0..40 {
        let arrivals = arrivals(seed);
        let times: Vec<_> = arrivals.iter().map(|(_, time)| *time).collect();
        let (expected, _) = replay(&settings(), &times, &[]);
        let (mut task, mut steps, mut state) = (new_task(&settings()), Steps::new(), seed);
        let mut offset = 0;
        while let Some(&time) = times.get(offset as usize) {
            add(&mut steps, offer(&mut task, offset, time, START + 100 * 24 * HOUR));
            offset += 1;
            if below(&mut state, 20) == 0
                && let Some(cut) = task.cut()
            {
                let restored = super::super::tests::restored(cut.clone());
                add(&mut steps, [cut]);
                offset = restored.reread_from;
                task = SpanTask::new(&settings(), "spans".into(), 4, restored).expect("a sound journal");
            }
        }
        add(&mut steps, task.finish(false));
        assert_eq!(steps, expected, "seed {seed}");
    }
}

#[test]
fn records_that_cannot_be_read_or_are_passed_over_wait_behind_a_doubtful_one() {
    let mut task = new_task(&settings());
    let value = clients(&[1]);
    let record = |offset, timestamp, tenant| Record { offset, timestamp, tenant, value: &value };
    let take = |task: &mut SpanTask, record: &Record<'_>| assert!(matches!(task.offer(record, START), Offer::Taken));
    take(&mut task, &record(0, START, Some("one")));
    assert!(task.at_end().is_empty());
    assert_eq!((task.position(), task.read_up_to()), (Some(1), Some(1)));
    take(&mut task, &record(1, START - HOUR, Some("one")));
    // The present rules it out, whichever record follows.
    take(&mut task, &record(2, START + HOUR, Some("one")));
    assert_eq!(task.position(), Some(3));
    let moved = task.take_moved().expect("it is named");
    assert_eq!((moved.offset, moved.told, moved.counted_at, moved.records), (2, START + HOUR, START, 1));
    assert_eq!(task.take_moved(), None);
    let far = Record { offset: 3, timestamp: START + HOUR, tenant: None, value: &value };
    assert!(matches!(task.offer(&far, START + 2 * HOUR), Offer::Taken));
    assert_eq!(task.refusal(), Some(super::Refusal::NoTenant), "said when it was offered");
    assert!(task.isolate(&record(4, START, Some("one"))) && !task.isolate(&record(4, START, Some("one"))));
    assert_eq!((task.position(), task.read_up_to()), (Some(3), Some(5)));
    assert!(task.holding().doubted > 2 * value.len());
    assert_eq!(task.cut().map(|cut| cut.to), Some(3), "what is doubted is in no commit");
    let cuts = task.unreadable(5, 9);
    assert!(!cuts.is_empty() && task.holding().doubted == 0);
    assert_eq!(task.position(), Some(9));
    let counters =
        [Counter::RecordsRead, Counter::RecordsWithoutTenant, Counter::RecordsIsolated, Counter::RecordsUnreadable];
    assert_eq!(counters.map(|counter| task.ledger().get(counter)), [5, 1, 1, 4]);
}

#[test]
fn what_is_doubted_takes_memory_in_proportion_to_its_bytes_however_many_spans_are_in_them() {
    let mut task = new_task(&settings());
    let record = |offset, timestamp, value| Record { offset, timestamp, tenant: Some("one"), value };
    // Two bytes a span; where all of a span lies takes more than a hundred.
    let dense = field(1, &field(2, &[0x12, 0].repeat(20_000)));
    let usual = clients(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(matches!(task.offer(&record(0, START, &usual), START + 2 * HOUR), Offer::Taken));
    assert!(task.at_end().is_empty());
    let mut held = 0;
    for (offset, value) in (1..).zip([&usual, &dense, &usual, &dense, &usual, &usual]) {
        assert!(matches!(task.offer(&record(offset, START + HOUR, value), START + 2 * HOUR), Offer::Taken));
        held += 6 * value.len() + 512;
        let doubted = task.holding().doubted;
        assert!(doubted <= held, "record {offset}: {doubted} bytes, at most {held}");
    }
    // What it was decoded to is of no other record.
    let spans: u64 = task.finish(false).iter().flat_map(calls).map(|(_, n)| n).sum();
    assert_eq!(spans, 9 * 5 + 2 * 20_000);
}

#[test]
fn a_record_that_cannot_be_read_is_refused_however_many_cuts_come_before_it_is_taken() {
    let mut task = new_task(&settings());
    let (value, large) = (clients(&[1]), vec![0xff; super::MOST_BYTES]);
    let record = |offset, timestamp, value| Record { offset, timestamp, tenant: Some("one"), value };
    assert!(matches!(task.offer(&record(0, START, &value), START), Offer::Taken));
    assert!(task.at_end().is_empty());
    let present = START + HOUR;
    assert!(matches!(task.offer(&record(1, START + HOUR, &value), present), Offer::Taken), "it is doubted");
    let mut cuts = 0;
    // So large that nothing more is waited for: what is open ends first.
    while let Offer::CutFirst { .. } = task.offer(&record(2, START + HOUR, &large), present) {
        cuts += 1;
    }
    assert!(cuts > 0 && matches!(task.refusal(), Some(super::Refusal::Undecodable(_))), "{cuts}: {:?}", task.refusal());
    assert!(matches!(task.offer(&record(3, START + HOUR, &value), present), Offer::Taken));
    assert_eq!(task.refusal(), None);
}

#[test]
fn records_that_tell_no_time_at_the_beginning_of_a_partition_wait_in_bounded_memory() {
    let mut config = Config::default();
    config.core.time.source = TimeSource::SpanEnd;
    let mut task = new_task(&SpanSettings::from(&config));
    let garbage = [0xFF; 100];
    let offer = |task: &mut SpanTask, offset| {
        task.offer(&Record { offset, timestamp: START, tenant: Some("one"), value: &garbage }, START)
    };
    assert!(matches!(offer(&mut task, 0), Offer::Taken));
    assert_eq!(task.stream_time(), None, "the next one may tell the time of both");
    let held = task.holding().doubted;
    assert!((1..10_000).all(|offset| matches!(offer(&mut task, offset), Offer::Taken)));
    assert!(task.holding().doubted <= 1_000 * held, "{} bytes wait", task.holding().doubted);
    assert_eq!(task.stream_time(), Some(START - config.core.time.lateness), "the first one's timestamp says it");
    assert_eq!(task.ledger().get(Counter::RecordsUndecodable), 10_000);
}
