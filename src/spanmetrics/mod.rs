//! Span metrics: calls, latency and size of every span.
//!
//! *In:* the spans of a record. *Out:* deltas in a [`DeltaTable`], and one tally for each span. *Owner:* one span task.
//! *Never:* an allocation for a label set that is known, a label that is not UTF-8. *Next:* [`crate::deltas`].
//!
//! A span finds its label set by a raw key: the bytes of everything that becomes a label. Labels are built, and their text
//! is checked, only when the key is new. A key that cannot become labels stays unknown, so that every one of its spans is
//! dropped and tallied.

use std::str::Utf8Error;
use std::sync::Arc;

use crate::config::settings::{Config, Intrinsic};
use crate::deltas::{Define, DeltaTable, route};
use crate::model::wire::put_bytes;
use crate::model::{Family, LabelBuilder, Layout, Ledger, Millis, Tally, Weight};
use crate::otlp::{Attributes, Span};

/// The first byte of this room's raw keys in the delta table.
const KEY_SPACE: u8 = b's';
/// Counters and histograms of [`Family::SpanMetrics`], in cell order.
const CALLS: usize = 0;
const SIZE: usize = 1;
const LATENCY: usize = 0;

const KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
const STATUSES: [&str; 3] = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

/// Counts spans.
#[derive(Debug)]
pub struct SpanMetrics {
    layout: Arc<Layout>,
    intrinsic: Intrinsic,
    exemplars: bool,
    /// A raw key under construction; its first `prefix` bytes are those of the block.
    key: Vec<u8>,
    prefix: usize,
}

/// The spans of one resource.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The resource's `service.name`; empty if it has none.
    pub service: &'a [u8],
    /// The resource's attributes.
    pub resource: Attributes<'a>,
}

impl SpanMetrics {
    /// Counts as the settings of a tenant say.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let (settings, exemplars) = (&config.span_metrics, config.series.exemplars);
        Self {
            layout: Arc::new(Layout::new(Family::SpanMetrics, &settings.bounds_ns)),
            intrinsic: settings.intrinsic,
            exemplars,
            key: Vec::new(),
            prefix: 0,
        }
    }

    /// Starts with the spans of one resource.
    pub fn block(&mut self, block: &Block<'_>) {
        self.key.clear();
        self.key.push(KEY_SPACE);
        put_bytes(&mut self.key, block.tenant.as_bytes());
        if self.intrinsic.service {
            put_bytes(&mut self.key, block.service);
        }
        self.prefix = self.key.len();
    }

    /// Counts one span of the block that was started last.
    pub fn span(&mut self, block: &Block<'_>, span: &Span<'_>, table: &mut DeltaTable, ledger: &mut Ledger) {
        self.complete_key(span);
        let (intrinsic, layout) = (self.intrinsic, &self.layout);
        let Ok(set) = table.find(&self.key, |labels| define(labels, intrinsic, block, span, layout)) else {
            return ledger.add(Tally::SpansDroppedInvalidUtf8, 1);
        };
        ledger.add(Tally::SpansCounted, 1);
        table.add(set, CALLS, 1);
        table.add(set, SIZE, u64::from(span.size));
        table.observe(set, LATENCY, span.end_ns.saturating_sub(span.start_ns), Weight::ONE, self.example(span));
    }

    fn complete_key(&mut self, span: &Span<'_>) {
        self.key.truncate(self.prefix);
        if self.intrinsic.span_name {
            put_bytes(&mut self.key, span.name);
        }
        if self.intrinsic.span_kind {
            self.key.extend_from_slice(&span.kind.to_le_bytes());
        }
        if self.intrinsic.status_code {
            self.key.extend_from_slice(&span.status_code.to_le_bytes());
        }
        if self.intrinsic.status_message {
            put_bytes(&mut self.key, span.status_message);
        }
    }

    fn example(&self, span: &Span<'_>) -> Option<(Millis, [u8; 16])> {
        let id = <[u8; 16]>::try_from(span.trace_id).ok().filter(|id| self.exemplars && *id != [0; 16])?;
        Some(((span.end_ns / 1_000_000) as Millis, id))
    }
}

fn define(
    labels: &mut LabelBuilder,
    intrinsic: Intrinsic,
    block: &Block<'_>,
    span: &Span<'_>,
    layout: &Arc<Layout>,
) -> Result<Define, Utf8Error> {
    if intrinsic.service {
        labels.set("service", std::str::from_utf8(block.service)?);
    }
    if intrinsic.span_name {
        labels.set("span_name", std::str::from_utf8(span.name)?);
    }
    if intrinsic.span_kind {
        set_enum(labels, "span_kind", span.kind, &KINDS);
    }
    if intrinsic.status_code {
        set_enum(labels, "status_code", span.status_code, &STATUSES);
    }
    if intrinsic.status_message {
        labels.set("status_message", std::str::from_utf8(span.status_message)?);
    }
    Ok(Define { tenant: block.tenant.into(), layout: Arc::clone(layout), route: route(block.tenant, block.service) })
}

/// Sets the name of an enum value, or the number if it has none.
fn set_enum(labels: &mut LabelBuilder, label: &str, number: i32, names: &[&str]) {
    match usize::try_from(number).ok().and_then(|i| names.get(i)) {
        Some(name) => labels.set(label, name),
        None => labels.set(label, &number.to_string()),
    }
}
