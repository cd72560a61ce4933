//! The demo as a stranger runs it: the program, no terminal, no server.

use std::process::{Command, Output};

fn demo(arguments: &str) -> (Output, String) {
    let words = ["demo"].into_iter().chain(arguments.split_whitespace());
    let output = Command::new(env!("CARGO_BIN_EXE_spanmill")).args(words).output().expect("the program runs");
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    (output, text)
}

/// The table, its columns by single blanks.
fn edges(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.contains(" -> "));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_demo_shows_the_shop_and_its_totals_are_exact() {
    let (output, text) = demo("--duration 8s --rate 300 --seed 1");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}\n{log}", output.status);
    let verdict = text.lines().last().expect("a last line");
    assert!(verdict.ends_with(" series, all equal to the expected result") && !verdict.starts_with("0 "), "{text}");
    for edge in [
        "user -> frontend virtual_node",
        "frontend -> checkout",
        "checkout -> accounting messaging_system",
        "catalog -> mongo database",
        "payment -> payment-provider virtual_node",
    ] {
        assert!(edges(&text).iter().any(|line| line.starts_with(edge)), "{edge} is missing in\n{text}");
    }
    assert!(text.contains(" + 0 dropped + 0 pending\n") && text.contains(" 0 contradictions\n"), "{text}");
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("service map: http://127.0.0.1:")), "{text}");
    assert!(!text.contains('\x1b'), "there is no terminal to draw on");
}

#[test]
fn the_demo_refuses_what_the_embedded_broker_cannot_hold() {
    for wrong in ["--rate 0", "--rate 1000000", "--workers 0", "--duration 5"] {
        assert_eq!(demo(wrong).0.status.code(), Some(64), "{wrong}");
    }
}
