//! The ledger: what became of every record, span and half edge of a source partition.
//!
//! It travels in the commits, so it is as exact as the counts. Two equations must always hold:
//!
//! * `spans_read = spans_counted + Σ spans_dropped_*`
//! * `edges_opened = edges_completed + edges_virtual + Σ edges_expired_* + Σ edges_dropped_* +
//!   edges_joined + edges_lost + pending`

use super::wire::{Malformed, Reader, put_u64};

macro_rules! tallies {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// One line of the ledger.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Tally { $($(#[$doc])* $variant,)* }

        impl Tally {
            /// All tallies in ledger order. New ones are only ever added at the end: the order is the wire format.
            pub const ALL: &'static [Tally] = &[$(Tally::$variant,)*];

            /// The name in telemetry and in printed ledgers.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Tally::$variant => $name,)* }
            }
        }
    };
}

tallies! {
    /// Records read from the source, decodable or not.
    RecordsRead = "records_read",
    /// Bytes of record values read.
    BytesRead = "bytes_read",
    /// Records whose value is not a decodable OTLP request; their spans are unknown.
    RecordsUndecodable = "records_undecodable",
    /// Records without the key or header that names their tenant.
    RecordsWithoutTenant = "records_without_tenant",
    /// Records that retention deleted before they were read.
    RecordsLost = "records_lost",
    /// Spans decoded.
    SpansRead = "spans_read",
    /// Spans counted by span metrics.
    SpansCounted = "spans_counted",
    /// Spans dropped because a label value is not UTF-8.
    SpansDroppedInvalidUtf8 = "spans_dropped_invalid_utf8",
    /// Spans not counted because span metrics are switched off.
    SpansDroppedDisabled = "spans_dropped_disabled",
    /// Spans of an edge kind (client, server, producer, consumer) seen by the service graph.
    EdgeSpans = "edge_spans",
    /// Edge spans whose resource has no `service.name`.
    EdgeSpansWithoutService = "edge_spans_without_service",
    /// Edge spans with an empty or all-zero trace or span ID.
    EdgeSpansInvalidId = "edge_spans_invalid_id",
    /// Edges opened by their first half, or complete at once.
    EdgesOpened = "edges_opened",
    /// Edges whose two sides met.
    EdgesCompleted = "edges_completed",
    /// Edges that expired into a virtual node.
    EdgesVirtual = "edges_virtual",
    /// Client halves that expired unmatched.
    EdgesExpiredClient = "edges_expired_client",
    /// Server halves that expired unmatched.
    EdgesExpiredServer = "edges_expired_server",
    /// Producer halves that expired unmatched.
    EdgesExpiredProducer = "edges_expired_producer",
    /// Consumer halves that expired unmatched.
    EdgesExpiredConsumer = "edges_expired_consumer",
    /// Edges not opened because `max_items` were pending.
    EdgesDroppedFull = "edges_dropped_full",
    /// Edges dropped because a label value is not UTF-8.
    EdgesDroppedInvalidUtf8 = "edges_dropped_invalid_utf8",
    /// Records whose timestamp lay too far in the future, so that stream time was capped.
    RecordsFromFuture = "records_from_future",
    /// Half edges that a new owner could not rebuild, because retention deleted their records or the settings changed.
    EdgesLost = "edges_lost",
    /// Records that an operator's reset of the group's offset has passed over.
    RecordsPassedOver = "records_passed_over",
    /// Records that an operator's reset of the group's offset has made to be read again.
    RecordsReadAgain = "records_read_again",
    /// Spans not counted because a filter policy of span metrics rejects them.
    SpansDroppedFiltered = "spans_dropped_filtered",
    /// Spans whose name the sanitiser replaced, or would replace if it were not a dry run.
    SpanNamesSanitised = "span_names_sanitised",
    /// Span events counted.
    SpanEventsCounted = "span_events_counted",
    /// Span events dropped because a label value is not UTF-8.
    SpanEventsDroppedInvalidUtf8 = "span_events_dropped_invalid_utf8",
    /// Resources whose `target_info` or `host_info` was dropped because a label is not UTF-8.
    InfoDroppedInvalidUtf8 = "info_dropped_invalid_utf8",
    /// Edge spans that the filter policies drop.
    EdgeSpansFiltered = "edge_spans_filtered",
    /// Edges dropped because the filter policies drop their other side.
    EdgesDroppedCounterpart = "edges_dropped_counterpart",
    /// Half edges that met another pending half edge when the spans between them came.
    EdgesJoined = "edges_joined",
    /// Filtered spans that were not remembered because `max_items` were, so that their other side does not know.
    MarksDroppedFull = "marks_dropped_full",
    /// Spans between a server and its client that were not remembered because `max_items` were.
    RelaysDroppedFull = "relays_dropped_full",
    /// Messaging edges whose latency was not observed, because the consumer started before the producer ended.
    MessagingNotObserved = "messaging_not_observed",
    /// Records passed over because processing them had failed again and again; their spans are unknown.
    RecordsIsolated = "records_isolated",
    /// Spans whose own step was over when they came, so that they are in the oldest open one (`time.source: span_end`).
    SpansLate = "spans_late",
    /// Spans whose end lies too far in the future, so that they are in the oldest open step (`time.source: span_end`).
    SpansFromFuture = "spans_from_future",
    /// Offsets of batches that could not be decompressed and were passed over; what they held is unknown.
    RecordsUnreadable = "records_unreadable",
}

