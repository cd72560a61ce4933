//! The page of the service map over real sockets: its files, its API and their description; a map that follows running workers;
//! a page of files.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use saphyr::{LoadableYamlNode as _, Yaml};
use spanmill::config::settings::TenantSource;
use spanmill::config::{Config, Tenants};
use spanmill::core::journal::SeriesFold;
use spanmill::core::model::{Seed, StepWidth};
use spanmill::core::tasks::span::Record;
use spanmill::tools::loadgen::{Generator, Options, Topology};
use spanmill::tools::local::Local;
use spanmill::tools::map::{GraphQuery, Map, MapSettings};
use spanmill::tools::receiver::Receiver;
use spanmill::tools::ui::follow::Follow;
use spanmill::tools::ui::{PATHS, Page, PageSettings, SharedMap};
use spanmill::worker::Worker;
use spanmill::worker::kafka::{JournalLog, KafkaError, LogReader, TopicNames};
use spanmill::worker::telemetry::Telemetry;

use crate::child::{Guarded, signal};
use crate::mill::{PATIENCE, TOPIC, config, create_topics, records, wait_until};

const START: i64 = 1_750_000_005_000;

fn settings(whole: bool) -> MapSettings {
    MapSettings { step: 1_000, resolution: 1_000, history: None, points: 500, memory: 64 << 20, whole }
}

fn load() -> Vec<spanmill::tools::loadgen::Record> {
    let options = Options { start: START, rate: 200, spans: Some(2_000), error_share: 0.05, ..Options::default() };
    Generator::new(Topology::shop(1), 1, options).collect()
}

/// A map of a shop at work: one for all tests.
fn map() -> SharedMap {
    static MAP: OnceLock<SharedMap> = OnceLock::new();
    MAP.get_or_init(shop).clone()
}

fn shop() -> SharedMap {
    let map = SharedMap::new(Map::new(settings(true)));
    let mut config = Config::default();
    config.core.time.step = StepWidth::new(1_000).expect("positive");
    config.core.service_graphs.wait = 2_000;
    let mut local = Local::new(&Tenants::from(config), TOPIC, 1, Seed::default()).expect("tasks");
    let shared = map.clone();
    local.watch(move |shard, record| {
        shared.lock().add(shard, record).expect("a delta record");
    });
    for (record, offset) in load().iter().zip(0..) {
        let offered = Record { offset, timestamp: record.timestamp, tenant: Some("shop"), value: &record.value };
        local.offer(0, &offered, START + 60_000).expect("a record");
        while local.next_closed().is_some() {}
    }
    local.finish().expect("an end");
    map.lock().tidy();
    map
}

fn page() -> Page {
    let settings = PageSettings { source: "test".to_owned(), edge_delay: 4_000, ..PageSettings::default() };
    Page::start("127.0.0.1:0", map(), settings).expect("a port")
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

// === impl Answer ===

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }
}

fn ask_with(addr: SocketAddr, path: &str, headers: &str) -> Answer {
    let mut socket = TcpStream::connect(addr).expect("the page listens");
    let host = if headers.contains("Host: ") { String::new() } else { format!("Host: {addr}\r\n") };
    write!(socket, "GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n").expect("a request");
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).expect("an answer");
    let at = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..at].to_vec()).expect("text");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head, body: bytes[at + 4..].to_vec() }
}

fn ask(addr: SocketAddr, path: &str) -> Answer {
    ask_with(addr, path, "")
}

