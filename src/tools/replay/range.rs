//! The range of a replay, as a user writes it.

use std::str::FromStr;

use crate::core::model::Millis;
use crate::core::model::time::{from_rfc3339, rfc3339};

/// A point in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The first offset that the partition still has.
    Earliest,
    /// Its end when the run is planned.
    Now,
    /// The first record with this timestamp or a later one.
    Time(Millis),
    /// An offset.
    Offset(i64),
}

/// A point for all partitions, those of a topic, or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The topic; `None` for all.
    pub topic: Option<String>,
    /// Its partition; `None` for all.
    pub partition: Option<i32>,
    /// The point.
    pub at: At,
}

/// A bound that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a position in a topic; use 2026-11-20T10:00:00Z, an offset, earliest or now, optionally prefixed \
     by TOPIC= or TOPIC[PARTITION]="
)]
pub struct BoundError(String);

/// One end of the range: the most specific one counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    bounds: Vec<Bound>,
    otherwise: At,
}

// === impl Bound ===

impl FromStr for Bound {
    type Err = BoundError;

    fn from_str(text: &str) -> Result<Self, BoundError> {
        let wrong = || BoundError(text.to_owned());
        // No form of a point has this sign, and no topic.
        let (place, at) = text.rsplit_once('=').map_or((None, text), |(place, at)| (Some(place), at));
        let (topic, partition) = match place.map(|place| (place, place.strip_suffix(']'))) {
            None => (None, None),
            Some((topic, None)) => (Some(topic), None),
            Some((_, Some(indexed))) => {
                let (topic, partition) = indexed.rsplit_once('[').ok_or_else(wrong)?;
                let partition = partition.parse().ok().filter(|&p: &i32| p >= 0).ok_or_else(wrong)?;
                (Some(topic), Some(partition))
            }
        };
        if topic == Some("") {
            return Err(wrong());
        }
        Ok(Self { topic: topic.map(str::to_owned), partition, at: point(at).ok_or_else(wrong)? })
    }
}

fn point(text: &str) -> Option<At> {
    match text {
        "earliest" => Some(At::Earliest),
        "now" => Some(At::Now),
        _ => match text.parse::<i64>() {
            Ok(offset) => (offset >= 0).then_some(At::Offset(offset)),
            Err(_) => from_rfc3339(text).map(At::Time),
        },
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.topic, self.partition) {
            (Some(topic), Some(partition)) => write!(f, "{topic}[{partition}]=")?,
            (Some(topic), None) => write!(f, "{topic}=")?,
            _ => {}
        }
        match self.at {
            At::Earliest => f.write_str("earliest"),
            At::Now => f.write_str("now"),
            At::Offset(offset) => write!(f, "{offset}"),
            At::Time(at) => f.write_str(&rfc3339(at)),
        }
    }
}

// === impl Bounds ===

impl Bounds {
    /// These bounds; what they do not cover begins or ends at `otherwise`.
    #[must_use]
    pub fn new(bounds: &[Bound], otherwise: At) -> Self {
        Self { bounds: bounds.to_vec(), otherwise }
    }

    /// The point of a partition: that of its own bound, of its topic's, of the one for all. Of several, the last counts.
    #[must_use]
    pub fn of(&self, topic: &str, partition: i32) -> At {
        let fits = |bound: &&Bound| {
            bound.topic.as_deref().is_none_or(|t| t == topic) && bound.partition.is_none_or(|p| p == partition)
        };
        let precise = |bound: &&Bound| usize::from(bound.topic.is_some()) + usize::from(bound.partition.is_some());
        self.bounds.iter().filter(fits).max_by_key(precise).map_or(self.otherwise, |bound| bound.at)
    }

    /// The topics that are named.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.bounds.iter().filter_map(|bound| bound.topic.as_deref())
    }

    /// In the notation of the command line.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.bounds.iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_read_as_it_is_written() {
        for text in ["earliest", "now", "17", "spans=2026-11-20T10:00:00Z", "a.b-c[3]=12", "spans=now"] {
            assert_eq!(text.parse::<Bound>().expect("legal").to_string(), text);
        }
        let with_zone: Bound = "2026-11-20T12:00:00.5+02:00".parse().expect("legal");
        assert_eq!(with_zone.to_string(), "2026-11-20T10:00:00.5Z");
    }

    #[test]
    fn what_is_no_bound_is_told_with_the_remedy() {
        for text in ["", "yesterday", "-1", "=3", "spans[x]=3", "spans[-1]=3", "[1]=3", "spans=", "2026-11-20"] {
            let error = text.parse::<Bound>().expect_err(text).to_string();
            assert!(error.contains("TOPIC[PARTITION]="), "{error}");
        }
    }

    #[test]
    fn the_most_precise_bound_counts_and_of_equals_the_last() {
        let bounds: Vec<Bound> = ["a[1]=1", "a=2", "3", "4"].iter().map(|text| text.parse().expect("legal")).collect();
        let bounds = Bounds::new(&bounds, At::Now);
        let all = [bounds.of("a", 1), bounds.of("a", 0), bounds.of("b", 1)];
        assert_eq!(all, [At::Offset(1), At::Offset(2), At::Offset(4)]);
        assert_eq!(Bounds::new(&[], At::Earliest).of("a", 0), At::Earliest);
        assert_eq!(bounds.topics().collect::<Vec<_>>(), ["a", "a"]);
    }
}
