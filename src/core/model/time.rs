//! Event time: milliseconds since the epoch, and the steps it is cut into.

use std::num::NonZeroI64;

use jiff::Timestamp;

/// Event time in milliseconds since the Unix epoch.
pub type Millis = i64;

/// The collection interval. Steps are aligned to the epoch; a step is named by its **end**, which is also the timestamp
/// of its samples. A step covers `[end - width, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepWidth(NonZeroI64);

impl StepWidth {
    /// A width in milliseconds; `None` unless it is positive.
    #[must_use]
    pub fn new(ms: Millis) -> Option<Self> {
        NonZeroI64::new(ms).filter(|w| w.get() > 0).map(Self)
    }

    /// The width in milliseconds.
    #[must_use]
    pub fn ms(self) -> Millis {
        self.0.get()
    }

    /// The end of the step that holds `at`.
    #[must_use]
    pub fn end_of(self, at: Millis) -> Millis {
        (at.div_euclid(self.ms()) + 1) * self.ms()
    }

    /// The greatest step end that is not after `at`: every step up to it is over once stream time is `at`.
    #[must_use]
    pub fn passed(self, at: Millis) -> Millis {
        at.div_euclid(self.ms()) * self.ms()
    }
}

/// A time in UTC as RFC 3339.
#[must_use]
pub fn rfc3339(at: Millis) -> String {
    Timestamp::from_millisecond(at).map_or_else(|_| format!("{at} ms"), |at| at.to_string())
}

/// Parses a time as RFC 3339; fractions of a millisecond are dropped.
#[must_use]
pub fn from_rfc3339(text: &str) -> Option<Millis> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// Later than every time of a record. A source that has ended has this plus the end of its last step as its stream
/// time: so it holds no step back, and still shows its last step.
const END: Millis = 1 << 52;

/// Times are at most this far from the epoch, so that adding a duration cannot overflow.
pub const MAX_TIME: Millis = END - 1;

/// The stream time of a source that has ended in the step `last_step`.
#[must_use]
pub fn ended_after(last_step: Millis) -> Millis {
    END + last_step.clamp(0, MAX_TIME)
}

/// The last step of a source, if its stream time shows that it has ended.
#[must_use]
pub fn last_step(stream_time: Millis) -> Option<Millis> {
    stream_time.checked_sub(END).filter(|step| (0..END).contains(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_on_a_boundary_opens_the_next_step() {
        let w = StepWidth::new(15_000).expect("positive");
        assert_eq!(w.end_of(0), 15_000);
        assert_eq!(w.end_of(14_999), 15_000);
        assert_eq!(w.end_of(15_000), 30_000);
        assert_eq!(w.passed(15_000), 15_000);
        assert_eq!(w.passed(14_999), 0);
        assert_eq!(w.end_of(-1), 0);
    }

    #[test]
    fn an_ended_source_is_past_every_step_and_tells_its_last_one() {
        for step in [0, 15_000, MAX_TIME] {
            assert!(ended_after(step) > MAX_TIME);
            assert_eq!(last_step(ended_after(step)), Some(step));
        }
        assert_eq!([last_step(0), last_step(MAX_TIME), last_step(Millis::MAX), last_step(Millis::MIN)], [None; 4]);
    }

    #[test]
    fn times_are_read_and_written_as_rfc_3339_says() {
        for (text, at) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T12:30:45.25Z", 1_709_209_845_250),
            ("2000-03-01T00:00:00+02:00", 951_861_600_000),
            ("1969-12-31T23:59:59.999-00:00", -1),
        ] {
            assert_eq!(from_rfc3339(text), Some(at), "{text}");
            assert_eq!(from_rfc3339(&rfc3339(at)), Some(at));
        }
        for bad in ["", "now", "2023-02-29T00:00:00Z", "2024-01-01", "2024-01-01T24:00:00Z", "2024-01-01T00:00:00", "é"]
        {
            assert_eq!(from_rfc3339(bad), None, "{bad}");
        }
        assert_eq!(rfc3339(Millis::MAX), format!("{} ms", Millis::MAX));
    }

    #[test]
    fn a_width_must_be_positive() {
        assert!(StepWidth::new(0).is_none());
        assert!(StepWidth::new(-1).is_none());
    }
}
