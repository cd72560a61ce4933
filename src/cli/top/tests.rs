//! The view as it is drawn and printed.

use std::sync::Arc;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::draw::draw;
use super::print;
use super::rows::table;
use super::snapshot::Snapshot;
use super::state::{State, Tab, action};
use crate::cli::topics::report::{Kind, Report, Row};
use crate::cli::topics::sending::Sending;
use crate::core::model::Millis;
use crate::core::model::text::shows_itself;
use crate::tools::map::{EdgeView, MetricView, NodeType, NodeView, SubjectView, Values};

const NOW: Millis = 1_700_000_100_000;

fn values(rate: f64, errors: f64) -> Option<Values> {
    Some(Values { rate, errors, p50: Some(12.0), p95: Some(250.0), ..Values::default() })
}

fn node(name: &str, now: Option<Values>) -> NodeView {
    NodeView {
        id: name.to_owned(),
        name: name.to_owned(),
        namespace: String::new(),
        group: String::new(),
        kind: NodeType::Service,
        of: "server spans",
        now,
        then: None,
    }
}

fn edge(client: &str, server: &str, now: Option<Values>) -> EdgeView {
    EdgeView {
        client: client.to_owned(),
        server: server.to_owned(),
        kind: "request",
        side: "client",
        now,
        then: None,
        first_seen: NOW - 60_000,
        last_seen: NOW,
    }
}

/// A shop at work, with `name` in every place that others fill.
fn snapshot(name: &str) -> Snapshot {
    let mut report = Report::new("mill".to_owned(), NOW, 60_000);
    let mut row = Row::new(Kind::Source, name, 0, (100, 200));
    row.held(&Ok((Some(150), Some(NOW - 5_000))), &(3, 2_048, Some(NOW - 500)));
    report.add(row);
    let mut row = Row::new(Kind::Shard, name, 3, (100, 200));
    row.held(&Ok((Some(200), Some(NOW - 2_000))), &(9, 4_096, Some(NOW - 1_000)));
    row.sending = Some(Sending {
        closed: Some(NOW - 2_000),
        acknowledged: Some(NOW - 32_000),
        unacknowledged: 2,
        stall_timeouts: 1,
        undelivered_bytes: 3_072,
        skipped: [(name.to_owned(), 4)].into(),
    });
    report.add(row);
    report.problem(format!("source topic {name} does not exist"));
    let owned = || name.to_owned();
    let subject = |kind, failed| SubjectView {
        tenant: owned(),
        kind,
        service: owned(),
        name: owned(),
        of: "server".to_owned(),
        failed,
        label_sets: 7,
    };
    let report = Arc::new(report);
    Snapshot {
        group: owned(),
        at: NOW,
        tenant: owned(),
        tenants: vec!["acme".to_owned(), owned()],
        as_of: Some(NOW - 4_000),
        window: 60_000,
        partial: vec![format!("{name}[3] is behind")],
        services: vec![node("cart", values(4.25, 0.0)), node(name, values(120.0, 0.08)), node("idle", None)],
        edges: vec![edge(name, "cart", values(3.0, 0.02)), edge("cart", "db", values(9.0, 0.0))],
        partitions: Some(Arc::clone(&report)),
        samples: Some(report),
        series: vec![MetricView { tenant: owned(), metric: owned(), label_sets: 3, series: 51 }],
        label_sets: vec![subject("operation", true), subject("edge", false)],
        quiet: 2,
    }
}

