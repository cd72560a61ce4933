//! Why something became of a span: what the ledger has counted, in a sentence, with the setting that decided.

use std::borrow::Cow;

use super::FoundSpan;
use super::report::{ExplainedSpan, Reason, Setting, hex};
use super::series::SeriesSet;
use crate::config::{Loaded, ValueOrigin, show_block};
use crate::core::filter::{Decision, Filter};
use crate::core::model::span::{KINDS, STATUSES};
use crate::core::model::{Counter, Ledger};
use crate::core::otlp::{Batch, ResourceSpans, Span};
use crate::core::settings::{Ancestors, FilterPolicy, Settings};
use crate::core::tasks::span::tenant_of;

/// A line of the ledger, what it means for a span, and the key that decides; empty if none does.
pub(super) type Meaning = (Counter, &'static str, &'static str);

const NOT_UTF8: &str = "naming.invalid_utf8";
const LONGEST: &str = "histograms.max_duration";
const PEERS: &str = "service_graphs.peer_attributes";
const ORPHANS: &str = "service_graphs.orphans";
const MOST_EDGES: &str = "service_graphs.max_items";

/// What span metrics do with a span.
pub(super) const OF_METRICS: &[Meaning] = &[
    (Counter::RecordsWithoutTenant, "its record names no tenant, so none of its spans is read", "tenant.source"),
    (Counter::SpansDroppedDisabled, "span metrics are switched off", "span_metrics.enabled"),
    (
        Counter::SpansDroppedInvalidUtf8,
        "a value that would become a label is not UTF-8, which drops the span",
        NOT_UTF8,
    ),
    (Counter::SpansRepairedUtf8, "U+FFFD replaces what is not UTF-8 in a label", NOT_UTF8),
    (Counter::SpansTooLong, "it took longer than the maximum, so its latency is observed as 0 s", LONGEST),
    (
        Counter::SpanNamesSanitized,
        "the sanitizer replaces a part of its name, or would in a dry run",
        "span_names.mode",
    ),
    (
        Counter::SpanEventsDroppedInvalidUtf8,
        "a label of one of its events is not UTF-8, which drops the event",
        NOT_UTF8,
    ),
    (Counter::SpanEventsRepairedUtf8, "U+FFFD replaces what is not UTF-8 in a label of its events", NOT_UTF8),
    (Counter::InfoDroppedInvalidUtf8, "a label of its resource's info series is not UTF-8, which drops that", NOT_UTF8),
    (Counter::InfoRepairedUtf8, "U+FFFD replaces what is not UTF-8 in its resource's info series", NOT_UTF8),
    (
        Counter::SloEventsDroppedInvalidUtf8,
        "a label of a service level objective is not UTF-8, which drops its event",
        NOT_UTF8,
    ),
    (Counter::SloEventsRepairedUtf8, "U+FFFD replaces what is not UTF-8 in a label of an objective", NOT_UTF8),
    (
        Counter::AttributeValuesDroppedInvalidUtf8,
        "a label of an attribute metric is not UTF-8, which drops its value",
        NOT_UTF8,
    ),
    (
        Counter::AttributeValuesRepairedUtf8,
        "U+FFFD replaces what is not UTF-8 in a label of an attribute metric",
        NOT_UTF8,
    ),
    (
        Counter::AttributeValuesDroppedNegative,
        "the value of an attribute metric is below 0, so it is not counted",
        "attribute_metrics",
    ),
    (
        Counter::AttributeValuesDroppedNotANumber,
        "the value of an attribute metric is no finite number, so it is not counted",
        "attribute_metrics",
    ),
    (
        Counter::AttributeValuesDroppedTooLarge,
        "the value of an attribute metric is too large with its weight, so it is not counted",
        "attribute_metrics",
    ),
];

