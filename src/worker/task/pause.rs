//! Waiting that a stop interrupts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Sleeps in short intervals until `what` is over or `stop` is set; returns whether it was not stopped.
pub(crate) fn pause(stop: &AtomicBool, what: Duration) -> bool {
    let until = Instant::now() + what;
    while Instant::now() < until {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        thread::sleep(Duration::from_millis(50).min(what));
    }
    true
}
