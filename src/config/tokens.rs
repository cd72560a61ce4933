//! SASL OAUTHBEARER in `kafka.properties`: where its tokens come from.
//!
//! The names are librdkafka's, so that a configuration of another client can be copied; spanmill gets the tokens itself,
//! with its own HTTP and AWS clients.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::settings::{Kafka, Secret, Tls};

/// The names of librdkafka's property, of which the second is an alias.
const MECHANISM: [&str; 2] = ["sasl.mechanisms", "sasl.mechanism"];
const PROTOCOL: &str = "security.protocol";
const METHOD: &str = "sasl.oauthbearer.method";
const GRANT: &str = "sasl.oauthbearer.grant.type";
const URL: &str = "sasl.oauthbearer.token.endpoint.url";
const PARAMS: &str = "sasl.oauthbearer.token.endpoint.params";
const ID: [&str; 2] = ["sasl.oauthbearer.client.id", "sasl.oauthbearer.client.credentials.client.id"];
const SECRET: [&str; 2] = ["sasl.oauthbearer.client.secret", "sasl.oauthbearer.client.credentials.client.secret"];
const SCOPE: &str = "sasl.oauthbearer.scope";
const EXTENSIONS: &str = "sasl.oauthbearer.extensions";
const CA: &str = "https.ca.location";
const REGION: &str = "sasl.aws.region";
const PROFILE: &str = "sasl.aws.profile";
const ROLE: &str = "sasl.aws.role.arn";
/// librdkafka's unsecured tokens, for tests: it makes them itself.
const UNSECURED: &str = "enable.sasl.oauthbearer.unsecure.jwt";

/// Properties that spanmill reads and librdkafka does not get, by their beginnings.
const OURS: [&str; 3] = ["sasl.oauthbearer.", "sasl.aws.", "https.ca."];

/// The mechanism that spanmill adds: OAUTHBEARER with tokens that are signed with AWS credentials.
const MSK_IAM: &str = "AWS_MSK_IAM";
const OAUTHBEARER: &str = "OAUTHBEARER";

/// What clients of Kafka need for SASL OAUTHBEARER.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokens {
    /// Where the tokens come from.
    pub origin: Origin,
    /// SASL extensions, sent with every token: names and values.
    pub extensions: Vec<(String, String)>,
}

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// An OAuth2 token endpoint, with the grant of client credentials.
    Endpoint(TokenEndpoint),
    /// A file that another program renews.
    File(PathBuf),
    /// Signed with AWS credentials, for Amazon MSK.
    MskIam(MskIam),
}

/// An OAuth2 token endpoint and the client that it knows: RFC 6749, section 4.4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEndpoint {
    /// `http://` or `https://`.
    pub url: String,
    /// The client's ID.
    pub client_id: String,
    /// Its secret; one from a file is read again for every token.
    pub client_secret: Secret,
    /// The scope that is asked for, empty for none.
    pub scope: String,
    /// More parameters of the request, such as `audience`.
    pub params: Vec<(String, String)>,
    /// CA certificates that are trusted besides those of the system, and what the client proves itself with in TLS.
    pub tls: Tls,
}

/// What signs the tokens of Amazon MSK, besides the usual chain of AWS credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MskIam {
    /// The region of the cluster.
    pub region: String,
    /// A profile of the AWS configuration.
    pub profile: Option<String>,
    /// A role to assume.
    pub role_arn: Option<String>,
}

type Properties = BTreeMap<String, Secret>;

// === impl Kafka ===

impl Kafka {
    /// Where the tokens of OAUTHBEARER come from; `None` with another mechanism, with librdkafka's own unsecured tokens, and
    /// where the settings are incomplete, which `check` reports.
    #[must_use]
    pub fn tokens(&self) -> Option<Tokens> {
        let text = |name: &str| value(&self.properties, name).map(str::to_owned).filter(|text| !text.is_empty());
        let extensions = pairs(&text(EXTENSIONS).unwrap_or_default()).unwrap_or_default();
        let origin = match mechanism(&self.properties)?.1 {
            MSK_IAM => Origin::MskIam(MskIam {
                region: text(REGION).or_else(|| region(&self.brokers))?,
                profile: text(PROFILE),
                role_arn: text(ROLE),
            }),
            OAUTHBEARER if !unsecured(&self.properties) => {
                let url = text(URL)?;
                match url.strip_prefix("file://") {
                    Some(path) => Origin::File(PathBuf::from(path)),
                    None => Origin::Endpoint(TokenEndpoint {
                        client_id: ID.iter().find_map(|name| text(name))?,
                        client_secret: SECRET.iter().find_map(|name| self.properties.get(*name))?.clone(),
                        scope: text(SCOPE).unwrap_or_default(),
                        params: pairs(&text(PARAMS).unwrap_or_default()).unwrap_or_default(),
                        tls: Tls { ca_file: text(CA).map(PathBuf::from), ..Tls::default() },
                        url,
                    }),
                }
            }
            _ => return None,
        };
        Some(Tokens { origin, extensions })
    }

