//! The processors of a task's spans.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::clock::SpanClock;
use super::sample::TraceSample;
use super::waiting::{self, Waiting};
use super::{Record, SpanSettings};
use crate::core::attribute_metrics::AttributeMetrics;
use crate::core::deltas::{DeltaTable, Limited};
use crate::core::duplicates::{SeenSpans, Sighting};
use crate::core::hostinfo::HostInfo;
use crate::core::model::text::is_tenant;
use crate::core::model::wire::Malformed;
use crate::core::model::{Counter, Ledger, Millis};
use crate::core::otlp::{Batch, ResourceSpans};
use crate::core::servicegraph::{Pairing, Sink, Waited};
use crate::core::settings::{Settings, Tenants};
use crate::core::slo::Slos;
use crate::core::spanmetrics::{SpanBlock, SpanMetrics};
use crate::core::traces::{Closing, TraceSink, TraceWindow};

/// The processors and what they add to.
#[derive(Debug)]
pub(super) struct Processors {
    tenants: ByTenant,
    pub(super) pairing: Pairing,
    /// Open traces; `None` while no tenant has metrics of them.
    pub(super) window: Option<Box<TraceWindow>>,
    /// Spans that came of late; `None` while duplicates are not looked for.
    pub(super) seen: Option<Box<SeenSpans>>,
    /// The ordinals of duplicates in the present record.
    duplicates: Vec<u32>,
    pub(super) table: DeltaTable,
    pub(super) ledger: Ledger,
    pub(super) sample: TraceSample,
}

/// What differs from tenant to tenant.
#[derive(Debug)]
struct ByTenant {
    /// The resource attribute that names the tenant, if one does.
    attribute: Option<Box<[u8]>>,
    /// The first is for all tenants without overrides.
    rooms: Vec<Rooms>,
    overridden: BTreeMap<String, usize>,
}

/// The processors of one tenant that need no state.
#[derive(Debug)]
struct Rooms {
    span_metrics: Option<SpanMetrics>,
    host_info: Option<HostInfo>,
    slos: Option<Slos>,
    attribute_metrics: Option<AttributeMetrics>,
}

// === impl Processors ===

impl Processors {
    pub(super) fn new(s: &SpanSettings, ledger: Ledger) -> Self {
        let mut table = DeltaTable::seeded(s.respell_after, s.seed, s.namer.clone());
        table.set_limited(limited(&s.tenants));
        tell(&mut table, s);
        let (tenants, pairing) = (ByTenant::new(s), Pairing::seeded(&s.tenants, s.seed));
        let window = TraceWindow::new(&s.tenants, s.seed).map(Box::new);
        let seen = SeenSpans::new(&s.tenants.defaults().duplicates, s.seed).map(Box::new);
        let (sample, duplicates) = (TraceSample::default(), Vec::new());
        Self { tenants, pairing, window, seen, duplicates, table, ledger, sample }
    }

    /// Continues with other settings. Pending edges and open traces are kept.
    pub(super) fn reconfigure(&mut self, s: &SpanSettings) {
        self.tenants = ByTenant::new(s);
        self.pairing.reconfigure(&s.tenants);
        match &mut self.window {
            Some(window) => window.reconfigure(&s.tenants),
            None => self.window = TraceWindow::new(&s.tenants, s.seed).map(Box::new),
        }
        self.table.forget_keys();
        self.table.set_limited(limited(&s.tenants));
        tell(&mut self.table, s);
    }

    /// Settles the edges whose wait is over, and closes the traces that are due. With a clock each belongs to the step in
    /// which the wait after its span ends.
    pub(super) fn expire(&mut self, stream_time: Millis, clock: Option<&SpanClock>) {
        let ahead = |waited| clock.map_or(0, |clock| clock.ahead_of_waited(stream_time, waited));
        self.pairing.expire(stream_time, ahead, &mut Sink { table: &mut self.table, ledger: &mut self.ledger });
        if let Some(window) = &mut self.window {
            let mut sink = TraceSink { table: &mut self.table, ledger: &mut self.ledger };
            window.close_due(stream_time, |closing| ahead(waited(closing)), &mut sink);
        }
    }

