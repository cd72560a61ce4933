//! One attempt: a POST with the headers of remote write 1.0, and what came back.

use bytes::Bytes;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue, RETRY_AFTER, USER_AGENT,
};
use reqwest::{Certificate, Identity, Method, Response, Url};

use crate::config::settings::{Auth, RemoteWrite, SINGLE_TENANT, Tls};

use super::auth::Authorizer;
use super::{ExportError, millis};

/// So much of an answer's text is read, for the log.
const MAX_TEXT: usize = 1024;
/// A connection that takes longer than this is tried again.
const MAX_CONNECT: std::time::Duration = std::time::Duration::from_secs(10);

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
const ATTEMPT: HeaderName = HeaderName::from_static("retry-attempt");
/// Headers that belong to the protocol or to the connection. So do all that begin with `x-amz-` when requests are signed.
const RESERVED: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "retry-attempt",
    "transfer-encoding",
    "user-agent",
    "x-prometheus-remote-write-version",
];

/// Sends to one receiver.
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    tenant_header: Option<HeaderName>,
    auth: Authorizer,
}

/// What a receiver said.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    /// The beginning of its text, printable, in one line.
    pub(super) text: String,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The request cannot have arrived.
    NotSent(String),
    /// It may have arrived.
    NoAnswer(String),
    /// The tenant cannot stand in a header, so it can never be sent.
    IllegalTenant,
}

// === impl Client ===

impl Client {
    pub(super) async fn new(cfg: &RemoteWrite) -> Result<Self, ExportError> {
        let url = url(&cfg.url)?;
        let headers = headers(cfg)?;
        let tenant_header = tenant_header(cfg)?;
        let http = http(cfg, &url)?;
        Ok(Self { http, url, headers, tenant_header, auth: Authorizer::new(&cfg.auth).await? })
    }

    /// The URL for logs: it holds no user, and its query may be a secret.
    pub(super) fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.to_string()
    }

    /// One attempt; `attempt` counts from 0.
    pub(super) async fn post(&self, tenant: &str, body: &Bytes, attempt: u32) -> Result<Answer, Failure> {
        let mut headers = self.headers.clone();
        if attempt > 0 {
            headers.insert(ATTEMPT, HeaderValue::from(attempt));
        }
        put_tenant(&mut headers, self.tenant_header.as_ref(), tenant).map_err(|_| Failure::IllegalTenant)?;
        let authorized = self.auth.authorize(&Method::POST, self.url.as_str(), &mut headers, body).await;
        authorized.map_err(|why| Failure::NotSent(format!("no AWS credentials: {why}")))?;
        match self.http.post(self.url.clone()).headers(headers).body(body.clone()).send().await {
            Ok(response) => Ok(answer(response).await),
            Err(e) if e.is_connect() => Err(Failure::NotSent(chain(&e.without_url()))),
            Err(e) => Err(Failure::NoAnswer(chain(&e.without_url()))),
        }
    }
}

/// The header that carries the tenant, if there is one.
pub(super) fn tenant_header(cfg: &RemoteWrite) -> Result<Option<HeaderName>, ExportError> {
    let name = cfg.tenant_header.as_str();
    let illegal = |_| ExportError::Header { key: "remote_write.tenant_header", name: name.to_owned() };
    if name.is_empty() { Ok(None) } else { HeaderName::from_bytes(name.as_bytes()).map(Some).map_err(illegal) }
}

/// Says whose samples a request is about, unless it says so already.
pub(super) fn put_tenant(
    headers: &mut HeaderMap,
    name: Option<&HeaderName>,
    tenant: &str,
) -> Result<(), InvalidHeaderValue> {
    if let Some(name) = name.filter(|n| tenant != SINGLE_TENANT && !headers.contains_key(*n)) {
        headers.insert(name, HeaderValue::from_str(tenant)?);
    }
    Ok(())
}

async fn answer(mut response: Response) -> Answer {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let mut bytes = Vec::new();
    // The status is the answer; a text that breaks off changes nothing.
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= MAX_TEXT {
            bytes.truncate(MAX_TEXT);
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes).trim().replace(|c: char| c.is_control(), " ");
    Answer { status, retry_after, text }
}

pub(super) fn http(cfg: &RemoteWrite, url: &Url) -> Result<reqwest::Client, ExportError> {
    let builder = || {
        let builder = reqwest::Client::builder()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(millis(cfg.timeout))
            .connect_timeout(millis(cfg.timeout).min(MAX_CONNECT));
        tls(builder, &cfg.tls)
    };
    let failed = |e: reqwest::Error| ExportError::Client(chain(&e));
    if matches!(cfg.auth, Auth::SigV4 { .. }) {
        // The credential chain talks TLS on its own account, and does not take a machine without CA certificates well.
        reqwest::Client::builder().build().map_err(failed)?;
    }
    match builder()?.build() {
        // A slim container has no CA certificates, and plain HTTP does not need them.
        Err(_) if url.scheme() == "http" => builder()?.tls_certs_only([]).build(),
        built => built,
    }
    .map_err(failed)
}

