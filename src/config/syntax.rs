//! The syntax of external names and addresses. Each check returns the problem and the remedy.

use crate::core::model::Namer;

/// The longest topic name of Kafka.
const TOPIC_MAX: usize = 249;
/// The longest suffix that spanmill appends to the group.
const SUFFIX_MAX: usize = "-series-journal".len();

/// The endings of the internal topics of a group.
const INTERNAL: [&str; 4] = ["-journal", "-deltas", "-series-journal", "-plan"];
/// The ending of a topic to which a source topic is repartitioned.
const BY_TRACE: &str = "-by-trace";
/// The source topic whose journal would take the name of the series journal.
const SERIES: &str = "series";

/// The journal of the span tasks of a source topic. Within a group, no two topics lead to the same name, and none to
/// the name of another internal topic. Groups may: `x` with topic `y-z`, and `x-y` with topic `z`.
#[must_use]
pub fn journal_topic(group: &str, source: &str) -> String {
    let separator = if source == SERIES { '.' } else { '-' };
    format!("{group}-{source}{separator}journal")
}

/// The topic to which a source topic is repartitioned by trace ID. A replay reads that of the group that it replays.
#[must_use]
pub fn by_trace_topic(group: &str, source: &str) -> String {
    format!("{}-{source}{BY_TRACE}", live(group))
}

/// The source topic of such a topic of the group.
pub(super) fn by_trace_source<'a>(group: &str, topic: &'a str) -> Option<&'a str> {
    let source = topic.strip_prefix(live(group))?.strip_prefix('-')?.strip_suffix(BY_TRACE)?;
    (!source.is_empty()).then_some(source)
}

/// The group that a replay repeats, or the group itself.
fn live(group: &str) -> &str {
    group.split_once(Namer::REPLAY).map_or(group, |(live, _)| live)
}

/// Whether `topic` is one of the internal topics of `group`, which reads `sources`.
pub(super) fn is_internal_topic(topic: &str, group: &str, sources: &[String]) -> bool {
    let of_group = topic.strip_prefix(group).is_some_and(|suffix| INTERNAL.contains(&suffix));
    let internal = |source: &String| journal_topic(group, source) == topic || by_trace_topic(group, source) == topic;
    of_group || sources.iter().any(internal)
}

/// Checks that the journal of a source topic has a name that Kafka accepts.
pub(super) fn journal(group: &str, source: &str) -> Result<(), String> {
    let length = journal_topic(group, source).len();
    if length > TOPIC_MAX {
        let message = "makes, with kafka.group, a journal topic name of";
        return Err(format!("{message} {length} characters, but Kafka allows {TOPIC_MAX}; use a shorter kafka.group"));
    }
    Ok(())
}

/// A Kafka topic.
pub(super) fn topic(name: &str) -> Result<(), String> {
    kafka_name(name, TOPIC_MAX, "is not a topic name")
}

/// A consumer group that is also the prefix of topics.
pub(super) fn group(name: &str) -> Result<(), String> {
    kafka_name(name, TOPIC_MAX - SUFFIX_MAX, "is not legal as a prefix of the internal topics")
}

fn kafka_name(name: &str, longest: usize, wrong: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > longest || name == "." || name == ".." || !name.chars().all(legal) {
        return Err(format!("{wrong}; use 1 to {longest} letters, digits, `.`, `_` and `-`"));
    }
    Ok(())
}

/// Bootstrap servers, `host:port,host:port`.
pub(super) fn brokers(text: &str) -> Result<(), String> {
    for broker in text.split(',').map(str::trim) {
        let address = broker.split_once("://").map_or(broker, |(_, address)| address);
        let (host, port) = host_port(address);
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') || !port.is_none_or(is_port) {
            return Err(
                "must be `host:port`, several with commas between, as in `kafka-1:9092,kafka-2:9092`".to_owned()
            );
        }
    }
    Ok(())
}

/// An address to listen on.
pub(super) fn listen(text: &str) -> Result<(), String> {
    match host_port(text) {
        (host, Some(port))
            if !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok() =>
        {
            Ok(())
        }
        _ => Err("must be `host:port`, as in `0.0.0.0:9464`, or `\"\"` for no server".to_owned()),
    }
}

