//! The Collector's Kafka receiver.

use crate::tools::import::kafka::{group, mechanism, tls_off, topics};
use crate::tools::import::table::How::{By, Fixed, Invert, Joined, Milliseconds, Nothing, Secret, Text};
use crate::tools::import::table::ImportResult::{Better, Different, Ignored, Refused, Same};
use crate::tools::import::table::{PRESENT, Row, Table, absent, case, key, none};

const FETCH: &str = "each source partition has a buffer of worker.fetch_buffer_bytes";
const ENCODING: &str =
    "zipkin_thrift is not read; of an extension, write the format that it reads as kafka.encoding, or auto";
const EXTENSION: &str = "the format is detected per record";
const ZIPKIN: &str = "every span keeps its resource, and client and server with one ID are an edge";
const JOURNAL: &str = "offsets follow from the journal: every span counts once";
const MECHANISM: &str =
    "not in this build of the client: use PLAIN, SCRAM, OAUTHBEARER, AWS_MSK_IAM or a TLS certificate";
const KERBEROS: &str = "write the principal and keytab as kafka.properties sasl.kerberos.principal and sasl.kerberos.keytab with \
                        sasl.mechanisms GSSAPI, for a build with the feature kerberos";
const SOURCE: &str = "write the extension's token endpoint and client as kafka.properties sasl.oauthbearer.token.endpoint.url, \
                      sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret";
const EXCLUDE: &str = "write regular expressions in kafka.topics that match the other topics only";
const METADATA: &str = "the client's own value is used";
const OTHERS: &str = "only spans are read";
const HEADERS: &str = "headers do not become attributes; one can name the tenant: tenant.source: header";
const FILE: &str = "write it to a file and set its path";

/// `kafka`.
pub(in crate::tools::import) const RECEIVER: Table =
    Table { name: "Collector: receiver kafka", root: "receivers.kafka", rows: ROWS };

