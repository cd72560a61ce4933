//! The span task on random topics: against a plain second implementation, and against itself with crashes.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::Graph;
use crate::naive::{Added, Naive};
use crate::scramble::Dice;
use crate::streams::stream;
use crate::world::{World, uninterrupted};
use proptest::prelude::*;
use spanmill::config::Config;
use spanmill::core::model::{Counter, Exemplar, Family, Ledger, Natives, Numbers};
use spanmill::core::settings::{
    Dimension, DimensionMapping, FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue, Profile, Settings,
    SpanMetrics, Tenants, TimeSource,
};
use spanmill::core::tasks::span::SpanSettings;
use spanmill::tools::totals::{Series, Spelled, Sum, Totals};

fn settings(dice: &mut Dice) -> SpanSettings {
    let mut config = Config::default();
    config.kafka.shards = 1 + dice.below(5) as u32;
    config.core.service_graphs.wait = [0, 1_000, 10_000, 40_000][dice.below(4) as usize];
    // Nothing in the streams is so far ahead.
    config.core.time.max_future = 3_600_000;
    config.core.service_graphs.max_items = [2, 6, 1_000][dice.below(3) as usize];
    if dice.below(2) == 0 {
        config.core.time.source = TimeSource::SpanEnd;
        config.core.time.lateness = [0, 1_000, 20_000, 300_000][dice.below(4) as usize];
    }
    span_metrics(dice, &mut config.core.span_metrics);
    SpanSettings::from(&config)
}

fn span_metrics(dice: &mut Dice, settings: &mut SpanMetrics) {
    let dimension = |name: &str, default: Option<&str>| Dimension {
        or: Vec::new(),
        name: name.to_owned(),
        default: default.map(str::to_owned),
    };
    match dice.below(4) {
        0 => settings.dimensions = vec![dimension("http.method", None), dimension("user.id", Some("nobody"))],
        1 => settings.latency_dimensions = vec![dimension("http.route", None)],
        2 => settings.calls_dimensions = vec![dimension("server.address", Some("here")), dimension("db.name", None)],
        _ => {}
    }
    if dice.below(3) == 0 {
        let source_labels = ["peer.service", "db.system", "net.peer.name"].map(str::to_owned).to_vec();
        settings.dimension_mappings = vec![DimensionMapping { name: "a.b".into(), source_labels, join: "/".into() }];
    }
    let block = |key: &str, value: &str| {
        let attribute = PolicyAttribute { key: key.to_owned(), value: PolicyValue::Text(value.to_owned()) };
        Some(PolicyMatch { match_type: MatchType::Strict, attributes: vec![attribute] })
    };
    let (include, exclude) = match dice.below(8) {
        0 => (None, block("span.http.route", "orders")),
        1 => (block("resource.service.name", "shop"), None),
        2 => (block("resource.service.name", "shop"), block("span.user.id", "ledger")),
        _ => return,
    };
    settings.filter_policies = vec![FilterPolicy { include, include_any: None, exclude }];
}

/// The cells and exemplars that the plain implementation would have. Only classic histograms are known here, without
/// weights.
fn cells_of(added: &Added, set: &Spelled) -> Sum {
    let mut cells = vec![0; set.layout.cells()];
    for (c, n) in added.counters.iter().enumerate().take(set.layout.family().counters().len()) {
        cells[set.layout.counter(c)] = *n;
    }
    let mut best: BTreeMap<u32, Exemplar> = BTreeMap::new();
    for (h, observed) in added.observed.iter().enumerate().take(set.layout.family().histograms().len()) {
        let (first, bounds) = (set.layout.histogram(h), set.layout.bounds(h));
        for (ns, example) in observed {
            let bucket = first + bounds.iter().position(|bound| ns <= bound).unwrap_or(bounds.len());
            cells[bucket] += 1;
            cells[first + bounds.len() + 1] += ns;
            let Some((at, trace_id)) = example else { continue };
            let trace_id = trace_id.as_slice().try_into().expect("16 bytes");
            let candidate = Exemplar { at: *at, trace_id, value_ns: *ns };
            let slot = best.entry(bucket as u32).or_insert(candidate);
            *slot = candidate.max(*slot);
        }
    }
    let numbers = Numbers { cells: cells.into_boxed_slice(), natives: Natives::default() };
    Sum { numbers, exemplars: best.into_iter().collect() }
}

