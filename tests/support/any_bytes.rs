//! What everything that reads bytes from outside must do with any bytes whatever: take them or refuse them, and never
//! panic. Shared by the smoke test and the fuzz targets.
#![allow(dead_code, reason = "each user needs a part of it")]

use std::collections::BTreeMap;
use std::io;

use spanmill::config::{Config, Sources, Tenants, load, load_overrides};
use spanmill::core::deltas::DeltaRecord;
use spanmill::core::filter::Filter;
use spanmill::core::formats::{to_otlp, to_proto};
use spanmill::core::journal::{EmitMark, Frame, SeriesFold, SeriesSnapshot, SpanCommit, SpanFold};
use spanmill::core::model::Seed;
use spanmill::core::model::labels::{MAX_VALUE, cut};
use spanmill::core::model::wire::put_checksum;
use spanmill::core::otlp::{Batch, DecodeError};
use spanmill::core::remotewrite::StepBatch;
use spanmill::core::sanitize::Sanitizer;
use spanmill::core::settings::{
    Encoding, FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue, SanitizeMode, SpanNameRule, SpanNames,
};
use spanmill::core::tasks::series::{SeriesSettings, SeriesTask};
use spanmill::core::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask};
use spanmill::tools::archive::{Scanner, Window, openmetrics, victoria};
use spanmill::tools::files::{Frames, Framing, framing, hint, rotation, times, value};
use spanmill::tools::import::{Input, Product, Request};
use spanmill::tools::totals::Totals;

const NOW: i64 = 1 << 42;

/// The bytes as they are, and with the checksum that they should have: else nothing behind the checksum is reached.
fn also_repaired(bytes: &[u8], check: impl Fn(&[u8])) {
    check(bytes);
    let mut repaired = bytes[..bytes.len().saturating_sub(8)].to_vec();
    put_checksum(&mut repaired, 0);
    check(&repaired);
}

fn series_settings() -> SeriesSettings {
    SeriesSettings::from(&Tenants::from(Config::default()))
}

/// A record of a source topic, twice, and a stop.
pub(crate) fn record(bytes: &[u8]) {
    let settings = SpanSettings::from(&Config::default());
    let mut task = SpanTask::new(&settings, "t".into(), 0, Restored::default()).expect("nothing to restore");
    for (offset, timestamp) in [(0, NOW), (1, NOW + 60_000)] {
        let record = Record { offset, timestamp, tenant: Some("t"), value: bytes };
        while let Offer::CutFirst { .. } = task.offer(&record, NOW + 60_000) {}
    }
    let _last = task.cut();
    assert_eq!(task.ledger().unaccounted_spans(), 0);
}

/// A record in every format, as it is and in what it may be wrapped in. What comes out is OTLP protobuf, the same every time.
pub(crate) fn formats(bytes: &[u8]) {
    let framed = [&[0, 0, 0, 0, 7, 0], bytes].concat();
    for encoding in ENCODINGS {
        for value in [bytes, &framed] {
            let (mut out, mut again) = (Vec::new(), Vec::new());
            let read = to_otlp(encoding, value, &mut out);
            assert_eq!((read, &out), (to_otlp(encoding, value, &mut again), &again), "{encoding:?}");
            let made = !matches!(encoding, Encoding::Auto | Encoding::OtlpProto | Encoding::TempoPushBytes);
            if read.is_ok() && made {
                assert!(matches!(Batch::new().decode(&out), Ok(()) | Err(DecodeError::TooDeep)), "{encoding:?}");
            }
        }
    }
}

const ENCODINGS: [Encoding; 8] = [
    Encoding::Auto,
    Encoding::OtlpProto,
    Encoding::OtlpJson,
    Encoding::TempoPushBytes,
    Encoding::JaegerProto,
    Encoding::JaegerJson,
    Encoding::ZipkinProto,
    Encoding::ZipkinJson,
];

