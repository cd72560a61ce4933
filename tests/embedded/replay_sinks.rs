//! Where a replay's samples go besides remote write: the spool, and what it can be turned into.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests may fail loudly and look at the clock")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use prost::Message;
use spanmill::cli::replay::diff::{self, DiffArgs};
use spanmill::cli::replay::finish::finish;
use spanmill::cli::replay::preflight::{self, Plan};
use spanmill::cli::replay::sink::{ConvertError, FileArgs, Format, SinkArgs, WINDOW, convert};
use spanmill::config::settings::{Auth, RemoteWrite, Secret};
use spanmill::core::remotewrite::decode::proto::{Label, Sample, TimeSeries, WriteRequest};
use spanmill::core::remotewrite::{Request, StepBatch};
use spanmill::core::settings::SINGLE_TENANT;
use spanmill::tools::archive::Collected;
use spanmill::tools::archive::query::Matcher;
use spanmill::tools::spool::{self, Claim, Identity, Reader, SpoolError};
use spanmill::worker::sender::{Delivered, Exporter, ShardSender};
use spanmill::worker::telemetry::Telemetry;

mod guard;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(60);
const SHARD: u32 = 3;
const STEP: i64 = 15_000;
const HOUR: i64 = 3_600_000;

struct House {
    exporter: Exporter,
    telemetry: Telemetry,
    sender: ShardSender,
    done: mpsc::Receiver<Delivered>,
}

fn house(dir: &Path) -> House {
    let telemetry = Telemetry::new();
    let exporter = spool::exporter(dir, telemetry.clone()).unwrap();
    let (sender, done) = mpsc::channel();
    let sender = exporter.open(SHARD, Box::new(move |d| drop(sender.send(d))));
    House { exporter, telemetry, sender, done }
}

