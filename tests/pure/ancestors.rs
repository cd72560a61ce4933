//! `ancestors: any` against the rules of docs/configuration.md, read from whole traces. The oracle knows the trace as a
//! tree, and nothing of records, waiting, or owners; it shares no line with the library or with the plain model.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use spanmill::config::Config;
use spanmill::core::model::Counter;
use spanmill::core::settings::Ancestors;
use spanmill::core::tasks::span::SpanSettings;

use crate::scramble::Dice;
use crate::streams::{Event, Rec};
use crate::world::World;

const WAIT: i64 = 20_000;

/// A span of a trace.
#[derive(Debug, Clone)]
struct Node {
    name: String,
    service: &'static str,
    kind: i32,
    /// The index of its parent; beyond the end: a span that was not sent.
    parent: Option<usize>,
    failed: bool,
    /// An attribute of a client about its peer.
    peer: Option<(&'static str, &'static str)>,
}

/// What identifies an edge: client, its operation, server, its operation, connection, whether it failed, whether the
/// client was measured.
type Call = (String, String, String, String, &'static str, bool, bool);

fn trace(dice: &mut Dice, number: u64, most: u64) -> Vec<Node> {
    let spans = 1 + dice.below(most);
    let span = |(i, dice): (u64, &mut Dice)| Node {
        name: format!("t{number}s{i}"),
        service: ["web", "cart", "mesh"][dice.below(3) as usize],
        kind: [0, 1, 1, 1, 2, 2, 3, 3, 4, 5][dice.below(10) as usize],
        parent: match dice.below(12) {
            0 => None,
            1 => Some(99),
            _ if i == 0 => None,
            n if n < 6 => Some(i as usize - 1),
            _ => Some(dice.below(i) as usize),
        },
        failed: dice.below(4) == 0,
        peer: match dice.below(8) {
            0 => Some(("db.name", "orders")),
            1 | 2 => Some(("peer.service", "bank")),
            _ => None,
        },
    };
    (0..spans).map(|i| span((i, &mut *dice))).collect()
}

// === the oracle ===

struct Oracle<'a>(&'a [Node]);

impl Oracle<'_> {
    fn above(&self, at: usize) -> Option<usize> {
        self.0[at].parent.filter(|&parent| parent < self.0.len())
    }

    fn is_plain(&self, at: usize) -> bool {
        self.0[at].kind < 2
    }

    fn is_server(&self, at: usize) -> bool {
        matches!(self.0[at].kind, 2 | 5)
    }

    fn is_client(&self, at: usize) -> bool {
        matches!(self.0[at].kind, 3 | 4)
    }

    fn is_database(&self, at: usize) -> bool {
        self.is_client(at) && self.0[at].peer.is_some_and(|(key, _)| key == "db.name")
    }

    /// The spans of other kinds right above a span, and the first one above those.
    fn plain_above(&self, at: usize) -> (Vec<usize>, Option<usize>) {
        let (mut between, mut above) = (Vec::new(), self.above(at));
        while let Some(plain) = above.filter(|&above| self.is_plain(above)) {
            between.push(plain);
            above = self.above(plain);
        }
        (between, above)
    }

    /// The client that a server is a strict pair with.
    fn strict(&self, at: usize) -> Option<usize> {
        let is_pair = |&above: &usize| self.is_client(above) && !self.is_database(above);
        self.plain_above(at).1.filter(|_| self.is_server(at)).filter(is_pair)
    }

    fn caller(&self, at: usize) -> Option<usize> {
        if let Some(client) = self.strict(at) {
            return Some(client);
        }
        let own = self.0[at].service;
        let mut above = self.above(at)?;
        if self.is_server(at) {
            while self.is_plain(above) && self.0[above].service == own {
                above = self.above(above)?;
            }
        } else if self.is_plain(at)
            && (0..self.0.len()).any(|other| self.is_server(other) && self.plain_above(other).0.contains(&at))
        {
            return None;
        }
        Some(above).filter(|&above| self.0[above].service != own && !self.is_database(above))
    }

    /// Whether another service lies below a client, over spans of other kinds of its own service.
    fn has_called(&self, client: usize) -> bool {
        let own = self.0[client].service;
        (0..self.0.len()).filter(|&at| self.0[at].service != own).any(|at| {
            let mut above = self.above(at);
            while let Some(plain) = above.filter(|&above| self.is_plain(above) && self.0[above].service == own) {
                above = self.above(plain);
            }
            above == Some(client)
        })
    }

    fn calls(&self) -> Vec<Call> {
        let (mut calls, nothing) = (Vec::new(), String::new);
        for (at, span) in self.0.iter().enumerate() {
            let (service, name) = (span.service.to_owned(), span.name.clone());
            if let Some(caller) = self.caller(at) {
                let by = &self.0[caller];
                let messaging = by.kind == 4 || span.kind == 5;
                let failed = span.failed || by.failed && self.is_client(caller);
                let kind = if messaging { "messaging_system" } else { "" };
                let measured = self.is_client(caller);
                calls.push((
                    by.service.to_owned(),
                    by.name.clone(),
                    service.clone(),
                    name.clone(),
                    kind,
                    failed,
                    measured,
                ));
            } else if self.is_server(at) && span.parent.is_none() {
                // The peer of a server names its caller.
                let named = |(_, peer): (&'static str, &'static str)| peer;
                let client = span.peer.map_or("user", named).to_owned();
                calls.push((client, nothing(), service.clone(), name.clone(), "virtual_node", span.failed, false));
            }
            if !self.is_client(at) {
                continue;
            }
            let is_met = (0..self.0.len()).any(|other| self.strict(other) == Some(at));
            match span.peer {
                Some(("db.name", db)) => {
                    calls.push((service, name, db.to_owned(), nothing(), "database", span.failed, true));
                }
                Some((_, peer)) if !is_met && !self.has_called(at) => {
                    calls.push((service, name, peer.to_owned(), nothing(), "virtual_node", span.failed, true));
                }
                _ => {}
            }
        }
        calls
    }
}

