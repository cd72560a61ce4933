//! Hostile records through a whole span task: each is counted, none makes the code panic, and what is kept of it is
//! bounded by numbers, not by the clock.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use spanmill::config::Config;
use spanmill::core::model::{Counter, Ledger};
use spanmill::core::otlp::DecodeError;
use spanmill::core::settings::TimeSource;
use spanmill::core::tasks::span::{Offer, Record, Refusal, Restored, SpanSettings, SpanTask};

/// 2026, in milliseconds.
const NOW: i64 = 1_780_000_000_000;
/// No record may make delta records that a broker would refuse.
const LARGEST_DELTA_RECORD: usize = 1_000_000;

/// Whether a counter is about how halves meet, which is a matter of stream time.
fn of_edges(counter: Counter) -> bool {
    counter.name().starts_with("edges_") || counter == Counter::EdgeSpansReplaced
}

/// What became of some records.
struct Outcome {
    ledger: Ledger,
    refusals: Vec<Option<Refusal>>,
    label_sets: usize,
    delta_records: Vec<Vec<u8>>,
}

impl Outcome {
    /// By the time of records. By that of spans, the same becomes of them, in other steps.
    fn of(values: &[&[u8]]) -> Self {
        let by_record = Self::under(&Config::default(), values);
        let by_span = Self::under(&by_span_end(), values);
        for (counter, n) in by_span.ledger.iter().filter(|(counter, _)| !of_edges(*counter)) {
            let own = matches!(counter, Counter::SpansLate | Counter::SpansFromFuture);
            assert!(own || n == by_record.get(counter), "{} is {n}", counter.name());
        }
        assert_eq!(by_span.refusals, by_record.refusals);
        by_record
    }

    fn under(config: &Config, values: &[&[u8]]) -> Self {
        let settings = SpanSettings::from(config);
        let mut task = SpanTask::new(&settings, "t".into(), 0, Restored::default()).expect("nothing to restore");
        let (mut refusals, mut cuts) = (Vec::new(), Vec::new());
        for (offset, value) in (0..).zip(values) {
            let record = Record { offset, timestamp: NOW, tenant: Some("t"), value };
            while let Offer::CutFirst { cut } = task.offer(&record, NOW) {
                cuts.push(*cut);
            }
            refusals.push(task.refusal());
        }
        // Nothing follows: a record whose time is doubted is decided on.
        cuts.extend(task.at_end());
        let label_sets = task.label_sets();
        cuts.extend(task.cut());
        let ledger = task.ledger().clone();
        assert_eq!(ledger.get(Counter::RecordsRead), values.len() as u64);
        assert_eq!(ledger.unaccounted_spans(), 0);
        assert_eq!(ledger.pending_edges(), task.pending_edges() as i128);
        let undecodable = refusals.iter().flatten().count() as u64;
        assert_eq!(ledger.get(Counter::RecordsUndecodable), undecodable, "each refusal has its reason");
        let delta_records: Vec<_> = cuts.into_iter().flat_map(|cut| cut.delta_records.concat()).collect();
        assert!(delta_records.iter().all(|delta_record| delta_record.len() < LARGEST_DELTA_RECORD));
        Self { ledger, refusals, label_sets, delta_records }
    }

    fn get(&self, counter: Counter) -> u64 {
        self.ledger.get(counter)
    }
}

fn by_span_end() -> Config {
    let mut config = Config::default();
    config.core.time.source = TimeSource::SpanEnd;
    config
}

fn request(service: &str, spans: Vec<Span>) -> Vec<u8> {
    let resource = Resource { attributes: vec![text("service.name", service)], ..Resource::default() };
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let block = ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![block] }.encode_to_vec()
}

fn text(key: &str, value: &str) -> KeyValue {
    with(key, Value::StringValue(value.to_owned()))
}

