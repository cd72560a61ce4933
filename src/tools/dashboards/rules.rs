//! Rules for Prometheus, and the page of runbooks.

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// An operator should look now: metrics are late or get lost.
    Critical,
    /// An operator should look today.
    Warning,
}

/// An alert with its runbook.
#[derive(Debug, Clone, Copy)]
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// When it fires.
    pub expr: &'static str,
    /// For how long that must hold; empty: at once.
    pub lasts: &'static str,
    /// How urgent it is.
    pub severity: Severity,
    /// One line, with the labels of the alert.
    pub summary: &'static str,
    /// What it means for the metrics.
    pub meaning: &'static str,
    /// What to do, in order.
    pub steps: &'static [&'static str],
}

/// A series that is computed in advance.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub expr: &'static str,
}

/// Rate, errors and duration of services, so that a page of many services asks for few series.
pub const RECORDS: &[Record] = &[
    Record {
        name: "service:traces_spanmetrics_calls:rate5m",
        expr: "sum by (service) (rate(traces_spanmetrics_calls_total{span_kind=~\"SPAN_KIND_SERVER|SPAN_KIND_CONSUMER\"}[5m]))",
    },
    Record {
        name: "service:traces_spanmetrics_errors:rate5m",
        expr: "sum by (service) (rate(traces_spanmetrics_calls_total{span_kind=~\"SPAN_KIND_SERVER|SPAN_KIND_CONSUMER\",\
               status_code=\"STATUS_CODE_ERROR\"}[5m]))",
    },
    Record {
        name: "service:traces_spanmetrics_latency_seconds:p95_5m",
        expr: "histogram_quantile(0.95, sum by (service, le) (rate(traces_spanmetrics_latency_bucket{\
               span_kind=~\"SPAN_KIND_SERVER|SPAN_KIND_CONSUMER\"}[5m])))",
    },
    Record {
        name: "client_server:traces_service_graph_request:rate5m",
        expr: "sum by (client, server) (rate(traces_service_graph_request_total[5m]))",
    },
];