#[test]
fn every_answer_forbids_what_the_page_does_not_need() {
    let page = page();
    for path in
        ["/", "/page.js", "/layout.js", "/page.css", "/icon.svg", "/api/v1/tenants", "/api/v1/service-graph", "/no"]
    {
        let answer = ask(page.addr(), path);
        assert_eq!(answer.status, if path == "/no" { 404 } else { 200 }, "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("access-control-allow-origin"), None, "no other origin may read");
    }
}

#[test]
fn the_page_has_no_script_or_style_inside_and_names_nothing_elsewhere() {
    let page = page();
    let html = ask(page.addr(), "/").text();
    assert!(html.contains("<script src=\"page.js\"") && !html.contains("style=") && !html.contains("<style"), "{html}");
    for path in ["/", "/page.css", "/layout.js"] {
        assert!(!ask(page.addr(), path).text().contains("http"), "{path}");
    }
    let script = ask(page.addr(), "/page.js").text();
    let start = |(at, _)| script.get(at..).unwrap_or_default().chars().take(40).collect::<String>();
    let others: Vec<String> = script.match_indices("http").map(start).collect();
    // The names of markup languages are no addresses.
    assert!(others.iter().all(|other| other.starts_with("http://www.w3.org/")), "{others:?}");
}

#[test]
fn what_has_not_changed_is_not_sent_again_and_what_is_long_is_compressed() {
    let page = page();
    for path in ["/page.js", "/api/v1/service-graph"] {
        let plain = ask(page.addr(), path);
        let packed = ask_with(page.addr(), path, "Accept-Encoding: gzip\r\n");
        assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), (None, Some("gzip")));
        assert!(packed.body.len() * 2 < plain.body.len(), "{path}");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*packed.body).read_to_end(&mut unpacked).expect("gzip");
        assert_eq!(unpacked, plain.body);
        let tag = plain.header("etag").expect("a tag");
        assert_eq!(packed.header("etag"), Some(tag));
        let again = ask_with(page.addr(), path, &format!("If-None-Match: {tag}\r\n"));
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
}

#[test]
fn a_page_of_others_that_gives_itself_this_address_is_refused() {
    let page = page();
    assert_eq!(ask_with(page.addr(), "/api/v1/tenants", "Host: evil.example\r\n").status, 421);
    let port = page.addr().port();
    assert_eq!(ask_with(page.addr(), "/api/v1/tenants", &format!("Host: localhost:{port}\r\n")).status, 200);
}

#[test]
fn a_graph_comes_in_the_form_that_is_asked_for() {
    let page = page();
    let addr = page.addr();
    let json = ask(addr, "/api/v1/service-graph?tenant=shop");
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert!(json.json()["edges"].as_array().is_some_and(|edges| edges.len() > 10));
    assert!(ask(addr, "/api/v1/service-graph?format=dot").text().starts_with("digraph service_map {"));
    let mermaid = ask_with(addr, "/api/v1/service-graph", "Accept: text/vnd.mermaid, */*;q=0.1\r\n");
    assert!(mermaid.text().starts_with("flowchart LR\n"));
    assert_eq!(ask(addr, "/api/v1/service-graph?tenant=nobody").json()["nodes"], serde_json::json!([]));
}

#[test]
fn what_is_wrong_with_a_question_is_said_with_the_remedy() {
    let page = page();
    for (path, status, said) in [
        ("/api/v1/service-graph?at=noon", 400, "at: \"noon\" is no time; use milliseconds"),
        ("/api/v1/service-graph?compare=-5", 400, "compare: "),
        ("/api/v1/service-graph?range=long", 400, "use 30m or 12h"),
        ("/api/v1/service-graph?format=png", 400, "use json, dot or mermaid"),
        ("/api/v1/edges/history?client=user", 400, "client and server are required"),
        ("/api/v1/edges/history?client=user&server=nothing", 404, "no such edge"),
        ("/api/v1/services/nothing", 404, "no such service"),
    ] {
        let answer = ask(page.addr(), path);
        assert_eq!(answer.status, status, "{path}");
        let error = answer.json()["error"].as_str().map(str::to_owned).unwrap_or_default();
        assert!(error.contains(said), "{path}: {error}");
    }
}

fn described() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.yaml");
    std::fs::read_to_string(path).expect("the description")
}

/// Compares an answer with a schema: all that is required is there, and nothing that is not described.
pub(crate) fn check(all: &Yaml<'_>, schema: &Yaml<'_>, value: &serde_json::Value, at: &str) {
    let get = |key: &str| schema.as_mapping_get(key);
    if let Some(reference) = get("$ref").and_then(|r| r.as_str()) {
        let path = reference.trim_start_matches("#/").split('/');
        let found = path.fold(all, |node, key| node.as_mapping_get(key).unwrap_or_else(|| panic!("no {reference}")));
        return check(all, found, value, at);
    }
    if let Some(choices) = get("oneOf").and_then(|one| one.as_sequence()) {
        if !value.is_null() {
            check(all, &choices[0], value, at);
        }
        return;
    }
    if let Some(items) = get("items") {
        value.as_array().into_iter().flatten().for_each(|item| check(all, items, item, &format!("{at}[]")));
    }
    if let Some(choices) = get("enum").and_then(|one| one.as_sequence()) {
        assert!(choices.iter().any(|choice| choice.as_str() == value.as_str()), "{at}: {value}");
    }
    let Some(properties) = get("properties").and_then(|p| p.as_mapping()) else { return };
    let object = value.as_object().unwrap_or_else(|| panic!("{at} is no object: {value}"));
    for required in get("required").and_then(|r| r.as_sequence()).into_iter().flatten() {
        let name = required.as_str().expect("a name");
        assert!(object.contains_key(name), "{at}.{name} is missing");
    }
    for (name, value) in object {
        let property = properties.iter().find(|(known, _)| known.as_str() == Some(name));
        let (_, schema) = property.unwrap_or_else(|| panic!("{at}.{name} is not described"));
        check(all, schema, value, &format!("{at}.{name}"));
    }
}

