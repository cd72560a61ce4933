//! Client configurations, and the error of this room.

use std::time::{Duration, Instant};

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::BaseProducer;
use rdkafka::{ClientConfig, ClientContext};
use tracing::Level;

use super::{tokens, trouble};
use crate::config::settings::{GroupProtocol, Kafka};
use crate::worker::telemetry::flood;

/// Something that Kafka refused, or did not answer in time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KafkaError {
    /// A client could not be created: one of its settings is wrong.
    #[error("cannot create a Kafka {role}: {source}; check kafka.brokers and kafka.properties")]
    Client {
        /// What the client is for.
        role: &'static str,
        /// librdkafka's message.
        source: rdkafka::error::KafkaError,
    },
    /// The system starts no more threads.
    #[error("cannot start the thread of a Kafka {role}: {source}; check the limits on processes and memory")]
    Thread {
        /// What the client is for.
        role: &'static str,
        /// The system's words.
        source: std::io::Error,
    },
    /// An address where no broker can be.
    #[error("kafka.brokers: {address:?} {why}; write host:port, several of them separated by commas")]
    Address {
        /// One of the addresses.
        address: String,
        /// The problem.
        why: &'static str,
    },
    /// A request failed.
    #[error("{what}: {source}{why}")]
    Request {
        /// The request.
        what: Box<str>,
        /// librdkafka's error.
        source: rdkafka::error::KafkaError,
        /// Why no broker answers and what to do, if librdkafka has reported it.
        why: Box<str>,
    },
    /// No answer within the time allowed.
    #[error("{what}: no answer within {seconds} s; are the brokers in kafka.brokers reachable?")]
    Timeout {
        /// The request.
        what: String,
        /// How long the client waited.
        seconds: u64,
    },
    /// A log lacks a record.
    #[error("{what}: offset {wanted} is missing, {found} follows; it has been deleted, or the broker has lost it")]
    Hole {
        /// The request.
        what: String,
        /// The offset that should have come.
        wanted: i64,
        /// The one that came.
        found: i64,
    },
    /// An internal topic does not meet the requirements.
    #[error("{0}")]
    Topic(String),
    /// The worker is stopping.
    #[error("stopping")]
    Stopping,
}

impl KafkaError {
    /// Wraps a failed creation of a client. librdkafka repeats the value that it rejects, which may be a secret
    /// under a misspelled name.
    pub(crate) fn client(role: &'static str, source: rdkafka::error::KafkaError) -> Self {
        let source = match source {
            rdkafka::error::KafkaError::ClientConfig(code, text, key, value) if !value.is_empty() => {
                rdkafka::error::KafkaError::ClientConfig(code, text.replace(&value, "***"), key, "***".to_owned())
            }
            other => other,
        };
        Self::Client { role, source }
    }

    /// Wraps a failed request.
    pub(crate) fn request(what: impl Into<String>, source: rdkafka::error::KafkaError) -> Self {
        let silent = source.rdkafka_error_code().is_some_and(|code| SILENT.contains(&code));
        let why = trouble::last().filter(|_| silent).map(|why| format!("; {why}")).unwrap_or_default();
        Self::Request { what: what.into().into(), source, why: why.into() }
    }

    /// librdkafka's code, when there is one.
    #[must_use]
    pub fn code(&self) -> Option<RDKafkaErrorCode> {
        match self {
            Self::Client { source, .. } | Self::Request { source, .. } => source.rdkafka_error_code(),
            _ => None,
        }
    }
}

/// How long librdkafka may take to report why no broker answers.
const LISTENS: Duration = Duration::from_secs(3);
/// Codes that only say that no answer came.
const SILENT: [RDKafkaErrorCode; 6] = [
    RDKafkaErrorCode::BrokerTransportFailure,
    RDKafkaErrorCode::AllBrokersDown,
    RDKafkaErrorCode::Resolve,
    RDKafkaErrorCode::OperationTimedOut,
    RDKafkaErrorCode::Authentication,
    RDKafkaErrorCode::SSL,
];

