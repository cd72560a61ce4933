//! Filter policies: which spans count.
//!
//! *In:* the `filter_policies` of a processor, then resources and spans. *Out:* yes or no for each span. *Owner:* the
//! room that filters; a [`Filter`] never changes. *Never:* an allocation per span, an error after the start. *Next:*
//! [`crate::core::spanmetrics`] and [`crate::core::servicegraph`].
//!
//! # The order of evaluation
//!
//! The blocks of all policies lie in one pool:
//!
//! 1. no blocks at all: the span is kept;
//! 2. an `exclude` block matches: it is dropped;
//! 3. an `include_any` block matches: it is kept;
//! 4. there are `include` blocks: it is kept if every one of them matches;
//! 5. otherwise it is kept if there is no `include_any` block.
//!
//! A block matches when all its conditions do. The first attribute with the key decides; without one the condition
//! fails. A regular expression may match anywhere in the text, and sees the empty text where an attribute is no text.
//!
//! # Where this differs from Tempo
//!
//! - `strict` compares the type, too. Tempo reads an attribute of another type as `""`, `0` or `false`, so that a
//!   strict `false` matches every text.
//! - Regular expressions are those of the crate `regex`: as in Go, but `\d`, `\w`, `\s` and `\b` know all of Unicode.
//! - At most 128 blocks may look at resources.

mod compile;
mod condition;
mod error;
mod key;
mod matcher;

#[cfg(test)]
mod tests;

pub use error::FilterError;
pub(crate) use matcher::Matcher;

use self::condition::{AttributeTest, SpanTest};
use crate::core::otlp::{Attributes, Span};
use crate::core::settings::FilterPolicy;

/// A bit for each block that looks at resources.
type Bits = u128;

/// Compiled policies.
#[derive(Debug, Default)]
pub struct Filter {
    exclude: Vec<PolicyBlock>,
    include_any: Vec<PolicyBlock>,
    include: Vec<PolicyBlock>,
}

/// What a resource means to a [`Filter`]: which blocks its spans can still match.
#[derive(Debug, Clone, Copy)]
pub struct ResourceVerdict {
    /// The blocks whose conditions on the resource all hold.
    matched: Bits,
    /// Set when the resource alone drops its spans.
    dropped: bool,
}

/// What the policies say of a span, and which of them has decided. Policies are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is kept.
    Kept,
    /// The `exclude` block of this policy matches it.
    Excluded(usize),
    /// There are `include_any` blocks and no `include` block, and none of them matches it.
    NoneOfAny,
    /// The `include` block of this policy does not match it.
    NotIncluded(usize),
}

/// Conditions that must all hold.
#[derive(Debug)]
struct PolicyBlock {
    /// The number of its policy.
    policy: usize,
    resource: Vec<AttributeTest>,
    /// The block's bit in a verdict; zero if it does not look at resources.
    bit: Bits,
    /// Intrinsics first: they are cheap.
    span: Vec<SpanTest>,
}

// === impl Filter ===

impl Filter {
    /// Compiles policies.
    ///
    /// # Errors
    /// For the first condition that cannot be understood.
    pub fn new(policies: &[FilterPolicy]) -> Result<Self, FilterError> {
        compile::filter(policies)
    }

    /// Whether every span is kept, whatever it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exclude.is_empty() && self.include_any.is_empty() && self.include.is_empty()
    }

    /// Evaluates a resource, once for all its spans.
    #[must_use]
    pub fn resource(&self, resource: &Attributes<'_>) -> ResourceVerdict {
        let blocks = self.exclude.iter().chain(&self.include_any).chain(&self.include);
        let looking = blocks.filter(|block| block.bit != 0);
        let matched = looking.filter(|block| block.resource.iter().all(|test| test.holds(resource)));
        let matched = matched.fold(0, |bits, block| bits | block.bit);
        let dropped = self.exclude.iter().any(|block| block.span.is_empty() && block.matches_resource(matched));
        ResourceVerdict { matched, dropped }
    }

    /// Whether a span of a resource is kept.
    #[inline]
    #[must_use]
    pub fn keeps(&self, resource: &ResourceVerdict, span: &Span<'_>) -> bool {
        self.is_empty() || (!resource.dropped && self.decide(resource, span) == Decision::Kept)
    }

    /// Which policy decides about a span of a resource.
    #[must_use]
    pub fn decide(&self, resource: &ResourceVerdict, span: &Span<'_>) -> Decision {
        let matches = |block: &&PolicyBlock| block.matches(resource.matched, span);
        if let Some(block) = self.exclude.iter().find(matches) {
            return Decision::Excluded(block.policy);
        }
        if self.include_any.iter().any(|block| matches(&block)) {
            return Decision::Kept;
        }
        match self.include.iter().find(|block| !matches(block)) {
            Some(block) => Decision::NotIncluded(block.policy),
            None if self.include.is_empty() && !self.include_any.is_empty() => Decision::NoneOfAny,
            None => Decision::Kept,
        }
    }
}

// === impl PolicyBlock ===

impl PolicyBlock {
    fn matches_resource(&self, matched: Bits) -> bool {
        self.bit & matched == self.bit
    }

    fn matches(&self, matched: Bits, span: &Span<'_>) -> bool {
        self.matches_resource(matched) && self.span.iter().all(|test| test.holds(span))
    }
}
