//! From a closed trace to deltas.

use std::str::Utf8Error;
use std::sync::Arc;

use super::branch::BranchRules;
use super::calls::{EdgeCalls, FanOut, Problem};
use super::rules::{CallRules, ONE, Rules};
use super::tree::{Roots, TraceSpan, TraceTree};
use super::window::TraceSink;
use crate::core::deltas::{Define, SetId};
use crate::core::model::span::{KINDS, STATUSES};
use crate::core::model::wire::put_bytes;
use crate::core::model::{Counter, LabelBuilder, Layout, Millis, NameId, Names, Weight};
use crate::core::slo::{LabelSlos, LabeledEvent};

/// The first byte of this room's raw keys in the delta table.
const KEY_SPACE: u8 = b'w';
/// Histograms of the families, in cell order.
const DURATION: usize = 0;
const SPANS: usize = 0;
const SERVICES: usize = 1;
const DEPTH: usize = 2;
/// Their counters.
const SECONDS: usize = 0;
const ORIGINS: usize = 0;
const SWALLOWED: usize = 1;
const REPEATED: usize = 0;
const RETRIED: usize = 1;
const CALLS_SECONDS: usize = 0;
const BUSY_SECONDS: usize = 1;
pub(super) const NANOS_PER_MILLI: u64 = 1_000_000;

/// A closed trace on its way into deltas.
pub(super) struct Emission<'a> {
    pub(super) tree: &'a mut TraceTree,
    pub(super) names: &'a Names,
    pub(super) rules: &'a Rules,
    pub(super) tenant: &'a [u8],
    pub(super) trace_id: [u8; 16],
    /// A raw key under construction.
    pub(super) key: &'a mut Vec<u8>,
}

/// Labels of a value: names and texts, an empty text for a label that is not there.
type Labels<'a> = [(&'a str, &'a [u8])];

// === impl Emission ===

