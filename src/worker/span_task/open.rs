//! Open transactions of producers. Records past the first one are in the log and cannot be read: the partition is
//! neither stuck nor silent. A transaction that its producer never ends blocks the partition for ever.

use std::time::{Duration, Instant};

use crate::worker::telemetry::TaskId;

/// The state of an open transaction.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Where it begins, and since when.
    since: Option<(i64, Instant)>,
    told: bool,
}

// === impl Open ===

impl Open {
    /// The first open transaction begins at `from`, if there is one; returns true once that has lasted for longer than
    /// `patience`, and only once.
    pub(super) fn see(&mut self, from: Option<i64>, patience: Duration, present: Instant) -> bool {
        let Some(from) = from else {
            *self = Self::default();
            return false;
        };
        let (place, since) = *self.since.get_or_insert((from, present));
        if place != from {
            *self = Self { since: Some((from, present)), told: false };
            return false;
        }
        let tells = !self.told && present.saturating_duration_since(since) >= patience;
        self.told |= tells;
        tells
    }

    /// Whether there is one.
    pub(super) fn is_there(&self) -> bool {
        self.since.is_some()
    }

    /// Whether it has been there for long.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// Why nothing is read, if that is an open transaction which has been there for long.
    pub(super) fn trouble(&self, task: &TaskId) -> Option<String> {
        let (from, _) = self.since.filter(|_| self.told)?;
        Some(format!(
            "{}[{}]: an open transaction blocks reading from offset {from} on; if its producer is gone, find and \
             abort it with `kafka-transactions find-hanging` and `abort`",
            task.topic, task.partition
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_stays_open_is_told_once_and_short_ones_never() {
        let start = Instant::now();
        let mut open = Open::default();
        let mut see = |second: u64, from| {
            let told = open.see(from, Duration::from_secs(60), start + Duration::from_secs(second));
            (told, open.is_there(), open.is_told())
        };
        // One after the other.
        assert!((0..500).all(|i| see(i, Some(i as i64)) == (false, true, false)));
        assert_eq!(see(559, Some(500)), (false, true, false));
        assert_eq!(see(618, Some(500)), (false, true, false));
        assert_eq!([see(619, Some(500)), see(900, Some(500))], [(true, true, true), (false, true, true)]);
        assert_eq!([see(901, Some(501)), see(902, None)], [(false, true, false), (false, false, false)]);
    }
}
