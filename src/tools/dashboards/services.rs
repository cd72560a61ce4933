//! Rate, errors and duration of services and their operations, from the span metrics.

use super::panel::{Dashboard, Panel, Query, Variable};

/// Spans that answer: calls that come in and messages that are received.
const ANSWERS: &str = "service=~\"$service\",span_kind=~\"SPAN_KIND_SERVER|SPAN_KIND_CONSUMER\"";
const ERROR: &str = "status_code=\"STATUS_CODE_ERROR\"";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        file: "spanmill-services.json",
        uid: "spanmill-services",
        title: "Services",
        description: "Rate, errors and duration by service and operation, from span metrics.",
        variables: vec![Variable {
            name: "service",
            label: "Service",
            query: "label_values(traces_spanmetrics_calls_total, service)",
        }],
        rows: vec![("Now", now()), ("By service", by_service()), ("Operations", operations()), ("All spans", spans())],
    }
}

fn calls(by: &str, more: &str, range: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(",{more}") };
    format!("sum{by}(rate(traces_spanmetrics_calls_total{{{ANSWERS}{more}}}[{range}]))")
}

/// 0 where no call failed, no value where there was no call.
fn errors(by: &str, range: &str) -> String {
    let (all, failed) = (calls(by, "", range), calls(by, ERROR, range));
    format!("({failed} or 0 * {all}) / ({all} > 0)")
}

fn quantile(q: &str, by: &str, range: &str) -> String {
    let buckets = format!("rate(traces_spanmetrics_latency_bucket{{{ANSWERS}}}[{range}])");
    format!("histogram_quantile({q}, sum by (le{by}) ({buckets}))")
}

fn now() -> Vec<Panel> {
    const RANGE: &str = "$__rate_interval";
    vec![
        Panel::number("Requests", "Calls answered and messages received per second.", "reqps", calls("", "", RANGE)),
        Panel::number("Errors", "Share of them that failed.", "percentunit", errors("", RANGE)),
        Panel::number("Median", "Half of them took no longer.", "s", quantile("0.5", "", RANGE)),
        Panel::number("95th percentile", "95 % of them took no longer.", "s", quantile("0.95", "", RANGE)),
        Panel::number(
            "Services",
            "Services that answered something.",
            "short",
            format!("count({} > 0)", calls(" by (service) ", "", RANGE)),
        ),
    ]
}

fn by_service() -> Vec<Panel> {
    const RANGE: &str = "$__rate_interval";
    const BY: &str = " by (service) ";
    vec![
        Panel::lines(
            "Requests",
            "Calls answered and messages received per second.",
            "reqps",
            [("{{service}}", calls(BY, "", RANGE))],
        ),
        Panel::lines("Errors", "Share of requests that failed.", "percentunit", [("{{service}}", errors(BY, RANGE))]),
        Panel::lines(
            "Duration, 95th percentile",
            "Below the first bucket's bound it is interpolated: choose span_metrics.histogram_buckets that fit.",
            "s",
            [("{{service}}", quantile("0.95", ", service", RANGE))],
        ),
    ]
}

fn operations() -> Vec<Panel> {
    const RANGE: &str = "$__range";
    const BY: &str = " by (service, span_name) ";
    vec![
        Panel::table(
            "Operations",
            "The chosen time range as a whole.",
            vec![
                Query::column("Requests/s", "reqps", calls(BY, "", RANGE)),
                Query::column("Errors", "percentunit", errors(BY, RANGE)),
                Query::column("Median", "s", quantile("0.5", ", service, span_name", RANGE)),
                Query::column("95th percentile", "s", quantile("0.95", ", service, span_name", RANGE)),
            ],
        )
        .sized(24, 12),
    ]
}

fn spans() -> Vec<Panel> {
    let spans = "sum by (service) (rate(traces_spanmetrics_calls_total{service=~\"$service\"}[$__rate_interval]))";
    let kinds = "sum by (span_kind) (rate(traces_spanmetrics_calls_total{service=~\"$service\"}[$__rate_interval]))";
    let bytes = "sum by (service) (rate(traces_spanmetrics_size_total{service=~\"$service\"}[$__rate_interval]))";
    vec![
        Panel::lines(
            "Spans",
            "Spans of every kind per second: what tracing costs.",
            "ops",
            [("{{service}}", spans.into())],
        ),
        Panel::lines("Spans by kind", "Spans of every kind per second.", "ops", [("{{span_kind}}", kinds.into())]),
        Panel::lines("Bytes of spans", "Bytes of span data per second.", "Bps", [("{{service}}", bytes.into())]),
    ]
}
