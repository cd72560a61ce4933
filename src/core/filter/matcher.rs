//! Policies that are evaluated for one resource after the other.

use super::{Filter, ResourceVerdict};
use crate::core::otlp::{Attributes, Span};
use crate::core::settings::FilterPolicy;

/// Policies with their verdict on the resource of the block that was started last.
#[derive(Debug)]
pub(crate) struct Matcher {
    filter: Filter,
    verdict: Option<ResourceVerdict>,
}

// === impl Matcher ===

impl Matcher {
    /// # Panics
    /// When a policy cannot be understood. Reading a configuration refuses such a one.
    pub(crate) fn new(policies: &[FilterPolicy]) -> Self {
        let filter = Filter::new(policies).expect("policies are checked when the configuration is read");
        Self { filter, verdict: None }
    }

    /// Starts with the spans of a resource.
    pub(crate) fn begin(&mut self, resource: &Attributes<'_>) {
        self.verdict = (!self.filter.is_empty()).then(|| self.filter.resource(resource));
    }

    /// Whether a span of that resource is kept. Without policies, every one is.
    pub(crate) fn matches(&self, span: &Span<'_>) -> bool {
        self.verdict.is_none_or(|verdict| self.filter.keeps(&verdict, span))
    }
}