/// An http or https URL with a host and without credentials.
pub(super) fn url(text: &str) -> Result<(), String> {
    let known = "`/api/v1/write` for Prometheus and VictoriaMetrics, `/api/v1/push` for Mimir";
    let path = format!("has no path; add the path of remote write, {known}, or `/` if it has none");
    address(text, ["`remote_write.auth`", "https://mimir.example.com/api/v1/push", &path])
}

/// The URL that spans are sent to.
pub(super) fn traces_url(text: &str) -> Result<(), String> {
    let path = "has no path; add that of OTLP over HTTP, `/v1/traces`";
    address(text, ["`telemetry.traces.headers`", "http://collector:4318/v1/traces", path])
}

/// The URL that metrics are sent to, of OTLP over HTTP.
pub(super) fn otlp_url(text: &str) -> Result<(), String> {
    let path = "has no path; add that of OTLP over HTTP, `/v1/metrics`, or `/api/v1/otlp/v1/metrics` for Prometheus";
    address(text, ["`remote_write.auth`", "http://collector:4318/v1/metrics", path])
}

/// The URL of a gRPC server, which has no path.
pub(super) fn grpc_url(text: &str) -> Result<(), String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    address(&format!("{text}/"), ["`remote_write.auth`", "http://collector:4317", ""])?;
    match text.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?'])) {
        true => Err("has a path, which gRPC decides; write scheme, host and port only".to_owned()),
        false => Ok(()),
    }
}

/// A URL with a path; what to use instead of a user, an example, and the problem of one without a path.
fn address(text: &str, [instead, example, no_path]: [&str; 3]) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err("must begin with `http://` or `https://`".to_owned());
    };
    if text.contains(|c: char| c.is_whitespace() || c == '#' || !c.is_ascii()) {
        return Err("must not contain spaces, `#` or non-ASCII characters; percent-encode them".to_owned());
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(format!("must not contain a user or password; use {instead}"));
    }
    let (host, port) = host_port(authority);
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._[]:%".contains(c);
    if host.is_empty() || !host.chars().all(legal) || !port.is_none_or(is_port) {
        return Err(format!("must name a host, as in `{example}`"));
    }
    if rest.len() == authority.len() {
        return Err(no_path.to_owned());
    }
    Ok(())
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Splits off the port; an IPv6 host keeps its brackets.
fn host_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

/// The name of an HTTP header.
pub(super) fn header_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(legal) {
        return Err("is not a header name; use letters, digits and `-`".to_owned());
    }
    Ok(())
}

/// Headers that belong to the protocol or to the connection.
const OWN_HEADERS: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "retry-attempt",
    "transfer-encoding",
    "user-agent",
    "x-prometheus-remote-write-version",
];

/// Whether a header is one that remote write sets itself, whose requests are `signed` by AWS's rules or not.
#[must_use]
pub fn is_own_header(name: &str, signed: bool) -> bool {
    let lower = name.to_ascii_lowercase();
    OWN_HEADERS.contains(&lower.as_str()) || signed && lower.starts_with("x-amz-")
}

/// The value of an HTTP header. The message does not repeat it.
pub(super) fn header_value(value: &str) -> Result<(), String> {
    if value.chars().any(|c| !matches!(c, ' '..='~' | '\t')) {
        return Err("has characters that are not legal in a header; use printable ASCII on one line".to_owned());
    }
    Ok(())
}

/// The name of a Prometheus label.
pub(super) fn label_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal) {
        return Err("is not a label name; use letters, digits and `_`, not a digit first".to_owned());
    }
    Ok(())
}

/// The name of the label of exemplars. Receivers take 128 characters in all labels of an exemplar together; one of them refuses
/// the sample beside a longer one.
pub(super) fn exemplar_label(name: &str) -> Result<(), String> {
    const MOST: usize = 128 - 32;
    label_name(name)?;
    if name.len() > MOST {
        let length = name.len();
        return Err(format!(
            "has {length} characters; use at most {MOST}, because receivers take 128 for name and trace ID together"
        ));
    }
    Ok(())
}

/// The problem of an invalid namespace of metrics.
pub(super) const NAMESPACE: &str =
    "is not legal as a prefix of a metric name; use letters, digits, `_` and `.`, not a digit first";

/// The name of a Prometheus metric.
pub(super) fn metric_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal) {
        return Err("is not a metric name; use letters, digits, `_` and `:`, not a digit first".to_owned());
    }
    Ok(())
}
