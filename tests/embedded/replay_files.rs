//! `spanmill replay --files` from end to end: a load with a known result in files of every kind, the program, a receiver.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use crate::child::Guarded;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use spanmill::tools::loadgen::{Expectation, Generator, Options, Record, Topology};
use spanmill::tools::receiver::{Fault, Receiver};
use tempfile::TempDir;

/// A time in the past, at the beginning of a step.
const START: i64 = 1_750_000_005_000;

fn load(spans: u64) -> (Vec<Record>, Expectation) {
    let options = Options { start: START, rate: 40, spans: Some(spans), spans_per_record: 20, ..Options::default() };
    let mut generator = Generator::new(Topology::shop(5), 5, options);
    (generator.by_ref().collect(), generator.expectation())
}

fn json(record: &Record) -> Vec<u8> {
    let request = ExportTraceServiceRequest::decode(record.value.as_slice()).expect("a request");
    serde_json::to_vec(&request).expect("JSON")
}

fn pretty(record: &Record) -> Vec<u8> {
    let request = ExportTraceServiceRequest::decode(record.value.as_slice()).expect("a request");
    serde_json::to_vec_pretty(&request).expect("JSON")
}

fn lines(records: &[Record]) -> Vec<u8> {
    records.iter().flat_map(|record| [json(record), b"\n".to_vec()].concat()).collect()
}

fn sized(messages: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    messages.flat_map(|m| [&(m.len() as u32).to_be_bytes(), m.as_slice()].concat()).collect()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

struct Scene {
    dir: TempDir,
    receiver: Receiver,
}

impl Scene {
    fn new() -> Self {
        let receiver = Receiver::start("127.0.0.1:0").expect("a port");
        receiver.refuse_old();
        Self { dir: tempfile::tempdir().expect("a directory"), receiver }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spanmill"));
        command.args([
            "replay",
            "--json",
            "--skip-preflight",
            "--set",
            &format!("remote_write.url={}", self.receiver.url()),
        ]);
        command.args(arguments.split_whitespace()).stdin(Stdio::null()).current_dir(self.dir.path());
        command
    }

    /// Runs it to its end. Its exit code and its summary.
    fn replay(&self, arguments: &str) -> (Option<i32>, serde_json::Value) {
        told(&self.command(arguments).output().expect("the program runs"))
    }

    /// The receiver has exactly what is expected, and nothing against it.
    fn has(&self, expected: &Expectation) {
        assert_eq!(self.receiver.violations(), Vec::<String>::new());
        let found = self.receiver.snapshot();
        let of = |series: &str| found.get(series).map_or(f64::NAN, |state| state.last_value);
        for (series, value) in expected.series() {
            assert!((of(series) - value).abs() <= 1e-9 * value.abs(), "{series} is {}, not {value}", of(series));
        }
        assert_eq!(found.len(), expected.series().len());
    }
}

fn told(output: &Output) -> (Option<i32>, serde_json::Value) {
    let (text, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let summary = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}\n{log}"));
    (output.status.code(), summary)
}

fn number(summary: &serde_json::Value, path: &str) -> u64 {
    summary.pointer(path).and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("{path} in {summary}"))
}

#[test]
fn files_of_every_kind_come_to_the_same_bytes() {
    let (records, expected) = load(1_000);
    let protos = || records.iter().map(|record| record.value.clone());
    let pretty: Vec<u8> = records.iter().flat_map(pretty).collect();
    let kinds: [(&str, Vec<u8>); 9] = [
        ("a.json", lines(&records)),
        ("b.jsonl.gz", gzip(&lines(&records))),
        ("c.json.zst", zstd(&lines(&records))),
        ("d.pb", sized(protos())),
        ("e.pb.gz", gzip(&sized(protos()))),
        ("f.zst", zstd(&sized(protos()))),
        ("g.json", sized(records.iter().map(|record| zstd(&json(record))))),
        ("h", sized(protos().map(|value| zstd(&value)))),
        ("i.json", pretty),
    ];
    let mut first: Option<Vec<(String, u64, u64)>> = None;
    for (name, bytes) in kinds {
        let scene = Scene::new();
        scene.write(name, &bytes);
        let (code, summary) = scene.replay(&format!("--files {name}"));
        assert_eq!(code, Some(0), "{name}: {summary}");
        scene.has(&expected);
        assert_eq!(number(&summary, "/records"), records.len() as u64, "{name}");
        assert_eq!(number(&summary, "/bytes"), bytes.len() as u64, "{name}");
        assert_eq!(number(&summary, "/samples/acknowledged"), number(&summary, "/samples/built"), "{name}");
        assert_eq!(number(&summary, "/settled") % 15_000, 0);
        let ledger = expected.ledger();
        for (counter, n) in ledger.iter().filter(|(counter, n)| *n > 0 && counter.name() != "bytes_read") {
            assert_eq!(number(&summary, &format!("/ledger/{}", counter.name())), n, "{name}: {}", counter.name());
        }
        let state = scene.receiver.snapshot();
        let said: Vec<_> = state.into_iter().map(|(s, state)| (s, state.last_value.to_bits(), state.samples)).collect();
        assert_eq!(*first.get_or_insert_with(|| said.clone()), said, "{name}");
    }
}

