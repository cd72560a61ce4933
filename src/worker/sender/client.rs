//! One attempt: a POST with the headers of remote write, and its answer.

use bytes::Bytes;
use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use reqwest::{Certificate, Identity, Method, Response, Url};

use crate::config::is_own_header;
use crate::config::settings::{Auth, OutputType, RemoteWrite, Tls};
use crate::core::remotewrite::v2;
use crate::core::remotewrite::verdict::{self, Written};
use crate::core::settings::SINGLE_TENANT;

use super::auth::{Authorizer, NoCredentials};
use super::causes;
use super::connector::Connector;
use super::dialect::Version;
use super::outputs;
use super::recipient::Trouble;
use super::secrets::SecretHeader;
use super::{ExportError, millis};
pub(super) use crate::worker::identity::chain;

/// So much of an answer's text is read, for the log.
pub(super) const MAX_TEXT: usize = 1024;
/// Why samples wait that a receiver would reject, and the remedy.
pub(super) const WOULD_BE_LOST: &str = "would_be_lost";
const TAKE_THEM: &str =
    "configure the receiver to accept them, and they are sent; remote_write.preflight: false drops them";
/// A connection that takes longer than this is retried.
const MAX_CONNECT: std::time::Duration = std::time::Duration::from_secs(10);

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
const WRITTEN_SAMPLES: &str = "x-prometheus-remote-write-samples-written";
const WRITTEN_HISTOGRAMS: &str = "x-prometheus-remote-write-histograms-written";
const WRITTEN_EXEMPLARS: &str = "x-prometheus-remote-write-exemplars-written";
const VICTORIA: &str = "x-server-hostname";
const ATTEMPT: HeaderName = HeaderName::from_static("retry-attempt");

/// Sends to one receiver.
pub(super) struct Client {
    http: Connector,
    url: Url,
    headers: HeaderMap,
    /// The secrets that may be renewed.
    secrets: Vec<(HeaderName, SecretHeader)>,
    tenant_header: Option<HeaderName>,
    auth: Authorizer,
}

/// The answer of a receiver.
#[derive(Default)]
pub(super) struct Answer {
    /// The version of the request.
    pub(super) version: Version,
    pub(super) status: u16,
    /// The number of samples that it reports as stored, if it reports one.
    pub(super) written: Option<Written>,
    pub(super) retry_after: Option<String>,
    /// The beginning of its text, printable, on one line.
    pub(super) text: String,
    /// Whether histograms with custom buckets of the request were sent as classic ones.
    pub(super) classic: bool,
    /// Whether it has the header that VictoriaMetrics gives to every answer.
    pub(super) victoria: bool,
    /// The data points that a receiver of OTLP has rejected permanently, while it took the others.
    pub(super) rejected_points: u64,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The request cannot have arrived.
    NotSent(String),
    /// The port is for TLS, and the request was plain HTTP: nothing has arrived.
    WantsTls(String),
    /// There are no credentials yet.
    NoCredentials(NoCredentials),
    /// It may have arrived.
    NoAnswer(String),
    /// It has arrived, and the receiver has not understood it.
    NotRead(String),
    /// It was not sent: the receiver would discard it.
    WouldBeLost(String),
    /// An output that is no HTTP server has not taken it.
    Output(Trouble),
    /// The tenant cannot stand in a header, so it can never be sent.
    IllegalTenant,
}

// === impl Answer ===

impl Answer {
    /// The answer as a reason to wait.
    pub(super) fn trouble(&self, after: Option<std::time::Duration>) -> Trouble {
        Trouble {
            reason: verdict::reason(self.status, &self.text),
            why: format!("status {}: {}", self.status, self.text),
            remedy: self.remedy(),
            after,
        }
    }

    /// What the operator can do about it.
    pub(super) fn remedy(&self) -> &'static str {
        outputs::remedy(self.version, self.status, &self.text)
    }
}

// === impl Failure ===

