//! Which spans that come again are counted once.

use crate::core::model::Millis;

/// `duplicates:` spans that come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicates {
    /// `window`: how long a span is remembered at least, in stream time, since it came last. Default 0: not at all.
    pub window: Millis,
    /// `max_spans`: remembered spans per source partition. Default 200,000.
    pub max_spans: usize,
}

impl Default for Duplicates {
    fn default() -> Self {
        Self { window: 0, max_spans: 200_000 }
    }
}
