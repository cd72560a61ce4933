//! Service graphs once more, written plainly from the rules: lists that are searched from end to end, owned strings,
//! floats. Shares no code with the library but the settings and the ledger's names.

#[path = "graph/shown.rs"]
mod shown;

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use spanmill::core::model::{Counter, Exemplar};
use spanmill::core::settings::{Ancestors, LatencySides, Profile, ServiceGraphs, ServiceNamespace, Settings};
use spanmill::tools::totals::Series;

use super::streams::BAD;

/// Tenant, trace, span; the span of the root is empty.
type Key = (String, Vec<u8>, Vec<u8>);
/// Start and end.
type Half = Option<(u64, u64)>;

#[derive(Debug, Clone, Default)]
struct Edge {
    key: Key,
    created: i64,
    /// In the order of opening.
    number: u64,
    kind: i32,
    connection: &'static str,
    /// Which side is virtual.
    stand_in: &'static str,
    client: String,
    server: String,
    peer: String,
    failed: bool,
    client_half: Half,
    server_half: Half,
    /// By side (`client_`, `server_`, or nothing for both) and attribute.
    found: BTreeMap<(&'static str, String), String>,
    weight: f64,
    /// Of a server: its parent, wherever it waits.
    parent: Option<Vec<u8>>,
    /// A client that has met a server and waits for more, or a consumer that keeps others of its service from its producer.
    met: bool,
}

/// A span of any kind, for `ancestors: any`.
#[derive(Debug, Clone)]
struct Kin {
    key: Key,
    parent: Vec<u8>,
    created: i64,
    service: String,
    kind: i32,
    /// As the client of an edge, and as its server.
    sides: [Edge; 2],
    database: bool,
    passed: bool,
    decided: bool,
}

/// Everything that a span task knows of its pending edges, and what has become of the others.
#[derive(Debug)]
pub(crate) struct Graph {
    config: Arc<Settings>,
    now: i64,
    opened: u64,
    edges: Vec<Edge>,
    /// Key, whether the server side was dropped, time.
    marks: Vec<(Key, bool, i64)>,
    /// Key, parent, time.
    relays: Vec<(Key, Vec<u8>, i64)>,
    kin: Vec<Kin>,
    pub(crate) values: BTreeMap<(String, Series), f64>,
    pub(crate) exemplars: BTreeMap<(String, Series), Exemplar>,
    /// Tenant and labels of what was added since the last look.
    pub(crate) touched: Vec<(String, Vec<(String, String)>)>,
    pub(crate) counters: BTreeMap<&'static str, u64>,
}

impl Graph {
    pub(crate) fn new(config: &Arc<Settings>) -> Self {
        Self {
            config: Arc::clone(config),
            now: 0,
            opened: 0,
            edges: Vec::new(),
            marks: Vec::new(),
            relays: Vec::new(),
            kin: Vec::new(),
            values: BTreeMap::new(),
            exemplars: BTreeMap::new(),
            touched: Vec::new(),
            counters: BTreeMap::new(),
        }
    }

    pub(crate) fn pending(&self) -> usize {
        self.edges.iter().filter(|edge| !edge.met).count()
    }

    fn rules(&self) -> &ServiceGraphs {
        &self.config.service_graphs
    }

    fn otel(&self) -> bool {
        self.config.naming.profile == Profile::Otel
    }

    /// In the Collector dimensions are always of one side.
    fn sides_apart(&self) -> bool {
        self.rules().client_server_prefix || self.otel()
    }

    fn apart(&self) -> bool {
        self.rules().fan_out || self.rules().links || self.rules().ancestors != Ancestors::Off
    }

    fn any(&self) -> bool {
        self.rules().ancestors == Ancestors::Any
    }

    fn fan_out(&self) -> bool {
        self.rules().fan_out || self.any()
    }

    fn is_full(&self, len: usize) -> bool {
        len >= self.rules().max_items
    }

    fn counter(&mut self, counter: Counter) {
        *self.counters.entry(counter.name()).or_default() += 1;
    }