/// What every client shares: brokers, identity, and the user's own properties, which come last and take
/// precedence.
pub(crate) fn base(kafka: &Kafka, ours: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.brokers).set("client.id", "spanmill");
    // At this level librdkafka logs why a broker closes a connection; `log` decides what reaches the log of the worker.
    config.set_log_level(RDKafkaLogLevel::Info);
    // Looking a topic up must not create it: a broker would give an internal topic its default retention.
    config.set("allow.auto.create.topics", "false");
    for (key, value) in ours {
        config.set(*key, *value);
    }
    identify(&mut config, kafka);
    config
}

/// Adds the user's own properties, and those by which a client finds its tokens.
pub(crate) fn identify(config: &mut ClientConfig, kafka: &Kafka) {
    for (key, value) in kafka.client_properties() {
        config.set(key, value);
    }
    if let Some(source) = tokens::source(kafka) {
        config.set(tokens::PROPERTY, source);
    }
}

/// How many compressed bytes of a partition one answer may carry; a larger batch comes alone. It bounds what a queue
/// that is nearly full may still get, and it decides what fetching costs: librdkafka allocates each answer and each
/// decompressed batch again, and with large answers the allocator gives the memory back to the kernel each time. For a
/// million spans of the reference load (lz4, batches of 1 MB before compression, 4 partitions, 5 runs in turns,
/// `benches/throughput`) a consumer took, in CPU seconds and page faults:
///
/// | 1 MiB | 256 KiB | 128 KiB | 1 MiB, checking CRCs | 1 MiB, allocator that keeps memory |
/// |---|---|---|---|---|
/// | 0.30 to 0.37, 75,000 | 0.29 to 0.33, 36,000 | 0.16, 1,400 | 0.40, 63,000 | 0.19, 7,000 |
///
/// A partition is asked for this much once per round trip: 64 MB/s compressed at 2 ms, about 500,000 spans/s. Over a
/// slower network, raise it in `kafka.properties`.
const FETCH_AT_ONCE: usize = 128 << 10;
/// A queue is asked to hold at least so many answers, so that one more does not make it far too long.
const ANSWERS: usize = 8;
/// What an answer may take, in times of its compressed bytes: it is decompressed as a whole when it comes, and is there until
/// its last record is taken.
const DECOMPRESSED: usize = 9;

/// How many compressed bytes an answer may carry for a queue of so many bytes.
fn answer(queue: usize) -> usize {
    (queue / ANSWERS).clamp(1, FETCH_AT_ONCE)
}

/// The memory that a queue of so many bytes may take: what is kept of each record besides its bytes, and one answer more than
/// it should hold. Measured with 3,000,000 spans of 110 bytes compressed, in records of 2.7 KB, waiting in 128 partitions
/// (`tests/real/memory.rs`), with answers of 128 KiB: 180, 309 and 501 MiB for queues of 32, 128 and 256 MiB together.
pub(crate) fn memory_of(queue: usize) -> usize {
    queue / 5 * 7 + DECOMPRESSED * answer(queue)
}

/// The longest queue that takes no more memory than this.
pub(crate) fn queue_within(memory: usize) -> usize {
    // The two stretches of `memory_of`, below and above the largest answer: it is concave.
    let small = memory / (7 * ANSWERS + 5 * DECOMPRESSED) * (5 * ANSWERS);
    let large = memory.saturating_sub(DECOMPRESSED * FETCH_AT_ONCE) / 7 * 5;
    small.max(large)
}

/// A consumer that is assigned by hand and never commits. Nothing may be skipped silently: a fetch of records that were
/// deleted meanwhile is an error of their partition.
pub(crate) fn reader(kafka: &Kafka, buffer_bytes: usize) -> ClientConfig {
    let kbytes = (buffer_bytes / 1024).max(1).to_string();
    let fetched = answer(buffer_bytes).to_string();
    let mut config = base(
        kafka,
        &[
            ("group.id", &format!("{}-readers", kafka.group)),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            // Bounds every split queue on its own.
            ("queued.max.messages.kbytes", &kbytes),
            ("fetch.message.max.bytes", &fetched),
            // librdkafka's default, set on purpose: checking took 8 % more CPU. `kafka.properties` can enable it.
            ("check.crcs", "false"),
            // Fetching pauses for this long when a queue is full; the default of 1 s starves a bounded queue.
            ("fetch.queue.backoff.ms", "10"),
            ("fetch.wait.max.ms", "100"),
            (REFRESH, REFRESH_MS),
        ],
    );
    config.set("auto.offset.reset", "error");
    config
}

