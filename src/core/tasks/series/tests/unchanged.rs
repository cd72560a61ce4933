//! `series.resend_unchanged`: sets that do not change are sent only so often, and the receiver knows the same.

use std::collections::{BTreeMap, BTreeSet};

use super::lifecycle::One;
use super::property::{SOURCES, counting, how, interleave};
use super::*;

const STALE: u64 = decode::STALE_MARKER;

fn sparse(resend: Millis) -> SeriesSettings {
    with(|c| c.core.series.resend_unchanged = resend)
}

fn calls(said: &[(Millis, BTreeMap<String, Said>)]) -> Vec<(Millis, u64)> {
    let key = r#"t traces_spanmetrics_calls_total{service="a"}"#;
    said.iter().filter_map(|(_, said)| said.get(key)).flat_map(|said| said.0.clone()).collect()
}

#[test]
fn a_value_that_changes_after_a_pause_comes_with_the_one_before_it_at_the_step_before() {
    let slow = || with(|c| (c.core.series.resend_unchanged, c.core.series.stale_after) = (4 * W, 9 * W));
    let mut one = One::new(slow());
    let mut said = Vec::new();
    for (step, n) in (40..=60).map(|step| (step, u64::from(matches!(step, 40 | 41 | 50)))) {
        said.extend(one.step(step * W, &vec![span("a", 150); n as usize]));
        // A new owner continues with the same bytes.
        let snapshot = one.task.snapshot();
        one.task = SeriesTask::restore(slow(), &snapshot).expect("our own snapshot");
        assert_eq!(one.task.snapshot(), snapshot, "step {step}");
    }
    let bits = |v: f64| v.to_bits();
    let got = calls(&said);
    let begins = [(40 * W - 1, 0), (40 * W, bits(1.0)), (41 * W, bits(2.0))];
    assert_eq!(got[..3], begins, "{got:?}");
    let at = got.iter().position(|(at, _)| *at == 50 * W).expect("it changed");
    assert_eq!(got[at - 1..=at], [(49 * W, bits(2.0)), (50 * W, bits(3.0))], "{got:?}");
    assert_eq!(got.last(), Some(&(59 * W, STALE)), "it ends as any other");
    assert!(got.len() < 12 && got.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 4 * W), "{got:?}");
}

#[test]
fn a_set_that_is_sent_seldom_is_told_apart_only_by_its_name_so_that_steps_are_of_one_size() {
    let mut one = One::new(with(|c| (c.core.series.resend_unchanged, c.core.series.stale_after) = (4 * W, 99 * W)));
    let names: Vec<Seen> = (0..400).map(|i| span(&format!("s{i}"), 150)).collect();
    one.step(40 * W, &names);
    let sizes: Vec<usize> = (41..=44).flat_map(|step| one.step(step * W, &[])).map(|(_, said)| said.len()).collect();
    let series = 2 + 2 + 4;
    assert_eq!(sizes.iter().sum::<usize>(), 400 * series, "each once: {sizes:?}");
    assert!(sizes.iter().all(|size| (60 * series..140 * series).contains(size)), "{sizes:?}");
}

/// All points of every series, with the exemplars.
fn points(task: &mut SeriesTask, records: &[Vec<u8>], restart: bool) -> BTreeMap<String, (Points, Points)> {
    let mut out = BTreeMap::<String, (Points, Points)>::new();
    let settings = task.settings().clone();
    for record in records {
        for closed in run(task, SOURCES, std::slice::from_ref(record)) {
            for (key, (samples, exemplars)) in said(&closed) {
                let (all, told) = out.entry(key).or_default();
                all.extend(samples);
                told.extend(exemplars);
            }
        }
        if restart {
            *task = SeriesTask::restore(settings.clone(), &task.snapshot()).expect("our own snapshot");
        }
    }
    out
}

type Points = Vec<(Millis, u64)>;
const RESEND: Millis = 5 * W;

#[test]
fn what_a_receiver_knows_is_what_it_knows_of_series_that_are_sent_at_every_step() {
    let mut saved = (0, 0);
    for seed in 0..40 {
        // Classic histograms: the points of a native one have several parts here.
        let ways = [how(seed % 3), how((seed + seed % 2) % 3)];
        let (mut rng, told) = counting(seed, &ways);
        let records = interleave(&mut rng, &told);
        let full = points(&mut SeriesTask::new(settings()), &records, false);
        let some = points(&mut SeriesTask::new(sparse(RESEND)), &records, false);
        let again = points(&mut SeriesTask::new(sparse(RESEND)), &records, true);
        assert_eq!(some, again, "seed {seed}: a new owner after every record sends the same");
        assert_eq!(full.keys().collect::<Vec<_>>(), some.keys().collect::<Vec<_>>(), "seed {seed}");
        for (key, (all, told)) in &full {
            let (got, got_told) = &some[key];
            assert_eq!(told, got_told, "seed {seed} {key}: exemplars");
            let (have, had): (BTreeSet<_>, BTreeSet<_>) = (got.iter().collect(), all.iter().collect());
            assert!(have.is_subset(&had), "seed {seed} {key}: {got:?} of {all:?}");
            assert!(got.is_sorted_by_key(|(at, _)| *at), "seed {seed} {key}");
            // A marker ends what the receiver has.
            for pair in all.windows(2).filter(|pair| pair[0].1 != pair[1].1 && pair[1].1 != STALE) {
                assert!(have.contains(&pair[0]) && have.contains(&pair[1]), "seed {seed} {key}: {pair:?} of {got:?}");
            }
            for pair in got.windows(2) {
                let ended = pair[0].1 == STALE;
                assert!(ended || pair[1].0 - pair[0].0 <= RESEND, "seed {seed} {key}: {pair:?}");
            }
            saved = (saved.0 + all.len(), saved.1 + got.len());
        }
    }
    assert!(saved.1 * 10 < saved.0 * 9, "{saved:?}");
}

#[test]
fn a_step_that_a_tenant_misses_is_no_step_whose_value_is_sent_later() {
    let slow = with(|c| (c.core.series.resend_unchanged, c.core.series.stale_after) = (4 * W, 99 * W));
    let mut one = One::new(slow);
    one.step(40 * W, &[span("a", 150)]);
    let down = ["t".to_owned()];
    let mut told = Vec::new();
    for (step, n, out) in [(41, 0, false), (42, 0, false), (43, 1, true), (44, 0, true), (45, 1, false), (46, 1, false)]
    {
        (0..n).for_each(|_| one.source.see(&span("a", 150)));
        one.task.apply(&one.source.cut(step * W, step * W)[0]).expect("a delta record");
        let left_out = if out { &down[..] } else { &[] };
        told.push((step * W, said(&one.task.close_without(step * W, left_out))));
    }
    let got: Points = calls(&told).into_iter().filter(|(at, _)| *at > 42 * W).collect();
    assert_eq!(got, [(45 * W, 3f64.to_bits()), (46 * W, 4f64.to_bits())], "as without the setting");
}
