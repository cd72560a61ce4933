//! What causes the series: distinct values by tenant, service and label.
//!
//! Exact, by cryptographic hashes of the values, and independent of the order in which label sets are added.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::model::hash::digest;
use crate::core::model::labels::service_of;
use crate::core::model::{Family, labels};

/// How many values a report shows of a label.
const SAMPLES: usize = 3;

/// A label of a service, and how many values it has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TopLabel {
    /// The tenant.
    pub tenant: String,
    /// The service; the client, for edges.
    pub service: String,
    /// The label.
    pub label: String,
    /// How many values the label has.
    pub values: u64,
    /// How many label sets of the service have the label.
    pub label_sets: u64,
    /// Some of the values, in a fixed random order.
    pub samples: Vec<String>,
}

/// Label sets, counted.
#[derive(Debug, Default)]
pub struct Cardinality {
    labels: BTreeMap<(String, String, String), Label>,
}

#[derive(Debug, Default)]
struct Label {
    values: BTreeSet<u128>,
    label_sets: u64,
    /// The values with the least hashes.
    samples: Vec<(u128, String)>,
}

// === impl Cardinality ===

impl Cardinality {
    /// Counts one label set. The same one must not be added twice.
    pub fn add(&mut self, tenant: &str, family: Family, block: &[u8]) {
        let service = service_of(family, block);
        for (name, value) in labels::written(family, block) {
            let key = (tenant.to_owned(), service.to_owned(), name.to_owned());
            self.labels.entry(key).or_default().add(value);
        }
    }

    /// The labels with the most values, greatest first, at most `most`. Labels with a single value are skipped.
    #[must_use]
    pub fn top_labels(&self, most: usize) -> Vec<TopLabel> {
        let mut all: Vec<_> = self.labels.iter().filter(|(_, label)| label.values.len() > 1).collect();
        // Labels with equal counts stay in the order of their names.
        all.sort_by_key(|(_, label)| std::cmp::Reverse(label.values.len()));
        all.into_iter()
            .take(most)
            .map(|((tenant, service, name), label)| label.top_label(tenant, service, name))
            .collect()
    }
}

// === impl Label ===

impl Label {
    fn add(&mut self, value: &str) {
        self.label_sets += 1;
        let hash = digest(value.as_bytes());
        if self.values.insert(hash) {
            let at = self.samples.partition_point(|(h, _)| *h < hash);
            if at < SAMPLES {
                self.samples.insert(at, (hash, value.to_owned()));
                self.samples.truncate(SAMPLES);
            }
        }
    }

    fn top_label(&self, tenant: &str, service: &str, name: &str) -> TopLabel {
        TopLabel {
            tenant: tenant.to_owned(),
            service: service.to_owned(),
            label: name.to_owned(),
            values: self.values.len() as u64,
            label_sets: self.label_sets,
            samples: self.samples.iter().map(|(_, value)| value.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::LabelBuilder;

    fn block(service: &str, name: &str) -> Vec<u8> {
        let mut labels = LabelBuilder::default();
        labels.set("service", service);
        labels.set("span_name", name);
        labels.set("span_kind", "SPAN_KIND_SERVER");
        labels.block()
    }

    #[test]
    fn the_service_with_the_most_values_of_a_label_comes_first() {
        let (mut forth, mut back) = (Cardinality::default(), Cardinality::default());
        let names =
            (0..100).map(|i| block("cart", &format!("GET /cart/{i}"))).chain([block("shop", "a"), block("shop", "b")]);
        let blocks: Vec<_> = names.collect();
        blocks.iter().for_each(|b| forth.add("t", Family::SpanMetrics, b));
        blocks.iter().rev().for_each(|b| back.add("t", Family::SpanMetrics, b));
        let found = forth.top_labels(10);
        assert_eq!(found, back.top_labels(10), "the order of adding does not matter");
        let shown: Vec<_> = found.iter().map(|o| (&*o.service, &*o.label, o.values, o.label_sets)).collect();
        assert_eq!(shown, [("cart", "span_name", 100, 100), ("shop", "span_name", 2, 2)]);
        assert_eq!(found[0].samples.len(), 3);
        assert!(found[0].samples.iter().all(|s| s.starts_with("GET /cart/")));
    }
}