fn with(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// A client span.
fn span(i: u64) -> Span {
    Span {
        trace_id: [[7; 8], i.to_be_bytes()].concat(),
        span_id: (i + 1).to_be_bytes().to_vec(),
        name: "op".to_owned(),
        kind: 3,
        start_time_unix_nano: NOW as u64 * 1_000_000,
        end_time_unix_nano: NOW as u64 * 1_000_000 + 5,
        ..Span::default()
    }
}

/// A message field of any length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

#[test]
fn garbage_is_refused_with_the_reason_and_nothing_is_no_error() {
    let outcome = Outcome::of(&[b"", b"\xff\xff\xff", b"{\"resourceMetrics\": []}", &[0; 100], &[0x0b, 0x0c], b""]);
    let refused: Vec<bool> = outcome.refusals.iter().map(Option::is_some).collect();
    assert_eq!(refused, [false, true, true, true, true, false]);
    assert!(matches!(outcome.refusals[4], Some(Refusal::Undecodable(DecodeError::Group(1)))));
}

#[test]
fn a_record_that_is_cut_off_anywhere_counts_as_a_whole_or_not_at_all() {
    let whole = request("shop", vec![span(1), span(2)]);
    for length in 1..whole.len() {
        let outcome = Outcome::of(&[&whole[..length]]);
        assert!(outcome.refusals[0].is_some(), "{length} bytes");
        assert_eq!(outcome.get(Counter::SpansRead), 0, "{length} bytes");
    }
    assert_eq!(Outcome::of(&[&whole]).get(Counter::SpansCounted), 2);
}

#[test]
fn bytes_after_a_record_and_bytes_that_are_flipped_are_accounted_for() {
    let whole = request("shop", vec![span(1), span(2)]);
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0xff;
        let outcome = Outcome::of(&[&flipped, &whole]);
        assert!(outcome.get(Counter::SpansRead) >= 2, "the sound record after it counts");
    }
}

#[test]
fn a_record_of_16_mib_is_read_and_leaves_little_behind() {
    let names = (0..16).map(|i| Span { name: format!("{i}{}", "x".repeat(1 << 20)), ..span(i) }).collect();
    let value = request("shop", names);
    assert!(value.len() > 16 << 20);
    let outcome = Outcome::of(&[&value]);
    assert_eq!(outcome.get(Counter::SpansCounted), 16);
    assert!(outcome.delta_records.iter().map(Vec::len).sum::<usize>() < 1 << 20, "names are cut");
}

#[test]
fn a_hundred_thousand_spans_in_one_record_are_counted_in_one_set() {
    let outcome = Outcome::of(&[&request("shop", (0..100_000).map(span).collect())]);
    assert_eq!((outcome.get(Counter::SpansCounted), outcome.label_sets), (100_000, 1));
    assert_eq!(outcome.get(Counter::EdgesOpened), 100_000);
}

#[test]
fn a_hundred_thousand_attributes_on_a_span_and_on_its_resource_change_nothing() {
    let attributes: Vec<_> = (0..100_000).map(|i| text(&format!("key.{i}"), "value")).collect();
    let loaded = Span { attributes: attributes.clone(), ..span(1) };
    let resource = Resource { attributes, ..Resource::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![loaded], ..ScopeSpans::default() }];
    let block = ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() };
    let value = ExportTraceServiceRequest { resource_spans: vec![block] }.encode_to_vec();
    let outcome = Outcome::of(&[&value]);
    assert_eq!((outcome.get(Counter::SpansCounted), outcome.label_sets), (1, 1));
    assert!(outcome.delta_records.iter().map(Vec::len).sum::<usize>() < 10_000);
}

#[test]
fn values_that_nest_too_deep_are_refused_and_lesser_ones_are_read() {
    for (depth, refused) in [(10, false), (10_000, true), (200_000, true)] {
        let attribute = field(9, &[field(1, b"bomb"), field(2, &bomb(depth))].concat());
        let value = field(1, &field(2, &field(2, &[field(1, &[7; 16]), field(2, &[1; 8]), attribute].concat())));
        let outcome = Outcome::of(&[&value]);
        assert_eq!(outcome.refusals[0], refused.then_some(Refusal::Undecodable(DecodeError::TooDeep)), "{depth}");
    }
}

/// Arrays nested `depth` deep, built from the inside out and backwards, which takes linear time.
fn bomb(depth: usize) -> Vec<u8> {
    let mut backwards: Vec<u8> = Vec::new();
    for _ in 0..depth {
        for key in [1 << 3 | 2, 5 << 3 | 2] {
            let mut length = Vec::new();
            prost::encoding::encode_varint(backwards.len() as u64, &mut length);
            backwards.extend(length.iter().rev());
            backwards.push(key);
        }
    }
    backwards.reverse();
    backwards
}

