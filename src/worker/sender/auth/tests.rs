use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;

use super::*;
use crate::config::settings::Secret;

fn ready<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn credentials(expires: Option<SystemTime>) -> Credentials {
    let (id, secret) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    Credentials::new(id, secret, Some("session".to_owned()), expires, "test")
}

fn signer(expires: Option<SystemTime>) -> Signer {
    let provider = SharedCredentialsProvider::new(credentials(expires));
    Signer::new("eu-central-1", "aps", Source::Fixed(Some(provider)))
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn header(headers: &[(HeaderName, HeaderValue)], name: &str) -> String {
    let (_, value) = headers.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name}"));
    value.to_str().unwrap().to_owned()
}

#[test]
fn basic_and_bearer_are_fixed_and_never_printed() {
    let basic = Auth::Basic { username: "Aladdin".to_owned(), password: Secret::new("open sesame") };
    for (auth, expected) in
        [(basic, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), (Auth::Bearer(Secret::new("tok")), "Bearer tok")]
    {
        let mut headers = HeaderMap::new();
        let authorizer = ready(Authorizer::new(&auth)).unwrap();
        ready(authorizer.authorize(&Method::POST, "http://x/", &mut headers, b"")).unwrap();
        assert_eq!(headers[AUTHORIZATION], expected);
        assert_eq!(format!("{:?}", headers[AUTHORIZATION]), "Sensitive");
    }
}

#[test]
fn a_token_with_a_line_break_is_refused_without_being_shown() {
    let error = ready(Authorizer::new(&Auth::Bearer(Secret::new("hush\nhush")))).err().unwrap().to_string();
    assert!(error.contains("remote_write.auth.token") && !error.contains("hush"), "{error}");
}

#[test]
fn a_signature_covers_body_date_and_session() {
    let (s, url, now) = (signer(None), "https://aps.example.com/workspaces/ws/api/v1/remote_write", at(1_700_000_000));
    let signed = s.sign(credentials(None), (&Method::POST, url), b"body", now).unwrap();
    assert_eq!(header(&signed, "x-amz-date"), "20231114T221320Z");
    assert_eq!(header(&signed, "x-amz-security-token"), "session");
    let sha = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    assert_eq!(header(&signed, "x-amz-content-sha256"), sha);
    let authorization = header(&signed, "authorization");
    let scope = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20231114/eu-central-1/aps/aws4_request, \
        SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=";
    let signature = authorization.strip_prefix(scope).unwrap_or_else(|| panic!("{authorization}"));
    // Computed apart from the library, by the recipe of the AWS documentation.
    assert_eq!(signature, "076170c6b6d34ce7b89be51c512c3e78a18f35720b221bfc3bdea629754e6a91");
    let again = |body: &[u8], now| {
        header(&s.sign(credentials(None), (&Method::POST, url), body, now).unwrap(), "authorization")
    };
    assert_eq!(again(b"body", now), authorization);
    assert_ne!(again(b"Body", now), authorization);
    assert_ne!(again(b"body", at(1_700_000_001)), authorization);
}

#[test]
fn every_attempt_is_signed_anew_with_the_time_of_day() {
    let authorizer = Authorizer::SigV4(Box::new(signer(None)));
    let mut headers = HeaderMap::new();
    ready(authorizer.authorize(&Method::POST, "http://localhost:9090/api/v1/write", &mut headers, b"body")).unwrap();
    for name in ["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"] {
        assert!(headers.contains_key(name), "{name}");
    }
    assert_eq!(format!("{:?}", headers["x-amz-security-token"]), "Sensitive");
}

#[test]
fn the_chain_is_set_up_without_asking_anybody() {
    let auth = Auth::SigV4 {
        region: "eu-central-1".to_owned(),
        service: "aps".to_owned(),
        profile: Some("metrics".to_owned()),
        role_arn: None,
    };
    assert!(matches!(ready(Authorizer::new(&auth)), Ok(Authorizer::SigV4(_))));
}

#[test]
fn a_secret_that_is_renewed_in_its_file_is_used_at_once_and_a_file_that_is_gone_changes_nothing() {
    let dir = tempfile::TempDir::with_prefix("spanmill-test-").unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "old\n").unwrap();
    let authorizer = ready(Authorizer::new(&Auth::Bearer(Secret::of_file("old", &file)))).unwrap();
    let said = || {
        let mut headers = HeaderMap::new();
        ready(authorizer.authorize(&Method::POST, "http://x/", &mut headers, b"")).unwrap();
        headers[AUTHORIZATION].to_str().unwrap().to_owned()
    };
    assert_eq!(said(), "Bearer old");
    std::fs::write(&file, "new\n").unwrap();
    assert_eq!(said(), "Bearer new");
    for bad in ["", "a\nb"] {
        std::fs::write(&file, bad).unwrap();
        assert_eq!(said(), "Bearer new", "{bad:?}");
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(said(), "Bearer new");
}
