//! How a shard grows: CPU time of a step, of a snapshot and of a restore, their bytes, and memory, from ten thousand series to
//! a million label sets.
//!
//! `cargo bench --bench restore --no-default-features` prints one JSON line per size; `-- SETS...` says which label sets
//! (19 series each). Every size runs in a process of its own, and the restore in another, so that resident memory (RSS) is
//! that of the state and nothing else.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints its result")]

mod shard;

use std::path::Path;
use std::process::Command;

use shard::{FIRST, STEP, Source, memory, settings, sources, timed};
use spanmill::core::tasks::series::SeriesTask;

/// Series of a label set.
const SERIES: u64 = 19;
/// 1e4, 1e5, 1e6, 5e6 and 1.9e7 series.
const SIZES: [u64; 5] = [526, 5_263, 52_632, 263_158, 1_000_000];
/// Label sets of one source: delta records are made and forgotten by the chunk.
const CHUNK: u64 = 20_000;
/// Steps closed; the last one is measured.
const STEPS: i64 = 3;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["grow", sets] => grow(sets.parse().expect("a number")),
        ["restore", file] => restore(Path::new(file)),
        [] => SIZES.iter().for_each(|sets| again(&["grow", &sets.to_string()])),
        ref sets => sets.iter().for_each(|sets| again(&["grow", sets])),
    }
}

/// Runs this program once more.
fn again(args: &[&str]) {
    let program = std::env::current_exe().expect("a program");
    assert!(Command::new(program).args(args).status().expect("it starts").success());
}

fn grow(sets: u64) {
    let chunks = sets.div_ceil(CHUNK);
    let mut counting: Vec<Source> =
        (0..chunks).map(|chunk| Source::new(chunk as i32, chunk * CHUNK, CHUNK.min(sets - chunk * CHUNK))).collect();
    let all = sources(chunks as i32);
    let mut task = SeriesTask::new(settings());
    let (mut apply, mut close, mut bytes, mut samples) = (0.0, 0.0, 0, 0);
    for n in 0..STEPS {
        let step = FIRST + n * STEP;
        apply = 0.0;
        for source in &mut counting {
            for record in source.step(step) {
                let (applied, seconds) = timed(|| task.apply(&record).expect("a delta record"));
                assert_eq!(applied.lost, 0);
                apply += seconds;
            }
        }
        assert_eq!(task.closable(&all), Some(step));
        let (closed, seconds) = timed(|| task.close(step));
        close = seconds;
        bytes = closed.batches.iter().flat_map(|b| &b.requests).map(|r| r.body.len()).sum();
        samples = closed.samples;
    }
    drop(counting);
    let series = sets * SERIES;
    assert!(samples <= series);
    let (snapshot, seconds) = timed(|| task.snapshot());
    println!(
        r#"{{"bench":"grow","sets":{sets},"series":{samples},"apply_ms":{:.1},"close_ms":{:.1},"request_bytes":{bytes},"snapshot_ms":{:.1},"snapshot_bytes":{},"bytes_per_set":{:.0}}}"#,
        apply * 1e3,
        close * 1e3,
        seconds * 1e3,
        snapshot.len(),
        snapshot.len() as f64 / sets as f64,
    );
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &snapshot).expect("room");
    again(&["restore", file.path().to_str().expect("a path")]);
}

fn restore(file: &Path) {
    let snapshot = std::fs::read(file).expect("a file");
    let before = memory("VmRSS");
    let (mut task, seconds) = timed(|| SeriesTask::restore(settings(), &snapshot).expect("a snapshot"));
    let (after, peak) = (memory("VmRSS"), memory("VmHWM"));
    let sets = task.label_sets();
    // The cheapest step: no delta record has come, and all series are written again.
    let (closed, close) = timed(|| task.close(FIRST + STEPS * STEP));
    let whole = memory("VmHWM");
    println!(
        r#"{{"bench":"restore","sets":{sets},"series":{},"restore_ms":{:.1},"ns_per_set":{:.0},"snapshot_mb":{:.1},"rss_mb":{:.1},"rss_per_set":{:.0},"peak_mb":{:.1},"next_close_ms":{:.1},"peak_after_close_mb":{whole:.1}}}"#,
        closed.samples,
        seconds * 1e3,
        seconds * 1e9 / sets as f64,
        snapshot.len() as f64 / 1e6,
        after - before,
        (after - before) * 1_048_576.0 / sets as f64,
        peak,
        close * 1e3,
    );
}
