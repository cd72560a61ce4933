//! The health of spanmill itself.

use super::panel::{Dashboard, Panel, Query, Variable};

/// Other workers may own what is in another state.
const OWNED: &str = "state=\"owned\",topic=~\"$topic\"";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        file: "spanmill-health.json",
        uid: "spanmill-health",
        title: "spanmill",
        description: "How the workers are: readiness, lag, the account of every span, remote write, resources.",
        variables: vec![Variable {
            name: "topic",
            label: "Topic",
            query: "label_values(spanmill_records_read_total, topic)",
        }],
        rows: vec![
            ("Health", health()),
            ("Reading", reading()),
            ("Time", time()),
            ("The account of every span and edge", ledger()),
            ("Details of the account", details()),
            ("Series", series()),
            ("Remote write", sending()),
            ("Endpoints of remote write", endpoints()),
            ("Workers", workers()),
        ],
    }
}

/// Sum of the rate of a metric of all workers.
fn rate(metric: &str, by: &str) -> String {
    let by = if by.is_empty() { String::new() } else { format!(" by ({by})") };
    format!("sum{by} (rate(spanmill_{metric}[$__rate_interval]))")
}

/// The same for what each partition has.
fn ledger_rate(metric: &str, by: &str) -> String {
    rate(&format!("{metric}{{{OWNED}}}"), by)
}

fn lines(
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    legend: &'static str,
    expr: String,
) -> Panel {
    Panel::lines(title, description, unit, [(legend, expr)])
}

fn health() -> Vec<Panel> {
    let balance = |read: &str, counted: &str, dropped: &str| {
        let sum = |metric: &str| format!("sum(spanmill_{metric}{{{OWNED}}})");
        format!("{} - {} - ({} or vector(0))", sum(read), sum(counted), sum(dropped))
    };
    vec![
        Panel::number("Workers", "Workers that Prometheus scrapes.", "short", "count(spanmill_ready)".into()),
        Panel::number(
            "Not ready",
            "Workers that are not ready; the conditions beside it tell which.",
            "short",
            "count(spanmill_ready == 0) or vector(0)".into(),
        ),
        Panel::number(
            "Oldest lag",
            "The partition that lags most.",
            "s",
            format!("max(spanmill_lag_seconds{{{OWNED}}})"),
        ),
        Panel::number(
            "Unaccounted spans",
            "Spans read less those counted and those dropped with a reason. Other than 0 only for the moment of a scrape.",
            "short",
            balance("spans_read_total", "spans_counted_total", "spans_dropped_total"),
        ),
        Panel::table(
            "Conditions",
            "0: a worker does not meet it; its /readyz and its log give the reason and the remedy.",
            vec![Query::column("Met", "short", "min by (condition) (spanmill_ready_condition)")],
        )
        .sized(8, 8),
    ]
}

fn reading() -> Vec<Panel> {
    vec![
        lines("Spans read", "Spans per second.", "ops", "{{topic}}", ledger_rate("spans_read_total", "topic")),
        lines(
            "Lag",
            "Age of the unread records of each partition.",
            "s",
            "{{topic}}[{{partition}}]",
            format!("max by (topic, partition) (spanmill_lag_seconds{{{OWNED}}})"),
        ),
        lines(
            "Unread records",
            "Records of each partition that wait.",
            "short",
            "{{topic}}[{{partition}}]",
            format!("max by (topic, partition) (spanmill_lag_records{{{OWNED}}})"),
        ),
        lines("Records read", "Records per second.", "ops", "{{topic}}", ledger_rate("records_read_total", "topic")),
        lines(
            "Bytes read",
            "Bytes of record values per second.",
            "Bps",
            "{{topic}}",
            ledger_rate("bytes_read_total", "topic"),
        ),
        Panel::lines(
            "Records not processed",
            "Undecodable, without tenant, isolated, deleted before they were read. Should be 0.",
            "ops",
            [
                ("dropped: {{reason}}", ledger_rate("records_dropped_total", "reason")),
                ("skipped: {{reason}}", ledger_rate("records_skipped_total", "reason")),
                ("not for metrics", ledger_rate("records_not_for_metrics_total", "")),
            ],
        ),
    ]
}

