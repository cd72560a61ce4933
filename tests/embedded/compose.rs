//! What `docker-compose.kafka.yaml` and the files in `config/compose` say about each other. That the compose file itself is
//! valid is checked by `tests/compose/main.go`.
#![allow(clippy::panic, reason = "tests and their helpers fail by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use saphyr::{LoadableYamlNode as _, Yaml};

#[test]
fn every_mounted_file_is_in_the_repository() {
    let text = read("docker-compose.kafka.yaml");
    let compose = yaml(&text);
    let mut count = 0;
    let template = ("x-worker".to_owned(), get(&compose, &["x-worker"]));
    for (name, service) in services(&compose).chain([template]) {
        for volume in list(service, "volumes") {
            let Some(path) = volume.split(':').next().filter(|path| path.starts_with('.')) else { continue };
            assert!(root().join(path).exists(), "{name} mounts {path}, which is not there");
            count += 1;
        }
    }
    assert!(count >= 4, "only {count} mounts were found");
}

#[test]
fn the_worker_configuration_passes_spanmill_check() {
    let path = root().join("config/compose/spanmill.yaml");
    let output = Command::new(env!("CARGO_BIN_EXE_spanmill")).arg("check").arg("--config").arg(path).output();
    let output = output.expect("spanmill starts");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_configuration_of_the_kubernetes_manifest_passes_spanmill_check_and_fits_its_probes() {
    let text = read("config/kubernetes/spanmill.yaml");
    let objects = Yaml::load_from_str(&text).expect("it is YAML");
    let of_kind = |kind: &str| {
        let found = objects.iter().find(|object| scalar(object, &["kind"]) == kind);
        found.unwrap_or_else(|| panic!("no {kind}"))
    };
    let config = scalar(of_kind("ConfigMap"), &["data", "spanmill.yaml"]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("spanmill.yaml");
    std::fs::write(&path, config).expect("a file can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_spanmill")).arg("check").arg("--config").arg(path).output();
    let output = output.expect("spanmill starts");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    let settings = yaml(config);
    let pod = get(of_kind("Deployment"), &["spec", "template", "spec"]);
    let container = get(pod, &["containers"]).as_sequence_get(0).expect("a container");
    let port = get(get(container, &["ports"]).as_sequence_get(0).expect("a port"), &["containerPort"]);
    let listen = scalar(&settings, &["admin", "listen"]);
    assert_eq!(listen, format!("0.0.0.0:{}", port.as_integer().expect("a number")));
}

#[test]
fn the_image_is_that_of_the_dockerfile_and_runs_without_rights() {
    let text = read("docker-compose.kafka.yaml");
    let compose = yaml(&text);
    assert_eq!(scalar(&compose, &["x-spanmill", "build", "context"]), ".");
    let dockerfile = read("Dockerfile");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let of = |instruction: &str| {
        let lines = dockerfile.lines().map(words).filter(|words| words.first().is_some_and(|word| word == instruction));
        lines.map(|words| words[1].clone()).collect::<Vec<_>>()
    };
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    assert!(of("FROM")[0].starts_with(&format!("rust:{oldest}.")), "{:?} is not what builds it: {oldest}", of("FROM"));
    assert_eq!(of("USER"), ["65534:65534"]);
}

#[test]
fn everybody_uses_the_same_broker_and_topic() {
    let text = read("docker-compose.kafka.yaml");
    let compose = yaml(&text);
    let listeners = scalar(&compose, &["services", "kafka", "environment", "KAFKA_ADVERTISED_LISTENERS"]);
    let broker = listeners.split(',').find_map(|l| l.strip_prefix("INSIDE://")).expect("a listener for containers");
    assert!(broker.starts_with("kafka:"), "containers find the broker by its service name: {broker}");

    let text = read("config/compose/spanmill.yaml");
    let worker = yaml(&text);
    assert_eq!(scalar(&worker, &["kafka", "brokers"]), broker);
    let topics = list(get(&worker, &["kafka"]), "topics");
    let [topic] = &topics[..] else { panic!("one topic: {topics:?}") };

    let text = read("config/compose/collector.yaml");
    let exporter = get(&yaml(&text), &["exporters", "kafka"]).clone();
    assert_eq!(list(&exporter, "brokers"), [broker]);
    assert_eq!(scalar(&exporter, &["traces", "topic"]), topic);
    assert_eq!(scalar(&exporter, &["traces", "encoding"]), "otlp_proto");
    assert_eq!(get(&exporter, &["partition_traces_by_id"]).as_bool(), Some(true));

    for (service, flag) in [("topics", "--bootstrap-server"), ("load", "--brokers")] {
        let command = list(get(&compose, &["services", service]), "command");
        assert!(command.contains(&format!("{flag}={broker}")), "{service}: {command:?}");
        assert!(command.contains(&format!("--topic={topic}")), "{service}: {command:?}");
    }
}

#[test]
fn everybody_finds_prometheus_and_prometheus_finds_the_workers() {
    let text = read("docker-compose.kafka.yaml");
    let compose = yaml(&text);
    let ports = list(get(&compose, &["services", "prometheus"]), "ports");
    let address = format!("prometheus:{}", ports[0].rsplit(':').next().expect("a container port"));

    let text = read("config/compose/spanmill.yaml");
    let worker = yaml(&text);
    assert_eq!(scalar(&worker, &["remote_write", "url"]), format!("http://{address}/api/v1/write"));
    let flags = list(get(&compose, &["services", "prometheus"]), "command");
    for flag in ["--web.enable-remote-write-receiver", "--enable-feature=exemplar-storage"] {
        assert!(flags.iter().any(|f| f == flag), "prometheus runs without {flag}");
    }

    let text = read("config/compose/grafana/datasources/prometheus.yaml");
    let source = get(&yaml(&text), &["datasources"]).as_sequence_get(0).expect("a data source").clone();
    assert_eq!(scalar(&source, &["url"]), format!("http://{address}"));
    let exemplars = get(&source, &["jsonData", "exemplarTraceIdDestinations"]);
    assert_eq!(scalar(exemplars.as_sequence_get(0).expect("one destination"), &["name"]), "traceID");

    let listen = scalar(&worker, &["admin", "listen"]);
    let port = listen.strip_prefix("0.0.0.0:").expect("other containers may connect");
    let workers: BTreeSet<String> =
        services(&compose).map(|(name, _)| name).filter(|name| name.starts_with("worker-")).collect();
    assert_eq!(workers.len(), 2);
    let text = read("config/compose/prometheus.yml");
    let job = get(&yaml(&text), &["scrape_configs"]).as_sequence_get(0).expect("a job").clone();
    let targets = list(get(&job, &["static_configs"]).as_sequence_get(0).expect("targets"), "targets");
    let scraped: BTreeSet<String> = targets.into_iter().collect();
    assert_eq!(scraped, workers.iter().map(|name| format!("{name}:{port}")).collect());
    let health = list(get(&compose, &["x-worker", "healthcheck"]), "test").join(" ");
    assert!(health.contains(&format!("/127.0.0.1/{port} ")), "the health check asks another port: {health}");
}

#[test]
fn published_ports_agree_with_the_files() {
    let text = read("docker-compose.kafka.yaml");
    let compose = yaml(&text);
    let text = read("config/compose/collector.yaml");
    let collector = yaml(&text);
    let protocols = get(&collector, &["receivers", "otlp", "protocols"]);
    let published = list(get(&compose, &["services", "collector"]), "ports");
    for protocol in ["grpc", "http"] {
        let endpoint = scalar(protocols, &[protocol, "endpoint"]);
        let port = endpoint.rsplit(':').next().expect("a port");
        assert!(published.contains(&format!("127.0.0.1:{port}:{port}")), "{protocol} on {port}: {published:?}");
    }
    let health = scalar(&collector, &["extensions", "health_check", "endpoint"]);
    let asked = list(get(&compose, &["services", "collector", "healthcheck"]), "test").join(" ");
    let port = health.rsplit(':').next().expect("a port");
    assert!(asked.contains(&format!("127.0.0.1:{port}/")), "the health check asks another port: {asked}");
    for (name, service) in services(&compose) {
        for port in list(service, "ports") {
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port} to the whole network");
        }
    }
}

