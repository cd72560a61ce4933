//! Which labels span metrics and edges get from their settings.

use super::{Profile, Settings};
use crate::core::model::Spelling;
use crate::core::model::labels::{cut, sanitize_name};

/// Labels that no attribute may become: they distinguish the series of a label set.
const RESERVED: [&str; 2] = ["__name__", "le"];
/// The labels of an instrumentation scope.
pub const SCOPE_LABELS: [&str; 2] = ["span_instrumentation_scope_name", "span_instrumentation_scope_version"];

/// The label with the name of a service level objective.
pub const SLO_LABEL: &str = "slo";

/// The label that separates the label sets of attribute metrics: the name of the metric. It is in their label blocks, and never
/// written.
pub use crate::core::model::labels::METRIC_LABEL;

/// Makes an attribute name a label name.
///
/// In the profile `tempo`, every character outside `[A-Za-z0-9_]` becomes one `_`. A leading digit is prefixed by one,
/// which Tempo omits: receivers that are older than Prometheus 3 refuse such a series. In the profile `otel`, the names
/// are those of the Collector's exporter: a run of such characters is one `_`, `key_` stands before a digit, `key`
/// before a single `_`, and a name of such characters alone is dropped.
#[must_use]
pub fn sanitize_label(profile: Profile, name: &str) -> String {
    match profile {
        Profile::Tempo if name.starts_with(|c: char| c.is_ascii_digit()) => format!("_{}", sanitize_name(name)),
        Profile::Tempo => sanitize_name(name),
        Profile::Otel => collector_label(name),
    }
}

fn collector_label(name: &str) -> String {
    let reserved = name.strip_prefix("__").and_then(|name| name.strip_suffix("__"));
    let mut label = String::new();
    for c in reserved.unwrap_or(name).chars() {
        if c.is_ascii_alphanumeric() {
            label.push(c);
        } else if !label.ends_with('_') {
            label.push('_');
        }
    }
    match (reserved, label.as_bytes().first()) {
        _ if label.bytes().all(|b| b == b'_') => String::new(),
        (Some(_), _) => format!("__{label}__"),
        (None, Some(b'0'..=b'9')) => format!("key_{label}"),
        (None, Some(b'_')) => format!("key{label}"),
        _ => label,
    }
}

/// How values that are no strings are written in labels.
#[must_use]
pub fn spelling(profile: Profile) -> Spelling {
    match profile {
        Profile::Tempo => Spelling::Tempo,
        Profile::Otel => Spelling::Collector,
    }
}

/// The labels of an edge that a dimension becomes, one for each side if the settings distinguish them.
#[must_use]
pub fn edge_labels(settings: &Settings, name: &str) -> Vec<String> {
    let profile = settings.naming.profile;
    if sides_apart(settings) {
        return ["client_", "server_"].map(|side| sanitize_label(profile, &format!("{side}{name}"))).to_vec();
    }
    let label = sanitize_label(profile, name);
    let taken = RESERVED.contains(&label.as_str());
    vec![prefixed(&label, taken)]
}

/// Whether the dimensions of an edge name their side. In the Collector they always do.
fn sides_apart(settings: &Settings) -> bool {
    settings.service_graphs.client_server_prefix || settings.naming.profile == Profile::Otel
}

/// The labels of service, span name, span kind, status code and status message.
#[must_use]
pub fn built_in(profile: Profile) -> [&'static str; 5] {
    let service = match profile {
        Profile::Tempo => "service",
        Profile::Otel => "service_name",
    };
    [service, "span_name", "span_kind", "status_code", "status_message"]
}

/// The label of a dimension or mapping. The names of built-in labels get the prefix `__`, be those labels switched on
/// or not; so do the two that Prometheus reserves.
#[must_use]
pub fn dimension_label(settings: &Settings, name: &str) -> String {
    let label = sanitize_label(settings.naming.profile, name);
    let taken = built_in(settings.naming.profile).contains(&label.as_str()) || RESERVED.contains(&label.as_str());
    cut_name(settings, &prefixed(&label, taken))
}

