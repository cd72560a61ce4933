//! The command line as a user meets it: exit codes, help, completions, a log without a reader.
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::child::Guarded;

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
fn a_demo_without_time_proves_nothing_and_is_refused() {
    let output = spanmill(&["demo", "--duration", "0s"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("is too short; use at least 1s"), "{}", text(&output.stderr));
}

#[test]
fn what_no_worker_could_use_is_found_by_check() {
    for (set, said) in [
        ("kafka.brokers=http://kafka:9092", "is a URL of another protocol"),
        ("kafka.brokers=ok:9092,${KAFKA}", "contains a variable that was not substituted"),
        ("remote_write.tls.ca_file=/nowhere/ca.pem", "remote_write.tls.ca_file: cannot read `/nowhere/ca.pem`"),
        ("kafka.properties.ssl.ca.location=/nowhere/ca.pem", "/nowhere/ca.pem"),
    ] {
        let output = spanmill(&["check", "--set", set]);
        let text = text(&output.stdout);
        assert!(output.status.code() == Some(64) && text.contains(said), "{set}: {text}");
    }
    assert_eq!(spanmill(&["check", "--set", "kafka.brokers=SASL_SSL://a:9092, b"]).status.code(), Some(0));
}

#[test]
fn a_broker_that_does_not_answer_is_named_with_what_to_do() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let broker = format!("127.0.0.1:{port}");
    let checked = spanmill(&["check", "--against", "spans", "--set", &format!("kafka.brokers={broker}")]);
    let produced = spanmill(&["produce", "--brokers", &broker, "--topic", "spans", "--spans", "1"]);
    for (output, said) in [(&checked, text(&checked.stdout)), (&produced, text(&produced.stderr))] {
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&format!("no broker answers at {broker}")) && said.contains("check that the broker is up"),
            "{said}"
        );
    }
}

#[test]
fn check_takes_its_file_as_an_argument_and_shows_what_was_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("spanmill.yaml");
    std::fs::write(&path, "time: {step: 30s}\n").expect("a file");
    let path = path.to_string_lossy();
    let output = spanmill(&["check", &path, "--only-changed"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("time.step = 30s"), "{said}");
    assert_eq!(spanmill(&["check", &path, "--config", &path]).status.code(), Some(64), "one file");
    assert_eq!(text(&spanmill(&["check", "--only-changed"]).stdout), "all values are defaults\n");
}

#[test]
fn check_hints_at_what_is_well_formed_and_hardly_meant() {
    let policy = "{exclude: {match_type: regex, attributes: [{key: span.http.status_code, value: '5..'}]}}";
    let set = format!("span_metrics.filter_policies=[{policy}]");
    let output = spanmill(&["check", "--only-changed", "--set", &set, "--set", "span_metrics.dimensions=span.kind"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let hints: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("hint: ")).collect();
    assert_eq!(hints.len(), 2, "{said}");
    assert!(hints[0].starts_with("span_metrics.dimensions[0]: `span.kind` is looked up"), "{said}");
    assert!(hints[1].contains("a regular expression never matches a number"), "{said}");
    assert!(!text(&spanmill(&["check"]).stdout).contains("hint:"));
}

#[test]
fn import_writes_over_nothing_unless_it_is_told_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let [from, to] = ["tempo.yaml", "spanmill.yaml"].map(|name| dir.path().join(name).to_string_lossy().into_owned());
    std::fs::write(&from, "metrics_generator: {processor: {span_metrics: {dimensions: [a]}}}\n").expect("a file");
    std::fs::write(&to, "mine").expect("a file");
    let output = spanmill(&["import", &from, "--from", "tempo", "--output", &to]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("--force"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_to_string(&to).expect("it is there"), "mine");
    assert_eq!(spanmill(&["import", &from, "--from", "tempo", "--output", &to, "--force"]).status.code(), Some(0));
    assert_ne!(std::fs::read_to_string(&to).expect("it is there"), "mine");
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
    assert!(said.lines().count() == 2 && said.contains("fan_out.case: 4 expectations met"), "{said}");
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
    let mut worker = Guarded::start(
        Command::new(env!("CARGO_BIN_EXE_spanmill"))
            .args(["run", "--set", "kafka.brokers=127.0.0.1:9", "--set", &listen, "--set", "log.level=debug"])
            .stderr(Stdio::piped()),
    );
    drop(worker.stderr.take());
    let wait = |what: &str, done: &mut dyn FnMut() -> bool| {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < Duration::from_secs(40), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait("the admin server answers", &mut || is_healthy(port));
    assert!(crate::child::signal(worker.id(), "TERM"));
    let mut status = None;
    wait("it ends", &mut || {
        status = worker.try_wait().expect("a child can be asked");
        status.is_some()
    });
    assert_eq!(status.and_then(|s| s.code()), Some(0), "{status:?}");
}

/// Whether the admin server answers on this port. A connection alone proves nothing: another process may have the port.
fn is_healthy(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let asked = stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").is_ok();
    let mut answer = String::new();
    asked && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

#[test]
fn the_long_version_says_what_was_built_and_the_short_one_is_a_line() {
    let long = text(&spanmill(&["--version"]).stdout);
    for line in ["target: ", "profile: ", "librdkafka: "] {
        assert!(long.lines().any(|said| said.len() > line.len() && said.starts_with(line)), "{line}: {long}");
    }
    let short = text(&spanmill(&["-V"]).stdout);
    assert_eq!(short.lines().count(), 1, "{short}");
    assert!(long.starts_with(short.trim_end()), "{long}");
}

#[test]
fn check_finds_every_file_of_kafkas_properties_that_is_missing() {
    let files = ["ssl.ca.location", "ssl.crl.location"].map(|key| format!("kafka.properties.{key}=/nowhere/{key}"));
    let args: Vec<&str> = files.iter().flat_map(|set| ["--set", set]).collect();
    let output = spanmill(&[&["check"], &args[..]].concat());
    assert_eq!(output.status.code(), Some(64));
    let said = text(&output.stdout);
    for key in ["ssl.ca.location", "ssl.crl.location"] {
        assert!(said.contains(&format!("kafka.properties.{key}: cannot read /nowhere/{key}: ")), "{said}");
    }
}

#[test]
fn what_check_cannot_do_at_once_is_refused() {
    for args in [
        ["--only-changed", "--against", "spans"].as_slice(),
        &["--only-changed", "--cases", "a.case"],
        &["--connect", "--against", "spans"],
    ] {
        assert_eq!(spanmill(&[&["check"], args].concat()).status.code(), Some(64), "{args:?}");
    }
}

#[test]
fn names_of_files_give_no_orders_and_end_no_line() {
    let evil = "/nowhere/a\n\u{1b}[2Jb";
    for args in [&["check", "--cases", evil][..], &["import", evil], &["spool", evil]] {
        let output = spanmill(args);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains("a\\n\\u001b[2Jb") && !said.contains('\u{1b}'), "{args:?}: {said:?}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said:?}");
    }
}

#[test]
fn why_a_broker_cannot_be_talked_to_is_named_with_what_to_do() {
    // It hangs up at the first word, as Kafka does where it hears what is not its protocol.
    let broker = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = broker.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for mut socket in broker.incoming().flatten() {
            let mut word = [0; 4];
            drop(socket.read(&mut word));
        }
    });
    let dir = tempfile::tempdir().expect("a directory");
    let empty = dir.path().join("none.pem").to_string_lossy().into_owned();
    let ca = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&empty, ca.cert.pem()).expect("a file");
    let trusts = format!("kafka.properties.ssl.ca.location={empty}");
    for (brokers, properties, what) in [
        (&*at, &["kafka.properties.security.protocol=ssl", &trusts][..], "the broker does not speak TLS at this port"),
        ("no-such-host.invalid:9092", &[], "DNS does not know this name"),
    ] {
        let brokers = format!("kafka.brokers={brokers}");
        let sets = std::iter::once(&*brokers).chain(properties.iter().copied()).flat_map(|set| ["--set", set]);
        let args: Vec<&str> = ["check", "--against", "spans"].into_iter().chain(sets).collect();
        let output = spanmill(&args);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(what), "{what}: {said}");
    }
}

