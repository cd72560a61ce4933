//! Several requests of one track in flight: how fast, and in which order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use spanmill::core::remotewrite::decode;

use super::*;

/// What the mock takes for an answer.
const SLOW: Duration = Duration::from_millis(20);

/// A batch of so many requests, each of them with series of its own, some of which begin or come back.
fn wide(step: i64, requests: u32) -> StepBatch {
    let with_befores = |i: u32| {
        let mut message = decode::body(&request(i * 10..i * 10 + 10, step).body).unwrap();
        let before = Sample { value: (step - 15_000) as f64, timestamp: step - 1 };
        message.timeseries.iter_mut().step_by(2).for_each(|series| series.samples.insert(0, before));
        Request::compress(&message.encode_to_vec(), 10, 15, 0, &mut snap::raw::Encoder::new())
    };
    batch(step, (0..requests).map(with_befores).collect())
}

/// Sends steps of 32 requests to a mock that takes its time, and returns how long that took.
fn take_time(change: impl FnOnce(&mut RemoteWrite)) -> (House, Duration) {
    let h = house_with(change);
    h.receiver.delay(SLOW);
    let started = Instant::now();
    for step in [15_000, 30_000, 45_000] {
        let delivered = h.send(wide(step, 32));
        assert_eq!((delivered.acknowledged, delivered.rejected), (32 * 15, 0));
    }
    (h, started.elapsed())
}

#[test]
fn a_slow_receiver_takes_several_requests_at_a_time_and_a_step_is_done_sooner() {
    let (one, alone) = take_time(|c| (c.min_in_flight, c.max_in_flight) = (1, 1));
    let (many, together) = take_time(|_| {});
    assert!(alone > SLOW * 190, "3 steps of 64 requests, one after the other: {alone:?}");
    assert!(together * 3 < alone, "{together:?} against {alone:?}");
    for h in [one, many] {
        assert_eq!(h.receiver.violations(), Vec::<String>::new());
        assert_eq!(h.receiver.totals().resent, 0);
        h.assert_balanced();
    }
}

/// The value of a gauge of the only endpoint, which has no name.
fn gauge(h: &House, name: &str) -> i64 {
    let text = h.telemetry.render();
    let line = text.lines().find(|line| line.starts_with(&format!("spanmill_remote_write_endpoint_{name}{{endpoint=")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(-1)
}

#[test]
fn the_gauges_of_an_endpoint_show_how_many_requests_it_takes_and_how_many_there_are() {
    let h = house_with(|c| (c.min_in_flight, c.max_in_flight) = (2, 16));
    h.receiver.delay(Duration::from_millis(2));
    assert_eq!(h.send(wide(15_000, 32)).rejected, 0);
    let grown = gauge(&h, "in_flight_limit");
    assert!((3..=16).contains(&grown), "{grown}");
    crate::mill::wait_until("all of them are answered", || gauge(&h, "requests_in_flight") == 0);
    h.receiver.fault(&Fault::Status(429), 1);
    assert_eq!(h.send(wide(30_000, 1)).rejected, 0);
    assert!(gauge(&h, "in_flight_limit") < grown.max(4), "it is halved: {}", gauge(&h, "in_flight_limit"));
}

#[test]
fn no_series_gets_out_of_order_whatever_happens_to_the_requests_in_flight() {
    let h = house();
    h.receiver.delay(Duration::from_millis(1));
    let newest = Arc::new(Mutex::new(BTreeMap::<String, i64>::new()));
    let (seen, earlier) = (Arc::clone(&newest), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&earlier);
    h.receiver.watch(move |_, series| {
        let at = series.samples.iter().map(|sample| sample.timestamp).max().unwrap();
        let mut newest = seen.lock().unwrap();
        let last = newest.entry(decode::text(&series.labels)).or_insert(0);
        if at < *last {
            count.fetch_add(1, Ordering::Relaxed);
        }
        *last = at.max(*last);
    });
    for (i, step) in (1..=12).map(|i: i64| (i, i * 15_000)) {
        for fault in [Fault::Status(503), Fault::Reset, Fault::StoreAndReset, Fault::Status(429)] {
            h.receiver.fault(&fault, usize::try_from(i).unwrap() % 4);
        }
        let delivered = h.send(wide(step, 24));
        assert_eq!(delivered.acknowledged + delivered.already_there, 24 * 15);
        // All of a step is stored before it counts as delivered.
        let newest = newest.lock().unwrap();
        assert_eq!((newest.len(), newest.values().all(|at| *at == step)), (240, true));
    }
    assert_eq!(earlier.load(Ordering::Relaxed), 0);
    assert_eq!(h.receiver.violations(), Vec::<String>::new());
    h.assert_balanced();
}

#[test]
fn a_receiver_that_is_overloaded_gets_fewer_requests_at_a_time() {
    let h = house_with(|c| (c.min_in_flight, c.max_in_flight) = (1, 64));
    h.receiver.delay(Duration::from_millis(5));
    // It refuses what is more than 4 at a time.
    h.receiver.overload_beyond(4);
    let mut refused = Vec::new();
    for step in (1..=6).map(|i| i * 15_000) {
        let before = h.receiver.totals().refused;
        let delivered = h.send(wide(step, 32));
        assert_eq!((delivered.acknowledged, delivered.rejected), (32 * 15, 0));
        refused.push(h.receiver.totals().refused - before);
    }
    assert!(h.receiver.most_at_a_time() >= 4, "it is used");
    // 64 requests a step: growing by one a round, the limit is met a few times.
    assert!(refused.iter().sum::<u64>() > 0 && refused[1..].iter().all(|n| *n <= 24), "{refused:?}");
    assert_eq!(h.receiver.violations(), Vec::<String>::new());
    h.assert_balanced();
}

#[test]
fn a_track_that_is_dropped_falls_silent_with_all_its_requests() {
    let mut h = house();
    // The first one goes ahead.
    h.receiver.fault(&Fault::StoreAndSay(204, 0, 0), 1);
    h.receiver.fault(&Fault::Hang, 64);
    let sender = h.sender.take().unwrap();
    sender.try_send(wide(15_000, 32)).unwrap();
    let wait = |enough: &dyn Fn(u64) -> bool| {
        let started = Instant::now();
        while !enough(h.metric("spanmill_remote_write_requests_in_flight")) {
            assert!(started.elapsed() < LONG, "{}", h.metric("spanmill_remote_write_requests_in_flight"));
            thread::yield_now();
        }
    };
    wait(&|n| n >= 4);
    drop(sender);
    wait(&|n| n == 0);
    assert_eq!(h.metric("spanmill_samples_abandoned_total"), 32 * 15 - 5);
    h.assert_balanced();
}
