use super::*;
use crate::config::Tenants;
use crate::config::settings::Config;
use crate::model::{Family, LabelBuilder};

#[test]
fn every_metric_of_a_family_has_its_bit() {
    for family in [Family::SpanMetrics, Family::ServiceGraph, Family::SpanEvents, Family::TargetInfo, Family::HostInfo]
    {
        assert!(family.counters().len() + family.histograms().len() <= u8::BITS as usize);
    }
}

/// The default span metrics: 14 bounds, 15 buckets.
#[test]
fn a_label_set_costs_less_than_450_bytes_besides_its_labels() {
    const SETS: usize = 20_000;
    let config = Config::default();
    let mut registry = Registry::new(SeriesSettings::from(&Tenants::from(config.clone())));
    let layout = Layout::new(Family::SpanMetrics, &config.span_metrics.bounds_ns);
    let mut labels = LabelBuilder::default();
    for i in 0..SETS {
        labels.set("service", &i.to_string());
        let block = labels.block();
        let name = SetName::of("t", Family::SpanMetrics, &block);
        let set = SetDelta { name, layout: 0, spelled: Some(("t", &block)), ..SetDelta::default() };
        registry.add(15_000, 15_000, &layout, &set).expect("spelled");
    }
    registry.close(15_000, Some(15_000));
    let numbers: usize = registry.sets.iter().flatten().map(|s| s.numbers.len() * 8).sum();
    let bytes = registry.sets.capacity() * size_of::<Option<LabelSet>>()
        + registry.order.capacity() * size_of::<u32>()
        + registry.index.allocation_size()
        + numbers;
    // Two heap blocks per set, each with the allocator's word.
    let per_set = bytes / SETS + 16;
    assert!(per_set < 450, "{per_set} bytes");
}
