//! Time by the ends of spans: what time a record has, and which step each of its spans belongs to.

use crate::core::model::{Counter, Ledger, Millis, StepWidth};
use crate::core::otlp::{Batch, ResourceSpans};
use crate::core::servicegraph::Waited;

/// One in so many spans of a record may be older than its time.
const OLDEST_ONE_IN: usize = 10;

/// The spans of a record end within such a time. A later end, relative to stream time and the lateness, comes from the
/// future. The present is not used: a replay must have the same result.
const MAX_SPREAD: Millis = 86_400_000;

/// A record of today does not hold spans of 1970: such a value is no time, or one in milliseconds or microseconds.
const EARLIEST: Millis = 365 * 86_400_000;

/// Derives stream time from the ends of spans.
#[derive(Debug)]
pub(super) struct SpanClock {
    width: StepWidth,
    lateness: Millis,
    /// The end of the oldest open step.
    oldest: Millis,
    /// Later ends come from the future.
    latest_end: Millis,
    /// The latest step of any span.
    pub(super) latest: Millis,
    /// The ends of a record's spans.
    ends: Vec<Millis>,
}

// === impl SpanClock ===

impl SpanClock {
    pub(super) fn new(width: StepWidth, lateness: Millis) -> Self {
        Self { width, lateness, oldest: 0, latest_end: 0, latest: 0, ends: Vec::new() }
    }

    /// The stream time that a record asks for: its spans' earliest end, less the lateness. The oldest tenth of the
    /// spans is skipped, so that one slow clock among many does not hold time back; and as it is the earliest of the
    /// rest, it takes nine fast clocks to move time forward. `None` if no span has a plausible end. The record's own
    /// `timestamp` only decides whether 1970 is plausible.
    pub(super) fn time_of(&mut self, batch: &Batch, timestamp: Millis) -> Option<Millis> {
        let earliest = if timestamp >= EARLIEST { EARLIEST } else { 1 };
        self.ends.clear();
        self.ends.extend(batch.ends().map(millis).filter(|end| *end >= earliest));
        let at = self.ends.len() / OLDEST_ONE_IN;
        if self.ends.is_empty() {
            return None;
        }
        let (_, earliest, _) = self.ends.select_nth_unstable(at);
        Some((*earliest - self.lateness).max(0))
    }

    /// How far stream time stays behind the ends of spans.
    pub(super) fn lateness(&self) -> Millis {
        self.lateness
    }

    /// Sets the stream time.
    pub(super) fn set(&mut self, stream_time: Millis) {
        self.oldest = self.width.end_of(stream_time);
        self.latest_end = stream_time.saturating_add(self.lateness + MAX_SPREAD);
    }

    /// How long after the oldest open step the one of a span ends.
    pub(super) fn ahead(&mut self, end_ns: u64, ledger: &mut Ledger) -> Millis {
        match self.place(end_ns) {
            Ok(step) => {
                self.latest = self.latest.max(step);
                step - self.oldest
            }
            Err(counter) => {
                ledger.add(counter, 1);
                0
            }
        }
    }

    /// The same for the metrics of a resource: they go with its first span.
    pub(super) fn ahead_of(&self, block: &ResourceSpans<'_>) -> Millis {
        block.spans().next().and_then(|span| self.place(span.end_ns).ok()).map_or(0, |step| step - self.oldest)
    }

    /// The same at `stream_time` for an edge whose wait is over. Its span may have ended long after stream time as it
    /// was read, but the end of one that ended in the future, or was late, does not count.
    pub(super) fn ahead_of_waited(&self, stream_time: Millis, waited: Waited) -> Millis {
        let Waited { begun, ended, wait } = waited;
        let from = if ended - begun > self.lateness + MAX_SPREAD { begun } else { ended.max(begun) };
        self.width.end_of(from.saturating_add(wait)).max(self.width.end_of(stream_time))
            - self.width.end_of(stream_time)
    }

    /// The step of a span, or why it is not its own.
    fn place(&self, end_ns: u64) -> Result<Millis, Counter> {
        let end = millis(end_ns);
        let step = self.width.end_of(end);
        if end > self.latest_end {
            Err(Counter::SpansFromFuture)
        } else if step < self.oldest {
            Err(Counter::SpansLate)
        } else {
            Ok(step)
        }
    }
}

fn millis(ns: u64) -> Millis {
    (ns / 1_000_000) as Millis
}
