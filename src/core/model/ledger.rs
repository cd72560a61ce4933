//! The ledger: the outcome of every record, span and edge of a source partition.
//!
//! It is part of every commit, so it is as exact as the counts. These equations must always hold:
//!
//! * `spans_read = spans_counted + Σ spans_dropped_*`
//! * `edges_opened = edges_completed + edges_virtual + Σ edges_expired_* + Σ edges_dropped_* +
//!   edges_joined + edges_lost + pending`
//! * `trace_spans = trace_spans_closed + trace_spans_late + trace_spans_without_id + trace_spans_dropped_full +
//!   trace_spans_lost + open`
//!
//! Telemetry splits the ledger by unit, and the equations hold there, too:
//!
//! * `spanmill_spans_read_total = spanmill_spans_counted_total + sum(spanmill_spans_dropped_total)`
//! * `spanmill_edges_opened_total = sum(spanmill_edges_closed_total) + spanmill_edges_pending`
//! * `spanmill_trace_spans_total = sum(spanmill_trace_spans_settled_total) + spanmill_trace_spans_open`

use super::wire::{Malformed, Reader, put_u64};

/// Where telemetry shows a counter. A metric holds counters of one unit only, and those that share it exclude each other, so
/// that its sum means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterMetric {
    /// The name of the metric.
    pub name: &'static str,
    /// The label that distinguishes the counters of the metric, and its value for this one; `None` if the metric has
    /// one counter.
    pub label: Option<(&'static str, &'static str)>,
}

macro_rules! label {
    () => {
        None
    };
    ($key:ident $value:literal) => {
        Some((stringify!($key), $value))
    };
}

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal in $metric:literal $($key:ident $value:literal)?,)*) => {
        /// One line of the ledger.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Counter { $($(#[$doc])* $variant,)* }

        impl Counter {
            /// All counters in ledger order. New ones are only ever added at the end: the order is the wire format.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant,)*];

            /// The name in telemetry and in printed ledgers.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Counter::$variant => $name,)* }
            }

            /// The metric that shows it.
            #[must_use]
            pub fn metric(self) -> CounterMetric {
                match self { $(Counter::$variant => CounterMetric { name: $metric, label: label!($($key $value)?) },)* }
            }
        }
    };
}