    /// When the wait of the next pending edge ends, or the next trace is due.
    pub(super) fn next_due(&mut self) -> Option<Millis> {
        let of_traces = self.window.as_mut().and_then(|window| window.next_due());
        self.pairing.next_due().into_iter().chain(of_traces).min()
    }

    /// When nothing waits any more, if nothing comes after `stream_time`; `None` if nothing waits now.
    pub(super) fn all_due(&self, stream_time: Millis) -> Option<Millis> {
        let of_edges = self.pairing.waits().then(|| stream_time.saturating_add(self.pairing.wait()));
        let of_traces = self.window.as_ref().and_then(|window| window.last_due());
        of_edges.max(of_traces)
    }

    /// Removes the spans of a decoded record that came before. They are read, and counted as duplicates.
    pub(super) fn drop_duplicates(
        &mut self,
        batch: &mut Batch,
        record: &Record<'_>,
        tenant: &str,
        stream_time: Millis,
    ) {
        let Some(seen) = &mut self.seen else { return };
        seen.turn_to(record.offset, stream_time);
        let forgotten = self.look_for_duplicates(batch, record, tenant);
        self.ledger.add(Counter::SpansNotRemembered, forgotten);
        let dropped = self.duplicates.len() as u64;
        self.ledger.add(Counter::SpansRead, dropped);
        self.ledger.add(Counter::SpansDroppedDuplicate, dropped);
    }

    /// Removes from a decoded record what came before; returns how many of the rest are not remembered.
    fn look_for_duplicates(&mut self, batch: &mut Batch, record: &Record<'_>, tenant: &str) -> u64 {
        let Self { tenants, seen: Some(seen), duplicates, .. } = self else { return 0 };
        duplicates.clear();
        let mut forgotten = 0;
        for resource_spans in batch.resources(record.value) {
            let tenant = seen.tenant(&tenants.name(tenant, &resource_spans));
            for span in resource_spans.spans() {
                match seen.see(tenant, &span, record.offset) {
                    Sighting::Again => duplicates.push(span.ordinal),
                    Sighting::Forgotten => forgotten += 1,
                    Sighting::New | Sighting::Nameless => {}
                }
            }
        }
        if !duplicates.is_empty() {
            batch.remove(duplicates);
        }
        forgotten
    }

    /// Counts and pairs the spans of a decoded record. With a clock each belongs to the step of its own end.
    pub(super) fn record(
        &mut self,
        batch: &Batch,
        record: &Record<'_>,
        tenant: &str,
        stream_time: Millis,
        mut clock: Option<&mut SpanClock>,
    ) {
        let Self { tenants, pairing, window, table, ledger, sample, .. } = self;
        let at = pairing.record(record.offset, stream_time);
        for resource_spans in batch.resources(record.value) {
            let tenant = tenants.name(tenant, &resource_spans);
            let service = service_of(&resource_spans);
            let block =
                SpanBlock { tenant: &tenant, service: service.as_deref().unwrap_or_default(), spans: resource_spans };
            let Rooms { span_metrics, host_info, slos, attribute_metrics } = tenants.rooms(&tenant);
            if let Some(clock) = &mut clock {
                table.turn_to(clock.ahead_of(&resource_spans));
            }
            if let Some(host_info) = host_info {
                host_info.resource(&tenant, resource_spans.resource, table, ledger);
            }
            if let Some(span_metrics) = span_metrics {
                span_metrics.block(&block, table);
                span_metrics.fetch(&block, table);
            }
            if let Some(slos) = slos {
                slos.block(&block);
            }
            if let Some(attribute_metrics) = attribute_metrics {
                attribute_metrics.block(&block);
            }
            let mut graph = pairing.block(at, &tenant, service.as_deref(), resource_spans.resource);
            pairing.fetch(&graph, &resource_spans);
            for span in resource_spans.spans() {
                ledger.add(Counter::SpansRead, 1);
                sample.see(span.trace_id);
                if let Some(clock) = &mut clock {
                    table.turn_to(clock.ahead(span.end_ns, ledger));
                }
                match span_metrics {
                    Some(span_metrics) => span_metrics.span(&block, &span, table, ledger),
                    None => ledger.add(Counter::SpansDroppedDisabled, 1),
                }
                if let Some(slos) = slos {
                    slos.span(&block, &span, table, ledger);
                }
                if let Some(attribute_metrics) = attribute_metrics {
                    attribute_metrics.span(&block, &span, table, ledger);
                }
                pairing.span(&mut graph, &span, &mut Sink { table, ledger });
            }
            let Some(window) = window else { continue };
            let of_resource = (service.as_deref(), resource_spans.resource);
            let Some(block) = window.block((record.offset, stream_time), &tenant, of_resource) else { continue };
            let clock = clock.as_deref();
            let ahead = |closing| clock.map_or(0, |clock| clock.ahead_of_waited(stream_time, waited(closing)));
            let mut sink = TraceSink { table, ledger };
            resource_spans.spans().for_each(|span| window.span(&block, &span, ahead, &mut sink));
        }
        if clock.is_some() {
            // Expired edges belong to the step of stream time.
            table.turn_to(0);
        }
    }

