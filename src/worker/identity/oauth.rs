//! Tokens from an OAuth2 token endpoint, with the grant of client credentials (RFC 6749, section 4.4).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, Identity, Response, Url};
use serde_json::Value;

use super::renewing::{Pauses, Renewable};
use super::{chain, jwt, secret_of};
use crate::config::settings::Tls;
use crate::config::tokens::TokenEndpoint;
use crate::core::model::Millis;
use crate::core::model::text::Shown;

/// How long a token counts that does not name its end, in milliseconds.
const UNNAMED_LIFE: Millis = 300_000;
/// An answer that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No answer with a token is longer.
const MAX_BYTES: usize = 1 << 20;
/// So much of the text of a refusal is shown.
const MAX_TEXT: usize = 300;

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The token itself: a secret.
    pub(crate) value: String,
    /// For whom it is, if it names that.
    pub(crate) subject: Option<String>,
    /// When it expires, in milliseconds since the epoch.
    pub(crate) expires: Millis,
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The file with the secret, or that with the certificates, cannot be used.
    File,
    /// No answer.
    Unreachable,
    /// The endpoint does not accept the client or its secret.
    Client,
    /// It does not accept the scope.
    Scope,
    /// It refuses for another reason, or what answers is no token endpoint.
    Refused,
    /// It fails.
    Fails,
}

/// No token: the cause, and what happened, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoToken {
    pub(crate) cause: Cause,
    pub(crate) why: String,
}

/// Tokens that are renewed: see [`Renewing`](super::renewing::Renewing).
pub(crate) struct Tokens {
    endpoint: TokenEndpoint,
    /// Whether the endpoint takes the secret in the body only.
    in_body: AtomicBool,
}

/// Where the client's ID and secret are in a request: section 2.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Body,
}

// === impl Tokens ===

impl Tokens {
    pub(crate) fn new(endpoint: TokenEndpoint) -> Self {
        Self { endpoint, in_body: AtomicBool::new(false) }
    }

    /// Settings that cannot be used must fail the start, and not a later attempt.
    ///
    /// # Errors
    /// What cannot be used, and why.
    pub(crate) fn check(&self) -> Result<(), String> {
        client(&self.endpoint).map(drop).map_err(|no| no.why)
    }
}

impl Renewable for Tokens {
    type Item = Token;
    const WHAT: &'static str = "the OAuth2 token of remote_write";
    const PAUSES: Pauses =
        Pauses { renewed: Duration::from_secs(1), failed: (Duration::from_secs(1), Duration::from_secs(10)) };
    const REACHABLE: &'static str = "the token endpoint";
    const GONE: &'static str = "the receiver refuses the token that was fetched a moment ago, or it has expired";

    /// As clients of Prometheus do, asks with the secret in the body if the endpoint does not take it in the header.
    async fn get(&self) -> Result<Token, String> {
        if !self.in_body.load(Ordering::Relaxed) {
            let no = match ask(&self.endpoint, now()).await {
                Ok(token) => return Ok(token),
                Err(no) => no,
            };
            if !matches!(no.cause, Cause::Client | Cause::Refused) {
                return Err(no.why);
            }
            let token = ask_with(&self.endpoint, Place::Body, now()).await.map_err(|_| no.why)?;
            self.in_body.store(true, Ordering::Relaxed);
            return Ok(token);
        }
        let token = ask_with(&self.endpoint, Place::Body, now()).await;
        token.map_err(|no| {
            self.in_body.store(false, Ordering::Relaxed);
            no.why
        })
    }

    fn expiry(item: &Token) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_millis(item.expires.unsigned_abs()))
    }
}

#[allow(clippy::disallowed_methods, reason = "when a token expires is a matter of the clock")]
fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

// === impl Token ===

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { value: _, subject, expires } = self;
        f.debug_struct("Token").field("subject", subject).field("expires", expires).finish_non_exhaustive()
    }
}

// === impl NoToken ===

impl NoToken {
    fn new(cause: Cause, why: impl Into<String>) -> Self {
        Self { cause, why: why.into() }
    }
}

/// Asks an endpoint for a token, with the client's secret in a header. `now` is when it is asked, in milliseconds since the epoch.
///
/// # Errors
/// When there is none: the cause, and a sentence without secrets.
pub(crate) async fn ask(endpoint: &TokenEndpoint, now: Millis) -> Result<Token, NoToken> {
    ask_with(endpoint, Place::Header, now).await
}

