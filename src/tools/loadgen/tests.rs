//! The generator against a reader that knows nothing of it: every record is decoded by prost and counted again.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::core::model::{Counter, StepWidth};

fn options(spans: u64, per_record: usize, group: Group) -> Options {
    let start = 1_700_000_000_000;
    Options { start, spans: Some(spans), spans_per_record: per_record, group, error_share: 0.03, ..Options::default() }
}

fn load(topology: Topology, seed: u64, options: Options) -> (Vec<Record>, Expectation) {
    let mut generator = Generator::new(topology, seed, options);
    let records = generator.by_ref().collect();
    (records, generator.expectation())
}

fn attr<'a>(attrs: &'a [KeyValue], key: &str) -> Option<&'a KeyValue> {
    attrs.iter().find(|kv| kv.key == key)
}

fn string(attrs: &[KeyValue], key: &str) -> Option<String> {
    attr(attrs, key).and_then(|kv| match kv.value.as_ref()?.value.as_ref()? {
        Value::StringValue(s) => Some(s.clone()),
        Value::IntValue(i) => Some(i.to_string()),
        _ => None,
    })
}

/// Every span with its service, the number of its record, and the record's timestamp.
fn decode(records: &[Record]) -> Vec<(String, Span, usize, i64)> {
    let mut spans = Vec::new();
    for (i, record) in records.iter().enumerate() {
        let request = ExportTraceServiceRequest::decode(&*record.value).expect("a record decodes");
        for rs in request.resource_spans {
            let service = string(&rs.resource.expect("a resource").attributes, "service.name").expect("a name");
            for span in rs.scope_spans.into_iter().flat_map(|s| s.spans) {
                spans.push((service.clone(), span, i, record.timestamp));
            }
        }
    }
    spans
}

fn escape(s: &str) -> String {
    s.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Span metrics as text, by the most naive means.
fn recount_spans(spans: &[(String, Span, usize, i64)]) -> BTreeMap<String, f64> {
    let mut ints: BTreeMap<String, u128> = BTreeMap::new();
    for (service, span, ..) in spans {
        let kind = SpanKind::try_from(span.kind).expect("a kind").as_str_name();
        let status = span.status.clone().unwrap_or_default().code();
        let (before, after) = (
            format!("service=\"{service}\",span_kind=\"{kind}\",span_name=\"{}\"", escape(&span.name)),
            format!("status_code=\"{}\"", status.as_str_name()),
        );
        let mut add = |name: &str, n: u128| *ints.entry(format!("{name}{{{before},{after}}}")).or_default() += n;
        let ns = u128::from(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano));
        add("traces_spanmetrics_calls_total", 1);
        add("traces_spanmetrics_size_total", span.encoded_len() as u128);
        add("traces_spanmetrics_latency_count", 1);
        add("traces_spanmetrics_latency_sum", ns);
        for i in 0..15u32 {
            let (le, bound) = (f64::from(2 << i) / 1000.0, u128::from(2_000_000u64 << i));
            let le = if i == 14 { "+Inf".to_owned() } else { le.to_string() };
            let name = format!("traces_spanmetrics_latency_bucket{{le=\"{le}\",{before},{after}}}");
            *ints.entry(name).or_default() += u128::from(i == 14 || ns <= bound);
        }
    }
    ints.into_iter().map(|(k, v)| if k.contains("_sum{") { (k, v as f64 / 1e9) } else { (k, v as f64) }).collect()
}

