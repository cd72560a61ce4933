//! What is well-formed and probably not what was meant: `check` reports it, and not as an error, because it may be
//! meant.

use super::Tenants;
use super::problem::quoted;
use super::settings::{Config, TenantSource};
use super::value::show_text;
use crate::core::settings::{
    AttributeMetric, Dimension, DimensionMapping, Encoding, FilterPolicy, MatchType, MetricValue, PolicyAttribute,
    PolicyMatch, PolicyValue, Profile, SloSubject,
};

/// Attributes that are whole numbers by the conventions.
const NUMBERS: [&str; 18] = [
    "client.port",
    "code.lineno",
    "db.response.returned_rows",
    "http.request.body.size",
    "http.request.resend_count",
    "http.request_content_length",
    "http.response.body.size",
    "http.response.status_code",
    "http.response_content_length",
    "http.status_code",
    "messaging.batch.message_count",
    "net.host.port",
    "net.peer.port",
    "network.peer.port",
    "process.pid",
    "rpc.grpc.status_code",
    "server.port",
    "thread.id",
];

/// Attributes of resources that users expect on spans.
const OF_RESOURCES: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// Intrinsics of a span, as they might be written if they were attributes.
const INTRINSICS: [&str; 3] = ["kind", "name", "status"];

/// Everything that looks odd, in the defaults and for single tenants, one line each: the key, and what to write
/// instead.
#[must_use]
pub fn hints(tenants: &Tenants) -> Vec<String> {
    let all = of(tenants.defaults());
    let more = tenants.overridden().flat_map(|(name, config)| {
        let own = of(config).into_iter().filter(|hint| !all.contains(hint));
        own.map(|hint| format!("tenants.{}.{hint}", show_text(name))).collect::<Vec<_>>()
    });
    all.iter().cloned().chain(more).collect()
}

fn of(config: &Config) -> Vec<String> {
    let (metrics, graphs) = (&config.core.span_metrics, &config.core.service_graphs);
    let mut out = Vec::new();
    for (path, dimensions) in [
        ("span_metrics.dimensions", &metrics.dimensions),
        ("span_metrics.calls_dimensions", &metrics.calls_dimensions),
        ("span_metrics.latency_dimensions", &metrics.latency_dimensions),
        ("span_metrics.events.dimensions", &metrics.event_dimensions),
        ("service_graphs.dimensions", &graphs.dimensions),
    ] {
        dimensions
            .iter()
            .enumerate()
            .for_each(|(i, dimension)| of_dimension(&format!("{path}[{i}]"), dimension, &mut out));
    }
    for (i, mapping) in metrics.dimension_mappings.iter().enumerate() {
        of_mapping(&format!("span_metrics.dimension_mappings[{i}]"), mapping, &mut out);
    }
    for (path, names) in [
        ("service_graphs.peer_attributes", &graphs.peer_attributes),
        ("service_graphs.database_name_attributes", &graphs.database_name_attributes),
        ("service_graphs.database_node_attributes", &graphs.database_node_attributes),
        ("host_info.host_identifiers", &config.core.host_info.host_identifiers),
    ] {
        out.extend(names.iter().filter_map(|name| scoped(path, name)));
    }
    for (path, key) in [
        ("span_metrics.span_multiplier_key", &metrics.multiplier_key),
        ("service_graphs.span_multiplier_key", &graphs.multiplier_key),
    ] {
        out.extend(scoped(path, key));
    }
    of_callers(config, &mut out);
    if config.kafka.encoding == Encoding::TempoPushBytes && matches!(config.tenant, TenantSource::Static(_)) {
        out.push(
            "tenant.source: is static, and the keys of Tempo's records name their tenants: write `key`".to_owned(),
        );
    }
    for (i, settings) in config.kafka.topic_settings.iter().enumerate() {
        let static_tenant = settings.tenant.is_none() && matches!(config.tenant, TenantSource::Static(_));
        if settings.encoding == Some(Encoding::TempoPushBytes) && static_tenant {
            out.push(format!(
                "kafka.topic_settings[{i}]: tenant.source is static, and the keys of Tempo's records name their \
                 tenants: write `tenant.source: key`, or a tenant here"
            ));
        }
    }
    of_slos(config, &mut out);
    of_attribute_metrics(config, &mut out);
    of_policies("span_metrics.filter_policies", &metrics.filter_policies, &mut out);
    of_policies("service_graphs.filter_policies", &graphs.filter_policies, &mut out);
    out
}