#[test]
fn a_span_that_comes_late_is_in_the_step_of_its_own_end() {
    let scene = Scene::new();
    let span = |id: u64, end: i64| {
        format!(
            r#"{{"traceId":"{id:032x}","spanId":"{id:016x}","name":"late","kind":1,"startTimeUnixNano":"{0}","endTimeUnixNano":"{0}"}}"#,
            end * 1_000_000
        )
    };
    let line = |spans: &[String]| {
        format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{}]}}]}}]}}\n", spans.join(","))
    };
    // Batches come every 10 s. One holds a span of the step before.
    let at = |second: i64| START + second * 1_000;
    let lines = [
        line(&[span(1, at(1))]),
        line(&[span(2, at(20))]),
        line(&[span(3, at(21)), span(4, at(2))]),
        line(&[span(5, at(31))]),
    ];
    scene.write("a.json", lines.concat().as_bytes());
    let seen: Arc<Mutex<Vec<(i64, f64)>>> = Arc::default();
    let values = Arc::clone(&seen);
    scene.receiver.watch(move |_, series| {
        if series.labels.iter().any(|l| l.value == "traces_spanmetrics_calls_total") {
            let samples = series.samples.iter().map(|sample| (sample.timestamp - START, sample.value));
            values.lock().expect("one thread").extend(samples.filter(|(_, value)| *value > 0.0));
        }
    });
    assert_eq!(scene.replay("--files a.json").0, Some(0));
    assert_eq!(*seen.lock().expect("one thread"), [(15_000, 2.0), (30_000, 4.0), (45_000, 5.0)]);
}

#[test]
fn standard_input_is_read_like_a_file() {
    let (records, expected) = load(500);
    let scene = Scene::new();
    let mut child = Guarded::start(scene.command("--files -").stdin(Stdio::piped()).stdout(Stdio::piped()));
    child.stdin.take().expect("a pipe").write_all(&zstd(&lines(&records))).expect("it reads");
    let (code, summary) = told(&child.output());
    assert_eq!(code, Some(0), "{summary}");
    scene.has(&expected);
}

#[test]
fn spans_that_are_spread_over_files_meet_and_rotated_files_are_read_in_their_order() {
    let (records, expected) = load(3_000);
    let scene = Scene::new();
    std::fs::create_dir(scene.dir.path().join("in")).expect("a directory");
    // Two Collectors, each of which has rotated its file.
    let half = records.len() / 2;
    for collector in 0..2 {
        let of = |part: &[Record]| -> Vec<Record> { part.iter().skip(collector).step_by(2).cloned().collect() };
        let (old, new) = records.split_at(half);
        let old = lines(&of(old));
        scene.write(&format!("in/{collector}.json"), &lines(&of(new)));
        scene.write(&format!("in/{collector}-2025-06-15T00-00-00.000.json.gz"), &gzip(&old));
    }
    let (code, summary) = scene.replay("--files in");
    assert_eq!((code, number(&summary, "/files")), (Some(0), 4), "{summary}");
    scene.has(&expected);
}

#[test]
fn what_cannot_be_read_is_told_with_its_place_and_the_rest_is_counted() {
    let (records, expected) = load(400);
    let (old, new) = records.split_at(records.len() / 2);
    let scene = Scene::new();
    let torn =
        [lines(old), b"{\"resourceSpans\":[{\"scope\n{\"resourceLogs\":[]}\nrubbish\n".to_vec(), lines(new)].concat();
    scene.write("a.json", &torn);
    scene.write("b.pb", &[sized([b"\x0a\xff\xff".to_vec(), Vec::new()].into_iter()), vec![0, 0, 1]].concat());
    scene.write("c.gz", &gzip(&vec![b'x'; 1_000])[..20]);
    scene.write("d.txt", b"notes");
    scene.write("e.json", b"");
    scene.write("f.zst", &zstd(&vec![b'{'; 65 << 20]));
    scene.write("g.pb", &sized([zstd(&vec![b'{'; 65 << 20])].into_iter()));
    let (code, summary) = scene.replay("--files .");
    assert_eq!((code, number(&summary, "/unreadable/count")), (Some(1), 9), "{summary}");
    let problems: Vec<String> =
        summary["unreadable"]["first"].as_array().expect("a list").iter().map(|p| format!("{p}")).collect();
    for (file, what) in [
        ("./a.json", "the text ends too early"),
        ("./a.json", "it holds logs, not traces"),
        ("./a.json", "an object is expected"),
        ("./b.pb", "cut off inside a field"),
        ("./b.pb", "the file ends inside a message: only 3 of 4 bytes"),
        ("./c.gz", ""),
        ("./d.txt", "set --format"),
        ("./f.zst", "the line is longer than"),
        ("./g.pb", "the record decompresses to more than"),
    ] {
        assert!(
            problems.iter().any(|p| p.contains(&format!("\"{file}\"")) && p.contains(what)),
            "{file}: {what}\n{problems:#?}"
        );
    }
    let line = problems.iter().find(|p| p.contains("not traces")).expect("told");
    assert!(line.contains(&format!("\"line\":{}", old.len() + 2)), "{line}");
    scene.has(&expected);
}

