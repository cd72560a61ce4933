//! `spanmill check --connect` of endpoints that are no remote write: what they answer, and its remedy.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use rdkafka::mocking::MockCluster;
use spanmill::config::Config;
use spanmill::config::settings::{OutputType, RemoteWrite};
use spanmill::core::settings::SINGLE_TENANT;
use spanmill::worker::sender::examine;

use super::KINDS;
use super::collector::{Collector, Say};
use crate::export_tls::{House as Authority, says};
use crate::mill::{TOPIC, create_topics};

/// The findings, one a line.
fn told(settings: &RemoteWrite) -> String {
    examine(settings, SINGLE_TENANT).iter().map(|finding| format!("{finding}\n")).collect()
}

fn at(kind: OutputType, url: String) -> RemoteWrite {
    RemoteWrite { kind, url, min_backoff: 1, max_backoff: 5, timeout: 5_000, ..RemoteWrite::default() }
}

#[test]
fn a_receiver_that_takes_an_export_request_without_metrics_is_good_and_stores_nothing() {
    for kind in KINDS {
        let collector = Collector::start(kind);
        assert_eq!(told(&collector.settings()), "ok: accepts an export request without metrics\n", "{kind:?}");
        assert!(collector.with(|inbox| inbox.stored.iter().all(|request| request.resource_metrics.is_empty())));
    }
}

#[test]
fn an_answer_that_is_none_of_a_receiver_is_shown_with_its_remedy() {
    let (http, grpc) = (OutputType::OtlpHttp, OutputType::OtlpGrpc);
    let of = |addr: SocketAddr| format!("http://{addr}/v1/metrics");
    let not_found = says("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnone");
    let page = says("HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html></html>");
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tls = Authority::new();
    let secure = tls.serve(false).port();
    let (over_http, over_grpc) = (Collector::start(http), Collector::start(grpc));
    let http_port = over_http.settings().url.replace("/v1/metrics", "");
    let grpc_port = over_grpc.settings().url;
    let mut wrong = Vec::new();
    for (kind, url, words) in [
        (http, of(not_found), ["answers 404: none;", "/v1/metrics at port 4318 for the Collector"]),
        (http, of(page), ["answers 200: <html></html>", "no answer of an OTLP receiver"]),
        (http, of(gone), ["Connection refused", "no process listens at this address"]),
        (http, format!("{grpc_port}/v1/metrics"), ["unexpected message", "it may be one of gRPC"]),
        (http, format!("{}/v2/metrics", http_port), ["answers 404;", "/api/v1/otlp/v1/metrics for Prometheus"]),
        (http, format!("https://localhost:{secure}/v1/metrics"), ["UnknownIssuer", "remote_write.tls.ca_file"]),
        (http, http_port.replace("http:", "https:") + "/v1/metrics", ["InvalidContentType", "write http://"]),
        (http, format!("http://localhost:{secure}/v1/metrics"), ["", "write https:// if the port is for TLS"]),
        (grpc, format!("http://{gone}"), ["Connection refused", "no process listens at this address"]),
        (grpc, http_port.clone(), ["", "gRPC"]),
        (grpc, format!("http://{not_found}"), ["", "4318 is for the type otlp_http"]),
        (grpc, grpc_port.replace("http:", "https:"), ["InvalidContentType", "write http://"]),
        (grpc, format!("http://localhost:{secure}"), ["", "write https:// if the port is for TLS"]),
    ] {
        let told = told(&at(kind, url.clone()));
        if !words.iter().all(|words| told.contains(words)) {
            wrong.push(format!("{kind:?} {url}: {told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for kind in KINDS {
        let collector = Collector::start(kind);
        collector.usually(Some(Say::Refused(401, 16, None)));
        let told = told(&collector.settings());
        let words = if kind == http { "answers 401: bad; " } else { "answers gRPC status 16: busy now; " };
        assert!(told.contains(words) && told.contains("check remote_write.auth"), "{told}");
        collector.usually(Some(Say::Refused(404, 12, None)));
        let told = self::told(&collector.settings());
        assert!(kind == http || told.contains("belongs to a pipeline of metrics"), "{told}");
    }
}

#[test]
fn every_endpoint_of_a_list_is_examined_once() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("samples", 3, 1).unwrap();
    let mut worker = Config::default();
    worker.kafka.shards = 1;
    create_topics(&cluster, &worker);
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(OutputType::OtlpHttp);
    let (brokers, url) = (cluster.bootstrap_servers(), collector.settings().url);
    let path = dir.path().join("metrics.json").display().to_string();
    let file = format!(
        "kafka: {{brokers: '{brokers}', topics: [{TOPIC}], shards: 1}}\nremote_write:\n\
         - {{name: collector, type: otlp_http, url: '{url}'}}\n\
         - {{name: topic, type: kafka, kafka: {{topic: samples}}}}\n\
         - {{name: lacking, type: kafka, kafka: {{topic: lacking}}}}\n\
         - {{name: archive, type: file, file: {{path: '{path}'}}}}\n\
         - {{name: nowhere, type: file, file: {{path: '{path}/metrics.json'}}}}\n"
    );
    let config = dir.path().join("spanmill.yaml");
    std::fs::write(&config, file).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_spanmill"))
        .args(["check", "--connect", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in [
        &format!(
            "receiver collector at {url} for tenant single-tenant\n  ok: accepts an export request without metrics\n"
        ),
        &format!("output topic at topic samples of {brokers}\n  ok: topic samples has 3 partitions\n"),
        "the right to write to topic samples cannot be checked without using it\n",
        "topic lacking does not exist, or this worker may not describe it; create it",
        &format!("output archive at file:{path}\n  ok: directory {} is writable\n", dir.path().display()),
        &format!("no file can be created in directory {path}: "),
    ] {
        assert!(told.contains(words), "{words:?} is not in\n{told}");
    }
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["spanmill.yaml"], "nothing is left behind");
}
