//! Any interleaving, any restart: the same bytes; and the bytes say what a naive model says.

use super::*;
use crate::core::model::Unit;

/// Splitmix64.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

const START: Millis = 50 * W;
const END: Millis = START + 60 * W;
pub(super) const SOURCES: i32 = 3;

/// What one source saw, by step, and the records that carry it.
pub(super) struct Told {
    seen: Vec<(Millis, Seen)>,
    records: Vec<Vec<u8>>,
}

pub(super) fn seen(rng: &mut Rng, at: Millis) -> Seen {
    let family = if rng.below(3) == 0 { Family::ServiceGraph } else { Family::SpanMetrics };
    let counts = [1 + rng.below(3), if rng.below(4) == 0 { rng.below(50) } else { 0 }];
    let ns =
        (0..family.histograms().len()).map(|_| [50, 100, 150, 399, 1_000, u64::MAX][rng.below(6) as usize]).collect();
    let example = (rng.below(3) == 0).then(|| (at - rng.below(1_500) as i64, [rng.below(9) as u8; 16]));
    let tenant = ["acme", "t"][rng.below(2) as usize];
    let weight = Weight::from_ratio([1.0, 0.5, 0.3, 0.001, 1.7][rng.below(5) as usize]).expect("a weight");
    Seen { tenant, service: format!("s{}", rng.below(6)), family, counts, ns, weight, example }
}

/// The ways of counting, one after the other. The first ones are classic.
pub(super) fn how(n: u64) -> How {
    let native = |schema, max_buckets| Some(Native { schema, max_buckets });
    match n % 8 {
        0 => CLASSIC,
        1 => How { apart: true, ..CLASSIC },
        2 => How { weighted: true, ..CLASSIC },
        3 => How { native: native(3, 100), ..CLASSIC },
        4 => How { native: native(8, 2), weighted: true, apart: true, ..CLASSIC },
        5 => How { native: native(8, 3), classic: false, ..CLASSIC },
        6 => How { native: native(0, 100), classic: false, weighted: true, ..CLASSIC },
        _ => How { native: native(8, 0), classic: false, weighted: true, apart: true, ..CLASSIC },
    }
}

/// A source with pauses of all lengths, so that sets go cold, come back and are forgotten. With `rolling`, the buckets
/// change somewhere in the middle, and the way of counting with them.
fn tell(rng: &mut Rng, partition: i32, [first, then]: &[How; 2]) -> Told {
    let width = settings().step;
    let mut source = Source { how: first.clone(), ..Source::new(partition, settings().stale_after) };
    let rolling = first != then;
    let change = START + rng.below(60 * W as u64) as i64;
    let mut told = Told { seen: Vec::new(), records: Vec::new() };
    let mut at = START + rng.below(5 * W as u64) as i64;
    while at < END {
        if rolling && at > change && source.bounds.len() == 3 {
            // A worker with another configuration takes over: it knows no set and spells all of them.
            source.table = DeltaTable::new(settings().stale_after);
            (source.bounds, source.how) = (vec![150, 200, 800, 1_600], then.clone());
        }
        let step = width.end_of(at);
        for _ in 0..rng.below(4) {
            let seen = seen(rng, at);
            source.see(&seen);
            told.seen.push((step, seen));
        }
        let pauses = [1, 100, 700, 1_000, 1_000, 2_500, 5_000, 14_000];
        at += 1 + pauses[rng.below(8) as usize];
        told.records.extend(source.cut(step, at.min(END)));
    }
    told.records.extend(source.cut(END, END + 40 * W));
    told
}

pub(super) fn interleave(rng: &mut Rng, told: &[Told]) -> Vec<Vec<u8>> {
    let mut queues: Vec<_> = told.iter().map(|t| t.records.iter()).collect();
    let mut out = Vec::new();
    while queues.iter().any(|q| q.len() > 0) {
        // In bursts, so that sources run far ahead of each other.
        let queue = &mut queues[rng.below(told.len() as u64) as usize];
        for _ in 0..1 + rng.below(12) {
            out.extend(queue.next().cloned());
        }
    }
    out
}

