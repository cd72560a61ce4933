//! What an active label set takes in a series task: labels, numbers, exemplars, what staleness needs, its places in indices,
//! and its delta in the open step. Default span metrics: two counters and a histogram with 14 bounds.

use std::sync::Arc;

use spanmill::config::Tenants;
use spanmill::config::settings::Config;
use spanmill::core::deltas::{Define, DeltaHead, DeltaTable};
use spanmill::core::model::{Family, LabelBuilder, Layout, Millis, Weight};
use spanmill::core::tasks::series::{SeriesSettings, SeriesTask};

use super::held;

const STEP: Millis = 15_000;
const FIRST: Millis = 100_000_000 * STEP;
/// What a set has counted in the end, spread over all buckets.
const CALLS: u64 = 1_000_000;

/// One source that counts every label set in every step.
struct Source {
    table: DeltaTable,
    layout: Arc<Layout>,
    bounds_ns: Vec<u64>,
    commit_number: u64,
}

impl Source {
    fn new(config: &Config) -> Self {
        let bounds_ns = config.core.span_metrics.bounds_ns.clone();
        let layout = Arc::new(Layout::new(Family::SpanMetrics, &bounds_ns));
        Self { table: DeltaTable::new(config.core.series.stale_after), layout, bounds_ns, commit_number: 0 }
    }

    /// Label sets of about 130 bytes: four labels, such as those of span metrics.
    fn count(&mut self, sets: u64, calls: u64, buckets: usize, step: Millis) -> Vec<Vec<u8>> {
        for i in 0..sets {
            let define = |labels: &mut LabelBuilder| {
                labels.set("service", &format!("shop-service-{}", i % 50));
                labels.set("span_name", &format!("GET /api/v1/resource/{}", i / 50));
                labels.set("span_kind", "SPAN_KIND_SERVER");
                labels.set("status_code", "STATUS_CODE_UNSET");
                Ok::<_, ()>(Define { tenant: "shop".into(), layout: Arc::clone(&self.layout) })
            };
            let id = self.table.find(&i.to_le_bytes(), define).expect("defines");
            self.table.add(id, 0, calls);
            self.table.add(id, 1, calls * 570);
            let weight = Weight::from_bits(calls / buckets as u64 * Weight::ONE.bits());
            for bucket in 0..buckets {
                // The last one is above all bounds.
                let ns = self.bounds_ns.get(bucket).copied().unwrap_or(20_000_000_000);
                self.table.observe(id, 0, ns, weight, (bucket == 3).then_some((step - 700, [7; 16])));
            }
        }
        let (topic, tenants) = ("spans".to_owned(), Vec::new());
        let head = DeltaHead {
            topic,
            partition: 0,
            commit_number: self.commit_number,
            part: 0,
            parts: 0,
            step,
            stream_time: step,
            sender: None,
            tenants,
        };
        self.commit_number += 1;
        self.table.cut(head, 1).delta_records.remove(0)
    }
}

/// Bytes per label set: at rest, and in the middle of a step that has touched every set; and both by the task's account.
/// The buffers of a request, which every task has once, are left out: a task with a few sets has them, too.
fn per_set(sets: u64) -> [f64; 4] {
    const FEW: u64 = 500;
    let (few, all) = (bytes(FEW), bytes(sets));
    std::array::from_fn(|i| (all[i] - few[i]) / (sets - FEW) as f64)
}

/// The same for so many label sets together.
fn bytes(sets: u64) -> [f64; 4] {
    let config = Config::default();
    let mut source = Source::new(&config);
    let delta_records = [
        source.count(sets, CALLS, 15, FIRST),
        source.count(sets, 10, 4, FIRST + STEP),
        source.count(sets, 10, 4, FIRST + 2 * STEP),
    ];
    let apply = |task: &mut SeriesTask, delta_records: &[Vec<u8>]| {
        delta_records
            .iter()
            .for_each(|delta_record| assert_eq!(task.apply(delta_record).expect("a delta record").lost, 0));
    };
    let (mut task, resting) = held(|| {
        let mut task = SeriesTask::new(SeriesSettings::from(&Tenants::from(config)));
        for (n, delta_records) in (0..).zip(&delta_records[..2]) {
            apply(&mut task, delta_records);
            drop(task.close(FIRST + n * STEP));
        }
        task
    });
    let accounted = task.bytes();
    let ((), open) = held(|| apply(&mut task, &delta_records[2]));
    assert_eq!(task.label_sets() as u64, sets);
    [resting as f64, (resting + open) as f64, accounted as f64, task.bytes() as f64]
}

#[test]
fn a_label_set_takes_less_than_450_bytes_with_its_labels_and_an_open_step() {
    // Just below and just above a size at which tables grow.
    for sets in [40_000, 57_000, 58_000] {
        let [resting, open, accounted, accounted_open] = per_set(sets);
        assert!(resting < 350.0 && open < 450.0, "{sets} label sets: {resting:.0} at rest, {open:.0} in a step");
        for (held, account) in [(resting, accounted), (open, accounted_open)] {
            assert!((account - held).abs() < 0.1 * held, "{sets} label sets: {held:.0}, by the account {account:.0}");
        }
    }
}