#[test]
fn grafana_opens_on_a_dashboard_that_is_mounted_and_prometheus_reads_the_rules() {
    let text = read("docker-compose.kafka.yaml");
    let compose = yaml(&text);
    let mounted = |service: &str, from: &str| {
        let volumes = list(get(&compose, &["services", service]), "volumes");
        let volume = volumes.into_iter().find_map(|v| Some(v.strip_prefix(from)?.strip_prefix(':')?.to_owned()));
        volume.and_then(|v| Some(v.strip_suffix(":ro")?.to_owned())).unwrap_or_else(|| panic!("{service} lacks {from}"))
    };
    let folder = mounted("grafana", "./config/grafana");
    let home = "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH";
    let home = scalar(&compose, &["services", "grafana", "environment", home]);
    let file = home.strip_prefix(&format!("{folder}/")).expect("it is in the folder that is mounted");
    assert!(root().join("config/grafana").join(file).exists(), "{file}");
    let text = read("config/compose/grafana/dashboards/dashboards.yaml");
    let provider = get(&yaml(&text), &["providers"]).as_sequence_get(0).expect("a provider").clone();
    assert_eq!(scalar(&provider, &["options", "path"]), folder);
    let rules = mounted("prometheus", "./config/grafana/spanmill-rules.yaml");
    let text = read("config/compose/prometheus.yml");
    let named = list(&yaml(&text), "rule_files");
    assert_eq!(named, [rules.rsplit('/').next().expect("a file")], "next to prometheus.yml");
}

// === reading ===

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    let path: PathBuf = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn yaml(text: &str) -> Yaml<'_> {
    let documents = Yaml::load_from_str(text).expect("it is YAML");
    documents.into_iter().next().expect("a document")
}

fn get<'a, 'y>(node: &'a Yaml<'y>, path: &[&str]) -> &'a Yaml<'y> {
    path.iter().fold(node, |node, key| node.as_mapping_get(key).unwrap_or_else(|| panic!("no {key} of {path:?}")))
}

fn scalar<'a>(node: &'a Yaml<'_>, path: &[&str]) -> &'a str {
    get(node, path).as_str().unwrap_or_else(|| panic!("{path:?} is no string"))
}

/// The strings in a list; none without the list.
fn list(node: &Yaml<'_>, key: &str) -> Vec<String> {
    let items = node.as_mapping_get(key).and_then(|node| node.as_sequence()).map_or(&[][..], Vec::as_slice);
    items.iter().map(|item| item.as_str().unwrap_or_else(|| panic!("{key}: not a string")).to_owned()).collect()
}

/// The services by name. What a service merges in (`<<`) is not seen here.
fn services<'a, 'y>(compose: &'a Yaml<'y>) -> impl Iterator<Item = (String, &'a Yaml<'y>)> {
    let services = get(compose, &["services"]).as_mapping().expect("a mapping");
    services.iter().map(|(name, service)| (name.as_str().expect("a name").to_owned(), service))
}