/// What service graphs do with a span when it is read.
pub(super) const OF_ARRIVAL: &[Meaning] = &[
    (Counter::EdgeSpansWithoutService, "its resource has no service.name, so it has no node", ""),
    (Counter::EdgeSpansInvalidId, "a trace, span or parent ID is all zeros or has a wrong length", ""),
    (
        Counter::EdgeSpansReplaced,
        "a span on the same side of the same edge is waiting, such as another root of the trace; this one takes its place",
        "service_graphs.each_root",
    ),
    (Counter::EdgesDroppedFull, "as many edges are pending as may be", MOST_EDGES),
    (Counter::MarksDroppedFull, "as many filtered spans are remembered as may be", MOST_EDGES),
    (Counter::RelaysDroppedFull, "as many spans between servers and clients are remembered as may be", MOST_EDGES),
    (Counter::EdgesDroppedInvalidUtf8, "a label of its edge is not UTF-8, which drops the edge", NOT_UTF8),
    (
        Counter::EdgesDroppedRepeated,
        "the message has an edge with a consumer span of this service already",
        "service_graphs.receive_once",
    ),
    (Counter::EdgesTooLong, "a side of the edge took longer than the maximum, and is observed as 0 s", LONGEST),
    (
        Counter::MessagingNotObserved,
        "the time of the message is not observed: its consumer started before its producer ended, or much later",
        LONGEST,
    ),
    (Counter::EdgesRepairedUtf8, "U+FFFD replaces what is not UTF-8 in a label of its edge", NOT_UTF8),
];

/// What becomes of an edge at the end of its wait, besides a virtual node.
pub(super) const OF_WAIT: &[Meaning] = &[
    (
        Counter::EdgesExpiredClient,
        "no server span with this span as its parent came within service_graphs.wait, and no peer attribute of the \
         span names the called service",
        PEERS,
    ),
    (
        Counter::EdgesExpiredProducer,
        "no consumer span with this span as its parent came within service_graphs.wait, and no peer attribute of the \
         span names the receiver",
        PEERS,
    ),
    (
        Counter::EdgesExpiredServer,
        "the client span that is its parent did not come within service_graphs.wait, and a server span with a \
         missing parent makes no edge",
        ORPHANS,
    ),
    (
        Counter::EdgesExpiredConsumer,
        "the producer span that is its parent did not come within service_graphs.wait, and a consumer span with a \
         missing parent makes no edge",
        ORPHANS,
    ),
    (
        Counter::EdgesJoined,
        "another service was called below it, and the edge of the span that is called there counts",
        ANCESTORS,
    ),
    (
        Counter::EdgesDroppedNested,
        "it is the same call as a client span of its service around or inside of it, which counts in its place",
        "service_graphs.nested_once",
    ),
];

/// Decides which spans above a span may call it.
const ANCESTORS: &str = "service_graphs.ancestors";

/// What happens to edges that others complete.
const JOINED: Meaning =
    (Counter::EdgesJoined, "it leads from a waiting server span to a waiting client span, which meet now", ANCESTORS);

/// Explains with the settings of one tenant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Why<'a> {
    loaded: &'a Loaded,
    tenant: Option<&'a str>,
}

// === impl Why ===

impl<'a> Why<'a> {
    pub(super) fn new(loaded: &'a Loaded, tenant: Option<&'a str>) -> Self {
        Self { loaded, tenant }
    }