impl House {
    fn send(&self, batch: StepBatch) -> Delivered {
        self.sender.try_send(batch).unwrap();
        self.done.recv_timeout(LONG).unwrap()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.telemetry.render();
        let line = text.lines().find_map(|l| l.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')));
        line.map_or(0, |v| v.parse().unwrap())
    }
}

/// One sample for each of `series` at each of `times`.
fn request(series: std::ops::Range<u32>, times: &[i64]) -> Request {
    let label = |n: &str, v: String| Label { name: n.to_owned(), value: v };
    let sample = |i: u32, at: i64| Sample { value: at as f64 / 1000.0 + f64::from(i), timestamp: at };
    let entry = |i: u32| TimeSeries {
        labels: vec![label("__name__", "calls_total".to_owned()), label("service", format!("s{i}"))],
        samples: times.iter().map(|at| sample(i, *at)).collect(),
        ..TimeSeries::default()
    };
    let n = series.len() as u32;
    let message = WriteRequest { timeseries: series.map(entry).collect() };
    Request::compress(&message.encode_to_vec(), n, n * times.len() as u32, 0, &mut snap::raw::Encoder::new())
}

fn batch(tenant: &str, step: i64, requests: Vec<Request>) -> StepBatch {
    StepBatch { tenant: tenant.into(), endpoint: None, step, resend: false, requests }
}

/// Everything in a spool: samples by tenant, service and time; and how many were there twice.
fn read(dir: &Path, width: i64) -> (BTreeMap<(String, String, i64), f64>, u64) {
    let (mut out, mut repeated) = (BTreeMap::new(), 0);
    let take = |from: i64, window: Collected| {
        repeated += window.repeated;
        for series in window.series {
            for (at, value) in &series.floats {
                assert!((from..from + width).contains(at), "{at} is not in the window of {from}");
                let key = (series.tenant.to_string(), series.label("service").unwrap().to_owned(), *at);
                assert_eq!(out.insert(key, *value), None);
            }
        }
        Ok::<(), SpoolError>(())
    };
    Reader::open(&[dir.to_owned()], width).unwrap().windows(take).unwrap();
    (out, repeated)
}

fn expected(tenant: &str, series: std::ops::Range<u32>, times: &[i64]) -> BTreeMap<(String, String, i64), f64> {
    let pairs = series.flat_map(|i| times.iter().map(move |at| (i, *at)));
    pairs.map(|(i, at)| ((tenant.to_owned(), format!("s{i}"), at), at as f64 / 1000.0 + f64::from(i))).collect()
}

#[test]
fn what_is_settled_lies_in_the_spool_and_is_read_back_window_by_window() {
    let dir = tempfile::tempdir().unwrap();
    let h = house(dir.path());
    let steps: Vec<i64> = (1..=8).map(|i| i * HOUR).collect();
    for step in &steps {
        let d = h.send(batch("a", *step, vec![request(0..2, &[*step]), request(2..3, &[*step])]));
        assert_eq!((d.step, d.acknowledged, d.rejected), (*step, 3, 0));
        assert_eq!(h.send(batch("b", *step, vec![request(0..1, &[*step - 1, *step])])).acknowledged, 2);
    }
    assert_eq!((h.metric("spanmill_samples_acknowledged_total"), h.metric("spanmill_samples_pending")), (40, 0));
    h.exporter.stop(LONG);
    let mut all = expected("a", 0..3, &steps);
    all.extend(expected("b", 0..1, &steps));
    all.extend(expected("b", 0..1, &steps.iter().map(|step| step - 1).collect::<Vec<_>>()));
    for width in [WINDOW, HOUR, 100 * HOUR] {
        assert_eq!(read(dir.path(), width), (all.clone(), 0));
    }
    let contents = Reader::open(&[dir.path().to_owned()], WINDOW).unwrap().contents();
    assert_eq!((contents.requests, contents.samples, contents.steps), (24, 40, Some((HOUR, 8 * HOUR))));
}

#[test]
fn a_torn_end_is_cut_off_and_a_step_that_is_sent_again_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let segment = dir.path().join("shard-00003.seg");
    let first = house(dir.path());
    first.send(batch("t", STEP, vec![request(0..2, &[STEP])]));
    first.exporter.stop(LONG);
    drop(first);
    let whole = std::fs::read(&segment).unwrap();
    let second = house(dir.path());
    second.send(batch("t", 2 * STEP, vec![request(0..2, &[2 * STEP])]));
    second.exporter.stop(LONG);
    drop(second);
    // The machine stops at any byte of the second batch: it is sent again, and so is the first.
    let all = std::fs::read(&segment).unwrap();
    for cut in whole.len()..=all.len() {
        std::fs::write(&segment, &all[..cut]).unwrap();
        let kept = if cut == all.len() { 2 } else { 1 };
        assert_eq!(read(dir.path(), WINDOW).0.len(), 2 * kept);
        if cut % 16 == 0 || cut == all.len() {
            let again = house(dir.path());
            for step in [STEP, 2 * STEP] {
                again.send(batch("t", step, vec![request(0..2, &[step])]));
            }
            again.exporter.stop(LONG);
            let repeated = 2 * kept as u64;
            assert_eq!(read(dir.path(), WINDOW), (expected("t", 0..2, &[STEP, 2 * STEP]), repeated));
        }
    }
}

#[test]
fn a_disk_that_fails_is_waited_for_and_nothing_is_lost_or_out_of_order() {
    let dir = tempfile::tempdir().unwrap();
    let segment = dir.path().join("shard-00003.seg");
    std::fs::create_dir(&segment).unwrap();
    let h = house(dir.path());
    for step in [STEP, 2 * STEP] {
        h.sender.try_send(batch("t", step, vec![request(0..1, &[step])])).unwrap();
    }
    while h.metric("spanmill_remote_write_retries_total") < 2 {
        std::thread::yield_now();
    }
    assert!(h.done.try_recv().is_err(), "nothing is settled before it is written");
    assert!(h.sender.is_down(&"t".into(), None, Duration::ZERO));
    std::fs::remove_dir(&segment).unwrap();
    assert_eq!(h.done.recv_timeout(LONG).unwrap().step, STEP);
    assert_eq!(h.done.recv_timeout(LONG).unwrap().step, 2 * STEP);
    assert!(!h.sender.is_down(&"t".into(), None, Duration::ZERO));
    assert_eq!(read(dir.path(), WINDOW).0, expected("t", 0..1, &[STEP, 2 * STEP]));
}

#[test]
fn two_processes_never_write_to_one_segment() {
    let dir = tempfile::tempdir().unwrap();
    let first = house(dir.path());
    first.send(batch("t", STEP, vec![request(0..1, &[STEP])]));
    let second = house(dir.path());
    second.sender.try_send(batch("t", 2 * STEP, vec![request(0..1, &[2 * STEP])])).unwrap();
    while second.metric("spanmill_remote_write_retries_total") < 1 {
        std::thread::yield_now();
    }
    assert!(second.done.try_recv().is_err());
    drop(first.sender);
    first.exporter.stop(LONG);
    assert_eq!(second.done.recv_timeout(LONG).unwrap().acknowledged, 1);
    assert_eq!(read(dir.path(), WINDOW).0, expected("t", 0..1, &[STEP, 2 * STEP]));
}

