//! Every feature, in random combinations: the bytes that go to the receiver depend on nothing but the records.
//!
//! Several source partitions go through real span tasks and series tasks twice. Once in peace: one owner each, their
//! delta records added one partition after the other. Once in disorder: commits of random sizes, crashes and new owners at
//! random records, delta records of all partitions mixed, shards restored from snapshots. Both must give the same steps, bit
//! for bit.
//!
//! `TEST_SCHEDULES=2000` checks more seeds, `TEST_SEED=17` only this one.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

pub(crate) mod disagree;
pub(crate) mod enrich;
pub(crate) mod owner;
pub(crate) mod past;
pub(crate) mod settings;
pub(crate) mod shards;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;

use crate::scramble::Dice;
use crate::streams::Event;
use enrich::enriched;
use owner::{Disorder, run};
use settings::{SHARDS, random_tenants};
use shards::{closed_at_random, closed_in_order};
use spanmill::config::Tenants;
use spanmill::core::model::Ledger;
use spanmill::core::remotewrite::decode;
use spanmill::core::series::{ClosedStep, SeriesSettings};
use spanmill::core::tasks::span::{SpanSettings, StepCut};

/// Records and ticks per partition.
const EVENTS: usize = 40;

/// A seed's settings and partitions.
struct Story {
    dice: Dice,
    tenants: Tenants,
    partitions: Vec<Vec<Event>>,
}

#[expect(clippy::disallowed_methods, reason = "how many seeds is the caller's choice")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().expect("TEST_SEED and TEST_SCHEDULES are numbers"))
}

// === impl Story ===

impl Story {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let tenants = random_tenants(&mut dice);
        let partitions = (0..2 + dice.below(2)).map(|p| enriched(&mut dice, p as u8, EVENTS)).collect();
        Self { dice, tenants, partitions }
    }

    fn in_peace(&self) -> (Vec<Vec<ClosedStep>>, Vec<Ledger>) {
        let settings = SpanSettings::from(&self.tenants);
        let cuts: Vec<_> = (0..).zip(&self.partitions).map(|(p, events)| run(&settings, p, events, None)).collect();
        let series = SeriesSettings::from(&self.tenants);
        ((0..SHARDS as usize).map(|shard| closed_in_order(&series, &cuts, shard)).collect(), ledgers(&cuts))
    }

    fn in_disorder(&mut self) -> (Vec<Vec<ClosedStep>>, Vec<Ledger>) {
        let mut settings = SpanSettings::from(&self.tenants);
        let mut cuts = Vec::new();
        for (p, events) in (0..).zip(&self.partitions) {
            settings.max_commit_bytes = [1, 500, 5_000, 1 << 20][self.dice.below(4) as usize];
            let calm = 1 + self.dice.below(20);
            cuts.push(run(&settings, p, events, Some(Disorder { dice: &mut self.dice, calm })));
        }
        let series = SeriesSettings::from(&self.tenants);
        let shards = (0..SHARDS as usize).map(|shard| closed_at_random(&mut self.dice, &series, &cuts, shard));
        (shards.collect(), ledgers(&cuts))
    }
}

fn ledgers(cuts: &[Vec<StepCut>]) -> Vec<Ledger> {
    cuts.iter().map(|cuts| cuts.last().expect("a tick at the end").ledger.clone()).collect()
}

fn assert_same(seed: u64) {
    let mut story = Story::new(seed);
    let (expected, expected_ledgers) = story.in_peace();
    for _ in 0..2 {
        let (got, got_ledgers) = story.in_disorder();
        for (a, b) in expected.iter().flatten().zip(got.iter().flatten()) {
            if a != b {
                show_difference(a, b);
            }
        }
        assert!(expected == got, "the steps of seed {seed} differ");
        assert_eq!(expected_ledgers, got_ledgers, "the ledgers of seed {seed} differ");
    }
}

/// Fails with the series that differ.
fn show_difference(a: &ClosedStep, b: &ClosedStep) {
    let (a, b) = (lines(a), lines(b));
    let only_a: Vec<_> = a.difference(&b).take(5).collect();
    let only_b: Vec<_> = b.difference(&a).take(5).collect();
    assert!(only_a.is_empty() && only_b.is_empty(), "only in peace: {only_a:#?}\nonly in disorder: {only_b:#?}");
}