/// How often clients look for new topics and partitions, in milliseconds, unless the user sets it.
const REFRESH_MS: &str = "30000";
const REFRESH: &str = "topic.metadata.refresh.interval.ms";

/// How often source topics are looked at: as often as the clients do it.
pub(crate) fn refreshes(kafka: &Kafka) -> Duration {
    let said = kafka.properties.get(REFRESH).map_or(REFRESH_MS, |wish| wish.reveal());
    // The check of the settings has refused what is no number.
    Duration::from_millis(said.parse().unwrap_or(30_000))
}

/// How often a member sends a heartbeat, and how long the group waits for one, by default.
const HEARTBEAT_MS: u64 = 3_000;
const SESSION_MS: u64 = 10_000;
/// The same as brokers decide it, by their defaults.
const HEARTBEAT_OF_BROKERS_MS: u64 = 5_000;
const SESSION_OF_BROKERS_MS: u64 = 45_000;

/// How often a member sends a heartbeat, and how long the group waits for one, in milliseconds.
pub(crate) fn heartbeat_and_session(kafka: &Kafka) -> (u64, u64) {
    let set = |key: &str| kafka.properties.get(key).and_then(|wish| wish.reveal().parse().ok());
    match kafka.group_protocol {
        GroupProtocol::Classic => {
            (set("heartbeat.interval.ms").unwrap_or(HEARTBEAT_MS), set("session.timeout.ms").unwrap_or(SESSION_MS))
        }
        GroupProtocol::Consumer => (HEARTBEAT_OF_BROKERS_MS, SESSION_OF_BROKERS_MS),
    }
}

/// How long a group waits for a heartbeat of a member.
pub(crate) fn session(kafka: &Kafka) -> Duration {
    let wish = kafka.properties.get("session.timeout.ms").and_then(|wish| wish.reveal().trim().parse().ok());
    Duration::from_millis(wish.unwrap_or(SESSION_MS))
}

/// The membership consumer: it owns partitions for `group` and fetches nothing.
pub(crate) fn member(kafka: &Kafka, group: &str) -> ClientConfig {
    let (heartbeat, session) = heartbeat_and_session(kafka);
    // librdkafka refuses one that is shorter than the session timeout.
    let poll = session.max(60_000).to_string();
    let (heartbeat, session) = (heartbeat.to_string(), session.to_string());
    let sharing: &[(&str, &str)] = match kafka.group_protocol {
        GroupProtocol::Classic => &[
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", &session),
            ("heartbeat.interval.ms", &heartbeat),
        ],
        // librdkafka refuses what the brokers decide.
        GroupProtocol::Consumer => &[("group.protocol", "consumer")],
    };
    let ours = [
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("max.poll.interval.ms", &poll),
        ("auto.offset.reset", "latest"),
        (REFRESH, REFRESH_MS),
    ];
    base(kafka, &[&ours, sharing].concat())
}

/// The producer of journals and delta records: idempotent, so that what one task appends keeps its order.
pub(crate) fn producer(kafka: &Kafka) -> ClientConfig {
    base(
        kafka,
        &[
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("compression.type", "lz4"),
            ("linger.ms", "2"),
            ("message.timeout.ms", "60000"),
            ("queue.buffering.max.kbytes", "262144"),
        ],
    )
}

/// How long the brokers wait before they abort the transaction of a process that is gone, in milliseconds.
pub(crate) const TRANSACTION_MS: u64 = 10_000;

/// The producer of the repartition stage. Its records are as large as those of source topics, or larger where these were
/// compressed: the broker decides what is too large.
pub(crate) fn transactions(kafka: &Kafka, id: &str) -> ClientConfig {
    let mut config = base(
        kafka,
        &[
            ("compression.type", "lz4"),
            ("linger.ms", "5"),
            ("message.max.bytes", "68157440"),
            ("queue.buffering.max.kbytes", "131072"),
        ],
    );
    // What is not stored by then is of an aborted transaction, whatever the user's own timeout is.
    config.remove("delivery.timeout.ms");
    config.remove("enable.idempotence");
    let timeout = TRANSACTION_MS.to_string();
    config.set("message.timeout.ms", &timeout).set("transaction.timeout.ms", &timeout).set("transactional.id", id);
    config
}