/// The alerts. Durations and limits are a start.
pub const ALERTS: &[Alert] = &[
    Alert {
        name: "SpanmillNotReady",
        expr: "min by (instance, condition) (spanmill_ready_condition) == 0",
        lasts: "5m",
        severity: Severity::Critical,
        summary: "{{ $labels.instance }} does not meet the condition {{ $labels.condition }}",
        meaning: "The worker cannot do its whole work. Spans wait in Kafka and nothing is lost as long as Kafka keeps them; metrics are late.",
        steps: &[
            "Ask the worker: `curl http://WORKER:9464/readyz` gives the reason and the remedy for each condition, and the log has the same line.",
            "`group`, `fetch`, `write`: look at the brokers and at the network between them and the worker.",
            "`export`: look at the receiver; the reason names the URL, the tenant and the status.",
            "`clock`: repair the time synchronization of the machine.",
            "`keys`: the source topics are not partitioned by trace ID; see docs/kafka-setup.md.",
            "`records`: the topic holds something else than what kafka.encoding is set to; see `spanmill check --connect`.",
        ],
    },
    Alert {
        name: "SpanmillNoWorker",
        expr: "absent(spanmill_ready)",
        lasts: "5m",
        severity: Severity::Critical,
        summary: "Prometheus scrapes no worker of spanmill",
        meaning: "Either no worker runs, or its admin endpoint cannot be reached (admin.listen is on loopback by default).",
        steps: &[
            "Look whether the process runs, and at the end of its log.",
            "In a container set admin.listen to `0.0.0.0:9464`.",
        ],
    },
    Alert {
        name: "SpanmillLag",
        expr: "max by (topic, partition) (spanmill_lag_seconds{state=\"owned\"}) > 300",
        lasts: "10m",
        severity: Severity::Warning,
        summary: "{{ $labels.topic }}[{{ $labels.partition }}] lags by {{ $value | humanizeDuration }}",
        meaning: "Metrics are late by this much. Counts stay exact, in the steps where they belong, as long as Kafka keeps the records.",
        steps: &[
            "One partition only: a hot key, an open transaction (`spanmill_open_transaction`), or a broker that does not deliver.",
            "All partitions: the workers are too slow. `spanmill_memory_throttled` is 1 where memory is the limit: raise worker.memory_limit. Otherwise add workers, up to the number of partitions.",
            "Shards (the deltas topic) only: the receiver is slow or down; see SpanmillReceiverWaiting.",
            "Compare the lag with the retention of the source topic: raise the retention if they come close.",
        ],
    },
    Alert {
        name: "SpanmillReceiverWaiting",
        expr: "sum by (reason) (spanmill_receivers_waiting) > 0",
        lasts: "5m",
        severity: Severity::Warning,
        summary: "{{ $value }} pairs of receiver and tenant wait: {{ $labels.reason }}",
        meaning: "Samples are kept and sent again until the receiver takes them. Nothing is lost as long as Kafka keeps the records.",
        steps: &[
            "`/readyz` and the log name the URL, the tenant, the status and a remedy.",
            "401 or 403: renew the credential; its file is read again at the next attempt.",
            "404 or a redirect: correct remote_write.url.",
            "429: raise the receiver's limit for the tenant, or send less (limits, fewer dimensions).",
        ],
    },
    Alert {
        name: "SpanmillEndpointBehind",
        expr: "max by (endpoint) (spanmill_remote_write_endpoint_backlog_full) > 0",
        lasts: "5m",
        severity: Severity::Critical,
        summary: "The backlog of endpoint {{ $labels.endpoint }} of remote write is full",
        meaning: "One of several endpoints has not taken samples for so long that no more may wait for it. With on_backlog: wait, the \
                  other endpoints wait for it, and metrics are late everywhere; with drop, its oldest steps are lost to it, and to it only.",
        steps: &[
            "`/readyz` names the shards and the endpoint, and the log has the reason why it does not take samples; see SpanmillReceiverWaiting.",
            "If it will be down for long, raise its remote_write.max_backlog: what waits is in memory, and in every snapshot of its shard.",
            "If the other endpoints must not wait, set remote_write.on_backlog: drop; `spanmill_remote_write_endpoint_dropped_samples_total` is the account.",
            "If it does not come back, remove it from remote_write: the others continue at once.",
        ],
    },
    Alert {
        name: "SpanmillSamplesRejected",
        expr: "sum by (instance, reason) (increase(spanmill_samples_rejected_total[10m])) > 0",
        lasts: "",
        severity: Severity::Warning,
        summary: "The receiver rejected samples of {{ $labels.instance }}: {{ $labels.reason }}",
        meaning: "These samples are lost; the totals of their series are right again with the next sample that is stored.",
        steps: &[
            "The log names a rejected series with the answer of the receiver. `/quarantine` lists series that are not sent any more, except to retry them.",
            "Too old or out of order: another writer sends the same series, or the receiver's out-of-order window is too small for the lag.",
            "Too many labels, too long values: use `limits` or drop the dimension.",
        ],
    },
    Alert {
        name: "SpanmillStepsWithoutPartition",
        expr: "sum by (instance) (increase(spanmill_steps_closed_total{cause=\"stall_timeout\"}[10m])) > 0",
        lasts: "",
        severity: Severity::Warning,
        summary: "{{ $labels.instance }} closed steps without a partition that did not advance",
        meaning: "A partition stood still for time.stall_grace. What it holds is counted later, in the oldest step that is then open: totals stay right, their time does not.",
        steps: &[
            "`/readyz` and the log name the partition.",
            "Look at its leader, at open transactions, and at its producer.",
        ],
    },
    Alert {
        name: "SpanmillRecordsNotProcessed",
        expr: "sum by (topic, reason) (increase(spanmill_records_dropped_total{state=\"owned\"}[10m])) > 0",
        lasts: "",
        severity: Severity::Warning,
        summary: "Records of {{ $labels.topic }} were not processed: {{ $labels.reason }}",
        meaning: "Their spans are not in the metrics.",
        steps: &[
            "The log names the offset, the reason and the first bytes of one of them.",
            "With kafka.dead_letter_topic they are kept with their reason.",
            "`undecodable`: a producer writes another format; set kafka.encoding.",
        ],
    },
    Alert {
        name: "SpanmillRecordsLost",
        expr: "sum by (topic) (increase(spanmill_records_skipped_total{state=\"owned\",reason=\"retention\"}[10m])) > 0",
        lasts: "",
        severity: Severity::Critical,
        summary: "{{ $labels.topic }} deleted records before they were read",
        meaning: "Their spans are lost for the metrics.",
        steps: &["Raise the retention of the topic, or reduce the lag (SpanmillLag)."],
    },
    Alert {
        name: "SpanmillDeltasMissing",
        expr: "sum by (instance) (spanmill_deltas_unnamed{state=\"owned\"}) > 0 or \
               sum by (instance) (increase(spanmill_deltas_lost_total[1h])) > 0 or \
               sum by (instance) (spanmill_delta_record_gaps{state=\"owned\"}) > 0",
        lasts: "5m",
        severity: Severity::Critical,
        summary: "{{ $labels.instance }} lacks delta records or labels",
        meaning: "An internal topic lost records that were acknowledged, and no journal holds them any more. Counts of the named shards are held back or lost.",
        steps: &[
            "`/readyz` names the shard, the source partition and the record.",
            "Look for unclean leader elections and for power loss; set `min.insync.replicas=2` with three replicas.",
            "Restore the topic from a copy, or begin with another kafka.group and replay.",
        ],
    },
    Alert {
        name: "SpanmillPanics",
        expr: "sum by (instance, kind) (increase(spanmill_task_panics_total[1h])) > 0",
        lasts: "",
        severity: Severity::Warning,
        summary: "A {{ $labels.kind }} task of {{ $labels.instance }} panicked",
        meaning: "The task is restarted from its journal and counts stay exact; a record that causes it three times is isolated and counted as dropped.",
        steps: &["Report the line of the log, with `spanmill --version`."],
    },
    Alert {
        name: "SpanmillRebalanceStorm",
        expr: "sum by (instance) (increase(spanmill_rebalance_storms_total[15m])) > 0",
        lasts: "",
        severity: Severity::Warning,
        summary: "The group moves partitions of {{ $labels.instance }} repeatedly",
        meaning: "Workers spend their time with taking over. Counts stay exact; metrics are late.",
        steps: &[
            "Look for a worker that is restarted repeatedly, or that is short of CPU.",
            "Give each worker a `group.instance.id` in kafka.properties and a `session.timeout.ms` longer than a restart.",
        ],
    },
    Alert {
        name: "SpanmillInternalTopicsAtRisk",
        expr: "max by (reason) (spanmill_topics_at_risk) > 0",
        lasts: "1h",
        severity: Severity::Warning,
        summary: "{{ $value }} internal topics may lose acknowledged records: {{ $labels.reason }}",
        meaning: "Nothing is lost now. One broker that loses its disk could take state along.",
        steps: &["The log names the topics and the settings; docs/kafka-setup.md has the commands."],
    },
    Alert {
        name: "SpanmillSourceTopicsSkipped",
        expr: "max(spanmill_source_topics_skipped) > 0",
        lasts: "5m",
        severity: Severity::Critical,
        summary: "{{ $value }} topics that match kafka.topics are not read",
        meaning: "Spans of these topics are not counted. They are counted from the beginning of the topic once its journal is fit, if they are still there.",
        steps: &[
            "The log names each topic, the reason and the remedy; `spanmill doctor` has the same.",
            "A topic that holds no spans: exclude it by the expression in kafka.topics.",
        ],
    },
    Alert {
        name: "SpanmillOverridesNotLoaded",
        expr: "min by (instance) (spanmill_overrides_last_reload_successful) == 0",
        lasts: "5m",
        severity: Severity::Warning,
        summary: "{{ $labels.instance }} cannot load its overrides",
        meaning: "The overrides that were active before stay active.",
        steps: &["The log has every problem of the file with its line; `spanmill check` has the same."],
    },
    Alert {
        name: "SpanmillSettingsDiffer",
        expr: "max by (partition) (spanmill_settings_differ{state=\"owned\"}) > 0",
        lasts: "1h",
        severity: Severity::Warning,
        summary: "Workers of shard {{ $labels.partition }} count with different settings",
        meaning: "Counts are exact, but spans of different partitions are counted by different settings.",
        steps: &["`curl http://WORKER:9464/settings` names the keys. Give all workers the same configuration."],
    },
    Alert {
        name: "SpanmillSeriesOverLimit",
        expr: "max by (partition) (spanmill_label_sets_over_limit{state=\"owned\"}) > 0",
        lasts: "15m",
        severity: Severity::Warning,
        summary: "Shard {{ $labels.partition }} counts {{ $value }} label sets in overflow series",
        meaning: "Totals are right, but these label sets have no series of their own.",
        steps: &[
            "`curl http://WORKER:9464/cardinality` lists the labels with the most values.",
            "Drop the dimension, use span_names, or raise the limit.",
        ],
    },
];

