//! Which record of several partitions comes next: the earliest, as far as that is known.
//!
//! A partition of which no record is there may deliver an earlier one than the others have. It is waited for, unless it has
//! been read up to its end, the others are hardly ahead of it, or it has delivered nothing for [`PATIENCE`].

use std::time::Duration;

use crate::core::model::Millis;

/// By how much a record may be ahead of a partition of which none is there.
const SLACK: Millis = 200;
/// How long a partition is waited for.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// One partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Its next record has this time.
    Has(Millis),
    /// It has been read up to its end.
    AtEnd,
    /// Its next record is too far ahead of other partitions.
    Held,
    /// Nothing is there since so long; its last record had this time.
    Waits(Duration, Option<Millis>),
}

/// The partition whose record comes next, if one does. Times after the `present` count as the present: a wrong clock does
/// not hold its partition back for ever.
pub(super) fn next(lanes: impl Iterator<Item = Lane> + Clone, present: Millis) -> Option<usize> {
    let earliest = |(at, lane)| match lane {
        Lane::Has(time) => Some((present.min(time), at)),
        Lane::AtEnd | Lane::Held | Lane::Waits(..) => None,
    };
    let (time, at) = lanes.clone().enumerate().filter_map(earliest).min()?;
    let mut lanes = lanes;
    let is_waited_for = lanes.any(|lane| match lane {
        Lane::Waits(since, last) => since < PATIENCE && last.is_none_or(|last| time > last.saturating_add(SLACK)),
        Lane::Has(_) | Lane::AtEnd | Lane::Held => false,
    });
    (!is_waited_for).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes(lanes: &[Lane]) -> Option<usize> {
        next(lanes.iter().copied(), 10_000)
    }

    #[test]
    fn the_earliest_record_comes_next() {
        assert_eq!(comes(&[]), None);
        assert_eq!(comes(&[Lane::Has(5), Lane::Has(3), Lane::Has(4), Lane::AtEnd]), Some(1));
        assert_eq!(comes(&[Lane::Has(3), Lane::Has(3)]), Some(0));
        assert_eq!(comes(&[Lane::Held, Lane::Has(3)]), Some(1));
        assert_eq!(comes(&[Lane::Held, Lane::AtEnd]), None);
    }

    #[test]
    fn a_partition_that_may_have_an_earlier_one_is_waited_for_but_not_for_long() {
        let waits = |millis, last| Lane::Waits(Duration::from_millis(millis), last);
        assert_eq!(comes(&[Lane::Has(1_000), waits(499, Some(700))]), None);
        assert_eq!(comes(&[Lane::Has(1_000), waits(499, Some(800))]), Some(0), "hardly ahead");
        assert_eq!(comes(&[Lane::Has(1_000), waits(500, Some(0))]), Some(0), "waited for long enough");
        assert_eq!(comes(&[Lane::Has(1_000), waits(0, None)]), None);
        assert_eq!(comes(&[waits(0, None), Lane::AtEnd]), None);
    }

    #[test]
    fn a_record_from_the_future_comes_when_the_present_does() {
        assert_eq!(comes(&[Lane::Has(99_000), Lane::Has(9_999)]), Some(1));
        assert_eq!(comes(&[Lane::Has(99_000), Lane::Has(10_001)]), Some(0));
    }
}
