//! Every metric that spanmill exposes about itself, in one place.

/// Whether a metric only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets of observations.
    Histogram,
}

/// One metric: its name, its kind, its labels and its help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The full name.
    pub name: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The label names.
    pub labels: &'static [&'static str],
    /// The help text.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($konst:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $konst: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*

        /// All metrics except for those of [`LEDGER`].
        pub const ALL: &[Metric] = &[$($konst),*];
    };
}

macro_rules! ledger {
    ($($name:literal [$($label:literal)?] $help:literal;)*) => {
        /// The ledger of a source partition since the beginning of its journal, as far as it is journaled. Which
        /// counters a metric shows is defined beside them (`Counter::metric`).
        pub const LEDGER: &[Metric] = &[$(
            Metric { name: $name, kind: Kind::Counter, labels: &[$($label,)? "topic", "partition", "state"], help: $help },
        )*];
    };
}

metrics! {
    BUILD_INFO = Gauge "spanmill_build_info" ["version"]
        "Always 1; the label holds the version.";
    READY = Gauge "spanmill_ready" []
        "Whether the worker is ready (1) or not (0), as reported by /readyz.";
    READY_CONDITION = Gauge "spanmill_ready_condition" ["condition"]
        "Whether a readiness condition is met (1) or not (0); /readyz and the log give the reason.";
    EDGES_PENDING = Gauge "spanmill_edges_pending" ["topic", "partition", "state"]
        "Number of unpaired spans that wait for their peer span.";
    TRACE_SPANS_OPEN = Gauge "spanmill_trace_spans_open" ["topic", "partition", "state"]
        "Number of spans in open traces.";
    LAG_RECORDS = Gauge "spanmill_lag_records" ["topic", "partition", "state"]
        "Number of unread records of an owned source or deltas partition, also while it is not read. In a state other than owned: the last known value.";
    LAG_SECONDS = Gauge "spanmill_lag_seconds" ["topic", "partition", "state"]
        "Wall-clock time minus stream time (span task) or last closed step (shard), in seconds; 0 if nothing is unread. While no time is known: how long unread records have been known.";
    DESIRED_WORKERS = Gauge "spanmill_desired_workers" []
        "Number of workers that the group needs for what comes and for reading what is unread within admin.ready_max_lag, as estimated by this worker; at most the number of source partitions. 0 while it is unknown. For an autoscaler: the maximum over all workers.";
    OPEN_TRANSACTION = Gauge "spanmill_open_transaction" ["topic", "partition", "state"]
        "Whether an open transaction of a producer blocks reading of a source partition (1) or not (0).";
    STREAM_TIME = Gauge "spanmill_stream_time_timestamp_seconds" ["topic", "partition", "state"]
        "Stream time of a span task, in seconds since the epoch; its age is time() minus this.";
    WATERMARK = Gauge "spanmill_watermark_timestamp_seconds" ["topic", "partition", "state"]
        "Watermark of a series task, in seconds since the epoch; its age is time() minus this.";
    CLOSED_STEP = Gauge "spanmill_last_closed_step_timestamp_seconds" ["topic", "partition", "state"]
        "End of the last step that a shard closed, in seconds since the epoch.";
    ACTIVE_SERIES = Gauge "spanmill_active_series" ["topic", "partition", "state"]
        "Number of active series of a shard.";
    REFUSED = Gauge "spanmill_label_sets_over_limit" ["topic", "partition", "state"]
        "Number of label sets of a shard that exceed a limit; overflow series hold their counts. /cardinality lists the labels with the most values.";
    GAPS = Gauge "spanmill_delta_record_gaps" ["topic", "partition", "state"]
        "Number of source partitions of which a shard has missed a delta record for too long, because the deltas topic lost it and no worker sends it.";
    SENT_AGAIN = Counter "spanmill_commits_sent_again_total" []
        "Number of commits whose delta records were sent again from the journal because the deltas topic had lost them.";
    TASKS = Gauge "spanmill_tasks" ["kind", "state"]
        "Number of tasks that this worker owns.";
    REBALANCES = Counter "spanmill_rebalances_total" ["event"]
        "Number of rebalances in which partitions were assigned to, revoked from or lost by this worker.";
    COMMITS = Counter "spanmill_commits_total" ["kind"]
        "Number of commits (span tasks) and step-close records (series tasks) that the journal accepted.";
    SPANS_READ = Counter "spanmill_process_spans_read_total" []
        "Number of spans that this process has read, including spans read again during recovery; spanmill_spans_read_total counts each span once.";
    REPARTITION_READ = Counter "spanmill_repartition_records_read_total" []
        "Number of source records that the repartition stage has passed on; what an aborted transaction had passed on is counted again.";
    REPARTITION_WRITTEN = Counter "spanmill_repartition_records_written_total" []
        "Number of records that the repartition stage has made of them, one for each partition that a record has spans for.";
    REPARTITION_SPANS = Counter "spanmill_repartition_spans_total" []
        "Number of spans in these records.";
    REPARTITION_TRANSACTIONS = Counter "spanmill_repartition_transactions_total" []
        "Number of transactions that the repartition stage has committed.";
    REPARTITION_ABORTED = Counter "spanmill_repartition_transactions_aborted_total" []
        "Number of transactions that the repartition stage has aborted, at a rebalance or a failure; their records are read again.";
    REPARTITION_LOST = Counter "spanmill_repartition_records_lost_total" []
        "Number of source records that expired before the repartition stage had read them.";
    REPARTITION_LAG_RECORDS = Gauge "spanmill_repartition_lag_records" []
        "Number of records of the source partitions of this worker's repartition stage that it has not passed on.";
    REPARTITION_LAG_SECONDS = Gauge "spanmill_repartition_lag_seconds" []
        "Wall-clock time minus the time of the next record of the repartition stage, in seconds; 0 if nothing is unread.";
    SAMPLED_TRACES = Counter "spanmill_sampled_traces_total" []
        "Number of traces of a sample, one in 1024, that this worker looked for in several source partitions.";
    SPLIT_TRACES = Counter "spanmill_sampled_traces_split_total" []
        "Number of sampled traces whose spans this worker found in several source partitions, so that their edges cannot be paired; 0 if the topics are partitioned by trace ID.";
    TICKS = Counter "spanmill_idle_ticks_total" []
        "Number of times that the wall clock advanced an idle source partition.";
    FENCED = Counter "spanmill_tasks_fenced_total" ["kind"]
        "Number of tasks closed because another worker had claimed their journal.";
    RESTORES = Histogram "spanmill_task_restore_duration_seconds" ["kind"]
        "Duration of task restores from claim to running, in seconds.";
    DEAD_LETTERS = Counter "spanmill_dead_letters_total" ["outcome"]
        "Number of unusable records copied to the dead-letter topic, by whether the copy was stored. At least once: a record that a new owner reads again is copied again; spanmill_records_dropped_total counts each record once.";
    PANICS = Counter "spanmill_task_panics_total" ["kind"]
        "Number of task panics; the task is restarted each time.";
    STUCK = Counter "spanmill_partition_stalls_total" []
        "Number of times that an owned source partition had unread records but delivered none, so that its fetch was restarted.";
    STORMS = Counter "spanmill_rebalance_storms_total" []
        "Number of minutes in which the group moved partitions of this worker repeatedly.";
    RESTS = Counter "spanmill_group_backoffs_total" []
        "Number of times that this worker left its consumer group for a while after repeated evictions.";
    ADMIN_FAILURES = Counter "spanmill_admin_requests_failed_total" ["request"]
        "Number of failed broker requests for the internal topics; each is retried and logged with its error.";
    TOPICS_AT_RISK = Gauge "spanmill_topics_at_risk" ["reason"]
        "Number of internal topics that may lose acknowledged records, by reason; unknown: the brokers do not report the topic's settings.";
    TOPICS_SKIPPED = Gauge "spanmill_source_topics_skipped" []
        "Number of topics that match kafka.topics and are not read, because their journal cannot be created or would lose records.";
    MEMORY = Gauge "spanmill_memory_bytes" ["part"]
        "Accounted memory of this worker, in bytes.";
    MEMORY_RESERVED = Gauge "spanmill_memory_reserved_bytes" ["part"]
        "Maximum size of the fetch buffers, in bytes; worker.memory_limit counts it as used.";
    CLOCK_AHEAD = Gauge "spanmill_clock_ahead_seconds" []
        "Lead of this machine's clock over the brokers' clock, in seconds; negative if it lags. Above 10 s, times from this clock are not used.";
    THROTTLED = Gauge "spanmill_memory_throttled" []
        "Whether reading is throttled by worker.memory_limit (1) or not (0).";
    OWN_SPANS = Counter "spanmill_own_spans_total" ["result"]
        "Number of spans of this worker's own work (telemetry.traces), by result: sent, dropped because too many waited, or failed because the endpoint did not accept them.";
    STEPS_CLOSED = Counter "spanmill_steps_closed_total" ["cause"]
        "Number of steps closed by shards, by cause: the watermark passed, or a stalled partition was skipped after the stall timeout.";
    ILLEGAL_SERIES = Counter "spanmill_illegal_series_total" []
        "Number of series that were not written at a step because the name of a label or of the metric is not legal, counted per step; 0 in normal operation.";
    STEPS_LEFT_OUT = Counter "spanmill_tenant_steps_skipped_total" []
        "Number of steps not written for a tenant because its receiver was down, counted per tenant; the totals are sent later.";
    SAMPLES_BUILT = Counter "spanmill_samples_built_total" []
        "Number of samples built for remote write; each ends as acknowledged, duplicate, rejected, filtered, converted or abandoned.";
    SAMPLES_ACKNOWLEDGED = Counter "spanmill_samples_acknowledged_total" []
        "Number of samples that the receiver stored.";
    SAMPLES_ALREADY_THERE = Counter "spanmill_samples_duplicate_total" []
        "Number of resent samples that the receiver rejected because it had stored them before.";
    SAMPLES_REJECTED = Counter "spanmill_samples_rejected_total" ["reason"]
        "Number of samples that the receiver rejected, or that were not sent because it rejects their series (quarantined), because relabeling gave them the labels of another series (same_labels), or because they are older than remote_write.max_sample_age (max_sample_age); they are not retried.";
    SAMPLES_FILTERED = Counter "spanmill_samples_filtered_total" []
        "Number of samples that were not sent because remote_write.write_relabel_configs drop their series.";
    SAMPLES_CONVERTED = Counter "spanmill_samples_converted_total" []
        "Number of samples of classic histograms that were not sent for themselves, because their histogram was sent as one native histogram with custom buckets.";
    SAMPLES_ABANDONED = Counter "spanmill_samples_abandoned_total" []
        "Number of samples abandoned because their task was closed; the next owner of the task sends them again.";
    ENDPOINT_SAMPLES = Counter "spanmill_remote_write_endpoint_samples_total" ["endpoint", "result"]
        "Number of samples for one of several endpoints, by result: acknowledged, duplicate, rejected or filtered. Absent with one endpoint.";
    ENDPOINT_DROPPED = Counter "spanmill_remote_write_endpoint_dropped_samples_total" ["endpoint", "reason"]
        "Number of samples that were not sent to one of several endpoints, because its backlog was full and on_backlog is drop (backlog), or because it was removed (removed).";
    ENDPOINT_BACKLOG = Gauge "spanmill_remote_write_endpoint_backlog_bytes" ["endpoint"]
        "Compressed bytes that wait for one of several endpoints, in the shards of this worker. Absent with one endpoint.";
    ENDPOINT_BEHIND = Gauge "spanmill_remote_write_endpoint_behind_seconds" ["endpoint"]
        "Event time from the oldest step that one of several endpoints lacks to the last closed step, in seconds, in the slowest shard of this worker.";
    ENDPOINT_AT_BOUND = Gauge "spanmill_remote_write_endpoint_backlog_full" ["endpoint"]
        "Whether the backlog of one of several endpoints is full in a shard of this worker (1), so that the shard waits for it or drops its steps, or not (0).";
    ENDPOINT_LIMIT = Gauge "spanmill_remote_write_endpoint_in_flight_limit" ["endpoint"]
        "Number of requests that may be in flight to an endpoint, as answers and their times have shown: the sum over the tenants that are sent to it. It begins at min_in_flight for each; max_in_flight bounds all of them together.";
    ENDPOINT_IN_FLIGHT = Gauge "spanmill_remote_write_endpoint_requests_in_flight" ["endpoint"]
        "Number of requests in flight to an endpoint. Its label is the name of the endpoint, or a hash of its address if it has none.";
    EXEMPLARS_REJECTED = Counter "spanmill_exemplars_rejected_total" []
        "Number of exemplars that a receiver of remote write 2.0 did not store, according to its answer, although it stored their samples.";
    EXEMPLARS_WITHHELD = Counter "spanmill_exemplars_withheld_total" []
        "Number of exemplars that were not sent because the receiver stores none, or because remote_write.exemplars is off; their samples were sent.";
    WRITTEN_DIFFERS = Counter "spanmill_remote_write_written_mismatches_total" []
        "Number of successful answers of remote write 2.0 whose counts of written samples differ from what was sent; the log names the receiver.";
    SAMPLES_PENDING = Gauge "spanmill_samples_pending" []
        "Number of samples built and not settled yet.";
    WAITING = Gauge "spanmill_receivers_waiting" ["reason"]
        "Number of pairs of receiver and tenant whose samples are being retried, by reason; /readyz and the log give the remedy.";
    REFUSED_WHOLE = Gauge "spanmill_receivers_refusing" []
        "Number of pairs of receiver and tenant of which the receiver rejects all samples for their content, so that samples are lost.";
    QUARANTINED = Gauge "spanmill_series_quarantined" []
        "Number of series that a receiver rejects by themselves and that are not sent, except to retry them; /quarantine lists them.";
    REQUESTS = Counter "spanmill_remote_write_requests_total" ["class"]
        "Number of remote-write attempts by class of answer; `error` is an attempt without an answer.";
    RETRIES = Counter "spanmill_remote_write_retries_total" []
        "Number of remote-write attempts that repeated an earlier one.";
    METADATA = Counter "spanmill_remote_write_metadata_requests_total" ["result"]
        "Number of requests with the metadata of metrics for receivers of remote write 1.0, by result; they are not retried.";
    BYTES = Counter "spanmill_remote_write_bytes_total" []
        "Number of compressed bytes of all remote-write attempts.";
    OVERRIDES = Gauge "spanmill_overrides_info" ["version"]
        "Always 1; the label holds the version of the active overrides. Absent without overrides.";
    OVERRIDES_TENANTS = Gauge "spanmill_overrides_tenants" []
        "Number of tenants with settings of their own.";
    OVERRIDES_LOADED = Gauge "spanmill_overrides_last_reload_successful" []
        "Whether the last reload of the overrides file succeeded (1) or the previous overrides stay active (0); the log gives the reason.";
    OVERRIDES_RELOADS = Counter "spanmill_overrides_reloads_total" ["result"]
        "Number of reloads of the overrides file, by result.";
    SETTINGS = Gauge "spanmill_settings_info" ["fingerprint"]
        "Always 1; the label holds the fingerprint of the counting settings of this worker. It must be the same in all workers.";
    SETTINGS_DIFFER = Gauge "spanmill_settings_differ" ["topic", "partition", "state"]
        "Number of source partitions whose counting settings differ from those of the worker that owns the shard; /settings lists the keys.";
    SETTINGS_CHANGES = Counter "spanmill_settings_changes_total" []
        "Number of times that a shard continued with different settings; its journal records each change.";
    UNNAMED = Gauge "spanmill_deltas_unnamed" ["topic", "partition", "state"]
        "Number of label sets of a shard whose labels are unknown, so that their counts are held back; 0 in normal operation.";
    DELTAS_LOST = Counter "spanmill_deltas_lost_total" []
        "Number of deltas without a label set, whose counts are lost; 0 in normal operation.";
    IN_FLIGHT = Gauge "spanmill_remote_write_requests_in_flight" []
        "Number of remote-write requests that await an answer.";
    REQUEST_SECONDS = Histogram "spanmill_remote_write_request_duration_seconds" []
        "Duration of remote-write attempts, in seconds.";
    PENDING_BATCHES = Gauge "spanmill_remote_write_batches_pending" []
        "Number of batches built and not settled yet.";
}