    /// The properties for librdkafka: without those that spanmill reads for the tokens of OAUTHBEARER, which has its own
    /// name there.
    pub fn client_properties(&self) -> impl Iterator<Item = (&str, &str)> {
        let tokens = self.tokens().is_some();
        let foreign = move |name: &str| tokens && OURS.iter().any(|ours| name.starts_with(ours));
        self.properties.iter().filter(move |(name, _)| !foreign(name)).map(move |(name, value)| {
            let mechanism = tokens && MECHANISM.contains(&name.as_str());
            (name.as_str(), if mechanism { OAUTHBEARER } else { value.reveal() })
        })
    }
}

/// The property with the mechanism, and its value.
fn mechanism(properties: &Properties) -> Option<(&'static str, &str)> {
    MECHANISM.into_iter().find_map(|name| Some((name, value(properties, name)?)))
}

fn value<'a>(properties: &'a Properties, name: &str) -> Option<&'a str> {
    properties.get(name).map(|value| value.reveal().trim())
}

fn unsecured(properties: &Properties) -> bool {
    value(properties, UNSECURED) == Some("true")
}

/// The region in the names of Amazon's brokers: `b-1.spans.ab12cd.c2.kafka.eu-central-1.amazonaws.com:9098`.
fn region(brokers: &str) -> Option<String> {
    let host = brokers.split(',').next()?.trim().split(':').next()?;
    let (name, _) = host.split_once(".amazonaws.com")?;
    let (before, region) = name.rsplit_once('.')?;
    let kafka = before.rsplit('.').next().is_some_and(|label| matches!(label, "kafka" | "kafka-serverless"));
    (kafka && region.contains('-')).then(|| region.to_owned())
}

/// `name=value,name=value`; `None` if it is not that.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        (!name.is_empty() && !value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

/// The problems of the settings of tokens: the property, the reason and the remedy.
#[must_use]
pub fn problems(kafka: &Kafka) -> Vec<(&'static str, String)> {
    let properties = &kafka.properties;
    let Some((name, used)) = mechanism(properties) else {
        return strangers(
            properties,
            |_| true,
            "applies only to `sasl.mechanisms: OAUTHBEARER`; set that, or remove it",
        );
    };
    let mut found = match used {
        OAUTHBEARER if unsecured(properties) => Vec::new(),
        OAUTHBEARER => of_oauthbearer(properties, name),
        MSK_IAM => of_msk_iam(kafka, name),
        _ if matches!(used.to_ascii_uppercase().as_str(), OAUTHBEARER | MSK_IAM | "AWS_MSK_IAM_OAUTHBEARER") => {
            let right = if used.to_ascii_uppercase() == OAUTHBEARER { OAUTHBEARER } else { MSK_IAM };
            vec![(name, format!("is not a mechanism; write `{right}`"))]
        }
        _ => strangers(properties, |_| true, "applies only to `sasl.mechanisms: OAUTHBEARER`; set that, or remove it"),
    };
    if matches!(used, OAUTHBEARER | MSK_IAM) {
        found.extend(protocol(properties, used));
    }
    found
}

/// Without SASL in the protocol, a client would never use the mechanism.
fn protocol(properties: &Properties, mechanism: &str) -> Option<(&'static str, String)> {
    let said = value(properties, PROTOCOL).unwrap_or_default().to_ascii_lowercase();
    let wrong = if mechanism == MSK_IAM { said != "sasl_ssl" } else { !said.starts_with("sasl_") };
    let or = if mechanism == MSK_IAM { "" } else { ", or `SASL_PLAINTEXT` without TLS" };
    wrong.then(|| (PROTOCOL, format!("must be `SASL_SSL` with `sasl.mechanisms: {mechanism}`{or}")))
}