#[test]
fn a_receiver_that_fails_is_waited_for() {
    let (records, expected) = load(1_000);
    let scene = Scene::new();
    scene.receiver.fault(&Fault::Status(503), 20);
    scene.receiver.fault(&Fault::Reset, 3);
    scene.write("a.pb", &sized(records.iter().map(|record| record.value.clone())));
    let (code, summary) =
        scene.replay("--files a.pb --set remote_write.min_backoff=5ms --set remote_write.max_backoff=20ms");
    assert_eq!(code, Some(0), "{summary}");
    scene.has(&expected);
}

#[test]
fn a_second_run_sends_the_same_samples() {
    let (records, expected) = load(600);
    let scene = Scene::new();
    scene.write("a.json", &lines(&records));
    let (_, first) = scene.replay("--files a.json");
    let (code, second) = scene.replay("--files a.json --resend");
    assert_eq!(code, Some(0), "{second}");
    let samples = number(&first, "/samples/built");
    assert_eq!(samples, number(&second, "/samples/built"));
    assert_eq!(number(&second, "/samples/acknowledged") + number(&second, "/samples/already_there"), samples);
    scene.has(&expected);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_says_so_and_another_one_completes_it() {
    let (records, expected) = load(3_000);
    let scene = Scene::new();
    scene.write("a.json", &lines(&records));
    // It stores nothing, so that the run cannot end by itself.
    scene.receiver.fault(&Fault::Status(503), 1_000_000);
    let mut command =
        scene.command("--files a.json --set remote_write.min_backoff=5ms --set remote_write.max_backoff=20ms");
    let child = Guarded::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    assert!(scene.receiver.wait(std::time::Duration::from_secs(60), |totals| totals.requests > 3), "it sends");
    assert!(crate::child::signal(child.id(), "INT"));
    let (code, summary) = told(&child.output());
    assert_eq!((code, summary["stopped"].as_bool()), (Some(1), Some(true)), "{summary}");
    assert!(summary["settled"].is_null(), "{summary}");
    scene.receiver.mend();
    assert_eq!(scene.replay("--files a.json --resend").0, Some(0));
    scene.has(&expected);
}

/// A request in JSON with one span.
fn one_span(id: u64, service: &str, start: u64, end: u64) -> String {
    format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{service}"}}}},{{"key":"host.id","value":{{"stringValue":"h"}}}}]}},"scopeSpans":[{{"spans":[{{"traceId":"{id:032x}","spanId":"{id:016x}","name":"one","kind":2,"startTimeUnixNano":"{start}","endTimeUnixNano":"{end}"}}]}}]}}]}}
"#
    )
}

/// Noon, in nanoseconds.
const NOON: u64 = START as u64 * 1_000_000;

/// Everything in the files that `--convert` has written to `out`.
fn converted(scene: &Scene, out: &str) -> String {
    let files = std::fs::read_dir(scene.dir.path().join(out)).expect("a directory");
    let mut all: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    all.sort();
    all.iter().map(|path| std::fs::read_to_string(path).expect("text")).collect()
}

#[test]
fn a_sized_message_is_protobuf_whatever_the_length_of_its_first_resource() {
    let scene = Scene::new();
    let request = |bytes: usize| {
        let resource = |name: usize| {
            let text = one_span(1, &"x".repeat(name), NOON, NOON + 1);
            let request: ExportTraceServiceRequest = serde_json::from_str(&text).expect("a request");
            request.encode_to_vec()
        };
        (1..bytes).map(resource).find(|message| message.get(1) == Some(&(bytes as u8))).expect("a name that fits")
    };
    // A brace, a line's end, blanks.
    let lengths: Vec<usize> = (110..=127).collect();
    let file = sized(lengths.iter().map(|bytes| request(*bytes)));
    for (name, format) in [("a.pb", ""), ("b.bin", "--format otlp-proto"), ("c.pb", "")] {
        let bytes = if name == "c.pb" { zstd(&file) } else { file.clone() };
        scene.write(name, &bytes);
        let (code, summary) = scene.replay(&format!("--files {name} {format} --spool {name}.spool"));
        assert_eq!((code, number(&summary, "/spans")), (Some(0), lengths.len() as u64), "{name}: {summary}");
    }
}

