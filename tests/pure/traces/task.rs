//! Whole traces through the span task: when they close, in which step, and what becomes of every span.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use spanmill::config::{Config, Sources, load};
use spanmill::core::model::{Counter, Ledger};
use spanmill::core::settings::{Tenants, Traces};
use spanmill::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask, StepCut};
use spanmill::tools::totals::Totals;

use super::oracle::{Node, Oracle};
use super::random_trace;
use crate::scramble::Dice;

const TENANT: &str = "single-tenant";
const STEP: i64 = 15_000;

fn config(text: &str) -> Config {
    let read_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let sources = Sources { file: Some(("traces.yaml", text)), env: &[], set: &[], read_file: &read_file };
    load(&sources).unwrap_or_else(|problems| panic!("{problems}")).config
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn attributes_of(node: &Node) -> Vec<KeyValue> {
    let failed = node.failed.then(|| text("error.type", "timeout"));
    failed.into_iter().chain((!node.tag.is_empty()).then(|| text("tag", node.tag))).collect()
}

fn id(n: u64) -> Vec<u8> {
    if n == 0 { Vec::new() } else { n.to_be_bytes().to_vec() }
}

/// The spans of a trace as a request; times are nanoseconds behind the first second.
fn request(trace: u8, nodes: &[Node]) -> Vec<u8> {
    const BASE: u64 = 1_000_000_000;
    let resource_spans = nodes.iter().map(|node| {
        let span = Span {
            trace_id: if trace == 0 { Vec::new() } else { vec![trace; 16] },
            span_id: id(node.id),
            parent_span_id: id(node.parent),
            name: node.operation.to_owned(),
            kind: node.kind.into(),
            start_time_unix_nano: BASE + node.start,
            end_time_unix_nano: BASE + node.end,
            attributes: attributes_of(node),
            status: Some(Status { code: if node.failed { 2 } else { 0 }, message: String::new() }),
            ..Span::default()
        };
        let attributes = if node.service.is_empty() { Vec::new() } else { vec![text("service.name", node.service)] };
        ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }.encode_to_vec()
}

fn node(id: u64, parent: u64, service: &'static str, (start, end): (u64, u64)) -> Node {
    Node { id, parent, start, end, service, operation: "get", failed: false, kind: 2, tag: "" }
}

/// A partition and its journal.
struct Topic {
    settings: SpanSettings,
    records: Vec<(i64, Vec<u8>)>,
    task: SpanTask,
    cuts: Vec<StepCut>,
}

impl Topic {
    fn new(text: &str) -> Self {
        // No time is doubted.
        let settings = SpanSettings::from(&config(&format!("time: {{max_future: 1h}}\n{text}")));
        let task = SpanTask::new(&settings, "spans".into(), 0, Restored::default()).expect("an empty journal");
        Self { settings, records: Vec::new(), task, cuts: Vec::new() }
    }

    fn send(&mut self, at: i64, trace: u8, nodes: &[Node]) {
        self.records.push((at, request(trace, nodes)));
        self.offer(self.records.len() - 1);
    }

    fn offer(&mut self, offset: usize) {
        let (timestamp, value) = &self.records[offset];
        let record = Record { offset: offset as i64, timestamp: *timestamp, tenant: Some(TENANT), value };
        while let Offer::CutFirst { cut } = self.task.offer(&record, i64::MAX / 2) {
            self.cuts.push(*cut);
        }
    }

    fn tick(&mut self, to: i64) {
        while let Some(cut) = self.task.tick(to) {
            self.cuts.push(cut);
        }
    }

    /// The owner dies without a commit; the next one continues from the last commit.
    fn crash(&mut self) {
        let Some(last) = self.cuts.last() else {
            self.task = SpanTask::new(&self.settings, "spans".into(), 0, Restored::default()).expect("a task");
            return (0..self.records.len()).for_each(|offset| self.offer(offset));
        };
        let restored = Restored {
            next: Some(last.to),
            next_commit_number: last.commit_number + 1,
            stream_time: Some(last.stream_time),
            step: Some(last.step),
            reread_from: last.reread_from,
            live: last.live.clone(),
            ledger: last.ledger.clone(),
        };
        let next = last.to;
        self.task = SpanTask::new(&self.settings, "spans".into(), 0, restored).expect("a sound list");
        let from = self.task.start_offset().expect("known");
        (from..next).for_each(|offset| self.offer(offset as usize));
        self.task.reached(next);
        (next as usize..self.records.len()).for_each(|offset| self.offer(offset));
    }

    fn ledger(&self) -> &Ledger {
        self.task.ledger()
    }

    fn tally<const N: usize>(&self, counters: [Counter; N]) -> [u64; N] {
        counters.map(|counter| self.ledger().get(counter))
    }

    /// The series of traces, as `name{label=value}` without `traces_`.
    fn series(&self) -> BTreeMap<String, f64> {
        let mut totals = Totals::default();
        for record in self.cuts.iter().flat_map(|cut| &cut.delta_records).flatten() {
            totals.add(record).expect("delta records add up");
        }
        let shown = totals.values(TENANT).into_iter().filter_map(|(series, value)| {
            let labels: Vec<_> = series.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let name = series
                .name
                .strip_prefix("traces_")
                .filter(|name| name.starts_with("spanmetrics_by_root") || !name.starts_with("span"))
                .filter(|name| !name.starts_with("service"))?;
            Some((format!("{name}{{{}}}", labels.join(" ")), value))
        });
        shown.collect()
    }

    fn value(&self, series: &str) -> f64 {
        *self.series().get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.series()))
    }
}

