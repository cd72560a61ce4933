//! What `increase()` and `rate()` show of series that begin and of series that come back, on the servers that evaluate them.
//!
//! A *share* is what a query shows of what happened, over all moments at which it may be asked: the sum of what
//! `increase(...[window])` shows, by the sum of the spans in its window. 1 is the truth.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

use crate::PATIENCE;
use crate::servers::api::{Api, now};
use crate::servers::metrics::{RealPrometheus, RealVictoria};
use crate::servers::wait_until;

const STEP: i64 = 15;
const HOUR: i64 = 3_600;
/// Spans of one run of a job, of the first time that a service is seen, and of the second.
const JOB: u64 = 100;
const FIRST: u64 = 19;
const SECOND: u64 = 181;
/// When the second one comes: after the marker, before the series is forgotten.
const BACK: i64 = 40 * 60;
/// Windows of queries, in seconds.
const WINDOWS: [(&str, i64); 3] = [("1m", 60), ("5m", 300), ("1h", HOUR)];

/// Four hours of spans: a job that runs once an hour, a service that is seen twice, one with spans at a constant rate, and
/// one that comes back after it was forgotten.
struct History {
    dir: tempfile::TempDir,
    /// The first step of all, in seconds.
    start: i64,
    /// Seconds after it, service, spans.
    bursts: Vec<(i64, &'static str, u64)>,
}

/// A burst of a service, and the least and the greatest share that is to be shown of it, by window.
struct Burst {
    service: &'static str,
    at: i64,
    shares: [(f64, f64); 3],
}

// === impl History ===

impl History {
    fn new() -> Self {
        let start = (now() as i64 - 5 * HOUR) / HOUR * HOUR + 600;
        let dir = tempfile::TempDir::with_prefix("spanmill-test-").expect("a temporary directory");
        let mut bursts: Vec<_> = (0..4).map(|hour| (hour * HOUR, "job", JOB)).collect();
        bursts.extend([(0, "seen", FIRST), (BACK, "seen", SECOND), (0, "again", FIRST), (2 * HOUR, "again", SECOND)]);
        bursts.extend((0..HOUR / STEP).map(|i| (2 * HOUR + i * STEP, "constant", 20)));
        let mut history = Self { dir, start, bursts };
        history.write();
        history
    }

    /// Writes the file.
    fn write(&mut self) {
        self.bursts.sort_unstable();
        let line = |&(at, service, spans): &(i64, &str, u64)| request((self.start + at) as u64, service, spans);
        let lines: Vec<Vec<u8>> = self.bursts.iter().map(|b| serde_json::to_vec(&line(b)).expect("JSON")).collect();
        std::fs::write(self.file(), lines.join(&b'\n')).expect("a file can be written");
    }

