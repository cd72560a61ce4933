//! The credentials of the worker, in headers: none, basic, bearer, or a SigV4 signature computed for every attempt.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::config::settings::Auth;

use super::ExportError;
use super::secrets::SecretHeader;
use crate::worker::identity::aws::{Chain, Renewing, Source};
use crate::worker::identity::profiles;

/// Adds the credentials.
pub(super) enum Authorizer {
    /// Nothing.
    Nobody,
    /// A header with a secret.
    Secret(SecretHeader),
    /// A signature over the body.
    SigV4(Box<Signer>),
}

/// Signs requests for an AWS service.
pub(super) struct Signer {
    region: String,
    service: String,
    credentials: Renewing,
}

// === impl Authorizer ===

impl Authorizer {
    pub(super) async fn new(auth: &Auth) -> Result<Self, ExportError> {
        match auth {
            Auth::None => Ok(Self::Nobody),
            Auth::Basic { username, password } => {
                let (username, place) = (username.clone(), ("remote_write.auth.password", "Authorization"));
                let text =
                    move |password: &str| format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")));
                SecretHeader::new(password, place, text).map(Self::Secret)
            }
            Auth::Bearer(token) => {
                let place = ("remote_write.auth.token", "Authorization");
                SecretHeader::new(token, place, |token: &str| format!("Bearer {token}")).map(Self::Secret)
            }
            Auth::SigV4 { region, service, profile, role_arn } => {
                let checked = profiles::check(profile.as_deref()).await;
                checked.map_err(|error| ExportError::Profile(error.to_string().into()))?;
                let chain = Chain { region: region.clone(), profile: profile.clone(), role: role_arn.clone() };
                // Settings that cannot be used must fail the start, and not a later attempt.
                drop(chain.provider().await);
                Ok(Self::SigV4(Box::new(Signer::new(region, service, Source::Chain(chain)))))
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
            Self::Nobody => {}
            Self::Secret(secret) => drop(headers.insert(AUTHORIZATION, secret.value())),
            Self::SigV4(signer) => {
                let now = now();
                let credentials = signer.credentials.at(now).await?;
                for (name, value) in signer.sign(credentials, (method, url), body, now)? {
                    headers.insert(name, value);
                }
            }
        }
        Ok(())
    }

    /// The receiver has rejected the credentials: they may have been renewed.
    pub(super) fn distrust(&self) {
        if let Self::SigV4(signer) = self {
            signer.credentials.distrust(now());
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "signatures carry the time of day")]
fn now() -> SystemTime {
    SystemTime::now()
}

// === impl Signer ===

impl Signer {
    fn new(region: &str, service: &str, source: Source) -> Self {
        Self { region: region.to_owned(), service: service.to_owned(), credentials: Renewing::new(source) }
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

#[cfg(test)]
mod tests;
