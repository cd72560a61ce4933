//! Closes the steps again that a journal records as closed: with the same delta records, wherever these lie in the
//! deltas topic now.
//!
//! A mark names what its step counts ([`Basis`]). Records within that are counted; records beyond are held back until
//! the step is closed, by reading them a second time. So it does not matter whether the topic has lost records since
//! and has them again at other offsets. A mark of an earlier version holds an offset only.

use std::collections::VecDeque;

use super::chain::DeltaChain;
use super::series::{Basis, EmitMark};
use crate::core::model::Millis;

/// The marks that are still to be closed, and the read position.
#[derive(Debug, Clone)]
pub struct Again {
    marks: VecDeque<(i64, EmitMark)>,
    /// Of the delta records of the first mark, those that may still be missing: sources, each with what counts next. A
    /// chain only grows, so a source that is complete once need not be checked again with every record.
    awaited: Option<Vec<(String, i32, (u64, u32))>>,
    /// The first record of this pass that a later mark may count.
    held_back: Option<i64>,
    /// The offset after the last record that was read.
    next: i64,
}

/// The present delta records are not those that a step was closed with: closing it again would contradict its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the available delta records are not those that step {step} includes, so a journal of a source partition has \
     lost its end or was re-created; restore the topics, or start again with another kafka.group"
)]
pub struct Mismatch {
    /// The end of the step.
    pub step: Millis,
}

// === impl Again ===

impl Again {
    /// These marks, each with its deltas offset; reading begins at `from`.
    #[must_use]
    pub fn new(marks: Vec<(i64, EmitMark)>, from: i64) -> Self {
        Self { marks: marks.into(), awaited: None, held_back: None, next: from }
    }

    /// The mark whose step is to be closed before the record at `offset`, if there is one, where `chain` and `digest`
    /// stand for what has been counted. Call it again until it returns none, and never with less than before.
    ///
    /// # Errors
    /// When all delta records of the mark are there and are not the same as before. The step must not be closed.
    pub fn due(&mut self, offset: i64, chain: &DeltaChain, digest: u64) -> Result<Option<EmitMark>, Mismatch> {
        let Some((to, mark)) = self.marks.front() else { return Ok(None) };
        let due = match &mark.basis {
            Some(basis) => {
                let own = |(topic, partition, next): (&str, i32, _)| (topic.to_owned(), partition, next);
                let awaited = self.awaited.get_or_insert_with(|| basis.chain.sources().map(own).collect());
                while awaited.pop_if(|(topic, partition, next)| *next <= chain.next(topic, *partition)).is_some() {}
                awaited.is_empty()
            }
            None => *to <= offset,
        };
        if let Some(Basis { digest: then, .. }) = mark.basis.as_ref().filter(|_| due)
            && *then != digest
        {
            return Err(Mismatch { step: mark.step });
        }
        if !due {
            return Ok(None);
        }
        self.awaited = None;
        Ok(self.marks.pop_front().map(|(_, mark)| mark))
    }

    /// Whether this delta record counts now. One that does not may count for a later mark.
    pub fn takes(&mut self, offset: i64, topic: &str, partition: i32, (commit_number, part): (u64, u32)) -> bool {
        let Some((_, mark)) = self.marks.front() else {
            // Reading continues with it.
            self.held_back.get_or_insert(offset);
            return false;
        };
        self.next = self.next.max(offset + 1);
        let takes = mark.basis.as_ref().is_none_or(|basis| basis.chain.counts(topic, partition, commit_number, part));
        if !takes {
            self.held_back.get_or_insert(offset);
        }
        takes
    }