fn story(seed: u64, rolling: bool) -> (Rng, Vec<Told>) {
    // Every way follows on every other one.
    let first = how(seed / 2);
    let mut then = how(seed / 2 + 1 + seed / 16);
    if then == first {
        then.naming = Naming::Otel { namespace: "x".to_owned(), unit: Unit::Milliseconds };
    }
    counting(seed, &if rolling { [first, then] } else { [first.clone(), first] })
}

pub(super) fn counting(seed: u64, how: &[How; 2]) -> (Rng, Vec<Told>) {
    let mut rng = Rng(seed);
    let told = (0..SOURCES).map(|p| tell(&mut rng, p, how)).collect();
    (rng, told)
}

#[test]
fn any_interleaving_of_the_sources_gives_the_same_bytes() {
    for seed in 0..48 {
        let (mut rng, told) = story(seed, seed % 2 == 1);
        let first = run(&mut SeriesTask::new(settings()), SOURCES, &interleave(&mut rng, &told));
        assert!(first.len() > 20, "seed {seed} closes only {} steps", first.len());
        for _ in 0..3 {
            let again = run(&mut SeriesTask::new(settings()), SOURCES, &interleave(&mut rng, &told));
            assert!(first == again, "seed {seed}");
        }
    }
}

#[test]
fn closing_later_changes_nothing() {
    for seed in 0..16 {
        let (mut rng, told) = story(seed, false);
        let records = interleave(&mut rng, &told);
        let eager = run(&mut SeriesTask::new(settings()), SOURCES, &records);
        let mut task = SeriesTask::new(settings());
        for record in &records {
            task.apply(record).expect("a delta record");
        }
        let mut lazy = Vec::new();
        while let Some(step) = task.closable(&sources(SOURCES)) {
            lazy.push(task.close(step));
        }
        assert!(eager == lazy, "seed {seed}");
    }
}

#[test]
fn a_restart_from_a_snapshot_at_any_point_goes_on_bit_for_bit() {
    for seed in 0..32 {
        let (mut rng, told) = story(seed, seed % 2 == 1);
        let records = interleave(&mut rng, &told);
        let straight = run(&mut SeriesTask::new(settings()), SOURCES, &records);
        let mut task = SeriesTask::new(settings());
        let mut steps = Vec::new();
        for record in &records {
            if rng.below(5) == 0 {
                let snapshot = task.snapshot();
                let live = task.active_series();
                task = SeriesTask::restore(settings(), &snapshot).expect("our own snapshot");
                assert_eq!(task.active_series(), live);
                assert_eq!(task.snapshot(), snapshot);
            }
            steps.extend(run(&mut task, SOURCES, std::slice::from_ref(record)));
        }
        assert!(straight == steps, "seed {seed}");
    }
}

