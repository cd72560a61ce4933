//! Keys that an attacker can choose: what two of them have in common decides nothing, and costs nothing.
//!
//! Costs are ratios of the time that a thread was on a processor: the same number of keys, chosen by an attacker and
//! counted up. A table that lets itself be attacked is slower by a factor that grows with the number of keys.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};

use crate::adversary::{names_of_one_old_hash, texts_of_one_xxh3, traces_of_one_old_hash};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use spanmill::config::{Config, Tenants};
use spanmill::core::model::Counter;
use spanmill::core::model::labels::put_label;
use spanmill::core::sanitize::Sanitizer;
use spanmill::core::settings::{
    Dimension, DimensionMapping, FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue, SanitizeMode,
    SpanNameRule, SpanNames,
};
use spanmill::core::tasks::series::{SeriesSettings, SeriesTask};
use spanmill::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask, StepCut};
use spanmill::tools::totals::Totals;

/// 2026, in milliseconds.
const NOW: i64 = 1_780_000_000_000;
const TENANT: &str = "t";
/// How much slower keys of an attacker may be than others.
const AS_GOOD_AS: f64 = 6.0;

fn request(service: &str, spans: Vec<Span>) -> Vec<u8> {
    let value = Some(AnyValue { value: Some(Value::StringValue(service.to_owned())) });
    let name = KeyValue { key: "service.name".to_owned(), value, ..KeyValue::default() };
    let resource = Some(Resource { attributes: vec![name], ..Resource::default() });
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
    }
    .encode_to_vec()
}

fn span(n: u64, name: &str) -> Span {
    Span {
        trace_id: [[7; 8], (n + 1).to_be_bytes()].concat(),
        span_id: (n + 1).to_be_bytes().to_vec(),
        name: name.to_owned(),
        kind: 3,
        start_time_unix_nano: NOW as u64 * 1_000_000,
        end_time_unix_nano: NOW as u64 * 1_000_000 + 5,
        ..Span::default()
    }
}

fn task(config: &Config) -> SpanTask {
    SpanTask::new(&SpanSettings::from(config), "spans".into(), 0, Restored::default()).expect("nothing to restore")
}

fn offer(task: &mut SpanTask, offset: i64, value: &[u8]) {
    let record = Record { offset, timestamp: NOW, tenant: Some(TENANT), value };
    assert!(matches!(task.offer(&record, NOW), Offer::Taken));
}

fn only_spans() -> Config {
    let mut config = Config::default();
    config.core.service_graphs.enabled = false;
    config.kafka.shards = 1;
    config
}

/// What a shard makes of some cuts.
fn shard(cuts: &[StepCut]) -> SeriesTask {
    let mut shard = SeriesTask::new(SeriesSettings::from(&Tenants::from(only_spans())));
    for delta_record in cuts.iter().flat_map(|cut| cut.delta_records.concat()) {
        let applied = shard.apply(&delta_record).expect("a delta record");
        assert_eq!(applied.lost, 0, "{:?}", applied.first_lost);
    }
    shard
}

/// Nanoseconds that this thread has been on a processor.
fn on_processor() -> u64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    told.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}

/// The least time that `work` takes, of two times. The kernel's clock is coarse, so each is as many runs as it takes to see
/// it move.
fn least(mut work: impl FnMut()) -> f64 {
    let once = |()| {
        let (before, mut runs) = (on_processor(), 0);
        loop {
            work();
            runs += 1;
            let took = on_processor() - before;
            if took > 30_000_000 {
                return took as f64 / f64::from(runs);
            }
        }
    };
    [(); 2].map(once).into_iter().fold(f64::MAX, f64::min)
}