#[test]
fn the_directories_of_the_workers_that_shared_a_run_are_one_spool() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    // The second worker takes the shard over, and sends again what it does not know to be settled.
    for (dir, steps) in dirs.iter().zip([[1, 2], [2, 3]]) {
        let h = house(dir.path());
        for step in steps {
            h.send(batch("t", step * STEP, vec![request(0..2, &[step * STEP])]));
        }
        h.exporter.stop(LONG);
    }
    let paths: Vec<_> = dirs.iter().map(|dir| dir.path().to_owned()).collect();
    let (mut samples, mut repeated) = (0, 0);
    let count = |_, window: Collected| {
        samples += window.samples();
        repeated += window.repeated;
        Ok::<(), SpoolError>(())
    };
    Reader::open(&paths, WINDOW).unwrap().windows(count).unwrap();
    assert_eq!((samples, repeated), (6, 2));
}

#[test]
fn a_run_that_is_not_sent_keeps_its_samples_where_the_arguments_say() {
    let none = DiffArgs::default();
    let diff = DiffArgs { url: Some("http://p".to_owned()), ..DiffArgs::default() };
    let files = FileArgs { convert: Some(Format::Parquet), out: Some("a/b".into()) };
    let sink = |spool: Option<&str>, files: &FileArgs| SinkArgs {
        spool: spool.map(Into::into),
        files: files.clone(),
        ..SinkArgs::default()
    };
    assert_eq!(sink(None, &FileArgs::default()).dir(&none, "run"), None);
    assert_eq!(sink(None, &FileArgs::default()).dir(&diff, "run"), Some("run.spool".into()));
    assert_eq!(sink(None, &files).dir(&diff, "run"), Some("a/b.spool".into()));
    assert_eq!(sink(Some("c"), &files).dir(&diff, "run"), Some("c".into()));
}

#[test]
fn two_runs_in_one_directory_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let h = house(dir.path());
    h.send(batch("t", STEP, vec![request(0..1, &[STEP])]));
    let other = TimeSeries {
        samples: vec![Sample { value: 7.0, timestamp: STEP }],
        ..spanmill::core::remotewrite::decode::body(&request(0..1, &[STEP]).body).unwrap().timeseries.remove(0)
    };
    let message = WriteRequest { timeseries: vec![other] };
    let request = Request::compress(&message.encode_to_vec(), 1, 1, 0, &mut snap::raw::Encoder::new());
    h.send(batch("t", STEP, vec![request]));
    h.exporter.stop(LONG);
    let out = tempfile::tempdir().unwrap();
    let error = convert(&[dir.path().to_owned()], Format::OpenMetrics, out.path(), WINDOW, &mut |_| {}).unwrap_err();
    assert!(matches!(&error, ConvertError::Spool(SpoolError::Window { .. })), "{error}");
    assert!(
        error.to_string().contains(r#"calls_total{service="s0"} of tenant "t" has two values at 15000"#),
        "{error}"
    );
    assert!(!out.path().exists() || std::fs::read_dir(out.path()).unwrap().next().is_none(), "nothing half is left");
}

#[test]
fn damage_in_the_middle_is_said_and_never_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let segment = dir.path().join("shard-00003.seg");
    let h = house(dir.path());
    for step in [STEP, 2 * STEP] {
        h.send(batch("t", step, vec![request(0..9, &[step])]));
    }
    h.exporter.stop(LONG);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let error = Reader::open(&[dir.path().to_owned()], WINDOW).unwrap_err().to_string();
    assert!(error.contains("shard-00003.seg: damaged at byte 8: the checksum does not match"), "{error}");
}

