//! What the benchmarks share: the reference load, a clock that other programs do not disturb, and their output.
#![allow(dead_code, reason = "every benchmark takes what it needs")]

#[path = "../../tests/support/allocator.rs"]
mod allocator;

use std::hint::black_box;
use std::time::Instant;

use spanmill::tools::loadgen::{Generator, Group, Options, Scale, Topology};

/// Records of the reference load, with their timestamps.
pub(crate) struct Load {
    pub(crate) records: Vec<(i64, Vec<u8>)>,
    pub(crate) spans: u64,
    pub(crate) bytes: u64,
}

impl Load {
    /// About `spans` spans in records of 100: 50 services, 500 span names, a third of the spans in pairs.
    pub(crate) fn reference(spans: u64) -> Self {
        Self::of(&Scale::default(), spans, 100_000)
    }

    /// A system of this size, at a rate that decides how many half edges wait.
    pub(crate) fn of(scale: &Scale, spans: u64, rate: u64) -> Self {
        let options = Options {
            start: 1_700_000_000_000,
            rate,
            spans: Some(spans),
            spans_per_record: 100,
            group: Group::Partition(1),
            ..Options::default()
        };
        let mut load = Self { records: Vec::new(), spans: 0, bytes: 0 };
        for record in Generator::new(Topology::scaled(scale, 7), 7, options) {
            load.spans += u64::from(record.spans);
            load.bytes += record.value.len() as u64;
            load.records.push((record.timestamp, record.value));
        }
        load
    }
}

/// One thing that is measured. What it returns keeps the compiler from leaving it out.
pub(crate) struct Case<'a> {
    pub(crate) name: &'a str,
    pub(crate) work: Box<dyn FnMut() -> usize + 'a>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(name: &'a str, work: impl FnMut() -> usize + 'a) -> Self {
        Self { name, work: Box::new(work) }
    }
}

/// The arguments of a benchmark.
pub(crate) struct Arguments {
    /// How often everything is measured.
    pub(crate) runs: usize,
    /// Instead of measuring: does one case, `times` times. That is for tools that count instructions.
    pub(crate) once: Option<(String, usize)>,
}

impl Arguments {
    /// `--runs N`, or `--once CASE TIMES`. Others, such as the `--bench` of cargo, are passed over.
    pub(crate) fn read() -> Self {
        let mut arguments = Self { runs: 11, once: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--runs" => arguments.runs = number(words.next()),
                "--once" => arguments.once = Some((words.next().expect("--once CASE TIMES"), number(words.next()))),
                _ => {}
            }
        }
        arguments
    }
}

fn number(word: Option<String>) -> usize {
    word.and_then(|word| word.parse().ok()).expect("a number")
}

/// Measures the cases in turns, so that a noisy neighbor meets all of them, and prints a line for each: medians of CPU
/// time, and of the ratio to the last case in the same turn. Allocations are counted in a turn that is not measured.
pub(crate) fn measure(bench: &str, spans: u64, mut cases: Vec<Case<'_>>) {
    let arguments = Arguments::read();
    if let Some((name, times)) = arguments.once {
        let Some(case) = cases.iter_mut().find(|case| case.name == name) else { return };
        let sum: usize = (0..times).map(|_| black_box((case.work)())).sum();
        println!(r#"{{"bench":"{bench}","case":"{name}","times":{times},"spans":{spans},"sum":{sum}}}"#);
        return;
    }
    let mut runs: Vec<Vec<f64>> = Vec::new();
    for _ in 0..arguments.runs {
        runs.push(cases.iter_mut().map(|case| cpu_ns(&mut case.work) / spans as f64).collect());
    }
    let allocations = count_allocations(spans, &mut cases);
    let last = cases.len() - 1;
    for (at, case) in cases.iter().enumerate() {
        let ns = median(runs.iter().map(|run| run[at]));
        let best = runs.iter().map(|run| run[at]).fold(f64::INFINITY, f64::min);
        let ratio = median(runs.iter().map(|run| run[last] / run[at]));
        let (rate, allocations) = (1e9 / ns, allocations[at]);
        println!(
            r#"{{"bench":"{bench}","case":"{}","ns_per_span":{ns:.1},"best_ns_per_span":{best:.1},"spans_per_second":{rate:.0},"allocations_per_span":{allocations:.3},"times_naive":{ratio:.2},"runs":{}}}"#,
            case.name, arguments.runs
        );
    }
}

/// How often each case allocates for a span.
fn count_allocations(spans: u64, cases: &mut [Case<'_>]) -> Vec<f64> {
    allocator::count_from_now_on(true);
    let count = |case: &mut Case<'_>| {
        let made = allocator::allocations(|| {
            black_box((case.work)());
        });
        made as f64 / spans as f64
    };
    let counted = cases.iter_mut().map(count).collect();
    allocator::count_from_now_on(false);
    counted
}

/// The CPU time of one call in nanoseconds.
pub(crate) fn cpu_ns(work: &mut dyn FnMut() -> usize) -> f64 {
    let before = Clock::now();
    black_box(work());
    before.elapsed_ns()
}

/// The CPU time of this thread, or the time of day where the system does not tell it.
pub(crate) struct Clock {
    cpu: Option<u64>,
    wall: Instant,
}

impl Clock {
    pub(crate) fn now() -> Self {
        Self { cpu: thread_ns(), wall: Instant::now() }
    }

    pub(crate) fn elapsed_ns(&self) -> f64 {
        match (self.cpu, thread_ns()) {
            (Some(before), Some(now)) => (now - before) as f64,
            _ => self.wall.elapsed().as_secs_f64() * 1e9,
        }
    }
}

/// Linux brings a thread's account up to date when it yields.
fn thread_ns() -> Option<u64> {
    std::thread::yield_now();
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

/// The middle one.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The resident memory of this process in bytes; 0 where the system does not tell.
pub(crate) fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.as_deref().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}
