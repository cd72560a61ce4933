//! Which shard writes a snapshot next. One after the other, as each snapshot is in memory twice until it is stored. The
//! shard that has waited longest comes first: otherwise, with many shards, the last ones would never get a turn, and
//! their journals would grow without bound.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A shard that has not asked for longer does not want a turn any more: it has moved, or has other work to do first.
const ASKS_WITHIN: Duration = Duration::from_secs(2);

/// The turns of a worker's shards.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    taken: bool,
    /// By shard, since when it waits and when it asked last.
    waiting: BTreeMap<i32, (Instant, Instant)>,
}

/// The turn to write a snapshot; over when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

// === impl Turns ===

impl Turns {
    /// Returns the turn, if it is this shard's. Call it again until it is.
    pub(super) fn ask(self: &Arc<Self>, shard: i32, present: Instant) -> Option<Turn> {
        let mut queue = self.queue();
        queue.waiting.retain(|_, (_, asked)| present.saturating_duration_since(*asked) <= ASKS_WITHIN);
        queue.waiting.entry(shard).or_insert((present, present)).1 = present;
        let next = queue.waiting.iter().min_by_key(|(_, (since, _))| *since).map(|(shard, _)| *shard);
        if queue.taken || next != Some(shard) {
            return None;
        }
        queue.waiting.remove(&shard);
        queue.taken = true;
        drop(queue);
        Some(Turn(Arc::clone(self)))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.queue().taken = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_written_one_after_the_other_and_every_shard_gets_its_turn() {
        let (turns, start) = (Arc::new(Turns::default()), Instant::now());
        // Four shards want one all the time, and always ask in the same order.
        let (mut turn, mut had) = (None, Vec::new());
        for tenth in 0..8 {
            let present = start + Duration::from_millis(100 * tenth);
            drop(turn.take());
            for shard in 0..4 {
                if let Some(new) = turns.ask(shard, present + Duration::from_millis(shard.unsigned_abs().into())) {
                    assert!(turn.is_none(), "two at once");
                    turn = Some(new);
                    had.push(shard);
                }
            }
        }
        assert_eq!(had, [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn a_shard_that_does_not_ask_any_more_keeps_nobody_waiting() {
        let (turns, start) = (Arc::new(Turns::default()), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let turn = turns.ask(0, at(0));
        assert!(turn.is_some() && turns.ask(1, at(0)).is_none() && turns.ask(2, at(1)).is_none());
        drop(turn);
        assert!(turns.ask(2, at(2)).is_none(), "the other one has waited for longer");
        assert!(turns.ask(2, at(3)).is_some(), "but it has moved");
    }
}
