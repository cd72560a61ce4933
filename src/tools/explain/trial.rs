//! The spans of one partition, one record each, through the task that a worker runs; and what each of them changed.

use std::collections::BTreeMap;

use super::reasons::{OF_ARRIVAL, OF_METRICS, OF_WAIT, Why};
use super::report::{Edge, ExplainedSpan, Link, Reason};
use super::series::{Grown, SeriesSet, grown};
use super::{ExplainError, FoundSpan, stretched};
use crate::config::Loaded;
use crate::config::settings::TenantSource;
use crate::core::model::{Counter, Family, Ledger, MAX_TIME, Millis};
use crate::core::series::TenantBook;
use crate::core::tasks::span::{Offer, Record, RestoreError, Restored, SpanSettings, SpanTask, pending_edges};

/// A task under observation.
#[derive(Debug)]
pub(super) struct Trial {
    task: SpanTask,
    /// Whose record each offset is; of none if it only moves the time.
    owners: Vec<Option<usize>>,
    /// The pending edges by the offset of who opened them: how many of them have met no other span yet.
    pending: BTreeMap<i64, usize>,
    ledger: Ledger,
    times: Vec<Millis>,
    wait: Millis,
}

/// What a record has changed.
#[derive(Debug)]
struct Change {
    grown: Vec<Grown>,
    ledger: Ledger,
    /// The spans whose edges waited before and do not any more.
    partners: Vec<usize>,
}

/// The spans, and what is known of each.
struct Story<'a> {
    loaded: &'a Loaded,
    found: &'a [FoundSpan],
    spans: Vec<ExplainedSpan>,
}

// === impl Trial ===

impl Trial {
    pub(super) fn new(settings: &SpanSettings, found: &[FoundSpan]) -> Result<Self, RestoreError> {
        let factor = found.len() as Millis + 1;
        let first = found.iter().map(|span| span.at).min().unwrap_or_default();
        let instant = |(i, span): (usize, &FoundSpan)| {
            (span.at - first).saturating_mul(factor).saturating_add(i as Millis).clamp(0, MAX_TIME)
        };
        let settings = stretched(settings, factor);
        Ok(Self {
            task: SpanTask::new(&settings, "explain".to_owned(), 0, Restored::default())?,
            owners: Vec::new(),
            pending: BTreeMap::new(),
            ledger: Ledger::default(),
            times: found.iter().enumerate().map(instant).collect(),
            wait: settings.tenants.defaults().service_graphs.wait,
        })
    }

    /// Returns what becomes of every span. With `until`, the source was read up to that stream time, and is not over.
    pub(super) fn run(
        mut self,
        loaded: &Loaded,
        found: &[FoundSpan],
        source: &str,
        until: Option<Millis>,
    ) -> Result<Vec<ExplainedSpan>, ExplainError> {
        let book = TenantBook::from(&loaded.tenants);
        let attribute = match &loaded.config.tenant {
            TenantSource::Attribute { key, .. } => Some(key.as_bytes()),
            _ => None,
        };
        let spans = found.iter().map(|span| span.describe(attribute, source)).collect();
        let mut story = Story { loaded, found, spans };
        let real_wait = loaded.config.core.service_graphs.wait.max(1);
        let mut over = 0;
        for (i, span) in found.iter().enumerate() {
            while over < i && self.ends(over) <= self.times[i] {
                let change = self.pass(over, &book)?;
                story.waited(over, &change, false);
                over += 1;
            }
            let change = self.offer(Some(i), self.times[i], (span.tenant.as_deref(), &span.request), &book)?;
            story.arrived(i, &change);
        }
        for (i, span) in found.iter().enumerate().skip(over) {
            let change = self.pass(i, &book)?;
            story.waited(i, &change, until.is_some_and(|until| span.at.saturating_add(real_wait) > until));
        }
        Ok(story.spans)
    }

    /// When the wait of an edge ends that span `i` has opened.
    fn ends(&self, i: usize) -> Millis {
        self.times[i].saturating_add(self.wait).min(MAX_TIME)
    }