/// Compares the series of service graphs; the error names the first that differs.
fn same_graph(totals: &Totals, graph: &Graph, tenant: &str) -> Result<(), String> {
    let edges = |series: &Series| series.name.starts_with("traces_service_graph_");
    let values: BTreeMap<_, _> = totals.values(tenant).into_iter().filter(|(series, _)| edges(series)).collect();
    let expected = graph.values.iter().filter(|((of, _), _)| of == tenant).map(|((_, series), value)| (series, value));
    for (series, value) in expected.clone() {
        let info = series.name.ends_with("connection_info");
        let found = values.get(series).map(|found| if info { found.min(1.0) } else { *found });
        if found.is_none_or(|found| (found - value).abs() > 1e-8 * value.abs().max(1.0)) {
            return Err(format!("{series} is {found:?}, not {value}"));
        }
    }
    if let Some(more) = values.keys().find(|series| !expected.clone().any(|(known, _)| known == *series)) {
        return Err(format!("there is {more}"));
    }
    let exemplars: BTreeMap<_, _> = totals.exemplars(tenant).into_iter().filter(|(s, _)| edges(s)).collect();
    let expected = graph.exemplars.iter().filter(|((of, _), _)| of == tenant);
    let expected: BTreeMap<_, _> = expected.map(|((_, series), exemplar)| (series.clone(), *exemplar)).collect();
    if exemplars == expected { Ok(()) } else { Err("exemplars differ".to_owned()) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_fast_path_agrees_with_the_plain_one(seed: u64) {
        let dice = &mut Dice(seed);
        let settings = crate::variety::graphs(settings(dice), dice);
        let config = settings.tenants.defaults().clone();
        let graphs = format!("{:?}", config.service_graphs);
        // What span metrics are called there is the matter of another test.
        let tempo = config.naming.profile == Profile::Tempo;
        let events = stream(dice, 60);
        let (mut world, mut plain) = (World::new(&settings), Naive::new(&settings));
        for (i, event) in events.iter().enumerate() {
            world.event(&events, i);
            plain.event(event);
            prop_assert_eq!(world.task.pending_edges(), plain.pending(), "{}", graphs);
        }
        plain.advance(world.end_of_step() - 1);
        let (totals, ledger, _) = world.finish(&events);
        let (mut spans, mut edges) = (BTreeMap::new(), BTreeSet::new());
        for (step, set, sum) in totals.steps() {
            let key = (step, set.tenant.clone(), set.labels.clone());
            match set.layout.family() {
                Family::ServiceGraph => drop(edges.insert(key)),
                _ => drop(spans.insert(key, (set, sum))),
            }
        }
        if tempo {
            prop_assert_eq!(spans.keys().collect::<Vec<_>>(), plain.added.keys().collect::<Vec<_>>());
        }
        for (key, (set, sum)) in spans.into_iter().filter(|_| tempo) {
            prop_assert_eq!(sum, &cells_of(&plain.added[&key], set), "{:?}", key);
        }
        for (counter, value) in ledger.iter().filter(|(counter, _)| tempo || !counter.name().starts_with("spans_")) {
            let expected = plain.counters.get(counter.name()).copied().unwrap_or(0);
            prop_assert_eq!(value, expected, "{} with {}", counter.name(), graphs);
        }
        prop_assert_eq!(edges, plain.edges, "{}", graphs);
        for tenant in ["one", "other"] {
            let found = same_graph(&totals, &plain.graph, tenant);
            prop_assert!(found.is_ok(), "{:?} with {}", found, graphs);
        }
    }

    #[test]
    fn crashes_and_cuts_change_nothing(seed: u64) {
        let dice = &mut Dice(seed);
        let mut settings = crate::variety::graphs(settings(dice), dice);
        let events = stream(dice, 60);
        settings.max_future = [1_000, 5_000, 100_000][dice.below(3) as usize];
        let expected = uninterrupted(&settings, &events);
        settings.max_commit_bytes = [1, 200, 2_000, 1 << 20][dice.below(4) as usize];
        let calm = 1 + dice.below(20);
        let (mut world, mut i) = (World::new(&settings), 0);
        let mut crashes = 0;
        while i < events.len() {
            world.event(&events, i);
            i += 1;
            if dice.below(calm) == 0 {
                let cut = world.task.cut();
                world.commit(cut, &events, i);
            }
            if crashes < 60 && dice.below(calm) == 0 {
                crashes += 1;
                i = world.crash(&events, dice);
            }
        }
        let got = world.finish(&events);
        prop_assert_eq!(&got.1, &expected.1, "{:?}", settings.tenants.defaults().service_graphs);
        prop_assert!(got == expected, "sums or pending edges differ");
    }
}

/// The same, and perhaps calls inside of calls count once, which the plain rules do not know.
fn with_calls(settings: SpanSettings, dice: &mut Dice) -> SpanSettings {
    let mut config = Settings::clone(settings.tenants.defaults());
    config.service_graphs.nested_once = dice.below(2) == 0;
    SpanSettings { tenants: Tenants::from(config), ..settings }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_edge_stays_accounted_for_when_settings_change(seed: u64) {
        let dice = &mut Dice(seed);
        let settings = with_calls(crate::variety::graphs(settings(dice), dice), dice);
        let events = stream(dice, 60);
        let (mut world, mut i) = (World::new(&settings), 0);
        let mut changes = 0;
        while i < events.len() {
            // The ledger's equation is checked after each event.
            world.event(&events, i);
            i += 1;
            if dice.below(6) == 0 && changes < 20 {
                changes += 1;
                world.settings = with_calls(crate::variety::graphs(settings.clone(), dice), dice);
                if dice.below(2) == 0 {
                    world.task.reconfigure(&world.settings);
                } else {
                    i = world.crash(&events, dice);
                }
            }
        }
        world.finish(&events);
        while world.task.tick(i64::MAX / 4).is_some() {}
        prop_assert_eq!(world.task.pending_edges(), 0);
    }
}

#[test]
fn the_random_topics_reach_every_outcome() {
    let (mut ledger, mut rebuilt) = (Ledger::default(), 0);
    for seed in 0..60 {
        let dice = &mut Dice(seed);
        let settings = crate::variety::graphs(settings(dice), dice);
        let events = stream(dice, 60);
        let mut world = World::new(&settings);
        for i in 0..events.len() {
            world.event(&events, i);
        }
        world.crash(&events, dice);
        rebuilt += world.rebuilt;
        ledger.merge(&world.finish(&events).1);
    }
    let never = [
        Counter::RecordsPassedOver,
        Counter::RecordsReadAgain,
        Counter::RecordsLost,
        Counter::SpansDroppedDisabled,
        Counter::RecordsFromFuture,
        Counter::EdgesLost,
        Counter::SpanNamesSanitized,
        Counter::SpanEventsCounted,
        Counter::SpanEventsDroppedInvalidUtf8,
        Counter::InfoDroppedInvalidUtf8,
        Counter::RecordsPassedOver,
        Counter::RecordsReadAgain,
        Counter::RecordsIsolated,
        Counter::SpansFromFuture,
        Counter::RecordsUnreadable,
        Counter::RecordsNotForMetrics,
        // Counters of features that are off.
        Counter::SpansRepairedUtf8,
        Counter::SpanEventsRepairedUtf8,
        Counter::EdgesRepairedUtf8,
        Counter::InfoRepairedUtf8,
        Counter::SloEventsCounted,
        Counter::SloEventsDroppedInvalidUtf8,
        Counter::SloEventsRepairedUtf8,
        Counter::SpansTooLong,
        Counter::EdgesTooLong,
        Counter::EdgesDroppedNested,
    ];
    let is_off = |name: &str| {
        let of_duplicates = ["spans_dropped_duplicate", "spans_not_remembered"].contains(&name);
        of_duplicates || name.starts_with("attribute_values_") || name.starts_with("trace")
    };
    for (counter, value) in ledger.iter() {
        let expected = never.contains(&counter) || is_off(counter.name());
        assert_eq!(value == 0, expected, "{} is {value}", counter.name());
    }
    assert!(rebuilt > 100, "only {rebuilt} records were read again");
}