#[test]
fn every_format_has_a_file_per_window_and_tenant_and_never_overwrites_anything() {
    let dir = tempfile::tempdir().unwrap();
    let h = house(dir.path());
    for (tenant, step) in [(SINGLE_TENANT, HOUR), (SINGLE_TENANT, 2 * HOUR), ("b/c", 2 * HOUR)] {
        h.send(batch(tenant, step, vec![request(0..2, &[step - 1, step])]));
    }
    h.exporter.stop(LONG);
    for (format, suffix) in
        [(Format::OpenMetrics, "openmetrics"), (Format::VictoriaMetrics, "jsonl"), (Format::Parquet, "parquet")]
    {
        let out = tempfile::tempdir().unwrap();
        let mut told = 0;
        let done =
            convert(&[dir.path().to_owned()], format, out.path(), WINDOW, &mut |samples| told += samples).unwrap();
        // A zero lies before its window: it has the file of its own time.
        assert_eq!((done.files, done.written.samples, done.repeated, told), (4, 12, 0, 12));
        for path in ["", "tenant=b%2Fc/"] {
            for window in ["1970-01-01T000000Z", "1970-01-01T020000Z"] {
                assert!(out.path().join(format!("{path}{window}.{suffix}")).exists(), "{path}{window}.{suffix}");
            }
        }
        let again = convert(&[dir.path().to_owned()], format, out.path(), WINDOW, &mut |_| {}).unwrap_err();
        assert!(matches!(again, ConvertError::Occupied(_)), "{again}");
    }
}

#[test]
fn a_directory_without_a_spool_is_said() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(&[dir.path().to_owned()], WINDOW), Err(SpoolError::Empty(_))));
    assert!(matches!(Reader::open(&[dir.path().join("none")], WINDOW), Err(SpoolError::Read { .. })));
}

// === servers that are asked ===

/// What a server was asked.
#[derive(Debug, Clone)]
struct Asked {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

type Answer = (u16, String);

/// A server with given answers that remembers the requests.
struct Mock {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _runtime: tokio::runtime::Runtime,
}

fn mock(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Mock {
    let asked = Arc::<Mutex<Vec<Asked>>>::default();
    let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
    let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let headers = headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
        let one = Asked { method: method.to_string(), path: uri.path().to_owned(), headers, body: body.to_vec() };
        let (status, text) = answer(&one);
        log.lock().unwrap().push(one);
        std::future::ready((StatusCode::from_u16(status).unwrap(), text))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(handler);
    runtime.spawn(async move { drop(axum::serve(listener, app).await) });
    Mock { url, asked, _runtime: runtime }
}

impl Mock {
    fn asked(&self, path: &str) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|asked| asked.path == path).cloned().collect()
    }
}

fn not_found(_: &Asked) -> Answer {
    (404, "404 page not found".to_owned())
}

fn plan<'a>(cfg: &'a RemoteWrite, tenant: &'a str) -> Plan<'a> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let range = (now - 26 * HOUR, now - 25 * HOUR);
    Plan { cfg, query_url: None, tenant, range, step: STEP, native: false, both: false }
}

#[test]
fn a_receiver_that_cannot_be_asked_gets_a_probe_and_its_answer_decides() {
    // One that is busy or ill says nothing about the age of samples: the run asks it again.
    for (status, refused) in [(200, false), (400, true), (403, true), (429, false), (500, false)] {
        let server = mock(move |asked| match asked.path.as_str() {
            "/api/v1/receive" => (status, "too far behind".to_owned()),
            _ => not_found(asked),
        });
        let cfg =
            RemoteWrite { url: format!("{}/api/v1/receive", server.url), min_backoff: 1, ..RemoteWrite::default() };
        let outcome = preflight::ask(&plan(&cfg, SINGLE_TENANT)).unwrap();
        assert_eq!(outcome.is_refused(), refused, "{outcome}");
        assert_eq!(outcome.to_string().contains("too far behind"), status != 200, "{outcome}");
        let body = server.asked("/api/v1/receive").remove(0).body;
        let probe = spanmill::core::remotewrite::decode::body(&body).unwrap().timeseries.remove(0);
        assert_eq!(probe.labels[0].value, preflight::PROBE);
        assert!(outcome.to_string().contains("must be at least 1d4h"), "{outcome}");
    }
}

