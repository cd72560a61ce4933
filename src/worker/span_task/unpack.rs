//! A batch that cannot be decompressed: it is damaged, or it unpacks to more than the consumer allows.
//!
//! librdkafka fetches such a batch again without end. A batch that fails [`TRIES`] times is skipped instead, so that
//! only the batch is lost and not its partition. librdkafka does not report where a batch ends. But each failure
//! reports where the failed batch begins, and a fetch at an offset returns the batch that holds it: so the task fetches
//! at a few single offsets, until it knows the last one that leads to this batch. Only this batch is skipped.

use crate::worker::kafka::fetch::Undecompressed;
use crate::worker::telemetry::TaskId;

/// How often a batch is fetched before it is skipped.
const TRIES: u32 = 3;

/// Failures of one batch in a row, and the search for its end.
#[derive(Debug)]
pub(super) struct Unpacking {
    failure: Undecompressed,
    tries: u32,
    search: Option<Search>,
}

/// The next step of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask for this offset.
    Probe(i64),
    /// The end is known: continue at `to`.
    PassOver { from: i64, to: i64 },
}

/// The search for the end of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Search {
    /// The last offset that is known to lie in the batch.
    inside: i64,
    /// The first one that is known not to.
    beyond: i64,
    step: i64,
}

// === impl Search ===

impl Search {
    /// Of a batch that holds `inside`, in a partition that is read up to `end`.
    fn new(inside: i64, end: i64) -> Self {
        Self { inside, beyond: end.max(inside + 1), step: 1 }
    }

    /// The offset to ask for; `None` if the end is known. The steps double, as most batches are small, and never go
    /// beyond the middle.
    fn probe(&self) -> Option<i64> {
        let room = self.beyond - self.inside;
        (room > 1).then(|| self.inside + self.step.min(room / 2).max(1))
    }

    /// Whether the probe lies in the batch.
    fn learn(&mut self, probe: i64, lies_inside: bool) {
        if lies_inside {
            (self.inside, self.step) = (probe, self.step.saturating_mul(2));
        } else {
            self.beyond = probe;
        }
    }
}

// === impl Unpacking ===

impl Unpacking {
    /// A batch could not be decompressed. `before` is what failed before it.
    pub(super) fn failed(before: Option<Self>, task: &TaskId, failure: Undecompressed) -> Self {
        let before = before.filter(|before| before.failure.begin == failure.begin);
        let tries = before.map_or(0, |before| before.tries) + 1;
        if tries < TRIES {
            tracing::warn!(task = %task, offset = failure.begin, bytes = failure.bytes, reason = failure.reason,
                "a batch cannot be decompressed, fetching it again");
        }
        Self { failure, tries, search: None }
    }

    /// Whether it has failed often enough to be skipped.
    pub(super) fn is_given_up(&self) -> bool {
        self.tries >= TRIES
    }

    /// Searches for the end of the batch, in a partition that was read up to `next` and is read up to `end`.
    pub(super) fn search(&mut self, next: i64, end: i64) {
        self.search = Some(Search::new(next.max(self.failure.begin), end));
    }

    /// Whether what comes is the answer to a probe.
    pub(super) fn probes(&self) -> bool {
        self.search.is_some()
    }

    /// What the last probe led to: a batch that cannot be decompressed and begins there, or anything else.
    pub(super) fn probed(&mut self, failed_at: Option<i64>) {
        if let Some(search) = &mut self.search
            && let Some(probe) = search.probe()
        {
            search.learn(probe, failed_at == Some(self.failure.begin));
        }
    }

    /// What to do next, while its end is searched for.
    pub(super) fn next(&self) -> Option<Next> {
        let search = self.search?;
        Some(search.probe().map_or(Next::PassOver { from: self.failure.begin, to: search.beyond }, Next::Probe))
    }

    /// Logs that it is skipped.
    pub(super) fn say(&self, task: &TaskId, (from, to): (i64, i64)) {
        tracing::error!(task = %task, from, to, bytes = self.failure.bytes, reason = self.failure.reason,
            "skipping a batch that cannot be decompressed (damaged, or over librdkafka's size limit), counted in \
             records_unreadable; if the data is intact, set a larger receive.message.max.bytes in kafka.properties \
             before such batches arrive, or configure the producer to send smaller ones");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end that is found of a batch of `records` at `begin`, and how many probes that takes.
    fn find(begin: i64, records: i64, inside: i64, end: i64) -> (i64, usize) {
        let mut search = Search::new(inside, end);
        let mut probes = 0;
        while let Some(probe) = search.probe() {
            assert!(probe > inside && probe < end, "{probe} is beyond the log");
            search.learn(probe, (begin..begin + records).contains(&probe));
            probes += 1;
        }
        (search.beyond, probes)
    }

    #[test]
    fn the_end_of_a_batch_is_found_exactly_with_a_few_probes() {
        for records in (1..200).chain([1_000, 65_536, 1_000_000]) {
            for behind in [0, 1, 2, 1_000, 1 << 40] {
                let (found, probes) = find(7, records, 7, 7 + records + behind);
                assert_eq!(found, 7 + records);
                let bits = (i64::BITS - records.leading_zeros()) as usize;
                assert!(probes <= 2 * bits + 1, "{records} {behind}: {probes}");
            }
        }
    }

    #[test]
    fn a_batch_is_searched_from_the_place_that_was_read_up_to() {
        assert_eq!(find(7, 100, 50, 500).0, 107);
        assert_eq!(find(7, 100, 106, 107), (107, 0));
    }
}
