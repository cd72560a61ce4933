use std::collections::{BTreeMap, BTreeSet};

use super::sums::{Latencies, Red, Sum};
use super::{Gap, GraphQuery, Map, MapSettings, NodeType, dot, mermaid};
use crate::config::{Config, Tenants};
use crate::core::deltas::{DeltaHead, DeltaTable};
use crate::core::model::{Family, Layout, Millis, Seed, StepWidth};
use crate::core::settings::LatencySides;
use crate::core::tasks::span::Record;
use crate::tools::loadgen::{Expectation, Generator, Options, Topology};
use crate::tools::local::Local;

const START: Millis = 1_700_000_000_000;
const STEP: Millis = 1_000;

fn settings() -> MapSettings {
    MapSettings { step: STEP, resolution: STEP, history: None, points: 1_000, memory: 64 << 20, whole: true }
}

fn config() -> Config {
    let mut config = Config::default();
    config.core.time.step = StepWidth::new(STEP).expect("positive");
    config.core.service_graphs.wait = 2_000;
    config.kafka.shards = 3;
    config
}

/// The delta records, with their shards, of a shop at work; and what they must come to.
fn shop(config: Config) -> (Vec<(u32, Vec<u8>)>, Expectation) {
    let options = Options { start: START, rate: 500, spans: Some(6_000), error_share: 0.05, ..Options::default() };
    let mut generator = Generator::new(Topology::shop(1), 1, options);
    let tenants = Tenants::from(config);
    let mut local = Local::new(&tenants, "spans", 2, Seed::default()).expect("tasks");
    let (sender, records) = std::sync::mpsc::channel();
    local.watch(move |shard, record| sender.send((shard, record.to_vec())).expect("the test listens"));
    let mut offsets = [0; 2];
    for record in generator.by_ref() {
        let partition = usize::from(record.key[0]) % 2;
        let offered = Record {
            offset: offsets[partition],
            timestamp: record.timestamp,
            tenant: Some("shop"),
            value: &record.value,
        };
        offsets[partition] += 1;
        assert_eq!(local.offer(partition, &offered, START + 60_000).expect("a record").map(|r| r.to_string()), None);
        while local.next_closed().is_some() {}
    }
    local.finish().expect("an end");
    (records.try_iter().collect(), generator.expectation())
}

fn map_of(records: &[(u32, Vec<u8>)], settings: MapSettings) -> Map {
    let mut map = Map::new(settings);
    for (shard, record) in records {
        assert!(map.add(*shard, record).expect("a delta record"));
    }
    map.tidy();
    map
}

fn query() -> GraphQuery<'static> {
    GraphQuery { tenant: "shop", ..GraphQuery::default() }
}

/// Calls by edge, from rates.
fn calls(map: &mut Map) -> BTreeMap<(String, String), u64> {
    let graph = map.graph(&query());
    let seconds = map.seconds((Millis::MIN, graph.kept.expect("something is kept").1));
    let edges = graph.edges.into_iter();
    edges.map(|e| ((e.client, e.server), (e.now.map_or(0.0, |v| v.rate) * seconds).round() as u64)).collect()
}

/// The metric that a series belongs to, and its labels without `le`.
fn metric_and_labels(series: &str) -> (String, String) {
    let (name, labels) = series.split_once('{').expect("a series");
    let suffix = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| name.strip_suffix(suffix));
    let le = regex::Regex::new(r#",?le="[^"]*""#).expect("a pattern");
    (suffix.unwrap_or(name).to_owned(), le.replace(labels, "").trim_start_matches(',').to_owned())
}

#[test]
fn series_and_label_sets_of_every_metric_are_those_that_the_load_must_come_to() {
    let (records, expected) = shop(config());
    let all = map_of(&records, settings()).cardinality(1_000);
    let mut wanted: BTreeMap<String, (u64, BTreeSet<String>)> = BTreeMap::new();
    for (series, _) in expected.series() {
        let (metric, labels) = metric_and_labels(series);
        let total = wanted.entry(metric).or_default();
        total.0 += 1;
        total.1.insert(labels);
    }
    let wanted: BTreeMap<_, _> =
        wanted.into_iter().map(|(metric, (n, sets))| (metric, (n, sets.len() as u64))).collect();
    let found: BTreeMap<_, _> = all.metrics.iter().map(|m| (m.metric.clone(), (m.series, m.label_sets))).collect();
    assert_eq!(found, wanted);
    assert!(found.len() > 4 && all.metrics.iter().all(|metric| metric.tenant == "shop"), "{found:?}");
    assert!(all.metrics.is_sorted_by_key(|metric| std::cmp::Reverse(metric.series)));
    assert_eq!(all.quiet, 0);
    let of = |kind| all.subjects.iter().filter(|of| of.kind == kind).map(|of| of.label_sets).sum::<u64>();
    assert_eq!(of("edge"), wanted["traces_service_graph_request_total"].1);
    assert_eq!(of("operation"), wanted["traces_spanmetrics_calls_total"].1);
    assert_eq!(map_of(&records, settings()).cardinality(3).subjects.len(), 3);
}

