//! Who is answered by the admin server and by the page, and how: tokens, TLS, limits; and the description of the endpoints.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use saphyr::{LoadableYamlNode as _, Yaml};
use spanmill::config::settings::{self, Secret, ServerTls};
use spanmill::tools::map::{Map, MapSettings};
use spanmill::tools::ui::{Access, Page, PageSettings, SharedMap};
use spanmill::worker::admin::{Admin, AdminError, Probes, paths};
use spanmill::worker::telemetry::Telemetry;

use crate::mill::wait_until;
use crate::page::check;

fn start(settings: &settings::Admin) -> Result<Admin, AdminError> {
    let probes = Probes { alive: Box::new(|| true), judged: Box::new(|| Duration::ZERO) };
    Admin::start(settings, Telemetry::new(), probes).map(|admin| admin.expect("it is wanted"))
}

fn settings() -> settings::Admin {
    settings::Admin { listen: "127.0.0.1:0".to_owned(), ..settings::Admin::default() }
}

/// Sends a request, and returns the status and the whole answer; `None` if the connection was closed instead.
fn send(socket: &mut (impl Read + Write), request: &str) -> Option<(u16, String)> {
    socket.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // A server may end a TLS connection with the end of the answer only.
    drop(socket.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Some((answer.split(' ').nth(1)?.parse().ok()?, answer))
}

fn ask(addr: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(addr).expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    send(&mut socket, &request).expect("an answer")
}

/// A directory with a certificate for `localhost`.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        files.renew();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces the certificate and its key.
    fn renew(&self) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(self.path("cert.pem"), certificate.pem()).expect("a file");
        std::fs::write(self.path("key.pem"), key.serialize_pem()).expect("a file");
    }

    fn tls(&self) -> ServerTls {
        ServerTls { cert_file: Some(self.path("cert.pem")), key_file: Some(self.path("key.pem")) }
    }

    /// What the certificate in the file says of the server: the answer to a request over TLS, or why there is none.
    fn ask(&self, addr: SocketAddr, path: &str, headers: &str) -> Result<(u16, String), String> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(self.path("cert.pem")).map_err(|e| e.to_string())?;
        roots.add(certificate).map_err(|e| e.to_string())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.map_err(|e| e.to_string())?.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).map_err(|e| e.to_string())?;
        let mut stream = StreamOwned::new(connection, TcpStream::connect(addr).map_err(|e| e.to_string())?);
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        send(&mut stream, &request).ok_or_else(|| "no answer".to_owned())
    }
}

#[test]
fn the_admin_server_is_what_its_description_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi-admin.yaml");
    let text = std::fs::read_to_string(path).expect("the description");
    let documents = Yaml::load_from_str(&text).expect("YAML");
    let all = &documents[0];
    let described = all.as_mapping_get("paths").and_then(|paths| paths.as_mapping()).expect("paths");
    let listed: BTreeSet<&str> = described.keys().filter_map(|path| path.as_str()).collect();
    assert_eq!(listed, paths().into_iter().collect(), "described (left) and served");
    let admin = start(&settings()).expect("it starts");
    for (path, item) in described {
        let path = path.as_str().expect("a path");
        let (status, answer) = ask(admin.addr(), path, "");
        assert_eq!(status, 200, "{path}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        let kinds = ["get", "responses", "200", "content"].iter().try_fold(item, |node, key| node.as_mapping_get(key));
        let Some(kinds) = kinds.and_then(|kinds| kinds.as_mapping()) else { continue };
        for (kind, content) in kinds {
            let kind = kind.as_str().expect("a type");
            assert!(head.to_lowercase().contains(&format!("content-type: {kind}")), "{path}: {head}");
            if kind == "application/json" {
                let json = serde_json::from_str(body).expect("JSON");
                check(all, content.as_mapping_get("schema").expect("a schema"), &json, path);
            }
        }
    }
    let (_, answer) = ask(admin.addr(), "/readyz?format=json", "");
    let json: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    let schemas = all.as_mapping_get("components").and_then(|c| c.as_mapping_get("schemas")).expect("schemas");
    check(all, schemas.as_mapping_get("Readiness").expect("a schema"), &json, "/readyz");
    assert!(ask(admin.addr(), "/openapi.yaml", "").1.ends_with(&text), "it is served as it is stored");
}