/// The producer of an endpoint that is a topic. It must be acknowledged by all replicas in sync, whatever the user's own
/// properties are: the mark of the step depends on it.
pub(crate) fn samples(kafka: &Kafka, timeout: Duration) -> ClientConfig {
    let timeout = timeout.as_millis().to_string();
    let ours = [("compression.type", "lz4"), ("linger.ms", "2"), ("message.max.bytes", "68157440")];
    let mut config = base(kafka, &ours);
    config.remove("delivery.timeout.ms");
    config.remove("request.required.acks");
    config.set("acks", "all").set("enable.idempotence", "true").set("message.timeout.ms", &timeout);
    config
}

/// The producer of dead letters: patient for a while, and with a queue that an outage fills without harm. A copy is as
/// large as its record and some headers: the broker decides what is too large.
pub(crate) fn dead_letters(kafka: &Kafka) -> ClientConfig {
    base(
        kafka,
        &[
            ("acks", "all"),
            ("compression.type", "lz4"),
            ("linger.ms", "50"),
            ("message.timeout.ms", "60000"),
            ("message.max.bytes", "1000000000"),
            ("queue.buffering.max.kbytes", "65536"),
        ],
    )
}

/// Checks that librdkafka accepts the properties, one by one and together, without a broker.
///
/// # Errors
/// Names the property that it refuses.
pub fn check(kafka: &Kafka) -> Result<(), KafkaError> {
    kafka.brokers.split(',').try_for_each(address)?;
    base(kafka, &[]).create_native_config().map(drop).map_err(|e| KafkaError::client("client", e))?;
    // librdkafka refuses some combinations only when a client is created: each kind of client is created, without
    // brokers.
    let alone = |mut config: ClientConfig| {
        config.set("bootstrap.servers", "");
        config
    };
    for (role, config) in [("consumer", reader(kafka, 1 << 20)), ("group member", member(kafka, &kafka.group))] {
        alone(config).create::<BaseConsumer>().map(drop).map_err(|e| KafkaError::client(role, e))?;
    }
    let transactional = kafka.repartition.then(|| ("producer of transactions", transactions(kafka, &kafka.group)));
    let producers = [("producer", producer(kafka)), ("producer of dead letters", dead_letters(kafka))];
    for (role, config) in producers.into_iter().chain(transactional) {
        alone(config).create::<BaseProducer>().map(drop).map_err(|e| KafkaError::client(role, e))?;
    }
    Ok(())
}

/// Whether an address can be a broker's. librdkafka accepts any text, and then tries to resolve it for ever.
fn address(text: &str) -> Result<(), KafkaError> {
    const SCHEMES: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
    let text = text.trim();
    let foreign = text.split_once("://").is_some_and(|(scheme, _)| !SCHEMES.contains(&&*scheme.to_ascii_lowercase()));
    let why = if foreign {
        "is a URL of another protocol"
    } else if text.contains(['$', '{', '}', ' ']) {
        "contains a variable that was not substituted"
    } else {
        return Ok(());
    };
    Err(KafkaError::Address { address: text.to_owned(), why })
}

/// Wraps a request that had no answer with the reason. librdkafka reports that only to clients that listen to it, which
/// not every kind of client does: so a client that does repeats the request.
pub(crate) fn unanswered(kafka: &Kafka, what: impl Into<String>, source: rdkafka::error::KafkaError) -> KafkaError {
    let silent = source.rdkafka_error_code().is_some_and(|code| SILENT.contains(&code));
    if silent && trouble::last().is_none() {
        listen(kafka);
    }
    KafkaError::request(what, source)
}

fn listen(kafka: &Kafka) {
    let created = BaseConsumer::from_config_and_context(&member(kafka, &kafka.group), Heard);
    let Ok(consumer): Result<BaseConsumer<Heard>, _> = created else { return };
    let begin = Instant::now();
    while trouble::last().is_none() && begin.elapsed() < LISTENS {
        // This client connects to get an answer, and logs why it cannot.
        drop(consumer.fetch_metadata(None, Duration::from_millis(200)));
        while consumer.poll(Duration::from_millis(10)).is_some() {}
    }
}

/// Why brokers do not answer and what to do, if librdkafka has reported it within the last minute.
pub(crate) fn cause() -> Option<String> {
    trouble::last()
}

