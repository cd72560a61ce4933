//! What a replay's spool becomes in real servers, and what they say before.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

use prost::Message as _;
use spanmill::cli::replay::diff::{self, DiffArgs};
use spanmill::cli::replay::preflight::{self, Outcome, Plan};
use spanmill::cli::replay::sink::{Format, WINDOW, convert};
use spanmill::config::settings::RemoteWrite;
use spanmill::core::remotewrite::decode::STALE_MARKER;
use spanmill::core::remotewrite::decode::proto::{Exemplar, Label, Sample, TimeSeries, WriteRequest};
use spanmill::core::remotewrite::{Request, StepBatch};
use spanmill::core::settings::SINGLE_TENANT;
use spanmill::tools::archive::compare::Report;
use spanmill::tools::spool;
use spanmill::worker::sender::Exporter;
use spanmill::worker::telemetry::Telemetry;
use tempfile::TempDir;

use crate::PATIENCE;
use crate::servers::api::now;
use crate::servers::daemon::setting;
use crate::servers::metrics::{RealPrometheus, RealVictoria};

const STEP: i64 = 15_000;
const HOUR: i64 = 3_600_000;
/// Steps of a run: 2 hours and 5 minutes, so that they are in two blocks or three.
const STEPS: i64 = 500;
/// Samples of a run that are no markers: 9 series with one each, the zeros that they begin with, and a short one.
const SAMPLES: u64 = 9 * (STEPS as u64 + 1) + 101;

/// A wide window for what is old.
const OUT_OF_ORDER: &str = "storage: {tsdb: {out_of_order_time_window: 48h}}\n";

pub fn series(name: &str, labels: &[(&str, &str)], samples: Vec<(i64, f64)>) -> TimeSeries {
    let label = |(n, v): &(&str, &str)| Label { name: (*n).to_owned(), value: (*v).to_owned() };
    let mut all: Vec<Label> = [("__name__", name)].iter().chain(labels).map(label).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let samples = samples.into_iter().map(|(timestamp, value)| Sample { value, timestamp }).collect();
    TimeSeries { labels: all, samples, ..TimeSeries::default() }
}

/// What one shard says about step `i`: counters, a histogram with awkward bounds and sums, one with plain ones, and a
/// series that ends.
fn step(i: i64, at: i64) -> Vec<TimeSeries> {
    let n = i as f64;
    let with_zero = |value: f64| if i == 0 { vec![(at - 1, 0.0), (at, value)] } else { vec![(at, value)] };
    let mut all = vec![
        series("traces_spanmetrics_calls_total", &[("service", "a \"q\" \\ \n ä")], with_zero(n + 1.0)),
        series("traces_target_info", &[("service", "a")], with_zero(1.0)),
    ];
    for (name, bounds) in [("latency", ["0.002", "+Inf"]), ("whole", ["1", "+Inf"])] {
        for (k, le) in bounds.iter().enumerate() {
            let mut one =
                series(&format!("{name}_bucket"), &[("service", "a"), ("le", le)], with_zero(n * (k as f64 + 1.0)));
            let labels = vec![Label { name: "traceID".to_owned(), value: format!("{i:032x}") }];
            one.exemplars = vec![Exemplar { labels, value: 0.25, timestamp: at - 7 }];
            all.push(one);
        }
        all.push(series(&format!("{name}_count"), &[("service", "a")], with_zero(n * 2.0)));
    }
    // Digits to the last bit.
    all.push(series("latency_sum", &[("service", "a")], with_zero(n / 3.0)));
    match i {
        0..100 => all.push(series("traces_spanmetrics_size_total", &[("service", "b")], with_zero(1e17 * (n + 1.0)))),
        100 => all.push(series(
            "traces_spanmetrics_size_total",
            &[("service", "b")],
            vec![(at, f64::from_bits(STALE_MARKER))],
        )),
        _ => {}
    }
    all
}

/// A run that begins at `start`, a multiple of a step.
fn run(start: i64, alter: impl Fn(i64, &mut Vec<TimeSeries>)) -> Vec<StepBatch> {
    let batch = |i: i64| {
        let at = start + i * STEP;
        let mut timeseries = step(i, at);
        alter(i, &mut timeseries);
        let samples = timeseries.iter().map(|s| s.samples.len() as u32).sum();
        let message = WriteRequest { timeseries };
        let n = message.timeseries.len() as u32;
        let encoder = &mut snap::raw::Encoder::new();
        let requests = vec![Request::compress(&message.encode_to_vec(), n, samples, 0, encoder)];
        StepBatch { tenant: SINGLE_TENANT.into(), endpoint: None, step: at, resend: false, requests }
    };
    (0..STEPS).map(batch).collect()
}

