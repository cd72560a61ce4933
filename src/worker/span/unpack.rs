//! A batch that cannot be decompressed: it is damaged, or it unpacks to more than the consumer allows.
//!
//! librdkafka asks for such a batch again and again, for ever. A batch that fails [`TRIES`] times is passed over instead, so
//! that it costs itself and not its partition. Where it ends, nobody says. But each failure tells where the batch begins that
//! failed, and an offset leads to the batch that holds it: so a few single offsets are asked for, until the last one that
//! leads to this batch is known. What is passed over is this batch and nothing else.

use super::SpanRunner;
use crate::kafka::fetch::Undecompressed;
use crate::worker::thread::{Context, Ended};

/// How often a batch is fetched before it is passed over.
const TRIES: u32 = 3;

/// Failures of one batch in a row, and the search for its end.
#[derive(Debug)]
pub(super) struct Unpacking {
    failure: Undecompressed,
    tries: u32,
    search: Option<Search>,
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

    /// The offset to ask for; `None` when the end is known. In steps that double, as most batches are small, and never
    /// further than the middle.
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

// === impl SpanRunner ===

impl SpanRunner {
    /// Whether what comes is the answer to a probe.
    pub(super) fn probes(&self) -> bool {
        self.unpacking.as_ref().is_some_and(|unpacking| unpacking.search.is_some())
    }

    /// A batch could not be decompressed.
    pub(super) fn cannot_unpack(&mut self, context: &Context<'_>, failure: Undecompressed) -> Result<(), Ended> {
        if self.probes() {
            return self.probed(context, Some(failure.begin));
        }
        let before = self.unpacking.take().filter(|before| before.failure.begin == failure.begin);
        let tries = before.map_or(0, |before| before.tries) + 1;
        let search = if tries < TRIES {
            tracing::warn!(task = %self.id, offset = failure.begin, bytes = failure.bytes, reason = failure.reason,
                "a batch cannot be decompressed; it will be fetched again");
            None
        } else {
            // What follows is no answer to a question about silence.
            (self.at_end, self.asked) = (None, None);
            let (_, end) = context.reader.bounds(&self.id.topic, self.id.partition)?;
            Some(Search::new(self.next.max(failure.begin), self.within_stretch(end)))
        };
        self.unpacking = Some(Unpacking { failure, tries, search });
        if self.probes() { self.probe(context) } else { Ok(()) }
    }

    /// What the last probe led to: a batch that cannot be decompressed and begins there, or anything else.
    pub(super) fn probed(&mut self, context: &Context<'_>, failed_at: Option<i64>) -> Result<(), Ended> {
        if let Some(Unpacking { failure, search: Some(search), .. }) = &mut self.unpacking
            && let Some(probe) = search.probe()
        {
            search.learn(probe, failed_at == Some(failure.begin));
        }
        self.probe(context)
    }

    /// Asks for the next offset, or passes the batch over when its end is known.
    fn probe(&mut self, context: &Context<'_>) -> Result<(), Ended> {
        let Some(Unpacking { failure, search: Some(search), .. }) = &self.unpacking else { return Ok(()) };
        if let Some(probe) = search.probe() {
            return Ok(context.fetcher.restart(&self.id.topic, self.id.partition, probe)?);
        }
        let (from, to) = (failure.begin, search.beyond);
        tracing::error!(task = %self.id, from, to, bytes = failure.bytes, reason = failure.reason,
            "passing over a batch that cannot be decompressed: it is damaged, or unpacks to more than librdkafka allows. What it \
             holds is not counted, records_unreadable has its offsets. If the data are sound, give kafka.properties a larger \
             receive.message.max.bytes before such batches come, or let their producer make smaller ones");
        self.unpacking = None;
        // Its offsets are a commit of their own, like those of a gap.
        self.commit_open(context);
        self.task.unreadable(from, to);
        self.commit_open(context);
        self.next = to;
        Ok(context.fetcher.restart(&self.id.topic, self.id.partition, to)?)
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
