//! The span task on random topics: against a plain second implementation, and against itself with crashes.
#![allow(clippy::expect_used, reason = "helpers of tests")]

#[path = "common/naive.rs"]
mod naive;
#[allow(dead_code, reason = "only the dice are used here")]
#[path = "common/scramble.rs"]
mod scramble;
#[path = "common/streams.rs"]
mod streams;

use std::collections::BTreeMap;

use naive::{Added, Naive};
use proptest::prelude::*;
use scramble::Dice;
use spanmill::config::Config;
use spanmill::config::settings::{
    Dimension, DimensionMapping, FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue, SpanMetrics,
};
use spanmill::model::{Exemplar, Ledger, Natives, Numbers, Tally};
use spanmill::tasks::span::{Offer, Record, Restored, SpanSettings, SpanTask, StepCut};
use spanmill::tasks::totals::{Spelled, Sum, Totals};
use streams::{Event, Rec, stream};

const NOW: i64 = i64::MAX / 2;

fn settings(dice: &mut Dice) -> SpanSettings {
    let mut config = Config::default();
    config.kafka.shards = 1 + dice.below(5) as u32;
    config.service_graphs.wait = [0, 1_000, 10_000, 40_000][dice.below(4) as usize];
    config.service_graphs.max_items = [2, 6, 1_000][dice.below(3) as usize];
    span_metrics(dice, &mut config.span_metrics);
    SpanSettings::from(&config)
}

fn span_metrics(dice: &mut Dice, settings: &mut SpanMetrics) {
    let dimension =
        |name: &str, default: Option<&str>| Dimension { name: name.to_owned(), default: default.map(str::to_owned) };
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

fn borrow(r: &Rec) -> Record<'_> {
    Record { offset: r.offset, timestamp: r.timestamp, tenant: r.tenant, value: &r.value }
}

/// A partition with its journal. Everything that a crash forgets is in `task`.
struct World {
    settings: SpanSettings,
    task: SpanTask,
    /// The last commit, and the event to go on with after it.
    last: Option<(StepCut, usize)>,
    totals: Totals,
    rebuilt: u64,
}

impl World {
    fn new(settings: &SpanSettings) -> Self {
        let task = SpanTask::new(settings, "t".into(), 3, Restored::default()).expect("an empty journal");
        let mut world = Self { settings: settings.clone(), task, last: None, totals: Totals::default(), rebuilt: 0 };
        world.task.set_start(0);
        world
    }

    fn commit(&mut self, cut: Option<StepCut>, resume: usize) {
        let Some(cut) = cut else { return };
        let (next, k) = self.last.as_ref().map_or((0, 0), |(c, _)| (c.to, c.k + 1));
        assert_eq!((cut.from, cut.k), (next, k), "commits follow each other without gap or overlap");
        assert!(cut.reread_from <= cut.to);
        assert_eq!(cut.shares.len(), self.settings.shards as usize);
        assert_eq!(cut.ledger.unaccounted_spans(), 0);
        for share in cut.shares.iter().flatten() {
            self.totals.add(share).expect("every name was spelled");
        }
        self.last = Some((cut, resume));
    }

    fn event(&mut self, events: &[Event], i: usize) {
        match &events[i] {
            Event::Tick(to) => {
                let cut = self.task.tick(*to);
                assert!(cut.as_ref().is_none_or(|c| c.tick && c.stream_time == *to));
                self.commit(cut, i + 1);
            }
            Event::Record(r) => {
                while let Offer::CutFirst { cut } = self.task.offer(&borrow(r), NOW) {
                    assert!(cut.to <= r.offset && !cut.tick);
                    self.commit(Some(*cut), i);
                }
            }
        }
        let by_ledger = self.task.ledger().pending_edges();
        assert_eq!(by_ledger, self.task.pending_edges() as i128, "every edge is accounted for");
    }