    pub(crate) fn wait(&self) -> i64 {
        self.rules().wait.max(1)
    }

    /// Settles the next edge that has waited long enough at `to`. Says when it was opened and when its spans ended.
    pub(crate) fn expire_next(&mut self, to: i64) -> Option<(i64, i64)> {
        let over = |edge: &Edge| !edge.met && edge.created + self.wait() <= to;
        let Some(at) = self.edges.iter().position(over) else { return self.decide_next(to) };
        let edge = self.edges.remove(at);
        let ended = [edge.client_half, edge.server_half].into_iter().flatten().map(|(_, end)| (end / 1_000_000) as i64);
        let told = (edge.created, ended.max().unwrap_or(edge.created));
        self.expire(edge);
        Some(told)
    }

    /// Forgets what nothing comes of. The edges have been settled.
    pub(crate) fn advance(&mut self, to: i64) {
        self.now = to;
        let wait = self.wait();
        let over = |created: i64| created + wait <= to;
        self.edges.retain(|edge| !over(edge.created));
        self.marks.retain(|(.., at)| !over(*at));
        self.relays.retain(|(.., at)| !over(*at));
        self.kin.retain(|kin| kin.created + 2 * wait > to);
    }

    // === any ancestors ===

    fn remember(&mut self, tenant: &str, resource: &[KeyValue], span: &Span) {
        let service = self.node(resource).unwrap_or_default();
        let fine = |id: &[u8], n| id.len() == n && !zero(id);
        if service.is_empty() || !fine(&span.trace_id, 16) || !fine(&span.span_id, 8) || self.is_dropped(span) {
            return;
        }
        if self.is_full(self.kin.len()) {
            return self.counter(Counter::RelaysDroppedFull);
        }
        let key = (tenant.to_owned(), span.trace_id.clone(), span.span_id.clone());
        if self.kin.iter().any(|kin| kin.key == key) {
            return;
        }
        let as_kind = |kind: i32| {
            let mut edge = Edge { key: key.clone(), ..Edge::default() };
            self.update(&mut edge, service.clone(), resource, &Span { kind, ..span.clone() });
            edge
        };
        let (client, server) = (as_kind(3), as_kind(2));
        let calls = span.kind == 3 || span.kind == 4;
        let kin = Kin {
            parent: if fine(&span.parent_span_id, 8) { span.parent_span_id.clone() } else { Vec::new() },
            created: self.now,
            kind: if (2..=5).contains(&span.kind) { span.kind } else { 0 },
            database: calls && !client.server.is_empty(),
            sides: [client, server],
            passed: false,
            decided: false,
            key,
            service,
        };
        self.kin.push(kin);
    }

    /// The span with this ID that came less than a wait before `time`.
    fn ancestor(&self, key: &Key, time: i64) -> Option<&Kin> {
        self.kin.iter().find(|kin| kin.key == *key && kin.created > time - self.wait())
    }

    fn called_by(&self, caller: &Kin, callee: &Edge, kind: i32) -> Edge {
        let calls = caller.kind == 3 || caller.kind == 4;
        let [client, _] = &caller.sides;
        let mut edge = callee.clone();
        edge.key = caller.key.clone();
        edge.client.clone_from(&caller.service);
        edge.client_half = client.client_half.filter(|_| calls);
        edge.failed |= calls && client.failed;
        edge.connection = if caller.kind == 4 || kind == 5 { "messaging_system" } else { "" };
        let of_callee = std::mem::take(&mut edge.found);
        edge.found.clone_from(&client.found);
        edge.found.extend(of_callee);
        edge.weight = edge.weight.max(client.weight);
        edge
    }

    /// Who calls a server that no client has met.
    fn caller_of(&self, edge: &Edge) -> Option<Edge> {
        let parent = edge.parent.clone().filter(|_| edge.client_half.is_none() && !edge.server.is_empty())?;
        let mut key = (edge.key.0.clone(), edge.key.1.clone(), parent);
        for _ in 0..100 {
            let above = self.ancestor(&key, edge.created)?;
            match (above.database, above.service == edge.server, above.kind) {
                (true, ..) => return None,
                (_, false, _) => return Some(self.called_by(above, edge, edge.kind)),
                (_, true, 0) => key.2.clone_from(&above.parent),
                (_, true, _) => return None,
            }
        }
        None
    }

