//! Sources that hold a shard back and send nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Since when sources have held a step back silently. Not since their last delta record: a healthy source sends one per
/// step, however long a step is.
#[derive(Debug, Default)]
pub(super) struct Silence(BTreeMap<(String, i32), Instant>);

// === impl Silence ===

impl Silence {
    /// A delta record of `source` has come.
    pub(super) fn heard(&mut self, source: &(String, i32)) {
        self.0.remove(source);
    }

    /// Whether each of the sources `behind` has held the others back for `grace`, silently.
    pub(super) fn is_over(&mut self, behind: &[(String, i32)], present: Instant, grace: Duration) -> bool {
        let mut over = true;
        for source in behind {
            // The grace time of a source that holds back several steps in a row runs once.
            let since = *self.0.entry(source.clone()).or_insert(present);
            over &= present.saturating_duration_since(since) >= grace;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_silent_since_it_holds_a_step_back_and_not_since_its_last_delta_record() {
        let (start, grace) = (Instant::now(), Duration::from_secs(30));
        let at = |seconds| start + Duration::from_secs(seconds);
        let (slow, gone) = (("spans".to_owned(), 0), ("spans".to_owned(), 1));
        let mut silence = Silence::default();
        silence.heard(&slow);
        // Steps of a minute: the others pass one, and the slow source a little later.
        assert!(!silence.is_over(std::slice::from_ref(&slow), at(60), grace));
        silence.heard(&slow);
        assert!(!silence.is_over(std::slice::from_ref(&slow), at(120), grace));
        // A source that no worker advances is waited for once, and not once per step.
        assert!(!silence.is_over(std::slice::from_ref(&gone), at(180), grace));
        assert!(silence.is_over(std::slice::from_ref(&gone), at(210), grace));
        assert!(silence.is_over(std::slice::from_ref(&gone), at(240), grace));
        silence.heard(&slow);
        assert!(!silence.is_over(&[slow, gone], at(270), grace), "one of them may still speak");
    }
}