    /// Rebuilds pending edges and open traces from a decoded record that a commit covers.
    pub(super) fn rebuild(&mut self, batch: &mut Batch, record: &Record<'_>, tenant: &str) {
        if let Some(seen) = &mut self.seen {
            seen.turn_again(record.offset);
            self.look_for_duplicates(batch, record, tenant);
        }
        // The time does not matter: the list holds the creation times of what opens here.
        let at = self.pairing.record(record.offset, 0);
        for resource_spans in batch.resources(record.value) {
            let tenant = self.tenants.name(tenant, &resource_spans);
            let service = service_of(&resource_spans);
            let mut block = self.pairing.block(at, &tenant, service.as_deref(), resource_spans.resource);
            resource_spans.spans().for_each(|span| self.pairing.rebuild_span(&mut block, &span));
            let Some(window) = &mut self.window else { continue };
            if let Some(block) =
                window.block((record.offset, 0), &tenant, (service.as_deref(), resource_spans.resource))
            {
                resource_spans.spans().for_each(|span| window.rebuild_span(&block, &span));
            }
        }
    }

    /// Ends rebuilding.
    pub(super) fn finish_rebuild(&mut self) {
        self.pairing.finish_rebuild(&mut Sink { table: &mut self.table, ledger: &mut self.ledger });
        if let Some(window) = &mut self.window {
            window.finish_rebuild(&mut self.ledger);
        }
        if let Some(seen) = &mut self.seen {
            seen.finish_rebuild();
        }
    }

    /// What waits at this stream time, and what is remembered, as bytes for a commit, and the offset of the first record that is
    /// needed to get it back.
    pub(super) fn live(&mut self, stream_time: Millis) -> (Option<i64>, Vec<u8>) {
        let (from, waiting) = self.waiting();
        let Some((first, slots)) = self.seen.as_mut().and_then(|seen| seen.list(stream_time, from)) else {
            return (from, waiting);
        };
        let reread = from.map_or(first, |from| from.min(first));
        (Some(reread), waiting::with_slots(reread, (first, &slots), (from, &waiting)))
    }

    /// What waits, as bytes, and the offset of the first record that is needed to get it back.
    fn waiting(&self) -> (Option<i64>, Vec<u8>) {
        let (edges_from, edges) = self.pairing.live();
        let Some(window) = &self.window else { return (edges_from, edges) };
        let traces_from = window.reread_from();
        let from = edges_from.into_iter().chain(traces_from).min();
        let traces = window.list(traces_from.unwrap_or_default());
        (from, waiting::join(from.unwrap_or_default(), (edges_from, edges), (traces_from, &traces)))
    }