#[test]
fn what_kept_samples_of_another_run_is_refused_and_a_spool_goes_when_it_is_not_needed() {
    let scene = Scene::new();
    scene.write("a.json", one_span(1, "first", NOON, NOON + 1_000_000).as_bytes());
    scene.write("b.json", one_span(2, "second", NOON, NOON + 1_000_000).as_bytes());
    let convert = |file: &str, out: &str| scene.replay(&format!("--files {file} --convert openmetrics --out {out}"));
    let (code, summary) = convert("a.json", "out");
    assert_eq!(code, Some(0), "{summary}");
    assert!(!scene.dir.path().join("out.spool").exists(), "it is not needed any more");
    // What is there already is said before anything is read.
    let refused = scene.command("--files b.json --convert openmetrics --out out").output().expect("it runs");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("exists already"), "{refused:?}");
    std::fs::remove_dir_all(scene.dir.path().join("out")).expect("it is there");
    assert_eq!(convert("b.json", "out").0, Some(0));
    let text = converted(&scene, "out");
    assert!(text.contains("second") && !text.contains("first"), "{text}");

    // One that has a name stays, and is its run's.
    assert_eq!(scene.replay("--files a.json --spool kept").0, Some(0));
    for other in ["--files b.json --spool kept", "--files a.json --spool kept --set time.step=30s"] {
        let refused = scene.command(other).output().expect("it runs");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1));
        assert!(said.contains("keeps the samples of another run") && said.contains("--spool"), "{said}");
    }
    let (code, again) = scene.replay("--files a.json --spool kept");
    assert_eq!(code, Some(0), "{again}");
    let mut show = Command::new(env!("CARGO_BIN_EXE_spanmill"));
    let shown = show.args(["spool", "kept", "--json"]).current_dir(scene.dir.path()).output().expect("it runs");
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["samples"], again["samples"]["built"], "it has begun anew: {shown}");
    assert_eq!((&shown["identity"]["run"], &shown["identity"]["complete"]), (&"files".into(), &true.into()), "{shown}");
}

#[test]
fn a_comparison_begins_with_no_samples_of_another_run() {
    let scene = Scene::new();
    scene.write("a.json", one_span(1, "first", NOON, NOON + 1_000_000).as_bytes());
    scene.write("b.json", one_span(2, "second", NOON, NOON + 1_000_000).as_bytes());
    // No server listens there, so that the samples are kept.
    let (code, summary) = scene.replay("--files a.json --diff http://127.0.0.1:1/");
    assert_eq!(code, Some(1), "{summary}");
    assert!(summary["finished"]["failed"].as_str().is_some_and(|why| why.contains("no answer")), "{summary}");
    assert_eq!(summary["finished"]["spool"], "files.spool");
    let refused = scene.command("--files b.json --diff http://127.0.0.1:1/").output().expect("it runs");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("keeps the samples of another run"), "{refused:?}");
}

#[test]
fn a_run_without_a_series_has_a_summary_with_its_reasons_and_is_no_failure_by_itself() {
    let scene = Scene::new();
    scene.write("bad.json", b"{\"spans\": []}\n");
    let internal = one_span(1, "s", NOON, NOON + 1).replace("\"kind\":2", "\"kind\":1");
    scene.write("none.json", internal.as_bytes());
    let (code, summary) = scene.replay("--files bad.json --convert openmetrics --out bad");
    assert_eq!((code, number(&summary, "/unreadable/count")), (Some(1), 1), "{summary}");
    assert!(summary["unreadable"]["first"][0]["what"].as_str().is_some_and(|w| w.contains("no resourceSpans")));
    // Such a span is no edge.
    let nothing = "--set span_metrics.enabled=false";
    let (code, summary) = scene.replay(&format!("--files none.json --convert openmetrics --out none {nothing}"));
    assert_eq!((code, number(&summary, "/spans")), (Some(0), 1), "an empty result is a result: {summary}");
    assert_eq!(number(&summary, "/finished/conversion/files"), 0);
}

#[cfg(unix)]
#[test]
fn a_disk_that_takes_nothing_more_ends_the_run_after_the_stated_time() {
    let (records, _) = load(1_000);
    let scene = Scene::new();
    scene.write("a.json", &lines(&records));
    // No file may be longer than 2 KiB; its signal is ignored, so that writing fails.
    let limited = ["-c", "trap '' XFSZ; ulimit -f 4; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_spanmill")];
    let arguments = "replay --json --print-every 200ms --files a.json --spool kept --spool-patience 1s";
    let mut command = Command::new("sh");
    command.args(limited).args(arguments.split(' ')).current_dir(scene.dir.path()).stdin(Stdio::null());
    let output = command.output().expect("sh runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let (code, summary) = told(&output);
    assert_eq!((code, summary["stopped"].as_bool()), (Some(1), Some(true)), "{summary}");
    let failed = summary["failed"].as_str().expect("told");
    assert!(failed.contains("kept/shard-") && failed.contains("free disk space"), "{failed}");
    assert!(said.contains("stops after 1 s: kept/shard-") && !said.contains("100.0 %"), "{said}");
}