#[test]
fn span_names_with_one_public_hash_are_as_many_series_with_a_value_of_their_own() {
    // Where the name lies in what XXH3 was asked for: length and text of the tenant, the family, the labels before it.
    let mut before = Vec::new();
    put_label(&mut before, "service", "shop");
    put_label(&mut before, "span_kind", "SPAN_KIND_CLIENT");
    let len = 600;
    let mut name = Vec::new();
    put_label(&mut name, "span_name", &"x".repeat(len));
    let at = 8 + TENANT.len() + 1 + before.len() + name.len() - len;
    let names = texts_of_one_xxh3(50, at, len);
    let hashed = |text: &String| {
        let mut labels = before.clone();
        put_label(&mut labels, "span_name", text);
        put_label(&mut labels, "status_code", "STATUS_CODE_UNSET");
        let head = [&(TENANT.len() as u64).to_le_bytes(), TENANT.as_bytes(), &[0]].concat();
        xxhash_rust::xxh3::xxh3_128(&[head, labels].concat())
    };
    let hashes: BTreeSet<u128> = names.iter().map(hashed).collect();
    assert_eq!((hashes.len(), names.iter().collect::<BTreeSet<_>>().len()), (1, 50), "the attack is one");

    let mut task = task(&only_spans());
    let spans = (0..).zip(&names).map(|(n, name)| span(n, name)).collect();
    offer(&mut task, 0, &request("shop", spans));
    let cut = task.cut().expect("a record was taken");
    let mut totals = Totals::default();
    cut.delta_records.iter().flatten().for_each(|delta_record| totals.add(delta_record).expect("a delta record"));
    let calls: BTreeMap<_, _> =
        totals.values(TENANT).into_iter().filter(|(s, _)| s.name.ends_with("calls_total")).collect();
    assert_eq!((calls.len(), calls.values().map(|v| *v as u64).max()), (50, Some(1)));
    assert_eq!(shard(&[cut]).label_sets(), 50);
}

#[test]
fn span_names_that_had_one_hash_cost_what_others_cost() {
    const NAMES: usize = 6_000;
    let cost = |service: &str, names: &[String]| {
        let spans = (0..).zip(names).map(|(n, name)| span(n, name)).collect();
        let value = request(service, spans);
        least(|| {
            let mut task = task(&only_spans());
            offer(&mut task, 0, &value);
            assert_eq!(task.label_sets(), NAMES);
        })
    };
    let (service, chosen) = names_of_one_old_hash(TENANT, NAMES);
    let ordinary: Vec<_> = (0..NAMES).map(|n| format!("ordinary{n:08}.")).collect();
    let ratio = cost(&service, &chosen) / cost(&service, &ordinary);
    assert!(ratio < AS_GOOD_AS, "{ratio:.1} times as slow");
}

#[test]
fn half_edges_that_had_one_hash_cost_what_others_cost() {
    const HALVES: u64 = 20_000;
    let mut config = only_spans();
    config.core.service_graphs.enabled = true;
    config.core.span_metrics.enabled = false;
    let cost = |ids: &mut dyn FnMut(u64) -> [u8; 16]| {
        let half = |n| Span { trace_id: ids(n).to_vec(), span_id: vec![1; 8], ..span(n, "op") };
        let value = request("shop", (0..HALVES).map(half).collect());
        least(|| {
            let mut task = task(&config);
            offer(&mut task, 0, &value);
            assert_eq!(task.ledger().get(Counter::EdgesOpened), HALVES);
        })
    };
    let chosen = traces_of_one_old_hash(HALVES);
    let ratio = cost(&mut |n| chosen[n as usize]) / cost(&mut |n| u128::from(n + 1).to_be_bytes());
    assert!(ratio < AS_GOOD_AS, "{ratio:.1} times as slow");
}

#[test]
fn servers_that_wait_for_one_parent_cost_what_others_cost() {
    const HALVES: u64 = 8_000;
    let mut config = only_spans();
    config.core.service_graphs.enabled = true;
    config.core.service_graphs.fan_out = true;
    config.core.span_metrics.enabled = false;
    let cost = |parent: &dyn Fn(u64) -> u64| {
        let half = |n| {
            let parent_span_id = (parent(n) << 32 | 5).to_be_bytes().to_vec();
            Span { trace_id: vec![9; 16], parent_span_id, kind: 2, ..span(n, "op") }
        };
        let value = request("shop", (0..HALVES).map(half).collect());
        least(|| {
            let mut task = task(&config);
            offer(&mut task, 0, &value);
            assert_eq!(task.pending_edges() as u64, HALVES);
        })
    };
    let ratio = cost(&|_| 1) / cost(&|n| n + 1);
    assert!(ratio < AS_GOOD_AS, "{ratio:.1} times as slow");
}

