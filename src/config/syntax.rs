//! What the outside world accepts as a name or an address. Each check returns what is wrong and the remedy.

/// The longest topic name of Kafka.
const TOPIC_MAX: usize = 249;
/// The longest suffix that spanmill appends to the group.
const SUFFIX_MAX: usize = "-series-journal".len();

/// The endings of the internal topics of a group.
const INTERNAL: [&str; 3] = ["-journal", "-deltas", "-series-journal"];

/// Whether `topic` is one of the internal topics of `group`.
pub(super) fn is_internal_topic(topic: &str, group: &str) -> bool {
    topic.strip_prefix(group).is_some_and(|suffix| INTERNAL.contains(&suffix))
}

/// A Kafka topic.
pub(super) fn topic(name: &str) -> Result<(), String> {
    kafka_name(name, TOPIC_MAX, "is not a topic name")
}

/// A consumer group that is also the prefix of topics.
pub(super) fn group(name: &str) -> Result<(), String> {
    kafka_name(name, TOPIC_MAX - SUFFIX_MAX, "cannot begin the names of the internal topics")
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
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err("must begin with `http://` or `https://`".to_owned());
    };
    if text.contains(|c: char| c.is_whitespace() || c == '#' || !c.is_ascii()) {
        return Err("must not contain spaces, `#` or non-ASCII characters; percent-encode them".to_owned());
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("must not contain a user or password; use `remote_write.auth`".to_owned());
    }
    let (host, port) = host_port(authority);
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._[]:%".contains(c);
    if host.is_empty() || !host.chars().all(legal) || !port.is_none_or(is_port) {
        return Err("must name a host, as in `https://mimir.example.com/api/v1/push`".to_owned());
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

/// The value of an HTTP header. The message does not repeat it.
pub(super) fn header_value(value: &str) -> Result<(), String> {
    if value.chars().any(|c| !matches!(c, ' '..='~' | '\t')) {
        return Err("has characters that a header cannot carry; use printable ASCII on one line".to_owned());
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

/// What is wrong with a namespace of metrics.
pub(super) const NAMESPACE: &str =
    "cannot begin the name of a metric; use letters, digits, `_` and `.`, not a digit first";

/// The name of a Prometheus metric.
pub(super) fn metric_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal) {
        return Err("is not a metric name; use letters, digits, `_` and `:`, not a digit first".to_owned());
    }
    Ok(())
}

/// Why a librdkafka property is not the user's to set; `None` if it is.
pub(super) fn property(name: &str) -> Option<&'static str> {
    Some(match name {
        "bootstrap.servers" | "metadata.broker.list" => "is set by `kafka.brokers`; write it there",
        "group.id" => "is set by `kafka.group`; write it there",
        "auto.offset.reset" => "is set by `kafka.start`; write it there",
        "queued.max.messages.kbytes" => "is set by `worker.fetch_buffer_bytes`; write it there",
        "enable.auto.commit" | "auto.commit.enable" | "enable.auto.offset.store" => {
            "must stay off, the journal decides what is done; remove it"
        }
        "partition.assignment.strategy" => "is chosen by spanmill, a rebalance relies on it; remove it",
        "enable.idempotence" | "acks" | "request.required.acks" => {
            "is chosen by spanmill, the journal relies on it; remove it"
        }
        "transactional.id" => "is not used, spanmill is exact without transactions; remove it",
        "isolation.level" => "is chosen by spanmill, exactness relies on it; remove it",
        name if name.is_empty() || name.contains(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)) => {
            "is not a librdkafka property; names are like `security.protocol`"
        }
        _ => return None,
    })
}
