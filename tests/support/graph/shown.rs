//! What an edge shows: its labels and its observations.

use super::*;

impl Graph {
    fn labels(&self, edge: &Edge) -> BTreeMap<String, String> {
        let rules = self.rules();
        let mut labels = BTreeMap::new();
        let mut set = |name: &str, value: &str| labels.insert(name.replace('.', "_"), value.to_owned());
        set("client", &edge.client);
        set("server", &edge.server);
        set("connection_type", edge.connection);
        for dimension in &rules.dimensions {
            let get = |side| edge.found.get(&(side, dimension.name.clone())).cloned();
            let sides = if self.sides_apart() { &["client_", "server_"][..] } else { &[""] };
            let nowhere = sides.iter().all(|side| get(*side).is_none());
            for &side in sides {
                let value = get(side).or_else(|| dimension.default.clone().filter(|_| nowhere));
                set(&format!("{side}{}", dimension.name), &value.unwrap_or_default());
            }
        }
        if rules.service_namespace == ServiceNamespace::Labels {
            for side in ["client_", "server_"] {
                let value = edge.found.get(&(side, "service.namespace".to_owned()));
                set(&format!("{side}service_namespace"), value.map_or("", String::as_str));
            }
        }
        if rules.operations {
            for side in ["client_", "server_"] {
                let value = edge.found.get(&(side, "operation".to_owned()));
                set(&format!("{side}operation"), value.map_or("", String::as_str));
            }
        }
        if rules.virtual_node_label {
            set("virtual_node", edge.stand_in);
        }
        if self.otel() {
            set("failed", if edge.failed { "true" } else { "false" });
        }
        labels.retain(|_, value| !value.is_empty());
        labels
    }

    pub(super) fn emit(&mut self, edge: &Edge, outcome: Counter) {
        let labels = self.labels(edge);
        if labels.values().any(|value| value.contains(BAD)) {
            return self.counter(Counter::EdgesDroppedInvalidUtf8);
        }
        self.counter(outcome);
        let rules = self.config.service_graphs.clone();
        let series = |name: &str| {
            let name = format!("traces_service_graph_{name}");
            (edge.key.0.clone(), Series { name, labels: labels.clone().into_iter().collect() })
        };
        let mut observed = rules.requests || rules.connection_info;
        if rules.requests {
            *self.values.entry(series("request_total")).or_default() += edge.weight;
            if edge.failed {
                *self.values.entry(series("request_failed_total")).or_default() += edge.weight;
            }
        }
        if rules.connection_info {
            self.values.insert(series("connection_info"), 1.0);
        }
        let took = |half: Half| half.map(|(start, end)| (end.saturating_sub(start), end));
        let (server, client) = (took(edge.server_half), took(edge.client_half));
        if rules.latency {
            let sides = [
                ("request_server_seconds", server, client, LatencySides::Server),
                ("request_client_seconds", client, server, LatencySides::Client),
            ];
            for (name, own, other, _) in
                sides.into_iter().filter(|(.., side)| [*side, LatencySides::Both].contains(&rules.latency_sides))
            {
                let (_, end) = own.or(other).expect("one side is there");
                if own.is_some() || rules.missing_side_is_zero {
                    observed = true;
                    self.observe(series(name), own.map_or(0, |(ns, _)| ns), end, edge);
                }
            }
        }
        if observed {
            self.touched.push((edge.key.0.clone(), labels.clone().into_iter().collect()));
        }
        if rules.latency && rules.messaging_latency && edge.connection == "messaging_system" {
            let (Some((start, end)), Some((_, sent))) = (edge.server_half, edge.client_half) else { return };
            if start > sent {
                self.observe(series("request_messaging_system_seconds"), start - sent, end, edge);
            } else {
                self.counter(Counter::MessagingNotObserved);
            }
        }
    }

    fn observe(&mut self, (tenant, series): (String, Series), ns: u64, end: u64, edge: &Edge) {
        let named = |suffix: &str| {
            let name = format!("{}_{suffix}", series.name);
            Series { name, ..series.clone() }
        };
        let bounds = &self.config.service_graphs.bounds_ns;
        let les = bounds.iter().map(|&ns| (ns, (ns as f64 / 1e9).to_string())).chain([(u64::MAX, "+Inf".to_owned())]);
        let trace_id = edge.key.1.as_slice().try_into().expect("16 bytes");
        let candidate = Exemplar { at: (end / 1_000_000) as i64, trace_id, value_ns: ns };
        let mut first = true;
        for (_, le) in les.filter(|(bound, _)| ns <= *bound) {
            let bucket = (tenant.clone(), named("bucket").with("le", le));
            if std::mem::take(&mut first) {
                let best = self.exemplars.entry(bucket.clone()).or_insert(candidate);
                *best = candidate.max(*best);
            }
            *self.values.entry(bucket).or_default() += edge.weight;
        }
        *self.values.entry((tenant.clone(), named("count"))).or_default() += edge.weight;
        *self.values.entry((tenant, named("sum"))).or_default() += edge.weight * ns as f64 / 1e9;
    }
}
