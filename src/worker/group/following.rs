//! The source topics as they change: those that a regular expression matches may come and go while the worker runs.

use std::collections::BTreeMap;

/// So many looks in a row, a topic that was matched must not be found before it counts as deleted: a broker that has just come
/// back may not know all topics yet.
const LOOKS: u32 = 3;

/// The source topics with their partitions, as they were last seen.
#[derive(Debug, Default)]
pub(super) struct Following {
    sources: Vec<(String, i32)>,
    /// Topics that were not found, and how many times in a row.
    missed: BTreeMap<String, u32>,
}

// === impl Following ===

impl Following {
    pub(super) fn new(sources: Vec<(String, i32)>) -> Self {
        Self { sources, missed: BTreeMap::new() }
    }

    /// The topics, as the group is to know them.
    pub(super) fn topics(&self) -> Vec<String> {
        self.sources.iter().map(|(topic, _)| topic.clone()).collect()
    }

    /// These were `found` now, sorted. Returns what to work on, if that is something else than before: a topic that is missing
    /// only now stays as it was.
    pub(super) fn look(&mut self, mut found: Vec<(String, i32)>) -> Option<Vec<(String, i32)>> {
        let mut missed = BTreeMap::new();
        for (topic, partitions) in &self.sources {
            if found.iter().any(|(there, _)| there == topic) {
                continue;
            }
            let times = self.missed.get(topic).copied().unwrap_or(0) + 1;
            if times < LOOKS {
                missed.insert(topic.clone(), times);
                found.push((topic.clone(), *partitions));
            }
        }
        self.missed = missed;
        found.sort();
        (found != self.sources).then_some(found)
    }

    /// From now on, these are worked on. Returns the topics that are new and those that are gone, unless all is as before.
    pub(super) fn change(&mut self, sources: Vec<(String, i32)>) -> Option<(Vec<String>, Vec<String>)> {
        if self.sources == sources {
            return None;
        }
        let before = std::mem::replace(&mut self.sources, sources);
        Some((without(&self.sources, &before), without(&before, &self.sources)))
    }
}

/// The topics of `all` that `others` lack.
fn without(all: &[(String, i32)], others: &[(String, i32)]) -> Vec<String> {
    let lacks = |topic: &&String| !others.iter().any(|(known, _)| known == *topic);
    all.iter().map(|(topic, _)| topic).filter(lacks).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(all: &[(&str, i32)]) -> Vec<(String, i32)> {
        all.iter().map(|(topic, partitions)| ((*topic).to_owned(), *partitions)).collect()
    }

    #[test]
    fn new_topics_and_partitions_are_told_and_what_stays_is_not() {
        let mut following = Following::new(sources(&[("a", 2), ("c", 1)]));
        assert_eq!(following.look(sources(&[("a", 2), ("c", 1)])), None);
        let grown = sources(&[("a", 3), ("b", 1), ("c", 1)]);
        assert_eq!(following.look(grown.clone()), Some(grown.clone()));
        assert_eq!(following.change(grown.clone()), Some((vec!["b".to_owned()], vec![])));
        assert_eq!(following.change(grown.clone()), None);
        assert_eq!(
            (following.look(grown), following.topics()),
            (None, vec!["a".to_owned(), "b".to_owned(), "c".to_owned()])
        );
    }

    #[test]
    fn a_topic_that_is_missing_once_or_twice_stays_and_one_that_stays_away_goes() {
        let mut following = Following::new(sources(&[("a", 1), ("b", 1)]));
        let without = || sources(&[("b", 1)]);
        assert_eq!([following.look(without()), following.look(without())], [None, None]);
        assert_eq!(following.look(sources(&[("a", 1), ("b", 1)])), None, "it is back");
        assert_eq!([following.look(without()), following.look(without())], [None, None]);
        assert_eq!(following.look(without()), Some(without()));
        assert_eq!(following.change(without()), Some((vec![], vec!["a".to_owned()])));
    }
}
