//! The admin server, asked over a real socket.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use spanmill::config::settings;
use spanmill::worker::admin::{Admin, AdminError, Probes};
use spanmill::worker::telemetry::{Condition, TaskId, TaskKind, Telemetry};

struct House {
    admin: Admin,
    telemetry: Telemetry,
    alive: Arc<AtomicBool>,
    judged: Arc<AtomicU64>,
}

/// An admin server that tells what `telemetry` knows.
pub(crate) fn admin(telemetry: &Telemetry) -> Admin {
    let probes = Probes { alive: Box::new(|| true), judged: Box::new(|| Duration::ZERO) };
    Admin::start(&config("127.0.0.1:0"), telemetry.clone(), probes).unwrap().unwrap()
}

fn config(listen: &str) -> settings::Admin {
    settings::Admin { listen: listen.to_owned(), ready_max_lag: 1_000, ..settings::Admin::default() }
}

fn house() -> House {
    let (alive, judged) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let (is_alive, seconds) = (Arc::clone(&alive), Arc::clone(&judged));
    let probes = Probes {
        alive: Box::new(move || is_alive.load(Ordering::SeqCst)),
        judged: Box::new(move || Duration::from_secs(seconds.load(Ordering::SeqCst))),
    };
    let telemetry = Telemetry::new();
    let admin = Admin::start(&config("127.0.0.1:0"), telemetry.clone(), probes).unwrap().unwrap();
    House { admin, telemetry, alive, judged }
}

