//! What a worker would meet at an endpoint that is no remote write, before it starts. Stores nothing: a receiver gets a
//! request without metrics, a topic is only described, and beside a file another one is created and removed.

use bytes::Bytes;

use crate::config::settings::{Kafka, OutputType, RemoteWrite};
use crate::core::remotewrite::acceptance::Finding;
use crate::worker::kafka::topics::{TopicFacts, Topics};
use crate::worker::sender::client::{Answer, Client};
use crate::worker::sender::delivery::random;
use crate::worker::sender::query::{ATTEMPTS, backoff};
use crate::worker::sender::runtime;

use super::{Output, OutputFile};

/// Asks the endpoint. One of the type `remote_write` has no findings here: [`super::super::preflight`] asks it. Call it
/// outside of any async runtime.
#[must_use]
pub fn examine(cfg: &RemoteWrite, tenant: &str) -> Vec<Finding> {
    match cfg.kind {
        OutputType::RemoteWrite => Vec::new(),
        OutputType::OtlpHttp | OutputType::OtlpGrpc => vec![match knock(cfg, tenant) {
            Ok(answer) => judge(cfg, &answer),
            Err(why) => Finding::Waits(why),
        }],
        OutputType::Kafka => topic(cfg),
        OutputType::File => OutputFile::new(cfg.file.clone()).examine(),
    }
}

/// Sends an export request without metrics; retries as a preflight of remote write does.
fn knock(cfg: &RemoteWrite, tenant: &str) -> Result<Answer, String> {
    runtime().map_err(|e| e.to_string())?.block_on(async {
        let client = Client::new(cfg).await.map_err(|e| e.to_string())?;
        let Some(output) = Output::of(cfg).map_err(|e| e.to_string())? else { return Ok(Answer::default()) };
        let (backoff, mut attempt) = (backoff(cfg), 0);
        loop {
            let sent = match output.framed(&Bytes::new()) {
                Ok(body) => output.send(&client, tenant, body, attempt).await,
                Err(failure) => Err(failure),
            };
            attempt += 1;
            match sent {
                Ok(answer) if attempt == ATTEMPTS || answer.status != 429 && answer.status < 500 => return Ok(answer),
                Ok(_) => {}
                Err(failure) => match failure.trouble() {
                    None => return Err("the tenant's name is not legal in an HTTP header".to_owned()),
                    Some(trouble) if attempt == ATTEMPTS => return Err(format!("{}; {}", trouble.why, trouble.remedy)),
                    Some(_) => {}
                },
            }
            tokio::time::sleep(backoff.delay(attempt, random())).await;
        }
    })
}

fn judge(cfg: &RemoteWrite, answer: &Answer) -> Finding {
    let text = &answer.text;
    let answers = match (text.is_empty(), text.starts_with("gRPC status")) {
        (true, _) => format!("answers {}", answer.status),
        (_, true) => format!("answers {text}"),
        (_, false) => format!("answers {}: {text}", answer.status),
    };
    match answer.status {
        // A receiver has nothing to object to in a request without metrics, nor has it a page to show.
        200..=299 if cfg.kind == OutputType::OtlpHttp && !text.is_empty() && !text.starts_with('{') => {
            Finding::Warning(format!(
                "{answers}; that is no answer of an OTLP receiver: check host, port and path of remote_write.url"
            ))
        }
        200..=299 => Finding::Good("accepts an export request without metrics".to_owned()),
        400 => Finding::Warning(format!("{answers}, to an export request without metrics")),
        _ => Finding::Waits(format!("{answers}; {}", answer.remedy())),
    }
}

fn topic(cfg: &RemoteWrite) -> Vec<Finding> {
    let output = &cfg.kafka;
    let (brokers, properties) = (output.bootstrap_servers.clone(), output.properties.clone());
    let topic = &output.topic;
    let asked = Topics::new(&Kafka { brokers, properties, ..Kafka::default() })
        .and_then(|topics| topics.partitions(topic)?.map(|_| topics.facts(topic)).transpose());
    match asked {
        Ok(Some(facts)) => fitness(&facts, cfg.max_bytes),
        Ok(None) => vec![Finding::Waits(format!(
            "topic {topic} does not exist, or this worker may not describe it; create it, or grant Describe and Write on it"
        ))],
        Err(error) => vec![Finding::Waits(error.to_string())],
    }
}