const CLOSED: [Counter; 3] = [Counter::TracesClosedIdle, Counter::TracesClosedAge, Counter::TracesClosedFull];
const SETTLED: [Counter; 6] = [
    Counter::TraceSpansClosed,
    Counter::TraceSpansLate,
    Counter::TraceSpansWithoutId,
    Counter::TraceSpansDroppedFull,
    Counter::TraceSpansLost,
    Counter::TraceSpans,
];
const ALL: &str = "traces: {duration: true, critical_path: true, errors: true";

#[test]
fn a_trace_becomes_all_of_its_metrics() {
    let mut topic = Topic::new(&format!("{ALL}}}"));
    const S: u64 = 1_000_000_000;
    let mut nodes =
        vec![node(1, 0, "web", (0, 4 * S)), node(2, 1, "cart", (S, 3 * S)), node(3, 2, "bank", (2 * S, 3 * S))];
    nodes[2].failed = true;
    topic.send(1_000, 1, &nodes);
    topic.tick(60_000);
    for (series, value) in [
        ("trace_duration_seconds_sum{root_operation=get root_service=web status_code=STATUS_CODE_UNSET}", 4.0),
        ("trace_spans_sum{root_operation=get root_service=web}", 3.0),
        ("trace_services_sum{root_operation=get root_service=web}", 3.0),
        ("trace_depth_sum{root_operation=get root_service=web}", 3.0),
        ("critical_path_seconds_total{operation=get root_operation=get root_service=web service=web}", 2.0),
        ("critical_path_seconds_total{operation=get root_operation=get root_service=web service=cart}", 1.0),
        ("critical_path_seconds_total{operation=get root_operation=get root_service=web service=bank}", 1.0),
        ("self_time_seconds_total{kind=SPAN_KIND_SERVER operation=get service=web}", 2.0),
        ("self_time_seconds_total{kind=SPAN_KIND_SERVER operation=get service=cart}", 1.0),
        ("error_origin_total{error_type=timeout operation=get root_service=web service=bank}", 1.0),
        ("error_swallowed_total{operation=get root_service=web service=cart}", 1.0),
    ] {
        assert_eq!(topic.value(series).to_bits(), f64::to_bits(value), "{series}");
    }
    let series = topic.series();
    let apart = series.keys().filter(|name| !name.contains("_bucket"));
    assert_eq!(apart.count(), 4 * 2 + 3 + 3 + 2, "and nothing else: {series:#?}");
}

#[test]
fn a_trace_without_its_root_has_a_duration_and_no_critical_path() {
    let mut topic = Topic::new(&format!("{ALL}}}"));
    topic.send(1_000, 1, &[node(2, 1, "cart", (0, 1_000_000_000))]);
    topic.tick(60_000);
    let series = topic.series();
    let duration =
        "trace_duration_seconds_sum{root_operation=get root_service=cart roots=none status_code=STATUS_CODE_UNSET}";
    assert_eq!(series.get(duration), Some(&1.0), "{series:#?}");
    assert!(!series.keys().any(|name| name.starts_with("critical_path")));
    assert_eq!(topic.tally([Counter::TraceSpansOrphaned]), [1]);
}