/// The message about brokers that do not answer; `None` if librdkafka's code is another one.
#[must_use]
pub fn unreachable(code: Option<RDKafkaErrorCode>, brokers: &str) -> Option<String> {
    code.filter(|code| SILENT.contains(code)).map(|_| {
        let why = trouble::last().unwrap_or_else(|| {
            "check the address and the network, and whether the brokers require TLS or SASL (security.protocol)"
                .to_owned()
        });
        format!("no broker answers at {brokers}: {why}")
    })
}

/// How long a partition may lack a leader before that is an error, and how often it is asked for meanwhile.
const LEADER_WITHIN: Duration = Duration::from_secs(2);
const LEADER_AGAIN: Duration = Duration::from_millis(100);

/// The lowest offset that a partition still has, and the one after its last record.
pub(crate) fn bounds<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> Result<(i64, i64), KafkaError> {
    let began = Instant::now();
    loop {
        match consumer.fetch_watermarks(topic, partition, Duration::from_secs(10)) {
            // A partition that has just been created, or whose leader moves; librdkafka looks it up meanwhile.
            Err(error) if lacks_leader(&error) && began.elapsed() < LEADER_WITHIN => std::thread::sleep(LEADER_AGAIN),
            read => {
                return read.map_err(|e| KafkaError::request(format!("read the bounds of {topic}[{partition}]"), e));
            }
        }
    }
}

fn lacks_leader(error: &rdkafka::error::KafkaError) -> bool {
    use RDKafkaErrorCode::{LeaderNotAvailable, NotLeaderForPartition};
    error.rdkafka_error_code().is_some_and(|code| matches!(code, LeaderNotAvailable | NotLeaderForPartition))
}

/// The context of a client without callbacks of its own: it handles only librdkafka's log.
#[derive(Debug, Default)]
pub(crate) struct Heard;

impl ClientContext for Heard {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        report(&error, reason);
    }
}

impl ConsumerContext for Heard {}

/// librdkafka's own log. Some of what it warns of is no news: properties that suit only one kind of client, and offsets
/// that are not committed, which are for dashboards only; and brokers close idle connections.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    use RDKafkaLogLevel as L;
    let text = trouble::plain(text);
    match level {
        _ if matches!(facility, "CONFWARN" | "COMMITFAIL") => tracing::debug!(facility, text, "librdkafka"),
        // A line for each partition at each refresh, and always on: `topic_ids` needs some of them.
        L::Debug if facility == "METADATA" => tracing::trace!(facility, text, "librdkafka"),
        L::Debug => tracing::debug!(facility, text, "librdkafka"),
        L::Emerg | L::Alert | L::Critical | L::Error => say(Level::ERROR, text),
        L::Warning => say(Level::WARN, text),
        L::Notice | L::Info => say(Level::INFO, text),
    }
}

/// Errors that librdkafka reports outside of a request. The end of a partition is no error, and an error that matters
/// also fails a request.
pub(crate) fn report(error: &rdkafka::error::KafkaError, reason: &str) {
    if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
        say(Level::WARN, reason);
    }
}

/// Why something has failed: the cause and its remedy where librdkafka has reported them, its message for this failure
/// otherwise.
pub(crate) fn told(error: &rdkafka::error::KafkaError, words: &str) -> String {
    match (trouble::of(words), error.rdkafka_error_code()) {
        (Some(trouble), _) => format!("{words}; {}", trouble.remedy),
        (None, Some(code)) if SILENT.contains(&code) => trouble::last().unwrap_or_else(|| words.to_owned()),
        _ => words.to_owned(),
    }
}

