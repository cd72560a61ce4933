//! Keys of the source of spans.

use super::{ConfigKey, DAY, HOUR};
use crate::config::draft::DraftField;
use crate::config::settings::MAX_SHARDS;

/// Keys, in the order of the reference file.
pub(super) const KEYS: &[ConfigKey] = &[
    // kafka
    ConfigKey {
        path: "kafka.brokers",
        doc: "Bootstrap servers, comma separated. List several, so that one may be down.",
        slot: |d| DraftField::Text(&mut d.config.kafka.brokers),
    },
    ConfigKey {
        path: "kafka.topics",
        doc: "Source topics; ^ begins a regular expression. Records must be partitioned by trace ID, or edges are lost.",
        slot: |d| DraftField::List(&mut d.config.kafka.topics),
    },
    ConfigKey {
        path: "kafka.topic_settings",
        doc: "Per source topic: `{topic: name or ^regex, encoding: ..., tenant: ...}`. The first entry that matches applies.",
        slot: |d| DraftField::Items(&mut d.config.kafka.topic_settings),
    },
    ConfigKey {
        path: "kafka.group",
        doc: "Consumer group (also `<group>-shards`) and prefix of the internal topics. A new name starts without \
              state.",
        slot: |d| DraftField::Text(&mut d.config.kafka.group),
    },
    ConfigKey {
        path: "kafka.group_protocol",
        doc: "Who shares partitions out: classic (a member; all brokers) or consumer (the brokers, of Kafka 4.0 or later).",
        slot: |d| DraftField::Choice(&mut d.config.kafka.group_protocol),
    },
    ConfigKey {
        path: "kafka.encoding",
        doc: "Format of record values. auto: detected per record. docs/kafka-setup.md has the others, such as otlp_proto.",
        slot: |d| DraftField::Choice(&mut d.config.kafka.encoding),
    },
    ConfigKey {
        path: "kafka.start",
        doc: "Where to start in a partition that the group sees for the first time: earliest or latest.",
        slot: |d| DraftField::Choice(&mut d.config.kafka.start),
    },
    ConfigKey {
        path: "kafka.shards",
        doc: "Partitions of the deltas topic; at most so many workers own series. Changed by `spanmill reshard`.",
        slot: |d| DraftField::Whole(&mut d.config.kafka.shards, 1..=i64::from(MAX_SHARDS)),
    },
    ConfigKey {
        path: "kafka.replication",
        doc: "Replication factor of the internal topics; -1: the broker's default. They hold the only state: use 3.",
        slot: |d| DraftField::Whole(&mut d.config.kafka.replication, -1..=32_767),
    },
    ConfigKey {
        path: "kafka.dead_letter_topic",
        doc: "Topic for copies of records that cannot be decoded or name no tenant, with the reason; \"\" for none.",
        slot: |d| DraftField::Text(&mut d.config.kafka.dead_letter_topic),
    },
    ConfigKey {
        path: "kafka.stuck_after",
        doc: "If a partition has unread records but delivers none for this long, the fetch is restarted, then the \
              task.",
        slot: |d| DraftField::Duration(&mut d.config.kafka.stuck_after, 1_000..=DAY),
    },
    ConfigKey {
        path: "kafka.journal_retention",
        doc: "Extra retention of journals beyond what recovery needs; used by `replay --honor-journal`.",
        slot: |d| DraftField::Duration(&mut d.config.kafka.journal_retention, 0..=365 * DAY),
    },
    ConfigKey {
        path: "kafka.repartition",
        doc: "Repartition source topics by trace ID first, into topics `<group>-<topic>-by-trace`. Fixed for a group.",
        slot: |d| DraftField::Bool(&mut d.config.kafka.repartition),
    },
    ConfigKey {
        path: "kafka.repartition_partitions",
        doc: "Partitions of the repartitioned topics when they are created; 0: as many as the source topic has.",
        slot: |d| DraftField::Whole(&mut d.config.kafka.repartition_partitions, 0..=i64::from(MAX_SHARDS)),
    },
    ConfigKey {
        path: "kafka.repartition_retention",
        doc: "How long repartitioned records stay after they have been read; a replay reads them.",
        slot: |d| DraftField::Duration(&mut d.config.kafka.repartition_retention, HOUR..=365 * DAY),
    },
    ConfigKey {
        path: "kafka.properties",
        doc: "librdkafka settings for every client, such as TLS and SASL. A secret may be `{file: path}`.",
        slot: |d| DraftField::Secrets(&mut d.config.kafka.properties),
    },
    // tenant
    ConfigKey {
        path: "tenant.source",
        doc: "static: `name` for all; key: the record key; header: a record header; topic; attribute: of each resource.",
        slot: |d| DraftField::Choice(&mut d.tenant.source),
    },
    ConfigKey {
        path: "tenant.name",
        doc: "Tenant of source static, and of resources without the attribute. single-tenant sends no tenant header.",
        slot: |d| DraftField::Text(&mut d.tenant.name),
    },
    ConfigKey {
        path: "tenant.header",
        doc: "Name of the record header of source header.",
        slot: |d| DraftField::Text(&mut d.tenant.header),
    },
    ConfigKey {
        path: "tenant.attribute",
        doc: "Name of the resource attribute of source attribute.",
        slot: |d| DraftField::Text(&mut d.tenant.attribute),
    },
    // overrides
    ConfigKey {
        path: "overrides.file",
        doc: "File with settings of single tenants, as in config/overrides.yaml; \"\" for none.",
        slot: |d| DraftField::Path(&mut d.config.overrides.file),
    },
    ConfigKey {
        path: "overrides.reload_every",
        doc: "How often the file is checked for changes. A file with an error is not applied.",
        slot: |d| DraftField::Duration(&mut d.config.overrides.reload_every, 1_000..=DAY),
    },
    // time
    ConfigKey {
        path: "time.step",
        doc: "Collection interval: one sample per series and step. Match the interval that dashboards expect.",
        slot: |d| DraftField::Duration(&mut d.step, 100..=HOUR),
    },
    ConfigKey {
        path: "time.source",
        doc: "record: a span belongs to the step of its record's timestamp; span_end: of its own end (bulk loads, \
              files).",
        slot: |d| DraftField::Choice(&mut d.config.core.time.source),
    },
    ConfigKey {
        path: "time.lateness",
        doc: "span_end only: delay of stream time behind span end times. Later spans are counted in the oldest open \
              step.",
        slot: |d| DraftField::Duration(&mut d.config.core.time.lateness, 0..=30 * DAY),
    },
    ConfigKey {
        path: "time.idle",
        doc: "Idle timeout: after this long without records, stream time of a partition follows the wall clock.",
        slot: |d| DraftField::Duration(&mut d.config.core.time.idle, 1..=HOUR),
    },
    ConfigKey {
        path: "time.max_future",
        doc: "Maximum lead over the wall clock. A record this far ahead of its partition must be confirmed by the next ones.",
        slot: |d| DraftField::Duration(&mut d.config.core.time.max_future, 0..=HOUR),
    },
    ConfigKey {
        path: "time.stall_grace",
        doc: "A step is closed without a partition whose stream time has stalled for this long. Must be at least `idle`.",
        slot: |d| DraftField::Duration(&mut d.config.core.time.stall_grace, 1..=DAY),
    },
];
