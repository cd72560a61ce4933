//! Where AWS credentials come from, through the files that AWS' own tools read.
//!
//! Each test runs twice: it writes files and runs itself again in a process whose environment names them.

use super::*;

/// Says that this process is the second one.
const AGAIN: &str = "SPANMILL_TEST_AGAIN";

fn is_again() -> bool {
    std::env::var_os(AGAIN).is_some()
}

/// Runs a test again with a file of AWS profiles, and without any other place that credentials come from.
fn again_with(test: &str, profiles: &str) {
    let dir = tempfile::TempDir::with_prefix("spanmill-test-").unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let key =
        |id: &str| format!(r#"{{"Version": 1, "AccessKeyId": "{id}", "SecretAccessKey": "s", "SessionToken": "t"}}"#);
    std::fs::write(path("key.json"), key("AKIDPROCESS")).unwrap();
    std::fs::write(path("config"), profiles.replace("DIR", dir.path().to_str().unwrap())).unwrap();
    let environment = [
        (AGAIN, "1"),
        ("AWS_CONFIG_FILE", &path("config")),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
    ];
    run_again(&format!("signing::{test}"), &environment);
}

fn sigv4(profile: &str) -> Auth {
    let (region, service, profile) = ("eu-central-1".to_owned(), "aps".to_owned(), Some(profile.to_owned()));
    Auth::SigV4 { region, service, profile, role_arn: None }
}

#[test]
fn requests_are_signed_with_what_the_credential_process_of_a_profile_prints() {
    if !is_again() {
        let profiles = "[profile tool]\ncredential_process = cat DIR/key.json\n";
        return again_with("requests_are_signed_with_what_the_credential_process_of_a_profile_prints", profiles);
    }
    let h = house_with(|c| c.auth = sigv4("tool"));
    assert_eq!(h.send(batch(15_000, vec![request(0..1, 15_000)])).acknowledged, 1);
    let seen = h.receiver.seen().remove(0);
    let authorization = header(&seen, "authorization").unwrap();
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDPROCESS/"), "{authorization}");
    assert_eq!(header(&seen, "x-amz-security-token"), Some("t"));
}

#[test]
fn a_profile_that_needs_a_person_to_sign_in_is_refused_at_the_start() {
    if !is_again() {
        let profiles = "[profile dev]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n[sso-session s]\n\
                        sso_region = eu-central-1\nsso_start_url = https://d.awsapps.com/start\n";
        return again_with("a_profile_that_needs_a_person_to_sign_in_is_refused_at_the_start", profiles);
    }
    let cfg = RemoteWrite { auth: sigv4("dev"), ..RemoteWrite::default() };
    let error = Exporter::start(&cfg, Telemetry::new()).unwrap_err().to_string();
    for words in ["remote_write.auth.profile", "\"dev\"", "sso_session", "credential_process"] {
        assert!(error.contains(words), "{words}: {error}");
    }
}
