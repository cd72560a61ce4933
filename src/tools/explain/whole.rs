//! What the spans of a trace come to together: the trace goes through the task that a worker runs, with metrics of whole traces alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::report::WholeTrace;
use super::series::{Grown, SeriesSet, Value, grown};
use super::{ExplainError, FoundSpan, undivided};
use crate::core::model::{Counter, Millis};
use crate::core::series::TenantBook;
use crate::core::settings::{Settings, SloSubject, Tenants};
use crate::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask};

/// Whether any tenant has metrics of whole traces.
pub(super) fn is_enabled(settings: &SpanSettings) -> bool {
    let mut all = std::iter::once(settings.tenants.defaults()).chain(settings.tenants.overridden().map(|(_, own)| own));
    all.any(|own| own.traces.is_enabled())
}

/// What a trace of one partition adds up to. With `until`, the source was read up to that stream time, and is not over.
pub(super) fn of_trace<'f>(
    settings: &SpanSettings,
    book: &TenantBook,
    found: impl Iterator<Item = &'f FoundSpan>,
    until: Option<Millis>,
) -> Result<WholeTrace, ExplainError> {
    let mut task = SpanTask::new(&alone(settings), "explain".to_owned(), 0, Restored::default())?;
    let mut cuts = Vec::new();
    for (offset, span) in (0..).zip(found) {
        let record = Record { offset, timestamp: span.at, tenant: span.tenant.as_deref(), value: &span.request };
        while let Offer::CutFirst { cut } = task.offer(&record, crate::core::model::MAX_TIME) {
            cuts.push(*cut);
        }
    }
    match until {
        None => cuts.extend(task.finish(true)),
        Some(until) => {
            while let Some(cut) = task.tick(until) {
                cuts.push(cut);
            }
            cuts.extend(task.cut());
        }
    }
    let closed = [Counter::TracesClosedIdle, Counter::TracesClosedAge, Counter::TracesClosedFull];
    let closed = closed.iter().map(|counter| task.ledger().get(*counter)).sum();
    Ok(WholeTrace {
        closed,
        open_spans: task.open_trace_spans() as u64,
        late_spans: task.ledger().get(Counter::TraceSpansLate),
        series: merged(grown(&cuts, book)?),
    })
}

/// The settings with metrics of whole traces alone.
fn alone(settings: &SpanSettings) -> SpanSettings {
    let alone = |own: &Arc<Settings>| {
        let mut own = (**own).clone();
        (own.span_metrics.enabled, own.service_graphs.enabled, own.host_info.enabled) = (false, false, false);
        own.slos.retain(|slo| slo.of == SloSubject::Traces);
        own.attribute_metrics.clear();
        own.attribute_metrics_presets.clear();
        Arc::new(own)
    };
    let overridden = settings.tenants.overridden().map(|(name, own)| (name.to_owned(), alone(own))).collect();
    undivided(settings, Tenants::new(alone(settings.tenants.defaults()), overridden))
}

/// Label sets that came in several cuts, once each; those of one metric beside each other.
fn merged(all: Vec<Grown>) -> Vec<SeriesSet> {
    let mut sets: BTreeMap<(u8, String, Vec<(String, String)>), Vec<Value>> = BTreeMap::new();
    for Grown { family, set } in all {
        let SeriesSet { tenant, labels, metrics } = set;
        let known = sets.entry((family as u8, tenant, labels)).or_default();
        for value in metrics {
            match known.iter_mut().find(|other| other.name() == value.name()) {
                Some(other) => other.add(&value),
                None => known.push(value),
            }
        }
    }
    let set = |((_, tenant, labels), metrics)| SeriesSet { tenant, labels, metrics };
    sets.into_iter().map(set).collect()
}