/// What brokers report of the topic, for records of samples whose key is the tenant.
fn fitness(facts: &TopicFacts, max_bytes: usize) -> Vec<Finding> {
    let topic = &facts.topic;
    let mut out = vec![Finding::Good(format!("topic {topic} has {} partitions", facts.partitions))];
    if facts.offline > 0 {
        let offline = facts.offline;
        out.push(Finding::Waits(format!("{offline} partitions of topic {topic} have no leader; start their brokers")));
    }
    if facts.settings.is_none() {
        out.push(Finding::Warning(format!(
            "the settings of topic {topic} cannot be read: grant DescribeConfigs, or check that cleanup.policy is delete and \
             max.message.bytes is at least remote_write.max_bytes ({max_bytes})"
        )));
    }
    if facts.value("cleanup.policy").contains("compact") {
        out.push(Finding::Refusal(format!(
            "topic {topic} is compacted, and all records of a tenant have the same key: only its last would stay; set \
             cleanup.policy to delete"
        )));
    }
    let whole = |key: &str| facts.value(key).parse::<usize>().ok();
    match whole("max.message.bytes") {
        Some(bytes) if bytes < max_bytes => out.push(Finding::Warning(format!(
            "topic {topic} takes records of up to {bytes} bytes after compression, and larger requests are halved until they \
             fit: set max.message.bytes to remote_write.max_bytes ({max_bytes}) or more"
        ))),
        Some(bytes) => out.push(Finding::Good(format!("topic {topic} takes records of up to {bytes} bytes"))),
        None => {}
    }
    if let Some(wanted) = whole("min.insync.replicas").filter(|wanted| *wanted > facts.copies) {
        let copies = facts.copies;
        out.push(Finding::Waits(format!(
            "topic {topic} has {copies} copies and needs {wanted} to acknowledge a record; lower min.insync.replicas, or add \
             copies"
        )));
    }
    out.push(Finding::Warning(format!("the right to write to topic {topic} cannot be checked without using it")));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(settings: Option<&[(&str, &str)]>) -> TopicFacts {
        let of = |all: &[(&str, &str)]| all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (topic, settings) = ("samples".to_owned(), settings.map(of));
        TopicFacts { topic, partitions: 3, copies: 2, brokers: 3, offline: 0, lagging: 0, settings }
    }

    fn told(facts: &TopicFacts) -> String {
        fitness(facts, 1_000).iter().map(|finding| format!("{finding}\n")).collect()
    }

    #[test]
    fn a_topic_must_keep_all_records_of_a_tenant_and_take_them() {
        let good = [("cleanup.policy", "delete"), ("max.message.bytes", "1000"), ("min.insync.replicas", "2")];
        let findings = fitness(&facts(Some(&good)), 1_000);
        assert!(findings.iter().all(|finding| matches!(finding, Finding::Good(_) | Finding::Warning(_))));
        assert!(told(&facts(Some(&good))).contains("takes records of up to 1000 bytes\n"));
        let bad = [("cleanup.policy", "compact,delete"), ("max.message.bytes", "999"), ("min.insync.replicas", "3")];
        let told_of_bad = told(&facts(Some(&bad)));
        for words in ["set cleanup.policy to delete", "larger requests are halved", "lower min.insync.replicas"] {
            assert!(told_of_bad.contains(words), "{told_of_bad}");
        }
        assert!(fitness(&facts(Some(&bad)), 1_000).iter().any(Finding::is_refusal));
        assert!(told(&facts(None)).contains("grant DescribeConfigs"));
        let offline = TopicFacts { offline: 1, ..facts(Some(&good)) };
        assert!(told(&offline).contains("1 partitions of topic samples have no leader"));
    }
}
