//! Random settings of service graphs.

use spanmill::core::settings::{
    Ancestors, Dimension, FilterPolicy, LatencySides, MatchType, PolicyAttribute, PolicyMatch, PolicyValue, Profile,
    ServiceNamespace, Settings, Tenants,
};
use spanmill::core::tasks::span::SpanSettings;

use super::scramble::Dice;

/// The same settings with another service graph.
pub(crate) fn graphs(settings: SpanSettings, dice: &mut Dice) -> SpanSettings {
    let mut config = Settings::clone(settings.tenants.defaults());
    vary(dice, &mut config);
    SpanSettings { tenants: Tenants::from(config), ..settings }
}

pub(crate) fn vary(dice: &mut Dice, config: &mut Settings) {
    let mut maybe = |one_in: u64| dice.below(one_in) == 0;
    let graphs = &mut config.service_graphs;
    graphs.requests = !maybe(8);
    graphs.latency = !maybe(8);
    graphs.connection_info = maybe(3);
    graphs.client_server_prefix = maybe(2);
    graphs.virtual_node_label = maybe(2);
    graphs.messaging_latency = maybe(2);
    graphs.missing_side_is_zero = maybe(2);
    (graphs.fan_out, graphs.links) = (maybe(3), maybe(3));
    graphs.ancestors = match (maybe(3), maybe(3)) {
        (true, _) => Ancestors::Client,
        (_, true) => Ancestors::Any,
        _ => Ancestors::Off,
    };
    graphs.operations = maybe(3);
    graphs.latency_sides = match (maybe(4), maybe(4)) {
        (true, _) => LatencySides::Client,
        (_, true) => LatencySides::Server,
        _ => LatencySides::Both,
    };
    (graphs.each_root, graphs.strict_callers) = (maybe(3), maybe(3));
    graphs.orphans = maybe(4);
    (graphs.type_of_both, graphs.receive_once) = (maybe(3), maybe(2));
    if maybe(3) {
        graphs.failed_http_status = 500;
        graphs.failed_grpc_codes = vec![2, 13];
    }
    if maybe(2) {
        let dimension = |name: &str, default: Option<&str>| Dimension {
            or: Vec::new(),
            name: name.into(),
            default: default.map(Into::into),
        };
        graphs.dimensions = vec![dimension("http.route", None), dimension("user.id", Some("nobody"))];
    }
    if maybe(3) {
        let attributes = vec![PolicyAttribute { key: "span.drop".into(), value: PolicyValue::Text("yes".into()) }];
        let exclude = Some(PolicyMatch { match_type: MatchType::Strict, attributes });
        graphs.filter_policies = vec![FilterPolicy { include: None, include_any: None, exclude }];
    }
    if maybe(3) {
        graphs.tracestate_multiplier = true;
    }
    graphs.service_namespace = match (maybe(3), maybe(3)) {
        (true, _) => ServiceNamespace::Labels,
        (_, true) => ServiceNamespace::Name,
        _ => ServiceNamespace::Off,
    };
    if maybe(4) {
        config.naming.profile = Profile::Otel;
    }
}
