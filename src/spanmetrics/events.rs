//! The counter of span events.

use std::str::Utf8Error;
use std::sync::Arc;

use super::plan::{Extra, Plan, Subject, label_origin};
use super::spec::spec;
use super::wanted::{Found, Wanted};
use crate::config::labels::dimension_label;
use crate::config::settings::Config;
use crate::deltas::{DeltaTable, Pieces as _, SetId};
use crate::model::{Family, Layout};
use crate::otlp::SpanEvent;

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
    /// The slot among the attributes of the event; `None`: the event's name.
    slot: Option<usize>,
    /// The slot among those of its span.
    of_span: usize,
    default: Option<String>,
}

// === impl Events ===

impl Events {
    /// `plan` learns which attributes of a span stand in for those of its events.
    pub(super) fn new(config: &Config, plan: &mut Plan, weighted: bool) -> Self {
        let mut wanted = Wanted::default();
        let dimensions = config.span_metrics.event_dimensions.iter().map(|d| EventLabel {
            name: dimension_label(config, &d.name),
            slot: (d.name != EVENT_NAME).then(|| wanted.slot(&d.name)),
            of_span: plan.wanted.slot(&d.name),
            default: d.default.clone(),
        });
        Self {
            dimensions: dimensions.collect(),
            layout: Arc::new(Layout::of(&spec(config, Family::SpanEvents, weighted, &[]))),
            wanted,
            found: Found::default(),
        }
    }

    /// The label set of an event. `key` holds what all label sets of its span share.
    ///
    /// # Errors
    /// When a label is not UTF-8.
    pub(super) fn find(
        &mut self,
        event: &SpanEvent<'_>,
        subject: &Subject<'_>,
        plan: &Plan,
        key: &mut Vec<u8>,
        table: &mut DeltaTable,
    ) -> Result<SetId, Utf8Error> {
        self.wanted.read(event.attributes, &mut self.found);
        for dimension in &self.dimensions {
            key.text(dimension.value(event, &self.found, subject));
        }
        table.find(key, |labels| {
            plan.label(labels, subject, Extra::None)?;
            for dimension in &self.dimensions {
                match dimension.value(event, &self.found, subject) {
                    Some(text) => labels.set_bytes(&dimension.name, text)?,
                    None => labels.set(&dimension.name, dimension.default.as_deref().unwrap_or_default()),
                }
            }
            label_origin(labels, subject.job, subject.instance)?;
            Ok(subject.block.define(&self.layout))
        })
    }
}

// === impl EventLabel ===

impl EventLabel {
    /// The event knows better than its span.
    fn value<'a>(&self, event: &SpanEvent<'a>, found: &'a Found, subject: &Subject<'a>) -> Option<&'a [u8]> {
        match self.slot {
            None => Some(event.name),
            Some(slot) => found.get(slot).or_else(|| subject.of_span.get(self.of_span)),
        }
    }
}