fn of_oauthbearer(properties: &Properties, name: &'static str) -> Vec<(&'static str, String)> {
    let mut found = strangers(
        properties,
        |key| key.starts_with("sasl.aws."),
        "applies only to `sasl.mechanisms: AWS_MSK_IAM`; set that, or remove it",
    );
    let given = |key: &str| value(properties, key).filter(|text| !text.is_empty());
    if given(METHOD).is_some_and(|method| !matches!(method, "oidc" | "default")) {
        found.push((METHOD, "must be `oidc`; write that, or remove it".to_owned()));
    }
    if given(GRANT).is_some_and(|grant| grant != "client_credentials") {
        found.push((GRANT, "must be `client_credentials`, the only grant that spanmill uses".to_owned()));
    }
    for key in [EXTENSIONS, PARAMS] {
        if given(key).is_some_and(|text| pairs(text).is_none()) {
            found.push((key, "must be `name=value`, several with commas between".to_owned()));
        }
    }
    let names = pairs(given(EXTENSIONS).unwrap_or_default()).unwrap_or_default();
    if names.iter().any(|(name, _)| name == "auth" || !name.chars().all(|c| c.is_ascii_alphabetic())) {
        found.push((EXTENSIONS, "names of extensions are of letters, and none is `auth`; correct it".to_owned()));
    }
    match given(URL) {
        None => found.push((
            if properties.contains_key(URL) { URL } else { name },
            format!(
                "`{OAUTHBEARER}` needs `{URL}`: the token endpoint as `https://…`, with `{}` and `{}`, or a file with a \
                 token as `file:///…`",
                ID[0], SECRET[0]
            ),
        )),
        Some(url) => match url.strip_prefix("file://") {
            Some(path) if !path.starts_with('/') => {
                found.push((URL, "needs an absolute path, as in `file:///var/run/secrets/kafka/token`".to_owned()));
            }
            Some(_) => {
                let foreign = |key: &str| {
                    ID.contains(&key) || SECRET.contains(&key) || [SCOPE, PARAMS, CA, GRANT].contains(&key)
                };
                let why = "does not apply to a token from a file; remove it, or name a token endpoint";
                found.extend(strangers(properties, foreign, why));
            }
            None => found.extend(of_endpoint(properties, url)),
        },
    }
    found
}

fn of_endpoint(properties: &Properties, url: &str) -> Vec<(&'static str, String)> {
    let mut found: Vec<_> = unusable(url).map(|why| (URL, why.to_owned())).into_iter().collect();
    for (names, what) in [(ID, "the ID of the client"), (SECRET, "its secret, such as `{file: PATH}`")] {
        let given = |name: &&str| value(properties, name).is_some_and(|text| !text.is_empty());
        if !names.iter().any(given) {
            found.push((URL, format!("a token endpoint needs `{}`: {what}", names[0])));
        }
    }
    found
}

/// Why a text cannot be the address of a token endpoint, or of a file.
fn unusable(url: &str) -> Option<&'static str> {
    if is_http(url) {
        unusable_endpoint(url)
    } else {
        Some("must begin with `https://`, `http://`, or `file://` for a token in a file")
    }
}

fn is_http(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// Why a text cannot be the address of a token endpoint.
pub(super) fn unusable_endpoint(url: &str) -> Option<&'static str> {
    if !is_http(url) {
        return Some("must begin with `https://` or `http://`");
    }
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if url.contains(|c: char| c.is_whitespace() || c == '#' || !c.is_ascii()) {
        Some("must not contain spaces, `#` or non-ASCII characters; percent-encode them")
    } else if authority.contains('@') {
        Some("must not contain a user or password; set the ID and the secret of the client")
    } else if authority.split(':').next().unwrap_or_default().is_empty() {
        Some("must name a host, as in `https://login.example.com/oauth2/token`")
    } else {
        None
    }
}