counters! {
    /// Records read from the source, decodable or not.
    RecordsRead = "records_read" in "spanmill_records_read_total",
    /// Bytes of record values read.
    BytesRead = "bytes_read" in "spanmill_bytes_read_total",
    /// Records whose value is not a decodable OTLP request; their spans are unknown.
    RecordsUndecodable = "records_undecodable" in "spanmill_records_dropped_total" reason "undecodable",
    /// Records without the key or header that names their tenant.
    RecordsWithoutTenant = "records_without_tenant" in "spanmill_records_dropped_total" reason "without_tenant",
    /// Records that retention deleted before they were read.
    RecordsLost = "records_lost" in "spanmill_records_skipped_total" reason "retention",
    /// Spans decoded.
    SpansRead = "spans_read" in "spanmill_spans_read_total",
    /// Spans counted by span metrics.
    SpansCounted = "spans_counted" in "spanmill_spans_counted_total",
    /// Spans dropped because a label value is not UTF-8.
    SpansDroppedInvalidUtf8 = "spans_dropped_invalid_utf8" in "spanmill_spans_dropped_total" reason "invalid_utf8",
    /// Spans not counted because span metrics are switched off.
    SpansDroppedDisabled = "spans_dropped_disabled" in "spanmill_spans_dropped_total" reason "disabled",
    /// Spans of an edge kind (client, server, producer, consumer) seen by the service graph.
    EdgeSpans = "edge_spans" in "spanmill_edge_spans_read_total",
    /// Edge spans whose resource has no `service.name`.
    EdgeSpansWithoutService = "edge_spans_without_service" in "spanmill_edge_spans_dropped_total" reason "without_service",
    /// Edge spans with an empty or all-zero trace or span ID.
    EdgeSpansInvalidId = "edge_spans_invalid_id" in "spanmill_edge_spans_dropped_total" reason "invalid_id",
    /// Edges opened by their first half, or complete at once.
    EdgesOpened = "edges_opened" in "spanmill_edges_opened_total",
    /// Edges whose two sides met.
    EdgesCompleted = "edges_completed" in "spanmill_edges_closed_total" outcome "completed",
    /// Edges that expired into a virtual node.
    EdgesVirtual = "edges_virtual" in "spanmill_edges_closed_total" outcome "virtual",
    /// Client halves that expired unmatched.
    EdgesExpiredClient = "edges_expired_client" in "spanmill_edges_closed_total" outcome "expired_client",
    /// Server halves that expired unmatched.
    EdgesExpiredServer = "edges_expired_server" in "spanmill_edges_closed_total" outcome "expired_server",
    /// Producer halves that expired unmatched.
    EdgesExpiredProducer = "edges_expired_producer" in "spanmill_edges_closed_total" outcome "expired_producer",
    /// Consumer halves that expired unmatched.
    EdgesExpiredConsumer = "edges_expired_consumer" in "spanmill_edges_closed_total" outcome "expired_consumer",
    /// Edges not opened because `max_items` were pending.
    EdgesDroppedFull = "edges_dropped_full" in "spanmill_edges_closed_total" outcome "dropped_full",
    /// Edges dropped because a label value is not UTF-8.
    EdgesDroppedInvalidUtf8 = "edges_dropped_invalid_utf8" in "spanmill_edges_closed_total" outcome "dropped_invalid_utf8",
    /// Records from the future, as the present or the records after them show: they were counted where stream time was.
    RecordsFromFuture = "records_from_future" in "spanmill_records_from_future_total",
    /// Pending edges that a new owner could not rebuild, because retention deleted their records or the settings changed.
    EdgesLost = "edges_lost" in "spanmill_edges_closed_total" outcome "lost",
    /// Records skipped by a reset of the consumer group's offset.
    RecordsPassedOver = "records_skipped_by_reset" in "spanmill_records_skipped_total" reason "reset",
    /// Records read again after a reset of the consumer group's offset.
    RecordsReadAgain = "records_reread_by_reset" in "spanmill_records_reread_total",
    /// Spans not counted because a filter policy of span metrics rejects them.
    SpansDroppedFiltered = "spans_dropped_filtered" in "spanmill_spans_dropped_total" reason "filtered",
    /// Spans whose name the sanitizer replaced, or would replace if it were not a dry run.
    SpanNamesSanitized = "span_names_sanitized" in "spanmill_span_names_sanitized_total",
    /// Span events counted.
    SpanEventsCounted = "span_events_counted" in "spanmill_span_events_counted_total",
    /// Span events dropped because a label value is not UTF-8.
    SpanEventsDroppedInvalidUtf8 = "span_events_dropped_invalid_utf8" in "spanmill_span_events_dropped_total" reason "invalid_utf8",
    /// Resources whose `target_info` or `host_info` was dropped because a label is not UTF-8.
    InfoDroppedInvalidUtf8 = "info_dropped_invalid_utf8" in "spanmill_info_dropped_total" reason "invalid_utf8",
    /// Edge spans that the filter policies drop.
    EdgeSpansFiltered = "edge_spans_filtered" in "spanmill_edge_spans_dropped_total" reason "filtered",
    /// Edges dropped because the filter policies drop their peer.
    EdgesDroppedCounterpart = "edges_dropped_counterpart" in "spanmill_edges_closed_total" outcome "dropped_counterpart",
    /// Pending edges that met another pending edge when the spans between them came, and clients whose call the edge of
    /// another span counts (`service_graphs.ancestors: any`).
    EdgesJoined = "edges_joined" in "spanmill_edges_closed_total" outcome "joined",
    /// Filtered spans that were not remembered because `max_items` were, so that their peer does not know.
    MarksDroppedFull = "marks_dropped_full" in "spanmill_spans_not_remembered_total" role "filtered",
    /// Spans between a server and its client, or with `service_graphs.ancestors: any` spans of any kind, that were not
    /// remembered because `max_items` were.
    RelaysDroppedFull = "relays_dropped_full" in "spanmill_spans_not_remembered_total" role "relay",
    /// Messaging edges whose latency was not observed, because the consumer started before the producer
    /// ended, or longer after it than `histograms.max_duration`.
    MessagingNotObserved = "messaging_not_observed" in "spanmill_messaging_edges_not_observed_total",
    /// Records skipped because processing them had failed repeatedly; their spans are unknown.
    RecordsIsolated = "records_isolated" in "spanmill_records_dropped_total" reason "isolated",
    /// Spans whose own step was over when they came, so that they are in the oldest open one (`time.source: span_end`).
    SpansLate = "spans_late" in "spanmill_spans_late_total",
    /// Spans whose end lies too far in the future, so that they are in the oldest open step (`time.source: span_end`).
    SpansFromFuture = "spans_from_future" in "spanmill_spans_from_future_total",
    /// Offsets of batches that could not be decompressed and were skipped; what they held is unknown.
    RecordsUnreadable = "records_unreadable" in "spanmill_records_skipped_total" reason "unreadable",
    /// Edges of a message with a consumer service that has one already (`service_graphs.receive_once`).
    EdgesDroppedRepeated = "edges_dropped_repeated" in "spanmill_edges_closed_total" outcome "dropped_repeated",
    /// Edge spans that have taken the place of another one on the same side of an edge, as further roots of a trace do.
    EdgeSpansReplaced = "edge_spans_replaced" in "spanmill_edge_spans_replaced_total",
    /// Spans counted with labels in which U+FFFD stands for what is no UTF-8 (`naming.invalid_utf8: replace`).
    SpansRepairedUtf8 = "spans_repaired_utf8" in "spanmill_spans_repaired_utf8_total",
    /// Span events counted with such labels.
    SpanEventsRepairedUtf8 = "span_events_repaired_utf8" in "spanmill_span_events_repaired_utf8_total",
    /// Edges emitted with such labels.
    EdgesRepairedUtf8 = "edges_repaired_utf8" in "spanmill_edges_repaired_utf8_total",
    /// Resources whose `target_info` or `host_info` has such labels.
    InfoRepairedUtf8 = "info_repaired_utf8" in "spanmill_info_repaired_utf8_total",
    /// Spans counted that took longer than `histograms.max_duration`: their latency is observed as 0 s.
    SpansTooLong = "spans_too_long" in "spanmill_spans_too_long_total",
    /// Edges emitted of which a side took longer than that.
    EdgesTooLong = "edges_too_long" in "spanmill_edges_too_long_total",
    /// Client halves that are the same call as another one around or inside of them (`service_graphs.nested_once`).
    EdgesDroppedNested = "edges_dropped_nested" in "spanmill_edges_closed_total" outcome "dropped_nested",
    /// Records that their sender has excluded from metrics, with Tempo's `no-generate-metrics`; their spans are unknown.
    RecordsNotForMetrics = "records_not_for_metrics" in "spanmill_records_not_for_metrics_total",
    /// Events that service level objectives have counted: a span is one for each objective that it matches.
    SloEventsCounted = "slo_events_counted" in "spanmill_slo_events_counted_total",
    /// Events of objectives that were dropped because a label is not UTF-8.
    SloEventsDroppedInvalidUtf8 = "slo_events_dropped_invalid_utf8" in "spanmill_slo_events_dropped_total" reason "invalid_utf8",
    /// Events of objectives counted with labels in which U+FFFD stands for what is no UTF-8.
    SloEventsRepairedUtf8 = "slo_events_repaired_utf8" in "spanmill_slo_events_repaired_utf8_total",
    /// What attribute metrics have counted: a span is one for each entry that it matches and has a value for.
    AttributeValuesCounted = "attribute_values_counted" in "spanmill_attribute_values_counted_total",
    /// Such values that were dropped because a label is not UTF-8.
    AttributeValuesDroppedInvalidUtf8 = "attribute_values_dropped_invalid_utf8" in "spanmill_attribute_values_dropped_total" reason "invalid_utf8",
    /// Such values that were dropped because they are below zero.
    AttributeValuesDroppedNegative = "attribute_values_dropped_negative" in "spanmill_attribute_values_dropped_total" reason "negative",
    /// Such values that were dropped because they are no finite number.
    AttributeValuesDroppedNotANumber = "attribute_values_dropped_not_a_number" in "spanmill_attribute_values_dropped_total" reason "not_a_number",
    /// Such values that were dropped because they are too large with their weight.
    AttributeValuesDroppedTooLarge = "attribute_values_dropped_too_large" in "spanmill_attribute_values_dropped_total" reason "too_large",
    /// What attribute metrics have counted with labels in which U+FFFD stands for what is no UTF-8.
    AttributeValuesRepairedUtf8 = "attribute_values_repaired_utf8" in "spanmill_attribute_values_repaired_utf8_total",
    /// Spans that came to the trace window.
    TraceSpans = "trace_spans" in "spanmill_trace_spans_total",
    /// Spans in traces that have closed.
    TraceSpansClosed = "trace_spans_closed" in "spanmill_trace_spans_settled_total" outcome "closed",
    /// Spans of traces that had closed before.
    TraceSpansLate = "trace_spans_late" in "spanmill_trace_spans_settled_total" outcome "late",
    /// Spans with an empty or all-zero trace ID.
    TraceSpansWithoutId = "trace_spans_without_id" in "spanmill_trace_spans_settled_total" outcome "without_id",
    /// Spans that would have opened a trace when `traces.max_traces` were open.
    TraceSpansDroppedFull = "trace_spans_dropped_full" in "spanmill_trace_spans_settled_total" outcome "dropped_full",
    /// Spans of open traces that a new owner could not rebuild, because retention deleted their records or the settings
    /// changed.
    TraceSpansLost = "trace_spans_lost" in "spanmill_trace_spans_settled_total" outcome "lost",
    /// Traces that closed because no span came for `traces.idle`.
    TracesClosedIdle = "traces_closed_idle" in "spanmill_traces_closed_total" reason "idle",
    /// Traces that closed at `traces.max_age`.
    TracesClosedAge = "traces_closed_max_age" in "spanmill_traces_closed_total" reason "max_age",
    /// Traces that closed because they, or all open ones together, had too many spans.
    TracesClosedFull = "traces_closed_full" in "spanmill_traces_closed_total" reason "full",
    /// Closed traces that were forgotten before `traces.late` because `traces.max_traces` newer ones had closed.
    TracesForgotten = "traces_forgotten" in "spanmill_traces_forgotten_total",
    /// Spans of closed traces that have the ID of another span of their trace, so that they are not in its tree.
    TraceSpansDuplicate = "trace_spans_duplicate" in "spanmill_trace_spans_duplicate_total",
    /// Spans of closed traces whose parent was not there.
    TraceSpansOrphaned = "trace_spans_orphaned" in "spanmill_trace_spans_orphaned_total",
    /// Cycles of parent IDs in closed traces.
    TraceCycles = "trace_cycles" in "spanmill_trace_cycles_total",
    /// Spans of closed traces that start before their parent.
    TraceSpansEarly = "trace_spans_early" in "spanmill_trace_spans_early_total",
    /// Spans of closed traces that end after their parent.
    TraceSpansOutliving = "trace_spans_outliving" in "spanmill_trace_spans_outliving_total",
    /// Values of traces that were dropped because a label is not UTF-8.
    TraceValuesDroppedInvalidUtf8 = "trace_values_dropped_invalid_utf8" in "spanmill_trace_values_dropped_total" reason "invalid_utf8",
    /// Traces that took longer than `histograms.max_duration`: their duration is observed as 0 s.
    TracesTooLong = "traces_too_long" in "spanmill_traces_too_long_total",
    /// Spans that came before, within `duplicates.window`: they count nowhere.
    SpansDroppedDuplicate = "spans_dropped_duplicate" in "spanmill_spans_dropped_total" reason "duplicate",
    /// Spans that would not be recognized if they came again, because `duplicates.max_spans` were remembered.
    SpansNotRemembered = "spans_not_remembered" in "spanmill_spans_not_remembered_total" role "duplicate",
}