    /// Begins to rebuild what waited at a commit: what [`Processors::live`] returned.
    pub(super) fn begin_rebuild(&mut self, from: i64, live: &[u8]) -> Result<(), Malformed> {
        let (slots, (from, live)) = waiting::split_slots(from, live)?;
        if let (Some(seen), Some((first, slots))) = (&mut self.seen, slots) {
            seen.begin_rebuild(first, slots)?;
        }
        let Waiting { edges, traces } = waiting::split(from, live)?;
        if !edges.1.is_empty() {
            self.pairing.begin_rebuild(edges.0, edges.1)?;
        }
        match &mut self.window {
            Some(window) => window.begin_rebuild(traces.0, traces.1)?,
            None => self.ledger.add(Counter::TraceSpansLost, TraceWindow::listed_spans(traces.0, traces.1)?),
        }
        Ok(())
    }

    /// Whether anything can be rebuilt.
    pub(super) fn rebuilds(&self) -> bool {
        self.pairing.is_enabled() || self.window.is_some() || self.seen.is_some()
    }
}

fn waited(Closing { last, ended, wait }: Closing) -> Waited {
    Waited { begun: last, ended, wait }
}

/// The delta records name the settings that they were counted by.
fn tell(table: &mut DeltaTable, settings: &SpanSettings) {
    table.set_settings(settings.agreed.0, Arc::clone(&settings.agreed.1));
}

/// Which tenants have a limit on all their series. If the number of tenants is limited, the shards must know all
/// tenants.
fn limited(tenants: &Tenants) -> Limited {
    let all = tenants.defaults().limits.max_tenants > 0;
    let is = |config: &Settings| all || config.limits.max_active_series > 0;
    let named = tenants.overridden().map(|(name, config)| (name.to_owned(), is(config))).collect();
    Limited { others: is(tenants.defaults()), named }
}

// === impl ByTenant ===

impl ByTenant {
    fn new(s: &SpanSettings) -> Self {
        let mut rooms = vec![Rooms::new(s.tenants.defaults())];
        let mut overridden = BTreeMap::new();
        for (name, config) in s.tenants.overridden() {
            overridden.insert(name.to_owned(), rooms.len());
            rooms.push(Rooms::new(config));
        }
        let attribute = s.tenant_attribute.as_ref().map(|key| key.as_bytes().into());
        Self { attribute, rooms, overridden }
    }

    /// The tenant of a resource in a record of tenant `of_record`.
    fn name<'a>(&self, of_record: &'a str, resource_spans: &ResourceSpans<'a>) -> Cow<'a, str> {
        tenant_of(self.attribute.as_deref(), of_record, resource_spans)
    }

    fn rooms(&mut self, tenant: &str) -> &mut Rooms {
        let at = if self.overridden.is_empty() { None } else { self.overridden.get(tenant) };
        &mut self.rooms[at.copied().unwrap_or(0)]
    }
}

// === impl Rooms ===

impl Rooms {
    fn new(config: &Arc<Settings>) -> Self {
        Self {
            span_metrics: config.span_metrics.enabled.then(|| SpanMetrics::new(config)),
            host_info: config.host_info.enabled.then(|| HostInfo::new(config)),
            slos: Slos::new(config),
            attribute_metrics: config.has_attribute_metrics().then(|| AttributeMetrics::new(config)),
        }
    }
}

/// The tenant of a resource in a record of tenant `of_record`, where the resource attribute `attribute` names tenants.
#[must_use]
pub fn tenant_of<'a>(attribute: Option<&[u8]>, of_record: &'a str, resource_spans: &ResourceSpans<'a>) -> Cow<'a, str> {
    let named = attribute.and_then(|key| resource_spans.resource.get(key)).map(|value| value.text());
    let text = named.and_then(|name| match name {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    });
    text.filter(|name| is_tenant(name)).unwrap_or(Cow::Borrowed(of_record))
}

/// The first `service.name`, as text.
fn service_of<'a>(resource_spans: &ResourceSpans<'a>) -> Option<Cow<'a, [u8]>> {
    resource_spans.resource.get(b"service.name").map(|value| value.text())
}