/// The lines of a picture.
fn drawn(state: &mut State, snapshot: &Snapshot, (width, height): (u16, u16)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    let shown = table(snapshot, state.tab);
    terminal.draw(|frame| draw(frame, state, snapshot, &shown, true)).expect("it draws");
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

fn press(state: &mut State, snapshot: &Snapshot, keys: &str) {
    for c in keys.chars() {
        let key = KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
        if let Some(action) = action(key, state.typing()) {
            state.apply(action, &table(snapshot, state.tab), &snapshot.tenants);
        }
    }
}

#[test]
fn services_are_drawn_with_the_busiest_first() {
    let mut state = State::new(Tab::Services, None, false);
    let lines = drawn(&mut state, &snapshot("checkout"), (96, 9));
    let expected = [
        "spanmill top  group checkout, tenant checkout (2 of 2), complete up to 4.0 s ago, over 60 s",
        " 1 services   2 edges   3 partitions   4 series   5 label sets   6 samples",
        "SERVICE   RATE/S v  ERRORS    P50     P95  TYPE",
        "checkout       120   8.0 %  12 ms  250 ms  service",
        "cart           4.2     0 %  12 ms  250 ms  service",
        "idle             -       -      -       -  service",
        "",
        "checkout[3] is behind",
        "? help  / filter  </> sort  r reverse  t tenant  w wide  space pause  q quit",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn keys_sort_filter_and_pause_what_is_drawn() {
    let shop = snapshot("checkout");
    let mut state = State::new(Tab::Services, None, false);
    press(&mut state, &shop, "r /c");
    let lines = drawn(&mut state, &shop, (96, 9));
    assert!(lines[0].starts_with("spanmill top  PAUSED  group"), "{lines:#?}");
    assert!(lines[2].contains("RATE/S ^"), "{lines:#?}");
    assert!(lines[3].starts_with("idle") && lines[4].starts_with("cart"), "service contains c: {lines:#?}");
    assert_eq!(lines[8], "/c_");
    press(&mut state, &shop, "art");
    let lines = drawn(&mut state, &shop, (96, 9));
    assert!(lines[3].starts_with("cart") && lines[4].is_empty(), "{lines:#?}");
}

#[test]
fn edges_partitions_series_label_sets_and_samples_are_drawn() {
    let shop = snapshot("checkout");
    let mut state = State::new(Tab::Edges, None, false);
    let expected = [
        (
            "2",
            "CLIENT    SERVER  RATE/S v  ERRORS    P50     P95  TYPE",
            "cart      db           9.0     0 %  12 ms  250 ms  request",
        ),
        (
            "3",
            "PARTITION    OWNER  UNREAD    LAG  TIME AGE  LAST COMMIT  STATE",
            "checkout[0]  ?          50  5.0 s     5.0 s        0.5 s  ok",
        ),
        ("4", "TENANT    METRIC    LABEL SETS  SERIES v    SHARE", "checkout  checkout           3        51  100.0 %"),
        (
            "5",
            "TENANT    SERVICE   OPERATION OR CALLEE  KIND         STATUS  LABEL SETS v",
            "checkout  checkout  checkout             server       failed             7",
        ),
        (
            "6",
            "SHARD        CLOSED AGE  ACKNOWLEDGED AGE  UNACKNOWLEDGED  WAITING  SKIPPED FOR   STATE",
            "checkout[3]       2.0 s              32 s               2  3.0 KiB  checkout (4)  ok",
        ),
    ];
    for (key, heading, first) in expected {
        press(&mut state, &shop, key);
        let lines = drawn(&mut state, &shop, (96, 12));
        assert_eq!((&*lines[2], &*lines[3]), (heading, first), "{lines:#?}");
    }
}

#[test]
fn a_terminal_of_any_size_has_a_picture() {
    let shop = snapshot(&"a-very-long-name-of-a-service ".repeat(10));
    for size in [(1, 1), (2, 3), (20, 4), (40, 10), (300, 60)] {
        for tab in Tab::ALL {
            let mut state = State::new(tab, None, true);
            drawn(&mut state, &shop, size);
            press(&mut state, &shop, "?");
            drawn(&mut state, &shop, size);
        }
    }
    let mut state = State::new(Tab::Edges, None, false);
    let lines = drawn(&mut state, &shop, (70, 9));
    assert!(lines[3].contains("9.0") && lines[3].contains("250 ms"), "numbers stay, texts are cut: {lines:#?}");
}

#[test]
fn help_has_every_key() {
    let mut state = State::new(Tab::Services, None, false);
    press(&mut state, &snapshot("checkout"), "?");
    let text = drawn(&mut state, &snapshot("checkout"), (120, 24)).join("\n");
    for key in ["1-6", "Tab", "PgDn", " / ", " r ", "t, T", " w ", "Space", "q, Ctrl-C", "Esc"] {
        assert!(text.contains(key), "{key}: {text}");
    }
    press(&mut state, &snapshot("checkout"), "?");
    assert!(!drawn(&mut state, &snapshot("checkout"), (120, 24)).join("\n").contains("Ctrl-C"));
}

#[test]
fn no_text_from_outside_controls_the_terminal() {
    let evil = snapshot("a\u{1b}[2J\u{1b}]0;owned\u{7}\r\n\u{202e}gnp\u{9b}31m");
    for tab in Tab::ALL {
        let mut state = State::new(tab, None, true);
        press(&mut state, &evil, "/\u{202e}");
        let lines = drawn(&mut state, &evil, (400, 20));
        assert!(lines.iter().flat_map(|line| line.chars()).all(shows_itself), "{lines:#?}");
        press(&mut state, &evil, "q");
    }
    let mut out = Vec::new();
    print::tables(&evil, &Tab::ALL, true, &mut out).expect("memory takes everything");
    let text = String::from_utf8(out).expect("UTF-8");
    assert!(text.chars().all(|c| c == '\n' || shows_itself(c)), "{text:?}");
    assert!(text.contains("\\u001b[2J"), "{text}");
}

#[test]
fn what_is_printed_once_has_every_tab_and_what_is_missing() {
    let shop = snapshot("checkout");
    let mut out = Vec::new();
    print::tables(&shop, &Tab::ALL, false, &mut out).expect("memory takes everything");
    let text = String::from_utf8(out).expect("UTF-8");
    assert!(
        text.starts_with("group checkout, tenant checkout (2 of 2), complete up to 4.0 s ago, over 60 s\n"),
        "{text}"
    );
    for part in [
        "\nmissing: checkout[3] is behind\n",
        "\nservices\nSERVICE   RATE/S  ERRORS  P50    P95     TYPE\ncheckout  120     8.0 %   12 ms  250 ms  service\n",
        "\nsource topic checkout does not exist\n",
        "\n51 series in all, before the limits of tenants\n",
        "\n2 label sets of snapshots have counted nothing since this view began\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = shop.json(&[Tab::Services, Tab::Partitions]);
    assert_eq!(json["services"][1]["now"]["rate"], 120.0);
    assert_eq!(json["partitions"]["partitions"][0]["lag_records"], 50);
    let samples = &shop.json(&[Tab::Samples])["samples"];
    assert_eq!((samples.as_array().map(Vec::len), &samples[0]["sending"]["unacknowledged"]), (Some(1), &2.into()));
    assert!(json.get("edges").is_none() && json.get("label_sets").is_none(), "only what was asked for: {json}");
    assert_eq!(shop.json(&Tab::ALL)["label_sets"][0]["failed"], true);
}
