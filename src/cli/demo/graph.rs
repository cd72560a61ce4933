//! The service graph as the receiver knows it: its series, read back into edges.
//!
//! *In:* the receiver's series. *Out:* [`Edge`]s, callers first. *Never:* anything that did not come over remote write.

use std::collections::{BTreeMap, BTreeSet};

use crate::tools::receiver::SeriesState;

/// One edge of the graph.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Edge {
    pub(super) client: String,
    pub(super) server: String,
    /// The label `connection_type`; empty for an ordinary call.
    pub(super) connection: String,
    /// Requests since the beginning.
    pub(super) requests: f64,
    /// Failed requests since the beginning.
    pub(super) failed: f64,
    /// The side that its latencies were measured on.
    pub(super) side: Side,
    /// Quantiles of the latency in seconds.
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
}

/// The side whose spans a latency comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    /// The server sends no spans: it is a database, or external.
    Client,
}

/// A cumulative histogram: upper bounds in seconds, counts.
type Buckets = Vec<(f64, f64)>;

#[derive(Debug, Default)]
struct Parts {
    requests: f64,
    failed: f64,
    server_sum: f64,
    server: Buckets,
    client: Buckets,
}

/// Client, server, connection type.
type EdgeId = (String, String, String);

/// Reads the edges out of the receiver's series.
pub(super) fn edges(series: &BTreeMap<String, SeriesState>) -> Vec<Edge> {
    let mut parts: BTreeMap<EdgeId, Parts> = BTreeMap::new();
    let of_graph = series.range("traces_service_graph_".to_owned()..).take_while(|(s, _)| s.starts_with("traces_serv"));
    for (text, state) in of_graph {
        let Some((name, labels)) = text.split_once('{') else { continue };
        let value = |name| label(labels, name).unwrap_or_default().to_owned();
        let part = parts.entry((value("client"), value("server"), value("connection_type"))).or_default();
        let bound = || label(labels, "le").and_then(|le| le.parse().ok()).unwrap_or(f64::INFINITY);
        match name.trim_start_matches("traces_service_graph_request_") {
            "total" => part.requests = state.last_value,
            "failed_total" => part.failed = state.last_value,
            "server_seconds_sum" => part.server_sum = state.last_value,
            "server_seconds_bucket" => part.server.push((bound(), state.last_value)),
            "client_seconds_bucket" => part.client.push((bound(), state.last_value)),
            _ => {}
        }
    }
    // Failed requests or a partial histogram without the total wait for it.
    parts.retain(|_, part| part.requests > 0.0);
    let edges = parts.into_iter().map(|(key, part)| part.edge(key)).collect();
    callers_first(edges)
}

impl Parts {
    fn edge(mut self, (client, server, connection): EdgeId) -> Edge {
        let side = if self.server_sum > 0.0 { Side::Server } else { Side::Client };
        let buckets = if side == Side::Server { &mut self.server } else { &mut self.client };
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (p50, p95) = (quantile(0.5, buckets), quantile(0.95, buckets));
        Edge { client, server, connection, requests: self.requests, failed: self.failed, side, p50, p95 }
    }
}

/// The value of a label in `a="x",b="y"}`. The shop's values need no escapes.
pub(super) fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split("\",").find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\""))?.trim_end_matches("\"}").into()
}

/// A quantile of a classic histogram, as `histogram_quantile` of Prometheus has it: linear inside a bucket, and the
/// greatest finite bound for what lies above it. `buckets` ascend and end with an infinite bound.
pub(super) fn quantile(q: f64, buckets: &[(f64, f64)]) -> Option<f64> {
    let total = buckets.last().filter(|(bound, n)| bound.is_infinite() && *n > 0.0)?.1;
    let rank = q * total;
    let at = buckets.iter().position(|&(_, n)| n >= rank)?;
    let (low, below) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
    let (high, n) = buckets[at];
    if high.is_infinite() {
        return (at > 0).then_some(low);
    }
    Some(low + (high - low) * (rank - below) / (n - below).max(f64::MIN_POSITIVE))
}

