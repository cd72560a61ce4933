//! Whole traces: how long requests take, what makes them slow, where errors begin, how often services call each other.

use super::panel::{Dashboard, Panel, Query, Variable};

const ROOT: &str = "root_service=~\"$service\"";
const RANGE: &str = "$__rate_interval";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        file: "spanmill-traces.json",
        uid: "spanmill-traces",
        title: "Traces",
        description: "How long whole requests take, what makes them slow and where errors begin, from whole traces (traces.*).",
        variables: vec![Variable {
            name: "service",
            label: "Root service",
            query: "label_values(traces_trace_duration_seconds_count, root_service)",
        }],
        rows: vec![("Requests", requests()), ("Slowness", slowness()), ("Errors", errors()), ("Calls", calls())],
    }
}

fn rate(metric: &str, by: &str, filter: &str, range: &str) -> String {
    format!("sum by ({by}) (rate({metric}{{{filter}}}[{range}]))")
}

fn quantile(q: &str, metric: &str, by: &str, range: &str) -> String {
    format!("histogram_quantile({q}, {})", rate(&format!("{metric}_bucket"), &format!("le, {by}"), ROOT, range))
}

fn requests() -> Vec<Panel> {
    const BY: &str = "root_service, root_operation";
    const LEGEND: &str = "{{root_service}} {{root_operation}}";
    vec![
        Panel::lines(
            "Traces",
            "Closed traces per second.",
            "reqps",
            [(LEGEND, rate("traces_trace_duration_seconds_count", BY, ROOT, RANGE))],
        ),
        Panel::lines(
            "Duration, 95th percentile",
            "From the earliest start to the latest end, also of work that continues after the answer.",
            "s",
            [(LEGEND, quantile("0.95", "traces_trace_duration_seconds", BY, RANGE))],
        ),
        Panel::lines(
            "Spans, 95th percentile",
            "Spans of a trace.",
            "short",
            [(LEGEND, quantile("0.95", "traces_trace_spans", BY, RANGE))],
        ),
    ]
}

fn slowness() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Critical path by service",
            "Seconds per second on the critical path of requests: shortening anything else makes no request faster.",
            "short",
            [("{{service}}", rate("traces_critical_path_seconds_total", "service", ROOT, RANGE))],
        ),
        Panel::lines(
            "Self time by service",
            "Seconds per second that spans take besides their children.",
            "short",
            [("{{service}}", rate("traces_self_time_seconds_total", "service", "", RANGE))],
        ),
        Panel::table(
            "Critical path by operation",
            "The chosen time range as a whole, seconds per second.",
            vec![Query::column(
                "On the path",
                "short",
                rate("traces_critical_path_seconds_total", "root_operation, service, operation", ROOT, "$__range"),
            )],
        )
        .sized(24, 10),
    ]
}

fn errors() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Where errors begin",
            "Failed spans without a failed child, per second.",
            "ops",
            [(
                "{{service}} {{operation}} {{error_type}}",
                rate("traces_error_origin_total", "service, operation, error_type", ROOT, RANGE),
            )],
        ),
        Panel::lines(
            "Where they are swallowed",
            "Spans that did not fail although a child did, per second.",
            "ops",
            [("{{service}} {{operation}}", rate("traces_error_swallowed_total", "service, operation", ROOT, RANGE))],
        ),
        Panel::lines(
            "Incomplete traces",
            "Spans whose place in their trace is wrong, per second.",
            "ops",
            [("{{service}} {{problem}}", rate("traces_quality_problems_total", "service, problem", "", RANGE))],
        ),
    ]
}

fn calls() -> Vec<Panel> {
    const GROUP: &str = "service, operation, callee, callee_operation";
    const LEGEND: &str = "{{service}} {{operation}} to {{callee}} {{callee_operation}}";
    let (calls, busy) = (
        rate("traces_fan_out_calls_seconds_total", "service, operation", "", RANGE),
        rate("traces_fan_out_busy_seconds_total", "service, operation", "", RANGE),
    );
    vec![
        Panel::lines(
            "Calls per request, 95th percentile",
            "How often one service calls another in one trace that has called it at all.",
            "short",
            [("{{client}} to {{server}}", quantile("0.95", "traces_calls_per_request", "client, server", RANGE))],
        ),
        Panel::lines(
            "Repeated calls",
            "Spans that call one operation traces.repeated_calls times or more, per second.",
            "ops",
            [(LEGEND, rate("traces_repeated_calls_total", GROUP, "", RANGE))],
        ),
        Panel::lines(
            "Retried calls",
            "Calls after a failed one to the same operation, per second.",
            "ops",
            [(LEGEND, rate("traces_retried_calls_total", GROUP, "", RANGE))],
        ),
        Panel::lines(
            "Calls at a time",
            "How many calls of a span run at a time, of spans with several: 1 is one after the other.",
            "short",
            [("{{service}} {{operation}}", format!("{calls} / ({busy} > 0)"))],
        ),
    ]
}