#[test]
fn the_calls_of_a_shop_are_all_there_and_exact() {
    let (records, expected) = shop(config());
    let mut map = map_of(&records, settings());
    let found: u64 = calls(&mut map).values().sum();
    let wanted: f64 = expected
        .series()
        .filter(|(series, _)| series.starts_with("traces_service_graph_request_total{"))
        .map(|(_, value)| value)
        .sum();
    assert!(found > 1_000);
    assert_eq!(found, wanted as u64, "calls of all edges");
}

#[test]
fn nodes_have_types_and_services_their_own_spans() {
    let mut map = map_of(&shop(config()).0, settings());
    let graph = map.graph(&query());
    let node = |name: &str| graph.nodes.iter().find(|n| n.name == name).unwrap_or_else(|| panic!("{name} is missing"));
    assert_eq!(node("user").kind, NodeType::User);
    assert_eq!(node("frontend").kind, NodeType::Service);
    assert_eq!(node("mongo").kind, NodeType::Database);
    assert_eq!(node("payment-provider").kind, NodeType::External);
    assert_eq!((node("frontend").of, node("mongo").of, node("user").of), ("server spans", "calls", "own calls"));
    assert!(node("user").now.is_some_and(|v| v.rate > 0.0 && v.p95.is_none()));
    assert!(node("checkout").now.is_some_and(|v| v.p95.is_some() && v.errors > 0.0));
    assert!(graph.edges.iter().any(|e| e.kind == "messaging") && graph.spans > 0.0);
}

#[test]
fn an_edge_of_one_side_has_the_latency_of_that_side() {
    for (sides, side) in [(LatencySides::Client, "client"), (LatencySides::Server, "server")] {
        let mut config = config();
        config.core.service_graphs.latency_sides = sides;
        let mut map = map_of(&shop(config).0, settings());
        let graph = map.graph(&query());
        let calls = graph.edges.iter().filter(|edge| edge.kind == "request");
        assert!(calls.clone().count() > 3);
        calls.for_each(|edge| {
            assert_eq!(edge.side, side, "{} to {}", edge.client, edge.server);
            assert!(edge.now.is_some_and(|values| values.p95.is_some()));
        });
    }
}

#[test]
fn edges_by_operation_come_to_the_same_calls() {
    let whole = calls(&mut map_of(&shop(config()).0, settings()));
    let mut config = config();
    config.core.service_graphs.operations = true;
    assert_eq!(calls(&mut map_of(&shop(config).0, settings())), whole);
}

#[test]
fn a_record_that_is_sent_again_counts_once() {
    let records = shop(config()).0;
    let mut once = map_of(&records, settings());
    let mut twice = Map::new(settings());
    for (shard, record) in &records {
        assert!(twice.add(*shard, record).expect("a delta record"));
        assert!(!twice.add(*shard, record).expect("a delta record"));
    }
    twice.tidy();
    assert_eq!(twice.graph(&query()), once.graph(&query()));
}

