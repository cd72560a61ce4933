//! Whether a name still stands for the same topic.
//!
//! librdkafka fetches on from a topic that was deleted and made again as if nothing had happened, if that reaches further
//! than the old one was read. It knows the ID of the topic, asks the broker by it, and tells nobody when it learns another
//! one, except in its log. That line comes before the first record that is fetched by the new ID.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What librdkafka's `debug` must contain for the line to be there.
pub(super) const DEBUG: &str = "metadata";
/// The ID of a topic whose broker gives none.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// The IDs of topics, as librdkafka learns them.
#[derive(Debug, Default)]
pub(super) struct TopicIds(Mutex<BTreeMap<String, Known>>);

#[derive(Debug, Default)]
struct Known {
    /// `None` as long as no broker has told it.
    id: Option<String>,
    changes: Arc<AtomicU64>,
}

/// A topic at a moment, to be compared with what its name stands for later.
#[derive(Debug)]
pub(super) struct Incarnation {
    changes: Arc<AtomicU64>,
    before: u64,
}

// === impl TopicIds ===

impl TopicIds {
    /// Reads a line of librdkafka's log: `Topic spans changed id from jX8mT4WhRiOtZuJkVYVrCQ to 3qWc0V5BQ7mVvWQJ8xHnUw`.
    pub(super) fn hear(&self, line: &str) {
        let Some((topic, id)) = parse(line).filter(|(_, id)| *id != NO_ID) else { return };
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = topics.entry(topic.to_owned()).or_default();
        if known.id.replace(id.to_owned()).is_some_and(|before| before != id) {
            tracing::warn!(
                topic,
                id,
                "another topic has this name now: somebody has deleted the topic and made it again"
            );
            known.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The topic that a name stands for now.
    pub(super) fn incarnation(&self, topic: &str) -> Incarnation {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = Arc::clone(&topics.entry(topic.to_owned()).or_default().changes);
        let before = changes.load(Ordering::Relaxed);
        Incarnation { changes, before }
    }
}

// === impl Incarnation ===

impl Incarnation {
    /// Whether the name has come to stand for another topic since.
    pub(super) fn is_over(&self) -> bool {
        self.changes.load(Ordering::Relaxed) != self.before
    }
}

/// A topic, and the ID that it has from now on.
fn parse(line: &str) -> Option<(&str, &str)> {
    let (topic, ids) = line.split_once("Topic ")?.1.split_once(" changed id from ")?;
    let (_, id) = ids.split_once(" to ")?;
    Some((topic, id.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(from: &str, to: &str) -> String {
        format!("[thrd:main]: Topic spans changed id from {from} to {to}")
    }

    #[test]
    fn a_topic_is_another_one_when_its_id_changes_and_not_when_it_is_learnt_or_unknown_for_a_while() {
        let ids = TopicIds::default();
        let first = ids.incarnation("spans");
        let (one, two) = ("jX8mT4WhRiOtZuJkVYVrCQ", "3qWc0V5BQ7mVvWQJ8xHnUw");
        for (from, to) in [(NO_ID, one), (one, NO_ID), (NO_ID, one), (one, one)] {
            ids.hear(&line(from, to));
            assert!(!first.is_over(), "{from} {to}");
        }
        ids.hear("[thrd:main]: Topic others changed id from AAAAAAAAAAAAAAAAAAAAAA to 3qWc0V5BQ7mVvWQJ8xHnUw");
        ids.hear("[thrd:main]: Topic spans [0] Leader 1 Epoch 0");
        ids.hear("");
        assert!(!first.is_over());
        // librdkafka may have forgotten the topic in between, and learn its ID as if it were the first.
        ids.hear(&line(NO_ID, two));
        assert!(first.is_over());
        let second = ids.incarnation("spans");
        assert!(!second.is_over());
        ids.hear(&line(two, one));
        assert!(first.is_over() && second.is_over());
    }
}
