//! Waiting for a condition.

use std::time::{Duration, Instant};

/// Polls until `probe` has an answer.
///
/// # Panics
/// When the deadline passes; the message carries the last reason.
pub fn wait_until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(answer) => return answer,
            Err(reason) if start.elapsed() > within => panic!("{what}: not within {within:?}: {reason}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