    fn settings(&self) -> &'a Settings {
        let config = self.tenant.map_or(self.loaded.tenants.defaults(), |tenant| self.loaded.tenants.of(tenant));
        &config.core
    }

    fn reason(&self, code: &'static str, text: impl Into<String>, key: &str) -> Reason {
        Reason { code, text: text.into(), setting: (!key.is_empty()).then(|| self.setting(key)) }
    }

    /// A setting as it is active for the tenant.
    fn setting(&self, key: &str) -> Setting {
        let own = self.tenant.map(|tenant| format!("tenants.{tenant}.{key}"));
        let own = own.and_then(|path| self.loaded.overridden.iter().find(|one| one.path == path));
        let active = own.or_else(|| self.loaded.effective.iter().find(|one| one.path == key));
        let (value, origin) = active.map_or((String::new(), "default".to_owned()), |one| {
            let origin = match &one.origin {
                ValueOrigin::Default => "default".to_owned(),
                ValueOrigin::File { name, line } => format!("{name}:{line}"),
                ValueOrigin::Env(name) => format!("env {name}"),
                ValueOrigin::Flag => "--set".to_owned(),
            };
            (one.value.clone(), origin)
        });
        Setting { key: active.map_or(key, |one| &one.path).to_owned(), value, origin }
    }

    /// The reasons that a ledger has.
    pub(super) fn of(&self, meanings: &[Meaning], ledger: &Ledger) -> Vec<Reason> {
        let counted = meanings.iter().filter(|(counter, ..)| ledger.get(*counter) > 0);
        counted.map(|(counter, text, key)| self.reason(counter.name(), *text, key)).collect()
    }

    /// What is switched off, or may become of the series of a span later.
    pub(super) fn switches(&self, counted: bool) -> Vec<Reason> {
        let settings = self.settings();
        let (metrics, limits) = (&settings.span_metrics, &settings.limits);
        let limit = [
            (limits.max_tenants, "limits.max_tenants"),
            (limits.max_active_series, "limits.max_active_series"),
            (limits.max_active_series_per_service, "limits.max_active_series_per_service"),
            (limits.max_cardinality_per_label, "limits.max_cardinality_per_label"),
        ];
        let limit = limit.iter().find(|(limit, _)| *limit > 0).map(|(_, key)| *key);
        let all = [
            (!metrics.calls, "calls_off", "calls are switched off", "span_metrics.calls"),
            (!metrics.latency, "latency_off", "latency is switched off", "span_metrics.latency"),
            (!metrics.size, "size_off", "size is switched off", "span_metrics.size"),
            (!settings.series.write, "not_written", "series are computed and not sent", "series.write"),
            (
                limit.is_some(),
                "limits",
                "where a limit is reached, the label set is counted in an overflow series instead",
                limit.unwrap_or_default(),
            ),
        ];
        let active = all.iter().filter(|(is, ..)| counted && *is);
        active.map(|(_, code, text, key)| self.reason(code, *text, key)).collect()
    }

    /// What service graphs do with a span when it is read.
    pub(super) fn at_arrival(&self, found: &FoundSpan, kind: &str, ledger: &Ledger) -> Vec<Reason> {
        let graphs = &self.settings().service_graphs;
        let mut reasons = self.of(OF_ARRIVAL, ledger);
        reasons.extend(self.of(&[JOINED], ledger));
        if ledger.get(Counter::EdgeSpansFiltered) > 0 {
            reasons.extend(self.filtered(found, false));
        } else if ledger.get(Counter::EdgesDroppedCounterpart) > 0 {
            let text = "a filter policy drops its peer";
            let code = Counter::EdgesDroppedCounterpart.name();
            reasons.push(self.reason(code, text, "service_graphs.filter_policies"));
        }
        if ledger.get(Counter::RecordsWithoutTenant) > 0 {
            return self.of(OF_METRICS, ledger);
        }
        if !graphs.enabled {
            reasons.push(self.reason(
                "service_graphs_disabled",
                "service graphs are switched off",
                "service_graphs.enabled",
            ));
        } else if ledger.get(Counter::EdgeSpans) == 0 && reasons.is_empty() && graphs.ancestors != Ancestors::Any {
            let text =
                format!("a span of kind {kind} is no side of an edge; client, server, producer and consumer are");
            reasons.push(self.reason("other_kind", text, ""));
        } else if ledger.get(Counter::EdgesOpened) + ledger.get(Counter::EdgesCompleted) == 0 && reasons.is_empty() {
            let text =
                "another span of its edge with the same ID is waiting; the attributes of this one replace its own";
            reasons.push(self.reason("repeated_span", text, ""));
        }
        reasons
    }

    /// The filter policy that drops a span, of span metrics or of service graphs.
    pub(super) fn filtered(&self, found: &FoundSpan, of_metrics: bool) -> Option<Reason> {
        let settings = self.settings();
        let (key, policies, counter) = if of_metrics {
            ("span_metrics.filter_policies", &settings.span_metrics.filter_policies, Counter::SpansDroppedFiltered)
        } else {
            ("service_graphs.filter_policies", &settings.service_graphs.filter_policies, Counter::EdgeSpansFiltered)
        };
        let filter = Filter::new(policies).ok()?;
        let decision = found.read(|spans, span| filter.decide(&filter.resource(&spans.resource), span))?;
        let policy = |i: usize, block: &'static str| {
            let FilterPolicy { include, exclude, .. } = policies.get(i)?;
            let shown = if block == "exclude" { exclude } else { include };
            Some((format!("[{i}].{block}"), show_block(shown.as_ref()?)))
        };
        let (text, place) = match decision {
            Decision::Kept => return None,
            Decision::Excluded(i) => ("an exclude block of a filter policy matches it", policy(i, "exclude")),
            Decision::NotIncluded(i) => ("an include block of a filter policy does not match it", policy(i, "include")),
            Decision::NoneOfAny => ("no include_any block of the filter policies matches it", None),
        };
        let mut reason = self.reason(counter.name(), text, key);
        if let (Some(setting), Some((place, value))) = (&mut reason.setting, place) {
            setting.key.push_str(&place);
            setting.value = value;
        }
        Some(reason)
    }

    /// Why the peer of a span that is filtered is in no edge.
    pub(super) fn counterpart(&self, filtered: &FoundSpan, span_id: &str) -> Option<Reason> {
        let reason = self.filtered(filtered, false)?;
        let text = format!("a filter policy drops its peer, span {span_id}");
        Some(Reason { code: Counter::EdgesDroppedCounterpart.name(), text, ..reason })
    }

    /// Why an edge is with a virtual node.
    pub(super) fn virtual_node(&self, set: &SeriesSet, kind: &str) -> Vec<Reason> {
        let called = ["SPAN_KIND_SERVER", "SPAN_KIND_CONSUMER"].contains(&kind);
        let code = Counter::EdgesVirtual.name();
        vec![if called {
            let text = format!(
                "no caller came within service_graphs.wait, so the virtual node {:?} stands in for it",
                set.label("client")
            );
            self.reason(code, text, "service_graphs.wait")
        } else {
            let text = format!(
                "no server span came within service_graphs.wait, so the virtual node {:?} stands in for it, which a peer \
                 attribute names",
                set.label("server")
            );
            self.reason(code, text, PEERS)
        }]
    }

    /// Why an edge is complete at the end of a wait.
    pub(super) fn late(&self, set: &SeriesSet) -> Vec<Reason> {
        let database = self.database(set);
        if !database.is_empty() {
            return database;
        }
        let text = "no client and server meet in it: the nearest span above of another service is the caller";
        vec![self.reason("ancestor", text, ANCESTORS)]
    }

    /// Why an edge is complete without another span.
    pub(super) fn database(&self, set: &SeriesSet) -> Vec<Reason> {
        let text = "an attribute names a database, which answers with no span of its own";
        let is_database = set.label("connection_type") == "database";
        is_database
            .then(|| self.reason("database", text, "service_graphs.database_name_attributes"))
            .into_iter()
            .collect()
    }

    /// What follows is not decided yet.
    pub(super) fn still_waits(&self) -> Reason {
        let text = "it still waits for its peer; if that does not come, this is why there is no edge:";
        self.reason("waits", text, "service_graphs.wait")
    }
}

