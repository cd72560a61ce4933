//! Tokens of an OAuth2 token endpoint on the way to a receiver.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spanmill::config::tokens::TokenEndpoint;

use super::*;

/// A token endpoint: its tokens are `t1`, `t2`, …, with the ID of the client before them.
struct Endpoint {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    issued: AtomicU64,
    /// Seconds that a token lives.
    life: AtomicU64,
    down: AtomicBool,
    stop: AtomicBool,
    /// Takes the secret in the body only.
    body_only: bool,
    forms: Mutex<Vec<String>>,
}

impl Endpoint {
    fn start(life: u64, body_only: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            issued: AtomicU64::new(0),
            life: AtomicU64::new(life),
            down: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            body_only,
            forms: Mutex::default(),
        });
        let (address, shared) = (listener.local_addr().unwrap(), Arc::clone(&state));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                shared.answer(socket);
            }
        });
        Self { address, state }
    }

    fn auth(&self, client_id: &str) -> Auth {
        Auth::OAuth2(Box::new(TokenEndpoint {
            url: format!("http://{}/token", self.address),
            client_id: client_id.to_owned(),
            client_secret: Secret::new("hunter2"),
            scope: "write".to_owned(),
            params: vec![("audience".to_owned(), "metrics".to_owned())],
            tls: Tls::default(),
        }))
    }

    fn issued(&self) -> u64 {
        self.state.issued.load(Ordering::Relaxed)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    fn answer(&self, socket: TcpStream) {
        let mut reader = BufReader::new(socket);
        let (mut length, mut basic, mut line) = (0, false, String::new());
        while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
            let lower = line.to_ascii_lowercase();
            basic |= lower.starts_with("authorization: basic ");
            if let Some(text) = lower.strip_prefix("content-length: ") {
                length = text.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut form = vec![0; length];
        reader.read_exact(&mut form).unwrap();
        let form = String::from_utf8(form).unwrap();
        let known = if self.body_only { form.contains("client_secret=hunter2") } else { basic };
        let (status, body) = if self.down.load(Ordering::Relaxed) {
            ("503 Service Unavailable", String::new())
        } else if !known {
            ("401 Unauthorized", r#"{"error":"invalid_client"}"#.to_owned())
        } else {
            let token = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
            let life = self.life.load(Ordering::Relaxed);
            ("200 OK", format!(r#"{{"access_token":"t{token}","expires_in":{life},"token_type":"bearer"}}"#))
        };
        self.forms.lock().unwrap().push(form);
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        reader.into_inner().write_all(answer.as_bytes()).unwrap();
    }
}

#[test]
fn a_token_that_a_receiver_refuses_in_mid_run_is_replaced_and_no_sample_is_lost() {
    let endpoint = Endpoint::start(3_600, false);
    let h = house_with(|c| c.auth = endpoint.auth("spanmill"));
    h.receiver.expect_header("authorization", "Bearer t1");
    for step in 1..=3 {
        assert_eq!(h.send(batch(step * 15_000, vec![request(0..4, step * 15_000)])).acknowledged, 4);
    }
    assert_eq!(endpoint.issued(), 1, "one token for all requests");
    assert_eq!(
        endpoint.state.forms.lock().unwrap()[0],
        "grant_type=client_credentials&scope=write&audience=metrics",
        "what was asked for"
    );
    h.receiver.expect_header("authorization", "Bearer t2");
    let d = h.send(batch(60_000, vec![request(0..4, 60_000)]));
    assert_eq!((d.acknowledged, d.rejected, endpoint.issued()), (4, 0, 2));
    assert_eq!(h.telemetry.receivers().complaints(Duration::ZERO), Vec::<String>::new());
    h.assert_balanced();
}

#[test]
fn an_expired_token_and_an_endpoint_that_is_down_are_waited_out_with_the_cause() {
    let endpoint = Endpoint::start(1, false);
    let h = house_with(|c| c.auth = endpoint.auth("spanmill"));
    assert_eq!(h.send(batch(15_000, vec![request(0..4, 15_000)])).acknowledged, 4);
    endpoint.state.down.store(true, Ordering::Relaxed);
    endpoint.state.life.store(3_600, Ordering::Relaxed);
    // Good as long as it lives, whatever the endpoint does.
    let complaint = || h.telemetry.receivers().complaints(Duration::ZERO).join("");
    let mut step = 30_000;
    let begin = std::time::Instant::now();
    let waiting = loop {
        h.sender.as_ref().unwrap().try_send(batch(step, vec![request(0..4, step)])).unwrap();
        // It is settled, or waits for a token and the cause is known: whichever it is, and however long that takes.
        let settled = loop {
            assert!(begin.elapsed() < LONG, "the token lives for a second");
            match h.done.recv_timeout(Duration::from_millis(20)) {
                Ok(d) => break Some(d),
                Err(_) if complaint().contains("no_credentials") => break None,
                Err(_) => {}
            }
        };
        let Some(d) = settled else { break complaint() };
        assert_eq!(d.acknowledged, 4);
        step += 15_000;
    };
    assert!(waiting.contains("check remote_write.auth.oauth2 and the token endpoint"), "{waiting}");
    let sent = h.receiver.totals().requests;
    assert!(h.done.try_recv().is_err() && h.receiver.totals().requests == sent, "nothing is sent without a token");
    endpoint.state.down.store(false, Ordering::Relaxed);
    let d = h.done.recv_timeout(LONG).unwrap();
    assert_eq!((d.step, d.acknowledged, d.rejected), (step, 4, 0));
    h.assert_balanced();
}

#[test]
fn each_tenant_with_a_client_of_its_own_gets_its_own_token() {
    let (endpoint, other) = (Endpoint::start(3_600, false), Endpoint::start(3_600, true));
    other.state.issued.store(100, Ordering::Relaxed);
    let h = house_with(|c| c.auth = endpoint.auth("spanmill"));
    let with = |auth: Auth| {
        let remote_write = RemoteWrite { url: h.receiver.url(), auth, ..quick() };
        Arc::new(Config { remote_write, ..Config::default() })
    };
    let own = [("a".to_owned(), with(other.auth("a"))), ("b".to_owned(), with(endpoint.auth("spanmill")))];
    h.exporter.reroute(&Tenants::new(with(endpoint.auth("spanmill")), own.into())).unwrap();
    for tenant in ["a", "b", "c"] {
        assert_eq!(h.send(of(tenant, 15_000)).acknowledged, 2);
    }
    let sent: Vec<_> = h.receiver.seen().iter().filter_map(|s| header(s, "authorization").map(str::to_owned)).collect();
    assert_eq!(sent, ["Bearer t101", "Bearer t1", "Bearer t1"]);
    let forms = other.state.forms.lock().unwrap();
    assert!(forms.len() == 2 && forms[1].ends_with("&client_id=a&client_secret=hunter2"), "{forms:?}");
}
