//! Tokens of Amazon MSK for SASL OAUTHBEARER: the URL of the request `kafka-cluster:Connect`, signed with AWS credentials and
//! never sent to that address. Brokers verify the signature, as those of AWS's own signers.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::Url;

use super::aws::{Chain, Source};
use super::oauth::Token;
use super::profiles;
use crate::config::tokens::MskIam;
use crate::core::model::Millis;

/// How long a token counts; brokers accept no more.
const LIFE: Duration = Duration::from_secs(900);
/// Credentials that do not come within this time do not come.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The name of the service in signatures.
const SERVICE: &str = "kafka-cluster";
/// What a token shows of its maker, as the signers of AWS do.
const AGENT: &str = concat!("spanmill/", env!("CARGO_PKG_VERSION"));

/// A token with the credentials that the chain has at `now`.
///
/// # Errors
/// When the chain has none.
pub(crate) async fn token(iam: &MskIam, now: SystemTime) -> Result<Token, String> {
    profiles::check(iam.profile.as_deref()).await.map_err(|error| error.to_string())?;
    let (region, profile, role) = (iam.region.clone(), iam.profile.clone(), iam.role_arn.clone());
    let source = Source::Chain(Chain { region, profile, role });
    let late = |_| format!("no answer within {TIMEOUT:?}; check that the STS or metadata endpoint is reachable");
    let credentials = tokio::time::timeout(TIMEOUT, source.ask()).await.map_err(late)??;
    let end = credentials.expiry().map_or(now + LIFE, |end| end.min(now + LIFE));
    let expires = end.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as Millis);
    let value = BASE64_URL_SAFE_NO_PAD.encode(signed(&iam.region, credentials, now)?);
    Ok(Token { value, subject: None, expires })
}

/// The signed URL.
fn signed(region: &str, credentials: Credentials, now: SystemTime) -> Result<String, String> {
    let mut url = Url::parse(&format!("https://kafka.{region}.amazonaws.com/")).map_err(|e| e.to_string())?;
    url.query_pairs_mut().append_pair("Action", "kafka-cluster:Connect");
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFE);
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(now)
        .settings(settings)
        .build()
        .map_err(|e| e.to_string())?
        .into();
    let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(b""))
        .map_err(|e| e.to_string())?;
    let (instructions, _) = sign(request, &params).map_err(|e| e.to_string())?.into_parts();
    for (name, value) in instructions.params() {
        url.query_pairs_mut().append_pair(name, value);
    }
    // It is no part of what is signed.
    url.query_pairs_mut().append_pair("User-Agent", AGENT);
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn parts(session: Option<&str>) -> (String, BTreeMap<String, String>) {
        let credentials = Credentials::new("AKIDEXAMPLE", SECRET, session.map(str::to_owned), None, "test");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let url = Url::parse(&signed("eu-central-1", credentials, now).expect("a URL")).expect("a URL");
        (url.host_str().expect("a host").to_owned(), url.query_pairs().into_owned().collect())
    }

    /// Computed by botocore 1.43 (`SigV4QueryAuth` for `GET`, service `kafka-cluster`), as AWS's signer for Python does it.
    #[test]
    fn a_token_has_the_signature_that_another_implementation_computes() {
        for (session, signature) in [
            (None, "674a7efeeb19a92e44b849bf3ea778a9c78e68ad0bac99e834ab2ea6139ac226"),
            (Some("sess/ion+tok=en"), "bd21fa73f1137c7b201ecee2e8a689b061cefdca0cfc20ec281ede109e4790cd"),
        ] {
            let (host, query) = parts(session);
            assert_eq!(host, "kafka.eu-central-1.amazonaws.com");
            let scope = "AKIDEXAMPLE/20231114/eu-central-1/kafka-cluster/aws4_request";
            for (name, value) in [
                ("Action", "kafka-cluster:Connect"),
                ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
                ("X-Amz-Credential", scope),
                ("X-Amz-Date", "20231114T221320Z"),
                ("X-Amz-Expires", "900"),
                ("X-Amz-SignedHeaders", "host"),
                ("X-Amz-Signature", signature),
                ("User-Agent", AGENT),
            ] {
                assert_eq!(query.get(name).map(String::as_str), Some(value), "{name}: {query:?}");
            }
            assert_eq!(query.get("X-Amz-Security-Token").map(String::as_str), session);
            assert!(query.values().all(|value| !value.contains(SECRET)));
        }
    }
}
