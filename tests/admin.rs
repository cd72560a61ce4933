//! The admin server, asked over a real socket.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use spanmill::admin::{Admin, AdminError, Probes};
use spanmill::config::settings;
use spanmill::telemetry::{TaskId, TaskKind, TaskState, Telemetry};

struct House {
    admin: Admin,
    telemetry: Telemetry,
    alive: Arc<AtomicBool>,
    joined: Arc<AtomicBool>,
}

fn config(listen: &str) -> settings::Admin {
    settings::Admin { listen: listen.to_owned(), ready_max_lag: 1_000 }
}

fn house() -> House {
    let (alive, joined) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let probe = |flag: &Arc<AtomicBool>| -> Box<dyn Fn() -> bool + Send + Sync> {
        let flag = Arc::clone(flag);
        Box::new(move || flag.load(Ordering::SeqCst))
    };
    let probes = Probes { alive: probe(&alive), joined: probe(&joined) };
    let telemetry = Telemetry::new();
    let admin = Admin::start(&config("127.0.0.1:0"), telemetry.clone(), probes).unwrap().unwrap();
    House { admin, telemetry, alive, joined }
}

fn ask(addr: SocketAddr, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(addr).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

#[test]
fn health_follows_the_main_loop() {
    let h = house();
    assert_eq!(ask(h.admin.addr(), "/healthz").0, 200);
    h.alive.store(false, Ordering::SeqCst);
    assert_eq!(ask(h.admin.addr(), "/healthz").0, 503);
}

#[test]
fn readiness_names_what_it_waits_for() {
    let h = house();
    let (status, text) = ask(h.admin.addr(), "/readyz");
    assert_eq!(status, 503);
    assert!(text.contains("not a member of the consumer group"), "{text}");
    h.joined.store(true, Ordering::SeqCst);
    assert_eq!(ask(h.admin.addr(), "/readyz").0, 200);
    let id = TaskId { kind: TaskKind::Series, topic: "spanmill-deltas".to_owned(), partition: 7 };
    h.telemetry.board().update(&id, |s| s.state = TaskState::Restoring);
    let (status, text) = ask(h.admin.addr(), "/readyz");
    assert_eq!(status, 503);
    assert!(text.contains("series task spanmill-deltas/7 is restoring"), "{text}");
    h.telemetry.board().update(&id, |s| (s.state, s.restored) = (TaskState::Running, true));
    assert_eq!(ask(h.admin.addr(), "/readyz").0, 200);
}

#[test]
fn metrics_are_text_and_the_index_leads_to_them() {
    let h = house();
    let (status, text) = ask(h.admin.addr(), "/metrics");
    assert_eq!(status, 200);
    assert!(text.contains("text/plain; version=0.0.4") && text.contains("spanmill_build_info{"), "{text}");
    assert!(ask(h.admin.addr(), "/").1.contains("/metrics"));
    assert_eq!(ask(h.admin.addr(), "/nowhere").0, 404);
}

#[test]
fn a_stopped_server_lets_go_of_its_port_even_while_a_client_holds_a_connection() {
    let h = house();
    let addr = h.admin.addr();
    let idle = TcpStream::connect(addr).unwrap();
    assert_eq!(ask(addr, "/healthz").0, 200);
    h.admin.stop();
    drop(idle);
    assert!(std::net::TcpListener::bind(addr).is_ok() || TcpStream::connect(addr).is_err());
}

#[test]
fn an_address_in_use_is_said_with_its_key_and_a_remedy() {
    let h = house();
    let probes = Probes { alive: Box::new(|| true), joined: Box::new(|| true) };
    let taken = h.admin.addr().to_string();
    let error = Admin::start(&config(&taken), Telemetry::new(), probes).unwrap_err();
    assert!(matches!(error, AdminError::Listen { .. }));
    let text = error.to_string();
    assert!(text.contains("admin.listen") && text.contains(&taken) && text.contains("free host:port"), "{text}");
}

#[test]
fn an_empty_address_switches_the_server_off() {
    let probes = Probes { alive: Box::new(|| true), joined: Box::new(|| true) };
    assert!(Admin::start(&config(""), Telemetry::new(), probes).unwrap().is_none());
}

#[test]
fn the_tenants_with_settings_of_their_own_are_listed_by_name() {
    let h = house();
    let (_, text) = ask(h.admin.addr(), "/tenants");
    assert!(text.ends_with("{\"refused\":false,\"tenants\":[],\"version\":\"\"}\n"), "{text}");
    h.telemetry.overrides_loaded("0a".to_owned(), vec!["b\u{f6}rse".to_owned(), "team-a".to_owned()]);
    h.telemetry.overrides_refused();
    let (status, text) = ask(h.admin.addr(), "/tenants");
    assert_eq!(status, 200);
    assert!(text.contains("content-type: application/json\r\n"), "{text}");
    assert!(
        text.ends_with("{\"refused\":true,\"tenants\":[\"b\u{f6}rse\",\"team-a\"],\"version\":\"0a\"}\n"),
        "{text}"
    );
    let metrics = h.telemetry.render();
    for line in
        ["spanmill_overrides_info{version=\"0a\"} 1", "spanmill_overrides_refused 1", "spanmill_overrides_tenants 2"]
    {
        assert!(metrics.contains(line), "{line}");
    }
}

#[test]
fn who_makes_the_series_is_said_when_limits_refuse_label_sets() {
    let h = house();
    assert!(ask(h.admin.addr(), "/offenders").1.contains(r#"{"label_sets_refused":0,"labels":[]}"#));
    for (partition, service, values) in [(1, "quiet", 3), (2, "noisy", 400)] {
        let id = TaskId { kind: TaskKind::Series, topic: "spanmill-deltas".to_owned(), partition };
        h.telemetry.board().update(&id, |s| {
            s.limits.refused = 10;
            s.limits.offenders = vec![serde_json::json!({"service": service, "label": "span_name", "values": values})];
        });
    }
    let (status, text) = ask(h.admin.addr(), "/offenders");
    assert_eq!(status, 200);
    assert!(text.contains(r#""label_sets_refused":20"#), "{text}");
    assert!(text.find("noisy") < text.find("quiet"), "the worst comes first: {text}");
}
