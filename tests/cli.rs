//! The command line as a user meets it: exit codes, help, completions, a log that nobody reads any more.
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn spanmill(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spanmill")).args(args).output().expect("spanmill starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn wrong_arguments_end_with_64_and_help_with_0() {
    for args in [&["run", "--bogus"][..], &["fly"], &[], &["produce", "--rate", "many"], &["plan", "--partitions", "0"]]
    {
        let output = spanmill(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(text(&output.stderr).contains("Usage") || text(&output.stderr).contains("error"), "{args:?}");
    }
    for args in [
        &["--help"][..],
        &["--version"],
        &["run", "--help"],
        &["produce", "--help"],
        &["demo", "--help"],
        &["plan", "--help"],
    ] {
        let output = spanmill(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_wrong_configuration_ends_with_64_before_anything_starts() {
    for command in ["run", "check"] {
        let output = spanmill(&[command, "--set", "time.step=15", "--set", "kafka.brokerz=x"]);
        assert_eq!(output.status.code(), Some(64), "{command}");
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(said.contains("`15` has no unit") && said.contains("kafka.brokerz"), "{command}: {said}");
    }
}

#[test]
fn a_kafka_property_that_the_client_does_not_know_ends_with_64_and_shows_no_value() {
    for command in ["run", "check"] {
        let output = spanmill(&[command, "--set", "kafka.properties.sasl.pasword=hunter2"]);
        assert_eq!(output.status.code(), Some(64), "{command}");
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(said.contains("sasl.pasword") && !said.contains("hunter2"), "{command}: {said}");
    }
}

#[test]
fn plan_says_what_a_load_takes_and_where_every_number_comes_from() {
    let load = ["plan", "--spans-per-second", "500000", "--label-sets", "20000", "--partitions", "48"];
    let output = spanmill(&load);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for word in ["workers", "cores", "memory_per_worker", "kafka_in", "samples_per_second", "measured costs", "runs"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let json = spanmill(&[&load[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    // 20,000 label sets of 19 series and 2,000 edges of 24, once in 15 s.
    let lines = json["plan"]["lines"].as_array().expect("lines");
    let samples = lines.iter().find(|line| line["name"] == "samples_per_second").expect("a rate");
    assert_eq!(samples["value"].as_f64(), Some((20_000.0 * 19.0 + 2_000.0 * 24.0) / 15.0));
    assert!(json["costs"]["cpu_ns_per_span"]["source"].is_string(), "{json}");
}

#[test]
fn check_prints_what_is_in_force_and_where_it_comes_from() {
    let output = spanmill(&[
        "check",
        "--set",
        "kafka.group=mine",
        "--set",
        "remote_write.auth.type=bearer",
        "--set",
        "remote_write.auth.token=hush",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let line = said.lines().find(|l| l.starts_with("kafka.group ")).expect("the group is printed");
    assert!(line.contains("= mine ") && line.contains("--set"), "{line}");
    assert!(!said.contains("hush"), "a secret is printed");
}

#[test]
fn check_plays_scenarios_under_the_settings_and_names_the_lines_that_do_not_hold() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");
    let (fan_out, plain) = (format!("{dir}/fan_out.case"), format!("{dir}/plain_pair.case"));
    let output = spanmill(&["check", "--cases", &fan_out, &plain]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.lines().count() == 2 && said.contains("fan_out.case: 4 statements hold"), "{said}");
    let output = spanmill(&["check", "--set", "service_graphs.enabled=false", "--cases", &fan_out]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("fan_out.case:11: it is 0, not 1\n") && !said.contains("hold"), "{said}");
    let output = spanmill(&["check", "--set", "time.step=15", "--cases", &fan_out]);
    assert_eq!(output.status.code(), Some(64), "wrong settings come first");
    let output = spanmill(&["check", "--cases", "/no/such.case", "README.md"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/no/such.case: cannot be read") && said.contains("README.md:"), "{said}");
}

#[test]
fn check_reads_the_overrides_and_lists_what_they_say() {
    let overrides = concat!("overrides.file=", env!("CARGO_MANIFEST_DIR"), "/config/overrides.yaml");
    let output = spanmill(&["check", "--set", overrides]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let of_tenants: Vec<_> = said.lines().filter(|line| line.starts_with("tenants.")).collect();
    assert!(of_tenants.iter().any(|line| line.starts_with("tenants.payments.naming.profile ")), "{said}");
    assert!(!of_tenants.iter().any(|line| line.contains("# default")), "only what differs is listed: {said}");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let said = text(&spanmill(&["completions", shell]).stdout);
        assert!(said.contains("produce") && said.contains("demo"), "{shell}");
    }
}

#[test]
fn a_worker_whose_log_nobody_reads_goes_on_and_stops_when_told() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let listen = format!("admin.listen=127.0.0.1:{port}");
    let mut worker = Command::new(env!("CARGO_BIN_EXE_spanmill"))
        .args(["run", "--set", "kafka.brokers=127.0.0.1:9", "--set", &listen, "--set", "log.level=debug"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("spanmill starts");
    drop(worker.stderr.take());
    let wait = |what: &str, done: &mut dyn FnMut() -> bool| {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < Duration::from_secs(40), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait("the admin server answers", &mut || is_healthy(port));
    let pid = worker.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    let mut status = None;
    wait("it ends", &mut || {
        status = worker.try_wait().expect("a child can be asked");
        status.is_some()
    });
    assert_eq!(status.and_then(|s| s.code()), Some(0), "{status:?}");
}

/// Whether the admin server answers on this port. A connection alone proves nothing: somebody else may have the port.
fn is_healthy(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let asked = stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").is_ok();
    let mut answer = String::new();
    asked && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}