    /// Whether spans of another service lie below a client, over spans of its own that make no edges.
    fn has_called(&self, key: &Key, client: &Edge, left: usize) -> bool {
        let below = |kin: &&Kin| {
            (&kin.key.0, &kin.key.1, &kin.parent) == (&key.0, &key.1, &key.2)
                && kin.created > client.created - self.wait()
        };
        self.kin.iter().filter(below).any(|kin| {
            let leads = kin.kind == 0 && left > 0 && kin.key != client.key;
            kin.service != client.client || leads && self.has_called(&kin.key, client, left - 1)
        })
    }

    fn decide_next(&mut self, to: i64) -> Option<(i64, i64)> {
        loop {
            let wait = self.wait();
            let kin = self.kin.iter_mut().find(|kin| !kin.decided && kin.created + wait <= to)?;
            kin.decided = true;
            let kin = kin.clone();
            if kin.passed || kin.kind == 2 || kin.kind == 5 {
                continue;
            }
            let above = (kin.key.0.clone(), kin.key.1.clone(), kin.parent.clone());
            let Some(caller) = self.ancestor(&above, kin.created) else { continue };
            if caller.service == kin.service || caller.database {
                continue;
            }
            let edge = self.called_by(caller, &kin.sides[1], 0);
            let ended = edge.server_half.map_or(kin.created, |(_, end)| (end / 1_000_000) as i64);
            self.counter(Counter::EdgesOpened);
            self.emit(&edge, Counter::EdgesCompleted);
            return Some((kin.created, ended));
        }
    }

    fn expire(&mut self, mut edge: Edge) {
        if self.any() {
            if let Some(edge) = self.caller_of(&edge) {
                return self.emit(&edge, Counter::EdgesCompleted);
            }
            if !edge.client.is_empty() && edge.server.is_empty() && self.has_called(&edge.key, &edge, 100) {
                return self.counter(Counter::EdgesJoined);
            }
        }
        edge.connection = "virtual_node";
        let peer = match (edge.peer.as_str(), self.otel()) {
            ("", true) => "unknown".to_owned(),
            (peer, _) => peer.to_owned(),
        };
        let linked = self.rules().links && edge.kind == 5;
        let orphan = self.rules().orphans && edge.client_half.is_none() && !edge.server.is_empty() && !linked;
        if edge.client.is_empty() && (edge.key.2.is_empty() || orphan) {
            let anonymous = edge.peer.is_empty() || self.otel();
            edge.client = if anonymous { "user".to_owned() } else { peer };
            edge.stand_in = "client";
        } else if !edge.client.is_empty() && edge.server.is_empty() && !peer.is_empty() {
            edge.server = peer;
            edge.stand_in = "server";
        } else {
            let kinds = [
                Counter::EdgesExpiredServer,
                Counter::EdgesExpiredClient,
                Counter::EdgesExpiredProducer,
                Counter::EdgesExpiredConsumer,
            ];
            return self.counter(kinds[edge.kind as usize - 2]);
        }
        self.emit(&edge, Counter::EdgesVirtual);
    }

