//! A worker whose brokers want tokens that expire within seconds: from a token endpoint that fails in between, and from a
//! file that another program renews.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use tempfile::TempDir;

use super::place::{Place, records, says, spans};
use crate::servers::kafka::RealKafka;
use crate::servers::spanmill::spanmill;
use crate::servers::wait_until;
use crate::{PATIENCE, STOPS_WITHIN};

/// How long a token lives.
const LIFE: Duration = Duration::from_secs(6);
const SECRET: &str = "sesame-1/2";

/// A token as Kafka's validator for tests wants it: unsecured, with a subject and an end.
fn token(life: Duration) -> String {
    with_header(r#"{"alg":"none"}"#, life)
}

fn with_header(header: &str, life: Duration) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let end = (now + life).as_secs_f64();
    let claims = format!(r#"{{"sub":"mill","iat":{},"exp":{end}}}"#, now.as_secs_f64());
    format!("{}.{}.", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims))
}

/// A token endpoint.
struct Endpoint {
    url: String,
    fails: Arc<AtomicBool>,
    /// How many tokens it has issued.
    issued: Arc<AtomicU64>,
    /// All tokens that it has issued.
    tokens: Arc<Mutex<Vec<String>>>,
}

// === impl Endpoint ===

impl Endpoint {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/token", listener.local_addr().expect("an address"));
        let (fails, issued, tokens) = (Arc::default(), Arc::default(), Arc::default());
        let endpoint = Self { url, fails, issued, tokens };
        let (fails, issued, tokens) = (endpoint.fails.clone(), endpoint.issued.clone(), endpoint.tokens.clone());
        // It ends with the process.
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (status, body) = answer(&socket, &fails, &issued, &tokens);
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                // Who asks may be gone.
                drop((&socket).write_all((head + &body).as_bytes()));
            }
        });
        endpoint
    }

    fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }
}

fn answer(
    mut socket: &TcpStream,
    fails: &AtomicBool,
    issued: &AtomicU64,
    tokens: &Mutex<Vec<String>>,
) -> (&'static str, String) {
    let (mut request, mut buffer) = (String::new(), [0; 4096]);
    while !request.contains("scope=spans") {
        match socket.read(&mut buffer) {
            Ok(n) if n > 0 => request.push_str(&String::from_utf8_lossy(&buffer[..n])),
            _ => break,
        }
    }
    let client = BASE64_STANDARD.encode(format!("mill:{}", SECRET.replace('/', "%2F")));
    if fails.load(Ordering::Relaxed) {
        ("503 Service Unavailable", "the directory is down".to_owned())
    } else if !request.contains(&format!("Basic {client}")) {
        let refusal =
            r#"{"error":"invalid_client","error_description":"Invalid client or Invalid client credentials"}"#;
        ("401 Unauthorized", refusal.to_owned())
    } else {
        let token = token(LIFE);
        issued.fetch_add(1, Ordering::Relaxed);
        let body = format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{}}}"#, LIFE.as_secs());
        tokens.lock().expect("no panic").push(token);
        ("200 OK", body)
    }
}

/// The settings of a client at the guarded listener.
fn oidc(endpoint: &Endpoint, secret: &str) -> Vec<String> {
    let of = |name: &str, value: &str| format!("{name}={value}");
    vec![
        of("security.protocol", "SASL_PLAINTEXT"),
        of("sasl.mechanisms", "OAUTHBEARER"),
        of("sasl.oauthbearer.method", "oidc"),
        of("sasl.oauthbearer.token.endpoint.url", &endpoint.url),
        of("sasl.oauthbearer.client.id", "mill"),
        of("sasl.oauthbearer.client.secret", secret),
        of("sasl.oauthbearer.scope", "spans"),
        // Kafka accepts every well-formed one.
        of("sasl.oauthbearer.extensions", "logicalCluster=lkc-1,identityPoolId=pool-1"),
    ]
}

fn file_of(file: &Path) -> Vec<String> {
    vec![
        "security.protocol=SASL_PLAINTEXT".to_owned(),
        "sasl.mechanisms=OAUTHBEARER".to_owned(),
        format!("sasl.oauthbearer.token.endpoint.url=file://{}", file.display()),
    ]
}

fn settings(address: &str, properties: &[String]) -> Vec<String> {
    let properties = properties.iter().map(|property| format!("kafka.properties.{property}"));
    std::iter::once(format!("kafka.brokers={address}")).chain(properties).collect()
}

fn texts(settings: &[String]) -> Vec<&str> {
    settings.iter().map(String::as_str).collect()
}