    /// Lets the wait of an edge end that span `i` has opened.
    fn pass(&mut self, i: usize, book: &TenantBook) -> Result<Change, ExplainError> {
        self.offer(None, self.ends(i), (Some("-"), &[]), book)
    }

    fn offer(
        &mut self,
        owner: Option<usize>,
        timestamp: Millis,
        (tenant, value): (Option<&str>, &[u8]),
        book: &TenantBook,
    ) -> Result<Change, ExplainError> {
        let record = Record { offset: self.owners.len() as i64, timestamp, tenant, value };
        self.owners.push(owner);
        let mut cuts = Vec::new();
        while let Offer::CutFirst { cut } = self.task.offer(&record, MAX_TIME) {
            cuts.push(*cut);
        }
        cuts.extend(self.task.cut());
        let mut pending = BTreeMap::new();
        if let Some(cut) = cuts.last() {
            for edge in pending_edges(cut.reread_from, &cut.live)? {
                *pending.entry(edge.offset).or_default() += usize::from(!edge.met);
            }
        }
        let before = std::mem::replace(&mut self.pending, pending);
        let fewer = |(offset, n): &(&i64, &usize)| self.pending.get(offset).is_none_or(|left| left < n) && **n > 0;
        let owner = |(offset, _): (&i64, &usize)| self.owners.get(usize::try_from(*offset).ok()?).copied().flatten();
        let partners = before.iter().filter(fewer).filter_map(owner).collect();
        let ledger = self.gained();
        Ok(Change { grown: grown(&cuts, book)?, ledger, partners })
    }

    /// What the ledger has gained since this was asked last.
    fn gained(&mut self) -> Ledger {
        let before = std::mem::replace(&mut self.ledger, self.task.ledger().clone());
        let mut gained = Ledger::default();
        Counter::ALL.iter().for_each(|&counter| gained.add(counter, self.ledger.get(counter) - before.get(counter)));
        gained
    }
}

// === impl Change ===

impl Change {
    fn has(&self, counter: Counter) -> bool {
        self.ledger.get(counter) > 0
    }

    fn edges(&self) -> impl Iterator<Item = &SeriesSet> {
        self.grown.iter().filter(|grown| grown.family == Family::ServiceGraph).map(|grown| &grown.set)
    }
}

// === impl Story ===