    pub(crate) fn span(&mut self, tenant: &str, resource: &[KeyValue], span: &Span) {
        if ![2, 3, 4, 5].contains(&span.kind) {
            if self.any() {
                self.remember(tenant, resource, span);
            }
            if self.rules().ancestors != Ancestors::Off {
                self.relay(tenant, span);
            }
            return;
        }
        let mut span = span.clone();
        let operation = text_of(&span.attributes, "messaging.operation.type");
        let operation = operation.or_else(|| text_of(&span.attributes, "messaging.operation"));
        if self.rules().receive_once && span.kind == 3 && matches!(operation.as_deref(), Some("receive" | "process")) {
            span.kind = 5;
        }
        let span = &span;
        self.counter(Counter::EdgeSpans);
        let Some(service) = self.node(resource) else {
            return self.counter(Counter::EdgeSpansWithoutService);
        };
        let client = span.kind == 3 || span.kind == 4;
        let other = if client { &span.span_id } else { &span.parent_span_id };
        let bad_length = other.len() != 8 && (client || !other.is_empty());
        if span.trace_id.len() != 16 || zero(&span.trace_id) || bad_length || (client && zero(other)) {
            return self.counter(Counter::EdgeSpansInvalidId);
        }
        let key = (tenant.to_owned(), span.trace_id.clone(), if zero(other) { Vec::new() } else { other.clone() });
        if self.is_dropped(span) {
            return self.filtered(&key, client);
        }
        if self.any() {
            self.remember(tenant, resource, span);
        }
        match (self.apart(), client) {
            (false, _) => self.together(key, service, resource, span),
            (true, true) => self.client(&key, service, resource, span),
            (true, false) => self.server(&key, &service, resource, span),
        }
    }

    fn is_dropped(&self, span: &Span) -> bool {
        !self.rules().filter_policies.is_empty() && text_of(&span.attributes, "drop").as_deref() == Some("yes")
    }

    /// The name of the node that the service is.
    fn node(&self, resource: &[KeyValue]) -> Option<String> {
        let service = find(resource, "service.name")?;
        let namespace = find(resource, "service.namespace").unwrap_or_default();
        let named = self.rules().service_namespace == ServiceNamespace::Name;
        let is_both = named && !namespace.is_empty() && !service.is_empty();
        Some(if is_both { format!("{namespace}/{service}") } else { service })
    }

    fn open(&mut self, key: Key, service: String, resource: &[KeyValue], span: &Span) -> Edge {
        self.opened += 1;
        let mut edge = Edge { key, created: self.now, number: self.opened, ..Edge::default() };
        self.update(&mut edge, service, resource, span);
        edge
    }

    fn keep(&mut self, edge: Edge) {
        if self.is_full(self.edges.len()) {
            self.counter(Counter::EdgesDroppedFull);
        } else {
            self.edges.push(edge);
        }
    }

    fn is_marked(&self, key: &Key, server: bool) -> bool {
        self.marks.iter().any(|(k, s, _)| k == key && *s == server)
    }

    // === two halves in one entry ===

    fn together(&mut self, key: Key, service: String, resource: &[KeyValue], span: &Span) {
        let alone = self.rules().each_root && key.2.is_empty();
        if let Some(at) = self.edges.iter().position(|edge| edge.key == key && !alone) {
            let mut edge = self.edges[at].clone();
            let before = if span.kind == 3 || span.kind == 4 { &edge.client } else { &edge.server };
            if !before.is_empty() {
                self.counter(Counter::EdgeSpansReplaced);
            }
            self.update(&mut edge, service, resource, span);
            self.edges[at] = edge;
            if complete(&self.edges[at]) {
                let edge = self.edges.remove(at);
                self.emit(&edge, Counter::EdgesCompleted);
            }
            return;
        }
        self.counter(Counter::EdgesOpened);
        let client = span.kind == 3 || span.kind == 4;
        if self.is_marked(&key, client) {
            return self.counter(Counter::EdgesDroppedCounterpart);
        }
        let edge = self.open(key, service, resource, span);
        if complete(&edge) { self.emit(&edge, Counter::EdgesCompleted) } else { self.keep(edge) }
    }

    fn filtered(&mut self, key: &Key, client: bool) {
        self.counter(Counter::EdgeSpansFiltered);
        if !client && key.2.is_empty() {
            return;
        }
        let known = self.is_marked(key, !client);
        if known || !self.is_full(self.marks.len()) {
            self.marks.retain(|(k, s, _)| !(k == key && *s != client));
            self.marks.push((key.clone(), !client, self.now));
        } else {
            self.counter(Counter::MarksDroppedFull);
        }
        let apart = self.apart();
        let fan_out = self.fan_out();
        for mut edge in std::mem::take(&mut self.edges) {
            let is_server = if apart { edge.client_half.is_none() } else { !edge.server.is_empty() };
            if edge.key != *key || edge.met || is_server != client {
                self.edges.push(edge);
                continue;
            }
            self.counter(Counter::EdgesDroppedCounterpart);
            if apart && !client && fan_out {
                edge.met = true;
                self.edges.push(edge);
            }
        }
    }

