//! AWS profiles whose credentials a person has to fetch (SSO, a sign-in to the console). A worker cannot do that, and would ask
//! for them forever, so they are refused at the start.

use std::collections::BTreeSet;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::profile::{self, Profile, ProfileSet};
use aws_credential_types::provider::ProvideCredentials;

/// A profile whose credentials a person has to fetch.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the AWS profile {profile:?} has {key}, so a person must sign in for its credentials; use a profile with keys, a role, a web \
     identity or credential_process (such as `aws configure export-credentials --profile {profile} --format process`)"
)]
pub(crate) struct Interactive {
    profile: String,
    key: &'static str,
}

/// The keys of such profiles.
const INTERACTIVE: [&str; 6] =
    ["sso_session", "sso_start_url", "sso_account_id", "sso_role_name", "sso_region", "login_session"];

/// Refuses the profile of this name, or the one that is selected by the environment, if a person has to fetch its credentials.
pub(crate) async fn check(name: Option<&str>) -> Result<(), Interactive> {
    // What the environment holds counts first.
    if EnvironmentVariableCredentialsProvider::new().provide_credentials().await.is_ok() {
        return Ok(());
    }
    let selected = name.map(|name| name.to_owned().into());
    // Files that cannot be read are no reason to refuse: they may be there later, and the attempts say what is wrong.
    let loaded = profile::load(&Default::default(), &Default::default(), &Default::default(), selected).await;
    loaded.map_or(Ok(()), |profiles| refuse_interactive(&profiles))
}

/// Follows the profiles from one to the other as the chain does.
fn refuse_interactive(profiles: &ProfileSet) -> Result<(), Interactive> {
    let (mut name, mut seen) = (profiles.selected_profile(), BTreeSet::new());
    while let Some(profile) = profiles.get_profile(name).filter(|_| seen.insert(name)) {
        let has = |key: &str| profile.get(key).is_some();
        let has_keys = has("aws_access_key_id") && has("aws_secret_access_key");
        if (seen.len() > 1 && has_keys) || has("web_identity_token_file") || has("credential_source") {
            return Ok(());
        }
        match source(profile) {
            Some(source) => name = source,
            None => return interactive(profile),
        }
    }
    Ok(())
}

/// The profile whose credentials serve to assume the role of this one.
fn source(profile: &Profile) -> Option<&str> {
    profile.get("role_arn").and_then(|_| profile.get("source_profile")).filter(|source| *source != profile.name())
}

fn interactive(profile: &Profile) -> Result<(), Interactive> {
    match INTERACTIVE.into_iter().find(|key| profile.get(key).is_some()) {
        Some(key) => Err(Interactive { profile: profile.name().to_owned(), key }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(deprecated, reason = "the names that replace these belong to a crate that is no direct dependency")]
mod tests {
    use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};

    use super::*;

    const FILE: &str = "
[profile keys]
aws_access_key_id = a
aws_secret_access_key = b
[profile sso]
sso_session = dev
sso_account_id = 1
sso_role_name = r
[sso-session dev]
sso_region = eu-central-1
sso_start_url = https://d.awsapps.com/start
[profile old-sso]
sso_start_url = https://d.awsapps.com/start
[profile login]
login_session = arn
[profile process]
credential_process = /bin/credentials
[profile role-of-keys]
role_arn = arn
source_profile = keys
[profile role-of-sso]
role_arn = arn
source_profile = sso
[profile instance]
role_arn = arn
credential_source = Ec2InstanceMetadata
[profile web]
role_arn = arn
web_identity_token_file = /token
[profile ring]
role_arn = arn
source_profile = other
[profile other]
role_arn = arn
source_profile = ring
";

    fn judged(name: &'static str) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let files = ProfileFiles::builder().with_contents(ProfileFileKind::Config, FILE).build();
        let (fs, env) = (Default::default(), Default::default());
        let profiles = runtime.block_on(profile::load(&fs, &env, &files, Some(name.into())));
        refuse_interactive(&profiles.expect("a legal file")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_profile_that_needs_a_person_is_refused_with_the_key_and_a_way_out() {
        for (name, key) in [
            ("sso", "sso_session"),
            ("old-sso", "sso_start_url"),
            ("role-of-sso", "sso_session"),
            ("login", "login_session"),
        ] {
            let error = judged(name).expect_err(name);
            assert!(error.contains(key) && error.contains("export-credentials"), "{error}");
        }
    }

    #[test]
    fn every_other_profile_may_be_used() {
        for name in ["keys", "process", "role-of-keys", "instance", "web", "ring", "not-there"] {
            assert_eq!(judged(name), Ok(()), "{name}");
        }
    }
}