// === the run ===

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn id(trace: usize, at: usize) -> Vec<u8> {
    vec![0, 0, 0, 0, 0, 0, trace as u8 + 1, at as u8 + 1]
}

fn record(offset: i64, timestamp: i64, spans: &[(usize, usize, &Node)]) -> Event {
    let resource_spans = spans.iter().map(|&(trace, at, node)| {
        let start = 1_000_000_000_000 + at as u64 * 1_000_000;
        let span = Span {
            trace_id: vec![trace as u8 + 1; 16],
            span_id: id(trace, at),
            parent_span_id: node.parent.map(|parent| id(trace, parent)).unwrap_or_default(),
            name: node.name.clone(),
            kind: node.kind,
            start_time_unix_nano: start,
            end_time_unix_nano: start + 50_000_000,
            attributes: node.peer.map(|(key, value)| text(key, value)).into_iter().collect(),
            status: node.failed.then(|| Status { code: 2, message: String::new() }),
            ..Span::default()
        };
        let resource = Resource { attributes: vec![text("service.name", node.service)], ..Resource::default() };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }
    });
    let request = ExportTraceServiceRequest { resource_spans: resource_spans.collect() };
    let value = request.encode_to_vec();
    Event::Record(Rec { offset, timestamp, tenant: Some("one"), request: Some(request), value })
}

fn settings() -> SpanSettings {
    let mut config = Config::default();
    config.kafka.shards = 2;
    let graphs = &mut config.core.service_graphs;
    (graphs.wait, graphs.ancestors, graphs.operations) = (WAIT, Ancestors::Any, true);
    graphs.missing_side_is_zero = false;
    config.core.time.max_future = 3_600_000;
    SpanSettings::from(&config)
}

