//! What the settings of a topic mean for what is in it.

use super::{Diagnoses, Severity, time};
use crate::core::model::Millis;
use crate::worker::kafka::topics::{Risk, TopicFacts};

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It holds spans, of which workers must have read everything before it expires: they may pause for so long.
    Source {
        /// The pause.
        pause: Millis,
    },
    /// It holds the state of the group.
    Internal,
    /// It holds spans that the group has repartitioned.
    ByTrace,
}

/// Judges what the brokers report of a topic.
pub fn judge_topic(facts: &TopicFacts, role: Role, out: &mut Diagnoses) {
    leaders(facts, out);
    if facts.settings.is_none() {
        out.bad(
            Severity::Note,
            "the brokers do not report its settings, so retention, replicas and elections are not checked",
            "grant DescribeConfigs on it",
        );
        return copies(facts, out);
    }
    match role {
        Role::Source { pause } => {
            retention(facts, pause, out);
            copies(facts, out);
            elections(facts, out);
        }
        Role::Internal => internal(facts, &facts.risks(), out),
        Role::ByTrace => {
            // Its records have the times of the source topic.
            let risks: Vec<_> = facts.risks().into_iter().filter(|risk| *risk != Risk::NoBrokerTime).collect();
            internal(facts, &risks, out);
        }
    }
}

fn leaders(facts: &TopicFacts, out: &mut Diagnoses) {
    if facts.offline > 0 {
        let text = format!(
            "{} of {} partitions have no leader, so nothing is read from them",
            facts.offline, facts.partitions
        );
        out.bad(Severity::Error, text, "start the brokers that hold its replicas");
    }
    if facts.lagging > 0 {
        let text = format!(
            "{} of {} partitions have fewer replicas in sync than they should",
            facts.lagging, facts.partitions
        );
        out.bad(Severity::Warning, text, "look for brokers that are down or slow");
    }
}

/// The state of the group: the same risks that a worker finds when it starts.
fn internal(facts: &TopicFacts, risks: &[Risk], out: &mut Diagnoses) {
    if let Err(error) = facts.keeps() {
        let (text, remedy) = match error.to_string().split_once("; ") {
            Some((text, remedy)) => (text.to_owned(), remedy.to_owned()),
            None => (error.to_string(), String::new()),
        };
        out.bad(Severity::Error, text, remedy);
    }
    for risk in risks {
        let all = risk.to_string();
        let (text, remedy) = all.split_once("; ").unwrap_or((&all, ""));
        out.bad(Severity::Warning, text, remedy);
    }
    if risks.is_empty() {
        out.ok(format!("{} replicas; nothing that it needs expires", facts.copies));
    }
}

fn retention(facts: &TopicFacts, pause: Millis, out: &mut Diagnoses) {
    let limit = |key: &str| facts.value(key).parse::<i64>().ok().filter(|limit| *limit >= 0);
    match limit("retention.ms") {
        Some(kept) if kept < pause => {
            let text = format!(
                "records are kept for {} (retention.ms), so workers lose spans if they pause for longer; a pause of {} \
                 is to be survived",
                time(kept),
                time(pause)
            );
            out.bad(
                Severity::Warning,
                text,
                format!("set retention.ms={pause} or more, or check with a shorter --pause"),
            );
        }
        Some(kept) => out.ok(format!("records are kept for {}, more than a pause of {}", time(kept), time(pause))),
        None => out.ok("records do not expire by time"),
    }
    if let Some(bytes) = limit("retention.bytes") {
        out.note(format!(
            "a partition keeps {bytes} bytes (retention.bytes), so under load records expire sooner than by retention.ms"
        ));
    }
    if facts.value("cleanup.policy").contains("compact") {
        let text = "it is compacted: of records with one key, which share a trace, the last alone is kept";
        out.bad(Severity::Error, text, "set cleanup.policy=delete");
    }
}