#[test]
fn links_of_one_span_cost_no_more_each_the_more_there_are() {
    let mut config = only_spans();
    config.core.service_graphs.enabled = true;
    config.core.service_graphs.links = true;
    config.core.span_metrics.enabled = false;
    let cost = |links: u64| {
        let link = |n: u64| opentelemetry_proto::tonic::trace::v1::span::Link {
            trace_id: vec![9; 16],
            span_id: (n + 1).to_be_bytes().to_vec(),
            ..Default::default()
        };
        let consumer = Span { kind: 5, links: (0..links).map(link).collect(), ..span(1, "op") };
        let value = request("shop", vec![consumer]);
        least(|| {
            let mut task = task(&config);
            offer(&mut task, 0, &value);
            assert_eq!(task.pending_edges() as u64, links);
        }) / links as f64
    };
    let ratio = cost(16_000) / cost(1_000);
    assert!(ratio < AS_GOOD_AS, "{ratio:.1} times as slow each");
}

#[test]
fn attributes_of_one_resource_cost_no_more_each_the_more_there_are() {
    let mut config = only_spans();
    config.core.span_metrics.target_info = true;
    let cost = |attributes: u64| {
        let text = |key: String| {
            let value = Some(AnyValue { value: Some(Value::StringValue("x".to_owned())) });
            KeyValue { key, value, ..KeyValue::default() }
        };
        // From the last name to the first: each goes before all others.
        let mut all: Vec<_> = (0..attributes).rev().map(|n| text(format!("a{n:07}"))).collect();
        all.push(KeyValue { key: "service.name".to_owned(), ..text(String::new()) });
        let resource = Some(Resource { attributes: all, ..Resource::default() });
        let scope_spans = vec![ScopeSpans { spans: vec![span(1, "op")], ..ScopeSpans::default() }];
        let block = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
        let value = ExportTraceServiceRequest { resource_spans: vec![block] }.encode_to_vec();
        least(|| {
            let mut task = task(&config);
            offer(&mut task, 0, &value);
            assert_eq!(task.label_sets(), 2);
        }) / attributes as f64
    };
    let ratio = cost(32_000) / cost(2_000);
    assert!(ratio < AS_GOOD_AS, "{ratio:.1} times as slow each");
}