#[test]
fn the_api_is_what_its_description_says() {
    let text = described();
    let documents = Yaml::load_from_str(&text).expect("YAML");
    let all = &documents[0];
    let paths = all.as_mapping_get("paths").and_then(|paths| paths.as_mapping()).expect("paths");
    let described: BTreeSet<&str> = paths.keys().filter_map(|path| path.as_str()).collect();
    assert_eq!(described, PATHS.into_iter().collect(), "described (left) and served");
    let page = page();
    for (path, schema) in [
        ("/api/v1/tenants", "Info"),
        ("/api/v1/service-graph", "Graph"),
        ("/api/v1/service-graph?at=1750000012000&compare=1750000008000&namespace=databases", "Graph"),
        ("/api/v1/edges/history?client=frontend&server=checkout", "EdgeHistory"),
        ("/api/v1/services/checkout?range=1h", "Service"),
        ("/api/v1/services/mongo", "Service"),
        ("/api/v1/service-graph?format=png", "Problem"),
    ] {
        let schemas = all.as_mapping_get("components").and_then(|c| c.as_mapping_get("schemas")).expect("schemas");
        let schema = schemas.as_mapping_get(schema).unwrap_or_else(|| panic!("no schema {schema}"));
        check(all, schema, &ask(page.addr(), path).json(), path);
    }
}

#[test]
fn a_map_follows_workers_without_joining_them_and_counts_every_call() {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let config = config(&cluster.bootstrap_servers(), &receiver.url(), TenantSource::Static("t".to_owned()));
    let tenants = Arc::new(Tenants::from(config.clone()));
    let early = SharedMap::new(Map::new(settings(false)));
    // It may be there before any topic is.
    let first = Follow::start(Arc::clone(&tenants), early.clone(), 0).expect("a thread");
    wait_until("what is missing is said", || {
        early.lock().status().partial.iter().any(|what| what.contains("does not exist"))
    });
    create_topics(&cluster, &config);
    let worker = Worker::start(config.clone(), Telemetry::new()).expect("a worker");
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().expect("a producer");
    for record in records() {
        producer.send(BaseRecord::<[u8], [u8]>::to(TOPIC).payload(&record.value)).map_err(|(e, _)| e).expect("sent");
    }
    producer.flush(PATIENCE).expect("sent");
    let stored = || {
        let series = receiver.snapshot();
        let totals = series.iter().filter(|(name, _)| name.starts_with("t/traces_service_graph_request_total{"));
        totals.map(|(_, state)| state.last_value).sum::<f64>()
    };
    let counted = |map: &SharedMap| {
        let graph = map.lock().graph(&GraphQuery { tenant: "t", ..GraphQuery::default() });
        graph.total.iter().map(|(_, rate, ..)| rate * (graph.step as f64 / 1e3).max(1.0)).sum::<f64>().round()
    };
    wait_until("the receiver has edges", || stored() > 50.0);
    wait_until("the map has what the receiver has", || {
        let (before, counted) = (stored(), counted(&early));
        counted >= before && counted > 50.0
    });
    assert!(!early.lock().status().partial.iter().any(|what| what.contains("does not exist")));
    // One that comes later reads what is there.
    let late = SharedMap::new(Map::new(settings(false)));
    let second = Follow::start(tenants, late.clone(), 0).expect("a thread");
    wait_until("both maps agree", || {
        let all = |map: &SharedMap| {
            let graph = map.lock().graph(&GraphQuery { tenant: "t", ..GraphQuery::default() });
            (graph.at, graph.edges, graph.nodes)
        };
        all(&late) == all(&early) && !all(&late).1.is_empty()
    });
    drop((first, second));
    worker.stop().expect("a graceful stop");
}