fn copies(facts: &TopicFacts, out: &mut Diagnoses) {
    match (facts.copies, facts.brokers) {
        (1, 1) => out.note("a single replica, as there is a single broker: when its disk is lost, so are its records"),
        (1, _) => out.bad(
            Severity::Warning,
            "a single replica: while its broker is down nothing is read or written, and losing it loses the records",
            "give it three replicas with `kafka-reassign-partitions`",
        ),
        (n, _) => out.ok(format!("{n} replicas")),
    }
}

fn elections(facts: &TopicFacts, out: &mut Diagnoses) {
    let needed = facts.value("min.insync.replicas").parse::<usize>().ok();
    if facts.copies >= 3 && needed.is_some_and(|needed| needed < 2) {
        out.bad(
            Severity::Warning,
            "one replica is enough to acknowledge a record, and losing its broker loses the record",
            "set min.insync.replicas=2, and acks=all at the producers",
        );
    }
    if needed.is_some_and(|needed| needed >= facts.copies && facts.copies > 1) {
        out.bad(
            Severity::Warning,
            "every replica must acknowledge a record, so one broker that is down stops all producers",
            "set min.insync.replicas below the number of replicas",
        );
    }
    if facts.copies > 1 && facts.value("unclean.leader.election.enable") == "true" {
        out.bad(
            Severity::Warning,
            "an election may choose a leader that lacks records, and then offsets are used twice",
            "set unclean.leader.election.enable=false",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::Diagnosis;
    use super::*;

    const DAY: Millis = 86_400_000;

    fn judged(copies: usize, brokers: usize, settings: &[(&str, &str)], role: Role) -> Vec<(Severity, String)> {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let facts = TopicFacts {
            topic: "t".to_owned(),
            partitions: 4,
            copies,
            brokers,
            offline: 0,
            lagging: 0,
            settings: Some(settings),
        };
        let mut out = Diagnoses::of("topic t");
        judge_topic(&facts, role, &mut out);
        out.into_all().into_iter().map(|Diagnosis { severity, text, .. }| (severity, text)).collect()
    }

    fn severities(found: &[(Severity, String)]) -> Vec<Severity> {
        found.iter().map(|(severity, _)| *severity).collect()
    }

    #[test]
    fn a_source_that_keeps_records_for_less_than_a_pause_is_warned_of() {
        use Severity::{Error, Note, Ok, Warning};
        let source = |settings: &[_]| severities(&judged(3, 3, settings, Role::Source { pause: DAY }));
        assert_eq!(source(&[("retention.ms", "3600000")]), [Warning, Ok]);
        assert_eq!(source(&[("retention.ms", "604800000")]), [Ok, Ok]);
        assert_eq!(source(&[("retention.ms", "-1"), ("retention.bytes", "1000")]), [Ok, Note, Ok]);
        assert_eq!(source(&[("cleanup.policy", "compact")]), [Ok, Error, Ok]);
    }

    #[test]
    fn replicas_and_elections_that_lose_records_are_warned_of() {
        use Severity::{Note, Ok, Warning};
        let source = |copies, brokers, settings: &[_]| {
            severities(&judged(copies, brokers, settings, Role::Source { pause: DAY }))[1..].to_vec()
        };
        let (one, two) = (("min.insync.replicas", "1"), ("min.insync.replicas", "2"));
        assert_eq!(source(1, 1, &[one]), [Note]);
        assert_eq!(source(1, 3, &[one]), [Warning]);
        assert_eq!(source(3, 3, &[two]), [Ok]);
        assert_eq!(source(3, 3, &[one]), [Ok, Warning]);
        assert_eq!(source(2, 3, &[two]), [Ok, Warning]);
        assert_eq!(source(2, 3, &[one, ("unclean.leader.election.enable", "true")]), [Ok, Warning]);
    }

    #[test]
    fn an_internal_topic_that_expires_is_an_error() {
        use Severity::{Error, Ok, Warning};
        let internal = |copies, settings: &[_]| severities(&judged(copies, 3, settings, Role::Internal));
        assert_eq!(internal(3, &[("min.insync.replicas", "2")]), [Ok]);
        assert_eq!(internal(3, &[("min.insync.replicas", "1")]), [Warning]);
        assert_eq!(internal(3, &[("retention.ms", "1000")])[0], Error);
    }
}