#[test]
fn scopes_under_their_old_name_are_read() {
    let scene = Scene::new();
    let old = one_span(1, "old", NOON, NOON + 1).replace("scopeSpans", "instrumentationLibrarySpans");
    scene.write("old.json", old.as_bytes());
    let (code, summary) = scene.replay("--files old.json");
    assert_eq!((code, number(&summary, "/spans")), (Some(0), 1), "{summary}");
}

#[test]
fn times_in_another_unit_are_refused_and_spans_without_an_end_are_where_they_began() {
    let scene = Scene::new();
    let ms = NOON / 1_000_000;
    scene.write("ms.json", one_span(1, "s", ms, ms + 25).as_bytes());
    scene.write("us.json", one_span(1, "s", ms * 1_000, ms * 1_000 + 25).as_bytes());
    for (name, unit) in [("ms.json", "milliseconds"), ("us.json", "microseconds")] {
        let (code, summary) = scene.replay(&format!("--files {name}"));
        assert_eq!((code, number(&summary, "/samples/built")), (Some(1), 0), "{summary}");
        let what = summary["unreadable"]["first"][0]["what"].as_str().expect("told");
        assert!(what.contains(unit) && what.contains("span 0000000000000001"), "{what}");
    }
    let good = one_span(2, "s", NOON, NOON + 500_000_000);
    scene.write("first.json", format!("{}{good}", one_span(1, "s", NOON, 0)).as_bytes());
    scene.write("only.json", one_span(1, "s", NOON, 0).as_bytes());
    for (name, more) in [("first.json", ""), ("first.json", "--set time.source=record"), ("only.json", "")] {
        let (code, summary) = scene.replay(&format!("--files {name} --spool {name}{}.spool {more}", more.len()));
        assert_eq!((code, number(&summary, "/unfinished")), (Some(0), 1), "{summary}");
        assert!(number(&summary, "/times/0") >= START as u64, "{summary}");
        assert!(number(&summary, "/settled") > START as u64 - 60_000, "{summary}");
    }
}

/// What people have in their files: the name, the bytes, the spans that are read, and what is said about the rest.
fn files_of_people() -> Vec<(&'static str, Vec<u8>, u64, Option<&'static str>)> {
    let good = one_span(1, "s", NOON, NOON + 1_000_000);
    let good = good.trim().to_owned();
    let inner = good.strip_prefix('{').and_then(|text| text.strip_suffix('}')).expect("an object");
    let value: serde_json::Value = serde_json::from_str(&good).expect("JSON");
    let pretty = serde_json::to_string_pretty(&serde_json::json!([value, value])).expect("JSON");
    assert!(pretty.lines().count() > 40);
    let utf16 = |text: &str| [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let text = |text: String| text.into_bytes();
    let spans = crate::samples::samples(START as u64 * 1_000);
    let list = |name: &str| {
        let all = crate::samples::everything(&spans).into_iter().find(|(known, _, _)| *known == name);
        all.expect("a known format").2
    };
    let indented = |bytes: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
        serde_json::to_vec_pretty(&value).expect("JSON")
    };
    let jaeger = r#"{"data":[{"traceID":"5b","spans":[{"traceID":"?","spanID":"ee"}]}]}"#;
    let alone = r#"{"traceId":"5b8efff798038103d269b633813fc700","spanId":"eee19b7ec3c1b100","name":"x"}"#;
    let mixed = format!("{good}\n{{\"resourceMetrics\":[]}}\n{{\"resourceLogs\":[]}}\nnot json\n{{}}\n\n{good}\n");
    vec![
        ("array.json", text(format!("[{good}, {good}]")), 2, None),
        ("array_pretty.json", text(pretty), 2, None),
        ("array_cut.json", text(format!("[{good},\n")), 1, Some("line 2: the file ends inside an array")),
        ("crlf.json", text(format!("{good}\r\n{good}\r\n")), 2, None),
        ("utf16.json", utf16(&good), 0, Some("UTF-16 text; convert it to UTF-8")),
        ("tempo_v1.json", text(good.replace("resourceSpans", "batches")), 1, None),
        ("tempo_v2.json", text(format!("{{\n \"trace\": {{\n{inner}}}\n}}")), 1, None),
        ("jaeger_v3.json", text(format!("{{\"result\": {good}}}")), 1, None),
        ("jaeger_ui.json", indented(&list("Jaeger's API")[0]), 18, None),
        ("jaeger_ui.json.gz", gzip(&list("Jaeger's API")[0]), 18, None),
        ("jaeger_bad.json", text(jaeger.to_owned()), 0, Some("a trace ID that is not hexadecimal")),
        ("jaeger_spans.jsonl", list("Jaeger JSON").join(&b'\n'), 18, None),
        ("jaeger.pb", sized(list("Jaeger protobuf").into_iter()), 18, None),
        ("zipkin.json", list("Zipkin JSON").remove(0), 18, None),
        ("zipkin_pretty.json", indented(&list("Zipkin JSON")[0]), 18, None),
        ("zipkin.pb.zst", zstd(&sized(list("Zipkin protobuf").into_iter())), 18, None),
        ("one_span.json", text(alone.to_owned()), 0, Some("it looks like a single span")),
        ("cut.json", text(format!("{good}\n{}", good.split_at(good.len() / 2).0)), 1, Some("line 2: ")),
        ("mixed_signals.json", text(mixed), 2, Some("line 2: it holds metrics, not traces")),
    ]
}

