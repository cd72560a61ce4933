//! When the series of a request began to count, which only remote write 2.0 can carry.
//!
//! The series of a label set stand next to one another and began together, so runs are stored: less than a byte a series.

use std::sync::Arc;

use crate::core::model::Millis;
use crate::core::model::wire::{Malformed, Reader, put_i64, put_u64};

/// For each series of a request, in order, when counting began; 0 where that is not known, or does not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartTimes(Arc<[Run]>);

/// A time, and for how many series that follow each other.
type Run = (Millis, u32);

/// The start times of a request that is being built.
#[derive(Debug, Default)]
pub(super) struct StartTimesBuilder(Vec<Run>);

// === impl StartTimes ===

impl StartTimes {
    /// Of series in order; `None` if it is known for none of them.
    pub fn of(times: impl IntoIterator<Item = Millis>) -> Option<Self> {
        let mut builder = StartTimesBuilder::default();
        times.into_iter().for_each(|time| builder.push(time));
        builder.finish()
    }

    /// One for each series.
    pub fn iter(&self) -> impl Iterator<Item = Millis> + '_ {
        self.0.iter().flat_map(|&(time, series)| std::iter::repeat_n(time, series as usize))
    }

    /// Appends the bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.0.len() as u64);
        let mut last = 0;
        for &(time, series) in &*self.0 {
            put_i64(out, time.wrapping_sub(last));
            put_u64(out, series.into());
            last = time;
        }
    }

    /// Reads what [`StartTimes::encode`] wrote.
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (mut runs, mut last) = (Vec::new(), 0i64);
        for _ in 0..r.u64()? {
            last = last.wrapping_add(r.i64()?);
            runs.push((last, r.uint()?));
        }
        Ok(Self(runs.into()))
    }
}

// === impl StartTimesBuilder ===

impl StartTimesBuilder {
    pub(super) fn push(&mut self, time: Millis) {
        match self.0.last_mut() {
            Some((last, series)) if *last == time => *series = series.saturating_add(1),
            _ => self.0.push((time, 1)),
        }
    }

    pub(super) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Takes what was pushed; `None` if it is known for no series.
    pub(super) fn finish(&mut self) -> Option<StartTimes> {
        let known = self.0.iter().any(|(time, _)| *time != 0);
        let times = known.then(|| StartTimes(self.0.as_slice().into()));
        self.0.clear();
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_in_order_and_none_are_nothing() {
        let times = [0, 5, 5, 5, 0, 9, 5, -3];
        let packed = StartTimes::of(times).expect("some are known");
        assert_eq!((packed.0.len(), packed.iter().collect::<Vec<_>>()), (6, times.to_vec()));
        assert_eq!((StartTimes::of([0, 0]), StartTimes::of([])), (None, None));
        let mut bytes = Vec::new();
        packed.encode(&mut bytes);
        assert_eq!(StartTimes::decode(&mut Reader::new(&bytes)), Ok(packed));
        assert!(StartTimes::decode(&mut Reader::new(&bytes[..bytes.len() - 1])).is_err());
    }
}