fn of_slos(config: &Config, out: &mut Vec<String>) {
    for (i, slo) in config.core.slos.iter().enumerate() {
        if slo.of != SloSubject::Spans {
            continue;
        }
        if slo.matching.is_empty() {
            out.push(format!(
                "slos[{i}]: has no `match`, so every span is an event, those inside of a service included; for requests, \
                 include `{{key: kind, value: SPAN_KIND_SERVER}}`"
            ));
        }
        for (j, label) in slo.labels.iter().enumerate() {
            of_dimension(&format!("slos[{i}].labels[{j}]"), label, out);
        }
        of_policies(&format!("slos[{i}].match"), &slo.matching, out);
        of_policies(&format!("slos[{i}].good.failed"), &slo.failed, out);
    }
}

fn of_attribute_metrics(config: &Config, out: &mut Vec<String>) {
    for (i, metric) in config.core.attribute_metrics.iter().enumerate() {
        let path = format!("attribute_metrics[{i}]");
        if let Some(MetricValue::Attribute(names, _)) = &metric.value {
            out.extend(names.iter().filter_map(|name| scoped(&format!("{path}.value"), name)));
        }
        let attributes =
            metric.labels.iter().enumerate().filter(|(_, d)| !AttributeMetric::INTRINSICS.contains(&d.name.as_str()));
        for (j, label) in attributes {
            of_dimension(&format!("{path}.labels[{j}]"), label, out);
        }
        of_policies(&format!("{path}.match"), &metric.matching, out);
    }
}

/// An attribute name with a scope before it. Only filter policies have scopes.
fn scoped(path: &str, name: &str) -> Option<String> {
    let rest = ["span.", "resource.", "."].iter().find_map(|scope| name.strip_prefix(scope))?;
    let remedy = format!("is looked up under exactly this name; attributes have no scope here: write {}", quoted(rest));
    (!rest.is_empty()).then(|| format!("{path}: {} {remedy}", quoted(name)))
}

fn of_dimension(path: &str, dimension: &Dimension, out: &mut Vec<String>) {
    for name in [&dimension.name].into_iter().chain(&dimension.or) {
        let bare = name.strip_prefix("span.").or_else(|| name.strip_prefix("span_")).unwrap_or(name);
        if INTRINSICS.contains(&bare) || bare == "status_code" {
            let message = "is looked up among the attributes; kind, name and status are labels already, see \
                           `span_metrics.intrinsic_dimensions`";
            out.push(format!("{path}: {} {message}", quoted(name)));
        } else {
            out.extend(scoped(path, name));
        }
    }
}

fn of_mapping(path: &str, mapping: &DimensionMapping, out: &mut Vec<String>) {
    let DimensionMapping { name, source_labels, join } = mapping;
    out.extend(source_labels.iter().filter_map(|source| scoped(path, source)));
    if let ([first, second, ..], "") = (source_labels.as_slice(), join.as_str()) {
        let remedy =
            format!("for the first one present, write the dimension [{}, {}]", show_text(first), show_text(second));
        out.push(format!("{path}: joins all values that are present, as in `200200`; {remedy}"));
    }
    if let ([source], true) = (source_labels.as_slice(), name.contains('.'))
        && source != name
    {
        let remedy = format!("for either, write the dimension [{}, {}]", show_text(name), show_text(source));
        out.push(format!("{path}: an attribute {} itself is ignored; {remedy}", quoted(name)));
    }
}

