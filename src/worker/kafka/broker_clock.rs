//! The brokers' clock, as the acknowledgements of internal topics show it.
//!
//! The internal topics are created with `message.timestamp.type=LogAppendTime`, so a record holds the time at which the
//! broker stored it. That was after the record had been sent and before its acknowledgement came. A clock of this
//! machine that disagrees is wrong by at least the difference. Between two acknowledgements, the monotonic clock
//! extends the reading, so a clock that is set while the worker runs is noticed at once.

use std::collections::BTreeMap;
#[cfg(feature = "sabotage")]
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::core::model::Millis;

/// A clock change by more than this invalidates the earlier readings.
const SET: Millis = 1_000;

/// A reading that is older than the last one by more than this belongs to a partition that this worker no longer
/// writes: its broker may have been wrong, and sends no further readings. An idle worker keeps its readings.
const STALE: Duration = Duration::from_secs(300);

/// The year 2020. An earlier timestamp is no time of day: librdkafka's embedded broker, which `demo` has, reports its
/// uptime.
const EARLIEST: Millis = 1_577_836_800_000;

/// Both clocks of this machine, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall-clock time, in milliseconds since the epoch.
    pub wall: Millis,
    /// The monotonic clock.
    pub monotonic: Instant,
}

/// By how much the clock of this machine is ahead of the brokers'.
#[derive(Debug, Default)]
pub struct BrokerClock(Mutex<Readings>);

#[derive(Debug, Default)]
struct Readings {
    /// The last reading of each partition, and when it was made. One broker may have a wrong clock, but not all of
    /// them.
    ahead: BTreeMap<(String, i32), (Millis, Instant)>,
    /// When the last one was made.
    last: Option<Now>,
}

/// The time by the clock of this machine.
#[must_use]
pub fn wall_clock() -> Millis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = since.map_or(0, |since| since.as_millis() as Millis);
    #[cfg(feature = "sabotage")]
    let now = now + CLOCK_OFF.load(Ordering::Relaxed);
    now
}

/// By how many milliseconds the clock of this process is set wrong, for a test.
#[cfg(feature = "sabotage")]
static CLOCK_OFF: AtomicI64 = AtomicI64::new(0);

/// Sets the clock of this process ahead by so many milliseconds, or back.
#[cfg(feature = "sabotage")]
pub fn set_clock(ahead: Millis) {
    CLOCK_OFF.store(ahead, Ordering::Relaxed);
}

// === impl Now ===

impl Now {
    /// Reads both clocks.
    #[must_use]
    pub fn read() -> Self {
        Self { wall: wall_clock(), monotonic: Instant::now() }
    }
}

// === impl BrokerClock ===

impl BrokerClock {
    /// A record of a partition was sent, was stored at `stored` by its broker's clock, and is acknowledged.
    pub fn learn(&self, topic: &str, partition: i32, sent: Millis, stored: Millis, now: Now) {
        if stored < EARLIEST {
            return;
        }
        let mut readings = self.readings();
        if readings.set_since(now).abs() > SET {
            readings.ahead.clear();
        }
        let ahead = (sent - stored).max(0) + (now.wall - stored).min(0);
        readings.last = Some(now);
        readings.forget_stale(now.monotonic);
        if let Some(known) = readings.ahead.get_mut(&(topic.to_owned(), partition)) {
            *known = (ahead, now.monotonic);
        } else {
            readings.ahead.insert((topic.to_owned(), partition), (ahead, now.monotonic));
        }
    }

    /// By how many milliseconds the clock of this machine is ahead; negative when it is behind. `None` while no broker
    /// has reported its time.
    #[must_use]
    pub fn ahead(&self, now: Now) -> Option<Millis> {
        let readings = self.readings();
        let mut all: Vec<Millis> = readings.ahead.values().map(|(ahead, _)| *ahead).collect();
        all.sort_unstable();
        let median = *all.get(all.len() / 2)?;
        let set = readings.set_since(now);
        Some(median + if set.abs() > SET { set } else { 0 })
    }

    fn readings(&self) -> MutexGuard<'_, Readings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Readings ===

impl Readings {
    fn forget_stale(&mut self, present: Instant) {
        self.ahead.retain(|_, (_, made)| present.saturating_duration_since(*made) <= STALE);
    }