async fn ask_with(endpoint: &TokenEndpoint, place: Place, now: Millis) -> Result<Token, NoToken> {
    let secret = match endpoint.client_secret.file() {
        Some(file) => secret_of(file).map_err(|why| {
            NoToken::new(Cause::File, format!("cannot read the client's secret in {}: {why}", file.display()))
        })?,
        None => endpoint.client_secret.reveal().to_owned(),
    };
    let shown = shown(&endpoint.url);
    let mut form = vec![("grant_type", "client_credentials")];
    if !endpoint.scope.is_empty() {
        form.push(("scope", &endpoint.scope));
    }
    form.extend(endpoint.params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    if place == Place::Body {
        form.extend([("client_id", endpoint.client_id.as_str()), ("client_secret", secret.as_str())]);
    }
    // Section 2.3.1: both are encoded as in a form first.
    let basic = BASE64_STANDARD.encode(format!("{}:{}", encoded(&endpoint.client_id), encoded(&secret)));
    let unusable = |_| NoToken::new(Cause::Client, "the client's ID or secret is not legal in an HTTP header");
    let mut authorization = HeaderValue::from_str(&format!("Basic {basic}")).map_err(unusable)?;
    authorization.set_sensitive(true);
    let body = form.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    let mut request = client(endpoint)?.post(&endpoint.url);
    if place == Place::Header {
        request = request.header(AUTHORIZATION, authorization);
    }
    let request = request
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body.collect::<Vec<_>>().join("&"));
    let silent = |e: reqwest::Error| {
        NoToken::new(
            Cause::Unreachable,
            format!("no answer from the token endpoint {shown}: {}", chain(&e.without_url())),
        )
    };
    let response = request.send().await.map_err(silent)?;
    let status = response.status().as_u16();
    let text = text(response).await.map_err(silent)?;
    let judged = if status == 200 { token(&text, now) } else { Err(refusal(status, &text)) };
    judged.map_err(|NoToken { cause, why }| {
        // An endpoint may repeat what it was sent.
        let why = why.replace(&secret, "***").replace(&encoded(&secret), "***").replace(&basic, "***");
        NoToken::new(cause, format!("the token endpoint {shown} {}", Shown(&why)))
    })
}

/// The URL without its query, which may hold a secret.
fn shown(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

fn client(endpoint: &TokenEndpoint) -> Result<Client, NoToken> {
    let builder = || Client::builder().http1_only().redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT);
    let Tls { ca_file, cert_file, key_file, insecure_skip_verify } = &endpoint.tls;
    let mut with_ca = builder().tls_danger_accept_invalid_certs(*insecure_skip_verify);
    if let (Some(cert), Some(key)) = (cert_file, key_file) {
        let wrong = |why: String| {
            NoToken::new(Cause::File, format!("cannot use the client certificate in {}: {why}", cert.display()))
        };
        let mut pem = std::fs::read(cert).map_err(|e| wrong(e.to_string()))?;
        pem.push(b'\n');
        pem.extend(std::fs::read(key).map_err(|e| wrong(format!("{}: {e}", key.display())))?);
        with_ca = with_ca.identity(Identity::from_pem(&pem).map_err(|e| wrong(chain(&e)))?);
    }
    if let Some(path) = ca_file {
        let wrong = |why: String| {
            NoToken::new(Cause::File, format!("cannot use the CA certificates in {}: {why}", path.display()))
        };
        let pem = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| wrong(chain(&e)))?;
        if certificates.is_empty() {
            return Err(wrong("there are none".to_owned()));
        }
        with_ca = with_ca.tls_certs_merge(certificates);
    }
    match with_ca.build() {
        // A slim container has no CA certificates, and plain HTTP does not need them.
        Err(_) if endpoint.url.starts_with("http://") => builder().tls_certs_only([]).build(),
        built => built,
    }
    .map_err(|e| NoToken::new(Cause::Unreachable, format!("cannot build an HTTP client: {}", chain(&e))))
}

async fn text(mut response: Response) -> reqwest::Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_BYTES {
            bytes.truncate(MAX_BYTES);
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The token in an answer.
fn token(text: &str, now: Millis) -> Result<Token, NoToken> {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(value) = answer.get("access_token").and_then(Value::as_str).filter(|value| !value.is_empty()) else {
        return Err(NoToken::new(Cause::Refused, "answers without an access_token; is it a token endpoint?"));
    };
    let claims = jwt::claims(value);
    // Some endpoints write the number as text.
    let seconds = answer.get("expires_in").and_then(|n| n.as_f64().or_else(|| n.as_str()?.parse().ok()));
    let lives = seconds.filter(|seconds| (0.0..1e9).contains(seconds)).map(|seconds| now + (seconds * 1e3) as Millis);
    let expires = [lives, claims.expires].into_iter().flatten().min().unwrap_or(now + UNNAMED_LIFE);
    if expires <= now {
        return Err(NoToken::new(
            Cause::Fails,
            "answers with a token that has expired; compare its clock with this one",
        ));
    }
    Ok(Token { value: value.to_owned(), subject: claims.subject, expires })
}

/// What an answer other than 200 means: section 5.2.
fn refusal(status: u16, text: &str) -> NoToken {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    let said = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
    let (error, description) = (said("error"), said("error_description"));
    let cause = match (error, status) {
        ("invalid_client" | "unauthorized_client", _) | (_, 401 | 403) => Cause::Client,
        ("invalid_scope", _) => Cause::Scope,
        (_, 429 | 500..) => Cause::Fails,
        _ => Cause::Refused,
    };
    let what = match (error, description) {
        ("", "") => text.trim(),
        ("", words) | (words, "") => words,
        (error, description) => &format!("{error}: {description}"),
    };
    let what: String = what.chars().take(MAX_TEXT).collect();
    let verb = match cause {
        Cause::Fails => "fails",
        Cause::Client => "refuses the client",
        _ => "refuses",
    };
    let end = if what.is_empty() { String::new() } else { format!(": {what}") };
    NoToken::new(cause, format!("{verb} (status {status}){end}"))
}

/// A text as in a form.
fn encoded(text: &str) -> String {
    let mut url = Url::parse("http://x/").expect("a URL");
    url.query_pairs_mut().append_key_only(text);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
