//! The present by the brokers' clock: the time of this machine, less its lead over the brokers'.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::clients::Clients;
use crate::core::model::Millis;
use crate::worker::kafka::Now;
use crate::worker::kafka::broker_clock::wall_clock;
use crate::worker::telemetry::Condition;

/// The largest difference in milliseconds to the brokers' clock with which silent partitions still advance.
pub(crate) const MAX_OFF: Millis = 10_000;

/// The clock of a worker. The member thread compares it with the brokers' regularly; all threads read it.
pub(crate) struct Clock {
    clients: Arc<Clients>,
    /// By how many milliseconds the clock of this machine is ahead of the brokers', at the last comparison.
    ahead: AtomicI64,
}

// === impl Clock ===

impl Clock {
    pub(crate) fn new(clients: &Arc<Clients>) -> Self {
        Self { clients: Arc::clone(clients), ahead: AtomicI64::new(0) }
    }

    /// The present: the time of this machine, less its lead over the brokers'.
    pub(crate) fn present(&self) -> Millis {
        wall_clock() - self.ahead.load(Ordering::Relaxed)
    }

    /// By how many milliseconds the clock of this machine is ahead of the brokers' or behind, if that is too much.
    pub(crate) fn is_off(&self) -> Option<Millis> {
        self.clients.appender.clock_ahead(Now::read()).filter(|ahead| ahead.abs() > MAX_OFF)
    }

    /// Compares the clock of this machine with the brokers', and logs a difference.
    pub(crate) fn compare(&self) {
        let ahead = self.clients.appender.clock_ahead(Now::read()).unwrap_or(0);
        let before = self.ahead.swap(ahead, Ordering::Relaxed);
        self.clients.telemetry.clock_ahead(ahead);
        let off = ahead.abs() > MAX_OFF;
        if off || before.abs() > MAX_OFF {
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            let text = || {
                format!(
                    "the clock of this machine is {:.1} s {way} that of the brokers, so it does not advance idle \
                     partitions; correct it and keep it in sync with NTP",
                    ahead.abs() as f64 / 1000.0
                )
            };
            self.clients.telemetry.conditions().report(Condition::Clock, "this machine", off.then(text));
        }
    }
}