/// Request totals as text, from all spans at once, by looking partners up.
fn recount_edges(spans: &[(String, Span, usize, i64)]) -> BTreeMap<String, f64> {
    let mut out = BTreeMap::new();
    let mut taken = BTreeSet::new();
    let mut add = |client: &str, server: &str, kind: &str, failed: bool| {
        let kind = if kind.is_empty() { String::new() } else { format!("connection_type=\"{kind}\",") };
        let labels = format!("{{client=\"{client}\",{kind}server=\"{server}\"}}");
        *out.entry(format!("traces_service_graph_request_total{labels}")).or_default() += 1.0;
        if failed {
            *out.entry(format!("traces_service_graph_request_failed_total{labels}")).or_default() += 1.0;
        }
    };
    let failed = |s: &Span| s.status.as_ref().is_some_and(|s| s.code() == StatusCode::Error);
    let servers: BTreeMap<_, _> = spans
        .iter()
        .filter(|(_, s, ..)| [SpanKind::Server, SpanKind::Consumer].contains(&s.kind()))
        .map(|(service, s, ..)| ((s.trace_id.clone(), s.parent_span_id.clone()), (service, s)))
        .collect();
    for (service, s, ..) in spans.iter().filter(|(_, s, ..)| [SpanKind::Client, SpanKind::Producer].contains(&s.kind()))
    {
        let first = |keys: &[&str]| keys.iter().find_map(|k| string(&s.attributes, k));
        let key = (s.trace_id.clone(), s.span_id.clone());
        if let Some(fallback) = first(&["db.namespace", "db.name", "db.system", "db.system.name"]) {
            let port = string(&s.attributes, "network.peer.port").map_or(String::new(), |p| format!(":{p}"));
            let host = first(&["peer.service", "server.address"]);
            let address = first(&["network.peer.address"]).map(|a| a + &port);
            add(service, &host.or(address).unwrap_or(fallback), "database", failed(s));
        } else if let Some((server, other)) = servers.get(&key) {
            let kind = if s.kind() == SpanKind::Producer { "messaging_system" } else { "" };
            add(service, server, kind, failed(s) || failed(other));
            taken.insert(key);
        } else if let Some(peer) = first(&["peer.service", "db.name"]) {
            add(service, &peer, "virtual_node", failed(s));
        }
    }
    for (key, (service, s)) in servers.iter().filter(|(key, _)| key.1.is_empty() && !taken.contains(*key)) {
        assert!(!key.0.is_empty());
        let client = string(&s.attributes, "peer.service").unwrap_or_else(|| "user".to_owned());
        add(&client, service, "virtual_node", failed(s));
    }
    out
}

fn assert_recount(records: &[Record], expectation: &Expectation) {
    let spans = decode(records);
    let mut expected: BTreeMap<String, f64> = expectation.series().map(|(k, v)| (k.to_owned(), v)).collect();
    let counted = recount_spans(&spans);
    let of_spans: BTreeMap<_, _> =
        expected.iter().filter(|(k, _)| k.starts_with("traces_spanmetrics")).map(|(k, v)| (k.clone(), *v)).collect();
    assert_eq!(of_spans, counted);
    expected.retain(|k, _| k.starts_with("traces_service_graph_request_total{") || k.contains("_failed_total"));
    assert_eq!(expected, recount_edges(&spans));
    let ledger = expectation.ledger();
    assert_eq!(ledger.get(Counter::RecordsRead), records.len() as u64);
    assert_eq!(ledger.get(Counter::BytesRead), records.iter().map(|r| r.value.len() as u64).sum::<u64>());
    assert_eq!(ledger.get(Counter::SpansRead), spans.len() as u64);
    assert_eq!(ledger.unaccounted_spans(), 0);
    assert_eq!(ledger.pending_edges(), 0);
    for (i, record) in records.iter().enumerate() {
        assert_eq!(spans.iter().filter(|s| s.2 == i).count() as u32, record.spans);
    }
}

#[test]
fn a_naive_reader_counts_what_the_shop_expects() {
    let (records, expectation) = load(Topology::shop(7), 7, options(20_000, 100, Group::Trace));
    assert_recount(&records, &expectation);
    let ledger = expectation.ledger();
    for counter in
        [Counter::EdgesCompleted, Counter::EdgesVirtual, Counter::EdgesExpiredClient, Counter::EdgesExpiredServer]
    {
        assert!(ledger.get(counter) > 0, "{}", counter.name());
    }
    assert!(ledger.get(Counter::EdgesExpiredProducer) > 0 && ledger.get(Counter::EdgesExpiredConsumer) > 0);
}

