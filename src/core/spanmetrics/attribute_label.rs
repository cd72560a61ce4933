//! Labels from attributes of spans and resources.

use std::str::Utf8Error;

use super::wanted::{Found, Wanted};
use crate::core::model::LabelBuilder;
use crate::core::model::labels::most;
use crate::core::settings::labels::built_in;
use crate::core::settings::{Dimension, InvalidUtf8, Profile, Settings};

/// A label from one attribute, or from the first of several that has a text.
#[derive(Debug)]
pub(crate) struct AttributeLabel {
    name: String,
    slot: usize,
    /// The slots of those that stand in for it.
    or: Vec<usize>,
    default: Option<String>,
}

/// The attributes that labels are made from; the first that has one decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a>(&'a Found, &'a Found);

/// What the labels of all metrics beside those of span metrics have in common.
#[derive(Debug)]
pub(crate) struct Labeling {
    /// The names of the labels with service, span name, span kind, status code and status message.
    pub(crate) built_in: [&'static str; 5],
    /// The Collector looks at the span before the resource, Tempo the other way round.
    span_first: bool,
    /// U+FFFD replaces invalid UTF-8.
    pub(crate) repairs: bool,
    limits: (usize, usize),
    /// No label's value is longer.
    pub(crate) most: usize,
}

// === impl Sources ===

impl<'a> Sources<'a> {
    /// The Collector looks at the span before the resource, Tempo the other way round.
    pub(crate) fn new(span_first: bool, of_resource: &'a Found, of_span: &'a Found) -> Self {
        if span_first { Self(of_span, of_resource) } else { Self(of_resource, of_span) }
    }

    pub(super) fn get(self, slot: usize) -> Option<&'a [u8]> {
        self.0.get(slot).or_else(|| self.1.get(slot))
    }
}

// === impl AttributeLabel ===

impl AttributeLabel {
    /// The label `name` of a dimension.
    pub(crate) fn new(name: String, dimension: &Dimension, wanted: &mut Wanted) -> Self {
        Self {
            name,
            slot: wanted.slot(&dimension.name),
            or: dimension.or.iter().map(|other| wanted.slot(other)).collect(),
            default: dimension.default.clone(),
        }
    }

    /// Its value. Without attributes that stand in for the first one, an empty text counts, too.
    #[inline]
    pub(crate) fn value<'a>(&self, sources: Sources<'a>) -> Option<&'a [u8]> {
        let first = sources.get(self.slot);
        if self.or.is_empty() {
            return first;
        }
        let others = self.or.iter().filter_map(|&slot| sources.get(slot));
        first.into_iter().chain(others).find(|text| !text.is_empty())
    }

    /// Sets it to its value, or to its default.
    pub(crate) fn set(&self, labels: &mut LabelBuilder, sources: Sources<'_>) -> Result<(), Utf8Error> {
        match self.value(sources) {
            Some(text) => labels.set_bytes(&self.name, text),
            None => {
                labels.set(&self.name, self.default.as_deref().unwrap_or_default());
                Ok(())
            }
        }
    }
}

// === impl Labeling ===

impl Labeling {
    pub(crate) fn new(config: &Settings) -> Self {
        Self {
            built_in: built_in(config.naming.profile),
            span_first: config.naming.profile == Profile::Otel,
            repairs: config.naming.invalid_utf8 == InvalidUtf8::Replace,
            limits: (config.limits.max_label_name_length, config.limits.max_label_value_length),
            most: most(config.limits.max_label_value_length),
        }
    }

    pub(crate) fn sources<'a>(&self, of_resource: &'a Found, of_span: &'a Found) -> Sources<'a> {
        Sources::new(self.span_first, of_resource, of_span)
    }

    /// Sets the tenant's limits in the builder, and how it handles invalid text.
    pub(crate) fn begin(&self, labels: &mut LabelBuilder) {
        labels.limit(self.limits.0, self.limits.1);
        labels.repair(self.repairs);
    }

    /// Whether attributes of the span are looked for before those of its resource.
    pub(crate) fn is_span_first(&self) -> bool {
        self.span_first
    }
}