    // === halves apart ===

    fn client(&mut self, key: &Key, service: String, resource: &[KeyValue], span: &Span) {
        let mut edge = self.open(key.clone(), service.clone(), resource, span);
        if complete(&edge) {
            self.counter(Counter::EdgesOpened);
            return self.emit(&edge, Counter::EdgesCompleted);
        }
        if let Some(at) = self.edges.iter().position(|e| e.key == *key && e.client_half.is_some()) {
            let mut known = self.edges[at].clone();
            self.update(&mut known, service, resource, span);
            self.edges[at] = known;
            if complete(&self.edges[at]) && !self.edges[at].met {
                let edge = self.edges.remove(at);
                self.emit(&edge, Counter::EdgesCompleted);
            }
            return;
        }
        let fan_out = self.fan_out();
        if self.is_marked(key, true) {
            self.counter(Counter::EdgesOpened);
            self.counter(Counter::EdgesDroppedCounterpart);
            if !fan_out {
                return;
            }
            edge.met = true;
        }
        while !edge.client.is_empty() && (fan_out || !edge.met) {
            let waits = |e: &Edge| e.key == *key && !e.met && e.client_half.is_none() && !e.server.is_empty();
            let Some(at) = self.edges.iter().position(waits) else { break };
            let mut server = self.edges.remove(at);
            if edge.met && self.is_repeated(&edge, &server) {
                self.counter(Counter::EdgesDroppedRepeated);
                continue;
            }
            self.meet(&edge, &server);
            edge.met = true;
            if self.keeps_others_away(&server) {
                (server.met, server.key) = (true, edge.key.clone());
                self.edges.insert(at, server);
            }
        }
        if !edge.met {
            self.counter(Counter::EdgesOpened);
            self.keep(edge);
        } else if fan_out {
            if self.is_full(self.edges.len()) {
                self.counter(Counter::EdgesOpened);
            }
            self.keep(edge);
        }
    }

    fn server(&mut self, key: &Key, service: &str, resource: &[KeyValue], span: &Span) {
        let mut keys = vec![key.clone()];
        if self.rules().links && span.kind == 5 {
            for link in &span.links {
                let valid = link.trace_id.len() == 16 && link.span_id.len() == 8;
                let linked = (key.0.clone(), link.trace_id.clone(), link.span_id.clone());
                if valid && !zero(&link.trace_id) && !zero(&link.span_id) && !keys.contains(&linked) {
                    keys.push(linked);
                }
            }
        }
        if keys.len() > 1 && key.2.is_empty() {
            keys.remove(0);
        }
        for linked in keys {
            let mut edge = self.open(linked.clone(), service.to_owned(), resource, span);
            edge.parent = Some(linked.2.clone()).filter(|_| linked == *key);
            if !edge.server.is_empty() {
                edge.key = self.climb(linked, edge.parent.is_some());
            }
            self.counter(Counter::EdgesOpened);
            self.place(edge, true);
        }
    }