#[test]
fn a_trace_closes_when_nothing_came_for_idle_in_the_step_in_which_that_ended() {
    let mut topic = Topic::new("traces: {duration: true}");
    topic.send(1_000, 1, &[node(1, 0, "web", (0, 1))]);
    topic.send(10_999, 1, &[node(2, 1, "web", (0, 1))]);
    topic.send(20_998, 2, &[node(1, 0, "web", (0, 1))]);
    assert_eq!(topic.tally(CLOSED), [0, 0, 0]);
    topic.send(20_999, 3, &[]);
    assert_eq!(topic.tally(CLOSED), [1, 0, 0]);
    // Nothing comes for an hour: the second closes in its own step all the same.
    topic.send(3_600_000, 3, &[]);
    assert_eq!(topic.tally(CLOSED), [2, 0, 0]);
    let steps: Vec<i64> =
        topic.cuts.iter().filter(|cut| cut.ledger.get(Counter::TracesClosedIdle) == 2).map(|cut| cut.step).collect();
    assert_eq!(steps.first(), Some(&(3 * STEP)), "20.998 s + 10 s lies in the third step");
}

#[test]
fn a_trace_that_never_pauses_closes_at_its_age_and_what_follows_is_late() {
    let mut topic = Topic::new("traces: {duration: true, max_age: 30s, late: 1m}");
    for n in 0..12u32 {
        topic.send(1_000 + i64::from(n) * 5_000, 1, &[node(u64::from(n) + 1, 0, "web", (0, 1))]);
    }
    // Opened at 1 s, so it closes at 31 s, before the span of that time.
    assert_eq!(topic.tally(CLOSED), [0, 1, 0]);
    assert_eq!(topic.tally(SETTLED), [6, 6, 0, 0, 0, 12]);
    // Remembered until 91 s. Then a span of it opens a trace of its own.
    topic.send(90_999, 1, &[node(50, 0, "web", (0, 1))]);
    topic.send(91_000, 1, &[node(51, 0, "web", (0, 1))]);
    assert_eq!((topic.tally(SETTLED), topic.task.open_trace_spans()), ([6, 7, 0, 0, 0, 14], 1));
}

#[test]
fn limits_bound_what_is_held_and_every_span_is_tallied() {
    let mut topic = Topic::new("traces: {duration: true, max_spans: 3, max_traces: 2}");
    topic.send(1_000, 1, &[1, 2, 3, 4].map(|n| node(n, 0, "web", (0, 1))));
    assert_eq!((topic.tally(CLOSED), topic.tally(SETTLED)), ([0, 0, 1], [3, 1, 0, 0, 0, 4]));
    for trace in 2..=4 {
        topic.send(1_000, trace, &[node(1, 0, "web", (0, 1))]);
    }
    topic.send(1_000, 0, &[node(1, 0, "web", (0, 1))]);
    assert_eq!(topic.tally(SETTLED), [3, 1, 1, 1, 0, 8]);
    assert_eq!(topic.ledger().open_trace_spans(), 2);
    // Three have closed, and two are remembered.
    topic.send(20_000, 1, &[]);
    assert_eq!(topic.tally([Counter::TracesForgotten]), [1]);
    assert_eq!(topic.tally(SETTLED), [5, 1, 1, 1, 0, 8]);
}

#[test]
fn with_everything_off_a_commit_has_no_byte_of_traces() {
    let cuts = |switched: &dyn Fn(&mut Traces)| {
        let mut topic = Topic::new("");
        let mut settings = (**topic.settings.tenants.defaults()).clone();
        switched(&mut settings.traces);
        topic.settings.tenants = Tenants::new(Arc::new(settings), BTreeMap::new());
        topic.crash();
        topic.send(1_000, 1, &[node(1, 0, "web", (0, 1)), node(2, 1, "cart", (0, 1))]);
        topic.send(40_000, 2, &[node(1, 0, "web", (0, 1))]);
        topic.tick(90_000);
        topic.cuts
    };
    let with_traces = |cuts: &[StepCut]| cuts.iter().any(|cut| cut.live.first() == Some(&4));
    let off = cuts(&|traces| (traces.idle, traces.max_traces) = (1, 1));
    assert!(off == cuts(&|_| ()), "keys without a switch change nothing");
    assert!(!with_traces(&off) && with_traces(&cuts(&|traces| traces.errors = true)));
    let mut ledger = Vec::new();
    off.last().expect("a tick").ledger.encode(&mut ledger);
    assert!(ledger.len() < Counter::ALL.len(), "counters of traces are not there: {}", ledger.len());
}

