//! The counter of span events.

use std::str::Utf8Error;
use std::sync::Arc;

use super::plan::{Extra, LabelPlan, Subject, label_origin};
use super::spec::spec;
use super::wanted::{Found, Wanted};
use crate::core::deltas::{DeltaTable, Pieces as _, SetId};
use crate::core::model::{Family, Layout};
use crate::core::otlp::SpanEvent;
use crate::core::settings::Settings;
use crate::core::settings::labels::dimension_label;

/// Not an attribute: the name of the event.
const EVENT_NAME: &str = "event.name";

/// The label sets of span events.
#[derive(Debug)]
pub(super) struct Events {
    layout: Arc<Layout>,
    wanted: Wanted,
    found: Found,
    dimensions: Vec<EventLabel>,
}

#[derive(Debug)]
struct EventLabel {
    name: String,
    /// The attribute, and those that stand in for it.
    first: EventSource,
    or: Vec<EventSource>,
    default: Option<String>,
}

#[derive(Debug)]
struct EventSource {
    /// The slot among the attributes of the event; `None`: the event's name.
    slot: Option<usize>,
    /// The slot among those of its span.
    of_span: usize,
}

// === impl Events ===

impl Events {
    /// `plan` learns which attributes of a span stand in for those of its events.
    pub(super) fn new(config: &Settings, plan: &mut LabelPlan, weighted: bool) -> Self {
        let mut wanted = Wanted::new(config);
        let mut source = |name: &String| EventSource {
            slot: (name != EVENT_NAME).then(|| wanted.slot(name)),
            of_span: plan.wanted.slot(name),
        };
        let dimensions = config.span_metrics.event_dimensions.iter().map(|d| EventLabel {
            name: dimension_label(config, &d.name),
            first: source(&d.name),
            or: d.or.iter().map(&mut source).collect(),
            default: d.default.clone(),
        });
        let dimensions = dimensions.collect();
        Self {
            dimensions,
            layout: Arc::new(Layout::of(&spec(config, Family::SpanEvents, weighted, &[]))),
            wanted,
            found: Found::default(),
        }
    }

    /// The label set of an event, and whether something of the event itself was no text and is repaired. `key` holds what all
    /// label sets of its span share.
    ///
    /// # Errors
    /// When a label is not UTF-8.
    pub(super) fn find(
        &mut self,
        event: &SpanEvent<'_>,
        subject: &Subject<'_>,
        plan: &LabelPlan,
        key: &mut Vec<u8>,
        table: &mut DeltaTable,
    ) -> Result<(SetId, bool), Utf8Error> {
        self.wanted.read(event.attributes, &mut self.found);
        let mut repaired = false;
        for dimension in &self.dimensions {
            let text = dimension.value(event, &self.found, subject).map(|text| plan.cut(text));
            repaired |= plan.repairs && text.is_some_and(|text| std::str::from_utf8(text).is_err());
            key.text(text);
        }
        let set = table.find(key, |labels| {
            plan.label(labels, subject, Extra::None)?;
            for dimension in &self.dimensions {
                match dimension.value(event, &self.found, subject) {
                    Some(text) => labels.set_bytes(&dimension.name, text)?,
                    None => labels.set(&dimension.name, dimension.default.as_deref().unwrap_or_default()),
                }
            }
            label_origin(labels, subject.job, subject.instance)?;
            Ok(subject.block.define(&self.layout))
        })?;
        Ok((set, repaired))
    }
}

// === impl EventLabel ===

impl EventLabel {
    fn value<'a>(&self, event: &SpanEvent<'a>, found: &'a Found, subject: &Subject<'a>) -> Option<&'a [u8]> {
        let first = self.first.value(event, found, subject);
        if self.or.is_empty() {
            return first;
        }
        let others = self.or.iter().filter_map(|other| other.value(event, found, subject));
        first.into_iter().chain(others).find(|text| !text.is_empty())
    }
}

// === impl EventSource ===

impl EventSource {
    /// The event's attribute takes precedence over the span's.
    fn value<'a>(&self, event: &SpanEvent<'a>, found: &'a Found, subject: &Subject<'a>) -> Option<&'a [u8]> {
        match self.slot {
            None => Some(event.name),
            Some(slot) => found.get(slot).or_else(|| subject.of_span.get(self.of_span)),
        }
    }
}
