//! The slots of stream time as ranges of offsets, and their bytes in a commit.
//!
//! ```text
//! width | count | slots: number gap | offset gap | 0, or 1 + offset gap | ordinal of where it was full
//! ```
//!
//! Gaps are to the slot before; the first offset is relative to where re-reading starts.

use std::collections::VecDeque;

use crate::core::model::wire::{Malformed, Reader, put_i64, put_u64};

/// The records of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Stream time divided by the width.
    pub(super) number: i64,
    /// The offset of its first record.
    pub(super) first: i64,
    /// From this span of this record on nothing more was remembered.
    pub(super) full: Option<(i64, u32)>,
}

/// Slots that records came in, the oldest first.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Slots(VecDeque<Slot>);

impl Slot {
    /// Whether nothing is remembered from the span at `here` on.
    pub(super) fn is_full_at(&self, here: (i64, u32)) -> bool {
        self.full.is_some_and(|full| full <= here)
    }
}

impl Slots {
    pub(super) fn push(&mut self, slot: Slot) {
        self.0.push_back(slot);
    }

    pub(super) fn first(&self) -> Option<&Slot> {
        self.0.front()
    }

    pub(super) fn last(&self) -> Option<&Slot> {
        self.0.back()
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Slot> {
        self.0.back_mut()
    }

    /// The number of the slot that holds the record at `offset`; of the first one if that lies before all.
    pub(super) fn of(&self, offset: i64) -> Option<i64> {
        let after = self.0.partition_point(|slot| slot.first <= offset);
        self.0.get(after.saturating_sub(1)).map(|slot| slot.number)
    }

    pub(super) fn forget_before(&mut self, number: i64) {
        while self.0.pop_front_if(|slot| slot.number < number).is_some() {}
    }

    /// The next slot, if it begins at or before the record at `offset`.
    pub(super) fn take_up_to(&mut self, offset: i64) -> Option<Slot> {
        self.0.pop_front_if(|slot| slot.first <= offset)
    }

    pub(super) fn encode(&self, width: i64) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + 8 * self.0.len());
        put_i64(&mut out, width);
        put_u64(&mut out, self.0.len() as u64);
        let mut last = (0, self.first().map_or(0, |slot| slot.first));
        for slot in &self.0 {
            put_i64(&mut out, slot.number - last.0);
            put_i64(&mut out, slot.first - last.1);
            match slot.full {
                None => put_u64(&mut out, 0),
                Some((offset, ordinal)) => {
                    put_u64(&mut out, 1 + offset.abs_diff(slot.first));
                    put_u64(&mut out, ordinal.into());
                }
            }
            last = (slot.number, slot.first);
        }
        out
    }

    /// Reads what [`Slots::encode`] wrote, of which the first slot begins at `from`. If the width was another one, each slot
    /// goes to that of its beginning.
    pub(super) fn decode(from: i64, bytes: &[u8], width: i64) -> Result<Self, Malformed> {
        const RANGE: Malformed = Malformed("a slot is out of range");
        let mut r = Reader::new(bytes);
        let listed = r.i64()?;
        if listed <= 0 {
            return Err(RANGE);
        }
        let (mut slots, mut last): (VecDeque<Slot>, _) = (VecDeque::new(), (0i64, from));
        for _ in 0..r.uint::<usize>()? {
            let number = last.0.checked_add(r.i64()?).ok_or(RANGE)?;
            let first = last.1.checked_add(r.i64()?).ok_or(RANGE)?;
            let full = match r.u64()? {
                0 => None,
                gap => Some((first.checked_add_unsigned(gap - 1).ok_or(RANGE)?, r.uint()?)),
            };
            last = (number, first);
            let number = if listed == width { number } else { number.saturating_mul(listed).div_euclid(width) };
            match slots.back_mut() {
                Some(back) if back.number >= number => back.full = back.full.or(full),
                _ => slots.push_back(Slot { number, first, full }),
            }
        }
        Ok(Self(slots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        let slot = |number, first, full| Slot { number, first, full };
        Slots([slot(7, 100, None), slot(8, 101, Some((101, 3))), slot(12, 150, Some((152, 0)))].into())
    }

    #[test]
    fn slots_come_back_from_their_bytes() {
        assert_eq!(Slots::decode(100, &slots().encode(10), 10), Ok(slots()));
        assert_eq!(Slots::decode(0, &Slots::default().encode(10), 10), Ok(Slots::default()));
    }

    #[test]
    fn slots_of_another_width_are_joined_and_stay_full() {
        let joined = Slots::decode(100, &slots().encode(10), 100).expect("slots");
        let slot = |number, first, full| Slot { number, first, full };
        assert_eq!(joined, Slots([slot(0, 100, Some((101, 3))), slot(1, 150, Some((152, 0)))].into()));
        let apart = Slots::decode(100, &slots().encode(10), 5).expect("slots");
        assert_eq!(apart.0.iter().map(|slot| slot.number).collect::<Vec<_>>(), [14, 16, 24]);
    }

    #[test]
    fn damaged_slots_are_errors() {
        let good = slots().encode(10);
        for short in 0..good.len() {
            assert!(Slots::decode(100, &good[..short], 10).is_err(), "{short}");
        }
        assert!(Slots::decode(0, &[0, 0], 10).is_err());
        assert!(Slots::decode(i64::MAX, &good, 10).is_err());
    }

    #[test]
    fn an_offset_is_in_the_last_slot_that_begins_before_it() {
        let slots = slots();
        assert_eq!(
            [99, 100, 120, 150, 900].map(|offset| slots.of(offset)),
            [Some(7), Some(7), Some(8), Some(12), Some(12)]
        );
    }
}
