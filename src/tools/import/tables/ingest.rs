//! Tempo's `ingest.kafka`.

use crate::tools::import::kafka::{group, mechanism, tempo_topic, tls, token_file};
use crate::tools::import::table::How::{By, Fixed, Invert, Nothing, Secret, Text};
use crate::tools::import::table::ImportResult::{Better, Different, Ignored, Refused, Same};
use crate::tools::import::table::{Table, case, key, none};

const PRODUCER: &str = "spanmill writes only to its internal topics";
const MECHANISM: &str =
    "not in this build of the client: use PLAIN, SCRAM, OAUTHBEARER, AWS_MSK_IAM or a TLS certificate";
const AWS: &str = "AWS credentials come from the usual chain: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the worker a \
                   role";
const SOCKET: &str =
    "tokens come from a file or a token endpoint: write kafka.properties sasl.oauthbearer.token.endpoint.url";
const TOKEN: &str = "put the token into this file, which is read again when it changes";
const UNUSED: &str = "the generator does not use it either";

/// Where Tempo's records are.
pub(in crate::tools::import) const INGEST: Table = Table {
    name: "Tempo: ingest.kafka",
    root: "ingest.kafka",
    rows: &[
        key("address", Text, "kafka.brokers", Same),
        key("topic", By(tempo_topic), "kafka.topics, tenant.source: key", Same),
        key("client_id", Text, "kafka.properties.client.id", Same),
        key("client_rack", Text, "kafka.properties.client.rack", Same),
        none("dial_timeout", Ignored("the client's own value is used")),
        none("write_timeout", Ignored(PRODUCER)),
        key("sasl_mechanism", By(mechanism), "kafka.properties.sasl.mechanism, security.protocol", Same),
        case("sasl_mechanism", "OAUTHBEARER", Fixed("OAUTHBEARER"), "kafka.properties.sasl.mechanism", Same),
        case(
            "sasl_mechanism",
            "AWS_MSK_IAM",
            Fixed("AWS_MSK_IAM"),
            "kafka.properties.sasl.mechanism",
            Different(
                "the region follows from kafka.brokers, or is kafka.properties sasl.aws.region; TLS is always used",
            ),
        ),
        case("sasl_mechanism", "(another)", Nothing, "", Refused(MECHANISM)),
        key("sasl_username", Text, "kafka.properties.sasl.username", Same),
        key("sasl_password", Secret("/etc/spanmill/kafka-password"), "kafka.properties.sasl.password", Same),
        key(
            "sasl_oauthbearer_token",
            Fixed("file:///etc/spanmill/kafka-token"),
            "kafka.properties.sasl.oauthbearer.token.endpoint.url",
            Different(TOKEN),
        ),
        key(
            "sasl_oauthbearer_file_path",
            By(token_file),
            "kafka.properties.sasl.oauthbearer.token.endpoint.url",
            Different("the token of the file is used, as it stands or as JSON; its zid and extensions are not"),
        ),
        none("sasl_oauthbearer_extensions", Refused("write kafka.properties sasl.oauthbearer.extensions: name=value")),
        none("sasl_oauthbearer_zid", Refused("the identity is that of the token")),
        none("sasl_oauthbearer_http_*", Refused(SOCKET)),
        none("sasl_msk_iam_user_agent", Ignored("spanmill has its own")),
        none("sasl_msk_iam_*", Refused(AWS)),
        key("tls_enabled", By(tls), "kafka.properties.security.protocol", Same),
        key("tls_cert_path", Text, "kafka.properties.ssl.certificate.location", Same),
        key("tls_key_path", Text, "kafka.properties.ssl.key.location", Same),
        key("tls_ca_path", Text, "kafka.properties.ssl.ca.location", Same),
        none("tls_server_name", Refused("certificates must be for the names that the brokers advertise")),
        key("tls_insecure_skip_verify", Invert, "kafka.properties.enable.ssl.certificate.verification", Same),
        none("tls_cipher_suites", Refused("write OpenSSL's names as kafka.properties.ssl.cipher.suites")),
        none("tls_min_version", Ignored("TLS 1.2 and 1.3 are supported")),
        key(
            "consumer_group",
            By(group),
            "kafka.group",
            Different("a group of its own, so that both can run side by side"),
        ),
        none(
            "consumer_group_offset_commit_interval",
            Better("offsets follow from the journal: every span counts once; Tempo does not use the key"),
        ),
        none("last_produced_offset_retry_timeout", Ignored(UNUSED)),
        none("auto_create_topic_enabled", Ignored("source topics are never created; internal ones always")),
        none("auto_create_topic_default_partitions", Better("no setting of the brokers is changed")),
        none("producer_max_record_size_bytes", Ignored(PRODUCER)),
        none("producer_max_buffered_bytes", Ignored(PRODUCER)),
        none("producer_compression", Ignored(PRODUCER)),
        none("target_consumer_lag_at_startup", Ignored(UNUSED)),
        none("max_consumer_lag_at_startup", Ignored(UNUSED)),
        none("disable_kafka_telemetry", Ignored("spanmill's own metrics are at admin.listen")),
        none("consumer_group_lag_metric_update_interval", Ignored("spanmill's own metrics are at admin.listen")),
    ],
};
