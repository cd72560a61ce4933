//! When the metrics of a set began to count, as numbers behind its cells: remote write 2.0 sends it with every sample.
//!
//! The first number is the time of the first metric that began, and for each metric there is one more than how much later
//! it began; 0: it has not begun, or that is not known, as in sets of an earlier version. Most metrics of a set begin
//! together, so that is a byte each.

use crate::core::model::Millis;

/// The numbers of a set with so many metrics.
pub(super) fn numbers(metrics: usize) -> usize {
    1 + metrics
}

/// When a metric began; 0 if that is not known.
pub(super) fn of(numbers: &[u64], metric: usize) -> Millis {
    let first = numbers.first().copied().unwrap_or(0);
    match numbers.get(1 + metric) {
        None | Some(0) => 0,
        Some(later) => first.wrapping_add(later - 1).cast_signed(),
    }
}

/// A metric begins, unless it has; returns whether that is new. `at` is positive, and not before any that began earlier.
pub(super) fn begin(numbers: &mut [u64], metric: usize, at: Millis) -> bool {
    let Some((first, later)) = numbers.split_first_mut() else { return false };
    let Some(later) = later.get_mut(metric).filter(|later| **later == 0 && at > 0) else { return false };
    if *first == 0 {
        *first = at.cast_unsigned();
    }
    *later = at.cast_unsigned().saturating_sub(*first) + 1;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_begins_once_and_keeps_its_time() {
        let mut all = vec![0; numbers(3)];
        assert_eq!([of(&all, 0), of(&all, 1), of(&all, 9)], [0; 3]);
        assert!(begin(&mut all, 1, 14_000) && begin(&mut all, 0, 14_000) && begin(&mut all, 2, 44_000));
        assert!(!begin(&mut all, 1, 59_000) && !begin(&mut all, 9, 59_000));
        assert_eq!([of(&all, 0), of(&all, 1), of(&all, 2)], [14_000, 14_000, 44_000]);
        assert_eq!(all[1..3], [1, 1], "a byte each");
    }
}
