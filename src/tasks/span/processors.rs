//! Everything that the spans of a task flow through.

use std::borrow::Cow;

use super::{Record, SpanSettings};
use crate::deltas::DeltaTable;
use crate::model::{Ledger, Millis, Tally};
use crate::otlp::{Batch, ResourceSpans};
use crate::servicegraph::{Pairing, Sink};
use crate::spanmetrics::{Block, SpanMetrics};

/// The processors and what they add to.
#[derive(Debug)]
pub(super) struct Processors {
    pub(super) span_metrics: Option<SpanMetrics>,
    pub(super) pairing: Option<Pairing>,
    pub(super) table: DeltaTable,
    pub(super) ledger: Ledger,
}

impl Processors {
    /// Pairing is always there at first: switching it off settles what it has left behind.
    pub(super) fn new(s: &SpanSettings, ledger: Ledger) -> Self {
        Self {
            span_metrics: s.span_metrics.enabled.then(|| SpanMetrics::new(&s.span_metrics, s.exemplars)),
            pairing: Some(Pairing::new(&s.service_graphs, s.exemplars)),
            table: DeltaTable::new(s.respell_after),
            ledger,
        }
    }

    /// Settles the edges whose time is up.
    pub(super) fn expire(&mut self, stream_time: Millis) {
        if let Some(pairing) = &mut self.pairing {
            pairing.expire(stream_time, &mut Sink { table: &mut self.table, ledger: &mut self.ledger });
        }
    }

    /// Counts and pairs the spans of a decoded record.
    pub(super) fn record(&mut self, batch: &Batch, record: &Record<'_>, tenant: &str, stream_time: Millis) {
        let Self { span_metrics, pairing, table, ledger } = self;
        let mut pairing = pairing.as_mut().map(|p| (p.record(tenant, record.offset, stream_time), p));
        for resource_spans in batch.resources(record.value) {
            let service = service_of(&resource_spans);
            let block = Block { tenant, service: service.as_deref().unwrap_or_default() };
            if let Some(span_metrics) = span_metrics {
                span_metrics.block(&block);
            }
            let mut graph = pairing
                .as_mut()
                .map(|(at, pairing)| (pairing.block(*at, service.as_deref(), resource_spans.resource), pairing));
            for span in resource_spans.spans() {
                ledger.add(Tally::SpansRead, 1);
                match span_metrics {
                    Some(span_metrics) => span_metrics.span(&block, &span, table, ledger),
                    None => ledger.add(Tally::SpansDroppedDisabled, 1),
                }
                if let Some((block, pairing)) = &mut graph {
                    pairing.span(block, &span, &mut Sink { table, ledger });
                }
            }
        }
    }

    /// Rebuilds half edges from a decoded record that a commit covers.
    pub(super) fn rebuild(&mut self, batch: &Batch, record: &Record<'_>, tenant: &str) {
        let Some(pairing) = &mut self.pairing else { return };
        // The time does not matter: what opens here was created when the list says so.
        let at = pairing.record(tenant, record.offset, 0);
        for resource_spans in batch.resources(record.value) {
            let service = service_of(&resource_spans);
            let block = pairing.block(at, service.as_deref(), resource_spans.resource);
            resource_spans.spans().for_each(|span| pairing.rebuild_span(&block, &span));
        }
    }

    /// Ends rebuilding.
    pub(super) fn finish_rebuild(&mut self) {
        if let Some(pairing) = &mut self.pairing {
            pairing.finish_rebuild(&mut Sink { table: &mut self.table, ledger: &mut self.ledger });
        }
    }
}

/// The first `service.name`, as text.
fn service_of<'a>(resource_spans: &ResourceSpans<'a>) -> Option<Cow<'a, [u8]>> {
    resource_spans.resource.get(b"service.name").map(|value| value.text())
}