#[test]
fn totals_stay_exact_when_steps_are_closed_by_force() {
    let patient = SeriesSettings { stale_after: 1_000 * W, ..settings() };
    for seed in 0..16 {
        // From a native histogram to classic buckets and the other way round, counts are exact, too.
        let ways = [[CLASSIC, CLASSIC], [how(1), How { apart: true, ..how(3) }], [how(5), CLASSIC], [how(5), how(3)]];
        let (mut rng, told) = counting(seed, &ways[seed as usize % 4]);
        let mut task = SeriesTask::new(patient.clone());
        let mut last = None;
        for record in interleave(&mut rng, &told) {
            assert_eq!(task.apply(&record).expect("a delta record").lost, 0);
            while let (Some(step), behind) = task.held_back_by(&sources(SOURCES)) {
                if !behind.is_empty() && rng.below(3) > 0 {
                    break;
                }
                let closed = task.close(step);
                assert!(last.as_ref().is_none_or(|l: &ClosedStep| l.step < step));
                last = Some(closed);
            }
        }
        let said = said(&last.expect("closes"));
        let total = |metric: &str| {
            let lines = said.iter().filter(|(key, _)| key.contains(metric));
            lines.map(|(_, (samples, _))| f64::from_bits(samples.last().expect("a value").1)).sum::<f64>() as u64
        };
        let seen = || told.iter().flat_map(|t| &t.seen).map(|(_, x)| x);
        let calls: u64 = seen().filter(|x| x.family == Family::SpanMetrics).map(|x| x.counts[0]).sum();
        assert_eq!(total("calls_total"), calls, "seed {seed}");
        let apart = seed % 4 == 1;
        let observed = seen().map(|x| if apart { x.ns.len().min(2) } else { x.ns.len() } as u64).sum::<u64>();
        // A set that nothing touched since the change still has its native histogram alone.
        let alone = said
            .iter()
            .filter(|(key, (samples, _))| samples.len() > 2 && !said.contains_key(&key.replacen('{', "_count{", 1)));
        let native: f64 = alone.flat_map(|(_, s)| &s.0[1..]).map(|(_, count)| f64::from_bits(*count)).sum();
        assert_eq!(total("_count{") + native as u64, observed, "seed {seed}");
        assert_eq!(total("+Inf") + native as u64, observed, "seed {seed}");
    }
}

#[test]
fn records_that_come_again_change_nothing() {
    for seed in 0..16 {
        let (mut rng, told) = story(seed, seed % 3 == 0);
        let records = interleave(&mut rng, &told);
        let straight = run(&mut SeriesTask::new(settings()), SOURCES, &records);
        let mut twice = Vec::new();
        for (i, record) in records.iter().enumerate() {
            twice.push(record.clone());
            twice.push(records[rng.below(i as u64 + 1) as usize].clone());
        }
        assert!(straight == run(&mut SeriesTask::new(settings()), SOURCES, &twice), "seed {seed}");
    }
}

#[test]
fn the_bytes_say_what_a_naive_model_says() {
    for seed in 0..40 {
        let how = how(seed);
        let (mut rng, told) = counting(seed, &[how.clone(), how.clone()]);
        let closed = run(&mut SeriesTask::new(settings()), SOURCES, &interleave(&mut rng, &told));
        let seen: Vec<_> = told.iter().flat_map(|t| t.seen.clone()).collect();
        let expected = naive(&seen, &how, END + 40 * W);
        assert_eq!(closed.iter().map(|c| c.step).collect::<Vec<_>>(), expected.iter().map(|e| e.0).collect::<Vec<_>>());
        for (got, (step, expected)) in closed.iter().zip(&expected) {
            assert_eq!(&said(got), expected, "seed {seed}, step {step}");
        }
    }
}

/// A set of the naive model: every observation since it began.
#[derive(Default)]
struct NaiveSet {
    all: Vec<Seen>,
    touched: Millis,
    live: bool,
    last_exemplar: [Millis; 3],
    /// Whether the step brings it back after its markers.
    returns: bool,
}

/// Steps with what each series says, computed from scratch at every step, the slow way.
fn naive(seen: &[(Millis, Seen)], how: &How, until: Millis) -> Vec<(Millis, BTreeMap<String, Said>)> {
    let s = settings();
    let mut sets: BTreeMap<(String, Family, String), NaiveSet> = BTreeMap::new();
    let mut steps = Vec::new();
    let mut at = Millis::MIN;
    loop {
        let data = seen.iter().map(|(step, _)| *step).filter(|&step| step > at).min();
        let next = if sets.values().any(|set| set.live) { Some(at + W) } else { data };
        let Some(step) = next.filter(|&step| step <= until) else { return steps };
        at = step;
        let mut before: BTreeMap<(String, Family, String), Vec<Seen>> = BTreeMap::new();
        for (_, x) in seen.iter().filter(|(of, _)| *of == step) {
            let key = (x.tenant.to_owned(), x.family, x.service.clone());
            let set = sets.entry(key.clone()).or_default();
            if !set.live && step - set.touched > s.stale_after + s.forget_after {
                *set = NaiveSet::default();
            }
            set.returns |= !set.live && !set.all.is_empty();
            before.entry(key).or_insert_with(|| set.all.clone());
            (set.touched, set.live) = (step, true);
            set.all.push(x.clone());
        }
        let mut out = BTreeMap::new();
        for (key, set) in sets.iter_mut().filter(|(_, set)| set.live) {
            let stale = step - set.touched >= s.stale_after;
            let old = before.get(key).cloned().unwrap_or_else(|| set.all.clone());
            speak(&mut out, (key, how), set, &old, step, stale);
            (set.live, set.returns) = (!stale, false);
        }
        steps.push((step, out));
    }
}

