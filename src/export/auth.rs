//! Who we are, said in headers: nothing, basic, bearer, or a SigV4 signature made anew for every attempt.
#![allow(clippy::disallowed_methods, reason = "signatures and credentials carry the time of day")]

use std::time::{Duration, SystemTime};

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Mutex;

use crate::config::settings::Auth;

use super::ExportError;
use super::client::chain;

/// Credentials are renewed this long before they expire, and looked up again this often when they never do.
const RENEW: Duration = Duration::from_secs(300);

/// Adds what proves who we are.
pub(super) enum Authorizer {
    /// The same header every time, or none.
    Fixed(Option<HeaderValue>),
    /// A signature over the body.
    SigV4(Box<Signer>),
}

/// Signs requests for an AWS service.
pub(super) struct Signer {
    region: String,
    service: String,
    provider: Option<SharedCredentialsProvider>,
    cached: Mutex<Option<Cached>>,
}

struct Cached {
    credentials: Credentials,
    renew_at: SystemTime,
}

// === impl Authorizer ===

impl Authorizer {
    pub(super) async fn new(auth: &Auth) -> Result<Self, ExportError> {
        let header = |text: String, key| {
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| ExportError::Header { key, name: "Authorization".to_owned() })?;
            value.set_sensitive(true);
            Ok(Self::Fixed(Some(value)))
        };
        match auth {
            Auth::None => Ok(Self::Fixed(None)),
            Auth::Basic { username, password } => {
                let pair = base64(format!("{username}:{}", password.reveal()).as_bytes());
                header(format!("Basic {pair}"), "remote_write.auth.password")
            }
            Auth::Bearer(token) => header(format!("Bearer {}", token.reveal()), "remote_write.auth.token"),
            Auth::SigV4 { region, service, profile, role_arn } => {
                let provider = credential_chain(region, profile.as_deref(), role_arn.as_deref()).await;
                Ok(Self::SigV4(Box::new(Signer::new(region, service, provider))))
            }
        }
    }

    /// Adds the headers for one attempt.
    pub(super) async fn authorize(
        &self,
        method: &Method,
        url: &str,
        headers: &mut HeaderMap,
        body: &[u8],
    ) -> Result<(), String> {
        match self {
            Self::Fixed(None) => {}
            Self::Fixed(Some(value)) => drop(headers.insert(AUTHORIZATION, value.clone())),
            Self::SigV4(signer) => {
                let now = SystemTime::now();
                let credentials = signer.credentials(now).await?;
                for (name, value) in signer.sign(credentials, (method, url), body, now)? {
                    headers.insert(name, value);
                }
            }
        }
        Ok(())
    }
}

// === impl Signer ===

impl Signer {
    fn new(region: &str, service: &str, provider: Option<SharedCredentialsProvider>) -> Self {
        Self { region: region.to_owned(), service: service.to_owned(), provider, cached: Mutex::new(None) }
    }

    async fn credentials(&self, now: SystemTime) -> Result<Credentials, String> {
        let mut cached = self.cached.lock().await;
        if let Some(c) = cached.as_ref().filter(|c| now < c.renew_at) {
            return Ok(c.credentials.clone());
        }
        let provider = self.provider.as_ref().ok_or("the AWS credential chain is empty")?;
        match provider.provide_credentials().await {
            Ok(credentials) => {
                let renew_at = match credentials.expiry() {
                    Some(end) => end.checked_sub(RENEW).unwrap_or(now),
                    None => now + RENEW,
                };
                *cached = Some(Cached { credentials: credentials.clone(), renew_at });
                Ok(credentials)
            }
            Err(error) => {
                // Credentials that are about to expire are better than none.
                let usable = |c: &&Cached| c.credentials.expiry().is_none_or(|end| now < end);
                cached.as_ref().filter(usable).map(|c| c.credentials.clone()).ok_or_else(|| chain(&error))
            }
        }
    }

    /// The headers of one signed request.
    fn sign(
        &self,
        credentials: Credentials,
        (method, url): (&Method, &str),
        body: &[u8],
        now: SystemTime,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(now)
            .settings(settings)
            .build()
            .map_err(|e| e.to_string())?
            .into();
        let request = SignableRequest::new(method.as_str(), url, std::iter::empty(), SignableBody::Bytes(body))
            .map_err(|e| e.to_string())?;
        let (instructions, _) = sign(request, &params).map_err(|e| e.to_string())?.into_parts();
        let (headers, _) = instructions.into_parts();
        headers
            .into_iter()
            .map(|h| {
                let mut value = HeaderValue::from_str(h.value()).map_err(|e| e.to_string())?;
                value.set_sensitive(h.sensitive());
                Ok((HeaderName::from_static(h.name()), value))
            })
            .collect()
    }
}

/// The usual AWS chain: environment, profile, web identity, container, instance; then the role, if one is named.
async fn credential_chain(
    region: &str,
    profile: Option<&str>,
    role: Option<&str>,
) -> Option<SharedCredentialsProvider> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(Region::new(region.to_owned()));
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    let config = loader.load().await;
    match role {
        Some(role) => {
            let provider = AssumeRoleProvider::builder(role).session_name("spanmill").configure(&config).build().await;
            Some(SharedCredentialsProvider::new(provider))
        }
        None => config.credentials_provider(),
    }
}

/// Base64 with padding, as basic authentication wants it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |g, &b| (g << 8) | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let sextet = (group >> (18 - 6 * i)) & 63;
            out.push(if i <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests;