#[test]
fn a_worker_on_kafka_goes_on_with_tokens_of_six_seconds_while_their_endpoint_fails_in_between() {
    let (kafka, guarded) = RealKafka::start_with_tokens();
    let (place, endpoint) = (Place::start_on(kafka, "oidc", 2), Endpoint::start());

    let wrong = settings(&guarded, &oidc(&endpoint, "wrong-secret"));
    let mut refused = place.worker("worker with a wrong secret", &texts(&wrong));
    let log = says(&mut refused, "no token for Kafka");
    let message = format!(
        "error=the token endpoint {} refuses the client (status 401): invalid_client: Invalid client or Invalid \
         client credentials",
        endpoint.url
    );
    assert!(log.contains(&message), "{log}");
    assert!(
        log.contains("check kafka.properties sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret"),
        "{log}"
    );
    assert!(!log.contains("wrong-secret"), "{log}");
    refused.kill();

    let mut right = settings(&guarded, &oidc(&endpoint, SECRET));
    // What takes long is not what this is about.
    right.push("service_graphs.enabled=false".to_owned());
    right.push("kafka.properties.reconnect.backoff.max.ms=500".to_owned());
    let mut worker = place.worker("worker", &texts(&right));
    let produce = place.produce(&["--rate", "200", "--seed", "7"]);
    wait_until("tokens are renewed while records are counted", PATIENCE, || {
        crate::must_run(&mut worker);
        let enough = place.calls() > 0.0 && endpoint.issued() >= 3;
        if enough { Ok(()) } else { Err(format!("{} tokens\n{}", endpoint.issued(), worker.tail())) }
    });
    let log = worker.log();
    assert!(!log.contains("no token") && !log.contains("rejects"), "{log}");

    endpoint.fails.store(true, Ordering::Relaxed);
    let failing = "fails (status 503): the directory is down";
    says(&mut worker, "reason=\"no token for Kafka");
    let log = worker.log();
    let lines = |log: &str| log.lines().filter(|line| line.contains(failing) && line.contains("remedy")).count();
    assert_eq!(lines(&log), 1, "{log}");
    endpoint.fails.store(false, Ordering::Relaxed);
    says(&mut worker, "got a token for Kafka again");
    let expected = place.end(produce);
    place.is_exact(&expected, |series| series.starts_with("traces_spanmetrics"));

    let log = worker.log();
    assert!(!log.contains(SECRET) && !log.contains("sesame-1%2F2"), "{log}");
    for token in endpoint.tokens.lock().expect("no panic").iter() {
        assert!(!log.contains(token), "{log}");
    }
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
}

#[test]
fn every_client_on_kafka_uses_a_token_file_that_is_renewed_and_says_when_brokers_reject_it() {
    let (kafka, guarded) = RealKafka::start_with_tokens();
    let place = Place::start_on(kafka, "projected", 2);
    let dir = TempDir::with_prefix("spanmill-test-").expect("a directory");
    let file = dir.path().join("token");
    // As Kubernetes does it: the file is replaced.
    let renew = || {
        let new = dir.path().join("new");
        std::fs::write(&new, token(LIFE)).and_then(|()| std::fs::rename(&new, &file)).expect("a file");
    };
    let mut settings = settings(&guarded, &file_of(&file));
    settings.push("kafka.properties.reconnect.backoff.max.ms=500".to_owned());

    // Kafka's validator accepts no signature.
    std::fs::write(&file, with_header(r#"{"alg":"RS256"}"#, LIFE) + "c2ln").expect("a file");
    let mut worker = place.worker("worker", &texts(&settings));
    says(&mut worker, "the broker rejects the token");
    renew();
    let sent = records(Duration::from_secs(5));
    place.send(sent.iter().map(|r| (0, r)));
    let counted = |worker: &mut crate::servers::daemon::Daemon, wanted: f64| {
        wait_until("everything is counted", PATIENCE, || {
            crate::must_run(worker);
            renew();
            let calls = place.calls();
            if calls.to_bits() == wanted.to_bits() {
                Ok(())
            } else {
                Err(format!("{calls} of {wanted}\n{}", worker.tail()))
            }
        });
    };
    counted(&mut worker, spans(&sent));
    // `produce` and `check` use the same file.
    let properties: Vec<String> =
        file_of(&file).into_iter().flat_map(|property| ["--property".to_owned(), property]).collect();
    let load = ["produce", "--brokers", &guarded, "--topic", "loaded", "--create-partitions", "1", "--spans", "100"];
    renew();
    let mut produce = spanmill("produce", &[&load[..], &texts(&properties)].concat());
    let status = wait_until("the load is there", PATIENCE, || {
        renew();
        produce.exited().ok_or_else(|| produce.tail())
    });
    assert!(status.success(), "{}", produce.tail());
    let config = place.file();
    let config = config.to_str().expect("a temporary path is UTF-8");
    let sets = settings.iter().flat_map(|set| ["--set", set.as_str()]);
    let check: Vec<&str> = ["check", "--config", config, "--connect"].into_iter().chain(sets).collect();
    let mut check = spanmill("check", &check);
    let status = wait_until("the check ends", PATIENCE, || {
        renew();
        check.exited().ok_or_else(|| check.tail())
    });
    assert!(status.success(), "{}", check.tail());
    assert!(check.log().contains("1 brokers respond"), "{}", check.log());
    assert_eq!(worker.terminate(STOPS_WITHIN).code(), Some(0), "{}", worker.tail());
    assert_eq!(place.receiver.violations(), Vec::<String>::new());
}
