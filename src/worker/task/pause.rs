//! Waiting, in a way that a stop ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Sleeps in small pieces until `what` or until `stop` is raised; returns whether it was not stopped.
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
