//! Which labels a span gets: the settings of a tenant, compiled.

use std::str::Utf8Error;

use super::SpanBlock;
use super::attribute_label::{AttributeLabel, Sources};
use super::wanted::{Found, Wanted};
use crate::core::deltas::{Pieces, RawKey};
use crate::core::model::LabelBuilder;
use crate::core::model::labels::{cut_bytes, most};
use crate::core::model::span::{KINDS, STATUSES};
use crate::core::otlp::{Scope, Span};
use crate::core::settings::labels::{SCOPE_LABELS, built_in, dimension_label};
use crate::core::settings::{Dimension, Intrinsic, InvalidUtf8, Profile, Settings};

/// The labels of a tenant's spans, in the order in which they are set.
#[derive(Debug)]
pub(super) struct LabelPlan {
    built_in: [&'static str; 5],
    pub(super) intrinsic: Intrinsic,
    pub(super) wanted: Wanted,
    span_first: bool,
    dimensions: Vec<AttributeLabel>,
    calls: Vec<AttributeLabel>,
    latency: Vec<AttributeLabel>,
    mappings: Vec<Mapping>,
    scopes: Vec<Box<[u8]>>,
    /// U+FFFD replaces invalid UTF-8.
    pub(super) repairs: bool,
    limits: (usize, usize),
    /// No label's value is longer.
    most: usize,
}

/// A label from several.
#[derive(Debug)]
struct Mapping {
    name: String,
    slots: Vec<usize>,
    join: String,
}

/// Which labels a label set has besides those that all have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extra {
    None,
    Calls,
    Latency,
}

/// A span with everything that its labels are made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) block: &'a SpanBlock<'a>,
    pub(super) span: &'a Span<'a>,
    /// The span's name, or what the sanitizer made of it; see [`LabelPlan::cut`].
    pub(super) name: &'a [u8],
    pub(super) of_resource: &'a Found,
    pub(super) of_span: &'a Found,
    /// Empty: no label.
    pub(super) job: &'a [u8],
    /// Empty: no label.
    pub(super) instance: &'a [u8],
}

/// The raw key of a span whose calls and latency have the same labels.
#[derive(Debug)]
pub(super) struct SpanKey<'a> {
    pub(super) plan: &'a LabelPlan,
    pub(super) subject: &'a Subject<'a>,
}

/// Checks the pieces of a key that must be text.
#[derive(Debug)]
struct Texts {
    valid: bool,
}

impl Pieces for Texts {
    fn word(&mut self, _: u64) {}

    fn text(&mut self, text: Option<&[u8]>) {
        self.valid &= text.is_none_or(|text| std::str::from_utf8(text).is_ok());
    }
}

impl RawKey for SpanKey<'_> {
    #[inline]
    fn visit(&self, pieces: &mut impl Pieces) {
        self.plan.key(self.subject, pieces);
    }
}

// === impl LabelPlan ===

impl LabelPlan {
    pub(super) fn new(config: &Settings) -> Self {
        let settings = &config.span_metrics;
        let mut wanted = Wanted::new(config);
        let mut labels = |dimensions: &[Dimension]| {
            let mut label = |d: &Dimension| AttributeLabel::new(dimension_label(config, &d.name), d, &mut wanted);
            dimensions.iter().map(&mut label).collect::<Vec<_>>()
        };
        let dimensions = labels(&settings.dimensions);
        let (calls, latency) = (labels(&settings.calls_dimensions), labels(&settings.latency_dimensions));
        let mappings = settings.dimension_mappings.iter().map(|m| Mapping {
            name: dimension_label(config, &m.name),
            slots: m.source_labels.iter().map(|key| wanted.slot(key)).collect(),
            join: m.join.clone(),
        });
        Self {
            built_in: built_in(config.naming.profile),
            intrinsic: settings.intrinsic,
            span_first: config.naming.profile == Profile::Otel,
            mappings: mappings.collect(),
            wanted,
            dimensions,
            calls,
            latency,
            scopes: settings.scopes.iter().map(|name| name.as_bytes().into()).collect(),
            repairs: config.naming.invalid_utf8 == InvalidUtf8::Replace,
            limits: (config.limits.max_label_name_length, config.limits.max_label_value_length),
            most: most(config.limits.max_label_value_length),
        }
    }

    /// Whether calls and latency have different labels.
    pub(super) fn splits(&self) -> bool {
        !self.calls.is_empty() || !self.latency.is_empty()
    }

    /// Sets the tenant's limits in the builder, and how it handles invalid text.
    pub(super) fn limit(&self, labels: &mut LabelBuilder) {
        labels.limit(self.limits.0, self.limits.1);
        labels.repair(self.repairs);
    }

    /// Whether everything that becomes labels of a span is text, the resource's part apart.
    pub(super) fn is_text(&self, subject: &Subject<'_>) -> bool {
        let mut texts = Texts { valid: true };
        self.key(subject, &mut texts);
        self.put_extra(Extra::Calls, subject, &mut texts);
        self.put_extra(Extra::Latency, subject, &mut texts);
        texts.valid
    }

