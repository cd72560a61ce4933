//! Queries a receiver: the query API and the status of the server, with the authentication, TLS and headers of remote
//! write.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use tokio::runtime::Runtime;

use crate::config::settings::{Protocol, RemoteWrite};
use crate::core::model::hash::Seed;
use crate::core::remotewrite::metadata::Descriptions;
use crate::core::remotewrite::{Backoff, Request, v2};

use super::auth::Authorizer;
use super::client::{Client, chain, own_headers, put_tenant, secrets, tenant_header, url};
use super::connector::Connector;
use super::delivery::random;
use super::dialect::{Heard, Version, heard, if_read};
use super::secrets::SecretHeader;
use super::{ExportError, millis};

/// Attempts, when a server does not answer or is overloaded.
pub(super) const ATTEMPTS: u32 = 5;
/// An answer that is larger is refused: ask for less at a time.
const MAX_ANSWER: usize = 512 << 20;

/// A blocking client of a server's API. Use it outside of any async runtime.
pub struct Inquirer {
    http: Connector,
    base: Url,
    headers: HeaderMap,
    secrets: Vec<(HeaderName, SecretHeader)>,
    tenant_header: Option<HeaderName>,
    auth: Authorizer,
    backoff: Backoff,
    attempts: u32,
    runtime: Runtime,
}

/// The answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryAnswer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

// === impl Inquirer ===

impl std::fmt::Debug for Inquirer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inquirer").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Inquirer {
    /// A client with the settings of remote write, but for the server whose API is below `base`.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn new(cfg: &RemoteWrite, base: &str) -> Result<Self, ExportError> {
        let runtime = super::runtime()?;
        let base = url(base)?;
        Ok(Self {
            http: Connector::new(cfg, &base)?,
            base,
            headers: own_headers(cfg)?,
            secrets: secrets(cfg)?,
            tenant_header: tenant_header(cfg)?,
            auth: runtime.block_on(Authorizer::new(&cfg.auth))?,
            backoff: backoff(cfg),
            attempts: ATTEMPTS,
            runtime,
        })
    }

    /// The same, with a single attempt.
    #[must_use]
    pub fn once(self) -> Self {
        Self { attempts: 1, ..self }
    }

    /// GET `path` below the base, such as `api/v1/status/flags`.
    ///
    /// # Errors
    /// The reason why there is no answer.
    pub fn get(&self, tenant: &str, path: &str) -> Result<QueryAnswer, String> {
        self.ask(&Method::GET, tenant, path, &Bytes::new())
    }

    /// POST `path` below the base with a form.
    ///
    /// # Errors
    /// The reason why there is no answer.
    pub fn post(&self, tenant: &str, path: &str, form: &[(&str, &str)]) -> Result<QueryAnswer, String> {
        let mut pairs = self.base.clone();
        pairs.query_pairs_mut().clear().extend_pairs(form);
        let body = pairs.query().unwrap_or_default().to_owned();
        self.ask(&Method::POST, tenant, path, &body.into())
    }

    fn ask(&self, method: &Method, tenant: &str, path: &str, body: &Bytes) -> Result<QueryAnswer, String> {
        self.runtime.block_on(async {
            let mut attempt = 1;
            loop {
                let said = self.attempt(method, tenant, path, body).await;
                let again = said.as_ref().map_or(true, |said| matches!(said.status, 429 | 500 | 502..=599));
                if !again || attempt == self.attempts {
                    return said;
                }
                tokio::time::sleep(self.backoff.delay(attempt, random())).await;
                attempt += 1;
            }
        })
    }

    async fn attempt(&self, method: &Method, tenant: &str, path: &str, body: &Bytes) -> Result<QueryAnswer, String> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        let mut headers = self.headers.clone();
        for (name, secret) in &self.secrets {
            headers.insert(name.clone(), secret.value());
        }
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        put_tenant(&mut headers, self.tenant_header.as_ref(), tenant).map_err(|e| e.to_string())?;
        self.auth.authorize(method, url.as_str(), &mut headers, body).await.map_err(|no| no.why)?;
        let request = self.http.client().request(method.clone(), url).headers(headers).body(body.clone());
        let failed = |e: reqwest::Error| chain(&e.without_url());
        let mut response = request.send().await.map_err(failed)?;
        let (status, mut out) = (response.status().as_u16(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            out.extend_from_slice(&chunk);
            if out.len() > MAX_ANSWER {
                return Err(format!("the answer is larger than {MAX_ANSWER} bytes; request less at a time"));
            }
        }
        Ok(QueryAnswer { status, body: out })
    }
}

pub(super) fn backoff(cfg: &RemoteWrite) -> Backoff {
    Backoff { min: millis(cfg.min_backoff), max: millis(cfg.max_backoff) }
}

/// Whether a receiver takes remote write 2.0, as a worker asks for it: with an empty request. `None`: its answer does not tell.
/// Call it outside of any async runtime.
///
/// # Errors
/// Names the setting that cannot be used.
pub fn takes_second(cfg: &RemoteWrite, tenant: &str) -> Result<Option<bool>, String> {
    let runtime = super::runtime().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let client = Client::new(cfg).await.map_err(|e| e.to_string())?;
        Ok(match heard(&client.post(tenant, &v2::probe(), 0, Version::Second).await) {
            Heard::Takes => Some(true),
            Heard::Declines => Some(false),
            Heard::Nothing => None,
        })
    })
}

/// Remote-writes one request once, to see whether it is accepted: the status and the beginning of the text. Call it
/// outside of any async runtime.
///
/// # Errors
/// Names the setting that cannot be used, or the reason why there is no answer.
pub fn probe(cfg: &RemoteWrite, tenant: &str, request: &Request) -> Result<(u16, String), String> {
    let runtime = super::runtime().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let client = Client::new(cfg).await.map_err(|e| e.to_string())?;
        let backoff = backoff(cfg);
        let second = v2::body(request, Seed::default(), &Descriptions::default()).map_err(|e| e.to_string())?;
        let mut version = if cfg.protocol == Protocol::V2 { Version::Second } else { Version::First };
        let mut attempt = 0;
        loop {
            let body = if version == Version::First { &request.body } else { &second };
            let why = match if_read(client.post(tenant, body, attempt, version).await) {
                // A receiver that supports 2.0 only.
                Ok(answer) if answer.status == 415 && cfg.protocol == Protocol::Auto && version == Version::First => {
                    version = Version::Second;
                    continue;
                }
                Ok(answer) if answer.status != 429 && answer.status < 500 => return Ok((answer.status, answer.text)),
                // An old Prometheus answers so to a sample that is too old.
                Ok(answer) if attempt + 1 == ATTEMPTS => return Ok((answer.status, answer.text)),
                Ok(answer) => format!("status {}: {}", answer.status, answer.text),
                Err(failure) => match failure.trouble() {
                    Some(trouble) => format!("{}; {}", trouble.why, trouble.remedy),
                    None => return Err("the tenant's name is not legal in an HTTP header".to_owned()),
                },
            };
            attempt += 1;
            if attempt == ATTEMPTS {
                return Err(why);
            }
            tokio::time::sleep(backoff.delay(attempt, random())).await;
        }
    })
}
