//! Who is answered: requests that bring the token, and those of probes; and no request with a body.
//!
//! The token is that of `Authorization: Bearer`, or the password of `Authorization: Basic` with any name, which browsers ask for.

#![allow(clippy::disallowed_methods, reason = "an edge: how often a file is read is a matter of the clock")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;

use crate::config::settings::Secret;
use crate::worker::identity::secret_of;

/// How often the file of the token is read, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What requests must bring.
pub struct Guard {
    secret: Secret,
    /// These paths are answered without the token.
    open: &'static [&'static str],
    current: Mutex<Current>,
}

struct Current {
    /// Only its hash: hashes are compared in constant time.
    token: blake3::Hash,
    looked: Instant,
    /// What is wrong with the file, logged once.
    wrong: Option<String>,
}

// === impl Guard ===

impl Guard {
    /// Asks for this token, unless it is empty, on all paths but those that are `open`.
    #[must_use]
    pub fn new(secret: &Secret, open: &'static [&'static str]) -> Arc<Self> {
        let token = blake3::hash(secret.reveal().as_bytes());
        let current = Mutex::new(Current { token, looked: Instant::now(), wrong: None });
        Arc::new(Self { secret: secret.clone(), open, current })
    }

    /// Whether requests must bring a token.
    #[must_use]
    pub fn asks(&self) -> bool {
        !self.secret.reveal().is_empty()
    }

    fn lets(&self, path: &str, headers: &HeaderMap) -> bool {
        if !self.asks() || self.open.contains(&path) {
            return true;
        }
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(token_of);
        given.is_some_and(|given| blake3::hash(given.as_bytes()) == self.current())
    }

    /// The hash of the present token. A file that cannot be read leaves it as it was.
    fn current(&self) -> blake3::Hash {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = self.secret.file() else { return current.token };
        if current.looked.elapsed() < LOOK_EVERY {
            return current.token;
        }
        current.looked = Instant::now();
        match secret_of(file) {
            Ok(token) => {
                let token = blake3::hash(token.as_bytes());
                if token != current.token {
                    tracing::info!(file = %file.display(), "reloaded the token of the server");
                }
                (current.token, current.wrong) = (token, None);
            }
            Err(why) => current.complain(file, why),
        }
        current.token
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("asks", &self.asks()).field("open", &self.open).finish_non_exhaustive()
    }
}

// === impl Current ===

impl Current {
    fn complain(&mut self, file: &std::path::Path, why: String) {
        if self.wrong.as_ref() != Some(&why) {
            let file = file.display();
            tracing::warn!(%file, error = why, "cannot reload the token of the server, keeping the previous one; correct the file");
            self.wrong = Some(why);
        }
    }
}

/// The token of a header.
fn token_of(header: &str) -> Option<String> {
    let (scheme, value) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    let pair =
        scheme.eq_ignore_ascii_case("basic").then(|| base64::prelude::BASE64_STANDARD.decode(value.trim()).ok())??;
    let pair = String::from_utf8(pair).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

/// Refuses requests without the token, and those with a body.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !guard.lets(request.uri().path(), headers) {
        let asks = (WWW_AUTHENTICATE, "Basic realm=\"spanmill\", charset=\"UTF-8\", Bearer realm=\"spanmill\"");
        let text = "this needs the token: Authorization: Bearer, or the password of Authorization: Basic\n";
        return (StatusCode::UNAUTHORIZED, [asks, (CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response();
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != "0") {
        return (StatusCode::PAYLOAD_TOO_LARGE, "no endpoint takes a body\n").into_response();
    }
    next.run(request).await
}

/// Warns of a server that other machines can reach, if it asks for no token. `remedy` names the settings.
pub fn warn_if_open(addr: SocketAddr, guard: &Guard, remedy: &'static str) {
    if is_open(addr, guard) {
        tracing::warn!(%addr, remedy, "other machines can reach this server, and it asks for no token");
    }
}

fn is_open(addr: SocketAddr, guard: &Guard) -> bool {
    !addr.ip().is_loopback() && !guard.asks()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_open_if_other_machines_reach_it_without_a_token() {
        let (none, some) = (Guard::new(&Secret::default(), &[]), Guard::new(&Secret::new("token"), &[]));
        for (addr, open) in
            [("0.0.0.0:1", true), ("[::]:1", true), ("10.0.0.1:1", true), ("127.0.0.1:1", false), ("[::1]:1", false)]
        {
            let addr = addr.parse().expect("an address");
            assert_eq!((is_open(addr, &none), is_open(addr, &some)), (open, false), "{addr}");
        }
    }

    #[test]
    fn a_token_comes_as_bearer_or_as_a_password() {
        assert_eq!(token_of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token_of("bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(token_of("Basic YW55OmFiYzpk").as_deref(), Some("abc:d"), "any:abc:d");
        for wrong in ["", "Bearer", "Basic !!", "Basic YWJj", "Digest abc"] {
            assert_eq!(token_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_token_of_a_file_follows_it_and_stays_while_the_file_is_wrong() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("token");
        let guard = Guard::new(&Secret::of_file("one", &file), &["/open"]);
        let lets = |token: &str| {
            guard.current.lock().expect("a lock").looked -= LOOK_EVERY;
            let headers = HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().expect("a header"))]);
            guard.lets("/closed", &headers)
        };
        assert!(lets("one"), "the file is not there: what was read first stays");
        std::fs::write(&file, "two\n").expect("a file");
        assert!(lets("two") && !lets("one"));
        std::fs::write(&file, "").expect("a file");
        assert!(lets("two"));
        assert!(guard.lets("/open", &HeaderMap::new()) && !guard.lets("/closed", &HeaderMap::new()));
        assert!(Guard::new(&Secret::default(), &[]).lets("/closed", &HeaderMap::new()), "no token, no question");
    }
}