#[test]
fn a_naive_reader_counts_what_the_scaled_system_expects() {
    let topology = Topology::scaled(&Scale { services: 9, operations: 130 }, 3);
    let (records, expectation) = load(topology, 3, options(10_000, 100, Group::Partition(4)));
    assert_recount(&records, &expectation);
}

#[test]
fn databases_peers_and_users_have_the_names_that_the_rules_give_them() {
    let (_, expectation) = load(Topology::shop(1), 1, options(30_000, 100, Group::Trace));
    for labels in [
        "client=\"orders\",connection_type=\"database\",server=\"postgres\"",
        "client=\"cart\",connection_type=\"database\",server=\"redis\"",
        "client=\"catalog\",connection_type=\"database\",server=\"mongo\"",
        "client=\"fraud\",connection_type=\"database\",server=\"fraud-features:6379\"",
        "client=\"checkout\",connection_type=\"messaging_system\",server=\"accounting\"",
        "client=\"payment\",connection_type=\"virtual_node\",server=\"payment-provider\"",
        "client=\"user\",connection_type=\"virtual_node\",server=\"frontend\"",
        "client=\"mobile-app\",connection_type=\"virtual_node\",server=\"frontend\"",
        "client=\"frontend\",server=\"checkout\"",
    ] {
        let total = expectation.get(&format!("traces_service_graph_request_total{{{labels}}}"));
        assert!(total.is_some_and(|n| n > 0.0), "{labels}");
    }
    let missing_side = "traces_service_graph_request_client_seconds_bucket{client=\"user\",\
        connection_type=\"virtual_node\",le=\"0.1\",server=\"frontend\"}";
    let total =
        "traces_service_graph_request_total{client=\"user\",connection_type=\"virtual_node\",server=\"frontend\"}";
    assert_eq!(expectation.get(missing_side), expectation.get(total));
}

#[test]
fn every_span_is_written_as_prost_writes_it() {
    let (records, _) = load(Topology::shop(2), 2, options(5_000, 40, Group::Trace));
    for record in records {
        let request = ExportTraceServiceRequest::decode(&*record.value).expect("a record decodes");
        assert_eq!(request.encode_to_vec(), record.value);
    }
}

#[test]
fn a_record_in_trace_mode_holds_one_trace_and_is_keyed_by_it() {
    let (records, _) = load(Topology::shop(2), 2, options(5_000, 6, Group::Trace));
    for record in &records {
        assert!((1..=6).contains(&record.spans));
        assert_eq!(record.partition, None);
        for (_, span, ..) in decode(std::slice::from_ref(record)) {
            let hex: String = span.trace_id.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex.as_bytes(), record.key);
        }
    }
}

#[test]
fn a_record_in_partition_mode_holds_traces_of_its_partition_and_few_services() {
    let mut options = options(40_000, 100, Group::Partition(8));
    options.rate = 100_000;
    let (records, _) = load(Topology::scaled(&Scale::default(), 5), 5, options);
    let mut resources = 0;
    for record in &records {
        let request = ExportTraceServiceRequest::decode(&*record.value).expect("a record decodes");
        resources += request.resource_spans.len();
        for (_, span, ..) in decode(std::slice::from_ref(record)) {
            let hex: String = span.trace_id.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(Some(partition_of(hex.as_bytes(), 8)), record.partition);
        }
    }
    let full = records.iter().filter(|r| r.spans == 100).count();
    assert!(full * 10 >= records.len() * 9, "{full} of {} records are full", records.len());
    assert!(resources <= records.len() * 9, "{resources} resources in {} records", records.len());
}