    /// As much of a text as a label has of it. Attributes were cut when they were read.
    #[inline]
    pub(super) fn cut<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        if text.len() <= self.most { text } else { cut_bytes(text, self.most) }
    }

    fn extra(&self, extra: Extra) -> &[AttributeLabel] {
        match extra {
            Extra::None => &[],
            Extra::Calls => &self.calls,
            Extra::Latency => &self.latency,
        }
    }

    /// The span's scope, if it becomes labels.
    fn scope<'a>(&self, subject: &Subject<'a>) -> Option<Scope<'a>> {
        if self.scopes.is_empty() {
            return None;
        }
        let scope = subject.block.spans.scope(subject.span.ordinal);
        self.scopes.iter().any(|name| **name == *scope.name).then_some(scope)
    }

    fn sources<'a>(&self, subject: &Subject<'a>) -> Sources<'a> {
        Sources::new(self.span_first, subject.of_resource, subject.of_span)
    }

    /// The part of a raw key that all label sets of the span share. The resource's part comes before it.
    #[inline]
    pub(super) fn key(&self, subject: &Subject<'_>, pieces: &mut impl Pieces) {
        let (intrinsic, span) = (self.intrinsic, subject.span);
        if intrinsic.span_name {
            pieces.text(Some(subject.name));
        }
        let number = |is_label, number: i32| if is_label { u64::from(number.cast_unsigned()) } else { 0 };
        pieces.word(number(intrinsic.span_kind, span.kind) | number(intrinsic.status_code, span.status_code) << 32);
        if intrinsic.status_message {
            pieces.text(Some(self.cut(span.status_message)));
        }
        if !self.scopes.is_empty() {
            let scope = self.scope(subject);
            pieces.text(scope.map(|s| s.name));
            pieces.text(scope.map(|s| self.cut(s.version)));
        }
        let sources = self.sources(subject);
        for label in &self.dimensions {
            pieces.text(label.value(sources));
        }
        for slot in self.mappings.iter().flat_map(|m| &m.slots) {
            pieces.text(sources.get(*slot));
        }
    }

    /// Appends to a raw key what only one of the span's label sets has.
    pub(super) fn put_extra(&self, extra: Extra, subject: &Subject<'_>, key: &mut impl Pieces) {
        for label in self.extra(extra) {
            key.text(label.value(self.sources(subject)));
        }
    }

    /// Sets the labels.
    pub(super) fn label(
        &self,
        labels: &mut LabelBuilder,
        subject: &Subject<'_>,
        extra: Extra,
    ) -> Result<(), Utf8Error> {
        self.limit(labels);
        self.label_intrinsics(labels, subject)?;
        let sources = self.sources(subject);
        for label in self.dimensions.iter().chain(self.extra(extra)) {
            label.set(labels, sources)?;
        }
        for mapping in &self.mappings {
            let values = mapping.slots.iter().filter_map(|&slot| sources.get(slot));
            let values: Vec<_> = values.filter(|text| !text.is_empty()).collect();
            labels.set_bytes(&mapping.name, &values.join(mapping.join.as_bytes()))?;
        }
        if let Some(scope) = self.scope(subject) {
            labels.set_bytes(SCOPE_LABELS[0], scope.name)?;
            labels.set_bytes(SCOPE_LABELS[1], scope.version)?;
        }
        label_origin(labels, subject.job, subject.instance)
    }

    fn label_intrinsics(&self, labels: &mut LabelBuilder, subject: &Subject<'_>) -> Result<(), Utf8Error> {
        let [service, span_name, span_kind, status_code, status_message] = self.built_in;
        let (intrinsic, span) = (self.intrinsic, subject.span);
        if intrinsic.service {
            labels.set_bytes(service, subject.block.service)?;
        }
        if intrinsic.span_name {
            labels.set_bytes(span_name, subject.name)?;
        }
        if intrinsic.span_kind {
            set_enum(labels, span_kind, span.kind, &KINDS);
        }
        if intrinsic.status_code {
            set_enum(labels, status_code, span.status_code, &STATUSES);
        }
        if intrinsic.status_message {
            labels.set_bytes(status_message, span.status_message)?;
        }
        Ok(())
    }
}

/// Sets `job` and `instance`. An empty one leaves a dimension of that name alone.
pub(super) fn label_origin(labels: &mut LabelBuilder, job: &[u8], instance: &[u8]) -> Result<(), Utf8Error> {
    for (name, value) in [("job", job), ("instance", instance)] {
        if !value.is_empty() {
            labels.set_bytes(name, value)?;
        }
    }
    Ok(())
}

/// Sets the name of an enum value, or the number if it has none.
pub(crate) fn set_enum(labels: &mut LabelBuilder, label: &str, number: i32, names: &[&str]) {
    match usize::try_from(number).ok().and_then(|i| names.get(i)) {
        Some(name) => labels.set(label, name),
        None => labels.set(label, &number.to_string()),
    }
}
