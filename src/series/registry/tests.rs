use super::*;
use crate::config::Tenants;
use crate::config::settings::Config;
use crate::model::{Family, LabelBuilder, Layout, SetName};

#[test]
fn every_metric_of_a_family_has_its_bit() {
    for family in [Family::SpanMetrics, Family::ServiceGraph, Family::SpanEvents, Family::TargetInfo, Family::HostInfo]
    {
        assert!(family.counters().len() + family.histograms().len() <= u8::BITS as usize);
    }
}

/// The default span metrics: 14 bounds, 15 buckets. What is measured, with labels, is in `tests/allocations.rs`.
#[test]
fn the_account_knows_sets_open_steps_and_what_is_forgotten() {
    const SETS: usize = 20_000;
    const STEP: Millis = 15_000;
    let config = Config::default();
    let mut registry = Registry::new(SeriesSettings::from(&Tenants::from(config.clone())));
    let layout = registry.layout(&Layout::new(Family::SpanMetrics, &config.span_metrics.bounds_ns));
    let empty = registry.bytes();
    let mut labels = LabelBuilder::default();
    for i in 0..SETS {
        labels.set("service", &i.to_string());
        let block = labels.block();
        let name = SetName::of("t", Family::SpanMetrics, &block);
        let set = SetDelta { name, layout: 0, spelled: Some(("t", &block)), ..SetDelta::default() };
        registry.add(STEP, STEP, &[layout], &[set], |lost| panic!("{lost}"));
    }
    let open = registry.bytes() - empty;
    registry.close(STEP, Some(STEP));
    let closed = registry.bytes() - empty;
    assert!((50 * SETS..450 * SETS).contains(&closed) && open > closed + 30 * SETS, "{open} {closed}");
    let later = STEP + config.series.stale_after;
    registry.close(later, Some(later));
    let much_later = later + config.series.stale_after + config.series.forget_after + STEP;
    registry.close(much_later, Some(much_later));
    assert_eq!((registry.label_sets(), registry.sets.iter().count()), (0, 0));
    assert!(registry.bytes() < closed, "places stay, what was behind them goes");
}