#[test]
fn a_mimir_is_asked_as_the_tenant_and_with_the_credentials_of_remote_write() {
    let server = mock(|asked| match asked.path.as_str() {
        "/api/v1/user_limits" => (200, r#"{"compactor_blocks_retention_period":"1d"}"#.to_owned()),
        _ => not_found(asked),
    });
    let auth = Auth::Bearer(Secret::new("token"));
    let cfg = RemoteWrite { url: format!("{}/api/v1/push", server.url), auth, ..RemoteWrite::default() };
    let outcome = preflight::ask(&plan(&cfg, "acme")).unwrap();
    assert!(outcome.is_refused() && outcome.to_string().contains("compactor_blocks_retention_period"), "{outcome}");
    let asked = server.asked("/api/v1/user_limits").remove(0);
    assert_eq!(asked.headers["x-scope-orgid"], "acme");
    assert_eq!(asked.headers["authorization"], "Bearer token");
    assert_eq!(asked.headers.get("content-encoding"), None);
    assert!(server.asked("/api/v1/push").is_empty(), "no probe is needed");
}

#[test]
fn a_receiver_that_is_not_there_is_no_success() {
    // The port of the discard service, which is unused.
    let cfg =
        RemoteWrite { url: "http://127.0.0.1:9/api/v1/write".to_owned(), min_backoff: 1, ..RemoteWrite::default() };
    let outcome = preflight::ask(&plan(&cfg, SINGLE_TENANT)).unwrap();
    assert!(outcome.is_refused() && outcome.to_string().contains("no answer from remote_write.url"), "{outcome}");
}

/// A server with one series that has a sample per step, all with the value that the spool has.
fn one_series(limit: i64) -> Mock {
    mock(move |asked| {
        let form: BTreeMap<String, String> =
            reqwest::Url::parse(&format!("http://x/?{}", String::from_utf8_lossy(&asked.body)))
                .unwrap()
                .query_pairs()
                .into_owned()
                .collect();
        let width: i64 = form["query"].rsplit_once('[').unwrap().1.trim_end_matches("ms]").parse().unwrap();
        if width > limit {
            let text = r#"{"status":"error","error":"query processing would load too many samples into memory"}"#;
            return (422, text.to_owned());
        }
        let end = (form["time"].parse::<f64>().unwrap() * 1e3).round() as i64;
        let times = (0..=10 * 3_600_000 / STEP).map(|i| i * STEP).filter(|at| (end - width..=end).contains(at));
        let values: Vec<String> = times.map(|at| format!("[{},\"{}\"]", at as f64 / 1e3, at as f64 / 1e3)).collect();
        let series = r#"{"__name__":"calls_total","service":"s0","replay":"x"}"#;
        let row = format!(r#"{{"metric":{series},"values":[{}]}}"#, values.join(","));
        (200, format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{row}]}}}}"#))
    })
}

#[test]
fn a_window_that_is_too_much_for_a_server_is_halved_until_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let h = house(dir.path());
    for step in (1..=400).map(|i| i * STEP) {
        h.send(batch("acme", step, vec![request(0..1, &[step])]));
    }
    h.exporter.stop(LONG);
    for limit in [i64::MAX, 500_000] {
        let server = one_series(limit);
        let args = DiffArgs { ignore_label: vec!["replay".to_owned()], ..DiffArgs::default() };
        let report =
            diff::diff(&[dir.path().to_owned()], &server.url, &args, &RemoteWrite::default(), &mut |_| {}).unwrap();
        assert!(report.is_equal(), "{}", diff::text(&report));
        assert_eq!(report.samples.equal, 400);
        let asked = server.asked("/api/v1/query");
        assert_eq!((asked[0].method.as_str(), asked[0].headers["x-scope-orgid"].as_str()), ("POST", "acme"));
    }
}

#[test]
fn what_only_the_server_has_is_found_also_where_the_spool_has_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let h = house(dir.path());
    let here = [1, 2, 1200, 1201].map(|i| i * STEP);
    for step in here {
        h.send(batch("t", step, vec![request(0..2, &[step])]));
    }
    h.exporter.stop(LONG);
    let server = one_series(i64::MAX);
    let args = DiffArgs {
        ignore_label: vec!["replay".to_owned()],
        matchers: vec![Matcher::parse(r#"service="s0""#).unwrap()],
        ..DiffArgs::default()
    };
    let report =
        diff::diff(&[dir.path().to_owned()], &server.url, &args, &RemoteWrite::default(), &mut |_| {}).unwrap();
    assert_eq!((report.series, report.different), (1, 1), "the condition leaves the other series out");
    assert_eq!((report.samples.equal, report.samples.only_there), (4, 1201 - 4));
    assert_eq!(report.differences[0].first.at, 3 * STEP);
    let said = diff::text(&report);
    assert!(said.contains("first at 1970-01-01T00:00:45Z: none in the replay, 45 on the server"), "{said}");
}

#[test]
fn a_server_that_is_none_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let h = house(dir.path());
    h.send(batch("t", STEP, vec![request(0..1, &[STEP])]));
    h.exporter.stop(LONG);
    let server = mock(not_found);
    let error =
        diff::diff(&[dir.path().to_owned()], &server.url, &DiffArgs::default(), &RemoteWrite::default(), &mut |_| {})
            .unwrap_err();
    assert!(error.to_string().contains("status 404; use the base URL of /api/v1/query"), "{error}");
}