#[test]
fn ids_of_any_length_and_of_zeros_are_counted_and_open_no_edge() {
    let ids: [(&[u8], &[u8]); 6] = [
        (&[0; 16], &[1; 8]),
        (&[1; 16], &[0; 8]),
        (&[], &[]),
        (&[1; 15], &[1; 8]),
        (&[1; 16], &[1; 9]),
        (&[1; 300], &[1]),
    ];
    let spans = ids.map(|(trace, id)| Span { trace_id: trace.to_vec(), span_id: id.to_vec(), ..span(1) });
    let outcome = Outcome::of(&[&request("shop", spans.to_vec())]);
    assert_eq!(outcome.get(Counter::SpansCounted), 6);
    assert_eq!((outcome.get(Counter::EdgeSpansInvalidId), outcome.get(Counter::EdgesOpened)), (6, 0));
}

#[test]
fn bytes_that_are_no_text_anywhere_are_accounted_for() {
    let whole = request("shop", vec![Span { attributes: vec![text("peer.service", "db")], ..span(1) }]);
    for word in ["shop", "op", "service.name", "peer.service", "db"] {
        let at = whole.windows(word.len()).position(|window| window == word.as_bytes()).expect("the word");
        let mut broken = whole.clone();
        broken[at] = 0xff;
        let outcome = Outcome::of(&[&broken]);
        assert_eq!(outcome.get(Counter::SpansRead), 1, "{word}");
        let dropped = outcome.get(Counter::SpansDroppedInvalidUtf8);
        assert_eq!(dropped, u64::from(matches!(word, "shop" | "op")), "{word}");
    }
}

#[test]
fn times_that_cannot_be_are_counted_with_durations_that_can() {
    let times =
        [(0, 0), (1, 0), (0, u64::MAX), (u64::MAX, 0), (u64::MAX, u64::MAX), (4_102_444_800_000_000_000, 1 << 63)];
    let spans = times.map(|(start, end)| Span { start_time_unix_nano: start, end_time_unix_nano: end, ..span(1) });
    let outcome = Outcome::of(&[&request("shop", spans.to_vec()), &request("shop", vec![span(9); 1_000])]);
    assert_eq!(outcome.get(Counter::SpansCounted), 1_006);
}

#[test]
fn record_timestamps_at_both_ends_of_time_end_no_step_twice() {
    let settings = SpanSettings::from(&Config::default());
    let mut task = SpanTask::new(&settings, "t".into(), 0, Restored::default()).expect("nothing to restore");
    let value = request("shop", vec![span(1)]);
    let year_2200 = 7_258_118_400_000;
    let mut cuts = 0;
    for (offset, timestamp) in (0..).zip([0, -1, i64::MIN, i64::MAX, NOW, 0, year_2200, i64::MAX, 1]) {
        let record = Record { offset, timestamp, tenant: Some("t"), value: &value };
        while let Offer::CutFirst { .. } = task.offer(&record, NOW) {
            cuts += 1;
        }
    }
    cuts += task.settle().len();
    assert_eq!(task.ledger().get(Counter::SpansCounted), 9);
    assert_eq!(task.ledger().get(Counter::RecordsFromFuture), 3);
    assert_eq!(cuts, 1, "stream time goes from the epoch to the present once");
    assert!(task.stream_time().is_some_and(|at| at <= NOW + settings.max_future));
}

#[test]
fn span_ends_at_both_ends_of_time_neither_drag_stream_time_nor_hold_it_back() {
    let mut task = SpanTask::new(&SpanSettings::from(&by_span_end()), "t".into(), 0, Restored::default())
        .expect("nothing to restore");
    let sound = span(1).end_time_unix_nano;
    let ends = [[sound, u64::MAX], [0, sound], [1_000_000, 1_000_000], [u64::MAX, u64::MAX], [0, 0], [sound, sound]];
    for (offset, ends) in (0..).zip(ends) {
        let spans = ends.map(|end_time_unix_nano| Span { end_time_unix_nano, ..span(1) });
        let value = request("shop", spans.to_vec());
        let record = Record { offset, timestamp: i64::MAX, tenant: Some("t"), value: &value };
        assert!(matches!(task.offer(&record, NOW), Offer::Taken));
        assert_eq!(task.stream_time(), Some(NOW - 30_000));
    }
    let ledger = task.ledger();
    let counters = [Counter::SpansCounted, Counter::SpansLate, Counter::SpansFromFuture, Counter::RecordsFromFuture];
    assert_eq!(counters.map(|counter| ledger.get(counter)), [12, 5, 3, 0]);
}

