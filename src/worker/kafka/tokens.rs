//! Tokens for SASL OAUTHBEARER. All clients of a process with the same settings share a source, whose thread gets tokens,
//! renews them in time and hands them to its clients.
//!
//! *In:* [`Tokens`] of the settings. *Out:* tokens, and why there are none. *Owner:* the process: a thread runs as long as
//! its source has clients. *Never:* a client's thread that waits for a token endpoint; a secret in a message. *Next:*
//! [`Fed`](super::fed::Fed).

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::trouble::{self, Trouble};
use crate::config::settings::Kafka;
use crate::config::tokens::{Origin, Tokens};
use crate::core::model::Millis;
use crate::worker::identity::oauth::{self, Cause, NoToken, Token};
use crate::worker::identity::{jwt, msk, secret_of};
use crate::worker::telemetry::flood;

/// The name of the property by which a client finds its source. librdkafka gives it to callbacks, of which there are none.
pub(crate) const PROPERTY: &str = "sasl.oauthbearer.config";
/// What librdkafka reports when there was no token. The source has logged why.
pub(super) const MISSED: &str = "Failed to acquire SASL OAUTHBEARER token";

/// The pauses after attempts that failed: twice as long each time.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often a file is read: ten times in the life of its token, within these bounds.
const READS: (Millis, Millis) = (1_000, 30_000);
/// How long a token from a file counts that does not name its end.
const UNNAMED_LIFE: Millis = 60_000;

const fn trouble(kind: &'static str, remedy: &'static str) -> Trouble {
    Trouble { kind, remedy }
}

const ENDPOINT: Trouble = trouble(
    "token endpoint",
    "check kafka.properties sasl.oauthbearer.token.endpoint.url, DNS and the network, and https.ca.location for its \
     certificate",
);
const CLIENT: Trouble = trouble(
    "token client",
    "check kafka.properties sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret, and whether the client may use \
     the grant of client credentials",
);
const SCOPE: Trouble = trouble("token scope", "check kafka.properties sasl.oauthbearer.scope");
const REFUSED: Trouble = trouble(
    "token request",
    "check kafka.properties sasl.oauthbearer.token.endpoint.url, sasl.oauthbearer.scope and \
     sasl.oauthbearer.token.endpoint.params",
);
const FAILS: Trouble = trouble("failing token endpoint", "check the token endpoint; spanmill tries again");
const FILE: Trouble = trouble("token file", "check the file and its rights; spanmill reads it again");
const EXPIRED: Trouble = trouble(
    "expired token file",
    "check what renews the file of kafka.properties sasl.oauthbearer.token.endpoint.url, and the clock of this machine",
);
const UNUSABLE: Trouble =
    trouble("unusable token", "check what issues the tokens, and kafka.properties sasl.oauthbearer.extensions");
const AWS: Trouble = trouble(
    "AWS credentials",
    "check what the AWS credential chain finds: environment, profile, web identity, container, instance",
);

/// The sources of this process, by number. There are as many as there are different settings.
static SOURCES: Mutex<Vec<Arc<Source>>> = Mutex::new(Vec::new());

/// What needs the tokens of a source.
pub(super) trait TakesTokens: Send {
    /// Here is the next one.
    fn take(&self, token: &Token, extensions: &[(String, String)]) -> Result<(), String>;

    /// There is none, and this is why.
    fn miss(&self, why: &str);
}

/// A client that gets the tokens of a source until this is dropped.
pub(super) struct Feed {
    source: Arc<Source>,
    number: u64,
}

/// A source of tokens.
struct Source {
    tokens: Tokens,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// Whether the thread runs.
    runs: bool,
    /// Why the latest attempt failed.
    failed: Option<Failure>,
    /// Those that get the tokens, by number, and the number of the next one.
    clients: Vec<(u64, Box<dyn TakesTokens>)>,
    next: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    trouble: Trouble,
    why: String,
}