#[test]
fn the_scaled_system_has_the_shape_of_the_reference_load() {
    let (records, expectation) = load(Topology::scaled(&Scale::default(), 5), 5, options(60_000, 100, Group::Trace));
    let spans = decode(&records);
    let names: BTreeSet<_> = spans.iter().map(|(service, s, ..)| (service, &s.name)).collect();
    assert_eq!(names.len(), 500);
    let total = spans.len() as f64;
    let share = |kind: SpanKind| spans.iter().filter(|s| s.1.kind() == kind).count() as f64 / total;
    assert!((0.45..0.62).contains(&share(SpanKind::Internal)), "{}", share(SpanKind::Internal));
    assert!((0.15..0.25).contains(&share(SpanKind::Server)), "{}", share(SpanKind::Server));
    let size = spans.iter().map(|s| s.1.encoded_len()).sum::<usize>() as f64 / total;
    assert!((520.0..620.0).contains(&size), "{size} bytes a span");
    let attributes = spans.iter().map(|s| s.1.attributes.len()).sum::<usize>() as f64 / total;
    assert!((11.0..13.0).contains(&attributes), "{attributes} attributes a span");
    let plain: f64 = expectation
        .series()
        .filter(|(k, _)| k.starts_with("traces_service_graph_request_total") && !k.contains("connection_type"))
        .map(|(_, v)| v)
        .sum();
    assert!((0.28..0.42).contains(&(2.0 * plain / total)), "{} of the spans are in pairs", 2.0 * plain / total);
}

/// For every pair: how far apart its halves are, client minus server, in milliseconds and in spans.
fn distances(records: &[Record]) -> Vec<(i64, i64)> {
    let spans = decode(records);
    let clients: BTreeMap<_, _> = (0..)
        .zip(&spans)
        .map(|(j, (_, s, _, at))| ((s.trace_id.clone(), s.span_id.clone()), (s.kind(), j, *at)))
        .collect();
    let mut out = Vec::new();
    let server = |s: &Span| [SpanKind::Server, SpanKind::Consumer].contains(&s.kind());
    for (i, (_, s, _, at)) in (0i64..).zip(&spans).filter(|(_, s)| server(&s.1)) {
        if let Some((SpanKind::Client | SpanKind::Producer, j, there)) =
            clients.get(&(s.trace_id.clone(), s.parent_span_id.clone()))
        {
            out.push((there - at, *j - i));
        }
    }
    out
}

#[test]
fn halves_come_in_either_order_and_never_more_than_half_a_wait_apart() {
    for (rate, group) in [(10_000, Group::Trace), (3, Group::Partition(3)), (2_000, Group::Partition(32))] {
        let mut options = options(8_000, 100, group);
        options.rate = rate;
        let (records, _) = load(Topology::shop(4), 4, options);
        assert!(records.is_sorted_by_key(|r| r.timestamp), "{group:?}");
        let apart = distances(&records);
        assert!(apart.iter().any(|d| d.1 < 0) && apart.iter().any(|d| d.1 > 0), "{group:?}");
        assert!(apart.iter().all(|d| d.0.abs() < 5_000), "{group:?}");
    }
}

#[test]
fn stopping_ends_the_load_after_the_last_part_of_the_last_trace() {
    let mut options = options(0, 100, Group::Partition(3));
    options.spans = None;
    let mut generator = Generator::new(Topology::shop(9), 9, options);
    let mut records: Vec<_> = generator.by_ref().take(50).collect();
    generator.stop();
    records.extend(generator.by_ref());
    assert_recount(&records, &generator.expectation());
    assert_eq!(generator.next(), None);
}

#[test]
fn the_text_reads_back_and_what_is_not_one_is_named() {
    let (_, expectation) = load(Topology::shop(5), 5, options(3_000, 100, Group::Trace));
    let text = expectation.to_string();
    assert_eq!(Expectation::parse(&text), Ok(expectation));
    assert!(text.contains("span_name=\"parse \\\"query\\\"\""));
    assert!(text.contains("span_name=\"score\\\\merge\""));
    assert_eq!(Expectation::parse("a{} 1\nb"), Err(ParseError::Line { line: 2 }));
    assert_eq!(Expectation::parse("a{} 1\na{} 1"), Err(ParseError::Twice { line: 2 }));
    let unknown = ParseError::Counter { line: 1, name: "x".to_owned() };
    assert_eq!(Expectation::parse("# ledger x 1"), Err(unknown));
}