/// Every series of a step with its samples.
fn lines(step: &ClosedStep) -> BTreeSet<String> {
    let requests = step.batches.iter().flat_map(|batch| batch.requests.iter().map(move |r| (&batch.tenant, r)));
    let decoded = requests.flat_map(|(tenant, r)| {
        let series = decode::body(&r.body).expect("our own body").timeseries;
        series.into_iter().map(move |s| format!("{} {tenant} {s:?}", step.step))
    });
    decoded.collect()
}

#[test]
fn no_order_of_arrival_and_no_hand_over_changes_a_byte_of_any_feature() {
    let seeds = match number("TEST_SEED") {
        Some(seed) => return assert_same(seed),
        None => 0..number("TEST_SCHEDULES").unwrap_or(40),
    };
    let failed: Vec<u64> = seeds.filter(|&seed| catch_unwind(|| assert_same(seed)).is_err()).collect();
    assert!(failed.is_empty(), "TEST_SEED= one of {failed:?}");
}

/// What live shards did, closing steps by force, is done again by a replay that reads their journals.
#[test]
fn a_replay_that_reads_the_journals_repeats_forced_closes_to_the_bit() {
    assert_repeats(past::Trouble::Stalls);
}

/// The same of shards that a source joins when they have closed steps.
#[test]
fn a_replay_that_reads_the_journals_repeats_when_a_source_joined_to_the_bit() {
    assert_repeats(past::Trouble::Joins);
}

fn assert_repeats(trouble: past::Trouble) {
    let seeds = match number("TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TEST_SCHEDULES").unwrap_or(40),
    };
    let whole = number("TEST_SEED").is_none();
    let runs: Vec<_> = seeds.map(|seed| (seed, catch_unwind(|| past::assert_repeats(seed, trouble)).ok())).collect();
    let failed: Vec<u64> = runs.iter().filter(|(_, differs)| differs.is_none()).map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "TEST_SEED= one of {failed:?}");
    let different = runs.iter().filter(|(_, differs)| *differs == Some(true)).count();
    let all = runs.len();
    // Otherwise nothing came too late, and nothing was repeated.
    assert!(!whole || different * 2 > all, "{trouble:?} made a difference in {different} of {all} runs");
}

/// While workers are replaced one after the other, they have different settings.
#[test]
fn two_workers_with_different_values_of_any_key_lose_no_count_and_contradict_no_sample() {
    disagree::assert_every_key();
}

/// Without this, the first test could compare nothing with nothing.
#[test]
fn the_random_stories_write_every_metric() {
    let mut series: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..40 {
        let (shards, _) = Story::new(seed).in_peace();
        for request in shards.iter().flatten().flat_map(|step| &step.batches).flat_map(|batch| &batch.requests) {
            for s in decode::body(&request.body).expect("our own body").timeseries {
                assert!(s.labels.iter().all(|l| l.name != "__metric__"), "{s:?}");
                let name = s.labels.iter().find(|l| l.name == "__name__").expect("a name").value.clone();
                let name = if s.histograms.is_empty() { name } else { name + " (native)" };
                *series.entry(name).or_default() += 1;
            }
        }
    }
    let missing: Vec<_> = METRICS.iter().filter(|name| !series.contains_key(**name)).collect();
    assert!(missing.is_empty(), "nothing wrote {missing:?}, only {series:#?}");
}

/// A metric of every family in both profiles.
const METRICS: [&str; 28] = [
    "spans_total",
    "size_total",
    "size_bucket",
    "size (native)",
    "took_total",
    "traces_spanmetrics_calls_total",
    "traces_spanmetrics_size_total",
    "traces_spanmetrics_latency_bucket",
    "traces_span_metrics_calls_total",
    "traces_span_metrics_duration_milliseconds_bucket",
    "traces_span_metrics_duration_seconds_bucket",
    "traces_span_metrics_events_total",
    "traces_target_info",
    "traces_host_info",
    "traces_slo_events_total",
    "traces_slo_good_total",
    "traces_service_graph_request_total",
    "traces_service_graph_request_failed_total",
    "traces_service_graph_request_server_seconds_bucket",
    "traces_service_graph_request_client_seconds_sum",
    "traces_service_graph_request_messaging_system_seconds_count",
    "traces_service_graph_connection_info",
    "traces_calls_per_request_bucket",
    "traces_fan_out_busy_seconds_total",
    "traces_quality_problems_total",
    "traces_spanmetrics_latency (native)",
    "traces_span_metrics_duration_milliseconds (native)",
    "traces_service_graph_request_server_seconds (native)",
];
