//! Spans that come again count once: whatever features are on, a topic with copies of its records comes to what it comes to
//! without them.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use spanmill::config::Tenants;
use spanmill::core::model::Counter;
use spanmill::core::tasks::span::{SpanSettings, StepCut};
use spanmill::tools::totals::{Series, Totals};

use crate::features::enrich::enriched;
use crate::features::owner::{Disorder, run};
use crate::features::settings::random_tenants;
use crate::scramble::Dice;
use crate::streams::{Event, Rec};

/// Longer than any stream.
const WINDOW: i64 = 3_600_000;

/// The spans of a record, if it has any and all can be told apart.
fn spans_of(record: &Rec) -> Option<u64> {
    let request = ExportTraceServiceRequest::decode(record.value.as_slice()).ok()?;
    record.tenant?;
    let spans = || request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans);
    let is_id = |id: &[u8], len| id.len() == len && id.iter().any(|b| *b != 0);
    let valid = spans().all(|span| is_id(&span.trace_id, 16) && is_id(&span.span_id, 8));
    (valid && request.resource_spans.iter().all(|r| r.scope_spans.iter().any(|s| !s.spans.is_empty())))
        .then(|| spans().count() as u64)
        .filter(|spans| *spans > 0)
}

/// The records with room between their offsets, and the same with copies: at once, and some records later.
fn with_copies(dice: &mut Dice, events: &[Event]) -> (Vec<Event>, Vec<Event>, u64) {
    let (mut once, mut again, mut earlier, mut copies) = (Vec::new(), Vec::new(), Vec::<Rec>::new(), 0);
    for event in events {
        let Event::Record(record) = event else {
            once.push(event.clone());
            again.push(event.clone());
            continue;
        };
        let record = Rec { offset: record.offset * 4, ..record.clone() };
        once.push(Event::Record(record.clone()));
        again.push(Event::Record(record.clone()));
        if spans_of(&record).is_some() {
            earlier.push(record.clone());
        }
        for copy in 1..=dice.below(3) as i64 {
            if earlier.is_empty() {
                break;
            }
            let copied = &earlier[dice.below(earlier.len() as u64) as usize];
            copies += spans_of(copied).unwrap_or_default();
            // It takes stream time nowhere.
            let (offset, timestamp) = (record.offset + copy, record.timestamp);
            again.push(Event::Record(Rec { offset, timestamp, ..copied.clone() }));
        }
    }
    (once, again, copies)
}

fn totals(cuts: &[StepCut]) -> BTreeMap<(&'static str, Series), u64> {
    let mut totals = Totals::default();
    for record in cuts.iter().flat_map(|cut| cut.delta_records.iter().flatten()) {
        totals.add(record).expect("delta records add up");
    }
    let of = |tenant| totals.values(tenant).into_iter().map(move |(series, value)| ((tenant, series), value.to_bits()));
    ["one", "other", "nobody", "acme", "a"].into_iter().flat_map(of).collect()
}

fn dropped(cuts: &[StepCut], counter: Counter) -> u64 {
    cuts.last().map_or(0, |cut| cut.ledger.get(counter))
}

#[test]
fn a_topic_with_copies_of_its_records_comes_to_what_it_is_without_them_over_any_owners() {
    let (mut copied, mut series) = (0, 0);
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut config = (**random_tenants(&mut dice).defaults()).clone();
        (config.core.duplicates.window, config.core.duplicates.max_spans) = (WINDOW, 100_000);
        let mut settings = SpanSettings::from(&Tenants::from(config));
        settings.max_future = WINDOW;
        let (once, again, copies) = with_copies(&mut dice, &enriched(&mut Dice(seed + 1_000), 1, 40));
        let (plain, doubled) = (run(&settings, 0, &once, None), run(&settings, 0, &again, None));
        let expected = totals(&plain);
        assert!(expected == totals(&doubled), "seed {seed}: copies count");
        let number = |counter| dropped(&doubled, counter) - dropped(&plain, counter);
        assert_eq!([Counter::SpansRead, Counter::SpansDroppedDuplicate].map(number), [copies; 2], "seed {seed}");
        assert_eq!(number(Counter::SpansNotRemembered), 0);
        for _ in 0..2 {
            let calm = 1 + dice.below(20);
            let cuts = run(&settings, 0, &again, Some(Disorder { dice: &mut dice, calm }));
            assert!(expected == totals(&cuts), "seed {seed}: owners count copies");
            assert!(doubled.last().map(|cut| &cut.ledger) == cuts.last().map(|cut| &cut.ledger), "seed {seed}");
        }
        (copied, series) = (copied + copies, series + expected.len());
    }
    assert!(copied > 1_000 && series > 3_000, "{copied} copies, {series} series");
}

#[test]
fn without_a_window_every_copy_counts_and_a_commit_has_no_byte_of_it() {
    let events = enriched(&mut Dice(5), 1, 40);
    let (_, again, copies) = with_copies(&mut Dice(9), &events);
    let settings = |window| {
        let mut config = spanmill::config::Config::default();
        config.core.duplicates.window = window;
        SpanSettings { max_future: WINDOW, ..SpanSettings::from(&config) }
    };
    let (off, on) = (run(&settings(0), 0, &again, None), run(&settings(WINDOW), 0, &again, None));
    let listed = |cuts: &[StepCut]| cuts.iter().any(|cut| cut.live.first() == Some(&6));
    assert!(!listed(&off) && listed(&on) && copies > 0);
    assert_eq!(dropped(&off, Counter::SpansDroppedDuplicate), 0);
    assert!(dropped(&on, Counter::SpansDroppedDuplicate) >= copies);
    let mut ledger = Vec::new();
    off.last().expect("a tick").ledger.encode(&mut ledger);
    assert!(ledger.len() < Counter::ALL.len(), "counters of duplicates are not there: {}", ledger.len());
}