ledger! {
    "spanmill_records_read_total" []
        "Number of records read from the source, decodable or not. Sum only rows of the state owned: the others hold the last known value, and another worker may own the partition.";
    "spanmill_bytes_read_total" []
        "Number of bytes of record values read.";
    "spanmill_records_dropped_total" ["reason"]
        "Number of records read but not processed, by reason: undecodable, without tenant, or isolated after repeated panics. Their spans are unknown.";
    "spanmill_records_skipped_total" ["reason"]
        "Number of records never read, by reason: deleted by retention, skipped by a reset of the group's offset, or in a batch that cannot be decompressed.";
    "spanmill_records_reread_total" []
        "Number of records read again after a reset of the group's offset.";
    "spanmill_records_not_for_metrics_total" []
        "Number of records that their sender has excluded from metrics, as Tempo's no-generate-metrics does. Their spans are unknown.";
    "spanmill_records_from_future_total" []
        "Number of records with a timestamp in the future; they are counted at the current stream time.";
    "spanmill_spans_read_total" []
        "Number of spans read; equals spanmill_spans_counted_total plus the sum of spanmill_spans_dropped_total.";
    "spanmill_spans_counted_total" []
        "Number of spans counted by span metrics.";
    "spanmill_spans_dropped_total" ["reason"]
        "Number of spans not counted by span metrics, by reason.";
    "spanmill_spans_late_total" []
        "Number of spans whose step was closed when they arrived; they are counted in the oldest open step (time.source: span_end).";
    "spanmill_spans_from_future_total" []
        "Number of spans that end too far in the future; they are counted in the oldest open step (time.source: span_end).";
    "spanmill_spans_repaired_utf8_total" []
        "Number of spans counted with a label in which U+FFFD replaces invalid UTF-8 (naming.invalid_utf8: replace).";
    "spanmill_spans_too_long_total" []
        "Number of spans counted that took longer than histograms.max_duration; their latency is observed as 0 s.";
    "spanmill_span_names_sanitized_total" []
        "Number of span names that the sanitizer replaced, or would replace in a dry run.";
    "spanmill_span_events_counted_total" []
        "Number of span events counted.";
    "spanmill_span_events_dropped_total" ["reason"]
        "Number of span events not counted, by reason.";
    "spanmill_span_events_repaired_utf8_total" []
        "Number of span events counted with a label in which U+FFFD replaces invalid UTF-8.";
    "spanmill_info_dropped_total" ["reason"]
        "Number of resources without target_info or host_info series, by reason.";
    "spanmill_info_repaired_utf8_total" []
        "Number of resources whose target_info or host_info has a label in which U+FFFD replaces invalid UTF-8.";
    "spanmill_slo_events_counted_total" []
        "Number of events counted by service level objectives; a span is one for each objective that it matches.";
    "spanmill_slo_events_dropped_total" ["reason"]
        "Number of events of service level objectives that were not counted, by reason.";
    "spanmill_slo_events_repaired_utf8_total" []
        "Number of events of service level objectives counted with a label in which U+FFFD replaces invalid UTF-8.";
    "spanmill_attribute_values_counted_total" []
        "Number of values counted by attribute metrics; a span is one for each entry that it matches.";
    "spanmill_attribute_values_dropped_total" ["reason"]
        "Number of values of attribute metrics that were not counted, by reason.";
    "spanmill_attribute_values_repaired_utf8_total" []
        "Number of values of attribute metrics counted with a label in which U+FFFD replaces invalid UTF-8.";
    "spanmill_trace_spans_total" []
        "Number of spans in the trace window; equals the sum of spanmill_trace_spans_settled_total plus spanmill_trace_spans_open.";
    "spanmill_trace_spans_settled_total" ["outcome"]
        "Number of spans that left the trace window or did not enter it, by outcome.";
    "spanmill_traces_closed_total" ["reason"]
        "Number of traces closed, by reason.";
    "spanmill_traces_forgotten_total" []
        "Number of closed traces forgotten before traces.late because traces.max_traces newer ones had closed.";
    "spanmill_trace_spans_duplicate_total" []
        "Number of spans in closed traces with the ID of another span of their trace.";
    "spanmill_trace_spans_orphaned_total" []
        "Number of spans in closed traces whose parent was not there.";
    "spanmill_trace_cycles_total" []
        "Number of cycles of parent IDs in closed traces.";
    "spanmill_trace_spans_early_total" []
        "Number of spans in closed traces that start before their parent.";
    "spanmill_trace_spans_outliving_total" []
        "Number of spans in closed traces that end after their parent.";
    "spanmill_trace_values_dropped_total" ["reason"]
        "Number of values of traces that were not counted, by reason.";
    "spanmill_traces_too_long_total" []
        "Number of traces that took longer than histograms.max_duration; their duration is observed as 0 s.";
    "spanmill_edge_spans_read_total" []
        "Number of spans of an edge kind (client, server, producer, consumer) seen by the service graph.";
    "spanmill_edge_spans_dropped_total" ["reason"]
        "Number of spans of an edge kind that open or complete no edge, by reason.";
    "spanmill_edge_spans_replaced_total" []
        "Number of spans that replaced another span on the same side of an edge, such as further roots of a trace.";
    "spanmill_spans_not_remembered_total" ["role"]
        "Number of filtered or intermediate spans not remembered for pairing because service_graphs.max_items was reached, by role.";
    "spanmill_edges_opened_total" []
        "Number of edges opened; equals the sum of spanmill_edges_closed_total plus spanmill_edges_pending.";
    "spanmill_edges_closed_total" ["outcome"]
        "Number of edges closed, by outcome.";
    "spanmill_edges_repaired_utf8_total" []
        "Number of edges emitted with a label in which U+FFFD replaces invalid UTF-8.";
    "spanmill_edges_too_long_total" []
        "Number of edges emitted with a side that took longer than histograms.max_duration.";
    "spanmill_messaging_edges_not_observed_total" []
        "Number of messaging edges whose latency was not observed, because it was negative or longer than histograms.max_duration.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Counter;

    #[test]
    fn names_follow_the_conventions() {
        for m in ALL.iter().chain(LEDGER) {
            assert!(m.name.starts_with("spanmill_"), "{}", m.name);
            assert_eq!(m.name.ends_with("_total"), m.kind == Kind::Counter, "{}", m.name);
            assert!(m.help.ends_with('.'), "{}", m.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ALL.iter().chain(LEDGER).map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len() + LEDGER.len());
    }

    #[test]
    fn every_counter_has_its_metric_with_its_label() {
        for counter in Counter::ALL.iter().map(|counter| counter.metric()) {
            let metric = LEDGER.iter().find(|m| m.name == counter.name).expect("the list has every metric of a tally");
            let labels: Vec<_> =
                counter.label.iter().map(|(key, _)| *key).chain(["topic", "partition", "state"]).collect();
            assert_eq!(metric.labels, labels, "{}", metric.name);
        }
        assert!(LEDGER.iter().all(|m| Counter::ALL.iter().any(|counter| counter.metric().name == m.name)));
    }
}