/// Attributes by which a server describes itself, and which would name its caller.
fn of_callers(config: &Config, out: &mut Vec<String>) {
    let graphs = &config.core.service_graphs;
    let own = graphs.peer_attributes.iter().find(|name| name.starts_with("server."));
    if let Some(name) = own.filter(|_| !graphs.strict_callers && config.core.naming.profile == Profile::Tempo) {
        let remedy = "set `service_graphs.strict_callers` or `service_graphs.preset: recommended`";
        out.push(format!(
            "service_graphs.peer_attributes: {} of a server span names its caller, as in Tempo; {remedy}",
            quoted(name)
        ));
    }
}

fn of_policies(path: &str, policies: &[FilterPolicy], out: &mut Vec<String>) {
    for (i, policy) in policies.iter().enumerate() {
        let blocks = [("include", &policy.include), ("include_any", &policy.include_any), ("exclude", &policy.exclude)];
        for (name, block) in blocks {
            let Some(PolicyMatch { match_type, attributes }) = block else { continue };
            for (j, attribute) in attributes.iter().enumerate() {
                let found = of_condition(*match_type, attribute);
                out.extend(found.map(|message| format!("{path}[{i}].{name}.attributes[{j}]: {message}")));
            }
        }
    }
}

fn of_condition(match_type: MatchType, condition: &PolicyAttribute) -> Option<String> {
    let PolicyAttribute { key, value } = condition;
    let (scope, name) = key.split_once('.')?;
    if scope == "span" && (INTRINSICS.contains(&name) || OF_RESOURCES.contains(&name)) {
        let meant = if INTRINSICS.contains(&name) { name.to_owned() } else { format!("resource.{name}") };
        let what = format!("{} is an attribute of spans with this name", quoted(key));
        return Some(format!("{what}; did you mean {}?", quoted(&meant)));
    }
    let is_number = NUMBERS.contains(&name);
    match (match_type, value) {
        (MatchType::Regex, _) if is_number => Some(format!(
            "{} is a number by the conventions, and a regular expression never matches a number; list the numbers under \
             `match_type: strict`",
            quoted(key)
        )),
        (MatchType::Strict, PolicyValue::Text(text)) if is_number && text.parse::<i64>().is_ok() => Some(format!(
            "{} is a number by the conventions, and no number equals a text; write {text} without quotes",
            quoted(key)
        )),
        (MatchType::Strict, PolicyValue::Text(text)) if text == "true" || text == "false" => {
            Some(format!("a boolean never equals the text {}; write it without quotes if it is one", quoted(text)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::config::{Sources, load, reference};

    fn hinted(text: &str) -> Vec<String> {
        let sources = Sources { file: Some(("a.yaml", text)), env: &[], set: &[], read_file: &|_| Ok(String::new()) };
        hints(&load(&sources).expect("well-formed").tenants)
    }

    fn about(text: &str, part: &str) {
        let hints = hinted(text);
        assert!(hints.len() == 1 && hints[0].contains(part), "{text}: {hints:?} instead of one with {part:?}");
    }

    #[test]
    fn records_of_tempo_that_are_all_given_to_one_tenant_are_hinted_at() {
        about("kafka: {encoding: tempo_push_bytes}", "tenant.source: is static");
        assert_eq!(hinted("{kafka: {encoding: tempo_push_bytes}, tenant: {source: key}}"), Vec::<String>::new());
    }

    #[test]
    fn defaults_examples_and_what_is_recommended_need_no_hint() {
        assert_eq!(hinted(&reference()), Vec::<String>::new());
        assert_eq!(
            hinted("service_graphs: {preset: recommended, peer_attributes: [server.address]}"),
            Vec::<String>::new()
        );
        for (path, example) in crate::config::reference::EXAMPLES {
            let set = [format!("{path}={example}")];
            let sources = Sources { file: None, env: &[], set: &set, read_file: &|_| Ok(String::new()) };
            assert_eq!(hints(&load(&sources).expect("an example").tenants), Vec::<String>::new());
        }
    }

    #[test]
    fn what_is_no_attribute_of_spans_is_named_as_it_is_written() {
        let policy = |how: &str, key: &str, value: &str| {
            let block = format!("{{match_type: {how}, attributes: [{{key: {key}, value: {value}}}]}}");
            format!("span_metrics: {{filter_policies: [{{exclude: {block}}}]}}")
        };
        about(&policy("strict", "span.kind", "SPAN_KIND_SERVER"), "did you mean `kind`?");
        about(&policy("regex", "span.service.name", "shop"), "did you mean `resource.service.name`?");
        about(&policy("regex", "span.http.status_code", "'5..'"), "never matches a number");
        about(&policy("strict", "span.http.response.status_code", "'500'"), "write 500 without quotes");
        about(&policy("strict", "span.error", "'true'"), "never equals the text `true`");
        for (how, key, value) in [
            ("strict", "kind", "SPAN_KIND_SERVER"),
            ("strict", "span.http.response.status_code", "500"),
            ("regex", "span.url.path", "'^/health'"),
            ("strict", "span.error", "true"),
        ] {
            assert_eq!(hinted(&policy(how, key, value)), Vec::<String>::new(), "{key}");
        }
    }

    #[test]
    fn names_with_a_scope_and_mappings_of_old_and_new_names_are_told() {
        about("span_metrics: {dimensions: [span.http.method]}", "write `http.method`");
        about("span_metrics: {dimensions: [[http.method, resource.region]]}", "write `region`");
        about("service_graphs: {dimensions: [span.kind]}", "labels already");
        about("service_graphs: {peer_attributes: [span.peer.service]}", "write `peer.service`");
        about("service_graphs: {peer_attributes: [server.address]}", "strict_callers");
        about("span_metrics: {span_multiplier_key: span.ratio}", "write `ratio`");
        let mapping = |name: &str, sources: &str, join: &str| {
            let entry = format!("{{name: {name}, source_labels: [{sources}], join: '{join}'}}");
            format!("span_metrics: {{dimension_mappings: [{entry}]}}")
        };
        about(&mapping("status", "http.response.status_code, http.status_code", ""), "write the dimension [");
        about(&mapping("http.response.status_code", "http.status_code", ""), "itself is ignored");
        assert_eq!(hinted(&mapping("node", "cluster, node", "/")), Vec::<String>::new());
    }

    #[test]
    fn an_objective_of_all_spans_is_hinted_at() {
        about("slos: [{name: a}]", "slos[0]: has no `match`");
        let servers = "{include: {match_type: strict, attributes: [{key: kind, value: SPAN_KIND_SERVER}]}}";
        about(&format!("slos: [{{name: a, match: [{servers}], labels: [span.x]}}]"), "slos[0].labels[0]: `span.x`");
        assert_eq!(hinted(&format!("slos: [{{name: a, match: [{servers}]}}]")), Vec::<String>::new());
    }

    #[test]
    fn an_attribute_metric_with_scopes_in_its_names_is_hinted_at() {
        about("attribute_metrics: [{name: a_total, value: span.x}]", "attribute_metrics[0].value: `span.x`");
        about("attribute_metrics: [{name: a_total, labels: [status_code, span.y]}]", "labels[1]: `span.y`");
        assert_eq!(hinted("attribute_metrics: [{name: a_total, labels: [span_kind]}]"), Vec::<String>::new());
    }

    #[test]
    fn a_tenant_hears_of_its_own_only() {
        let odd = |names: &[&str]| {
            let mut config = Config::default();
            config.core.service_graphs.peer_attributes = names.iter().map(|name| (*name).to_owned()).collect();
            Arc::new(config)
        };
        let own: BTreeMap<_, _> = [("a".to_owned(), odd(&["span.x", "span.y"]))].into();
        let hints = hints(&Tenants::new(odd(&["span.x"]), own));
        assert_eq!(hints.len(), 2);
        assert!(hints[1].starts_with("tenants.a.service_graphs.peer_attributes: `span.y`"), "{hints:?}");
    }
}