/// The property by which clients with these settings find their tokens; `None` when they need none.
pub(super) fn source(kafka: &Kafka) -> Option<String> {
    let tokens = kafka.tokens()?;
    let mut sources = sources();
    let number = sources.iter().position(|source| source.tokens == tokens).unwrap_or_else(|| {
        sources.push(Arc::new(Source::new(tokens)));
        sources.len() - 1
    });
    Some(number.to_string())
}

/// Feeds a client whose configuration has this `name` of [`source`].
pub(super) fn feed(name: &str, client: Box<dyn TakesTokens>) -> Option<Feed> {
    let source = sources().get(name.parse::<usize>().ok()?).cloned()?;
    Some(source.feed(client))
}

/// Why clients with these settings have no token, with the remedy.
pub(crate) fn missing(kafka: &Kafka) -> Option<String> {
    let tokens = kafka.tokens()?;
    let source = sources().iter().find(|source| source.tokens == tokens).cloned()?;
    let state = source.state();
    if state.good(now()).is_some() {
        return None;
    }
    state.failed.as_ref().map(|failed| format!("no token for Kafka: {}", failed.told()))
}

fn sources() -> MutexGuard<'static, Vec<Arc<Source>>> {
    SOURCES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Millis {
    millis(SystemTime::now())
}

fn millis(time: SystemTime) -> Millis {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as Millis)
}

// === impl Failure ===

impl Failure {
    fn told(&self) -> String {
        format!("{}; {}", self.why, self.trouble.remedy)
    }
}

impl From<NoToken> for Failure {
    fn from(NoToken { cause, why }: NoToken) -> Self {
        let trouble = match cause {
            Cause::File => FILE,
            Cause::Unreachable => ENDPOINT,
            Cause::Client => CLIENT,
            Cause::Scope => SCOPE,
            Cause::Refused => REFUSED,
            Cause::Fails => FAILS,
        };
        Self { trouble, why }
    }
}

// === impl State ===

impl State {
    fn good(&self, now: Millis) -> Option<&Token> {
        self.token.as_ref().filter(|token| token.expires > now)
    }
}

// === impl Source ===

