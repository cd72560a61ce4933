//! A limit on the number of tenants: nothing is lost, all shards decide alike, and nothing depends on the order of arrival.

use super::*;
use crate::core::deltas::Limited;
use crate::core::series::OVERFLOW_TENANT;

const PARTITIONS: i32 = 3;
const SHARDS: u32 = 4;
/// Not so many that a set could be forgotten and begin again.
const STEPS: i64 = 11;
const MOST: u64 = 5;

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// The tenant and the service of one span.
type What = (String, String);

/// What each partition saw in each step: from the fourth step on, a producer makes up tenants.
fn traffic(rng: &mut Rng) -> Vec<Vec<Vec<What>>> {
    let span = |rng: &mut Rng, step: i64| {
        let made_up = step > 3 && rng.below(2) == 0;
        let tenant = if made_up { format!("key-{:03}", rng.below(40)) } else { format!("real-{}", rng.below(3)) };
        (tenant, format!("service-{}", rng.below(9)))
    };
    (0..PARTITIONS).map(|_| (1..=STEPS).map(|step| (0..60).map(|_| span(rng, step)).collect()).collect()).collect()
}

/// The records of one partition for every shard. `cuts` says whether there is a commit after each span.
fn tell(partition: i32, steps: &[Vec<What>], cuts: &mut dyn FnMut() -> bool) -> Vec<Vec<Vec<u8>>> {
    let mut table = DeltaTable::new(settings().stale_after);
    table.set_limited(Limited { others: true, ..Limited::default() });
    let mut records = vec![Vec::new(); SHARDS as usize];
    let mut commit_number = 0;
    let mut cut = |table: &mut DeltaTable, step: Millis, stream_time: Millis| {
        let (topic, tenants) = ("spans".to_owned(), Vec::new());
        let head =
            DeltaHead { topic, partition, commit_number, part: 0, parts: 1, step, stream_time, sender: None, tenants };
        commit_number += 1;
        let delta_records = table.cut(head, SHARDS).delta_records;
        records.iter_mut().zip(delta_records).for_each(|(records, delta_record)| records.extend(delta_record));
    };
    for (step, spans) in (1..).zip(steps) {
        for (tenant, service) in spans {
            let layout = Arc::new(Layout::new(Family::SpanMetrics, &[100]));
            let define = |b: &mut LabelBuilder| {
                b.set("service", service);
                Ok::<_, ()>(Define { tenant: tenant.as_str().into(), layout })
            };
            let id = table.find(format!("{tenant}/{service}").as_bytes(), define).expect("defines");
            table.add(id, 0, 1);
            if cuts() {
                cut(&mut table, step * W, step * W - 1);
            }
        }
        cut(&mut table, step * W, step * W);
    }
    records
}

fn limited(most: u64) -> SeriesSettings {
    with(|config| {
        config.core.limits.max_tenants = most;
        config.kafka.shards = SHARDS;
    })
}

/// Plays the records of all partitions to one shard, interleaved at random, with restarts from a snapshot now and then.
fn play(rng: &mut Rng, told: &[Vec<Vec<Vec<u8>>>], shard: usize, restarts: bool) -> (SeriesTask, Vec<ClosedStep>) {
    let mut task = SeriesTask::new(limited(MOST));
    let mut at = vec![0; told.len()];
    let mut closed = Vec::new();
    let left = |at: &[usize]| (0..told.len()).filter(|&p| at[p] < told[p][shard].len()).collect::<Vec<_>>();
    while let Some(p) = left(&at).into_iter().max_by_key(|_| rng.below(1 << 20)) {
        assert_eq!(task.apply(&told[p][shard][at[p]]).expect("a delta record").lost, 0);
        at[p] += 1;
        while let Some(step) = task.closable(&sources(PARTITIONS)) {
            closed.push(task.close(step));
        }
        if restarts && rng.below(20) == 0 {
            task = SeriesTask::restore(limited(MOST), &task.snapshot()).expect("our own snapshot");
        }
    }
    (task, closed)
}