/// So many counters are always among the bytes of a ledger.
const ALWAYS: usize = Counter::RecordsNotForMetrics as usize + 1;

/// The counters of one source partition since the beginning of its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger([u64; Counter::ALL.len()]);

impl Default for Ledger {
    fn default() -> Self {
        Self([0; Counter::ALL.len()])
    }
}

impl Ledger {
    /// Adds `n` to one counter.
    pub fn add(&mut self, counter: Counter, n: u64) {
        self.0[counter as usize] += n;
    }

    /// One counter.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
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
        let dropped = [
            Counter::SpansDroppedInvalidUtf8,
            Counter::SpansDroppedDisabled,
            Counter::SpansDroppedFiltered,
            Counter::SpansDroppedDuplicate,
        ];
        i128::from(self.get(Counter::SpansRead))
            - i128::from(self.get(Counter::SpansCounted))
            - dropped.iter().map(|&t| i128::from(self.get(t))).sum::<i128>()
    }

    /// Pending edges, by the ledger's own equation.
    #[must_use]
    pub fn pending_edges(&self) -> i128 {
        use Counter as T;
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
            T::EdgesDroppedRepeated,
            T::EdgesDroppedNested,
            T::EdgesJoined,
        ];
        i128::from(self.get(T::EdgesOpened)) - settled.iter().map(|&t| i128::from(self.get(t))).sum::<i128>()
    }

    /// Spans of open traces, by the ledger's own equation.
    #[must_use]
    pub fn open_trace_spans(&self) -> i128 {
        use Counter as T;
        let settled = [
            T::TraceSpansClosed,
            T::TraceSpansLate,
            T::TraceSpansWithoutId,
            T::TraceSpansDroppedFull,
            T::TraceSpansLost,
        ];
        i128::from(self.get(T::TraceSpans)) - settled.iter().map(|&t| i128::from(self.get(t))).sum::<i128>()
    }

    /// Iterates over all counters in ledger order.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.iter().map(|&t| (t, self.get(t)))
    }

    /// Appends the ledger's bytes. Counters behind `ALWAYS` are there if one of them has counted: a feature that is off
    /// changes no byte.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let counted = self.0.iter().rposition(|&v| v > 0).map_or(0, |last| last + 1);
        let there = &self.0[..counted.max(ALWAYS)];
        put_u64(out, there.len() as u64);
        for &v in there {
            put_u64(out, v);
        }
    }

    /// Reads a ledger. Counters that a later version added and this one does not know are skipped.
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
        l.add(Counter::SpansRead, 5);
        l.add(Counter::RecordsFromFuture, 300);
        let mut out = Vec::new();
        l.encode(&mut out);
        assert_eq!(Ledger::decode(&mut Reader::new(&out)), Ok(l));
    }

    #[test]
    fn counters_of_a_feature_that_is_off_take_no_byte() {
        let bytes = |l: &Ledger| {
            let mut out = Vec::new();
            l.encode(&mut out);
            out
        };
        let mut l = Ledger::default();
        l.add(Counter::RecordsRead, 1);
        assert_eq!(bytes(&l).len(), 1 + ALWAYS);
        l.add(Counter::SloEventsDroppedInvalidUtf8, 3);
        assert_eq!(bytes(&l).len(), 1 + Counter::SloEventsDroppedInvalidUtf8 as usize + 1);
        assert_eq!(Ledger::decode(&mut Reader::new(&bytes(&l))), Ok(l));
    }

    #[test]
    fn counters_of_a_later_version_are_skipped() {
        let mut out = Vec::new();
        put_u64(&mut out, Counter::ALL.len() as u64 + 1);
        for i in 0..=Counter::ALL.len() as u64 {
            put_u64(&mut out, i);
        }
        let l = Ledger::decode(&mut Reader::new(&out)).expect("longer ledgers are legal");
        assert_eq!(l.get(Counter::BytesRead), 1);
    }

    #[test]
    fn the_equations_name_what_is_missing() {
        let mut l = Ledger::default();
        l.add(Counter::SpansRead, 3);
        l.add(Counter::SpansCounted, 2);
        assert_eq!(l.unaccounted_spans(), 1);
        l.add(Counter::EdgesOpened, 2);
        l.add(Counter::EdgesVirtual, 1);
        assert_eq!(l.pending_edges(), 1);
    }

    /// The counters whose metric is `name`.
    fn of(name: &str) -> Vec<Counter> {
        Counter::ALL.iter().copied().filter(|counter| counter.metric().name == name).collect()
    }

    #[test]
    fn every_counter_is_in_one_metric_and_no_metric_mixes_units() {
        let units = [
            "attribute_values",
            "bytes",
            "edge_spans",
            "edges",
            "info",
            "messaging_edges",
            "records",
            "slo_events",
            "span_events",
            "span_names",
            "trace_cycles",
            "trace_spans",
            "trace_values",
            "traces",
        ];
        let others =
            [("marks_", "spans"), ("relays_", "spans"), ("messaging_", "messaging_edges"), ("spans_", "spans")];
        let mut rows = Vec::new();
        for counter in Counter::ALL {
            let metric = counter.metric();
            let unit =
                units.iter().find(|unit| counter.name().starts_with(&format!("{unit}_")) || counter.name() == **unit);
            let other = others.iter().find(|(prefix, _)| counter.name().starts_with(prefix)).map(|(_, unit)| unit);
            let unit = unit.or(other).expect("a tally begins with its unit");
            assert!(metric.name.starts_with(&format!("spanmill_{unit}_")), "{counter:?} counts {unit}");
            assert!(metric.name.ends_with("_total"), "{counter:?}");
            let key = metric.label.map(|(key, _)| key);
            assert!(of(metric.name).iter().all(|t| t.metric().label.map(|(key, _)| key) == key), "{}", metric.name);
            rows.push((metric.name, metric.label));
        }
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), Counter::ALL.len(), "two counters have one row");
    }

    #[test]
    fn the_equations_hold_with_the_names_of_the_metrics() {
        let mut l = Ledger::default();
        for (n, counter) in (1..).zip(Counter::ALL) {
            l.add(*counter, 1 << (n % 60));
        }
        let sum = |name: &str| -> i128 {
            let counters = of(&format!("spanmill_{name}_total"));
            assert!(!counters.is_empty(), "{name}");
            counters.into_iter().map(|counter| i128::from(l.get(counter))).sum()
        };
        assert_eq!(l.unaccounted_spans(), sum("spans_read") - sum("spans_counted") - sum("spans_dropped"));
        assert_eq!(l.pending_edges(), sum("edges_opened") - sum("edges_closed"));
        assert_eq!(l.open_trace_spans(), sum("trace_spans") - sum("trace_spans_settled"));
    }
}