/// Sends everything through a shard sender of `exporter`, and returns how many samples were taken.
fn send(exporter: &Exporter, batches: Vec<StepBatch>) -> u64 {
    let (sender, done) = mpsc::channel();
    let sender = exporter.open(0, Box::new(move |d| drop(sender.send(d))));
    let mut taken = 0;
    for batch in batches {
        sender.try_send(batch).expect("the lane is free");
        taken += done.recv_timeout(PATIENCE).expect("it is settled").acknowledged;
    }
    exporter.stop(PATIENCE);
    taken
}

fn spool(dir: &Path, batches: Vec<StepBatch>) {
    let exporter = spool::exporter(dir, Telemetry::new()).expect("a directory");
    send(&exporter, batches);
}

/// Some hours ago, in the middle of a block.
fn hours_ago(hours: i64) -> i64 {
    let now = (now() * 1e3) as i64;
    (now - hours * HOUR) / (2 * HOUR) * (2 * HOUR) + HOUR
}

fn compared(dir: &Path, base: &str, tolerance: f64) -> Report {
    let args = DiffArgs { url: None, matchers: Vec::new(), ignore_label: Vec::new(), tolerance, increases: false };
    diff::diff(&[dir.to_owned()], base, &args, &RemoteWrite::default(), &mut |_| {}).expect("the server answers")
}

fn asked(url: String, range: (i64, i64)) -> Outcome {
    let cfg = RemoteWrite { url, ..RemoteWrite::default() };
    let plan =
        Plan { cfg: &cfg, query_url: None, tenant: SINGLE_TENANT, range, step: STEP, native: false, both: false };
    preflight::ask(&plan).expect("the settings are right")
}

