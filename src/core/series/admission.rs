//! Limits: which new label sets of a step become series, and what the others become.
//!
//! A shard decides when it closes a step, about all label sets that are new in it, in the order of their labels. So the
//! decision does not depend on the order of arrival, on the number of workers, or on when the shard looks.
//!
//! All label sets of a service lie in one shard (see [`service_of`]), so what holds for a service is exact. The limit
//! of a tenant is shared out between the shards in proportion to the label sets that the step has touched in each; the
//! delta records carry these numbers. So it holds over all workers, and never needs a shard to ask another.
//!
//! Nothing that is refused is lost: it is counted in a label set that has fewer labels, or a label without its value.
//! Within a tenant's limit no service is starved: the last fifth is for services that have less than an even share.

use std::collections::{BTreeMap, BTreeSet};

use super::tenancy::is_of_tenants;
use crate::core::model::labels::{METRIC_LABEL, put_label, service_label, service_of};
use crate::core::model::{Family, labels};
use crate::core::settings::Limits;
use crate::core::settings::labels::SLO_LABEL;

/// Stands for every further value of a label that has too many, as in Tempo.
const OVERFLOW_VALUE: &str = "__cardinality_overflow__";
/// The label of a set that stands for all sets that were refused, as in Tempo.
pub(super) const OVERFLOW_LABEL: &str = "metric_overflow";
/// The label that distinguishes overflow sets without a service, one for each shard: each has one writer.
const SHARD_LABEL: &str = "overflow_shard";

/// What a tenant has in this shard.
#[derive(Debug, Default)]
pub(super) struct Usage {
    series: u64,
    services: BTreeMap<String, u64>,
    /// The values, by service and label; with a limit, at most as many as it allows.
    values: BTreeMap<(String, String), BTreeSet<Box<str>>>,
}

/// A label set that is new.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) family: Family,
    pub(super) block: &'a [u8],
    /// The maximum number of series that it can have.
    pub(super) series: u64,
}

/// The decision about a label set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ruling {
    /// It becomes series.
    Admitted,
    /// Its deltas count in the set with this label block.
    Counted(Box<[u8]>),
}

/// The limits of one tenant in one shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admission<'a> {
    pub(super) limits: &'a Limits,
    /// This shard's part of `max_active_series`; none: no limit.
    pub(super) quota: Option<u64>,
    /// This shard's number, for overflow sets without a service.
    pub(super) shard: u32,
}

// === impl Usage ===

impl Usage {
    /// Counts a set that is admitted already.
    pub(super) fn add(&mut self, set: &Candidate<'_>, limits: &Limits) {
        let service = service_of(set.family, set.block);
        self.series += set.series;
        *self.services.entry(service.to_owned()).or_default() += set.series;
        if limits.max_cardinality_per_label > 0 {
            for (name, value) in labels::iter(set.block) {
                let known = self.values_of(service, name);
                if !known.contains(value) {
                    known.insert(value.into());
                }
            }
        }
    }

    fn values_of(&mut self, service: &str, label: &str) -> &mut BTreeSet<Box<str>> {
        self.values.entry((service.to_owned(), label.to_owned())).or_default()
    }
}

/// Whether any limit is set.
pub(super) fn is_limited(limits: &Limits) -> bool {
    limits.max_active_series > 0 || limits.max_active_series_per_service > 0 || limits.max_cardinality_per_label > 0
}

/// Whether a set stands for refused ones. Such a set is always admitted, and takes nothing from the limits.
pub(super) fn is_overflow(block: &[u8]) -> bool {
    labels::iter(block).any(|(name, value)| name == OVERFLOW_LABEL && (value == "true" || is_of_tenants(block)))
}

/// The shard in the labels of a set that stands for sets of a shard which have no service in common.
pub(super) fn overflow_shard(family: Family, block: &[u8]) -> Option<u32> {
    let subject = subject_of(family, block);
    let own = |label: (&str, &str)| [OVERFLOW_LABEL, SHARD_LABEL].contains(&label.0) || Some(label) == subject;
    let stands_for_others = is_overflow(block) && labels::iter(block).all(own);
    let shard = labels::iter(block).find(|(name, _)| *name == SHARD_LABEL)?.1;
    if stands_for_others { shard.parse().ok() } else { None }
}