#[test]
fn bounds_are_hit_exactly_and_clocks_run_backwards_now_and_then() {
    let (records, _) = load(Topology::shop(6), 6, options(60_000, 100, Group::Trace));
    let spans = decode(&records);
    let ns = |s: &Span| s.end_time_unix_nano.saturating_sub(s.start_time_unix_nano);
    for bound in [2_000_000, 64_000_000] {
        assert!(spans.iter().any(|s| ns(&s.1) == bound), "{bound}");
    }
    assert!(spans.iter().any(|s| s.1.end_time_unix_nano < s.1.start_time_unix_nano));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_same_seed_gives_the_same_bytes(seed in any::<u64>(), per_record in 1usize..200, partitions in 0u32..6) {
        let group = if partitions == 0 { Group::Trace } else { Group::Partition(partitions) };
        let one = load(Topology::shop(seed), seed, options(400, per_record, group));
        let two = load(Topology::shop(seed), seed, options(400, per_record, group));
        prop_assert_eq!(&one, &two);
        assert_recount(&one.0, &one.1);
    }

    #[test]
    fn expectations_add_up_in_any_order(a in any::<u64>(), b in any::<u64>()) {
        let one = load(Topology::shop(1), a, options(300, 50, Group::Trace));
        let two = load(Topology::shop(1), b, options(300, 50, Group::Trace));
        let (mut ab, mut ba) = (one.1.clone(), two.1.clone());
        ab.merge(&two.1);
        ba.merge(&one.1);
        prop_assert_eq!(&ab, &ba);
        let records: Vec<_> = one.0.into_iter().chain(two.0).collect();
        assert_recount(&records, &ab);
    }

    #[test]
    fn any_size_and_share_of_errors_is_fine(
        services in 0usize..40, operations in 0usize..300, share in -1.0f64..2.0, seed in any::<u64>(),
    ) {
        let mut options = options(600, 30, Group::Trace);
        options.error_share = share;
        let (records, expectation) = load(Topology::scaled(&Scale { services, operations }, seed), seed, options);
        assert_recount(&records, &expectation);
    }
}

#[test]
fn what_a_step_gets_follows_from_the_timestamps_of_records_and_adds_up_to_the_totals() {
    let width = StepWidth::new(1_000).expect("positive");
    let options = Options { rate: 500, ..options(4_000, 20, Group::Partition(3)) };
    let mut generator = Generator::new(Topology::shop(5), 5, options).with_steps(width);
    let records: Vec<Record> = generator.by_ref().collect();
    let mut text = generator.expectation().to_string();
    let told = generator.each_step(|series, values| {
        text += &step_line(series, values);
        Ok::<_, ()>(())
    });
    assert_eq!(told, Ok(()));
    let (steps, totals) = (parse_steps(&text).expect("our own"), Expectation::parse(&text).expect("our own"));
    assert!(parse_steps("# steps x{} 5").is_none());
    for (series, value) in totals.series() {
        let last = steps.get(series).map(|values| values.last().expect("never empty").1);
        assert_eq!(last, Some(value).filter(|_| !series.contains("virtual_node")), "{series}");
    }
    // The calls of every step, counted by another reader.
    let mut calls: BTreeMap<(String, i64), f64> = BTreeMap::new();
    for (service, span, _, timestamp) in decode(&records) {
        let kind = SpanKind::try_from(span.kind).expect("a kind").as_str_name();
        let code = span.status.map_or(StatusCode::Unset, |s| StatusCode::try_from(s.code).expect("a code"));
        let (name, code) = (span.name, code.as_str_name());
        let labels = format!("service={service:?},span_kind={kind:?},span_name={name:?},status_code={code:?}");
        let series = format!("traces_spanmetrics_calls_total{{{labels}}}");
        *calls.entry((series, width.end_of(timestamp))).or_default() += 1.0;
    }
    let is_calls = |series: &&String| series.starts_with("traces_spanmetrics_calls_total");
    for series in steps.keys().filter(is_calls) {
        let mut sum = 0.0;
        let of = calls.range((series.clone(), i64::MIN)..=(series.clone(), i64::MAX));
        let expected = of.map(|((_, step), n)| {
            sum += n;
            (*step, sum)
        });
        let expected: Vec<_> = expected.collect();
        assert_eq!(steps[series], expected, "{series}");
    }
}