    /// The spans of a service in a window that ends at `end`.
    fn spans(&self, service: &str, end: i64, window: i64) -> f64 {
        let inside = |at: i64| end - window < self.start + at && self.start + at <= end;
        self.bursts.iter().filter(|(at, of, _)| *of == service && inside(*at)).map(|(.., spans)| *spans as f64).sum()
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("spans.json")
    }
}

/// Spans that end in the middle of the step that ends at `step`.
fn request(step: u64, service: &str, spans: u64) -> ExportTraceServiceRequest {
    let end = step * 1_000_000_000 - 7_000_000_000;
    let span = |i: u64| Span {
        trace_id: [step.to_be_bytes(), (i + 1).to_be_bytes()].concat(),
        span_id: (i + 1).to_be_bytes().to_vec(),
        name: "run".to_owned(),
        kind: 1,
        start_time_unix_nano: end - 50_000_000,
        end_time_unix_nano: end,
        ..Span::default()
    };
    let value = Some(AnyValue { value: Some(Value::StringValue(service.to_owned())) });
    let attributes = vec![KeyValue { key: "service.name".to_owned(), value, ..KeyValue::default() }];
    let scope_spans = vec![ScopeSpans { spans: (0..spans).map(span).collect(), ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

/// Sends the history to `url` with a label `run`.
fn replay(file: &Path, url: &str, run: &str, settings: &[String]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanmill"));
    command.args(["replay", "--skip-preflight", "--files"]).arg(file).stdin(Stdio::null());
    let own = [format!("remote_write.url={url}"), format!("series.external_labels={{run: \"{run}\"}}")];
    for setting in own.iter().chain(settings) {
        command.args(["--set", setting]);
    }
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{run}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What `increase` over `window` shows, second by second, as long as it may show a step that ends at `at`.
fn shown(api: &Api, selector: &str, at: i64, (window, seconds): (&str, i64)) -> Vec<(i64, f64)> {
    let query = format!("increase({selector}[{window}])");
    api.range(&query, at, at + seconds - 1, 1).expect("an answer")
}

fn calls(service: &str, run: &str) -> String {
    format!("traces_spanmetrics_calls_total{{service=\"{service}\",run=\"{run}\"}}")
}

/// The shares of some bursts in a run, as lines of a table.
fn table(api: &Api, history: &History, run: &str, bursts: &[Burst]) -> Vec<[f64; 3]> {
    let share = |service, at: i64, window: (&str, i64)| {
        let shown: f64 = shown(api, &calls(service, run), at, window).iter().map(|(_, spans)| spans).sum();
        shown / (at..at + window.1).map(|end| history.spans(service, end, window.1)).sum::<f64>()
    };
    let row = |burst: &Burst| WINDOWS.map(|window| share(burst.service, history.start + burst.at, window));
    let rows: Vec<[f64; 3]> = bursts.iter().map(row).collect();
    for (Burst { service, at, .. }, [one, five, hour]) in bursts.iter().zip(&rows) {
        println!("{run:>8}  {service:>8} +{at:>5} s  {one:.3}  {five:.3}  {hour:.3}");
    }
    rows
}

/// What is to be shown of bursts.
fn bursts() -> [Burst; 5] {
    let born = [(0.95, 1.05), (0.95, 1.05), (0.97, 1.03)];
    // Prometheus takes a series whose first value is not zero to have begun half an interval before it.
    let back = [(0.95, 1.25), (0.95, 1.15), (0.97, 1.05)];
    [
        Burst { service: "job", at: 0, shares: born },
        Burst { service: "job", at: 2 * HOUR, shares: back },
        Burst { service: "seen", at: 0, shares: born },
        Burst { service: "seen", at: BACK, shares: back },
        Burst { service: "again", at: 2 * HOUR, shares: born },
    ]
}

#[test]
fn prometheus_shows_the_first_step_of_series_that_begin_or_come_back_and_not_much_more() {
    let window = "storage: {tsdb: {out_of_order_time_window: 6h}}\n";
    let prometheus = RealPrometheus::start_over(None, "native-histograms", window, |_| {});
    let (api, history) = (&prometheus.api, History::new());
    // Histograms of the first run only: they must come in the order of time.
    replay(&history.file(), &api.write_url(), "default", &["histograms.mode=both".to_owned()]);
    println!("     run   service                1m     5m     1h");
    let bursts = bursts();
    let rows = table(api, &history, "default", &bursts);
    for (Burst { service, at, shares, .. }, row) in bursts.iter().zip(&rows) {
        for ((share, (least, most)), (window, _)) in row.iter().zip(shares).zip(WINDOWS) {
            let fits = (*least..=*most).contains(share);
            assert!(fits, "{service} at +{at} s shows {share:.3} of its spans over {window}");
        }
    }
    the_rest_fits(api, &history);
    // Other places for the sample before the first value, and none.
    for offset in ["1ms", "1s", "7500ms", "0s"] {
        replay(&history.file(), &api.write_url(), offset, &[format!("series.zero_offset={offset}")]);
        let other = table(api, &history, offset, &bursts);
        if offset == "0s" {
            assert!(other.iter().all(|row| row[0] == 0.0), "the check would notice: {other:?}");
        } else {
            let error = |rows: &[[f64; 3]]| rows.iter().map(|row| (row[0] - 1.0).abs()).sum::<f64>();
            assert!(error(&rows) < error(&other), "{offset} is a better place: {rows:?}, {other:?}");
        }
    }
}

/// Aligned queries are exact, a constant rate is shown from its first step on, and histograms begin like counters.
fn the_rest_fits(api: &Api, history: &History) {
    let at = history.start;
    let aligned = api.range(&format!("increase({}[1m])", calls("job", "default")), at, at + 45, STEP).expect("rows");
    let exact = [0, 1, 2, 3].map(|i| (at + i * STEP, JOB as f64));
    assert!(aligned.iter().zip(exact).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 0.01), "{aligned:?}");
    let since = at + 2 * HOUR;
    for (window, seconds) in WINDOWS {
        for (asked, spans) in shown(api, &calls("constant", "default"), since, (window, seconds)) {
            // 20 spans in 15 s, from the beginning of the first step on.
            let truth = 20.0 / STEP as f64 * (asked - since + STEP).min(seconds) as f64;
            let fits = asked >= since + HOUR - STEP || (spans / truth - 1.0).abs() < 0.01;
            assert!(fits, "{window} shows {spans} of {truth} spans {} s after the first step", asked - since);
        }
    }
    let seen = "service=\"seen\",run=\"default\"";
    for (query, spans) in [
        (format!("increase(traces_spanmetrics_latency_count{{{seen}}}[5m])"), SECOND as f64),
        (format!("increase(traces_spanmetrics_latency_bucket{{le=\"0.064\",{seen}}}[5m])"), SECOND as f64),
        (format!("increase(traces_spanmetrics_latency_sum{{{seen}}}[5m]) / 0.05"), SECOND as f64),
        (format!("histogram_count(increase(traces_spanmetrics_latency{{{seen}}}[5m]))"), SECOND as f64),
    ] {
        // Half an interval is added before the first sample, see above, and nothing after the last one.
        let half_past = at + BACK + 150;
        let (_, shown) = api.range(&query, half_past, half_past, 1).expect("rows")[0];
        assert!((shown / spans - 1.0).abs() < 0.06, "{query} is {shown}");
    }
}

/// Services that are called at every step, at every third, and every seven minutes: their names, and the interval.
const PACES: [(&str, i64); 3] = [("often", STEP), ("sometimes", 3 * STEP), ("rarely", 28 * STEP)];

#[test]
fn prometheus_shows_of_series_that_are_resent_once_a_minute_what_it_shows_of_others_within_what_is_documented() {
    let window = "storage: {tsdb: {out_of_order_time_window: 6h}}\n";
    let prometheus = RealPrometheus::start_over(None, "native-histograms", window, |_| {});
    let (api, mut history) = (&prometheus.api, History::new());
    history.bursts = PACES.iter().flat_map(|&(of, pace)| (0..HOUR / pace).map(move |i| (i * pace, of, 20))).collect();
    history.write();
    for (run, resend) in [("all", "0s"), ("some", "1m")] {
        replay(&history.file(), &api.write_url(), run, &[format!("series.resend_unchanged={resend}")]);
    }
    let (from, to) = (history.start + HOUR / 2, history.start + HOUR - STEP);
    let rows = |query: &str| api.range(query, from, to, 7).expect("an answer");
    let points = |run: &str| {
        rows(&format!("sum(count_over_time(traces_spanmetrics_calls_total{{run=\"{run}\"}}[5m]))"))
            .iter()
            .map(|row| row.1)
            .sum::<f64>()
    };
    println!("samples in five minutes: {:.0} of {:.0}", points("some"), points("all"));
    assert!(points("some") < 0.8 * points("all"), "the others would not be worth it");
    for (service, _) in PACES {
        let of = |run| calls(service, run);
        // Between two points nothing has changed that is not in one of them.
        let grown = |run| format!("max_over_time({0}[5m]) - min_over_time({0}[5m])", of(run));
        assert_eq!(rows(&grown("some")), rows(&grown("all")), "{service}");
        assert_eq!(rows(&of("some")), rows(&of("all")), "{service} at a moment");
        // What is extrapolated differs: up to the ends of the window from points that are a minute apart.
        let shown = |run| rows(&format!("increase({}[5m])", of(run)));
        let (some, all) = (shown("some"), shown("all"));
        let sum = |rows: &[(i64, f64)]| rows.iter().map(|row| row.1).sum::<f64>();
        let share = sum(&some) / sum(&all);
        let most = some
            .iter()
            .zip(&all)
            .map(|(a, b)| if b.1 > 0.0 { (a.1 / b.1 - 1.0).abs() } else { a.1 })
            .fold(0.0, f64::max);
        println!("{service:>10}: {share:.3} in all, {most:.3} at most");
        let within = if service == "often" { 1e-9 } else { 300.0 / (300.0 - 2.0 * 60.0) - 1.0 };
        assert!(some.len() == all.len() && most <= within && (share - 1.0).abs() < 0.25, "{service}: {share} {most}");
    }
}

#[test]
fn victoriametrics_shows_the_first_step_of_series_that_come_back() {
    let victoria = RealVictoria::start();
    let (api, history) = (&victoria.api, History::new());
    replay(&history.file(), &api.write_url(), "default", &[]);
    let end = history.start + 4 * HOUR;
    let job = calls("job", "default");
    wait_until("every run of the job is there", PATIENCE, || {
        victoria.flush();
        // As a graph asks, from before the first run on.
        let rows = api.range(&format!("increase({job}[1m])"), history.start - 600, end, 60)?;
        let runs: Vec<_> = rows.iter().filter(|(_, spans)| *spans > 0.0).map(|(_, spans)| *spans).collect();
        if runs == [JOB as f64; 4] { Ok(()) } else { Err(format!("{runs:?}")) }
    });
    // As an alert asks, at one moment. Its `increase` takes a series that begins inside of what it looks at to have begun at
    // zero when its first value is small beside the next difference: it shows the kept value, too.
    let moment = history.start + 2 * HOUR + 37;
    for (function, spans) in [("increase_prometheus", 1), ("increase", 3)] {
        let rows = api.range(&format!("{function}({job}[5m])"), moment, moment, 1).expect("rows");
        assert_eq!(rows, [(moment, (spans * JOB) as f64)], "{function}");
    }
}