fn time() -> Vec<Panel> {
    vec![
        lines(
            "Age of stream time",
            "How far each source partition's time is behind the clock.",
            "s",
            "{{topic}}[{{partition}}]",
            format!("time() - max by (topic, partition) (spanmill_stream_time_timestamp_seconds{{{OWNED}}})"),
        ),
        lines(
            "Age of the last closed step",
            "How old the samples are that were sent last, by shard.",
            "s",
            "shard {{partition}}",
            "time() - max by (partition) (spanmill_last_closed_step_timestamp_seconds{state=\"owned\"})".into(),
        ),
        lines(
            "Steps closed",
            "Steps per second by cause; stall_timeout means that a partition was left behind.",
            "ops",
            "{{cause}}",
            rate("steps_closed_total", "cause"),
        ),
        lines(
            "Late spans",
            "With time.source: span_end, spans whose step was closed; they count in the oldest open step.",
            "ops",
            "{{topic}}",
            ledger_rate("spans_late_total", "topic"),
        ),
        lines(
            "Records from the future",
            "Their timestamp is ahead of the clock; they count at stream time.",
            "ops",
            "{{topic}}",
            ledger_rate("records_from_future_total", "topic"),
        ),
        lines(
            "Clock",
            "Lead of a worker's clock over the brokers' clock. Beyond 10 s the worker is not ready.",
            "s",
            "{{instance}}",
            "spanmill_clock_ahead_seconds".into(),
        ),
    ]
}

fn ledger() -> Vec<Panel> {
    vec![
        lines(
            "Spans counted",
            "Spans per second that span metrics count.",
            "ops",
            "{{topic}}",
            ledger_rate("spans_counted_total", "topic"),
        ),
        lines("Spans not counted", "By reason.", "ops", "{{reason}}", ledger_rate("spans_dropped_total", "reason")),
        lines(
            "Pending edges",
            "Spans that wait for their peer span.",
            "short",
            "{{topic}}[{{partition}}]",
            format!("max by (topic, partition) (spanmill_edges_pending{{{OWNED}}})"),
        ),
        lines("Edges opened", "Edges per second.", "ops", "{{topic}}", ledger_rate("edges_opened_total", "topic")),
        lines(
            "Edges closed",
            "By outcome. Many that expire mean that the topic is not partitioned by trace ID, or that services are not instrumented.",
            "ops",
            "{{outcome}}",
            ledger_rate("edges_closed_total", "outcome"),
        ),
        lines(
            "Spans without an edge",
            "Spans of an edge kind that make no edge, by reason.",
            "ops",
            "{{reason}}",
            ledger_rate("edge_spans_dropped_total", "reason"),
        ),
    ]
}

/// The panels for a closer look when the totals look odd.
fn details() -> Vec<Panel> {
    let mut panels = vec![
        Panel::lines(
            "Spans changed before they were counted",
            "Invalid UTF-8 repaired, names sanitized, durations or ends out of bounds, too many to remember for pairing.",
            "ops",
            [
                ("repaired", ledger_rate("spans_repaired_utf8_total", "")),
                ("name sanitized", ledger_rate("span_names_sanitized_total", "")),
                ("too long", ledger_rate("spans_too_long_total", "")),
                ("from the future", ledger_rate("spans_from_future_total", "")),
                ("not remembered: {{role}}", ledger_rate("spans_not_remembered_total", "role")),
            ],
        ),
        Panel::lines(
            "Traces in several partitions",
            "Of a sample: anything but 0 means that the topic is not partitioned by trace ID, so edges are missing.",
            "ops",
            [("sampled", rate("sampled_traces_total", "")), ("split", rate("sampled_traces_split_total", ""))],
        ),
        Panel::lines(
            "Span events",
            "With span_metrics.events: counted, and not counted by reason.",
            "ops",
            [
                ("counted", ledger_rate("span_events_counted_total", "")),
                ("not counted: {{reason}}", ledger_rate("span_events_dropped_total", "reason")),
            ],
        ),
        Panel::lines(
            "Commits and dead letters",
            "Commits of the journals; copies to the dead-letter topic by outcome.",
            "ops",
            [
                ("commits: {{kind}}", rate("commits_total", "kind")),
                ("commits sent again", rate("commits_sent_again_total", "")),
                ("dead letters: {{outcome}}", rate("dead_letters_total", "outcome")),
            ],
        ),
    ];
    panels.extend(repartition());
    panels
}

