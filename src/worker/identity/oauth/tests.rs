use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;
use crate::config::settings::Secret;

const NOW: Millis = 1_700_000_000_000;

/// A server of one answer; returns its address, and then the request.
fn server(status: &'static str, body: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/token?key=hush", listener.local_addr().expect("an address"));
    let answers = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a request");
        let (mut request, mut buffer) = (String::new(), [0; 4096]);
        let complete = |request: &str| {
            let (head, body) = request.split_once("\r\n\r\n")?;
            let length = head.to_lowercase().split("content-length: ").nth(1)?.lines().next()?.parse::<usize>().ok()?;
            (body.len() >= length).then_some(())
        };
        while complete(&request).is_none() {
            let n = socket.read(&mut buffer).expect("bytes");
            request.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        socket.write_all(answer.as_bytes()).expect("an answer");
        request
    });
    (url, answers)
}

fn endpoint(url: &str) -> TokenEndpoint {
    TokenEndpoint {
        url: url.to_owned(),
        client_id: "mill:1".to_owned(),
        client_secret: Secret::new("hunter 2&"),
        scope: "kafka write".to_owned(),
        params: vec![("audience".to_owned(), "spans/1".to_owned())],
        tls: Tls::default(),
    }
}

fn asked(endpoint: &TokenEndpoint) -> Result<Token, NoToken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(ask(endpoint, NOW))
}

#[test]
fn a_client_proves_itself_in_a_header_and_asks_for_scope_and_audience() {
    let (url, request) = server("200 OK", r#"{"access_token":"tok","expires_in":"60","token_type":"Bearer"}"#);
    let token = asked(&endpoint(&url)).expect("a token");
    assert_eq!((token.value.as_str(), token.expires), ("tok", NOW + 60_000));
    assert!(!format!("{token:?}").contains("tok\""), "{token:?}");
    let request = request.join().expect("a request");
    let (head, body) = request.split_once("\r\n\r\n").expect("a head and a body");
    let basic = BASE64_STANDARD.encode("mill%3A1:hunter+2%26");
    assert!(head.starts_with("POST /token?key=hush ") && head.contains(&format!("Basic {basic}")), "{head}");
    assert_eq!(body, "grant_type=client_credentials&scope=kafka+write&audience=spans%2F1");
}

#[test]
fn a_token_ends_at_the_earlier_of_what_it_and_the_answer_say() {
    let of = |text: &str| token(text, NOW).map(|token| token.expires - NOW);
    let payload = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"mill","exp":1700000030}"#);
    let jwt = format!("e30.{payload}.x");
    assert_eq!(of(&format!(r#"{{"access_token":"{jwt}","expires_in":3600}}"#)), Ok(30_000));
    assert_eq!(of(&format!(r#"{{"access_token":"{jwt}","expires_in":10}}"#)), Ok(10_000));
    assert_eq!(of(&format!(r#"{{"access_token":"{jwt}"}}"#)), Ok(30_000));
    assert_eq!(of(r#"{"access_token":"opaque"}"#), Ok(UNNAMED_LIFE));
    for odd in [r#"{"access_token":""}"#, "{}", "[]", "<html>", r#"{"access_token":"x","expires_in":0}"#] {
        assert!(of(odd).is_err(), "{odd}");
    }
}

#[test]
fn a_refusal_names_its_cause_and_no_secret() {
    for (status, body, cause, words) in [
        (
            "401 Unauthorized",
            r#"{"error":"invalid_client","error_description":"hunter 2& is wrong\n"}"#,
            Cause::Client,
            "refuses the client (status 401): invalid_client: *** is wrong\\n",
        ),
        (
            "400 Bad Request",
            r#"{"error":"invalid_client"}"#,
            Cause::Client,
            "refuses the client (status 400): invalid_client",
        ),
        ("400 Bad Request", r#"{"error":"invalid_scope"}"#, Cause::Scope, "refuses (status 400): invalid_scope"),
        ("404 Not Found", "no such page", Cause::Refused, "refuses (status 404): no such page"),
        ("302 Found", "", Cause::Refused, "refuses (status 302)"),
        ("503 Service Unavailable", "", Cause::Fails, "fails (status 503)"),
        ("200 OK", "<html>", Cause::Refused, "answers without an access_token"),
    ] {
        let (url, _request) = server(status, body);
        let no = asked(&endpoint(&url)).expect_err(status);
        assert_eq!(no.cause, cause, "{status} {body}");
        let place = url.split('?').next().expect("an address");
        assert!(no.why.starts_with(&format!("the token endpoint {place} {words}")), "{}", no.why);
        assert!(!no.why.contains("hunter") && !no.why.contains("hush"), "{}", no.why);
    }
}

#[test]
fn an_endpoint_that_is_not_there_and_files_that_cannot_be_used_are_named() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let mut away = endpoint(&format!("http://{closed}/token"));
    let no = asked(&away).expect_err("nothing listens");
    assert!(no.cause == Cause::Unreachable && no.why.contains("Connection refused"), "{}", no.why);
    away.client_secret = Secret::of_file("old", "/nowhere/secret");
    let no = asked(&away).expect_err("no file");
    assert!(no.cause == Cause::File && no.why.contains("/nowhere/secret"), "{}", no.why);
    away.client_secret = Secret::new("x");
    away.tls.ca_file = Some("/nowhere/ca.pem".into());
    let no = asked(&away).expect_err("no file");
    assert!(no.cause == Cause::File && no.why.contains("/nowhere/ca.pem"), "{}", no.why);
}

#[test]
fn a_secret_that_is_renewed_in_its_file_is_sent_with_the_next_request() {
    let dir = tempfile::TempDir::with_prefix("spanmill-test-").expect("a directory");
    let file = dir.path().join("secret");
    std::fs::write(&file, "new\n").expect("a file");
    let (url, request) = server("200 OK", r#"{"access_token":"tok"}"#);
    let mut endpoint = endpoint(&url);
    endpoint.client_secret = Secret::of_file("old", &file);
    asked(&endpoint).expect("a token");
    let expected = BASE64_STANDARD.encode("mill%3A1:new");
    assert!(request.join().expect("a request").contains(&expected));
}