/// The tallies of one source partition since the beginning of its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger([u64; Tally::ALL.len()]);

impl Default for Ledger {
    fn default() -> Self {
        Self([0; Tally::ALL.len()])
    }
}

impl Ledger {
    /// Adds `n` to one tally.
    pub fn add(&mut self, tally: Tally, n: u64) {
        self.0[tally as usize] += n;
    }

    /// One tally.
    #[must_use]
    pub fn get(&self, tally: Tally) -> u64 {
        self.0[tally as usize]
    }

    /// Adds another ledger to this one.
    pub fn merge(&mut self, other: &Ledger) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a += b;
        }
    }

    /// Spans read that are neither counted nor dropped for a named reason. Anything but 0 is a bug.
    #[must_use]
    pub fn unaccounted_spans(&self) -> i128 {
        let dropped = [Tally::SpansDroppedInvalidUtf8, Tally::SpansDroppedDisabled, Tally::SpansDroppedFiltered];
        i128::from(self.get(Tally::SpansRead))
            - i128::from(self.get(Tally::SpansCounted))
            - dropped.iter().map(|&t| i128::from(self.get(t))).sum::<i128>()
    }

    /// Half edges that are waiting for their other side, by the ledger's own equation.
    #[must_use]
    pub fn pending_edges(&self) -> i128 {
        use Tally as T;
        let settled = [
            T::EdgesCompleted,
            T::EdgesVirtual,
            T::EdgesExpiredClient,
            T::EdgesExpiredServer,
            T::EdgesExpiredProducer,
            T::EdgesExpiredConsumer,
            T::EdgesDroppedFull,
            T::EdgesDroppedInvalidUtf8,
            T::EdgesLost,
            T::EdgesDroppedCounterpart,
            T::EdgesJoined,
        ];
        i128::from(self.get(T::EdgesOpened)) - settled.iter().map(|&t| i128::from(self.get(t))).sum::<i128>()
    }

    /// Iterates over all tallies in ledger order.
    pub fn iter(&self) -> impl Iterator<Item = (Tally, u64)> + '_ {
        Tally::ALL.iter().map(|&t| (t, self.get(t)))
    }

    /// Appends the ledger's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.0.len() as u64);
        for &v in &self.0 {
            put_u64(out, v);
        }
    }

    /// Reads a ledger. Tallies that a later version added and this one does not know are skipped.
    ///
    /// # Errors
    /// When the bytes end too early.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut ledger = Self::default();
        for i in 0..r.uint::<usize>()? {
            let v = r.u64()?;
            if let Some(slot) = ledger.0.get_mut(i) {
                *slot = v;
            }
        }
        Ok(ledger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_survives_the_round_trip() {
        let mut l = Ledger::default();
        l.add(Tally::SpansRead, 5);
        l.add(Tally::RecordsFromFuture, 300);
        let mut out = Vec::new();
        l.encode(&mut out);
        assert_eq!(Ledger::decode(&mut Reader::new(&out)), Ok(l));
    }

    #[test]
    fn tallies_of_a_later_version_are_skipped() {
        let mut out = Vec::new();
        put_u64(&mut out, Tally::ALL.len() as u64 + 1);
        for i in 0..=Tally::ALL.len() as u64 {
            put_u64(&mut out, i);
        }
        let l = Ledger::decode(&mut Reader::new(&out)).expect("longer ledgers are legal");
        assert_eq!(l.get(Tally::BytesRead), 1);
    }

    #[test]
    fn the_equations_name_what_is_missing() {
        let mut l = Ledger::default();
        l.add(Tally::SpansRead, 3);
        l.add(Tally::SpansCounted, 2);
        assert_eq!(l.unaccounted_spans(), 1);
        l.add(Tally::EdgesOpened, 2);
        l.add(Tally::EdgesVirtual, 1);
        assert_eq!(l.pending_edges(), 1);
    }
}