#[test]
fn coarser_points_say_the_same_of_the_whole() {
    let records = shop(config()).0;
    let (mut fine, mut coarse) =
        (map_of(&records, settings()), map_of(&records, MapSettings { points: 4, ..settings() }));
    let (fine, coarse) = (fine.graph(&query()), coarse.graph(&query()));
    assert!(coarse.step >= 4 * fine.step, "{}", coarse.step);
    let quantiles = |graph: &super::Graph| {
        let of = |e: &super::EdgeView| (e.client.clone(), e.server.clone(), e.now.and_then(|v| v.p95));
        graph.edges.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(quantiles(&fine), quantiles(&coarse));
}

#[test]
fn the_order_of_shards_changes_nothing() {
    let mut records = shop(config()).0;
    let mut one = map_of(&records, settings());
    records.sort_by_key(|(shard, _)| std::cmp::Reverse(*shard));
    assert_eq!(map_of(&records, settings()).graph(&query()), one.graph(&query()));
}

#[test]
fn native_histograms_have_quantiles_near_those_of_fine_classic_ones() {
    let mut native = config();
    native.core.histograms.mode = crate::core::settings::HistogramMode::Native;
    let mut fine = config();
    fine.core.service_graphs.bounds_ns = (0..200).map(|i| (100_000.0 * 1.07_f64.powi(i)) as u64).collect();
    let [native, fine] = [native, fine].map(|config| map_of(&shop(config).0, settings()).graph(&query()));
    let mut compared = 0;
    for (a, b) in native.edges.iter().zip(&fine.edges) {
        assert_eq!((&a.client, &a.server), (&b.client, &b.server));
        let p95 = |e: &super::EdgeView| e.now.and_then(|v| v.p95);
        let (Some(a), Some(b)) = (p95(a), p95(b)) else { continue };
        // A native bucket is 9 % wide.
        assert!((a / b - 1.0).abs() < 0.1 || (a - b).abs() < 1.5, "{a} and {b}");
        compared += 1;
    }
    assert!(compared > 10, "{compared}");
}

#[test]
fn old_points_are_dropped_when_memory_is_full_and_that_is_said() {
    let records = shop(config()).0;
    let all = map_of(&records, settings()).bytes();
    let mut map = Map::new(MapSettings { history: Some(3_600_000), memory: all * 3 / 4, ..settings() });
    for (shard, record) in &records {
        map.add(*shard, record).expect("a delta record");
    }
    map.tidy();
    assert!(map.bytes() <= all * 3 / 4, "{} of {all}", map.bytes());
    assert!(map.status().dropped_before.is_some());
    assert!(map.graph(&query()).partial.iter().any(|what| what.contains("memory")));
}

#[test]
fn a_history_is_as_long_as_it_is_told_to_be() {
    let mut map = map_of(&shop(config()).0, MapSettings { history: Some(4_000), ..settings() });
    let (first, last) = map.graph(&query()).kept.expect("something is kept");
    assert!(last - first <= 6_000, "{}", last - first);
    assert_eq!(map.status().dropped_before, None, "that is no lack of memory");
}

#[test]
fn what_is_missing_is_named() {
    let records = shop(config()).0;
    let mut map = Map::new(settings());
    map.expect(0..4);
    for (shard, record) in &records {
        map.add(*shard, record).expect("a delta record");
    }
    assert_eq!(map.status().partial, ["shard 3 has sent nothing yet"]);
    map.lacks(Gap("the brokers are away".to_owned()));
    assert!(map.status().partial.contains(&"the brokers are away".to_owned()));
    map.has(&Gap("the brokers are away".to_owned()));
    assert_eq!(map.status().partial.len(), 1);
}

#[test]
fn a_map_may_begin_anywhere_but_not_in_the_middle_of_a_delta_record() {
    let records = shop(config()).0;
    let mut map = Map::new(settings());
    let half = &records[records.len() / 2..];
    for (shard, record) in half {
        map.add(*shard, record).expect("a delta record");
    }
    // Labels were sent in full before.
    assert!(map.lacks_labels() && !map.lacks_labels());
}

/// An empty delta record, at these times.
fn empty(step: Millis, stream_time: Millis, commit_number: u64) -> Vec<u8> {
    let (topic, partition, tenants) = ("spans".to_owned(), 0, Vec::new());
    let head =
        DeltaHead { topic, partition, commit_number, part: 0, parts: 0, step, stream_time, sender: None, tenants };
    DeltaTable::new(0).cut(head, 1).delta_records.remove(0).remove(0)
}

#[test]
fn times_that_cannot_be_are_refused_and_an_empty_delta_record_tells_the_time() {
    let mut map = Map::new(settings());
    for (step, stream_time) in [(Millis::MIN, START), (START, Millis::MIN), (Millis::MAX, START)] {
        assert!(map.add(0, &empty(step, stream_time, 0)).is_err());
    }
    assert_eq!(map.as_of(), None);
    assert_eq!(map.graph(&query()).nodes, []);
    assert_eq!(map.add(0, &empty(START, START, 0)).ok(), Some(true));
    assert_eq!((map.as_of(), map.graph(&query()).kept), (Some(START), None));
}

#[test]
fn a_service_has_operations_a_history_and_exemplars() {
    let map = map_of(&shop(config()).0, settings());
    let service = map.service("shop", "checkout", None, None).expect("a service");
    assert!(service.operations.len() > 1 && service.operations.is_sorted_by(|a, b| a.now.rate >= b.now.rate));
    assert!(service.points.iter().filter(|p| p.values.is_some()).count() > 5);
    assert!(service.exemplars.iter().all(|e| e.trace_id.len() == 32) && !service.exemplars.is_empty());
    let edge = map.edge("shop", "frontend", "checkout", None).expect("an edge");
    assert!(edge.points.iter().any(|p| p.values.is_some_and(|v| v.rate > 0.0)));
    assert!(map.edge("shop", "checkout", "frontend", None).is_none());
    assert!(map.service("other", "checkout", None, None).is_none());
}

#[test]
fn two_moments_are_compared_and_one_that_is_not_kept_is_refused() {
    let mut map = map_of(&shop(config()).0, MapSettings { whole: false, ..settings() });
    let (first, last) = map.graph(&query()).kept.expect("something is kept");
    let both = map.graph(&GraphQuery { at: Some(last), compare: Some(first + 3_000), ..query() });
    assert!(both.compare.is_some() && both.nodes.iter().any(|n| n.now.is_some() && n.then.is_some()));
    let never = map.graph(&GraphQuery { at: Some(last), compare: Some(first - 60_000), ..query() });
    assert!(never.compare.is_none() && never.compare_missing.is_some());
}

#[test]
fn namespaces_are_groups_and_an_open_one_shows_its_nodes() {
    let mut map = map_of(&shop(config()).0, settings());
    let graph = map.graph(&query());
    let names: Vec<&str> = graph.groups.iter().map(|g| g.name.as_str()).collect();
    assert!(names.contains(&"") && names.contains(&"databases") && names.contains(&"external"), "{names:?}");
    assert!(graph.group_edges.iter().any(|e| e.client == "user" && e.server == "ns:"));
    let open = map.graph(&GraphQuery { namespace: Some("databases"), ..query() });
    assert!(open.group_edges.iter().any(|e| e.client == "ns:" && e.server == "mongo"));
}

#[test]
fn a_graph_is_drawn_in_other_languages_and_names_forge_nothing() {
    let mut map = map_of(&shop(config()).0, settings());
    let mut graph = map.graph(&query());
    assert!(dot(&graph).contains("\"frontend\" -> \"checkout\"") && mermaid(&graph).starts_with("flowchart LR\n"));
    graph.nodes[0].name = "a\"];\nevil -> b; //".to_owned();
    assert!(dot(&graph).contains("a\\\"];evil -> b; //"), "{}", dot(&graph));
    assert!(!mermaid(&graph).contains("\nevil") && !mermaid(&graph).contains("\"];"));
}

fn sum(bounds_ms: &[u64], counts: &[u64]) -> Sum {
    let bounds: Vec<u64> = bounds_ms.iter().map(|ms| ms * 1_000_000).collect();
    let layout = std::sync::Arc::new(Layout::new(Family::SpanMetrics, &bounds));
    let mut numbers = layout.zeros();
    for (i, &count) in counts.iter().enumerate() {
        let at = bounds.get(i).copied().unwrap_or(u64::MAX / 2);
        for _ in 0..count {
            layout.add_to(&mut numbers, 0, 1);
            layout.observe(&mut numbers, 0, at, crate::core::model::Weight::ONE);
        }
    }
    let mut sum = Sum::default();
    sum.add(&layout, &numbers);
    sum
}

#[test]
fn a_quantile_says_what_is_known_of_it() {
    let of = |sum: &Sum| Red::of_spans(sum, &Sum::default()).values(10.0);
    let inside = of(&sum(&[100, 200], &[10, 20, 0]));
    assert_eq!((inside.rate, inside.p50, inside.p50_le), (3.0, Some(125.0), None));
    let first = of(&sum(&[100, 200], &[30, 0, 0]));
    assert_eq!((first.p50_le, first.p95_le, first.p95_gt), (Some(100.0), Some(100.0), None));
    let beyond = of(&sum(&[100, 200], &[0, 0, 30]));
    assert_eq!((beyond.p50, beyond.p50_gt, beyond.p50_le), (Some(200.0), Some(200.0), None));
    assert_eq!(of(&Sum::default()), super::Values::default());
}

#[test]
fn latencies_of_other_bounds_are_merged_and_not_averaged() {
    let mut latencies = sum(&[100, 200], &[10, 0, 0]).latencies(0).expect("latencies");
    latencies.merge(&sum(&[50, 100], &[10, 0, 0]).latencies(0).expect("latencies"));
    let median = latencies.quantile(0.5).expect("a median");
    assert_eq!((median.value, median.at_most), (50.0, Some(50.0)));
    assert_eq!(Latencies::default().quantile(0.5), None);
}