#[test]
fn files_as_people_have_them_are_read_or_refused_with_the_reason() {
    for (name, bytes, spans, said) in files_of_people() {
        let scene = Scene::new();
        scene.write(name, &bytes);
        let (code, summary) = scene.replay(&format!("--files {name}"));
        assert_eq!((code, number(&summary, "/spans")), (Some(i32::from(said.is_some())), spans), "{name}: {summary}");
        let first = &summary["unreadable"]["first"][0];
        let place = first["at"].get("line").map_or(String::new(), |line| format!("line {line}: "));
        let told = format!("{place}{}", first["what"].as_str().unwrap_or_default());
        assert!(said.is_none_or(|said| told.contains(said)), "{name}: {summary}");
    }
}

#[test]
fn a_span_in_1970_among_others_is_named_and_takes_nobody_with_it() {
    let scene = Scene::new();
    let good = one_span(1, "s", NOON, NOON + 1_000_000);
    let good: serde_json::Value = serde_json::from_str(&good).expect("JSON");
    let mut both = good.clone();
    let spans = both["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array_mut().expect("spans");
    let mut odd = spans[0].clone();
    odd["spanId"] = "00000000000000ff".into();
    odd["startTimeUnixNano"] = (NOON / 1_000_000).to_string().into();
    odd["endTimeUnixNano"] = (NOON / 1_000_000 + 25).to_string().into();
    spans.insert(0, odd);
    scene.write("both.json", format!("{both}\n{good}\n").as_bytes());
    let (code, summary) = scene.replay("--files both.json");
    assert_eq!((code, number(&summary, "/spans"), number(&summary, "/odd_times/count")), (Some(0), 3, 1), "{summary}");
    let told = &summary["odd_times"]["first"][0];
    let what = told["what"].as_str().expect("told");
    assert!(what.starts_with("span 00000000000000ff: endTimeUnixNano is ") && what.contains("milliseconds"), "{what}");
    assert_eq!((told["file"].as_str(), number(told, "/at/line")), (Some("both.json"), 1));
    assert!(number(&summary, "/times/0") >= START as u64, "{summary}");
}

/// Server spans, and those of them that neither failed nor took longer than `most` nanoseconds.
fn served(records: &[Record], most: u64) -> (u64, u64) {
    let requests =
        records.iter().map(|record| ExportTraceServiceRequest::decode(record.value.as_slice()).expect("a request"));
    let resources = requests.flat_map(|request| request.resource_spans);
    let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
    let servers: Vec<_> = spans.filter(|span| span.kind == 2).collect();
    let took = |span: &Span| span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
    let good = |span: &&Span| took(span) <= most && span.status.as_ref().is_none_or(|status| status.code != 2);
    (servers.len() as u64, servers.iter().filter(|span| good(span)).count() as u64)
}

#[test]
fn a_replay_of_files_tells_whether_objectives_would_have_been_met() {
    let scene = Scene::new();
    let (records, _) = load(4_000);
    // A median of what the load has, so that some are good and some are not; it lies in no bucket's bound.
    let threshold = (1..).map(|ms| ms * 1_000_000).find(|most| {
        let (all, good) = served(&records, *most);
        good * 2 >= all
    });
    let threshold = threshold.expect("a threshold");
    let (events, good) = served(&records, threshold);
    assert!(good > 100 && events - good > 100, "{good} of {events}");
    scene.write("spans.json", &lines(&records));
    let servers = "[{include: {match_type: strict, attributes: [{key: kind, value: SPAN_KIND_SERVER}]}}]";
    let objective = |name, percent| {
        let latency = threshold / 1_000_000;
        format!("{{name: {name}, match: {servers}, good: {{latency: {latency}ms}}, objective: {percent}}}")
    };
    let slos = format!("slos: [{}, {}]\n", objective("low", "40"), objective("high", "99.9"));
    scene.write("slos.yaml", slos.as_bytes());
    let (code, summary) = scene.replay("--files spans.json --config slos.yaml");
    assert_eq!(code, Some(0), "{summary}");
    for (i, met) in [true, false].into_iter().enumerate() {
        let row = &summary["slos"][i];
        assert_eq!(
            (row["events"].as_f64(), row["good"].as_f64()),
            (Some(events as f64), Some(good as f64)),
            "{summary}"
        );
        assert_eq!(row["met"].as_bool(), Some(met), "{row}");
        assert!(row["budget_left"].as_f64().is_some_and(|left| (left >= 0.0) == met), "{row}");
    }
    // The receiver has the same, over all services.
    let found = scene.receiver.snapshot();
    let total = |metric: &str| {
        let all = found.iter().filter(|(series, _)| series.starts_with(metric) && series.contains("slo=\"high\""));
        all.map(|(_, state)| state.last_value).sum::<f64>()
    };
    assert_eq!((total("traces_slo_events_total"), total("traces_slo_good_total")), (events as f64, good as f64));
    let mut dry = Command::new(env!("CARGO_BIN_EXE_spanmill"));
    dry.args(["replay", "--config", "slos.yaml", "--files", "spans.json", "--dry-run"]).current_dir(scene.dir.path());
    let output = dry.output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let row = text.lines().find(|line| line.starts_with("low ")).unwrap_or_else(|| panic!("no row in {text}"));
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[1..3], [events.to_string(), good.to_string()], "{row}");
    assert!(row.contains(" met ") && output.status.success(), "{row}");
}

