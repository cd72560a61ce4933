//! Time by the ends of spans: what time a record says it is, and which step each of its spans belongs to.

use crate::model::{Ledger, Millis, StepWidth, Tally};
use crate::otlp::{Batch, ResourceSpans};

/// Of a record's spans, one in so many may be older than stream time wants to know.
const OLDEST_ONE_IN: usize = 10;

/// Tells time by the ends of spans.
#[derive(Debug)]
pub(super) struct SpanClock {
    width: StepWidth,
    lateness: Millis,
    /// What ends later comes from the future.
    ceiling: Millis,
    /// The end of the oldest open step.
    oldest: Millis,
    /// The latest step of any span.
    pub(super) latest: Millis,
    /// The ends of a record's spans.
    ends: Vec<Millis>,
}

// === impl SpanClock ===

impl SpanClock {
    pub(super) fn new(width: StepWidth, lateness: Millis) -> Self {
        Self { width, lateness, ceiling: 0, oldest: 0, latest: 0, ends: Vec::new() }
    }

    /// The stream time that a record asks for: its spans' earliest end, less the lateness. The oldest tenth of the spans is
    /// left out, so that one slow clock among many does not hold time back; and as it is the earliest of the rest, it
    /// takes nine fast clocks to drag time forward. `None` if no span has an end that can be.
    pub(super) fn time_of(&mut self, batch: &Batch, ceiling: Millis) -> Option<Millis> {
        self.ceiling = ceiling;
        self.ends.clear();
        self.ends.extend(batch.ends().map(millis).filter(|end| (1..=ceiling).contains(end)));
        let at = self.ends.len() / OLDEST_ONE_IN;
        if self.ends.is_empty() {
            return None;
        }
        let (_, earliest, _) = self.ends.select_nth_unstable(at);
        Some((*earliest - self.lateness).max(0))
    }

    /// From now on it is `stream_time`.
    pub(super) fn set(&mut self, stream_time: Millis) {
        self.oldest = self.width.end_of(stream_time);
    }

    /// How long after the oldest open step the one of a span ends.
    pub(super) fn ahead(&mut self, end_ns: u64, ledger: &mut Ledger) -> Millis {
        match self.place(end_ns) {
            Ok(step) => {
                self.latest = self.latest.max(step);
                step - self.oldest
            }
            Err(tally) => {
                ledger.add(tally, 1);
                0
            }
        }
    }

    /// The same for what is known about a resource: it goes with its first span.
    pub(super) fn ahead_of(&self, block: &ResourceSpans<'_>) -> Millis {
        block.spans().next().and_then(|span| self.place(span.end_ns).ok()).map_or(0, |step| step - self.oldest)
    }

    /// The step of a span, or why it is not its own.
    fn place(&self, end_ns: u64) -> Result<Millis, Tally> {
        let end = millis(end_ns);
        let step = self.width.end_of(end);
        if end > self.ceiling {
            Err(Tally::SpansFromFuture)
        } else if step < self.oldest {
            Err(Tally::SpansLate)
        } else {
            Ok(step)
        }
    }
}

fn millis(ns: u64) -> Millis {
    (ns / 1_000_000) as Millis
}
