//! The limit of samples per second, if there is one.
#![allow(clippy::disallowed_methods, reason = "a rate is a matter of the clock")]

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Requests are sent one after the other, each delayed in proportion to the size of the one before it.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Option<Limit>>);

#[derive(Debug)]
struct Limit {
    per_second: f64,
    /// When the next request may be sent.
    next: Instant,
}

// === impl Pace ===

impl Pace {
    pub(super) fn set(&self, samples_per_second: u64) {
        let limit = Limit { per_second: samples_per_second.max(1) as f64, next: Instant::now() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(limit);
    }

    /// Waits until a request with so many samples may be sent.
    pub(super) async fn wait(&self, samples: u64) {
        let Some(until) = self.reserve(samples) else { return };
        tokio::time::sleep_until(until).await;
    }

    fn reserve(&self, samples: u64) -> Option<Instant> {
        let mut limit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = limit.as_mut()?;
        let at = limit.next.max(Instant::now());
        limit.next = at + Duration::from_secs_f64(samples as f64 / limit.per_second);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_far_apart_as_they_are_large() {
        let pace = Pace::default();
        assert_eq!(pace.reserve(1_000_000), None, "nothing is limited");
        pace.set(100);
        let first = pace.reserve(50).expect("limited");
        let second = pace.reserve(200).expect("limited");
        let third = pace.reserve(1).expect("limited");
        assert_eq!(second - first, Duration::from_millis(500));
        assert_eq!(third - second, Duration::from_secs(2));
    }
}