#[test]
fn names_of_nearly_a_megabyte_are_kept_as_the_labels_have_them_and_mean_what_they_meant() {
    const LONG: usize = 900_000;
    const NAMES: u64 = 40;
    let mut config = only_spans();
    config.core.service_graphs.enabled = true;
    config.core.span_metrics.target_info = true;
    config.core.span_metrics.events = true;
    config.core.span_metrics.intrinsic.status_message = true;
    config.core.span_metrics.event_dimensions =
        vec![Dimension { or: Vec::new(), name: "event.name".to_owned(), default: None }];
    config.core.host_info.enabled = true;
    let long = |n: u64| format!("{n:06}{}", "x".repeat(LONG));
    let text = |key: &str, value: String| {
        let value = Some(AnyValue { value: Some(Value::StringValue(value)) });
        KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
    };
    // Every span has one long text: which one is the turn of its number.
    let value = |n: u64| {
        let of = |turn: u64| if n % 8 == turn { long(n) } else { "short".to_owned() };
        let event = opentelemetry_proto::tonic::trace::v1::span::Event { name: of(1), ..Default::default() };
        let attributes = vec![text("peer.service", of(2))];
        let status = Some(opentelemetry_proto::tonic::trace::v1::Status { message: of(3), code: 1 });
        let span = Span { events: vec![event], attributes, status, ..span(n, &of(0)) };
        let attributes = vec![
            text("service.name", of(4)),
            text("service.namespace", of(5)),
            text("host.id", of(6)),
            text("a", of(7)),
        ];
        let resource = Some(Resource { attributes, ..Resource::default() });
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let block = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![block] }.encode_to_vec()
    };
    let mut task = task(&config);
    // What is used again becomes as large as the longest text of its kind.
    (0..8).for_each(|n| offer(&mut task, n as i64, &value(n)));
    let ((), kept) = crate::allocator::held(|| (8..NAMES).for_each(|n| offer(&mut task, n as i64, &value(n))));
    let kept = kept / (NAMES - 8) as i64;
    assert!(kept < 40_000, "{kept} bytes per name");
    assert_eq!(task.ledger().get(Counter::SpansCounted), NAMES);
    assert_eq!(task.ledger().get(Counter::EdgesOpened), NAMES);

    // Labels are what they were: two names that differ where no label goes are one, and one that is no text there is none.
    let names = ["a", "b", "Q"].map(|last| format!("{}{last}", "y".repeat(LONG)));
    let mut value = request("shop", (0..).zip(&names).map(|(n, name)| span(1_000 + n, name)).collect());
    let at = value.iter().position(|&b| b == b'Q').expect("the third name");
    value[at] = 0xff;
    let mut task = self::task(&only_spans());
    offer(&mut task, 0, &value);
    assert_eq!(task.ledger().get(Counter::SpansDroppedInvalidUtf8), 1);
    let cut = task.cut().expect("a record was taken");
    let mut totals = Totals::default();
    cut.delta_records.iter().flatten().for_each(|delta_record| totals.add(delta_record).expect("a delta record"));
    let values = totals.values(TENANT);
    let calls: Vec<_> = values.iter().filter(|(s, _)| s.name.ends_with("calls_total")).collect();
    assert_eq!((calls.len(), *calls[0].1 as u64), (1, 2));
    let name = calls[0].0.labels.iter().find(|(name, _)| name == "span_name").map(|(_, value)| value.as_str());
    assert_eq!(name, Some("y".repeat(2_048).as_str()));
}

#[test]
fn long_attributes_mean_what_labels_have_of_them_alone_and_joined() {
    let mut config = only_spans();
    config.core.span_metrics.dimensions = vec![Dimension { or: Vec::new(), name: "one".to_owned(), default: None }];
    let source_labels = vec!["one".to_owned(), "two".to_owned()];
    config.core.span_metrics.dimension_mappings =
        vec![DimensionMapping { name: "both".to_owned(), source_labels, join: "-".to_owned() }];
    // They differ where no label goes, and one is no text there.
    let long = |last: &str| format!("{}{last}", "é".repeat(100_000));
    let (xx, y) = ("xx".to_owned(), "y".to_owned());
    let values = [(&xx, long("1")), (&xx, long("2")), (&y, long("Q"))].map(|(one, two)| [one.clone(), two]);
    let turned = [[long("3"), y.clone()], [long("4"), xx.clone()]];
    let span = |(n, [one, two]): (u64, &[String; 2])| {
        let attribute = |key: &str, value: &String| {
            let value = Some(AnyValue { value: Some(Value::StringValue(value.clone())) });
            KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
        };
        Span { attributes: vec![attribute("one", one), attribute("two", two)], ..span(n, "op") }
    };
    let mut value = request("shop", (0..).zip(values.iter().chain(&turned)).map(span).collect());
    let at = value.iter().position(|&b| b == b'Q').expect("the third one");
    value[at] = 0xff;
    let mut task = task(&config);
    offer(&mut task, 0, &value);
    assert_eq!(task.ledger().get(Counter::SpansDroppedInvalidUtf8), 1);
    let mut totals = Totals::default();
    let cut = task.cut().expect("a record was taken");
    cut.delta_records.iter().flatten().for_each(|delta_record| totals.add(delta_record).expect("a delta record"));
    let mut calls = Vec::new();
    for (series, value) in totals.values(TENANT).iter().filter(|(s, _)| s.name.ends_with("calls_total")) {
        let label = |wanted: &str| series.labels.iter().find(|(name, _)| name == wanted).map(|(_, text)| text.clone());
        calls.push((label("one").unwrap_or_default(), label("both").unwrap_or_default(), *value as u64));
    }
    calls.sort();
    let (cut, behind) = ("é".repeat(1_024), format!("xx-{}", "é".repeat(1_022)));
    assert_eq!(calls, [(xx, behind, 2), (cut.clone(), cut, 2)]);
}