    /// How many marks are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.marks.len()
    }

    /// Whether all marks are closed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.marks.is_empty()
    }

    /// How far the topic was when the last mark was made: usually, all needed records lie before.
    #[must_use]
    pub fn reaches(&self) -> Option<i64> {
        self.marks.back().map(|(to, _)| *to)
    }

    /// Where reading continues. Ends the pass: records that were held back are read again.
    pub fn go_on(&mut self) -> i64 {
        self.held_back.take().unwrap_or(self.next)
    }

    /// The delta records that the next mark needs and that have not come: sources, each with the first commit.
    #[must_use]
    pub fn lacks(&self, chain: &DeltaChain) -> Vec<(String, i32, u64)> {
        let basis = self.marks.front().and_then(|(_, mark)| mark.basis.as_ref());
        basis.map_or_else(Vec::new, |basis| chain.lacks(&basis.chain))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ChainVerdict, Change, EmitCause};
    use super::*;

    /// Delta records of one part: partition and commit.
    fn basis(delta_records: &[(i32, u64)]) -> Basis {
        let (mut chain, mut digest) = (DeltaChain::new(), 0);
        for &(partition, commit_number) in delta_records {
            chain.accept("spans", partition, commit_number, 0, 1);
            digest = Basis::add(digest, sum(partition, commit_number));
        }
        Basis { chain, digest }
    }

    fn sum(partition: i32, commit_number: u64) -> u64 {
        u64::from(partition.unsigned_abs()) << 32 | (commit_number + 1)
    }

    fn mark(step: Millis, basis: Option<Basis>) -> EmitMark {
        let (left_out, behind) = (Vec::new(), Vec::new());
        EmitMark {
            step,
            cause: EmitCause::Watermark,
            acknowledged: None,
            left_out,
            behind,
            basis,
            change: Change::default(),
        }
    }

    /// Reads the log from `from` on in one pass; the steps that were closed.
    fn pass(again: &mut Again, now: &mut Basis, log: &[(i32, u64)], from: i64) -> Result<Vec<Millis>, Mismatch> {
        let mut closed = Vec::new();
        let records = (0..).zip(log).skip(usize::try_from(from).expect("small"));
        for (offset, &(partition, commit_number)) in records {
            while let Some(mark) = again.due(offset, &now.chain, now.digest)? {
                closed.push(mark.step);
            }
            if again.takes(offset, "spans", partition, (commit_number, 0))
                && now.chain.accept("spans", partition, commit_number, 0, 1)
                    == (ChainVerdict::Accepted { complete: true })
            {
                now.digest = Basis::add(now.digest, sum(partition, commit_number));
            }
        }
        while let Some(mark) = again.due(log.len() as i64, &now.chain, now.digest)? {
            closed.push(mark.step);
        }
        Ok(closed)
    }

    #[test]
    fn steps_are_closed_of_the_same_delta_records_wherever_they_lie() {
        let all = [(0, 0), (1, 0), (0, 1), (1, 1), (1, 2)];
        let marks = vec![(2, mark(15, Some(basis(&all[..2])))), (5, mark(30, Some(basis(&all))))];
        let run = |log: &[(i32, u64)]| {
            let (mut again, mut now) = (Again::new(marks.clone(), 0), basis(&[]));
            let (mut closed, mut from) = (Vec::new(), 0);
            for _ in 0..2 {
                closed.extend(pass(&mut again, &mut now, log, from)?);
                from = again.go_on();
            }
            Ok::<_, Mismatch>((closed, again.is_done(), from, again.lacks(&now.chain)))
        };
        assert_eq!(run(&all), Ok((vec![15, 30], true, 5, vec![])));
        // What follows is read from its beginning.
        assert_eq!(run(&[&all[..], &[(0, 2), (0, 3)]].concat()), Ok((vec![15, 30], true, 5, vec![])));
        // Lost, and sent again behind what came meanwhile.
        let again = [(1, 0), (1, 1), (1, 2), (0, 2), (0, 0), (0, 1)];
        assert_eq!(run(&again), Ok((vec![15, 30], true, 3, vec![])));
        let lost = [(1, 0), (1, 1), (1, 2), (0, 2)];
        assert_eq!(run(&lost), Ok((vec![], false, 1, vec![("spans".to_owned(), 0, 0)])));
    }

    #[test]
    fn other_delta_records_of_the_same_numbers_are_refused() {
        let mut other = basis(&[(0, 0)]);
        other.digest += 1;
        let mut again = Again::new(vec![(1, mark(15, Some(other)))], 0);
        assert_eq!(pass(&mut again, &mut basis(&[]), &[(0, 0)], 0), Err(Mismatch { step: 15 }));
        assert!(!again.is_done());
    }

    #[test]
    fn a_mark_that_names_no_delta_records_closes_at_its_offset() {
        let mut again = Again::new(vec![(1, mark(15, None)), (2, mark(30, None))], 0);
        let mut now = basis(&[]);
        assert_eq!(pass(&mut again, &mut now, &[(0, 0), (0, 1), (0, 2)], 0), Ok(vec![15, 30]));
        assert_eq!((now.chain.next("spans", 0), again.go_on()), ((2, 0), 2));
    }
}