/// The labels of the set of another shard that stands for the same there.
pub(super) fn in_shard(block: &[u8], shard: u32) -> Vec<u8> {
    let (shard, mut out) = (shard.to_string(), Vec::new());
    for (name, value) in labels::iter(block) {
        put_label(&mut out, name, if name == SHARD_LABEL { &shard } else { value });
    }
    out
}

/// The label of the objective or the metric that a set counts for. Sets that stand for others keep it.
pub(super) fn subject_of(family: Family, block: &[u8]) -> Option<(&str, &str)> {
    let label = match family {
        Family::Slo => SLO_LABEL,
        family if family.is_named_by_label() => METRIC_LABEL,
        _ => return None,
    };
    labels::iter(block).find(|(name, _)| *name == label)
}

/// A shard's part of a limit when `here` of all `total` label sets that the step has touched lie in it. The parts of all
/// shards add up to the limit at most.
pub(super) fn quota(limit: u64, here: u64, total: u64) -> Option<u64> {
    let part = u128::from(limit) * u128::from(here) / u128::from(total.max(here).max(1));
    (limit > 0).then_some(part as u64)
}

// === impl Admission ===

impl Admission<'_> {
    /// Decides about one new set. `is_admitted` is whether the set with a label block has been admitted.
    pub(super) fn rule(&self, usage: &mut Usage, new: &Candidate<'_>, is_admitted: &dyn Fn(&[u8]) -> bool) -> Ruling {
        let service = service_of(new.family, new.block).to_owned();
        let capped = self.capped(usage, new, &service);
        let block = capped.as_deref().unwrap_or(new.block);
        if capped.is_none() || !is_admitted(block) {
            if !self.has_room(usage, &service, new.series) {
                return Ruling::Counted(self.overflow(usage, new, &service));
            }
            usage.add(&Candidate { block, ..*new }, self.limits);
        }
        capped.map_or(Ruling::Admitted, Ruling::Counted)
    }

    /// The labels with every value replaced that its label has no room for; `None` when there is none.
    fn capped(&self, usage: &mut Usage, new: &Candidate<'_>, service: &str) -> Option<Box<[u8]>> {
        let most = self.limits.max_cardinality_per_label;
        if most == 0 {
            return None;
        }
        let mut out = Vec::new();
        let mut replaced = false;
        let subject = subject_of(new.family, new.block);
        for (name, value) in labels::iter(new.block) {
            let known = usage.values_of(service, name);
            // The service itself is never replaced: its sets must stay in this shard. Nor is the name of an objective or a
            // metric: counts of two do not add up.
            let kept = value == service || Some((name, value)) == subject;
            let fits = kept || known.contains(value) || (known.len() as u64) < most;
            put_label(&mut out, name, if fits { value } else { OVERFLOW_VALUE });
            replaced |= !fits;
        }
        replaced.then(|| out.into())
    }

    fn has_room(&self, usage: &Usage, service: &str, series: u64) -> bool {
        let of_service = usage.services.get(service).copied().unwrap_or(0) + series;
        let most = self.limits.max_active_series_per_service;
        if most > 0 && of_service > most {
            return false;
        }
        let Some(quota) = self.quota else { return true };
        let all = usage.series + series;
        // An even share, counting one more service that may still come.
        let even = quota / (usage.services.len() as u64 + 1);
        all <= quota && (all <= quota - quota / 5 || of_service <= even)
    }

    /// The labels of the set that counts for refused sets: the service, if it has series already. A service without any
    /// may be one of too many services.
    fn overflow(&self, usage: &Usage, new: &Candidate<'_>, service: &str) -> Box<[u8]> {
        let label = service_label(new.family, new.block);
        let mut pairs = vec![(OVERFLOW_LABEL, "true")];
        let shard = self.shard.to_string();
        match label.filter(|_| usage.services.contains_key(service)) {
            Some(label) => pairs.push(label),
            None => pairs.push((SHARD_LABEL, &shard)),
        }
        pairs.extend(subject_of(new.family, new.block));
        pairs.sort_unstable();
        let mut out = Vec::new();
        for (name, value) in pairs {
            put_label(&mut out, name, value);
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::core::model::LabelBuilder;

    fn block(service: &str, name: &str) -> Vec<u8> {
        let mut labels = LabelBuilder::default();
        labels.set("service", service);
        labels.set("span_name", name);
        labels.block()
    }

    fn limits(tenant: u64, service: u64, label: u64) -> Limits {
        Limits {
            max_active_series: tenant,
            max_active_series_per_service: service,
            max_cardinality_per_label: label,
            ..Config::default().core.limits
        }
    }

    /// Rules about sets of 10 series each, in the order given; returns what became of each as text.
    fn rule(limits: &Limits, sets: &[(&str, &str)]) -> (Usage, Vec<String>) {
        let admission = Admission { limits, quota: quota(limits.max_active_series, 1, 1), shard: 7 };
        let mut usage = Usage::default();
        let mut admitted: Vec<Vec<u8>> = Vec::new();
        let mut out = Vec::new();
        for (service, name) in sets {
            let block = block(service, name);
            let new = Candidate { family: Family::SpanMetrics, block: &block, series: 10 };
            let ruling = admission.rule(&mut usage, &new, &|b| admitted.iter().any(|a| a == b));
            out.push(match ruling {
                Ruling::Admitted => {
                    admitted.push(block);
                    "admitted".to_owned()
                }
                Ruling::Counted(block) => {
                    admitted.push(block.to_vec());
                    labels::iter(&block).map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" ")
                }
            });
        }
        (usage, out)
    }

    #[test]
    fn what_stands_for_a_service_has_its_label_and_not_another_one_of_the_same_value() {
        let block = |name: &str| {
            let mut labels = LabelBuilder::default();
            ["peer", "service"].iter().for_each(|label| labels.set(label, "a"));
            labels.set("span_name", name);
            labels.block()
        };
        let (limits, mut usage) = (limits(0, 10, 0), Usage::default());
        let admission = Admission { limits: &limits, quota: None, shard: 7 };
        let mut rule = |name: &str| {
            let new = Candidate { family: Family::SpanMetrics, block: &block(name), series: 10 };
            admission.rule(&mut usage, &new, &|_| false)
        };
        assert_eq!(rule("x"), Ruling::Admitted);
        let Ruling::Counted(block) = rule("y") else { panic!("beyond the limit") };
        assert_eq!(labels::iter(&block).collect::<Vec<_>>(), [("metric_overflow", "true"), ("service", "a")]);
    }

    #[test]
    fn counts_of_two_metrics_never_meet_in_one_set() {
        let block = |metric: &str, route: &str| {
            let mut labels = LabelBuilder::default();
            [("service", "shop"), (METRIC_LABEL, metric), ("route", route)].iter().for_each(|(n, v)| labels.set(n, v));
            labels.block()
        };
        let text = |block: &[u8]| labels::iter(block).map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" ");
        let (limits, mut usage) = (limits(0, 2, 1), Usage::default());
        let admission = Admission { limits: &limits, quota: None, shard: 7 };
        let mut rule = |metric: &str, route: &str| {
            let new = Candidate { family: Family::AttributeSum, block: &block(metric, route), series: 1 };
            match admission.rule(&mut usage, &new, &|_| false) {
                Ruling::Admitted => "admitted".to_owned(),
                Ruling::Counted(block) => text(&block),
            }
        };
        assert_eq!(rule("shop", "x"), "admitted");
        assert_eq!(rule("b", "x"), "admitted");
        assert_eq!(rule("b", "y"), "__metric__=b metric_overflow=true service=shop");
        assert_eq!(rule("shop", "y"), "__metric__=shop metric_overflow=true service=shop");
    }

    #[test]
    fn a_service_beyond_its_limit_is_counted_under_its_own_name() {
        let (_, got) = rule(&limits(0, 25, 0), &[("a", "x"), ("a", "y"), ("a", "z"), ("b", "x")]);
        assert_eq!(got, ["admitted", "admitted", "metric_overflow=true service=a", "admitted"]);
    }

    #[test]
    fn a_label_beyond_its_limit_loses_only_further_values_and_only_in_that_service() {
        let (_, got) = rule(&limits(0, 0, 2), &[("a", "x"), ("a", "y"), ("a", "z"), ("a", "w"), ("b", "z")]);
        let replaced = "service=a span_name=__cardinality_overflow__";
        assert_eq!(got, ["admitted", "admitted", replaced, replaced, "admitted"]);
    }

    #[test]
    fn counts_of_two_objectives_never_meet_in_one_set() {
        let block = |slo: &str, route: &str| {
            let mut labels = LabelBuilder::default();
            labels.set("service", "shop");
            labels.set("slo", slo);
            labels.set("route", route);
            labels.block()
        };
        let text = |block: &[u8]| labels::iter(block).map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" ");
        let rule = |limits: &Limits, usage: &mut Usage, block: &[u8]| {
            let admission = Admission { limits, quota: None, shard: 7 };
            match admission.rule(usage, &Candidate { family: Family::Slo, block, series: 2 }, &|_| false) {
                Ruling::Admitted => "admitted".to_owned(),
                Ruling::Counted(block) => text(&block),
            }
        };
        let (mut of_service, mut of_label) = (Usage::default(), Usage::default());
        for (slo, route, service, label) in [
            ("a", "x", "admitted", "admitted"),
            ("b", "x", "metric_overflow=true service=shop slo=b", "admitted"),
            ("b", "y", "metric_overflow=true service=shop slo=b", "route=__cardinality_overflow__ service=shop slo=b"),
        ] {
            let block = block(slo, route);
            assert_eq!(rule(&limits(0, 2, 0), &mut of_service, &block), service);
            assert_eq!(rule(&limits(0, 0, 1), &mut of_label, &block), label);
        }
    }

    #[test]
    fn a_noisy_service_leaves_room_for_the_others() {
        let mut sets: Vec<(String, String)> = (0..100).map(|i| ("noisy".to_owned(), format!("n{i:02}"))).collect();
        sets.extend((0..4).map(|i| ("quiet".to_owned(), format!("q{i}"))));
        let sets: Vec<(&str, &str)> = sets.iter().map(|(s, n)| (s.as_str(), n.as_str())).collect();
        let (usage, got) = rule(&limits(200, 0, 0), &sets);
        assert_eq!(usage.services["noisy"], 160, "four fifths of the limit");
        assert_eq!(got[100..], ["admitted", "admitted", "admitted", "admitted"]);
        assert!(usage.series <= 200);
    }

    #[test]
    fn an_explosion_of_services_ends_in_one_set() {
        let names: Vec<String> = (0..1_000).map(|i| format!("service-{i}")).collect();
        let sets: Vec<(&str, &str)> = names.iter().map(|s| (s.as_str(), "x")).collect();
        let (usage, got) = rule(&limits(100, 0, 0), &sets);
        assert!(usage.series <= 100);
        let distinct: std::collections::BTreeSet<_> = got.iter().filter(|g| *g != "admitted").collect();
        assert_eq!(distinct.into_iter().collect::<Vec<_>>(), ["metric_overflow=true overflow_shard=7"]);
    }

    #[test]
    fn the_shards_parts_of_a_limit_never_add_up_to_more() {
        let here = [3, 0, 17, 5];
        let parts: u64 = here.iter().filter_map(|&n| quota(1_000, n, here.iter().sum())).sum();
        assert!((996..=1_000).contains(&parts), "{parts}");
        assert_eq!(quota(0, 1, 2), None);
        assert_eq!(quota(10, 0, 0), Some(0));
    }
}