const HEAD: &str = "\
# Rules for Prometheus, written by `spanmill dashboards`. Durations and limits are a start.
# Each alert has a runbook: docs/runbooks.md.
";

/// The file of rules.
pub(super) fn yaml() -> String {
    let mut out = format!("{HEAD}groups:\n  - name: spanmill-services\n    rules:\n");
    for Record { name, expr } in RECORDS {
        write_lines(&mut out, &[("record", name), ("expr", expr)]);
    }
    out.push_str("  - name: spanmill\n    rules:\n");
    for alert in ALERTS {
        let mut lines = vec![("alert", alert.name), ("expr", alert.expr)];
        lines.extend((!alert.lasts.is_empty()).then_some(("for", alert.lasts)));
        write_lines(&mut out, &lines);
        let runbook = format!("docs/runbooks.md#{}", alert.name.to_ascii_lowercase());
        let texts = [("summary", alert.summary), ("description", alert.meaning), ("runbook", &runbook)];
        out.extend(["        labels:\n          severity: ", alert.severity.name(), "\n        annotations:\n"]);
        for (name, text) in texts {
            // A JSON text is a YAML text.
            out.extend(["          ", name, ": ", &quoted(text), "\n"]);
        }
    }
    out
}

fn write_lines(out: &mut String, lines: &[(&str, &str)]) {
    for (i, (name, text)) in lines.iter().enumerate() {
        let start = if i == 0 { "      - " } else { "        " };
        let text = if *name == "expr" { quoted(text) } else { (*text).to_owned() };
        out.extend([start, name, ": ", &text, "\n"]);
    }
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The page of runbooks, `docs/runbooks.md`.
#[must_use]
pub fn runbooks() -> String {
    let mut out = "# Runbooks: what does an alert mean, and what do I do?\n\n\
        The alerts are those of [config/grafana/spanmill-rules.yaml](../config/grafana/spanmill-rules.yaml), which `spanmill dashboards`\n\
        writes, too. Their limits are a start. `WORKER` is a worker's host; its admin endpoint is `admin.listen`.\n"
        .to_owned();
    for alert in ALERTS {
        let lasts = if alert.lasts.is_empty() { String::new() } else { format!(" for {}", alert.lasts) };
        let head = format!(
            "\n## {}\n\n{}: `{}`{lasts}.\n\n{}\n\n",
            alert.name,
            alert.severity.title(),
            alert.expr,
            alert.meaning
        );
        let steps = alert.steps.iter().enumerate().map(|(i, step)| format!("{}. {step}\n", i + 1));
        out.extend(std::iter::once(head).chain(steps));
    }
    out
}

// === impl Severity ===

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Critical => "Critical",
            Self::Warning => "Warning",
        }
    }
}