impl Source {
    fn new(tokens: Tokens) -> Self {
        Self { tokens, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the client the current token, if there is one, and those that come.
    fn feed(self: &Arc<Self>, client: Box<dyn TakesTokens>) -> Feed {
        let mut state = self.state();
        if let Some(token) = state.good(now()) {
            self.give(token, &*client);
        }
        let number = state.next;
        state.next += 1;
        state.clients.push((number, client));
        if !state.runs {
            let source = Arc::clone(self);
            match std::thread::Builder::new().name("tokens".to_owned()).spawn(move || source.renew()) {
                Ok(_) => state.runs = true,
                Err(error) => {
                    tracing::error!(%error, "cannot start the thread that gets tokens; it is started with the next client");
                }
            }
        }
        Feed { source: Arc::clone(self), number }
    }

    fn give(&self, token: &Token, client: &dyn TakesTokens) {
        if let Err(why) = client.take(token, &self.tokens.extensions) {
            trouble::met(UNUSABLE, &format!("a client cannot use its token: {why}"));
        }
    }

    /// Gets tokens until there is no client any more.
    fn renew(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let mut backoff = BACKOFF.0;
        loop {
            let begin = now();
            let got = match &runtime {
                Ok(runtime) => runtime.block_on(self.get()),
                Err(error) => Err(Failure { trouble: FAILS, why: format!("cannot start an HTTP client: {error}") }),
            };
            let pause = match &got {
                Ok(token) => {
                    backoff = BACKOFF.0;
                    self.pause(token.expires - begin)
                }
                Err(_) => {
                    let pause = backoff;
                    backoff = (backoff * 2).min(BACKOFF.1);
                    pause
                }
            };
            self.settle(got);
            std::thread::sleep(pause);
            let mut state = self.state();
            if state.clients.is_empty() {
                state.runs = false;
                return;
            }
        }
    }

    /// How long a token that lives so long is kept.
    fn pause(&self, life: Millis) -> Duration {
        let millis = match self.tokens.origin {
            Origin::File(_) => (life / 10).clamp(READS.0, READS.1),
            Origin::Endpoint(_) | Origin::MskIam(_) => (life / 2).max(500),
        };
        Duration::from_millis(millis.unsigned_abs())
    }

    async fn get(&self) -> Result<Token, Failure> {
        match &self.tokens.origin {
            Origin::Endpoint(endpoint) => Ok(oauth::ask(endpoint, now()).await?),
            Origin::File(path) => read(path, now()),
            Origin::MskIam(iam) => msk::token(iam, SystemTime::now())
                .await
                .map_err(|why| Failure { trouble: AWS, why: format!("no AWS credentials: {why}") }),
        }
    }

    /// Hands a token to the clients, or why there is none, unless they have one that is good.
    fn settle(&self, got: Result<Token, Failure>) {
        let mut state = self.state();
        match got {
            Ok(token) => {
                if state.failed.take().is_some() {
                    tracing::info!("got a token for Kafka again");
                }
                state.clients.iter().for_each(|(_, client)| self.give(&token, &**client));
                state.token = Some(token);
            }
            Err(failed) => {
                let rest = state.good(now()).map(|token| token.expires - now());
                if rest.is_none() {
                    trouble::met(failed.trouble, &format!("no token for Kafka: {}", failed.why));
                    let why = failed.told();
                    state.clients.iter().for_each(|(_, client)| client.miss(&why));
                }
                if let Some(held_back) = flood::may_say(failed.trouble.kind) {
                    let current = rest.map(|rest| format!("expires in {} s", rest / 1_000));
                    tracing::warn!(
                        held_back,
                        current,
                        error = %failed.why,
                        remedy = failed.trouble.remedy,
                        "no token for Kafka"
                    );
                }
                state.failed = Some(failed);
            }
        }
    }
}

// === impl Feed ===

impl Drop for Feed {
    fn drop(&mut self) {
        self.source.state().clients.retain(|(number, _)| *number != self.number);
    }
}

/// The token in a file.
fn read(path: &Path, now: Millis) -> Result<Token, Failure> {
    let failure = |trouble, why: String| Failure { trouble, why: format!("the token file {} {why}", path.display()) };
    let text = secret_of(path).map_err(|why| failure(FILE, format!("cannot be read: {why}")))?;
    // As Tempo reads it: `{"token": "…"}`.
    let wrapped = serde_json::from_str::<serde_json::Value>(&text).ok();
    let wrapped = wrapped.as_ref().and_then(|json| json.get("token")?.as_str());
    let value = wrapped.unwrap_or(text.trim()).to_owned();
    if value.is_empty() || !value.chars().all(|c| c.is_ascii_graphic()) {
        return Err(failure(FILE, "holds no token: it has other characters".to_owned()));
    }
    let jwt::Claims { subject, expires } = jwt::claims(&value);
    let expires = expires.unwrap_or(now + UNNAMED_LIFE);
    if expires <= now {
        return Err(failure(EXPIRED, format!("holds a token that expired {} s ago", (now - expires) / 1_000)));
    }
    Ok(Token { value, subject, expires })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use tempfile::TempDir;

    use std::time::Instant;

    use super::*;
    use crate::config::settings::Secret;

    fn kafka(file: &Path) -> Kafka {
        let url = format!("file://{}", file.display());
        let properties = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanisms", "OAUTHBEARER"),
            ("sasl.oauthbearer.token.endpoint.url", &url),
            ("sasl.oauthbearer.extensions", "pool=p"),
        ];
        let properties = properties.map(|(name, value)| (name.to_owned(), Secret::new(value)));
        Kafka { properties: properties.into(), ..Kafka::default() }
    }

    fn jwt(subject: &str, expires: Millis) -> String {
        let claims = format!(r#"{{"sub":"{subject}","exp":{}}}"#, expires as f64 / 1e3);
        format!("e30.{}.", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    /// What a client was given last: the subject of a token with its extensions, or why there is none.
    #[derive(Clone, Default)]
    struct Given(Arc<Mutex<Option<String>>>);

    impl Given {
        fn last(&self) -> Option<String> {
            self.0.lock().expect("not poisoned").clone()
        }
    }

    impl TakesTokens for Given {
        fn take(&self, token: &Token, extensions: &[(String, String)]) -> Result<(), String> {
            let extensions: Vec<_> = extensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let subject = token.subject.as_deref().unwrap_or_default();
            *self.0.lock().expect("not poisoned") = Some(format!("{subject} {}", extensions.join(",")));
            Ok(())
        }

        fn miss(&self, why: &str) {
            *self.0.lock().expect("not poisoned") = Some(why.to_owned());
        }
    }

    fn temporary() -> TempDir {
        TempDir::with_prefix("spanmill-test-").expect("a directory")
    }

    #[test]
    fn clients_with_the_same_settings_share_a_source_and_others_have_another() {
        let dir = temporary();
        let of = |name: &str| source(&kafka(&dir.path().join(name)));
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        assert_eq!(source(&Kafka::default()), None);
        for unknown in ["1000000", "x"] {
            assert!(feed(unknown, Box::new(Given::default())).is_none());
        }
    }

    #[test]
    fn a_token_in_a_file_is_read_again_and_one_that_is_gone_is_reported_with_the_remedy_once_it_has_expired() {
        let dir = temporary();
        let file = dir.path().join("token");
        let kafka = kafka(&file);
        let name = source(&kafka).expect("a source");
        let begin = Instant::now();
        let wait_for = |what: &str, done: &dyn Fn() -> bool| {
            while !done() {
                assert!(begin.elapsed() < Duration::from_secs(30), "{what}");
                std::thread::yield_now();
            }
        };
        let given = Given::default();
        let fed = feed(&name, Box::new(given.clone()));
        wait_for("the reason", &|| given.last().is_some_and(|last| last.contains("cannot be read")));
        assert!(given.last().expect("waited for").contains("check the file"));
        assert!(missing(&kafka).expect("reported").contains("no token for Kafka: the token file"));

        std::fs::write(&file, jwt("first", now() + 2_500) + "\n").expect("a file");
        wait_for("the first token", &|| given.last().as_deref() == Some("first pool=p"));
        assert_eq!(missing(&kafka), None);
        std::fs::remove_file(&file).expect("it was there");
        let late = Given::default();
        let second = feed(&name, Box::new(late.clone()));
        assert_eq!(late.last().as_deref(), Some("first pool=p"), "the current one is good");
        drop(second);
        wait_for("its end", &|| missing(&kafka).is_some());
        std::fs::write(&file, jwt("second", now() + 60_000)).expect("a file");
        wait_for("the second token", &|| given.last().as_deref() == Some("second pool=p"));
        assert_eq!(late.last().as_deref(), Some("first pool=p"), "it has been dropped");
        drop(fed);
    }

    #[test]
    fn a_file_without_a_usable_token_says_why_and_does_not_show_it() {
        let dir = temporary();
        let file = dir.path().join("token");
        let read_of = |text: &str| {
            std::fs::write(&file, text).expect("a file");
            read(&file, 1_700_000_000_000)
        };
        for (text, words) in [
            ("", "cannot be read: it is empty"),
            (" \n", "holds no token"),
            ("hunter 2", "holds no token"),
            (jwt("x", 1_699_999_990_000).as_str(), "holds a token that expired 10 s ago"),
        ] {
            let failed = read_of(text).expect_err(text);
            assert!(failed.why.contains(words) && !failed.why.contains("hunter"), "{failed:?}");
        }
        let opaque = read_of("opaque\n").expect("a token");
        assert_eq!((opaque.value.as_str(), opaque.expires), ("opaque", 1_700_000_060_000));
        assert_eq!(read_of("{\"token\": \"wrapped\"}").expect("a token").value, "wrapped");
    }
}
