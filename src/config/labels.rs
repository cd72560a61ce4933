//! Which labels of span metrics would collide.

use std::collections::BTreeMap;

use crate::core::settings::labels::{SCOPE_LABELS, dimension_label};
use crate::core::settings::{Dimension, Settings};

/// The longest name of a span kind.
const LONGEST_KIND: &str = "SPAN_KIND_UNSPECIFIED";

/// Everything about labels of span metrics that contradicts itself, one sentence each: two dimensions or mappings that
/// would become one label, one without a name, and buckets that depend on a label that is switched off or cut.
#[must_use]
pub fn collisions(config: &Settings) -> Vec<String> {
    let settings = &config.span_metrics;
    let common = || {
        let mappings = settings.dimension_mappings.iter().map(|m| m.name.as_str());
        let mappings = mappings.enumerate().map(|(i, name)| (format!("dimension_mappings[{i}]"), name));
        listed("dimensions", &settings.dimensions).chain(mappings)
    };
    let mut problems = Vec::new();
    for (key, more) in [
        ("calls_dimensions", &settings.calls_dimensions),
        ("latency_dimensions", &settings.latency_dimensions),
        ("events.dimensions", &settings.event_dimensions),
    ] {
        label_set(config, common().chain(listed(key, more)), &mut problems);
    }
    problems.extend(bucket_sets(config));
    problems.extend(cut_bucket_sets(config));
    problems
}

fn listed<'a>(key: &'static str, dimensions: &'a [Dimension]) -> impl Iterator<Item = (String, &'a str)> {
    dimensions.iter().enumerate().map(move |(i, d)| (format!("{key}[{i}]"), d.name.as_str()))
}

/// What is wrong with the labels of one label set.
fn label_set<'a>(config: &Settings, all: impl Iterator<Item = (String, &'a str)>, problems: &mut Vec<String>) {
    let mut seen: BTreeMap<String, (String, &str)> = BTreeMap::new();
    if !config.span_metrics.scopes.is_empty() {
        seen.extend(SCOPE_LABELS.map(|label| (label.to_owned(), ("scopes".to_owned(), label))));
    }
    let mut tell = |problem: String| {
        // A problem that all label sets share is reported once.
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    };
    for (place, name) in all {
        let label = dimension_label(config, name);
        if label.is_empty() {
            tell(format!(
                "span_metrics.{place} ({name:?}) does not become a label; name an attribute with a letter, or remove \
                 it"
            ));
        } else if let Some((other_place, other)) = seen.get(&label) {
            tell(format!(
                "span_metrics.{place} ({name:?}) and span_metrics.{other_place} ({other:?}) would both become the label \
                 {label:?}; remove one, or join them in dimension_mappings under another name"
            ));
        } else {
            seen.insert(label, (place, name));
        }
    }
}

/// One label set has one layout, so what decides the buckets must be among the labels.
fn bucket_sets(config: &Settings) -> impl Iterator<Item = String> {
    let settings = &config.span_metrics;
    settings.bucket_sets.iter().enumerate().flat_map(move |(i, set)| {
        let by_service = !set.services.is_empty() && !settings.intrinsic.service;
        let by_kind = !set.kinds.is_empty() && !settings.intrinsic.span_kind;
        [(by_service, "services", "service"), (by_kind, "kinds", "span_kind")]
            .into_iter()
            .filter(|(wrong, ..)| *wrong)
            .map(move |(_, key, label)| {
                format!(
                    "span_metrics.bucket_sets[{i}].{key} and span_metrics.intrinsic_dimensions.{label} contradict each \
                     other: series without that label would need two sets of buckets; switch the label on, or remove {key}"
                )
            })
    })
}

