//! The replacement of a producer that has failed permanently.

use std::time::{Duration, Instant};

use crate::worker::kafka::{Appender, KafkaError};
use crate::worker::telemetry::flood;

/// The pause before the next replacement; it doubles while each producer fails again.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_AT_MOST: Duration = Duration::from_secs(30);
/// A producer that lived for so long did not fail because of what ended the one before.
const LIVED: Duration = Duration::from_secs(90);

/// When the producer was replaced last.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    last: Option<Instant>,
    pause: Duration,
}

// === impl Renewal ===

impl Renewal {
    /// Replaces the producer if it has failed permanently and the pause is over. Tasks whose records it had claim again, as
    /// after any other failure.
    ///
    /// # Errors
    /// When no producer can be created.
    pub(super) fn look(&mut self, appender: &Appender, group: &str, present: Instant) -> Result<(), KafkaError> {
        let Some(error) = appender.fatal() else { return Ok(()) };
        if !self.is_due(present) {
            return Ok(());
        }
        // Brokers report a producer that may write to no topic at all as a missing right on the cluster.
        let denied = error.contains("Cluster authorization failed");
        if let Some(held_back) = flood::may_say(&format!("producer: {}", flood::gist(&error))) {
            if denied {
                tracing::error!(
                    error,
                    held_back,
                    prefix = %format_args!("{group}-"),
                    "this worker may not write to Kafka: grant Write on topics with this prefix (before Kafka 3.0 also \
                     IdempotentWrite on the cluster). Retrying"
                );
            } else {
                tracing::error!(error, held_back, "the producer failed permanently, replacing it");
            }
        }
        appender.renew()
    }

    fn is_due(&mut self, present: Instant) -> bool {
        let lived = self.last.map_or(LIVED, |last| present.saturating_duration_since(last));
        if lived < self.pause {
            return false;
        }
        self.pause = if lived < LIVED { (2 * self.pause).min(PAUSE_AT_MOST) } else { PAUSE };
        self.last = Some(present);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_that_fails_at_once_is_replaced_ever_more_rarely_and_one_that_lived_long_at_once() {
        let (start, mut renewal) = (Instant::now(), Renewal::default());
        let due = |renewal: &mut Renewal, millis| renewal.is_due(start + Duration::from_millis(millis));
        let times: Vec<u64> = (0..120_000).step_by(100).filter(|&at| due(&mut renewal, at)).collect();
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        assert!(due(&mut renewal, 120_000 + 90_000) && due(&mut renewal, 210_200), "after a long life");
    }
}