impl Failure {
    /// The failure as a reason to wait; `None` when waiting does not help.
    pub(super) fn trouble(self) -> Option<Trouble> {
        let (reason, remedy, why) = match self {
            Self::IllegalTenant => return None,
            Self::Output(trouble) => return Some(trouble),
            Self::WouldBeLost(why) => (WOULD_BE_LOST, TAKE_THEM, why),
            Self::WantsTls(why) => {
                ("unreachable", "the receiver speaks TLS at this port: write https:// in remote_write.url", why)
            }
            Self::NotSent(why) => ("unreachable", "check remote_write.url, its port, DNS, and http or https", why),
            Self::NoCredentials(NoCredentials { why, remedy }) => ("no_credentials", remedy, why),
            Self::NotRead(why) => (
                "not_understood",
                "the receiver does not accept remote write 2.0: set remote_write.protocol to auto or 1.0; or it is behind a \
                 proxy that removes X-Prometheus-Remote-Write- headers",
                why,
            ),
            Self::NoAnswer(why) => {
                ("no_answer", "check that the receiver is up; raise remote_write.timeout if it is slow", why)
            }
        };
        let told = if matches!(reason, "no_credentials" | WOULD_BE_LOST) { None } else { causes::remedy(&why) };
        Some(Trouble { reason, remedy: told.unwrap_or(remedy), why, after: None })
    }
}

// === impl Client ===

impl Client {
    pub(super) async fn new(cfg: &RemoteWrite) -> Result<Self, ExportError> {
        let url = match cfg.kind.is_http() {
            true => outputs::with_path(url(&cfg.url)?, cfg.kind),
            false => Url::parse(&cfg.address()).map_err(|e| ExportError::Url(e.to_string()))?,
        };
        let headers = headers(cfg)?;
        let tenant_header = tenant_header(cfg)?;
        let http = Connector::new(cfg, &url)?;
        let secrets = secrets(cfg)?;
        Ok(Self { http, url, headers, secrets, tenant_header, auth: Authorizer::new(&cfg.auth).await? })
    }

    /// The URL for logs: without the user, and without the query, which may be a secret.
    pub(super) fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.to_string()
    }

    /// One attempt; `attempt` counts from 0. `body` is in `version`.
    pub(super) async fn post(
        &self,
        tenant: &str,
        body: &Bytes,
        attempt: u32,
        version: Version,
    ) -> Result<Answer, Failure> {
        let mut headers = self.headers.clone();
        put_version(&mut headers, version);
        for (name, secret) in &self.secrets {
            headers.insert(name.clone(), secret.value());
        }
        if attempt > 0 {
            headers.insert(ATTEMPT, HeaderValue::from(attempt));
        }
        put_tenant(&mut headers, self.tenant_header.as_ref(), tenant).map_err(|_| Failure::IllegalTenant)?;
        let authorized = self.auth.authorize(&Method::POST, self.url.as_str(), &mut headers, body).await;
        authorized.map_err(Failure::NoCredentials)?;
        let used = headers.get(AUTHORIZATION).cloned();
        match self.http.client().post(self.url.clone()).headers(headers).body(body.clone()).send().await {
            Ok(response) => {
                let answer = match version {
                    Version::First | Version::Second => Answer { version, ..answer(response).await },
                    Version::OtlpHttp | Version::OtlpGrpc => outputs::answer(version, response).await,
                };
                if self.url.scheme() == "http" && causes::wants_tls(answer.status, &answer.text) {
                    return Err(Failure::WantsTls(answer.text));
                }
                if matches!(answer.status, 401 | 403) {
                    self.auth.distrust(used.as_ref(), answer.status);
                }
                Ok(answer)
            }
            Err(e) if e.is_connect() => Err(Failure::NotSent(chain(&e.without_url()))),
            Err(e) => Err(Failure::NoAnswer(chain(&e.without_url()))),
        }
    }
}

fn put_version(headers: &mut HeaderMap, version: Version) {
    let (content_type, number) = match version {
        Version::First => ("application/x-protobuf", "0.1.0"),
        Version::Second => (v2::CONTENT_TYPE, v2::VERSION),
        Version::OtlpHttp | Version::OtlpGrpc => return outputs::put_headers(headers, version),
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(VERSION, HeaderValue::from_static(number));
}

/// The header that carries the tenant, if there is one.
pub(super) fn tenant_header(cfg: &RemoteWrite) -> Result<Option<HeaderName>, ExportError> {
    let name = cfg.tenant_header.as_str();
    let illegal = |_| ExportError::Header { key: "remote_write.tenant_header", name: name.to_owned() };
    if name.is_empty() { Ok(None) } else { HeaderName::from_bytes(name.as_bytes()).map(Some).map_err(illegal) }
}

/// Adds the tenant's header to a request, unless it has one.
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
    let written = written(response.headers());
    let victoria = response.headers().contains_key(VICTORIA);
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
    Answer { status, retry_after, text, written, victoria, ..Answer::default() }
}

