//! `spanmill replay --files` from end to end: a load with a known result in files of every kind, the program, a receiver.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod foreign;
mod metrics;

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