#[test]
fn a_finished_run_is_turned_into_files_and_compared_as_the_arguments_say() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, out) = (dir.path().join("spool"), dir.path().join("out"));
    let h = house(&spool);
    h.send(batch("t", STEP, vec![request(0..1, &[STEP])]));
    h.exporter.stop(LONG);
    let server = one_series(i64::MAX);
    let files = FileArgs { convert: Some(Format::OpenMetrics), out: Some(out.clone()) };
    let diff = DiffArgs { url: Some(server.url.clone()), ..DiffArgs::default() };
    let done = finish(&[spool], &files, &diff, &RemoteWrite::default(), &mut |_| {}).unwrap();
    assert!(!done.is_equal(), "the label that tells them apart counts");
    assert!(done.text.contains("1 files in") && done.text.contains("1 only on the server"), "{}", done.text);
    let json = serde_json::to_value(&done).unwrap();
    assert_eq!((&json["conversion"]["files"], &json["diff"]["only_there"]), (&1.into(), &1.into()));
    let text = std::fs::read_to_string(out.join("tenant=t/1970-01-01T000000Z.openmetrics")).unwrap();
    assert_eq!(text, "# TYPE calls counter\ncalls_total{service=\"s0\"} 15 15\n# EOF\n");
}

#[test]
fn files_of_a_spool_whose_run_is_not_complete_are_called_that() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, out) = (dir.path().join("spool"), dir.path().join("out"));
    let identity = Identity::new("r1".to_owned(), vec!["a".to_owned()], Vec::new());
    let mut claim = Claim::take(&spool, identity, true).unwrap();
    let h = house(&spool);
    h.send(batch(SINGLE_TENANT, STEP, vec![request(0..2, &[STEP])]));
    h.exporter.stop(LONG);
    let convert = |out: &str, json: bool| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_spanmill"));
        command.arg("spool").arg(&spool).args(["--convert", "victoriametrics", "--out", out]);
        let output = command.args(json.then_some("--json")).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = convert(out.to_str().unwrap(), false);
    assert!(said.contains("run r1 is not complete"), "{said}");
    let said = convert(&format!("{}2", out.display()), true);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&said).unwrap()["incomplete"], "r1");
    claim.complete().unwrap();
    let said = convert(&format!("{}3", out.display()), false);
    assert!(!said.contains("not complete"), "{said}");
}

#[test]
fn the_command_shows_converts_and_compares_a_spool() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, out) = (dir.path().join("spool"), dir.path().join("out"));
    let h = house(&spool);
    h.send(batch(SINGLE_TENANT, STEP, vec![request(0..2, &[STEP])]));
    h.exporter.stop(LONG);
    let spanmill = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_spanmill"));
        let output = command.arg("spool").arg(&spool).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = spanmill(&[]);
    assert_eq!(code, Some(0));
    assert!(said.starts_with("2 samples in 1 requests, "), "{said}");
    assert!(said.ends_with("steps from 1970-01-01T00:00:15Z to 1970-01-01T00:00:15Z\n"), "{said}");
    let (code, said) = spanmill(&["--convert", "victoriametrics", "--out", out.to_str().unwrap()]);
    assert_eq!(code, Some(0));
    assert!(said.contains("2 samples") && said.contains("next: for file in"), "{said}");
    assert!(out.join("1970-01-01T000000Z.jsonl").exists());
    let server = one_series(i64::MAX);
    let (code, said) = spanmill(&["--diff", &server.url, "--ignore-label", "replay", "--json"]);
    assert_eq!(code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&report["diff"]["equal"], &report["diff"]["only_here"]), (&1.into(), &1.into()));
    let (code, _) = spanmill(&["--diff", &server.url, "--ignore-label", "replay", "--diff-match", "service=\"s0\""]);
    assert_eq!(code, Some(0));
    assert_eq!(spanmill(&["--convert", "parquet"]).0, Some(64), "--out is missing");
}