pub(super) fn url(text: &str) -> Result<Url, ExportError> {
    let url = Url::parse(text).map_err(|e| ExportError::Url(e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(ExportError::Url("it is not an HTTP address".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ExportError::Url("it holds a user; say that in remote_write.auth".to_owned()));
    }
    Ok(url)
}

fn headers(cfg: &RemoteWrite) -> Result<HeaderMap, ExportError> {
    let mut out = own_headers(cfg)?;
    out.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    out.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    out.insert(VERSION, HeaderValue::from_static("0.1.0"));
    Ok(out)
}

/// The headers that the settings ask for, and our name.
pub(super) fn own_headers(cfg: &RemoteWrite) -> Result<HeaderMap, ExportError> {
    let mut out = HeaderMap::new();
    for (name, value) in &cfg.headers {
        let illegal = || ExportError::Header { key: "remote_write.headers", name: name.clone() };
        let lower = name.to_ascii_lowercase();
        let signed = matches!(cfg.auth, Auth::SigV4 { .. }) && lower.starts_with("x-amz-");
        let authorized = cfg.auth != Auth::None && lower == "authorization";
        if RESERVED.contains(&lower.as_str()) || signed || authorized {
            return Err(ExportError::ReservedHeader(name.clone()));
        }
        let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| illegal())?;
        value.set_sensitive(true);
        out.insert(HeaderName::from_bytes(lower.as_bytes()).map_err(|_| illegal())?, value);
    }
    out.insert(USER_AGENT, HeaderValue::from_static(concat!("spanmill/", env!("CARGO_PKG_VERSION"))));
    Ok(out)
}

fn tls(mut builder: reqwest::ClientBuilder, cfg: &Tls) -> Result<reqwest::ClientBuilder, ExportError> {
    let read = |key, path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|source| ExportError::Read { key, path: path.clone(), source })
    };
    if let Some(path) = &cfg.ca_file {
        let key = "remote_write.tls.ca_file";
        let pem = |why| ExportError::Pem { key, path: path.clone(), why };
        let certs = Certificate::from_pem_bundle(&read(key, path)?).map_err(|e| pem(chain(&e)))?;
        if certs.is_empty() {
            return Err(pem("it holds no certificate".to_owned()));
        }
        builder = builder.tls_certs_merge(certs);
    }
    match (&cfg.cert_file, &cfg.key_file) {
        (Some(cert), Some(key_file)) => {
            let mut pem = read("remote_write.tls.cert_file", cert)?;
            pem.push(b'\n');
            pem.extend(read("remote_write.tls.key_file", key_file)?);
            let key = "remote_write.tls.cert_file";
            let identity =
                Identity::from_pem(&pem).map_err(|e| ExportError::Pem { key, path: cert.clone(), why: chain(&e) })?;
            builder = builder.identity(identity);
        }
        (None, None) => {}
        _ => return Err(ExportError::HalfIdentity),
    }
    if cfg.insecure_skip_verify {
        tracing::warn!("remote_write.tls.insecure_skip_verify is on: anybody can pose as the receiver");
    }
    Ok(builder.tls_danger_accept_invalid_certs(cfg.insecure_skip_verify))
}

/// An error with its causes: the outermost alone says little.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Secret;

    fn refused(change: impl FnOnce(&mut RemoteWrite)) -> String {
        let mut cfg = RemoteWrite::default();
        change(&mut cfg);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Client::new(&cfg)).err().expect("refused").to_string()
    }

    #[test]
    fn a_bad_setting_is_refused_with_its_key() {
        assert!(refused(|c| c.url = "localhost:9090".to_owned()).contains("remote_write.url"));
        assert!(refused(|c| c.url = "http://me:hush@h/".to_owned()).contains("remote_write.auth"));
        assert!(refused(|c| c.tenant_header = "a b".to_owned()).contains("remote_write.tenant_header"));
        assert!(refused(|c| c.tls.ca_file = Some("/nonexistent/ca.pem".into())).contains("remote_write.tls.ca_file"));
        assert!(refused(|c| c.tls.key_file = Some("/nonexistent/key.pem".into())).contains("cert_file and key_file"));
    }

    #[test]
    fn headers_of_the_protocol_cannot_be_overridden() {
        let with = |name: &str, auth: Auth| {
            let mut cfg = RemoteWrite { auth, ..RemoteWrite::default() };
            cfg.headers.insert(name.to_owned(), Secret::new("hush"));
            headers(&cfg)
        };
        for name in ["Content-Type", "content-encoding", "X-Prometheus-Remote-Write-Version", "User-Agent"] {
            assert!(matches!(with(name, Auth::None), Err(ExportError::ReservedHeader(n)) if n == name));
        }
        assert!(with("Authorization", Auth::None).is_ok());
        assert!(with("Authorization", Auth::Bearer(Secret::new("x"))).is_err());
        let error = with("sp ace", Auth::None).expect_err("illegal").to_string();
        assert!(error.contains("sp ace") && !error.contains("hush"), "{error}");
    }
}