/// Every client of this process meets the same broker, and reports that repeatedly: a line for each cause and minute.
fn say(level: Level, text: &str) {
    if text.contains(tokens::MISSED) {
        return tracing::debug!(text, "librdkafka");
    }
    let trouble = trouble::of(text);
    let (cause, remedy) = match trouble {
        Some(trouble) => {
            trouble::met(trouble, text);
            (trouble.kind.to_owned(), Some(trouble.remedy))
        }
        None if text.contains("Disconnected") => return tracing::debug!(text, "librdkafka"),
        None => (flood::gist(text), None),
    };
    let Some(held_back) = flood::may_say(&cause) else {
        return tracing::trace!(text, "librdkafka");
    };
    match level {
        Level::ERROR => tracing::error!(held_back, remedy, text, "librdkafka"),
        Level::INFO if trouble.is_none() => tracing::info!(held_back, text, "librdkafka"),
        _ => tracing::warn!(held_back, remedy, text, "librdkafka"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Secret;

    fn kafka(properties: &[(&str, &str)]) -> Kafka {
        let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), Secret::new(*v))).collect();
        Kafka { properties, ..Kafka::default() }
    }

    #[test]
    fn tls_and_sasl_are_built_in() {
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let secure = kafka(&[
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanisms", mechanism),
                ("sasl.username", "me"),
                ("sasl.password", "secret"),
            ]);
            let client: Result<BaseConsumer, _> = member(&secure, "spanmill").create();
            assert!(client.is_ok(), "{mechanism}: {:?}", client.err());
        }
    }

    #[test]
    fn properties_that_are_refused_only_beside_others_are_found_before_a_worker_starts() {
        assert!(check(&kafka(&[("client.id", "a")])).is_ok());
        for (key, value) in [("fetch.max.bytes", "1000"), ("receive.message.max.bytes", "2000")] {
            let found = check(&kafka(&[(key, value)]));
            let error = found.expect_err(key).to_string();
            assert!(error.contains(key) && error.contains("kafka.properties"), "{error}");
        }
    }

    #[test]
    fn every_compression_is_built_in() {
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let config = producer(&kafka(&[("compression.type", codec)]));
            let client: Result<rdkafka::producer::BaseProducer, _> = config.create();
            assert!(client.is_ok(), "{codec}: {:?}", client.err());
        }
    }

    #[test]
    fn a_secret_under_a_misspelled_name_is_not_repeated() {
        for (key, value) in [("sasl.pasword", "hunter2"), ("session.timeout.ms", "hunter2")] {
            let created: Result<BaseConsumer, _> = member(&kafka(&[(key, value)]), "spanmill").create();
            let error = KafkaError::client("consumer", created.err().expect("refused"));
            assert!(error.to_string().contains(key), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn looking_up_a_topic_does_not_create_it_and_no_reader_skips_records() {
        let of = |config: ClientConfig, key: &str| config.get(key).map(str::to_owned);
        let plain = kafka(&[("auto.offset.reset", "earliest")]);
        for config in [base(&plain, &[]), producer(&plain)] {
            assert_eq!(of(config, "allow.auto.create.topics").as_deref(), Some("false"));
        }
        assert_eq!(of(reader(&plain, 1 << 20), "auto.offset.reset").as_deref(), Some("error"));
    }

    #[test]
    fn what_is_fetched_is_bounded_by_the_buffer_and_by_one_answer() {
        let of = |buffer: usize, key: &str| reader(&kafka(&[]), buffer).get(key).map(str::to_owned);
        for (buffer, answer, queue) in [(16 << 10, "2048", "16"), (8 << 20, "131072", "8192")] {
            assert_eq!(of(buffer, "fetch.message.max.bytes").as_deref(), Some(answer));
            assert_eq!(of(buffer, "queued.max.messages.kbytes").as_deref(), Some(queue));
        }
        let wish = kafka(&[("fetch.message.max.bytes", "1048576")]);
        assert_eq!(reader(&wish, 1 << 20).get("fetch.message.max.bytes"), Some("1048576"), "the user's wish wins");
    }

    #[test]
    fn a_queue_takes_no_more_memory_than_it_is_made_for() {
        for memory in (10..30).flat_map(|bits| [1 << bits, 3 << bits]) {
            let queue = queue_within(memory);
            assert!(memory_of(queue) <= memory, "{queue} for {memory} takes {}", memory_of(queue));
            assert!(memory_of(queue + queue / 10 + 200) > memory, "{queue} is too short for {memory}");
        }
    }

    #[test]
    fn the_users_own_properties_win_over_ours() {
        let config = member(&kafka(&[("session.timeout.ms", "45000")]), "spanmill");
        assert_eq!(config.get("session.timeout.ms"), Some("45000"));
        assert_eq!(config.get("group.id"), Some("spanmill"));
        assert_eq!(config.get("max.poll.interval.ms"), Some("60000"));
        let patient = member(&kafka(&[("session.timeout.ms", "120000")]), "spanmill");
        assert_eq!(patient.get("max.poll.interval.ms"), Some("120000"), "librdkafka wants it so");
    }
}
