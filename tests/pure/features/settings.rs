//! Random settings over all features.

use std::collections::BTreeMap;
use std::sync::Arc;

use spanmill::config::Tenants;
use spanmill::config::labels::collisions;
use spanmill::config::settings::{Config, TenantSource};
use spanmill::core::settings::{
    Ancestors, AttributeMetric, AttributeMetricKind, AttributeMetricsPreset, BranchLabel, BranchSource, BucketSet,
    Dimension, DimensionMapping, FilterPolicy, HistogramMode, InvalidUtf8, LatencySides, LatencyUnit, MatchType,
    MetricValue, PolicyAttribute, PolicyMatch, PolicyValue, Profile, SanitizeMode, ServiceNamespace, Slo, SloSide,
    SloSubject, SpanNameRule, TimeSource, ValueScope,
};

use crate::scramble::Dice;

/// Shards of the deltas topic.
pub(crate) const SHARDS: u32 = 3;
/// Attributes that spans and resources have, and one that they have not.
const KEYS: [&str; 10] = [
    "region",
    "user.id",
    "http.route",
    "cached",
    "peer.service",
    "cluster-id",
    "service.namespace",
    "http.status_code",
    "exception.type",
    "nobody.has.it",
];

/// Default settings, and other ones for the tenant `other`.
pub(crate) fn random_tenants(dice: &mut Dice) -> Tenants {
    let mut defaults = Config::default();
    defaults.kafka.shards = SHARDS;
    defaults.core.series.stale_after = [45_000, 90_000][dice.below(2) as usize];
    defaults.core.series.forget_after = [30_000, 120_000][dice.below(2) as usize];
    defaults.core.series.zero_offset = [0, 1, 1_000][dice.below(3) as usize];
    if chance(dice, 2) {
        defaults.core.time.source = TimeSource::SpanEnd;
        defaults.core.time.lateness = pick(dice, &[0, 1_000, 20_000, 300_000]);
    }
    if chance(dice, 4) {
        defaults.tenant = TenantSource::Attribute { key: "tenant.id".into(), fallback: "nobody".into() };
    }
    // Thrown apart, so that all else of a seed is as without.
    duplicates(&mut Dice(dice.0 ^ 0xd0), &mut defaults);
    let other = random(dice, &defaults);
    let defaults = random(dice, &defaults);
    let overridden = if chance(dice, 2) { vec![("other".to_owned(), Arc::new(other))] } else { Vec::new() };
    Tenants::new(Arc::new(defaults), overridden.into_iter().collect::<BTreeMap<_, _>>())
}

/// `base` with everything random that a tenant may have of its own, and that contradicts nothing.
fn random(dice: &mut Dice, base: &Config) -> Config {
    loop {
        let mut config = base.clone();
        naming(dice, &mut config);
        span_metrics(dice, &mut config);
        config.core.slos = slos(dice);
        config.core.attribute_metrics = attribute_metrics(dice);
        config.core.attribute_metrics_presets =
            if chance(dice, 4) { AttributeMetricsPreset::ALL.to_vec() } else { Vec::new() };
        traces(dice, &mut config);
        service_graphs(dice, &mut config);
        graph_features(dice, &mut config);
        sending(dice, &mut config);
        if collisions(&config.core).is_empty() {
            return config;
        }
    }
}

fn naming(dice: &mut Dice, config: &mut Config) {
    config.core.naming.profile = pick(dice, &[Profile::Tempo, Profile::Otel]);
    config.core.naming.unit = pick(dice, &[LatencyUnit::Milliseconds, LatencyUnit::Milliseconds, LatencyUnit::Seconds]);
    config.core.naming.invalid_utf8 = pick(dice, &[InvalidUtf8::Drop, InvalidUtf8::Drop, InvalidUtf8::Replace]);
    config.core.histograms.max_duration = pick(dice, &[0, 0, 1, 20]);
    config.core.histograms.mode = pick(dice, &[HistogramMode::Classic, HistogramMode::Native, HistogramMode::Both]);
    config.core.histograms.native_max_buckets = pick(dice, &[4, 20, 100]);
    config.core.histograms.native_bucket_factor = pick(dice, &[1.1, 2.0]);
    config.core.host_info.enabled = chance(dice, 2);
    config.core.span_names.mode = pick(dice, &[SanitizeMode::Off, SanitizeMode::DryRun, SanitizeMode::Enabled]);
    (config.core.span_names.query_strings, config.core.span_names.short_ids) = (chance(dice, 3), chance(dice, 3));
    config.core.span_names.builtin = !chance(dice, 4);
    if chance(dice, 3) {
        config.core.span_names.rules = vec![SpanNameRule { pattern: "^(g|p)[eu]t$".into(), replace: "${1}-ET".into() }];
    }
    config.core.limits.max_label_value_length = pick(dice, &[2, 6, 2_048, 2_048]);
    config.core.limits.max_label_name_length = pick(dice, &[8, 1_024, 1_024]);
    config.core.limits.max_active_series = pick(dice, &[0, 0, 0, 60, 400]);
    config.core.limits.max_active_series_per_service = pick(dice, &[0, 0, 0, 30, 100]);
    config.core.limits.max_cardinality_per_label = pick(dice, &[0, 0, 0, 1, 3]);
}