    /// By how much the clock was set since the last reading.
    fn set_since(&self, now: Now) -> Millis {
        let Some(last) = self.last else { return 0 };
        let passed = now.monotonic.saturating_duration_since(last.monotonic).as_millis();
        now.wall - last.wall - Millis::try_from(passed).unwrap_or(Millis::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Millis = 3_600_000;
    const NOON: Millis = 1_700_000_000_000;

    fn at(start: Instant, wall: Millis, seconds: u64) -> Now {
        Now { wall, monotonic: start + Duration::from_secs(seconds) }
    }

    #[test]
    fn a_clock_that_agrees_is_not_ahead_however_slow_the_broker_is() {
        let (clock, start) = (BrokerClock::default(), Instant::now());
        assert_eq!(clock.ahead(at(start, NOON, 0)), None);
        clock.learn("journal", 0, NOON, NOON + 20_000, at(start, NOON + 45_000, 45));
        assert_eq!(clock.ahead(at(start, NOON + 45_000, 45)), Some(0));
    }

    #[test]
    fn a_broker_that_tells_no_time_of_day_says_nothing_about_a_clock() {
        let (clock, start) = (BrokerClock::default(), Instant::now());
        clock.learn("journal", 0, NOON, 43_000, at(start, NOON, 0));
        assert_eq!(clock.ahead(at(start, NOON, 0)), None);
    }

    #[test]
    fn a_clock_is_ahead_or_behind_by_what_the_brokers_say_at_the_least() {
        for off in [HOUR, -HOUR, 60_000] {
            let (clock, start) = (BrokerClock::default(), Instant::now());
            clock.learn("journal", 0, NOON + off, NOON + 10, at(start, NOON + off + 30, 0));
            let ahead = clock.ahead(at(start, NOON + off + 30, 0)).expect("a reading");
            assert!((off - ahead).abs() <= 30, "{off}: {ahead}");
        }
    }

    #[test]
    fn one_broker_with_a_wrong_clock_says_nothing_about_ours() {
        let (clock, start) = (BrokerClock::default(), Instant::now());
        for (partition, off) in [(0, 0), (1, HOUR), (2, 5), (3, -2), (4, HOUR)] {
            clock.learn("journal", partition, NOON, NOON - off, at(start, NOON, 0));
        }
        assert!(clock.ahead(at(start, NOON, 0)).is_some_and(|ahead| ahead.abs() <= 5));
    }

    #[test]
    fn partitions_that_are_written_no_more_are_forgotten_and_an_idle_worker_keeps_what_it_knows() {
        let (clock, start) = (BrokerClock::default(), Instant::now());
        for partition in [0, 1] {
            clock.learn("journal", partition, NOON + HOUR, NOON, at(start, NOON + HOUR, 0));
        }
        clock.learn("journal", 2, NOON + HOUR, NOON + HOUR, at(start, NOON + HOUR, 0));
        let later = |seconds: u64| at(start, NOON + HOUR + seconds as Millis * 1_000, seconds);
        assert_eq!(clock.ahead(later(3_000)), Some(HOUR), "nothing is newer");
        clock.learn("journal", 2, later(3_000).wall, later(3_000).wall, later(3_000));
        assert_eq!(clock.ahead(later(3_000)), Some(0));
        assert_eq!(clock.readings().ahead.len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_before_the_next_acknowledgement_and_right_again_after_it_was_set_right() {
        let (clock, start) = (BrokerClock::default(), Instant::now());
        clock.learn("journal", 0, NOON, NOON, at(start, NOON, 0));
        assert_eq!(clock.ahead(at(start, NOON + 10_000, 10)), Some(0));
        assert_eq!(clock.ahead(at(start, NOON + 10_000 + HOUR, 10)), Some(HOUR), "set by an hour");
        clock.learn("journal", 1, NOON + HOUR + 20_000, NOON + 20_000, at(start, NOON + HOUR + 20_000, 20));
        assert_eq!(clock.ahead(at(start, NOON + HOUR + 20_000, 20)), Some(HOUR), "what was read before is void");
        assert_eq!(clock.ahead(at(start, NOON + 30_000, 30)), Some(0), "set right");
    }
}
