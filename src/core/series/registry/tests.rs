#[path = "../../../../tests/support/adversary.rs"]
mod adversary;

use super::*;
use crate::config::Tenants;
use crate::config::settings::Config;
use crate::core::model::wire::Reader;
use crate::core::model::{Family, LabelBuilder, Layout, Namer};

#[test]
fn every_metric_of_a_family_has_its_bit() {
    for family in [
        Family::SpanMetrics,
        Family::ServiceGraph,
        Family::SpanEvents,
        Family::TargetInfo,
        Family::HostInfo,
        Family::EdgeSeen,
        Family::Slo,
        Family::AttributeCounter,
        Family::AttributeSum,
        Family::AttributeHistogram,
        Family::TraceDuration,
        Family::TraceShape,
        Family::CriticalPath,
        Family::SelfTime,
        Family::TraceErrors,
        Family::TraceCalls,
        Family::TraceCallGroups,
        Family::TraceFanOut,
        Family::TraceQuality,
        Family::SpansByRoot,
    ] {
        assert!(family.counters().len() + family.histograms().len() <= u8::BITS as usize);
    }
}

/// The default span metrics: 14 bounds, 15 buckets. What is measured, with labels, is in `tests/allocations/main.rs`.
#[test]
fn the_account_knows_sets_open_steps_and_what_is_forgotten() {
    const SETS: usize = 20_000;
    const STEP: Millis = 15_000;
    let config = Config::default();
    let mut registry = Registry::new(SeriesSettings::from(&Tenants::from(config.clone())));
    let layout = registry.layout(&Layout::new(Family::SpanMetrics, &config.core.span_metrics.bounds_ns));
    let empty = registry.bytes();
    let mut labels = LabelBuilder::default();
    for i in 0..SETS {
        labels.set("service", &i.to_string());
        let block = labels.block();
        let name = Namer::default().name("t", Family::SpanMetrics, &block);
        let set = SetDelta { name, layout: 0, spelled: Some(("t", &block)), ..SetDelta::default() };
        registry.add(STEP, STEP, &[layout], &[set], |lost| panic!("{lost}"));
    }
    let open = registry.bytes() - empty;
    registry.close(STEP, Some(STEP));
    let closed = registry.bytes() - empty;
    assert!((50 * SETS..450 * SETS).contains(&closed) && open > closed + 30 * SETS, "{open} {closed}");
    let later = STEP + config.core.series.stale_after;
    registry.close(later, Some(later));
    let much_later = later + config.core.series.stale_after + config.core.series.forget_after + STEP;
    registry.close(much_later, Some(much_later));
    assert_eq!((registry.label_sets(), registry.sets.iter().count()), (0, 0));
    assert!(registry.bytes() < closed, "places stay, what was behind them goes");
}

fn block_of(service: &str) -> Vec<u8> {
    let mut labels = LabelBuilder::default();
    labels.set("service", service);
    labels.block()
}

fn registry() -> (Registry, LayoutId) {
    let mut registry = Registry::new(SeriesSettings::from(&Tenants::from(Config::default())));
    let layout = registry.layout(&Layout::new(Family::SpanMetrics, &[100]));
    (registry, layout)
}

#[test]
fn a_name_that_is_spelled_out_in_two_ways_is_said_and_never_merged() {
    let (mut registry, layout) = registry();
    let (a, b) = (block_of("a"), block_of("b"));
    let name = Namer::default().name("t", Family::SpanMetrics, &a);
    let set = |tenant, block| SetDelta { name, spelled: Some((tenant, block)), ..SetDelta::default() };
    let mut lost = Vec::new();
    registry.add(1, 1, &[layout], &[set("t", &a), set("t", &b), set("u", &a), set("t", &a)], |e| lost.push(e));
    assert_eq!((registry.label_sets(), lost), (1, vec![AddError::Collides(name); 2]));
}

#[test]
fn sets_of_one_old_name_are_apart_while_they_are_spelled_and_refused_when_a_delta_record_cannot_tell_them() {
    let (mut registry, layout) = registry();
    let header = block_of(&"x".repeat(600)).len() - 600;
    let services = adversary::texts_of_one_xxh3(2, 8 + 1 + 1 + header, 600);
    let blocks: Vec<_> = services.iter().chain(&["alone".to_owned()]).map(|service| block_of(service)).collect();
    let old = |block: &[u8]| SetName::old("t", Family::SpanMetrics, block);
    assert_eq!(old(&blocks[0]), old(&blocks[1]), "the attack is one");
    let spelled = |block| SetDelta { name: old(block), spelled: Some(("t", block)), ..SetDelta::default() };
    let named = |block| SetDelta { spelled: None, ..spelled(block) };
    let mut lost = Vec::new();
    let mut sets: Vec<_> = blocks.iter().map(|block| spelled(block)).collect();
    registry.rename(1, &[layout], &mut sets, |e| lost.push(e));
    registry.add(1, 1, &[layout], &sets, |e| lost.push(e));
    assert_eq!((registry.label_sets(), &lost), (3, &vec![]));
    // A new owner knows them by their labels.
    let mut bytes = Vec::new();
    registry.encode(&mut bytes);
    let mut again = Registry::decode(registry.settings.clone(), 4, &mut Reader::new(&bytes)).expect("our own bytes");
    for registry in [&mut registry, &mut again] {
        let (mut sets, mut lost) = (vec![named(&blocks[0]), named(&blocks[2])], Vec::new());
        registry.rename(2, &[layout], &mut sets, |e| lost.push(e));
        registry.add(1, 2, &[layout], &sets, |e| lost.push(e));
        assert_eq!(lost, [AddError::Collides(old(&blocks[0]))]);
        assert_eq!((sets.len(), registry.label_sets()), (1, 3));
    }
    // No source has used an old name for so long that no source can any more.
    let late = 3 + registry.settings.memory();
    registry.close(late, Some(late));
    assert!(registry.aliases.is_empty());
}