#[test]
fn a_worker_without_traces_counts_what_it_finds_open_as_lost() {
    let mut topic = Topic::new("traces: {duration: true}");
    topic.send(1_000, 1, &[node(1, 0, "web", (0, 1)), node(2, 1, "cart", (0, 1))]);
    topic.cuts.extend(topic.task.cut());
    topic.settings = SpanSettings::from(&config(""));
    topic.crash();
    assert_eq!((topic.tally(SETTLED), topic.task.open_trace_spans()), ([0, 0, 0, 0, 2, 2], 0));
    topic.send(2_000, 1, &[node(3, 1, "cart", (0, 1))]);
    assert_eq!(topic.ledger().unaccounted_spans(), 0);
}

#[test]
fn spans_whose_records_are_gone_are_lost_and_the_rest_of_the_trace_closes() {
    let mut topic = Topic::new("traces: {duration: true}");
    topic.send(1_000, 1, &[node(1, 0, "web", (0, 1))]);
    topic.send(1_500, 2, &[node(1, 0, "web", (0, 1))]);
    topic.cuts.extend(topic.task.cut());
    topic.records[0].1 = request(9, &[]);
    topic.crash();
    assert_eq!((topic.tally(SETTLED), topic.task.open_trace_spans()), ([0, 0, 0, 0, 1, 2], 1));
    topic.tick(60_000);
    assert_eq!(topic.tally(SETTLED), [1, 0, 0, 0, 1, 2]);
}

#[test]
fn at_the_end_of_a_replay_open_traces_close_as_if_the_partition_stayed_silent() {
    let mut topic = Topic::new(&format!("{ALL}}}"));
    topic.send(1_000, 1, &[node(1, 0, "web", (0, 1))]);
    topic.cuts.extend(topic.task.finish(true));
    assert_eq!((topic.tally(CLOSED), topic.task.open_trace_spans()), ([1, 0, 0], 0));
    assert!(topic.series().keys().any(|name| name.starts_with("critical_path")));
}

/// What a random topic comes to by a model of the window.
#[derive(Default)]
struct Model {
    /// By trace: the times of the first and the last span, how many opened before, and the spans.
    open: BTreeMap<u8, (i64, i64, u64, Vec<Node>)>,
    opened: u64,
    closed: Vec<(i64, u8)>,
    settled: [u64; 4],
    root_ns: u64,
    errors: u64,
    repeated: u64,
    retried: u64,
    problems: u64,
    branches: BTreeMap<String, (u64, u64)>,
}

impl Model {
    const IDLE: i64 = 10_000;
    const AGE: i64 = 30_000;
    const LATE: i64 = 20_000;
    const SPANS: usize = 25;
    const TRACES: usize = 4;

    fn pass(&mut self, now: i64) {
        let mut due: Vec<(i64, u8)> = self
            .open
            .iter()
            .map(|(trace, (first, last, ..))| ((first + Self::AGE).min(last + Self::IDLE), *trace))
            .filter(|(at, _)| *at <= now)
            .collect();
        due.sort_unstable_by_key(|(at, trace)| (*at, self.open[trace].2));
        due.into_iter().for_each(|(at, trace)| self.close(trace, at));
        self.closed.retain(|(at, _)| at + Self::LATE > now);
    }

    fn close(&mut self, trace: u8, at: i64) {
        let (.., nodes) = self.open.remove(&trace).expect("open");
        self.settled[0] += nodes.len() as u64;
        let oracle = Oracle::new(&nodes);
        if oracle.roots() > 0 {
            self.root_ns += oracle.critical_times().iter().sum::<u64>();
        }
        self.errors += oracle.origins().len() as u64;
        self.repeated += oracle.call_groups().iter().filter(|(.., calls, _)| *calls >= 2).count() as u64;
        self.retried += oracle.call_groups().iter().map(|(.., retries)| retries).sum::<u64>();
        self.problems += oracle.problems().iter().map(Vec::len).sum::<usize>() as u64;
        for (labels, (calls, took)) in oracle.branches() {
            let sum = self.branches.entry(labels).or_default();
            *sum = (sum.0 + calls, sum.1 + took);
        }
        self.closed.push((at, trace));
        if self.closed.len() > Self::TRACES {
            self.closed.remove(0);
        }
    }

