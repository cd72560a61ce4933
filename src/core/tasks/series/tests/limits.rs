//! Limits: nothing is lost, no service is starved, and nothing depends on the order of arrival.

use super::*;
use crate::core::deltas::Limited;

const PARTITIONS: i32 = 3;
const STEPS: i64 = 12;

/// One span: tenant, service, operation.
type What = (&'static str, String, String);

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// What each partition saw in each step. One service makes up operations, and from the middle on a producer makes up
/// services.
fn traffic(rng: &mut Rng) -> Vec<Vec<Vec<What>>> {
    let span = |rng: &mut Rng, step: i64| match rng.below(8) {
        0..=3 => ("t", "noisy".to_owned(), format!("op-{}", rng.below(400))),
        4 if step > STEPS / 2 => ("t", format!("s-{}", rng.below(1_000)), "x".to_owned()),
        5 => ("free", "noisy".to_owned(), format!("op-{}", rng.below(400))),
        _ => ("t", format!("quiet-{}", rng.below(4)), format!("op-{}", rng.below(5))),
    };
    (0..PARTITIONS).map(|_| (0..STEPS).map(|step| (0..60).map(|_| span(rng, step)).collect()).collect()).collect()
}

/// Delta records of one partition: `cuts` says whether there is a commit after each span.
fn tell(partition: i32, steps: &[Vec<What>], cuts: &mut dyn FnMut() -> bool) -> Vec<Vec<u8>> {
    let mut source = Source::new(partition, settings().stale_after);
    source.table.set_limited(Limited { others: true, named: [("free".to_owned(), false)].into() });
    let mut records = Vec::new();
    for (step, spans) in (1..).zip(steps) {
        for (tenant, service, name) in spans {
            let layout = Arc::new(Layout::new(Family::SpanMetrics, &[100]));
            let key = format!("{tenant}/{service}/{name}");
            let define = |b: &mut LabelBuilder| {
                b.set("service", service);
                b.set("span_name", name);
                Ok::<_, ()>(Define { tenant: (*tenant).into(), layout })
            };
            let id = source.table.find(key.as_bytes(), define).expect("defines");
            source.table.add(id, 0, 1);
            if cuts() {
                records.extend(source.cut(step * W, step * W - 1));
            }
        }
        records.extend(source.cut(step * W, step * W));
    }
    records
}

fn limited() -> SeriesSettings {
    let mut config = Config::default();
    config.core.time.step = StepWidth::new(W).expect("positive");
    let free = Arc::new(config.clone());
    config.core.limits.max_active_series = 200;
    config.core.limits.max_active_series_per_service = 120;
    config.core.limits.max_cardinality_per_label = 9;
    config.kafka.shards = 1;
    SeriesSettings::from(&Tenants::new(Arc::new(config), [("free".to_owned(), free)].into()))
}

/// Applies the records of all partitions, interleaved at random, with restarts from a snapshot now and then.
fn play(rng: &mut Rng, told: &[Vec<Vec<u8>>], restarts: bool) -> (SeriesTask, Vec<ClosedStep>) {
    let mut task = SeriesTask::new(limited());
    let mut at = vec![0; told.len()];
    let mut closed = Vec::new();
    while let Some(left) = (0..told.len()).filter(|&p| at[p] < told[p].len()).max_by_key(|_| rng.below(1 << 20)) {
        assert_eq!(task.apply(&told[left][at[left]]).expect("a delta record").lost, 0);
        at[left] += 1;
        while let Some(step) = task.closable(&sources(PARTITIONS)) {
            closed.push(task.close(step));
        }
        if restarts && rng.below(20) == 0 {
            task = SeriesTask::restore(limited(), &task.snapshot()).expect("our own snapshot");
        }
    }
    (task, closed)
}

/// `calls` of a tenant at the end, by its labels.
fn calls(closed: &[ClosedStep], tenant: &str) -> BTreeMap<String, f64> {
    let mut out = BTreeMap::new();
    for (key, (samples, _)) in closed.iter().flat_map(said) {
        let mine = key.strip_prefix(tenant).and_then(|key| key.strip_prefix(" traces_spanmetrics_calls_total"));
        if let (Some(labels), Some((_, bits))) = (mine, samples.last()) {
            out.insert(labels.to_owned(), f64::from_bits(*bits));
        }
    }
    out
}

#[test]
fn limits_lose_no_count_and_hold_while_the_others_have_none() {
    let traffic = traffic(&mut Rng(1));
    let told: Vec<_> = (0..).zip(&traffic).map(|(p, steps)| tell(p, steps, &mut || false)).collect();
    let (task, closed) = play(&mut Rng(2), &told, false);
    for tenant in ["t", "free"] {
        let sent = traffic.iter().flatten().flatten().filter(|(t, ..)| *t == tenant).count();
        let got: f64 = calls(&closed, tenant).values().sum();
        assert_eq!(got.to_bits(), (sent as f64).to_bits(), "{tenant}");
    }
    let mine = calls(&closed, "t");
    // A set of this layout can have 6 series.
    assert!(mine.len() <= 200 / 6 + 6, "{} sets: {:?}", mine.len(), mine.keys());
    let has = |text: &str| mine.keys().any(|name| name.contains(text));
    assert!(has("service=\"noisy\",span_name=\"__cardinality_overflow__\""), "{:?}", mine.keys());
    assert!(has("metric_overflow=\"true\",overflow_shard=\"0\""), "{:?}", mine.keys());
    let quiet = mine.keys().filter(|name| name.contains("service=\"quiet-") && name.contains("span_name")).count();
    assert!(quiet >= 12, "quiet services have their series: {:?}", mine.keys());
    let free: std::collections::BTreeSet<&What> =
        traffic.iter().flatten().flatten().filter(|(tenant, ..)| *tenant == "free").collect();
    assert_eq!(calls(&closed, "free").len(), free.len(), "who has no limit is not touched");
    assert!(task.refused() > 200, "{}", task.refused());
    let worst = &task.top_labels(1)[0];
    assert_eq!((&*worst.service, &*worst.label), ("noisy", "span_name"));
}

#[test]
fn what_is_refused_depends_on_no_order_no_cut_and_no_restart() {
    let traffic = traffic(&mut Rng(7));
    let plain: Vec<_> = (0..).zip(&traffic).map(|(p, steps)| tell(p, steps, &mut || false)).collect();
    let expected = play(&mut Rng(0), &plain, false).1;
    for seed in 1..12 {
        let rng = &mut Rng(seed);
        let every = 1 + rng.below(40);
        let told: Vec<_> =
            (0..).zip(&traffic).map(|(p, steps)| tell(p, steps, &mut || rng.below(every) == 0)).collect();
        let got = play(&mut Rng(seed), &told, seed % 2 == 0).1;
        assert!(got == expected, "seed {seed}");
    }
}

#[test]
fn when_limits_are_lifted_what_was_refused_begins_anew() {
    let told = |commit_number: i64| {
        let steps: Vec<Vec<What>> =
            (0..commit_number).map(|_| (0..10).map(|i| ("t", "a".to_owned(), format!("op-{i}"))).collect()).collect();
        tell(0, &steps, &mut || false)
    };
    let mut settings = limited();
    let mut task = SeriesTask::new(settings.clone());
    let records = told(6);
    let mut closed = Vec::new();
    for (i, record) in records.iter().enumerate() {
        if i == 3 {
            let lifted = with(|_| ());
            settings.tenants = lifted.tenants;
            task.adopt(settings.clone());
            assert_eq!(task.refused(), 0);
        }
        assert_eq!(task.apply(record).expect("a delta record").lost, 0);
        while let Some(step) = task.closable(&sources(1)) {
            closed.push(task.close(step));
        }
    }
    let all = calls(&closed, "t");
    assert!(all.keys().any(|name| name.contains("op-9")), "{all:?}");
    assert_eq!(all.values().sum::<f64>().to_bits(), 60f64.to_bits());
}

#[test]
fn who_is_spelled_out_again_does_not_decide_the_bounds_of_the_set_that_counts_for_him() {
    let told = |crashes: bool| {
        let mut source = Source::new(0, settings().stale_after);
        let mut records = Vec::new();
        for (step, kind, ops, bounds) in
            [(1, "a", 0..40, vec![100]), (2, "b", 0..5, vec![100, 200]), (3, "a", 30..40, vec![100])]
        {
            if crashes {
                source.table = DeltaTable::new(settings().stale_after);
            }
            for op in ops {
                let name = format!("{kind}-{op:02}");
                let layout = Arc::new(Layout::new(Family::SpanMetrics, &bounds));
                let define = |b: &mut LabelBuilder| {
                    b.set("service", "noisy");
                    b.set("span_name", &name);
                    Ok::<_, ()>(Define { tenant: "t".into(), layout })
                };
                let id = source.table.find(name.as_bytes(), define).expect("defines");
                source.table.observe(id, 0, 150, Weight::ONE, None);
            }
            records.extend(source.cut(step * W, step * W));
        }
        let mut task = SeriesTask::new(limited());
        let closed = run(&mut task, 1, &records);
        assert!(task.refused() > 20, "{}", task.refused());
        closed
    };
    let (calm, crashed) = (told(false), told(true));
    assert_eq!(calm.len(), 3);
    assert!(calm == crashed);
}