/// The stage before the span tasks, where there is one.
fn repartition() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Repartition stage",
            "With kafka.repartition: records read and written, spans, transactions; anything lost or aborted is named.",
            "ops",
            [
                ("records read", rate("repartition_records_read_total", "")),
                ("records written", rate("repartition_records_written_total", "")),
                ("spans", rate("repartition_spans_total", "")),
                ("transactions", rate("repartition_transactions_total", "")),
                ("transactions aborted", rate("repartition_transactions_aborted_total", "")),
                ("records lost", rate("repartition_records_lost_total", "")),
            ],
        ),
        Panel::lines(
            "Repartition stage: unread",
            "Source records that the stage has not passed on, and the age of the next one in seconds.",
            "short",
            [
                ("records", "sum(spanmill_repartition_lag_records)".to_owned()),
                ("seconds", "max(spanmill_repartition_lag_seconds)".to_owned()),
            ],
        ),
    ]
}

fn series() -> Vec<Panel> {
    vec![
        lines(
            "Active series",
            "Series of all shards.",
            "short",
            "series",
            "sum(spanmill_active_series{state=\"owned\"})".into(),
        ),
        lines(
            "Label sets over a limit",
            "Overflow series hold their counts; /cardinality lists the labels that cause them.",
            "short",
            "shard {{partition}}",
            "max by (partition) (spanmill_label_sets_over_limit{state=\"owned\"})".into(),
        ),
        lines(
            "Different settings",
            "Source partitions whose counting settings differ from those of the shard's owner; /settings names the keys.",
            "short",
            "shard {{partition}}",
            "max by (partition) (spanmill_settings_differ{state=\"owned\"})".into(),
        ),
    ]
}

/// Of remote write, where it has several.
fn endpoints() -> Vec<Panel> {
    vec![
        Panel::lines(
            "What waits",
            "Compressed bytes that wait for each of several endpoints, and whether no more may. Empty with one endpoint.",
            "bytes",
            [
                ("{{endpoint}}", "sum by (endpoint) (spanmill_remote_write_endpoint_backlog_bytes)".into()),
                ("{{endpoint}}: full", "max by (endpoint) (spanmill_remote_write_endpoint_backlog_full)".into()),
            ],
        ),
        lines(
            "Distance",
            "Event time from the oldest step that each of several endpoints lacks to the last closed step.",
            "s",
            "{{endpoint}}",
            "max by (endpoint) (spanmill_remote_write_endpoint_behind_seconds)".into(),
        ),
        Panel::lines(
            "Samples of endpoints",
            "What became of the samples for each of several endpoints.",
            "short",
            [
                ("{{endpoint}}: {{result}}", rate("remote_write_endpoint_samples_total", "endpoint, result")),
                (
                    "{{endpoint}}: not sent, {{reason}}",
                    rate("remote_write_endpoint_dropped_samples_total", "endpoint, reason"),
                ),
            ],
        ),
        Panel::lines(
            "Requests in flight",
            "Requests in flight to each endpoint, and how many there may be: the sender finds that by the answers. With one endpoint, too.",
            "short",
            [
                ("{{endpoint}}: limit", "sum by (endpoint) (spanmill_remote_write_endpoint_in_flight_limit)".into()),
                (
                    "{{endpoint}}: in flight",
                    "sum by (endpoint) (spanmill_remote_write_endpoint_requests_in_flight)".into(),
                ),
            ],
        ),
    ]
}