    fn take(&mut self, now: i64, trace: u8, node: &Node) {
        if trace == 0 {
            self.settled[2] += 1;
        } else if let Some((_, last, _, nodes)) = self.open.get_mut(&trace) {
            *last = now;
            nodes.push(node.clone());
        } else if self.closed.iter().any(|(_, closed)| *closed == trace) {
            self.settled[1] += 1;
        } else if self.open.len() >= Self::TRACES {
            self.settled[3] += 1;
        } else {
            self.opened += 1;
            self.open.insert(trace, (now, now, self.opened, vec![node.clone()]));
        }
        let held: usize = self.open.values().map(|(.., nodes)| nodes.len()).sum();
        let full = self.open.get(&trace).is_some_and(|(.., nodes)| nodes.len() >= Self::SPANS || held >= 80);
        if full {
            self.close(trace, now);
        }
    }
}

/// Span metrics of closed traces have the calls, and the nanoseconds, of the model.
fn assert_branches(series: &BTreeMap<String, f64>, model: &Model, seed: u64) {
    let of = |end: &str, scale: f64| -> BTreeMap<String, u64> {
        let start = format!("spanmetrics_by_root_{end}{{");
        let mine = series.iter().filter_map(|(name, value)| {
            let labels = name.strip_prefix(&start)?.strip_suffix('}')?.to_owned();
            Some((labels, (value * scale).round() as u64))
        });
        mine.filter(|(_, value)| *value > 0).collect()
    };
    let expected = |part: fn(&(u64, u64)) -> u64| -> BTreeMap<String, u64> {
        model.branches.iter().map(|(labels, sum)| (labels.clone(), part(sum))).filter(|(_, sum)| *sum > 0).collect()
    };
    for (end, scale, part) in [
        ("calls_total", 1.0, (|sum| sum.0) as fn(&(u64, u64)) -> u64),
        ("latency_count", 1.0, |sum| sum.0),
        ("latency_sum", 1e9, |sum| sum.1),
    ] {
        let (found, expected) = (of(end, scale), expected(part));
        let differing = found.iter().find(|(labels, value)| expected.get(*labels) != Some(*value));
        assert_eq!((differing, found.len()), (None, expected.len()), "seed {seed}, {end}");
    }
}

#[test]
fn random_topics_come_to_what_a_model_of_the_window_says_over_any_owners() {
    let (mut late, mut repeated, mut retried) = (0, 0, 0);
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let calls = "calls: true, repeated_calls: 2, quality: true";
        let sources = ["root", "entry", "ancestor", "descendant"];
        let branches = sources.map(|from| format!("{{name: {from}, from: {from}, key: tag}}")).join(", ");
        let limits = "max_age: 30s, late: 20s, max_spans: 25, max_traces: 4";
        let mut topic =
            Topic::new(&format!("{ALL}, {calls}, span_metrics: true, branch_labels: [{branches}], {limits}}}"));
        let (mut model, mut now) = (Model::default(), 1_000);
        for _ in 0..40 {
            now += [0, 100, 2_000, 9_000, 40_000][dice.below(5) as usize];
            let trace = dice.below(8) as u8;
            let nodes: Vec<Node> = random_trace(&mut dice).into_iter().take(12).collect();
            topic.send(now, trace, &nodes);
            model.pass(now);
            nodes.iter().for_each(|node| model.take(now, trace, node));
            if dice.below(8) == 0 {
                topic.cuts.extend(topic.task.cut());
            }
            if dice.below(8) == 0 {
                topic.crash();
            }
            let [closed, late, without, full, lost, _] = topic.tally(SETTLED);
            assert_eq!(([closed, late, without, full], lost), (model.settled, 0), "seed {seed}");
            assert_eq!(topic.ledger().open_trace_spans(), topic.task.open_trace_spans() as i128, "seed {seed}");
        }
        topic.tick(now + 200_000);
        model.pass(now + 200_000);
        let sum =
            |start: &str| topic.series().iter().filter(|(n, _)| n.starts_with(start)).map(|(_, v)| v).sum::<f64>();
        let seconds = model.root_ns as f64 / 1e9;
        assert!((sum("critical_path") - seconds).abs() < 1e-12, "seed {seed}: {} {seconds}", sum("critical_path"));
        for (start, expected) in [
            ("error_origin", model.errors),
            ("repeated_calls", model.repeated),
            ("retried_calls", model.retried),
            ("quality_problems", model.problems + model.settled[1]),
        ] {
            // The sum of nothing is -0.
            assert_eq!((sum(start) + 0.0).to_bits(), (expected as f64).to_bits(), "seed {seed}: {start}");
        }
        assert_branches(&topic.series(), &model, seed);
        late += model.settled[1];
        (repeated, retried) = (repeated + model.repeated, retried + model.retried);
    }
    assert!(late > 200 && repeated > 100 && retried > 10, "{late} late, {repeated} repeated, {retried} retried");
}
