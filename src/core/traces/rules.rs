//! Which metrics of traces a tenant has, and how their labels are made.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::branch::BranchRules;
use crate::core::model::labels::most;
use crate::core::model::{Family, Layout, Naming, Spec};
use crate::core::sanitize::NameCache;
use crate::core::settings::labels::spelling;
use crate::core::settings::{InvalidUtf8, Settings, Tenants};
use crate::core::slo::LabelSlos;

/// Upper bounds of numbers of spans, services and levels.
const NUMBERS: [u64; 14] = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];
/// A number is observed as so many seconds: then it is a number in bounds and sums.
pub(super) const ONE: u64 = 1_000_000_000;

/// The rules of all tenants.
#[derive(Debug)]
pub(super) struct RuleBook {
    /// The first is for all tenants without overrides.
    rules: Vec<Rules>,
    overridden: BTreeMap<Vec<u8>, usize>,
}

/// The rules of a tenant.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) duration: Option<Arc<Layout>>,
    pub(super) shape: Option<Arc<Layout>>,
    pub(super) critical_path: Option<Arc<Layout>>,
    pub(super) self_time: Option<Arc<Layout>>,
    pub(super) errors: Option<Arc<Layout>>,
    pub(super) calls: Option<CallRules>,
    pub(super) quality: Option<Arc<Layout>>,
    pub(super) branch: Option<BranchRules>,
    /// Objectives about traces.
    pub(super) slos: Option<LabelSlos>,
    pub(super) names: NameCache,
    /// The longest label name and value.
    pub(super) limits: (usize, usize),
    /// What labels keep of a text.
    pub(super) most: usize,
    pub(super) repairs: bool,
    pub(super) exemplars: bool,
    pub(super) exemplars_on_counters: bool,
    /// The longest plausible duration in nanoseconds; longer ones are observed as 0.
    pub(super) longest: u64,
}

/// What calls are counted by.
#[derive(Debug)]
pub(super) struct CallRules {
    pub(super) per_request: Arc<Layout>,
    pub(super) groups: Arc<Layout>,
    pub(super) fan_outs: Arc<Layout>,
    /// A group of so many calls is counted as repeated.
    pub(super) repeated: u64,
}

// === impl RuleBook ===

impl RuleBook {
    pub(super) fn new(tenants: &Tenants) -> Self {
        let mut rules = vec![Rules::new(tenants.defaults())];
        let mut overridden = BTreeMap::new();
        for (name, config) in tenants.overridden() {
            overridden.insert(name.as_bytes().to_vec(), rules.len());
            rules.push(Rules::new(config));
        }
        Self { rules, overridden }
    }

    /// Whether any tenant has metrics of traces.
    pub(super) fn is_enabled(tenants: &Tenants) -> bool {
        let mut all = std::iter::once(tenants.defaults()).chain(tenants.overridden().map(|(_, config)| config));
        all.any(|config| config.traces.is_enabled())
    }

    /// The place of a tenant's rules.
    pub(super) fn place(&self, tenant: &[u8]) -> usize {
        let at = if self.overridden.is_empty() { None } else { self.overridden.get(tenant) };
        at.copied().unwrap_or(0)
    }

    pub(super) fn at(&mut self, place: usize) -> &mut Rules {
        &mut self.rules[place]
    }
}

// === impl Rules ===

impl Rules {
    fn new(config: &Arc<Settings>) -> Self {
        let traces = &config.traces;
        let layout = |on: bool, family, bounds: &[u64]| {
            let histograms = vec![Some(config.histograms.shape(bounds)); Family::histograms(family).len()];
            on.then(|| Arc::new(Layout::of(&Spec { family, naming: Naming::Tempo, weighted: false, histograms })))
        };
        let numbers = |on: bool, family| layout(on, family, &NUMBERS.map(|number| number * ONE));
        Self {
            duration: layout(traces.duration, Family::TraceDuration, &traces.bounds_ns),
            shape: numbers(traces.duration, Family::TraceShape),
            critical_path: layout(traces.critical_path, Family::CriticalPath, &[]),
            self_time: layout(traces.critical_path, Family::SelfTime, &[]),
            errors: layout(traces.errors, Family::TraceErrors, &[]),
            calls: numbers(traces.calls, Family::TraceCalls)
                .zip(layout(traces.calls, Family::TraceCallGroups, &[]))
                .zip(layout(traces.calls, Family::TraceFanOut, &[]))
                .map(|((per_request, groups), fan_outs)| CallRules {
                    per_request,
                    groups,
                    fan_outs,
                    repeated: traces.repeated_calls as u64,
                }),
            quality: layout(traces.quality, Family::TraceQuality, &[]),
            branch: layout(traces.span_metrics, Family::SpansByRoot, &config.span_metrics.bounds_ns).map(|layout| {
                let most = most(config.limits.max_label_value_length);
                BranchRules::new(layout, &traces.branch_labels, spelling(config.naming.profile), most)
            }),
            slos: LabelSlos::of_traces(config),
            names: NameCache::new(&config.span_names),
            limits: (config.limits.max_label_name_length, config.limits.max_label_value_length),
            most: most(config.limits.max_label_value_length),
            repairs: config.naming.invalid_utf8 == InvalidUtf8::Replace,
            exemplars: config.series.exemplars,
            exemplars_on_counters: config.series.exemplars && config.series.exemplars_on_counters,
            longest: config.histograms.longest_ns(),
        }
    }

    /// Whether any metric is on.
    pub(super) fn is_enabled(&self) -> bool {
        let spans = self.critical_path.is_some() || self.errors.is_some() || self.quality.is_some();
        self.duration.is_some() || self.calls.is_some() || self.branch.is_some() || spans
    }
}