/// The edges of a topic, each with how often it was counted.
fn counted(events: &[Event], dice: Option<&mut Dice>) -> (BTreeMap<Call, f64>, u64) {
    let mut world = World::new(&settings());
    let (mut i, mut crashes, mut dice) = (0, 0, dice);
    while i < events.len() {
        world.event(events, i);
        i += 1;
        let Some(dice) = dice.as_deref_mut() else { continue };
        if dice.below(3) == 0 {
            let cut = world.task.cut();
            world.commit(cut, events, i);
        }
        if crashes < 6 && dice.below(4) == 0 {
            crashes += 1;
            i = world.crash(events, dice);
        }
    }
    let (totals, ledger, live) = world.finish(events);
    assert_eq!(world.task.pending_edges(), 0);
    assert!(live.is_empty(), "what is over is forgotten: {live:?}");
    let values = totals.values("one");
    let mut calls: BTreeMap<Call, f64> = BTreeMap::new();
    for (series, value) in values.iter().filter(|(s, _)| s.name == "traces_service_graph_request_total") {
        let named = |suffix: &str| {
            let mut other = (*series).clone();
            other.name = format!("traces_service_graph_request_{suffix}");
            values.get(&other).copied().unwrap_or(0.0)
        };
        let label = |name: &str| {
            series.labels.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value).to_owned()
        };
        let connection = match label("connection_type").as_str() {
            "virtual_node" => "virtual_node",
            "messaging_system" => "messaging_system",
            "database" => "database",
            _ => "",
        };
        let (failed, measured) = (named("failed_total") > 0.0, named("client_seconds_count") > 0.0);
        let [client, by, server, name] = ["client", "client_operation", "server", "server_operation"].map(label);
        calls.insert((client, by, server, name, connection, failed, measured), *value);
    }
    (calls, ledger.get(Counter::EdgesCompleted) + ledger.get(Counter::EdgesVirtual))
}

fn expected(traces: &[Vec<Node>]) -> BTreeMap<Call, f64> {
    let mut calls = BTreeMap::new();
    for call in traces.iter().flat_map(|trace| Oracle(trace).calls()) {
        *calls.entry(call).or_default() += 1.0;
    }
    calls
}

fn check(traces: &[Vec<Node>], events: &[Event], dice: Option<&mut Dice>) {
    let (found, edges) = counted(events, dice);
    let wanted = expected(traces);
    assert_eq!(found, wanted, "{traces:#?}");
    assert_eq!(edges, wanted.values().map(|n| *n as u64).sum::<u64>());
    let mut callees: Vec<&str> = found.keys().map(|call| call.3.as_str()).filter(|name| !name.is_empty()).collect();
    let all = callees.len();
    callees.sort_unstable();
    callees.dedup();
    assert_eq!(callees.len(), all, "each span is called once: {traces:#?}");
}

/// The silence after the last record, in which every wait ends twice.
fn silence(events: &mut Vec<Event>) {
    events.extend([1, 2, 3].map(|n| Event::Tick(1_000_000 + n * (WAIT + 15_000))));
}

#[test]
fn calls_between_spans_of_any_kind_are_those_of_the_whole_trace_in_every_order_and_over_owners() {
    for seed in 0..1_000 {
        let dice = &mut Dice(seed);
        let traces: Vec<Vec<Node>> = (0..3).map(|number| trace(dice, number, 12)).collect();
        let mut spans: Vec<(usize, usize, &Node)> = Vec::new();
        for (number, trace) in traces.iter().enumerate() {
            spans.extend(trace.iter().enumerate().map(|(at, node)| (number, at, node)));
        }
        for i in (1..spans.len()).rev() {
            spans.swap(i, dice.below(i as u64 + 1) as usize);
        }
        let (mut events, mut time, mut rest) = (Vec::new(), 1_000_000, spans.as_slice());
        let pace = (WAIT - 1) as u64 / spans.len() as u64;
        while !rest.is_empty() {
            let (now, later) = rest.split_at((1 + dice.below(3) as usize).min(rest.len()));
            events.push(record(events.len() as i64, time, now));
            (time, rest) = (time + dice.below(pace + 1) as i64, later);
        }
        silence(&mut events);
        check(&traces, &events, Some(dice));
    }
}

#[test]
fn small_traces_have_the_same_calls_in_every_order() {
    for seed in 0..60 {
        let trace = trace(&mut Dice(seed), 0, 5);
        let mut order: Vec<usize> = (0..trace.len()).collect();
        permute(&mut order, 0, &mut |order| {
            let records = order.iter().enumerate();
            let each =
                |(n, &at): (usize, &usize)| record(n as i64, 1_000_000 + n as i64 * 4_900, &[(0, at, &trace[at])]);
            let mut events: Vec<Event> = records.map(each).collect();
            silence(&mut events);
            check(std::slice::from_ref(&trace), &events, None);
        });
    }
}

fn permute(order: &mut [usize], from: usize, visit: &mut impl FnMut(&[usize])) {
    if from == order.len() {
        return visit(order);
    }
    for at in from..order.len() {
        order.swap(from, at);
        permute(order, from + 1, visit);
        order.swap(from, at);
    }
}