impl Story<'_> {
    fn why(&self, i: usize) -> Why<'_> {
        Why::new(self.loaded, self.spans[i].tenant.as_deref())
    }

    /// A span was read.
    fn arrived(&mut self, i: usize, change: &Change) {
        let (why, found) = (self.why(i), &self.found[i]);
        let mut reasons = why.of(OF_METRICS, &change.ledger);
        if change.has(Counter::SpansDroppedFiltered) {
            reasons.extend(why.filtered(found, true));
        }
        let counted = change.has(Counter::SpansCounted);
        reasons.extend(why.switches(counted));
        let edge_reasons = why.at_arrival(found, &self.spans[i].kind, &change.ledger);
        let span = &mut self.spans[i];
        span.counted = counted;
        span.reasons = reasons;
        span.edge_reasons.extend(edge_reasons);
        let series = change.grown.iter().filter(|grown| grown.family != Family::ServiceGraph);
        span.series = series.map(|grown| grown.set.clone()).collect();
        self.met(i, change);
        if change.has(Counter::EdgeSpansFiltered) && change.has(Counter::EdgesDroppedCounterpart) {
            let dropped = self.why(i).counterpart(found, &self.spans[i].span_id);
            for &partner in &change.partners {
                self.spans[partner].edge_reasons.extend(dropped.clone());
            }
        }
    }

    /// The edges that are complete now that span `i` is there.
    fn met(&mut self, i: usize, change: &Change) {
        if !change.has(Counter::EdgesCompleted) {
            return;
        }
        let is_side = change.has(Counter::EdgeSpans);
        let mut partners = change.partners.clone();
        if partners.is_empty() && is_side {
            // Its client has met others before.
            partners.extend(self.caller(i));
        }
        let mut sides = partners.clone();
        sides.extend(is_side.then_some(i));
        for &side in &sides {
            let others = sides.iter().filter(|&&other| other != side && (side == i || other == i || !is_side));
            let others: Vec<usize> = others.copied().collect();
            for set in self.of_service(side, change) {
                let with = others.iter().filter(|&&other| others.len() < 2 || self.is_in(other, set));
                let with: Vec<Link> = with.map(|&other| self.spans[other].link()).collect();
                let reasons = if with.is_empty() { self.why(side).database(set) } else { Vec::new() };
                self.spans[side].edges.push(Edge::new("completed", set, with, false, reasons));
            }
        }
    }

    /// The wait of an edge is over that span `i` has opened, if it still waited.
    fn waited(&mut self, i: usize, change: &Change, waits: bool) {
        let is_virtual = change.has(Counter::EdgesVirtual);
        let outcome = if is_virtual { "virtual" } else { "completed" };
        for set in change.edges() {
            let why = self.why(i);
            let reasons = if is_virtual { why.virtual_node(set, &self.spans[i].kind) } else { why.late(set) };
            self.spans[i].edges.push(Edge::new(outcome, set, Vec::new(), waits, reasons));
        }
        let why = self.why(i);
        let mut reasons = why.of(OF_ARRIVAL, &change.ledger);
        let expired = why.of(OF_WAIT, &change.ledger);
        reasons.extend((waits && !expired.is_empty()).then(|| why.still_waits()));
        reasons.extend(expired);
        self.spans[i].edge_reasons.extend(reasons);
    }

    /// The edges of a change that a span is in. If none has its service as a node, as with namespaces in names, all may be.
    fn of_service<'c>(&self, i: usize, change: &'c Change) -> Vec<&'c SeriesSet> {
        let own: Vec<_> = change.edges().filter(|set| self.is_in(i, set)).collect();
        if own.is_empty() { change.edges().collect() } else { own }
    }

    fn is_in(&self, i: usize, set: &SeriesSet) -> bool {
        let service = self.spans[i].service.as_deref();
        [set.label("client"), set.label("server")].iter().any(|node| Some(*node) == service)
    }

    /// The client or producer above a server or consumer span, or one that it links to.
    fn caller(&self, i: usize) -> Option<usize> {
        let is = |at: usize, kinds: [&str; 2]| kinds.contains(&self.spans[at].kind.as_str());
        if !is(i, ["SPAN_KIND_SERVER", "SPAN_KIND_CONSUMER"]) {
            return None;
        }
        let above = |at: &usize| {
            let ExplainedSpan { trace, parent_span_id, .. } = &self.spans[*at];
            self.spans.iter().position(|span| span.trace == *trace && span.span_id == *parent_span_id)
        };
        let is_caller = |at: &usize| is(*at, ["SPAN_KIND_CLIENT", "SPAN_KIND_PRODUCER"]);
        let is_between = |at: &usize| is(*at, ["SPAN_KIND_INTERNAL", "SPAN_KIND_UNSPECIFIED"]);
        let mut upward = std::iter::successors(above(&i), above).take(self.spans.len());
        let parent = upward.find(|at| !is_between(at)).filter(is_caller);
        let linked = |link: &String| self.spans.iter().position(|span| span.span_id == *link);
        parent.or_else(|| self.spans[i].links.iter().filter_map(linked).find(is_caller))
    }
}

// === impl Edge ===

impl Edge {
    fn new(outcome: &'static str, set: &SeriesSet, with: Vec<Link>, waits: bool, reasons: Vec<Reason>) -> Self {
        let [client, server, connection_type] =
            ["client", "server", "connection_type"].map(|label| set.label(label).to_owned());
        Self { outcome, client, server, connection_type, with, waits, series: set.clone(), reasons }
    }
}

// === impl ExplainedSpan ===

impl ExplainedSpan {
    fn link(&self) -> Link {
        Link { span_id: self.span_id.clone(), service: self.service.clone() }
    }
}