/// A file of OTLP traces, whatever its first bytes make it look like, and as every kind of file.
pub(crate) fn file(bytes: &[u8]) {
    let seen = framing(bytes);
    assert!(seen.is_none() || !bytes.is_empty());
    for kind in [Framing::Lines, Framing::Objects, Framing::Sized] {
        let mut frames = Frames::new(io::BufReader::with_capacity(7, bytes), kind);
        let mut read = 0;
        while let Some((_, message)) = frames.read().expect("memory can be read") {
            let Ok(message) = message else { continue };
            read += message.len();
            if let Ok(value) = value(message, Encoding::Auto) {
                let mut batch = Batch::new();
                if batch.decode(&value).is_ok() {
                    let _times = times(&batch, &value, NOW);
                }
            }
        }
        assert!(read <= bytes.len(), "no byte is read twice");
    }
    if let Ok(value) = to_proto(bytes) {
        // What comes out is protobuf, whatever went in: only its nesting may be too deep.
        assert!(matches!(Batch::new().decode(&value), Ok(()) | Err(DecodeError::TooDeep)));
    }
    let name = String::from_utf8_lossy(bytes);
    let _name = (rotation(&name), hint(&name));
}

/// A record of the deltas topic.
pub(crate) fn delta_record(bytes: &[u8]) {
    also_repaired(bytes, |bytes| {
        if let Ok(mut delta_record) = DeltaRecord::decode(bytes) {
            while let Ok(Some(_)) = delta_record.next_set() {}
        }
        let mut task = SeriesTask::new(series_settings());
        if let Ok(applied) = task.apply(bytes)
            && let Some(step) = task.closable(&[applied.source])
        {
            task.close(step);
            restore(&task.snapshot());
        }
    });
}

/// A segment of a spool; and a request in one, not compressed, in every format.
pub(crate) fn segment(bytes: &[u8]) {
    if let Ok(mut scanner) = Scanner::new(bytes, bytes.len() as u64) {
        while let Ok(Some(_)) = scanner.next() {}
        assert!(scanner.good() <= bytes.len() as u64);
    }
    let mut window = Window::default();
    if window.add_raw("t", bytes).is_ok()
        && let Ok(all) = window.take(NOW)
    {
        let again = window.newest().is_none_or(|at| at < NOW);
        assert!(again, "everything that is not older has been taken");
        drop(openmetrics::write(&all.series, &mut io::sink()));
        drop(victoria::write(&all.series, &mut io::sink()));
    }
}

/// Records of a journal, each with its length before it; and the bodies of frames.
pub(crate) fn journal(bytes: &[u8]) {
    let (mut span, mut series) = (SpanFold::new(), SeriesFold::after_cut());
    let (mut rest, mut offset) = (bytes, 0);
    while let Some((&[low, high], tail)) = rest.split_first_chunk::<2>() {
        let (record, left) = tail.split_at(usize::from(u16::from_le_bytes([low, high])).min(tail.len()));
        also_repaired(record, |record| {
            let _frame = Frame::decode(record);
        });
        let mut repaired = record[..record.len().saturating_sub(8)].to_vec();
        put_checksum(&mut repaired, 0);
        let _rulings = (span.apply(offset, &repaired), series.apply(offset, &repaired));
        (rest, offset) = (left, offset + 1);
    }
    let (span, _series) = (span.into_state(), series.into_state());
    if let Ok(state) = span {
        half_edges(state.reread_from.unwrap_or(0), state.live);
    }
    let _bodies = (SpanCommit::decode(bytes), EmitMark::decode(bytes), SeriesSnapshot::decode(bytes));
    half_edges(7, bytes.to_vec());
}

/// A list of pending edges.
fn half_edges(reread_from: i64, live: Vec<u8>) {
    let restored = Restored { next: Some(9), reread_from, live, ..Restored::default() };
    if let Ok(mut task) = SpanTask::new(&SpanSettings::from(&Config::default()), "t".into(), 0, restored) {
        task.reached(9);
    }
}

/// A snapshot of a shard, and the batches that lie beside it.
pub(crate) fn snapshot(bytes: &[u8]) {
    let _batches = StepBatch::decode_all(bytes);
    let _apart = StepBatch::decode_apart(bytes);
    also_repaired(bytes, restore);
}

