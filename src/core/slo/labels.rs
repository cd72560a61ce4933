//! Objectives about what has labels already: edges and traces.

use std::str::Utf8Error;
use std::sync::Arc;

use regex::Regex;

use super::{EVENTS, GOOD, KEY_SPACE};
use crate::core::deltas::{Define, DeltaTable};
use crate::core::model::labels;
use crate::core::model::wire::{put_bytes, put_u64};
use crate::core::model::{Counter, Family, Layout, Ledger, Naming, Spec, Weight};
use crate::core::settings::labels::SLO_LABEL;
use crate::core::settings::{FilterPolicy, MatchType, PolicyMatch, PolicyValue, Settings, Slo, SloSide, SloSubject};

/// The objectives of a tenant about one kind of events.
#[derive(Debug)]
pub(crate) struct LabelSlos {
    layout: Arc<Layout>,
    objectives: Vec<Objective>,
    limits: (usize, usize),
}

/// One event: an edge or a trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LabeledEvent<'a> {
    pub(crate) tenant: &'a str,
    /// Its label block.
    pub(crate) block: &'a [u8],
    /// How long it took for the client and for the server, in nanoseconds.
    pub(crate) took: [u64; 2],
    /// Whether it has failed by the rule of its kind.
    pub(crate) failed: bool,
    pub(crate) weight: Weight,
}

/// One objective.
#[derive(Debug)]
struct Objective {
    /// Its place in the settings.
    number: u64,
    name: String,
    events: LabelMatcher,
    latency_ns: Option<u64>,
    side: SloSide,
    fails: bool,
    labels: Vec<String>,
}

/// Policies on labels: the blocks of all of them, as in [`crate::core::filter`].
#[derive(Debug, Default)]
struct LabelMatcher {
    exclude: Vec<Vec<Condition>>,
    include_any: Vec<Vec<Condition>>,
    include: Vec<Vec<Condition>>,
}

/// A label that is not there has the empty text, as in Prometheus.
#[derive(Debug)]
struct Condition {
    label: String,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    Text(String),
    Pattern(Regex),
}

// === impl LabelSlos ===

impl LabelSlos {
    /// Those about edges, whose weights vary if `weighted`; `None` if there are none.
    pub(crate) fn of_edges(config: &Settings, weighted: bool) -> Option<Self> {
        Self::new(config, weighted, |of| match of {
            SloSubject::Edges(side) => Some(side),
            SloSubject::Spans | SloSubject::Traces => None,
        })
    }

    /// Those about traces; `None` if there are none.
    pub(crate) fn of_traces(config: &Settings) -> Option<Self> {
        // Both sides of a trace are the same.
        Self::new(config, false, |of| (of == SloSubject::Traces).then_some(SloSide::Client))
    }

    fn new(config: &Settings, weighted: bool, side: impl Fn(SloSubject) -> Option<SloSide>) -> Option<Self> {
        let numbered = (0..).zip(&config.slos);
        let objectives: Vec<Objective> =
            numbered.filter_map(|(number, slo)| Some(Objective::new(number, slo, side(slo.of)?))).collect();
        let spec = Spec { family: Family::Slo, naming: Naming::Tempo, weighted, histograms: Vec::new() };
        (!objectives.is_empty()).then(|| Self {
            layout: Arc::new(Layout::of(&spec)),
            objectives,
            limits: (config.limits.max_label_name_length, config.limits.max_label_value_length),
        })
    }

    /// Counts an event. `key` is memory for a raw key.
    pub(crate) fn count(
        &self,
        event: &LabeledEvent<'_>,
        key: &mut Vec<u8>,
        table: &mut DeltaTable,
        ledger: &mut Ledger,
    ) {
        for objective in &self.objectives {
            if !objective.events.matches(event.block) {
                continue;
            }
            objective.put_key(key, event);
            let set = table.find(key, |builder| {
                builder.limit(self.limits.0, self.limits.1);
                objective.labels_of(event.block).for_each(|(name, value)| builder.set(name, value));
                builder.set(SLO_LABEL, &objective.name);
                Ok::<Define, Utf8Error>(Define { tenant: event.tenant.into(), layout: Arc::clone(&self.layout) })
            });
            let Ok(set) = set else { continue };
            let mut set = table.at(set);
            set.count(EVENTS, event.weight);
            if objective.is_good(event) {
                set.count(GOOD, event.weight);
            }
            ledger.add(Counter::SloEventsCounted, 1);
        }
    }
}

// === impl Objective ===

impl Objective {
    fn new(number: u64, slo: &Slo, side: SloSide) -> Self {
        Self {
            number,
            name: slo.name.clone(),
            events: LabelMatcher::new(&slo.matching),
            latency_ns: slo.latency_ns,
            side,
            fails: !slo.failed.is_empty(),
            labels: slo.labels.iter().map(|label| label.name.clone()).collect(),
        }
    }

    /// An event that takes exactly as long as the threshold is good.
    fn is_good(&self, event: &LabeledEvent<'_>) -> bool {
        let [client, server] = event.took;
        let took = if self.side == SloSide::Client { client } else { server };
        self.latency_ns.is_none_or(|most| took <= most) && !(self.fails && event.failed)
    }