/// The label of an attribute on the counters of a service level objective: like a dimension's, and [`SLO_LABEL`] is reserved,
/// too.
#[must_use]
pub fn slo_label(settings: &Settings, name: &str) -> String {
    let label = dimension_label(settings, name);
    let taken = label == SLO_LABEL;
    cut_name(settings, &prefixed(&label, taken))
}

/// The label of an attribute on an attribute metric: like a dimension's, and [`METRIC_LABEL`] is reserved, too.
#[must_use]
pub fn attribute_metric_label(settings: &Settings, name: &str) -> String {
    let label = dimension_label(settings, name);
    let taken = label == METRIC_LABEL;
    cut_name(settings, &prefixed(&label, taken))
}

/// The label of a resource attribute on `traces_target_info`: like a dimension's, and `job` and `instance` are
/// reserved, too. In the profile `otel`, these two hide attributes of their names, and others keep their names.
#[must_use]
pub fn target_info_label(settings: &Settings, name: &str) -> String {
    match name {
        _ if settings.naming.profile == Profile::Otel => {
            let label = collector_label(name);
            cut_name(settings, &prefixed(&label, RESERVED.contains(&label.as_str())))
        }
        "job" | "instance" => cut_name(settings, &prefixed(name, true)),
        _ => dimension_label(settings, name),
    }
}

fn prefixed(label: &str, taken: bool) -> String {
    if taken { format!("__{label}") } else { label.to_owned() }
}

fn cut_name(settings: &Settings, label: &str) -> String {
    cut(label, settings.limits.max_label_name_length).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_names_become_label_names() {
        let tempo = |name| sanitize_label(Profile::Tempo, name);
        assert_eq!(tempo("http.method-x y"), "http_method_x_y");
        assert_eq!(tempo("größe"), "gr__e");
        assert_eq!(tempo("2xx"), "_2xx", "older receivers refuse a label that begins with a digit");
    }

    #[test]
    fn the_collectors_names_of_labels() {
        for (name, label) in [
            ("http.method", "http_method"),
            ("a:b", "a_b"),
            ("special!&chars)", "special_chars_"),
            ("größe", "gr_e"),
            ("1cloud.region", "key_1cloud_region"),
            (".foo", "key_foo"),
            ("_x", "key_x"),
            ("__two", "key_two"),
            ("a__b", "a_b"),
            ("__a..b__", "__a_b__"),
            ("字符", ""),
            ("__", ""),
            ("", ""),
        ] {
            assert_eq!(sanitize_label(Profile::Otel, name), label, "{name}");
        }
    }

    #[test]
    fn a_dimension_of_edges_never_becomes_a_reserved_label() {
        let mut config = Settings::default();
        assert_eq!(edge_labels(&config, "le"), ["__le"]);
        assert_eq!(edge_labels(&config, "__name__"), ["____name__"]);
        assert_eq!(edge_labels(&config, "1cloud.region"), ["_1cloud_region"]);
        config.naming.profile = Profile::Otel;
        assert_eq!(edge_labels(&config, "1cloud.region"), ["client_1cloud_region", "server_1cloud_region"]);
    }

    #[test]
    fn a_dimension_never_hides_a_built_in_label() {
        let mut config = Settings::default();
        assert_eq!(dimension_label(&config, "span.kind"), "__span_kind");
        assert_eq!(dimension_label(&config, "service"), "__service");
        assert_eq!(dimension_label(&config, "service.name"), "service_name");
        assert_eq!(dimension_label(&config, "le"), "__le");
        assert_eq!(target_info_label(&config, "job"), "__job");
        assert_eq!(dimension_label(&config, "job"), "job");
        config.naming.profile = Profile::Otel;
        assert_eq!(dimension_label(&config, "service.name"), "__service_name");
        assert_eq!(dimension_label(&config, "service"), "service");
    }
}