fn span_metrics(dice: &mut Dice, config: &mut Config) {
    let settings = &mut config.core.span_metrics;
    settings.enabled = !chance(dice, 10);
    settings.calls = !chance(dice, 6);
    settings.latency = !chance(dice, 6);
    settings.size = !chance(dice, 4);
    settings.intrinsic.service = !chance(dice, 6);
    settings.intrinsic.span_name = !chance(dice, 4);
    settings.intrinsic.span_kind = !chance(dice, 4);
    settings.intrinsic.status_code = !chance(dice, 4);
    settings.intrinsic.status_message = chance(dice, 4);
    settings.dimensions = dimensions(dice, 3);
    settings.calls_dimensions = dimensions(dice, 2);
    settings.latency_dimensions = dimensions(dice, 2);
    settings.event_dimensions = dimensions(dice, 2);
    if chance(dice, 3) {
        let source_labels = vec![pick(dice, &KEYS).to_owned(), pick(dice, &KEYS).to_owned()];
        settings.dimension_mappings = vec![DimensionMapping { name: "both".into(), source_labels, join: "/".into() }];
    }
    if chance(dice, 3) {
        settings.bucket_sets = vec![BucketSet {
            services: if chance(dice, 2) { vec!["shop".into(), "cart".into()] } else { Vec::new() },
            kinds: if chance(dice, 2) { vec!["SPAN_KIND_SERVER".into()] } else { Vec::new() },
            bounds_ns: vec![1_000_000, 1_000_000_000],
        }];
    }
    settings.scopes = if chance(dice, 3) { vec!["lib-a".into()] } else { Vec::new() };
    settings.events = chance(dice, 2);
    settings.target_info = chance(dice, 2);
    settings.target_info_excluded = if chance(dice, 3) { vec!["cluster-id".into()] } else { Vec::new() };
    settings.instance_label = !chance(dice, 3);
    settings.filter_policies = policies(dice);
    settings.multiplier_key = multiplier(dice);
    settings.multiplier_of_text = chance(dice, 3);
    settings.tracestate_multiplier = chance(dice, 3);
}

fn traces(dice: &mut Dice, config: &mut Config) {
    let settings = &mut config.core.traces;
    (settings.duration, settings.critical_path, settings.errors) = (chance(dice, 2), chance(dice, 2), chance(dice, 2));
    let own = &mut Dice(dice.0 ^ 0xca);
    (settings.calls, settings.quality) = (chance(own, 2), chance(own, 2));
    settings.repeated_calls = pick(own, &[2, 3, 5]);
    let branches = &mut Dice(dice.0 ^ 0xb4);
    settings.span_metrics = chance(branches, 2);
    let keys = ["http.route", "db.system", "service.name", "no.such.key"];
    let sources = [BranchSource::Root, BranchSource::Entry, BranchSource::Ancestor, BranchSource::Descendant];
    let label = |i: usize, dice: &mut Dice| BranchLabel {
        name: format!("from_{i}"),
        from: pick(dice, &sources),
        key: pick(dice, &keys).to_owned(),
    };
    settings.branch_labels = (0..pick(branches, &[0, 1, 3])).map(|i| label(i, branches)).collect();
    settings.idle = pick(dice, &[1, 1_000, 10_000, 10_000]);
    settings.max_age = pick(dice, &[1, 5_000, 30_000, 120_000]);
    settings.late = pick(dice, &[0, 1_000, 20_000, 300_000]);
    settings.max_spans = pick(dice, &[1, 3, 20, 10_000]);
    settings.max_traces = pick(dice, &[1, 3, 20, 10_000]);
}