/// Whose samples are in the batches, and all calls at the end.
fn told_of(closed: &[ClosedStep]) -> (std::collections::BTreeSet<String>, f64) {
    let tenants = closed.iter().flat_map(|step| &step.batches).map(|batch| batch.tenant.to_string()).collect();
    let mut last = BTreeMap::new();
    for (key, (samples, _)) in closed.iter().flat_map(said) {
        // A marker ends a series and is no value.
        let mut values = samples.iter().map(|(_, bits)| f64::from_bits(*bits)).filter(|value| !value.is_nan());
        if let (true, Some(value)) = (key.contains(" traces_spanmetrics_calls_total"), values.next_back()) {
            last.insert(key, value);
        }
    }
    (tenants, last.values().sum())
}

fn plain(traffic: &[Vec<Vec<What>>]) -> Vec<Vec<Vec<Vec<u8>>>> {
    (0..).zip(traffic).map(|(p, steps)| tell(p, steps, &mut || false)).collect()
}

#[test]
fn tenants_beyond_the_limit_are_counted_together_and_all_shards_decide_alike() {
    let traffic = traffic(&mut Rng(1));
    let told = plain(&traffic);
    let (mut tenants, mut calls) = (std::collections::BTreeSet::new(), 0.0);
    for shard in 0..SHARDS as usize {
        let (of_shard, mine) = told_of(&play(&mut Rng(2), &told, shard, false).1);
        tenants.extend(of_shard);
        calls += mine;
    }
    assert!(tenants.remove(OVERFLOW_TENANT));
    assert_eq!(tenants.len() as u64, MOST, "{tenants:?}");
    assert!((0..3).all(|i| tenants.contains(&format!("real-{i}"))), "who was there before stays: {tenants:?}");
    let sent = traffic.iter().flatten().flatten().count();
    assert_eq!(calls.to_bits(), (sent as f64).to_bits(), "nothing is lost");
}

#[test]
fn who_has_a_place_depends_on_no_order_no_cut_and_no_restart() {
    let traffic = traffic(&mut Rng(7));
    let told = plain(&traffic);
    for shard in 0..SHARDS as usize {
        let expected = play(&mut Rng(0), &told, shard, false).1;
        for seed in 1..5 {
            let rng = &mut Rng(seed);
            let every = 1 + rng.below(40);
            let told: Vec<_> =
                (0..).zip(&traffic).map(|(p, steps)| tell(p, steps, &mut || rng.below(every) == 0)).collect();
            let got = play(&mut Rng(seed), &told, shard, seed % 2 == 0).1;
            assert!(got == expected, "seed {seed}");
        }
    }
}

#[test]
fn a_tenant_gets_a_place_when_another_has_been_silent_for_long_and_no_count_is_lost() {
    let steps: Vec<Vec<What>> = (1..=40)
        .map(|step| {
            let mut spans: Vec<What> = vec![("late".to_owned(), "a".to_owned())];
            if step < 5 {
                spans.extend((0..MOST).map(|i| (format!("early-{i}"), "a".to_owned())));
            }
            spans
        })
        .collect();
    let told = tell(0, &steps, &mut || false);
    let (mut late, mut calls) = (false, 0.0);
    for records in &told {
        let closed = run(&mut SeriesTask::new(limited(MOST)), 1, records);
        let (tenants, mine) = told_of(&closed);
        late |= tenants.contains("late");
        calls += mine;
    }
    assert!(late, "it has series of its own in the end");
    let sent = steps.iter().flatten().count();
    assert_eq!(calls.to_bits(), (sent as f64).to_bits());
}

#[test]
fn a_limit_that_is_new_takes_nothing_away_from_who_has_series() {
    let steps: Vec<Vec<What>> =
        (0..6).map(|_| (0..20).map(|i| (format!("t-{i:02}"), "a".to_owned())).collect()).collect();
    let told = tell(0, &steps, &mut || false);
    for records in &told {
        let mut task = SeriesTask::new(limited(0));
        let (before, after) = records.split_at(3);
        let mut closed = run(&mut task, 1, before);
        let mut task = SeriesTask::restore(limited(MOST), &task.snapshot()).expect("our own snapshot");
        closed.extend(run(&mut task, 1, after));
        let (tenants, _) = told_of(&closed);
        assert!(!tenants.contains(OVERFLOW_TENANT), "{tenants:?}");
        assert_eq!(task.refused(), 0);
    }
}
