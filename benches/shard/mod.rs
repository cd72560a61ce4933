//! What the benches of a shard delta record: label sets like those of an instrumented shop, and delta records that count them.
#![allow(dead_code, reason = "every bench uses a part of it")]

use std::sync::Arc;
use std::time::Instant;

use spanmill::config::Tenants;
use spanmill::config::settings::Config;
use spanmill::core::deltas::{Define, DeltaHead, DeltaTable};
use spanmill::core::model::{Family, LabelBuilder, Layout, Millis, Weight};
use spanmill::core::tasks::series::SeriesSettings;

/// The width of a step.
pub(crate) const STEP: Millis = 15_000;
/// The end of the first step.
pub(crate) const FIRST: Millis = STEP * 100_000_000;
/// What a label set counts in a step, and from one source.
const SPANS: u64 = 3;

/// The default settings.
pub(crate) fn settings() -> SeriesSettings {
    SeriesSettings::from(&Tenants::from(Config::default()))
}

/// The default layout of span metrics: two counters and a histogram with 14 bounds.
pub(crate) fn layout() -> Arc<Layout> {
    Arc::new(Layout::new(Family::SpanMetrics, &Config::default().core.span_metrics.bounds_ns))
}

/// Sets the labels of label set `i`: four, in about 130 bytes.
pub(crate) fn label(i: u64, labels: &mut LabelBuilder) {
    labels.set("service", &format!("shop-service-{}", i % 50));
    labels.set("span_name", &format!("GET /api/v1/resource/{}", i / 50));
    labels.set("span_kind", "SPAN_KIND_SERVER");
    labels.set("status_code", "STATUS_CODE_UNSET");
}

/// The open step of one source partition.
pub(crate) struct Source {
    partition: i32,
    table: DeltaTable,
    layout: Arc<Layout>,
    commit_number: u64,
    first: u64,
    sets: u64,
}

impl Source {
    /// A source that counts the label sets `first..first + sets`.
    pub(crate) fn new(partition: i32, first: u64, sets: u64) -> Self {
        let table = DeltaTable::new(Config::default().core.series.stale_after);
        Self { partition, table, layout: layout(), commit_number: 0, first, sets }
    }

    /// The records of one step, in which every label set counts three spans with their exemplars.
    pub(crate) fn step(&mut self, step: Millis) -> Vec<Vec<u8>> {
        for i in self.first..self.first + self.sets {
            let define = |labels: &mut LabelBuilder| {
                label(i, labels);
                Ok::<_, ()>(Define { tenant: "shop".into(), layout: Arc::clone(&self.layout) })
            };
            let id = self.table.find(&i.to_le_bytes(), define).expect("defines");
            for n in 0..SPANS {
                let dice =
                    dice(i ^ (self.commit_number << 40) ^ (n << 50) ^ (u64::from(self.partition.unsigned_abs()) << 56));
                // Between 1 ms and 1 s: ten of the fifteen buckets.
                let ns = 1_000_000 << (dice % 10);
                let mut trace_id = [7; 16];
                trace_id[..8].copy_from_slice(&dice.to_le_bytes());
                self.table.add(id, 0, 1);
                self.table.add(id, 1, 500 + dice % 200);
                self.table.observe(id, 0, ns, Weight::ONE, Some((step - (dice % 15_000) as i64, trace_id)));
            }
        }
        let (topic, tenants) = ("spans".to_owned(), Vec::new());
        let (partition, commit_number) = (self.partition, self.commit_number);
        self.commit_number += 1;
        let head = DeltaHead {
            topic,
            partition,
            commit_number,
            part: 0,
            parts: 0,
            step,
            stream_time: step,
            sender: None,
            tenants,
        };
        self.table.cut(head, 1).delta_records.remove(0)
    }
}

/// The names of the first `n` source partitions.
pub(crate) fn sources(n: i32) -> Vec<(String, i32)> {
    (0..n).map(|p| ("spans".to_owned(), p)).collect()
}

/// A number that looks random.
pub(crate) fn dice(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What `work` returns, and the seconds of CPU that it takes: a busy neighbor makes it wait, and wait does not count.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let (clock, start) = (Instant::now(), on_cpu());
    let done = std::hint::black_box(work());
    let seconds = match (start, on_cpu()) {
        (Some(start), Some(end)) => (end - start) / 1e9,
        _ => clock.elapsed().as_secs_f64(),
    };
    (done, seconds)
}

/// Nanoseconds that this thread has run, where the system tells.
fn on_cpu() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// The one in the middle.
pub(crate) fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Megabytes of a line of `/proc/self/status`: `VmRSS`, `VmHWM`. 0 where there is no such file.
pub(crate) fn memory(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
    let kilobytes = found.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or_default() / 1024.0
}