    /// A new owner takes over; returns the event to go on with.
    fn crash(&mut self, events: &[Event], dice: &mut Dice) -> usize {
        let (restored, resume) = match &self.last {
            None => (Restored::default(), 0),
            Some((c, resume)) => {
                let (live, ledger) = (c.live.clone(), c.ledger.clone());
                let (next, stream_time) = (Some(c.to), Some(c.stream_time));
                (Restored { next, next_k: c.k + 1, stream_time, reread_from: c.reread_from, live, ledger }, *resume)
            }
        };
        self.task = SpanTask::new(&self.settings, "t".into(), 3, restored).expect("a sound journal");
        self.task.set_start(0);
        let start = self.task.start_offset().expect("known");
        for event in &events[..resume] {
            let Event::Record(r) = event else { continue };
            if r.offset >= start {
                assert!(matches!(self.task.offer(&borrow(r), NOW), Offer::Taken));
                self.rebuilt += 1;
            }
        }
        if matches!(events.get(resume), Some(Event::Tick(_)) | None) || dice.below(2) == 0 {
            let next = self.last.as_ref().map_or(0, |(c, _)| c.to);
            self.task.reached(next);
            assert!(!self.task.rebuilding());
        }
        resume
    }

    fn finish(&mut self, events: &[Event]) -> (Totals, Ledger, Vec<u8>) {
        let end = events.len();
        let cut = self.task.cut();
        self.commit(cut, end);
        // What expired after the last commit belongs to a step that is still open; a final tick brings it out.
        let cut = self.task.tick(NOW / 1_000 * 1_000);
        self.commit(cut, end);
        let (last, _) = self.last.clone().expect("the tick at least");
        (self.totals.clone(), last.ledger, last.live)
    }
}

fn uninterrupted(settings: &SpanSettings, events: &[Event]) -> (Totals, Ledger, Vec<u8>) {
    let mut world = World::new(settings);
    (0..events.len()).for_each(|i| world.event(events, i));
    world.finish(events)
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_fast_path_agrees_with_the_plain_one(seed: u64) {
        let dice = &mut Dice(seed);
        let settings = settings(dice);
        let events = stream(dice, 60);
        let (mut world, mut plain) = (World::new(&settings), Naive::new(&settings));
        for (i, event) in events.iter().enumerate() {
            world.event(&events, i);
            plain.event(event);
            prop_assert_eq!(world.task.pending_edges(), plain.pending());
        }
        let (totals, ledger, _) = world.finish(&events);
        let got: BTreeMap<_, _> =
            totals.steps().map(|(step, set, sum)| ((step, set.tenant.clone(), set.labels.clone()), (set, sum))).collect();
        prop_assert_eq!(got.keys().collect::<Vec<_>>(), plain.added.keys().collect::<Vec<_>>());
        for (key, (set, sum)) in got {
            prop_assert_eq!(sum, &cells_of(&plain.added[&key], set), "{:?}", key);
        }
        for (tally, value) in ledger.iter() {
            prop_assert_eq!(value, plain.tallies.get(tally.name()).copied().unwrap_or(0), "{}", tally.name());
        }
    }

    #[test]
    fn crashes_and_cuts_change_nothing(seed: u64) {
        let dice = &mut Dice(seed);
        let mut settings = settings(dice);
        let events = stream(dice, 60);
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
                world.commit(cut, i);
            }
            if crashes < 60 && dice.below(calm) == 0 {
                crashes += 1;
                i = world.crash(&events, dice);
            }
        }
        let got = world.finish(&events);
        prop_assert_eq!(&got.1, &expected.1);
        prop_assert!(got == expected, "sums or half edges differ");
    }
}

#[test]
fn the_random_topics_reach_every_outcome() {
    let (mut ledger, mut rebuilt) = (Ledger::default(), 0);
    for seed in 0..60 {
        let dice = &mut Dice(seed);
        let settings = settings(dice);
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
        Tally::RecordsLost,
        Tally::SpansDroppedDisabled,
        Tally::RecordsFromFuture,
        Tally::EdgesLost,
        Tally::SpanNamesSanitised,
        Tally::SpanEventsCounted,
        Tally::SpanEventsDroppedInvalidUtf8,
        Tally::InfoDroppedInvalidUtf8,
    ];
    for (tally, value) in ledger.iter() {
        assert_eq!(value == 0, never.contains(&tally), "{} is {value}", tally.name());
    }
    assert!(rebuilt > 100, "only {rebuilt} records were read again");
}