#[test]
fn blocks_that_promtool_makes_of_a_spool_are_served_by_prometheus_with_exactly_the_values() {
    let (dir, start) = (TempDir::with_prefix("spanmill-test-").expect("a directory"), hours_ago(30));
    let (spooled, out) = (dir.path().join("spool"), dir.path().join("text"));
    spool(&spooled, run(start, |_, _| {}));
    let done = convert(std::slice::from_ref(&spooled), Format::OpenMetrics, &out, WINDOW, &mut |_| {}).expect("text");
    assert_eq!((done.files, done.written.samples, done.written.markers_left), (2, SAMPLES, 1));
    let blocks = |data: &Path| {
        std::fs::create_dir_all(data).expect("a directory");
        for file in std::fs::read_dir(&out).expect("the files") {
            let promtool = Path::new(&setting("TEST_PROMETHEUS")).with_file_name("promtool");
            let made = Command::new(promtool)
                .args(["tsdb", "create-blocks-from", "openmetrics"])
                .arg(file.expect("a file").path())
                .arg(data)
                .output()
                .expect("promtool runs");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
    };
    let prometheus = RealPrometheus::start_over(None, "exemplar-storage", "global: {}\n", blocks);
    let report = compared(&spooled, prometheus.api.base(), 0.0);
    assert!(report.is_equal(), "{}", diff::text(&report));
    // The zeros of the first step lie before it and are not compared.
    assert_eq!((report.series, report.samples.equal), (10, SAMPLES - 10));
    let zeros = format!("count({{__name__=~\".+\"}} @ {} == 0)", (start - 1) as f64 / 1e3);
    assert_eq!(prometheus.api.instant(&zeros).expect("an answer")[0].value as u64, 10);
}

#[test]
fn lines_of_a_spool_are_imported_by_victoriametrics() {
    let (dir, start) = (TempDir::with_prefix("spanmill-test-").expect("a directory"), hours_ago(30));
    let (spooled, out) = (dir.path().join("spool"), dir.path().join("lines"));
    spool(&spooled, run(start, |_, _| {}));
    convert(std::slice::from_ref(&spooled), Format::VictoriaMetrics, &out, WINDOW, &mut |_| {}).expect("lines");
    let victoria = RealVictoria::start();
    for file in std::fs::read_dir(&out).expect("the files") {
        let body = std::fs::read(file.expect("a file").path()).expect("it can be read");
        assert_eq!(victoria.api.post("/api/v1/import", body), 204);
    }
    victoria.flush();
    // It stores decimals: the last bits of a third are not there.
    let report = compared(&spooled, victoria.api.base(), 1e-12);
    assert!(report.is_equal(), "{}", diff::text(&report));
    assert_eq!((report.series, report.samples.equal), (10, SAMPLES - 10));
}

#[test]
fn a_comparison_with_prometheus_finds_exactly_what_differs() {
    let (dir, start) = (TempDir::with_prefix("spanmill-test-").expect("a directory"), hours_ago(5));
    let prometheus = RealPrometheus::start_over(None, "exemplar-storage", OUT_OF_ORDER, |_| {});
    let cfg = RemoteWrite { url: prometheus.api.write_url(), ..RemoteWrite::default() };
    let exporter = Exporter::start(&cfg, Telemetry::new()).expect("a client");
    assert_eq!(send(&exporter, run(start, |_, _| {})), SAMPLES + 1);
    let same = dir.path().join("same");
    spool(&same, run(start, |_, _| {}));
    let report = compared(&same, prometheus.api.base(), 0.0);
    assert!(report.is_equal(), "{}", diff::text(&report));

    let other = dir.path().join("other");
    spool(
        &other,
        run(start, |i, all| match i {
            200 => all[0].samples[0].value += 3.0,
            300 => drop(all.remove(1)),
            400 => all.push(series("traces_target_info", &[("service", "new")], vec![(start + i * STEP, 1.0)])),
            _ => {}
        }),
    );
    let report = compared(&other, prometheus.api.base(), 0.0);
    assert_eq!((report.series, report.equal, report.only_here, report.different), (11, 8, 1, 2));
    assert_eq!((report.samples.different, report.samples.only_here, report.samples.only_there), (1, 1, 1));
    let calls = report.differences.iter().find(|d| d.series.starts_with("traces_spanmetrics_calls")).expect("told");
    assert_eq!((calls.first.at, calls.first.here, calls.first.there), (start + 200 * STEP, Some(204.0), Some(201.0)));
}

#[test]
fn a_run_that_prometheus_or_victoriametrics_would_throw_away_is_refused_before() {
    let (old, end) = (hours_ago(30), hours_ago(30) + STEPS * STEP);
    let one = |at| run(at, |_, _| {}).into_iter().take(1).collect();
    let narrow = RealPrometheus::start();
    let empty = asked(narrow.api.write_url(), (old, end));
    assert!(!empty.is_refused() && empty.to_string().contains("there is no sample yet"), "{empty}");
    let send_to = |url: String, batches| {
        let cfg = RemoteWrite { url, ..RemoteWrite::default() };
        send(&Exporter::start(&cfg, Telemetry::new()).expect("a client"), batches)
    };
    // Live samples come: it has a newest one.
    let live = (now() as i64) * 1000 / STEP * STEP;
    assert!(send_to(narrow.api.write_url(), one(live)) > 0);
    let refused = asked(narrow.api.write_url(), (old, end));
    assert!(refused.is_refused() && refused.to_string().contains("out_of_order_time_window is 0s"), "{refused}");
    assert_eq!(send_to(narrow.api.write_url(), one(old)), 0, "the refusal is right");

    let wide = RealPrometheus::start_over(None, "exemplar-storage", OUT_OF_ORDER, |_| {});
    assert!(send_to(wide.api.write_url(), one(live)) > 0);
    let taken = asked(wide.api.write_url(), (old, end));
    assert!(!taken.is_refused(), "{taken}");
    assert_eq!(send_to(wide.api.write_url(), one(old)), 10 * 2);
    let ancient = asked(wide.api.write_url(), (old - 40 * 24 * HOUR, end));
    assert!(ancient.to_string().contains("--storage.tsdb.retention.time="), "{ancient}");

    let short = RealVictoria::start_with("1d");
    let refused = asked(short.api.write_url(), (old, end));
    assert!(refused.is_refused() && refused.to_string().contains("-retentionPeriod="), "{refused}");
    assert!(!asked(RealVictoria::start().api.write_url(), (old, end)).is_refused());
}
