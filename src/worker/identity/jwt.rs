//! What a client may read in its own JSON Web Token. Nothing is verified: that is the matter of the service that gets it.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

/// Claims of a token.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// `sub`: for whom it is.
    pub(crate) subject: Option<String>,
    /// `exp`: when it expires, in milliseconds since the epoch.
    pub(crate) expires: Option<i64>,
}

/// The claims of a token; none if it is no JSON Web Token.
pub(crate) fn claims(token: &str) -> Claims {
    let mut parts = token.split('.');
    let payload = (parts.next(), parts.next(), parts.next());
    let (Some(_), Some(payload), Some(_)) = payload else { return Claims::default() };
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload.trim_end_matches('='));
    let Some(Value::Object(claims)) = bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) else {
        return Claims::default();
    };
    let subject = claims.get("sub").and_then(Value::as_str).map(str::to_owned);
    // A number of seconds, which may have a fraction.
    let seconds = claims.get("exp").and_then(Value::as_f64).filter(|seconds| (0.0..1e12).contains(seconds));
    Claims { subject, expires: seconds.map(|seconds| (seconds * 1e3) as i64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.sig", BASE64_URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn a_token_names_its_subject_and_its_end() {
        let claims_of = |payload| claims(&token(payload));
        let both = Claims { subject: Some("mill".to_owned()), expires: Some(1_700_000_000_500) };
        assert_eq!(claims_of(r#"{"sub":"mill","exp":1700000000.5}"#), both);
        assert_eq!(claims_of(r#"{"exp":1700000000}"#).expires, Some(1_700_000_000_000));
        for odd in [r#"{"exp":-1,"sub":7}"#, r#"{"exp":1e300}"#, r#"{"exp":"soon"}"#, "[]", "{", ""] {
            assert_eq!(claims_of(odd), Claims::default(), "{odd}");
        }
    }

    #[test]
    fn what_is_no_token_of_this_kind_has_no_claims() {
        for text in ["", "opaque", "a.b", "a.!.c", "..", "\u{1f980}.\u{1f980}.\u{1f980}"] {
            assert_eq!(claims(text), Claims::default(), "{text}");
        }
    }
}