/// Orders edges as one would draw them: services without a caller first, then the services that they call, breadth
/// first.
fn callers_first(mut edges: Vec<Edge>) -> Vec<Edge> {
    let servers: BTreeSet<&str> = edges.iter().map(|e| e.server.as_str()).collect();
    let clients: BTreeSet<&str> = edges.iter().map(|e| e.client.as_str()).collect();
    let mut order: Vec<String> = clients.difference(&servers).map(|&c| c.to_owned()).collect();
    let mut next = 0;
    // A cycle without an entry point is entered anywhere.
    for entrance in clients {
        while let Some(client) = order.get(next).cloned() {
            next += 1;
            for server in edges.iter().filter(|e| e.client == client).map(|e| &e.server) {
                if !order.contains(server) {
                    order.push(server.clone());
                }
            }
        }
        if !order.iter().any(|seen| seen == entrance) {
            order.push(entrance.to_owned());
        }
    }
    let rank: BTreeMap<String, usize> = order.into_iter().zip(0..).collect();
    edges.sort_by_key(|e| (rank.get(&e.client).copied(), rank.get(&e.server).copied()));
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(value: f64) -> SeriesState {
        SeriesState { last_ts: 1, last_value: value, stale: false, samples: 1, exemplars: 0 }
    }

    fn close(found: Option<f64>, wanted: f64) -> bool {
        found.is_some_and(|v| (v - wanted).abs() < 1e-9)
    }

    #[test]
    fn a_quantile_is_interpolated_as_prometheus_does() {
        let buckets = [(0.1, 10.0), (0.2, 30.0), (f64::INFINITY, 40.0)];
        assert!(close(quantile(0.5, &buckets), 0.15));
        assert!(close(quantile(0.1, &buckets), 0.04));
        assert!(close(quantile(0.75, &buckets), 0.2));
        assert!(close(quantile(0.95, &buckets), 0.2), "above the last bound the last bound stands");
    }

    #[test]
    fn an_empty_or_cut_histogram_has_no_quantile() {
        assert_eq!(quantile(0.5, &[]), None);
        assert_eq!(quantile(0.5, &[(0.1, 0.0), (f64::INFINITY, 0.0)]), None);
        assert_eq!(quantile(0.5, &[(0.1, 3.0)]), None);
        assert_eq!(quantile(0.5, &[(f64::INFINITY, 3.0)]), None);
    }

    #[test]
    fn series_become_edges_and_callers_come_first() {
        let edge = |client: &str, server: &str| format!("{{client=\"{client}\",server=\"{server}\"}}");
        let mut series = BTreeMap::new();
        for (client, server) in [("b", "c"), ("z", "b"), ("y", "b"), ("z", "a")] {
            series.insert(format!("traces_service_graph_request_total{}", edge(client, server)), state(4.0));
        }
        series.insert(format!("traces_service_graph_request_failed_total{}", edge("b", "c")), state(1.0));
        series.insert(format!("traces_service_graph_request_server_seconds_sum{}", edge("b", "c")), state(1.0));
        for (le, n) in [("+Inf", 4.0), ("0.1", 2.0)] {
            let text =
                format!("traces_service_graph_request_server_seconds_bucket{{client=\"b\",le=\"{le}\",server=\"c\"}}");
            series.insert(text, state(n));
        }
        series.insert("traces_spanmetrics_calls_total{service=\"b\"}".to_owned(), state(9.0));
        let edges = edges(&series);
        let order: Vec<_> = edges.iter().map(|e| (e.client.as_str(), e.server.as_str())).collect();
        assert_eq!(order, [("y", "b"), ("z", "b"), ("z", "a"), ("b", "c")]);
        assert_eq!((edges[3].requests, edges[3].failed, edges[3].side), (4.0, 1.0, Side::Server));
        assert!(close(edges[3].p50, 0.1));
        assert_eq!(edges[0].side, Side::Client);
    }

    #[test]
    fn a_circle_is_walked_once() {
        let edge = |client: &str, server: &str| Edge {
            client: client.to_owned(),
            server: server.to_owned(),
            connection: String::new(),
            requests: 1.0,
            failed: 0.0,
            side: Side::Server,
            p50: None,
            p95: None,
        };
        let found = callers_first(vec![edge("b", "a"), edge("a", "b"), edge("a", "a")]);
        let order: Vec<_> = found.iter().map(|e| (e.client.as_str(), e.server.as_str())).collect();
        assert_eq!(order, [("a", "a"), ("a", "b"), ("b", "a")]);
    }
}