impl Emission<'_> {
    /// Adds everything that the tenant asks for.
    pub(super) fn emit(mut self, sink: &mut TraceSink<'_>) {
        self.count_disorder(sink);
        let rules = self.rules;
        if let (Some(duration), Some(shape)) = (&rules.duration, &rules.shape) {
            self.duration(duration, shape, sink);
        }
        if let (Some(path), Some(self_time)) = (&rules.critical_path, &rules.self_time) {
            self.critical_path(path, sink);
            self.self_times(self_time, sink);
        }
        if let Some(errors) = &rules.errors {
            self.errors(errors, sink);
        }
        if let Some(calls) = &rules.calls {
            self.calls(calls, sink);
        }
        if let Some(quality) = &rules.quality {
            let example = self.example(self.rules.exemplars_on_counters);
            for (i, problem) in self.tree.problems() {
                let span = self.tree.spans()[i];
                self.problem(quality, (span.service, span.took(), problem), example, sink);
            }
        }
        if let Some(branch) = &rules.branch {
            self.spans(branch, sink);
        }
        if let Some(slos) = &rules.slos {
            self.objectives(slos, sink);
        }
    }

    fn count_disorder(&self, sink: &mut TraceSink<'_>) {
        let disorder = self.tree.disorder();
        for (counter, n) in [
            (Counter::TraceSpansDuplicate, disorder.duplicates),
            (Counter::TraceSpansOrphaned, disorder.orphans),
            (Counter::TraceCycles, disorder.cycles),
            (Counter::TraceSpansEarly, disorder.early),
            (Counter::TraceSpansOutliving, disorder.outliving),
        ] {
            sink.ledger.add(counter, n);
        }
    }

    /// Counts the trace as an event of objectives. It has failed if its root has.
    fn objectives(&mut self, slos: &LabelSlos, sink: &mut TraceSink<'_>) {
        let mut labels = LabelBuilder::default();
        labels.limit(self.rules.limits.0, self.rules.limits.1);
        labels.repair(self.rules.repairs);
        let set = labels_of(self.tree, self.names).iter().try_for_each(|(label, text)| labels.set_bytes(label, text));
        let (Ok(()), Ok(tenant)) = (set, std::str::from_utf8(self.tenant)) else {
            return sink.ledger.add(Counter::SloEventsDroppedInvalidUtf8, 1);
        };
        let event = LabeledEvent {
            tenant,
            block: &labels.block(),
            took: [self.tree.duration_ns(); 2],
            failed: self.tree.top().failed(),
            weight: Weight::ONE,
        };
        slos.count(&event, self.key, sink.table, sink.ledger);
    }

    fn duration(&mut self, duration: &Arc<Layout>, shape: &Arc<Layout>, sink: &mut TraceSink<'_>) {
        let names = self.names;
        let labels = labels_of(self.tree, names);
        let example = self.example(self.rules.exemplars);
        let took = self.tree.duration_ns();
        let too_long = took > self.rules.longest;
        sink.ledger.add(Counter::TracesTooLong, u64::from(too_long));
        if let Some(set) = self.find(duration, &labels, sink) {
            sink.table.at(set).observe(DURATION, if too_long { 0 } else { took }, Weight::ONE, example);
        }
        if let Some(set) = self.find(shape, &labels[..3], sink) {
            let numbers =
                [(SPANS, self.tree.spans().len() as u64), (SERVICES, self.tree.services()), (DEPTH, self.tree.depth())];
            for (histogram, number) in numbers {
                sink.table.at(set).observe(histogram, number.saturating_mul(ONE), Weight::ONE, example);
            }
        }
    }

    /// A trace without root has no critical path: its end is not known.
    fn critical_path(&mut self, layout: &Arc<Layout>, sink: &mut TraceSink<'_>) {
        if self.tree.roots() == Roots::None {
            return;
        }
        self.tree.walk();
        let top = *self.tree.top();
        let example = self.example(self.rules.exemplars_on_counters);
        for i in 0..self.tree.spans().len() {
            let (span, ns) = (self.tree.spans()[i], self.tree.critical_times()[i]);
            if ns == 0 {
                continue;
            }
            let labels = [
                ("operation", span.operation),
                ("root_operation", top.operation),
                ("root_service", top.service),
                ("service", span.service),
            ];
            let labels = labels.map(|(label, name)| (label, self.names.get(name)));
            self.add(layout, &labels, ns, example, sink);
        }
    }

    fn self_times(&mut self, layout: &Arc<Layout>, sink: &mut TraceSink<'_>) {
        let example = self.example(self.rules.exemplars_on_counters);
        for i in 0..self.tree.spans().len() {
            let (span, ns) = (self.tree.spans()[i], self.tree.self_times()[i]);
            if ns == 0 {
                continue;
            }
            let kind = KINDS.get(usize::from(span.kind)).map_or(&b""[..], |kind| kind.as_bytes());
            let (operation, service) = (self.names.get(span.operation), self.names.get(span.service));
            let labels = [("kind", kind), ("operation", operation), ("service", service)];
            self.add(layout, &labels, ns, example, sink);
        }
    }

    fn errors(&mut self, layout: &Arc<Layout>, sink: &mut TraceSink<'_>) {
        let root = self.names.get(self.tree.top().service);
        let example = self.example(self.rules.exemplars_on_counters);
        let (origins, swallowing): (Vec<TraceSpan>, Vec<TraceSpan>) =
            (self.tree.origins().copied().collect(), self.tree.swallowing().copied().collect());
        for (counter, spans) in [(ORIGINS, origins), (SWALLOWED, swallowing)] {
            for span in spans {
                let [error, operation, service] =
                    [span.error, span.operation, span.service].map(|name| self.names.get(name));
                let labels =
                    [("error_type", error), ("operation", operation), ("root_service", root), ("service", service)];
                if let Some(set) = self.find(layout, &labels, sink) {
                    let mut set = sink.table.at(set);
                    set.add(counter, 1);
                    set.exemplify(counter, span.took(), example);
                }
            }
        }
    }

    fn calls(&mut self, rules: &CallRules, sink: &mut TraceSink<'_>) {
        let names = self.names;
        // Without root, the entry of the request is not known.
        if self.tree.roots() != Roots::None {
            let top = *self.tree.top();
            let example = self.example(self.rules.exemplars);
            for EdgeCalls { client, server, calls } in self.tree.edge_calls() {
                let labels = [
                    ("client", client),
                    ("root_operation", top.operation),
                    ("root_service", top.service),
                    ("server", server),
                ];
                if let Some(set) = self.find(&rules.per_request, &labels.map(|(l, name)| (l, names.get(name))), sink) {
                    sink.table.at(set).observe(0, calls.saturating_mul(ONE), Weight::ONE, example);
                }
            }
        }
        let example = self.example(self.rules.exemplars_on_counters);
        for group in self.tree.call_groups() {
            let repeated = u64::from(group.calls >= rules.repeated);
            if repeated + group.retries == 0 {
                continue;
            }
            let caller = self.tree.spans()[group.caller];
            let labels = [
                ("callee", group.service),
                ("callee_operation", group.operation),
                ("operation", caller.operation),
                ("service", caller.service),
            ];
            if let Some(set) = self.find(&rules.groups, &labels.map(|(label, name)| (label, names.get(name))), sink) {
                let mut set = sink.table.at(set);
                for (counter, n) in [(REPEATED, repeated), (RETRIED, group.retries)].into_iter().filter(|(_, n)| *n > 0)
                {
                    set.add(counter, n);
                    set.exemplify(counter, caller.took(), example);
                }
            }
        }
        for FanOut { caller, calls_ns, busy_ns } in self.tree.fan_outs() {
            let caller = self.tree.spans()[caller];
            let labels = [("operation", caller.operation), ("service", caller.service)];
            if let Some(set) = self.find(&rules.fan_outs, &labels.map(|(label, name)| (label, names.get(name))), sink) {
                let mut set = sink.table.at(set);
                set.add(CALLS_SECONDS, calls_ns);
                set.add(BUSY_SECONDS, busy_ns);
                set.exemplify(CALLS_SECONDS, calls_ns, example);
            }
        }
    }

    /// Counts a span of this service and duration whose place in its trace is wrong.
    pub(super) fn problem(
        &mut self,
        layout: &Arc<Layout>,
        (service, took, problem): (NameId, u64, Problem),
        example: Option<(Millis, [u8; 16])>,
        sink: &mut TraceSink<'_>,
    ) {
        let labels = [("problem", problem.name().as_bytes()), ("service", self.names.get(service))];
        if let Some(set) = self.find(layout, &labels, sink) {
            let mut set = sink.table.at(set);
            set.add(0, 1);
            set.exemplify(0, took, example);
        }
    }

    /// Counts every span with the labels that it takes from others.
    fn spans(&mut self, branch: &BranchRules, sink: &mut TraceSink<'_>) {
        let names = self.names;
        let values = branch.resolve(self.tree, names);
        let (example, counted) = (self.example(self.rules.exemplars), self.example(self.rules.exemplars_on_counters));
        let mut labels: Vec<(&str, &[u8])> = Vec::new();
        for i in 0..self.tree.spans().len() {
            let span = self.tree.spans()[i];
            let word = |words: &[&'static str], code: u8| {
                words.get(usize::from(code)).map_or(&b""[..], |word| word.as_bytes())
            };
            labels.clear();
            labels.extend([
                ("is_root", if span.parent == [0; 8] { &b"true"[..] } else { b"false" }),
                ("service", names.get(span.service)),
                ("span_kind", word(&KINDS, span.kind)),
                ("span_name", names.get(span.operation)),
                ("status_code", word(&STATUSES, span.status)),
            ]);
            labels.extend(branch.labels.iter().zip(&values).map(|(label, values)| (&*label.name, values[i])));
            if let Some(set) = self.find(&branch.layout, &labels, sink) {
                let took = if span.took() > self.rules.longest { 0 } else { span.took() };
                let mut set = sink.table.at(set);
                set.add(0, 1);
                set.exemplify(0, took, counted);
                set.observe(0, took, Weight::ONE, example);
            }
        }
    }

    /// Adds to the counter of seconds.
    fn add(
        &mut self,
        layout: &Arc<Layout>,
        labels: &Labels<'_>,
        ns: u64,
        example: Option<(Millis, [u8; 16])>,
        sink: &mut TraceSink<'_>,
    ) {
        if let Some(set) = self.find(layout, labels, sink) {
            let mut set = sink.table.at(set);
            set.add(SECONDS, ns);
            set.exemplify(SECONDS, ns, example);
        }
    }

    fn find(&mut self, layout: &Arc<Layout>, labels: &Labels<'_>, sink: &mut TraceSink<'_>) -> Option<SetId> {
        let Self { rules, tenant, key, .. } = self;
        key.clear();
        key.extend([KEY_SPACE, layout.family() as u8]);
        put_bytes(key, tenant);
        labels.iter().for_each(|(_, text)| put_bytes(key, text));
        let set = sink.table.find(key, |builder| {
            builder.limit(rules.limits.0, rules.limits.1);
            builder.repair(rules.repairs);
            labels.iter().try_for_each(|(label, text)| builder.set_bytes(label, text))?;
            Ok::<Define, Utf8Error>(Define { tenant: std::str::from_utf8(tenant)?.into(), layout: Arc::clone(layout) })
        });
        if set.is_err() {
            sink.ledger.add(Counter::TraceValuesDroppedInvalidUtf8, 1);
        }
        set.ok()
    }

    fn example(&self, wanted: bool) -> Option<(Millis, [u8; 16])> {
        wanted.then(|| ((self.tree.end_ns() / NANOS_PER_MILLI) as Millis, self.trace_id))
    }
}

/// The labels of a trace as a whole.
fn labels_of<'a>(tree: &TraceTree, names: &'a Names) -> [(&'static str, &'a [u8]); 4] {
    let top = tree.top();
    let roots: &[u8] = match tree.roots() {
        Roots::One => b"",
        Roots::None => b"none",
        Roots::Several => b"several",
    };
    let status = STATUSES.get(usize::from(top.status)).map_or(&b""[..], |status| status.as_bytes());
    let (service, operation) = (names.get(top.service), names.get(top.operation));
    [("root_service", service), ("root_operation", operation), ("roots", roots), ("status_code", status)]
}
