//! `spanmill explain` on small traces in files, whose output is known as a whole, and on the embedded broker.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::SystemTime;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::mill::PATIENCE;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// Drops what checks health, and what a test environment does.
const FILTERS: [&str; 4] = [
    "--set",
    "span_metrics.filter_policies=[{exclude: {match_type: regex, attributes: [{key: span.url.path, value: ^/health}]}}, \
     {include: {match_type: strict, attributes: [{key: resource.deployment.environment, value: test}]}}]",
    "--set",
    "service_graphs.filter_policies=[{exclude: {match_type: strict, attributes: [{key: resource.deployment.environment, \
     value: test}]}}]",
];

/// Some metrics of whole traces.
const WHOLE: [&str; 8] = [
    "--set",
    "traces.duration=true",
    "--set",
    "traces.critical_path=true",
    "--set",
    "traces.span_metrics=true",
    "--set",
    "traces.branch_labels=[{name: database, from: descendant, key: db.name}]",
];

/// The files of `tests/explain`: the trace, the options, and what it must be explained as.
const CASES: [(&str, &[&str], &str); 9] = [
    ("call", &[], "call"),
    ("no_edge", &[], "no_edge"),
    ("no_edge", &["--set", "service_graphs.orphans=true", "--set", "service_graphs.each_root=true"], "no_edge_orphans"),
    ("filtered", &FILTERS, "filtered"),
    ("messages", &["--set", "service_graphs.links=true", "--set", "service_graphs.fan_out=true"], "messages"),
    ("call", &WHOLE, "call_whole"),
    ("call", &["--set", "service_graphs.enabled=false", "--set", "span_metrics.size=false"], "call_off"),
    ("call", &["--set", "overrides.file=tests/explain/overrides.yaml", "--tenant", "acme"], "call_tenant"),
    (
        "call",
        &["--set", "series.external_labels={cluster: eu}", "--set", "limits.max_active_series=10", "--tenant", "acme"],
        "call_labels",
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn explain(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spanmill"))
        .arg("explain")
        .args(args)
        .current_dir(root())
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn small_traces_are_explained_as_the_files_say() {
    let mut wrong = Vec::new();
    for (trace, options, name) in CASES {
        let file = format!("tests/explain/{trace}.json");
        let output = explain(&[&["--trace", TRACE, "--files", &file][..], options].concat());
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
        let expected = std::fs::read_to_string(root().join(format!("tests/explain/{name}.txt"))).unwrap_or_default();
        if text(&output.stdout) != expected {
            let found = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.txt"));
            std::fs::write(&found, &output.stdout).expect("it can be written");
            wrong.push(format!("tests/explain/{name}.txt is not {}", found.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_explanation_in_json_has_the_same_edges() {
    let output = explain(&["--trace", TRACE, "--files", "tests/explain/call.json", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let spans = told["traces"][0]["spans"].as_array().expect("spans");
    let mut edges = Vec::new();
    for edge in spans.iter().flat_map(|span| span["edges"].as_array().expect("edges")) {
        edges.push(["client", "server", "connection_type"].map(|key| edge[key].as_str().expect("text").to_owned()));
    }
    edges.sort();
    edges.dedup();
    let expected = [
        ["cart", "bank", "virtual_node"],
        ["cart", "carts", "database"],
        ["shop", "cart", ""],
        ["user", "shop", "virtual_node"],
    ];
    assert_eq!(edges, expected);
    assert_eq!(told["searched"]["records"], 2);
}

#[test]
fn a_trace_that_is_nowhere_is_an_error_with_a_remedy() {
    let output = explain(&["--trace", "1f", "--files", "tests/explain/call.json"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("trace 0000000000000000000000000000001f is in none of 2 records; check the ID and --files"),
        "{said}"
    );
    let wrong = explain(&["--trace", "nothing", "--files", "tests/explain/call.json"]);
    assert_eq!(wrong.status.code(), Some(64), "{}", text(&wrong.stderr));
}

#[test]
fn a_trace_in_two_partitions_of_a_topic_has_no_edge_and_a_warning() {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    cluster.create_topic("explained", 2, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a producer");
    let lines = std::fs::read_to_string(root().join("tests/explain/call.json")).expect("a file");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    for (partition, line) in (0..).zip(lines.lines()) {
        let record = BaseRecord::<[u8], [u8]>::to("explained").partition(partition).payload(line.as_bytes());
        producer.send(record.timestamp(now)).map_err(|(e, _)| e).expect("the queue has room");
    }
    producer.flush(PATIENCE).expect("everything is delivered");
    let brokers = format!("kafka.brokers={brokers}");
    let options = ["--set", &brokers, "--set", "kafka.topics=explained", "--set", "log.level=error"];
    let output = explain(&[&["--trace", TRACE][..], &options].concat());
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    for part in [
        "6 spans in explained[0], explained[1]",
        "WARNING: spans in different partitions never make an edge; partition the topic by trace ID",
        "explained[0] at offset 0",
        "cart -> carts, completed, database",
        "waits: it still waits for its peer",
    ] {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
    assert!(!said.contains("shop -> cart"), "{said}");
    let later = explain(&[&["--trace", TRACE, "--since", "1h", "--to", "0"][..], &options].concat());
    assert_eq!(later.status.code(), Some(1), "{}", text(&later.stderr));
}
