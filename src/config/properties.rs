//! Which librdkafka properties a user may set: none that the protocol relies on, and no values with which a worker
//! could start and then stand still: `check` reports them, with the place, instead of a run that does nothing.

use std::collections::BTreeMap;

use super::settings::Secret;

/// librdkafka's default, where a rule compares two properties.
const SESSION_TIMEOUT: i64 = 10_000;

/// The invalid properties, each with the reason and the remedy, which do not repeat its value.
pub(super) fn problems(properties: &BTreeMap<String, Secret>) -> Vec<(&str, String)> {
    let number = |name: &str| properties.get(name).and_then(|value| value.reveal().trim().parse::<i64>().ok());
    let mut problems = Vec::new();
    for name in properties.keys() {
        let found = refused(name).map(str::to_owned).or_else(|| out_of_bounds(name, number(name)?));
        problems.extend(found.map(|reason| (name.as_str(), reason)));
    }
    let session = number("session.timeout.ms").unwrap_or(SESSION_TIMEOUT);
    let heartbeat = "heartbeat.interval.ms";
    if number(heartbeat).is_some_and(|interval| interval >= session) {
        problems.push((heartbeat, format!("must be below session.timeout.ms ({session}), usually a third of it")));
    }
    let poll = "max.poll.interval.ms";
    if number(poll).is_some_and(|interval| interval < session) {
        problems.push((poll, format!("must be at least session.timeout.ms ({session}); raise it, or remove it")));
    }
    problems
}

/// The properties that brokers decide when they share partitions out.
pub(super) fn of_brokers(properties: &BTreeMap<String, Secret>) -> Vec<(&str, String)> {
    let decided = ["session.timeout.ms", "heartbeat.interval.ms"];
    let reason = "is decided by the brokers with `kafka.group_protocol: consumer`; remove it";
    let set = properties.keys().filter(|name| decided.contains(&name.as_str()));
    set.map(|name| (name.as_str(), reason.to_owned())).collect()
}

/// Why a user may not set a property, whatever its value.
fn refused(name: &str) -> Option<&'static str> {
    Some(match name {
        "bootstrap.servers" | "metadata.broker.list" => "is set by `kafka.brokers`; write it there",
        "group.id" => "is set by `kafka.group`; write it there",
        "auto.offset.reset" => "is set by `kafka.start`; write it there",
        "queued.max.messages.kbytes" => "is set by `worker.fetch_buffer_bytes`; write it there",
        "enable.auto.commit" | "auto.commit.enable" | "enable.auto.offset.store" | "offset.store.method" => {
            "must stay off, because the journal stores the position; remove it"
        }
        "partition.assignment.strategy" => "is set by spanmill, because rebalances rely on it; remove it",
        "group.protocol" | "group.protocol.type" => "is set by `kafka.group_protocol`; write it there",
        "group.remote.assignor" => "is left to the brokers with `kafka.group_protocol: consumer`; remove it",
        "enable.idempotence" | "acks" | "request.required.acks" | "queuing.strategy" => {
            "is set by spanmill, because the journal relies on it; remove it"
        }
        "delivery.report.only.error" => "must stay off, because a commit counts once it is acknowledged; remove it",
        "enable.gapless.guarantee" => "must stay off, because a late record would end the worker; remove it",
        "enable.partition.eof" => "must stay on, because idle partitions are detected by it; remove it",
        "transactional.id" => "is set by spanmill where it uses transactions; remove it",
        "isolation.level" => "is set by spanmill, because exactness relies on it; remove it",
        "allow.auto.create.topics" => {
            "must stay off, because a broker would create internal topics that expire; \
                                       remove it"
        }
        "topic.blacklist" => "would hide topics that spanmill uses; remove it",
        "api.version.request" => "must stay on, because the journal relies on it; remove it",
        "test.mock.num.brokers" | "test.mock.broker.rtt" => "would use simulated brokers; remove it",
        name if name.is_empty() || name.contains(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)) => {
            "is not a librdkafka property; names are like `security.protocol`"
        }
        _ => return None,
    })
}

/// Why a number is out of range.
fn out_of_bounds(name: &str, value: i64) -> Option<String> {
    let (holds, remedy) = match name {
        // A part of a frame of a journal must fit: `journal::MAX_PART` and its header.
        "message.max.bytes" => (value >= 1_000_000, "at least 1000000, the maximum size of a journal record"),
        "queue.buffering.max.kbytes" => (value >= 2_048, "at least 2048, or a journal record may never fit"),
        "message.timeout.ms" | "delivery.timeout.ms" => (
            value == 0 || value >= 1_000,
            "at least 1000, or appends time out before they are acknowledged; 0 for \
                                            no limit",
        ),
        "max.in.flight.requests.per.connection" | "max.in.flight" => {
            ((1..=5).contains(&value), "from 1 to 5, or records may be reordered")
        }
        "message.send.max.retries" | "retries" => (value >= 1, "at least 1, or every leader change fails an append"),
        "topic.metadata.refresh.interval.ms" => {
            ((10..=300_000).contains(&value), "from 10 to 300000, or new and re-created topics go unnoticed")
        }
        _ => return None,
    };
    (!holds).then(|| format!("must be {remedy}"))
}