pub(crate) fn ask(addr: SocketAddr, path: &str) -> (u16, String) {
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
fn readiness_names_every_condition_that_is_not_met_and_health_does_not_mind() {
    let h = house();
    assert_eq!(ask(h.admin.addr(), "/readyz").0, 200);
    let gap = h.telemetry.conditions().reporter(Condition::Ends, "shard 3");
    gap.unmet("shard 3 lacks a share; restore the deltas topic");
    h.telemetry.conditions().report(Condition::Lag, "spans/1", Some("spans/1 lags; start more workers".to_owned()));
    let (status, text) = ask(h.admin.addr(), "/readyz");
    assert_eq!(status, 503);
    assert!(text.contains("\nends: shard 3 lacks a share; restore the deltas topic (not met for 0 s)\n"), "{text}");
    assert!(text.contains("\nlag: spans/1 lags; start more workers (not met for 0 s)\n"), "{text}");
    assert!(ask(h.admin.addr(), "/metrics").1.contains("spanmill_ready_condition{condition=\"ends\"} 0"));
    assert_eq!(ask(h.admin.addr(), "/healthz").0, 200, "nothing that a restart would mend");
    h.telemetry.conditions().report(Condition::Lag, "spans/1", None);
    drop(gap);
    assert_eq!(ask(h.admin.addr(), "/readyz").0, 200);
    assert!(ask(h.admin.addr(), "/metrics").1.contains("spanmill_ready_condition{condition=\"ends\"} 1"));
}

#[test]
fn all_conditions_are_listed_as_json() {
    let h = house();
    h.telemetry.conditions().report(Condition::Clock, "here", Some("the clock is off; mend it".to_owned()));
    let (status, text) = ask(h.admin.addr(), "/readyz?format=json");
    assert_eq!(status, 503);
    let json: serde_json::Value = serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(json["ready"], false);
    let conditions = json["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), Condition::ALL.len());
    for condition in conditions {
        let is_clock = condition["condition"] == "clock";
        assert_eq!(condition["met"], !is_clock, "{condition}");
        assert!(condition["since_ms"].as_i64().unwrap() > 0 && condition["seconds"].is_u64(), "{condition}");
        let troubles: &[&str] = if is_clock { &["the clock is off; mend it"] } else { &[] };
        assert_eq!(condition["troubles"], serde_json::json!(troubles));
    }
}

#[test]
fn conditions_that_nobody_has_looked_at_for_long_are_not_called_met() {
    let h = house();
    h.judged.store(11, Ordering::SeqCst);
    let (status, text) = ask(h.admin.addr(), "/readyz");
    assert_eq!(status, 503);
    assert!(text.contains("the conditions have not been checked for 11 s"), "{text}");
}

#[test]
fn nothing_that_others_have_named_ends_a_line_or_gives_orders_to_a_terminal() {
    let h = house();
    let forged = "a\nready\u{1b}[2J\u{202e}";
    h.telemetry.conditions().report(Condition::Ends, forged, Some(forged.to_owned()));
    let id = TaskId { kind: TaskKind::Span, topic: forged.to_owned(), partition: 7 };
    let evil = serde_json::json!({ "service": "a\u{9b}1m\u{7f}", "values": 1 });
    h.telemetry.tasks().update(&id, |s| {
        s.limits.top_labels = vec![evil.clone()];
    });
    for path in ["/readyz", "/readyz?format=json", "/metrics", "/cardinality", "/tenants", "/quarantine", "/"] {
        let (_, text) = ask(h.admin.addr(), path);
        let body = text.split_once("\r\n\r\n").expect("a body").1;
        assert!(body.chars().all(|c| c == '\n' || spanmill::core::model::text::shows_itself(c)), "{path}: {body:?}");
        assert!(!body.lines().any(|line| line.starts_with("ready")), "{path}: {body}");
    }
    let (_, text) = ask(h.admin.addr(), "/cardinality");
    assert!(text.contains(r#""service":"a\u009b1m\u007f""#), "{text}");
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
    let probes = Probes { alive: Box::new(|| true), judged: Box::new(|| Duration::ZERO) };
    let taken = h.admin.addr().to_string();
    let error = Admin::start(&config(&taken), Telemetry::new(), probes).unwrap_err();
    assert!(matches!(error, AdminError::Listen { .. }));
    let text = error.to_string();
    assert!(text.contains("admin.listen") && text.contains(&taken) && text.contains("free host:port"), "{text}");
}

#[test]
fn an_empty_address_switches_the_server_off() {
    let probes = Probes { alive: Box::new(|| true), judged: Box::new(|| Duration::ZERO) };
    assert!(Admin::start(&config(""), Telemetry::new(), probes).unwrap().is_none());
}

#[test]
fn the_tenants_with_settings_of_their_own_are_listed_by_name() {
    let h = house();
    let (_, text) = ask(h.admin.addr(), "/tenants");
    assert!(text.ends_with("{\"last_reload_successful\":true,\"tenants\":[],\"version\":\"\"}\n"), "{text}");
    h.telemetry.overrides_loaded("0a".to_owned(), vec!["b\u{f6}rse".to_owned(), "team-a".to_owned()]);
    h.telemetry.overrides_refused();
    let (status, text) = ask(h.admin.addr(), "/tenants");
    assert_eq!(status, 200);
    assert!(text.contains("content-type: application/json\r\n"), "{text}");
    assert!(
        text.ends_with(
            "{\"last_reload_successful\":false,\"tenants\":[\"b\u{f6}rse\",\"team-a\"],\"version\":\"0a\"}\n"
        ),
        "{text}"
    );
    let metrics = h.telemetry.render();
    for line in [
        "spanmill_overrides_info{version=\"0a\"} 1",
        "spanmill_overrides_last_reload_successful 0",
        "spanmill_overrides_tenants 2",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[test]
fn the_settings_that_decide_numbers_are_told_and_who_counts_by_others() {
    let h = house();
    h.telemetry.settings_in_force(0xab, "series.stale_after = 1m\n");
    let (status, text) = ask(h.admin.addr(), "/settings");
    let own = r#""fingerprint":"00000000000000ab","others":[],"settings":["series.stale_after = 1m"]}"#;
    assert!(status == 200 && text.contains(own), "{text}");
    let id = TaskId { kind: TaskKind::Series, topic: "spanmill-deltas".to_owned(), partition: 3 };
    h.telemetry.tasks().update(&id, |s| {
        (s.shown, s.settings.sources) = (true, 2);
        s.settings.others.insert(0xcd, vec!["series.stale_after = 1m here, 15m there".to_owned()]);
    });
    let (_, text) = ask(h.admin.addr(), "/settings");
    let others = r#"{"00000000000000cd":["series.stale_after = 1m here, 15m there"]},"partition":3,"sources":2"#;
    assert!(text.contains(others), "{text}");
    let metrics = h.telemetry.render();
    for line in [
        r#"spanmill_settings_info{fingerprint="00000000000000ab"} 1"#,
        r#"spanmill_settings_differ{partition="3",state="restoring",topic="spanmill-deltas"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[test]
fn who_makes_the_series_is_said_when_limits_refuse_label_sets() {
    let h = house();
    assert!(ask(h.admin.addr(), "/cardinality").1.contains(r#"{"label_sets_over_limit":0,"labels":[]}"#));
    for (partition, service, values) in [(1, "quiet", 3), (2, "noisy", 400)] {
        let id = TaskId { kind: TaskKind::Series, topic: "spanmill-deltas".to_owned(), partition };
        h.telemetry.tasks().update(&id, |s| {
            s.limits.refused = 10;
            s.limits.top_labels = vec![serde_json::json!({"service": service, "label": "span_name", "values": values})];
        });
    }
    let (status, text) = ask(h.admin.addr(), "/cardinality");
    assert_eq!(status, 200);
    assert!(text.contains(r#""label_sets_over_limit":20"#), "{text}");
    assert!(text.find("noisy") < text.find("quiet"), "the worst comes first: {text}");
}

/// Half a request, and then nothing.
fn half_a_request(addr: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket
}

#[test]
fn half_a_request_is_cut_after_a_while() {
    let h = house();
    let mut half = half_a_request(h.admin.addr());
    let mut text = String::new();
    half.read_to_string(&mut text).expect("the server ends the connection");
    assert!(!text.contains("200"), "{text}");
}

#[test]
fn many_half_requests_leave_room_for_a_whole_one_and_take_few_file_descriptors() {
    let h = house();
    let halves: Vec<TcpStream> = (0..400).map(|_| half_a_request(h.admin.addr())).collect();
    for _ in 0..3 {
        assert_eq!(ask(h.admin.addr(), "/healthz").0, 200);
    }
    // The oldest make room, so few of them are open.
    let is_open = |mut socket: &TcpStream| {
        socket.set_nonblocking(true).unwrap();
        matches!(socket.read(&mut [0; 64]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
    };
    let open = halves.iter().filter(|socket| is_open(socket)).count();
    assert!(open <= 128, "{open} are open");
}