    /// A server that is opened already stands at its key: it meets a client there, or waits.
    fn place(&mut self, server: Edge, is_new: bool) {
        let client = |e: &Edge| e.key == server.key && e.client_half.is_some() && !e.client.is_empty();
        let at = self.edges.iter().position(client).filter(|_| !server.server.is_empty());
        if let Some(at) = at {
            if !self.edges[at].met {
                // Two were opened for one edge.
                if is_new {
                    *self.counters.entry(Counter::EdgesOpened.name()).or_default() -= 1;
                } else {
                    self.counter(Counter::EdgesJoined);
                }
            }
            let client = self.edges[at].clone();
            if client.met && self.is_repeated(&client, &server) {
                return self.counter(Counter::EdgesDroppedRepeated);
            }
            if self.fan_out() {
                self.edges[at].met = true;
            } else {
                self.edges.remove(at);
            }
            self.meet(&client, &server);
            if self.keeps_others_away(&server) && !(is_new && self.is_full(self.edges.len())) {
                self.edges.push(Edge { met: true, key: client.key, ..server });
            }
        } else if !server.server.is_empty() && !server.key.2.is_empty() && self.is_marked(&server.key, false) {
            self.counter(Counter::EdgesDroppedCounterpart);
        } else if is_new {
            self.keep(server);
        } else {
            self.edges.push(server);
        }
    }

    fn keeps_others_away(&self, server: &Edge) -> bool {
        self.rules().receive_once && self.fan_out() && server.kind == 5
    }

    fn is_repeated(&self, client: &Edge, server: &Edge) -> bool {
        let same = |e: &Edge| e.met && e.client_half.is_none() && e.key == client.key && e.server == server.server;
        self.keeps_others_away(server) && self.edges.iter().any(same)
    }

    /// The topmost place that is known, but not beyond a client.
    fn climb(&mut self, mut key: Key, passes: bool) -> Key {
        for _ in 0..100 {
            let client = |e: &Edge| e.key == key && e.client_half.is_some() && !e.client.is_empty();
            if key.2.is_empty() || self.edges.iter().any(client) || self.is_marked(&key, false) {
                break;
            }
            match self.relays.iter().find(|(k, ..)| *k == key) {
                Some((_, parent, _)) => {
                    self.kin.iter_mut().filter(|kin| passes && kin.key == key).for_each(|kin| kin.passed = true);
                    key.2.clone_from(parent);
                }
                None => break,
            }
        }
        key
    }

    fn relay(&mut self, tenant: &str, span: &Span) {
        let fine = |id: &[u8], n| id.len() == n && !zero(id);
        if !fine(&span.trace_id, 16) || !fine(&span.span_id, 8) || !fine(&span.parent_span_id, 8) {
            return;
        }
        let key: Key = (tenant.to_owned(), span.trace_id.clone(), span.span_id.clone());
        if self.relays.iter().any(|(k, ..)| *k == key) {
            return;
        }
        if self.is_full(self.relays.len()) {
            return self.counter(Counter::RelaysDroppedFull);
        }
        self.relays.push((key.clone(), span.parent_span_id.clone(), self.now));
        let waits = |e: &Edge| e.key == key && !e.met && e.client_half.is_none() && !e.server.is_empty();
        let (below, rest): (Vec<Edge>, _) = self.edges.drain(..).partition(waits);
        self.edges = rest;
        for mut server in below {
            server.key = self.climb(server.key, server.parent.is_some());
            self.place(server, false);
        }
        self.edges.sort_by_key(|edge| edge.number);
    }

    fn meet(&mut self, client: &Edge, server: &Edge) {
        let mut edge = client.clone();
        edge.server.clone_from(&server.server);
        edge.server_half = server.server_half;
        edge.failed |= server.failed;
        edge.connection = if client.kind == 4 || server.kind == 5 { "messaging_system" } else { "" };
        edge.found.extend(server.found.clone());
        edge.weight = edge.weight.max(server.weight);
        self.emit(&edge, Counter::EdgesCompleted);
    }

    // === what a span says ===