const ROWS: &[Row] = &[
    key("brokers", Joined, "kafka.brokers", Same),
    key("topic", By(topics), "kafka.topics", Same),
    key("topics", By(topics), "kafka.topics", Same),
    key("traces.topic", By(topics), "kafka.topics", Same),
    key("traces.topics", By(topics), "kafka.topics", Same),
    none("exclude_topics", Refused(EXCLUDE)),
    none("traces.exclude_topics", Refused(EXCLUDE)),
    none("encoding", Refused(ENCODING)),
    case("encoding", "otlp_proto", Fixed("otlp_proto"), "kafka.encoding", Same),
    case("encoding", "otlp_json", Fixed("otlp_json"), "kafka.encoding", Same),
    case("encoding", "jaeger_proto", Fixed("jaeger_proto"), "kafka.encoding", Same),
    case("encoding", "jaeger_json", Fixed("jaeger_json"), "kafka.encoding", Same),
    case("encoding", "zipkin_proto", Fixed("zipkin_proto"), "kafka.encoding", Better(ZIPKIN)),
    case("encoding", "zipkin_json", Fixed("zipkin_json"), "kafka.encoding", Better(ZIPKIN)),
    case("encoding", "otlp_encoding", Fixed("auto"), "kafka.encoding", Better(EXTENSION)),
    case("encoding", "jaeger_encoding", Fixed("auto"), "kafka.encoding", Better(EXTENSION)),
    case("encoding", "zipkin_encoding", Fixed("auto"), "kafka.encoding", Better(EXTENSION)),
    none("traces.encoding", Refused(ENCODING)),
    case("traces.encoding", "otlp_proto", Fixed("otlp_proto"), "kafka.encoding", Same),
    case("traces.encoding", "otlp_json", Fixed("otlp_json"), "kafka.encoding", Same),
    case("traces.encoding", "jaeger_proto", Fixed("jaeger_proto"), "kafka.encoding", Same),
    case("traces.encoding", "jaeger_json", Fixed("jaeger_json"), "kafka.encoding", Same),
    case("traces.encoding", "zipkin_proto", Fixed("zipkin_proto"), "kafka.encoding", Better(ZIPKIN)),
    case("traces.encoding", "zipkin_json", Fixed("zipkin_json"), "kafka.encoding", Better(ZIPKIN)),
    case("traces.encoding", "otlp_encoding", Fixed("auto"), "kafka.encoding", Better(EXTENSION)),
    case("traces.encoding", "jaeger_encoding", Fixed("auto"), "kafka.encoding", Better(EXTENSION)),
    case("traces.encoding", "zipkin_encoding", Fixed("auto"), "kafka.encoding", Better(EXTENSION)),
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
    none("group_rebalance_strategy", Ignored("set by spanmill, because rebalances rely on it")),
    none(
        "group_instance_id",
        Ignored(
            "no state depends on the name of a worker: another one can take its place at \
                                       once",
        ),
    ),
    none("min_fetch_size", Ignored(FETCH)),
    none("default_fetch_size", Ignored(FETCH)),
    none("max_fetch_size", Ignored(FETCH)),
    none("max_partition_fetch_size", Ignored(FETCH)),
    none("max_fetch_wait", Ignored(FETCH)),
    none("autocommit.**", Better(JOURNAL)),
    none("message_marking.**", Better("a record that cannot be decoded is counted and does not block its partition")),
    none("error_backoff.**", Better("a record that cannot be decoded is counted and does not block its partition")),
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
    case("auth.sasl.mechanism", "OAUTHBEARER", Fixed("OAUTHBEARER"), "kafka.properties.sasl.mechanism", Same),
    case(
        "auth.sasl.mechanism",
        "AWS_MSK_IAM_OAUTHBEARER",
        Fixed("AWS_MSK_IAM"),
        "kafka.properties.sasl.mechanism",
        Same,
    ),
    case("auth.sasl.mechanism", "AWS_MSK_IAM", Fixed("AWS_MSK_IAM"), "kafka.properties.sasl.mechanism", Same),
    case("auth.sasl.mechanism", "(another)", Nothing, "", Refused(MECHANISM)),
    none("auth.sasl.oauthbearer_token_source", Refused(SOURCE)),
    key("auth.sasl.aws_msk.region", Text, "kafka.properties.sasl.aws.region", Same),
    none("auth.sasl.aws_msk.broker_addr", Ignored("the token is for the cluster")),
    none("auth.sasl.version", Ignored("the client asks the broker")),
    none("auth.kerberos.**", Refused(KERBEROS)),
    case("auth.tls", PRESENT, Nothing, "kafka.properties.security.protocol", Same),
    key("auth.tls.insecure", By(tls_off), "kafka.properties.security.protocol", Same),
    key("auth.tls.ca_file", Text, "kafka.properties.ssl.ca.location", Same),
    key("auth.tls.cert_file", Text, "kafka.properties.ssl.certificate.location", Same),
    key("auth.tls.key_file", Text, "kafka.properties.ssl.key.location", Same),
    key("auth.tls.insecure_skip_verify", Invert, "kafka.properties.enable.ssl.certificate.verification", Same),
    case("tls", PRESENT, Nothing, "kafka.properties.security.protocol", Same),
    key("tls.insecure", By(tls_off), "kafka.properties.security.protocol", Same),
    key("tls.ca_file", Text, "kafka.properties.ssl.ca.location", Same),
    key("tls.cert_file", Text, "kafka.properties.ssl.certificate.location", Same),
    key("tls.key_file", Text, "kafka.properties.ssl.key.location", Same),
    key("tls.insecure_skip_verify", Invert, "kafka.properties.enable.ssl.certificate.verification", Same),
    none("tls.ca_pem", Refused(FILE)),
    none("tls.cert_pem", Refused(FILE)),
    none("tls.key_pem", Refused(FILE)),
    none("tls.server_name_override", Refused("certificates must be for the names that the brokers advertise")),
    none("tls.include_system_ca_certs_pool", Ignored("without ca_file, the system's authorities are trusted")),
    none("tls.reload_interval", Ignored("files are read at the start")),
    none("tls.min_version", Ignored("TLS 1.2 and 1.3 are supported")),
    none("tls.max_version", Ignored("TLS 1.2 and 1.3 are supported")),
    case(
        "(no receiver)",
        "(none)",
        Nothing,
        "",
        Refused(
            "spanmill reads spans from Kafka: configure a Collector to write them there with its kafka exporter, \
             partition_traces_by_id: true",
        ),
    ),
    case(
        "(several receivers)",
        "(another)",
        Nothing,
        "",
        Different("kafka.topics takes several topics of one cluster; only the first receiver is used"),
    ),
];
