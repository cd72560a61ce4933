//! Event time: milliseconds since the epoch, and the steps it is cut into.

use std::num::NonZeroI64;

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
    fn a_width_must_be_positive() {
        assert!(StepWidth::new(0).is_none());
        assert!(StepWidth::new(-1).is_none());
    }
}