#[test]
fn check_connect_says_what_is_wrong_with_brokers_and_receivers_and_fails() {
    // A broker that hangs up at the first word, as a port for TLS does, and a receiver that wants a token.
    let broker = TcpListener::bind("127.0.0.1:0").expect("a port");
    let receiver = TcpListener::bind("127.0.0.1:0").expect("a port");
    let [broker_at, receiver_at] = [&broker, &receiver].map(|l| l.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for mut socket in broker.incoming().flatten() {
            let mut word = [0; 64];
            drop(socket.read(&mut word));
        }
    });
    std::thread::spawn(move || {
        for mut socket in receiver.incoming().flatten() {
            let mut request = [0; 4096];
            if socket.read(&mut request).is_ok() {
                let answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 8\r\nConnection: close\r\n\r\nno token";
                drop(socket.write_all(answer.as_bytes()));
            }
        }
    });
    let brokers = format!("kafka.brokers={broker_at}");
    let url = format!("remote_write.url=http://{receiver_at}/api/v1/write");
    let output = spanmill(&["check", "--connect", "--set", &brokers, "--set", &url]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("set kafka.properties security.protocol to SSL"), "{said}");
    assert!(said.contains("answers 401: no token; check remote_write.auth"), "{said}");
}

#[test]
fn rules_are_those_of_the_configured_objectives_and_need_a_target() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let overrides = path("overrides.yaml");
    std::fs::write(&overrides, "tenants: {acme: {slos: [{name: own, objective: 99}]}}").expect("a file");
    let main =
        format!("overrides: {{file: '{overrides}'}}\nslos: [{{name: checkout, objective: 99.9}}, {{name: bare}}]\n");
    std::fs::write(path("slos.yaml"), main).expect("a file");
    let rules = |more: &[&str]| spanmill(&[&["rules", "--config", &path("slos.yaml")], more].concat());
    let refused = rules(&[]);
    assert_eq!(refused.status.code(), Some(64));
    let why = "slos[1] (bare): has no `objective`, which rules need; write one such as `objective: 99.9`";
    assert!(text(&refused.stderr).contains(why), "{}", text(&refused.stderr));
    let own = rules(&["--tenant", "acme"]);
    assert!(
        own.status.success() && text(&own.stdout).contains("slo: \"own\"") && !text(&own.stdout).contains("checkout")
    );
    let all = rules(&["--set", "slos=[{name: checkout, objective: 99.9}]"]);
    assert!(all.status.success() && text(&all.stdout).contains("alert: SloErrorBudgetBurnsFast"));
    let dashboard = rules(&["--tenant", "acme", "--dashboard"]);
    let json: serde_json::Value = serde_json::from_slice(&dashboard.stdout).expect("JSON");
    assert_eq!(json["uid"], "spanmill-slos");
    let none = spanmill(&["rules"]);
    assert_eq!(none.status.code(), Some(64));
    assert!(text(&none.stderr).contains("slos: is empty"), "{}", text(&none.stderr));
}