/// Everything that one set says at `step`; `old` is what it had observed before.
fn speak(
    out: &mut BTreeMap<String, Said>,
    ((tenant, family, service), how): (&(String, Family, String), &How),
    set: &mut NaiveSet,
    old: &[Seen],
    step: Millis,
    stale: bool,
) {
    let returns = set.returns;
    // What stands before the value is what the set had, if it comes back.
    let mut put = |name: &str, le: &str, [had, value]: [Vec<(Millis, u64)>; 2], new: bool, exemplars: Vec<_>| {
        let le = if le.is_empty() { String::new() } else { format!("le={le:?},") };
        // A native histogram says more at the zero than the zero.
        let zero = if value.len() > 1 { vec![(step - 1, 0), (value[1].0, 0)] } else { vec![(step - 1, 0)] };
        let samples = match (stale, new) {
            (true, _) => vec![(step, decode::STALE_MARKER)],
            (_, true) => [zero, value].concat(),
            _ if returns => [had, value].concat(),
            _ => value,
        };
        out.insert(format!("{tenant} {name}{{{le}service={service:?}}}"), (samples, exemplars));
    };
    let two = |of: &dyn Fn(&[Seen]) -> f64, all: &[Seen]| before_and_after(step, [old, all], of);
    for (c, name) in family.counters().iter().enumerate() {
        let total = |list: &[Seen]| list.iter().map(|x| counted(x, how, c)).sum::<f64>();
        if total(&set.all) > 0.0 {
            let mut values = two(&total, &set.all);
            if c == 2 {
                // An info has no start.
                values = [Vec::new(), vec![(step, 1f64.to_bits())]];
            }
            put(name, "", values, c < 2 && total(old) == 0.0, Vec::new());
        }
    }
    let present = if how.apart { 2 } else { 3 };
    for (h, name) in family.histograms().iter().enumerate().take(present) {
        let new = old.is_empty();
        let fresh = &set.all[old.len()..];
        let mut latest = set.last_exemplar[h];
        if how.classic {
            put(&format!("{name}_sum"), "", two(&|list| sum(list, how, h), &set.all), new, Vec::new());
            let count = |list: &[Seen]| list.iter().map(|x| weight(x, how)).sum::<f64>();
            put(&format!("{name}_count"), "", two(&count, &set.all), new, Vec::new());
            for (low, high, le) in BUCKETS {
                // A sum of nothing is -0.
                let below =
                    |list: &[Seen]| list.iter().filter(|x| x.ns[h] <= high).map(|x| weight(x, how)).sum::<f64>() + 0.0;
                let best = best(fresh.iter().filter(|x| (low..=high).contains(&x.ns[h])), h);
                let best = best.filter(|(at, ..)| *at > set.last_exemplar[h]);
                latest = latest.max(best.map_or(0, |(at, ..)| at));
                let exemplars = best.map(|(at, _, ns)| (at, (ns as f64 / 1e9).to_bits())).into_iter().collect();
                put(&format!("{name}_bucket"), le, two(&below, &set.all), new, exemplars);
            }
        }
        if let Some(native) = how.native {
            let slots: Vec<Vec<&Seen>> = if how.classic {
                BUCKETS.map(|(low, high, _)| fresh.iter().filter(|x| (low..=high).contains(&x.ns[h])).collect()).into()
            } else {
                (-40..40).map(|i| fresh.iter().filter(|x| index(x.ns[h], 0) == i).collect()).collect()
            };
            let mut told: Vec<_> = slots.into_iter().filter_map(|slot| best(slot.into_iter(), h)).collect();
            told.retain(|(at, ..)| *at > set.last_exemplar[h]);
            told.sort();
            let last_of_its_time = |i: &usize| told.get(i + 1).is_none_or(|next| next.0 > told[*i].0);
            let told: Vec<_> = (0..told.len()).filter(last_of_its_time).map(|i| told[i]).collect();
            latest = latest.max(told.last().map_or(0, |(at, ..)| *at));
            let exemplars = told.iter().rev().take(10).rev().map(|(at, _, ns)| (*at, (*ns as f64 / 1e9).to_bits()));
            let value = |at, list: &[Seen]| native_value(list, how, native, h, at, sum(list, how, h));
            put(name, "", [value(step - 1, old), value(step, &set.all)], new, exemplars.collect());
        }
        set.last_exemplar[h] = latest;
    }
}