fn sending() -> Vec<Panel> {
    let requests = "sum by (le) (rate(spanmill_remote_write_request_duration_seconds_bucket[$__rate_interval]))";
    vec![
        Panel::lines(
            "Samples",
            "Samples per second: built, and what became of them.",
            "ops",
            [
                ("built", rate("samples_built_total", "")),
                ("acknowledged", rate("samples_acknowledged_total", "")),
                ("duplicate", rate("samples_duplicate_total", "")),
                ("rejected: {{reason}}", rate("samples_rejected_total", "reason")),
                ("filtered", rate("samples_filtered_total", "")),
                ("abandoned", rate("samples_abandoned_total", "")),
            ],
        ),
        Panel::lines(
            "Waiting",
            "Samples that are not settled, requests in flight, pairs of receiver and tenant that wait, series that a receiver rejects.",
            "short",
            [
                ("samples", "sum(spanmill_samples_pending)".into()),
                ("requests in flight", "sum(spanmill_remote_write_requests_in_flight)".into()),
                ("batches", "sum(spanmill_remote_write_batches_pending)".into()),
                ("receivers: {{reason}}", "sum by (reason) (spanmill_receivers_waiting)".into()),
                ("receivers that reject all", "sum(spanmill_receivers_refusing)".into()),
                ("series in quarantine", "sum(spanmill_series_quarantined)".into()),
            ],
        ),
        lines(
            "Requests",
            "Attempts per second by answer.",
            "reqps",
            "{{class}}",
            rate("remote_write_requests_total", "class"),
        ),
        Panel::lines(
            "Duration of requests",
            "Median and 99th percentile.",
            "s",
            [
                ("median", format!("histogram_quantile(0.5, {requests})")),
                ("99th percentile", format!("histogram_quantile(0.99, {requests})")),
            ],
        ),
        lines("Bytes sent", "Compressed bytes per second.", "Bps", "bytes", rate("remote_write_bytes_total", "")),
        Panel::lines(
            "Retries and what is odd",
            "Attempts that repeated one; steps not written for a tenant whose receiver was down; exemplars that a receiver rejected, or that are not sent to one that stores none; metadata; series with illegal names.",
            "ops",
            [
                ("retries", rate("remote_write_retries_total", "")),
                ("skipped steps", rate("tenant_steps_skipped_total", "")),
                ("rejected exemplars", rate("exemplars_rejected_total", "")),
                ("withheld exemplars", rate("exemplars_withheld_total", "")),
                ("written counts that differ", rate("remote_write_written_mismatches_total", "")),
                ("metadata: {{result}}", rate("remote_write_metadata_requests_total", "result")),
                ("series with illegal names", rate("illegal_series_total", "")),
            ],
        ),
    ]
}

fn workers() -> Vec<Panel> {
    let restores = "sum by (le, kind) (rate(spanmill_task_restore_duration_seconds_bucket[$__range]))";
    vec![
        lines(
            "Memory",
            "Accounted memory by what holds it.",
            "bytes",
            "{{part}}",
            "sum by (part) (spanmill_memory_bytes)".into(),
        ),
        lines(
            "Throttled",
            "1 while worker.memory_limit slows reading.",
            "short",
            "{{instance}}",
            "spanmill_memory_throttled".into(),
        ),
        lines(
            "Desired workers",
            "How many workers the group needs, as each of them estimates it. An autoscaler follows the greatest.",
            "short",
            "{{instance}}",
            "spanmill_desired_workers".into(),
        ),
        lines(
            "Tasks",
            "Tasks of all workers by kind and state.",
            "short",
            "{{kind}} {{state}}",
            "sum by (kind, state) (spanmill_tasks)".into(),
        ),
        lines(
            "Rebalances",
            "Partitions assigned, revoked, lost.",
            "ops",
            "{{event}}",
            rate("rebalances_total", "event"),
        ),
        lines(
            "Restores, 95th percentile",
            "From claim to running.",
            "s",
            "{{kind}}",
            format!("histogram_quantile(0.95, {restores})"),
        ),
        trouble(),
        lines(
            "Spans of own work",
            "Spans of telemetry.traces by result: dropped and failed ones are lost.",
            "ops",
            "{{result}}",
            rate("own_spans_total", "result"),
        ),
    ]
}

fn trouble() -> Panel {
    Panel::lines(
        "Trouble",
        "Panics, fenced tasks, stalled partitions, back-offs, failed requests to brokers. Should be 0.",
        "ops",
        [
            ("panics", rate("task_panics_total", "")),
            ("fenced", rate("tasks_fenced_total", "")),
            ("stalled partitions", rate("partition_stalls_total", "")),
            ("rebalance storms", rate("rebalance_storms_total", "")),
            ("group back-offs", rate("group_backoffs_total", "")),
            ("failed requests: {{request}}", rate("admin_requests_failed_total", "request")),
        ],
    )
}