fn restore(bytes: &[u8]) {
    if let Ok(mut task) = SeriesTask::restore(series_settings(), bytes) {
        let sources: Vec<_> = task.source_times().map(|(topic, partition, _)| (topic.to_owned(), partition)).collect();
        if let Some(step) = task.closable(&sources) {
            task.close(step);
        }
        let _again = task.snapshot();
    }
}

/// A configuration file, and the same as flags.
pub(crate) fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let read_file = |_: &std::path::Path| Err(io::ErrorKind::NotFound.into());
    let set: Vec<String> = text.lines().take(8).map(str::to_owned).collect();
    for sources in [
        Sources { file: Some(("f.yaml", &text)), env: &[], set: &[], read_file: &read_file },
        Sources { file: None, env: &[], set: &set, read_file: &read_file },
    ] {
        if let Err(problems) = load(&sources) {
            assert!(!problems.to_string().is_empty());
        }
    }
}

/// A file with overrides.
pub(crate) fn overrides(bytes: &[u8]) {
    let read_file = |_: &std::path::Path| Err(io::ErrorKind::NotFound.into());
    if let Err(problems) = load_overrides(&Config::default(), &String::from_utf8_lossy(bytes), "o.yaml", &read_file) {
        assert!(!problems.to_string().is_empty());
    }
}

/// A configuration of Tempo or of the Collector, and of Tempo with overrides for its tenants; and what comes out as a
/// configuration of ours.
pub(crate) fn import(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let file = Input { name: "in.yaml", text: &text };
    let empty = Input { name: "in.yaml", text: "metrics_generator: {}" };
    for (file, overrides, kind) in [
        (file, None, None),
        (file, None, Some(Product::Tempo)),
        (file, None, Some(Product::Collector)),
        (empty, Some(file), None),
    ] {
        match spanmill::tools::import::import(&Request { file, overrides, kind, overrides_path: Some("o.yaml") }) {
            Ok(imported) => {
                assert!(!imported.render_list(false).is_empty());
                let overrides = imported.overrides.unwrap_or_default();
                let read_file = |path: &std::path::Path| {
                    Ok(if path == std::path::Path::new("o.yaml") { overrides.clone() } else { "kept\n".to_owned() })
                };
                let file = Some(("out.yaml", imported.config.as_str()));
                // Names of tenants and the like come from the input: what is wrong with them is said then.
                if let Err(problems) = load(&Sources { file, env: &[], set: &[], read_file: &read_file }) {
                    assert!(!problems.to_string().is_empty());
                }
            }
            Err(problems) => assert!(!problems.is_empty()),
        }
    }
}

/// The plan of a replay, and what a worker makes of its partitions.
#[cfg(feature = "replay")]
pub(crate) fn plan(bytes: &[u8]) {
    use spanmill::core::tasks::span::Repeat;
    use spanmill::tools::replay::ReplayPlan;

    let Ok(plan) = ReplayPlan::decode(bytes) else { return };
    assert_eq!(ReplayPlan::decode(&plan.encode()).as_ref(), Ok(&plan), "it survives its topic");
    assert!(plan.differences(&plan.settings).is_empty());
    let (_begins, _offsets) = (plan.begins(), plan.offsets());
    let settings = SpanSettings::from(&Config::default());
    for ((topic, partition), range) in plan.replay(1_000, None).ranges {
        let mut task = SpanTask::new(&settings, topic, partition, Restored::default()).expect("nothing to restore");
        task.set_start(range.from);
        let mut repeat = Repeat::new(range.past, &mut task);
        let _cuts = [range.from, range.to].map(|offset| repeat.before(&mut task, offset));
        let _last = task.finish(range.settle);
    }
}