/// Nor may it be truncated: two services, or two kinds, that are cut to one label would need two layouts.
fn cut_bucket_sets(config: &Settings) -> impl Iterator<Item = String> {
    let most = config.limits.max_label_value_length;
    config.span_metrics.bucket_sets.iter().enumerate().flat_map(move |(i, set)| {
        // A service that is cut is longer than the limit, so it can equal none that is shorter.
        let services = set.services.iter().map(|name| name.len() + 1).max().unwrap_or(0);
        let kinds = if set.kinds.is_empty() { 0 } else { LONGEST_KIND.len() };
        let wrong = [(services, "services"), (kinds, "kinds")].into_iter().filter(move |(least, _)| most < *least);
        wrong.map(move |(least, key)| {
            format!(
                "span_metrics.bucket_sets[{i}].{key} and limits.max_label_value_length ({most}) contradict each other: \
                 labels that are cut to the same text would need two sets of buckets; set the limit to at least {least}, \
                 or remove {key}"
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::settings::{BucketSet, DimensionMapping};

    fn dimensions(names: &[&str]) -> Vec<Dimension> {
        names.iter().map(|name| Dimension { or: Vec::new(), name: (*name).to_owned(), default: None }).collect()
    }

    fn mapping(name: &str) -> DimensionMapping {
        DimensionMapping { name: name.to_owned(), source_labels: vec!["a".to_owned()], join: "/".to_owned() }
    }

    #[test]
    fn the_defaults_contradict_nothing() {
        assert_eq!(collisions(&Settings::default()), Vec::<String>::new());
    }

    #[test]
    fn two_dimensions_that_become_one_label_are_both_named_once() {
        let mut config = Settings::default();
        config.span_metrics.dimensions = dimensions(&["a.b", "c", "a_b"]);
        let problems = collisions(&config);
        assert_eq!(problems.len(), 1, "{problems:?}");
        for part in ["dimensions[2] (\"a_b\")", "dimensions[0] (\"a.b\")", "the label \"a_b\""] {
            assert!(problems[0].contains(part), "{part} is not in {}", problems[0]);
        }
    }

    #[test]
    fn a_mapping_collides_with_a_dimension_and_with_another_mapping() {
        let mut config = Settings::default();
        config.span_metrics.dimensions = dimensions(&["foo_bar"]);
        config.span_metrics.dimension_mappings = vec![mapping("foo.bar"), mapping("x"), mapping("x")];
        assert_eq!(collisions(&config).len(), 2);
    }

    #[test]
    fn dimensions_of_calls_and_of_latency_do_not_meet() {
        let mut config = Settings::default();
        config.span_metrics.calls_dimensions = dimensions(&["a"]);
        config.span_metrics.latency_dimensions = dimensions(&["a"]);
        assert_eq!(collisions(&config), Vec::<String>::new());
        config.span_metrics.dimensions = dimensions(&["a"]);
        assert_eq!(collisions(&config).len(), 2);
    }

    #[test]
    fn names_that_are_cut_to_the_same_label_collide() {
        let mut config = Settings::default();
        config.limits.max_label_name_length = 4;
        config.span_metrics.dimensions = dimensions(&["http.method", "http.status"]);
        assert_eq!(collisions(&config).len(), 1);
    }

    #[test]
    fn scope_labels_collide_only_when_there_are_scopes() {
        let mut config = Settings::default();
        config.span_metrics.dimensions = dimensions(&["span.instrumentation.scope.name", ""]);
        assert_eq!(collisions(&config).len(), 1);
        config.span_metrics.scopes = vec!["io.opentelemetry.jdbc".to_owned()];
        assert_eq!(collisions(&config).len(), 2);
    }

    #[test]
    fn buckets_by_kind_need_the_label() {
        let mut config = Settings::default();
        let set = BucketSet {
            services: vec!["cart".to_owned()],
            kinds: vec!["SPAN_KIND_SERVER".to_owned()],
            bounds_ns: vec![1],
        };
        config.span_metrics.bucket_sets = vec![set];
        assert_eq!(collisions(&config), Vec::<String>::new());
        config.span_metrics.intrinsic.span_kind = false;
        config.span_metrics.intrinsic.service = false;
        let problems = collisions(&config);
        assert_eq!(problems.len(), 2);
        assert!(problems[1].contains("bucket_sets[0].kinds") && problems[1].contains("intrinsic_dimensions.span_kind"));
    }

    #[test]
    fn buckets_need_labels_that_are_not_cut() {
        let mut config = Settings::default();
        let (services, kinds) = (vec!["cart".to_owned()], vec!["SPAN_KIND_SERVER".to_owned()]);
        config.span_metrics.bucket_sets = vec![BucketSet { services, kinds, bounds_ns: vec![1] }];
        for (limit, wrong) in [(21, 0), (20, 1), (5, 1), (4, 2)] {
            config.limits.max_label_value_length = limit;
            let problems = collisions(&config);
            assert_eq!(problems.len(), wrong, "{problems:?}");
            assert!(problems.iter().all(|p| p.contains(&format!("max_label_value_length ({limit})"))), "{problems:?}");
        }
    }
}