/// Server spans, how many of them have a status code, and what these add up to.
fn statuses(records: &[Record]) -> (u64, u64, u64) {
    let requests =
        records.iter().map(|record| ExportTraceServiceRequest::decode(record.value.as_slice()).expect("a request"));
    let resources = requests.flat_map(|request| request.resource_spans);
    let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
    let servers: Vec<_> = spans.filter(|span| span.kind == 2).collect();
    let codes = servers.iter().flat_map(|span| &span.attributes).filter(|one| one.key == "http.response.status_code");
    let number = |one: &KeyValue| match one.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::IntValue(code)) => u64::try_from(*code).expect("a status"),
        _ => 0,
    };
    let codes: Vec<u64> = codes.map(number).collect();
    (servers.len() as u64, codes.len() as u64, codes.iter().sum())
}

#[test]
fn attribute_metrics_reach_a_receiver_with_their_own_names() {
    let scene = Scene::new();
    let (records, _) = load(2_000);
    let (servers, coded, sum) = statuses(&records);
    assert!(servers > coded && coded > 100 && sum >= 200 * coded, "{servers} {coded} {sum}");
    scene.write("spans.json", &lines(&records));
    let matching = "match: [{include: {match_type: strict, attributes: [{key: kind, value: SPAN_KIND_SERVER}]}}]";
    let value = "value: http.response.status_code";
    let metrics = format!(
        "series: {{external_labels: {{cluster: c}}}}\n\
         attribute_metrics:\n  - {{name: my_servers_total, {matching}}}\n  - {{name: my_statuses_total, {matching}, {value}}}\n  \
         - {{name: my_status, type: histogram, {matching}, {value}, buckets: [299, 499]}}\n"
    );
    scene.write("metrics.yaml", metrics.as_bytes());
    let (code, summary) = scene.replay("--files spans.json --config metrics.yaml");
    assert_eq!(code, Some(0), "{summary}");
    let found = scene.receiver.snapshot();
    let total = |metric: &str| {
        let all = found.iter().filter(|(series, _)| series.starts_with(metric));
        all.map(|(_, state)| state.last_value).sum::<f64>()
    };
    assert_eq!((total("my_servers_total{"), total("my_statuses_total{")), (servers as f64, sum as f64));
    assert_eq!((total("my_status_count{"), total("my_status_sum{")), (coded as f64, sum as f64));
    let own: Vec<_> = found.keys().filter(|series| series.starts_with("my_")).collect();
    assert!(own.iter().all(|series| series.contains("cluster=") && !series.contains("__metric__")), "{own:?}");
}

#[test]
fn infos_are_infos_and_begin_with_no_zero() {
    let scene = Scene::new();
    scene.write("a.json", one_span(1, "s", NOON, NOON + 1_000_000).as_bytes());
    let infos = "--set span_metrics.enable_target_info=true --set host_info.enabled=true --set service_graphs.connection_info=true";
    let (code, summary) = scene.replay(&format!("--files a.json --convert openmetrics --out out {infos}"));
    assert_eq!(code, Some(0), "{summary}");
    let text = converted(&scene, "out");
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    for family in ["traces_target", "traces_host", "traces_service_graph_connection"] {
        assert!(types.contains(&format!("{family} info").as_str()), "{family} in {types:?}");
    }
    assert!(types.contains(&"traces_spanmetrics_calls counter"), "{types:?}");
    for name in ["traces_target_info", "traces_host_info", "traces_service_graph_connection_info"] {
        let values: Vec<&str> =
            text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.split(' ').nth(1)).collect();
        assert!(!values.is_empty() && values.iter().all(|value| *value == "1"), "{name}: {values:?}");
    }
    assert!(text.lines().any(|line| line.starts_with("traces_spanmetrics_calls_total") && line.contains("} 0 ")));
}