fn duplicates(dice: &mut Dice, config: &mut Config) {
    let settings = &mut config.core.duplicates;
    settings.window = pick(dice, &[0, 0, 0, 0, 0, 1, 20_000, 300_000]);
    settings.max_spans = pick(dice, &[1, 3, 20, 10_000]);
}

/// Names that are no longer than the shortest limit of label values.
fn slos(dice: &mut Dice) -> Vec<Slo> {
    let slo = |(name, dice): (&str, &mut Dice)| {
        let sides = [SloSide::Client, SloSide::Server].map(SloSubject::Edges);
        let of = pick(dice, &[SloSubject::Spans, SloSubject::Spans, sides[0], sides[1], SloSubject::Traces]);
        let own = if of == SloSubject::Spans { dimensions(dice, 1) } else { Vec::new() };
        Slo {
            name: name.to_owned(),
            of,
            matching: if of == SloSubject::Spans { policies(dice) } else { Vec::new() },
            latency_ns: pick(dice, &[None, Some(1_000_000), Some(50_000_000)]),
            failed: if chance(dice, 3) { policies(dice) } else { Slo::failed_by_status() },
            labels: if chance(dice, 4) { Vec::new() } else { [Slo::default_labels(of), own].concat() },
            objective: None,
        }
    };
    let names: Vec<&str> = ["a", "b"].into_iter().filter(|_| chance(dice, 2)).collect();
    names.into_iter().map(|name| slo((name, dice))).collect()
}

fn attribute_metrics(dice: &mut Dice) -> Vec<AttributeMetric> {
    use AttributeMetricKind::{Counter, Histogram, Sum};
    let all = [("spans_total", Counter), ("size_total", Sum), ("size", Histogram), ("took_total", Sum)];
    let entry = |(name, kind): (&str, AttributeMetricKind), dice: &mut Dice| {
        let scope = pick(dice, &[ValueScope::Any, ValueScope::Span, ValueScope::Resource]);
        let names = vec!["sampling.ratio".to_owned(), "http.status_code".to_owned()];
        let attribute = MetricValue::Attribute(names, scope);
        let (value, bounds) = match kind {
            Counter => (if chance(dice, 2) { Some(attribute) } else { None }, Vec::new()),
            Sum if name == "took_total" => (Some(MetricValue::Duration), Vec::new()),
            Sum => (Some(attribute), Vec::new()),
            Histogram => {
                // In tenths.
                let bounds = pick(dice, &[&[2_000][..], &[3, 10, 3_000], &[2, 3, 100_000]]);
                (Some(attribute), bounds.iter().map(|bound| bound * AttributeMetric::ONE / 10).collect())
            }
        };
        let intrinsics = [AttributeMetric::SPAN_NAME, AttributeMetric::SPAN_KIND, AttributeMetric::STATUS_CODE];
        let intrinsic = |name: &str| Dimension { name: name.to_owned(), or: Vec::new(), default: None };
        let intrinsics: Vec<_> = intrinsics.into_iter().filter(|_| chance(dice, 3)).map(intrinsic).collect();
        let service = if chance(dice, 4) { Vec::new() } else { AttributeMetric::default_labels() };
        AttributeMetric {
            name: name.to_owned(),
            description: String::new(),
            unit: String::new(),
            kind,
            matching: policies(dice),
            value,
            bounds,
            labels: [service, intrinsics, dimensions(dice, 1)].concat(),
        }
    };
    let chosen: Vec<_> = all.into_iter().filter(|_| chance(dice, 2)).collect();
    chosen.into_iter().map(|one| entry(one, dice)).collect()
}

fn service_graphs(dice: &mut Dice, config: &mut Config) {
    let settings = &mut config.core.service_graphs;
    settings.enabled = !chance(dice, 10);
    settings.wait = pick(dice, &[0, 1_000, 10_000, 40_000]);
    settings.max_items = pick(dice, &[2, 6, 1_000, 1_000]);
    settings.requests = !chance(dice, 6);
    settings.latency = !chance(dice, 6);
    settings.connection_info = chance(dice, 2);
    settings.dimensions = dimensions(dice, 2);
    settings.client_server_prefix = chance(dice, 2);
    settings.virtual_node_label = chance(dice, 2);
    settings.messaging_latency = chance(dice, 2);
    settings.filter_policies = policies(dice);
    settings.multiplier_key = multiplier(dice);
    settings.multiplier_of_text = chance(dice, 3);
    settings.tracestate_multiplier = chance(dice, 3);
}

