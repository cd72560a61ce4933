//! The credentials of the worker, in headers: none, basic, bearer, a token of a token endpoint, or a SigV4 signature
//! computed for every attempt.

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
use crate::worker::identity::aws::{Chain, Source};
use crate::worker::identity::oauth::Tokens;
use crate::worker::identity::profiles;
use crate::worker::identity::renewing::Renewing;

/// Adds the credentials.
pub(super) enum Authorizer {
    /// Nothing.
    Nobody,
    /// A header with a secret.
    Secret(SecretHeader),
    /// A token of a token endpoint.
    OAuth2(Box<Renewing<Tokens>>),
    /// A signature over the body.
    SigV4(Box<Signer>),
}

/// Signs requests for an AWS service.
pub(super) struct Signer {
    region: String,
    service: String,
    credentials: Renewing<Source>,
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
            Auth::OAuth2(endpoint) => {
                let tokens = Tokens::new((**endpoint).clone());
                tokens.check().map_err(|why| ExportError::OAuth2(why.into()))?;
                Ok(Self::OAuth2(Box::new(Renewing::new(tokens))))
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
    ///
    /// # Errors
    /// Why there are no credentials.
    pub(super) async fn authorize(
        &self,
        method: &Method,
        url: &str,
        headers: &mut HeaderMap,
        body: &[u8],
    ) -> Result<(), NoCredentials> {
        match self {
            Self::Nobody => {}
            Self::Secret(secret) => drop(headers.insert(AUTHORIZATION, secret.value())),
            Self::OAuth2(tokens) => {
                let token = tokens.at(now()).await.map_err(|why| NoCredentials::no_token(&why))?;
                headers.insert(AUTHORIZATION, bearer(&token.value).map_err(|why| NoCredentials::no_token(&why))?);
            }
            Self::SigV4(signer) => {
                let now = now();
                let credentials = signer.credentials.at(now).await.map_err(|why| NoCredentials::of_aws(&why))?;
                let signed =
                    signer.sign(credentials, (method, url), body, now).map_err(|why| NoCredentials::of_aws(&why))?;
                for (name, value) in signed {
                    headers.insert(name, value);
                }
            }
        }
        Ok(())
    }

    /// The receiver has rejected the credentials in this header with this status: they may have been renewed. A token is not
    /// used again after a 401; with a 403, the client may do too little, and another token would not change that.
    pub(super) fn distrust(&self, header: Option<&HeaderValue>, status: u16) {
        match self {
            Self::SigV4(signer) => signer.credentials.distrust(now()),
            Self::OAuth2(tokens) if status == 401 => {
                tokens.discard(|token| bearer(&token.value).is_ok_and(|known| header == Some(&known)));
            }
            Self::Nobody | Self::Secret(_) | Self::OAuth2(_) => {}
        }
    }
}

/// Why a request has no credentials.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoCredentials {
    pub(super) why: String,
    pub(super) remedy: &'static str,
}

// === impl NoCredentials ===

impl NoCredentials {
    fn no_token(why: &str) -> Self {
        let remedy = "check remote_write.auth.oauth2 and the token endpoint";
        Self { why: format!("no OAuth2 token: {why}"), remedy }
    }

    fn of_aws(why: &str) -> Self {
        let remedy = "check remote_write.auth and what the AWS credential chain finds";
        Self { why: format!("no AWS credentials: {why}"), remedy }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "the token is not legal in an HTTP header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
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
