//! The Collector's Kafka receiver.

use crate::import::kafka::{group, mechanism, tls_off, topics};
use crate::import::table::How::{By, Fixed, Invert, Joined, Milliseconds, Nothing, Secret, Text};
use crate::import::table::Verdict::{Better, Different, Ignored, Refused, Same};
use crate::import::table::{Row, Table, absent, case, key, none};

const FETCH: &str = "each source partition has a buffer of worker.fetch_buffer_bytes";
const ENCODING: &str = "spanmill reads otlp_proto: let the producer write that";
const JOURNAL: &str = "offsets follow from the journal: every span counts once";
const MECHANISM: &str = "not in this build of the client: use PLAIN, SCRAM or a TLS certificate";
const METADATA: &str = "the client's own is used";
const OTHERS: &str = "only spans are read";
const HEADERS: &str = "headers become no attributes; a tenant can come from one: tenant.source: header";
const FILE: &str = "write it to a file and name that";

/// `kafka`.
pub(in crate::import) const RECEIVER: Table =
    Table { name: "Collector: receiver kafka", root: "receivers.kafka", rows: ROWS };

const ROWS: &[Row] = &[
    key("brokers", Joined, "kafka.brokers", Same),
    key("topic", By(topics), "kafka.topics", Same),
    key("topics", By(topics), "kafka.topics", Same),
    key("traces.topic", By(topics), "kafka.topics", Same),
    key("traces.topics", By(topics), "kafka.topics", Same),
    case("topics", "(an expression)", Nothing, "", Refused("topics are named one by one in kafka.topics")),
    none("exclude_topics", Refused("topics are named one by one in kafka.topics")),
    none("traces.exclude_topics", Refused("topics are named one by one in kafka.topics")),
    none("encoding", Refused(ENCODING)),
    case("encoding", "otlp_proto", Fixed("otlp_proto"), "kafka.encoding", Same),
    none("traces.encoding", Refused(ENCODING)),
    case("traces.encoding", "otlp_proto", Fixed("otlp_proto"), "kafka.encoding", Same),
    key("group_id", By(group), "kafka.group", Different("a group of its own, so that both can run side by side")),
    key("client_id", Text, "kafka.properties.client.id", Same),
    none("initial_offset", Refused("neither latest nor earliest")),
    case("initial_offset", "latest", Fixed("latest"), "kafka.start", Same),
    case("initial_offset", "earliest", Fixed("earliest"), "kafka.start", Same),
    absent("initial_offset", "kafka.start", "latest", Same),
    none("protocol_version", Ignored("the client asks the broker")),
    none(
        "resolve_canonical_bootstrap_servers_only",
        Refused("write kafka.properties.client.dns.lookup: resolve_canonical_bootstrap_servers_only"),
    ),
    case(
        "resolve_canonical_bootstrap_servers_only",
        "true",
        Fixed("resolve_canonical_bootstrap_servers_only"),
        "kafka.properties.client.dns.lookup",
        Same,
    ),
    case("resolve_canonical_bootstrap_servers_only", "false", Nothing, "", Same),
    key("session_timeout", Milliseconds, "kafka.properties.session.timeout.ms", Same),
    key("heartbeat_interval", Milliseconds, "kafka.properties.heartbeat.interval.ms", Same),
    none("group_rebalance_strategy", Ignored("spanmill chooses it, a hand-over relies on it")),
    none("group_instance_id", Ignored("no state hangs on the name of a worker: another can take over at once")),
    none("min_fetch_size", Ignored(FETCH)),
    none("default_fetch_size", Ignored(FETCH)),
    none("max_fetch_size", Ignored(FETCH)),
    none("max_partition_fetch_size", Ignored(FETCH)),
    none("max_fetch_wait", Ignored(FETCH)),
    none("autocommit.**", Better(JOURNAL)),
    none("message_marking.**", Better("a record that cannot be decoded is counted and does not hold up its partition")),
    none("error_backoff.**", Better("a record that cannot be decoded is counted and does not hold up its partition")),
    none("header_extraction.extract_headers", Refused(HEADERS)),
    case("header_extraction.extract_headers", "false", Nothing, "", Same),
    none("header_extraction.headers", Refused(HEADERS)),
    key("rack_id", Text, "kafka.properties.client.rack", Same),
    none("use_leader_epoch", Ignored(METADATA)),
    none("conn_idle_timeout", Ignored(METADATA)),
    none("metadata.**", Ignored(METADATA)),
    none("telemetry.**", Ignored("spanmill's own metrics are at admin.listen")),
    none("logs.**", Ignored(OTHERS)),
    none("metrics.**", Ignored(OTHERS)),
    none("profiles.**", Ignored(OTHERS)),
    key("auth.plain_text.username", Text, "kafka.properties.sasl.username", Same),
    key("auth.plain_text.password", Secret("/etc/spanmill/kafka-password"), "kafka.properties.sasl.password", Same),
    key("auth.sasl.username", Text, "kafka.properties.sasl.username", Same),
    key("auth.sasl.password", Secret("/etc/spanmill/kafka-password"), "kafka.properties.sasl.password", Same),
    key("auth.sasl.mechanism", By(mechanism), "kafka.properties.sasl.mechanism, security.protocol", Same),
    case("auth.sasl.mechanism", "(another)", Nothing, "", Refused(MECHANISM)),
    none("auth.sasl.version", Ignored("the client asks the broker")),
    none("auth.sasl.aws_msk.**", Refused(MECHANISM)),
    none("auth.kerberos.**", Refused(MECHANISM)),
    key("auth.tls.insecure", By(tls_off), "kafka.properties.security.protocol", Same),
    key("auth.tls.ca_file", Text, "kafka.properties.ssl.ca.location", Same),
    key("auth.tls.cert_file", Text, "kafka.properties.ssl.certificate.location", Same),
    key("auth.tls.key_file", Text, "kafka.properties.ssl.key.location", Same),
    key("auth.tls.insecure_skip_verify", Invert, "kafka.properties.enable.ssl.certificate.verification", Same),
    key("tls.insecure", By(tls_off), "kafka.properties.security.protocol", Same),
    key("tls.ca_file", Text, "kafka.properties.ssl.ca.location", Same),
    key("tls.cert_file", Text, "kafka.properties.ssl.certificate.location", Same),
    key("tls.key_file", Text, "kafka.properties.ssl.key.location", Same),
    key("tls.insecure_skip_verify", Invert, "kafka.properties.enable.ssl.certificate.verification", Same),
    none("tls.ca_pem", Refused(FILE)),
    none("tls.cert_pem", Refused(FILE)),
    none("tls.key_pem", Refused(FILE)),
    none("tls.server_name_override", Refused("certificates must be for the names that brokers advertise")),
    none("tls.include_system_ca_certs_pool", Ignored("without ca_file, the system's authorities are trusted")),
    none("tls.reload_interval", Ignored("files are read at the start")),
    none("tls.min_version", Ignored("TLS 1.2 and 1.3 are spoken")),
    none("tls.max_version", Ignored("TLS 1.2 and 1.3 are spoken")),
    case(
        "(no receiver)",
        "(none)",
        Nothing,
        "",
        Refused(
            "spanmill reads spans from Kafka: let a Collector write them there with its kafka exporter, partition_traces_by_id: true",
        ),
    ),
    case(
        "(several receivers)",
        "(another)",
        Nothing,
        "",
        Different("kafka.topics takes several topics of one cluster; only the first receiver is taken"),
    ),
];