    /// Those of the event's labels that the objective keeps.
    fn labels_of<'a>(&'a self, block: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a str)> {
        labels::iter(block).filter(|(name, _)| self.labels.iter().any(|label| label == name))
    }

    /// It begins as that of an objective about spans; no two objectives have the same number.
    fn put_key(&self, key: &mut Vec<u8>, event: &LabeledEvent<'_>) {
        key.clear();
        key.push(KEY_SPACE);
        put_bytes(key, event.tenant.as_bytes());
        put_u64(key, self.number);
        for (name, value) in self.labels_of(event.block) {
            put_bytes(key, name.as_bytes());
            put_bytes(key, value.as_bytes());
        }
    }
}

// === impl LabelMatcher ===

impl LabelMatcher {
    fn new(policies: &[FilterPolicy]) -> Self {
        let mut matcher = Self::default();
        for FilterPolicy { include, include_any, exclude } in policies {
            let blocks = [
                (include, &mut matcher.include),
                (include_any, &mut matcher.include_any),
                (exclude, &mut matcher.exclude),
            ];
            for (block, into) in blocks {
                into.extend(block.as_ref().map(conditions));
            }
        }
        matcher
    }

    /// The order of evaluation is that of policies on spans.
    fn matches(&self, block: &[u8]) -> bool {
        let holds = |conditions: &Vec<Condition>| conditions.iter().all(|condition| condition.holds(block));
        if self.exclude.iter().any(holds) {
            return false;
        }
        if self.include_any.iter().any(holds) {
            return true;
        }
        if self.include.is_empty() { self.include_any.is_empty() } else { self.include.iter().all(holds) }
    }
}

// === impl Condition ===

impl Condition {
    fn holds(&self, block: &[u8]) -> bool {
        let value = labels::iter(block).find(|(name, _)| *name == self.label).map_or("", |(_, value)| value);
        match &self.wanted {
            Wanted::Text(text) => value == text,
            Wanted::Pattern(pattern) => pattern.is_match(value),
        }
    }
}

/// # Panics
/// When a value is no text or no regular expression. Reading a configuration refuses such a one.
fn conditions(block: &PolicyMatch) -> Vec<Condition> {
    let condition = |label: &str, value: &PolicyValue| {
        let text = match value {
            PolicyValue::Text(text) => text.clone(),
            other => format!("{other:?}"),
        };
        let wanted = match block.match_type {
            MatchType::Strict => Wanted::Text(text),
            MatchType::Regex => {
                Wanted::Pattern(Regex::new(&text).expect("policies are checked when the configuration is read"))
            }
        };
        Condition { label: label.to_owned(), wanted }
    };
    block.attributes.iter().map(|attribute| condition(&attribute.key, &attribute.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::LabelBuilder;
    use crate::core::settings::PolicyAttribute;

    fn block(labels: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = LabelBuilder::default();
        labels.iter().for_each(|(name, value)| builder.set(name, value));
        builder.block()
    }

    fn on(match_type: MatchType, attributes: &[(&str, &str)]) -> PolicyMatch {
        let attribute = |(key, value): &(&str, &str)| PolicyAttribute {
            key: (*key).to_owned(),
            value: PolicyValue::Text((*value).to_owned()),
        };
        PolicyMatch { match_type, attributes: attributes.iter().map(attribute).collect() }
    }

    fn policy() -> FilterPolicy {
        FilterPolicy { include: None, include_any: None, exclude: None }
    }

    #[test]
    fn policies_on_labels_are_evaluated_as_those_on_spans() {
        let to_shop = on(MatchType::Strict, &[("server", "shop")]);
        let from_web = on(MatchType::Regex, &[("client", "^web")]);
        let direct = on(MatchType::Strict, &[("connection_type", "")]);
        let edge = |client, server, kind| block(&[("client", client), ("server", server), ("connection_type", kind)]);
        let matches = |policies: &[FilterPolicy], block: &[u8]| LabelMatcher::new(policies).matches(block);
        let (web, job) = (edge("web-1", "shop", ""), edge("job", "shop", "database"));
        assert!(matches(&[], &web));
        let include = FilterPolicy { include: Some(to_shop.clone()), ..policy() };
        assert!(matches(std::slice::from_ref(&include), &web));
        assert!(!matches(std::slice::from_ref(&include), &edge("web", "cart", "")));
        let and_web = FilterPolicy { include: Some(from_web.clone()), ..policy() };
        assert!(matches(&[include.clone(), and_web.clone()], &web) && !matches(&[include, and_web], &job));
        let any = [FilterPolicy { include_any: Some(from_web), ..policy() }];
        assert!(matches(&any, &web) && !matches(&any, &job));
        let exclude = [FilterPolicy { exclude: Some(to_shop), ..policy() }];
        assert!(!matches(&exclude, &web) && matches(&exclude, &edge("web", "cart", "")));
        // A label that is not there is the empty text.
        let plain = [FilterPolicy { include: Some(direct), ..policy() }];
        assert!(matches(&plain, &web) && !matches(&plain, &job));
    }
}
