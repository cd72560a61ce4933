//! Keys of where spans come from.

use super::{DAY, HOUR, Key};
use crate::config::draft::Slot;
use crate::config::settings::MAX_SHARDS;

/// Keys, in the order of the reference file.
pub(super) const KEYS: &[Key] = &[
    // kafka
    Key {
        path: "kafka.brokers",
        doc: "Bootstrap servers, comma separated; name several, so that one may be down.",
        slot: |d| Slot::Text(&mut d.config.kafka.brokers),
    },
    Key {
        path: "kafka.topics",
        doc: "Source topics. Records must be partitioned by trace ID, or service graphs stay incomplete.",
        slot: |d| Slot::List(&mut d.config.kafka.topics),
    },
    Key {
        path: "kafka.group",
        doc: "Consumer group (and `<group>-shards`) and prefix of the internal topics; a new name starts from scratch.",
        slot: |d| Slot::Text(&mut d.config.kafka.group),
    },
    Key {
        path: "kafka.encoding",
        doc: "What a record value is: otlp_proto is an ExportTraceServiceRequest, as the Collector writes it.",
        slot: |d| Slot::Choice(&mut d.config.kafka.encoding),
    },
    Key {
        path: "kafka.start",
        doc: "Where a partition begins that spanmill has never seen: earliest or latest.",
        slot: |d| Slot::Choice(&mut d.config.kafka.start),
    },
    Key {
        path: "kafka.shards",
        doc: "Partitions of the deltas topic, the most workers that can own series. Fixed for the life of the group.",
        slot: |d| Slot::Whole(&mut d.config.kafka.shards, 1..=i64::from(MAX_SHARDS)),
    },
    Key {
        path: "kafka.replication",
        doc: "Replication factor of the internal topics; -1 takes the broker's default. They are the only state: use 3.",
        slot: |d| Slot::Whole(&mut d.config.kafka.replication, -1..=32_767),
    },
    Key {
        path: "kafka.dead_letter_topic",
        doc: "Gets a copy of every record that cannot be decoded or names no tenant, with the reason; \"\" for none.",
        slot: |d| Slot::Text(&mut d.config.kafka.dead_letter_topic),
    },
    Key {
        path: "kafka.stuck_after",
        doc: "A partition that has records and yields none for this long is fetched anew, then taken over again.",
        slot: |d| Slot::Duration(&mut d.config.kafka.stuck_after, 1_000..=DAY),
    },
    Key {
        path: "kafka.journal_retention",
        doc: "How long journals are kept beyond what going on needs: `replay --honour-journal` reads them.",
        slot: |d| Slot::Duration(&mut d.config.kafka.journal_retention, 0..=365 * DAY),
    },
    Key {
        path: "kafka.properties",
        doc: "librdkafka settings for every client, such as TLS and SASL. A secret may be `{file: path}`.",
        slot: |d| Slot::Secrets(&mut d.config.kafka.properties),
    },
    // tenant
    Key {
        path: "tenant.source",
        doc: "static: `name` for all; key: the record key; header: a record header; topic; attribute: of each resource.",
        slot: |d| Slot::Choice(&mut d.tenant.source),
    },
    Key {
        path: "tenant.name",
        doc: "The tenant of source static, and of resources without the attribute. single-tenant gets no tenant header.",
        slot: |d| Slot::Text(&mut d.tenant.name),
    },
    Key {
        path: "tenant.header",
        doc: "The record header of source header.",
        slot: |d| Slot::Text(&mut d.tenant.header),
    },
    Key {
        path: "tenant.attribute",
        doc: "The resource attribute of source attribute.",
        slot: |d| Slot::Text(&mut d.tenant.attribute),
    },
    // overrides
    Key {
        path: "overrides.file",
        doc: "A file with other settings for some tenants, as config/overrides.yaml shows; \"\" for none.",
        slot: |d| Slot::Path(&mut d.config.overrides.file),
    },
    Key {
        path: "overrides.reload_every",
        doc: "How often a change of that file is looked for. A file with a mistake changes nothing.",
        slot: |d| Slot::Duration(&mut d.config.overrides.reload_every, 1_000..=DAY),
    },
    // time
    Key {
        path: "time.step",
        doc: "Collection interval: one sample per series and step. Match the interval that dashboards expect.",
        slot: |d| Slot::Duration(&mut d.step, 100..=HOUR),
    },
    Key {
        path: "time.source",
        doc: "record: a span belongs to the step of its record's timestamp; span_end: of its own end (bulk loads, files).",
        slot: |d| Slot::Choice(&mut d.config.time.source),
    },
    Key {
        path: "time.lateness",
        doc: "span_end: stream time stays so far behind the spans. A span that comes later goes to the oldest open step.",
        slot: |d| Slot::Duration(&mut d.config.time.lateness, 0..=30 * DAY),
    },
    Key {
        path: "time.idle",
        doc: "A partition without records for this long advances by the wall clock, so that others need not wait.",
        slot: |d| Slot::Duration(&mut d.config.time.idle, 1..=HOUR),
    },
    Key {
        path: "time.max_future",
        doc: "Stream time never runs ahead of the wall clock by more than this: one bad producer clock is harmless.",
        slot: |d| Slot::Duration(&mut d.config.time.max_future, 0..=HOUR),
    },
    Key {
        path: "time.stall_grace",
        doc: "A step is closed without a partition that nobody advances for this long. Not below `idle`.",
        slot: |d| Slot::Duration(&mut d.config.time.stall_grace, 1..=DAY),
    },
];