#[test]
fn with_a_token_only_probes_are_answered_without_it() {
    let admin = start(&settings::Admin { token: Secret::new("s3cr3t"), ..settings() }).expect("it starts");
    for path in paths().into_iter().chain(["/nowhere"]) {
        let probe = ["/healthz", "/readyz"].contains(&path);
        let (status, answer) = ask(admin.addr(), path, "");
        assert_eq!(status, if probe { 200 } else { 401 }, "{path}");
        assert!(probe || (answer.contains("www-authenticate: Basic") && !answer.contains("s3cr3t")), "{answer}");
        for wrong in ["Bearer s3cr3", "Bearer s3cr3t2", "Bearer", "Basic czNjcjN0"] {
            assert_eq!(
                ask(admin.addr(), path, &format!("Authorization: {wrong}\r\n")).0 == 401,
                !probe,
                "{path} {wrong}"
            );
        }
        let expected = if path == "/nowhere" { 404 } else { 200 };
        // The password of a browser: any name, and the token.
        for right in ["Bearer s3cr3t", "Basic YW55OnMzY3IzdA=="] {
            assert_eq!(ask(admin.addr(), path, &format!("Authorization: {right}\r\n")).0, expected, "{path} {right}");
        }
    }
    let open = settings::Admin { token: Secret::new("s3cr3t"), metrics_without_token: true, ..settings() };
    let admin = start(&open).expect("it starts");
    assert_eq!((ask(admin.addr(), "/metrics", "").0, ask(admin.addr(), "/tenants", "").0), (200, 401));
}

#[test]
fn a_request_with_a_body_and_one_with_a_large_head_are_refused() {
    let admin = start(&settings()).expect("it starts");
    assert_eq!(ask(admin.addr(), "/healthz", "Content-Length: 1000000000\r\n").0, 413);
    assert_eq!(ask(admin.addr(), "/healthz", "Transfer-Encoding: chunked\r\n").0, 413);
    assert_eq!(ask(admin.addr(), "/healthz", "Content-Length: 0\r\n").0, 200);
    let many: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
    for large in [format!("X-Large: {}\r\n", "x".repeat(64 << 10)), many] {
        let mut socket = TcpStream::connect(admin.addr()).expect("it listens");
        let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{large}\r\n");
        let answer = send(&mut socket, &request);
        assert!(answer.as_ref().is_none_or(|(status, _)| *status == 431), "{answer:?}");
    }
    assert_eq!(ask(admin.addr(), "/healthz", "").0, 200, "others are answered");
}

#[test]
fn a_certificate_is_read_again_when_its_files_change() {
    let files = Files::new();
    let admin = start(&settings::Admin { tls: files.tls(), ..settings() }).expect("it starts");
    assert_eq!(files.ask(admin.addr(), "/healthz", "").expect("an answer over TLS").0, 200);
    let mut plain = TcpStream::connect(admin.addr()).expect("it listens");
    assert_eq!(send(&mut plain, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), None, "plain HTTP has no answer");
    // A client that trusts the new certificate only.
    files.renew();
    wait_until("the server shows the new certificate", || files.ask(admin.addr(), "/healthz", "").is_ok());
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_with_its_file() {
    let files = Files::new();
    std::fs::write(files.path("cert.pem"), "nothing").expect("a file");
    let error = start(&settings::Admin { tls: files.tls(), ..settings() }).expect_err("no certificate").to_string();
    assert!(error.starts_with("admin.tls: ") && error.contains("cert.pem: there is no certificate in it"), "{error}");
    files.renew();
    std::fs::remove_file(files.path("key.pem")).expect("it was there");
    let error = start(&settings::Admin { tls: files.tls(), ..settings() }).expect_err("no key").to_string();
    assert!(error.contains("key.pem") && error.ends_with("use a PEM file of a private key"), "{error}");
}

#[test]
fn the_page_asks_for_its_token_over_tls_as_well() {
    let files = Files::new();
    let access = Access { token: Secret::new("s3cr3t"), tls: files.tls() };
    let map = MapSettings { step: 1_000, resolution: 1_000, history: None, points: 10, memory: 1 << 20, whole: true };
    let settings = PageSettings { access, ..PageSettings::default() };
    let page = Page::start("127.0.0.1:0", SharedMap::new(Map::new(map)), settings).expect("it starts");
    assert!(page.url().starts_with("https://"));
    for path in ["/", "/page.js", "/api/v1/tenants"] {
        let (status, answer) = files.ask(page.addr(), path, "").expect("an answer");
        assert!(status == 401 && answer.to_lowercase().contains("content-security-policy"), "{path}: {answer}");
        let basic = "Authorization: Basic YW55OnMzY3IzdA==\r\n";
        assert_eq!(files.ask(page.addr(), path, basic).expect("an answer").0, 200, "{path}");
    }
}