// === impl FoundSpan ===

impl FoundSpan {
    /// Hands the span and its resource to `read`.
    fn read<T>(&self, read: impl FnOnce(&ResourceSpans<'_>, &Span<'_>) -> T) -> Option<T> {
        let mut batch = Batch::new();
        batch.decode(&self.request).ok()?;
        let resource_spans = batch.resources(&self.request).next()?;
        let span = resource_spans.spans().next()?;
        Some(read(&resource_spans, &span))
    }

    /// The span without what became of it. `attribute` names tenants, if one does.
    pub(super) fn describe(&self, attribute: Option<&[u8]>, source: &str) -> ExplainedSpan {
        let blank = ExplainedSpan { source: source.to_owned(), place: self.place.clone(), ..ExplainedSpan::default() };
        let described = self.read(|spans, span| {
            let service = spans.resource.get(b"service.name").map(|value| text(&value.text()));
            let tenant = self.tenant.as_deref().map(|tenant| tenant_of(attribute, tenant, spans).into_owned());
            ExplainedSpan {
                trace: span.trace_id.to_vec(),
                links: span.links().map(|link| hex(link.span_id)).collect(),
                span_id: hex(span.span_id),
                parent_span_id: hex(span.parent_span_id),
                name: text(span.name),
                kind: named(span.kind, &KINDS),
                status: named(span.status_code, &STATUSES),
                service,
                tenant,
                start_ns: span.start_ns,
                duration_ns: span.end_ns.saturating_sub(span.start_ns),
                ..blank.clone()
            }
        });
        described.unwrap_or(blank)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn named(number: i32, names: &[&str]) -> String {
    let name = usize::try_from(number).ok().and_then(|i| names.get(i));
    name.map_or_else(|| Cow::Owned(number.to_string()), |name| Cow::Borrowed(*name)).into_owned()
}