#[test]
fn a_history_of_too_many_points_is_refused_with_a_resolution_that_fits() {
    let output = Command::new(env!("CARGO_BIN_EXE_spanmill")).args(["ui", "--history", "48h"]).output();
    let output = output.expect("the program runs");
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("2880 points, and 1440 are kept; use --resolution 120s or more"), "{said}");
}

/// Whether the journal of the only shard has a snapshot.
fn has_snapshot(config: &Config) -> bool {
    let reader = LogReader::new(&config.kafka).expect("a reader");
    let topic = TopicNames::new(&config.kafka.group).series_journal();
    let stop = AtomicBool::new(false);
    let log = JournalLog { reader: &reader, topic: &topic, partition: 0, to: None, stop: &stop };
    let fold: SeriesFold = log.fold(|error| KafkaError::Topic(error.to_string())).expect("a journal");
    fold.into_state().expect("a journal").snapshot.is_some()
}

#[test]
fn a_map_that_begins_late_knows_label_sets_from_snapshots() {
    let cluster = MockCluster::new(1).expect("an embedded broker");
    let receiver = Receiver::start("127.0.0.1:0").expect("a receiver");
    let mut config = config(&cluster.bootstrap_servers(), &receiver.url(), TenantSource::Static("t".to_owned()));
    config.core.series.snapshot_every = 1_000;
    create_topics(&cluster, &config);
    let worker = Worker::start(config.clone(), Telemetry::new()).expect("a worker");
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().expect("a producer");
    let send = || {
        for record in records() {
            producer
                .send(BaseRecord::<[u8], [u8]>::to(TOPIC).payload(&record.value))
                .map_err(|(e, _)| e)
                .expect("sent");
        }
        producer.flush(PATIENCE).expect("sent");
    };
    send();
    let edges =
        || receiver.snapshot().keys().filter(|s| s.starts_with("t/traces_service_graph_request_total{")).count();
    wait_until("the receiver has edges", || edges() > 10);
    wait_until("there is a snapshot", || has_snapshot(&config));
    let map = SharedMap::new(Map::new(settings(false)));
    // Nothing of what is there is read: the labels can only come from the snapshot.
    let follow = Follow::start(Arc::new(Tenants::from(config)), map.clone(), i64::MAX).expect("a thread");
    wait_until("the map follows", || map.lock().as_of().is_some());
    assert!(map.lock().graph(&GraphQuery { tenant: "t", ..GraphQuery::default() }).edges.is_empty());
    send();
    wait_until("the map has the edges of the receiver", || {
        let graph = map.lock().graph(&GraphQuery { tenant: "t", ..GraphQuery::default() });
        graph.edges.len() > 10
    });
    assert!(!map.lock().lacks_labels(), "no delta was of an unknown label set");
    drop(follow);
    worker.stop().expect("a graceful stop");
}

#[test]
fn a_file_of_traces_is_shown_without_a_receiver_and_nothing_is_sent() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("traces.jsonl");
    let lines: Vec<u8> = load()
        .iter()
        .flat_map(|record| {
            let request = ExportTraceServiceRequest::decode(record.value.as_slice()).expect("a request");
            [serde_json::to_vec(&request).expect("JSON"), b"\n".to_vec()].concat()
        })
        .collect();
    std::fs::write(&path, lines).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanmill"));
    command
        .args(["replay", "--ui", "127.0.0.1:0", "--trace-url", "https://t.example/{trace_id}", "--files"])
        .arg(&path);
    let mut child = Guarded::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let addr = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_else(|| panic!("{line}"));
    let addr: SocketAddr = addr.parse().expect("an address");
    let told = ask(addr, "/api/v1/tenants").json();
    assert_eq!((told["source"].as_str(), told["finished"].as_bool()), (Some("traces.jsonl"), Some(true)));
    assert_eq!(told["trace_url"], "https://t.example/{trace_id}");
    let graph = ask(addr, "/api/v1/service-graph").json();
    assert!(graph["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(|n| n["id"] == "checkout")), "{graph}");
    assert!(signal(child.id(), "INT"));
    assert!(child.wait().expect("it ends").success());
}
