//! Whether partitions, shards and workers fit each other.

use super::{Diagnoses, Severity};

/// What there is of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupFacts {
    /// The partitions of all source topics.
    pub partitions: usize,
    /// The shards.
    pub shards: usize,
    /// The workers that own source partitions, by name; `None`: the brokers do not report them.
    pub workers: Option<Vec<String>>,
    /// Source partitions that no worker owns, while there are workers.
    pub unowned: usize,
}

/// Judges a group.
pub fn judge_group(facts: &GroupFacts, out: &mut Diagnoses) {
    let GroupFacts { partitions, shards, workers, unowned } = facts;
    let Some(workers) = workers else {
        return out.bad(
            Severity::Note,
            "the brokers do not report its members, so workers and partitions are not compared",
            "grant Describe on groups with the prefix of kafka.group",
        );
    };
    if workers.is_empty() {
        out.note("no worker owns a partition now");
    } else {
        out.ok(format!("{} workers own {} of {partitions} source partitions", workers.len(), partitions - unowned));
    }
    if !workers.is_empty() && *unowned > 0 {
        let text = format!("{unowned} source partitions have no owner, so nothing reads them");
        out.bad(
            Severity::Warning,
            text,
            "wait for the rebalance to end, or start workers; `spanmill topics` names them",
        );
    }
    if *partitions < 2 {
        out.note("the source has a single partition, so a single worker does all of the first stage");
    }
    if workers.len() > *shards {
        let text = format!(
            "there are {} workers and {shards} shards, so some have no part of the second stage",
            workers.len()
        );
        out.bad(Severity::Note, text, "`spanmill reshard` gives the group more shards while its workers are stopped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(facts: &GroupFacts) -> Vec<Severity> {
        let mut out = Diagnoses::of("group g");
        judge_group(facts, &mut out);
        out.into_all().into_iter().map(|found| found.severity).collect()
    }

    #[test]
    fn partitions_without_an_owner_and_workers_without_a_shard_are_found() {
        use Severity::{Note, Ok, Warning};
        let workers = |n: usize| Some((0..n).map(|n| format!("w{n}")).collect());
        let facts = |n, unowned| GroupFacts { partitions: 4, shards: 2, workers: workers(n), unowned };
        assert_eq!(judged(&facts(2, 0)), [Ok]);
        assert_eq!(judged(&facts(2, 1)), [Ok, Warning]);
        assert_eq!(judged(&facts(3, 0)), [Ok, Note]);
        assert_eq!(judged(&facts(0, 4)), [Note]);
        assert_eq!(judged(&GroupFacts { workers: None, ..facts(0, 0) }), [Note]);
    }
}
