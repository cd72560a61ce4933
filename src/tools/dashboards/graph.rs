//! The service graph: which services call which, how often, how well.

use super::panel::{Dashboard, Look, Panel, Query, Variable};

const EDGES: &str = "client=~\"$client\",server=~\"$server\"";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        file: "spanmill-service-graph.json",
        uid: "spanmill-service-graph",
        title: "Service graph",
        description: "Which services call which, how often and how well, from the service graph.",
        variables: vec![
            Variable {
                name: "client",
                label: "Client",
                query: "label_values(traces_service_graph_request_total, client)",
            },
            Variable {
                name: "server",
                label: "Server",
                query: "label_values(traces_service_graph_request_total, server)",
            },
        ],
        rows: vec![("Graph", vec![nodes(), table()]), ("Edges", edges())],
    }
}

fn rate(metric: &str, by: &str, range: &str) -> String {
    format!("sum by ({by}) (rate(traces_service_graph_{metric}{{{EDGES}}}[{range}]))")
}

fn quantile(q: &str, side: &str, range: &str) -> String {
    format!("histogram_quantile({q}, {})", rate(&format!("request_{side}_seconds_bucket"), "le, client, server", range))
}

/// 0 where no call failed, no value where there was no call.
fn errors(range: &str) -> String {
    let all = rate("request_total", "client, server", range);
    format!("({} or 0 * {all}) / ({all} > 0)", rate("request_failed_total", "client, server", range))
}

/// Nodes are services with the calls that they answer, also those that only call others.
fn nodes() -> Panel {
    let of = |label: &str| {
        let named = format!(
            "label_replace(rate(traces_service_graph_request_total{{{EDGES}}}[$__range]), \"id\", \"$1\", \"{label}\", \"(.*)\")"
        );
        format!("sum by (id) ({named})")
    };
    let nodes = format!("label_replace({} or 0 * {}, \"title\", \"$1\", \"id\", \"(.*)\")", of("server"), of("client"));
    let ends = format!(
        "label_replace(label_replace({}, \"source\", \"$1\", \"client\", \"(.*)\"), \"target\", \"$1\", \"server\", \"(.*)\")",
        rate("request_total", "client, server", "$__range")
    );
    let edges = format!("label_join({ends}, \"id\", \" to \", \"client\", \"server\")");
    Panel {
        title: "Service graph",
        description: "Circles are services with the requests per second that they answer; arrows are requests per second.",
        look: Look::Nodes,
        unit: "reqps",
        width: 12,
        height: 16,
        queries: vec![Query::new("nodes", nodes), Query::new("edges", edges)],
    }
}

fn table() -> Panel {
    const RANGE: &str = "$__range";
    let queries = vec![
        Query::column("Requests/s", "reqps", rate("request_total", "client, server, connection_type", RANGE)),
        Query::column("Errors", "percentunit", errors(RANGE)),
        Query::column("Client, 95th percentile", "s", quantile("0.95", "client", RANGE)),
        Query::column("Server, 95th percentile", "s", quantile("0.95", "server", RANGE)),
    ];
    Panel::table("Edges", "The chosen time range as a whole.", queries).sized(12, 16)
}

fn edges() -> Vec<Panel> {
    const RANGE: &str = "$__rate_interval";
    const EDGE: &str = "{{client}} → {{server}}";
    vec![
        Panel::lines(
            "Requests",
            "Requests per second.",
            "reqps",
            [(EDGE, rate("request_total", "client, server", RANGE))],
        ),
        Panel::lines(
            "Errors",
            "Share of requests in which either side failed.",
            "percentunit",
            [(EDGE, errors(RANGE))],
        ),
        Panel::lines(
            "Duration, 95th percentile",
            "As the server measured it, or else the client.",
            "s",
            [(EDGE, format!("{} or {}", quantile("0.95", "server", RANGE), quantile("0.95", "client", RANGE)))],
        ),
        Panel::lines(
            "Network and queues",
            "What the client waited longer than the server worked, at the 95th percentile; rough, as quantiles do not subtract.",
            "s",
            [(EDGE, format!("{} - {}", quantile("0.95", "client", RANGE), quantile("0.95", "server", RANGE)))],
        ),
    ]
}