/// What was stored, by the headers of an answer. A count that is missing is zero, if another one is there.
fn written(headers: &HeaderMap) -> Option<Written> {
    let count = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let [samples, histograms, exemplars] = [WRITTEN_SAMPLES, WRITTEN_HISTOGRAMS, WRITTEN_EXEMPLARS].map(count);
    let said = samples.is_some() || histograms.is_some() || exemplars.is_some();
    let samples = samples.unwrap_or(0).saturating_add(histograms.unwrap_or(0));
    said.then(|| Written { samples, exemplars: exemplars.unwrap_or(0) })
}

pub(super) fn http(cfg: &RemoteWrite, url: &Url) -> Result<reqwest::Client, ExportError> {
    let builder = || {
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(millis(cfg.timeout))
            .connect_timeout(millis(cfg.timeout).min(MAX_CONNECT));
        // Otherwise what is used follows from what the server offers in TLS.
        let builder = match (cfg.kind, cfg.enable_http2) {
            (OutputType::OtlpGrpc, _) => builder.http2_prior_knowledge(),
            (_, true) => builder,
            (_, false) => builder.http1_only(),
        };
        tls(builder, &cfg.tls)
    };
    let failed = |e: reqwest::Error| ExportError::Client(chain(&e));
    if matches!(cfg.auth, Auth::SigV4 { .. }) {
        // The credential chain has a TLS client of its own, and fails badly on a machine without CA certificates.
        reqwest::Client::builder().build().map_err(failed)?;
    }
    match builder()?.build() {
        // A slim container has no CA certificates, and plain HTTP does not need them.
        Err(_) if url.scheme() != "https" => builder()?.tls_certs_only([]).build(),
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
        return Err(ExportError::Url("it contains a user; set it in remote_write.auth instead".to_owned()));
    }
    Ok(url)
}

/// The headers whose values lie in files.
pub(super) fn secrets(cfg: &RemoteWrite) -> Result<Vec<(HeaderName, SecretHeader)>, ExportError> {
    let in_files = cfg.headers.iter().filter(|(_, secret)| secret.file().is_some());
    let headers = in_files.map(|(name, secret)| {
        let key = "remote_write.headers";
        let illegal = |_| ExportError::Header { key, name: name.clone() };
        let header = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(illegal)?;
        Ok((header, SecretHeader::new(secret, (key, name), str::to_owned)?))
    });
    headers.collect()
}

fn headers(cfg: &RemoteWrite) -> Result<HeaderMap, ExportError> {
    let mut out = own_headers(cfg)?;
    out.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    Ok(out)
}

/// The headers that the settings ask for, and the user agent.
pub(super) fn own_headers(cfg: &RemoteWrite) -> Result<HeaderMap, ExportError> {
    let mut out = HeaderMap::new();
    for (name, value) in &cfg.headers {
        let illegal = || ExportError::Header { key: "remote_write.headers", name: name.clone() };
        let lower = name.to_ascii_lowercase();
        let is_own = is_own_header(name, matches!(cfg.auth, Auth::SigV4 { .. }));
        let authorized = cfg.auth != Auth::None && lower == "authorization";
        if is_own || authorized {
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
            return Err(pem("it contains no certificate".to_owned()));
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
        tracing::warn!("remote_write.tls.insecure_skip_verify is enabled: the receiver's certificate is not verified");
    }
    Ok(builder.tls_danger_accept_invalid_certs(cfg.insecure_skip_verify))
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
    fn what_a_receiver_has_written_is_read_from_any_of_its_headers() {
        let said = |headers: &[(&'static str, &'static str)]| {
            let of = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            written(&headers.iter().map(of).collect())
        };
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[(WRITTEN_SAMPLES, "many")]), None);
        let all = [(WRITTEN_SAMPLES, "3"), (WRITTEN_HISTOGRAMS, "4"), (WRITTEN_EXEMPLARS, "5")];
        assert_eq!(said(&all), Some(Written { samples: 7, exemplars: 5 }));
        assert_eq!(said(&all[2..]), Some(Written { samples: 0, exemplars: 5 }));
        let most = [(WRITTEN_SAMPLES, "18446744073709551615"), (WRITTEN_HISTOGRAMS, "1")];
        assert_eq!(said(&most), Some(Written { samples: u64::MAX, exemplars: 0 }));
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
