//! The reference file, `config/spanmill.yaml`: every key with its default and one line on it.

use std::fmt::Write;

use super::draft::Draft;
use super::keys::{self, SECTIONS};
use super::value::show;

const HEAD: &str = "\
# spanmill: every key with its default and its meaning. A file needs only the values that differ.
#
# Stronger layers replace weaker ones: defaults < file < environment < flags.
#   environment   SPANMILL_ and the path in upper case with _ for dots, as in SPANMILL_KAFKA_BROKERS=kafka-1:9092
#   flags         --set path=value, as in --set kafka.brokers=kafka-1:9092
# There, a list is written a,b and a map {name: value}. The entries of a map are layered one by one, and a flag can set
# a single one: --set remote_write.headers.X-Team=checkout
#
# Durations: 250ms, 5s, 15m, 1h. Sizes: 900KB, 64MiB. Empty text (\"\") means not set.
# Every secret can be read from a file instead: password_file, token_file, and {file: path} in place of the value of a
# header or Kafka property. Relative paths start at the working directory. Secrets are never printed.
#
# `spanmill check` reports everything that is wrong with a file, or prints the effective values with their sources.
";

/// Examples of lists that are empty by default.
pub(super) const EXAMPLES: [(&str, &str); 15] = [
    ("remote_write.write_relabel_configs", "[{source_labels: [__name__], regex: .*_bucket, action: drop}]"),
    ("span_metrics.bucket_sets", "[{services: [cache], kinds: [SPAN_KIND_SERVER], buckets: [0.0001, 0.001, 0.01]}]"),
    ("span_metrics.dimensions", "[k8s.namespace.name, {name: http.request.method, default: none}]"),
    ("span_metrics.calls_dimensions", "[[http.response.status_code, http.status_code]]"),
    ("span_metrics.latency_dimensions", "[http.route]"),
    ("span_metrics.dimension_mappings", "[{name: node, source_labels: [k8s.cluster.name, k8s.node.name], join: /}]"),
    ("span_metrics.events.dimensions", "[exception.type]"),
    (
        "span_metrics.filter_policies",
        "[{exclude: {match_type: regex, attributes: [{key: span.url.path, value: ^/healthz?$}]}}]",
    ),
    ("service_graphs.dimensions", "[k8s.cluster.name]"),
    (
        "service_graphs.filter_policies",
        "[{include: {match_type: strict, attributes: [{key: resource.deployment.environment, value: prod}]}}]",
    ),
    ("service_graphs.failed_grpc_codes", "[2, 4, 13, 14]"),
    (
        "slos",
        "[{name: checkout, match: [{include: {match_type: strict, attributes: [{key: kind, value: SPAN_KIND_SERVER}]}}], \
         good: {latency: 300ms}, labels: [service, http.route], objective: 99.9}]",
    ),
    (
        "attribute_metrics",
        "[{name: cart_value_total, match: [{include: {match_type: strict, attributes: [{key: kind, value: \
         SPAN_KIND_SERVER}]}}], value: cart.value, labels: [service, cart.currency]}]",
    ),
    ("attribute_metrics_presets", "[genai, http]"),
    ("span_names.rules", "[{match: \"^/users/[^/]+\", replace: /users/*}]"),
];

/// The text of the reference file. It loads as [`Config::default`](super::Config::default).
#[must_use]
pub fn reference() -> String {
    let mut out = HEAD.to_owned();
    let mut draft = Draft::default();
    let mut written: Vec<&str> = Vec::new();
    for key in keys::all() {
        for (section, doc) in SECTIONS {
            let around = key.path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
            if around && !written.contains(section) {
                let blank = if section.contains('.') { "" } else { "\n" };
                out.push_str(blank);
                entry(&mut out, section, doc, "");
                written.push(section);
            }
        }
        if !key.path.contains('.') {
            out.push('\n');
        }
        entry(&mut out, key.path, key.doc, &format!(" {}", show(&(key.slot)(&mut draft))));
        if let Some((path, example)) = EXAMPLES.iter().find(|(path, _)| *path == key.path) {
            let indent = "  ".repeat(path.matches('.').count());
            let name = path.rsplit('.').next().unwrap_or(path);
            writeln!(out, "{indent}# {name}: {example}").expect("a string takes everything");
        }
    }
    out
}

fn entry(out: &mut String, path: &str, doc: &str, value: &str) {
    let indent = "  ".repeat(path.matches('.').count());
    let name = path.rsplit('.').next().unwrap_or(path);
    write!(out, "{indent}# {doc}\n{indent}{name}:{value}\n").expect("a string takes everything");
}