#[test]
fn an_idle_series_is_sent_in_every_step_until_it_ends() {
    let scene = Scene::new();
    let later = NOON + 600_000_000_000;
    let lines = one_span(1, "s", NOON, NOON + 100_000_000) + &one_span(2, "later", later, later + 100_000_000);
    scene.write("a.json", lines.as_bytes());
    let set = "--set time.step=1s --set series.stale_after=5m";
    assert_eq!(scene.replay(&format!("--files a.json --convert openmetrics --out out {set}")).0, Some(0));
    let text = converted(&scene, "out");
    let idle = |line: &&str| line.starts_with("traces_spanmetrics_calls_total") && line.contains("service=\"s\"");
    let times: Vec<u64> = text
        .lines()
        .filter(idle)
        .filter_map(|line| line.split_once("} ")?.1.strip_prefix("1 ")?.split(' ').next()?.parse().ok())
        .collect();
    let first = NOON / 1_000_000_000 + 1;
    assert_eq!(times, (first..first + times.len() as u64).collect::<Vec<_>>(), "every second, without a gap");
    assert!((300..=301).contains(&times.len()), "five minutes: {}", times.len());
}

#[test]
fn a_dry_run_names_what_cannot_be_read_and_fails() {
    let scene = Scene::new();
    scene.write("bad.json", b"not json\n");
    let output = Command::new(env!("CARGO_BIN_EXE_spanmill"))
        .args(["replay", "--dry-run", "--files", "bad.json"])
        .current_dir(scene.dir.path())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("bad.json, line 1: an object is expected"), "{text}");
}

#[test]
fn wrong_arguments_are_named() {
    let scene = Scene::new();
    scene.write("a.json", b"{}");
    let failed = |arguments: &str| {
        let output = scene.command(arguments).output().expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(failed("--files").0, Some(64));
    assert_eq!(failed("--files a.json --id r1").0, Some(64));
    assert_eq!(failed("--files a.json --set time.step=x").0, Some(64));
    let (code, text) = failed("--files none.json");
    assert!(code == Some(1) && text.contains("cannot read none.json"), "{text}");
    let (code, text) = failed("--files a.json --set tenant.source=key");
    assert!(code == Some(64) && text.contains("--tenant NAME"), "{text}");
}

/// What traces must come to, by no line of the library: how many there are, their spans, how long their roots took, and how
/// many errors begin.
fn whole(records: &[Record]) -> [f64; 4] {
    let mut traces: std::collections::BTreeMap<Vec<u8>, Vec<Span>> = std::collections::BTreeMap::new();
    for record in records {
        let request = ExportTraceServiceRequest::decode(record.value.as_slice()).expect("a request");
        let spans = request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        spans.for_each(|span| traces.entry(span.trace_id.clone()).or_default().push(span));
    }
    let (mut root_ns, mut origins) = (0, 0);
    for spans in traces.values() {
        // The load has traces without their root, which have no critical path.
        let roots = spans.iter().filter(|span| span.parent_span_id.is_empty());
        let root = roots.min_by_key(|span| (span.start_time_unix_nano, std::cmp::Reverse(span.end_time_unix_nano)));
        root_ns += root.map_or(0, |root| root.end_time_unix_nano - root.start_time_unix_nano);
        let failed = |span: &&Span| span.status.as_ref().is_some_and(|status| status.code == 2);
        let hands_on = |span: &Span| spans.iter().filter(failed).any(|child| child.parent_span_id == span.span_id);
        origins += spans.iter().filter(failed).filter(|span| !hands_on(span)).count();
    }
    let spans: usize = traces.values().map(Vec::len).sum();
    [traces.len() as f64, spans as f64, root_ns as f64 / 1e9, origins as f64]
}

#[test]
fn a_replay_of_files_sends_the_metrics_of_whole_traces() {
    let scene = Scene::new();
    let (records, _) = load(4_000);
    let [traces, spans, seconds, origins] = whole(&records);
    assert!(traces > 100.0 && origins > 0.0, "{traces} {origins}");
    scene.write("spans.json", &lines(&records));
    scene.write("traces.yaml", b"traces: {duration: true, critical_path: true, errors: true}\n");
    let (code, summary) = scene.replay("--files spans.json --config traces.yaml");
    assert_eq!(code, Some(0), "{summary}");
    let found = scene.receiver.snapshot();
    let total = |metric: &str| {
        let all = found.iter().filter(|(series, _)| series.contains(metric));
        all.map(|(_, state)| state.last_value).sum::<f64>()
    };
    assert_eq!((total("traces_trace_duration_seconds_count"), total("traces_error_origin_total")), (traces, origins));
    assert_eq!((total("traces_trace_spans_count"), total("traces_trace_spans_sum")), (traces, spans));
    let path = total("traces_critical_path_seconds_total");
    assert!((path - seconds).abs() < 1e-6, "{path} {seconds}: a float per series");
}
