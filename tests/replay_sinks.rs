//! Where a replay's samples go besides remote write: the spool, and what it can be turned into.
#![cfg(all(feature = "http", feature = "kafka", feature = "replay"))]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests may fail loudly and look at the clock")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use prost::Message;
use spanmill::archive::Collected;
use spanmill::cli::replay::sink::{ConvertError, Format, WINDOW, convert};
use spanmill::config::settings::SINGLE_TENANT;
use spanmill::export::spool::{Reader, SpoolError};
use spanmill::export::{Delivered, Exporter, Lane};
use spanmill::remotewrite::decode::proto::{Label, Sample, TimeSeries, WriteRequest};
use spanmill::remotewrite::{Request, StepBatch};
use spanmill::telemetry::Telemetry;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(60);
const SHARD: u32 = 3;
const STEP: i64 = 15_000;
const HOUR: i64 = 3_600_000;

struct House {
    exporter: Exporter,
    telemetry: Telemetry,
    lane: Lane,
    done: mpsc::Receiver<Delivered>,
}

fn house(dir: &Path) -> House {
    let telemetry = Telemetry::new();
    let exporter = Exporter::start_spool(dir, telemetry.clone()).unwrap();
    let (sender, done) = mpsc::channel();
    let lane = exporter.open(SHARD, Box::new(move |d| drop(sender.send(d))));
    House { exporter, telemetry, lane, done }
}

impl House {
    fn send(&self, batch: StepBatch) -> Delivered {
        self.lane.try_send(batch).unwrap();
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
    StepBatch { tenant: tenant.into(), step, resend: false, requests }
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
    Reader::open(dir, width).unwrap().windows(take).unwrap();
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
    let contents = Reader::open(dir.path(), WINDOW).unwrap().contents();
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
        h.lane.try_send(batch("t", step, vec![request(0..1, &[step])])).unwrap();
    }
    while h.metric("spanmill_remote_write_retries_total") < 2 {
        std::thread::yield_now();
    }
    assert!(h.done.try_recv().is_err(), "nothing is settled before it is written");
    assert!(h.lane.is_down(h.lane.track("t"), Duration::ZERO));
    std::fs::remove_dir(&segment).unwrap();
    assert_eq!(h.done.recv_timeout(LONG).unwrap().step, STEP);
    assert_eq!(h.done.recv_timeout(LONG).unwrap().step, 2 * STEP);
    assert!(!h.lane.is_down(h.lane.track("t"), Duration::ZERO));
    assert_eq!(read(dir.path(), WINDOW).0, expected("t", 0..1, &[STEP, 2 * STEP]));
}

#[test]
fn two_processes_never_write_to_one_segment() {
    let dir = tempfile::tempdir().unwrap();
    let first = house(dir.path());
    first.send(batch("t", STEP, vec![request(0..1, &[STEP])]));
    let second = house(dir.path());
    second.lane.try_send(batch("t", 2 * STEP, vec![request(0..1, &[2 * STEP])])).unwrap();
    while second.metric("spanmill_remote_write_retries_total") < 1 {
        std::thread::yield_now();
    }
    assert!(second.done.try_recv().is_err());
    drop(first.lane);
    first.exporter.stop(LONG);
    assert_eq!(second.done.recv_timeout(LONG).unwrap().acknowledged, 1);
    assert_eq!(read(dir.path(), WINDOW).0, expected("t", 0..1, &[STEP, 2 * STEP]));
}

#[test]
fn two_runs_in_one_directory_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let h = house(dir.path());
    h.send(batch("t", STEP, vec![request(0..1, &[STEP])]));
    let other = TimeSeries {
        samples: vec![Sample { value: 7.0, timestamp: STEP }],
        ..spanmill::remotewrite::decode::body(&request(0..1, &[STEP]).body).unwrap().timeseries.remove(0)
    };
    let message = WriteRequest { timeseries: vec![other] };
    let request = Request::compress(&message.encode_to_vec(), 1, 1, 0, &mut snap::raw::Encoder::new());
    h.send(batch("t", STEP, vec![request]));
    h.exporter.stop(LONG);
    let out = tempfile::tempdir().unwrap();
    let error = convert(dir.path(), Format::OpenMetrics, out.path(), WINDOW, &mut |_| {}).unwrap_err();
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
    let error = Reader::open(dir.path(), WINDOW).unwrap_err().to_string();
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
        let done = convert(dir.path(), format, out.path(), WINDOW, &mut |samples| told += samples).unwrap();
        // A zero lies before its window: it has the file of its own time.
        assert_eq!((done.files, done.written.samples, done.repeated, told), (4, 12, 0, 12));
        for path in ["", "tenant=b%2Fc/"] {
            for window in ["1970-01-01T000000Z", "1970-01-01T020000Z"] {
                assert!(out.path().join(format!("{path}{window}.{suffix}")).exists(), "{path}{window}.{suffix}");
            }
        }
        let again = convert(dir.path(), format, out.path(), WINDOW, &mut |_| {}).unwrap_err();
        assert!(matches!(again, ConvertError::Occupied(_)), "{again}");
    }
}

#[test]
fn a_directory_without_a_spool_is_said() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(dir.path(), WINDOW), Err(SpoolError::Empty(_))));
    assert!(matches!(Reader::open(&dir.path().join("none"), WINDOW), Err(SpoolError::Read { .. })));
}
