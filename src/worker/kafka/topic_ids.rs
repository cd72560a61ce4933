//! Whether a name still stands for the same topic.
//!
//! librdkafka continues to fetch from a topic that was deleted and re-created, if the new one reaches further than the
//! old one was read. It knows the ID of the topic and asks the broker by it. When it learns another ID, it reports that
//! only in its log. That line comes before the first record that is fetched by the new ID.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

/// The value that librdkafka's `debug` must contain for the line to be logged.
const DEBUG: &str = "metadata";
/// The ID of a topic whose broker gives none.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// The same client, with the log lines that contain the IDs of topics.
pub(super) fn told(mut config: ClientConfig) -> ClientConfig {
    let wish = config.get("debug").map_or_else(String::new, |wish| format!("{wish},"));
    config.set("debug", format!("{wish}{DEBUG}")).set_log_level(RDKafkaLogLevel::Debug);
    config
}

/// The IDs of topics, as librdkafka learns them.
#[derive(Debug, Default)]
pub(super) struct TopicIds(Mutex<BTreeMap<String, Known>>);

#[derive(Debug, Default)]
struct Known {
    /// `None` as long as no broker has reported it.
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
    /// Reads a line of librdkafka's log:
    /// `Topic spans changed id from jX8mT4WhRiOtZuJkVYVrCQ to 3qWc0V5BQ7mVvWQJ8xHnUw`. Returns the topic if its name
    /// now stands for another one.
    pub(super) fn hear<'a>(&self, line: &'a str) -> Option<&'a str> {
        let (topic, id) = parse(line).filter(|(_, id)| *id != NO_ID)?;
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = topics.entry(topic.to_owned()).or_default();
        if known.id.replace(id.to_owned()).is_none_or(|before| before == id) {
            return None;
        }
        known.changes.fetch_add(1, Ordering::Relaxed);
        Some(topic)
    }

    /// The ID that a topic had at the last report.
    pub(super) fn id(&self, topic: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(topic)?.id.clone()
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
    /// Whether the name stands for another topic by now.
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
    fn a_topic_is_another_one_when_its_id_changes_and_not_when_it_is_learned_or_unknown_for_a_while() {
        let ids = TopicIds::default();
        let first = ids.incarnation("spans");
        let (one, two) = ("jX8mT4WhRiOtZuJkVYVrCQ", "3qWc0V5BQ7mVvWQJ8xHnUw");
        for (from, to) in [(NO_ID, one), (one, NO_ID), (NO_ID, one), (one, one)] {
            assert_eq!(ids.hear(&line(from, to)), None);
            assert!(!first.is_over(), "{from} {to}");
        }
        ids.hear("[thrd:main]: Topic others changed id from AAAAAAAAAAAAAAAAAAAAAA to 3qWc0V5BQ7mVvWQJ8xHnUw");
        ids.hear("[thrd:main]: Topic spans [0] Leader 1 Epoch 0");
        ids.hear("");
        assert!(!first.is_over());
        assert_eq!((ids.id("spans").as_deref(), ids.id("unknown")), (Some(one), None));
        // librdkafka may have forgotten the topic in between, and learn its ID as if it were the first.
        assert_eq!(ids.hear(&line(NO_ID, two)), Some("spans"));
        assert!(first.is_over());
        assert_eq!(ids.id("spans").as_deref(), Some(two));
        let second = ids.incarnation("spans");
        assert!(!second.is_over());
        ids.hear(&line(two, one));
        assert!(first.is_over() && second.is_over());
    }
}
