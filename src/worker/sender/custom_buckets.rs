//! Whether an endpoint gets classic histograms as native ones with custom buckets
//! (`remote_write.convert_classic_histograms_to_nhcb`), which only remote write 2.0 has, and which not every receiver of it takes.
//!
//! Where the endpoint is known to take 1.0 only, batches stay as they are. Where that shows in the middle of a batch, or the
//! receiver refuses a histogram that it takes as a classic one, the histogram is turned back at the attempt.
#![allow(clippy::disallowed_methods, reason = "when to try again is a matter of the clock")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::dialect::Dialect;

/// How long a receiver that has refused them gets classic histograms.
const AGAIN: Duration = Duration::from_secs(3_600);

/// Whether one endpoint gets native histograms with custom buckets.
#[derive(Debug)]
pub(super) struct CustomBucketsState {
    wanted: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The receiver has refused them; until then it is not retried.
    refused_until: Option<Instant>,
    /// What was logged last: why it gets classic ones, if it does.
    said: Option<&'static str>,
}

// === impl CustomBucketsState ===

impl CustomBucketsState {
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, state: Mutex::default() }
    }

    /// Whether the next batch is converted.
    pub(super) fn are_sent(&self, dialect: &Dialect, url: &str) -> bool {
        if !self.wanted {
            return false;
        }
        let mut state = self.state();
        let why = if dialect.is_first_only() {
            Some("it takes remote write 1.0 only, which has none")
        } else if state.is_refused() {
            Some("it refuses them")
        } else {
            None
        };
        if std::mem::replace(&mut state.said, why) != why {
            drop(state);
            match why {
                Some(why) => tracing::warn!(
                    url,
                    why,
                    "receiver does not take native histograms with custom buckets, sending classic histograms; samples are not \
                     affected"
                ),
                None => tracing::info!(url, "sending native histograms with custom buckets again"),
            }
        }
        why.is_none()
    }

    /// Whether the receiver has refused them lately.
    pub(super) fn are_refused(&self) -> bool {
        self.wanted && self.state().is_refused()
    }

    /// The receiver has refused a histogram and has taken the same as a classic one.
    pub(super) fn refused(&self) {
        self.state().refused_until = Instant::now().checked_add(AGAIN);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn is_refused(&self) -> bool {
        self.refused_until.is_some_and(|until| Instant::now() < until)
    }
}
