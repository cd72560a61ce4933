//! Rate-limits repeated log lines: each cause is logged once a minute, with how often it was suppressed meanwhile.
//!
//! Code that may log a line often asks first, and logs how many lines were suppressed:
//!
//! ```
//! # let error = "Connection refused";
//! if let Some(held_back) = spanmill::worker::telemetry::flood::may_say("brokers refuse connections") {
//!     tracing::warn!(error, held_back, "no broker answers");
//! }
//! ```
#![allow(clippy::disallowed_methods, reason = "how often a line is logged is a matter of the clock")]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The interval between two lines of one cause.
pub const EVERY: Duration = Duration::from_secs(60);
/// The maximum number of distinct causes; further ones count as one.
const CAUSES: usize = 200;

/// Of this process: many clients use the same broker, independently of each other.
static PROCESS: Flood = Flood::new();

/// The logged lines, by cause.
#[derive(Debug, Default)]
pub struct Flood(Mutex<BTreeMap<String, LastLogged>>);

#[derive(Debug)]
struct LastLogged {
    at: Instant,
    held_back: u64,
}

/// Whether this cause may be logged now: if so, how often it was suppressed since it was logged last.
#[must_use]
pub fn may_say(cause: &str) -> Option<u64> {
    PROCESS.lets(cause, Instant::now())
}

/// The gist of a foreign text: without numbers, addresses and remarks in parentheses at its end, which differ from one
/// time to the next.
#[must_use]
pub fn gist(text: &str) -> String {
    let text = text.split(" (after ").next().unwrap_or(text);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            c => out.push(c),
        }
    }
    out
}

// === impl Flood ===

impl Flood {
    /// Nothing has been logged.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// As [`may_say`], at this moment.
    #[must_use]
    pub fn lets(&self, cause: &str, now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |said: &LastLogged| now.saturating_duration_since(said.at) >= EVERY;
        if all.len() >= CAUSES && !all.contains_key(cause) {
            all.retain(|_, said| !is_over(said));
        }
        let cause = if all.len() < CAUSES || all.contains_key(cause) { cause } else { "others" };
        match all.get_mut(cause) {
            Some(said) if !is_over(said) => {
                said.held_back += 1;
                None
            }
            Some(said) => {
                said.at = now;
                Some(std::mem::take(&mut said.held_back))
            }
            None => {
                all.insert(cause.to_owned(), LastLogged { at: now, held_back: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once_a_minute_with_how_often_it_was_held_back() {
        let (flood, start) = (Flood::new(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(flood.lets("refused", at(0)), Some(0));
        assert!((1..60).all(|n| flood.lets("refused", at(n * 1_000)).is_none()));
        assert_eq!(flood.lets("not known", at(30_000)), Some(0), "another cause does not wait");
        assert_eq!(flood.lets("refused", at(60_000)), Some(59));
        assert_eq!(flood.lets("refused", at(61_000)), None);
        assert_eq!(flood.lets("refused", at(200_000)), Some(1));
    }

    #[test]
    fn causes_that_others_make_up_take_no_more_lines_and_memory_than_their_number() {
        let (flood, start) = (Flood::new(), Instant::now());
        let said = (0..10_000).filter(|n| flood.lets(&n.to_string(), start).is_some()).count();
        assert_eq!(said, CAUSES + 1);
        let kept = |flood: &Flood| flood.0.lock().expect("no panic").len();
        assert_eq!(kept(&flood), CAUSES + 1);
        // What is over makes room.
        assert_eq!(flood.lets("new", start + EVERY), Some(0));
        assert_eq!(kept(&flood), 1);
    }

    #[test]
    fn numbers_and_durations_make_no_causes() {
        let one =
            "127.0.0.1:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)";
        let other = "127.0.0.1:39093/22: Connect to ipv4#127.0.0.1:39093 failed: Connection refused (after 5ms in state \
                     CONNECT, 30 identical error(s) suppressed)";
        assert_eq!(gist(one), gist(other));
        assert_ne!(gist("topic a: timed out"), gist("topic b: timed out"));
    }
}