/// What a series had just before a step, and at its end.
fn before_and_after(step: Millis, seen: [&[Seen]; 2], of: &dyn Fn(&[Seen]) -> f64) -> [Vec<(Millis, u64)>; 2] {
    let [old, all] = seen.map(|list| of(list).to_bits());
    [vec![(step - 1, old)], vec![(step, all)]]
}

const BUCKETS: [(u64, u64, &str); 4] =
    [(0, 100, "0.0000001"), (101, 200, "0.0000002"), (201, 400, "0.0000004"), (401, u64::MAX, "+Inf")];

fn weight(x: &Seen, how: &How) -> f64 {
    if how.weighted { x.weight.bits() as f64 / 2f64.powi(32) } else { 1.0 }
}

fn counted(x: &Seen, how: &How, c: usize) -> f64 {
    match x.counts.get(c) {
        None => f64::from(u8::from(how.apart)),
        Some(&n) if how.weighs(x.family, c) => n as f64 * weight(x, how),
        Some(&n) => n as f64,
    }
}

fn sum(all: &[Seen], how: &How, h: usize) -> f64 {
    let one = 1 << 32;
    let exact = |x: &Seen| u128::from(x.ns[h]) * u128::from(if how.weighted { x.weight.bits() } else { one });
    let sum: u128 = all.iter().map(exact).fold(0, u128::wrapping_add);
    // Without weights, the sum has no fraction to be rounded with.
    if how.weighted { sum as f64 / 2f64.powi(32) / 1e9 } else { (sum >> 32) as f64 / 1e9 }
}

fn best<'x>(of: impl Iterator<Item = &'x Seen>, h: usize) -> Option<(Millis, [u8; 16], u64)> {
    of.filter_map(|x| x.example.map(|(at, id)| (at, id, x.ns[h]))).max()
}

/// The bucket of a duration, by logarithm; none of the durations here is a bound.
fn index(ns: u64, schema: i8) -> i64 {
    ((ns as f64 / 1e9).log2() * 2f64.powi(schema.into())).ceil() as i64
}

fn native_value(all: &[Seen], how: &How, native: Native, h: usize, step: Millis, sum: f64) -> Vec<(Millis, u64)> {
    let buckets = |schema| {
        let mut buckets: BTreeMap<i64, f64> = BTreeMap::new();
        all.iter().for_each(|x| *buckets.entry(index(x.ns[h], schema)).or_default() += weight(x, how));
        buckets
    };
    let fits = |schema: &i8| native.max_buckets == 0 || buckets(*schema).len() <= native.max_buckets.into();
    let schema = (-4..=native.schema).rev().find(fits).unwrap_or(-4);
    let counts = buckets(schema).into_iter().map(|(index, n)| (index, n.to_bits()));
    [(step, sum.to_bits()), (schema.into(), 0)].into_iter().chain(counts).collect()
}