fn graph_features(dice: &mut Dice, config: &mut Config) {
    let settings = &mut config.core.service_graphs;
    let namespaces = [ServiceNamespace::Off, ServiceNamespace::Labels, ServiceNamespace::Name];
    settings.service_namespace = pick(dice, &namespaces);
    settings.fan_out = chance(dice, 3);
    settings.links = chance(dice, 3);
    settings.ancestors = pick(dice, &[Ancestors::Off, Ancestors::Off, Ancestors::Client, Ancestors::Any]);
    settings.operations = chance(dice, 3);
    settings.topology = chance(dice, 3);
    settings.latency_sides = pick(dice, &[LatencySides::Both, LatencySides::Client, LatencySides::Server]);
    settings.each_root = chance(dice, 3);
    settings.strict_callers = chance(dice, 3);
    settings.type_of_both = chance(dice, 3);
    settings.receive_once = chance(dice, 2);
    settings.nested_once = chance(dice, 3);
    settings.orphans = chance(dice, 3);
    settings.database_port = chance(dice, 3);
    if chance(dice, 3) {
        settings.database_node_attributes = vec!["db.namespace".to_owned(), "server.address".to_owned()];
    }
    settings.missing_side_is_zero = !chance(dice, 2);
    settings.failed_http_status = pick(dice, &[0, 500, 400]);
    settings.failed_grpc_codes = if chance(dice, 3) { vec![2, 14] } else { Vec::new() };
}

fn sending(dice: &mut Dice, config: &mut Config) {
    let settings = &mut config.core.series;
    settings.interval = pick(dice, &[0, 0, 30_000, 60_000]);
    settings.write = !chance(dice, 12);
    settings.tenant_label = pick(dice, &["", "", "tenant"]).to_owned();
    if chance(dice, 3) {
        settings.external_labels = [("cluster".to_owned(), "c".to_owned())].into();
    }
    settings.exemplars = !chance(dice, 3);
    settings.exemplars_on_counters = chance(dice, 3);
    config.remote_write.max_samples = pick(dice, &[5, 100, 2_000]);
    // Without a throw of its own, which would change all cases.
    let seldom = settings.interval == 0 && config.remote_write.max_samples != 100;
    settings.resend_unchanged = if seldom { 60_000 } else { 0 };
}

fn dimensions(dice: &mut Dice, most: u64) -> Vec<Dimension> {
    let one = |dice: &mut Dice| Dimension {
        or: if chance(dice, 4) { vec![pick(dice, &KEYS).to_owned()] } else { Vec::new() },
        name: pick(dice, &KEYS).to_owned(),
        default: chance(dice, 3).then(|| "none".to_owned()),
    };
    (0..dice.below(most + 1)).map(|_| one(dice)).collect()
}

fn multiplier(dice: &mut Dice) -> String {
    if chance(dice, 3) { "sampling.ratio".to_owned() } else { String::new() }
}

fn policies(dice: &mut Dice) -> Vec<FilterPolicy> {
    let policies = (0..dice.below(5).saturating_sub(2)).map(|_| FilterPolicy {
        include: chance(dice, 3).then(|| block(dice)),
        include_any: chance(dice, 3).then(|| block(dice)),
        exclude: chance(dice, 3).then(|| block(dice)),
    });
    policies.filter(|p| p.include.is_some() || p.include_any.is_some() || p.exclude.is_some()).collect()
}

fn block(dice: &mut Dice) -> PolicyMatch {
    let text = |text: &str| PolicyValue::Text(text.to_owned());
    let (match_type, key, value) = match dice.below(7) {
        0 => (MatchType::Strict, "kind", text("SPAN_KIND_SERVER")),
        1 => (MatchType::Regex, "kind", text("SPAN_KIND_(SERVER|CLIENT|CONSUMER|PRODUCER)")),
        2 => (MatchType::Regex, "resource.service.name", text("shop|cart|pay")),
        3 => (MatchType::Strict, "status", text("STATUS_CODE_ERROR")),
        4 => (MatchType::Regex, "name", text("^(get|put|GET)")),
        5 => (MatchType::Strict, "span.cached", PolicyValue::Bool(true)),
        _ => (MatchType::Strict, "resource.region", text("north")),
    };
    PolicyMatch { match_type, attributes: vec![PolicyAttribute { key: key.to_owned(), value }] }
}

fn pick<T: Copy>(dice: &mut Dice, of: &[T]) -> T {
    of[dice.below(of.len() as u64) as usize]
}

/// True once in `n` times.
fn chance(dice: &mut Dice, n: u64) -> bool {
    dice.below(n) == 0
}
