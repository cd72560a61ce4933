//! What a spool costs: samples per second into it, out of it, and into each format; and the memory of a window.
//!
//! `cargo bench --bench archive -- [SERIES] [STEPS] [DIR]` prints one JSON line per case. The directory decides how long a
//! disk takes to be sure.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and its arguments")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints its result")]

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use spanmill::cli::replay::sink::{Format, WINDOW, convert};
use spanmill::core::model::labels::{cuts, put_label};
use spanmill::core::remotewrite::StepBatch;
use spanmill::core::remotewrite::encode::{Point, SeriesLabels, SeriesWriter, le_label, name_label};
use spanmill::core::settings::SINGLE_TENANT;
use spanmill::tools::archive::Collected;
use spanmill::tools::spool::{self, Reader, SpoolError};
use spanmill::worker::telemetry::Telemetry;

const STEP: i64 = 15_000;
const START: i64 = 1_700_006_400_000;
const LONG: Duration = Duration::from_secs(600);

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let mut number = |default: u64| args.next().map_or(default, |arg| arg.parse().expect("a number"));
    let (series, steps) = (number(20_000), number(480));
    let base = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::TempDir::with_prefix_in("spanmill-bench-", base).expect("a directory");
    let (spool, samples) = (dir.path().join("spool"), series * steps);

    let started = Instant::now();
    let bytes = write(&spool, series, steps);
    told(
        "write",
        started,
        samples,
        &format!(r#","batches":{steps},"bytes_per_sample":{:.2}"#, bytes as f64 / samples as f64),
    );
    let started = Instant::now();
    let reader = Reader::open(std::slice::from_ref(&spool), WINDOW).expect("a spool");
    told("open", started, samples, "");
    let started = Instant::now();
    let mut read = 0;
    let take = |_, window: Collected| {
        read += window.samples();
        Ok::<(), SpoolError>(())
    };
    reader.windows(take).expect("the spool is whole");
    assert_eq!(read, samples);
    told("read", started, samples, &memory());
    for (case, format) in [
        ("parquet", Format::Parquet),
        ("victoriametrics", Format::VictoriaMetrics),
        ("openmetrics", Format::OpenMetrics),
    ] {
        let out = dir.path().join(case);
        let started = Instant::now();
        convert(std::slice::from_ref(&spool), format, &out, WINDOW, &mut |_| {}).expect("files");
        let bytes: u64 = std::fs::read_dir(&out)
            .expect("the files")
            .map(|file| file.and_then(|file| file.metadata()).map_or(0, |meta| meta.len()))
            .sum();
        let more = format!(r#","bytes_per_sample":{:.2}{}"#, bytes as f64 / samples as f64, memory());
        told(case, started, samples, &more);
    }
}

fn told(case: &str, started: Instant, samples: u64, more: &str) {
    let seconds = started.elapsed().as_secs_f64();
    let rate = samples as f64 / seconds;
    println!(r#"{{"bench":"archive","case":"{case}","seconds":{seconds:.2},"samples_per_second":{rate:.0}{more}}}"#);
}

/// The most memory that this process has had so far.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or_else(String::new, |peak| format!(r#","peak_memory":"{}""#, peak.trim()))
}

/// Writes all steps through one shard sender; returns the bytes of the spool.
fn write(dir: &Path, series: u64, steps: u64) -> u64 {
    let exporter = spool::exporter(dir, Telemetry::new()).expect("a directory");
    let (sender, done) = mpsc::channel();
    let sender = exporter.open(0, Box::new(move |d| drop(sender.send(d))));
    let names = [name_label("traces_spanmetrics_latency_bucket"), name_label("traces_spanmetrics_calls_total")];
    let (le, none) = (le_label(Some(2_000_000)), Box::<[u8]>::default());
    let blocks: Vec<Vec<u8>> = (0..series.div_ceil(2)).map(block).collect();
    let mut writer = SeriesWriter::new(2_000, 1 << 20, "traceID");
    for i in 0..steps {
        let step = START + i as i64 * STEP;
        for (n, block) in blocks.iter().flat_map(|block| [block, block]).enumerate().take(series as usize) {
            let (name, le) = if n % 2 == 0 { (&names[0], &le) } else { (&names[1], &none) };
            let point = Point { start: None, at: step, value: (i * (n as u64 % 97 + 1)) as f64 };
            writer.push(&SeriesLabels { block, cuts: cuts(block), name, le }, point, None);
        }
        let batch =
            StepBatch { tenant: SINGLE_TENANT.into(), endpoint: None, step, resend: false, requests: writer.finish() };
        sender.try_send(batch).expect("the lane is free");
        done.recv_timeout(LONG).expect("it is settled");
    }
    exporter.stop(LONG);
    std::fs::metadata(dir.join("shard-00000.seg")).expect("a segment").len()
}

fn block(i: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in [
        ("service", format!("service-{}", i % 50)),
        ("span_kind", "SPAN_KIND_SERVER".to_owned()),
        ("span_name", format!("GET /api/v1/things/{i}")),
        ("status_code", "STATUS_CODE_UNSET".to_owned()),
    ] {
        put_label(&mut out, name, &value);
    }
    out
}