fn of_msk_iam(kafka: &Kafka, name: &'static str) -> Vec<(&'static str, String)> {
    let why =
        "does not apply to `sasl.mechanisms: AWS_MSK_IAM`, whose tokens are signed with AWS credentials; remove it";
    let mut found = strangers(&kafka.properties, |key| !key.starts_with("sasl.aws."), why);
    let given = |key: &str| value(&kafka.properties, key).filter(|text| !text.is_empty());
    if given(REGION).is_none() && region(&kafka.brokers).is_none() {
        let message = format!("`{MSK_IAM}` needs `{REGION}`, such as `eu-central-1`: kafka.brokers does not name it");
        found.push((name, message));
    }
    if given(REGION).is_some_and(|text| !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')) {
        found.push((REGION, "is not a region; write one such as `eu-central-1`".to_owned()));
    }
    if given(ROLE).is_some_and(|role| !role.starts_with("arn:")) {
        found.push((ROLE, "is not an ARN; write one such as `arn:aws:iam::123456789012:role/spanmill`".to_owned()));
    }
    found
}

/// The given ones among the properties of tokens that match, with a reason.
fn strangers(properties: &Properties, matches: impl Fn(&str) -> bool, why: &str) -> Vec<(&'static str, String)> {
    let all = [METHOD, GRANT, URL, PARAMS, ID[0], ID[1], SECRET[0], SECRET[1], SCOPE, EXTENSIONS, CA];
    let all = all.into_iter().chain([REGION, PROFILE, ROLE]);
    all.filter(|name| properties.contains_key(*name) && matches(name)).map(|name| (name, why.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kafka(brokers: &str, properties: &[(&str, &str)]) -> Kafka {
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
        Kafka { brokers: brokers.to_owned(), properties, ..Kafka::default() }
    }

    const OIDC: [(&str, &str); 5] = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanisms", "OAUTHBEARER"),
        ("sasl.oauthbearer.token.endpoint.url", "https://login.example.com/token"),
        ("sasl.oauthbearer.client.id", "spanmill"),
        ("sasl.oauthbearer.client.secret", "hunter2"),
    ];

    #[test]
    fn the_names_of_librdkafka_describe_a_token_endpoint_and_stay_out_of_its_own_settings() {
        let more = [
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.scope", "kafka"),
            ("sasl.oauthbearer.token.endpoint.params", "audience=spans, resource = r"),
            ("sasl.oauthbearer.extensions", "logicalCluster=lkc-1,identityPoolId=pool-1"),
            ("client.id", "mine"),
        ];
        let kafka = kafka("k:9092", &[&OIDC[..], &more].concat());
        assert_eq!(problems(&kafka), []);
        let tokens = kafka.tokens().expect("tokens");
        let Origin::Endpoint(endpoint) = &tokens.origin else { panic!("{tokens:?}") };
        assert_eq!((endpoint.client_id.as_str(), endpoint.scope.as_str()), ("spanmill", "kafka"));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(endpoint.params, [pair("audience", "spans"), pair("resource", "r")]);
        assert_eq!(tokens.extensions, [pair("logicalCluster", "lkc-1"), pair("identityPoolId", "pool-1")]);
        assert!(!format!("{tokens:?}").contains("hunter2"));
        let passed: Vec<_> = kafka.client_properties().collect();
        let expected = [("client.id", "mine"), ("sasl.mechanisms", "OAUTHBEARER"), ("security.protocol", "SASL_SSL")];
        assert_eq!(passed, expected);
    }

    #[test]
    fn the_region_of_amazon_msk_follows_from_its_brokers_or_is_named() {
        let msk = [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "AWS_MSK_IAM")];
        for (brokers, region) in [
            ("b-1.spans.ab12cd.c2.kafka.eu-central-1.amazonaws.com:9098,b-2:9098", Some("eu-central-1")),
            ("boot-ab12.c1.kafka-serverless.us-east-1.amazonaws.com:9098", Some("us-east-1")),
            ("b-1.x.y.c2.kafka.cn-north-1.amazonaws.com.cn:9098", Some("cn-north-1")),
            ("vpce-1.kafka.example.com:9098", None),
            ("amazonaws.com:1", None),
        ] {
            let kafka = kafka(brokers, &msk);
            let found = kafka.tokens().map(|tokens| match tokens.origin {
                Origin::MskIam(iam) => iam.region,
                other => panic!("{other:?}"),
            });
            assert_eq!(found.as_deref(), region, "{brokers}");
            assert_eq!(problems(&kafka).is_empty(), region.is_some(), "{brokers}");
            assert_eq!(
                kafka.client_properties().any(|pair| pair == ("sasl.mechanism", "OAUTHBEARER")),
                region.is_some()
            );
        }
        let named = kafka("proxy:9098", &[&msk[..], &[("sasl.aws.region", "eu-west-1")]].concat());
        assert!(named.tokens().is_some() && problems(&named).is_empty());
    }

    #[test]
    fn every_setting_that_is_missing_or_that_applies_to_another_way_is_refused_with_the_remedy() {
        let without = |name: &str| OIDC.iter().copied().filter(|(key, _)| *key != name).collect::<Vec<_>>();
        let with = |name: &'static str, value: &'static str| [&without(name)[..], &[(name, value)]].concat();
        let file = "sasl.oauthbearer.token.endpoint.url";
        for (properties, key, words) in [
            (without(URL), "sasl.mechanisms", "`OAUTHBEARER` needs `sasl.oauthbearer.token.endpoint.url`"),
            (without("sasl.oauthbearer.client.id"), URL, "needs `sasl.oauthbearer.client.id`"),
            (without("sasl.oauthbearer.client.secret"), URL, "needs `sasl.oauthbearer.client.secret`"),
            (without("security.protocol"), PROTOCOL, "must be `SASL_SSL`"),
            (with("security.protocol", "ssl"), PROTOCOL, "`SASL_PLAINTEXT` without TLS"),
            (without("sasl.mechanisms"), URL, "applies only to `sasl.mechanisms: OAUTHBEARER`"),
            (with("sasl.mechanisms", "PLAIN"), URL, "applies only to `sasl.mechanisms: OAUTHBEARER`"),
            (with("sasl.mechanisms", "oauthbearer"), "sasl.mechanisms", "write `OAUTHBEARER`"),
            (with("sasl.mechanisms", "AWS_MSK_IAM_OAUTHBEARER"), "sasl.mechanisms", "write `AWS_MSK_IAM`"),
            (with(file, "file:///run/token"), ID[0], "does not apply to a token from a file"),
            (with(file, "file://token"), URL, "needs an absolute path"),
            (with(file, "login.example.com"), URL, "must begin with"),
            (with(file, "https://me:pw@login.example.com/"), URL, "must not contain a user"),
            (with(file, "https:///token"), URL, "must name a host"),
            (with(file, "https://login.example.com/to ken"), URL, "must not contain spaces"),
            (with("sasl.oauthbearer.method", "jwt"), METHOD, "must be `oidc`"),
            (with(GRANT, "urn:ietf:params:oauth:grant-type:jwt-bearer"), GRANT, "must be `client_credentials`"),
            (with(EXTENSIONS, "pool"), EXTENSIONS, "must be `name=value`"),
            (with(EXTENSIONS, "auth=x"), EXTENSIONS, "none is `auth`"),
            (with(PARAMS, "=x"), PARAMS, "must be `name=value`"),
            (with(REGION, "eu-west-1"), REGION, "applies only to `sasl.mechanisms: AWS_MSK_IAM`"),
            (with("sasl.mechanisms", "AWS_MSK_IAM"), SECRET[0], "does not apply to `sasl.mechanisms: AWS_MSK_IAM`"),
        ] {
            let found = problems(&kafka("k:9092", &properties));
            let hit = found.iter().any(|(name, why)| *name == key && why.contains(words));
            assert!(hit, "{key} {words}: {found:?}");
        }
        let iam =
            [("sasl.mechanism", "AWS_MSK_IAM"), ("security.protocol", "SASL_SSL"), (REGION, "eu west"), (ROLE, "r")];
        let found = problems(&kafka("k:9092", &iam));
        assert_eq!(found.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [REGION, ROLE]);
    }

    #[test]
    fn other_mechanisms_and_the_unsecured_tokens_of_librdkafka_are_passed_through_as_they_stand() {
        let unsecured = [
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanisms", "OAUTHBEARER"),
            (UNSECURED, "true"),
            ("sasl.oauthbearer.config", "principal=me"),
        ];
        let scram = [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "SCRAM-SHA-512"), ("sasl.username", "me")];
        for properties in [&unsecured[..], &scram, &[]] {
            let kafka = kafka("k:9092", properties);
            assert_eq!((kafka.tokens(), problems(&kafka)), (None, Vec::new()));
            let mut expected = properties.to_vec();
            expected.sort_unstable();
            assert_eq!(kafka.client_properties().collect::<Vec<_>>(), expected);
        }
    }
}