#[test]
fn a_step_for_every_span_makes_no_more_parts_than_spans_and_empty_delta_records() {
    let spans: Vec<_> = (0..5_000)
        .map(|i| Span { end_time_unix_nano: span(i).end_time_unix_nano - i * 15_000_000_000, ..span(i) })
        .collect();
    let outcome = Outcome::under(&by_span_end(), &[&request("shop", spans)]);
    assert_eq!((outcome.get(Counter::SpansCounted), outcome.get(Counter::SpansLate)), (5_000, 498));
    assert_eq!(outcome.label_sets, 5_000 - 498);
    assert_eq!(outcome.delta_records.len(), 5_000 - 498 + 15);
}

#[test]
fn wide_and_odd_values_are_read_in_full() {
    let wide = vec![AnyValue { value: Some(Value::IntValue(-1)) }; 50_000];
    let odd = [
        with("peer.service", Value::ArrayValue(ArrayValue { values: wide })),
        with("a", Value::BytesValue(vec![0xff; 100_000])),
        with("b", Value::DoubleValue(f64::NAN)),
        KeyValue::default(),
    ];
    let outcome = Outcome::of(&[&request("shop", vec![Span { attributes: odd.to_vec(), ..span(1) }])]);
    assert_eq!(outcome.get(Counter::SpansCounted), 1);
}

#[test]
fn a_record_without_a_tenant_is_refused_with_the_reason() {
    let settings = SpanSettings::from(&Config::default());
    let mut task = SpanTask::new(&settings, "t".into(), 0, Restored::default()).expect("nothing to restore");
    let value = request("shop", vec![span(1)]);
    let mut offer = |offset, tenant| {
        let offered = task.offer(&Record { offset, timestamp: NOW, tenant, value: &value }, NOW);
        assert!(matches!(offered, Offer::Taken));
        task.refusal()
    };
    assert_eq!(offer(0, None), Some(Refusal::NoTenant));
    assert_eq!(offer(1, Some("t")), None, "a reason belongs to one record");
    assert_eq!(offer(0, None), None, "what is covered already is not refused again");
    assert_eq!(task.ledger().get(Counter::RecordsWithoutTenant), 1);
}

#[test]
fn a_record_that_is_isolated_is_covered_once_and_its_half_edges_are_lost() {
    let settings = SpanSettings::from(&Config::default());
    let new = |restored| SpanTask::new(&settings, "t".into(), 0, restored).expect("a sound journal");
    let values = [request("shop", vec![span(1)]), request("shop", vec![span(2)]), request("shop", vec![span(3)])];
    let record =
        |offset: usize| Record { offset: offset as i64, timestamp: NOW, tenant: Some("t"), value: &values[offset] };
    let mut task = new(Restored::default());
    for offset in 0..2 {
        assert!(matches!(task.offer(&record(offset), NOW), Offer::Taken));
    }
    let cut = task.cut().expect("records were taken");
    let restored = Restored {
        next: Some(cut.to),
        next_commit_number: 1,
        stream_time: Some(cut.stream_time),
        step: Some(cut.step),
        reread_from: cut.reread_from,
        live: cut.live,
        ledger: cut.ledger,
    };
    // The new owner fails at a record that the old one had read, and at the next one.
    let mut task = new(restored);
    assert!(!task.isolate(&record(0)), "a commit covers it");
    assert!(matches!(task.offer(&record(1), NOW), Offer::Taken));
    assert!(task.isolate(&record(2)));
    assert!(!task.isolate(&record(2)), "once is enough");
    let cut = task.cut().expect("the record that was passed over is covered");
    assert_eq!((cut.from, cut.to), (2, 3));
    for (counter, n) in
        [(Counter::RecordsRead, 3), (Counter::RecordsIsolated, 1), (Counter::SpansRead, 2), (Counter::EdgesLost, 1)]
    {
        assert_eq!(cut.ledger.get(counter), n, "{}", counter.name());
    }
    assert_eq!(cut.ledger.pending_edges(), 1);
}

#[test]
fn the_release_profile_unwinds() {
    let manifest = include_str!("../../Cargo.toml");
    assert!(!manifest.contains("panic = \"abort\""), "a panic must end a task and not the process");
}