    fn update(&self, edge: &mut Edge, service: String, resource: &[KeyValue], span: &Span) {
        let rules = self.rules();
        let own = Some((span.start_time_unix_nano, span.end_time_unix_nano));
        let is_client = span.kind == 3 || span.kind == 4;
        let either = |key: &str| find(resource, key).or_else(|| find(&span.attributes, key));
        edge.kind = span.kind;
        let kind = if span.kind >= 4 { "messaging_system" } else { "" };
        let rank = |connection: &str| ["", "messaging_system", "database"].iter().position(|c| *c == connection);
        if !rules.type_of_both || rank(edge.connection) < rank(kind) {
            edge.connection = kind;
        }
        edge.failed |= span.status.as_ref().is_some_and(|s| s.code == 2) || self.is_failure(span);
        let of_target = |key: &str| ["db.", "server.", "messaging."].iter().any(|start| key.starts_with(start));
        let names = |key: &&String| is_client || !rules.strict_callers || !of_target(key);
        if let Some(peer) = rules.peer_attributes.iter().filter(names).find_map(|key| find(&span.attributes, key))
            && (is_client || !self.otel())
        {
            edge.peer = peer;
        }
        let side = if is_client { "client_" } else { "server_" };
        let shared = if self.sides_apart() { side } else { "" };
        for dimension in &rules.dimensions {
            if let Some(value) = either(&dimension.name) {
                edge.found.insert((shared, dimension.name.clone()), value);
            }
        }
        if let Some(namespace) = find(resource, "service.namespace") {
            edge.found.insert((side, "service.namespace".to_owned()), namespace);
        }
        edge.found.insert((side, "operation".to_owned()), span.name.clone());
        edge.weight = edge.weight.max(self.weight(span));
        if !is_client {
            (edge.server, edge.server_half) = (service, own);
            return;
        }
        (edge.client, edge.client_half) = (service, own);
        let Some(fallback) = rules.database_name_attributes.iter().find_map(|key| either(key)) else { return };
        (edge.connection, edge.server_half) = ("database", own);
        let node = |key: &str| if self.otel() { None } else { either(key) };
        if let Some(name) = node("peer.service").or_else(|| node("server.address")) {
            edge.server = name;
        } else if let Some(address) = node("network.peer.address") {
            edge.server = node("network.peer.port").map_or_else(|| address.clone(), |port| format!("{address}:{port}"));
        } else if !fallback.is_empty() {
            edge.server = fallback;
        }
    }

    fn is_failure(&self, span: &Span) -> bool {
        let number = |key: &str| find(&span.attributes, key).and_then(|text| text.parse::<i64>().ok());
        let least = i64::from(self.rules().failed_http_status);
        let http = ["http.response.status_code", "http.status_code"].into_iter().filter_map(number);
        let code = |text: String| match text.as_str() {
            "UNKNOWN" => Some(2),
            "Unavailable" => Some(14),
            text => text.parse::<i64>().ok(),
        };
        let keys = ["rpc.grpc.status_code", "rpc.response.status_code", "rpc.status_code"];
        let mut grpc = keys.into_iter().filter_map(|key| find(&span.attributes, key)).filter_map(code);
        (least > 0 && http.into_iter().any(|status| status >= least))
            || grpc.any(|code| self.rules().failed_grpc_codes.iter().any(|&c| i64::from(c) == code))
    }

    fn weight(&self, span: &Span) -> f64 {
        match span.trace_state.as_str() {
            "ot=th:8" if self.rules().tracestate_multiplier => 2.0,
            "ot=th:c" if self.rules().tracestate_multiplier => 4.0,
            "ot=th:4" if self.rules().tracestate_multiplier => 4.0 / 3.0,
            _ => 1.0,
        }
    }
}

fn complete(edge: &Edge) -> bool {
    !edge.client.is_empty() && !edge.server.is_empty()
}

fn zero(id: &[u8]) -> bool {
    id.iter().all(|&b| b == 0)
}

fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<Option<&'a Value>> {
    let found = attributes.iter().find(|a| a.key == key)?;
    Some(found.value.as_ref().and_then(|v| v.value.as_ref()))
}

fn text_of(attributes: &[KeyValue], key: &str) -> Option<String> {
    match value(attributes, key)? {
        Some(Value::StringValue(text)) => Some(text.clone()),
        _ => None,
    }
}

fn find(attributes: &[KeyValue], key: &str) -> Option<String> {
    Some(match value(attributes, key)? {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(n)) => n.to_string(),
        Some(Value::BoolValue(b)) => b.to_string(),
        _ => String::new(),
    })
}
