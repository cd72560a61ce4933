//! The owner of a journal. The names of a group and of a source topic are not enough: group `x` with topic `y-z` and
//! group `x-y` with topic `z` lead to the same journal name. So claims and all frames that count name their owner.

use std::fmt;

use crate::core::model::wire::{Malformed, Reader, put_bytes};

/// The owner of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The consumer group.
    pub group: String,
    /// The source topic; `None` for the journal of series tasks.
    pub topic: Option<String>,
    /// What distinguishes this topic from an earlier one of its name, in the form in which the client library writes
    /// it; `None` if no broker has reported it.
    pub topic_id: Option<String>,
}

// === impl Identity ===

impl Identity {
    /// Whether both own the same journal: a topic may have been created again meanwhile.
    #[must_use]
    pub fn owns_the_same(&self, other: &Self) -> bool {
        self.group == other.group && self.topic == other.topic
    }

    /// The same owner, of the same topic as before: its ID is `known`, should no broker have reported it this time.
    #[must_use]
    pub fn knowing(&self, known: Option<String>) -> Self {
        Self { topic_id: self.topic_id.clone().or(known), ..self.clone() }
    }

    /// The bytes in a frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, self.group.as_bytes());
        // No topic and no ID is empty.
        for text in [&self.topic, &self.topic_id] {
            put_bytes(&mut out, text.as_deref().unwrap_or_default().as_bytes());
        }
        out
    }

    /// Reads the bytes of a frame; a frame of an earlier version has none.
    ///
    /// # Errors
    /// When they are not what [`Identity::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut r = Reader::new(bytes);
        let mut text = || r.str().map(str::to_owned);
        let (group, topic, topic_id) = (text()?, text()?, text()?);
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let identity = Self { group, topic: some(topic), topic_id: some(topic_id) };
        if r.is_empty() { Ok(Some(identity)) } else { Err(Malformed("bytes after the owner of a journal")) }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The content of a foreign journal goes to a log, so it is escaped.
        let group = self.group.escape_debug();
        match &self.topic {
            Some(topic) => write!(f, "topic {} of group {group}", topic.escape_debug()),
            None => write!(f, "the shards of group {group}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_survives_the_round_trip_and_is_told_by_group_and_topic() {
        let id = Some("jX8mT4WhRiOtZuJkVYVrCQ".to_owned());
        let spans = Identity { group: "x".to_owned(), topic: Some("y-z".to_owned()), topic_id: id };
        let series = Identity { topic: None, topic_id: None, ..spans.clone() };
        for identity in [&spans, &series] {
            assert_eq!(Identity::decode(&identity.encode()).as_ref(), Ok(&Some(identity.clone())));
        }
        assert_eq!(Identity::decode(b""), Ok(None));
        assert!(spans.owns_the_same(&Identity { topic_id: None, ..spans.clone() }));
        let other = Identity { group: "x-y".to_owned(), topic: Some("z".to_owned()), topic_id: None };
        assert!(!spans.owns_the_same(&series) && !spans.owns_the_same(&other));
        assert_eq!(
            (spans.to_string(), series.to_string()),
            ("topic y-z of group x".into(), "the shards of group x".into())
        );
    }

    #[test]
    fn an_owner_that_is_cut_or_longer_is_damage_and_is_shown_escaped() {
        let forged = Identity { group: "a\n\u{1b}[31m".to_owned(), topic: None, topic_id: None };
        assert_eq!(forged.to_string(), "the shards of group a\\n\\u{1b}[31m");
        let bytes = forged.encode();
        assert!((1..bytes.len()).all(|n| Identity::decode(&bytes[..n]).is_err()));
        assert!(Identity::decode(&[bytes, vec![0]].concat()).is_err());
    }
}