#[test]
fn sanitizing_a_name_takes_time_in_proportion_to_its_length() {
    let builtin = |rules: &[(&str, &str)]| {
        let rule = |(pattern, replace): &(&str, &str)| SpanNameRule {
            pattern: (*pattern).to_owned(),
            replace: (*replace).to_owned(),
        };
        let rules = rules.iter().map(rule).collect();
        Sanitizer::new(&SpanNames { mode: SanitizeMode::Enabled, builtin: true, rules, ..SpanNames::default() })
            .expect("valid rules")
    };
    let cost = |sanitizer: &Sanitizer, head: &str, unit: &str, len: usize| {
        let name = format!("{head}{}", unit.repeat(len / unit.len()));
        let mut out = Vec::new();
        least(|| {
            sanitizer.apply(name.as_bytes(), &mut out);
        }) / len as f64
    };
    let (plain, mut slow) = (builtin(&[]), Vec::new());
    let units = [
        "1",
        "a1",
        "1.",
        "v1.",
        "1.1e1",
        "00:00:00.1",
        "::",
        "f:",
        "a@b.",
        "%4",
        "'",
        "(1), (",
        "-1",
        "<_>",
        "/* ",
        "x2x4z-",
    ];
    for head in ["", "select a from b where c in "] {
        for unit in units {
            let ratio = cost(&plain, head, unit, 32_000) / cost(&plain, head, unit, 2_000);
            if ratio > AS_GOOD_AS {
                slow.push(format!("{head}{unit}...: {ratio:.1} times as slow each"));
            }
        }
    }
    // One search is linear whatever it looks for; all matches are not, so there is an end to them.
    let rules = ["(x+x+)+y", "(x|x)*y", "(.*)(.*)(.*)[0-9]", "[a-z]+[0-9]|x", ".*[^A-Zx]|x", "x*y|x", "(x)|(xx)"];
    for rule in rules {
        let sanitizer = builtin(&[(rule, "z")]);
        let ratio = cost(&sanitizer, "", "x", 16_000) / cost(&sanitizer, "", "x", 1_000);
        if ratio > AS_GOOD_AS {
            slow.push(format!("{rule}: {ratio:.1} times as slow each"));
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}

#[test]
fn filters_by_regular_expressions_take_time_in_proportion_to_the_text() {
    let mut slow = Vec::new();
    for pattern in ["(x+x+)+y", "(x|x)*y", "([a-z]+)*[0-9]$", "(.*)(.*)(.*)[0-9]", "^(x?){50}x{50}$"] {
        let value = PolicyValue::Text(pattern.to_owned());
        let attributes = vec![PolicyAttribute { key: "name".to_owned(), value }];
        let exclude = Some(PolicyMatch { match_type: MatchType::Regex, attributes });
        let mut config = only_spans();
        config.core.span_metrics.filter_policies = vec![FilterPolicy { include: None, include_any: None, exclude }];
        let cost = |len: usize| {
            let value = request("shop", vec![span(1, &"x".repeat(len))]);
            let mut task = task(&config);
            let mut offset = 0;
            least(|| {
                offer(&mut task, offset, &value);
                offset += 1;
            }) / len as f64
        };
        let ratio = cost(32_000) / cost(2_000);
        if ratio > AS_GOOD_AS {
            slow.push(format!("{pattern}: {ratio:.1} times as slow each"));
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}