/// A filter policy and a rule for names, made of the first line and its second half, on what the other lines say.
pub(crate) fn text_rules(bytes: &[u8], spans: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (rule, names) = text.split_once('\n').unwrap_or((&text, ""));
    let (pattern, replace) = rule.split_once('\t').unwrap_or((rule, "$0"));
    for match_type in [MatchType::Strict, MatchType::Regex] {
        for key in ["span.http.route", "resource.service.name", "name", "kind", replace] {
            let value = PolicyValue::Text(pattern.to_owned());
            let attributes = vec![PolicyAttribute { key: key.to_owned(), value }];
            let exclude = Some(PolicyMatch { match_type, attributes });
            if let Ok(filter) = Filter::new(&[FilterPolicy { include: None, include_any: None, exclude }]) {
                keep(&filter, spans);
            }
        }
    }
    let rules = vec![SpanNameRule { pattern: pattern.to_owned(), replace: replace.to_owned() }];
    for rules in [rules, Vec::new()] {
        let Ok(sanitizer) =
            Sanitizer::new(&SpanNames { mode: SanitizeMode::Enabled, builtin: true, rules, ..SpanNames::default() })
        else {
            continue;
        };
        let mut out = Vec::new();
        for name in names.as_bytes().split(|byte| *byte == b'\n').chain([bytes]) {
            sanitizer.apply(name, &mut out);
        }
    }
}

fn keep(filter: &Filter, spans: &[u8]) {
    let mut batch = Batch::new();
    if batch.decode(spans).is_err() {
        return;
    }
    for resource in batch.resources(spans) {
        let verdict = filter.resource(&resource.resource);
        for span in resource.spans() {
            let _kept = filter.keeps(&verdict, &span);
        }
    }
}

/// Names and IDs that an attacker has chosen, with zeros between: each name counts as often as it comes, and a seed
/// decides nothing.
pub(crate) fn keys(bytes: &[u8]) {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message as _;

    let names: Vec<_> = bytes.split(|b| *b == 0).take(256).map(String::from_utf8_lossy).collect();
    let span = |name: &std::borrow::Cow<'_, str>| {
        let mut ids = [1; 24];
        ids.iter_mut().zip(name.bytes()).for_each(|(id, b)| *id = b);
        let (trace_id, span_id) = (ids[..16].to_vec(), ids[16..].to_vec());
        let (kind, start_time_unix_nano) = (2 + i32::from(name.len().is_multiple_of(2)), NOW as u64 * 1_000_000);
        let (parent_span_id, end_time_unix_nano) = (span_id.clone(), start_time_unix_nano + 5);
        let name = name.clone().into_owned();
        Span {
            trace_id,
            span_id,
            parent_span_id,
            name,
            kind,
            start_time_unix_nano,
            end_time_unix_nano,
            ..Span::default()
        }
    };
    let scope_spans = vec![ScopeSpans { spans: names.iter().map(span).collect(), ..ScopeSpans::default() }];
    let block = ResourceSpans { scope_spans, ..ResourceSpans::default() };
    let value = ExportTraceServiceRequest { resource_spans: vec![block] }.encode_to_vec();
    let delta_records = [0, u128::MAX / 3].map(|seed| {
        let mut config = Config::default();
        config.core.service_graphs.fan_out = true;
        config.core.span_metrics.intrinsic.span_kind = false;
        let settings = SpanSettings::from(&config).seeded(Seed::new(seed));
        let mut task = SpanTask::new(&settings, "t".into(), 0, Restored::default()).expect("nothing to restore");
        let record = Record { offset: 0, timestamp: NOW, tenant: Some("t"), value: &value };
        assert!(matches!(task.offer(&record, NOW), Offer::Taken));
        task.cut().expect("a record was taken").delta_records.concat()
    });
    assert!(delta_records[0] == delta_records[1], "a seed decides where keys lie, and nothing else");
    let (mut totals, mut expected) = (Totals::default(), BTreeMap::<&str, u64>::new());
    delta_records[0].iter().for_each(|delta_record| totals.add(delta_record).expect("a delta record"));
    names.iter().for_each(|name| *expected.entry(cut(name, MAX_VALUE)).or_default() += 1);
    let values = totals.values("t");
    let calls = values.iter().filter(|(series, _)| series.name.ends_with("calls_total"));
    let counted: BTreeMap<&str, u64> = calls
        .map(|(series, n)| {
            let name = series.labels.iter().find(|(label, _)| label == "span_name");
            (name.map_or("", |(_, value)| value.as_str()), *n as u64)
        })
        .collect();
    assert_eq!(counted, expected);
}
